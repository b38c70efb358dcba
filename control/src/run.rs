//! The life of the process: start, signals, drain, end.
//!
//! ```text
//!   start ──► serving ──► SIGTERM, SIGINT ──► draining ──► nothing open, or drain_timeout, or a second signal ──► end
//!                 │                              ▲
//!                 └─ an upgrade handed over ─────┘ (another process serves meanwhile)
//! ```
//!
//! SIGHUP reloads, SIGUSR1 opens the access log again, SIGUSR2 upgrades. The main thread runs signals, API and file watch; traffic has its own
//! threads.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use weir_config::{Config, ConfigErrors};
use weir_lb::shell::{DataPlane, DrainProgress, ListeningSocket, Options};
use weir_lb::tls::SavedTicketKey;

use crate::access_log::AccessLog;
use crate::api::SavedSessions;
use crate::node::{self, Node, Parts, Stage};
use crate::overlay::Overlay;
use crate::state::{Saved, StateDir};
use crate::sys;
use crate::upgrade::{self, Answer, HandoverError, Launch};
use crate::{acme, logging, recovery, scaling, systemd, watch};

/// Threads for changes, file reads and the API's blocking calls.
const BLOCKING_THREADS: usize = 16;
/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// How long the API may take to answer what is under way at the end.
const API_END_MAX: Duration = Duration::from_secs(2);
/// Descriptors that are not client or endpoint connections, roughly: listeners, logs, probes, the API.
const DESCRIPTORS_OTHER: u64 = 1024;

/// Runs the node until it is told to stop. Exit status 0 after an orderly end, 1 when it could not start.
pub(crate) fn run(config_path: &Path) -> ExitCode {
    logging::start();
    let launch = Launch::remember();
    let before = upgrade::inherited();
    match start(config_path, launch, before.as_ref()) {
        Ok(started) => {
            started.runtime.block_on(live(&started.node, started.signals));
            // Threads that hang in a system call must not hold up the end.
            started.runtime.shutdown_background();
            ExitCode::SUCCESS
        }
        Err(error) => {
            if let Some(before) = before {
                // An error: the process before us is gone or has given up on us; what we print is all there is to do.
                let _ = upgrade::answer(&before, &Answer::Failed(error.render(false)), Instant::now() + upgrade::DEADLINE);
            }
            eprintln!("{}", error.render(io::stderr().is_terminal()));
            ExitCode::FAILURE
        }
    }
}

struct Started {
    runtime: Runtime,
    node: Node,
    signals: Signals,
}

/// Why the node could not start.
enum StartError {
    /// The file has errors.
    Config(ConfigErrors),
    /// Anything else, in words.
    Other(String),
}

impl StartError {
    fn render(&self, color: bool) -> String {
        match self {
            StartError::Config(errors) => errors.render(color),
            StartError::Other(text) => format!("weir: {text}"),
        }
    }
}

impl From<String> for StartError {
    fn from(text: String) -> StartError {
        StartError::Other(text)
    }
}

impl From<HandoverError> for StartError {
    fn from(error: HandoverError) -> StartError {
        StartError::Other(error.to_string())
    }
}

/// What the process before us left: from its hands at an upgrade, from the state folder otherwise.
#[derive(Default)]
struct Legacy {
    overlay: Overlay,
    saved: Saved,
    sockets: Vec<ListeningSocket>,
    ticket_keys: Vec<SavedTicketKey>,
    sessions: Option<SavedSessions>,
    api: Option<TcpListener>,
}

