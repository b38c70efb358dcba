//! HTTPS with real clients: curl and openssl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::origin::{Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, pool, resident_kib, wait_until};
use crate::wire;

/// Runs a command of openssl in the site's folder.
#[track_caller]
pub(crate) fn openssl(site: &Site, args: &str) {
    let folder = site.path("");
    let output = Command::new("openssl").args(args.split(' ')).current_dir(&folder).stdin(Stdio::null()).output();
    let output = output.expect("openssl is installed by scripts/test");
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A self-signed certificate with its key in one file.
pub(crate) fn certificate(site: &Site, file: &str, names: &str) {
    openssl(
        site,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={file} -addext subjectAltName={names} \
             -keyout {file}.key -out {file}.crt"
        ),
    );
    let read = |end: &str| std::fs::read_to_string(site.path(&format!("{file}.{end}"))).expect("openssl wrote it");
    site.write(&format!("{file}.pem"), &(read("crt") + &read("key")));
}

fn curl(address: SocketAddr, host: &str, more: &[&str]) -> Output {
    let url = format!("https://{host}:{}/who", address.port());
    let resolve = format!("{host}:{}:{}", address.port(), address.ip());
    Command::new("curl").args(["-sSi", "--max-time", "10", "--resolve", &resolve, &url]).args(more).output().expect("curl is installed")
}

#[track_caller]
fn fine(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("HTTP/2 200"), "{text}");
    text
}

