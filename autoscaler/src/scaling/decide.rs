//! From wishes to one number: the largest wins, fewer only if all agree, and neither before its time.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_config::AlarmName;

use super::memory::Memory;
use super::policy::{AlarmSteps, Policy};
use super::schedule::Bounds;
use super::{step, target};
use crate::alarm::AlarmState;
use crate::time::UnixMs;

/// What the policies of a pool go by.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Signals {
    /// The alarms that steps hang on.
    pub alarms: BTreeMap<AlarmName, AlarmSignal>,
    /// One for each target policy, in their order.
    pub targets: Vec<TargetSignal>,
    /// The most that is to be expected; `None`: there is no forecast.
    pub forecast: Option<f64>,
}

/// An alarm, seen by a policy.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AlarmSignal {
    /// Its state.
    pub state: AlarmState,
    /// Whether something is to be done about it.
    pub engaged: bool,
    /// Its newest value.
    pub value: Option<f64>,
}

/// A metric, seen by a target policy.
#[derive(Clone, PartialEq, Debug)]
pub enum TargetSignal {
    /// Of each machine that serves.
    Each(Vec<Option<f64>>),
    /// Of the pool: the mean of a machine, or the whole where the policy divides it.
    Pool(Option<f64>),
}

/// What one policy wants.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Wish {
    /// Which.
    pub policy: String,
    /// How many machines.
    pub opinion: Opinion,
    /// Why, in words.
    pub why: String,
}

/// What a policy thinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opinion {
    /// So many.
    Count(u32),
    /// It does not mind.
    None,
    /// It cannot say, and therefore nothing is taken away.
    Blind,
}

/// How many machines are wanted, and why.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decision {
    /// Before.
    pub before: u32,
    /// After.
    pub desired: u32,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// What each policy wants.
    pub wishes: Vec<Wish>,
    /// In words: what was decided, or what is waited for.
    pub why: String,
}

/// Machines that serve, and that come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// They serve.
    pub serving: u32,
    /// They are on their way.
    pub coming: u32,
}

/// Decides, and remembers that it did.
pub fn decide(policy: &Policy, bounds: &Bounds, signals: &Signals, counts: Counts, memory: &mut Memory, now: UnixMs) -> Decision {
    let scaling = &policy.scaling;
    let before = memory.desired;
    let wishes = wishes(policy, signals, counts, memory.desired);
    let decided =
        |desired: u32, why: String, wishes: Vec<Wish>| Decision { before, desired, min: bounds.min, max: bounds.max, wishes, why };
    if let Some((at, wanted)) = bounds.desired.filter(|(at, _)| *at > memory.scheduled) {
        memory.scheduled = at;
        let wanted = wanted.clamp(bounds.min, bounds.max);
        set(memory, wanted, now);
        return decided(wanted, format!("the schedule wants {wanted}"), wishes);
    }
    if !(bounds.min..=bounds.max).contains(&before) {
        let wanted = before.clamp(bounds.min, bounds.max);
        set(memory, wanted, now);
        return decided(wanted, format!("{before} is not within {} and {}", bounds.min, bounds.max), wishes);
    }
    let most = wishes.iter().filter_map(|wish| if let Opinion::Count(count) = wish.opinion { Some(count) } else { None }).max();
    let blind = wishes.iter().find(|wish| wish.opinion == Opinion::Blind).map(|wish| wish.policy.clone());
    let wished = most.unwrap_or(before).clamp(bounds.min, bounds.max);
    let wished = if blind.is_some() { wished.max(before) } else { wished };
    memory.wished.push(now, wished, scaling.stabilise_in.max(scaling.stabilise_out));
    if wished > before {
        let steady = memory.wished.least(now, scaling.stabilise_out).unwrap_or(wished).min(wished);
        if steady <= before {
            return decided(before, format!("{wished} are wished, but not for {} s yet", scaling.stabilise_out.as_secs()), wishes);
        }
        if let Some(at) = memory.last_out.filter(|at| now.since(*at) < scaling.cooldown_out) {
            let left = (scaling.cooldown_out - now.since(at)).as_secs();
            return decided(before, format!("{wished} are wished; the cooldown ends in {left} s"), wishes);
        }
        set(memory, steady, now);
        return decided(steady, format!("{steady} are wished"), wishes);
    }
    let steady = memory.wished.most(now, scaling.stabilise_in).unwrap_or(wished).max(wished);
    if steady >= before {
        let why = match blind {
            Some(policy) if most.is_some_and(|most| most < before) => format!("fewer are wished, but {policy} cannot say"),
            _ if wished < before => format!("{wished} are wished, but not for {} s yet", scaling.stabilise_in.as_secs()),
            _ => "it is as it should be".to_owned(),
        };
        return decided(before, why, wishes);
    }
    if counts.coming > 0 {
        return decided(before, format!("{steady} are wished, but {} machines are still on their way", counts.coming), wishes);
    }
    let last = memory.last_out.max(memory.last_in);
    if let Some(at) = last.filter(|at| now.since(*at) < scaling.cooldown_in) {
        let left = (scaling.cooldown_in - now.since(at)).as_secs();
        return decided(before, format!("{steady} are wished; the cooldown ends in {left} s"), wishes);
    }
    set(memory, steady, now);
    decided(steady, format!("{steady} are wished by all"), wishes)
}

