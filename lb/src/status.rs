//! The data plane's state as a value, for the API and the metrics.

use std::sync::Arc;

use serde::Serialize;

use crate::route::RouteStats;
use crate::stats::{ListenerStats, PoolStats};

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The snapshot's generation.
    pub generation: u64,
    /// In the order of their names.
    pub listeners: Vec<ListenerStatus>,
    /// In the order of their names.
    pub pools: Vec<PoolStatus>,
}

/// A listener at one moment.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Name.
    pub name: String,
    /// `http`, `tcp` or `udp`.
    pub protocol: &'static str,
    /// Bound addresses.
    pub binds: Vec<std::net::SocketAddr>,
    /// Live counters.
    pub stats: Arc<ListenerStats>,
    /// Those of its routes, in their order.
    pub routes: Vec<Arc<RouteStats>>,
}

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Name.
    pub name: String,
    /// How it balances, as written in the file.
    pub balance: &'static str,
    /// Healthy endpoints.
    pub healthy: u32,
    /// The floor.
    pub min_healthy: u32,
    /// Whether `healthy` is below it.
    pub below_floor: bool,
    /// Endpoints that may be picked now.
    pub available: u32,
    /// Requests that wait for an endpoint.
    pub waiting: u32,
    /// Requests that it takes at once now, where that follows its latency.
    pub adaptive_limit: Option<u32>,
    /// Live counters.
    pub stats: Arc<PoolStats>,
    /// Its endpoints are spoken to under TLS.
    pub tls: bool,
    /// In the order of the file.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Host and port as written.
    pub address: String,
    /// Where it resolves to; `None` while it does not.
    pub resolved: Option<std::net::SocketAddr>,
    /// `ready`, `draining` or `maintenance`.
    pub state: &'static str,
    /// `healthy`, `unhealthy`, `unknown` (not probed yet) or `unchecked` (no health check).
    pub health: &'static str,
    /// What the last probes said: `"2 of 3: connect refused"`.
    pub evidence: String,
    /// Seconds since the verdict last changed.
    pub health_age_s: u64,
    /// Milliseconds since a probe last agreed with the verdict; `None`: none has yet.
    pub confirmed_ms: Option<u64>,
    /// Seconds for which it is still ejected.
    pub ejected_s: Option<u64>,
    /// Whether it may be picked now.
    pub available: bool,
    /// Configured weight.
    pub weight: u16,
    /// Share of its weight it has now through slow start, 1 to 100 percent.
    pub ramp_percent: u8,
    /// Tier.
    pub tier: u8,
    /// Requests and sessions under way.
    pub in_flight: u32,
    /// Of these, upgraded connections.
    pub tunnels: u32,
    /// Of these, TCP sessions and UDP flows.
    pub sessions: u32,
    /// Idle pooled connections.
    pub idle: u32,
    /// Requests and sessions so far.
    pub requests_total: u64,
    /// Failures so far.
    pub failures_total: u64,
    /// Connections opened so far.
    pub connects_total: u64,
}
