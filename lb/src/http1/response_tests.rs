use super::*;
use crate::http1::Scanner;
use crate::http1::lines::Bounds;

const GET: Asked = Asked { method: Method::Get, minor: 1, upgrade: false };
const HEAD: Asked = Asked { method: Method::Head, ..GET };
const GET_10: Asked = Asked { minor: 0, ..GET };
const UPGRADE: Asked = Asked { upgrade: true, ..GET };
const KEEP: Forward<'static> = Forward { close: false, via: None };

/// Both steps that a shell takes: find the end, then read.
fn read_as(head: &[u8], asked: Asked, forward: Forward<'_>) -> Result<(Response, String), HeadError> {
    let len = Scanner::default().scan(head, &Bounds::RESPONSE)?.expect("the cases are complete heads");
    let mut out = Vec::new();
    let response = parse(head, len, asked, |_| forward, &mut out)?;
    assert_eq!(response.head_len, head.len());
    Ok((response, out.into_iter().map(char::from).collect()))
}

/// A head of these lines.
fn head(lines: &[&str]) -> String {
    lines.iter().chain(&[""]).map(|line| format!("{line}\r\n")).collect()
}

fn check(asked: Asked, lines: &[&str], forwarded: &[&str]) -> Response {
    let text = head(lines);
    let (response, out) = read_as(text.as_bytes(), asked, KEEP).unwrap_or_else(|error| panic!("{error:?}: {text}"));
    assert_eq!(out, head(forwarded), "of {text}");
    response
}

fn check_refused(asked: Asked, lines: &[&str], expected: HeadError) {
    let text = head(lines);
    assert_eq!(read_as(text.as_bytes(), asked, KEEP).map(|(_, out)| out), Err(expected), "{text}");
}

/// Fields of a 200 to a plain request.
fn check_fields_refused(fields: &[&str], expected: HeadError) {
    check_refused(GET, &[&["HTTP/1.1 200 OK"], fields].concat(), expected);
}

#[test]
fn plain_response_passes_unchanged() {
    let lines = ["HTTP/1.1 200 OK", "Content-Length: 5", "Set-Cookie: a=b", "Set-Cookie: c=d", "X:\tv  w "];
    let response = check(GET, &lines, &lines);
    assert!(matches!(response.body, Body::Length(5)));
    assert_eq!((response.status, response.framing, response.keep_alive_s), (200, Framing::AsIs, None));
    assert!(response.reusable && !response.is_interim() && !response.ends_by_close());
}

#[test]
fn status_lines() {
    for (line, forwarded) in [
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
        ("HTTP/1.0 404 Not\tFound at all", "HTTP/1.1 404 Not\tFound at all"),
        ("HTTP/1.1 599 x", "HTTP/1.1 599 x"),
        ("HTTP/1.1 299 2", "HTTP/1.1 299 2"),
    ] {
        check(GET, &[line, "Content-Length: 0"], &[forwarded, "Content-Length: 0"]);
    }
    for line in ["HTTP/1.1 099 x", "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 000", "HTTP/1.1 101 Switching Protocols"] {
        check_refused(GET, &[line, "Content-Length: 0"], HeadError::Status);
    }
    for line in [
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1  200 x",
        " HTTP/1.1 200 x",
        "HTTP/1.1 -20 x",
        "HTTP/1.1 200\tx",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1",
        "200 OK",
        "ICY 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200",
        "http/1.1 200 OK",
        "",
    ] {
        let refused = read_as(head(&[line, "Content-Length: 0"]).as_bytes(), GET, KEEP);
        assert!(matches!(refused, Err(HeadError::Syntax | HeadError::Version)), "{line:?}");
    }
}

#[test]
fn lengths_are_unambiguous() {
    check_fields_refused(&["Content-Length: 5", "Transfer-Encoding: chunked"], HeadError::BothLengths);
    check_fields_refused(&["Content-Length: 5", "Content-Length: 5"], HeadError::ContentLength);
    check_fields_refused(&["Content-Length: 5, 5"], HeadError::ContentLength);
    check_fields_refused(&["Content-Length: +5"], HeadError::ContentLength);
    check_fields_refused(&["Content-Length:"], HeadError::ContentLength);
    check_fields_refused(&["Transfer-Encoding: gzip, chunked"], HeadError::TransferEncoding);
    check_fields_refused(&["Transfer-Encoding: identity"], HeadError::TransferEncoding);
    check_fields_refused(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], HeadError::TransferEncoding);
    check_refused(GET, &["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"], HeadError::TransferEncoding);
    // Also where there is no body.
    check_refused(HEAD, &["HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"], HeadError::BothLengths);
    check_refused(GET, &["HTTP/1.1 304 Not Modified", "Content-Length: x"], HeadError::ContentLength);
}

