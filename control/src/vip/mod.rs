//! Virtual IPs: from the file to the virtual routers, and what they say back.
//!
//! ```text
//!   file ──spec──► RouterSpec ──────────────► weir-vrrp thread ──► reports ──► events, notify programs
//!                                                   ▲
//!   data plane's pulse, drain, tracks (watch) ──► standings ──► may be master, rank
//! ```
//!
//! The room that runs them is started with the first virtual IP of the file. Where it cannot be (a capability is missing), an event and the
//! API say why, and everything else goes on.
//!
//! Two processes of one node at an upgrade never both advertise: a lock on the state folder decides. The old one keeps its addresses while
//! it finishes its work, then hands them to another node, or lets go; only then does the new one take part.

mod spec;
mod standing;
mod standings;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;
use tracing::warn;
use weir_config::{Config, VipName};
use weir_lb::shell::{Vitality, Watch};
use weir_vrrp::machine::{Input, StateKind};
use weir_vrrp::shell::{self, Handle, NodeStatus, Options, Report, ReportKind, RouterStatus};

use crate::command;
use crate::event::VipEvent;
use crate::node::{Node, Stage};
use standings::Standings;

/// How often each worker of the data plane is asked for a sign of life.
const PULSE_INTERVAL: Duration = Duration::from_millis(50);

/// How long its answer may take. Longer than a busy machine makes a thread wait, as a false alarm moves the addresses. A worker that is stuck
/// is found sooner, where this node is master.
const PULSE_LIMIT: Duration = Duration::from_millis(500);

/// Between two tries to get the lock of the process before.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// How long a notify program may take.
const NOTIFY_LIMIT: Duration = Duration::from_secs(30);

/// Notifications that wait while a program runs; more are left out and said.
const NOTIFICATIONS_MAX: usize = 256;

/// How long a stop waits for another node to take over.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The virtual IPs of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Vips {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    room: Arc<Mutex<Room>>,
    standings: Arc<Standings>,
    pulse: Mutex<Option<Watch>>,
    /// Why those of the file could not be made to be at the start.
    fault: Mutex<Option<String>>,
    stopping: AtomicBool,
}

/// What runs them.
#[derive(Debug, Default)]
enum Room {
    /// The file has had no virtual IP yet.
    #[default]
    Off,
    /// Being started.
    Starting,
    /// It runs.
    On(Arc<Handle>),
    /// It cannot run here, in words.
    Unavailable(String),
    /// This node stops.
    Stopped,
}

impl Room {
    fn tell(&self, vip: &str, input: Input) {
        if let Room::On(handle) = self {
            handle.tell(vip, input);
        }
    }
}

impl Vips {
    /// None yet.
    pub(crate) fn new() -> Vips {
        let room = Arc::<Mutex<Room>>::default();
        let told = room.clone();
        let standings = Standings::new(move |report| {
            let (eligible, reason) = match report.standing.eligible {
                Ok(()) => (true, String::new()),
                Err(reason) => (false, reason),
            };
            let room = lock(&told);
            let name = &report.vip.0;
            room.tell(name, Input::Eligible { eligible, reason });
            room.tell(name, Input::Rank { adjust: report.standing.adjust, reason: report.standing.reason });
            room.tell(name, Input::Healthy(report.healthy.map(|count| u16::try_from(count).unwrap_or(u16::MAX))));
        });
        let standings = Arc::new(standings);
        Vips {
            inner: Arc::new(Inner { room, standings, pulse: Mutex::default(), fault: Mutex::default(), stopping: AtomicBool::new(false) }),
        }
    }

    /// Whether the file's virtual IPs could be made to be.
    ///
    /// # Errors
    /// A key file cannot be used.
    pub(crate) fn check(config: &Config) -> Result<(), String> {
        spec::specs(config).map(drop)
    }

    /// Makes the file's virtual IPs be. The first time this starts the room, which is ready a little later.
    ///
    /// # Errors
    /// A key file cannot be used; nothing has changed.
    pub(crate) fn apply(&self, node: &Node, config: &Config) -> Result<(), String> {
        let specs = spec::specs(config)?;
        *lock(&self.inner.fault) = None;
        let mut room = lock(&self.inner.room);
        match &*room {
            Room::Off if specs.is_empty() => return Ok(()),
            Room::Off => {
                *room = Room::Starting;
                drop(room);
                self.start(node);
                return Ok(());
            }
            // What is in effect when it is ready is read then.
            Room::Starting | Room::Unavailable(_) | Room::Stopped => return Ok(()),
            Room::On(handle) => drop(handle.apply(specs)),
        }
        drop(room);
        self.inner.standings.set_vips(&config.vips);
        Ok(())
    }

