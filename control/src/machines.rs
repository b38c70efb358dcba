//! Hosts and machines of this node, and what is being done to them.
//!
//! What takes long is an operation: it is begun, has a number, and tells how far it is until it has ended. The last of them are kept. Its end
//! is an event that says who asked and what came of it.

mod turn;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, broadcast};
use weir_config::{Config, HostName, TemplateName};
use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, HypervisorError, MachineView, Progress, RoomEvent, Verb};

use crate::api::model::{OperationItem, OperationView};
use crate::event::MachineEvent;
use crate::node::Node;
use turn::Turn;

/// Operations that are remembered.
const OPERATIONS_MAX: usize = 1000;

/// The program that speaks with libvirt, beside `weir` itself.
const PROGRAM: &str = "weir-libvirt";

/// Names another place for it.
const PROGRAM_VARIABLE: &str = "WEIR_LIBVIRT";

/// Hosts and machines.
#[derive(Debug)]
pub(crate) struct Machines {
    fleet: Fleet,
    turn: Turn,
    operations: Mutex<VecDeque<Arc<Operation>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Operation {
    id: u64,
    verb: String,
    what: String,
    by: String,
    began: Instant,
    items: Mutex<Vec<Item>>,
}

#[derive(Debug)]
struct Item {
    /// Empty while it has no name.
    machine: String,
    host: Option<String>,
    progress: Progress,
    /// `None`: under way.
    outcome: Option<Result<(), String>>,
}

impl Item {
    fn new(machine: String, host: Option<String>) -> Item {
        let progress = Progress::default();
        progress.step("waiting for its turn");
        Item { machine, host, progress, outcome: None }
    }
}

/// What is done to a machine of a group.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A verb.
    Verb(Verb),
    /// A move.
    Migrate(HostName),
}

impl Machines {
    /// Begins to watch the hosts. Must be called inside the runtime.
    pub(crate) fn start(config: &Config, weir: &Path) -> Machines {
        let named = std::env::var_os(PROGRAM_VARIABLE).map(PathBuf::from);
        let beside = || weir.parent().map_or_else(|| PROGRAM.into(), |folder| folder.join(PROGRAM));
        let fleet = Fleet::start(config, named.unwrap_or_else(beside));
        let turn = Turn::start(fleet.clone(), &config.node.state_dir);
        let machines = Machines { fleet, turn, operations: Mutex::default(), next: AtomicU64::new(1) };
        machines.lead(config.cluster.is_none());
        machines
    }

    /// Makes another configuration take effect.
    pub(crate) fn apply(&self, config: &Config) {
        self.fleet.apply(config);
    }

    /// Only the node that leads acts on machines; it begins when a process before it has ended what it was doing.
    pub(crate) fn lead(&self, leader: bool) {
        self.turn.want(leader);
    }

    /// Whether this node acts on machines now.
    pub(crate) fn leads(&self) -> bool {
        self.fleet.leads()
    }

    /// What can be seen and asked for.
    pub(crate) fn hypervisor(&self) -> &dyn Hypervisor {
        &self.fleet
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<RoomEvent> {
        self.fleet.events()
    }

    /// An operation, if it is remembered.
    pub(crate) fn operation(&self, id: u64) -> Option<OperationView> {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.iter().find(|operation| operation.id == id).map(|operation| operation.view())
    }

    fn begin(&self, verb: &str, what: String, by: String, items: Vec<Item>) -> Arc<Operation> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let operation = Arc::new(Operation { id, verb: verb.to_owned(), what, by, began: Instant::now(), items: Mutex::new(items) });
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        if operations.len() == OPERATIONS_MAX {
            operations.pop_front();
        }
        operations.push_back(operation.clone());
        operation
    }

