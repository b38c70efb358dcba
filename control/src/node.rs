//! The running node: the one place where changes are made, one after the other.
//!
//! ```text
//!   file ─────┐
//!             ├─► effective configuration ─► data plane ─► state folder ─► revision + 1, event
//!   overlay ──┘        (all or nothing)
//! ```
//!
//! Every change goes through one writer. It builds the new effective configuration aside and gives it to the data plane; only when that
//! succeeded is anything else changed. The overlay is written to the state folder after it took effect: traffic first. When it cannot be
//! written the change stays in effect and is answered as a success; an event says that a restart would lose it.
//!
//! A change that has begun is carried to its end even when nobody waits for the answer any more.

mod api_slot;
mod change;
mod events;
mod handover;
mod versions;

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;
use weir_config::{AdminState, Config, Endpoint, EndpointAddress, PoolName, Weight};
use weir_lb::director::Director;
use weir_lb::event::EventKind;
use weir_lb::shell::{DataPlane, DrainProgress, Vitality, Watch};
use weir_lb::status::Status;
use weir_lb::tls::{CertificateStatus, Challenges, ShownCertificate};

use crate::access_log::AccessLog;
use crate::acme::Orders;
use crate::api::SavedSessions;
use crate::event::{self, Event};
use crate::history::{self, Historian};
use crate::machines::Machines;
use crate::meter::Meter;
use crate::notify::Notifier;
use crate::overlay::Overlay;
use crate::recovery::Recoverer;
use crate::scaling::{SavedScaling, Scaler};
use crate::state::{Saved, StateDir};
use crate::systemd;
use crate::upgrade::Launch;
use crate::vip::Vips;
use api_slot::{ApiSlot, Prepared};
pub(crate) use events::EventLog;
use handover::Upgrading;
pub(crate) use versions::{Version, Versions};

/// The largest file that is read; ten thousand pools need a tenth of it.
const CONFIG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Facts about the process.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// `[node] name`
    pub name: String,
    /// Version of the program.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_at: SystemTime,
    /// Grows with each change of the effective configuration; changes may name the one they are based on.
    pub revision: u64,
    /// The file.
    pub config_path: PathBuf,
    /// SHA-256 of the file in effect, hexadecimal.
    pub config_sha256: String,
    /// Serving: the data plane is up and not draining.
    pub ready: bool,
    /// A stop or an upgrade is under way.
    pub draining: bool,
    /// When the file last took effect, or was refused, and why.
    pub last_reload: Option<(SystemTime, Result<(), String>)>,
    /// Why what happens is kept in memory alone.
    pub history_fault: Option<String>,
}

/// What a reload did, or would do.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// The new revision.
    pub revision: u64,
    /// One line for each difference; empty: nothing changed.
    pub changes: Vec<String>,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such pool or endpoint; the text names the nearest.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or the revision it was based on is not the current one.
    #[error("{0}")]
    Conflict(String),
    /// The file or the value is wrong; the text is the whole explanation.
    #[error("{0}")]
    Invalid(String),
    /// It could not be carried out.
    #[error("{0}")]
    Failed(String),
}

/// A change to one endpoint at run time. It is kept in the state folder and lies over the file: it survives reload, upgrade and restart.
#[derive(Clone, Debug)]
pub enum EndpointChange {
    /// A new endpoint.
    Add(Endpoint),
    /// Gone, at once for new work; what is in flight finishes.
    Remove,
    /// Ready, draining or maintenance.
    State(AdminState),
    /// Another weight.
    Weight(Weight),
}

/// A handle on the node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started_at: SystemTime,
    config_path: PathBuf,
    launch: Launch,
    runtime: Handle,
    /// `None` at the very end.
    plane: RwLock<Option<DataPlane>>,
    director: Director,
    writer: Arc<tokio::sync::Mutex<Writer>>,
    published: RwLock<Arc<Published>>,
    events: EventLog,
    stage: watch::Sender<Stage>,
    state: StateDir,
    log: Mutex<Option<AccessLog>>,
    log_dropped: Arc<AtomicU64>,
    api: Mutex<ApiSlot>,
    vips: Vips,
    upgrading: AtomicBool,
    /// Our end of a handover under way; shutting it down ends the handover.
    handover: Mutex<Option<UnixStream>>,
    machines: Machines,
    scaler: Scaler,
    notifier: Notifier,
    recoverer: Recoverer,
    historian: Historian,
    orders: Orders,
    meter: Meter,
}

