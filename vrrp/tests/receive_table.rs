//! Every rule about received packets (RFC 9568 section 7.1 and its errata), as a frame made by hand on a real link, with what comes of it.
#![cfg(target_os = "linux")]

#[allow(unreachable_pub)]
mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use support::net::{Lab, until};
use support::node::Program;
use support::packet::Packet;
use support::sniff::{Injector, Sniffer};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PATIENCE: Duration = Duration::from_secs(3);

/// A counter out of the status' text; what is not in it is 0.
fn counter(status: &str, name: &str) -> u64 {
    let at = [format!("\"{name}\": "), format!("{name}: ")].into_iter().find_map(|key| Some((status.find(&key)?, key.len())));
    at.map_or(0, |(at, length)| {
        let digits: String = status[at + length..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    })
}

/// What shall come of a frame: exactly one of these counters goes up by one.
struct Row {
    name: &'static str,
    packet: Packet,
    counter: &'static str,
}

fn rows() -> Vec<Row> {
    let good = Packet::advertisement(STRANGER, 51, 100, 10, &[VIP]);
    let row = |name, packet, counter| Row { name, packet, counter };
    let set = |at: usize, value: u8| good.with(|message| message[at] = value);
    vec![
        row("time to live 254", Packet { ttl: 254, ..good.clone() }, "ttl"),
        row("time to live 1", Packet { ttl: 1, ..good.clone() }, "ttl"),
        row("version 2", set(0, 0x21), "version"),
        row("version 4", set(0, 0x41), "version"),
        row("type 2", set(0, 0x32), "type"),
        row("one address less than it says", set(3, 2), "length"),
        row("bytes behind the last address", good.with(|message| message.extend([0; 4])), "length"),
        row("seven bytes", Packet { message: good.message[..7].to_vec(), ..good.clone() }, "length"),
        row(
            "a wrong checksum",
            {
                let mut bad = good.clone();
                bad.message[6] ^= 1;
                bad
            },
            "checksum",
        ),
        row("a number nobody has", Packet::advertisement(STRANGER, 52, 100, 10, &[VIP]), "unknown_vrid"),
        row("no address", Packet::advertisement(STRANGER, 51, 100, 10, &[]), "no-address"),
        row("interval 0", Packet::advertisement(STRANGER, 51, 100, 0, &[VIP]), "interval-zero"),
        row("not to the group and not to us", Packet { destination: Ipv4Addr::new(10, 9, 0, 77), ..good.clone() }, "not_ours"),
        row("good", good.clone(), "advertisement_rcvd"),
        row("the four reserved bits set", good.with(|message| message[4] |= 0xf0), "advertisement_rcvd"),
        row(
            "checksum without pseudo-header",
            {
                let mut other = good.clone();
                other.sum(false);
                other
            },
            "advertisement_rcvd",
        ),
        row("padded to the shortest frame", Packet { padding: 14, ..good.clone() }, "advertisement_rcvd"),
        row("IP options", Packet { options: vec![1, 1, 1, 0], ..good.clone() }, "advertisement_rcvd"),
        row("priority 0", set(2, 0), "priority_zero_pkts_rcvd"),
        row("another interval", Packet::advertisement(STRANGER, 51, 100, 77, &[VIP]), "interval_errors"),
        row("another address", Packet::advertisement(STRANGER, 51, 100, 10, &[Ipv4Addr::new(10, 9, 0, 200)]), "address_list_errors"),
    ]
}

/// RFC 9568 sections 5.1.1.3, 5.2.2, 5.2.5, 5.2.6, 5.2.8, 6.4.3 and 7.1, on a real link.
#[test]
fn each_packet_has_its_reaction_and_its_counter() {
    let lab = Lab::new(&["a", "b"]);
    let port = Sniffer::new(&lab, "a");
    let injector = Injector::new(&lab, "b");
    let mut node = Program::weir(&lab, "a", &["vrid=51,address=10.9.0.100/24,priority=200,interval=100"]);
    node.wait_line("backup master", 0, PATIENCE);
    for Row { name, packet, counter: wanted } in rows() {
        let before = counter(&node.status(), wanted);
        let at = Instant::now();
        injector.send(&packet.frame());
        let mut after = String::new();
        until(&format!("{name}: {wanted} goes up"), PATIENCE, || {
            after = node.status();
            counter(&after, wanted) > before
        });
        assert_eq!(counter(&after, wanted), before + 1, "{name}\n{after}");
        assert!(after.contains("state=master"), "{name}: it must stay master\n{after}");
        if ["good", "priority 0"].contains(&name) {
            // The loser is answered at once, and so is one that stops (RFC 9568 section 6.4.3).
            port.wait_advert(name, at, PATIENCE, |advert| advert.source == Ipv4Addr::new(10, 9, 0, 1));
        }
    }
    // Rows that end its reign: an owner speaks, whatever else is in the packet.
    injector.send(&Packet::advertisement(STRANGER, 51, 255, 10, &[VIP]).frame());
    node.wait_line("master backup", 0, PATIENCE);
    until("the address is gone", PATIENCE, || !lab.has("a", "10.9.0.100"));
}

/// RFC 9568 section 7.1: what fails a check is discarded, whatever it says.
#[test]
fn nothing_broken_moves_a_backup() {
    let lab = Lab::new(&["a", "b"]);
    let injector = Injector::new(&lab, "b");
    // Patient enough not to take the test's own pauses for a master's silence.
    let mut node = Program::weir(&lab, "a", &["vrid=51,address=10.9.0.100/24,priority=100,interval=3000"]);
    node.wait_line("initialize backup", 0, PATIENCE);
    // A live master of a higher rank, whose packets keep it a backup, and between them all that is broken.
    let live = Packet::advertisement(STRANGER, 51, 200, 300, &[VIP]).frame();
    for _ in 0..2 {
        for Row { packet, counter, .. } in rows().into_iter().filter(|row| !matches!(row.counter, "priority_zero_pkts_rcvd")) {
            injector.send(&live);
            if !counter.contains('_') || counter == "unknown_vrid" || counter == "not_ours" {
                injector.send(&packet.frame());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let status = node.status();
    assert!(status.contains("state=backup"), "{status}");
    assert!(!node.lines().iter().any(|line| line.contains("backup master")), "{:?}", node.lines());
    assert_eq!(counter(&status, "interval-zero"), 2, "{status}");
}

#[test]
fn carp_is_told_apart() {
    let lab = Lab::new(&["a", "b"]);
    let mut node = Program::weir(&lab, "a", &["vrid=51,address=10.9.0.100/24,priority=200,interval=100"]);
    node.wait_line("backup master", 0, PATIENCE);
    let arguments = [
        "--interface=eth0",
        "--srcip=10.9.0.2",
        "--vhid=51",
        "--pass=x",
        "--addr=10.9.0.101",
        "--upscript=/bin/true",
        "--downscript=/bin/true",
    ];
    let _carp = Program::start(&lab, "b", "/usr/sbin/ucarp", &arguments.map(str::to_owned));
    node.wait_line("carp", 0, Duration::from_secs(10));
    let status = node.status();
    assert!(counter(&status, "carp") > 0 && status.contains("state=master"), "{status}");
}
