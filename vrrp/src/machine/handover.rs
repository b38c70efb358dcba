//! Between nodes of ours: who is there, and one master after the other without a gap.
//!
//! ```text
//!   backup                              master
//!     │ ── Hello (rank, eligible) ──────► │   to all at the start, then on hearing a new master and every HELLO_EVERY while answered,
//!     │ ◄────────────── Present ───────── │   else ever more seldom: a foreign master should not be bothered
//!     │                                   │
//!     │ ◄────────────── TakeOver ──────── │   released or stopped; again after RETRY, then the next peer, then priority 0
//!     │ ── advertisement, announcement ─► │   = accepted: quiet, and after LINGER without the addresses
//!     │ ── Decline ─────────────────────► │   = ask the next one
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::instance::{Instance, Master, State};
use super::model::{Destination, EventKind, Output, Peer};
use crate::packet::{Advertisement, Packet, PeerKind, PeerMessage};

/// Time between two greetings of a backup to a master that answers.
const HELLO_EVERY: Duration = Duration::from_secs(2);
/// The longest time between two greetings to a master that does not answer.
const HELLO_MAX: Duration = Duration::from_secs(300);
/// A peer that is silent for longer is not asked to take over.
const PEER_LIFETIME: Duration = Duration::from_secs(7);
/// How long the answer to TakeOver may take.
const RETRY: Duration = Duration::from_millis(25);
/// Requests to one peer.
const TRIES: u8 = 3;
/// How long what is in flight may use the addresses after another node of ours became master.
pub const LINGER: Duration = Duration::from_millis(500);
/// How long a peer must count more healthy endpoints than we before it is asked to take over: probes do not see a change at the same time.
const HEALTH_HOLD: Duration = Duration::from_secs(5);
/// How long a peer may be configured otherwise than this node before that is said.
const DIFFERS_HOLD: Duration = Duration::from_secs(60);
/// Peers remembered.
const PEERS_MAX: usize = 16;

/// The backup's greeting.
#[derive(Default, Debug)]
pub(super) struct Hello {
    pub(super) at: Option<Instant>,
    unanswered: u32,
}

/// The master's way out.
#[derive(Debug)]
pub(super) struct Handover {
    target: IpAddr,
    tries: u8,
    pub(super) next_at: Instant,
    /// Peers that declined or did not answer.
    refused: Vec<IpAddr>,
    stop: bool,
    why: String,
}

impl Instance {
    /// Greets the master at the next opportunity: something changed.
    pub(super) fn greet(&mut self, now: Instant) {
        if !matches!(self.state, State::Master(_)) && self.started && self.seen.is_some() {
            self.hello = Hello { at: Some(now), unanswered: 0 };
        }
    }

    /// Greets whoever is there, at the start: at long intervals the master's first advertisement may be long in coming, and until it
    /// was greeted it knows no successor.
    pub(super) fn greet_everyone(&mut self) {
        if self.seen.is_none() {
            self.push(Output::Send { packet: self.message(PeerKind::Hello), to: Destination::Everyone });
        }
    }

    pub(super) fn hello_due(&mut self, now: Instant) {
        if self.hello.at.is_none_or(|at| at > now) {
            return;
        }
        let Some(master) = self.seen.as_ref().filter(|_| !matches!(self.state, State::Master(_))) else {
            self.hello.at = None;
            return;
        };
        let to = Destination::One(master.address);
        // Four greetings at the usual pace, then twice the time after each.
        let wait = HELLO_EVERY * 2u32.pow(self.hello.unanswered.saturating_sub(3).min(10));
        self.hello = Hello { at: Some(now + wait.min(HELLO_MAX)), unanswered: self.hello.unanswered + 1 };
        if self.primary.is_some() {
            self.push(Output::Send { packet: self.message(PeerKind::Hello), to });
        }
    }

    pub(super) fn message(&self, kind: PeerKind) -> Packet {
        Packet::Peer(PeerMessage {
            vrid: self.config.vrid,
            kind,
            priority: self.priority(),
            eligible: self.able().is_ok(),
            deposed: self.deposed,
            healthy: self.healthy,
            shared: self.config.shared,
        })
    }

    pub(super) fn take_over(&self) -> Packet {
        self.message(PeerKind::TakeOver)
    }

