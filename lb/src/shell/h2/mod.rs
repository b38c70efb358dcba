//! HTTP/2. A client's connection: its streams are served as so many connections over HTTP/1.1 with one request each. To endpoints, in
//! `links` and `call`, it is the same the other way round.
//!
//! ```text
//!   socket ◄──► wire ◄──► h2 (frames, windows, compression) ◄──► stream ◄──► exchange
//! ```
//!
//! One task drives the connection, one each stream. What is not sent waits in bounded buffers: a client's windows, and no more than
//! [`UNSENT_MAX`] a stream.

mod call;
mod links;
mod stream;
mod wire;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::h2::server::{self, SendResponse};
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::Request;
use weir_config::Protocol;

use crate::h2::flood::Flood;
use crate::http1::Bounds;
use crate::snapshot::ListenerSnapshot;
use crate::stats;

pub(super) use self::call::{Call, CallFault};
pub(super) use self::links::Links;
use self::stream::{Origin, VirtualStream};
use self::wire::Wire;
use super::buffer::Buf;
use super::exchange;
use super::http::{Connection, DRAIN_KEEP_ALIVE};
use super::peer::Peer;
use super::stream::Stream;
use super::timer::Timer;
use super::worker::{Open, Worker};

/// Bytes of a stream's answer that may wait for the socket.
const UNSENT_MAX: usize = 32 * 1024;
/// What a client may send of a body before we ask for more: of one stream, and of all together.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How often a connection looks at itself.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a connection to its end. `first`: what was read of it already.
pub(super) async fn serve<S: Stream>(stream: S, first: Option<Buf>, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let Protocol::Http(http) = &listener.config.protocol else { return };
    let secure = stream.scheme() == "https";
    let server_name = stream.with_server_name(|name| name.map(Rc::from));
    let local = stream.local();
    let (wire, watch) = Wire::<S, wire::State>::new(stream, first, Rc::clone(&worker.timers));
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(http.limits.streams_max.get())
        .max_header_list_size(Bounds::from(&http.limits).head_bytes_max as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(UNSENT_MAX)
        .enable_connect_protocol();
    let timer = worker.timers.timer();
    worker.timers.now_us();
    timer.set_after(listener.config.timeouts.head);
    let mut handshake = Box::pin(builder.handshake::<_, Bytes>(wire));
    let shaken = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(connection) => Poll::Ready(connection.ok()),
        Poll::Pending => timer.poll_expired(cx).map(|()| None),
    });
    if let Some(connection) = shaken.await {
        let mut client = Client {
            peer,
            local,
            listener,
            timer,
            worker,
            secure,
            server_name,
            streams: Rc::default(),
            served: 0,
            idle_since_ms: 0,
            leaving: false,
        };
        let end = client.run(connection, &watch).await;
        if let Some(flood) = end {
            stats::add(&client.listener.stats.shard(client.worker.id).http2_given_up[flood as usize], 1);
        }
    } else if let Some(flood) = watch.flood.get() {
        stats::add(&listener.stats.shard(worker.id).http2_given_up[flood as usize], 1);
    }
    drop(open);
}

/// A client, as its connection's task knows it.
struct Client {
    peer: Peer,
    /// Our end of its connection.
    local: Option<SocketAddr>,
    listener: Arc<ListenerSnapshot>,
    timer: Timer,
    worker: Rc<Worker>,
    secure: bool,
    /// What the client asked for in its TLS handshake.
    server_name: Option<Rc<str>>,
    /// Streams being served.
    streams: Rc<Cell<u32>>,
    served: u32,
    /// Since when there is none.
    idle_since_ms: u64,
    /// GOAWAY was sent.
    leaving: bool,
}

#[allow(clippy::large_enum_variant)] // Lives on the stack, for a moment; a box would cost each request an allocation.
enum Event {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    Broken(::h2::Error),
    Look,
    Closed,
}

