//! A log-linear histogram of nanoseconds: 128 steps for each doubling, so a quantile is off by less than 1 %.

const STEPS_LOG2: u32 = 7;
const STEPS: usize = 1 << STEPS_LOG2;

/// Counts by latency.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; STEPS * (64 - STEPS_LOG2 as usize + 1)], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.counts[index(ns)] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// The value in nanoseconds below which the share `q` of all lies; 0 when empty.
    pub(crate) fn quantile(&self, q: f64) -> u64 {
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(at).min(self.max);
            }
        }
        0
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }
}

/// Values below `STEPS` have a slot each; above, the leading bits choose.
fn index(ns: u64) -> usize {
    let doublings = (64 - ns.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    (doublings as usize) * STEPS + (ns >> doublings) as usize
}

fn middle(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let doublings = (index / STEPS - 1) as u32;
    let lead = (index % STEPS + STEPS) as u64;
    (lead << doublings) + (1 << doublings) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_within_one_percent() {
        for ns in [0, 1, 100, 255, 256, 257, 1000, 12_345, 1_000_000, 987_654_321, u64::MAX / 2] {
            let back = middle(index(ns));
            assert!(back.abs_diff(ns) as f64 <= ns as f64 * 0.01, "{ns} came back as {back}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut h = Histogram::new();
        (1..=1000).for_each(|n| h.record(n * 1000));
        assert!(h.quantile(0.5).abs_diff(500_000) < 5_000);
        assert!(h.quantile(0.99).abs_diff(990_000) < 9_900);
        assert_eq!(h.quantile(1.0).max(h.max()), 1_000_000);
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }
}
