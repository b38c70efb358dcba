//! `scripts/quickstart`, as a person runs it: complete, twice in a row, interrupted at three moments, and killed. Nothing is left behind.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A whole show, on a machine that emulates its guests and does other things beside.
const SHOW: Duration = Duration::from_secs(900);
/// Until everything that was begun is taken away.
const END: Duration = Duration::from_secs(120);

/// One show at a time: they all have the same name.
static ALONE: Mutex<()> = Mutex::new(());

struct Show {
    child: Child,
    said: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the programs are, all three of them.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_weir")).parent().expect("a program is in a folder").to_owned();
    for program in ["weir-libvirt", "lab"] {
        assert!(
            folder.join(program).exists(),
            "{program} is missing in {}; run: cargo build -p weir-libvirt -p weir-lab",
            folder.display()
        );
    }
    folder
}

fn script(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/quickstart"));
    command.args(words).env("WEIR_QUICKSTART_BIN", programs()).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

impl Show {
    fn start() -> Show {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = script(folder.path(), &["--no-wait"]);
        // A group of its own: a terminal would send Ctrl-C to it alone.
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer).process_group(0);
        let child = command.spawn().expect("the script is there");
        drop(command);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Show { child, said, folder, _alone: alone }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn until_said(&mut self, words: &str) {
        let deadline = Instant::now() + SHOW;
        while !self.said().contains(words) {
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none() && Instant::now() < deadline, "it never said {words:?}, {ended:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// No folder, no lab, no process, no namespace and no cable of it.
    fn left_nothing(&self, moment: &str) {
        let deadline = Instant::now() + END;
        loop {
            let left = left(self.folder.path());
            if left.is_empty() {
                return;
            }
            // What was killed takes a moment to go.
            assert!(Instant::now() < deadline, "{moment}: left behind: {left:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            let _ = self.child.wait();
        }
    }
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn left(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = names(folder).into_iter().map(|name| format!("folder {name}")).collect();
    if Path::new("/run/weir-lab/quickstart").exists() {
        found.push("the lab's record".into());
    }
    let folder = folder.display().to_string();
    for process in names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default().replace('\0', " ");
        if line.contains(&folder) || line.contains("--name quickstart") {
            found.push(format!("process {process}: {line}"));
        }
    }
    // Those of a lab begin with this; no other lab is up while this test runs.
    let is_ours = |name: &String| name.starts_with("wl-");
    found.extend(names("/run/netns").into_iter().chain(names("/sys/class/net")).filter(is_ours));
    found
}

#[test]
fn the_whole_chain_is_shown_twice_without_a_failed_request() {
    for round in ["first", "second"] {
        let mut show = Show::start();
        let status = show.ended(SHOW);
        let said = show.said();
        assert!(status.success(), "{round}: {status}\n{said}");
        println!("{said}");
        for figure in ["the alarm web-busy went off after", "time to scale", "takeover time", "replaced after", "All acts together"] {
            assert!(said.contains(figure), "{round}: no {figure:?} in\n{said}");
        }
        show.left_nothing(round);
    }
}

#[test]
fn a_show_that_is_interrupted_leaves_nothing() {
    for moment in ["[3/10]", "[4/10]", "[6/10]"] {
        let mut show = Show::start();
        show.until_said(moment);
        show.signal("INT");
        let status = show.ended(END);
        assert_eq!(status.code(), Some(130), "{moment}: {}", show.said());
        show.left_nothing(moment);
    }
}

#[test]
fn what_a_killed_show_leaves_is_taken_down_by_one_command() {
    let mut show = Show::start();
    show.until_said("[5/10]");
    show.signal("KILL");
    show.ended(END);
    assert!(!left(show.folder.path()).is_empty(), "it had begun something");
    let output = script(show.folder.path(), &["--down"]).output().expect("the script is there");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Nothing is up.\n"), "{output:?}");
    show.left_nothing("killed");
}
