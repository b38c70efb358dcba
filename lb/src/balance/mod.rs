//! Picking an endpoint: pure, lock-free, from a snapshot.
//!
//! A [`Selector`] is built aside from the endpoints that may be picked now, and asked once per attempt. A pick allocates nothing,
//! takes no lock, and reads a few relaxed atomics: the counts of the endpoints it compares.
//!
//! ```text
//!   candidates ─► Selector::new ─► table of the method      built once per snapshot
//!   key, now, tried ─► pick ─► index of an endpoint         once per attempt
//! ```
//!
//! - `least_request`: the better of two by requests in flight (default), and the comparison that keeps shares by weight.
//! - `ewma`: the same, with latency in the balance.
//! - `round_robin`, `alias` (random by weight), `maglev` (by key).
//!
//! What is deliberately not here: who may be picked (health, tiers, drain), queues, retries.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod alias;
mod ewma;
mod least_request;
mod maglev;
mod round_robin;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{Balance, Weight};

use self::alias::Alias;
pub use self::ewma::PeakEwma;
use self::maglev::Maglev;
pub use self::maglev::hash_key;
use self::round_robin::RoundRobin;
use crate::endpoint::EndpointState;

/// An endpoint that may be picked.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Live counters.
    pub state: Arc<EndpointState>,
    /// Where to connect.
    pub address: SocketAddr,
    /// Effective weight: the configured weight times 100, times the slow-start share (see [`ramp`]); 0 is taken for 1.
    pub weight: u32,
    /// `state.purge` when this was baked: connections opened by it are not kept once that has moved on.
    pub purge: u32,
}

/// Candidates that were tried already for this request, by index.
pub type Tried<'a> = &'a [u32];

/// Share of its weight that an endpoint starts with, in percent: enough to be warmed and to be seen failing, little enough to bear cold.
const RAMP_START_PERCENT: u128 = 10;

/// The effective weight of an endpoint that has been healthy for `healthy_for`, and its slow-start share in percent.
///
/// The share grows in a straight line from 10 % at the first healthy moment to 100 % after `slow_start`, in whole percents, so that a
/// selector has to be built again at most 90 times in a ramp. Without `slow_start` it is 100 % at once. The weight is never 0.
pub fn ramp(weight: Weight, healthy_for: Duration, slow_start: Option<Duration>) -> (u32, u8) {
    let percent = match slow_start {
        Some(whole) if healthy_for < whole => {
            RAMP_START_PERCENT + (100 - RAMP_START_PERCENT) * healthy_for.as_nanos() / whole.as_nanos().max(1)
        }
        _ => 100,
    };
    let percent = percent.min(100) as u8;
    (u32::from(weight.value()) * u32::from(percent), percent)
}

/// Picks an endpoint. Immutable; what moves is in the candidates' states and a few relaxed counters of the method.
#[derive(Debug)]
pub struct Selector {
    candidates: Vec<Candidate>,
    /// Requests at once per endpoint; `u32::MAX`: no limit.
    limit: u32,
    method: Method,
}

/// A [`Balance`] with its tables.
#[derive(Debug)]
enum Method {
    LeastRequest(Alias),
    RoundRobin(RoundRobin),
    Random(Alias),
    PeakEwma { alias: Alias, mean_weight: f64 },
    Maglev(Maglev),
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::new(&Balance::LeastRequest, Vec::new(), None)
    }
}

impl Selector {
    /// Builds the tables of `balance`. `limit`: requests at once per endpoint; endpoints at their limit are passed over.
    pub fn new(balance: &Balance, mut candidates: Vec<Candidate>, limit: Option<NonZeroU32>) -> Selector {
        for candidate in &mut candidates {
            candidate.weight = candidate.weight.max(1);
        }
        let weights = || candidates.iter().map(|candidate| candidate.weight);
        let method = match balance {
            Balance::LeastRequest => Method::LeastRequest(Alias::new(weights())),
            Balance::Random => Method::Random(Alias::new(weights())),
            Balance::PeakEwma => {
                let total: u64 = weights().map(u64::from).sum();
                Method::PeakEwma { alias: Alias::new(weights()), mean_weight: total as f64 / candidates.len().max(1) as f64 }
            }
            Balance::RoundRobin => {
                // A selector that is built again goes on about where the last one was: starting over would favour the first endpoint.
                let sent = candidates.iter().map(|c| c.state.requests_total.load(std::sync::atomic::Ordering::Relaxed));
                Method::RoundRobin(RoundRobin::new(weights(), sent.fold(0, u64::wrapping_add) as u32))
            }
            Balance::Maglev(policy) => Method::Maglev(Maglev::new(&candidates, policy.load_bound_percent)),
        };
        Selector { candidates, limit: limit.map_or(u32::MAX, NonZeroU32::get), method }
    }

