//! Plans as text: what is seen, and what is decided and done about it.

use std::fmt::Write as _;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::AlarmState;
use weir_autoscaler::scaling::plan::{Clock, Plan, plan};
use weir_autoscaler::scaling::{AlarmSignal, HostRoom, Member, MemberState, Memory, Observation, Policy, Signals, TargetSignal, refresh};

const NOW: UnixMs = UnixMs(1_795_694_400_000);

const FILE: &str = r#"
[pool.web]
min_healthy = 2
[pool.web.health]
type = "tcp"
[pool.web.scaling]
template = "web"
min = 1
max = 6
stabilise_in = "0s"
SCALING
[template.web]
master = "m"
port = 80
[host.a]
uri = "qemu:///system"
[alarm.high]
pool = "web"
metric = "cpu"
above = 60
[alarm.low]
pool = "web"
metric = "cpu"
below = 40
"#;

struct Scene {
    policy: Policy,
    observation: Observation,
    signals: Signals,
    memory: Memory,
}

/// `"1 2! 3? 4* 5@b 6<"`: serving members by slot; `!` ill for long, `+` warming, `*` protected, `@b` on host b, `~` on the old base, `-`
/// leaving and drained.
fn scene(scaling: &str, members: &str, desired: u32) -> Scene {
    let text = FILE.replace("SCALING", scaling);
    let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let policy = Policy::of(&config, &"web".into()).expect("it is scaled");
    let members: Vec<Member> = members.split_whitespace().map(member).collect();
    let room = |host: &str| HostRoom { host: host.into(), group: host.into(), more: 3, why: "it is full".into(), warm: 0 };
    let observation = Observation { complete: None, members, hosts: vec![room("a"), room("b")], base: Some("base-2".into()) };
    let mut memory = Memory::adopt(&policy, &observation, NOW.minus(Duration::from_secs(7200)));
    memory.desired = desired;
    memory.last_out = None;
    Scene { policy, observation, signals: Signals::default(), memory }
}

fn member(text: &str) -> Member {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let slot: u32 = digits.parse().expect("a slot");
    let host = if text.contains("@b") { "b" } else { "a" };
    let since = NOW.minus(Duration::from_secs(300));
    let state = match text {
        text if text.contains('!') => MemberState::Unhealthy { since },
        text if text.contains('+') => MemberState::Warming,
        text if text.contains('-') => MemberState::Leaving { since: NOW, draining: true },
        _ => MemberState::Serving,
    };
    Member {
        name: format!("web-{slot}"),
        slot: Some(slot),
        generation: 3,
        host: host.into(),
        group: host.into(),
        base: if text.contains('~') { "base-1" } else { "base-2" }.into(),
        since: UnixMs(NOW.0 - 3_600_000 + u64::from(slot) * 1000),
        state,
        registered: true,
        hooked: false,
        protected: text.contains('*'),
        in_flight: 0,
    }
}

impl Scene {
    fn plan(&mut self) -> Plan {
        plan(&self.policy, &self.observation, &self.signals, &mut self.memory, Clock { now: NOW, bounds: None })
    }

    /// Steps, refusals and the decision, each on a line.
    fn told(&mut self) -> String {
        let plan = self.plan();
        let mut text = format!("{} -> {}\n", plan.decision.before, plan.decision.desired);
        plan.steps.iter().for_each(|step| _ = writeln!(text, "{step}"));
        plan.refusals.iter().for_each(|refusal| _ = writeln!(text, "refused: {refusal}"));
        text
    }
}

#[track_caller]
fn check(scaling: &str, members: &str, desired: u32, expected: &str) {
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).filter(|line| line != "\n").collect();
    assert_eq!(scene(scaling, members, desired).told(), expected, "{members}");
}

#[test]
fn what_is_missing_is_launched_where_the_fewest_are() {
    check("", "1 2", 2, "2 -> 2");
    check("", "1 2 3@b", 5, "5 -> 5\nlaunch for slot 4 on b\nlaunch for slot 5 on a");
    check("launches_max = 1", "1", 4, "4 -> 4\nlaunch for slot 2 on b");
    check("", "2 4@b", 3, "3 -> 3\nlaunch for slot 1 on a");
}

#[test]
fn the_right_ones_go() {
    check("", "1 2 3", 2, "2 -> 2\nretire web-3: 2 are enough");
    check("", "1 2~ 3", 2, "2 -> 2\nretire web-2: 2 are enough");
    check("", "1 2 3@b", 2, "2 -> 2\nretire web-2: 2 are enough");
    check("terminate = [\"oldest\"]", "1 2 3", 2, "2 -> 2\nretire web-1: 2 are enough");
    check("", "1 2 3* 4*", 3, "3 -> 3\nretire web-2: 3 are enough");
    check("", "1 2 3+", 2, "2 -> 2\nretire web-3: 2 are enough");
}

