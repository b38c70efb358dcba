//! Lock-out of who guesses tokens. Pure: time comes in.
//!
//! A token of 256 random bits cannot be guessed; a line that somebody thought of can. Each address may be wrong a few times; after that each
//! wrong token makes it wait, twice as long as before, and meanwhile the right one opens nothing either, or guessing would go on unseen.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong tokens that cost nothing: a slip of the hand, a program that was not told of a new token yet.
const FREE: u32 = 10;

/// The first wait; it doubles with each further wrong token.
const WAIT: Duration = Duration::from_secs(10);

/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Whoever was not wrong for so long begins anew.
const FORGET: Duration = Duration::from_secs(3600);

/// Addresses that are remembered; the one that was wrong the longest ago makes room.
const ADDRESSES_MAX: usize = 10_000;

/// Who was wrong, and how often.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    wrong: HashMap<IpAddr, Wrong>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Instant,
}

impl Wrong {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(beyond) => WAIT.saturating_mul(1 << (beyond - 1).min(16)).min(WAIT_MAX),
        }
    }
}

/// Who has one address of an IPv6 network has all of a /64.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Guesses {
    /// How long this address has to wait; `None`: it may try.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let wrong = self.wrong.get(&key(address))?;
        (wrong.last + wrong.wait()).checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It was wrong. Returns how often by now.
    pub(super) fn wrong(&mut self, address: IpAddr, now: Instant) -> u32 {
        let key = key(address);
        if self.wrong.len() >= ADDRESSES_MAX && !self.wrong.contains_key(&key) {
            self.wrong.retain(|_, wrong| now.duration_since(wrong.last) < FORGET);
            if self.wrong.len() >= ADDRESSES_MAX
                && let Some(oldest) = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(key, _)| *key)
            {
                self.wrong.remove(&oldest);
            }
        }
        let wrong = self.wrong.entry(key).or_insert(Wrong { count: 0, last: now });
        if now.duration_since(wrong.last) >= FORGET + wrong.wait() {
            wrong.count = 0;
        }
        (wrong.count, wrong.last) = (wrong.count.saturating_add(1), now);
        wrong.count
    }

    /// It was right.
    pub(super) fn right(&mut self, address: IpAddr) {
        self.wrong.remove(&key(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_few_are_free_then_it_takes_longer_and_longer() {
        let mut guesses = Guesses::default();
        let (me, mut now) = (address("10.0.0.1"), Instant::now());
        for _ in 0..FREE {
            guesses.wrong(me, now);
            assert_eq!(guesses.wait(me, now), None);
        }
        for seconds in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            guesses.wrong(me, now);
            assert_eq!(guesses.wait(me, now), Some(Duration::from_secs(seconds)));
            assert_eq!(guesses.wait(address("10.0.0.2"), now), None, "others are not concerned");
            now += Duration::from_secs(seconds);
            assert_eq!(guesses.wait(me, now), None);
        }
        guesses.right(me);
        assert_eq!(guesses.wrong(me, now), 1);
        now += FORGET;
        assert_eq!(guesses.wrong(me, now), 1, "long ago");
    }

    #[test]
    fn a_network_is_one_guesser() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        for n in 0..=FREE {
            guesses.wrong(address(&format!("2001:db8::{n}")), now);
        }
        assert!(guesses.wait(address("2001:db8::ffff"), now).is_some());
        assert!(guesses.wait(address("2001:db8:0:1::1"), now).is_none());
        assert_eq!(key(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        for n in 0..ADDRESSES_MAX as u32 + 5 {
            guesses.wrong(IpAddr::V4(std::net::Ipv4Addr::from(n)), now + Duration::from_millis(u64::from(n)));
        }
        assert_eq!(guesses.wrong.len(), ADDRESSES_MAX);
    }
}
