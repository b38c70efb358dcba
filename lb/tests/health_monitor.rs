//! The probe schedule over virtual time, from seeds: even phases, the cap, the intervals, nobody forgotten.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use weir_lb::health::StableHash;
use weir_lb::health::monitor::{Monitor, Output, Target};
use weir_lb::health::verdict::{Health, Outcome, Verdict};

const MS: Duration = Duration::from_millis(1);

fn target(key: u32, interval: Duration) -> Target {
    let phase = StableHash::default().field("pool").field(key.to_le_bytes()).finish();
    Target { check: 1, phase, interval, fast_interval: interval, down_interval: interval, rise: 2, fall: 3 }
}

/// A monitor with probes that take a while and answer as they are told.
struct Simulation {
    monitor: Monitor,
    now: Instant,
    random: fastrand::Rng,
    /// Ends of the probes under way.
    under_way: BTreeMap<(Instant, u64), u32>,
    starts: HashMap<u32, Vec<Instant>>,
    flips: Vec<(u32, bool)>,
    running_max: usize,
    down: fn(u32) -> bool,
}

impl Simulation {
    fn new(seed: u64, cap: usize) -> Simulation {
        let now = Instant::now();
        Simulation {
            monitor: Monitor::new(now, cap),
            now,
            random: fastrand::Rng::with_seed(seed),
            under_way: BTreeMap::new(),
            starts: HashMap::new(),
            flips: Vec::new(),
            running_max: 0,
            down: |_| false,
        }
    }

    fn outputs(&mut self, latency: std::ops::Range<u64>) {
        while let Some(output) = self.monitor.poll_output() {
            match output {
                Output::Probe { key, run } => {
                    assert!(!self.under_way.values().any(|other| *other == key), "target {key} overlaps itself");
                    let end = self.now + Duration::from_micros(self.random.u64(latency.clone()));
                    self.under_way.insert((end, run), key);
                    self.starts.entry(key).or_default().push(self.now);
                }
                Output::Flip { key, flip } => self.flips.push((key, flip.healthy)),
            }
        }
        self.running_max = self.running_max.max(self.under_way.len());
        assert_eq!(self.monitor.running(), self.under_way.len());
    }

    /// Runs on, with probes that take between these microseconds.
    fn run(&mut self, span: Duration, latency: std::ops::Range<u64>) {
        let end = self.now + span;
        loop {
            self.monitor.handle_timeout(self.now);
            self.outputs(latency.clone());
            let probe = self.under_way.keys().next().map(|(at, _)| *at);
            let next = [probe, self.monitor.poll_timeout()].into_iter().flatten().min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ((_, run), key) = entry.remove_entry();
                let outcome = if (self.down)(key) { Outcome::Failed("connect refused".into()) } else { Outcome::Ok };
                self.monitor.handle_outcome(run, &outcome, self.now);
            }
        }
        self.now = end;
    }
}

#[test]
fn phases_are_even_and_intervals_right() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed, 10_000);
        let interval = 2000 * MS;
        let begin = simulation.now;
        for key in 0..2000 {
            simulation.monitor.set_target(key, target(key, interval), None, begin);
        }
        simulation.run(9 * interval, 100..50_000);
        let mut slots = [0u32; 20];
        for starts in simulation.starts.values() {
            assert_eq!(starts[0], begin, "the first probe is at once");
            assert!((7..=9).contains(&(starts.len() - 1)), "{} probes", starts.len());
            let first_gap = starts[1] - starts[0];
            assert!(first_gap >= interval / 2 && first_gap <= interval * 3 / 2, "{first_gap:?}");
            for pair in starts[1..].windows(2) {
                assert_eq!(pair[1] - pair[0], interval);
            }
            slots[((starts[1] - begin).as_millis() as usize % 2000) / 100] += 1;
        }
        // 100 expected in each twentieth; five standard deviations.
        assert!(slots.iter().all(|count| (50..=150).contains(count)), "{slots:?}");
        assert_eq!(simulation.flips.len(), 2000);
    }
}

#[test]
fn the_cap_holds_and_nobody_starves() {
    for seed in 0..4 {
        println!("seed {seed}");
        // 500 targets, 100 ms each in the mean, 20 at a time: 2.5 s a round, although the interval is 1 s.
        let mut simulation = Simulation::new(seed, 20);
        for key in 0..500 {
            simulation.monitor.set_target(key, target(key, 1000 * MS), None, simulation.now);
        }
        simulation.run(30_000 * MS, 50_000..150_000);
        assert_eq!(simulation.running_max, 20);
        for (key, starts) in &simulation.starts {
            assert!((11..=13).contains(&starts.len()), "target {key} was probed {} times", starts.len());
        }
    }
}

