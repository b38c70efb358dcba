//! A fleet over days of virtual time, from seeds: load comes and goes, machines boot slowly or not at all, hosts vanish, metrics have gaps,
//! clocks jump, and the leader dies between any two steps. After each step the promises are checked.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_autoscaler::scaling::plan::{Clock, Plan, Step, plan};
use weir_autoscaler::scaling::{HostRoom, Member, MemberState, Memory, Observation, Policy, Signals, TargetSignal};

const FILE: &str = r#"
[pool.web]
min_healthy = 2
[pool.web.health]
type = "tcp"
[pool.web.scaling]
template = "web"
min = 2
max = 12
warm_up = "30s"
drain_timeout = "60s"
unhealthy_grace = "2m"
[[pool.web.scaling.target]]
metric = "requests-per-endpoint"
value = 100
[template.web]
master = "m"
port = 80
[host.a]
uri = "qemu:///system"
"#;

const COOLDOWN_IN: u64 = 300_000;
const COOLDOWN_OUT: u64 = 60_000;
const MIN: u32 = 2;
const MAX: u32 = 12;

struct Machine {
    member: Member,
    /// It boots until then, warms up until then.
    boots_until: u64,
    serves_from: u64,
    /// It never becomes healthy.
    broken: bool,
}

struct World {
    rng: fastrand::Rng,
    now: u64,
    /// The clock of the nodes, which may be off.
    skew: i64,
    policy: Policy,
    memory: Option<Memory>,
    machines: Vec<Machine>,
    /// Hosts, and until when they do not answer.
    hosts: Vec<(String, u64)>,
    load: f64,
    calm: bool,
    last_out: Option<u64>,
    last_in: Option<u64>,
    jumped_at: u64,
    crashed_at: u64,
    served: bool,
    changes: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let config = weir_config::parse(FILE, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let policy = Policy::of(&config, &"web".into()).expect("it is scaled");
        World {
            rng: fastrand::Rng::with_seed(seed),
            now: 1_700_000_000_000,
            skew: 0,
            policy,
            memory: None,
            machines: Vec::new(),
            hosts: (0..3).map(|number| (format!("host-{number}"), 0)).collect(),
            load: 150.0,
            calm: false,
            last_out: None,
            last_in: None,
            jumped_at: 0,
            crashed_at: 0,
            served: false,
            changes: 0,
        }
    }

    fn clock(&self) -> UnixMs {
        UnixMs(self.now.saturating_add_signed(self.skew))
    }

    fn host_answers(&self, name: &str) -> bool {
        self.hosts.iter().any(|(host, until)| host == name && *until <= self.now)
    }

