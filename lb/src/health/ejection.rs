//! Passive ejection: an endpoint that keeps failing real traffic is left out for a while.
//!
//! The n-th ejection in a row lasts n times `time`, up to `time_max`. The count is forgotten step by step: one for each whole
//! [`GOOD_WHILE`] times `time` that the endpoint spends in service, so that one bad minute does not weigh on it for days, and a slow
//! trickle of failures still counts as "in a row".
//!
//! An ejection ends when its time is over: a successful probe does not undo it, since the probe may well ask for something that works while
//! what the clients ask for does not. It also ends when the probes find the endpoint unhealthy: then they decide when it is back.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use weir_config::Ejection;

/// How long an endpoint must serve, in multiples of `time`, for one ejection to be forgotten.
pub const GOOD_WHILE: u32 = 5;

/// The pool of the endpoint that is to be ejected, at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolView {
    /// Endpoints that the operator wants to serve, healthy or not.
    pub ready: usize,
    /// Of these, ejected already.
    pub ejected: usize,
    /// Endpoints besides this one that are healthy and not ejected.
    pub others_available: usize,
}

/// Why an endpoint is not ejected. The next failure asks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is ejected.
    Already,
    /// It would be more of the pool than `share_max` allows.
    ShareMax,
    /// Nobody else is there to take the traffic; a pool of one is the plainest case.
    LastOne,
}

#[derive(Debug)]
struct Record {
    /// Ejections in a row, this one included while it lasts.
    times: u32,
    /// End of the ejection, or when it ended.
    until: Instant,
    ejected: bool,
}

/// All ejections of all pools, by an endpoint key that the caller chooses.
#[derive(Debug, Default)]
pub struct Ejections {
    records: HashMap<u32, Record>,
    ends: BTreeSet<(Instant, u32)>,
}

impl Ejections {
    /// An endpoint reached the threshold of failures in a row. Returns for how long it is ejected.
    pub fn handle_failing(&mut self, key: u32, settings: &Ejection, pool: PoolView, now: Instant) -> Result<Duration, Refused> {
        if self.is_ejected(key) {
            return Err(Refused::Already);
        }
        if pool.others_available == 0 {
            return Err(Refused::LastOne);
        }
        if (pool.ejected + 1) * 100 > pool.ready * settings.share_max_percent as usize {
            return Err(Refused::ShareMax);
        }
        let record = self.records.entry(key).or_insert(Record { times: 0, until: now, ejected: false });
        let good = now.saturating_duration_since(record.until);
        let good_while = settings.time.saturating_mul(GOOD_WHILE).max(Duration::from_millis(1));
        let forgotten = u32::try_from(good.as_nanos() / good_while.as_nanos()).unwrap_or(u32::MAX);
        record.times = record.times.saturating_sub(forgotten).saturating_add(1);
        let lasts = settings.time.saturating_mul(record.times).min(settings.time_max);
        record.until = now + lasts;
        record.ejected = true;
        self.ends.insert((record.until, key));
        Ok(lasts)
    }

    /// The endpoints whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<u32> {
        let mut readmitted = Vec::new();
        while let Some(&(until, key)) = self.ends.first() {
            if until > now {
                break;
            }
            self.ends.pop_first();
            if let Some(record) = self.records.get_mut(&key) {
                record.ejected = false;
            }
            readmitted.push(key);
        }
        readmitted
    }

    /// Ends an ejection early: ejection was switched off, or the probes took over. Returns whether there was one.
    pub fn readmit(&mut self, key: u32, now: Instant) -> bool {
        match self.records.get_mut(&key) {
            Some(record) if record.ejected => {
                self.ends.remove(&(record.until, key));
                record.ejected = false;
                record.until = now;
                true
            }
            _ => false,
        }
    }

    /// The endpoint is gone.
    pub fn remove(&mut self, key: u32) {
        if let Some(record) = self.records.remove(&key) {
            self.ends.remove(&(record.until, key));
        }
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self, key: u32) -> bool {
        self.until(key).is_some()
    }

    /// Until when it is ejected.
    pub fn until(&self, key: u32) -> Option<Instant> {
        self.records.get(&key).filter(|record| record.ejected).map(|record| record.until)
    }

    /// When the next ejection ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ends.first().map(|&(until, _)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn view(ready: usize, ejected: usize) -> PoolView {
        PoolView { ready, ejected, others_available: ready - ejected - 1 }
    }

    #[test]
    fn grows_up_to_the_bound_and_is_forgotten() {
        let settings = Ejection { time_max: 35 * S, ..Ejection::default() };
        let mut ejections = Ejections::default();
        let mut now = Instant::now();
        // Good time before each ejection, expected length.
        for (good, expected) in [(0, 10), (0, 20), (20, 30), (49, 35), (50, 35), (100, 30), (1000, 10), (10, 20)] {
            now += good * S;
            assert_eq!(ejections.handle_failing(7, &settings, view(4, 0), now), Ok(expected * S), "after {good} s");
            assert!(ejections.is_ejected(7));
            assert_eq!(ejections.handle_failing(7, &settings, view(4, 1), now), Err(Refused::Already));
            let end = ejections.poll_timeout().unwrap();
            assert_eq!(end, now + expected * S);
            assert!(ejections.handle_timeout(end - Duration::from_nanos(1)).is_empty());
            assert_eq!(ejections.handle_timeout(end), [7]);
            assert!(!ejections.is_ejected(7));
            now = end;
        }
    }

    #[test]
    fn share_of_the_pool_is_bounded() {
        let now = Instant::now();
        // Ready, ejected, percent, whether one more may go.
        for (ready, ejected, percent, allowed) in [
            (1, 0, 100, Err(Refused::LastOne)),
            (2, 0, 50, Ok(())),
            (2, 1, 50, Err(Refused::LastOne)),
            (2, 0, 49, Err(Refused::ShareMax)),
            (3, 0, 50, Ok(())),
            (3, 1, 50, Err(Refused::ShareMax)),
            (4, 1, 50, Ok(())),
            (4, 2, 50, Err(Refused::ShareMax)),
            (10, 0, 9, Err(Refused::ShareMax)),
            (10, 0, 10, Ok(())),
            (10, 8, 100, Ok(())),
            (10, 9, 100, Err(Refused::LastOne)),
        ] {
            let settings = Ejection { share_max_percent: percent, ..Ejection::default() };
            let result = Ejections::default().handle_failing(0, &settings, view(ready, ejected), now).map(|_| ());
            assert_eq!(result, allowed, "{ejected} of {ready} at {percent} %");
        }
        // The others are all unhealthy: whoever is left must serve.
        let alone = PoolView { ready: 4, ejected: 0, others_available: 0 };
        assert_eq!(Ejections::default().handle_failing(0, &Ejection::default(), alone, now), Err(Refused::LastOne));
    }

    #[test]
    fn removed_and_readmitted_leave_no_timer() {
        let now = Instant::now();
        let mut ejections = Ejections::default();
        for key in 0..2 {
            ejections.handle_failing(key, &Ejection::default(), view(4, 0), now).unwrap();
        }
        ejections.remove(0);
        assert!(ejections.readmit(1, now));
        assert!(!ejections.readmit(1, now));
        assert_eq!(ejections.poll_timeout(), None);
    }
}
