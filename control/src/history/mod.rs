//! What was: the service of `weir-history`, fed with what happens on this node.
//!
//! ```text
//!   events ─────────► entries ─┐
//!      └──► audit (what the node decided) ─┼──► weir-history ──► history.db
//!   changes over the API ──► audit ────────┘         └─► events: the file fails, works again, was set aside
//! ```
//!
//! `entry`: events as entries, and those that are decisions as records of the audit; pure.

mod entry;

use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use weir_config::Config;
use weir_history::audit::Act;
use weir_history::point::Page;
use weir_history::service::{self, AskError, Handle, Options, Reader, Report, Stats};
use weir_history::store::StoreError;
use weir_history::{Record, UnixMs};

use crate::event::{Event, HistoryEvent};

/// Reports that wait to become events; there are a few in a bad week.
const REPORTS_MAX: usize = 64;

/// Pages of one record: what is recorded meanwhile does not wait for all of them.
const PAGES_MAX: usize = 500;

/// How long an answer to a change waits until the audit has it.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Keeps what was. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Historian {
    /// `None`: the file does not want it, or there is no thread for it.
    handle: Option<Handle>,
}

/// Why there is nothing to be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// The file says so.
    #[error("nothing is kept: `[history] enabled` is false")]
    Off,
    /// It does not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl Historian {
    /// Begins, and says where its reports come out.
    pub(crate) fn start(config: &Config) -> (Historian, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        if !config.history.enabled {
            return (Historian::default(), reports);
        }
        let report = Box::new(move |report| {
            // An error: the node has ended, or so much is wrong that one report more tells nothing new.
            let _ = sender.try_send(report);
        });
        let options = Options { state_dir: config.node.state_dir.clone(), settings: config.history.clone(), report };
        let started = service::start(options).inspect_err(|error| warn!(%error, "there is no thread for the history: nothing is kept"));
        (Historian { handle: started.ok() }, reports)
    }

    /// Something happened.
    pub(crate) fn event(&self, event: &Event) {
        let Some(handle) = &self.handle else { return };
        if let Some(act) = entry::act(event) {
            handle.keep(Record::Act(act));
        }
        handle.keep(Record::Entry(entry::entry(event)));
    }

    /// Somebody changed something. Waits until it is written, but not for long: a store that hangs must not hold up who answers.
    pub(crate) async fn act(&self, act: Act) {
        let Some(handle) = &self.handle else { return };
        let (sender, kept) = oneshot::channel();
        let done = Box::new(move |kept| {
            // An error: nobody waits any more.
            let _ = sender.send(kept);
        });
        handle.keep_and_tell(Record::Act(act), done);
        let _ = tokio::time::timeout(AUDIT_PATIENCE, kept).await;
    }

    /// Records something without waiting for it.
    pub(crate) fn note(&self, act: Act) {
        if let Some(handle) = &self.handle {
            handle.keep(Record::Act(act));
        }
    }

    /// What was measured.
    pub(crate) fn pages(&self, pages: Vec<Page>) {
        let Some(handle) = &self.handle else { return };
        for pages in pages.chunks(PAGES_MAX) {
            handle.keep(Record::Pages(pages.to_vec()));
        }
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.handle.is_some()
    }

    /// Asks the store. Blocks.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        Ok(self.handle.as_ref().ok_or(HistoryError::Off)?.ask(question)?)
    }

    /// What the file says now.
    pub(crate) fn apply(&self, config: &Config) {
        if let Some(handle) = &self.handle {
            handle.apply(&config.history);
        }
    }

    /// How the store is; `None`: nothing is kept.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.handle.as_ref().map(Handle::stats)
    }

    /// Writes what waits, and lets the next process have the file. Blocks.
    pub(crate) fn stop(&self) {
        if let Some(handle) = &self.handle {
            handle.stop();
        }
    }
}

/// A report as an event.
pub(crate) fn event(report: Report) -> HistoryEvent {
    match report {
        Report::Failed { reason } => HistoryEvent::Failed { reason },
        Report::Recovered { written, lost } => HistoryEvent::Recovered { written, lost },
        Report::SetAside { reason, path } => HistoryEvent::SetAside { reason, path: path.display().to_string() },
    }
}

/// Makes the reports of the service events.
pub(crate) async fn pump(log: impl AsRef<crate::node::EventLog>, mut reports: mpsc::Receiver<Report>) {
    while let Some(report) = reports.recv().await {
        log.as_ref().record(event(report));
    }
}

/// A moment, as the store has it.
pub(crate) fn moment(at: SystemTime) -> UnixMs {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Who starts, and with what.
pub(crate) fn start_act(version: &str, config_sha256: &str, config_path: &std::path::Path) -> Act {
    Act {
        at: moment(SystemTime::now()),
        who: "weir".into(),
        origin: "node".into(),
        act: "start".into(),
        subject: String::new(),
        outcome: "done".into(),
        detail: format!("version {version}, pid {}, {} with SHA-256 {config_sha256}", std::process::id(), config_path.display()),
    }
}
