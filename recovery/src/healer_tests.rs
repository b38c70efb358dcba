//! The healer by cases: what is tried on what, and when.

use super::*;

const S: u64 = 1000;
const START: UnixMs = 1_767_571_200_000;

fn recoveries(text: &str) -> Recoveries {
    let text = format!("[pool.web]\nendpoints = [\"a:1\"]\n{text}");
    weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).recoveries
}

const TWO: &str = "[recovery.r]\npool = \"web\"\nstable = \"10m\"\n\
    [[recovery.r.attempt]]\naction = \"script\"\ncommand = [\"one\"]\nlimit = \"5s\"\nwait = \"10s\"\n\
    [[recovery.r.attempt]]\naction = \"script\"\ncommand = [\"two\"]\nlimit = \"5s\"\nwait = \"10s\"\ntimes = 2\n";

struct Bench {
    healer: Healer,
    file: Recoveries,
    now: UnixMs,
    /// Things and what is wrong with them.
    things: BTreeMap<String, Option<&'static str>>,
    /// When it was last looked whether they are well; `None`: always just now.
    seen: Option<UnixMs>,
    /// What is written on them.
    marks: BTreeMap<String, Mark>,
    saved: Saved,
    orders: Vec<Order>,
    checks: Vec<Order>,
}

impl Bench {
    fn new(text: &str, things: &[&str]) -> Bench {
        let file = recoveries(text);
        Bench {
            healer: Healer::new(file.clone(), Saved::default(), START),
            file,
            now: START,
            things: things.iter().map(|name| ((*name).to_owned(), None)).collect(),
            seen: None,
            marks: BTreeMap::new(),
            saved: Saved::default(),
            orders: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// What was told since the last look, as `second thing what`.
    fn drain(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for output in self.healer.take_outputs() {
            match output {
                Output::Save(case) => {
                    self.saved.cases.retain(|kept| kept.thing != case.thing);
                    self.saved.cases.push(*case);
                }
                Output::Forget(thing) => self.saved.cases.retain(|kept| kept.thing != thing),
                Output::Stopped(name, Some(by)) => drop(self.saved.stopped.insert(name.to_string(), by)),
                Output::Stopped(name, None) => drop(self.saved.stopped.remove(&*name.0)),
                Output::Act(order) => self.orders.push(*order),
                Output::Check(order) => self.checks.push(*order),
                Output::Abort(key) => told.push(format!("abort {}", key.rsplit('/').next().unwrap())),
                Output::PutBack(case) => told.push(format!("put back {}", case.thing)),
                Output::Tell(case, what) => {
                    let text = match what {
                        Told::Begun { action, resumed } => format!("begins {action}{}", if resumed { " again" } else { "" }),
                        Told::Tried(tried) => format!("{}: {}", tried.action, tried.outcome.expect("it is over")),
                        Told::GivenUp => "given up".into(),
                        Told::Held(hold) => hold.words(),
                        Told::Relapsed => "relapsed".into(),
                        Told::Would(lines) => format!("would {}", lines.join("; ")),
                        Told::Over(why) => why.into(),
                    };
                    let name = match &case.thing {
                        Thing::Machine(name) => name.clone(),
                        other => other.to_string(),
                    };
                    told.push(format!("{} {name} {}", (self.now - START) / S, text.replace(&format!(" for {}", case.thing), "")));
                }
            }
        }
        told
    }

    fn see(&mut self) -> Vec<String> {
        let sights = self.things.iter().map(|(name, wrong)| Sight {
            thing: Thing::Machine(name.clone()),
            about: About { machine: Some(name.clone()), ..About::default() },
            health: match wrong {
                None => Health::Well(self.seen.unwrap_or(self.now)),
                Some("?") => Health::Unknown,
                Some(why) => Health::Ill((*why).to_owned()),
            },
            // As it is read.
            mark: self.marks.get(name).and_then(|mark| Mark::parse(&mark.to_string())),
        });
        let input = Input::Seen { recovery: "r".into(), sights: sights.collect(), complete: true };
        self.healer.handle(input, self.now);
        self.drain()
    }

    /// Looks each second.
    fn until(&mut self, second: u64) -> Vec<String> {
        let mut told = Vec::new();
        while self.now < START + second * S {
            self.now += S;
            told.extend(self.see());
        }
        told
    }

    fn set(&mut self, thing: &str, wrong: Option<&'static str>) {
        self.things.insert(thing.into(), wrong);
    }

    /// The act that was ordered ends.
    fn acted(&mut self, result: Result<(), &str>) -> Vec<String> {
        let order = self.orders.remove(0);
        self.healer.handle(Input::Acted { thing: order.case.thing, key: order.key, result: result.map_err(str::to_owned) }, self.now);
        self.drain()
    }

    fn restart(&mut self) {
        self.healer = Healer::new(self.file.clone(), self.saved.clone(), self.now);
        (self.orders, self.checks) = Default::default();
    }
}

#[test]
fn one_attempt_after_the_other_until_none_is_left() {
    let mut bench = Bench::new(TWO, &["a", "b", "c"]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.see(), ["0 a begins one"]);
    assert_eq!(bench.acted(Ok(())), [""; 0]);
    assert_eq!(bench.until(10), ["10 a one: still ill after 10 s: dead", "10 a begins two"]);
    assert_eq!(bench.acted(Err("exits with 1")), ["10 a two: failed: exits with 1"], "what could not be done is not waited for");
    assert_eq!(bench.until(11), ["11 a begins two"], "twice, as the file says");
    bench.acted(Ok(()));
    assert_eq!(bench.until(100), ["21 a two: still ill after 10 s: dead", "21 a given up"]);
    assert!(bench.orders.is_empty());
    bench.set("a", None);
    assert_eq!(bench.until(101), ["101 a it is well again"]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.until(102), ["102 a relapsed", "102 a given up"], "nothing that did not help is tried again");
    bench.set("a", None);
    assert_eq!(bench.until(800), ["103 a it is well again", "703 a it has stayed well"]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.until(801), ["801 a begins one"], "from the beginning, after it was well for long enough");
}

#[test]
fn what_helped_for_a_moment_is_followed_by_the_next_attempt() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    bench.see();
    bench.acted(Ok(()));
    bench.set("a", None);
    assert_eq!(bench.until(1), ["1 a one: healed after 1 s"]);
    bench.set("a", Some("dead again"));
    let told = bench.until(60);
    let ends = [
        "abort 2",
        "12 a two: failed: it took too long",
        "12 a begins two",
        "abort 3",
        "22 a two: failed: it took too long",
        "22 a given up",
    ];
    assert_eq!((&told[..2], &told[2..]), (&["2 a relapsed".to_owned(), "2 a begins two".to_owned()][..], &ends.map(str::to_owned)[..]));
}

#[test]
fn what_is_well_by_itself_is_left_alone() {
    let mut bench = Bench::new(&TWO.replace("stable", "after = \"5s\"\nstable"), &["a"]);
    bench.set("a", Some("slow"));
    assert_eq!(bench.until(4), [""; 0]);
    bench.set("a", None);
    assert_eq!(bench.until(5), ["5 a it is well again by itself"]);
    bench.set("a", Some("slow"));
    assert_eq!(bench.until(11), ["11 a begins one"]);
    assert!(bench.saved.cases.len() == 1);
}

#[test]
fn nothing_is_guessed() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("?"));
    assert_eq!(bench.until(5), [""; 0]);
    bench.set("a", Some("dead"));
    bench.until(6);
    bench.acted(Ok(()));
    bench.set("a", Some("?"));
    assert_eq!(bench.until(100), [""; 0], "it is neither healed nor still ill");
    bench.set("a", Some("dead"));
    assert_eq!(bench.until(101), ["101 a one: still ill after 95 s: dead", "101 a begins two"]);
}

