//! From outcomes to a verdict: so many successes in a row to rise, so many failures in a row to fall.
//!
//! ```text
//!   Unknown ── first outcome ──► Healthy ◄── rise successes in a row ── Unhealthy
//!                          └───► Unhealthy ◄── fall failures in a row ── Healthy
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::time::Instant;

/// What one probe said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The endpoint answered as it should.
    Ok,
    /// It did not, and why in plain words: `"connect refused"`.
    Failed(String),
    /// Nobody answers at its address at all, as when its machine is dead.
    Gone(String),
    /// The probe could not be made for a reason of this node's own, such as no free file descriptor. Says nothing about the endpoint,
    /// so nothing is counted: a node short of descriptors must not take its pools down.
    NotDone(String),
}

/// What is known about an endpoint's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Not probed yet.
    Unknown,
    /// The pool has no health check; counts as healthy.
    Unchecked,
    /// Observed healthy.
    Healthy,
    /// Observed unhealthy.
    Unhealthy,
}

impl Health {
    /// Whether it counts as healthy.
    pub fn is_up(self) -> bool {
        matches!(self, Health::Healthy | Health::Unchecked)
    }

    /// The word used in the API.
    pub fn word(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Unchecked => "unchecked",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// A verdict changed, or was reached for the first time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flip {
    /// The new verdict.
    pub healthy: bool,
    /// Why: `"3 of 3: connect refused"`, `"2 of 2: ok"`, `"first probe: ok"`.
    pub evidence: String,
}

/// The verdict on one endpoint.
#[derive(Clone, Debug)]
pub struct Verdict {
    health: Health,
    since: Instant,
    /// When an outcome last agreed with it.
    confirmed: Option<Instant>,
    /// Outcomes in a row that contradict the verdict.
    against: u32,
    /// The last outcome was that nobody is there.
    gone: bool,
    /// How many of how many, as shown with the last outcome.
    shown: Option<(u32, u32)>,
    reason: String,
}

impl Verdict {
    /// Nothing is known: the first outcome decides at once.
    pub fn unknown(now: Instant) -> Verdict {
        Verdict {
            health: Health::Unknown,
            since: now,
            confirmed: None,
            against: 0,
            gone: false,
            shown: None,
            reason: "not probed yet".into(),
        }
    }

    /// Starts from what was known before, with the reason shown until the first outcome. Rise and fall apply from here.
    pub fn kept(healthy: bool, reason: &str, now: Instant) -> Verdict {
        Verdict { health: observed(healthy), since: now, confirmed: None, against: 0, gone: false, shown: None, reason: reason.into() }
    }

    /// Forgets the outcomes counted so far, keeps the verdict: the next outcomes are those of another check.
    pub fn restart(&mut self) {
        self.against = 0;
        self.shown = None;
    }

    /// Counts an outcome. `rise` and `fall` are at least 1.
    pub fn handle_outcome(&mut self, outcome: &Outcome, rise: u32, fall: u32, now: Instant) -> Option<Flip> {
        let (up, reason) = match outcome {
            Outcome::Ok => (true, "ok"),
            Outcome::Failed(reason) | Outcome::Gone(reason) => (false, reason.as_str()),
            Outcome::NotDone(reason) => {
                // Without a verdict the operator should at least see why there is none.
                if self.health == Health::Unknown {
                    self.reason.clone_from(reason);
                }
                return None;
            }
        };
        self.gone = matches!(outcome, Outcome::Gone(_));
        if self.reason != reason {
            self.reason = reason.into();
        }
        let new = observed(up);
        if self.health == new {
            self.confirmed = Some(now);
            self.against = 0;
            self.shown = None;
            return None;
        }
        if self.health == Health::Unknown {
            self.health = new;
            self.since = now;
            self.confirmed = Some(now);
            return Some(Flip { healthy: up, evidence: format!("first probe: {reason}") });
        }
        self.against += 1;
        let needed = if up { rise } else { fall };
        self.shown = Some((self.against, needed));
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = new;
        self.since = now;
        self.confirmed = Some(now);
        Some(Flip { healthy: up, evidence: self.evidence() })
    }

    /// The verdict.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Observed unhealthy because nobody is there: what was sent to it is not answered any more.
    pub fn is_gone(&self) -> bool {
        self.health == Health::Unhealthy && self.gone
    }

    /// When it last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When an outcome last agreed with it; `None`: it is from before, and none has come yet.
    pub fn confirmed(&self) -> Option<Instant> {
        self.confirmed
    }

    /// Whether some, but not yet enough, outcomes contradict it.
    pub fn is_changing(&self) -> bool {
        self.against > 0
    }

