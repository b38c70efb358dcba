//! Alarms and scaling of this node: looks each second, decides, and carries out.
//!
//! ```text
//!   data plane, hosts ──► meter ──► alarms ──┐
//!        └────────► observe ─────────────────┼─► plan (pure) ──► steps ──► execute ──► hosts, data plane
//!                                            │                                │
//!                                            └──── memory ◄───────────────────┘ how they went
//! ```
//!
//! - [`crate::meter`]: what is measured; `external`: numbers from elsewhere. `observe`: machines and endpoints as the members of a pool.
//! - `execute`: one step, from its beginning to its end. `hooks`: programs and webhooks. `saved`: what outlives the process.
//! - `pool`: one scaled pool from look to look. `wish`: what an operator asks for. `view`: what the API shows. `picture`: what a mail shows.
//!
//! Only the leader makes, marks and removes machines. Each node, leader or not, keeps its own list of endpoints in step with what the hosts
//! say of the machines: so a new leader serves at once. A leader that dies leaves nothing behind that its successor needs: marks on the
//! machines say what was decided, and what is missing is decided again.

mod execute;
mod external;
mod hooks;
mod observe;
mod picture;
mod pool;
mod saved;
mod view;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, warn};
use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::{AlarmBook, AlarmState, Output};
use weir_autoscaler::scaling::plan::Step;
use weir_autoscaler::scaling::{AlarmSignal, MemberState, Observation, Policy, Signals, TargetSignal};
use weir_autoscaler::{Query, Readings, Scope};
use weir_config::{AlarmName, Config, Metric, PoolName, Predict, Statistic};
use weir_history::point::Series;
use weir_history::service::Reader;
use weir_history::store::{STEPS_MAX, SeriesAsked, StoreError};
use weir_hypervisor::Hypervisor;
use weir_lb::status::Status;

use crate::command;
use crate::event::ScalingEvent;
use crate::history::HistoryError;
use crate::meter::{self, Measured};
use crate::node::{Node, Stage};
use external::Externals;
use observe::Sight;
use pool::Scaled;

pub(crate) use observe::{ADDRESS, PROTECTED};
pub(crate) use saved::SavedScaling;
pub(crate) use view::{change_view, state_number};
pub(crate) use wish::{Wish, WishError};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long after a full second is looked: timers may be a millisecond early.
const AFTER: Duration = Duration::from_millis(10);

/// How often what was before is looked for, until there is none.
const RECALLS_MAX: u32 = 60;

/// How long a host that has never answered holds up what is made and taken away.
const HOST_GRACE: Duration = Duration::from_secs(60);

/// Alarms and scaling.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    room: Mutex<Room>,
    /// Something has ended: look at once.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Room {
    config: Option<Arc<Config>>,
    book: AlarmBook,
    pools: BTreeMap<PoolName, Scaled>,
    /// Since when a host has not answered at all.
    silent: BTreeMap<String, UnixMs>,
    led: bool,
    /// The meter knows what is asked for.
    measures: bool,
    /// Something that is kept over a restart has changed.
    unsaved: bool,
}

/// A step that is to be carried out.
#[derive(Clone, Debug)]
struct Order {
    pool: PoolName,
    policy: Policy,
    key: String,
    step: Step,
    generation: u64,
}

/// How a step went.
#[derive(Debug)]
struct Outcome {
    order: Order,
    took: Duration,
    result: Result<(), String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, on the wall.
pub(crate) fn unix_now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Looks until the node stops.
pub(crate) async fn run(node: Node) {
    let mut externals = Externals::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(until_look(unix_now())) => {}
            () = node.scaler().wake.notified() => {}
        }
        // Another process goes on from what the hosts show.
        if node.stage() != Stage::Serving {
            return;
        }
        let config = node.config();
        let is_idle = config.alarms.is_empty() && config.pools.values().all(|pool| pool.scaling.is_none());
        if is_idle {
            externals = Externals::default();
            // What is measured is kept all the same.
            if !node.historian().is_on() {
                node.scaler().forget();
                continue;
            }
        }
        if !is_idle {
            externals.apply(&node, &config);
        }
        look(&node).await;
    }
}

/// How long until the next look: a moment after each full second, when the periods that end with it are over, so that what they say is acted on
/// at once and not up to a second later.
fn until_look(now: UnixMs) -> Duration {
    let since = now.since(now.floor(LOOK));
    if since < AFTER { AFTER - since } else { LOOK + AFTER - since }
}

