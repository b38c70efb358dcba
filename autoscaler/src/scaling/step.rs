//! Step adjustments, as Amazon EC2 Auto Scaling documents them
//! (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html>).
//!
//! The step is chosen by how far the metric is beyond the threshold. A lower bound belongs to its step and an upper one does not; below the
//! threshold it is the other way round. A change in percent is of the machines that serve, so that a breach that lasts while new ones warm up
//! does not add the same machines again; it is rounded towards zero, but never to nothing.

use weir_config::{Comparison, ScaleChange, StepAdjustment};

use super::policy::AlarmSteps;

/// The step for this value. Without threshold or value the first one.
pub fn step_for(steps: &AlarmSteps, value: Option<f64>) -> Option<&StepAdjustment> {
    let (Some((comparison, limit)), Some(value)) = (steps.threshold, value) else { return steps.adjust.first() };
    let beyond = value - limit;
    steps.adjust.iter().find(|step| {
        let (from, to) = (step.from.unwrap_or(f64::NEG_INFINITY), step.to.unwrap_or(f64::INFINITY));
        match comparison {
            Comparison::Above => from <= beyond && beyond < to,
            Comparison::Below => from < beyond && beyond <= to,
        }
    })
}

/// How many machines a change makes of so many.
pub fn apply(change: ScaleChange, of: u32, min_change: u32) -> u32 {
    let by = |difference: i64| u32::try_from((i64::from(of) + difference).max(0)).unwrap_or(u32::MAX);
    match change {
        ScaleChange::Exactly(number) => number,
        ScaleChange::By(number) => by(i64::from(number)),
        ScaleChange::Percent(percent) => {
            let raw = i64::from(of) * i64::from(percent);
            let magnitude = (raw.abs() / 100).max(i64::from(min_change.max(1)));
            by(if percent < 0 { -magnitude } else { magnitude })
        }
    }
}

/// Whether a change makes a pool smaller.
pub fn is_in(change: ScaleChange, of: u32) -> bool {
    match change {
        ScaleChange::By(number) | ScaleChange::Percent(number) => number < 0,
        ScaleChange::Exactly(number) => number < of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(comparison: Comparison, limit: f64, adjust: &[(Option<f64>, Option<f64>, i32)]) -> AlarmSteps {
        let adjust = adjust.iter().map(|(from, to, percent)| {
            let change = if *percent == 0 { ScaleChange::Exactly(0) } else { ScaleChange::Percent(*percent) };
            StepAdjustment { from: *from, to: *to, change }
        });
        AlarmSteps { alarm: "a".into(), threshold: Some((comparison, limit)), min_change: 1, adjust: adjust.collect() }
    }

    /// The worked example of "Step adjustments for step scaling": between 40 and 60 nothing is changed, steps are of ten and thirty percent, and 10
    /// machines become 11, 14, 13 and 10. The page has one threshold of 50 and a step of 0 around it; without a step that changes nothing it is two
    /// thresholds.
    #[test]
    fn the_published_example() {
        let out = steps(Comparison::Above, 60.0, &[(Some(0.0), Some(10.0), 10), (Some(10.0), None, 30)]);
        let inward = steps(Comparison::Below, 40.0, &[(Some(-10.0), Some(0.0), -10), (None, Some(-10.0), -30)]);
        let mut capacity = 10;
        for (policy, value, expected) in [(&out, 60.0, 11), (&out, 70.0, 14), (&inward, 40.0, 13), (&inward, 30.0, 10)] {
            let step = step_for(policy, Some(value)).expect("the steps have no gap");
            capacity = apply(step.change, capacity, policy.min_change);
            assert_eq!(capacity, expected, "at {value}");
        }
        assert_eq!(step_for(&out, Some(69.9)).map(|step| step.change), Some(ScaleChange::Percent(10)));
        assert_eq!(step_for(&inward, Some(30.1)).map(|step| step.change), Some(ScaleChange::Percent(-10)));
        assert_eq!(step_for(&out, Some(59.0)), None);
    }

    /// "Scaling adjustment types" of the same page: 12.7 is 12, 0.67 is 1, -0.58 is -1, -6.67 is -6; and its examples of the other types.
    #[test]
    fn rounding_as_published() {
        for (of, percent, expected) in [(127, 10, 139), (67, 1, 68), (58, -1, 57), (667, -1, 661), (10, -300, 0), (0, 50, 1)] {
            assert_eq!(apply(ScaleChange::Percent(percent), of, 1), expected, "{of} by {percent} %");
        }
        // MinAdjustmentMagnitude: four instances, 25 percent, at least two.
        assert_eq!(apply(ScaleChange::Percent(25), 4, 2), 6);
        assert_eq!(
            (apply(ScaleChange::By(5), 3, 1), apply(ScaleChange::Exactly(5), 3, 1), apply(ScaleChange::Percent(10), 10, 1)),
            (8, 5, 11)
        );
        assert_eq!(apply(ScaleChange::By(-5), 3, 1), 0);
        assert_eq!(apply(ScaleChange::Exactly(7), 3, 1), 7);
        assert!(is_in(ScaleChange::Exactly(2), 3) && !is_in(ScaleChange::Exactly(3), 3));
    }
}
