//! `[recovery.NAME]` in words.

use super::{NONE, Setting};
use crate::model::{Recovery, RecoveryAction, RecoveryAttempt};
use crate::units::format_duration;

pub(crate) fn of_recovery(recovery: &Recovery) -> Vec<Setting> {
    let Recovery { name: _, subject, after, stable, at_once, ill_max_percent, dry_run, attempts } = recovery;
    vec![
        ("heals", subject.to_string()),
        ("after", format_duration(*after)),
        ("stable", format_duration(*stable)),
        ("at_once", at_once.to_string()),
        ("ill_max", format!("{ill_max_percent} %")),
        ("dry_run", dry_run.to_string()),
        ("attempt", attempts.iter().map(of_attempt).collect::<Vec<_>>().join(", ")),
    ]
}

fn of_attempt(attempt: &RecoveryAttempt) -> String {
    let RecoveryAttempt { action, limit, wait, times, check } = attempt;
    let what = match action {
        RecoveryAction::Script(command) => format!("script {command:?}"),
        RecoveryAction::ReleaseVip(vip) => format!("release-vip {vip}"),
        other => other.word().to_owned(),
    };
    let check = check.as_ref().map_or(NONE.into(), |check| format!("{check:?}"));
    format!("{what} {times} times (limit {}, wait {}, check {check})", format_duration(*limit), format_duration(*wait))
}
