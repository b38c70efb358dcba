//! How a machine is made: a row of steps, each of which may be the last.
//!
//! ```text
//!   place ─► bring the base ─► define it as `creating` ─► disk ─► seed ─► start ─► `ready` ─► wait until it has booted
//!                              └──────── from here on whoever finds it removes it ────────┘
//! ```
//!
//! The definition comes first, so that everything that belongs to a machine can be found through it at any time, and the word `ready` comes
//! when the machine runs. A step that fails undoes all of them; a crash leaves a `creating` machine, which the next start removes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};
use weir_config::{AddressSource, CloneMode, HostName, StaticAddresses, Template, TemplateName, WarmMode};

use crate::base::{self, Source};
use crate::capacity::{Want, place};
use crate::domain::{Plan, disk_volume, plain_volume, without_survey};
use crate::error::{CallError, HypervisorError};
use crate::event::RoomEvent;
use crate::fleet::{Reservation, Shared};
use crate::host::Host;
use crate::metadata::{Metadata, Phase, Role};
use crate::names::{MachineId, MachineName, mac_of, random_mac};
use crate::protocol::{Answer, FaultKind, PowerAct, Request};
use crate::spec::{CloneSpec, Progress, RoomView, WaitFor, WarmUse};
use crate::verbs::power;
use crate::view::{MachineState, MachineView, unix_s};
use crate::xml::Element;
use crate::{detect, ready, remove, warm};

/// What an overlay needs at the start: its tables, and what a boot writes.
const OVERLAY_BYTES: u64 = 64 << 20;

/// The longest file that is handed to cloud-init.
const SEED_FILE_BYTES_MAX: u64 = 1 << 20;

/// How long the copy of a whole disk may take.
const FULL_COPY_MAX: Duration = Duration::from_secs(1800);

/// Makes a machine, or takes a warm one, or finds the one that was made for this wish.
pub(crate) async fn clone_machine(shared: Arc<Shared>, spec: CloneSpec, progress: Progress) -> Result<MachineView, HypervisorError> {
    let template = shared.template(&spec.template)?;
    let (name, pool) = (spec.name.as_ref().map(ToString::to_string), spec.pool.clone());
    let outcome = find_or_make(&shared, &template, spec, &progress).await;
    if let Err(error) = &outcome {
        shared.count(&template.name, |counts| counts.failed += 1);
        shared.events.tell(RoomEvent::MachineNotMade { machine: name, template: template.name.to_string(), pool, why: error.chain() });
    }
    outcome
}

async fn find_or_make(
    shared: &Arc<Shared>,
    template: &Arc<Template>,
    spec: CloneSpec,
    progress: &Progress,
) -> Result<MachineView, HypervisorError> {
    let began = Instant::now();
    if let Some(machine) = already_there(shared, &spec).await? {
        return go_on(shared, template, &spec, machine, progress).await;
    }
    if spec.warm != WarmUse::Never
        && let Some(machine) = warm::take(shared, template, &spec, progress).await?
    {
        shared.count(&template.name, |counts| counts.warm_taken += 1);
        tell_made(shared, &machine, true, began);
        return Ok(machine);
    }
    if spec.warm == WarmUse::Only {
        return Err(HypervisorError::NotFound(format!("no warm clone of template {} waits", template.name)));
    }
    make(shared, template, spec, Role::Member, progress).await
}

fn tell_made(shared: &Shared, machine: &MachineView, from_warm: bool, began: Instant) {
    let Some(metadata) = &machine.metadata else { return };
    shared.events.tell(RoomEvent::MachineMade {
        machine: machine.name.clone(),
        host: machine.host.clone(),
        template: metadata.template.clone(),
        pool: metadata.pool.clone(),
        base: metadata.origin.clone(),
        role: metadata.role.word(),
        from_warm,
        seconds: began.elapsed().as_secs_f64(),
    });
}

