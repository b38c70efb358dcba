//! The sign of life that a worker gives by working: a number in memory, which costs it nothing that could be measured.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Written by one worker, read by whoever watches. On cache lines of its own, so that the reader disturbs nothing else.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::shell) struct Beat {
    /// Changes with each sign. Odd: the worker waits for something to happen.
    mark: AtomicU64,
    /// Number of its thread; 0 before it runs.
    thread: AtomicI32,
}

impl Beat {
    /// To be called by the worker's thread, before anything else.
    pub(in crate::shell) fn begin(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// Another piece of work was begun.
    #[inline]
    pub(in crate::shell) fn mark(&self) {
        self.mark.store(self.mark.load(Ordering::Relaxed).wrapping_add(2), Ordering::Relaxed);
    }

    /// All work is done: the worker waits for more.
    pub(in crate::shell) fn park(&self) {
        self.mark.store(self.mark.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// Something happened.
    pub(in crate::shell) fn unpark(&self) {
        self.mark.store((self.mark.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }

    /// The last sign.
    pub(super) fn last(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }

    /// Whether the worker waits for work.
    pub(super) fn is_parked(&self) -> bool {
        is_parked(self.last())
    }

    /// The worker's thread.
    pub(super) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }
}

/// Whether the worker waited for work when it gave this sign.
pub(super) fn is_parked(mark: u64) -> bool {
    mark & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_is_another_one() {
        let beat = Beat::default();
        assert_eq!(beat.thread(), None);
        beat.begin();
        assert_eq!(beat.thread(), Some(rustix::thread::gettid().as_raw_nonzero().get()));
        let mut seen = vec![beat.last()];
        for act in [Beat::mark, Beat::park, Beat::unpark, Beat::mark, Beat::park, Beat::unpark, Beat::unpark] {
            act(&beat);
            seen.push(beat.last());
        }
        assert_eq!(seen.iter().map(|mark| is_parked(*mark)).collect::<Vec<_>>(), [false, false, true, false, false, true, false, false]);
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }
}
