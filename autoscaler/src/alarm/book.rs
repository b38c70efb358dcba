//! All alarms of a file: their states over time, who acknowledged them, and whether they are engaged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_config::{Alarm, AlarmName, AlarmScope, Condition, Expression, Suppressor, Threshold};

use super::{AlarmState, EXTRA_PERIODS, evaluate};
use crate::readings::{Query, Readings, Scope};
use crate::time::UnixMs;

/// Changes that are remembered of each alarm.
const HISTORY_MAX: usize = 20;

/// Data points that a change carries at most.
const POINTS_MAX: usize = 60;

/// Data points that are remembered at least, to show what led to an alarm: more than what it is decided by.
const TRAIL_MIN: usize = 60;

/// A change of a state, with what caused it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlarmChange {
    /// When.
    pub at: UnixMs,
    /// Before.
    pub from: AlarmState,
    /// After.
    pub to: AlarmState,
    /// Why, in words.
    pub reason: String,
    /// The data points that were looked at, oldest first: end of the period and value; none for a composite.
    pub points: Vec<(UnixMs, Option<f64>)>,
}

/// Somebody has seen it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// When.
    pub at: UnixMs,
    /// Who, as they said.
    pub by: String,
    /// What they said.
    pub comment: String,
}

/// What an evaluation brought.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A state changed. It is told in any case; `quiet`: muted or suppressed, so nobody is called.
    Changed {
        /// The alarm.
        alarm: Arc<Alarm>,
        /// What happened.
        change: AlarmChange,
        /// Whether nobody is called.
        quiet: bool,
    },
    /// From now on something is done about it.
    Engaged(Arc<Alarm>),
    /// From now on nothing is done about it any more.
    Released(Arc<Alarm>),
}

/// An alarm as it is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AlarmView {
    /// Its state.
    pub state: AlarmState,
    /// Since when.
    pub since: UnixMs,
    /// Whether something is done about it.
    pub engaged: bool,
    /// Why nothing is done about it though it is in alarm.
    pub quiet_because: Option<String>,
    /// The last data points, oldest first.
    pub points: Vec<(UnixMs, Option<f64>)>,
    /// Who has seen it.
    pub acknowledged: Option<Acknowledgement>,
    /// Its last changes, oldest first.
    pub history: Vec<AlarmChange>,
}

impl AlarmView {
    /// The newest value that is known.
    pub fn value(&self) -> Option<f64> {
        self.points.iter().rev().find_map(|(_, value)| *value)
    }
}

/// What is kept of an alarm over a restart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SavedAlarm {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AlarmState,
    /// Since when.
    pub since: UnixMs,
    /// Whether it was engaged.
    pub engaged: bool,
    /// Who has seen it.
    pub acknowledged: Option<Acknowledgement>,
    /// Its last changes.
    pub history: Vec<AlarmChange>,
}

#[derive(Clone, Debug)]
struct Entry {
    alarm: Arc<Alarm>,
    state: AlarmState,
    since: UnixMs,
    engaged: bool,
    quiet_because: Option<String>,
    points: Vec<(UnixMs, Option<f64>)>,
    /// Those of earlier, too.
    trail: VecDeque<(UnixMs, Option<f64>)>,
    /// End of the last period that was looked at.
    looked: UnixMs,
    /// The suppressor was last in alarm.
    suppressed_at: Option<UnixMs>,
    acknowledged: Option<Acknowledgement>,
    history: VecDeque<AlarmChange>,
}

/// All alarms of a file.
#[derive(Clone, Debug, Default)]
pub struct AlarmBook {
    entries: BTreeMap<AlarmName, Entry>,
    /// Composites after what they hang on.
    order: Vec<AlarmName>,
}

