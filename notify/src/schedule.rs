//! Times that come again: windows of the day and turns on call. Pure: the time comes in, in milliseconds since the epoch.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use weir_config::{NotifyMute, Oncall, OncallMember, Shift, TimeOfDay, Window};

use crate::message::UnixMs;

/// A window of a week is over after eight days at the latest.
const DAYS_LOOKED_AT: i64 = 8;

/// Whether it is within the window.
pub fn is_within(window: &Window, zone: &TimeZone, at: UnixMs) -> bool {
    spans(window, zone, at).any(|(from, until)| from <= at && at < until)
}

/// The next time after `at` at which a window begins or ends; `None`: it never does.
pub fn next_change(window: &Window, zone: &TimeZone, at: UnixMs) -> Option<UnixMs> {
    spans(window, zone, at).flat_map(|(from, until)| [from, until]).filter(|change| *change > at).min()
}

/// Whether a mute holds.
pub fn is_muted(mute: &NotifyMute, at: UnixMs) -> bool {
    let zone = &mute.time_zone;
    let begun = mute.begin.is_none_or(|begin| instant(begin, zone).is_some_and(|begin| begin <= at));
    let ended = mute.end.is_some_and(|end| instant(end, zone).is_none_or(|end| end <= at));
    begun && !ended && mute.window.as_ref().is_none_or(|window| is_within(window, zone, at))
}

/// The next time at which a mute may begin or end.
pub fn next_mute_change(mute: &NotifyMute, at: UnixMs) -> Option<UnixMs> {
    let zone = &mute.time_zone;
    let bounds = [mute.begin, mute.end].into_iter().flatten().filter_map(|bound| instant(bound, zone));
    let window = mute.window.as_ref().and_then(|window| next_change(window, zone, at));
    bounds.chain(window).filter(|change| *change > at).min()
}

/// Who is on call.
pub fn on_call(oncall: &Oncall, at: UnixMs) -> Option<&OncallMember> {
    let stand_in = oncall.overrides.iter().rev().find(|stand_in| {
        let bound = |bound: DateTime| instant(bound, &oncall.time_zone);
        matches!((bound(stand_in.from), bound(stand_in.until)), (Some(from), Some(until)) if from <= at && at < until)
    });
    let count = i64::try_from(oncall.members.len()).ok().filter(|count| *count > 0)?;
    let turn = || usize::try_from(shift_number(oncall, at).rem_euclid(count)).ok();
    oncall.members.get(stand_in.map(|stand_in| stand_in.member).or_else(turn)?)
}

/// The next time at which somebody else may be on call.
pub fn next_on_call_change(oncall: &Oncall, at: UnixMs) -> Option<UnixMs> {
    let bounds = oncall.overrides.iter().flat_map(|stand_in| [stand_in.from, stand_in.until]);
    let bounds = bounds.filter_map(|bound| instant(bound, &oncall.time_zone));
    bounds.chain(shift_start(oncall, shift_number(oncall, at) + 1)).filter(|change| *change > at).min()
}

/// The number of the shift at this time; negative before the first.
fn shift_number(oncall: &Oncall, at: UnixMs) -> i64 {
    let begun = |number: i64| shift_start(oncall, number).is_some_and(|start| start <= at);
    let guess = match oncall.shift {
        Shift::Hours(hours) => {
            let start = instant_signed(oncall.start, &oncall.time_zone).unwrap_or(0);
            (i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(start)).div_euclid(i64::from(hours) * 3_600_000)
        }
        Shift::Days(days) => {
            let passed = local(at, &oncall.time_zone).date().since(oncall.start.date()).map_or(0, |span| i64::from(span.get_days()));
            passed.div_euclid(i64::from(days))
        }
    };
    // The time of day, or a change of the clock, may make it one less.
    if begun(guess) { guess } else { guess - 1 }
}

/// When a shift begins; `None` beyond the calendar.
fn shift_start(oncall: &Oncall, number: i64) -> Option<UnixMs> {
    match oncall.shift {
        Shift::Hours(hours) => {
            let start = instant_signed(oncall.start, &oncall.time_zone)?;
            Some(start.saturating_add(number.saturating_mul(i64::from(hours) * 3_600_000)).max(0).unsigned_abs())
        }
        Shift::Days(days) => {
            let span = Span::new().try_days(number.checked_mul(i64::from(days))?).ok()?;
            instant(oncall.start.checked_add(span).ok()?, &oncall.time_zone)
        }
    }
}

