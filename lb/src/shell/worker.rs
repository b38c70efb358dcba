//! One thread of the data plane: its runtime, its listeners, its hot state.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use weir_config::Protocol;

use crate::cause::Cause;
use crate::director::{Report, Shared};
use crate::endpoint::EndpointState;
use crate::limit::{self, Seat};
use crate::snapshot::{ListenerSnapshot, PoolSnapshot, Snapshot};
use crate::stats;
use crate::tls::TlsStore;

use super::buffer::Buffers;
use super::log::Log;
use super::peer::{self, Peer};
use super::pick::Waiters;
use super::plane::{Bind, LogSink};
use super::pulse::{Beat, Obituary};
use super::timer::Timers;
use super::tunnel::Pipes;
use super::upstream::{Surplus, Upstreams};
use super::{http, tcp, tls, udp};

/// How long an idle connection is kept once a drain has begun: long enough for a request that is on its way.
const DRAIN_GRACE_MS: u64 = 2000;
/// A pause after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Between two warnings about what many connections may run into.
const WARNING_MS: u64 = 1000;
/// Connections taken from one listening socket before others get their turn.
const ACCEPT_BATCH: u32 = 64;

/// Time since the process began to serve: a clock that all workers read alike.
pub(super) fn uptime() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve this socket.
    /// `alive` is held until nothing of it is left.
    Listen { bind: Bind, socket: OwnedFd, listener: u32, admission: Arc<Admission>, alive: Arc<()> },
    /// Serve these sockets no longer, unless handed over after what is in their queues. `done` is let go of when that is so.
    Unlisten { binds: Vec<Bind>, mode: StopMode, done: std::sync::mpsc::Sender<()> },
    /// From now on connections are closed after their next response.
    Drain,
    /// Show that you are alive: put the number there.
    Answer { question: u64, to: Arc<AtomicU64> },
    /// Log here from now on.
    Log(Option<LogSink>),
    /// End now.
    Stop,
}

/// What the other threads may see of a worker.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) connections: AtomicU64,
    pub(super) in_flight: AtomicU64,
}

/// How many connections a listener has over all workers.
#[derive(Debug, Default)]
pub(super) struct Admission {
    open: AtomicU32,
    /// At least one accept loop waits for room.
    room: Notify,
}

/// The hot state of one thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: usize,
    pub(super) node: Arc<str>,
    pub(super) shared: Arc<Shared>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) timers: Rc<Timers>,
    pub(super) buffers: Rc<Buffers>,
    pub(super) pipes: Pipes,
    pub(super) upstreams: Upstreams,
    pub(super) waiters: Waiters,
    pub(super) random: RefCell<fastrand::Rng>,
    pub(super) draining: Cell<bool>,
    pub(super) tls: Arc<TlsStore>,
    /// TLS handshakes under way.
    pub(super) handshakes: Cell<u32>,
    pub(super) log: RefCell<Log>,
    /// Mirrored requests under way.
    pub(super) mirrors: Cell<u32>,
    /// When the next such warning may be written, on the worker's clock.
    warning_ms: Cell<u64>,
    snapshot: RefCell<Rc<Seen>>,
    reports: mpsc::Sender<Report>,
}

/// The truth as a worker has seen it: all its requests together hold it once, and count themselves on this thread alone.
#[derive(Debug)]
pub(super) struct Seen(Arc<Snapshot>);

impl std::ops::Deref for Seen {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// What a worker's thread starts with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) id: usize,
    pub(super) node: Arc<str>,
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Arc<TlsStore>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) surplus: Arc<Surplus>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) log: Option<LogSink>,
    pub(super) reclaim: Option<fn()>,
    pub(super) obituary: Obituary,
    pub(super) beat: Arc<Beat>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
}

