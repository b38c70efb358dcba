//! Moments that come again: a cron expression in a time zone. The zones are built in, so that every node and every machine has the same.

use std::fmt;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// From where a new expression is tried, 2026-01-01: one that has no moment after it never comes.
const TRIED_FROM_MS: u64 = 1_767_225_600_000;

/// The longest expression that is read.
const CHARS_MAX: usize = 200;

/// Moments that come again, in a time zone. Where clocks are put forward, what falls into the gap happens at its end; where they are put back
/// it happens once, as `croner` does it.
#[derive(Clone)]
pub struct Calendar {
    text: String,
    zone_name: String,
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Of a cron expression with five fields (minute, hour, day of month, month, day of week) and the name of a time zone.
    ///
    /// # Errors
    /// In words: one of them is none, or the moment never comes.
    pub fn parse(cron: &str, zone: &str) -> Result<Calendar, String> {
        if cron.len() > CHARS_MAX || cron.split_whitespace().count() != 5 {
            return Err(format!("{cron:?} is not a cron expression; write five fields, such as \"0 8 * * MON-FRI\""));
        }
        let parsed: Cron = cron
            .parse()
            .map_err(|error| format!("{cron:?} is not a cron expression ({error}); write five fields, such as \"0 8 * * MON-FRI\""))?;
        let found =
            TimeZone::get(zone).map_err(|_| format!("{zone:?} is not a time zone; write \"UTC\" or a name such as \"Europe/Berlin\""))?;
        let calendar = Calendar { text: cron.to_owned(), zone_name: zone.to_owned(), cron: parsed, zone: found };
        match calendar.next(TRIED_FROM_MS) {
            Some(_) => Ok(calendar),
            None => Err(format!("{cron:?} never happens; look at day and month")),
        }
    }

    /// The last of its moments that is not after this one, in milliseconds since 1970.
    pub fn previous(&self, unix_ms: u64) -> Option<u64> {
        millis(&self.cron.find_previous_occurrence(&self.at(unix_ms)?, true).ok()?)
    }

    /// The first of its moments after this one.
    pub fn next(&self, unix_ms: u64) -> Option<u64> {
        millis(&self.cron.find_next_occurrence(&self.at(unix_ms)?, false).ok()?)
    }

    fn at(&self, unix_ms: u64) -> Option<Zoned> {
        let timestamp = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        Some(timestamp.to_zoned(self.zone.clone()))
    }
}

fn millis(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Calendar) -> bool {
        (&self.text, &self.zone_name) == (&other.text, &other.zone_name)
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({self})")
    }
}

/// Reads a time such as `2026-03-01T12:00:00Z`, in seconds since 1970.
pub fn parse_time(text: &str) -> Result<f64, String> {
    let time = text.parse::<Timestamp>().map_err(|_| format!("{text:?} is not a time"))?;
    let seconds = time.as_millisecond() as f64 / 1000.0;
    if seconds < 0.0 { Err(format!("{text:?} is before 1970")) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().expect("a moment").as_millisecond()).expect("after 1970")
    }

    #[test]
    fn moments_in_their_zone() {
        for (cron, zone, at, previous, next) in [
            ("0 8 * * MON-FRI", "UTC", "2026-11-26T12:00:00Z", "2026-11-26T08:00:00Z", "2026-11-27T08:00:00Z"),
            ("0 8 * * MON-FRI", "Europe/Berlin", "2026-11-26T07:00:00Z", "2026-11-26T07:00:00Z", "2026-11-27T07:00:00Z"),
            ("0 8 * * *", "Europe/Berlin", "2026-07-01T12:00:00Z", "2026-07-01T06:00:00Z", "2026-07-02T06:00:00Z"),
            // The night in which 02:30 does not exist, and the one in which it comes twice.
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"),
            ("0 0 29 2 *", "UTC", "2026-11-26T12:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            let calendar = Calendar::parse(cron, zone).expect(cron);
            assert_eq!(calendar.previous(ms(at)), Some(ms(previous)), "{cron} {zone} before {at}");
            assert_eq!(calendar.next(ms(at)), Some(ms(next)), "{cron} {zone} after {at}");
        }
    }

    #[test]
    fn what_is_no_calendar() {
        for (cron, zone) in
            [("", "UTC"), ("* * * *", "UTC"), ("61 * * * *", "UTC"), ("0 0 31 2 *", "UTC"), ("0 8 * * *", "Mars/Base"), ("@daily", "UTC")]
        {
            assert!(Calendar::parse(cron, zone).is_err(), "{cron} {zone}");
        }
        let calendar = Calendar::parse("* * * * *", "UTC").expect("good");
        assert_eq!((calendar.previous(u64::MAX), calendar.next(u64::MAX)), (None, None));
    }
}
