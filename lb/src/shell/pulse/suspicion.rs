//! Whether a worker that gave no sign for a while hangs. Pure: what was seen comes in, with the time.
//!
//! A worker gives a sign with each piece of work, and when it has none. Without any it is either stuck, or was kept from running. The first is
//! told from the second by what its thread did meanwhile: only time counts in which it ran, on a processor that got to others at the end of
//! it, or in which it had work but waited for something else than a processor while nobody of this process waited for one (who waits for a
//! lock waits for its holder to run).

use std::time::{Duration, Instant};

use super::beat::is_parked;

/// Time between two looks while it matters.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The same once a worker gives no sign: a look costs more than it is worth while all is well, and a whole tick is long when it is not.
pub(super) const CLOSE_TICK: Duration = Duration::from_micros(250);

/// The same when all that is missing for the verdict is whether its processor gets to others.
pub(super) const LAST_TICK: Duration = Duration::from_micros(50);

/// How soon a processor gets to who goes before all others, unless something keeps it from that.
const PROMPT: Duration = Duration::from_micros(500);

/// How long a worker may be stuck, unless this machine has shown that it takes longer now and then.
const LEAST: Duration = Duration::from_millis(2);

/// The longest that is learnt: half a second without an answer is too long in any case.
const MOST: Duration = Duration::from_millis(500);

/// How long what was learnt holds; then half of it.
const MEMORY: Duration = Duration::from_secs(600);

/// How many times longer than whoever looks was kept from looking a worker may be stuck: who looks goes before all workers, so that what keeps
/// him (the host of this machine, the kernel's own work) keeps them longer.
const LATENESS_FACTOR: u32 = 2;

/// The most that this makes of it. A machine that stood still as a whole says little about what comes next.
const LATENESS_MOST: Duration = Duration::from_millis(10);

/// How long a look that came late counts; then half of it.
const LATENESS_MEMORY: Duration = Duration::from_secs(10);

/// A page that comes from a disk may take its time, and still come.
const DISK_SHARE: u32 = 16;

/// Why a thread that does not wait for work does not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Still {
    /// It could, but others do; or somebody else of this process could.
    Starved,
    /// It waits for something that is not coming.
    Blocked,
    /// It waits for a disk.
    Disk,
}

/// How long a worker may be stuck.
#[derive(Debug)]
pub(super) struct Patience {
    /// As workers that went on have taught it.
    limit: Duration,
    learnt_at: Instant,
    /// How late a look came lately, at most.
    late: Duration,
    late_at: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Patience {
        Patience { limit: LEAST, learnt_at: now, late: Duration::ZERO, late_at: now }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit.max((self.late * LATENESS_FACTOR).min(LATENESS_MOST))
    }

    /// A look came so much later than it should.
    pub(super) fn looked_late(&mut self, late: Duration, now: Instant) {
        if late >= self.late {
            (self.late, self.late_at) = (late, now);
        } else if now >= self.late_at + LATENESS_MEMORY {
            (self.late, self.late_at) = (self.late / 2, now);
        }
    }

    /// A worker was stuck for so long and went on: so nobody is taken for hung again before half as long again. Twice the time would let one
    /// near miss double what a real hang costs.
    fn learn(&mut self, stuck: Duration, now: Instant) {
        let wanted = (stuck + stuck / 2).min(MOST);
        if wanted >= self.limit {
            (self.limit, self.learnt_at) = (wanted, now);
        } else if now >= self.learnt_at + MEMORY {
            (self.limit, self.learnt_at) = ((self.limit / 2).max(LEAST), now);
        }
    }
}

/// What there is to see of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// Its last one.
    pub(super) mark: u64,
    /// It was woken at the last look or before, and has not answered.
    pub(super) asked: bool,
    /// CPU time of its thread, where that says anything.
    pub(super) used: Option<Duration>,
}

/// What is known of one worker.
#[derive(Debug)]
pub(super) struct Suspect {
    mark: u64,
    /// CPU time of its thread at the last look.
    used: Duration,
    looked_at: Instant,
    stuck: Duration,
    /// The part of it in which it did not run.
    waited: Duration,
    /// For how long it ran since it was last known whether its processor gets to others.
    ran: Duration,
}

impl Suspect {
    pub(super) fn new(now: Instant) -> Suspect {
        // Waits for work: the first look finds out.
        Suspect { mark: 1, used: Duration::ZERO, looked_at: now, stuck: Duration::ZERO, waited: Duration::ZERO, ran: Duration::ZERO }
    }

