//! What can be done to a machine that is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;
use weir_config::{HostName, TemplateName, WarmMode};

use crate::capacity::{Want, place};
use crate::domain::{disk_volume, plain_volume};
use crate::error::{CallError, HypervisorError};
use crate::fleet::Shared;
use crate::host::Host;
use crate::make::write_metadata;
use crate::names::{BaseName, MachineId, MachineName};
use crate::protocol::{Answer, FaultKind, PowerAct, Request};
use crate::remove::{self, SLOW_STEP_MAX};
use crate::spec::{Progress, Verb};
use crate::view::MachineState;
use crate::warm;

/// A guest that does not listen to its power button yet may listen to the next press.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Between two looks at what takes long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// However long somebody wants to wait.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(24 * 3600);

/// How long a migration, or flattening a disk, may take.
const LONG_STEP_MAX: Duration = Duration::from_secs(1800);

/// Carries a verb out. Called when it is the machine's turn.
pub(crate) async fn act(shared: &Arc<Shared>, id: &MachineId, verb: Verb, progress: &Progress) -> Result<(), HypervisorError> {
    let (host, found, metadata) = shared.find_ours(&id.0)?;
    progress.step(format!("{} of {} on {}", verb.word(), found.name, host.name));
    let outcome = match verb {
        Verb::Start => power(&host, id, PowerAct::Start).await,
        Verb::Resume => {
            power(&host, id, PowerAct::Resume).await?;
            warm::tell_time(&host, &found.name, id, WarmMode::Paused).await;
            Ok(())
        }
        Verb::Suspend => power(&host, id, PowerAct::Suspend).await,
        Verb::Stop => power(&host, id, PowerAct::PowerOff).await,
        Verb::Reset => power(&host, id, PowerAct::Reset).await,
        Verb::Reboot => power(&host, id, PowerAct::Reboot).await,
        Verb::Shutdown { timeout, force } => shutdown(&host, id, timeout, force).await,
        Verb::Flatten => flatten(&host, id, (*metadata).clone(), progress).await,
        Verb::Delete => return remove::remove(shared, &host, id).await,
    };
    // So that who asks next sees what we did.
    let looked = host.look().await;
    outcome.and(looked)
}

/// Shuts a machine down as gently as there is time for, and removes it. It says `deleting` before anything else, so that no crash in between
/// leaves one that nobody wants.
pub(crate) async fn retire(shared: &Arc<Shared>, id: &MachineId, patience: Duration, progress: &Progress) -> Result<(), HypervisorError> {
    let (host, found, metadata) = match shared.find_ours(&id.0) {
        // It was removed while this waited for its turn.
        Err(HypervisorError::NotFound(_)) => return Ok(()),
        other => other?,
    };
    remove::mark(shared, &host, id, (*metadata).clone()).await?;
    if found.state == MachineState::Running {
        progress.step(format!("shutting {} down on {}", found.name, host.name));
        // The plug is pulled by the removal, whatever came of it.
        if let Err(error) = shutdown(&host, id, patience, false).await {
            info!(machine = %found.name, host = %host.name, "it is switched off: {}", error.chain());
        }
    }
    progress.step(format!("deleting {} on {}", found.name, host.name));
    remove::remove(shared, &host, id).await
}

/// Writes labels into a machine's metadata. What would break the metadata's own notation is refused.
pub(crate) async fn label(
    shared: &Arc<Shared>,
    id: &MachineId,
    generation: u64,
    labels: std::collections::BTreeMap<String, Option<String>>,
) -> Result<(), HypervisorError> {
    let (host, found, metadata) = shared.find_ours(&id.0)?;
    if metadata.generation > generation {
        return Err(crate::make::outdated(&found, &metadata, generation));
    }
    let mut metadata = (*metadata).clone();
    for (key, value) in labels {
        let good =
            |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/:".contains(&b));
        if !good(&key) || value.as_deref().is_some_and(|value| !good(value)) {
            return Err(HypervisorError::Conflict(format!("{key:?} with {value:?} is not a label")));
        }
        match value {
            Some(value) => _ = metadata.labels.insert(key, value),
            None => _ = metadata.labels.remove(&key),
        }
    }
    metadata.generation = generation;
    write_metadata(&host, id, &metadata).await
}

