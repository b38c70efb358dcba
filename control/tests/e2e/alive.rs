//! What lives long, or is remembered, through everything that is done to a node: reload, change of certificates, drain, upgrade.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::frames::{DATA, Frame, Frames, GOAWAY, HEADERS, fields};
use crate::grpc;
use crate::origin::{Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, alive, heavy, pool, wait_until, within_a_second};
use crate::wire::{self, Peer};

/// Between two turns of one of those who live long.
const PAUSE: Duration = Duration::from_millis(5);

/// Each does the same thing again and again in a thread of its own, and panics when something is lost.
#[derive(Default)]
struct Living {
    stop: Arc<AtomicBool>,
    each: Vec<(&'static str, Arc<AtomicU64>, JoinHandle<()>)>,
}

impl Living {
    fn start(&mut self, name: &'static str, mut turn: impl FnMut(u64) + Send + 'static) {
        let (stop, turns) = (Arc::clone(&self.stop), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&turns);
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                turn(counted.load(Ordering::Relaxed));
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        self.each.push((name, turns, thread));
    }

    /// Waits until each has had more turns.
    #[track_caller]
    fn go_on(&self, after: &str) {
        let before: Vec<u64> = self.each.iter().map(|(_, turns, _)| turns.load(Ordering::Relaxed)).collect();
        for ((name, turns, thread), before) in self.each.iter().zip(before) {
            wait_until(&format!("{name} to go on after {after}"), SOON, || {
                assert!(!thread.is_finished(), "{name} lost something after {after}");
                turns.load(Ordering::Relaxed) >= before + 10
            });
        }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (name, _, thread) in self.each {
            assert!(thread.join().is_ok(), "{name} lost something");
        }
    }
}

/// A WebSocket over HTTP/1.1, as far as a balancer looks at it.
fn websocket(listen: SocketAddr) -> impl FnMut(u64) + Send + 'static {
    let mut peer = Peer::connect(listen).expect("a connection");
    peer.send(
        "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .expect("it is taken");
    assert_eq!(peer.response("GET").expect("an answer").status, 101);
    move |turn| {
        peer.send(turn.to_be_bytes()).expect("it is taken");
        assert_eq!(peer.exactly(8).expect("an echo"), turn.to_be_bytes());
    }
}

/// The same in a stream of HTTP/2 (RFC 8441).
fn websocket_in_a_stream(listen: SocketAddr, scheme: &str) -> impl FnMut(u64) + Send + 'static {
    let mut client = Frames::connect(listen);
    let mut block = fields("CONNECT", "/upgrade", &[(":protocol", "websocket"), ("sec-websocket-version", "13")]);
    if scheme == "https" {
        // HPACK: the other scheme of the static table.
        block[0] = 0x87;
    }
    client.send(HEADERS, 4, 1, &block);
    client.until("an answer", |frame| frame.kind == HEADERS);
    move |turn| {
        client.send(DATA, 0, 1, &turn.to_be_bytes());
        let echo = client.until("an echo", |frame| frame.kind == DATA && !frame.payload.is_empty());
        assert_eq!(echo.payload, turn.to_be_bytes());
        for stream in [0, 1] {
            client.send(8, 0, stream, &8u32.to_be_bytes());
        }
    }
}

/// A client over HTTP/2 that does as RFC 9113 section 6.8 says: what a GOAWAY leaves out is asked again over another connection.
fn requests_over_http2(listen: SocketAddr) -> impl FnMut(u64) + Send + 'static {
    let (mut client, mut stream) = (Frames::connect(listen), 1u32);
    move |_| {
        let mut leaves = false;
        loop {
            client.send(HEADERS, 5, stream, &fields("GET", "/who", &[]));
            let is_end = |frame: &Frame| frame.stream == stream && frame.kind == DATA && frame.flags & 1 == 1;
            let frame = client.until("an answer", |frame| frame.kind == GOAWAY || is_end(frame));
            if frame.kind != GOAWAY {
                break;
            }
            let last = u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes"));
            if last >= stream {
                client.until("an answer that was promised", |frame| is_end(frame));
                leaves = true;
                break;
            }
            (client, stream) = (Frames::connect(listen), 1);
        }
        stream += 2;
        if leaves {
            (client, stream) = (Frames::connect(listen), 1);
        }
    }
}