    /// A look at it. `served`, asked for if it ran without a sign, says how long its processor took to get to others when that was asked the
    /// last time, `None` while it has not; `still` says why it does not run, asked for if it had work and did not. Returns for how long it
    /// has been stuck.
    pub(super) fn look(
        &mut self,
        signs: Signs,
        now: Instant,
        patience: &mut Patience,
        served: impl FnOnce() -> Option<Duration>,
        still: impl FnOnce() -> Still,
    ) -> Duration {
        let Signs { mark, asked, used } = signs;
        // Who looks was late himself: then he cannot say what happened meanwhile.
        let elapsed = now.saturating_duration_since(self.looked_at).min(TICK + TICK / 2);
        self.looked_at = now;
        let same = mark == self.mark;
        if !same {
            if !self.stuck.is_zero() {
                patience.learn(self.stuck, now);
            }
            (self.mark, self.stuck, self.waited, self.ran) = (mark, Duration::ZERO, Duration::ZERO, Duration::ZERO);
        }
        // A thread that is gone, whose end is told another way; or work of which nothing can be said.
        let Some(used) = used else { return Duration::ZERO };
        let ran = used.saturating_sub(std::mem::replace(&mut self.used, used)).min(elapsed);
        if same {
            let before = std::mem::take(&mut self.ran);
            let (ran, waited) = match ran {
                ran if ran >= elapsed / 8 => match served() {
                    None => {
                        self.ran = before + ran;
                        (Duration::ZERO, Duration::ZERO)
                    }
                    Some(took) => {
                        self.ran = ran;
                        (if took <= PROMPT { before } else { Duration::ZERO }, Duration::ZERO)
                    }
                },
                _ if is_parked(mark) && !asked => (Duration::ZERO, Duration::ZERO),
                _ => match still() {
                    Still::Starved => (Duration::ZERO, Duration::ZERO),
                    Still::Blocked => (before, elapsed),
                    Still::Disk => (Duration::ZERO, elapsed / DISK_SHARE),
                },
            };
            self.stuck += ran + waited;
            self.waited += waited;
        }
        self.stuck
    }

    /// Whether it gave no sign since the last look.
    pub(super) fn is_suspected(&self) -> bool {
        !self.stuck.is_zero() || !self.ran.is_zero()
    }

    /// Whether it was stuck for so long, if its processor turns out to be well, which should be known soon.
    pub(super) fn may_be_stuck(&self, limit: Duration) -> bool {
        self.stuck < limit && (limit..2 * limit).contains(&(self.stuck + self.ran))
    }

