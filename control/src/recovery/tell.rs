//! What people hear of it: events, and the story of their incident.

use std::sync::Arc;

use weir_config::{Config, Recovery, RecoverySubject};
use weir_notify::engine::{Input, Raise};
use weir_notify::message::{Phrase, RecoveryAttempt};
use weir_recovery::case::{Case, Deed, Hold, Outcome, Stage};
use weir_recovery::healer::Told;

use super::{lock, now, sight};
use crate::event::RecoveryEvent;
use crate::node::Node;
use crate::notify::keys;

/// The recovery that works on what an alarm is about.
pub(super) fn recovery_of(node: &Node, config: &Config, raise: &Raise) -> Option<Arc<Recovery>> {
    let label = |name: &str| raise.labels.get(name).map(String::as_str).unwrap_or_default();
    let (pool, endpoint) = (label("pool"), label("endpoint"));
    let machine = || {
        let machines = node.machines().hypervisor().machines();
        let found = sight::machine_behind(&machines, endpoint)?;
        Some((found.name.clone(), found.metadata.as_ref().map(|of| of.template.clone())))
    };
    let scaled_by = |template: &str| {
        let scaling = config.pools.get(&pool.into()).and_then(|pool| pool.scaling.clone());
        scaling.is_some_and(|scaling| *scaling.template.0 == *template)
    };
    let is_endpoint = raise.key == keys::endpoint(pool, endpoint);
    let is_floor = raise.key == keys::floor(pool);
    let heals = |subject: &RecoverySubject| match subject {
        RecoverySubject::Alarm(name) => raise.key == keys::alarm(&name.0),
        RecoverySubject::Pool(name) => (is_endpoint || is_floor) && *name.0 == *pool,
        RecoverySubject::Template(name) if is_floor => scaled_by(&name.0),
        RecoverySubject::Template(name) => {
            is_endpoint && (scaled_by(&name.0) || machine().is_some_and(|(_, template)| template.as_deref() == Some(&*name.0)))
        }
        RecoverySubject::Machine(name) => is_endpoint && machine().is_some_and(|(machine, _)| machine == *name),
    };
    config.recoveries.values().find(|recovery| heals(&recovery.subject)).cloned()
}

/// Tells it.
pub(super) async fn tell(node: &Node, case: &Case, told: &Told) {
    node.record(event(case, told));
    if let Told::Tried(tried) = told
        && let Some(outcome) = &tried.outcome
    {
        let key = (case.recovery.as_str().into(), word(outcome));
        *lock(&node.recoverer().room).counts.entry(key).or_default() += 1;
    }
    to_people(node, case, told).await;
}

/// Tells people again what a kill may have kept from them: what is known already changes nothing.
pub(super) async fn tell_again(node: &Node, case: &Case) {
    for tried in case.story.iter().filter(|tried| tried.outcome.is_some()) {
        to_people(node, case, &Told::Tried(tried.clone())).await;
    }
    match &case.stage {
        Stage::GivenUp { .. } => to_people(node, case, &Told::GivenUp).await,
        Stage::Healed { .. } => to_people(node, case, &Told::Over("it is well")).await,
        Stage::Waiting { holds, .. } if holds.is_for_people() => to_people(node, case, &Told::Held(holds.clone())).await,
        Stage::Waiting { .. } | Stage::Acting { .. } | Stage::Checking { .. } | Stage::Shown { .. } => {}
    }
}

async fn to_people(node: &Node, case: &Case, told: &Told) {
    let Some(handle) = node.notifier().handle() else { return };
    let attempt = match told {
        Told::Tried(tried) => {
            let outcome = tried.outcome.as_ref().map_or_else(String::new, ToString::to_string);
            let phrases = tried.deed.as_ref().zip(tried.outcome.as_ref()).map(|(deed, outcome)| (of_deed(deed), of_outcome(outcome)));
            Some(RecoveryAttempt { what: tried.action.clone(), outcome, at: tried.began, phrases })
        }
        Told::Held(hold) => {
            // Equal each time that it is told.
            let at = if let Stage::Waiting { since, .. } = case.stage { since } else { now() };
            let phrases = of_hold(hold).map(|why| (Phrase::new("nothing", &[("thing", case.thing.name())]), why));
            Some(RecoveryAttempt { what: format!("nothing is tried on {}", case.thing), outcome: hold.words(), at, phrases })
        }
        _ => None,
    };
    let healed = match told {
        Told::Tried(tried) if matches!(tried.outcome, Some(Outcome::Healed { .. })) => Some(true),
        Told::Over(_) => Some(true),
        Told::GivenUp | Told::Held(_) => Some(false),
        Told::Tried(_) | Told::Begun { .. } | Told::Relapsed | Told::Would(_) => None,
    };
    for key in &case.about.told_as {
        if let Some(attempt) = &attempt {
            handle.learn(Input::Tried(key.clone(), attempt.clone())).await;
        }
        if let Some(healed) = healed
            && !others_hope(node, case, key)
        {
            handle.learn(Input::Released { key: key.clone(), healed }).await;
        }
    }
}

