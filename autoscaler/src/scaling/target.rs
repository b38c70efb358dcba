//! Target tracking, by the algorithm that Kubernetes documents for its HorizontalPodAutoscaler.
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

    /// "Algorithm details" of the documentation.
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
