//! Who was where (pure): a bounded table of clients, shared by all workers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Locks that the clients are spread over.
const SHARDS: usize = 16;
/// Clients of which the quietest makes room, where none has expired.
const SAMPLE: usize = 8;

/// Clients by address, each with its endpoint.
#[derive(Debug)]
pub struct Sources {
    expiry_ms: u64,
    most: usize,
    /// Keeps clients from choosing addresses that share a lock.
    hasher: RandomState,
    shards: [Mutex<HashMap<u128, Entry>>; SHARDS],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    endpoint: u64,
    until_ms: u64,
}

impl Sources {
    /// An empty one.
    pub fn new(expiry: Duration, clients_max: u32) -> Sources {
        let most = (clients_max as usize).div_ceil(SHARDS);
        Sources {
            expiry_ms: expiry.as_millis() as u64,
            most,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Whether it is one with these settings.
    pub fn has(&self, expiry: Duration, clients_max: u32) -> bool {
        self.expiry_ms == expiry.as_millis() as u64 && self.most == (clients_max as usize).div_ceil(SHARDS)
    }

    fn shard(&self, client: u128) -> std::sync::MutexGuard<'_, HashMap<u128, Entry>> {
        self.shards[self.hasher.hash_one(client) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the client was. From now on it is remembered for as long again. `now_ms` is counted from any moment, the same for all.
    pub fn find(&self, client: u128, now_ms: u64) -> Option<u64> {
        let mut shard = self.shard(client);
        let entry = shard.get_mut(&client).filter(|entry| now_ms < entry.until_ms)?;
        entry.until_ms = now_ms + self.expiry_ms;
        Some(entry.endpoint)
    }

    /// The client is there now.
    pub fn put(&self, client: u128, endpoint: u64, now_ms: u64) {
        let mut shard = self.shard(client);
        if shard.len() >= self.most && !shard.contains_key(&client) {
            shard.retain(|_, entry| now_ms < entry.until_ms);
            if shard.len() >= self.most
                && let Some(quietest) = shard.iter().take(SAMPLE).min_by_key(|(_, entry)| entry.until_ms).map(|(client, _)| *client)
            {
                shard.remove(&quietest);
            }
        }
        shard.insert(client, Entry { endpoint, until_ms: now_ms + self.expiry_ms });
    }

    /// Clients held, expired ones included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_clients_take_bounded_room_and_busy_ones_stay() {
        let sources = Sources::new(Duration::from_secs(60), 1600);
        for client in 0..50_000u128 {
            sources.put(client, client as u64, client as u64);
            if client > 0 {
                assert_eq!(sources.find(0, client as u64), Some(0), "the one that keeps coming is not the one to forget");
            }
        }
        assert!(sources.len() <= 1600, "{}", sources.len());
        assert_eq!(sources.find(49_999, 50_000), Some(49_999));
        // Once all have expired, room is made of them.
        sources.put(7, 7, 1_000_000);
        assert_eq!((sources.find(0, 1_000_000), sources.find(7, 1_000_000)), (None, Some(7)));
    }
}
