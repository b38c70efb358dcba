//! The better of two by latency times requests in flight over weight.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Load, least_request};

/// After this time an observation counts for 1/e. Long enough to remember a slow endpoint between two requests, short enough to give it another chance.
const DECAY_NS: f64 = 10e9;

/// Latencies that differ by less than this factor count as equal: below it they tell chance from chance, and shares should be by weight.
const NOISE: f64 = 1.25;

/// A moving average of latency that rises at once and falls slowly.
///
/// An observation above the average replaces it. One below pulls it down by `1 - e^(-age / 10 s)`, where the age is the time since the
/// last observation. Reading it lets it fall by the same law towards 0, so that an endpoint that is avoided is asked again some time.
///
/// Two relaxed atomics. Two workers that observe at once may lose one of the observations, or pair a value with the other's time; both
/// mean an error of one sample and are forgotten with it.
#[derive(Debug, Default)]
pub struct PeakEwma {
    /// Nanoseconds, as the bits of an `f64`: in integers small steps down would be rounded away. 0: never measured.
    value: AtomicU64,
    stamp_ns: AtomicU64,
}

impl PeakEwma {
    /// An exchange with the endpoint took `latency_ns`; `now_ns` is monotonic.
    #[inline]
    pub fn observe(&self, latency_ns: u64, now_ns: u64) {
        let latency = latency_ns.max(1) as f64;
        let value = f64::from_bits(self.value.load(Ordering::Relaxed));
        let next = if latency >= value {
            latency
        } else {
            let keep = keep(now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed)));
            value * keep + latency * (1.0 - keep)
        };
        self.value.store(next.to_bits(), Ordering::Relaxed);
        self.stamp_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The average now, in nanoseconds; `None` when nothing was ever measured.
    #[inline]
    pub fn latency_ns(&self, now_ns: u64) -> Option<f64> {
        let value = self.value.load(Ordering::Relaxed);
        (value != 0).then(|| f64::from_bits(value) * keep(now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed))))
    }
}

/// What is left of an observation after `age_ns`.
#[inline]
fn keep(age_ns: u64) -> f64 {
    (-(age_ns as f64) / DECAY_NS).exp()
}

/// Whether the request is better placed on `second` than on `first`; each with its latency, if it was ever measured.
///
/// The same two questions as in [`least_request`], each side times its latency. So that latency counts among idle endpoints too, the
/// question before the request adds the same amount on both sides, one request over the mean weight.
/// An endpoint that was never measured is taken while it is idle. Then it must wait for its first answer like any other: it is
/// lent the latency of its rival, and the requests in flight decide, so that a new endpoint cannot be flooded.
#[inline]
pub(super) fn is_better(first: (Load, Option<f64>), second: (Load, Option<f64>), mean_weight: f64) -> bool {
    let ((a, latency_a), (b, latency_b)) = (first, second);
    let (latency_a, latency_b) = match (latency_a, latency_b) {
        (Some(latency_a), Some(latency_b)) => (latency_a, latency_b),
        (None, Some(_)) if a.in_flight == 0 => return false,
        (Some(_), None) if b.in_flight == 0 => return true,
        _ => return least_request::is_better(a, b),
    };
    if latency_a <= latency_b * NOISE && latency_b <= latency_a * NOISE {
        return least_request::is_better(a, b);
    }
    let cost = |load: Load, latency: f64, plus: f64| (f64::from(load.in_flight) / f64::from(load.weight) + plus) * latency;
    cost(b, latency_b, 1.0 / mean_weight) < cost(a, latency_a, 1.0 / mean_weight)
        && cost(b, latency_b, 1.0 / f64::from(b.weight)) < cost(a, latency_a, 1.0 / f64::from(a.weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn check(ewma: &PeakEwma, now_ns: u64, expected: f64) {
        let value = ewma.latency_ns(now_ns).unwrap();
        assert!((value - expected).abs() <= expected * 1e-6, "{value} instead of {expected}");
    }

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.latency_ns(0), None);
        ewma.observe(1_000, S);
        check(&ewma, S, 1_000.0);
        ewma.observe(50_000, S);
        check(&ewma, S, 50_000.0);
        // At the same moment a lower one changes nothing.
        ewma.observe(1_000, S);
        check(&ewma, S, 50_000.0);
        // After the decay constant it has fallen to 1/e, read or observed.
        check(&ewma, 11 * S, 50_000.0 / std::f64::consts::E);
        ewma.observe(1_000, 11 * S);
        check(&ewma, 11 * S, 49_000.0 / std::f64::consts::E + 1_000.0);
    }

    #[test]
    fn small_steps_down_are_not_rounded_away() {
        let ewma = PeakEwma::default();
        ewma.observe(1_000_000, 0);
        // 100,000 observations a second for 30 s.
        for step in 1..=3_000_000u64 {
            ewma.observe(900_000, step * 10_000);
        }
        check(&ewma, 30 * S, 900_000.0 + 100_000.0 * (-3.0f64).exp());
    }

    #[test]
    fn a_clock_that_seems_to_go_back_is_harmless() {
        let ewma = PeakEwma::default();
        ewma.observe(5_000, 10 * S);
        ewma.observe(4_000, 9 * S);
        check(&ewma, 8 * S, 5_000.0);
        ewma.observe(0, u64::MAX);
        check(&ewma, u64::MAX, 1.0);
    }

    #[test]
    fn the_unmeasured_is_cheap_but_not_flooded() {
        let load = |in_flight| Load { in_flight, weight: 100 };
        // An idle one that was never measured is taken.
        assert!(is_better((load(0), Some(1e6)), (load(0), None), 100.0));
        assert!(!is_better((load(0), None), (load(0), Some(1e6)), 100.0));
        // With a request under way it competes by requests in flight only.
        assert!(!is_better((load(1), Some(1e6)), (load(1), None), 100.0));
        assert!(is_better((load(2), None), (load(1), Some(1e9)), 100.0));
        assert!(is_better((load(1), None), (load(0), None), 100.0));
    }

    #[test]
    fn latency_counts_among_idle_endpoints() {
        let load = |in_flight| Load { in_flight, weight: 100 };
        assert!(is_better((load(0), Some(2e6)), (load(0), Some(1e6)), 100.0));
        assert!(!is_better((load(0), Some(1e6)), (load(0), Some(2e6)), 100.0));
        // Ten times as slow with 1 is as good as ten under way.
        assert!(is_better((load(12), Some(1e6)), (load(0), Some(1e7)), 100.0));
        assert!(!is_better((load(8), Some(1e6)), (load(0), Some(1e7)), 100.0));
    }
}
