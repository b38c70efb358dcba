//! By key, consistently: Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4),
//! weighted, with bounded load (Mirrokni et al., "Consistent Hashing with Bounded Loads").
//!
//! A table of prime size is filled by the endpoints in turn, each taking the next free slot of its own permutation, which
//! comes from a hash of its address as it is written in the configuration. All nodes and all starts with the same endpoints have the
//! same table, in whatever order the endpoints are listed; when one leaves, little more than its own keys move.
//!
//! The size of the table is a bargain. More slots per endpoint mean better shares and fewer keys moved, but memory and time to
//! build. A pool that crosses from one size to another moves most of its keys, so the sizes are few and far apart.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Candidate, Field, Load};

/// Primes. Each serves as many endpoints as leave 100 slots for each: 163, 1310, then all. Two bytes a slot.
const SIZES: [u32; 3] = [16_381, 131_071, 1_048_573];

/// Least slots per endpoint, on average.
const SLOTS_PER_ENDPOINT: usize = 100;

/// Endpoints that get slots; the entries are `u16`.
const ENDPOINTS_MAX: usize = 1 << 16;

/// An endpoint with fewer requests in flight is never too loaded. A browser's handful of connections to a quiet pool should not be
/// scattered, and the common pick need not know the pool's total.
const LOAD_FREE: u32 = 8;

/// The pool's total is counted again after this time per endpoint: counting costs a few nanoseconds each, so a few thousandths of the time.
const COUNT_INTERVAL_NS: u64 = 1_000;

/// Slots looked at for an open and not too loaded endpoint.
const PROBES_MAX: usize = 64;

/// Those that depend on the key alone. The others change with time: else one very busy key could fill all of its slots, and only them.
const PROBES_OF_KEY: usize = 32;

/// A stamp that says the total was never counted.
const NEVER: u64 = u64::MAX;

/// The table and, for bounded load, the pool's total.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Box<[u16]>,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    percent: u32,
    weight_total: u64,
    /// Requests in flight over all candidates, as of `counted_ns`.
    in_flight: AtomicU64,
    counted_ns: AtomicU64,
}

impl Maglev {
    pub(super) fn new(candidates: &[Candidate], load_bound_percent: Option<u32>) -> Maglev {
        let bound = load_bound_percent.map(|percent| Bound {
            percent,
            weight_total: candidates.iter().map(|candidate| u64::from(candidate.weight)).sum(),
            in_flight: AtomicU64::new(0),
            counted_ns: AtomicU64::new(NEVER),
        });
        // A single candidate is picked without a table.
        let table = if candidates.len() < 2 { Box::default() } else { table(candidates) };
        Maglev { table, bound }
    }

    /// The endpoint of `key`. Where it is closed or too loaded, the key is hashed again, and again, to other slots: at first always the
    /// same ones. Neighbouring slots share no detour, so what is turned away spreads by weight. When all that were asked are too loaded the
    /// bound gives way to the least loaded of them. There must be at least two candidates.
    #[inline]
    pub(super) fn pick(&self, field: &Field<'_>, key: u64, now_ns: u64) -> Option<usize> {
        let mut probe = key;
        let mut least_loaded: Option<(Load, usize)> = None;
        for number in 0..PROBES_MAX {
            if number == PROBES_OF_KEY {
                probe ^= now_ns;
            }
            let index = self.entry(probe);
            probe = mix(probe);
            if !field.is_open(index) {
                continue;
            }
            let Some(bound) = &self.bound else { return Some(index) };
            let load = field.load(index);
            if bound.is_within(field, load, now_ns) {
                return Some(index);
            }
            if least_loaded.is_none_or(|(least, _)| load.is_below(least)) {
                least_loaded = Some((load, index));
            }
        }
        least_loaded.map(|(_, index)| index).or_else(|| field.scan(self.entry(key)))
    }

    #[inline]
    fn entry(&self, key: u64) -> usize {
        usize::from(self.table[((u128::from(key) * self.table.len() as u128) >> 64) as usize])
    }
}

impl Bound {
    /// Whether one more request keeps the endpoint within `percent` of its share, by weight, of all requests in flight.
    #[inline]
    fn is_within(&self, field: &Field<'_>, load: Load, now_ns: u64) -> bool {
        if load.in_flight < LOAD_FREE {
            return true;
        }
        let total = u128::from(self.total(field, now_ns)) + 1;
        // in flight < ceil(percent / 100 * total * weight / weight_total), without the division.
        u128::from(load.in_flight) * 100 * u128::from(self.weight_total) < u128::from(self.percent) * total * u128::from(load.weight)
    }

