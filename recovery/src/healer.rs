//! All cases: what is seen and the time go in; what is to be done, kept and told comes out. Pure.
//!
//! It is driven by what is seen: whoever looks says of every thing of a recovery whether it is well, and time passes with each look. All
//! outputs of one input belong into one transaction, and none is carried out before it is kept.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_config::{Recovery, RecoveryAction, RecoveryAttempt, RecoveryName};

use crate::case::{About, Case, Deed, Hold, Mark, Outcome, Stage, Thing, Tried, UnixMs};

/// Things that may be ill at once. More are not looked at; by then every brake is on.
const CASES_MAX: usize = 10_000;
/// After its limit, how long an act may take to end before it counts as failed without a word from it, in milliseconds.
const ACT_GRACE_MS: u64 = 5_000;
/// Between two programs that look whether the fault is gone, in milliseconds.
const CHECK_EVERY_MS: u64 = 2_000;
/// How long such a program may hold up the verdict after the wait is over, in milliseconds.
const CHECK_GRACE_MS: u64 = 60_000;
/// From the first sight of an illness until it is said that nothing is tried, in milliseconds: whoever calls people has heard of it by then, and
/// tells both in one message.
const HEARD_MS: u64 = 500;
/// How often an act is begun again because the process ended over it.
const RESUMES_MAX: u32 = 3;

type Recoveries = BTreeMap<RecoveryName, Arc<Recovery>>;

/// What is seen of a thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sight {
    /// Which.
    pub thing: Thing,
    /// What is known of it.
    pub about: About,
    /// How it is.
    pub health: Health,
    /// How far its recovery was when that was last written on it, by whichever node led then.
    pub mark: Option<Mark>,
}

/// How a thing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// As it should be, as was last seen at this moment.
    Well(UnixMs),
    /// Not; why, in words.
    Ill(String),
    /// Nobody can say: nothing is begun, and nothing counts as healed.
    Unknown,
}

/// What the healer learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// All things of a recovery, as they are now.
    Seen {
        /// Whose.
        recovery: RecoveryName,
        /// Each once.
        sights: Vec<Sight>,
        /// No thing can be missing: what is not there is gone.
        complete: bool,
    },
    /// An act has ended.
    Acted {
        /// To what it was done.
        thing: Thing,
        /// Its key.
        key: String,
        /// Whether it could be done.
        result: Result<(), String>,
    },
    /// The program of an attempt has looked.
    Checked {
        /// At what.
        thing: Thing,
        /// The key of the act.
        key: String,
        /// The fault is gone, or what it says.
        result: Result<(), String>,
    },
}

/// What is to be done, in this order, after all of it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A case to keep.
    Save(Box<Case>),
    /// A case that is over.
    Forget(Thing),
    /// An operator has stopped a recovery (who), or lets it go on.
    Stopped(RecoveryName, Option<String>),
    /// Do it, and say how it went.
    Act(Box<Order>),
    /// Run the program that looks, and say what it says.
    Check(Box<Order>),
    /// End the act of this key: nobody waits for it any more.
    Abort(String),
    /// Put the endpoint of this case back into the traffic.
    PutBack(Box<Case>),
    /// Something to tell about a case.
    Tell(Box<Case>, Told),
}

/// What is to be done to a thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The case as it is now.
    pub case: Case,
    /// The attempt.
    pub attempt: RecoveryAttempt,
    /// The key of the act.
    pub key: String,
    /// It was begun before and may have been done: the process was ended over it.
    pub resumed: bool,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// An act begins.
    Begun {
        /// What is done, in words.
        action: String,
        /// It may have been done before.
        resumed: bool,
    },
    /// An attempt is over.
    Tried(Tried),
    /// No attempt is left.
    GivenUp,
    /// Nothing is tried, until people do something.
    Held(Hold),
    /// It is ill again before its success has lasted.
    Relapsed,
    /// What would be done, were this no dry run.
    Would(Vec<String>),
    /// It is well though nothing healed it, or gone, or not to be healed any more: in words.
    Over(&'static str),
}

