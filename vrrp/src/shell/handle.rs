//! What the rest of the program sees of the virtual routers.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use weir_config::VipMode;

use super::capability;
use super::device::Mode;
use super::driver::Driver;
use crate::machine::{Config, Event, Input, Status, Transition};
use crate::packet::Family;

/// Commands that wait.
const COMMANDS_MAX: usize = 1024;

/// Reports that wait to be read; more are left out and counted.
const REPORTS_MAX: usize = 4096;

/// How the room is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program to start as guardian: this one, whose `main` asks [`super::guardian()`] first. `None`: no guardian.
    pub guardian: Option<PathBuf>,
    /// Real-time scheduling and locked memory, where this process may; a warning where not.
    pub real_time: bool,
    /// A file in which is written down which settings of interfaces may be changed, so that the next start puts them back if this process
    /// is killed; `None`: they stay as they are then.
    pub settings: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options { guardian: Some("/proc/self/exe".into()), real_time: true, settings: None }
    }
}

/// One virtual router to be run.
#[derive(Clone, PartialEq, Debug)]
pub struct RouterSpec {
    /// Its protocol.
    pub config: Config,
    /// Where its addresses live.
    pub mode: VipMode,
    /// Whether packets to the addresses are taken though it does not own them (RFC 9568 section 6.1, Accept_Mode).
    pub accept: bool,
    /// The address to send from; `None`: the interface's own.
    pub source: Option<IpAddr>,
    /// Routers of one group are master together or not at all: see [`crate::group`]. The first of them elects, the others are followers.
    pub group: Option<Arc<str>>,
}

/// All that can be told about one virtual router.
#[derive(Clone, PartialEq, Debug)]
pub struct RouterStatus {
    /// What the protocol says.
    pub machine: Status,
    /// Where its addresses live.
    pub mode: Mode,
    /// Why there, in words.
    pub mode_reason: String,
    /// Addresses this node has now.
    pub held: Vec<IpAddr>,
    /// It stopped because of a fault of this program; in words.
    pub failed: Option<String>,
}

/// Frames of one interface that belong to no virtual router.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkCounters {
    /// Frames of protocol 112 that are no whole IP packet.
    pub malformed: u64,
    /// `vrid-errors` of RFC 8347: a VRID that is not configured on the interface.
    pub unknown_vrid: u64,
    /// Sent to another host's address.
    pub not_ours: u64,
}

/// All that can be told about the room.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeStatus {
    /// In the order of the file, each family for itself.
    pub routers: Vec<RouterStatus>,
    /// By interface.
    pub links: BTreeMap<String, LinkCounters>,
    /// Whether the guardian runs.
    pub guardian: bool,
    /// Whether the thread has real-time priority.
    pub real_time: bool,
    /// Reports that nobody had room for.
    pub reports_lost: u64,
}

/// Something happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The `[vip.NAME]`; empty: the room as a whole.
    pub vip: Arc<str>,
    /// Its family.
    pub family: Family,
    /// What.
    pub kind: ReportKind,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum ReportKind {
    /// It became something else.
    Transition(Transition),
    /// Something worth saying.
    Event(Event),
    /// Something of this machine is not as it should be.
    Warning(String),
}

/// Why the room cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process may not do what is needed.
    #[error("virtual IPs need {}: grant it (systemd: AmbientCapabilities=, file: setcap) or take the [vip] tables out", list(.0))]
    Capabilities(Vec<(&'static str, &'static str)>),
    /// A socket or thread could not be made.
    #[error("virtual IPs cannot be run: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

fn list(missing: &[(&str, &str)]) -> String {
    missing.iter().map(|(name, reason)| format!("{name} ({reason})")).collect::<Vec<_>>().join(" and ")
}

#[derive(Debug)]
pub(super) enum Command {
    Apply(Vec<RouterSpec>),
    Tell(Arc<str>, Input),
    Status(SyncSender<NodeStatus>),
    Stop,
}

/// The running room. Dropped, it stops without waiting for a peer: say [`Handle::stop`] before.
#[derive(Debug)]
pub struct Handle {
    commands: SyncSender<Command>,
    bell: OwnedFd,
    reports: Mutex<Option<Receiver<Report>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Starts the room, without routers.
pub fn start(options: Options) -> Result<Handle, StartError> {
    let missing = capability::missing();
    if !missing.is_empty() {
        return Err(StartError::Capabilities(missing));
    }
    let system = |what| move |source| StartError::System { what, source };
    let (commands, orders) = sync_channel(COMMANDS_MAX);
    let (tell, reports) = sync_channel(REPORTS_MAX);
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from).map_err(system("an eventfd"))?;
    let rung = bell.try_clone().map_err(system("an eventfd"))?;
    let (ready, started) = sync_channel(1);
    let thread = std::thread::Builder::new().name("weir-vrrp".into()).spawn(move || {
        // In here, for the guardian watches the thread that started it.
        match Driver::open(&options, orders, rung, tell) {
            Ok(mut driver) => {
                let _ = ready.send(Ok(()));
                driver.run();
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
    let thread = thread.map_err(system("a thread"))?;
    match started.recv() {
        Ok(Ok(())) => Ok(Handle { commands, bell, reports: Mutex::new(Some(reports)), thread: Mutex::new(Some(thread)) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::System { what: "the thread ended", source: io::ErrorKind::Other.into() }),
    }
}

impl Handle {
    fn command(&self, command: Command) -> bool {
        // The thread reads in microseconds: a full channel means that it is gone.
        let sent = self.commands.try_send(command).is_ok();
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        sent
    }

    /// From now on these run. What is in here unchanged is not touched, what changed keeps its state where it is the same router (name,
    /// interface, family, number, version and mode), and what is not in here is handed over and stopped. False if the thread is gone.
    pub fn apply(&self, routers: Vec<RouterSpec>) -> bool {
        self.command(Command::Apply(routers))
    }

    /// Tells the routers of a virtual IP something: whether it can serve, its rank, that it shall let go.
    pub fn tell(&self, vip: &str, input: Input) -> bool {
        self.command(Command::Tell(vip.into(), input))
    }

    /// How everything is. `None` if the thread does not answer within a second.
    pub fn status(&self) -> Option<NodeStatus> {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Status(reply));
        answer.recv_timeout(Duration::from_secs(1)).ok()
    }

    /// What happens, from now on. Can be taken once.
    pub fn reports(&self) -> Option<Receiver<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands everything over and stops; waits until that is done, but no longer than until `deadline`. True if it was done.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.command(Command::Apply(Vec::new()));
        let mut done = false;
        while !done && Instant::now() < deadline {
            done = self.status().is_none_or(|status| status.routers.is_empty());
            if !done {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.end();
        done
    }

    fn end(&self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}