/// What an earlier call with the same name may have left undone: a warm clone that is still frozen, an address that nobody asked for. What is
/// there is never removed for it.
async fn go_on(
    shared: &Arc<Shared>,
    template: &Arc<Template>,
    spec: &CloneSpec,
    machine: MachineView,
    progress: &Progress,
) -> Result<MachineView, HypervisorError> {
    let host = shared.host(&machine.host.as_str().into())?;
    // A saved one is off until it goes on from what was saved; one that somebody switched off stays off.
    let is_claimed = machine.metadata.as_ref().is_some_and(|metadata| metadata.claim.is_some());
    let may_be_saved = machine.state == MachineState::Off && is_claimed && template.warm_mode == WarmMode::Saved;
    if machine.state == MachineState::Paused || may_be_saved {
        progress.step(format!("resuming {} on {}", machine.name, host.name));
        match power(&host, &machine.id, PowerAct::Resume).await {
            Err(HypervisorError::Host { source: CallError::Fault(fault), .. }) if may_be_saved && fault.kind == FaultKind::State => {}
            resumed => {
                resumed?;
                warm::tell_time(&host, &machine.name, &machine.id, template.warm_mode).await;
            }
        }
        host.look().await?;
    }
    if spec.wait == WaitFor::Ready {
        let name: MachineName = machine.name.parse().map_err(HypervisorError::Conflict)?;
        let mac = machine.mac.clone().unwrap_or_default();
        ready::ready(&host, template, &name, &machine.id, &mac, machine.address, progress).await?;
    }
    Ok(shared.machine_view(&machine.id).unwrap_or(machine))
}

/// The machine that an earlier call with the same name made. What it left half-made is removed.
async fn already_there(shared: &Arc<Shared>, spec: &CloneSpec) -> Result<Option<MachineView>, HypervisorError> {
    let Some(name) = &spec.name else { return Ok(None) };
    for host in shared.hosts() {
        let is_it = |found: &crate::host::Found| {
            let claim = found.definition.metadata.as_ref().and_then(|metadata| metadata.claim.as_deref());
            found.name == name.as_str() || claim == Some(name.as_str())
        };
        let Some(found) = host.found().into_iter().find(is_it) else { continue };
        match found.definition.metadata.as_deref() {
            Some(metadata) if spec.pool.is_some() && metadata.pool != spec.pool => {
                let pool = metadata.pool.as_deref().map_or("no pool".into(), |pool| format!("pool {pool}"));
                return Err(HypervisorError::Conflict(format!("{} on {} is a machine of {pool}", found.name, host.name)));
            }
            Some(metadata) if metadata.generation > spec.generation => return Err(outdated(&found, metadata, spec.generation)),
            Some(metadata) if metadata.template == *spec.template.0 && metadata.phase == Phase::Ready => {
                return Ok(shared.machine_view(&found.id));
            }
            Some(metadata) if metadata.phase != Phase::Ready && metadata.template == *spec.template.0 => {
                if shared.is_being_made(name) {
                    return Err(HypervisorError::Busy(name.to_string()));
                }
                remove::remove(shared, &host, &found.id).await?;
            }
            Some(metadata) => {
                return Err(HypervisorError::Conflict(format!("{name} on {} is a machine of template {}", host.name, metadata.template)));
            }
            None => return Err(HypervisorError::Conflict(format!("there is a machine {name} on {} that is not ours", host.name))),
        }
    }
    Ok(None)
}

/// Whoever asks has a plan that is older than the machine: another one leads by now.
pub(crate) fn outdated(found: &crate::host::Found, metadata: &Metadata, generation: u64) -> HypervisorError {
    HypervisorError::Conflict(format!(
        "{} is of generation {}; what was decided in generation {generation} is out of date",
        found.name, metadata.generation
    ))
}

