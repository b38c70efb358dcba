//! What is ill: endpoints, machines and alarms as the things of a recovery.

use weir_autoscaler::alarm::AlarmState;
use weir_autoscaler::scaling::MemberState;
use weir_config::{AlarmName, AlarmScope, Condition, Config, Recovery, RecoverySubject};
use weir_hypervisor::metadata::{Phase, Role};
use weir_hypervisor::{HostState, MachineState, MachineView};
use weir_lb::status::{EndpointStatus, Status};
use weir_recovery::case::{About, Thing};
use weir_recovery::healer::{Health, Sight};

use super::{marks, now};
use crate::node::Node;
use crate::notify::keys;

/// Everything that is seen at one moment.
pub(super) struct World<'a> {
    node: &'a Node,
    config: &'a Config,
    status: &'a Status,
    machines: Vec<MachineView>,
    /// Every host has answered once, so that no machine can be missing: those of a host that is lost are still known.
    complete: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(node: &'a Node, config: &'a Config, status: &'a Status) -> World<'a> {
        let hypervisor = node.machines().hypervisor();
        let complete = hypervisor.hosts().iter().all(|host| !matches!(host.state, HostState::Connecting { .. }));
        World { node, config, status, machines: hypervisor.machines(), complete }
    }
}

/// The machine of ours that is behind an endpoint.
pub(super) fn machine_behind<'m>(machines: &'m [MachineView], endpoint: &str) -> Option<&'m MachineView> {
    machines.iter().find(|machine| machine.metadata.is_some() && address(machine).as_deref() == Some(endpoint))
}

/// Where a machine serves, as an endpoint is written.
fn address(machine: &MachineView) -> Option<String> {
    let of_label = || machine.metadata.as_ref()?.labels.get(crate::scaling::ADDRESS)?.parse().ok();
    let ip: std::net::IpAddr = machine.address.or_else(of_label)?;
    Some(std::net::SocketAddr::new(ip, machine.port?).to_string())
}

/// The things of a recovery, and whether none of them can be missing.
pub(super) fn of(world: &World<'_>, recovery: &Recovery) -> (Vec<Sight>, bool) {
    match &recovery.subject {
        RecoverySubject::Pool(pool) => {
            let endpoints = world.status.pools.iter().filter(|status| status.name == *pool.0).flat_map(|status| &status.endpoints);
            // What an operator has taken out of service is theirs.
            let sights =
                endpoints.filter(|endpoint| endpoint.state != "maintenance").filter_map(|endpoint| of_endpoint(world, &pool.0, endpoint));
            // An endpoint that is gone is known to be gone; a machine behind it may only not be seen.
            (sights.collect(), world.complete)
        }
        RecoverySubject::Template(template) => {
            let is_member = |machine: &&MachineView| {
                machine
                    .metadata
                    .as_ref()
                    .is_some_and(|of| of.template == *template.0 && of.role == Role::Member && of.phase == Phase::Ready)
            };
            (world.machines.iter().filter(is_member).filter_map(|machine| of_machine(world, machine)).collect(), world.complete)
        }
        RecoverySubject::Machine(name) => {
            let named = world.machines.iter().filter(|machine| machine.name == *name && machine.metadata.is_some());
            (named.filter_map(|machine| of_machine(world, machine)).collect(), world.complete)
        }
        RecoverySubject::Alarm(name) => (of_alarm(world, name).into_iter().collect(), world.complete),
    }
}

/// `None`: the machine behind it comes or goes, which is not an illness.
fn of_endpoint(world: &World<'_>, pool: &str, endpoint: &EndpointStatus) -> Option<Sight> {
    let about = About {
        pool: Some(pool.to_owned()),
        endpoint: Some(endpoint.address.clone()),
        told_as: vec![keys::endpoint(pool, &endpoint.address), keys::floor(pool)],
        ..About::default()
    };
    match machine_behind(&world.machines, &endpoint.address) {
        Some(machine) => machine_sight(world, machine, Some(endpoint), about),
        None if !world.complete && world.config.pools.get(&pool.into()).is_some_and(|pool| pool.scaling.is_some()) => {
            // It may be a machine of a host that has not answered: nobody knows what it is called.
            let thing = Thing::Endpoint(pool.to_owned(), endpoint.address.clone());
            Some(Sight { thing, about, health: Health::Unknown, mark: None })
        }
        None => {
            let thing = Thing::Endpoint(pool.to_owned(), endpoint.address.clone());
            Some(Sight { thing, about, health: verdict(endpoint), mark: None })
        }
    }
}