/// Without its length, a client would take the next response for the rest of this one.
#[test]
fn framing_cannot_be_named_away() {
    check_fields_refused(&["Content-Length: 5", "Connection: content-length"], HeadError::Syntax);
    check_fields_refused(&["Connection: X, Transfer-Encoding", "Transfer-Encoding: chunked"], HeadError::Syntax);
    check(
        GET,
        &["HTTP/1.1 200 OK", "X: 1", "Connection: x", "Content-Length: 5", "Y: 2"],
        &["HTTP/1.1 200 OK", "Content-Length: 5", "Y: 2"],
    );
}

#[test]
fn chunks_for_those_who_know_them() {
    let lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: CHUNKED", "X: y"];
    let response = check(GET, &lines, &["HTTP/1.1 200 OK", "X: y", "Transfer-Encoding: chunked"]);
    assert!(matches!(response.body, Body::Chunked(_)) && response.framing == Framing::AsIs && response.reusable);
    let (mut response, _) = read_as(head(&lines).as_bytes(), GET_10, Forward { close: true, via: None }).expect("valid");
    assert!(response.framing == Framing::Bare && response.ends_by_close() && response.reusable);
    let mut piece = *b"2\r\nab\r\n0\r\nT: t\r\n\r\n";
    let advance = response.body.advance(&mut piece).expect("valid");
    assert_eq!(&piece[..advance.kept], b"ab");
    assert!(response.body.is_done());
}

#[test]
fn bodies_that_end_by_close() {
    for (asked, framing) in [(GET, Framing::Chunk), (GET_10, Framing::Bare)] {
        for line in ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK"] {
            let (response, out) = read_as(head(&[line, "Connection: keep-alive"]).as_bytes(), asked, KEEP).expect("valid");
            assert!(matches!(response.body, Body::UntilClose) && !response.reusable && response.framing == framing);
            assert_eq!(out.contains("Transfer-Encoding: chunked"), framing == Framing::Chunk, "{out}");
            assert_eq!(out.contains("Connection: close"), framing == Framing::Bare, "{out}");
        }
    }
}

#[test]
fn bodiless_responses() {
    let none = |asked, lines: &[&str], forwarded: &[&str]| {
        let response = check(asked, lines, forwarded);
        assert!(matches!(response.body, Body::Empty) && response.framing == Framing::AsIs, "{lines:?}");
        response.reusable
    };
    let with_length = ["HTTP/1.1 200 OK", "Content-Length: 5"];
    assert!(none(HEAD, &with_length, &with_length));
    let chunked = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"];
    assert!(none(HEAD, &chunked, &chunked));
    assert!(none(HEAD, &["HTTP/1.1 200 OK"], &["HTTP/1.1 200 OK"]));
    let unchanged = ["HTTP/1.1 304 Not Modified", "Content-Length: 5", "ETag: x"];
    assert!(none(GET, &unchanged, &unchanged));
    assert!(none(GET, &["HTTP/1.1 304 N", "Transfer-Encoding: chunked"], &["HTTP/1.1 304 N"]));
    assert!(none(GET, &["HTTP/1.1 204 No Content"], &["HTTP/1.1 204 No Content"]));
    assert!(none(GET, &["HTTP/1.1 204 N", "Content-Length: 0", "X: y"], &["HTTP/1.1 204 N", "X: y"]));
    assert!(none(HEAD, &["HTTP/1.1 204 N", "Content-Length: 0"], &["HTTP/1.1 204 N"]));
    // A body may follow although it must not.
    assert!(!none(GET, &["HTTP/1.1 204 N", "Transfer-Encoding: chunked"], &["HTTP/1.1 204 N"]));
    assert!(!none(GET, &["HTTP/1.1 204 N", "Content-Length: 5"], &["HTTP/1.1 204 N"]));
    assert!(!none(GET, &["HTTP/1.1 100 Continue", "Content-Length: 5"], &["HTTP/1.1 100 Continue"]));
}

