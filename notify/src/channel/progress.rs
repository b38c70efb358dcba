//! Who of several was told already, so that an attempt after a fault does not tell them again. It is kept in memory alone: after a kill they
//! are told twice rather than never.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Messages that are remembered; one channel has few that failed half-way.
const MESSAGES_MAX: usize = 100;

/// What a channel remembers between two attempts at the same message.
#[derive(Debug, Default)]
pub(super) struct Progress {
    told: Mutex<VecDeque<(String, BTreeSet<String>)>>,
}

impl Progress {
    /// Who was told in earlier attempts at the message of this key.
    pub(super) fn of(&self, key: &str) -> BTreeSet<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().find(|(known, _)| known == key).map(|(_, told)| told.clone()).unwrap_or_default()
    }

    /// This one was told.
    pub(super) fn add(&self, key: &str, whom: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.iter_mut().find(|(known, _)| known == key) {
            Some((_, told)) => drop(told.insert(whom.to_owned())),
            None => {
                if told.len() >= MESSAGES_MAX {
                    told.pop_front();
                }
                told.push_back((key.to_owned(), BTreeSet::from([whom.to_owned()])));
            }
        }
    }

    /// All that can be told were.
    pub(super) fn forget(&self, key: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_by_message_and_not_without_end() {
        let progress = Progress::default();
        progress.add("a", "1");
        progress.add("a", "2");
        assert_eq!(progress.of("a").len(), 2);
        assert!(progress.of("b").is_empty());
        progress.forget("a");
        assert!(progress.of("a").is_empty());
        for key in 0..1000 {
            progress.add(&key.to_string(), "1");
        }
        assert_eq!(progress.told.lock().unwrap().len(), MESSAGES_MAX);
    }
}
