//! Alarms: from data points to states, and from states to what is done about them.
//!
//! ```text
//!   data points ──► threshold (M of N, missing data, hysteresis) ──┐
//!                                                                  ├─► state ──► engaged? ──► scale, notify, recover
//!   other alarms ──► composite (and, or, not) ─────────────────────┘               ▲
//!                                                        mute, suppressor ─────────┘
//! ```
//!
//! State and engagement are two facts: the state is what is observed, and it is always told; an alarm is *engaged* when something is to be
//! done about it, which a mute or a suppressor forbids.

mod book;
mod threshold;

pub use book::{Acknowledgement, AlarmBook, AlarmChange, AlarmView, Output, SavedAlarm};
pub use threshold::{EXTRA_PERIODS, evaluate};

use serde::{Deserialize, Serialize};

/// What an alarm is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmState {
    /// All is well.
    Ok,
    /// It is as bad as its table says.
    Alarm,
    /// There is not enough data to say.
    InsufficientData,
}

impl AlarmState {
    /// `ok`, `alarm` or `insufficient-data`.
    pub fn word(self) -> &'static str {
        match self {
            AlarmState::Ok => "ok",
            AlarmState::Alarm => "alarm",
            AlarmState::InsufficientData => "insufficient-data",
        }
    }
}
