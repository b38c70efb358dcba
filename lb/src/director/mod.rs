//! The one writer: turns configuration, verdicts, ejections and name resolution into snapshots.
//!
//! ```text
//!   apply ──┐                                  ┌──► snapshot swapped, then generation
//!   reports ┼──► core (pure, one thread) ──────┼──► probes, lookups (tasks on the same thread)
//!   outcomes┘    notes what is touched, bakes  └──► events
//! ```
//!
//! The thread takes everything that is pending before it builds, so that a burst of flips costs one swap. `core` decides, `pool` says
//! who may be picked, `names` when names are looked up, `slots` hands out the numbers that workers index with. This file moves values.
//!
//! What is deliberately not here: sockets of clients, and any choice per request.

mod core;
mod names;
mod pool;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as sync;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{self, JoinError, JoinSet};
use weir_config::{Config, PoolName, UpstreamProtocol};

use self::core::{Core, Effect, Job};
use crate::event::{Event, EventKind};
use crate::health::probe::{Subject, probe};
use crate::health::verdict::Outcome;
use crate::session::Keys;
use crate::snapshot::Snapshot;
use crate::status::Status;
use crate::tls::{Connector, TlsStore};

/// Reports that wait; one that finds no room is repeated by the next failure.
const REPORTS_MAX: usize = 1024;
/// Events that a slow listener may lag behind before it loses the oldest.
const EVENTS_MAX: usize = 4096;
/// Names looked up at once; each takes a thread for its time.
const LOOKUPS_MAX: usize = 16;
/// Outcomes taken before the next snapshot is built, so that a storm of them cannot hold it up.
const OUTCOMES_PER_BUILD: usize = 1024;

/// What the director and the workers share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The truth.
    pub snapshot: ArcSwap<Snapshot>,
    /// `snapshot.generation`, to look at without touching the pointer.
    pub generation: AtomicU64,
    /// All are notified after each swap.
    pub changed: tokio::sync::Notify,
    /// All are notified when a place on an endpoint is freed for which a request of another worker may wait.
    pub freed: tokio::sync::Notify,
}

/// What a worker tells the director. Sent with `try_send` on a bounded channel: a lost report is repeated by the next failure.
#[derive(Debug)]
pub enum Report {
    /// `failures_in_row` of this endpoint reached the pool's ejection threshold.
    Failing {
        /// `EndpointState::slot`
        endpoint: u32,
    },
}

/// A verdict that outlives the process (upgrade, restart): it belongs to the address and the check's definition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SavedVerdict {
    /// Pool.
    pub pool: String,
    /// Endpoint.
    pub endpoint: String,
    /// Fingerprint of the check's definition and the probed address.
    pub check: u64,
    /// The verdict.
    pub healthy: bool,
}

/// What a handle asks of the thread. Each is answered after the swap that follows it.
enum Command {
    Apply(Arc<Config>, sync::SyncSender<u64>),
    SessionKeys(BTreeMap<PoolName, Arc<Keys>>, sync::SyncSender<u64>),
    Status(sync::SyncSender<Status>),
    SavedVerdicts(sync::SyncSender<Vec<SavedVerdict>>),
}

/// A handle on the director's thread. Cheap to clone. The thread ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Director {
    shared: Arc<Shared>,
    /// Unbounded, but each caller waits for its answer before it sends the next.
    commands: mpsc::UnboundedSender<Command>,
    reports: mpsc::Sender<Report>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Director {
    /// Starts the thread `weir-director`. `workers` is the number of shards that counters get; `tls` knows how probes speak to endpoints.
    pub fn start(workers: usize, saved: Vec<SavedVerdict>, tls: Arc<TlsStore>) -> std::io::Result<Director> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(LOOKUPS_MAX).build()?;
        let (commands, command_inbox) = mpsc::unbounded_channel();
        let (reports, report_inbox) = mpsc::channel(REPORTS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let shared = Arc::<Shared>::default();
        let shell = Shell {
            core: Core::new(workers, saved, Instant::now()),
            shared: Arc::clone(&shared),
            tls,
            events: events.clone(),
            probes: JoinSet::new(),
            runs: HashMap::new(),
            lookups: JoinSet::new(),
            answers: Vec::new(),
        };
        std::thread::Builder::new().name("weir-director".into()).spawn(move || {
            runtime.block_on(shell.run(command_inbox, report_inbox));
            // A lookup may hang for long, and nobody waits for it any more.
            runtime.shutdown_background();
        })?;
        Ok(Director { shared, commands, reports, events })
    }

    /// Builds the snapshot of this configuration, swaps it in and returns its generation. Unchanged pools keep everything; when nothing
    /// has changed at all, nothing is swapped. Blocks for the few milliseconds that this takes.
    pub fn apply(&self, config: Arc<Config>) -> u64 {
        self.ask(|answer| Command::Apply(config, answer))
    }

    /// What signs the cookies of sessions from now on. Pools without keys have no sessions by cookie. Returns the generation of the snapshot that
    /// goes by them.
    pub fn set_session_keys(&self, keys: BTreeMap<PoolName, Arc<Keys>>) -> u64 {
        self.ask(|answer| Command::SessionKeys(keys, answer))
    }

    /// What the workers read.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Where the workers report.
    pub fn reports(&self) -> mpsc::Sender<Report> {
        self.reports.clone()
    }

    /// A consistent picture. Blocks until the thread has answered.
    pub fn status(&self) -> Status {
        self.ask(Command::Status)
    }

    /// To hand to the next process.
    pub fn saved_verdicts(&self) -> Vec<SavedVerdict> {
        self.ask(Command::SavedVerdicts)
    }

    /// Events from now on. A receiver that falls more than a few thousand events behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// An event of another part of the data plane.
    pub(crate) fn teller(&self) -> impl Fn(EventKind) + Send + 'static {
        let events = self.events.clone();
        // Nobody may be listening.
        move |kind| drop(events.send(Arc::new(Event { at: SystemTime::now(), kind })))
    }

    fn ask<T>(&self, command: impl FnOnce(sync::SyncSender<T>) -> Command) -> T {
        let (answer, inbox) = sync::sync_channel(1);
        let sent = self.commands.send(command(answer));
        // The thread ends only with the last handle, and this is one.
        sent.ok().and_then(|()| inbox.recv().ok()).expect("the director's thread does not end while it has a handle")
    }
}

