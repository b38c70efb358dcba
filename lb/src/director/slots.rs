//! Dense numbers that workers index their tables with.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

/// Hands out the smallest free number, and takes numbers back only when nobody can still be using what they stood for.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    next: u32,
    free: std::collections::BTreeSet<u32>,
    /// Removed, but perhaps still held by an old snapshot or a worker in the middle of a request.
    buried: Vec<(u32, T)>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { next: 0, free: Default::default(), buried: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// A free number.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// The number is given back once `remains` is held by nobody else.
    pub(crate) fn bury(&mut self, slot: u32, remains: T) {
        self.buried.push((slot, remains));
    }

    /// Frees what `is_held` no longer reports as held; tells `freed` about each.
    pub(crate) fn sweep(&mut self, is_held: impl Fn(&T) -> bool, mut freed: impl FnMut(u32, T)) {
        let mut index = 0;
        while index < self.buried.len() {
            if is_held(&self.buried[index].1) {
                index += 1;
                continue;
            }
            let (slot, remains) = self.buried.swap_remove(index);
            self.free.insert(slot);
            freed(slot, remains);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_number_is_not_used_again_while_its_owner_lives() {
        let mut slots = Slots::default();
        let held = |remains: &Arc<()>| Arc::strong_count(remains) > 1;
        assert_eq!((slots.take(), slots.take(), slots.take()), (0, 1, 2));
        let (a, b) = (Arc::new(()), Arc::new(()));
        slots.bury(0, Arc::clone(&a));
        slots.bury(1, Arc::clone(&b));
        slots.sweep(held, |_, _| panic!("both are held"));
        assert_eq!(slots.take(), 3);
        drop(b);
        slots.sweep(held, |slot, _| assert_eq!(slot, 1));
        assert_eq!((slots.take(), slots.take()), (1, 4));
        drop(a);
        slots.sweep(held, |slot, _| assert_eq!(slot, 0));
        assert_eq!(slots.take(), 0);
    }
}
