//! Schedules: bounds by the clock. What holds is what the last moment of any of them said, so that a restart forgets nothing.

use weir_config::Scaling;

use crate::time::UnixMs;

/// What the clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Never fewer.
    pub min: u32,
    /// Never more; at least `min`.
    pub max: u32,
    /// So many at a moment: the last one that there was.
    pub desired: Option<(UnixMs, u32)>,
    /// Until when this holds for sure.
    pub until: UnixMs,
}

/// What holds now. The latest moment wins; of two at the same one, the later in the file.
pub fn bounds(scaling: &Scaling, now: UnixMs) -> Bounds {
    let mut until = UnixMs(u64::MAX);
    let (mut min, mut max, mut desired) = (None, None, None);
    let take = |held: &mut Option<(UnixMs, u32)>, at: UnixMs, value: Option<u32>| {
        if let Some(value) = value
            && held.is_none_or(|(before, _)| before <= at)
        {
            *held = Some((at, value));
        }
    };
    for schedule in &scaling.schedules {
        if let Some(next) = schedule.at.next(now.0) {
            until = until.min(UnixMs(next));
        }
        let Some(at) = schedule.at.previous(now.0).map(UnixMs) else { continue };
        take(&mut min, at, schedule.min);
        take(&mut max, at, schedule.max);
        take(&mut desired, at, schedule.desired);
    }
    let value = |held: Option<(UnixMs, u32)>, otherwise| held.map_or(otherwise, |(_, value)| value);
    let min_now = value(min, scaling.min);
    // A schedule that lifts the minimum beyond the maximum lifts that, too.
    Bounds { min: min_now, max: value(max, scaling.max).max(min_now), desired, until }
}
