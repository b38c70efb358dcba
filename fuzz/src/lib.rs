//! What must hold for any bytes at all. Each function is the body of a fuzz target; `lb/tests/fuzz_corpus.rs` runs the same functions over the
//! corpus with the stable toolchain.
//!
//! The oracle is a second, plain reading of the same rules that shares no code with the product: a message that passes is read again by it,
//! and both must agree on where the message ends.

pub mod h2;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use weir_config::{Config, ForwardHeaders, HttpLimits, Protocol, ProxyVersion};
use weir_lb::h2::ask;
use weir_lb::health::probe::grpc::serving_status;
use weir_lb::http1::request::{self, Method};
use weir_lb::http1::response::{self, Asked, Framing};
use weir_lb::http1::{Body, Bounds, Scanner};
use weir_lb::proxy_protocol::{self, Addresses, HEADER_BYTES_MAX};
use weir_lb::route::{self, Question};
use weir_lb::session::{EndpointId, Keys, Memory, Sessions};
use weir_lb::tls::hello::{self, HELLO_BYTES_MAX, Hello};

/// More than any rewritten head of an accepted one can be.
const WIDE: Bounds = Bounds { head_bytes_max: 1 << 20, line_bytes_max: 1 << 20, headers_max: 1000 };

/// A plain reading of a head: the first line and its fields.
struct Plain<'a> {
    first: &'a [u8],
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Plain<'a> {
    /// Panics where a strict reader would stop: this is only asked about heads that are passed on.
    fn read(head: &'a [u8]) -> Plain<'a> {
        let shown = head.escape_ascii();
        let inner = head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {shown}"));
        let mut lines = Vec::new();
        let mut rest = inner;
        while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        lines.push(rest);
        assert!(lines.iter().all(|line| !line.is_empty()), "an empty line inside: {shown}");
        assert!(
            lines.iter().all(|line| line.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))),
            "a control byte: {shown}"
        );
        let fields = lines[1..].iter().map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or_else(|| panic!("no colon: {shown}"));
            let name = &line[..colon];
            assert!(!name.is_empty() && name.iter().all(|byte| is_token(*byte)), "a bad name: {shown}");
            (name, line[colon + 1..].trim_ascii())
        });
        Plain { first: lines[0], fields: fields.collect() }
    }

    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value).collect()
    }

    fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The length of the body by the fields alone.
    fn length(&self) -> Length {
        match (self.all("content-length").as_slice(), self.all("transfer-encoding").as_slice()) {
            ([], []) => Length::None,
            ([length], []) => {
                assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "length {}", length.escape_ascii());
                let text = std::str::from_utf8(length).expect("digits are text");
                Length::Of(text.parse().expect("a length that fits"))
            }
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"), "coding {}", coding.escape_ascii());
                Length::Chunked
            }
            (lengths, codings) => panic!("{} lengths and {} codings", lengths.len(), codings.len()),
        }
    }

    /// First line and fields without regard to their order and to the case of names.
    fn sorted(&self) -> Vec<Vec<u8>> {
        let line = |(name, value): &(&[u8], &[u8])| [&name.to_ascii_lowercase(), b":".as_slice(), value].concat();
        let mut lines: Vec<Vec<u8>> = self.fields.iter().map(line).collect();
        lines.sort();
        lines.insert(0, self.first.to_vec());
        lines
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    None,
    Of(u64),
    Chunked,
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The head's length, found in one go and piece by piece alike.
fn head_len(data: &[u8], bounds: &Bounds, piece: usize) -> Option<usize> {
    let whole = Scanner::default().scan(data, bounds);
    let mut scanner = Scanner::default();
    let mut found = Ok(None);
    let mut seen = 0;
    while seen < data.len() && found == Ok(None) {
        seen = data.len().min(seen + piece);
        found = scanner.scan(&data[..seen], bounds);
    }
    if !data.is_empty() {
        // In pieces a bound is noticed before a later mistake; that a head is refused must not depend on the pieces.
        assert_eq!(found.is_err(), whole.is_err(), "in pieces of {piece}: {}", data.escape_ascii());
        assert!(found.is_err() || found == whole, "in pieces of {piece}: {}", data.escape_ascii());
    }
    whole.ok().flatten()
}

/// The first byte chooses the options, the rest is what a client sends.
pub fn request_head(data: &[u8]) {
    let Some((options, data)) = data.split_first() else { return };
    let bounds = Bounds::from(&HttpLimits::default());
    let Some(head_len) = head_len(data, &bounds, usize::from(options >> 4) + 1) else { return };
    let headers = ForwardHeaders {
        x_forwarded: options & 1 == 0,
        forwarded: options & 2 != 0,
        via: options & 4 != 0,
        request_id: (options & 8 == 0).then(|| "x-request-id".to_owned()),
        trusted: Vec::new(),
    };
    let forward = request::Forward {
        headers: &headers,
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        scheme: "http",
        node: "weir",
        request_id: 7,
        trusted: false,
    };
    let mut out = Vec::new();
    let Ok(read) = request::parse(data, head_len, &forward, &mut out) else { return };

    let sent = Plain::read(&data[..head_len]);
    let passed = Plain::read(&out);
    let shown = || format!("{} became {}", data[..head_len].escape_ascii(), out.escape_ascii());
    let body = match &read.body {
        Body::Empty => Length::None,
        Body::Length(length) => Length::Of(*length),
        Body::Chunked(_) => Length::Chunked,
        Body::UntilClose => panic!("a request without an end: {}", shown()),
    };
    // A length of zero and none are the same body.
    let plain = |length| if length == Length::Of(0) { Length::None } else { length };
    assert_eq!(plain(sent.length()), body, "{}", shown());
    assert_eq!(plain(passed.length()), body, "{}", shown());

    let words: Vec<&[u8]> = passed.first.split(|byte| *byte == b' ').collect();
    assert_eq!(words.len(), 3, "{}", shown());
    assert_eq!(words[0], read.method_text.of_buf(data), "{}", shown());
    assert!(words[1].first() == Some(&b'/') || words[1].first() == Some(&b'?') || words[1] == b"*", "{}", shown());
    match words[2] {
        b"HTTP/1.1" => assert_eq!(passed.all("host").len(), 1, "{}", shown()),
        b"HTTP/1.0" => assert!(passed.all("host").len() <= 1 && read.minor == 0, "{}", shown()),
        _ => panic!("{}", shown()),
    }
    for name in ["keep-alive", "proxy-connection"] {
        assert!(!passed.has(name), "{}", shown());
    }
    assert_eq!(passed.has("upgrade"), read.upgrade, "{}", shown());
    if headers.x_forwarded {
        assert_eq!(passed.all("x-forwarded-for"), [b"192.0.2.7"], "{}", shown());
    }
    if headers.request_id.is_some() {
        assert_eq!(passed.all("x-request-id").len(), 1, "{}", shown());
    }

    // Said over HTTP/2 it is the same request, or cannot be said.
    let extended = data.len() % 2 == 1;
    if let Ok((len, asked)) = ask::read_head(&out, false, "192.0.2.1:80", extended) {
        assert_eq!(len, out.len(), "{}", shown());
        if asked.websocket.is_some() {
            assert!(extended && words[0] == b"GET" && asked.request.method() == "CONNECT" && !asked.body.is_done(), "{}", shown());
        } else {
            assert_eq!(asked.request.method().as_str().as_bytes(), words[0], "{}", shown());
            assert_eq!(asked.body.is_done(), body == Length::None, "{}", shown());
        }
        for name in ["connection", "upgrade", "transfer-encoding", "host", "keep-alive"] {
            assert!(!asked.request.headers().contains_key(name), "{}", shown());
        }
    }

    // What we passed on is itself a request that we read alike: nothing is left for a second reading.
    let again_len = Scanner::default().scan(&out, &WIDE).ok().flatten();
    assert_eq!(again_len, Some(out.len()), "{}", shown());
    let mut again = Vec::new();
    let second = request::parse(&out, out.len(), &forward, &mut again).unwrap_or_else(|e| panic!("{e}: {}", shown()));
    assert_eq!(format!("{:?}", second.body), format!("{:?}", read.body), "{}", shown());
    assert_eq!((second.method, second.upgrade), (read.method, read.upgrade), "{}", shown());
    if !headers.via {
        assert_eq!(Plain::read(&again).sorted(), passed.sorted(), "{}", shown());
    }
}

/// The first byte says what was asked, the rest is what an endpoint sends.
pub fn response_head(data: &[u8]) {
    let Some((options, data)) = data.split_first() else { return };
    let Some(head_len) = head_len(data, &Bounds::RESPONSE, usize::from(options >> 4) + 1) else { return };
    let method = if options & 1 == 0 { Method::Get } else { Method::Head };
    let asked = Asked { method, minor: u8::from(options & 2 == 0), upgrade: options & 4 != 0 };
    let forward = response::Forward { close: options & 8 != 0, via: None };
    let mut out = Vec::new();
    let Ok(read) = response::parse(data, head_len, asked, |_| forward, &mut out) else { return };

    if out.is_empty() {
        // A client of HTTP/1.0 knows no interim responses.
        assert!(read.is_interim() && asked.minor == 0, "nothing to say for {}", data[..head_len].escape_ascii());
        return;
    }
    let passed = Plain::read(&out);
    let shown = || format!("asked {asked:?}: {} became {}", data[..head_len].escape_ascii(), out.escape_ascii());
    assert!((100..600).contains(&read.status), "{}", shown());
    assert!(out.starts_with(format!("HTTP/1.1 {} ", read.status).as_bytes()), "{}", shown());
    assert!(!passed.has("keep-alive") && !passed.has("proxy-connection"), "{}", shown());
    let bodiless = method == Method::Head || matches!(read.status, 100..200 | 204 | 304);
    let length = passed.length();
    if bodiless {
        assert!(matches!(read.body, Body::Empty), "{}", shown());
    } else {
        match (&read.body, read.framing) {
            (Body::Empty, Framing::AsIs) => assert_eq!(length, Length::Of(0), "{}", shown()),
            (Body::Length(expected), Framing::AsIs) => assert_eq!(length, Length::Of(*expected), "{}", shown()),
            (Body::Chunked(_), Framing::AsIs) | (Body::UntilClose, Framing::Chunk) => {
                assert_eq!(length, Length::Chunked, "{}", shown());
                assert_eq!(asked.minor, 1, "{}", shown());
            }
            (Body::Chunked(_) | Body::UntilClose, Framing::Bare) => {
                assert_eq!(length, Length::None, "{}", shown());
                assert_eq!(asked.minor, 0, "{}", shown());
            }
            other => panic!("{other:?}: {}", shown()),
        }
    }
    assert!(read.status == 101 || !passed.has("upgrade") || read.is_interim(), "{}", shown());
}

/// A plain reading of a chunked body: its data and its length on the wire.
fn unchunk(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let all = rest.len();
    let mut data = Vec::new();
    fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let at = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest[..at].strip_suffix(b"\r")?;
        *rest = &rest[at + 1..];
        (!line.contains(&b'\r')).then_some(line)
    }
    loop {
        let size = line(&mut rest)?;
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            while !line(&mut rest)?.is_empty() {}
            return Some((data, all - rest.len()));
        }
        let size = usize::try_from(size).ok()?;
        data.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
}

