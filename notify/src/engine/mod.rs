//! Incidents: what belongs together, who is told, when again, and when no more. Pure: alarms, acknowledgements and the time go in, messages
//! and what must be kept come out.
//!
//! ```text
//!   Raise, Clear ──► group ──► incident ──► rule: who, when ──► silenced? quiet? storm? ──► Output::Tell
//!                                  │  ▲                                                     Output::Save
//!                                  ▼  └── acknowledge                                       Output::Storm
//!                               timers: group wait, update, repeat, escalation, windows, turns on call
//! ```
//!
//! All outputs of one input belong into one transaction: an incident that remembers that it was told, and the message that tells it, are kept
//! together or not at all.
//!
//! - `incident`: the conversation. `policy`: what the file says. `tell`: what is to be told now. `storm`: the brake.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod incident;
mod policy;
mod storm;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_config::{Notification, NotifyName};

pub use incident::{Incident, Raise, Told};
pub use policy::{Position, position};
pub use storm::Storm;

use crate::link::LinkKey;
use crate::message::{Message, RecoveryAttempt, State, UnixMs};

/// Alarms that may be active at once. More are left out and counted.
pub const ALARMS_MAX: usize = 20_000;
/// Alarms of one incident; a group that has more becomes a second incident.
const ALARMS_PER_INCIDENT: usize = 500;
/// Bounds of what a source says about an alarm.
const LABELS_MAX: usize = 32;
const LABEL_CHARS_MAX: usize = 256;
const SUMMARY_CHARS_MAX: usize = 500;
const POINTS_MAX: usize = 500;

/// What the engine learns.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Something is wrong, or still is with other words.
    Raise(Raise),
    /// The alarm of this key is over.
    Clear(String),
    /// Something is wrong, and may be healed before anybody is told.
    RaiseHeld(Raise, Hold),
    /// Recovery of the alarm of this key tried something.
    Tried(String, RecoveryAttempt),
    /// Recovery of the alarm of this key has ended.
    Released {
        /// The alarm.
        key: String,
        /// The fault is gone: the alarm will be over in a moment. Else people are told now.
        healed: bool,
    },
    /// These are all active alarms whose keys begin with the prefix: others with it are over. Said by a source that started again.
    Active {
        /// How the keys of the source begin.
        prefix: String,
        /// All of its active alarms.
        keys: BTreeSet<String>,
    },
    /// These are all alarms with the prefix that there can be, active or not: what others were about is gone, and they are over.
    Sources {
        /// How the keys of the source begin.
        prefix: String,
        /// All alarms that it may raise.
        keys: BTreeSet<String>,
    },
}

/// How long an alarm may wait for its recovery, in milliseconds. It ends by itself: a recovery that nobody hears of silences nothing for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// From the moment that it is raised.
    pub first: u64,
    /// From each moment that it is raised again while it waits; zero: it is not made longer.
    pub again: u64,
}

/// What is to be done, in this order and all together.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A message for a channel.
    Tell(NotifyName, Box<Message>),
    /// An incident to keep. `done`: it needs no more attention, and is not to be given to the next engine.
    Save {
        /// The incident.
        incident: Box<Incident>,
        /// It is over and told.
        done: bool,
    },
    /// The brake of a channel to keep.
    Storm(String, Storm),
}

/// Why an incident cannot be acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AckRefusal {
    /// There is none of this number, or it is over.
    NotOpen,
    /// Somebody did already.
    Already(String),
}

/// What an engine begins with.
#[derive(Debug, Default)]
pub struct Saved {
    /// Incidents that were not done.
    pub incidents: Vec<Incident>,
    /// The brakes by channel.
    pub storms: BTreeMap<String, Storm>,
    /// The highest number ever given to an incident.
    pub last_id: u64,
}

/// Facts about the house that messages need.
#[derive(Clone, Debug)]
pub struct House {
    /// The node's name.
    pub node: String,
    /// Signs links.
    pub key: LinkKey,
}

/// All incidents that are not done.
#[derive(Debug)]
pub struct Engine {
    notification: Arc<Notification>,
    house: House,
    incidents: BTreeMap<u64, Incident>,
    /// Active alarms and their incidents.
    alarms: BTreeMap<String, u64>,
    /// Open incidents by group.
    groups: BTreeMap<String, u64>,
    /// Active alarms that may explain others.
    inhibitors: BTreeSet<String>,
    storms: BTreeMap<String, Storm>,
    timers: BTreeSet<(UnixMs, u64)>,
    due: BTreeMap<u64, UnixMs>,
    /// When mutes or turns on call change.
    changes_at: Option<UnixMs>,
    dirty: BTreeSet<u64>,
    last_id: u64,
    dropped: u64,
    outputs: Vec<Output>,
}

