//! What is measured of pools, hosts and machines: one place that samples, each second, for alarms, policies, graphs and what is kept.
//!
//! ```text
//!   data plane, hosts, machines, numbers from elsewhere ──► samples of a second ──► alarms and policies, as far back as they look
//!                                                                └──► points of ten seconds ──► the history
//! ```
//!
//! - `pool`, `machine`: what is measured of whom. `track`: the samples of one series.
//! - Machine metrics of a pool are over those of its machines that serve: neither over those that warm up nor over those that drain.

mod machine;
mod pool;
mod track;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_autoscaler::alarm::EXTRA_PERIODS;
use weir_autoscaler::scaling::predict::{SEASONS_MAX, forecast};
use weir_autoscaler::{Query, Readings, Scope, UnixMs};
use weir_config::{AlarmScope, Condition, Config, Metric, MetricName, PoolName, Predict, Statistic};
use weir_history::point::{Page, Point, Series};
use weir_history::roll::{Minutes, Roll};
use weir_hypervisor::{HostView, MachineView};
use weir_lb::status::Status;

use pool::Counters;
use track::Track;

/// There is one sample of each second: periods begin with full seconds, and one without a sample would be missing data.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Looks that come closer than this bring no new sample: of so short a time no rate can be told.
const SAMPLE_MIN: Duration = Duration::from_millis(300);

/// What a forecast goes by: a mean of so long.
pub(crate) const ROLLED: Duration = Duration::from_secs(300);

/// Means for a forecast: a year of them.
const ROLLED_MAX: usize = 110_000;

/// The series of how many machines of a pool serve; it is no metric that alarms know.
pub(crate) const MACHINES: &str = "machines";

/// What is measured. Behind a lock that is held for moments.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Measured>);

impl Meter {
    /// To look at it, or to add to it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The samples.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// How far back alarms and policies look.
    wanted: BTreeMap<Scope, BTreeMap<Metric, Duration>>,
    /// How far back some pool's alarms and policies look at its machines.
    machines_wanted: BTreeMap<Metric, Duration>,
    tracks: BTreeMap<Scope, BTreeMap<Metric, Track>>,
    /// Machines that serve, by pool, and how many they were.
    serving: BTreeMap<PoolName, BTreeSet<String>>,
    serving_counts: BTreeMap<PoolName, Roll>,
    counters: BTreeMap<PoolName, Counters>,
    sampled: UnixMs,
    minutes: Minutes,
    /// Means for forecasts, by pool.
    rolled: BTreeMap<PoolName, VecDeque<(UnixMs, f64)>>,
}

/// Everything that is seen at one moment.
pub(crate) struct Sight<'a> {
    pub(crate) status: &'a Status,
    pub(crate) hosts: &'a [HostView],
    pub(crate) machines: &'a [MachineView],
}

impl Measured {
    /// Forgets what is no longer asked for.
    pub(crate) fn apply(&mut self, config: &Config) {
        let mut wanted: BTreeMap<Scope, BTreeMap<Metric, Duration>> = BTreeMap::new();
        let mut want = |metric: &Metric, scope: Scope, back: Duration| {
            let known = wanted.entry(scope).or_default().entry(metric.clone()).or_default();
            *known = (*known).max(back);
        };
        for alarm in config.alarms.values() {
            let Condition::Threshold(threshold) = &alarm.condition else { continue };
            let back = threshold.period.saturating_mul(threshold.periods.saturating_add(EXTRA_PERIODS + 1));
            want(&threshold.metric, scope_of(&threshold.scope), back);
        }
        for (name, pool) in &config.pools {
            let Some(scaling) = &pool.scaling else { continue };
            for target in &scaling.targets {
                want(&target.metric, Scope::Pool(name.clone()), target.period * 2);
            }
            if let Some(predict) = &scaling.predict {
                want(&predict.metric, Scope::Pool(name.clone()), ROLLED * 2);
            }
        }
        let predicts =
            |pool: &PoolName| config.pools.get(pool).is_some_and(|pool| pool.scaling.as_ref().is_some_and(|s| s.predict.is_some()));
        self.rolled.retain(|pool, _| predicts(pool));
        self.machines_wanted.clear();
        let of_pools = wanted.iter().filter(|(scope, _)| matches!(scope, Scope::Pool(_))).flat_map(|(_, metrics)| metrics);
        for (metric, back) in of_pools.filter(|(metric, _)| metric.is_of_machines()) {
            let known = self.machines_wanted.entry(metric.clone()).or_default();
            *known = (*known).max(*back);
        }
        self.wanted = wanted;
        for (scope, tracks) in &mut self.tracks {
            for (metric, track) in tracks {
                track.back = back(&self.wanted, &self.machines_wanted, scope, metric);
            }
        }
    }

