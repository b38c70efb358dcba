//! The states and what leads from one to the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::events::Limiter;
use super::handover::{Handover, Hello, LINGER};
use super::model::{
    Announcements, Config, Counters, Destination, Event, EventKind, Input, MasterSeen, Output, Peer, StateKind, Transition, VirtualAddress,
};
use crate::packet::{Advertisement, AdvertisementInterval, Envelope, Guard, Packet, Priority, Version, encode};

/// Transitions remembered.
const HISTORY_MAX: usize = 32;

/// How long an address that could not be added keeps this node from trying again.
const FAULT_TIME: Duration = Duration::from_secs(5);

/// So many removals of our addresses by others within [`LOST_WINDOW`], and the node yields.
const LOST_MAX: u32 = 5;
const LOST_WINDOW: Duration = Duration::from_secs(10);

/// One virtual router of one family on one interface.
#[derive(Debug)]
pub struct Instance {
    pub(super) config: Config,
    pub(super) started: bool,
    /// The first listening after a start is not over yet.
    pub(super) fresh: bool,
    pub(super) interface_up: bool,
    pub(super) primary: Option<IpAddr>,
    pub(super) serving: Result<(), String>,
    pub(super) group_blocked: Option<String>,
    pub(super) fault: Option<(Instant, String)>,
    pub(super) adjust: i16,
    pub(super) adjust_reason: String,
    pub(super) healthy: Option<u16>,
    /// Since when a peer of ours counts more healthy endpoints than we.
    pub(super) healthier: Option<Instant>,
    pub(super) state: State,
    pub(super) since: Instant,
    /// Active_Adver_Interval (RFC 9568 section 6.1).
    pub(super) learned: AdvertisementInterval,
    pub(super) seen: Option<MasterSeen>,
    /// It was master, and another one is it now that nobody was asked to listen to: that one has to be told.
    pub(super) deposed: bool,
    /// The master that said priority 0 just now. Its request to take over may be behind it.
    pub(super) resigned: Option<IpAddr>,
    /// Asked to release while it follows: that is the leader's to do.
    release_asked: bool,
    /// Why a live master is left alone, whatever its rank.
    pub(super) released: Option<String>,
    pub(super) preempt_at: Option<Instant>,
    /// Until when addresses are kept that another node of ours holds already.
    pub(super) linger: Option<Instant>,
    pub(super) hello: Hello,
    pub(super) peers: BTreeMap<IpAddr, Peer>,
    pub(super) guard: Guard,
    made_at: Duration,
    lost: Option<(Instant, u32)>,
    pub(super) counters: Counters,
    pub(super) history: VecDeque<Transition>,
    pub(super) limiter: Limiter,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one to each instance, never moved on a hot path")]
pub(super) enum State {
    /// RFC 9568 section 6.4.1
    Initialize,
    /// RFC 9568 section 6.4.2
    Backup {
        /// Active_Down_Timer
        down_at: Instant,
    },
    /// RFC 9568 section 6.4.3
    Master(Master),
}

#[derive(Debug)]
pub(super) struct Master {
    /// Adver_Timer
    pub(super) advertise_at: Instant,
    /// The last advertisement, and how long a backup waits for the next one at the least.
    pub(super) sent_at: Instant,
    pub(super) patience: Duration,
    /// Announcements since it became master.
    announced: u32,
    became_at: Instant,
    announce_at: Option<Instant>,
    /// The last announcement, so that a neighbour that keeps advertising cannot make us flood the link.
    announced_at: Instant,
    pub(super) handover: Option<Handover>,
    /// Who asked us to take over, and until when what it said before it heard us may still be under way.
    pub(super) asked_by: Option<(IpAddr, Instant)>,
}

impl Instance {
    /// A router that takes no part yet. It wants [`Input::Interface`], [`Input::PrimaryAddress`], [`Input::Eligible`] and
    /// [`Input::Start`].
    pub fn new(config: Config, now: Instant) -> Instance {
        Instance {
            learned: config.interval,
            config,
            started: false,
            fresh: true,
            interface_up: false,
            primary: None,
            serving: Err("the data plane has not answered yet".into()),
            group_blocked: None,
            fault: None,
            adjust: 0,
            adjust_reason: String::new(),
            healthy: None,
            healthier: None,
            state: State::Initialize,
            since: now,
            seen: None,
            deposed: false,
            resigned: None,
            release_asked: false,
            released: None,
            preempt_at: None,
            linger: None,
            hello: Hello::default(),
            peers: BTreeMap::new(),
            guard: Guard::default(),
            made_at: Duration::ZERO,
            lost: None,
            counters: Counters::default(),
            history: VecDeque::new(),
            limiter: Limiter::default(),
            outputs: VecDeque::new(),
        }
    }

