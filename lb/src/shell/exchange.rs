//! One request and its response.
//!
//! ```text
//!   head ──► route ──► place on an endpoint ──► connection ──► request out ──► response in ──► response out
//!                        ▲    (queue)            (pooled?)         │ (body, both ways at once)
//!                        └─────────── try again ◄──────────────────┘ while nothing was sent to the client
//! ```

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use weir_config::{Balance, HashKey, HttpListener, Pool, PoolName, Protocol, RetryOn, Route, UpstreamProtocol};

use crate::balance::hash_key;
use crate::cause::{Cause, Fault};
use crate::http1::chunked::write_chunk;
use crate::http1::edit::edit;
use crate::http1::forwarded;
use crate::http1::reply::{self, Reply};
use crate::http1::request::{self, Method, Request};
use crate::http1::response::{self, Asked, Framing, Response};
use crate::http1::{Body, Bounds, HeadError, Scanner};
use crate::resilience::gate::{RetryPass, Shut};
use crate::route::parameters;
use crate::session::{Known, Sessions};
use crate::snapshot::{ListenerSnapshot, PoolSnapshot};
use crate::stats;

use super::buffer::{Buf, Head, LARGE, SMALL};
use super::endpoint::EndpointStream;
use super::h2::CallFault;
use super::http::Connection;
use super::io::{self, Broken};
use super::mirror;
use super::peer::Peer;
use super::pick::{self, Place, Tried, Wish};
use super::routing::Routed;
use super::stream::Stream;
use super::timer::Timer;
use super::trace::Trace;
use super::tunnel::{self, Moved};
use super::upstream;
use super::worker::{self, Worker};

/// A body that begins in the same read as the head and is at most this long goes out in the same write without a second slice.
const INLINE_BODY: usize = 4 * 1024;
/// Reads of one long body before the other connections of the worker get their turn.
const READS_PER_TURN: u32 = 8;
/// How a connection preface of HTTP/2 begins (RFC 9113 section 3.4): a head that no request has.
const PRIOR_KNOWLEDGE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// The most of a refused request's body that is read and thrown away, so that its connection can go on.
const DISCARDED_MAX: usize = 64 * 1024;
/// Interim responses of one exchange.
const INTERIM_MAX: u32 = 16;

/// What becomes of the client's connection.
#[derive(Debug)]
pub(super) enum Next {
    /// It goes on, perhaps with bytes of the next request.
    Request(Option<Buf>),
    /// Our last word was said; the client may still be sending.
    Linger,
    /// It is at its end.
    Close,
    /// The response was broken off.
    Cut,
    /// The client speaks HTTP/2, without having been asked; this is what it said.
    Http2(Buf),
}

/// What one exchange looks at from all sides.
pub(super) struct Exchange<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) listener: &'a ListenerSnapshot,
    pub(super) http: &'a HttpListener,
    pub(super) timer: &'a Timer,
    peer: &'a Peer,
    /// The client: the peer, or who a trusted one speaks for.
    pub(super) client: Cell<SocketAddr>,
    /// Our end of the client's connection, where an endpoint is told.
    local: Cell<Option<SocketAddr>>,
    /// What its session says.
    known: Cell<Known>,
    /// End of the attempt's own time, in the worker's milliseconds.
    try_ms: Cell<u64>,
    /// Further attempts made.
    retries: Cell<u32>,
    /// An answer may still be exchanged for that of another attempt: the method allows it, and the body is in memory.
    repeatable: Cell<bool>,
    /// Counts the further attempt that is under way.
    retry_pass: RefCell<Option<RetryPass>>,
    /// End of `total`, in the worker's milliseconds.
    total_ms: Cell<u64>,
    pub(super) trace: Trace,
    /// A part of something was sent to the client that only this attempt can complete.
    begun: Cell<bool>,
    /// The request's body was sent to the endpoint.
    uploaded: Cell<bool>,
    /// The route that took the request.
    pub(super) route: Cell<Option<&'a Route>>,
    /// A pool that gets the request too.
    pub(super) mirror: Cell<Option<u32>>,
    /// What an answer of ours tells as `Retry-After`.
    retry_after_s: Cell<u32>,
}

/// The request's body on its way to the endpoint, over all attempts.
struct Upload {
    body: Body,
    /// What was read besides the bytes that came with the head, as long as it may be sent again.
    kept: Vec<u8>,
    /// So many may be kept.
    keep_max: usize,
    replayable: bool,
    /// Bytes that came behind the body.
    rest: Option<Buf>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug)]
struct Failure {
    cause: Cause,
    /// The endpoint cannot have processed the request.
    unprocessed: bool,
    /// Another attempt was granted already, in place of the answer.
    granted: bool,
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Failure {
        Failure { cause, unprocessed: false, granted: false }
    }
}

/// How an attempt that reached the client ended.
enum Responded {
    /// The whole response was sent. Whether the endpoint's connection can be used again, and the client's goes on.
    Complete { reusable: bool, keep_alive_s: Option<u32>, close: bool },
    /// The endpoint took up another protocol; these bytes of it came with its head.
    Switched(Option<Buf>),
}