    /// What the last outcomes said.
    pub fn evidence(&self) -> String {
        match self.shown {
            Some((count, of)) => format!("{count} of {of}: {}", self.reason),
            None => self.reason.clone(),
        }
    }
}

fn observed(healthy: bool) -> Health {
    if healthy { Health::Healthy } else { Health::Unhealthy }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each character is an outcome: `+` ok, `-` refused, `?` not done. The expectation has the state after each one: `u`nknown, `h`ealthy,
    /// `d`own; upper case where it flipped.
    fn check(start: Option<bool>, rise: u32, fall: u32, outcomes: &str, expected: &str) {
        let now = Instant::now();
        let mut verdict = start.map_or_else(|| Verdict::unknown(now), |healthy| Verdict::kept(healthy, "kept", now));
        let states: String = outcomes
            .chars()
            .map(|c| {
                let outcome = match c {
                    '+' => Outcome::Ok,
                    '-' => Outcome::Failed("connect refused".into()),
                    _ => Outcome::NotDone("no descriptor".into()),
                };
                let flip = verdict.handle_outcome(&outcome, rise, fall, now);
                let state = match verdict.health() {
                    Health::Unknown => 'u',
                    Health::Healthy => 'h',
                    _ => 'd',
                };
                if flip.is_some() { state.to_ascii_uppercase() } else { state }
            })
            .collect();
        assert_eq!(states, expected, "{start:?} rise {rise} fall {fall} {outcomes}");
    }

    #[test]
    fn table() {
        check(None, 2, 3, "+", "H");
        check(None, 2, 3, "-", "D");
        check(None, 2, 3, "?+---", "uHhhD");
        check(None, 2, 3, "+--+--+---", "HhhhhhhhhD");
        check(None, 2, 3, "-+-++", "DdddH");
        check(None, 1, 1, "+-+-", "HDHD");
        check(Some(true), 2, 3, "--+---", "hhhhhD");
        check(Some(false), 2, 3, "+-++", "dddH");
        // What could not be probed neither counts nor interrupts.
        check(Some(true), 2, 3, "-?-?-", "hhhhD");
    }

    #[test]
    fn a_verdict_knows_when_it_was_last_confirmed() {
        let start = Instant::now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let failed = || Outcome::Failed("refused".into());
        let mut verdict = Verdict::kept(true, "kept", start);
        assert_eq!(verdict.confirmed(), None);
        let outcomes = [
            (failed(), None),
            (Outcome::Ok, Some(2)),
            (failed(), Some(2)),
            (Outcome::NotDone(String::new()), Some(2)),
            (failed(), Some(5)),
        ];
        for (second, (outcome, expected)) in (1..).zip(outcomes) {
            verdict.handle_outcome(&outcome, 1, 2, at(second));
            assert_eq!(verdict.confirmed(), expected.map(at), "at {second}");
        }
    }

    #[test]
    fn evidence_counts_towards_the_flip() {
        let now = Instant::now();
        let mut verdict = Verdict::unknown(now);
        assert_eq!(verdict.evidence(), "not probed yet");
        assert_eq!(verdict.handle_outcome(&Outcome::Ok, 2, 3, now).unwrap().evidence, "first probe: ok");
        let refused = Outcome::Failed("connect refused".into());
        assert_eq!(verdict.handle_outcome(&refused, 2, 3, now), None);
        assert_eq!(verdict.handle_outcome(&refused, 2, 3, now), None);
        assert_eq!(verdict.evidence(), "2 of 3: connect refused");
        assert!(verdict.is_changing());
        let flip = verdict.handle_outcome(&refused, 2, 3, now).unwrap();
        assert_eq!(flip, Flip { healthy: false, evidence: "3 of 3: connect refused".into() });
        assert!(!verdict.is_changing());
        verdict.handle_outcome(&Outcome::Ok, 2, 3, now);
        assert_eq!(verdict.evidence(), "1 of 2: ok");
        assert_eq!(verdict.handle_outcome(&Outcome::Ok, 2, 3, now).unwrap().evidence, "2 of 2: ok");
    }

    #[test]
    fn another_check_counts_afresh() {
        let now = Instant::now();
        let mut verdict = Verdict::kept(true, "kept", now);
        let failed = Outcome::Failed("timeout".into());
        verdict.handle_outcome(&failed, 2, 2, now);
        verdict.restart();
        assert_eq!(verdict.handle_outcome(&failed, 2, 2, now), None);
        assert!(verdict.handle_outcome(&failed, 2, 2, now).is_some());
    }
}
