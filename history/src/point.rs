//! Samples over a span of time: merged, packed and cut into steps. Pure.
//!
//! ```text
//!   page of the tier of 10 s: one minute        6 points
//!   page of the tier of 1 min: one hour        60 points
//!   page of the tier of 1 h: one day           24 points
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::sync::Arc;

use crate::UnixMs;

/// How finely, and how much of it in one page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Points of ten seconds.
    TenSeconds,
    /// Points of a minute.
    Minute,
    /// Points of an hour.
    Hour,
}

impl Tier {
    /// From fine to coarse.
    pub const ALL: [Tier; 3] = [Tier::TenSeconds, Tier::Minute, Tier::Hour];

    /// The length of a point.
    pub fn period_ms(self) -> u64 {
        match self {
            Tier::TenSeconds => 10_000,
            Tier::Minute => 60_000,
            Tier::Hour => 3_600_000,
        }
    }

    /// The length of a page.
    pub fn page_ms(self) -> u64 {
        match self {
            Tier::TenSeconds => 60_000,
            Tier::Minute => 3_600_000,
            Tier::Hour => 86_400_000,
        }
    }

    /// Its number in the file.
    pub fn number(self) -> i64 {
        match self {
            Tier::TenSeconds => 10,
            Tier::Minute => 60,
            Tier::Hour => 3600,
        }
    }

    /// The next finer one.
    pub fn finer(self) -> Option<Tier> {
        match self {
            Tier::TenSeconds => None,
            Tier::Minute => Some(Tier::TenSeconds),
            Tier::Hour => Some(Tier::Minute),
        }
    }

    /// The next coarser one.
    pub fn coarser(self) -> Option<Tier> {
        match self {
            Tier::TenSeconds => Some(Tier::Minute),
            Tier::Minute => Some(Tier::Hour),
            Tier::Hour => None,
        }
    }
}

/// What is measured of whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Series {
    /// The metric, as the file writes it.
    pub metric: Arc<str>,
    /// `pool`, `host` or `machine`.
    pub scope: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// All samples of a span.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Begin of the span.
    pub at: UnixMs,
    /// How many samples; not zero.
    pub count: u32,
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// The points of one series in one page.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// Of whom.
    pub series: Series,
    /// Begin of the page.
    pub at: UnixMs,
    /// In the order of time.
    pub points: Vec<Point>,
}

impl Point {
    /// Of one sample.
    pub fn of(at: UnixMs, value: f64) -> Point {
        Point { at, count: 1, mean: value, min: value, max: value }
    }

    /// Takes in the samples of another one; its own begin stays.
    pub fn merge(&mut self, other: &Point) {
        let (count, more) = (f64::from(self.count), f64::from(other.count));
        self.mean += (other.mean - self.mean) * more / (count + more);
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Points by steps of so many milliseconds; what begins in a step belongs to it. The points are in the order of time.
pub fn by_steps(points: impl IntoIterator<Item = Point>, step_ms: u64) -> Vec<Point> {
    let mut steps: Vec<Point> = Vec::new();
    for point in points {
        let at = point.at.floor(step_ms);
        match steps.last_mut() {
            Some(last) if last.at == at => last.merge(&point),
            _ => steps.push(Point { at, ..point }),
        }
    }
    steps
}

/// The bytes of a point: its place in the page, count, mean, least, most.
const POINT_BYTES: usize = 16;

/// Points of a page as bytes. Those that do not belong into it are left out; values are kept to seven digits.
pub fn pack(tier: Tier, page_at: UnixMs, points: &[Point]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(points.len() * POINT_BYTES);
    for point in points {
        let Some(offset) = point.at.0.checked_sub(page_at.0).filter(|offset| *offset < tier.page_ms()) else { continue };
        let place = u16::try_from(offset / tier.period_ms()).unwrap_or(u16::MAX);
        bytes.extend(place.to_le_bytes());
        bytes.extend(u16::try_from(point.count).unwrap_or(u16::MAX).to_le_bytes());
        for value in [point.mean, point.min, point.max] {
            // What is larger than fits is as large as fits; infinite, the whole point would make no sense.
            bytes.extend((value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32).to_le_bytes());
        }
    }
    bytes
}

/// The points in these bytes, in the order of time. What makes no sense is left out.
pub fn unpack(tier: Tier, page_at: UnixMs, bytes: &[u8]) -> Vec<Point> {
    let places = tier.page_ms() / tier.period_ms();
    let short = |at: usize, chunk: &[u8]| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
    let value = |at: usize, chunk: &[u8]| rounded(f32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]));
    let mut points: Vec<Point> = bytes
        .chunks_exact(POINT_BYTES)
        .filter_map(|chunk| {
            let (place, count) = (u64::from(short(0, chunk)), u32::from(short(2, chunk)));
            let point = Point {
                at: page_at.plus(place * tier.period_ms()),
                count,
                mean: value(4, chunk),
                min: value(8, chunk),
                max: value(12, chunk),
            };
            let makes_sense = place < places && count > 0 && [point.mean, point.min, point.max].iter().all(|value| value.is_finite());
            makes_sense.then_some(point)
        })
        .collect();
    points.sort_by_key(|point| point.at);
    points.dedup_by_key(|point| point.at);
    points
}

