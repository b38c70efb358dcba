//! TLS to endpoints: nginx and openssl with right and wrong certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

use crate::origin::{Nginx, Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, http_site, pool, wait_until};
use crate::wire::{self, Response};

/// An authority, and what it signs.
struct Authority(Issuer<'static, KeyPair>);

/// What a certificate of a test is like.
#[derive(Clone, Copy)]
enum Time {
    Now,
    Past,
}

impl Authority {
    /// Its certificate is written to this file.
    fn new(site: &Site, file: &str) -> Authority {
        let mut params = params(&[], file, Time::Now);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        site.write(file, &params.self_signed(&key).expect("a certificate").pem());
        Authority(Issuer::new(params, key))
    }

    /// Writes NAME.pem with a chain and its key.
    fn sign(&self, site: &Site, name: &str, hosts: &[&str], time: Time) {
        let key = KeyPair::generate().expect("a key");
        let signed = params(hosts, name, time).signed_by(&key, &self.0).expect("a certificate");
        site.write(&format!("{name}.pem"), &(signed.pem() + &key.serialize_pem()));
    }
}

fn params(hosts: &[&str], name: &str, time: Time) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(if matches!(time, Time::Past) { 2021 } else { 2999 }, 1, 1);
    params
}

/// An nginx that serves under TLS, each server with its own lines; killed at the end.
struct Tls(Child);