/// Memory, virtual processors and disk of a clone.
fn want(template: &Template, source: Option<&Source>) -> Want {
    let facts = source.and_then(|source| source.master.as_ref()).map(|(_, facts)| facts);
    let disk = match template.clone {
        CloneMode::Linked => OVERLAY_BYTES,
        CloneMode::Full => template.disk.or(source.map(|source| source.capacity)).unwrap_or(OVERLAY_BYTES),
    };
    Want {
        memory: template.memory.or(facts.map(|facts| facts.memory)).unwrap_or(0),
        vcpus: template.vcpus.map(u32::from).or(facts.map(|facts| facts.vcpus)).unwrap_or(1),
        disk,
    }
}

/// Where it would go now.
pub(crate) fn plan(shared: &Arc<Shared>, spec: &CloneSpec) -> Result<HostName, HypervisorError> {
    let template = shared.template(&spec.template)?;
    choose(shared, &template, spec, known_want(shared, &template)?)
}

/// How many more each host takes.
pub(crate) fn room(shared: &Arc<Shared>, template: &TemplateName) -> Result<Vec<RoomView>, HypervisorError> {
    let template = shared.template(template)?;
    let want = known_want(shared, &template)?;
    let view = |host: Arc<Host>| {
        let (more, why) = shared.room(&host, |_| false).more(want);
        RoomView { host: host.name.to_string(), more, why }
    };
    Ok(shared.hosts().into_iter().filter(|host| may_be_on(&template, &host.name)).map(view).collect())
}

/// Whether a template's clones may be on this host.
pub(crate) fn may_be_on(template: &Template, host: &HostName) -> bool {
    template.hosts.is_empty() || template.hosts.contains(host)
}

/// What a clone needs, as far as it is known without reading the template's content.
pub(crate) fn known_want(shared: &Arc<Shared>, template: &Template) -> Result<Want, HypervisorError> {
    let master = match &template.source {
        weir_config::TemplateSource::Master(master) => {
            let found = shared.hosts().iter().flat_map(|host| host.found()).find(|found| found.name == *master);
            let missing = || format!("there is no machine {master:?} on any host; define it, or correct `master`");
            Some(found.ok_or_else(|| HypervisorError::Template { template: template.name.clone(), why: missing() })?.definition.facts)
        }
        weir_config::TemplateSource::Image(_) => None,
    };
    let mut want = want(template, None);
    if let Some(facts) = master {
        want.memory = template.memory.unwrap_or(facts.memory);
        want.vcpus = template.vcpus.map_or(facts.vcpus, u32::from);
    }
    Ok(want)
}

fn choose(shared: &Arc<Shared>, template: &Template, spec: &CloneSpec, want: Want) -> Result<HostName, HypervisorError> {
    let is_sibling = |metadata: &Metadata| match &spec.pool {
        Some(pool) => metadata.pool.as_ref() == Some(pool),
        None => metadata.template == *template.name.0,
    };
    let allowed = |host: &Host| may_be_on(template, &host.name) && spec.host.as_ref().is_none_or(|wanted| *wanted == host.name);
    if let Some(host) = spec.host.as_ref().filter(|wanted| shared.host(wanted).is_err()) {
        return Err(shared.host(host).map(|_| ()).expect_err("it is not there"));
    }
    let rooms: Vec<_> = shared.hosts().iter().filter(|host| allowed(host)).map(|host| shared.room(host, is_sibling)).collect();
    place(&rooms, want).map_err(HypervisorError::NoCapacity)
}

