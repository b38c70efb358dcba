//! Connections over HTTP/2 to endpoints: many requests at once on few of them.
//!
//! ```text
//!   request ──► a connection with room ──► call
//!           └─► none: wait for one that is being opened, by a task of its own ──► task that drives it to its end
//! ```
//!
//! They belong to one worker. The first that has room is used, so that those which a burst needed fall idle and go.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::h2::client::{self, SendRequest};
use ::h2::{Ping, PingPong};
use bytes::Bytes;

use super::call::Call;
use super::wire::{Peer, Wire};
use crate::cause::Cause;
use crate::endpoint::EndpointState;
use crate::http1::Bounds;
use crate::shell::endpoint::Line;
use crate::shell::pick::Place;
use crate::shell::timer::{Timer, Timers};
use crate::shell::upstream::{self, Destination};
use crate::shell::worker::Worker;
use crate::snapshot::PoolSnapshot;

/// Requests at once on one connection, if the endpoint takes as many. More would wait for each other in one socket.
const STREAMS_MAX: u32 = 100;
/// Bytes of a request that may wait for the socket.
const UNSENT_MAX: usize = 32 * 1024;
/// What an endpoint may send of a response before we ask for more. A connection gets as much for each of its streams: a client that does
/// not read must not hold up the others.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
const CONNECTION_WINDOW: u32 = STREAMS_MAX * (STREAM_WINDOW + 1);
/// How often a connection looks at itself.
const LOOK: Duration = Duration::from_secs(1);
/// An endpoint that says nothing for so long while requests wait for it is asked whether it lives.
const SILENCE_MS: u64 = 20_000;
/// And then not again for so long: servers of gRPC take pings in shorter order for an attack.
const PING_AGAIN_MS: u64 = 301_000;
/// It has so long to answer.
const PONG_MS: u64 = 10_000;

/// A worker's connections, by endpoint slot.
#[derive(Debug, Default)]
pub(in crate::shell) struct Links {
    lists: RefCell<Vec<List>>,
}

#[derive(Debug, Default)]
struct List {
    /// Held so that the slot cannot be given away while connections are in it.
    state: Option<Arc<EndpointState>>,
    links: Vec<Rc<Link>>,
    opening: Vec<Rc<Opening>>,
}

/// A connection.
pub(in crate::shell) struct Link {
    sender: SendRequest<Bytes>,
    /// For a request that names no host.
    authority: String,
    secure: bool,
    purge: u32,
    calls: Cell<u32>,
    idle_since_ms: Cell<u64>,
    keep_ms: u64,
    timers: Rc<Timers>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("authority", &self.authority).field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn enter(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.calls.set(self.calls.get() - 1);
        self.idle_since_ms.set(self.timers.recent_ms());
    }

    fn has_room(&self) -> bool {
        // One that allows none now may allow one soon; the request waits for it, and not for more connections.
        let most = self.sender.current_max_send_streams().clamp(1, STREAMS_MAX as usize);
        (self.calls.get() as usize) < most
    }
}