fn of_machine(world: &World<'_>, machine: &MachineView) -> Option<Sight> {
    let here = address(machine);
    let found = world.status.pools.iter().find_map(|pool| {
        let endpoint = pool.endpoints.iter().find(|endpoint| Some(&endpoint.address) == here.as_ref())?;
        Some((pool.name.clone(), endpoint))
    });
    let Some((pool, endpoint)) = found else { return machine_sight(world, machine, None, About::default()) };
    let told_as = vec![keys::endpoint(&pool, &endpoint.address), keys::floor(&pool)];
    let about = About { pool: Some(pool), endpoint: Some(endpoint.address.clone()), told_as, ..About::default() };
    machine_sight(world, machine, Some(endpoint), about)
}

fn machine_sight(world: &World<'_>, machine: &MachineView, endpoint: Option<&EndpointStatus>, about: About) -> Option<Sight> {
    let metadata = machine.metadata.as_ref()?;
    let state = metadata.pool.as_deref().and_then(|pool| world.node.scaler().member_state(pool, &machine.name));
    if metadata.phase != Phase::Ready || state.as_ref().is_some_and(MemberState::is_going) {
        return None;
    }
    let about = About { machine: Some(machine.name.clone()), host: Some(machine.host.clone()), ..about };
    let health = match (machine.state, endpoint) {
        _ if machine.unknown_since.is_some() => Health::Unknown,
        (MachineState::Off, _) => Health::Ill("it is off".into()),
        (MachineState::Crashed, _) => Health::Ill("it has crashed".into()),
        (MachineState::ShuttingDown | MachineState::Paused, _) => Health::Unknown,
        // On its way to serve for the first time.
        _ if state.as_ref().is_some_and(MemberState::is_coming) => Health::Unknown,
        (_, Some(endpoint)) => verdict(endpoint),
        (_, None) => Health::Well(now()),
    };
    Some(Sight { thing: Thing::Machine(machine.name.clone()), about, health, mark: marks::read(machine) })
}

fn verdict(endpoint: &EndpointStatus) -> Health {
    match endpoint.health {
        "unchecked" => Health::Well(now()),
        // Since the last probe that said so it may have changed.
        "healthy" => Health::Well(endpoint.confirmed_ms.map_or(0, |age| now().saturating_sub(age))),
        "unhealthy" => Health::Ill(endpoint.evidence.clone()),
        _ => Health::Unknown,
    }
}

fn of_alarm(world: &World<'_>, name: &AlarmName) -> Option<Sight> {
    let alarm = world.config.alarms.get(name)?;
    let view = world.node.scaler().alarm(name)?;
    let mut about = About { alarm: Some(name.to_string()), told_as: vec![keys::alarm(&name.0)], ..About::default() };
    let thing = match &alarm.condition {
        Condition::Threshold(threshold) => match &threshold.scope {
            AlarmScope::Machine(machine) => {
                about.machine = Some(machine.clone());
                about.host = world.machines.iter().find(|view| view.name == *machine).map(|view| view.host.clone());
                Thing::Machine(machine.clone())
            }
            AlarmScope::Pool(pool) => {
                about.pool = Some(pool.to_string());
                Thing::Alarm(name.to_string())
            }
            AlarmScope::Host(host) => {
                about.host = Some(host.to_string());
                Thing::Alarm(name.to_string())
            }
        },
        Condition::Composite(_) => Thing::Alarm(name.to_string()),
    };
    let health = match view.state {
        AlarmState::Alarm if view.engaged => Health::Ill(view.history.last().map(|change| change.reason.clone()).unwrap_or_default()),
        // Muted, suppressed, or without data.
        AlarmState::Alarm | AlarmState::InsufficientData => Health::Unknown,
        AlarmState::Ok => Health::Well(now()),
    };
    let mark = about.machine.as_ref().and_then(|name| world.machines.iter().find(|view| view.name == *name)).and_then(marks::read);
    Some(Sight { thing, about, health, mark })
}
