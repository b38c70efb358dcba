//! `[oncall.NAME]`: who is on call when.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::check::{Mentions, Target};
use super::names::{NotifyName, OncallName};
use super::tables;
use super::window::{time_zone, zone_in_words};
use crate::error::Problem;
use crate::names::nearest;
use crate::reader::{Named, Table};
use crate::settings::Setting;
use crate::spec::{Key, Keys, Kind};

/// Members and overrides of one schedule.
const MEMBERS_MAX: usize = 200;

/// One schedule.
#[derive(Clone, PartialEq, Debug)]
pub struct Oncall {
    /// The table's name.
    pub name: OncallName,
    /// `time_zone`: of all its times. Default UTC.
    pub time_zone: TimeZone,
    /// `start`: when the first member's first shift begins; before it, whoever would be by counting back.
    pub start: DateTime,
    /// `shift_days` or `shift_hours`. Default 7 days.
    pub shift: Shift,
    /// `[[oncall.NAME.member]]`, in the order of their shifts; never empty.
    pub members: Vec<OncallMember>,
    /// `[[oncall.NAME.override]]`; the last that holds wins.
    pub overrides: Vec<OncallOverride>,
}

/// How long a member is on call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shift {
    /// Days of the calendar: the change is always at the same time of day.
    Days(u32),
    /// Hours that pass.
    Hours(u32),
}

/// One who takes turns.
#[derive(Clone, PartialEq, Debug)]
pub struct OncallMember {
    /// `name`
    pub name: String,
    /// `notify`: the channels that reach this member; never empty.
    pub channels: Vec<NotifyName>,
}

/// A stand-in.
#[derive(Clone, PartialEq, Debug)]
pub struct OncallOverride {
    /// `from`
    pub from: DateTime,
    /// `until`: later than `from`.
    pub until: DateTime,
    /// `member`: an index into the members.
    pub member: usize,
}

pub(super) static ONCALL: Keys = Keys {
    place: "[oncall.NAME]",
    about: "Who is on call when: members take turns.",
    keys: &[
        Key::text("time_zone", "\"Asia/Seoul\"", "The zone of all its times; absent: UTC."),
        Key::text("start", "\"2026-01-05T09:00\"", "When the first member's first shift begins, a local date and time.").required(),
        Key::count("shift_days", 1, 366, "7", "How long a shift is, in days of the calendar; absent: 7, unless shift_hours is given."),
        Key::count("shift_hours", 1, 8784, "12", "How long a shift is, in hours that pass."),
        Key::new("member", Kind::Tables(&MEMBER), "Who takes turns, each written as [[oncall.NAME.member]].").required(),
        Key::new("override", Kind::Tables(&OVERRIDE), "Who stands in, each written as [[oncall.NAME.override]]; the last that holds wins."),
    ],
};

static MEMBER: Keys = Keys {
    place: "[[oncall.NAME.member]]",
    about: "One who takes turns.",
    keys: &[
        Key::text("name", "\"kim\"", "Who.").required(),
        Key { example: "[\"kim-mail\", \"kim-phone\"]", ..Key::new("notify", Kind::TextOrTexts, "The channels that reach this member.") }
            .required(),
    ],
};

static OVERRIDE: Keys = Keys {
    place: "[[oncall.NAME.override]]",
    about: "Who stands in for the others.",
    keys: &[
        Key::text("from", "\"2026-12-24T09:00\"", "When it begins, a local date and time.").required(),
        Key::text("until", "\"2026-12-27T09:00\"", "When it ends.").required(),
        Key::text("member", "\"lee\"", "Who is on call then.").required(),
    ],
};

