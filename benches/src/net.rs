//! Small socket helpers.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// A non-blocking listener with a deep accept queue.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A connection that is being made; the first write tells whether it was.
pub(crate) fn connect_start(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(e),
        _ => Ok(socket.into()),
    }
}

/// Hands out ports below the ephemeral range, so that no client connection can take one of them first.
pub(crate) struct Ports {
    next: u16,
}

impl Ports {
    pub(crate) fn new() -> Ports {
        Ports { next: 21_000 }
    }

    /// A port that nobody on this machine listens on.
    pub(crate) fn take(&mut self) -> Result<u16> {
        while self.next < 32_000 {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind(("0.0.0.0", port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port between 21000 and 32000")
    }
}

/// `127.0.0.1:PORT`
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
