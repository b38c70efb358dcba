//! What the API says, as values: written by the server, read by the client, described in the OpenAPI document.
//!
//! Times are Unix seconds, sizes bytes, latencies milliseconds. A field that does not apply is `null`, never absent.

mod history;
mod overview;
mod scaling;
mod vip;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use history::*;
pub(crate) use overview::*;
pub(crate) use scaling::*;
pub(crate) use vip::*;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct StatusView {
    /// The process.
    pub node: NodeView,
    /// In the order of their names.
    pub listeners: Vec<ListenerView>,
    /// In the order of their names.
    pub pools: Vec<PoolView>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NodeView {
    /// `[node] name`
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_at: f64,
    /// Grows with each change of the effective configuration.
    pub revision: u64,
    /// The file.
    pub config_path: String,
    /// SHA-256 of the file in effect, hexadecimal.
    pub config_sha256: String,
    /// Serving and not draining.
    pub ready: bool,
    /// A stop or an upgrade is under way.
    pub draining: bool,
    /// When the file last took effect, or was refused.
    pub last_reload: Option<LastReload>,
    /// Why what happens is kept in memory alone; `null`: it is written.
    #[serde(default)]
    pub history_fault: Option<String>,
    /// Client connections open, idle ones included.
    pub connections: u64,
    /// Requests and sessions under way.
    pub in_flight: u64,
}

/// The last attempt to make the file take effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LastReload {
    /// When.
    pub at: f64,
    /// Why it was refused; `null`: it took effect.
    pub error: Option<String>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ListenerView {
    /// Name.
    pub name: String,
    /// `http`, `tcp` or `udp`.
    pub protocol: String,
    /// Bound addresses.
    pub binds: Vec<String>,
    /// Client connections open now.
    pub connections_open: u64,
    /// Client connections accepted so far.
    pub connections_total: u64,
    /// Requests and sessions ended so far.
    pub requests_total: u64,
    /// The same by the cause of their end; causes that never happened are left out.
    pub causes: BTreeMap<String, u64>,
    /// Responses by class, `1xx` to `5xx`.
    pub responses: BTreeMap<String, u64>,
    /// Bytes read from clients.
    pub received_bytes: u64,
    /// Bytes written to clients.
    pub sent_bytes: u64,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolView {
    /// Name.
    pub name: String,
    /// How it balances.
    pub balance: String,
    /// Healthy endpoints.
    pub healthy: u32,
    /// The floor.
    pub min_healthy: u32,
    /// Whether `healthy` is below the floor.
    pub below_floor: bool,
    /// Endpoints that may be picked now.
    pub available: u32,
    /// Requests that wait for an endpoint now.
    pub waiting: u32,
    /// Requests and sessions so far.
    pub requests_total: u64,
    /// Of these, ended for the fault of an endpoint.
    pub failures_total: u64,
    /// Further attempts.
    pub retries_total: u64,
    /// Requests that had to wait for an endpoint.
    pub queued_total: u64,
    /// Pooled connections used again.
    pub reused_total: u64,
    /// From a request's head to the end of its response head, since the start.
    pub latency: LatencyView,
    /// In the order of the file.
    pub endpoints: Vec<EndpointView>,
}

/// Latencies of a pool; `null` while there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LatencyView {
    /// Number of responses measured.
    pub count: u64,
    /// Half of the responses came faster.
    pub p50_ms: Option<f64>,
    /// 90 % came faster.
    pub p90_ms: Option<f64>,
    /// 99 % came faster.
    pub p99_ms: Option<f64>,
    /// 99.9 % came faster.
    pub p999_ms: Option<f64>,
}

/// An endpoint of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointView {
    /// Host and port as written: its name within the pool.
    pub address: String,
    /// Where it resolves to.
    pub resolved: Option<String>,
    /// What the operator wishes.
    pub state: AdminStateView,
    /// What is observed: `healthy`, `unhealthy`, `unknown` (not probed yet) or `unchecked` (no health check).
    pub health: String,
    /// What the last probes said.
    pub evidence: String,
    /// Seconds since the verdict last changed.
    pub health_age_s: u64,
    /// Seconds for which it is still ejected.
    pub ejected_s: Option<u64>,
    /// Whether it may be picked now.
    pub available: bool,
    /// Why it may or may not be picked, in one sentence; empty when there is nothing to explain.
    pub why: String,
    /// Share relative to the others.
    pub weight: u16,
    /// Share of its weight it has now through slow start, in percent.
    pub ramp_percent: u8,
    /// Tier; a higher one serves only while no lower one can.
    pub tier: u8,
    /// What is still open.
    pub open: OpenView,
    /// Requests and sessions so far.
    pub requests_total: u64,
    /// Of these, failed for its fault.
    pub failures_total: u64,
    /// Connections opened so far.
    pub connects_total: u64,
}

