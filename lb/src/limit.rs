//! Rate limits (pure): a token bucket for each key, told by one time (the generic cell rate algorithm, ITU-T I.371).
//!
//! A bucket is the moment at which it will be full again. One whose moment has passed is as good as none, so that forgetting costs nothing;
//! when more keys are busy than there is room for, those that are nearest to being full are forgotten first.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use weir_config::RateLimit;

/// Locks that the keys are spread over.
const SHARDS: usize = 16;
/// Keys in each.
const KEYS_MAX: usize = 4096;
/// Keys of which the least busy makes room, where none is at rest.
const SAMPLE: usize = 8;

/// One limit with its buckets, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    /// Between two requests at the allowed rate.
    interval_ns: u64,
    /// So far ahead of the rate may a key be.
    tolerance_ns: u64,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Limiter {
    /// An unused one. The hasher keeps clients from choosing keys that share a bucket.
    pub fn new(limit: &RateLimit, hasher: RandomState) -> Limiter {
        let interval_ns = 1_000_000_000 / u64::from(limit.requests_per_second.get());
        let tolerance_ns = interval_ns * u64::from(limit.burst.get() - 1);
        Limiter { interval_ns, tolerance_ns, hasher, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Takes a token of the key's bucket. `now_ns` is counted from any moment, the same for all.
    ///
    /// # Errors
    /// There is none: when there will be one.
    pub fn admit(&self, key: &(impl Hash + ?Sized), now_ns: u64) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let full_ns = shard.get(&hash).copied().unwrap_or(0).max(now_ns);
        let ahead_ns = full_ns - now_ns;
        if ahead_ns > self.tolerance_ns {
            return Err(Duration::from_nanos(ahead_ns - self.tolerance_ns));
        }
        if shard.len() >= KEYS_MAX && !shard.contains_key(&hash) {
            make_room(&mut shard, now_ns);
        }
        shard.insert(hash, full_ns + self.interval_ns);
        Ok(())
    }
}

fn make_room(shard: &mut HashMap<u64, u64>, now_ns: u64) {
    shard.retain(|_, full_ns| *full_ns > now_ns);
    if shard.len() >= KEYS_MAX
        && let Some(least) = shard.iter().take(SAMPLE).min_by_key(|(_, full_ns)| **full_ns).map(|(hash, _)| *hash)
    {
        shard.remove(&least);
    }
}

/// What a client's address counts as: an IPv6 network of 64 bits is one client.
pub fn source(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use weir_config::LimitKey;

    const MS: u64 = 1_000_000;

    fn limiter(requests_per_second: u32, burst: u32) -> Limiter {
        let number = |n| NonZeroU32::new(n).unwrap();
        let limit =
            RateLimit { per: LimitKey::Source, route: None, requests_per_second: number(requests_per_second), burst: number(burst) };
        Limiter::new(&limit, RandomState::new())
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = limiter(10, 3);
        let at = |ms: u64| limiter.admit("a", ms * MS);
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(99), Err(Duration::from_millis(1)));
        assert_eq!((at(100), at(100)), (Ok(()), Err(Duration::from_millis(100))));
        assert_eq!(limiter.admit("b", 100 * MS), Ok(()), "each key has a bucket of its own");
        assert_eq!([at(10_000), at(10_000), at(10_000)], [Ok(()); 3], "no more than a burst is saved up");
        assert!(at(10_000).is_err());
    }

    /// Over any time, no key gets more than a burst and what the rate gives.
    #[test]
    fn nobody_gets_more_than_told() {
        let limiter = limiter(100, 5);
        let mut random = fastrand::Rng::with_seed(3);
        let (mut now, mut admitted) = (0u64, [0u64; 4]);
        for _ in 0..20_000 {
            now += random.u64(..3 * MS);
            let key = random.usize(..4);
            admitted[key] += u64::from(limiter.admit(&key, now).is_ok());
        }
        for count in admitted {
            assert!(count <= 5 + now / (10 * MS) && count > 1000, "{count} in {now} ns");
        }
    }

    #[test]
    fn many_keys_take_bounded_room_and_busy_ones_are_kept() {
        let limiter = limiter(1, 100);
        for _ in 0..100 {
            assert!(limiter.admit("busy", 0).is_ok());
        }
        for key in 0..200_000u64 {
            assert!(limiter.admit(&key, 0).is_ok());
        }
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= SHARDS * KEYS_MAX, "{held}");
        assert!(limiter.admit("busy", 0).is_err(), "the busiest is not the one to forget");
        assert!(limiter.admit("later", 300_000 * MS).is_ok());
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