#[test]
fn one_at_a_time_and_none_when_too_many_are_ill() {
    let mut bench = Bench::new(TWO, &["a", "b", "c", "d", "e"]);
    bench.set("a", Some("dead"));
    bench.set("b", Some("dead"));
    assert_eq!(bench.see(), ["0 a begins one"], "b waits for its turn");
    bench.set("c", Some("dead"));
    let brake = "3 of 5 are ill at once, more than ill_max: look at what they have in common";
    assert_eq!(bench.until(1), [format!("1 b {brake}")]);
    assert_eq!(bench.until(2), [format!("2 c {brake}")], "people have heard of it by then");
    bench.acted(Ok(()));
    assert_eq!(bench.until(20), ["12 a one: still ill after 12 s: dead".to_owned(), format!("12 a {brake}")]);
    bench.set("c", None);
    assert_eq!(bench.until(21), ["21 c it is well again by itself", "21 b begins one"], "who waits the longest is first");
    bench.acted(Ok(()));
    bench.set("b", None);
    assert_eq!(bench.until(22), ["22 b one: healed after 1 s", "22 a begins two"]);
}

#[test]
fn a_single_thing_is_no_reason_to_brake() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.see(), ["0 a begins one"]);
}

#[test]
fn a_program_has_the_last_word() {
    let mut bench = Bench::new(&TWO.replacen("wait = \"10s\"\n", "wait = \"10s\"\ncheck = [\"c\"]\n", 1), &["a"]);
    bench.set("a", Some("dead"));
    bench.see();
    bench.acted(Ok(()));
    bench.set("a", None);
    assert_eq!(bench.until(3), [""; 0]);
    assert_eq!(bench.checks.len(), 1, "one program at a time");
    let check = bench.checks.remove(0);
    let checked = |result: Result<(), &str>| Input::Checked {
        thing: check.case.thing.clone(),
        key: check.key.clone(),
        result: result.map_err(str::to_owned),
    };
    bench.healer.handle(checked(Err("no")), bench.now);
    assert_eq!(bench.until(4), [""; 0]);
    assert_eq!(bench.checks.len(), 0, "not again at once");
    bench.until(5);
    bench.healer.handle(checked(Ok(())), bench.now);
    assert_eq!(bench.drain(), ["5 a one: healed after 5 s"]);
}