/// The thread's whole life.
pub(super) fn run(setup: Setup) -> std::io::Result<()> {
    let (parking, waking) = (Arc::clone(&setup.beat), Arc::clone(&setup.beat));
    setup.beat.begin();
    let mut builder = Builder::new_current_thread();
    builder.enable_all().on_thread_park(move || parking.park()).on_thread_unpark(move || waking.unpark());
    let runtime = builder.build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let Setup { id, node, shared, tls, gauges, surplus, reports, log, reclaim, obituary, beat, commands } = setup;
        let first = Rc::new(Seen(shared.snapshot.load_full()));
        let mut lines = Log::default();
        lines.set(log);
        let worker = Rc::new(Worker {
            id,
            node,
            shared,
            gauges,
            timers: Timers::new(beat),
            buffers: Rc::default(),
            pipes: Pipes::default(),
            upstreams: Upstreams::new(id, surplus),
            waiters: Waiters::default(),
            random: RefCell::new(fastrand::Rng::new()),
            draining: Cell::new(false),
            tls,
            handshakes: Cell::new(0),
            log: RefCell::new(lines),
            mirrors: Cell::new(0),
            warning_ms: Cell::new(0),
            snapshot: RefCell::new(first),
            reports,
        });
        tokio::task::spawn_local(run_timers(Rc::clone(&worker)));
        tokio::task::spawn_local(follow_changes(Rc::clone(&worker)));
        tokio::task::spawn_local(keep_house(Rc::clone(&worker), reclaim));
        obey(&worker, &obituary, commands).await;
        worker.log.borrow_mut().flush();
        drop(obituary);
    });
    Ok(())
}

async fn run_timers(worker: Rc<Worker>) {
    worker.timers.run().await;
}

/// Tells those who wait for an endpoint when there may be one.
async fn follow_changes(worker: Rc<Worker>) {
    let shared = Arc::clone(&worker.shared);
    // Each is renewed before what it told is acted on, and outlives the other's turn: a notification reaches only those that wait already.
    let mut losses = 0;
    let mut changed = pin!(shared.changed.notified());
    let mut freed = pin!(shared.freed.notified());
    loop {
        tokio::select! {
            () = changed.as_mut() => {
                changed.set(shared.changed.notified());
                worker.waiters.wake_all();
                let lost = worker.snapshot().losses;
                if std::mem::replace(&mut losses, lost) != lost {
                    // Rare: whoever waits for an answer of an endpoint that is gone finds out now.
                    worker.timers.wake_all();
                }
                worker.upstreams.sweep(worker.timers.now_us() / 1000);
            }
            () = freed.as_mut() => {
                freed.set(shared.freed.notified());
                worker.waiters.wake_firsts();
            }
        }
    }
}

/// Once a second: drops idle connections that are of no more use, hands over log lines, gives back what a burst needed.
async fn keep_house(worker: Rc<Worker>, reclaim: Option<fn()>) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        worker.upstreams.sweep(worker.timers.now_us() / 1000);
        worker.log.borrow_mut().flush();
        if worker.buffers.trim()
            && let Some(reclaim) = reclaim
        {
            reclaim();
        }
        // An idle worker must not hold an old snapshot, and with it endpoints that are gone.
        drop(worker.snapshot());
    }
}

async fn obey(worker: &Rc<Worker>, obituary: &Obituary, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut sockets: HashMap<Bind, Vec<Rc<Stop>>> = HashMap::new();
    // Of datagrams, whose flows may go on for a while.
    let mut leaving: HashMap<Bind, Vec<Rc<Stop>>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen { bind, socket, listener, admission, alive } => {
                let stop = Rc::new(Stop::default());
                if bind.is_udp {
                    leaving.remove(&bind).into_iter().flatten().for_each(|stop| stop.tell(StopMode::Rebound));
                    sockets.entry(bind).or_default().push(Rc::clone(&stop));
                    let serving = udp::serve(Rc::clone(worker), socket, bind.address, listener, stop, alive);
                    tokio::task::spawn_local(obituary.post().keep(serving));
                    continue;
                }
                match TcpListener::from_std(StdListener::from(socket)) {
                    Ok(socket) => {
                        sockets.entry(bind).or_default().push(Rc::clone(&stop));
                        let accepting = accept(Rc::clone(worker), socket, listener, admission, stop);
                        tokio::task::spawn_local(obituary.post().keep(accepting));
                    }
                    Err(error) => tracing::error!(address = %bind.address, %error, "cannot serve a listening socket"),
                }
            }
            Command::Unlisten { binds, mode, done } => {
                leaving.retain(|_, stops| {
                    // Ours is the last one once the task has ended.
                    stops.retain(|stop| Rc::strong_count(stop) > 1);
                    !stops.is_empty()
                });
                for bind in binds {
                    for stop in sockets.remove(&bind).into_iter().flatten() {
                        stop.done.replace(Some(done.clone()));
                        stop.tell(mode);
                        if bind.is_udp && mode == StopMode::Drain {
                            leaving.entry(bind).or_default().push(stop);
                        }
                    }
                }
            }
            Command::Drain => {
                worker.draining.set(true);
                worker.timers.hasten_parked(worker.timers.now_us() / 1000 + DRAIN_GRACE_MS);
            }
            Command::Answer { question, to } => to.store(question, Ordering::Relaxed),
            Command::Log(sink) => worker.log.borrow_mut().set(sink),
            Command::Stop => return,
        }
    }
}

