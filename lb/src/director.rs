//! The one writer: turns configuration, verdicts, ejections and name resolution into snapshots. STUB of the interface.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};
use weir_config::Config;

use crate::event::Event;
use crate::snapshot::Snapshot;
use crate::status::Status;

/// What the director and the workers share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The truth.
    pub snapshot: ArcSwap<Snapshot>,
    /// `snapshot.generation`, to look at without touching the pointer.
    pub generation: AtomicU64,
    /// All are notified after each swap.
    pub changed: Notify,
    /// All are notified when a place on an endpoint is freed for which a request of another worker may wait.
    pub freed: Notify,
}

/// What a worker tells the director. Sent with `try_send` on a bounded channel: a lost report is repeated by the next failure.
#[derive(Debug)]
pub enum Report {
    /// `failures_in_row` of this endpoint reached the pool's ejection threshold.
    Failing {
        /// `EndpointState::slot`
        endpoint: u32,
    },
}

/// A verdict that outlives the process (upgrade, restart): it belongs to the address and the check's definition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SavedVerdict {
    /// Pool.
    pub pool: String,
    /// Endpoint.
    pub endpoint: String,
    /// Fingerprint of the check's definition and the probed address.
    pub check: u64,
    /// The verdict.
    pub healthy: bool,
}

/// A handle on the director's thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Director {}

impl Director {
    /// STUB: starts the thread `weir-director`.
    pub fn start(_workers: usize, _saved: Vec<SavedVerdict>) -> std::io::Result<Director> {
        Ok(Director {})
    }

    /// STUB: builds the snapshot of this configuration, swaps it in and returns its generation. Unchanged pools keep everything.
    pub fn apply(&self, _config: Arc<Config>) -> u64 {
        0
    }

    /// STUB: what the workers read.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::default()
    }

    /// STUB: where the workers report.
    pub fn reports(&self) -> tokio::sync::mpsc::Sender<Report> {
        tokio::sync::mpsc::channel(1).0
    }

    /// STUB: a consistent picture.
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// STUB: to hand to the next process.
    pub fn saved_verdicts(&self) -> Vec<SavedVerdict> {
        Vec::new()
    }

    /// STUB: events from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        broadcast::channel(1).1
    }
}
