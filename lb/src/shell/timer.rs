//! Deadlines of a worker's connections: cheap to move, because moving one is all that a request does to it.
//!
//! A deadline that moves later is only a number that changes; the wheel finds out when the old time comes. Only a deadline that moves
//! earlier than the wheel expects is entered again. Ticks are coarse: a timeout may come up to two ticks late, never early.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use super::pulse::{Beat, Long};

/// Milliseconds per tick.
const TICK_MS: u64 = 16;
const NEVER: u64 = u64::MAX;

/// A worker's deadlines and its clock.
#[derive(Debug)]
pub(super) struct Timers {
    epoch: Instant,
    now_us: Cell<u64>,
    inner: RefCell<Inner>,
    /// The first tick the runner has to wake for.
    next_tick: Cell<u64>,
    earlier: Notify,
    beat: Arc<Beat>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Slab<Entry>,
    wheel: BTreeMap<u64, Vec<u32>>,
}

#[derive(Debug)]
struct Entry {
    deadline_ms: u64,
    /// The tick the wheel holds for this entry; [`NEVER`]: none.
    tick: u64,
    expired: bool,
    parked: bool,
    waker: Option<Waker>,
}

impl Timers {
    /// `beat` gets a sign with each reading of the clock: every piece of work begins with one.
    pub(super) fn new(beat: Arc<Beat>) -> Rc<Timers> {
        Rc::new(Timers {
            epoch: Instant::now(),
            now_us: Cell::new(0),
            inner: RefCell::default(),
            next_tick: Cell::new(NEVER),
            earlier: Notify::new(),
            beat,
        })
    }

    /// Reads the clock: microseconds since the worker started.
    pub(super) fn now_us(&self) -> u64 {
        let now = self.epoch.elapsed().as_micros() as u64;
        self.now_us.set(now);
        self.beat.mark();
        now
    }

    /// The clock as it was read last, for another piece of work that began then.
    pub(super) fn same_us(&self) -> u64 {
        self.beat.mark();
        self.now_us.get()
    }

    /// A piece of work begins that takes milliseconds by nature, such as a signature with a long key.
    pub(super) fn long_piece(&self) -> Long<'_> {
        self.beat.long()
    }

    /// The clock as it was read last; for deadlines, where some milliseconds do not matter.
    pub(super) fn recent_ms(&self) -> u64 {
        self.now_us.get() / 1000
    }

    /// The same in microseconds, for the end of a phase that was measured.
    pub(super) fn recent_us(&self) -> u64 {
        self.now_us.get()
    }

    pub(super) fn timer(self: &Rc<Self>) -> Timer {
        let entry = Entry { deadline_ms: NEVER, tick: NEVER, expired: false, parked: false, waker: None };
        Timer { key: self.inner.borrow_mut().entries.insert(entry) as u32, timers: Rc::clone(self) }
    }

    /// Brings the deadlines of all parked connections forward to at most `deadline_ms`.
    pub(super) fn hasten_parked(&self, deadline_ms: u64) {
        let mut inner = self.inner.borrow_mut();
        let parked: Vec<u32> =
            inner.entries.iter().filter(|(_, entry)| entry.parked && entry.deadline_ms > deadline_ms).map(|(key, _)| key as u32).collect();
        for key in parked {
            self.set(&mut inner, key, deadline_ms);
        }
    }

    /// Wakes every task with a deadline, to look at what it waits for.
    pub(super) fn wake_all(&self) {
        let inner = self.inner.borrow();
        inner.entries.iter().filter_map(|(_, entry)| entry.waker.as_ref()).for_each(Waker::wake_by_ref);
    }

    fn set(&self, inner: &mut Inner, key: u32, deadline_ms: u64) {
        let entry = &mut inner.entries[key as usize];
        entry.deadline_ms = deadline_ms;
        entry.expired = false;
        let tick = (deadline_ms / TICK_MS).saturating_add(1);
        if tick < entry.tick {
            entry.tick = tick;
            inner.wheel.entry(tick).or_default().push(key);
            if tick < self.next_tick.get() {
                self.next_tick.set(tick);
                self.earlier.notify_one();
            }
        }
    }

    /// Wakes whoever is due. Run once per worker, for ever.
    pub(super) async fn run(&self) {
        loop {
            let tick = self.next_tick.get();
            if tick == NEVER {
                self.earlier.notified().await;
                continue;
            }
            let at = self.epoch + Duration::from_millis(tick * TICK_MS);
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => self.fire(),
                () = self.earlier.notified() => {}
            }
        }
    }

    fn fire(&self) {
        let now_ms = self.now_us() / 1000;
        let mut inner = self.inner.borrow_mut();
        let Inner { entries, wheel } = &mut *inner;
        let later = wheel.split_off(&(now_ms / TICK_MS + 1));
        for (tick, keys) in std::mem::replace(wheel, later) {
            for key in keys {
                let Some(entry) = entries.get_mut(key as usize) else { continue };
                if entry.tick != tick {
                    continue;
                }
                entry.tick = NEVER;
                if entry.deadline_ms <= now_ms {
                    entry.expired = true;
                    if let Some(waker) = &entry.waker {
                        waker.wake_by_ref();
                    }
                } else if entry.deadline_ms != NEVER {
                    entry.tick = entry.deadline_ms / TICK_MS + 1;
                    wheel.entry(entry.tick).or_default().push(key);
                }
            }
        }
        self.next_tick.set(wheel.keys().next().copied().unwrap_or(NEVER));
    }
}

