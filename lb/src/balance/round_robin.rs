//! In turn, by weight, without bursts.
//!
//! One relaxed counter numbers the picks; the number decides. Three ways, from exact to frugal:
//!
//! - Equal weights: one after the other.
//! - Weights whose smallest whole ratio is short: the sequence of smooth weighted round-robin (each turn everybody gains its weight, the
//!   richest is picked and pays the total), worked out once. 5, 1, 1 gives a a b a c a a.
//! - Else: the picks step around the circle of all weights by the golden ratio. It is the step that leaves the smallest gaps, so any
//!   run of picks has its shares by weight up to a few picks, and the endpoints alternate.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{DRAWS_MAX, Field};

/// Longest sequence that is worked out; 16 KiB.
const SEQUENCE_MAX: u64 = 4096;

/// Most steps to work one out: entries times endpoints. Below a millisecond.
const WORK_MAX: u64 = 1 << 18;

/// 2^32 over the golden ratio, odd: the points of 2^32 picks are all different.
const GOLDEN_STEP: u32 = 0x9E37_79B9;

/// Smooth weighted round-robin.
#[derive(Debug)]
pub(super) struct RoundRobin {
    turn: AtomicU32,
    order: Order,
}

#[derive(Debug)]
enum Order {
    Equal {
        len: u32,
    },
    Sequence(Box<[u32]>),
    /// Where the arc of each endpoint ends on the circle of all weights.
    Circle(Box<[u64]>),
}

impl RoundRobin {
    /// From weights above 0. The first pick has the number `turn`.
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u32>, turn: u32) -> RoundRobin {
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let unit = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let len: u64 = weights.iter().map(|weight| weight / unit).sum();
        let order = if weights.iter().all(|&weight| weight == unit) {
            Order::Equal { len: weights.len() as u32 }
        } else if len <= SEQUENCE_MAX && len * weights.len() as u64 <= WORK_MAX {
            Order::Sequence(sequence(&weights, len as usize))
        } else {
            let ends = weights.iter().scan(0, |end, weight| {
                *end += weight;
                Some(*end)
            });
            Order::Circle(ends.collect())
        };
        RoundRobin { turn: AtomicU32::new(turn), order }
    }

    /// The next open endpoint. There must be at least two candidates.
    #[inline]
    pub(super) fn pick(&self, field: &Field<'_>) -> Option<usize> {
        let mut index = 0;
        // A closed endpoint's turn is used up, so that its share falls to all others and not to its neighbour.
        for _ in 0..DRAWS_MAX {
            index = self.next();
            if field.is_open(index) {
                return Some(index);
            }
        }
        field.scan(index)
    }

    #[inline]
    fn next(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match &self.order {
            Order::Equal { len } => (turn % len) as usize,
            Order::Sequence(sequence) => sequence[turn as usize % sequence.len()] as usize,
            Order::Circle(ends) => {
                let total = ends.last().copied().unwrap_or(0);
                let point = ((u128::from(turn.wrapping_mul(GOLDEN_STEP)) * u128::from(total)) >> 32) as u64;
                ends.partition_point(|&end| end <= point)
            }
        }
    }
}

fn sequence(weights: &[u64], len: usize) -> Box<[u32]> {
    let total: i64 = weights.iter().sum::<u64>() as i64;
    let mut credits = vec![0i64; weights.len()];
    (0..len)
        .map(|_| {
            let mut richest = 0;
            for index in 0..credits.len() {
                credits[index] += weights[index] as i64;
                if credits[index] > credits[richest] {
                    richest = index;
                }
            }
            credits[richest] -= total;
            richest as u32
        })
        .collect()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], n: usize) -> Vec<usize> {
        let round_robin = RoundRobin::new(weights.iter().copied(), 0);
        (0..n).map(|_| round_robin.next()).collect()
    }

    #[test]
    fn sequences_are_the_textbook_ones() {
        assert_eq!(turns(&[700, 700, 700], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[500, 100, 100], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[200, 100], 6), [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn the_circle_is_smooth() {
        // Too long a ratio for a sequence: the shares must be right in every window, not only in the end.
        let weights = [100_000, 33_337, 70_001];
        let total: u32 = weights.iter().sum();
        let turns = turns(&weights, 10_000);
        for window in turns.windows(100) {
            for (index, &weight) in weights.iter().enumerate() {
                let count = window.iter().filter(|&&turn| turn == index).count() as f64;
                let expected = 100.0 * f64::from(weight) / f64::from(total);
                assert!((count - expected).abs() <= 3.0, "{count} of 100 instead of {expected}");
            }
        }
    }
}
