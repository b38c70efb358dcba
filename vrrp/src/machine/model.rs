//! What goes into a virtual router and what comes out of it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::packet::{AdvertisementInterval, ChecksumForm, Family, Keys, Packet, Priority, SharedSum, Version, Vrid};

/// An address of a virtual router, with the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network: 0 to 32, or to 128.
    pub prefix_len: u8,
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// A router that is spoken to by unicast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnicastPeer {
    /// Its address.
    pub address: IpAddr,
    /// The time to live, lowest and highest, that its packets may arrive with. 255 to 255 on one link.
    pub ttl: (u8, u8),
}

/// One virtual router of one family on one interface, as configured. Checked by who makes it: priority 1 to 255, the interval fits the
/// version, 1 to [`crate::packet::ADDRESSES_MAX`] addresses of `family`, and with IPv6 the first one is link-local.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The `[vip.NAME]` it belongs to.
    pub name: Arc<str>,
    /// The interface it advertises on.
    pub interface: Arc<str>,
    /// Number of the virtual router.
    pub vrid: Vrid,
    /// Its family.
    pub family: Family,
    /// Version spoken. IPv6 only has version 3.
    pub version: Version,
    /// Rank before tracking changes it; 255: owner.
    pub priority: Priority,
    /// How often it advertises as master.
    pub interval: AdvertisementInterval,
    /// The addresses it stands for.
    pub addresses: Vec<VirtualAddress>,
    /// Whether it takes over from a live master of a lower rank (RFC 9568 section 6.1, Preempt_Mode). The owner always does.
    pub preempt: bool,
    /// How long a live master of a lower rank is left in peace first. Delays nothing else: not the first election, not the death of the
    /// master.
    pub preempt_delay: Duration,
    /// How much longer than usual it listens after a start, before it may become master.
    pub startup_delay: Duration,
    /// The checksum it sends with version 3 over IPv4.
    pub checksum: ChecksumForm,
    /// Present: packets are signed and must be.
    pub keys: Option<Arc<Keys>>,
    /// Empty: multicast. Else advertisements go to these, and only theirs are heard.
    pub peers: Vec<UnicastPeer>,
    /// How far a signed packet's time may be from our clock.
    pub replay_window: Duration,
    /// Gratuitous ARP and unsolicited neighbour advertisements.
    pub announce: Announcements,
    /// Follows another virtual router instead of electing: see [`crate::group`].
    pub follower: bool,
    /// Of what nodes should be configured alike, to be told to those of ours.
    pub shared: Option<SharedSum>,
}

/// How often a master announces its addresses by gratuitous ARP or unsolicited neighbour advertisements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcements {
    /// Announcements of a burst, at least 1; the first burst begins when it becomes master.
    pub count: u32,
    /// Between two of a burst.
    pub interval: Duration,
    /// From the first burst to a second one, for switches and hosts that were not ready; `None`: none.
    pub repeat: Option<Duration>,
    /// From one announcement to the next after that; `None`: only after conflicts.
    pub refresh: Option<Duration>,
}

impl Default for Announcements {
    fn default() -> Self {
        Announcements {
            count: 5,
            interval: Duration::from_millis(20),
            repeat: Some(Duration::from_secs(5)),
            refresh: Some(Duration::from_secs(60)),
        }
    }
}

