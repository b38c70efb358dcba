//! The engine by cases: what is told to whom, and when.

use super::*;
use crate::message::Kind;
use weir_config::Severity;

const S: u64 = 1000;
const M: u64 = 60 * S;
/// 2026-01-05 was a Monday.
const START: UnixMs = 1_767_571_200_000;

/// Messages told since the last look, as `at kind channel incident severity`.
struct Bench {
    engine: Engine,
    now: UnixMs,
}

fn notification(text: &str) -> Arc<Notification> {
    let text = format!("[notify.a.console]\n[notify.b.console]\n{text}");
    Arc::new(weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).notification)
}

impl Bench {
    fn new(text: &str) -> Bench {
        let house = House { node: "n".into(), key: LinkKey::new([1; 32]) };
        Bench { engine: Engine::new(notification(text), house, Saved::default(), START), now: START }
    }

    fn raise(&mut self, key: &str, severity: Severity, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let summary = format!("{key} is wrong");
        self.engine
            .handle(Input::Raise(Raise { key: key.into(), labels, severity, summary, values: BTreeMap::new(), series: None }), self.now);
    }

    fn warn(&mut self, key: &str) {
        self.raise(key, Severity::Warning, &[("thing", key)]);
    }

    fn clear(&mut self, key: &str) {
        self.engine.handle(Input::Clear(key.into()), self.now);
    }

    fn told(&mut self) -> Vec<String> {
        let told = |output: Output| match output {
            Output::Tell(channel, message) => {
                assert!(!message.text("en").title.is_empty() && !message.text("en").text.is_empty());
                let Message { kind, incident, severity, at, .. } = &*message;
                Some(format!("{} {} {channel} {incident} {severity}", (at - START) / S, kind.word()))
            }
            _ => None,
        };
        self.engine.take_outputs().into_iter().filter_map(told).collect()
    }

    /// Goes on, stopping wherever the engine wants to be woken.
    fn until(&mut self, at: u64) -> Vec<String> {
        let end = START + at;
        while let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) {
            assert!(next > self.now || self.engine.poll_timeout() != Some(next) || next == self.now, "the engine does not want the past");
            self.now = self.now.max(next);
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
        self.told()
    }
}

#[test]
fn an_incident_from_its_beginning_to_its_end() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\nrepeat = \"10m\"\n");
    bench.warn("x");
    assert_eq!(bench.told(), ["0 opened a 1 warning"]);
    bench.warn("x");
    assert_eq!(bench.told(), [""; 0], "the same again is nothing new");
    assert_eq!(bench.until(25 * M), ["600 repeated a 1 warning", "1200 repeated a 1 warning"]);
    bench.raise("x", Severity::Critical, &[("thing", "x")]);
    assert_eq!(bench.told(), ["1500 updated a 1 critical"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["1500 resolved a 1 critical"]);
    assert_eq!(bench.until(100 * M), [""; 0]);
    assert_eq!(bench.engine.incidents().count(), 0);
    bench.warn("x");
    assert_eq!(bench.told(), ["6000 opened a 2 warning"]);
}

#[test]
fn acknowledging_ends_repeats() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = [\"a\", \"b\"]\nrepeat = \"10m\"\n");
    bench.warn("x");
    assert_eq!(bench.told().len(), 2);
    bench.now += M;
    assert_eq!(bench.engine.acknowledge(1, "kim", bench.now), Ok(()));
    assert_eq!(bench.told(), ["60 acknowledged a 1 warning", "60 acknowledged b 1 warning"]);
    assert_eq!(bench.engine.acknowledge(1, "lee", bench.now), Err(AckRefusal::Already("kim".into())));
    assert_eq!(bench.engine.acknowledge(2, "lee", bench.now), Err(AckRefusal::NotOpen));
    assert_eq!(bench.until(100 * M), [""; 0]);
    bench.raise("x", Severity::Critical, &[("thing", "x")]);
    assert_eq!(bench.told(), ["6000 updated a 1 critical", "6000 updated b 1 critical"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["6000 resolved a 1 critical", "6000 resolved b 1 critical"]);
}

