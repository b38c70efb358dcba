//! Processes as the kernel knows them: who still is who, and who lives in which namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::command::wait_for;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its number, seen from the machine's own namespace.
    pub(crate) pid: u32,
    /// When it began, in clock ticks since the machine's start.
    pub(crate) started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let Stat { state, threads, started } = stat(pid)?;
        // Its first thread may be over before the others, and its files are closed by the last.
        (state != 'Z' || threads > 1).then_some(Self { pid, started })
    }

    pub(crate) fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if it still is this process.
    pub(crate) fn signal(self, signal: Signal) -> bool {
        self.alive() && send(self.pid, signal)
    }

    /// Kills and waits until it is gone; everything in a PID namespace goes with its first process.
    pub(crate) fn end(self) {
        self.signal(Signal::KILL);
        // It can only fail to go while the kernel is busy with it; then the caller's own step says what is left.
        let _ = wait_for("the end of a killed process", Duration::from_secs(10), || (!self.alive()).then_some(()));
    }
}

/// Fields 3, 20 and 22 of proc_pid_stat(5).
struct Stat {
    state: char,
    threads: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, threads: fields.nth(16)?.parse().ok()?, started: fields.nth(1)?.parse().ok()? })
}

/// Whether a process is stopped by a signal.
pub(crate) fn stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

pub(crate) fn send(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// The name of a process, cut by the kernel at 15 bytes.
pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether one of the short-lived programs of a lab runs with this in its arguments.
pub(crate) fn mentioned(label: &str) -> bool {
    everybody().any(|pid| {
        ["ip", "tc", "nft", "nsenter", "unshare"].contains(&name(pid).as_str())
            && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| memmem(&line, label.as_bytes()))
    })
}

fn memmem(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn everybody() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The first child of a process.
pub(crate) fn child(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// A namespace, by its number in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Namespace(u64);

impl Namespace {
    /// One that is pinned to a file.
    pub(crate) fn at(path: impl AsRef<std::path::Path>) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Self(found.ino()))
    }

    /// One of a process: `net`, `pid` or `mnt`.
    pub(crate) fn of(pid: u32, kind: &str) -> Option<Self> {
        Self::at(format!("/proc/{pid}/ns/{kind}"))
    }

    /// Who lives in it now.
    pub(crate) fn members(self, kind: &str) -> Vec<u32> {
        everybody().filter(|pid| Self::of(*pid, kind) == Some(self)).collect()
    }

    /// Ends everybody in it, also who is started meanwhile.
    pub(crate) fn clear(self, kind: &str) {
        // Each round kills all that it sees; only who forks faster than that survives ten of them.
        for _ in 0..10 {
            let members: Vec<_> = self.members(kind).into_iter().filter_map(Identity::of).collect();
            if members.is_empty() {
                return;
            }
            for member in members {
                member.end();
            }
        }
    }
}
