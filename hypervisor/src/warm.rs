//! Warm clones: booted ahead of time, frozen, and thawed in a moment.
//!
//! A warm clone is a whole machine that waits: it has a host, a name, a seed and an address, only no pool. Taking one writes the wish into its
//! metadata first, then thaws it; a crash in between leaves a frozen machine that belongs to its pool, which asking again thaws.
//!
//! The leader keeps as many as the template says, each as a new clone would be: on its base, on a host that it names, with its memory and vCPUs;
//! those that are not are removed. A paused one counts against the memory of its host like a running one, a saved one with its disk alone until
//! it is thawed.
//!
//! What stands still in a frozen guest must be right when it goes on: its clock is set through its agent, and one that has its address from a
//! DHCP server is replaced before the lease ends that it cannot renew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};
use weir_config::{AddressSource, Template, TemplateName, WarmMode};

use crate::capacity::{Want, place};
use crate::error::{CallError, HypervisorError};
use crate::fleet::Shared;
use crate::host::{Found, Host};
use crate::make::{self, write_metadata};
use crate::metadata::{Metadata, Phase, Role};
use crate::names::{MachineId, MachineName};
use crate::protocol::PowerAct;
use crate::spec::{CloneSpec, Progress, WaitFor, WarmUse};
use crate::verbs::{power, set_clock};
use crate::view::{MachineView, unix_s};
use crate::{ready, remove};

/// Between two looks at how many there are.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What libvirt's DHCP server lends an address for, unless its network says otherwise.
const LEASE: Duration = Duration::from_secs(3600);

/// How long a guest that has booted may take to start its agent, if it has one.
const AGENT_START_MAX: Duration = Duration::from_secs(15);

/// How long libvirt may take to find the agent of a guest again that goes on from saved memory.
const AGENT_RETURN_MAX: Duration = Duration::from_secs(3);

/// Between two questions whether the agent is there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After a failure, so that a template that cannot boot does not keep a host busy.
const RETRY_AFTER: Duration = Duration::from_secs(30);

fn waiting(host: &Host, template: &TemplateName) -> Vec<(Found, Arc<Metadata>)> {
    let is_warm =
        |metadata: &Arc<Metadata>| metadata.template == *template.0 && metadata.role == Role::Warm && metadata.phase == Phase::Ready;
    let of_it = |found: Found| Some((found.clone(), found.definition.metadata.filter(is_warm)?));
    host.found().into_iter().filter_map(of_it).collect()
}

/// How old a warm clone is whose address the DHCP server may soon give to another: a frozen guest does not renew its lease.
fn is_old(template: &Template, since_s: u64, now_s: u64, age: Duration) -> bool {
    template.address == AddressSource::Lease && now_s.saturating_sub(since_s) >= age.as_secs()
}

fn now_s() -> u64 {
    unix_s(SystemTime::now()) as u64
}

/// What a warm clone will take of its host that it does not take already: one that is saved has only its disk.
fn needs(found: &Found) -> Want {
    let facts = &found.definition.facts;
    match found.state.is_active() {
        true => Want { memory: 0, vcpus: 0, disk: 0 },
        false => Want { memory: facts.memory, vcpus: facts.vcpus, disk: 0 },
    }
}

fn fits(shared: &Shared, host: &Host, found: &Found) -> bool {
    found.state.is_active() || place(&[shared.room(host, |_| false)], needs(found)).is_ok()
}

/// Why a warm clone is not what a new one would be: what the template says may have changed since it was made.
fn unwanted(shared: &Arc<Shared>, template: &Template, host: &Host, found: &Found, metadata: &Metadata) -> Option<&'static str> {
    // libvirt may round memory up.
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let facts = &found.definition.facts;
    let is_other = |want: Want| (mib(want.memory), want.vcpus) != (mib(facts.memory), facts.vcpus);
    if shared.current_base(&template.name).is_some_and(|current| metadata.origin != current.to_string()) {
        Some("of an older base")
    } else if !make::may_be_on(template, &host.name) {
        Some("on a host that its template does not name any more")
    } else if make::known_want(shared, template).is_ok_and(is_other) {
        Some("with other memory or vCPUs than its template says by now")
    } else {
        None
    }
}

