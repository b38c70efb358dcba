//! Alarms and scaling of this node: looks each second, decides, and carries out.
//!
//! ```text
//!   data plane, hosts ──► board ──► alarms ──┐
//!        └────────► observe ─────────────────┼─► plan (pure) ──► steps ──► execute ──► hosts, data plane
//!                                            │                                │
//!                                            └──── memory ◄───────────────────┘ how they went
//! ```
//!
//! - `board`: the samples that the file asks for; `external`: numbers from elsewhere. `observe`: machines and endpoints as the members of a pool.
//! - `execute`: one step, from its beginning to its end. `hooks`: programs and webhooks. `saved`: what outlives the process.
//! - `pool`: one scaled pool from look to look. `wish`: what an operator asks for. `view`: what the API shows. `picture`: what a mail shows.
//!
//! Only the leader makes, marks and removes machines. Each node, leader or not, keeps its own list of endpoints in step with what the hosts
//! say of the machines: so a new leader serves at once. A leader that dies leaves nothing behind that its successor needs: marks on the
//! machines say what was decided, and what is missing is decided again.

mod board;
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
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::error;
use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::{AlarmBook, AlarmState, Output};
use weir_autoscaler::scaling::plan::Step;
use weir_autoscaler::scaling::{AlarmSignal, MemberState, Observation, Policy, Signals, TargetSignal};
use weir_autoscaler::{Query, Readings, Scope};
use weir_config::{AlarmName, Config, Metric, MetricName, PoolName, Statistic};
use weir_hypervisor::Hypervisor;
use weir_lb::status::Status;

use crate::command;
use crate::event::ScalingEvent;
use crate::node::{Node, Stage};
use board::Board;
use external::Externals;
use observe::Sight;
use pool::Scaled;

pub(crate) use observe::PROTECTED;
pub(crate) use saved::SavedScaling;
pub(crate) use view::state_number;
pub(crate) use wish::{Wish, WishError};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

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
    board: Board,
    pools: BTreeMap<PoolName, Scaled>,
    /// Since when a host has not answered at all.
    silent: BTreeMap<String, UnixMs>,
    led: bool,
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
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.scaler().wake.notified() => {}
        }
        // Another process goes on from what the hosts show.
        if node.stage() != Stage::Serving {
            return;
        }
        if node.config().alarms.is_empty() && node.config().pools.values().all(|pool| pool.scaling.is_none()) {
            externals = Externals::default();
            node.scaler().forget();
            continue;
        }
        externals.apply(&node, &node.config());
        look(&node).await;
    }
}

/// One look, and what follows from it.
async fn look(node: &Node) {
    let asked = node.clone();
    // The director answers; a thread that may wait asks.
    let Ok(status) = tokio::task::spawn_blocking(move || asked.status()).await else { return };
    let (events, orders, engaged, save) = node.scaler().look(node, &status);
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

type Look = (Vec<ScalingEvent>, Vec<Order>, Vec<Arc<weir_config::Alarm>>, Option<SavedScaling>);

impl Scaler {
    /// With what the process before has kept.
    pub(crate) fn restored(saved: SavedScaling, config: &Arc<Config>) -> Scaler {
        let scaler = Scaler::default();
        {
            let mut room = lock(&scaler.room);
            room.apply(config, unix_now());
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
        room.apply(&config, now);
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
        }
        room.sample(&sight, now);
        let engaged = room.alarms(leads, now, &mut events);
        let mut orders = Vec::new();
        for name in &names {
            room.plan(name, leads, now, &mut events, &mut orders);
        }
        let save = std::mem::take(&mut room.unsaved).then(|| room.saved());
        (events, orders, engaged, save)
    }

    /// A number from elsewhere has come.
    fn put_external(&self, name: &MetricName, value: f64) {
        lock(&self.room).board.put_external(name, value, unix_now());
    }

    /// A step has ended.
    fn ended(&self, node: &Node, outcome: Outcome) {
        let now = unix_now();
        let Outcome { order, took, result } = outcome;
        let pool = order.pool.0.clone();
        let mut events = vec![ScalingEvent::ScalingStep {
            pool: pool.clone(),
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
    fn apply(&mut self, config: &Arc<Config>, now: UnixMs) {
        if self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            return;
        }
        self.book.apply(&config.alarms, now);
        self.board.apply(config);
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

    fn sample(&mut self, sight: &Sight<'_>, now: UnixMs) {
        let serving = self.pools.iter().map(|(name, scaled)| {
            let names = scaled.observation.members.iter().filter(|member| member.state == MemberState::Serving);
            (name.clone(), names.map(|member| member.name.clone()).collect())
        });
        let serving = serving.collect();
        self.board.sample(sight, serving, now);
        for (name, scaled) in &self.pools {
            if let Some(predict) = &scaled.policy.scaling.predict {
                self.board.roll(name, predict, now);
            }
        }
    }

    /// Evaluates the alarms; returns those whose repair is to be run.
    fn alarms(&mut self, leads: bool, now: UnixMs, events: &mut Vec<ScalingEvent>) -> Vec<Arc<weir_config::Alarm>> {
        let outputs = self.book.evaluate(&self.board, now);
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
                    series: (change.to == AlarmState::Alarm).then(|| picture::series(&alarm, &self.board, now)).flatten().map(Box::new),
                    notify: alarm.notify.clone(),
                    quiet,
                }),
                Output::Engaged(alarm) if leads && alarm.recover.is_some() => engaged.push(alarm),
                Output::Engaged(_) | Output::Released(_) => {}
            }
        }
        engaged
    }

    fn plan(&mut self, name: &PoolName, leads: bool, now: UnixMs, events: &mut Vec<ScalingEvent>, orders: &mut Vec<Order>) {
        let Some(scaled) = self.pools.get_mut(name) else { return };
        let signals = signals(&scaled.policy, &scaled.observation, &self.book, &self.board, now);
        scaled.plan(leads, &signals, now, events, orders);
    }
}

/// What the policies of a pool go by.
fn signals(policy: &Policy, observation: &Observation, book: &AlarmBook, board: &Board, now: UnixMs) -> Signals {
    let alarm = |name: &AlarmName| {
        let (state, engaged, value) = book.signal(name)?;
        Some((name.clone(), AlarmSignal { state, engaged, value }))
    };
    let point = |metric: &Metric, scope: Scope, period: Duration| {
        let query = Query { metric, scope: &scope, statistic: Statistic::Average, period, periods: 1 };
        board.points(&query, now).pop().flatten()
    };
    let targets = policy.scaling.targets.iter().map(|target| {
        if !target.metric.is_of_machines() {
            return TargetSignal::Pool(point(&target.metric, Scope::Pool(policy.pool.clone()), target.period));
        }
        let serving = observation.members.iter().filter(|member| member.state == MemberState::Serving);
        TargetSignal::Each(serving.map(|member| point(&target.metric, Scope::Machine(member.name.clone()), target.period)).collect())
    });
    let forecast = policy.scaling.predict.as_ref().and_then(|predict| board.forecast(&policy.pool, predict, now));
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