    /// How the virtual routers are; empty where there are none or they cannot be run.
    pub(crate) fn status(&self) -> Vec<RouterStatus> {
        self.room_status().map(|status| status.routers).unwrap_or_default()
    }

    /// How the room is.
    fn room_status(&self) -> Option<NodeStatus> {
        // Not asked under the lock: who learns that this node cannot serve must not wait for an answer to somebody else.
        let handle = match &*lock(&self.inner.room) {
            Room::On(handle) => handle.clone(),
            _ => return None,
        };
        handle.status()
    }

    /// Why there are no virtual routers though the file has virtual IPs.
    pub(crate) fn unavailable(&self) -> Option<String> {
        match &*lock(&self.inner.room) {
            Room::Unavailable(why) => Some(why.clone()),
            Room::Starting => Some("the process before still has them".into()),
            _ => None,
        }
    }

    /// They could not be made to be at the start; until a file is in effect with which they can.
    pub(crate) fn failed(&self, node: &Node, reason: String) {
        *lock(&self.inner.fault) = Some(reason.clone());
        node.record(VipEvent::VipsUnavailable { reason });
    }

    /// Why that is so.
    pub(crate) fn fault(&self) -> Option<String> {
        match &*lock(&self.inner.room) {
            Room::Unavailable(why) => Some(why.clone()),
            _ => lock(&self.inner.fault).clone(),
        }
    }

    /// Lets another node be master of a virtual IP.
    ///
    /// # Errors
    /// They are not run here.
    pub(crate) fn release(&self, vip: &str) -> Result<(), String> {
        match self.unavailable() {
            Some(why) => Err(why),
            None => {
                lock(&self.inner.room).tell(vip, Input::Release);
                Ok(())
            }
        }
    }

    /// Hands everything to other nodes, or lets go of it; returns when that is done, or after a moment. Blocks.
    pub(crate) fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        let room = std::mem::replace(&mut *lock(&self.inner.room), Room::Stopped);
        drop(lock(&self.inner.pulse).take());
        if let Room::On(handle) = room
            && !handle.stop(Instant::now() + STOP_MAX)
        {
            warn!("the virtual IPs were let go of without another node having taken them");
        }
    }

    /// Starts the room on a thread that may wait: at an upgrade the process before has the addresses until its work is done.
    fn start(&self, node: &Node) {
        let (vips, its_node) = (self.clone(), node.clone());
        let runtime = Runtime::current();
        let started = std::thread::Builder::new().name("weir-vips".into()).spawn(move || vips.run(&its_node, &runtime));
        if let Err(error) = started {
            let reason = format!("a thread could not be started: {error}");
            *lock(&self.inner.room) = Room::Unavailable(reason.clone());
            self.failed(node, reason);
        }
    }

    /// The thread's whole life: waits for its turn, starts the room, passes its reports on.
    fn run(&self, node: &Node, runtime: &Runtime) {
        // Held until this thread ends: with the process.
        let _lock = self.wait_for_turn(&node.config().node.state_dir);
        if self.inner.stopping.load(Ordering::Acquire) {
            return;
        }
        let settings = Some(node.config().node.state_dir.join("vips.settings"));
        let handle = match shell::start(Options { settings, ..Options::default() }) {
            Ok(handle) => handle,
            Err(error) => {
                let reason = crate::node::chain(&error);
                *lock(&self.inner.room) = Room::Unavailable(reason.clone());
                self.failed(node, reason);
                return;
            }
        };
        let reports = handle.reports().expect("they are taken once");
        {
            let mut room = lock(&self.inner.room);
            if matches!(*room, Room::Stopped) {
                return;
            }
            *room = Room::On(Arc::new(handle));
        }
        // Before the first virtual router is there, so that it begins with what is known.
        let standings = self.inner.standings.clone();
        let urgent = || {
            // Where it may not be, the room has said so already.
            let _ = shell::be_urgent();
        };
        let tell = move |vitality: Vitality| standings.set_vitality(vitality);
        let pulse = node.watch_data_plane(PULSE_INTERVAL, PULSE_LIMIT, urgent, tell);
        *lock(&self.inner.pulse) = pulse;
        // The file may have changed while we waited.
        if let Err(reason) = self.apply(node, &node.config()) {
            self.failed(node, reason);
        }
        runtime.spawn(watch::watch(self.inner.standings.clone(), node.clone()));
        let notifier = Notifier::start(runtime);
        let mut masters = BTreeSet::new();
        for report in reports {
            pass_on(&report, node, &notifier);
            if let ReportKind::Transition(change) = report.kind {
                let router = (report.vip, report.family);
                if change.to == StateKind::Master {
                    masters.insert(router)
                } else {
                    masters.remove(&router)
                };
                self.hasten(!masters.is_empty());
                self.choose_leader(node, &node.config());
            }
        }
    }

    /// Only who is master has to know within milliseconds that its data plane hangs.
    fn hasten(&self, master: bool) {
        if let Some(pulse) = &*lock(&self.inner.pulse) {
            pulse.hasten(master);
        }
    }

    /// The master of the file's `leader_vip` acts for all nodes; a node that is alone for itself.
    pub(crate) fn choose_leader(&self, node: &Node, config: &Config) {
        let Some(cluster) = &config.cluster else {
            node.machines().lead(node.stage() == Stage::Serving);
            return;
        };
        let routers = self.status();
        let mut states = routers.iter().filter(|router| *router.machine.config.name == *cluster.leader_vip.0).peekable();
        node.machines().lead(states.peek().is_some() && states.all(|router| router.machine.state == StateKind::Master));
    }

    /// One process of this node at a time has virtual IPs.
    fn wait_for_turn(&self, state_dir: &Path) -> Option<std::fs::File> {
        let path = state_dir.join("vips.lock");
        let file = match std::fs::File::options().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => file,
            Err(error) => {
                warn!("cannot lock {}: {error}: an upgrade would have both processes advertise for a moment", path.display());
                return None;
            }
        };
        while !self.inner.stopping.load(Ordering::Acquire) {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => std::thread::sleep(LOCK_RETRY),
                Err(error) => {
                    warn!("cannot lock {}: {error}", path.display());
                    return None;
                }
            }
        }
        Some(file)
    }
}

