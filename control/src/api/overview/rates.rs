//! Rates: what counters grew by over the last seconds. Pure.

use std::collections::{HashMap, VecDeque};

use weir_lb::histogram::Distribution;
use weir_lb::status::{EndpointStatus, ListenerStatus, PoolStatus, Status};

use super::super::model::{PoolRates, TrafficRates};
use crate::api::view;

/// How far rates look back: long enough that a page does not flicker, short enough that it shows what is.
const WINDOW_S: f64 = 5.0;

/// Samples nearer to each other than this are one: a rate over less is noise.
const APART_S: f64 = 0.9;

/// A sample older than this says nothing about now.
const OLD_S: f64 = 15.0;

/// Counters at some moments of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    /// Seconds of a clock that only goes forward.
    at_s: f64,
    listeners: HashMap<String, [u64; 5]>,
    pools: HashMap<String, PoolSample>,
}

#[derive(Debug)]
struct PoolSample {
    counters: [u64; 4],
    latency: Distribution,
    /// Requests and failures.
    endpoints: HashMap<String, [u64; 2]>,
}

/// The counters grew from the oldest sample to the newest; none until there are two.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    before: &'a Sample,
    now: &'a Sample,
}

impl Rates {
    /// Looks at the counters.
    pub(super) fn sample(&mut self, status: &Status, at_s: f64) {
        // A sample that is too near the one before replaces it, so that the newest is always of now.
        let near = |samples: &VecDeque<Sample>| samples.len() > 1 && at_s - samples[samples.len() - 2].at_s < APART_S;
        if near(&self.samples) {
            self.samples.pop_back();
        }
        self.samples.push_back(Sample {
            at_s,
            listeners: status.listeners.iter().map(|listener| (listener.name.clone(), listener_counters(listener))).collect(),
            pools: status.pools.iter().map(|pool| (pool.name.clone(), PoolSample::new(pool))).collect(),
        });
        while let [first, second, ..] = self.samples.make_contiguous()
            && (at_s - second.at_s >= WINDOW_S || at_s - first.at_s > OLD_S)
        {
            self.samples.pop_front();
        }
    }

    /// What they grew by.
    pub(super) fn window(&self) -> Option<Window<'_>> {
        let (before, now) = (self.samples.front()?, self.samples.back()?);
        (now.at_s - before.at_s >= APART_S).then_some(Window { before, now })
    }
}

impl PoolSample {
    fn new(pool: &PoolStatus) -> PoolSample {
        let stats = &pool.stats;
        PoolSample {
            counters: [
                stats.sum(|shard| &shard.requests),
                stats.sum(|shard| &shard.failures),
                stats.sum(|shard| &shard.retries),
                stats.sum(|shard| &shard.queued),
            ],
            latency: stats.latency(),
            endpoints: pool.endpoints.iter().map(|endpoint| (endpoint.address.clone(), endpoint_counters(endpoint))).collect(),
        }
    }
}

fn listener_counters(listener: &ListenerStatus) -> [u64; 5] {
    let view = view::listener(listener);
    let errors = view.responses.get("5xx").copied().unwrap_or(0);
    [view.connections_total, view.requests_total, errors, view.received_bytes, view.sent_bytes]
}

fn endpoint_counters(endpoint: &EndpointStatus) -> [u64; 2] {
    [endpoint.requests_total, endpoint.failures_total]
}

