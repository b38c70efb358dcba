//! What happened, for people and for other rooms.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

/// One thing that happened in the data plane.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Event {
    /// Wall clock, for people.
    #[serde(serialize_with = "unix_seconds")]
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

fn unix_seconds<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_f64(since.as_millis() as f64 / 1000.0)
}

/// The kinds of [`Event`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The verdict of an endpoint flipped (or was reached for the first time).
    Health {
        /// Pool.
        pool: Arc<str>,
        /// Endpoint.
        endpoint: String,
        /// The new verdict.
        healthy: bool,
        /// Why: `"3 of 3: connect refused"`.
        evidence: String,
    },
    /// An endpoint is left out for its failures on real traffic.
    Ejected {
        /// Pool.
        pool: Arc<str>,
        /// Endpoint.
        endpoint: String,
        /// For how long, in seconds.
        for_s: u64,
        /// Why.
        evidence: String,
    },
    /// The time of an ejection is over.
    Readmitted {
        /// Pool.
        pool: Arc<str>,
        /// Endpoint.
        endpoint: String,
    },
    /// A pool went below its floor, or came back to it.
    Floor {
        /// Pool.
        pool: Arc<str>,
        /// Healthy endpoints.
        healthy: u32,
        /// `min_healthy`.
        min_healthy: u32,
        /// Whether it is below now.
        below: bool,
    },
    /// A name resolved to another address, or no longer does.
    Resolved {
        /// Pool.
        pool: Arc<str>,
        /// Endpoint.
        endpoint: String,
        /// The address, or why there is none.
        result: String,
    },
    /// A configuration took effect.
    Applied {
        /// The snapshot's generation.
        generation: u64,
    },
}
