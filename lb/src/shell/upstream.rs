//! Connections to endpoints: opened, kept while idle, used again.
//!
//! Each worker keeps its own idle connections. What one worker holds beyond [`KEPT`] per endpoint goes to a surplus that a worker which
//! has none may take from: sharing without a lock while things are quiet, and no worker is ever stripped below its floor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use tokio::net::{TcpSocket, TcpStream};
use weir_config::UpstreamProtocol;

use crate::cause::Cause;
use crate::endpoint::EndpointState;
use crate::snapshot::PoolSnapshot;
use crate::stats::{self, Handshake};

use super::endpoint::Line;
use super::exchange::connect_cause;
use super::h2::Links;
use super::tls::{self, TlsStream, Unreached};
use super::worker::Worker;

/// Idle connections per endpoint that a worker keeps to itself.
const KEPT: usize = 16;
/// Locks the surplus is spread over.
const SHARDS: usize = 16;

/// Idle connections of a worker.
#[derive(Debug)]
pub(super) struct Upstreams {
    worker: usize,
    /// By endpoint slot. A list holds its endpoint's state, so that the slot cannot be given away while connections are in it.
    lists: RefCell<Vec<List>>,
    surplus: Arc<Surplus>,
    /// Connections over HTTP/2, of which nobody takes any.
    pub(super) links: Links,
}

#[derive(Debug, Default)]
struct List {
    state: Option<Arc<EndpointState>>,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    stream: Line,
    until_ms: u64,
    purge: u32,
}

/// What the workers have beyond their floors.
#[derive(Debug)]
pub(super) struct Surplus {
    workers: usize,
    shards: [Mutex<HashMap<u32, Shared>>; SHARDS],
}

#[derive(Debug)]
struct Shared {
    state: Arc<EndpointState>,
    /// With the worker whose runtime the stream is registered with. Its clock is only compared by that worker.
    idle: Vec<(usize, Idle)>,
}

impl Surplus {
    pub(super) fn new(workers: usize) -> Arc<Surplus> {
        Arc::new(Surplus { workers, shards: std::array::from_fn(|_| Mutex::default()) })
    }

    fn shard(&self, slot: u32) -> std::sync::MutexGuard<'_, HashMap<u32, Shared>> {
        self.shards[slot as usize % SHARDS].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Idle {
    fn is_fit(&self, state: &EndpointState, now_ms: u64) -> bool {
        now_ms < self.until_ms && self.purge == state.purge.load(Ordering::Relaxed) && self.stream.is_quiet()
    }
}

impl Upstreams {
    pub(super) fn new(worker: usize, surplus: Arc<Surplus>) -> Upstreams {
        Upstreams { worker, lists: RefCell::default(), surplus, links: Links::default() }
    }

    /// An idle connection, the one used last first.
    pub(super) fn take(&self, state: &EndpointState, now_ms: u64) -> Option<Line> {
        if let Some(list) = self.lists.borrow_mut().get_mut(state.slot as usize) {
            while let Some(idle) = list.idle.pop() {
                state.idle.fetch_sub(1, Ordering::Relaxed);
                if idle.is_fit(state, now_ms) {
                    return Some(idle.stream);
                }
            }
        }
        if self.surplus.workers > 1 && state.idle.load(Ordering::Relaxed) > 0 { self.steal(state, now_ms) } else { None }
    }

