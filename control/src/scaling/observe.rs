//! Machines and endpoints as the members of a pool. Pure, but for what it remembers of what it has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_autoscaler::scaling::{HostRoom, Member, MemberState, Observation, Policy};
use weir_config::{Config, EndpointAddress, Host, Template};
use weir_hypervisor::metadata::{Metadata, Phase, Role};
use weir_hypervisor::{HostState, HostView, MachineName, MachineState, MachineView, RoomView, TemplateView};
use weir_lb::status::{EndpointStatus, PoolStatus, Status};

/// The marks on a machine, in its labels.
pub(super) const LEAVING: &str = "weir-leaving";
pub(super) const HOOK: &str = "weir-hook";
pub(crate) const PROTECTED: &str = "weir-protected";
pub(crate) const ADDRESS: &str = "weir-address";

/// How long a machine that another leader began to make is left to it: one that has lost its lead still ends what it had begun, a dead one does not.
/// Then it is made anew.
const HALF_MADE: Duration = Duration::from_secs(15);

/// How long a machine is paused before it counts as one whose thaw was interrupted: each that is started passes through this state.
const PAUSED: Duration = Duration::from_secs(3);

/// A note of a refresh is of several words, and a label is one: how far it is, to which base, and from which.
const REFRESH: [&str; 3] = ["weir-refresh", "weir-refresh-to", "weir-refresh-from"];

/// The labels of a note; without one they go.
pub(super) fn refresh_labels(note: Option<&str>) -> Vec<(&'static str, Option<String>)> {
    // The first word has two parts, its time and its state.
    let words: Option<Vec<String>> = note.map(|note| note.replacen(' ', ":", 1).split(' ').map(str::to_owned).collect());
    REFRESH.iter().enumerate().map(|(at, key)| (*key, words.as_ref().and_then(|words| words.get(at).cloned()))).collect()
}

fn refresh_note(labels: &BTreeMap<String, String>) -> Option<String> {
    let words: Option<Vec<&str>> = REFRESH.iter().map(|key| labels.get(*key).map(String::as_str)).collect();
    Some(words?.join(" ").replacen(':', " ", 1))
}

/// Everything that is seen at one moment.
pub(super) struct Sight<'a> {
    pub(super) config: &'a Config,
    pub(super) status: &'a Status,
    pub(super) machines: Vec<MachineView>,
    pub(super) hosts: Vec<HostView>,
    pub(super) templates: Vec<TemplateView>,
}

/// What is remembered of a pool's machines.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Since when a machine is off or unhealthy.
    ill: BTreeMap<String, UnixMs>,
    /// Since when a machine is paused.
    paused: BTreeMap<String, UnixMs>,
    /// Machines that have served once.
    served: BTreeMap<String, ()>,
    /// Their addresses.
    pub(super) addresses: BTreeMap<String, EndpointAddress>,
    /// Endpoints that were made of machines here: so that those of machines that vanished are found.
    pub(super) registered: BTreeMap<String, String>,
}

impl Sight<'_> {
    /// Hosts that have never answered.
    pub(super) fn silent(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|host| matches!(host.state, HostState::Connecting { .. })).map(|host| host.name.as_str())
    }

    fn pool(&self, name: &str) -> Option<&PoolStatus> {
        self.status.pools.iter().find(|pool| pool.name == name)
    }
}