/// Feeds a body in pieces; what came out, how much went in, and whether it ended.
fn pass(mut body: Body, data: &[u8], piece: usize) -> Option<(Vec<u8>, usize, bool)> {
    let (mut out, mut consumed) = (Vec::new(), 0);
    for part in data.chunks(piece) {
        let mut part = part.to_vec();
        let advance = body.advance(&mut part).ok()?;
        assert!(advance.consumed <= part.len() && advance.kept <= advance.consumed, "{advance:?} of {}", part.len());
        assert!(advance.consumed == part.len() || body.is_done(), "stopped before the end without being done");
        out.extend_from_slice(&part[..advance.kept]);
        consumed += advance.consumed;
        if body.is_done() {
            break;
        }
    }
    Some((out, consumed, body.is_done()))
}

/// The first byte chooses the pieces, the rest is a chunked body and what follows it.
pub fn chunked(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let shown = || data.escape_ascii();
    let whole = pass(Body::chunked(), data, data.len().max(1));
    assert_eq!(whole, pass(Body::chunked(), data, usize::from(piece % 32) + 1), "in pieces: {}", shown());
    let Some((framed, consumed, true)) = whole else { return };
    // What passes is read alike by a plain reader, before and after us, and leaves the same bytes behind.
    let (content, length) = unchunk(data).unwrap_or_else(|| panic!("passed, but unreadable: {}", shown()));
    assert_eq!(length, consumed, "{}", shown());
    let (again, framed_length) = unchunk(&framed).unwrap_or_else(|| panic!("passed on unreadable: {}", shown()));
    assert_eq!((&again, framed_length), (&content, framed.len()), "{}", shown());
}