fn of_deed(deed: &Deed) -> Phrase {
    Phrase::new(&deed.name, &[("thing", &deed.to), ("command", &deed.command)])
}

fn of_outcome(outcome: &Outcome) -> Phrase {
    let seconds = |ms: &u64| ((ms + 500) / 1000).to_string();
    match outcome {
        Outcome::Healed { after_ms } => Phrase::new("healed", &[("seconds", &seconds(after_ms))]),
        Outcome::StillIll { after_ms, why } if why.is_empty() => Phrase::new("still-ill", &[("seconds", &seconds(after_ms))]),
        Outcome::StillIll { after_ms, why } => Phrase::new("still-ill-why", &[("seconds", &seconds(after_ms)), ("why", why)]),
        Outcome::Failed { why } => Phrase::new("failed", &[("why", why)]),
        Outcome::Gone => Phrase::new("gone", &[]),
    }
}

/// Of what people are told.
fn of_hold(hold: &Hold) -> Option<Phrase> {
    match hold {
        Hold::Brake(ill, all) => Some(Phrase::new("brake", &[("ill", &ill.to_string()), ("all", &all.to_string())])),
        Hold::Stopped(by) => Some(Phrase::new("stopped", &[("by", by)])),
        Hold::Patience | Hold::Turn => None,
    }
}

/// Whether something else that the same alarm is about is still worked on: a pool is below its floor for all of them together.
fn others_hope(node: &Node, case: &Case, key: &String) -> bool {
    let room = lock(&node.recoverer().room);
    let Some(healer) = &room.healer else { return false };
    healer.cases().any(|other| other.thing != case.thing && other.is_hopeful() && other.about.told_as.contains(key))
}

pub(super) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Healed { .. } => "healed",
        Outcome::StillIll { .. } => "still_ill",
        Outcome::Failed { .. } => "failed",
        Outcome::Gone => "gone",
    }
}

fn event(case: &Case, told: &Told) -> RecoveryEvent {
    let (recovery, thing) = (case.recovery.clone(), case.thing.to_string());
    match told {
        Told::Begun { action, resumed } => {
            RecoveryEvent::RecoveryBegun { recovery, thing, action: action.clone(), resumed: *resumed, reason: case.why.clone() }
        }
        Told::Tried(tried) => RecoveryEvent::RecoveryTried {
            recovery,
            thing,
            action: tried.action.clone(),
            outcome: tried.outcome.as_ref().map_or("", word),
            text: tried.outcome.as_ref().map_or_else(String::new, ToString::to_string),
        },
        Told::GivenUp => RecoveryEvent::RecoveryGivenUp { recovery, thing, reason: case.why.clone() },
        Told::Held(hold) => RecoveryEvent::RecoveryHeld { recovery, thing, reason: hold.words() },
        Told::Relapsed => {
            let text = format!("it is ill again before its success has lasted: {}", case.why);
            RecoveryEvent::RecoveryNotice { recovery, thing, text }
        }
        Told::Would(lines) => {
            RecoveryEvent::RecoveryNotice { recovery, thing, text: format!("dry run, this would be tried: {}", lines.join("; ")) }
        }
        Told::Over(why) => RecoveryEvent::RecoveryNotice { recovery, thing, text: (*why).to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::Language;

    /// What the language files call it is what the case calls it, and no language lacks it.
    #[test]
    fn every_language_has_words_for_what_recovery_tells() {
        let english = |phrase: &Phrase| {
            assert!(Language::all().all(|language| language.recovery(&phrase.name).is_some()), "{}", phrase.name);
            let value = |name: &str| phrase.values.get(name.trim_start_matches("values.")).cloned().unwrap_or_default();
            Language::ENGLISH.recovery(&phrase.name).map(|template| template.render(value)).unwrap_or_default()
        };
        let ill = |why: &str| Outcome::StillIll { after_ms: 2700, why: why.into() };
        for outcome in [Outcome::Healed { after_ms: 1200 }, ill(""), ill("refused"), Outcome::Failed { why: "no".into() }, Outcome::Gone] {
            assert_eq!(english(&of_outcome(&outcome)), outcome.to_string());
        }
        for hold in [Hold::Brake(3, 4), Hold::Stopped("kim".into())] {
            assert_eq!(of_hold(&hold).map(|phrase| english(&phrase)), Some(hold.words()));
        }
        for action in ["reboot", "restart", "reset", "replace", "drain"] {
            let deed = Deed { name: action.into(), to: "web-1".into(), command: String::new() };
            assert_eq!(english(&of_deed(&deed)), format!("{action} of web-1"));
        }
        let deed = |name: &str| of_deed(&Deed { name: name.into(), to: "x".into(), command: "/bin/heal".into() });
        assert_eq!(
            (english(&deed("script")), english(&deed("release-vip"))),
            ("/bin/heal for x".to_owned(), "release of virtual IP x".to_owned())
        );
        assert_eq!(english(&Phrase::new("nothing", &[("thing", "x")])), "nothing is tried on x");
    }
}
