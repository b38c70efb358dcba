//! What is to be told about one incident now, and when to look again.

use std::collections::{BTreeMap, BTreeSet};

use weir_config::{ChannelKind, Language, NotifyChannel, NotifyName, NotifyRule};

use super::incident::{Chain, Incident, Told};
use super::storm::Waiting;
use super::{Engine, Output, policy};
use crate::link::Permission;
use crate::message::{Kind, Links, Message, State, UnixMs};
use crate::schedule;
use crate::text::{self, DigestLine};

/// Alarms that one message carries.
const ALARMS_TOLD: usize = 50;

/// How an incident is to be told, for all channels.
struct View<'a> {
    rule: Option<&'a NotifyRule>,
    /// Active alarms are all muted or inhibited.
    silenced: bool,
    /// A digest of the active alarms that are not.
    seen: u64,
    /// Who is to be told while it is open.
    wanted: BTreeSet<NotifyName>,
    /// Recovery ended it before anybody was told, and the rule wants that told.
    healed: bool,
    /// Whose step of the escalation is taken now.
    reminded: BTreeSet<NotifyName>,
    now: UnixMs,
}

/// What a channel is to be told now, or when to look again.
enum Verdict {
    Tell(Kind),
    Later(UnixMs),
    Nothing,
}

impl Engine {
    pub(super) fn look_at(&mut self, id: u64, now: UnixMs) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        let before = incident.clone();
        let notification = self.notification.clone();
        let rule = policy::rule_of(&notification, &incident);
        let mut timers: Vec<UnixMs> = Vec::new();
        self.resolve(&mut incident, now, &mut timers);
        let wait_over = incident.started_at.saturating_add(rule.map_or(0, |rule| ms(rule.group_wait)));
        let mut pending = false;
        if wait_over > now {
            timers.push(wait_over);
        } else {
            let view = self.view(&mut incident, rule, now, &mut timers);
            pending = self.tell_all(&mut incident, &view, &mut timers);
        }
        let done = incident.state == State::Resolved && !pending;
        if incident.state == State::Resolved && self.groups.get(&incident.group) == Some(&id) {
            self.groups.remove(&incident.group);
        }
        if done || incident != before {
            self.outputs.push(Output::Save { incident: Box::new(incident.clone()), done });
        }
        self.set_timer(id, timers.into_iter().filter(|at| *at > now).min().filter(|_| !done));
        if !done {
            self.incidents.insert(id, incident);
        }
    }

    fn resolve(&self, incident: &mut Incident, now: UnixMs, timers: &mut Vec<UnixMs>) {
        let Some(since) = incident.ended_since.filter(|_| incident.state != State::Resolved) else { return };
        let at = since.saturating_add(ms(self.notification.incident.resolve_after));
        if let Some(until) = incident.end_held_until(now) {
            timers.push(until);
        } else if at <= now {
            incident.held.clear();
            incident.state = State::Resolved;
            incident.resolved_at = Some(since);
            incident.chain = None;
        } else {
            timers.push(at);
        }
    }

    fn view<'n>(&self, incident: &mut Incident, rule: Option<&'n NotifyRule>, now: UnixMs, timers: &mut Vec<UnixMs>) -> View<'n> {
        let notification = &self.notification;
        let here = &*incident;
        let sources = || -> Box<dyn Iterator<Item = &BTreeMap<String, String>> + '_> {
            // The incident that is looked at is not among the others.
            let alarm = |key| here.alarms.get(key).or_else(|| self.incidents.get(self.alarms.get(key)?)?.alarms.get(key));
            Box::new(self.inhibitors.iter().filter_map(move |key| Some(&alarm(key)?.labels)))
        };
        let is_silent = |labels: &BTreeMap<String, String>| {
            policy::is_muted(notification, labels, now) || policy::is_inhibited(notification, labels, sources)
        };
        let waits = |key: &str| here.held_until(key, now);
        timers.extend(here.active().filter_map(|(key, _)| waits(key)));
        let told: Vec<_> = here.active().filter(|(key, alarm)| waits(key).is_none() && !is_silent(&alarm.labels)).collect();
        let silenced = told.is_empty();
        let seen = told.iter().fold(FNV_START, |hash, (key, alarm)| fnv(fnv(hash, key.as_bytes()), alarm.severity.word().as_bytes()));
        let untold = here.told.values().all(|told| told.state == Some(State::Resolved));
        let healed = untold
            && !here.recovery.is_empty()
            && rule.is_some_and(|rule| rule.healed)
            && here.alarms.values().any(|alarm| !is_silent(&alarm.labels));
        let mut wanted = rule.map_or_else(BTreeSet::new, |rule| policy::channels(notification, &rule.recipients, now));
        let reminded = self.escalate(incident, rule, (silenced, now), &mut wanted, timers);
        wanted.extend(incident.active().filter_map(|(_, alarm)| self.fallback_of_failed(&alarm.labels)));
        View { rule, silenced, seen, wanted, healed, reminded, now }
    }

    /// A channel that fails cannot tell it itself.
    fn fallback_of_failed(&self, labels: &BTreeMap<String, String>) -> Option<NotifyName> {
        let channel = labels.get("channel").filter(|_| labels.get("alarm").is_some_and(|alarm| alarm == "channel-failed"))?;
        self.notification.channels.get(&NotifyName::from(channel.as_str()))?.fallback.clone()
    }

    /// Takes the steps that are due; adds who was reached by any step to `wanted`, and returns who is reached now.
    fn escalate(
        &self,
        incident: &mut Incident,
        rule: Option<&NotifyRule>,
        (silenced, now): (bool, UnixMs),
        wanted: &mut BTreeSet<NotifyName>,
        timers: &mut Vec<UnixMs>,
    ) -> BTreeSet<NotifyName> {
        let notification = &self.notification;
        let mut reached = BTreeSet::new();
        let escalation = rule.and_then(|rule| rule.escalation.as_ref()).and_then(|name| notification.escalations.get(name));
        let Some(escalation) = escalation.filter(|_| incident.state == State::Open) else { return reached };
        if silenced {
            if let Some(chain) = &mut incident.chain {
                chain.stopped_at.get_or_insert(now);
            }
            return reached;
        }
        let chain = incident.chain.get_or_insert(Chain { started_at: now, stopped_at: None, taken: 0 });
        if let Some(stopped_at) = chain.stopped_at.take() {
            chain.started_at = chain.started_at.saturating_add(now.saturating_sub(stopped_at));
        }
        let step = |number: u32| escalation.steps.get(number as usize % escalation.steps.len().max(1));
        while let Some(at) = policy::step_at(escalation, chain, chain.taken) {
            if at > now {
                timers.push(at);
                break;
            }
            reached.extend(step(chain.taken).into_iter().flat_map(|step| policy::channels(notification, &step.recipients, now)));
            chain.taken += 1;
        }
        let taken = chain.taken.min(u32::try_from(escalation.steps.len()).unwrap_or(u32::MAX));
        wanted.extend((0..taken).filter_map(step).flat_map(|step| policy::channels(notification, &step.recipients, now)));
        reached
    }

    /// Whether something is still to be told, later.
    fn tell_all(&mut self, incident: &mut Incident, view: &View<'_>, timers: &mut Vec<UnixMs>) -> bool {
        let mut names = view.wanted.clone();
        names.extend(incident.told.keys().map(|name| NotifyName::from(name.as_str())));
        let mut pending = false;
        for name in names {
            let Some(channel) = self.notification.channels.get(&name).cloned() else { continue };
            let told = incident.told.get(&*name.0).cloned().unwrap_or_default();
            let verdict = match verdict(incident, &told, &name, view) {
                Verdict::Tell(kind) => match quiet_until(&channel, incident, view.now) {
                    Some(until) => Verdict::Later(until),
                    None => Verdict::Tell(kind),
                },
                other => other,
            };
            match verdict {
                Verdict::Nothing => {}
                Verdict::Later(at) => {
                    timers.push(at);
                    pending = true;
                }
                Verdict::Tell(kind) => {
                    self.tell(incident, &channel, kind, view);
                    // Repeats and updates to come.
                    if let Verdict::Later(at) = verdict_after(incident, &name, view) {
                        timers.push(at);
                    }
                }
            }
        }
        pending
    }

    fn tell(&mut self, incident: &mut Incident, channel: &NotifyChannel, kind: Kind, view: &View<'_>) {
        let told = incident.told.entry(channel.name.to_string()).or_default();
        told.sequence += 1;
        told.at = view.now;
        told.state = Some(incident.state);
        told.seen = view.seen;
        told.severity = incident.severity as u8;
        let sequence = told.sequence;
        let message = self.message(incident, channel, (kind, sequence), view.now);
        let max = channel.messages_per_minute.map(std::num::NonZeroU32::get);
        let storm = self.storms.entry(channel.name.to_string()).or_default();
        if let Some(message) = storm.take(message, max, view.now) {
            self.outputs.push(Output::Tell(channel.name.clone(), Box::new(message)));
        }
        // Without a bound the brake counts nothing.
        if max.is_some() {
            self.outputs.push(Output::Storm(channel.name.to_string(), storm.clone()));
        }
    }

    fn message(&self, incident: &Incident, channel: &NotifyChannel, (kind, sequence): (Kind, u32), now: UnixMs) -> Message {
        let mut alarms: Vec<_> = incident.alarms.values().cloned().collect();
        alarms.sort_by_key(|alarm| (alarm.ended_at.is_some(), std::cmp::Reverse(alarm.severity), alarm.started_at));
        alarms.truncate(ALARMS_TOLD);
        let (id, started_at) = (incident.id, incident.started_at);
        let mut message = Message {
            key: format!("{}.{id}.{started_at}.{}.{sequence}", self.house.node, channel.name),
            incident: id.to_string(),
            sequence,
            kind,
            severity: incident.severity,
            state: incident.state,
            labels: incident.labels.clone(),
            alarms,
            texts: BTreeMap::new(),
            links: self.links(incident, channel, now),
            recovery: incident.recovery.clone(),
            series: incident.series.clone(),
            started_at,
            at: now,
            resolved_at: incident.resolved_at,
            node: self.house.node.clone(),
            reference: None,
            attempt: 1,
        };
        let by = incident.acknowledged.as_ref().map(|(by, _)| by.as_str());
        self.put_texts(&mut message, channel, by, (&[], 0));
        message
    }

    fn links(&self, incident: &Incident, channel: &NotifyChannel, now: UnixMs) -> Links {
        let settings = &self.notification.incident;
        let Some(url) = &settings.url else { return Links::default() };
        let until = now.saturating_add(ms(settings.acknowledge_link));
        let permission = Permission { incident: incident.id, started_at: incident.started_at, channel: channel.name.to_string() };
        let acknowledge = (incident.state == State::Open).then(|| format!("{url}/ack/{}", self.house.key.sign(&permission, until)));
        Links { incident: Some(format!("{url}/v1/incidents/{}", incident.id)), acknowledge }
    }

    /// A message that says that it is a test. Its key is another one each time, so that no channel takes it for a repeat.
    pub(super) fn sample(&self, name: &NotifyName, now: UnixMs) -> Option<Message> {
        let channel = self.notification.channels.get(name)?;
        let key = format!("{}.test.{now}.{name}", self.house.node);
        let sample = crate::message::sample(&key, now);
        let mut message = Message { incident: format!("test-{now}"), node: self.house.node.clone(), texts: BTreeMap::new(), ..sample };
        self.put_texts(&mut message, channel, None, (&[], 0));
        Some(message)
    }

    /// In each language that the channel, its recipients or its fallbacks may need.
    fn put_texts(&self, message: &mut Message, channel: &NotifyChannel, acknowledged_by: Option<&str>, digest: (&[DigestLine], u64)) {
        let mut languages: BTreeSet<Language> = BTreeSet::new();
        let mut next = Some(channel);
        while let Some(channel) = next {
            languages.insert(channel.language);
            if let ChannelKind::Email(email) = &channel.kind {
                languages.extend(email.to.iter().filter_map(|recipient| recipient.language));
            }
            // The file has no circles of fallbacks.
            next = channel.fallback.as_ref().and_then(|name| self.notification.channels.get(name)).map(|channel| &**channel);
        }
        let source = text::Source { message, acknowledged_by, digest };
        let texts = languages.iter().map(|language| (language.tag().to_owned(), text::render(&source, channel, *language))).collect();
        message.texts = texts;
    }

    /// The minute is over: one message for all that waited.
    pub(super) fn end_storm(&mut self, name: &str, now: UnixMs) {
        let Some(storm) = self.storms.get_mut(name) else { return };
        let told = storm.end(now);
        let kept = storm.clone();
        let channel = self.notification.channels.get(&NotifyName::from(name)).cloned();
        match (channel, told.only) {
            (None, _) => drop(self.storms.remove(name)),
            (Some(channel), Some(message)) => self.outputs.push(Output::Tell(channel.name.clone(), message)),
            (Some(channel), None) => {
                let message = self.digest(&channel, &told.waiting, told.more, (told.since, now));
                self.outputs.push(Output::Tell(channel.name.clone(), Box::new(message)));
            }
        }
        self.outputs.push(Output::Storm(name.to_owned(), kept));
    }

    fn digest(&self, channel: &NotifyChannel, waiting: &[Waiting], more: u64, (since, now): (UnixMs, UnixMs)) -> Message {
        let line = |waiting: &Waiting| DigestLine { state: waiting.state, severity: waiting.severity, alarm: waiting.alarm.clone() };
        let lines: Vec<DigestLine> = waiting.iter().map(line).collect();
        let url = self.notification.incident.url.as_ref();
        let mut message = Message {
            key: format!("{}.digest.{since}.{}", self.house.node, channel.name),
            incident: format!("digest-{since}"),
            sequence: 1,
            kind: Kind::Digest,
            severity: lines.iter().map(|line| line.severity).max().unwrap_or_default(),
            state: State::Open,
            labels: BTreeMap::new(),
            alarms: waiting.iter().filter_map(|waiting| waiting.alarm.clone()).collect(),
            texts: BTreeMap::new(),
            links: Links { incident: url.map(|url| format!("{url}/v1/incidents")), acknowledge: None },
            recovery: Vec::new(),
            series: None,
            started_at: since,
            at: now,
            resolved_at: None,
            node: self.house.node.clone(),
            reference: None,
            attempt: 1,
        };
        self.put_texts(&mut message, channel, None, (&lines, more));
        message
    }
}