    /// One sample of everything. `serving`: the machines of each scaled pool that do.
    pub(crate) fn sample(&mut self, sight: &Sight<'_>, serving: BTreeMap<PoolName, BTreeSet<String>>, now: UnixMs) {
        // After a clock was set back everything is of the future, and therefore nothing.
        if self.sampled > now {
            self.tracks.clear();
            self.counters.clear();
        } else if self.sampled.floor(SAMPLE_EVERY) == now.floor(SAMPLE_EVERY) || now.since(self.sampled) < SAMPLE_MIN {
            return;
        }
        self.sampled = now;
        self.serving_counts.retain(|pool, _| serving.contains_key(pool));
        for (pool, machines) in &serving {
            self.serving_counts.entry(pool.clone()).or_default().push(kept(now), machines.len() as f64);
        }
        self.serving = serving;
        for pool in &sight.status.pools {
            let name = PoolName::from(pool.name.as_str());
            let serving = self.serving.get(&name).map_or(pool.available as usize, BTreeSet::len);
            let counters = Counters::of(pool, now);
            let values = pool::values(pool, self.counters.get(&name), &counters, serving);
            self.counters.insert(name.clone(), counters);
            self.put(Scope::Pool(name), values, now);
        }
        for host in sight.hosts {
            let values = machine::METRICS_OF_HOST.iter().filter_map(|metric| Some((metric.clone(), machine::of_host(host, metric)?)));
            self.put(Scope::Host(host.name.as_str().into()), values.collect(), now);
        }
        self.sample_machines(sight.machines, now);
        self.forget(sight, now);
    }

    fn sample_machines(&mut self, machines: &[MachineView], now: UnixMs) {
        let by_name: HashMap<&str, &MachineView> = machines.iter().map(|machine| (machine.name.as_str(), machine)).collect();
        for machine in machines {
            let scope = Scope::Machine(machine.name.clone());
            // Those of others are measured where somebody asks for it.
            if machine.metadata.is_some() || self.wanted.contains_key(&scope) {
                self.put(scope, machine::values(machine), now);
            }
        }
        let serving = std::mem::take(&mut self.serving);
        for (pool, names) in &serving {
            let loads: Vec<&MachineView> = names.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect();
            let mean = |metric: &Metric| {
                let mut values: Vec<f64> = loads.iter().filter_map(|machine| machine::of_machine(machine, metric)).collect();
                Some((metric.clone(), Statistic::Average.of(&mut values)?))
            };
            let means: Vec<(Metric, f64)> = machine::METRICS_OF_MACHINE.iter().filter_map(mean).collect();
            let tracks = self.tracks.entry(Scope::Pool(pool.clone())).or_default();
            means.into_iter().for_each(|(metric, value)| tracks.entry(metric).or_default().roll(value, now));
        }
        self.serving = serving;
    }