impl Engine {
    /// Goes on where another one was.
    pub fn new(notification: Arc<Notification>, house: House, saved: Saved, now: UnixMs) -> Engine {
        let Saved { incidents, storms, last_id } = saved;
        let mut engine = Engine {
            notification,
            house,
            incidents: incidents.into_iter().map(|incident| (incident.id, incident)).collect(),
            alarms: BTreeMap::new(),
            groups: BTreeMap::new(),
            inhibitors: BTreeSet::new(),
            storms,
            timers: BTreeSet::new(),
            due: BTreeMap::new(),
            changes_at: None,
            dirty: BTreeSet::new(),
            last_id,
            dropped: 0,
            outputs: Vec::new(),
        };
        for incident in engine.incidents.values() {
            engine.last_id = engine.last_id.max(incident.id);
            engine.alarms.extend(incident.active().map(|(key, _)| (key.clone(), incident.id)));
            if incident.state != State::Resolved {
                engine.groups.insert(incident.group.clone(), incident.id);
            }
        }
        engine.everything_may_differ(now);
        engine.settle(now);
        engine
    }

    /// Another file is in effect.
    pub fn apply(&mut self, notification: Arc<Notification>, now: UnixMs) {
        self.notification = notification;
        self.everything_may_differ(now);
        self.settle(now);
    }

    /// Learns something. The outputs are then to be taken.
    pub fn handle(&mut self, input: Input, now: UnixMs) {
        match input {
            Input::Raise(raise) => self.raise(bounded(raise), None, now),
            Input::RaiseHeld(raise, hold) => self.raise(bounded(raise), Some(hold), now),
            Input::Clear(key) => self.clear(&key, now),
            Input::Tried(key, attempt) => {
                // Also of one that is over and was not told yet: what healed it belongs to its end.
                if let Some(incident) = self.incident_with(&key) {
                    incident.tried(attempt);
                    let kept = Box::new(incident.clone());
                    self.outputs.push(Output::Save { incident: kept, done: false });
                }
            }
            Input::Released { key, healed } => {
                if let Some(incident) = self.incident_with(&key)
                    && incident.release(&key, healed, now)
                {
                    let kept = Box::new(incident.clone());
                    self.dirty.insert(kept.id);
                    self.outputs.push(Output::Save { incident: kept, done: false });
                }
            }
            Input::Active { prefix, keys } => {
                for key in self.others(&prefix, &keys) {
                    self.clear(&key, now);
                }
            }
            Input::Sources { prefix, keys } => {
                for key in self.others(&prefix, &keys) {
                    if let Some(incident) = self.incident_with(&key) {
                        incident.source_is_gone(&key);
                    }
                    self.clear(&key, now);
                }
            }
        }
        self.settle(now);
    }

