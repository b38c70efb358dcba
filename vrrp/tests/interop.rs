//! Our node beside Debian's keepalived, FRR and itself on one link: {version 2, version 3 over IPv4, version 3 over IPv6} x {we are master, we are backup}
//! x {start, priority 0, kill -9, cut link, partition and healing, preemption and none, equal priorities, reload}.
//!
//! As root, with `keepalived`, `frr` and `nft`; `scripts/test` installs them, and runs this as a step of its own.
#![cfg(target_os = "linux")]

#[allow(unreachable_pub)]
mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::frr::Frr;
use support::keepalived::Keepalived;
use support::net::Lab;
use support::node::Program;
use support::sniff::Sniffer;

/// What a busy machine may add to what another product does; ours are judged by benches.
const SLACK: Duration = Duration::from_secs(2);

/// How long the test itself may take to see it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum Protocol {
    V2,
    V3,
    V6,
}

impl Protocol {
    fn interval(self) -> Duration {
        match self {
            Protocol::V2 => Duration::from_secs(1),
            _ => Duration::from_millis(100),
        }
    }

    fn skew(self, priority: u8) -> Duration {
        self.interval() * (256 - u32::from(priority)) / 256
    }

    fn down(self, priority: u8) -> Duration {
        3 * self.interval() + self.skew(priority)
    }
}

/// Either implementation, by the host it lives in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Weir,
    Keepalived,
    Frr,
}

struct Scene {
    protocol: Protocol,
    lab: Lab,
    /// One on each host's port: what the host sends is seen even when the bridge drops it.
    ports: [Sniffer; 2],
    programs: [Option<Program>; 2],
    kinds: [Option<Kind>; 2],
    /// What each of our nodes was told.
    words: [String; 2],
    /// What FRR's daemons speak to.
    zebras: [Option<Program>; 2],
}

const HOSTS: [&str; 2] = ["a", "b"];

impl Scene {
    fn new(protocol: Protocol) -> Scene {
        let lab = Lab::new(&HOSTS);
        let ports = HOSTS.map(|host| Sniffer::new(&lab, host));
        Scene {
            protocol,
            lab,
            ports,
            programs: [None, None],
            kinds: [None, None],
            words: [String::new(), String::new()],
            zebras: [None, None],
        }
    }

    fn address(&self, host: usize) -> IpAddr {
        match self.protocol {
            Protocol::V6 => format!("fe80::{}", host + 1),
            _ => format!("10.9.0.{}", host + 1),
        }
        .parse()
        .expect("an address")
    }

    fn start(&mut self, host: usize, kind: Kind, priority: u8, preempt: bool) {
        let addresses: &[&str] = match self.protocol {
            Protocol::V6 => &["fe80::100/64", "fd09::100/64"],
            _ => &["10.9.0.100/24"],
        };
        let interval = self.protocol.interval();
        let version = if matches!(self.protocol, Protocol::V2) { 2 } else { 3 };
        let program = match kind {
            Kind::Weir => {
                let list: String = addresses.iter().map(|address| format!(",address={address}")).collect();
                let preempt = if preempt { "yes" } else { "no" };
                let interval = interval.as_millis();
                let words = format!("vrid=51,priority={priority},interval={interval},version={version},preempt={preempt}{list}");
                self.words[host].clone_from(&words);
                Program::weir(&self.lab, HOSTS[host], &[&words])
            }
            Kind::Keepalived => {
                let v6 = matches!(self.protocol, Protocol::V6);
                let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
                let peer = Keepalived { version, v6, vrid: 51, priority, interval, preempt, addresses };
                peer.start_in_real_time(&self.lab, HOSTS[host])
            }
            Kind::Frr => {
                let v6 = matches!(self.protocol, Protocol::V6);
                let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
                self.zebras[host].get_or_insert_with(|| Frr::zebra(&self.lab, HOSTS[host]));
                Frr { version, v6, vrid: 51, priority, interval, preempt, addresses }.start(&self.lab, HOSTS[host])
            }
        };
        self.programs[host] = Some(program);
        self.kinds[host] = Some(kind);
    }

    /// Waits until a host advertises and the other one does not.
    fn wait_master(&self, host: usize, since: Instant, patience: Duration) -> Instant {
        let source = self.address(host);
        let name = format!("host {} becomes master", HOSTS[host]);
        let at = self.ports[host].wait_advert(&name, since, PATIENCE, |advert| advert.source == source && advert.priority > 0).at;
        assert!(at - since <= patience + SLACK, "{name} after {:?}, not {patience:?}", at - since);
        at
    }

