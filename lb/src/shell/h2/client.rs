//! The task of a client's connection.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use weir_config::Protocol;

use super::session::Session;
use super::stream::VirtualStream;
use crate::h2::flood::Flood;
use crate::h2::machine::{Broken, Limits, Machine};
use crate::http1::Bounds;
use crate::shell::buffer::Buf;
use crate::shell::exchange::{self, Next};
use crate::shell::http::{Connection, DRAIN_KEEP_ALIVE};
use crate::shell::peer::Peer;
use crate::shell::stream::Stream;
use crate::shell::timer::Timer;
use crate::shell::worker::{Open, Worker};
use crate::snapshot::ListenerSnapshot;
use crate::stats;

/// How often a connection looks at itself.
const LOOK: Duration = Duration::from_secs(1);
/// Reads before the other connections of the worker, and this one's streams, get their turn.
const READS_PER_TURN: u32 = 8;
/// How long a client that was asked to make another connection may go on as if it had not heard, in milliseconds.
const LEAVE_PATIENCE_MS: u64 = 10_000;
/// After our last word: how long, and for how many bytes, the client may go on before the connection is cut. Closing with unread bytes would
/// reset the connection, and could take the last word with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Serves a connection to its end. `first`: what was read of it already.
pub(in crate::shell) async fn serve<S: Stream>(stream: S, first: Option<Buf>, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let Protocol::Http(http) = &listener.config.protocol else { return };
    let secure = stream.scheme() == "https";
    let limits = Limits { streams_max: http.limits.streams_max.get(), head_bytes_max: Bounds::from(&http.limits).head_bytes_max, secure };
    let server_name = stream.with_server_name(|name| name.map(Rc::from));
    let session = Rc::new(Session::new(Machine::new(limits), secure, server_name, stream.local()));
    let mut client = Client {
        stream,
        session,
        first,
        peer,
        timer: worker.timers.timer(),
        listener,
        worker,
        served: 0,
        idle_since_ms: 0,
        stalled_since_ms: None,
        has_begun: false,
        is_bulk: false,
        leaving_since_ms: None,
    };
    let flood = client.run().await;
    client.session.close();
    if let Some(flood) = flood {
        stats::add(&client.listener.stats.shard(client.worker.id).http2_given_up[flood as usize], 1);
    }
    drop(open);
}

/// A client, as its connection's task knows it.
struct Client<S> {
    stream: S,
    session: Rc<Session>,
    /// Read before it was known what is spoken here.
    first: Option<Buf>,
    peer: Peer,
    timer: Timer,
    listener: Arc<ListenerSnapshot>,
    worker: Rc<Worker>,
    served: u32,
    /// Since when nothing is asked for.
    idle_since_ms: u64,
    /// Since when the client takes nothing of what is there for it.
    stalled_since_ms: Option<u64>,
    has_begun: bool,
    /// What was received last filled its buffer.
    is_bulk: bool,
    /// Since when it is asked to make another connection.
    leaving_since_ms: Option<u64>,
}

enum Event {
    Look,
    Broken(Broken),
    /// Nothing more comes of it.
    Over,
    /// The client is gone.
    Closed,
}

