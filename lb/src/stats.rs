//! Counting on the request path: one shard per worker, written by it alone, added up by whoever asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cause::Cause;
use crate::h2::flood::Flood;
use crate::histogram::{Distribution, Histogram};
use crate::udp::UdpShard;

/// Adds without a locked instruction; only for counters that one thread writes.
#[inline]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Subtracts; only for counters that one thread writes.
#[inline]
pub fn sub(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
}

/// A listener's counters.
#[derive(Debug)]
pub struct ListenerStats {
    shards: Box<[ListenerShard]>,
}

/// One worker's share of a [`ListenerStats`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerShard {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Requests or sessions ended, by [`Cause`].
    pub ended: [AtomicU64; Cause::COUNT],
    /// Responses by class: 1xx (101 only) to 5xx.
    pub responses: [AtomicU64; 5],
    /// TLS handshakes ended, by [`Handshake`].
    pub handshakes: [AtomicU64; Handshake::ALL.len()],
    /// Connections over HTTP/2 that were given up, by [`Flood`].
    pub http2_given_up: [AtomicU64; Flood::ALL.len()],
    /// Bytes read from clients.
    pub received_bytes: AtomicU64,
    /// Bytes written to clients.
    pub sent_bytes: AtomicU64,
    /// What only a UDP listener counts.
    pub udp: UdpShard,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// With a certificate.
    Full,
    /// With a ticket of an earlier session.
    Resumed,
    /// The two sides found no way, or the client went.
    Failed,
    /// It took longer than the listener's `timeouts.head`, or the pool's `timeouts.connect`.
    TimedOut,
    /// Too many were under way.
    Refused,
}

impl Handshake {
    /// All of them, in the order of their numbers.
    pub const ALL: [Handshake; 5] = [Handshake::Full, Handshake::Resumed, Handshake::Failed, Handshake::TimedOut, Handshake::Refused];

    /// As metrics say it.
    pub fn word(self) -> &'static str {
        match self {
            Handshake::Full => "full",
            Handshake::Resumed => "resumed",
            Handshake::Failed => "failed",
            Handshake::TimedOut => "timed-out",
            Handshake::Refused => "refused",
        }
    }
}

/// A pool's counters.
#[derive(Debug)]
pub struct PoolStats {
    shards: Box<[PoolShard]>,
}

/// One worker's share of a [`PoolStats`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolShard {
    /// Requests and sessions that were given to this pool.
    pub requests: AtomicU64,
    /// Of these, ended for the fault of an endpoint.
    pub failures: AtomicU64,
    /// Further attempts.
    pub retries: AtomicU64,
    /// Further attempts that were not made, as the budget or the breaker did not allow them.
    pub retries_refused: AtomicU64,
    /// Requests of other pools that this one got too.
    pub mirrored: AtomicU64,
    /// Those that it should have got, and did not, as it did not keep up or did not answer.
    pub mirrors_lost: AtomicU64,
    /// Requests that had to wait for an endpoint.
    pub queued: AtomicU64,
    /// Pooled connections used again.
    pub reused: AtomicU64,
    /// TLS handshakes with endpoints ended, by [`Handshake`].
    pub tls_handshakes: [AtomicU64; Handshake::ALL.len()],
    latency: OnceLock<Box<Histogram>>,
    queue_wait: OnceLock<Box<Histogram>>,
}

impl PoolShard {
    /// From the request's head to the end of the response head, in microseconds. The histogram is made at the first request.
    pub fn latency(&self) -> &Histogram {
        self.latency.get_or_init(Box::default)
    }

    /// How long requests waited for an endpoint, also those that got none, in microseconds. The histogram is made at the first wait.
    pub fn queue_wait(&self) -> &Histogram {
        self.queue_wait.get_or_init(Box::default)
    }
}

impl ListenerStats {
    /// One shard per worker.
    pub fn new(workers: usize) -> ListenerStats {
        ListenerStats { shards: (0..workers).map(|_| ListenerShard::default()).collect() }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a worker.
    #[inline]
    pub fn shard(&self, worker: usize) -> &ListenerShard {
        &self.shards[worker]
    }

    /// The sum of a counter over the workers.
    pub fn sum(&self, counter: impl Fn(&ListenerShard) -> &AtomicU64) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(counter(shard).load(Ordering::Relaxed)))
    }
}

impl PoolStats {
    /// One shard per worker.
    pub fn new(workers: usize) -> PoolStats {
        PoolStats { shards: (0..workers).map(|_| PoolShard::default()).collect() }
    }

    /// The shard of a worker.
    #[inline]
    pub fn shard(&self, worker: usize) -> &PoolShard {
        &self.shards[worker]
    }

    /// The sum of a counter over the workers.
    pub fn sum(&self, counter: impl Fn(&PoolShard) -> &AtomicU64) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(counter(shard).load(Ordering::Relaxed)))
    }

    /// The latencies of all workers.
    pub fn latency(&self) -> Distribution {
        self.merged(|shard| &shard.latency)
    }

    /// The waits for an endpoint of all workers.
    pub fn queue_wait(&self) -> Distribution {
        self.merged(|shard| &shard.queue_wait)
    }

    fn merged(&self, of: impl Fn(&PoolShard) -> &OnceLock<Box<Histogram>>) -> Distribution {
        let mut total = Distribution::default();
        for histogram in self.shards.iter().filter_map(|shard| of(shard).get()) {
            histogram.add_to(&mut total);
        }
        total
    }
}
