//! Who is at the other end of a client's connection, and what proxies say about that.
//!
//! ```text
//!   accepted ──from an announcer──► header read, to the byte ──► tls | http | tcp, as if the client had connected itself
//! ```

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use weir_config::ProxyVersion;

use crate::cause::Cause;
use crate::proxy_protocol::{self, Addresses, HEADER_BYTES_MAX, Header};
use crate::snapshot::ListenerSnapshot;
use crate::stats;

use super::buffer::Buf;
use super::http::DRAIN_KEEP_ALIVE;
use super::io::{self, Broken};
use super::worker::{self, Open, Worker};

/// A client, or the proxy that speaks for it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The address that counts for everything: announced, else the socket's.
    pub(super) address: SocketAddr,
    /// What a proxy told besides.
    announced: Option<Rc<Announced>>,
}

#[derive(Debug)]
struct Announced {
    destination: SocketAddr,
    tlvs: Box<[u8]>,
}

impl Peer {
    /// One that nobody announced.
    pub(super) fn of(address: SocketAddr) -> Peer {
        Peer { address, announced: None }
    }

    /// What an endpoint is told of the client. `local`: our end of its connection, where nobody announced another.
    pub(super) fn preamble(&self, version: ProxyVersion, local: Option<SocketAddr>) -> Vec<u8> {
        let announced = self.announced.as_deref();
        let destination = announced.map(|announced| announced.destination).or(local);
        let addresses = destination.map(|destination| Addresses { source: self.address, destination });
        let mut out = Vec::new();
        proxy_protocol::encode(version, addresses, announced.map_or(&[], |announced| &announced.tlvs), &mut out);
        out
    }
}

/// Serves a connection that a proxy opened, once it has said for whom.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, listener: Arc<ListenerSnapshot>, mut open: Open) {
    let worker = Rc::clone(&open.worker);
    let ended = |cause: Cause| stats::add(&listener.stats.shard(worker.id).ended[cause as usize], 1);
    // Boxed: of no more use once it is done, and the connection may live for hours.
    match Box::pin(announced(&worker, &stream, peer, &listener)).await {
        Ok(peer) if !listener.config.access.admits(peer.address.ip()) => ended(Cause::Denied),
        Ok(peer) => {
            if open.seat(&listener, &peer) {
                Box::pin(worker::serve(stream, peer, listener, open)).await;
            }
        }
        Err(cause) => ended(cause),
    }
}

/// Reads the header and nothing behind it: what follows may be a handshake.
async fn announced(worker: &Worker, stream: &TcpStream, peer: SocketAddr, listener: &ListenerSnapshot) -> Result<Peer, Cause> {
    let timer = worker.timers.timer();
    worker.timers.now_us();
    let head = listener.config.timeouts.head;
    timer.set_after(if worker.draining.get() { head.min(DRAIN_KEEP_ALIVE) } else { head });
    // A proxy that only connects does not hold up a drain.
    timer.set_parked(true);
    let mut buf = worker.buffers.request();
    loop {
        io::readable(stream, &timer).await.map_err(|broken| match broken {
            Broken::Timeout => Cause::HeadTimeout,
            Broken::Failed => Cause::ClientClosed,
        })?;
        match take(stream, &mut buf) {
            Ok(0) => return Err(Cause::ClientClosed),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(_) => return Err(Cause::ClientClosed),
        }
        match proxy_protocol::parse(buf.filled()) {
            Ok(None) => {}
            Ok(Some(Header { addresses: None, .. })) => return Ok(Peer::of(peer)),
            Ok(Some(Header { addresses: Some(Addresses { source, destination }), tlvs, .. })) => {
                let announced = Announced { destination, tlvs: tlvs.into() };
                return Ok(Peer { address: source, announced: Some(Rc::new(announced)) });
            }
            Err(error) => {
                if worker.may_warn() {
                    tracing::warn!(listener = %listener.name(), proxy = %peer.ip(), %error, "refused a connection of a trusted proxy");
                }
                return Err(Cause::Announcement);
            }
        }
    }
}

/// Takes what is there, but nothing behind the header, which is the client's. The buffer is shown it nevertheless, and holds no more than a header.
fn take(stream: &TcpStream, buf: &mut Buf) -> std::io::Result<usize> {
    stream.try_io(Interest::READABLE, || {
        let before = buf.len();
        let (_, count) = rustix::net::recv(stream, buf.spare(), RecvFlags::PEEK)?;
        buf.add(count);
        let ours = match proxy_protocol::parse(buf.filled()) {
            Ok(Some(header)) => header.length - before,
            _ => count,
        };
        let (_, taken) = rustix::net::recv(stream, &mut [0; HEADER_BYTES_MAX][..ours], RecvFlags::empty())?;
        Ok(taken)
    })
}