#[test]
fn alarms_of_a_group_are_one_incident() {
    let mut bench = Bench::new(
        "[[notify_rule]]\nnotify = \"a\"\ngroup_by = \"pool\"\ngroup_wait = \"10s\"\nupdate_interval = \"5m\"\nrepeat = \"0s\"\n",
    );
    for (key, pool) in [("x", "web"), ("y", "web"), ("z", "api")] {
        bench.raise(key, Severity::Warning, &[("pool", pool), ("vm", key)]);
    }
    assert_eq!(bench.until(9 * S), [""; 0]);
    assert_eq!(bench.until(20 * S), ["10 opened a 1 warning", "10 opened a 2 warning"]);
    bench.raise("w", Severity::Warning, &[("pool", "web"), ("vm", "w")]);
    bench.clear("x");
    assert_eq!(bench.until(10 * M), ["310 updated a 1 warning"]);
    bench.clear("y");
    bench.clear("z");
    assert_eq!(bench.told(), ["600 resolved a 2 warning"]);
    bench.clear("w");
    assert_eq!(bench.told(), ["600 resolved a 1 warning"]);
}

#[test]
fn what_was_over_before_it_was_told_is_not_told() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\ngroup_wait = \"10s\"\n");
    bench.warn("x");
    bench.clear("x");
    assert_eq!(bench.until(M), [""; 0]);
    assert_eq!(bench.engine.incidents().count(), 0);
}

#[test]
fn one_that_comes_back_soon_is_the_same() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n[incident]\nresolve_after = \"1m\"\n");
    bench.warn("x");
    bench.clear("x");
    assert_eq!(bench.until(30 * S), ["0 opened a 1 warning"]);
    bench.warn("x");
    assert_eq!(bench.until(5 * M), [""; 0]);
    bench.clear("x");
    assert_eq!(bench.until(10 * M), ["360 resolved a 1 warning"]);
}

