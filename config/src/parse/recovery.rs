//! `[recovery.NAME]`

use std::time::Duration;

use crate::error::Problem;
use crate::model::{Recovery, RecoveryAction, RecoveryAttempt, RecoverySubject, VipName};
use crate::parse::alarm::command;
use crate::reader::{Named, Placed, Table};

/// What is healed, of which a recovery has one.
const SUBJECTS: [&str; 4] = ["pool", "template", "machine", "alarm"];

/// Attempts of one recovery.
const ATTEMPTS_MAX: usize = 20;

/// How long an action may take that makes a machine, and any other.
const LIMITS: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(60));

/// A recovery with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedRecovery {
    /// `None`: a problem was reported.
    pub(crate) recovery: Option<Recovery>,
    /// What it heals, with its place.
    pub(crate) subject: Option<Placed<RecoverySubject>>,
    /// Its actions with their places.
    pub(crate) actions: Vec<Placed<RecoveryAction>>,
    /// The virtual IPs that it names, with their places.
    pub(crate) vips: Vec<Placed<VipName>>,
}

pub(super) fn recovery(named: &Named<'_>) -> ParsedRecovery {
    let table = &named.table;
    let subject = subject(table);
    let (mut actions, mut vips, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    let tables = table.field("attempt").map(|field| field.tables()).unwrap_or_default();
    for table in &tables {
        attempts.push(attempt(table, &mut actions, &mut vips));
    }
    if table.has("attempt") && !(1..=ATTEMPTS_MAX).contains(&tables.len()) {
        let problem = table.problem("attempt", format!("a recovery has 1 to {ATTEMPTS_MAX} attempts, this one has {}", tables.len()));
        table.report(problem.needs_whole_file());
    }
    let time = |name: &str| table.time(name).unwrap_or_default();
    let (after, stable) = (time("after"), time("stable"));
    let at_once = table.count_u32("at_once").unwrap_or(1);
    let ill_max_percent = table.count_u32("ill_max").unwrap_or(50);
    let dry_run = table.flag("dry_run").unwrap_or(false);
    let attempts: Option<Vec<RecoveryAttempt>> = attempts.into_iter().collect();
    let recovery = subject.as_ref().zip(attempts).map(|(subject, attempts)| Recovery {
        name: named.name.into(),
        subject: subject.value.clone(),
        after,
        stable,
        at_once,
        ill_max_percent,
        dry_run,
        attempts,
    });
    ParsedRecovery { recovery, subject, actions, vips }
}

fn subject(table: &Table<'_>) -> Option<Placed<RecoverySubject>> {
    let written: Vec<&str> = SUBJECTS.into_iter().filter(|name| table.has(name)).collect();
    match written[..] {
        [] => {
            let problem = Problem::new(table.span(), table.path(), "it is not said what is to be healed");
            let help = "add `pool = \"NAME\"`, `template = \"NAME\"`, `machine = \"NAME\"` or `alarm = \"NAME\"`";
            table.report(problem.help(help).needs_whole_file());
            None
        }
        [name] => {
            let text = table.text(name)?;
            let subject = match name {
                "pool" => RecoverySubject::Pool(text.into()),
                "template" => RecoverySubject::Template(text.into()),
                "machine" => RecoverySubject::Machine(text.to_owned()),
                _ => RecoverySubject::Alarm(text.into()),
            };
            Some(table.placed(name, subject))
        }
        [first, second, ..] => {
            let problem = table.problem(second, format!("a recovery heals one kind of thing, and `{first}` and `{second}` are two"));
            table.report(problem.note(table.span_of(first), format!("`{first}` is here")).help("make two recoveries of it"));
            // Read, so that what else is wrong with it is said at once.
            for name in written {
                let _ = table.text(name);
            }
            None
        }
    }
}

fn attempt(table: &Table<'_>, actions: &mut Vec<Placed<RecoveryAction>>, vips: &mut Vec<Placed<VipName>>) -> Option<RecoveryAttempt> {
    let word = table.choice("action");
    for (key, of) in [("command", "script"), ("vip", "release-vip")] {
        if word.is_some_and(|word| word != of) {
            table.refuse(&[key], &format!("with an action other than {of}"));
        } else if word.is_some() && !table.has(key) {
            let problem = table.problem("action", format!("the action {of} needs `{key}`"));
            let example = if key == "vip" { "\"public\"" } else { "[\"/path/to/program\", \"argument\"]" };
            table.report(problem.help(format!("add `{key} = {example}`")).needs_whole_file());
        }
    }
    let program = |key: &str| table.field(key).and_then(|field| command(&field));
    let (script, vip) = (program("command"), table.text("vip").map(VipName::from));
    let check = program("check");
    vips.extend(vip.clone().map(|vip| table.placed("vip", vip)));
    let (limit, wait, times) = (table.time("limit"), table.time("wait").unwrap_or_default(), table.count_u32("times").unwrap_or(1));
    let action = match word? {
        "script" => RecoveryAction::Script(script?),
        "reboot" => RecoveryAction::Reboot,
        "restart" => RecoveryAction::Restart,
        "reset" => RecoveryAction::Reset,
        "replace" => RecoveryAction::Replace,
        "drain" => RecoveryAction::Drain,
        _ => RecoveryAction::ReleaseVip(vip?),
    };
    actions.push(table.placed("action", action.clone()));
    let limit = limit.unwrap_or(if action == RecoveryAction::Replace { LIMITS.0 } else { LIMITS.1 });
    Some(RecoveryAttempt { action, limit, wait, times, check })
}
