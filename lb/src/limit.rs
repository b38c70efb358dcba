//! Limits (pure). Rates: a token bucket for each key, told by one time (the generic cell rate algorithm, ITU-T I.371).
//!
//! A bucket is the moment at which it will be full again. One whose moment has passed is as good as none, so that forgetting costs nothing;
//! when more keys are busy than there is room for, those that are nearest to being full are forgotten first.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_config::RateLimit;

/// Locks that the keys are spread over.
const SHARDS: usize = 16;
/// Keys in each.
const KEYS_MAX: usize = 4096;
/// Keys of which the least busy makes room, where none is at rest.
const SAMPLE: usize = 8;

/// What is kept for each key, by the key's hash.
type Kept<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;
type Shards<T> = [Mutex<Kept<T>>; SHARDS];

/// By bits that no map of this size looks at: it would find its keys in fewer places.
fn shard_of<T>(shards: &Shards<T>, hash: u64) -> MutexGuard<'_, Kept<T>> {
    shards[(hash >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hash of what is one already, with a secret in it.
#[derive(Default, Debug)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One limit with its buckets, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    /// Between two requests at the allowed rate; 0: they are not counted by time.
    interval_ns: u64,
    /// So far ahead of the rate may a key be.
    tolerance_ns: u64,
    hasher: RandomState,
    shards: Shards<u64>,
    at_once: Option<(NonZeroU32, Arc<Crowd>)>,
}

/// What a limit keeps a bucket for; a key is hashed once for all that is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket(u64);

impl Limiter {
    /// An unused one. The hasher keeps clients from choosing keys that share a bucket.
    pub fn new(limit: &RateLimit, hasher: RandomState) -> Limiter {
        let interval_ns = limit.requests_per_second.map_or(0, |rate| 1_000_000_000 / u64::from(rate.get()));
        Limiter {
            interval_ns,
            tolerance_ns: interval_ns * u64::from(limit.burst.get() - 1),
            hasher,
            shards: std::array::from_fn(|_| Mutex::default()),
            at_once: limit.requests_at_once.map(|most| (most, Arc::default())),
        }
    }

    /// The bucket of a key.
    pub fn bucket(&self, key: &(impl Hash + ?Sized)) -> Bucket {
        Bucket(self.hasher.hash_one(key))
    }

    /// Takes a token of the bucket. `now_ns` is counted from any moment, the same for all.
    ///
    /// # Errors
    /// There is none: when there will be one.
    pub fn admit(&self, bucket: Bucket, now_ns: u64) -> Result<(), Duration> {
        if self.interval_ns == 0 {
            return Ok(());
        }
        let mut shard = shard_of(&self.shards, bucket.0);
        let Some(full_ns) = shard.get_mut(&bucket.0) else {
            if shard.len() >= KEYS_MAX {
                make_room(&mut shard, now_ns);
            }
            shard.insert(bucket.0, now_ns + self.interval_ns);
            return Ok(());
        };
        let ahead_ns = full_ns.saturating_sub(now_ns);
        if ahead_ns > self.tolerance_ns {
            return Err(Duration::from_nanos(ahead_ns - self.tolerance_ns));
        }
        *full_ns = now_ns + ahead_ns + self.interval_ns;
        Ok(())
    }

    /// Gives a token back: another limit refused the request that took it.
    pub fn refund(&self, bucket: Bucket) {
        if let Some(full_ns) = shard_of(&self.shards, bucket.0).get_mut(&bucket.0) {
            *full_ns = full_ns.saturating_sub(self.interval_ns);
        }
    }

    /// Counts a request as under way, where that is bounded; `Err`: there are as many as there may be.
    pub fn enter(&self, bucket: Bucket) -> Result<Option<Seat>, Full> {
        let Some((most, crowd)) = &self.at_once else { return Ok(None) };
        crowd.enter_hashed(bucket.0, *most).map(Some).ok_or(Full)
    }
}

/// There are as many under way as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// How many of each key there are at once. It holds those alone of which there are any.
#[derive(Debug)]
pub struct Crowd {
    hasher: RandomState,
    shards: Shards<u32>,
}

impl Default for Crowd {
    fn default() -> Crowd {
        Crowd { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// One of a crowd, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    hash: u64,
}

impl Crowd {
    /// Counts one more of this key, unless there are `most` already.
    pub fn enter(self: &Arc<Crowd>, key: &(impl Hash + ?Sized), most: NonZeroU32) -> Option<Seat> {
        self.enter_hashed(self.hasher.hash_one(key), most)
    }

    fn enter_hashed(self: &Arc<Crowd>, hash: u64, most: NonZeroU32) -> Option<Seat> {
        let mut shard = shard_of(&self.shards, hash);
        let count = shard.entry(hash).or_insert(0);
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Seat { crowd: Arc::clone(self), hash })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shard = shard_of(&self.crowd.shards, self.hash);
        if let Some(count) = shard.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.hash);
            }
        }
    }
}