/// One look, and what follows from it.
async fn look(node: &Node) {
    let asked = node.clone();
    // The director answers; a thread that may wait asks.
    let Ok(status) = tokio::task::spawn_blocking(move || asked.status()).await else { return };
    let Look { events, orders, engaged, save, begins } = node.scaler().look(node, &status);
    let pages = node.meter().lock().pages(unix_now());
    node.historian().pages(pages);
    for (pool, predict) in begins {
        tokio::spawn(recall(node.clone(), pool, predict));
    }
    for event in events {
        node.record(event);
    }
    for alarm in engaged {
        let node = node.clone();
        tokio::spawn(async move { recover(&node, &alarm).await });
    }
    for order in orders {
        let node = node.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let result = execute::carry_out(&node, &order).await;
            node.scaler().ended(&node, Outcome { order, took: began.elapsed(), result });
        });
    }
    if let Some(save) = save {
        let node = node.clone();
        // Waited for, so that two writes do not overtake each other.
        let _ = tokio::task::spawn_blocking(move || node.save_scaling(&save)).await;
    }
}

/// Runs the program of an alarm that repairs what is wrong.
async fn recover(node: &Node, alarm: &weir_config::Alarm) {
    let Some(recover) = &alarm.recover else { return };
    let reason = node.scaler().alarm(&alarm.name).and_then(|view| view.history.last().map(|change| change.reason.clone()));
    let environment = [("WEIR_ALARM", alarm.name.to_string()), ("WEIR_STATE", "alarm".into()), ("WEIR_REASON", reason.unwrap_or_default())];
    let result = command::run(&recover.command, &environment, recover.timeout).await;
    node.record(ScalingEvent::AlarmRecovery { alarm: alarm.name.0.clone(), error: result.err() });
}

/// What was measured before this process began, for a forecast.
async fn recall(node: Node, pool: PoolName, predict: Predict) {
    let now = unix_now();
    for _ in 0..RECALLS_MAX {
        let asked = node.clone();
        let series = Series { metric: predict.metric.word().into(), scope: "pool".into(), name: pool.0.clone() };
        let from = meter::kept(now.minus(meter::looks_back(&predict)));
        let question = move |reader: &Reader<'_>| means(reader, &series, from, meter::kept(now));
        match tokio::task::spawn_blocking(move || asked.historian().ask(question)).await {
            Ok(Ok(Some(means))) => return node.meter().lock().restore(&pool, means),
            // After an upgrade the process before may still have the file.
            Ok(Ok(None)) => tokio::time::sleep(LOOK).await,
            Ok(Err(HistoryError::Off)) => return,
            Ok(Err(error)) => return warn!(pool = %pool, "forecasts begin without what was before: {error}"),
            Err(error) => return error!(%error, "what was before could not be looked up"),
        }
    }
    warn!(pool = %pool, "forecasts begin without what was before: the history is in memory alone");
}

/// Means as forecasts go by them, each at the end of its span; `None`: the file is not open.
fn means(
    reader: &Reader<'_>,
    series: &Series,
    mut from: weir_history::UnixMs,
    end: weir_history::UnixMs,
) -> Result<Option<Vec<(UnixMs, f64)>>, StoreError> {
    if !reader.has_file() {
        return Ok(None);
    }
    let step_ms = u64::try_from(meter::ROLLED.as_millis()).unwrap_or(u64::MAX);
    let mut means = Vec::new();
    // An answer is bounded: it takes several.
    while from < end {
        let to = from.floor(step_ms).plus(step_ms * STEPS_MAX).min(end);
        let points = reader.series(&SeriesAsked { series: series.clone(), from, to, step_ms })?;
        means.extend(points.iter().map(|point| (UnixMs(point.at.0).plus(meter::ROLLED), point.mean)));
        from = to;
    }
    Ok(Some(means))
}

/// What a look brought.
#[derive(Debug)]
struct Look {
    events: Vec<ScalingEvent>,
    orders: Vec<Order>,
    /// Alarms whose repair is to be run.
    engaged: Vec<Arc<weir_config::Alarm>>,
    save: Option<SavedScaling>,
    /// Pools whose forecast begins, and what is kept of them is to be looked up.
    begins: Vec<(PoolName, Predict)>,
}

impl Scaler {
    /// With what the process before has kept.
    pub(crate) fn restored(saved: SavedScaling, config: &Arc<Config>) -> Scaler {
        let scaler = Scaler::default();
        {
            let mut room = lock(&scaler.room);
            room.apply(config, None, unix_now());
            room.book.restore(saved.alarms);
            for (name, kept) in saved.pools {
                if let Some(scaled) = room.pools.get_mut(&PoolName::from(name.as_str())) {
                    scaled.paused = kept.paused;
                    scaled.seen.registered = kept.registered;
                }
            }
        }
        scaler
    }

    fn forget(&self) {
        let mut room = lock(&self.room);
        if room.config.is_some() {
            *room = Room::default();
        }
    }