/// What `openssl s_client` says about a connection to this name.
fn s_client(site: &Site, address: SocketAddr, args: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(args.split_whitespace())
        .current_dir(site.path(""))
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn site_text(address: SocketAddr, endpoint: SocketAddr, tls: &str) -> String {
    format!("[listener.web]\nbind = \"{address}\"\npool = \"web\"\n\n[listener.web.tls]\n{tls}\n{}", pool("web", &[endpoint], ""))
}

fn table(path: &Path) -> String {
    format!("[[listener.web.tls.certificate]]\nfile = {path:?}\n")
}

#[track_caller]
fn metric(weir: &Weir<'_>, line: &str) -> f64 {
    let text = wire::get(weir.api(), "/metrics").expect("metrics").text();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in\n{text}"));
    found.trim().parse().expect("a number")
}

#[test]
fn certificates_are_chosen_by_name() {
    let site = Site::new();
    certificate(&site, "first", "DNS:first.test");
    certificate(&site, "exact", "DNS:www.second.test");
    certificate(&site, "wild", "DNS:*.second.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let tables: String = ["first", "exact", "wild"].map(|name| table(&site.path(&format!("{name}.pem")))).concat();
    let weir = Weir::start(&site, &site_text(address, origin.address, &tables));
    let trusting = |file: &str| site.path(&format!("{file}.crt")).to_string_lossy().into_owned();
    for (host, file) in [("first.test", "first"), ("www.second.test", "exact"), ("api.second.test", "wild")] {
        fine(&curl(address, host, &["--cacert", &trusting(file)]));
    }
    assert!(origin.seen.log().iter().all(|head| head.field("x-forwarded-proto") == Some("https")));
    // Unknown names and none get the first; both versions are spoken; nothing older; h1 is agreed on.
    assert!(s_client(&site, address, "-servername other.test").contains("CN = first"));
    assert!(s_client(&site, address, "-noservername -tls1_2").contains("CN = first"));
    assert!(s_client(&site, address, "-alpn http/1.1").contains("ALPN protocol: http/1.1"));
    assert!(s_client(&site, address, "-alpn h2,http/1.1").contains("ALPN protocol: h2"));
    assert!(!s_client(&site, address, "-tls1_1").contains("CN = first"));
    // Strict, and TLS 1.3 alone: a reload, without touching the certificates.
    weir.reload(&site_text(address, origin.address, &format!("unknown_name = \"refuse\"\nversion_min = \"1.3\"\n{tables}")));
    assert!(!curl(address, "other.test", &["-k"]).status.success());
    assert!(!curl(address, "first.test", &["-k", "--tls-max", "1.2"]).status.success());
    fine(&curl(address, "first.test", &["-k"]));
    let failed = || metric(&weir, "weir_listener_tls_handshakes_total{listener=\"web\",result=\"failed\"}");
    wait_until("both to be counted", SOON, || failed() >= 2.0);
    let not_after = format!("weir_tls_certificate_not_after_timestamp_seconds{{listener=\"web\",file={:?}}}", site.path("first.pem"));
    assert!(metric(&weir, &not_after) > 1.7e9);
}

#[test]
fn a_response_of_the_authority_is_stapled() {
    let site = Site::new();
    openssl(&site, "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt");
    openssl(&site, "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web.test -keyout web.key -out web.csr");
    site.write("names", "subjectAltName = DNS:web.test\n");
    openssl(&site, "x509 -req -in web.csr -CA ca.crt -CAkey ca.key -set_serial 0x1f -days 30 -extfile names -out web.pem");
    site.write("index.txt", "V\t400101000000Z\t\t1F\tunknown\t/CN=web.test\n");
    openssl(&site, "ocsp -issuer ca.crt -cert web.pem -reqout request.der");
    openssl(&site, "ocsp -index index.txt -rsigner ca.crt -rkey ca.key -CA ca.crt -ndays 7 -reqin request.der -respout web.ocsp");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let file = |end: &str| site.path(&format!("web.{end}"));
    let files = |ocsp: &str| format!("[[listener.web.tls.certificate]]\nfile = {:?}\nkey = {:?}\n{ocsp}", file("pem"), file("key"));
    let weir = Weir::start(&site, &site_text(address, origin.address, &files("")));
    let shown = || s_client(&site, address, "-servername web.test -status");
    assert!(shown().contains("OCSP response: no response sent"), "{}", shown());
    weir.reload(&site_text(address, origin.address, &files(&format!("ocsp = {:?}\n", file("ocsp")))));
    assert!(shown().contains("OCSP Response Status: successful") && shown().contains("Cert Status: good"), "{}", shown());
    // Made without extensions: the file is named that is wrong, and what to do.
    openssl(&site, "x509 -req -in web.csr -CA ca.crt -CAkey ca.key -set_serial 0x20 -days 30 -out web.pem");
    wait_until("the refusal", SOON, || weir.log().contains("web.pem: it is a certificate of X.509 version 1"));
    assert!(shown().contains("Cert Status: good"), "the old one stays");
}

#[test]
fn changed_files_are_used_and_wrong_ones_are_not() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &site_text(address, origin.address, &table(&site.path("web.pem"))));
    let serial = || {
        let shown = s_client(&site, address, "-servername web.test");
        let pem = shown.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate").1;
        pem.split_once("-----END").expect("its end").0.to_owned()
    };
    let before = serial();
    certificate(&site, "web", "DNS:web.test");
    wait_until("the new certificate", SOON, || serial() != before);
    let second = serial();
    site.write("web.pem", "no certificate at all");
    wait_until("the refusal", SOON, || weir.log().contains("changed certificates are refused"));
    assert!(weir.log().contains("web.pem: there is no certificate in it"), "{}", weir.log());
    assert_eq!(serial(), second, "the old one stays");
    // A reload that names a wrong file is refused with the reason, and nothing changes.
    let text = site_text(address, origin.address, &format!("tickets = false\n{}", table(&site.path("web.pem"))));
    weir.write_config(crate::rig::NodeSettings::default(), &text);
    let refused = weir.cli(&["reload"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no certificate in it"), "{refused:?}");
    assert_eq!(serial(), second);
}

#[test]
fn clients_show_certificates() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    openssl(&site, "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.crt");
    let sign = |name: &str| {
        openssl(
            &site,
            &format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"),
        );
        openssl(
            &site,
            &format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile v3.ext -out {name}.crt"),
        );
    };
    site.write("v3.ext", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n");
    sign("good");
    sign("bad");
    site.write("index.txt", "");
    site.write("ca.conf", "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n");
    openssl(&site, "ca -config ca.conf -cert ca.crt -keyfile ca.key -revoke bad.crt");
    openssl(&site, "ca -config ca.conf -cert ca.crt -keyfile ca.key -gencrl -out ca.crl");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let text = |word: &str| {
        let (ca, crl) = (site.path("ca.crt"), site.path("ca.crl"));
        let keys = format!("client_certificates = \"{word}\"\nclient_ca_file = {ca:?}\nclient_crl_file = {crl:?}\n");
        site_text(address, origin.address, &(keys + &table(&site.path("web.pem"))))
    };
    let weir = Weir::start(&site, &text("required"));
    let with = |name: &str| {
        let path = |end: &str| site.path(&format!("{name}.{end}")).to_string_lossy().into_owned();
        curl(address, "web.test", &["-k", "--cert", &path("crt"), "--key", &path("key")])
    };
    fine(&with("good"));
    assert!(!with("bad").status.success(), "it is revoked");
    assert!(!with("web").status.success(), "somebody else signed it");
    assert!(!curl(address, "web.test", &["-k"]).status.success(), "it shows none");
    weir.reload(&text("optional"));
    fine(&curl(address, "web.test", &["-k"]));
    fine(&with("good"));
    assert!(!with("bad").status.success());
}

#[test]
fn sessions_are_resumed_also_after_an_upgrade() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &site_text(address, origin.address, &table(&site.path("web.pem"))));
    let before = weir.pid();
    for version in ["-tls1_2", "-tls1_3"] {
        // A whole request, so that the client stays for the tickets of TLS 1.3.
        let request = "GET /who HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n";
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "web.test", version, "-sess_out", &format!("{version}.sess")])
            .args(["-connect", &address.to_string()])
            .current_dir(site.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        child.stdin.as_mut().expect("piped").write_all(request.as_bytes()).expect("openssl reads");
        assert!(child.wait().expect("openssl ends").success());
        assert!(s_client(&site, address, &format!("{version} -servername web.test -sess_in {version}.sess")).contains("Reused, TLS"));
    }
    weir.cli_ok(&["upgrade"]);
    wait_until("the new process", LONG, || weir.pid() != before);
    for version in ["-tls1_2", "-tls1_3"] {
        let shown = s_client(&site, address, &format!("{version} -servername web.test -sess_in {version}.sess"));
        assert!(shown.contains("Reused, TLS"), "{version}: {shown}");
    }
    let resumed = || metric(&weir, "weir_listener_tls_handshakes_total{listener=\"web\",result=\"resumed\"}");
    wait_until("both to be counted", SOON, || resumed() >= 2.0);
}

