//! One scaled pool, from look to look: what was planned for it, what is under way, and how it went.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_autoscaler::scaling::plan::{Clock, HookKind, Plan, Step, plan};
use weir_autoscaler::scaling::schedule::{Bounds, bounds};
use weir_autoscaler::scaling::{MemberState, Memory, Observation, Policy, RefreshState, Signals, refresh};
use weir_config::ScalingMode;

use super::Order;
use super::observe::Seen;
use crate::event::ScalingEvent;

/// Between two tries of a step that failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One pool that is scaled.
#[derive(Debug)]
pub(super) struct Scaled {
    pub(super) policy: Policy,
    pub(super) bounds: Option<Bounds>,
    pub(super) memory: Option<Memory>,
    pub(super) observation: Observation,
    pub(super) plan: Option<Plan>,
    pub(super) seen: Seen,
    /// Steps under way, by machine or slot, with the slot and host of a launch.
    pub(super) jobs: BTreeMap<String, Option<(u32, String)>>,
    /// Steps that failed: not before this moment, and how often.
    pub(super) retries: BTreeMap<String, (UnixMs, u32)>,
    /// An operator has stopped it.
    pub(super) paused: bool,
    /// The last refusals that were said.
    pub(super) refused: Vec<String>,
    /// The steps of the last plan that was said.
    pub(super) planned: Vec<String>,
    /// The last decision that was said, in recommend mode.
    pub(super) recommended: Option<u32>,
    pub(super) launches: u64,
    pub(super) launch_failures: u64,
    pub(super) removals: u64,
}

impl Scaled {
    pub(super) fn new(policy: Policy) -> Scaled {
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
            planned: Vec::new(),
            recommended: None,
            launches: 0,
            launch_failures: 0,
            removals: 0,
        }
    }

    pub(super) fn plan(&mut self, leads: bool, signals: &Signals, now: UnixMs, events: &mut Vec<ScalingEvent>, orders: &mut Vec<Order>) {
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
            _ => (step.machine()?.to_owned(), None),
        };
        let waits = self.retries.get(&key).is_some_and(|(at, _)| now < *at);
        if waits || self.jobs.contains_key(&key) {
            return None;
        }
        self.jobs.insert(key.clone(), launch);
        Some(Order { pool: self.policy.pool.clone(), policy: self.policy.clone(), key, step: step.clone(), generation })
    }

    /// How a step went.
    pub(super) fn remember(&mut self, order: &Order, result: &Result<(), String>, now: UnixMs, events: &mut Vec<ScalingEvent>) {
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
            (Step::RunHook { machine, hook: HookKind::Launch }, Err(why)) => {
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
        refreshed: Option<&RefreshState>,
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
        let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        if steps != self.planned {
            // That there is nothing more to do is no plan.
            if !steps.is_empty() {
                events.push(ScalingEvent::ScalingPlanned {
                    pool: pool.clone(),
                    generation: plan.generation,
                    desired: decision.desired,
                    serving: self.observation.count(|state| *state == MemberState::Serving),
                    steps: steps.clone(),
                });
            }
            self.planned = steps;
        }
        let without_numbers = |text: &String| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let same = self.refused.iter().map(without_numbers).eq(plan.refusals.iter().map(without_numbers));
        if !same {
            events.extend(plan.refusals.iter().map(|reason| ScalingEvent::ScalingRefused { pool: pool.clone(), reason: reason.clone() }));
        }
        self.refused.clone_from(&plan.refusals);
        let ended = |refresh: Option<&RefreshState>| refresh.map(|refresh| (refresh.began, refresh.rolled_back.clone(), refresh.ended));
        if ended(refreshed) != ended(memory.refresh.as_ref())
            && let Some(refresh) = &memory.refresh
        {
            let text = match (&refresh.rolled_back, refresh.ended) {
                (None, None) => format!("a refresh to {} begins", refresh.to),
                (Some(why), None) => format!("the refresh to {} goes back: {why}", refresh.to),
                (None, Some(_)) if refresh.kept.is_empty() => format!("the refresh to {} is done", refresh.to),
                (None, Some(_)) => format!("the refresh to {} is done; {}", refresh.to, refresh::left_out(&refresh.kept)),
                (Some(why), Some(_)) => format!("the refresh to {} was taken back: {why}", refresh.to),
            };
            events.push(ScalingEvent::ScalingNotice { pool, text });
        }
    }
}
