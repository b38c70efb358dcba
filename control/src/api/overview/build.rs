//! From what the rooms say to the one document. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weir_config::{AlarmScope, Condition, Config, Listener, Protocol};
use weir_hypervisor::{HostState, HostView, MachineView};
use weir_lb::shell::DrainProgress;
use weir_lb::status::{EndpointStatus, PoolStatus, Status};
use weir_notify::engine::Incident;
use weir_notify::service::Stats;

use super::super::model::*;
use super::problems;
use super::rates::{Window, rounded};
use crate::api::view;
use crate::node::NodeInfo;

/// Incidents that are over and still shown.
const OVER_MAX: usize = 20;

/// Moments that are computed from an age are off by up to this.
const STEADY_S: f64 = 1.5;

/// What the document is made of.
pub(super) struct Sources {
    /// Seconds since 1970.
    pub at: f64,
    pub info: NodeInfo,
    pub drain: DrainProgress,
    pub leads: bool,
    pub leader: Option<String>,
    pub last_event: u64,
    pub config: Arc<Config>,
    pub status: Status,
    pub hosts: Vec<HostView>,
    pub machines: Vec<MachineView>,
    pub vips: Vec<VipView>,
    pub alarms: Vec<AlarmItem>,
    pub scaling: Vec<ScalingItem>,
    pub incidents: Vec<Incident>,
    pub certificates: Vec<problems::Certificate>,
    pub notify: Stats,
}

/// The document. `before`: the one before it, so that what did not change is said in the same way.
pub(super) fn overview(sources: &Sources, rates: Option<Window>, before: Option<&OverviewView>) -> OverviewView {
    let listeners = listeners(sources, rates);
    let traffic = listeners.values().try_fold(TrafficRates::default(), |sum, listener| Some(added(sum, listener.rates?)));
    let mut overview = OverviewView {
        at: sources.at.round(),
        node: view::node(&sources.info, sources.drain),
        leads: sources.leads,
        leader: sources.leader.clone(),
        last_event: sources.last_event,
        problems: Vec::new(),
        traffic: traffic.filter(|_| rates.is_some()),
        listeners,
        pools: pools(sources, rates, before),
        hosts: sources.hosts.iter().map(|known| (known.name.clone(), host(known))).collect(),
        machines: machines(sources),
        vips: sources.vips.iter().map(|known| (known.name.clone(), vip(known, before))).collect(),
        alarms: sources.alarms.iter().map(|item| (item.name.clone(), alarm(item, &sources.config))).collect(),
        incidents: incidents(&sources.incidents),
        channels: channels(sources),
    };
    overview.problems = problems::problems(&overview, &sources.certificates);
    overview
}

fn added(a: TrafficRates, b: TrafficRates) -> TrafficRates {
    TrafficRates {
        connections_per_s: rounded(a.connections_per_s + b.connections_per_s),
        requests_per_s: rounded(a.requests_per_s + b.requests_per_s),
        errors_per_s: rounded(a.errors_per_s + b.errors_per_s),
        received_bytes_per_s: rounded(a.received_bytes_per_s + b.received_bytes_per_s),
        sent_bytes_per_s: rounded(a.sent_bytes_per_s + b.sent_bytes_per_s),
    }
}

/// The moment said before, where the new one is the same but for rounding.
fn steady(before: Option<f64>, now: f64) -> f64 {
    let now = now.round();
    before.filter(|before| (before - now).abs() <= STEADY_S).unwrap_or(now)
}

fn listeners(sources: &Sources, rates: Option<Window>) -> BTreeMap<String, ListenerOverview> {
    let overview = |status: &weir_lb::status::ListenerStatus| {
        let known = view::listener(status);
        let configured = sources.config.listeners.get(&known.name.as_str().into());
        let has = |vip: &&VipView| {
            let ips: BTreeSet<&str> = vip.addresses.iter().filter_map(|address| address.split('/').next()).collect();
            status.binds.iter().any(|bind| ips.contains(bind.ip().to_string().as_str()))
        };
        let overview = ListenerOverview {
            protocol: known.protocol,
            tls: configured.is_some_and(|listener| matches!(&listener.protocol, Protocol::Http(http) if http.tls.is_some())),
            binds: known.binds,
            vips: sources.vips.iter().filter(has).map(|vip| vip.name.clone()).collect(),
            pools: configured.map(|listener| pools_of(listener)).unwrap_or_default(),
            connections_open: known.connections_open,
            rates: rates.and_then(|window| window.listener(&known.name)),
        };
        (known.name, overview)
    };
    sources.status.listeners.iter().map(overview).collect()
}

/// The pools that a listener may send to: its own first, then those of its routes in their order.
fn pools_of(listener: &Listener) -> Vec<String> {
    let routes = listener.protocol.routes();
    let mut seen = BTreeSet::new();
    let all = listener.pool.iter().chain(routes.iter().flat_map(weir_config::Route::pools));
    all.map(ToString::to_string).filter(|pool| seen.insert(pool.clone())).collect()
}