/// Makes a machine from the template's base.
pub(crate) async fn make(
    shared: &Arc<Shared>,
    template: &Arc<Template>,
    spec: CloneSpec,
    role: Role,
    progress: &Progress,
) -> Result<MachineView, HypervisorError> {
    let began = Instant::now();
    let source = base::source(shared, template, progress).await?;
    let source = match &spec.base {
        Some(base) => base::earlier(shared, source, base).await?,
        None => source,
    };
    let want = want(template, Some(&source));
    if template.disk.is_some_and(|disk| disk < source.capacity) {
        let why = format!("`disk` is smaller than the base, which has {} bytes", source.capacity);
        return Err(HypervisorError::Template { template: template.name.clone(), why });
    }
    // Placing and reserving is one step, so that two clones do not take the same room or address.
    let (name, reservation) = {
        let _one = shared.placing.lock().await;
        let host = choose(shared, template, &spec, want)?;
        let name = spec.name.clone().unwrap_or_else(|| MachineName::random(&template.name, &mut fastrand::Rng::new()));
        let address = match &template.address {
            AddressSource::Static(pool) => Some(free_address(shared, template, pool)?),
            _ => None,
        };
        (name.clone(), shared.reserve(name, host, want, address)?)
    };
    let host = shared.host(&reservation.host)?;
    progress.step(format!("preparing {} on {}", source.base, host.name));
    let base_path = base::bring(shared, &host, &source, progress).await?;
    let id = MachineId::random(&mut fastrand::Rng::new());
    let mac = reservation.address.map_or_else(|| random_mac(&mut fastrand::Rng::new()), mac_of);
    let linked = template.clone == CloneMode::Linked;
    let mut metadata = Metadata {
        template: template.name.to_string(),
        pool: spec.pool.clone(),
        base: linked.then(|| source.base.to_string()),
        origin: source.base.to_string(),
        role,
        phase: Phase::Creating,
        slot: spec.slot,
        generation: spec.generation,
        claim: None,
        owner: shared.node.clone(),
        since_s: unix_s(SystemTime::now()) as u64,
        address: reservation.address,
        labels: spec.labels.clone(),
    };
    let job = Job { shared, host: &host, template, source: &source, base_path: &base_path, name: &name, id: &id, mac: &mac, want };
    let outcome = job.carry_out(&mut metadata, spec.wait, reservation, progress).await;
    if let Err(error) = outcome {
        // What cannot be undone now, because the host does not answer, is found by its phase later.
        if let Err(undo) = remove::remove(shared, &host, &id).await {
            warn!(machine = %name, host = %host.name, "left for later: {}", undo.chain());
        }
        return Err(explain(error, &name, &host));
    }
    info!(machine = %name, host = %host.name, base = %source.base, role = role.word(), "made");
    let made = shared.machine_view(&id).ok_or_else(|| HypervisorError::Local(format!("{name} vanished from {}", host.name)))?;
    shared.count(&template.name, |counts| counts.made += 1);
    tell_made(shared, &made, false, began);
    Ok(made)
}

/// What the host's words mean for who asked.
fn explain(error: HypervisorError, name: &MachineName, host: &Host) -> HypervisorError {
    match &error {
        HypervisorError::Host { source: CallError::Fault(fault), .. } if fault.kind == FaultKind::Exists => {
            HypervisorError::Conflict(format!("the name {name} is taken on {}: {}", host.name, fault.message))
        }
        _ => error,
    }
}

/// The lowest address that no machine has, also none on a host that does not answer just now.
fn free_address(shared: &Arc<Shared>, template: &Template, pool: &StaticAddresses) -> Result<IpAddr, HypervisorError> {
    let known = shared.hosts().into_iter().flat_map(|host| host.found()).filter_map(|found| found.definition.metadata.as_ref()?.address);
    let taken: BTreeSet<IpAddr> = known.chain(shared.reserved_addresses()).chain(pool.gateway).collect();
    let mut address = pool.first;
    loop {
        if !taken.contains(&address) {
            return Ok(address);
        }
        if address == pool.last {
            let why =
                format!("all addresses from {} to {} are given out; widen [template.{}.static]", pool.first, pool.last, template.name);
            return Err(HypervisorError::Template { template: template.name.clone(), why });
        }
        address = match address {
            IpAddr::V4(v4) => IpAddr::V4(std::net::Ipv4Addr::from_bits(v4.to_bits() + 1)),
            IpAddr::V6(v6) => IpAddr::V6(std::net::Ipv6Addr::from_bits(v6.to_bits() + 1)),
        };
    }
}

