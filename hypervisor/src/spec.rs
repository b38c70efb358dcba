//! What may be asked of the hypervisors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use weir_config::{HostName, TemplateName};

use crate::driver::Boxed;
use crate::error::HypervisorError;
use crate::names::MachineName;
use crate::view::{HostLoad, HostView, Load, MachineView};

/// What comes, sooner or later.
pub type Pending<T> = Boxed<'static, Result<T, HypervisorError>>;

/// Hosts and machines, as the rest of the product sees them.
///
/// What is read comes from memory and waits for nobody; what is done is safe to repeat and runs to its end also when the future is dropped.
pub trait Hypervisor: Send + Sync + 'static {
    /// All hosts.
    fn hosts(&self) -> Vec<HostView>;
    /// All machines on all hosts, foreign ones included.
    fn machines(&self) -> Vec<MachineView>;
    /// All templates.
    fn templates(&self) -> Vec<TemplateView>;
    /// The last points of a machine, oldest first; empty: there is no such machine.
    fn points(&self, machine: &str) -> Vec<Load>;
    /// The last points of a host, oldest first; empty: there is no such host.
    fn host_points(&self, host: &str) -> Vec<HostLoad>;
    /// How many more clones each host would take now, in the order of their names, with the reason why not one more.
    fn room(&self, template: &TemplateName) -> Result<Vec<RoomView>, HypervisorError>;
    /// Where a clone would go; what is missing is in the error.
    fn plan_clone(&self, spec: &CloneSpec) -> Result<HostName, HypervisorError>;
    /// Makes a machine, or takes a warm one. Asked again with the same name, it goes on with the machine that is there, thaws it and waits for
    /// it as wished; refused when that is of a later generation.
    fn clone_machine(&self, spec: CloneSpec, progress: Progress) -> Pending<MachineView>;
    /// Changes a machine's power, or removes it. A machine that is not ours is only looked at.
    fn act(&self, machine: &str, verb: Verb, progress: Progress) -> Pending<()>;
    /// Takes a machine out of the world: asks its guest to shut down, pulls the plug when `patience` is over, and removes it with everything
    /// that belongs to it. One that is gone already is a success, as far as every host answers. Refused when a later generation has
    /// touched it.
    fn retire(&self, machine: &str, generation: u64, patience: Duration, progress: Progress) -> Pending<()>;
    /// Sets labels of a machine, or takes them away: so that whoever looks at its host later knows. Refused when a later generation has
    /// touched it.
    fn label(&self, machine: &str, generation: u64, labels: BTreeMap<String, Option<String>>) -> Pending<()>;
    /// The end of what the machine wrote to its console.
    fn console(&self, machine: &str, bytes_max: u64) -> Pending<Vec<u8>>;
    /// A picture of its screen, with its MIME type.
    fn screenshot(&self, machine: &str) -> Pending<(String, Vec<u8>)>;
    /// Moves a running machine to another host.
    fn migrate(&self, machine: &str, to: HostName, progress: Progress) -> Pending<()>;
    /// Brings a template's base to every host where its clones may run.
    fn prefetch(&self, template: TemplateName, progress: Progress) -> Pending<()>;
    /// Finds what was left behind, and removes it unless `dry_run`.
    fn collect_garbage(&self, dry_run: bool) -> Pending<Vec<Leftover>>;
    /// Removes a base from every host; refused while clones lie on it, or may.
    fn remove_base(&self, base: &str) -> Pending<()>;
    /// Only the node that leads keeps warm clones and removes leftovers by itself.
    fn set_leader(&self, leader: bool);
}

/// A machine that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneSpec {
    /// From what.
    pub template: TemplateName,
    /// For which pool.
    pub pool: Option<String>,
    /// Under which name; absent: one is made up. With a name the wish can be repeated.
    pub name: Option<MachineName>,
    /// On which host; absent: where there is room.
    pub host: Option<HostName>,
    /// Its number in its pool, from whoever counts; told back in its metadata. [`MachineName::of_slot`] makes a name of it.
    pub slot: Option<u32>,
    /// Of the plan that wants it.
    pub generation: u64,
    /// Labels it gets.
    pub labels: BTreeMap<String, String>,
    /// From this base, which a host still has, instead of the template's content as it is now: to go back.
    pub base: Option<String>,
    /// Whether a warm clone is taken. It keeps its own name; the wanted one is its claim.
    pub warm: WarmUse,
    /// What is waited for.
    pub wait: WaitFor,
}

