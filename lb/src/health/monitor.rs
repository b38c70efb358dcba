//! When each endpoint is probed: all probes of all pools as one schedule.
//!
//! - A new target, and one whose check changed, is due at once. From then on it keeps to its own phase inside the interval, a stable hash
//!   that the caller gives, so that neither a start nor a reload makes all probes march in step.
//! - The interval counts from the start of a probe. A probe never overlaps itself: one that takes longer than its interval is followed at
//!   once by the next.
//! - No more than `probes_max` run at a time; what is due waits in order of its due time, so nobody starves.
//! - While a verdict is changing `fast_interval` counts, while it has been down for long `down_interval`.
//!
//! A verdict belongs to a target and its check's fingerprint (what is asked of which address). Timings, rise and fall are not part of it:
//! changing them keeps everything. When the fingerprint changes the verdict stays as the starting point, its counts are forgotten, and the
//! target is probed at once; a reload that changes the path of a check must not take a serving endpoint away before there is a reason.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use weir_config::HealthCheck;

use super::verdict::{Flip, Health, Outcome, Verdict};

/// Down for longer than this many intervals is "long down" ([`HealthCheck::down_interval`]).
const LONG_DOWN_INTERVALS: u32 = 10;

/// How a target is probed, as far as the schedule needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Fingerprint of what is asked of which address.
    pub check: u64,
    /// Stable hash of (pool, endpoint, check): the place inside the interval.
    pub phase: u64,
    /// [`HealthCheck::interval`]
    pub interval: Duration,
    /// [`HealthCheck::fast_interval`]
    pub fast_interval: Duration,
    /// [`HealthCheck::down_interval`]
    pub down_interval: Duration,
    /// [`HealthCheck::rise`]
    pub rise: u32,
    /// [`HealthCheck::fall`]
    pub fall: u32,
}

impl Target {
    /// The timings of a check, with its fingerprint and phase.
    pub fn new(settings: &HealthCheck, check: u64, phase: u64) -> Target {
        Target {
            check,
            phase,
            interval: settings.interval,
            fast_interval: settings.fast_interval,
            down_interval: settings.down_interval,
            rise: settings.rise.get(),
            fall: settings.fall.get(),
        }
    }
}

/// What the monitor wants done, or tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Probe this target now and answer with [`Monitor::handle_outcome`], once for each run.
    Probe {
        /// The target.
        key: u32,
        /// Which run of it.
        run: u64,
    },
    /// A verdict changed.
    Flip {
        /// The target.
        key: u32,
        /// How.
        flip: Flip,
    },
}

#[derive(Debug)]
enum Step {
    Waiting { due: Instant },
    Running { run: u64, started: Instant },
}

#[derive(Debug)]
struct Entry {
    target: Target,
    verdict: Verdict,
    step: Step,
}

/// The schedule, and the verdicts that come of it. Targets are named by a small dense key that the caller chooses.
#[derive(Debug)]
pub struct Monitor {
    epoch: Instant,
    probes_max: usize,
    entries: Vec<Option<Entry>>,
    /// By due time; the phase breaks ties, so that a crowd that is due at once is served across pools and not pool after pool.
    waiting: BTreeSet<(Instant, u64, u32)>,
    /// Probes under way by run. A target that is gone or changed leaves its run here until it ends: it still costs a place.
    running: HashMap<u64, u32>,
    next_run: u64,
    outputs: VecDeque<Output>,
}

