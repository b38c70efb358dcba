//! From a number to steps: each machine goes on with its life, new ones are made, and the right ones go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use weir_config::TerminationOrder;

use super::memory::{Memory, RefreshState};
use super::observation::{Member, MemberState, Observation};
use super::placement::Placement;
use super::plan::{HookKind, Plan, Step};
use super::policy::Policy;
use super::refresh::Demand;
use crate::time::UnixMs;

/// Adds the steps to a plan whose number is decided.
pub fn plan(policy: &Policy, observation: &Observation, memory: &Memory, demand: &Demand, plan: &mut Plan) {
    let now = plan.at;
    for member in &observation.members {
        plan.steps.extend(onward(policy, member, now));
    }
    if let Some(why) = &observation.complete {
        plan.notes.push(format!("nothing is made or taken away yet: {why}"));
        return;
    }
    let mut leaving: BTreeMap<&str, String> = twins(observation);
    replace(policy, observation, now, &mut leaving, plan);
    let wanted = plan.decision.desired.saturating_add(demand.surge).min(policy.scaling.max.max(plan.decision.desired));
    let alive: Vec<&Member> = observation
        .members
        .iter()
        .filter(|member| !member.state.is_going() && !is_lost(policy, member, now) && !leaving.contains_key(&*member.name))
        .collect();
    for name in &demand.retire {
        if let Some(member) = alive.iter().find(|member| member.name == *name) {
            leaving.insert(&member.name, "it is replaced by the refresh".into());
        }
    }
    let staying = alive.iter().filter(|member| !leaving.contains_key(&*member.name)).count();
    let missing = (wanted as usize).saturating_sub(staying);
    if missing > 0 {
        launch(policy, observation, memory, demand, missing, plan);
    }
    let surplus = staying.saturating_sub(wanted as usize);
    if surplus > 0 && demand.note.is_none() {
        shrink(policy, &alive, surplus, &mut leaving, plan);
    }
    for (name, why) in leaving {
        plan.steps.push(Step::Retire { machine: name.to_owned(), why });
    }
    note(observation, memory, plan);
}

/// Where a refresh is stands on every machine: a leader that dies takes its memory along.
fn note(observation: &Observation, memory: &Memory, plan: &mut Plan) {
    let text = memory.refresh.as_ref().and_then(RefreshState::note);
    let has_something_else = |member: &&Member| plan.steps.iter().any(|step| step.machine() == Some(&member.name));
    let can_be_written =
        |member: &&Member| !member.state.is_going() && !matches!(member.state, MemberState::Launching | MemberState::Unknown { .. });
    let differs = observation.members.iter().filter(|member| member.refresh != text);
    let notes: Vec<Step> = differs
        .filter(can_be_written)
        .filter(|member| !has_something_else(member))
        .map(|member| Step::Note { machine: member.name.clone(), text: text.clone() })
        .collect();
    plan.steps.extend(notes);
}

/// The next step in the life of one machine, whatever is wanted of the pool.
fn onward(policy: &Policy, member: &Member, now: UnixMs) -> Option<Step> {
    let machine = member.name.clone();
    let scaling = &policy.scaling;
    match member.state {
        MemberState::Interrupted => Some(Step::Resume { machine }),
        MemberState::Booted if scaling.launch_hook.is_some() && !member.hooked => Some(Step::RunHook { machine, hook: HookKind::Launch }),
        MemberState::Booted => Some(Step::Register { machine }),
        MemberState::Leaving { draining: false, .. } if member.registered => Some(Step::Drain { machine }),
        MemberState::Leaving { since, .. } => {
            let is_over = now.since(since) >= scaling.drain_timeout;
            if member.registered && member.in_flight > 0 && !is_over {
                return None;
            }
            if scaling.terminate_hook.is_some() && !member.hooked {
                return Some(Step::RunHook { machine, hook: HookKind::Terminate });
            }
            Some(if member.registered { Step::Deregister { machine } } else { Step::Remove { machine } })
        }
        // Whoever began to remove it may have died over it.
        MemberState::Removing => Some(if member.registered { Step::Deregister { machine } } else { Step::Remove { machine } }),
        _ => None,
    }
}

/// Two machines with one number: all but the best must go.
fn twins(observation: &Observation) -> BTreeMap<&str, String> {
    let mut by_slot: BTreeMap<u32, Vec<&Member>> = BTreeMap::new();
    for member in observation.members.iter().filter(|member| !member.state.is_going()) {
        by_slot.entry(member.slot.unwrap_or(u32::MAX)).or_default().push(member);
    }
    let mut leaving = BTreeMap::new();
    for (slot, mut members) in by_slot.into_iter().filter(|(slot, members)| *slot != u32::MAX && members.len() > 1) {
        members.sort_by_key(|member| (member.state != MemberState::Serving, member.state.is_coming(), member.since, member.name.clone()));
        for member in &members[1..] {
            // What cannot be seen cannot be taken away; it goes when its host comes back.
            if !matches!(member.state, MemberState::Unknown { .. }) {
                leaving.insert(&*member.name, format!("{} has slot {slot} already", members[0].name));
            }
        }
    }
    leaving
}

/// Unhealthy or not seen for too long.
fn is_lost(policy: &Policy, member: &Member, now: UnixMs) -> bool {
    match member.state {
        MemberState::Unhealthy { since } | MemberState::Unknown { since } => now.since(since) >= policy.scaling.unhealthy_grace,
        _ => false,
    }
}