pub(super) async fn run<S: Stream>(connection: &mut Connection<S>, pending: Option<Buf>) -> Next {
    let worker = Rc::clone(&connection.worker);
    let snapshot = worker.snapshot();
    let Connection { stream, peer, listener: known, timer, served, .. } = connection;
    let current = snapshot.listeners.get(known.slot as usize).and_then(Option::as_ref);
    let current = current.filter(|now| matches!(now.config.protocol, Protocol::Http(_)));
    let removed = current.is_none();
    if let Some(current) = current
        && !Arc::ptr_eq(current, known)
    {
        *known = Arc::clone(current);
    }
    let listener: &ListenerSnapshot = known;
    let peer: &Peer = peer;
    let Protocol::Http(http) = &listener.config.protocol else { return Next::Close };

    let mut input = pending.unwrap_or_else(|| worker.buffers.request());
    let exchange = Exchange {
        worker: &worker,
        listener,
        http,
        timer,
        peer,
        client: Cell::new(peer.address),
        local: Cell::new(None),
        known: Cell::default(),
        try_ms: Cell::new(u64::MAX),
        retries: Cell::new(0),
        repeatable: Cell::new(false),
        retry_pass: RefCell::default(),
        total_ms: Cell::new(u64::MAX),
        trace: Trace::new(S::HTTP2),
        begun: Cell::new(false),
        uploaded: Cell::new(false),
        route: Cell::new(None),
        mirror: Cell::new(None),
        retry_after_s: Cell::new(1),
    };
    let stream = &*stream;
    let (from_client, to_client) = (stream, stream);
    let head_len = match exchange.read_head(from_client, &mut input).await {
        Ok(Some(head_len)) => head_len,
        Ok(None) => return Next::Close,
        Err((cause, detail)) => return exchange.refuse(to_client, cause, detail, None, &input).await,
    };
    *served = served.saturating_add(1);
    exchange.trace.head_complete(&worker.timers);
    let _in_flight = InFlight::new(&worker);

    let mut head = worker.buffers.head();
    let forward = request::Forward {
        headers: &http.headers,
        client: peer.address.ip(),
        scheme: stream.scheme(),
        node: &worker.node,
        request_id: if http.headers.request_id.is_some() { worker.random.borrow_mut().u128(..) } else { 0 },
        trusted: http.headers.trusted.iter().any(|network| network.contains(peer.address.ip())),
    };
    if forward.trusted
        && let Some(client) = forwarded::client(&input.filled()[..head_len], &http.headers.trusted)
    {
        // Of the client's own port nothing is known.
        exchange.client.set(SocketAddr::new(client, 0));
    }
    let mut request = match request::parse(input.filled(), head_len, &forward, &mut head.bytes) {
        Ok(request) => request,
        Err(_) if http.http2 && *served == 1 && stream.plain().is_some() && input.filled()[..head_len] == *PRIOR_KNOWLEDGE => {
            return Next::Http2(input);
        }
        Err(error) => return exchange.refuse(to_client, cause_of(error), &error.to_string(), None, &input).await,
    };
    exchange.trace.request_id(forward.request_id);
    if let (Some(most), Body::Length(length)) = (http.limits.body_bytes_max, &request.body)
        && *length > most
    {
        let detail = "the request body is larger than allowed";
        return exchange.refuse(to_client, Cause::BodyTooLarge, detail, Some(&request), &input).await;
    }

    // What came of the body with the head.
    let mut body = std::mem::replace(&mut request.body, Body::Empty);
    let advance = match body.advance(&mut input.filled_mut()[head_len..]) {
        Ok(advance) => advance,
        Err(error) => return exchange.refuse(to_client, Cause::BadRequest, &error.to_string(), Some(&request), &input).await,
    };
    // What is not idempotent is sent again only if nothing of it was sent: nothing needs to be kept.
    let keep_max = if request.method.is_idempotent() { http.limits.retry_bytes_max } else { 0 };
    let mut upload = Upload { body, kept: Vec::new(), keep_max, replayable: true, rest: None };
    exchange.trace.add_request_bytes(advance.kept as u64);
    if http.limits.body_bytes_max.is_some_and(|most| advance.kept as u64 > most) {
        // Chunks that came with the head; nothing was sent to an endpoint yet.
        let detail = "the request body is larger than allowed";
        return exchange.refuse(to_client, Cause::BodyTooLarge, detail, Some(&request), &input).await;
    }
    exchange.uploaded.set(upload.body.is_done());
    let last = http.limits.requests_per_connection_max.is_some_and(|most| *served >= most.get());
    let close = last || removed || !request.keep_alive || worker.draining.get();

    let routed = match &listener.routes {
        Some(table) => exchange.route(table, stream, &request, &input, &mut head.bytes),
        None => listener.pool.map_or(Routed::Nowhere, Routed::Pool),
    };
    let behind = head_len + advance.consumed;
    // Held to the end.
    let _seats = match &listener.limiters {
        None => Vec::new(),
        Some(limiters) => match exchange.admit(limiters, &input.filled()[..head_len]) {
            Ok(seats) => seats,
            Err(wait) => {
                exchange.retry_after_s.set(wait.as_secs().saturating_add(1).min(3600) as u32);
                return Box::pin(exchange.limited(stream, &request, input, &mut upload, behind, close)).await;
            }
        },
    };
    let pool = match routed {
        Routed::Pool(pool) => pool,
        Routed::Own(action) => {
            let close = close || !exchange.uploaded.get();
            Box::pin(exchange.answer_own(to_client, action, &request, &input, close)).await;
            if close {
                return Next::Linger;
            }
            input.consume(behind);
            return Next::Request(Some(input).filter(|buf| !buf.is_empty()));
        }
        Routed::Nowhere => {
            if let Some(port) = http.redirect_https {
                return Box::pin(exchange.redirect(to_client, port.get(), &request, &input)).await;
            }
            let detail = "no route takes this request, and the listener has no pool of its own";
            return exchange.refuse(to_client, Cause::NoRoute, detail, Some(&request), &input).await;
        }
        Routed::Refused(detail) => return exchange.refuse(to_client, Cause::BadRequest, &detail, Some(&request), &input).await,
    };
    exchange.trace.pool(pool);
    if let Some(slot) = exchange.mirror.get()
        && exchange.uploaded.get()
        && !request.upgrade
    {
        mirror::send(&worker, slot, request.method, &head.bytes, &input.filled()[head_len..head_len + advance.kept]);
    }

    let sent = Sent { head, prefix: head_len..head_len + advance.kept, close };
    let done = {
        let mut attempts = pin!(exchange.attempts(&request, &input, sent, &mut upload, pool, from_client, to_client));
        poll_fn(|cx| match attempts.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => to_client.poll_gone(cx).map(|()| Done::Failed(Cause::ClientClosed)),
        })
        .await
    };
    let rest = upload.rest.take();
    match done {
        Done::Complete { close } => {
            exchange.finish(Cause::Ok, Some(&request), &input);
            if close {
                // Closing with unread bytes would reset the connection, and could take our answer with it.
                let all_read = exchange.uploaded.get() && rest.is_none() && input.len() == behind && stream.is_open();
                return if all_read { Next::Close } else { Next::Linger };
            }
            input.consume(behind);
            // What a separate read found behind the body comes after what came with the head, of which then nothing is left.
            Next::Request(rest.or(Some(input)).filter(|buf| !buf.is_empty()))
        }
        Done::Failed(cause) if exchange.begun.get() => {
            exchange.finish(cause, Some(&request), &input);
            Next::Cut
        }
        Done::Failed(cause) => {
            if cause == Cause::ClientClosed {
                exchange.finish(cause, Some(&request), &input);
                return Next::Close;
            }
            let close = close || !exchange.uploaded.get() || cause.fault() == Fault::Client;
            Box::pin(exchange.answer(to_client, cause, explain(cause), Some(&request), &input, close)).await;
            exchange.finish(cause, Some(&request), &input);
            if close {
                return Next::Linger;
            }
            input.consume(behind);
            Next::Request(rest.or(Some(input)).filter(|buf| !buf.is_empty()))
        }
        Done::Switched(place, endpoint, first) => {
            exchange.trace.keep(&worker, &request, input.filled());
            input.consume(behind);
            let upgraded = Upgraded { place, endpoint, first: [Some(input), first] };
            Box::pin(exchange.tunnel(stream, upgraded)).await
        }
    }
}

