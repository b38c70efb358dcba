//! Warm clones: booted ahead of time, frozen, and thawed in a moment.
//!
//! A warm clone is a whole machine that waits: it has a host, a name, a seed and an address, only no pool. Taking one writes the wish into its
//! metadata first, then thaws it; a crash in between leaves a frozen machine that belongs to its pool, which asking again thaws.
//!
//! The leader keeps as many as the template says, on the base that new clones get; those on an older base are removed. A paused one counts
//! against the memory of its host like a running one, a saved one with its disk alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};
use weir_config::{Template, TemplateName, WarmMode};

use crate::error::HypervisorError;
use crate::fleet::Shared;
use crate::host::{Found, Host};
use crate::make::{self, write_metadata};
use crate::metadata::{Metadata, Phase, Role};
use crate::names::MachineName;
use crate::protocol::PowerAct;
use crate::spec::{CloneSpec, Progress, WaitFor, WarmUse};
use crate::verbs::{power, set_clock};
use crate::view::MachineView;
use crate::{ready, remove};

/// Between two looks at how many there are.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// After a failure, so that a template that cannot boot does not keep a host busy.
const RETRY_AFTER: Duration = Duration::from_secs(30);

fn waiting(host: &Host, template: &TemplateName) -> Vec<(Found, Arc<Metadata>)> {
    let is_warm =
        |metadata: &Arc<Metadata>| metadata.template == *template.0 && metadata.role == Role::Warm && metadata.phase == Phase::Ready;
    let of_it = |found: Found| Some((found.clone(), found.definition.metadata.filter(is_warm)?));
    host.found().into_iter().filter_map(of_it).collect()
}

/// Thaws a warm clone for this wish, if there is one on the current base.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    template: &Arc<Template>,
    spec: &CloneSpec,
    progress: &Progress,
) -> Result<Option<MachineView>, HypervisorError> {
    let current = shared.current_base(&template.name).map(|base| base.to_string());
    let (host, found, mut metadata, reservation) = {
        let _one = shared.placing.lock().await;
        let candidates =
            shared.hosts().into_iter().filter(|host| host.is_up() && spec.host.as_ref().is_none_or(|wanted| *wanted == host.name));
        let free = candidates
            .flat_map(|host| waiting(&host, &template.name).into_iter().map(move |(found, metadata)| (host.clone(), found, metadata)))
            .filter(|(_, _, metadata)| Some(&metadata.origin) == current.as_ref())
            .filter_map(|(host, found, metadata)| Some((host, found.name.parse::<MachineName>().ok()?, found, metadata)))
            .find(|(_, name, _, _)| !shared.is_being_made(name));
        let Some((host, name, found, metadata)) = free else { return Ok(None) };
        let nothing = crate::capacity::Want { memory: 0, vcpus: 0, disk: 0 };
        let reservation = shared.reserve(name, host.name.clone(), nothing, metadata.address)?;
        (host, found, (*metadata).clone(), reservation)
    };
    let name = reservation.name.clone();
    progress.step(format!("resuming the warm clone {name} on {}", host.name));
    metadata.role = Role::Member;
    metadata.enter(Phase::Ready, SystemTime::now());
    metadata.pool = spec.pool.clone();
    metadata.slot = spec.slot;
    metadata.generation = spec.generation;
    metadata.labels = spec.labels.clone();
    metadata.claim = spec.name.as_ref().map(ToString::to_string);
    write_metadata(&host, &found.id, &metadata).await?;
    power(&host, &found.id, PowerAct::Resume).await?;
    set_clock(&host, &found.id).await;
    host.look().await?;
    if spec.wait == WaitFor::Ready {
        let mac = found.definition.facts.mac.clone().unwrap_or_default();
        let address = metadata.address.or(found.address);
        ready::ready(&host, template, &name, &found.id, &mac, address, progress).await?;
    }
    info!(machine = %name, host = %host.name, "a warm clone serves");
    Ok(shared.machine_view(&found.id))
}

/// Keeps as many as each template says.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut leader = shared.leader.subscribe();
    let mut not_before: BTreeMap<TemplateName, Instant> = BTreeMap::new();
    loop {
        if leader.wait_for(|leader| *leader).await.is_err() {
            return;
        }
        let all_known = !shared.hosts().is_empty() && shared.hosts().iter().any(|host| host.is_complete());
        for template in shared.templates() {
            let waits = not_before.get(&template.name).is_some_and(|at| Instant::now() < *at);
            if !all_known || waits || (template.warm == 0 && count(&shared, &template) == 0) {
                continue;
            }
            match keep_one(&shared, &template).await {
                Ok(()) => shared.set_error(&template.name, None),
                Err(error) => {
                    let error = error.chain();
                    warn!(template = %template.name, "no warm clone: {error}");
                    shared.set_error(&template.name, Some(error));
                    not_before.insert(template.name.clone(), Instant::now() + RETRY_AFTER);
                }
            }
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

fn count(shared: &Shared, template: &Template) -> usize {
    shared.hosts().iter().map(|host| waiting(host, &template.name).len()).sum()
}

/// One step towards what is wanted.
async fn keep_one(shared: &Arc<Shared>, template: &Arc<Template>) -> Result<(), HypervisorError> {
    let current = shared.current_base(&template.name).map(|base| base.to_string());
    let mut fresh = Vec::new();
    for host in shared.hosts().into_iter().filter(|host| host.is_up()) {
        for (found, metadata) in waiting(&host, &template.name) {
            if current.as_ref().is_some_and(|current| metadata.origin != *current) {
                info!(machine = %found.name, host = %host.name, "removing a warm clone of an older base");
                remove::remove(shared, &host, &found.id).await?;
            } else {
                fresh.push((host.clone(), found));
            }
        }
    }
    let wanted = template.warm as usize;
    if fresh.len() > wanted {
        let (host, found) = fresh.swap_remove(0);
        return remove::remove(shared, &host, &found.id).await;
    }
    if fresh.len() < wanted {
        add(shared, template).await?;
    }
    Ok(())
}

async fn add(shared: &Arc<Shared>, template: &Arc<Template>) -> Result<(), HypervisorError> {
    let spec = CloneSpec { warm: WarmUse::Never, ..CloneSpec::new(template.name.clone()) };
    let machine = make::make(shared, template, spec, Role::Warm, &Progress::default()).await?;
    let (host, found, metadata) = shared.find_ours(&machine.id.0)?;
    let act = match template.warm_mode {
        WarmMode::Paused => PowerAct::Suspend,
        WarmMode::Saved => PowerAct::Save,
    };
    let mut metadata = (*metadata).clone();
    metadata.enter(Phase::Ready, SystemTime::now());
    let outcome = async {
        power(&host, &found.id, act).await?;
        write_metadata(&host, &found.id, &metadata).await?;
        host.look().await
    };
    match outcome.await {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = remove::remove(shared, &host, &found.id).await;
            Err(error)
        }
    }
}