impl AlarmBook {
    /// Makes the file's alarms be. One whose table did not change keeps its state; one that watches something else begins anew.
    pub fn apply(&mut self, alarms: &BTreeMap<AlarmName, Arc<Alarm>>, now: UnixMs) {
        self.entries.retain(|name, _| alarms.contains_key(name));
        for (name, alarm) in alarms {
            match self.entries.get_mut(name) {
                Some(entry) if entry.alarm.condition == alarm.condition => entry.alarm = alarm.clone(),
                Some(entry) => *entry = Entry { history: std::mem::take(&mut entry.history), ..Entry::new(alarm.clone(), now) },
                None => _ = self.entries.insert(name.clone(), Entry::new(alarm.clone(), now)),
            }
        }
        self.order = order(alarms);
    }

    /// Takes over what was saved of alarms that there still are.
    pub fn restore(&mut self, saved: Vec<SavedAlarm>) {
        for saved in saved {
            if let Some(entry) = self.entries.get_mut(&AlarmName::from(saved.name.as_str())) {
                (entry.state, entry.since, entry.engaged) = (saved.state, saved.since, saved.engaged);
                entry.acknowledged = saved.acknowledged;
                entry.history = saved.history.into_iter().rev().take(HISTORY_MAX).rev().collect();
            }
        }
    }

    /// What is to be kept over a restart.
    pub fn saved(&self) -> Vec<SavedAlarm> {
        let saved = |(name, entry): (&AlarmName, &Entry)| SavedAlarm {
            name: name.to_string(),
            state: entry.state,
            since: entry.since,
            engaged: entry.engaged,
            acknowledged: entry.acknowledged.clone(),
            history: entry.history.iter().cloned().collect(),
        };
        self.entries.iter().map(saved).collect()
    }

    /// Looks at everything whose period is over, and says what has changed.
    pub fn evaluate(&mut self, readings: &dyn Readings, now: UnixMs) -> Vec<Output> {
        let mut outputs = Vec::new();
        for name in std::mem::take(&mut self.order) {
            let verdict = self.verdict(&name, readings, now);
            if let Some((state, reason)) = verdict
                && let Some(entry) = self.entries.get_mut(&name)
                && state != entry.state
            {
                entry.change(state, reason, now, &mut outputs);
            }
            self.engage(&name, now, &mut outputs);
            self.order.push(name);
        }
        outputs
    }

    /// The state that it should have, where that can be said now.
    fn verdict(&mut self, name: &AlarmName, readings: &dyn Readings, now: UnixMs) -> Option<(AlarmState, String)> {
        let alarm = self.entries.get(name)?.alarm.clone();
        match &alarm.condition {
            Condition::Composite(expression) => Some(self.composite(expression)),
            Condition::Threshold(threshold) => {
                let entry = self.entries.get_mut(name)?;
                let end = now.floor(threshold.period);
                if entry.looked == end {
                    return None;
                }
                entry.look(threshold, readings, now);
                let values: Vec<_> = entry.points.iter().map(|(_, value)| *value).collect();
                let state = evaluate(threshold, entry.state, &values);
                Some((state, explain(threshold, state, &values)))
            }
        }
    }

    fn composite(&self, expression: &Expression) -> (AlarmState, String) {
        let state = |name: &AlarmName| self.entries.get(name).map_or(AlarmState::InsufficientData, |entry| entry.state);
        let verdict = if holds(expression, &state) { AlarmState::Alarm } else { AlarmState::Ok };
        let mut names: Vec<&AlarmName> = expression.alarms();
        names.sort();
        names.dedup();
        let states: Vec<String> = names.into_iter().take(10).map(|name| format!("{name} is {}", state(name).word())).collect();
        (verdict, format!("{expression}: {}", states.join(", ")))
    }

    /// Whether something is done about it now.
    fn engage(&mut self, name: &AlarmName, now: UnixMs, outputs: &mut Vec<Output>) {
        let Some(entry) = self.entries.get(name) else { return };
        let suppressor = entry.alarm.suppressor.clone();
        let suppressor_state = suppressor.as_ref().and_then(|suppressor| self.entries.get(&suppressor.alarm)).map(|entry| entry.state);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if suppressor_state == Some(AlarmState::Alarm) {
            entry.suppressed_at = Some(now);
        }
        entry.quiet_because = entry.quiet(suppressor.as_ref(), suppressor_state, now);
        let engaged = entry.state == AlarmState::Alarm && entry.quiet_because.is_none();
        if engaged != entry.engaged {
            entry.engaged = engaged;
            let alarm = entry.alarm.clone();
            outputs.push(if engaged { Output::Engaged(alarm) } else { Output::Released(alarm) });
        }
    }

