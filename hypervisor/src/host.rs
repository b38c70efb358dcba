//! One host: its connection, and what was last seen of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use weir_config::{DomainType, HostName, VmHost};

use crate::capacity::Room;
use crate::domain::Facts;
use crate::driver::Driver;
use crate::error::{CallError, HypervisorError};
use crate::event::{Events, RoomEvent};
use crate::metadata::Metadata;
use crate::names::{BaseName, MachineId};
use crate::pressure::Pressure;
use crate::protocol::{Answer, RawDomain, RawNode, Request, StorageInfo};
use crate::view::{Counted, HostLoad, HostState, HostView, Load, MachineState, MachineView, Ring, Totals, load, node_cpu_share, unix_s};
use crate::xml::Element;

/// Between two looks at the storage pool, which makes libvirt read the whole folder.
const STORAGE_EVERY: Duration = Duration::from_secs(10);

/// Between two looks at all definitions: what others changed in them is seen then.
const DEFINITIONS_EVERY: Duration = Duration::from_secs(15);

/// Why a host does not answer before it was tried.
const NOT_TRIED: &str = "connecting for the first time";

/// Definitions that are asked for in one call.
const DESCRIBE_AT_ONCE: usize = 200;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: HostName,
    driver: Arc<dyn Driver>,
    config: RwLock<Arc<VmHost>>,
    events: Events,
    known: Mutex<Known>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// Grows with each good look.
    looks: watch::Sender<u64>,
    /// One base at a time is brought here.
    pub(crate) bringing: tokio::sync::Mutex<()>,
    /// One try of KVM at a time.
    pub(crate) trying: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Known {
    state: HostState,
    answered: Option<SystemTime>,
    node: Option<Counted<RawNode>>,
    cpu_share: Option<f64>,
    ring: Ring<HostLoad>,
    machines: BTreeMap<MachineId, Known1>,
    storage: Option<StorageInfo>,
    storage_error: Option<String>,
    storage_read: Option<SystemTime>,
    pressure: Option<Pressure>,
    /// What was written into machines since their definitions were last asked for: it is newer than the answer.
    written: BTreeMap<MachineId, Arc<Metadata>>,
    /// Its kernel does not say; asked again when it was away.
    pressure_missing: bool,
    definitions_read: Option<SystemTime>,
    domain_type: Option<&'static str>,
}

/// What is known of one machine.
#[derive(Debug)]
struct Known1 {
    counted: Counted<RawDomain>,
    definition: Option<Definition>,
    address: Option<IpAddr>,
    ring: Ring<Load>,
}

/// What a machine's definition says.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) xml: Arc<Element>,
    pub(crate) facts: Facts,
    pub(crate) metadata: Option<Arc<Metadata>>,
}

/// A machine with its definition.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) id: MachineId,
    pub(crate) state: MachineState,
    pub(crate) definition: Definition,
    pub(crate) address: Option<IpAddr>,
}

/// When to look again after the look that was due at `due` has ended: those that it took the time of are left out, not made up for.
fn next_look(due: Instant, every: Duration, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(due).as_nanos() / every.as_nanos().max(1);
    due + every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1)
}