/// Everything that the steps need.
struct Job<'a> {
    shared: &'a Arc<Shared>,
    host: &'a Arc<Host>,
    template: &'a Arc<Template>,
    source: &'a Source,
    base_path: &'a str,
    name: &'a MachineName,
    id: &'a MachineId,
    mac: &'a str,
    want: Want,
}

impl Job<'_> {
    async fn carry_out(
        &self,
        metadata: &mut Metadata,
        wait: WaitFor,
        reservation: Reservation,
        progress: &Progress,
    ) -> Result<(), HypervisorError> {
        let Job { shared, host, template, name, id, .. } = self;
        let domain_type = detect::domain_type(shared, host).await?;
        let folder = host.storage().map_err(|why| HypervisorError::Template { template: template.name.clone(), why })?.path;
        let plan = Plan {
            name,
            id,
            mac: self.mac,
            domain_type,
            folder: &folder,
            memory: self.want.memory,
            vcpus: self.want.vcpus,
            template,
            master: self.source.master.as_ref().map(|(xml, _)| &**xml),
            metadata,
        };
        let seed = self.seed(metadata)?;
        progress.step(format!("defining {name} on {}", host.name));
        let domain = plan.domain();
        let define = |domain: &Element| host.call(Request::Define { xml: domain.to_string() });
        let quick = without_survey(&domain);
        match define(quick.as_ref().unwrap_or(&domain)).await {
            // A libvirt that knows nothing of it starts machines as it likes; what else it objects to, it says again.
            Err(HypervisorError::Host { source, .. }) if quick.is_some() && source.kind() == Some(FaultKind::Other) => {
                define(&domain).await?
            }
            defined => defined?,
        };
        progress.step(format!("making the disk of {name}"));
        let seed_xml = plain_volume(&name.seed(), seed.len() as u64, "0600").to_string();
        // Side by side; what one leaves when the other fails is undone with all the rest.
        let (disk, written) = tokio::join!(self.disk(progress), self.create(name.seed(), seed_xml, None, &seed, host.config().timeout));
        disk.and(written)?;
        progress.step(format!("starting {name}"));
        let power = Request::Power { uuid: id.0.to_string(), act: PowerAct::Start };
        host.call_within(power, host.config().timeout.max(remove::SLOW_STEP_MAX)).await?;
        // A warm clone is ready when it waits, frozen.
        let is_member = metadata.role == Role::Member;
        if is_member {
            metadata.enter(Phase::Ready, SystemTime::now());
        }
        let say = async { if is_member { write_metadata(host, id, metadata).await } else { Ok(()) } };
        // Side by side: what is written during a look counts for it.
        let (said, looked) = tokio::join!(say, host.look());
        said.and(looked)?;
        // From now on the machine itself counts.
        let address = reservation.address;
        let settled = reservation.settle();
        if metadata.role == Role::Member {
            drop(settled);
            if wait == WaitFor::Ready {
                ready::ready(host, template, name, id, self.mac, address, progress).await?;
            }
            return Ok(());
        }
        // As long as it is `creating` its name stays taken: else whoever looks for leftovers would take it for one.
        ready::ready(host, template, name, id, self.mac, address, progress).await?;
        progress.step(format!("freezing {name}"));
        warm::freeze(host, template, id, metadata).await?;
        drop(settled);
        Ok(())
    }

    /// Makes a volume that is this machine's alone, with this content. One of its name that no machine has was left behind, and goes.
    async fn create(
        &self,
        volume: String,
        xml: String,
        content_of: Option<String>,
        content: &[u8],
        limit: Duration,
    ) -> Result<(), HypervisorError> {
        let Job { shared, host, id, .. } = self;
        let storage = host.config().storage_pool.clone();
        let (storage, volume) = (|| storage.clone(), || volume.clone());
        let request = || Request::CreateVolume {
            storage: storage(),
            volume: volume(),
            xml: xml.clone(),
            content_of: content_of.clone(),
            fresh: true,
        };
        match host.call_with(request(), content.to_vec(), limit).await {
            Err(HypervisorError::Host { source: CallError::Fault(fault), .. }) if fault.kind == FaultKind::Exists => {}
            other => return other.map(|_| ()),
        }
        // Who has it may have been defined a moment ago.
        host.look().await?;
        let folder = host.storage().map(|storage| storage.path).unwrap_or_default();
        if let Some(user) = shared.disk_user(&format!("{folder}/{}", volume()), id) {
            let why = format!("the volume {} on {} belongs to {user}; choose another name for the clone", volume(), host.name);
            return Err(HypervisorError::Conflict(why));
        }
        warn!(volume = volume(), host = %host.name, "a volume that was left behind is replaced");
        host.call_within(Request::DeleteVolume { storage: storage(), volume: volume() }, remove::SLOW_STEP_MAX).await?;
        host.call_with(request(), content.to_vec(), limit).await.map(|_| ())
    }

    async fn disk(&self, progress: &Progress) -> Result<(), HypervisorError> {
        let Job { host, template, source, name, .. } = self;
        let capacity = template.disk.unwrap_or(source.capacity);
        let volume = name.disk();
        match template.clone {
            CloneMode::Linked => {
                let xml = disk_volume(&volume, capacity, Some((self.base_path, source.format))).to_string();
                let create = || self.create(volume.clone(), xml.clone(), None, &[], host.config().timeout);
                let Err(error) = create().await else { return Ok(()) };
                // Perhaps somebody removed the base; then it is brought again, once.
                self.shared.forget_base(&host.name, &source.base);
                if base::is_sealed(host, &source.base).await.unwrap_or(true) {
                    return Err(error);
                }
                warn!(base = %source.base, host = %host.name, "somebody removed the base; it is brought again");
                base::bring(self.shared, host, source, progress).await?;
                create().await?;
            }
            CloneMode::Full => {
                let xml = disk_volume(&volume, capacity, None).to_string();
                self.create(volume, xml, Some(source.base.volume()), &[], FULL_COPY_MAX).await?;
            }
        }
        Ok(())
    }

    fn seed(&self, metadata: &Metadata) -> Result<Vec<u8>, HypervisorError> {
        let read = |path: &Option<std::path::PathBuf>| match path {
            None => Ok(None),
            Some(path) => read_text(path).map(Some).map_err(|why| HypervisorError::Template {
                template: self.template.name.clone(),
                why: format!("{}: {why}", path.display()),
            }),
        };
        let (user_data, network_config) = (read(&self.template.user_data)?, read(&self.template.network_config)?);
        let address = match &self.template.address {
            AddressSource::Static(pool) => metadata.address.map(|address| (address, pool)),
            _ => None,
        };
        let seed = crate::seed::Seed {
            name: self.name,
            id: self.id,
            mac: self.mac,
            address,
            user_data: user_data.as_deref(),
            network_config: network_config.as_deref(),
        };
        Ok(seed.image())
    }
}

fn read_text(path: &std::path::Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > SEED_FILE_BYTES_MAX {
        return Err(format!("longer than {SEED_FILE_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Writes what a machine says of itself, and remembers it.
pub(crate) async fn write_metadata(host: &Host, id: &MachineId, metadata: &Metadata) -> Result<(), HypervisorError> {
    let request = Request::SetMetadata {
        uuid: id.0.to_string(),
        xml: metadata.bare().to_string(),
        prefix: crate::metadata::PREFIX.into(),
        namespace: crate::metadata::NAMESPACE.into(),
    };
    match host.call(request).await? {
        Answer::Done => {
            host.remember(id, metadata);
            Ok(())
        }
        other => Err(host.odd(&other)),
    }
}