    fn look(&self, node: &Node, status: &Status) -> Look {
        let now = unix_now();
        let config = node.config();
        let (hypervisor, leads) = (node.machines().hypervisor(), node.machines().leads() && node.info().ready);
        let mut room = lock(&self.room);
        room.apply(&config, Some(node.meter()), now);
        if room.led != leads {
            room.led = leads;
            // Whoever leads anew begins from what the hosts show.
            room.pools.values_mut().for_each(|scaled| scaled.memory = None);
        }
        let sight = Sight {
            config: &config,
            status,
            machines: hypervisor.machines(),
            hosts: hypervisor.hosts(),
            templates: hypervisor.templates(),
        };
        let complete = room.complete(&sight, now);
        let mut events = Vec::new();
        let names: Vec<PoolName> = room.pools.keys().cloned().collect();
        for name in &names {
            room.observe(name, &sight, hypervisor, complete.clone(), now);
            room.leave_to_recovery(name, node, now);
        }
        let mut measured = node.meter().lock();
        let begins = room.sample(&sight, &mut measured, now);
        let engaged = room.alarms(&measured, leads, now, &mut events);
        let mut orders = Vec::new();
        for name in &names {
            room.plan(name, &measured, leads, now, &mut events, &mut orders);
        }
        let save = std::mem::take(&mut room.unsaved).then(|| room.saved());
        Look { events, orders, engaged, save, begins }
    }

    /// A step has ended.
    fn ended(&self, node: &Node, outcome: Outcome) {
        let now = unix_now();
        let Outcome { order, took, result } = outcome;
        let pool = order.pool.0.clone();
        let mut events = vec![ScalingEvent::ScalingStep {
            pool: pool.clone(),
            generation: order.generation,
            step: order.step.to_string(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error: result.as_ref().err().cloned(),
        }];
        let mut room = lock(&self.room);
        let room = &mut *room;
        if let Some(scaled) = room.pools.get_mut(&order.pool) {
            scaled.jobs.remove(&order.key);
            scaled.remember(&order, &result, now, &mut events);
        }
        room.unsaved = true;
        for event in events {
            node.record(event);
        }
        self.wake.notify_one();
    }
}

impl Room {
    /// Makes the file's alarms and policies be.
    fn apply(&mut self, config: &Arc<Config>, meter: Option<&meter::Meter>, now: UnixMs) {
        if self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) && (self.measures || meter.is_none()) {
            return;
        }
        self.measures = meter.is_some();
        self.book.apply(&config.alarms, now);
        meter.into_iter().for_each(|meter| meter.lock().apply(config));
        let policies: BTreeMap<PoolName, Policy> =
            config.pools.keys().filter_map(|name| Some((name.clone(), Policy::of(config, name)?))).collect();
        self.pools.retain(|name, _| policies.contains_key(name));
        for (name, policy) in policies {
            match self.pools.get_mut(&name) {
                Some(scaled) => (scaled.policy, scaled.bounds) = (policy, None),
                None => _ = self.pools.insert(name, Scaled::new(policy)),
            }
        }
        self.config = Some(config.clone());
    }

    /// Why machines may be missing from what is seen.
    fn complete(&mut self, sight: &Sight<'_>, now: UnixMs) -> Option<String> {
        let silent: BTreeSet<&str> = sight.silent().collect();
        self.silent.retain(|host, _| silent.contains(&**host));
        let mut waited_for = Vec::new();
        for host in silent {
            let since = *self.silent.entry(host.to_owned()).or_insert(now);
            if now.since(since) < HOST_GRACE {
                waited_for.push(host.to_owned());
            }
        }
        (!waited_for.is_empty()).then(|| format!("these hosts have not answered yet: {}", waited_for.join(", ")))
    }

    fn observe(&mut self, name: &PoolName, sight: &Sight<'_>, hypervisor: &dyn Hypervisor, complete: Option<String>, now: UnixMs) {
        let Some(scaled) = self.pools.get_mut(name) else { return };
        // An error: the template cannot be cloned; each host says so.
        let rooms = hypervisor.room(&scaled.policy.scaling.template).map_err(|error| error.chain());
        let launching: Vec<(u32, String)> = scaled.jobs.values().flatten().cloned().collect();
        let mut observation = observe::observe(&scaled.policy, sight, rooms, &launching, &mut scaled.seen, now);
        observation.complete = complete;
        scaled.observation = observation;
    }

    /// What is being healed is not replaced meanwhile: its time begins when recovery has given up.
    fn leave_to_recovery(&mut self, name: &PoolName, node: &Node, now: UnixMs) {
        let members = self.pools.get_mut(name).into_iter().flat_map(|scaled| scaled.observation.members.iter_mut());
        for member in members {
            if let MemberState::Unhealthy { since } = &mut member.state
                && node.recoverer().is_healing(&member.name)
            {
                *since = now;
            }
        }
    }

