//! `[recovery.NAME]`: what is tried before people are told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{AlarmName, PoolName, TemplateName, VipName};

/// The name of a recovery, as written in `[recovery.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecoveryName(pub Arc<str>);

impl fmt::Display for RecoveryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for RecoveryName {
    fn from(name: &str) -> Self {
        RecoveryName(name.into())
    }
}

/// `[recovery.NAME]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The table's name.
    pub name: RecoveryName,
    /// `alarm`, `pool`, `template` or `machine`: what it heals.
    pub subject: RecoverySubject,
    /// `after`: how long something must be ill before anything is tried. Default none.
    pub after: Duration,
    /// `stable`: how long a success must last until everything may be tried again. Default 10 min.
    pub stable: Duration,
    /// `at_once`: things that are worked on at a time. Default 1.
    pub at_once: u32,
    /// `ill_max`: when more than one thing and more of them than this, in percent, is ill, nothing is tried. Default 50.
    pub ill_max_percent: u32,
    /// `dry_run`: it is only said what would be tried. Default false.
    pub dry_run: bool,
    /// `[[recovery.NAME.attempt]]`, in the order in which they are made; never empty.
    pub attempts: Vec<RecoveryAttempt>,
}

/// What is healed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverySubject {
    /// `alarm`: whatever it watches.
    Alarm(AlarmName),
    /// `pool`: each of its endpoints, and the machine behind it.
    Pool(PoolName),
    /// `template`: each machine that was cloned from it.
    Template(TemplateName),
    /// `machine`: that one, by its name.
    Machine(String),
}

/// `[[recovery.NAME.attempt]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryAttempt {
    /// `action`, with what belongs to it.
    pub action: RecoveryAction,
    /// `limit`: how long the action may take. Default 60 s; of replace 10 min.
    pub limit: Duration,
    /// `wait`: how long after the action the fault may take to go. Default 30 s.
    pub wait: Duration,
    /// `times`: how often it is made before the next one. Default 1.
    pub times: u32,
    /// `check`: a program that must exit with 0, too, before the fault counts as gone.
    pub check: Option<Vec<String>>,
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoveryAction {
    /// `script`: a program on this node.
    Script(Vec<String>),
    /// `reboot`: the guest is asked to.
    Reboot,
    /// `restart`: the machine is shut down, by force where the guest does not do it, and started.
    Restart,
    /// `reset`: as by the button.
    Reset,
    /// `replace`: a fresh clone takes its place in the pool.
    Replace,
    /// `drain`: the endpoint gets no new work until it is well.
    Drain,
    /// `release-vip`: another node becomes master.
    ReleaseVip(VipName),
}

impl RecoveryAction {
    /// As written in the file.
    pub fn word(&self) -> &'static str {
        match self {
            RecoveryAction::Script(_) => "script",
            RecoveryAction::Reboot => "reboot",
            RecoveryAction::Restart => "restart",
            RecoveryAction::Reset => "reset",
            RecoveryAction::Replace => "replace",
            RecoveryAction::Drain => "drain",
            RecoveryAction::ReleaseVip(_) => "release-vip",
        }
    }

    /// Whether it is done to a machine.
    pub fn is_of_machine(&self) -> bool {
        matches!(self, RecoveryAction::Reboot | RecoveryAction::Restart | RecoveryAction::Reset | RecoveryAction::Replace)
    }
}

impl Recovery {
    /// The longest that all its attempts may take, one after the other.
    pub fn longest(&self) -> Duration {
        let one = |attempt: &RecoveryAttempt| attempt.limit.saturating_add(attempt.wait).saturating_mul(attempt.times);
        self.attempts.iter().fold(self.after, |sum, attempt| sum.saturating_add(one(attempt)))
    }
}

impl fmt::Display for RecoverySubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverySubject::Alarm(name) => write!(f, "alarm {name}"),
            RecoverySubject::Pool(name) => write!(f, "pool {name}"),
            RecoverySubject::Template(name) => write!(f, "machines of template {name}"),
            RecoverySubject::Machine(name) => write!(f, "machine {name}"),
        }
    }
}
