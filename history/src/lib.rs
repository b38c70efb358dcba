//! What was: events, plans and their steps, samples of everything that is measured, and who changed what.
//!
//! ```text
//!   records ──queue──► service (one thread) ──► store: history.db in the state folder
//!                          │    ▲ questions        10 s ──► 1 min ──► 1 h
//!                          └── memory, while the file cannot be used
//! ```
//!
//! - [`audit`]: the chain that shows whether the audit was changed. [`point`]: samples, merged and packed. [`roll`]: samples of a second
//!   become points of ten. All three are pure.
//! - [`store`]: the file, what is written into it, read from it and forgotten.
//! - [`service`]: the thread that owns the store, and what becomes of records while the file is damaged, full, or read-only.
//!
//! Whoever records never waits and is never refused: what finds no place is counted. What is deliberately not here: what an event or a plan
//! means, who reads it, and the states that alarms go on with after a restart; these have to be read before anything is decided, so they are
//! in a file of their own.

pub mod audit;
pub mod point;
pub mod roll;
pub mod service;
pub mod store;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The last multiple of a span, in milliseconds; of zero it is the moment itself.
    pub fn floor(self, span_ms: u64) -> UnixMs {
        UnixMs(self.0 - self.0.checked_rem(span_ms).unwrap_or(0))
    }

    /// So many milliseconds later.
    pub fn plus(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_add(ms))
    }

    /// So many milliseconds earlier; never before 1970.
    pub fn minus(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_sub(ms))
    }
}

/// Something that happened, to be looked up later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When.
    pub at: UnixMs,
    /// Which kind of thing, a word.
    pub kind: String,
    /// To whom it happened: the name of an alarm, a pool, a machine; empty: to the node.
    pub subject: String,
    /// Everything about it, as JSON.
    pub body: String,
}

/// What is recorded.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// Something happened.
    Entry(Entry),
    /// Somebody changed something.
    Act(audit::Act),
    /// Points of ten seconds, a minute of them for each series.
    Pages(Vec<point::Page>),
}