/// What is open on an endpoint, by kind. The kinds do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OpenView {
    /// Requests under way.
    pub requests: u32,
    /// Upgraded connections.
    pub tunnels: u32,
    /// TCP sessions.
    pub sessions: u32,
    /// Idle pooled connections. They carry nothing, and a drain does not wait for them.
    pub idle: u32,
}

impl OpenView {
    /// Work that a drain waits for.
    pub(crate) fn busy(&self) -> u64 {
        u64::from(self.requests) + u64::from(self.tunnels) + u64::from(self.sessions)
    }
}

/// What an operator wishes for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AdminStateView {
    /// Takes new work.
    Ready,
    /// No new work, finishes the old; still probed.
    Draining,
    /// Out of service: no new work, not probed.
    Maintenance,
}

impl AdminStateView {
    /// The word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            AdminStateView::Ready => "ready",
            AdminStateView::Draining => "draining",
            AdminStateView::Maintenance => "maintenance",
        }
    }
}

/// A new endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEndpoint {
    /// `host:port`
    pub address: String,
    /// 1 to 1000. Default 1.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: Option<u32>,
    /// 0 to 15. Default 0.
    #[serde(default)]
    #[schema(maximum = 15)]
    pub tier: Option<u8>,
}

/// What to change of an endpoint; at least one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointPatch {
    /// Another wish.
    #[serde(default)]
    pub state: Option<AdminStateView>,
    /// Another weight, 1 to 1000.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: Option<u32>,
}

/// A change took effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Changed {
    /// The new revision.
    pub revision: u64,
}

/// The configuration in effect, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigView {
    /// The file.
    pub path: String,
    /// SHA-256 of the file in effect, hexadecimal.
    pub sha256: String,
    /// Grows with each change, of the file or at run time.
    pub revision: u64,
    /// `[node] drain_timeout` in seconds.
    pub drain_timeout_s: f64,
    /// Names of the listeners.
    pub listeners: Vec<String>,
    /// Number of endpoints by pool, run-time changes included.
    pub pools: BTreeMap<String, u64>,
}

/// The configuration file on the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigFileView {
    /// Where it is.
    pub path: String,
    /// What is in it; `null`: it cannot be read.
    pub text: Option<String>,
    /// Its SHA-256, hexadecimal.
    pub sha256: Option<String>,
    /// It is what is in effect.
    pub in_effect: bool,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// A text for the configuration file.
#[derive(Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConfigFile {
    /// The whole file.
    pub text: String,
    /// SHA-256 of the file on the disk that it is to replace; `null`: whatever is there.
    pub over: Option<String>,
}

/// A file that was in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigVersion {
    /// When it last began to be.
    pub at: f64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// It is in effect now.
    pub in_effect: bool,
}

/// The text of a file that was in effect.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigText {
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// The whole file.
    pub text: String,
}

/// Who asks, and what they may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SessionView {
    /// Whose token it is; `null`: the node asks for none, or its only one has no name.
    pub name: Option<String>,
    /// What they may.
    pub role: RoleView,
    /// There is a session that can be ended.
    pub session: bool,
}

/// A token that a session is to stand for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSession {
    /// The token.
    pub token: String,
}

