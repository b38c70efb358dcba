//! A client's handshake. Whoever only connects costs a socket; the session is made at the first byte.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustix::net::RecvFlags;
use rustls::server::UnbufferedServerConnection;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::shell::peer::Peer;
use crate::shell::timer::Timer;
use crate::shell::worker::{Open, Worker};
use crate::shell::{h2, http, io as wait};
use crate::snapshot::ListenerSnapshot;
use crate::stats::{self, Handshake};
use crate::tls::Acceptor;

use super::TlsStream;

/// Serves a connection that begins with a handshake.
pub(in crate::shell) async fn serve(stream: TcpStream, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let shard = listener.stats.shard(worker.id);
    let ended = |how: Handshake| stats::add(&shard.handshakes[how as usize], 1);
    let Some(acceptor) = worker.tls.acceptor(listener.name()) else { return };
    // Boxed: of no more use once it is done, and the connection may live for hours.
    match Box::pin(accept(&worker, stream, &listener, &acceptor)).await {
        Ok(stream) => {
            ended(if stream.is_resumed() { Handshake::Resumed } else { Handshake::Full });
            if stream.is_http2() {
                Box::pin(h2::serve(stream, None, peer, listener, open)).await;
            } else if !stream.is_challenge() {
                http::serve(stream, peer, listener, open).await;
            }
        }
        Err(how) => ended(how),
    }
}

async fn accept(
    worker: &Rc<Worker>,
    stream: TcpStream,
    listener: &ListenerSnapshot,
    acceptor: &Acceptor,
) -> Result<TlsStream<UnbufferedServerConnection>, Handshake> {
    let timer = worker.timers.timer();
    worker.timers.now_us();
    let head = listener.config.timeouts.head;
    timer.set_after(if worker.draining.get() { head.min(http::DRAIN_KEEP_ALIVE) } else { head });
    // Whoever only connects costs a socket, and does not hold up a drain.
    timer.set_parked(true);
    let first = first_byte(&stream, &timer).await;
    timer.set_parked(false);
    first.map_err(|broken| match broken {
        wait::Broken::Timeout => Handshake::TimedOut,
        wait::Broken::Failed => Handshake::Failed,
    })?;
    let _under_way = UnderWay::begin(worker, acceptor.handshakes_max).ok_or(Handshake::Refused)?;
    let session = UnbufferedServerConnection::new(acceptor.config()).map_err(|_| Handshake::Failed)?;
    let stream = TlsStream::new(stream, session);
    let shaken = poll_fn(|cx| match stream.poll_handshake(&worker.timers, cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|error| {
            tracing::debug!(listener = %listener.name(), %error, "a TLS handshake failed");
            Handshake::Failed
        })),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(Handshake::TimedOut)),
    });
    shaken.await.map(|()| stream)
}

/// Waits until there is a byte, or the end, and leaves it there. The reactor takes a new socket for readable until it was asked in vain.
async fn first_byte(stream: &TcpStream, timer: &Timer) -> Result<(), wait::Broken> {
    loop {
        wait::readable(stream, timer).await?;
        let peeked = stream.try_io(Interest::READABLE, || Ok(rustix::net::recv(stream, &mut [0; 1], RecvFlags::PEEK)?));
        match peeked {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Counts a handshake as long as it is under way.
struct UnderWay<'a>(&'a Worker);

impl<'a> UnderWay<'a> {
    fn begin(worker: &'a Worker, most: u32) -> Option<UnderWay<'a>> {
        if worker.handshakes.get() >= most {
            return None;
        }
        worker.handshakes.set(worker.handshakes.get() + 1);
        Some(UnderWay(worker))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
    }
}
