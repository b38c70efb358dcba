//! Target tracking, by the algorithm that Kubernetes documents for its HorizontalPodAutoscaler
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details>).
//!
//! `desired = ceil(current * value / target)`, nothing while the ratio is within the tolerance of one. A machine whose metric is missing is
//! taken to use nothing when the pool would grow and all of its target when it would shrink; one that is not ready is taken to use nothing
//! when it would grow. If the ratio then turns over, or comes within the tolerance, nothing is changed.

/// What is known of one metric.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Known {
    /// Of each machine that serves; `None`: missing.
    pub serving: Vec<Option<f64>>,
    /// Machines that come and do not serve yet.
    pub not_ready: u32,
}

/// How many machines it takes. `None`: no metric is known.
pub fn wish(known: &Known, target: f64, tolerance: f64) -> Option<u32> {
    let values: Vec<f64> = known.serving.iter().filter_map(|value| *value).collect();
    let missing = known.serving.len() - values.len();
    let not_ready = known.not_ready as usize;
    let current = known.serving.len() + not_ready;
    if values.is_empty() || target <= 0.0 {
        return None;
    }
    let sum: f64 = values.iter().sum();
    let ratio = sum / values.len() as f64 / target;
    let kept = u32::try_from(current).unwrap_or(u32::MAX);
    // Neither up nor down: then there is nothing for which what is not known could be taken for the worst.
    if within(ratio, 0.0) {
        return Some(kept);
    }
    let grows = ratio > 1.0;
    if missing == 0 && (not_ready == 0 || !grows) {
        let of = if grows { values.len() } else { values.len() + not_ready };
        return Some(if within(ratio, tolerance) { kept } else { ceil(of as f64 * ratio) });
    }
    // With what is not known taken for the worst for the change that is about to be made.
    let (sum, count) = match ratio {
        ratio if ratio < 1.0 => (sum + missing as f64 * target, values.len() + missing),
        _ => (sum, values.len() + missing + not_ready),
    };
    let again = sum / count as f64 / target;
    if within(again, tolerance) || (again > 1.0) != grows {
        return Some(kept);
    }
    let of = if grows { count } else { count + not_ready };
    let found = ceil(of as f64 * again);
    // What is not known must not turn the change round.
    Some(if grows { found.max(kept) } else { found.min(kept) })
}

fn within(ratio: f64, tolerance: f64) -> bool {
    (ratio - 1.0).abs() <= tolerance + 1e-9
}

