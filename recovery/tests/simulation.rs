//! The healer over virtual time, from seeds: things fall ill and get well, by themselves or by what is done to them; acts fail, hang and are cut off by
//! kills; hosts are silent; operators stop and run. After each step: attempts come in their order and as often as the file says, never two on
//! one thing, none on what is well or under the brake, nothing that was finished again; and every story has an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_config::{Recovery, RecoveryAction, RecoveryName};
use weir_recovery::case::{About, Case, Outcome, Stage, Thing, UnixMs};
use weir_recovery::healer::{Healer, Health, Input, Order, Output, Saved, Sight, Told};

const START: UnixMs = 1_767_571_200_000;
const S: u64 = 1000;

const FILE: &str = r#"
[pool.web]
endpoints = ["a:1"]
[pool.db]
endpoints = ["a:1"]
[recovery.web]
pool = "web"
at_once = 2
ill_max = 40
after = "3s"
stable = "2m"
[[recovery.web.attempt]]
action = "script"
command = ["0"]
limit = "10s"
wait = "8s"
times = 2
[[recovery.web.attempt]]
action = "script"
command = ["1"]
limit = "20s"
wait = "15s"
check = ["check"]
[[recovery.web.attempt]]
action = "script"
command = ["2"]
limit = "20s"
wait = "30s"
[recovery.db]
pool = "db"
stable = "1m"
[[recovery.db.attempt]]
action = "script"
command = ["0"]
wait = "5s"
[[recovery.db.attempt]]
action = "drain"
wait = "5s"
"#;

/// A thing of the world.
#[derive(Clone, Default)]
struct Body {
    /// Ill until the attempt of this number is made; `Some(99)`: until it gets well by itself.
    heals_at: Option<usize>,
    /// Nobody can say.
    silent: bool,
    /// Last time it was seen ill.
    seen_ill: bool,
}

struct World {
    rng: fastrand::Rng,
    seed: u64,
    now: UnixMs,
    file: BTreeMap<RecoveryName, Arc<Recovery>>,
    healer: Healer,
    kept: BTreeMap<Thing, Case>,
    stopped: BTreeMap<String, String>,
    bodies: BTreeMap<Thing, Body>,
    /// Acts under way: when they end.
    acting: Vec<(UnixMs, Order)>,
    checking: Vec<(UnixMs, Order)>,
    braked: BTreeSet<String>,
    /// Acts of the present case of a thing: number of the attempt, by key.
    acts: BTreeMap<Thing, Vec<(String, usize)>>,
    finished: BTreeSet<String>,
    counts: BTreeMap<&'static str, u64>,
}

fn recovery_of(thing: &Thing) -> &'static str {
    match thing {
        Thing::Machine(name) if name.starts_with('w') => "web",
        _ => "db",
    }
}

