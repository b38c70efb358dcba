//! Everything that one page or one screen shows, in one document.
//!
//! What has a name is in a map under its name, not in a list: the difference of two documents is then a merge patch (RFC 7396), which is what
//! `/v1/overview/stream` sends. In a patch `null` stands for what is not there any more, which for every field is the same as having no value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AdminStateView, NodeView};

/// A node and everything around it, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OverviewView {
    /// When it was looked at.
    pub at: f64,
    /// The process.
    pub node: NodeView,
    /// This node acts on machines.
    pub leads: bool,
    /// The address of another node that acts on machines, as far as this one heard of it.
    pub leader: Option<String>,
    /// The number of the last event.
    pub last_event: u64,
    /// What is wrong now, the worst first, at most 200.
    pub problems: Vec<ProblemItem>,
    /// What comes in over all listeners; `null` until it was looked at twice.
    pub traffic: Option<TrafficRates>,
    /// By name.
    pub listeners: BTreeMap<String, ListenerOverview>,
    /// By name.
    pub pools: BTreeMap<String, PoolOverview>,
    /// By name.
    pub hosts: BTreeMap<String, HostOverview>,
    /// Machines on all hosts, those that are not ours too, by their UUID.
    pub machines: BTreeMap<String, MachineOverview>,
    /// By name.
    pub vips: BTreeMap<String, VipOverview>,
    /// By name.
    pub alarms: BTreeMap<String, AlarmOverview>,
    /// Incidents that are not over and the last ones that are, by their number.
    pub incidents: BTreeMap<String, IncidentOverview>,
    /// Ways to tell people, by name.
    pub channels: BTreeMap<String, ChannelOverview>,
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProblemItem {
    /// Which kind of thing, a word: `pool-below-floor`, `endpoints-down`, `host-lost`, ...
    pub kind: String,
    /// `critical`, `warning` or `info`
    pub severity: String,
    /// What it is about: `node`, `listener`, `pool`, `host`, `machine`, `vip`, `alarm` or `channel`.
    pub about: String,
    /// The name of what it is about.
    pub name: String,
    /// What is wrong, in words.
    pub text: String,
    /// What to do next, in words.
    pub next: String,
    /// What the words are made of, for those who say it in another language.
    pub values: BTreeMap<String, String>,
}

/// What comes in, over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrafficRates {
    /// Connections accepted a second.
    pub connections_per_s: f64,
    /// Requests and sessions that ended, a second.
    pub requests_per_s: f64,
    /// Responses of class 5xx a second.
    pub errors_per_s: f64,
    /// Bytes read from clients a second.
    pub received_bytes_per_s: f64,
    /// Bytes written to clients a second.
    pub sent_bytes_per_s: f64,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ListenerOverview {
    /// `http`, `tcp` or `udp`
    pub protocol: String,
    /// It speaks TLS.
    pub tls: bool,
    /// Bound addresses.
    pub binds: Vec<String>,
    /// The virtual IPs among them.
    pub vips: Vec<String>,
    /// Pools that it may send to, by its routes or without one.
    pub pools: Vec<String>,
    /// Client connections open now.
    pub connections_open: u64,
    /// What comes in; `null` until it was looked at twice.
    pub rates: Option<TrafficRates>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolOverview {
    /// How it balances.
    pub balance: String,
    /// `ok`, `degraded` (some endpoint is down), `below-floor`, `down` (no endpoint may be picked) or `empty`.
    pub state: String,
    /// Healthy endpoints.
    pub healthy: u32,
    /// The floor.
    pub min_healthy: u32,
    /// Endpoints that may be picked now.
    pub available: u32,
    /// Requests that wait for an endpoint now.
    pub waiting: u32,
    /// Requests and sessions under way on its endpoints.
    pub in_flight: u64,
    /// What it does; `null` until it was looked at twice.
    pub rates: Option<PoolRates>,
    /// By address as written.
    pub endpoints: BTreeMap<String, EndpointOverview>,
    /// How it is scaled; `null`: it is not.
    pub scaling: Option<ScalingOverview>,
}

/// What a pool does, over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolRates {
    /// Requests and sessions a second.
    pub requests_per_s: f64,
    /// Of these, ended for the fault of an endpoint.
    pub failures_per_s: f64,
    /// Further attempts a second.
    pub retries_per_s: f64,
    /// Requests that had to wait for an endpoint, a second.
    pub queued_per_s: f64,
    /// Half of the responses came faster; `null`: there were none.
    pub p50_ms: Option<f64>,
    /// 99 % came faster.
    pub p99_ms: Option<f64>,
}

/// An endpoint of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointOverview {
    /// What the operator wishes.
    pub state: AdminStateView,
    /// `healthy`, `unhealthy`, `unknown` or `unchecked`
    pub health: String,
    /// Whether it may be picked now.
    pub available: bool,
    /// Why it may or may not be picked; `null` when there is nothing to explain.
    pub why: Option<String>,
    /// What the last probes said; `null` when there is nothing to say.
    pub evidence: Option<String>,
    /// Since when its health is what it is.
    pub since: f64,
    /// Share relative to the others.
    pub weight: u16,
    /// Share of its weight that it has now, in percent; `null`: all of it.
    pub ramp_percent: Option<u8>,
    /// Tier; `null`: 0.
    pub tier: Option<u8>,
    /// Requests and sessions under way.
    pub in_flight: u32,
    /// Requests and sessions a second; `null` until it was looked at twice.
    pub requests_per_s: Option<f64>,
    /// Of these, failed for its fault; `null`: none.
    pub failures_per_s: Option<f64>,
    /// The UUID of the machine that it is.
    pub machine: Option<String>,
}

