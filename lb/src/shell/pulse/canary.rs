//! Whether a processor gets to what waits for it. The kernel's own work (packets, timers) is charged to the thread that it interrupted, and
//! the host of a virtual machine stops one of its processors now and then: a worker that seems to run in circles may be kept from running
//! by either. A thread that goes before it, and is sent to its processor, is kept away by them too, but not by the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::thread;

/// To whom it answers, from which processor.
#[derive(Debug)]
struct Errand {
    processor: Option<usize>,
    number: u64,
    to: Arc<AtomicU64>,
}

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
        errand.to.store(errand.number, Ordering::Release);
    }
}

/// What was sent after one worker.
#[derive(Debug, Default)]
pub(super) struct Errands {
    sent: u64,
    back: Arc<AtomicU64>,
}

impl Errands {
    /// Whether the canary is back from the last errand; then it is sent to the processor of this thread.
    pub(super) fn follow(&mut self, canary: &Canary, thread: i32) -> bool {
        if self.back.load(Ordering::Acquire) != self.sent {
            return false;
        }
        self.sent += 1;
        let errand = Errand { processor: thread::processor(thread), number: self.sent, to: Arc::clone(&self.back) };
        // Without it nobody can say that the processor is not well.
        if canary.0.send(errand).is_err() {
            self.back.store(self.sent, Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_goes_where_the_thread_is_and_comes_back() {
        let canary = Canary::start(|| {}).unwrap();
        let mut errands = Errands::default();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        assert!(errands.follow(&canary, own), "it was nowhere yet");
        let began = Instant::now();
        while !errands.follow(&canary, own) {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not come back");
            std::thread::yield_now();
        }
    }
}