impl Client {
    /// `Some`: the client was given up, for this.
    async fn run<S: Stream>(
        &mut self,
        mut connection: server::Connection<Wire<S, wire::State>, Bytes>,
        watch: &wire::State,
    ) -> Option<Flood> {
        self.idle_since_ms = self.worker.timers.now_us() / 1000;
        loop {
            // Parked: a drain makes it expire at once.
            self.timer.set_after(LOOK);
            self.timer.set_parked(true);
            let event = poll_fn(|cx| match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Event::Request(request, respond)),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Event::Broken(error)),
                Poll::Ready(None) => Poll::Ready(Event::Closed),
                Poll::Pending => self.timer.poll_expired(cx).map(|()| Event::Look),
            })
            .await;
            self.timer.set_parked(false);
            match event {
                Event::Request(request, respond) => {
                    self.accept(request, respond);
                    if !self.leaving && self.must_leave() {
                        self.leaving = true;
                        connection.graceful_shutdown();
                    }
                }
                Event::Look => {
                    let now_ms = self.worker.timers.now_us() / 1000;
                    if watch.stalled_since_ms().is_some_and(|since| now_ms >= since + self.listener.config.timeouts.idle.as_millis() as u64)
                    {
                        return Some(Flood::Stalled);
                    }
                    if !self.leaving && self.must_leave() {
                        self.leaving = true;
                        connection.graceful_shutdown();
                    }
                    if self.is_over(now_ms) {
                        if self.leaving {
                            // It had its time to go.
                            return None;
                        }
                        self.leaving = true;
                        self.idle_since_ms = now_ms;
                        connection.graceful_shutdown();
                    }
                }
                Event::Broken(error) => {
                    tracing::debug!(listener = %self.listener.name(), %error, "a connection over HTTP/2 broke");
                    let flood = watch.flood.get().or_else(|| flood_of(&error, watch));
                    // The streams' tasks find out by themselves; the peer hears why.
                    let _ = poll_fn(|cx| match connection.poll_closed(cx) {
                        Poll::Ready(_) => Poll::Ready(()),
                        Poll::Pending => self.timer.poll_expired(cx),
                    })
                    .await;
                    return flood;
                }
                Event::Closed => return None,
            }
        }
    }

    /// Whether the client should make another connection.
    fn must_leave(&self) -> bool {
        let now = self.worker.listener(self.listener.slot);
        let Some(Protocol::Http(http)) = now.as_ref().map(|now| &now.config.protocol) else { return true };
        let last = http.limits.requests_per_connection_max.is_some_and(|most| self.served >= most.get());
        last || !http.http2 || self.worker.draining.get()
    }

    /// Whether nothing was asked for too long.
    fn is_over(&mut self, now_ms: u64) -> bool {
        if self.streams.get() > 0 {
            self.idle_since_ms = now_ms;
            return false;
        }
        let keep_alive = self.listener.config.timeouts.keep_alive;
        let wait = if self.leaving { keep_alive.min(DRAIN_KEEP_ALIVE) } else { keep_alive };
        now_ms >= self.idle_since_ms + wait.as_millis() as u64
    }

    /// Serves a stream in a task of its own.
    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.served = self.served.saturating_add(1);
        if let Some(now) = self.worker.listener(self.listener.slot) {
            self.listener = now;
        }
        self.idle_since_ms = self.worker.timers.recent_ms();
        let mut nonce = [0; 16];
        if request.method() == http::Method::CONNECT {
            self.worker.random.borrow_mut().fill(&mut nonce);
        }
        let origin = Origin { secure: self.secure, server_name: self.server_name.clone(), local: self.local };
        let stream = match VirtualStream::new(request, respond, origin, nonce) {
            Ok(stream) => stream,
            Err(mut respond) => {
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return;
            }
        };
        let mut connection = Connection {
            stream,
            peer: self.peer.clone(),
            listener: Arc::clone(&self.listener),
            timer: self.worker.timers.timer(),
            served: 0,
            worker: Rc::clone(&self.worker),
        };
        let streams = Rc::clone(&self.streams);
        streams.set(streams.get() + 1);
        tokio::task::spawn_local(async move {
            let next = exchange::run(&mut connection, None).await;
            connection.stream.end(&next);
            streams.set(streams.get() - 1);
        });
    }
}

/// What an error of the connection says about the client; `None`: it only went away.
fn flood_of(error: &::h2::Error, watch: &wire::State) -> Option<Flood> {
    let reason = error.reason().filter(|reason| *reason != Reason::NO_ERROR && !error.is_io() && !error.is_remote())?;
    // The library has bounds of its own, and says no more than that one was passed.
    Some(if reason == Reason::ENHANCE_YOUR_CALM { watch.suspect() } else { Flood::Protocol })
}
