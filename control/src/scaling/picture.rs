//! The metric around the beginning of an alarm, for the picture in a mail. Pure.

use weir_autoscaler::UnixMs;
use weir_config::{Alarm, Condition};
use weir_notify::message::Series;

/// The series of an alarm's metric up to now, of what it has seen; `None`: it has no metric of its own, or no two points.
pub(super) fn series(alarm: &Alarm, trail: &[(UnixMs, Option<f64>)]) -> Option<Series> {
    let Condition::Threshold(threshold) = &alarm.condition else { return None };
    let points: Vec<(u64, f64)> = trail.iter().filter_map(|(at, value)| Some((at.0, (*value)?))).collect();
    let (name, unit) = (threshold.metric.to_string(), threshold.metric.unit().into());
    (points.len() > 1).then_some(Series { name, unit, points, threshold: Some(threshold.limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_shown_with_its_time() {
        let text = "[pool.web]\nendpoints = [\"a:1\"]\n[alarm.busy]\npool = \"web\"\nmetric = \"cpu\"\nabove = 70.0\nperiod = \"10s\"\n";
        let config = weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let alarm = config.alarms.values().next().expect("one alarm");
        let trail = [(UnixMs(10_000), None), (UnixMs(20_000), Some(58.0)), (UnixMs(30_000), None), (UnixMs(40_000), Some(75.0))];
        let shown = series(alarm, &trail).expect("a series");
        assert_eq!((shown.name.as_str(), shown.unit.as_str(), shown.threshold), ("cpu", "%", Some(70.0)));
        assert_eq!(shown.points, [(20_000, 58.0), (40_000, 75.0)]);
        assert_eq!(series(alarm, &trail[..3]), None, "one point is no picture");
    }
}
