//! The origin: one thread that answers as fast as it can, so that what is measured is the proxy in front of it.
//!
//! It serves several listeners, each with a role. HTTP paths:
//!
//! - `/b/N`: N bytes, prepared once for each N
//! - `/healthz`: 200
//! - `/who`: the port and address the connection came in on, to tell endpoints apart
//! - `/open`: how many HTTP connections are open, this one included
//! - `/barrier/K`: held until K requests wait here, then all are answered: K requests are certainly in flight at once
//!
//! It trusts its clients, which are proxies of this bench: no chunked bodies, no request bodies.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::poller::{EDGE, EventFlags, Poller, Slots};

/// What a listener of the origin does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Answers HTTP/1.1 requests.
    Http,
    /// Sends back what it gets.
    Echo,
    /// Sends for ever.
    Source,
    /// Reads for ever.
    Sink,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Http => "http",
            Role::Echo => "echo",
            Role::Source => "source",
            Role::Sink => "sink",
        })
    }
}

/// `ROLE=ADDRESS`, as given on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
}

impl FromStr for Listen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Listen> {
        let (role, address) = text.split_once('=').context("expected ROLE=ADDRESS")?;
        let role = match role {
            "http" => Role::Http,
            "echo" => Role::Echo,
            "source" => Role::Source,
            "sink" => Role::Sink,
            other => bail!("no such role: {other}"),
        };
        Ok(Listen { role, address: address.parse()? })
    }
}

/// The largest request head; a proxy of this bench sends far less.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The largest prepared answer.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Tokens from here on are listeners.
const LISTENER: u64 = 1 << 32;

struct Connection {
    stream: TcpStream,
    role: Role,
    /// The listener it came in on.
    local: SocketAddr,
    /// The beginning of a request head that has not ended yet.
    partial: Vec<u8>,
    /// An answer under way, and how much of it is sent.
    sending: Option<(Rc<[u8]>, usize)>,
    close_after: bool,
}

/// What a request asks for.
enum Answer {
    Now(Rc<[u8]>),
    AtBarrier(usize),
}

struct Origin {
    poller: Poller,
    connections: Slots<Connection>,
    prepared: HashMap<usize, Rc<[u8]>>,
    waiting: Vec<usize>,
    http_open: usize,
    scratch: Vec<u8>,
}

/// Serves until killed. Prints `ready` once all listeners are bound.
pub(crate) fn run(listen: &[Listen]) -> Result<()> {
    let mut origin = Origin {
        poller: Poller::new()?,
        connections: Slots::new(),
        prepared: HashMap::new(),
        waiting: Vec::new(),
        http_open: 0,
        scratch: vec![b'x'; 256 * 1024],
    };
    let mut listeners = Vec::new();
    for (at, listen) in listen.iter().enumerate() {
        let listener = crate::net::listen(listen.address).with_context(|| format!("bind {}", listen.address))?;
        origin.poller.add(&listener, LISTENER + at as u64, EventFlags::IN)?;
        listeners.push((listener, *listen));
    }
    println!("ready");
    let mut events = Vec::new();
    loop {
        origin.poller.wait(None, &mut events)?;
        for &(token, flags) in &events {
            if token >= LISTENER {
                let (listener, listen) = &listeners[(token - LISTENER) as usize];
                origin.accept(listener, *listen)?;
            } else {
                origin.drive(token as usize, flags.intersects(EventFlags::RDHUP | EventFlags::HUP));
            }
        }
    }
}

