//! The running node: the one place where changes are made, one after the other. STUB of the interface.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use weir_config::{AdminState, Config, Endpoint, EndpointAddress, Weight};
use weir_lb::event::Event;
use weir_lb::shell::DrainProgress;
use weir_lb::status::Status;

/// Facts about the process.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// `[node] name`
    pub name: String,
    /// Version of the program.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_at: SystemTime,
    /// Grows with each change of the effective configuration; changes may name the one they are based on.
    pub revision: u64,
    /// The file.
    pub config_path: PathBuf,
    /// SHA-256 of the file in effect, hexadecimal.
    pub config_sha256: String,
    /// Serving: the data plane is up and not draining.
    pub ready: bool,
    /// A stop or an upgrade is under way.
    pub draining: bool,
    /// When the file last took effect, or was refused, and why.
    pub last_reload: Option<(SystemTime, Result<(), String>)>,
}

/// What a reload did, or would do.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// The new revision.
    pub revision: u64,
    /// One line for each difference; empty: nothing changed.
    pub changes: Vec<String>,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such pool or endpoint; the text names the nearest.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or the revision it was based on is not the current one.
    #[error("{0}")]
    Conflict(String),
    /// The file or the value is wrong; the text is the whole explanation.
    #[error("{0}")]
    Invalid(String),
    /// It could not be carried out.
    #[error("{0}")]
    Failed(String),
}

/// A change to one endpoint at run time. It is kept in the state folder and lies over the file: it survives reload, upgrade and restart.
#[derive(Clone, Debug)]
pub enum EndpointChange {
    /// A new endpoint.
    Add(Endpoint),
    /// Gone, at once for new work; what is in flight finishes.
    Remove,
    /// Ready, draining or maintenance.
    State(AdminState),
    /// Another weight.
    Weight(Weight),
}

/// A handle on the node. Cheap to clone.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// STUB
    pub fn info(&self) -> NodeInfo {
        unreachable!()
    }

    /// STUB: the configuration in effect: the file with the run-time changes over it.
    pub fn config(&self) -> Arc<Config> {
        unreachable!()
    }

    /// STUB
    pub fn status(&self) -> Status {
        unreachable!()
    }

    /// STUB
    pub fn drain_progress(&self) -> DrainProgress {
        unreachable!()
    }

    /// STUB: reads the file again and makes it take effect; with `dry_run` only says what would change.
    pub async fn reload(&self, _dry_run: bool) -> Result<ReloadReport, ChangeError> {
        unreachable!()
    }

    /// STUB: changes one endpoint; returns the new revision. `based_on`: refuse unless that is the current revision.
    pub async fn change(
        &self,
        _pool: &str,
        _endpoint: &EndpointAddress,
        _change: EndpointChange,
        _based_on: Option<u64>,
    ) -> Result<u64, ChangeError> {
        unreachable!()
    }

    /// STUB: starts `binary` (default: the path this program was started from), hands over the sockets, and drains. Returns the new process id once
    /// it serves.
    pub async fn upgrade(&self, _binary: Option<PathBuf>) -> Result<u32, ChangeError> {
        unreachable!()
    }

    /// STUB: events with a number greater than `after`, oldest first, at most `limit`; the last 10,000 are kept.
    pub fn events_after(&self, _after: u64, _limit: usize) -> Vec<(u64, Arc<Event>)> {
        unreachable!()
    }

    /// STUB: resolves when there are events with a number greater than `after`.
    pub async fn events_wait(&self, _after: u64) {
        unreachable!()
    }

    /// STUB: lines of the access log that were dropped.
    pub fn access_log_dropped(&self) -> u64 {
        unreachable!()
    }
}
