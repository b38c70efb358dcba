//! What the kernel tells of the threads of this process.

#![allow(unsafe_code)] // the clock of another thread: no safe crate names it

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use super::suspicion::Still;

/// The CPU time a thread of this process has used until now; `None` once it has ended.
pub(super) fn used(thread: i32) -> Option<Duration> {
    // The kernel's name for the scheduler's clock of one thread (linux/posix-timers.h: CPUCLOCK_SCHED and the bit for one thread).
    let clock = (!thread << 3) | 0b110;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives across the call; a number that names no thread is refused.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The kernel's letter for the state of a thread of this process.
fn state(thread: i32) -> Option<u8> {
    field(thread, 3)?.bytes().next()
}

/// The processor that a thread of this process is on, or was on last.
pub(super) fn processor(thread: i32) -> Option<usize> {
    field(thread, 39)?.parse().ok()
}

/// A field of what the kernel tells of a thread, numbered as in proc_pid_stat(5), from the third one on.
fn field(thread: i32, number: usize) -> Option<String> {
    let text = fs::read(format!("/proc/self/task/{thread}/stat")).ok()?;
    // The name before them may hold anything: parentheses, and what is no text.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    fields.split_whitespace().nth(number - 3).map(str::to_owned)
}

/// All threads of this process, as one who wonders why one of them stands still sees them.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// CPU time at the last look.
    used: HashMap<i32, Duration>,
}

impl Crowd {
    /// Nobody stands still.
    pub(super) fn forget(&mut self) {
        self.used.clear();
    }

    /// Why a thread does not run.
    pub(super) fn why_still(&mut self, thread: i32) -> Still {
        match state(thread) {
            Some(b'R') | None => return Still::Starved,
            Some(b'D') => return Still::Disk,
            Some(_) => {}
        }
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let mut starved = false;
        for other in threads.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            if other == thread || other == own {
                continue;
            }
            let Some(now) = used(other) else { continue };
            let before = self.used.insert(other, now);
            // Seen for the first time, nobody can say whether it runs.
            starved |= state(other) == Some(b'R') && before.is_none_or(|before| before == now);
        }
        if starved { Still::Starved } else { Still::Blocked }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    #[test]
    fn threads_that_work_and_wait_are_told_apart() {
        let (sender, numbers) = channel();
        let tell = sender.clone();
        let (end, until) = channel::<()>();
        let waiting = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = until.recv();
        });
        let waiter = numbers.recv().unwrap();
        let began = Instant::now();
        while state(waiter) != Some(b'S') {
            assert!(began.elapsed() < Duration::from_secs(20), "it never waits");
            std::thread::yield_now();
        }
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let working = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let worker = numbers.recv().unwrap();
        let (idle, busy) = (used(waiter).unwrap(), used(worker).unwrap());
        while used(worker).unwrap() < busy + Duration::from_millis(5) {
            assert!(began.elapsed() < Duration::from_secs(20), "it never works");
        }
        assert_eq!(used(waiter), Some(idle));
        assert_eq!(state(worker), Some(b'R'));
        assert!(processor(worker).is_some_and(|processor| processor < 4096));
        let mut crowd = Crowd::default();
        assert_eq!(crowd.why_still(worker), Still::Starved, "it can run");
        assert_eq!(crowd.why_still(waiter), Still::Starved, "the other one may wait for a processor: it was never seen before");
        stop.store(true, Ordering::Relaxed);
        working.join().unwrap();
        // Who joins is told a moment before the kernel has forgotten the thread.
        while used(worker).is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is never gone");
            std::thread::yield_now();
        }
        drop(end);
        waiting.join().unwrap();
    }
}
