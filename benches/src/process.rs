//! Child processes: pinned to a core, in a group of their own, and never left behind. `Drop` kills the group; should this program be killed
//! itself, the kernel sends each child its death signal.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use rustix::time::Timespec;

/// Where a process runs. Proxy and load never share a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Core {
    /// The proxy that is measured.
    Proxy,
    /// Origin, load generators and this program.
    Load,
}

impl Core {
    /// The number of the core.
    pub(crate) fn number(self) -> usize {
        match self {
            Core::Proxy => 0,
            Core::Load => 1,
        }
    }
}

/// What to start.
pub(crate) struct Spec<'a> {
    /// Names the file that takes its output of errors.
    pub(crate) name: &'a str,
    pub(crate) core: Core,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// What it gets when this program dies. A process with children of its own must be asked (TERM), so that it takes them along.
    pub(crate) death_signal: &'a str,
    /// Where its files go.
    pub(crate) dir: &'a Path,
}

/// A running child.
pub(crate) struct Process {
    child: Child,
    name: String,
    errors: PathBuf,
    /// It has children of its own: it is asked first, so that it ends and buries them.
    asked_first: bool,
}

/// Starts a proxy. What it prints goes to a file, so that it never waits for a reader.
pub(crate) fn spawn(spec: Spec<'_>) -> Result<Process> {
    let output = File::create(spec.dir.join(format!("{}.stdout", spec.name)))?;
    spawn_with(spec, output.into())
}

fn spawn_with(spec: Spec<'_>, output: Stdio) -> Result<Process> {
    let errors = spec.dir.join(format!("{}.stderr", spec.name));
    let child = Command::new("setpriv")
        .args(["--pdeathsig", spec.death_signal, "taskset", "-c", &spec.core.number().to_string()])
        .arg(&spec.program)
        .args(&spec.args)
        .current_dir(spec.dir)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(File::create(&errors)?)
        .spawn()
        .with_context(|| format!("start {}", spec.name))?;
    Ok(Process { child, name: spec.name.to_owned(), errors, asked_first: spec.death_signal == "TERM" })
}

/// Starts a subcommand of this program, whose output we read.
pub(crate) fn spawn_self(name: &str, core: Core, dir: &Path, args: Vec<String>) -> Result<Process> {
    spawn_with(Spec { name, core, program: std::env::current_exe()?, args, death_signal: "KILL", dir }, Stdio::piped())
}

/// Starts a program whose output we read.
pub(crate) fn spawn_read(spec: Spec<'_>) -> Result<Process> {
    spawn_with(spec, Stdio::piped())
}

impl Process {
    /// Its process id; the pinning tools replace themselves, so it is the program's own.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with what it said, when it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.said()),
        }
    }

    /// Waits until it has printed a line that says `ready`.
    pub(crate) fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let text = self.read_until(limit, |text| text.ends_with("ready\n"))?;
        if !text.ends_with("ready\n") {
            bail!("{} ended early: {}", self.name, self.said());
        }
        Ok(())
    }

    /// Waits for its end and returns what it printed.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<String> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + limit;
        let text = self.read_until(limit, |_| false)?;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(text),
                Some(status) => bail!("{} failed ({status}): {}", self.name, self.said()),
                None if Instant::now() > deadline => bail!("{} did not end in {limit:?}", self.name),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn read_until(&mut self, limit: Duration, enough: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        let output = self.child.stdout.as_mut().context("standard output is taken")?;
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !enough(&text) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} did not answer in {limit:?}", self.name);
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut fds = [PollFd::new(output, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&timeout))? == 0 {
                continue;
            }
            match output.read(&mut chunk)? {
                0 => break,
                n => text.push_str(&String::from_utf8_lossy(&chunk[..n])),
            }
        }
        Ok(text)
    }

    /// The end of what it wrote to standard error.
    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            if self.asked_first {
                let _ = rustix::process::kill_process(pid, Signal::TERM);
                let deadline = Instant::now() + Duration::from_secs(1);
                while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            // The group outlives its leader where the leader left children behind.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Pins this program to a core; children that are not pinned otherwise follow.
pub(crate) fn pin_self(core: Core) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core.number());
    rustix::thread::sched_setaffinity(None, &set).context("pin to a core; this bench needs two cores")
}
