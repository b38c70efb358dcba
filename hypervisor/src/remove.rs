//! How a machine is removed, and how leftovers are found.
//!
//! ```text
//!   mark it `deleting` ─► power off ─► disk, seed, console ─► its definition, last
//! ```
//!
//! Until the last step the machine can be found, and the row be gone through again from its beginning: each step succeeds when its work is
//! done already. What DHCP remembers of it runs out by itself; libvirt has no call to take it back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use crate::base;
use crate::error::HypervisorError;
use crate::event::RoomEvent;
use crate::fleet::Shared;
use crate::host::{Found, Host};
use crate::make::write_metadata;
use crate::metadata::{Metadata, Phase, Role};
use crate::names::{BaseName, MachineId, MachineName};
use crate::protocol::{Answer, PowerAct, Request};
use crate::spec::Leftover;
use crate::view::unix_s;

/// Starts and power-offs: libvirt waits for QEMU, which waits for the disk.
pub(crate) const SLOW_STEP_MAX: Duration = Duration::from_secs(60);

/// After so long a machine that another node began to make is nobody's any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Until it is tried again what could not be removed, for it was busy or its host was.
const RECOVER_SOON: Duration = Duration::from_secs(2);

/// Between two looks for leftovers.
const RECOVER_EVERY: Duration = Duration::from_secs(60);

/// Removes a machine of ours; one that is gone already is a success.
pub(crate) async fn remove(shared: &Arc<Shared>, host: &Arc<Host>, id: &MachineId) -> Result<(), HypervisorError> {
    remove_if(shared, host, id, |_| true).await
}

/// The same, if it is `wanted` by what it says of itself now.
async fn remove_if(
    shared: &Arc<Shared>,
    host: &Arc<Host>,
    id: &MachineId,
    wanted: impl Fn(&Metadata) -> bool,
) -> Result<(), HypervisorError> {
    // What is known may be older than what is true: ask.
    let Answer::Descriptions(found) = host.call(Request::Describe { uuids: vec![id.0.to_string()] }).await? else { return Ok(()) };
    let Some(description) = found.into_iter().next() else { return Ok(()) };
    let metadata = crate::xml::Element::parse(&description.xml).ok().and_then(|xml| Metadata::of_domain(&xml));
    let (Some(metadata), Ok(name)) = (metadata, description.name.parse::<MachineName>()) else {
        return Err(HypervisorError::Conflict(format!("{} on {} was not made by weir and is left alone", description.name, host.name)));
    };
    if !wanted(&metadata) {
        host.remember(id, &metadata);
        return Err(HypervisorError::Conflict(format!("{} on {} has changed meanwhile and is left alone", description.name, host.name)));
    }
    mark(shared, host, id, metadata).await?;
    let power_off = Request::Power { uuid: id.0.to_string(), act: PowerAct::PowerOff };
    host.call_within(power_off, host.config().timeout.max(SLOW_STEP_MAX)).await?;
    let storage = host.config().storage_pool.clone();
    let folder = host.storage().map(|storage| storage.path).unwrap_or_default();
    if let Answer::Names(volumes) = host.call(Request::Volumes { storage: storage.clone() }).await? {
        for volume in volumes.into_iter().filter(|volume| name.owns(volume)) {
            if let Some(user) = shared.disk_user(&format!("{folder}/{volume}"), id) {
                warn!(volume, host = %host.name, "left alone, for it belongs to {user}");
                continue;
            }
            host.call_within(Request::DeleteVolume { storage: storage.clone(), volume }, SLOW_STEP_MAX).await?;
        }
    }
    host.call(Request::Undefine { uuid: id.0.to_string() }).await?;
    info!(machine = %name, host = %host.name, "removed");
    shared.events.tell(RoomEvent::MachineRemoved { machine: name.to_string(), host: host.name.to_string() });
    host.look().await
}

/// From here on it is removed, by whoever finds it.
pub(crate) async fn mark(shared: &Shared, host: &Host, id: &MachineId, mut metadata: Metadata) -> Result<(), HypervisorError> {
    if metadata.phase == Phase::Deleting {
        return Ok(());
    }
    metadata.enter(Phase::Deleting, SystemTime::now());
    metadata.owner = shared.node.clone();
    write_metadata(host, id, &metadata).await
}

