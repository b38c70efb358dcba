//! The whole data plane as one handle: starts the threads, owns the listening sockets, makes configurations take effect.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use weir_config::{AccessLogFormat, Config, Listener, ListenerName};

use crate::director::{Director, SavedVerdict};
use crate::tls::{SavedTicketKey, TlsErrors, TlsStore};

use super::pulse::{self, Beat, Obituaries, Rhythm, Vitality, Ward, Watch};
use super::session_keys::{self, KeyFileError};
use super::upstream::Surplus;
use super::worker::{self, Admission, Command, Gauges, Setup, StopMode};

/// Connections that may wait to be accepted, per socket. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Room for datagrams, per socket and direction. The kernel caps it at `net.core.rmem_max` and `wmem_max`.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long the end of accepting waits for workers that should need no time at all.
const STOP_ACCEPTING_MAX: Duration = Duration::from_secs(1);

/// What a socket is bound to: an address, once for TCP and once for UDP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Bind {
    pub(super) address: SocketAddr,
    pub(super) is_udp: bool,
}

/// All that the configuration wants bound, with the listener that wants it.
fn wanted_binds(config: &Config) -> impl Iterator<Item = (Bind, &Listener)> {
    config.listeners.values().flat_map(|listener| {
        let is_udp = matches!(listener.protocol, weir_config::Protocol::Udp);
        listener.binds.iter().map(move |address| (Bind { address: *address, is_udp }, &**listener))
    })
}

/// A listening socket, or one for datagrams, handed to, or over by, another process.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The address it listens on.
    pub address: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
}

/// Where access log lines go: whole lines, in chunks. The receiver writes and returns; when it is full, lines are dropped and counted.
#[derive(Clone, Debug)]
pub struct LogSink {
    /// How a line is written.
    pub format: AccessLogFormat,
    /// Chunks of whole lines, sent by the workers with `try_send`.
    pub chunks: std::sync::mpsc::SyncSender<Vec<u8>>,
    /// Lines that were dropped because the channel was full.
    pub dropped: Arc<std::sync::atomic::AtomicU64>,
}

/// What a data plane starts with besides its configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Sockets of a previous process. Those whose address is not in the configuration are closed after their queue is served.
    pub inherited: Vec<ListeningSocket>,
    /// Verdicts of a previous process.
    pub saved: Vec<SavedVerdict>,
    /// Ticket keys of a previous process.
    pub ticket_keys: Vec<SavedTicketKey>,
    /// Access log; `None`: off.
    pub log: Option<LogSink>,
    /// Gives what the calling thread's heap does not use back to the system. Called by a worker at most once a second, and only after a
    /// burst receded; `None`: the allocator is left to itself.
    pub reclaim: Option<fn()>,
}

