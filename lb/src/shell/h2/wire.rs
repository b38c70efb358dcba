//! A client's connection as the frames' library reads and writes it, with an eye on what passes.

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

/// What the connection's task asks about its wire.
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

pub(super) struct Wire<S> {
    stream: S,
    /// Read before it was known what is spoken here.
    first: Option<Buf>,
    state: Rc<State>,
    timers: Rc<Timers>,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S, first: Option<Buf>, timers: Rc<Timers>) -> (Wire<S>, Rc<State>) {
        let state = Rc::new(State::default());
        (Wire { stream, first, state: Rc::clone(&state), timers }, state)
    }

    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state.watch.borrow_mut().look(bytes, self.timers.recent_ms()).map_err(|flood| {
            self.state.flood.set(Some(flood));
            io::Error::new(io::ErrorKind::InvalidData, flood.word())
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.send(first, second) {
                Ok(count) => {
                    self.state.stalled_ms.set(0);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.state.stalled_ms.get() == 0 {
                self.state.stalled_ms.set(self.timers.now_us() / 1000 + 1);
            }
            ready!(self.stream.poll_write_ready(cx))?;
        }
    }
}

impl<S: Stream> AsyncRead for Wire<S> {
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
        Poll::Ready(wire.look(&room.filled()[before..]))
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
