//! The samples of one series.

use std::collections::VecDeque;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_history::roll::Roll;

use super::kept;

/// Samples of one series: four hours.
const SAMPLES_MAX: usize = 4 * 3600;

/// Without a sample for so long it is gone.
const GONE: Duration = Duration::from_secs(SAMPLES_MAX as u64);

/// Samples of a second, as far back as somebody looks, and points that are collected to be kept.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// How far back somebody looks; zero: nobody does.
    pub(super) back: Duration,
    samples: VecDeque<(UnixMs, f64)>,
    pub(super) rolled: Roll,
    last: UnixMs,
}

impl Track {
    pub(super) fn new(back: Duration) -> Track {
        Track { back, ..Track::default() }
    }

    /// A sample.
    pub(super) fn push(&mut self, value: f64, now: UnixMs) {
        self.roll(value, now);
        if self.back.is_zero() || !value.is_finite() {
            self.samples.clear();
            return;
        }
        self.samples.push_back((now, value));
        let oldest = now.minus(self.back);
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(|(at, _)| *at < oldest) {
            self.samples.pop_front();
        }
    }

    /// A sample that is only kept.
    pub(super) fn roll(&mut self, value: f64, now: UnixMs) {
        self.last = now;
        self.rolled.push(kept(now), value);
    }

    /// Adds the samples of a span.
    pub(super) fn add_to(&self, values: &mut Vec<f64>, from: UnixMs, to: UnixMs) {
        let first = self.samples.partition_point(|(at, _)| *at < from);
        values.extend(self.samples.range(first..).take_while(|(at, _)| *at < to).map(|(_, value)| *value));
    }

    /// Whether it is still measured, or still to be kept.
    pub(super) fn is_alive(&self, now: UnixMs) -> bool {
        let silence = now.since(self.last);
        let looked_at = if self.back.is_zero() { Duration::from_secs(1) } else { self.back.min(GONE) };
        silence <= looked_at || !self.rolled.pending().is_empty()
    }
}
