//! Whether a processor gets to what waits for it. The kernel's own work (packets, timers) is charged to the thread that it interrupted, and
//! the host of a virtual machine stops one of its processors now and then: a worker that seems to run in circles may be kept from running
//! by either. A thread that goes before it, and is sent to its processor, is kept away by them too, but not by the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::thread;

/// To whom it answers, from which processor.
#[derive(Debug)]
struct Errand {
    processor: Option<usize>,
    sent: Instant,
    to: Arc<AtomicU64>,
}

/// In place of how long an errand took, in nanoseconds: it is not over.
const AWAY: u64 = u64::MAX;

/// The thread that is sent. It ends with this.
#[derive(Debug)]
pub(super) struct Canary(Sender<Errand>);

impl Canary {
    /// `prepare` is called first: it should give the thread the priority of whoever sends it.
    pub(super) fn start(prepare: fn()) -> std::io::Result<Canary> {
        let (errands, received) = channel();
        std::thread::Builder::new().name("weir-canary".into()).spawn(move || {
            prepare();
            run(&received);
        })?;
        Ok(Canary(errands))
    }
}

fn run(errands: &Receiver<Errand>) {
    for errand in errands {
        if let Some(processor) = errand.processor {
            let mut there = CpuSet::new();
            there.set(processor);
            // It returns there. Where this is not allowed nobody knows better than that the processor is well.
            let _ = sched_setaffinity(None, &there);
        }
        errand.to.store(errand.sent.elapsed().as_nanos() as u64, Ordering::Release);
    }
}

/// What was sent after one worker.
#[derive(Debug, Default)]
pub(super) struct Errands(Arc<AtomicU64>);

impl Errands {
    /// How long the last errand took; `None` while it is under way. Then the canary is sent to the processor of this thread.
    pub(super) fn follow(&mut self, canary: &Canary, thread: i32) -> Option<Duration> {
        let took = match self.0.load(Ordering::Acquire) {
            AWAY => return None,
            took => Duration::from_nanos(took),
        };
        self.0.store(AWAY, Ordering::Relaxed);
        let errand = Errand { processor: thread::processor(thread), sent: Instant::now(), to: Arc::clone(&self.0) };
        // Without it nobody can say that the processor is not well.
        if canary.0.send(errand).is_err() {
            self.0.store(0, Ordering::Relaxed);
        }
        Some(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_where_the_thread_is_and_comes_back() {
        let canary = Canary::start(|| {}).unwrap();
        let mut errands = Errands::default();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let began = Instant::now();
        assert_eq!(errands.follow(&canary, own), Some(Duration::ZERO), "it was nowhere yet");
        let took = loop {
            if let Some(took) = errands.follow(&canary, own) {
                break took;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it does not come back");
            std::thread::yield_now();
        };
        assert!(took > Duration::ZERO && took <= began.elapsed(), "{took:?}");
    }
}
