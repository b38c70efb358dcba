//! HTTP/2 to endpoints: nghttpd and nginx-like peers, and frames made by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::origin::{Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, heavy, http_site, wait_until};
use crate::wire::{self, Fingerprint, Noise};

/// nghttpd, which serves the files of a folder; killed at the end.
struct Nghttpd(Child);

impl Nghttpd {
    fn start(site: &Site, address: SocketAddr, tls: Option<&str>) -> Nghttpd {
        let mut command = Command::new("nghttpd");
        command.args(["-a", &address.ip().to_string(), "-d", &site.path("html").to_string_lossy(), "--echo-upload"]);
        command.args(["--trailer", "x-sum: 42"]);
        match tls {
            None => command.args(["--no-tls", &address.port().to_string()]),
            Some(name) => {
                let file = |end: &str| site.path(&format!("{name}.{end}"));
                command.arg(address.port().to_string()).arg(file("key")).arg(file("crt"))
            }
        };
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nghttpd is installed by scripts/test");
        wait_until("nghttpd to listen", SOON, || TcpStream::connect(address).is_ok());
        Nghttpd(child)
    }
}

impl Drop for Nghttpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn site_text(listen: SocketAddr, endpoint: SocketAddr, more: &str) -> String {
    http_site("web", listen, &[endpoint], &format!("upstream_protocol = \"h2\"\nejection = false\n{more}"))
}

fn files(site: &Site, noise: &[u8]) {
    std::fs::create_dir_all(site.path("html")).expect("a folder");
    std::fs::write(site.path("html/who"), "a").expect("written");
    std::fs::write(site.path("html/noise"), noise).expect("written");
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut seen = Fingerprint::default();
    seen.write_all(bytes).expect("a fingerprint takes everything");
    seen
}

fn curl(args: &[&str]) -> Vec<u8> {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "30"]).args(args).stdin(Stdio::null()).output().expect("curl is installed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn clients_of_both_versions_reach_it_in_the_clear_and_under_tls() {
    let site = Site::new();
    let noise = Noise(5).bytes(3_000_000);
    files(&site, &noise);
    crate::tls::certificate(&site, "web", "DNS:web.test");
    let (plain, secure) = (site.address(), site.address());
    let _peers = (Nghttpd::start(&site, plain, None), Nghttpd::start(&site, secure, Some("web")));
    let listen = site.address();
    let tls = format!("[pool.web.tls]\nca_file = {:?}\nserver_name = \"web.test\"\n", site.path("web.crt"));
    let health = |kind: &str| format!("[pool.web.health]\ntype = \"{kind}\"\npath = \"/who\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n");
    let weir = Weir::start(&site, &site_text(listen, plain, &health("http")));
    let body = site.path("html/noise");
    for (endpoint, more) in [(plain, health("http")), (secure, tls + &health("https"))] {
        weir.reload(&site_text(listen, endpoint, &more));
        wait_until("a good verdict", SOON, || weir.endpoint("web", endpoint)["health"] == "healthy");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let url = |path: &str| format!("http://{listen}{path}");
            assert_eq!(curl(&[version, &url("/who")]), b"a");
            assert!(curl(&[version, "-I", &url("/who")]).starts_with(b"HTTP/"), "a head alone");
            assert_eq!(fingerprint(&curl(&[version, &url("/noise")])), fingerprint(&noise), "{version}");
            let upload = format!("@{}", body.display());
            let echoed = curl(&[version, "--data-binary", &upload, "-H", "Content-Type: application/octet-stream", &url("/echo")]);
            assert_eq!(fingerprint(&echoed), fingerprint(&noise), "{version}: an upload");
            let streamed = curl(&[
                version,
                "-X",
                "POST",
                "-T",
                &body.to_string_lossy(),
                "-H",
                "Content-Length:",
                "-H",
                "Transfer-Encoding: chunked",
                &url("/echo"),
            ]);
            assert_eq!(fingerprint(&streamed), fingerprint(&noise), "{version}: an upload of unknown length");
        }
        // Trailers reach clients of both kinds, where they are welcome.
        let told = Command::new("nghttp")
            .args(["-nv", "-H", "te: trailers", &format!("http://{listen}/who")])
            .output()
            .expect("nghttp is installed");
        assert!(String::from_utf8_lossy(&told.stdout).contains("x-sum: 42"), "{}", String::from_utf8_lossy(&told.stdout));
        let response = wire::get(listen, "/who").expect("an answer");
        assert!(
            response.trailers.iter().any(|(name, value)| name == "x-sum" && value == "42")
                || response.head.field("content-length").is_some()
        );
    }
}