/// The spans of a window around a time, from the day before to a week after.
fn spans<'a>(window: &'a Window, zone: &'a TimeZone, at: UnixMs) -> impl Iterator<Item = (UnixMs, UnixMs)> + 'a {
    let today = local(at, zone).date();
    (-1..=DAYS_LOOKED_AT).filter_map(move |offset| {
        let day = today.checked_add(Span::new().try_days(offset).ok()?).ok()?;
        let weekday = u8::try_from(day.weekday().to_monday_zero_offset()).ok()?;
        if !window.days.contains(weekday) {
            return None;
        }
        let last = if window.until <= window.from { day.tomorrow().ok()? } else { day };
        Some((instant(on(day, window.from), zone)?, instant(on(last, window.until), zone)?))
    })
}

fn on(day: Date, time: TimeOfDay) -> DateTime {
    let minutes = i8::try_from(time.minutes() % 60).unwrap_or(0);
    day.at(i8::try_from(time.minutes() / 60).unwrap_or(0), minutes, 0, 0)
}

/// The time on the clocks of a zone.
pub(crate) fn local(at: UnixMs, zone: &TimeZone) -> DateTime {
    let timestamp = i64::try_from(at).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    zone.to_datetime(timestamp)
}

/// A local time that the clocks skip is the moment after, one that they show twice the first.
fn instant_signed(local: DateTime, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(local).ok().map(Timestamp::as_millisecond)
}

