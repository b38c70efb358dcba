//! Whose turn it is to act on machines: one process of this node at a time.
//!
//! At an upgrade the process before may be in the middle of making a machine, and the new one would take that for what a crash left behind. A
//! lock on the state folder keeps them apart: the old process holds it until it has nothing under way, the new one waits for it. The kernel
//! releases it when a process dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;
use weir_hypervisor::{Fleet, Hypervisor};

/// Between two looks at whether the turn has come, or may be given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is wanted of this process; a task makes it so.
#[derive(Debug)]
pub(super) struct Turn(watch::Sender<bool>);

impl Turn {
    /// Nothing is wanted yet. Must be called inside the runtime.
    pub(super) fn start(fleet: Fleet, state_dir: &Path) -> Turn {
        let (sender, wanted) = watch::channel(false);
        tokio::spawn(keep(fleet, state_dir.join("machines.lock"), wanted));
        Turn(sender)
    }

    /// Whether this process is to act. May be called from any thread.
    pub(super) fn want(&self, leader: bool) {
        self.0.send_replace(leader);
    }
}

/// What this process has of the turn.
enum Hold {
    /// Nothing: another process may act.
    No,
    /// The lock.
    Lock { _file: File },
    /// There can be no lock; it acts without.
    Unlocked,
}

async fn keep(fleet: Fleet, path: PathBuf, mut wanted: watch::Receiver<bool>) {
    let mut hold = Hold::No;
    loop {
        let leader = *wanted.borrow_and_update();
        if leader {
            if matches!(hold, Hold::No) {
                hold = take(&path);
            }
            if !matches!(hold, Hold::No) {
                fleet.set_leader(true);
            }
        } else {
            fleet.set_leader(false);
            if !fleet.is_busy() {
                hold = Hold::No;
            }
        }
        let settled = leader != matches!(hold, Hold::No);
        let changed = if settled { wanted.changed().await } else { timeout(LOOK_EVERY, wanted.changed()).await.unwrap_or(Ok(())) };
        if changed.is_err() {
            return;
        }
    }
}

fn take(path: &Path) -> Hold {
    let locked = || {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Hold::Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(Hold::No),
            Err(error) => Err(std::io::Error::from(error)),
        }
    };
    locked().unwrap_or_else(|error| {
        warn!("cannot lock {}: {error}: an upgrade in the middle of making a machine may undo it", path.display());
        Hold::Unlocked
    })
}
