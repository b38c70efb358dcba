//! `[notify.NAME]`: a way to reach people, of one kind.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::check::{Mentions, Target};
use super::console::{self, ConsoleChannel};
use super::email::{self, EmailChannel};
use super::language::{LANGUAGE_WORDS, Language};
use super::names::NotifyName;
use super::script::{self, ScriptChannel};
use super::smpp::{self, SmppChannel};
use super::sms::{self, SmsChannel};
use super::snmp::{self, SnmpChannel};
use super::template::{TEXT_FIELDS, TextTemplate};
use super::ticket::{self, TicketChannel};
use super::ticket_log::{self, TicketLogChannel};
use super::webhook::{self, WebhookChannel};
use super::window::{self, Quiet};
use crate::error::Problem;
use crate::reader::{Named, Table};
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, Kind};
use crate::units::format_duration;

/// A way to reach people.
#[derive(Clone, PartialEq, Debug)]
pub struct NotifyChannel {
    /// The table's name.
    pub name: NotifyName,
    /// How people are reached.
    pub kind: ChannelKind,
    /// `language`: of its texts. Default English.
    pub language: Language,
    /// `time_zone`: of times in its texts, and of its quiet hours. Default UTC.
    pub time_zone: TimeZone,
    /// `timeout`: of one attempt. Default 10 s.
    pub timeout: Duration,
    /// `backoff`: until the second attempt; each further one waits twice as long. Default 5 s.
    pub backoff: Duration,
    /// `backoff_max`: the longest wait between two attempts. Default 10 min.
    pub backoff_max: Duration,
    /// `give_up`: so long a message is attempted; then it is dead. Default 24 h.
    pub give_up: Duration,
    /// `messages_per_minute`: what is more becomes one digest; `None` (written 0): no bound. Default 30.
    pub messages_per_minute: Option<NonZeroU32>,
    /// `fallback`: the channel that is told when this one fails.
    pub fallback: Option<NotifyName>,
    /// `[notify.NAME.quiet]`
    pub quiet: Option<Quiet>,
    /// `title`: instead of the language's.
    pub title: Option<TextTemplate>,
    /// `text`: instead of the language's.
    pub text: Option<TextTemplate>,
}

/// How people are reached.
#[derive(Clone, PartialEq, Debug)]
pub enum ChannelKind {
    /// `[notify.NAME.email]`
    Email(EmailChannel),
    /// `[notify.NAME.webhook]`
    Webhook(Box<WebhookChannel>),
    /// `[notify.NAME.sms]`
    Sms(Box<SmsChannel>),
    /// `[notify.NAME.smpp]`
    Smpp(Box<SmppChannel>),
    /// `[notify.NAME.snmp]`
    Snmp(Box<SnmpChannel>),
    /// `[notify.NAME.ticket]`
    Ticket(Box<TicketChannel>),
    /// `[notify.NAME.script]`
    Script(ScriptChannel),
    /// `[notify.NAME.console]`
    Console(ConsoleChannel),
    /// `[notify.NAME.ticket_log]`
    TicketLog(TicketLogChannel),
}

impl ChannelKind {
    /// The name of its table.
    pub fn word(&self) -> &'static str {
        match self {
            ChannelKind::Email(_) => "email",
            ChannelKind::Webhook(_) => "webhook",
            ChannelKind::Sms(_) => "sms",
            ChannelKind::Snmp(_) => "snmp",
            ChannelKind::Smpp(_) => "smpp",
            ChannelKind::Ticket(_) => "ticket",
            ChannelKind::Script(_) => "script",
            ChannelKind::Console(_) => "console",
            ChannelKind::TicketLog(_) => "ticket_log",
        }
    }

    fn settings(&self) -> Vec<Setting> {
        match self {
            ChannelKind::Email(email) => email::settings(email),
            ChannelKind::Webhook(webhook) => webhook::settings(webhook),
            ChannelKind::Sms(sms) => sms::settings(sms),
            ChannelKind::Snmp(snmp) => snmp::settings(snmp),
            ChannelKind::Smpp(smpp) => smpp::settings(smpp),
            ChannelKind::Ticket(ticket) => ticket::settings(ticket),
            ChannelKind::Script(script) => script::settings(script),
            ChannelKind::Console(console) => console::settings(console),
            ChannelKind::TicketLog(log) => ticket_log::settings(log),
        }
    }
}

