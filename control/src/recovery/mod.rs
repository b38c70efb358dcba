//! Healing before people are called: looks each second at what the file's recoveries are about, lets `weir-recovery` decide, and carries out.
//!
//! ```text
//!   endpoints, machines, alarms ──sight──► healer (pure) ──► store ──► acts: programs, machines, endpoints, virtual IPs
//!                                              ▲               ├─────► events, metrics
//!                                              └── how it went └─────► incidents: what was tried, and that people need not wait any more
//! ```
//!
//! - `sight`: what is ill. `acts`: one act, from its beginning to its end. `marks`: what stands on the machines. `tell`: what people hear of it.
//!   `view`: what the API shows.
//!
//! Only the node that leads heals. What it has begun stands in `recovery.db` of its state folder before it is done, and how far it is on the machine
//! (`marks`), where another leader finds it.

mod acts;
mod marks;
mod sight;
mod tell;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::error;
pub(crate) use view::RecoveryStats;
use weir_config::{Config, RecoveryName};
use weir_notify::engine::{Hold, Raise};
use weir_recovery::case::{Case, Stage as CaseStage, Thing, UnixMs};
use weir_recovery::healer::{Healer, Input, Order, Output, Refusal, Saved};
use weir_recovery::store::Store;

use crate::event::RecoveryEvent;
use crate::node::{EndpointChange, Node, Stage};
use crate::scaling::unix_now;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long people wait for a recovery that is worked on, after each time that this was said.
const HOLD_AGAIN_MS: u64 = 60_000;
/// Beyond the longest that its attempts may take, for what comes between them.
const HOLD_MORE_MS: u64 = 60_000;

/// Healing.
#[derive(Debug, Default)]
pub(crate) struct Recoverer {
    room: Mutex<Room>,
    /// Something has ended, or is wished for: look at once.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Room {
    /// While this node leads and the file has a recovery.
    healer: Option<Healer>,
    /// Its cases as they were last kept: what is shown is still so after a kill.
    shown: Vec<Case>,
    config: Option<Arc<Config>>,
    /// Ill things and all things, by recovery, as last seen.
    seen: BTreeMap<RecoveryName, (usize, usize)>,
    /// Attempts that are over, by recovery and outcome.
    counts: BTreeMap<(RecoveryName, &'static str), u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> UnixMs {
    unix_now().0
}

/// What one process does about it.
struct Work {
    node: Node,
    /// `None`: nothing can be kept.
    store: Option<Store>,
    /// It was said that nothing can be kept.
    store_fails: bool,
    /// Acts and checks under way, by the key of the act.
    jobs: BTreeMap<String, AbortHandle>,
}

/// Looks until the node stops. A panic in here must not end the look of the next second.
pub(crate) async fn supervise(node: Node) {
    loop {
        let work = tokio::spawn(run(node.clone()));
        match work.await {
            Err(error) if error.is_panic() => {
                error!(%error, "recovery failed and begins anew from what was kept");
                lock(&node.recoverer().room).healer = None;
                tokio::time::sleep(LOOK).await;
            }
            _ => return,
        }
    }
}

async fn run(node: Node) {
    let mut work: Option<Work> = None;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.recoverer().wake.notified() => {}
        }
        let serves = node.stage() == Stage::Serving;
        let config = node.config();
        if !serves || !node.machines().leads() || (config.recoveries.is_empty() && work.is_none()) {
            // Whoever leads now goes on; what was under way here is looked at again by whoever opens the store next.
            drop(work.take());
            lock(&node.recoverer().room).healer = None;
            if serves {
                continue;
            }
            return;
        }
        let mut present = match work.take() {
            Some(work) => work,
            None => {
                let begun = Work::begin(&node, &config).await;
                let kept: Vec<Case> = lock(&node.recoverer().room).healer.iter().flat_map(|healer| healer.cases().cloned()).collect();
                for case in &kept {
                    tell::tell_again(&node, case).await;
                }
                begun
            }
        };
        present.apply(&config);
        present.settle().await;
        present.look(&config).await;
        present.settle().await;
        // With the last recovery everything of it goes.
        work = (!config.recoveries.is_empty()).then_some(present);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.jobs.values().for_each(AbortHandle::abort);
    }
}