    pub(super) fn peer_received(&mut self, message: PeerMessage, source: IpAddr, now: Instant) {
        let joined = self.remember_peer(message, source, now);
        let reply = |this: &mut Instance, kind| this.push(Output::Send { packet: this.message(kind), to: Destination::One(source) });
        let from_master = self.seen.as_ref().map_or(self.resigned, |seen| Some(seen.address)) == Some(source);
        match (message.kind, &self.state) {
            (PeerKind::Hello, State::Master(_)) => {
                reply(self, PeerKind::Present);
                if message.deposed {
                    self.conflict_won(source, now);
                } else if joined {
                    self.advertise_now(now);
                    self.announce_again(now);
                }
            }
            (PeerKind::Present, State::Initialize | State::Backup { .. }) if from_master => {
                self.deposed = false;
                self.hello.unanswered = 0;
                self.hello.at = Some(now + HELLO_EVERY);
                if let Some(seen) = &mut self.seen {
                    seen.ours = true;
                }
            }
            (PeerKind::TakeOver, State::Backup { .. }) if from_master && !self.config.follower => {
                self.become_master(&format!("{source} asked it to take over"), now);
                if let State::Master(master) = &mut self.state {
                    master.asked_by = Some((source, now + RETRY));
                }
            }
            // It did not hear us yet.
            (PeerKind::TakeOver, State::Master(_)) if self.was_asked_by(source, now) => self.advertise_now(now),
            (PeerKind::TakeOver, State::Initialize | State::Backup { .. }) => reply(self, PeerKind::Decline),
            (PeerKind::Decline, State::Master(_)) => self.declined(source, now),
            // Asked while it is master already, or answers that come too late.
            _ => {}
        }
    }

    /// Whether it was not there before, or away for longer than it waits between two greetings. It must hear at once who is master; and
    /// where a partition had two masters, those who listened to the other one must.
    fn remember_peer(&mut self, message: PeerMessage, source: IpAddr, now: Instant) -> bool {
        let before = self.peers.get(&source).map(|peer| peer.heard);
        let known = before.is_some();
        if !known && self.peers.len() >= PEERS_MAX {
            return false;
        }
        let PeerMessage { priority, eligible, healthy, shared, .. } = message;
        let (differs_since, differs_said) = self.peers.get(&source).map_or((None, false), |peer| (peer.differs_since, peer.differs_said));
        let peer = Peer { address: source, priority, eligible, healthy, shared, differs_since, differs_said, heard: now };
        self.peers.insert(source, peer);
        self.compare_files(source, now);
        if !known {
            self.say(EventKind::Peer, "peer", format!("{source} is a node of ours for this router, with rank {priority}"), now);
        }
        before.is_none_or(|heard| now > heard + HELLO_EVERY * 3 / 2)
    }

    /// Whether a peer is configured as this node is, as far as both should be.
    pub(super) fn compare_files(&mut self, source: IpAddr, now: Instant) {
        let ours = self.config.shared;
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let both = peer.shared.zip(ours);
        let differs = both.is_some_and(|(theirs, ours)| theirs != ours);
        let text = if differs {
            let since = *peer.differs_since.get_or_insert(now);
            // Nodes are reloaded one after the other.
            if peer.differs_said || now < since + DIFFERS_HOLD {
                return;
            }
            peer.differs_said = true;
            format!("{source} serves by another file than this node, for {} s: reload the one whose file is old", (now - since).as_secs())
        } else {
            peer.differs_since = None;
            // One that tells nothing any more, as an older version, is not known to be alike.
            if !std::mem::take(&mut peer.differs_said) || both.is_none() {
                return;
            }
            format!("{source} serves by the same file as this node again")
        };
        self.say(EventKind::Peer, if differs { "peer-differs" } else { "peer-alike" }, text, now);
    }

    pub(super) fn forget_peers(&mut self, now: Instant) {
        let silent: Vec<IpAddr> = self.peers.values().filter(|peer| peer.heard + PEER_LIFETIME < now).map(|peer| peer.address).collect();
        for address in silent {
            self.peers.remove(&address);
            self.say(EventKind::Peer, "peer-silent", format!("{address}, a node of ours, is silent: it cannot take over"), now);
        }
    }

    /// Who should take over: of those that can, the one with the most healthy endpoints, then the highest rank, then the greatest address.
    pub(super) fn best_peer(&self, now: Instant, refused: &[IpAddr]) -> Option<IpAddr> {
        self.peers
            .values()
            .filter(|peer| peer.eligible && peer.heard + PEER_LIFETIME >= now && !refused.contains(&peer.address))
            .max_by_key(|peer| (peer.healthy, peer.priority, peer.address))
            .map(|peer| peer.address)
    }

    /// The operator's wish.
    pub(super) fn release(&mut self, now: Instant) {
        match self.state {
            State::Master(_) => self.hand_over(false, "released by the operator", now),
            State::Backup { .. } => self.released = Some("released by the operator".into()),
            State::Initialize => {}
        }
    }

    /// Leaves as master, to a peer of ours where there is one.
    pub(super) fn hand_over(&mut self, stop: bool, why: &str, now: Instant) {
        if let State::Master(master) = &mut self.state
            && let Some(handover) = &mut master.handover
        {
            handover.stop |= stop;
            return;
        }
        self.ask_next(Vec::new(), stop, why.to_owned(), now);
    }