fn make_room(shard: &mut Kept<u64>, now_ns: u64) {
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
    use weir_config::LimitKey;

    const MS: u64 = 1_000_000;

    fn limiter(requests_per_second: u32, burst: u32) -> Limiter {
        let number = |n| NonZeroU32::new(n).unwrap();
        let limit = RateLimit {
            per: LimitKey::Source,
            route: None,
            requests_per_second: Some(number(requests_per_second)),
            burst: number(burst),
            requests_at_once: NonZeroU32::new(2),
        };
        Limiter::new(&limit, RandomState::new())
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = limiter(10, 3);
        let at = |ms: u64| limiter.admit(limiter.bucket("a"), ms * MS);
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(99), Err(Duration::from_millis(1)));
        assert_eq!((at(100), at(100)), (Ok(()), Err(Duration::from_millis(100))));
        assert_eq!(limiter.admit(limiter.bucket("b"), 100 * MS), Ok(()), "each key has a bucket of its own");
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
            admitted[key] += u64::from(limiter.admit(limiter.bucket(&key), now).is_ok());
        }
        for count in admitted {
            assert!(count <= 5 + now / (10 * MS) && count > 1000, "{count} in {now} ns");
        }
    }

    #[test]
    fn many_keys_take_bounded_room_and_busy_ones_are_kept() {
        let limiter = limiter(1, 100);
        for _ in 0..100 {
            assert!(limiter.admit(limiter.bucket("busy"), 0).is_ok());
        }
        for key in 0..200_000u64 {
            assert!(limiter.admit(limiter.bucket(&key), 0).is_ok());
        }
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= SHARDS * KEYS_MAX, "{held}");
        assert!(limiter.admit(limiter.bucket("busy"), 0).is_err(), "the busiest is not the one to forget");
        assert!(limiter.admit(limiter.bucket("later"), 300_000 * MS).is_ok());
    }

    #[test]
    fn what_another_limit_refused_was_not_taken() {
        let limiter = limiter(1, 2);
        let bucket = limiter.bucket("a");
        for _ in 0..10 {
            assert_eq!(limiter.admit(bucket, 0), Ok(()));
            limiter.refund(bucket);
        }
        assert_eq!([limiter.admit(bucket, 0), limiter.admit(bucket, 0)], [Ok(()); 2]);
        assert!(limiter.admit(bucket, 0).is_err());
        limiter.refund(limiter.bucket("never seen"));
    }

    #[test]
    fn seats_are_counted_by_key_and_come_back() {
        let limiter = limiter(1, 1);
        let (a, b) = (limiter.bucket("a"), limiter.bucket("b"));
        let held = [limiter.enter(a), limiter.enter(a)].map(|seat| seat.unwrap().unwrap());
        assert!(matches!(limiter.enter(a), Err(Full)));
        assert!(limiter.enter(b).is_ok(), "each key has seats of its own");
        drop(held);
        assert!(limiter.enter(a).is_ok());
        let crowd = Arc::<Crowd>::default();
        let seats: Vec<Seat> = (0..1000u32).filter_map(|key| crowd.enter(&key, NonZeroU32::MIN)).collect();
        assert_eq!((seats.len(), crowd.enter(&7u32, NonZeroU32::MIN).is_none()), (1000, true));
        drop(seats);
        assert!(crowd.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nothing is kept of those that left");
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