fn instant(local: DateTime, zone: &TimeZone) -> Option<UnixMs> {
    instant_signed(local, zone).map(|ms| ms.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> UnixMs {
        text.parse::<Timestamp>().expect(text).as_millisecond().unsigned_abs()
    }

    fn config(text: &str) -> weir_config::Notification {
        weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).notification
    }

    fn mute(text: &str) -> NotifyMute {
        let notification = config(&format!("[mute.a]\nmatch = [\"a=b\"]\n{text}"));
        NotifyMute::clone(notification.mutes.values().next().unwrap())
    }

    #[test]
    fn windows_of_the_day() {
        for (window, at, within, next) in [
            ("from = \"01:00\"\nuntil = \"03:00\"", "2026-01-05T00:59:59Z", false, Some("2026-01-05T01:00:00Z")),
            ("from = \"01:00\"\nuntil = \"03:00\"", "2026-01-05T01:00:00Z", true, Some("2026-01-05T03:00:00Z")),
            ("from = \"01:00\"\nuntil = \"03:00\"", "2026-01-05T03:00:00Z", false, Some("2026-01-06T01:00:00Z")),
            ("from = \"22:00\"\nuntil = \"07:00\"", "2026-01-05T03:00:00Z", true, Some("2026-01-05T07:00:00Z")),
            // 2026-01-04 is a Sunday: the window of Sunday night ends on Monday.
            ("from = \"22:00\"\nuntil = \"07:00\"\ndays = \"sun\"", "2026-01-05T03:00:00Z", true, Some("2026-01-05T07:00:00Z")),
            ("from = \"22:00\"\nuntil = \"07:00\"\ndays = \"mon\"", "2026-01-05T03:00:00Z", false, Some("2026-01-05T22:00:00Z")),
            ("days = \"mon\"", "2026-01-05T23:59:59Z", true, Some("2026-01-06T00:00:00Z")),
            ("days = \"mon\"", "2026-01-06T00:00:00Z", false, Some("2026-01-12T00:00:00Z")),
            ("from = \"09:00\"\nuntil = \"18:00\"\ntime_zone = \"Asia/Seoul\"", "2026-01-05T00:00:00Z", true, Some("2026-01-05T09:00:00Z")),
            // The night of the change to summer time: 02:30 does not exist, the window begins at 03:00.
            (
                "from = \"02:30\"\nuntil = \"04:00\"\ntime_zone = \"Europe/Berlin\"",
                "2026-03-29T00:59:59Z",
                false,
                Some("2026-03-29T01:30:00Z"),
            ),
            ("begin = \"2026-01-05T00:00\"", "2026-01-04T23:59:59Z", false, Some("2026-01-05T00:00:00Z")),
            ("end = \"2026-01-05T00:00\"", "2026-01-05T00:00:00Z", false, None),
            ("end = \"2026-01-05T00:00\"", "2026-01-04T23:00:00Z", true, Some("2026-01-05T00:00:00Z")),
            ("", "2026-01-04T23:00:00Z", true, None),
        ] {
            let mute = mute(window);
            assert_eq!(is_muted(&mute, ms(at)), within, "{window} at {at}");
            assert_eq!(next_mute_change(&mute, ms(at)), next.map(ms), "{window} after {at}");
        }
    }

    fn schedule(text: &str) -> Oncall {
        let members = "[[oncall.t.member]]\nname = \"kim\"\nnotify = \"a\"\n[[oncall.t.member]]\nname = \"lee\"\nnotify = \"a\"\n";
        let notification = config(&format!("[notify.a.console]\n[oncall.t]\n{text}\n{members}"));
        let mut oncall = Oncall::clone(notification.oncalls.values().next().unwrap());
        oncall.overrides.clear();
        oncall
    }

    fn check(oncall: &Oncall, at: &str, who: &str, next: &str) {
        assert_eq!(on_call(oncall, ms(at)).unwrap().name, who, "{at}");
        assert_eq!(next_on_call_change(oncall, ms(at)), Some(ms(next)), "{at}");
    }

    #[test]
    fn members_take_turns() {
        let weekly = schedule("start = \"2026-01-05T09:00\"\ntime_zone = \"Asia/Seoul\"");
        check(&weekly, "2026-01-05T00:00:00Z", "kim", "2026-01-12T00:00:00Z");
        check(&weekly, "2026-01-11T23:59:59Z", "kim", "2026-01-12T00:00:00Z");
        check(&weekly, "2026-01-12T00:00:00Z", "lee", "2026-01-19T00:00:00Z");
        check(&weekly, "2026-01-04T23:59:59Z", "lee", "2026-01-05T00:00:00Z");
        let hours = schedule("start = \"2026-01-05T08:00\"\nshift_hours = 12");
        check(&hours, "2026-01-05T19:59:59Z", "kim", "2026-01-05T20:00:00Z");
        check(&hours, "2026-01-05T20:00:00Z", "lee", "2026-01-06T08:00:00Z");
        check(&hours, "2026-01-05T07:59:59Z", "lee", "2026-01-05T08:00:00Z");
        // The change is at nine by the clock on the wall, also after the clocks were changed.
        let daily = schedule("start = \"2026-03-27T09:00\"\nshift_days = 1\ntime_zone = \"Europe/Berlin\"");
        check(&daily, "2026-03-28T08:00:00Z", "lee", "2026-03-29T07:00:00Z");
        check(&daily, "2026-03-29T07:00:00Z", "kim", "2026-03-30T07:00:00Z");
    }

    #[test]
    fn a_stand_in_comes_and_goes() {
        let mut oncall = schedule("start = \"2026-01-05T09:00\"");
        oncall.overrides = vec![weir_config::OncallOverride {
            from: "2026-01-06T00:00".parse().unwrap(),
            until: "2026-01-07T00:00".parse().unwrap(),
            member: 1,
        }];
        check(&oncall, "2026-01-05T12:00:00Z", "kim", "2026-01-06T00:00:00Z");
        check(&oncall, "2026-01-06T00:00:00Z", "lee", "2026-01-07T00:00:00Z");
        check(&oncall, "2026-01-07T00:00:00Z", "kim", "2026-01-12T09:00:00Z");
    }

    /// The next change is never a time at which nothing has changed for longer, and never in the past.
    #[test]
    fn every_change_is_announced() {
        let oncall = schedule("start = \"2026-03-27T02:30\"\nshift_days = 1\ntime_zone = \"Europe/Berlin\"");
        let mut at = ms("2026-03-20T00:00:00Z");
        for _ in 0..20 {
            let next = next_on_call_change(&oncall, at).unwrap();
            assert!(next > at);
            let who = &on_call(&oncall, at).unwrap().name;
            assert_eq!(&on_call(&oncall, next - 1).unwrap().name, who);
            assert_ne!(&on_call(&oncall, next).unwrap().name, who);
            at = next;
        }
    }
}