#[test]
fn a_dry_run_only_says_it() {
    let mut bench = Bench::new(&TWO.replace("stable", "dry_run = true\nstable"), &["a"]);
    bench.set("a", Some("dead"));
    let would = "0 a would one within 5 s, then 10 s for the fault to go; two within 5 s, up to 2 times, then 10 s for the fault to go";
    assert_eq!(bench.see(), [would]);
    assert_eq!(bench.until(100), [""; 0]);
    assert!(bench.orders.is_empty());
    bench.set("a", None);
    assert_eq!(bench.until(101), ["101 a it is well again by itself"]);
}

#[test]
fn operators_stop_it_and_let_it_go_on() {
    let mut bench = Bench::new(TWO, &["a"]);
    assert_eq!(bench.healer.stop(&"x".into(), "kim"), Err(Refusal::NoRecovery));
    bench.healer.stop(&"r".into(), "kim").unwrap();
    bench.set("a", Some("dead"));
    assert_eq!(bench.see(), [""; 0]);
    assert_eq!(bench.until(1), ["1 a stopped by kim"]);
    bench.restart();
    assert_eq!(bench.until(10), [""; 0], "also after a restart, and it is said once");
    assert_eq!(bench.healer.run(&"r".into(), Some("b"), bench.now), Err(Refusal::NotIll));
    bench.healer.run(&"r".into(), None, bench.now).unwrap();
    assert_eq!(bench.until(11), ["11 a begins one"]);
    assert_eq!(bench.healer.run(&"r".into(), Some("a"), bench.now), Err(Refusal::UnderWay));
    bench.until(60);
    assert_eq!(bench.healer.plan(&"r".into(), Some("a")).unwrap()[0].1, [""; 0]);
    bench.healer.run(&"r".into(), Some("a"), bench.now).unwrap();
    assert_eq!(bench.until(61), ["61 a begins one"], "from the beginning");
}

