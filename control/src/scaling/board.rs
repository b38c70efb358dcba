//! The samples that the file asks for, one a second, as far back as its alarms and policies look. Nothing else is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_autoscaler::alarm::EXTRA_PERIODS;
use weir_autoscaler::scaling::predict::{SEASONS_MAX, forecast};
use weir_autoscaler::{Query, Readings, Scope, UnixMs};
use weir_config::{AlarmScope, Condition, Config, Metric, MetricName, PoolName, Predict};
use weir_hypervisor::{HostView, MachineView};
use weir_lb::histogram::Distribution;
use weir_lb::status::PoolStatus;

use super::observe::Sight;

/// Looks that come closer than this bring no new sample.
const SAMPLE_MIN: Duration = Duration::from_millis(800);

/// Samples of one series: four hours.
const SAMPLES_MAX: usize = 4 * 3600;

/// What a forecast goes by: a mean of so long.
const ROLLED: Duration = Duration::from_secs(300);

/// What is measured of whom.
type Series = (Metric, Scope);

#[derive(Debug, Default)]
pub(super) struct Board {
    /// What is wanted, and how far back.
    wanted: BTreeMap<Series, Duration>,
    samples: BTreeMap<Series, VecDeque<(UnixMs, f64)>>,
    /// Machines that serve, by pool.
    serving: BTreeMap<PoolName, BTreeSet<String>>,
    counters: BTreeMap<PoolName, Counters>,
    sampled: UnixMs,
    /// Means for forecasts, by pool.
    rolled: BTreeMap<PoolName, VecDeque<(UnixMs, f64)>>,
}

/// What was counted of a pool at the last look.
#[derive(Debug)]
struct Counters {
    at: UnixMs,
    requests: u64,
    failures: u64,
    queued: u64,
    latency: Distribution,
    waits: Distribution,
}

impl Board {
    /// Forgets what is no longer asked for.
    pub(super) fn apply(&mut self, config: &Config) {
        let mut wanted: BTreeMap<Series, Duration> = BTreeMap::new();
        let mut want = |metric: &Metric, scope: Scope, back: Duration| {
            let known = wanted.entry((metric.clone(), scope)).or_default();
            *known = (*known).max(back);
        };
        for alarm in config.alarms.values() {
            let Condition::Threshold(threshold) = &alarm.condition else { continue };
            let scope = match &threshold.scope {
                AlarmScope::Pool(pool) => Scope::Pool(pool.clone()),
                AlarmScope::Host(host) => Scope::Host(host.clone()),
                AlarmScope::Machine(machine) => Scope::Machine(machine.clone()),
            };
            want(&threshold.metric, scope, threshold.period.saturating_mul(threshold.periods + EXTRA_PERIODS + 1));
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
        self.samples.retain(|series, _| wanted.contains_key(series) || matches!(series.1, Scope::Machine(_)));
        self.rolled.retain(|pool, _| config.pools.get(pool).is_some_and(|pool| pool.scaling.is_some()));
        self.wanted = wanted;
    }

    /// One sample of everything that is wanted.
    pub(super) fn sample(&mut self, sight: &Sight<'_>, serving: BTreeMap<PoolName, BTreeSet<String>>, now: UnixMs) {
        // After a clock was set back everything is of the future, and therefore nothing.
        if self.sampled > now {
            self.samples.clear();
            self.counters.clear();
        } else if now.since(self.sampled) < SAMPLE_MIN {
            return;
        }
        self.sampled = now;
        self.serving = serving;
        for pool in &sight.status.pools {
            self.sample_pool(pool, now);
        }
        let wanted: Vec<(Series, Duration)> = self.wanted.iter().map(|(series, back)| (series.clone(), *back)).collect();
        for ((metric, scope), back) in wanted {
            match &scope {
                Scope::Host(name) => {
                    let value = sight.hosts.iter().find(|host| host.name == *name.0).and_then(|host| of_host(host, &metric));
                    self.push((metric, scope), value, back, now);
                }
                Scope::Machine(name) => {
                    let value =
                        sight.machines.iter().find(|machine| machine.name == *name).and_then(|machine| of_machine(machine, &metric));
                    self.push((metric, scope), value, back, now);
                }
                Scope::Pool(pool) if metric.is_of_machines() => {
                    let members: Vec<String> = self.serving.get(pool).into_iter().flatten().cloned().collect();
                    for name in members {
                        let value =
                            sight.machines.iter().find(|machine| machine.name == name).and_then(|machine| of_machine(machine, &metric));
                        self.push((metric.clone(), Scope::Machine(name)), value, back, now);
                    }
                }
                Scope::Pool(_) => {}
            }
        }
        // Machines that are gone, and what is older than anybody looks.
        let oldest = now.minus(Duration::from_secs(SAMPLES_MAX as u64));
        self.samples.retain(|_, samples| samples.back().is_some_and(|(at, _)| *at > oldest));
    }

    /// A number that was asked for elsewhere, for whoever looks at it.
    pub(super) fn put_external(&mut self, name: &MetricName, value: f64, now: UnixMs) {
        let metric = Metric::External(name.0.clone());
        let wanted: Vec<(Scope, Duration)> =
            self.wanted.iter().filter(|((wanted, _), _)| *wanted == metric).map(|((_, scope), back)| (scope.clone(), *back)).collect();
        for (scope, back) in wanted {
            self.push((metric.clone(), scope), Some(value), back, now);
        }
    }

    fn push(&mut self, series: Series, value: Option<f64>, back: Duration, now: UnixMs) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        let samples = self.samples.entry(series).or_default();
        samples.push_back((now, value));
        let oldest = now.minus(back);
        while samples.len() > SAMPLES_MAX || samples.front().is_some_and(|(at, _)| *at < oldest) {
            samples.pop_front();
        }
    }

