//! A request that was framed for an endpoint of HTTP/1.1, taken apart for one of HTTP/2 (RFC 9113 section 8.3.1).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};

use super::request::push_base64;
use super::told::Accept;
use super::unframe::{Unframe, Unframed};

/// Fields of one head; more are refused when a client's request is read.
const HEADERS_MAX: usize = 1024;

/// A request's head.
#[derive(Debug)]
pub struct Ask {
    /// Method, target and fields.
    pub request: Request<()>,
    /// The body that follows.
    pub body: Unframe,
    /// It asks for a head alone.
    pub head_only: bool,
    /// It says that trailers are welcome.
    pub trailers: bool,
    /// It asks for a WebSocket (RFC 8441): what says to who asked that there is one.
    pub websocket: Option<Accept>,
}

/// Takes a whole head, which begins the piece: how much of it, and what it says. `authority` is for a request that names no host.
/// `extended`: the endpoint takes the CONNECT of RFC 8441; without, a WebSocket is not asked for, and the rest of the request is.
///
/// # Errors
/// It asks for something that has no form in HTTP/2.
pub fn read_head(piece: &[u8], secure: bool, authority: &str, extended: bool) -> Result<(usize, Ask), Unframed> {
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut head, piece, &mut storage);
    let Ok(httparse::Status::Complete(len)) = parsed else { return Err(Unframed) };
    let (Some(method), Some(target)) = (head.method, head.path) else { return Err(Unframed) };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Unframed)?;
    let (mut length, mut chunked, mut trailers, mut host) = (None, false, false, None);
    let (mut upgrades, mut key) = (false, None);
    let fields = request.headers_mut();
    fields.reserve(head.headers.len());
    for header in &*head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unframed)?;
        // Of the connection, which is another one now (RFC 9113 section 8.2.2). `TE` stays: what we write says `trailers`, and that may be said.
        if name == CONNECTION || name == UPGRADE {
            upgrades |= name == UPGRADE && header.value.eq_ignore_ascii_case(b"websocket");
            continue;
        }
        if name == SEC_WEBSOCKET_KEY {
            // It means nothing in HTTP/2 (RFC 8441 section 5).
            key = Some(header.value);
            continue;
        }
        if name == TRANSFER_ENCODING {
            chunked = true;
            continue;
        }
        if name == HOST {
            host = Some(Authority::try_from(header.value).map_err(|_| Unframed)?);
            continue;
        }
        trailers |= name == TE;
        if name == CONTENT_LENGTH {
            length = std::str::from_utf8(header.value).ok().and_then(|digits| digits.parse::<u64>().ok());
        }
        fields.append(name, HeaderValue::from_bytes(header.value).map_err(|_| Unframed)?);
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(match host {
        Some(host) => host,
        None => Authority::try_from(authority).map_err(|_| Unframed)?,
    });
    uri.path_and_query = Some(path_and_query(target)?);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unframed)?;
    if let Some(key) = key.filter(|_| extended && upgrades && method == "GET") {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(::h2::ext::Protocol::from_static("websocket"));
        return Ok((len, Ask { request, body: Unframe::raw(), head_only: false, trailers: false, websocket: Some(accept(key)) }));
    }
    let body = if chunked { Unframe::chunks() } else { Unframe::length(length.unwrap_or(0)) };
    Ok((len, Ask { request, body, head_only: method == "HEAD", trailers, websocket: None }))
}

/// RFC 6455 section 4.2.2: shows that the request was understood.
fn accept(key: &[u8]) -> Accept {
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    let mut text = Vec::with_capacity(28);
    push_base64(sum.as_ref(), &mut text);
    text.try_into().expect("20 bytes are 28 characters")
}

