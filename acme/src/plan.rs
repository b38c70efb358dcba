//! When a certificate is ordered, and when again after that failed. No clock is read here.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::time::Duration;

/// After the first failure. Authorities count failed attempts (Let's Encrypt: five an hour for a name), so that this is no second.
const AGAIN_AFTER: Duration = Duration::from_secs(300);
/// After many.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(6 * 3600);
/// After an authority said that it was too much.
const AGAIN_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// A certificate that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What it is for.
    pub names: Vec<String>,
    /// When it began, in seconds since 1970.
    pub not_before_s: i64,
    /// When it is over, likewise.
    pub not_after_s: i64,
}

impl Held {
    /// When it is to be renewed: `renew_before` its end, or when two thirds of its time are over where that is later, and up to a tenth of what is
    /// left then later still, by `chance`: not all of a site's certificates, nor all sites, at one moment.
    pub fn due_s(&self, renew_before: Duration, chance: u64) -> i64 {
        let life_s = self.not_after_s.saturating_sub(self.not_before_s).max(0);
        let lead_s = i64::try_from(renew_before.as_secs()).unwrap_or(i64::MAX).min(life_s / 3);
        let later_s = i64::try_from(chance % (lead_s.unsigned_abs() / 10 + 1)).unwrap_or(0);
        self.not_after_s - lead_s + later_s
    }

    /// Whether it is for these names, in whatever order.
    pub fn is_for(&self, names: &[String]) -> bool {
        self.names.len() == names.len() && names.iter().all(|name| self.names.contains(name))
    }
}

/// How long to wait after so many failures in a row. `limited`: the authority said that it was asked too often.
pub fn again_after(failures: u32, limited: bool, chance: u64) -> Duration {
    let doubled = AGAIN_AFTER.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(AGAIN_AFTER_MAX);
    let wait = if limited { doubled.max(AGAIN_AFTER_LIMIT) } else { doubled };
    wait + Duration::from_millis(chance % (wait.as_millis() as u64 / 4 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn renewal_is_early_and_spread() {
        let held = |days: i64| Held { names: Vec::new(), not_before_s: 0, not_after_s: days * DAY };
        let days = |days: u64| Duration::from_secs(days * DAY as u64);
        for (life, before, earliest) in [(90, 30, 60 * DAY), (90, 10, 80 * DAY), (6, 30, 4 * DAY), (0, 30, 0)] {
            let all: Vec<i64> = (0..1000).map(|chance| held(life).due_s(days(before), chance * 7919)).collect();
            let (least, most) = (*all.iter().min().unwrap(), *all.iter().max().unwrap());
            assert_eq!(least, earliest, "{life} days");
            assert!(most <= earliest + (life * DAY - earliest) / 10, "{life} days: {most}");
            assert!(life == 0 || most > least, "{life} days");
        }
    }

    #[test]
    fn failures_are_waited_out_longer_each_time() {
        let waits: Vec<u64> = (1..=9).map(|failures| again_after(failures, false, 0).as_secs()).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]);
        assert_eq!(again_after(1, true, 0).as_secs(), 3600);
        assert!(again_after(u32::MAX, true, u64::MAX) <= AGAIN_AFTER_MAX * 5 / 4);
    }

    #[test]
    fn other_names_are_another_certificate() {
        let held = Held { names: vec!["a.test".into(), "b.test".into()], not_before_s: 0, not_after_s: 1 };
        assert!(held.is_for(&["b.test".into(), "a.test".into()]));
        assert!(!held.is_for(&["a.test".into()]) && !held.is_for(&["a.test".into(), "c.test".into()]));
    }
}