    fn sample_pool(&mut self, pool: &PoolStatus, now: UnixMs) {
        let name = PoolName::from(pool.name.as_str());
        let of_pool: Vec<(Metric, Duration)> = self
            .wanted
            .iter()
            .filter(|((metric, scope), _)| *scope == Scope::Pool(name.clone()) && !metric.is_of_machines())
            .map(|((metric, _), back)| (metric.clone(), *back))
            .collect();
        if of_pool.is_empty() {
            return;
        }
        let counters = Counters {
            at: now,
            requests: pool.stats.sum(|shard| &shard.requests),
            failures: pool.stats.sum(|shard| &shard.failures),
            queued: pool.stats.sum(|shard| &shard.queued),
            latency: pool.stats.latency(),
            waits: pool.stats.queue_wait(),
        };
        let serving = self.serving.get(&name).map_or(pool.available as usize, BTreeSet::len);
        let before = self.counters.insert(name.clone(), counters);
        let Some(after) = self.counters.get(&name) else { return };
        let values: Vec<(Metric, Duration, Option<f64>)> = of_pool
            .into_iter()
            .map(|(metric, back)| {
                let value = of_pool_metric(pool, before.as_ref(), after, serving, &metric);
                (metric, back, value)
            })
            .collect();
        for (metric, back, value) in values {
            self.push((metric, Scope::Pool(name.clone())), value, back, now);
        }
    }

    /// The most that is to be expected of a pool.
    pub(super) fn forecast(&self, pool: &PoolName, predict: &Predict, now: UnixMs) -> Option<f64> {
        let history: Vec<(UnixMs, f64)> = self.rolled.get(pool)?.iter().copied().collect();
        forecast(&history, predict.season, predict.ahead, now)
    }

    /// Rolls what a forecast goes by, whenever such a span is over.
    pub(super) fn roll(&mut self, pool: &PoolName, predict: &Predict, now: UnixMs) {
        let end = now.floor(ROLLED);
        if self.rolled.get(pool).and_then(VecDeque::back).is_some_and(|(at, _)| *at >= end) {
            return;
        }
        let scope = Scope::Pool(pool.clone());
        let query =
            Query { metric: &predict.metric, scope: &scope, statistic: weir_config::Statistic::Average, period: ROLLED, periods: 1 };
        let Some(mean) = self.points(&query, now).pop().flatten() else { return };
        let rolled = self.rolled.entry(pool.clone()).or_default();
        rolled.push_back((end, mean));
        let oldest = now.minus(predict.season.saturating_mul(SEASONS_MAX + 1));
        while rolled.len() > 100_000 || rolled.front().is_some_and(|(at, _)| *at < oldest) {
            rolled.pop_front();
        }
    }
}

impl Readings for Board {
    fn points(&self, query: &Query<'_>, now: UnixMs) -> Vec<Option<f64>> {
        let mut series: Vec<&VecDeque<(UnixMs, f64)>> = Vec::new();
        match query.scope {
            Scope::Pool(pool) if query.metric.is_of_machines() => {
                for name in self.serving.get(pool).into_iter().flatten() {
                    series.extend(self.samples.get(&(query.metric.clone(), Scope::Machine(name.clone()))));
                }
            }
            scope => series.extend(self.samples.get(&(query.metric.clone(), scope.clone()))),
        }
        let (begin, _) = query.span(now);
        let mut points = Vec::with_capacity(query.periods as usize);
        let mut values = Vec::new();
        for number in 0..query.periods {
            let from = begin.plus(query.period.saturating_mul(number));
            let to = from.plus(query.period);
            values.clear();
            for samples in &series {
                let first = samples.partition_point(|(at, _)| *at < from);
                values.extend(samples.iter().skip(first).take_while(|(at, _)| *at < to).map(|(_, value)| *value));
            }
            points.push(query.statistic.of(&mut values));
        }
        points
    }
}

