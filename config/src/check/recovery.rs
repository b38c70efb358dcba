//! Recoveries against what they heal and what they do to it.

use std::collections::BTreeMap;

use super::scaling::{World, known};
use crate::error::Problem;
use crate::model::{AlarmScope, Condition, RecoveryAction, RecoverySubject};
use crate::parse::{ParsedRecovery, ParsedVip};
use crate::reader::{Placed, Table};

pub(crate) fn recoveries(root: &Table<'_>, world: &World<'_>, vips: &[ParsedVip], recoveries: &[ParsedRecovery]) {
    let vips: Vec<&str> = vips.iter().map(|parsed| &*parsed.name.0).collect();
    let mut healed: BTreeMap<String, &Placed<RecoverySubject>> = BTreeMap::new();
    for parsed in recoveries {
        for Placed { value, span, path } in &parsed.vips {
            known(root, "vip", &vips, &value.0, span, path);
        }
        let Some(subject) = &parsed.subject else { continue };
        if !subject_is_known(root, world, subject) {
            continue;
        }
        if let Some(first) = healed.get(&subject.value.to_string()) {
            let problem = Problem::new(subject.span.clone(), &subject.path, format!("{} is healed twice", subject.value));
            root.report(problem.note(first.span.clone(), "here is the other recovery").help("put the attempts of both into one"));
        }
        healed.entry(subject.value.to_string()).or_insert(subject);
        for action in &parsed.actions {
            if let Err((why, help)) = can(world, &subject.value, &action.value) {
                root.report(Problem::new(action.span.clone(), &action.path, why).help(help).needs_whole_file());
            }
        }
    }
}

fn subject_is_known(root: &Table<'_>, world: &World<'_>, subject: &Placed<RecoverySubject>) -> bool {
    let Placed { value, span, path } = subject;
    let (what, names, name): (_, Vec<&str>, &str) = match value {
        RecoverySubject::Alarm(name) => ("alarm", world.alarms.iter().map(|parsed| &*parsed.name.0).collect(), &name.0),
        RecoverySubject::Pool(name) => ("pool", world.pools.iter().map(|parsed| &*parsed.pool.name.0).collect(), &name.0),
        RecoverySubject::Template(name) => {
            // One whose table is wrong has been reported.
            if world.templates.iter().any(|parsed| parsed.template.is_none()) {
                return true;
            }
            ("template", world.templates.iter().filter_map(|parsed| Some(&*parsed.template.as_ref()?.name.0)).collect(), &name.0)
        }
        RecoverySubject::Machine(_) => return true,
    };
    known(root, what, &names, name, span, path);
    if let RecoverySubject::Alarm(name) = value
        && let Some(alarm) = world.alarms.iter().find(|parsed| parsed.name == *name).and_then(|parsed| parsed.alarm.as_ref())
        && alarm.recover.is_some()
    {
        let problem = Problem::new(span.clone(), path, format!("alarm {name} has a `recover` of its own"));
        root.report(problem.help("make it the first attempt here, with action = \"script\", and remove it there").needs_whole_file());
    }
    names.contains(&name)
}

/// Whether this can be done to that; else why not, and what to do.
fn can(world: &World<'_>, subject: &RecoverySubject, action: &RecoveryAction) -> Result<(), (String, String)> {
    let no = |why: String, help: &str| Err((why, help.to_owned()));
    let word = action.word();
    let of_machine = action.is_of_machine();
    if of_machine && world.hosts.is_empty() {
        return no(format!("nothing can {word}: there are no machines"), "add the [host.NAME] that they are on");
    }
    match (subject, action) {
        (_, RecoveryAction::Script(_) | RecoveryAction::ReleaseVip(_)) => Ok(()),
        (RecoverySubject::Alarm(name), _) => {
            let alarm = world.alarms.iter().find(|parsed| parsed.name == *name).and_then(|parsed| parsed.alarm.as_ref());
            let of_a_machine =
                |condition: &Condition| matches!(condition, Condition::Threshold(one) if matches!(one.scope, AlarmScope::Machine(_)));
            match alarm {
                Some(alarm) if !of_a_machine(&alarm.condition) => no(
                    format!("alarm {name} does not say which machine is to {word}"),
                    "use an alarm with `machine`, or a recovery of the pool or the template",
                ),
                _ => Ok(()),
            }
        }
        (RecoverySubject::Pool(name), RecoveryAction::Replace)
            if world.pools.iter().any(|parsed| parsed.pool.name == *name && parsed.scaling.template.is_none()) =>
        {
            no(format!("pool {name} is not scaled, so nothing takes the place of a machine"), "add [pool.NAME.scaling], or use restart")
        }
        (RecoverySubject::Template(name), RecoveryAction::Replace)
            if !world.pools.iter().any(|parsed| parsed.scaling.template.as_ref().is_some_and(|template| template.value == *name)) =>
        {
            no(format!("no pool is scaled with template {name}, so nothing takes the place of a machine"), "use restart")
        }
        _ => Ok(()),
    }
}
