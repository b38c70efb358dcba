//! A client's HTTP/1.1 connection: request after request.
//!
//! ```text
//!   parked (no buffers) ──readable──► exchange (boxed) ──► parked | closing | closed
//! ```
//!
//! Between two requests a connection is this small task and its socket. All that a request needs is in the exchange's box.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::ListenerSnapshot;

use super::exchange::{self, Next};
use super::h2;
use super::io;
use super::peer::Peer;
use super::stream::Stream;
use super::timer::Timer;
use super::worker::{Open, Worker};

/// After our last word: how long, and for how many bytes, the client may go on before the connection is cut. Closing with unread bytes
/// would reset the connection and could take our answer with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
/// How long a connection may be idle while the node drains.
pub(super) const DRAIN_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A client's connection, as long as it lives.
#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) stream: S,
    pub(super) peer: Peer,
    /// As it was at the last request; used on when the listener is gone.
    pub(super) listener: Arc<ListenerSnapshot>,
    pub(super) timer: Timer,
    /// Requests served.
    pub(super) served: u32,
    pub(super) worker: Rc<Worker>,
}

pub(super) async fn serve<S: Stream>(stream: S, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let timer = open.worker.timers.timer();
    let worker = Rc::clone(&open.worker);
    let mut connection = Connection { stream, peer, listener, timer, served: 0, worker };
    let mut pending = None;
    loop {
        if pending.is_none() && park(&connection).await.is_err() {
            connection.stream.farewell();
            break;
        }
        match Box::pin(exchange::run(&mut connection, pending.take())).await {
            Next::Request(rest) => pending = rest,
            Next::Linger => {
                Box::pin(linger(&connection)).await;
                break;
            }
            Next::Close => {
                connection.stream.farewell();
                break;
            }
            Next::Cut => {
                connection.stream.abort();
                break;
            }
            Next::Http2(first) => {
                let Connection { stream, peer, listener, .. } = connection;
                return Box::pin(h2::serve(stream, Some(first), peer, listener, open)).await;
            }
        }
    }
    drop(open);
}

/// Waits for the next request without a buffer.
async fn park<S: Stream>(connection: &Connection<S>) -> Result<(), io::Broken> {
    let timeouts = &connection.listener.config.timeouts;
    let mut wait = if connection.served == 0 { timeouts.head } else { timeouts.keep_alive };
    if connection.served == 0 {
        connection.worker.timers.now_us();
    }
    if connection.worker.draining.get() {
        wait = wait.min(DRAIN_KEEP_ALIVE);
    }
    connection.timer.set_after(wait);
    connection.timer.set_parked(true);
    let ready = io::readable(&connection.stream, &connection.timer).await;
    connection.timer.set_parked(false);
    ready
}

/// Lets the client read our last answer before the connection goes.
async fn linger<S: Stream>(connection: &Connection<S>) {
    connection.stream.shutdown_write();
    connection.worker.timers.now_us();
    connection.timer.set_after(LINGER);
    let mut buf = connection.worker.buffers.small();
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        buf.clear();
        match io::read(&connection.stream, &connection.timer, &mut buf).await {
            Ok(count) if count > 0 => discarded += count,
            _ => break,
        }
    }
}