#[test]
fn half_open_handshakes_hurt_nobody() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let text = site_text(address, origin.address, &format!("handshakes_max = 400\n{}", table(&site.path("web.pem"))));
    let weir = Weir::start(&site, &format!("{text}\n[listener.web.timeouts]\nhead = \"10s\"\n"));
    let before = resident_kib(weir.pid());
    let half_open: Vec<TcpStream> = (0..5000).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    fine(&curl(address, "web.test", &["-k"]));
    let grown = resident_kib(weir.pid()).saturating_sub(before);
    assert!(grown < 5000 * 4, "{grown} KiB for 5,000 connections that sent nothing");
    // The first bytes of a record that never ends.
    let slow: Vec<TcpStream> = half_open
        .into_iter()
        .map(|mut stream| {
            stream.write_all(&[22, 3, 1, 1, 0, 1, 0]).expect("sent");
            stream
        })
        .collect();
    let count = |how: &str| metric(&weir, &format!("weir_listener_tls_handshakes_total{{listener=\"web\",result=\"{how}\"}}"));
    wait_until("some to be refused and the rest to time out", LONG, || count("refused") + count("timed-out") + count("failed") >= 5000.0);
    assert!(count("refused") >= 1.0 && count("timed-out") >= 100.0);
    fine(&curl(address, "web.test", &["-k"]));
    drop(slow);
}