    fn observe(&self) -> Observation {
        let clock = self.clock();
        let mut members: Vec<Member> = self
            .machines
            .iter()
            .map(|machine| {
                let mut member = machine.member.clone();
                let since = UnixMs(clock.0.saturating_sub(self.now.saturating_sub(machine.serves_from)));
                member.state = match member.state {
                    _ if !self.host_answers(&member.host) => {
                        let until = self.hosts.iter().find(|(host, _)| *host == member.host).map_or(0, |(_, until)| *until);
                        // It does not answer for ten minutes at most.
                        MemberState::Unknown { since: UnixMs(clock.0.saturating_sub(600_000u64.saturating_sub(until - self.now))) }
                    }
                    going if going.is_going() => going,
                    _ if self.now < machine.boots_until => MemberState::Launching,
                    _ if !member.registered => MemberState::Booted,
                    _ if machine.broken && self.now >= machine.serves_from => MemberState::Unhealthy { since },
                    _ if self.now < machine.serves_from => MemberState::Warming,
                    _ => MemberState::Serving,
                };
                member
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let room = |(host, _): &(String, u64)| {
            let on_it = self.machines.iter().filter(|machine| machine.member.host == *host).count() as u32;
            let more = if self.host_answers(host) { 8u32.saturating_sub(on_it) } else { 0 };
            HostRoom { host: host.clone(), group: host.clone(), more, why: "it is full".into(), warm: 0 }
        };
        Observation { complete: None, members, hosts: self.hosts.iter().map(room).collect(), base: Some("base-1".into()) }
    }

    fn signals(&mut self, observation: &Observation) -> Signals {
        let serving = observation.count(|state| *state == MemberState::Serving);
        let gap = !self.calm && self.rng.f64() < 0.05;
        let value = (!gap && serving > 0).then(|| self.load / f64::from(serving));
        Signals { targets: vec![TargetSignal::Pool(value)], ..Signals::default() }
    }

    /// One look, and what follows from it. `die_after`: the leader dies after so many steps.
    fn turn(&mut self, die_after: Option<usize>) -> Plan {
        let observation = self.observe();
        let signals = self.signals(&observation);
        let now = self.clock();
        let mut memory = self.memory.take().unwrap_or_else(|| Memory::adopt(&self.policy, &observation, now));
        let before = memory.desired;
        let plan = plan(&self.policy, &observation, &signals, &mut memory, Clock { now, bounds: None });
        self.check_decision(before, &plan, &observation);
        self.memory = Some(memory);
        for (number, step) in plan.steps.iter().enumerate() {
            if die_after == Some(number) {
                self.memory = None;
                self.crashed_at = self.now;
                break;
            }
            self.carry_out(step);
            // Asked again, nothing more happens.
            if self.rng.f64() < 0.05 && !matches!(step, Step::Launch { .. }) {
                self.carry_out(step);
            }
        }
        self.check_fleet(&plan);
        plan
    }

    fn carry_out(&mut self, step: &Step) {
        let now = self.clock();
        let fails = !self.calm && self.rng.f64() < 0.05;
        match step {
            Step::Launch { slot, host, .. } => {
                let memory = self.memory.as_mut().expect("it plans");
                if fails {
                    memory.launch_failed(Some(host), now);
                    return;
                }
                memory.launch_worked(host);
                let generation = memory.generation;
                let boot = self.rng.u64(5_000..240_000);
                let member = Member {
                    name: format!("web-{slot}-{}", self.rng.u32(..)),
                    slot: Some(*slot),
                    generation,
                    host: host.clone(),
                    group: host.clone(),
                    base: "base-1".into(),
                    since: now,
                    state: MemberState::Launching,
                    registered: false,
                    hooked: false,
                    protected: false,
                    in_flight: 0,
                    refresh: None,
                };
                let broken = !self.calm && self.rng.f64() < 0.02;
                let boots_until = self.now + boot;
                self.machines.push(Machine { member, boots_until, serves_from: boots_until + 40_000, broken });
            }
            Step::Register { machine } => self.with(machine, |machine| machine.member.registered = true),
            Step::Retire { machine, .. } => {
                self.with(machine, |machine| machine.member.state = MemberState::Leaving { since: now, draining: false })
            }
            Step::Drain { machine } => self.with(machine, |machine| {
                if let MemberState::Leaving { since, .. } = machine.member.state {
                    machine.member.state = MemberState::Leaving { since, draining: true };
                }
            }),
            Step::Deregister { machine } => self.with(machine, |machine| machine.member.registered = false),
            Step::Remove { machine } => self.machines.retain(|other| other.member.name != *machine),
            Step::Resume { .. } | Step::RunHook { .. } | Step::Note { .. } => panic!("there is none of these here: {step}"),
        }
    }

    fn with(&mut self, name: &str, change: impl Fn(&mut Machine)) {
        self.machines.iter_mut().filter(|machine| machine.member.name == name).for_each(change);
    }

    fn check_decision(&mut self, before: u32, plan: &Plan, observation: &Observation) {
        let after = plan.decision.desired;
        assert!((MIN..=MAX).contains(&after), "{plan}");
        // A clock that was set, or a leader that died, may have forgotten what it waited for.
        let steady = |since: u64| since > self.jumped_at && since > self.crashed_at;
        if after > before {
            if let Some(at) = self.last_out.filter(|at| steady(*at) && before >= MIN) {
                assert!(self.now - at >= COOLDOWN_OUT, "out {} s after out: {plan}", (self.now - at) / 1000);
            }
            self.last_out = Some(self.now);
            self.changes += 1;
        }
        if after < before {
            for at in [self.last_out, self.last_in].into_iter().flatten().filter(|at| steady(*at) && before <= MAX) {
                assert!(self.now - at >= COOLDOWN_IN, "in {} s after a change: {plan}", (self.now - at) / 1000);
            }
            self.last_in = Some(self.now);
            self.changes += 1;
        }
        // What serves is only taken away while enough serves.
        let retired =
            |member: &&Member| plan.steps.iter().any(|step| matches!(step, Step::Retire { machine, .. } if *machine == member.name));
        let serving = observation.members.iter().filter(|member| member.state == MemberState::Serving);
        let (all, gone) = (serving.clone().count(), serving.filter(retired).count());
        assert!(gone == 0 || all - gone >= MIN as usize, "below min_healthy: {plan}");
    }

    fn check_fleet(&self, plan: &Plan) {
        // Those that go, and those on hosts that do not answer, are not of the pool.
        let staying =
            self.machines.iter().filter(|machine| !machine.member.state.is_going() && self.host_answers(&machine.member.host)).count();
        assert!(staying <= MAX as usize + 4, "{staying} machines: {plan}");
        let mut by_slot: BTreeMap<u32, usize> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| !machine.member.state.is_going()) {
            *by_slot.entry(machine.member.slot.unwrap_or(0)).or_default() += 1;
        }
        assert!(by_slot.values().all(|count| *count == 1), "two machines for one slot: {by_slot:?}");
    }

    fn trouble(&mut self) {
        let day = (self.now / 1000 % 86_400) as f64 / 86_400.0;
        let wave = 1.0 + (day * std::f64::consts::TAU).sin();
        self.load = (100.0 + 400.0 * wave) * (0.9 + 0.2 * self.rng.f64());
        if self.rng.f64() < 0.002 {
            self.load *= 3.0;
        }
        if self.rng.f64() < 0.001 {
            let until = self.now + self.rng.u64(10_000..600_000);
            let host = self.rng.usize(..self.hosts.len());
            self.hosts[host].1 = until;
        }
        if self.rng.f64() < 0.0005 {
            self.skew = self.rng.i64(-3_600_000..3_600_000);
            self.jumped_at = self.now;
        }
        if self.rng.f64() < 0.002 && !self.machines.is_empty() {
            let ill = self.rng.usize(..self.machines.len());
            self.machines[ill].broken = true;
        }
    }

    fn run(mut self) -> u32 {
        // A day and a half, at steps of a third of a minute to a minute and a half.
        let end = self.now + 36 * 3_600_000;
        while self.now < end {
            self.now += self.rng.u64(20_000..90_000);
            self.trouble();
            let die_after = (self.rng.f64() < 0.01).then(|| self.rng.usize(..4));
            self.turn(die_after);
            self.served |= self.machines.len() >= MIN as usize;
        }
        assert!(self.served);
        // Then it becomes quiet, and after an hour everything is as it is wished to be.
        self.calm = true;
        self.load = 530.0;
        for machine in &mut self.machines {
            machine.broken = false;
        }
        let end = self.now + 90 * 60_000;
        while self.now < end {
            self.now += 20_000;
            self.turn(None);
        }
        let observation = self.observe();
        let serving = observation.count(|state| *state == MemberState::Serving);
        assert!(
            (5..=6).contains(&serving) && self.machines.len() == serving as usize,
            "{serving} serve, {} are there",
            self.machines.len()
        );
        self.changes
    }
}

#[test]
fn days_from_seeds() {
    let seeds = std::env::var("WEIR_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let first = std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let began = std::time::Instant::now();
    let mut changes = 0;
    for seed in first..first + seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        match outcome {
            Ok(count) => changes += u64::from(count),
            Err(panic) => {
                eprintln!("WEIR_SEED={seed} WEIR_SEEDS=1 shows it again");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(changes > seeds * 4, "a world in which nothing happens proves nothing: {changes}");
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}
