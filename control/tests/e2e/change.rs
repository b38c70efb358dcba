//! Changes under load: reloads, run-time changes and binary upgrades. What did not change must not notice.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::load::{Load, Plan};
use crate::origin::{Nginx, Origin};
use crate::rig::{LONG, NodeSettings, SOON, Site, Weir, alive, health, heavy, http_site, pool, setting, wait_until};
use crate::wire::{self, Peer};

/// Reloads in the long test.
const RELOADS: u32 = 60;

/// The file of reload number `step`: `steady` never changes, everything else does in turn.
fn step_config(listens: &[SocketAddr; 3], steady: &[SocketAddr], moving: &[SocketAddr], step: u32) -> String {
    let [steady_listen, moving_listen, extra_listen] = listens;
    let mut text = http_site("steady", *steady_listen, steady, &health("steady"));
    text.push_str(&http_site("moving", *moving_listen, &[], "").split("[pool.").next().unwrap_or("").replace("\n\n", "\n"));
    if step % 3 == 1 {
        text.push_str("\n[[listener.moving.route]]\npath = \"/elsewhere/\"\npool = \"steady\"\n");
    }
    if step % 5 == 2 {
        text.push_str("\n[listener.moving.timeouts]\nhead = \"9s\"\n");
    }
    if step % 4 == 3 {
        text.push_str(&format!("\n[listener.extra]\nbind = \"{extra_listen}\"\nprotocol = \"http\"\npool = \"moving\"\n"));
    }
    // One of the endpoints is always missing, another weighs differently each time.
    let endpoints: Vec<String> = moving
        .iter()
        .enumerate()
        .filter(|(index, _)| *index as u32 != step % moving.len() as u32)
        .map(|(index, address)| format!("{{ address = \"{address}\", weight = {} }}", 1 + (step + index as u32) % 7))
        .collect();
    let balance = ["least-request", "round-robin", "random", "peak-ewma"][step as usize % 4];
    text.push_str(&format!("\n[pool.moving]\nbalance = \"{balance}\"\nendpoints = [{}]\n\n{}", endpoints.join(", "), health("moving")));
    text
}

#[test]
fn sixty_reloads_under_load() {
    let _turn = heavy();
    let site = Site::new();
    let steady = Origin::start(&site, "steady");
    let sick = Origin::start(&site, "sick");
    sick.seen.sick.store(true, Ordering::SeqCst);
    let moving: Vec<Nginx> = ["m0", "m1", "m2", "m3"].iter().map(|name| Nginx::start(&site, name)).collect();
    let moving_at: Vec<SocketAddr> = moving.iter().map(|nginx| nginx.address).collect();
    let steady_at = [steady.address, sick.address];
    let listens = [site.address(), site.address(), site.address()];
    let weir = Weir::start(&site, &step_config(&listens, &steady_at, &moving_at, 0));
    wait_until("the sick endpoint to be unhealthy", SOON, || weir.endpoint("steady", sick.address)["health"] == "unhealthy");
    wait_until("the steady endpoint to be healthy", SOON, || weir.endpoint("steady", steady.address)["health"] == "healthy");
    let sick_requests = sick.requests();

    let plan = Plan { clients: 8, ..Plan::default() };
    let on_steady = Load::start(listens[0], plan);
    let on_moving = Load::start(listens[1], Plan { clients: 8, ..Plan::default() });
    let fresh = Load::start(listens[1], Plan { clients: 4, requests_per_connection: 1, ..Plan::default() });
    on_steady.wait_for(500);
    let since = Instant::now();

    let every = Duration::from_millis(setting("WEIR_E2E_RELOAD_EVERY_MS", 250));
    for step in 1..=RELOADS {
        let due = since + every * step;
        weir.reload(&step_config(&listens, &steady_at, &moving_at, step));
        wait_until("the time of the next reload", LONG, || Instant::now() >= due);
        if let Some(failure) = [&on_steady, &on_moving, &fresh].iter().find(|load| load.failed() > 0) {
            println!("failures at reload {step}: {}", failure.failed());
            break;
        }
    }
    let carrying = steady.carrying();
    let reports = [on_steady.finish(), on_moving.finish(), fresh.finish()];
    reports.iter().for_each(|report| report.assert_clean());

    assert_eq!(reports[0].connects, plan.clients as u64, "clients of the unchanged listener had to connect again");
    assert!(carrying <= plan.clients as u64, "{carrying} connections to the unchanged pool for {} clients", plan.clients);
    assert_eq!(sick.requests(), sick_requests, "a verdict was forgotten: traffic went to the unhealthy endpoint");
    for (address, verdict) in [(steady.address, "healthy"), (sick.address, "unhealthy")] {
        let passed = since.elapsed().as_secs();
        let status = weir.endpoint("steady", address);
        assert_eq!(status["health"], verdict);
        let age = status["health_age_s"].as_u64().unwrap_or(0);
        assert!(age + 2 >= passed, "the verdict of {address} is {age} s old after {passed} s");
    }
}

