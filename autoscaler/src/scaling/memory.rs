//! What is remembered from one plan to the next. A new leader begins without it, from what the hosts show.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observation::Observation;
use super::policy::Policy;
use crate::time::UnixMs;

/// Changes of a trend that are kept.
const TREND_MAX: usize = 1000;

/// What is remembered of one pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// How many machines are wanted.
    pub desired: u32,
    /// When the pool last became larger, and smaller.
    pub last_out: Option<UnixMs>,
    /// The same, smaller.
    pub last_in: Option<UnixMs>,
    /// What was wished for over time.
    pub wished: Trend,
    /// The last scheduled `desired` that was done.
    pub scheduled: UnixMs,
    /// Of the plans of this leader: what is of a later one is not touched.
    pub generation: u64,
    /// An operator has stopped it.
    pub paused: bool,
    /// Launches that failed in a row.
    pub launch_failures: u32,
    /// No launch before this moment.
    pub launch_not_before: UnixMs,
    /// Hosts on which a launch failed, until when they are not tried again.
    pub bad_hosts: BTreeMap<String, UnixMs>,
    /// A refresh that is under way, or how the last one ended.
    pub refresh: Option<RefreshState>,
}

/// Where a refresh is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RefreshState {
    /// The base that everything gets.
    pub to: String,
    /// The base that most had before: where a rollback goes.
    pub from: Option<String>,
    /// When it began.
    pub began: UnixMs,
    /// Nothing more is replaced before this moment.
    pub not_before: UnixMs,
    /// Checkpoints that were reached.
    pub checkpoints: u32,
    /// Machines on the new base when the last batch ended.
    pub replaced: u32,
    /// It goes back: why.
    pub rolled_back: Option<String>,
    /// It is over.
    pub ended: Option<UnixMs>,
    /// Machines that are protected and stay on the base that they have.
    #[serde(default)]
    pub kept: Vec<String>,
}

impl RefreshState {
    /// What a successor must know of it, in one line; `None`: nothing.
    pub fn note(&self) -> Option<String> {
        let state = match (&self.rolled_back, self.ended) {
            (None, None) => "forth",
            (Some(_), None) => "back",
            (Some(_), Some(_)) => "refused",
            (None, Some(_)) => return None,
        };
        Some(format!("{} {state} {} {}", self.began.0 / 1000, self.to, self.from.as_deref().unwrap_or("-")))
    }

    /// Reads what was noted. Batches and checkpoints are counted anew, and waited for once more.
    fn of_note(text: &str, now: UnixMs) -> Option<RefreshState> {
        let [began, state, to, from]: [&str; 4] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let began = UnixMs(began.parse::<u64>().ok()?.saturating_mul(1000)).min(now);
        let (is_back, is_over) = match state {
            "forth" => (false, false),
            "back" => (true, false),
            "refused" => (true, true),
            _ => return None,
        };
        Some(RefreshState {
            to: to.to_owned(),
            from: (from != "-").then(|| from.to_owned()),
            began,
            not_before: now,
            checkpoints: 0,
            replaced: 0,
            rolled_back: is_back.then(|| "another node led then, and took it back".to_owned()),
            ended: is_over.then_some(began),
            kept: Vec::new(),
        })
    }
}

/// A number over time, as its changes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Trend(VecDeque<(UnixMs, u32)>);

impl Trend {
    /// From now on it is so much. What ended before the window is forgotten.
    pub fn push(&mut self, now: UnixMs, value: u32, window: Duration) {
        // A clock that was set back must not leave anything in the future.
        while self.0.back().is_some_and(|(at, _)| *at > now) {
            self.0.pop_back();
        }
        if self.0.back().is_none_or(|(_, last)| *last != value) {
            self.0.push_back((now, value));
        }
        let begin = now.minus(window);
        while self.0.len() > TREND_MAX || self.0.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.0.pop_front();
        }
    }

    fn within(&self, now: UnixMs, window: Duration) -> impl Iterator<Item = u32> {
        let begin = now.minus(window);
        let ended_before = self.0.iter().skip(1).filter(|(at, _)| *at <= begin).count();
        self.0.iter().skip(ended_before).map(|(_, value)| *value)
    }

    /// The most within the window.
    pub fn most(&self, now: UnixMs, window: Duration) -> Option<u32> {
        self.within(now, window).max()
    }

    /// The least within the window.
    pub fn least(&self, now: UnixMs, window: Duration) -> Option<u32> {
        self.within(now, window).min()
    }
}

