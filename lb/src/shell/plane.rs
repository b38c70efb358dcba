//! The whole data plane as one handle. STUB of the interface.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{AccessLogFormat, Config};

use crate::director::{Director, SavedVerdict};

/// A listening socket handed to, or over by, another process.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The address it listens on.
    pub address: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
}

/// Where access log lines go: whole lines, in chunks. The receiver writes and returns; when it is full, lines are dropped and counted.
#[derive(Clone, Debug)]
pub struct LogSink {
    /// How a line is written.
    pub format: AccessLogFormat,
    /// Chunks of whole lines, sent by the workers with `try_send`.
    pub chunks: std::sync::mpsc::SyncSender<Vec<u8>>,
    /// Lines that were dropped because the channel was full.
    pub dropped: Arc<std::sync::atomic::AtomicU64>,
}

/// What a data plane starts with besides its configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Sockets of a previous process. Those whose address is not in the configuration are closed after their queue is served.
    pub inherited: Vec<ListeningSocket>,
    /// Verdicts of a previous process.
    pub saved: Vec<SavedVerdict>,
    /// Access log; `None`: off.
    pub log: Option<LogSink>,
}

/// Why a configuration could not take effect. The old one is still running.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A new address could not be bound.
    #[error("listener `{listener}`: cannot listen on {address}")]
    Bind {
        /// Listener.
        listener: String,
        /// Address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What is still open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainProgress {
    /// Client connections, idle ones included.
    pub connections: u64,
    /// Requests and sessions under way.
    pub in_flight: u64,
}

/// The running data plane: workers, director, listeners.
#[derive(Debug)]
pub struct DataPlane {}

impl DataPlane {
    /// STUB: binds, starts the workers and serves. Fails whole: nothing is left running.
    pub fn start(_config: Arc<Config>, _options: Options) -> Result<DataPlane, ApplyError> {
        Ok(DataPlane {})
    }

    /// STUB: makes a new configuration take effect: bind new, swap, close removed. Blocks for milliseconds. Calls are serialised.
    pub fn apply(&self, _config: Arc<Config>) -> Result<u64, ApplyError> {
        Ok(0)
    }

    /// STUB: changes where access log lines go.
    pub fn set_log(&self, _log: Option<LogSink>) {}

    /// The director: status, events, verdicts.
    pub fn director(&self) -> &Director {
        unreachable!("stub")
    }

    /// STUB: copies of all listening sockets, for another process. Accepting goes on here until [`DataPlane::stop_accepting`].
    pub fn listening_sockets(&self) -> std::io::Result<Vec<ListeningSocket>> {
        Ok(Vec::new())
    }

    /// STUB: the number of workers.
    pub fn workers(&self) -> usize {
        0
    }

    /// STUB: stops accepting. With `hand_over` the queue is left to the process that has copies of the sockets; without, the queue is
    /// accepted and served first. From then on responses carry `Connection: close` and idle connections close after their next request.
    pub fn stop_accepting(&self, _hand_over: bool) {}

    /// What is still open.
    pub fn drain_progress(&self) -> DrainProgress {
        DrainProgress::default()
    }

    /// STUB: cuts what is left after `deadline` and ends the threads. Returns what was cut.
    pub fn shutdown(self, _deadline: Duration) -> DrainProgress {
        DrainProgress::default()
    }
}
