//! What the file says about an alarm: which rule, which group, silenced or not, and who is to be told.

use std::collections::{BTreeMap, BTreeSet};

use weir_config::{Escalation, Notification, NotifyName, NotifyRule, Recipients, Severity};

use crate::message::{State, UnixMs};
use crate::schedule;

use super::incident::{Chain, Incident, Raise};

type Labels = BTreeMap<String, String>;

/// The least time that a round of an escalation waits after its last step, in milliseconds.
const ROUND_REST_MS: u64 = 60_000;

/// The first rule that matches; what an alarm says itself comes before those of the file.
pub(super) fn rule<'n>(notification: &'n Notification, labels: &Labels, severity: Severity) -> Option<(usize, &'n NotifyRule)> {
    let matches = |rule: &NotifyRule| rule.severity <= severity && rule.matchers.iter().all(|matcher| matcher.matches(labels));
    notification.alarm_rules.iter().chain(&notification.rules).enumerate().find(|(_, rule)| matches(rule))
}

/// The rule of an incident: that of its worst alarm, also when all are over.
pub(super) fn rule_of<'n>(notification: &'n Notification, incident: &Incident) -> Option<&'n NotifyRule> {
    let worst = incident.alarms.values().max_by_key(|alarm| (alarm.ended_at.is_none(), alarm.severity))?;
    rule(notification, &worst.labels, incident.severity).map(|(_, rule)| rule)
}

/// What makes alarms belong together, and the labels that say so.
pub(super) fn group(rule: Option<(usize, &NotifyRule)>, raise: &Raise) -> (String, Labels) {
    match rule {
        Some((_, rule)) if !rule.group_by.is_empty() => {
            let labels: Labels =
                rule.group_by.iter().map(|name| (name.clone(), raise.labels.get(name).cloned().unwrap_or_default())).collect();
            // Of the rule's conditions, not of its number: a rule that moves keeps its incidents.
            let conditions: Vec<String> = rule.matchers.iter().map(ToString::to_string).collect();
            (format!("{conditions:?} {labels:?}"), labels)
        }
        _ => (format!("alarm {}", raise.key), raise.labels.clone()),
    }
}

/// Whether an alarm is muted now.
pub(super) fn is_muted(notification: &Notification, labels: &Labels, now: UnixMs) -> bool {
    let holds =
        |mute: &weir_config::NotifyMute| mute.matchers.iter().all(|matcher| matcher.matches(labels)) && schedule::is_muted(mute, now);
    notification.mutes.values().any(|mute| holds(mute))
}

/// Whether another active alarm explains this one. An alarm that could explain itself does not.
pub(super) fn is_inhibited<'a>(
    notification: &Notification,
    labels: &Labels,
    active: impl Fn() -> Box<dyn Iterator<Item = &'a Labels> + 'a>,
) -> bool {
    notification.inhibitions.iter().any(|inhibition| {
        let is_source = |labels: &Labels| inhibition.source.iter().all(|matcher| matcher.matches(labels));
        let is_target = |labels: &Labels| inhibition.target.iter().all(|matcher| matcher.matches(labels));
        let explains = |source: &Labels| is_source(source) && inhibition.equal.iter().all(|name| source.get(name) == labels.get(name));
        is_target(labels) && !is_source(labels) && active().any(explains)
    })
}

/// Whether an alarm could explain others.
pub(super) fn may_inhibit(notification: &Notification, labels: &Labels) -> bool {
    notification.inhibitions.iter().any(|inhibition| inhibition.source.iter().all(|matcher| matcher.matches(labels)))
}

/// The channels of recipients now.
pub(super) fn channels(notification: &Notification, recipients: &Recipients, now: UnixMs) -> BTreeSet<NotifyName> {
    let mut found: BTreeSet<NotifyName> = recipients.channels.iter().cloned().collect();
    let on_call =
        recipients.oncall.iter().filter_map(|name| notification.oncalls.get(name)).filter_map(|oncall| schedule::on_call(oncall, now));
    found.extend(on_call.flat_map(|member| member.channels.iter().cloned()));
    found
}

/// When the step of this number, over all rounds, is to be taken; `None`: there is none.
pub(super) fn step_at(escalation: &Escalation, chain: &Chain, number: u32) -> Option<UnixMs> {
    let count = u32::try_from(escalation.steps.len()).ok().filter(|count| *count > 0)?;
    let (round, step) = (number / count, number % count);
    if round >= escalation.rounds {
        return None;
    }
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let after = |step: u32| escalation.steps.get(step as usize).map_or(0, |step| ms(step.after));
    let length = after(count - 1).saturating_add(after(0).max(ROUND_REST_MS));
    Some(chain.started_at.saturating_add(length.saturating_mul(u64::from(round))).saturating_add(after(step)))
}

/// How far an escalation is, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// `[escalation.NAME]`
    pub name: String,
    /// Steps taken, over all rounds.
    pub taken: u32,
    /// Steps in all, over all rounds.
    pub steps: u32,
    /// When the next one is taken; `None`: none is left, or it waits for nothing but the end.
    pub next_at: Option<UnixMs>,
    /// Who is told then: channels, and schedules of who is on call.
    pub next: Vec<String>,
    /// It stands still: all alarms are muted or explained by others.
    pub stopped: bool,
}

/// How far the escalation of an incident is; `None`: its rule has none.
pub fn position(notification: &Notification, incident: &Incident) -> Option<Position> {
    let name = rule_of(notification, incident)?.escalation.as_ref()?;
    let escalation = notification.escalations.get(name)?;
    let rest = Chain { started_at: incident.started_at, stopped_at: None, taken: 0 };
    let chain = incident.chain.as_ref().unwrap_or(&rest);
    let steps = u32::try_from(escalation.steps.len()).unwrap_or(u32::MAX);
    let goes_on = incident.state == State::Open && chain.stopped_at.is_none();
    let next_at = step_at(escalation, chain, chain.taken).filter(|_| goes_on);
    let step = next_at.and_then(|_| escalation.steps.get((chain.taken % steps.max(1)) as usize));
    let next = step.into_iter().flat_map(|step| {
        let channels = step.recipients.channels.iter().map(ToString::to_string);
        channels.chain(step.recipients.oncall.iter().map(|oncall| format!("on call: {oncall}")))
    });
    Some(Position {
        name: name.to_string(),
        taken: chain.taken,
        steps: steps.saturating_mul(escalation.rounds),
        next_at,
        next: next.collect(),
        stopped: chain.stopped_at.is_some(),
    })
}

/// The next time at which who is told, or what is silenced, changes by itself.
pub(super) fn next_change(notification: &Notification, now: UnixMs) -> Option<UnixMs> {
    let mutes = notification.mutes.values().filter_map(|mute| schedule::next_mute_change(mute, now));
    let turns = notification.oncalls.values().filter_map(|oncall| schedule::next_on_call_change(oncall, now));
    mutes.chain(turns).min()
}