/// What happens to a virtual router. Packets come in by [`super::Instance::handle_packet`].
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The node wants to take part (RFC 9568 section 6.4.1, Startup). Given once, when interface and primary address were told.
    Start,
    /// The node stops: a peer of ours takes over first, else priority 0 is said (section 6.4.3, Shutdown). Finished when
    /// [`super::Instance::is_stopped`].
    Stop,
    /// The interface is up and running, or not.
    Interface {
        /// Up, and with a carrier.
        up: bool,
    },
    /// The address packets are sent from: the interface's primary IPv4 address, or its link-local IPv6 address; never a virtual one
    /// (sections 5.1.1.1 and 5.1.2.1). `None`: it has none.
    PrimaryAddress(Option<IpAddr>),
    /// Whether this node can serve, and why not: its data plane answers, it is not draining, what is tracked allows it.
    Eligible {
        /// Whether it may be master.
        eligible: bool,
        /// Why not, in words; empty if it may.
        reason: String,
    },
    /// What tracking adds to the configured rank (or takes off). The result stays within 1 and 254; an owner is not touched.
    Rank {
        /// The change.
        adjust: i16,
        /// Why, in words; empty for no change.
        reason: String,
    },
    /// Healthy endpoints in the pools that are tracked for this router; `None`: none are.
    Healthy(Option<u16>),
    /// Somebody else removed one of our addresses while we are master.
    AddressLost(IpAddr),
    /// An address could not be added: this node cannot be master now.
    AddressFailed {
        /// Which one.
        address: IpAddr,
        /// The system's word for it.
        reason: String,
    },
    /// The operator wants another node to be master. Holds until the then master is gone.
    Release,
    /// The file changed. Name, interface, number, family and version are as before; what is another router must be stopped and started.
    Config(Box<Config>),
    /// Only for followers: what the leader of the group is. See [`crate::group`].
    Follow(StateKind),
    /// Only for groups: why no member may be master, or that they may.
    GroupBlocked(Option<String>),
}

/// What the shell has to do, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send a packet with time to live 255 from the primary address; encode it with [`super::Instance::encode`] for
    /// each of [`super::Instance::destinations`].
    Send {
        /// What.
        packet: Packet,
        /// Where.
        to: Destination,
    },
    /// Another node of ours was master until now and lives: send packets of connections that did not begin here on to it, for
    /// [`super::LINGER`], so long as it keeps the addresses. Comes before they are added.
    SendStraysTo(IpAddr),
    /// Have these addresses and answer for them. Those that are already there stay.
    AddAddresses(Vec<VirtualAddress>),
    /// Another node of ours holds the addresses now. Keep them for what is in flight, but answer neither ARP nor neighbour solicitations,
    /// and teach no switch (where the virtual MAC is ours: remove them). [`Output::RemoveAddresses`] follows.
    Quiet(Vec<VirtualAddress>),
    /// Have these addresses no more.
    RemoveAddresses(Vec<VirtualAddress>),
    /// Say who has the addresses: one gratuitous ARP request or unsolicited neighbour advertisement for each (RFC 9568 section 6.4.2,
    /// step 4 and 5). Bursts and refreshes come as several outputs; the shell paces the frames of one.
    Announce(Vec<VirtualAddress>),
    /// It became something else.
    Transition(Transition),
    /// Something worth saying happened.
    Event(Event),
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The group, or each unicast peer.
    Everyone,
    /// One router.
    One(IpAddr),
}

/// What a virtual router is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StateKind {
    /// Takes no part: not started, stopped, or it cannot (RFC 9568 section 6.4.1).
    Initialize,
    /// Listens to the master (section 6.4.2).
    Backup,
    /// Holds the addresses (section 6.4.3, Active).
    Master,
}

impl StateKind {
    /// The word used in the API.
    pub fn word(self) -> &'static str {
        match self {
            StateKind::Initialize => "initialize",
            StateKind::Backup => "backup",
            StateKind::Master => "master",
        }
    }
}

/// A change of state.
#[derive(Clone, PartialEq, Debug)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// What it was.
    pub from: StateKind,
    /// What it is now.
    pub to: StateKind,
    /// Why, in words.
    pub why: String,
}

/// Something worth saying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// In words.
    pub text: String,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// A packet was discarded (said at a limited rate, all are counted).
    Discarded,
    /// A neighbour has the same router configured differently.
    Differs,
    /// A neighbour uses the number for other addresses altogether.
    ForeignRouter,
    /// A CARP neighbour.
    Carp,
    /// Our own packets come back to us.
    Reflected,
    /// Another node sends from our address.
    AddressTwice,
    /// Another master was heard and gave way, or must.
    ConflictWon,
    /// This process did not run for longer than the backups wait.
    Stalled,
    /// An advertisement left late.
    Late,
    /// An address was removed by somebody else and is back.
    AddressRestored,
    /// An address could not be added.
    AddressFailed,
    /// Another node of ours was found, or is silent now.
    Peer,
    /// A handover began, ended or failed.
    Handover,
}

