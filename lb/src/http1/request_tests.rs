use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::http1::{Bounds, Scanner};

const BOUNDS: Bounds = Bounds { head_bytes_max: 16 * 1024, line_bytes_max: 8 * 1024, headers_max: 100 };
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const QUIET: ForwardHeaders = ForwardHeaders { x_forwarded: false, forwarded: false, via: false, request_id: None, trusted: Vec::new() };

fn forward(headers: &ForwardHeaders) -> Forward<'_> {
    Forward { headers, client: CLIENT, scheme: "http", node: "lb-a", request_id: 0xab, trusted: false }
}

/// Both steps that a shell takes: find the end, then read.
fn read_as(head: &[u8], forward: &Forward<'_>) -> Result<(Request, String), HeadError> {
    let len = Scanner::default().scan(head, &BOUNDS)?.expect("the cases are complete heads");
    let mut out = Vec::new();
    let request = parse(head, len, forward, &mut out)?;
    Ok((request, out.into_iter().map(char::from).collect()))
}

fn read(head: &str) -> Result<(Request, String), HeadError> {
    read_as(head.as_bytes(), &forward(&QUIET))
}

/// A head of these lines.
fn head(lines: &[&str]) -> String {
    lines.iter().chain(&[""]).map(|line| format!("{line}\r\n")).collect()
}

fn check(lines: &[&str], forwarded: &[&str]) -> Request {
    let text = head(lines);
    let (request, out) = read(&text).unwrap_or_else(|error| panic!("{error:?}: {text}"));
    assert_eq!(out, head(forwarded), "of {text}");
    assert_eq!(request.head_len, text.len());
    request
}

/// A field that is passed on as it came.
fn check_kept(field: &str) -> Request {
    check(&["GET / HTTP/1.1", "Host: a", field, "Z: z"], &["GET / HTTP/1.1", "Host: a", field, "Z: z"])
}

fn check_refused(lines: &[&str], expected: HeadError) {
    let text = head(lines);
    assert_eq!(read(&text).map(|(_, out)| out), Err(expected), "{text}");
}

fn check_field_refused(fields: &[&str], expected: HeadError) {
    check_refused(&[&["POST / HTTP/1.1", "Host: a"], fields].concat(), expected);
}

fn check_host_refused(host: &str) {
    check_refused(&["GET / HTTP/1.1", &format!("Host: {host}")], HeadError::Host);
}

#[test]
fn plain_request_passes_unchanged() {
    let lines = ["GET /a/b?c=/d HTTP/1.1", "Host: Example.com:8080", "User-Agent: ua 1", "Accept: */*", "X-Mixed:\tv  w "];
    let text = head(&lines);
    let request = check(&lines, &lines);
    let bytes = text.as_bytes();
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.method_text.of_buf(bytes), b"GET");
    assert_eq!(request.target.of_buf(bytes), b"/a/b?c=/d");
    assert_eq!(request.path.of_buf(bytes), b"/a/b");
    assert_eq!(request.host.of_buf(bytes), b"Example.com");
    assert_eq!(request.user_agent.of_buf(bytes), b"ua 1");
    assert!(request.request_id.range().is_empty());
    assert!(matches!(request.body, Body::Empty));
    assert!(request.keep_alive && !request.expect_continue && !request.upgrade && request.minor == 1);
}

#[test]
fn methods() {
    for (text, method, idempotent) in [
        ("GET", Method::Get, true),
        ("HEAD", Method::Head, true),
        ("PUT", Method::Idempotent, true),
        ("DELETE", Method::Idempotent, true),
        ("OPTIONS", Method::Idempotent, true),
        ("TRACE", Method::Idempotent, true),
        ("POST", Method::Other, false),
        ("PATCH", Method::Other, false),
        ("get", Method::Other, false),
        ("M-SEARCH", Method::Other, false),
    ] {
        let line = format!("{text} / HTTP/1.1");
        let request = check(&[&line, "Host: a"], &[&line, "Host: a"]);
        assert_eq!((request.method, request.method.is_idempotent()), (method, idempotent), "{text}");
    }
}

