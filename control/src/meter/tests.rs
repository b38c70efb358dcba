//! Samples over virtual time.

use super::*;
use crate::api::view::tests::{sample_endpoint, sample_status};

const START: UnixMs = UnixMs(1_700_000_040_000);

fn config(text: &str) -> Config {
    let base = "[pool.web]\nendpoints = [\"10.0.0.1:80\"]\n";
    weir_config::parse(&format!("{base}{text}"), "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn second(number: u64) -> UnixMs {
    START.plus(Duration::from_secs(number))
}

/// So many seconds in which each request is counted by the data plane.
fn run(measured: &mut Measured, status: &Status, seconds: std::ops::Range<u64>) {
    for number in seconds {
        measured.sample(&Sight { status, hosts: &[], machines: &[] }, BTreeMap::new(), second(number));
    }
}

fn query<'a>(metric: &'a Metric, scope: &'a Scope, statistic: Statistic) -> Query<'a> {
    Query { metric, scope, statistic, period: Duration::from_secs(10), periods: 2 }
}

#[test]
fn alarms_see_as_far_back_as_they_look_and_the_rest_is_kept() {
    let mut status = sample_status(vec![sample_endpoint("10.0.0.1:80")]);
    status.pools[0].name = "web".into();
    status.pools[0].endpoints[0].in_flight = 4;
    let mut measured = Measured::default();
    measured.apply(&config("[alarm.busy]\npool = \"web\"\nmetric = \"in-flight\"\nabove = 70\nfor = \"20s\"\n"));
    run(&mut measured, &status, 0..30);
    status.pools[0].endpoints[0].in_flight = 8;
    run(&mut measured, &status, 30..35);
    let scope = Scope::Pool("web".into());
    let points = measured.points(&query(&Metric::InFlight, &scope, Statistic::Average), second(35));
    assert_eq!(points, [Some(4.0), Some(4.0)]);
    let points = measured.points(&query(&Metric::InFlight, &scope, Statistic::Maximum), second(45));
    assert_eq!(points, [Some(4.0), Some(8.0)]);
    assert_eq!(measured.points(&query(&Metric::Requests, &scope, Statistic::Average), second(35)), [None, None], "nobody looks at it");
    let series = |metric: &str| Series { metric: metric.into(), scope: "pool".into(), name: "web".into() };
    assert_eq!(measured.pending(&series("in-flight")).iter().map(|point| point.mean).collect::<Vec<_>>(), [4.0, 4.0, 4.0, 8.0]);
    assert_eq!(measured.pending(&series("requests")).len(), 4, "but it is kept");
    assert!(measured.pending(&series("latency-p99")).is_empty(), "nothing was answered meanwhile");
    measured.pages(second(35));
    run(&mut measured, &status, 60..61);
    let pages = measured.pages(second(60));
    assert!(pages.iter().all(|page| &*page.series.name == "web"));
    assert!(measured.pages(second(61)).is_empty(), "once");
}

#[test]
fn each_second_has_one_sample_and_a_clock_that_was_set_back_begins_anew() {
    let mut status = sample_status(vec![sample_endpoint("10.0.0.1:80")]);
    status.pools[0].name = "web".into();
    let mut measured = Measured::default();
    measured.apply(&config("[alarm.busy]\npool = \"web\"\nmetric = \"in-flight\"\nabove = 70\nfor = \"20s\"\n"));
    let sight = Sight { status: &status, hosts: &[], machines: &[] };
    (0..20).for_each(|n| measured.sample(&sight, BTreeMap::new(), START.plus(Duration::from_millis(n * 100))));
    let scope = Scope::Pool("web".into());
    let samples = query(&Metric::InFlight, &scope, Statistic::Sum);
    let each = f64::from(status.pools[0].endpoints[0].in_flight);
    assert_eq!(measured.points(&samples, second(10))[1], Some(2.0 * each));
    // One that comes late is followed by one in time: a second without a sample would be missing data.
    for (at_ms, expected) in [(2_700, 3.0), (3_050, 4.0), (3_900, 4.0), (4_010, 5.0), (5_010, 6.0)] {
        measured.sample(&sight, BTreeMap::new(), START.plus(Duration::from_millis(at_ms)));
        assert_eq!(measured.points(&samples, second(10))[1], Some(expected * each), "at {at_ms}");
    }
    measured.sample(&sight, BTreeMap::new(), START.minus(Duration::from_secs(3600)));
    assert_eq!(measured.points(&samples, second(10)), [None, None]);
}

#[test]
fn numbers_from_elsewhere_reach_who_asks() {
    let mut measured = Measured::default();
    let metric = "[metric.jobs]\ncommand = [\"/bin/true\"]\n[alarm.busy]\npool = \"web\"\nmetric = \"jobs\"\nabove = 70\nfor = \"10s\"\n";
    measured.apply(&config(metric));
    measured.put_external(&MetricName("jobs".into()), 12.5, second(1));
    measured.put_external(&MetricName("other".into()), 1.0, second(1));
    let (jobs, scope) = (Metric::External("jobs".into()), Scope::Pool("web".into()));
    assert_eq!(measured.points(&query(&jobs, &scope, Statistic::Average), second(10))[1], Some(12.5));
    assert_eq!(measured.tracks.len(), 1);
}

#[test]
fn what_was_kept_goes_before_what_was_measured_since() {
    let predict = "[pool.web.scaling]\ntemplate = \"t\"\nmin = 1\nmax = 2\n[pool.web.scaling.predict]\nmetric = \"in-flight\"\nvalue = 10\n\
                   [pool.web.health]\ntype = \"tcp\"\n[template.t]\nmaster = \"m\"\nport = 80\n[host.a]\nuri = \"qemu:///system\"\n";
    let config = config(predict);
    let predict = config.pools[&PoolName::from("web")].scaling.as_ref().and_then(|scaling| scaling.predict.clone()).expect("it predicts");
    let mut measured = Measured::default();
    measured.apply(&config);
    let pool = PoolName::from("web");
    assert!(measured.roll(&pool, &predict, second(0)), "it begins");
    assert!(!measured.roll(&pool, &predict, second(1)));
    let day: Vec<(UnixMs, f64)> = (0..300).map(|n| (second(0).minus(ROLLED * (300 - n)), 50.0)).collect();
    assert_eq!(measured.forecast(&pool, &predict, second(1)), None);
    measured.restore(&pool, day);
    assert_eq!(measured.forecast(&pool, &predict, second(1)), Some(50.0));
}
