//! The thread that runs all virtual routers of the node.
//!
//! ```text
//!   wait ──► news of links and addresses ──► what the kernel did ──► packets ──► commands ──► deadlines ──► announcements ──┐
//!    ▲                                                                                                                      │
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Packets come before deadlines: after a pause they say who took over meanwhile. A router whose code panics is put into the safe state
//! (priority 0 is said, its addresses are removed), and the others go on.

mod hold;
mod intake;
mod order;
mod output;
mod router;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::announce::Announcements;
use super::device::Tun;
use super::guardian::Guardian;
use super::handle::{Command, LinkCounters, Options, Report, ReportKind, RouterSpec, StartError};
use super::kernel::Kernel;
use super::link::{Ears, FRAME_MAX, Kind};
use super::netlink::{Address, Link, Requests, Watch};
use super::send::Sender;
use super::{settings, sys};
use crate::machine::{Input, Instance};
use crate::packet::Family;
use router::Router;

/// Real-time priority of the thread.
const PRIORITY: i32 = 20;

/// Readable sockets looked at in one round.
const EVENTS_MAX: usize = 64;

/// The virtual routers of this node, and everything they share.
pub(super) struct Driver {
    orders: Receiver<Command>,
    bell: OwnedFd,
    reports: SyncSender<Report>,
    reports_lost: u64,
    real_time: bool,
    stop: bool,

    sender: Sender,
    kernel: Kernel,
    watch: Watch,
    requests: Requests,
    guardian: Option<Guardian>,
    /// Made when the first router wants it; the reason if it cannot be.
    tun: Option<Result<Tun, String>>,

    links: BTreeMap<u32, Link>,
    addresses: Vec<Address>,
    ears: BTreeMap<u32, Ears>,
    /// What the poll set's numbers stand for: interface and kind.
    events: OwnedFd,
    counters: BTreeMap<u32, LinkCounters>,

    wanted: Vec<RouterSpec>,
    /// Places are used again; a router keeps its own.
    routers: Vec<Option<Router>>,
    by_number: BTreeMap<(u32, Family, u8), usize>,
    due: BTreeSet<(Instant, usize)>,
    announcements: Announcements,
    /// Interfaces whose answers have to be gone over again.
    answers_changed: BTreeSet<u32>,
    /// Interfaces on which we keep the kernel from speaking for our addresses, and the settings we changed for that.
    hushed: BTreeSet<(u32, &'static str)>,
    /// Where is written down which settings may be changed, and those that are.
    settings_file: Option<PathBuf>,
    changeable: BTreeSet<(String, &'static str)>,
    /// Routers that are to be quiet no more once the kernel has removed their addresses.
    unhush: BTreeSet<usize>,
    /// By virtual IP: eligibility, rank and healthy endpoints, as told last.
    said: BTreeMap<Arc<str>, [Option<Input>; 3]>,
    /// Sync groups of which a member did something.
    groups_changed: BTreeSet<Arc<str>>,
    /// A router came to its end: something may wait for its place.
    reconcile: bool,
    /// Taken while frames are read.
    buffer: Option<Box<[MaybeUninit<u8>; FRAME_MAX]>>,
}

/// What the kernel's poll set is told of a socket: interface, kind and a descriptor to tell two of a kind apart.
fn token(ifindex: u32, kind: Kind) -> EventData {
    EventData::new_u64(u64::from(ifindex) << 8 | kind as u64)
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Driver {
    /// Opens what is needed in any case, and finds out what this process may.
    pub(super) fn open(
        options: &Options,
        orders: Receiver<Command>,
        bell: OwnedFd,
        reports: SyncSender<Report>,
    ) -> Result<Driver, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let mut warnings = Vec::new();
        // First the guardian, so that it inherits nothing.
        let now = Instant::now();
        let mut guardian =
            options.guardian.clone().map(|program| Guardian::new(program, now)).transpose().map_err(system("shared memory"))?;
        if let Some(Err(error)) = guardian.as_mut().map(|guardian| guardian.keep(now)) {
            warnings
                .push(format!("the guardian could not be started ({error}): if this process dies, the backup waits for three intervals"));
        }
        let real_time = options.real_time && Self::become_real_time(&mut warnings);
        if let Some(file) = &options.settings {
            settings::restore(file);
        }
        let watch = Watch::open().map_err(system("a netlink socket"))?;
        let mut requests = Requests::open().map_err(system("a netlink socket"))?;
        let links = requests.links().map_err(system("asking for the interfaces"))?;
        let addresses = requests.addresses().map_err(system("asking for the addresses"))?;
        let mut driver = Driver {
            orders,
            bell,
            reports,
            reports_lost: 0,
            real_time,
            stop: false,
            sender: Sender::open().map_err(system("sockets to send from"))?,
            kernel: Kernel::start(real_time).map_err(system("a thread"))?,
            watch,
            requests,
            guardian,
            tun: None,
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses,
            ears: BTreeMap::new(),
            events: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Into::into).map_err(system("a poll set"))?,
            counters: BTreeMap::new(),
            wanted: Vec::new(),
            routers: Vec::new(),
            by_number: BTreeMap::new(),
            due: BTreeSet::new(),
            announcements: Announcements::default(),
            answers_changed: BTreeSet::new(),
            hushed: BTreeSet::new(),
            settings_file: options.settings.clone(),
            changeable: BTreeSet::new(),
            unhush: BTreeSet::new(),
            said: BTreeMap::new(),
            groups_changed: BTreeSet::new(),
            reconcile: false,
            buffer: None,
        };
        for warning in warnings {
            driver.warn(warning);
        }
        Ok(driver)
    }

    fn become_real_time(warnings: &mut Vec<String>) -> bool {
        sys::exact_timers();
        if let Err(error) = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::ONFAULT) {
            warnings.push(format!("memory could not be locked ({error}): while this machine swaps, advertisements may be late (CAP_IPC_LOCK or LimitMEMLOCK= helps)"));
        }
        match sys::schedule_real_time(PRIORITY) {
            Ok(()) => true,
            Err(error) => {
                warnings.push(format!(
                    "no real-time priority ({error}): under load, advertisements may be late (CAP_SYS_NICE or LimitRTPRIO={PRIORITY} helps)"
                ));
                false
            }
        }
    }

