//! A connection to an endpoint: one that was kept, or a new one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use weir_config::UpstreamProtocol;

use crate::cause::Cause;
use crate::http1::request::Method;
use crate::shell::endpoint::EndpointStream;
use crate::shell::pick::{self, Place};
use crate::shell::stream::Stream as _;
use crate::shell::upstream;
use crate::stats;

use super::{Exchange, Failure};

impl Exchange<'_> {
    /// A connection to the place's endpoint: a pooled one unless `fresh`, else a new one; over HTTP/2 a stream of one.
    pub(super) async fn connection(&self, place: &Place, fresh: bool, method: Method) -> Result<EndpointStream, Failure> {
        place.state().requests_total.fetch_add(1, Ordering::Relaxed);
        if place.pool().config.upstream_protocol == UpstreamProtocol::Http2 {
            let call = match self.worker.upstreams.links.take(place) {
                Some(call) => {
                    stats::add(&place.pool().stats.shard(self.worker.id).reused, 1);
                    self.trace.connected(true, &self.worker.timers);
                    call
                }
                None if self.worker.upstreams.links.needs_another(place) && is_full(place, 1) => return Err(full()),
                None => Box::pin(self.connected(place, self.worker.upstreams.links.open(self.worker, place))).await?,
            };
            return Ok(EndpointStream::Http2(Box::new(call)));
        }
        let announced = place.pool().config.proxy_protocol;
        if !fresh && announced.is_none() {
            while let Some(line) = self.worker.upstreams.take(place.state(), self.worker.timers.recent_ms()) {
                if method.is_idempotent() || line.is_open() {
                    stats::add(&place.pool().stats.shard(self.worker.id).reused, 1);
                    self.trace.connected(true, &self.worker.timers);
                    return Ok(EndpointStream::Line(line));
                }
            }
        }
        if is_full(place, 0) {
            return Err(full());
        }
        place.state().connects_total.fetch_add(1, Ordering::Relaxed);
        let preamble = announced.map(|version| self.peer.preamble(version, self.local.get()));
        let reached = upstream::reach(self.worker, place.destination(preamble.as_deref()));
        Box::pin(self.connected(place, reached)).await.map(EndpointStream::Line)
    }

    /// Waits for a connection that is being opened.
    async fn connected<T>(&self, place: &Place, reached: impl Future<Output = Result<T, Cause>>) -> Result<T, Failure> {
        self.trace.connecting(&self.worker.timers);
        self.arm(self.within_try(place.pool().config.timeouts.connect));
        let mut reached = pin!(reached);
        let connected = poll_fn(|cx| match reached.as_mut().poll(cx) {
            Poll::Ready(Ok(connection)) => Poll::Ready(Ok(connection)),
            Poll::Ready(Err(cause)) => Poll::Ready(Err(Failure { cause, unprocessed: true, granted: false })),
            Poll::Pending => self
                .timer
                .poll_expired(cx)
                .map(|()| Err(Failure { cause: self.or_total(Cause::ConnectTimeout), unprocessed: true, granted: false })),
        })
        .await;
        self.trace.connected(false, &self.worker.timers);
        connected
    }

    pub(super) fn keep(&self, place: &Place, endpoint: EndpointStream, keep_alive_s: Option<u32>) {
        let EndpointStream::Line(line) = endpoint else { return };
        let config = &place.pool().config;
        if config.proxy_protocol.is_some() {
            // It speaks for this client alone.
            return;
        }
        let mut keep = config.timeouts.keep_alive;
        if let Some(seconds) = keep_alive_s {
            // A second of margin: the endpoint counts from when it sent, and may close early.
            keep = keep.min(Duration::from_secs(u64::from(seconds)).saturating_sub(Duration::from_secs(1)));
        }
        let now_ms = self.worker.timers.recent_ms();
        self.worker.upstreams.put(place.state(), line, place.purge(), now_ms, keep, config.limits.idle_connections_max);
    }
}

/// Whether the pool has as many connections as it may have. `more`: so many are about to be opened that are not counted yet.
fn is_full(place: &Place, more: u64) -> bool {
    let most = place.pool().gate.as_ref().map(|gate| u64::from(gate.connections_max()));
    most.is_some_and(|most| pick::connections(place.pool()) + more > most)
}

fn full() -> Failure {
    Failure { cause: Cause::CircuitOpen, unprocessed: true, granted: false }
}

/// Out of descriptors or ports is our fault, not the endpoint's.
pub(in crate::shell) fn connect_cause(error: &std::io::Error) -> Cause {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => Cause::Overload,
        _ => Cause::ConnectFailed,
    }
}