/// One call of gRPC that streams both ways.
fn call_both_ways(listen: SocketAddr, scheme: &'static str) -> impl FnMut(u64) + Send + 'static {
    let (say, said) = mpsc::unbounded_channel();
    let (heard, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || grpc::both_ways(listen, scheme, said, &heard));
    move |turn| {
        say.send(turn.to_string().into_bytes()).expect("the call goes on");
        let echo = hear.recv_timeout(SOON).expect("an echo");
        assert_eq!(echo, format!("echo {turn}").into_bytes());
    }
}

fn datagrams(listen: SocketAddr) -> impl FnMut(u64) + Send + 'static {
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).expect("a socket");
    socket.connect(listen).expect("a peer");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    move |turn| {
        let mut buffer = [0; 64];
        wait_until("a datagram to come back", SOON, || {
            let _ = socket.send(&turn.to_be_bytes());
            matches!(socket.recv(&mut buffer), Ok(8)) && buffer[..8] == turn.to_be_bytes()
        });
    }
}

/// A client with a cookie that says where it was.
fn session(listen: SocketAddr) -> impl FnMut(u64) + Send + 'static {
    let first = wire::get(listen, "/who").expect("an answer");
    let cookie = first.head.field("set-cookie").and_then(|set| set.split(';').next()).expect("a cookie").to_owned();
    move |_| {
        let asked = format!("GET /who HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        let again = wire::send(listen, "GET", &asked).expect("an answer");
        assert_eq!((again.status, again.text()), (200, first.text()), "the same endpoint");
    }
}

fn echoes(address: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(address).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

#[test]
fn what_lives_long_outlives_every_change() {
    let _turn = heavy();
    let site = Site::new();
    let origins = ["a", "b"].map(|name| Origin::behaving(&site, name, standard()));
    let (calls, udp) = (site.address(), echoes(site.address()));
    let _calls = grpc::serve(calls);
    let [web, sticky, bounded, rpc, dns] = std::array::from_fn(|_| site.address());
    let keys = site.write("keys", &("a secret of this test".repeat(2) + "\n"));
    let both = [origins[0].address, origins[1].address];
    let text = |round: u32| {
        let listener = |name: &str, listen: SocketAddr, more: &str| {
            format!("[listener.{name}]\nbind = \"{listen}\"\npool = \"{name}\"\nconnections_max = {}\n{more}\n", 10_000 + round)
        };
        // A reload that changes every listener and every pool.
        let retries = format!("ejection = false\n[pool.NAME.limits]\nretries_max = {}\n", 1 + round % 3);
        let of =
            |name: &str, endpoints: &[SocketAddr], more: &str| pool(name, endpoints, &(more.to_owned() + &retries.replace("NAME", name)));
        [
            listener("web", web, ""),
            of("web", &both, ""),
            listener("sticky", sticky, ""),
            of("sticky", &both, ""),
            format!("[pool.sticky.session]\ntype = \"cookie\"\nkey_file = {keys:?}\n"),
            listener("bounded", bounded, "[[listener.bounded.rate_limit]]\nrequests_per_second = 1\nburst = 1\n"),
            of("bounded", &both, ""),
            listener("rpc", rpc, ""),
            of("rpc", &[calls], "upstream_protocol = \"h2\"\n"),
            listener("dns", dns, "protocol = \"udp\""),
            of("dns", &[udp], ""),
        ]
        .concat()
    };
    let weir = Weir::start(&site, &text(0));
    wait_until("the server of calls", LONG, || TcpStream::connect(calls).is_ok());
    let mut living = Living::default();
    living.start("a WebSocket", websocket(web));
    living.start("a WebSocket in a stream", websocket_in_a_stream(web, "http"));
    living.start("requests over HTTP/2", requests_over_http2(web));
    living.start("a call both ways", call_both_ways(rpc, "http"));
    living.start("a session", session(sticky));
    living.start("datagrams", datagrams(dns));
    living.go_on("the beginning");
    for round in 1..=5 {
        weir.reload(&text(round));
        living.go_on("a reload");
    }
    for origin in &origins {
        let address = origin.address.to_string();
        weir.cli_ok(&["drain", "--no-wait", "--pool", "web", &address]);
        living.go_on("a drain");
        weir.cli_ok(&["undrain", "--pool", "web", &address]);
    }
    let old = weir.pid();
    weir.cli_ok(&["upgrade"]);
    assert_ne!(weir.pid(), old);
    living.go_on("an upgrade");
    assert!(alive(old), "it serves what it has begun");
    weir.reload(&text(6));
    living.go_on("a reload after an upgrade");
    living.finish();
    wait_until("the old process to end", LONG, || !alive(old) || weir.exited().is_some());
}

/// What was counted against somebody still is after a reload that does not concern it.
#[test]
fn limits_are_not_forgotten_by_a_reload() {
    let site = Site::new();
    let (origin, listen, other) = (Origin::behaving(&site, "a", standard()), site.address(), site.address());
    let text = |round: u32| {
        format!(
            "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n[[listener.web.rate_limit]]\nrequests_per_second = 1\nburst = 1\n\
             [listener.other]\nbind = \"{other}\"\npool = \"web\"\nconnections_max = {}\n{}",
            100 + round,
            pool("web", &[origin.address], "")
        )
    };
    let weir = Weir::start(&site, &text(0));
    let mut round = 0;
    let statuses = within_a_second(|| {
        let first = wire::get(listen, "/who").expect("an answer").status;
        let others = [(); 3].map(|()| {
            round += 1;
            weir.reload(&text(round));
            wire::get(listen, "/who").expect("an answer").status
        });
        (first, others)
    });
    assert_eq!(statuses, (200, [429; 3]));
    assert_eq!(wire::get(other, "/who").expect("an answer").status, 200);
}

/// An address at which each connection is one under TLS to `listen`, whatever its certificate.
fn under_tls(listen: SocketAddr, alpn: &'static str) -> SocketAddr {
    let door = std::net::TcpListener::bind((listen.ip(), 0)).expect("an address");
    let address = door.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in door.incoming() {
            let stream = stream.expect("a connection");
            let target = listen.to_string();
            std::thread::spawn(move || {
                let [from, to] =
                    [stream.try_clone().expect("a descriptor"), stream].map(|end| Stdio::from(std::os::fd::OwnedFd::from(end)));
                let mut client = Command::new("openssl");
                client.args(["s_client", "-quiet", "-alpn", alpn, "-servername", "web.test", "-connect", &target]);
                // It ends with either end of the connection, and says nothing about how.
                let _ = client.stdin(from).stdout(to).stderr(Stdio::null()).status().expect("openssl is installed by scripts/test");
            });
        }
    });
    address
}

