//! Forecasts: what was at the same time of earlier seasons, at the level of today.

use std::time::Duration;

use crate::time::UnixMs;

/// Seasons that are looked back at.
pub const SEASONS_MAX: u32 = 14;

/// How far around the same time of an earlier season is looked.
const AROUND: Duration = Duration::from_secs(300);

/// How long "just now" is, where today's level is read.
const RECENT: Duration = Duration::from_secs(3600);

/// Today may be so much above or below the seasons before, and not more.
const LEVEL: (f64, f64) = (0.5, 2.0);

/// A value at a moment.
pub type Sample = (UnixMs, f64);

/// The most that is to be expected from now until so far ahead; `None`: the history, oldest first, does not reach back one season.
pub fn forecast(history: &[Sample], season: Duration, ahead: Duration, now: UnixMs) -> Option<f64> {
    let first = history.first()?.0;
    if now.since(first) < season {
        return None;
    }
    let usual_now = usual(history, season, now.minus(RECENT), now)?;
    let (today, _) = mean_and_max(history, now.minus(RECENT), now)?;
    let level = if usual_now.mean > 0.0 { (today / usual_now.mean).clamp(LEVEL.0, LEVEL.1) } else { 1.0 };
    let coming = usual(history, season, now.minus(AROUND), now.plus(ahead).plus(AROUND))?;
    Some(coming.max * level)
}

struct Usual {
    mean: f64,
    max: f64,
}

/// The same span in earlier seasons: medians, which one odd day does not move.
fn usual(history: &[Sample], season: Duration, begin: UnixMs, end: UnixMs) -> Option<Usual> {
    let (mut means, mut maxima) = (Vec::new(), Vec::new());
    for back in 1..=SEASONS_MAX {
        let shift = season.saturating_mul(back);
        if shift > begin.since(history.first()?.0) {
            break;
        }
        let Some((mean, max)) = mean_and_max(history, begin.minus(shift), end.minus(shift)) else { continue };
        means.push(mean);
        maxima.push(max);
    }
    Some(Usual { mean: median(&mut means)?, max: median(&mut maxima)? })
}

fn mean_and_max(history: &[Sample], begin: UnixMs, end: UnixMs) -> Option<(f64, f64)> {
    let from = history.partition_point(|(at, _)| *at < begin);
    let to = history.partition_point(|(at, _)| *at <= end);
    let values = history.get(from..to)?;
    let max = values.iter().map(|(_, value)| *value).max_by(f64::total_cmp)?;
    Some((values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64, max))
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A point every five minutes: 100, and 1000 from 9 to 17 o'clock, times a factor for the last day.
    fn days(days: u64, today: f64) -> Vec<Sample> {
        let value = |at: u64| if (9..17).contains(&(at / HOUR % 24)) { 1000.0 } else { 100.0 };
        let factor = |at: u64| if at / HOUR / 24 == days - 1 { today } else { 1.0 };
        (0..days * 288).map(|n| n * 300_000).map(|at| (UnixMs(at), value(at) * factor(at))).collect()
    }

    fn at(history: &[Sample], hour: u64) -> Option<f64> {
        let day = history.len() as u64 / 288 - 1;
        let now = UnixMs((day * 24 + hour) * HOUR);
        let known: Vec<Sample> = history.iter().copied().filter(|(at, _)| *at <= now).collect();
        forecast(&known, DAY, Duration::from_secs(1800), now)
    }

    #[test]
    fn what_comes_every_day_is_expected() {
        let history = days(4, 1.0);
        assert_eq!(at(&history, 8), Some(100.0), "half an hour and a little before");
        let now = UnixMs((3 * 24 + 8) * HOUR + HOUR / 2);
        let known: Vec<Sample> = history.iter().copied().filter(|(at, _)| *at <= now).collect();
        assert_eq!(forecast(&known, DAY, Duration::from_secs(1800), now), Some(1000.0));
        assert_eq!(at(&history, 12), Some(1000.0));
        assert_eq!(at(&history, 20), Some(100.0));
    }

    #[test]
    fn the_level_of_today_counts_within_reason() {
        assert_eq!(at(&days(4, 1.5), 12), Some(1500.0));
        assert_eq!(at(&days(4, 10.0), 12), Some(2000.0));
        assert_eq!(at(&days(4, 0.1), 12), Some(500.0));
    }

    #[test]
    fn without_a_whole_season_there_is_none() {
        assert_eq!(at(&days(1, 1.0), 23), None);
        assert_eq!(forecast(&[], DAY, DAY, UnixMs(0)), None);
        // One odd day of several does not matter.
        let mut history = days(6, 1.0);
        history.iter_mut().filter(|(at, _)| at.0 / HOUR / 24 == 2).for_each(|(_, value)| *value *= 50.0);
        assert_eq!(at(&history, 12), Some(1000.0));
    }
}
