//! Closed loop: each connection has one exchange under way, and begins the next when it ends.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::response::{Progress, ResponseReader};
use super::{Outcome, Target, Window};
use crate::cpu;
use crate::net;
use crate::poller::{EDGE, EventFlags, Poller, Slots};
use crate::wire::{self, Secure, Wire};

/// What one exchange is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A request and its response, connections kept.
    Http,
    /// A new connection, one request with its response, and the close by the other side.
    Connect,
    /// A 100-byte message and its echo.
    Echo,
    /// Reading all that comes.
    Source,
    /// Writing all that goes.
    Sink,
}

/// The message of [`Kind::Echo`].
const MESSAGE: [u8; 100] = [b'x'; 100];
/// Errors after which there is nothing to measure.
const ERRORS_MAX: u64 = 10_000;

struct Connection {
    wire: Wire,
    reader: ResponseReader,
    /// The first message was sent.
    started: bool,
    /// The response has come; only the close is still to come.
    answered: bool,
    /// Bytes of an echo still to come back.
    echo_left: usize,
}

struct Load<'a> {
    kind: Kind,
    target: &'a Target,
    secure: Secure,
    request: Vec<u8>,
    poller: Poller,
    connections: Slots<Connection>,
    scratch: Vec<u8>,
    seen: Outcome,
}

/// What became of a connection at an event.
enum After {
    Kept,
    /// Over as planned.
    Ended,
    Failed,
}

/// Runs the load to the end of the window.
pub(crate) fn run(kind: Kind, target: &Target, window: &Window) -> Result<Outcome> {
    let mut load = Load {
        kind,
        target,
        secure: wire::secure(target.security),
        request: target.request(kind != Kind::Connect),
        poller: Poller::new()?,
        connections: Slots::new(),
        scratch: vec![b'x'; 256 * 1024],
        seen: Outcome::default(),
    };
    for _ in 0..target.connections {
        load.connect()?;
    }
    load.run_for(window.warmup())?;

    load.seen = Outcome::default();
    let cpu_before = window.cpu_of.map(cpu::snapshot);
    let began = Instant::now();
    load.run_for(window.measure())?;
    let elapsed = began.elapsed();
    let cpu_ns = window.cpu_of.zip(cpu_before).map_or(0, |(pid, before)| before.ns_until(&cpu::snapshot(pid)));
    Ok(Outcome { elapsed_ns: elapsed.as_nanos() as u64, cpu_ns, ..load.seen })
}

impl Load<'_> {
    fn connect(&mut self) -> Result<()> {
        let wire = Wire::new(net::connect_start(self.target.target)?, &self.secure);
        let at = self.connections.insert(Connection { wire, reader: ResponseReader::new(), started: false, answered: false, echo_left: 0 });
        let wire = &self.connections.get_mut(at).expect("just inserted").wire;
        let flags = match self.kind {
            Kind::Source => EventFlags::IN,
            Kind::Sink => EventFlags::OUT,
            _ => EDGE,
        };
        Ok(self.poller.add(wire, at as u64, flags)?)
    }

    fn run_for(&mut self, duration: Duration) -> Result<()> {
        let deadline = Instant::now() + duration;
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poller.wait(Some(left.max(Duration::from_millis(1))), &mut events)?;
            for &(token, flags) in &events {
                self.handle_event(token as usize, flags)?;
            }
        }
    }

    fn handle_event(&mut self, at: usize, flags: EventFlags) -> Result<()> {
        let Some(connection) = self.connections.get_mut(at) else { return Ok(()) };
        let after = match self.kind {
            Kind::Http | Kind::Connect => {
                drive_http(connection, &self.request, self.kind == Kind::Connect, flags, &mut self.scratch, &mut self.seen)
            }
            Kind::Echo => drive_echo(connection, &mut self.scratch, &mut self.seen),
            Kind::Source => counted(connection.wire.read(&mut self.scratch), &mut self.seen),
            Kind::Sink => counted(connection.wire.write(&self.scratch), &mut self.seen),
        };
        match after {
            After::Kept => return Ok(()),
            After::Ended => {}
            After::Failed => {
                self.seen.errors += 1;
                if self.seen.errors > ERRORS_MAX {
                    bail!("more than {ERRORS_MAX} errors against {}", self.target.target);
                }
            }
        }
        self.connections.remove(at);
        self.seen.reconnects += u64::from(self.kind != Kind::Connect);
        self.connect()
    }
}

fn counted(moved: std::io::Result<usize>, seen: &mut Outcome) -> After {
    match moved {
        Ok(0) => After::Failed,
        Ok(n) => {
            seen.bytes += n as u64;
            After::Kept
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => After::Kept,
        Err(_) => After::Failed,
    }
}

/// Requests and messages fit a socket buffer; one that does not is an error.
fn send(connection: &mut Connection, bytes: &[u8]) -> bool {
    connection.wire.write(bytes).ok() == Some(bytes.len())
}

fn drive_http(connection: &mut Connection, request: &[u8], once: bool, flags: EventFlags, scratch: &mut [u8], seen: &mut Outcome) -> After {
    if !connection.started {
        if !flags.contains(EventFlags::OUT) {
            return After::Failed;
        }
        connection.started = true;
        return if send(connection, request) { After::Kept } else { After::Failed };
    }
    loop {
        let read = match connection.wire.read(scratch) {
            // With `Connection: close` the end must follow a whole response.
            Ok(0) => return if connection.answered { After::Ended } else { After::Failed },
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return After::Kept,
            Err(_) => return After::Failed,
        };
        seen.bytes += read as u64;
        match connection.reader.feed(&scratch[..read]) {
            Progress::Partial => {}
            Progress::Done { ok: true, close } => {
                seen.done += 1;
                if once {
                    seen.resumed += u64::from(connection.wire.is_resumed());
                    connection.answered = true;
                } else if close {
                    return After::Ended;
                } else if !send(connection, request) {
                    return After::Failed;
                } else {
                    return After::Kept;
                }
            }
            Progress::Done { ok: false, .. } | Progress::Garbage => return After::Failed,
        }
    }
}

fn drive_echo(connection: &mut Connection, scratch: &mut [u8], seen: &mut Outcome) -> After {
    if !connection.started {
        connection.started = true;
        connection.echo_left = MESSAGE.len();
        return if send(connection, &MESSAGE) { After::Kept } else { After::Failed };
    }
    match connection.wire.read(scratch) {
        Ok(n) if n > 0 && n <= connection.echo_left => {
            connection.echo_left -= n;
            seen.bytes += n as u64;
            if connection.echo_left > 0 {
                return After::Kept;
            }
            seen.done += 1;
            connection.echo_left = MESSAGE.len();
            if send(connection, &MESSAGE) { After::Kept } else { After::Failed }
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => After::Kept,
        _ => After::Failed,
    }
}
