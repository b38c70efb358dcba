//! A plan: immutable, printable, with no choices left in it.

use std::fmt;

use serde::Serialize;

use super::decide::{Counts, Decision, Signals, decide};
use super::memory::Memory;
use super::observation::{MemberState, Observation};
use super::policy::Policy;
use super::schedule::{Bounds, bounds};
use super::{members, refresh};
use crate::time::UnixMs;

/// What is to be done about one pool now.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    /// The pool.
    pub pool: String,
    /// When it was made.
    pub at: UnixMs,
    /// What each step carries, so that a late one is refused.
    pub generation: u64,
    /// How many machines are wanted, and why.
    pub decision: Decision,
    /// What is to be done, in no order: each step is for another machine.
    pub steps: Vec<Step>,
    /// What is wanted and cannot be, and why.
    pub refusals: Vec<String>,
    /// What is waited for.
    pub notes: Vec<String>,
}

/// One step. Each can be repeated, and each leads to a state of its machine that the next observation shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Makes a machine, or thaws a warm one.
    Launch {
        /// Its number in the pool.
        slot: u32,
        /// The host.
        host: String,
        /// A warm clone is taken.
        warm: bool,
        /// The base; `None`: the current one.
        base: Option<String>,
    },
    /// Goes on with a machine whose launch was interrupted: thaws it, and waits until it has booted.
    Resume {
        /// The machine.
        machine: String,
    },
    /// Runs a lifecycle hook.
    RunHook {
        /// The machine.
        machine: String,
        /// Which.
        hook: HookKind,
    },
    /// Makes it an endpoint of the pool.
    Register {
        /// The machine.
        machine: String,
    },
    /// Marks it to go, on its host, so that every node knows.
    Retire {
        /// The machine.
        machine: String,
        /// Why.
        why: String,
    },
    /// Gives it nothing new any more.
    Drain {
        /// The machine.
        machine: String,
    },
    /// Writes on it what the refresh has come to, for whoever leads next.
    Note {
        /// The machine.
        machine: String,
        /// What; `None`: nothing any more.
        text: Option<String>,
    },
    /// Takes it out of the pool.
    Deregister {
        /// The machine.
        machine: String,
    },
    /// Shuts it down and deletes it.
    Remove {
        /// The machine.
        machine: String,
    },
}

/// Which hook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Before it gets traffic.
    Launch,
    /// After it was drained.
    Terminate,
}

impl HookKind {
    /// `launch` or `terminate`.
    pub fn word(self) -> &'static str {
        match self {
            HookKind::Launch => "launch",
            HookKind::Terminate => "terminate",
        }
    }
}

impl Step {
    /// The machine that it is for; `None`: one that is not there yet.
    pub fn machine(&self) -> Option<&str> {
        match self {
            Step::Launch { .. } => None,
            Step::Resume { machine }
            | Step::RunHook { machine, .. }
            | Step::Register { machine }
            | Step::Retire { machine, .. }
            | Step::Drain { machine }
            | Step::Note { machine, .. }
            | Step::Deregister { machine }
            | Step::Remove { machine } => Some(machine),
        }
    }

    /// Whether it changes only this node's own list of endpoints: every node does that for itself.
    pub fn is_local(&self) -> bool {
        matches!(self, Step::Register { .. } | Step::Drain { .. } | Step::Deregister { .. })
    }
}

/// What the plan goes by beside the signals.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Now.
    pub now: UnixMs,
    /// What the schedules say, where that is known already.
    pub bounds: Option<Bounds>,
}

/// Plans one pool. The memory becomes that of after the plan; a plan that is only looked at is made with a copy.
pub fn plan(policy: &Policy, observation: &Observation, signals: &Signals, memory: &mut Memory, clock: Clock) -> Plan {
    let Clock { now, bounds: known } = clock;
    memory.no_later_than(now);
    let newest = observation.members.iter().map(|member| member.generation).max().unwrap_or(0);
    memory.generation = memory.generation.max(newest);
    let bounds = known.filter(|known| now < known.until).unwrap_or_else(|| bounds(&policy.scaling, now));
    let counts =
        Counts { serving: observation.count(|state| *state == MemberState::Serving), coming: observation.count(MemberState::is_coming) };
    let decision = decide(policy, &bounds, signals, counts, memory, now);
    let mut plan = Plan {
        pool: policy.pool.to_string(),
        at: now,
        generation: memory.generation,
        decision,
        steps: Vec::new(),
        refusals: Vec::new(),
        notes: Vec::new(),
    };
    let demand = refresh::demand(policy, observation, memory, plan.decision.desired, now);
    plan.notes.extend(demand.note.clone());
    members::plan(policy, observation, memory, &demand, &mut plan);
    plan
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Launch { slot, host, warm, base } => {
                let what = if *warm { "thaw a warm clone" } else { "launch" };
                write!(f, "{what} for slot {slot} on {host}")?;
                base.as_ref().map_or(Ok(()), |base| write!(f, " from {base}"))
            }
            Step::Resume { machine } => write!(f, "resume {machine}"),
            Step::RunHook { machine, hook } => write!(f, "run the {} hook of {machine}", hook.word()),
            Step::Register { machine } => write!(f, "register {machine}"),
            Step::Retire { machine, why } => write!(f, "retire {machine}: {why}"),
            Step::Drain { machine } => write!(f, "drain {machine}"),
            Step::Note { machine, text: Some(text) } => write!(f, "note the refresh on {machine}: {text}"),
            Step::Note { machine, text: None } => write!(f, "note on {machine} that the refresh is done"),
            Step::Deregister { machine } => write!(f, "deregister {machine}"),
            Step::Remove { machine } => write!(f, "remove {machine}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { before, desired, min, max, wishes, why } = &self.decision;
        writeln!(f, "pool {}: {before} -> {desired} ({min} to {max}), generation {}: {why}", self.pool, self.generation)?;
        for wish in wishes {
            let opinion = match wish.opinion {
                super::Opinion::Count(count) => count.to_string(),
                super::Opinion::None => "-".into(),
                super::Opinion::Blind => "?".into(),
            };
            writeln!(f, "  wish {opinion}: {}: {}", wish.policy, wish.why)?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        self.refusals.iter().try_for_each(|refusal| writeln!(f, "  refused: {refusal}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}