/// Thaws a warm clone for this wish, if there is one as a new one would be.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    template: &Arc<Template>,
    spec: &CloneSpec,
    progress: &Progress,
) -> Result<Option<MachineView>, HypervisorError> {
    let current = shared.current_base(&template.name).map(|base| base.to_string());
    if current.is_none() || spec.base.as_ref().is_some_and(|wanted| current.as_ref() != Some(wanted)) {
        return Ok(None);
    }
    let (host, found, mut metadata, reservation) = {
        let _one = shared.placing.lock().await;
        let candidates =
            shared.hosts().into_iter().filter(|host| host.is_up() && spec.host.as_ref().is_none_or(|wanted| *wanted == host.name));
        let free = candidates
            .flat_map(|host| waiting(&host, &template.name).into_iter().map(move |(found, metadata)| (host.clone(), found, metadata)))
            .filter(|(host, found, metadata)| unwanted(shared, template, host, found, metadata).is_none())
            .filter(|(_, _, metadata)| !is_old(template, metadata.since_s, now_s(), LEASE))
            .filter_map(|(host, found, metadata)| Some((host, found.name.parse::<MachineName>().ok()?, found, metadata)))
            .find(|(host, name, found, _)| !shared.is_being_made(name) && fits(shared, host, found));
        let Some((host, name, found, metadata)) = free else { return Ok(None) };
        let reservation = shared.reserve(name, host.name.clone(), needs(&found), metadata.address)?;
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
    // The guest answers meanwhile; but nobody is told of it before its clock is right.
    let serves = async {
        host.look().await?;
        // From now on the machine itself counts.
        let _name = reservation.settle();
        if spec.wait == WaitFor::Ready {
            let mac = found.definition.facts.mac.clone().unwrap_or_default();
            let address = metadata.address.or(found.address);
            ready::ready(&host, template, &name, &found.id, &mac, address, progress).await?;
        }
        Ok(())
    };
    let ((), served) = tokio::join!(tell_time(&host, &found.name, &found.id, template.warm_mode), serves);
    served?;
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
    let (mut fresh, mut old) = (Vec::new(), Vec::new());
    for host in shared.hosts().into_iter().filter(|host| host.is_up()) {
        for (found, metadata) in waiting(&host, &template.name) {
            if let Some(why) = unwanted(shared, template, &host, &found, &metadata) {
                info!(machine = %found.name, host = %host.name, "removing a warm clone {why}");
                remove::remove(shared, &host, &found.id).await?;
            } else if is_old(template, metadata.since_s, now_s(), LEASE * 3 / 4) {
                old.push((host.clone(), found));
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
        return add(shared, template).await;
    }
    // Only now, for it could be taken until here.
    if let Some((host, found)) = old.pop() {
        info!(machine = %found.name, host = %host.name, "removing a warm clone whose lease ends soon");
        return remove::remove(shared, &host, &found.id).await;
    }
    Ok(())
}

async fn add(shared: &Arc<Shared>, template: &Arc<Template>) -> Result<(), HypervisorError> {
    let spec = CloneSpec { warm: WarmUse::Never, ..CloneSpec::new(template.name.clone()) };
    make::make(shared, template, spec, Role::Warm, &Progress::default()).await.map(|_| ())
}

/// The last steps of making one: when its agent listens, so that whoever thaws it can tell it the time, it is frozen, and says that it waits.
pub(crate) async fn freeze(host: &Host, template: &Template, id: &MachineId, metadata: &mut Metadata) -> Result<(), HypervisorError> {
    wait_for_agent(host, id).await;
    let act = match template.warm_mode {
        WarmMode::Paused => PowerAct::Suspend,
        WarmMode::Saved => PowerAct::Save,
    };
    power(host, id, act).await?;
    // Seen to stand still before it is said to wait.
    host.look().await?;
    metadata.enter(Phase::Ready, SystemTime::now());
    write_metadata(host, id, metadata).await
}

/// A guest that serves may not have started its agent yet. Only a machine with a channel for one is waited for.
async fn wait_for_agent(host: &Host, id: &MachineId) {
    let found = host.found().into_iter().find(|found| found.id == *id);
    let Some(found) = found.filter(|found| found.definition.facts.agent_channel) else { return };
    if let Err(error) = told_within(host, id, AGENT_START_MAX).await {
        warn!(
            machine = %found.name, host = %host.name,
            "its clock will be behind when it is resumed, for no guest agent answers; install qemu-guest-agent in it: {}", error.chain()
        );
    }
}

/// Sets the clock of a guest that was frozen until now. One that was only paused has its agent where it was; a saved one's is found again after
/// a moment.
pub(crate) async fn tell_time(host: &Host, name: &str, id: &MachineId, mode: WarmMode) {
    let patience = match mode {
        WarmMode::Paused => Duration::ZERO,
        WarmMode::Saved => AGENT_RETURN_MAX,
    };
    if let Err(error) = told_within(host, id, patience).await {
        warn!(machine = name, host = %host.name, "its clock stood still while it was frozen, and could not be set: {}", error.chain());
    }
}

async fn told_within(host: &Host, id: &MachineId, patience: Duration) -> Result<(), HypervisorError> {
    let until = Instant::now() + patience;
    loop {
        match set_clock(host, id).await {
            Err(HypervisorError::Host { source: CallError::Fault(_), .. }) if Instant::now() < until => {}
            outcome => return outcome,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_whose_lease_ends_is_old_and_one_with_an_address_of_its_own_never_is() {
        let template = |more: &str| {
            let text = format!("[host.a]\nuri = \"qemu:///system\"\n[template.web]\nmaster = \"m\"\n{more}\n");
            let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
            config.templates[&TemplateName::from("web")].clone()
        };
        let check = |more: &str, age: u64, expected: bool| {
            assert_eq!(is_old(&template(more), 1000, 1000 + age, LEASE), expected, "{more} {age}");
        };
        check("", 3599, false);
        check("", 3600, true);
        check("[template.web.static]\nfirst = \"10.0.0.1\"\nlast = \"10.0.0.3\"\nprefix = 24", 9999, false);
        // A clock that was set back makes nothing old.
        assert!(!is_old(&template(""), 1000, 900, LEASE));
    }
}