    /// The index of the endpoint for the next request, never one of `tried`; `None` when all are tried or at their limit.
    /// `key` is the hash of the request's key for Maglev (see [`hash_key`]); without one the pick is random by weight.
    #[inline]
    pub fn pick(&self, key: Option<u64>, now_ns: u64, random: &mut fastrand::Rng, tried: Tried<'_>) -> Option<u32> {
        let field = Field { candidates: &self.candidates, limit: self.limit, tried };
        let picked = match (self.candidates.len(), &self.method) {
            (0, _) => None,
            (1, _) => field.is_open(0).then_some(0),
            (_, Method::LeastRequest(alias)) => {
                least_request::pick(&field, alias, random, |a, b| least_request::is_better(field.load(a), field.load(b)))
            }
            (_, Method::PeakEwma { alias, mean_weight }) => least_request::pick(&field, alias, random, |a, b| {
                ewma::is_better((field.load(a), field.latency(a, now_ns)), (field.load(b), field.latency(b, now_ns)), *mean_weight)
            }),
            (_, Method::Random(alias)) => field.draw(alias, random),
            (_, Method::RoundRobin(round_robin)) => round_robin.pick(&field),
            (_, Method::Maglev(maglev)) => maglev.pick(&field, key.unwrap_or_else(|| random.u64(..)), now_ns),
        };
        picked.map(|index| index as u32)
    }

    /// All candidates.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

/// Draws by chance that may hit a closed endpoint before the rest is scanned. As long as one draw hits, shares stay by weight.
const DRAWS_MAX: usize = 8;

/// The candidates as one attempt sees them.
struct Field<'a> {
    candidates: &'a [Candidate],
    limit: u32,
    tried: Tried<'a>,
}

/// What an endpoint carries, and its weight.
#[derive(Clone, Copy)]
struct Load {
    in_flight: u32,
    weight: u32,
}

impl Load {
    /// Whether this carries less for its weight.
    #[inline]
    fn is_below(self, other: Load) -> bool {
        u64::from(self.in_flight) * u64::from(other.weight) < u64::from(other.in_flight) * u64::from(self.weight)
    }
}

impl Field<'_> {
    fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether this attempt may go to the endpoint. The count is not read where there is no limit: it may be a cache miss.
    #[inline]
    fn is_open(&self, index: usize) -> bool {
        (self.limit == u32::MAX || self.candidates[index].state.load() < self.limit) && !self.tried.contains(&(index as u32))
    }

    #[inline]
    fn load(&self, index: usize) -> Load {
        let candidate = &self.candidates[index];
        Load { in_flight: candidate.state.load(), weight: candidate.weight }
    }

    #[inline]
    fn latency(&self, index: usize, now_ns: u64) -> Option<f64> {
        self.candidates[index].state.latency.latency_ns(now_ns)
    }

    /// An open endpoint, by weight; where the draws keep hitting closed ones, the next open one from a random start.
    #[inline]
    fn draw(&self, alias: &Alias, random: &mut fastrand::Rng) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let index = alias.draw(random);
            if self.is_open(index) {
                return Some(index);
            }
        }
        self.scan(random.usize(..self.len()))
    }

    /// The first open endpoint from `start` on, around the end.
    #[cold]
    fn scan(&self, start: usize) -> Option<usize> {
        (start..self.len()).chain(0..start).find(|&index| self.is_open(index))
    }
}
