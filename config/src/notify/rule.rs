//! `[[notify_rule]]`, `[escalation.NAME]` and `[[inhibit]]`

use std::time::Duration;

use super::check::{Mentions, Target};
use super::matcher::{Matcher, MatcherTest, in_words, matchers};
use super::names::{EscalationName, NotifyName, OncallName};
use super::window::{SEVERITIES, severity};
use super::{tables, texts};
use crate::error::Problem;
use crate::reader::{Named, Table};
use crate::settings::{NONE, Setting};
use crate::severity::Severity;
use crate::spec::{Key, Keys, Kind};
use crate::units::format_duration;

/// Steps of one chain.
const STEPS_MAX: usize = 20;

/// Who is told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recipients {
    /// `notify`: channels.
    pub channels: Vec<NotifyName>,
    /// `oncall`: whoever is on call.
    pub oncall: Vec<OncallName>,
}

/// `[[notify_rule]]`: who is told what. The first rule that matches an alarm decides.
#[derive(Clone, PartialEq, Debug)]
pub struct NotifyRule {
    /// `match`: all must hold; empty: every alarm.
    pub matchers: Vec<Matcher>,
    /// `severity`: only this and worse. Default info: all.
    pub severity: Severity,
    /// Who is told at once.
    pub recipients: Recipients,
    /// `escalation`: who is told later.
    pub escalation: Option<EscalationName>,
    /// `group_by`: alarms with equal values of these labels are one incident; empty: each alarm is one of its own.
    pub group_by: Vec<String>,
    /// `group_wait`: how long a new incident waits for more alarms. Default 0.
    pub group_wait: Duration,
    /// `update_interval`: the least time between two messages about changes. Default 1 min.
    pub update_interval: Duration,
    /// `repeat`: how often what nobody acknowledged is told again; zero: never. Default 4 h.
    pub repeat: Duration,
    /// `resolved`: whether the end is told. Default true.
    pub resolved: bool,
    /// `healed`: whether it is told when recovery has ended something before anybody was told of it. Default true.
    pub healed: bool,
}

/// `[escalation.NAME]`: who is told when nobody reacts.
#[derive(Clone, PartialEq, Debug)]
pub struct Escalation {
    /// The table's name.
    pub name: EscalationName,
    /// `[[escalation.NAME.step]]`, in the order of their times; never empty.
    pub steps: Vec<EscalationStep>,
    /// `rounds`: how often all steps are gone through. Default 1.
    pub rounds: u32,
}

/// `[[escalation.NAME.step]]`
#[derive(Clone, PartialEq, Debug)]
pub struct EscalationStep {
    /// `after`: since the beginning of the round.
    pub after: Duration,
    /// Who is told.
    pub recipients: Recipients,
}

/// `[[inhibit]]`: alarms that are not told while another one is active.
#[derive(Clone, PartialEq, Debug)]
pub struct Inhibition {
    /// `source`: the alarm that explains the others.
    pub source: Vec<Matcher>,
    /// `target`: the alarms that are not told meanwhile.
    pub target: Vec<Matcher>,
    /// `equal`: labels that both must have in common.
    pub equal: Vec<String>,
}

const NOTIFY_KEY: Key = Key { example: "[\"ops-mail\"]", ..Key::new("notify", Kind::TextOrTexts, "The channels that are told.") };
const ONCALL_KEY: Key =
    Key { example: "[\"team\"]", ..Key::new("oncall", Kind::TextOrTexts, "Whoever is on call in these schedules is told.") };

pub(super) static RULE: Keys = Keys {
    place: "[[notify_rule]]",
    about: "Who is told what. The first rule that matches an alarm decides; an alarm that none matches is told to nobody.",
    keys: &[
        Key {
            example: "[\"pool=web\", \"vm=~web-.*\"]",
            ..Key::new(
                "match",
                Kind::Texts,
                "Conditions on the alarm's labels, all of which must hold: label=value, !=, =~ or !~. Absent: every alarm.",
            )
        },
        Key::choice("severity", SEVERITIES, "Only this and worse.").default("info"),
        NOTIFY_KEY,
        ONCALL_KEY,
        Key::text("escalation", "\"night\"", "The chain that is gone through until somebody acknowledges or the alarms are over."),
        Key {
            example: "[\"pool\"]",
            ..Key::new(
                "group_by",
                Kind::TextOrTexts,
                "Alarms with equal values of these labels are one incident. Absent: each alarm is one.",
            )
        },
        Key::time("group_wait", "\"10s\"", "How long a new incident waits for more alarms before it is told.")
            .zero("not at all")
            .default("0s"),
        Key::time("update_interval", "\"1m\"", "The least time between two messages about changes of an incident.").default("1m"),
        Key::time("repeat", "\"4h\"", "How often what nobody acknowledged is told again.").zero("never").default("4h"),
        Key::flag("resolved", "true", "Tell the end, too."),
        Key::flag("healed", "true", "Tell, in one message, what a [recovery.NAME] has healed before anybody was told of it."),
    ],
};

