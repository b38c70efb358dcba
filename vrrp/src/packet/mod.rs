//! Bytes to values and back: VRRP versions 2 and 3, the messages of our own beside them, and the trailer that authenticates both.
//!
//! ```text
//!  version 3 (RFC 9568 section 5.1)                       version 2 (RFC 3768 section 5.1)
//!  0       1       2       3                              0       1       2       3
//!  +---+---+-------+-------+-------+                      +---+---+-------+-------+-------+
//!  | 3 | 1 | VRID  | prio  | count |                      | 2 | 1 | VRID  | prio  | count |
//!  +---+---+-------+-------+-------+                      +-------+-------+-------+-------+
//!  | 0 | interval  |   checksum    |   interval: 12 bits, |auth 0 |  int  |   checksum    |   int: seconds
//!  +---+-----------+---------------+   centiseconds       +-------+-------+---------------+
//!  | addresses, all of one family  |                      | IPv4 addresses                |
//!  +-------------------------------+                      +-------------------------------+
//!                                                         | 8 bytes of zero               |
//!                                                         +-------------------------------+
//! ```
//!
//! A message of our own has the head of version 3 with type 15, which every other implementation discards as the RFC asks (5.2.2), and
//! is only ever sent to one address. See [`PeerMessage`].
//!
//! This room knows nobody: no states, no timers. Which packets are acceptable *here and now* (time to live, known virtual router, known
//! peers) is said by [`Reception`]; what they mean is said by [`crate::machine`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod auth;
mod codec;
mod discard;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::time::Duration;

pub use auth::{Guard, KEYS_MAX, Key, KeyError, Keys, TRAILER_LEN};
pub use codec::{Decoded, Envelope, Expected, Head, Reception, decode, encode, peek};
pub use discard::Discard;

/// The IP protocol number (RFC 9568 sections 5.1.1.4 and 5.1.2.4).
pub const PROTOCOL: u8 = 112;

/// Where IPv4 advertisements go (RFC 9568 section 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Where IPv6 advertisements go (RFC 9568 section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// The only time to live, or hop limit, of a multicast advertisement (RFC 9568 sections 5.1.1.3 and 5.1.2.3).
pub const TTL: u8 = 255;

/// The most addresses of one virtual router and family that we send: they fit any link's smallest frame (IPv6 asks for 1280 bytes), with a
/// trailer. A packet with more of them is still understood.
pub const ADDRESSES_MAX: usize = 64;

/// Number of a virtual router, 1 to 255 (RFC 9568 section 5.2.3). One number names two routers on a link, one per address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0.
    pub fn new(number: u8) -> Option<Vrid> {
        NonZeroU8::new(number).map(Vrid)
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// The virtual router's MAC address (RFC 9568 section 7.3).
    pub fn mac(self, family: Family) -> [u8; 6] {
        let family = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        [0x00, 0x00, 0x5e, 0x00, family, self.number()]
    }
}

impl From<NonZeroU8> for Vrid {
    fn from(number: NonZeroU8) -> Vrid {
        Vrid(number)
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Rank of a router, 0 to 255; the higher one is master (RFC 9568 section 5.2.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(pub u8);

impl Priority {
    /// Said by a master that stops: take over after the skew time.
    pub const RELEASE: Priority = Priority(0);
    /// The router that owns the addresses.
    pub const OWNER: Priority = Priority(255);
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time between two advertisements. Version 3 writes 1 to 4095 centiseconds (RFC 9568 section 5.2.7), version 2 writes 1 to 255 seconds
/// (RFC 3768 section 5.3.7); this type holds either, in centiseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AdvertisementInterval(u16);

impl AdvertisementInterval {
    /// The longest of version 3, 40.95 s.
    pub const V3_MAX: AdvertisementInterval = AdvertisementInterval(4095);
    /// The longest of version 2, 255 s.
    pub const V2_MAX: AdvertisementInterval = AdvertisementInterval(25_500);

    /// `None` for 0 and for what no version can write.
    pub fn from_centiseconds(value: u16) -> Option<AdvertisementInterval> {
        (1..=Self::V2_MAX.0).contains(&value).then_some(AdvertisementInterval(value))
    }

    /// `None` unless a whole number of centiseconds that `version` can write.
    pub fn from_duration(value: Duration, version: Version) -> Option<AdvertisementInterval> {
        let centiseconds = u16::try_from(value.as_millis() / 10).ok().and_then(Self::from_centiseconds)?;
        (centiseconds.duration() == value && centiseconds.fits(version)).then_some(centiseconds)
    }

    /// Whether `version` can write it.
    pub fn fits(self, version: Version) -> bool {
        match version {
            Version::V3 => self <= Self::V3_MAX,
            Version::V2 => self.0.is_multiple_of(100) && self <= Self::V2_MAX,
        }
    }

    /// In hundredths of a second.
    pub fn centiseconds(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 10)
    }
}

impl fmt::Display for AdvertisementInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.duration(), f)
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// RFC 3768, IPv4 alone. Only for neighbours that know nothing newer.
    V2,
    /// RFC 9568, both families.
    V3,
}

impl Version {
    /// The number in the packet.
    pub fn number(self) -> u8 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

/// Address family of a virtual router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The multicast group of the family.
    pub fn group(self) -> IpAddr {
        match self {
            Family::V4 => GROUP_V4.into(),
            Family::V6 => GROUP_V6.into(),
        }
    }