#[test]
fn the_first_rule_decides_and_severity_is_a_condition() {
    let rules = "[[notify_rule]]\nmatch = [\"thing=x\"]\nseverity = \"critical\"\nnotify = \"a\"\n[[notify_rule]]\nmatch = [\"thing=x\"]\nnotify = \"b\"\n";
    let mut bench = Bench::new(rules);
    bench.warn("x");
    bench.warn("y");
    assert_eq!(bench.told(), ["0 opened b 1 warning"]);
    assert_eq!(bench.engine.incidents().count(), 2, "an incident that is told to nobody is there to be looked at");
    bench.raise("x", Severity::Critical, &[("thing", "x")]);
    assert_eq!(bench.told(), ["0 opened a 1 critical"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["0 resolved a 1 critical", "0 resolved b 1 critical"]);
}

const CHAIN: &str = "[[notify_rule]]\nnotify = \"a\"\nescalation = \"e\"\nrepeat = \"0s\"\n[escalation.e]\nrounds = 2\n\
                     [[escalation.e.step]]\nafter = \"5m\"\nnotify = \"a\"\n[[escalation.e.step]]\nafter = \"10m\"\nnotify = \"b\"\n";

#[test]
fn nobody_reacts() {
    let mut bench = Bench::new(CHAIN);
    bench.warn("x");
    let told = [
        "0 opened a 1 warning",
        "300 repeated a 1 warning",
        "600 opened b 1 warning",
        "1200 repeated a 1 warning",
        "1500 repeated b 1 warning",
    ];
    assert_eq!(bench.until(1000 * M), told);
    bench.clear("x");
    assert_eq!(bench.told(), ["60000 resolved a 1 warning", "60000 resolved b 1 warning"]);
}

#[test]
fn somebody_reacts() {
    let mut bench = Bench::new(CHAIN);
    bench.warn("x");
    assert_eq!(bench.until(6 * M).len(), 2);
    bench.engine.acknowledge(1, "kim", bench.now).unwrap();
    assert_eq!(bench.until(1000 * M), ["360 acknowledged a 1 warning"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["60000 resolved a 1 warning"]);
}

#[test]
fn how_far_a_chain_is() {
    let config = notification(CHAIN);
    let mut bench = Bench::new(CHAIN);
    bench.warn("x");
    let at = |bench: &Bench| {
        let position = position(&config, bench.engine.incident(1).expect("it is there")).expect("it has a chain");
        (position.taken, position.steps, position.next_at.map(|at| (at - START) / M), position.next)
    };
    bench.until(M);
    assert_eq!(at(&bench), (0, 4, Some(5), vec!["a".to_owned()]));
    bench.until(6 * M);
    assert_eq!(at(&bench), (1, 4, Some(10), vec!["b".to_owned()]));
    bench.engine.acknowledge(1, "kim", bench.now).unwrap();
    assert_eq!(at(&bench), (1, 4, None, vec![]), "somebody takes care");
    assert_eq!(position(&notification(""), bench.engine.incident(1).expect("it is there")), None);
}

#[test]
fn a_chain_stands_still_while_its_alarms_are_muted() {
    let mut bench = Bench::new(&format!("{CHAIN}[mute.m]\nmatch = [\"thing=x\"]\nfrom = \"00:02\"\nuntil = \"01:00\"\n"));
    bench.warn("x");
    assert_eq!(bench.until(70 * M), ["0 opened a 1 warning", "3780 repeated a 1 warning", "4080 opened b 1 warning"]);
}

#[test]
fn muted_alarms_are_told_when_the_mute_ends() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n[mute.m]\nmatch = [\"thing=x\"]\nend = \"2026-01-05T01:00\"\n");
    bench.warn("x");
    bench.warn("y");
    assert_eq!(bench.told(), ["0 opened a 2 warning"]);
    assert_eq!(bench.until(61 * M), ["3600 opened a 1 warning"]);
}

#[test]
fn a_dead_host_silences_its_machines() {
    let inhibit = "[[notify_rule]]\nnotify = \"a\"\n[[inhibit]]\nsource = [\"alarm=host-lost\"]\ntarget = [\"vm=~.+\"]\nequal = \"host\"\n";
    let mut bench = Bench::new(inhibit);
    bench.raise("v0", Severity::Warning, &[("host", "h1"), ("vm", "0")]);
    bench.raise("host", Severity::Critical, &[("host", "h1"), ("alarm", "host-lost")]);
    bench.raise("v1", Severity::Warning, &[("host", "h1"), ("vm", "1")]);
    bench.raise("v2", Severity::Warning, &[("host", "h2"), ("vm", "2")]);
    assert_eq!(bench.until(M), ["0 opened a 1 warning", "0 opened a 2 critical", "0 opened a 4 warning"]);
    assert_eq!(bench.until(300 * M), ["14400 repeated a 2 critical", "14400 repeated a 4 warning"]);
    bench.clear("host");
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["18000 opened a 3 warning", "18000 repeated a 1 warning", "18000 resolved a 2 critical"]);
}

#[test]
fn a_source_in_the_same_incident_inhibits_too() {
    let inhibit = "[[notify_rule]]\nnotify = \"a\"\ngroup_by = \"host\"\nrepeat = \"0s\"\n\
                   [[inhibit]]\nsource = [\"alarm=host-lost\"]\ntarget = [\"vm=~.+\"]\nequal = \"host\"\n";
    let mut bench = Bench::new(inhibit);
    bench.raise("host", Severity::Critical, &[("host", "h1"), ("alarm", "host-lost")]);
    bench.raise("v1", Severity::Warning, &[("host", "h1"), ("vm", "1")]);
    assert_eq!(bench.until(100 * M), ["0 opened a 1 critical"], "a machine of the dead host changes nothing");
}

