//! The layouts drawn in [`super`], read by checked slices and written back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::auth::{Guard, Keys};
use super::{
    Advertisement, AdvertisementInterval, ChecksumForm, Discard, Family, Packet, PeerKind, PeerMessage, Priority, SharedSum, TTL, Version,
    Vrid,
};

const HEAD_LEN: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;
const TYPE_PEER: u8 = 15;
const PEER_LEN: usize = 12;
/// The authentication data of RFC 2338 that RFC 3768 still sends, as zeros (section 5.3.10).
const V2_TAIL: usize = 8;
/// The length of a CARP announcement, which has neither addresses nor a tail.
const CARP_LEN: usize = 36;
const FLAG_ELIGIBLE: u8 = 1;
const FLAG_DEPOSED: u8 = 2;
const NOT_COUNTED: u16 = 0xffff;

/// The first two bytes, enough to know whom a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Version, as it stands.
    pub version: u8,
    /// Type, as it stands.
    pub kind: u8,
    /// Virtual router, as it stands.
    pub vrid: u8,
}

/// Looks at the first two bytes, to find the router a packet is for. `None` where there are fewer.
pub fn peek(payload: &[u8]) -> Option<Head> {
    let [first, vrid, ..] = payload else { return None };
    Some(Head { version: first >> 4, kind: first & 0x0f, vrid: *vrid })
}

/// How a packet reached us, from the IP header and the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reception {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, for the pseudo-header.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Our clock since 1970, for the replay window. Only looked at where packets are authenticated.
    pub wall: Duration,
}

/// What a virtual router expects of the packets it gets.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The version in use.
    pub version: Version,
    /// The family in use.
    pub family: Family,
    /// The virtual router.
    pub vrid: Vrid,
    /// Allowed time to live; usually 255 to 255.
    pub ttl: (u8, u8),
    /// Present: packets must be signed with one of these.
    pub keys: Option<&'a Keys>,
    /// How far a signed packet's time may be from our clock.
    pub replay_window: Duration,
}

/// A packet that passed all rules about its form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// What it says.
    pub packet: Packet,
    /// Which checksum an IPv4 version 3 sender uses; `None` where there is only one.
    pub checksum: Option<ChecksumForm>,
}

/// How a packet is sent.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Our address.
    pub source: IpAddr,
    /// The group's, or the peer's.
    pub destination: IpAddr,
    /// For version 3 over IPv4.
    pub checksum: ChecksumForm,
    /// Present: sign.
    pub keys: Option<&'a Keys>,
    /// The sender's clock since 1970, greater for each packet. Only looked at where packets are signed.
    pub made_at: Duration,
}

/// Reads one packet: the payload of an IP packet of protocol 112, after the IP header (whose length is not always 20) and without Ethernet
/// padding. The rules are tried in the order of RFC 9568 section 7.1.
pub fn decode(payload: &[u8], reception: &Reception, expected: &Expected<'_>, guard: &mut Guard) -> Result<Decoded, Discard> {
    let (ttl_min, ttl_max) = expected.ttl;
    if !(ttl_min..=ttl_max).contains(&reception.ttl) {
        let range = if ttl_min == ttl_max { ttl_min.to_string() } else { format!("{ttl_min} to {ttl_max}") };
        return Err(Discard::Ttl(reception.ttl, range));
    }
    let Some(head) = peek(payload) else { return Err(Discard::Length { found: payload.len(), expected: HEAD_LEN }) };
    let version = match head.version {
        2 if looks_like_carp(payload) => return Err(Discard::Carp),
        2 if expected.family == Family::V4 && expected.version == Version::V2 => Version::V2,
        // Messages of our own have version 3 in either case.
        3 if expected.version == Version::V3 || head.kind == TYPE_PEER => Version::V3,
        other => return Err(Discard::Version(other, expected.version.number())),
    };
    if !matches!(head.kind, TYPE_ADVERTISEMENT | TYPE_PEER) {
        return Err(Discard::Type(head.kind));
    }
    let (message, made_at) = match expected.keys {
        Some(keys) => keys.verify(payload, reception.source, reception.destination).map(|(message, at)| (message, Some(at)))?,
        None => (payload, None),
    };
    let decoded = if head.kind == TYPE_PEER {
        decode_peer(message, reception)?
    } else {
        decode_advertisement(message, version, reception, expected.family)?
    };
    if decoded.packet.vrid() != expected.vrid {
        return Err(Discard::Vrid(head.vrid));
    }
    // Last: a packet that is refused for its form must not move the window.
    if let Some(made_at) = made_at {
        guard.admit(reception.source, made_at, reception.wall, expected.replay_window)?;
    }
    Ok(decoded)
}

