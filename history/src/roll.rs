//! Samples of a series as they come become points of ten seconds, and these, a minute of them at a time, pages for the store. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use crate::UnixMs;
use crate::point::{Page, Point, Series, Tier};

const TIER: Tier = Tier::TenSeconds;

/// Points that are collected at most: ten minutes, when nobody takes them.
const POINTS_MAX: usize = 60;

/// Collects the samples of one series until their minute is over.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    points: Vec<Point>,
}

impl Roll {
    /// A sample. What is not a number is none.
    pub fn push(&mut self, at: UnixMs, value: f64) {
        if !value.is_finite() {
            return;
        }
        let begin = at.floor(TIER.period_ms());
        let collected = self.points.len();
        match self.points.last_mut() {
            Some(last) if last.at == begin => last.merge(&Point::of(begin, value)),
            _ if collected < POINTS_MAX => self.points.push(Point::of(begin, value)),
            _ => {}
        }
    }

    /// What was collected, in pages.
    pub fn take(&mut self, series: &Series) -> Vec<Page> {
        let mut points = std::mem::take(&mut self.points);
        // A clock that was set back brings points of the same ten seconds again.
        points.sort_by_key(|point| point.at);
        points.dedup_by(|later, first| {
            let same = later.at == first.at;
            if same {
                first.merge(later);
            }
            same
        });
        let chunks = points.chunk_by(|a, b| a.at.floor(TIER.page_ms()) == b.at.floor(TIER.page_ms()));
        chunks.map(|points| Page { series: series.clone(), at: points[0].at.floor(TIER.page_ms()), points: points.to_vec() }).collect()
    }

    /// What is collected and not taken yet.
    pub fn pending(&self) -> &[Point] {
        &self.points
    }
}

/// Says when a minute is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Minutes {
    page: UnixMs,
}

impl Minutes {
    /// Once for each minute; a clock that was set back ends it, too.
    pub fn over(&mut self, now: UnixMs) -> bool {
        let page = now.floor(TIER.page_ms());
        let over = page != self.page;
        self.page = page;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series { metric: "cpu".into(), scope: "pool".into(), name: "web".into() }
    }

    #[test]
    fn a_minute_becomes_a_page() {
        let (mut roll, mut minutes) = (Roll::default(), Minutes::default());
        assert!(minutes.over(UnixMs(60_000)), "the first");
        for second in 60..120 {
            roll.push(UnixMs(second * 1000 + 3), second as f64);
            assert!(!minutes.over(UnixMs(second * 1000 + 4)));
        }
        assert_eq!(roll.pending().len(), 6);
        roll.push(UnixMs(119_999), f64::NAN);
        assert!(minutes.over(UnixMs(120_000)));
        let pages = roll.take(&series());
        let [page] = &pages[..] else { panic!("{pages:?}") };
        assert_eq!((page.at, page.points.len()), (UnixMs(60_000), 6));
        assert_eq!(page.points[1], Point { at: UnixMs(70_000), count: 10, mean: 74.5, min: 70.0, max: 79.0 });
        assert!(roll.pending().is_empty() && roll.take(&series()).is_empty());
    }

    #[test]
    fn clocks_that_jump_lose_nothing_and_mix_nothing() {
        let mut roll = Roll::default();
        for at in [600_000, 610_000, 60_000, 70_000, 61_000, 1_200_000] {
            roll.push(UnixMs(at), 1.0);
        }
        let pages: Vec<(u64, usize, u32)> =
            roll.take(&series()).iter().map(|page| (page.at.0, page.points.len(), page.points.iter().map(|p| p.count).sum())).collect();
        assert_eq!(pages, [(60_000, 2, 3), (600_000, 2, 2), (1_200_000, 1, 1)]);
    }

    #[test]
    fn it_does_not_grow_when_nobody_takes() {
        let mut roll = Roll::default();
        (0..10_000).for_each(|n| roll.push(UnixMs(n * 10_000), 1.0));
        assert_eq!(roll.pending().len(), POINTS_MAX);
    }
}