/// One route for each kind of condition.
const ROUTES: &str = r#"
[listener.a]
bind = "127.0.0.1:80"
[[listener.a.route]]
host = ["a.test", "*.b.test", "[::1]"]
path = "/v1/"
pool = "p"
[[listener.a.route]]
path_exact = "/x"
method = "PUT"
pool = "p"
[[listener.a.route]]
path_regex = "/u/[0-9]+(/.*)?"
pool = "p"
[[listener.a.route]]
header = [{ name = "x-beta", value = "1" }, { name = "x-no", present = false }]
pool = "p"
[[listener.a.route]]
cookie = [{ name = "g", regex = "b.*" }]
pool = "p"
[[listener.a.route]]
query = [{ name = "d", value = "a b" }]
pool = "p"
[[listener.a.route]]
source = "10.0.0.0/8"
sni = "*.b.test"
pool = "p"
[pool.p]
"#;

/// The first byte chooses whether ambiguous paths are kept, the client and its TLS name; the rest is a request's head. What is found by table must
/// be what is found by looking at one route after the other, and a path has one spelling.
pub fn route(data: &[u8]) {
    static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
        let keeping = ROUTES.replace("bind", "ambiguous_paths = \"keep\"\nbind");
        [ROUTES, &keeping].map(|text| weir_config::parse(text, "routes").expect("it is right"))
    });
    let Some((options, head)) = data.split_first() else { return };
    let listener = &CONFIGS[usize::from(options & 1)].listeners[&"a".into()];
    let Protocol::Http(http) = &listener.protocol else { return };
    let source = IpAddr::V4(if options & 2 == 0 { Ipv4Addr::new(10, 1, 2, 3) } else { Ipv4Addr::LOCALHOST });
    let server_name = (options & 4 == 0).then_some("x.b.test");
    let Ok(told) = route::explain(http, &Question { head, scheme: "http", source, server_name }) else { return };
    let shown = || format!("{}: {told:?}", head.escape_ascii());
    for (number, route) in told.routes.iter().enumerate() {
        match &route.miss {
            None => assert_eq!(told.taken, Some(number), "{}", shown()),
            Some(miss) => assert!(!miss.starts_with("another"), "{}", shown()),
        }
    }
    assert!(told.taken.is_some_and(|taken| taken + 1 == told.routes.len()) || told.routes.len() == http.routes.len(), "{}", shown());
    let path = told.path.as_bytes();
    assert!(path.is_empty() || path.starts_with(b"/"), "{}", shown());
    for segment in path.split(|byte| *byte == b'/') {
        assert!(segment != b"." && segment != b"..", "{}", shown());
    }
    let again = weir_config::normal_path(path, options & 1 == 1).unwrap_or_else(|error| panic!("{error}: {}", shown()));
    assert_eq!(&*again, path, "{}", shown());
}