/// Rounds up, but not for what a division leaves over.
fn ceil(count: f64) -> u32 {
    (count - 1e-9).ceil().clamp(0.0, f64::from(weir_config::ScaleChange::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(serving: &[Option<f64>], not_ready: u32) -> Known {
        Known { serving: serving.to_vec(), not_ready }
    }

    fn all(count: usize, value: f64) -> Vec<Option<f64>> {
        vec![Some(value); count]
    }

    /// The words and numbers of "Algorithm details" on the page above.
    #[test]
    fn the_published_algorithm() {
        for (serving, not_ready, target, expected, why) in [
            (all(1, 200.0), 0, 100.0, Some(2), "200m against 100m doubles"),
            (all(2, 50.0), 0, 100.0, Some(1), "50m against 100m halves"),
            (all(10, 105.0), 0, 100.0, Some(10), "within the tolerance of a tenth"),
            (all(10, 110.0), 0, 100.0, Some(10), "at its very edge"),
            (all(10, 111.0), 0, 100.0, Some(12), "beyond it"),
            (all(10, 90.0), 0, 100.0, Some(10), "within, downwards"),
            (all(10, 89.0), 0, 100.0, Some(9), "beyond, downwards"),
            (all(3, 100.0), 0, 50.0, Some(6), "exact ratios are not rounded up"),
            (vec![], 0, 50.0, None, "no machines"),
            (vec![None, None], 0, 50.0, None, "no metric at all"),
        ] {
            assert_eq!(wish(&known(&serving, not_ready), target, 0.1), expected, "{why}");
        }
    }

    /// Cases with which Kubernetes tests its own: `pkg/controller/podautoscaler/replica_calculator_test.go` of kubernetes/kubernetes, by their names
    /// there without `TestReplicaCalc`. Left out are two where that code does something else than the page says, which is what we do: it takes a
    /// missing metric for all of the request, not of the target, and counts only the ready ones when it shrinks.
    #[test]
    fn the_cases_of_kubernetes() {
        let some = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
        for (name, mut serving, missing, not_ready, target, expected) in [
            ("ScaleUp", some(&[30.0, 50.0, 70.0]), 0, 0, 30.0, 5),
            ("ScaleUpUnreadyLessScale", some(&[50.0, 70.0]), 0, 1, 30.0, 4),
            ("ScaleUpUnreadyNoScale", some(&[40.0]), 0, 2, 30.0, 3),
            ("ScaleUpCM", some(&[20_000.0, 10_000.0, 30_000.0]), 0, 0, 15_000.0, 4),
            ("ScaleDown", some(&[10.0, 30.0, 50.0, 25.0, 25.0]), 0, 0, 50.0, 3),
            ("ScaleDownCM", some(&[12_000.0; 5]), 0, 0, 20_000.0, 3),
            ("Tolerance", some(&[101.0, 103.0, 102.0]), 0, 0, 100.0, 3),
            ("ToleranceCM", some(&[20_000.0, 21_000.0, 21_000.0]), 0, 0, 20_000.0, 3),
            ("SuperfluousMetrics", some(&[400.0, 950.0, 300.0, 700.0]), 0, 0, 100.0, 24),
            ("MissingMetrics", some(&[40.0, 9.5]), 2, 0, 100.0, 3),
            ("MissingMetricsNoChangeEq", some(&[100.0]), 1, 0, 100.0, 2),
            ("MissingMetricsNoChangeGt", some(&[190.0]), 1, 0, 100.0, 2),
            ("MissingMetricsNoChangeLt", some(&[60.0]), 1, 0, 100.0, 2),
            ("MissingMetricsUnreadyChange", some(&[45.0]), 1, 1, 50.0, 3),
            ("MissingMetricsUnreadyScaleUp", some(&[200.0]), 1, 1, 50.0, 4),
        ] {
            serving.extend(std::iter::repeat_n(None, missing));
            assert_eq!(wish(&known(&serving, not_ready), target, 0.1), Some(expected), "{name}");
        }
    }

    /// Target tracking of Amazon EC2 Auto Scaling rounds for availability
    /// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>): for 1.5 more it adds two, of 1.5 too many it takes one.
    #[test]
    fn rounding_as_published() {
        for (machines, value, target, expected) in [(3, 75.0, 50.0, 5), (5, 35.0, 50.0, 4), (2, 1500.0, 1000.0, 3), (4, 60.0, 40.0, 6)] {
            assert_eq!(wish(&known(&all(machines, value), 0), target, 0.1), Some(expected), "{machines} with {value} of {target}");
        }
    }

    #[test]
    fn missing_metrics_hold_back() {
        // Two of four are missing. To grow they count as idle: (200 + 200 + 0 + 0) / 4 = 100, no change.
        let out = vec![Some(200.0), Some(200.0), None, None];
        assert_eq!(wish(&known(&out, 0), 100.0, 0.1), Some(4));
        // (300 + 300) / 4 = 150: half more.
        let out = vec![Some(300.0), Some(300.0), None, None];
        assert_eq!(wish(&known(&out, 0), 100.0, 0.1), Some(6));
        // To shrink they count as full: (20 + 20 + 100 + 100) / 4 = 60.
        let inward = vec![Some(20.0), Some(20.0), None, None];
        assert_eq!(wish(&known(&inward, 0), 100.0, 0.1), Some(3));
        // All of it at once turns over nothing.
        let inward = vec![Some(95.0), Some(85.0), None];
        assert_eq!(wish(&known(&inward, 0), 100.0, 0.0), Some(3));
    }

    #[test]
    fn what_is_not_ready_holds_back_growth() {
        // Three of each: 180 against 100, but the three that come will take half: 90, no change.
        assert_eq!(wish(&known(&all(3, 180.0), 3), 100.0, 0.1), Some(6));
        assert_eq!(wish(&known(&all(3, 400.0), 3), 100.0, 0.1), Some(12));
        // To shrink, those that serve say.
        assert_eq!(wish(&known(&all(4, 50.0), 2), 100.0, 0.1), Some(3));
    }
}