fn decode_advertisement(message: &[u8], version: Version, reception: &Reception, family: Family) -> Result<Decoded, Discard> {
    let Some((head, rest)) = message.split_first_chunk::<HEAD_LEN>() else {
        return Err(Discard::Length { found: message.len(), expected: HEAD_LEN });
    };
    let [_, vrid, priority, count, fifth, sixth, _, _] = *head;
    let size = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    let tail = if version == Version::V2 { V2_TAIL } else { 0 };
    let addresses_len = usize::from(count) * size;
    if rest.len() != addresses_len + tail {
        return Err(Discard::Length { found: message.len(), expected: HEAD_LEN + addresses_len + tail });
    }
    let checksum = verify_checksum(message, version, reception)?;
    let vrid = Vrid::new(vrid).ok_or(Discard::VridZero)?;
    if count == 0 {
        return Err(Discard::NoAddress);
    }
    let centiseconds = match version {
        // RFC 3768 section 5.3.6: only type 0 is left.
        Version::V2 if fifth != 0 => return Err(Discard::AuthenticationType(fifth)),
        Version::V2 => u16::from(sixth) * 100,
        // RFC 9568 section 5.2.6: the reserved bits are ignored.
        Version::V3 => u16::from_be_bytes([fifth & 0x0f, sixth]),
    };
    let interval = AdvertisementInterval::from_centiseconds(centiseconds).ok_or(Discard::IntervalZero)?;
    let addresses: Vec<IpAddr> = rest[..addresses_len].chunks_exact(size).filter_map(address).collect();
    if let IpAddr::V6(first) = addresses[0]
        && !first.is_unicast_link_local()
    {
        return Err(Discard::NotLinkLocal(first.into()));
    }
    let advertisement = Advertisement { version, vrid, priority: Priority(priority), interval, addresses };
    Ok(Decoded { packet: Packet::Advertisement(advertisement), checksum })
}

fn decode_peer(message: &[u8], reception: &Reception) -> Result<Decoded, Discard> {
    let Ok(fields) = <&[u8; PEER_LEN]>::try_from(message) else {
        return Err(Discard::Length { found: message.len(), expected: PEER_LEN });
    };
    let checksum = verify_checksum(message, Version::V3, reception)?;
    let [_, vrid, priority, kind, flags, sum_1, _, _, healthy_high, healthy_low, sum_2, sum_3] = *fields;
    let kind = match kind {
        1 => PeerKind::Hello,
        2 => PeerKind::Present,
        3 => PeerKind::TakeOver,
        4 => PeerKind::Decline,
        other => return Err(Discard::PeerKind(other)),
    };
    let healthy = u16::from_be_bytes([healthy_high, healthy_low]);
    let message = PeerMessage {
        vrid: Vrid::new(vrid).ok_or(Discard::VridZero)?,
        kind,
        priority: Priority(priority),
        eligible: flags & FLAG_ELIGIBLE != 0,
        deposed: flags & FLAG_DEPOSED != 0,
        healthy: (healthy != NOT_COUNTED).then_some(healthy),
        shared: SharedSum::read([sum_1, sum_2, sum_3]),
    };
    Ok(Decoded { packet: Packet::Peer(message), checksum })
}

/// Writes one packet, from the first byte after the IP header.
///
/// # Panics
///
/// Where an advertisement holds what its version cannot write: no or more than 255 addresses, addresses of two families, an interval that
/// does not fit. The checked configuration rules these out.
pub fn encode(packet: &Packet, envelope: &Envelope<'_>) -> Vec<u8> {
    let (version, mut bytes) = match packet {
        Packet::Advertisement(advertisement) => (advertisement.version, encode_advertisement(advertisement)),
        Packet::Peer(message) => (Version::V3, encode_peer(message)),
    };
    let pseudo = pseudo_header_len(version, envelope.source, Some(envelope.checksum)).then_some(bytes.len());
    let sum = checksum(&bytes, pseudo.map(|len| (envelope.source, envelope.destination, len)));
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    if let Some(keys) = envelope.keys {
        keys.sign(&mut bytes, envelope.source, envelope.destination, envelope.made_at);
    }
    bytes
}

