//! Picking an endpoint: pure, lock-free, from a snapshot. STUB of the interface.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use weir_config::Balance;

use crate::endpoint::EndpointState;

/// STUB.
#[derive(Debug, Default)]
pub struct PeakEwma {}

impl PeakEwma {
    /// STUB: an exchange with the endpoint took `latency_ns`; `now_ns` is monotonic.
    pub fn observe(&self, _latency_ns: u64, _now_ns: u64) {}
}

/// An endpoint that may be picked.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Live counters.
    pub state: Arc<EndpointState>,
    /// Where to connect.
    pub address: SocketAddr,
    /// Effective weight: the configured weight times 100, times the slow-start share; never 0.
    pub weight: u32,
}

/// Candidates that were tried already for this request, by index.
pub type Tried<'a> = &'a [u32];

/// Picks an endpoint. Immutable; what moves is in the candidates' states and one relaxed counter.
#[derive(Debug, Default)]
pub struct Selector {
    candidates: Vec<Candidate>,
}

impl Selector {
    /// STUB. `limit`: requests at once per endpoint; endpoints at their limit are passed over.
    pub fn new(_balance: &Balance, candidates: Vec<Candidate>, _limit: Option<NonZeroU32>) -> Selector {
        Selector { candidates }
    }

    /// STUB. The index of the endpoint for the next request, never one of `tried`; `None` when all are tried or at their limit.
    /// `key` is the hash of the request's key for Maglev; without one the pick is random.
    pub fn pick(&self, _key: Option<u64>, _now_ns: u64, _random: &mut fastrand::Rng, _tried: Tried<'_>) -> Option<u32> {
        None
    }

    /// All candidates.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

/// STUB: the effective weight (the configured weight times 100, times the slow-start share, never 0) and that share in percent, 1 to 100.
pub fn ramp(weight: weir_config::Weight, healthy_for: std::time::Duration, slow_start: Option<std::time::Duration>) -> (u32, u8) {
    let percent = match slow_start {
        Some(whole) if healthy_for < whole => (healthy_for.as_nanos() * 100 / whole.as_nanos().max(1)).max(1) as u32,
        _ => 100,
    };
    (u32::from(weight.value()) * percent, percent as u8)
}