fn of_pool_metric(pool: &PoolStatus, before: Option<&Counters>, after: &Counters, serving: usize, metric: &Metric) -> Option<f64> {
    let in_flight = || pool.endpoints.iter().map(|endpoint| f64::from(endpoint.in_flight)).sum::<f64>();
    let per_endpoint = |value: f64| (serving > 0).then(|| value / serving as f64);
    match metric {
        Metric::InFlight => return Some(in_flight()),
        Metric::InFlightPerEndpoint => return per_endpoint(in_flight()),
        Metric::QueueLength => return Some(f64::from(pool.waiting)),
        Metric::HealthyShare => {
            let enabled = pool.endpoints.iter().filter(|endpoint| endpoint.state == "ready").count();
            return (enabled > 0).then(|| f64::from(pool.healthy) * 100.0 / enabled as f64);
        }
        _ => {}
    }
    let before = before?;
    let seconds = after.at.since(before.at).as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let grown = |now: u64, earlier: u64| now.saturating_sub(earlier) as f64;
    let requests = grown(after.requests, before.requests);
    let latency = |share: f64| after.latency.since(&before.latency).quantile(share).map(|micros| micros as f64 / 1000.0);
    match metric {
        Metric::Requests => Some(requests / seconds),
        Metric::RequestsPerEndpoint => per_endpoint(requests / seconds),
        Metric::Queued => Some(grown(after.queued, before.queued) / seconds),
        Metric::ErrorRate if requests == 0.0 => Some(0.0),
        Metric::ErrorRate => Some((grown(after.failures, before.failures) * 100.0 / requests).min(100.0)),
        Metric::QueueWait => {
            let waits = after.waits.since(&before.waits);
            Some(if waits.count() == 0 { 0.0 } else { waits.sum() as f64 / waits.count() as f64 / 1000.0 })
        }
        Metric::LatencyP50 => latency(0.50),
        Metric::LatencyP95 => latency(0.95),
        Metric::LatencyP99 => latency(0.99),
        _ => None,
    }
}

fn of_machine(machine: &MachineView, metric: &Metric) -> Option<f64> {
    if machine.unknown_since.is_some() {
        return None;
    }
    let load = machine.load?;
    match metric {
        Metric::Cpu => Some(load.cpu_share * 100.0),
        Metric::Memory => {
            let used = load.memory_used_bytes.or(load.memory_resident_bytes)?;
            (machine.memory_bytes > 0).then(|| used as f64 * 100.0 / machine.memory_bytes as f64)
        }
        Metric::DiskRead => Some(load.disk_read_bytes_per_s),
        Metric::DiskWritten => Some(load.disk_written_bytes_per_s),
        Metric::DiskOperations => Some(load.disk_operations_per_s),
        Metric::DiskLatency => load.disk_latency_s.map(|seconds| seconds * 1000.0),
        Metric::NetReceived => Some(load.net_received_bytes_per_s),
        Metric::NetSent => Some(load.net_sent_bytes_per_s),
        _ => None,
    }
}

fn of_host(host: &HostView, metric: &Metric) -> Option<f64> {
    if host.state != weir_hypervisor::HostState::Up {
        return None;
    }
    match metric {
        Metric::Cpu => host.cpu_share.map(|share| share * 100.0),
        Metric::CpuPressure => host.pressure.map(|pressure| pressure.cpu_some.share * 100.0),
        Metric::MemoryPressure => host.pressure.map(|pressure| pressure.memory_some.share * 100.0),
        Metric::IoPressure => host.pressure.map(|pressure| pressure.io_some.share * 100.0),
        Metric::Memory => {
            let free = host.memory_free_bytes?;
            (host.memory_bytes > 0).then(|| host.memory_bytes.saturating_sub(free) as f64 * 100.0 / host.memory_bytes as f64)
        }
        Metric::DiskSpace => {
            let storage = host.storage.as_ref()?;
            (storage.capacity > 0).then(|| storage.capacity.saturating_sub(storage.available) as f64 * 100.0 / storage.capacity as f64)
        }
        _ => None,
    }
}
