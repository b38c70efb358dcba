//! A host in memory: answers every call of the protocol as libvirt would, for tests and simulations.
//!
//! It is strict where libvirt is: names are unique, a machine without its disks does not start, an overlay needs its base. And it can be told
//! to fail: from the n-th change on every call is refused, as when `weir` dies there and never hears the answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::Facts;
use crate::driver::{Boxed, Driver, Reply};
use crate::error::CallError;
use crate::protocol::{
    Answer, Description, Fault, FaultKind, InterfaceAddress, PowerAct, RawDomain, RawNode, RawSample, Request, StorageInfo, VolumeInfo,
};
use crate::xml::{Element, Node};

const FOLDER: &str = "/memory";

/// `virDomainState`
const RUNNING: i32 = 1;
const PAUSED: i32 = 3;
const OFF: i32 = 5;

/// A host in memory. Cheap to clone: all clones are the same host.
#[derive(Clone, Debug, Default)]
pub struct MemoryHost {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    memory: u64,
    space: u64,
    domains: BTreeMap<String, Domain>,
    volumes: BTreeMap<String, Volume>,
    /// Changes that may still happen before every call fails; `None`: no bound.
    changes_left: Option<u64>,
    changes: u64,
    down: Option<String>,
    ticks: u64,
    /// What each call takes.
    takes: Duration,
    /// Looks at the counters so far.
    samples: u64,
    /// Guests have booted: they have addresses.
    booted: bool,
    /// Guests have an agent; then the time it was last told, by machine.
    agents: Option<BTreeMap<String, i64>>,
}

#[derive(Clone, Debug)]
struct Domain {
    name: String,
    xml: Element,
    state: i32,
    saved: bool,
    transient: bool,
    started: u64,
}

#[derive(Clone, Debug, Default)]
struct Volume {
    bytes: Vec<u8>,
    capacity: u64,
    format: String,
    backing: Option<String>,
    modified: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            memory: 16 << 30,
            space: 100 << 30,
            domains: BTreeMap::new(),
            volumes: BTreeMap::new(),
            changes_left: None,
            changes: 0,
            down: None,
            ticks: 1,
            takes: Duration::ZERO,
            samples: 0,
            booted: true,
            agents: Some(BTreeMap::new()),
        }
    }
}

impl MemoryHost {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory it has.
    pub fn set_memory(&self, bytes: u64) {
        self.inner().memory = bytes;
    }

    /// Bytes of disk that are free.
    pub fn set_space(&self, bytes: u64) {
        self.inner().space = bytes;
    }

    /// So many changes happen; after the last every call is refused. `None`: as many as are asked for.
    pub fn set_changes_left(&self, changes: Option<u64>) {
        self.inner().changes_left = changes;
    }

    /// Changes that happened so far.
    pub fn changes(&self) -> u64 {
        self.inner().changes
    }

    /// Does not answer while there is a reason.
    pub fn set_down(&self, why: Option<&str>) {
        self.inner().down = why.map(str::to_owned);
    }

    /// Each call takes so long.
    pub fn set_takes(&self, time: Duration) {
        self.inner().takes = time;
    }

    /// How often its counters were looked at.
    pub fn samples(&self) -> u64 {
        self.inner().samples
    }

    /// Guests that run have an address, or are still booting.
    pub fn set_booted(&self, booted: bool) {
        self.inner().booted = booted;
    }

    /// Guests have an agent from now on, or none.
    pub fn set_agents(&self, agents: bool) {
        self.inner().agents = agents.then(BTreeMap::new);
    }

    /// The time that a machine's agent was last told, in seconds since 1970.
    pub fn told_time(&self, uuid: &str) -> Option<i64> {
        self.inner().agents.as_ref()?.get(uuid).copied()
    }

