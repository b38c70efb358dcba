//! The director's thread against real sockets: start, apply, flip, floor, drain, names, ramp, and how long it takes.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_config::*;
use weir_lb::director::{Director, Report};
use weir_lb::event::EventKind;
use weir_lb::snapshot::PoolSnapshot;
use weir_lb::tls::TlsStore;

const MS: Duration = Duration::from_millis(1);
/// How long a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(workers: usize) -> std::io::Result<Director> {
    Director::start(workers, Vec::new(), Arc::new(TlsStore::new(Vec::new())))
}

fn pool(name: &str, endpoints: Vec<EndpointAddress>) -> Pool {
    let endpoint = |address| Endpoint { address, weight: Weight::ONE, tier: 0, state: AdminState::Ready };
    Pool {
        name: name.into(),
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        balance: Balance::LeastRequest,
        slow_start: None,
        min_healthy: 1,
        below_min_healthy: BelowMinHealthy::FailOpen,
        timeouts: PoolTimeouts::default(),
        limits: PoolLimits::default(),
        health: Some(HealthCheck {
            probe: Probe::Tcp,
            interval: 20 * MS,
            fast_interval: 20 * MS,
            down_interval: 20 * MS,
            timeout: 1000 * MS,
            rise: NonZeroU32::new(2).unwrap(),
            fall: NonZeroU32::new(3).unwrap(),
            port: None,
        }),
        ejection: Some(Ejection { time: 200 * MS, ..Ejection::default() }),
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

fn config(pools: impl IntoIterator<Item = Pool>) -> Arc<Config> {
    Arc::new(Config {
        node: Node {
            name: "weir".into(),
            workers: None,
            state_dir: "/nowhere".into(),
            drain_timeout: 1000 * MS,
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
    })
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(MS);
    }
}

fn servers(count: usize) -> (Vec<TcpListener>, Vec<EndpointAddress>) {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap().into()).collect();
    (listeners, addresses)
}

/// Accepts and drops until the listener is shut down.
fn accept_all(listener: TcpListener) -> impl FnOnce() {
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
            if seen.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(address);
        thread.join().unwrap();
    }
}

fn only_pool(director: &Director) -> Arc<PoolSnapshot> {
    Arc::clone(director.shared().snapshot.load().pools[0].as_ref().unwrap())
}

fn candidates(director: &Director) -> Vec<SocketAddr> {
    only_pool(director).selector.candidates().iter().map(|candidate| candidate.address).collect()
}

#[test]
fn follows_what_it_sees() {
    let director = start(1).unwrap();
    let mut events = director.events();
    let (mut listeners, addresses) = servers(2);
    let stop_second = accept_all(listeners.pop().unwrap());
    let stop_first = accept_all(listeners.pop().unwrap());
    let web = pool("web", addresses.clone());
    assert_eq!(director.apply(config([web.clone()])), 1);
    let shared = director.shared();
    assert!(shared.generation.load(Ordering::Acquire) >= 1);
    wait_for("both are up", || only_pool(&director).healthy == 2);

    stop_first();
    wait_for("the first is down", || candidates(&director).len() == 1);
    let status = director.status();
    let first = &status.pools[0].endpoints[0];
    assert_eq!((first.health, first.available), ("unhealthy", false));
    assert!(first.evidence.ends_with("connect refused"), "{}", first.evidence);
    stop_second();
    wait_for("the floor opens", || only_pool(&director).healthy == 0 && candidates(&director).len() == 2);
    let closed = Pool { below_min_healthy: BelowMinHealthy::FailClosed, ..web.clone() };
    director.apply(config([closed]));
    assert!(candidates(&director).is_empty(), "in effect when apply returns");
    director.apply(config([web.clone()]));

    let Host::Ip(ip) = addresses[0].host else { unreachable!("an address") };
    let again = accept_all(TcpListener::bind((ip, addresses[0].port)).unwrap());
    wait_for("the first is back", || only_pool(&director).healthy == 1);
    let mut kinds = Vec::new();
    wait_for("the floor is reported", || director.status().pools[0].healthy == 1);
    while let Ok(event) = events.try_recv() {
        kinds.push(event.kind.clone());
    }
    let refused =
        |kind: &EventKind| matches!(kind, EventKind::Health { healthy: false, evidence, .. } if evidence == "3 of 3: connect refused");
    assert_eq!(kinds.iter().filter(|kind| refused(kind)).count(), 2);
    let floors: Vec<bool> =
        kinds.iter().filter_map(|kind| if let EventKind::Floor { below, .. } = kind { Some(*below) } else { None }).collect();
    assert_eq!(floors, [true, false]);
    again();
}

#[test]
fn drain_and_removal_purge_idle_connections() {
    let director = start(1).unwrap();
    let (_listeners, addresses) = servers(2);
    let mut web = Pool { health: None, ..pool("web", addresses) };
    director.apply(config([web.clone()]));
    let before = only_pool(&director);
    web.endpoints[0].state = AdminState::Draining;
    director.apply(config([web.clone()]));
    assert_eq!(candidates(&director).len(), 1);
    let purge = |index: usize| before.selector.candidates()[index].state.purge.load(Ordering::Relaxed);
    assert_eq!((purge(0), purge(1)), (1, 0));
    web.endpoints.pop();
    director.apply(config([web]));
    assert_eq!((purge(0), purge(1)), (1, 1));
}

