//! Says each thing at a limited rate: what a neighbour can cause ten times a second must not fill the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The same thing is said again after so long at the earliest.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Default, Debug)]
pub(super) struct Limiter {
    /// By topic: when it was said last, and how often it was held back since.
    said: BTreeMap<&'static str, (Instant, u64)>,
}

impl Limiter {
    /// The text to say, or `None` if it was said a short while ago.
    pub(super) fn admit(&mut self, topic: &'static str, text: String, now: Instant) -> Option<String> {
        let (last, held_back) = self.said.get(topic).copied().unzip();
        if last.is_some_and(|last| now < last + QUIET) {
            self.said.entry(topic).and_modify(|(_, held_back)| *held_back += 1);
            return None;
        }
        self.said.insert(topic, (now, 0));
        match held_back {
            Some(more @ 1..) => Some(format!("{text} ({more} more of this kind since it was last said)")),
            _ => Some(text),
        }
    }
}