impl Work {
    async fn begin(node: &Node, config: &Arc<Config>) -> Work {
        let path = config.node.state_dir.join("recovery.db");
        let opening = move || {
            let store = Store::open(&path)?;
            let saved = store.load()?;
            Ok::<_, weir_recovery::store::StoreError>((store, saved))
        };
        let opened = tokio::task::spawn_blocking(opening).await.map_err(|error| error.to_string());
        let (store, saved) = match opened.and_then(|opened| opened.map_err(|error| error.to_string())) {
            Ok((store, saved)) => (Some(store), saved),
            Err(reason) => {
                node.record(RecoveryEvent::RecoveryNotKept { reason });
                (None, Saved::default())
            }
        };
        {
            let mut room = lock(&node.recoverer().room);
            let healer = Healer::new(config.recoveries.clone(), saved, now());
            room.shown = healer.cases().cloned().collect();
            room.healer = Some(healer);
            room.config = Some(config.clone());
        }
        Work { node: node.clone(), store_fails: store.is_none(), store, jobs: BTreeMap::new() }
    }

    fn apply(&self, config: &Arc<Config>) {
        let mut room = lock(&self.node.recoverer().room);
        if room.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            return;
        }
        room.config = Some(config.clone());
        room.seen.retain(|name, _| config.recoveries.contains_key(name));
        if let Some(healer) = &mut room.healer {
            healer.apply(config.recoveries.clone());
        }
    }

    /// (`&mut`: what holds a store can be lent to another thread, not shared with it.)
    async fn look(&mut self, config: &Arc<Config>) {
        let asked = self.node.clone();
        // The director answers; a thread that may wait asks.
        let Ok(status) = tokio::task::spawn_blocking(move || asked.status()).await else { return };
        let world = sight::World::new(&self.node, config, &status);
        for (name, recovery) in &config.recoveries {
            let (sights, complete) = sight::of(&world, recovery);
            let mut room = lock(&self.node.recoverer().room);
            let ill = sights.iter().filter(|sight| matches!(sight.health, weir_recovery::healer::Health::Ill(_))).count();
            room.seen.insert(name.clone(), (ill, sights.len()));
            if let Some(healer) = &mut room.healer {
                healer.handle(Input::Seen { recovery: name.clone(), sights, complete }, now());
            }
        }
    }

    /// Keeps what is to be done, then does it.
    async fn settle(&mut self) {
        let (outputs, cases) = match &mut lock(&self.node.recoverer().room).healer {
            Some(healer) => (healer.take_outputs(), healer.cases().cloned().collect()),
            None => return,
        };
        let nothing = outputs.is_empty();
        let outputs = if nothing { outputs } else { self.keep(outputs).await };
        lock(&self.node.recoverer().room).shown = cases;
        if nothing {
            return;
        }
        for output in outputs {
            marks::follow(&self.node, &output);
            match output {
                Output::Save(_) | Output::Forget(_) | Output::Stopped(..) => {}
                Output::Act(order) => self.act(*order),
                Output::Check(order) => self.check(*order),
                Output::Abort(key) => {
                    if let Some(job) = self.jobs.remove(&key) {
                        job.abort();
                    }
                }
                Output::PutBack(case) => {
                    let node = self.node.clone();
                    tokio::spawn(
                        async move { acts::change(&node, &case.about, EndpointChange::State(weir_config::AdminState::Ready)).await },
                    );
                }
                Output::Tell(case, told) => tell::tell(&self.node, &case, &told).await,
            }
        }
        self.jobs.retain(|_, job| !job.is_finished());
    }

    /// A node that cannot keep what it does still heals; a kill may then repeat an act.
    async fn keep(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let Some(mut store) = self.store.take() else { return outputs };
        let writing = move || {
            let result = store.record(&outputs).map_err(|error| error.to_string());
            (store, outputs, result)
        };
        // It can only panic, which ends this task too.
        let (store, outputs, result) = tokio::task::spawn_blocking(writing).await.expect("nothing panics while it is kept");
        self.store = Some(store);
        match result {
            Ok(()) => self.store_fails = false,
            Err(reason) if !std::mem::replace(&mut self.store_fails, true) => self.node.record(RecoveryEvent::RecoveryNotKept { reason }),
            Err(_) => {}
        }
        outputs
    }

    fn act(&mut self, order: Order) {
        let (node, key) = (self.node.clone(), order.key.clone());
        let job = tokio::spawn(async move {
            let (limit, thing, key) = (order.attempt.limit, order.case.thing.clone(), order.key.clone());
            marks::write(&node, &order.case).await;
            let result = timeout(limit, acts::carry_out(&node, &order)).await;
            let result = result.unwrap_or_else(|_| Err(format!("it took longer than {} s", limit.as_secs_f64())));
            node.recoverer().learn(Input::Acted { thing, key, result });
        });
        self.jobs.insert(key, job.abort_handle());
    }

    fn check(&mut self, order: Order) {
        let node = self.node.clone();
        let key = order.key.clone();
        let job = tokio::spawn(async move {
            let (thing, key) = (order.case.thing.clone(), order.key.clone());
            let result = acts::check(&node, &order).await;
            node.recoverer().learn(Input::Checked { thing, key, result });
        });
        self.jobs.insert(key, job.abort_handle());
    }
}

