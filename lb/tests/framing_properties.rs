//! What must hold for any bytes: no panic, no message that a naive reader would find ambiguous, and the same meaning after us as before.
//!
//! The reference below is written from the grammar of RFC 9112 alone and knows nothing of ours: it splits, and refuses what it cannot
//! split in one way only.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, RngSeed};
use weir_config::ForwardHeaders;
use weir_lb::http1::chunked::Chunked;
use weir_lb::http1::request::{self, Forward, Method, Request};
use weir_lb::http1::response::{self, Asked, Response};
use weir_lb::http1::{Body, Bounds, HeadError, Scanner};

const BOUNDS: Bounds = Bounds { head_bytes_max: 2048, line_bytes_max: 512, headers_max: 20 };
static QUIET: LazyLock<ForwardHeaders> =
    LazyLock::new(|| ForwardHeaders { x_forwarded: false, forwarded: false, via: false, request_id: None, trusted: Vec::new() });

/// The same cases in each run; another seed is one environment variable away (`PROPTEST_RNG_SEED`).
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { cases, failure_persistence: None, rng_algorithm: RngAlgorithm::ChaCha, ..ProptestConfig::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(9112);
    }
    config
}

/// The naive reader.
mod reference {
    /// Names in lower case, values without the white space around them.
    pub(crate) type Fields = Vec<(String, Vec<u8>)>;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Length {
        None,
        Fixed(u64),
        Chunked,
    }

    #[derive(PartialEq, Debug)]
    pub(crate) struct Head {
        pub(crate) len: usize,
        pub(crate) start: Vec<Vec<u8>>,
        pub(crate) fields: Fields,
        pub(crate) length: Length,
    }

    fn token(text: &[u8]) -> bool {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    }

    fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
        bytes.windows(what.len()).position(|window| window == what)
    }

    /// Name and value of a field, `None` where it is not one.
    fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
        let colon = find(line, b":")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !token(name) || !value.iter().all(|byte| *byte == b'\t' || (*byte >= 32 && *byte != 127)) {
            return None;
        }
        let is_space = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let from = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
        let to = value.iter().rposition(|byte| !is_space(byte)).map_or(from, |at| at + 1);
        Some((String::from_utf8(name.to_ascii_lowercase()).ok()?, value[from..to].to_vec()))
    }

    fn head(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>, Fields)> {
        let end = find(bytes, b"\r\n\r\n")?;
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut rest = &bytes[..end + 2];
        while let Some(at) = find(rest, b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
            return None;
        }
        let start = lines[0].split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
        let fields = lines[1..].iter().map(|line| field(line)).collect::<Option<Vec<_>>>()?;
        Some((end + 4, start, fields))
    }

    fn length(fields: &[(String, Vec<u8>)], old: bool) -> Option<Length> {
        let all = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_slice()).collect::<Vec<_>>();
        match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
            ([], []) => Some(Length::None),
            ([digits], []) if digits.iter().all(u8::is_ascii_digit) => Some(Length::Fixed(std::str::from_utf8(digits).ok()?.parse().ok()?)),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !old => Some(Length::Chunked),
            _ => None,
        }
    }

    pub(crate) fn request(bytes: &[u8]) -> Option<Head> {
        let (len, start, fields) = head(bytes)?;
        let [method, target, version] = start.as_slice() else { return None };
        if !token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let old = match version.as_slice() {
            b"HTTP/1.0" => true,
            b"HTTP/1.1" => false,
            _ => return None,
        };
        let hosts = fields.iter().filter(|(name, _)| name == "host").count();
        if hosts > 1 || (hosts == 0 && !old) {
            return None;
        }
        let length = length(&fields, old)?;
        Some(Head { len, start, fields, length })
    }

    pub(crate) fn response(bytes: &[u8]) -> Option<Head> {
        let (len, start, fields) = head(bytes)?;
        let old = match start[0].as_slice() {
            b"HTTP/1.0" => true,
            b"HTTP/1.1" => false,
            _ => return None,
        };
        let status = start.get(1)?;
        if status.len() != 3 || !status.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length = length(&fields, old)?;
        Some(Head { len, start, fields, length })
    }

    #[derive(Clone, PartialEq, Debug)]
    pub(crate) struct Decoded {
        pub(crate) len: usize,
        pub(crate) data: Vec<u8>,
        pub(crate) trailers: Fields,
    }

    fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
        let end = find(&bytes[*at..], b"\r\n")?;
        let line = &bytes[*at..*at + end];
        *at += end + 2;
        (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
    }

    /// `None`: not a whole chunked body, or not a valid one.
    pub(crate) fn chunked(bytes: &[u8]) -> Option<Decoded> {
        let (mut at, mut data) = (0, Vec::new());
        loop {
            let size = line(bytes, &mut at)?.split(|byte| *byte == b';').next()?;
            if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
            if size == 0 {
                break;
            }
            data.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
            at += size;
            if !line(bytes, &mut at)?.is_empty() {
                return None;
            }
        }
        let mut trailers = Vec::new();
        loop {
            match line(bytes, &mut at)? {
                [] => return Some(Decoded { len: at, data, trailers }),
                text => trailers.push(field(text)?),
            }
        }
    }
}

