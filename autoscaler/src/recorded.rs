//! What was measured earlier, as points over spans of time: for alarms and policies that are tried on it.
//!
//! A point is coarser than the samples that it was made of. Averages, sums, least and most are those of the samples; a percentile is one of
//! the means. A period that is shorter than a point takes the point that covers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_config::{Alarm, AlarmName, Condition, Metric, Statistic};

use crate::alarm::{AlarmBook, AlarmChange, AlarmState, Output};
use crate::readings::{Query, Readings, Scope};
use crate::time::UnixMs;

/// Between two looks where periods are short.
const TICK: Duration = Duration::from_secs(10);

/// Changes that a trial tells; the rest is counted.
const CHANGES_MAX: usize = 1000;

/// Looks of one trial.
const LOOKS_MAX: u64 = 100_000;

/// All samples of a span.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Span {
    /// Its begin.
    pub at: UnixMs,
    /// How many samples.
    pub count: u32,
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// The points of several series.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    series: BTreeMap<(Metric, Scope), Vec<Span>>,
    /// The length of a point.
    length: Duration,
}

impl Recorded {
    /// Nothing yet; `length`: of the points to come.
    pub fn new(length: Duration) -> Recorded {
        Recorded { series: BTreeMap::new(), length }
    }

    /// The points of one series, in the order of time.
    pub fn put(&mut self, metric: Metric, scope: Scope, spans: Vec<Span>) {
        self.series.insert((metric, scope), spans);
    }
}

impl Readings for Recorded {
    fn points(&self, query: &Query<'_>, now: UnixMs) -> Vec<Option<f64>> {
        let empty = Vec::new();
        let spans = self.series.get(&(query.metric.clone(), query.scope.clone())).unwrap_or(&empty);
        let (begin, _) = query.span(now);
        let point = |number| {
            let from = begin.plus(query.period.saturating_mul(number));
            let to = from.plus(query.period);
            if query.period < self.length {
                let covering =
                    spans[..spans.partition_point(|span| span.at <= from)].last().filter(|span| from.since(span.at) < self.length);
                return covering.and_then(|span| of(query.statistic, std::slice::from_ref(span)));
            }
            let first = spans.partition_point(|span| span.at < from);
            let last = spans.partition_point(|span| span.at < to);
            of(query.statistic, spans.get(first..last)?)
        };
        (0..query.periods).map(point).collect()
    }
}

fn of(statistic: Statistic, spans: &[Span]) -> Option<f64> {
    let count: f64 = spans.iter().map(|span| f64::from(span.count)).sum();
    if count <= 0.0 {
        return None;
    }
    let sum = || spans.iter().map(|span| span.mean * f64::from(span.count)).sum::<f64>();
    let mut values: Vec<f64> = match statistic {
        Statistic::Average => vec![sum() / count],
        Statistic::Sum => vec![sum()],
        Statistic::Minimum => spans.iter().map(|span| span.min).collect(),
        Statistic::Maximum => spans.iter().map(|span| span.max).collect(),
        Statistic::Percentile(_) => spans.iter().map(|span| span.mean).collect(),
    };
    statistic.of(&mut values)
}

/// What an alarm would have done.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trial {
    /// Its changes, oldest first, at most 1000.
    pub changes: Vec<AlarmChange>,
    /// How often it would have gone off.
    pub alarms: u32,
    /// How often something would have been done about it: neither muted nor suppressed.
    pub engagements: u32,
    /// How long it would have been in alarm.
    pub in_alarm: Duration,
    /// How long it would have had no data.
    pub without_data: Duration,
    /// Its last state; `None`: there is no such alarm.
    pub state: Option<AlarmState>,
}

/// The alarms that an alarm hangs on, itself included.
pub fn closure(name: &AlarmName, alarms: &BTreeMap<AlarmName, Arc<Alarm>>) -> BTreeMap<AlarmName, Arc<Alarm>> {
    let mut found = BTreeMap::new();
    let mut open: BTreeSet<AlarmName> = BTreeSet::from([name.clone()]);
    while let Some(name) = open.pop_first() {
        let Some(alarm) = alarms.get(&name) else { continue };
        if found.insert(name, alarm.clone()).is_some() {
            continue;
        }
        if let Condition::Composite(expression) = &alarm.condition {
            open.extend(expression.alarms().into_iter().cloned());
        }
        open.extend(alarm.suppressor.iter().map(|suppressor| suppressor.alarm.clone()));
        open.retain(|name| !found.contains_key(name));
    }
    found
}