#[test]
fn many_requests_share_few_connections() {
    let _turn = heavy();
    let site = Site::new();
    files(&site, b"");
    let (listen, endpoint) = (site.address(), site.address());
    let _peer = Nghttpd::start(&site, endpoint, None);
    let weir = Weir::start(&site, &site_text(listen, endpoint, ""));
    let output = Command::new("h2load").args(["-n", "20000", "-c", "10", "-m", "32", "-t", "1", &format!("http://{listen}/who")]).output();
    let text = String::from_utf8_lossy(&output.expect("h2load is installed").stdout).into_owned();
    assert!(text.contains("20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("status codes: 20000 2xx"), "{text}");
    let connects =
        weir.endpoint("web", endpoint)["totals"]["connects"].as_u64().or(weir.endpoint("web", endpoint)["connects_total"].as_u64());
    assert!(connects.is_some_and(|count| count <= 16), "{}", weir.endpoint("web", endpoint));
}

#[test]
fn what_speaks_no_http2_is_told_apart() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "a", standard());
    let listen = site.address();
    let weir = Weir::start(&site, &site_text(listen, origin.address, ""));
    assert_eq!(wire::get(listen, "/").expect("an answer").status, 502);
    wait_until("the reason", SOON, || weir.log().contains("it does not speak HTTP/2"));
    // A request that HTTP/2 has no form for is the client's fault.
    files(&site, b"");
    let endpoint = site.address();
    let _peer = Nghttpd::start(&site, endpoint, None);
    weir.reload(&site_text(listen, endpoint, ""));
    let refused = wire::send(listen, "GET", "GET /who HTTP/1.1\r\nhost: a%41.test\r\n\r\n").expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(wire::get(listen, "/<>?`").expect("an answer").status, 404, "encoded, and not there");
}

const SETTINGS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a server made by hand does with a request: its connection's number, its stream, and how many requests came on the connection before.
type Reaction = Arc<dyn Fn(u32, u32, u32) -> Vec<u8> + Send + Sync>;

/// A server that answers each HEADERS frame with the bytes it is told.
struct ByHand {
    address: SocketAddr,
    requests: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    /// Payloads of all DATA frames.
    data: Arc<Mutex<Vec<u8>>>,
}

impl ByHand {
    fn start(site: &Site, reaction: Reaction) -> ByHand {
        let address = site.address();
        let listener = TcpListener::bind(address).expect("a free address");
        let server = ByHand { address, requests: Arc::default(), connections: Arc::default(), data: Arc::default() };
        let (requests, connections, data) = (Arc::clone(&server.requests), Arc::clone(&server.connections), Arc::clone(&server.data));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (requests, data, reaction) = (Arc::clone(&requests), Arc::clone(&data), Arc::clone(&reaction));
                let number = connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let mut preface = [0; 24];
                    let _ = stream.read_exact(&mut preface);
                    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
                    let mut before = 0;
                    let mut head = [0; 9];
                    while stream.read_exact(&mut head).is_ok() {
                        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                        if stream.read_exact(&mut payload).is_err() {
                            return;
                        }
                        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                        match (head[3], head[4] & 1) {
                            (0, _) => data.lock().expect("not poisoned").extend(payload),
                            (1, _) => {
                                requests.fetch_add(1, Ordering::SeqCst);
                                let _ = stream.write_all(&reaction(number, id, before));
                                before += 1;
                            }
                            (SETTINGS, 0) => drop(stream.write_all(&frame(SETTINGS, 1, 0, &[]))),
                            (6, 0) => drop(stream.write_all(&frame(6, 1, 0, &payload))),
                            _ => {}
                        }
                    }
                });
            }
        });
        server
    }
}

/// `:status 200`, and a body of one byte.
fn fine(stream: u32) -> Vec<u8> {
    [frame(1, 4, stream, &[0x88]), frame(0, 1, stream, b"y")].concat()
}

fn post(listen: SocketAddr) -> wire::Response {
    wire::send(listen, "POST", "POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: 5\r\n\r\nhello").expect("an answer")
}

