//! The UDP listener: datagrams reach one endpoint and come back, through reload, drain and upgrade.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::{LONG, SOON, STATUS_PATH, Site, Weir, pool, wait_until};
use crate::wire;

/// Answers every datagram with its own port before it.
fn origin(address: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = [&address.port().to_be_bytes(), &buffer[..length]].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn site(listen: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    format!("[listener.dns]\nbind = \"{listen}\"\nprotocol = \"udp\"\npool = \"dns\"\n\n{}", pool("dns", endpoints, more))
}

fn client(listen: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).unwrap();
    socket.connect(listen).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Asks until it is answered, as a client of a lossy network does. The port of who answered.
#[track_caller]
fn ask(socket: &UdpSocket, text: &[u8]) -> u16 {
    let mut buffer = vec![0; 65_536];
    let mut port = 0;
    wait_until("an answer", SOON, || {
        let _ = socket.send(text);
        let Ok(length) = socket.recv(&mut buffer) else { return false };
        port = u16::from_be_bytes([buffer[0], buffer[1]]);
        &buffer[2..length] == text
    });
    port
}

/// Does it while the flow goes on talking: quiet for two seconds, it is over for a listener that ends.
fn talking(flow: &UdpSocket, work: impl FnOnce()) {
    let flow = flow.try_clone().unwrap();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                let _ = flow.send(b"still");
            }
        });
        // Dropped also when it fails.
        let _end = end;
        work();
    });
}

#[test]
fn a_flow_stays_where_it_is_and_flows_are_spread() {
    let place = Site::new();
    let (listen, a, b) = (place.address(), origin(place.address()), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[a, b], "balance = \"round-robin\""));
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(listen)).collect();
    let ports: Vec<u16> = clients.iter().map(|client| ask(client, b"hello")).collect();
    for address in [a, b] {
        assert!(ports.iter().filter(|port| **port == address.port()).count() >= 5, "{ports:?}");
    }
    for size in [0, 1, 64, 1400, 9000, 60_000] {
        for (client, port) in clients.iter().zip(&ports) {
            assert_eq!(ask(client, &vec![7; size]), *port);
        }
    }
    // A reload that has nothing to do with them.
    weir.reload(&site(listen, &[a, b], "balance = \"random\""));
    for (client, port) in clients.iter().zip(&ports) {
        assert_eq!(ask(client, b"again"), *port);
    }
    // An endpoint leaves: its flows stay until their time is up.
    let drained = format!("{}\n[listener.dns.timeouts]\nflow_drain = \"300ms\"\n", site(listen, &[b], ""));
    weir.reload(&drained);
    for client in &clients {
        wait_until("the flow to move", SOON, || ask(client, b"moved?") == b.port());
    }
    assert_eq!(weir.api_get(STATUS_PATH)["listeners"][0]["protocol"], "udp");
}

#[test]
fn an_upgrade_takes_the_sockets_over() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[a], ""));
    let before = weir.pid();
    let client = client(listen);
    assert_eq!(ask(&client, b"before"), a.port());
    weir.cli_ok(&["upgrade"]);
    wait_until("the new process", LONG, || weir.ready() && weir.pid() != before);
    assert_eq!(ask(&client, b"after"), a.port());
    wait_until("the old process to end", LONG, || weir.exited().is_some());
    assert_eq!(ask(&client, b"long after"), a.port());
}

#[test]
fn many_sources_cost_no_more_than_the_cap() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let text = site(listen, &[a], "").replacen("pool =", "connections_max = 50\npool =", 1);
    let weir = Weir::start(&place, &text);
    for _ in 0..1000 {
        client(listen).send(b"x").unwrap();
    }
    assert!(weir.endpoint("dns", a)["open"]["sessions"].as_u64().unwrap() <= 50);
    // Who comes later gets a place once others have been quiet.
    assert_eq!(ask(&client(listen), b"later"), a.port());
}