/// The members of a pool, and the room on the hosts. `launching`: slots that are being made, with their hosts.
pub(super) fn observe(
    policy: &Policy,
    sight: &Sight<'_>,
    rooms: Result<Vec<RoomView>, String>,
    launching: &[(u32, String)],
    seen: &mut Seen,
    now: UnixMs,
) -> Observation {
    let scaling = &policy.scaling;
    let template = sight.config.templates.get(&scaling.template);
    let pool = sight.pool(&policy.pool.0);
    let group = |host: &str| group(sight, scaling.spread.as_deref(), host);
    let mut members = Vec::new();
    seen.addresses.clear();
    for machine in &sight.machines {
        let Some(metadata) = machine.metadata.as_ref().filter(|of| of.pool.as_deref() == Some(&policy.pool.0) && of.role == Role::Member)
        else {
            continue;
        };
        let being_made = metadata.slot.is_some_and(|slot| launching.iter().any(|(launching, _)| *launching == slot));
        members.push(member(
            machine,
            metadata,
            template.map(|template| &**template),
            pool,
            policy,
            being_made,
            seen,
            group(&machine.host),
            now,
        ));
    }
    for (slot, host) in launching {
        if !members.iter().any(|member| member.slot == Some(*slot)) {
            members.push(coming(policy, *slot, host, group(host), now));
        }
    }
    // A host that has never answered may still show them: their endpoints stay until it has.
    let all_seen = sight.silent().next().is_none();
    let gone: Vec<String> =
        seen.registered.keys().filter(|_| all_seen).filter(|name| !members.iter().any(|member| member.name == **name)).cloned().collect();
    for name in gone {
        members.extend(vanished(&name, pool, seen, now));
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    seen.paused.retain(|name, _| members.iter().any(|member| member.name == *name));
    seen.ill.retain(|name, _| members.iter().any(|member| member.name == *name));
    seen.served.retain(|name, ()| members.iter().any(|member| member.name == *name));
    let warm = |host: &str| {
        let waits = |machine: &&MachineView| {
            machine.host == host
                && machine.unknown_since.is_none()
                && machine
                    .metadata
                    .as_ref()
                    .is_some_and(|of| of.template == *scaling.template.0 && of.role == Role::Warm && of.phase == Phase::Ready)
        };
        u32::try_from(sight.machines.iter().filter(waits).count()).unwrap_or(u32::MAX)
    };
    let hosts = match rooms {
        Ok(rooms) => rooms
            .into_iter()
            .map(|room| HostRoom { group: group(&room.host), warm: warm(&room.host), host: room.host, more: room.more, why: room.why })
            .collect(),
        Err(why) => sight
            .hosts
            .iter()
            .map(|host| HostRoom { host: host.name.clone(), group: group(&host.name), more: 0, why: why.clone(), warm: 0 })
            .collect(),
    };
    let base = sight.templates.iter().find(|view| view.name == *scaling.template.0).and_then(|view| view.base.clone());
    Observation { complete: None, members, hosts, base }
}

/// What machines are spread over.
fn group(sight: &Sight<'_>, label: Option<&str>, host: &str) -> String {
    let of_label = label.and_then(|label| sight.hosts.iter().find(|view| view.name == host)?.labels.get(label).cloned());
    of_label.unwrap_or_else(|| host.to_owned())
}

#[expect(clippy::too_many_arguments, reason = "all of it is looked at for one machine, in one place")]
fn member(
    machine: &MachineView,
    metadata: &Metadata,
    template: Option<&Template>,
    pool: Option<&PoolStatus>,
    policy: &Policy,
    being_made: bool,
    seen: &mut Seen,
    group: String,
    now: UnixMs,
) -> Member {
    let address = address(machine, metadata);
    if let Some(address) = &address {
        seen.addresses.insert(machine.name.clone(), address.clone());
    }
    let written = address.as_ref().map(ToString::to_string);
    let endpoint = pool.and_then(|pool| pool.endpoints.iter().find(|endpoint| Some(&endpoint.address) == written.as_ref()));
    let leaving = metadata.labels.get(LEAVING).and_then(|since| since.parse::<u64>().ok());
    let hook = metadata.labels.get(HOOK).map(String::as_str);
    let since = UnixMs(machine.since.unwrap_or(0).saturating_mul(1000)).min(now);
    let state = match leaving {
        _ if metadata.phase == Phase::Deleting => MemberState::Removing,
        Some(since) => {
            let draining = endpoint.is_none_or(|endpoint| endpoint.state != "ready");
            MemberState::Leaving { since: UnixMs(since.saturating_mul(1000)).min(now), draining }
        }
        None if machine.unknown_since.is_some() => {
            let since = machine.unknown_since.unwrap_or(0.0).max(0.0) * 1000.0;
            MemberState::Unknown { since: UnixMs(since as u64).min(now) }
        }
        None if being_made => MemberState::Launching,
        None if metadata.phase == Phase::Creating => match metadata.slot {
            Some(_) if now.since(since) >= HALF_MADE => MemberState::Interrupted,
            _ => MemberState::Launching,
        },
        None => state(machine, address.is_some(), endpoint, template, policy, seen, since, now),
    };
    if !matches!(state, MemberState::Unhealthy { .. }) {
        seen.ill.remove(&machine.name);
    }
    if state == MemberState::Serving {
        seen.served.insert(machine.name.clone(), ());
    }
    Member {
        name: machine.name.clone(),
        slot: metadata.slot,
        generation: metadata.generation,
        host: machine.host.clone(),
        group,
        base: metadata.origin.clone(),
        since,
        state,
        registered: endpoint.is_some(),
        hooked: hook == Some(if leaving.is_some() { "terminate" } else { "launch" }),
        protected: metadata.labels.contains_key(PROTECTED),
        in_flight: endpoint.map_or(0, |endpoint| endpoint.in_flight),
        refresh: refresh_note(&metadata.labels),
    }
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn state(
    machine: &MachineView,
    has_address: bool,
    endpoint: Option<&EndpointStatus>,
    template: Option<&Template>,
    policy: &Policy,
    seen: &mut Seen,
    since: UnixMs,
    now: UnixMs,
) -> MemberState {
    let has_served = seen.served.contains_key(&machine.name);
    if machine.state == MachineState::Paused {
        return paused(&machine.name, seen, now);
    }
    seen.paused.remove(&machine.name);
    let mut ill = || MemberState::Unhealthy { since: (*seen.ill.entry(machine.name.clone()).or_insert(now)).min(now) };
    match machine.state {
        MachineState::Off | MachineState::Crashed | MachineState::ShuttingDown => return ill(),
        _ if !has_address => return MemberState::Interrupted,
        _ => {}
    }
    let Some(endpoint) = endpoint else { return MemberState::Booted };
    match endpoint.health {
        "healthy" | "unchecked" => {
            let age = if endpoint.health == "healthy" { Duration::from_secs(endpoint.health_age_s) } else { now.since(since) };
            if age >= policy.scaling.warm_up { MemberState::Serving } else { MemberState::Warming }
        }
        // A machine that has never served may still be booting, for as long as its template allows.
        _ if !has_served && now.since(since) < template.map_or(Duration::ZERO, |template| template.boot_timeout) => MemberState::Warming,
        "unhealthy" => {
            let since = now.minus(Duration::from_secs(endpoint.health_age_s));
            MemberState::Unhealthy { since }
        }
        _ => ill(),
    }
}

/// Each machine that is started is paused for a moment. One that stays so was on its way to serve when somebody died over it.
fn paused(name: &str, seen: &mut Seen, now: UnixMs) -> MemberState {
    if now.since(*seen.paused.entry(name.to_owned()).or_insert(now)) >= PAUSED {
        MemberState::Interrupted
    } else if seen.served.contains_key(name) {
        MemberState::Unhealthy { since: (*seen.ill.entry(name.to_owned()).or_insert(now)).min(now) }
    } else {
        MemberState::Launching
    }
}

/// Where its service listens.
fn address(machine: &MachineView, metadata: &Metadata) -> Option<EndpointAddress> {
    let of_label = || metadata.labels.get(ADDRESS).and_then(|text| text.parse().ok());
    let ip = machine.address.or_else(of_label)?;
    Some(EndpointAddress { host: Host::Ip(ip), port: machine.port? })
}

/// A machine that is being made and that no host shows yet.
fn coming(policy: &Policy, slot: u32, host: &str, group: String, now: UnixMs) -> Member {
    Member {
        name: MachineName::of_slot(&policy.pool.0, slot).to_string(),
        slot: Some(slot),
        generation: 0,
        host: host.to_owned(),
        group,
        base: String::new(),
        since: now,
        state: MemberState::Launching,
        registered: false,
        hooked: false,
        protected: false,
        in_flight: 0,
        refresh: None,
    }
}

/// A machine that is gone, whose endpoint is still there.
fn vanished(name: &str, pool: Option<&PoolStatus>, seen: &mut Seen, now: UnixMs) -> Option<Member> {
    let address = seen.registered.get(name).cloned()?;
    let endpoint = pool.and_then(|pool| pool.endpoints.iter().find(|endpoint| endpoint.address == address));
    let Some(_) = endpoint else {
        seen.registered.remove(name);
        return None;
    };
    seen.addresses.insert(name.to_owned(), weir_config::parse_endpoint_address(&address).ok()?);
    Some(Member {
        name: name.to_owned(),
        slot: None,
        generation: 0,
        host: String::new(),
        group: String::new(),
        base: String::new(),
        since: now,
        state: MemberState::Removing,
        registered: true,
        hooked: false,
        protected: false,
        in_flight: 0,
        refresh: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_a_refresh_is_read_as_it_was_written() {
        for note in ["1795694400 forth weir-base-web-0002-0123456789ab weir-base-web-0001-ba9876543210", "1 refused b -"] {
            let labels = refresh_labels(Some(note));
            // What a label may hold.
            let is_good = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/:".contains(&byte));
            assert!(labels.iter().all(|(_, value)| value.as_deref().is_some_and(is_good)), "{labels:?}");
            let kept = labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
            assert_eq!(refresh_note(&kept).as_deref(), Some(note));
        }
        assert!(refresh_labels(None).iter().all(|(_, value)| value.is_none()));
        assert_eq!(refresh_note(&BTreeMap::new()), None);
    }

    #[test]
    fn a_machine_that_is_being_started_is_not_one_whose_thaw_was_interrupted() {
        let at = |seconds: u64| UnixMs(seconds * 1000);
        let mut seen = Seen::default();
        assert_eq!(paused("new", &mut seen, at(10)), MemberState::Launching);
        assert_eq!(paused("new", &mut seen, at(12)), MemberState::Launching);
        assert_eq!(paused("new", &mut seen, at(13)), MemberState::Interrupted);
        seen.served.insert("old".into(), ());
        assert_eq!(paused("old", &mut seen, at(20)), MemberState::Unhealthy { since: at(20) });
        assert_eq!(paused("old", &mut seen, at(22)), MemberState::Unhealthy { since: at(20) });
        assert_eq!(paused("old", &mut seen, at(23)), MemberState::Interrupted);
    }
}
