//! Origins that fail in the middle of everything. The client must see an error or a cut transfer, never a wrong complete response, and the
//! next request must be served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::load::{Load, Plan};
use crate::origin::{self, End, Nginx, Origin, ok, raw};
use crate::rig::{SOON, Site, Weir, heavy, http_site, pool, resident_kib, wait_until};
use crate::wire::{self, Peer};

/// Timeouts short enough to be waited for, if there is something to be waited for; no ejection, which would hide the origin after a few failures.
fn impatient(listen: SocketAddr, origin: SocketAddr, first_byte: &str) -> String {
    format!(
        "{}\n[pool.web.timeouts]\nfirst_byte = \"{first_byte}\"\nidle = \"400ms\"\nconnect = \"10s\"\n",
        http_site("web", listen, &[origin], "ejection = false")
    )
}

/// With an origin that is waited for.
fn rig(test: impl FnOnce(&Origin, SocketAddr, &Weir<'_>)) {
    rig_with("10s", test);
}

fn rig_with(first_byte: &str, test: impl FnOnce(&Origin, SocketAddr, &Weir<'_>)) {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &impatient(listen, origin.address, first_byte));
    test(&origin, listen, &weir);
    origin.behave(origin::standard());
    wait_until("service as before", SOON, || wire::get(listen, "/").is_ok_and(|response| response.text() == "one"));
}

#[test]
fn an_origin_that_never_answers_is_504() {
    rig_with("400ms", |origin, listen, _| {
        origin.behave(origin::silent());
        for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] {
            let began = Instant::now();
            assert_eq!(wire::send(listen, "GET", request).unwrap().status, 504);
            assert!(began.elapsed() >= Duration::from_millis(400), "after {:?}", began.elapsed());
        }
    });
}

#[test]
fn an_origin_that_stops_in_the_middle_is_cut_off() {
    rig(|origin, listen, _| {
        origin.behave(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(), End::Stay));
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = peer.response("GET");
        assert!(answer.is_err(), "a half response passed for a whole one: {answer:?}");
    });
}

#[test]
fn an_origin_that_answers_garbage_is_502() {
    rig(|origin, listen, _| {
        let mut wrong = Vec::new();
        for (what, bytes) in [
            ("noise", b"\x00\x01\x02\x03 garbage\r\n\r\n".as_slice()),
            ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            ("no status", b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            ("a status of letters", b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
            ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
            ("version 2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            ("length and coding", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a length of letters", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"),
            ("a folded value", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
            ("a space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
            ("NUL in a value", b"HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 0\r\n\r\n"),
            ("an upgrade nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
        ] {
            origin.behave(raw(bytes.to_vec(), End::Close));
            match wire::get(listen, "/") {
                Ok(response) if response.status == 502 => {}
                Ok(response) => wrong.push(format!("{what}: {}", response.head.first)),
                Err(e) => wrong.push(format!("{what}: {e}")),
            }
        }
        // More fields than anyone needs, without an end.
        let endless: Vec<u8> = b"HTTP/1.1 200 OK\r\n".iter().copied().chain(b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(40_000)).collect();
        origin.behave(raw(endless, End::Close));
        match wire::get(listen, "/") {
            Ok(response) if response.status == 502 => {}
            other => wrong.push(format!("an endless head: {other:?}")),
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn more_than_the_response_never_becomes_the_next_one() {
    rig(|origin, listen, _| {
        let mut bytes = ok(b"first");
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
        origin.behave(raw(bytes, End::Stay));
        let mut peer = Peer::connect(listen).unwrap();
        for _ in 0..5 {
            peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let response = peer.response("GET").unwrap();
            assert_eq!(response.text(), "first");
            if response.head.closes() {
                peer = Peer::connect(listen).unwrap();
            }
        }
    });
}

/// Every prefix of this response, ended in this way; `wrong` says what may not be the answer.
fn every_prefix(response: &[u8], end: End) {
    rig(|origin, listen, weir| {
        // With and without a body cut by the last byte: the whole response is right and comes last.
        for length in 0..=response.len() {
            origin.behave(raw(response[..length].to_vec(), end));
            let answer = wire::get(listen, "/");
            let whole = length == response.len();
            match &answer {
                Ok(answer) if answer.status == 200 => {
                    assert!(whole, "{length} bytes passed for a whole response: {answer:?}");
                    assert_eq!(answer.text(), "0123456789");
                }
                Ok(answer) => assert!(answer.status == 502 && !whole, "after {length} of {} bytes: {answer:?}", response.len()),
                // A reset may overtake what was sent before it.
                Err(e) => assert!(!whole || end == End::Reset, "the whole response came through as: {e}"),
            }
            assert!(weir.exited().is_none(), "weir ended after {length} bytes");
        }
    });
}

const BY_LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789";
const BY_CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nX-Sum: 1\r\n\r\n";

#[test]
fn closing_at_every_byte_of_a_response_with_a_length() {
    every_prefix(BY_LENGTH, End::Close);
}

#[test]
fn closing_at_every_byte_of_a_chunked_response() {
    every_prefix(BY_CHUNKS, End::Close);
}

#[test]
fn resetting_at_every_byte_of_a_response() {
    every_prefix(BY_LENGTH, End::Reset);
    every_prefix(BY_CHUNKS, End::Reset);
}

#[test]
fn broken_origins_do_not_disturb_the_others() {
    let _turn = heavy();
    let site = Site::new();
    let nginx = Nginx::start(&site, "good");
    let bad = Origin::behaving(&site, "bad", origin::silent());
    let (listen, sick) = (site.address(), site.address());
    let body = format!(
        "{}\n{}\n[listener.good]\nbind = \"{listen}\"\nprotocol = \"http\"\npool = \"good\"\n\n{}",
        impatient(sick, bad.address, "400ms"),
        "",
        pool("good", &[nginx.address], "")
    );
    let weir = Weir::start(&site, &body);
    let load = Load::start(listen, Plan { clients: 8, ..Plan::default() });
    load.wait_for(500);
    let before = resident_kib(weir.first_pid());
    for behaviour in [
        origin::silent(),
        raw(b"\0garbage\r\n\r\n".to_vec(), End::Close),
        raw(Vec::new(), End::Reset),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec(), End::Close),
    ] {
        bad.behave(behaviour);
        let suffering = Load::start(sick, Plan { clients: 32, pause: Duration::from_millis(1), ..Plan::default() });
        wait_until("failures of the bad origin", SOON, || suffering.failed() >= 64);
        load.wait_for(500);
        assert_eq!(suffering.finish().good, 0);
    }
    let report = load.finish();
    report.assert_clean();
    assert!(report.slowest < SOON, "a good request took {:?}", report.slowest);
    let after = resident_kib(weir.first_pid());
    assert!(after < before + 16 * 1024, "resident memory grew from {before} to {after} KiB");
}
