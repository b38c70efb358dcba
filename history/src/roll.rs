//! Samples as they come become points of ten seconds, and these, a minute of them at a time, pages for the store. Pure.

use std::collections::BTreeMap;

use crate::UnixMs;
use crate::point::{Page, Point, Series, Tier};

const TIER: Tier = Tier::TenSeconds;

/// Series at once; more are left out and counted.
const SERIES_MAX: usize = 100_000;

/// Collects samples until their minute is over.
#[derive(Clone, Debug, Default)]
pub struct Roller {
    open: BTreeMap<Series, Vec<Point>>,
    /// Begin of the minute that is being collected.
    page: UnixMs,
    /// Samples that were left out because there were too many series.
    pub left_out: u64,
}

impl Roller {
    /// A sample. What is not a number is none.
    pub fn push(&mut self, series: &Series, at: UnixMs, value: f64) {
        if !value.is_finite() {
            return;
        }
        let begin = at.floor(TIER.period_ms());
        if let Some(points) = self.open.get_mut(series) {
            match points.last_mut() {
                Some(last) if last.at == begin => last.merge(&Point::of(begin, value)),
                _ => points.push(Point::of(begin, value)),
            }
        } else if self.open.len() < SERIES_MAX {
            self.open.insert(series.clone(), vec![Point::of(begin, value)]);
        } else {
            self.left_out += 1;
        }
    }

    /// The pages of the minute before, once when it is over. A clock that was set back ends the minute, too.
    pub fn take(&mut self, now: UnixMs) -> Vec<Page> {
        let page = now.floor(TIER.page_ms());
        if page == self.page {
            return Vec::new();
        }
        self.page = page;
        self.flush()
    }

    /// All pages, whether their minute is over or not: for the end.
    pub fn flush(&mut self) -> Vec<Page> {
        let mut pages = Vec::with_capacity(self.open.len());
        for (series, points) in std::mem::take(&mut self.open) {
            let mut rest = &points[..];
            while let Some(first) = rest.first() {
                let at = first.at.floor(TIER.page_ms());
                let length = rest.iter().take_while(|point| point.at.floor(TIER.page_ms()) == at).count();
                let mut points = rest[..length].to_vec();
                points.sort_by_key(|point| point.at);
                points.dedup_by(|later, first| {
                    let same = later.at == first.at;
                    if same {
                        first.merge(later);
                    }
                    same
                });
                pages.push(Page { series: series.clone(), at, points });
                rest = &rest[length..];
            }
        }
        pages
    }

    /// What is collected of one series and not in the store yet.
    pub fn pending(&self, series: &Series) -> &[Point] {
        self.open.get(series).map_or(&[], Vec::as_slice)
    }

    /// The series of which something is collected.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.open.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Series {
        Series { metric: "cpu".into(), scope: "pool".into(), name: name.into() }
    }

    #[test]
    fn a_minute_becomes_a_page() {
        let mut roller = Roller::default();
        assert!(roller.take(UnixMs(60_000)).is_empty());
        for second in 60..120 {
            roller.push(&series("web"), UnixMs(second * 1000 + 3), second as f64);
            assert!(roller.take(UnixMs(second * 1000 + 4)).is_empty());
        }
        assert_eq!(roller.pending(&series("web")).len(), 6);
        roller.push(&series("web"), UnixMs(119_999), f64::NAN);
        let pages = roller.take(UnixMs(120_000));
        let [page] = &pages[..] else { panic!("{pages:?}") };
        assert_eq!((page.at, page.points.len()), (UnixMs(60_000), 6));
        assert_eq!(page.points[1], Point { at: UnixMs(70_000), count: 10, mean: 74.5, min: 70.0, max: 79.0 });
        assert!(roller.pending(&series("web")).is_empty());
        assert!(roller.take(UnixMs(120_001)).is_empty());
    }

    #[test]
    fn clocks_that_jump_lose_nothing_and_mix_nothing() {
        let mut roller = Roller::default();
        for at in [600_000, 610_000, 60_000, 70_000, 61_000, 1_200_000] {
            roller.push(&series("web"), UnixMs(at), 1.0);
        }
        let pages: Vec<(u64, usize)> = roller.take(UnixMs(1_200_001)).iter().map(|page| (page.at.0, page.points.len())).collect();
        assert_eq!(pages, [(600_000, 2), (60_000, 2), (1_200_000, 1)]);
    }
}