/// Removes what a crash left behind: when the hosts first answer, and now and then.
pub(crate) async fn recover(shared: Arc<Shared>) {
    let mut leader = shared.leader.subscribe();
    loop {
        if leader.wait_for(|leader| *leader).await.is_err() {
            return;
        }
        let mut all_gone = true;
        for host in shared.hosts().iter().filter(|host| host.is_complete()) {
            for (found, why) in unfinished(&shared, host) {
                info!(machine = %found.name, host = %host.name, "removing what was left behind: {why}");
                match remove_in_turn(&shared, host, &found.id, is_unfinished).await {
                    Ok(()) => tell(&shared, &leftover(host, "machine", found.name, why, Some(Ok(())))),
                    Err(error) => {
                        all_gone = false;
                        warn!(machine = %found.name, host = %host.name, "cannot be removed now: {}", error.chain());
                    }
                }
            }
        }
        // Early at first, for hosts that come one after the other; then seldom.
        let all_seen = shared.hosts().iter().all(|host| host.is_complete());
        let next = match (all_seen, all_gone) {
            (true, true) => RECOVER_EVERY,
            (true, false) => RECOVER_SOON,
            (false, _) => Duration::from_millis(200),
        };
        tokio::time::sleep(next).await;
    }
}

async fn remove_in_turn(
    shared: &Arc<Shared>,
    host: &Arc<Host>,
    id: &MachineId,
    wanted: fn(&Metadata) -> bool,
) -> Result<(), HypervisorError> {
    let (shared, host, id) = (shared.clone(), host.clone(), id.clone());
    let lanes = shared.lanes.clone();
    lanes.run(&id.clone(), async move { remove_if(&shared, &host, &id, wanted).await }).await
}

fn is_unfinished(metadata: &Metadata) -> bool {
    metadata.phase != Phase::Ready
}

fn is_warm(metadata: &Metadata) -> bool {
    metadata.role == Role::Warm
}

/// Warm clones that nobody will take: their template is in the file no more. One that comes back makes new ones, so they go when somebody asks.
fn stranded(shared: &Shared, host: &Host) -> Vec<(Found, String)> {
    let stranded = |found: Found| {
        let metadata = found.definition.metadata.clone()?;
        let is_known = shared.template(&metadata.template.as_str().into()).is_ok();
        let is_idle = metadata.phase == Phase::Ready && !shared.lanes.is_busy(&found.id);
        (is_warm(&metadata) && is_idle && !is_known).then(|| {
            let why = format!("it waits for template {}, which is not in the file", metadata.template);
            (found, why)
        })
    };
    host.found().into_iter().filter_map(stranded).collect()
}

/// Machines that are neither whole nor being worked on, and why.
fn unfinished(shared: &Shared, host: &Host) -> Vec<(Found, String)> {
    let now = unix_s(SystemTime::now());
    let unfinished = |found: Found| {
        let metadata = found.definition.metadata.clone()?;
        let name: MachineName = found.name.parse().ok()?;
        let abandoned = now - metadata.since_s as f64 > ABANDONED_AFTER.as_secs_f64();
        if metadata.phase == Phase::Ready
            || shared.is_being_made(&name)
            || shared.lanes.is_busy(&found.id)
            || !(metadata.owner == shared.node || abandoned)
        {
            return None;
        }
        let what = if metadata.phase == Phase::Creating { "making" } else { "removing" };
        Some((found, format!("{} had not finished {what} it", metadata.owner)))
    };
    host.found().into_iter().filter_map(unfinished).collect()
}

/// Everything that was left behind; removed unless `dry_run`.
pub(crate) async fn collect(shared: &Arc<Shared>, dry_run: bool) -> Vec<Leftover> {
    let found = find_and_remove(shared, dry_run).await;
    found.iter().filter(|leftover| leftover.removed).for_each(|leftover| tell(shared, leftover));
    found
}

fn tell(shared: &Shared, leftover: &Leftover) {
    let Leftover { host, kind, name, why, .. } = leftover.clone();
    shared.events.tell(RoomEvent::LeftoverRemoved { host, kind, name, why });
}

