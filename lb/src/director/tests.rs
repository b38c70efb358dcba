//! The core over virtual time: a world that answers probes and lookups as it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_config::*;

use super::SavedVerdict;
use super::core::{Core, Effect};
use crate::event::EventKind;
use crate::health::verdict::Outcome;
use crate::snapshot::{PoolSnapshot, Snapshot};
use crate::status::EndpointStatus;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn endpoint(address: &str) -> Endpoint {
    let (host, port) = address.rsplit_once(':').unwrap();
    let host = host.parse::<IpAddr>().map_or_else(|_| Host::Name(host.into()), Host::Ip);
    let address = EndpointAddress { host, port: port.parse().unwrap() };
    Endpoint { address, weight: Weight::ONE, tier: 0, state: AdminState::Ready }
}

fn tcp_check() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp,
        interval: S,
        fast_interval: S,
        down_interval: S,
        timeout: S,
        rise: NonZeroU32::new(2).unwrap(),
        fall: NonZeroU32::new(3).unwrap(),
        port: None,
    }
}

/// A pool with a check and endpoints `10.0.0.N:80`.
fn pool(name: &str, hosts: &[&str]) -> Pool {
    Pool {
        name: name.into(),
        endpoints: hosts.iter().map(|host| endpoint(&format!("{host}:80"))).collect(),
        balance: Balance::LeastRequest,
        slow_start: None,
        min_healthy: 1,
        below_min_healthy: BelowMinHealthy::FailOpen,
        timeouts: PoolTimeouts::default(),
        limits: PoolLimits::default(),
        health: Some(tcp_check()),
        ejection: Some(Ejection::default()),
        scaling: None,
        upstream_protocol: UpstreamProtocol::Http1,
        tls: None,
        proxy_protocol: None,
        session: None,
        retry: weir_config::RetryPolicy::default(),
        breaker: None,
        adaptive: None,
    }
}

fn config(pools: impl IntoIterator<Item = Pool>) -> Config {
    Config {
        node: Node {
            name: "weir".into(),
            workers: None,
            state_dir: "/nowhere".into(),
            drain_timeout: 30 * S,
            probes_max: NonZeroU32::new(256).unwrap(),
        },
        api: None,
        access_log: None,
        cluster: None,
        vips: BTreeMap::new(),
        authorities: BTreeMap::new(),
        hosts: BTreeMap::new(),
        templates: BTreeMap::new(),
        metrics: BTreeMap::new(),
        alarms: BTreeMap::new(),
        recoveries: BTreeMap::new(),
        history: Default::default(),
        notification: Default::default(),
        shared_sum: [0; 32],
        listeners: BTreeMap::new(),
        pools: pools.into_iter().map(|pool| (pool.name.clone(), Arc::new(pool))).collect(),
    }
}

struct World {
    core: Core,
    now: Instant,
    snapshot: Arc<Snapshot>,
    /// IP addresses whose probes fail.
    down: BTreeSet<IpAddr>,
    names: HashMap<&'static str, Vec<IpAddr>>,
    events: Vec<String>,
    probes: usize,
}

impl World {
    fn new(saved: Vec<SavedVerdict>) -> World {
        let now = Instant::now();
        World {
            core: Core::new(2, saved, now),
            now,
            snapshot: Arc::default(),
            down: BTreeSet::new(),
            names: HashMap::new(),
            events: Vec::new(),
            probes: 0,
        }
    }

    fn with(pools: impl IntoIterator<Item = Pool>) -> World {
        let mut world = World::new(Vec::new());
        world.apply(pools);
        world
    }

    fn apply(&mut self, pools: impl IntoIterator<Item = Pool>) {
        self.core.apply(&config(pools), self.now);
        self.settle();
    }

