//! Instance refresh: a new base rolls through the pool, batch by batch.
//!
//! ```text
//!   begin ──► launch a batch on top ──► it serves ──► retire as many of the old ──► pause, checkpoint ──► again ──► end
//!                      │ fails                                                                                     ▲
//!                      └──► rollback: what is new is replaced by the base before ──────────────────────────────────┘
//! ```
//!
//! Where the pool is at its maximum, or `min_healthy` allows it, the old ones go first. What is protected against scale-in is left out: it stays on
//! its base, and the refresh ends without it and says so.

use super::memory::{Memory, RefreshState};
use super::observation::{Member, MemberState, Observation};
use super::policy::Policy;
use crate::time::UnixMs;

/// What a refresh asks of this plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Machines more than are wanted, for as long as it takes.
    pub surge: u32,
    /// Old ones that may go now.
    pub retire: Vec<String>,
    /// The base that new machines get, where it is not the current one.
    pub base: Option<String>,
    /// Where it is, in words.
    pub note: Option<String>,
}

/// Begins a refresh to this base, unless everything is on it.
pub fn begin(observation: &Observation, memory: &mut Memory, now: UnixMs) -> Result<(), String> {
    let Some(to) = observation.base.clone() else {
        return Err("the template's base is not known yet; clone one machine, or look at weir vm templates".into());
    };
    if memory.refresh.as_ref().is_some_and(|refresh| refresh.ended.is_none()) {
        return Err("a refresh is under way already".into());
    }
    let mut others: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    let old: Vec<&Member> = observation.members.iter().filter(|member| !member.state.is_going() && member.base != to).collect();
    for member in &old {
        *others.entry(&member.base).or_default() += 1;
    }
    let from = others.into_iter().max_by_key(|(_, count)| *count).map(|(base, _)| base.to_owned());
    if from.is_none() {
        return Err(format!("every machine is on {to} already"));
    }
    if old.iter().all(|member| member.protected) {
        return Err(format!(
            "every machine that may be replaced is on {to} already; {}; weir scaling protect --off ends that",
            left_out(&names(&old))
        ));
    }
    let (checkpoints, replaced, rolled_back, ended, kept) = (0, 0, None, None, Vec::new());
    memory.refresh = Some(RefreshState { to, from, began: now, not_before: now, checkpoints, replaced, rolled_back, ended, kept });
    Ok(())
}

