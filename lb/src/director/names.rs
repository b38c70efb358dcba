//! When names are resolved, and what is known of each (pure).
//!
//! A name is looked up at once when the first endpoint uses it, every [`INTERVAL`] after a good answer, and after a failure again soon, with
//! growing pauses up to the same interval. One lookup serves all endpoints that share the name, and a name is never looked up twice at once.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between good answers.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// After the first failure; doubled with each further one.
const RETRY: Duration = Duration::from_millis(500);
/// Addresses of one answer that are kept.
const ADDRESSES_MAX: usize = 64;

/// What the last lookup said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// There was none yet.
    Pending,
    /// Never empty.
    Addresses(Vec<IpAddr>),
    /// Why there is none.
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    /// Endpoint slots.
    users: Vec<u32>,
    answer: Answer,
    failures: u32,
    /// `None` while a lookup is under way.
    due: Option<Instant>,
}

/// All names in use.
#[derive(Debug, Default)]
pub(crate) struct Names {
    entries: HashMap<Arc<str>, Entry>,
    waiting: BTreeSet<(Instant, Arc<str>)>,
    /// Names that were dropped while being looked up; taken up again before the lookup ended, they must not be looked up twice.
    orphans: BTreeSet<Arc<str>>,
}

impl Names {
    /// An endpoint uses the name. Returns what is known.
    pub(crate) fn add(&mut self, name: &Arc<str>, user: u32, now: Instant) -> &Answer {
        let entry = self.entries.entry(Arc::clone(name)).or_insert_with(|| {
            let due = if self.orphans.remove(name) { None } else { Some(now) };
            if due.is_some() {
                self.waiting.insert((now, Arc::clone(name)));
            }
            Entry { users: Vec::new(), answer: Answer::Pending, failures: 0, due }
        });
        entry.users.push(user);
        &entry.answer
    }

    /// An endpoint no longer uses the name.
    pub(crate) fn remove(&mut self, name: &Arc<str>, user: u32) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.users.retain(|other| *other != user);
        if entry.users.is_empty() {
            match entry.due {
                Some(due) => drop(self.waiting.remove(&(due, Arc::clone(name)))),
                None => drop(self.orphans.insert(Arc::clone(name))),
            }
            self.entries.remove(name);
        }
    }

    /// A lookup ended. Returns the endpoints that use the name.
    pub(crate) fn handle_answer(&mut self, name: &Arc<str>, result: Result<Vec<IpAddr>, String>, now: Instant) -> Vec<u32> {
        self.orphans.remove(name);
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let pause = match result {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.truncate(ADDRESSES_MAX);
                entry.failures = 0;
                entry.answer = Answer::Addresses(addresses);
                INTERVAL
            }
            Ok(_) => entry.fail("no address".into()),
            Err(reason) => entry.fail(reason),
        };
        entry.due = Some(now + pause);
        self.waiting.insert((now + pause, Arc::clone(name)));
        entry.users.clone()
    }

    /// The names to look up now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        while self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            let (_, name) = self.waiting.pop_first().expect("it was there a moment ago");
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.due = None;
            }
            due.push(name);
        }
        due
    }

    /// When the next name is to be looked up.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// What is known of a name.
    pub(crate) fn answer(&self, name: &Arc<str>) -> &Answer {
        self.entries.get(name).map_or(&Answer::Pending, |entry| &entry.answer)
    }
}

impl Entry {
    fn fail(&mut self, reason: String) -> Duration {
        self.answer = Answer::Failed(reason);
        let pause = RETRY.saturating_mul(1 << self.failures.min(10)).min(INTERVAL);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looked_up_once_for_all_and_again_after_growing_pauses() {
        let start = Instant::now();
        let name: Arc<str> = "origin.example".into();
        let mut names = Names::default();
        names.add(&name, 1, start);
        names.add(&name, 2, start);
        assert_eq!(names.handle_timeout(start), [Arc::clone(&name)]);
        assert_eq!(names.poll_timeout(), None, "under way");
        let mut now = start;
        for pause_ms in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            assert_eq!(names.handle_answer(&name, Err("no such name".into()), now), [1, 2]);
            assert_eq!(names.poll_timeout(), Some(now + Duration::from_millis(pause_ms)));
            now += Duration::from_millis(pause_ms);
            assert_eq!(names.handle_timeout(now).len(), 1);
        }
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        names.handle_answer(&name, Ok(vec![address]), now);
        assert_eq!(names.answer(&name), &Answer::Addresses(vec![address]));
        assert_eq!(names.poll_timeout(), Some(now + INTERVAL));
    }

    #[test]
    fn dropped_names_leave_nothing_behind() {
        let now = Instant::now();
        let name: Arc<str> = "origin.example".into();
        let mut names = Names::default();
        names.add(&name, 1, now);
        names.handle_timeout(now);
        names.remove(&name, 1);
        // Taken up again while the lookup is still running: no second one.
        names.add(&name, 3, now);
        assert_eq!(names.poll_timeout(), None);
        assert_eq!(names.handle_answer(&name, Ok(vec!["10.0.0.1".parse().unwrap()]), now), [3]);
        names.remove(&name, 3);
        assert_eq!(names.poll_timeout(), None);
        assert!(names.entries.is_empty() && names.orphans.is_empty());
    }
}
