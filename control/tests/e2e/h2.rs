//! HTTP/2 with real clients (curl, nghttp, h2load) and with frames made by hand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::frames::{DATA, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, fields};
use crate::origin::{Origin, noise_fingerprint, standard};
use crate::rig::{LONG, SOON, Site, Weir, heavy, http_site, pool, wait_until};
use crate::wire::{self, Fingerprint};

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}, which scripts/test installs: {error}"))
}

#[track_caller]
fn curl(args: &[&str]) -> String {
    let output = run("curl", &[&["-sS", "--max-time", "20", "--http2-prior-knowledge"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn given_up(weir: &Weir<'_>, reason: &str) -> u64 {
    let line = format!("weir_listener_http2_given_up_total{{listener=\"web\",reason=\"{reason}\"}}");
    let text = wire::get(weir.api(), "/metrics").expect("metrics").text();
    text.lines().find_map(|l| l.strip_prefix(&line)).expect("the counter").trim().parse().expect("a number")
}

#[test]
fn ordinary_clients_are_served() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let url = |path: &str| format!("http://{address}{path}");

    let echoed = curl(&["-i", "--data-binary", "hello", "-H", "Cookie: a=1", "-H", "te: trailers", &url("/echo?x=%20y")]);
    assert!(echoed.starts_with("HTTP/2 200"), "{echoed}");
    for expected in ["POST /echo?x=%20y HTTP/1.1\n", "host: 127.", "cookie: a=1\n", "\nhello\n", "X-Forwarded-Proto: http\n"] {
        assert!(echoed.to_lowercase().contains(&expected.to_lowercase()), "no {expected:?} in {echoed}");
    }
    for hop in ["connection: keep-alive", "keep-alive:", "transfer-encoding: gzip"] {
        assert!(!echoed.to_lowercase().contains(hop), "{echoed}");
    }
    // Heads without bodies; statuses; a body of unknown length; one that ends by close.
    assert!(curl(&["-I", &url("/who")]).contains("content-length: 1"));
    assert!(curl(&["-i", &url("/204")]).starts_with("HTTP/2 204"));
    assert!(curl(&["-i", &url("/304")]).starts_with("HTTP/2 304"));
    assert_eq!(curl(&[&url("/until-close")]), "until the end");
    assert!(!curl(&["-i", &url("/hop")]).contains("x-hop"));
    for kind in ["bytes", "chunked"] {
        let output = run("curl", &["-sS", "--max-time", "30", "--http2-prior-knowledge", &url(&format!("/{kind}/3000000"))]);
        let mut seen = Fingerprint::default();
        seen.write_all(&output.stdout).expect("a fingerprint takes everything");
        assert_eq!(seen, noise_fingerprint(3_000_000), "{kind}");
    }
    // A long upload with and without a length.
    let body = vec![b'x'; 2_000_000];
    site.write("body", &String::from_utf8(body.clone()).expect("ASCII"));
    let mut sent = Fingerprint::default();
    sent.write_all(&body).expect("a fingerprint takes everything");
    let from = format!("@{}", site.path("body").display());
    for more in [&[][..], &["-H", "Expect: 100-continue"], &["-H", "Content-Length:", "-X", "POST"]] {
        assert_eq!(curl(&[&["--data-binary", &from], more, &[&url("/fingerprint")]].concat()), format!("{sent:?}"), "{more:?}");
    }
    // Trailers reach the client; an answer before the request's end does too.
    let told = run("nghttp", &["-nv", &url("/trailers")]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("x-sum: 42"), "{}", String::from_utf8_lossy(&told.stdout));
    assert_eq!(given_up(&weir, "protocol"), 0);
}

#[test]
fn under_tls_it_is_agreed_on_unless_switched_off() {
    let site = Site::new();
    crate::tls::certificate(&site, "web", "DNS:web.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let text = |http2: &str| {
        let file = site.path("web.pem");
        format!(
            "[node]\naccess_log = \"{}\"\n[listener.web]\nbind = \"{address}\"\npool = \"web\"\n{http2}\n\
             [[listener.web.tls.certificate]]\nfile = {file:?}\n{}",
            site.path("access.log").display(),
            pool("web", &[origin.address], "")
        )
        .replace("[node]\naccess_log", "# access_log")
    };
    let weir = Weir::start(&site, &text(""));
    let resolve = format!("web.test:{}:{}", address.port(), address.ip());
    let url = format!("https://web.test:{}/echo", address.port());
    let ask = |more: &[&str]| {
        let output = run("curl", &[&["-sSik", "--max-time", "10", "--resolve", &resolve, &url], more].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let echoed = ask(&[]);
    assert!(echoed.starts_with("HTTP/2 200") && echoed.contains("X-Forwarded-Proto: https"), "{echoed}");
    assert!(ask(&["--http1.1"]).starts_with("HTTP/1.1 200"));
    weir.reload(&text("http2 = false"));
    assert!(ask(&[]).starts_with("HTTP/1.1 200"));
    // Without TLS likewise: the preface is then a request like any other bad one.
    weir.reload(&http_site("web", address, &[origin.address], "").replacen("pool =", "http2 = false\npool =", 1));
    let mut peer = TcpStream::connect(address).expect("a connection");
    peer.write_all(PREFACE).expect("the preface");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn many_streams_of_many_clients_are_served() {
    let _turn = heavy();
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let _weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let output = run("h2load", &["-n", "20000", "-c", "10", "-m", "32", "-t", "1", &format!("http://{address}/bytes/100")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("status codes: 20000 2xx"), "{text}");
}

#[test]
fn a_websocket_runs_in_a_stream() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let mut client = Frames::connect(address);
    let settings = client.until("its settings", |frame| frame.kind == SETTINGS && frame.flags == 0);
    // RFC 8441 section 3.
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "{settings:?}");
    client.send(HEADERS, 4, 1, &fields("CONNECT", "/upgrade", &[(":protocol", "websocket"), ("sec-websocket-version", "13")]));
    let head = client.until("an answer", |frame| frame.kind == HEADERS && frame.stream == 1);
    assert_eq!((head.flags & 1, head.payload[0]), (0, 0x88), "a 200 that does not end the stream: {head:?}");
    for word in ["one", "two and more"] {
        client.send(DATA, 0, 1, word.as_bytes());
        let echo = client.until("the echo", |frame| frame.kind == DATA && !frame.payload.is_empty());
        assert_eq!(echo.payload, word.as_bytes());
    }
    client.send(DATA, 1, 1, &[]);
    let bye = client.until("the last word", |frame| frame.kind == DATA && !frame.payload.is_empty());
    assert_eq!(bye.payload, b"bye");
    // With the last word, if the endpoint said both at once.
    if bye.flags & 1 == 0 {
        client.until("the end of the stream", |frame| frame.kind == DATA && frame.flags & 1 == 1);
    }
    // Another stream of the same connection is none the worse; a CONNECT of another kind is refused.
    client.send(HEADERS, 5, 3, &fields("GET", "/who", &[]));
    client.until("a second answer", |frame| frame.kind == DATA && frame.stream == 3 && frame.payload == b"a");
    client.send(HEADERS, 4, 5, &fields("CONNECT", "/upgrade", &[(":protocol", "connect-ip")]));
    client.until("a reset", |frame| frame.kind == RST_STREAM && frame.stream == 5);
    assert_eq!(given_up(&weir, "protocol"), 0);
}

#[test]
fn what_http1_would_refuse_is_refused() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let _weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let refused = |method: &str, path: &str, more: &[(&str, &str)]| {
        let mut client = Frames::connect(address);
        client.send(HEADERS, 5, 1, &fields(method, path, more));
        let end = client.until("its end", |frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
        // Answered with 400 (index 12 of the static table), or the stream is reset, or the connection is over.
        assert!(end.kind != HEADERS || end.payload[0] == 0x8c, "{method} {path} {more:?}: {end:?}");
    };
    refused("GET", "/a b", &[]);
    refused("GET", "/a\r\nx: y", &[]);
    refused("GET", "/", &[("host", "other.test")]);
    refused("GET", "/", &[("x", "a\r\nb: c")]);
    refused("GET", "/", &[("transfer-encoding", "chunked")]);
    refused("GET", "/", &[("connection", "x")]);
    refused("GET", "/", &[("content-length", "5")]);
    refused("GET", "/", &[("content-length", "0"), ("content-length", "1")]);
    refused("GET", "/", &[("te", "gzip")]);
    refused("GET", "/", &[("Upper", "x")]);
    refused("GE T", "/", &[]);
    refused("CONNECT", "/", &[]);
    assert!(
        origin.seen.log().iter().all(|head| head.first.starts_with("GET /health") || head.first.starts_with("GET /hz")),
        "nothing got through"
    );
}

#[test]
fn an_early_answer_ends_the_upload_and_not_the_connection() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let _weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let mut client = Frames::connect(address);
    client.send(HEADERS, 4, 1, &fields("POST", "/early", &[]));
    client.send(DATA, 0, 1, &[b'x'; 16_000]);
    client.until("the answer's end", |frame| frame.kind == DATA && frame.stream == 1 && frame.flags & 1 == 1);
    let reset = client.until("the stop", |frame| frame.kind == RST_STREAM && frame.stream == 1);
    // NO_ERROR (RFC 9113 section 8.1): the answer stands.
    assert_eq!(reset.payload, [0; 4]);
    client.send(HEADERS, 5, 3, &fields("GET", "/who", &[]));
    client.until("the next answer", |frame| frame.kind == DATA && frame.stream == 3 && frame.payload == b"a");
}

/// Sends such frames until the connection is ended.
fn flood(client: &mut Frames, reason: &str, frame: impl Fn(u32) -> Vec<u8>) {
    let deadline = Instant::now() + LONG;
    let taken = (0..).take_while(|n| client.0.write_all(&frame(*n)).is_ok());
    for n in taken {
        assert!(Instant::now() < deadline, "{reason}: {n} were taken");
    }
}

#[test]
fn floods_end_the_connection_and_touch_nobody_else() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let mut bystander = Frames::connect(address);
    type Nth = Box<dyn Fn(u32) -> Vec<u8>>;
    let table: [(&str, Nth); 3] = [
        (
            "resets",
            Box::new(|n| {
                let opened = Frames::bytes(HEADERS, 5, n * 2 + 1, &fields("GET", "/who", &[]));
                [opened, Frames::bytes(RST_STREAM, 0, n * 2 + 1, &8u32.to_be_bytes())].concat()
            }),
        ),
        ("settings", Box::new(|_| Frames::bytes(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]))),
        ("pings", Box::new(|_| Frames::bytes(PING, 0, 0, &[7; 8]))),
    ];
    for (reason, frame) in table {
        let mut client = Frames::connect(address);
        flood(&mut client, reason, frame);
        wait_until(&format!("{reason} to be counted"), SOON, || given_up(&weir, reason) == 1);
    }
    // A head that never ends.
    let mut client = Frames::connect(address);
    client.send(HEADERS, 1, 1, &fields("GET", "/who", &[]));
    flood(&mut client, "continuations", |_| Frames::bytes(9, 0, 1, &fields("GET", "/", &[("x", "y")])[30..]));
    wait_until("continuations to be counted", SOON, || given_up(&weir, "continuations") == 1);
    bystander.send(HEADERS, 5, 1, &fields("GET", "/who", &[]));
    bystander.until("an answer", |frame| frame.kind == DATA && frame.payload == b"a");
}

#[test]
fn a_stream_that_the_client_resets_lets_the_endpoint_go() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let mut client = Frames::connect(address);
    client.send(HEADERS, 5, 1, &fields("GET", "/held", &[]));
    let in_flight = || weir.endpoint("web", origin.address)["open"]["requests"].as_u64();
    wait_until("the request to be under way", SOON, || in_flight() == Some(1));
    client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    wait_until("it to be given up", SOON, || in_flight() == Some(0));
    origin.seen.release();
    client.send(HEADERS, 5, 3, &fields("GET", "/who", &[]));
    client.until("the next answer", |frame| frame.kind == DATA && frame.stream == 3 && frame.payload == b"a");
}

#[test]
fn a_drain_says_goodbye_and_finishes_what_is_under_way() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let (mut busy, mut idle) = (Frames::connect(address), Frames::connect(address));
    busy.send(HEADERS, 5, 1, &fields("GET", "/held", &[]));
    idle.send(HEADERS, 5, 1, &fields("GET", "/who", &[]));
    idle.until("an answer", |frame| frame.kind == DATA && frame.payload == b"a");
    let in_flight = || weir.endpoint("web", origin.address)["open"]["requests"].as_u64();
    wait_until("the request to be under way", SOON, || in_flight() == Some(1));
    weir.signal(weir.pid(), Signal::TERM);
    idle.until("a goodbye", |frame| frame.kind == GOAWAY);
    busy.until("a goodbye", |frame| frame.kind == GOAWAY);
    origin.seen.release();
    busy.until("the answer all the same", |frame| frame.kind == DATA && frame.stream == 1 && frame.payload == b"a");
    wait_until("the process to end", LONG, || weir.exited().is_some());
}

/// A client that takes nothing of what it asked for holds nobody else up, and is given up.
#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let text = http_site("web", address, &[origin.address], "") + "[listener.web.timeouts]\nidle = \"1s\"\n";
    let weir = Weir::start(&site, &text);
    let before = crate::rig::resident_kib(weir.pid());
    let mut slow: Vec<Frames> = (0..20).map(|_| Frames::connect(address)).collect();
    for client in &mut slow {
        // Windows that let everything come, so that it is the socket that fills.
        client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        client.send(8, 0, 0, &0x7000_0000u32.to_be_bytes());
        client.send(HEADERS, 5, 1, &fields("GET", "/bytes/50000000", &[]));
    }
    let mut bystander = Frames::connect(address);
    bystander.send(HEADERS, 5, 1, &fields("GET", "/who", &[]));
    bystander.until("an answer", |frame| frame.kind == DATA && frame.payload == b"a");
    wait_until("all of them to be given up", LONG, || given_up(&weir, "stalled") == 20);
    let grown = crate::rig::resident_kib(weir.pid()).saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB for twenty that read nothing");
}
