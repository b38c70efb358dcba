//! Endpoint after endpoint, until one has answered or nothing is left to try.

use std::net::SocketAddr;
use std::time::Duration;

use weir_config::{Balance, HashKey, Pool, PoolName, RetryOn, UpstreamProtocol};

use crate::balance::hash_key;
use crate::cause::Cause;
use crate::http1::request::{self, Request};
use crate::resilience::gate::Shut;
use crate::route::parameters;
use crate::session::{Known, Sessions};
use crate::shell::buffer::Buf;
use crate::shell::h2::CallFault;
use crate::shell::pick::{self, Place, Tried, Wish};
use crate::shell::stream::Stream;
use crate::shell::worker;
use crate::snapshot::PoolSnapshot;
use crate::stats;

use super::{Done, Exchange, Failure, Responded, Sent, Upload};

impl Exchange<'_> {
    /// Tries endpoint after endpoint until one has answered or nothing is left to try.
    #[allow(clippy::too_many_arguments)] // One caller; each is a different part of the exchange.
    pub(super) async fn attempts<S: Stream>(
        &self,
        request: &Request,
        input: &Buf,
        sent: Sent,
        upload: &mut Upload,
        pool_slot: u32,
        from_client: &S,
        to_client: &S,
    ) -> Done {
        let head_bytes = &input.filled()[..request.head_len];
        let mut wish = Wish::default();
        let mut tried = Tried::default();
        let mut fresh = false;
        let mut pass = None;
        self.repeatable.set(request.method.is_idempotent());
        loop {
            let snapshot = self.worker.snapshot();
            if let Some(pool) = pick::pool(&snapshot, pool_slot)
                && self.trace.first_attempt()
            {
                stats::add(&pool.stats.shard(self.worker.id).requests, 1);
                wish.key = key_of(&pool.config, request, input.filled(), self.client.get());
                if let Some(sessions) = &pool.sessions {
                    wish.known = self.known(&pool.config.name, sessions, head_bytes);
                    self.known.set(wish.known);
                }
                if let Some(route) = self.route.get() {
                    wish.priority = route.priority;
                }
                if let Some(gate) = &pool.gate {
                    match gate.enter() {
                        Ok(entered) => pass = Some(entered),
                        Err(Shut::Breaker) => return Done::Failed(Cause::CircuitOpen),
                        Err(Shut::Adaptive) => return Done::Failed(Cause::Shed),
                    }
                }
                if pool.config.upstream_protocol == UpstreamProtocol::Http2 {
                    // Such an endpoint can say that it has not looked at a request: then any may be sent again.
                    upload.keep_max = self.http.limits.retry_bytes_max;
                }
                if pool.config.proxy_protocol.is_some() {
                    self.local.set(from_client.local());
                }
                if let Some(total) = pool.config.timeouts.total {
                    self.total_ms.set(self.worker.timers.recent_ms() + total.as_millis() as u64);
                }
            }
            let place = match pick::take(self.worker, self.timer, pool_slot, wish, &tried, self.total_ms.get()).await {
                Ok(place) => place,
                Err(Cause::NoEndpoint) => return Done::Failed(self.or_total(Cause::NoEndpoint)),
                Err(cause) => return Done::Failed(cause),
            };
            self.trace.place(&place, &self.worker.timers);
            if let Some(per_try) = place.pool().config.retry.per_try {
                self.try_ms.set(self.worker.timers.recent_ms() + per_try.as_millis() as u64);
            }
            let endpoint = match self.connection(&place, fresh, request.method).await {
                Ok(endpoint) => endpoint,
                Err(failure) => {
                    if self.blames_endpoint(failure.cause) {
                        place.failed();
                        stats::add(&place.pool().stats.shard(self.worker.id).failures, 1);
                    }
                    let wanted = matches!(failure.cause, Cause::ConnectFailed | Cause::ConnectTimeout | Cause::TlsFailed)
                        && place.pool().config.retry.on.contains(&RetryOn::ConnectFailed);
                    if !wanted || !self.may_retry(&place) {
                        return Done::Failed(failure.cause);
                    }
                    tried.push(place.generation(), place.index);
                    continue;
                }
            };
            let responded = self.exchange(&place, &endpoint, request, input, &sent, upload, from_client, to_client).await;
            let failure = match responded {
                Ok(Responded::Complete { reusable, keep_alive_s, close }) => {
                    if reusable && self.uploaded.get() {
                        self.keep(&place, endpoint, keep_alive_s);
                    }
                    if let Some(pass) = &pass {
                        pass.answered(self.trace.first_byte_us(), worker::uptime().as_micros() as u64);
                    }
                    return Done::Complete { close };
                }
                Ok(Responded::Switched(first)) => return Done::Switched(place, endpoint, first),
                Err(failure) => match endpoint.fault() {
                    None => failure,
                    Some(CallFault::Unprocessed) => Failure { unprocessed: true, ..failure },
                    Some(CallFault::Unspeakable) => Cause::BadRequest.into(),
                    Some(CallFault::Malformed) => Cause::BadResponse.into(),
                },
            };
            if failure.granted {
                tried.push(place.generation(), place.index);
                continue;
            }
            if self.blames_endpoint(failure.cause) {
                place.failed();
                stats::add(&place.pool().stats.shard(self.worker.id).failures, 1);
            }
            let on = |what: RetryOn| place.pool().config.retry.on.contains(&what);
            let wanted = match failure.cause {
                // A stale connection is no failure of the endpoint, which never saw the request.
                Cause::ReusedClosed => !fresh || on(RetryOn::Closed),
                Cause::EndpointClosed | Cause::EndpointGone => on(RetryOn::Closed),
                Cause::BadResponse => on(RetryOn::BadResponse),
                Cause::FirstByteTimeout => on(RetryOn::Timeout),
                _ => false,
            };
            let repeatable = wanted && (failure.unprocessed || request.method.is_idempotent());
            if self.begun.get() || !repeatable || !upload.replayable {
                return Done::Failed(failure.cause);
            }
            if failure.cause == Cause::ReusedClosed && !fresh {
                // Stale connections say nothing about the endpoint: one free attempt on a fresh one.
                fresh = true;
                continue;
            }
            if !self.may_retry(&place) {
                return Done::Failed(failure.cause);
            }
            tried.push(place.generation(), place.index);
        }
    }

    /// Whether the pool allows one more attempt, which then is counted.
    fn may_retry(&self, place: &Place) -> bool {
        let pool = place.pool();
        let shard = pool.stats.shard(self.worker.id);
        if self.retries.get() >= pool.config.limits.retries_max {
            return false;
        }
        if !pick::budget_allows(pool) || !self.enter_retry(pool) {
            stats::add(&shard.retries_refused, 1);
            return false;
        }
        self.retries.set(self.retries.get() + 1);
        stats::add(&shard.retries, 1);
        true
    }

    fn enter_retry(&self, pool: &PoolSnapshot) -> bool {
        let Some(gate) = &pool.gate else { return true };
        // The one before is over.
        self.retry_pass.take();
        let pass = gate.enter_retry();
        let is_in = pass.is_some();
        self.retry_pass.replace(pass);
        is_in
    }

    /// Whether an answer of this status is not passed on, as another attempt was granted in its place.
    pub(super) fn is_retried(&self, status: u16, place: &Place) -> bool {
        let repeatable = self.repeatable.get() && self.uploaded.get();
        repeatable && place.pool().config.retry.on.contains(&RetryOn::Status(status)) && self.may_retry(place)
    }

    /// A wait, as far as the attempt's own time reaches.
    pub(super) fn within_try(&self, wait: Duration) -> Duration {
        match self.try_ms.get() {
            u64::MAX => wait,
            end_ms => wait.min(Duration::from_millis(end_ms.saturating_sub(self.worker.timers.recent_ms()))),
        }
    }

    /// What the client's session says of where it was.
    fn known(&self, pool: &PoolName, sessions: &Sessions, head: &[u8]) -> Known {
        match sessions.cookie_name() {
            // The first that was signed here counts; others of the name may be anybody's.
            Some(name) => request::cookies(head, name)
                .map(|value| sessions.by_cookie(pool, value))
                .find(|known| known.id.is_some())
                .unwrap_or_default(),
            None => sessions.by_source(self.client.get().ip(), worker::uptime().as_millis() as u64),
        }
    }

    /// Remembers which endpoint the client has now, or tells it in the response's head.
    pub(super) fn settle<S: Stream>(&self, sessions: &Sessions, place: &Place, to_client: &S, head: &mut Vec<u8>) {
        let (is_https, now_ms) = (to_client.scheme() == "https", worker::uptime().as_millis() as u64);
        if let Some(line) = sessions.settle(place.index, self.known.get(), is_https, self.client.get().ip(), now_ms) {
            head.truncate(head.len() - 2);
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
    }
}

fn key_of(pool: &Pool, request: &Request, buf: &[u8], peer: SocketAddr) -> Option<u64> {
    let Balance::Maglev(policy) = &pool.balance else { return None };
    let head = &buf[..request.head_len];
    match &policy.key {
        HashKey::Source => Some(source_key(peer)),
        HashKey::Header(name) => request::field(head, name).map(hash_key),
        HashKey::Cookie(name) => request::cookie(head, name).map(hash_key),
        HashKey::Query(name) => parameters(request.target.of_buf(buf), name.as_bytes()).next().map(hash_key),
        HashKey::Path => Some(hash_key(request.path.of_buf(buf))),
    }
}

/// The key of a client: its address without the port.
pub(in crate::shell) fn source_key(peer: SocketAddr) -> u64 {
    match peer.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => hash_key(&ip.octets()),
        std::net::IpAddr::V6(ip) => hash_key(&ip.octets()),
    }
}