pub(super) static ESCALATION: Keys = Keys {
    place: "[escalation.NAME]",
    about: "Who is told when nobody reacts.",
    keys: &[
        Key::count("rounds", 1, 100, "3", "How often all steps are gone through; each round begins after the last step has waited for as long as the first one did, and for a minute at least.")
            .default("1"),
        Key::new("step", Kind::Tables(&STEP), "The steps, each written as [[escalation.NAME.step]].").required(),
    ],
};

static STEP: Keys = Keys {
    place: "[[escalation.NAME.step]]",
    about: "Who is told after how long.",
    keys: &[
        Key::time("after", "\"15m\"", "Since the beginning, unless somebody has acknowledged.").zero("at once").default("0s"),
        NOTIFY_KEY,
        ONCALL_KEY,
    ],
};

pub(super) static INHIBIT: Keys = Keys {
    place: "[[inhibit]]",
    about: "While an alarm is active that explains others, these are not told.",
    keys: &[
        Key {
            example: "[\"alarm=host-lost\"]",
            ..Key::new("source", Kind::Texts, "Conditions on the labels of the alarm that explains the others.")
        }
        .required(),
        Key {
            example: "[\"vm=~.+\"]",
            ..Key::new("target", Kind::Texts, "Conditions on the labels of those that are not told meanwhile.")
        }
        .required(),
        Key { example: "[\"host\"]", ..Key::new("equal", Kind::TextOrTexts, "Labels that both have in common.") },
    ],
};

fn recipients(table: &Table<'_>, mentions: &mut Mentions) -> Recipients {
    let oncall = names(table, "oncall", Target::Oncall, mentions).iter().map(|name| OncallName::from(name.as_str())).collect();
    Recipients { channels: channels(table, mentions), oncall }
}

fn channels(table: &Table<'_>, mentions: &mut Mentions) -> Vec<NotifyName> {
    names(table, "notify", Target::Channel, mentions).iter().map(|name| NotifyName::from(name.as_str())).collect()
}

fn names(table: &Table<'_>, key: &str, target: Target, mentions: &mut Mentions) -> Vec<String> {
    let fields = table.field(key).map(|field| field.one_or_many()).unwrap_or_default();
    let mut found = Vec::new();
    for field in &fields {
        let Some(name) = field.text() else { continue };
        mentions.name(target, field.placed(name.to_owned()));
        found.push(name.to_owned());
    }
    found
}

/// Defaults of a rule, as its keys say them.
const UPDATE_INTERVAL: Duration = Duration::from_secs(60);
const REPEAT: Duration = Duration::from_secs(4 * 3600);

/// What an alarm says itself of who is told: as a rule for it alone, with the defaults of all rules.
pub(super) fn of_alarm(named: &Named<'_>, mentions: &mut Mentions) -> Option<NotifyRule> {
    let channels = channels(&named.table, mentions);
    (!channels.is_empty()).then(|| NotifyRule {
        matchers: vec![Matcher { label: "alarm".into(), test: MatcherTest::Is(named.name.into()) }],
        severity: Severity::Info,
        recipients: Recipients { channels, oncall: Vec::new() },
        escalation: None,
        group_by: Vec::new(),
        group_wait: Duration::ZERO,
        update_interval: UPDATE_INTERVAL,
        repeat: REPEAT,
        resolved: true,
        healed: true,
    })
}

pub(super) fn rule(table: &Table<'_>, mentions: &mut Mentions) -> NotifyRule {
    let recipients = recipients(table, mentions);
    let escalation = table.field("escalation").and_then(|field| {
        let name = field.text()?;
        mentions.name(Target::Escalation, field.placed(name.to_owned()));
        Some(EscalationName::from(name))
    });
    if !["notify", "oncall", "escalation"].iter().any(|key| table.has(key)) {
        let problem = Problem::new(table.span(), table.path(), "this rule tells nobody");
        table.report(
            problem.help("add `notify = [\"CHANNEL\"]`, `oncall` or `escalation`; a mute is written as [mute.NAME]").needs_whole_file(),
        );
    }
    NotifyRule {
        matchers: matchers(table, "match"),
        severity: severity(table, "severity").unwrap_or(Severity::Info),
        recipients,
        escalation,
        group_by: label_names(table, "group_by"),
        group_wait: table.time("group_wait").unwrap_or_default(),
        update_interval: table.time("update_interval").unwrap_or_default(),
        repeat: table.time("repeat").unwrap_or_default(),
        resolved: table.flag("resolved").unwrap_or(true),
        healed: table.flag("healed").unwrap_or(true),
    }
}