    /// What is due now, with answers that take no time.
    fn settle(&mut self) {
        loop {
            self.core.handle_timeout(self.now);
            if let Some(snapshot) = self.core.build(self.now) {
                assert!(snapshot.generation > self.snapshot.generation);
                self.snapshot = snapshot;
            }
            let mut worked = false;
            while let Some(effect) = self.core.poll_effect() {
                match effect {
                    Effect::Probe(job) => {
                        worked = true;
                        self.probes += 1;
                        let refused = self.down.contains(&job.address.ip());
                        let outcome = if refused { Outcome::Failed("connect refused".into()) } else { Outcome::Ok };
                        self.core.handle_probe(job.run, &outcome, self.now);
                    }
                    Effect::Resolve(name) => {
                        worked = true;
                        let result = self.names.get(&*name).cloned().ok_or_else(|| "no such name".to_string());
                        self.core.handle_answer(&name, result, self.now);
                    }
                    Effect::Event(kind) => self.events.push(line(&kind)),
                }
            }
            if !worked {
                break;
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.core.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn fail(&mut self, host: &str) {
        self.down.insert(host.parse().unwrap());
    }

    fn heal(&mut self, host: &str) {
        self.down.remove(&host.parse().unwrap());
    }

    fn pool(&self, name: &str) -> &PoolSnapshot {
        self.snapshot.pools.iter().flatten().find(|pool| &*pool.config.name.0 == name).unwrap()
    }

    /// Addresses that may be picked, without their ports, with the weight where it is not 100.
    fn candidates(&self, name: &str) -> String {
        let candidates = self.pool(name).selector.candidates().iter();
        let words: Vec<String> = candidates
            .map(|candidate| match candidate.weight {
                100 => candidate.address.ip().to_string(),
                weight => format!("{}*{weight}", candidate.address.ip()),
            })
            .collect();
        words.join(" ")
    }

    fn status(&self, address: &str) -> EndpointStatus {
        let pools = self.core.status(self.now).pools;
        pools.into_iter().flat_map(|pool| pool.endpoints).find(|endpoint| endpoint.address.starts_with(address)).unwrap()
    }

    fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// A worker's failures on an endpoint, which must be a candidate.
    fn fail_traffic(&mut self, name: &str, host: &str) {
        let host: IpAddr = host.parse().unwrap();
        let pool = self.pool(name);
        let state = Arc::clone(&pool.selector.candidates().iter().find(|candidate| candidate.address.ip() == host).unwrap().state);
        state.failures_in_row.store(5, Ordering::Relaxed);
        self.core.handle_failing(state.slot, self.now);
        self.settle();
    }
}

fn line(kind: &EventKind) -> String {
    match kind {
        EventKind::Health { endpoint, healthy, evidence, .. } => {
            format!("{endpoint} {} ({evidence})", if *healthy { "up" } else { "down" })
        }
        EventKind::Ejected { endpoint, for_s, evidence, .. } => format!("{endpoint} ejected for {for_s} s ({evidence})"),
        EventKind::Readmitted { endpoint, .. } => format!("{endpoint} readmitted"),
        EventKind::Floor { pool, healthy, min_healthy, below } => {
            format!("{pool} {} its floor: {healthy} of {min_healthy}", if *below { "below" } else { "back at" })
        }
        EventKind::Resolved { endpoint, result, .. } => format!("{endpoint} resolved: {result}"),
        EventKind::Applied { generation } => format!("applied {generation}"),
        other => panic!("the director does not tell of {other:?}"),
    }
}

#[test]
fn verdicts_make_candidates() {
    let mut world = World::with([pool("web", &["10.0.0.1", "10.0.0.2"])]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    assert_eq!(world.pool("web").healthy, 2);
    let mut events = world.take_events();
    events[1..].sort();
    assert_eq!(events, ["applied 1", "10.0.0.1:80 up (first probe: ok)", "10.0.0.2:80 up (first probe: ok)"]);

    world.fail("10.0.0.1");
    world.run(5 * S);
    assert_eq!(world.candidates("web"), "10.0.0.2");
    assert_eq!(world.take_events(), ["10.0.0.1:80 down (3 of 3: connect refused)"]);
    let status = world.status("10.0.0.1");
    assert_eq!((status.health, status.available, status.state), ("unhealthy", false, "ready"));
    world.heal("10.0.0.1");
    world.run(3 * S);
    assert_eq!(world.take_events(), ["10.0.0.1:80 up (2 of 2: ok)"]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
}

#[test]
fn before_the_first_verdict_the_floor_decides() {
    for (mode, expected) in [(BelowMinHealthy::FailOpen, "10.0.0.1"), (BelowMinHealthy::FailClosed, "")] {
        let mut core = Core::new(1, Vec::new(), Instant::now());
        core.apply(&config([Pool { below_min_healthy: mode, ..pool("web", &["10.0.0.1"]) }]), Instant::now());
        let snapshot = core.build(Instant::now()).unwrap();
        let candidates = snapshot.pools[0].as_ref().unwrap().selector.candidates();
        let words: Vec<String> = candidates.iter().map(|candidate| candidate.address.ip().to_string()).collect();
        assert_eq!(words.join(" "), expected);
        // And no alarm is raised for what is not known yet.
        while let Some(effect) = core.poll_effect() {
            assert!(!matches!(effect, Effect::Event(EventKind::Floor { .. })));
        }
    }
}

#[test]
fn floor_open_and_closed() {
    for (mode, below) in [(BelowMinHealthy::FailOpen, "10.0.0.1 10.0.0.2 10.0.0.3"), (BelowMinHealthy::FailClosed, "")] {
        let web = Pool { below_min_healthy: mode, min_healthy: 2, ..pool("web", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]) };
        let mut world = World::with([web]);
        world.fail("10.0.0.1");
        world.run(5 * S);
        assert_eq!(world.candidates("web"), "10.0.0.2 10.0.0.3");
        world.take_events();
        world.fail("10.0.0.2");
        world.run(5 * S);
        assert_eq!(world.candidates("web"), below);
        assert_eq!(world.take_events(), ["10.0.0.2:80 down (3 of 3: connect refused)", "web below its floor: 1 of 2"]);
        world.fail("10.0.0.3");
        world.run(5 * S);
        assert_eq!(world.candidates("web"), below);
        assert_eq!(world.take_events().len(), 1, "below it was before");
        world.down.clear();
        world.run(3 * S);
        assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2 10.0.0.3");
        assert_eq!(world.take_events().iter().filter(|event| event.contains("back at its floor")).count(), 1);
    }
    // No floor: nobody is left, and nothing is opened.
    let mut world = World::new(Vec::new());
    world.fail("10.0.0.1");
    world.apply([Pool { min_healthy: 0, ..pool("web", &["10.0.0.1"]) }]);
    assert_eq!(world.candidates("web"), "");
    assert!(!world.take_events().iter().any(|event| event.contains("floor")));
}

#[test]
fn a_pool_that_starts_down_says_so() {
    let mut world = World::new(Vec::new());
    world.fail("10.0.0.1");
    world.apply([pool("web", &["10.0.0.1"])]);
    assert_eq!(world.take_events(), ["applied 1", "10.0.0.1:80 down (first probe: connect refused)", "web below its floor: 0 of 1"]);
}

#[test]
fn tiers_wait_for_the_lower_ones() {
    let mut web = pool("web", &["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.2.1"]);
    for (endpoint, tier) in web.endpoints.iter_mut().zip([0, 0, 1, 2]) {
        endpoint.tier = tier;
    }
    let mut world = World::with([web]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    for (down, expected) in [("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.1.1"), ("10.0.1.1", "10.0.2.1")] {
        world.fail(down);
        world.run(5 * S);
        assert_eq!(world.candidates("web"), expected);
    }
    world.heal("10.0.0.2");
    world.run(3 * S);
    assert_eq!(world.candidates("web"), "10.0.0.2");
}

#[test]
fn drain_maintenance_and_removal_purge() {
    let web = pool("web", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let mut world = World::with([web.clone()]);
    let states: Vec<_> = world.pool("web").selector.candidates().iter().map(|candidate| Arc::clone(&candidate.state)).collect();
    let purges = |states: &[Arc<crate::endpoint::EndpointState>]| -> Vec<u32> {
        states.iter().map(|state| state.purge.load(Ordering::Relaxed)).collect()
    };
    let mut changed = web.clone();
    changed.endpoints[0].state = AdminState::Draining;
    changed.endpoints[1].state = AdminState::Maintenance;
    changed.endpoints.remove(2);
    world.apply([changed.clone()]);
    assert_eq!(world.candidates("web"), "10.0.0.4");
    assert_eq!(purges(&states), [1, 1, 1, 0]);
    assert_eq!(world.pool("web").healthy, 1);
    // Past the first probes, which are off the grid.
    world.run(2 * S);
    let probes = world.probes;
    world.run(4 * S);
    assert_eq!(world.probes - probes, 8, "draining is probed, maintenance is not");
    assert_eq!(world.status("10.0.0.2").evidence, "not probed in maintenance");

    // Back: the drained one has kept its verdict, the other one is asked first.
    changed.endpoints[0].state = AdminState::Ready;
    changed.endpoints[1].state = AdminState::Ready;
    world.fail("10.0.0.2");
    world.take_events();
    world.apply([changed]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.4");
    assert_eq!(world.take_events(), ["applied 4", "10.0.0.2:80 down (first probe: connect refused)"]);
    assert_eq!(purges(&states), [1, 1, 1, 0]);
}

#[test]
fn what_did_not_change_is_not_touched() {
    let (web, api) = (pool("web", &["10.0.0.1", "10.0.0.2"]), pool("api", &["10.0.0.1"]));
    let mut world = World::with([web.clone(), api.clone()]);
    let before = Arc::clone(&world.snapshot);
    let probes = world.probes;
    world.apply([web.clone(), api.clone()]);
    assert_eq!(world.snapshot.generation, before.generation, "the same twice is nothing");

    let api_slot = world.pool("api").slot as usize;
    let mut heavier = web.clone();
    heavier.endpoints[0].weight = Weight::new(3).unwrap();
    heavier.endpoints.push(endpoint("10.0.0.3:80"));
    world.apply([heavier, api.clone()]);
    assert_eq!(world.candidates("web"), "10.0.0.1*300 10.0.0.2 10.0.0.3");
    assert_eq!(world.probes, probes + 1, "only the new one is asked");
    assert!(Arc::ptr_eq(before.pools[api_slot].as_ref().unwrap(), world.snapshot.pools[api_slot].as_ref().unwrap()));
    let web_slot = world.pool("web").slot as usize;
    let old = before.pools[web_slot].as_ref().unwrap();
    let new = world.pool("web");
    assert!(Arc::ptr_eq(&old.stats, &new.stats) && Arc::ptr_eq(&old.waiting, &new.waiting));
    assert!(Arc::ptr_eq(&old.selector.candidates()[0].state, &new.selector.candidates()[0].state));
}

#[test]
fn slots_are_used_again_only_when_nobody_holds_them() {
    let mut world = World::with([pool("web", &["10.0.0.1"]), pool("api", &["10.0.0.2"])]);
    let held = Arc::clone(&world.snapshot);
    let slot = |world: &World, name: &str| {
        let pool = world.pool(name);
        (pool.slot, pool.selector.candidates()[0].state.slot)
    };
    let old = slot(&world, "web");
    world.apply([pool("api", &["10.0.0.2"])]);
    world.apply([pool("api", &["10.0.0.2"]), pool("new", &["10.0.0.3"])]);
    assert_eq!(slot(&world, "new"), (2, 2), "the old snapshot may still be read");
    drop(held);
    world.apply([pool("api", &["10.0.0.2"]), pool("new", &["10.0.0.3"]), pool("newer", &["10.0.0.4"])]);
    assert_eq!(slot(&world, "newer"), old);
    let state = &world.pool("newer").selector.candidates()[0].state;
    assert_eq!(state.purge.load(Ordering::Relaxed), 2, "not what workers remember of the slot's last owner");
}

#[test]
fn ejected_for_a_time_and_not_undone_by_probes() {
    let mut world = World::with([pool("web", &["10.0.0.1", "10.0.0.2"])]);
    world.take_events();
    world.fail_traffic("web", "10.0.0.1");
    assert_eq!(world.candidates("web"), "10.0.0.2");
    assert_eq!(world.take_events(), ["10.0.0.1:80 ejected for 10 s (5 failures in a row)"]);
    let status = world.status("10.0.0.1");
    assert_eq!((status.health, status.ejected_s, status.available), ("healthy", Some(10), false));
    // The other one fails too: it is the last one.
    world.fail_traffic("web", "10.0.0.2");
    assert_eq!(world.candidates("web"), "10.0.0.2");
    world.run(9900 * MS);
    assert_eq!(world.candidates("web"), "10.0.0.2", "ten good probes do not readmit it");
    world.run(100 * MS);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    assert_eq!(world.take_events(), ["10.0.0.1:80 readmitted"]);
    // An old report about the time before.
    world.core.handle_failing(0, world.now);
    world.settle();
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    world.fail_traffic("web", "10.0.0.1");
    assert_eq!(world.take_events(), ["10.0.0.1:80 ejected for 20 s (5 failures in a row)"]);

    // The other one goes down: better an ejected endpoint than none.
    world.fail("10.0.0.2");
    world.run(5 * S);
    assert_eq!(world.candidates("web"), "10.0.0.1");
    // Ejection is switched off.
    world.heal("10.0.0.2");
    world.run(3 * S);
    world.take_events();
    world.apply([Pool { ejection: None, ..pool("web", &["10.0.0.1", "10.0.0.2"]) }]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    assert_eq!(world.take_events()[0], "10.0.0.1:80 readmitted");
}

#[test]
fn an_ejected_endpoint_that_is_found_down_comes_back_by_its_probes() {
    let mut world = World::with([pool("web", &["10.0.0.1", "10.0.0.2"])]);
    world.fail_traffic("web", "10.0.0.1");
    world.fail("10.0.0.1");
    world.run(5 * S);
    let status = world.status("10.0.0.1");
    assert_eq!((status.health, status.ejected_s), ("unhealthy", None));
    // Long before the ten seconds of the ejection are over.
    world.heal("10.0.0.1");
    world.run(3 * S);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
}

#[test]
fn names() {
    let mut world = World::new(Vec::new());
    world.apply([pool("web", &["a.example", "10.0.0.9"])]);
    assert_eq!(world.candidates("web"), "10.0.0.9");
    let status = world.status("a.example");
    assert_eq!((status.health, status.evidence.as_str(), status.resolved), ("unhealthy", "does not resolve: no such name", None));
    assert!(world.take_events().contains(&"a.example:80 resolved: no such name".to_string()));

    let ips = |text: &str| text.split(' ').map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    world.names.insert("a.example", ips("10.0.0.1 10.0.0.2"));
    world.run(S);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.9");
    assert_eq!(world.take_events(), ["a.example:80 resolved: 10.0.0.1", "a.example:80 up (first probe: ok)"]);
    let state = Arc::clone(&world.pool("web").selector.candidates()[0].state);

    // Another order: the address is kept. Another address: moved, idle connections dropped, the verdict kept until there is reason.
    world.names.insert("a.example", ips("10.0.0.2 10.0.0.1"));
    world.run(10 * S);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.9");
    assert_eq!(state.purge.load(Ordering::Relaxed), 0);
    world.names.insert("a.example", ips("10.0.0.3"));
    world.run(10 * S);
    assert_eq!(world.candidates("web"), "10.0.0.3 10.0.0.9");
    assert_eq!(state.purge.load(Ordering::Relaxed), 1);
    assert_eq!(world.take_events(), ["a.example:80 resolved: 10.0.0.3"]);

    // The name server is gone, the endpoint is not.
    world.names.clear();
    world.run(60 * S);
    assert_eq!(world.candidates("web"), "10.0.0.3 10.0.0.9");
    assert_eq!(world.take_events(), ["a.example:80 resolved: no such name; 10.0.0.3 is still used"]);
    world.names.insert("a.example", ips("10.0.0.3"));
    world.run(11 * S);
    assert_eq!(world.take_events(), ["a.example:80 resolved: 10.0.0.3"]);
}

#[test]
fn slow_start_from_the_own_first_healthy_moment() {
    let slow = |hosts: &[&str]| Pool { slow_start: Some(10 * S), ..pool("web", hosts) };
    let mut world = World::with([slow(&["10.0.0.1", "10.0.0.2"])]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2", "healthy at the start: no ramp");
    world.fail("10.0.0.3");
    world.apply([slow(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"])]);
    assert_eq!(world.pool("web").selector.candidates()[2].address.ip().to_string(), "10.0.0.4");
    let share = |world: &World, host: &str| {
        let host: IpAddr = host.parse().unwrap();
        world.pool("web").selector.candidates().iter().find(|candidate| candidate.address.ip() == host).map(|candidate| candidate.weight)
    };
    let mut last = 0;
    for _ in 0..9 {
        world.run(S);
        let now = share(&world, "10.0.0.4").unwrap();
        assert!(now > last && now < 100, "{last} then {now}");
        assert_eq!(u32::from(world.status("10.0.0.4").ramp_percent), now);
        last = now;
    }
    assert!(last >= 85, "nine tenths of the way: {last}");
    // Another one joins in the middle: it starts at the bottom, the first one goes on.
    world.heal("10.0.0.3");
    world.run(2 * S);
    assert_eq!(share(&world, "10.0.0.4"), Some(100));
    assert!(share(&world, "10.0.0.3").unwrap() < 40);
    world.run(12 * S);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4");
    let generation = world.snapshot.generation;
    world.run(10 * S);
    assert_eq!(world.snapshot.generation, generation, "nothing moves any more");

    // Back from unhealthy: from the bottom again.
    world.fail("10.0.0.1");
    world.run(5 * S);
    world.heal("10.0.0.1");
    world.run(2 * S);
    assert!(share(&world, "10.0.0.1").unwrap() < 30);
}

#[test]
fn saved_verdicts_are_taken_over() {
    let slow = || Pool { slow_start: Some(10 * S), ..pool("web", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]) };
    let mut world = World::new(Vec::new());
    world.fail("10.0.0.2");
    world.apply([slow()]);
    let mut saved = world.core.saved_verdicts();
    assert_eq!(saved.iter().map(|verdict| verdict.healthy).collect::<Vec<_>>(), [true, false, true]);
    // The third one was probed differently.
    saved[2].check ^= 1;
    let now = Instant::now();
    let mut core = Core::new(1, saved, now);
    core.apply(&config([slow()]), now);
    let snapshot = core.build(now).unwrap();
    let web = snapshot.pools[0].as_ref().unwrap();
    assert_eq!(web.healthy, 1, "before any probe");
    assert_eq!(web.selector.candidates().len(), 1);
    assert_eq!(web.selector.candidates()[0].weight, 100);
    let words: Vec<&str> = core.status(now).pools[0].endpoints.iter().map(|endpoint| endpoint.health).collect();
    assert_eq!(words, ["healthy", "unhealthy", "unknown"]);
}

#[test]
fn a_new_check_must_find_fault_first() {
    let unchecked = Pool { health: None, below_min_healthy: BelowMinHealthy::FailClosed, ..pool("web", &["10.0.0.1", "10.0.0.2"]) };
    let checked = Pool { health: Some(tcp_check()), ..unchecked.clone() };
    let mut world = World::with([unchecked.clone()]);
    assert_eq!((world.candidates("web").as_str(), world.probes), ("10.0.0.1 10.0.0.2", 0));
    world.fail("10.0.0.1");
    world.apply([checked]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    assert_eq!(world.status("10.0.0.1").evidence, "1 of 3: connect refused");
    world.run(4 * S);
    assert_eq!(world.candidates("web"), "10.0.0.2");
    world.apply([unchecked]);
    assert_eq!(world.candidates("web"), "10.0.0.1 10.0.0.2");
    assert_eq!(world.status("10.0.0.1").health, "unchecked");
}

#[test]
fn listeners_name_pool_slots() {
    let listener = |route: &str| {
        let text = format!(
            "[listener.front]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n[[listener.front.route]]\npath = \"/v1/\"\npool = \"{route}\"\n\
             [pool.api]\n[pool.web]\n[pool.zoo]\n"
        );
        let config = weir_config::parse(&text, "test").unwrap();
        Listener::clone(&config.listeners[&"front".into()])
    };
    let pools = |listener: &crate::snapshot::ListenerSnapshot| listener.routes.as_ref().unwrap().pools().collect::<Vec<_>>();
    let with = |route: &str| {
        let mut config = config([pool("api", &[]), pool("web", &[]), pool("zoo", &[])]);
        config.listeners.insert("front".into(), Arc::new(listener(route)));
        config
    };
    let now = Instant::now();
    let mut core = Core::new(1, Vec::new(), now);
    core.apply(&with("api"), now);
    let first = core.build(now).unwrap();
    let front = first.listeners[0].as_ref().unwrap();
    assert_eq!((front.pool, pools(front)), (Some(1), vec![0]));
    core.apply(&with("zoo"), now);
    let second = core.build(now).unwrap();
    let moved = second.listeners[0].as_ref().unwrap();
    assert_eq!((moved.slot, pools(moved)), (0, vec![2]));
    assert!(Arc::ptr_eq(&front.stats, &moved.stats));
    core.apply(&config([]), now);
    let third = core.build(now).unwrap();
    assert!(third.listeners.is_empty() && third.pools.iter().all(Option::is_none));
}
