//! Retries as a share of requests.
//!
//! Nothing is counted for this while nothing fails: at a retry, the totals that are there anyway are compared with those of some seconds ago.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The time over which the share is taken, and the steps in which it moves on.
const WINDOW_MS: u64 = 10_000;
const STEP_MS: u64 = 1_000;
/// So many are always allowed in a window: a share of little traffic is nothing, and one request that fails deserves another try.
pub const FLOOR: u64 = 100;

/// The budget of a pool, shared by all workers.
#[derive(Debug, Default)]
pub struct RetryBudget {
    marks: Mutex<VecDeque<Mark>>,
}

/// The totals at a moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at_ms: u64,
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// Whether one more retry is within `percent` of the requests of the last seconds. `requests` and `retries` are totals since any moment, and
    /// `now_ms` is counted from any, the same for all.
    pub fn admit(&self, percent: u32, requests: u64, retries: u64, now_ms: u64) -> bool {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        while marks.front().is_some_and(|mark| mark.at_ms + WINDOW_MS <= now_ms) {
            marks.pop_front();
        }
        if marks.back().is_none_or(|mark| mark.at_ms + STEP_MS <= now_ms) {
            marks.push_back(Mark { at_ms: now_ms, requests, retries });
        }
        let since = marks.front().expect("one was just put there, or was there");
        let (requests, retries) = (requests.saturating_sub(since.requests), retries.saturating_sub(since.retries));
        retries < FLOOR.max(requests * u64::from(percent) / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand requests a second, all of which fail and want two retries each.
    #[test]
    fn a_pool_that_fails_gets_little_more_than_its_load() {
        let budget = RetryBudget::default();
        let (mut requests, mut retries) = (0u64, 0u64);
        for ms in 0..60_000 {
            requests += 1;
            for _ in 0..2 {
                retries += u64::from(budget.admit(20, requests, retries, ms));
            }
        }
        assert!((11_000..=12_200).contains(&retries), "{retries} retries of {requests} requests");
    }

    #[test]
    fn a_few_are_always_allowed_and_a_quiet_time_saves_nothing_up() {
        let budget = RetryBudget::default();
        let burst = |requests: u64, before: u64, ms: u64| {
            let mut retries = before;
            while retries < before + 1_000_000 && budget.admit(20, requests, retries, ms) {
                retries += 1;
            }
            retries - before
        };
        assert_eq!(burst(5, 0, 0), FLOOR);
        assert_eq!(burst(5, FLOOR, 9_999), 0);
        // A million requests came while nothing failed: of those that come from now on a share may be sent again.
        assert_eq!(burst(1_000_000, FLOOR, 100_000), FLOOR);
        assert_eq!(burst(1_001_000, 2 * FLOOR, 100_500), 200 - FLOOR);
    }
}
