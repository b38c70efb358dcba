//! The living process's side of the guardian: starts it, starts it again, and writes the wills.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::GUARDIAN_ARGUMENT;
use super::will::{SLOTS, Will, Wills};
use crate::shell::sys;

/// Least time between two starts: a guardian that cannot live must not become a load.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The stack of a thread that does nothing.
const WITNESS_STACK: usize = 16 * 1024;

/// Number of a virtual router's place in the shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(usize);

#[derive(Debug)]
struct Running {
    child: Child,
    lifeline: OwnedFd,
    ready: bool,
}

/// A thread that does nothing but end with its process, or when this is dropped: see [`super::process`] for what it is there.
#[derive(Debug)]
struct Witness {
    thread: i32,
    _until: Sender<()>,
}

impl Witness {
    fn start() -> io::Result<Witness> {
        let (until, end) = channel::<()>();
        let (tell, number) = channel();
        std::thread::Builder::new().name("weir-witness".into()).stack_size(WITNESS_STACK).spawn(move || {
            let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
            // Nothing is ever sent.
            let _ = end.recv();
        })?;
        Ok(Witness { thread: number.recv().map_err(io::Error::other)?, _until: until })
    }
}

/// The guardian, as its ward sees it.
#[derive(Debug)]
pub(crate) struct Guardian {
    program: PathBuf,
    wills: Wills,
    free: Vec<usize>,
    running: Option<Running>,
    start_at: Instant,
    witness: Witness,
}

impl Guardian {
    /// Nothing runs yet; `program` is this program.
    pub(crate) fn new(program: PathBuf, now: Instant) -> io::Result<Guardian> {
        let (wills, witness) = (Wills::create()?, Witness::start()?);
        Ok(Guardian { program, wills, free: (0..SLOTS).rev().collect(), running: None, start_at: now, witness })
    }

    /// Starts it if it does not run and it is time. To be called by the thread whose end it shall watch.
    pub(crate) fn keep(&mut self, now: Instant) -> io::Result<()> {
        if self.running.is_some() || now < self.start_at {
            return Ok(());
        }
        self.start_at = now + RESTART_AFTER;
        let (ours, theirs) = sys::lifeline()?;
        let thread = OsString::from(rustix::thread::gettid().as_raw_nonzero().to_string());
        let mut command = Command::new(&self.program);
        command.arg(GUARDIAN_ARGUMENT).arg(thread).arg(self.witness.thread.to_string()).env_clear().current_dir("/");
        let child = command.stdin(Stdio::from(self.wills.share()?)).stdout(Stdio::from(theirs)).stderr(Stdio::inherit()).spawn()?;
        self.running = Some(Running { child, lifeline: ours, ready: false });
        Ok(())
    }

    /// Readable or hung up: call [`Guardian::heard`].
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.lifeline.as_fd())
    }

    /// When [`Guardian::keep`] should be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.running.is_none().then_some(self.start_at)
    }

    /// Reads its one word, or learns of its end. `Err` says how it ended.
    pub(crate) fn heard(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let mut word = [0u8; 1];
        match rustix::io::read(&running.lifeline, &mut word) {
            Ok(1..) => {
                running.ready = true;
                Ok(())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Ok(0) | Err(_) => {
                let mut running = self.running.take().expect("looked at above");
                // It closed its side: it is gone, or will be at once.
                let _ = running.child.kill();
                Err(running.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string()))
            }
        }
    }

    /// Whether it runs and said so.
    pub(crate) fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready)
    }

    /// A place for one virtual router.
    pub(crate) fn reserve(&mut self) -> Option<Place> {
        self.free.pop().map(Place)
    }

    /// Gives a place back.
    pub(crate) fn release(&mut self, place: Place) {
        let _ = self.wills.revoke(place.0);
        self.free.push(place.0);
    }

    /// From now on, when this process dies, do this.
    pub(crate) fn will(&mut self, place: Place, will: &Will) -> io::Result<()> {
        self.wills.write(place.0, will)
    }

    /// From now on, when this process dies, do nothing.
    pub(crate) fn revoke(&mut self, place: Place) -> io::Result<()> {
        self.wills.revoke(place.0)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // The thread comes to a bad end: then the wills count.
            if std::thread::panicking() {
                return;
            }
            // Revoked wills and a closed lifeline end it.
            for slot in 0..SLOTS {
                let _ = self.wills.revoke(slot);
            }
            drop(running.lifeline);
            let _ = running.child.wait();
        }
    }
}
