//! A connection to an endpoint, whatever it is under. Plain ones cost a comparison for each step, nothing more.

use std::io;
use std::task::{Context, Poll};

use rustls::client::ClientConnection;
use tokio::net::TcpStream;

use super::io as wait;
use super::stream::Stream;
use super::tls::TlsStream;

/// A connection to an endpoint.
#[derive(Debug)]
pub(super) enum EndpointStream {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS.
    Tls(TlsStream<ClientConnection>),
}

impl EndpointStream {
    /// Nothing arrived since: the peer neither closed nor said something nobody asked for. Costs no system call while the socket is quiet.
    /// What TLS says for itself, such as a ticket, is taken.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let received = match self {
            EndpointStream::Plain(stream) => stream.try_read(&mut byte),
            EndpointStream::Tls(stream) => stream.receive(&mut byte),
        };
        matches!(received, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same connection on the runtime of the caller.
    pub(super) fn adopt(self) -> io::Result<EndpointStream> {
        let adopt = |stream: TcpStream| TcpStream::from_std(stream.into_std()?);
        match self {
            EndpointStream::Plain(stream) => adopt(stream).map(EndpointStream::Plain),
            EndpointStream::Tls(stream) => stream.try_map_socket(adopt).map(EndpointStream::Tls),
        }
    }
}

/// Calls the same on whichever it is.
macro_rules! each {
    ($of:expr, $stream:ident => $call:expr) => {
        match $of {
            EndpointStream::Plain($stream) => $call,
            EndpointStream::Tls($stream) => $call,
        }
    };
}

impl Stream for EndpointStream {
    fn scheme(&self) -> &'static str {
        each!(self, stream => stream.scheme())
    }

    #[inline]
    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.receive(room))
    }

    #[inline]
    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.send(first, second))
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Stream::poll_read_ready(stream, cx))
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Stream::poll_write_ready(stream, cx))
    }

    #[inline]
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    #[inline]
    fn is_readable(&self) -> bool {
        each!(self, stream => stream.is_readable())
    }

    fn shutdown_write(&self) {
        each!(self, stream => stream.shutdown_write());
    }

    fn farewell(&self) {
        each!(self, stream => stream.farewell());
    }

    fn abort(&self) {
        each!(self, stream => stream.abort());
    }

    fn is_open(&self) -> bool {
        match self {
            EndpointStream::Plain(stream) => wait::is_open(stream),
            // Bytes may be a ticket, but asking costs more than another connection.
            EndpointStream::Tls(stream) => wait::is_open(stream.socket()),
        }
    }

    #[inline]
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            EndpointStream::Plain(stream) => Some(stream),
            EndpointStream::Tls(_) => None,
        }
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(None)
    }
}
