//! What ordinary clients and origins rely on.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::origin::{Nginx, Origin, noise_fingerprint};
use crate::rig::{LONG, SOON, Site, Weir, http_site, pool, resident_kib, wait_until};
use crate::wire::{self, Fingerprint, Noise, Peer};

/// More than a body may stay in the process, in KiB, and less than one of the bodies sent.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

/// A body too large to be held in memory unnoticed.
const LARGE: usize = 64 * 1024 * 1024;

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["--silent", "--show-error", "--max-time", "20"]).args(args).output();
    let output = output.expect("starting curl; scripts/test installs it");
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_reaches_nginx() {
    let site = Site::new();
    let nginx = Nginx::start(&site, "alder");
    nginx.file("page.txt", &b"line\n".repeat(10_000));
    let listen = site.address();
    let _weir = Weir::start(&site, &http_site("web", listen, &[nginx.address], ""));
    let url = |path: &str| format!("http://{listen}{path}");

    assert_eq!(curl(&[&url("/")]), "alder");
    assert_eq!(curl(&["--http1.0", &url("/")]), "alder");
    assert_eq!(curl(&["--data", "x=1", &url("/")]), "alder");
    assert_eq!(curl(&["--header", "Transfer-Encoding: chunked", "--data", "x=1", &url("/")]), "alder");
    assert_eq!(curl(&[&url("/page.txt")]).len(), 50_000);
    let head = curl(&["--head", &url("/page.txt")]);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("50000"), "{head}");
    assert_eq!(curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url("/missing")]), "404");
    assert_eq!(curl(&["--range", "0-3", &url("/page.txt")]), "line");
    // Two requests on one connection: the second connects zero times.
    let reused = curl(&["--output", "/dev/null", "--write-out", "%{num_connects}", &url("/"), "--output", "/dev/null", &url("/")]);
    assert_eq!(reused, "10");

    let seen = curl(&["--header", "X-Forwarded-For: 6.6.6.6", "--header", "Host: shop.example", &url("/see")]);
    let words: Vec<&str> = seen.split(' ').collect();
    assert_eq!(words[..4], ["GET", "shop.example", "127.0.0.1", "http"], "{seen}");
    assert!(words[4].len() >= 16, "no request id: {seen}");
}

/// An HTTP listener in front of one standard origin.
fn one_origin(test: impl FnOnce(&Site, &Origin, SocketAddr, &Weir<'_>)) {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    test(&site, &origin, listen, &weir);
}

#[test]
fn responses_without_a_body_leave_the_connection_in_step() {
    one_origin(|_, _, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        for (method, path, status) in [
            ("HEAD", "/", 200),
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("HEAD", "/304", 304),
            ("GET", "/", 200),
            ("HEAD", "/204", 204),
        ] {
            peer.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
            let response = peer.response(method).unwrap();
            assert_eq!(response.status, status, "{method} {path}");
            if (method, path) == ("HEAD", "/") {
                assert_eq!(response.head.field("content-length"), Some("3"));
            }
        }
    });
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    one_origin(|_, _, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("GET /trailers HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n").unwrap();
        let response = peer.response("GET").unwrap();
        assert_eq!(response.text(), "hello world");
        assert_eq!(response.trailers, [("X-Sum".to_owned(), "42".to_owned())]);

        // A byte at a time: every boundary of the request is a boundary between reads once.
        let request = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n\
                       3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nX-Check: yes\r\n\r\n";
        for byte in request.bytes() {
            peer.send([byte]).unwrap();
        }
        let echoed = peer.response("POST").unwrap().text();
        assert!(echoed.contains("\nabc0123456789\n"), "{echoed}");
        assert!(echoed.to_ascii_lowercase().contains("trailer x-check: yes"), "{echoed}");
    });
}