/// So many from now on.
pub fn set(memory: &mut Memory, desired: u32, now: UnixMs) {
    match desired.cmp(&memory.desired) {
        std::cmp::Ordering::Greater => memory.last_out = Some(now),
        std::cmp::Ordering::Less => memory.last_in = Some(now),
        std::cmp::Ordering::Equal => {}
    }
    memory.desired = desired;
}

fn wishes(policy: &Policy, signals: &Signals, counts: Counts, desired: u32) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = policy.steps.iter().map(|steps| by_alarm(steps, signals, counts, desired)).collect();
    for (number, target) in policy.scaling.targets.iter().enumerate() {
        wishes.push(by_target(target, signals.targets.get(number), counts, desired));
    }
    wishes.extend(policy.scaling.predict.as_ref().map(|predict| by_forecast(predict, signals.forecast, desired)));
    wishes
}

fn by_alarm(steps: &AlarmSteps, signals: &Signals, counts: Counts, desired: u32) -> Wish {
    let wish = |opinion, why: String| Wish { policy: format!("alarm {}", steps.alarm), opinion, why };
    let Some(signal) = signals.alarms.get(&steps.alarm) else { return wish(Opinion::Blind, "it is not there".into()) };
    let makes_larger = steps.adjust.iter().any(|step| !step::is_in(step.change, desired));
    match signal.state {
        AlarmState::InsufficientData if makes_larger => return wish(Opinion::Blind, "it has not enough data".into()),
        _ if !signal.engaged => return wish(Opinion::None, format!("it is {}", signal.state.word())),
        _ => {}
    }
    let Some(chosen) = step::step_for(steps, signal.value) else { return wish(Opinion::None, "its metric is within the threshold".into()) };
    // What warms up is not counted twice; but fewer than are wanted already is no wish for more.
    let is_in = step::is_in(chosen.change, desired);
    let of = if is_in { desired } else { counts.serving.min(desired) };
    let count = step::apply(chosen.change, of, steps.min_change);
    let count = if is_in { count } else { count.max(desired) };
    let value = signal.value.map_or(String::new(), |value| format!(" at {value:.1}"));
    wish(Opinion::Count(count), format!("it is in alarm{value}: {} of {of}", chosen.change))
}

fn by_target(policy: &weir_config::TargetPolicy, signal: Option<&TargetSignal>, counts: Counts, desired: u32) -> Wish {
    let name = format!("target {} {}{}", policy.metric, policy.value, policy.metric.unit());
    let serving = counts.serving as usize;
    let values = match signal {
        Some(TargetSignal::Each(values)) => values.clone(),
        Some(TargetSignal::Pool(Some(value))) if policy.divide => vec![Some(value / serving.max(1) as f64); serving.max(1)],
        Some(TargetSignal::Pool(value)) => vec![*value; serving.max(1)],
        None => Vec::new(),
    };
    let known = target::Known { serving: values, not_ready: counts.coming };
    let tolerance = f64::from(policy.tolerance_percent) / 100.0;
    let Some(count) = target::wish(&known, policy.value, tolerance) else {
        return Wish { policy: name, opinion: Opinion::Blind, why: "no data".into() };
    };
    let found: Vec<f64> = known.serving.iter().filter_map(|value| *value).collect();
    let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
    let why = format!("{mean:.1}{} on {} machines", policy.metric.unit(), found.len());
    // Within the tolerance it wants what there is; that machines are on their way, or fail, is not its business.
    let there = counts.serving.max(1) + counts.coming;
    let count = if count == there { desired } else { count };
    if count < desired && !policy.scale_in {
        return Wish { policy: name, opinion: Opinion::None, why: format!("{why}; it never makes the pool smaller") };
    }
    Wish { policy: name, opinion: Opinion::Count(count), why }
}

fn by_forecast(predict: &weir_config::Predict, forecast: Option<f64>, desired: u32) -> Wish {
    let name = format!("forecast {} {}", predict.metric, predict.value);
    let wish = |opinion, why: String| Wish { policy: name.clone(), opinion, why };
    let Some(expected) = forecast else { return wish(Opinion::None, "the history is shorter than one season".into()) };
    let count = (expected / predict.value).ceil().clamp(0.0, f64::from(weir_config::ScaleChange::MAX)) as u32;
    let why = format!("{expected:.1}{} are expected: {count} machines", predict.metric.unit());
    match predict.scales {
        false => wish(Opinion::None, format!("{why}; it only tells")),
        true if count < desired => wish(Opinion::None, format!("{why}; it never makes the pool smaller")),
        true => wish(Opinion::Count(count), why),
    }
}
