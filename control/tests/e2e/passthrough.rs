//! TLS that ends at the endpoints: openssl at both ends, and the name in between.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::origin::{self, Origin};
use crate::rig::{SOON, Site, Weir, pool, wait_until};
use crate::tls::certificate;
use crate::wire::{self, Peer};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_server` with a certificate of its own.
fn server(site: &Site, name: &str) -> (Server, SocketAddr) {
    certificate(site, name, &format!("DNS:{name}.test"));
    let address = site.address();
    let file = site.path(&format!("{name}.pem"));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &address.to_string(), "-cert"]).arg(&file).arg("-key").arg(&file);
    let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl is installed"));
    wait_until("openssl to listen", SOON, || std::net::TcpStream::connect(address).is_ok());
    (server, address)
}

/// Whose certificate a client gets that asks for this name.
fn asked(address: SocketAddr, more: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.trim().strip_prefix("subject=CN = ")).unwrap_or("nobody").to_owned()
}

#[test]
fn the_name_in_the_handshake_says_where_it_goes() {
    let site = Site::new();
    let ((_one, one), (_two, two)) = (server(&site, "one"), server(&site, "two"));
    let echo = Origin::behaving(&site, "echo", origin::tcp_echo());
    let (listen, strict) = (site.address(), site.address());
    let route = |listener: &str, sni: &str, pool: &str| {
        format!("[[listener.{listener}.route]]\nname = \"{pool}\"\nsni = \"{sni}\"\npool = \"{pool}\"\n")
    };
    let body = format!(
        "[listener.tls]\nbind = \"{listen}\"\nprotocol = \"tcp\"\npool = \"other\"\n{}{}\
         [listener.strict]\nbind = \"{strict}\"\nprotocol = \"tcp\"\n{}[listener.strict.timeouts]\nhead = \"5s\"\n{}{}{}",
        route("tls", "one.test", "one"),
        route("tls", "*.two.test", "two"),
        route("strict", "one.test", "one"),
        pool("one", &[one], ""),
        pool("two", &[two], ""),
        pool("other", &[echo.address], "")
    );
    let weir = Weir::start(&site, &body);
    assert_eq!(asked(listen, &["-servername", "one.test"]), "one");
    assert_eq!(asked(listen, &["-servername", "ONE.test", "-tls1_2"]), "one");
    assert_eq!(asked(listen, &["-servername", "deep.in.two.test"]), "two");
    assert_eq!(asked(strict, &["-servername", "one.test"]), "one");
    // What names nobody goes to the listener's own pool, with every byte that was read; or nowhere.
    let mut peer = Peer::connect(listen).unwrap();
    peer.send("no TLS at all").unwrap();
    assert_eq!(peer.exactly(13).unwrap(), b"no TLS at all");
    assert_eq!(asked(strict, &["-servername", "two.test"]), "nobody");
    let mut peer = Peer::connect(strict).unwrap();
    peer.send("no TLS at all").unwrap();
    assert_eq!(peer.rest().unwrap_or_default(), b"");
    // Half a hello is not waited for longer than a head is.
    let mut peer = Peer::connect(strict).unwrap();
    peer.send(b"\x16\x03\x01\x02\0\x01\0").unwrap();
    assert_eq!(peer.rest().unwrap_or_default(), b"");
    let metrics = wire::get(weir.api(), "/metrics").expect("metrics").text();
    for line in [
        "weir_listener_requests_total{listener=\"strict\",cause=\"no-route\"} 2",
        "weir_listener_requests_total{listener=\"strict\",cause=\"head-timeout\"} 1",
        "weir_route_requests_total{listener=\"tls\",route=\"one\"} 2",
        "weir_route_requests_total{listener=\"tls\",route=\"two\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "no {line} in\n{metrics}");
    }
}