/// An answer that is owed once what was asked for is in effect. The receiver may have given up; that is its own affair.
enum Answer {
    Applied(sync::SyncSender<u64>),
    Status(sync::SyncSender<Status>),
    SavedVerdicts(sync::SyncSender<Vec<SavedVerdict>>),
}

type Lookup = (Arc<str>, Result<Vec<IpAddr>, String>);

/// The thread: moves values between the core and the world.
struct Shell {
    core: Core,
    shared: Arc<Shared>,
    tls: Arc<TlsStore>,
    events: broadcast::Sender<Arc<Event>>,
    probes: JoinSet<Outcome>,
    /// The run that each probe's task belongs to.
    runs: HashMap<task::Id, u64>,
    lookups: JoinSet<Lookup>,
    answers: Vec<Answer>,
}

impl Shell {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut reports: mpsc::Receiver<Report>) {
        loop {
            self.settle();
            let wake = self.core.poll_timeout();
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(report) = reports.recv() => self.handle_report(&report),
                Some(done) = self.probes.join_next_with_id() => self.handle_probe(done),
                Some(done) = self.lookups.join_next() => self.handle_lookup(done),
                () = timer => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.handle_command(command);
            }
            for _ in 0..REPORTS_MAX {
                let Ok(report) = reports.try_recv() else { break };
                self.handle_report(&report);
            }
            for _ in 0..OUTCOMES_PER_BUILD {
                let Some(done) = self.probes.try_join_next_with_id() else { break };
                self.handle_probe(done);
            }
            while let Some(done) = self.lookups.try_join_next() {
                self.handle_lookup(done);
            }
        }
    }

    /// Brings the world up to date with the core.
    fn settle(&mut self) {
        let now = Instant::now();
        self.core.handle_timeout(now);
        if let Some(snapshot) = self.core.build(now) {
            let generation = snapshot.generation;
            self.shared.snapshot.store(snapshot);
            self.shared.generation.store(generation, Ordering::Release);
            self.shared.changed.notify_waiters();
        }
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Probe(job) => {
                    let run = job.run;
                    let connector = job.pool.tls.as_ref().and_then(|_| self.tls.connector(&job.pool.name));
                    let task = self.probes.spawn(carry_out(job, connector));
                    self.runs.insert(task.id(), run);
                }
                Effect::Resolve(name) => drop(self.lookups.spawn(look_up(name))),
                Effect::Event(kind) => {
                    // Nobody may be listening.
                    let _ = self.events.send(Arc::new(Event { at: SystemTime::now(), kind }));
                }
            }
        }
        for answer in self.answers.drain(..) {
            match answer {
                Answer::Applied(to) => drop(to.send(self.core.generation())),
                Answer::Status(to) => drop(to.send(self.core.status(now))),
                Answer::SavedVerdicts(to) => drop(to.send(self.core.saved_verdicts())),
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        self.answers.push(match command {
            Command::Apply(config, to) => {
                self.core.apply(&config, Instant::now());
                Answer::Applied(to)
            }
            Command::SessionKeys(keys, to) => {
                self.core.set_session_keys(keys);
                Answer::Applied(to)
            }
            Command::Status(to) => Answer::Status(to),
            Command::SavedVerdicts(to) => Answer::SavedVerdicts(to),
        });
    }

    fn handle_report(&mut self, report: &Report) {
        let Report::Failing { endpoint } = report;
        self.core.handle_failing(*endpoint, Instant::now());
    }

    fn handle_probe(&mut self, done: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match done {
            Ok(done) => done,
            // A probe that panics is our own fault, and says nothing about the endpoint.
            Err(error) => (error.id(), Outcome::NotDone("the probe broke down".into())),
        };
        if let Some(run) = self.runs.remove(&id) {
            self.core.handle_probe(run, &outcome, Instant::now());
        }
    }

    fn handle_lookup(&mut self, done: Result<Lookup, JoinError>) {
        match done {
            Ok((name, result)) => self.core.handle_answer(&name, result, Instant::now()),
            Err(error) => tracing::error!(%error, "a name lookup broke down"),
        }
    }
}

async fn carry_out(job: Job, connector: Option<Arc<Connector>>) -> Outcome {
    let Some(check) = &job.pool.health else { return Outcome::NotDone("the check is gone".into()) };
    // Behind another port there may be something that knows nothing of announcements.
    let announced = job.pool.proxy_protocol.filter(|_| check.port.is_none());
    let subject = Subject {
        pool: &job.pool.name.0,
        endpoint: &job.endpoint,
        address: job.address,
        announced,
        tls: connector.as_deref(),
        http2: job.pool.upstream_protocol == UpstreamProtocol::Http2,
    };
    probe(check, subject).await
}

async fn look_up(name: Arc<str>) -> Lookup {
    let result = match tokio::net::lookup_host((&*name, 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(error.to_string()),
    };
    (name, result)
}
