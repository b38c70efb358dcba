//! What the workers read: the whole truth at one moment, immutable, behind one pointer.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use weir_config::{Listener, ListenerName, Pool};

use crate::balance::Selector;
use crate::limit::{Crowd, Limiter};
use crate::resilience::budget::RetryBudget;
use crate::resilience::gate::Gate;
use crate::route::RouteTable;
use crate::session::Sessions;
use crate::stats::{ListenerStats, PoolStats};

/// Listeners, routes, pools, endpoints and selectors together. Built aside, swapped once, loaded once per request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every swap.
    pub generation: u64,
    /// Grows when an endpoint is found gone: somebody may wait for its answer.
    pub losses: u64,
    /// By listener slot; `None` where a listener was removed.
    pub listeners: Vec<Option<Arc<ListenerSnapshot>>>,
    /// By pool slot; `None` where a pool was removed.
    pub pools: Vec<Option<Arc<PoolSnapshot>>>,
}

/// A listener as the workers see it.
#[derive(Debug)]
pub struct ListenerSnapshot {
    /// Dense index, the same as long as the listener's name lives.
    pub slot: u32,
    /// The settings.
    pub config: Arc<Listener>,
    /// The routes, if there are any.
    pub routes: Option<RouteTable>,
    /// The rate limits, if there are any, in the order of the configuration.
    pub limiters: Option<Arc<[Limiter]>>,
    /// Connections by source, if they are bounded; kept over reloads.
    pub crowd: Option<Arc<Crowd>>,
    /// It answers what authorities ask before they issue certificates: HTTP without TLS, where such are ordered.
    pub answers_challenges: bool,
    /// Pool slot of the listener's own pool.
    pub pool: Option<u32>,
    /// Counters, kept over reloads.
    pub stats: Arc<ListenerStats>,
    /// Counters of the pools named above. Held so that their slots are not given to other pools while a connection still goes by this.
    pub pools_held: Vec<Arc<PoolStats>>,
}

impl ListenerSnapshot {
    /// The listener's name.
    pub fn name(&self) -> &ListenerName {
        &self.config.name
    }
}

/// A pool as the workers see it.
#[derive(Debug)]
pub struct PoolSnapshot {
    /// Dense index, the same as long as the pool's name lives.
    pub slot: u32,
    /// The settings, run-time changes included.
    pub config: Arc<Pool>,
    /// The endpoints that may be picked now: enabled, resolved, healthy, not ejected, of the lowest tier that has any; or, below
    /// `min_healthy` with fail-open, all enabled and resolved ones. If all healthy ones are ejected, they serve nevertheless.
    pub selector: Selector,
    /// Endpoints that are ready and healthy (or unchecked), ejected ones included: what is compared with `min_healthy`.
    pub healthy: u32,
    /// Counters and the queue's length, kept over reloads.
    pub stats: Arc<PoolStats>,
    /// Requests that wait for an endpoint of this pool now; kept over reloads.
    pub waiting: Arc<AtomicU32>,
    /// What it takes at once, if that is bounded.
    pub gate: Option<Arc<Gate>>,
    /// What may be sent again; kept over reloads.
    pub budget: Arc<RetryBudget>,
    /// Its sessions, if it has some.
    pub sessions: Option<Box<Sessions>>,
}
