//! A damaged, full or read-only file never stops who records: it is told, what happens goes on in memory, and is written when that is
//! possible again. A kill loses nothing that was said to be written.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use weir_config::History;
use weir_history::audit::Act;
use weir_history::service::{Handle, Options, Report, start};
use weir_history::store::{Asked, Store};
use weir_history::{Entry, Record, UnixMs};

const PATIENCE: Duration = Duration::from_secs(30);

fn service(folder: &Path) -> (Handle, Receiver<Report>) {
    let (told, reports) = channel();
    let report = Box::new(move |report| _ = told.send(report));
    let options = Options { state_dir: folder.to_owned(), settings: History::default(), report };
    (start(options).expect("a thread"), reports)
}

/// The begin of the day: what is older than the file wants it kept goes at once.
fn today() -> u64 {
    static TODAY: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let now = || std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("later than 1970").as_millis();
    *TODAY.get_or_init(|| now() as u64 / 86_400_000 * 86_400_000)
}

fn entry(number: u64) -> Record {
    let body = format!("{{\"number\":{number},\"filler\":\"{}\"}}", "x".repeat(500));
    Record::Entry(Entry { at: UnixMs(today() + number), kind: "test".into(), subject: String::new(), body })
}

fn act(number: u64) -> Record {
    Record::Act(Act { at: UnixMs(number), who: "test".into(), subject: number.to_string(), ..Act::default() })
}

/// Entries that are shown, all pages.
fn entries(handle: &Handle) -> Vec<u64> {
    let mut found = Vec::new();
    let mut asked = Asked { limit: 1000, ..Asked::default() };
    loop {
        let page = handle
            .ask({
                let asked = asked.clone();
                move |reader| reader.entries(&asked)
            })
            .expect("answered");
        let Some(last) = page.last() else { return found };
        asked.before = Some(last.id);
        found.extend(page.iter().map(|kept| kept.entry.at.0 - today()));
    }
}

/// Waits until it is or is not in the file.
fn wait_for(handle: &Handle, what: &str, holds: impl Fn(&Handle) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(handle) {
        assert!(Instant::now() < deadline, "{what}: {:?}", handle.stats());
        // A question goes through the queue: it waits for what is recorded.
        let _ = handle.ask(|reader| reader.catalog());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn what_is_recorded_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (handle, reports) = service(folder.path());
    wait_for(&handle, "the file", |handle| handle.stats().fault.is_none());
    let (told, done) = channel();
    (1..=3).for_each(|number| handle.keep(entry(number)));
    handle.keep_and_tell(act(1), Box::new(move |kept| _ = told.send(kept)));
    assert_eq!(done.recv_timeout(PATIENCE), Ok(true));
    assert_eq!(entries(&handle), [3, 2, 1]);
    handle.stop();
    handle.keep(entry(4));
    let (handle, _reports) = service(folder.path());
    wait_for(&handle, "the file", |handle| handle.stats().fault.is_none());
    assert_eq!(entries(&handle), [3, 2, 1]);
    assert_eq!(reports.try_iter().collect::<Vec<_>>(), []);
}

/// At an upgrade both run; the new one's records are written when the old one has let go.
#[test]
fn two_processes_do_not_write_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, _) = service(folder.path());
    // Not the figures: before the first look at the file they tell of no fault either.
    wait_for(&old, "the file", |handle| handle.ask(|reader| Ok(reader.has_file())).expect("answered"));
    old.keep(entry(1));
    let (new, reports) = service(folder.path());
    new.keep(entry(3));
    new.keep(act(2));
    assert_eq!(entries(&new), [3], "only what it knows itself");
    wait_for(&new, "the process before to be noticed", |handle| handle.stats().fault.is_some_and(|fault| fault.contains("process before")));
    old.keep(entry(2));
    old.keep(act(1));
    old.stop();
    wait_for(&new, "the file", |handle| handle.stats().fault.is_none());
    assert_eq!(entries(&new), [3, 2, 1]);
    let verified = new.ask(|reader| reader.verify(None)).expect("answered").expect("a store");
    assert_eq!((verified.checked, verified.result.is_ok()), (2, true));
    assert_eq!(reports.try_iter().collect::<Vec<_>>(), [], "nothing to worry about");
}

#[test]
fn a_damaged_file_is_set_aside() {
    let mut random = fastrand::Rng::with_seed(20);
    for round in 0..12 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let mut store = Store::open(&path).expect("a store");
        store.write(&(1..=400).map(entry).collect::<Vec<_>>()).expect("written");
        drop(store);
        let mut bytes = std::fs::read(&path).expect("read");
        match round {
            0 => bytes.truncate(bytes.len() / 2 + 100),
            1 => bytes[..16].fill(0),
            _ => {
                // A page somewhere behind the first.
                let at = random.usize(1..bytes.len() / 4096) * 4096;
                bytes[at..at + 4096].fill_with(|| random.u8(..));
            }
        }
        std::fs::write(&path, &bytes).expect("written");
        let (handle, reports) = service(folder.path());
        handle.keep(entry(1000));
        let Ok(Report::SetAside { path: aside, .. }) = reports.recv_timeout(PATIENCE) else { panic!("round {round}: not noticed") };
        assert!(std::fs::read(&aside).expect("kept") == bytes, "round {round}: for somebody to look at");
        wait_for(&handle, "a new file", |handle| handle.stats().fault.is_none());
        assert_eq!(entries(&handle), [1000], "round {round}");
        handle.stop();
        assert!(Store::open(&path).is_ok(), "round {round}");
    }
}

