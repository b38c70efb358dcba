//! As many as one node is made for: 1,000 pools with 10,000 machines and 5,000 alarms, all of them looked at each second.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use weir_autoscaler::alarm::AlarmBook;
use weir_autoscaler::scaling::plan::{Clock, plan};
use weir_autoscaler::scaling::schedule::bounds;
use weir_autoscaler::scaling::{HostRoom, Member, MemberState, Memory, Observation, Policy, Signals, TargetSignal};
use weir_autoscaler::{Query, Readings, UnixMs};

const POOLS: usize = 1000;
const MEMBERS: usize = 10;

/// A tenth of a core; a build without optimisation on a busy machine gets more.
const BUDGET: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

struct Steady;

impl Readings for Steady {
    fn points(&self, query: &Query<'_>, _: UnixMs) -> Vec<Option<f64>> {
        vec![Some(60.0); query.periods as usize]
    }
}

#[test]
fn a_second_of_many_pools_is_a_tenth_of_a_core() {
    let mut text = String::from("[template.web]\nmaster = \"m\"\nport = 80\n[host.a]\nuri = \"qemu:///system\"\n");
    for pool in 0..POOLS {
        let _ = write!(
            text,
            "[pool.p{pool}]\n[pool.p{pool}.health]\ntype = \"tcp\"\n[pool.p{pool}.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 20\n"
        );
        let _ = writeln!(text, "[[pool.p{pool}.scaling.target]]\nmetric = \"cpu\"\nvalue = 60");
        for alarm in 0..5 {
            let _ =
                writeln!(text, "[alarm.a{pool}-{alarm}]\npool = \"p{pool}\"\nmetric = \"cpu\"\nabove = 70\nperiod = \"1s\"\nperiods = 5");
        }
    }
    let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let mut now = UnixMs(1_700_000_000_000);
    let mut book = AlarmBook::default();
    book.apply(&config.alarms, now);
    let member = |number: usize| Member {
        name: format!("web-{number}"),
        slot: u32::try_from(number).ok(),
        generation: 1,
        host: "a".into(),
        group: "a".into(),
        base: "base".into(),
        since: UnixMs(1_600_000_000_000),
        state: MemberState::Serving,
        registered: true,
        hooked: true,
        protected: false,
        in_flight: 3,
        refresh: None,
    };
    let room = HostRoom { host: "a".into(), group: "a".into(), more: 9, why: String::new(), warm: 0 };
    let observation = Observation { complete: None, members: (0..MEMBERS).map(member).collect(), hosts: vec![room], base: None };
    let signals = Signals { targets: vec![TargetSignal::Each(vec![Some(60.0); MEMBERS])], ..Signals::default() };
    let mut pools: Vec<_> = config
        .pools
        .keys()
        .map(|name| {
            let policy = Policy::of(&config, name).expect("it is scaled");
            let (memory, bounds) = (Memory::adopt(&policy, &observation, now), bounds(&policy.scaling, now));
            (policy, memory, bounds)
        })
        .collect();
    let mut best = Duration::MAX;
    for _ in 0..10 {
        now = now.plus(Duration::from_secs(1));
        let began = Instant::now();
        book.evaluate(&Steady, now);
        for (policy, memory, bounds) in &mut pools {
            let plan = plan(policy, &observation, &signals, memory, Clock { now, bounds: Some(*bounds) });
            assert!(plan.steps.is_empty() && plan.decision.desired == MEMBERS as u32, "{plan}");
        }
        best = best.min(began.elapsed());
    }
    println!("{POOLS} pools, {} machines, {} alarms: {best:?}", POOLS * MEMBERS, config.alarms.len());
    assert!(best < BUDGET, "{best:?}");
}