#[test]
fn what_cannot_be_is_explained() {
    check("", "1* 2* 3*", 2, "2 -> 2\nrefused: the pool should become smaller, but 3 are protected against it (weir scaling protect)");
    check("", "1 2", 1, "1 -> 1\nrefused: the pool should become smaller, but only 2 serve, and min_healthy = 2");
    let mut full = scene("", "1 2", 3);
    full.observation.hosts.iter_mut().for_each(|host| host.more = 0);
    assert_eq!(full.told(), "3 -> 3\nrefused: 1 machines are missing, but no host takes one more: a: it is full; b: it is full\n");
    let mut unseen = scene("", "1 2", 3);
    unseen.observation.complete = Some("these hosts have not answered yet: c".into());
    assert_eq!(unseen.told(), "3 -> 3\n");
    let mut failing = scene("", "1 2", 4);
    failing.memory.launch_failed(Some("a"), NOW.minus(Duration::from_secs(3)));
    assert_eq!(failing.told(), "4 -> 4\nlaunch for slot 3 on b\n", "one at a time, and elsewhere");
    failing.memory.launch_failed(Some("b"), NOW);
    assert_eq!(failing.told(), "4 -> 4\n", "it waits");
}

#[test]
fn what_is_ill_is_replaced_unless_too_much_is() {
    check("", "1 2 3!", 3, "3 -> 3\nlaunch for slot 4 on b\nretire web-3: it is unhealthy");
    check(
        "",
        "1 2! 3!",
        3,
        "3 -> 3\nrefused: 2 of 3 machines are unhealthy, more than replace_max = 50 %: nothing is replaced, look at what they have in common",
    );
    check("unhealthy_grace = \"10m\"", "1 2 3!", 3, "3 -> 3");
}

#[test]
fn who_goes_is_drained_first() {
    check("", "1 2 3-", 2, "2 -> 2\nderegister web-3");
    let mut busy = scene("", "1 2 3-", 2);
    busy.observation.members[2].in_flight = 4;
    assert_eq!(busy.told(), "2 -> 2\n");
    busy.observation.members[2].state = MemberState::Leaving { since: NOW.minus(Duration::from_secs(61)), draining: true };
    assert_eq!(busy.told(), "2 -> 2\nderegister web-3\n", "its time is over");
    busy.observation.members[2].state = MemberState::Leaving { since: NOW, draining: false };
    assert_eq!(busy.told(), "2 -> 2\ndrain web-3\n");
    busy.observation.members[2].registered = false;
    assert_eq!(busy.told(), "2 -> 2\nremove web-3\n");
    let mut hooked = scene("terminate_hook = { command = [\"x\"] }\nlaunch_hook = { command = [\"x\"] }", "1 2 3-", 2);
    assert_eq!(hooked.told(), "2 -> 2\nrun the terminate hook of web-3\n");
    hooked.observation.members[2].hooked = true;
    assert_eq!(hooked.told(), "2 -> 2\nderegister web-3\n");
    hooked.observation.members[0].state = MemberState::Booted;
    assert!(hooked.told().contains("run the launch hook of web-1"));
    hooked.observation.members[0].hooked = true;
    assert!(hooked.told().contains("register web-1"));
    hooked.observation.members[0].state = MemberState::Interrupted;
    assert!(hooked.told().contains("resume web-1"));
}

#[test]
fn a_removal_that_broke_off_goes_on() {
    let mut half = scene("", "1 2 3-", 2);
    half.observation.members[2].state = MemberState::Removing;
    assert_eq!(half.told(), "2 -> 2\nderegister web-3\n");
    half.observation.members[2].registered = false;
    assert_eq!(half.told(), "2 -> 2\nremove web-3\n");
}

#[test]
fn of_two_with_one_number_one_goes() {
    let mut twins = scene("", "1 2 2", 2);
    twins.observation.members[2].name = "web-other".into();
    twins.observation.members[2].state = MemberState::Warming;
    assert_eq!(twins.told(), "2 -> 2\nretire web-other: web-2 has slot 2 already\n");
}

fn target(value: Option<f64>) -> Vec<TargetSignal> {
    vec![TargetSignal::Pool(value)]
}

const TARGET: &str = "target = [{ metric = \"requests-per-endpoint\", value = 100 }]";

#[test]
fn the_largest_wish_wins_and_all_must_agree_to_fewer() {
    let two = "target = [{ metric = \"requests-per-endpoint\", value = 100 }, { metric = \"in-flight-per-endpoint\", value = 10 }]";
    for (each, in_flight, expected) in [
        (Some(150.0), Some(30.0), 6),
        (Some(150.0), Some(10.0), 5),
        (Some(50.0), Some(10.0), 3),
        (Some(60.0), Some(3.0), 2),
        (Some(50.0), None, 3),
        (Some(200.0), None, 6),
    ] {
        let mut scene = scene(two, "1 2 3", 3);
        scene.signals.targets = vec![TargetSignal::Pool(each), TargetSignal::Pool(in_flight)];
        assert_eq!(scene.plan().decision.desired, expected, "{each:?} {in_flight:?}: {}", scene.plan());
    }
}

