//! Every receive rule with its name, and that what we write is what we read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const GROUP: IpAddr = IpAddr::V4(GROUP_V4);
const WALL: Duration = Duration::from_secs(1_800_000_000);
const WINDOW: Duration = Duration::from_secs(2);

/// Captured from keepalived 2.2.7 (Debian 12), without the IP header: `virtual_router_id 51`, priority 100, every second, 10.0.0.100, sent
/// from 10.0.0.1 to 224.0.0.18, in either version.
const KEEPALIVED_V2: [u8; 20] = [0x21, 51, 100, 1, 0, 1, 0x70, 0x66, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];
const KEEPALIVED_V3: [u8; 12] = [0x31, 51, 100, 1, 0, 100, 0x75, 0x73, 10, 0, 0, 100];

fn vrid() -> Vrid {
    Vrid::new(51).expect("not 0")
}

fn advertisement() -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: vrid(),
        priority: Priority(100),
        interval: AdvertisementInterval::from_centiseconds(100).expect("1 s"),
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
    }
}

fn envelope(checksum: ChecksumForm) -> Envelope<'static> {
    Envelope { source: SOURCE, destination: GROUP, checksum, keys: None, made_at: WALL }
}

fn reception() -> Reception {
    Reception { source: SOURCE, destination: GROUP, ttl: 255, wall: WALL }
}

fn expected() -> Expected<'static> {
    Expected { version: Version::V3, family: Family::V4, vrid: vrid(), ttl: (255, 255), keys: None, replay_window: WINDOW }
}

fn bytes() -> Vec<u8> {
    encode(&Packet::Advertisement(advertisement()), &envelope(ChecksumForm::PseudoHeader))
}

