//! Everything of one listening socket: who is ready, and the datagrams on their way.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{Timespec, epoll};
use tokio::io::unix::AsyncFd;

use crate::cause::Cause;
use crate::snapshot::ListenerSnapshot;
use crate::stats;
use crate::udp::{Admit, Dropped, FlowId, FlowKey, Settings, Table};

use super::super::worker::{StopMode, Worker};
use super::flows::Upstreams;
use super::sys::{self, Inbox, Outbox, Outgoing, Sent, datagrams};

/// Ready sockets told at once.
const EVENTS_MAX: usize = 128;
/// Rounds before other tasks of the worker get their turn.
const ROUNDS_MAX: usize = 16;
/// Once nothing new is taken, how long a flow may be quiet before its last datagram is taken to have come.
const DRAIN_QUIET_MS: u64 = 2000;
/// How often the kernel is asked what it had no room for.
const DROPS_EVERY_MS: u64 = 1000;
/// What the listening socket is called in the epoll set; no flow has that name.
const LISTENING: u64 = u64::MAX;

/// Everything of one listening socket.
pub(super) struct Server {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerSnapshot>,
    socket: OwnedFd,
    pub(super) epoll: AsyncFd<OwnedFd>,
    pub(super) table: Table,
    pub(super) upstreams: Upstreams,
    /// Of clients; taken out while flows begin and end.
    questions: Option<Inbox>,
    /// Of endpoints.
    answers: Inbox,
    outbox: Outbox,
    /// Who is ready; taken out while they are served.
    events: Vec<epoll::Event>,
    /// Whether messages of several datagrams can leave towards clients.
    segments: bool,
    stopped: bool,
    drops_seen: u32,
    drops_next_ms: u64,
}

