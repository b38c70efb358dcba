//! One request and its response.
//!
//! ```text
//!   head ──► route ──► place on an endpoint ──► connection ──► request out ──► response in ──► response out
//!                        ▲    (queue)            (pooled?)         │ (body, both ways at once)
//!                        └─────────── try again ◄──────────────────┘ while nothing was sent to the client
//! ```
//!
//! - `read`: the client's side. `attempt`: endpoint after endpoint. `connect`: a connection to one. `relay`: both ways.
//! - `blame`: deadlines and whose fault. `answer`: answers of our own.

mod answer;
mod attempt;
mod blame;
mod connect;
mod read;
mod relay;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use weir_config::{HttpListener, Protocol, Route};

use crate::cause::{Cause, Fault};
use crate::http1::request::{self, Request};
use crate::http1::{Body, forwarded};
use crate::resilience::gate::RetryPass;
use crate::session::Known;
use crate::snapshot::ListenerSnapshot;
use crate::stats;

use super::buffer::{Buf, Head};
use super::endpoint::EndpointStream;
use super::http::Connection;
use super::mirror;
use super::peer::Peer;
use super::pick::Place;
use super::routing::Routed;
use super::stream::Stream;
use super::timer::Timer;
use super::trace::Trace;
use super::worker::Worker;

use answer::explain;
use read::cause_of;

pub(super) use attempt::source_key;
pub(super) use connect::connect_cause;

/// How a connection preface of HTTP/2 begins (RFC 9113 section 3.4): a head that no request has.
const PRIOR_KNOWLEDGE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

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

    let behind = head_len + advance.consumed;
    if listener.answers_challenges
        && let Some(text) = worker.tls.challenges().http(request.path.of_buf(input.filled()))
    {
        let close = close || !exchange.uploaded.get();
        Box::pin(exchange.answer_challenge(to_client, &text, &request, &input, close)).await;
        return behind_own(close, input, behind);
    }

    let routed = match &listener.routes {
        Some(table) => exchange.route(table, stream, &request, &input, &mut head.bytes),
        None => listener.pool.map_or(Routed::Nowhere, Routed::Pool),
    };
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
            return behind_own(close, input, behind);
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

/// After an answer of our own.
fn behind_own(close: bool, mut input: Buf, behind: usize) -> Next {
    if close {
        return Next::Linger;
    }
    input.consume(behind);
    Next::Request(Some(input).filter(|buf| !buf.is_empty()))
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
    pub(super) fn finish(&self, cause: Cause, request: Option<&Request>, input: &Buf) {
        self.trace.finish(self.worker, self.listener, self.client.get(), cause, request, input.filled());
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