/// Why an operator is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such recovery.
    NoRecovery,
    /// No such thing is ill.
    NotIll,
    /// Something is being done to it.
    UnderWay,
}

/// What a healer begins with.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Saved {
    /// The cases.
    pub cases: Vec<Case>,
    /// Recoveries that an operator has stopped, and who.
    pub stopped: BTreeMap<String, String>,
}

/// All cases.
#[derive(Debug)]
pub struct Healer {
    recoveries: Recoveries,
    cases: BTreeMap<Thing, Case>,
    stopped: BTreeMap<RecoveryName, String>,
    outputs: Vec<Output>,
}

/// What an action is called for people.
pub fn words(action: &RecoveryAction, thing: &Thing, about: &About) -> String {
    let machine = || about.machine.clone().unwrap_or_else(|| thing.to_string());
    match action {
        RecoveryAction::Script(command) => format!("{} for {thing}", command.first().map_or("script", String::as_str)),
        RecoveryAction::Drain => format!("drain of {}", about.endpoint.clone().unwrap_or_else(|| thing.to_string())),
        RecoveryAction::ReleaseVip(vip) => format!("release of virtual IP {vip}"),
        other => format!("{} of {}", other.word(), machine()),
    }
}

/// The same for other languages.
fn deed(action: &RecoveryAction, thing: &Thing, about: &About) -> Deed {
    let (to, command) = match action {
        RecoveryAction::Script(command) => (None, command.first().cloned()),
        RecoveryAction::Drain => (about.endpoint.clone(), None),
        RecoveryAction::ReleaseVip(vip) => (Some(vip.to_string()), None),
        _ => (about.machine.clone(), None),
    };
    Deed { name: action.word().into(), to: to.unwrap_or_else(|| thing.name().to_owned()), command: command.unwrap_or_default() }
}

impl Healer {
    /// Goes on where another one was. What it did not see the end of is looked at first.
    pub fn new(recoveries: Recoveries, saved: Saved, now: UnixMs) -> Healer {
        let mut healer = Healer { recoveries: BTreeMap::new(), cases: BTreeMap::new(), stopped: BTreeMap::new(), outputs: Vec::new() };
        healer.stopped = saved.stopped.into_iter().map(|(name, by)| (RecoveryName::from(name.as_str()), by)).collect();
        for mut case in saved.cases {
            let wait = recoveries.get(&name(&case)).and_then(|recovery| recovery.attempts.get(case.at)).map_or(0, |one| ms(one.wait));
            match &mut case.stage {
                Stage::Acting { .. } => {
                    case.interrupted = true;
                    case.stage = Stage::Checking { acted_at: now, until: now.saturating_add(wait), check_at: now, checking: false };
                }
                // Its program ended with the process.
                Stage::Checking { checking, .. } => *checking = false,
                _ => {}
            }
            healer.cases.insert(case.thing.clone(), case);
        }
        healer.apply(recoveries);
        healer
    }

    /// Another file is in effect.
    pub fn apply(&mut self, recoveries: Recoveries) {
        self.recoveries = recoveries;
        let dropped: Vec<Thing> =
            self.cases.values().filter(|case| !self.recoveries.contains_key(&name(case))).map(|case| case.thing.clone()).collect();
        for thing in dropped {
            let Some(case) = self.cases.remove(&thing) else { continue };
            if let (Stage::Acting { .. }, Some(key)) = (&case.stage, case.key()) {
                self.outputs.push(Output::Abort(key.to_owned()));
            }
            self.over(case, "its recovery is no longer in the file");
        }
        let gone: Vec<RecoveryName> = self.stopped.keys().filter(|name| !self.recoveries.contains_key(*name)).cloned().collect();
        for name in gone {
            self.stopped.remove(&name);
            self.outputs.push(Output::Stopped(name, None));
        }
    }

    /// Learns something. The outputs are then to be taken.
    pub fn handle(&mut self, input: Input, now: UnixMs) {
        match input {
            Input::Seen { recovery, sights, complete } => self.seen(&recovery, sights, complete, now),
            Input::Acted { thing, key, result } => {
                self.with_case(&thing, |healer, case, recovery| healer.acted(case, recovery, &key, result, now))
            }
            Input::Checked { thing, key, result } => {
                self.with_case(&thing, |healer, case, recovery| healer.checked(case, recovery, &key, result, now))
            }
        }
    }