    /// As configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it is.
    pub fn state(&self) -> StateKind {
        match self.state {
            State::Initialize => StateKind::Initialize,
            State::Backup { .. } => StateKind::Backup,
            State::Master(_) => StateKind::Master,
        }
    }

    /// Whether a [`Input::Stop`] is done: nothing is held any more.
    pub fn is_stopped(&self) -> bool {
        !self.started && matches!(self.state, State::Initialize) && self.linger.is_none()
    }

    /// Rank as advertised: the configured one and what tracking changed; an owner is not touched.
    pub fn priority(&self) -> Priority {
        match self.config.priority {
            Priority::OWNER => Priority::OWNER,
            Priority(configured) => Priority((i16::from(configured).saturating_add(self.adjust)).clamp(1, 254) as u8),
        }
    }

    /// Skew_Time (RFC 9568 section 6.1): `(256 - priority) * Active_Adver_Interval / 256`; version 2: `(256 - priority) / 256` seconds.
    pub fn skew_time(&self) -> Duration {
        let base = match self.config.version {
            Version::V3 => self.learned.duration(),
            Version::V2 => Duration::from_secs(1),
        };
        base * (256 - u32::from(self.priority().0)) / 256
    }

    /// Active_Down_Interval (RFC 9568 section 6.1): `3 * Active_Adver_Interval + Skew_Time`.
    pub fn master_down_interval(&self) -> Duration {
        3 * self.learned.duration() + self.skew_time()
    }

    /// The addresses a packet is sent to: the group's, or the peers'.
    pub fn destinations(&self, to: Destination) -> Vec<IpAddr> {
        match to {
            Destination::One(address) => vec![address],
            Destination::Everyone if self.config.peers.is_empty() => vec![self.config.family.group()],
            Destination::Everyone => self.config.peers.iter().map(|peer| peer.address).collect(),
        }
    }

    /// Writes a packet for one destination. `wall` is the clock since 1970; only looked at where packets are signed, and never used twice.
    /// `None` while there is no primary address.
    pub fn encode(&mut self, packet: &Packet, destination: IpAddr, wall: Duration) -> Option<Vec<u8>> {
        self.made_at = wall.max(self.made_at + Duration::from_micros(1));
        let keys = self.config.keys.as_deref();
        let envelope = Envelope { source: self.primary?, destination, checksum: self.config.checksum, keys, made_at: self.made_at };
        Some(encode(packet, &envelope))
    }

    /// What has to be said if this process dies now, in this order: for who outlives it. Empty unless it is master.
    pub fn farewell(&self, now: Instant) -> Vec<(Packet, Destination)> {
        if !matches!(self.state, State::Master(_)) {
            return Vec::new();
        }
        let peer = self.best_peer(now, &[]).map(|address| (self.take_over(), Destination::One(address)));
        peer.into_iter().chain([(Packet::Advertisement(self.advertisement(Priority::RELEASE)), Destination::Everyone)]).collect()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Instance::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_state = match &self.state {
            State::Initialize => None,
            State::Backup { down_at } => Some(*down_at),
            State::Master(master) => {
                [Some(master.advertise_at), master.announce_at, master.handover.as_ref().map(|handover| handover.next_at)]
                    .into_iter()
                    .flatten()
                    .min()
            }
        };
        [of_state, self.linger, self.hello.at, self.fault.as_ref().map(|(until, _)| *until)].into_iter().flatten().min()
    }

