//! `[mute.NAME]`: when what is not told.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::matcher::{Matcher, in_words, matchers};
use super::names::MuteName;
use super::oncall::date_time;
use super::window::{TimeOfDay, Weekdays, Window, time_of_day, time_zone, weekdays, zone_in_words};
use crate::error::Problem;
use crate::reader::{Named, Table};
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, Kind};

/// Alarms that are not told for a while. What is still active when it ends is told then.
#[derive(Clone, PartialEq, Debug)]
pub struct NotifyMute {
    /// The table's name.
    pub name: MuteName,
    /// `match`: all must hold; never empty.
    pub matchers: Vec<Matcher>,
    /// `time_zone`: of all its times. Default UTC.
    pub time_zone: TimeZone,
    /// `from`, `until` and `days`; absent: always.
    pub window: Option<Window>,
    /// `begin`: not before.
    pub begin: Option<DateTime>,
    /// `end`: not after.
    pub end: Option<DateTime>,
}

pub(super) static MUTE: Keys = Keys {
    place: "[mute.NAME]",
    about: "Alarms that are not told for a while. What is still active when it ends is told then.",
    keys: &[
        Key { example: "[\"host=kvm-a\"]", ..Key::new("match", Kind::Texts, "Conditions on the alarm's labels, all of which must hold.") }
            .required(),
        Key::text("time_zone", "\"Asia/Seoul\"", "The zone of all its times; absent: UTC."),
        Key::text("from", "\"01:00\"", "When it begins each day; absent: whole days."),
        Key::text("until", "\"03:00\"", "When it ends; before `from`: on the next day."),
        Key {
            example: "[\"sat\", \"sun\"]",
            ..Key::new("days", Kind::TextOrTexts, "On which days it begins: mon, tue, wed, thu, fri, sat, sun; absent: all.")
        },
        Key::text("begin", "\"2026-03-01T20:00\"", "Not before this local date and time."),
        Key::text("end", "\"2026-03-02T04:00\"", "Not after this local date and time."),
    ],
};

pub(super) fn mute(named: &Named<'_>) -> NotifyMute {
    let table = &named.table;
    let (from, until) = (time_of_day(table, "from"), time_of_day(table, "until"));
    for (one, other) in [("from", "until"), ("until", "from")] {
        if table.has(one) && !table.has(other) {
            let problem = table.problem(one, format!("`{one}` needs `{other}`"));
            table.report(problem.help(format!("add `{other} = \"03:00\"`")).needs_whole_file());
        }
    }
    let (begin, end) = (optional_date_time(table, "begin"), optional_date_time(table, "end"));
    if let (Some(begin), Some(end)) = (begin, end)
        && end <= begin
    {
        table.report(table.problem("end", "it ends before it begins"));
    }
    let matchers = matchers(table, "match");
    if matchers.is_empty() && table.has("match") {
        let problem = Problem::new(table.span_of("match"), table.path_of("match"), "`match` is empty: everything would be muted");
        table.report(problem.help("if that is meant, write `match = [\"alarm=~.*\"]`").needs_whole_file());
    }
    let window = (from.is_some() || table.has("days")).then(|| Window {
        from: from.unwrap_or(TimeOfDay::MIDNIGHT),
        until: until.unwrap_or(TimeOfDay::MIDNIGHT),
        days: weekdays(table),
    });
    NotifyMute { name: named.name.into(), matchers, time_zone: time_zone(table), window, begin, end }
}

fn optional_date_time(table: &Table<'_>, name: &str) -> Option<DateTime> {
    table.has(name).then(|| date_time(table, name)).flatten()
}

pub(super) fn settings(mute: &NotifyMute) -> Vec<Setting> {
    let NotifyMute { name: _, matchers, time_zone, window, begin, end } = mute;
    let date = |date: &Option<DateTime>| date.map_or(NONE.into(), |date| date.to_string());
    let (from, until, days) = match window {
        Some(Window { from, until, days }) => (from.to_string(), until.to_string(), days.to_string()),
        None => (NONE.into(), NONE.into(), Weekdays::ALL.to_string()),
    };
    vec![
        ("match", in_words(matchers)),
        ("time_zone", zone_in_words(time_zone)),
        ("from", from),
        ("until", until),
        ("days", days),
        ("begin", date(begin)),
        ("end", date(end)),
    ]
}