#[test]
fn bodies() {
    let length = |field: &str| check_kept(field).body;
    assert!(matches!(length("Content-Length: 5"), Body::Length(5)));
    assert!(matches!(length("content-length:5"), Body::Length(5)));
    assert!(matches!(length("Content-Length: \t 5 \t"), Body::Length(5)));
    assert!(matches!(length("Content-Length: 0"), Body::Empty));
    assert!(matches!(length("Content-Length: 0000000042"), Body::Length(42)));
    let request =
        check(&["POST / HTTP/1.1", "Transfer-Encoding: Chunked", "Host: a"], &["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]);
    assert!(matches!(request.body, Body::Chunked(_)));
}

#[test]
fn content_length_is_one_plain_number() {
    for value in [
        "",
        "+5",
        "-5",
        "5, 5",
        "5,5",
        "5 5",
        "5;",
        "0x5",
        "5a",
        "a",
        "5.0",
        "1e3",
        "\"5\"",
        "5,",
        "99999999999999999999",
        "18446744073709551616",
        "9223372036854775808",
    ] {
        check_field_refused(&[&format!("Content-Length: {value}")], HeadError::ContentLength);
    }
    check_field_refused(&["Content-Length: 5", "Content-Length: 5"], HeadError::ContentLength);
    check_field_refused(&["Content-Length: 5", "content-length: 6"], HeadError::ContentLength);
    check_field_refused(&["Content-Length: 0", "Content-Length: 0"], HeadError::ContentLength);
}

#[test]
fn transfer_encoding_is_one_plain_chunked() {
    for value in [
        "",
        "chunked, gzip",
        "gzip, chunked",
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked,",
        ", chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked identity",
        "chunked;",
    ] {
        check_field_refused(&[&format!("Transfer-Encoding: {value}")], HeadError::TransferEncoding);
    }
    check_field_refused(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], HeadError::TransferEncoding);
    check_field_refused(&["Transfer-Encoding: chunked", "transfer-encoding: identity"], HeadError::TransferEncoding);
    check_field_refused(&["Transfer-Encoding: identity", "transfer-encoding: chunked"], HeadError::TransferEncoding);
    check_refused(&["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"], HeadError::TransferEncoding);
}

#[test]
fn two_kinds_of_length_are_refused() {
    check_field_refused(&["Content-Length: 5", "Transfer-Encoding: chunked"], HeadError::BothLengths);
    check_field_refused(&["Transfer-Encoding: chunked", "Content-Length: 5"], HeadError::BothLengths);
    check_field_refused(&["Transfer-Encoding: chunked", "Content-Length: 0"], HeadError::BothLengths);
    check_refused(&["POST / HTTP/1.0", "Content-Length: 5", "Transfer-Encoding: chunked"], HeadError::BothLengths);
}

#[test]
fn hosts() {
    for (value, host) in [
        ("a", "a"),
        ("a:1", "a"),
        ("a:", "a"),
        ("a:65535", "a"),
        ("A.b-c_d.", "A.b-c_d."),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[::1]", "[::1]"),
        ("[2001:db8::1]:443", "[2001:db8::1]"),
        ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]"),
    ] {
        let lines = ["GET / HTTP/1.1", &format!("Host: {value}")];
        let request = check(&lines, &lines);
        assert_eq!(request.host.of_buf(head(&lines).as_bytes()), host.as_bytes());
    }
    check_refused(&["GET / HTTP/1.1"], HeadError::Host);
    check_refused(&["GET / HTTP/1.1", "Host: a", "Host: a"], HeadError::Host);
    check_refused(&["GET / HTTP/1.1", "Host: a", "hOST: b"], HeadError::Host);
    check_refused(&["GET / HTTP/1.0", "Host: a", "Host: b"], HeadError::Host);
    check_refused(&["GET / HTTP/1.0", "Host: a b"], HeadError::Host);
    for value in [
        "",
        "a,b",
        "a, b",
        "a b",
        "a/b",
        "a@b",
        "u:p@b",
        "a?b",
        "a#b",
        "a\\b",
        "a\"b",
        "a<b",
        "a[b",
        ":80",
        "a:b",
        "a:-1",
        "a:+1",
        "a: 1",
        "a:1:2",
        "a:123456",
        "::1",
        "[]",
        "[::1",
        "[::1]a",
        "[::1]:x",
        "[g::]",
        "[::1%25eth0]",
        "\u{e4}",
    ] {
        check_host_refused(value);
    }
}

