//! The thread that changes addresses and links.
//!
//! Each change takes the one lock under which the kernel changes its network; whoever else changes something (a virtual machine comes or
//! goes) may hold it for tens of milliseconds. Advertisements must not wait for that, so the changes have a thread of their own, in the
//! order in which they were asked for.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use super::frame::Mac;
use super::netlink::Requests;
use super::strays::{Nftables, Strays, clients};
use super::{settings, sys};

/// Changes that wait: all addresses of all virtual routers once over.
const CHANGES_MAX: usize = 64 * 512;

/// Real-time priority: behind the thread that advertises.
const PRIORITY: i32 = 10;

/// Something to be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Add {
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
        lifetime: Option<u32>,
    },
    Remove {
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
    },
    Up {
        ifindex: u32,
        up: bool,
    },
    Macvlan {
        parent: u32,
        name: String,
        alias: String,
        mac: Mac,
    },
    RemoveLink {
        ifindex: u32,
    },
    /// See [`super::strays`].
    SendStraysOn {
        ifindex: u32,
        device: String,
        mac: Mac,
        to: IpAddr,
        addresses: Vec<IpAddr>,
    },
    KeepStrays,
    /// See [`super::settings`].
    NoteSettings {
        file: PathBuf,
        settings: Vec<(String, &'static str)>,
    },
}

/// A change for one virtual router, by the number the driver gave it.
#[derive(Debug)]
struct Task {
    owner: usize,
    change: Change,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) owner: usize,
    pub(crate) change: Change,
    pub(crate) result: io::Result<()>,
}

/// The driver's side.
#[derive(Debug)]
pub(crate) struct Kernel {
    tasks: Option<SyncSender<Task>>,
    done: Receiver<Done>,
    bell: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Kernel {
    /// Starts the thread.
    pub(crate) fn start(real_time: bool) -> io::Result<Kernel> {
        let (tasks, work) = sync_channel(CHANGES_MAX);
        let (results, done) = sync_channel(CHANGES_MAX);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let rung = bell.try_clone()?;
        let mut requests = Requests::open()?;
        let thread = std::thread::Builder::new().name("weir-vrrp-net".into()).spawn(move || {
            if real_time {
                let _ = sys::schedule_real_time(PRIORITY);
            }
            let mut nftables = None;
            while let Ok(Task { owner, change }) = work.recv() {
                let result = match &change {
                    Change::SendStraysOn { .. } | Change::KeepStrays => strays(&mut requests, &mut nftables, owner, &change),
                    change => carry_out(&mut requests, change),
                };
                if results.send(Done { owner, change, result }).is_err() {
                    return;
                }
                let _ = rustix::io::write(&rung, &1u64.to_ne_bytes());
            }
        })?;
        Ok(Kernel { tasks: Some(tasks), done, bell, thread: Some(thread) })
    }

    /// Asks for a change; its result comes by [`Kernel::done`]. Never waits.
    pub(crate) fn ask(&self, owner: usize, change: Change) -> io::Result<()> {
        let tasks = self.tasks.as_ref().expect("taken only when dropped");
        tasks
            .try_send(Task { owner, change })
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many changes wait for the kernel"))
    }

    /// Readable when something is done.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Quiets the bell, before [`Kernel::done`] is asked.
    pub(crate) fn heard(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
    }

    /// The next result.
    pub(crate) fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

impl Drop for Kernel {
    /// What was asked for is still carried out.
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry_out(requests: &mut Requests, change: &Change) -> io::Result<()> {
    match change {
        Change::Add { ifindex, address, prefix_len, lifetime } => requests.add_address(*ifindex, *address, *prefix_len, *lifetime),
        Change::Remove { ifindex, address, prefix_len } => requests.remove_address(*ifindex, *address, *prefix_len),
        Change::Up { ifindex, up } => requests.set_up(*ifindex, *up),
        Change::Macvlan { parent, name, alias, mac } => macvlan(requests, *parent, name, alias, *mac),
        Change::RemoveLink { ifindex } => requests.remove_link(*ifindex),
        Change::NoteSettings { file, settings } => settings::note(file, settings),
        Change::SendStraysOn { .. } | Change::KeepStrays => unreachable!("they have a function of their own"),
    }
}

/// The socket is opened with the first handover, and kept: the tables live as long as it does.
fn strays(requests: &mut Requests, nftables: &mut Option<Nftables>, owner: usize, change: &Change) -> io::Result<()> {
    let table = format!("weir-strays-{owner}");
    let Change::SendStraysOn { ifindex, device, mac, to, addresses } = change else {
        return nftables.as_mut().map_or(Ok(()), |nftables| nftables.stop(&table));
    };
    // We spoke with it by unicast a moment ago, so the kernel knows.
    let Some(neighbour) = requests.neighbour(*ifindex, *to)? else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("the hardware address of {to} is not known")));
    };
    let file = if to.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let known = clients(&std::fs::read_to_string(file)?, addresses);
    let strays = Strays { ifindex: *ifindex, device: device.clone(), from: *mac, to: neighbour, addresses: addresses.clone(), known };
    let nftables = match nftables {
        Some(nftables) => nftables,
        None => nftables.insert(Nftables::open()?),
    };
    nftables.send_on(&table, &strays)
}

/// A macvlan that speaks only when it is told to. One that a killed process left is replaced; one that is not ours is left alone.
fn macvlan(requests: &mut Requests, parent: u32, name: &str, alias: &str, mac: Mac) -> io::Result<()> {
    if let Some(old) = requests.links()?.into_iter().find(|link| link.name == name) {
        if old.alias.as_deref() != Some(alias) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("a link named {name} is there that weir did not make")));
        }
        requests.remove_link(old.index)?;
    }
    requests.add_macvlan(parent, name, mac)?;
    let made = requests.links()?.into_iter().find(|link| link.name == name).ok_or(io::ErrorKind::NotFound)?;
    requests.set_alias(made.index, alias)?;
    requests.no_own_addresses(made.index)?;
    // The kernel answers no ARP here: this program does, as long as it lives. Packets to the addresses come in by this link and go out by
    // the parent, which a strict check of the way back would refuse.
    for (setting, value) in [("arp_ignore", "1"), ("rp_filter", "0"), ("accept_local", "1")] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/{setting}"), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn changes_are_answered_in_order() {
        let kernel = Kernel::start(false).unwrap();
        for owner in 0..3 {
            kernel.ask(owner, Change::Up { ifindex: 1_000_000, up: true }).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut owners = Vec::new();
        while owners.len() < 3 && Instant::now() < deadline {
            kernel.heard();
            while let Some(done) = kernel.done() {
                assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::ENODEV));
                owners.push(done.owner);
            }
            std::thread::yield_now();
        }
        assert_eq!(owners, [0, 1, 2]);
    }
}