impl<S: Stream> Client<S> {
    /// `Some`: the client was given up, for this.
    async fn run(&mut self) -> Option<Flood> {
        self.idle_since_ms = self.worker.timers.now_us() / 1000;
        self.timer.set_after(self.listener.config.timeouts.head);
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Event::Look if !self.has_begun => return None,
                Event::Look => {
                    self.timer.set_after(LOOK);
                    match self.look() {
                        Some(Event::Over) => {
                            self.say_goodbye().await;
                            return None;
                        }
                        Some(_) => return Some(Flood::Stalled),
                        None => {}
                    }
                }
                Event::Broken(broken) => {
                    tracing::debug!(listener = %self.listener.name(), ?broken, "a connection over HTTP/2 broke");
                    self.say_goodbye().await;
                    return Some(broken.flood);
                }
                Event::Over => {
                    self.say_goodbye().await;
                    return None;
                }
                Event::Closed => return None,
            }
        }
    }

    /// Reads and sends what can be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.session.begin_turn(cx);
        loop {
            match self.poll_receive(cx) {
                Poll::Ready(Ok(None)) => return Poll::Ready(Event::Closed),
                Poll::Ready(Ok(Some(broken))) => return Poll::Ready(Event::Broken(broken)),
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
                Poll::Pending => {}
            }
            let was_deaf = self.session.drive(|machine| machine.is_deaf());
            if matches!(self.poll_send(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Event::Closed);
            }
            self.dispatch();
            if self.session.drive(|machine| machine.is_over()) {
                return Poll::Ready(Event::Over);
            }
            if !was_deaf || self.session.drive(|machine| machine.is_deaf()) {
                return self.timer.poll_expired(cx).map(|()| Event::Look);
            }
        }
    }

    /// Receives until nothing is there. `None`: the client closed. `Some`: it must go.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Broken>>> {
        let buffers = &self.worker.buffers;
        let mut buf = self.first.take().unwrap_or_else(|| if self.is_bulk { buffers.bulk() } else { buffers.small() });
        let mut reads = 0;
        while !self.session.drive(|machine| machine.is_deaf()) {
            if buf.is_empty() {
                let room = buf.spare().len();
                match self.stream.receive(buf.spare()) {
                    Ok(0) => return Poll::Ready(Ok(None)),
                    Ok(count) => {
                        self.is_bulk = count == room;
                        buf.add(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.stream.poll_read_ready(cx) {
                        Poll::Ready(ready) => {
                            ready?;
                            continue;
                        }
                        Poll::Pending => break,
                    },
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let now_ms = self.worker.timers.now_us() / 1000;
            let taken = self.session.drive(|machine| machine.receive(buf.filled(), now_ms));
            self.dispatch();
            if let Err(broken) = taken {
                return Poll::Ready(Ok(Some(broken)));
            }
            if !self.has_begun && self.session.drive(|machine| machine.has_begun()) {
                self.has_begun = true;
                self.timer.set_after(LOOK);
                // Parked: a drain makes it expire at once.
                self.timer.set_parked(true);
            }
            buf.clear();
            reads += 1;
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if !buf.is_empty() {
            self.first = Some(buf);
        }
        Poll::Pending
    }

    /// Sends what there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send_all(cx);
        match sent {
            Poll::Ready(_) => self.stalled_since_ms = None,
            Poll::Pending if self.stalled_since_ms.is_none() => self.stalled_since_ms = Some(self.worker.timers.now_us() / 1000),
            Poll::Pending => {}
        }
        sent
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self.session.drive(|machine| match machine.unsent() {
                [] => Ok(0),
                unsent => self.stream.send(unsent, &[]).inspect(|count| machine.flushed(*count)),
            });
            match sent {
                Ok(0) => return self.stream.poll_flush(cx),
                Ok(_) => self.stalled_since_ms = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.stream.poll_write_ready(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => return Poll::Pending,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Wakes the streams' tasks, and makes those that are missing.
    fn dispatch(&mut self) {
        let opened = self.session.dispatch(|slot| {
            let connection = Connection {
                stream: VirtualStream { session: Rc::clone(&self.session), slot },
                peer: self.peer.clone(),
                listener: Arc::clone(&self.listener),
                timer: self.worker.timers.timer(),
                served: 0,
                worker: Rc::clone(&self.worker),
            };
            tokio::task::spawn_local(serve_slot(connection));
        });
        if opened > 0 {
            self.served = self.served.saturating_add(opened);
            self.idle_since_ms = self.worker.timers.recent_ms();
            if let Some(now) = self.worker.listener(self.listener.slot) {
                self.listener = now;
            }
            self.leave_if_due();
        }
    }

    /// What must be done about a client now and then. `Some`: it is over, or given up.
    fn look(&mut self) -> Option<Event> {
        let now_ms = self.worker.timers.now_us() / 1000;
        let patience_ms = self.listener.config.timeouts.idle.as_millis() as u64;
        if self.stalled_since_ms.is_some_and(|since| now_ms >= since + patience_ms) {
            return Some(Event::Broken(Flood::Stalled.into()));
        }
        self.leave_if_due();
        if self.leaving_since_ms.is_some_and(|since| now_ms >= since + LEAVE_PATIENCE_MS) {
            self.session.with(Machine::take_no_more);
        }
        if self.session.drive(|machine| machine.used()) > 0 {
            self.idle_since_ms = now_ms;
        } else {
            let keep_alive = self.listener.config.timeouts.keep_alive;
            let wait = if self.leaving_since_ms.is_some() { keep_alive.min(DRAIN_KEEP_ALIVE) } else { keep_alive };
            if now_ms >= self.idle_since_ms + wait.as_millis() as u64 {
                if self.leaving_since_ms.is_some() {
                    // It had its time to go.
                    self.session.drive(Machine::take_no_more);
                    return Some(Event::Over);
                }
                self.idle_since_ms = now_ms;
                self.leave();
            }
        }
        self.session.dismiss_idle();
        self.session.drive(Machine::rest);
        None
    }

    /// Whether the client should make another connection; then it is told.
    fn leave_if_due(&mut self) {
        if self.leaving_since_ms.is_some() {
            return;
        }
        let now = self.worker.listener(self.listener.slot);
        let due = match now.as_ref().map(|now| &now.config.protocol) {
            Some(Protocol::Http(http)) => {
                let last = http.limits.requests_per_connection_max.is_some_and(|most| self.served >= most.get());
                last || !http.http2 || self.worker.draining.get()
            }
            _ => true,
        };
        if due {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.leaving_since_ms = Some(self.worker.timers.recent_ms());
        self.session.with(Machine::leave);
    }

    /// Sends what is left to be said, and lets the client read it before the connection goes.
    async fn say_goodbye(&mut self) {
        self.worker.timers.now_us();
        self.timer.set_after(LINGER);
        let said = poll_fn(|cx| match self.poll_send(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
            Poll::Pending => self.timer.poll_expired(cx).map(|()| false),
        })
        .await;
        if !said {
            return;
        }
        self.stream.shutdown_write();
        let mut buf = self.worker.buffers.small();
        let mut discarded = 0;
        while discarded < LINGER_BYTES {
            buf.clear();
            match crate::shell::io::read(&self.stream, &self.timer, &mut buf).await {
                Ok(count) if count > 0 => discarded += count,
                _ => break,
            }
        }
    }
}

/// Serves the requests that come to a slot, one after the other.
async fn serve_slot(mut connection: Connection<VirtualStream>) {
    let (session, slot) = (Rc::clone(&connection.stream.session), connection.stream.slot);
    while poll_fn(|cx| session.poll_request(slot, cx)).await {
        if session.drive(|machine| machine.is_gone(slot)) {
            session.with(|machine| machine.finish(slot, false));
            continue;
        }
        if session.drive(|machine| machine.wants_nonce(slot)) {
            let mut nonce = [0; 16];
            connection.worker.random.borrow_mut().fill(&mut nonce);
            session.drive(|machine| machine.give_nonce(slot, nonce));
        }
        connection.served = 0;
        connection.timer.set_after(connection.listener.config.timeouts.head);
        let next = exchange::run(&mut connection, None).await;
        session.with(|machine| machine.finish(slot, matches!(next, Next::Cut)));
    }
}