#[test]
fn reloading_the_same_file_changes_nothing() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    let mut peer = Peer::connect(listen).unwrap();
    for _ in 0..5 {
        peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(peer.response("GET").unwrap().status, 200);
        weir.cli_ok(&["reload"]);
        weir.signal(weir.first_pid(), rustix::process::Signal::HUP);
    }
    assert_eq!(origin.carrying(), 1);
}

#[test]
fn a_changed_file_takes_effect_on_sighup() {
    let site = Site::new();
    let (a, b) = (Origin::start(&site, "a"), Origin::start(&site, "b"));
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[a.address], ""));
    assert_eq!(wire::get(listen, "/").unwrap().text(), "a");
    weir.write_config(NodeSettings::default(), &http_site("web", listen, &[b.address], ""));
    weir.signal(weir.first_pid(), rustix::process::Signal::HUP);
    wait_until("the new file to be in effect", SOON, || wire::get(listen, "/").is_ok_and(|response| response.text() == "b"));
}

#[test]
fn a_wrong_file_is_refused_and_the_old_one_stays() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let (listen, taken) = (site.address(), site.address());
    let weir = Weir::start(&site, &http_site("web", listen, &[origin.address], ""));
    let _occupied = std::net::TcpListener::bind(taken).unwrap();
    let good = http_site("web", listen, &[origin.address], "");
    for (what, body, hint) in [
        ("not TOML", "[listener.web\n".to_owned(), ""),
        ("an unknown key", good.replace("protocol", "protocoll"), "protocol"),
        ("an unknown pool", good.replace("pool = \"web\"", "pool = \"wbe\""), "web"),
        ("an address in use", format!("{good}\n[listener.more]\nbind = \"{taken}\"\nprotocol = \"http\"\npool = \"web\"\n"), ""),
    ] {
        weir.write_config(NodeSettings::default(), &body);
        let output = weir.cli(&["reload"]);
        assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.trim().is_empty() && said.contains(hint), "{what}: {said}");
        assert_eq!(wire::get(listen, "/").unwrap().text(), "one", "{what}");
        assert!(weir.exited().is_none(), "{what}");
    }
    // And it can be mended.
    let other = Origin::start(&site, "other");
    weir.reload(&http_site("web", listen, &[other.address], ""));
    assert_eq!(wire::get(listen, "/").unwrap().text(), "other");
}

#[test]
fn a_listener_can_come_and_go() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let (first, second) = (site.address(), site.address());
    let one = http_site("web", first, &[origin.address], "");
    let two = format!("{one}\n[listener.more]\nbind = \"{second}\"\nprotocol = \"http\"\npool = \"web\"\n");
    let weir = Weir::start(&site, &one);
    assert!(wire::get(second, "/").is_err());
    weir.reload(&two);
    assert_eq!(wire::get(second, "/").unwrap().text(), "one");
    weir.reload(&one);
    wait_until("the listener to be gone", SOON, || wire::get(second, "/").is_err());
    assert_eq!(wire::get(first, "/").unwrap().text(), "one");
}

#[test]
fn run_time_changes_survive_reload_and_restart() {
    let site = Site::new();
    let (a, b, c) = (Origin::start(&site, "a"), Origin::start(&site, "b"), Origin::start(&site, "c"));
    let listen = site.address();
    let body = http_site("web", listen, &[a.address, b.address], "balance = \"round-robin\"");
    let weir = Weir::start(&site, &body);
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|origin| origin.address.to_string());
    weir.cli_ok(&["endpoint", "add", "web", &at_c]);
    weir.cli_ok(&["endpoint", "weight", "web", &at_c, "3"]);
    weir.cli_ok(&["endpoint", "remove", "web", &at_b]);
    let check = |weir: &Weir<'_>, when: &str| {
        let before = [a.requests(), b.requests(), c.requests()];
        let mut peer = Peer::connect(listen).unwrap();
        for _ in 0..40 {
            peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            peer.response("GET").unwrap();
        }
        let counts = [a.requests() - before[0], b.requests() - before[1], c.requests() - before[2]];
        assert_eq!(counts, [10, 0, 30], "{when}: {at_a}, {at_b}, {at_c}");
        assert_eq!(weir.endpoint("web", c.address)["weight"], 3, "{when}");
        assert!(weir.endpoint("web", b.address).is_null(), "{when}");
    };
    check(&weir, "at once");
    weir.reload(&format!("{body}\n{}", pool("unrelated", &[], "")));
    check(&weir, "after a reload");
    let api = weir.api();
    drop(weir);
    let weir = Weir::start_written(&site, api);
    check(&weir, "after a restart");
    let refused = weir.cli(&["endpoint", "add", "web", &at_c]);
    assert_eq!(refused.status.code(), Some(1), "added twice: {refused:?}");
    let refused = weir.cli(&["endpoint", "weight", "web", &at_c, "0"]);
    assert!(!refused.status.success(), "a weight of zero: {refused:?}");
}