/// Why a configuration could not take effect. The old one is still running.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A new address could not be bound.
    #[error("listener `{listener}`: cannot listen on {address}")]
    Bind {
        /// Listener.
        listener: String,
        /// Address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsErrors),
    /// The keys of a pool's sessions cannot be used.
    #[error("pool `{pool}`: cannot use {file} for its sessions")]
    SessionKeys {
        /// Pool.
        pool: String,
        /// File.
        file: String,
        /// Why.
        #[source]
        source: KeyFileError,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What is still open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainProgress {
    /// Client connections, idle ones included.
    pub connections: u64,
    /// Requests and sessions under way.
    pub in_flight: u64,
}

/// The running data plane: workers, director, listeners.
#[derive(Debug)]
pub struct DataPlane {
    director: Director,
    tls: Arc<TlsStore>,
    workers: Vec<WorkerHandle>,
    obituaries: Arc<Obituaries>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    gauges: Arc<Gauges>,
    beat: Arc<Beat>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// What is listened on, with copies of the sockets for the next process.
    bound: BTreeMap<Bind, Bound>,
    /// What is listened on no longer but whose flows may go on for a while: our own, should the address be wanted again.
    leaving: Vec<(Bind, Weak<()>)>,
    admissions: HashMap<ListenerName, Arc<Admission>>,
    stopped: bool,
}

#[derive(Debug)]
struct Bound {
    listener: ListenerName,
    sockets: Vec<OwnedFd>,
    /// Held by whoever serves one of the sockets, also after it was told to stop.
    alive: Arc<()>,
}

impl DataPlane {
    /// Binds, starts the workers and serves.
    ///
    /// # Errors
    /// An address cannot be bound or a thread not started. Nothing is left running.
    pub fn start(config: Arc<Config>, options: Options) -> Result<DataPlane, ApplyError> {
        let count = match config.node.workers {
            Some(workers) => workers.get() as usize,
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let mut inherited: BTreeMap<Bind, Vec<OwnedFd>> = BTreeMap::new();
        for ListeningSocket { address, socket } in options.inherited {
            let is_udp = rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == rustix::net::SocketType::DGRAM);
            inherited.entry(Bind { address, is_udp }).or_default().push(socket);
        }
        let tls = Arc::new(TlsStore::new(options.ticket_keys));
        let certificates = tls.prepare(&config)?;
        let session_keys = session_keys::load(&config)?;
        let opened = open_new(&config, &State::default(), &mut inherited, count)?;
        tls.commit(certificates);
        let director = Director::start(count, options.saved, Arc::clone(&tls)).map_err(ApplyError::Thread)?;
        director.set_session_keys(session_keys);
        director.apply(Arc::clone(&config));
        tls.watch(director.teller()).map_err(ApplyError::Thread)?;
        let node: Arc<str> = config.node.name.as_str().into();
        let surplus = Surplus::new(count);
        let mut plane =
            DataPlane { director, tls, workers: Vec::with_capacity(count), obituaries: Arc::default(), state: Mutex::default() };
        for id in 0..count {
            let (commands, receiver) = mpsc::unbounded_channel();
            let gauges = Arc::<Gauges>::default();
            let beat = Arc::<Beat>::default();
            let setup = Setup {
                id,
                node: Arc::clone(&node),
                shared: plane.director.shared(),
                tls: Arc::clone(&plane.tls),
                gauges: Arc::clone(&gauges),
                surplus: Arc::clone(&surplus),
                reports: plane.director.reports(),
                log: options.log.clone(),
                reclaim: options.reclaim,
                obituary: plane.obituaries.of(id),
                beat: Arc::clone(&beat),
                commands: receiver,
            };
            let spawned = std::thread::Builder::new().name(format!("weir-worker-{id}")).spawn(move || worker::run(setup));
            match spawned {
                Ok(thread) => plane.workers.push(WorkerHandle { commands, gauges, beat, thread }),
                Err(error) => {
                    plane.shutdown(Duration::ZERO);
                    return Err(ApplyError::Thread(error));
                }
            }
        }
        let mut state = plane.lock();
        plane.serve(&mut state, opened);
        // What the configuration does not name any more: whoever waits in those queues is served by the listener that was there before,
        // which does not exist here. They are closed with the sockets.
        drop(inherited);
        drop(state);
        Ok(plane)
    }

    /// Makes a new configuration take effect: bind new, swap, close removed. Blocks for milliseconds. Returns the snapshot's generation.
    ///
    /// # Errors
    /// A new address cannot be bound. Nothing was changed.
    pub fn apply(&self, config: Arc<Config>) -> Result<u64, ApplyError> {
        let mut state = self.lock();
        let certificates = self.tls.prepare(&config)?;
        let session_keys = session_keys::load(&config)?;
        if state.stopped {
            self.tls.commit(certificates);
            // Nothing is bound any more, or another process took it over: only what is still open is concerned.
            self.director.set_session_keys(session_keys);
            let generation = self.director.apply(Arc::clone(&config));
            self.tls.retain(&config);
            return Ok(generation);
        }
        let opened = open_new(&config, &state, &mut BTreeMap::new(), self.workers.len())?;
        self.tls.commit(certificates);
        self.director.set_session_keys(session_keys);
        let generation = self.director.apply(Arc::clone(&config));
        self.tls.retain(&config);
        let wanted: HashMap<Bind, &ListenerName> = wanted_binds(&config).map(|(bind, listener)| (bind, &listener.name)).collect();
        let gone: Vec<Bind> =
            state.bound.iter().filter(|(bind, bound)| wanted.get(bind) != Some(&&bound.listener)).map(|(bind, _)| *bind).collect();
        state.leaving.retain(|(_, alive)| alive.strong_count() > 0);
        for bind in &gone {
            if let Some(bound) = state.bound.remove(bind) {
                state.leaving.push((*bind, Arc::downgrade(&bound.alive)));
            }
        }
        // Nobody waits: what is in their queues is served as before.
        let (done, _) = std::sync::mpsc::channel();
        let (rebound, gone): (Vec<Bind>, Vec<Bind>) = gone.into_iter().partition(|bind| wanted.contains_key(bind));
        self.tell(|| Command::Unlisten { binds: gone.clone(), mode: StopMode::Drain, done: done.clone() });
        self.tell(|| Command::Unlisten { binds: rebound.clone(), mode: StopMode::Rebound, done: done.clone() });
        self.serve(&mut state, opened);
        state.admissions.retain(|name, _| config.listeners.contains_key(name));
        Ok(generation)
    }

    /// Reads the keys of sessions again, whose files may have changed while the configuration did not.
    ///
    /// # Errors
    /// A file cannot be used. The old keys stay.
    pub fn renew_session_keys(&self, config: &Config) -> Result<(), ApplyError> {
        let _one_at_a_time = self.lock();
        self.director.set_session_keys(session_keys::load(config)?);
        Ok(())
    }

    /// Changes where access log lines go.
    pub fn set_log(&self, log: Option<LogSink>) {
        self.tell(|| Command::Log(log.clone()));
    }

    /// Certificates and ticket keys.
    pub fn tls(&self) -> &Arc<TlsStore> {
        &self.tls
    }

    /// The director: status, events, verdicts.
    pub fn director(&self) -> &Director {
        &self.director
    }

    /// Copies of all listening sockets, for another process. Accepting goes on here until [`DataPlane::stop_accepting`].
    ///
    /// # Errors
    /// A descriptor cannot be duplicated.
    pub fn listening_sockets(&self) -> io::Result<Vec<ListeningSocket>> {
        let state = self.lock();
        let sockets = state.bound.iter().flat_map(|(bind, bound)| bound.sockets.iter().map(move |socket| (bind.address, socket)));
        sockets.map(|(address, socket)| Ok(ListeningSocket { address, socket: socket.try_clone()? })).collect()
    }

    /// Watches whether the workers are alive, from threads of its own that call `prepare` first, and tells each change, the first state
    /// included. Each is asked every `interval`, and taken for hung when an answer takes longer than `limit`; after [`Watch::hasten`] also
    /// when it was stuck for some milliseconds. A death is told at once, also that by a shutdown.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn watch(
        &self,
        interval: Duration,
        limit: Duration,
        prepare: fn(),
        tell: impl FnMut(Vitality) + Send + 'static,
    ) -> io::Result<Watch> {
        let wards = self.workers.iter().map(|worker| Ward { commands: worker.commands.clone(), beat: Arc::clone(&worker.beat) });
        pulse::watch(wards, &self.obituaries, Rhythm { interval, limit }, prepare, tell)
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Stops accepting. With `hand_over` the queues are left to the process that has copies of the sockets; without, they are accepted
    /// and served first. From then on responses carry `Connection: close`, and idle connections close after a short grace.
    ///
    /// Blocks until the workers have let go of the sockets (a moment): what they accepted is counted by [`DataPlane::drain_progress`] then.
    pub fn stop_accepting(&self, hand_over: bool) {
        let mut state = self.lock();
        state.stopped = true;
        let binds: Vec<Bind> = std::mem::take(&mut state.bound).into_keys().collect();
        let (done, all_done) = std::sync::mpsc::channel();
        let mode = if hand_over { StopMode::HandOver } else { StopMode::Drain };
        self.tell(|| Command::Unlisten { binds: binds.clone(), mode, done: done.clone() });
        self.tell(|| Command::Drain);
        drop((state, done));
        // Disconnected is what is awaited. A worker that hangs must not hold up the end.
        let _ = all_done.recv_timeout(STOP_ACCEPTING_MAX);
    }

    /// What is still open.
    pub fn drain_progress(&self) -> DrainProgress {
        self.workers.iter().fold(DrainProgress::default(), |sum, worker| DrainProgress {
            connections: sum.connections + worker.gauges.connections.load(Ordering::Relaxed),
            in_flight: sum.in_flight + worker.gauges.in_flight.load(Ordering::Relaxed),
        })
    }

    /// Waits up to `deadline` for what is open, cuts the rest and ends the threads. Returns what was cut.
    pub fn shutdown(self, deadline: Duration) -> DrainProgress {
        let until = Instant::now() + deadline;
        while self.drain_progress().connections > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let cut = self.drain_progress();
        self.tell(|| Command::Stop);
        for worker in self.workers {
            match worker.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker could not start its runtime"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        cut
    }

    fn serve(&self, state: &mut State, opened: Vec<Opened>) {
        let snapshot = self.director.shared().snapshot.load_full();
        for Opened { bind, listener, sockets } in opened {
            let address = bind.address;
            let slot = snapshot.listeners.iter().flatten().find(|known| *known.name() == listener).map(|known| known.slot);
            let Some(slot) = slot else { continue };
            let admission = Arc::clone(state.admissions.entry(listener.clone()).or_default());
            let mut kept = Vec::with_capacity(sockets.len());
            let alive = Arc::new(());
            for (index, socket) in sockets.into_iter().enumerate() {
                match socket.try_clone() {
                    Ok(copy) => kept.push(copy),
                    Err(error) => tracing::warn!(%address, %error, "a listening socket cannot be handed over later"),
                }
                let command =
                    Command::Listen { bind, socket, listener: slot, admission: Arc::clone(&admission), alive: Arc::clone(&alive) };
                let worker = &self.workers[index % self.workers.len()];
                if worker.commands.send(command).is_err() {
                    tracing::error!(%address, "a worker has ended");
                }
            }
            state.bound.insert(bind, Bound { listener, sockets: kept, alive });
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that has ended has nothing to be told.
            let _ = worker.commands.send(command());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address with its sockets, at least one per worker.
struct Opened {
    bind: Bind,
    listener: ListenerName,
    sockets: Vec<OwnedFd>,
}

/// Opens what is wanted and not bound for the same listener yet. Inherited sockets are all used, also when there are more of them than
/// workers: each has a queue of its own in the kernel.
fn open_new(
    config: &Config,
    State { bound, leaving, .. }: &State,
    inherited: &mut BTreeMap<Bind, Vec<OwnedFd>>,
    workers: usize,
) -> Result<Vec<Opened>, ApplyError> {
    let mut opened = Vec::new();
    let movable: HashSet<IpAddr> = config.vips.values().flat_map(|vip| vip.addresses.iter().map(|address| address.ip)).collect();
    for (bind, listener) in wanted_binds(config) {
        if bound.get(&bind).is_some_and(|bound| bound.listener == listener.name) {
            continue;
        }
        let mut sockets = inherited.remove(&bind).unwrap_or_default();
        let movable = movable.contains(&bind.address.ip());
        let is_ours = bound.contains_key(&bind) || leaving.iter().any(|(left, alive)| *left == bind && alive.strong_count() > 0);
        if sockets.is_empty() && !is_ours {
            probe(bind, movable).map_err(|source| bind_error(listener, bind.address, source))?;
        }
        while sockets.len() < workers {
            let socket = listen(bind, movable).map_err(|source| bind_error(listener, bind.address, source))?;
            sockets.push(socket);
        }
        opened.push(Opened { bind, listener: listener.name.clone(), sockets });
    }
    Ok(opened)
}

fn bind_error(listener: &Listener, address: SocketAddr, source: io::Error) -> ApplyError {
    ApplyError::Bind { listener: listener.name.to_string(), address, source }
}

/// Whether the address is free. Sockets that share addresses would let a second node of the same user take half of our traffic unnoticed.
fn probe(bind: Bind, movable: bool) -> io::Result<()> {
    let Bind { address, is_udp } = bind;
    let socket = open(bind)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // For datagrams it would share the address with others that allow it too.
    if !is_udp {
        socket.set_reuse_address(true)?;
    }
    if movable {
        bind_before_it_is_here(&socket, address)?;
    }
    socket.bind(&address.into())
}

fn open(bind: Bind) -> io::Result<Socket> {
    let (kind, protocol) = if bind.is_udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
    Socket::new(Domain::for_address(bind.address), kind.nonblocking(), Some(protocol))
}

/// An address that moves between nodes can be listened on while another node has it. Any other one that is not here is a mistake.
fn bind_before_it_is_here(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }
}

/// A listening socket that shares its address with those of the other workers. What it accepts inherits `TCP_NODELAY`.
fn listen(bind: Bind, movable: bool) -> io::Result<OwnedFd> {
    let Bind { address, is_udp } = bind;
    let socket = open(bind)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    if is_udp {
        // Datagrams that come while a worker is busy; what the kernel does not grant was not needed to start.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    } else {
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
    }
    if movable {
        bind_before_it_is_here(&socket, address)?;
    }
    socket.bind(&address.into())?;
    if !is_udp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