#[test]
fn a_client_of_http_1_0_gets_what_it_understands() {
    one_origin(|_, _, listen, _| {
        let ask = |request: &str| {
            let mut peer = Peer::connect(listen).unwrap();
            peer.send(request).unwrap();
            String::from_utf8(peer.rest().unwrap()).unwrap()
        };
        let plain = ask("GET / HTTP/1.0\r\n\r\n");
        assert!(plain.starts_with("HTTP/1.") && plain.ends_with("\r\n\r\none"), "{plain}");
        let from_chunks = ask("GET /trailers HTTP/1.0\r\nHost: test\r\n\r\n");
        assert!(!from_chunks.to_ascii_lowercase().contains("transfer-encoding"), "{from_chunks}");
        assert!(from_chunks.ends_with("\r\n\r\nhello world"), "{from_chunks}");

        let mut peer = Peer::connect(listen).unwrap();
        for _ in 0..2 {
            peer.send("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n").unwrap();
            let head = peer.head().unwrap().expect("a response");
            assert_eq!(head.status(), 200);
            assert!(head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive")), "{head:?}");
            assert_eq!(peer.exactly(3).unwrap(), b"one");
        }
    });
}

#[test]
fn an_origin_that_ends_bodies_by_closing_is_understood() {
    one_origin(|_, _, listen, _| {
        let response = wire::get(listen, "/until-close").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "until the end"));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    one_origin(|_, origin, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        let mut batch = String::new();
        for number in 0..50 {
            let body = "x".repeat(number);
            batch.push_str(&format!("POST /echo/{number} HTTP/1.1\r\nHost: test\r\nContent-Length: {number}\r\n\r\n{body}"));
        }
        peer.send(&batch).unwrap();
        for number in 0..50 {
            let echoed = peer.response("POST").unwrap().text();
            assert!(echoed.starts_with(&format!("POST /echo/{number} HTTP/1.1\n")), "{number}: {echoed}");
            assert!(echoed.contains(&format!("\n\n{}\n", "x".repeat(number))), "{number}: {echoed}");
        }
        assert_eq!(origin.requests(), 50);
    });
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    one_origin(|_, _, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        for _ in 0..2 {
            peer.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
            assert_eq!(peer.response_or_interim("POST").unwrap().status, 100);
            peer.send("body").unwrap();
            let response = peer.response("POST").unwrap();
            assert!(response.text().contains("\nbody\n"), "{}", response.text());
        }
    });
}

#[test]
fn an_upgraded_connection_is_a_pipe() {
    one_origin(|_, _, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send(
            "GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nfirst words",
        )
        .unwrap();
        let response = peer.response("GET").unwrap();
        assert_eq!(response.status, 101);
        assert!(response.head.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")), "{response:?}");
        assert_eq!(peer.exactly(11).unwrap(), b"first words");
        let mut noise = Noise(3);
        for size in [1, 2, 125, 126, 4096, 65_536] {
            let bytes = noise.bytes(size);
            peer.send(&bytes).unwrap();
            assert_eq!(peer.exactly(size).unwrap(), bytes, "{size} bytes");
        }
        // Half-closed by the client, the origin has the last word.
        peer.finish_sending().unwrap();
        assert_eq!(peer.rest().unwrap(), b"bye");
    });
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    one_origin(|_, origin, listen, _| {
        let request = "GET /hop HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n\
                       Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers, deflate\r\nX-Public: 2\r\nX-Request-Id: mine-0123456789\r\n\
                       X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\r\n";
        let response = wire::send(listen, "GET", request).unwrap();
        for name in ["keep-alive", "x-hop"] {
            assert_eq!(response.head.field(name), None, "{response:?}");
        }
        assert_eq!(response.head.field("x-end"), Some("2"));

        let seen = origin.seen.log().pop().expect("a request");
        for name in ["x-private", "keep-alive", "proxy-connection"] {
            assert_eq!(seen.field(name), None, "{seen:?}");
        }
        assert!(!seen.all("te").iter().any(|value| value.contains("deflate")), "{seen:?}");
        assert_eq!(seen.field("x-public"), Some("2"));
        assert_eq!(seen.all("x-request-id"), ["mine-0123456789"]);
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.all("x-forwarded-host"), ["test"]);
        assert_eq!(seen.all("host"), ["test"]);
    });
}

