//! A client's connection under TLS: the handshake, then bytes through rustls.
//!
//! ```text
//!   accepted (socket alone) ──first byte──► handshake (counted, bounded) ──► http::serve
//! ```
//!
//! The session lives in a box beside the socket. Between two requests it holds no plaintext and no ciphertext, only its state and the
//! four KiB that rustls reads records into.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use rustls::{HandshakeKind, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::snapshot::ListenerSnapshot;
use crate::stats::{self, Handshake};
use crate::tls::Acceptor;

use super::h2;
use super::http;
use super::io::{self as wait, receive, send};
use super::peer::Peer;
use super::stream::Stream;
use super::timer::Timer;
use super::worker::{Open, Worker};

/// Plaintext that rustls may take before it is with the kernel: what is written at once becomes as few records as can be.
const UNSENT_MAX: usize = 64 * 1024;

/// Serves a connection that begins with a handshake.
pub(super) async fn serve(stream: TcpStream, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    let worker = Rc::clone(&open.worker);
    let shard = listener.stats.shard(worker.id);
    let ended = |how: Handshake| stats::add(&shard.handshakes[how as usize], 1);
    let Some(acceptor) = worker.tls.acceptor(listener.name()) else { return };
    // Boxed: of no more use once it is done, and the connection may live for hours.
    match Box::pin(accept(&worker, stream, &listener, &acceptor)).await {
        Ok(stream) => {
            ended(match stream.session.borrow().handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            });
            let is_http2 = stream.session.borrow().alpn_protocol() == Some(b"h2");
            if is_http2 {
                Box::pin(h2::serve(stream, None, peer, listener, open)).await;
            } else {
                http::serve(stream, peer, listener, open).await;
            }
        }
        Err(how) => ended(how),
    }
}

async fn accept(worker: &Rc<Worker>, stream: TcpStream, listener: &ListenerSnapshot, acceptor: &Acceptor) -> Result<TlsStream, Handshake> {
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
    let stream = TlsStream::new(stream, acceptor).ok_or(Handshake::Failed)?;
    let shaken = poll_fn(|cx| match stream.poll_handshake(cx) {
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

/// A connection whose bytes go through rustls.
pub(super) struct TlsStream {
    tcp: TcpStream,
    session: Box<RefCell<ServerConnection>>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// The socket as rustls reads and writes it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        receive(self.0, room)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(self.0, bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [one] => send(self.0, one),
            many => self.0.try_write_vectored(many),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    fn new(tcp: TcpStream, acceptor: &Acceptor) -> Option<TlsStream> {
        let mut session = ServerConnection::new(acceptor.config()).ok()?;
        session.set_buffer_limit(Some(UNSENT_MAX));
        Some(TlsStream { tcp, session: Box::new(RefCell::new(session)) })
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        loop {
            while session.wants_write() {
                match session.write_tls(&mut Socket(&self.tcp)) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.tcp.poll_write_ready(cx))?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match session.read_tls(&mut Socket(&self.tcp)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {
                    if let Err(error) = session.process_new_packets() {
                        // The alert says why; a peer that takes no more does not hear it.
                        let _ = session.write_tls(&mut Socket(&self.tcp));
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.tcp.poll_read_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Hands to the kernel what it takes. Whether that was all.
    fn push(&self, session: &mut ServerConnection) -> io::Result<bool> {
        while session.wants_write() {
            match session.write_tls(&mut Socket(&self.tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn has_plaintext(&self) -> bool {
        // With nothing new to look at, this only tells what is there; an error shows when it is received.
        self.session.borrow_mut().process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }
}

impl Stream for TlsStream {
    fn scheme(&self) -> &'static str {
        "https"
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Bytes, the orderly end (0), or an end that nobody announced.
                received => return received,
            }
            session.read_tls(&mut Socket(&self.tcp))?;
            let processed = session.process_new_packets();
            // An answer to a key update, or the alert that tells the peer what it did. What does not go out now goes with the next bytes.
            let _ = self.push(&mut session);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        if !self.push(&mut session)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = session.writer().write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?;
        self.push(&mut session)?;
        Ok(taken)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_plaintext() { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        while !self.push(&mut session)? {
            ready!(self.tcp.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_readable(&self) -> bool {
        self.has_plaintext() || self.tcp.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn shutdown_write(&self) {
        self.farewell();
        self.tcp.shutdown_write();
    }

    fn farewell(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        // A peer that takes no more does not hear it.
        let _ = self.push(&mut session);
    }

    fn abort(&self) {
        wait::reset(&self.tcp);
    }

    fn is_open(&self) -> bool {
        wait::is_open(&self.tcp)
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn local(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(self.session.borrow().server_name())
    }
}
