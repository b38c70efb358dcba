//! How many requests a pool takes at once, by its latency.
//!
//! While more requests at once only make each wait longer, fewer serve as many: the bound falls by the ratio of the latency that was usual to the
//! one that is, and rises by its square root, which is room for a short queue. The idea is TCP Vegas', the form that of the "gradient" limits in
//! Netflix' concurrency-limits.
//!
//! What is usual must not be learnt from a pool that is too busy, or the bound would follow the load upwards. A shorter latency is always believed; a
//! longer one only where the bound does not decide how many requests there are, or, and then wholly, where it has fallen as far as it may, so that
//! there is little load left to blame. A pool that became slower for good is found out that way.

use weir_config::Adaptive;

/// Share of a new bound in the next, so that one window does not decide.
const SMOOTHING: f64 = 0.2;
/// Share of a window in what is usual.
const LEARNING: f64 = 0.1;
/// In one step the bound falls by no more than half.
const FALL_MAX: f64 = 0.5;

/// What was seen in a window.
#[derive(Clone, Copy, Default, Debug)]
pub struct Window {
    /// Answers.
    pub count: u32,
    /// Their latencies together, in microseconds.
    pub latency_us: u64,
    /// The most requests at once.
    pub at_once_max: u32,
}

/// The bound of a pool.
#[derive(Debug)]
pub struct Gradient {
    settings: Adaptive,
    limit: f64,
    usual_us: Option<f64>,
}

impl Gradient {
    /// One that begins in the middle, on a scale of ratios.
    pub fn new(settings: Adaptive) -> Gradient {
        let (least, most) = (f64::from(settings.least.get()), f64::from(settings.most.get()));
        Gradient { settings, limit: (least * most).sqrt(), usual_us: None }
    }

    /// What it was made of.
    pub fn settings(&self) -> &Adaptive {
        &self.settings
    }

    /// The bound, in whole requests.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Takes a window in which at least one answer came.
    pub fn handle_window(&mut self, window: Window) {
        if window.count == 0 {
            return;
        }
        let now_us = (window.latency_us as f64 / f64::from(window.count)).max(1.0);
        let (least, most) = (f64::from(self.settings.least.get()), f64::from(self.settings.most.get()));
        let free = f64::from(window.at_once_max) < self.limit / 2.0;
        let learns = |usual: f64| now_us < usual || free || self.limit <= least;
        // By less than all of it, the bound would rise a little, and then learn no more.
        let learning = if self.limit <= least { 1.0 } else { LEARNING };
        let usual_us = self.usual_us.map_or(now_us, |usual| if learns(usual) { usual + (now_us - usual) * learning } else { usual });
        self.usual_us = Some(usual_us);
        if free {
            // Nothing is known about what a higher bound would do.
            return;
        }
        let tolerated = usual_us * (1.0 + f64::from(self.settings.tolerance_percent) / 100.0);
        let gradient = (tolerated / now_us).clamp(FALL_MAX, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit = (self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING).clamp(least, most);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn settings(least: u32, most: u32) -> Adaptive {
        let number = |n| NonZeroU32::new(n).unwrap();
        Adaptive { least: number(least), most: number(most), tolerance_percent: 50 }
    }

    /// A pool that serves `capacity` requests at once in 10 ms each, and makes more of them wait. Clients always want more. Returns the bound after
    /// so many windows.
    fn simulate(gradient: &mut Gradient, capacity: f64, windows: u32, random: &mut fastrand::Rng) -> f64 {
        for _ in 0..windows {
            let at_once = gradient.limit();
            let noise = 0.8 + 0.4 * random.f64();
            let latency_us = 10_000.0 * (f64::from(at_once) / capacity).max(1.0) * noise;
            gradient.handle_window(Window { count: 50, latency_us: (latency_us * 50.0) as u64, at_once_max: at_once });
        }
        f64::from(gradient.limit())
    }

    #[test]
    fn the_bound_finds_what_the_pool_can_do_and_follows_it() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut gradient = Gradient::new(settings(4, 1000));
            let found = simulate(&mut gradient, 100.0, 60, &mut random);
            assert!((90.0..400.0).contains(&found), "seed {seed}: {found} for 100");
            let fallen = simulate(&mut gradient, 20.0, 60, &mut random);
            assert!((15.0..150.0).contains(&fallen) && fallen < found, "seed {seed}: {fallen} for 20");
            let risen = simulate(&mut gradient, 300.0, 300, &mut random);
            assert!(risen > 250.0, "seed {seed}: {risen} for 300");
        }
    }

    #[test]
    fn bounds_are_kept_and_quiet_times_teach_nothing() {
        let mut gradient = Gradient::new(settings(10, 40));
        assert_eq!(gradient.limit(), 20);
        let window = |latency_us, at_once_max| Window { count: 1, latency_us, at_once_max };
        for _ in 0..100 {
            gradient.handle_window(window(1_000, 3));
        }
        assert_eq!(gradient.limit(), 20, "three at once say nothing about twenty");
        for _ in 0..100 {
            gradient.handle_window(window(1_000, 40));
        }
        assert_eq!(gradient.limit(), 40);
        let mut limits = Vec::new();
        for _ in 0..200 {
            gradient.handle_window(window(1_000_000, 40));
            limits.push(gradient.limit());
        }
        assert_eq!(limits.iter().min(), Some(&10));
        assert_eq!(limits.last(), Some(&40), "what stays slow with few requests is its usual latency now");
        gradient.handle_window(Window::default());
        assert_eq!(gradient.limit(), 40);
    }
}
