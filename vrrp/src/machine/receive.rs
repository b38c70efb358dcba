//! What a packet does: RFC 9568 section 7.1, and the received advertisements of section 6.4.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use super::handover::LINGER;
use super::instance::{Instance, State};
use super::model::{EventKind, MasterSeen};
use crate::packet::{Advertisement, Discard, Expected, Packet, Priority, Reception, TTL, Version, decode};

impl Instance {
    /// A packet of protocol 112 arrived for this number and family on this interface (see [`crate::packet::peek`]): `payload` is what
    /// follows the IP header. A packet that breaks a rule is counted and discarded.
    pub fn handle_packet(&mut self, payload: &[u8], reception: &Reception, now: Instant) {
        self.catch_up(now);
        if let Err(discard) = self.receive(payload, reception, now) {
            self.discard(&discard, reception.source, now);
        }
    }

    /// Counts a discarded packet and says why, at a limited rate. Also for packets that the shell could not give to any router.
    pub fn discard(&mut self, discard: &Discard, source: IpAddr, now: Instant) {
        *self.counters.discarded.entry(discard.word()).or_default() += 1;
        let kind = if *discard == Discard::Carp { EventKind::Carp } else { EventKind::Discarded };
        self.say(kind, discard.word(), format!("a packet from {source} was discarded: {discard}"), now);
    }

    fn receive(&mut self, payload: &[u8], reception: &Reception, now: Instant) -> Result<(), Discard> {
        let source = reception.source;
        if Some(source) == self.primary {
            self.own_address(payload, source, now);
            return Err(Discard::OwnAddress(source));
        }
        let ttl = if self.config.peers.is_empty() {
            (TTL, TTL)
        } else {
            self.config.peers.iter().find(|peer| peer.address == source).ok_or(Discard::UnknownPeer(source))?.ttl
        };
        let expected = Expected {
            version: self.config.version,
            family: self.config.family,
            vrid: self.config.vrid,
            ttl,
            keys: self.config.keys.as_deref(),
            replay_window: self.config.replay_window,
        };
        match decode(payload, reception, &expected, &mut self.guard)?.packet {
            Packet::Advertisement(advertisement) => self.advertisement_received(&advertisement, source, now),
            Packet::Peer(message) => {
                self.peer_received(message, source, now);
                Ok(())
            }
        }
    }

    /// Our own packets come back where a switch or a promiscuous port reflects them; then they say what we say. Anything else from our
    /// address is another node's.
    fn own_address(&mut self, payload: &[u8], source: IpAddr, now: Instant) {
        let ours = matches!(self.state, State::Master(_)) && payload.get(2).is_some_and(|priority| *priority == self.priority().0);
        if ours {
            self.say(EventKind::Reflected, "reflected", format!("our own packets come back to us on {}", self.config.interface), now);
        } else {
            self.say(EventKind::AddressTwice, "address-twice", format!("another node advertises from our address {source}"), now);
        }
    }

    fn advertisement_received(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) -> Result<(), Discard> {
        self.counters.advertisement_rcvd += 1;
        self.compare(advertisement, source, now)?;
        if advertisement.priority == Priority::RELEASE {
            self.counters.priority_zero_pkts_rcvd += 1;
            self.release_received(source, now);
            return Ok(());
        }
        match self.state {
            State::Initialize => self.remember(advertisement, source, now),
            State::Backup { .. } => {
                self.remember(advertisement, source, now);
                if self.accepts(advertisement.priority, now) {
                    self.learned = advertisement.interval;
                    self.state = State::Backup { down_at: now + self.master_down_interval() };
                }
            }
            State::Master(_) => self.rival_received(advertisement, source, now),
        }
        Ok(())
    }