impl EventKind {
    /// The word used in logs and the API.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Discarded => "discarded",
            EventKind::Differs => "differs",
            EventKind::ForeignRouter => "foreign-router",
            EventKind::Carp => "carp",
            EventKind::Reflected => "reflected",
            EventKind::AddressTwice => "address-twice",
            EventKind::ConflictWon => "conflict-won",
            EventKind::Stalled => "stalled",
            EventKind::Late => "late",
            EventKind::AddressRestored => "address-restored",
            EventKind::AddressFailed => "address-failed",
            EventKind::Peer => "peer",
            EventKind::Handover => "handover",
        }
    }

    /// Whether an operator should look at it.
    pub fn is_warning(self) -> bool {
        !matches!(self, EventKind::Peer | EventKind::Handover | EventKind::ConflictWon)
    }
}

/// What was counted since the start, under the names of RFC 8347 where it has one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// `master-transitions`
    pub master_transitions: u64,
    /// `advertisement-rcvd`
    pub advertisement_rcvd: u64,
    /// `advertisement-sent`
    pub advertisement_sent: u64,
    /// `interval-errors`: received with another interval than ours.
    pub interval_errors: u64,
    /// `priority-zero-pkts-rcvd`
    pub priority_zero_pkts_rcvd: u64,
    /// `priority-zero-pkts-sent`
    pub priority_zero_pkts_sent: u64,
    /// `address-list-errors`: received with other addresses than ours.
    pub address_list_errors: u64,
    /// Discarded packets by [`crate::packet::Discard::word`]. Holds `invalid-type-pkts-rcvd` (`type`), `packet-length-errors` (`length`),
    /// `checksum-errors` (`checksum`), `version-errors` (`version`), `vrid-errors` (`vrid`) and `ip-ttl-errors` (`ttl`).
    pub discarded: std::collections::BTreeMap<&'static str, u64>,
    /// Other masters heard that must give way.
    pub conflicts_won: u64,
    /// Times this process did not run for longer than the backups wait.
    pub stalls: u64,
    /// Advertisements that left more than half an interval late.
    pub late: u64,
    /// Handovers to a node of ours that succeeded.
    pub handovers: u64,
}

/// A router heard as master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MasterSeen {
    /// Its address.
    pub address: IpAddr,
    /// Its rank.
    pub priority: Priority,
    /// Its interval.
    pub interval: AdvertisementInterval,
    /// When it was last heard.
    pub heard: Instant,
    /// Since when it is master, as far as we heard.
    pub since: Instant,
    /// Whether it is a node of ours.
    pub ours: bool,
}

/// Another node of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its rank.
    pub priority: Priority,
    /// Whether it could be master.
    pub eligible: bool,
    /// Healthy endpoints it counts.
    pub healthy: Option<u16>,
    /// Of what it should be configured alike with us.
    pub shared: Option<SharedSum>,
    /// Since when that is another one than ours.
    pub differs_since: Option<Instant>,
    /// That was said.
    pub(super) differs_said: bool,
    /// When it was last heard.
    pub heard: Instant,
}

/// All that can be told about a virtual router.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// As configured.
    pub config: Config,
    /// What it is.
    pub state: StateKind,
    /// Since when.
    pub since: Instant,
    /// Why it is or is not master, in words.
    pub explanation: String,
    /// Rank with what tracking changed.
    pub priority: Priority,
    /// Whether it could be master, and else why not.
    pub eligible: Result<(), String>,
    /// The address it sends from.
    pub primary: Option<IpAddr>,
    /// Who is master: this node itself is not in here.
    pub master: Option<MasterSeen>,
    /// Other nodes of ours.
    pub peers: Vec<Peer>,
    /// RFC 9568 section 6.1, Active_Down_Interval as it is now.
    pub master_down_interval: Duration,
    /// RFC 9568 section 6.1, Skew_Time as it is now.
    pub skew_time: Duration,
    /// The last transitions, oldest first.
    pub history: Vec<Transition>,
    /// What was counted.
    pub counters: Counters,
}