impl Recoverer {
    fn learn(&self, input: Input) {
        if let Some(healer) = &mut lock(&self.room).healer {
            healer.handle(input, now());
        }
        self.wake.notify_one();
    }

    /// How long an alarm waits for its recovery before people are told; `None`: not at all.
    pub(crate) fn hold(&self, node: &Node, raise: &Raise) -> Option<Hold> {
        let config = node.config();
        if config.recoveries.is_empty() {
            return None;
        }
        let recovery = tell::recovery_of(node, &config, raise).filter(|recovery| !recovery.dry_run)?;
        let first = u64::try_from(recovery.longest().as_millis()).unwrap_or(u64::MAX).saturating_add(HOLD_MORE_MS);
        let room = lock(&self.room);
        // Who does not lead does not know more.
        let Some(healer) = &room.healer else { return Some(Hold { first, again: 0 }) };
        let mut cases = healer.cases().filter(|case| case.about.told_as.contains(&raise.key)).peekable();
        // Also where nothing will be tried: why not is told with it.
        if cases.peek().is_none() {
            return Some(Hold { first, again: 0 });
        }
        // What has just fallen ill again was well when it was last looked at.
        let may_be_again = |case: &Case| matches!(case.stage, CaseStage::Healed { .. }) && case.at < recovery.attempts.len();
        cases.any(|case| case.is_hopeful() || may_be_again(case)).then_some(Hold { first, again: HOLD_AGAIN_MS })
    }

    /// Whether a machine is being healed: nobody else needs to do anything about it.
    pub(crate) fn is_healing(&self, machine: &str) -> bool {
        let room = lock(&self.room);
        let Some(healer) = &room.healer else { return false };
        healer.cases().any(|case| case.is_hopeful() && matches!(&case.thing, Thing::Machine(name) if name == machine))
    }

    /// Does what an operator asks for.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn stop(&self, name: &str, by: &str) -> Result<(), Refused> {
        self.wish(|healer| healer.stop(&RecoveryName::from(name), by))
    }

    /// The same: it goes on, and begins again with what was given up.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn go_on(&self, name: &str, thing: Option<&str>) -> Result<(), Refused> {
        self.wish(|healer| healer.run(&RecoveryName::from(name), thing, now()))
    }

    fn wish<T>(&self, wish: impl FnOnce(&mut Healer) -> Result<T, Refusal>) -> Result<T, Refused> {
        let result = match &mut lock(&self.room).healer {
            Some(healer) => wish(healer).map_err(Refused::Refusal),
            None => Err(Refused::NotHere),
        };
        self.wake.notify_one();
        result
    }
}

/// Why an operator's wish is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// This node does not heal.
    NotHere,
    /// The healer's reason.
    Refusal(Refusal),
}
