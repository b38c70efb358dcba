//! Writes the access log, off the request path.
//!
//! ```text
//!   workers ── chunks of whole lines, try_send ──► bounded channel ──► thread `weir-access-log` ──► file or stdout
//! ```
//!
//! Nothing here can hold up a worker: while the disk is slow the channel fills and the workers drop and count lines; what cannot be written
//! (disk full, reader gone) is dropped and counted by the thread. Either way the node goes on serving.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;
use weir_config::{AccessLog as Settings, AccessLogTarget};
use weir_lb::shell::LogSink;

/// Chunks that may wait to be written. With chunks of 64 KiB that is 16 MiB, some hundred milliseconds of a busy node.
const CHUNKS_MAX: usize = 256;
/// How often a log that cannot be written is complained about.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long the end waits for the last chunks to be written.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// A running access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    settings: Settings,
    chunks: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    wishes: Arc<Wishes>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// What the thread is asked for; looked at before each chunk.
#[derive(Debug, Default)]
struct Wishes {
    reopen: AtomicBool,
    finish: AtomicBool,
}

impl AccessLog {
    /// Opens the target and starts the thread. `dropped` counts lines that nobody will read.
    pub(crate) fn start(settings: &Settings, dropped: Arc<AtomicU64>) -> io::Result<AccessLog> {
        let target = open(&settings.target)?;
        let (chunks, received) = sync_channel(CHUNKS_MAX);
        let (ending, ended) = sync_channel(0);
        let wishes = Arc::new(Wishes::default());
        let mut writer =
            Writer { settings: settings.clone(), target, dropped: dropped.clone(), torn: false, complaint: Complaint::default() };
        let asked = wishes.clone();
        thread::Builder::new().name("weir-access-log".into()).spawn(move || {
            writer.run(&received, &asked);
            drop(ending);
        })?;
        Ok(AccessLog { settings: settings.clone(), chunks, dropped, wishes, ended })
    }

    /// Where the workers send their lines.
    pub(crate) fn sink(&self) -> LogSink {
        LogSink { format: self.settings.format, chunks: self.chunks.clone(), dropped: self.dropped.clone() }
    }