#[test]
fn a_request_that_was_refused_unseen_is_sent_again() {
    let site = Site::new();
    let listen = site.address();
    // RST_STREAM with REFUSED_STREAM for the first request of all (RFC 9113 section 8.7).
    let first = Arc::new(AtomicU32::new(0));
    let refuse: Reaction = Arc::new(move |_, stream, _| match first.fetch_add(1, Ordering::SeqCst) {
        0 => frame(3, 0, stream, &7u32.to_be_bytes()),
        _ => fine(stream),
    });
    let server = ByHand::start(&site, refuse);
    let weir = Weir::start(&site, &site_text(listen, server.address, ""));
    let response = post(listen);
    assert_eq!((response.status, response.text().as_str()), (200, "y"));
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);
    assert!(server.data.lock().expect("not poisoned").ends_with(b"hello"), "with its body");
    // GOAWAY that names an earlier stream (RFC 9113 section 6.8): the request goes to another connection.
    let leave: Reaction = Arc::new(|connection, stream, before| match (connection, before) {
        (0 | 1, 1) => frame(7, 0, 0, &[(stream - 2).to_be_bytes(), 0u32.to_be_bytes()].concat()),
        _ => fine(stream),
    });
    let server = ByHand::start(&site, leave);
    weir.reload(&site_text(listen, server.address, ""));
    for _ in 0..8 {
        assert_eq!(post(listen).status, 200);
    }
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
    // What may have been looked at is not sent again, unless it is idempotent.
    let cancel: Reaction = Arc::new(|_, stream, _| frame(3, 0, stream, &8u32.to_be_bytes()));
    let server = ByHand::start(&site, cancel);
    weir.reload(&site_text(listen, server.address, ""));
    assert_eq!(post(listen).status, 502);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    assert_eq!(wire::get(listen, "/").expect("an answer").status, 502);
    assert!(server.requests.load(Ordering::SeqCst) >= 3, "a GET is");
}

#[test]
fn an_endpoint_that_breaks_the_rules_is_blamed_and_nobody_else_hurt() {
    let site = Site::new();
    let listen = site.address();
    let table: [(&str, Reaction); 4] = [
        (
            "a field of the connection",
            Arc::new(|_, stream, _| frame(1, 4, stream, &[&[0x88, 0, 10][..], b"connection", &[5], b"close"].concat())),
        ),
        ("no status", Arc::new(|_, stream, _| frame(1, 5, stream, &[0, 1, b'x', 1, b'y']))),
        (
            "less than it said",
            Arc::new(|_, stream, _| {
                [frame(1, 4, stream, &[&[0x88, 0, 14][..], b"content-length", &[1], b"9"].concat()), frame(0, 1, stream, b"y")].concat()
            }),
        ),
        ("a frame of a stream that is not there", Arc::new(|_, _, _| frame(0, 1, 99, b"y"))),
    ];
    let weir = Weir::start(&site, "");
    for (what, reaction) in table {
        let server = ByHand::start(&site, reaction);
        weir.reload(&site_text(listen, server.address, ""));
        match wire::get(listen, "/") {
            Ok(response) => assert_eq!(response.status, 502, "{what}: {}", response.text()),
            // The head was on its way already: then the client sees that the body is not whole.
            Err(error) => assert_eq!(what, "less than it said", "{error}"),
        }
    }
}

#[test]
fn what_is_idle_for_too_long_is_closed() {
    let site = Site::new();
    files(&site, b"");
    let (listen, endpoint) = (site.address(), site.address());
    let _peer = Nghttpd::start(&site, endpoint, None);
    let _weir = Weir::start(&site, &site_text(listen, endpoint, "[pool.web.timeouts]\nkeep_alive = \"500ms\"\n"));
    assert_eq!(wire::get(listen, "/who").expect("an answer").status, 200);
    // Idle for longer than it is kept.
    let open = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists sockets");
        let std::net::IpAddr::V4(ip) = endpoint.ip() else { return 0 };
        let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), endpoint.port());
        table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote) && line.split_whitespace().nth(3) == Some("01")).count()
    };
    wait_until("the connection to be closed", LONG, || open() == 0);
    assert_eq!(wire::get(listen, "/who").expect("an answer").status, 200);
}