/// Those that were begun with a certificate go on when it is another.
#[test]
fn what_lives_long_outlives_its_certificate() {
    let _turn = heavy();
    let site = Site::new();
    crate::tls::certificate(&site, "web", "DNS:web.test");
    let (origin, calls) = (Origin::behaving(&site, "a", standard()), site.address());
    let _calls = grpc::serve(calls);
    let [web, rpc] = std::array::from_fn(|_| site.address());
    let file = site.path("web.pem");
    let listener = |name: &str, listen: SocketAddr| {
        format!("[listener.{name}]\nbind = \"{listen}\"\npool = \"{name}\"\n[[listener.{name}.tls.certificate]]\nfile = {file:?}\n")
    };
    let pools = [pool("web", &[origin.address], ""), pool("rpc", &[calls], "upstream_protocol = \"h2\"\n")].concat();
    let weir = Weir::start(&site, &(listener("web", web) + &listener("rpc", rpc) + &pools));
    wait_until("the server of calls", LONG, || TcpStream::connect(calls).is_ok());
    let mut living = Living::default();
    living.start("a WebSocket under TLS", websocket(under_tls(web, "http/1.1")));
    living.start("a WebSocket in a stream under TLS", websocket_in_a_stream(under_tls(web, "h2"), "https"));
    living.start("a call both ways under TLS", call_both_ways(under_tls(rpc, "h2"), "https"));
    living.go_on("the beginning");
    let loaded = || {
        let all = weir.api_get("/v1/events?limit=1000");
        all["events"].as_array().into_iter().flatten().filter(|event| event["event"] == "certificates_loaded").count()
    };
    for round in 1..=3 {
        crate::tls::certificate(&site, "web", "DNS:web.test");
        wait_until("the certificate to be in use", SOON, || loaded() >= round);
        living.go_on("another certificate");
    }
    living.finish();
}

#[test]
fn certificates_change_under_load_and_no_request_notices() {
    let _turn = heavy();
    let site = Site::new();
    crate::tls::certificate(&site, "web", "DNS:web.test");
    let (origin, listen) = (Origin::behaving(&site, "a", standard()), site.address());
    let file = site.path("web.pem");
    let text = |round: u32| {
        format!(
            "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\nconnections_max = {}\n[[listener.web.tls.certificate]]\nfile = {file:?}\n{}",
            1000 + round,
            pool("web", &[origin.address], "")
        )
    };
    let weir = Weir::start(&site, &text(0));
    let load = Command::new("h2load")
        .args(["-D", "9", "-c", "4", "-m", "8", "-t", "1", &format!("https://{listen}/who")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("h2load is installed by scripts/test");
    let loaded = || {
        let all = weir.api_get("/v1/events?limit=1000");
        all["events"].as_array().into_iter().flatten().filter(|event| event["event"] == "certificates_loaded").count()
    };
    for round in 1..=2 {
        crate::tls::certificate(&site, "web", "DNS:web.test");
        wait_until("the certificate to be in use", SOON, || loaded() >= round);
        weir.reload(&text(round as u32));
    }
    let output = load.wait_with_output().expect("h2load ends");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(" 0 failed, 0 errored, 0 timeout"), "{told}");
    assert!(!told.contains(" 0 succeeded"), "{told}");
}