/// A number of `/metrics`.
#[track_caller]
fn metric(weir: &Weir<'_>, series: &str) -> u64 {
    let text = wire::get(weir.api(), "/metrics").unwrap().text().to_string();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

#[test]
fn what_happens_is_counted() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let timeouts = "\n[listener.dns.timeouts]\nflow = \"300ms\"\n";
    let weir = Weir::start(&place, &format!("{}{timeouts}", site(listen, &[a], "")));
    let client = client(listen);
    for _ in 0..10 {
        ask(&client, b"hello");
    }
    let datagrams = |way: &str| metric(&weir, &format!("weir_udp_datagrams_total{{listener=\"dns\",way=\"{way}\"}}"));
    for way in ["from-client", "to-endpoint", "from-endpoint", "to-client"] {
        wait_until(way, SOON, || datagrams(way) >= 10);
    }
    wait_until("the flow to end by its idle time", SOON, || {
        metric(&weir, "weir_udp_flows_ended_total{listener=\"dns\",cause=\"idle\"}") >= 1
            && metric(&weir, "weir_udp_flows_open{listener=\"dns\"}") == 0
    });
    weir.reload(&site(listen, &[], ""));
    wait_until("a datagram without an endpoint to be counted", SOON, || {
        client.send(b"nobody").unwrap();
        metric(&weir, "weir_udp_datagrams_dropped_total{listener=\"dns\",cause=\"no-endpoint\"}") >= 1
    });
}

#[test]
fn an_endpoint_that_refuses_is_left_at_once() {
    let place = Site::new();
    let (listen, nobody, a) = (place.address(), place.address(), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[nobody, a], "balance = \"round-robin\""));
    for _ in 0..10 {
        assert_eq!(ask(&client(listen), b"hello"), a.port());
    }
    assert!(metric(&weir, "weir_udp_flows_ended_total{listener=\"dns\",cause=\"refused\"}") >= 1);
}

#[test]
fn maglev_sends_a_source_where_it_was_whatever_its_port() {
    let place = Site::new();
    let listen = place.address();
    let endpoints: Vec<SocketAddr> = (0..5).map(|_| origin(place.address())).collect();
    let text = site(listen, &endpoints, "balance = \"maglev\"\nhash = { key = \"source\", load_bound = 0 }");
    let _weir = Weir::start(&place, &text);
    let from = |last: u8| {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 77, 3, last], 0))).unwrap();
        socket.connect(listen).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    };
    let mut used = std::collections::BTreeSet::new();
    for last in 1..=20 {
        let port = ask(&from(last), b"one");
        assert_eq!(ask(&from(last), b"two"), port);
        used.insert(port);
    }
    assert!(used.len() > 2, "20 sources over 5 endpoints: {used:?}");
}

#[test]
fn a_removed_listener_serves_the_flows_it_has_and_its_address_can_be_given_away() {
    let place = Site::new();
    let (listen, other, a, b) = (place.address(), place.address(), origin(place.address()), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[a], ""));
    let old = client(listen);
    assert_eq!(ask(&old, b"before"), a.port());
    talking(&old, || weir.reload(&site(other, &[a], "")));
    // A flow that keeps talking is served on; nobody new is, once all workers have stopped.
    wait_until("nobody to serve new clients", SOON, || {
        let new = client(listen);
        new.send(b"too late").unwrap();
        assert_eq!(ask(&old, b"still"), a.port());
        new.recv(&mut [0; 64]).is_err()
    });
    // The address is wanted again while the old flow lives, by another listener.
    let text = site(other, &[a], "")
        + &format!("[listener.again]\nbind = \"{listen}\"\nprotocol = \"udp\"\npool = \"again\"\n{}", pool("again", &[b], ""));
    talking(&old, || weir.reload(&text));
    for _ in 0..20 {
        assert_eq!(ask(&client(listen), b"new"), b.port(), "clients must not end at the old socket");
    }
    assert_eq!(ask(&old, b"moved"), b.port());
}