/// What a channel is to be told, were there no quiet hours.
fn verdict(incident: &Incident, told: &Told, name: &NotifyName, view: &View<'_>) -> Verdict {
    let worse = incident.severity as u8 > told.severity;
    match (incident.state, told.state) {
        (State::Resolved, Some(State::Resolved)) => Verdict::Nothing,
        // What was healed before anybody was told is one message.
        (State::Resolved, None) if view.healed && view.wanted.contains(name) => Verdict::Tell(Kind::Resolved),
        // Who was told of nothing is not told of its end.
        (State::Resolved, None) => Verdict::Nothing,
        (State::Resolved, _) if view.rule.is_none_or(|rule| rule.resolved) => Verdict::Tell(Kind::Resolved),
        (State::Acknowledged, Some(State::Open)) => Verdict::Tell(Kind::Acknowledged),
        (State::Acknowledged, Some(_)) if worse && !view.silenced => Verdict::Tell(Kind::Updated),
        (State::Resolved | State::Acknowledged, _) => Verdict::Nothing,
        (State::Open, _) if view.silenced || !view.wanted.contains(name) => Verdict::Nothing,
        (State::Open, None) => Verdict::Tell(Kind::Opened),
        (State::Open, Some(_)) if worse => Verdict::Tell(Kind::Updated),
        (State::Open, Some(_)) => again(told, name, view),
    }
}

