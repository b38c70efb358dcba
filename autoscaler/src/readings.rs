//! Where metrics come from: whoever watches the pools, hosts and machines implements [`Readings`].
//!
//! ```text
//!            period n-3      period n-2      period n-1     (period n, not over)
//!   ────────┬───────────────┬───────────────┬───────────────┬──────────── time
//!           │ Some(71.2)    │ None: missing │ Some(68.0)    │      ▲ now
//! ```
//!
//! Periods are aligned to multiples of their length since 1970, as those of CloudWatch are, so that every node sees the same ones.

use std::time::Duration;

use weir_config::{HostName, Metric, PoolName, Statistic};

use crate::time::UnixMs;

/// Whose metric.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// A pool: traffic as the data plane counts it; machine metrics over those of its machines that serve, so neither over those that warm
    /// up nor over those that drain.
    Pool(PoolName),
    /// A host of virtual machines.
    Host(HostName),
    /// One machine, by the name of its domain.
    Machine(String),
}

/// A question for data points.
#[derive(Clone, PartialEq, Debug)]
pub struct Query<'a> {
    /// What is measured.
    pub metric: &'a Metric,
    /// Of whom.
    pub scope: &'a Scope,
    /// How the samples of one period become one data point; of a pool's machines first over the machines, then over the period.
    pub statistic: Statistic,
    /// Length of a period; not zero.
    pub period: Duration,
    /// How many periods, from the last complete one backwards.
    pub periods: u32,
}

impl Query<'_> {
    /// Start of the oldest and end of the newest period that is asked for.
    pub fn span(&self, now: UnixMs) -> (UnixMs, UnixMs) {
        let end = now.floor(self.period);
        (end.minus(self.period.saturating_mul(self.periods)), end)
    }
}

/// Answers from memory, without waiting for anybody.
pub trait Readings {
    /// Exactly `query.periods` data points, oldest first, of the periods that are complete at `now`; `None`: no sample fell into that
    /// period. What the scope does not have at all is missing in every period.
    fn points(&self, query: &Query<'_>, now: UnixMs) -> Vec<Option<f64>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_aligned_and_complete() {
        let scope = Scope::Pool("web".into());
        let query =
            Query { metric: &Metric::Cpu, scope: &scope, statistic: Statistic::Average, period: Duration::from_secs(10), periods: 3 };
        assert_eq!(query.span(UnixMs(65_000)), (UnixMs(30_000), UnixMs(60_000)));
        assert_eq!(query.span(UnixMs(60_000)), (UnixMs(30_000), UnixMs(60_000)));
        assert_eq!(query.span(UnixMs(5_000)), (UnixMs(0), UnixMs(0)));
    }
}