    /// Requests in flight over all candidates, a little old in large pools.
    #[inline]
    fn total(&self, field: &Field<'_>, now_ns: u64) -> u64 {
        let counted_ns = self.counted_ns.load(Ordering::Relaxed);
        if counted_ns != NEVER && now_ns.saturating_sub(counted_ns) < COUNT_INTERVAL_NS * field.len() as u64 {
            return self.in_flight.load(Ordering::Relaxed);
        }
        // The stamp first: workers that come while this one counts take the last total.
        self.counted_ns.store(now_ns, Ordering::Relaxed);
        let total = field.candidates.iter().map(|candidate| u64::from(candidate.state.load())).sum();
        self.in_flight.store(total, Ordering::Relaxed);
        total
    }
}

/// An endpoint while the table is filled.
struct Turn {
    /// The next slot of its permutation, `offset + i * skip` modulo the size.
    slot: u32,
    skip: u32,
    weight: u64,
    /// What its weight has earned and not yet spent on slots.
    credit: u64,
    entry: u16,
}

fn table(candidates: &[Candidate]) -> Box<[u16]> {
    let size = SIZES.into_iter().find(|&size| size as usize >= candidates.len() * SLOTS_PER_ENDPOINT).unwrap_or(SIZES[SIZES.len() - 1]);
    let weight_total: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
    // A slot costs about the mean weight, so that a round of turns fills about as many slots as there are endpoints. A power
    // of two, so that it seldom changes when an endpoint comes or goes.
    let price = (weight_total / candidates.len() as u64).next_power_of_two();

    let mut turns: Vec<(u64, Turn)> = candidates
        .iter()
        .zip(0..=(ENDPOINTS_MAX - 1) as u16)
        .map(|(candidate, entry)| {
            let hash = hash_text(&candidate.state.address.to_string());
            let weight = u64::from(candidate.weight);
            // Half a slot ahead rounds its slots to the nearest; who would get none gets one.
            let rounds_to_none = u128::from(weight) * u128::from(size) * 2 < u128::from(weight_total);
            let credit = if rounds_to_none { price } else { price / 2 };
            let slot = (mix(hash ^ OFFSET_KEY) % u64::from(size)) as u32;
            let skip = (mix(hash ^ SKIP_KEY) % u64::from(size - 1)) as u32 + 1;
            (hash, Turn { slot, skip, weight, credit, entry })
        })
        .collect();
    // The order of turns must not depend on the order of the candidates.
    turns.sort_by(|(hash, turn), (other_hash, other)| (hash, turn.slot, turn.skip).cmp(&(other_hash, other.slot, other.skip)));

    let mut table = vec![0u16; size as usize].into_boxed_slice();
    // A bit per slot fits the first-level cache, where most of the probing happens.
    let mut taken = vec![0u64; size as usize / 64 + 1];
    let mut free = size;
    loop {
        for (_, turn) in &mut turns {
            turn.credit += turn.weight;
            while turn.credit >= price {
                turn.credit -= price;
                let slot = loop {
                    let slot = turn.slot;
                    turn.slot = if slot >= size - turn.skip { slot - (size - turn.skip) } else { slot + turn.skip };
                    let word = &mut taken[(slot / 64) as usize];
                    if *word & (1 << (slot % 64)) == 0 {
                        *word |= 1 << (slot % 64);
                        break slot;
                    }
                };
                table[slot as usize] = turn.entry;
                free -= 1;
                if free == 0 {
                    return table;
                }
            }
        }
    }
}

/// Arbitrary, fixed: they are part of what all nodes must agree on.
const OFFSET_KEY: u64 = 0x6F66_6673_6574_2077;
const SKIP_KEY: u64 = 0x736B_6970_2077_6569;

/// FNV-1a, 64 bits, with [`mix`] on top: FNV alone leaves the upper bits of short texts alike.
fn hash_text(text: &str) -> u64 {
    mix(text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)))
}

/// The finaliser of SplitMix64: every bit of the input changes half of the output; one to one.
#[inline]
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The hash of a request's key for [`Selector::pick`](super::Selector::pick): the same on every node, at every start, in every release.
///
/// Eight bytes at a time through the finaliser of SplitMix64, little endian, then the length. Two keys of one length that differ in
/// one such word never collide. It has no secret: a client can look for keys that share an endpoint, which is what bounded load is for.
#[inline]
pub fn hash_key(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mix(hash ^ u64::from_le_bytes(*word)));
    let last = rest.iter().rev().fold(0, |last, &byte| last << 8 | u64::from(byte));
    mix(mix(hash ^ last) ^ bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_primes() {
        for size in SIZES {
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size}");
        }
    }

    #[test]
    fn hashes_never_change() {
        // Known values of FNV-1a and of SplitMix64 from seed 0, so that the parts are the well-known ones.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(hash_text("a"), mix(0xAF63_DC4C_8601_EC8C));
    }
}