async fn find_and_remove(shared: &Arc<Shared>, dry_run: bool) -> Vec<Leftover> {
    let hosts = shared.hosts();
    let mut found = Vec::new();
    for host in hosts.iter().filter(|host| host.is_complete()) {
        type Wanted = fn(&Metadata) -> bool;
        let unfinished = unfinished(shared, host).into_iter().map(|(machine, why)| (machine, why, is_unfinished as Wanted));
        let stranded = stranded(shared, host).into_iter().map(|(machine, why)| (machine, why, is_warm as Wanted));
        for (machine, why, wanted) in unfinished.chain(stranded) {
            let outcome = if dry_run { None } else { Some(remove_in_turn(shared, host, &machine.id, wanted).await) };
            found.push(leftover(host, "machine", machine.name, why, outcome));
        }
    }
    // A folder may be shared between hosts: what belongs to nobody is only known when everybody was asked.
    if !hosts.iter().all(|host| host.is_complete()) {
        return found;
    }
    let everybody: Vec<Found> = hosts.iter().flat_map(|host| host.found()).collect();
    for host in &hosts {
        let storage = host.config().storage_pool.clone();
        let Ok(Answer::Names(volumes)) = host.call(Request::Volumes { storage: storage.clone() }).await else { continue };
        let folder = host.storage().map(|storage| storage.path).unwrap_or_default();
        for volume in volumes {
            let path = format!("{folder}/{volume}");
            let Some((kind, why)) = unowned(shared, &everybody, &volume, &path) else { continue };
            let delete = Request::DeleteVolume { storage: storage.clone(), volume: volume.clone() };
            let outcome = if dry_run {
                None
            } else {
                if let Some(base) = BaseName::of_volume(&volume) {
                    shared.forget_base(&host.name, &base);
                }
                Some(host.call_within(delete, SLOW_STEP_MAX).await.map(|_| ()))
            };
            found.push(leftover(host, kind, volume, why, outcome));
        }
    }
    found
}

fn leftover(host: &Host, kind: &'static str, name: String, why: String, outcome: Option<Result<(), HypervisorError>>) -> Leftover {
    let removed = matches!(outcome, Some(Ok(())));
    let error = outcome.and_then(Result::err).map(|error| error.chain());
    Leftover { host: host.name.to_string(), kind, name, why, removed, error }
}

/// Why a volume with one of our names belongs to nobody; `None`: it does, or is not ours.
fn unowned(shared: &Shared, everybody: &[Found], volume: &str, path: &str) -> Option<(&'static str, String)> {
    let attached = everybody.iter().any(|found| found.definition.facts.disks.iter().any(|disk| disk == path));
    if attached {
        return None;
    }
    if let Some(base) = BaseName::of_volume(volume) {
        let text = base.to_string();
        let uses = |found: &&Found| found.definition.metadata.as_ref().is_some_and(|metadata| metadata.base.as_ref() == Some(&text));
        let is_current = shared.current_base(&base.template).as_ref() == Some(&base);
        let used = everybody.iter().any(|found| uses(&found));
        // A template that is gone from the file may come back; its last base is only removed when nobody could clone it.
        return (!used && !is_current && !shared.is_making()).then(|| ("base", "no clone lies on it, and new clones get another".into()));
    }
    let names: BTreeSet<&str> = everybody.iter().map(|found| found.name.as_str()).collect();
    let name = volume.strip_prefix("weir-")?;
    let stem =
        name.strip_suffix(".disk.img").or_else(|| name.strip_suffix(".seed.iso")).or_else(|| Some(name.split_once(".console.log")?.0))?;
    let machine: MachineName = stem.parse().ok()?;
    let belongs = names.contains(stem) || shared.is_being_made(&machine);
    (machine.owns(volume) && !belongs).then(|| ("volume", format!("there is no machine {machine} on any host")))
}

/// Whether a base may be deleted; the error names the clones that lie on it.
pub(crate) fn base_is_free(shared: &Shared, base: &BaseName) -> Result<(), HypervisorError> {
    let text = base.to_string();
    let clones: Vec<String> = shared
        .hosts()
        .iter()
        .flat_map(|host| host.found())
        .filter(|found| found.definition.metadata.as_ref().is_some_and(|metadata| metadata.base.as_ref() == Some(&text)))
        .map(|found| found.name)
        .collect();
    match clones.is_empty() {
        true => Ok(()),
        false => Err(HypervisorError::Conflict(format!("{base} cannot be removed: {} lie on it", clones.join(", ")))),
    }
}

/// Removes a base from every host.
pub(crate) async fn remove_base(shared: &Arc<Shared>, base: &BaseName) -> Result<(), HypervisorError> {
    let hosts = shared.hosts();
    if let Some(silent) = hosts.iter().find(|host| !host.is_complete()) {
        return Err(HypervisorError::Conflict(format!(
            "{base} cannot be removed: {} does not answer, and may have clones of it",
            silent.name
        )));
    }
    base_is_free(shared, base)?;
    for host in hosts {
        if base::bases_on(&host).await?.contains(base) {
            shared.forget_base(&host.name, base);
            let storage = host.config().storage_pool.clone();
            // The seal first: without it the rest is not a base any more.
            for volume in [base.seal(), base.volume()] {
                host.call_within(Request::DeleteVolume { storage: storage.clone(), volume }, SLOW_STEP_MAX).await?;
            }
        }
    }
    Ok(())
}