    /// Through three advertisements of the master nobody else says anything.
    fn assert_alone(&self, host: usize) {
        let other = 1 - host;
        let mut since = Instant::now();
        let began = since;
        for _ in 0..3 {
            since = self.wait_master(host, since, 3 * self.protocol.interval()) + Duration::from_micros(1);
        }
        let source = self.address(other);
        let wrong: Vec<_> =
            self.ports[other].adverts(began + self.protocol.interval()).into_iter().filter(|one| one.source == source).collect();
        assert!(wrong.is_empty(), "two masters: {wrong:?}");
        support::net::until("the master has the address", PATIENCE, || self.lab.has(HOSTS[host], self.virtual_address()));
        // A backup of FRR has it on a device that carries nothing.
        if self.kinds[other] == Some(Kind::Frr) {
            return;
        }
        support::net::until("the backup does not have it", PATIENCE, || !self.lab.has(HOSTS[other], self.virtual_address()));
    }

    fn virtual_address(&self) -> &'static str {
        match self.protocol {
            Protocol::V6 => "fd09::100",
            _ => "10.9.0.100",
        }
    }

    fn kill(&mut self, host: usize) -> Instant {
        let at = self.programs[host].as_mut().expect("it runs").kill_all();
        // keepalived leaves its address behind; a dead node's link goes too.
        support::net::run(&format!("ip -n {} addr flush dev eth0 to {}/32", self.lab.space(HOSTS[host]), "10.9.0.100"));
        let _ = std::process::Command::new("ip")
            .args(["-n", &self.lab.space(HOSTS[host]), "addr", "flush", "dev", "eth0", "to", "fd09::100/64"])
            .status();
        self.restore(host);
        self.programs[host] = None;
        at
    }

    /// Flushing takes a whole network's addresses: the host's own come back.
    fn restore(&self, host: usize) {
        let space = self.lab.space(HOSTS[host]);
        let address = format!("fd09::{}/64", host + 1);
        let _ = std::process::Command::new("ip").args(["-n", &space, "addr", "replace", &address, "dev", "eth0", "nodad"]).status();
        let _ = std::process::Command::new("ip")
            .args(["-n", &space, "addr", "del", "fe80::100/64", "dev", "eth0"])
            .stderr(std::process::Stdio::null())
            .status();
    }

    fn stop(&mut self, host: usize) -> Instant {
        let at = self.programs[host].as_mut().expect("it runs").stop();
        let program = self.programs[host].as_mut().expect("it runs");
        support::net::until("the program ends", PATIENCE, || program.has_ended());
        self.programs[host] = None;
        at
    }
}