/// An update or a repeat, when its time has come.
fn again(told: &Told, name: &NotifyName, view: &View<'_>) -> Verdict {
    let Some(rule) = view.rule else { return Verdict::Nothing };
    let update_at = told.at.saturating_add(ms(rule.update_interval));
    let repeat_at = (!rule.repeat.is_zero()).then(|| told.at.saturating_add(ms(rule.repeat)));
    let changed = told.seen != view.seen;
    if changed && update_at <= view.now {
        Verdict::Tell(Kind::Updated)
    } else if repeat_at.is_some_and(|at| at <= view.now) || (view.reminded.contains(name) && update_at <= view.now) {
        Verdict::Tell(Kind::Repeated)
    } else {
        let update_at = changed.then_some(update_at);
        update_at.into_iter().chain(repeat_at).min().map_or(Verdict::Nothing, Verdict::Later)
    }
}

fn verdict_after(incident: &Incident, name: &NotifyName, view: &View<'_>) -> Verdict {
    match (incident.state, incident.told.get(&*name.0)) {
        (State::Open, Some(told)) => again(told, name, view),
        _ => Verdict::Nothing,
    }
}

/// Until when a channel is to be left in peace with this incident.
fn quiet_until(channel: &NotifyChannel, incident: &Incident, now: UnixMs) -> Option<UnixMs> {
    let quiet = channel.quiet.as_ref().filter(|quiet| incident.severity < quiet.severity)?;
    if !schedule::is_within(&quiet.window, &channel.time_zone, now) {
        return None;
    }
    schedule::next_change(&quiet.window, &channel.time_zone, now)
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// FNV-1a: equal over restarts and versions, and nothing that an attacker could gain by a collision.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().chain(&[0]).fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