/// A target may hold bytes that HTTP/1.1 servers take and RFC 3986 does not know: they go on in the form that it has for them.
fn path_and_query(target: &str) -> Result<PathAndQuery, Unframed> {
    if let Ok(target) = PathAndQuery::try_from(target) {
        return Ok(target);
    }
    let encoded: String = target
        .bytes()
        .map(|byte| match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => format!("%{byte:02X}"),
            byte => char::from(byte).to_string(),
        })
        .collect();
    PathAndQuery::try_from(encoded).map_err(|_| Unframed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Result<(String, Ask), Unframed> {
        asked_of(head, false)
    }

    fn asked_of(head: &str, extended: bool) -> Result<(String, Ask), Unframed> {
        let (len, ask) = read_head(head.as_bytes(), true, "10.0.0.1:443", extended)?;
        assert_eq!(len, head.len());
        let fields: Vec<String> =
            ask.request.headers().iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or("?"))).collect();
        Ok((format!("{} {} {}", ask.request.method(), ask.request.uri(), fields.join(" ")), ask))
    }

    #[test]
    fn a_head_is_said_in_the_words_of_http2() {
        let (said, ask) =
            asked("GET /a?b HTTP/1.1\r\nHost: a.test:1\r\nX-Y: z\r\nConnection: TE\r\nTE: trailers\r\n\r\n").expect("a request");
        assert_eq!(said, "GET https://a.test:1/a?b x-y=z te=trailers");
        assert!(ask.body.is_done() && !ask.head_only && ask.trailers);
        let (said, ask) = asked("POST / HTTP/1.1\r\nhost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a request");
        assert_eq!(said, "POST https://a.test/ ");
        assert!(!ask.body.is_done());
        let (said, ask) = asked("PUT / HTTP/1.1\r\nhost: a.test\r\nContent-Length: 5\r\n\r\n").expect("a request");
        assert_eq!((said.as_str(), ask.body.data(100)), ("PUT https://a.test/ content-length=5", 5));
        assert!(asked("HEAD / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("a request").1.head_only);
        // Another protocol is not asked for, the rest of the request is.
        let (said, _) =
            asked("GET /chat HTTP/1.1\r\nhost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").expect("a request");
        assert_eq!(said, "GET https://a.test/chat ");
        assert_eq!(
            asked("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("a request").0,
            "OPTIONS https://a.test/* ".replace("/*", "*")
        );
        assert_eq!(asked("GET /x HTTP/1.0\r\n\r\n").expect("a request").0, "GET https://10.0.0.1:443/x ");
    }

    #[test]
    fn a_websocket_is_asked_for_where_it_is_taken() {
        let head = "GET /chat HTTP/1.1\r\nhost: a.test\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (said, ask) = asked_of(head, true).expect("a request");
        assert_eq!(said, "CONNECT https://a.test/chat sec-websocket-version=13");
        assert_eq!(ask.request.extensions().get::<::h2::ext::Protocol>().map(::h2::ext::Protocol::as_str), Some("websocket"));
        assert_eq!(ask.body.data(7), 7, "whatever follows is the other protocol's");
        // RFC 6455 section 1.3 has this answer for this key.
        assert_eq!(ask.websocket.as_ref().map(|accept| &accept[..]), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
        let (said, ask) = asked_of(head, false).expect("a request");
        assert_eq!(said, "GET https://a.test/chat sec-websocket-version=13");
        assert!(ask.websocket.is_none() && ask.body.is_done());
    }

    #[test]
    fn what_a_uri_cannot_hold_is_encoded() {
        let (said, _) = asked("GET /a<b>?c=`d^ HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("a request");
        assert_eq!(said, "GET https://a.test/a%3Cb%3E?c=%60d%5E ");
    }

    #[test]
    fn what_has_no_form_is_refused() {
        assert_eq!(asked("GET / HTTP/1.1\r\nhost: a%41.test\r\n\r\n").map(|(said, _)| said), Err(Unframed));
        assert_eq!(asked("GET / HTTP/1.1\r\n").map(|(said, _)| said), Err(Unframed));
    }
}
