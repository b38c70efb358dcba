//! What is measured of a pool: from the counters of the data plane, between two looks.

use weir_autoscaler::UnixMs;
use weir_config::Metric;
use weir_lb::histogram::Distribution;
use weir_lb::status::PoolStatus;

/// What was counted of a pool at a look. The histograms are those of all threads, merged.
#[derive(Debug)]
pub(super) struct Counters {
    at: UnixMs,
    requests: u64,
    failures: u64,
    queued: u64,
    latency: Distribution,
    waits: Distribution,
}

impl Counters {
    pub(super) fn of(pool: &PoolStatus, now: UnixMs) -> Counters {
        Counters {
            at: now,
            requests: pool.stats.sum(|shard| &shard.requests),
            failures: pool.stats.sum(|shard| &shard.failures),
            queued: pool.stats.sum(|shard| &shard.queued),
            latency: pool.stats.latency(),
            waits: pool.stats.queue_wait(),
        }
    }
}

/// All that is known now. `serving`: endpoints or machines that share the load.
pub(super) fn values(pool: &PoolStatus, before: Option<&Counters>, after: &Counters, serving: usize) -> Vec<(Metric, f64)> {
    let mut values = Vec::with_capacity(12);
    let shared = |value: f64| (serving > 0).then(|| value / serving as f64);
    let in_flight = pool.endpoints.iter().map(|endpoint| f64::from(endpoint.in_flight)).sum::<f64>();
    values.push((Metric::InFlight, in_flight));
    values.extend(shared(in_flight).map(|value| (Metric::InFlightPerEndpoint, value)));
    values.push((Metric::QueueLength, f64::from(pool.waiting)));
    let enabled = pool.endpoints.iter().filter(|endpoint| endpoint.state == "ready").count();
    if enabled > 0 {
        values.push((Metric::HealthyShare, f64::from(pool.healthy) * 100.0 / enabled as f64));
    }
    let Some(before) = before else { return values };
    let seconds = after.at.since(before.at).as_secs_f64();
    if seconds <= 0.0 {
        return values;
    }
    let grown = |now: u64, earlier: u64| now.saturating_sub(earlier) as f64;
    let requests = grown(after.requests, before.requests);
    values.push((Metric::Requests, requests / seconds));
    values.extend(shared(requests / seconds).map(|value| (Metric::RequestsPerEndpoint, value)));
    values.push((Metric::Queued, grown(after.queued, before.queued) / seconds));
    let failed = if requests > 0.0 { (grown(after.failures, before.failures) * 100.0 / requests).min(100.0) } else { 0.0 };
    values.push((Metric::ErrorRate, failed));
    // Most pools have no queue at most times.
    let waited = if after.waits == before.waits { 0.0 } else { mean_ms(&after.waits.since(&before.waits)) };
    values.push((Metric::QueueWait, waited));
    if after.latency != before.latency {
        let latency = after.latency.since(&before.latency);
        for (metric, share) in [(Metric::LatencyP50, 0.50), (Metric::LatencyP95, 0.95), (Metric::LatencyP99, 0.99)] {
            values.extend(latency.quantile(share).map(|micros| (metric, micros as f64 / 1000.0)));
        }
    }
    values
}

fn mean_ms(waits: &Distribution) -> f64 {
    match waits.count() {
        0 => 0.0,
        count => waits.sum() as f64 / count as f64 / 1000.0,
    }
}
