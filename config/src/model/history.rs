//! What was, and for how long it is kept.

use std::time::Duration;

/// `[history]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Whether anything is kept. Default true.
    pub enabled: bool,
    /// The most that the file may hold, in bytes; then the oldest goes. Default 1 GiB.
    pub size_max: u64,
    /// Events, changes of alarms, plans and their steps. Default 90 days.
    pub events: Duration,
    /// The audit; `None` (written 0): for ever. Default for ever.
    pub audit: Option<Duration>,
    /// Points of ten seconds. Default 3 days.
    pub samples_10s: Duration,
    /// Points of a minute. Default 35 days.
    pub samples_1m: Duration,
    /// Points of an hour. Default 400 days.
    pub samples_1h: Duration,
}

impl Default for History {
    fn default() -> History {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        History {
            enabled: true,
            size_max: 1 << 30,
            events: days(90),
            audit: None,
            samples_10s: days(3),
            samples_1m: days(35),
            samples_1h: days(400),
        }
    }
}
