//! What must hold for any bytes that arrive under protocol 112.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use weir_vrrp::machine::{Announcements, Config, Input, Instance, StateKind, VirtualAddress};
use weir_vrrp::packet::{
    AdvertisementInterval, ChecksumForm, Envelope, Expected, Family, GROUP_V4, GROUP_V6, Guard, Keys, Packet, Priority, Reception, Version,
    Vrid, decode, encode,
};

const WALL: Duration = Duration::from_secs(1_800_000_000);
const WINDOW: Duration = Duration::from_secs(2);
const FLAG_V6: u8 = 1;
const FLAG_V2: u8 = 2;
const FLAG_SIGNED: u8 = 4;
/// The router's own answer to a checksum that a mutation cannot guess: make it right first.
const FLAG_MEND: u8 = 8;

/// A plain second reading, sharing no code: what an accepted advertisement must have had in its bytes.
fn plainly(message: &[u8], v2: bool, v6: bool) {
    let shown = message.escape_ascii();
    let size = if v6 { 16 } else { 4 };
    let tail = if v2 { 8 } else { 0 };
    assert_eq!(message[0], if v2 { 0x21 } else { 0x31 }, "version and type: {shown}");
    assert_ne!(message[1], 0, "VRID: {shown}");
    assert_ne!(message[3], 0, "count: {shown}");
    assert_eq!(message.len(), 8 + usize::from(message[3]) * size + tail, "length: {shown}");
    let interval = if v2 { u16::from(message[5]) } else { (u16::from(message[4]) << 8 | u16::from(message[5])) & 0x0fff };
    assert_ne!(interval, 0, "interval: {shown}");
    if v6 {
        assert_eq!((message[8], message[9] & 0xc0), (0xfe, 0x80), "link-local: {shown}");
    }
}

fn mend(message: &mut [u8], source: IpAddr, destination: IpAddr, pseudo: bool) {
    if message.len() < 8 {
        return;
    }
    message[6..8].fill(0);
    let mut all = Vec::new();
    if pseudo {
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => all.extend(address.octets()),
                IpAddr::V6(address) => all.extend(address.octets()),
            }
        }
        all.extend([0, 112]);
        all.extend((message.len() as u16).to_be_bytes());
    }
    all.extend_from_slice(message);
    let mut sum: u32 = all.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !(sum as u16);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// The first byte chooses family, version, signing, and whether the checksum is made right; the second the time to live, from 255 down; the
/// rest is the payload. It is decoded, and given to a backup and to a master, which must stay in order.
pub fn vrrp(data: &[u8]) {
    let [flags, ttl, payload @ ..] = data else { return };
    let flag = |flag: u8| flags & flag != 0;
    let (v6, v2) = (flag(FLAG_V6), flag(FLAG_V2) && !flag(FLAG_V6));
    let (source, destination, family): (IpAddr, IpAddr, Family) = if v6 {
        ("fe80::2".parse().expect("an address"), GROUP_V6.into(), Family::V6)
    } else {
        ("10.0.0.2".parse().expect("an address"), GROUP_V4.into(), Family::V4)
    };
    let version = if v2 { Version::V2 } else { Version::V3 };
    let mut payload = payload.to_vec();
    if flag(FLAG_MEND) {
        let own_type = payload.first() == Some(&0x3f);
        mend(&mut payload, source, destination, v6 || (own_type && !v2));
    }
    let keys = Keys::parse("1 000102030405060708090a0b0c0d0e0f").expect("a key");
    let signed = flag(FLAG_SIGNED);
    let ttl = 255 - *ttl;
    let vrid = payload.get(1).copied().and_then(Vrid::new).or(Vrid::new(1)).expect("not 0");
    let reception = Reception { source, destination, ttl, wall: WALL };
    let expected = Expected { version, family, vrid, ttl: (255, 255), keys: signed.then_some(&keys), replay_window: WINDOW };
    if let Ok(decoded) = decode(&payload, &reception, &expected, &mut Guard::default()) {
        assert_eq!(ttl, 255);
        assert!(!signed, "nobody can sign: {}", payload.escape_ascii());
        if let Packet::Advertisement(_) = &decoded.packet {
            plainly(&payload, v2, v6);
        }
        let checksum = decoded.checksum.unwrap_or(ChecksumForm::PseudoHeader);
        let again = encode(&decoded.packet, &Envelope { source, destination, checksum, keys: None, made_at: WALL });
        let read = decode(&again, &reception, &expected, &mut Guard::default()).map(|decoded| decoded.packet);
        assert_eq!(read.as_ref(), Ok(&decoded.packet), "written, it reads differently: {}", payload.escape_ascii());
    }
    for priority in [100, 255] {
        feed(&payload, &reception, config(family, version, vrid, priority, signed.then_some(keys.clone())));
    }
}

fn config(family: Family, version: Version, vrid: Vrid, priority: u8, keys: Option<Keys>) -> Config {
    let address = if family == Family::V6 { "fe80::100" } else { "10.0.0.100" };
    Config {
        name: "fuzz".into(),
        interface: "eth0".into(),
        vrid,
        family,
        version,
        priority: Priority(priority),
        interval: AdvertisementInterval::from_centiseconds(100).expect("1 s"),
        addresses: vec![VirtualAddress { address: address.parse().expect("an address"), prefix_len: 32 }],
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        checksum: ChecksumForm::PseudoHeader,
        keys: keys.map(Into::into),
        peers: Vec::new(),
        replay_window: WINDOW,
        announce: Announcements::default(),
        follower: false,
        shared: None,
    }
}

/// Whatever arrives, a backup waits for something and a router that is no master has nothing to hold.
fn feed(payload: &[u8], reception: &Reception, config: Config) {
    let now = Instant::now();
    let own = if config.family == Family::V6 { "fe80::1" } else { "10.0.0.1" };
    let mut instance = Instance::new(config, now);
    instance.handle_input(Input::Interface { up: true }, now);
    instance.handle_input(Input::PrimaryAddress(own.parse().ok()), now);
    instance.handle_input(Input::Eligible { eligible: true, reason: String::new() }, now);
    instance.handle_input(Input::Start, now);
    for _ in 0..3 {
        instance.handle_packet(payload, reception, now);
        let mut outputs = 0;
        while instance.poll_output().is_some() {
            outputs += 1;
        }
        assert!(outputs < 20, "one packet, {outputs} things to do: {}", payload.escape_ascii());
        let state = instance.state();
        assert_ne!(state, StateKind::Initialize);
        let due = instance.poll_timeout().expect("it waits for something");
        assert!(due <= now + Duration::from_secs(200), "it waits for too long");
        assert_eq!(instance.farewell(now).is_empty(), state != StateKind::Master);
    }
}