/// What every attempt sends.
struct Sent {
    head: Head,
    prefix: std::ops::Range<usize>,
    /// The client's connection ends with this exchange.
    close: bool,
}

/// How an exchange ended.
enum Done {
    Complete { close: bool },
    Failed(Cause),
    Switched(Place, EndpointStream, Option<Buf>),
}

struct Upgraded {
    place: Place,
    endpoint: EndpointStream,
    first: [Option<Buf>; 2],
}

impl Exchange<'_> {
    /// Reads a request's head; `None`: the client closed before it sent anything.
    async fn read_head<S: Stream>(&self, from_client: &S, input: &mut Buf) -> Result<Option<usize>, (Cause, &'static str)> {
        let bounds = Bounds::from(&self.http.limits);
        let mut scanner = Scanner::default();
        let mut timed = false;
        loop {
            if !input.is_empty() {
                match scanner.scan(input.filled(), &bounds) {
                    Ok(Some(head_len)) => {
                        if timed {
                            self.worker.timers.now_us();
                        } else {
                            self.trace.begin(self.worker);
                        }
                        return Ok(Some(head_len));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if !timed {
                            self.trace.begin(self.worker);
                        }
                        return Err((cause_of(error), detail_of(error)));
                    }
                }
                if !timed {
                    timed = true;
                    self.trace.begin(self.worker);
                    self.timer.set_after(self.listener.config.timeouts.head);
                }
            }
            if input.spare().is_empty() && !input.make_room(bounds.head_bytes_max.max(SMALL)) {
                return Err((Cause::HeadTooLarge, "the head is larger than allowed"));
            }
            match io::read(from_client, self.timer, input).await {
                // Between two requests a reset is as good an end as any.
                Ok(0) | Err(Broken::Failed) if input.is_empty() => return Ok(None),
                Ok(0) | Err(Broken::Failed) => return Err((Cause::ClientClosed, "the client closed within the head")),
                Ok(_) => {}
                Err(Broken::Timeout) if input.is_empty() => return Ok(None),
                Err(Broken::Timeout) => return Err((Cause::HeadTimeout, "the request head did not come in time")),
            }
        }
    }

    /// Tries endpoint after endpoint until one has answered or nothing is left to try.
    #[allow(clippy::too_many_arguments)] // One caller; each is a different part of the exchange.
    async fn attempts<S: Stream>(
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
                Cause::EndpointClosed => on(RetryOn::Closed),
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
    fn is_retried(&self, status: u16, place: &Place) -> bool {
        let repeatable = self.repeatable.get() && self.uploaded.get();
        repeatable && place.pool().config.retry.on.contains(&RetryOn::Status(status)) && self.may_retry(place)
    }

    /// A wait, as far as the attempt's own time reaches.
    fn within_try(&self, wait: Duration) -> Duration {
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
    fn settle<S: Stream>(&self, sessions: &Sessions, place: &Place, to_client: &S, head: &mut Vec<u8>) {
        let (is_https, now_ms) = (to_client.scheme() == "https", worker::uptime().as_millis() as u64);
        if let Some(line) = sessions.settle(place.index, self.known.get(), is_https, self.client.get().ip(), now_ms) {
            head.truncate(head.len() - 2);
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
    }

    /// A connection to the place's endpoint: a pooled one unless `fresh`, else a new one; over HTTP/2 a stream of one.
    async fn connection(&self, place: &Place, fresh: bool, method: Method) -> Result<EndpointStream, Failure> {
        place.state().requests_total.fetch_add(1, Ordering::Relaxed);
        if place.pool().config.upstream_protocol == UpstreamProtocol::Http2 {
            let call = match self.worker.upstreams.links.take(place) {
                Some(call) => {
                    stats::add(&place.pool().stats.shard(self.worker.id).reused, 1);
                    self.trace.connected(true, &self.worker.timers);
                    call
                }
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
        if let Some(gate) = &place.pool().gate
            && pick::connections(place.pool()) > u64::from(gate.connections_max())
        {
            return Err(Failure { cause: Cause::CircuitOpen, unprocessed: true, granted: false });
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

    fn keep(&self, place: &Place, endpoint: EndpointStream, keep_alive_s: Option<u32>) {
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

    /// Sends the request on this connection and relays the response.
    #[allow(clippy::too_many_arguments)] // One caller; each is a different part of the exchange.
    async fn exchange<S: Stream>(
        &self,
        place: &Place,
        endpoint: &EndpointStream,
        request: &Request,
        input: &Buf,
        sent: &Sent,
        upload: &mut Upload,
        from_client: &S,
        to_client: &S,
    ) -> Result<Responded, Failure> {
        let (from_endpoint, to_endpoint) = (endpoint, endpoint);
        let pool = &place.pool().config;
        self.arm(self.within_try(pool.timeouts.first_byte));
        let prefix = &input.filled()[sent.prefix.clone()];
        let mut written = 0;
        if let Err(broken) = io::write_counting(to_endpoint, self.timer, &sent.head.bytes, prefix, &mut written).await {
            let cause = match broken {
                Broken::Timeout => self.or_total(Cause::EndpointIdle),
                // An answer may be there already, but a request that was not taken whole is safer sent again.
                Broken::Failed => self.closed_cause(),
            };
            return Err(Failure { cause, unprocessed: written == 0, granted: false });
        }
        if !upload.kept.is_empty() {
            self.write(to_endpoint, &upload.kept, &[], pool.timeouts.idle).await.map_err(|broken| match broken {
                Broken::Timeout => self.or_total(Cause::EndpointIdle),
                Broken::Failed => self.closed_cause(),
            })?;
            self.arm(self.within_try(pool.timeouts.first_byte));
        }
        if self.uploaded.get() {
            return self.respond(place, request, sent.close, from_endpoint, to_client).await;
        }
        // Boxed, here and below, is what few requests come to: it would be carried by all of them.
        let mut respond = Box::pin(self.respond(place, request, sent.close, from_endpoint, to_client));
        let mut sending = Box::pin(self.upload(upload, pool, from_client, to_endpoint));
        let mut is_sending = true;
        poll_fn(|cx| {
            if is_sending && let Poll::Ready(end) = sending.as_mut().poll(cx) {
                is_sending = false;
                match end {
                    Ok(()) | Err(None) => {}
                    Err(Some(cause)) => return Poll::Ready(Err(cause.into())),
                }
            }
            respond.as_mut().poll(cx)
        })
        .await
    }

    /// Passes on the rest of the request's body. `Err(None)`: the endpoint takes no more; its answer tells why.
    async fn upload<S: Stream>(
        &self,
        upload: &mut Upload,
        pool: &Pool,
        from_client: &S,
        to_endpoint: &EndpointStream,
    ) -> Result<(), Option<Cause>> {
        while !upload.body.is_done() {
            self.arm(self.listener.config.timeouts.idle);
            io::readable(from_client, self.timer).await.map_err(|broken| Some(self.client_cause(&broken)))?;
            let large = matches!(upload.body, Body::Length(left) if left > SMALL as u64);
            let mut buf = if large { self.worker.buffers.bulk() } else { self.worker.buffers.small() };
            let count = io::read(from_client, self.timer, &mut buf).await.map_err(|broken| Some(self.client_cause(&broken)))?;
            if count == 0 {
                return Err(Some(Cause::ClientClosed));
            }
            let advance = upload.body.advance(buf.filled_mut()).map_err(|_| Some(Cause::BadRequest))?;
            self.trace.add_request_bytes(advance.kept as u64);
            if self.http.limits.body_bytes_max.is_some_and(|most| self.trace.request_bytes() > most) {
                return Err(Some(Cause::BodyTooLarge));
            }
            // Before anything can fail or be dropped in the middle: the client will not send these bytes again.
            if advance.consumed < buf.len() {
                let mut rest = self.worker.buffers.fitting(buf.len() - advance.consumed);
                rest.push(&buf.filled()[advance.consumed..]);
                upload.rest = Some(rest);
            }
            let piece = &buf.filled()[..advance.kept];
            if upload.replayable && upload.kept.len() + piece.len() <= upload.keep_max {
                upload.kept.extend_from_slice(piece);
            } else {
                upload.replayable = false;
                self.repeatable.set(false);
                upload.kept = Vec::new();
            }
            self.worker.timers.now_us();
            match self.write(to_endpoint, piece, &[], pool.timeouts.idle).await {
                Ok(()) => {}
                Err(Broken::Timeout) => return Err(Some(self.or_total(Cause::EndpointIdle))),
                Err(Broken::Failed) => return Err(None),
            }
        }
        self.uploaded.set(true);
        self.trace.uploaded(&self.worker.timers);
        self.arm(self.within_try(pool.timeouts.first_byte));
        Ok(())
    }

    /// Reads the response and relays it.
    async fn respond<S: Stream>(
        &self,
        place: &Place,
        request: &Request,
        close: bool,
        from_endpoint: &EndpointStream,
        to_client: &S,
    ) -> Result<Responded, Failure> {
        let asked = Asked { method: request.method, minor: request.minor, upgrade: request.upgrade };
        let via = self.http.headers.via.then_some(&*self.worker.node);
        let mut out = self.worker.buffers.head();
        let mut input: Option<Buf> = None;
        let mut close = close;
        let mut interims = 0;
        let mut response = loop {
            let head_len = self.read_response_head(from_endpoint, &mut input).await?;
            let buf = input.as_mut().expect("a head was read into it");
            let forward = |response: &Response| {
                // An answer before the whole request was read leaves the connection in no state to go on; an interim one is none yet.
                if !response.is_interim() {
                    close |= response.ends_by_close() || !self.uploaded.get() || self.worker.draining.get();
                }
                response::Forward { close, via }
            };
            let response = response::parse(buf.filled(), head_len, asked, forward, &mut out.bytes).map_err(|error| {
                tracing::debug!(endpoint = %place.address, %error, "refused a response");
                Failure::from(Cause::BadResponse)
            })?;
            if !response.is_interim() {
                if response.status >= 400 && self.is_retried(response.status, place) {
                    if response.status >= 500 {
                        place.answered_badly(response.status);
                    }
                    return Err(Failure { cause: Cause::BadResponse, unprocessed: false, granted: true });
                }
                break response;
            }
            interims += 1;
            if interims > INTERIM_MAX {
                return Err(Cause::BadResponse.into());
            }
            buf.consume(head_len);
            if request.minor == 1 {
                self.send(to_client, &out.bytes, &[]).await?;
                // Whole, and not the answer: that may still be another endpoint's, or our own.
                self.begun.set(false);
                if self.uploaded.get() {
                    self.arm(self.within_try(place.pool().config.timeouts.first_byte));
                }
            }
            out.bytes.clear();
        };
        let mut buf = input.expect("a head was read into it");
        if let Some(changes) = self.route.get().and_then(|route| route.changes.as_deref())
            && !changes.response.is_empty()
        {
            edit(&mut out.bytes, &changes.response);
        }
        if let Some(sessions) = &place.pool().sessions {
            self.settle(sessions, place, to_client, &mut out.bytes);
        }
        self.trace.responded(response.status, place, &self.worker.timers);
        buf.consume(response.head_len);
        if response.status == 101 {
            self.send(to_client, &out.bytes, &[]).await?;
            return Ok(Responded::Switched(Some(buf)));
        }

        let advance = response.body.advance(buf.filled_mut()).map_err(|_| Failure::from(Cause::BadResponse))?;
        let mut clean = advance.consumed == buf.len();
        let piece = &buf.filled()[..advance.kept];
        self.trace.add_response_bytes(piece.len() as u64);
        if response.framing == Framing::Chunk {
            write_chunk(piece, &mut out.bytes);
            self.send(to_client, &out.bytes, &[]).await?;
        } else if piece.len() <= INLINE_BODY {
            out.bytes.extend_from_slice(piece);
            self.send(to_client, &out.bytes, &[]).await?;
        } else {
            self.send(to_client, &out.bytes, piece).await?;
        }
        drop(buf);
        if !response.body.is_done() {
            clean &= Box::pin(self.relay(place, &mut response, &mut out, from_endpoint, to_client)).await?;
        }
        if response.framing == Framing::Chunk {
            self.send(to_client, b"0\r\n\r\n", &[]).await?;
        }
        Ok(Responded::Complete { reusable: response.reusable && clean, keep_alive_s: response.keep_alive_s, close })
    }

    /// Relays what is left of the response's body. Whether nothing came behind it.
    async fn relay<S: Stream>(
        &self,
        place: &Place,
        response: &mut Response,
        out: &mut Head,
        from_endpoint: &EndpointStream,
        to_client: &S,
    ) -> Result<bool, Failure> {
        let pool = &place.pool().config;
        let mut reads = 0u32;
        while !response.body.is_done() {
            reads += 1;
            if reads.is_multiple_of(READS_PER_TURN) {
                tokio::task::yield_now().await;
            }
            self.worker.timers.now_us();
            self.arm(pool.timeouts.idle);
            io::readable(from_endpoint, self.timer).await.map_err(|broken| self.endpoint_failure(&broken))?;
            let large = match &response.body {
                Body::Length(left) => *left > SMALL as u64,
                _ => true,
            };
            let mut buf = if large { self.worker.buffers.bulk() } else { self.worker.buffers.small() };
            let count = io::read(from_endpoint, self.timer, &mut buf).await.map_err(|broken| self.endpoint_failure(&broken))?;
            if count == 0 {
                return if response.body.complete_at_close() { Ok(false) } else { Err(Cause::EndpointClosed.into()) };
            }
            let advance = response.body.advance(buf.filled_mut()).map_err(|_| Failure::from(Cause::BadResponse))?;
            let piece = &buf.filled()[..advance.kept];
            self.trace.add_response_bytes(piece.len() as u64);
            if response.framing == Framing::Chunk {
                out.bytes.clear();
                write_chunk(piece, &mut out.bytes);
                self.send(to_client, &out.bytes, &[]).await?;
            } else {
                self.send(to_client, piece, &[]).await?;
            }
            if advance.consumed < count {
                return Ok(false);
            }
            debug_assert!(count <= LARGE);
        }
        Ok(true)
    }

    async fn read_response_head(&self, from_endpoint: &EndpointStream, input: &mut Option<Buf>) -> Result<usize, Failure> {
        let mut scanner = Scanner::default();
        loop {
            if let Some(buf) = input.as_ref().filter(|buf| !buf.is_empty()) {
                match scanner.scan(buf.filled(), &Bounds::RESPONSE) {
                    Ok(Some(head_len)) => return Ok(head_len),
                    Ok(None) => {}
                    Err(_) => return Err(Cause::BadResponse.into()),
                }
            }
            if input.is_none() {
                // Without a buffer while the endpoint works.
                io::readable(from_endpoint, self.timer).await.map_err(|broken| self.head_failure(&broken))?;
                *input = Some(self.worker.buffers.small());
            }
            let buf = input.as_mut().expect("it was just put there");
            if buf.spare().is_empty() && !buf.make_room(Bounds::RESPONSE.head_bytes_max) {
                return Err(Cause::BadResponse.into());
            }
            match io::read(from_endpoint, self.timer, buf).await {
                Ok(0) if buf.is_empty() => return Err(self.closed_cause().into()),
                Ok(0) => return Err(Cause::EndpointClosed.into()),
                Ok(_) => {}
                Err(broken) => return Err(self.head_failure(&broken)),
            }
        }
    }

    /// Sends to the client. From here on no other attempt is made.
    async fn send<S: Stream>(&self, to_client: &S, first: &[u8], second: &[u8]) -> Result<(), Failure> {
        self.begun.set(true);
        self.trace.add_sent_bytes((first.len() + second.len()) as u64);
        let idle = self.listener.config.timeouts.idle;
        self.write(to_client, first, second, idle).await.map_err(|broken| self.client_cause(&broken).into())
    }

    /// Writes both pieces. `wait` is for each step forward, not for the whole: a slow reader of a large piece is not an idle one.
    async fn write<S: Stream>(&self, to: &S, first: &[u8], second: &[u8], wait: Duration) -> Result<(), Broken> {
        let mut done = 0;
        self.arm(wait);
        loop {
            let before = done;
            match io::write_counting(to, self.timer, first, second, &mut done).await {
                Err(Broken::Timeout) if done > before && !self.total_passed() => self.arm(wait),
                end => return end,
            }
        }
    }

    /// Moves the deadline, never past the exchange's total.
    fn arm(&self, wait: Duration) {
        let deadline = self.worker.timers.recent_ms().saturating_add(wait.as_millis() as u64);
        self.timer.set(deadline.min(self.total_ms.get()));
    }

    /// The deadline passed: was it the exchange's total?
    fn or_total(&self, cause: Cause) -> Cause {
        if self.total_passed() { Cause::TotalTimeout } else { cause }
    }

    fn total_passed(&self) -> bool {
        self.worker.timers.now_us() / 1000 >= self.total_ms.get()
    }

    /// Whether the failure says something about the endpoint. A stale connection does not, nor a total that a slow client used up.
    fn blames_endpoint(&self, cause: Cause) -> bool {
        match cause {
            Cause::ReusedClosed => false,
            Cause::TotalTimeout => self.uploaded.get() && !self.begun.get(),
            _ => cause.fault() == Fault::Endpoint,
        }
    }

    fn client_cause(&self, broken: &Broken) -> Cause {
        match broken {
            Broken::Timeout => self.or_total(Cause::ClientIdle),
            Broken::Failed => Cause::ClientClosed,
        }
    }

    fn endpoint_failure(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::Timeout => self.or_total(Cause::EndpointIdle).into(),
            Broken::Failed => Cause::EndpointClosed.into(),
        }
    }

    fn head_failure(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::Timeout if !self.uploaded.get() => self.or_total(Cause::ClientIdle).into(),
            Broken::Timeout => self.or_total(Cause::FirstByteTimeout).into(),
            Broken::Failed => self.closed_cause().into(),
        }
    }

    /// The endpoint closed before it answered: what that means depends on whether the connection was kept from before.
    fn closed_cause(&self) -> Cause {
        if self.trace.reused() { Cause::ReusedClosed } else { Cause::EndpointClosed }
    }

    /// Answers 429. The connection goes on where what is left of the request is little: a client that is told to wait should not need another.
    async fn limited<S: Stream>(
        &self,
        stream: &S,
        request: &Request,
        mut input: Buf,
        upload: &mut Upload,
        behind: usize,
        close: bool,
    ) -> Next {
        let waits = request::field(&input.filled()[..request.head_len], "expect").is_some();
        let is_little = match &upload.body {
            Body::Length(left) => *left <= DISCARDED_MAX as u64,
            _ => true,
        };
        let goes_on = !close && (self.uploaded.get() || (is_little && !waits));
        self.answer(stream, Cause::RateLimited, "more requests than allowed", Some(request), &input, !goes_on).await;
        self.finish(Cause::RateLimited, Some(request), &input);
        if !goes_on || !self.discard(stream, upload).await {
            return Next::Linger;
        }
        input.consume(behind);
        Next::Request(upload.rest.take().or(Some(input)).filter(|buf| !buf.is_empty()))
    }

    /// Reads what is left of the request's body, for nobody. Whether its end came before it was too much or too late.
    async fn discard<S: Stream>(&self, from_client: &S, upload: &mut Upload) -> bool {
        let mut discarded = 0;
        while !upload.body.is_done() {
            let mut buf = self.worker.buffers.small();
            let Ok(count) = io::read(from_client, self.timer, &mut buf).await else { return false };
            discarded += count;
            let Ok(advance) = upload.body.advance(buf.filled_mut()) else { return false };
            if count == 0 || discarded > DISCARDED_MAX {
                return false;
            }
            if advance.consumed < buf.len() {
                let mut rest = self.worker.buffers.fitting(buf.len() - advance.consumed);
                rest.push(&buf.filled()[advance.consumed..]);
                upload.rest = Some(rest);
            }
        }
        true
    }

    /// Answers with an error of our own and ends the connection.
    async fn refuse<S: Stream>(&self, to_client: &S, cause: Cause, detail: &str, request: Option<&Request>, input: &Buf) -> Next {
        if cause != Cause::ClientClosed {
            Box::pin(self.answer(to_client, cause, detail, request, input, true)).await;
        }
        self.finish(cause, request, input);
        Next::Linger
    }

    /// Sends the client to the same place by HTTPS and ends the connection.
    async fn redirect<S: Stream>(&self, to_client: &S, port: u16, request: &Request, input: &Buf) -> Next {
        let (host, target) = (request.host.of_buf(input.filled()), request.target.of_buf(input.filled()));
        if host.is_empty() {
            let detail = "a request without a host cannot be sent to another place";
            return self.refuse(to_client, Cause::BadRequest, detail, Some(request), input).await;
        }
        let mut out = self.worker.buffers.head();
        reply::write_redirect(host, port, request.path.of_buf(input.filled()), target, &mut out.bytes);
        self.trace.add_sent_bytes(out.bytes.len() as u64);
        self.trace.status(308);
        self.worker.timers.now_us();
        self.timer.set_after(self.listener.config.timeouts.head);
        // As with any last word: a client that is gone does not want it.
        let _ = io::write(to_client, self.timer, &out.bytes, &[]).await;
        self.finish(Cause::Ok, Some(request), input);
        Next::Linger
    }

    async fn answer<S: Stream>(&self, to_client: &S, cause: Cause, detail: &str, request: Option<&Request>, input: &Buf, close: bool) {
        let head = request.map(|request| &input.filled()[..request.head_len]);
        let mut out = self.worker.buffers.head();
        let mut digits = [0; 32];
        let id = self.trace.id_text(request, input.filled(), &mut digits);
        let reply = Reply {
            cause,
            detail,
            json: reply::wants_json(head.and_then(|head| request::field(head, "accept"))),
            head_only: request.is_some_and(|request| request.method == Method::Head),
            close,
            http10: request.is_some_and(|request| request.minor == 0),
            retry_after_s: self.retry_after_s.get(),
            request_id: id,
        };
        reply::write(&reply, &mut out.bytes);
        self.trace.add_sent_bytes(out.bytes.len() as u64);
        self.trace.status(cause.status());
        self.worker.timers.now_us();
        self.timer.set_after(self.listener.config.timeouts.head);
        // A client that is gone does not want the answer; the end is counted by its first cause.
        let _ = io::write(to_client, self.timer, &out.bytes, &[]).await;
    }

    pub(super) fn finish(&self, cause: Cause, request: Option<&Request>, input: &Buf) {
        self.trace.finish(self.worker, self.listener, self.client.get(), cause, request, input.filled());
    }

    /// Serves an upgraded connection to its end.
    async fn tunnel<S: Stream>(&self, stream: &S, upgraded: Upgraded) -> Next {
        let Upgraded { place, endpoint, first } = upgraded;
        place.state().tunnels.fetch_add(1, Ordering::Relaxed);
        let moved = Moved::default();
        let end = tunnel::run(self.worker, stream, &endpoint, first, self.timer, self.listener.config.timeouts.tunnel, &moved).await;
        place.state().tunnels.fetch_sub(1, Ordering::Relaxed);
        self.trace.add_request_bytes(moved.up.get());
        self.trace.add_response_bytes(moved.down.get());
        self.trace.add_sent_bytes(moved.down.get());
        self.trace.finish_tunnel(self.worker, self.listener, self.client.get(), &end);
        Next::Close
    }
}

/// Counts a request or session as under way.
pub(super) struct InFlight<'a>(&'a Worker);

impl<'a> InFlight<'a> {
    pub(super) fn new(worker: &'a Worker) -> InFlight<'a> {
        stats::add(&worker.gauges.in_flight, 1);
        InFlight(worker)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        stats::sub(&self.0.gauges.in_flight, 1);
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
pub(super) fn source_key(peer: SocketAddr) -> u64 {
    match peer.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => hash_key(&ip.octets()),
        std::net::IpAddr::V6(ip) => hash_key(&ip.octets()),
    }
}

fn cause_of(error: HeadError) -> Cause {
    if error == HeadError::TooLarge { Cause::HeadTooLarge } else { Cause::BadRequest }
}

fn detail_of(error: HeadError) -> &'static str {
    match error {
        HeadError::TooLarge => "the head is larger than allowed",
        HeadError::BareLf => "a line does not end in CRLF",
        HeadError::Folded => "a header line begins with white space",
        _ => "the request is malformed",
    }
}

fn explain(cause: Cause) -> &'static str {
    match cause {
        Cause::BadRequest => "the request body is framed wrongly, or the request cannot be said over HTTP/2",
        Cause::BodyTooLarge => "the request body is larger than allowed",
        Cause::ClientIdle => "the request body did not come in time",
        Cause::NoEndpoint => "no endpoint of the pool was available in time",
        Cause::QueueFull => "too many requests wait for the pool already",
        Cause::ConnectFailed => "no endpoint accepted the connection",
        Cause::ConnectTimeout => "no endpoint accepted the connection in time",
        Cause::TlsFailed => "no endpoint could be reached under TLS; the log of this node says why",
        Cause::EndpointClosed => "the endpoint closed the connection before its answer was complete",
        Cause::ReusedClosed => "the endpoint closed a kept connection while the request was sent, and the request may not be repeated",
        Cause::BadResponse => "the endpoint answered what is not HTTP",
        Cause::FirstByteTimeout => "the endpoint did not answer in time",
        Cause::EndpointIdle => "the endpoint stopped in the middle",
        Cause::TotalTimeout => "the exchange took longer than allowed",
        Cause::CircuitOpen => "the pool has as many requests as it may have",
        Cause::Shed => "the pool answers slowly and takes no more requests for now",
        Cause::SessionGone => "the endpoint of this session is not available",
        Cause::Overload => "this node is out of a resource such as file descriptors",
        _ => "the request could not be served",
    }
}

/// Out of descriptors or ports is our fault, not the endpoint's.
pub(super) fn connect_cause(error: &std::io::Error) -> Cause {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => Cause::Overload,
        _ => Cause::ConnectFailed,
    }
}
