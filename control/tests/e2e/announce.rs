//! Who the client is behind proxies: the PROXY protocol with real HAProxy, nginx and curl at the other end, and `X-Forwarded-For`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};

use crate::origin::{self, Origin, standard};
use crate::rig::{SOON, Site, Weir, health, http_site, pool, wait_until, within_a_second};
use crate::tls::certificate;
use crate::wire::{self, Peer};

/// A client's address that is nobody else's.
const CLIENT: &str = "127.9.8.7";

/// A program that is ended with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real HAProxy with these sections.
pub(crate) fn haproxy(site: &Site, name: &str, listens: SocketAddr, sections: &str) -> Running {
    let defaults = "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n";
    let file = site.write(&format!("{name}.cfg"), &format!("{defaults}{sections}\n"));
    let mut command = Command::new("haproxy");
    command.args(["-q", "-db", "-f"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().expect("starting haproxy; scripts/test installs it"));
    wait_until("haproxy to listen", SOON, || std::net::TcpStream::connect(listens).is_ok());
    running
}

fn curl(args: &[&str]) -> Output {
    Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).output().expect("curl is installed")
}

/// What curl gets.
#[track_caller]
fn fetched(args: &[&str]) -> String {
    let output = curl(args);
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn trusting(listener: &str, who: &str) -> String {
    format!("[listener.{listener}.proxy_protocol]\ntrusted = [\"{who}\"]\n")
}

#[track_caller]
fn ended(weir: &Weir<'_>, listener: &str, cause: &str) -> f64 {
    let text = wire::get(weir.api(), "/metrics").expect("metrics").text();
    let line = text.lines().find(|line| line.contains(&format!("listener=\"{listener}\"")) && line.contains(&format!("\"{cause}\"")));
    let line = line.unwrap_or_else(|| panic!("no {cause} of {listener} in\n{text}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// HAProxy announces its client on plain, TLS and TCP listeners; it is what the endpoint hears of, and what is logged.
#[test]
fn haproxy_announces_its_clients() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (web, echo) = (Origin::behaving(&site, "web", standard()), Origin::behaving(&site, "echo", origin::tcp_echo()));
    let [plain, secure, raw, from_plain, from_secure, from_raw, proxy] = std::array::from_fn(|_| site.address());
    let ip = proxy.ip();
    let log = site.path("access.log");
    let body = format!(
        "[access_log]\npath = {log:?}\n[listener.web]\nbind = \"{plain}\"\npool = \"web\"\ndeny = [\"127.6.6.6\"]\n{}\
         [listener.secure]\nbind = \"{secure}\"\npool = \"web\"\n{}[listener.secure.tls]\n[[listener.secure.tls.certificate]]\nfile = {:?}\n\
         [listener.raw]\nbind = \"{raw}\"\nprotocol = \"tcp\"\npool = \"raw\"\n{}{}{}",
        trusting("web", &ip.to_string()),
        trusting("secure", &ip.to_string()),
        site.path("web.pem"),
        trusting("raw", &ip.to_string()),
        pool("web", &[web.address], ""),
        pool("raw", &[echo.address], ""),
    );
    let weir = Weir::start(&site, &body);
    let side = |name: &str, from: SocketAddr, to: SocketAddr, how: &str| {
        format!(
            "frontend {name}\n  mode tcp\n  bind {from}\n  default_backend {name}\nbackend {name}\n  mode tcp\n  server s {to} {how} source {ip}\n"
        )
    };
    let sections = [
        side("plain", from_plain, plain, "send-proxy"),
        side("secure", from_secure, secure, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        side("raw", from_raw, raw, "send-proxy-v2"),
    ];
    let _haproxy = haproxy(&site, "sender", from_plain, &sections.concat());

    let from = |interface: &str, url: &str| curl(&["-k", "--interface", interface, url]);
    let seen = |what: &str, output: Output| {
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        web.seen.log().last().and_then(|head| head.field("x-forwarded-for").map(str::to_owned)).expect("it is told")
    };
    assert_eq!(seen("plain", from(CLIENT, &format!("http://{from_plain}/"))), CLIENT);
    assert_eq!(seen("secure", from(CLIENT, &format!("https://{from_secure}/"))), CLIENT);
    // HTTP/2 with prior knowledge behind a header is HTTP/2 all the same.
    let h2 = curl(&["--http2-prior-knowledge", "--interface", CLIENT, &format!("http://{from_plain}/")]);
    assert_eq!(seen("h2", h2), CLIENT);
    let denied = from("127.6.6.6", &format!("http://{from_plain}/"));
    assert!(!denied.status.success() && ended(&weir, "web", "denied") == 1.0);

    let mut peer = Peer::connect(from_raw).unwrap();
    peer.send("to the echo").unwrap();
    assert_eq!(peer.exactly(11).unwrap(), b"to the echo");
    drop(peer);
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the log to tell of the client", SOON, || text().matches(&format!("\"client\":\"{CLIENT}:")).count() == 3);
}

/// Endpoints that must be told are told, in both versions, by probes too, and no connection of theirs serves two clients.
#[test]
fn haproxy_and_nginx_are_told() {
    let site = Site::new();
    let [listen, behind_haproxy, nginx_address, first, second] = std::array::from_fn(|_| site.address());
    let answer = "http-request return status 200 content-type text/plain lf-string \"%[src] %[dst]:%[dst_port] %[fc_pp_authority]\"";
    let _haproxy = haproxy(&site, "receiver", behind_haproxy, &format!("frontend f\n  bind {behind_haproxy} accept-proxy\n  {answer}\n"));
    let folder = site.path("told");
    std::fs::create_dir_all(&folder).unwrap();
    let shown = folder.display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {shown}/pid;\nerror_log {shown}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n\
         client_body_temp_path {shown}/a;\n  proxy_temp_path {shown}/b;\n  fastcgi_temp_path {shown}/c;\n  uwsgi_temp_path {shown}/d;\n\
         scgi_temp_path {shown}/e;\n  server {{\n    listen {nginx_address} proxy_protocol;\n\
         location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_server_addr:$proxy_protocol_server_port \"; }}\n  }}\n}}\n"
    );
    let file = site.write("told.conf", &config);
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _nginx = Running(command.spawn().expect("starting nginx"));
    wait_until("nginx to listen", SOON, || std::net::TcpStream::connect(nginx_address).is_ok());

    for version in ["v1", "v2"] {
        let announced = |name: &str, listen, endpoint| {
            http_site(name, listen, &[endpoint], &format!("proxy_protocol = \"{version}\"\n")) + &health(name).replace("/healthz", "/")
        };
        let raw = format!("[listener.raw]\nbind = \"{second}\"\nprotocol = \"tcp\"\npool = \"web\"\n{}", trusting("raw", "127.0.0.1"));
        let body = announced("web", listen, behind_haproxy) + &announced("more", first, nginx_address) + &raw;
        let weir = Weir::start(&site, &body);
        for (pool, endpoint) in [("web", behind_haproxy), ("more", nginx_address)] {
            wait_until("its probes to be good", SOON, || weir.endpoint(pool, endpoint)["health"] == "healthy");
        }
        for client in [CLIENT, "127.9.8.6"] {
            for (at, name) in [(listen, "haproxy"), (first, "nginx")] {
                let told = fetched(&["--interface", client, &format!("http://{at}/"), &format!("http://{at}/again")]);
                assert_eq!(told, format!("{client} {at} ").repeat(2), "{name} {version}");
            }
        }
        // What a proxy in front said goes on whole, where the version has room for it.
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xc0\0\x02\x07\xc6\x33\x64\x01\xc7\x5a\x01\xbb\x02\0\x05a.tst".to_vec();
        header.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut peer = Peer::connect(second).unwrap();
        peer.send(&header).unwrap();
        let authority = if version == "v2" { "a.tst" } else { "" };
        assert_eq!(peer.response("GET").unwrap().text(), format!("192.0.2.7 198.51.100.1:443 {authority}"));
    }
}

/// Who is trusted must announce; who is not, cannot.
#[test]
fn nobody_is_believed_who_is_not_trusted() {
    let site = Site::new();
    let web = Origin::start(&site, "web");
    let listen = site.address();
    let body =
        format!("{}{}[listener.web.timeouts]\nhead = \"5s\"\n", http_site("web", listen, &[web.address], ""), trusting("web", "127.0.0.1"));
    let weir = Weir::start(&site, &body);
    let url = format!("http://{listen}/");
    assert_eq!(fetched(&["--haproxy-protocol", &url]), "web");
    assert_eq!(web.seen.log()[0].field("x-forwarded-for"), Some("127.0.0.1"));
    // In pieces of one byte, with the request behind the header in the last.
    let mut peer = Peer::connect(listen).unwrap();
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 51034 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for byte in &line[..44] {
        peer.send([*byte]).unwrap();
        std::thread::yield_now();
    }
    peer.send(&line[44..]).unwrap();
    assert_eq!(peer.response("GET").unwrap().text(), "web");
    assert_eq!(web.seen.log()[1].field("x-forwarded-for"), Some("192.0.2.7"));
    // A proxy that speaks for itself is itself.
    let mut peer = Peer::connect(listen).unwrap();
    peer.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(peer.response("GET").unwrap().text(), "web");
    assert_eq!(web.seen.log()[2].field("x-forwarded-for"), Some("127.0.0.1"));

    for wrong in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 192.0.2.7 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send(wrong).unwrap();
        assert_eq!(peer.rest().unwrap_or_default(), b"", "{wrong}");
    }
    assert_eq!(ended(&weir, "web", "bad-announcement"), 2.0);
    assert!(weir.log().contains("does the sender announce clients"), "{}", weir.log());
    let mut peer = Peer::connect(listen).unwrap();
    peer.send("PROXY TC").unwrap();
    assert_eq!(peer.rest().unwrap_or_default(), b"");
    assert_eq!(ended(&weir, "web", "head-timeout"), 1.0);
    // Everybody else is a client: to whom a header is no request.
    let output = curl(&["--haproxy-protocol", "--interface", CLIENT, "-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "400");
    assert_eq!(fetched(&["--interface", CLIENT, &url]), "web");
    assert_eq!(web.requests(), 4);
}

/// Behind a trusted proxy the client is who the proxy names, for routes, limits and the log.
#[test]
fn a_trusted_proxy_names_the_client() {
    let site = Site::new();
    let (web, near) = (Origin::start(&site, "web"), Origin::start(&site, "near"));
    let listen = site.address();
    let log = site.path("access.log");
    let body = format!(
        "[access_log]\npath = {log:?}\n[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n[[listener.web.route]]\nsource = \"192.0.2.0/24\"\npool = \"near\"\n\
         [[listener.web.rate_limit]]\nper = \"source\"\nrequests_per_second = 1\nburst = 2\n[listener.web.headers]\ntrusted = [\"127.0.0.1\"]\n{}{}",
        pool("web", &[web.address], ""),
        pool("near", &[near.address], "")
    );
    let _weir = Weir::start(&site, &body);
    let from = |interface: Ipv4Addr, named: &str| {
        let named = format!("X-Forwarded-For: {named}");
        fetched(&["--interface", &interface.to_string(), "-H", &named, &format!("http://{listen}/")])
    };
    assert_eq!(from(Ipv4Addr::LOCALHOST, "203.0.113.1, 192.0.2.7"), "near");
    assert_eq!(from(Ipv4Addr::LOCALHOST, "192.0.2.8, 203.0.113.1"), "web");
    assert_eq!(from(Ipv4Addr::new(127, 9, 8, 7), "192.0.2.7"), "web");
    // Each client has a bucket of its own behind the one proxy.
    let seen = within_a_second(|| [(); 3].map(|()| from(Ipv4Addr::LOCALHOST, "192.0.2.9")));
    assert!(seen[..2] == ["near", "near"] && seen[2].contains("more requests than allowed"), "{seen:?}");
    assert_eq!(from(Ipv4Addr::LOCALHOST, "192.0.2.10"), "near");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the log to name the client", SOON, || text().contains("\"client\":\"192.0.2.9:0\""));
}