#[test]
fn a_kill_repeats_nothing_that_was_finished_and_skips_nothing() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    bench.see();
    let key = bench.orders[0].key.clone();
    // Killed over the act: was it done? If the fault goes, yes.
    bench.restart();
    assert_eq!(bench.until(9), [""; 0]);
    assert_eq!(bench.until(10), ["10 a begins one again"]);
    assert_eq!((bench.orders[0].key.as_str(), bench.orders[0].resumed), (key.as_str(), true), "under the same key");
    bench.acted(Ok(()));
    // Killed while it is waited for: it was finished.
    bench.restart();
    assert_eq!(bench.until(20), ["20 a one: still ill after 20 s: dead", "20 a begins two"]);
    bench.restart();
    bench.set("a", None);
    assert_eq!(bench.until(21), ["21 a two: healed after 1 s"], "it was done, for it helped");
    bench.restart();
    assert_eq!(bench.until(100), [""; 0]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.until(101), ["101 a relapsed", "101 a begins two"], "its second time");
}

#[test]
fn a_process_that_dies_over_every_act_ends() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    let mut begun = bench.see().len();
    for _ in 0..40 {
        bench.restart();
        let end = (bench.now - START) / S + 11;
        begun += bench.until(end).iter().filter(|line| line.contains("begins")).count();
    }
    assert_eq!(begun, 3 * (1 + RESUMES_MAX as usize));
    assert!(bench.healer.cases().all(|case| matches!(case.stage, Stage::GivenUp { .. })));
}

#[test]
fn a_machine_that_was_replaced_is_healed_and_one_that_is_gone_is_not() {
    let text = "[host.h]\nuri = \"qemu:///system\"\n[template.t]\nmaster = \"m\"\nport = 80\n[pool.web.scaling]\ntemplate = \"t\"\nmax = 2\n\
                [recovery.r]\npool = \"web\"\nattempt = [{ action = \"reset\" }, { action = \"replace\" }]\n";
    let mut bench = Bench::new(text, &["a", "b", "c"]);
    bench.set("a", Some("dead"));
    assert_eq!(bench.see(), ["0 a begins reset of a"]);
    assert_eq!(bench.acted(Err("no such machine")), ["0 a reset of a: failed: no such machine"]);
    assert_eq!(bench.until(1), ["1 a begins replace of a"]);
    bench.things.remove("a");
    assert_eq!(bench.until(2), [""; 0], "it goes while it is replaced");
    bench.acted(Ok(()));
    assert_eq!(bench.until(3), ["3 a replace of a: healed after 2 s", "3 a it is gone"]);
    bench.set("b", Some("dead"));
    bench.until(4);
    bench.acted(Ok(()));
    bench.things.remove("b");
    assert_eq!(bench.until(5), ["5 b reset of b: it is gone", "5 b it is gone"]);
    assert!(bench.saved.cases.is_empty());
}

#[test]
fn what_was_drained_is_put_back() {
    let text = "[recovery.r]\npool = \"web\"\nstable = \"1m\"\nattempt = [{ action = \"drain\", wait = \"5s\" }]\n";
    let mut bench = Bench::new(text, &["a"]);
    bench.set("a", Some("dead"));
    bench.see();
    bench.acted(Ok(()));
    assert_eq!(bench.until(6), ["5 a drain of machine a: still ill after 5 s: dead", "5 a given up"]);
    bench.set("a", None);
    assert_eq!(bench.until(7), ["7 a it is well again", "put back machine a"]);
}

#[test]
fn a_recovery_that_leaves_the_file_lets_go() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    bench.see();
    bench.healer.apply(Recoveries::new());
    assert_eq!(bench.drain(), ["abort 1", "0 a its recovery is no longer in the file"]);
    assert_eq!((bench.see().len(), bench.saved.cases.len()), (0, 0));
}