#[test]
fn quiet_hours_hold_what_is_not_bad_enough() {
    let quiet = "[notify.q]\ntime_zone = \"Asia/Seoul\"\n[notify.q.console]\n[notify.q.quiet]\nfrom = \"08:00\"\nuntil = \"10:00\"\n[[notify_rule]]\nnotify = \"q\"\n";
    let mut bench = Bench::new(quiet);
    // 00:00 UTC is 09:00 in Seoul.
    bench.warn("x");
    bench.warn("gone");
    bench.raise("y", Severity::Critical, &[("thing", "y")]);
    assert_eq!(bench.told(), ["0 opened q 3 critical"]);
    bench.clear("gone");
    assert_eq!(bench.until(100 * M), ["3600 opened q 1 warning"]);
}

#[test]
fn the_end_waits_for_the_end_of_the_quiet_hours() {
    let mut bench =
        Bench::new("[notify.q.console]\n[notify.q.quiet]\nfrom = \"00:10\"\nuntil = \"01:00\"\n[[notify_rule]]\nnotify = \"q\"\n");
    bench.warn("x");
    assert_eq!(bench.until(20 * M), ["0 opened q 1 warning"]);
    bench.clear("x");
    assert_eq!(bench.until(50 * M), [""; 0]);
    assert_eq!(bench.until(61 * M), ["3600 resolved q 1 warning"]);
    assert_eq!(bench.engine.incidents().count(), 0);
}

#[test]
fn whoever_is_on_call_is_told() {
    let oncall = "[[notify_rule]]\noncall = \"t\"\nrepeat = \"30m\"\n[oncall.t]\nstart = \"2026-01-05T00:00\"\nshift_hours = 1\n\
                  [[oncall.t.member]]\nname = \"kim\"\nnotify = \"a\"\n[[oncall.t.member]]\nname = \"lee\"\nnotify = \"b\"\n";
    let mut bench = Bench::new(oncall);
    bench.warn("x");
    let told = ["0 opened a 1 warning", "1800 repeated a 1 warning", "3600 opened b 1 warning", "5400 repeated b 1 warning"];
    assert_eq!(bench.until(100 * M), told);
    bench.clear("x");
    assert_eq!(bench.told(), ["6000 resolved a 1 warning", "6000 resolved b 1 warning"]);
}

#[test]
fn a_storm_becomes_one_digest() {
    let mut bench = Bench::new("[notify.c]\nmessages_per_minute = 3\n[notify.c.console]\n[[notify_rule]]\nnotify = \"c\"\n");
    for i in 0..100 {
        bench.warn(&format!("x{i}"));
    }
    let told = bench.told();
    assert_eq!(told, ["0 opened c 1 warning", "0 opened c 2 warning", "0 opened c 3 warning"]);
    assert_eq!(bench.until(2 * M), [format!("60 digest c digest-{START} warning")]);
    let repeats = bench.until(241 * M);
    assert_eq!((repeats.len(), repeats[3].contains("digest")), (4, true), "{repeats:?}");
}

#[test]
fn a_failing_channel_is_told_to_its_fallback() {
    let mut bench = Bench::new("[notify.c]\nfallback = \"b\"\n[notify.c.console]\n[[notify_rule]]\nnotify = \"c\"\n");
    bench.raise("channel c", Severity::Critical, &[("alarm", "channel-failed"), ("channel", "c")]);
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["0 opened b 1 critical", "0 opened c 1 critical"]);
}

#[test]
fn a_source_that_starts_again_says_what_is_still_active() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n");
    ["p/x", "p/y", "q/z"].iter().for_each(|key| bench.warn(key));
    assert_eq!(bench.told().len(), 3);
    let keys = BTreeSet::from(["p/y".to_owned()]);
    bench.engine.handle(Input::Active { prefix: "p/".into(), keys }, bench.now);
    assert_eq!(bench.told(), ["0 resolved a 1 warning"]);
}