fn pools(sources: &Sources, rates: Option<Window>, before: Option<&OverviewView>) -> BTreeMap<String, PoolOverview> {
    let machine_of = machines_by_address(sources);
    let scaling: HashMap<&str, &ScalingItem> = sources.scaling.iter().map(|item| (item.pool.as_str(), item)).collect();
    let overview = |pool: &PoolStatus| {
        let known = before.and_then(|before| before.pools.get(&pool.name));
        let endpoint = |status: &EndpointStatus| {
            let before = known.and_then(|known| known.endpoints.get(&status.address)).map(|endpoint| endpoint.since);
            let rates = rates.and_then(|window| window.endpoint(&pool.name, &status.address));
            let mut overview = endpoint(status, sources.at, before);
            overview.requests_per_s = rates.map(|(requests, _)| requests);
            overview.failures_per_s = rates.map(|(_, failures)| failures).filter(|failures| *failures > 0.0);
            let address = status.resolved.map_or_else(|| status.address.clone(), |address| address.to_string());
            overview.machine = machine_of.get(&address).cloned();
            (status.address.clone(), overview)
        };
        let overview = PoolOverview {
            balance: pool.balance.to_owned(),
            state: pool_state(pool).into(),
            healthy: pool.healthy,
            min_healthy: pool.min_healthy,
            available: pool.available,
            waiting: pool.waiting,
            in_flight: pool.endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum(),
            rates: rates.and_then(|window| window.pool(&pool.name)),
            endpoints: pool.endpoints.iter().map(endpoint).collect(),
            scaling: scaling.get(pool.name.as_str()).map(|item| scaling_of(item)),
        };
        (pool.name.clone(), overview)
    };
    sources.status.pools.iter().map(overview).collect()
}

fn pool_state(pool: &PoolStatus) -> &'static str {
    if pool.endpoints.is_empty() {
        "empty"
    } else if pool.available == 0 {
        "down"
    } else if pool.below_floor {
        "below-floor"
    } else if pool.endpoints.iter().any(|endpoint| is_down(endpoint.state == "ready", endpoint.health, endpoint.ejected_s.is_some())) {
        "degraded"
    } else {
        "ok"
    }
}

/// It should serve and cannot.
fn is_down(ready: bool, health: &str, ejected: bool) -> bool {
    ready && (health == "unhealthy" || ejected)
}

fn endpoint(status: &EndpointStatus, at: f64, before: Option<f64>) -> EndpointOverview {
    let known = view::endpoint(status);
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    EndpointOverview {
        state: known.state,
        health: known.health,
        available: known.available,
        why: said(known.why),
        evidence: said(known.evidence),
        since: steady(before, at - known.health_age_s as f64),
        weight: known.weight,
        ramp_percent: Some(known.ramp_percent).filter(|percent| *percent < 100),
        tier: Some(known.tier).filter(|tier| *tier > 0),
        in_flight: status.in_flight,
        requests_per_s: None,
        failures_per_s: None,
        machine: None,
    }
}

/// UUIDs of machines by where their services listen.
fn machines_by_address(sources: &Sources) -> HashMap<String, String> {
    let by_name: HashMap<(&str, &str), &str> =
        sources.machines.iter().map(|machine| ((machine.host.as_str(), machine.name.as_str()), &*machine.id.0)).collect();
    let members = sources.scaling.iter().flat_map(|item| &item.members).filter_map(|member| {
        let id = by_name.get(&(member.host.as_str(), member.machine.as_str()))?;
        Some((member.endpoint.clone()?, (*id).to_owned()))
    });
    let others = sources.machines.iter().filter_map(|machine| {
        let address = std::net::SocketAddr::new(machine.address?, machine.port?);
        Some((address.to_string(), machine.id.0.to_string()))
    });
    others.chain(members).collect()
}

fn scaling_of(item: &ScalingItem) -> ScalingOverview {
    ScalingOverview {
        template: item.template.clone(),
        mode: item.mode.clone(),
        paused: item.paused,
        desired: item.desired,
        min: item.min,
        max: item.max,
        serving: item.serving,
        coming: item.coming,
        going: item.going,
        unhealthy: item.unhealthy,
        warm: item.room.iter().map(|room| room.warm).sum(),
        why: item.why.clone(),
        refusals: item.refusals.clone(),
        under_way: item.under_way.clone(),
        launch_failures: item.launch_failures,
        refreshing_to: item.refresh.as_ref().filter(|refresh| refresh.ended.is_none()).map(|refresh| refresh.to.clone()),
    }
}

fn host(known: &HostView) -> HostOverview {
    let (state, why) = match &known.state {
        HostState::Up => ("up", None),
        HostState::Connecting { why } => ("connecting", Some(why.clone())),
        HostState::Unknown { why, .. } => ("unknown", Some(why.clone())),
    };
    HostOverview {
        state: state.into(),
        why,
        labels: known.labels.clone(),
        cpus: known.cpus,
        cpu_share: known.cpu_share.map(rounded),
        memory_bytes: known.memory_bytes,
        memory_free_bytes: known.memory_free_bytes,
        memory_promised_bytes: known.memory_promised_bytes,
        storage_bytes: known.storage.as_ref().map(|storage| storage.capacity),
        storage_free_bytes: known.storage.as_ref().map(|storage| storage.available),
        machines: u32::try_from(known.machines).unwrap_or(u32::MAX),
    }
}