#[test]
fn a_probe_slower_than_its_interval_is_followed_at_once() {
    let mut simulation = Simulation::new(1, 10);
    simulation.monitor.set_target(0, target(0, 100 * MS), None, simulation.now);
    simulation.run(10_000 * MS, 1_000_000..1_000_001);
    let starts = &simulation.starts[&0];
    assert_eq!(starts.len(), 11);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 1000 * MS));
}

#[test]
fn faster_while_changing_and_slower_when_long_down() {
    let mut simulation = Simulation::new(1, 10);
    let settings = Target { fast_interval: 100 * MS, down_interval: 5000 * MS, ..target(7, 1000 * MS) };
    simulation.monitor.set_target(7, settings, None, simulation.now);
    simulation.run(5000 * MS, 0..1);
    simulation.down = |_| true;
    simulation.starts.clear();
    simulation.run(50_000 * MS, 0..1);
    let gaps: Vec<u128> = simulation.starts[&7].windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps[..2], [100, 100], "three failures, two fast gaps");
    assert!(gaps[3..12].iter().all(|gap| *gap == 1000), "{gaps:?}");
    assert_eq!(gaps[gaps.len() - 3..], [5000; 3], "long down");
    assert_eq!(simulation.flips, [(7, true), (7, false)]);
    // It comes back: noticed within a long interval, then quickly.
    simulation.down = |_| false;
    simulation.run(5200 * MS, 0..1);
    assert_eq!(simulation.flips.last(), Some(&(7, true)));
}

#[test]
fn verdicts_belong_to_the_check() {
    let mut simulation = Simulation::new(1, 10);
    let original = target(0, 1000 * MS);
    simulation.monitor.set_target(0, original, None, simulation.now);
    simulation.run(3500 * MS, 0..1);

    // Other timings: nothing is forgotten, nothing is asked at once.
    simulation.starts.clear();
    let slower = Target { interval: 2000 * MS, fall: 1, ..original };
    simulation.monitor.set_target(0, slower, None, simulation.now);
    simulation.run(1 * MS, 0..1);
    assert!(simulation.starts.is_empty());
    assert_eq!(simulation.monitor.verdict(0).unwrap().health(), Health::Healthy);

    // Another check: asked at once, the verdict is the starting point.
    simulation.down = |_| true;
    simulation.monitor.set_target(0, Target { check: 2, fall: 2, ..slower }, None, simulation.now);
    assert_eq!(simulation.monitor.verdict(0).unwrap().health(), Health::Healthy);
    simulation.run(1 * MS, 0..1);
    assert_eq!(simulation.starts[&0].len(), 1);
    assert_eq!(simulation.monitor.verdict(0).unwrap().evidence(), "1 of 2: connect refused");
    simulation.run(3000 * MS, 0..1);
    assert_eq!(simulation.flips, [(0, true), (0, false)]);
}

#[test]
fn a_run_of_an_earlier_check_counts_for_nothing() {
    let now = Instant::now();
    let mut monitor = Monitor::new(now, 1);
    let run = |monitor: &mut Monitor| {
        monitor.handle_timeout(now);
        match monitor.poll_output() {
            Some(Output::Probe { run, .. }) => Some(run),
            _ => None,
        }
    };
    monitor.set_target(0, target(0, 1000 * MS), None, now);
    let old = run(&mut monitor).unwrap();
    monitor.set_target(0, Target { check: 2, ..target(0, 1000 * MS) }, None, now);
    assert_eq!(run(&mut monitor), None, "the old run still takes the only place");
    assert_eq!(monitor.poll_timeout(), None);
    monitor.handle_outcome(old, &Outcome::Failed("connect refused".into()), now);
    assert_eq!(monitor.verdict(0).unwrap().health(), Health::Unknown);
    let new = run(&mut monitor).unwrap();
    monitor.handle_outcome(old, &Outcome::Ok, now);
    assert_eq!(monitor.running(), 1, "an outcome counts once");

    // Removed while running, and another one in its place.
    monitor.remove(0);
    monitor.set_target(0, target(0, 1000 * MS), Some(Verdict::kept(true, "kept", now)), now);
    monitor.handle_outcome(new, &Outcome::Failed("connect refused".into()), now);
    assert_eq!(monitor.verdict(0).unwrap().evidence(), "kept");
    assert!(run(&mut monitor).is_some());
}

#[test]
fn ten_thousand_targets_are_cheap() {
    let mut simulation = Simulation::new(3, 256);
    let begin = Instant::now();
    for key in 0..10_000 {
        simulation.monitor.set_target(key, target(key, 2000 * MS), None, simulation.now);
    }
    // The simulation itself looks for overlaps among at most 256 probes.
    simulation.run(20_000 * MS, 1000..5000);
    let probes: usize = simulation.starts.values().map(Vec::len).sum();
    assert!(probes >= 95_000, "{probes} probes");
    println!("{probes} probes in {:?}", begin.elapsed());
}