#[test]
fn another_file_changes_who_is_told() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\nrepeat = \"10m\"\n");
    bench.warn("x");
    assert_eq!(bench.told(), ["0 opened a 1 warning"]);
    bench.now += M;
    bench.engine.apply(notification("[[notify_rule]]\nnotify = \"b\"\nrepeat = \"5m\"\n"), bench.now);
    assert_eq!(bench.told(), ["60 opened b 1 warning"]);
    assert_eq!(bench.until(7 * M), ["360 repeated b 1 warning"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["420 resolved a 1 warning", "420 resolved b 1 warning"]);
}

#[test]
fn a_message_tells_the_story() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n[incident]\nurl = \"https://lb.example.com\"\n");
    bench.warn("x");
    bench.told();
    let attempt = RecoveryAttempt { what: "restart x".into(), outcome: "still wrong".into(), at: bench.now, phrases: None };
    bench.engine.handle(Input::Tried("x".into(), attempt), bench.now);
    bench.raise("x", Severity::Critical, &[("thing", "x")]);
    let message = bench.engine.take_outputs().into_iter().find_map(|output| match output {
        Output::Tell(_, message) => Some(*message),
        _ => None,
    });
    let message = message.expect("it became worse");
    assert_eq!((message.kind, message.sequence, message.recovery.len()), (Kind::Updated, 2, 1));
    assert_eq!(message.key, format!("n.1.{START}.a.2"));
    let link = message.links.acknowledge.clone().expect("there is a URL");
    assert!(message.text("en").text.contains(&link) && message.text("en").text.contains(" restart x: still wrong"));
    let token = link.strip_prefix("https://lb.example.com/ack/").unwrap();
    let permission = bench.engine.house.key.check(token, bench.now).unwrap();
    assert_eq!((permission.incident, permission.channel.as_str()), (1, "a"));
}

#[test]
fn too_many_alarms_are_counted() {
    let mut bench = Bench::new("");
    for i in 0..ALARMS_MAX + 5 {
        bench.warn(&i.to_string());
    }
    assert_eq!((bench.engine.incidents().count(), bench.engine.dropped()), (ALARMS_MAX, 5));
    let long = "x".repeat(10_000);
    bench.clear("0");
    bench.raise("long", Severity::Info, &[("a", &long)]);
    assert_eq!(bench.engine.incident_of("long").unwrap().labels["a"].len(), LABEL_CHARS_MAX);
}

/// An alarm that recovery works on, for at most so long.
fn raise_held(bench: &mut Bench, key: &str, first: u64, again: u64) {
    let raise = Raise {
        key: key.into(),
        labels: [("thing".to_owned(), key.to_owned())].into(),
        severity: Severity::Warning,
        summary: format!("{key} is wrong"),
        values: BTreeMap::new(),
        series: None,
    };
    bench.engine.handle(Input::RaiseHeld(raise, Hold { first, again }), bench.now);
}

fn tried(bench: &mut Bench, key: &str, what: &str, outcome: &str) {
    let attempt = RecoveryAttempt { what: what.into(), outcome: outcome.into(), at: bench.now, phrases: None };
    bench.engine.handle(Input::Tried(key.into(), attempt), bench.now);
}

fn released(bench: &mut Bench, key: &str, healed: bool) {
    bench.engine.handle(Input::Released { key: key.into(), healed }, bench.now);
}

#[test]
fn what_recovery_heals_is_one_message_that_tells_the_story() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = [\"a\", \"b\"]\nrepeat = \"1m\"\n");
    raise_held(&mut bench, "x", 10 * M, 0);
    assert_eq!(bench.until(2 * M), [""; 0], "nobody is told, and nothing is repeated");
    tried(&mut bench, "x", "restart of web-2", "still ill after 60 s");
    // The alarm is over before the recovery says why, and the other way round.
    for early in [true, false] {
        if early {
            bench.clear("x");
            assert_eq!(bench.until(2 * M + S), [""; 0], "its end waits for what recovery says");
        }
        tried(&mut bench, "x", "reset of web-2", "healed after 14 s");
        released(&mut bench, "x", true);
        if !early {
            assert_eq!(bench.told(), [""; 0], "it is about to be over");
            bench.clear("x");
        }
        let outputs = bench.engine.take_outputs();
        let messages = outputs.iter().filter_map(|output| match output {
            Output::Tell(_, message) => Some(message),
            _ => None,
        });
        let messages: Vec<_> = messages.collect();
        assert_eq!(messages.len(), 2, "one for each channel");
        assert!(messages.iter().all(|message| message.kind == Kind::Resolved));
        let text = &messages[0].text("en").text;
        assert!(text.contains("reset of web-2: healed after 14 s"), "{text}");
        assert!(!early || text.contains("restart of web-2: still ill after 60 s\n"), "{text}");
        assert_eq!(bench.engine.incidents().count(), 0);
        raise_held(&mut bench, "x", 10 * M, 0);
    }
}

