//! What must hold for any bytes that the file of the history has where a page should be.

use weir_history::UnixMs;
use weir_history::point::{Point, Tier, join, pack, unpack};

/// The first byte chooses how fine the page is, the rest is its points.
pub fn page(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let tier = Tier::ALL[usize::from(*first) % Tier::ALL.len()];
    let at = UnixMs(1_700_006_400_000).floor(tier.page_ms());
    let points = unpack(tier, at, bytes);
    assert!(points.len() <= bytes.len() / 16, "{} points of {} bytes", points.len(), bytes.len());
    assert!(points.is_sorted_by(|one, next| one.at < next.at), "in the order of time, each once: {points:?}");
    for point in &points {
        let within = (at.0..at.0 + tier.page_ms()).contains(&point.at.0) && (point.at.0 - at.0).is_multiple_of(tier.period_ms());
        assert!(within && point.count > 0, "{point:?} is not of this page");
        assert!([point.mean, point.min, point.max].iter().all(|value| value.is_finite()), "{point:?}");
    }
    // A page is read and written again when points are added to it: nothing gets lost by it, and a value keeps its digits.
    let again = unpack(tier, at, &pack(tier, at, &points));
    let times = |points: &[Point]| points.iter().map(|point| (point.at, point.count)).collect::<Vec<_>>();
    assert_eq!(times(&again), times(&points));
    for (one, other) in points.iter().zip(&again) {
        for (value, now) in [(one.mean, other.mean), (one.min, other.min), (one.max, other.max)] {
            assert!((value - now).abs() <= value.abs() * 1e-6 + f64::from(f32::from_bits(1)), "{value} became {now}");
        }
    }
    assert_eq!(join(points.clone(), &points), points);
}