#[test]
fn targets() {
    let request = check(&["OPTIONS * HTTP/1.1", "Host: a"], &["OPTIONS * HTTP/1.1", "Host: a"]);
    assert!(request.path.range().is_empty());
    for target in ["/%00", "//a//b", "/../x", "/a?b?c", "/?", "/a:b@c", "/\\"] {
        let line = format!("GET {target} HTTP/1.1");
        check(&[&line, "Host: a"], &[&line, "Host: a"]);
    }
    for target in
        ["*", "a", "a/b", "a:80", "?", "http:/a/", "http://", "http://a#b", "/#", "/a#b", "ftp://a/", "https://a/", "http//a/", "/\u{e4}"]
    {
        check_refused(&[&format!("GET {target} HTTP/1.1"), "Host: a"], HeadError::Target);
    }
    check_refused(&["POST * HTTP/1.1", "Host: a"], HeadError::Target);
    check_refused(&["OPTIONS ** HTTP/1.1", "Host: a"], HeadError::Target);
    for target in ["a:80", "/", "*", "http://a/"] {
        check_refused(&[&format!("CONNECT {target} HTTP/1.1"), "Host: a"], HeadError::Connect);
    }
}

#[test]
fn absolute_form_becomes_origin_form() {
    for (target, host, path, forwarded) in [
        ("http://a/b?c", "a", "/b", "/b?c"),
        ("HTTP://A:80/", "a:80", "/", "/"),
        ("http://[::1]/x", "[::1]", "/x", "/x"),
        ("http://a//b", "a", "//b", "//b"),
        ("http://a", "a", "/", "/"),
        ("http://a?b", "a", "/", "/?b"),
        ("http://a?b/c", "a", "/", "/?b/c"),
        ("http://a/?b", "a", "/", "/?b"),
    ] {
        let lines = [format!("GET {target} HTTP/1.1"), format!("Host: {host}")];
        let lines = [lines[0].as_str(), lines[1].as_str()];
        let request = check(&lines, &[&format!("GET {forwarded} HTTP/1.1"), lines[1]]);
        assert_eq!(request.path.of_buf(head(&lines).as_bytes()), path.as_bytes(), "{target}");
    }
    for (target, host) in
        [("http://a/", "b"), ("http://a:80/", "a"), ("http://a/", "a:80"), ("http://u@a/", "a"), ("http://a\\b/", "a"), ("http:///b", "b")]
    {
        check_refused(&[&format!("GET {target} HTTP/1.1"), &format!("Host: {host}")], HeadError::Target);
    }
    check_refused(&["GET http://u@a/ HTTP/1.1", "Host: u@a"], HeadError::Host);
    check_refused(&["GET http://a/ HTTP/1.1"], HeadError::Host);
    check_refused(&["GET http://a/ HTTP/1.0"], HeadError::Target);
}