    /// Somebody has seen it. False: there is no such alarm, or it is not in alarm.
    pub fn acknowledge(&mut self, name: &AlarmName, acknowledgement: Acknowledgement) -> bool {
        match self.entries.get_mut(name) {
            Some(entry) if entry.state == AlarmState::Alarm => {
                entry.acknowledged = Some(acknowledgement);
                true
            }
            _ => false,
        }
    }

    /// One of them.
    pub fn view(&self, name: &AlarmName) -> Option<AlarmView> {
        self.entries.get(name).map(Entry::view)
    }

    /// All of them, with their tables.
    pub fn views(&self) -> impl Iterator<Item = (&Arc<Alarm>, AlarmView)> {
        self.entries.values().map(|entry| (&entry.alarm, entry.view()))
    }

    /// What one has seen of its metric, oldest first: at least sixty periods, as far as they were looked at.
    pub fn trail(&self, name: &AlarmName) -> Vec<(UnixMs, Option<f64>)> {
        self.entries.get(name).map(|entry| entry.trail.iter().copied().collect()).unwrap_or_default()
    }

    /// State and newest value of one, without its history.
    pub fn signal(&self, name: &AlarmName) -> Option<(AlarmState, bool, Option<f64>)> {
        let entry = self.entries.get(name)?;
        Some((entry.state, entry.engaged, entry.points.iter().rev().find_map(|(_, value)| *value)))
    }
}

impl Entry {
    fn new(alarm: Arc<Alarm>, now: UnixMs) -> Entry {
        Entry {
            alarm,
            state: AlarmState::InsufficientData,
            since: now,
            engaged: false,
            quiet_because: None,
            points: Vec::new(),
            trail: VecDeque::new(),
            looked: UnixMs(0),
            suppressed_at: None,
            acknowledged: None,
            history: VecDeque::new(),
        }
    }

    fn look(&mut self, threshold: &Threshold, readings: &dyn Readings, now: UnixMs) {
        let scope = match &threshold.scope {
            AlarmScope::Pool(pool) => Scope::Pool(pool.clone()),
            AlarmScope::Host(host) => Scope::Host(host.clone()),
            AlarmScope::Machine(machine) => Scope::Machine(machine.clone()),
        };
        let periods = threshold.periods.saturating_add(EXTRA_PERIODS);
        let query = Query { metric: &threshold.metric, scope: &scope, statistic: threshold.statistic, period: threshold.period, periods };
        let (begin, end) = query.span(now);
        let values = readings.points(&query, now);
        self.looked = end;
        let at = |number: usize| begin.plus(threshold.period.saturating_mul(u32::try_from(number + 1).unwrap_or(u32::MAX)));
        self.points = values.into_iter().enumerate().map(|(number, value)| (at(number), value.filter(|value| value.is_finite()))).collect();
        self.remember();
    }

    /// The newest data points join those of earlier, each once.
    fn remember(&mut self) {
        let Some((newest, _)) = self.points.last() else { return };
        // A clock that was set back must not leave anything in the future.
        while self.trail.back().is_some_and(|(at, _)| at > newest) {
            self.trail.pop_back();
        }
        let known = self.trail.back().map(|(at, _)| *at);
        self.trail.extend(self.points.iter().filter(|(at, _)| known.is_none_or(|known| *at > known)));
        let most = self.points.len().max(TRAIL_MIN);
        self.trail.drain(..self.trail.len().saturating_sub(most));
    }

