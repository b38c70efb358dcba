//! Names that lead nowhere, fallbacks in a circle, and what is likely not meant.

use std::collections::{BTreeMap, BTreeSet};

use super::Notification;
use super::names::NotifyName;
use crate::error::Problem;
use crate::names::nearest;
use crate::reader::{Placed, Table};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Channel,
    Oncall,
    Escalation,
}

impl Target {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Target::Channel => ("channel", "notify"),
            Target::Oncall => ("on-call schedule", "oncall"),
            Target::Escalation => ("escalation chain", "escalation"),
        }
    }
}

/// Names that are defined and names that are used.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    defined: BTreeSet<(Target, String)>,
    used: Vec<(Target, Placed<String>)>,
    fallbacks: BTreeMap<String, Placed<String>>,
}

impl Mentions {
    pub(super) fn define(&mut self, target: Target, name: &str) {
        self.defined.insert((target, name.to_owned()));
    }

    pub(super) fn name(&mut self, target: Target, name: Placed<String>) {
        self.used.push((target, name));
    }

    pub(super) fn fallback(&mut self, channel: &str, name: Placed<String>) {
        self.fallbacks.insert(channel.to_owned(), name.clone());
        self.name(Target::Channel, name);
    }
}

pub(super) fn mentions(root: &Table<'_>, mentions: &Mentions) {
    for (target, Placed { value: name, span, path }) in &mentions.used {
        if mentions.defined.contains(&(*target, name.clone())) {
            continue;
        }
        let (what, table) = target.words();
        let names: Vec<&str> = mentions.defined.iter().filter(|(kind, _)| kind == target).map(|(_, name)| name.as_str()).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if names.is_empty() => format!("there is none yet: add [{table}.{name}]"),
            None => format!("there are: {}{}", names[..names.len().min(10)].join(", "), if names.len() > 10 { ", ..." } else { "" }),
        };
        root.report(Problem::new(span.clone(), path, format!("there is no {what} {name:?}")).help(help).needs_whole_file());
    }
    // A message that no channel takes must end somewhere.
    for (channel, fallback) in &mentions.fallbacks {
        let mut seen = BTreeSet::from([channel.as_str()]);
        let mut at = fallback;
        while seen.insert(&at.value) {
            match mentions.fallbacks.get(&at.value) {
                Some(next) => at = next,
                None => break,
            }
        }
        if at.value == *channel {
            let Placed { span, path, .. } = fallback;
            root.report(
                Problem::new(span.clone(), path, format!("the fallbacks of channel {channel:?} lead back to it"))
                    .help("let the last one have none"),
            );
        }
    }
}

pub(super) fn warnings(found: &mut Vec<String>, notification: &Notification) {
    let Notification { channels, rules, alarm_rules, escalations, oncalls, .. } = notification;
    let mut used: BTreeSet<&NotifyName> = channels.values().filter_map(|channel| channel.fallback.as_ref()).collect();
    used.extend(rules.iter().chain(alarm_rules).flat_map(|rule| &rule.recipients.channels));
    used.extend(escalations.values().flat_map(|chain| &chain.steps).flat_map(|step| &step.recipients.channels));
    used.extend(oncalls.values().flat_map(|oncall| &oncall.members).flat_map(|member| &member.channels));
    for name in channels.keys().filter(|name| !used.contains(name)) {
        found.push(format!("channel {name} is told nothing: no rule, chain, schedule or fallback names it"));
    }
    for (name, _) in escalations.iter().filter(|(name, _)| !rules.iter().any(|rule| rule.escalation.as_ref() == Some(name))) {
        found.push(format!("escalation chain {name} is not used by any rule"));
    }
    for (at, rule) in rules.iter().enumerate() {
        let catches_all = |earlier: &&super::NotifyRule| earlier.matchers.is_empty() && earlier.severity <= rule.severity;
        if rules[..at].iter().any(|earlier| catches_all(&earlier)) {
            found.push(format!("notify_rule {} is never reached: a rule above it matches everything", at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_likely_not_meant_is_said() {
        let text = "[notify.a.console]\n[notify.b.console]\n[[notify_rule]]\nnotify = \"a\"\n[[notify_rule]]\nmatch = [\"x=y\"]\nnotify = \"a\"\n\
                    [escalation.e]\n[[escalation.e.step]]\nnotify = \"a\"\n";
        let config = crate::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let mut found = Vec::new();
        super::warnings(&mut found, &config.notification);
        let expected = [
            "channel b is told nothing: no rule, chain, schedule or fallback names it",
            "escalation chain e is not used by any rule",
            "notify_rule 2 is never reached: a rule above it matches everything",
        ];
        assert_eq!(found, expected);
    }
}