pub(super) fn escalation(named: &Named<'_>, mentions: &mut Mentions) -> Escalation {
    let table = &named.table;
    mentions.define(Target::Escalation, named.name);
    let written = tables(table, "step");
    let mut steps: Vec<EscalationStep> = Vec::new();
    for step in &written {
        let recipients = recipients(step, mentions);
        if !step.has("notify") && !step.has("oncall") {
            let problem = Problem::new(step.span(), step.path(), "this step tells nobody");
            step.report(problem.help("add `notify = [\"CHANNEL\"]` or `oncall = [\"SCHEDULE\"]`").needs_whole_file());
        }
        let after = step.time("after").unwrap_or_default();
        if let Some(last) = steps.last().filter(|last| after < last.after) {
            let before = format_duration(last.after);
            step.report(
                step.problem("after", format!("this step comes before the one above it, which is at {before}"))
                    .help("put the steps in order"),
            );
        }
        steps.push(EscalationStep { after, recipients });
    }
    if written.len() > STEPS_MAX || (written.is_empty() && table.has("step")) {
        table.report(table.problem("step", format!("a chain has 1 to {STEPS_MAX} steps")).needs_whole_file());
    }
    Escalation { name: named.name.into(), steps, rounds: table.count_u32("rounds").unwrap_or(1) }
}

pub(super) fn inhibition(table: &Table<'_>) -> Inhibition {
    Inhibition { source: matchers(table, "source"), target: matchers(table, "target"), equal: label_names(table, "equal") }
}

fn label_names(table: &Table<'_>, name: &str) -> Vec<String> {
    let found = texts(table, name);
    for label in &found {
        if label.is_empty() || label.len() > 64 || !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            table.report(table.problem(name, format!("{label:?} is not the name of a label")));
        }
    }
    found
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { NONE.into() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

pub(super) fn rule_settings(rule: &NotifyRule) -> Vec<Setting> {
    let NotifyRule { matchers, severity, recipients, escalation, group_by, group_wait, update_interval, repeat, resolved, healed } = rule;
    vec![
        ("match", in_words(matchers)),
        ("severity", severity.to_string()),
        ("notify", list(&recipients.channels)),
        ("oncall", list(&recipients.oncall)),
        ("escalation", escalation.as_ref().map_or(NONE.into(), ToString::to_string)),
        ("group_by", list(group_by)),
        ("group_wait", format_duration(*group_wait)),
        ("update_interval", format_duration(*update_interval)),
        ("repeat", format_duration(*repeat)),
        ("resolved", resolved.to_string()),
        ("healed", healed.to_string()),
    ]
}

pub(super) fn escalation_settings(escalation: &Escalation) -> Vec<Setting> {
    let Escalation { name: _, steps, rounds } = escalation;
    let step = |step: &EscalationStep| {
        let Recipients { channels, oncall } = &step.recipients;
        let names: Vec<String> =
            channels.iter().map(ToString::to_string).chain(oncall.iter().map(|name| format!("oncall {name}"))).collect();
        format!("{} {}", format_duration(step.after), names.join(", "))
    };
    vec![("step", steps.iter().map(step).collect::<Vec<_>>().join("; ")), ("rounds", rounds.to_string())]
}

pub(super) fn inhibition_settings(inhibition: &Inhibition) -> Vec<Setting> {
    let Inhibition { source, target, equal } = inhibition;
    vec![("source", in_words(source)), ("target", in_words(target)), ("equal", list(equal))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_names_channels_of_its_own() {
        let text = "[pool.web]\n[alarm.busy]\npool = \"web\"\nmetric = \"in-flight\"\nabove = 1\nnotify = [\"desk\"]\n\
                    [notify.desk.ticket_log]\npath = \"/t\"\n[notify.screen.console]\n[[notify_rule]]\nnotify = \"screen\"\n\
                    [[notify_rule]]\nnotify = \"screen\"\nseverity = \"critical\"\n";
        let config = crate::parse(text, "f").expect(text);
        let [rule] = &config.notification.alarm_rules[..] else { panic!("{:?}", config.notification.alarm_rules) };
        assert_eq!(rule.recipients.channels, [NotifyName::from("desk")]);
        let labels = |name: &str| [("alarm".to_owned(), name.to_owned())].into();
        assert!(rule.matchers.iter().all(|matcher| matcher.matches(&labels("busy"))));
        assert!(!rule.matchers.iter().all(|matcher| matcher.matches(&labels("idle"))));
        // What it says by default is what a rule says by default.
        let written = &config.notification.rules[0];
        assert_eq!((rule.update_interval, rule.repeat, rule.group_wait), (written.update_interval, written.repeat, written.group_wait));
        assert!(crate::parse(&text.replace("[\"desk\"]", "[\"desc\"]"), "f").is_err_and(|errors| errors.to_string().contains("desk")));
    }
}
