//! What the API and the metrics show.

use serde_json::{Value, json};
use weir_config::{Config, Recovery, RecoveryName};
use weir_recovery::case::{Case, Stage};
use weir_recovery::healer::Refusal;

use super::{Recoverer, Refused, Room, lock};

/// What is counted of one recovery.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RecoveryStats {
    /// `[recovery.NAME]`
    pub(crate) name: String,
    /// Things, as last seen.
    pub(crate) things: usize,
    /// Of these, ill.
    pub(crate) ill: usize,
    /// An operator has stopped it.
    pub(crate) stopped: bool,
    /// Cases by stage.
    pub(crate) cases: Vec<(&'static str, usize)>,
    /// Attempts that are over, by outcome.
    pub(crate) attempts: Vec<(&'static str, u64)>,
}

const STAGES: [&str; 6] = ["waiting", "acting", "checking", "healed", "given up", "dry run"];
const OUTCOMES: [&str; 4] = ["healed", "still_ill", "failed", "gone"];

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl Recoverer {
    /// Everything, by recovery.
    pub(crate) fn items(&self, config: &Config) -> Vec<Value> {
        let room = lock(&self.room);
        config.recoveries.values().map(|recovery| item(&room, recovery)).collect()
    }

    /// What would be tried, by thing; for one that is not ill, from the first attempt on.
    pub(crate) fn plan(&self, name: &str, thing: Option<&str>) -> Result<Vec<Value>, Refused> {
        let room = lock(&self.room);
        let healer = room.healer.as_ref().ok_or(Refused::NotHere)?;
        let plans = healer.plan(&RecoveryName::from(name), thing).map_err(Refused::Refusal)?;
        if thing.is_some() && plans.is_empty() {
            return Err(Refused::Refusal(Refusal::NotIll));
        }
        Ok(plans.into_iter().map(|(thing, lines)| json!({ "thing": thing.to_string(), "attempts": lines })).collect())
    }

    /// For the metrics.
    pub(crate) fn stats(&self, config: &Config) -> Vec<RecoveryStats> {
        let room = lock(&self.room);
        config.recoveries.keys().map(|name| stats(&room, name)).collect()
    }
}

fn cases<'a>(room: &'a Room, name: &'a RecoveryName) -> impl Iterator<Item = &'a Case> {
    let shown = if room.healer.is_some() { room.shown.as_slice() } else { &[] };
    shown.iter().filter(|case| *case.recovery == *name.0)
}

fn stats(room: &Room, name: &RecoveryName) -> RecoveryStats {
    let (ill, things) = room.seen.get(name).copied().unwrap_or_default();
    RecoveryStats {
        name: name.to_string(),
        things,
        ill,
        stopped: room.healer.as_ref().is_some_and(|healer| healer.stopped_by(name).is_some()),
        cases: STAGES.map(|stage| (stage, cases(room, name).filter(|case| case.stage.word() == stage).count())).into(),
        attempts: OUTCOMES.map(|outcome| (outcome, room.counts.get(&(name.clone(), outcome)).copied().unwrap_or(0))).into(),
    }
}

fn item(room: &Room, recovery: &Recovery) -> Value {
    let (ill, things) = room.seen.get(&recovery.name).copied().unwrap_or_default();
    let stopped = room.healer.as_ref().and_then(|healer| healer.stopped_by(&recovery.name));
    json!({
        "name": recovery.name.to_string(), "heals": recovery.subject.to_string(), "dry_run": recovery.dry_run, "here": room.healer.is_some(),
        "things": things, "ill": ill, "stopped_by": stopped, "attempts": recovery.attempts.iter().map(|one| one.action.word()).collect::<Vec<_>>(),
        "cases": cases(room, &recovery.name).map(|case| of_case(recovery, case)).collect::<Vec<_>>(),
    })
}

fn of_case(recovery: &Recovery, case: &Case) -> Value {
    let text = match &case.stage {
        Stage::Waiting { holds, .. } => holds.words(),
        Stage::Acting { .. } => case.story.last().map(|tried| tried.action.clone()).unwrap_or_default(),
        Stage::Checking { .. } => "is the fault gone?".into(),
        Stage::Healed { .. } => "everything may be tried again when it has stayed well".into(),
        Stage::GivenUp { .. } => "no attempt is left; weir recovery run begins again".into(),
        Stage::Shown { .. } => "nothing is done: dry_run".into(),
    };
    let story = case.story.iter().map(|tried| {
        json!({
            "key": tried.key, "action": tried.action, "began": seconds(tried.began),
            "outcome": tried.outcome.as_ref().map(super::tell::word), "text": tried.outcome.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "thing": case.thing.to_string(), "stage": case.stage.word(), "text": text, "since": seconds(case.began), "reason": case.why,
        "next": recovery.attempts.get(case.at).map(|attempt| attempt.action.word()), "pool": case.about.pool, "endpoint": case.about.endpoint,
        "machine": case.about.machine, "host": case.about.host, "alarm": case.about.alarm, "story": story.collect::<Vec<_>>(),
    })
}
