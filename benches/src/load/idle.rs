//! Opens connections, makes one request on each, and then holds them idle until its standard input ends.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Target;
use super::response::{Progress, ResponseReader};
use crate::net;
use crate::poller::{EDGE, EventFlags, Poller};
use crate::wire::{self, Wire};

/// All connections must have had their answer by then.
const DEADLINE: Duration = Duration::from_secs(30);

struct Connection {
    wire: Wire,
    reader: ResponseReader,
    started: bool,
}

/// Prints `ready` once every connection has had its answer; at most `at_once` requests are under way at any moment.
pub(crate) fn run(target: &Target, at_once: usize) -> Result<()> {
    let request = target.request(true);
    let secure = wire::secure(target.security);
    let mut poller = Poller::new()?;
    let mut connections: Vec<Connection> = Vec::new();
    let mut answered = 0;
    let mut scratch = vec![0; 64 * 1024];
    let mut events = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while answered < target.connections {
        while connections.len() < target.connections && connections.len() - answered < at_once {
            let wire = Wire::new(net::connect_start(target.target)?, &secure);
            poller.add(&wire, connections.len() as u64, EDGE)?;
            connections.push(Connection { wire, reader: ResponseReader::new(), started: false });
        }
        if Instant::now() > deadline {
            bail!("{answered} of {} connections answered in {} s", target.connections, DEADLINE.as_secs());
        }
        poller.wait(Some(Duration::from_millis(100)), &mut events)?;
        for &(token, flags) in &events {
            answered += usize::from(advance(&mut connections[token as usize], &request, flags, &mut scratch)?);
        }
    }
    println!("ready");
    // The other end of standard input belongs to whoever measures; its end is the signal to stop.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// True: the answer is complete now.
fn advance(connection: &mut Connection, request: &[u8], flags: EventFlags, scratch: &mut [u8]) -> Result<bool> {
    if !connection.started {
        if !flags.contains(EventFlags::OUT) || flags.contains(EventFlags::ERR) {
            bail!("a connection was refused");
        }
        connection.started = true;
        if connection.wire.write(request)? != request.len() {
            bail!("a request did not fit the socket buffer");
        }
        return Ok(false);
    }
    loop {
        let read = match connection.wire.read(scratch) {
            Ok(0) => bail!("an idle connection was closed"),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        match connection.reader.feed(&scratch[..read]) {
            Progress::Partial => {}
            Progress::Done { ok: true, close: false } => return Ok(true),
            other => bail!("unexpected answer: {other:?}"),
        }
    }
}
