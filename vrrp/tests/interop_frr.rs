//! Our node beside Debian's FRR on one link, version 3 over IPv4. As root, with `frr`; `scripts/test` installs it.
#![cfg(target_os = "linux")]

#[allow(unreachable_pub)]
mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use support::frr::Frr;
use support::net::{Lab, until};
use support::node::Program;
use support::sniff::Sniffer;

const PATIENCE: Duration = Duration::from_secs(5);
const OURS: &str = "vrid=51,address=10.9.0.100/24,interval=100";

fn address(host: u8) -> IpAddr {
    IpAddr::from([10, 9, 0, host])
}

#[test]
fn we_are_master_and_frr_follows() {
    let lab = Lab::new(&["a", "b"]);
    let ports = [Sniffer::new(&lab, "a"), Sniffer::new(&lab, "b")];
    let mut node = Program::weir(&lab, "a", &[&format!("{OURS},priority=200")]);
    node.wait_line("backup master", 0, PATIENCE);
    let began = Instant::now();
    let _frr = Frr::start(&lab, "b", 51, 100);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!ports[1].adverts(began).iter().any(|advert| advert.source == address(2) && advert.priority > 0), "FRR stays backup");

    let at = node.stop();
    let zero = ports[0].wait_advert("priority 0", at, PATIENCE, |advert| advert.priority == 0).at;
    let taken = ports[1].wait_advert("FRR takes over", zero, PATIENCE, |advert| advert.source == address(2)).at;
    assert!(taken - zero < Duration::from_millis(300), "{:?}", taken - zero);

    // We preempt it, and it takes over again when we are dead.
    let mut node = Program::weir(&lab, "a", &[&format!("{OURS},priority=200")]);
    node.wait_line("backup master", 0, PATIENCE);
    until("FRR is silent", PATIENCE, || {
        let since = Instant::now();
        std::thread::sleep(Duration::from_millis(250));
        !ports[1].adverts(since).iter().any(|advert| advert.source == address(2))
    });
    let at = node.kill_all();
    ports[1].wait_advert("FRR takes over", at, PATIENCE, |advert| advert.source == address(2));
}

#[test]
fn frr_is_master_and_we_follow() {
    let lab = Lab::new(&["a", "b"]);
    let ports = [Sniffer::new(&lab, "a"), Sniffer::new(&lab, "b")];
    let began = Instant::now();
    let mut frr = Frr::start(&lab, "b", 51, 200);
    ports[1].wait_advert("FRR is master", began, PATIENCE * 2, |advert| advert.source == address(2));
    let mut node = Program::weir(&lab, "a", &[&format!("{OURS},priority=100")]);
    node.wait_line("initialize backup", 0, PATIENCE);
    until("it hears FRR", PATIENCE, || !node.status().contains("advertisement_rcvd: 0,"));
    let status = node.status();
    assert!(status.contains("state=backup") && status.contains("discarded: {}"), "{status}");
    let at = frr.vrrpd.kill_all();
    let taken = ports[0].wait_advert("we take over", at, PATIENCE, |advert| advert.source == address(1)).at;
    assert!(taken - at < Duration::from_millis(600), "{:?}", taken - at);
}