/// What only the writer knows.
#[derive(Debug)]
struct Writer {
    file: Config,
    file_sha256: String,
    overlay: Overlay,
    effective: Arc<Config>,
    revision: u64,
}

impl Writer {
    /// Refuses a change that is based on another revision than the current one.
    fn check_revision(&self, based_on: Option<u64>) -> Result<(), ChangeError> {
        match based_on {
            Some(based_on) if based_on != self.revision => {
                Err(ChangeError::Conflict(format!("based on revision {based_on}, but the current one is {}", self.revision)))
            }
            _ => Ok(()),
        }
    }
}

/// What everybody may read.
#[derive(Clone, Debug)]
struct Published {
    config: Arc<Config>,
    config_sha256: String,
    /// Of the file as last read, in effect or refused.
    last_read_sha256: String,
    revision: u64,
    last_reload: Option<(SystemTime, Result<(), String>)>,
}

/// Where the process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Takes new work and changes.
    Serving,
    /// Told to stop.
    Draining,
    /// The process of this id serves instead.
    HandedOver(u32),
}

/// What a node is made of.
pub(crate) struct Parts {
    /// The file.
    pub(crate) config_path: PathBuf,
    /// Its digest.
    pub(crate) config_sha256: String,
    /// What it says.
    pub(crate) file: Config,
    /// What was changed at run time, already applied once to `file`.
    pub(crate) overlay: Overlay,
    /// Both together, which is what `plane` runs.
    pub(crate) effective: Arc<Config>,
    /// The last revision and the last event of the process before.
    pub(crate) before: (u64, u64),
    /// The running data plane.
    pub(crate) plane: DataPlane,
    /// The running access log and its count of lost lines.
    pub(crate) log: Option<AccessLog>,
    /// Lines that were dropped.
    pub(crate) log_dropped: Arc<AtomicU64>,
    /// Where state is kept.
    pub(crate) state: StateDir,
    /// How to start this program again.
    pub(crate) launch: Launch,
    /// Where the API and the event pump run.
    pub(crate) runtime: Handle,
    /// The API, ready to be served.
    pub(crate) api: Option<Prepared>,
}

impl Node {
    /// Facts about the process.
    pub fn info(&self) -> NodeInfo {
        let published = self.inner.published();
        let stage = self.stage();
        NodeInfo {
            name: published.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: self.inner.started_at,
            revision: published.revision,
            config_path: self.inner.config_path.clone(),
            config_sha256: published.config_sha256.clone(),
            ready: stage == Stage::Serving,
            draining: stage != Stage::Serving,
            last_reload: published.last_reload.clone(),
            history_fault: self.inner.historian.stats().and_then(|stats| stats.fault),
        }
    }

    /// The configuration in effect: the file with the run-time changes over it.
    pub fn config(&self) -> Arc<Config> {
        self.inner.published().config.clone()
    }

    /// The data plane's state.
    pub fn status(&self) -> Status {
        self.inner.director.status()
    }

    /// Hosts and machines.
    pub(crate) fn machines(&self) -> &Machines {
        &self.inner.machines
    }

    /// Alarms and scaling.
    pub(crate) fn scaler(&self) -> &Scaler {
        &self.inner.scaler
    }

    /// Keeps what alarms and scaling know over a restart. Blocks.
    pub(crate) fn save_scaling(&self, saved: &SavedScaling) {
        if let Err(error) = self.inner.state.save_scaling(saved) {
            warn!(%error, "states of alarms are not kept");
        }
    }

    /// What is still open.
    pub fn drain_progress(&self) -> DrainProgress {
        self.inner.with_plane(DataPlane::drain_progress).unwrap_or_default()
    }