    fn change(&mut self, to: AlarmState, reason: String, now: UnixMs, outputs: &mut Vec<Output>) {
        let skip = self.points.len().saturating_sub(POINTS_MAX);
        let change = AlarmChange { at: now, from: self.state, to, reason, points: self.points[skip..].to_vec() };
        (self.state, self.since) = (to, now);
        if to != AlarmState::Alarm {
            self.acknowledged = None;
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(change.clone());
        let quiet = self.muted(now).is_some() || self.quiet_because.is_some();
        outputs.push(Output::Changed { alarm: self.alarm.clone(), change, quiet });
    }

    fn muted(&self, now: UnixMs) -> Option<String> {
        self.alarm.mutes.iter().find_map(|mute| {
            let begun = UnixMs(mute.begins.previous(now.0)?);
            (now.since(begun) < mute.duration).then(|| format!("it is muted until {}", begun.plus(mute.duration)))
        })
    }

    /// Why nothing is done about it.
    fn quiet(&self, suppressor: Option<&Suppressor>, state: Option<AlarmState>, now: UnixMs) -> Option<String> {
        if self.state != AlarmState::Alarm {
            return None;
        }
        if let Some(muted) = self.muted(now) {
            return Some(muted);
        }
        let Suppressor { alarm, wait, extension } = suppressor?;
        if state == Some(AlarmState::Alarm) {
            return Some(format!("{alarm} suppresses it"));
        }
        if self.suppressed_at.is_some_and(|at| now.since(at) < *extension) {
            return Some(format!("{alarm} suppressed it a moment ago"));
        }
        // It has waited when it was engaged before.
        (!self.engaged && now.since(self.since) < *wait).then(|| format!("it waits for {alarm}"))
    }

    fn view(&self) -> AlarmView {
        AlarmView {
            state: self.state,
            since: self.since,
            engaged: self.engaged,
            quiet_because: self.quiet_because.clone(),
            points: self.points.clone(),
            acknowledged: self.acknowledged.clone(),
            history: self.history.iter().cloned().collect(),
        }
    }
}

fn holds(expression: &Expression, state: &impl Fn(&AlarmName) -> AlarmState) -> bool {
    match expression {
        Expression::Alarm(name) => state(name) == AlarmState::Alarm,
        Expression::Not(inner) => !holds(inner, state),
        Expression::And(all) => all.iter().all(|one| holds(one, state)),
        Expression::Or(all) => all.iter().any(|one| holds(one, state)),
    }
}

fn explain(threshold: &Threshold, state: AlarmState, values: &[Option<f64>]) -> String {
    let Threshold { metric, comparison, limit, clear, periods, datapoints, .. } = threshold;
    let shown: Vec<String> =
        values.iter().rev().take(*periods as usize).rev().map(|value| value.map_or("-".into(), |v| format!("{v:.1}"))).collect();
    let shown = if shown.len() > 10 { format!("... {}", shown[shown.len() - 10..].join(" ")) } else { shown.join(" ") };
    let (word, unit) = (comparison.word(), metric.unit());
    match state {
        AlarmState::Alarm => format!("{metric} {word} {limit}{unit} in {datapoints} of {periods} periods: {shown}"),
        AlarmState::Ok => format!("{metric} is not {word} {clear}{unit} in {datapoints} of {periods} periods: {shown}"),
        AlarmState::InsufficientData => format!("{metric} has no data points"),
    }
}

/// Each after those that it hangs on. The file has no circles; one is cut where it is met.
fn order(alarms: &BTreeMap<AlarmName, Arc<Alarm>>) -> Vec<AlarmName> {
    fn visit(name: &AlarmName, alarms: &BTreeMap<AlarmName, Arc<Alarm>>, seen: &mut BTreeSet<AlarmName>, order: &mut Vec<AlarmName>) {
        let Some(alarm) = alarms.get(name) else { return };
        if !seen.insert(name.clone()) {
            return;
        }
        if let Condition::Composite(expression) = &alarm.condition {
            expression.alarms().into_iter().for_each(|name| visit(name, alarms, seen, order));
        }
        if let Some(suppressor) = &alarm.suppressor {
            visit(&suppressor.alarm, alarms, seen, order);
        }
        order.push(name.clone());
    }
    let (mut seen, mut sorted) = (BTreeSet::new(), Vec::new());
    alarms.keys().for_each(|name| visit(name, alarms, &mut seen, &mut sorted));
    sorted
}
