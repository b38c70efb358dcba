//! What a reload changes about telling people.

use std::fmt;

use super::{Notification, channel, incident, mute, oncall, rule};
use crate::settings::Setting;

/// A table of this room, as it is called in a line of a diff.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NotificationPlace(String);

impl fmt::Display for NotificationPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table with its settings before and after; `None`: it is not there.
pub(crate) type Compared = (NotificationPlace, Option<Vec<Setting>>, Option<Vec<Setting>>);

/// Every table that is there before or after.
pub(crate) fn diff(old: &Notification, new: &Notification) -> Vec<Compared> {
    let (old, new) = (tables(old), tables(new));
    let mut names: Vec<&String> = old.iter().map(|(name, _)| name).collect();
    names.extend(new.iter().map(|(name, _)| name).filter(|name| !old.iter().any(|(other, _)| other == *name)));
    let find = |tables: &[(String, Vec<Setting>)], name: &str| {
        tables.iter().find(|(other, _)| other == name).map(|(_, settings)| settings.clone())
    };
    names.into_iter().map(|name| (NotificationPlace(name.clone()), find(&old, name), find(&new, name))).collect()
}

fn tables(notification: &Notification) -> Vec<(String, Vec<Setting>)> {
    let Notification { channels, rules, escalations, oncalls, mutes, inhibitions, incident, alarm_rules: _ } = notification;
    let mut tables: Vec<(String, Vec<Setting>)> = Vec::new();
    tables.extend(channels.values().map(|one| (format!("notify {}", one.name), channel::settings(one))));
    tables.extend(rules.iter().enumerate().map(|(at, one)| (format!("notify_rule {}", at + 1), rule::rule_settings(one))));
    tables.extend(escalations.values().map(|one| (format!("escalation {}", one.name), rule::escalation_settings(one))));
    tables.extend(oncalls.values().map(|one| (format!("oncall {}", one.name), oncall::settings(one))));
    tables.extend(mutes.values().map(|one| (format!("mute {}", one.name), mute::settings(one))));
    tables.extend(inhibitions.iter().enumerate().map(|(at, one)| (format!("inhibit {}", at + 1), rule::inhibition_settings(one))));
    tables.push(("incident".into(), incident::settings(incident)));
    tables
}
