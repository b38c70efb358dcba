//! Alarms and scaling of this node: looks each second, decides, and carries out.
//!
//! ```text
//!   data plane, hosts ──► board ──► alarms ──┐
//!        └────────► observe ─────────────────┼─► plan (pure) ──► steps ──► execute ──► hosts, data plane
//!                                            │                                │
//!                                            └──── memory ◄───────────────────┘ how they went
//! ```
//!
//! - `board`: the samples that the file asks for. `observe`: machines and endpoints as the members of a pool.
//! - `execute`: one step, from its beginning to its end. `hooks`: programs and webhooks. `saved`: what outlives the process.
//! - `view`: what the API shows.
//!
//! Only the leader makes, marks and removes machines. Each node, leader or not, keeps its own list of endpoints in step with what the hosts
//! say of the machines: so a new leader serves at once. A leader that dies leaves nothing behind that its successor needs: marks on the
//! machines say what was decided, and what is missing is decided again.

mod board;
mod execute;
mod hooks;
mod observe;
mod saved;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::error;
use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::{Acknowledgement, AlarmBook, Output};
use weir_autoscaler::scaling::plan::{Clock, Plan, Step, plan};
use weir_autoscaler::scaling::schedule::{Bounds, bounds};
use weir_autoscaler::scaling::{AlarmSignal, MemberState, Memory, Observation, Policy, Signals, TargetSignal, decide, refresh};
use weir_autoscaler::{Query, Readings, Scope};
use weir_config::{AlarmName, Config, Metric, PoolName, ScalingMode, Statistic};
use weir_hypervisor::Hypervisor;
use weir_lb::status::Status;

use crate::command;
use crate::event::ScalingEvent;
use crate::node::{Node, Stage};
use board::Board;
use observe::{Seen, Sight};

pub(crate) use observe::PROTECTED;
pub(crate) use saved::SavedScaling;
pub(crate) use view::state_number;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long a host that has never answered holds up what is made and taken away.
const HOST_GRACE: Duration = Duration::from_secs(60);

/// Between two tries of a step that failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

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

/// One pool that is scaled.
#[derive(Debug)]
struct Scaled {
    policy: Policy,
    bounds: Option<Bounds>,
    memory: Option<Memory>,
    observation: Observation,
    plan: Option<Plan>,
    seen: Seen,
    /// Steps under way, by machine or slot, with the slot and host of a launch.
    jobs: BTreeMap<String, Option<(u32, String)>>,
    /// Steps that failed: not before this moment, and how often.
    retries: BTreeMap<String, (UnixMs, u32)>,
    /// An operator has stopped it.
    paused: bool,
    /// The last refusals that were said.
    refused: Vec<String>,
    /// The last decision that was said, in recommend mode.
    recommended: Option<u32>,
    launches: u64,
    launch_failures: u64,
    removals: u64,
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
            node.scaler().forget();
            continue;
        }
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

impl Scaled {
    fn new(policy: Policy) -> Scaled {
        Scaled {
            policy,
            bounds: None,
            memory: None,
            observation: Observation::default(),
            plan: None,
            seen: Seen::default(),
            jobs: BTreeMap::new(),
            retries: BTreeMap::new(),
            paused: false,
            refused: Vec::new(),
            recommended: None,
            launches: 0,
            launch_failures: 0,
            removals: 0,
        }
    }

    fn plan(&mut self, leads: bool, signals: &Signals, now: UnixMs, events: &mut Vec<ScalingEvent>, orders: &mut Vec<Order>) {
        let policy = self.policy.clone();
        if self.bounds.is_none_or(|bounds| now >= bounds.until) {
            self.bounds = Some(bounds(&policy.scaling, now));
        }
        let known = self.observation.complete.is_none();
        let mut memory = match &self.memory {
            Some(memory) => memory.clone(),
            None => Memory::adopt(&policy, &self.observation, now),
        };
        let before = memory.desired;
        let was_refreshing = memory.refresh.clone();
        let plan = plan(&policy, &self.observation, signals, &mut memory, Clock { now, bounds: self.bounds });
        let acts = leads && !self.paused && policy.scaling.mode == ScalingMode::Auto;
        self.say(&plan, before, &memory, was_refreshing.as_ref(), leads, events);
        if leads && known {
            // Paused or recommending: what is wanted stays what there is, so that nothing is made up for later.
            if !acts {
                (memory.desired, memory.last_out, memory.last_in) = self
                    .memory
                    .as_ref()
                    .map_or((before, memory.last_out, memory.last_in), |kept| (kept.desired, kept.last_out, kept.last_in));
            }
            self.memory = Some(memory);
        }
        for step in &plan.steps {
            if (acts && known) || step.is_local() {
                orders.extend(self.order(step, plan.generation, now));
            }
        }
        self.retries.retain(|_, (at, _)| at.plus(RETRY.1) > now);
        self.plan = Some(plan);
    }