/// Changes bytes and mends the checksum (the one without a pseudo-header), so that only the rule in question is broken.
fn mended(mut bytes: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    if bytes.len() >= 8 {
        bytes[6..8].fill(0);
        let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = !(sum as u16);
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<Decoded, Discard> {
    decode(bytes, &reception(), &expected(), &mut Guard::default())
}

/// RFC 9568 sections 5.2.1, 5.2.2, 5.2.5, 5.2.6, 5.2.7, 5.2.8 and 7.1: version, type, no address, reserved bits, interval 0, checksum, length.
#[test]
fn every_receive_rule_has_a_name() {
    let set = |at: usize, value: u8| move |bytes: &mut Vec<u8>| bytes[at] = value;
    let cases: Vec<(&str, Vec<u8>, Result<(), &str>)> = vec![
        ("as sent", bytes(), Ok(())),
        ("5.2.8: without pseudo-header", mended(bytes(), |_| {}), Ok(())),
        ("5.2.6: reserved bits are ignored", mended(bytes(), |bytes| bytes[4] |= 0xf0), Ok(())),
        ("7.1: version", mended(bytes(), set(0, 0x41)), Err("version")),
        ("7.1: the other version", KEEPALIVED_V2.to_vec(), Err("version")),
        ("5.2.2: type", mended(bytes(), set(0, 0x32)), Err("type")),
        ("7.1: nothing", Vec::new(), Err("length")),
        ("7.1: one byte", vec![0x31], Err("length")),
        ("7.1: head cut", bytes()[..7].to_vec(), Err("length")),
        ("7.1: addresses cut", mended(bytes(), |bytes| bytes.truncate(11)), Err("length")),
        ("7.1: fewer addresses than counted", mended(bytes(), set(3, 2)), Err("length")),
        ("7.1: bytes after the addresses", mended(bytes(), |bytes| bytes.push(0)), Err("length")),
        ("7.1: more addresses than counted", mended(bytes(), |bytes| bytes.extend([10, 0, 0, 101])), Err("length")),
        ("7.1: checksum", bytes().iter().enumerate().map(|(at, byte)| if at == 7 { byte ^ 1 } else { *byte }).collect(), Err("checksum")),
        ("7.1: unknown VRID", mended(bytes(), set(1, 52)), Err("vrid")),
        ("5.2.3: VRID 0", mended(bytes(), set(1, 0)), Err("vrid")),
        (
            "5.2.5, erratum 8299: no address",
            mended(bytes(), |bytes| {
                bytes[3] = 0;
                bytes.truncate(8);
            }),
            Err("no-address"),
        ),
        ("5.2.7, erratum 8301: interval 0", mended(bytes(), |bytes| bytes[4..6].fill(0)), Err("interval-zero")),
        (
            "interval 0 under reserved bits",
            mended(bytes(), |bytes| {
                bytes[4] = 0xf0;
                bytes[5] = 0;
            }),
            Err("interval-zero"),
        ),
        ("5.2.4: priority 0 is valid", mended(bytes(), set(2, 0)), Ok(())),
        ("5.2.4: priority 255 is valid", mended(bytes(), set(2, 255)), Ok(())),
    ];
    for (rule, bytes, result) in cases {
        assert_eq!(read(&bytes).map(|_| ()).map_err(|discard| discard.word()), result, "{rule}");
    }
}

#[test]
fn rfc_9568_section_7_1_time_to_live() {
    for (ttl, range, valid) in
        [(255, (255, 255), true), (254, (255, 255), false), (1, (255, 255), false), (254, (254, 255), true), (253, (254, 255), false)]
    {
        let result = decode(&bytes(), &Reception { ttl, ..reception() }, &Expected { ttl: range, ..expected() }, &mut Guard::default());
        assert_eq!(result.is_ok(), valid, "{ttl} {range:?}");
        assert!(valid || matches!(result, Err(Discard::Ttl(..))));
    }
}

#[test]
fn rfc_9568_section_5_2_9_ipv6_begins_with_a_link_local_address() {
    let source: IpAddr = "fe80::1".parse().expect("an address");
    let destination = IpAddr::V6(GROUP_V6);
    for (addresses, valid) in [(["fe80::100", "2001:db8::1"], true), (["2001:db8::1", "fe80::100"], false)] {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let packet = Packet::Advertisement(Advertisement { addresses, ..advertisement() });
        let bytes = encode(&packet, &Envelope { source, destination, ..envelope(ChecksumForm::Rfc9568) });
        let reception = Reception { source, destination, ..reception() };
        let result = decode(&bytes, &reception, &Expected { family: Family::V6, ..expected() }, &mut Guard::default());
        assert_eq!(result.is_ok(), valid, "{result:?}");
        // IPv6 always has the pseudo-header, whatever is set for IPv4; another destination does not fit.
        let elsewhere = Reception { destination: source, ..reception };
        assert_eq!(
            decode(&bytes, &elsewhere, &Expected { family: Family::V6, ..expected() }, &mut Guard::default()),
            Err(Discard::Checksum)
        );
    }
}

/// RFC 9568 sections 5.2.8 and 7.2: fields and checksum, as another implementation writes them.
#[test]
fn packets_of_keepalived_are_read_and_written_alike() {
    assert_eq!(bytes(), KEEPALIVED_V3);
    let decoded = read(&KEEPALIVED_V3).expect("valid");
    assert_eq!(decoded, Decoded { packet: Packet::Advertisement(advertisement()), checksum: Some(ChecksumForm::PseudoHeader) });
    let expected = Expected { version: Version::V2, ..expected() };
    let decoded = decode(&KEEPALIVED_V2, &reception(), &expected, &mut Guard::default()).expect("valid");
    let Packet::Advertisement(read) = &decoded.packet else { panic!("{decoded:?}") };
    assert_eq!(read, &Advertisement { version: Version::V2, ..advertisement() });
    assert_eq!(encode(&decoded.packet, &envelope(ChecksumForm::PseudoHeader)), KEEPALIVED_V2);
    let password = mended(KEEPALIVED_V2.to_vec(), |bytes| bytes[4] = 1);
    let result = decode(&password, &reception(), &expected, &mut Guard::default());
    assert_eq!(result, Err(Discard::AuthenticationType(1)), "RFC 3768 section 5.3.6");
}

#[test]
fn carp_is_recognised_in_either_version() {
    let mut carp = [0u8; 36];
    carp[..6].copy_from_slice(&[0x21, 51, 0, 7, 0, 1]);
    for version in [Version::V2, Version::V3] {
        let result = decode(&carp, &reception(), &Expected { version, ..expected() }, &mut Guard::default());
        assert_eq!(result, Err(Discard::Carp));
    }
}

#[test]
fn the_virtual_mac_of_section_7_3() {
    assert_eq!(vrid().mac(Family::V4), [0, 0, 0x5e, 0, 1, 51]);
    assert_eq!(vrid().mac(Family::V6), [0, 0, 0x5e, 0, 2, 51]);
}

/// RFC 9568 section 5.2.7.
#[test]
fn intervals_a_version_can_write() {
    for (ms, version, valid) in [
        (10, Version::V3, true),
        (40_950, Version::V3, true),
        (40_960, Version::V3, false),
        (15, Version::V3, false),
        (0, Version::V3, false),
        (1000, Version::V2, true),
        (255_000, Version::V2, true),
        (256_000, Version::V2, false),
        (1500, Version::V2, false),
    ] {
        let interval = AdvertisementInterval::from_duration(Duration::from_millis(ms), version);
        assert_eq!(interval.is_some(), valid, "{ms} ms");
        assert!(interval.is_none_or(|interval| interval.duration() == Duration::from_millis(ms)));
    }
}

const KEY_FILE: &str =
    "# comment\n7 000102030405060708090a0b0c0d0e0f\n\n 8\tffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";

fn keys(text: &str) -> Keys {
    Keys::parse(text).expect("keys")
}

#[test]
fn signed_packets_are_accepted_once_from_here_and_now() {
    let keys = keys(KEY_FILE);
    let rotated = self::keys("8 ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n7 000102030405060708090a0b0c0d0e0f");
    let other = self::keys("7 000102030405060708090a0b0c0d0e00");
    let at = |made_at: Duration, keys: &Keys| {
        encode(&Packet::Advertisement(advertisement()), &Envelope { keys: Some(keys), made_at, ..envelope(ChecksumForm::PseudoHeader) })
    };
    let mut guard = Guard::default();
    let mut read = |bytes: &[u8], reception: Reception| {
        decode(bytes, &reception, &Expected { keys: Some(&keys), ..expected() }, &mut guard).map(|_| ()).map_err(|discard| discard.word())
    };
    let signed = at(WALL, &keys);
    assert_eq!(signed.len(), 12 + TRAILER_LEN);
    assert_eq!(read(&signed, reception()), Ok(()));
    assert_eq!(read(&signed, reception()), Err("replayed"));
    assert_eq!(read(&at(WALL - Duration::from_micros(1), &keys), reception()), Err("replayed"));
    assert_eq!(read(&at(WALL + Duration::from_micros(1), &rotated), reception()), Ok(()), "the second key verifies too");
    assert_eq!(read(&at(WALL + WINDOW + Duration::from_micros(1), &keys), reception()), Err("stale"));
    assert_eq!(read(&at(WALL - WINDOW - Duration::from_micros(1), &keys), reception()), Err("stale"));
    let mut later = Duration::from_millis(1);
    let mut next = || {
        later += Duration::from_millis(1);
        WALL + later
    };
    assert_eq!(read(&at(next(), &other), reception()), Err("forged"));
    assert_eq!(read(&at(next(), &self::keys("9 000102030405060708090a0b0c0d0e0f")), reception()), Err("unknown-key"));
    assert_eq!(read(&at(next(), &keys), Reception { source: IpAddr::from([10, 0, 0, 9]), ..reception() }), Err("forged"));
    assert_eq!(read(&bytes(), reception()), Err("unauthenticated"));
    for flipped in 0..12 {
        let mut bytes = at(next(), &keys);
        bytes[flipped] ^= 1;
        assert!(read(&bytes, reception()).is_err(), "byte {flipped}");
    }
    // A router without keys discards a signed packet for its length.
    assert!(matches!(super::decode(&signed, &reception(), &expected(), &mut Guard::default()), Err(Discard::Length { .. })));
}

#[test]
fn wrong_key_files_say_where() {
    for (text, error) in [
        ("", "no key in it"),
        ("# nothing\n", "no key in it"),
        ("1", "line 1"),
        ("1 xyz", "line 1"),
        ("256 000102030405060708090a0b0c0d0e0f", "line 1"),
        ("\n1 0001", "line 2: the secret needs"),
        ("1 000102030405060708090a0b0c0d0e0", "line 1"),
        ("1 000102030405060708090a0b0c0d0e0f\n1 000102030405060708090a0b0c0d0e0f", "line 2: key 1 is there twice"),
    ] {
        let message = Keys::parse(text).expect_err(text).to_string();
        assert!(message.contains(error), "{message}");
        assert!(!message.contains("0102"), "no secret is shown: {message}");
    }
    assert!(!format!("{:?}", keys(KEY_FILE)).contains("ff"));
}

fn any_packet() -> impl Strategy<Value = (Packet, IpAddr, IpAddr)> {
    let v4 = || any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let v6 = || any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)));
    let link_local = any::<u64>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from((0xfe80u128 << 112) | u128::from(bits))));
    let head = (1u8..=255, any::<u8>(), 1u16..=4095);
    let of_v4 = (head.clone(), prop::collection::vec(v4(), 1..20), v4(), v4(), any::<bool>());
    let of_v4 = of_v4.prop_map(|((vrid, priority, interval), addresses, source, destination, v2)| {
        let (version, interval) = if v2 { (Version::V2, (interval % 255 + 1) * 100) } else { (Version::V3, interval) };
        (version, vrid, priority, interval, addresses, source, destination)
    });
    let of_v6 = (head, link_local, prop::collection::vec(v6(), 0..20), v6(), v6());
    let of_v6 = of_v6.prop_map(|((vrid, priority, interval), first, mut addresses, source, destination)| {
        addresses.insert(0, first);
        (Version::V3, vrid, priority, interval, addresses, source, destination)
    });
    let advertisement = prop_oneof![of_v4, of_v6].prop_map(|(version, vrid, priority, interval, addresses, source, destination)| {
        let interval = AdvertisementInterval::from_centiseconds(interval).expect("in range");
        let vrid = Vrid::new(vrid).expect("not 0");
        (Packet::Advertisement(Advertisement { version, vrid, priority: Priority(priority), interval, addresses }), source, destination)
    });
    let kind = prop_oneof![Just(PeerKind::Hello), Just(PeerKind::Present), Just(PeerKind::TakeOver), Just(PeerKind::Decline)];
    let peer = (1u8..=255, any::<u8>(), kind, any::<bool>(), prop::option::of(0u16..0xffff), any::<[u8; 3]>(), v4(), v4());
    let peer = peer.prop_map(|(vrid, priority, kind, eligible, healthy, sum, source, destination)| {
        let vrid = Vrid::new(vrid).expect("not 0");
        let shared = SharedSum::read(sum);
        (
            Packet::Peer(PeerMessage { vrid, kind, priority: Priority(priority), eligible, deposed: !eligible, healthy, shared }),
            source,
            destination,
        )
    });
    prop_oneof![advertisement, peer]
}

