//! The better of two by requests in flight over weight.
//!
//! Two random choices instead of the best of all: it needs two reads instead of `n`, and workers that see the same counts do not all
//! run to the same endpoint (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
//!
//! Weights enter twice. The first endpoint is drawn by weight; the second, uniform among the others, takes its place only when
//! it is better. So whenever nobody is better the shares are exactly by weight, above all when everybody is idle. "Better" must then
//! not confuse a heavy endpoint with an idle one. With `a`, `b` requests in flight on the first and the second:
//!
//! - `(b + 1) / weight_b < (a + 1) / weight_a` alone always prefers the heavier of two idle ones: a weight of 5 against 1 would get
//!   35 of 36 instead of 5 of 6.
//! - `b / weight_b < a / weight_a` alone prefers a light idle endpoint as soon as a heavy one has a single request.
//!
//! Both together, before and after the request, mean that the move is an improvement whichever way one counts. For equal weights they
//! are the same plain comparison. Under load the moves hold `in flight / weight` level over all endpoints, and by Little's law the shares
//! of equally fast endpoints are then by weight too; a slower one gets less, which is the point.
//!
//! In between, where the pool has few requests in flight and unequal weights, a single request is a coarse step for a light endpoint:
//! shares are then up to about five points of a hundred away from the weights (seen in simulation, weights 5, 1, 1).

use super::alias::Alias;
use super::{Field, Load};

/// Whether the request is better placed on `second` than on `first`.
#[inline]
pub(super) fn is_better(first: Load, second: Load) -> bool {
    // The products of two `u32`, even of one more, fit.
    let after = |load: Load, other: Load| (u64::from(load.in_flight) + 1) * u64::from(other.weight);
    second.is_below(first) && after(second, first) < after(first, second)
}

/// The better of two. `is_better(first, second)` says whether the second is to be taken. There must be at least two candidates.
#[inline]
pub(super) fn pick(
    field: &Field<'_>,
    alias: &Alias,
    random: &mut fastrand::Rng,
    is_better: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    let first = field.draw(alias, random)?;
    let step = 1 + ((u64::from(random.u32(..)) * (field.len() as u64 - 1)) >> 32) as usize;
    let second = if first + step < field.len() { first + step } else { first + step - field.len() };
    Some(if field.is_open(second) && is_better(first, second) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_must_be_an_improvement_before_and_after() {
        // first (in flight, weight), second, better
        for (first, second, better) in [
            ((0, 1), (0, 1), false),
            ((1, 1), (0, 1), true),
            ((0, 1), (1, 1), false),
            ((0, 1), (0, 5), false),
            ((0, 5), (0, 1), false),
            ((1, 5), (0, 1), false),
            ((4, 5), (0, 1), false),
            ((5, 5), (0, 1), true),
            ((1, 1), (0, 5), true),
            ((1, 1), (4, 5), true),
            ((1, 1), (5, 5), false),
            ((u32::MAX, u32::MAX), (u32::MAX, u32::MAX), false),
        ] {
            let load = |(in_flight, weight)| Load { in_flight, weight };
            assert_eq!(is_better(load(first), load(second)), better, "{first:?} {second:?}");
        }
    }
}