use reference::{Decoded, Fields, Head, Length};

/// The end of the head, found with the bytes arriving in two pieces.
fn scan(bytes: &[u8], split: usize) -> Result<Option<usize>, HeadError> {
    let mut scanner = Scanner::default();
    match scanner.scan(&bytes[..split], &BOUNDS) {
        Ok(None) => scanner.scan(bytes, &BOUNDS),
        other => other,
    }
}

/// Scanned at every split, which must not matter, and parsed.
fn read_request(bytes: &[u8]) -> Option<(Request, Vec<u8>)> {
    let len = scan_everywhere(bytes)?;
    let forward =
        Forward { headers: &QUIET, client: IpAddr::V4(Ipv4Addr::LOCALHOST), scheme: "http", node: "n", request_id: 1, trusted: false };
    let mut out = Vec::new();
    request::parse(bytes, len, &forward, &mut out).ok().map(|request| (request, out))
}

const ASKED: Asked = Asked { method: Method::Get, minor: 1, upgrade: false };

fn read_response(bytes: &[u8]) -> Option<(Response, Vec<u8>)> {
    let len = scan_everywhere(bytes)?;
    let forward = response::Forward { close: false, via: None };
    let mut out = Vec::new();
    response::parse(bytes, len, ASKED, |_| forward, &mut out).ok().map(|response| (response, out))
}

fn scan_everywhere(bytes: &[u8]) -> Option<usize> {
    let whole = scan(bytes, 0);
    for split in 1..bytes.len() {
        match (scan(bytes, split), whole) {
            // Which of two errors is seen first may depend on what has come.
            (Err(_), Err(_)) => {}
            (split_result, whole) => assert_eq!(split_result, whole, "split at {split}: {}", bytes.escape_ascii()),
        }
    }
    whole.ok().flatten()
}

fn body_is(body: &Body, length: Length) -> bool {
    match (body, length) {
        (Body::Empty, Length::None | Length::Fixed(0)) | (Body::Chunked(_), Length::Chunked) => true,
        (Body::Length(ours), Length::Fixed(theirs)) => *ours == theirs,
        _ => false,
    }
}

/// The fields that a connection option or their own name keeps to one connection, taken out; framing too.
fn end_to_end(head: &Head) -> Fields {
    let named: Vec<String> = (head.fields.iter().filter(|(name, _)| name == "connection"))
        .flat_map(|(_, value)| {
            String::from_utf8_lossy(value).to_ascii_lowercase().split(',').map(|text| text.trim().to_string()).collect::<Vec<_>>()
        })
        .collect();
    let own = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "expect", "content-length"];
    let kept = head.fields.iter().filter(|(name, _)| !own.contains(&name.as_str()) && !named.contains(name));
    kept.cloned().collect()
}

