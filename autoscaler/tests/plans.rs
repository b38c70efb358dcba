//! Plans as text: what is seen, and what is decided and done about it.

use std::fmt::Write as _;
use std::time::Duration;

use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::AlarmState;
use weir_autoscaler::scaling::plan::{Clock, Plan, Step, plan};
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
        refresh: None,
    }
}

impl Scene {
    fn plan(&mut self) -> Plan {
        self.plan_at(NOW)
    }

    fn plan_at(&mut self, now: UnixMs) -> Plan {
        plan(&self.policy, &self.observation, &self.signals, &mut self.memory, Clock { now, bounds: None })
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
    let mut busy = scene("terminate = [\"least-busy\"]", "1 2 3", 2);
    busy.observation.members.iter_mut().zip([7, 2, 5]).for_each(|(member, in_flight)| member.in_flight = in_flight);
    assert_eq!(busy.told(), "2 -> 2\nretire web-2: 2 are enough\n");
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

/// The stabilisation window of <https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>: into a smaller pool by the
/// highest recommendation of the last five minutes, into a larger one at once.
#[test]
fn the_highest_wish_of_five_minutes_counts() {
    let settings = "cooldown_in = \"0s\"\ncooldown_out = \"0s\"\ntarget = [{ metric = \"requests-per-endpoint\", value = 100 }]";
    let mut scene = scene(settings, "1 2 3 4 5", 5);
    std::sync::Arc::make_mut(&mut scene.policy.scaling).stabilise_in = Duration::from_secs(300);
    // Seconds, load of the whole pool, machines that are wanted then.
    for (at, load, expected) in [
        (0, 500.0, 5),
        (60, 300.0, 5),
        (120, 400.0, 5),
        (299, 200.0, 5),
        (361, 200.0, 4),
        (598, 200.0, 4),
        (599, 200.0, 2),
        (600, 600.0, 6),
    ] {
        scene.signals.targets = target(Some(load / scene.observation.members.len() as f64));
        let plan = scene.plan_at(NOW.plus(Duration::from_secs(at)));
        assert_eq!(plan.decision.desired, expected, "after {at} s: {plan}");
    }
}

/// "Instance warm-up" of <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html>: ten serve and the eleventh warms up.
#[test]
fn what_warms_up_is_not_made_twice_as_published() {
    let settings = "step = [{ alarm = \"high\", adjust = [{ from = 0, to = 10, change = \"+10%\" }, { from = 10, change = \"+30%\" }] }]";
    for (value, expected) in [(62.0, 11), (70.0, 13)] {
        let mut scene = scene(settings, "1 2 3 4 5 6 7 8 9 10 11+", 11);
        std::sync::Arc::make_mut(&mut scene.policy.scaling).max = 20;
        scene.memory.desired = 11;
        scene.signals.alarms.insert("high".into(), AlarmSignal { state: AlarmState::Alarm, engaged: true, value: Some(value) });
        assert_eq!(scene.plan().decision.desired, expected, "at {value}");
    }
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

/// What is expected makes a pool larger where it may, and never smaller; where it only tells, it tells.
#[test]
fn a_forecast_scales_out_alone_or_only_tells() {
    let predict = |mode: &str| format!("predict = {{ metric = \"requests\", value = 100, mode = \"{mode}\" }}");
    for (mode, expected, desired, told) in [
        ("scale", Some(450.0), 5, "450.0/s are expected: 5 machines"),
        ("scale", Some(150.0), 3, "it never makes the pool smaller"),
        ("scale", None, 3, "the history is shorter than one season"),
        ("forecast-only", Some(450.0), 3, "450.0/s are expected: 5 machines; it only tells"),
    ] {
        let mut scene = scene(&predict(mode), "1 2 3", 3);
        scene.signals.forecast = expected;
        let plan = scene.plan();
        assert_eq!(plan.decision.desired, desired, "{mode} {expected:?}: {plan}");
        assert!(plan.decision.wishes.iter().any(|wish| wish.why.contains(told)), "{mode} {expected:?}: {plan}");
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
    old.observation.members = ["2~@b", "3", "4"].map(member).to_vec();
    let told = old.told();
    assert!(told.contains("retire web-2: it is replaced by the refresh") && !told.contains("launch"), "two new ones are enough: {told}");
    old.observation.members.remove(0);
    assert!(!old.told().contains("retire"));
    assert!(old.memory.refresh.as_ref().is_some_and(|refresh| refresh.ended.is_some()), "all are on the new base");
}

/// What is protected stays on its base; it is said, and does not hold up the end.
#[test]
fn a_refresh_leaves_out_what_is_protected() {
    let mut old = scene("", "1~* 2~", 2);
    refresh::begin(&old.observation, &mut old.memory, NOW).expect("they are on the old base");
    let told = old.told();
    assert!(told.contains("launch for slot 3") && !told.contains("retire"), "{told}");
    old.observation.members = ["1~*", "2~", "3"].map(member).to_vec();
    let plan = old.plan();
    assert!(plan.steps.iter().any(|step| step.to_string().starts_with("retire web-2")), "{plan}");
    assert!(plan.notes.iter().any(|note| note.contains("web-1") && note.contains("protected")), "{plan}");
    old.observation.members.remove(1);
    let told = old.told();
    assert!(!told.contains("retire") && !told.contains("launch"), "{told}");
    let ended = old.memory.refresh.clone().expect("it is remembered");
    assert_eq!((ended.ended, ended.kept), (Some(NOW), vec!["web-1".to_owned()]));
    // Another one can be begun when the protection is gone.
    old.observation.members[0].protected = false;
    refresh::begin(&old.observation, &mut old.memory, NOW).expect("one is on the old base");
    assert!(old.told().contains("launch for slot 2"));
    // Nothing but what is protected: there is nothing to do.
    let mut all = scene("", "1~* 2~*", 2);
    let refused = refresh::begin(&all.observation, &mut all.memory, NOW).expect_err("nothing can be replaced");
    assert!(refused.contains("web-1, web-2") && refused.contains("protected"), "{refused}");
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

/// Half of two machines is one: a checkpoint, though a third is there for a while.
#[test]
fn a_refresh_waits_at_its_checkpoints() {
    let mut old = scene("refresh = { checkpoints = [\"50%\"], checkpoint_wait = \"60s\", pause = \"10s\" }", "1~ 2~ 3", 2);
    refresh::begin(&old.observation, &mut old.memory, NOW).expect("they are on the old base");
    let waits = |scene: &mut Scene, seconds: u64| {
        let plan = scene.plan_at(NOW.plus(Duration::from_secs(seconds)));
        let acts = plan.steps.iter().any(|step| matches!(step, Step::Retire { .. } | Step::Launch { .. }));
        assert_ne!(plan.notes.iter().any(|note| note.contains("it waits")), acts, "{plan}");
        !acts
    };
    assert!(waits(&mut old, 0) && waits(&mut old, 59), "the checkpoint");
    assert!(!waits(&mut old, 60));
    old.observation.members = ["2~", "3", "4"].map(member).to_vec();
    assert!(waits(&mut old, 61) && waits(&mut old, 70), "the pause after the second");
    assert!(!waits(&mut old, 71));
}

#[test]
fn what_was_taken_back_is_not_made_again() {
    let mut failing = scene("", "1~ 2~ 3!", 2);
    refresh::begin(&failing.observation, &mut failing.memory, NOW).expect("some are on the old base");
    assert!(!failing.told().contains("launch"), "what is ill is replaced, and two are enough");
    failing.observation.members.pop();
    failing.told();
    failing.memory.desired = 3;
    assert!(failing.told().contains("launch for slot 3 on b from base-1"), "more are wanted: {}", failing.told());
    failing.observation.base = Some("base-3".into());
    assert!(failing.told().contains("launch for slot 3 on b\n"), "another base may be better");
}

/// What a refresh has come to stands on the machines: whoever leads next goes on with it.
#[test]
fn a_new_leader_goes_on_with_a_refresh() {
    let mut scene = scene("refresh = { pause = \"60s\" }", "1~ 2~ 3", 2);
    refresh::begin(&scene.observation, &mut scene.memory, NOW).expect("they are on the old base");
    let note = |scene: &mut Scene| {
        let steps = scene.plan_at(NOW.plus(Duration::from_secs(1))).steps;
        for step in steps {
            let Step::Note { machine, text } = step else { continue };
            let noted = scene.observation.members.iter_mut().find(|member| member.name == machine);
            noted.expect("it is there").refresh = text;
        }
        scene.observation.members.iter().map(|member| member.refresh.clone()).collect::<Vec<_>>()
    };
    let began = NOW.0 / 1000;
    let forth = Some(format!("{began} forth base-2 base-1"));
    assert_eq!(note(&mut scene), [forth.clone(), forth.clone(), forth.clone()]);
    assert!(!scene.told().contains("note"), "once: {}", scene.told());
    let adopt = |scene: &Scene| Memory::adopt(&scene.policy, &scene.observation, NOW.plus(Duration::from_secs(9))).refresh;
    let adopted = adopt(&scene).expect("it goes on");
    assert_eq!((&*adopted.to, adopted.from.as_deref(), adopted.rolled_back, adopted.ended), ("base-2", Some("base-1"), None, None));
    // It fails, goes back, and is remembered as what was refused.
    scene.observation.members[2] = Member { refresh: forth.clone(), ..member("3!") };
    note(&mut scene);
    assert!(adopt(&scene).is_some_and(|refresh| refresh.rolled_back.is_some() && refresh.ended.is_none()), "{:?}", scene.observation);
    scene.observation.members.pop();
    scene.told();
    assert_eq!(note(&mut scene)[0].as_deref(), Some(&*format!("{began} refused base-2 base-1")));
    assert!(adopt(&scene).is_some_and(|refresh| refresh.rolled_back.is_some() && refresh.ended.is_some()));
    // What has ended well leaves nothing behind.
    scene.memory.refresh.iter_mut().for_each(|refresh| refresh.rolled_back = None);
    assert_eq!(note(&mut scene), [None, None]);
    scene.observation.members[0].refresh = Some("whatever stands there".into());
    assert_eq!(adopt(&scene), None);
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
