//! One thing that is ill: what was tried, and where it stands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// Attempts that a case remembers.
const STORY_KEPT: usize = 40;

/// What may be ill. Whatever several recoveries heal, it is worked on by one at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A machine of ours, by its name.
    Machine(String),
    /// An endpoint that is no machine of ours: pool and address.
    Endpoint(String, String),
    /// What an alarm watches that is no machine, by the alarm's name.
    Alarm(String),
}

impl Thing {
    /// Its name, without what it is.
    pub fn name(&self) -> &str {
        match self {
            Thing::Machine(name) | Thing::Endpoint(_, name) | Thing::Alarm(name) => name,
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Machine(name) => write!(f, "machine {name}"),
            Thing::Endpoint(pool, address) => write!(f, "endpoint {address} of pool {pool}"),
            Thing::Alarm(name) => write!(f, "alarm {name}"),
        }
    }
}

/// What is known of a thing, for whoever acts on it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// Its pool.
    pub pool: Option<String>,
    /// Its address in the pool.
    pub endpoint: Option<String>,
    /// The machine.
    pub machine: Option<String>,
    /// The machine's host.
    pub host: Option<String>,
    /// The alarm that says so.
    pub alarm: Option<String>,
    /// Keys of the alarms that people are told of, and that wait for what comes of this.
    pub told_as: Vec<String>,
}

/// One thing that is ill, from the first sign to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What.
    pub thing: Thing,
    /// `[recovery.NAME]`
    pub recovery: String,
    /// What is known of it.
    pub about: About,
    /// Since when.
    pub began: UnixMs,
    /// What is wrong, in words, as it was last seen.
    pub why: String,
    /// Where it stands.
    pub stage: Stage,
    /// The attempt that is made, or is the next one, from 0; as many as there are attempts: none is left.
    pub at: usize,
    /// How often that one was made.
    pub tries: u32,
    /// Acts so far: makes their keys.
    pub acts: u32,
    /// The process that made the last act was ended over it: nobody knows whether it was done.
    pub interrupted: bool,
    /// How often the last act was begun again for that reason.
    pub resumed: u32,
    /// Its endpoint was taken out of the traffic, and is put back when it is well.
    pub drained: bool,
    /// What was tried, oldest first.
    pub story: Vec<Tried>,
}

/// How far the recovery of a thing is, as it stands where every node sees it: whoever leads next goes on from there. What was tried before is not in
/// it: that is the story of the node that tried it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Begin of the recovery's name.
    recovery: String,
    /// The attempt that is made, or is the next one.
    pub(crate) at: usize,
    /// How often that one was made.
    pub(crate) tries: u32,
    /// It is being made, or was and is looked at.
    pub(crate) acting: bool,
    /// When that was so.
    pub(crate) written: UnixMs,
}

/// Of a recovery's name in a mark: a label is not longer than 64 characters.
const MARK_NAME_MAX: usize = 24;

impl Mark {
    /// Of a case, as it is now.
    pub fn of(case: &Case, now: UnixMs) -> Mark {
        let acting = case.is_worked_on();
        let written = if acting { case.story.last().map_or(now, |tried| tried.began) } else { now };
        Mark { recovery: Mark::name(&case.recovery), at: case.at, tries: case.tries, acting, written }
    }

    /// Reads one; `None`: it is none.
    pub fn parse(text: &str) -> Option<Mark> {
        let [recovery, at, tries, acting, written]: [&str; 5] = text.split(':').collect::<Vec<_>>().try_into().ok()?;
        let acting = match acting {
            "acts" => true,
            "waits" => false,
            _ => return None,
        };
        Some(Mark { recovery: recovery.into(), at: at.parse().ok()?, tries: tries.parse().ok()?, acting, written: written.parse().ok()? })
    }

    /// Whether it is of this recovery.
    pub(crate) fn is_of(&self, recovery: &str) -> bool {
        self.recovery == Mark::name(recovery)
    }

    /// What a label may hold of a name.
    fn name(recovery: &str) -> String {
        recovery.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).take(MARK_NAME_MAX).collect()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { recovery, at, tries, acting, written } = self;
        write!(f, "{recovery}:{at}:{tries}:{}:{written}", if *acting { "acts" } else { "waits" })
    }
}

/// Where a case stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The next attempt has not begun.
    Waiting {
        /// Since when.
        since: UnixMs,
        /// For what.
        holds: Hold,
    },
    /// Something is being done.
    Acting {
        /// When it must be over.
        until: UnixMs,
    },
    /// It was done; is the fault gone?
    Checking {
        /// When it was done.
        acted_at: UnixMs,
        /// When the fault must be gone.
        until: UnixMs,
        /// No program looks before this moment.
        check_at: UnixMs,
        /// A program looks.
        checking: bool,
    },
    /// It is well.
    Healed {
        /// Since when.
        since: UnixMs,
    },
    /// No attempt is left, and it is ill.
    GivenUp {
        /// Since when.
        since: UnixMs,
    },
    /// It was said what would be done.
    Shown {
        /// When.
        since: UnixMs,
    },
}

/// What a case waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It may be well again by itself: `after`.
    Patience,
    /// Others are worked on.
    Turn,
    /// Too many are ill at once: how many of how many.
    Brake(u32, u32),
    /// An operator has stopped the recovery: who.
    Stopped(String),
}

