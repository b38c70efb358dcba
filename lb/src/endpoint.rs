//! What is known about an endpoint for longer than one snapshot lives.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use weir_config::{EndpointAddress, PoolName};

use crate::balance::PeakEwma;

/// The live state of one endpoint of one pool; kept over reloads as long as the pool names the address.
///
/// Everything the request path touches sits in the first cache line; all of it is relaxed.
#[derive(Debug)]
#[repr(align(128))]
pub struct EndpointState {
    /// Requests and sessions under way, over all workers.
    pub in_flight: AtomicU32,
    /// Failures of real traffic in a row, for ejection.
    pub failures_in_row: AtomicU32,
    /// Such failures, or answers of any 5xx, in a row.
    pub errors_in_row: AtomicU32,
    /// Peak-EWMA latency, maintained only for pools that balance by it.
    pub latency: PeakEwma,
    /// Requests and sessions that were sent here.
    pub requests_total: AtomicU64,
    /// Those that failed for the endpoint's fault.
    pub failures_total: AtomicU64,
    /// Those that failed so, or were answered by any 5xx.
    pub errors_total: AtomicU64,
    /// Connections opened.
    pub connects_total: AtomicU64,
    /// Upgraded connections under way (counted in `in_flight` too).
    pub tunnels: AtomicU32,
    /// TCP sessions and UDP flows under way (counted in `in_flight` too).
    pub sessions: AtomicU32,
    /// Idle pooled connections, over all workers.
    pub idle: AtomicU32,
    /// Connections over HTTP/2, open or being opened, over all workers.
    pub links: AtomicU32,
    /// Sum of idle and busy pooled connections closed because the endpoint leaves; workers compare it to drop their idle ones.
    pub purge: AtomicU32,
    /// The last verdict of its health check is bad: flows and sessions that can begin anew elsewhere do so.
    pub unhealthy: AtomicBool,
    /// Its verdict is bad because nobody is there: who waits for an answer waits in vain.
    pub gone: AtomicBool,
    /// Dense index into per-worker tables. Unique among living endpoints; used again after this state is dropped.
    pub slot: u32,
    /// The pool.
    pub pool: PoolName,
    /// The address, which with the pool is the identity.
    pub address: EndpointAddress,
}

impl EndpointState {
    /// A fresh endpoint.
    pub fn new(slot: u32, pool: PoolName, address: EndpointAddress) -> EndpointState {
        EndpointState {
            in_flight: AtomicU32::new(0),
            failures_in_row: AtomicU32::new(0),
            errors_in_row: AtomicU32::new(0),
            latency: PeakEwma::default(),
            requests_total: AtomicU64::new(0),
            failures_total: AtomicU64::new(0),
            errors_total: AtomicU64::new(0),
            connects_total: AtomicU64::new(0),
            tunnels: AtomicU32::new(0),
            sessions: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            links: AtomicU32::new(0),
            purge: AtomicU32::new(0),
            unhealthy: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            slot,
            pool,
            address,
        }
    }

    /// It gets a fresh chance: what was in a row before does not count any more.
    pub fn forgive(&self) {
        self.failures_in_row.store(0, Ordering::Relaxed);
        self.errors_in_row.store(0, Ordering::Relaxed);
    }

    /// Requests and sessions under way.
    pub fn load(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}