impl Tls {
    fn start(site: &Site, servers: &[(SocketAddr, String)]) -> Tls {
        let folder = site.path("nginx-tls");
        std::fs::create_dir_all(&folder).expect("a folder for nginx");
        let at = folder.display();
        let answer = "$ssl_session_reused $connection_requests $ssl_server_name $ssl_client_s_dn";
        let servers: String = servers
            .iter()
            .map(|(address, lines)| {
                format!("server {{ listen {address} ssl; {lines} location / {{ return 200 \"{answer}\"; }} location /bye {{ keepalive_timeout 0; return 200 \"{answer}\"; }} }}\n")
            })
            .collect();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{ }}\nhttp {{\n  access_log off;\n\
             client_body_temp_path {at}/a;\n  proxy_temp_path {at}/b;\n  fastcgi_temp_path {at}/c;\n  uwsgi_temp_path {at}/d;\n\
             scgi_temp_path {at}/e;\n  ssl_session_cache shared:x:1m;\n{servers}}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), text).expect("nginx's configuration");
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        Tls(nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting nginx"))
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(site: &Site, name: &str, more: &str) -> (SocketAddr, String) {
    let file = site.path(&format!("{name}.pem"));
    let address = site.address();
    (address, format!("ssl_certificate {0}; ssl_certificate_key {0}; {more}", file.display()))
}

fn reachable(servers: &[(SocketAddr, String)]) {
    for (address, _) in servers {
        wait_until("nginx to listen", SOON, || TcpStream::connect(address).is_ok());
    }
}

fn get(address: SocketAddr, path: &str) -> Response {
    wire::get(address, path).expect("an answer")
}

/// A listener with a pool of one endpoint under these settings; `none` for no table.
fn site_text(name: &str, listen: SocketAddr, endpoint: SocketAddr, tls: &str) -> String {
    http_site(name, listen, &[endpoint], &format!("ejection = false\n[pool.{name}.tls]\n{tls}\n"))
}

#[track_caller]
fn metric(weir: &Weir<'_>, line: &str) -> f64 {
    let text = get(weir.api(), "/metrics").text();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in\n{text}"));
    found.trim().parse().expect("a number")
}

#[test]
fn only_the_right_certificate_is_believed() {
    let site = Site::new();
    let (ours, theirs) = (Authority::new(&site, "ca.pem"), Authority::new(&site, "other-ca.pem"));
    ours.sign(&site, "good", &["web.test"], Time::Now);
    ours.sign(&site, "expired", &["web.test"], Time::Past);
    ours.sign(&site, "named", &["other.test"], Time::Now);
    theirs.sign(&site, "untrusted", &["web.test"], Time::Now);
    let cases = [
        ("good", ""),
        ("expired", "has expired: renew it there"),
        ("named", "its certificate is for"),
        ("untrusted", "signed by nobody in"),
    ];
    let servers = cases.map(|(name, _)| server(&site, name, ""));
    let _nginx = Tls::start(&site, &servers);
    reachable(&servers);
    let ca = site.path("ca.pem");
    let listens = cases.map(|_| site.address());
    let text: String = std::iter::zip(cases, std::iter::zip(listens, &servers))
        .map(|((name, _), (listen, (endpoint, _)))| {
            let checks = format!("[pool.{name}.health]\ntype = \"https\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n");
            site_text(name, listen, *endpoint, &format!("ca_file = {ca:?}\nserver_name = \"web.test\"\n{checks}"))
        })
        .collect();
    let weir = Weir::start(&site, &text);
    for ((name, reason), (listen, (endpoint, _))) in std::iter::zip(cases, std::iter::zip(listens, &servers)) {
        let response = get(listen, "/");
        let evidence = || weir.endpoint(name, *endpoint)["evidence"].as_str().unwrap_or_default().to_owned();
        if reason.is_empty() {
            assert_eq!((response.status, response.text().split(' ').nth(2)), (200, Some("web.test")), "{}", response.text());
            wait_until("a good verdict", SOON, || weir.endpoint(name, *endpoint)["health"] == "healthy");
        } else {
            assert_eq!(response.status, 502, "{name}: {}", response.text());
            assert!(response.text().contains("could be reached under TLS"), "{}", response.text());
            wait_until(&format!("{name}: evidence with {reason:?}"), SOON, || evidence().contains(reason));
        }
    }
    assert!(weir.log().contains("an endpoint cannot be used: its certificate"), "{}", weir.log());
    assert!(metric(&weir, "weir_pool_tls_handshakes_total{pool=\"expired\",result=\"failed\"}") >= 1.0);
    // Whoever believes anybody is told so, and gets an answer.
    let blind = site_text("expired", listens[1], servers[1].0, "verify = false");
    weir.reload(&blind);
    assert_eq!(get(listens[1], "/").status, 200);
    assert!(
        String::from_utf8_lossy(&weir.cli(&["check", &site.path("weir.toml").to_string_lossy()]).stderr)
            .contains("believes whoever answers")
    );
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    let site = Site::new();
    Authority::new(&site, "ca.pem").sign(&site, "web", &["web.test"], Time::Now);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let servers = [server(&site, "web", &format!("ssl_protocols {version};"))];
        let _nginx = Tls::start(&site, &servers);
        reachable(&servers);
        let listen = site.address();
        let tls = format!("ca_file = {:?}\nserver_name = \"web.test\"", site.path("ca.pem"));
        let weir = Weir::start(&site, &site_text("web", listen, servers[0].0, &tls));
        let word = |path: &str, index: usize| get(listen, path).text().split(' ').nth(index).unwrap_or_default().to_owned();
        let most = (0..20).filter_map(|_| word("/", 1).parse::<u32>().ok()).max();
        // Two workers, each with a connection of its own.
        assert!(most >= Some(9), "{version}: {most:?} requests on one connection");
        // Closed after each answer: the next connection goes on with the session.
        let resumed = (0..20).filter(|_| word("/bye", 0) == "r").count();
        assert!(resumed >= 14, "{version}: {resumed} of 20");
        assert!(metric(&weir, "weir_pool_tls_handshakes_total{pool=\"web\",result=\"resumed\"}") >= 14.0);
        assert!(metric(&weir, "weir_pool_tls_handshakes_total{pool=\"web\",result=\"full\"}") >= 1.0);
        // What was kept under TLS is not used in the clear, nor the other way round.
        weir.reload(&http_site("web", listen, &[servers[0].0], ""));
        assert_eq!(get(listen, "/").status, 400, "nginx wants TLS");
        weir.reload(&site_text("web", listen, servers[0].0, &tls));
        assert_eq!(get(listen, "/").status, 200);
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let site = Site::new();
    Authority::new(&site, "ca.pem").sign(&site, "web", &["web.test"], Time::Now);
    let origin = Origin::behaving(&site, "a", standard());
    // The origin itself knows no TLS: nginx stands before it.
    let servers = [server(
        &site,
        "web",
        &format!("location /on/ {{ client_max_body_size 0; proxy_http_version 1.1; proxy_pass http://{}/; }}", origin.address),
    )];
    let _nginx = Tls::start(&site, &servers);
    reachable(&servers);
    let listen = site.address();
    let tls = format!("ca_file = {:?}\nserver_name = \"web.test\"", site.path("ca.pem"));
    let _weir = Weir::start(&site, &site_text("web", listen, servers[0].0, &tls));
    let mut body = wire::Noise(3);
    let body = body.bytes(2_000_000);
    let mut seen = wire::Fingerprint::default();
    seen.write_all(&body).expect("a fingerprint takes everything");
    let head = format!("POST /on/fingerprint HTTP/1.1\r\nhost: web.test\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut peer = wire::Peer::connect(listen).expect("a connection");
    peer.send(head).and_then(|()| peer.send(&body)).expect("sent");
    let response = peer.response("POST").expect("an answer");
    assert_eq!((response.status, response.text()), (200, format!("{seen:?}")));
    for kind in ["bytes", "chunked"] {
        let response = get(listen, &format!("/on/{kind}/3000000"));
        let mut seen = wire::Fingerprint::default();
        seen.write_all(&response.body).expect("a fingerprint takes everything");
        assert_eq!(seen, crate::origin::noise_fingerprint(3_000_000), "{kind}");
    }
}

#[test]
fn we_show_a_certificate_where_one_is_wanted() {
    let site = Site::new();
    let ca = Authority::new(&site, "ca.pem");
    ca.sign(&site, "web", &["web.test"], Time::Now);
    ca.sign(&site, "weir", &["weir.test"], Time::Now);
    let servers = [server(&site, "web", &format!("ssl_client_certificate {}; ssl_verify_client on;", site.path("ca.pem").display()))];
    let _nginx = Tls::start(&site, &servers);
    reachable(&servers);
    let listen = site.address();
    let tls = format!("ca_file = {:?}\nserver_name = \"web.test\"\n", site.path("ca.pem"));
    let weir = Weir::start(&site, &site_text("web", listen, servers[0].0, &tls));
    assert_eq!(get(listen, "/").status, 400, "nginx wants to see one");
    weir.reload(&site_text("web", listen, servers[0].0, &format!("{tls}certificate_file = {:?}\n", site.path("weir.pem"))));
    let response = get(listen, "/");
    assert!(response.status == 200 && response.text().ends_with("CN=weir"), "{} {}", response.status, response.text());
}

#[test]
fn changed_files_are_used_and_wrong_ones_are_not() {
    let site = Site::new();
    let ca = Authority::new(&site, "ca.pem");
    ca.sign(&site, "web", &["web.test"], Time::Now);
    let right = std::fs::read_to_string(site.path("ca.pem")).expect("it was written");
    Authority::new(&site, "ca.pem");
    let servers = [server(&site, "web", "")];
    let _nginx = Tls::start(&site, &servers);
    reachable(&servers);
    let listen = site.address();
    let text = site_text("web", listen, servers[0].0, &format!("ca_file = {:?}\nserver_name = \"web.test\"\n", site.path("ca.pem")));
    let weir = Weir::start(&site, &text);
    assert_eq!(get(listen, "/").status, 502, "another authority of the same name");
    site.write("ca.pem", &right);
    wait_until("the new authority", SOON, || get(listen, "/").status == 200);
    wait_until("it to be said", SOON, || weir.log().contains("changed files for TLS to endpoints are in use"));
    site.write("ca.pem", "nothing");
    wait_until("the refusal", SOON, || weir.log().contains("ca.pem: there is no certificate in it"));
    // The old one stays, also for connections that are new.
    assert_eq!((get(listen, "/bye").status, get(listen, "/bye").status), (200, 200));
    // A reload that names a wrong file is refused with the reason.
    weir.write_config(crate::rig::NodeSettings::default(), &format!("{text}version_min = \"1.3\"\n"));
    let refused = weir.cli(&["reload"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("pool `web`") && said.contains("there is no certificate in it"), "{said}");
}

/// openssl, which sends each line back from its end to its beginning.
struct Reverser(Child);

impl Reverser {
    fn start(site: &Site, address: SocketAddr, certificate: &str, more: &str) -> Reverser {
        let accept = address.to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-rev", "-accept", &accept, "-cert", certificate, "-key", certificate])
            .args(more.split_whitespace())
            .current_dir(site.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        Reverser(child)
    }
}

impl Drop for Reverser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sessions_of_tcp_listeners_go_under_tls_too() {
    let site = Site::new();
    // Signed by nobody: the certificate itself is what is believed.
    crate::tls::certificate(&site, "self", "IP:127.0.0.1,DNS:rev.test");
    let (listen, endpoint) = (site.address(), site.address());
    let _openssl = Reverser::start(&site, endpoint, "self.pem", "");
    wait_until("openssl to listen", SOON, || TcpStream::connect(endpoint).is_ok());
    let text = |tls: &str| {
        format!(
            "[listener.raw]\nbind = \"{listen}\"\nprotocol = \"tcp\"\npool = \"raw\"\n{}[pool.raw.tls]\n{tls}",
            pool("raw", &[endpoint], "ejection = false")
        )
    };
    let tls = format!("ca_file = {:?}\nserver_name = \"rev.test\"\n", site.path("self.pem"));
    let weir = Weir::start(&site, &text(&tls));
    let said = |word: &str| {
        let mut client = TcpStream::connect(listen).expect("a connection");
        client.set_read_timeout(Some(LONG)).expect("a bound");
        client.write_all(format!("{word}\n").as_bytes()).expect("sent");
        let mut answer = vec![0; word.len() + 1];
        client.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
    };
    assert_eq!(said("stressed").ok().as_deref(), Some("desserts\n"));
    // By address its certificate is for another one.
    weir.reload(&text(&format!("ca_file = {:?}\n", site.path("self.pem"))));
    assert!(said("drawer").is_err());
    wait_until("the reason", SOON, || weir.log().contains("set `server_name` under [pool.raw.tls]"));
}

#[test]
fn what_speaks_no_tls_is_told_apart() {
    let site = Site::new();
    let nginx = Nginx::start(&site, "plain");
    let listen = site.address();
    let weir = Weir::start(&site, &site_text("web", listen, nginx.address, "verify = false\n"));
    assert_eq!(get(listen, "/").status, 502);
    assert!(weir.log().contains("it does not speak TLS: correct its port, or remove [pool.web.tls]"), "{}", weir.log());
}