/// One attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tried {
    /// Equal for each time that this act was begun, different for any other.
    pub key: String,
    /// What was done, in words.
    pub action: String,
    /// The same, for other languages; `None`: an older program did it.
    #[serde(default)]
    pub deed: Option<Deed>,
    /// When it began.
    pub began: UnixMs,
    /// What came of it; `None`: it is under way.
    pub outcome: Option<Outcome>,
}

/// What an attempt does, without words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deed {
    /// The action as it is written in the file.
    pub name: String,
    /// To what it is done: the name of a machine, an alarm or a virtual IP, or the address of an endpoint.
    pub to: String,
    /// The program, if one does it.
    pub command: String,
}

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The fault is gone.
    Healed {
        /// How long that took, from the beginning of the attempt.
        after_ms: u64,
    },
    /// The fault is still there.
    StillIll {
        /// How long it was waited for, from the beginning of the attempt.
        after_ms: u64,
        /// What is wrong, in words.
        why: String,
    },
    /// It could not be done.
    Failed {
        /// Why.
        why: String,
    },
    /// The thing is gone, and nothing took its place.
    Gone,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| (ms + 500) / 1000;
        match self {
            Outcome::Healed { after_ms } => write!(f, "healed after {} s", seconds(after_ms)),
            Outcome::StillIll { after_ms, why } if why.is_empty() => write!(f, "still ill after {} s", seconds(after_ms)),
            Outcome::StillIll { after_ms, why } => write!(f, "still ill after {} s: {why}", seconds(after_ms)),
            Outcome::Failed { why } => write!(f, "failed: {why}"),
            Outcome::Gone => f.write_str("it is gone"),
        }
    }
}

impl Hold {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Hold::Patience => "it may be well again by itself".into(),
            Hold::Turn => "others are worked on".into(),
            Hold::Brake(ill, all) => format!("{ill} of {all} are ill at once, more than ill_max: look at what they have in common"),
            Hold::Stopped(by) => format!("stopped by {by}"),
        }
    }

    /// Whether only people can end it.
    pub fn is_for_people(&self) -> bool {
        matches!(self, Hold::Brake(..) | Hold::Stopped(_))
    }
}

impl Stage {
    /// A word.
    pub fn word(&self) -> &'static str {
        match self {
            Stage::Waiting { .. } => "waiting",
            Stage::Acting { .. } => "acting",
            Stage::Checking { .. } => "checking",
            Stage::Healed { .. } => "healed",
            Stage::GivenUp { .. } => "given up",
            Stage::Shown { .. } => "dry run",
        }
    }
}

impl Case {
    /// Of a thing that has just fallen ill.
    pub(crate) fn new(thing: Thing, recovery: String, about: About, why: String, now: UnixMs) -> Case {
        Case {
            thing,
            recovery,
            about,
            began: now,
            why,
            stage: Stage::Waiting { since: now, holds: Hold::Patience },
            at: 0,
            tries: 0,
            acts: 0,
            interrupted: false,
            resumed: 0,
            drained: false,
            story: Vec::new(),
        }
    }

    /// Whether something is done to it, or was and is looked at.
    pub fn is_worked_on(&self) -> bool {
        matches!(self.stage, Stage::Acting { .. } | Stage::Checking { .. })
    }

    /// Whether people need not be called yet: something is or will be tried.
    pub fn is_hopeful(&self) -> bool {
        match &self.stage {
            Stage::Waiting { holds, .. } => !holds.is_for_people(),
            Stage::Acting { .. } | Stage::Checking { .. } => true,
            Stage::Healed { .. } | Stage::GivenUp { .. } | Stage::Shown { .. } => false,
        }
    }

    /// The key of the act that is under way, or of the last one.
    pub fn key(&self) -> Option<&str> {
        self.story.last().map(|tried| &*tried.key)
    }

    /// Begins to tell of an act; returns its key.
    pub(crate) fn begin(&mut self, action: String, deed: Deed, now: UnixMs) -> String {
        self.acts += 1;
        self.tries += 1;
        self.resumed = 0;
        let key = format!("{}/{}/{}/{}", self.recovery, self.thing, self.began, self.acts).replace(' ', "-");
        if self.story.len() == STORY_KEPT {
            self.story.remove(0);
        }
        self.story.push(Tried { key: key.clone(), action, deed: Some(deed), began: now, outcome: None });
        key
    }

    /// What came of the last act; `None`: that is known already.
    pub(crate) fn end(&mut self, outcome: Outcome) -> Option<Tried> {
        let last = self.story.last_mut().filter(|tried| tried.outcome.is_none())?;
        last.outcome = Some(outcome);
        Some(last.clone())
    }

    /// How long ago the last act began.
    pub(crate) fn since_act(&self, now: UnixMs) -> u64 {
        self.story.last().map_or(0, |tried| now.saturating_sub(tried.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut case =
            Case::new(Thing::Machine("web-1".into()), "a name that is very long, and odd".into(), About::default(), String::new(), 7);
        let mark = Mark::of(&case, 9);
        assert_eq!(mark.to_string(), "a-name-that-is-very-long:0:0:waits:9");
        case.begin(String::new(), Deed { name: String::new(), to: String::new(), command: String::new() }, 1_795_694_400_000);
        case.stage = Stage::Acting { until: 0 };
        let mark = Mark::of(&case, 1_795_694_409_000);
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark.clone()));
        assert!(mark.is_of(&case.recovery) && !mark.is_of("a name") && mark.written == 1_795_694_400_000 && mark.acting);
        assert!(mark.to_string().len() <= 64);
        for text in ["", "r:1:2:acts", "r:x:2:acts:3", "r:1:2:sleeps:3", "r:1:2:acts:3:4"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