#[test]
fn reports_eject_for_a_while() {
    let director = start(1).unwrap();
    let (_listeners, addresses) = servers(2);
    director.apply(config([Pool { health: None, ..pool("web", addresses) }]));
    let state = Arc::clone(&only_pool(&director).selector.candidates()[0].state);
    state.failures_in_row.store(5, Ordering::Relaxed);
    let mut events = director.events();
    let begin = Instant::now();
    director.reports().try_send(Report::Failing { endpoint: state.slot }).unwrap();
    let mut next = || loop {
        assert!(begin.elapsed() < PATIENCE, "no event");
        match events.try_recv() {
            Ok(event) => break event.kind.clone(),
            Err(_) => std::thread::sleep(MS),
        }
    };
    assert!(matches!(next(), EventKind::Ejected { for_s: 1, .. }), "rounded up");
    assert!(matches!(next(), EventKind::Readmitted { .. }));
    assert!(begin.elapsed() >= 190 * MS);
    assert_eq!(candidates(&director).len(), 2);
    assert_eq!(state.failures_in_row.load(Ordering::Relaxed), 0);
}

#[test]
fn a_name_that_does_not_resolve_is_a_down_endpoint() {
    let director = start(1).unwrap();
    let (_listeners, addresses) = servers(1);
    let named = |name: &str| EndpointAddress { host: Host::Name(name.into()), port: addresses[0].port };
    let web = Pool { min_healthy: 0, ..pool("web", vec![named("no-such-host.invalid"), named("localhost")]) };
    director.apply(config([web]));
    wait_for("both answers", || {
        let endpoints = &director.status().pools[0].endpoints;
        endpoints[0].health == "unhealthy" && endpoints[1].resolved.is_some()
    });
    let endpoint = director.status().pools[0].endpoints[0].clone();
    assert!(endpoint.evidence.starts_with("does not resolve: "), "{}", endpoint.evidence);
    assert_eq!((endpoint.resolved, endpoint.available), (None, false));
}

#[test]
fn slow_start_ramps() {
    let director = start(1).unwrap();
    let (_listeners, addresses) = servers(2);
    let web = |count: usize| {
        let pool = pool("web", addresses[..count].to_vec());
        config([Pool { health: None, slow_start: Some(6000 * MS), ..pool }])
    };
    director.apply(web(1));
    director.apply(web(2));
    let weights = || only_pool(&director).selector.candidates().iter().map(|candidate| candidate.weight).collect::<Vec<_>>();
    let mut seen = vec![weights()[1]];
    assert!(seen[0] < 50, "{seen:?}");
    let deadline = Instant::now() + PATIENCE;
    while *seen.last().unwrap() < 100 {
        assert!(Instant::now() < deadline, "{seen:?}");
        std::thread::sleep(MS);
        let now = weights();
        assert_eq!(now[0], 100);
        if *seen.last().unwrap() != now[1] {
            seen.push(now[1]);
        }
    }
    assert!(seen.is_sorted() && seen.len() >= 4, "{seen:?}");
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let director = start(1).unwrap();
    director.apply(config([pool("web", vec![])]));
    let (reports, mut events) = (director.reports(), director.events());
    drop(director);
    wait_for("the thread is gone", || reports.is_closed());
    while let Ok(event) = events.try_recv() {
        assert!(matches!(event.kind, EventKind::Applied { .. } | EventKind::Floor { .. }));
    }
}

fn addresses(range: std::ops::Range<u32>) -> Vec<EndpointAddress> {
    // Loopback addresses on which nothing listens: they are probed, and refuse.
    let address = |n: u32| SocketAddr::from(([127, 1, (n >> 8) as u8, n as u8], 1)).into();
    range.map(address).collect()
}

#[test]
fn large_configurations_apply_quickly() {
    let director = start(2).unwrap();
    let slowly = |pool: Pool| Pool { health: pool.health.map(|health| HealthCheck { interval: 2000 * MS, ..health }), ..pool };
    let many: Vec<Pool> = (0..1000).map(|n| slowly(pool(&format!("pool-{n}"), addresses(n * 10..n * 10 + 10)))).collect();
    let whole = config(many.clone());
    let begin = Instant::now();
    director.apply(whole);
    let start = begin.elapsed();
    wait_for("all are probed", || director.status().pools.iter().all(|pool| pool.endpoints.iter().all(|e| e.health == "unhealthy")));
    println!("1,000 pools of 10 endpoints: {start:?}, all probed after {:?}", begin.elapsed());

    // One pool of a thousand, and a membership change in it.
    director.apply(config([slowly(pool("web", addresses(0..1000)))]));
    wait_for("all are probed", || director.status().pools[0].endpoints.iter().all(|e| e.health == "unhealthy"));
    let mut times: Vec<Duration> = (1..=20)
        .map(|n| {
            let changed = config([slowly(pool("web", addresses(n..n + 1000)))]);
            let begin = Instant::now();
            director.apply(changed);
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("membership change with 1,000 endpoints: median {:?}, worst {:?}", times[10], times[19]);
    // One of them was not interrupted.
    assert!(times[0] < 10 * MS, "{times:?}");
}