    /// Begins to make a machine.
    pub(crate) fn clone_machine(&self, node: &Node, by: String, spec: CloneSpec) -> OperationView {
        let name = spec.name.as_ref().map_or_else(String::new, ToString::to_string);
        let item = Item::new(name, None);
        let progress = item.progress.clone();
        let operation = self.begin("clone", format!("clone of template {}", spec.template), by, vec![item]);
        let work = self.fleet.clone_machine(spec, progress);
        let (node, done) = (node.clone(), operation.clone());
        tokio::spawn(async move { done.made(&node, work.await) });
        operation.view()
    }

    /// Begins to bring a template's base to its hosts.
    pub(crate) fn prefetch(&self, node: &Node, by: String, template: TemplateName) -> OperationView {
        let item = Item::new(format!("template {template}"), None);
        let progress = item.progress.clone();
        let operation = self.begin("prefetch", "prefetch".into(), by, vec![item]);
        let work = self.fleet.prefetch(template, progress);
        let (node, done) = (node.clone(), operation.clone());
        tokio::spawn(async move { done.ended(&node, 0, work.await.map_err(|error| error.chain())) });
        operation.view()
    }

    /// Begins to do the same to several machines, so many at once.
    pub(crate) fn act(&self, node: &Node, by: String, verb: &str, machines: &[MachineView], act: &Act, parallel: usize) -> OperationView {
        let items: Vec<Item> = machines.iter().map(|machine| Item::new(machine.name.clone(), Some(machine.host.clone()))).collect();
        let progress: Vec<Progress> = items.iter().map(|item| item.progress.clone()).collect();
        let operation = self.begin(verb, verb.to_owned(), by, items);
        let slots = Arc::new(Semaphore::new(parallel.max(1)));
        for (at, (machine, progress)) in machines.iter().zip(progress).enumerate() {
            let (slots, operation, fleet, node) = (slots.clone(), operation.clone(), self.fleet.clone(), node.clone());
            let (id, act) = (machine.id.to_string(), act.clone());
            tokio::spawn(async move {
                let _slot = slots.acquire_owned().await;
                let outcome = match act {
                    Act::Verb(verb) => fleet.act(&id, verb, progress).await,
                    Act::Migrate(to) => fleet.migrate(&id, to, progress).await,
                };
                operation.ended(&node, at, outcome.map_err(|error| error.chain()));
            });
        }
        operation.view()
    }
}

impl Operation {
    fn ended(&self, node: &Node, at: usize, outcome: Result<(), String>) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(item) = items.get_mut(at) else { return };
        node.record(MachineEvent::MachineActed {
            verb: self.verb.clone(),
            machine: Some(item.machine.clone()).filter(|name| !name.is_empty()),
            host: item.host.clone(),
            by: self.by.clone(),
            done: outcome.is_ok(),
            error: outcome.as_ref().err().cloned(),
            seconds: self.began.elapsed().as_secs_f64(),
        });
        // After the event, so that who sees the end finds it.
        item.outcome = Some(outcome);
    }

    fn made(&self, node: &Node, outcome: Result<MachineView, HypervisorError>) {
        if let Ok(machine) = &outcome
            && let Some(item) = self.items.lock().unwrap_or_else(PoisonError::into_inner).first_mut()
        {
            (item.machine, item.host) = (machine.name.clone(), Some(machine.host.clone()));
        }
        self.ended(node, 0, outcome.map(|_| ()).map_err(|error| error.chain()));
    }

    fn view(&self) -> OperationView {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |item: &Item| {
            let step = item.progress.now();
            OperationItem {
                machine: item.machine.clone(),
                host: item.host.clone(),
                step: step.name,
                done_bytes: step.done_bytes,
                end_bytes: step.end_bytes,
                ended: item.outcome.is_some(),
                error: item.outcome.as_ref().and_then(|outcome| outcome.as_ref().err().cloned()),
            }
        };
        let items: Vec<_> = items.iter().map(view).collect();
        OperationView { id: self.id, what: self.what.clone(), ended: items.iter().all(|item| item.ended), items }
    }
}
