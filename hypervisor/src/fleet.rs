//! All hosts together: what the rest of the product holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use weir_config::{Config, DomainType, HostName, Template, TemplateName, TemplateSource, VmHost};

use crate::agent::Agent;
use crate::capacity::{Room, Want};
use crate::driver::Driver;
use crate::error::HypervisorError;
use crate::event::{Events, RoomEvent};
use crate::host::{Found, Host};
use crate::lanes::Lanes;
use crate::memo::Memo;
use crate::metadata::{Metadata, Role};
use crate::names::{BaseName, MachineId, MachineName};
use crate::protocol::Request;
use crate::spec::{CloneCounts, CloneSpec, GenerationView, Hypervisor, Leftover, Pending, Progress, RoomView, TemplateView, Verb};
use crate::view::{HostLoad, HostView, Load, MachineView};
use crate::{base, make, remove, verbs, warm};

/// The most that is read of a console or screen.
const CONSOLE_BYTES_MAX: u64 = 1 << 20;

/// How long the end of a console, or a picture, may take.
const LOOK_MAX: Duration = Duration::from_secs(20);

/// How a host is reached.
pub type Launch = Box<dyn Fn(&VmHost) -> Arc<dyn Driver> + Send + Sync>;

/// All hosts together. Cheap to clone; the work ends when the last handle is dropped.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
    _background: Arc<Background>,
}

/// What the tasks share.
pub(crate) struct Shared {
    /// `[node] name`
    pub(crate) node: String,
    /// Copies of masters' disks.
    pub(crate) images: PathBuf,
    pub(crate) memo: Memo,
    pub(crate) lanes: Lanes,
    /// One template's content is found out at a time.
    pub(crate) sources: tokio::sync::Mutex<()>,
    /// One machine is placed at a time.
    pub(crate) placing: tokio::sync::Mutex<()>,
    pub(crate) leader: watch::Sender<bool>,
    pub(crate) events: Events,
    /// How clones came out, by template.
    counts: Mutex<BTreeMap<TemplateName, CloneCounts>>,
    launch: Launch,
    hosts: RwLock<BTreeMap<HostName, Running>>,
    templates: RwLock<BTreeMap<TemplateName, Arc<Template>>>,
    /// Machines that are being made, with what they will take.
    reserved: Mutex<BTreeMap<MachineName, Reserved>>,
    /// Bases that are known to be whole on a host.
    bases: Mutex<BTreeSet<(HostName, BaseName)>>,
    /// What last went wrong in the background, by template.
    errors: Mutex<BTreeMap<TemplateName, String>>,
}