    /// Something happened.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        self.catch_up(now);
        match input {
            Input::Start => {
                self.started = true;
                self.fresh = true;
            }
            Input::Stop => {
                self.started = false;
                match self.state {
                    State::Master(_) => self.hand_over(true, "stopped", now),
                    State::Backup { .. } => self.become_idle("stopped", now),
                    State::Initialize => {}
                }
                self.hello.at = None;
            }
            Input::Interface { up } => self.interface_up = up,
            Input::PrimaryAddress(address) => self.primary = address,
            Input::Eligible { eligible, reason } => {
                let serving = if eligible { Ok(()) } else { Err(reason) };
                if serving.is_ok() != self.serving.is_ok() {
                    self.greet(now);
                }
                self.serving = serving;
            }
            Input::Rank { adjust, reason } => {
                let before = self.priority();
                (self.adjust, self.adjust_reason) = (adjust, reason);
                self.settings_changed(before != self.priority(), now);
            }
            Input::Healthy(healthy) => self.healthy = healthy,
            Input::AddressLost(address) => self.address_lost(address, now),
            Input::AddressFailed { address, reason } => self.address_failed(address, &reason, now),
            Input::Release if self.config.follower => self.release_asked = true,
            Input::Release => self.release(now),
            Input::Config(config) => self.reconfigure(*config, now),
            Input::Follow(leader) => self.follow(leader, now),
            Input::GroupBlocked(blocked) => self.group_blocked = blocked,
        }
        self.reconsider(now);
    }