#[test]
fn without_a_folder_it_goes_on_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("later");
    let (handle, reports) = service(&missing);
    handle.keep(entry(1));
    let (told, done) = channel();
    handle.keep_and_tell(act(1), Box::new(move |kept| _ = told.send(kept)));
    assert_eq!(done.recv_timeout(PATIENCE), Ok(false), "not written");
    assert!(matches!(reports.recv_timeout(PATIENCE), Ok(Report::Failed { .. })));
    assert_eq!(entries(&handle), [1]);
    std::fs::create_dir(&missing).expect("made");
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Recovered { written: 2, lost: 0 }));
    handle.stop();
    assert_eq!(Store::open(&missing.join("history.db")).expect("a store").head().number, 1);
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    drop(Store::open(&path).expect("a store"));
    rusqlite::Connection::open(&path).expect("opened").pragma_update(None, "user_version", 99).expect("written");
    let (handle, reports) = service(folder.path());
    let Ok(Report::Failed { reason }) = reports.recv_timeout(PATIENCE) else { panic!("not told") };
    assert!(reason.contains("newer program"), "{reason}");
    handle.keep(entry(1));
    assert_eq!(entries(&handle), [1]);
    handle.stop();
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("read")
            .filter(|e| e.as_ref().is_ok_and(|e| e.path() != path.with_extension("lock")))
            .count(),
        1
    );
}

/// A file system of its own, small; gone with the test.
struct Disk(PathBuf);

impl Disk {
    /// `None`: this user may not mount one.
    fn small(folder: &Path) -> Option<Disk> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder).status();
        mounted.is_ok_and(|status| status.success()).then(|| Disk(folder.to_owned()))
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().expect("mount runs");
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_or_read_only_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::small(folder.path()) else {
        eprintln!("not run: it takes root to mount a small file system");
        return;
    };
    let (handle, reports) = service(folder.path());
    wait_for(&handle, "the file", |handle| handle.stats().fault.is_none());
    let filler = folder.path().join("filler");
    std::fs::write(&filler, vec![1; 1 << 20]).expect("written");
    let mut number = 0;
    let failed = loop {
        (0..100).for_each(|_| {
            number += 1;
            handle.keep(entry(number));
        });
        entries(&handle);
        if let Ok(report) = reports.try_recv() {
            break report;
        }
        assert!(number < 100_000, "never full");
    };
    let Report::Failed { reason } = failed else { panic!("{failed:?}") };
    assert!(reason.contains("no room"), "{reason}");
    handle.keep(act(1));
    let all = |number: u64| (1..=number).rev().collect::<Vec<_>>();
    assert!(entries(&handle) == all(number), "everything is shown");
    std::fs::remove_file(&filler).expect("removed");
    let Ok(Report::Recovered { written, lost: 0 }) = reports.recv_timeout(PATIENCE) else { panic!("not recovered") };
    assert!(written > 1);
    handle.stop();
    disk.remount("ro");
    let (handle, reports) = service(folder.path());
    number += 1;
    handle.keep(entry(number));
    assert!(matches!(reports.recv_timeout(PATIENCE), Ok(Report::Failed { .. })));
    assert_eq!(entries(&handle), [number]);
    disk.remount("rw");
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Recovered { written: 1, lost: 0 }));
    assert!(entries(&handle) == all(number), "nothing is lost, nothing is there twice");
    handle.stop();
    let store = Store::open(&folder.path().join("history.db")).expect("whole");
    assert_eq!(store.verify(None).expect("read").result, Ok(store.head()));
}

/// Not a test: what the next one kills. It says which records were written.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("WEIR_HISTORY_CHILD") else { return };
    let begin: u64 = std::env::var("WEIR_HISTORY_BEGIN").expect("set").parse().expect("a number");
    let (handle, _reports) = service(Path::new(&folder));
    let (told, done) = channel();
    for number in begin.. {
        let told = told.clone();
        handle.keep(entry(number));
        handle.keep_and_tell(act(number), Box::new(move |kept| _ = told.send((number, kept))));
        let (number, kept) = done.recv().expect("told");
        if kept {
            println!("written {number}");
            std::io::stdout().flush().expect("flushed");
        }
    }
}

#[test]
fn a_kill_loses_nothing_that_was_said_to_be_written() {
    let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("WEIR_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut written: Vec<u64> = Vec::new();
    for round in 0..15 {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child", "--exact", "--nocapture", "--test-threads=1"]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env("WEIR_HISTORY_CHILD", folder.path()).env("WEIR_HISTORY_BEGIN", (round * 1_000_000).to_string());
        let mut child = command.spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut left = random.u32(1..60);
        let pause = Duration::from_micros(random.u64(0..3000));
        for line in lines {
            let line = line.expect("text");
            let Some((_, number)) = line.split_once("written ") else { continue };
            written.push(number.trim().parse().expect("a number"));
            left -= 1;
            if left == 0 {
                // Somewhere in the middle of the next.
                std::thread::sleep(pause);
                child.kill().expect("killed");
                break;
            }
        }
        child.wait().expect("ended");
        let store = Store::open(&folder.path().join("history.db")).unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
        let verified = store.verify(None).expect("read");
        assert_eq!(verified.result, Ok(store.head()), "seed {seed} round {round}");
        let mut there = std::collections::BTreeSet::new();
        let mut asked = Asked { limit: 1000, ..Asked::default() };
        loop {
            let page = store.acts(&asked).expect("read");
            let Some(last) = page.last() else { break };
            asked.before = Some(last.number);
            for sealed in &page {
                assert!(there.insert(sealed.act.at.0), "seed {seed} round {round}: {} is there twice", sealed.act.at.0);
            }
        }
        for number in &written {
            assert!(there.contains(number), "seed {seed} round {round}: {number} was said to be written");
        }
    }
    assert!(written.len() > 15, "seed {seed}");
}
