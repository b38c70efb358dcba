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
mod events;
mod versions;

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::{error, warn};
use weir_config::{AdminState, Config, Endpoint, EndpointAddress, PoolName, Weight};
use weir_lb::director::{Director, SavedVerdict};
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
use crate::overlay::{Overlay, Refusal};
use crate::recovery::Recoverer;
use crate::scaling::{SavedScaling, Scaler};
use crate::state::{RawOverlay, Saved, StateDir};
use crate::systemd;
use crate::upgrade::{self, Header, Launch};
use crate::vip::Vips;
use api_slot::{ApiSlot, Prepared};
pub(crate) use events::EventLog;
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
        prepare: impl FnOnce() + Send + 'static,
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

    /// Runs a change alone, on a thread that may block, to its end.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Node, &mut Writer) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let mut writer: OwnedMutexGuard<Writer> = self.inner.writer.clone().lock_owned().await;
        let node = self.clone();
        let work = move || match node.stage() {
            Stage::Serving => change(&node, &mut writer),
            Stage::Draining => Err(ChangeError::Conflict("this node is stopping".into())),
            Stage::HandedOver(pid) => Err(ChangeError::Conflict(format!("process {pid} has taken over: ask again"))),
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => {
                error!(%error, "a change failed unexpectedly");
                Err(ChangeError::Failed("the change failed unexpectedly; the log says more".into()))
            }
        }
    }

    fn change_now(
        &self,
        writer: &mut Writer,
        pool: &PoolName,
        address: &EndpointAddress,
        change: &EndpointChange,
        based_on: Option<u64>,
    ) -> Result<u64, ChangeError> {
        writer.check_revision(based_on)?;
        let changed = writer.overlay.change(&writer.file, pool, address, change);
        let Some(overlay) = changed.map_err(|refusal| explain_refusal(refusal, &writer.effective, pool, address))? else {
            return Ok(writer.revision);
        };
        let applied = overlay.apply(&writer.file);
        self.apply(writer, applied.config)?;
        writer.overlay = applied.overlay;
        self.publish(writer, |_| {});
        self.persist_overlay(&writer.overlay);
        self.inner.events.record(EventKind::EndpointChanged {
            pool: pool.0.clone(),
            endpoint: address.to_string(),
            change: describe(change),
            revision: writer.revision,
        });
        Ok(writer.revision)
    }

    fn reload_now(&self, writer: &mut Writer, dry_run: bool) -> Result<ReloadReport, ChangeError> {
        let mut digest = None;
        let result = self.reload_read(writer, dry_run, &mut digest);
        if dry_run {
            return result;
        }
        let outcome = result.as_ref().map(drop).map_err(ToString::to_string);
        if let Err(reason) = &outcome {
            self.inner.events.record(EventKind::ReloadRefused { reason: reason.clone() });
        }
        self.inner.publish(|published| {
            published.last_reload = Some((SystemTime::now(), outcome));
            if let Some(digest) = digest {
                published.last_read_sha256 = digest;
            }
        });
        result
    }

    fn reload_read(&self, writer: &mut Writer, dry_run: bool, digest: &mut Option<String>) -> Result<ReloadReport, ChangeError> {
        let path = &self.inner.config_path;
        let (text, sha256) = read_config(path).map_err(|error| ChangeError::Invalid(format!("cannot read {}: {error}", path.display())))?;
        *digest = Some(sha256.clone());
        if sha256 == writer.file_sha256 {
            if dry_run {
                return Ok(ReloadReport { revision: writer.revision, changes: Vec::new() });
            }
            self.renew_session_keys(&writer.effective)?;
            let changes = self.renew_api(&writer.effective)?;
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        let file = weir_config::parse(&text, &path.to_string_lossy()).map_err(|errors| ChangeError::Invalid(errors.render(false)))?;
        let applied = writer.overlay.apply(&file);
        let differences = weir_config::diff(&writer.effective, &applied.config);
        let mut changes: Vec<String> = differences.iter().map(ToString::to_string).collect();
        changes.extend(applied.notes.iter().map(ToString::to_string));
        if dry_run {
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        if !differences.is_empty() {
            self.apply_settings(writer, applied.config)?;
        }
        for difference in differences.iter().filter(|difference| difference.needs_restart()) {
            warn!("takes effect with the next restart or upgrade only: {difference}");
        }
        let overlay_changed = writer.overlay != applied.overlay;
        (writer.file, writer.file_sha256, writer.overlay) = (file, sha256.clone(), applied.overlay);
        if differences.is_empty() {
            self.inner.publish(|published| published.config_sha256 = sha256);
        } else {
            self.publish(writer, |published| published.config_sha256 = sha256);
        }
        if overlay_changed {
            self.persist_overlay(&writer.overlay);
        }
        self.keep_version(&text, &writer.file_sha256);
        self.inner.events.record(EventKind::Reloaded { revision: writer.revision, changes: changes.clone() });
        Ok(ReloadReport { revision: writer.revision, changes })
    }

    fn write_file_now(&self, writer: &mut Writer, text: &str, over: Option<&str>, dry_run: bool) -> Result<ReloadReport, ChangeError> {
        let path = &self.inner.config_path;
        let cannot = |what: &str, error: &dyn std::fmt::Display| ChangeError::Failed(format!("cannot {what} {}: {error}", path.display()));
        let (before, sha256) = read_config(path).map_err(|error| cannot("read", &error))?;
        if over.is_some_and(|over| !over.eq_ignore_ascii_case(&sha256)) {
            let why = format!("{} was changed meanwhile, its SHA-256 is {sha256} now: look again and repeat the change", path.display());
            return Err(ChangeError::Conflict(why));
        }
        let file = weir_config::parse(text, &path.to_string_lossy()).map_err(|errors| ChangeError::Invalid(errors.render(false)))?;
        let applied = writer.overlay.apply(&file);
        let changes = weir_config::diff(&writer.effective, &applied.config).iter().map(ToString::to_string).collect();
        if dry_run {
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        versions::replace(path, text).map_err(|error| {
            ChangeError::Failed(format!(
                "cannot write {}: {error}. The user of weir must be allowed to (under systemd also ReadWritePaths=); or write it by hand",
                path.display()
            ))
        })?;
        self.reload_now(writer, false).inspect_err(|_| {
            // What is not taken must not wait there for the next start.
            if let Err(error) = versions::replace(path, &before) {
                error!(%error, "the file was not taken, and the one before could not be put back");
            }
        })?;
        Ok(ReloadReport { revision: writer.revision, changes })
    }

    /// The same file, but perhaps another token in the file that it names.
    fn renew_api(&self, config: &Config) -> Result<Vec<String>, ChangeError> {
        let mut slot = lock(&self.inner.api);
        let Some(prepared) = slot.prepare(config.api.as_ref(), None).map_err(failed)? else { return Ok(Vec::new()) };
        slot.commit(prepared, self, &self.inner.runtime);
        Ok(vec!["api: another token or certificate".into()])
    }

    /// Nor need the files that hold the keys of sessions be the same.
    fn renew_session_keys(&self, config: &Config) -> Result<(), ChangeError> {
        match self.inner.with_plane(|plane| plane.renew_session_keys(config)) {
            Some(Err(error)) => Err(ChangeError::Failed(chain(&error))),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Lets a configuration take effect that differs in endpoints only. On an error nothing has changed.
    fn apply(&self, writer: &mut Writer, mut config: Config) -> Result<(), ChangeError> {
        weir_config::share_unchanged(&writer.effective, &mut config);
        let config = Arc::new(config);
        match self.inner.with_plane(|plane| plane.apply(config.clone())) {
            Some(Ok(_)) => {
                writer.effective = config;
                Ok(())
            }
            Some(Err(error)) => Err(ChangeError::Failed(chain(&error))),
            None => Err(ChangeError::Conflict("this node is stopping".into())),
        }
    }

    /// Like [`Node::apply`], with access log and API: what can fail about them is done before, the rest after.
    fn apply_settings(&self, writer: &mut Writer, config: Config) -> Result<(), ChangeError> {
        let log = if config.access_log == writer.effective.access_log {
            None
        } else {
            Some(start_access_log(&config, &self.inner.log_dropped).map_err(failed)?)
        };
        Vips::check(&config).map_err(ChangeError::Failed)?;
        let mut slot = lock(&self.inner.api);
        let prepared = slot.prepare(config.api.as_ref(), None).map_err(failed)?;
        self.apply(writer, config)?;
        self.inner.vips.apply(self, &writer.effective).map_err(ChangeError::Failed)?;
        {
            let _inside = self.inner.runtime.enter();
            self.inner.machines.apply(&writer.effective);
            self.inner.notifier.apply(self, &writer.effective);
            self.inner.historian.apply(&writer.effective);
        }
        self.inner.vips.choose_leader(self, &writer.effective);
        if let Some(log) = log {
            self.inner.with_plane(|plane| plane.set_log(log.as_ref().map(AccessLog::sink)));
            // The old one ends by itself when the last worker has let go of it.
            *lock(&self.inner.log) = log;
        }
        if let Some(prepared) = prepared {
            slot.commit(prepared, self, &self.inner.runtime);
        }
        Ok(())
    }

    /// The next revision, for everybody to see.
    fn publish(&self, writer: &mut Writer, change: impl FnOnce(&mut Published)) {
        writer.revision += 1;
        self.inner.publish(|published| {
            published.revision = writer.revision;
            published.config = writer.effective.clone();
            change(published);
        });
    }

    fn persist_overlay(&self, overlay: &Overlay) {
        if let Err(error) = self.inner.state.save_overlay(overlay) {
            self.inner.events.record(EventKind::NotPersisted { reason: error.to_string() });
        }
    }

    fn upgrade_now(&self, writer: &mut Writer, binary: Option<PathBuf>) -> Result<u32, ChangeError> {
        let binary = match &binary {
            Some(path) => std::path::absolute(path).map_err(|error| ChangeError::Invalid(format!("{}: {error}", path.display())))?,
            None => self.inner.launch.program().to_owned(),
        };
        self.inner.events.record(EventKind::UpgradeStarted { binary: binary.display().to_string() });
        match self.hand_over(writer, &binary) {
            Ok(pid) => {
                self.inner.with_plane(|plane| plane.stop_accepting(true));
                lock(&self.inner.api).stop();
                systemd::handed_over(pid);
                self.inner.events.record(EventKind::Upgraded { pid });
                Ok(pid)
            }
            Err(reason) => {
                self.inner.events.record(EventKind::UpgradeFailed { reason: reason.clone() });
                Err(ChangeError::Failed(reason))
            }
        }
    }

    fn hand_over(&self, writer: &Writer, binary: &Path) -> Result<u32, String> {
        let text = |error: io::Error| error.to_string();
        let sockets = self.inner.with_plane(DataPlane::listening_sockets).ok_or("this node is stopping")?.map_err(text)?;
        let api = lock(&self.inner.api).socket().map_err(text)?;
        let verdicts: Vec<SavedVerdict> = self.inner.director.saved_verdicts();
        let mut header = Header::new(RawOverlay::from(&writer.overlay), writer.revision, self.inner.events.last(), verdicts);
        header.listeners = sockets.iter().map(|socket| socket.address).collect();
        header.ticket_keys = self.inner.with_plane(|plane| plane.tls().ticket_keys()).unwrap_or_default();
        header.sessions = lock(&self.inner.api).sessions();
        header.api = api.as_ref().map(|(address, _)| *address);
        let borrowed: Vec<_> =
            sockets.iter().map(|socket| socket.socket.as_fd()).chain(api.iter().map(|(_, socket)| socket.as_fd())).collect();
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        *lock(&self.inner.handover) = Some(ours.try_clone().map_err(text)?);
        // Who began to stop before it was there to be shut down could not end this.
        if self.stage() != Stage::Serving {
            lock(&self.inner.handover).take();
            return Err("this node is stopping".into());
        }
        let deadline = Instant::now() + upgrade::DEADLINE;
        let commit = |pid| {
            self.inner.stage.send_if_modified(|stage| {
                let serving = *stage == Stage::Serving;
                if serving {
                    *stage = Stage::HandedOver(pid);
                    self.inner.machines.lead(false);
                }
                serving
            })
        };
        let result = self.inner.launch.hand_over(binary, (&ours, theirs), &header, &borrowed, deadline, commit);
        lock(&self.inner.handover).take();
        result.map_err(|error| error.to_string())
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

/// Lowered when the upgrade ended, however it ended.
struct Upgrading(Node);

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.0.inner.upgrading.store(false, Ordering::Release);
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

fn failed(error: io::Error) -> ChangeError {
    ChangeError::Failed(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a change is, in words for the log.
fn describe(change: &EndpointChange) -> String {
    match change {
        EndpointChange::Add(endpoint) => format!("added with weight {}, tier {}", endpoint.weight.value(), endpoint.tier),
        EndpointChange::Remove => "removed".into(),
        EndpointChange::State(AdminState::Ready) => "ready".into(),
        EndpointChange::State(AdminState::Draining) => "draining".into(),
        EndpointChange::State(AdminState::Maintenance) => "maintenance".into(),
        EndpointChange::Weight(weight) => format!("weight {}", weight.value()),
    }
}

fn explain_refusal(refusal: Refusal, config: &Config, pool: &PoolName, address: &EndpointAddress) -> ChangeError {
    match refusal {
        Refusal::NoPool => {
            let nearest = nearest(&pool.0, config.pools.keys().map(|name| name.0.to_string()));
            ChangeError::NotFound(format!("there is no pool `{pool}`{nearest}"))
        }
        Refusal::NoEndpoint => {
            let endpoints = config.pools.get(pool).into_iter().flat_map(|pool| &pool.endpoints);
            let nearest = nearest(&address.to_string(), endpoints.map(|endpoint| endpoint.address.to_string()));
            ChangeError::NotFound(format!("pool `{pool}` has no endpoint `{address}`{nearest}"))
        }
        Refusal::Exists => ChangeError::Conflict(format!("pool `{pool}` has the endpoint `{address}` already")),
        Refusal::Full => ChangeError::Conflict(format!(
            "there are {} run-time changes already, which is the most: write some of them into the file",
            crate::overlay::ENTRIES_MAX
        )),
    }
}

/// A hint at what was meant, if anything is near.
fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> String {
    let near = names.map(|name| (strsim::damerau_levenshtein(wanted, &name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + wanted.len() / 4 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_named_when_it_is_near() {
        let names = || ["web", "api", "static-files"].into_iter().map(String::from);
        assert_eq!(nearest("wbe", names()), "; did you mean `web`?");
        assert_eq!(nearest("static-flies", names()), "; did you mean `static-files`?");
        assert_eq!(nearest("database", names()), "");
        assert_eq!(nearest("web", std::iter::empty()), "");
    }

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