    /// A step that is neither under way nor failed a moment ago.
    fn order(&mut self, step: &Step, generation: u64, now: UnixMs) -> Option<Order> {
        let (key, launch) = match step {
            Step::Launch { slot, host, .. } => (format!("slot {slot}"), Some((*slot, host.clone()))),
            Step::Resume { machine }
            | Step::RunHook { machine, .. }
            | Step::Register { machine }
            | Step::Retire { machine, .. }
            | Step::Drain { machine }
            | Step::Deregister { machine }
            | Step::Remove { machine } => (machine.clone(), None),
        };
        let waits = self.retries.get(&key).is_some_and(|(at, _)| now < *at);
        if waits || self.jobs.contains_key(&key) {
            return None;
        }
        self.jobs.insert(key.clone(), launch);
        Some(Order { pool: self.policy.pool.clone(), policy: self.policy.clone(), key, step: step.clone(), generation })
    }

    /// How a step went.
    fn remember(&mut self, order: &Order, result: &Result<(), String>, now: UnixMs, events: &mut Vec<ScalingEvent>) {
        let failed_before = self.retries.get(&order.key).map_or(0, |(_, failures)| *failures);
        match result {
            Ok(()) => _ = self.retries.remove(&order.key),
            Err(_) => {
                let pause = (RETRY.0 * 2u32.saturating_pow(failed_before.min(16))).min(RETRY.1);
                self.retries.insert(order.key.clone(), (now.plus(pause), failed_before + 1));
            }
        }
        match (&order.step, result) {
            (Step::Launch { host, .. }, Ok(())) => {
                self.launches += 1;
                self.memory.as_mut().into_iter().for_each(|memory| memory.launch_worked(host));
            }
            (Step::Launch { host, .. }, Err(why)) => self.launch_failed(Some(host), why, now, events),
            // A machine whose launch hook failed is a launch that failed.
            (Step::RunHook { machine, hook: weir_autoscaler::scaling::HookKind::Launch }, Err(why)) => {
                let host = self.observation.members.iter().find(|member| member.name == *machine).map(|member| member.host.clone());
                self.launch_failed(host.as_deref(), why, now, events);
            }
            (Step::Register { machine }, Ok(())) => {
                let address = self.seen.addresses.get(machine).map(ToString::to_string).unwrap_or_default();
                self.seen.registered.insert(machine.clone(), address);
            }
            (Step::Deregister { machine }, Ok(())) => _ = self.seen.registered.remove(machine),
            (Step::Remove { .. }, Ok(())) => self.removals += 1,
            _ => {}
        }
    }

    fn launch_failed(&mut self, host: Option<&str>, why: &str, now: UnixMs, events: &mut Vec<ScalingEvent>) {
        self.launch_failures += 1;
        let Some(memory) = &mut self.memory else { return };
        memory.launch_failed(host, now);
        let limit = self.policy.scaling.launch_failures_max;
        // Said once when it is reached, and again each time that the count has doubled.
        if memory.launch_failures >= limit
            && (memory.launch_failures / limit).is_power_of_two()
            && memory.launch_failures.is_multiple_of(limit)
        {
            events.push(ScalingEvent::ScalingLaunchesFail {
                pool: self.policy.pool.0.clone(),
                failures: memory.launch_failures,
                reason: why.to_owned(),
            });
        }
    }

    /// What of a plan is worth an event.
    fn say(
        &mut self,
        plan: &Plan,
        before: u32,
        memory: &Memory,
        refreshed: Option<&weir_autoscaler::scaling::RefreshState>,
        leads: bool,
        events: &mut Vec<ScalingEvent>,
    ) {
        if !leads || self.observation.complete.is_some() {
            return;
        }
        let pool = self.policy.pool.0.clone();
        let recommends = self.policy.scaling.mode == ScalingMode::Recommend;
        let decision = &plan.decision;
        let is_new = if recommends { self.recommended != Some(decision.desired) } else { !self.paused };
        if decision.desired != before && is_new {
            let wishes = decision.wishes.iter().map(|wish| format!("{}: {}", wish.policy, wish.why)).collect();
            let reason = decision.why.clone();
            events.push(ScalingEvent::ScalingDecided {
                pool: pool.clone(),
                from: before,
                to: decision.desired,
                reason,
                wishes,
                recommended: recommends,
            });
        }
        self.recommended = recommends.then_some(decision.desired);
        let without_numbers = |text: &String| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let same = self.refused.iter().map(without_numbers).eq(plan.refusals.iter().map(without_numbers));
        if !same {
            events.extend(plan.refusals.iter().map(|reason| ScalingEvent::ScalingRefused { pool: pool.clone(), reason: reason.clone() }));
        }
        self.refused.clone_from(&plan.refusals);
        let ended = |refresh: Option<&weir_autoscaler::scaling::RefreshState>| {
            refresh.map(|refresh| (refresh.began, refresh.rolled_back.clone(), refresh.ended))
        };
        if ended(refreshed) != ended(memory.refresh.as_ref())
            && let Some(refresh) = &memory.refresh
        {
            let text = match (&refresh.rolled_back, refresh.ended) {
                (None, None) => format!("a refresh to {} begins", refresh.to),
                (Some(why), None) => format!("the refresh to {} goes back: {why}", refresh.to),
                (None, Some(_)) => format!("the refresh to {} is done", refresh.to),
                (Some(why), Some(_)) => format!("the refresh to {} was taken back: {why}", refresh.to),
            };
            events.push(ScalingEvent::ScalingNotice { pool, text });
        }
    }
}