fn encode_advertisement(advertisement: &Advertisement) -> Vec<u8> {
    let Advertisement { version, vrid, priority, interval, addresses } = advertisement;
    assert!(interval.fits(*version), "version {} cannot write {interval}", version.number());
    let count = u8::try_from(addresses.len()).expect("at most 255 addresses");
    assert!(count > 0, "an advertisement has an address");
    let [fifth, sixth] = match version {
        Version::V3 => interval.centiseconds().to_be_bytes(),
        Version::V2 => (interval.centiseconds() / 100).to_be_bytes(),
    };
    let mut bytes = vec![version.number() << 4 | TYPE_ADVERTISEMENT, vrid.number(), priority.0, count, fifth, sixth, 0, 0];
    let family = Family::of(addresses[0]);
    for address in addresses {
        assert_eq!(Family::of(*address), family, "addresses of one family");
        match address {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    if *version == Version::V2 {
        bytes.extend_from_slice(&[0; V2_TAIL]);
    }
    bytes
}

fn encode_peer(message: &PeerMessage) -> Vec<u8> {
    let kind = match message.kind {
        PeerKind::Hello => 1,
        PeerKind::Present => 2,
        PeerKind::TakeOver => 3,
        PeerKind::Decline => 4,
    };
    let flags = if message.eligible { FLAG_ELIGIBLE } else { 0 } | if message.deposed { FLAG_DEPOSED } else { 0 };
    let [high, low] = message.healthy.map_or(NOT_COUNTED, |healthy| healthy.min(NOT_COUNTED - 1)).to_be_bytes();
    let [sum_1, sum_2, sum_3] = message.shared.map_or([0; 3], |SharedSum(bytes)| bytes);
    vec![3 << 4 | TYPE_PEER, message.vrid.number(), message.priority.0, kind, flags, sum_1, 0, 0, high, low, sum_2, sum_3]
}

/// A CARP announcement reads as version 2, type 1, but its length is fixed and its "count" is a demotion counter: it never has the length
/// that its fields would ask for as VRRP.
fn looks_like_carp(payload: &[u8]) -> bool {
    payload.len() == CARP_LEN && payload[0] == 0x21 && HEAD_LEN + usize::from(payload[3]) * 4 + V2_TAIL != CARP_LEN
}

/// Whether the pseudo-header is part of the checksum (RFC 9568 section 5.2.8, RFC 3768 section 5.3.8).
fn pseudo_header_len(version: Version, source: IpAddr, form: Option<ChecksumForm>) -> bool {
    match (version, source) {
        (Version::V2, _) => false,
        (Version::V3, IpAddr::V6(_)) => true,
        (Version::V3, IpAddr::V4(_)) => form == Some(ChecksumForm::PseudoHeader),
    }
}

fn verify_checksum(message: &[u8], version: Version, reception: &Reception) -> Result<Option<ChecksumForm>, Discard> {
    // The sum over a message that holds its own checksum is 0.
    let plain = || checksum(message, None) == 0;
    let pseudo = || checksum(message, Some((reception.source, reception.destination, message.len()))) == 0;
    match (version, reception.source) {
        (Version::V2, _) if plain() => Ok(None),
        (Version::V3, IpAddr::V6(_)) if pseudo() => Ok(None),
        (Version::V3, IpAddr::V4(_)) if pseudo() => Ok(Some(ChecksumForm::PseudoHeader)),
        (Version::V3, IpAddr::V4(_)) if plain() => Ok(Some(ChecksumForm::Rfc9568)),
        _ => Err(Discard::Checksum),
    }
}

/// The Internet checksum (RFC 1071), with a pseudo-header of source, destination and length where one is given: RFC 8200 section 8.1 for
/// IPv6, RFC 9293 section 3.1 for IPv4.
fn checksum(message: &[u8], pseudo: Option<(IpAddr, IpAddr, usize)>) -> u16 {
    let mut sum = words(message);
    if let Some((source, destination, len)) = pseudo {
        for address in [source, destination] {
            sum += match address {
                IpAddr::V4(address) => words(&address.octets()),
                IpAddr::V6(address) => words(&address.octets()),
            };
        }
        sum += u64::from(super::PROTOCOL) + len as u64;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(2);
    let sum: u64 = chunks.by_ref().map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum + chunks.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
    }
}

impl Expected<'_> {
    /// The time to live of multicast packets.
    pub const TTL_MULTICAST: (u8, u8) = (TTL, TTL);
}