#[test]
fn what_recovery_does_not_heal_is_told_when_it_gives_up() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n");
    raise_held(&mut bench, "x", 10 * M, 0);
    assert_eq!(bench.until(M), [""; 0]);
    tried(&mut bench, "x", "reset of web-2", "still ill after 30 s");
    released(&mut bench, "x", false);
    assert_eq!(bench.told(), ["60 opened a 1 warning"]);
    bench.clear("x");
    assert_eq!(bench.told(), ["60 resolved a 1 warning"]);
    // What is not over though it was healed is told, too.
    raise_held(&mut bench, "y", 10 * M, 0);
    released(&mut bench, "y", true);
    assert_eq!(bench.until(3 * M), ["120 opened a 2 warning"]);
    bench.clear("y");
    // Nobody hears of the recovery any more: the node that leads is another one.
    raise_held(&mut bench, "z", 2 * M, M);
    bench.told();
    assert_eq!(bench.until(4 * M + 30 * S), [""; 0]);
    raise_held(&mut bench, "z", 2 * M, M);
    bench.until(5 * M - S);
    raise_held(&mut bench, "z", 2 * M, M);
    assert_eq!(bench.until(10 * M), ["359 opened a 3 warning"], "a minute after it was last said to be worked on");
    bench.clear("z");
    bench.told();
    // By itself, without any attempt: that was nothing.
    raise_held(&mut bench, "w", 2 * M, M);
    bench.clear("w");
    released(&mut bench, "w", true);
    assert_eq!(bench.until(20 * M), [""; 0]);
}

#[test]
fn a_rule_may_want_no_word_of_what_was_healed() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\nhealed = false\n");
    raise_held(&mut bench, "x", 10 * M, 0);
    tried(&mut bench, "x", "reset of web-2", "healed after 1 s");
    released(&mut bench, "x", true);
    bench.clear("x");
    assert_eq!(bench.until(20 * M), [""; 0]);
}

#[test]
fn what_is_gone_is_resolved_and_says_why() {
    let mut bench = Bench::new("[[notify_rule]]\nnotify = \"a\"\n");
    ["p/x", "p/y", "q/z"].iter().for_each(|key| bench.warn(key));
    assert_eq!(bench.told().len(), 3);
    let keys = BTreeSet::from(["p/y".to_owned(), "p/never-raised".to_owned()]);
    bench.engine.handle(Input::Sources { prefix: "p/".into(), keys }, bench.now);
    let outputs = bench.engine.take_outputs();
    let told: Vec<&Message> =
        outputs.iter().filter_map(|output| if let Output::Tell(_, message) = output { Some(&**message) } else { None }).collect();
    assert_eq!(told.iter().map(|message| &*message.text("en").title).collect::<Vec<_>>(), ["[resolved] p/x is wrong (no longer there)"]);
    let open: Vec<&String> = bench.engine.incidents().filter(|one| one.state == State::Open).flat_map(|one| one.alarms.keys()).collect();
    assert_eq!(open, ["p/y", "q/z"]);
    // Its source is back, and it is wrong again: another incident, which is not gone.
    bench.warn("p/x");
    assert_eq!(bench.told(), ["0 opened a 4 warning"]);
}