    /// A deadline of [`Instance::poll_timeout`] passed. Does nothing when called too early.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.catch_up(now);
        if self.fault.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.fault = None;
        }
        if self.linger.is_some_and(|until| until <= now) {
            self.linger = None;
            self.push(Output::RemoveAddresses(self.config.addresses.clone()));
        }
        self.hello_due(now);
        match &self.state {
            State::Initialize => {}
            State::Backup { down_at } => {
                let down_at = *down_at;
                if down_at <= now {
                    self.master_down(down_at, now);
                }
            }
            State::Master(_) => self.master_due(now),
        }
        self.reconsider(now);
    }

    /// Whether this node may be master, and else why not.
    pub fn able(&self) -> Result<(), String> {
        let interface = &self.config.interface;
        if !self.interface_up {
            return Err(format!("interface {interface} is down"));
        }
        if self.primary.is_none() {
            return Err(format!("interface {interface} has no {} address to send from", self.config.family.word()));
        }
        self.serving.clone()?;
        if let Some((_, fault)) = &self.fault {
            return Err(fault.clone());
        }
        match &self.group_blocked {
            Some(blocked) => Err(blocked.clone()),
            None => Ok(()),
        }
    }

    /// Like [`Instance::able`], without the group's word.
    pub(crate) fn able_alone(&self) -> Result<(), String> {
        match (&self.group_blocked, self.able()) {
            (Some(blocked), Err(why)) if *blocked == why => Ok(()),
            (_, able) => able,
        }
    }

    pub(crate) fn group_blocked(&self) -> Option<&str> {
        self.group_blocked.as_deref()
    }

    /// Takes part where it wants to and can; stops where it cannot any more.
    fn reconsider(&mut self, now: Instant) {
        match (self.able(), &self.state) {
            (Ok(()), State::Initialize) if self.started => self.start_up(now),
            (Err(why), State::Backup { .. }) => self.become_idle(&why, now),
            (Err(why), State::Master(_)) => self.fail(&why, now),
            _ => {}
        }
    }

    /// RFC 9568 section 6.4.1, Startup. Everybody but the owner listens first.
    fn start_up(&mut self, now: Instant) {
        let delay = if std::mem::take(&mut self.fresh) { self.config.startup_delay } else { Duration::ZERO };
        self.learned = self.config.interval;
        if self.priority() == Priority::OWNER && delay.is_zero() && !self.config.follower {
            self.become_master("it owns the addresses (priority 255)", now);
            return;
        }
        self.state = State::Backup { down_at: now + self.master_down_interval() + delay };
        self.preempt_at = None;
        self.transition(StateKind::Initialize, StateKind::Backup, "it takes part and listens first".into(), now);
        self.greet_everyone();
        self.greet(now);
    }

    /// RFC 9568 section 6.4.2: the Active_Down_Timer fires.
    fn master_down(&mut self, due: Instant, now: Instant) {
        let interval = self.learned.duration();
        if self.config.follower {
            self.state = State::Backup { down_at: now + self.master_down_interval() };
            return;
        }
        // This process did not run when it should have: the master may have spoken all the while. Listen once more.
        if now.saturating_duration_since(due) > interval {
            self.counters.stalls += 1;
            let text = format!("this process did not run for {:?}; it listens again before it takes over", now - due);
            self.say(EventKind::Stalled, "stalled", text, now);
            self.state = State::Backup { down_at: now + interval + self.skew_time() };
            return;
        }
        let why = match &self.seen {
            None => "no master was heard".into(),
            Some(seen) if seen.heard + self.master_down_interval() <= now => {
                format!("{} was silent for {:?}", seen.address, now - seen.heard)
            }
            Some(seen) => format!("it ranks above {} ({} to {})", seen.address, self.priority(), seen.priority),
        };
        self.become_master(&why, now);
    }

    /// RFC 9568 section 6.4.2, steps of a fired Active_Down_Timer.
    pub(super) fn become_master(&mut self, why: &str, now: Instant) {
        let from = self.state();
        // Silent for less than it takes to be taken for dead: it hands over.
        let patience = 3 * self.learned.duration();
        let before = self.seen.as_ref().filter(|seen| seen.ours && now < seen.heard + patience).map(|seen| seen.address);
        self.learned = self.config.interval;
        self.state = State::Master(Master {
            advertise_at: now,
            sent_at: now,
            patience: Duration::ZERO,
            announced: 0,
            became_at: now,
            announce_at: None,
            announced_at: now,
            handover: None,
            asked_by: None,
        });
        (self.seen, self.resigned, self.released, self.preempt_at) = (None, None, None, None);
        (self.linger, self.healthier, self.hello.at, self.deposed) = (None, None, None, false);
        self.counters.master_transitions += 1;
        self.advertise(now);
        if let Some(before) = before {
            self.push(Output::SendStraysTo(before));
        }
        self.push(Output::AddAddresses(self.config.addresses.clone()));
        self.announce(now);
        self.transition(from, StateKind::Master, why.into(), now);
    }

    /// From master to backup. With `linger`, what is in flight ends first.
    pub(super) fn become_backup(&mut self, down_at: Instant, linger: Option<Duration>, why: String, now: Instant) {
        self.let_go(linger, now);
        self.state = State::Backup { down_at };
        self.transition(StateKind::Master, StateKind::Backup, why, now);
        self.greet(now);
    }

    /// To initialize, without a word on the wire (RFC 9568 sections 6.4.2 and 6.4.3, Shutdown, for a backup; a master said it already).
    pub(super) fn become_idle(&mut self, why: &str, now: Instant) {
        let from = self.state();
        self.state = State::Initialize;
        self.preempt_at = None;
        self.transition(from, StateKind::Initialize, why.into(), now);
    }

    pub(super) fn let_go(&mut self, linger: Option<Duration>, now: Instant) {
        let addresses = self.config.addresses.clone();
        match linger {
            Some(linger) => {
                self.linger = Some(now + linger);
                self.push(Output::Quiet(addresses));
            }
            None => self.push(Output::RemoveAddresses(addresses)),
        }
    }

    /// A master that cannot be it any more. Says so where it still can; where a node of ours was asked to take over, what is in flight ends
    /// first: perhaps not all of this node is ill.
    fn fail(&mut self, why: &str, now: Instant) {
        let heard = self.interface_up && self.primary.is_some();
        if heard {
            self.say_farewell(now);
        }
        let linger = self.best_peer(now, &[]).filter(|_| heard && self.fault.is_none()).map(|_| LINGER);
        self.let_go(linger, now);
        self.become_idle(why, now);
    }

    /// Asks a peer of ours to take over, and says priority 0 to everybody.
    pub(super) fn say_farewell(&mut self, now: Instant) {
        for (packet, to) in self.farewell(now) {
            if matches!(packet, Packet::Advertisement(_)) {
                self.counters.advertisement_sent += 1;
                self.counters.priority_zero_pkts_sent += 1;
            }
            self.push(Output::Send { packet, to });
        }
    }

    /// What is due while master.
    fn master_due(&mut self, now: Instant) {
        self.handover_due(now);
        let half = self.config.interval.duration() / 2;
        let State::Master(master) = &mut self.state else { return };
        if master.announce_at.is_some_and(|at| at <= now) {
            self.announce(now);
        }
        let State::Master(master) = &mut self.state else { return };
        if master.advertise_at > now {
            return;
        }
        let late = now - master.advertise_at;
        self.advertise(now);
        self.consider_health(now);
        self.forget_peers(now);
        if late > half {
            self.counters.late += 1;
            let text = format!("an advertisement left {late:?} late: this machine is too busy for an interval of {}", self.config.interval);
            self.say(EventKind::Late, "late", text, now);
        }
    }

    /// A master that did not run for as long as the most impatient backup waits is not master any more: it steps down before it speaks.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let State::Master(master) = &self.state else { return };
        let gap = now.saturating_duration_since(master.sent_at);
        if gap <= master.patience {
            return;
        }
        self.counters.stalls += 1;
        let text = format!("this process did not run for {gap:?}, longer than the backups wait");
        self.say(EventKind::Stalled, "stalled", text.clone(), now);
        // Who took over speaks once in an interval; one of its advertisements may be lost.
        let listen = 2 * self.config.interval.duration() + self.skew_time();
        self.deposed = true;
        self.become_backup(now + listen, None, format!("{text}: it listens first"), now);
    }

    pub(super) fn advertisement(&self, priority: Priority) -> Advertisement {
        Advertisement {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.interval,
            addresses: self.config.addresses.iter().map(|address| address.address).collect(),
        }
    }

    /// Sends an advertisement and sets Adver_Timer (RFC 9568 section 6.4.3).
    pub(super) fn advertise(&mut self, now: Instant) {
        let interval = self.config.interval.duration();
        let packet = Packet::Advertisement(self.advertisement(self.priority()));
        let State::Master(master) = &mut self.state else { return };
        // From deadline to deadline, so that small delays do not add up.
        let next = master.advertise_at + interval;
        master.advertise_at = if master.advertise_at <= now && next > now { next } else { now + interval };
        master.sent_at = now;
        master.patience = 3 * interval;
        self.counters.advertisement_sent += 1;
        self.push(Output::Send { packet, to: Destination::Everyone });
    }

    /// Announces all addresses and plans the next time: the rest of the first burst, the second one, then refreshes.
    pub(super) fn announce(&mut self, now: Instant) {
        let Announcements { count, interval, repeat, refresh } = self.config.announce;
        let State::Master(master) = &mut self.state else { return };
        master.announced_at = now;
        master.announced = master.announced.saturating_add(1);
        let in_burst = master.announced % count != 0;
        master.announce_at = match (master.announced / count, repeat) {
            (0, _) | (1, Some(_)) if in_burst => Some(now + interval),
            (1, Some(repeat)) if master.announced == count => Some((master.became_at + repeat).max(now + interval)),
            _ => refresh.map(|refresh| now + refresh),
        };
        self.push(Output::Announce(self.config.addresses.clone()));
    }

    /// Another master gave way, or must. Switches, hosts and the other itself learn at once who is master (RFC 9568 section 6.4.3).
    pub(super) fn conflict_won(&mut self, other: IpAddr, now: Instant) {
        self.advertise_now(now);
        self.announce_again(now);
        self.counters.conflicts_won += 1;
        self.say(EventKind::ConflictWon, "conflict-won", format!("{other} was master too and gives way"), now);
    }

    /// After a conflict: whoever listened to the other must hear us now. Once per interval is enough.
    pub(super) fn announce_again(&mut self, now: Instant) {
        let interval = self.config.interval.duration();
        let State::Master(master) = &mut self.state else { return };
        let earliest = master.announced_at + interval;
        if now < earliest {
            // What was announced just now may have been said to one side of a divided network only.
            master.announce_at = Some(master.announce_at.map_or(earliest, |at| at.min(earliest)));
            return;
        }
        master.announced_at = now;
        self.push(Output::Announce(self.config.addresses.clone()));
    }

    /// What others learn from our advertisements changed: a master says so at once.
    fn settings_changed(&mut self, changed: bool, now: Instant) {
        if changed && matches!(self.state, State::Master(_)) {
            self.advertise(now);
        }
    }

    fn reconfigure(&mut self, new: Config, now: Instant) {
        let old = std::mem::replace(&mut self.config, new);
        if old.shared != self.config.shared {
            let peers: Vec<IpAddr> = self.peers.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.compare_files(peer, now));
            self.greet(now);
        }
        let gone = without(&old.addresses, &self.config.addresses);
        let come = without(&self.config.addresses, &old.addresses);
        let changed = old.priority != self.config.priority || old.interval != self.config.interval || !(gone.is_empty() && come.is_empty());
        match &mut self.state {
            State::Initialize => self.learned = self.config.interval,
            State::Backup { down_at } => {
                let was = *down_at;
                if self.seen.is_none() {
                    self.learned = self.config.interval;
                }
                if old.priority != self.config.priority || (old.interval != self.config.interval && self.seen.is_none()) {
                    let heard = self.seen.as_ref().map_or(now, |seen| seen.heard);
                    let fresh = (heard + self.master_down_interval()).max(now);
                    self.state = State::Backup { down_at: fresh.max(was.min(now + self.master_down_interval())) };
                }
            }
            State::Master(_) => {
                self.learned = self.config.interval;
                if !gone.is_empty() {
                    self.push(Output::RemoveAddresses(gone));
                }
                if !come.is_empty() {
                    self.push(Output::AddAddresses(come.clone()));
                    self.push(Output::Announce(come));
                }
            }
        }
        self.settings_changed(changed, now);
    }

    /// Whether a follower was asked to release since the last call.
    pub(crate) fn take_release_asked(&mut self) -> bool {
        std::mem::take(&mut self.release_asked)
    }

    /// A follower does as its leader.
    fn follow(&mut self, leader: StateKind, now: Instant) {
        match (leader, &self.state) {
            (StateKind::Master, State::Backup { .. }) => self.become_master("the leader of its sync group is master", now),
            // It stops, and lets go when it hears its successor.
            (StateKind::Backup | StateKind::Initialize, State::Master(Master { handover: Some(_), .. })) => {}
            (StateKind::Backup | StateKind::Initialize, State::Master(_)) => {
                self.say_farewell(now);
                let linger = self.best_peer(now, &[]).map(|_| LINGER);
                let down_at = now + self.master_down_interval();
                self.become_backup(down_at, linger, "the leader of its sync group is not master".into(), now);
            }
            _ => {}
        }
    }

    fn address_lost(&mut self, address: IpAddr, now: Instant) {
        let Some(lost) = self.config.addresses.iter().find(|own| own.address == address).copied() else { return };
        if !matches!(self.state, State::Master(_)) {
            return;
        }
        let (since, times) = self.lost.filter(|(since, _)| now < *since + LOST_WINDOW).unwrap_or((now, 0));
        self.lost = Some((since, times + 1));
        if times + 1 > LOST_MAX {
            self.lost = None;
            let why = format!("somebody keeps removing {address} from this node");
            self.yield_to_others(why, now);
            return;
        }
        self.push(Output::AddAddresses(vec![lost]));
        self.push(Output::Announce(vec![lost]));
        let text = format!("somebody removed {address} from this node; it is back. Keep other network managers off virtual addresses");
        self.say(EventKind::AddressRestored, "address-restored", text, now);
    }

    fn address_failed(&mut self, address: IpAddr, reason: &str, now: Instant) {
        let text = format!("{address} could not be added: {reason}");
        self.say(EventKind::AddressFailed, "address-failed", text.clone(), now);
        self.fault = Some((now + FAULT_TIME, text));
    }

    /// From master to backup with priority 0; leaves whoever becomes master alone.
    pub(super) fn yield_to_others(&mut self, why: String, now: Instant) {
        self.say_farewell(now);
        self.released = Some(why.clone());
        let down_at = now + self.master_down_interval();
        self.become_backup(down_at, None, why, now);
    }

    pub(super) fn transition(&mut self, from: StateKind, to: StateKind, why: String, now: Instant) {
        self.since = now;
        let transition = Transition { at: now, from, to, why };
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(transition.clone());
        self.push(Output::Transition(transition));
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Says something, at a limited rate for each `topic`.
    pub(super) fn say(&mut self, kind: EventKind, topic: &'static str, text: String, now: Instant) {
        if let Some(text) = self.limiter.admit(topic, text, now) {
            self.push(Output::Event(Event { kind, text }));
        }
    }
}

fn without(these: &[VirtualAddress], those: &[VirtualAddress]) -> Vec<VirtualAddress> {
    these.iter().filter(|address| !those.contains(address)).copied().collect()
}
