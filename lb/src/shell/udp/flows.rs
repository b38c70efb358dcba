//! The life of a flow: an endpoint and a socket to it, when it has to leave, and its end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use weir_config::Balance;

use crate::cause::Cause;
use crate::endpoint::EndpointState;
use crate::snapshot::PoolSnapshot;
use crate::stats;
use crate::udp::{Closed, Dropped, FlowId, FlowKey};

use super::super::exchange::source_key;
use super::super::pick::{self, ATTEMPTS_MAX};
use super::server::Server;
use super::sys;

/// A flow's connection to its endpoint.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) id: FlowId,
    pub(super) socket: OwnedFd,
    pub(super) key: FlowKey,
    pub(super) endpoint: Arc<EndpointState>,
    /// Whether messages of several datagrams can leave towards it.
    pub(super) segments: bool,
    /// The endpoint's `purge` when this was opened: once that has moved on, the endpoint leaves.
    purge: u32,
    /// The pool's slot.
    pool: u32,
}

/// All flows' connections, by the index of the flow.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Vec<Option<Upstream>>);

impl Upstreams {
    pub(super) fn get(&self, id: FlowId) -> Option<&Upstream> {
        self.0.get(id.index as usize)?.as_ref().filter(|upstream| upstream.id == id)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Upstream> {
        self.0.get_mut(id.index as usize)?.as_mut().filter(|upstream| upstream.id == id)
    }

    fn put(&mut self, upstream: Upstream) {
        let index = upstream.id.index as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(upstream);
    }

    fn take(&mut self, id: FlowId) -> Option<Upstream> {
        self.0.get_mut(id.index as usize)?.take_if(|upstream| upstream.id == id)
    }
}

impl Server {
    /// Gives a new flow an endpoint.
    pub(super) fn begin(&mut self, id: FlowId, key: FlowKey) -> Result<(), Dropped> {
        let snapshot = self.worker.snapshot();
        let slot = self.listener.pool.ok_or(Dropped::NoEndpoint)?;
        let pool = pick::pool(&snapshot, slot).ok_or(Dropped::NoEndpoint)?;
        let shard = pool.stats.shard(self.worker.id);
        stats::add(&shard.requests, 1);
        let (index, endpoint) = self.step_in(pool, key).ok_or(Dropped::NoEndpoint)?;
        let candidate = &pool.selector.candidates()[index as usize];
        let name = u64::from(id.generation) << 32 | u64::from(id.index);
        let opened = connect(candidate.address).and_then(|socket| {
            epoll::add(self.epoll.get_ref(), &socket, epoll::EventData::new_u64(name), epoll::EventFlags::IN)?;
            Ok(socket)
        });
        let Ok(socket) = opened else {
            pick::step_out(&self.worker, pool, &endpoint);
            return Err(Dropped::NoSocket);
        };
        endpoint.sessions.fetch_add(1, Ordering::Relaxed);
        endpoint.requests_total.fetch_add(1, Ordering::Relaxed);
        endpoint.connects_total.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard();
        stats::add(&shard.accepted, 1);
        stats::add(&shard.open, 1);
        stats::add(&shard.udp.flows, 1);
        stats::add(&self.worker.gauges.connections, 1);
        stats::add(&self.worker.gauges.in_flight, 1);
        let segments = sys::offload(socket.as_fd());
        self.upstreams.put(Upstream { id, socket, key, endpoint, segments, purge: candidate.purge, pool: slot });
        Ok(())
    }

    /// A place on an endpoint of the pool.
    fn step_in(&self, pool: &PoolSnapshot, key: FlowKey) -> Option<(u32, Arc<EndpointState>)> {
        let hash = matches!(pool.config.balance, Balance::Maglev(_)).then(|| source_key(key.client));
        let limit = pool.config.limits.connections_per_endpoint.map_or(u32::MAX, std::num::NonZeroU32::get);
        let now_ns = self.worker.timers.recent_us() * 1000;
        let mut full = [u32::MAX; ATTEMPTS_MAX];
        for attempt in 0..ATTEMPTS_MAX {
            let index = pool.selector.pick(hash, now_ns, &mut self.worker.random.borrow_mut(), &full[..attempt])?;
            let endpoint = &pool.selector.candidates()[index as usize].state;
            if pick::step_in(&endpoint.in_flight, limit) {
                return Some((index, Arc::clone(endpoint)));
            }
            full[attempt] = index;
        }
        None
    }