    /// What is to be done since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// All cases.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }

    /// Who has stopped a recovery.
    pub fn stopped_by(&self, name: &RecoveryName) -> Option<&str> {
        self.stopped.get(name).map(String::as_str)
    }

    /// Begins nothing more until told otherwise; what is under way is finished.
    ///
    /// # Errors
    ///
    /// There is no such recovery.
    pub fn stop(&mut self, name: &RecoveryName, by: &str) -> Result<(), Refusal> {
        if !self.recoveries.contains_key(name) {
            return Err(Refusal::NoRecovery);
        }
        self.stopped.insert(name.clone(), by.to_owned());
        self.outputs.push(Output::Stopped(name.clone(), Some(by.to_owned())));
        Ok(())
    }

    /// Goes on after a stop, and from the first attempt on with what was given up; with the name of a thing, with that one alone.
    ///
    /// # Errors
    ///
    /// There is no such recovery; or the thing is not ill, or worked on.
    pub fn run(&mut self, name: &RecoveryName, thing: Option<&str>, now: UnixMs) -> Result<(), Refusal> {
        if !self.recoveries.contains_key(name) {
            return Err(Refusal::NoRecovery);
        }
        let things: Vec<Thing> = self.named(name, thing).map(|case| case.thing.clone()).collect();
        if thing.is_some() {
            let cases: Vec<&Case> = things.iter().filter_map(|thing| self.cases.get(thing)).collect();
            if cases.iter().all(|case| matches!(case.stage, Stage::Healed { .. })) {
                return Err(Refusal::NotIll);
            }
            if cases.iter().any(|case| case.is_worked_on()) {
                return Err(Refusal::UnderWay);
            }
        }
        if self.stopped.remove(name).is_some() {
            self.outputs.push(Output::Stopped(name.clone(), None));
        }
        for thing in things {
            self.with_case(&thing, |_, case, _| {
                if matches!(case.stage, Stage::GivenUp { .. } | Stage::Shown { .. }) {
                    (case.at, case.tries) = (0, 0);
                    case.stage = Stage::Waiting { since: now, holds: Hold::Turn };
                }
                true
            });
        }
        Ok(())
    }

    /// What would be tried from now on, in words, by thing; without a case from the first attempt on.
    ///
    /// # Errors
    ///
    /// There is no such recovery.
    pub fn plan(&self, name: &RecoveryName, thing: Option<&str>) -> Result<Vec<(Thing, Vec<String>)>, Refusal> {
        let recovery = self.recoveries.get(name).ok_or(Refusal::NoRecovery)?;
        Ok(self.named(name, thing).map(|case| (case.thing.clone(), lines(recovery, case))).collect())
    }

