//! An incident: one conversation about alarms that belong together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_config::Severity;

use crate::message::{self, RecoveryAttempt, Series, State, UnixMs, severity};

/// Ended alarms that an incident remembers.
const ENDED_KEPT: usize = 50;
/// How long before an incident an attempt at its recovery may have begun, in milliseconds: both look at the same thing, one after the other.
const EARLIER_MS: u64 = 60_000;
/// How long what was healed may take to be over everywhere, in milliseconds; then it is told that it is not.
const HEALED_MS: u64 = 60_000;
/// Attempts at recovery that are told.
const RECOVERY_KEPT: usize = 20;

/// What is wrong, as its source says it.
#[derive(Clone, PartialEq, Debug)]
pub struct Raise {
    /// Names the alarm: the same key is the same alarm.
    pub key: String,
    /// What it is about; `alarm` names the kind of alarm.
    pub labels: BTreeMap<String, String>,
    /// How bad it is.
    pub severity: Severity,
    /// In words, in English.
    pub summary: String,
    /// What the summary is made of.
    pub values: BTreeMap<String, String>,
    /// The metric around it, if it is about one.
    pub series: Option<Series>,
}

/// One conversation. It is kept as it is here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// Its number, from 1.
    pub id: u64,
    /// How it stands.
    pub state: State,
    /// The worst that its alarms were since it began.
    #[serde(with = "severity")]
    pub severity: Severity,
    /// The labels that its alarms are grouped by, or those of its only alarm.
    pub labels: BTreeMap<String, String>,
    /// Its alarms by key, those that are over included.
    pub alarms: BTreeMap<String, message::Alarm>,
    /// When it began.
    pub started_at: UnixMs,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(String, UnixMs)>,
    /// When it was resolved.
    pub resolved_at: Option<UnixMs>,
    /// What was tried.
    pub recovery: Vec<RecoveryAttempt>,
    /// The metric of the alarm that was raised last.
    pub series: Option<Series>,
    /// What channels were told.
    pub told: BTreeMap<String, Told>,
    /// Alarms that wait for what comes of their recovery.
    #[serde(default)]
    pub(crate) held: BTreeMap<String, Held>,
    /// Since when all its alarms are over.
    pub(crate) ended_since: Option<UnixMs>,
    /// What makes its alarms belong together.
    pub(crate) group: String,
    /// How far its escalation is.
    pub(crate) chain: Option<Chain>,
}

/// What a channel was told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Messages so far.
    pub sequence: u32,
    /// When the last one was made.
    pub at: UnixMs,
    /// The state that the last one told.
    pub state: Option<State>,
    /// A digest of the active alarms that the last one told.
    pub(crate) seen: u64,
    /// The worst that was told.
    pub(crate) severity: u8,
}

/// How far an escalation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// When it began, moved by the time it stood still.
    pub(crate) started_at: UnixMs,
    /// Since when it stands still: all alarms are silenced.
    pub(crate) stopped_at: Option<UnixMs>,
    /// Steps taken, over all rounds.
    pub(crate) taken: u32,
}

/// An alarm that waits for what comes of its recovery.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Not told before this moment.
    pub(crate) until: UnixMs,
    /// Its recovery has healed it: its end waits for nothing more.
    pub(crate) healed: bool,
}

impl Incident {
    /// A new one of one alarm.
    pub(crate) fn new(id: u64, group: String, labels: BTreeMap<String, String>, now: UnixMs) -> Incident {
        Incident {
            id,
            state: State::Open,
            severity: Severity::Info,
            labels,
            alarms: BTreeMap::new(),
            started_at: now,
            acknowledged: None,
            resolved_at: None,
            recovery: Vec::new(),
            series: None,
            told: BTreeMap::new(),
            held: BTreeMap::new(),
            ended_since: None,
            group,
            chain: None,
        }
    }

    /// Its alarms that are not over.
    pub fn active(&self) -> impl Iterator<Item = (&String, &message::Alarm)> {
        self.alarms.iter().filter(|(_, alarm)| alarm.ended_at.is_none())
    }