    fn steal(&self, state: &EndpointState, now_ms: u64) -> Option<Line> {
        loop {
            let (owner, idle) = self.surplus.shard(state.slot).get_mut(&state.slot)?.idle.pop()?;
            state.idle.fetch_sub(1, Ordering::Relaxed);
            if idle.purge != state.purge.load(Ordering::Relaxed) || !idle.stream.is_quiet() {
                continue;
            }
            if owner == self.worker {
                if now_ms < idle.until_ms {
                    return Some(idle.stream);
                }
                continue;
            }
            // Leaves the owner's runtime and enters ours.
            if let Ok(stream) = idle.stream.adopt() {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection that is ready for another request.
    pub(super) fn put(&self, state: &Arc<EndpointState>, stream: Line, purge: u32, now_ms: u64, keep: Duration, most: u32) {
        let counted = state.idle.fetch_add(1, Ordering::Relaxed);
        if counted >= most || keep.is_zero() || purge != state.purge.load(Ordering::Relaxed) {
            state.idle.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let idle = Idle { stream, until_ms: now_ms.saturating_add(keep.as_millis() as u64), purge };
        let slot = state.slot as usize;
        let mut lists = self.lists.borrow_mut();
        if lists.len() <= slot {
            lists.resize_with(slot + 1, List::default);
        }
        let list = &mut lists[slot];
        if list.idle.len() < KEPT || self.surplus.workers == 1 {
            if list.state.is_none() {
                list.state = Some(Arc::clone(state));
            }
            list.idle.push(idle);
        } else {
            drop(lists);
            let mut shard = self.surplus.shard(state.slot);
            let shared = shard.entry(state.slot).or_insert_with(|| Shared { state: Arc::clone(state), idle: Vec::new() });
            shared.idle.push((self.worker, idle));
        }
    }

    /// Drops what is too old, purged, or closed by the peer. Cheap enough for once a second.
    pub(super) fn sweep(&self, now_ms: u64) {
        self.links.sweep(now_ms);
        for list in self.lists.borrow_mut().iter_mut() {
            let Some(state) = &list.state else { continue };
            let before = list.idle.len();
            list.idle.retain(|idle| idle.is_fit(state, now_ms));
            state.idle.fetch_sub((before - list.idle.len()) as u32, Ordering::Relaxed);
            if list.idle.is_empty() {
                *list = List::default();
            }
        }
        if self.surplus.workers == 1 {
            return;
        }
        for slot in 0..SHARDS as u32 {
            self.surplus.shard(slot).retain(|_, shared| {
                let before = shared.idle.len();
                shared.idle.retain(|(owner, idle)| *owner != self.worker || idle.is_fit(&shared.state, now_ms));
                shared.state.idle.fetch_sub((before - shared.idle.len()) as u32, Ordering::Relaxed);
                !shared.idle.is_empty()
            });
        }
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        for list in self.lists.borrow().iter() {
            if let Some(state) = &list.state {
                state.idle.fetch_sub(list.idle.len() as u32, Ordering::Relaxed);
            }
        }
    }
}

/// Where a connection goes, and how it begins.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    /// Says how its endpoints are spoken to.
    pub(super) pool: &'a PoolSnapshot,
    pub(super) state: &'a EndpointState,
    pub(super) address: SocketAddr,
    /// What is said before anything else, TLS included.
    pub(super) preamble: Option<&'a [u8]>,
}

/// Opens a connection to an endpoint.
pub(super) async fn reach(worker: &Worker, to: Destination<'_>) -> Result<Line, Cause> {
    if to.pool.config.tls.is_some() {
        return Box::pin(reach_tls(worker, to)).await.map(Line::Tls);
    }
    let stream = open(to.address, to.preamble).await.map_err(|error| connect_cause(&error))?;
    Ok(Line::Plain(stream))
}

async fn reach_tls(worker: &Worker, to: Destination<'_>) -> Result<TlsStream<UnbufferedClientConnection>, Cause> {
    let Destination { pool, state, address, .. } = to;
    // There is none only if a newer configuration wants no TLS there: what was asked for under it is not sent in the clear.
    let connector = worker.tls.connector(&pool.config.name).ok_or(Cause::TlsFailed)?;
    let handshakes = &pool.stats.shard(worker.id).tls_handshakes;
    let reached = match connector.server_name(&state.address) {
        Some(name) => tls::connect(to, connector.config(address), name, &worker.timers).await,
        None => Err(Unreached::Nameless),
    };
    let reason = match reached {
        Ok(stream) if pool.config.upstream_protocol == UpstreamProtocol::Http2 && !stream.is_http2() => {
            format!("it does not agree on HTTP/2 under TLS: remove `upstream_protocol` under [pool.{}]", pool.config.name)
        }
        Ok(stream) => {
            let how = if stream.is_resumed() { Handshake::Resumed } else { Handshake::Full };
            stats::add(&handshakes[how as usize], 1);
            return Ok(stream);
        }
        Err(Unreached::Connect(error)) => return Err(connect_cause(&error)),
        Err(Unreached::Io(error)) => format!("the connection broke in the handshake ({error})"),
        Err(Unreached::Tls(error)) => connector.explain(&error, &pool.config.name.0),
        Err(Unreached::Closed) => "it closed the connection in the handshake: does it speak TLS on this port?".into(),
        Err(Unreached::Nameless) => format!("its host cannot be in a certificate: set `server_name` under [pool.{}.tls]", pool.config.name),
    };
    stats::add(&handshakes[Handshake::Failed as usize], 1);
    worker.warn_endpoint(pool, state, &reason);
    Err(Cause::TlsFailed)
}

/// Opens a socket, which begins with `preamble` if there is one.
pub(super) async fn open(address: SocketAddr, preamble: Option<&[u8]>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    let mut rest = preamble.unwrap_or_default();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stream)
}