#[test]
fn plain_requests_are_sent_to_https() {
    let site = Site::new();
    let address = site.address();
    let _weir = Weir::start(&site, &format!("[listener.plain]\nbind = \"{address}\"\nredirect_https = 8443\n"));
    let response = wire::send(address, "GET", "GET /a/b?c=d HTTP/1.1\r\nhost: web.test:8080\r\n\r\n").expect("an answer");
    assert_eq!(response.status, 308);
    assert_eq!(response.head.field("location"), Some("https://web.test:8443/a/b?c=d"));
}

#[test]
fn bodies_and_upgrades_pass_both_ways() {
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (address, nginx) = (site.address(), crate::origin::Nginx::start(&site, "files"));
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    nginx.file("noise", &noise);
    let weir = Weir::start(&site, &site_text(address, nginx.address, &table(&site.path("web.pem"))));
    let url = format!("https://{address}/noise");
    for version in ["1.2", "1.3"] {
        let output =
            Command::new("curl").args(["-sSk", "--tls-max", version, "--max-time", "20", &url]).output().expect("curl is installed");
        assert!(output.status.success() && output.stdout == noise, "TLS {version}: {} bytes", output.stdout.len());
    }
    // A reader slower than the socket's buffers.
    let slow = ["-sSk", "--limit-rate", "2M", "--max-time", "20", &url];
    assert!(Command::new("curl").args(slow).output().expect("curl is installed").stdout == noise);
    let echoing = Origin::behaving(&site, "echo", standard());
    weir.reload(&site_text(address, echoing.address, &table(&site.path("web.pem"))));
    let file = site.path("upload");
    let text = "0123456789abcdef".repeat(64 * 1024);
    std::fs::write(&file, &text).expect("a file");
    let data = format!("@{}", file.display());
    let output = Command::new("curl")
        .args(["-sSk", "--max-time", "20", "-H", "expect:", "--data-binary", &data, &format!("https://{address}/echo")])
        .output()
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&text), "the body arrived whole");
    // An upgraded connection: bytes both ways until the client is done.
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let (mut to, mut from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut read_until = |end: &str| {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&seen)));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    };
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    to.write_all(upgrade.as_bytes()).expect("openssl reads");
    assert!(read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    for word in ["ping", "pong"] {
        to.write_all(word.as_bytes()).expect("openssl reads");
        read_until(word);
    }
    child.kill().expect("openssl runs");
    let _ = child.wait();
}

/// What a tester of TLS has to say, whose sections on certificates are about a hoster's habits and left out.
#[test]
fn a_tester_of_tls_finds_nothing_above_low() {
    let _turn = crate::rig::heavy();
    let site = Site::new();
    certificate(&site, "web", "DNS:web.test");
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let weir = Weir::start(&site, &site_text(address, origin.address, &table(&site.path("web.pem"))));
    let found = site.path("found.json");
    let mut tester = Command::new("testssl");
    // Protocols, ciphers, forward secrecy, the order of preference, and every known weakness of an implementation.
    tester.args(["--quiet", "--color", "0", "--fast", "--ip", "one", "--sneaky", "-p", "-s", "-f", "-P", "-U", "--jsonfile"]).arg(&found);
    let output = tester.arg(address.to_string()).stdin(Stdio::null()).output().expect("testssl is installed by scripts/test");
    let text = std::fs::read_to_string(&found).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let has =
        |id: &str, what: &str| findings.iter().any(|one| one["id"] == id && one["finding"].as_str().is_some_and(|f| f.contains(what)));
    assert!(has("TLS1_3", "offered") && has("TLS1_2", "offered") && has("TLS1_1", "not offered"), "{text}");
    assert!(has("heartbleed", "not vulnerable") && has("ROBOT", "not vulnerable"), "{text}");
    let bad: Vec<&serde_json::Value> =
        findings.iter().filter(|one| ["MEDIUM", "HIGH", "CRITICAL"].iter().any(|word| one["severity"] == *word)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(wire::get(weir.api(), "/healthz").expect("it lives").status, 200);
}
