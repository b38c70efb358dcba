//! How long to wait before another attempt. Pure: chance comes in.

use std::time::Duration;

/// The wait after so many failures in a row: doubling from `backoff` to `max`, a quarter more or less by `chance` (0 to 1000), so that
/// messages that failed together do not come again together.
pub fn delay(backoff: Duration, max: Duration, failures: u32, chance: u32) -> Duration {
    let doubled = backoff.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(31)).unwrap_or(u32::MAX)).min(max);
    doubled * (750 + chance.min(1000) / 2) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let (backoff, max) = (Duration::from_secs(4), Duration::from_secs(60));
        for (failures, chance, ms) in
            [(1, 0, 3000), (1, 500, 4000), (1, 1000, 5000), (2, 500, 8000), (4, 500, 32_000), (5, 500, 60_000), (u32::MAX, 1000, 75_000)]
        {
            assert_eq!(delay(backoff, max, failures, chance), Duration::from_millis(ms), "{failures} {chance}");
        }
    }
}
