//! The moment at which something is decided.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC. On the wall and not monotonic, because what is decided must mean the same after a restart and on another
/// node; whoever compares two of them lives with a clock that was set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// So much later.
    pub fn plus(self, duration: Duration) -> UnixMs {
        UnixMs(self.0.saturating_add(millis(duration)))
    }

    /// So much earlier; never before 1970.
    pub fn minus(self, duration: Duration) -> UnixMs {
        UnixMs(self.0.saturating_sub(millis(duration)))
    }

    /// How long ago `earlier` was; zero when it is still to come, as after a clock was set back.
    pub fn since(self, earlier: UnixMs) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The last multiple of the period, which is the end of the last period that is complete. A period of zero counts as a millisecond.
    pub fn floor(self, period: Duration) -> UnixMs {
        let period = millis(period).max(1);
        UnixMs(self.0 - self.0 % period)
    }
}

/// A duration in milliseconds, as far as they fit.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_wrap() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(UnixMs(500).minus(second), UnixMs(0));
        assert_eq!(UnixMs(u64::MAX).plus(second), UnixMs(u64::MAX));
        assert_eq!(UnixMs(1000).since(UnixMs(3000)), Duration::ZERO);
        assert_eq!(UnixMs(125_000).floor(minute), UnixMs(120_000));
        assert_eq!(UnixMs(120_000).floor(minute), UnixMs(120_000));
        assert_eq!(UnixMs(7).floor(Duration::ZERO), UnixMs(7));
    }
}