/// What is to be done now. `failed`: launches of new machines failed so often that it was said.
pub fn demand(policy: &Policy, observation: &Observation, memory: &mut Memory, desired: u32, now: UnixMs) -> Demand {
    let settings = &policy.scaling.refresh;
    if settings.automatic
        && let Some(base) = &observation.base
        && memory.refresh.as_ref().is_none_or(|refresh| refresh.ended.is_some() && refresh.to != *base)
    {
        // An error: nothing to be done.
        let _ = begin(observation, memory, now);
    }
    let failures = memory.launch_failures;
    let held_back = held_back(observation, memory);
    let Some(refresh) = memory.refresh.as_mut().filter(|refresh| refresh.ended.is_none()) else {
        return Demand { base: held_back, ..Demand::default() };
    };
    let staying: Vec<&Member> = observation.members.iter().filter(|member| !member.state.is_going()).collect();
    check_health(policy, refresh, &staying, failures, now);
    let wanted = if refresh.rolled_back.is_some() { refresh.from.clone() } else { Some(refresh.to.clone()) };
    let Some(wanted) = wanted else { return Demand::default() };
    let base = refresh.rolled_back.is_some().then(|| wanted.clone());
    let is_new = |member: &&&Member| member.base == wanted;
    let (kept, old): (Vec<&Member>, Vec<&Member>) =
        staying.iter().copied().filter(|member| member.base != wanted).partition(|member| member.protected);
    refresh.kept = names(&kept);
    let new_serving = count(staying.iter().filter(is_new).filter(|member| member.state == MemberState::Serving).count());
    let but_for = if kept.is_empty() { String::new() } else { format!("; {}", left_out(&refresh.kept)) };
    if old.is_empty() && new_serving + count(kept.len()) >= desired.min(count(staying.len())) {
        refresh.ended = Some(now);
        return Demand { note: Some(format!("the refresh to {wanted} is done{but_for}")), ..Demand::default() };
    }
    let total = count(staying.len()).max(1);
    let note = Some(format!("refresh to {wanted}: {new_serving} of {total} are done{but_for}"));
    if new_serving > refresh.replaced && refresh.rolled_back.is_none() {
        batch_ended(policy, refresh, new_serving, desired, now);
    }
    if now < refresh.not_before {
        return Demand { note: note.map(|note| format!("{note}; it waits")), base, ..Demand::default() };
    }
    let serving = count(staying.iter().filter(|member| member.state == MemberState::Serving).count());
    let floor = (u64::from(desired) * u64::from(settings.min_healthy_percent)).div_ceil(100);
    let floor = count(usize::try_from(floor).unwrap_or(usize::MAX)).max(policy.min_healthy);
    // What is ill is replaced anyway.
    let left = old.iter().filter(|member| !matches!(member.state, MemberState::Unhealthy { .. })).count();
    let left = settings.batch.min(count(left));
    let coming = staying.iter().any(|member| member.state.is_coming());
    let spare = serving.saturating_sub(floor);
    let may_go = if coming { 0 } else { left.min(spare) };
    let room = policy.scaling.max.saturating_sub(desired);
    // At the maximum nothing can be added first: one has to go, as long as the pool's own floor holds.
    let may_go = if may_go == 0 && room == 0 && !coming { left.min(serving.saturating_sub(policy.min_healthy)) } else { may_go };
    let retire = old.iter().take(may_go as usize).map(|member| member.name.clone()).collect();
    // With the last of the old ones as many new ones are there already.
    let needed = desired.saturating_sub(count(staying.len() - old.len()));
    Demand { surge: left.min(room).min(needed), retire, base, note }
}

/// The base before, while the current one is what was taken back: it is not tried again because more machines are wanted.
fn held_back(observation: &Observation, memory: &Memory) -> Option<String> {
    let refresh = memory.refresh.as_ref().filter(|refresh| refresh.ended.is_some() && refresh.rolled_back.is_some())?;
    refresh.from.clone().filter(|_| observation.base.as_ref() == Some(&refresh.to))
}

fn batch_ended(policy: &Policy, refresh: &mut RefreshState, new_serving: u32, desired: u32, now: UnixMs) {
    let settings = &policy.scaling.refresh;
    refresh.replaced = new_serving;
    // Of what is wanted: those that are there on top for a while do not count.
    let share = u64::from(new_serving) * 100 / u64::from(desired.max(1));
    let reached = count(settings.checkpoints.iter().filter(|checkpoint| u64::from(**checkpoint) <= share).count());
    let wait = if reached > refresh.checkpoints { settings.checkpoint_wait.max(settings.pause) } else { settings.pause };
    refresh.checkpoints = refresh.checkpoints.max(reached);
    refresh.not_before = now.plus(wait);
}

/// A new machine that fails ends it.
fn check_health(policy: &Policy, refresh: &mut RefreshState, staying: &[&Member], failures: u32, now: UnixMs) {
    if !policy.scaling.refresh.rollback || refresh.rolled_back.is_some() || refresh.from.is_none() {
        return;
    }
    let grace = policy.scaling.unhealthy_grace;
    let ill = staying
        .iter()
        .filter(|member| member.base == refresh.to)
        .find(|member| matches!(member.state, MemberState::Unhealthy { since } if now.since(since) >= grace));
    let why = match ill {
        Some(member) => format!("{} on {} is unhealthy", member.name, refresh.to),
        None if failures >= policy.scaling.launch_failures_max => format!("{failures} launches on {} failed", refresh.to),
        None => return,
    };
    refresh.rolled_back = Some(why);
    refresh.not_before = now;
}

fn names(members: &[&Member]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

/// What a refresh does not replace, in words.
pub fn left_out(names: &[String]) -> String {
    format!("left out because protected: {}", names.join(", "))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