    /// Opens the file again, after it was renamed.
    pub(crate) fn reopen(&self) {
        self.wishes.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what has been sent and ends. To be called after the workers have ended.
    pub(crate) fn finish(self) {
        self.wishes.finish.store(true, Ordering::Release);
        self.wake();
        // Disconnected is the end; a timeout means that the target is stuck, and then its lines are lost anyway.
        if self.ended.recv_timeout(FINISH_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            warn!("the access log cannot be written: its last lines are lost");
        }
    }

    /// An empty chunk makes the thread look at its wishes. When the channel is full it is awake already.
    fn wake(&self) {
        let _ = self.chunks.try_send(Vec::new());
    }
}

fn open(target: &AccessLogTarget) -> io::Result<File> {
    match target {
        AccessLogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        AccessLogTarget::File(path) => File::options().append(true).create(true).open(path),
    }
}

struct Writer {
    settings: Settings,
    target: File,
    dropped: Arc<AtomicU64>,
    /// The last line was cut in the middle: the next begins on a line of its own.
    torn: bool,
    complaint: Complaint,
}

impl Writer {
    /// Until nobody can send any more, or the end is wished for and nothing is left.
    fn run(&mut self, chunks: &Receiver<Vec<u8>>, wishes: &Wishes) {
        while let Ok(chunk) = chunks.recv() {
            if wishes.reopen.swap(false, Ordering::AcqRel) {
                // What was sent before the wish belongs into the old file, but a chunk more or less is of no use to anybody.
                self.reopen();
            }
            self.write(&chunk);
            if wishes.finish.load(Ordering::Acquire) {
                while let Ok(chunk) = chunks.try_recv() {
                    self.write(&chunk);
                }
                return;
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.settings.target) {
            Ok(target) => {
                self.target = target;
                self.torn = false;
            }
            Err(error) => warn!(target = %describe(&self.settings.target), %error, "cannot open the access log again: the old one stays"),
        }
    }

    fn write(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        let mut rest = chunk;
        let result = if self.torn { write_whole(&mut self.target, &mut &b"\n"[..]) } else { Ok(()) };
        let result = result.and_then(|()| {
            self.torn = false;
            write_whole(&mut self.target, &mut rest)
        });
        let Err(error) = result else { return };
        let written = chunk.len() - rest.len();
        self.torn |= written > 0 && chunk[written - 1] != b'\n';
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        if let Some(lines) = self.complaint.handle_loss(lost, Instant::now()) {
            warn!(target = %describe(&self.settings.target), %error, lines, "cannot write the access log: lines are dropped");
        }
    }
}

fn describe(target: &AccessLogTarget) -> std::path::Display<'_> {
    match target {
        AccessLogTarget::Stdout => Path::new("stdout").display(),
        AccessLogTarget::File(path) => path.display(),
    }
}

/// Like `write_all`, but says how far it came.
fn write_whole(target: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match target.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says when to complain: at the first loss, then at most once in [`WARN_EVERY`], with all that was lost since.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    lost: u64,
}

impl Complaint {
    fn handle_loss(&mut self, lines: u64, now: Instant) -> Option<u64> {
        self.lost += lines;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < WARN_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use weir_config::AccessLogFormat;

    use super::*;

    fn start(path: PathBuf) -> (AccessLog, Arc<AtomicU64>) {
        let dropped = Arc::new(AtomicU64::new(0));
        let settings = Settings { target: AccessLogTarget::File(path), format: AccessLogFormat::Json };
        (AccessLog::start(&settings, dropped.clone()).expect("started"), dropped)
    }

    /// Waits until the file holds this.
    fn await_content(path: &Path, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(path).unwrap_or_default() != expected {
            assert!(Instant::now() < deadline, "{} does not become {expected:?}", path.display());
            thread::yield_now();
        }
    }

    #[test]
    fn a_renamed_file_is_opened_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (log, dropped) = start(path.clone());
        let sink = log.sink();
        sink.chunks.send(b"one\n".to_vec()).expect("running");
        await_content(&path, "one\n");
        fs::rename(&path, &old).expect("renamed");
        log.reopen();
        await_content(&path, "");
        while !path.exists() {
            thread::yield_now();
        }
        sink.chunks.send(b"two\n".to_vec()).expect("running");
        await_content(&path, "two\n");
        assert_eq!(fs::read_to_string(&old).expect("kept"), "one\n");
        log.finish();
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_end_writes_what_was_sent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("access.log");
        let (log, _) = start(path.clone());
        // A sink that somebody still holds must not hold up the end.
        let sink = log.sink();
        for _ in 0..100 {
            sink.chunks.send(b"line\n".to_vec()).expect("running");
        }
        log.finish();
        assert_eq!(fs::read_to_string(&path).expect("written"), "line\n".repeat(100));
    }

    #[test]
    fn a_full_disk_drops_and_counts() {
        let (log, dropped) = start("/dev/full".into());
        let sink = log.sink();
        for _ in 0..1000 {
            sink.chunks.send(b"one\ntwo\n".to_vec()).expect("running");
        }
        log.finish();
        assert_eq!(dropped.load(Ordering::Relaxed), 2000);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_the_start() {
        let settings = Settings { target: AccessLogTarget::File("/nonexistent/access.log".into()), format: AccessLogFormat::Text };
        assert!(AccessLog::start(&settings, Arc::default()).is_err());
    }

    #[test]
    fn a_cut_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("access.log");
        let settings = Settings { target: AccessLogTarget::File(path.clone()), format: AccessLogFormat::Text };
        let target = open(&settings.target).expect("opened");
        let mut writer = Writer { settings, target, dropped: Arc::default(), torn: true, complaint: Complaint::default() };
        writer.write(b"next\n");
        writer.write(b"and next\n");
        assert_eq!(fs::read_to_string(&path).expect("written"), "\nnext\nand next\n");
    }

    #[test]
    fn complaints_are_rare_and_lose_no_count() {
        let (mut complaint, start) = (Complaint::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(complaint.handle_loss(2, at(0)), Some(2));
        assert_eq!(complaint.handle_loss(3, at(1)), None);
        assert_eq!(complaint.handle_loss(4, at(59)), None);
        assert_eq!(complaint.handle_loss(5, at(60)), Some(12));
        assert_eq!(complaint.handle_loss(1, at(61)), None);
    }
}
