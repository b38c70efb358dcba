//! The thread's life.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tracing::{info, warn};
use weir_config::{Notification, Severity};

use super::lane::{Ended, Lane, PATIENCE, deliver, ms};
use super::{Command, LinkState, Options, Report, Stats, Story, TestOutcome};
use crate::channel::Fault;
use crate::engine::{AckRefusal, Engine, House, Incident, Input, Output, Raise, Saved};
use crate::link::{LinkKey, Refusal};
use crate::message::{Message, State, UnixMs};
use crate::outbox::{Claimed, Next, Store};

/// Between two tries to get the lock of the process before.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Commands taken before what came of them is kept, in one transaction.
const BATCH: usize = 256;
/// Outputs kept in memory while the store cannot be written.
const UNKEPT_MAX: usize = 50_000;
/// Between two tries to write to a store that failed, and two looks at counts.
const TICK_MS: u64 = 1000;
/// How often what is old is forgotten.
const FORGET_MS: u64 = 3_600_000;
/// Incidents that are over and listed.
const PAST_LISTED: u64 = 100;

pub(super) fn run(options: Options, mut commands: mpsc::Receiver<Command>, stats: &Mutex<Stats>, stopping: &AtomicBool) {
    // Held until this thread ends.
    let lock = options.state_dir.as_deref().and_then(|folder| wait_for_turn(folder, stopping));
    if stopping.load(Ordering::Acquire) {
        return;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            (options.report)(Report::StoreFailed { reason: format!("nobody can be told: {error}") });
            return;
        }
    };
    let stopped = runtime.block_on(async {
        let mut service = Service::new(options);
        service.live(&mut commands, stats).await
    });
    drop(runtime);
    drop(lock);
    if let Some(stopped) = stopped {
        // An error: nobody waits for it.
        let _ = stopped.send(());
    }
}

/// One process of this node at a time tells.
fn wait_for_turn(folder: &Path, stopping: &AtomicBool) -> Option<File> {
    let path = folder.join("notify.lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.inspect_err(|error| warn!("cannot lock {}: {error}", path.display())).ok()?;
    while !stopping.load(Ordering::Acquire) {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => std::thread::sleep(LOCK_RETRY),
            Err(error) => {
                warn!("cannot lock {}: {error}", path.display());
                return None;
            }
        }
    }
    None
}

struct Service {
    engine: Engine,
    key: LinkKey,
    store: Store,
    notification: Arc<Notification>,
    lanes: BTreeMap<String, Lane>,
    deliveries: JoinSet<Ended>,
    /// Which delivery is of which channel, and its message with the time at which it was made.
    under_way: HashMap<Id, (String, UnixMs, Box<Message>)>,
    /// What could not be kept yet.
    unkept: Vec<Output>,
    store_fails: bool,
    report: Box<dyn Fn(Report) + Send>,
    forget_at: UnixMs,
    tick_at: UnixMs,
    lost: u64,
}

impl Service {
    fn new(options: Options) -> Service {
        let Options { state_dir, notification, node, report } = options;
        let now = now();
        let (mut store, saved) = open(state_dir.as_deref(), &report, now);
        let key = store.meta_or("link_key", || random().to_vec()).ok().and_then(|bytes| bytes.try_into().ok());
        let key = LinkKey::new(key.unwrap_or_else(random));
        let engine = Engine::new(notification.clone(), House { node, key: key.clone() }, saved, now);
        let mut service = Service {
            engine,
            key,
            store,
            notification: Arc::default(),
            lanes: BTreeMap::new(),
            deliveries: JoinSet::new(),
            under_way: HashMap::new(),
            unkept: Vec::new(),
            store_fails: false,
            report,
            forget_at: now,
            tick_at: now,
            lost: 0,
        };
        service.set_channels(notification);
        service.forget_channels_that_are_gone(now);
        for (name, lane) in &mut service.lanes {
            // Told before this start: the next delivery says that it is over.
            lane.stats.failing = service.engine.incident_of(&failure_key(name)).is_some();
        }
        service
    }

    /// Channels that are as they were keep what is known of them.
    fn set_channels(&mut self, notification: Arc<Notification>) {
        let mut before = std::mem::take(&mut self.lanes);
        for (name, settings) in &notification.channels {
            let lane = match before.remove(&*name.0) {
                Some(lane) if lane.settings == *settings => lane,
                Some(old) => Lane { busy: old.busy, claimed: old.claimed, stats: old.stats, ..Lane::new(settings.clone()) },
                None => Lane::new(settings.clone()),
            };
            self.lanes.insert(name.to_string(), lane);
        }
        self.give_back(before.into_values());
        self.notification = notification;
    }

