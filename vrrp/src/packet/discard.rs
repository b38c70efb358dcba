//! Why a packet is discarded: one name per receive rule, each with its counter.

use std::net::IpAddr;

use super::{AdvertisementInterval, Vrid};

/// Why a packet is discarded. Each is counted (see [`crate::machine::Counters`]) and said at a limited rate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Discard {
    /// The time to live, or hop limit, is not 255, or not in the peer's range (RFC 9568 section 7.1, first rule).
    #[error("time to live {0} instead of {1}: it came through a router, or is forged")]
    Ttl(u8, String),
    /// Neither version 2 nor 3, or not the one in use here (section 7.1, second rule).
    #[error("VRRP version {0} where this router speaks version {1}")]
    Version(u8, u8),
    /// Not an advertisement (section 5.2.2).
    #[error("packet type {0}, which nobody defined")]
    Type(u8),
    /// OpenBSD's CARP, which took protocol 112 and the group for itself. Its first byte reads as version 2, type 1.
    #[error("a CARP neighbour: it uses VRRP's protocol number and group; give it another virtual host id or another segment")]
    Carp,
    /// Shorter than its own fields say (section 7.1, fourth rule), or longer.
    #[error("{found} bytes where its fields ask for {expected}")]
    Length {
        /// What arrived.
        found: usize,
        /// What its fields ask for.
        expected: usize,
    },
    /// (section 7.1, fifth rule)
    #[error("wrong checksum")]
    Checksum,
    /// No virtual router of this number and family on this interface (section 7.1, sixth rule).
    #[error("virtual router {0} is not configured on this interface")]
    Vrid(u8),
    /// VRID 0 (section 5.2.3 allows 1 to 255).
    #[error("virtual router 0 does not exist")]
    VridZero,
    /// No address at all (section 5.2.5, erratum 8299).
    #[error("no address in it")]
    NoAddress,
    /// An interval of 0 (section 5.2.7, erratum 8301). Obeyed, it would make every backup master at once.
    #[error("an advertisement interval of 0")]
    IntervalZero,
    /// Version 2 wants equal intervals (RFC 3768 section 7.1). Version 3 learns the master's instead.
    #[error("advertisement interval {theirs} where this router has {ours}: version 2 wants them equal")]
    Interval {
        /// The sender's.
        theirs: AdvertisementInterval,
        /// Ours.
        ours: AdvertisementInterval,
    },
    /// IPv6: the first address is not link-local (section 5.2.9, erratum 8300).
    #[error("the first address {0} is not link-local")]
    NotLinkLocal(IpAddr),
    /// Version 2 with an authentication type that RFC 3768 section 5.3.6 does not allow any more.
    #[error("authentication type {0}: plain passwords and authentication headers are not supported, remove `authentication` over there")]
    AuthenticationType(u8),
    /// The sender is not among the unicast peers.
    #[error("{0} is not among the peers")]
    UnknownPeer(IpAddr),
    /// We authenticate and it has no trailer, or none that ends where the packet ends.
    #[error("not authenticated")]
    Unauthenticated,
    /// The trailer names a key that is not in the key file.
    #[error("signed with key {0}, which is not in the key file")]
    UnknownKey(u32),
    /// The trailer's code is wrong.
    #[error("wrong authentication code: the key differs, or it is forged")]
    Forged,
    /// Sent before a packet that was already accepted.
    #[error("older than a packet already seen: repeated or reordered")]
    Replayed,
    /// Made too long ago, or in the future, by our clock.
    #[error("made {0} s away from this node's clock: set both clocks, or it is a replay")]
    Stale(u64),
    /// A message of our own that says nothing known.
    #[error("a message of kind {0}, which this version does not know")]
    PeerKind(u8),
    /// It carries our own source address: our own packet came back, or another node uses our address.
    #[error("sent from {0}, which is our own address: our packets come back to us, or the address is used twice")]
    OwnAddress(IpAddr),
}

impl Discard {
    /// A short stable word for labels and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Discard::Ttl(..) => "ttl",
            Discard::Version(..) => "version",
            Discard::Type(_) => "type",
            Discard::Carp => "carp",
            Discard::Length { .. } => "length",
            Discard::Checksum => "checksum",
            Discard::Vrid(_) | Discard::VridZero => "vrid",
            Discard::NoAddress => "no-address",
            Discard::IntervalZero => "interval-zero",
            Discard::Interval { .. } => "interval",
            Discard::NotLinkLocal(_) => "not-link-local",
            Discard::AuthenticationType(_) => "authentication-type",
            Discard::UnknownPeer(_) => "unknown-peer",
            Discard::Unauthenticated => "unauthenticated",
            Discard::UnknownKey(_) => "unknown-key",
            Discard::Forged => "forged",
            Discard::Replayed => "replayed",
            Discard::Stale(_) => "stale",
            Discard::PeerKind(_) => "peer-kind",
            Discard::OwnAddress(_) => "own-address",
        }
    }
}

/// A virtual router seen on the link that is not ours to answer for.
impl From<Vrid> for Discard {
    fn from(vrid: Vrid) -> Discard {
        Discard::Vrid(vrid.number())
    }
}