#[test]
fn a_request_without_an_id_gets_its_own() {
    one_origin(|_, origin, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        for _ in 0..20 {
            peer.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            peer.response("GET").unwrap();
        }
        let mut ids: Vec<String> = origin.seen.log().iter().filter_map(|head| head.field("x-request-id").map(str::to_owned)).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20, "{ids:?}");
    });
}

#[test]
fn forwarded_and_via_are_a_choice() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = format!(
        "{}\n[listener.web.headers]\nx_forwarded = false\nforwarded = true\nvia = true\nrequest_id = \"\"\n",
        http_site("web", listen, &[origin.address], "")
    );
    let _weir = Weir::start(&site, &body);
    let response = wire::send(listen, "GET", "GET / HTTP/1.1\r\nHost: shop.example\r\nForwarded: for=6.6.6.6\r\n\r\n").unwrap();
    assert!(response.head.field("via").is_some(), "{response:?}");
    let seen = origin.seen.log().pop().expect("a request");
    let forwarded = seen.all("forwarded").join(",").to_ascii_lowercase();
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("host=") && forwarded.contains("proto=http"), "{forwarded}");
    assert!(!forwarded.contains("6.6.6.6"), "{forwarded}");
    assert!(seen.field("via").is_some(), "{seen:?}");
    assert_eq!(seen.field("x-forwarded-for"), None);
    assert_eq!(seen.field("x-request-id"), None);
}

#[test]
fn routes_pick_pools_by_host_and_path() {
    let site = Site::new();
    let (web, api, admin) = (Origin::start(&site, "web"), Origin::start(&site, "api"), Origin::start(&site, "admin"));
    let listen = site.address();
    let listener = format!(
        "[listener.web]\nbind = \"{listen}\"\nprotocol = \"http\"\npool = \"web\"\n\n\
         [[listener.web.route]]\nhost = \"api.example.com\"\npath = \"/v1/\"\npool = \"api\"\n\n\
         [[listener.web.route]]\npath = \"/admin\"\npool = \"admin\"\n"
    );
    let pools = [("web", &web), ("api", &api), ("admin", &admin)].map(|(name, origin)| pool(name, &[origin.address], "")).join("\n");
    let _weir = Weir::start(&site, &format!("{listener}\n{pools}"));
    for (host, path, expected) in [
        ("api.example.com", "/v1/x", "api"),
        ("API.example.com:8080", "/v1/", "api"),
        ("api.example.com", "/v2/x", "web"),
        ("example.com", "/v1/x", "web"),
        ("api.example.com", "/admin/x", "admin"),
        ("anything", "/", "web"),
    ] {
        let response = wire::send(listen, "GET", &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(response.text(), expected, "{host} {path}");
    }
    // An absolute target names the host as well.
    let absolute = "GET http://api.example.com/v1/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    assert_eq!(wire::send(listen, "GET", absolute).unwrap().text(), "api");
}

#[test]
fn without_route_and_pool_the_answer_is_404() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\nprotocol = \"http\"\n\n[[listener.web.route]]\nhost = \"a.example\"\npool = \"one\"\n\n{}",
        pool("one", &[origin.address], "")
    );
    let _weir = Weir::start(&site, &body);
    let ask = |host: &str, accept: &str| {
        wire::send(listen, "GET", &format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n")).unwrap()
    };
    assert_eq!(ask("a.example", "*/*").status, 200);
    let json = ask("b.example", "application/json");
    assert_eq!(json.status, 404);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.body).is_ok(), "{}", json.text());
    assert_eq!(ask("b.example", "text/plain").status, 404);
}

