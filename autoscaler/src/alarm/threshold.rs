//! One alarm with a threshold, as CloudWatch documents its evaluation
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html>).
//!
//! A few periods more than N are looked at. While at least N of them have data, only data counts, the newest N of it; what a missing point
//! counts as matters only where fewer have. An alarm does not go off for a point that is newer than M periods while its neighbours are
//! missing, as the next one may be good.

use weir_config::{MissingData, Threshold};

use super::AlarmState;

/// How many more periods than N are looked at.
pub const EXTRA_PERIODS: u32 = 2;

/// The state after these data points, the oldest first. In alarm a point breaches until it is on the clear side: hysteresis.
pub fn evaluate(threshold: &Threshold, before: AlarmState, points: &[Option<f64>]) -> AlarmState {
    let Threshold { comparison, limit, clear, periods, datapoints, missing, .. } = threshold;
    let limit = if before == AlarmState::Alarm { *clear } else { *limit };
    let (n, m) = (*periods as usize, *datapoints as usize);
    // With their age, 1 for the newest period.
    let newest_first = points.iter().rev().enumerate();
    let known: Vec<(usize, bool)> =
        newest_first.filter_map(|(at, point)| point.map(|value| (at + 1, comparison.is_beyond(value, limit)))).take(n).collect();
    let breaching = known.iter().filter(|(_, breaches)| *breaches).count();
    let verdict = |is_alarm: bool| if is_alarm { AlarmState::Alarm } else { AlarmState::Ok };
    if known.len() >= n || breaching >= m {
        return verdict(breaching >= m);
    }
    let to_fill = n - known.len();
    match missing {
        MissingData::Breaching => verdict(breaching + to_fill >= m),
        MissingData::NotBreaching => AlarmState::Ok,
        MissingData::Missing if known.is_empty() => AlarmState::InsufficientData,
        MissingData::Ignore if known.is_empty() => before,
        MissingData::Missing | MissingData::Ignore if breaching < known.len().min(m) => AlarmState::Ok,
        MissingData::Ignore => before,
        // Everything that is known breaches, and has for as long as it takes.
        MissingData::Missing => {
            let oldest = known.iter().map(|(age, _)| *age).max().unwrap_or(0);
            if oldest >= m { AlarmState::Alarm } else { before }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_config::{AlarmScope, Comparison, Metric, Statistic};

    use super::*;
    use AlarmState::{Alarm, InsufficientData, Ok};

    fn threshold(m: u32, n: u32, missing: MissingData) -> Threshold {
        Threshold {
            scope: AlarmScope::Pool("web".into()),
            metric: Metric::Cpu,
            statistic: Statistic::Average,
            period: Duration::from_secs(60),
            comparison: Comparison::Above,
            limit: 70.0,
            clear: 70.0,
            periods: n,
            datapoints: m,
            missing,
        }
    }

    /// `X` breaches, `0` does not, `-` is missing.
    fn points(text: &str) -> Vec<Option<f64>> {
        text.split_whitespace()
            .map(|word| match word {
                "X" => Some(80.0),
                "0" => Some(60.0),
                _ => None,
            })
            .collect()
    }

    const TREATMENTS: [MissingData; 4] = [MissingData::Missing, MissingData::Ignore, MissingData::Breaching, MissingData::NotBreaching];

    /// The two tables of <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html>, row by row; what the page
    /// calls retaining the state is what it was before.
    #[test]
    fn missing_data_as_published() {
        for before in [Ok, Alarm, InsufficientData] {
            for (m, n, data, expected) in [
                (3, 3, "0 - X - X", [Ok, Ok, Ok, Ok]),
                (3, 3, "0 - - - -", [Ok, Ok, Ok, Ok]),
                (3, 3, "- - - - -", [InsufficientData, before, Alarm, Ok]),
                (3, 3, "0 X X - X", [Alarm, Alarm, Alarm, Alarm]),
                (3, 3, "- - X - -", [Alarm, before, Alarm, Ok]),
                (2, 3, "0 - X - X", [Alarm, Alarm, Alarm, Alarm]),
                (2, 3, "0 0 X 0 X", [Alarm, Alarm, Alarm, Alarm]),
                (2, 3, "0 - X - -", [Ok, Ok, Alarm, Ok]),
                (2, 3, "- - - - 0", [Ok, Ok, Alarm, Ok]),
                (2, 3, "- - - X -", [Alarm, before, Alarm, Ok]),
            ] {
                for (missing, expected) in TREATMENTS.into_iter().zip(expected) {
                    let found = evaluate(&threshold(m, n, missing), before, &points(data));
                    assert_eq!(found, expected, "{m} of {n}, {data}, {}, before {}", missing.word(), before.word());
                }
            }
        }
    }

    /// "Avoiding premature transitions to alarm state" of the same page, whose examples are 3 of 3 and 2 of 3; the last two follow from its words.
    #[test]
    fn no_premature_alarm() {
        for (m, data, expected) in [
            (3, "- - - - X", Ok),
            (3, "- - - X -", Ok),
            (3, "- - - X 0", Ok),
            (3, "- - X - 0", Ok),
            (3, "- - X - -", Alarm),
            (2, "- - - - X", Ok),
            (2, "- - - X -", Alarm),
        ] {
            assert_eq!(evaluate(&threshold(m, 3, MissingData::Missing), Ok, &points(data)), expected, "{m} of 3: {data}");
        }
    }

    /// "Evaluating an alarm" of <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html>: M of the last N, which need
    /// not be consecutive.
    #[test]
    fn m_of_n() {
        for (m, n, data, expected) in [
            (1, 1, "X X 0", Ok),
            (1, 1, "0 0 X", Alarm),
            (3, 5, "0 0 X 0 X 0 X", Alarm),
            (3, 5, "X X 0 0 X X 0", Ok),
            (5, 5, "0 0 X X X X X", Alarm),
            (2, 5, "X X 0 0 0 0 0", Ok),
        ] {
            assert_eq!(evaluate(&threshold(m, n, MissingData::Missing), Ok, &points(data)), expected, "{m} of {n}: {data}");
        }
    }

    #[test]
    fn what_is_in_alarm_clears_elsewhere() {
        let threshold = Threshold { clear: 50.0, ..threshold(1, 1, MissingData::Missing) };
        let check = |before, value| evaluate(&threshold, before, &[Some(value)]);
        assert_eq!((check(Ok, 60.0), check(Alarm, 60.0)), (Ok, Alarm));
        assert_eq!((check(Alarm, 50.0), check(Ok, 70.0), check(Ok, 70.5)), (Ok, Ok, Alarm));
        let below = Threshold { comparison: Comparison::Below, limit: 20.0, clear: 30.0, ..threshold.clone() };
        assert_eq!(evaluate(&below, Ok, &[Some(25.0)]), Ok);
        assert_eq!(evaluate(&below, Alarm, &[Some(25.0)]), Alarm);
        assert_eq!(evaluate(&below, Alarm, &[Some(30.0)]), Ok);
    }
}