/// What an operator may ask for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// Nothing is made or taken away until told otherwise.
    Pause,
    /// Goes on.
    Resume,
    /// So many machines.
    Set(u32),
    /// The template's current base for all.
    Refresh,
}

/// Why it is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    /// There is no such pool or alarm.
    #[error("{0}")]
    NotFound(String),
    /// Not now, or not here.
    #[error("{0}")]
    Conflict(String),
}

impl Scaler {
    /// Does what an operator asks for.
    pub(crate) fn wish(&self, node: &Node, pool: &str, wish: &Wish) -> Result<String, WishError> {
        let now = unix_now();
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool)?;
        if !node.machines().leads() {
            return Err(WishError::Conflict("another node leads: ask that one (weir status vip shows the master)".into()));
        }
        let text = match wish {
            Wish::Pause => {
                scaled.paused = true;
                "scaling is paused by an operator".to_owned()
            }
            Wish::Resume => {
                scaled.paused = false;
                "scaling goes on".to_owned()
            }
            Wish::Set(desired) => scaled.set(*desired, now)?,
            Wish::Refresh => scaled.refresh(now)?,
        };
        room.unsaved = true;
        drop(room);
        node.record(ScalingEvent::ScalingNotice { pool: pool.into(), text: text.clone() });
        self.wake.notify_one();
        Ok(text)
    }

    /// Somebody has seen an alarm.
    pub(crate) fn acknowledge(&self, node: &Node, alarm: &str, by: &str, comment: &str) -> Result<(), WishError> {
        let mut room = lock(&self.room);
        let name = AlarmName::from(alarm);
        let Some(view) = room.book.view(&name) else { return Err(WishError::NotFound(format!("there is no alarm `{alarm}`"))) };
        let acknowledgement = Acknowledgement { at: unix_now(), by: by.to_owned(), comment: comment.to_owned() };
        if !room.book.acknowledge(&name, acknowledgement) {
            return Err(WishError::Conflict(format!("alarm `{alarm}` is {}: there is nothing to acknowledge", view.state.word())));
        }
        room.unsaved = true;
        drop(room);
        node.record(ScalingEvent::AlarmAcknowledged { alarm: alarm.into(), by: by.to_owned(), comment: comment.to_owned() });
        Ok(())
    }

    /// The generation that a change to a machine of this pool carries.
    pub(crate) fn generation(&self, pool: &str) -> Result<u64, WishError> {
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool)?;
        Ok(scaled.plan.as_ref().map_or(0, |plan| plan.generation))
    }
}

impl Room {
    fn scaled(&mut self, pool: &str) -> Result<&mut Scaled, WishError> {
        let names: Vec<String> = self.pools.keys().map(ToString::to_string).collect();
        let there_are =
            if names.is_empty() { "no pool has a table [pool.NAME.scaling]".into() } else { format!("there are: {}", names.join(", ")) };
        let missing = || WishError::NotFound(format!("pool `{pool}` is not scaled; {there_are}"));
        self.pools.get_mut(&PoolName::from(pool)).ok_or_else(missing)
    }
}

impl Scaled {
    fn memory(&mut self) -> Result<&mut Memory, WishError> {
        let why = self.observation.complete.clone().unwrap_or_else(|| "nothing was planned yet".into());
        self.memory.as_mut().ok_or(WishError::Conflict(format!("not yet: {why}")))
    }

    fn set(&mut self, desired: u32, now: UnixMs) -> Result<String, WishError> {
        let bounds = self.bounds.unwrap_or_else(|| bounds(&self.policy.scaling, now));
        if !(bounds.min..=bounds.max).contains(&desired) {
            return Err(WishError::Conflict(format!("{desired} is not within {} and {}, which hold now", bounds.min, bounds.max)));
        }
        let memory = self.memory()?;
        let before = memory.desired;
        decide::set(memory, desired, now);
        Ok(format!("{before} -> {desired} machines, set by an operator"))
    }

    fn refresh(&mut self, now: UnixMs) -> Result<String, WishError> {
        let observation = self.observation.clone();
        let memory = self.memory()?;
        refresh::begin(&observation, memory, now).map_err(WishError::Conflict)?;
        let to = memory.refresh.as_ref().map_or(String::new(), |refresh| refresh.to.clone());
        Ok(format!("a refresh to {to} was begun by an operator"))
    }
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
