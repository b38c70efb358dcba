//! Taking endpoints and the whole node out of service without hurting what is under way; and who may ask for it.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{Load, Plan};
use crate::origin::Origin;
use crate::rig::{NodeSettings, SOON, STATUS_PATH, Site, Weir, health, http_site, wait_until};
use crate::wire::{self, Peer};

#[test]
fn drain_waits_for_what_is_under_way() {
    let site = Site::new();
    let (leaves, stays) = (Origin::start(&site, "leaves"), Origin::start(&site, "stays"));
    let listen = site.address();
    let body = http_site("web", listen, &[leaves.address, stays.address], &format!("balance = \"round-robin\"\n\n{}", health("web")));
    let weir = Weir::start(&site, &body);
    let address = leaves.address.to_string();
    for origin in [&leaves, &stays] {
        wait_until("both to be healthy", SOON, || weir.endpoint("web", origin.address)["health"] == "healthy");
    }
    std::thread::scope(|scope| {
        // With round-robin one of two lands on the endpoint that leaves.
        let held: Vec<_> = (0..2).map(|_| scope.spawn(|| wire::get(listen, "/held"))).collect();
        let holding = |origin: &Origin| origin.seen.holding.load(Ordering::SeqCst);
        wait_until("both requests to be held", SOON, || holding(&leaves) + holding(&stays) == 2);
        assert_eq!(holding(&leaves), 1);

        let mut drain = weir.command(&["drain", &address]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the endpoint to be draining", SOON, || weir.endpoint("web", leaves.address)["state"] == "draining");
        let before = leaves.requests();
        for _ in 0..50 {
            assert_eq!(wire::get(listen, "/").unwrap().text(), "stays");
        }
        assert_eq!(leaves.requests(), before);
        assert!(drain.try_wait().unwrap().is_none(), "drain did not wait for the request under way");

        leaves.seen.release();
        stays.seen.release();
        for client in held {
            assert_eq!(client.join().unwrap().unwrap().status, 200);
        }
        wait_until("drain to end", SOON, || drain.try_wait().unwrap().is_some());
        assert!(drain.wait().unwrap().success());
        let mut said = String::new();
        drain.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        drain.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains('1'), "drain did not say what was open: {said}");
    });

    weir.reload(&body);
    assert_eq!(weir.endpoint("web", leaves.address)["state"], "draining", "a reload forgot the drain");
    weir.cli_ok(&["undrain", &address]);
    wait_until("the endpoint to serve again", SOON, || wire::get(listen, "/").is_ok_and(|response| response.text() == "leaves"));
}

#[test]
fn an_unknown_endpoint_is_refused_with_a_hint() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    let output = weir.cli(&["drain", "192.0.2.1:80"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.is_empty());
    assert_eq!(weir.cli(&["drain"]).status.code(), Some(2));
    assert_eq!(weir.cli(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn sigterm_lets_requests_under_way_finish() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    let load = Load::start(listen, Plan { clients: 4, ..Plan::default() });
    load.wait_for(100);
    load.finish().assert_clean();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| wire::get(listen, "/held"));
        wait_until("the request to be held", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 1);
        let mut idle = Peer::connect(listen).unwrap();
        idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(idle.response("GET").unwrap().status, 200);

        weir.signal(weir.first_pid(), Signal::TERM);
        wait_until("new connections to be refused", SOON, || Peer::connect(listen).is_err());
        assert!(weir.exited().is_none(), "it did not wait for the request under way");
        assert!(!weir.ready(), "a node that drains is not ready");
        origin.seen.release();
        let response = held.join().unwrap().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "one"));
        assert!(response.head.closes(), "the client was not told that the connection ends");
    });
    wait_until("weir to end", SOON, || weir.exited().is_some());
    assert!(weir.exited().is_some_and(|status| status.success()), "{:?}", weir.exited());
}

#[test]
fn a_drain_has_a_deadline() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let settings = NodeSettings { drain_timeout: "500ms", ..NodeSettings::default() };
    let weir = Weir::start_with(&site, settings, &http_site("web", listen, &[origin.address], ""));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| wire::get(listen, "/held"));
        wait_until("the request to be held", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 1);
        let began = Instant::now();
        weir.signal(weir.first_pid(), Signal::TERM);
        wait_until("weir to end", SOON, || weir.exited().is_some());
        assert!(began.elapsed() >= Duration::from_millis(400), "cut after {:?}", began.elapsed());
        let answer = held.join().unwrap();
        assert!(!matches!(&answer, Ok(response) if response.status == 200), "{answer:?}");
        origin.seen.release();
    });
}

#[test]
fn a_second_node_on_the_same_address_is_refused() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = http_site("web", listen, &[origin.address], "");
    let _weir = Weir::start(&site, &body);
    let other = Site::new();
    let file = other
        .write("weir.toml", &format!("[node]\nstate_dir = {:?}\n\n[api]\nbind = \"{}\"\n\n{body}", other.path("state"), other.address()));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&listen.to_string()), "{output:?}");
    assert_eq!(wire::get(listen, "/").unwrap().text(), "one");
}