#[test]
fn interim_responses() {
    for status in [100, 102, 103, 199] {
        let lines = [format!("HTTP/1.1 {status} x"), "Link: y".into()];
        let lines = [lines[0].as_str(), lines[1].as_str()];
        let text = head(&lines);
        let (response, out) = read_as(text.as_bytes(), GET, Forward { close: true, via: None }).expect("valid");
        assert!(response.is_interim() && matches!(response.body, Body::Empty));
        assert_eq!(out, text);
        let (response, out) = read_as(text.as_bytes(), GET_10, KEEP).expect("valid");
        assert!(response.is_interim() && out.is_empty());
    }
}

#[test]
fn switching_protocols() {
    let response = check(
        UPGRADE,
        &["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x"],
        &["HTTP/1.1 101 Switching Protocols", "Sec-WebSocket-Accept: x", "Connection: upgrade", "Upgrade: websocket"],
    );
    assert!(!response.is_interim() && !response.reusable && matches!(response.body, Body::Empty));
    // Any other answer to the same request is an ordinary one.
    let response = check(
        UPGRADE,
        &["HTTP/1.1 200 OK", "Upgrade: h2c", "Connection: upgrade", "Content-Length: 5"],
        &["HTTP/1.1 200 OK", "Content-Length: 5"],
    );
    assert!(response.reusable);
}

#[test]
fn connections() {
    for (line, field, reusable) in [
        ("HTTP/1.1 200 OK", "X: y", true),
        ("HTTP/1.1 200 OK", "Connection: close", false),
        ("HTTP/1.1 200 OK", "Connection: keep-alive, Close", false),
        ("HTTP/1.0 200 OK", "X: y", false),
        ("HTTP/1.0 200 OK", "Connection: Keep-Alive", true),
    ] {
        let (response, out) = read_as(head(&[line, field, "Content-Length: 0"]).as_bytes(), GET, KEEP).expect("valid");
        assert_eq!(response.reusable, reusable, "{line} {field}");
        assert!(!out.contains("Connection"), "{out}");
    }
    for (asked, close, field) in [
        (GET, true, Some("Connection: close")),
        (GET, false, None),
        (GET_10, true, Some("Connection: close")),
        (GET_10, false, Some("Connection: keep-alive")),
    ] {
        let text = head(&["HTTP/1.1 200 OK", "Content-Length: 0"]);
        let (_, out) = read_as(text.as_bytes(), asked, Forward { close, via: None }).expect("valid");
        let expected: Vec<&str> = ["HTTP/1.1 200 OK", "Content-Length: 0"].into_iter().chain(field).collect();
        assert_eq!(out, head(&expected));
    }
}

#[test]
fn keep_alive_timeouts() {
    for (value, expected) in [
        ("timeout=5", Some(5)),
        ("max=100, Timeout=60", Some(60)),
        ("timeout=0", Some(0)),
        ("timeout=99999999999", Some(u32::MAX)),
        ("timeout=999999999999999999999999", None),
        ("timeout=", None),
        ("timeout=-1", None),
        ("timeout", None),
        ("xtimeout=5", None),
    ] {
        let field = format!("Keep-Alive: {value}");
        let response = check(GET, &["HTTP/1.1 200 OK", &field, "Content-Length: 0"], &["HTTP/1.1 200 OK", "Content-Length: 0"]);
        assert_eq!(response.keep_alive_s, expected, "{value}");
    }
}

#[test]
fn via_and_opaque_bytes() {
    let forward = Forward { close: true, via: Some("lb-a") };
    let (_, out) = read_as(b"HTTP/1.1 200 \xe4\r\nX: \xff\r\nVia: 1.0 b\r\nContent-Length: 0\r\n\r\n", GET, forward).expect("valid");
    // A reason phrase that is not ASCII says nothing that anybody could rely on.
    assert_eq!(out, head(&["HTTP/1.1 200 ", "X: \u{ff}", "Via: 1.0 b", "Content-Length: 0", "Connection: close", "Via: 1.1 lb-a"]));
}