struct Running {
    host: Arc<Host>,
    watch: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

struct Background(Vec<JoinHandle<()>>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

struct Reserved {
    host: HostName,
    want: Want,
    address: Option<IpAddr>,
    /// The machine is there and counts itself.
    settled: bool,
}

/// Room that is kept for a machine that is being made.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    pub(crate) name: MachineName,
    pub(crate) host: HostName,
    pub(crate) address: Option<IpAddr>,
}

impl Reservation {
    /// The machine is there now and counts itself; its name stays taken for as long as what is returned lives.
    pub(crate) fn settle(self) -> Reservation {
        if let Some(reserved) = lock(&self.shared.reserved).get_mut(&self.name) {
            reserved.settled = true;
        }
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.shared.reserved).remove(&self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("hosts", &self.shared.host_names()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// With one `weir-libvirt` process for each host. Must be called inside a tokio runtime.
    pub fn start(config: &Config, program: PathBuf) -> Fleet {
        let launch = move |host: &VmHost| -> Arc<dyn Driver> { Arc::new(Agent::start(program.clone(), host.uri.clone(), host.timeout)) };
        Fleet::with_drivers(config, Box::new(launch))
    }

    /// With other drivers than that: for tests and simulations.
    pub fn with_drivers(config: &Config, launch: Launch) -> Fleet {
        let shared = Arc::new(Shared {
            node: config.node.name.clone(),
            images: config.node.state_dir.join("images"),
            memo: Memo::load(&config.node.state_dir),
            lanes: Lanes::default(),
            sources: tokio::sync::Mutex::new(()),
            placing: tokio::sync::Mutex::new(()),
            leader: watch::Sender::new(false),
            events: Events::default(),
            counts: Mutex::default(),
            launch,
            hosts: RwLock::default(),
            templates: RwLock::default(),
            reserved: Mutex::default(),
            bases: Mutex::default(),
            errors: Mutex::default(),
        });
        let background = vec![tokio::spawn(remove::recover(shared.clone())), tokio::spawn(warm::keep(shared.clone()))];
        let fleet = Fleet { shared, _background: Arc::new(Background(background)) };
        fleet.apply(config);
        fleet
    }

    /// Makes another configuration take effect. A host whose URI is the same keeps its connection.
    pub fn apply(&self, config: &Config) {
        *self.shared.templates.write().unwrap_or_else(PoisonError::into_inner) = config.templates.clone();
        let mut hosts = self.shared.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let same = |old: &VmHost, new: &VmHost| {
            (&old.uri, old.domain_type, &old.storage_pool, old.timeout) == (&new.uri, new.domain_type, &new.storage_pool, new.timeout)
        };
        hosts.retain(|name, running| config.hosts.get(name).is_some_and(|new| same(&running.host.config(), new)));
        for (name, new) in &config.hosts {
            match hosts.get(name) {
                Some(running) => running.host.reconfigure(new.clone()),
                None => {
                    let host = Arc::new(Host::new(new.clone(), (self.shared.launch)(new), self.shared.events.clone()));
                    if new.domain_type == DomainType::Auto {
                        match self.shared.memo.read(|facts| facts.domain_types.get(&new.uri).cloned()).as_deref() {
                            Some("kvm") => host.set_domain_type("kvm"),
                            Some("qemu") => host.set_domain_type("qemu"),
                            _ => {}
                        }
                    }
                    let watch = tokio::spawn(host.clone().watch());
                    hosts.insert(name.clone(), Running { host, watch });
                }
            }
        }
    }

    /// To be told of what happens from now on.
    pub fn events(&self) -> broadcast::Receiver<RoomEvent> {
        self.shared.events.listen()
    }

    /// Whether this node acts by itself; see [`Hypervisor::set_leader`].
    pub fn leads(&self) -> bool {
        *self.shared.leader.borrow()
    }

    /// Whether anything is done to a machine just now.
    pub fn is_busy(&self) -> bool {
        self.shared.is_making() || self.shared.lanes.len() > 0
    }

    /// Waits until every host has answered once, or the time is over; returns whether all have.
    pub async fn settled(&self, within: Duration) -> bool {
        let all = async {
            for host in self.shared.hosts() {
                while !host.is_complete() {
                    host.next_look().await;
                }
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

impl Shared {
    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).values().map(|running| running.host.clone()).collect()
    }

    fn host_names(&self) -> Vec<String> {
        self.hosts().iter().map(|host| host.name.to_string()).collect()
    }

    pub(crate) fn host(&self, name: &HostName) -> Result<Arc<Host>, HypervisorError> {
        let found = self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(name).map(|running| running.host.clone());
        found.ok_or_else(|| HypervisorError::NotFound(format!("there is no host {name}; the hosts are: {}", self.host_names().join(", "))))
    }

    pub(crate) fn templates(&self) -> Vec<Arc<Template>> {
        self.templates.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn template(&self, name: &TemplateName) -> Result<Arc<Template>, HypervisorError> {
        let templates = self.templates.read().unwrap_or_else(PoisonError::into_inner);
        templates.get(name).cloned().ok_or_else(|| {
            let names: Vec<_> = templates.keys().map(ToString::to_string).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            HypervisorError::NotFound(format!("there is no template {name}; the templates are: {names}"))
        })
    }

    /// A machine by name or UUID, on whatever host.
    pub(crate) fn find(&self, machine: &str) -> Result<(Arc<Host>, Found), HypervisorError> {
        let mut found: Vec<_> = self
            .hosts()
            .into_iter()
            .flat_map(|host| host.found().into_iter().map(move |found| (host.clone(), found)))
            .filter(|(_, found)| found.name == machine || *found.id.0 == *machine)
            .collect();
        match found.len() {
            0 => {
                let silent: Vec<_> = self.hosts().iter().filter(|host| !host.is_up()).map(|host| host.name.to_string()).collect();
                let silent = if silent.is_empty() { String::new() } else { format!("; not answering: {}", silent.join(", ")) };
                Err(HypervisorError::NotFound(format!("there is no machine {machine}{silent}")))
            }
            1 => Ok(found.remove(0)),
            _ => {
                let hosts: Vec<_> = found.iter().map(|(host, found)| format!("{} ({})", host.name, found.id)).collect();
                Err(HypervisorError::Conflict(format!("{machine} is on several hosts: {}; name it by its id", hosts.join(", "))))
            }
        }
    }

    /// As [`Self::find`], but only one of ours.
    pub(crate) fn find_ours(&self, machine: &str) -> Result<(Arc<Host>, Found, Arc<Metadata>), HypervisorError> {
        let (host, found) = self.find(machine)?;
        match found.definition.metadata.clone() {
            Some(metadata) => Ok((host, found, metadata)),
            None => Err(HypervisorError::Conflict(format!("{machine} on {} was not made by weir and is left alone", host.name))),
        }
    }

    fn port(&self, metadata: &Metadata) -> Option<u16> {
        self.templates.read().unwrap_or_else(PoisonError::into_inner).get(&TemplateName::from(metadata.template.as_str()))?.port
    }

    pub(crate) fn machine_views(&self) -> Vec<MachineView> {
        self.hosts().iter().flat_map(|host| host.machines(|metadata| self.port(metadata))).collect()
    }

    pub(crate) fn machine_view(&self, id: &MachineId) -> Option<MachineView> {
        self.machine_views().into_iter().find(|machine| machine.id == *id)
    }

    /// A host's room, less what is kept for machines that are being made.
    pub(crate) fn room(&self, host: &Host, is_sibling: impl Fn(&Metadata) -> bool) -> Room {
        let mut room = host.room(is_sibling);
        for reserved in lock(&self.reserved).values().filter(|reserved| reserved.host == host.name && !reserved.settled) {
            room.memory_promised = room.memory_promised.saturating_add(reserved.want.memory);
            room.vcpus_promised = room.vcpus_promised.saturating_add(reserved.want.vcpus);
            room.machines += 1;
            // So that machines that are made at once are spread too.
            room.siblings += 1;
            room.disk_free = room.disk_free.map(|free| free.saturating_sub(reserved.want.disk));
        }
        room
    }

    pub(crate) fn reserve(
        self: &Arc<Self>,
        name: MachineName,
        host: HostName,
        want: Want,
        address: Option<IpAddr>,
    ) -> Result<Reservation, HypervisorError> {
        let mut reserved = lock(&self.reserved);
        if reserved.contains_key(&name) {
            return Err(HypervisorError::Busy(name.to_string()));
        }
        reserved.insert(name.clone(), Reserved { host: host.clone(), want, address, settled: false });
        drop(reserved);
        Ok(Reservation { shared: self.clone(), name, host, address })
    }

    pub(crate) fn reserved_addresses(&self) -> Vec<IpAddr> {
        lock(&self.reserved).values().filter_map(|reserved| reserved.address).collect()
    }

    pub(crate) fn is_being_made(&self, name: &MachineName) -> bool {
        lock(&self.reserved).contains_key(name)
    }

    /// Whether anything is being made: then a base that nobody lies on yet may soon be needed.
    pub(crate) fn is_making(&self) -> bool {
        !lock(&self.reserved).is_empty() || self.hosts().iter().any(|host| host.bringing.try_lock().is_err())
    }

    pub(crate) fn knows_base(&self, host: &HostName, base: &BaseName) -> bool {
        lock(&self.bases).contains(&(host.clone(), base.clone()))
    }

    pub(crate) fn learn_base(&self, host: &HostName, base: &BaseName) {
        lock(&self.bases).insert((host.clone(), base.clone()));
    }

    pub(crate) fn forget_base(&self, host: &HostName, base: &BaseName) {
        lock(&self.bases).remove(&(host.clone(), base.clone()));
    }

    pub(crate) fn set_error(&self, template: &TemplateName, error: Option<String>) {
        let mut errors = lock(&self.errors);
        match error {
            Some(error) => _ = errors.insert(template.clone(), error),
            None => _ = errors.remove(template),
        }
    }

    pub(crate) fn count(&self, template: &TemplateName, count: impl FnOnce(&mut CloneCounts)) {
        count(lock(&self.counts).entry(template.clone()).or_default());
    }

    /// The bases that these machines of a template came from, and the current one.
    fn generations<'a>(&self, template: &TemplateName, machines: impl Iterator<Item = &'a Metadata>) -> Vec<GenerationView> {
        let current = self.current_base(template);
        let mut counts: BTreeMap<BaseName, usize> = current.iter().map(|base| (base.clone(), 0)).collect();
        for base in machines.filter_map(|metadata| metadata.origin.parse().ok()) {
            *counts.entry(base).or_default() += 1;
        }
        let view = |(base, machines): (BaseName, usize)| GenerationView {
            generation: base.number,
            base: base.to_string(),
            machines,
            current: current.as_ref() == Some(&base),
        };
        counts.into_iter().map(view).collect()
    }

    /// Another machine that has this file as a disk, on whatever host: a folder may be shared.
    pub(crate) fn disk_user(&self, path: &str, except: &MachineId) -> Option<String> {
        let others = self.hosts().into_iter().flat_map(|host| host.found()).filter(|found| found.id != *except);
        others.filter(|found| found.definition.facts.disks.iter().any(|disk| disk == path)).map(|found| found.name).next()
    }

    /// The base that new clones of a template get, as far as it is known.
    pub(crate) fn current_base(&self, template: &TemplateName) -> Option<BaseName> {
        let fact = self.memo.read(|facts| facts.bases.get(&template.to_string()).cloned())?;
        Some(BaseName { template: template.clone(), number: fact.number, digest: fact.sha256.get(..12)?.into() })
    }
}

impl Hypervisor for Fleet {
    fn hosts(&self) -> Vec<HostView> {
        self.shared.hosts().iter().map(|host| host.view()).collect()
    }

    fn machines(&self) -> Vec<MachineView> {
        self.shared.machine_views()
    }

    fn templates(&self) -> Vec<TemplateView> {
        let machines = self.shared.machine_views();
        let errors = lock(&self.shared.errors);
        let view = |template: Arc<Template>| {
            let base = self.shared.current_base(&template.name);
            let of_it = || machines.iter().filter_map(|m| m.metadata.as_ref()).filter(|metadata| metadata.template == *template.name.0);
            TemplateView {
                name: template.name.to_string(),
                source: match &template.source {
                    TemplateSource::Master(master) => format!("master {master}"),
                    TemplateSource::Image(image) => format!("image {}", image.display()),
                },
                base: base.as_ref().map(ToString::to_string),
                base_generation: base.map(|base| base.number),
                generations: self.shared.generations(&template.name, of_it().map(|metadata| &**metadata)),
                machines: of_it().count(),
                warm: of_it().filter(|metadata| metadata.role == Role::Warm && metadata.phase == crate::metadata::Phase::Ready).count(),
                warm_wanted: template.warm,
                clones: lock(&self.shared.counts).get(&template.name).copied().unwrap_or_default(),
                error: errors.get(&template.name).cloned(),
            }
        };
        self.shared.templates().into_iter().map(view).collect()
    }

    fn points(&self, machine: &str) -> Vec<Load> {
        self.shared.find(machine).map(|(host, found)| host.points(&found.id)).unwrap_or_default()
    }

    fn host_points(&self, host: &str) -> Vec<HostLoad> {
        self.shared.host(&host.into()).map(|host| host.own_points()).unwrap_or_default()
    }

    fn room(&self, template: &TemplateName) -> Result<Vec<RoomView>, HypervisorError> {
        make::room(&self.shared, template)
    }

    fn plan_clone(&self, spec: &CloneSpec) -> Result<HostName, HypervisorError> {
        make::plan(&self.shared, spec)
    }

    fn clone_machine(&self, spec: CloneSpec, progress: Progress) -> Pending<MachineView> {
        let shared = self.shared.clone();
        to_the_end(async move { make::clone_machine(shared, spec, progress).await })
    }

    fn act(&self, machine: &str, verb: Verb, progress: Progress) -> Pending<()> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (_, found, _) = shared.find_ours(&machine)?;
            let lanes = shared.lanes.clone();
            lanes.run(&found.id.clone(), async move { verbs::act(&shared, &found.id, verb, &progress).await }).await
        })
    }

    fn retire(&self, machine: &str, generation: u64, patience: Duration, progress: Progress) -> Pending<()> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (_, found, metadata) = match shared.find_ours(&machine) {
                Err(HypervisorError::NotFound(_)) if shared.hosts().iter().all(|host| host.is_complete()) => return Ok(()),
                other => other?,
            };
            if metadata.generation > generation {
                return Err(make::outdated(&found, &metadata, generation));
            }
            let lanes = shared.lanes.clone();
            lanes.run(&found.id.clone(), async move { verbs::retire(&shared, &found.id, patience, &progress).await }).await
        })
    }

    fn label(&self, machine: &str, generation: u64, labels: BTreeMap<String, Option<String>>) -> Pending<()> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (_, found, _) = shared.find_ours(&machine)?;
            let lanes = shared.lanes.clone();
            lanes.run(&found.id.clone(), async move { verbs::label(&shared, &found.id, generation, labels).await }).await
        })
    }

    fn console(&self, machine: &str, bytes_max: u64) -> Pending<Vec<u8>> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (host, found, _) = shared.find_ours(&machine)?;
            let name: MachineName = found.name.parse().map_err(HypervisorError::Conflict)?;
            let request = Request::Tail {
                storage: host.config().storage_pool.clone(),
                volume: name.console(),
                bytes_max: bytes_max.min(CONSOLE_BYTES_MAX),
            };
            Ok(host.call_with(request, Vec::new(), LOOK_MAX).await?.1)
        })
    }

    fn screenshot(&self, machine: &str) -> Pending<(String, Vec<u8>)> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (host, found, metadata) = shared.find_ours(&machine)?;
            if !found.definition.facts.display {
                let template = &metadata.template;
                return Err(HypervisorError::Conflict(format!(
                    "{machine} has no screen; write display = true in [template.{template}] for the clones to come, or read its console"
                )));
            }
            match host.call_with(Request::Screenshot { uuid: found.id.0.to_string() }, Vec::new(), LOOK_MAX).await? {
                (crate::protocol::Answer::Bytes(mime), picture) => Ok((mime, picture)),
                (other, _) => Err(host.odd(&other)),
            }
        })
    }

    fn migrate(&self, machine: &str, to: HostName, progress: Progress) -> Pending<()> {
        let (shared, machine) = (self.shared.clone(), machine.to_owned());
        Box::pin(async move {
            let (_, found, _) = shared.find_ours(&machine)?;
            let lanes = shared.lanes.clone();
            lanes.run(&found.id.clone(), async move { verbs::migrate(&shared, &found.id, &to, &progress).await }).await
        })
    }

    fn prefetch(&self, template: TemplateName, progress: Progress) -> Pending<()> {
        let shared = self.shared.clone();
        to_the_end(async move {
            let template = shared.template(&template)?;
            let source = base::source(&shared, &template, &progress).await?;
            let mut outcome = Ok(());
            for host in shared.hosts() {
                if make::may_be_on(&template, &host.name) {
                    // One host that cannot take it does not keep it from the others.
                    let brought = base::bring(&shared, &host, &source, &progress).await.map(|_| ());
                    let is_there = brought.is_ok();
                    outcome = outcome.and(brought);
                    if template.shared_storage && is_there {
                        return Ok(());
                    }
                }
            }
            outcome
        })
    }

    fn collect_garbage(&self, dry_run: bool) -> Pending<Vec<Leftover>> {
        let shared = self.shared.clone();
        to_the_end(async move { Ok(remove::collect(&shared, dry_run).await) })
    }

    fn remove_base(&self, base: &str) -> Pending<()> {
        let (shared, base) = (self.shared.clone(), base.to_owned());
        to_the_end(async move {
            let name = base.parse().map_err(|()| HypervisorError::NotFound(format!("{base} is not the name of a base")))?;
            remove::remove_base(&shared, &name).await
        })
    }

    fn set_leader(&self, leader: bool) {
        self.shared.leader.send_if_modified(|known| std::mem::replace(known, leader) != leader);
    }
}

/// In a task of its own: it goes on when nobody waits any more.
fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T, HypervisorError>> + Send + 'static) -> Pending<T> {
    let task = tokio::spawn(work);
    Box::pin(async move { task.await.unwrap_or_else(|error| Err(HypervisorError::Local(format!("the work broke off: {error}")))) })
}
