//! Connections under TLS: the handshake, then bytes through rustls.
//!
//! ```text
//!   accepted (socket alone) ──first byte──► handshake (counted, bounded) ──► http::serve          accept
//!   connected to an endpoint ────────────► handshake (certificate checked) ──► exchange, tunnel    connect
//! ```
//!
//! The session lives in a box beside the socket. Between two requests it holds no plaintext and no ciphertext, only its state: records are
//! made and opened in buffers that belong to the thread (`link`).

mod accept;
mod connect;
mod link;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use rustls::HandshakeKind;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::io::{self as wait, receive, send};
use super::stream::Stream;
use super::timer::Timers;
use link::{Link, Session};

pub(super) use accept::serve;
pub(super) use connect::{Unreached, connect};

/// A connection whose bytes go through rustls.
pub(super) struct TlsStream<C> {
    tcp: TcpStream,
    link: Box<RefCell<Link<C>>>,
}

impl<C> fmt::Debug for TlsStream<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl<C: Session> TlsStream<C> {
    fn new(tcp: TcpStream, session: C) -> TlsStream<C> {
        TlsStream { tcp, link: Box::new(RefCell::new(Link::new(session))) }
    }

    /// No certificate was shown: both sides knew each other from before.
    pub(super) fn is_resumed(&self) -> bool {
        self.link.borrow().session().common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The two sides agreed on HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.link.borrow().session().common().alpn_protocol() == Some(b"h2")
    }

    /// The two sides agreed on an authority's challenge, which is over with the handshake.
    pub(super) fn is_challenge(&self) -> bool {
        self.link.borrow().session().common().alpn_protocol() == Some(crate::tls::challenge::PROTOCOL)
    }

    /// The socket, whose bytes are records.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// The same session over the same socket, once that belongs to another runtime.
    pub(super) fn try_map_socket(self, map: impl FnOnce(TcpStream) -> io::Result<TcpStream>) -> io::Result<TlsStream<C>> {
        Ok(TlsStream { tcp: map(self.tcp)?, link: self.link })
    }

    /// The keys of the one or the other side may be long.
    fn poll_handshake(&self, timers: &Timers, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _long = timers.long_piece();
        let mut link = self.link.borrow_mut();
        loop {
            while !link.push(|records| send(&self.tcp, records))? {
                ready!(self.tcp.poll_write_ready(cx))?;
            }
            // The alert that says why went out just now; a peer that takes no more does not hear it.
            if link.is_agreed()? {
                return Poll::Ready(Ok(()));
            }
            match link.fill(&mut [], |space| receive(&self.tcp, space)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.tcp.poll_read_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<C: Session> Stream for TlsStream<C> {
    fn scheme(&self) -> &'static str {
        "https"
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut link = self.link.borrow_mut();
        let received = link.receive(room, |space| receive(&self.tcp, space));
        // An answer to a key update, or the alert that tells the peer what it did. What does not go out now goes with the next bytes.
        let _ = link.push(|records| send(&self.tcp, records));
        received
    }

    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.link.borrow_mut().send(first, second, |records| send(&self.tcp, records))
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.borrow().has_news() { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.borrow_mut();
        while !link.push(|records| send(&self.tcp, records))? {
            ready!(self.tcp.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_readable(&self) -> bool {
        self.link.borrow().has_news() || self.tcp.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn shutdown_write(&self) {
        self.farewell();
        self.tcp.shutdown_write();
    }

    fn farewell(&self) {
        // A peer that takes no more does not hear it.
        let _ = self.link.borrow_mut().end(|records| send(&self.tcp, records));
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
        show(self.link.borrow().server_name())
    }
}
