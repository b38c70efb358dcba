//! A connection to an endpoint, whatever it is: plain ones cost a comparison for each step, nothing more.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use rustls::client::UnbufferedClientConnection;
use tokio::net::TcpStream;

use super::h2::{Call, CallFault};
use super::io as wait;
use super::stream::Stream;
use super::tls::TlsStream;

/// A socket to an endpoint.
#[derive(Debug)]
pub(super) enum Line {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS.
    Tls(TlsStream<UnbufferedClientConnection>),
}

impl Line {
    /// Nothing arrived since: the peer neither closed nor said something nobody asked for. Costs no system call while the socket is quiet.
    /// What TLS says for itself, such as a ticket, is taken.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let received = match self {
            Line::Plain(stream) => stream.try_read(&mut byte),
            Line::Tls(stream) => stream.receive(&mut byte),
        };
        matches!(received, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same connection on the runtime of the caller.
    pub(super) fn adopt(self) -> io::Result<Line> {
        let adopt = |stream: TcpStream| TcpStream::from_std(stream.into_std()?);
        match self {
            Line::Plain(stream) => adopt(stream).map(Line::Plain),
            Line::Tls(stream) => stream.try_map_socket(adopt).map(Line::Tls),
        }
    }
}

/// Calls the same on whichever it is.
macro_rules! each {
    ($of:expr, $stream:ident => $call:expr) => {
        match $of {
            Line::Plain($stream) => $call,
            Line::Tls($stream) => $call,
        }
    };
}

impl Stream for Line {
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
            Line::Plain(stream) => wait::is_open(stream),
            // Bytes may be a ticket, but asking costs more than another connection.
            Line::Tls(stream) => wait::is_open(stream.socket()),
        }
    }

    #[inline]
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            Line::Plain(stream) => Some(stream),
            Line::Tls(_) => None,
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        each!(self, stream => stream.local())
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(None)
    }
}

/// What carries a request to an endpoint.
#[derive(Debug)]
pub(super) enum EndpointStream {
    /// A connection for this request alone, as long as it lasts.
    Line(Line),
    /// A stream beside others.
    Http2(Box<Call>),
}

impl EndpointStream {
    /// What there is to say about the request once something failed.
    pub(super) fn fault(&self) -> Option<CallFault> {
        match self {
            EndpointStream::Line(_) => None,
            EndpointStream::Http2(call) => call.fault(),
        }
    }
}

macro_rules! either {
    ($of:expr, $stream:ident => $call:expr) => {
        match $of {
            EndpointStream::Line($stream) => $call,
            EndpointStream::Http2($stream) => $call,
        }
    };
}

impl Stream for EndpointStream {
    fn scheme(&self) -> &'static str {
        either!(self, stream => stream.scheme())
    }

    #[inline]
    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.receive(room))
    }

    #[inline]
    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.send(first, second))
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read_ready(cx))
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(cx))
    }

    #[inline]
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    #[inline]
    fn is_readable(&self) -> bool {
        either!(self, stream => stream.is_readable())
    }

    fn shutdown_write(&self) {
        either!(self, stream => stream.shutdown_write());
    }

    fn farewell(&self) {
        either!(self, stream => stream.farewell());
    }

    fn abort(&self) {
        either!(self, stream => stream.abort());
    }

    fn is_open(&self) -> bool {
        either!(self, stream => stream.is_open())
    }

    #[inline]
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            EndpointStream::Line(line) => line.plain(),
            EndpointStream::Http2(_) => None,
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        either!(self, stream => stream.local())
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(None)
    }
}