/// What becomes of clients that come to a socket which is served no longer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum StopMode {
    /// Those in its queue are served; nobody else is there to take others.
    #[default]
    Drain,
    /// Those in its queue are served; another listener of this process takes the others.
    Rebound,
    /// All of them are left to another process, which has the same socket.
    HandOver,
}

/// Ends an accept loop.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) now: Notify,
    pub(super) mode: Cell<StopMode>,
    /// Dropped with the accept loop, which somebody waits for.
    pub(super) done: RefCell<Option<std::sync::mpsc::Sender<()>>>,
}

impl Stop {
    fn tell(&self, mode: StopMode) {
        self.mode.set(mode);
        self.now.notify_one();
    }
}

async fn accept(worker: Rc<Worker>, socket: TcpListener, listener: u32, admission: Arc<Admission>, stop: Rc<Stop>) {
    let Some(mut known) = worker.listener(listener) else { return };
    let mut batch = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.now.notified() => break,
            accepted = accept_one(&worker, &socket, listener, &admission) => if let Some((stream, peer)) = accepted {
                start(&worker, stream, peer, &mut known, &admission);
            },
        }
        batch += 1;
        if batch % ACCEPT_BATCH == 0 {
            tokio::task::yield_now().await;
        }
    }
    if stop.mode.get() != StopMode::HandOver {
        serve_queue(&worker, socket, &mut known, &admission);
    }
}