#[test]
fn the_api_needs_a_token_unless_it_is_bound_to_loopback() {
    let site = Site::new();
    let text = |api: &str, more: &str| format!("[node]\nstate_dir = {:?}\n\n[api]\nbind = \"{api}\"\n{more}", site.path("state"));
    let check = |file: &std::path::Path| std::process::Command::new(env!("CARGO_BIN_EXE_weir")).arg("check").arg(file).output().unwrap();
    let open = check(&site.write("open.toml", &text("0.0.0.0:7117", "")));
    assert_eq!(open.status.code(), Some(1), "{open:?}");
    assert!(String::from_utf8_lossy(&open.stderr).contains("token"), "{open:?}");
    let token = site.write("token", "s3cret-s3cret-s3cret\n");
    let closed = check(&site.write("closed.toml", &text("0.0.0.0:7117", &format!("token_file = {token:?}\n"))));
    assert!(closed.status.success(), "{closed:?}");

    let api = site.address();
    let listen = site.address();
    let origin = Origin::start(&site, "one");
    site.write(
        "weir.toml",
        &format!("{}\n{}", text(&api.to_string(), &format!("token_file = {token:?}\n")), http_site("web", listen, &[origin.address], "")),
    );
    let weir = Weir::start_written(&site, api);
    let ask = |field: &str| wire::send(api, "GET", &format!("GET {} HTTP/1.1\r\nHost: a\r\n{field}\r\n", STATUS_PATH)).unwrap().status;
    assert_eq!(ask(""), 401);
    assert_eq!(ask("Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(ask("Authorization: Bearer s3cret-s3cret-s3cret\r\n"), 200);
    let refused = weir.cli(&["status"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn the_metrics_count_what_happened() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    for _ in 0..7 {
        wire::get(listen, "/").unwrap();
    }
    wire::send(listen, "GET", "GET / HTTP/1.1\r\n\r\n").unwrap();
    // Each worker counts for itself, and a request when its answer has left.
    for expected in [r#"{listener="web",cause="ok"} 7"#, r#"{listener="web",cause="bad-request"} 1"#] {
        let expected = format!("weir_listener_requests_total{expected}");
        wait_until(&expected, SOON, || wire::get(weir.api(), "/metrics").unwrap().text().lines().any(|line| line == expected));
    }
    wait_until("the requests of the endpoint", SOON, || weir.endpoint("web", origin.address)["requests_total"] == 7);
}

/// The API under TLS, with curl and with our own client, and only for those who show a certificate.
#[test]
fn the_api_asks_for_certificates() {
    let site = Site::new();
    let openssl = |args: &str| crate::tls::openssl(&site, args);
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt");
    let api = site.address();
    site.write("names", &format!("subjectAltName = IP:{}\n", api.ip()));
    for name in ["node", "kim"] {
        openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        openssl(&format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -set_serial 0x1f -days 30 -extfile names -out {name}.crt"));
    }
    let file = |name: &str| site.path(name).to_string_lossy().into_owned();
    let text = format!(
        "[node]\nstate_dir = {:?}\n[api]\nbind = \"{api}\"\n[api.tls]\ncertificate_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}\n",
        file("state"),
        file("node.crt"),
        file("node.key"),
        file("ca.crt")
    );
    site.write("weir.toml", &text);
    let weir = Weir::start_until(&site, api, |_| {
        let shown = ["--cacert", &file("ca.crt"), "--cert", &file("kim.crt"), "--key", &file("kim.key")];
        curl(&shown, &format!("https://{api}/readyz")).status.success()
    });
    assert!(!curl(&["--cacert", &file("ca.crt")], &format!("https://{api}/readyz")).status.success(), "without a certificate");
    assert!(!curl(&[], &format!("http://{api}/readyz")).status.success(), "without TLS");
    let url = format!("https://{api}");
    let mut command = weir.command(&["status"]);
    command.env("WEIR_API", &url).env("WEIR_API_CA_FILE", file("ca.crt"));
    let refused = command.output().expect("it runs");
    assert!(!refused.status.success(), "{refused:?}");
    command.env("WEIR_API_CERTIFICATE_FILE", file("kim.crt")).env("WEIR_API_KEY_FILE", file("kim.key"));
    let served = command.output().expect("it runs");
    assert!(served.status.success(), "{}", String::from_utf8_lossy(&served.stderr));
    // What is wrong with a file is said, with its name.
    site.write("weir.toml", &text.replace("node.key", "kim.key"));
    let mut reload = weir.command(&["reload"]);
    reload.env("WEIR_API", &url).env("WEIR_API_CA_FILE", file("ca.crt"));
    reload.env("WEIR_API_CERTIFICATE_FILE", file("kim.crt")).env("WEIR_API_KEY_FILE", file("kim.key"));
    let refused = reload.output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("[api.tls]") && told.contains("node.crt"), "{told}");
}

fn curl(args: &[&str], url: &str) -> std::process::Output {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sSf", "--max-time", "10"]).args(args).arg(url).output().expect("curl is installed")
}