#[test]
fn a_stop_waits_for_flows_that_talk_and_not_for_quiet_ones() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let weir = Weir::start(&place, &format!("{}\n[listener.dns.timeouts]\nflow_drain = \"10s\"\n", site(listen, &[a], "")));
    let (quiet, talking) = (client(listen), client(listen));
    ask(&quiet, b"hello");
    ask(&talking, b"hello");
    weir.signal(weir.first_pid(), Signal::TERM);
    let began = std::time::Instant::now();
    // Longer than a quiet flow is waited for.
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(ask(&talking, b"still here"), a.port());
        assert!(weir.exited().is_none(), "ended while a client still talks");
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_until("the process to end once it is quiet", SOON, || weir.exited().is_some());
}

/// A server that ends with the test, also when that fails.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A real DNS server and a real client, with answers that are larger than a datagram of the old days.
#[test]
fn dns_with_dnsmasq_and_dig() {
    let place = Site::new();
    let (listen, a) = (place.address(), place.address());
    let records: Vec<String> = (0..40).map(|i| format!("--txt-record=big.test,{i:02}{}", "x".repeat(60))).collect();
    let dnsmasq = std::process::Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null", "--pid-file="])
        .args([format!("--listen-address={}", a.ip()), format!("--port={}", a.port())])
        .args(["--address=/www.test/192.0.2.7", "--edns-packet-max=4096"])
        .args(records)
        .stdin(std::process::Stdio::null())
        .spawn()
        .expect("dnsmasq is installed by scripts/test");
    let _dnsmasq = Server(dnsmasq);
    let weir = Weir::start(&place, &site(listen, &[a], ""));
    let dig = |extra: &[&str]| {
        let output = std::process::Command::new("dig")
            .args([format!("@{}", listen.ip()), format!("-p{}", listen.port())])
            .args(["+tries=5", "+time=2", "+ignore", "+short"])
            .args(extra)
            .output()
            .expect("dig is installed by scripts/test");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut answer = String::new();
    wait_until("an answer", SOON, || {
        answer = dig(&["www.test", "A"]);
        answer.trim() == "192.0.2.7"
    });
    let big = dig(&["+bufsize=4096", "big.test", "TXT"]);
    assert_eq!(big.lines().count(), 40, "{big}");
    wait_until("both to be counted", SOON, || metric(&weir, "weir_udp_datagrams_total{listener=\"dns\",way=\"to-client\"}") >= 2);
}

/// QUIC passed on unread: a server and a client of aioquic, whose connection goes on through reloads.
#[test]
fn quic_with_aioquic() {
    let place = Site::new();
    // No authority of its own: a certificate that a client of QUIC believes must not be one.
    for args in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web.test -keyout web.key -out web.csr",
    ] {
        crate::tls::openssl(&place, args);
    }
    place.write("names", "subjectAltName = DNS:web.test\n");
    crate::tls::openssl(&place, "x509 -req -in web.csr -CA ca.crt -CAkey ca.key -set_serial 0x1f -days 30 -extfile names -out web.crt");
    let (listen, server) = (place.address(), place.address());
    let file = |name: &str| place.path(name).to_string_lossy().into_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = |args: &[&str]| {
        let mut command = Command::new("/usr/bin/python3");
        // Where `scripts/test` puts what Debian has no package for.
        command.env("PYTHONPATH", root.join("../target/test-tools/python")).arg(root.join("tests/e2e/quic_peer.py"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("starting python")
    };
    let mut serving = python(&["serve", &server.to_string(), &file("web.crt"), &file("web.key")]);
    let mut ready = String::new();
    BufReader::new(serving.stdout.take().expect("piped")).read_line(&mut ready).expect("it says so");
    assert_eq!(ready.trim(), "ready");
    let weir = Weir::start(&place, &site(listen, &[server], ""));
    let mut calling = python(&["call", &listen.to_string(), &file("ca.crt"), "60"]);
    let mut told = 0;
    for line in BufReader::new(calling.stdout.take().expect("piped")).lines() {
        let line = line.expect("a line");
        if line == "ok" {
            told = 1_000;
        } else if told % 20 == 10 {
            weir.reload(&site(listen, &[server], &format!("slow_start = \"{}s\"", told + 1)));
        }
        told += 1;
    }
    let _ = serving.kill();
    let _ = serving.wait();
    assert!(calling.wait().expect("it ends").success() && told > 1_000, "{told}");
}