    /// Returns the pools whose forecast begins.
    fn sample(&mut self, sight: &Sight<'_>, measured: &mut Measured, now: UnixMs) -> Vec<(PoolName, Predict)> {
        let serving = self.pools.iter().map(|(name, scaled)| {
            let names = scaled.observation.members.iter().filter(|member| member.state == MemberState::Serving);
            (name.clone(), names.map(|member| member.name.clone()).collect())
        });
        let serving = serving.collect();
        let sight = meter::Sight { status: sight.status, hosts: &sight.hosts, machines: &sight.machines };
        measured.sample(&sight, serving, now);
        let predicted = self.pools.iter().filter_map(|(name, scaled)| Some((name, scaled.policy.scaling.predict.as_ref()?)));
        predicted
            .filter(|(name, predict)| measured.roll(name, predict, now))
            .map(|(name, predict)| (name.clone(), predict.clone()))
            .collect()
    }

    /// Evaluates the alarms; returns those whose repair is to be run.
    fn alarms(&mut self, measured: &Measured, leads: bool, now: UnixMs, events: &mut Vec<ScalingEvent>) -> Vec<Arc<weir_config::Alarm>> {
        let outputs = self.book.evaluate(measured, now);
        self.unsaved |= !outputs.is_empty();
        let mut engaged = Vec::new();
        for output in outputs {
            match output {
                Output::Changed { alarm, change, quiet } => events.push(ScalingEvent::AlarmChanged {
                    alarm: alarm.name.0.clone(),
                    severity: alarm.severity.word(),
                    from: change.from.word(),
                    to: change.to.word(),
                    reason: change.reason,
                    points: change.points.iter().map(|(at, value)| (at.0 as f64 / 1000.0, *value)).collect(),
                    series: (change.to == AlarmState::Alarm)
                        .then(|| picture::series(&alarm, &self.book.trail(&alarm.name)))
                        .flatten()
                        .map(Box::new),
                    notify: alarm.notify.clone(),
                    quiet,
                }),
                Output::Engaged(alarm) if leads && alarm.recover.is_some() => engaged.push(alarm),
                Output::Engaged(_) | Output::Released(_) => {}
            }
        }
        engaged
    }

    fn plan(
        &mut self,
        name: &PoolName,
        measured: &Measured,
        leads: bool,
        now: UnixMs,
        events: &mut Vec<ScalingEvent>,
        orders: &mut Vec<Order>,
    ) {
        let Some(scaled) = self.pools.get_mut(name) else { return };
        let signals = signals(&scaled.policy, &scaled.observation, &self.book, measured, now);
        scaled.plan(leads, &signals, now, events, orders);
    }
}

/// What the policies of a pool go by.
fn signals(policy: &Policy, observation: &Observation, book: &AlarmBook, measured: &Measured, now: UnixMs) -> Signals {
    let alarm = |name: &AlarmName| {
        let (state, engaged, value) = book.signal(name)?;
        Some((name.clone(), AlarmSignal { state, engaged, value }))
    };
    let point = |metric: &Metric, scope: Scope, period: Duration| {
        let query = Query { metric, scope: &scope, statistic: Statistic::Average, period, periods: 1 };
        measured.points(&query, now).pop().flatten()
    };
    let targets = policy.scaling.targets.iter().map(|target| {
        if !target.metric.is_of_machines() {
            return TargetSignal::Pool(point(&target.metric, Scope::Pool(policy.pool.clone()), target.period));
        }
        let serving = observation.members.iter().filter(|member| member.state == MemberState::Serving);
        TargetSignal::Each(serving.map(|member| point(&target.metric, Scope::Machine(member.name.clone()), target.period)).collect())
    });
    let forecast = policy.scaling.predict.as_ref().and_then(|predict| measured.forecast(&policy.pool, predict, now));
    Signals { alarms: policy.steps.iter().filter_map(|steps| alarm(&steps.alarm)).collect(), targets: targets.collect(), forecast }
}

/// A panic in here must not end the look of the next second.
pub(crate) async fn supervise(node: Node) {
    loop {
        let work = tokio::spawn(run(node.clone()));
        match work.await {
            Err(error) if error.is_panic() => {
                error!(%error, "alarms and scaling failed and begin anew");
                tokio::time::sleep(LOOK).await;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_a_moment_after_each_full_second() {
        for (now_ms, expected_ms) in [(5_000, 10), (5_009, 1), (5_010, 1_000), (5_011, 999), (5_500, 510), (5_999, 11)] {
            assert_eq!(until_look(UnixMs(now_ms)), Duration::from_millis(expected_ms), "at {now_ms}");
        }
    }
}
