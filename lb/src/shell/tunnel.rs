//! Bytes both ways: TCP sessions and upgraded connections.
//!
//! Each direction begins with a buffer, which it owns only while bytes are in it. A direction that keeps filling buffers is bulk, and
//! goes on by `splice(2)` through a pipe: the bytes never enter this process. When only little comes at a time the pipe goes back.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;

use super::buffer::{Buf, Buffers, SMALL};
use super::endpoint::EndpointStream;
use super::stream::Stream;
use super::timer::Timer;
use super::worker::Worker;

/// Full reads in a row that make a direction bulk, and small ones that end it.
const STREAK: u8 = 4;
/// Size asked for each pipe, and the most moved by one splice. The kernel may grant less to an unprivileged user.
const PIPE_SIZE: usize = 512 * 1024;
/// Moves of one direction before the other connections of the worker get their turn: some milliseconds of bulk at the most.
const MOVES: u32 = 16;
/// Pipes kept per worker for the next bulk.
const PIPES_KEPT: usize = 16;

/// The least a pipe must hold to be better than a buffer. Past `pipe-user-pages-soft` the kernel gives an unprivileged user less.
const PIPE_LEAST: usize = 4 * SMALL;
/// Directions that go on without a pipe after one was refused, before it is tried again.
const SKIPPED: u32 = 256;

/// A worker's free pipes, all empty.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    free: RefCell<Vec<Pipe>>,
    skip: Cell<u32>,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    /// `None`: there is none to be had that is worth it.
    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.skip.get() > 0 {
            self.skip.set(self.skip.get() - 1);
            return None;
        }
        let pipe = Pipe::open().ok();
        if pipe.is_none() {
            self.skip.set(SKIPPED);
        }
        pipe
    }

    fn put(&self, pipe: Pipe) {
        let mut free = self.free.borrow_mut();
        if free.len() < PIPES_KEPT {
            free.push(pipe);
        }
    }
}

impl Pipe {
    fn open() -> io::Result<Pipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if rustix::pipe::fcntl_setpipe_size(&write, PIPE_SIZE).is_err() && rustix::pipe::fcntl_getpipe_size(&write)? < PIPE_LEAST {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Pipe { read, write })
    }
}

/// How a tunnel ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides said they were done.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// The client's side broke.
    ClientFailed,
    /// The endpoint's side broke.
    EndpointFailed,
}

/// Bytes moved so far, readable by whoever cuts the tunnel.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) up: Cell<u64>,
    pub(super) down: Cell<u64>,
}

struct Direction<'a, F, T> {
    from: &'a F,
    to: &'a T,
    /// The reactor will wake us when there is something to read: until then there is nothing to ask it.
    armed: bool,
    buf: Option<Buf>,
    pipe: Option<Pipe>,
    in_pipe: usize,
    /// Full reads in a row while there is no pipe, small ones while there is.
    streak: u8,
    eof: bool,
    done: bool,
    moved: &'a Cell<u64>,
}

enum Side {
    From,
    To,
}

/// Moves bytes until both sides are done. `first` are bytes of the client that were read already.
pub(super) async fn run<S: Stream>(
    worker: &Rc<Worker>,
    client: &S,
    endpoint: &EndpointStream,
    first: [Option<Buf>; 2],
    timer: &Timer,
    idle: Duration,
    moved: &Moved,
) -> End {
    let [up_first, down_first] = first;
    let mut up = Direction::new(client, endpoint, up_first, &moved.up);
    let mut down = Direction::new(endpoint, client, down_first, &moved.down);
    worker.timers.now_us();
    timer.set_after(idle);
    let mut seen = 0;
    // A side that takes no more may have said its last word before: it is still read to its end.
    let mut deaf = None;
    // Unconstrained: a direction that is armed relies on having been entered with the reactor; turns are taken by `MOVES`.
    let end = tokio::task::unconstrained(poll_fn(|cx| {
        // A stream that was reset is read no more once it was read to its end; a connection of its own says so when it is written to.
        if S::HTTP2 && client.poll_gone(cx).is_ready() {
            return Poll::Ready(End::ClientFailed);
        }
        match up.poll(cx, worker) {
            Poll::Ready(Err((Side::From, _))) => return Poll::Ready(End::ClientFailed),
            Poll::Ready(Err((Side::To, _))) => {
                up.done = true;
                deaf = Some(End::EndpointFailed);
            }
            _ => {}
        }
        match down.poll(cx, worker) {
            Poll::Ready(Err((Side::From, _))) => return Poll::Ready(End::EndpointFailed),
            Poll::Ready(Err((Side::To, _))) => {
                down.done = true;
                deaf = Some(End::ClientFailed);
            }
            _ => {}
        }
        if up.done && down.done {
            return Poll::Ready(deaf.take().unwrap_or(End::Closed));
        }
        // The deadline is looked at only when it comes: what moved since then earns another wait.
        while timer.poll_expired(cx).is_ready() {
            let total = moved.up.get() + moved.down.get();
            if total == seen {
                return Poll::Ready(End::Idle);
            }
            seen = total;
            timer.set_after(idle);
        }
        Poll::Pending
    }))
    .await;
    up.give_back(worker);
    down.give_back(worker);
    end
}