/// A connection that is being opened, and those who wait for it.
#[derive(Debug, Default)]
struct Opening {
    waiting: Cell<u32>,
    ended: Cell<Option<Result<(), Cause>>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Opening {
    fn end(&self, how: Result<(), Cause>) {
        self.ended.set(Some(how));
        self.wakers.take().into_iter().for_each(Waker::wake);
    }
}

impl Links {
    /// A call on a connection that the worker has to the place's endpoint, if one has room.
    pub(in crate::shell) fn take(&self, place: &Place) -> Option<Call> {
        let wanted = place.purge();
        self.list(place.state().slot, |list| {
            let mut found = None;
            list.links.retain(|link| {
                if found.is_some() || link.purge != wanted || !link.has_room() {
                    return true;
                }
                // Says at once whether the endpoint takes no more of them.
                let mut sender = link.sender.clone();
                match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(())) => found = Some(Call::new(Rc::clone(link), sender, link.secure)),
                    Poll::Ready(Err(_)) => return false,
                    Poll::Pending => {}
                }
                true
            });
            found
        })
    }

    /// The same, once one is opened that has room.
    ///
    /// # Errors
    /// None could be opened.
    pub(in crate::shell) async fn open(&self, worker: &Rc<Worker>, place: &Place) -> Result<Call, Cause> {
        loop {
            let opening = self.opening(worker, place);
            opening.waiting.set(opening.waiting.get() + 1);
            poll_fn(|cx| match opening.ended.get() {
                Some(how) => Poll::Ready(how),
                None => {
                    let mut wakers = opening.wakers.borrow_mut();
                    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                        wakers.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
            })
            .await?;
            // Others waited for it, too, and may have taken all its room.
            if let Some(call) = self.take(place) {
                return Ok(call);
            }
        }
    }

    /// Whether a connection must be opened for the place: none of those that are being opened has room.
    pub(in crate::shell) fn needs_another(&self, place: &Place) -> bool {
        self.list(place.state().slot, |list| !list.opening.iter().any(|opening| opening.waiting.get() < STREAMS_MAX))
    }

    fn list<R>(&self, slot: u32, of: impl FnOnce(&mut List) -> R) -> R {
        let (mut lists, slot) = (self.lists.borrow_mut(), slot as usize);
        if lists.len() <= slot {
            lists.resize_with(slot + 1, List::default);
        }
        of(&mut lists[slot])
    }

    /// One that is being opened and for which not too many wait, else another one.
    fn opening(&self, worker: &Rc<Worker>, place: &Place) -> Rc<Opening> {
        self.list(place.state().slot, |list| {
            if let Some(opening) = list.opening.iter().find(|opening| opening.waiting.get() < STREAMS_MAX) {
                return Rc::clone(opening);
            }
            let opening = Rc::<Opening>::default();
            list.opening.push(Rc::clone(&opening));
            list.state.get_or_insert_with(|| Arc::clone(place.state()));
            tokio::task::spawn_local(serve(Rc::clone(worker), Target::of(place), Rc::clone(&opening)));
            opening
        })
    }

    /// Lets go of what is idle for too long, or belongs to an endpoint that leaves. Requests under way end as they would have.
    pub(in crate::shell) fn sweep(&self, now_ms: u64) {
        for list in self.lists.borrow_mut().iter_mut() {
            let Some(state) = &list.state else { continue };
            let purge = state.purge.load(Ordering::Relaxed);
            list.links.retain(|link| {
                link.purge == purge && (link.calls.get() > 0 || now_ms < link.idle_since_ms.get().saturating_add(link.keep_ms))
            });
            if list.links.is_empty() && list.opening.is_empty() {
                *list = List::default();
            }
        }
    }
}

/// Where a connection goes. It outlives the request that it is opened for, and takes no place on the endpoint.
struct Target {
    pool: Arc<PoolSnapshot>,
    state: Arc<EndpointState>,
    address: SocketAddr,
    purge: u32,
}

impl Target {
    fn of(place: &Place) -> Target {
        Target { pool: place.shared_pool(), state: Arc::clone(place.state()), address: place.address, purge: place.purge() }
    }
}

/// A connection's task: opens it and drives it to its end.
async fn serve(worker: Rc<Worker>, target: Target, opening: Rc<Opening>) {
    let slot = target.state.slot;
    target.state.connects_total.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted::new(&target.state);
    let timer = worker.timers.timer();
    worker.timers.now_us();
    timer.set_after(target.pool.config.timeouts.connect);
    let opened = {
        let mut opened = Box::pin(establish(&worker, &target));
        poll_fn(|cx| match opened.as_mut().poll(cx) {
            Poll::Ready(opened) => Poll::Ready(opened),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(Cause::ConnectTimeout)),
        })
        .await
    };
    let links = &worker.upstreams.links;
    links.list(slot, |list| list.opening.retain(|other| !Rc::ptr_eq(other, &opening)));
    let (connection, link, peer) = match opened {
        Ok(opened) => opened,
        Err(cause) => return opening.end(Err(cause)),
    };
    links.list(slot, |list| {
        list.state.get_or_insert_with(|| Arc::clone(&target.state));
        list.links.push(Rc::clone(&link));
    });
    opening.end(Ok(()));
    let known = Rc::downgrade(&link);
    drop((link, opening, target));
    drive(&worker, connection, &peer, timer, &known).await;
    if let Some(link) = known.upgrade() {
        links.list(slot, |list| list.links.retain(|other| !Rc::ptr_eq(other, &link)));
    }
}