/// Another node leads, which knows nothing but what is written on the thing.
#[test]
fn a_new_leader_goes_on_where_the_one_before_was() {
    let succeeded_by = |first: &Bench| {
        let mut second = Bench::new(TWO, &["a"]);
        second.now = first.now;
        second.set("a", first.things["a"]);
        second.marks = first.healer.cases().map(|case| (case.thing.name().to_owned(), Mark::of(case, first.now))).collect();
        second
    };
    let mut first = Bench::new(TWO, &["a"]);
    first.set("a", Some("dead"));
    assert_eq!(first.until(2), ["1 a begins one"]);
    // It dies over the first attempt: that one is looked at, and begun again, for nobody knows whether it was made.
    let mut second = succeeded_by(&first);
    assert_eq!(second.until(13), ["13 a begins one again"]);
    assert_eq!(second.orders[0].attempt.action.word(), "script");
    // Or it has healed.
    let mut lucky = succeeded_by(&first);
    lucky.until(4);
    lucky.set("a", None);
    assert_eq!(lucky.until(5), ["5 a one: healed after 4 s"]);

    // The first attempt was made, the second begun once of two times.
    first.acted(Ok(()));
    assert_eq!(first.until(13), ["12 a one: still ill after 11 s: dead", "12 a begins two"]);
    first.acted(Err("no"));
    assert_eq!(first.until(14), ["14 a begins two"]);
    let mut third = succeeded_by(&first);
    assert_eq!(third.until(25), ["25 a begins two again"]);
    assert_eq!(third.acted(Err("no")), ["25 a two: failed: no", "25 a given up"], "it was made twice");
    // Given up is given up; what was so long ago is not.
    let mut fourth = succeeded_by(&third);
    assert_eq!(fourth.until(27), ["26 a given up"]);
    let mut late = succeeded_by(&third);
    late.now += 3600 * S;
    let began = (late.now - START) / S;
    assert_eq!(late.until(began + 2), [format!("{} a begins one", began + 1)]);
}

/// This node led before, and another one meanwhile.
#[test]
fn what_this_node_knows_from_before_is_older_than_what_another_has_written() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    bench.until(2);
    bench.acted(Ok(()));
    bench.until(3);
    let case = bench.healer.cases().next().unwrap().clone();
    bench.marks.insert("a".into(), Mark::of(&Case { at: 1, tries: 1, stage: Stage::Healed { since: bench.now }, ..case }, bench.now + S));
    bench.restart();
    assert_eq!(bench.until(5), ["4 a begins two"]);
    assert_eq!(bench.healer.cases().next().unwrap().tries, 2);
    // What it writes itself does not lead it astray.
    let own = bench.healer.cases().next().unwrap().clone();
    bench.marks.insert("a".into(), Mark::of(&own, bench.now));
    assert_eq!(bench.acted(Err("no")), ["5 a two: failed: no", "5 a given up"]);
    assert_eq!(bench.until(7), [""; 0]);
}

/// A verdict from before the act says nothing of what it has done.
#[test]
fn a_verdict_that_is_older_than_the_act_heals_nothing() {
    let mut bench = Bench::new(TWO, &["a"]);
    bench.set("a", Some("dead"));
    bench.until(2);
    bench.set("a", None);
    bench.until(4);
    bench.seen = Some(bench.now - S);
    bench.acted(Ok(()));
    assert_eq!(bench.until(8), [""; 0]);
    bench.seen = None;
    assert_eq!(bench.until(9), ["9 a one: healed after 8 s"]);
    // Where nobody looks at all the next one is tried.
    let mut blind = Bench::new(TWO, &["a"]);
    blind.set("a", Some("dead"));
    blind.until(2);
    blind.acted(Ok(()));
    blind.set("a", None);
    blind.seen = Some(START);
    assert_eq!(blind.until(12), ["12 a one: still ill after 11 s: dead"]);
}