    /// What these were about to deliver waits again.
    fn give_back(&mut self, lanes: impl Iterator<Item = Lane>) {
        let claimed: Vec<Claimed> = lanes.flat_map(|lane| lane.claimed).collect();
        if let Err(error) = self.store.give_back(claimed.iter().map(|claimed| &claimed.message)) {
            warn!("{error}");
        }
    }

    /// Nobody will ever say that a channel delivers again that is no longer in the file.
    fn forget_channels_that_are_gone(&mut self, now: UnixMs) {
        let keys = self.lanes.keys().map(|name| failure_key(name)).collect();
        self.engine.handle(Input::Sources { prefix: failure_key(""), keys }, now);
    }

    async fn live(&mut self, commands: &mut mpsc::Receiver<Command>, stats: &Mutex<Stats>) -> Option<oneshot::Sender<()>> {
        loop {
            self.keep();
            self.begin_deliveries();
            self.tick(stats);
            let wait = Duration::from_millis(self.next_time().saturating_sub(now()));
            tokio::select! {
                command = commands.recv() => {
                    let mut next = command;
                    for _ in 0..BATCH {
                        match next {
                            None => return None,
                            Some(Command::Stop(reply)) => {
                                self.keep();
                                let lanes = std::mem::take(&mut self.lanes);
                                self.give_back(lanes.into_values());
                                return Some(reply);
                            }
                            Some(command) => self.obey(command),
                        }
                        match commands.try_recv() {
                            Ok(command) => next = Some(command),
                            Err(_) => break,
                        }
                    }
                }
                Some(ended) = self.deliveries.join_next_with_id(), if !self.deliveries.is_empty() => self.ended(ended),
                () = tokio::time::sleep(wait) => {}
            }
            self.engine.handle_timeout(now());
        }
    }

    fn next_time(&self) -> UnixMs {
        let lanes = self.lanes.values().filter(|lane| !lane.busy).filter_map(|lane| lane.look_at);
        lanes.chain(self.engine.poll_timeout()).chain([self.tick_at]).min().unwrap_or(self.tick_at)
    }

    fn obey(&mut self, command: Command) {
        let now = now();
        // An error in a reply: nobody waits for it any more.
        match command {
            Command::Learn(input) => self.engine.handle(input, now),
            Command::Apply(notification) => {
                self.set_channels(notification.clone());
                self.engine.apply(notification, now);
                self.forget_channels_that_are_gone(now);
            }
            Command::Acknowledge(id, by, reply) => {
                let result = self.engine.acknowledge(id, &by, now);
                self.keep();
                let _ = reply.send(result);
            }
            Command::AcknowledgeAlarm(key, by, reply) => {
                let id = self.engine.incident_of(&key).map(|incident| incident.id).ok_or(AckRefusal::NotOpen);
                let result = id.and_then(|id| self.engine.acknowledge(id, &by, now).map(|()| id));
                self.keep();
                let _ = reply.send(result);
            }
            Command::FollowLink(token, acknowledge, reply) => {
                let result = self.follow(&token, acknowledge, now);
                self.keep();
                let _ = reply.send(result);
            }
            Command::Incidents(reply) => {
                let mut incidents: Vec<Incident> = self.engine.incidents().cloned().collect();
                incidents.reverse();
                self.keep();
                incidents.extend(self.store.past_incidents(PAST_LISTED).unwrap_or_default());
                let _ = reply.send(incidents);
            }
            Command::Story(id, reply) => {
                self.keep();
                let incident = self.engine.incident(id).cloned().or_else(|| self.store.incident(id).ok().flatten());
                let messages = self.store.of_incident(&id.to_string()).unwrap_or_default();
                let _ = reply.send(incident.map(|incident| Story { incident, messages }));
            }
            Command::Test(name, reply) => self.test(&name, reply, now),
            Command::Dead(reply) => drop(reply.send(self.store.dead().unwrap_or_default())),
            Command::Resend(key, reply) => {
                let count = self.store.resend(key.as_deref(), now).unwrap_or(0);
                self.lanes.values_mut().for_each(|lane| lane.look_at = Some(now));
                let _ = reply.send(count);
            }
            Command::Stop(_) => unreachable!("it ends the loop"),
        }
    }

    fn follow(&mut self, token: &str, acknowledge: bool, now: UnixMs) -> Result<LinkState, Refusal> {
        let permission = self.key.check(token, now)?;
        let of_link = |incident: &&Incident| incident.started_at == permission.started_at && incident.state != State::Resolved;
        let Some(incident) = self.engine.incident(permission.incident).filter(of_link) else { return Ok(LinkState::Over) };
        let incident = Box::new(incident.clone());
        if let Some((by, _)) = &incident.acknowledged {
            return Ok(LinkState::Already(by.clone()));
        }
        if !acknowledge {
            return Ok(LinkState::Open(incident));
        }
        Ok(match self.engine.acknowledge(permission.incident, &format!("link sent by {}", permission.channel), now) {
            Ok(()) => LinkState::Done(incident),
            Err(AckRefusal::Already(by)) => LinkState::Already(by),
            Err(AckRefusal::NotOpen) => LinkState::Over,
        })
    }

