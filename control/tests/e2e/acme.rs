//! Certificates that are ordered, from pebble: the test authority of those who run Let's Encrypt. It really connects to see its challenges, and refuses
//! one good nonce in twenty.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::origin::{Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, pool, wait_until};
use crate::tls::openssl;
use crate::wire;

/// Where pebble looks: the ports of the names, all of which are at the site's address.
struct Ports {
    http: u16,
    tls: u16,
}

/// A running pebble, and the name server that it asks.
struct Pebble {
    processes: Vec<Child>,
    directory: String,
    management: SocketAddr,
}

impl Pebble {
    fn start(site: &Site, ports: &Ports, more: &str) -> Pebble {
        openssl(
            site,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=pebble-ca -keyout ca.key -out ca.crt",
        );
        openssl(site, "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=pebble -keyout pebble.key -out pebble.csr");
        let (listen, management, names, other) = (site.address(), site.address(), site.address(), site.address());
        site.write("pebble.ext", &format!("subjectAltName = IP:{}\n", listen.ip()));
        openssl(site, "x509 -req -in pebble.csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 30 -extfile pebble.ext -out pebble.crt");
        let (certificate, key) = (site.path("pebble.crt"), site.path("pebble.key"));
        let settings = format!(
            "{{\"pebble\": {{\"listenAddress\": \"{listen}\", \"managementListenAddress\": \"{management}\", \"certificate\": {certificate:?}, \
             \"privateKey\": {key:?}, \"httpPort\": {}, \"tlsPort\": {}, \"ocspResponderURL\": \"\"{more}}}}}",
            ports.http, ports.tls
        );
        let file = site.write("pebble.json", &settings);
        let start = |program: &str, args: &[&str]| {
            let log = std::fs::File::create(site.path(&format!("{program}.log"))).expect("a log");
            let mut command = Command::new(program);
            command.args(args).env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "5").env("PEBBLE_AUTHZREUSE", "0");
            let both = log.try_clone().expect("a second descriptor");
            command.stdin(Stdio::null()).stdout(both).stderr(log).spawn().expect("pebble is installed by scripts/test")
        };
        let (names, address, other) = (names.to_string(), listen.ip().to_string(), other.to_string());
        let dns = ["-dns01", &names, "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-defaultIPv4", &address];
        let dns = [&dns[..], &["-management", &other]].concat();
        let processes = vec![
            start("pebble-challtestsrv", &dns),
            start("pebble", &["-config", &file.to_string_lossy(), "-dnsserver", &names, "-strict"]),
        ];
        let pebble = Pebble { processes, directory: format!("https://{listen}/dir"), management };
        wait_until("pebble to answer", SOON, || curl(site, &[&pebble.directory]).status.success());
        // A validation that cannot ask for a name fails, and is not tried again soon.
        wait_until("the name server to answer", SOON, || {
            let (server, port) = names.rsplit_once(':').expect("an address and a port");
            let args = ["+time=1", "+tries=1", &format!("@{server}"), "-p", port, "x.test"];
            Command::new("dig").args(args).output().expect("dig is installed by scripts/test").status.success()
        });
        pebble
    }

    /// The authority's own certificate, which nobody trusts outside of this test.
    fn root(&self, site: &Site) -> String {
        let output = curl(site, &[&format!("https://{}/roots/0", self.management)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        site.write("root.pem", &String::from_utf8_lossy(&output.stdout)).to_string_lossy().into_owned()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn curl(site: &Site, args: &[&str]) -> Output {
    let ca = site.path("ca.crt");
    Command::new("curl").args(["-sS", "--max-time", "10", "--cacert"]).arg(ca).args(args).output().expect("curl is installed")
}

fn authority(site: &Site, pebble: &Pebble, more: &str) -> String {
    let ca = site.path("ca.crt");
    format!(
        "[acme.pebble]\ndirectory = {:?}\nca_file = {ca:?}\nagree_terms = true\ncontact = [\"ops@example.com\"]\n{more}\n",
        pebble.directory
    )
}

fn ordered(names: &str, challenge: &str) -> String {
    format!("[[listener.web.tls.acme]]\nauthority = \"pebble\"\nnames = {names}\nchallenge = \"{challenge}\"\n")
}

fn listeners(plain: SocketAddr, tls: SocketAddr, origin: SocketAddr, certificates: &str) -> String {
    format!(
        "[listener.plain]\nbind = \"{plain}\"\nredirect_https = 443\n[listener.web]\nbind = \"{tls}\"\npool = \"web\"\n{certificates}\n{}",
        pool("web", &[origin], "")
    )
}

/// The events of this kind so far.
fn events(weir: &Weir<'_>, kind: &str) -> Vec<serde_json::Value> {
    let all = weir.api_get("/v1/events?limit=1000");
    let of_kind = all["events"].as_array().into_iter().flatten().filter(|event| event["event"] == kind);
    of_kind.map(|event| event["details"].clone()).collect()
}

fn shown(address: SocketAddr, host: &str, root: &str) -> Output {
    let url = format!("https://{host}:{}/who", address.port());
    let resolve = format!("{host}:{}:{}", address.port(), address.ip());
    let args = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "--cacert", root, "--resolve", &resolve, &url];
    Command::new("curl").args(args).output().expect("curl is installed")
}

fn metric(weir: &Weir<'_>, line: &str) -> f64 {
    let text = wire::get(weir.api(), "/metrics").expect("metrics").text();
    text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

#[test]
fn both_challenges_lead_to_certificates_in_use() {
    let site = Site::new();
    let (plain, tls, origin) = (site.address(), site.address(), Origin::behaving(&site, "a", standard()));
    let pebble = Pebble::start(&site, &Ports { http: plain.port(), tls: tls.port() }, "");
    let certificates = ordered("[\"www.acme.test\", \"acme.test\"]", "http-01") + &ordered("\"alpn.acme.test\"", "tls-alpn-01");
    let text = authority(&site, &pebble, "") + &listeners(plain, tls, origin.address, &certificates);
    let weir = Weir::start(&site, &text);
    wait_until("both certificates", LONG, || events(&weir, "certificate_issued").len() == 2);
    let root = pebble.root(&site);
    for host in ["www.acme.test", "acme.test", "alpn.acme.test"] {
        wait_until(host, SOON, || shown(tls, host, &root).stdout == b"200");
    }
    // What is not asked by an authority is served as ever.
    let response = wire::get(plain, "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ").expect("an answer");
    assert_eq!(response.status, 308);
    for (line, least) in [
        ("weir_acme_orders_total{authority=\"pebble\",result=\"issued\"}", 2.0),
        ("weir_acme_challenges_answered_total{challenge=\"http-01\"}", 2.0),
        ("weir_acme_challenges_answered_total{challenge=\"tls-alpn-01\"}", 1.0),
        ("weir_acme_certificate_due_timestamp_seconds{authority=\"pebble\",name=\"www.acme.test\"}", 1.7e9),
    ] {
        wait_until(line, SOON, || metric(&weir, line) >= least);
    }
    for file in ["account.json", "www.acme.test.pem", "alpn.acme.test.pem"] {
        let mode = std::fs::metadata(site.path("state/acme/pebble").join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // A restart orders nothing that is there.
    drop(weir);
    let weir = Weir::start(&site, &text);
    assert_eq!(shown(tls, "www.acme.test", &root).stdout, b"200");
    assert_eq!(metric(&weir, "weir_acme_orders_total{authority=\"pebble\",result=\"issued\"}"), 0.0);
}

#[test]
fn a_certificate_is_renewed_before_its_end_and_no_connection_notices() {
    let site = Site::new();
    let (plain, tls, origin) = (site.address(), site.address(), Origin::behaving(&site, "a", standard()));
    let pebble = Pebble::start(&site, &Ports { http: plain.port(), tls: tls.port() }, ", \"certificateValidityPeriod\": 30");
    let text = authority(&site, &pebble, "") + &listeners(plain, tls, origin.address, &ordered("\"short.acme.test\"", "http-01"));
    let weir = Weir::start(&site, &text);
    let issued = || events(&weir, "certificate_issued");
    wait_until("the first certificate", LONG, || !issued().is_empty());
    wait_until("the second certificate", LONG + LONG, || issued().len() >= 2);
    let end = |event: &serde_json::Value| event["not_after_s"].as_i64().expect("an end");
    let events = issued();
    let early = end(&events[1]) - end(&events[0]);
    assert!((19..30).contains(&early), "renewed {early} s after the first of 30 s");
    assert!(events.iter().all(|event| event["authority"] == "pebble"), "{events:?}");
}

#[test]
fn whichever_node_is_asked_answers_for_the_account() {
    let (first, second) = (Site::new(), Site::new());
    openssl(&first, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out account.pem");
    let key = first.path("account.pem");
    let (plain, tls, origin) = (first.address(), first.address(), Origin::behaving(&first, "a", standard()));
    let pebble = Pebble::start(&first, &Ports { http: plain.port(), tls: tls.port() }, "");
    let certificates = ordered("\"pair.acme.test\"", "http-01");
    let shared = format!("account_key_file = {key:?}");
    let text = authority(&first, &pebble, &shared) + &listeners(plain, tls, origin.address, &certificates);
    let has_it = Weir::start(&first, &text);
    wait_until("the certificate of the node that is asked", LONG, || events(&has_it, "certificate_issued").len() == 1);
    // The other node is not reached by anybody, as a backup is not, and orders all the same.
    let (other_plain, other_tls) = (second.address(), second.address());
    let own = authority(&first, &pebble, "") + &listeners(other_plain, other_tls, origin.address, &certificates);
    let backup = Weir::start(&second, &own);
    wait_until("an order that nobody answers", LONG, || events(&backup, "certificate_not_issued").len() == 1);
    let told = events(&backup, "certificate_not_issued")[0]["reason"].as_str().expect("a reason").to_owned();
    assert!(told.contains("pair.acme.test") && told.contains("it must reach port 80"), "{told}");
    backup.reload(&(authority(&first, &pebble, &shared) + &listeners(other_plain, other_tls, origin.address, &certificates)));
    wait_until("the certificate of the backup", LONG, || events(&backup, "certificate_issued").len() == 1);
    let root = pebble.root(&first);
    for address in [tls, other_tls] {
        wait_until("both serve", SOON, || shown(address, "pair.acme.test", &root).stdout == b"200");
    }
    let answered = "weir_acme_challenges_answered_total{challenge=\"http-01\"}";
    wait_until("answers for both", SOON, || metric(&has_it, answered) >= 2.0);
    assert_eq!(metric(&backup, answered), 0.0);
}

#[test]
fn an_account_elsewhere_is_asked_for_and_bound() {
    let site = Site::new();
    let (plain, tls, origin) = (site.address(), site.address(), Origin::behaving(&site, "a", standard()));
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let more = format!(", \"externalAccountBindingRequired\": true, \"externalAccountMACKeys\": {{\"kid-1\": \"{key}\"}}");
    let pebble = Pebble::start(&site, &Ports { http: plain.port(), tls: tls.port() }, &more);
    let rest = listeners(plain, tls, origin.address, &ordered("\"eab.acme.test\"", "tls-alpn-01"));
    let weir = Weir::start(&site, &(authority(&site, &pebble, "") + &rest));
    wait_until("the refusal", LONG, || events(&weir, "certificate_not_issued").len() == 1);
    let told = events(&weir, "certificate_not_issued")[0].clone();
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("eab_key_id")), "{told}");
    assert!(told["again_s"].as_u64().is_some_and(|again_s| again_s >= 300), "{told}");
    let file = site.write("eab.key", &format!("{key}\n"));
    weir.reload(&(authority(&site, &pebble, &format!("eab_key_id = \"kid-1\"\neab_key_file = {file:?}")) + &rest));
    wait_until("the certificate", LONG + Duration::from_secs(30), || events(&weir, "certificate_issued").len() == 1);
}
