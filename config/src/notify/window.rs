//! Times of day and days of the week, in a time zone.

use std::fmt;

use jiff::tz::TimeZone;

use crate::names::nearest;
use crate::reader::{Field, Table};
use crate::severity::Severity;
use crate::spec::{Key, Keys, Kind, Word, word};

/// Minutes since midnight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimeOfDay(u16);

/// A set of days of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weekdays(u8);

/// A time span that comes again. One that ends before it begins ends on the next day; the days are those of its beginning.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// Its first minute.
    pub from: TimeOfDay,
    /// The first minute after it; equal to `from`: the whole day.
    pub until: TimeOfDay,
    /// On which days it begins.
    pub days: Weekdays,
}

/// `[notify.NAME.quiet]`: what is not bad enough waits until the quiet hours are over.
#[derive(Clone, PartialEq, Debug)]
pub struct Quiet {
    /// When, in the channel's time zone.
    pub window: Window,
    /// This and worse is told all the same. Default critical.
    pub severity: Severity,
}

const DAYS: [(&str, &str); 7] = [
    ("mon", "Monday"),
    ("tue", "Tuesday"),
    ("wed", "Wednesday"),
    ("thu", "Thursday"),
    ("fri", "Friday"),
    ("sat", "Saturday"),
    ("sun", "Sunday"),
];

pub(super) const SEVERITIES: &[Word] =
    &[word("info", "worth knowing"), word("warning", "needs somebody within the working day"), word("critical", "needs somebody now")];

pub(super) static QUIET: Keys = Keys {
    place: "[notify.NAME.quiet]",
    about: "Hours in which only what is bad enough is told; the rest waits until they are over.",
    keys: &[
        Key::text("from", "\"22:00\"", "When they begin, in the channel's time zone.").required(),
        Key::text("until", "\"07:00\"", "When they end; before `from`: on the next day.").required(),
        Key {
            example: "[\"sat\", \"sun\"]",
            ..Key::new("days", Kind::TextOrTexts, "On which days they begin: mon, tue, wed, thu, fri, sat, sun; absent: all.")
        },
        Key::choice("severity", SEVERITIES, "This and worse is told all the same.").default("critical"),
    ],
};

impl TimeOfDay {
    /// The beginning of a day.
    pub const MIDNIGHT: TimeOfDay = TimeOfDay(0);

    /// Minutes since midnight, below 1440.
    pub fn minutes(self) -> u16 {
        self.0
    }

    fn parse(text: &str) -> Result<TimeOfDay, String> {
        let wrong = || format!("{text:?} is not a time of day; write hours and minutes, such as \"07:30\"");
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let digits = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u16>().ok()).flatten();
        match (digits(hours), digits(minutes)) {
            (Some(hours @ 0..=23), Some(minutes @ 0..=59)) => Ok(TimeOfDay(hours * 60 + minutes)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Weekdays {
    /// All seven.
    pub const ALL: Weekdays = Weekdays(0x7f);

    /// Whether the day is one of them; 0 is Monday.
    pub fn contains(self, day: u8) -> bool {
        day < 7 && self.0 & (1 << day) != 0
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Weekdays::ALL {
            return f.write_str("all");
        }
        let days: Vec<&str> = DAYS.iter().enumerate().filter(|(day, _)| self.contains(*day as u8)).map(|(_, (word, _))| *word).collect();
        f.write_str(&days.join(", "))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.until)?;
        if self.days == Weekdays::ALL { Ok(()) } else { write!(f, " on {}", self.days) }
    }
}

pub(super) fn time_of_day(table: &Table<'_>, name: &str) -> Option<TimeOfDay> {
    let field = table.field(name)?;
    field.checked(TimeOfDay::parse(field.text()?))
}

pub(super) fn weekdays(table: &Table<'_>) -> Weekdays {
    let Some(field) = table.field("days") else { return Weekdays::ALL };
    let day = |field: &Field<'_>| {
        let text = field.text()?;
        let found = DAYS.iter().position(|(word, _)| *word == text).ok_or_else(|| {
            let words = DAYS.iter().map(|(word, _)| *word);
            match nearest(text, words.clone()) {
                Some(near) => format!("{text:?} is not a day; did you mean {near:?}?"),
                None => format!("{text:?} is not a day; the days are {}", words.collect::<Vec<_>>().join(", ")),
            }
        });
        field.checked(found)
    };
    let days = field.one_or_many().iter().filter_map(day).fold(0, |days, day| days | 1 << day);
    Weekdays(days)
}

/// The zone under `time_zone`; UTC where there is none.
pub(super) fn time_zone(table: &Table<'_>) -> TimeZone {
    let Some(field) = table.field("time_zone") else { return TimeZone::UTC };
    let Some(text) = field.text() else { return TimeZone::UTC };
    let zone = TimeZone::get(text).map_err(|_| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
        match nearest(text, names.iter().map(String::as_str)) {
            Some(near) => format!("there is no time zone {text:?}; did you mean {near:?}?"),
            None => format!("there is no time zone {text:?}; write it as Asia/Seoul or UTC"),
        }
    });
    field.checked(zone).unwrap_or(TimeZone::UTC)
}

/// A time zone in words.
pub(super) fn zone_in_words(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("UTC").to_owned()
}

pub(super) fn quiet(table: &Table<'_>) -> Option<Quiet> {
    let (from, until) = (time_of_day(table, "from"), time_of_day(table, "until"));
    let (days, severity) = (weekdays(table), severity(table, "severity"));
    Some(Quiet { window: Window { from: from?, until: until?, days }, severity: severity? })
}

pub(super) fn severity(table: &Table<'_>, name: &str) -> Option<Severity> {
    table.choice(name).and_then(Severity::from_word)
}
