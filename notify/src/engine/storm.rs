//! The storm brake: what is more than so many messages a minute becomes one digest.

use serde::{Deserialize, Serialize};
use weir_config::Severity;

use crate::message::{Alarm, Message, State, UnixMs, severity};

/// The length of a window, in milliseconds.
pub(super) const WINDOW_MS: u64 = 60_000;
/// Incidents that a digest names; more are counted.
const NAMED_MAX: usize = 20;

/// The brake of one channel. It is kept as it is here.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Storm {
    /// When the window began.
    pub(super) since: UnixMs,
    /// Messages in it.
    pub(super) count: u32,
    /// What waits for its end.
    pub(super) waiting: Vec<Waiting>,
    /// What waits and is not named.
    pub(super) more: u64,
    /// The message itself, as long as only one waits.
    pub(super) only: Option<Box<Message>>,
}

/// One incident that waits to be told in a digest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) incident: String,
    pub(super) state: State,
    #[serde(with = "severity")]
    pub(super) severity: Severity,
    pub(super) alarm: Option<Alarm>,
}

impl Storm {
    /// Takes a message: gives it back if it may go now, keeps what is needed of it if not.
    pub(super) fn take(&mut self, message: Message, max: Option<u32>, now: UnixMs) -> Option<Message> {
        let Some(max) = max else { return Some(message) };
        if self.waiting.is_empty() && now >= self.since.saturating_add(WINDOW_MS) {
            (self.since, self.count) = (now, 0);
        }
        if self.waiting.is_empty() && self.count < max {
            self.count += 1;
            return Some(message);
        }
        let waiting = Waiting {
            incident: message.incident.clone(),
            state: message.state,
            severity: message.severity,
            alarm: message.alarms.first().cloned(),
        };
        let is_first = self.waiting.is_empty();
        match self.waiting.iter().position(|other| other.incident == waiting.incident) {
            Some(at) => self.waiting[at] = waiting,
            None if self.waiting.len() < NAMED_MAX => self.waiting.push(waiting),
            None => self.more += 1,
        }
        self.only = (is_first || self.waiting.len() == 1).then(|| Box::new(message));
        None
    }

    /// When what waits is to be told.
    pub(super) fn due(&self) -> Option<UnixMs> {
        (!self.waiting.is_empty()).then(|| self.since.saturating_add(WINDOW_MS))
    }

    /// Ends the window: what waited, to be told now. A new window begins with it.
    pub(super) fn end(&mut self, now: UnixMs) -> Storm {
        std::mem::replace(self, Storm { since: now, count: 1, ..Storm::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    fn message(incident: u32) -> Message {
        Message { incident: incident.to_string(), ..sample("k", 0) }
    }

    #[test]
    fn what_is_too_much_waits_for_the_minute_to_end() {
        let mut storm = Storm::default();
        let passed = (0..100).filter(|i| storm.take(message(*i), Some(3), 1_000_000).is_some()).count();
        assert_eq!((passed, storm.waiting.len(), storm.more), (3, NAMED_MAX, 77));
        assert_eq!((storm.due(), storm.only.as_ref()), (Some(1_060_000), None));
        let told = storm.end(1_060_000);
        assert_eq!((told.waiting.len(), storm.due()), (NAMED_MAX, None));
        // The digest counts.
        let passed = (0..100).filter(|i| storm.take(message(*i), Some(3), 1_060_001).is_some()).count();
        assert_eq!(passed, 2);
    }

    #[test]
    fn one_that_waits_alone_stays_itself_with_its_latest_words() {
        let mut storm = Storm::default();
        assert!(storm.take(message(1), Some(1), 0).is_some());
        assert!(storm.take(message(2), Some(1), 0).is_none());
        let newer = Message { state: State::Resolved, ..message(2) };
        assert!(storm.take(newer.clone(), Some(1), 1).is_none());
        assert_eq!(storm.only.as_deref(), Some(&newer));
        assert!(storm.take(message(3), Some(1), 2).is_none());
        assert_eq!(storm.only, None);
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let mut storm = Storm::default();
        assert!((0..1000).all(|i| storm.take(message(i), None, 0).is_some()));
    }
}