    /// The word used in the API.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// How the checksum of a version 3 packet over IPv4 is made. RFC 5798 was read both ways, RFC 9568 section 5.2.8 settles it without a
/// pseudo-header, the routers in the field mostly include it. Both are understood; this says which one is sent. Version 2 never includes a
/// pseudo-header, IPv6 always does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChecksumForm {
    /// Over pseudo-header and message, as keepalived and FRR do.
    PseudoHeader,
    /// Over the message alone.
    Rfc9568,
}

/// One advertisement (RFC 9568 section 5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// The version it is written in.
    pub version: Version,
    /// The virtual router it speaks of.
    pub vrid: Vrid,
    /// The sender's rank; 0: it stops.
    pub priority: Priority,
    /// How often it will be repeated.
    pub interval: AdvertisementInterval,
    /// The virtual router's addresses, all of one family, at least one. IPv6: the link-local one first (5.2.9).
    pub addresses: Vec<IpAddr>,
}

/// What our own nodes say to each other beside the protocol: a greeting to the group at the start, all else to one address.
///
/// ```text
///  0       1       2       3
///  +---+---+-------+-------+-------+
///  | 3 |15 | VRID  | prio  | what  |
///  +---+---+-------+-------+-------+
///  | flags | sum 1 |   checksum    |   flags: 1 = eligible, 2 = deposed
///  +-------+-------+---------------+
///  | healthy       | sum 2 | sum 3 |   endpoints; 0xffff = not counted. sum: 0 = not told
///  +---------------+---------------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerMessage {
    /// The virtual router it speaks of.
    pub vrid: Vrid,
    /// What is said.
    pub kind: PeerKind,
    /// The sender's rank.
    pub priority: Priority,
    /// Whether the sender could be master.
    pub eligible: bool,
    /// Whether the sender was master too until it heard the one it speaks to: whoever listened to it must hear that one now.
    pub deposed: bool,
    /// Healthy endpoints in the pools the sender watches for this router; `None`: it watches none.
    pub healthy: Option<u16>,
    /// Of what the sender's configuration should have alike with the receiver's; `None`: not told, as by older ones.
    pub shared: Option<SharedSum>,
}

/// The beginning of a sum over what nodes should be configured alike: enough to see that they are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SharedSum([u8; 3]);

impl SharedSum {
    /// Of a sum. (One that begins with zeros is told as the next one: zeros mean that there is none.)
    pub fn of(sum: &[u8; 32]) -> SharedSum {
        SharedSum::read([sum[0], sum[1], sum[2]]).unwrap_or(SharedSum([0, 0, 1]))
    }

    fn read(bytes: [u8; 3]) -> Option<SharedSum> {
        (bytes != [0; 3]).then_some(SharedSum(bytes))
    }
}

impl std::fmt::Display for SharedSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a [`PeerMessage`] says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerKind {
    /// Backup to master: I am one of your kind. Asks for [`PeerKind::Present`].
    Hello,
    /// Master to backup: so am I.
    Present,
    /// Master to backup: take over now. Answered by becoming master, or by [`PeerKind::Decline`].
    TakeOver,
    /// Backup to master: I cannot, ask another one.
    Decline,
}

/// Whatever travels under protocol 112.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// Type 1.
    Advertisement(Advertisement),
    /// Type 15, of our own.
    Peer(PeerMessage),
}

impl Packet {
    /// The virtual router it speaks of.
    pub fn vrid(&self) -> Vrid {
        match self {
            Packet::Advertisement(advertisement) => advertisement.vrid,
            Packet::Peer(message) => message.vrid,
        }
    }
}

#[cfg(test)]
mod tests;
