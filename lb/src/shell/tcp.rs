//! A TCP session: a client, an endpoint, and the bytes between them.
//!
//! ```text
//!   accepted ──with routes──► hello read, as far as its name ──► pool ──► endpoint ──► tunnel, which passes on what was read
//! ```

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::net::TcpStream;
use weir_config::{Balance, RetryOn};

use crate::cause::{Cause, Fault};
use crate::resilience::gate::{Pass, Shut};
use crate::route::{Asked, RouteTable, Way};
use crate::snapshot::ListenerSnapshot;
use crate::stats;
use crate::tls::hello::{self, HELLO_BYTES_MAX, Hello};

use super::buffer::Buf;
use super::endpoint::EndpointStream;
use super::exchange::{InFlight, source_key};
use super::http::DRAIN_KEEP_ALIVE;
use super::io::{self, Broken};
use super::peer::Peer;
use super::pick::{self, Place, Tried, Wish};
use super::stream::Stream;
use super::timer::Timer;
use super::trace::Trace;
use super::tunnel::{self, Moved};
use super::upstream;
use super::worker::{self, Open, Worker};

pub(super) async fn serve(stream: TcpStream, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let timer = worker.timers.timer();
    let trace = Trace::new(false);
    trace.begin(&worker);
    trace.head_complete(&worker.timers);
    let _in_flight = InFlight::new(&worker);
    let (slot, first) = match &listener.routes {
        None => (listener.pool, None),
        // Boxed, as few listeners have routes and sessions may last for hours.
        Some(table) => match Box::pin(route(&worker, &timer, table, &listener, &stream, &peer)).await {
            Ok((slot, first)) => (slot, first),
            Err(cause) => return trace.finish(&worker, &listener, peer.address, cause, None, &[]),
        },
    };
    match reach(&worker, &timer, &trace, slot, &stream, &peer).await {
        Ok((place, endpoint, _pass)) => {
            place.succeeded();
            place.state().sessions.fetch_add(1, Ordering::Relaxed);
            let moved = Moved::default();
            let idle = listener.config.timeouts.tunnel;
            let end = tunnel::run(&worker, &stream, &endpoint, [first, None], &timer, idle, &moved).await;
            place.state().sessions.fetch_sub(1, Ordering::Relaxed);
            trace.add_request_bytes(moved.up.get());
            trace.add_response_bytes(moved.down.get());
            trace.add_sent_bytes(moved.down.get());
            trace.finish_tunnel(&worker, &listener, peer.address, &end);
        }
        Err(cause) => trace.finish(&worker, &listener, peer.address, cause, None, &[]),
    }
}

/// Finds the pool by who comes and, where a route looks at it, by the name that the client asks for in its TLS handshake. What was read for that
/// is given back, to be passed on.
async fn route(
    worker: &Worker,
    timer: &Timer,
    table: &RouteTable,
    listener: &ListenerSnapshot,
    stream: &TcpStream,
    peer: &Peer,
) -> Result<(Option<u32>, Option<Buf>), Cause> {
    let mut first = None;
    let mut name = None;
    if table.reads_names {
        let mut buf = worker.buffers.request();
        let head = listener.config.timeouts.head;
        timer.set_after(if worker.draining.get() { head.min(DRAIN_KEEP_ALIVE) } else { head });
        name = loop {
            match hello::read(buf.filled()) {
                Hello::Named(name) => break Some(name.into_owned()),
                Hello::Nameless => break None,
                Hello::Partial => {}
            }
            // Where there is no room it is nameless, and this is not reached.
            buf.make_room(HELLO_BYTES_MAX);
            match io::read(stream, timer, &mut buf).await {
                Ok(0) | Err(Broken::Failed) => return Err(Cause::ClientClosed),
                Ok(_) => {}
                Err(Broken::Timeout) => return Err(Cause::HeadTimeout),
            }
        };
        first = Some(buf);
    }
    let asked =
        Asked { method: &[], host: &[], path: &[], head: &[], target: &[], source: peer.address.ip(), server_name: name.as_deref() };
    let routes = listener.config.protocol.routes();
    let taken = table.find(routes, &asked).map(|number| table.follow(routes, number, worker.id, &mut worker.random.borrow_mut()));
    let slot = match taken {
        Some(Way::Pool(slot)) => Some(slot),
        // A checked route of a tcp listener leads to a pool.
        Some(Way::Own(_)) | None => listener.pool,
    };
    Ok((slot, first))
}

/// A connection to an endpoint of the pool; a refused one is tried elsewhere, because nothing was sent yet.
async fn reach(
    worker: &Rc<Worker>,
    timer: &Timer,
    trace: &Trace,
    slot: Option<u32>,
    stream: &TcpStream,
    peer: &Peer,
) -> Result<(Place, EndpointStream, Option<Pass>), Cause> {
    let slot = slot.ok_or(Cause::NoRoute)?;
    trace.pool(slot);
    let mut tried = Tried::default();
    let mut wish = Wish::default();
    let mut retries = 0;
    let mut pass = None;
    loop {
        if trace.first_attempt() {
            let snapshot = worker.snapshot();
            if let Some(pool) = pick::pool(&snapshot, slot) {
                stats::add(&pool.stats.shard(worker.id).requests, 1);
                wish.key = matches!(pool.config.balance, Balance::Maglev(_)).then(|| source_key(peer.address));
                if let Some(gate) = &pool.gate {
                    // Sessions have no latency that a bound could follow.
                    pass = Some(gate.enter().map_err(|shut| if shut == Shut::Breaker { Cause::CircuitOpen } else { Cause::Shed })?);
                }
                if let Some(sessions) = &pool.sessions {
                    wish.known = sessions.by_source(peer.address.ip(), worker::uptime().as_millis() as u64);
                }
            }
        }
        let place = pick::take(worker, timer, slot, wish, &tried, u64::MAX).await?;
        trace.place(&place, &worker.timers);
        place.state().requests_total.fetch_add(1, Ordering::Relaxed);
        place.state().connects_total.fetch_add(1, Ordering::Relaxed);
        trace.connecting(&worker.timers);
        timer.set_after(place.pool().config.timeouts.connect);
        let preamble = place.pool().config.proxy_protocol.map(|version| peer.preamble(version, stream.local()));
        let connected = {
            let mut connect = pin!(upstream::reach(worker, place.destination(preamble.as_deref())));
            poll_fn(|cx| match connect.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result.map(EndpointStream::Line)),
                Poll::Pending => timer.poll_expired(cx).map(|()| Err(Cause::ConnectTimeout)),
            })
            .await
        };
        trace.connected(false, &worker.timers);
        match connected {
            Ok(endpoint) => {
                place.latency_shard().record(trace.connect_us());
                if let Some(sessions) = &place.pool().sessions {
                    sessions.settle(place.index, wish.known, false, peer.address.ip(), worker::uptime().as_millis() as u64);
                }
                return Ok((place, endpoint, pass));
            }
            Err(cause) => {
                let shard = place.pool().stats.shard(worker.id);
                if cause.fault() == Fault::Endpoint {
                    place.failed();
                }
                let wanted = cause != Cause::Overload && place.pool().config.retry.on.contains(&RetryOn::ConnectFailed);
                if !wanted || retries >= place.pool().config.limits.retries_max || !pick::budget_allows(place.pool()) {
                    stats::add(&shard.failures, 1);
                    return Err(cause);
                }
                retries += 1;
                stats::add(&shard.retries, 1);
                tried.push(place.generation(), place.index);
            }
        }
    }
}