impl Monitor {
    /// An empty schedule. `epoch` is where phases are counted from.
    pub fn new(epoch: Instant, probes_max: usize) -> Monitor {
        Monitor {
            epoch,
            probes_max,
            entries: Vec::new(),
            waiting: BTreeSet::new(),
            running: HashMap::new(),
            next_run: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Probes that may run at once, at least 1.
    pub fn set_probes_max(&mut self, probes_max: usize) {
        self.probes_max = probes_max.max(1);
    }

    /// Adds a target, or changes one. `start` is the verdict that a new target starts from; a known target keeps its own.
    pub fn set_target(&mut self, key: u32, target: Target, start: Option<Verdict>, now: Instant) {
        let index = key as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        let due = match &mut self.entries[index] {
            Some(entry) if entry.target == target => return,
            Some(entry) => {
                let same_check = entry.target.check == target.check;
                let old_phase = std::mem::replace(&mut entry.target, target).phase;
                if !same_check {
                    entry.verdict.restart();
                }
                match entry.step {
                    Step::Running { .. } if same_check => return,
                    Step::Running { .. } => now,
                    Step::Waiting { due } => {
                        self.waiting.remove(&(due, old_phase, key));
                        // A shorter interval must not wait for the end of a longer one.
                        if same_check { due.min(slot_after(self.epoch, now, target.interval, target.phase)) } else { now }
                    }
                }
            }
            empty => {
                let verdict = start.unwrap_or_else(|| Verdict::unknown(now));
                *empty = Some(Entry { target, verdict, step: Step::Waiting { due: now } });
                now
            }
        };
        self.wait(key, due);
    }

    /// Forgets a target and its verdict.
    pub fn remove(&mut self, key: u32) {
        if let Some(entry) = self.entries.get_mut(key as usize).and_then(Option::take)
            && let Step::Waiting { due } = entry.step
        {
            self.waiting.remove(&(due, entry.target.phase, key));
        }
    }

    /// A probe ended. The outcome of a run whose target is gone or has changed since is only taken off the count of running probes.
    pub fn handle_outcome(&mut self, run: u64, outcome: &Outcome, now: Instant) {
        let Some(key) = self.running.remove(&run) else { return };
        let epoch = self.epoch;
        let Some(Some(entry)) = self.entries.get_mut(key as usize) else { return };
        let started = match entry.step {
            Step::Running { run: current, started } if current == run => started,
            _ => return,
        };
        let Target { interval, fast_interval, down_interval, rise, fall, phase, .. } = entry.target;
        if let Some(flip) = entry.verdict.handle_outcome(outcome, rise, fall, now) {
            self.outputs.push_back(Output::Flip { key, flip });
        }
        let verdict = &entry.verdict;
        let due = if verdict.is_changing() && fast_interval != interval {
            started + fast_interval
        } else if verdict.health() == Health::Unhealthy
            && now.saturating_duration_since(verdict.since()) > interval.saturating_mul(LONG_DOWN_INTERVALS)
        {
            slot_after(epoch, started, down_interval, phase)
        } else {
            slot_after(epoch, started, interval, phase)
        };
        // Overdue is due now, not earlier: a slow probe must not go before those that waited.
        self.wait(key, due.max(now));
    }

    /// Starts what is due, as far as the cap allows.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.running.len() < self.probes_max {
            let Some(&(due, _, key)) = self.waiting.first() else { break };
            if due > now {
                break;
            }
            self.waiting.pop_first();
            let run = self.next_run;
            self.next_run += 1;
            let entry = self.entries[key as usize].as_mut().expect("what waits has an entry: remove() takes both");
            entry.step = Step::Running { run, started: now };
            self.running.insert(run, key);
            self.outputs.push_back(Output::Probe { key, run });
        }
    }

    /// What is to be done; ask until there is no more after each change.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Monitor::handle_timeout`]. `None` while the cap is reached: the next outcome makes room.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.running.len() >= self.probes_max { None } else { self.waiting.first().map(|&(due, ..)| due) }
    }

    /// The verdict on a target; `None` when there is no such target.
    pub fn verdict(&self, key: u32) -> Option<&Verdict> {
        self.entries.get(key as usize)?.as_ref().map(|entry| &entry.verdict)
    }

    /// The fingerprint of a target's check.
    pub fn check(&self, key: u32) -> Option<u64> {
        self.entries.get(key as usize)?.as_ref().map(|entry| entry.target.check)
    }

    /// Probes under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn wait(&mut self, key: u32, due: Instant) {
        let entry = self.entries[key as usize].as_mut().expect("callers have just looked at it");
        entry.step = Step::Waiting { due };
        self.waiting.insert((due, entry.target.phase, key));
    }
}

/// The first moment at least half an interval after `start` that lies on the target's own grid: `epoch + share of the interval by phase +
/// n intervals`. A probe that started on its grid is followed exactly one interval later; one that started off it (the first, or one that
/// had to wait) comes back to it within half to one and a half intervals.
fn slot_after(epoch: Instant, start: Instant, interval: Duration, phase: u64) -> Instant {
    let interval_ns = interval.as_nanos().max(1);
    let offset = (u128::from(phase) * interval_ns) >> 64;
    let earliest = (start.saturating_duration_since(epoch) + interval / 2).as_nanos();
    let slots = earliest.saturating_sub(offset).div_ceil(interval_ns);
    let since_epoch = offset + slots * interval_ns;
    epoch + Duration::from_nanos(u64::try_from(since_epoch).unwrap_or(u64::MAX / 2))
}