/// What an endpoint answers when it is asked for its health by gRPC. A message with nothing but the status says the same.
pub fn grpc_health(data: &[u8]) {
    let Some(status) = serving_status(data) else { return };
    let mut message = vec![8];
    let mut left = status;
    while left >= 0x80 {
        message.push(left as u8 | 0x80);
        left >>= 7;
    }
    message.push(left as u8);
    let again = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    assert_eq!(serving_status(&again), Some(status), "{}", data.escape_ascii());
}

/// Any text at all: errors, not panics; and what is accepted is accepted again.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match weir_config::parse(text, "fuzz.toml") {
        Err(errors) => {
            assert!(!errors.items().is_empty(), "refused without a reason");
            let _ = errors.render(false);
        }
        Ok(config) => {
            let again = weir_config::parse(text, "fuzz.toml").unwrap_or_else(|_| panic!("accepted once only: {text}"));
            assert!(weir_config::diff(&config, &again).is_empty(), "differs from itself: {text}");
        }
    }
}

/// What a proxy sends before a client's first byte. Found alike in any pieces, and read alike once written again.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::parse(data);
    for end in 0..data.len() {
        let part = proxy_protocol::parse(&data[..end]);
        match (part, whole) {
            // What has not come whole is no verdict; what is wrong or whole stays so.
            (Ok(None), _) => {}
            (part, whole) => assert_eq!(part, whole, "{end} bytes of {}", data.escape_ascii()),
        }
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.length <= data.len().min(HEADER_BYTES_MAX), "{header:?}");
    let told: usize = proxy_protocol::tlvs(header.tlvs).map(|tlv| 3 + tlv.value.len()).sum();
    assert_eq!(told, header.tlvs.len(), "{header:?}");
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut out = Vec::new();
        proxy_protocol::encode(version, header.addresses, header.tlvs, &mut out);
        let again = proxy_protocol::parse(&out).unwrap_or_else(|error| panic!("{error}: {header:?}")).expect("it is whole");
        assert_eq!(again.length, out.len(), "{header:?}");
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let plain = |addresses: Option<Addresses>| addresses.map(|both| (canonical(both.source), canonical(both.destination)));
        assert_eq!(plain(again.addresses), plain(header.addresses), "{header:?}");
    }
}

