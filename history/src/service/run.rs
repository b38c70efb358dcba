//! The thread's life.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tracing::warn;
use weir_config::History;

use super::{Command, Done, Options, Reader, Report, Shared};
use crate::audit::Act;
use crate::store::{Start, Store, StoreError};
use crate::{Record, UnixMs};

/// Records of one transaction.
const BATCH: usize = 1024;

/// Records that wait in memory until the file can be used; the oldest go first.
const WAITING_MAX: usize = 50_000;

/// What the memory may hold while the file cannot be used.
const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// Between two tries to get the lock of the process before, and two tries to use a file that failed.
const LOCK_RETRY: Duration = Duration::from_millis(20);
const FILE_RETRY: Duration = Duration::from_secs(5);

/// Between two looks at hours that are over and at the room that is left, and between two at what is too old, which goes through all series.
const KEEP_ORDER: Duration = Duration::from_secs(60);
const FORGET: Duration = Duration::from_secs(600);

/// Damaged files that are set aside by one process, and kept at all; who finds more has another problem, which copies do not mend.
const ASIDE_MAX: u32 = 3;

/// Why there is only memory at first.
const WAITS: &str = "the process before still has the file";

pub(super) fn run(options: Options, commands: &Receiver<Command>, shared: &Shared) {
    let mut service = Service::new(options);
    service.try_file();
    loop {
        service.publish(shared);
        let stopped = match commands.recv_timeout(service.patience()) {
            Ok(command) => service.obey(command, commands),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        service.admit_losses(shared);
        service.keep_order();
        if let Some(stopped) = stopped {
            service.publish(shared);
            drop(service);
            // An error: nobody waits for it.
            let _ = stopped.send(());
            return;
        }
    }
}

/// What there is besides the file.
struct Memory {
    store: Store,
    /// To be written when the file can be used again.
    waiting: VecDeque<Record>,
    lost: u64,
    fault: String,
    /// It was told.
    told: bool,
}

struct Service {
    path: PathBuf,
    settings: History,
    report: Box<dyn Fn(Report) + Send>,
    /// Held until this thread ends.
    lock: Option<File>,
    file: Option<Store>,
    /// There while the file cannot be written.
    memory: Option<Memory>,
    retry_at: Instant,
    order_at: Instant,
    forget_at: Instant,
    written: u64,
    lost: u64,
    /// Files that were set aside.
    aside: u32,
    /// Losses that the audit knows of.
    admitted: u64,
}

impl Service {
    fn new(options: Options) -> Service {
        let Options { state_dir, settings, report } = options;
        let now = Instant::now();
        let path = state_dir.join("history.db");
        let mut service = Service {
            path,
            settings,
            report,
            lock: None,
            file: None,
            memory: None,
            retry_at: now,
            order_at: now,
            forget_at: now,
            written: 0,
            lost: 0,
            aside: 0,
            admitted: 0,
        };
        service.begin_memory(WAITS.into());
        service
    }

    /// Until something is to be done without being told to.
    fn patience(&self) -> Duration {
        let at = if self.memory.is_some() { self.order_at.min(self.retry_at) } else { self.order_at };
        at.saturating_duration_since(Instant::now())
    }

    /// Takes the command and what waits behind it; records go into one transaction.
    fn obey(&mut self, first: Command, commands: &Receiver<Command>) -> Option<Sender<()>> {
        let (mut records, mut tell): (Vec<Record>, Vec<Done>) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Keep(record, done) => {
                    records.push(record);
                    tell.extend(done);
                    if records.len() >= BATCH {
                        self.write(std::mem::take(&mut records), std::mem::take(&mut tell));
                    }
                }
                other => {
                    // Whoever asks finds what was recorded before.
                    self.write(std::mem::take(&mut records), std::mem::take(&mut tell));
                    match other {
                        Command::Ask(question) => {
                            question(&Reader { file: self.file.as_ref(), memory: self.memory.as_ref().map(|memory| &memory.store) });
                        }
                        Command::Settings(settings) => {
                            (self.settings, self.order_at, self.forget_at) = (*settings, Instant::now(), Instant::now());
                        }
                        Command::Stop(stopped) => {
                            self.try_file();
                            return Some(stopped);
                        }
                        Command::Keep(..) => {}
                    }
                }
            }
            next = commands.try_recv().ok();
        }
        self.write(records, tell);
        None
    }

    fn write(&mut self, records: Vec<Record>, tell: Vec<Done>) {
        if records.is_empty() {
            return;
        }
        let kept = self.memory.is_none() && self.write_file(&records);
        if kept {
            self.written += records.len() as u64;
        } else if let Some(memory) = &mut self.memory {
            memory.keep(records);
        }
        tell.into_iter().for_each(|done| done(kept));
    }

    /// False: it failed, and from now on there is memory.
    fn write_file(&mut self, records: &[Record]) -> bool {
        let Some(file) = &mut self.file else { return false };
        let mut result = file.write(records);
        if matches!(result, Err(StoreError::Full { .. })) && file.forget(&self.settings, now()).is_ok() {
            result = file.write(records);
        }
        match result {
            Ok(()) => true,
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }

    fn failed(&mut self, error: StoreError) {
        let fault = error.to_string();
        let moved = matches!(error, StoreError::Damaged { .. }) && self.set_aside(&fault);
        if self.memory.is_none() {
            self.begin_memory(fault.clone());
        }
        let Some(memory) = &mut self.memory else { return };
        if !memory.told {
            (memory.told, memory.fault) = (true, fault.clone());
            (self.report)(Report::Failed { reason: fault });
        }
        self.retry_at = Instant::now() + if moved { Duration::ZERO } else { FILE_RETRY };
    }

    fn begin_memory(&mut self, fault: String) {
        let start = self.file.as_ref().map_or(Start::default(), Store::start);
        match Store::in_memory(start) {
            Ok(store) => self.memory = Some(Memory { store, waiting: VecDeque::new(), lost: 0, fault, told: false }),
            // Without memory there are other worries.
            Err(error) => warn!("{error}"),
        }
    }

    /// Moves a damaged file out of the way, so that a new one can be begun. False: it is still there.
    fn set_aside(&mut self, reason: &str) -> bool {
        self.file = None;
        if self.aside == ASIDE_MAX {
            return false;
        }
        let aside = self.path.with_extension(format!("damaged-{}-{}", now().0 / 1000, std::process::id()));
        if let Err(error) = std::fs::rename(&self.path, &aside) {
            warn!("{} cannot be moved: {error}", self.path.display());
            return false;
        }
        // They belong to the file that is no longer there.
        for tail in ["-wal", "-shm"] {
            let _ = std::fs::rename(with_tail(&self.path, tail), with_tail(&aside, tail));
        }
        self.aside += 1;
        forget_aside(&self.path);
        (self.report)(Report::SetAside { reason: reason.to_owned(), path: aside });
        true
    }

    /// Begins, or begins again, to use the file, and writes what waits for it.
    fn try_file(&mut self) {
        self.retry_at = Instant::now() + FILE_RETRY;
        if self.memory.is_none() {
            return;
        }
        match self.take_lock() {
            Ok(true) => {}
            Ok(false) => return self.retry_at = Instant::now() + LOCK_RETRY,
            Err(error) => {
                let path = self.path.clone();
                return self.failed(StoreError::Unusable { path, reason: error.to_string() });
            }
        }
        if self.file.is_none() {
            let opened = Store::open(&self.path).or_else(|error| {
                let moved = matches!(error, StoreError::Damaged { .. }) && self.set_aside(&error.to_string());
                if moved { Store::open(&self.path) } else { Err(error) }
            });
            match opened {
                Ok(store) => self.file = Some(store),
                Err(error) => return self.failed(error),
            }
        }
        self.catch_up();
    }

    /// One process of this node at a time writes. False: another one has it.
    fn take_lock(&mut self) -> std::io::Result<bool> {
        if self.lock.is_some() {
            return Ok(true);
        }
        let file = File::options().create(true).truncate(false).write(true).open(self.path.with_extension("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.lock = Some(file);
                Ok(true)
            }
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn catch_up(&mut self) {
        let Some(mut memory) = self.memory.take() else { return };
        let mut written = 0;
        while !memory.waiting.is_empty() {
            let batch: Vec<Record> = memory.waiting.iter().take(BATCH).cloned().collect();
            if let Err(error) = self.write_waiting(&batch) {
                self.memory = Some(memory);
                return self.failed(error);
            }
            memory.waiting.drain(..batch.len());
            written += batch.len() as u64;
        }
        self.written += written;
        self.lost += memory.lost;
        if memory.told {
            (self.report)(Report::Recovered { written, lost: memory.lost });
        }
    }

    fn write_waiting(&mut self, batch: &[Record]) -> Result<(), StoreError> {
        let Some(file) = &mut self.file else {
            return Err(StoreError::Unusable { path: self.path.clone(), reason: "it is not open".into() });
        };
        match file.write(batch) {
            Err(StoreError::Full { .. }) if file.forget(&self.settings, now()).is_ok() => file.write(batch),
            result => result,
        }
    }

    /// What found no place is missing from the audit; the audit says so.
    fn admit_losses(&mut self, shared: &Shared) {
        let lost = self.lost + shared.overrun.load(Ordering::Relaxed);
        if lost > self.admitted && self.memory.is_none() {
            let act = Act {
                at: now(),
                who: "history".into(),
                origin: "node".into(),
                act: "lose records".into(),
                subject: String::new(),
                outcome: "done".into(),
                detail: format!("{} records found no place and are not here", lost - self.admitted),
            };
            self.admitted = lost;
            self.write(vec![Record::Act(act)], Vec::new());
        }
    }

    fn keep_order(&mut self) {
        let at = Instant::now();
        if self.memory.is_some() && at >= self.retry_at {
            self.try_file();
        }
        if at < self.order_at {
            return;
        }
        self.order_at = at + KEEP_ORDER;
        let (settings, now) = (self.settings.clone(), now());
        if let Some(memory) = &mut self.memory {
            let small = History { size_max: MEMORY_BYTES_MAX, ..settings.clone() };
            // What cannot be forgotten is forgotten with the process.
            let _ = memory.store.forget(&small, now);
            return;
        }
        let Some(file) = &mut self.file else { return };
        let mut result = file.roll(now).map(drop);
        if result.is_ok() && (at >= self.forget_at || file.used_bytes() > settings.size_max) {
            self.forget_at = at + FORGET;
            result = file.forget(&settings, now);
        }
        if let Err(error) = result {
            self.failed(error);
        }
    }

    fn publish(&self, shared: &Shared) {
        let mut stats = shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = self.memory.as_ref();
        stats.fault = memory.map(|memory| memory.fault.clone());
        stats.waiting = memory.map_or(0, |memory| memory.waiting.len() as u64);
        stats.lost = self.lost + memory.map_or(0, |memory| memory.lost);
        stats.written = self.written;
        if let Some(file) = &self.file {
            (stats.used_bytes, stats.head) = (file.used_bytes(), file.head());
        }
    }
}

impl Memory {
    fn keep(&mut self, records: Vec<Record>) {
        // An error: it is not shown, but still waits to be written.
        let _ = self.store.write(&records);
        self.waiting.extend(records);
        let excess = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..excess);
        self.lost += excess as u64;
    }
}

/// Of damaged files the last few are kept.
fn forget_aside(path: &Path) {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else { return };
    let begin = format!("{stem}.damaged-");
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_aside = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&begin));
    let mut found: Vec<PathBuf> = names.filter(is_aside).collect();
    // Their names end with the time; the tails of one file stand beside it.
    found.sort();
    let is_database = |path: &&PathBuf| !["-wal", "-shm"].iter().any(|tail| path.to_string_lossy().ends_with(tail));
    let databases: Vec<PathBuf> = found.iter().filter(is_database).cloned().collect();
    for database in databases.iter().take(databases.len().saturating_sub(ASIDE_MAX as usize)) {
        for path in [database.clone(), with_tail(database, "-wal"), with_tail(database, "-shm")] {
            // An error: that one is not there.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