    fn named<'a>(&'a self, name: &'a RecoveryName, thing: Option<&'a str>) -> impl Iterator<Item = &'a Case> {
        let is = move |case: &&Case| match thing {
            None => true,
            Some(text) => {
                let of_about = [&case.about.machine, &case.about.endpoint].into_iter().flatten().any(|name| name == text);
                of_about
                    || case.thing.to_string() == text
                    || matches!(&case.thing, Thing::Alarm(name) | Thing::Machine(name) if name == text)
            }
        };
        self.cases.values().filter(move |case| *case.recovery == *name.0).filter(is)
    }

    fn seen(&mut self, name: &RecoveryName, sights: Vec<Sight>, complete: bool, now: UnixMs) {
        let Some(recovery) = self.recoveries.get(name).cloned() else { return };
        let all = sights.len();
        let ill: BTreeSet<Thing> =
            sights.iter().filter(|sight| matches!(sight.health, Health::Ill(_))).map(|sight| sight.thing.clone()).collect();
        let present: BTreeSet<Thing> = sights.iter().map(|sight| sight.thing.clone()).collect();
        for sight in sights {
            self.look(&recovery, sight, now);
        }
        if complete {
            let gone: Vec<Thing> = self.named(name, None).map(|case| case.thing.clone()).filter(|thing| !present.contains(thing)).collect();
            gone.iter().for_each(|thing| self.gone(&recovery, thing, now));
        }
        let braked = ill.len() > 1 && ill.len() * 100 > all * recovery.ill_max_percent as usize;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.begin_what_waits(&recovery, &ill, braked.then(|| Hold::Brake(count(ill.len()), count(all))), now);
    }

    fn look(&mut self, recovery: &Recovery, sight: Sight, now: UnixMs) {
        let Sight { thing, about, health, mark } = sight;
        let mark = mark.filter(|mark| mark.is_of(&recovery.name.0) && is_recent(mark, recovery, now));
        match self.cases.get_mut(&thing) {
            None => {
                let Health::Ill(why) = health else { return };
                if self.cases.len() < CASES_MAX {
                    let mut case = Case::new(thing.clone(), recovery.name.to_string(), about, why, now);
                    if let Some(mark) = mark {
                        self.take_up(&mut case, recovery, &mark, now);
                    }
                    self.outputs.push(Output::Save(Box::new(case.clone())));
                    self.cases.insert(thing, case);
                }
                return;
            }
            // Somebody else heals it.
            Some(case) if *case.recovery != *recovery.name.0 => return,
            Some(case) => {
                // What changes with every look is not kept with every look.
                case.about = about;
                if let Health::Ill(why) = &health {
                    case.why.clone_from(why);
                }
            }
        }
        self.with_case(&thing, |healer, case, recovery| {
            if let Some(mark) = mark
                && is_from_another(&mark, case)
            {
                healer.take_up(case, recovery, &mark, now);
            }
            match &case.stage {
                Stage::Acting { until } if now >= until.saturating_add(ACT_GRACE_MS) => {
                    healer.outputs.extend(case.key().map(|key| Output::Abort(key.to_owned())));
                    healer.next(case, recovery, Outcome::Failed { why: "it took too long".into() }, now);
                }
                _ => {}
            }
            match health {
                Health::Unknown => true,
                Health::Ill(_) => {
                    healer.ill(case, recovery, now);
                    true
                }
                Health::Well(seen) => healer.well(case, recovery, seen, now),
            }
        });
    }

    /// Goes on where another node was. What it had begun is looked at first, and begun again if the fault is still there: nobody knows whether it was
    /// done.
    fn take_up(&mut self, case: &mut Case, recovery: &Recovery, mark: &Mark, now: UnixMs) {
        case.at = mark.at.min(recovery.attempts.len());
        case.tries = mark.tries;
        let Some(attempt) = recovery.attempts.get(case.at).filter(|_| mark.acting && !recovery.dry_run) else {
            self.go_on(case, recovery, now);
            return;
        };
        // This one is counted as it is told of.
        case.tries = case.tries.saturating_sub(1);
        case.begin(
            words(&attempt.action, &case.thing, &case.about),
            deed(&attempt.action, &case.thing, &case.about),
            mark.written.min(now),
        );
        case.interrupted = true;
        let until = now.saturating_add(ms(attempt.wait));
        case.stage = Stage::Checking { acted_at: now, until, check_at: now, checking: false };
    }

    fn ill(&mut self, case: &mut Case, recovery: &Recovery, now: UnixMs) {
        match case.stage {
            Stage::Checking { until, .. } if now >= until => {
                let outcome = Outcome::StillIll { after_ms: case.since_act(now), why: case.why.clone() };
                self.next(case, recovery, outcome, now);
            }
            Stage::Healed { .. } => {
                self.tell(case, Told::Relapsed);
                self.go_on(case, recovery, now);
            }
            Stage::Shown { .. } if !recovery.dry_run => case.stage = Stage::Waiting { since: now, holds: Hold::Turn },
            _ => {}
        }
    }

    /// Whether the case goes on.
    fn well(&mut self, case: &mut Case, recovery: &Recovery, seen: UnixMs, now: UnixMs) -> bool {
        match case.stage {
            Stage::Acting { .. } => {}
            Stage::Waiting { .. } if case.story.is_empty() => return self.ends(case, "it is well again by itself"),
            Stage::Shown { .. } => return self.ends(case, "it is well again by itself"),
            Stage::Waiting { .. } | Stage::GivenUp { .. } => {
                // Of an act that was interrupted nobody will ever know more.
                self.end(case, Outcome::Healed { after_ms: case.since_act(now) });
                self.tell(case, Told::Over("it is well again"));
                self.heal(case, now);
            }
            Stage::Healed { since } if now.saturating_sub(since) >= ms(recovery.stable) => return self.ends(case, "it has stayed well"),
            Stage::Healed { .. } => {}
            // What was seen before the act was done says nothing.
            Stage::Checking { acted_at, .. } if seen <= acted_at => self.still_unseen(case, recovery, now),
            Stage::Checking { acted_at, until, check_at, checking } => {
                let attempt = recovery.attempts.get(case.at);
                let Some(attempt) = attempt.filter(|attempt| attempt.check.is_some()) else {
                    self.healed(case, recovery, now);
                    return true;
                };
                if now >= until && (!checking || now >= until.saturating_add(CHECK_GRACE_MS)) {
                    let outcome = Outcome::StillIll { after_ms: case.since_act(now), why: case.why.clone() };
                    self.next(case, recovery, outcome, now);
                } else if !checking && now >= check_at {
                    case.stage = Stage::Checking { acted_at, until, check_at, checking: true };
                    let key = case.key().unwrap_or_default().to_owned();
                    self.outputs.push(Output::Check(Box::new(Order { case: case.clone(), attempt: attempt.clone(), key, resumed: false })));
                }
            }
        }
        true
    }

    /// Nobody has looked since the act was done.
    fn still_unseen(&mut self, case: &mut Case, recovery: &Recovery, now: UnixMs) {
        if let Stage::Checking { until, .. } = case.stage
            && now >= until
        {
            let outcome = Outcome::StillIll { after_ms: case.since_act(now), why: case.why.clone() };
            self.next(case, recovery, outcome, now);
        }
    }

    fn gone(&mut self, recovery: &Recovery, thing: &Thing, now: UnixMs) {
        let Some(case) = self.cases.get_mut(thing) else { return };
        let outcome = match case.stage {
            // Whoever acts on it finds out.
            Stage::Acting { until } if now < until.saturating_add(ACT_GRACE_MS) => return,
            Stage::Checking { .. } => match recovery.attempts.get(case.at).map(|attempt| &attempt.action) {
                Some(RecoveryAction::Replace) => Outcome::Healed { after_ms: case.since_act(now) },
                _ => Outcome::Gone,
            },
            _ => Outcome::Gone,
        };
        let Some(mut case) = self.cases.remove(thing) else { return };
        self.end(&mut case, outcome);
        self.over(case, "it is gone");
    }

    fn acted(&mut self, case: &mut Case, recovery: &Recovery, key: &str, result: Result<(), String>, now: UnixMs) -> bool {
        if !matches!(case.stage, Stage::Acting { .. }) || case.key() != Some(key) {
            return true;
        }
        match result {
            Ok(()) => {
                let attempt = recovery.attempts.get(case.at);
                case.drained |= attempt.is_some_and(|attempt| attempt.action == RecoveryAction::Drain);
                let until = now.saturating_add(attempt.map_or(0, |attempt| ms(attempt.wait)));
                case.stage = Stage::Checking { acted_at: now, until, check_at: now, checking: false };
            }
            Err(why) => self.next(case, recovery, Outcome::Failed { why }, now),
        }
        true
    }

    fn checked(&mut self, case: &mut Case, recovery: &Recovery, key: &str, result: Result<(), String>, now: UnixMs) -> bool {
        let Stage::Checking { acted_at, until, checking: true, .. } = case.stage else { return true };
        if case.key() != Some(key) {
            return true;
        }
        match result {
            Ok(()) => self.healed(case, recovery, now),
            Err(why) => {
                case.why = why;
                case.stage = Stage::Checking { acted_at, until, check_at: now.saturating_add(CHECK_EVERY_MS), checking: false };
            }
        }
        true
    }

    fn healed(&mut self, case: &mut Case, recovery: &Recovery, now: UnixMs) {
        self.end(case, Outcome::Healed { after_ms: case.since_act(now) });
        // What it falls ill of again, this attempt does not heal for long.
        step_past(case, recovery);
        self.heal(case, now);
    }

    fn heal(&mut self, case: &mut Case, now: UnixMs) {
        case.interrupted = false;
        case.stage = Stage::Healed { since: now };
        if std::mem::take(&mut case.drained) {
            self.outputs.push(Output::PutBack(Box::new(case.clone())));
        }
    }

    /// The last attempt was in vain.
    fn next(&mut self, case: &mut Case, recovery: &Recovery, outcome: Outcome, now: UnixMs) {
        if case.interrupted && case.resumed < RESUMES_MAX && !matches!(outcome, Outcome::Failed { .. }) && case.at < recovery.attempts.len()
        {
            // Perhaps it was never made.
            case.stage = Stage::Waiting { since: now, holds: Hold::Turn };
            return;
        }
        case.interrupted = false;
        self.end(case, outcome);
        step_past(case, recovery);
        self.go_on(case, recovery, now);
    }

    fn go_on(&mut self, case: &mut Case, recovery: &Recovery, now: UnixMs) {
        if case.at < recovery.attempts.len() {
            case.stage = Stage::Waiting { since: now, holds: Hold::Turn };
        } else {
            case.stage = Stage::GivenUp { since: now };
            self.tell(case, Told::GivenUp);
        }
    }

    /// Begins what may begin, whoever waits the longest first.
    fn begin_what_waits(&mut self, recovery: &Recovery, ill: &BTreeSet<Thing>, brake: Option<Hold>, now: UnixMs) {
        let mut worked_on = self.named(&recovery.name, None).filter(|case| case.is_worked_on()).count();
        let mut waiting: Vec<(UnixMs, Thing)> = self
            .named(&recovery.name, None)
            .filter_map(|case| match case.stage {
                Stage::Waiting { since, .. } => Some((since, case.thing.clone())),
                _ => None,
            })
            .collect();
        waiting.sort();
        let stopped = self.stopped.get(&recovery.name).cloned();
        for (since, thing) in waiting {
            let brake = brake.clone();
            let stopped = stopped.clone();
            let is_ill = ill.contains(&thing);
            let mut begun = false;
            self.with_case(&thing, |healer, case, recovery| {
                let patient = case.story.is_empty() && now < since.saturating_add(ms(recovery.after));
                let holds = match (stopped, brake) {
                    (Some(by), _) => Hold::Stopped(by),
                    (None, Some(brake)) => brake,
                    // One of which nothing is known has to wait, too.
                    (None, None) if patient || !is_ill => Hold::Patience,
                    (None, None) if worked_on >= recovery.at_once as usize => Hold::Turn,
                    (None, None) => {
                        begun = healer.begin(case, recovery, now);
                        return true;
                    }
                };
                healer.hold(case, since, holds, now);
                true
            });
            worked_on += usize::from(begun);
        }
    }

    fn hold(&mut self, case: &mut Case, since: UnixMs, holds: Hold, now: UnixMs) {
        let Stage::Waiting { holds: before, .. } = &case.stage else { return };
        let is_new = std::mem::discriminant(before) != std::mem::discriminant(&holds);
        if holds.is_for_people() && now < case.began.saturating_add(HEARD_MS) {
            return;
        }
        if is_new && holds.is_for_people() {
            self.tell(case, Told::Held(holds.clone()));
        }
        // Numbers of a brake change with every look: what is kept is that it is on.
        if is_new {
            case.stage = Stage::Waiting { since, holds };
        }
    }

    /// Whether something begins.
    fn begin(&mut self, case: &mut Case, recovery: &Recovery, now: UnixMs) -> bool {
        let Some(attempt) = recovery.attempts.get(case.at) else {
            self.go_on(case, recovery, now);
            return false;
        };
        if recovery.dry_run {
            case.stage = Stage::Shown { since: now };
            self.tell(case, Told::Would(lines(recovery, case)));
            return false;
        }
        let action = words(&attempt.action, &case.thing, &case.about);
        let resumed = std::mem::take(&mut case.interrupted);
        let key = match case.key().map(str::to_owned) {
            Some(key) if resumed => {
                case.resumed += 1;
                key
            }
            _ => case.begin(action.clone(), deed(&attempt.action, &case.thing, &case.about), now),
        };
        case.stage = Stage::Acting { until: now.saturating_add(ms(attempt.limit)) };
        self.tell(case, Told::Begun { action, resumed });
        self.outputs.push(Output::Act(Box::new(Order { case: case.clone(), attempt: attempt.clone(), key, resumed })));
        true
    }

    fn end(&mut self, case: &mut Case, outcome: Outcome) {
        if let Some(tried) = case.end(outcome) {
            self.tell(case, Told::Tried(tried));
        }
    }

    fn tell(&mut self, case: &Case, told: Told) {
        self.outputs.push(Output::Tell(Box::new(case.clone()), told));
    }

    fn ends(&mut self, case: &Case, why: &'static str) -> bool {
        self.tell(case, Told::Over(why));
        false
    }

    fn over(&mut self, mut case: Case, why: &'static str) {
        if std::mem::take(&mut case.drained) && why != "it is gone" {
            self.outputs.push(Output::PutBack(Box::new(case.clone())));
        }
        self.outputs.push(Output::Forget(case.thing.clone()));
        self.tell(&case, Told::Over(why));
    }

    /// Changes a case, and keeps it if it is another one then. `change` says whether it goes on.
    fn with_case(&mut self, thing: &Thing, change: impl FnOnce(&mut Healer, &mut Case, &Recovery) -> bool) {
        let Some(mut case) = self.cases.remove(thing) else { return };
        let Some(recovery) = self.recoveries.get(&name(&case)).cloned() else {
            self.cases.insert(thing.clone(), case);
            return;
        };
        let before = case.clone();
        if !change(self, &mut case, &recovery) {
            self.outputs.push(Output::Forget(thing.clone()));
            return;
        }
        let changed = Case { why: before.why.clone(), about: before.about.clone(), ..case.clone() } != before;
        if changed {
            self.outputs.push(Output::Save(Box::new(case.clone())));
        }
        self.cases.insert(thing.clone(), case);
    }
}