/// What somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleView {
    /// Look.
    Read,
    /// Also drain, scale, acknowledge and work on machines.
    Operate,
    /// Everything.
    Admin,
}

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The revision in effect afterwards.
    pub revision: u64,
    /// Nothing was changed, only looked at.
    pub dry_run: bool,
    /// One line for each difference; empty: nothing changed.
    pub changes: Vec<String>,
}

/// Which program to start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upgrade {
    /// Absolute path. Default: the path the running program was started from. Only a program that nobody but root or the user of `weir`
    /// could have put there is started.
    #[serde(default)]
    pub binary: Option<String>,
}

/// The next process serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Upgraded {
    /// Its process id.
    pub pid: u32,
}

/// Events, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventsView {
    /// Process id of the node. Numbers begin again with another process.
    pub pid: u32,
    /// What to pass as `after` to get the following ones.
    pub next: u64,
    /// The events.
    pub events: Vec<EventView>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventView {
    /// Grows by one with each event of the process.
    pub number: u64,
    /// When.
    pub at: f64,
    /// Which kind: `health`, `ejected`, `readmitted`, `floor`, `resolved`, `applied`, ...
    pub event: String,
    /// What belongs to this kind.
    pub details: BTreeMap<String, serde_json::Value>,
}

/// The process is alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Alive {
    /// Always true.
    pub alive: bool,
}

/// Whether traffic should be sent here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Readiness {
    /// Yes or no.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
}

/// Why a request was refused (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProblemView {
    /// Always `about:blank`: `status` says which kind it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong and what to do; may have several lines.
    pub detail: String,
}

/// A machine that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMachine {
    /// `[template.NAME]`
    pub template: String,
    /// The pool it will serve.
    pub pool: Option<String>,
    /// Its name; `null`: one is made up. With a name the request can be repeated.
    pub name: Option<String>,
    /// The host; `null`: where there is room.
    pub host: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A warm clone may not be taken.
    #[serde(default)]
    pub cold: bool,
    /// Do not wait until it has booted.
    #[serde(default)]
    pub no_wait: bool,
    /// Only say where it would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Although this node does not lead.
    #[serde(default)]
    pub anyway: bool,
}

/// Where a machine would go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ClonePlan {
    /// The host.
    pub host: String,
}

/// Something to do to machines. They are those named, and those that have all of pool, host and label that are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineAct {
    /// `start`, `resume`, `suspend`, `shutdown`, `stop`, `reset`, `reboot`, `flatten`, `delete` or `migrate`.
    pub verb: String,
    /// Names or UUIDs.
    #[serde(default)]
    pub machines: Vec<String>,
    /// All of this pool.
    pub pool: Option<String>,
    /// All of this host.
    pub host: Option<String>,
    /// All with this label, `key=value`.
    pub label: Option<String>,
    /// `shutdown`: how long it may take, in milliseconds; `null`: 60,000.
    pub timeout_ms: Option<u64>,
    /// `shutdown`: pull the plug after that.
    #[serde(default)]
    pub force: bool,
    /// `migrate`: where to.
    pub to: Option<String>,
    /// How many at once, 1 to 64; `null`: 4.
    pub parallel: Option<u32>,
    /// Only say which machines it would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Although this node does not lead.
    #[serde(default)]
    pub anyway: bool,
}

/// Something that takes a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OperationView {
    /// Its number; 0: nothing was begun (a dry run).
    pub id: u64,
    /// What is done.
    pub what: String,
    /// All of it has ended.
    pub ended: bool,
    /// One for each machine.
    pub items: Vec<OperationItem>,
}

/// One machine of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OperationItem {
    /// Its name; empty while it has none.
    pub machine: String,
    /// Its host, as soon as it is known.
    pub host: Option<String>,
    /// What is being done.
    pub step: String,
    /// Bytes done, where they are counted.
    pub done_bytes: Option<u64>,
    /// Bytes in all.
    pub end_bytes: Option<u64>,
    /// It has ended.
    pub ended: bool,
    /// Why it failed; `null`: it did not.
    pub error: Option<String>,
}