impl Memory {
    /// Of a leader that begins: as many machines are wanted as there are, and the last of them was made just now.
    pub fn adopt(policy: &Policy, observation: &Observation, now: UnixMs) -> Memory {
        let staying = observation.count(|state| !state.is_going());
        let desired = if staying == 0 { policy.scaling.desired.unwrap_or(policy.scaling.min) } else { staying };
        let newest = observation.members.iter().map(|member| member.since).max().map(|since| since.min(now));
        let generation = observation.members.iter().map(|member| member.generation).max().unwrap_or(0) + 1;
        let of_members = observation.members.iter().filter(|member| !member.state.is_going());
        let refreshes = of_members.filter_map(|member| RefreshState::of_note(member.refresh.as_deref()?, now));
        // One that has begun later replaces another; one that is over says more than one that is not.
        let refresh = refreshes.max_by_key(|refresh| (refresh.began, refresh.rolled_back.is_some(), refresh.ended.is_some()));
        let mut wished = Trend::default();
        wished.push(now, desired, policy.scaling.stabilise_in.max(policy.scaling.stabilise_out));
        Memory {
            desired: desired.clamp(policy.scaling.min, policy.scaling.max),
            last_out: newest,
            last_in: None,
            wished,
            scheduled: now,
            generation,
            paused: false,
            launch_failures: 0,
            launch_not_before: UnixMs(0),
            bad_hosts: BTreeMap::new(),
            refresh,
        }
    }

    /// A clock that was set back must not make a cooldown endless.
    pub fn no_later_than(&mut self, now: UnixMs) {
        self.last_out = self.last_out.map(|at| at.min(now));
        self.last_in = self.last_in.map(|at| at.min(now));
        self.scheduled = self.scheduled.min(now);
        self.launch_not_before = self.launch_not_before.min(now.plus(BACK_OFF_MAX));
        self.bad_hosts.retain(|_, until| *until > now && until.since(now) <= BACK_OFF_MAX);
        if let Some(refresh) = &mut self.refresh {
            refresh.began = refresh.began.min(now);
        }
    }

    /// A launch has failed: later, and elsewhere.
    pub fn launch_failed(&mut self, host: Option<&str>, now: UnixMs) {
        self.launch_failures = self.launch_failures.saturating_add(1);
        let pause = (BACK_OFF * 2u32.saturating_pow((self.launch_failures - 1).min(16))).min(BACK_OFF_MAX);
        self.launch_not_before = now.plus(pause);
        if let Some(host) = host {
            self.bad_hosts.insert(host.to_owned(), now.plus(BAD_HOST));
        }
    }

    /// A launch has succeeded.
    pub fn launch_worked(&mut self, host: &str) {
        self.launch_failures = 0;
        self.launch_not_before = UnixMs(0);
        self.bad_hosts.remove(host);
    }
}

/// The pause after a first failed launch; each further one doubles it.
pub const BACK_OFF: Duration = Duration::from_secs(2);

/// The longest pause.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// How long a host is avoided on which a launch failed.
pub const BAD_HOST: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_knows_its_window() {
        let (minute, second) = (Duration::from_secs(60), |s: u64| UnixMs(s * 1000));
        let mut trend = Trend::default();
        for (at, value) in [(0, 5), (10, 5), (20, 9), (30, 3), (80, 3)] {
            trend.push(second(at), value, minute);
        }
        // 3 from 30 on; at 85 the window begins in the time of 9.
        assert_eq!(trend.most(second(85), minute), Some(9));
        assert_eq!(trend.most(second(95), minute), Some(3));
        trend.push(second(50), 7, minute);
        assert_eq!((trend.most(second(50), minute), trend.least(second(50), minute)), (Some(9), Some(3)));
        for at in 0..5000 {
            trend.push(second(100 + at), at as u32, Duration::from_secs(1_000_000));
        }
        assert!(trend.0.len() <= TREND_MAX);
    }
}
