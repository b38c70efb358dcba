//! A TCP session: a client, an endpoint, and the bytes between them.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::net::TcpStream;
use weir_config::Balance;

use crate::cause::{Cause, Fault};
use crate::snapshot::ListenerSnapshot;
use crate::stats;

use super::exchange::{InFlight, connect_cause, source_key};
use super::peer::Peer;
use super::pick::{self, Place, Tried};
use super::stream::Stream;
use super::timer::Timer;
use super::trace::Trace;
use super::tunnel::{self, Moved};
use super::upstream;
use super::worker::{Open, Worker};

pub(super) async fn serve(stream: TcpStream, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let timer = worker.timers.timer();
    let trace = Trace::new(false);
    trace.begin(&worker);
    trace.head_complete(&worker.timers);
    let _in_flight = InFlight::new(&worker);
    match reach(&worker, &timer, &trace, &listener, &stream, &peer).await {
        Ok((place, endpoint)) => {
            place.succeeded();
            place.state().sessions.fetch_add(1, Ordering::Relaxed);
            let moved = Moved::default();
            let idle = listener.config.timeouts.tunnel;
            let end = tunnel::run(&worker, &stream, &endpoint, [None, None], &timer, idle, &moved).await;
            place.state().sessions.fetch_sub(1, Ordering::Relaxed);
            trace.add_request_bytes(moved.up.get());
            trace.add_response_bytes(moved.down.get());
            trace.add_sent_bytes(moved.down.get());
            trace.finish_tunnel(&worker, &listener, peer.address, &end);
        }
        Err(cause) => trace.finish(&worker, &listener, peer.address, cause, None, &[]),
    }
}

/// A connection to an endpoint of the listener's pool; a refused one is tried elsewhere, because nothing was sent yet.
async fn reach(
    worker: &Rc<Worker>,
    timer: &Timer,
    trace: &Trace,
    listener: &ListenerSnapshot,
    stream: &TcpStream,
    peer: &Peer,
) -> Result<(Place, TcpStream), Cause> {
    let slot = listener.pool.ok_or(Cause::NoRoute)?;
    trace.pool(slot);
    let mut tried = Tried::default();
    let mut key = None;
    let mut retries = 0;
    loop {
        if trace.first_attempt() {
            let snapshot = worker.snapshot();
            if let Some(pool) = pick::pool(&snapshot, slot) {
                stats::add(&pool.stats.shard(worker.id).requests, 1);
                key = matches!(pool.config.balance, Balance::Maglev(_)).then(|| source_key(peer.address));
            }
        }
        let place = pick::take(worker, timer, slot, key, &tried, u64::MAX).await?;
        trace.place(&place, &worker.timers);
        place.state().requests_total.fetch_add(1, Ordering::Relaxed);
        place.state().connects_total.fetch_add(1, Ordering::Relaxed);
        trace.connecting(&worker.timers);
        timer.set_after(place.pool().config.timeouts.connect);
        let preamble = place.pool().config.proxy_protocol.map(|version| peer.preamble(version, stream.local()));
        let mut connect = pin!(upstream::connect(place.address, preamble.as_deref()));
        let connected = poll_fn(|cx| match connect.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(|error| connect_cause(&error))),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(Cause::ConnectTimeout)),
        })
        .await;
        trace.connected(false, &worker.timers);
        match connected {
            Ok(endpoint) => {
                place.latency_shard().record(trace.connect_us());
                return Ok((place, endpoint));
            }
            Err(cause) => {
                let shard = place.pool().stats.shard(worker.id);
                if cause.fault() == Fault::Endpoint {
                    place.failed();
                }
                if retries >= place.pool().config.limits.retries_max || cause == Cause::Overload {
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