/// Whoever completed a handshake before the socket closes gets served. The kernel is asked: the runtime may not have heard of all of them,
/// and would stop at the end of its turn.
fn serve_queue(worker: &Rc<Worker>, socket: TcpListener, known: &mut Arc<ListenerSnapshot>, admission: &Arc<Admission>) {
    let Ok(socket) = socket.into_std() else { return };
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    start(worker, stream, peer, known, admission);
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

async fn accept_one(worker: &Worker, socket: &TcpListener, listener: u32, admission: &Admission) -> Option<(TcpStream, SocketAddr)> {
    let most = worker.listener(listener).map_or(u32::MAX, |listener| listener.config.connections_max.get());
    let room = admission.room.notified();
    if admission.open.load(Ordering::Relaxed) >= most {
        // The limit may have been raised by the next snapshot: look again now and then.
        let _ = tokio::time::timeout(Duration::from_millis(100), room).await;
        return None;
    }
    match socket.accept().await {
        Ok(accepted) => Some(accepted),
        // That one is gone; those behind it need not wait.
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => None,
        Err(error) => {
            // Out of descriptors, mostly: the next one deserves a try, but not in a tight loop.
            if worker.may_warn() {
                tracing::warn!(%error, "cannot accept a connection");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves a connection as the listener is now. One that came just before its listener was removed is served as it was.
fn start(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, known: &mut Arc<ListenerSnapshot>, admission: &Arc<Admission>) {
    if let Some(now) = worker.listener(known.slot) {
        *known = now;
    }
    let listener = Arc::clone(known);
    let announcers = &listener.config.announcers;
    let announces = !announcers.is_empty() && announcers.iter().any(|network| network.contains(peer.ip()));
    if !announces && !listener.config.access.admits(peer.ip()) {
        stats::add(&listener.stats.shard(worker.id).ended[Cause::Denied as usize], 1);
        return;
    }
    let mut open = Open::new(worker, &listener, admission);
    if announces {
        drop(tokio::task::spawn_local(peer::serve(stream, peer, listener, open)));
        return;
    }
    let peer = Peer::of(peer);
    if !open.seat(&listener, &peer) {
        return;
    }
    match &listener.config.protocol {
        Protocol::Http(http) if http.tls.is_some() => drop(tokio::task::spawn_local(tls::serve(stream, peer, listener, open))),
        Protocol::Http(_) => drop(tokio::task::spawn_local(http::serve(stream, peer, listener, open))),
        // A connection can only be left over from before its listener became one of datagrams.
        Protocol::Tcp(_) | Protocol::Udp => drop(tokio::task::spawn_local(tcp::serve(stream, peer, listener, open))),
    }
}

/// Serves a connection whose client is known, in the task that asked who it is.
pub(super) async fn serve(stream: TcpStream, peer: Peer, listener: Arc<ListenerSnapshot>, open: Open) {
    match &listener.config.protocol {
        Protocol::Http(http) if http.tls.is_some() => tls::serve(stream, peer, listener, open).await,
        Protocol::Http(_) => http::serve(stream, peer, listener, open).await,
        Protocol::Tcp(_) | Protocol::Udp => tcp::serve(stream, peer, listener, open).await,
    }
}

impl Worker {
    /// Whether a warning that many connections may cause can be written now: one a second.
    pub(super) fn may_warn(&self) -> bool {
        let now_ms = self.timers.now_us() / 1000;
        let may = now_ms >= self.warning_ms.get();
        if may {
            self.warning_ms.set(now_ms + WARNING_MS);
        }
        may
    }

    /// The truth now.
    pub(super) fn snapshot(&self) -> Rc<Seen> {
        let mut cached = self.snapshot.borrow_mut();
        if cached.generation != self.shared.generation.load(Ordering::Acquire) {
            *cached = Rc::new(Seen(self.shared.snapshot.load_full()));
        }
        Rc::clone(&cached)
    }

    /// A listener as it is now; `None` once it was removed.
    pub(super) fn listener(&self, slot: u32) -> Option<Arc<ListenerSnapshot>> {
        self.snapshot().listeners.get(slot as usize)?.clone()
    }

    /// Says what is wrong with an endpoint that cannot be used as it is; not for each request anew.
    pub(super) fn warn_endpoint(&self, pool: &PoolSnapshot, endpoint: &EndpointState, reason: &str) {
        if self.may_warn() {
            tracing::warn!(pool = %pool.config.name, endpoint = %endpoint.address, "an endpoint cannot be used: {reason}");
        }
    }

    /// Tells the director that an endpoint keeps failing. A full channel loses it: the next failure says it again.
    pub(super) fn report_failing(&self, endpoint: u32) {
        let _ = self.reports.try_send(Report::Failing { endpoint });
    }
}

/// Counts a client connection as long as it is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) worker: Rc<Worker>,
    admission: Arc<Admission>,
    stats: Arc<crate::stats::ListenerStats>,
    /// Among those of its source, where they are bounded.
    seat: Option<Seat>,
}

impl Open {
    /// Takes a seat among the connections of the client's source, if these are bounded. Whether there was one; that there was none is counted.
    pub(super) fn seat(&mut self, listener: &ListenerSnapshot, peer: &Peer) -> bool {
        let Some((crowd, most)) = listener.crowd.as_ref().zip(listener.config.connections_per_source) else { return true };
        self.seat = crowd.enter(&limit::source(peer.address.ip()), most);
        if self.seat.is_none() {
            stats::add(&self.stats.shard(self.worker.id).ended[Cause::RateLimited as usize], 1);
        }
        self.seat.is_some()
    }

    fn new(worker: &Rc<Worker>, listener: &ListenerSnapshot, admission: &Arc<Admission>) -> Open {
        let shard = listener.stats.shard(worker.id);
        stats::add(&shard.accepted, 1);
        stats::add(&shard.open, 1);
        stats::add(&worker.gauges.connections, 1);
        admission.open.fetch_add(1, Ordering::Relaxed);
        Open { worker: Rc::clone(worker), admission: Arc::clone(admission), stats: Arc::clone(&listener.stats), seat: None }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        stats::sub(&self.stats.shard(self.worker.id).open, 1);
        stats::sub(&self.worker.gauges.connections, 1);
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        self.admission.room.notify_waiters();
    }
}
