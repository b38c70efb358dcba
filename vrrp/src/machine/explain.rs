//! Why this node is or is not master, in words.

use std::time::{Duration, Instant};

use super::instance::{Instance, State};
use super::model::Status;

impl Instance {
    /// All that can be told about it.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            config: self.config.clone(),
            state: self.state(),
            since: self.since,
            explanation: self.explanation(now),
            priority: self.priority(),
            eligible: self.able(),
            primary: self.primary,
            master: self.seen.clone(),
            peers: self.peers.values().cloned().collect(),
            master_down_interval: self.master_down_interval(),
            skew_time: self.skew_time(),
            history: self.history.iter().cloned().collect(),
            counters: self.counters.clone(),
        }
    }

    fn explanation(&self, now: Instant) -> String {
        let text = match &self.state {
            State::Initialize if !self.started => match self.history.back() {
                Some(last) => format!("it takes no part: {}", last.why),
                None => "it has not been started".into(),
            },
            State::Initialize => format!("it cannot be master: {}", self.able().err().unwrap_or_else(|| "it is starting".into())),
            State::Backup { down_at } => self.why_backup(down_at.saturating_duration_since(now), now),
            State::Master(master) => {
                let why = self.history.back().map_or_else(String::new, |last| format!(" because {}", last.why));
                let leaving = if master.handover.is_some() { "; it is handing over" } else { "" };
                format!("it is master{why}{leaving}")
            }
        };
        if self.adjust_reason.is_empty() { text } else { format!("{text}; rank {} because {}", self.priority(), self.adjust_reason) }
    }

    fn why_backup(&self, left: Duration, now: Instant) -> String {
        let ours = self.priority();
        if self.config.follower {
            return "it follows the leader of its sync group, which is not master".into();
        }
        let Some(master) = &self.seen else {
            return format!("no master is heard; it becomes master in {}", round(left));
        };
        let who = format!("{} is master with rank {}", master.address, master.priority);
        if master.priority >= ours {
            let than = if master.priority == ours { "the same as" } else { "above" };
            return format!("{who}, {than} this node's {ours}");
        }
        if let Some(released) = &self.released {
            return format!("{who}, below this node's {ours}, and stays so: {released}");
        }
        if !self.config.preempt {
            return format!("{who}, below this node's {ours}, and is left alone: preempt = false");
        }
        if self.less_healthy_than_master() {
            return format!("{who}, below this node's {ours}, but counts more healthy endpoints");
        }
        match self.preempt_at.filter(|at| *at > now) {
            Some(at) => format!("{who}, below this node's {ours}; preempt_delay lets it be for another {}", round(at - now)),
            None => format!("{who}, below this node's {ours}; this node takes over in {}", round(left)),
        }
    }
}

/// Whole milliseconds are enough for people.
fn round(time: Duration) -> String {
    format!("{:?}", Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}
