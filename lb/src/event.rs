//! What happened, for people and for other rooms.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

/// One thing that happened in the data plane, or to the node around it.
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
    /// Files of certificates changed and are in use.
    CertificatesLoaded {
        /// Listener.
        listener: Arc<str>,
        /// Certificates of the listener.
        certificates: usize,
        /// Of these, new or changed.
        changed: usize,
    },
    /// Files of certificates changed and cannot be used; the old ones still are.
    CertificatesRefused {
        /// Listener.
        listener: Arc<str>,
        /// Every file with what is wrong.
        reason: String,
    },
    /// A certificate ends soon, or has ended. Told two weeks and three days before, and at the end.
    CertificateExpires {
        /// Listener.
        listener: Arc<str>,
        /// The chain's file.
        file: String,
        /// Time left, in seconds; negative when it is over.
        left_s: i64,
        /// It is over.
        expired: bool,
    },
    /// A certificate that is shown to endpoints ends soon, or has ended. Told as for those of listeners.
    EndpointCertificateExpires {
        /// Pool.
        pool: Arc<str>,
        /// The chain's file.
        file: String,
        /// Time left, in seconds; negative when it is over.
        left_s: i64,
        /// It is over.
        expired: bool,
    },
    /// Files that a pool's TLS names changed and are in use.
    EndpointTlsLoaded {
        /// Pool.
        pool: Arc<str>,
    },
    /// Files that a pool's TLS names changed and cannot be used; the old ones still are.
    EndpointTlsRefused {
        /// Pool.
        pool: Arc<str>,
        /// Every file with what is wrong.
        reason: String,
    },
    /// A configuration took effect.
    Applied {
        /// The snapshot's generation.
        generation: u64,
    },
    /// The file was read again and took effect.
    Reloaded {
        /// The revision it made.
        revision: u64,
        /// One line for each difference.
        changes: Vec<String>,
    },
    /// The file was read again and refused; the old one is still in effect.
    ReloadRefused {
        /// The whole explanation.
        reason: String,
    },
    /// An endpoint was added, removed or changed at run time.
    EndpointChanged {
        /// Pool.
        pool: Arc<str>,
        /// Endpoint.
        endpoint: String,
        /// What: `"added"`, `"weight 3"`.
        change: String,
        /// The revision it made.
        revision: u64,
    },
    /// Something that was changed at run time could not be written to the state folder: it is in effect, and would be lost by a restart.
    NotPersisted {
        /// Why.
        reason: String,
    },
    /// Another program is being started to take over.
    UpgradeStarted {
        /// Its path.
        binary: String,
    },
    /// The other program serves; this one finishes what it has.
    Upgraded {
        /// Its process id.
        pid: u32,
    },
    /// The other program could not take over; this one goes on.
    UpgradeFailed {
        /// Why.
        reason: String,
    },
    /// This process takes no new work and finishes the old.
    Draining {
        /// The longest it may take, in seconds.
        timeout_s: u64,
    },
}