    fn put(&mut self, scope: Scope, values: Vec<(Metric, f64)>, now: UnixMs) {
        let tracks = self.tracks.entry(scope.clone()).or_default();
        for (metric, value) in values {
            let track = match tracks.get_mut(&metric) {
                Some(track) => track,
                None => {
                    let back = back(&self.wanted, &self.machines_wanted, &scope, &metric);
                    tracks.entry(metric).or_insert_with(|| Track::new(back))
                }
            };
            track.push(value, now);
        }
    }

    /// A number that was asked for elsewhere, for whoever looks at it.
    pub(crate) fn put_external(&mut self, name: &MetricName, value: f64, now: UnixMs) {
        let metric = Metric::External(name.0.clone());
        let scopes: Vec<Scope> =
            self.wanted.iter().filter(|(_, metrics)| metrics.contains_key(&metric)).map(|(scope, _)| scope.clone()).collect();
        for scope in scopes {
            self.put(scope, vec![(metric.clone(), value)], now);
        }
    }

    /// Machines, pools and hosts that are gone.
    fn forget(&mut self, sight: &Sight<'_>, now: UnixMs) {
        let pools: BTreeSet<&str> = sight.status.pools.iter().map(|pool| pool.name.as_str()).collect();
        self.counters.retain(|pool, _| pools.contains(&*pool.0));
        // Until what was collected is kept; a machine that was there a moment ago still counts in the periods that it was there.
        self.tracks.retain(|_, tracks| {
            tracks.retain(|_, track| track.is_alive(now));
            !tracks.is_empty()
        });
    }

    /// What is to be kept of the minute that is over; empty while it is not.
    pub(crate) fn pages(&mut self, now: UnixMs) -> Vec<Page> {
        if self.minutes.over(kept(now)) { self.flush() } else { Vec::new() }
    }

    /// Everything that was collected: for the end.
    pub(crate) fn flush(&mut self) -> Vec<Page> {
        let mut pages = Vec::new();
        for (scope, tracks) in &mut self.tracks {
            let (word, name) = named(scope);
            for (metric, track) in tracks {
                let series = Series { metric: metric.word().into(), scope: word.into(), name: name.into() };
                pages.append(&mut track.rolled.take(&series));
            }
        }
        for (pool, roll) in &mut self.serving_counts {
            let series = Series { metric: MACHINES.into(), scope: "pool".into(), name: pool.0.clone() };
            pages.append(&mut roll.take(&series));
        }
        pages
    }

    /// What was collected of a series and is not kept yet.
    pub(crate) fn pending(&self, series: &Series) -> Vec<Point> {
        let scope = match &*series.scope {
            "pool" => Scope::Pool(PoolName(series.name.clone())),
            "host" => Scope::Host((&*series.name).into()),
            _ => Scope::Machine(series.name.to_string()),
        };
        if let (Scope::Pool(pool), MACHINES) = (&scope, &*series.metric) {
            return self.serving_counts.get(pool).map(|roll| roll.pending().to_vec()).unwrap_or_default();
        }
        let metric = Metric::built_in(&series.metric).unwrap_or_else(|| Metric::External(series.metric.clone()));
        self.tracks.get(&scope).and_then(|tracks| tracks.get(&metric)).map(|track| track.rolled.pending().to_vec()).unwrap_or_default()
    }

    /// The most that is to be expected of a pool.
    pub(crate) fn forecast(&self, pool: &PoolName, predict: &Predict, now: UnixMs) -> Option<f64> {
        let history: Vec<(UnixMs, f64)> = self.rolled.get(pool)?.iter().copied().collect();
        forecast(&history, predict.season, predict.ahead, now)
    }