/// Whether what was tried then still counts: until a success would have lasted.
fn is_recent(mark: &Mark, recovery: &Recovery, now: UnixMs) -> bool {
    let attempt = recovery.attempts.get(mark.at).map_or(0, |attempt| ms(attempt.limit).saturating_add(ms(attempt.wait)));
    now.saturating_sub(mark.written) <= ms(recovery.stable).saturating_add(attempt)
}

/// Whether another node has gone further since this one last did something.
fn is_from_another(mark: &Mark, case: &Case) -> bool {
    let last = case.story.last().map_or(case.began, |tried| tried.began);
    !matches!(case.stage, Stage::Acting { .. }) && mark.written > last && (mark.at, mark.tries) != (case.at, case.tries)
}

fn name(case: &Case) -> RecoveryName {
    RecoveryName::from(case.recovery.as_str())
}

/// The same attempt once more, or the one after it.
fn step_past(case: &mut Case, recovery: &Recovery) {
    if recovery.attempts.get(case.at).is_none_or(|attempt| case.tries >= attempt.times) {
        case.at = (case.at + 1).min(recovery.attempts.len());
        case.tries = 0;
    }
}

/// What is tried from now on.
fn lines(recovery: &Recovery, case: &Case) -> Vec<String> {
    let line = |(at, attempt): (usize, &RecoveryAttempt)| {
        let made = if at == case.at { case.tries } else { 0 };
        let left = attempt.times.saturating_sub(made);
        let times = if left > 1 { format!(", up to {left} times") } else { String::new() };
        let (limit, wait) = (attempt.limit.as_secs_f64(), attempt.wait.as_secs_f64());
        format!("{} within {limit} s{times}, then {wait} s for the fault to go", words(&attempt.action, &case.thing, &case.about))
    };
    recovery.attempts.iter().enumerate().skip(case.at).map(line).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "healer_tests.rs"]
mod tests;