    /// Defines a domain as somebody else would.
    pub fn define_foreign(&self, xml: &str) {
        let outcome = self.inner().define(xml);
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// Puts a file into the storage pool as somebody else would.
    pub fn put_volume(&self, name: &str, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.ticks += 1;
        let volume =
            Volume { bytes: bytes.to_vec(), capacity: bytes.len() as u64, format: "raw".into(), backing: None, modified: inner.ticks };
        inner.volumes.insert(name.into(), volume);
    }

    /// Takes a file out of the storage pool as somebody else would.
    pub fn take_volume(&self, name: &str) {
        self.inner().volumes.remove(name);
    }

    /// Ends a machine as its QEMU would that dies.
    pub fn end_machine(&self, name: &str) {
        self.inner().domains.values_mut().filter(|domain| domain.name == name).for_each(|domain| domain.state = OFF);
    }

    /// What a volume holds.
    pub fn volume(&self, name: &str) -> Option<Vec<u8>> {
        self.inner().volumes.get(name).map(|volume| volume.bytes.clone())
    }

    /// Names of all volumes.
    pub fn volumes(&self) -> Vec<String> {
        self.inner().volumes.keys().cloned().collect()
    }

    /// Names of all domains.
    pub fn domains(&self) -> Vec<String> {
        self.inner().domains.values().map(|domain| domain.name.clone()).collect()
    }
}

impl Driver for MemoryHost {
    fn call(&self, request: Request, payload: Vec<u8>, _deadline: Duration) -> Boxed<'_, Reply> {
        Box::pin(async move {
            // As in a real one, others get their turn while a call is under way.
            let takes = self.inner().takes;
            if takes.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(takes).await;
            }
            let mut inner = self.inner();
            if let Some(why) = &inner.down {
                return Err(CallError::Down(why.clone()));
            }
            if inner.changes_left == Some(0) {
                return Err(CallError::Down("cut off by the test".into()));
            }
            if changes_something(&request) {
                inner.changes += 1;
                inner.changes_left = inner.changes_left.map(|left| left - 1);
            }
            inner.answer(request, payload).map_err(CallError::Fault)
        })
    }

    fn link(&self) -> Result<String, String> {
        self.inner().down.clone().map_or(Ok("memory".into()), Err)
    }
}

fn changes_something(request: &Request) -> bool {
    matches!(
        request,
        Request::CreateVolume { .. }
            | Request::DeleteVolume { .. }
            | Request::Upload { .. }
            | Request::Write { .. }
            | Request::Define { .. }
            | Request::Undefine { .. }
            | Request::Power { .. }
            | Request::SetMetadata { .. }
    )
}

