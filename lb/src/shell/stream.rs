//! What a client's connection is to those who serve it: plain bytes, or bytes under TLS. Plain ones cost what they cost without this.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::io::{is_open, receive, reset, send};

/// A connection both of whose directions can be used at once, by one thread.
pub(super) trait Stream: Debug + Unpin + 'static {
    /// A stream of HTTP/2.
    const HTTP2: bool = false;

    /// What endpoints are told that the client spoke.
    fn scheme(&self) -> &'static str;

    /// Receives what is there; `WouldBlock`: nothing now.
    fn receive(&self, room: &mut [u8]) -> io::Result<usize>;
    /// Takes what can be sent of the first piece, then of the second.
    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize>;
    /// Ready when [`Stream::receive`] may find something.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when [`Stream::send`] may take something.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when all that was taken is with the kernel.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether [`Stream::receive`] may find something, without a system call.
    fn is_readable(&self) -> bool;
    /// Tells the peer that nothing more comes, without waiting.
    fn shutdown_write(&self);
    /// Tells it what must be told before the connection is closed.
    fn farewell(&self);
    /// Ready once the peer said that it wants no answer any more, where it can say so.
    #[inline]
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// Makes the peer see that what it got is not the whole.
    fn abort(&self);
    /// Asks whether the peer may still send.
    fn is_open(&self) -> bool;
    /// The socket, where its bytes are the connection's.
    fn plain(&self) -> Option<&TcpStream>;
    /// Our end of the connection.
    fn local(&self) -> Option<SocketAddr>;
    /// Shows the name that the client asked for in its TLS handshake, if it did.
    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R;
}

impl Stream for TcpStream {
    #[inline]
    fn scheme(&self) -> &'static str {
        "http"
    }

    #[inline]
    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        receive(self, room)
    }

    #[inline]
    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match (first.is_empty(), second.is_empty()) {
            (true, _) => send(self, second),
            (_, true) => send(self, first),
            _ => self.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
        }
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_read_ready(self, cx)
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_write_ready(self, cx)
    }

    #[inline]
    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn is_readable(&self) -> bool {
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn shutdown_write(&self) {
        // The peer may be gone already; then there is nobody to tell.
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
    }

    #[inline]
    fn farewell(&self) {}

    fn abort(&self) {
        reset(self);
    }

    fn is_open(&self) -> bool {
        is_open(self)
    }

    #[inline]
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn local(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    #[inline]
    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(None)
    }
}
