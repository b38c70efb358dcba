//! `[vip.NAME]` and `[cluster]`: virtual IP addresses and the node that acts for all.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ListenerName, PoolName};

/// The name of a virtual IP, as written in `[vip.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipName(pub Arc<str>);

impl fmt::Display for VipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for VipName {
    fn from(name: &str) -> Self {
        VipName(name.into())
    }
}

/// `[cluster]`
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// `leader_vip`: the node that is master of this virtual IP acts for all.
    pub leader_vip: VipName,
}

/// `[vip.NAME]`: addresses that one of several nodes holds. Addresses of both families make two virtual routers of one VRID, as
/// RFC 9568 keeps the families apart; they move together.
#[derive(Clone, PartialEq, Debug)]
pub struct Vip {
    /// The table's name.
    pub name: VipName,
    /// `interface`: where advertisements are sent and heard.
    pub interface: String,
    /// `router_id`: the VRID (RFC 9568 section 5.2.3), once per interface and family.
    pub router_id: NonZeroU8,
    /// `addresses`: never empty, at most [`Vip::ADDRESSES_MAX`], no duplicates over all virtual IPs.
    pub addresses: Vec<VipAddress>,
    /// `priority`: the highest wins. 255: the addresses are this node's own (RFC 9568 section 5.2.4). Default 250.
    pub priority: NonZeroU8,
    /// `advertisement_interval`: whole hundredths of a second, 10 ms to 40.95 s; whole seconds in version 2. Default 100 ms.
    pub advertisement_interval: Duration,
    /// `version`. Default 3.
    pub version: VrrpVersion,
    /// `preempt`: take over from a live master of lower priority. Default true.
    pub preempt: bool,
    /// `preempt_delay`: how long such a master is left alone; never delays a takeover from a dead one. Default none.
    pub preempt_delay: Duration,
    /// `startup_delay`: how much longer than usual it listens after a start, before it may become master. Default none.
    pub startup_delay: Duration,
    /// `accept`: the master takes packets to the addresses though it does not own them (RFC 9568 section 6.1). Default true.
    pub accept: bool,
    /// `mode`: where the addresses live. Default auto.
    pub mode: VipMode,
    /// `source`: the address advertisements are sent from; `None`: the interface's own.
    pub source: Option<IpAddr>,
    /// `peers`: the other nodes, told one by one; empty: multicast.
    pub peers: Vec<VipPeer>,
    /// `checksum`: how version 3 over IPv4 is summed when sent. Default with pseudo-header.
    pub checksum: VipChecksum,
    /// `sync_group`: virtual IPs of one group are master together or not at all.
    pub sync_group: Option<String>,
    /// `notify`: program and arguments run at each change of state; empty: none.
    pub notify: Vec<String>,
    /// `[vip.NAME.auth]`; `None`: advertisements are not signed.
    pub auth: Option<VipAuth>,
    /// `[vip.NAME.announce]`
    pub announce: VipAnnounce,
    /// `[[vip.NAME.track]]`
    pub tracks: Vec<VipTrack>,
}

impl Vip {
    /// Addresses of one virtual IP: an advertisement with as many IPv6 addresses fits into a frame of 1500 bytes.
    pub const ADDRESSES_MAX: usize = 64;

    /// The priority of the owner of the addresses, RFC 9568 section 5.2.4.
    pub const OWNER: NonZeroU8 = NonZeroU8::MAX;
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipAddress {
    /// The address.
    pub ip: IpAddr,
    /// Up to 32, or 128.
    pub prefix: u8,
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// Which VRRP is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum VrrpVersion {
    /// RFC 3768, IPv4 and whole seconds only; for neighbours that know no other.
    V2,
    /// RFC 9568.
    #[default]
    V3,
}

/// Where the addresses live.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum VipMode {
    /// The first of the others that works here.
    #[default]
    Auto,
    /// On a TUN device that the kernel removes with the process; the interface answers for them with its own MAC.
    Tun,
    /// On a device with the virtual MAC of RFC 9568 section 7.3.
    Macvlan,
    /// On the interface itself, with a short lifetime that is kept fresh.
    Interface,
}

/// Another node of the virtual router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipPeer {
    /// `address`
    pub address: IpAddr,
    /// `ttl_min`: what it sends must arrive with at least this TTL or hop limit. Default 255: it is on the same link.
    pub ttl_min: u8,
}

/// How version 3 over IPv4 is summed. Both are understood.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum VipChecksum {
    /// With a pseudo-header, as keepalived and FRR do.
    #[default]
    PseudoHeader,
    /// Without, as RFC 9568 section 5.2.8 says.
    Rfc9568,
}

/// `[vip.NAME.auth]`: advertisements are signed with HMAC-SHA256, and others are not believed.
#[derive(Clone, PartialEq, Debug)]
pub struct VipAuth {
    /// `key_file`: lines of an id from 0 to 255 and a key in hexadecimal; the first signs, all verify.
    pub key_file: PathBuf,
    /// `replay_window`: how old an advertisement may be. Default 2 s.
    pub replay_window: Duration,
}

/// `[vip.NAME.announce]`: gratuitous ARP and unsolicited neighbour advertisements of a master.
#[derive(Clone, PartialEq, Debug)]
pub struct VipAnnounce {
    /// `count`: in a burst, for each address. Default 5.
    pub count: NonZeroU32,
    /// `interval`: between two of a burst. Default 20 ms.
    pub interval: Duration,
    /// `repeat`: from the first burst to a second one; `None` (written "0s"): none. Default 5 s.
    pub repeat: Option<Duration>,
    /// `refresh`: one announcement of each address so often; `None` (written "0s"): never. Default 60 s.
    pub refresh: Option<Duration>,
}

impl Default for VipAnnounce {
    fn default() -> Self {
        VipAnnounce {
            count: NonZeroU32::new(5).expect("five is not zero"),
            interval: Duration::from_millis(20),
            repeat: Some(Duration::from_secs(5)),
            refresh: Some(Duration::from_secs(60)),
        }
    }
}

/// `[[vip.NAME.track]]`: something that must be well for this node to be master.
#[derive(Clone, PartialEq, Debug)]
pub struct VipTrack {
    /// What is watched.
    pub subject: TrackSubject,
    /// `lower`: the priority is lower by this while it is not well; `None` (absent): the node is not eligible.
    pub lower: Option<NonZeroU8>,
}

/// What is watched.
#[derive(Clone, PartialEq, Debug)]
pub enum TrackSubject {
    /// `interface`: it is up.
    Interface(String),
    /// `listener`: the data plane answers on it.
    Listener(ListenerName),
    /// `pool`: it has `min_healthy` healthy endpoints. Without `lower` the addresses move only to a node that counts more of them.
    Pool(PoolName),
    /// `file`: it is absent, empty, or holds a 0.
    File(PathBuf),
    /// `command`: it exits with 0.
    Command {
        /// Program and arguments, no shell.
        command: Vec<String>,
        /// From one run to the next. Default 1 s.
        interval: Duration,
        /// How long a run may take; at most `interval`. Default 1 s, or `interval` if that is less.
        timeout: Duration,
        /// Successes in a row until it is well. Default 2.
        rise: NonZeroU32,
        /// Failures in a row until it is not. Default 2.
        fall: NonZeroU32,
    },
}