#[test]
fn an_early_response_reaches_the_client() {
    one_origin(|_, _, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send(format!("POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n")).unwrap();
        // The answer may be there already, and the connection at its end.
        let _ = peer.send(vec![b'x'; 100_000]);
        let response = peer.response("POST").unwrap();
        assert_eq!((response.status, response.text().as_str()), (413, "early"));
    });
}

#[test]
fn spread_over_two_endpoints_both_work() {
    let site = Site::new();
    let (a, b) = (Origin::start(&site, "a"), Origin::start(&site, "b"));
    let listen = site.address();
    let _weir = Weir::start(&site, &http_site("web", listen, &[a.address, b.address], "balance = \"round-robin\""));
    let mut peer = Peer::connect(listen).unwrap();
    for _ in 0..100 {
        peer.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(peer.response("GET").unwrap().status, 200);
    }
    assert_eq!((a.requests(), b.requests()), (50, 50));
}

#[test]
fn large_bodies_arrive_whole_and_do_not_stay_in_memory() {
    one_origin(|_, _, listen, weir| {
        wire::get(listen, "/").unwrap();
        let before = resident_kib(weir.first_pid());

        for path in ["/bytes", "/chunked"] {
            let mut peer = Peer::connect(listen).unwrap();
            peer.send(format!("GET {path}/{LARGE} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
            let head = peer.head().unwrap().expect("a response");
            let mut received = Fingerprint::default();
            peer.body(head.response_framing("GET").unwrap(), &mut received).unwrap();
            assert_eq!(received, noise_fingerprint(LARGE), "{path}");
        }

        let mut noise = Noise(11);
        let block = noise.bytes(64 * 1024);
        let mut sent = Fingerprint::default();
        for chunked in [false, true] {
            let mut peer = Peer::connect(listen).unwrap();
            let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {LARGE}") };
            peer.send(format!("PUT /fingerprint HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n")).unwrap();
            sent = Fingerprint::default();
            for _ in 0..LARGE / block.len() {
                if chunked {
                    peer.send(format!("{:x}\r\n", block.len())).unwrap();
                }
                peer.send(&block).unwrap();
                if chunked {
                    peer.send("\r\n").unwrap();
                }
                sent.write_all(&block).unwrap();
            }
            if chunked {
                peer.send("0\r\n\r\n").unwrap();
            }
            assert_eq!(peer.response("PUT").unwrap().text(), format!("{sent:?}"), "chunked: {chunked}");
        }
        assert_eq!(sent.length, LARGE as u64);

        let after = resident_kib(weir.first_pid());
        assert!(after < before + GROWTH_MAX_KIB, "resident memory grew from {before} to {after} KiB");
    });
}

#[test]
fn a_client_that_does_not_read_holds_its_origin_back() {
    one_origin(|_, origin, listen, weir| {
        const HUGE: usize = 256 * 1024 * 1024;
        wire::get(listen, "/").unwrap();
        let before = resident_kib(weir.first_pid());
        let mut lazy = Peer::connect(listen).unwrap();
        lazy.send(format!("GET /bytes/{HUGE} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        // The origin is held back when it has written nothing for half a second.
        let mut last = (0, Instant::now());
        wait_until("the origin to be held back", LONG, || {
            let written = origin.seen.written.load(Ordering::SeqCst);
            if written != last.0 {
                last = (written, Instant::now());
            }
            written > 0 && last.1.elapsed() > Duration::from_millis(500)
        });
        assert!(last.0 < HUGE as u64 / 4, "{} bytes were taken from the origin for a client that reads nothing", last.0);
        let after = resident_kib(weir.first_pid());
        assert!(after < before + GROWTH_MAX_KIB, "resident memory grew from {before} to {after} KiB");
        // Others are served meanwhile.
        assert_eq!(wire::get(listen, "/").unwrap().text(), "one");
    });
}

#[test]
fn bounds_on_requests_are_kept() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = format!(
        "{}\n[listener.web.limits]\nhead_bytes_max = \"4KiB\"\nheaders_max = 10\nline_bytes_max = \"1KiB\"\nbody_bytes_max = \"1KiB\"\n\
         requests_per_connection_max = 3\n",
        http_site("web", listen, &[origin.address], "")
    );
    let _weir = Weir::start(&site, &body);
    let long = "x".repeat(2000);
    let many: String = (0..20).map(|n| format!("X-{n}: 1\r\n")).collect();
    let big: String = (0..8).map(|n| format!("X-{n}: {}\r\n", &long[..900])).collect();
    for (what, request, status) in [
        ("a long target", format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n"), 431),
        ("a long field", format!("GET / HTTP/1.1\r\nHost: test\r\nX: {long}\r\n\r\n"), 431),
        ("many fields", format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n"), 431),
        ("a big head", format!("GET / HTTP/1.1\r\nHost: test\r\n{big}\r\n"), 431),
        ("a big body", format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000\r\n\r\n{long}"), 413),
    ] {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send(&request).unwrap();
        let response = peer.response("GET").unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(response.status, status, "{what}");
        assert_eq!(peer.rest().unwrap(), b"", "{what}: closed");
        assert_eq!(origin.requests(), 0, "{what} reached the origin");
    }
    // A body whose size shows only on the way is cut off when it is too much.
    let mut peer = Peer::connect(listen).unwrap();
    peer.send(format!("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{long}\r\n0\r\n\r\n")).unwrap();
    assert_eq!(peer.response("POST").unwrap().status, 413);
    assert_eq!(origin.requests(), 0);

    let mut peer = Peer::connect(listen).unwrap();
    for number in 1..=3 {
        peer.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(peer.response("GET").unwrap().head.closes(), number == 3, "request {number}");
    }
    assert_eq!(peer.rest().unwrap(), b"");
}

#[test]
fn requests_wait_for_a_busy_endpoint_within_the_queue_timeout() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let limits = "[pool.web.limits]\nconnections_per_endpoint = 1\nqueue_max = 1\nqueue_timeout = \"10s\"\n";
    let _weir = Weir::start(&site, &http_site("web", listen, &[origin.address], limits));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| wire::get(listen, "/held"));
        wait_until("the first request to be held", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 1);
        // One of these waits, the other is too many.
        let mut second = Peer::connect(listen).unwrap();
        let mut third = Peer::connect(listen).unwrap();
        second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        third.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut early = [0];
        let turned_away = std::iter::repeat_with(|| {
            for (peer, other) in [(&second, 0), (&third, 1)] {
                peer.stream().set_nonblocking(true).unwrap();
                let came = peer.stream().peek(&mut early).is_ok();
                peer.stream().set_nonblocking(false).unwrap();
                if came {
                    return Some(other);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
            None
        })
        .take(2000)
        .flatten()
        .next()
        .expect("one of two is turned away at once");
        let (mut away, mut waiting) = if turned_away == 0 { (second, third) } else { (third, second) };
        let answer = away.response("GET").unwrap();
        assert_eq!(answer.status, 503);
        assert!(answer.head.field("retry-after").is_some(), "{answer:?}");
        origin.seen.release();
        assert_eq!(waiting.response("GET").unwrap().status, 200);
        assert_eq!(held.join().unwrap().unwrap().status, 200);
    });
}

#[test]
fn the_access_log_tells_each_request() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let path = site.path("access.log");
    let body = format!("[access_log]\npath = {path:?}\nformat = \"json\"\n\n{}", http_site("web", listen, &[origin.address], ""));
    let _weir = Weir::start(&site, &body);
    wire::send(listen, "POST", "POST /echo?q=%22\" HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nUser-Agent: \"quoted\"\r\n\r\nhi")
        .map(drop)
        .unwrap_or_default();
    wire::get(listen, "/seen").unwrap();
    let mut text = String::new();
    wait_until("the request in the log", SOON, || {
        text.clear();
        std::fs::File::open(&path).is_ok_and(|mut file| file.read_to_string(&mut text).is_ok()) && text.contains("/seen")
    });
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line.is_object());
    }
}
