//! Virtual IPs: shown and released.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use weir_config::Config;
use weir_vrrp::machine::{MasterSeen, Peer, StateKind, Status, Transition};
use weir_vrrp::shell::RouterStatus;

use super::Api;
use super::extract::Names;
use super::model::*;
use super::problem::Problem;
use super::view::unix_seconds;
use crate::node::Node;

/// A moment of the monotonic clock on the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
    wall: SystemTime,
}

impl Clock {
    fn read() -> Clock {
        Clock { now: Instant::now(), wall: SystemTime::now() }
    }

    fn unix(&self, at: Instant) -> f64 {
        unix_seconds(self.wall.checked_sub(self.now.saturating_duration_since(at)).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn ms_since(&self, at: Instant) -> f64 {
        ms(self.now.saturating_duration_since(at))
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// The virtual IPs.
#[utoipa::path(get, path = "/v1/vips", tag = "vips", responses((status = 200, body = [VipView])))]
pub(crate) async fn vips(State(api): State<Arc<Api>>) -> Json<Vec<VipView>> {
    Json(all(&api.node))
}

/// One virtual IP.
#[utoipa::path(
    get, path = "/v1/vips/{vip}", tag = "vips",
    params(("vip" = String, Path, description = "Name of the virtual IP")),
    responses((status = 200, body = VipView), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such virtual IP")),
)]
pub(crate) async fn vip(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<VipView>, Problem> {
    let config = api.node.config();
    let found = views(&config, &api.node.vips().status(), Clock::read()).into_iter().find(|vip| vip.name == name);
    found.map(Json).ok_or_else(|| no_vip(&config, &name))
}

/// Lets another node be master: a weir node takes over first, to any other it is said that this one leaves. Holds until another node was
/// master; this node is then a backup as before.
#[utoipa::path(
    post, path = "/v1/vips/{vip}/release", tag = "vips",
    params(("vip" = String, Path, description = "Name of the virtual IP")),
    responses(
        (status = 202, body = ReleasedView, description = "It is being released; look at the virtual IP for what became of it"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such virtual IP"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Virtual IPs do not work on this machine"),
    ),
)]
pub(crate) async fn release(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<(StatusCode, Json<ReleasedView>), Problem> {
    let config = api.node.config();
    if !config.vips.contains_key(&name.as_str().into()) {
        return Err(no_vip(&config, &name));
    }
    let vips = api.node.vips();
    let was_master = vips.status().iter().any(|router| *router.machine.config.name == *name && router.machine.state == StateKind::Master);
    vips.release(&name).map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    Ok((StatusCode::ACCEPTED, Json(ReleasedView { vip: name, was_master })))
}

/// The virtual IPs as they are now.
pub(super) fn all(node: &Node) -> Vec<VipView> {
    views(&node.config(), &node.vips().status(), Clock::read())
}

fn no_vip(config: &Config, name: &str) -> Problem {
    let names: Vec<&str> = config.vips.keys().map(|name| &*name.0).collect();
    let there_are = if names.is_empty() { "the file has no [vip.NAME]".into() } else { format!("there are: {}", names.join(", ")) };
    Problem::new(StatusCode::NOT_FOUND, format!("no virtual IP `{name}`; {there_are}"))
}

/// Everything that is configured, with what its virtual routers say; none, where virtual IPs do not work on this machine.
fn views(config: &Config, routers: &[RouterStatus], clock: Clock) -> Vec<VipView> {
    let view = |vip: &weir_config::Vip| {
        let routers: Vec<&RouterStatus> = routers.iter().filter(|router| *router.machine.config.name == *vip.name.0).collect();
        VipView {
            name: vip.name.to_string(),
            interface: vip.interface.clone(),
            router_id: vip.router_id.get(),
            master: !routers.is_empty() && routers.iter().all(|router| router.machine.state == StateKind::Master),
            leader: config.cluster.as_ref().is_some_and(|cluster| cluster.leader_vip == vip.name),
            addresses: vip.addresses.iter().map(ToString::to_string).collect(),
            routers: routers.into_iter().map(|known| router(known, clock)).collect(),
        }
    };
    config.vips.values().map(|vip| view(vip)).collect()
}

fn router(known: &RouterStatus, clock: Clock) -> VirtualRouterView {
    let status = &known.machine;
    VirtualRouterView {
        family: status.config.family.word().into(),
        state: status.state.word().into(),
        since: clock.unix(status.since),
        why: known.failed.clone().unwrap_or_else(|| status.explanation.clone()),
        eligible: status.eligible.is_ok(),
        ineligible_because: status.eligible.as_ref().err().cloned().unwrap_or_default(),
        priority: status.priority.0,
        priority_configured: status.config.priority.0,
        mode: known.mode.word().into(),
        mode_because: known.mode_reason.clone(),
        held: known.held.iter().map(ToString::to_string).collect(),
        primary_address: status.primary.map(|address| address.to_string()),
        advertisement_interval_ms: ms(status.config.interval.duration()),
        master_down_interval_ms: ms(status.master_down_interval),
        skew_time_ms: ms(status.skew_time),
        heard_master: status.master.as_ref().map(|seen| master(seen, clock)),
        shared_sum: status.config.shared.map(|sum| sum.to_string()),
        peers: status.peers.iter().map(|known| peer(known, clock)).collect(),
        transitions: status.history.iter().map(|change| transition(change, clock)).collect(),
        counters: counters(status).into_iter().map(|(name, count)| (name.into(), count)).collect(),
        discarded: status.counters.discarded.iter().map(|(reason, count)| ((*reason).into(), *count)).collect(),
    }
}

/// The counters by name.
pub(super) fn counters(status: &Status) -> [(&'static str, u64); 11] {
    let counters = &status.counters;
    [
        ("master-transitions", counters.master_transitions),
        ("advertisement-rcvd", counters.advertisement_rcvd),
        ("advertisement-sent", counters.advertisement_sent),
        ("interval-errors", counters.interval_errors),
        ("priority-zero-pkts-rcvd", counters.priority_zero_pkts_rcvd),
        ("priority-zero-pkts-sent", counters.priority_zero_pkts_sent),
        ("address-list-errors", counters.address_list_errors),
        ("conflicts-won", counters.conflicts_won),
        ("stalls", counters.stalls),
        ("late", counters.late),
        ("handovers", counters.handovers),
    ]
}

fn master(seen: &MasterSeen, clock: Clock) -> MasterView {
    MasterView {
        address: seen.address.to_string(),
        priority: seen.priority.0,
        advertisement_interval_ms: ms(seen.interval.duration()),
        heard_ms: clock.ms_since(seen.heard),
        since: clock.unix(seen.since),
        is_weir: seen.ours,
    }
}

fn peer(peer: &Peer, clock: Clock) -> VipPeerView {
    VipPeerView {
        address: peer.address.to_string(),
        priority: peer.priority.0,
        eligible: peer.eligible,
        healthy_endpoints: peer.healthy,
        heard_ms: clock.ms_since(peer.heard),
        shared_sum: peer.shared.map(|sum| sum.to_string()),
        differs_since: peer.differs_since.map(|since| clock.unix(since)),
    }
}

fn transition(change: &Transition, clock: Clock) -> TransitionView {
    TransitionView { at: clock.unix(change.at), from: change.from.word().into(), to: change.to.word().into(), why: change.why.clone() }
}
