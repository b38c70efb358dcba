//! The floor: a relay that looks at nothing. One thread, raw epoll, edge triggered; each client connection owns one upstream connection.
//!
//! No product can do less than this and still be a proxy in user space, so its cost is what the others are compared with in thought.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::net;
use crate::poller::{EDGE, EventFlags, Poller, Slots};

const LISTENER: u64 = u64::MAX;
/// Bytes moved by one read.
const CHUNK: usize = 64 * 1024;

/// One direction of a session: what was read and could not be written yet.
#[derive(Default)]
struct Flow {
    held: Vec<u8>,
    /// The source has ended, and the sink was told.
    ended: bool,
}

/// A client connection with its upstream connection, in this order.
struct Session {
    sides: [TcpStream; 2],
    /// `flows[n]` is read from `sides[n]`.
    flows: [Flow; 2],
}

/// Relays `listen` to `upstreams` in turn, until killed.
pub(crate) fn run(listen: SocketAddr, upstreams: &[SocketAddr]) -> Result<()> {
    let listener = net::listen(listen).with_context(|| format!("bind {listen}"))?;
    let mut poller = Poller::new()?;
    poller.add(&listener, LISTENER, EventFlags::IN)?;
    let mut sessions: Slots<Session> = Slots::new();
    let mut scratch = vec![0; CHUNK];
    let mut events = Vec::new();
    let mut turn = 0;
    loop {
        poller.wait(None, &mut events)?;
        for &(token, flags) in &events {
            if token == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    let upstream = upstreams[turn % upstreams.len()];
                    turn += 1;
                    open(&poller, &mut sessions, client, upstream)?;
                }
                continue;
            }
            let (at, side) = ((token / 2) as usize, (token % 2) as usize);
            let Some(session) = sessions.get_mut(at) else { continue };
            if !drive(session, side, flags, &mut scratch) {
                sessions.remove(at);
            }
        }
    }
}

fn open(poller: &Poller, sessions: &mut Slots<Session>, client: TcpStream, upstream: SocketAddr) -> Result<()> {
    client.set_nonblocking(true)?;
    client.set_nodelay(true)?;
    let Ok(upstream) = net::connect_start(upstream) else { return Ok(()) };
    let at = sessions.insert(Session { sides: [client, upstream], flows: Default::default() });
    let session = sessions.get_mut(at).expect("just inserted");
    for (side, stream) in session.sides.iter().enumerate() {
        poller.add(stream, at as u64 * 2 + side as u64, EDGE)?;
    }
    Ok(())
}

/// Moves what the event on `side` allows. False: the session is over.
fn drive(session: &mut Session, side: usize, flags: EventFlags, scratch: &mut [u8]) -> bool {
    let other = 1 - side;
    if flags.contains(EventFlags::ERR) {
        return false;
    }
    // Writable: what the other side had sent may move on, and then the other side is read again.
    if flags.contains(EventFlags::OUT) && !session.flows[other].held.is_empty() && !pump(session, other, true, scratch) {
        return false;
    }
    let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
    if (ended || flags.contains(EventFlags::IN)) && !pump(session, side, ended, scratch) {
        return false;
    }
    !(session.flows[0].ended && session.flows[1].ended)
}

/// Reads from `side` and writes to the other until one of them would block. A short read counts as "would block", unless `to_the_end`: an end
/// that came with the last bytes makes no edge of its own. False: an error.
fn pump(session: &mut Session, side: usize, to_the_end: bool, scratch: &mut [u8]) -> bool {
    let Session { sides, flows } = session;
    let flow = &mut flows[side];
    let (from, to) = (&sides[side], &sides[1 - side]);
    if !flow.held.is_empty() {
        match write_some(to, &flow.held) {
            Ok(n) => drop(flow.held.drain(..n)),
            Err(_) => return false,
        }
        if !flow.held.is_empty() {
            return true;
        }
    }
    while !flow.ended {
        let read = match (&*from).read(scratch) {
            Ok(0) => {
                flow.ended = true;
                return to.shutdown(Shutdown::Write).is_ok();
            }
            Ok(n) => n,
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        };
        match write_some(to, &scratch[..read]) {
            Ok(n) if n < read => {
                flow.held.extend_from_slice(&scratch[n..read]);
                return true;
            }
            Ok(_) if read < scratch.len() && !to_the_end => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

/// How much could be written; a connection that is not made yet takes nothing.
fn write_some(mut to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.write(bytes) {
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::NotConnected => Ok(0),
        other => other,
    }
}