/// How a pool is scaled. `/v1/scaling/{pool}` says more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ScalingOverview {
    /// `[template.NAME]`
    pub template: String,
    /// `auto` or `recommend`
    pub mode: String,
    /// An operator has stopped it.
    pub paused: bool,
    /// Machines that are wanted.
    pub desired: u32,
    /// Never fewer, now.
    pub min: u32,
    /// Never more, now.
    pub max: u32,
    /// Machines that serve.
    pub serving: u32,
    /// Machines on their way.
    pub coming: u32,
    /// Machines on their way out.
    pub going: u32,
    /// Machines that are ill or not seen.
    pub unhealthy: u32,
    /// Warm clones that wait.
    pub warm: u32,
    /// What was decided or is waited for, in words.
    pub why: String,
    /// What is wanted and cannot be, and why.
    pub refusals: Vec<String>,
    /// Machines and slots that are worked on.
    pub under_way: Vec<String>,
    /// Launches that failed in a row.
    pub launch_failures: u32,
    /// The base that a refresh under way brings to everything.
    pub refreshing_to: Option<String>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct HostOverview {
    /// `up`, `connecting` (it has not answered yet) or `unknown` (it does not answer any more)
    pub state: String,
    /// Why it does not answer.
    pub why: Option<String>,
    /// Labels of the file.
    pub labels: BTreeMap<String, String>,
    /// Processors.
    pub cpus: u32,
    /// Share of its processors in use, 0 to 1.
    pub cpu_share: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory that are free.
    pub memory_free_bytes: Option<u64>,
    /// Bytes that its running and paused machines may use at most.
    pub memory_promised_bytes: u64,
    /// Bytes of its storage pool.
    pub storage_bytes: Option<u64>,
    /// Bytes of its storage pool that are free.
    pub storage_free_bytes: Option<u64>,
    /// Domains of any kind.
    pub machines: u32,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MachineOverview {
    /// Name of the domain.
    pub name: String,
    /// Its host.
    pub host: String,
    /// `running`, `paused`, `shutting_down`, `off`, `crashed` or `other`
    pub state: String,
    /// Made by us; all others are left alone.
    pub ours: bool,
    /// The pool it serves.
    pub pool: Option<String>,
    /// Its template.
    pub template: Option<String>,
    /// `member` or `warm`
    pub role: Option<String>,
    /// `creating`, `ready` or `deleting`
    pub phase: Option<String>,
    /// What it is to its pool: `launching`, `serving`, `leaving`, ...
    pub member: Option<String>,
    /// Nobody takes it out to make the pool smaller.
    pub protected: bool,
    /// Since when it is in its phase.
    pub since: Option<f64>,
    /// Number of the base its content came from.
    pub base_generation: Option<u32>,
    /// Its address.
    pub address: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Bytes of memory it may have at most.
    pub memory_bytes: u64,
    /// Share of its virtual processors in use, 0 to 1.
    pub cpu_share: Option<f64>,
    /// Bytes of memory that its guest uses.
    pub memory_used_bytes: Option<u64>,
}

/// A virtual IP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VipOverview {
    /// The interface.
    pub interface: String,
    /// The VRID.
    pub router_id: u8,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// This node is master of all of it.
    pub master: bool,
    /// The node that is master of it acts for all.
    pub leader: bool,
    /// Its virtual routers, by family: `ipv4` or `ipv6`.
    pub routers: BTreeMap<String, RouterOverview>,
}

/// A virtual router: a VIP's addresses of one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RouterOverview {
    /// `initialize`, `backup` or `master`
    pub state: String,
    /// Since when.
    pub since: f64,
    /// Why, in words.
    pub why: String,
    /// Why this node may not be master; `null`: it may.
    pub ineligible_because: Option<String>,
    /// The priority with what tracking changed.
    pub priority: u8,
    /// The address of the master that is heard; `null`: this node, or none.
    pub heard_master: Option<String>,
    /// Other nodes of ours: by address, whether each could be master.
    pub peers: BTreeMap<String, bool>,
}

/// An alarm of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmOverview {
    /// `info`, `warning` or `critical`
    pub severity: String,
    /// `ok`, `alarm` or `insufficient-data`
    pub state: String,
    /// Since when.
    pub since: f64,
    /// The newest value.
    pub value: Option<f64>,
    /// What is watched, in words.
    pub watches: String,
    /// When it goes off, in words.
    pub condition: String,
    /// The pool that it watches or scales.
    pub pool: Option<String>,
    /// Whether something is done about it.
    pub engaged: bool,
    /// Why nothing is done about it though it is in alarm.
    pub quiet_because: Option<String>,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
}

/// An incident: alarms that belong together, and who is told of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct IncidentOverview {
    /// `open`, `acknowledged` or `resolved`
    pub state: String,
    /// `info`, `warning` or `critical`
    pub severity: String,
    /// What is wrong, in words.
    pub summary: String,
    /// When it began.
    pub started_at: f64,
    /// When it ended.
    pub resolved_at: Option<f64>,
    /// Who takes care.
    pub acknowledged_by: Option<String>,
}

/// A way to tell people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChannelOverview {
    /// Its kind.
    pub kind: String,
    /// It fails now.
    pub failing: bool,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that were given up.
    pub dead: u64,
}
