//! The guardian's own life.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use super::GUARDIAN_ARGUMENT;
use super::will::{Will, Wills};
use crate::shell::send::Sender;
use crate::shell::{netlink, sys};

/// Real-time priority: like the thread it watches.
const PRIORITY: i32 = 20;

/// Makes this process the guardian if its arguments say so, and returns its exit status when it is done. To be asked first thing in
/// `main`, before threads and memory. `None`: this process is something else.
pub fn guardian() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()?.to_str() != Some(GUARDIAN_ARGUMENT) {
        return None;
    }
    let mut thread = || arguments.next().and_then(|thread| thread.to_str()?.parse().ok()).and_then(Pid::from_raw);
    Some(match thread().zip(thread()).map(|(own, witness)| live([own, witness])) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("the guardian of the virtual IPs failed: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{GUARDIAN_ARGUMENT} is for the program itself");
            ExitCode::from(2)
        }
    })
}

/// Watches two threads: the one whose wills these are, and one that is there to be missed. When a process is killed, the thread that ends
/// last closes its files, and taking down the device of the addresses may keep that one for tens of milliseconds; the other one is gone
/// at once. The first thread of a process would not do: the end of that one is told once all others are gone (Linux 6.15 and newer).
fn live(threads: [Pid; 2]) -> io::Result<()> {
    let _ = rustix::process::setsid();
    sys::ignore_ending_signals();
    // Optional all: without them it is only a little later.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = sys::schedule_real_time(PRIORITY);
    let wills = Wills::of(std::io::stdin().as_fd().try_clone_to_owned()?);
    let lifeline = std::io::stdout().as_fd().try_clone_to_owned()?;
    let sender = Sender::open()?;
    let mut requests = netlink::Requests::open()?;
    let mut ends = Vec::new();
    for thread in threads {
        match sys::thread_end(thread) {
            Ok(end) => ends.push(end),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return act(&wills, &sender, &mut requests),
            // An older kernel: the lifeline tells, a little later.
            Err(_) => {}
        }
    }
    let _ = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::ONFAULT);
    rustix::io::write(&lifeline, b"r")?;
    wait(lifeline.as_fd(), &ends)?;
    act(&wills, &sender, &mut requests)
}

/// Until the process or one of its threads is gone.
fn wait(lifeline: BorrowedFd<'_>, ends: &[OwnedFd]) -> io::Result<()> {
    // Nothing is ever sent; the end of the other side is told without being asked for.
    let mut fds = vec![PollFd::from_borrowed_fd(lifeline, PollFlags::empty())];
    fds.extend(ends.iter().map(|end| PollFd::new(end, PollFlags::IN)));
    loop {
        match poll(&mut fds, None) {
            Ok(_) if fds.iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// First all that is said, for others wait for it; then what is to be removed. One failure keeps from nothing else.
fn act(wills: &Wills, sender: &Sender, requests: &mut netlink::Requests) -> io::Result<()> {
    let wills = wills.read()?;
    let mut worst = Ok(());
    let mut note = |result: io::Result<()>| {
        if let Err(error) = result {
            worst = Err(error);
        }
    };
    // A request to take over is older than the priority 0 beside it: signed, and behind it, it would be refused as a replay.
    for Will { frames, messages, .. } in &wills {
        for message in messages {
            note(sender.message(message.ifindex, message.source, message.destination, &message.payload));
        }
        for (ifindex, frame) in frames {
            note(sender.frame(*ifindex, frame));
        }
    }
    for Will { addresses, links, .. } in &wills {
        for (ifindex, address, prefix_len) in addresses {
            note(requests.remove_address(*ifindex, *address, *prefix_len));
        }
        for ifindex in links {
            note(requests.remove_link(*ifindex));
        }
    }
    worst
}