impl World {
    fn new(seed: u64) -> World {
        let file = weir_config::parse(FILE, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).recoveries;
        let bodies =
            (0..8).map(|number| Thing::Machine(format!("w{number}"))).chain((0..2).map(|number| Thing::Machine(format!("d{number}"))));
        World {
            rng: fastrand::Rng::with_seed(seed),
            seed,
            now: START,
            healer: Healer::new(file.clone(), Saved::default(), START),
            file,
            kept: BTreeMap::new(),
            stopped: BTreeMap::new(),
            bodies: bodies.map(|thing| (thing, Body::default())).collect(),
            acting: Vec::new(),
            checking: Vec::new(),
            braked: BTreeSet::new(),
            acts: BTreeMap::new(),
            finished: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Keeps all of it, then carries it out; a kill may come in between. Whether the process lives.
    fn settle(&mut self) -> bool {
        let outputs = self.healer.take_outputs();
        for output in &outputs {
            match output {
                // As the store keeps it.
                Output::Save(case) => {
                    let kept: Case = serde_json::from_str(&serde_json::to_string(&**case).unwrap()).unwrap();
                    self.kept.insert(case.thing.clone(), kept);
                }
                Output::Forget(thing) => {
                    self.kept.remove(thing);
                    self.acts.remove(thing);
                }
                Output::Stopped(name, Some(by)) => drop(self.stopped.insert(name.to_string(), by.clone())),
                Output::Stopped(name, None) => drop(self.stopped.remove(&*name.0)),
                _ => {}
            }
        }
        for output in outputs {
            if self.rng.u32(..400) == 0 {
                self.kill();
                return false;
            }
            match output {
                Output::Act(order) => self.act(*order),
                Output::Check(order) => {
                    let at = self.now + self.rng.u64(..3) * S;
                    self.checking.push((at, *order));
                }
                Output::Abort(key) => self.acting.retain(|(_, order)| order.key != key),
                Output::Tell(case, told) => self.told(&case, &told),
                _ => {}
            }
        }
        true
    }

    fn act(&mut self, order: Order) {
        let (seed, thing) = (self.seed, order.case.thing.clone());
        let recovery = &self.file[&RecoveryName::from(&*order.case.recovery)];
        let at = order.case.at;
        assert_eq!(order.attempt, recovery.attempts[at], "seed {seed}");
        assert_eq!(self.kept.get(&thing).and_then(Case::key), Some(&*order.key), "seed {seed}: it was not kept before it is done");
        assert!(self.bodies[&thing].seen_ill, "seed {seed}: {thing} is well, or nobody can say");
        assert!(!self.acting.iter().any(|(_, other)| other.case.thing == thing), "seed {seed}: two attempts at once on {thing}");
        let at_once = self.acting.iter().filter(|(_, other)| other.case.recovery == order.case.recovery).count();
        assert!(at_once < recovery.at_once as usize, "seed {seed}: too many at once");
        assert!(!self.braked.contains(&order.case.recovery), "seed {seed}: the brake is on");
        assert!(!self.stopped.contains_key(&order.case.recovery), "seed {seed}: it is stopped");
        assert!(!self.finished.contains(&order.key), "seed {seed}: {} was finished", order.key);
        let acts = self.acts.entry(thing.clone()).or_default();
        // One that was kept and never begun is begun by the next process.
        assert!(order.resumed || !acts.iter().any(|(key, _)| *key == order.key), "seed {seed}: {} is not new", order.key);
        if acts.last().is_none_or(|(key, _)| *key != order.key) {
            acts.push((order.key.clone(), at));
        }
        let numbers: Vec<usize> = acts.iter().map(|(_, at)| *at).collect();
        assert!(numbers.is_sorted(), "seed {seed}: not in their order: {numbers:?}");
        for (at, attempt) in recovery.attempts.iter().enumerate() {
            assert!(numbers.iter().filter(|made| **made == at).count() <= attempt.times as usize, "seed {seed}: too often: {numbers:?}");
        }
        self.count(if order.resumed { "resumed" } else { "acts" });
        // Some take longer than they may, and some never end.
        let takes = match self.rng.u32(..20) {
            0 => 10_000,
            1 => order.attempt.limit.as_secs() + 2,
            _ => self.rng.u64(1..5),
        };
        self.acting.push((self.now + takes * S, order));
    }

    fn told(&mut self, case: &Case, told: &Told) {
        match told {
            Told::Tried(tried) => {
                self.finished.insert(tried.key.clone());
                self.count(match tried.outcome {
                    Some(Outcome::Healed { .. }) => "healed",
                    Some(Outcome::StillIll { .. }) => "still ill",
                    Some(Outcome::Failed { .. }) => "failed",
                    Some(Outcome::Gone) | None => panic!("seed {}: {tried:?}", self.seed),
                });
            }
            Told::GivenUp => {
                self.count("given up");
                assert!(matches!(case.stage, Stage::GivenUp { .. }));
            }
            Told::Held(_) => self.count("held"),
            Told::Relapsed => {
                self.count("relapsed");
            }
            // From here on everything may be tried again.
            Told::Over(_) if !matches!(case.stage, Stage::GivenUp { .. } | Stage::Waiting { .. }) => _ = self.acts.remove(&case.thing),
            Told::Over(_) | Told::Begun { .. } | Told::Would(_) => {}
        }
    }

    fn kill(&mut self) {
        self.count("kills");
        self.acting.clear();
        self.checking.clear();
        let saved = Saved { cases: self.kept.values().cloned().collect(), stopped: self.stopped.clone() };
        for case in &saved.cases {
            self.finished.extend(case.story.iter().filter(|tried| tried.outcome.is_some()).map(|tried| tried.key.clone()));
        }
        self.healer = Healer::new(self.file.clone(), saved, self.now);
    }

    fn look(&mut self) {
        for name in ["web", "db"] {
            let mut sights = Vec::new();
            for (thing, body) in self.bodies.iter_mut().filter(|(thing, _)| recovery_of(thing) == name) {
                let health = match (body.silent, body.heals_at) {
                    (true, _) => Health::Unknown,
                    (false, Some(_)) => Health::Ill(format!("ill at {}", self.now)),
                    (false, None) => Health::Well(self.now),
                };
                body.seen_ill = matches!(health, Health::Ill(_));
                let Thing::Machine(machine) = thing else { unreachable!("all are machines") };
                sights.push(Sight {
                    thing: thing.clone(),
                    about: About { machine: Some(machine.clone()), ..About::default() },
                    health,
                    mark: None,
                });
            }
            let ill = sights.iter().filter(|sight| matches!(sight.health, Health::Ill(_))).count();
            let limit = self.file[&RecoveryName::from(name)].ill_max_percent as usize;
            if ill > 1 && ill * 100 > limit * sights.len() {
                self.braked.insert(name.into())
            } else {
                self.braked.remove(name)
            };
            self.healer.handle(Input::Seen { recovery: name.into(), sights, complete: true }, self.now);
            if !self.settle() {
                return;
            }
        }
    }

    fn end_acts(&mut self) {
        let now = self.now;
        let due = |list: &mut Vec<(UnixMs, Order)>| -> Vec<Order> {
            let (due, left) = std::mem::take(list).into_iter().partition(|(at, _)| *at <= now);
            *list = left;
            Vec::into_iter(due).map(|(_, order): (UnixMs, Order)| order).collect()
        };
        let (acted, checked) = (due(&mut self.acting), due(&mut self.checking));
        for order in acted {
            let works = self.rng.u32(..10) > 0;
            let thing = order.case.thing.clone();
            let body = self.bodies.get_mut(&thing).expect("it is there");
            if works && body.heals_at.is_some_and(|at| at <= order.case.at) && order.attempt.action != RecoveryAction::Drain {
                body.heals_at = None;
            }
            let result = if works { Ok(()) } else { Err("it did not work".into()) };
            // Whoever is killed between doing and saying so.
            if self.rng.u32(..100) == 0 {
                return self.kill();
            }
            self.healer.handle(Input::Acted { thing, key: order.key, result }, self.now);
            if !self.settle() {
                return;
            }
        }
        for order in checked {
            let thing = order.case.thing.clone();
            let result = if self.bodies[&thing].heals_at.is_none() && self.rng.bool() { Ok(()) } else { Err("not yet".into()) };
            self.healer.handle(Input::Checked { thing, key: order.key, result }, self.now);
            if !self.settle() {
                return;
            }
        }
    }

    /// The world goes its way.
    fn happen(&mut self, calm: bool) {
        for body in self.bodies.values_mut() {
            match self.rng.u32(..2000) {
                0..12 if !calm && body.heals_at.is_none() => body.heals_at = Some(self.rng.usize(..4)),
                12..16 => body.heals_at = None,
                16..20 if !calm => body.silent = true,
                _ if body.silent && (calm || self.rng.u32(..20) == 0) => body.silent = false,
                _ => {}
            }
        }
        match self.rng.u32(..3000) {
            0 if !calm => _ = self.healer.stop(&"web".into(), "kim"),
            1..6 => _ = self.healer.run(&"web".into(), None, self.now).inspect(|()| self.acts.clear()),
            6..10 => self.kill(),
            _ => {}
        }
        self.settle();
    }

    fn step(&mut self, calm: bool) {
        self.now += S;
        self.happen(calm);
        self.end_acts();
        self.look();
    }
}

#[test]
fn attempts_come_in_order_one_at_a_time_and_never_twice() {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..3000 {
            world.step(false);
        }
        // When nothing new goes wrong, every case comes to an end: given up, or forgotten.
        let longest = world.file.values().map(|recovery| recovery.longest().as_secs() * 12).max().unwrap_or(0);
        for _ in 0..longest + 600 {
            world.step(true);
        }
        let _ = world.healer.run(&"web".into(), None, world.now);
        world.acts.clear();
        for _ in 0..longest + 600 {
            world.step(true);
        }
        for case in world.healer.cases() {
            let is_at_rest = matches!(case.stage, Stage::GivenUp { .. } | Stage::Healed { .. });
            let held = world.braked.contains(&case.recovery);
            assert!(is_at_rest || held, "seed {seed}: {} has come to no end: {case:#?}", case.thing);
        }
        for (what, count) in world.counts {
            *all.entry(what).or_default() += count;
        }
    }
    for what in ["acts", "resumed", "healed", "still ill", "failed", "given up", "held", "relapsed", "kills"] {
        assert!(all.get(what).is_some_and(|count| *count > 20), "{what} hardly ever happens: {all:?}");
    }
}