/// One deadline, for one task.
#[derive(Debug)]
pub(super) struct Timer {
    timers: Rc<Timers>,
    key: u32,
}

impl Timer {
    /// Moves the deadline, in milliseconds of the worker's clock.
    pub(super) fn set(&self, deadline_ms: u64) {
        self.timers.set(&mut self.timers.inner.borrow_mut(), self.key, deadline_ms);
    }

    /// Moves the deadline to so long after the last reading of the clock.
    pub(super) fn set_after(&self, wait: Duration) {
        self.set(self.timers.recent_ms().saturating_add(wait.as_millis() as u64));
    }

    /// Marks the connection as parked between two requests, or as busy again.
    pub(super) fn set_parked(&self, parked: bool) {
        self.timers.inner.borrow_mut().entries[self.key as usize].parked = parked;
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.timers.inner.borrow_mut();
        let entry = &mut inner.entries[self.key as usize];
        if entry.expired {
            return Poll::Ready(());
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The wheel may still name the key; a later owner of the key at most looks at its deadline once too often.
        self.timers.inner.borrow_mut().entries.remove(self.key as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_moved_deadline_fires_once_at_its_last_value() {
        let timers = Timers::new(Arc::default());
        let timer = timers.timer();
        let start = timers.now_us();
        timer.set(40);
        timer.set(20);
        timer.set(100);
        tokio::select! {
            () = timers.run() => unreachable!("the runner never ends"),
            () = poll_fn(|cx| timer.poll_expired(cx)) => {}
        }
        let passed = timers.now_us() - start;
        assert!(passed >= 99_000, "too early: {passed} µs");
    }

    #[tokio::test]
    async fn parked_ones_can_be_hastened() {
        let timers = Timers::new(Arc::default());
        let (parked, busy) = (timers.timer(), timers.timer());
        parked.set(3_600_000);
        parked.set_parked(true);
        busy.set(3_600_000);
        timers.hasten_parked(10);
        tokio::select! {
            () = timers.run() => unreachable!("the runner never ends"),
            () = poll_fn(|cx| busy.poll_expired(cx)) => panic!("only the parked one was hastened"),
            () = poll_fn(|cx| parked.poll_expired(cx)) => {}
        }
    }
}