    /// Somebody takes care: no more repeats and no more steps of the escalation.
    ///
    /// # Errors
    ///
    /// There is nothing to take care of, or somebody does already.
    pub fn acknowledge(&mut self, id: u64, by: &str, now: UnixMs) -> Result<(), AckRefusal> {
        let incident = self.incidents.get_mut(&id).filter(|incident| incident.state != State::Resolved).ok_or(AckRefusal::NotOpen)?;
        if let Some((first, _)) = &incident.acknowledged {
            return Err(AckRefusal::Already(first.clone()));
        }
        incident.acknowledged = Some((crate::text::outside(by), now));
        incident.state = State::Acknowledged;
        self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done: false });
        self.dirty.insert(id);
        self.settle(now);
        Ok(())
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: UnixMs) {
        if self.changes_at.is_some_and(|at| at <= now) {
            self.everything_may_differ(now);
        }
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            self.due.remove(&id);
            self.dirty.insert(id);
        }
        let over: Vec<String> =
            self.storms.iter().filter(|(_, storm)| storm.due().is_some_and(|at| at <= now)).map(|(name, _)| name.clone()).collect();
        over.iter().for_each(|channel| self.end_storm(channel, now));
        self.settle(now);
    }

    /// When [`Engine::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<UnixMs> {
        let storms = self.storms.values().filter_map(Storm::due);
        storms.chain(self.timers.first().map(|(at, _)| *at)).chain(self.changes_at).min()
    }

    /// What is to be done since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Incidents that are not done, by number.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// One of them.
    pub fn incident(&self, id: u64) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// The incident of an active alarm.
    pub fn incident_of(&self, key: &str) -> Option<&Incident> {
        self.alarms.get(key).and_then(|id| self.incidents.get(id))
    }

    /// A sample for a channel; `None`: there is no such channel.
    pub fn test_message(&self, channel: &str, now: UnixMs) -> Option<Message> {
        self.sample(&NotifyName::from(channel), now)
    }

    /// Alarms that were left out because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Active alarms with the prefix, without these.
    fn others(&self, prefix: &str, keys: &BTreeSet<String>) -> Vec<String> {
        let of_source = self.alarms.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        of_source.map(|(key, _)| key.clone()).filter(|key| !keys.contains(key)).collect()
    }

    /// The incident of an alarm that is active, or over since the last message.
    fn incident_with(&mut self, key: &str) -> Option<&mut Incident> {
        let is_open = |incident: &&mut Incident| incident.state != State::Resolved && incident.alarms.contains_key(key);
        match self.alarms.get(key) {
            Some(id) => self.incidents.get_mut(id),
            None => self.incidents.values_mut().rev().find(is_open),
        }
    }

    fn raise(&mut self, raise: Raise, hold: Option<Hold>, now: UnixMs) {
        if let Some(incident) = self.alarms.get(&raise.key).and_then(|id| self.incidents.get_mut(id)) {
            let known = &incident.alarms[&raise.key];
            if known.labels == raise.labels {
                if let Some(Hold { again, .. }) = hold
                    && incident.hold_longer(&raise.key, again, now)
                {
                    self.dirty.insert(incident.id);
                    self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done: false });
                }
                let known = &incident.alarms[&raise.key];
                let same = known.severity == raise.severity && known.summary == raise.summary && known.values == raise.values;
                if !same || raise.series.is_some() {
                    let id = incident.id;
                    incident.raise(raise, now);
                    self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done: false });
                    self.dirty.insert(id);
                }
                return;
            }
            // Other labels: another alarm under the same name.
            self.clear(&raise.key.clone(), now);
        }
        if self.alarms.len() >= ALARMS_MAX {
            self.dropped += 1;
            return;
        }
        let notification = self.notification.clone();
        let (group, labels) = policy::group(policy::rule(&notification, &raise.labels, raise.severity), &raise);
        let joined = self.groups.get(&group).and_then(|id| self.incidents.get(id));
        let id = match joined.filter(|incident| incident.alarms.len() < ALARMS_PER_INCIDENT) {
            Some(incident) => incident.id,
            None => {
                self.last_id += 1;
                self.incidents.insert(self.last_id, Incident::new(self.last_id, group.clone(), labels, now));
                self.groups.insert(group, self.last_id);
                self.last_id
            }
        };
        self.alarms.insert(raise.key.clone(), id);
        if policy::may_inhibit(&notification, &raise.labels) {
            self.inhibitors.insert(raise.key.clone());
            self.all_dirty();
        }
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.hold(&raise.key, hold.map(|hold| now.saturating_add(hold.first)));
            incident.raise(raise, now);
            self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done: false });
        }
        self.dirty.insert(id);
    }

    fn clear(&mut self, key: &str, now: UnixMs) {
        let Some(id) = self.alarms.remove(key) else { return };
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.clear(key, now);
            self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done: false });
        }
        self.dirty.insert(id);
        if self.inhibitors.remove(key) {
            self.all_dirty();
        }
    }

    fn all_dirty(&mut self) {
        self.dirty.extend(self.incidents.keys());
    }

    /// Windows or the file changed: who is told, and what is silenced, is asked anew.
    fn everything_may_differ(&mut self, now: UnixMs) {
        self.changes_at = policy::next_change(&self.notification, now);
        let labels = |incident: &Incident, key: &String| policy::may_inhibit(&self.notification, &incident.alarms[key].labels);
        let inhibits = |(key, id): &(&String, &u64)| self.incidents.get(id).is_some_and(|incident| labels(incident, key));
        self.inhibitors = self.alarms.iter().filter(inhibits).map(|(key, _)| key.clone()).collect();
        self.all_dirty();
    }

    /// Looks at every incident that something happened to.
    fn settle(&mut self, now: UnixMs) {
        while let Some(id) = self.dirty.pop_first() {
            self.look_at(id, now);
        }
    }

    fn set_timer(&mut self, id: u64, at: Option<UnixMs>) {
        if let Some(before) = self.due.remove(&id) {
            self.timers.remove(&(before, id));
        }
        if let Some(at) = at {
            self.due.insert(id, at);
            self.timers.insert((at, id));
        }
    }
}

/// A source cannot fill the memory or the messages.
fn bounded(mut raise: Raise) -> Raise {
    let cut = |text: &mut String, chars_max: usize| {
        if let Some((at, _)) = text.char_indices().nth(chars_max) {
            text.truncate(at);
        }
    };
    for map in [&mut raise.labels, &mut raise.values] {
        while map.len() > LABELS_MAX {
            map.pop_last();
        }
        map.values_mut().for_each(|value| cut(value, LABEL_CHARS_MAX));
    }
    cut(&mut raise.summary, SUMMARY_CHARS_MAX);
    if let Some(series) = &mut raise.series {
        let excess = series.points.len().saturating_sub(POINTS_MAX);
        series.points.drain(..excess);
    }
    raise
}

#[cfg(test)]
mod tests;