/// The whole life of a pair: `high` on host a is meant to be master, `low` on host b its backup.
fn life(protocol: Protocol, high: Kind, low: Kind) {
    let (mut scene, first, second) = (Scene::new(protocol), 0, 1);
    let (up, down) = (200, 100);
    let interval = protocol.interval();

    // Start: the higher one is master, and stays alone.
    let began = Instant::now();
    scene.start(first, high, up, true);
    scene.wait_master(first, began, protocol.down(up) + Duration::from_secs(2));
    scene.start(second, low, down, true);
    scene.assert_alone(first);
    if low == Kind::Weir {
        let program = scene.programs[second].as_mut().expect("it runs");
        program.wait_line("initialize backup", 0, PATIENCE);
        assert!(!program.lines().iter().any(|line| line.contains("backup master")), "{:?}", program.lines());
    }

    // A clean end: priority 0, and the other one follows after the skew time.
    let at = scene.stop(first);
    let last_word = |scene: &Scene, until: Instant| {
        let source = scene.address(first);
        let spoken = scene.ports[first].adverts(began).into_iter().rfind(|advert| advert.source == source && advert.at <= until);
        spoken.expect("it has spoken").at
    };
    if (high, low) == (Kind::Weir, Kind::Weir) {
        // The other one is asked to take over, and nobody has to wait for a timer.
        let taken = scene.wait_master(second, at, Duration::ZERO);
        let silent = taken - last_word(&scene, taken);
        assert!(silent < protocol.down(down), "handover {silent:?} after the last advertisement");
        assert!(!scene.ports[first].adverts(at).iter().any(|advert| advert.priority == 0));
    } else {
        let zero = scene.ports[first].wait_advert("priority 0", at, PATIENCE, |advert| advert.priority == 0).at;
        let taken = scene.wait_master(second, zero, protocol.skew(down));
        assert!(taken - zero < protocol.down(down), "takeover {:?} after priority 0", taken - zero);
    }

    // It comes back and preempts.
    let at = Instant::now();
    scene.start(first, high, up, true);
    scene.wait_master(first, at, protocol.down(up) + Duration::from_secs(2));
    scene.wait_master(first, Instant::now(), 2 * interval);
    scene.assert_alone(first);

    // kill -9 of everything: three intervals and the skew time.
    let at = scene.kill(first);
    let taken = scene.wait_master(second, at, protocol.down(down));
    let silent = taken - last_word(&scene, at);
    assert!(silent >= 2 * interval, "takeover {silent:?} after the last advertisement");

    // Without preemption the one that comes back leaves the other alone.
    let at = Instant::now();
    scene.start(first, high, up, false);
    std::thread::sleep(interval * 2);
    scene.assert_alone(second);
    assert!(!scene.ports[first].adverts(at).iter().any(|advert| advert.source == scene.address(first) && advert.priority > 0));
    scene.stop(second);
    scene.wait_master(first, at, protocol.down(up) + Duration::from_secs(1));

    // The link of the master is cut: it knows, and the other one takes over; back again, the higher one has it.
    scene.stop(first);
    let at = Instant::now();
    scene.start(first, high, up, true);
    scene.wait_master(first, at, protocol.down(up) + Duration::from_secs(2));
    scene.start(second, low, down, true);
    scene.assert_alone(first);
    let at = Instant::now();
    scene.lab.carrier(HOSTS[first], false);
    scene.wait_master(second, at, protocol.down(down));
    let at = Instant::now();
    scene.lab.carrier(HOSTS[first], true);
    scene.wait_master(first, at, protocol.down(up) + Duration::from_secs(2));
    scene.wait_master(first, Instant::now(), 2 * interval);
    scene.assert_alone(first);

    // A partition makes two masters, its end makes one of them; the winner says so at once, so that nobody goes on talking to the other.
    let at = Instant::now();
    scene.lab.partition(HOSTS[first]);
    scene.wait_master(second, at, protocol.down(down));
    // Before, for what is said at once counts; and until then each port carries its own host's words alone.
    let healed = Instant::now();
    scene.lab.heal();
    scene.wait_master(first, healed, 2 * interval);
    std::thread::sleep(interval);
    // A loser that spoke once more tells the winner that neighbours may have listened to it. One that heard the winner first is silent, but
    // for a node of ours, which greets the winner.
    let loser = scene.address(second);
    if (high, low) == (Kind::Weir, Kind::Weir) || scene.ports[first].adverts(healed).iter().any(|advert| advert.source == loser) {
        let target: IpAddr = scene.virtual_address().parse().expect("an address");
        scene.ports[second].wait("the winner announces the address", healed, PATIENCE, |frame| {
            frame.announced().filter(|(address, _)| *address == target)
        });
    }
    scene.assert_alone(first);

    // A reload of either changes nothing.
    let at = Instant::now();
    for host in [first, second] {
        let program = scene.programs[host].as_mut().expect("it runs");
        match [high, low][host] {
            Kind::Weir => program.say(&format!("apply {}", scene.words[host])),
            _ => program.signal(Signal::HUP),
        }
    }
    scene.assert_alone(first);
    assert!(!scene.ports[first].adverts(at).iter().any(|advert| advert.priority == 0 && advert.source == scene.address(first)));

    // Equal priorities: the greater address wins.
    scene.stop(first);
    scene.stop(second);
    let at = Instant::now();
    scene.start(first, high, 150, true);
    scene.wait_master(first, at, protocol.down(150) + Duration::from_secs(2));
    scene.start(second, low, 150, true);
    scene.assert_alone(first);
    scene.lab.partition(HOSTS[first]);
    scene.wait_master(second, Instant::now(), protocol.down(150) + Duration::from_secs(2));
    scene.lab.heal();
    std::thread::sleep(interval * 2);
    scene.assert_alone(second);
}

#[test]
fn v3_ipv4_we_are_master() {
    life(Protocol::V3, Kind::Weir, Kind::Keepalived);
}

#[test]
fn v3_ipv4_we_are_backup() {
    life(Protocol::V3, Kind::Keepalived, Kind::Weir);
}

#[test]
fn v3_ipv4_frr_is_backup() {
    life(Protocol::V3, Kind::Weir, Kind::Frr);
}

#[test]
fn v3_ipv4_frr_is_master() {
    life(Protocol::V3, Kind::Frr, Kind::Weir);
}

#[test]
fn v3_ipv6_frr_is_backup() {
    life(Protocol::V6, Kind::Weir, Kind::Frr);
}

#[test]
fn v3_ipv6_frr_is_master() {
    life(Protocol::V6, Kind::Frr, Kind::Weir);
}

#[test]
fn v2_frr_is_backup() {
    life(Protocol::V2, Kind::Weir, Kind::Frr);
}

#[test]
fn v2_frr_is_master() {
    life(Protocol::V2, Kind::Frr, Kind::Weir);
}

#[test]
fn v2_both_are_ours() {
    life(Protocol::V2, Kind::Weir, Kind::Weir);
}

#[test]
fn v3_ipv4_both_are_ours() {
    life(Protocol::V3, Kind::Weir, Kind::Weir);
}

#[test]
fn v3_ipv6_we_are_master() {
    life(Protocol::V6, Kind::Weir, Kind::Keepalived);
}

#[test]
fn v3_ipv6_we_are_backup() {
    life(Protocol::V6, Kind::Keepalived, Kind::Weir);
}

#[test]
fn v3_ipv6_both_are_ours() {
    life(Protocol::V6, Kind::Weir, Kind::Weir);
}

#[test]
fn v2_we_are_master() {
    life(Protocol::V2, Kind::Weir, Kind::Keepalived);
}

#[test]
fn v2_we_are_backup() {
    life(Protocol::V2, Kind::Keepalived, Kind::Weir);
}