    /// An alarm joins it or says something new.
    pub(crate) fn raise(&mut self, raise: Raise, now: UnixMs) {
        let Raise { key, labels, severity, summary, values, series } = raise;
        self.severity = self.severity.max(severity);
        self.ended_since = None;
        if series.is_some() {
            self.series = series;
        }
        let started_at = self.alarms.get(&key).filter(|alarm| alarm.ended_at.is_none()).map_or(now, |alarm| alarm.started_at);
        self.alarms.insert(key, message::Alarm { labels, severity, summary, values, started_at, ended_at: None, gone: false });
    }

    /// An alarm is over.
    pub(crate) fn clear(&mut self, key: &str, now: UnixMs) {
        if let Some(alarm) = self.alarms.get_mut(key) {
            alarm.ended_at.get_or_insert(now);
        }
        if self.active().next().is_none() {
            self.ended_since.get_or_insert(now);
        }
        let mut ended: Vec<(UnixMs, String)> =
            self.alarms.iter().filter_map(|(key, alarm)| alarm.ended_at.map(|at| (at, key.clone()))).collect();
        if ended.len() > ENDED_KEPT {
            ended.sort();
            for (_, key) in &ended[..ended.len() - ENDED_KEPT] {
                self.alarms.remove(key);
            }
        }
    }

    /// An alarm is about to end because what it is about is gone. A recovery that it waits for may be what took it away, and will say so.
    pub(crate) fn source_is_gone(&mut self, key: &str) {
        if let Some(alarm) = self.alarms.get_mut(key) {
            alarm.gone = true;
        }
    }

    /// An alarm begins to wait, or does not.
    pub(crate) fn hold(&mut self, key: &str, until: Option<UnixMs>) {
        match until {
            Some(until) => drop(self.held.insert(key.to_owned(), Held { until, healed: false })),
            None => drop(self.held.remove(key)),
        }
    }

    /// One that waits does so for at least so long from now. Whether that is longer by an amount that matters.
    pub(crate) fn hold_longer(&mut self, key: &str, ms: u64, now: UnixMs) -> bool {
        let until = now.saturating_add(ms);
        match self.held.get_mut(key) {
            Some(held) if !held.healed && held.until > now && held.until.saturating_add(ms / 2) < until => {
                held.until = until;
                true
            }
            _ => false,
        }
    }

    /// Recovery has ended. Whether the alarm has waited for it.
    pub(crate) fn release(&mut self, key: &str, healed: bool, now: UnixMs) -> bool {
        let is_over = self.alarms.get(key).is_none_or(|alarm| alarm.ended_at.is_some());
        let Some(held) = self.held.get_mut(key) else { return false };
        if healed && !is_over {
            *held = Held { until: now.saturating_add(HEALED_MS), healed: true };
        } else {
            self.held.remove(key);
        }
        true
    }

    /// Until when this alarm is not told.
    pub(crate) fn held_until(&self, key: &str, now: UnixMs) -> Option<UnixMs> {
        self.held.get(key).map(|held| held.until).filter(|until| *until > now)
    }

    /// Until when its end is not told: a recovery is under way that may say why it ended.
    pub(crate) fn end_held_until(&self, now: UnixMs) -> Option<UnixMs> {
        self.held.values().filter(|held| !held.healed && held.until > now).map(|held| held.until).max()
    }

    /// Something was tried. What is told again after a restart is known, and what was tried before this one began belongs to another.
    pub(crate) fn tried(&mut self, attempt: RecoveryAttempt) {
        let is_known = self.recovery.iter().any(|known| known.at == attempt.at && known.what == attempt.what);
        if is_known || attempt.at.saturating_add(EARLIER_MS) < self.started_at {
            return;
        }
        if self.recovery.len() == RECOVERY_KEPT {
            self.recovery.remove(0);
        }
        self.recovery.push(attempt);
    }
}