/// Replaces what is unhealthy beyond the grace, unless too much is.
fn replace<'a>(policy: &Policy, observation: &'a Observation, now: UnixMs, leaving: &mut BTreeMap<&'a str, String>, plan: &mut Plan) {
    let staying = observation.count(|state| !state.is_going()).max(1);
    let ill: Vec<&Member> = observation.members.iter().filter(|member| is_lost(policy, member, now)).collect();
    // Counted from the first moment: a failure that spreads must find the brake pulled.
    let unwell = observation.count(|state| matches!(state, MemberState::Unhealthy { .. } | MemberState::Unknown { .. }));
    if ill.is_empty() {
        return;
    }
    let share = u64::from(unwell) * 100 / u64::from(staying);
    if unwell > 1 && share > u64::from(policy.scaling.replace_max_percent) {
        let limit = policy.scaling.replace_max_percent;
        plan.refusals.push(format!(
            "{unwell} of {staying} machines are unhealthy, more than replace_max = {limit} %: nothing is replaced, look at what they have in common"
        ));
        return;
    }
    for member in ill {
        // A machine whose host does not answer is replaced, and goes when the host is back.
        if matches!(member.state, MemberState::Unhealthy { .. }) {
            leaving.insert(&member.name, "it is unhealthy".into());
        }
    }
}

fn launch(policy: &Policy, observation: &Observation, memory: &Memory, demand: &Demand, missing: usize, plan: &mut Plan) {
    let now = plan.at;
    if unwell_and_braked(plan) {
        return;
    }
    if now < memory.launch_not_before {
        let left = memory.launch_not_before.since(now).as_secs();
        plan.notes.push(format!(
            "{missing} machines are missing; the next launch is tried in {left} s, after {} failures",
            memory.launch_failures
        ));
        return;
    }
    let under_way = observation.count(|state| *state == MemberState::Launching);
    let at_once = (policy.scaling.launches_max.saturating_sub(under_way) as usize).min(missing);
    // After a failure one at a time, until one works.
    let at_once = if memory.launch_failures > 0 { at_once.min(1) } else { at_once };
    let taken: BTreeSet<u32> = observation.members.iter().filter_map(|member| member.slot).collect();
    let mut free = (1..).filter(|slot| !taken.contains(slot));
    let mut placement = Placement::new(observation, memory);
    for _ in 0..at_once {
        match placement.choose() {
            Ok(place) => {
                let slot = free.next().expect("there are more numbers than machines");
                plan.steps.push(Step::Launch {
                    slot,
                    host: place.host,
                    warm: place.warm && demand.base.is_none(),
                    base: demand.base.clone(),
                });
            }
            Err(why) => {
                plan.refusals.push(format!("{missing} machines are missing, but {why}"));
                break;
            }
        }
    }
}

fn unwell_and_braked(plan: &Plan) -> bool {
    plan.refusals.iter().any(|refusal| refusal.contains("replace_max"))
}

/// Takes machines out, the right ones, and never below the floor.
fn shrink<'a>(policy: &Policy, alive: &[&'a Member], surplus: usize, leaving: &mut BTreeMap<&'a str, String>, plan: &mut Plan) {
    let mut candidates: Vec<&Member> = alive.iter().filter(|member| !leaving.contains_key(&*member.name)).copied().collect();
    let protected = candidates.iter().filter(|member| member.protected).count();
    candidates.retain(|member| !member.protected && !matches!(member.state, MemberState::Unknown { .. }));
    let mut by_group: BTreeMap<&str, usize> = BTreeMap::new();
    for member in alive {
        *by_group.entry(&member.group).or_default() += 1;
    }
    let mut serving = alive.iter().filter(|member| member.state == MemberState::Serving && !leaving.contains_key(&*member.name)).count();
    let floor = policy.min_healthy as usize;
    for _ in 0..surplus {
        let may_go = |member: &&&Member| member.state != MemberState::Serving || serving > floor;
        let Some(member) = candidates.iter().filter(may_go).min_by(|a, b| compare(policy, &by_group, a, b)).copied() else {
            let why = match (candidates.is_empty(), protected) {
                (true, 0) => "none of them can be reached".to_owned(),
                (true, protected) => format!("{protected} are protected against it (weir scaling protect)"),
                (false, _) => format!("only {serving} serve, and min_healthy = {floor}"),
            };
            plan.refusals.push(format!("the pool should become smaller, but {why}"));
            return;
        };
        if member.state == MemberState::Serving {
            serving -= 1;
        }
        by_group.entry(&member.group).and_modify(|count| *count -= 1);
        candidates.retain(|other| other.name != member.name);
        leaving.insert(&member.name, format!("{} are enough", plan.decision.desired));
    }
}

/// Which of two goes first: what does not serve, then by the file's order, then by name.
fn compare(policy: &Policy, by_group: &BTreeMap<&str, usize>, a: &Member, b: &Member) -> std::cmp::Ordering {
    let serves = |member: &Member| member.state == MemberState::Serving;
    let mut order = serves(a).cmp(&serves(b));
    for rule in &policy.scaling.terminate {
        let count = |member: &Member| by_group.get(&*member.group).copied().unwrap_or(0);
        order = order.then_with(|| match rule {
            // Names of bases carry their number.
            TerminationOrder::OldestBase => a.base.cmp(&b.base),
            TerminationOrder::MostLoadedHost => Reverse(count(a)).cmp(&Reverse(count(b))),
            TerminationOrder::Newest => b.since.cmp(&a.since),
            TerminationOrder::Oldest => a.since.cmp(&b.since),
            TerminationOrder::LeastBusy => a.in_flight.cmp(&b.in_flight),
        });
    }
    order.then_with(|| b.slot.cmp(&a.slot)).then_with(|| b.name.cmp(&a.name))
}
