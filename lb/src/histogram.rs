//! A latency histogram: logarithmic octaves, each cut into eight linear buckets (the idea of HdrHistogram).
//!
//! ```text
//!   0 1 2 .. 15 | 16-17 18-19 .. 30-31 | 32-35 .. 60-63 | ... | .. 62914560-67108863
//!     exact     |   eight buckets      |  eight buckets |     |  and all above
//! ```
//!
//! 192 buckets cover 1 µs to 67 s (2^26 µs). A bucket is at most an eighth of its lower bound wide, so its midpoint is at most a
//! sixteenth (6.25 %) away from any value in it; values below 16 µs are exact. Values above the range are counted in the last bucket, and
//! in the sum as they are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::add;

/// 2^3 buckets per octave.
const SUB_BITS: u32 = 3;
/// Values below 2^26 have a bucket of their own kind.
const RANGE_BITS: u32 = 26;
/// The first 2^3 values have a bucket each, then come the octaves.
const BUCKETS: usize = ((RANGE_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// Counts values. One thread writes, any number read; all relaxed, and no locked instruction.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one value in microseconds. One writer only: two would lose counts.
    #[inline]
    pub fn record(&self, micros: u64) {
        add(&self.buckets[bucket(micros)], 1);
        add(&self.sum, micros);
    }

    /// Adds what this histogram holds now to `total`. A value that is recorded meanwhile may be in the count and not yet in the sum.
    pub fn add_to(&self, total: &mut Distribution) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// A merged copy to ask for quantiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distribution {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Distribution {
    /// Microseconds below which the share `q` (0 to 1, else the nearer of the two) of the values lies; `None` when empty.
    ///
    /// It is the midpoint of the bucket that holds the value of rank `ceil(q * count)`: at most 6.25 % off that value, up to 67 s.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        // Counts beyond 2^53 are rounded; the clamp keeps the rank one that exists.
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0u64;
        for (index, n) in self.buckets.iter().enumerate() {
            seen = seen.wrapping_add(*n);
            if seen >= rank {
                return Some(first(index) + (width(index) - 1) / 2);
            }
        }
        None
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Sum of the values in microseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Values at most `micros`, for Prometheus buckets. Exact below 16 and where `micros` is the last value of a bucket, such as
    /// `2^k - 1`; in between the values of one bucket are taken as spread evenly. Never falls as `micros` grows, never above the count.
    pub fn count_below(&self, micros: u64) -> u64 {
        let last = bucket(micros);
        let below = self.buckets[..last].iter().fold(0u64, |sum, n| sum.wrapping_add(*n));
        let reached = u128::from((micros - first(last) + 1).min(width(last)));
        below.wrapping_add((u128::from(self.buckets[last]) * reached / u128::from(width(last))) as u64)
    }

    /// What came since an earlier copy of the same histograms.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut rest = self.clone();
        for (now, before) in rest.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.wrapping_sub(*before);
        }
        rest.sum = rest.sum.wrapping_sub(earlier.sum);
        rest
    }

    /// Adds the values of another distribution.
    pub fn merge(&mut self, other: &Distribution) {
        for (sum, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*n);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The bucket of a value.
#[inline]
fn bucket(micros: u64) -> usize {
    let value = micros.min((1 << RANGE_BITS) - 1);
    // The octave decides how many of the low bits are dropped; below 2^4 none.
    let shift = (value | 1 << SUB_BITS).ilog2() - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The first value of a bucket.
fn first(index: usize) -> u64 {
    (index as u64 - ((shift(index) as u64) << SUB_BITS)) << shift(index)
}

/// The number of values in a bucket.
fn width(index: usize) -> u64 {
    1 << shift(index)
}

fn shift(index: usize) -> u32 {
    (index as u32 >> SUB_BITS).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: &[u64]) -> Distribution {
        let histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.record(value));
        let mut total = Distribution::default();
        histogram.add_to(&mut total);
        total
    }

    #[test]
    fn buckets_cover_all_values_without_gap() {
        let mut next = 0;
        for index in 0..BUCKETS {
            assert_eq!(first(index), next);
            assert_eq!(bucket(first(index)), index);
            assert_eq!(bucket(first(index) + width(index) - 1), index);
            // The error bound of the module's description.
            assert!(width(index) == 1 || width(index) * 8 <= first(index));
            next = first(index) + width(index);
        }
        assert_eq!(next, 1 << RANGE_BITS);
        assert_eq!(bucket(next), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_the_bound_of_the_exact_ones() {
        let mut random = fastrand::Rng::with_seed(7);
        let uniform = |random: &mut fastrand::Rng| random.u64(..1_000_000);
        let exponential = |random: &mut fastrand::Rng| (-5_000.0 * (1.0 - random.f64()).ln()) as u64;
        let wide = |random: &mut fastrand::Rng| 1u64 << random.u32(..26);
        let small = |random: &mut fastrand::Rng| random.u64(..16);
        for (name, shape) in
            [("uniform", &uniform as &dyn Fn(&mut fastrand::Rng) -> u64), ("exponential", &exponential), ("wide", &wide), ("small", &small)]
        {
            for n in [1, 2, 10, 10_001] {
                let mut values: Vec<u64> = (0..n).map(|_| shape(&mut random)).collect();
                let total = distribution(&values);
                values.sort_unstable();
                for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
                    let exact = values[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
                    let found = total.quantile(q).unwrap();
                    assert!(found.abs_diff(exact) * 16 <= exact, "{name} n {n} q {q}: {found} instead of {exact}");
                }
                assert_eq!(total.count(), n as u64);
                assert_eq!(total.sum(), values.iter().sum::<u64>());
            }
        }
    }

    #[test]
    fn counts_below_are_exact_at_boundaries_and_grow() {
        let mut random = fastrand::Rng::with_seed(8);
        let values: Vec<u64> = (0..20_000).map(|_| (1u64 << random.u32(..26)) + random.u64(..1_000)).collect();
        let total = distribution(&values);
        for index in 0..BUCKETS - 1 {
            let boundary = first(index) + width(index) - 1;
            assert_eq!(total.count_below(boundary), values.iter().filter(|&&value| value <= boundary).count() as u64);
        }
        let mut before = 0;
        for micros in (0..1 << 27).step_by(4_999) {
            let count = total.count_below(micros);
            assert!(count >= before && count <= total.count());
            before = count;
        }
        assert_eq!(total.count_below(u64::MAX), total.count());
    }

    #[test]
    fn values_out_of_range_are_counted_in_the_last_bucket() {
        let total = distribution(&[0, 100_000_000]);
        assert_eq!(total.count(), 2);
        assert_eq!(total.sum(), 100_000_000);
        assert_eq!(total.quantile(0.5), Some(0));
        assert!(total.quantile(1.0).unwrap() > 60_000_000);
    }

    #[test]
    fn an_empty_one_has_no_quantiles_and_odd_shares_are_harmless() {
        assert_eq!(Distribution::default().quantile(0.5), None);
        assert_eq!(Distribution::default().count_below(u64::MAX), 0);
        let total = distribution(&[3, 5]);
        assert_eq!(total.quantile(f64::NAN), Some(3));
        assert_eq!(total.quantile(-1.0), Some(3));
        assert_eq!(total.quantile(2.0), Some(5));
    }

    #[test]
    fn merging_is_recording_all() {
        let mut left = distribution(&[1, 20, 300]);
        left.merge(&distribution(&[4_000, 50_000]));
        assert_eq!(left, distribution(&[1, 20, 300, 4_000, 50_000]));
        assert_eq!(left.since(&distribution(&[1, 20, 300])), distribution(&[4_000, 50_000]));
    }
}