fn start(config_path: &Path, launch: Launch, before: Option<&UnixStream>) -> Result<Started, StartError> {
    let limit = raise_descriptor_limit();
    let config_path: PathBuf = std::path::absolute(config_path).map_err(|error| format!("{}: {error}", config_path.display()))?;
    let handed_over = before.map(|socket| upgrade::receive_offer(socket, Instant::now() + upgrade::DEADLINE)).transpose()?;
    let (text, config_sha256) =
        node::read_config(&config_path).map_err(|error| format!("cannot read {}: {error}", config_path.display()))?;
    let file = weir_config::parse(&text, &config_path.to_string_lossy()).map_err(StartError::Config)?;
    warn_about_descriptors(limit, &file);

    let state = StateDir::new(&file.node.state_dir);
    if let Err(error) = state.prepare() {
        warn!("{error}: run-time changes and health verdicts will not survive a restart");
    }
    let legacy = match handed_over {
        Some(received) => take_over(received)?,
        None => read_state(&state),
    };
    let applied = legacy.overlay.apply(&file);
    for note in &applied.notes {
        info!("{note}");
    }
    let pruned = applied.overlay != legacy.overlay;
    let effective = Arc::new(applied.config);

    // Signals first: one that comes while the data plane starts must not kill us with listeners half open.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| format!("cannot start the main event loop: {error}"))?;
    let guard = runtime.enter();
    let signals = Signals::install().map_err(|error| format!("cannot listen to signals: {error}"))?;

    let log_dropped = Arc::new(AtomicU64::new(0));
    let log = node::start_access_log(&effective, &log_dropped).map_err(|error| error.to_string())?;
    // Everything that can fail before anything is accepted: a process that accepts and then gives up resets its clients.
    let api = node::prepare_api(&effective, legacy.api, legacy.sessions).map_err(|error| error.to_string())?;
    let options = Options {
        inherited: legacy.sockets,
        saved: legacy.saved.verdicts,
        ticket_keys: legacy.ticket_keys,
        log: log.as_ref().map(AccessLog::sink),
        reclaim: Some(sys::reclaim),
    };
    let plane = DataPlane::start(effective.clone(), options).map_err(|error| node::chain(&error))?;
    let node = Node::new(Parts {
        config_path,
        config_sha256: config_sha256.clone(),
        file,
        overlay: applied.overlay,
        effective,
        before: (legacy.saved.revision, legacy.saved.last_event),
        plane,
        log,
        log_dropped,
        state,
        launch,
        runtime: runtime.handle().clone(),
        api,
    });
    if let Some(before) = before {
        let pid = std::process::id();
        upgrade::answer(before, &Answer::Ready(pid), Instant::now() + upgrade::DEADLINE)?;
    }
    // Only from here on is the state folder ours.
    // After a handover always: the file may name another folder than the process before us wrote to.
    if pruned || before.is_some() {
        runtime.block_on(node.persist());
    }
    node.keep_version(&text, &config_sha256);
    // First, for it hears of what happens from now on.
    node.start_notifier();
    node.start_vips();
    let summary = node.summary();
    systemd::ready(&summary);
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "{summary}");
    drop(guard);
    Ok(Started { runtime, node, signals })
}

fn take_over(received: upgrade::Received) -> Result<Legacy, StartError> {
    let upgrade::Received { header, mut sockets } = received;
    info!(from = header.program, sockets = sockets.len(), "taking over");
    let api = header.api.and_then(|_| sockets.pop()).map(TcpListener::from);
    let sockets = header.listeners.into_iter().zip(sockets).map(|(address, socket)| ListeningSocket { address, socket }).collect();
    let overlay =
        Overlay::try_from(header.overlay).map_err(|reason| format!("the running program's changes cannot be taken over: {reason}"))?;
    let saved = Saved { verdicts: header.verdicts, revision: header.revision, last_event: header.last_event };
    Ok(Legacy { overlay, saved, sockets, ticket_keys: header.ticket_keys, sessions: header.sessions, api })
}

/// What cannot be read is said and left out: serving comes first.
fn read_state(state: &StateDir) -> Legacy {
    let overlay = state.load_overlay().unwrap_or_else(|error| {
        warn!("{error}: starting without the run-time changes");
        Overlay::default()
    });
    let saved = state.load_saved(SystemTime::now()).unwrap_or_else(|error| {
        warn!("{error}: starting without the health verdicts");
        Saved::default()
    });
    Legacy { overlay, saved, ..Legacy::default() }
}

/// Raises the soft limit of open files to the hard one, and returns it; `None`: unlimited.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    }
}

/// Client connections that fit, and those that the listeners allow, when the first are fewer.
fn too_few_descriptors(limit: Option<u64>, config: &Config) -> Option<(u64, u64)> {
    let wanted = config.listeners.values().map(|listener| u64::from(listener.connections_max.get())).sum::<u64>();
    // Each client connection may need one to an endpoint.
    let fitting = limit?.saturating_sub(DESCRIPTORS_OTHER) / 2;
    (fitting < wanted).then_some((fitting, wanted))
}

fn warn_about_descriptors(limit: Option<u64>, config: &Config) {
    if let Some((fitting, wanted)) = too_few_descriptors(limit, config) {
        warn!(
            "the limit of open files has room for about {fitting} client connections, the listeners' connections_max allow {wanted}: \
             raise the limit (LimitNOFILE= of the service, ulimit -Hn) or lower connections_max"
        );
    }
}