    /// Differences that do not make a packet invalid in version 3 (RFC 9568 section 7.1), but that an operator must know.
    fn compare(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) -> Result<(), Discard> {
        if advertisement.interval != self.config.interval {
            self.counters.interval_errors += 1;
            let (theirs, ours) = (advertisement.interval, self.config.interval);
            if self.config.version == Version::V2 {
                return Err(Discard::Interval { theirs, ours });
            }
            let text = format!("{source} advertises every {theirs}, this node every {ours}: set the same interval on both");
            self.say(EventKind::Differs, "differs-interval", text, now);
        }
        let theirs: BTreeSet<IpAddr> = advertisement.addresses.iter().copied().collect();
        let ours: BTreeSet<IpAddr> = self.config.addresses.iter().map(|address| address.address).collect();
        if theirs != ours {
            self.counters.address_list_errors += 1;
            let vrid = self.config.vrid;
            if theirs.is_disjoint(&ours) {
                let text = format!(
                    "{source} uses virtual router {vrid} for {} while it stands for {} here: give one of them another router_id",
                    list(&theirs),
                    list(&ours)
                );
                self.say(EventKind::ForeignRouter, "foreign-router", text, now);
            } else {
                let text = format!("{source} has other addresses for virtual router {vrid}: {} there, {} here", list(&theirs), list(&ours));
                self.say(EventKind::Differs, "differs-addresses", text, now);
            }
        }
        if advertisement.priority == Priority::OWNER && self.config.priority == Priority::OWNER {
            // Erratum 8298: said, not discarded; the greater address wins.
            let text = format!("{source} says it owns the addresses (priority 255), as this node does: only one can");
            self.say(EventKind::Differs, "differs-owner", text, now);
        }
        Ok(())
    }

    /// A master stops (priority 0).
    fn release_received(&mut self, source: IpAddr, now: Instant) {
        if self.seen.as_ref().is_some_and(|seen| seen.address == source) {
            self.seen = None;
            self.resigned = Some(source);
        }
        match self.state {
            State::Initialize => {}
            // RFC 9568 section 6.4.2: wait the skew time. Never longer than we would have waited anyway.
            State::Backup { down_at } => self.state = State::Backup { down_at: down_at.min(now + self.skew_time()) },
            // RFC 9568 section 6.4.3: advertise at once. Whoever listened to the other has to hear us now.
            State::Master(_) => {
                self.advertise_now(now);
                self.announce_again(now);
            }
        }
    }

    /// RFC 9568 section 6.4.2: whether a backup takes the sender for its master. If not, its timer runs out and it takes over, with no
    /// moment between the two masters.
    fn accepts(&mut self, theirs: Priority, now: Instant) -> bool {
        let ours = self.priority();
        if theirs >= ours {
            self.preempt_at = None;
            return true;
        }
        if self.config.follower {
            return true;
        }
        if ours != Priority::OWNER && (!self.config.preempt || self.released.is_some() || self.less_healthy_than_master()) {
            return true;
        }
        if self.config.preempt_delay.is_zero() {
            return false;
        }
        let at = *self.preempt_at.get_or_insert(now + self.config.preempt_delay);
        now < at
    }

    /// Another master while we are it (RFC 9568 section 6.4.3).
    fn rival_received(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) {
        let ours = self.priority();
        let theirs = advertisement.priority;
        if self.handed_over_to(source) {
            self.finish_handover(advertisement, source, now);
            return;
        }
        // It has not heard us yet; its next request is answered. An answer to this could go back and forth without end.
        if self.was_asked_by(source, now) {
            return;
        }
        // Equal ranks: the greater primary address wins, as an unsigned number in network order.
        let greater = self.primary.is_some_and(|primary| source > primary);
        let wins = theirs > ours || (theirs == ours && greater);
        match (wins, self.config.follower) {
            (true, false) => {
                let linger = self.peers.contains_key(&source).then_some(LINGER);
                self.learned = advertisement.interval;
                self.remember(advertisement, source, now);
                let rank = if theirs > ours { "ranks above" } else { "has the same rank as this node and the greater address, at" };
                let why =
                    format!("{source} {rank} {}", if theirs > ours { format!("this node ({theirs} to {ours})") } else { ours.to_string() });
                let down_at = now + self.master_down_interval();
                self.deposed = true;
                self.become_backup(down_at, linger, why, now);
            }
            // A follower waits for its leader's word. Answering would make two masters answer each other without end.
            (true, true) => {}
            // Nor does it disturb the successor that a node of ours brings along.
            (false, true) if self.peers.contains_key(&source) => {}
            (false, _) => self.conflict_won(source, now),
        }
    }

    /// An advertisement outside its turn; the next one a whole interval later.
    pub(super) fn advertise_now(&mut self, now: Instant) {
        if let State::Master(master) = &mut self.state {
            master.advertise_at = now;
        }
        self.advertise(now);
    }

    pub(super) fn remember(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) {
        let before = self.seen.take().filter(|seen| seen.address == source);
        let known = before.is_some();
        self.resigned = None;
        self.seen = Some(MasterSeen {
            address: source,
            priority: advertisement.priority,
            interval: advertisement.interval,
            heard: now,
            since: before.as_ref().map_or(now, |seen| seen.since),
            ours: before.is_some_and(|seen| seen.ours),
        });
        if !known {
            self.greet(now);
        }
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
