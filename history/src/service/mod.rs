//! The thread that owns the store.
//!
//! ```text
//!   handle ──commands (bounded)──► thread ──► file
//!                                    │ a fault          ▲ what was not kept, when it works again
//!                                    └──────► memory ───┘
//! ```
//!
//! A fault of the file never reaches whoever records. It is reported once, and once more when it is over; meanwhile what happens is kept in
//! memory, shown like all the rest, and written when that is possible again. A file that is damaged is set aside and a new one begun.
//!
//! One process of a node at a time has the file: a lock on the folder decides. At an upgrade the new process begins in memory.

mod run;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_config::History;

use crate::Record;
use crate::audit::Head;
use crate::point::{Point, Series, by_steps};
use crate::store::{Acts, Asked, Found, SeriesAsked, Store, StoreError, Verified};

/// Commands that wait; beyond them what is recorded is left out, and counted.
const COMMANDS_MAX: usize = 16_384;

/// How long a question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How to start.
pub struct Options {
    /// Where `history.db` is.
    pub state_dir: PathBuf,
    /// What the file says.
    pub settings: History,
    /// Is told what happens, on the service's thread.
    pub report: Box<dyn Fn(Report) + Send>,
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The file cannot be used: what happens is kept in memory alone.
    Failed {
        /// Why.
        reason: String,
    },
    /// It can be used again.
    Recovered {
        /// Records that were kept meanwhile and are in the file now.
        written: u64,
        /// Records that found no place.
        lost: u64,
    },
    /// A damaged file was set aside, and a new one begun.
    SetAside {
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        path: PathBuf,
    },
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much is to be written, or the service has ended.
    #[error("the history does not answer now: try again in a moment")]
    Busy,
}

/// How the store is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// It is written to the file; else it is in memory alone, for this reason.
    pub fault: Option<String>,
    /// Bytes that are in use.
    pub used_bytes: u64,
    /// The end of the audit, as it is in the file.
    pub head: Head,
    /// Records that were written.
    pub written: u64,
    /// Records that found no place.
    pub lost: u64,
    /// Records that wait in memory until the file can be used.
    pub waiting: u64,
}

/// Called when a record was written, with true, or kept in memory alone.
pub type Done = Box<dyn FnOnce(bool) + Send>;

enum Command {
    Keep(Record, Option<Done>),
    Ask(Box<dyn FnOnce(&Reader<'_>) + Send>),
    Settings(Box<History>),
    Stop(Sender<()>),
}

#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<Stats>,
    /// Left out because too many waited.
    overrun: AtomicU64,
    stopping: AtomicBool,
}

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Keep(..) => "Keep",
            Command::Ask(_) => "Ask",
            Command::Settings(_) => "Settings",
            Command::Stop(_) => "Stop",
        })
    }
}

/// Starts it.
///
/// # Errors
///
/// There is no thread for it.
pub fn start(options: Options) -> std::io::Result<Handle> {
    let (commands, received) = sync_channel(COMMANDS_MAX);
    let shared = Arc::new(Shared::default());
    let seen = shared.clone();
    let thread = std::thread::Builder::new().name("weir-history".into()).spawn(move || run::run(options, &received, &seen))?;
    Ok(Handle { commands, shared, thread: Arc::new(Mutex::new(Some(thread))) })
}

impl Handle {
    /// Records something. Never waits; what finds no place is counted.
    pub fn keep(&self, record: Record) {
        self.send(record, None);
    }

    /// Records something, and says when it is written. `done` is also called, with false, when there is no place for it.
    pub fn keep_and_tell(&self, record: Record, done: Done) {
        self.send(record, Some(done));
    }

    fn send(&self, record: Record, done: Option<Done>) {
        let refused = match self.commands.try_send(Command::Keep(record, done)) {
            Ok(()) => return,
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => command,
        };
        self.shared.overrun.fetch_add(1, Ordering::Relaxed);
        if let Command::Keep(_, Some(done)) = refused {
            done(false);
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or does not answer.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AskError> {
        let (sender, answer): (_, Receiver<_>) = channel();
        let ask = Command::Ask(Box::new(move |reader| {
            // An error: nobody waits any more.
            let _ = sender.send(question(reader));
        }));
        self.commands.try_send(ask).map_err(|_| AskError::Busy)?;
        match answer.recv_timeout(ANSWER_TIMEOUT) {
            Ok(result) => Ok(result?),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(AskError::Busy),
        }
    }

    /// Other settings.
    pub fn apply(&self, settings: &History) {
        // Full: so much is under way that the next change, or the next start, has to bring them.
        let _ = self.commands.try_send(Command::Settings(Box::new(settings.clone())));
    }

    /// How the store is.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.lost += self.shared.overrun.load(Ordering::Relaxed);
        stats
    }

    /// Writes what waits and lets go of the file. Blocks, for five seconds at most. What is recorded from then on is left out.
    pub fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let (sender, ended) = channel();
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        // A thread that hangs in a system call must not hold up the end.
        if self.commands.try_send(Command::Stop(sender)).is_ok()
            && ended.recv_timeout(PATIENCE).is_ok()
            && let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let _ = thread.join();
        }
    }
}

/// What questions are put to: the file, and what is in memory because it could not be written.
#[derive(Debug)]
pub struct Reader<'a> {
    file: Option<&'a Store>,
    memory: Option<&'a Store>,
}

impl Reader<'_> {
    fn stores(&self) -> impl Iterator<Item = &Store> {
        self.memory.into_iter().chain(self.file)
    }

    /// Whether the file is open; else all there is to be read is in memory.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Entries, the latest first.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn entries(&self, asked: &Asked) -> Result<Found, StoreError> {
        self.page(asked, Store::entries)
    }

    /// Records of the audit, the latest first.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn acts(&self, asked: &Asked) -> Result<Acts, StoreError> {
        self.page(asked, Store::acts)
    }

    /// What is in memory is all newer than what is in the file.
    fn page<T>(&self, asked: &Asked, read: impl Fn(&Store, &Asked) -> Result<Vec<T>, StoreError>) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        for store in self.stores() {
            let missing = asked.limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            if missing > 0 {
                found.extend(read(store, &Asked { limit: missing, ..asked.clone() })?);
            }
        }
        Ok(found)
    }

    /// Looks at the whole audit of the file; while there is none, at that in memory.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn verify(&self, noted: Option<Head>) -> Result<Option<Verified>, StoreError> {
        self.file.or(self.memory).map(|store| store.verify(noted)).transpose()
    }

    /// The points of a series.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn series(&self, asked: &SeriesAsked) -> Result<Vec<Point>, StoreError> {
        let mut points = Vec::new();
        for store in self.stores() {
            points.extend(store.series(asked)?);
        }
        points.sort_by_key(|point: &Point| point.at);
        Ok(by_steps(points, asked.clone().bounded().step_ms))
    }

    /// All series.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn catalog(&self) -> Result<Vec<Series>, StoreError> {
        let mut all = Vec::new();
        for store in self.stores() {
            all.extend(store.catalog()?);
        }
        all.sort();
        all.dedup();
        Ok(all)
    }
}