    /// Tells flows whose endpoint leaves until when they may stay, and those whose endpoint is down to move if there is anywhere to move to.
    pub(super) fn leave_endpoints(&mut self) {
        let snapshot = self.worker.snapshot();
        let now_ms = self.worker.timers.now_us() / 1000;
        let until_ms = now_ms + self.listener.config.timeouts.flow_drain.as_millis() as u64;
        let pool = self.listener.pool.and_then(|slot| pick::pool(&snapshot, slot));
        let elsewhere = pool.is_some_and(|pool| !pool.selector.candidates().is_empty());
        for upstream in self.upstreams.0.iter().flatten() {
            let endpoint = &upstream.endpoint;
            if endpoint.purge.load(Ordering::Relaxed) != upstream.purge || self.listener.pool != Some(upstream.pool) {
                self.table.leave(upstream.id, until_ms);
            }
            if elsewhere && endpoint.unhealthy.load(Ordering::Relaxed) {
                self.table.leave(upstream.id, now_ms);
            }
        }
    }

    /// Tells all flows that they have to end.
    pub(super) fn leave_all(&mut self) {
        let until_ms = self.worker.timers.now_us() / 1000 + self.listener.config.timeouts.flow_drain.as_millis() as u64;
        for upstream in self.upstreams.0.iter().flatten() {
            self.table.leave(upstream.id, until_ms);
        }
    }

    /// The endpoint refused: the client's next datagram finds another one.
    pub(super) fn refused(&mut self, id: FlowId) {
        if let Some(upstream) = self.upstreams.get(id) {
            let endpoint = &upstream.endpoint;
            endpoint.failures_total.fetch_add(1, Ordering::Relaxed);
            let in_row = endpoint.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
            let snapshot = self.worker.snapshot();
            if let Some(pool) = pick::pool(&snapshot, upstream.pool) {
                stats::add(&pool.stats.shard(self.worker.id).failures, 1);
                if pool.config.ejection.as_ref().is_some_and(|ejection| in_row >= ejection.consecutive_failures.get()) {
                    self.worker.report_failing(endpoint.slot);
                }
            }
        }
        self.table.remove(id);
        self.end(id, Closed::Refused);
    }

    /// Ends what the table has ended.
    pub(super) fn end_flows(&mut self) {
        while let Some((id, why)) = self.table.poll_output() {
            self.end(id, why);
        }
    }

    fn end(&mut self, id: FlowId, why: Closed) {
        let Some(upstream) = self.upstreams.take(id) else { return };
        upstream.endpoint.sessions.fetch_sub(1, Ordering::Relaxed);
        let snapshot = self.worker.snapshot();
        match pick::pool(&snapshot, upstream.pool) {
            Some(pool) => pick::step_out(&self.worker, pool, &upstream.endpoint),
            None => drop(upstream.endpoint.in_flight.fetch_sub(1, Ordering::SeqCst)),
        }
        self.count(match why {
            Closed::Idle => Cause::Ok,
            Closed::Evicted => Cause::Overload,
            Closed::Left | Closed::Cut => Cause::Drained,
            Closed::Refused => Cause::ConnectFailed,
        });
        let shard = self.shard();
        stats::add(&shard.udp.ended[why as usize], 1);
        stats::sub(&shard.open, 1);
        stats::sub(&self.worker.gauges.connections, 1);
        stats::sub(&self.worker.gauges.in_flight, 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let living: Vec<FlowId> = self.table.ids().collect();
        for id in living {
            self.end(id, Closed::Cut);
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