impl Server {
    pub(super) fn new(worker: &Rc<Worker>, socket: OwnedFd, address: SocketAddr, listener: Arc<ListenerSnapshot>) -> io::Result<Server> {
        if address.ip().is_unspecified() {
            sys::tell_local_address(socket.as_fd(), address.is_ipv4())?;
        }
        let segments = sys::offload(socket.as_fd());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &socket, epoll::EventData::new_u64(LISTENING), epoll::EventFlags::IN)?;
        let seed = worker.random.borrow_mut().u64(..);
        let table = Table::new(settings(&listener), seed);
        // What was lost before is not ours to count: an earlier process may have counted it.
        let drops_seen = sys::receive_drops(socket.as_fd()).unwrap_or(0);
        Ok(Server {
            worker: Rc::clone(worker),
            listener,
            socket,
            epoll: sys::watch(epoll)?,
            table,
            upstreams: Upstreams::default(),
            questions: Some(Inbox::new()),
            answers: Inbox::new(),
            outbox: Outbox::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            segments,
            stopped: false,
            drops_seen,
            drops_next_ms: 0,
        })
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.stopped && self.table.is_empty()
    }

    /// When [`Server::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.table.poll_timeout()
    }

    /// Ends flows whose time is up.
    pub(super) fn handle_timeout(&mut self) {
        self.table.handle_timeout(self.worker.timers.now_us() / 1000);
        self.end_flows();
    }

    /// No new flow from now on.
    pub(super) fn stop(&mut self, address: SocketAddr, mode: StopMode) {
        if mode != StopMode::HandOver && !self.stopped {
            // What is there already came before.
            while self.serve_clients() > 0 {}
        }
        self.stopped = true;
        if mode != StopMode::Drain {
            // Another socket takes what clients send from now on; what endpoints still answer leaves through this one.
            let _ = epoll::delete(self.epoll.get_ref(), &self.socket);
        }
        if mode == StopMode::Rebound {
            // A socket that listens to itself alone takes nothing from those that are bound to its address after it.
            let itself = match address.ip() {
                ip if !ip.is_unspecified() => address,
                IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
                IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
            };
            if let Err(error) = rustix::net::connect(&self.socket, &itself) {
                tracing::warn!(%address, %error, "a UDP socket whose address was given to another listener may still take datagrams");
            }
        }
        let settings = settings(&self.listener);
        self.table.set(Settings { idle_ms: settings.idle_ms.min(DRAIN_QUIET_MS), ..settings });
        self.leave_all();
    }

    /// Goes by the truth as it is now: other bounds, and endpoints that flows have to leave.
    pub(super) fn refresh(&mut self) {
        if let Some(now) = self.worker.listener(self.listener.slot)
            && now.name() == self.listener.name()
        {
            self.listener = now;
        }
        if !self.stopped {
            self.table.set(settings(&self.listener));
        }
        self.leave_endpoints();
    }

    /// Serves what is ready. Whether that was all.
    pub(super) fn turn(&mut self) -> bool {
        self.count_receive_drops();
        let mut events = std::mem::take(&mut self.events);
        let all = self.rounds(&mut events);
        self.events = events;
        all
    }

    fn rounds(&mut self, events: &mut Vec<epoll::Event>) -> bool {
        for _ in 0..ROUNDS_MAX {
            events.clear();
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let told = epoll::wait(self.epoll.get_ref(), rustix::buffer::spare_capacity(events), Some(&none));
            if told.is_err() || events.is_empty() {
                return true;
            }
            self.serve_endpoints(events);
            if events.iter().any(|event| { event.data }.u64() == LISTENING) {
                self.serve_clients();
            }
        }
        false
    }

    /// Passes one batch of clients' messages on. How many there were.
    fn serve_clients(&mut self) -> usize {
        let Some(mut inbox) = self.questions.take() else { return 0 };
        inbox.clear();
        let count = inbox.receive(self.socket.as_fd()).unwrap_or(0);
        let now_ms = self.worker.timers.now_us() / 1000;
        let mut batch: Vec<Outgoing<'_>> = Vec::with_capacity(count);
        let (mut received, mut bytes) = (0, 0);
        for message in inbox.messages() {
            let datagrams = datagrams(message.bytes, message.segment);
            received += datagrams;
            bytes += message.bytes.len() as u64;
            let Some(client) = message.peer else { continue };
            match self.flow_of(FlowKey { client, local: message.local }, now_ms) {
                Ok(flow) => batch.push(Outgoing { bytes: message.bytes, segment: message.segment, to: None, from: None, flow }),
                Err(why) => stats::add(&self.shard().udp.dropped[why as usize], datagrams),
            }
        }
        stats::add(&self.shard().udp.from_clients, received);
        stats::add(&self.shard().received_bytes, bytes);
        // Stable: each flow's datagrams stay in order.
        batch.sort_by_key(|outgoing| outgoing.flow.index);
        for run in batch.chunk_by(|a, b| a.flow == b.flow) {
            self.pass_to_endpoint(run);
        }
        drop(batch);
        self.questions = Some(inbox);
        count
    }

    /// The flow of a client's datagram, begun if need be.
    fn flow_of(&mut self, key: FlowKey, now_ms: u64) -> Result<FlowId, Dropped> {
        if self.stopped {
            return self.table.handle_client_of_old(key, now_ms).ok_or(Dropped::Stopping);
        }
        let id = match self.table.handle_client(key, now_ms) {
            Admit::Known(id) => return Ok(id),
            Admit::Full => {
                self.count(Cause::Overload);
                return Err(Dropped::TableFull);
            }
            Admit::New(id) => id,
        };
        self.end_flows();
        match self.begin(id, key) {
            Ok(()) => Ok(id),
            Err(why) => {
                self.table.remove(id);
                // Out of descriptors or ports: who has been quiet makes room for the next one.
                if why == Dropped::NoSocket && self.table.evict(now_ms) {
                    self.end_flows();
                }
                self.count(if why == Dropped::NoSocket { Cause::Overload } else { Cause::NoEndpoint });
                Err(why)
            }
        }
    }

    /// All of one flow.
    fn pass_to_endpoint(&mut self, run: &[Outgoing<'_>]) {
        let Some(upstream) = run.first().and_then(|first| self.upstreams.get_mut(first.flow)) else { return };
        let id = upstream.id;
        let sent = self.outbox.send(upstream.socket.as_fd(), run, &mut upstream.segments);
        stats::add(&self.shard().udp.to_endpoints, sent.datagrams);
        self.count_dropped(&sent);
        if sent.dropped[Dropped::Refused as usize] > 0 {
            self.refused(id);
        }
    }

    /// Passes on what the endpoints of these flows answered.
    fn serve_endpoints(&mut self, events: &[epoll::Event]) {
        let now_ms = self.worker.timers.now_us() / 1000;
        self.answers.clear();
        for name in events.iter().map(|event| { event.data }.u64()).filter(|name| *name != LISTENING) {
            let id = FlowId { index: name as u32, generation: (name >> 32) as u32 };
            if self.answers.is_full() {
                self.pass_to_clients();
            }
            let Some(upstream) = self.upstreams.get(id) else { continue };
            match self.answers.receive(upstream.socket.as_fd()) {
                Ok(count) => {
                    self.answers.address(count, id, upstream.key.client, upstream.key.local);
                    let in_row = &upstream.endpoint.failures_in_row;
                    if in_row.load(Ordering::Relaxed) != 0 {
                        in_row.store(0, Ordering::Relaxed);
                    }
                    self.table.handle_endpoint(id, now_ms);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => self.refused(id),
            }
        }
        self.pass_to_clients();
    }

    /// Sends what the inbox holds to the clients, and empties it.
    fn pass_to_clients(&mut self) {
        let outgoing = self.answers.messages().map(|message| Outgoing {
            bytes: message.bytes,
            segment: message.segment,
            to: message.peer,
            from: message.local,
            flow: message.flow,
        });
        let answers: Vec<Outgoing<'_>> = outgoing.collect();
        if answers.is_empty() {
            return;
        }
        let received = answers.iter().map(|answer| datagrams(answer.bytes, answer.segment)).sum();
        let sent = self.outbox.send(self.socket.as_fd(), &answers, &mut self.segments);
        drop(answers);
        let shard = self.shard();
        stats::add(&shard.udp.from_endpoints, received);
        stats::add(&shard.udp.to_clients, sent.datagrams);
        stats::add(&shard.sent_bytes, sent.bytes);
        self.count_dropped(&sent);
        self.answers.clear();
    }

    fn count_receive_drops(&mut self) {
        let now_ms = self.worker.timers.now_us() / 1000;
        if now_ms < self.drops_next_ms {
            return;
        }
        self.drops_next_ms = now_ms + DROPS_EVERY_MS;
        if let Some(drops) = sys::receive_drops(self.socket.as_fd()) {
            let more = drops.wrapping_sub(std::mem::replace(&mut self.drops_seen, drops));
            stats::add(&self.shard().udp.dropped[Dropped::ReceiveBuffer as usize], more.into());
        }
    }

    fn count_dropped(&self, sent: &Sent) {
        for (counter, count) in self.shard().udp.dropped.iter().zip(sent.dropped).filter(|(_, count)| *count > 0) {
            stats::add(counter, count);
        }
    }

    pub(super) fn count(&self, cause: Cause) {
        stats::add(&self.shard().ended[cause as usize], 1);
    }

    pub(super) fn shard(&self) -> &stats::ListenerShard {
        self.listener.stats.shard(self.worker.id)
    }
}

/// The cap is shared out evenly: which worker a client comes to is the kernel's choice, by its address.
fn settings(listener: &ListenerSnapshot) -> Settings {
    let workers = listener.stats.workers().max(1) as u32;
    Settings {
        flows_max: listener.config.connections_max.get().div_ceil(workers),
        idle_ms: listener.config.timeouts.flow.as_millis() as u64,
    }
}