/// Upgrades `count` times under load; `workers` tells each next process how many workers it has.
fn upgrades_under_load(count: u64, workers: impl Fn(u64) -> u32) {
    let _turn = heavy();
    let site = Site::new();
    let origins = [Nginx::start(&site, "a"), Nginx::start(&site, "b")];
    let tcp_origin = Origin::behaving(&site, "tcp", crate::origin::tcp_echo());
    let (listen, tcp_listen) = (site.address(), site.address());
    let more = health("web");
    let body = format!(
        "{}\n[listener.raw]\nbind = \"{tcp_listen}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\n{}",
        http_site("web", listen, &[origins[0].address, origins[1].address], &more),
        pool("raw", &[tcp_origin.address], "")
    );
    let weir = Weir::start_with(&site, NodeSettings { workers: workers(0), ..NodeSettings::default() }, &body);
    let kept = Load::start(listen, Plan { clients: 8, ..Plan::default() });
    let fresh = Load::start(listen, Plan { clients: 4, requests_per_connection: 1, ..Plan::default() });
    kept.wait_for(200);
    let mut pid = weir.pid();
    for round in 1..=count {
        weir.write_config(NodeSettings { workers: workers(round), ..NodeSettings::default() }, &body);
        // A session of the old process lives on while the new one serves.
        let mut session = Peer::connect(tcp_listen).unwrap();
        session.send("before").unwrap();
        assert_eq!(session.exactly(6).unwrap(), b"before");
        weir.cli_ok(&["upgrade"]);
        session.send("after").unwrap();
        assert_eq!(session.exactly(5).unwrap(), b"after", "round {round}");
        drop(session);
        let old = std::mem::replace(&mut pid, weir.pid());
        assert_ne!(pid, old, "round {round}: the same process answers");
        let ended = || if old == weir.first_pid() { weir.exited().is_some() } else { !alive(old) };
        wait_until("the old process to end", LONG, ended);
        kept.wait_for(100);
        fresh.wait_for(20);
        if kept.failed() + fresh.failed() > 0 {
            println!("failures in round {round}");
            break;
        }
    }
    kept.finish().assert_clean();
    fresh.finish().assert_clean();
    assert!(weir.exited().is_some_and(|status| status.success()), "the first process ended with {:?}", weir.exited());
}

#[test]
fn twenty_upgrades_under_load() {
    upgrades_under_load(setting("WEIR_E2E_UPGRADES", 20), |_| 2);
}

#[test]
fn upgrades_with_fewer_and_more_workers() {
    upgrades_under_load(8, |round| if round % 2 == 0 { 2 } else { 1 });
}

#[test]
fn an_upgrade_that_cannot_start_leaves_the_old_process_serving() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = http_site("web", listen, &[origin.address], "");
    let weir = Weir::start(&site, &body);
    weir.write_config(NodeSettings::default(), "[listener.web\n");
    let output = weir.cli(&["upgrade"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for _ in 0..20 {
        assert_eq!(wire::get(listen, "/").unwrap().text(), "one");
    }
    assert_eq!(weir.pid(), weir.first_pid());
    weir.write_config(NodeSettings::default(), &body);
    weir.cli_ok(&["upgrade"]);
    assert_eq!(wire::get(listen, "/").unwrap().text(), "one");
}

#[test]
fn verdicts_survive_an_upgrade() {
    let site = Site::new();
    let (well, sick) = (Origin::start(&site, "well"), Origin::start(&site, "sick"));
    sick.seen.sick.store(true, Ordering::SeqCst);
    let listen = site.address();
    let weir = Weir::start(&site, &http_site("web", listen, &[well.address, sick.address], &health("web")));
    wait_until("the sick endpoint to be unhealthy", SOON, || weir.endpoint("web", sick.address)["health"] == "unhealthy");
    wait_until("the other to be healthy", SOON, || weir.endpoint("web", well.address)["health"] == "healthy");
    let before = sick.requests();
    weir.cli_ok(&["upgrade"]);
    for _ in 0..50 {
        assert_eq!(wire::get(listen, "/").unwrap().text(), "well");
    }
    assert_eq!(sick.requests(), before);
}