    /// How long it has been stuck while it ran, and while it did not.
    pub(super) fn stuck(&self) -> (Duration, Duration) {
        (self.stuck - self.waited, self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker, looked at once in a tick.
    struct Scene {
        suspect: Suspect,
        patience: Patience,
        now: Instant,
        used: Duration,
        asked: bool,
        served: Option<Duration>,
    }

    impl Scene {
        fn new() -> Scene {
            let now = Instant::now();
            Scene {
                suspect: Suspect::new(now),
                patience: Patience::new(now),
                now,
                used: Duration::ZERO,
                asked: false,
                served: Some(Duration::ZERO),
            }
        }

        fn look(&mut self, mark: u64, time: Duration, ran: Duration, still: Still) -> bool {
            (self.now, self.used) = (self.now + time, self.used + ran);
            let (signs, served) = (Signs { mark, asked: self.asked, used: Some(self.used) }, self.served);
            self.suspect.look(signs, self.now, &mut self.patience, || served, || still) >= self.patience.limit()
        }

        /// The number of ticks until it is taken for hung; at most a thousand.
        fn ticks_to_hung(&mut self, mark: u64, ran: Duration, still: Still) -> u32 {
            (1..=1000).find(|_| self.look(mark, TICK, ran, still)).unwrap_or(u32::MAX)
        }
    }

    #[test]
    fn who_is_stuck_is_found_and_who_is_not_is_left_alone() {
        let (running, halted) = (TICK, Duration::ZERO);
        for (ran, still, ticks) in [
            (running, Still::Starved, 4),
            (running / 2, Still::Starved, 6),
            (halted, Still::Blocked, 3),
            (halted, Still::Disk, 33),
            (halted, Still::Starved, u32::MAX),
            (running / 100, Still::Starved, u32::MAX),
        ] {
            assert_eq!(Scene::new().ticks_to_hung(2, ran, still), ticks, "{ran:?} {still:?}");
        }
        // Whatever it used: who gives signs, or waits for work, is well.
        let mut scene = Scene::new();
        assert!((0..1000).all(|sign| !scene.look(sign * 2, TICK, TICK, Still::Blocked)));
        assert!((0..1000).all(|_| !scene.look(2001, TICK, Duration::ZERO, Still::Blocked)));
        assert!((0..1000).all(|_| !scene.look(2001, TICK, TICK / 100, Still::Blocked)), "a wait costs a little too");
        assert_eq!(scene.patience.limit(), LEAST);
        assert_eq!(scene.ticks_to_hung(2001, TICK, Still::Starved), 3, "but who runs does not wait");
    }

    #[test]
    fn who_runs_on_a_processor_that_gets_to_nobody_is_kept_from_running() {
        for served in [None, Some(2 * PROMPT)] {
            let mut scene = Scene::new();
            scene.served = served;
            assert_eq!(scene.ticks_to_hung(2, TICK, Still::Starved), u32::MAX);
            assert!(scene.suspect.is_suspected());
            scene.look(4, TICK, TICK, Still::Starved);
            assert!(!scene.suspect.is_suspected(), "it goes on");
        }
        // The answer is on its way: then all of it counts.
        let mut scene = Scene::new();
        scene.served = None;
        assert!((0..3).all(|_| !scene.look(2, TICK, TICK, Still::Starved)));
        assert!(scene.suspect.may_be_stuck(LEAST));
        scene.served = Some(PROMPT);
        assert!(scene.look(2, TICK, TICK, Still::Starved));
        // It came late: then none.
        let mut scene = Scene::new();
        scene.served = None;
        assert!((0..3).all(|_| !scene.look(2, TICK, TICK, Still::Starved)));
        scene.served = Some(2 * PROMPT);
        assert!(!scene.look(2, TICK, TICK, Still::Starved));
        assert!(!scene.suspect.may_be_stuck(LEAST));
    }

    #[test]
    fn who_waits_for_work_and_does_not_wake_for_a_question_is_stuck() {
        for (still, ticks) in [(Still::Blocked, 2), (Still::Disk, 32), (Still::Starved, u32::MAX)] {
            let mut scene = Scene::new();
            assert!((0..1000).all(|_| !scene.look(1, TICK, Duration::ZERO, still)), "nobody asks");
            scene.asked = true;
            assert_eq!(scene.ticks_to_hung(1, Duration::ZERO, still), ticks, "{still:?}");
            assert!(!scene.look(3, TICK, Duration::ZERO, still), "it woke, and waits again");
        }
    }

    #[test]
    fn who_looks_late_does_not_judge() {
        let mut scene = Scene::new();
        assert!(!scene.look(2, TICK, TICK, Still::Blocked));
        assert!(!scene.look(2, TICK / 2, TICK / 2, Still::Blocked));
        assert!(!scene.look(4, Duration::from_secs(10), Duration::from_secs(10), Still::Blocked), "it went on meanwhile");
        assert!(!scene.look(4, Duration::from_secs(10), Duration::from_secs(10), Still::Blocked), "one look is never enough");
        assert!(!scene.look(4, TICK, TICK, Still::Blocked), "what is known now is of the one before");
        assert!(scene.look(4, TICK, TICK, Still::Blocked));
    }

    #[test]
    fn what_ended_well_is_not_held_against_the_next_one() {
        let mut scene = Scene::new();
        assert_eq!(scene.ticks_to_hung(2, TICK, Still::Starved), 4);
        for _ in 0..6 {
            scene.look(2, TICK, TICK, Still::Starved);
        }
        assert!(!scene.look(4, TICK, TICK, Still::Starved), "it went on");
        assert_eq!(scene.patience.limit(), Duration::from_millis(12));
        assert_eq!(scene.ticks_to_hung(4, TICK, Still::Starved), 13);
        // No more than half a second, whatever happened.
        for _ in 0..2000 {
            scene.look(4, TICK, TICK, Still::Starved);
        }
        scene.look(6, TICK, TICK, Still::Starved);
        assert_eq!(scene.patience.limit(), MOST);
        // And forgotten in time.
        for round in 0..20 {
            scene.now += MEMORY;
            scene.look(6 + 2 * round, TICK, TICK, Still::Starved);
            scene.look(6 + 2 * round, TICK, TICK / 4, Still::Starved);
            scene.look(6 + 2 * round, TICK, TICK / 4, Still::Starved);
        }
        assert_eq!(scene.patience.limit(), LEAST);
    }

    #[test]
    fn on_a_machine_that_keeps_whoever_looks_waiting_a_worker_may_be_stuck_for_longer() {
        let mut scene = Scene::new();
        let ms = Duration::from_millis;
        for (late, limit) in [(ms(0), LEAST), (LEAST / 2, LEAST), (ms(4), ms(8)), (ms(1), ms(8)), (ms(400), LATENESS_MOST)] {
            scene.patience.looked_late(late, scene.now);
            assert_eq!(scene.patience.limit(), limit, "{late:?}");
        }
        assert_eq!(scene.ticks_to_hung(2, TICK, Still::Starved), 12);
        for _ in 0..20 {
            scene.now += LATENESS_MEMORY;
            scene.patience.looked_late(ms(0), scene.now);
        }
        assert_eq!(scene.patience.limit(), LEAST, "and that is forgotten");
    }

    #[test]
    fn how_it_was_stuck_is_known() {
        let mut scene = Scene::new();
        for ran in [Duration::ZERO, TICK, Duration::ZERO, TICK, TICK] {
            scene.look(2, TICK, ran, Still::Blocked);
        }
        assert_eq!(scene.suspect.stuck(), (2 * TICK, TICK), "the first look only finds out what it does");
        scene.look(4, TICK, TICK, Still::Starved);
        assert_eq!(scene.suspect.stuck(), (Duration::ZERO, Duration::ZERO));
    }
}
