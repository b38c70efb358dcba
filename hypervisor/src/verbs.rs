//! What can be done to a machine that is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;
use weir_config::HostName;

use crate::capacity::{Want, place};
use crate::error::{CallError, HypervisorError};
use crate::fleet::Shared;
use crate::host::Host;
use crate::make::write_metadata;
use crate::names::{BaseName, MachineId};
use crate::protocol::{Answer, FaultKind, PowerAct, Request};
use crate::remove::{self, SLOW_STEP_MAX};
use crate::spec::{Progress, Verb};
use crate::view::MachineState;

/// A guest that does not listen to its power button yet may listen to the next press.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Between two looks at what takes long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
            set_clock(&host, id).await;
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
pub(crate) async fn set_clock(host: &Host, id: &MachineId) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let nanoseconds = i32::try_from(now.subsec_nanos()).unwrap_or(0);
    let request = Request::SetTime { uuid: id.0.to_string(), seconds, nanoseconds };
    host.call(request).await.is_ok()
}

fn state_of(host: &Host, id: &MachineId) -> Option<MachineState> {
    host.found().into_iter().find(|found| found.id == *id).map(|found| found.state)
}

async fn shutdown(host: &Host, id: &MachineId, timeout: Duration, force: bool) -> Result<(), HypervisorError> {
    let until = Instant::now() + timeout;
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
    if let Some(base) = metadata.base.as_ref().filter(|_| !template.shared_storage).and_then(|base| base.parse::<BaseName>().ok()) {
        let there = crate::base::bases_on(&target).await?;
        if !there.contains(&base) {
            let why = format!("{} does not have {base}, on which {} lies; flatten the machine first", target.name, found.name);
            return Err(HypervisorError::Template { template: template.name.clone(), why });
        }
    }
    if !template.shared_storage {
        prepare_disks(&from, &target, &found).await?;
    }
    progress.step(format!("moving {} from {} to {}", found.name, from.name, target.name));
    let target_config = target.config();
    let request = Request::Migrate {
        uuid: id.0.to_string(),
        target: target_config.migration_uri.clone().unwrap_or(target_config.uri.clone()),
        copy_storage: !template.shared_storage,
        bandwidth_mib: 0,
    };
    let outcome = from.call_within(request, LONG_STEP_MAX).await;
    let (_, _) = tokio::join!(from.look(), target.look());
    outcome?;
    if !template.shared_storage {
        // The copies at the old place have no machine any more.
        let storage = from.config().storage_pool.clone();
        let name: crate::names::MachineName = found.name.parse().map_err(HypervisorError::Conflict)?;
        if let Answer::Names(volumes) = from.call(Request::Volumes { storage: storage.clone() }).await? {
            for volume in volumes.into_iter().filter(|volume| name.owns(volume)) {
                from.call_within(Request::DeleteVolume { storage: storage.clone(), volume }, SLOW_STEP_MAX).await?;
            }
        }
    }
    Ok(())
}

/// libvirt makes missing disks at the target itself, but neither in our names' modes nor the seed.
async fn prepare_disks(from: &Arc<Host>, target: &Arc<Host>, found: &crate::host::Found) -> Result<(), HypervisorError> {
    let name: crate::names::MachineName = found.name.parse().map_err(HypervisorError::Conflict)?;
    let (here, there) = (from.config().storage_pool.clone(), target.config().storage_pool.clone());
    let (bytes, limit) = (4 << 20, from.config().timeout);
    let (_, seed) = from.call_with(Request::Tail { storage: here, volume: name.seed(), bytes_max: bytes }, Vec::new(), limit).await?;
    let xml = crate::domain::plain_volume(&name.seed(), seed.len() as u64, "0600").to_string();
    target.call(Request::CreateVolume { storage: there.clone(), volume: name.seed(), xml, content_of: None }).await?;
    target.call_with(Request::Write { storage: there, volume: name.seed() }, seed, target.config().timeout).await?;
    Ok(())
}