/// A connection as long as it is open or being opened.
struct Counted(Arc<EndpointState>);

impl Counted {
    fn new(state: &Arc<EndpointState>) -> Counted {
        state.links.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(state))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.links.fetch_sub(1, Ordering::Relaxed);
    }
}

type Connection = client::Connection<Wire<Line>, Bytes>;

/// Connects, and waits until the endpoint has said that it speaks HTTP/2, which is what it says first (RFC 9113 section 3.4).
async fn establish(worker: &Rc<Worker>, target: &Target) -> Result<(Connection, Rc<Link>, Rc<Peer>), Cause> {
    // Of no client in particular: a pool that announces clients does not speak HTTP/2.
    let to = Destination { pool: &target.pool, state: &target.state, address: target.address, preamble: None };
    let line = upstream::reach(worker, to).await?;
    let secure = matches!(line, Line::Tls(_));
    let (wire, peer) = Wire::new(line, Rc::clone(&worker.timers));
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(Bounds::RESPONSE.head_bytes_max as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(UNSENT_MAX);
    let refuse = |reason: String| {
        worker.warn_endpoint(&target.pool, &target.state, &reason);
        Cause::BadResponse
    };
    let shaken = builder.handshake::<_, Bytes>(wire).await;
    let (sender, mut connection) = shaken.map_err(|error| refuse(format!("it broke off before HTTP/2 began ({error})")))?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Err(ended.err())),
        Poll::Pending if peer.has_begun() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
    .map_err(|error| {
        let place = format!("[pool.{}]", target.pool.config.name);
        refuse(match error {
            _ if peer.is_other() => format!("it does not speak HTTP/2: correct its port, or remove `upstream_protocol` under {place}"),
            Some(error) => format!("it broke off before HTTP/2 began ({error}): correct `upstream_protocol` under {place}"),
            None => format!("it closed before HTTP/2 began: correct `upstream_protocol` under {place}"),
        })
    })?;
    let link = Link {
        sender,
        authority: target.state.address.to_string(),
        secure,
        purge: target.purge,
        calls: Cell::new(0),
        idle_since_ms: Cell::new(worker.timers.recent_ms()),
        keep_ms: target.pool.config.timeouts.keep_alive.as_millis() as u64,
        timers: Rc::clone(&worker.timers),
    };
    Ok((connection, Rc::new(link), peer))
}

/// Moves frames until the connection is over: when the endpoint ends it, when it is silent for too long, or when nobody needs it.
async fn drive(worker: &Worker, mut connection: Connection, peer: &Peer, timer: Timer, link: &Weak<Link>) {
    let mut pings = connection.ping_pong();
    let mut asked_ms: Option<u64> = None;
    let mut waits = false;
    loop {
        timer.set_after(LOOK);
        let ended = poll_fn(|cx| {
            if waits
                && let Some(pings) = &mut pings
                && pings.poll_pong(cx).is_ready()
            {
                waits = false;
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending => timer.poll_expired(cx).map(|()| None),
            }
        })
        .await;
        if let Some(ended) = ended {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection over HTTP/2 to an endpoint broke");
            }
            return;
        }
        let now_ms = worker.timers.now_us() / 1000;
        let silent_ms = now_ms.saturating_sub(peer.heard_ms());
        if waits {
            if asked_ms.is_some_and(|asked| now_ms >= asked + PONG_MS) && silent_ms >= PONG_MS {
                tracing::debug!("an endpoint did not answer a ping over HTTP/2");
                return;
            }
        } else if silent_ms >= SILENCE_MS && asked_ms.is_none_or(|asked| now_ms >= asked + PING_AGAIN_MS) && is_awaited(link) {
            waits = ask(pings.as_mut());
            asked_ms = Some(now_ms);
        }
    }
}

/// Whether requests are under way.
fn is_awaited(link: &Weak<Link>) -> bool {
    link.upgrade().is_some_and(|link| link.calls.get() > 0)
}

fn ask(pings: Option<&mut PingPong>) -> bool {
    pings.is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok())
}
