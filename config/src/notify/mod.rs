//! Telling people: channels, who is told what, on-call, and when not to tell.
//!
//! This room holds keys, model, reading and words of its tables together, one file for each:
//!
//! - `channel`: `[notify.NAME]`, and one file for each kind of channel below it: `email`, `webhook`, `sms`,
//!   `smpp`, `snmp`, `ticket`, `script`, `console`, `ticket_log`. `http`, `server`, `body`, `phone`: what several of them have in common.
//! - `rule`: `[[notify_rule]]`, `[escalation.NAME]`, `[[inhibit]]`. `oncall`: `[oncall.NAME]`. `mute`: `[mute.NAME]`. `incident`: `[incident]`.
//! - `template`, `language`: texts. `matcher`: which alarms are meant. `window`: times of day. `names`, `secret`: what several need.
//! - `check`: names that lead nowhere, and circles. `diff`: what a reload changes.

mod body;
mod channel;
mod check;
mod console;
mod diff;
mod email;
mod http;
mod incident;
mod language;
mod matcher;
mod mute;
mod names;
mod oncall;
mod phone;
mod rule;
mod script;
mod secret;
mod server;
mod smpp;
mod sms;
mod snmp;
mod template;
mod ticket;
mod ticket_log;
mod webhook;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use body::{BODY_FIELDS, BodySyntax, BodyTemplate, percent_encoded};
pub use channel::{ChannelKind, NotifyChannel};
pub use console::ConsoleChannel;
pub use email::{EmailChannel, MailSecurity, Recipient};
pub use http::{HttpAddress, HttpLogin, HttpUrl};
pub use incident::IncidentSettings;
pub use language::Language;
pub use matcher::{Matcher, MatcherTest};
pub use mute::NotifyMute;
pub use names::{EscalationName, MuteName, NotifyName, OncallName};
pub use oncall::{Oncall, OncallMember, OncallOverride, Shift};
pub use rule::{Escalation, EscalationStep, Inhibition, NotifyRule, Recipients};
pub use script::ScriptChannel;
pub use smpp::SmppChannel;
pub use sms::{OwnGateway, SMS_FIELDS, SmsChannel, SmsGateway};
pub use snmp::{SnmpArc, SnmpAuth, SnmpChannel, SnmpUser, SnmpVersion};
pub use template::{ALARM_FIELDS, Piece, TEXT_FIELDS, TextTemplate};
pub use ticket::{TicketChannel, TicketStyle};
pub use ticket_log::TicketLogChannel;
pub use webhook::{WebhookBody, WebhookChannel};
pub use window::{Quiet, TimeOfDay, Weekdays, Window};

pub(crate) use diff::{NotificationPlace, diff};

use crate::reader::Table;
use crate::spec::{Key, Kind};

/// Everything about telling people.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Notification {
    /// `[notify.NAME]`
    pub channels: BTreeMap<NotifyName, Arc<NotifyChannel>>,
    /// `[[notify_rule]]`, in the order of the file.
    pub rules: Vec<NotifyRule>,
    /// What alarms say themselves: `notify` of `[alarm.NAME]`. Asked before the rules.
    pub alarm_rules: Vec<NotifyRule>,
    /// `[escalation.NAME]`
    pub escalations: BTreeMap<EscalationName, Arc<Escalation>>,
    /// `[oncall.NAME]`
    pub oncalls: BTreeMap<OncallName, Arc<Oncall>>,
    /// `[mute.NAME]`
    pub mutes: BTreeMap<MuteName, Arc<NotifyMute>>,
    /// `[[inhibit]]`
    pub inhibitions: Vec<Inhibition>,
    /// `[incident]`
    pub incident: IncidentSettings,
}

/// The keys of the top level that belong to this room.
pub(crate) const NOTIFY_KEY: Key =
    Key::new("notify", Kind::NamedTables(&channel::NOTIFY), "Ways to reach people by name, each written as [notify.NAME].");
pub(crate) const RULE_KEY: Key =
    Key::new("notify_rule", Kind::Tables(&rule::RULE), "Who is told what, each written as [[notify_rule]]; the first match wins.");
pub(crate) const ESCALATION_KEY: Key =
    Key::new("escalation", Kind::NamedTables(&rule::ESCALATION), "Who is told when nobody reacts, each written as [escalation.NAME].");
pub(crate) const ONCALL_KEY: Key =
    Key::new("oncall", Kind::NamedTables(&oncall::ONCALL), "Who is on call when, each written as [oncall.NAME].");
pub(crate) const MUTE_KEY: Key = Key::new("mute", Kind::NamedTables(&mute::MUTE), "When what is not told, each written as [mute.NAME].");
pub(crate) const INHIBIT_KEY: Key =
    Key::new("inhibit", Kind::Tables(&rule::INHIBIT), "Alarms that are not told while another is active, each written as [[inhibit]].");
pub(crate) const INCIDENT_KEY: Key = Key::new("incident", Kind::Table(&incident::INCIDENT), "Settings of all incidents.");

/// Reads all of it.
pub(crate) fn notification(root: &Table<'_>) -> Notification {
    let mut mentions = check::Mentions::default();
    let channels: Vec<NotifyChannel> = root.named("notify").iter().filter_map(|named| channel::channel(named, &mut mentions)).collect();
    let rules = tables(root, "notify_rule").iter().map(|table| rule::rule(table, &mut mentions)).collect();
    let alarm_rules = root.named("alarm").iter().filter_map(|named| rule::of_alarm(named, &mut mentions)).collect();
    let escalations: Vec<Escalation> = root.named("escalation").iter().map(|named| rule::escalation(named, &mut mentions)).collect();
    let oncalls: Vec<Oncall> = root.named("oncall").iter().filter_map(|named| oncall::oncall(named, &mut mentions)).collect();
    let mutes: Vec<NotifyMute> = root.named("mute").iter().map(mute::mute).collect();
    let inhibitions = tables(root, "inhibit").iter().map(rule::inhibition).collect();
    check::mentions(root, &mentions);
    Notification {
        channels: channels.into_iter().map(|channel| (channel.name.clone(), Arc::new(channel))).collect(),
        rules,
        alarm_rules,
        escalations: escalations.into_iter().map(|escalation| (escalation.name.clone(), Arc::new(escalation))).collect(),
        oncalls: oncalls.into_iter().map(|oncall| (oncall.name.clone(), Arc::new(oncall))).collect(),
        mutes: mutes.into_iter().map(|mute| (mute.name.clone(), Arc::new(mute))).collect(),
        inhibitions,
        incident: incident::incident(&root.table_or_empty("incident")),
    }
}

fn tables<'a>(table: &Table<'a>, name: &str) -> Vec<Table<'a>> {
    table.field(name).map(|field| field.tables()).unwrap_or_default()
}

/// Strings of a list, or the one that stands for a list.
fn texts(table: &Table<'_>, name: &str) -> Vec<String> {
    let fields = table.field(name).map(|field| field.one_or_many()).unwrap_or_default();
    fields.iter().filter_map(|field| field.text()).map(str::to_owned).collect()
}

/// Warnings of this room.
pub(crate) fn warnings(found: &mut Vec<String>, notification: &Notification) {
    check::warnings(found, notification);
}
