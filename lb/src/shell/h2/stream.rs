//! A stream of HTTP/2 as a connection over HTTP/1.1 that has one request after the other, each whole.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::session::Session;
use crate::h2::machine::Unanswerable;
use crate::shell::stream::Stream;

/// A slot of a client's connection. Whoever waits for it is woken by the connection's task, which knows the task of the slot and no other.
#[derive(Debug)]
pub(super) struct VirtualStream {
    pub(super) session: Rc<Session>,
    pub(super) slot: u32,
}

impl Stream for VirtualStream {
    const HTTP2: bool = true;

    fn scheme(&self) -> &'static str {
        if self.session.secure { "https" } else { "http" }
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        match self.session.with(|machine| machine.read(self.slot, room)) {
            Ok(Some(count)) => Ok(count),
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(broken(error)),
        }
    }

    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let sent = self.session.with(|machine| {
            let count = machine.write(self.slot, first)?;
            Ok(if count == first.len() { count + machine.write(self.slot, second)? } else { count })
        });
        match sent {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(count) => Ok(count),
            Err(error) => Err(broken(error)),
        }
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_readable() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.drive(|machine| machine.is_writable(self.slot)) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// What was taken is on its way; how much that may be is bounded.
    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.session.drive(|machine| machine.is_gone(self.slot)) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_readable(&self) -> bool {
        self.session.drive(|machine| machine.is_readable(self.slot))
    }

    fn shutdown_write(&self) {
        self.session.with(|machine| machine.end(self.slot));
    }

    fn farewell(&self) {}

    fn abort(&self) {
        self.session.with(|machine| machine.abort(self.slot));
    }

    fn is_open(&self) -> bool {
        true
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn local(&self) -> Option<SocketAddr> {
        self.session.local
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(self.session.server_name.as_deref())
    }
}

fn broken(error: Unanswerable) -> io::Error {
    match error {
        Unanswerable::Reset => io::ErrorKind::ConnectionReset.into(),
        Unanswerable::Unframed(_) => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
