//! The UDP listener: datagrams of a client go to one endpoint, what comes back goes to the client.
//!
//! One task per worker and listening socket owns everything. Each flow has a connected socket to its endpoint, so that the kernel sorts the
//! answers and reports an endpoint that refuses. All sockets sit in an epoll set of their own, of which the runtime sees one descriptor:
//! a wake-up serves every socket that is ready.

mod sys;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use weir_config::Balance;

use crate::cause::Cause;
use crate::endpoint::EndpointState;
use crate::snapshot::{ListenerSnapshot, PoolSnapshot};
use crate::stats;
use crate::udp::{Admit, Closed, FlowId, FlowKey, Settings, Table};

use self::sys::{Inbox, Outgoing};
use super::exchange::source_key;
use super::pick::{pool, step_in};
use super::worker::{Stop, Worker};

/// Ready sockets told at once.
const EVENTS_MAX: usize = 128;
/// Batches before other tasks of the worker get their turn.
const ROUNDS_MAX: usize = 16;
/// Once nothing new is taken, how long a flow may be quiet before its last answer is taken to have come.
const DRAIN_QUIET_MS: u64 = 2000;
/// What the listening socket is called in the epoll set; no flow has that name.
const LISTENING: u64 = u64::MAX;

/// A flow's connection to its endpoint.
#[derive(Debug)]
struct Upstream {
    id: FlowId,
    socket: OwnedFd,
    key: FlowKey,
    endpoint: Arc<EndpointState>,
}

/// Everything of one listening socket.
struct Server {
    worker: Rc<Worker>,
    listener: Arc<ListenerSnapshot>,
    socket: OwnedFd,
    epoll: AsyncFd<OwnedFd>,
    table: Table,
    /// By index of the flow.
    upstreams: Vec<Option<Upstream>>,
    generation: u64,
    stopped: bool,
}

/// Serves a socket until it is stopped and its flows have ended.
pub(super) async fn serve(worker: Rc<Worker>, socket: OwnedFd, address: SocketAddr, slot: u32, stop: Rc<Stop>) {
    let Some(listener) = worker.listener(slot) else { return };
    let mut server = match Server::new(&worker, socket, address, listener) {
        Ok(server) => server,
        Err(error) => return tracing::error!(%address, %error, "cannot serve a listening socket"),
    };
    let mut inbox = Inbox::new();
    let mut more = false;
    while !(server.stopped && server.table.is_empty()) {
        let shared = Arc::clone(&worker.shared);
        let wait = server.table.poll_timeout().map(|due| due.saturating_sub(worker.timers.now_us() / 1000));
        let timeout = tokio::time::sleep(std::time::Duration::from_millis(wait.unwrap_or(60_000)));
        tokio::select! {
            biased;
            () = stop.now.notified(), if !server.stopped => {
                if !stop.hand_over.get() {
                    while server.from_clients(&mut inbox) > 0 {}
                }
                server.stop(address, stop.hand_over.get());
                stop.done.replace(None);
            }
            () = shared.changed.notified() => {}
            // The runtime was told once of what is still there: come back by ourselves, after the others.
            () = tokio::task::yield_now(), if more => more = !server.turn(&mut inbox),
            ready = server.epoll.readable(), if !more => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                more = !server.turn(&mut inbox);
            }
            () = timeout => {}
        }
        server.refresh();
        server.table.handle_timeout(worker.timers.now_us() / 1000);
        server.end_flows();
    }
}

impl Server {
    fn new(worker: &Rc<Worker>, socket: OwnedFd, address: SocketAddr, listener: Arc<ListenerSnapshot>) -> io::Result<Server> {
        if address.ip().is_unspecified() {
            sys::tell_local_address(socket.as_fd(), address.is_ipv4())?;
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &socket, epoll::EventData::new_u64(LISTENING), epoll::EventFlags::IN)?;
        let seed = worker.random.borrow_mut().u64(..);
        let table = Table::new(settings(&listener), seed);
        Ok(Server {
            worker: Rc::clone(worker),
            listener,
            socket,
            epoll: sys::watch(epoll)?,
            table,
            upstreams: Vec::new(),
            generation: 0,
            stopped: false,
        })
    }

    /// Nothing new from now on; what endpoints still answer is passed on.
    fn stop(&mut self, address: SocketAddr, hand_over: bool) {
        self.stopped = true;
        let _ = epoll::delete(self.epoll.get_ref(), &self.socket);
        if !hand_over {
            // A socket that listens to itself alone takes nothing from those that may be bound to its address after it.
            let itself = match address.ip() {
                ip if !ip.is_unspecified() => address,
                std::net::IpAddr::V4(_) => (std::net::Ipv4Addr::LOCALHOST, address.port()).into(),
                std::net::IpAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
            };
            if let Err(error) = rustix::net::connect(&self.socket, &itself) {
                tracing::warn!(%address, %error, "a removed UDP socket may still take datagrams until its flows have ended");
            }
        }
        let settings = settings(&self.listener);
        self.table.set(Settings { idle_ms: settings.idle_ms.min(DRAIN_QUIET_MS), ..settings });
    }