fn fault<T>(kind: FaultKind, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { kind, message: message.into() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn range(offset: u64, length: u64) -> std::ops::Range<usize> {
    offset as usize..(offset + length) as usize
}

impl Inner {
    fn answer(&mut self, request: Request, payload: Vec<u8>) -> Result<(Answer, Vec<u8>), Fault> {
        self.ticks += 1;
        let answer = match request {
            Request::Hello { .. } | Request::Open { .. } => Answer::Text("memory".into()),
            Request::Sample => {
                self.samples += 1;
                Answer::Sample(self.sample())
            }
            Request::Describe { uuids } => {
                let found = uuids.iter().filter_map(|uuid| Some(describe(uuid, self.domains.get(uuid)?)));
                Answer::Descriptions(found.collect())
            }
            Request::Find { name } => {
                let found = self.domains.iter().filter(|(_, domain)| domain.name == name);
                Answer::Descriptions(found.map(|(uuid, domain)| describe(uuid, domain)).collect())
            }
            Request::Storage { .. } => {
                Answer::Storage(StorageInfo { path: FOLDER.into(), capacity: self.space.max(100 << 30), available: self.space })
            }
            Request::Pressure => {
                let line = |word| format!("{word} avg10=1.00 avg60=0.00 avg300=0.00 total={}\n", self.ticks);
                let both = format!("{}{}", line("some"), line("full"));
                Answer::Pressure { cpu: line("some"), memory: both.clone(), io: both }
            }
            Request::Volumes { .. } => Answer::Names(self.volumes.keys().cloned().collect()),
            Request::Volume { volume, .. } => Answer::Volume(self.volumes.get(&volume).map(|found| volume_info(&volume, found))),
            Request::VolumeAt { path } => {
                let name = path.rsplit('/').next().unwrap_or("").to_owned();
                Answer::Volume(self.volumes.get(&name).map(|found| volume_info(&name, found)))
            }
            Request::CreateVolume { volume, fresh: true, .. } if self.volumes.contains_key(&volume) => {
                return fault(FaultKind::Exists, format!("storage volume '{volume}' exists already"));
            }
            Request::CreateVolume { volume, xml, content_of, .. } => {
                self.create_volume(&volume, &xml, content_of)?;
                if !payload.is_empty() {
                    self.write(&volume, 0, &payload)?;
                }
                Answer::Done
            }
            Request::DeleteVolume { volume, .. } => {
                self.volumes.remove(&volume);
                Answer::Done
            }
            Request::Upload { volume, path, offset, length, .. } => {
                let bytes = std::fs::read(&path).or_else(|error| fault(FaultKind::Other, format!("{path}: {error}")))?;
                let piece = bytes.get(range(offset, length)).map(<[u8]>::to_vec);
                let piece = piece.ok_or(Fault { kind: FaultKind::Other, message: format!("{path} is too short") })?;
                self.write(&volume, offset as usize, &piece)?;
                Answer::Text(hex(&Sha256::digest(&piece)))
            }
            Request::Download { source, path, offset, length } => {
                let name = source.rsplit('/').next().unwrap_or("").to_owned();
                let piece = self.piece(&name, offset, length)?;
                let mut bytes = std::fs::read(&path).unwrap_or_default();
                bytes.resize(bytes.len().max((offset + length) as usize), 0);
                bytes[range(offset, length)].copy_from_slice(&piece);
                std::fs::write(&path, bytes).or_else(|error| fault(FaultKind::Other, error.to_string()))?;
                Answer::Text(hex(&Sha256::digest(&piece)))
            }
            Request::Digest { volume, offset, length, .. } => Answer::Text(hex(&Sha256::digest(self.piece(&volume, offset, length)?))),
            Request::Write { volume, .. } => {
                self.write(&volume, 0, &payload)?;
                Answer::Done
            }
            Request::Tail { volume, bytes_max, .. } => {
                let Some(found) = self.volumes.get(&volume) else { return fault(FaultKind::NotFound, format!("no volume {volume}")) };
                let from = found.bytes.len().saturating_sub(bytes_max as usize);
                return Ok((Answer::Bytes("text/plain".into()), found.bytes[from..].to_vec()));
            }
            Request::Define { xml } => {
                self.define(&xml)?;
                Answer::Done
            }
            Request::Undefine { uuid } => {
                if self.domains.get(&uuid).is_some_and(|domain| domain.state == OFF) {
                    self.domains.remove(&uuid);
                }
                Answer::Done
            }
            // Here every try of KVM succeeds at once.
            Request::StartTransient { .. } => Answer::Done,
            Request::Power { uuid, act } => {
                self.power(&uuid, act)?;
                Answer::Done
            }
            Request::SetMetadata { uuid, xml, prefix, namespace } => {
                let domain = self.domain(&uuid)?;
                let mut element = Element::parse(&xml).or_else(|error| fault(FaultKind::Other, error))?;
                element.name = format!("{prefix}:{}", element.name);
                element.attributes.insert(0, (format!("xmlns:{prefix}"), namespace.clone()));
                let metadata = domain.xml.make(&["metadata"]);
                metadata.remove(|child| child.attributes.iter().any(|(_, value)| *value == namespace));
                metadata.children.push(Node::Element(element));
                Answer::Done
            }
            Request::Addresses { uuid, .. } => {
                let booted = self.booted;
                let domain = self.domain(&uuid)?;
                let mac = Facts::of(&domain.xml).mac.filter(|_| booted && domain.state == RUNNING);
                // The last two bytes of the MAC make the address.
                let byte = |mac: &str, at: usize| u8::from_str_radix(&mac[at..at + 2], 16).unwrap_or(1);
                let found = mac.map(|mac| InterfaceAddress { address: format!("10.77.{}.{}", byte(&mac, 12), byte(&mac, 15)), mac });
                Answer::Addresses(found.into_iter().collect())
            }
            Request::SetTime { uuid, seconds, .. } => {
                let runs = self.domain(&uuid)?.state == RUNNING;
                match &mut self.agents {
                    Some(agents) if runs => _ = agents.insert(uuid, seconds),
                    _ => return fault(FaultKind::NoAgent, "there is no agent"),
                }
                Answer::Done
            }
            Request::Screenshot { uuid } => {
                self.domain(&uuid)?;
                return Ok((Answer::Bytes("image/x-portable-pixmap".into()), b"P6 1 1 255 \0\0\0".to_vec()));
            }
            Request::Flatten { uuid, .. } => {
                let file = Facts::of(&self.domain(&uuid)?.xml).main_disk.map(|(file, _)| file).unwrap_or_default();
                if let Some(volume) = self.volumes.get_mut(file.rsplit('/').next().unwrap_or("")) {
                    volume.backing = None;
                }
                Answer::Done
            }
            Request::FlattenProgress { uuid, .. } => {
                self.domain(&uuid)?;
                Answer::Progress { done: 0, end: 0 }
            }
            Request::Migrate { .. } => return fault(FaultKind::Unsupported, "hosts in memory do not know each other"),
        };
        Ok((answer, Vec::new()))
    }

    fn domain(&mut self, uuid: &str) -> Result<&mut Domain, Fault> {
        self.domains.get_mut(uuid).ok_or_else(|| Fault { kind: FaultKind::NotFound, message: format!("no domain with UUID {uuid}") })
    }

    fn define(&mut self, xml: &str) -> Result<(), Fault> {
        let xml = Element::parse(xml).or_else(|error| fault(FaultKind::Other, error))?;
        let text = |name: &str| xml.at(&[name]).map(Element::text).unwrap_or_default();
        let (name, uuid) = (text("name"), text("uuid"));
        if self.domains.iter().any(|(known, domain)| domain.name == name && *known != uuid) {
            return fault(FaultKind::Exists, format!("domain {name:?} already exists"));
        }
        let domain = Domain { name, xml, state: OFF, saved: false, transient: false, started: 0 };
        match self.domains.get_mut(&uuid) {
            Some(known) => known.xml = domain.xml,
            None => _ = self.domains.insert(uuid, domain),
        }
        Ok(())
    }

    fn create_volume(&mut self, name: &str, xml: &str, content_of: Option<String>) -> Result<Answer, Fault> {
        if self.volumes.contains_key(name) {
            return Ok(Answer::Done);
        }
        if self.space < 1 << 20 {
            return fault(FaultKind::Exhausted, "No space left on device");
        }
        let xml = Element::parse(xml).or_else(|error| fault(FaultKind::Other, error))?;
        let backing = xml.at(&["backingStore", "path"]).map(Element::text);
        let is_there = |path: &str| self.volumes.contains_key(path.rsplit('/').next().unwrap_or(""));
        if let Some(missing) = backing.as_deref().filter(|path| !is_there(path)) {
            return fault(FaultKind::Other, format!("Could not open backing file {missing}"));
        }
        let capacity = xml.at(&["capacity"]).and_then(|capacity| capacity.text().parse().ok()).unwrap_or(0);
        let format = xml.at(&["target", "format"]).and_then(|format| format.attribute("type")).unwrap_or("raw").to_owned();
        let bytes = match &content_of {
            Some(source) => match self.volumes.get(source) {
                Some(source) => source.bytes.clone(),
                None => return fault(FaultKind::NotFound, format!("no volume {source}")),
            },
            None => vec![0; if format == "raw" { capacity as usize } else { 0 }],
        };
        self.volumes.insert(name.into(), Volume { bytes, capacity, format, backing, modified: self.ticks });
        Ok(Answer::Done)
    }

    fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        let ticks = self.ticks;
        let Some(volume) = self.volumes.get_mut(name) else { return fault(FaultKind::NotFound, format!("no volume {name}")) };
        volume.bytes.resize(volume.bytes.len().max(offset + bytes.len()), 0);
        volume.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        volume.modified = ticks;
        Ok(())
    }

    fn piece(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>, Fault> {
        let volume = self.volumes.get(name).ok_or_else(|| Fault { kind: FaultKind::NotFound, message: format!("no volume {name}") })?;
        let piece = volume.bytes.get(range(offset, length)).map(<[u8]>::to_vec);
        piece.ok_or_else(|| Fault { kind: FaultKind::Other, message: format!("{name} is too short") })
    }

    fn power(&mut self, uuid: &str, act: PowerAct) -> Result<(), Fault> {
        let (ticks, memory) = (self.ticks, self.memory);
        let taken: u64 = self.domains.values().filter(|domain| domain.state != OFF).map(|domain| Facts::of(&domain.xml).memory).sum();
        let missing = |domain: &Domain| {
            let disks = Facts::of(&domain.xml).disks;
            disks.into_iter().find(|disk| disk.starts_with(FOLDER) && !self.volumes.contains_key(disk.rsplit('/').next().unwrap_or("")))
        };
        let missing = self.domains.get(uuid).and_then(missing);
        let domain = self.domain(uuid)?;
        match act {
            PowerAct::Start | PowerAct::Resume if domain.state == OFF => {
                if act == PowerAct::Resume && !domain.saved {
                    return fault(FaultKind::State, "domain is not running");
                }
                if let Some(disk) = missing {
                    return fault(FaultKind::Other, format!("Cannot access storage file '{disk}'"));
                }
                if taken + Facts::of(&domain.xml).memory > memory {
                    return fault(FaultKind::Exhausted, "cannot allocate memory");
                }
                (domain.state, domain.started, domain.saved) = (RUNNING, ticks, false);
            }
            PowerAct::Start | PowerAct::Resume => domain.state = RUNNING,
            PowerAct::Suspend if domain.state == OFF => return fault(FaultKind::State, "domain is not running"),
            PowerAct::Suspend => domain.state = PAUSED,
            PowerAct::Shutdown | PowerAct::PowerOff => domain.state = OFF,
            PowerAct::Save => (domain.state, domain.saved) = (OFF, domain.state != OFF),
            PowerAct::Reboot | PowerAct::Reset if domain.state == OFF => return fault(FaultKind::State, "domain is not running"),
            PowerAct::Reboot | PowerAct::Reset => domain.started = ticks,
        }
        if domain.state == OFF && domain.transient {
            self.domains.remove(uuid);
        }
        Ok(())
    }

    fn sample(&self) -> RawSample {
        let domain = |(uuid, domain): (&String, &Domain)| {
            let facts = Facts::of(&domain.xml);
            RawDomain {
                name: domain.name.clone(),
                uuid: uuid.clone(),
                state: domain.state,
                vcpus: facts.vcpus,
                cpu_time_ns: Some(if domain.state == RUNNING { (self.ticks - domain.started) * 1_000_000 } else { 0 }),
                memory_current: Some(facts.memory),
                memory_max: Some(facts.memory),
                ..RawDomain::default()
            }
        };
        let node = RawNode {
            cpus: 4,
            cpu_busy_ns: Some(self.ticks),
            cpu_idle_ns: Some(self.ticks * 3),
            memory_total: self.memory,
            memory_free: Some(self.memory / 2),
        };
        RawSample { node, domains: self.domains.iter().map(domain).collect() }
    }
}

fn describe(uuid: &str, domain: &Domain) -> Description {
    Description { name: domain.name.clone(), uuid: uuid.to_owned(), xml: domain.xml.to_string() }
}

fn volume_info(name: &str, volume: &Volume) -> VolumeInfo {
    VolumeInfo {
        path: format!("{FOLDER}/{name}"),
        capacity: volume.capacity,
        physical: volume.bytes.len() as u64,
        format: volume.format.clone(),
        modified: volume.modified.to_string(),
    }
}