    /// Certificates in use.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.inner.with_plane(|plane| plane.tls().certificates()).unwrap_or_default()
    }

    /// The certificates that are shown to endpoints.
    pub fn shown_certificates(&self) -> Vec<ShownCertificate> {
        self.inner.with_plane(|plane| plane.tls().shown_to_endpoints()).unwrap_or_default()
    }

    /// What authorities want to see; `None` at the very end.
    pub(crate) fn challenges(&self) -> Option<Arc<Challenges>> {
        self.inner.with_plane(|plane| Arc::clone(plane.tls().challenges()))
    }

    /// Certificates that are ordered.
    pub(crate) fn orders(&self) -> &Orders {
        &self.inner.orders
    }

    /// Reads the file again and makes it take effect; with `dry_run` only says what would change. `based_on`: refuse unless that is the
    /// current revision.
    pub async fn reload(&self, dry_run: bool, based_on: Option<u64>) -> Result<ReloadReport, ChangeError> {
        self.write(move |node, writer| {
            writer.check_revision(based_on)?;
            if !dry_run {
                systemd::reloading();
            }
            let result = node.reload_now(writer, dry_run);
            if !dry_run {
                systemd::ready(&node.summary());
            }
            result
        })
        .await
    }

    /// Puts another text in the place of the file and makes it take effect, or leaves both as they are; with `dry_run` only says what would
    /// change. `over`: refuse unless that is the SHA-256 of the file as it is on the disk, so that nobody's work is written over.
    pub async fn write_file(
        &self,
        text: String,
        over: Option<String>,
        dry_run: bool,
        based_on: Option<u64>,
    ) -> Result<ReloadReport, ChangeError> {
        self.write(move |node, writer| {
            writer.check_revision(based_on)?;
            if !dry_run {
                systemd::reloading();
            }
            let result = node.write_file_now(writer, &text, over.as_deref(), dry_run);
            if !dry_run {
                systemd::ready(&node.summary());
            }
            result
        })
        .await
    }

    /// Files that were in effect.
    pub(crate) fn versions(&self) -> Versions {
        Versions::new(&self.config().node.state_dir)
    }

    /// Keeps a file that begins to be in effect. Blocks.
    pub(crate) fn keep_version(&self, text: &str, sha256: &str) {
        if let Err(error) = self.versions().keep(text, sha256, SystemTime::now()) {
            warn!(%error, "the configuration is in effect, but not kept among the former ones");
        }
    }

    /// Changes one endpoint; returns the new revision. `based_on`: refuse unless that is the current revision.
    pub async fn change(
        &self,
        pool: &str,
        endpoint: &EndpointAddress,
        change: EndpointChange,
        based_on: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let (pool, endpoint) = (PoolName::from(pool), endpoint.clone());
        self.write(move |node, writer| node.change_now(writer, &pool, &endpoint, &change, based_on)).await
    }

    /// Starts `binary` (default: the path this program was started from), hands over the sockets, and drains. Returns the new process id once
    /// it serves.
    pub async fn upgrade(&self, binary: Option<PathBuf>) -> Result<u32, ChangeError> {
        if self.inner.upgrading.swap(true, Ordering::AcqRel) {
            return Err(ChangeError::Conflict("an upgrade is under way already".into()));
        }
        let flag = Upgrading(self.clone());
        self.write(move |node, writer| {
            let _flag = flag;
            node.upgrade_now(writer, binary)
        })
        .await
    }

    /// Events with a number greater than `after`, oldest first, at most `limit`; the last 10,000 are kept. A number that was not given out
    /// yet (its process has crashed) counts as 0.
    pub fn events_after(&self, after: u64, limit: usize) -> Vec<(u64, Arc<Event>)> {
        self.inner.events.after(after, limit)
    }

    /// Resolves when there are events with a number greater than `after`.
    pub async fn events_wait(&self, after: u64) {
        self.inner.events.wait(after).await;
    }

    /// The virtual IPs.
    pub(crate) fn vips(&self) -> &Vips {
        &self.inner.vips
    }

    /// Makes the virtual IPs of the file be, for the first time. To be called where tasks can be started.
    pub(crate) fn start_vips(&self) {
        if let Err(reason) = self.inner.vips.apply(self, &self.config()) {
            self.inner.vips.failed(self, reason);
        }
    }

    /// Healing.
    pub(crate) fn recoverer(&self) -> &Recoverer {
        &self.inner.recoverer
    }

    /// What is measured.
    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// What was.
    pub(crate) fn historian(&self) -> &Historian {
        &self.inner.historian
    }

    /// Telling people.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.inner.notifier
    }

    /// Begins to tell people what the file wants them told. To be called where tasks can be started.
    pub(crate) fn start_notifier(&self) {
        self.inner.notifier.apply(self, &self.config());
    }

    /// The number of the last event.
    pub(crate) fn last_event(&self) -> u64 {
        self.inner.events.last()
    }

    /// Something happened.
    pub(crate) fn record(&self, kind: impl Into<event::EventKind>) {
        self.inner.events.record(kind);
    }

    /// Watches whether the data plane is alive; `None` at the very end, or when there is no thread for it.
    pub(crate) fn watch_data_plane(
        &self,
        interval: std::time::Duration,
        limit: std::time::Duration,
        prepare: fn(),
        tell: impl FnMut(Vitality) + Send + 'static,
    ) -> Option<Watch> {
        let watch = self.inner.with_plane(|plane| plane.watch(interval, limit, prepare, tell))?;
        watch.inspect_err(|error| warn!(%error, "the data plane cannot be watched")).ok()
    }

    /// Lines of the access log that were dropped.
    pub fn access_log_dropped(&self) -> u64 {
        self.inner.log_dropped.load(Ordering::Relaxed)
    }

    /// Puts a node together around a running data plane.
    pub(crate) fn new(parts: Parts) -> Node {
        let (revision, last_event) = parts.before;
        let published = Published {
            config: parts.effective.clone(),
            config_sha256: parts.config_sha256.clone(),
            last_read_sha256: parts.config_sha256.clone(),
            revision: revision + 1,
            last_reload: Some((SystemTime::now(), Ok(()))),
        };
        let writer = Writer {
            file: parts.file,
            file_sha256: parts.config_sha256,
            overlay: parts.overlay,
            effective: parts.effective,
            revision: revision + 1,
        };
        let machines = {
            let _inside = parts.runtime.enter();
            Machines::start(&writer.effective, parts.launch.program())
        };
        let room_events = machines.events();
        let (historian, reports) = Historian::start(&writer.effective);
        historian.note(history::start_act(env!("CARGO_PKG_VERSION"), &writer.file_sha256, &parts.config_path));
        let saved = parts.state.load_scaling().unwrap_or_else(|error| {
            warn!("{error}: alarms begin anew");
            SavedScaling::default()
        });
        let scaler = Scaler::restored(saved, &writer.effective);
        let director = parts.plane.director().clone();
        let events = director.events();
        let inner = Inner {
            started_at: SystemTime::now(),
            config_path: parts.config_path,
            launch: parts.launch,
            runtime: parts.runtime,
            plane: RwLock::new(Some(parts.plane)),
            director,
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            published: RwLock::new(Arc::new(published)),
            events: EventLog::new(last_event, historian.clone()),
            stage: watch::Sender::new(Stage::Serving),
            state: parts.state,
            log: Mutex::new(parts.log),
            log_dropped: parts.log_dropped,
            api: Mutex::default(),
            vips: Vips::new(),
            upgrading: AtomicBool::new(false),
            handover: Mutex::default(),
            machines,
            scaler,
            notifier: Notifier::default(),
            recoverer: Recoverer::default(),
            historian,
            orders: Orders::default(),
            meter: Meter::default(),
        };
        let node = Node { inner: Arc::new(inner) };
        node.inner.runtime.spawn(events::pump(node.clone(), events));
        node.inner.runtime.spawn(history::pump(node.clone(), reports));
        node.inner.runtime.spawn(events::pump_machines(node.clone(), room_events));
        if let Some(prepared) = parts.api {
            lock(&node.inner.api).commit(prepared, &node, &node.inner.runtime);
        }
        node
    }

    /// The file's digest when it was last read, whether it was taken or refused.
    pub(crate) fn last_read_sha256(&self) -> String {
        self.inner.published().last_read_sha256.clone()
    }

    /// Where the process is in its life.
    pub(crate) fn stage(&self) -> Stage {
        *self.inner.stage.borrow()
    }

    /// To wait for another stage.
    pub(crate) fn stages(&self) -> watch::Receiver<Stage> {
        self.inner.stage.subscribe()
    }

    /// Opens the access log again.
    pub(crate) fn reopen_access_log(&self) {
        if let Some(log) = lock(&self.inner.log).as_ref() {
            log.reopen();
        }
    }

    /// One line for the service manager.
    pub(crate) fn summary(&self) -> String {
        let published = self.inner.published();
        let (listeners, pools) = (published.config.listeners.len(), published.config.pools.len());
        format!("serving {listeners} listeners and {pools} pools, revision {}", published.revision)
    }

    /// Writes the overlay, where starting has changed it.
    pub(crate) async fn persist(&self) {
        let writer = self.inner.writer.lock().await;
        self.persist_overlay(&writer.overlay);
    }

    /// Begins to stop: no new work from now on. False when another process has taken over, for which this one stops accepting, too. Blocks
    /// until nothing is accepted any more, so that what is still open can be counted from here on.
    pub(crate) fn begin_drain(&self) -> bool {
        // Whoever comes after us tells what waits, and tells that we are gone.
        self.inner.notifier.stop();
        let mut ours = false;
        self.inner.stage.send_if_modified(|stage| {
            ours = *stage == Stage::Serving;
            if ours {
                *stage = Stage::Draining;
            }
            ours
        });
        if ours {
            self.inner.machines.lead(false);
            if let Some(socket) = lock(&self.inner.handover).take() {
                // An error: the other side is gone, which is what is wanted.
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
            self.inner.events.record(EventKind::Draining { timeout_s: self.config().node.drain_timeout.as_secs() });
            // Before anything is refused here, another node has the addresses.
            self.inner.vips.stop();
            self.inner.with_plane(|plane| plane.stop_accepting(false));
        } else {
            self.await_upgrade();
            self.keep_measured();
            // What happens here while what is in flight finishes goes to the log alone: the other process keeps what was from now on.
            self.inner.historian.stop();
        }
        ours
    }

    /// Ends everything: cuts what is left, writes what must outlive the process unless another one owns it now. Returns what was cut. Blocks.
    pub(crate) fn end(&self) -> DrainProgress {
        self.await_upgrade();
        // After an upgrade only now: until our work was done our clients came by these addresses.
        self.inner.vips.stop();
        let verdicts = self.inner.director.saved_verdicts();
        let plane = self.inner.plane.write().unwrap_or_else(PoisonError::into_inner).take();
        let cut = plane.map(|plane| plane.shutdown(std::time::Duration::ZERO)).unwrap_or_default();
        if let Some(log) = lock(&self.inner.log).take() {
            log.finish();
        }
        if !matches!(self.stage(), Stage::HandedOver(_)) {
            let saved = Saved { verdicts, revision: self.inner.published().revision, last_event: self.inner.events.last() };
            if let Err(error) = self.inner.state.save_saved(&saved, SystemTime::now()) {
                warn!(%error, "health verdicts are not kept");
            }
        }
        self.keep_measured();
        self.inner.historian.stop();
        cut
    }

    /// What was measured in the minute that is not over.
    fn keep_measured(&self) {
        let pages = self.inner.meter.lock().flush();
        self.inner.historian.pages(pages);
    }

    /// A handover ends in a moment, well or, when we were told to stop meanwhile, badly; its program must not outlive us unawares. Blocks.
    fn await_upgrade(&self) {
        let patience = Instant::now() + std::time::Duration::from_secs(2);
        while self.inner.upgrading.load(Ordering::Acquire) && Instant::now() < patience {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Accepts no more calls of the API; the task is done when what was under way is answered. It is given out once.
    pub(crate) fn stop_api(&self) -> Option<tokio::task::JoinHandle<()>> {
        let mut api = lock(&self.inner.api);
        api.stop();
        api.ending()
    }
}

impl AsRef<EventLog> for Node {
    fn as_ref(&self) -> &EventLog {
        &self.inner.events
    }
}

impl Inner {
    fn published(&self) -> Arc<Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, change: impl FnOnce(&mut Published)) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut published));
    }

    /// `None` at the very end, when there is no data plane any more.
    fn with_plane<T>(&self, work: impl FnOnce(&DataPlane) -> T) -> Option<T> {
        self.plane.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(work)
    }
}

