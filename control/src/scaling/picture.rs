//! The metric around the beginning of an alarm, for the picture in a mail. Pure.

use weir_autoscaler::{Query, Readings, UnixMs};
use weir_config::{Alarm, Condition, Threshold};
use weir_notify::message::Series;

use crate::meter::scope_of;

/// Periods that are shown at least, where they were measured: what led to the alarm is more than what it is decided by.
const PERIODS_SHOWN: u32 = 60;

/// The series of an alarm's metric up to now; `None`: it has no metric of its own, or no two points.
pub(super) fn series(alarm: &Alarm, readings: &dyn Readings, now: UnixMs) -> Option<Series> {
    let Condition::Threshold(threshold) = &alarm.condition else { return None };
    let Threshold { scope, metric, statistic, period, limit, periods, .. } = threshold;
    let scope = scope_of(scope);
    let query = Query { metric, scope: &scope, statistic: *statistic, period: *period, periods: (*periods).max(PERIODS_SHOWN) };
    let (begin, _) = query.span(now);
    let at = |number: u32| begin.plus(period.saturating_mul(number.saturating_add(1))).0;
    let values = readings.points(&query, now);
    let points: Vec<(u64, f64)> =
        (0..).zip(values).filter_map(|(number, value)| Some((at(number), value.filter(|value| value.is_finite())?))).collect();
    let name = metric.to_string();
    (points.len() > 1).then(|| Series { name, unit: metric.unit().into(), points, threshold: Some(*limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ramp;

    impl Readings for Ramp {
        fn points(&self, query: &Query<'_>, _: UnixMs) -> Vec<Option<f64>> {
            (0..query.periods).map(|number| (number >= 50).then_some(f64::from(number))).collect()
        }
    }

    #[test]
    fn what_was_measured_is_shown_with_its_time() {
        let text = "[pool.web]\nendpoints = [\"a:1\"]\n[alarm.busy]\npool = \"web\"\nmetric = \"cpu\"\nabove = 70.0\nperiod = \"10s\"\n";
        let config = weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let alarm = config.alarms.values().next().expect("one alarm");
        let series = series(alarm, &Ramp, UnixMs(1_000_005_000)).expect("a series");
        assert_eq!((series.name.as_str(), series.unit.as_str(), series.threshold), ("cpu", "%", Some(70.0)));
        assert_eq!(series.points.len(), 10);
        assert_eq!(series.points.last(), Some(&(1_000_000_000, 59.0)));
    }
}