    /// Rolls what a forecast goes by, whenever such a span is over. True: it begins with nothing, and what is kept is to be looked up.
    pub(crate) fn roll(&mut self, pool: &PoolName, predict: &Predict, now: UnixMs) -> bool {
        let is_new = !self.rolled.contains_key(pool);
        let rolled = self.rolled.entry(pool.clone()).or_default();
        let end = now.floor(ROLLED);
        if rolled.back().is_some_and(|(at, _)| *at >= end) {
            return is_new;
        }
        let scope = Scope::Pool(pool.clone());
        let query = Query { metric: &predict.metric, scope: &scope, statistic: Statistic::Average, period: ROLLED, periods: 1 };
        let Some(mean) = self.points(&query, now).pop().flatten() else { return is_new };
        let rolled = self.rolled.entry(pool.clone()).or_default();
        rolled.push_back((end, mean));
        let oldest = now.minus(looks_back(predict));
        while rolled.len() > ROLLED_MAX || rolled.front().is_some_and(|(at, _)| *at < oldest) {
            rolled.pop_front();
        }
        is_new
    }

    /// What was kept of earlier: it goes before what was measured since.
    pub(crate) fn restore(&mut self, pool: &PoolName, kept: Vec<(UnixMs, f64)>) {
        let Some(rolled) = self.rolled.get_mut(pool) else { return };
        let first = rolled.front().map_or(UnixMs(u64::MAX), |(at, _)| *at);
        let mut all: VecDeque<(UnixMs, f64)> = kept.into_iter().filter(|(at, _)| *at < first).collect();
        all.append(rolled);
        *rolled = all;
    }
}

/// How far back somebody looks; zero: nobody does.
fn back(
    wanted: &BTreeMap<Scope, BTreeMap<Metric, Duration>>,
    machines: &BTreeMap<Metric, Duration>,
    scope: &Scope,
    metric: &Metric,
) -> Duration {
    let own = wanted.get(scope).and_then(|metrics| metrics.get(metric)).copied().unwrap_or_default();
    let as_member = if matches!(scope, Scope::Machine(_)) { machines.get(metric).copied().unwrap_or_default() } else { Duration::ZERO };
    own.max(as_member)
}

/// How far back a forecast looks.
pub(crate) fn looks_back(predict: &Predict) -> Duration {
    predict.season.saturating_mul(SEASONS_MAX + 1)
}

impl Readings for Measured {
    fn points(&self, query: &Query<'_>, now: UnixMs) -> Vec<Option<f64>> {
        let find = |scope: &Scope| self.tracks.get(scope).and_then(|tracks| tracks.get(query.metric));
        let mut tracks: Vec<&Track> = Vec::new();
        match query.scope {
            Scope::Pool(pool) if query.metric.is_of_machines() => {
                let serving = self.serving.get(pool).into_iter().flatten();
                tracks.extend(serving.filter_map(|name| find(&Scope::Machine(name.clone()))));
            }
            scope => tracks.extend(find(scope)),
        }
        let (begin, _) = query.span(now);
        let mut points = Vec::with_capacity(query.periods as usize);
        let mut values = Vec::new();
        for number in 0..query.periods {
            let from = begin.plus(query.period.saturating_mul(number));
            values.clear();
            tracks.iter().for_each(|track| track.add_to(&mut values, from, from.plus(query.period)));
            points.push(query.statistic.of(&mut values));
        }
        points
    }
}

/// Of whom an alarm is.
pub(crate) fn scope_of(scope: &AlarmScope) -> Scope {
    match scope {
        AlarmScope::Pool(pool) => Scope::Pool(pool.clone()),
        AlarmScope::Host(host) => Scope::Host(host.clone()),
        AlarmScope::Machine(machine) => Scope::Machine(machine.clone()),
    }
}

/// How the history calls it.
pub(crate) fn named(scope: &Scope) -> (&'static str, &str) {
    match scope {
        Scope::Pool(pool) => ("pool", &pool.0),
        Scope::Host(host) => ("host", &host.0),
        Scope::Machine(machine) => ("machine", machine),
    }
}

/// A moment, as the history has it.
pub(crate) fn kept(at: UnixMs) -> weir_history::UnixMs {
    weir_history::UnixMs(at.0)
}

#[cfg(test)]
mod tests;
