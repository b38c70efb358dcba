//! Alarms over time: what changes, when, and what is done about it.

use std::collections::BTreeMap;

use weir_autoscaler::alarm::{Acknowledgement, AlarmBook, AlarmState, Output};
use weir_autoscaler::{Query, Readings, Scope, UnixMs};
use weir_config::{AlarmName, Config};

const FILE: &str = r#"
[pool.web]
[host.a]
uri = "qemu:///system"
[alarm.busy]
pool = "web"
metric = "cpu"
above = 70
clear = 60
for = "20s"
[alarm.full]
host = "a"
metric = "disk-space"
above = 90
[alarm.sick]
when = "busy and not full"
[alarm.quiet]
pool = "web"
metric = "error-rate"
above = 1
suppressor = "full"
suppress_wait = "20s"
suppress_extension = "30s"
[alarm.night]
pool = "web"
metric = "error-rate"
above = 1
[[alarm.night.mute]]
cron = "0 22 * * *"
duration = "1h"
"#;

/// Values by metric; what is not there is missing.
#[derive(Default)]
struct Now(BTreeMap<&'static str, f64>);

impl Readings for Now {
    fn points(&self, query: &Query<'_>, _: UnixMs) -> Vec<Option<f64>> {
        assert!(matches!(query.scope, Scope::Pool(_) | Scope::Host(_)));
        vec![self.0.get(query.metric.word()).copied(); query.periods as usize]
    }
}

struct Scene {
    book: AlarmBook,
    config: Config,
    readings: Now,
    now: UnixMs,
}

impl Scene {
    fn at(now: u64) -> Scene {
        let config = weir_config::parse(FILE, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let mut book = AlarmBook::default();
        book.apply(&config.alarms, UnixMs(now));
        Scene { book, config, readings: Now::default(), now: UnixMs(now) }
    }

    /// Ten seconds later, with these values changed: what happened.
    fn then(&mut self, values: &[(&'static str, Option<f64>)]) -> Vec<String> {
        for (metric, value) in values {
            match value {
                Some(value) => self.readings.0.insert(metric, *value),
                None => self.readings.0.remove(metric),
            };
        }
        self.now = UnixMs(self.now.0 + 10_000);
        let outputs = self.book.evaluate(&self.readings, self.now);
        outputs
            .iter()
            .map(|output| match output {
                Output::Changed { alarm, change, quiet } => {
                    format!("{} {} -> {}{}", alarm.name, change.from.word(), change.to.word(), if *quiet { " quietly" } else { "" })
                }
                Output::Engaged(alarm) => format!("{} engaged", alarm.name),
                Output::Released(alarm) => format!("{} released", alarm.name),
            })
            .collect()
    }

    fn only(&mut self, alarm: &str, values: &[(&'static str, Option<f64>)]) -> Vec<String> {
        self.then(values).into_iter().filter(|line| line.starts_with(alarm)).collect()
    }
}

#[test]
fn states_change_with_their_data_points() {
    let mut scene = Scene::at(1_700_000_000_000);
    assert_eq!(scene.only("busy", &[("cpu", Some(65.0))]), ["busy insufficient-data -> ok"]);
    assert_eq!(scene.only("busy", &[("cpu", Some(80.0))]), ["busy ok -> alarm", "busy engaged"]);
    let view = scene.book.view(&"busy".into()).expect("it is there");
    let change = view.history.last().expect("it changed");
    assert_eq!(change.points.len(), 4);
    assert_eq!(change.points[3], (UnixMs(1_700_000_020_000), Some(80.0)));
    assert_eq!(change.reason, "cpu above 70% in 2 of 2 periods: 80.0 80.0");
    assert_eq!(scene.only("busy", &[("cpu", Some(65.0))]), [] as [&str; 0], "it clears at 60");
    assert_eq!(scene.only("busy", &[("cpu", Some(60.0))]), ["busy alarm -> ok", "busy released"]);
    assert_eq!(scene.only("busy", &[("cpu", None)]), ["busy ok -> insufficient-data"]);
}

#[test]
fn what_led_to_an_alarm_is_remembered_beyond_what_it_is_decided_by() {
    let begin = 1_700_000_000_000;
    let mut scene = Scene::at(begin);
    for number in 1..=70_u32 {
        scene.then(&[("cpu", Some(f64::from(number)))]);
    }
    let trail = scene.book.trail(&"busy".into());
    let expected: Vec<_> = (11..=70_u32).map(|number| (UnixMs(begin + u64::from(number) * 10_000), Some(f64::from(number)))).collect();
    assert_eq!(trail, expected, "sixty periods, each once");
    // A clock that was set back takes back what it had brought.
    scene.now = UnixMs(scene.now.0 - 100_000);
    scene.then(&[]);
    let trail = scene.book.trail(&"busy".into());
    assert_eq!(trail.last().map(|(at, _)| *at), Some(scene.now));
    assert!(trail.is_sorted_by(|(a, _), (b, _)| a < b), "{trail:?}");
    assert!(scene.book.trail(&"sick".into()).is_empty(), "a composite has no metric");
}

#[test]
fn nothing_is_looked_at_twice_in_one_period() {
    let mut scene = Scene::at(1_700_000_000_000);
    scene.then(&[("cpu", Some(65.0))]);
    scene.readings.0.insert("cpu", 90.0);
    assert_eq!(scene.book.evaluate(&scene.readings, UnixMs(scene.now.0 + 5_000)), []);
    assert!(!scene.book.evaluate(&scene.readings, UnixMs(scene.now.0 + 10_000)).is_empty());
}

#[test]
fn composites_follow_in_the_same_moment() {
    let mut scene = Scene::at(1_700_000_000_000);
    scene.then(&[("cpu", Some(90.0)), ("disk-space", Some(50.0))]);
    assert_eq!(scene.book.view(&"sick".into()).expect("it is there").state, AlarmState::Alarm);
    assert_eq!(scene.only("sick", &[("disk-space", Some(95.0))]), ["sick alarm -> ok", "sick released"]);
    assert_eq!(scene.only("sick", &[("disk-space", Some(50.0)), ("cpu", Some(10.0))]), [] as [&str; 0]);
}

#[test]
fn a_suppressor_is_waited_for_and_keeps_quiet() {
    let mut scene = Scene::at(1_700_000_000_000);
    scene.then(&[("error-rate", Some(0.0)), ("disk-space", Some(50.0))]);
    assert_eq!(scene.only("quiet", &[("error-rate", Some(5.0))]), ["quiet ok -> alarm"], "it waits");
    assert_eq!(scene.only("quiet", &[]), [] as [&str; 0]);
    assert_eq!(scene.only("quiet", &[]), ["quiet engaged"], "the wait is over");
    assert_eq!(scene.only("quiet", &[("disk-space", Some(95.0))]), ["quiet released"]);
    assert!(scene.book.view(&"quiet".into()).is_some_and(|view| view.quiet_because.as_deref() == Some("full suppresses it")));
    assert_eq!(scene.only("quiet", &[("disk-space", Some(50.0))]), [] as [&str; 0], "the extension");
    scene.then(&[]);
    scene.then(&[]);
    assert!(scene.book.view(&"quiet".into()).is_some_and(|view| view.engaged));
}

#[test]
fn a_mute_is_a_time_of_the_day() {
    // 2026-11-26, 22:10 UTC.
    let mut scene = Scene::at(1_795_731_000_000);
    scene.then(&[("error-rate", Some(0.0))]);
    assert_eq!(scene.only("night", &[("error-rate", Some(5.0))]), ["night ok -> alarm quietly"]);
    scene.now = UnixMs(1_795_733_999_000);
    assert_eq!(scene.only("night", &[]), ["night engaged"], "at 23:00 it is over");
}

#[test]
fn what_is_saved_goes_on() {
    let mut scene = Scene::at(1_700_000_000_000);
    scene.then(&[("cpu", Some(90.0))]);
    let seen = Acknowledgement { at: scene.now, by: "ann".into(), comment: "on it".into() };
    assert!(scene.book.acknowledge(&"busy".into(), seen.clone()));
    assert!(!scene.book.acknowledge(&"full".into(), seen.clone()));
    assert!(!scene.book.acknowledge(&AlarmName::from("none"), seen.clone()));
    let mut next = AlarmBook::default();
    next.apply(&scene.config.alarms, scene.now);
    next.restore(serde_json::from_str(&serde_json::to_string(&scene.book.saved()).expect("plain")).expect("plain"));
    let view = next.view(&"busy".into()).expect("it is there");
    assert_eq!((view.state, view.engaged, view.acknowledged), (AlarmState::Alarm, true, Some(seen)));
    assert_eq!(view.since, scene.now);
    assert_eq!(view.history.len(), 1);
    // No second change and no second engagement.
    assert!(
        next.evaluate(&scene.readings, UnixMs(scene.now.0 + 1))
            .iter()
            .all(|output| !matches!(output, Output::Engaged(alarm) if *alarm.name.0 == *"busy"))
    );
    scene.readings.0.insert("cpu", 10.0);
    next.evaluate(&scene.readings, UnixMs(scene.now.0 + 10_000));
    assert_eq!(next.view(&"busy".into()).and_then(|view| view.acknowledged), None, "it ends with the alarm");
}

#[test]
fn another_table_begins_anew() {
    let mut scene = Scene::at(1_700_000_000_000);
    scene.then(&[("cpu", Some(90.0))]);
    let same = scene.config.alarms.clone();
    scene.book.apply(&same, scene.now);
    assert_eq!(scene.book.view(&"busy".into()).map(|view| view.state), Some(AlarmState::Alarm));
    let other = weir_config::parse(&FILE.replace("above = 70", "above = 75"), "f").expect("good");
    scene.book.apply(&other.alarms, scene.now);
    assert_eq!(scene.book.view(&"busy".into()).map(|view| view.state), Some(AlarmState::InsufficientData));
    scene.book.apply(&BTreeMap::new(), scene.now);
    assert_eq!(scene.book.views().count(), 0);
}