impl Origin {
    fn accept(&mut self, listener: &TcpListener, listen: Listen) -> Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e).context("accept"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            // Bulk connections take turns, one buffer for each event; the others are drained at each edge.
            let flags = match listen.role {
                Role::Http | Role::Echo => EDGE,
                Role::Source => EventFlags::OUT,
                Role::Sink => EventFlags::IN,
            };
            self.http_open += usize::from(listen.role == Role::Http);
            let at = self.connections.insert(Connection {
                stream,
                role: listen.role,
                local: listen.address,
                partial: Vec::new(),
                sending: None,
                close_after: false,
            });
            let stream = &self.connections.get_mut(at).expect("just inserted").stream;
            self.poller.add(stream, at as u64, flags)?;
        }
    }

    /// `ended`: the peer sent its last byte; that makes no edge of its own, so the connection is read to the end.
    fn drive(&mut self, at: usize, ended: bool) {
        let Some(connection) = self.connections.get_mut(at) else { return };
        let kept = match connection.role {
            Role::Http => self.drive_http(at, ended),
            Role::Echo => echo(connection, &mut self.scratch),
            Role::Source => match connection.stream.write(&self.scratch) {
                Ok(_) => true,
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            },
            Role::Sink => match connection.stream.read(&mut self.scratch) {
                Ok(n) => n > 0,
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            },
        };
        if !kept {
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        if let Some(connection) = self.connections.remove(at) {
            self.http_open -= usize::from(connection.role == Role::Http);
            self.waiting.retain(|w| *w != at);
        }
    }

    /// False: the connection is done with.
    fn drive_http(&mut self, at: usize, ended: bool) -> bool {
        loop {
            let connection = self.connections.get_mut(at).expect("driven connections exist");
            match flush(connection) {
                Ok(true) if connection.close_after => return false,
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
            if let Some(head_end) = head_end(&connection.partial) {
                let head: Vec<u8> = connection.partial.drain(..head_end).collect();
                if !self.handle_request(at, &head) {
                    return false;
                }
                continue;
            }
            let read = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            };
            if connection.partial.is_empty() && head_end(&self.scratch[..read]) == Some(read) {
                // The usual case: one read is one request.
                let scratch = std::mem::take(&mut self.scratch);
                let kept = self.handle_request(at, &scratch[..read]);
                self.scratch = scratch;
                if !kept {
                    return false;
                }
                let connection = self.connections.get_mut(at).expect("kept");
                if connection.sending.is_none() && !ended {
                    return !connection.close_after;
                }
                continue;
            }
            connection.partial.extend_from_slice(&self.scratch[..read]);
            if connection.partial.len() > HEAD_BYTES_MAX {
                return false;
            }
            if head_end(&connection.partial).is_none() && !ended {
                return true;
            }
        }
    }

    fn handle_request(&mut self, at: usize, head: &[u8]) -> bool {
        let Some((path, version)) = request_line(head) else { return false };
        let connection = self.connections.get_mut(at).expect("driven connections exist");
        connection.close_after = version == b"HTTP/1.0" || asks_to_close(head);
        let local = connection.local;
        match self.answer(path, local) {
            Some(Answer::Now(bytes)) => {
                let connection = self.connections.get_mut(at).expect("driven connections exist");
                connection.sending = Some((bytes, 0));
                flush(connection).is_ok()
            }
            Some(Answer::AtBarrier(count)) => {
                self.waiting.push(at);
                if self.waiting.len() >= count {
                    self.open_barrier();
                }
                true
            }
            None => false,
        }
    }

    fn answer(&mut self, path: &[u8], local: SocketAddr) -> Option<Answer> {
        let path = std::str::from_utf8(path).ok()?;
        if let Some(size) = path.strip_prefix("/b/") {
            return Some(Answer::Now(self.fixed(size.parse().ok()?)?));
        }
        if let Some(count) = path.strip_prefix("/barrier/") {
            return Some(Answer::AtBarrier(count.parse().ok()?));
        }
        match path {
            "/who" => Some(Answer::Now(response(local.to_string().as_bytes()))),
            "/open" => Some(Answer::Now(response(self.http_open.to_string().as_bytes()))),
            _ => Some(Answer::Now(self.fixed(2)?)),
        }
    }

    fn fixed(&mut self, size: usize) -> Option<Rc<[u8]>> {
        if size > BODY_BYTES_MAX {
            return None;
        }
        Some(self.prepared.entry(size).or_insert_with(|| response(&vec![b'x'; size])).clone())
    }

    fn open_barrier(&mut self) {
        let answer = self.fixed(100).expect("100 is below the bound");
        for at in std::mem::take(&mut self.waiting) {
            let Some(connection) = self.connections.get_mut(at) else { continue };
            connection.sending = Some((answer.clone(), 0));
            if flush(connection).is_err() {
                self.close(at);
            }
        }
    }
}

/// True: nothing is left to send.
fn flush(connection: &mut Connection) -> io::Result<bool> {
    while let Some((bytes, sent)) = &mut connection.sending {
        match connection.stream.write(&bytes[*sent..]) {
            Ok(n) => *sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
        if *sent == bytes.len() {
            connection.sending = None;
        }
    }
    Ok(true)
}

/// Messages of the bench are far smaller than a socket buffer: an echo that does not fit is an error, not a case.
fn echo(connection: &mut Connection, scratch: &mut [u8]) -> bool {
    loop {
        let read = match connection.stream.read(scratch) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        };
        if connection.stream.write(&scratch[..read]).ok() != Some(read) {
            return false;
        }
        if read < scratch.len() {
            return true;
        }
    }
}

fn response(body: &[u8]) -> Rc<[u8]> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    if bytes.ends_with(b"\r\n\r\n") && !bytes[..bytes.len() - 1].windows(4).any(|w| w == b"\r\n\r\n") {
        return Some(bytes.len());
    }
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn request_line(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = head.split(|b| *b == b'\r').next()?;
    let mut words = line.split(|b| *b == b' ');
    let (_method, path, version) = (words.next()?, words.next()?, words.next()?);
    Some((path, version))
}

fn asks_to_close(head: &[u8]) -> bool {
    head.split(|b| *b == b'\n').skip(1).any(|line| {
        let line = line.trim_ascii();
        line.len() > 11 && line[..11].eq_ignore_ascii_case(b"connection:") && line[11..].trim_ascii().eq_ignore_ascii_case(b"close")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
    }

    #[test]
    fn a_request_may_ask_to_close() {
        assert!(asks_to_close(b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nX: close\r\n\r\n"));
    }
}