proptest! {
    #[test]
    fn what_is_written_is_read((packet, source, destination) in any_packet(), plain in any::<bool>(), signed in any::<bool>()) {
        let keys = keys(KEY_FILE);
        let keys = signed.then_some(&keys);
        let checksum = if plain { ChecksumForm::Rfc9568 } else { ChecksumForm::PseudoHeader };
        let bytes = encode(&packet, &Envelope { source, destination, checksum, keys, made_at: WALL });
        let version = match &packet {
            Packet::Advertisement(advertisement) => advertisement.version,
            Packet::Peer(_) => Version::V2,
        };
        let expected = Expected { version, family: Family::of(source), vrid: packet.vrid(), ttl: (255, 255), keys, replay_window: WINDOW };
        let reception = Reception { source, destination, ttl: 255, wall: WALL };
        let decoded = decode(&bytes, &reception, &expected, &mut Guard::default());
        prop_assert_eq!(decoded.map(|decoded| decoded.packet), Ok(packet));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>(), v2 in any::<bool>(), signed in any::<bool>()) {
        let keys = keys(KEY_FILE);
        let (family, source) = if v6 { (Family::V6, IpAddr::V6(GROUP_V6)) } else { (Family::V4, SOURCE) };
        let version = if v2 { Version::V2 } else { Version::V3 };
        let expected = Expected { version, family, keys: signed.then_some(&keys), ..self::expected() };
        let reception = Reception { source, ..reception() };
        let _ = decode(&bytes, &reception, &expected, &mut Guard::default());
    }
}
