//! Requests that two parsers could read in two ways. Each must be answered 400, the connection closed, and nothing of it reach an origin.
//!
//! Every case carries a second request behind it: if a case ever goes through, the origin tells which.

use std::net::SocketAddr;

use crate::origin::Origin;
use crate::rig::{Site, Weir, http_site};
use crate::wire::{self, Peer};

/// What follows each case on the wire.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// Wrong in the head: the origin must not even see a head. `\r\n` is written out, so that what is missing shows.
const HEADS: &[(&str, &[u8])] = &[
    ("length and coding", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding and length", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("two lengths that differ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nabcde"),
    ("two lengths that agree", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"),
    ("a list of lengths that differ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 0\r\n\r\nabcde"),
    ("a length with a plus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"),
    ("a length with a fraction", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nabcde"),
    ("a length with a space inside", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nabcde"),
    ("an empty length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcde"),
    ("a quoted length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nabcde"),
    ("a length beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na"),
    ("a length of a hundred digits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\r\n\r\na"),
    ("chunked twice in one field", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice in two fields", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("chunked, then identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("chunked not last", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("a word like chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked with a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("chunked in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("an empty coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    ("a coding on 1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    ("bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare LF everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n"),
    ("bare CR as a line end", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    ("a folded value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
    ("a value folded with a tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"),
    ("a fold before the first field", b"GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n"),
    ("a space before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde"),
    ("a tab before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a field without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("a field without a name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"),
    ("a parenthesis in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n"),
    ("a byte above 127 in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n"),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0Y: b\r\n\r\n"),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
    ("a control byte in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x01c\r\n\r\n"),
    ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x7fc\r\n\r\n"),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a control byte in the target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab in the target", b"GET /\t HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an asterisk for GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an authority for GET", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    ("an absolute target of another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an absolute target of another port", b"GET http://a:81/ HTTP/1.1\r\nHost: a:82\r\n\r\n"),
    ("an absolute target with user information", b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("an absolute target without a host", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\nX: a\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("the same host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("two hosts on 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("a host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a list of hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("a host with user information", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    ("a host with a port of letters", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("version 2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("version 0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    ("version 1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("version 1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("version 1", b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    ("a version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("another protocol", b"GET / ICY/1.1\r\nHost: a\r\n\r\n"),
    ("no version", b"GET /\r\nHost: a\r\n\r\n"),
    ("a space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab between the words", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a method with an at sign", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("NUL in the method", b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
];

/// Wrong in the body: the head may be on its way already, but no origin may take it for a whole request.
const BODIES: &[(&str, &[u8])] = &[
    ("a chunk size with 0x", b"0x5\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size with a plus", b"+5\r\nabcde\r\n0\r\n\r\n"),
    ("a negative chunk size", b"-5\r\nabcde\r\n0\r\n\r\n"),
    ("an empty chunk size", b"\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size of letters", b"g\r\nabcde\r\n0\r\n\r\n"),
    ("a space before a chunk size", b" 5\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size beyond 64 bits", b"10000000000000005\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size with many zeros", b"00000000000000000000000000000000000005\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size with an underscore", b"0_5\r\nabcde\r\n0\r\n\r\n"),
    ("bare LF after a chunk size", b"5\nabcde\r\n0\r\n\r\n"),
    ("bare CR after a chunk size", b"5\rabcde\r\n0\r\n\r\n"),
    ("NUL after a chunk size", b"5\0\r\nabcde\r\n0\r\n\r\n"),
    ("bare LF after a chunk", b"5\r\nabcde\n0\r\n\r\n"),
    ("nothing after a chunk", b"5\r\nabcde0\r\n\r\n"),
    ("more than the chunk size", b"5\r\nabcdef\r\n0\r\n\r\n"),
    ("bare LF after the last chunk size", b"5\r\nabcde\r\n0\n\r\n"),
    ("bare LF at the end", b"5\r\nabcde\r\n0\r\n\n"),
    ("bare LF in an extension", b"5;a\nb\r\nabcde\r\n0\r\n\r\n"),
    ("bare CR in an extension", b"5;a\rb\r\nabcde\r\n0\r\n\r\n"),
    ("NUL in an extension", b"5;a\0b\r\nabcde\r\n0\r\n\r\n"),
    ("a folded trailer", b"5\r\nabcde\r\n0\r\nX: a\r\n b\r\n\r\n"),
    ("a space before a trailer's colon", b"5\r\nabcde\r\n0\r\nX : a\r\n\r\n"),
    ("bare LF after a trailer", b"5\r\nabcde\r\n0\r\nX: a\nY: b\r\n\r\n"),
    ("a trailer without a colon", b"5\r\nabcde\r\n0\r\nX\r\n\r\n"),
    ("NUL in a trailer", b"5\r\nabcde\r\n0\r\nX: a\0\r\n\r\n"),
];

fn rig(test: impl FnOnce(&Origin, SocketAddr)) {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    // To a listener of HTTP/1.1 alone the preface of HTTP/2 is one more wrong head.
    let text = http_site("web", listen, &[origin.address], "").replacen("pool =", "http2 = false\npool =", 1);
    let _weir = Weir::start(&site, &text);
    test(&origin, listen);
    // It has refused, not broken.
    assert_eq!(wire::get(listen, "/").expect("still serving").text(), "one");
}

/// Sends the bytes and the smuggled request; returns what is wrong with the answer, if anything is.
fn refused(listen: SocketAddr, bytes: &[u8]) -> Result<(), String> {
    let mut peer = Peer::connect(listen).map_err(|e| format!("connecting: {e}"))?;
    // Refused in the middle of sending is refused.
    let _ = peer.send([bytes, SMUGGLED.as_bytes()].concat());
    let response = peer.response("GET").map_err(|e| format!("no answer: {e}"))?;
    if response.status != 400 {
        return Err(format!("answered {}", response.head.first));
    }
    match peer.rest() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => Err(format!("more after the refusal: {:?}", String::from_utf8_lossy(&rest))),
        Err(e) => Err(format!("not closed: {e}")),
    }
}

#[test]
fn heads_that_could_be_read_in_two_ways() {
    rig(|origin, listen| {
        let mut wrong = Vec::new();
        for (what, bytes) in HEADS {
            let before = origin.heads();
            if let Err(e) = refused(listen, bytes) {
                wrong.push(format!("{what}: {e}"));
            }
            if origin.heads() != before {
                wrong.push(format!("{what}: the origin saw {:?}", origin.seen.log().last()));
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), HEADS.len(), wrong.join("\n"));
    });
}

#[test]
fn bodies_that_could_be_read_in_two_ways() {
    rig(|origin, listen| {
        let mut wrong = Vec::new();
        for (what, bytes) in BODIES {
            let before = origin.requests();
            let head = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            if let Err(e) = refused(listen, &[head.as_slice(), bytes].concat()) {
                wrong.push(format!("{what}: {e}"));
            }
            if origin.requests() != before {
                wrong.push(format!("{what}: the origin took it for a whole request"));
            }
            if origin.seen.log().iter().any(|head| head.request().1 == "/smuggled") {
                wrong.push(format!("{what}: smuggled"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), BODIES.len(), wrong.join("\n"));
    });
}

#[test]
fn what_follows_a_good_request_is_still_checked() {
    rig(|origin, listen| {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost : a\r\n\r\n").unwrap();
        assert_eq!(peer.response("GET").unwrap().status, 200);
        assert_eq!(peer.response("GET").unwrap().status, 400);
        assert_eq!(peer.rest().unwrap(), b"");
        assert_eq!(origin.heads(), 1);
    });
}

#[test]
fn what_is_unusual_but_clear_is_served() {
    rig(|_, listen| {
        for (what, request) in [
            ("coding in capitals", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            ("a chunk size in capitals", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"),
            ("a chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\";c\r\nx\r\n0;d\r\n\r\n"),
            ("no space after a colon", "GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
            ("spaces around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n"),
            ("an empty value", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n"),
            ("a method of its own", "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a host that is an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
            ("1.0 without a host", "GET / HTTP/1.0\r\n\r\n"),
        ] {
            let response = wire::send(listen, "GET", request).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(response.status, 200, "{what}");
        }
    });
}