impl CloneSpec {
    /// The least that must be said.
    pub fn new(template: TemplateName) -> CloneSpec {
        CloneSpec {
            template,
            pool: None,
            name: None,
            host: None,
            slot: None,
            generation: 0,
            labels: BTreeMap::new(),
            base: None,
            warm: WarmUse::First,
            wait: WaitFor::Ready,
        }
    }
}

/// Whether a warm clone is taken for a wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WarmUse {
    /// A new one is made.
    Never,
    /// A warm one, or else a new one.
    First,
    /// A warm one, or the wish is refused as [`HypervisorError::NotFound`].
    Only,
}

/// What is waited for after a machine was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// It runs.
    Running,
    /// It has booted, as its template says; if not in time, it is removed again.
    Ready,
}

/// What can be done to a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Power on, or go on from saved memory.
    Start,
    /// Go on after suspend.
    Resume,
    /// Freeze.
    Suspend,
    /// Ask the guest to shut down.
    Shutdown {
        /// How long it may take.
        timeout: Duration,
        /// Pull the plug after that.
        force: bool,
    },
    /// Pull the plug.
    Stop,
    /// Pull the reset line.
    Reset,
    /// Ask the guest to reboot.
    Reboot,
    /// Copy what the base holds into the machine's own disk, which no longer needs it then.
    Flatten,
    /// Remove it with everything that belongs to it.
    Delete,
}

impl Verb {
    /// `start`, `resume`, ...
    pub fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Resume => "resume",
            Verb::Suspend => "suspend",
            Verb::Shutdown { .. } => "shutdown",
            Verb::Stop => "stop",
            Verb::Reset => "reset",
            Verb::Reboot => "reboot",
            Verb::Flatten => "flatten",
            Verb::Delete => "delete",
        }
    }
}

/// What a host would still take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RoomView {
    /// The host.
    pub host: String,
    /// Clones more, one after the other.
    pub more: u32,
    /// The constraint that refuses the next one.
    pub why: String,
}

/// A template.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateView {
    /// `[template.NAME]`
    pub name: String,
    /// `master NAME` or `image PATH`.
    pub source: String,
    /// The base that new clones get, as far as it is known.
    pub base: Option<String>,
    /// The number of that base.
    pub base_generation: Option<u32>,
    /// The bases that its machines came from, and the current one, oldest first.
    pub generations: Vec<GenerationView>,
    /// Machines of it, warm ones included.
    pub machines: usize,
    /// Warm clones that wait.
    pub warm: usize,
    /// Warm clones that are wanted.
    pub warm_wanted: u32,
    /// Clones since this process started.
    pub clones: CloneCounts,
    /// What last went wrong in the background.
    pub error: Option<String>,
}

/// One state of a template's content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: u32,
    /// The base.
    pub base: String,
    /// Machines whose content came from it.
    pub machines: usize,
    /// New clones get this one.
    pub current: bool,
}

/// How clones of a template came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CloneCounts {
    /// Made, warm ones included.
    pub made: u64,
    /// Warm ones that were taken.
    pub warm_taken: u64,
    /// Wanted and not made.
    pub failed: u64,
}

/// Something that was left behind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leftover {
    /// The host.
    pub host: String,
    /// `machine`, `volume` or `base`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why it is one.
    pub why: String,
    /// It was removed.
    pub removed: bool,
    /// Why it could not be removed.
    pub error: Option<String>,
}

/// How far something is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Step {
    /// What is being done.
    pub name: String,
    /// Bytes done, where they are counted.
    pub done_bytes: Option<u64>,
    /// Bytes in all.
    pub end_bytes: Option<u64>,
}

/// Where progress is told. Cheap to clone; who does not care makes a fresh one.
#[derive(Clone, Debug)]
pub struct Progress(Arc<watch::Sender<Step>>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Arc::new(watch::Sender::new(Step::default())))
    }
}

impl Progress {
    /// Now this is being done.
    pub fn step(&self, name: impl Into<String>) {
        let _ = self.0.send_replace(Step { name: name.into(), done_bytes: None, end_bytes: None });
    }

    /// So far it is.
    pub fn bytes(&self, done: u64, end: u64) {
        self.0.send_modify(|step| (step.done_bytes, step.end_bytes) = (Some(done), Some(end)));
    }

    /// The last word.
    pub fn now(&self) -> Step {
        self.0.borrow().clone()
    }

    /// To be told of the next.
    pub fn subscribe(&self) -> watch::Receiver<Step> {
        self.0.subscribe()
    }
}
