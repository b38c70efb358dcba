//! The sign of life that a worker gives by working: a number in memory, which costs it nothing that could be measured.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// Written by one worker, read by whoever watches. On cache lines of its own, so that the reader disturbs nothing else.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::shell) struct Beat {
    /// Changes with each sign. Odd: the worker waits for something to happen.
    mark: AtomicU64,
    /// Number of its thread; 0 before it runs.
    thread: AtomicI32,
    /// The piece of work under way may take long.
    long: AtomicBool,
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

    /// Another piece of work was begun that takes milliseconds by nature, until what is returned is dropped.
    pub(in crate::shell) fn long(&self) -> Long<'_> {
        self.mark();
        self.long.store(true, Ordering::Relaxed);
        Long(self)
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

    /// Whether what it does may take long.
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
    }

    /// The worker's thread.
    pub(super) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }
}

/// A piece of work that may take long.
#[derive(Debug)]
pub(in crate::shell) struct Long<'a>(&'a Beat);

impl Drop for Long<'_> {
    fn drop(&mut self) {
        self.0.long.store(false, Ordering::Relaxed);
        self.0.mark();
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

    #[test]
    fn what_takes_long_says_so() {
        let beat = Beat::default();
        let before = beat.last();
        let long = beat.long();
        assert!(beat.is_long() && beat.last() > before);
        let during = beat.last();
        drop(long);
        assert!(!beat.is_long() && beat.last() > during);
    }
}
