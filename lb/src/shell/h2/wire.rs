//! A connection as the frames' library reads and writes it, with an eye on what passes.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::h2::flood::{Flood, Watch};
use crate::shell::buffer::Buf;
use crate::shell::stream::Stream;
use crate::shell::timer::Timers;

/// Looks at what passes.
pub(super) trait Eye: std::fmt::Debug + Default + 'static {
    /// These bytes came.
    ///
    /// # Errors
    /// No more of them are wanted.
    fn see(&self, bytes: &[u8], timers: &Timers) -> io::Result<()>;

    /// The peer took something, or there is nothing it could take.
    fn moved(&self) {}

    /// The peer takes nothing now.
    fn stuck(&self, _: &Timers) {}
}

/// What the task of a client's connection asks about its wire.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Why it was cut.
    pub(super) flood: Cell<Option<Flood>>,
    watch: RefCell<Watch>,
    /// Since when the client takes nothing, plus one; 0: it does, or nothing is there to take.
    stalled_ms: Cell<u64>,
}

impl State {
    /// What the client sent most of that it should not.
    pub(super) fn suspect(&self) -> Flood {
        self.watch.borrow().suspect()
    }

    pub(super) fn stalled_since_ms(&self) -> Option<u64> {
        self.stalled_ms.get().checked_sub(1)
    }
}

impl Eye for State {
    fn see(&self, bytes: &[u8], timers: &Timers) -> io::Result<()> {
        self.watch.borrow_mut().look(bytes, timers.recent_ms()).map_err(|flood| {
            self.flood.set(Some(flood));
            io::Error::new(io::ErrorKind::InvalidData, flood.word())
        })
    }

    fn moved(&self) {
        self.stalled_ms.set(0);
    }

    fn stuck(&self, timers: &Timers) {
        if self.stalled_ms.get() == 0 {
            self.stalled_ms.set(timers.now_us() / 1000 + 1);
        }
    }
}

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
}

impl Eye for Peer {
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

pub(super) struct Wire<S, E> {
    stream: S,
    /// Read before it was known what is spoken here.
    first: Option<Buf>,
    eye: Rc<E>,
    timers: Rc<Timers>,
}

impl<S: Stream, E: Eye> Wire<S, E> {
    pub(super) fn new(stream: S, first: Option<Buf>, timers: Rc<Timers>) -> (Wire<S, E>, Rc<E>) {
        let eye = Rc::new(E::default());
        (Wire { stream, first, eye: Rc::clone(&eye), timers }, eye)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.send(first, second) {
                Ok(count) => {
                    self.eye.moved();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            self.eye.stuck(&self.timers);
            ready!(self.stream.poll_write_ready(cx))?;
        }
    }
}

impl<S: Stream, E: Eye> AsyncRead for Wire<S, E> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = room.filled().len();
        if let Some(buf) = &mut wire.first {
            let count = buf.len().min(room.remaining());
            room.put_slice(&buf.filled()[..count]);
            buf.consume(count);
            if buf.is_empty() {
                wire.first = None;
            }
        } else {
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
        }
        Poll::Ready(wire.eye.see(&room.filled()[before..], &wire.timers))
    }
}

impl<S: Stream, E: Eye> AsyncWrite for Wire<S, E> {
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