    /// A sample goes by itself, so that it waits for nothing and is not repeated.
    fn test(&mut self, name: &str, reply: oneshot::Sender<Option<TestOutcome>>, now: UnixMs) {
        let (Some(lane), Some(message)) = (self.lanes.get(name), self.engine.test_message(name, now)) else {
            let _ = reply.send(None);
            return;
        };
        let (channel, limit) = (lane.channel.clone(), lane.settings.timeout);
        tokio::spawn(async move {
            let Ended { result, transcript, .. } = deliver(channel, Box::new(message), limit).await;
            let result = result.map(|receipt| receipt.said).map_err(|fault| fault.text);
            let _ = reply.send(Some(TestOutcome { result, transcript }));
        });
    }

    /// Writes what came of the last inputs. While it cannot be written it is held, and told once it can.
    fn keep(&mut self) {
        self.unkept.extend(self.engine.take_outputs());
        if self.unkept.is_empty() {
            return;
        }
        let now = now();
        match self.store.record(&self.unkept, now) {
            Ok(()) => {
                for output in self.unkept.drain(..) {
                    if let Output::Tell(channel, message) = output {
                        info!(incident = message.incident, kind = message.kind.word(), channel = %channel, "telling: {}", message.text("en").title);
                        if let Some(lane) = self.lanes.get_mut(&*channel.0) {
                            lane.look_at = Some(now);
                        }
                    }
                }
                self.store_fails = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.store_fails, true) {
                    (self.report)(Report::StoreFailed { reason: error.to_string() });
                }
                let excess = self.unkept.len().saturating_sub(UNKEPT_MAX);
                self.lost += excess as u64;
                self.unkept.drain(..excess);
            }
        }
    }

    fn begin_deliveries(&mut self) {
        let now = now();
        for (name, lane) in &mut self.lanes {
            if lane.busy || lane.look_at.is_none_or(|at| at > now) {
                continue;
            }
            if lane.claimed.is_empty() {
                match self.store.next(name, now, lane.appetite()) {
                    Ok(Next::Send(claimed)) => lane.claimed.extend(claimed),
                    Ok(Next::At(at)) => lane.look_at = Some(at),
                    Ok(Next::Nothing) => lane.look_at = None,
                    Err(error) => {
                        warn!(channel = name, "{error}");
                        lane.look_at = Some(now + TICK_MS);
                    }
                }
            }
            let Some(Claimed { message, created_at }) = lane.claimed.pop_front() else { continue };
            let message = Box::new(message);
            lane.busy = true;
            let task = self.deliveries.spawn(deliver(lane.channel.clone(), message.clone(), lane.settings.timeout));
            self.under_way.insert(task.id(), (name.clone(), created_at, message));
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, ended),
            Err(error) => {
                let fault = Fault::temporary(format!("the channel failed unexpectedly: {error}"));
                (error.id(), Ended { result: Err(fault), transcript: Vec::new(), took: Duration::ZERO })
            }
        };
        let Some((name, created_at, message)) = self.under_way.remove(&id) else { return };
        let now = now();
        let Some(lane) = self.lanes.get_mut(&name) else {
            // The channel is gone from the file: its message waits for it to come back.
            let kept = match &ended.result {
                Ok(receipt) => self.store.delivered(&name, &message, receipt, now),
                Err(fault) => self.store.failed(&message, fault, Some(now), None, now),
            };
            return kept.unwrap_or_else(|error| warn!(channel = name, "{error}"));
        };
        lane.busy = false;
        lane.look_at = Some(now);
        lane.stats.delivery_ms += ms(ended.took);
        lane.took = ended.result.is_ok().then_some(ended.took);
        let kept = match &ended.result {
            Ok(receipt) => {
                lane.stats.delivered += 1;
                lane.failures = 0;
                let failed = std::mem::take(&mut lane.stats.failing);
                let kept = self.store.delivered(&name, &message, receipt, now);
                if failed {
                    (self.report)(Report::ChannelRecovered { channel: name.clone() });
                    self.engine.handle(Input::Clear(failure_key(&name)), now);
                }
                kept
            }
            Err(fault) => self.fault(&name, &message, created_at, fault, now),
        };
        if let Err(error) = kept {
            warn!(channel = name, "{error}");
        }
    }

    fn fault(
        &mut self,
        name: &str,
        message: &Message,
        created_at: UnixMs,
        fault: &Fault,
        now: UnixMs,
    ) -> Result<(), crate::outbox::StoreError> {
        let Some(lane) = self.lanes.get_mut(name) else { return Ok(()) };
        lane.stats.faults += 1;
        lane.failures += 1;
        let chance = u32::from(u16::from_le_bytes([random()[0], random()[1]])) % 1001;
        let verdict = lane.judge(message, created_at, fault, now, chance);
        warn!(channel = name, attempt = message.attempt, kind = fault.kind.word(), "a message was not delivered: {}", fault.text);
        let fallback = lane.settings.fallback.clone().filter(|_| verdict.fall_back);
        // The channel rests too: the server that refused one message refuses the next.
        lane.look_at = Some(verdict.retry_at.map_or(now, |at| at.min(now + ms(lane.settings.backoff_max))));
        let fails = lane.failures >= PATIENCE || verdict.retry_at.is_none();
        let begins_to_fail = fails && !std::mem::replace(&mut lane.stats.failing, true);
        // While it rests, what it was to deliver next may be looked at, or go elsewhere.
        let given_back = self.store.give_back(lane.claimed.iter().map(|claimed| &claimed.message));
        if given_back.is_ok() {
            lane.claimed.clear();
        }
        let kept = self.store.failed(message, fault, verdict.retry_at, fallback.as_ref().map(|name| &*name.0), now);
        if let Some(fallback) = fallback.and_then(|name| self.lanes.get_mut(&*name.0)) {
            fallback.look_at = Some(now);
        }
        if verdict.retry_at.is_none() {
            (self.report)(Report::Dead { channel: name.to_owned(), key: message.key.clone(), reason: fault.text.clone() });
        }
        if begins_to_fail {
            (self.report)(Report::ChannelFailed { channel: name.to_owned(), reason: fault.text.clone() });
            let labels = [("alarm", "channel-failed"), ("channel", name)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.engine.handle(
                Input::Raise(Raise {
                    key: failure_key(name),
                    labels: labels.into(),
                    severity: Severity::Critical,
                    summary: format!("channel {name} does not deliver: {}", fault.text),
                    values: [("reason".to_owned(), fault.text.clone())].into(),
                    series: None,
                }),
                now,
            );
        }
        given_back.and(kept)
    }

    /// Counts, and what is old is forgotten.
    fn tick(&mut self, stats: &Mutex<Stats>) {
        let now = now();
        if self.tick_at > now {
            return;
        }
        self.tick_at = now + TICK_MS;
        if self.forget_at <= now {
            self.forget_at = now + FORGET_MS;
            if let Err(error) = self.store.forget(now.saturating_sub(ms(self.notification.incident.keep))) {
                warn!("{error}");
            }
        }
        let counts = self.store.counts().unwrap_or_default();
        let mut incidents: BTreeMap<&'static str, u64> = Severity::ALL.iter().map(|severity| (severity.word(), 0)).collect();
        for incident in self.engine.incidents().filter(|incident| incident.state != State::Resolved) {
            *incidents.entry(incident.severity.word()).or_default() += 1;
        }
        let channels = self.lanes.iter().map(|(name, lane)| {
            let (waiting, dead) = counts.get(name).copied().unwrap_or_default();
            (name.clone(), super::ChannelStats { waiting, dead, ..lane.stats.clone() })
        });
        let dropped = self.engine.dropped() + self.store.refused() + self.lost;
        *stats.lock().unwrap_or_else(PoisonError::into_inner) = Stats { channels: channels.collect(), incidents, dropped };
    }
}

/// People are told also where nothing can be kept.
fn open(folder: Option<&Path>, report: &dyn Fn(Report), now: UnixMs) -> (Store, Saved) {
    let opened = |store: Result<Store, crate::outbox::StoreError>| {
        let store = store?;
        let saved = store.load()?;
        Ok::<_, crate::outbox::StoreError>((store, saved))
    };
    let Some(folder) = folder else { return opened(Store::in_memory()).expect("a store in memory needs nothing") };
    let path = folder.join("notify.db");
    match opened(Store::open(&path)) {
        Ok(found) => return found,
        Err(error) => report(Report::StoreFailed { reason: format!("{}: {error}", path.display()) }),
    }
    // Put aside for whoever wants to look at it; a new one is better than none.
    let aside = folder.join(format!("notify.db.broken-{now}"));
    let moved = std::fs::rename(&path, &aside).is_ok();
    if moved {
        warn!("the old store is kept as {}", aside.display());
    }
    let second = if moved { opened(Store::open(&path)).ok() } else { None };
    second.unwrap_or_else(|| opened(Store::in_memory()).expect("a store in memory needs nothing"))
}

fn failure_key(channel: &str) -> String {
    format!("channel/{channel}")
}

fn now() -> UnixMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