/// A table of which a channel has exactly one, and how it is read.
type Reader = (&'static str, fn(&Table<'_>) -> Option<ChannelKind>);

const KINDS: &[Reader] = &[
    ("email", |table| email::email(table).map(ChannelKind::Email)),
    ("webhook", |table| webhook::webhook(table).map(Box::new).map(ChannelKind::Webhook)),
    ("sms", |table| sms::sms(table).map(Box::new).map(ChannelKind::Sms)),
    ("smpp", |table| smpp::smpp(table).map(Box::new).map(ChannelKind::Smpp)),
    ("snmp", |table| snmp::snmp(table).map(Box::new).map(ChannelKind::Snmp)),
    ("ticket", |table| ticket::ticket(table).map(Box::new).map(ChannelKind::Ticket)),
    ("script", |table| script::script(table).map(ChannelKind::Script)),
    ("console", |table| Some(ChannelKind::Console(console::console(table)))),
    ("ticket_log", |table| ticket_log::ticket_log(table).map(ChannelKind::TicketLog)),
];

pub(super) static NOTIFY: Keys = Keys {
    place: "[notify.NAME]",
    about: "A way to reach people, of one kind: with exactly one table below it that says which.",
    keys: &[
        Key::new("email", Kind::Table(&email::EMAIL), "By e-mail."),
        Key::new("webhook", Kind::Table(&webhook::WEBHOOK), "By HTTP, as JSON of a known form or of your own."),
        Key::new("sms", Kind::Table(&sms::SMS), "By short message, through a gateway over HTTP."),
        Key::new("smpp", Kind::Table(&smpp::SMPP), "By short message, through a centre that speaks SMPP."),
        Key::new("snmp", Kind::Table(&snmp::SNMP), "By SNMP traps or informs."),
        Key::new("ticket", Kind::Table(&ticket::TICKET), "As tickets of Jira or Redmine."),
        Key::new("script", Kind::Table(&script::SCRIPT), "By a program of yours."),
        Key::new("console", Kind::Table(&console::CONSOLE), "On this machine: journal and terminals."),
        Key::new("ticket_log", Kind::Table(&ticket_log::TICKET_LOG), "As lines of a ticket log file."),
        Key::choice("language", LANGUAGE_WORDS, "The language of its texts.").default("en"),
        Key::text("time_zone", "\"Asia/Seoul\"", "The zone of times in its texts and of its quiet hours; absent: UTC."),
        Key::time("timeout", "\"10s\"", "How long one attempt may take.").at_least_ms(100).default("10s"),
        Key::time("backoff", "\"5s\"", "Until the second attempt; each further one waits twice as long.").at_least_ms(10).default("5s"),
        Key::time("backoff_max", "\"10m\"", "The longest wait between two attempts. At least backoff.").at_least_ms(10).default("10m"),
        Key::time("give_up", "\"24h\"", "So long a message is attempted; then it is a dead letter, which can be sent again by hand.")
            .default("24h"),
        Key::count("messages_per_minute", 1, 10_000, "30", "What is more becomes one digest.").zero("no bound").default("30"),
        Key::text("fallback", "\"pager\"", "The channel that is told when this one fails."),
        Key::new("quiet", Kind::Table(&window::QUIET), "Quiet hours. Without this table there are none."),
        Key::text("title", "\"${severity}: ${summary}\"", "The title instead of the language's own; fields are written as ${field}."),
        Key::text("text", "\"${summary} since ${started_at}\"", "The text instead of the language's own."),
    ],
};