/// Events, and the program that the file names.
fn pass_on(report: &Report, node: &Node, notifier: &Notifier) {
    let (vip, family) = (report.vip.clone(), report.family.word());
    match &report.kind {
        ReportKind::Transition(change) => {
            let (from, to, reason) = (change.from.word(), change.to.word(), change.why.clone());
            let config = node.config();
            if let Some(vip) = config.vips.get(&VipName(vip.clone()))
                && !vip.notify.is_empty()
            {
                notifier.send(Notification {
                    command: vip.notify.clone(),
                    environment: vec![
                        ("WEIR_VIP", vip.name.to_string()),
                        ("WEIR_FAMILY", family.into()),
                        ("WEIR_STATE", to.into()),
                        ("WEIR_PREVIOUS_STATE", from.into()),
                        ("WEIR_REASON", reason.clone()),
                    ],
                });
            }
            node.record(VipEvent::VipState { vip, family, from, to, reason });
        }
        ReportKind::Event(event) => node.record(VipEvent::VipNotice {
            vip,
            family,
            kind: event.kind.word(),
            text: event.text.clone(),
            warning: event.kind.is_warning(),
        }),
        ReportKind::Warning(text) => node.record(VipEvent::VipNotice { vip, family, kind: "machine", text: text.clone(), warning: true }),
    }
}

/// A program to be run.
struct Notification {
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// Runs notify programs one after the other, so that what they are told comes in order.
struct Notifier(mpsc::Sender<Notification>);

impl Notifier {
    fn start(runtime: &Runtime) -> Notifier {
        let (sender, mut waiting) = mpsc::channel::<Notification>(NOTIFICATIONS_MAX);
        runtime.spawn(async move {
            while let Some(Notification { command, environment }) = waiting.recv().await {
                if let Err(reason) = command::run(&command, &environment, NOTIFY_LIMIT).await {
                    warn!("a notify program of a virtual IP failed: {reason}");
                }
            }
        });
        Notifier(sender)
    }

    fn send(&self, notification: Notification) {
        if self.0.try_send(notification).is_err() {
            warn!("notify programs of virtual IPs do not keep up: a change of state was not told to one");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