/// What a connection begins with that may be TLS: a verdict stays what it is whatever follows, and a name is one that was sent.
pub fn client_hello(data: &[u8]) {
    let whole = hello::read(data);
    let mut verdict = None;
    for end in (0..data.len()).step_by(1 + data.len() / 64).chain([data.len()]) {
        let seen = hello::read(&data[..end]);
        if let Some(before) = &verdict {
            assert_eq!(&seen, before, "{end} bytes of {}", data.escape_ascii());
        }
        if seen != Hello::Partial {
            verdict = Some(seen);
        }
    }
    match &whole {
        Hello::Partial => assert!(data.len() < HELLO_BYTES_MAX, "waits for ever after {} bytes", data.len()),
        Hello::Nameless => {}
        Hello::Named(name) => {
            assert!(!name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
            // In records of its own it is the same hello.
            let Some((&[22, 3, minor, high, low], body)) = data.split_first_chunk::<5>() else { panic!("{name:?} from no record") };
            let length = usize::from(u16::from_be_bytes([high, low])).min(body.len());
            let parts = body[..length].chunks(7).flat_map(|part| [&[22, 3, minor, 0, part.len() as u8], part].concat());
            let again: Vec<u8> = parts.chain(body[length..].iter().copied()).collect();
            if again.len() < HELLO_BYTES_MAX {
                assert_eq!(hello::read(&again), whole, "{}", data.escape_ascii());
            }
        }
    }
}

/// The first byte chooses what becomes of sessions without an endpoint, the rest is the value of a `Cookie` field. Each cookie is found where a plain
/// reader finds it, and none leads to an endpoint but those that were made with the key.
pub fn cookie(data: &[u8]) {
    static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| Arc::new(Keys::parse(&"k".repeat(32)).expect("it is long enough")));
    static SESSIONS: LazyLock<[Sessions; 2]> = LazyLock::new(|| {
        let ids = [EndpointId(1), EndpointId(2)];
        ["rebalance", "fail"].map(|gone| {
            let text = format!("[pool.p]\nsession = {{ type = \"cookie\", name = \"s\", key_file = \"/k\", gone = \"{gone}\" }}");
            let config = weir_config::parse(&text, "session").expect("it is right");
            let session = config.pools[&"p".into()].session.as_deref().expect("it is there");
            Sessions::new(&"p".into(), session, &Memory::Cookie(Arc::clone(&KEYS)), &[(ids[0], Some(0)), (ids[1], None)])
        })
    });
    let Some((options, value)) = data.split_first() else { return };
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return;
    }
    let head = [b"GET / HTTP/1.1\r\nCookie: ", value, b"\r\n\r\n"].concat();
    let found: Vec<&[u8]> = request::cookies(&head, "s").collect();
    let plain: Vec<&[u8]> =
        value.trim_ascii().split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter_map(|pair| pair.strip_prefix(b"s=")).collect();
    assert_eq!(found, plain, "{}", value.escape_ascii());
    let sessions = &SESSIONS[usize::from(options & 1)];
    for value in found {
        let known = sessions.by_cookie(&"p".into(), value);
        let made = known.id.map(|id| KEYS.seal(&"p".into(), id));
        assert!(made.is_none_or(|seal| seal == value), "{} leads to {known:?}", value.escape_ascii());
        let real = [1, 2, 3].map(EndpointId).into_iter().find(|id| KEYS.seal(&"p".into(), *id) == value);
        assert!(real.is_none() || known.id == real || real == Some(EndpointId(3)) && options & 1 == 0, "{}", value.escape_ascii());
    }
}