/// Two pages of the same time as one; where both have a point the newer one stands.
pub fn join(older: Vec<Point>, newer: &[Point]) -> Vec<Point> {
    let mut points: Vec<Point> = older.into_iter().filter(|point| !newer.iter().any(|new| new.at == point.at)).collect();
    points.extend_from_slice(newer);
    points.sort_by_key(|point| point.at);
    points
}

/// A number as people wrote it, and not as the nearest binary fraction: seven digits are all there is.
fn rounded(value: f32) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return f64::from(value);
    }
    let digits = 6 - f64::from(value.abs()).log10().floor() as i32;
    let scale = 10f64.powi(digits.clamp(-300, 300));
    (f64::from(value) * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: u64, count: u32, mean: f64, min: f64, max: f64) -> Point {
        Point { at: UnixMs(at_s * 1000), count, mean, min, max }
    }

    #[test]
    fn merged_points_are_those_of_all_samples() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let samples: Vec<f64> = (0..random.usize(1..50)).map(|_| random.f64() * 1000.0).collect();
            let cut = random.usize(1..=samples.len());
            let of = |samples: &[f64]| {
                let mut points = samples.iter().map(|value| Point::of(UnixMs(5), *value));
                let mut first = points.next()?;
                points.for_each(|point| first.merge(&point));
                Some(first)
            };
            let mut merged = of(&samples[..cut]).expect("one at least");
            if let Some(rest) = of(&samples[cut..]) {
                merged.merge(&rest);
            }
            assert_eq!(merged.count as usize, samples.len());
            assert!((merged.mean - samples.iter().sum::<f64>() / samples.len() as f64).abs() < 1e-9);
            assert_eq!(merged.max, samples.iter().copied().fold(0.0, f64::max));
            assert_eq!(merged.min, samples.iter().copied().fold(1e9, f64::min));
        }
    }

    #[test]
    fn pages_are_read_as_they_were_written() {
        let at = UnixMs(1_700_000_040_000);
        let points: Vec<Point> = (0..6)
            .filter(|n| *n != 2)
            .map(|n| Point { at: at.plus(n * 10_000), count: 10, mean: 70.1, min: 0.3, max: 1_234_567.0 })
            .collect();
        assert_eq!(unpack(Tier::TenSeconds, at, &pack(Tier::TenSeconds, at, &points)), points);
        let other = [point(1_700_000_100, 1, 1.0, 1.0, 1.0), point(1, 1, 1.0, 1.0, 1.0)];
        assert!(pack(Tier::TenSeconds, at, &other).is_empty(), "of another page");
        let huge = unpack(Tier::Hour, at, &pack(Tier::Hour, at, &[Point { at, count: 1, mean: 1e300, min: -1e300, max: 1e300 }]));
        let again = unpack(Tier::Hour, at, &pack(Tier::Hour, at, &huge));
        assert!(huge.len() == 1 && huge == again && huge[0].max > 3e38 && huge[0].min < -3e38, "{huge:?} {again:?}");
        let many = Point { at, count: 1_000_000, mean: 1.0, min: 1.0, max: 1.0 };
        assert_eq!(unpack(Tier::Hour, at, &pack(Tier::Hour, at, &[many]))[0].count, 65_535);
    }

    /// The file may hold anything.
    #[test]
    fn bytes_that_make_no_sense_are_left_out() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            for tier in Tier::ALL {
                for point in unpack(tier, UnixMs(0), &bytes) {
                    assert!(point.count > 0 && point.mean.is_finite() && point.at.0 < tier.page_ms(), "{point:?}");
                }
            }
        }
    }

    #[test]
    fn points_fall_into_their_steps() {
        let points = [point(0, 1, 1.0, 1.0, 1.0), point(10, 1, 3.0, 3.0, 3.0), point(60, 2, 5.0, 4.0, 6.0)];
        let steps = by_steps(points, 60_000);
        assert_eq!(steps, [point(0, 2, 2.0, 1.0, 3.0), point(60, 2, 5.0, 4.0, 6.0)]);
    }

    #[test]
    fn the_newer_point_stands() {
        let older = vec![point(0, 1, 1.0, 1.0, 1.0), point(20, 1, 1.0, 1.0, 1.0)];
        let newer = [point(10, 1, 2.0, 2.0, 2.0), point(20, 1, 2.0, 2.0, 2.0)];
        let means: Vec<f64> = join(older, &newer).iter().map(|point| point.mean).collect();
        assert_eq!(means, [1.0, 2.0, 2.0]);
    }
}