    /// Until it is told to stop.
    pub(super) fn run(&mut self) {
        while !self.stop {
            let ready = self.wait();
            self.round(ready);
        }
        self.let_go_of_everything();
    }

    fn round(&mut self, ready: [bool; 5]) {
        let [bell, news, kernel, sockets, guardian] = ready;
        if news {
            self.read_news();
        }
        if kernel {
            self.read_done();
        }
        if sockets {
            self.read_sockets();
        }
        if bell {
            let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
            while let Ok(command) = self.orders.try_recv() {
                self.obey(command);
            }
        }
        if guardian {
            self.hear_guardian();
        }
        let now = Instant::now();
        while let Some((due, index)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, index));
            self.router_due(index, now);
        }
        self.coordinate(now);
        if std::mem::take(&mut self.reconcile) {
            self.settle();
        }
        self.update_answers();
        let sender = &self.sender;
        self.announcements.send(now, |one| {
            // The link went down: netlink says so.
            let _ = sender.frame(one.ifindex, &one.frame);
        });
        self.keep_guardian(now);
    }

    fn keep_guardian(&mut self, now: Instant) {
        let Some(guardian) = self.guardian.as_mut().filter(|guardian| guardian.timeout().is_some_and(|at| at <= now)) else { return };
        if let Err(error) = guardian.keep(now) {
            self.warn(format!("the guardian could not be started: {error}"));
        }
    }

    /// Waits for the next thing. Which of bell, news, kernel, sockets and guardian have something.
    fn wait(&mut self) -> [bool; 5] {
        let guardian = self.guardian.as_ref();
        let next = [self.due.first().map(|(due, _)| *due), self.announcements.timeout(), guardian.and_then(Guardian::timeout)];
        let timeout = next.into_iter().flatten().min().map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let lifeline = guardian.and_then(Guardian::fd);
        let mut fds = [
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::from_borrowed_fd(self.watch.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.kernel.fd(), PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::from_borrowed_fd(lifeline.unwrap_or(self.bell.as_fd()), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {
                let mut ready = fds.map(|fd| !fd.revents().is_empty());
                ready[4] &= lifeline.is_some();
                ready
            }
            // Interrupted by a signal: nothing is ready, the deadlines are looked at.
            Err(_) => [false; 5],
        }
    }

    /// Has one router do something and carries out what it asks for. A panic puts it into the safe state.
    fn step(&mut self, index: usize, now: Instant, work: impl FnOnce(&mut Instance)) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut).filter(|router| router.failed.is_none()) else { return };
        if let Some(group) = &router.spec.group {
            self.groups_changed.insert(group.clone());
        }
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut router.instance)));
        let result = result.and_then(|()| catch_unwind(AssertUnwindSafe(|| self.carry_out(index, now))));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            self.fail(index, text.unwrap_or("a fault without a word").to_owned(), now);
        }
        self.plan(index);
    }

    /// Lines up the members of the groups in which something happened.
    fn coordinate(&mut self, now: Instant) {
        // Each round settles at least one member of each group; there are no more rounds than that.
        for _ in 0..self.routers.len() {
            let Some(group) = self.groups_changed.pop_first() else { return };
            let mut members: Vec<(usize, Router)> = Vec::new();
            for (index, place) in self.routers.iter_mut().enumerate() {
                let member =
                    |router: &mut Router| router.spec.group.as_ref() == Some(&group) && router.failed.is_none() && !router.stopping;
                members.extend(place.take_if(member).map(|router| (index, router)));
            }
            // The order of the file, not that of the places.
            let rank = |router: &Router| self.wanted.iter().position(|spec| router.is(spec));
            members.sort_by_key(|(_, router)| rank(router));
            let mut instances: Vec<&mut Instance> = members.iter_mut().map(|(_, router)| &mut router.instance).collect();
            let done = catch_unwind(AssertUnwindSafe(|| crate::group::coordinate(&mut instances, now)));
            let indices: Vec<usize> = members.iter().map(|(index, _)| *index).collect();
            for (index, router) in members {
                self.routers[index] = Some(router);
            }
            for index in indices {
                if done.is_err() {
                    self.fail(index, "a fault in its sync group".into(), now);
                }
                self.step(index, now, |_| {});
            }
            // What was just lined up needs no second look, unless something else happens.
            self.groups_changed.remove(&group);
        }
    }

    /// Enters when the router has to be looked at next.
    fn plan(&mut self, index: usize) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) else { return };
        let instance = router.failed.is_none().then(|| router.instance.poll_timeout()).flatten();
        let due = [instance, router.fresh_at, router.strays_until].into_iter().flatten().min();
        if due != router.due {
            if let Some(old) = router.due {
                self.due.remove(&(old, index));
            }
            self.due.extend(due.map(|due| (due, index)));
            router.due = due;
        }
        if router.is_gone() {
            self.reconcile = true;
        }
    }

    fn router_due(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) else { return };
        router.due = None;
        let strays_are_over = router.strays_until.is_some_and(|at| at <= now);
        if router.fresh_at.is_some_and(|at| at <= now) {
            self.keep_fresh(index, now);
        }
        if strays_are_over {
            self.keep_strays(index);
        }
        self.step(index, now, |instance| {
            if instance.poll_timeout().is_some_and(|at| at <= now) {
                instance.handle_timeout(now);
            }
        });
    }

    fn hear_guardian(&mut self) {
        let Some(guardian) = &mut self.guardian else { return };
        if let Err(how) = guardian.heard() {
            self.warn(format!("the guardian of the virtual IPs ended ({how}); it is started again"));
        }
    }

    fn report(&mut self, report: Report) {
        if self.reports.try_send(report).is_err() {
            self.reports_lost += 1;
        }
    }

    fn warn(&mut self, text: String) {
        self.report(Report { vip: "".into(), family: Family::V4, kind: ReportKind::Warning(text) });
    }

    /// A socket that hears something, into the poll set.
    fn watch_sockets(&self, ifindex: u32) {
        for (kind, socket) in self.ears.get(&ifindex).into_iter().flat_map(Ears::sockets) {
            // Those that are in it already stay.
            let _ = epoll::add(&self.events, socket, token(ifindex, kind), EventFlags::IN);
        }
    }
}