pub(super) fn oncall(named: &Named<'_>, mentions: &mut Mentions) -> Option<Oncall> {
    let table = &named.table;
    mentions.define(Target::Oncall, named.name);
    if table.has("shift_days") && table.has("shift_hours") {
        let problem =
            Problem::new(table.key_span("shift_hours"), table.path_of("shift_hours"), "a shift is given in days or in hours, not both");
        table.report(problem.note(table.key_span("shift_days"), "the days are given here").needs_whole_file());
    }
    let shift = match table.count_u32("shift_hours") {
        Some(hours) => Shift::Hours(hours),
        None => Shift::Days(table.count_u32("shift_days").unwrap_or(7)),
    };
    let written = tables(table, "member");
    let members: Vec<OncallMember> = written.iter().filter_map(|table| member(table, mentions)).collect();
    if written.len() > MEMBERS_MAX || (written.is_empty() && table.has("member")) {
        table.report(table.problem("member", format!("a schedule has 1 to {MEMBERS_MAX} members")).needs_whole_file());
    }
    for (at, member) in members.iter().enumerate() {
        if members[..at].iter().any(|other| other.name == member.name) {
            table.report(table.problem("member", format!("{:?} is a member twice", member.name)));
        }
    }
    let written = tables(table, "override");
    if written.len() > MEMBERS_MAX {
        table.report(table.problem("override", format!("a schedule has at most {MEMBERS_MAX} overrides")));
    }
    let overrides = written.iter().filter_map(|table| stand_in(table, &members)).collect();
    let (time_zone, start) = (time_zone(table), date_time(table, "start"));
    let start = start?;
    (!members.is_empty()).then(|| Oncall { name: named.name.into(), time_zone, start, shift, members, overrides })
}

fn member(table: &Table<'_>, mentions: &mut Mentions) -> Option<OncallMember> {
    let fields = table.field("notify").map(|field| field.one_or_many()).unwrap_or_default();
    let mut channels = Vec::new();
    for field in &fields {
        let Some(name) = field.text() else { continue };
        mentions.name(Target::Channel, field.placed(name.to_owned()));
        channels.push(NotifyName::from(name));
    }
    let field = table.field("name")?;
    let name = field.text()?;
    let good = !name.is_empty() && name.chars().count() <= 64 && !name.chars().any(char::is_control);
    let name =
        field.checked(if good { Ok(name.to_owned()) } else { Err("a member's name has 1 to 64 printable characters".to_owned()) })?;
    Some(OncallMember { name, channels })
}

fn stand_in(table: &Table<'_>, members: &[OncallMember]) -> Option<OncallOverride> {
    let (from, until) = (date_time(table, "from"), date_time(table, "until"));
    let field = table.field("member")?;
    let name = field.text()?;
    let member = members.iter().position(|member| member.name == name).ok_or_else(|| {
        match nearest(name, members.iter().map(|member| member.name.as_str())) {
            Some(near) => format!("there is no member {name:?}; did you mean {near:?}?"),
            None => format!("there is no member {name:?}"),
        }
    });
    let member = field.checked(member);
    let (from, until) = (from?, until?);
    if until <= from {
        table.report(table.problem("until", "it ends before it begins"));
    }
    Some(OncallOverride { from, until, member: member? })
}

/// A date and a time of day, without a zone.
pub(super) fn date_time(table: &Table<'_>, name: &str) -> Option<DateTime> {
    let field = table.field(name)?;
    let text = field.text()?;
    let has_zone = text.ends_with(['Z', 'z']) || text.contains(['+', '[']) || text.matches('-').count() != 2;
    let parsed = if has_zone { None } else { text.parse::<DateTime>().ok() };
    field.checked(parsed.ok_or_else(|| format!("{text:?} is not a local date and time; write it as \"2026-01-05T09:00\"")))
}

pub(super) fn settings(oncall: &Oncall) -> Vec<Setting> {
    let Oncall { name: _, time_zone, start, shift, members, overrides } = oncall;
    let member = |member: &OncallMember| {
        let channels: Vec<String> = member.channels.iter().map(ToString::to_string).collect();
        format!("{} by {}", member.name, channels.join(", "))
    };
    let stand_in = |stand_in: &OncallOverride| {
        let name = members.get(stand_in.member).map_or("", |member| member.name.as_str());
        format!("{name} from {} until {}", stand_in.from, stand_in.until)
    };
    let none = |list: String| if list.is_empty() { crate::settings::NONE.to_owned() } else { list };
    vec![
        ("time_zone", zone_in_words(time_zone)),
        ("start", start.to_string()),
        (
            "shift",
            match shift {
                Shift::Days(days) => format!("{days} days"),
                Shift::Hours(hours) => format!("{hours} hours"),
            },
        ),
        ("member", members.iter().map(member).collect::<Vec<_>>().join("; ")),
        ("override", none(overrides.iter().map(stand_in).collect::<Vec<_>>().join("; "))),
    ]
}
