//! Hosts and machines of this node, and what is being done to them.
//!
//! What takes long is an operation: it is begun, has a number, and tells how far it is until it has ended. The last of them are kept.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use weir_config::{Config, HostName};
use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, HypervisorError, MachineView, Progress, Verb};

use crate::api::model::{OperationItem, OperationView};

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
    operations: Mutex<VecDeque<Arc<Operation>>>,
    next: AtomicU64,
    leads: AtomicBool,
}

#[derive(Debug)]
struct Operation {
    id: u64,
    what: String,
    items: Mutex<Vec<Item>>,
}

#[derive(Debug)]
struct Item {
    machine: String,
    host: Option<String>,
    progress: Progress,
    /// `None`: under way.
    outcome: Option<Result<(), String>>,
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
        let machines = Machines {
            fleet: Fleet::start(config, named.unwrap_or_else(beside)),
            operations: Mutex::default(),
            next: AtomicU64::new(1),
            leads: AtomicBool::new(false),
        };
        machines.lead(config.cluster.is_none());
        machines
    }

    /// Makes another configuration take effect.
    pub(crate) fn apply(&self, config: &Config) {
        self.fleet.apply(config);
    }

    /// Only the node that leads removes leftovers and keeps warm clones.
    pub(crate) fn lead(&self, leader: bool) {
        self.leads.store(leader, Ordering::Release);
        self.fleet.set_leader(leader);
    }

    /// Whether this node leads.
    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// What can be seen and asked for.
    pub(crate) fn hypervisor(&self) -> &dyn Hypervisor {
        &self.fleet
    }

    /// An operation, if it is remembered.
    pub(crate) fn operation(&self, id: u64) -> Option<OperationView> {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.iter().find(|operation| operation.id == id).map(|operation| operation.view())
    }

    fn begin(&self, what: String, items: Vec<Item>) -> Arc<Operation> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let operation = Arc::new(Operation { id, what, items: Mutex::new(items) });
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        if operations.len() == OPERATIONS_MAX {
            operations.pop_front();
        }
        operations.push_back(operation.clone());
        operation
    }

    /// Begins to make a machine.
    pub(crate) fn clone_machine(&self, spec: CloneSpec) -> OperationView {
        let progress = Progress::default();
        let name = spec.name.as_ref().map_or_else(String::new, ToString::to_string);
        let item = Item { machine: name, host: None, progress: progress.clone(), outcome: None };
        let operation = self.begin(format!("clone of template {}", spec.template), vec![item]);
        let work = self.fleet.clone_machine(spec, progress);
        let done = operation.clone();
        tokio::spawn(async move { done.made(work.await) });
        operation.view()
    }

    /// Begins to do the same to several machines, so many at once.
    pub(crate) fn act(&self, what: &str, machines: &[MachineView], act: &Act, parallel: usize) -> OperationView {
        let item = |machine: &MachineView| Item {
            machine: machine.name.clone(),
            host: Some(machine.host.clone()),
            progress: Progress::default(),
            outcome: None,
        };
        let items: Vec<Item> = machines.iter().map(item).collect();
        let progress: Vec<Progress> = items.iter().map(|item| item.progress.clone()).collect();
        let operation = self.begin(what.to_owned(), items);
        let slots = Arc::new(Semaphore::new(parallel.max(1)));
        for (at, (machine, progress)) in machines.iter().zip(progress).enumerate() {
            let (slots, operation, fleet) = (slots.clone(), operation.clone(), self.fleet.clone());
            let (id, act) = (machine.id.to_string(), act.clone());
            tokio::spawn(async move {
                let _slot = slots.acquire_owned().await;
                let outcome = match act {
                    Act::Verb(verb) => fleet.act(&id, verb, progress).await,
                    Act::Migrate(to) => fleet.migrate(&id, to, progress).await,
                };
                operation.ended(at, outcome.map_err(|error| error.chain()));
            });
        }
        operation.view()
    }
}

impl Operation {
    fn ended(&self, at: usize, outcome: Result<(), String>) {
        if let Some(item) = self.items.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
            item.outcome = Some(outcome);
        }
    }

    fn made(&self, outcome: Result<MachineView, HypervisorError>) {
        if let Ok(machine) = &outcome
            && let Some(item) = self.items.lock().unwrap_or_else(PoisonError::into_inner).first_mut()
        {
            (item.machine, item.host) = (machine.name.clone(), Some(machine.host.clone()));
        }
        self.ended(0, outcome.map(|_| ()).map_err(|error| error.chain()));
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
