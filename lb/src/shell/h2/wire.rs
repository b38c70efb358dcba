//! A connection to an endpoint as the frames' library reads and writes it, with an eye on what passes.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shell::stream::Stream;
use crate::shell::timer::Timers;

/// What the task of a connection to an endpoint asks about its wire.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// How the first frame begins, as far as it came.
    head: Cell<[u8; 9]>,
    have: Cell<usize>,
    is_other: Cell<bool>,
    heard_ms: Cell<u64>,
}

impl Peer {
    /// It speaks HTTP/2: the first thing it says are its settings (RFC 9113 section 3.4).
    pub(super) fn has_begun(&self) -> bool {
        self.have.get() == 9 && !self.is_other.get()
    }

    /// It speaks something else.
    pub(super) fn is_other(&self) -> bool {
        self.is_other.get()
    }

    /// When it said something last.
    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms.get()
    }

    /// These bytes came.
    ///
    /// # Errors
    /// It speaks something else.
    fn see(&self, bytes: &[u8], timers: &Timers) -> io::Result<()> {
        self.heard_ms.set(timers.recent_ms());
        let (have, mut head) = (self.have.get(), self.head.get());
        if have == head.len() || bytes.is_empty() {
            return Ok(());
        }
        let count = bytes.len().min(head.len() - have);
        head[have..have + count].copy_from_slice(&bytes[..count]);
        self.head.set(head);
        self.have.set(have + count);
        // A frame of settings that acknowledges none, on no stream.
        if have + count == head.len() && (head[3], head[4] & 1, &head[5..]) != (4, 0, &[0; 4]) {
            self.is_other.set(true);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        Ok(())
    }
}

pub(super) struct Wire<S> {
    stream: S,
    peer: Rc<Peer>,
    timers: Rc<Timers>,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S, timers: Rc<Timers>) -> (Wire<S>, Rc<Peer>) {
        let peer = Rc::<Peer>::default();
        (Wire { stream, peer: Rc::clone(&peer), timers }, peer)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.send(first, second) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.stream.poll_write_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Stream> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = room.filled().len();
        loop {
            match wire.stream.receive(room.initialize_unfilled()) {
                Ok(count) => {
                    room.advance(count);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(wire.stream.poll_read_ready(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(wire.peer.see(&room.filled()[before..], &wire.timers))
    }
}

impl<S: Stream> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bytes, &[])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pieces = pieces.iter().map(|piece| &**piece).filter(|piece| !piece.is_empty());
        let (first, second) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
        self.get_mut().poll_send(cx, first, second)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