#[test]
fn nothing_happens_before_its_time() {
    let mut fresh = scene(TARGET, "1 2 3", 3);
    fresh.memory.last_out = Some(NOW.minus(Duration::from_secs(59)));
    fresh.signals.targets = target(Some(200.0));
    let plan = fresh.plan();
    assert_eq!((plan.decision.desired, &*plan.decision.why), (3, "6 are wished; the cooldown ends in 1 s"));
    fresh.memory.last_out = Some(NOW.minus(Duration::from_secs(60)));
    assert_eq!(fresh.plan().decision.desired, 6);
    let mut fewer = scene(TARGET, "1 2 3", 3);
    fewer.signals.targets = target(Some(60.0));
    fewer.memory.last_in = Some(NOW.minus(Duration::from_secs(299)));
    assert_eq!(fewer.plan().decision.desired, 3);
    fewer.memory.last_in = Some(NOW.minus(Duration::from_secs(300)));
    assert_eq!(fewer.plan().decision.desired, 2);
    let mut coming = scene(TARGET, "1 2 3+", 3);
    coming.signals.targets = target(Some(30.0));
    assert!(coming.plan().decision.why.contains("still on their way"));
    let mut steady = scene(&TARGET.replace("target", "stabilise_out = \"30s\"\ntarget"), "1 2 3", 3);
    steady.signals.targets = target(Some(200.0));
    assert!(steady.plan().decision.why.contains("not for 30 s yet"));
}

#[test]
fn an_alarm_goes_by_its_steps() {
    let steps = "step = [{ alarm = \"high\", adjust = [{ from = 0, to = 10, change = \"+1\" }, { from = 10, change = \"+2\" }] }]";
    for (state, engaged, value, members, expected) in [
        (AlarmState::Alarm, true, Some(65.0), "1 2 3", 4),
        (AlarmState::Alarm, true, Some(75.0), "1 2 3", 5),
        (AlarmState::Alarm, false, Some(75.0), "1 2 3", 3),
        (AlarmState::Ok, false, Some(50.0), "1 2 3", 3),
        // One of three warms up: what it was made for is not made again.
        (AlarmState::Alarm, true, Some(65.0), "1 2 3+", 3),
        (AlarmState::Alarm, true, Some(75.0), "1 2 3+", 4),
    ] {
        let mut scene = scene(steps, members, 3);
        scene.signals.alarms.insert("high".into(), AlarmSignal { state, engaged, value });
        assert_eq!(scene.plan().decision.desired, expected, "{value:?} {members}");
    }
}

#[test]
fn schedules_lift_and_lower() {
    let schedules =
        "schedule = [{ cron = \"0 8 * * *\", min = 4 }, { cron = \"0 20 * * *\", min = 1 }, { cron = \"0 11 * * *\", desired = 5 }]";
    // 2026-11-26, 12:00 UTC.
    let mut noon = scene(schedules, "1 2", 2);
    noon.memory.scheduled = NOW;
    assert_eq!(noon.plan().decision.desired, 4);
    let mut missed = scene(schedules, "1 2", 2);
    missed.memory.scheduled = NOW.minus(Duration::from_secs(7200));
    assert_eq!(missed.plan().decision.desired, 5);
    assert_eq!(missed.plan().decision.desired, 5, "once");
}

#[test]
fn a_refresh_adds_before_it_takes_away() {
    let mut old = scene("", "1~ 2~", 2);
    old.observation.members[1].host = "b".into();
    refresh::begin(&old.observation, &mut old.memory, NOW).expect("they are on the old base");
    assert!(refresh::begin(&old.observation, &mut old.memory, NOW).is_err(), "one at a time");
    assert!(old.told().contains("launch for slot 3"), "one more than is wanted");
    old.observation.members.push(member("3+"));
    assert!(!old.told().contains("retire"), "it does not serve yet");
    old.observation.members[2] = member("3");
    assert!(old.told().contains("retire web-1: it is replaced by the refresh"));
    old.observation.members.remove(0);
    old.observation.members[0] = member("2");
    assert!(!old.told().contains("retire"));
    assert!(old.memory.refresh.as_ref().is_some_and(|refresh| refresh.ended.is_some()), "all are on the new base");
}

#[test]
fn a_refresh_that_fails_goes_back() {
    let mut failing = scene("", "1~ 2~ 3!", 2);
    refresh::begin(&failing.observation, &mut failing.memory, NOW).expect("some are on the old base");
    let told = failing.told();
    assert!(failing.memory.refresh.as_ref().is_some_and(|refresh| refresh.rolled_back.is_some()), "{told}");
    assert!(told.contains("retire web-3"), "{told}");
    failing.observation.members.pop();
    failing.told();
    assert!(failing.memory.refresh.as_ref().is_some_and(|refresh| refresh.ended.is_some()), "everything is on the base before");
}

#[test]
fn plans_are_printed() {
    let mut scene = scene(TARGET, "1 2 3", 3);
    scene.signals.targets = target(Some(150.0));
    let text = scene.plan().to_string();
    for part in [
        "pool web: 3 -> 5 (1 to 6), generation 4: 5 are wished",
        "wish 5: target requests-per-endpoint 100/s: 150.0/s on 3 machines",
        "launch for slot 4 on b",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}