/// What must hold for a request that we accept.
fn check_request(bytes: &[u8]) {
    let Some((request, out)) = read_request(bytes) else { return };
    let shown = || format!("{} became {}", bytes.escape_ascii(), out.escape_ascii());
    let before = reference::request(bytes).unwrap_or_else(|| panic!("ambiguous, but accepted: {}", shown()));
    assert_eq!(before.len, request.head_len, "{}", shown());
    assert!(body_is(&request.body, before.length), "{}", shown());

    let after = reference::request(&out).unwrap_or_else(|| panic!("ambiguous to the endpoint: {}", shown()));
    assert_eq!(after.len, out.len(), "{}", shown());
    assert_eq!(after.length, before.length, "{}", shown());
    let fields = end_to_end(&before);
    // Only a request that names no host stays what it can be without one.
    let version = if fields.iter().any(|(name, _)| name == "host") { &b"HTTP/1.1"[..] } else { b"HTTP/1.0" };
    assert_eq!((&after.start[0], after.start[2].as_slice()), (&before.start[0], version), "{}", shown());
    assert_eq!(end_to_end(&after), fields, "{}", shown());
    let target = &after.start[1];
    assert!(target == b"*" || target.starts_with(b"/"), "{}", shown());
    assert!(before.start[1].ends_with(target) || before.start[1].ends_with(&target[1..]) || target == b"*", "{}", shown());

    // The next of our kind reads the same.
    if !request.host.range().is_empty() {
        let (again, twice) = read_request(&out).unwrap_or_else(|| panic!("refused by ourselves: {}", shown()));
        assert_eq!(twice.escape_ascii().to_string(), out.escape_ascii().to_string());
        assert!(body_is(&again.body, before.length), "{}", shown());
        assert_eq!((again.method, again.upgrade, again.expect_continue), (request.method, request.upgrade, request.expect_continue));
        assert_eq!(again.path.of_buf(&out), request.path.of_buf(bytes), "{}", shown());
        assert_eq!(again.host.of_buf(&out), request.host.of_buf(bytes), "{}", shown());
    }
}

/// What must hold for a response that we accept.
fn check_response(bytes: &[u8]) {
    let Some((response, out)) = read_response(bytes) else { return };
    let shown = || format!("{} became {}", bytes.escape_ascii(), out.escape_ascii());
    let before = reference::response(bytes).unwrap_or_else(|| panic!("ambiguous, but accepted: {}", shown()));
    let after = reference::response(&out).unwrap_or_else(|| panic!("ambiguous to the client: {}", shown()));
    assert_eq!((before.len, after.len), (response.head_len, out.len()), "{}", shown());
    assert_eq!(after.start[1], before.start[1], "{}", shown());
    assert_eq!(end_to_end(&after), end_to_end(&before), "{}", shown());
    match response.status {
        100..200 | 204 => assert_eq!(after.length, Length::None, "{}", shown()),
        304 => assert!(response.body.is_done() && after.length != Length::Chunked, "{}", shown()),
        _ if before.length == Length::None => {
            assert!(matches!(response.body, Body::UntilClose) && after.length == Length::Chunked, "{}", shown());
        }
        _ => assert!(body_is(&response.body, before.length) && after.length == before.length, "{}", shown()),
    }
    let (again, twice) = read_response(&out).unwrap_or_else(|| panic!("refused by ourselves: {}", shown()));
    assert_eq!((again.status, twice.escape_ascii().to_string()), (response.status, out.escape_ascii().to_string()));
}