    /// Asks the best peer that did not refuse; without one it says priority 0 and goes.
    fn ask_next(&mut self, refused: Vec<IpAddr>, stop: bool, why: String, now: Instant) {
        let target = self.best_peer(now, &refused);
        let State::Master(master) = &mut self.state else { return };
        let Some(target) = target else {
            master.handover = None;
            let nobody = if refused.is_empty() { "no node of ours can take over" } else { "no node of ours took over" };
            self.say(EventKind::Handover, "handover-none", format!("{why}: {nobody}, so it says priority 0"), now);
            self.go(stop, why, None, now);
            return;
        };
        master.handover = Some(Handover { target, tries: 1, next_at: now + RETRY, refused, stop, why });
        self.ask(target);
    }

    /// A follower only waits: its leader asks, and the leader's successor brings its own follower along.
    fn ask(&mut self, target: IpAddr) {
        if !self.config.follower {
            let packet = self.take_over();
            self.push(Output::Send { packet, to: Destination::One(target) });
        }
    }

    pub(super) fn handover_due(&mut self, now: Instant) {
        let State::Master(master) = &mut self.state else { return };
        let Some(handover) = master.handover.as_mut().filter(|handover| handover.next_at <= now) else { return };
        let target = handover.target;
        if handover.tries < TRIES {
            handover.tries += 1;
            handover.next_at = now + RETRY;
            self.ask(target);
        } else {
            self.declined(target, now);
        }
    }

    fn declined(&mut self, source: IpAddr, now: Instant) {
        let State::Master(master) = &mut self.state else { return };
        let Some(Handover { mut refused, stop, why, .. }) = master.handover.take_if(|handover| handover.target == source) else { return };
        refused.push(source);
        self.say(EventKind::Handover, "handover-refused", format!("{source} did not take over"), now);
        self.ask_next(refused, stop, why, now);
    }

    /// Whether this is the successor that was asked for. A follower takes whichever its leader found.
    pub(super) fn handed_over_to(&self, source: IpAddr) -> bool {
        let State::Master(Master { handover: Some(handover), .. }) = &self.state else { return false };
        handover.target == source || (self.config.follower && self.peers.contains_key(&source))
    }

    /// Whether this node is master because `source` asked for it just now: its last advertisements may arrive after its request.
    pub(super) fn was_asked_by(&self, source: IpAddr, now: Instant) -> bool {
        matches!(&self.state, State::Master(Master { asked_by: Some((by, until)), .. }) if *by == source && now < *until)
    }

    /// The peer we asked is master now, whatever its rank.
    pub(super) fn finish_handover(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) {
        let State::Master(master) = &mut self.state else { return };
        let Some(Handover { stop, why, .. }) = master.handover.take() else { return };
        self.counters.handovers += 1;
        self.say(EventKind::Handover, "handover-done", format!("{source} took over"), now);
        self.learned = advertisement.interval;
        self.remember(advertisement, source, now);
        self.go(stop, format!("{why}; {source} took over"), Some(LINGER), now);
    }

    /// The end of being master, after a successor spoke (`linger`), or with priority 0 for whoever listens.
    fn go(&mut self, stop: bool, why: String, linger: Option<Duration>, now: Instant) {
        if linger.is_none() {
            self.say_farewell(now);
        }
        if stop {
            self.let_go(linger, now);
            self.become_idle(&why, now);
        } else {
            self.released = Some(why.clone());
            let down_at = now + self.master_down_interval();
            self.become_backup(down_at, linger, why, now);
        }
    }

    /// Whether the master is a node of ours that counts more healthy endpoints: then it stays, whatever the ranks.
    pub(super) fn less_healthy_than_master(&self) -> bool {
        let Some(master) = self.seen.as_ref().filter(|seen| seen.ours) else { return false };
        let theirs = self.peers.get(&master.address).and_then(|peer| peer.healthy);
        matches!((self.healthy, theirs), (Some(ours), Some(theirs)) if theirs > ours)
    }

    /// A master whose peer has had more healthy endpoints for a while lets it take over. Failing endpoints alone never move an address:
    /// only a peer that says it is better off does.
    pub(super) fn consider_health(&mut self, now: Instant) {
        let Some(ours) = self.healthy else { return };
        let better = self.best_peer(now, &[]).and_then(|address| self.peers.get(&address)).and_then(|peer| peer.healthy);
        let Some(theirs) = better.filter(|theirs| *theirs > ours) else {
            self.healthier = None;
            return;
        };
        let since = *self.healthier.get_or_insert(now);
        if now >= since + HEALTH_HOLD {
            self.healthier = None;
            let why = format!("a node of ours counts more healthy endpoints ({theirs} to {ours})");
            self.hand_over(false, &why, now);
        }
    }
}
