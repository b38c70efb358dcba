//! A blocking HTTP client for what is asked once, not measured: readiness, the origin's counters, the API of weir.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::response::{Progress, ResponseReader};
use crate::wire::{self, Security, Wire};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A kept connection.
pub(crate) struct Client {
    wire: Wire,
    reader: ResponseReader,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, security: Security) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Client { wire: Wire::new(stream, &wire::secure(security)), reader: ResponseReader::keeping_body() })
    }

    /// The body of a 200.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Result<Vec<u8>> {
        self.wire.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.wire.read(&mut chunk)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            match self.reader.feed(&chunk[..read]) {
                Progress::Partial => {}
                Progress::Done { ok: true, .. } => return Ok(self.reader.take_body()),
                other => bail!("GET {path}: {other:?}: {}", String::from_utf8_lossy(&chunk[..read]).lines().next().unwrap_or_default()),
            }
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn fetch(address: SocketAddr, host: &str, path: &str) -> Result<Vec<u8>> {
    Client::connect(address, Security::None)?.get(host, path)
}

/// Sends a request with a JSON body and expects success. The answer may have any shape.
pub(crate) fn change(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    if !answer.starts_with("HTTP/1.1 2") {
        bail!("{method} {path}: {answer}");
    }
    Ok(())
}

/// The cookie that a first answer brings, as the client sends it back.
pub(crate) fn cookie(address: SocketAddr, host: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let field = answer.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")));
    let (_, value) = field.with_context(|| format!("no cookie in {answer}"))?;
    Ok(value.split(';').next().unwrap_or_default().to_owned())
}

/// The same under TLS.
pub(crate) fn fetch_secure(address: SocketAddr, host: &str, path: &str) -> Result<Vec<u8>> {
    Client::connect(address, Security::Full)?.get(host, path)
}

/// A connection is accepted, and neither ended nor reset at once: the proxy reached an endpoint.
pub(crate) fn stays_open(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    match stream.read(&mut [0; 16]) {
        Ok(0) => bail!("the connection was closed"),
        Ok(_) => Ok(()),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