/// Runs an alarm, with those that it hangs on, over what was measured.
pub fn try_alarm(name: &AlarmName, alarms: &BTreeMap<AlarmName, Arc<Alarm>>, recorded: &Recorded, from: UnixMs, to: UnixMs) -> Trial {
    let alarms = closure(name, alarms);
    let periods = alarms.values().filter_map(|alarm| match &alarm.condition {
        Condition::Threshold(threshold) => Some(threshold.period),
        Condition::Composite(_) => None,
    });
    let shortest = periods.min().unwrap_or(TICK).max(TICK);
    let tick = shortest.max(to.since(from) / u32::try_from(LOOKS_MAX).unwrap_or(u32::MAX));
    let mut book = AlarmBook::default();
    book.apply(&alarms, from);
    let mut trial = Trial::default();
    let mut now = from;
    while now <= to {
        for output in book.evaluate(recorded, now) {
            match output {
                Output::Changed { alarm, change, .. } if alarm.name == *name => {
                    trial.alarms += u32::from(change.to == AlarmState::Alarm);
                    if trial.changes.len() < CHANGES_MAX {
                        trial.changes.push(change);
                    }
                }
                Output::Engaged(alarm) if alarm.name == *name => trial.engagements += 1,
                _ => {}
            }
        }
        trial.state = book.signal(name).map(|(state, ..)| state);
        match trial.state {
            Some(AlarmState::Alarm) => trial.in_alarm += tick,
            Some(AlarmState::InsufficientData) => trial.without_data += tick,
            Some(AlarmState::Ok) | None => {}
        }
        now = now.plus(tick);
    }
    trial
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = UnixMs(1_700_006_400_000);

    fn alarms(text: &str) -> BTreeMap<AlarmName, Arc<Alarm>> {
        let text = format!("[pool.web]\nendpoints = []\n{text}");
        weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).alarms
    }

    fn second(number: u64) -> UnixMs {
        START.plus(Duration::from_secs(number))
    }

    /// Points of ten seconds, each of ten samples around the value.
    fn recorded(value: impl Fn(u64) -> Option<f64>, until: u64) -> Recorded {
        let mut recorded = Recorded::new(TICK);
        let span = |at: u64| {
            let mean = value(at)?;
            Some(Span { at: second(at), count: 10, mean, min: mean - 1.0, max: mean + 1.0 })
        };
        let spans = (0..until / 10).filter_map(|n| span(n * 10)).collect();
        recorded.put(Metric::Requests, Scope::Pool("web".into()), spans);
        recorded
    }

    #[test]
    fn points_answer_as_samples_would() {
        let recorded = recorded(|at| Some(at as f64), 120);
        let scope = Scope::Pool("web".into());
        let ask = |statistic, seconds, periods| {
            let query = Query { metric: &Metric::Requests, scope: &scope, statistic, period: Duration::from_secs(seconds), periods };
            recorded.points(&query, second(60))
        };
        assert_eq!(ask(Statistic::Average, 30, 2), [Some(10.0), Some(40.0)]);
        assert_eq!(ask(Statistic::Maximum, 30, 1), [Some(51.0)]);
        assert_eq!(ask(Statistic::Minimum, 30, 1), [Some(29.0)]);
        assert_eq!(ask(Statistic::Sum, 10, 1), [Some(500.0)]);
        assert_eq!(ask(Statistic::Percentile(50), 60, 1), [Some(20.0)]);
        assert_eq!(ask(Statistic::Average, 2, 3), [Some(50.0); 3], "each is covered by a longer point");
        assert_eq!(ask(Statistic::Average, 60, 2), [None, Some(25.0)]);
    }

    #[test]
    fn an_alarm_is_tried() {
        let alarms = alarms("[alarm.busy]\npool = \"web\"\nmetric = \"requests\"\nabove = 100\nfor = \"60s\"\n");
        let recorded = recorded(|at| (at < 7200).then_some(if (3600..5400).contains(&at) { 150.0 } else { 50.0 }), 10_800);
        let trial = try_alarm(&"busy".into(), &alarms, &recorded, second(600), second(10_800));
        assert_eq!((trial.alarms, trial.engagements), (1, 1), "{trial:?}");
        let states: Vec<&str> = trial.changes.iter().map(|change| change.to.word()).collect();
        assert_eq!(states, ["ok", "alarm", "ok", "insufficient-data"], "{trial:?}");
        let began = trial.changes[1].at.since(second(3600)).as_secs();
        assert!((60..=120).contains(&began), "{began}");
        assert!((1500..=1900).contains(&trial.in_alarm.as_secs()), "{trial:?}");
        assert!(trial.without_data.as_secs() > 3000, "{trial:?}");
        assert_eq!(trial, try_alarm(&"busy".into(), &alarms, &recorded, second(600), second(10_800)), "the same in, the same out");
    }

    #[test]
    fn a_composite_is_tried_with_what_it_hangs_on() {
        let alarms = alarms(
            "[alarm.busy]\npool = \"web\"\nmetric = \"requests\"\nabove = 100\nfor = \"60s\"\n\
             [alarm.idle]\npool = \"web\"\nmetric = \"requests\"\nbelow = 1\nfor = \"60s\"\n\
             [alarm.other]\npool = \"web\"\nmetric = \"requests\"\nbelow = 1\nfor = \"60s\"\n\
             [alarm.odd]\nwhen = \"busy or idle\"\n",
        );
        assert_eq!(closure(&"odd".into(), &alarms).len(), 3);
        let recorded = recorded(|at| Some(if at < 3600 { 150.0 } else { 50.0 }), 7200);
        let trial = try_alarm(&"odd".into(), &alarms, &recorded, second(600), second(7200));
        assert_eq!(trial.alarms, 1, "{trial:?}");
        assert_eq!(try_alarm(&"none".into(), &alarms, &recorded, second(600), second(7200)).alarms, 0);
    }
}