impl<'a, F: Stream, T: Stream> Direction<'a, F, T> {
    fn new(from: &'a F, to: &'a T, buf: Option<Buf>, moved: &'a Cell<u64>) -> Direction<'a, F, T> {
        let buf = buf.filter(|buf| !buf.is_empty());
        Direction { from, to, armed: false, buf, pipe: None, in_pipe: 0, streak: 0, eof: false, done: false, moved }
    }

    /// Moves what can be moved now.
    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Result<(), (Side, io::Error)>> {
        let mut moves = 0;
        while !self.done {
            if moves == MOVES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            moves += 1;
            ready!(self.poll_flush(cx)).map_err(|error| (Side::To, error))?;
            if self.streak >= STREAK && self.from.plain().is_some() && self.to.plain().is_some() {
                self.streak = 0;
                self.change_way(worker);
            }
            if self.eof {
                self.to.shutdown_write();
                self.done = true;
                break;
            }
            let polled = if self.pipe.is_some() { self.poll_splice_in(cx) } else { self.poll_fill(cx, &worker.buffers) };
            let count = ready!(polled).map_err(|error| (Side::From, error))?;
            self.eof = count == 0;
        }
        Poll::Ready(Ok(()))
    }

    /// From the buffer to a pipe, or back once what the pipe holds is flushed.
    fn change_way(&mut self, worker: &Worker) {
        if self.pipe.is_none() {
            // Without a pipe the buffer does it too.
            self.pipe = worker.pipes.take();
        } else if self.in_pipe == 0
            && let Some(pipe) = self.pipe.take()
        {
            worker.pipes.put(pipe);
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffers: &Rc<Buffers>) -> Poll<io::Result<usize>> {
        loop {
            // The buffer comes only once the reactor knows of something to put into it.
            if self.from.is_readable() {
                let mut buf = buffers.small();
                let room = buf.spare().len();
                match self.from.receive(buf.spare()) {
                    Ok(count) => {
                        self.armed = false;
                        self.streak = if count == room { self.streak.saturating_add(1) } else { 0 };
                        if count > 0 {
                            buf.add(count);
                            self.buf = Some(buf);
                        }
                        return Poll::Ready(Ok(count));
                    }
                    Err(error) if is_passing(&error) => self.armed = false,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            ready!(self.poll_arm(cx))?;
        }
    }

    fn poll_splice_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let (Some(pipe), Some(from)) = (&self.pipe, self.from.plain()) else { return Poll::Pending };
            match from.try_io(Interest::READABLE, || splice(from, &pipe.write)) {
                Ok(count) => {
                    self.armed = false;
                    self.in_pipe = count;
                    self.streak = if count < SMALL { self.streak.saturating_add(1) } else { 0 };
                    return Poll::Ready(Ok(count));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_arm(cx))?;
        }
    }

    /// Asks to be woken when there is something to read; ready if there is by now.
    fn poll_arm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.armed && !self.from.is_readable() {
            return Poll::Pending;
        }
        self.armed = true;
        ready!(self.from.poll_read_ready(cx))?;
        self.armed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(buf) = &mut self.buf {
            let count = match self.to.send(buf.filled(), &[]) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => count,
                Err(error) if is_passing(&error) => {
                    ready!(self.to.poll_write_ready(cx))?;
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            buf.consume(count);
            self.moved.set(self.moved.get() + count as u64);
            if buf.is_empty() {
                self.buf = None;
            }
        }
        while self.in_pipe > 0 {
            let (Some(pipe), Some(to)) = (&self.pipe, self.to.plain()) else { break };
            match to.try_io(Interest::WRITABLE, || splice(&pipe.read, to)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.in_pipe -= count;
                    self.moved.set(self.moved.get() + count as u64);
                }
                Err(error) if is_passing(&error) => ready!(self.to.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.to.poll_flush(cx)
    }

    fn give_back(self, worker: &Worker) {
        if let Some(pipe) = self.pipe
            && self.in_pipe == 0
        {
            worker.pipes.put(pipe);
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn splice(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::pipe::splice(from, None, to, None, PIPE_SIZE, flags)?)
}
