//! A request of HTTP/2 as one of HTTP/1.1 (RFC 9113 section 8.3.1).

use http::header::{CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::http1::HeadError;

/// How the request's body is framed once it is written as HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// None, or as long as `Content-Length` says.
    Plain,
    /// In chunks: its length is not known yet.
    Chunks,
    /// The bytes of another protocol (RFC 8441), once the endpoint agrees.
    Tunnel,
}

/// Appends the head. `ended`: nothing follows it. `protocol`: what an extended CONNECT asks for (RFC 8441 section 4). `nonce`: 16 random
/// bytes, for `Sec-WebSocket-Key`.
///
/// What a field's bytes may be, and which may be there together, is left to the reader of the head; only what has no form in HTTP/1.1 is
/// refused here.
///
/// # Errors
/// The request has no form in HTTP/1.1, or names two authorities.
pub fn write_head(
    parts: &Parts,
    scheme: &str,
    ended: bool,
    protocol: Option<&str>,
    nonce: [u8; 16],
    out: &mut Vec<u8>,
) -> Result<Carried, HeadError> {
    let tunnel = match (parts.method == Method::CONNECT, protocol) {
        (false, None) => false,
        (true, Some("websocket")) => true,
        _ => return Err(HeadError::Connect),
    };
    // A request over one kind of connection that claims the other would be believed by an endpoint that reads `X-Forwarded-Proto`.
    if parts.uri.scheme_str().is_some_and(|named| !named.eq_ignore_ascii_case(scheme)) {
        return Err(HeadError::Target);
    }
    out.extend_from_slice(if tunnel { b"GET" } else { parts.method.as_str().as_bytes() });
    out.push(b' ');
    out.extend_from_slice(parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");

    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(http::HeaderValue::as_bytes);
    let host = match (authority, hosts.next()) {
        (_, Some(_)) if hosts.next().is_some() => return Err(HeadError::Host),
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => return Err(HeadError::Host),
        (named, host) => named.or(host),
    };
    if let Some(host) = host {
        push_field(out, b"host", host);
    }
    push_fields(&parts.headers, out);
    if tunnel {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
        push_base64(&nonce, out);
        out.extend_from_slice(b"\r\n\r\n");
        return Ok(Carried::Tunnel);
    }
    let chunks = !ended && !parts.headers.contains_key(CONTENT_LENGTH);
    if chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(if chunks { Carried::Chunks } else { Carried::Plain })
}

/// Appends the last chunk with the trailers.
pub fn write_last_chunk(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        push_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn push_fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let Some(first) = cookies.next() {
        // Split for the sake of compression; one field again (RFC 9113 section 8.2.3).
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for more in cookies {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(more.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in headers {
        // A key means nothing in HTTP/2 (RFC 8441 section 5); the one that the endpoint gets is ours.
        if name != HOST && name != COOKIE && name != SEC_WEBSOCKET_KEY {
            push_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 4648 section 4.
pub(super) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(if place <= group.len() { ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::http1::chunked::write_chunk;

    fn head(builder: http::request::Builder, ended: bool, protocol: Option<&str>) -> Result<(String, Carried), HeadError> {
        let parts = builder.body(()).expect("a request").into_parts().0;
        let mut out = Vec::new();
        let carried = write_head(&parts, "https", ended, protocol, *b"the sample nonce", &mut out)?;
        Ok((String::from_utf8(out).expect("ASCII"), carried))
    }

    #[test]
    fn requests_have_one_form_in_http1() {
        let get = Request::get("https://example.com/a?b=c").header("cookie", "a=1").header("x", "y").header("cookie", "b=2");
        let (text, carried) = head(get, true, None).expect("a head");
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\ncookie: a=1; b=2\r\nx: y\r\n\r\n");
        assert_eq!(carried, Carried::Plain);
        let post = Request::post("https://example.com/").header("content-length", "5");
        assert_eq!(head(post, false, None).expect("a head").1, Carried::Plain);
        let (text, carried) = head(Request::post("https://example.com/"), false, None).expect("a head");
        assert_eq!(
            (text.as_str(), carried),
            ("POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n", Carried::Chunks)
        );
        let same = Request::get("https://example.com/").header("host", "EXAMPLE.com");
        assert!(head(same, true, None).expect("a head").0.contains("host: example.com\r\n"));
    }

    #[test]
    fn a_websocket_is_asked_for_as_an_upgrade() {
        let connect =
            || Request::connect("https://example.com/chat").header("sec-websocket-version", "13").header("sec-websocket-key", "theirs");
        let (text, carried) = head(connect(), false, Some("websocket")).expect("a head");
        assert_eq!(carried, Carried::Tunnel);
        // RFC 6455 section 1.3 has this key for these bytes.
        assert_eq!(
            text,
            "GET /chat HTTP/1.1\r\nhost: example.com\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        assert_eq!(head(connect(), false, None), Err(HeadError::Connect));
        assert_eq!(head(connect(), false, Some("connect-udp")), Err(HeadError::Connect));
        assert_eq!(head(Request::get("https://example.com/"), true, Some("websocket")), Err(HeadError::Connect));
    }

    #[test]
    fn what_has_no_form_is_refused() {
        let other = Request::get("https://example.com/").header("host", "other.com");
        assert_eq!(head(other, true, None), Err(HeadError::Host));
        let twice = Request::get("https://example.com/").header("host", "example.com").header("host", "example.com");
        assert_eq!(head(twice, true, None), Err(HeadError::Host));
        assert_eq!(head(Request::get("http://example.com/"), true, None), Err(HeadError::Target));
    }

    #[test]
    fn bodies_become_chunks() {
        let mut out = Vec::new();
        write_chunk(b"", &mut out);
        write_chunk(&[b'x'; 17], &mut out);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        write_last_chunk(Some(&trailers), &mut out);
        write_last_chunk(None, &mut out);
        assert_eq!(out, b"11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\ngrpc-status: 0\r\n\r\n0\r\n\r\n");
    }
}
