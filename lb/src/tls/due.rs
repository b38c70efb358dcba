//! When the end of a certificate is told (pure).

/// What was told of a certificate's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Due {
    end_s: i64,
    told: usize,
}

impl Due {
    /// Time left at which the end is told, in seconds: two weeks, three days, none.
    const BEFORE_S: [i64; 3] = [14 * 86_400, 3 * 86_400, 0];

    /// The time left, when that is to be told now and was not yet. Another end begins anew.
    pub(super) fn look(&mut self, end_s: i64, now_s: i64) -> Option<i64> {
        if self.end_s != end_s {
            *self = Due { end_s, told: 0 };
        }
        let left_s = end_s.saturating_sub(now_s);
        let due = Due::BEFORE_S.iter().filter(|before| left_s <= **before).count();
        if due <= self.told {
            return None;
        }
        self.told = due;
        Some(left_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_three_times() {
        let (mut due, end_s) = (Due::default(), 100 * 86_400);
        let days = |due: &mut Due, left: i64| due.look(end_s, end_s - left * 86_400);
        for (left, told) in [(15, false), (14, true), (13, false), (2, true), (1, false), (0, true), (-5, false)] {
            assert_eq!(days(&mut due, left), told.then_some(left * 86_400), "{left} days before");
        }
        assert_eq!(due.look(end_s + 1, end_s), Some(1), "another certificate");
    }
}
