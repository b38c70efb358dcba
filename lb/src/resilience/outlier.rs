//! Endpoints that answer worse than the rest of their pool.
//!
//! A mean says what is usual in the pool now, and the deviation how much they differ: if all fail alike, it is not theirs, and nobody is left out.

use weir_config::SuccessRate;

/// What an endpoint did since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Who.
    pub key: u32,
    /// Requests that it got.
    pub requests: u64,
    /// Of these, failed or answered by 5xx.
    pub failed: u64,
}

impl Rate {
    fn success(&self) -> f64 {
        1.0 - self.failed.min(self.requests) as f64 / self.requests.max(1) as f64
    }
}

/// Those whose share of good answers lies further below the pool's mean than its deviation allows, the worst first, with the reason.
pub fn find(rates: &[Rate], settings: &SuccessRate) -> Vec<(u32, String)> {
    let mut busy: Vec<&Rate> = rates.iter().filter(|rate| rate.requests >= u64::from(settings.requests_min.get())).collect();
    if busy.len() < settings.endpoints_min.get() as usize {
        return Vec::new();
    }
    let count = busy.len() as f64;
    let mean = busy.iter().map(|rate| rate.success()).sum::<f64>() / count;
    let deviation = (busy.iter().map(|rate| (rate.success() - mean).powi(2)).sum::<f64>() / count).sqrt();
    let bound = mean - settings.deviations * deviation;
    busy.retain(|rate| rate.success() < bound);
    busy.sort_by(|a, b| a.success().total_cmp(&b.success()));
    let percent = |share: f64| share * 100.0;
    busy.iter()
        .map(|rate| {
            let (own, mean, bound) = (percent(rate.success()), percent(mean), percent(bound));
            (
                rate.key,
                format!("{own:.1} % of {} answers were good, of the pool's {mean:.1} %; at least {bound:.1} % are wanted", rate.requests),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn found(failed: &[u64], requests: u64) -> Vec<u32> {
        let number = |n| NonZeroU32::new(n).unwrap();
        let settings =
            SuccessRate { deviations: 1.9, requests_min: number(100), endpoints_min: number(5), interval: Duration::from_secs(10) };
        let rate = |(key, failed): (usize, &u64)| Rate { key: key as u32, requests, failed: *failed };
        find(&failed.iter().enumerate().map(rate).collect::<Vec<_>>(), &settings).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn who_is_far_below_the_others_is_found() {
        for (failed, requests, expected) in [
            (&[0, 0, 0, 0, 500][..], 1000, &[4][..]),
            (&[10, 12, 8, 11, 9, 200], 1000, &[5]),
            // All fail alike, or nothing fails, or there is too little to go by.
            (&[500, 500, 500, 500, 500], 1000, &[]),
            (&[0, 0, 0, 0, 0], 1000, &[]),
            (&[0, 0, 0, 0, 50], 99, &[]),
            (&[0, 0, 0, 500], 1000, &[]),
            // Two of many.
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 400, 300], 1000, &[9]),
        ] {
            assert_eq!(found(failed, requests), expected, "{failed:?} of {requests}");
        }
    }
}