#[test]
fn request_lines_and_versions() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /",
        "GET HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / a HTTP/1.1",
        "/ HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET / HTTP/1.1\r",
    ] {
        assert!(matches!(read(&head(&[line, "Host: a"])), Err(HeadError::Syntax | HeadError::Version)), "{line:?}");
    }
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "Http/1.1", "HTTP/11.", "HTTP/1,1", "HTTQ/1.1"] {
        check_refused(&[&format!("GET / {version}"), "Host: a"], HeadError::Version);
    }
    check_refused(&["PRI * HTTP/2.0"], HeadError::Version);
    // RFC 9112 section 2.2 lets a server skip an empty line here; nothing that is in use needs it.
    check_refused(&["", "GET / HTTP/1.1", "Host: a"], HeadError::Syntax);
}

#[test]
fn bytes_that_do_not_belong() {
    for field in [
        "X : y",
        "X\t: y",
        ": y",
        "X",
        "X y: z",
        "X\0: y",
        "X(: y",
        "\u{e4}: y",
        "X: a\0b",
        "X: a\rb",
        "X: a\x0bb",
        "X: \x7f",
        "X: a\r",
        "\r",
    ] {
        check_field_refused(&[field], HeadError::Syntax);
    }
    for spaced in ["Content-Length : 5", "Transfer-Encoding\t: chunked", "Transfer-Encoding: \x0bchunked", "Host : a"] {
        check_field_refused(&[spaced], HeadError::Syntax);
    }
    check_field_refused(&["X: a", " b"], HeadError::Folded);
    check_field_refused(&["X: a", "\tTransfer-Encoding: chunked"], HeadError::Folded);
    check_refused(&["GET / HTTP/1.1", " Host: a"], HeadError::Folded);
    for text in ["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n"] {
        assert_eq!(read(text).map(|(_, out)| out), Err(HeadError::BareLf), "{text:?}");
    }
    // Bytes over 127 in a value are opaque (RFC 9110 section 5.5).
    let (_, out) = read_as(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\xff\r\n\r\n", &forward(&QUIET)).expect("valid");
    assert!(out.contains("X: \u{e4}\u{ff}\r\n"), "{out}");
}

/// The parser works on several bytes at once; every byte must be judged the same wherever it stands.
#[test]
fn every_byte_is_judged_alike_at_every_place() {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for at in 0..70 {
        for byte in (0..=255u8).filter(|byte| !b"\r\n".contains(byte)) {
            let filled = |fill: u8| {
                let mut text = vec![fill; 70];
                text[at] = byte;
                text
            };
            let accepted = |head: Vec<u8>| read_as(&head, &forward(&QUIET)).is_ok();
            let name = [b"GET / HTTP/1.1\r\nHost: a\r\n", filled(b'n').as_slice(), b": v\r\n\r\n"].concat();
            assert_eq!(accepted(name), tchar(byte) || (byte == b':' && at > 0), "{byte:#x} at {at} of a name");
            let value = [b"GET / HTTP/1.1\r\nHost: a\r\nX:", filled(b'v').as_slice(), b"\r\n\r\n"].concat();
            assert_eq!(accepted(value), byte == b'\t' || (byte >= b' ' && byte != 0x7f), "{byte:#x} at {at} of a value");
            let target = [b"GET /", filled(b't').as_slice(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(accepted(target), byte.is_ascii_graphic() && byte != b'#', "{byte:#x} at {at} of a target");
        }
    }
}

#[test]
fn keep_alive() {
    for (minor, field, expected) in [
        (1, "X: y", true),
        (1, "Connection: close", false),
        (1, "Connection: keep-alive, CLOSE", false),
        (1, "Connection: closed", true),
        (0, "X: y", false),
        (0, "Connection: Keep-Alive", true),
        (0, "Connection: keep-alive, close", false),
        (0, "Proxy-Connection: keep-alive", false),
    ] {
        let (request, out) = read(&head(&[&format!("GET / HTTP/1.{minor}"), "Host: a", field])).expect("valid");
        assert_eq!((request.keep_alive, request.minor), (expected, minor), "1.{minor} {field}");
        assert!(out.starts_with("GET / HTTP/1.1\r\n") && !out.contains("onnection"), "{out}");
    }
}

#[test]
fn hop_by_hop_fields_end_here() {
    check(
        &[
            "GET / HTTP/1.1",
            "Connection: close, X-One",
            "Host: a",
            "X-One: 1",
            "Keep-Alive: timeout=5",
            "B: b",
            "Proxy-Connection: close",
            "x-two: 2",
            "TE: gzip",
            "x-ONE: 3",
            "Connection: , ,x-two,",
            "Upgrade: websocket",
            "C: c",
        ],
        &["GET / HTTP/1.1", "Host: a", "B: b", "C: c"],
    );
    let many = |count: usize| format!("Connection: {}", vec!["x"; count].join(", "));
    check(&["GET / HTTP/1.1", "Host: a", &many(32), "X: 1"], &["GET / HTTP/1.1", "Host: a"]);
    check_field_refused(&[&many(33)], HeadError::TooLarge);
    check_field_refused(&[&many(20), &many(20)], HeadError::TooLarge);
    for name in ["Content-Length", "transfer-encoding", "HOST", "Expect"] {
        check_field_refused(&[&format!("Connection: close, {name}"), "Content-Length: 5"], HeadError::Syntax);
        check_field_refused(&["Connection: close", &format!("Connection: X,{name}")], HeadError::Syntax);
    }
}

#[test]
fn trailers_are_asked_for() {
    for value in ["trailers", "gzip, Trailers", "trailers, deflate;q=0.5"] {
        check(
            &["GET / HTTP/1.1", "Host: a", &format!("TE: {value}"), "Connection: TE"],
            &["GET / HTTP/1.1", "Host: a", "Connection: TE", "TE: trailers"],
        );
    }
    check(&["GET / HTTP/1.1", "Host: a", "TE: xtrailers"], &["GET / HTTP/1.1", "Host: a"]);
}

#[test]
fn upgrades() {
    let asked = |lines: &[&str]| read(&head(lines)).map(|(request, out)| (request.upgrade, out)).expect("valid");
    let (upgrade, out) =
        asked(&["GET / HTTP/1.1", "Host: a", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]);
    assert!(upgrade);
    assert_eq!(out, head(&["GET / HTTP/1.1", "Host: a", "Sec-WebSocket-Version: 13", "Connection: upgrade", "Upgrade: websocket"]));
    for lines in [
        &["GET / HTTP/1.1", "Upgrade: websocket"][..],
        &["GET / HTTP/1.1", "Connection: upgrade"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade:"],
        &["GET / HTTP/1.0", "Connection: upgrade", "Upgrade: websocket"],
        &["POST / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket", "Content-Length: 1"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket", "Upgrade: websocket"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade: h2c"],
        &["GET / HTTP/1.1", "Connection: upgrade, HTTP2-Settings", "Upgrade: websocket, H2C", "HTTP2-Settings: x"],
        &["GET / HTTP/1.1", "Connection: upgrade", "Upgrade: HTTP/2.0"],
    ] {
        let (upgrade, out) = asked(&[lines, &["Host: a"]].concat());
        assert!(!upgrade && !out.contains("pgrade"), "{lines:?}: {out}");
    }
}

#[test]
fn request_ids() {
    let headers = ForwardHeaders { request_id: Some("x-request-id".into()), ..QUIET };
    let made = format!("x-request-id: {}ab", "0".repeat(30));
    let long = format!("X-Request-Id: {}", "i".repeat(REQUEST_ID_MAX + 1));
    for (fields, forwarded, id) in [
        (&[][..], &[made.as_str()][..], ""),
        (&["X-Request-ID: me-1"], &["X-Request-ID: me-1"], "me-1"),
        (&["X-Request-ID: one", "X-Request-ID: two"], &["X-Request-ID: one"], "one"),
        (&["X-Request-ID:"], &[&made], ""),
        (&["X-Request-ID: a b"], &[&made], ""),
        (&["X-Request-ID: a b", "X-Request-ID: c"], &["X-Request-ID: c"], "c"),
        (&[&long], &[&made], ""),
        (&["X-Request-ID: one", "Connection: x-request-id"], &[&made], ""),
        (&["X-Request-Idx: x"], &["X-Request-Idx: x", &made], ""),
    ] {
        let text = head(&[&["GET / HTTP/1.1", "Host: a"], fields].concat());
        let (request, out) = read_as(text.as_bytes(), &forward(&headers)).expect("valid");
        assert_eq!(out, head(&[&["GET / HTTP/1.1", "Host: a"], forwarded].concat()));
        assert_eq!(request.request_id.of_buf(text.as_bytes()), id.as_bytes());
    }
}

#[test]
fn the_client_is_told() {
    let headers = ForwardHeaders { x_forwarded: true, forwarded: true, via: true, request_id: None, trusted: Vec::new() };
    let text = head(&[
        "GET / HTTP/1.1",
        "x-forwarded-FOR: 6.6.6.6",
        "Host: a:8",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "Forwarded: for=6.6.6.6",
        "Via: 1.0 other",
        "X-Forwarded-For: 7.7.7.7",
    ]);
    for (client, for_list, for_pair) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7", "\"[2001:db8::7]\""),
    ] {
        let forward = Forward { client: client.parse().expect("an address"), ..forward(&headers) };
        let (_, out) = read_as(text.as_bytes(), &forward).expect("valid");
        let expected = [
            "GET / HTTP/1.1",
            "Host: a:8",
            "Via: 1.0 other",
            &format!("X-Forwarded-For: {for_list}"),
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a:8",
            &format!("Forwarded: for={for_pair};proto=http;host=\"a:8\""),
            "Via: 1.1 lb-a",
        ];
        assert_eq!(out, head(&expected));
    }
    // What is not ours to add is not ours to take.
    check_kept("X-Forwarded-For: 6.6.6.6");
    check_kept("Forwarded: for=6.6.6.6");
    // No connection option takes away what we say.
    let text = head(&["GET / HTTP/1.1", "Host: a", "Connection: x-forwarded-for, via, forwarded"]);
    let (_, out) = read_as(text.as_bytes(), &forward(&headers)).expect("valid");
    assert!(out.contains("X-Forwarded-For: 192.0.2.7") && out.contains("Via: ") && out.contains("Forwarded: for="), "{out}");
}

#[test]
fn fields_and_cookies_are_found() {
    let head = b"GET /x:y HTTP/1.1\r\nXa: 1\r\nX: 2 \r\nx:3\r\nEmpty:\r\nCookie: ab=1; a=2;b ; c=\"q;r\"; d=e=f;=g; a=3\r\ncookie: f=4; a=5\r\n\r\n";
    for (name, value) in [("x", Some("2")), ("XA", Some("1")), ("empty", Some("")), ("y", None), ("GET /x", None), ("xab", None)] {
        assert_eq!(field(head, name), value.map(str::as_bytes), "{name}");
    }
    for (name, value) in [
        ("a", Some("2")),
        ("ab", Some("1")),
        ("b", None),
        ("c", Some("\"q")),
        ("d", Some("e=f")),
        ("f", Some("4")),
        ("A", None),
        ("abc", None),
    ] {
        assert_eq!(cookie(head, name), value.map(str::as_bytes), "{name}");
    }
    assert_eq!(cookie(b"GET / HTTP/1.1\r\n\r\n", "a"), None);
}

#[test]
fn expectations() {
    let lines = ["POST / HTTP/1.1", "Host: a", "Expect: 100-Continue", "Content-Length: 5"];
    assert!(check(&lines, &lines).expect_continue);
    let chunked = ["POST / HTTP/1.1", "Host: a", "Expect: 100-continue", "Transfer-Encoding: chunked"];
    assert!(check(&chunked, &chunked).expect_continue);
    for lines in [
        ["POST / HTTP/1.0", "Host: a", "Content-Length: 5", "Expect: 100-continue"],
        ["POST / HTTP/1.1", "Host: a", "Content-Length: 0", "Expect: 100-continue"],
        ["GET / HTTP/1.1", "Host: a", "X: y", "Expect: 100-continue"],
    ] {
        let line = lines[0].replace("1.0", "1.1");
        assert!(!check(&lines, &[&line, lines[1], lines[2]]).expect_continue, "{lines:?}");
    }
    for value in ["", "y 100-continue", "100-continue, x", "100-continue;a=b", "200-ok"] {
        check_field_refused(&["Content-Length: 5", &format!("Expect: {value}")], HeadError::Syntax);
    }
    check_field_refused(&["Content-Length: 5", "Expect: 100-continue", "Expect: 100-continue"], HeadError::Syntax);
}

#[test]
fn old_requests_without_a_host_stay_old() {
    let text = head(&["GET / HTTP/1.0", "X: y"]);
    let headers = ForwardHeaders { x_forwarded: true, forwarded: true, ..QUIET };
    let (request, out) = read_as(text.as_bytes(), &forward(&headers)).expect("valid");
    assert!(request.host.range().is_empty());
    let told = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: http", "Forwarded: for=192.0.2.7;proto=http"];
    assert_eq!(out, head(&[&["GET / HTTP/1.0", "X: y"], &told[..]].concat()));
}

/// To many endpoints `X_Forwarded_For` is `X-Forwarded-For`.
#[test]
fn underscores_do_not_disguise() {
    let headers = ForwardHeaders { x_forwarded: true, request_id: Some("x-request-id".into()), ..QUIET };
    let lines =
        ["GET / HTTP/1.1", "Host: a", "X_Forwarded_For: 6", "x_forwarded-proto: https", "X-Forwarded_Host: b", "X_Request_ID: c", "A_B: d"];
    let (request, out) = read_as(head(&lines).as_bytes(), &forward(&headers)).expect("valid");
    assert!(request.request_id.range().is_empty() && out.contains("A_B: d") && !out.contains("orwarded_") && !out.contains("X_"), "{out}");
    assert!(!out.contains("https") && out.contains("x-request-id: 0"), "{out}");
    check_field_refused(&["Content_Length: 5"], HeadError::Syntax);
    check_field_refused(&["Content-Length: 5", "content_length: 6"], HeadError::Syntax);
    check_field_refused(&["Transfer_Encoding: chunked"], HeadError::Syntax);
}

#[test]
fn what_a_trusted_proxy_told_is_kept_and_extended() {
    let headers = ForwardHeaders { forwarded: true, ..ForwardHeaders::default() };
    let sent = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: b\r\nForwarded: for=6.6.6.6\r\n\r\n";
    for trusted in [true, false] {
        let forward = Forward { trusted, ..forward(&headers) };
        let mut out = Vec::new();
        parse(sent.as_bytes(), sent.len(), &forward, &mut out).expect("valid");
        let text = String::from_utf8(out).expect("text");
        let all = |name: &str| text.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect::<Vec<_>>();
        let own = CLIENT.to_string();
        if trusted {
            assert_eq!(all("X-Forwarded-For"), ["6.6.6.6", &own], "{text}");
            assert_eq!((all("X-Forwarded-Proto"), all("X-Forwarded-Host")), (vec!["https"], vec!["b"]), "{text}");
            assert_eq!(all("Forwarded").len(), 2, "{text}");
        } else {
            assert_eq!(all("X-Forwarded-For"), [&own], "{text}");
            assert_eq!((all("X-Forwarded-Proto"), all("X-Forwarded-Host")), (vec!["http"], vec!["a"]), "{text}");
            assert_eq!(all("Forwarded").len(), 1, "{text}");
        }
        assert!(all("X_Forwarded_For").is_empty(), "{text}");
    }
}