/// Lines that make up heads, good ones and bad ones, so that random choices come to something.
fn field_line() -> impl Strategy<Value = Vec<u8>> {
    let good = select(vec![
        "Content-Length: 5",
        "content-length: 0",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive, X-A",
        "Connection: te, upgrade",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Proxy-Connection: close",
        "X-A: 1",
        "x-a:",
        "X-B: \t 2 3\t ",
        "X_Forwarded_For: 1",
        "Cookie: a=b; c=d",
        "X-C: \u{e4}",
        "Trailer: X-Sum",
        "Via: 1.0 x",
    ]);
    let bad = select(vec![
        "Host: a",
        "host:b",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content_Length: 3",
        "transfer-encoding:Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding : chunked",
        "Connection: content-length",
        " folded",
        "X",
        ": v",
    ]);
    prop_oneof![
        20 => good.prop_map(|line| line.as_bytes().to_vec()),
        1 => bad.prop_map(|line| line.as_bytes().to_vec()),
        4 => "[A-Za-z!#$%&'*+.^_`|~-]{1,20}:[ \t]{0,2}[ -~]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn head(first: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(field_line(), 0..7);
    (first, prop::bool::weighted(0.9), lines, any::<Index>()).prop_map(|(first, with_host, mut lines, place)| {
        if with_host {
            lines.insert(place.index(lines.len() + 1), b"Host: a".to_vec());
        }
        let mut bytes = first.into_bytes();
        for line in lines {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&line);
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    })
}

fn request_head() -> impl Strategy<Value = Vec<u8>> {
    let method = select(vec!["GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "X-Y"]);
    let good = select(vec!["/", "/a?b", "//a", "/%00;x", "http://a/b", "http://a", "http://a?b"]);
    let bad = select(vec!["*", "http://b/", "https://a/", "a:80", "/#", "?"]);
    let target = prop_oneof![5 => good, 1 => bad];
    let version = prop_oneof![10 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/1.2")];
    head((method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}")))
}

fn response_head() -> impl Strategy<Value = Vec<u8>> {
    let status = select(vec!["200 OK", "200", "204 ", "304 Not Modified", "100 Continue", "101 x", "503 a b", "600 x", "99 x"]);
    head((select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]), status).prop_map(|(version, status)| format!("{version} {status}")))
}

/// A small wound.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    /// A piece once more, elsewhere.
    Repeat(Index, Index, Index),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let byte = || prop_oneof![3 => select(b"\r\n \t:;,/\0\x0b\x7f\xff_-05aA".to_vec()), 1 => any::<u8>()];
    let one = prop_oneof![
        (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Remove),
        (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(from, to, at)| Mutation::Repeat(from, to, at)),
    ];
    prop::collection::vec(one, 0..3)
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let room = bytes.len() + 1;
        match mutation {
            Mutation::Insert(at, byte) => bytes.insert(at.index(room), *byte),
            _ if bytes.is_empty() => {}
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Mutation::Repeat(from, to, at) => {
                let (from, to, at) = (from.index(room), to.index(room), at.index(room));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// A chunked body, and what it means.
fn chunked_body() -> impl Strategy<Value = (Vec<u8>, Decoded)> {
    let extension = select(vec!["", "", "", ";a", ";a=b", "; a = \"q;\\\"\u{e4}\"", ";;"]);
    let chunk = (prop::collection::vec(any::<u8>(), 1..20), 0..3usize, any::<bool>(), extension.clone());
    let trailers = prop::collection::vec((select(vec!["X-Sum", "y", "Server-Timing"]), "[ -~]{0,10}"), 0..3);
    (prop::collection::vec(chunk, 0..5), extension, trailers).prop_map(|(chunks, last, trailers)| {
        let mut bytes = Vec::new();
        let mut decoded = Decoded { len: 0, data: Vec::new(), trailers: Vec::new() };
        for (data, zeros, upper, extension) in chunks {
            let size = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
            bytes.extend_from_slice(format!("{}{size}{extension}\r\n", "0".repeat(zeros)).as_bytes());
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
            decoded.data.extend_from_slice(&data);
        }
        bytes.extend_from_slice(format!("0{last}\r\n").as_bytes());
        for (name, value) in trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            decoded.trailers.push((name.to_ascii_lowercase(), value.trim_matches(' ').as_bytes().to_vec()));
        }
        bytes.extend_from_slice(b"\r\n");
        decoded.len = bytes.len();
        (bytes, decoded)
    })
}

/// What comes out of our decoder when the bytes arrive in two pieces: passed on, consumed. `None`: refused or incomplete.
fn decode(bytes: &[u8], split: usize, framed: bool) -> Option<(Vec<u8>, usize)> {
    let mut chunked = Chunked::new(framed);
    let (mut out, mut consumed) = (Vec::new(), 0);
    for piece in [&bytes[..split], &bytes[split..]] {
        let mut piece = piece.to_vec();
        let advance = chunked.advance(&mut piece).ok()?;
        assert!(advance.kept <= advance.consumed && advance.consumed <= piece.len());
        out.extend_from_slice(&piece[..advance.kept]);
        consumed += advance.consumed;
    }
    chunked.is_done().then_some((out, consumed))
}

fn check_chunked(bytes: &[u8]) -> Option<Decoded> {
    let whole = decode(bytes, 0, true);
    let bare = decode(bytes, 0, false);
    for split in 0..=bytes.len() {
        assert_eq!(decode(bytes, split, true), whole, "split at {split}");
        assert_eq!(decode(bytes, split, false), bare, "split at {split}");
    }
    let (out, consumed) = whole?;
    let theirs = reference::chunked(bytes).unwrap_or_else(|| panic!("accepted, but ambiguous: {}", bytes.escape_ascii()));
    assert_eq!(theirs.len, consumed);
    let after = reference::chunked(&out).unwrap_or_else(|| panic!("ambiguous to the next: {}", out.escape_ascii()));
    assert_eq!((after.len, &after.data, &after.trailers), (out.len(), &theirs.data, &theirs.trailers));
    assert!(!out.contains(&b';') || theirs.data.contains(&b';') || theirs.trailers.iter().any(|(_, value)| value.contains(&b';')));
    assert_eq!(bare, Some((theirs.data.clone(), consumed)));
    Some(theirs)
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn requests_mean_the_same_before_and_after(bytes in request_head(), mutations in mutations()) {
        check_request(&mutate(bytes, &mutations));
    }

    #[test]
    fn responses_mean_the_same_before_and_after(bytes in response_head(), mutations in mutations()) {
        check_response(&mutate(bytes, &mutations));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[GE T/:aA0-9\r\n\0]{0,60}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            check_request(bytes);
            check_request(&[b"GET / HTTP/1.1\r\nHost: a\r\n", bytes, b"\r\n\r\n"].concat());
            check_response(bytes);
            check_response(&[b"HTTP/1.1 200 OK\r\n", bytes, b"\r\n\r\n"].concat());
            check_chunked(bytes);
        }
    }

    #[test]
    fn chunks_decode_to_their_data((bytes, decoded) in chunked_body(), surplus in prop::collection::vec(any::<u8>(), 0..4)) {
        let bytes = [bytes, surplus].concat();
        prop_assert_eq!(check_chunked(&bytes), Some(decoded));
    }

    #[test]
    fn wounded_chunks_are_read_alike_or_refused((bytes, _) in chunked_body(), mutations in mutations()) {
        check_chunked(&mutate(bytes, &mutations));
    }
}

/// The properties are worth little if hardly anything is accepted.
#[test]
fn generators_come_to_something() {
    let mut runner = proptest::test_runner::TestRunner::new(config(1));
    let mut accepted = [0; 2];
    for _ in 0..1000 {
        let request = request_head().new_tree(&mut runner).expect("a value").current();
        let response = response_head().new_tree(&mut runner).expect("a value").current();
        accepted[0] += usize::from(read_request(&request).is_some());
        accepted[1] += usize::from(read_response(&response).is_some());
    }
    assert!(accepted.iter().all(|count| *count > 250), "{accepted:?} of 1000");
}
