//! What can go wrong inside a machine, on demand.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::{process, thread};

use crate::load;

static HANGS: AtomicBool = AtomicBool::new(false);
static STATUS: AtomicU16 = AtomicU16::new(0);
static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static DISK: Mutex<()> = Mutex::new(());

const FILLER: &str = "/var/filler";

/// Whether requests are to be left without an answer.
pub(crate) fn hangs() -> bool {
    HANGS.load(Ordering::Relaxed)
}

/// The status that every page shall have instead of its own.
pub(crate) fn status() -> Option<u16> {
    Some(STATUS.load(Ordering::Relaxed)).filter(|status| *status != 0)
}

/// From now on nothing is answered, but the connections stay.
pub(crate) fn hang() {
    HANGS.store(true, Ordering::Relaxed);
}

/// From now on every page has this status; 0 is the end of it.
pub(crate) fn fail(status: f64) {
    STATUS.store(if (200.0..600.0).contains(&status) { status as u16 } else { 0 }, Ordering::Relaxed);
}

/// Takes memory and keeps it.
pub(crate) fn memory(mib: f64) -> usize {
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    held.push(load::hold(mib));
    held.iter().map(Vec::len).sum::<usize>() / (1024 * 1024)
}

/// Takes all memory, for good: what it is in is nobody's that could be killed, and whatever becomes free is taken, too.
pub(crate) fn memory_full() {
    let leak = "echo -1000 >/proc/self/oom_score_adj; mkdir -p /run/leak; mount -t tmpfs -o size=100% leak /run/leak
                while :; do cat /dev/zero >>/run/leak/full; done";
    // An error: then this fault does not happen, and whoever waits for it sees that.
    let _ = process::Command::new("/bin/busybox").args(["sh", "-c", leak]).spawn();
}

/// Whoever writes to the disk does so alone: what one frees while another fills it would keep it from being full.
pub(crate) fn alone_with_the_disk() -> MutexGuard<'static, ()> {
    DISK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Writes to the machine's disk; without a number, until it is full.
pub(crate) fn disk(mib: f64) -> Result<(), String> {
    let _alone = alone_with_the_disk();
    let mut file = File::options().create(true).append(true).open(FILLER).map_err(|error| error.to_string())?;
    let block = vec![0xa5; 1024 * 1024];
    if mib > 0.0 {
        (0..mib as u64).try_for_each(|_| file.write_all(&block)).map_err(|error| error.to_string())?;
        return file.sync_all().map_err(|error| error.to_string());
    }
    // The file system frees and reserves while it writes back: full is what is still full after that, to the last block.
    for size in [block.len(), 4096, 4096] {
        while file.write_all(&block[..size]).is_ok() {}
        let _ = file.sync_all();
    }
    Ok(())
}

/// Ends the server for good: process 1 is told not to start it again.
pub(crate) fn exit() {
    let _ = fs::write("/run/stay-dead", "");
    later(|| process::exit(1));
}

/// Stops the kernel.
pub(crate) fn panic() {
    later(|| {
        let _ = fs::write("/proc/sys/kernel/sysrq", "1");
        let _ = fs::write("/proc/sysrq-trigger", "c");
    });
}

/// Everything stands still, without a word and without work for the processor: nothing is answered and no button is heard.
pub(crate) fn halt() {
    later(|| {
        let _ = process::Command::new("/bin/busybox").args(["halt", "-f"]).status();
    });
}

/// Undoes what can be undone.
pub(crate) fn clear() {
    HANGS.store(false, Ordering::Relaxed);
    STATUS.store(0, Ordering::Relaxed);
    HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    let _ = fs::remove_file(FILLER);
}

/// After the answer has left.
fn later(act: fn()) {
    thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(50));
        act();
    });
}