/// Reads one; `None`: a problem was reported.
pub(super) fn channel(named: &Named<'_>, mentions: &mut Mentions) -> Option<NotifyChannel> {
    let table = &named.table;
    mentions.define(Target::Channel, named.name);
    let kind = kind(table, named.name);
    let backoff = table.time("backoff");
    let backoff_max = table.time("backoff_max");
    if let (Some(backoff), Some(max)) = (backoff, backoff_max)
        && backoff > max
    {
        let problem = table.problem("backoff", format!("`backoff` is longer than `backoff_max`, {}", format_duration(max)));
        table.report(problem.note(table.span_of("backoff_max"), "the longest wait").needs_whole_file());
    }
    let fallback = table.field("fallback").and_then(|field| {
        let name = field.text()?;
        mentions.fallback(named.name, field.placed(name.to_owned()));
        Some(NotifyName::from(name))
    });
    let template = |name: &str| {
        let field = table.field(name)?;
        field.checked(TextTemplate::parse(field.text()?, TEXT_FIELDS))
    };
    // All are read before any is missed, so that all errors are told.
    let language = table.choice("language").and_then(Language::find).unwrap_or(Language::ENGLISH);
    let time_zone = window::time_zone(table);
    let quiet = table.table("quiet").and_then(|table| window::quiet(&table));
    let (timeout, give_up) = (table.time("timeout").unwrap_or_default(), table.time("give_up").unwrap_or_default());
    let messages_per_minute = table.count_non_zero("messages_per_minute");
    let (title, text) = (template("title"), template("text"));
    Some(NotifyChannel {
        name: named.name.into(),
        kind: kind?,
        language,
        time_zone,
        timeout,
        backoff: backoff.unwrap_or_default(),
        backoff_max: backoff_max.unwrap_or_default(),
        give_up,
        messages_per_minute,
        fallback,
        quiet,
        title,
        text,
    })
}

fn kind(table: &Table<'_>, name: &str) -> Option<ChannelKind> {
    let written: Vec<_> = KINDS.iter().filter(|(key, _)| table.has(key)).collect();
    let read = |(key, read): &&Reader| table.table(key).and_then(|table| read(&table));
    // Each is read, so that all their errors are told.
    let mut kinds: Vec<Option<ChannelKind>> = written.iter().map(read).collect();
    match written.as_slice() {
        [] => {
            let problem = Problem::new(table.span(), table.path(), "a channel needs a table that says how people are reached");
            let all = KINDS.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
            table.report(problem.help(format!("add one of [notify.{name}.KIND]; the kinds are: {all}")).needs_whole_file());
            None
        }
        [_] => kinds.pop().flatten(),
        [(first, _), (second, _), ..] => {
            let problem = Problem::new(table.key_span(second), table.path_of(second), format!("this channel is {first} already"));
            let problem = problem.note(table.key_span(first), "a channel is of one kind").needs_whole_file();
            table.report(problem.help("make two channels and name both where people are told"));
            None
        }
    }
}

pub(super) fn settings(channel: &NotifyChannel) -> Vec<Setting> {
    let NotifyChannel {
        name: _,
        kind,
        language,
        time_zone,
        timeout,
        backoff,
        backoff_max,
        give_up,
        messages_per_minute,
        fallback,
        quiet,
        title,
        text,
    } = channel;
    let own =
        |template: &Option<TextTemplate>| template.as_ref().map_or(NONE.into(), |template| template.render(|name| format!("${{{name}}}")));
    let mut settings = vec![
        ("kind", kind.word().into()),
        ("language", language.tag().into()),
        ("time_zone", window::zone_in_words(time_zone)),
        ("timeout", format_duration(*timeout)),
        ("backoff", format_duration(*backoff)),
        ("backoff_max", format_duration(*backoff_max)),
        ("give_up", format_duration(*give_up)),
        ("messages_per_minute", messages_per_minute.map_or(NONE.into(), |count| count.to_string())),
        ("fallback", fallback.as_ref().map_or(NONE.into(), ToString::to_string)),
        ("quiet", quiet.as_ref().map_or(NONE.into(), |quiet| format!("{} below {}", quiet.window, quiet.severity))),
        ("title", own(title)),
        ("text", own(text)),
    ];
    settings.extend(kind.settings());
    settings
}