    /// Serves what is ready. Whether that was all.
    fn turn(&mut self, inbox: &mut Inbox) -> bool {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        for _ in 0..ROUNDS_MAX {
            events.clear();
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let told = epoll::wait(self.epoll.get_ref(), rustix::buffer::spare_capacity(&mut events), Some(&none));
            if told.is_err() || events.is_empty() {
                return true;
            }
            for event in &events {
                let name = { event.data }.u64();
                if name == LISTENING {
                    self.from_clients(inbox);
                } else {
                    self.from_endpoint(FlowId { index: name as u32, generation: (name >> 32) as u32 }, inbox);
                }
            }
        }
        false
    }

    /// Passes one batch of clients' datagrams on. How many there were.
    fn from_clients(&mut self, inbox: &mut Inbox) -> usize {
        let Ok(count) = inbox.receive(self.socket.as_fd()) else { return 0 };
        let now_ms = self.worker.timers.now_us() / 1000;
        let mut run: Option<FlowId> = None;
        let mut batch: Vec<Outgoing<'_>> = Vec::with_capacity(count);
        let mut received = 0;
        for datagram in inbox.datagrams() {
            received += datagram.bytes.len() as u64;
            let Some(client) = datagram.peer else { continue };
            let Some(id) = self.flow_of(FlowKey { client, local: datagram.local }, now_ms) else { continue };
            if let Some(last) = run.filter(|last| *last != id) {
                self.to_endpoint(last, &batch);
                batch.clear();
            }
            run = Some(id);
            batch.push(Outgoing { bytes: datagram.bytes, to: None, from: None });
        }
        if let Some(last) = run {
            self.to_endpoint(last, &batch);
        }
        stats::add(&self.shard().received_bytes, received);
        count
    }

    /// The flow of a client's datagram, begun if need be; `None`: there is none to be had, which was counted.
    fn flow_of(&mut self, key: FlowKey, now_ms: u64) -> Option<FlowId> {
        let id = match self.table.handle_client(key, now_ms) {
            Admit::Known(id) => return Some(id),
            Admit::Full => {
                self.count(Cause::Overload);
                return None;
            }
            Admit::New(id) => id,
        };
        self.end_flows();
        match self.open(id, key) {
            Ok(()) => Some(id),
            Err(cause) => {
                self.table.remove(id);
                self.count(cause);
                // Out of descriptors or ports: who has been quiet makes room for the next one.
                if cause == Cause::Overload && self.table.evict(now_ms) {
                    self.end_flows();
                }
                None
            }
        }
    }

    fn open(&mut self, id: FlowId, key: FlowKey) -> Result<(), Cause> {
        let snapshot = self.worker.snapshot();
        let slot = self.listener.pool.ok_or(Cause::NoRoute)?;
        let pool = pool(&snapshot, slot).ok_or(Cause::NoEndpoint)?;
        let shard = pool.stats.shard(self.worker.id);
        stats::add(&shard.requests, 1);
        let hash = matches!(pool.config.balance, Balance::Maglev(_)).then(|| source_key(key.client));
        let now_ns = self.worker.timers.recent_us() * 1000;
        let picked = pool.selector.pick(hash, now_ns, &mut self.worker.random.borrow_mut(), &[]).ok_or(Cause::NoEndpoint)?;
        let candidate = &pool.selector.candidates()[picked as usize];
        let socket = connect(candidate.address).map_err(|_| Cause::Overload)?;
        let name = u64::from(id.generation) << 32 | u64::from(id.index);
        epoll::add(self.epoll.get_ref(), &socket, epoll::EventData::new_u64(name), epoll::EventFlags::IN).map_err(|_| Cause::Overload)?;
        let limit = pool.config.limits.connections_per_endpoint.map_or(u32::MAX, std::num::NonZeroU32::get);
        let endpoint = Arc::clone(&candidate.state);
        if !step_in(&endpoint.in_flight, limit) {
            return Err(Cause::NoEndpoint);
        }
        endpoint.sessions.fetch_add(1, Ordering::Relaxed);
        endpoint.requests_total.fetch_add(1, Ordering::Relaxed);
        endpoint.connects_total.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard();
        stats::add(&shard.accepted, 1);
        stats::add(&shard.open, 1);
        stats::add(&self.worker.gauges.connections, 1);
        stats::add(&self.worker.gauges.in_flight, 1);
        let index = id.index as usize;
        if self.upstreams.len() <= index {
            self.upstreams.resize_with(index + 1, || None);
        }
        self.upstreams[index] = Some(Upstream { id, socket, key, endpoint });
        Ok(())
    }