impl Window<'_> {
    /// Of a listener.
    pub(super) fn listener(&self, name: &str) -> Option<TrafficRates> {
        let [connections, requests, errors, received, sent] = self.grown(self.before.listeners.get(name)?, self.now.listeners.get(name)?);
        Some(TrafficRates {
            connections_per_s: rounded(connections),
            requests_per_s: rounded(requests),
            errors_per_s: rounded(errors),
            received_bytes_per_s: rounded(received),
            sent_bytes_per_s: rounded(sent),
        })
    }

    /// Of a pool.
    pub(super) fn pool(&self, name: &str) -> Option<PoolRates> {
        let (before, now) = (self.before.pools.get(name)?, self.now.pools.get(name)?);
        let [requests, failures, retries, queued] = self.grown(&before.counters, &now.counters);
        let latency = now.latency.since(&before.latency);
        let quantile = |share| latency.quantile(share).map(|micros| rounded(micros as f64 / 1000.0));
        Some(PoolRates {
            requests_per_s: rounded(requests),
            failures_per_s: rounded(failures),
            retries_per_s: rounded(retries),
            queued_per_s: rounded(queued),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        })
    }

    /// Requests and failures of an endpoint.
    pub(super) fn endpoint(&self, pool: &str, address: &str) -> Option<(f64, f64)> {
        let of = |sample: &Sample| sample.pools.get(pool)?.endpoints.get(address).copied();
        let [requests, failures] = self.grown(&of(self.before)?, &of(self.now)?);
        Some((rounded(requests), rounded(failures)))
    }

    /// Growth a second. What went back was removed and made again: it counts from nothing.
    fn grown<const N: usize>(&self, before: &[u64; N], now: &[u64; N]) -> [f64; N] {
        let seconds = self.now.at_s - self.before.at_s;
        std::array::from_fn(|i| now[i].checked_sub(before[i]).unwrap_or(now[i]) as f64 / seconds)
    }
}

/// Three digits that count: what nobody reads needs not be sent, and a rate that hardly moves is not a change.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits.min(3));
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::tests::{sample_endpoint, sample_status};
    use weir_lb::stats::add;

    #[test]
    fn three_digits() {
        for (value, expected) in [(0.0, 0.0), (1234.5, 1230.0), (99.96, 100.0), (0.123_45, 0.123), (0.000_4, 0.0), (7.0, 7.0)] {
            assert_eq!(rounded(value), expected, "{value}");
        }
        assert_eq!(rounded(f64::NAN), 0.0);
    }

    #[test]
    fn rates_need_two_looks_apart() {
        let mut status = sample_status(vec![sample_endpoint("10.0.0.1:80")]);
        let mut rates = Rates::default();
        rates.sample(&status, 100.0);
        assert!(rates.window().is_none());
        rates.sample(&status, 100.2);
        assert!(rates.window().is_none(), "too near");
        add(&status.listeners[0].stats.shard(0).accepted, 20);
        add(&status.pools[0].stats.shard(0).requests, 10);
        status.pools[0].stats.shard(1).latency().record(2000);
        status.pools[0].endpoints[0].requests_total += 8;
        status.pools[0].endpoints[0].failures_total += 2;
        rates.sample(&status, 102.0);
        let window = rates.window().expect("two looks");
        assert_eq!(window.listener("web").map(|rates| rates.connections_per_s), Some(10.0));
        let pool = window.pool("web").expect("it was there");
        assert_eq!((pool.requests_per_s, pool.failures_per_s), (5.0, 0.0));
        assert!(pool.p99_ms.is_some_and(|ms| (1.8..2.2).contains(&ms)), "{pool:?}");
        assert_eq!(window.endpoint("web", "10.0.0.1:80"), Some((4.0, 1.0)));
        assert_eq!((window.pool("none"), window.endpoint("web", "10.0.0.2:80")), (None, None));
    }

    #[test]
    fn the_window_moves_and_forgets() {
        let status = sample_status(vec![sample_endpoint("10.0.0.1:80")]);
        let mut rates = Rates::default();
        for second in 0..20 {
            rates.sample(&status, f64::from(second));
            assert!(rates.samples.len() <= 7, "{}", rates.samples.len());
        }
        let window = rates.window().expect("many looks");
        assert_eq!(window.now.at_s - window.before.at_s, WINDOW_S);
        // Nobody looked for a while: the old sample says nothing about now.
        rates.sample(&status, 100.0);
        assert!(rates.window().is_none());
    }

    #[test]
    fn counters_that_went_back_count_from_nothing() {
        let mut status = sample_status(vec![sample_endpoint("10.0.0.1:80")]);
        let mut rates = Rates::default();
        rates.sample(&status, 0.0);
        status.pools[0].endpoints[0].requests_total = 6;
        status.pools[0].endpoints[0].failures_total = 0;
        rates.sample(&status, 2.0);
        assert_eq!(rates.window().and_then(|window| window.endpoint("web", "10.0.0.1:80")), Some((3.0, 0.0)));
    }
}
