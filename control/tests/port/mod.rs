//! Ports for what a test starts in another process.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of 127.0.0.1 that nobody listens on.
///
/// Below the range out of which the kernel gives ports to clients and to whoever binds port 0, so that nobody takes it meanwhile. Asked by
/// connecting: a listener bound only to find out lives on in a process that another test starts at this moment, until its exec.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}
