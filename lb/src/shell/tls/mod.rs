//! Connections under TLS: the handshake, then bytes through rustls.
//!
//! ```text
//!   accepted (socket alone) ──first byte──► handshake (counted, bounded) ──► http::serve          accept
//!   connected to an endpoint ────────────► handshake (certificate checked) ──► exchange, tunnel    connect
//! ```
//!
//! The session lives in a box beside the socket. Between two requests it holds no plaintext and no ciphertext, only its state and the
//! four KiB that rustls reads records into.

mod accept;
mod connect;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnection, ClientConnectionData};
use rustls::server::{ServerConnection, ServerConnectionData};
use rustls::{ConnectionCommon, HandshakeKind, SideData};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::io::{self as wait, receive, send};
use super::stream::Stream;

pub(super) use accept::serve;
pub(super) use connect::{Unreached, connect};

/// Plaintext that rustls may take before it is with the kernel: what is written at once becomes as few records as can be.
const UNSENT_MAX: usize = 64 * 1024;

/// Our end of a session: with a client or with an endpoint.
pub(super) trait Session: DerefMut<Target = ConnectionCommon<Self::Side>> + fmt::Debug + Unpin + 'static {
    /// What rustls keeps for this end alone.
    type Side: SideData;

    /// What the peer asked for.
    fn server_name(&self) -> Option<&str>;
}

impl Session for ServerConnection {
    type Side = ServerConnectionData;

    fn server_name(&self) -> Option<&str> {
        ServerConnection::server_name(self)
    }
}

impl Session for ClientConnection {
    type Side = ClientConnectionData;

    fn server_name(&self) -> Option<&str> {
        None
    }
}

/// A connection whose bytes go through rustls.
pub(super) struct TlsStream<C> {
    tcp: TcpStream,
    session: Box<RefCell<C>>,
}

impl<C> fmt::Debug for TlsStream<C> {
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

impl<C: Session> TlsStream<C> {
    fn new(tcp: TcpStream, mut session: C) -> TlsStream<C> {
        session.set_buffer_limit(Some(UNSENT_MAX));
        TlsStream { tcp, session: Box::new(RefCell::new(session)) }
    }

    /// No certificate was shown: both sides knew each other from before.
    pub(super) fn is_resumed(&self) -> bool {
        self.session.borrow().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The two sides agreed on HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.session.borrow().alpn_protocol() == Some(b"h2")
    }

    /// The two sides agreed on an authority's challenge, which is over with the handshake.
    pub(super) fn is_challenge(&self) -> bool {
        self.session.borrow().alpn_protocol() == Some(crate::tls::challenge::PROTOCOL)
    }

    /// The socket, whose bytes are records.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// The same session over the same socket, once that belongs to another runtime.
    pub(super) fn try_map_socket(self, map: impl FnOnce(TcpStream) -> io::Result<TcpStream>) -> io::Result<TlsStream<C>> {
        Ok(TlsStream { tcp: map(self.tcp)?, session: self.session })
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
    fn push(&self, session: &mut C) -> io::Result<bool> {
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

impl<C: Session> Stream for TlsStream<C> {
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