impl Host {
    pub(crate) fn new(config: Arc<VmHost>, driver: Arc<dyn Driver>, events: Events) -> Host {
        let known = Known {
            state: HostState::Connecting { why: NOT_TRIED.into() },
            answered: None,
            node: None,
            cpu_share: None,
            ring: Ring::default(),
            machines: BTreeMap::new(),
            storage: None,
            storage_error: None,
            storage_read: None,
            pressure: None,
            written: BTreeMap::new(),
            pressure_missing: false,
            definitions_read: None,
            domain_type: match config.domain_type {
                DomainType::Auto => None,
                fixed => Some(fixed.word()),
            },
        };
        Host {
            name: config.name.clone(),
            driver,
            config: RwLock::new(config),
            events,
            known: Mutex::new(known),
            looking: tokio::sync::Mutex::new(()),
            looks: watch::Sender::new(0),
            bringing: tokio::sync::Mutex::new(()),
            trying: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn config(&self) -> Arc<VmHost> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Limits and times may change while it is connected.
    pub(crate) fn reconfigure(&self, config: Arc<VmHost>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call with the host's own deadline.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, HypervisorError> {
        let deadline = self.config().timeout;
        self.call_with(request, Vec::new(), deadline).await.map(|(answer, _)| answer)
    }

    /// A call that may take longer.
    pub(crate) async fn call_within(&self, request: Request, deadline: Duration) -> Result<Answer, HypervisorError> {
        self.call_with(request, Vec::new(), deadline).await.map(|(answer, _)| answer)
    }

    /// A call with a payload either way.
    pub(crate) async fn call_with(
        &self,
        request: Request,
        payload: Vec<u8>,
        deadline: Duration,
    ) -> Result<(Answer, Vec<u8>), HypervisorError> {
        let step = request.what();
        self.driver.call(request, payload, deadline).await.map_err(|source| self.failed(step, source))
    }

    pub(crate) fn failed(&self, step: &str, source: CallError) -> HypervisorError {
        HypervisorError::Host { host: self.name.clone(), step: step.to_owned(), source }
    }

    pub(crate) fn odd(&self, answer: &Answer) -> HypervisorError {
        self.failed("an odd answer", CallError::Down(format!("{answer:?}")))
    }

    /// Looks at the host again and again. The interval runs from beginning to beginning: a rate is worth as much as its moments are even.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut due = Instant::now();
        loop {
            let _ = self.look().await;
            due = next_look(due, self.config().interval, Instant::now());
            tokio::time::sleep_until(due).await;
        }
    }

    /// Looks at the host once: one bulk call, and the definitions that are new.
    pub(crate) async fn look(&self) -> Result<(), HypervisorError> {
        let _one = self.looking.lock().await;
        let outcome = self.look_now().await;
        let now = SystemTime::now();
        let mut known = self.known();
        let before = known.state.clone();
        match &outcome {
            Ok(()) => {
                known.answered = Some(now);
                known.state = HostState::Up;
                known.pressure_missing &= before == HostState::Up;
            }
            Err(error) => {
                let why = match error {
                    HypervisorError::Host { source: CallError::Down(why), .. } => why.clone(),
                    HypervisorError::Host { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                known.state = match known.answered {
                    None => HostState::Connecting { why },
                    Some(since) => HostState::Unknown { since, why },
                };
            }
        }
        let event = self.news(&before, &known.state, now);
        drop(known);
        if let Some(event) = event {
            self.events.tell(event);
        }
        if outcome.is_ok() {
            self.looks.send_modify(|looks| *looks += 1);
        }
        outcome
    }

    /// What a change of the state means to others.
    fn news(&self, before: &HostState, after: &HostState, now: SystemTime) -> Option<RoomEvent> {
        let host = self.name.to_string();
        match (before, after) {
            (HostState::Connecting { .. }, HostState::Up) => Some(RoomEvent::HostFound { host }),
            (HostState::Unknown { since, .. }, HostState::Up) => {
                let after_s = now.duration_since(*since).unwrap_or_default().as_secs_f64();
                Some(RoomEvent::HostRegained { host, after_s })
            }
            (HostState::Up, HostState::Unknown { why, .. }) => Some(RoomEvent::HostLost { host, why: why.clone() }),
            // Said once, when the first try has failed.
            (HostState::Connecting { why: first }, HostState::Connecting { why }) if first == NOT_TRIED && why != NOT_TRIED => {
                Some(RoomEvent::HostLost { host, why: why.clone() })
            }
            _ => None,
        }
    }

    async fn look_now(&self) -> Result<(), HypervisorError> {
        let sample = match self.call(Request::Sample).await? {
            Answer::Sample(sample) => sample,
            other => return Err(self.odd(&other)),
        };
        let now = SystemTime::now();
        let unknown = self.take_sample(sample, now);
        for ids in unknown.chunks(DESCRIBE_AT_ONCE) {
            let request = Request::Describe { uuids: ids.iter().map(|id| id.0.to_string()).collect() };
            self.known().written.clear();
            let Answer::Descriptions(found) = self.call(request).await? else { continue };
            let mut known = self.known();
            for description in found {
                let Ok(xml) = Element::parse(&description.xml) else { continue };
                let id = MachineId(description.uuid.into());
                let written = known.written.remove(&id);
                if let Some(machine) = known.machines.get_mut(&id) {
                    let metadata = written.or_else(|| Metadata::of_domain(&xml).map(Arc::new));
                    if machine.address.is_none() {
                        machine.address = metadata.as_ref().and_then(|metadata| metadata.address);
                    }
                    machine.definition = Some(Definition { facts: Facts::of(&xml), metadata, xml: Arc::new(xml) });
                }
            }
        }
        let storage_due = self.known().storage_read.is_none_or(|at| now.duration_since(at).is_ok_and(|age| age >= STORAGE_EVERY));
        if storage_due {
            self.look_at_storage().await?;
            self.look_at_pressure().await?;
        }
        Ok(())
    }

    /// Reads the storage pool's space. A host without a usable one can still be watched.
    pub(crate) async fn look_at_storage(&self) -> Result<(), HypervisorError> {
        let outcome = self.call(Request::Storage { storage: self.config().storage_pool.clone() }).await;
        let mut known = self.known();
        known.storage_read = Some(SystemTime::now());
        match outcome {
            Ok(Answer::Storage(storage)) => (known.storage, known.storage_error) = (Some(storage), None),
            Ok(other) => return Err(self.odd(&other)),
            Err(HypervisorError::Host { source: CallError::Fault(fault), .. }) => {
                (known.storage, known.storage_error) = (None, Some(fault.message));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Asks the kernel through libvirt. A host whose kernel does not say is as good.
    async fn look_at_pressure(&self) -> Result<(), HypervisorError> {
        if self.known().pressure_missing {
            return Ok(());
        }
        let pressure = match self.call(Request::Pressure).await {
            Ok(Answer::Pressure { cpu, memory, io }) => Pressure::parse(&cpu, &memory, &io),
            Ok(other) => return Err(self.odd(&other)),
            Err(HypervisorError::Host { source: CallError::Fault(_), .. }) => None,
            Err(error) => return Err(error),
        };
        let mut known = self.known();
        (known.pressure, known.pressure_missing) = (pressure, pressure.is_none());
        Ok(())
    }

    /// Returns the machines whose definitions are to be read.
    fn take_sample(&self, sample: crate::protocol::RawSample, now: SystemTime) -> Vec<MachineId> {
        let at_s = unix_s(now);
        let mut known = self.known();
        let node = Counted { at_s, counters: sample.node };
        if let Some(share) = known.node.as_ref().and_then(|before| node_cpu_share(&before.counters, &node.counters)) {
            known.cpu_share = Some(share);
            let load = HostLoad {
                at: at_s,
                cpu_share: share,
                memory_bytes: node.counters.memory_total,
                memory_free_bytes: node.counters.memory_free,
                storage_available_bytes: known.storage.as_ref().map(|storage| storage.available),
                pressure: known.pressure,
            };
            known.ring.push(load);
        }
        known.node = Some(node);
        let all = known.definitions_read.is_none_or(|at| now.duration_since(at).is_ok_and(|age| age >= DEFINITIONS_EVERY));
        if all {
            known.definitions_read = Some(now);
        }
        let mut before = std::mem::take(&mut known.machines);
        let mut wanted = Vec::new();
        for domain in sample.domains {
            let id = MachineId(domain.uuid.as_str().into());
            let counted = Counted { at_s, counters: domain };
            let machine = match before.remove(&id) {
                None => Known1 { counted, definition: None, address: None, ring: Ring::default() },
                Some(mut machine) => {
                    if let Some(load) = load(&machine.counted, &counted) {
                        machine.ring.push(load);
                    }
                    machine.counted = counted;
                    machine
                }
            };
            if all || machine.definition.is_none() {
                wanted.push(id.clone());
            }
            known.machines.insert(id, machine);
        }
        wanted
    }

    /// What we have just written into it, so that nobody acts on what it said before.
    pub(crate) fn remember(&self, id: &MachineId, metadata: &Metadata) {
        let metadata = Arc::new(metadata.clone());
        let mut known = self.known();
        known.written.insert(id.clone(), metadata.clone());
        if let Some(definition) = known.machines.get_mut(id).and_then(|machine| machine.definition.as_mut()) {
            definition.metadata = Some(metadata);
        }
    }

    pub(crate) fn remember_address(&self, id: &MachineId, address: IpAddr) {
        if let Some(machine) = self.known().machines.get_mut(id) {
            machine.address = Some(address);
        }
    }

    pub(crate) fn domain_type(&self) -> Option<&'static str> {
        self.known().domain_type
    }

    pub(crate) fn set_domain_type(&self, domain_type: &'static str) {
        self.known().domain_type = Some(domain_type);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.known().state == HostState::Up
    }

    pub(crate) fn storage(&self) -> Result<StorageInfo, String> {
        let known = self.known();
        known.storage.clone().ok_or_else(|| {
            let pool = &self.config().storage_pool;
            let why = known.storage_error.clone().unwrap_or("it was not read yet".into());
            format!(
                "storage pool {pool:?}: {why}; define one there: virsh pool-define-as {pool} dir --target /var/lib/libvirt/images, \
                 virsh pool-start {pool}, virsh pool-autostart {pool}"
            )
        })
    }

    /// Waits for a look that began after now.
    pub(crate) async fn next_look(&self) {
        let mut looks = self.looks.subscribe();
        looks.mark_unchanged();
        let _ = looks.changed().await;
    }

    /// All machines whose definition is known.
    pub(crate) fn found(&self) -> Vec<Found> {
        let known = self.known();
        let found = |(id, machine): (&MachineId, &Known1)| {
            let definition = machine.definition.clone()?;
            let state = MachineState::of(machine.counted.counters.state);
            Some(Found { name: machine.counted.counters.name.clone(), id: id.clone(), state, definition, address: machine.address })
        };
        known.machines.iter().filter_map(found).collect()
    }

    /// Whether everything that the host has was read.
    pub(crate) fn is_complete(&self) -> bool {
        let known = self.known();
        known.state == HostState::Up && known.machines.values().all(|machine| machine.definition.is_some())
    }

    pub(crate) fn view(&self) -> HostView {
        let config = self.config();
        let known = self.known();
        let active = || known.machines.values().filter(|machine| MachineState::of(machine.counted.counters.state).is_active());
        let node = known.node.as_ref().map(|node| &node.counters);
        HostView {
            name: self.name.to_string(),
            uri: config.uri.clone(),
            labels: config.labels.clone(),
            state: known.state.clone(),
            answered_at: known.answered.map(unix_s),
            driver: self.driver.link().ok(),
            domain_type: known.domain_type,
            cpus: node.map_or(0, |node| node.cpus),
            cpu_share: known.cpu_share,
            memory_bytes: node.map_or(0, |node| node.memory_total),
            memory_free_bytes: node.and_then(|node| node.memory_free),
            pressure: known.pressure,
            memory_promised_bytes: active().filter_map(|machine| machine.counted.counters.memory_max).sum(),
            vcpus_promised: active().map(|machine| machine.counted.counters.vcpus).sum(),
            storage_pool: config.storage_pool.clone(),
            storage: known.storage.clone(),
            storage_error: known.storage_error.clone(),
            machines: known.machines.len(),
        }
    }

    /// What of it can be given away. Machines that are being made count from their definition on.
    pub(crate) fn room(&self, is_sibling: impl Fn(&Metadata) -> bool) -> Room {
        let config = self.config();
        let known = self.known();
        let mut room = Room::of(&config, known.node.as_ref().map_or(0, |node| node.counters.memory_total));
        room.usable = match &known.state {
            HostState::Up => match &known.storage {
                Some(_) => Ok(()),
                None => Err(format!(
                    "storage pool {:?} cannot be used: {}",
                    config.storage_pool,
                    known.storage_error.as_deref().unwrap_or("not read yet")
                )),
            },
            HostState::Connecting { why } => Err(format!("it has not answered yet: {why}")),
            HostState::Unknown { why, .. } => Err(format!("it does not answer: {why}")),
        };
        room.disk_free = known.storage.as_ref().map(|storage| storage.available.saturating_sub(config.disk_reserve));
        for machine in known.machines.values() {
            let counters = &machine.counted.counters;
            let metadata = machine.definition.as_ref().and_then(|definition| definition.metadata.as_deref());
            if metadata.is_some_and(&is_sibling) {
                room.siblings += 1;
            }
            let coming = metadata.is_some_and(|metadata| metadata.phase == crate::metadata::Phase::Creating);
            if MachineState::of(counters.state).is_active() || coming {
                room.memory_promised = room.memory_promised.saturating_add(counters.memory_max.unwrap_or(0));
                room.vcpus_promised = room.vcpus_promised.saturating_add(counters.vcpus);
                room.machines += 1;
            }
        }
        room
    }

    pub(crate) fn machines(&self, port: impl Fn(&Metadata) -> Option<u16>) -> Vec<MachineView> {
        let known = self.known();
        let unknown_since = match &known.state {
            HostState::Unknown { since, .. } => Some(unix_s(*since)),
            _ => None,
        };
        let view = |(id, machine): (&MachineId, &Known1)| {
            let counters = &machine.counted.counters;
            let state = MachineState::of(counters.state);
            let metadata = machine.definition.as_ref().and_then(|definition| definition.metadata.clone());
            let facts = machine.definition.as_ref().map(|definition| &definition.facts);
            MachineView {
                name: counters.name.clone(),
                id: id.clone(),
                host: self.name.to_string(),
                state,
                unknown_since,
                since: metadata.as_ref().map(|metadata| metadata.since_s),
                port: metadata.as_deref().and_then(&port),
                base_generation: metadata.as_ref().and_then(|metadata| Some(metadata.origin.parse::<BaseName>().ok()?.number)),
                mac: facts.and_then(|facts| facts.mac.clone()),
                metadata,
                address: machine.address,
                vcpus: counters.vcpus.max(facts.map_or(0, |facts| facts.vcpus)),
                memory_bytes: counters.memory_max.or(facts.map(|facts| facts.memory)).unwrap_or(0),
                load: machine.ring.last().filter(|_| state.is_active() && unknown_since.is_none()),
                totals: unknown_since.is_none().then(|| Totals::from(counters)),
            }
        };
        known.machines.iter().map(view).collect()
    }

    pub(crate) fn points(&self, id: &MachineId) -> Vec<Load> {
        self.known().machines.get(id).map(|machine| machine.ring.points()).unwrap_or_default()
    }

    pub(crate) fn own_points(&self) -> Vec<HostLoad> {
        self.known().ring.points()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_an_interval_apart_however_long_one_takes() {
        let start = Instant::now();
        let check = |ended_ms: u64, expected_ms: u64| {
            let next = next_look(start, Duration::from_secs(1), start + Duration::from_millis(ended_ms));
            assert_eq!(next - start, Duration::from_millis(expected_ms), "one that ended after {ended_ms} ms");
        };
        check(0, 1000);
        check(300, 1000);
        check(999, 1000);
        check(1000, 2000);
        check(2500, 3000);
    }
}