/// The file's text and its SHA-256.
pub(crate) fn read_config(path: &Path) -> io::Result<(String, String)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {CONFIG_BYTES_MAX} bytes")));
    }
    let digest = hex(&Sha256::digest(&bytes));
    let text = String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to())))?;
    Ok((text, digest))
}

/// Binds the API's listener and reads its token. `inherited`: the listener of the process before, used where the address is the same;
/// `sessions`: those of the process before, which go on where the tokens are the same.
pub(crate) fn prepare_api(
    config: &Config,
    inherited: Option<TcpListener>,
    sessions: Option<SavedSessions>,
) -> io::Result<Option<Prepared>> {
    let prepared = ApiSlot::default().prepare(config.api.as_ref(), inherited)?;
    if let (Some(prepared), Some(sessions)) = (&prepared, sessions) {
        prepared.restore(&sessions);
    }
    Ok(prepared)
}

/// The access log that this configuration wants.
pub(crate) fn start_access_log(config: &Config, dropped: &Arc<AtomicU64>) -> io::Result<Option<AccessLog>> {
    let Some(settings) = &config.access_log else { return Ok(None) };
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("cannot open the access log {:?}: {error}", settings.target));
    AccessLog::start(settings, dropped.clone()).map(Some).map_err(explain)
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_digest() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weir.toml");
        std::fs::write(&path, "abc").expect("written");
        let (text, digest) = read_config(&path).expect("read");
        assert_eq!(text, "abc");
        // The test vector of FIPS 180-2, appendix B.1.
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        std::fs::write(&path, b"ab\xff").expect("written");
        assert_eq!(read_config(&path).expect_err("not text").to_string(), "not UTF-8 at byte 2");
    }
}
