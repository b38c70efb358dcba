//! The TCP listener: bytes pass whole, ends pass one direction at a time.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::origin::{self, Behaviour, Origin};
use crate::rig::{LONG, SOON, Site, Weir, pool, resident_kib, wait_until};
use crate::wire::{Fingerprint, Framing, Noise, Peer};

fn tcp_site(listen: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    format!("[listener.raw]\nbind = \"{listen}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\n{}", pool("raw", endpoints, more))
}

fn rig(behaviour: Behaviour, test: impl FnOnce(&Origin, SocketAddr, &Weir<'_>)) {
    let site = Site::new();
    let origin = Origin::behaving(&site, "raw", behaviour);
    let listen = site.address();
    let weir = Weir::start(&site, &tcp_site(listen, &[origin.address], ""));
    test(&origin, listen, &weir);
}

#[test]
fn small_messages_go_back_and_forth() {
    rig(origin::tcp_echo(), |_, listen, _| {
        let mut peer = Peer::connect(listen).unwrap();
        let mut noise = Noise(5);
        for size in (1..200).chain([1000, 10_000, 100_000]) {
            let bytes = noise.bytes(size);
            peer.send(&bytes).unwrap();
            assert_eq!(peer.exactly(size).unwrap(), bytes);
        }
    });
}

#[test]
fn a_half_closed_session_goes_on_in_the_other_direction() {
    rig(origin::tcp_sink(), |_, listen, weir| {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("to the end").unwrap();
        peer.finish_sending().unwrap();
        let mut expected = Fingerprint::default();
        expected.write_all(b"to the end").unwrap();
        assert_eq!(String::from_utf8(peer.rest().unwrap()).unwrap(), format!("{expected:?}"));
        assert!(weir.exited().is_none());
    });
}

#[test]
fn bulk_arrives_whole_both_ways_at_once() {
    const TOTAL: usize = 64 * 1024 * 1024;
    rig(origin::tcp_echo(), |_, listen, weir| {
        let before = resident_kib(weir.first_pid());
        let mut peer = Peer::connect(listen).unwrap();
        let mut writer = peer.stream().try_clone().unwrap();
        let mut sent = Fingerprint::default();
        let mut received = Fingerprint::default();
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || {
                let block = Noise(9).bytes(1024 * 1024);
                for _ in 0..TOTAL / block.len() {
                    sent.write_all(&block).unwrap();
                    writer.write_all(&block).unwrap();
                }
                writer.shutdown(std::net::Shutdown::Write).unwrap();
                sent
            });
            peer.body(Framing::Length(TOTAL as u64), &mut received).unwrap();
            assert_eq!(received, sending.join().unwrap());
            assert_eq!(String::from_utf8(peer.rest().unwrap()).unwrap(), format!("{received:?}"));
        });
        let after = resident_kib(weir.first_pid());
        assert!(after < before + 16 * 1024, "resident memory grew from {before} to {after} KiB");
    });
}

#[test]
fn a_reset_reaches_the_other_side() {
    rig(origin::tcp_echo(), |origin, listen, weir| {
        for _ in 0..20 {
            let mut peer = Peer::connect(listen).unwrap();
            peer.send("x").unwrap();
            assert_eq!(peer.exactly(1).unwrap(), b"x");
            peer.reset_on_drop().unwrap();
        }
        wait_until("no session to be left", SOON, || weir.endpoint("raw", origin.address)["open"]["sessions"] == 0);
    });
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "raw", origin::tcp_echo());
    let (listen, dead) = (site.address(), site.address());
    let _weir = Weir::start(&site, &tcp_site(listen, &[dead, origin.address], "balance = \"round-robin\""));
    for _ in 0..10 {
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("hello").unwrap();
        assert_eq!(peer.exactly(5).unwrap(), b"hello");
    }
}

#[test]
fn a_session_in_which_nothing_moves_ends() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "raw", origin::tcp_echo());
    let listen = site.address();
    let body = format!("{}\n[listener.raw.timeouts]\ntunnel = \"3s\"\n", tcp_site(listen, &[origin.address], ""));
    let _weir = Weir::start(&site, &body);
    let mut peer = Peer::connect(listen).unwrap();
    // Longer in all than a session in which nothing moves.
    for _ in 0..8 {
        peer.send("x").unwrap();
        assert_eq!(peer.exactly(1).unwrap(), b"x");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(peer.stream().set_read_timeout(Some(LONG)).is_ok());
    // The origin's fingerprint may come first, for weir closes both sides in order.
    peer.rest().unwrap();
}