/// What the process listens to.
struct Signals {
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// From ready to the end.
async fn live(node: &Node, mut signals: Signals) {
    let reload_wanted = Arc::new(Notify::new());
    // They end by themselves when this process no longer serves.
    tokio::spawn(scaling::supervise(node.clone()));
    tokio::spawn(recovery::supervise(node.clone()));
    tokio::spawn(acme::supervise(node.clone()));
    let helpers = [
        tokio::spawn(watch::watch(node.clone())),
        tokio::spawn(reload_when_wanted(node.clone(), reload_wanted.clone())),
        tokio::spawn(show_life(node.clone())),
    ];
    let mut stages = node.stages();
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload_wanted.notify_one(),
            _ = signals.reopen.recv() => node.reopen_access_log(),
            _ = signals.upgrade.recv() => drop(tokio::spawn(upgrade_to_what_is_installed(node.clone()))),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = stages.wait_for(|stage| *stage != Stage::Serving) => break,
        }
    }
    // A drain is still a sign of life, unless it is another process whose life counts now.
    let handed_over = matches!(node.stage(), Stage::HandedOver(_));
    for helper in if handed_over { &helpers[..] } else { &helpers[..2] } {
        helper.abort();
    }
    drain(node, &mut signals).await;
    let ending = node.clone();
    let cut = tokio::task::spawn_blocking(move || ending.end()).await.unwrap_or_default();
    if cut != DrainProgress::default() {
        warn!(connections = cut.connections, in_flight = cut.in_flight, "cut at the end");
    }
    // The answer to the very call that upgraded us may be among what is under way.
    if let Some(api) = node.stop_api() {
        let _ = tokio::time::timeout(API_END_MAX, api).await;
    }
    info!("ended");
}

/// For a package's scripts, which know neither the API's address nor its token. The program is that of the path this one was started from.
async fn upgrade_to_what_is_installed(node: Node) {
    if let Err(error) = node.upgrade(None).await {
        warn!("the upgrade that SIGUSR2 asked for failed, and this process goes on: {error}");
    }
}

/// Signals that come while a reload runs are one more reload, not many.
async fn reload_when_wanted(node: Node, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        // The outcome, good or bad, is an event of its own.
        let _ = node.reload(false, None).await;
    }
}

/// Tells the service manager's watchdog that main loop and director are alive.
async fn show_life(node: Node) {
    let Some(every) = systemd::watchdog_interval() else { return };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = node.clone();
        // No sign of life without an answer: a director that hangs hangs this task too.
        if tokio::task::spawn_blocking(move || asked.status()).await.is_ok() {
            systemd::alive();
        }
    }
}

/// Waits until nothing is open any more, the drain's time is over, or a signal says to stop now.
async fn drain(node: &Node, signals: &mut Signals) {
    let timeout = node.config().node.drain_timeout;
    let deadline = Instant::now() + timeout;
    let beginning = node.clone();
    let _ = tokio::task::spawn_blocking(move || beginning.begin_drain()).await;
    // The manager must not be told that the service stops when only this process does.
    let handed_over = matches!(node.stage(), Stage::HandedOver(_));
    if !handed_over {
        systemd::stopping("draining");
    }
    let mut looks = interval(DRAIN_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut say_at = Instant::now() + Duration::from_secs(1);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = signals.reopen.recv() => node.reopen_access_log(),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
        let now = Instant::now();
        let progress = node.drain_progress();
        if progress == DrainProgress::default() {
            return;
        }
        if now >= deadline {
            info!(timeout_s = timeout.as_secs_f64(), "the drain's time is over");
            return;
        }
        if now >= say_at {
            say_at = now + Duration::from_secs(1);
            let line = describe_drain(progress, deadline - now);
            info!("{line}");
            if !handed_over {
                systemd::still_stopping(&line, Duration::from_secs(10));
            }
        }
    }
    info!("told to stop again: ending now");
}

fn describe_drain(progress: DrainProgress, left: Duration) -> String {
    let DrainProgress { connections, in_flight } = progress;
    format!("draining: {in_flight} in flight, {connections} connections open, {} s left", left.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_noticed() {
        let text = "[listener.web]\nbind = \"127.0.0.1:80\"\nprotocol = \"http\"\npool = \"web\"\nconnections_max = 1000\n\
                    [pool.web]\nendpoints = []\n";
        let config = weir_config::parse(text, "weir.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        assert_eq!(too_few_descriptors(Some(DESCRIPTORS_OTHER + 2000), &config), None);
        assert_eq!(too_few_descriptors(Some(DESCRIPTORS_OTHER + 1998), &config), Some((999, 1000)));
        assert_eq!(too_few_descriptors(Some(10), &config), Some((0, 1000)));
        assert_eq!(too_few_descriptors(None, &config), None);
    }
}