fn machines(sources: &Sources) -> BTreeMap<String, MachineOverview> {
    let members: HashMap<(&str, &str), &MemberItem> = sources
        .scaling
        .iter()
        .flat_map(|item| &item.members)
        .map(|member| ((member.host.as_str(), member.machine.as_str()), member))
        .collect();
    let overview = |machine: &MachineView| {
        let member = members.get(&(machine.host.as_str(), machine.name.as_str()));
        let metadata = machine.metadata.as_deref();
        let overview = MachineOverview {
            name: machine.name.clone(),
            host: machine.host.clone(),
            state: machine.state.word().into(),
            ours: metadata.is_some(),
            pool: metadata.and_then(|known| known.pool.clone()),
            template: metadata.map(|known| known.template.clone()),
            role: metadata.map(|known| known.role.word().into()),
            phase: metadata.map(|known| known.phase.word().into()),
            member: member.map(|member| member.state.clone()),
            protected: member.is_some_and(|member| member.protected),
            since: machine.since.map(|since| since as f64),
            base_generation: machine.base_generation,
            address: machine.address.map(|address| address.to_string()),
            labels: metadata.map(|known| known.labels.clone()).unwrap_or_default(),
            vcpus: machine.vcpus,
            memory_bytes: machine.memory_bytes,
            cpu_share: machine.load.map(|load| rounded(load.cpu_share)),
            memory_used_bytes: machine.load.and_then(|load| load.memory_used_bytes),
        };
        (machine.id.0.to_string(), overview)
    };
    sources.machines.iter().map(overview).collect()
}

fn vip(known: &VipView, before: Option<&OverviewView>) -> VipOverview {
    let before = before.and_then(|before| before.vips.get(&known.name));
    let router = |router: &VirtualRouterView| {
        let since = before.and_then(|vip| vip.routers.get(&router.family)).map(|router| router.since);
        let overview = RouterOverview {
            state: router.state.clone(),
            since: steady(since, router.since),
            why: router.why.clone(),
            ineligible_because: Some(router.ineligible_because.clone()).filter(|_| !router.eligible),
            priority: router.priority,
            heard_master: router.heard_master.as_ref().map(|master| master.address.clone()),
            peers: router.peers.iter().map(|peer| (peer.address.clone(), peer.eligible)).collect(),
        };
        (router.family.clone(), overview)
    };
    VipOverview {
        interface: known.interface.clone(),
        router_id: known.router_id,
        addresses: known.addresses.clone(),
        master: known.master,
        leader: known.leader,
        routers: known.routers.iter().map(router).collect(),
    }
}

fn alarm(item: &AlarmItem, config: &Config) -> AlarmOverview {
    let configured = config.alarms.get(&item.name.as_str().into());
    let watched = configured.and_then(|alarm| match &alarm.condition {
        Condition::Threshold(threshold) => match &threshold.scope {
            AlarmScope::Pool(pool) => Some(pool.to_string()),
            AlarmScope::Host(_) | AlarmScope::Machine(_) => None,
        },
        Condition::Composite(_) => None,
    });
    let scaled = configured.and_then(|alarm| alarm.scale.as_ref()).map(|(pool, _)| pool.to_string());
    AlarmOverview {
        severity: item.severity.clone(),
        state: item.state.clone(),
        since: item.since,
        value: item.value.map(rounded),
        watches: item.watches.clone(),
        condition: item.condition.clone(),
        pool: watched.or(scaled),
        engaged: item.engaged,
        quiet_because: item.quiet_because.clone(),
        acknowledged_by: item.acknowledged.as_ref().map(|seen| seen.by.clone()),
    }
}

fn incidents(known: &[Incident]) -> BTreeMap<String, IncidentOverview> {
    let (open, over): (Vec<&Incident>, Vec<&Incident>) = known.iter().partition(|incident| incident.resolved_at.is_none());
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let overview = |incident: &Incident| IncidentOverview {
        state: incident.state.word().into(),
        severity: incident.severity.word().into(),
        summary: incident.alarms.values().next().map(weir_notify::text::summary_in_english).unwrap_or_default(),
        started_at: seconds(incident.started_at),
        resolved_at: incident.resolved_at.map(seconds),
        acknowledged_by: incident.acknowledged.as_ref().map(|(by, _)| by.clone()),
    };
    open.into_iter().chain(over.into_iter().take(OVER_MAX)).map(|incident| (incident.id.to_string(), overview(incident))).collect()
}

fn channels(sources: &Sources) -> BTreeMap<String, ChannelOverview> {
    let overview = |channel: &weir_config::NotifyChannel| {
        let known = sources.notify.channels.get(&*channel.name.0).cloned().unwrap_or_default();
        let overview =
            ChannelOverview { kind: channel.kind.word().into(), failing: known.failing, waiting: known.waiting, dead: known.dead };
        (channel.name.to_string(), overview)
    };
    sources.config.notification.channels.values().map(|channel| overview(channel)).collect()
}