pub(crate) async fn power(host: &Host, id: &MachineId, act: PowerAct) -> Result<(), HypervisorError> {
    let request = Request::Power { uuid: id.0.to_string(), act };
    let limit = if act == PowerAct::Save { LONG_STEP_MAX } else { SLOW_STEP_MAX };
    host.call_within(request, host.config().timeout.max(limit)).await.map(|_| ())
}

/// A guest that was frozen has the time of then. With an agent it is told; without one its hardware clock, which went on, is all it has.
pub(crate) async fn set_clock(host: &Host, id: &MachineId) -> Result<(), HypervisorError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let nanoseconds = i32::try_from(now.subsec_nanos()).unwrap_or(0);
    let request = Request::SetTime { uuid: id.0.to_string(), seconds, nanoseconds };
    host.call_within(request, host.config().timeout.max(SLOW_STEP_MAX)).await.map(|_| ())
}

pub(crate) fn state_of(host: &Host, id: &MachineId) -> Option<MachineState> {
    host.found().into_iter().find(|found| found.id == *id).map(|found| found.state)
}

async fn shutdown(host: &Host, id: &MachineId, timeout: Duration, force: bool) -> Result<(), HypervisorError> {
    let until = Instant::now() + timeout.min(LONGEST_SHUTDOWN);
    let mut press_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= press_at {
            match power(host, id, PowerAct::Shutdown).await {
                // It went down between two looks.
                Err(HypervisorError::Host { source: CallError::Fault(fault), .. })
                    if matches!(fault.kind, FaultKind::State | FaultKind::NoAgent) => {}
                other => other?,
            }
            press_at = now + PRESS_AGAIN;
        }
        host.look().await?;
        if state_of(host, id).is_none_or(|state| !state.is_active()) {
            return Ok(());
        }
        if Instant::now() >= until {
            if force {
                return power(host, id, PowerAct::PowerOff).await;
            }
            return Err(HypervisorError::Timeout(format!(
                "it did not shut down within {} s; stop it, or shut it down with force",
                timeout.as_secs_f32()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Makes a linked clone stand alone. While it runs, for that is when the disk can be read and written at once.
async fn flatten(host: &Host, id: &MachineId, mut metadata: crate::metadata::Metadata, progress: &Progress) -> Result<(), HypervisorError> {
    if metadata.base.is_none() {
        return Ok(());
    }
    let found = host.found().into_iter().find(|found| found.id == *id);
    let disk = found.and_then(|found| found.definition.facts.main_disk).map_or("vda".into(), |(_, target)| target);
    let ask = || Request::FlattenProgress { uuid: id.0.to_string(), disk: disk.clone() };
    // One that was begun before a crash is waited for, not begun again.
    if host.call(ask()).await? == (Answer::Progress { done: 0, end: 0 }) {
        host.call(Request::Flatten { uuid: id.0.to_string(), disk: disk.clone() }).await?;
    }
    let until = Instant::now() + LONG_STEP_MAX;
    while Instant::now() < until {
        match host.call(ask()).await? {
            Answer::Progress { end: 0, .. } => {
                metadata.base = None;
                return write_metadata(host, id, &metadata).await;
            }
            Answer::Progress { done, end } => progress.bytes(done, end),
            other => return Err(host.odd(&other)),
        }
        sleep(LOOK_EVERY).await;
    }
    Err(HypervisorError::Timeout(format!("the disk was not flat after {} s", LONG_STEP_MAX.as_secs())))
}

/// Moves a running machine. Linked clones find their base there first.
pub(crate) async fn migrate(shared: &Arc<Shared>, id: &MachineId, to: &HostName, progress: &Progress) -> Result<(), HypervisorError> {
    let (from, found, metadata) = shared.find_ours(&id.0)?;
    let target = shared.host(to)?;
    if from.name == target.name {
        return Ok(());
    }
    let template = shared.template(&metadata.template.as_str().into())?;
    let want = Want { memory: found.definition.facts.memory, vcpus: found.definition.facts.vcpus, disk: 0 };
    place(&[shared.room(&target, |_| false)], want).map_err(HypervisorError::NoCapacity)?;
    let name: MachineName = found.name.parse().map_err(HypervisorError::Conflict)?;
    if !template.shared_storage {
        let base = metadata.base.as_ref().and_then(|base| base.parse::<BaseName>().ok());
        let prepared = prepare_disks(&from, &target, &name, &template.name, base.as_ref()).await;
        // A volume that was there before belongs to somebody.
        let is_taken =
            matches!(&prepared, Err(HypervisorError::Host { source: CallError::Fault(fault), .. }) if fault.kind == FaultKind::Exists);
        if prepared.is_err() && !is_taken {
            let _ = clear(&target, &name).await;
        }
        prepared?;
    }
    progress.step(format!("moving {name} from {} to {}", from.name, target.name));
    let target_config = target.config();
    let request = Request::Migrate {
        uuid: id.0.to_string(),
        target: target_config.migration_uri.clone().unwrap_or(target_config.uri.clone()),
        copy_storage: !template.shared_storage,
        bandwidth_mib: 0,
    };
    let outcome = from.call_within(request, LONG_STEP_MAX).await;
    let (_, seen) = tokio::join!(from.look(), target.look());
    if template.shared_storage {
        return outcome.map(|_| ());
    }
    if let Err(error) = outcome {
        // Where it is not, as far as that is known.
        if seen.is_ok() && !target.found().iter().any(|found| found.id == *id) {
            let _ = clear(&target, &name).await;
        }
        return Err(error);
    }
    clear(&from, &name).await
}

/// The disk, empty over its base, and the seed: libvirt copies into the first, and knows nothing of the second.
async fn prepare_disks(
    from: &Arc<Host>,
    target: &Arc<Host>,
    name: &MachineName,
    template: &TemplateName,
    base: Option<&BaseName>,
) -> Result<(), HypervisorError> {
    let folder = |host: &Host| host.storage().map(|storage| storage.path);
    let wrong = |why| HypervisorError::Template { template: template.clone(), why };
    let (one, other) = (folder(from).map_err(wrong)?, folder(target).map_err(wrong)?);
    if one != other {
        let why = format!(
            "the storage pools of {} and {} lie in different folders ({one}, {other}), so no disk can move",
            from.name, target.name
        );
        return Err(wrong(why));
    }
    let (here, there) = (from.config().storage_pool.clone(), target.config().storage_pool.clone());
    let volume = |storage: &str, volume: String| Request::Volume { storage: storage.to_owned(), volume };
    let Answer::Volume(Some(disk)) = from.call(volume(&here, name.disk())).await? else {
        return Err(HypervisorError::NotFound(format!("{name} has no disk on {}", from.name)));
    };
    let base = match base {
        None => None,
        Some(base) => match target.call(volume(&there, base.volume())).await? {
            Answer::Volume(Some(base)) => Some(base),
            _ => return Err(wrong(format!("{} does not have {base}; flatten the machine first", target.name))),
        },
    };
    let backing = base.as_ref().map(|base| (base.path.as_str(), base.format.as_str()));
    let xml = disk_volume(&name.disk(), disk.capacity, backing).to_string();
    let create = |volume: String, xml: String| Request::CreateVolume { storage: there.clone(), volume, xml, content_of: None, fresh: true };
    target.call(create(name.disk(), xml)).await?;
    let (bytes, limit) = (4 << 20, from.config().timeout);
    let (_, seed) = from.call_with(Request::Tail { storage: here, volume: name.seed(), bytes_max: bytes }, Vec::new(), limit).await?;
    let xml = plain_volume(&name.seed(), seed.len() as u64, "0600").to_string();
    target.call(create(name.seed(), xml)).await?;
    target.call_with(Request::Write { storage: there.clone(), volume: name.seed() }, seed, target.config().timeout).await?;
    Ok(())
}

/// Takes a machine's volumes away where it is not.
async fn clear(host: &Host, name: &MachineName) -> Result<(), HypervisorError> {
    let storage = host.config().storage_pool.clone();
    if let Answer::Names(volumes) = host.call(Request::Volumes { storage: storage.clone() }).await? {
        for volume in volumes.into_iter().filter(|volume| name.owns(volume)) {
            host.call_within(Request::DeleteVolume { storage: storage.clone(), volume }, SLOW_STEP_MAX).await?;
        }
    }
    Ok(())
}
