//! What a pool takes at once. It is only there for pools that have such a bound.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_config::{Adaptive, Breaker};

use super::gradient::{Gradient, Window};

/// The shortest window of latencies, and the fewest answers in one.
const WINDOW_US: u64 = 100_000;
const WINDOW_COUNT: u32 = 10;

/// What a pool takes, and what it has; shared by all workers and kept over reloads.
#[derive(Debug)]
pub struct Gate {
    breaker: Option<Breaker>,
    requests: AtomicU32,
    retries: AtomicU32,
    /// The bound that follows latency; `u32::MAX`: there is none.
    adaptive: AtomicU32,
    learning: Option<Mutex<Learning>>,
}

#[derive(Debug)]
struct Learning {
    gradient: Gradient,
    window: Window,
    since_us: u64,
}

/// Why a request does not get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shut {
    /// A fixed bound.
    Breaker,
    /// The bound that follows latency.
    Adaptive,
}

/// A request in the pool, until it is dropped.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

/// A retry under way, until it is dropped.
#[derive(Debug)]
pub struct RetryPass(Arc<Gate>);

impl Gate {
    /// Of a pool with these bounds; `None` if it has none. What is in the old one goes on in it where only fixed bounds changed.
    pub fn new(breaker: Option<&Breaker>, adaptive: Option<&Adaptive>, old: Option<&Arc<Gate>>) -> Option<Arc<Gate>> {
        if breaker.is_none() && adaptive.is_none() {
            return None;
        }
        let learnt = |gate: &&Arc<Gate>| {
            let learning = gate.learning.as_ref().map(|learning| learning.lock().unwrap_or_else(PoisonError::into_inner));
            gate.breaker.as_ref() == breaker && learning.as_ref().map(|learning| learning.gradient.settings()) == adaptive
        };
        if let Some(old) = old.filter(learnt) {
            return Some(Arc::clone(old));
        }
        let gradient = adaptive.map(|settings| Gradient::new(settings.clone()));
        Some(Arc::new(Gate {
            breaker: breaker.cloned(),
            requests: AtomicU32::new(0),
            retries: AtomicU32::new(0),
            adaptive: AtomicU32::new(gradient.as_ref().map_or(u32::MAX, Gradient::limit)),
            learning: gradient.map(|gradient| Mutex::new(Learning { gradient, window: Window::default(), since_us: 0 })),
        }))
    }

    /// Lets a request in if there is room.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(self: &Arc<Gate>) -> Result<Pass, Shut> {
        let fixed = self.breaker.as_ref().and_then(|breaker| breaker.requests_max).map_or(u32::MAX, std::num::NonZeroU32::get);
        let adaptive = self.adaptive.load(Ordering::Relaxed);
        match step_in(&self.requests, fixed.min(adaptive)) {
            true => Ok(Pass(Arc::clone(self))),
            false => Err(if adaptive < fixed { Shut::Adaptive } else { Shut::Breaker }),
        }
    }

    /// Lets a retry begin if there is room.
    pub fn enter_retry(self: &Arc<Gate>) -> Option<RetryPass> {
        let most = self.breaker.as_ref().and_then(|breaker| breaker.retries_max).map_or(u32::MAX, std::num::NonZeroU32::get);
        step_in(&self.retries, most).then(|| RetryPass(Arc::clone(self)))
    }

    /// The most connections to endpoints, idle ones included.
    pub fn connections_max(&self) -> u32 {
        self.breaker.as_ref().and_then(|breaker| breaker.connections_max).map_or(u32::MAX, std::num::NonZeroU32::get)
    }

    /// Requests in the pool now.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The bound that follows latency, if there is one.
    pub fn adaptive_limit(&self) -> Option<u32> {
        Some(self.adaptive.load(Ordering::Relaxed)).filter(|limit| *limit != u32::MAX)
    }
}

impl Pass {
    /// The request was answered after so long. `now_us` is counted from any moment, the same for all.
    pub fn answered(&self, latency_us: u64, now_us: u64) {
        let Some(learning) = &self.0.learning else { return };
        let mut learning = learning.lock().unwrap_or_else(PoisonError::into_inner);
        let Learning { gradient, window, since_us } = &mut *learning;
        window.count += 1;
        window.latency_us = window.latency_us.saturating_add(latency_us);
        window.at_once_max = window.at_once_max.max(self.0.requests());
        if window.count >= WINDOW_COUNT && now_us >= *since_us + WINDOW_US {
            gradient.handle_window(std::mem::take(window));
            *since_us = now_us;
            self.0.adaptive.store(gradient.limit(), Ordering::Relaxed);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for RetryPass {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more if there are fewer.
fn step_in(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn breaker(requests: u32, retries: u32) -> Breaker {
        Breaker { requests_max: NonZeroU32::new(requests), retries_max: NonZeroU32::new(retries), connections_max: None }
    }

    #[test]
    fn passes_are_counted_and_come_back() {
        let gate = Gate::new(Some(&breaker(2, 1)), None, None).unwrap();
        let held = [gate.enter().unwrap(), gate.enter().unwrap()];
        assert_eq!(gate.enter().err(), Some(Shut::Breaker));
        let retry = gate.enter_retry();
        assert!(retry.is_some() && gate.enter_retry().is_none());
        drop((held, retry));
        assert!(gate.enter().is_ok() && gate.enter_retry().is_some() && gate.requests() == 0);
        assert!(Gate::new(None, None, Some(&gate)).is_none());
        assert!(Arc::ptr_eq(&Gate::new(Some(&breaker(2, 1)), None, Some(&gate)).unwrap(), &gate));
        assert!(!Arc::ptr_eq(&Gate::new(Some(&breaker(3, 1)), None, Some(&gate)).unwrap(), &gate));
    }

    #[test]
    fn a_slow_pool_takes_less() {
        let adaptive = Adaptive { least: NonZeroU32::MIN, most: NonZeroU32::new(64).unwrap(), tolerance_percent: 50 };
        let gate = Gate::new(None, Some(&adaptive), None).unwrap();
        let before = gate.adaptive_limit().unwrap();
        let held: Vec<Pass> = std::iter::from_fn(|| gate.enter().ok()).collect();
        assert_eq!((held.len() as u32, gate.enter().err()), (before, Some(Shut::Adaptive)));
        for step in 0..400u64 {
            held[0].answered(if step < 20 { 1_000 } else { 50_000 }, step * 20_000);
        }
        assert!(gate.adaptive_limit().unwrap() < before, "{:?}", gate.adaptive_limit());
        assert!(gate.enter().is_err());
    }
}