    fn to_endpoint(&mut self, id: FlowId, datagrams: &[Outgoing<'_>]) {
        let Some(upstream) = self.upstreams.get(id.index as usize).and_then(Option::as_ref).filter(|up| up.id == id) else { return };
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if send_all(upstream.socket.as_fd(), datagrams).is_some_and(|error| refused(&error)) {
            self.fail(id);
        }
    }

    /// Passes one batch of an endpoint's datagrams on.
    fn from_endpoint(&mut self, id: FlowId, inbox: &mut Inbox) {
        let Some(upstream) = self.upstreams.get(id.index as usize).and_then(Option::as_ref).filter(|up| up.id == id) else { return };
        match inbox.receive(upstream.socket.as_fd()) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => return self.fail(id),
        }
        if upstream.endpoint.failures_in_row.load(Ordering::Relaxed) != 0 {
            upstream.endpoint.failures_in_row.store(0, Ordering::Relaxed);
        }
        let FlowKey { client, local } = upstream.key;
        let answers: Vec<Outgoing<'_>> =
            inbox.datagrams().map(|got| Outgoing { bytes: got.bytes, to: Some(client), from: local }).collect();
        // What a client's network does not take is lost, as it would be without us.
        let _ = send_all(self.socket.as_fd(), &answers);
        stats::add(&self.shard().sent_bytes, answers.iter().map(|answer| answer.bytes.len() as u64).sum());
        self.table.handle_endpoint(id, self.worker.timers.recent_us() / 1000);
    }

    /// The endpoint refused: the client's next datagram finds another one.
    fn fail(&mut self, id: FlowId) {
        let slot = self.listener.pool;
        if let Some(Some(upstream)) = self.upstreams.get(id.index as usize) {
            let endpoint = &upstream.endpoint;
            endpoint.failures_total.fetch_add(1, Ordering::Relaxed);
            let in_row = endpoint.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
            let snapshot = self.worker.snapshot();
            if let Some(pool) = slot.and_then(|slot| pool(&snapshot, slot)) {
                stats::add(&pool.stats.shard(self.worker.id).failures, 1);
                if pool.config.ejection.as_ref().is_some_and(|ejection| in_row >= ejection.consecutive_failures.get()) {
                    self.worker.report_failing(endpoint.slot);
                }
            }
        }
        self.table.remove(id);
        self.close(id, Cause::ConnectFailed);
    }

    fn end_flows(&mut self) {
        while let Some((id, why)) = self.table.poll_output() {
            let cause = match why {
                Closed::Idle => Cause::Ok,
                Closed::Evicted => Cause::Overload,
                Closed::Left => Cause::Drained,
            };
            self.close(id, cause);
        }
    }

    fn close(&mut self, id: FlowId, cause: Cause) {
        let Some(upstream) = self.upstreams.get_mut(id.index as usize).and_then(|slot| slot.take_if(|up| up.id == id)) else { return };
        upstream.endpoint.sessions.fetch_sub(1, Ordering::Relaxed);
        upstream.endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.count(cause);
        stats::sub(&self.shard().open, 1);
        stats::sub(&self.worker.gauges.connections, 1);
        stats::sub(&self.worker.gauges.in_flight, 1);
    }

    /// Goes by the truth as it is now: other bounds, and endpoints that flows have to leave.
    fn refresh(&mut self) {
        let snapshot = self.worker.snapshot();
        if snapshot.generation == self.generation {
            return;
        }
        self.generation = snapshot.generation;
        if let Some(now) = self.worker.listener(self.listener.slot) {
            self.listener = now;
        }
        if !self.stopped {
            self.table.set(settings(&self.listener));
        }
        let pool = self.listener.pool.and_then(|slot| pool(&snapshot, slot));
        let until = self.worker.timers.recent_us() / 1000 + self.listener.config.timeouts.flow_drain.as_millis() as u64;
        for upstream in self.upstreams.iter().flatten() {
            let serves = pool.is_some_and(|pool| serves(pool, &upstream.endpoint));
            self.table.leave(upstream.id, (!serves).then_some(until));
        }
    }

    fn shard(&self) -> &stats::ListenerShard {
        self.listener.stats.shard(self.worker.id)
    }

    fn count(&self, cause: Cause) {
        stats::add(&self.shard().ended[cause as usize], 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let living: Vec<FlowId> = self.table.ids().collect();
        for id in living {
            self.close(id, Cause::Drained);
        }
    }
}

fn serves(pool: &PoolSnapshot, endpoint: &Arc<EndpointState>) -> bool {
    pool.selector.candidates().iter().any(|candidate| Arc::ptr_eq(&candidate.state, endpoint))
}

/// The cap is shared out evenly: which worker a client comes to is the kernel's choice, by its address.
fn settings(listener: &ListenerSnapshot) -> Settings {
    let workers = listener.stats.workers().max(1) as u32;
    Settings {
        flows_max: listener.config.connections_max.get().div_ceil(workers),
        idle_ms: listener.config.timeouts.flow.as_millis() as u64,
    }
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Sends all that can be sent; a datagram that cannot is passed over. The last error.
fn send_all(socket: BorrowedFd<'_>, mut datagrams: &[Outgoing<'_>]) -> Option<io::Error> {
    let mut failed = None;
    while !datagrams.is_empty() {
        match sys::send(socket, datagrams) {
            Ok(count) => datagrams = &datagrams[count.max(1)..],
            Err(error) => {
                failed = Some(error);
                datagrams = &datagrams[1..];
            }
        }
    }
    failed
}
