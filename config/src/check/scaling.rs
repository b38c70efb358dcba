//! Alarms, metrics and scaling against each other and against pools, hosts and templates.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Problem;
use crate::model::{AlarmName, AlarmScope, Comparison, Condition, ExternalMetric};
use crate::names::nearest;
use crate::parse::{ParsedAlarm, ParsedHost, ParsedPool, ParsedTemplate};
use crate::reader::{Placed, Table};

/// What the names may lead to.
pub(crate) struct World<'a> {
    pub(crate) pools: &'a [ParsedPool],
    pub(crate) hosts: &'a [ParsedHost],
    pub(crate) templates: &'a [ParsedTemplate],
    pub(crate) metrics: &'a [ExternalMetric],
    pub(crate) alarms: &'a [ParsedAlarm],
}

pub(crate) fn scaling(root: &Table<'_>, world: &World<'_>) {
    let pools: Vec<&str> = world.pools.iter().map(|parsed| &*parsed.pool.name.0).collect();
    let hosts: Vec<&str> = world.hosts.iter().map(|parsed| &*parsed.host.name.0).collect();
    let metrics: Vec<&str> = world.metrics.iter().map(|metric| &*metric.name.0).collect();
    let alarms: Vec<&str> = world.alarms.iter().map(|parsed| &*parsed.name.0).collect();
    for alarm in world.alarms {
        match &alarm.scope {
            Some(Placed { value: AlarmScope::Pool(name), span, path }) => known(root, "pool", &pools, &name.0, span, path),
            Some(Placed { value: AlarmScope::Host(name), span, path }) => known(root, "host", &hosts, &name.0, span, path),
            _ => {}
        }
        for Placed { value, span, path } in &alarm.alarms {
            known(root, "alarm", &alarms, &value.0, span, path);
        }
        if let Some(Placed { value, span, path }) = &alarm.external {
            known(root, "metric", &metrics, &value.0, span, path);
        }
        check_scaled_pool(root, world, alarm);
    }
    for parsed in world.pools {
        for Placed { value, span, path } in &parsed.scaling.externals {
            known(root, "metric", &metrics, &value.0, span, path);
        }
        check_template(root, world, parsed);
        check_steps(root, world, parsed, &alarms);
    }
    check_circles(root, world.alarms);
}

pub(super) fn known(root: &Table<'_>, what: &str, names: &[&str], name: &str, span: &std::ops::Range<usize>, path: &str) {
    if names.contains(&name) {
        return;
    }
    let built_in = crate::metric::Metric::BUILT_IN;
    let metric_words = || built_in.iter().map(|metric| metric.word()).filter(|_| what == "metric");
    let help = match nearest(name, names.iter().copied().chain(metric_words())) {
        Some(near) => format!("did you mean {near:?}?"),
        None if what == "metric" => {
            format!("the metrics are: {}", metric_words().chain(names.iter().copied()).collect::<Vec<_>>().join(", "))
        }
        None if names.is_empty() => format!("there is none yet: add [{what}.{name}]"),
        None => format!("there are: {}", names.iter().take(10).copied().collect::<Vec<_>>().join(", ")),
    };
    root.report(Problem::new(span.clone(), path, format!("there is no {what} {name:?}")).help(help).needs_whole_file());
}

/// An alarm that scales needs a pool that can be scaled.
fn check_scaled_pool(root: &Table<'_>, world: &World<'_>, alarm: &ParsedAlarm) {
    let (Some(span), Some(Placed { value: AlarmScope::Pool(name), .. })) = (&alarm.scale, &alarm.scope) else { return };
    if world.pools.iter().any(|parsed| parsed.pool.name == *name && parsed.scaling.template.is_none()) {
        let problem = Problem::new(span.clone(), format!("{}.scale", alarm.path), format!("pool {name} cannot be scaled"));
        root.report(problem.help(format!("add `template` and `max` under [pool.{name}.scaling]")).needs_whole_file());
    }
}

fn check_template(root: &Table<'_>, world: &World<'_>, parsed: &ParsedPool) {
    let Some(Placed { value, span, path }) = &parsed.scaling.template else { return };
    let names: Vec<&str> = world.templates.iter().filter_map(|template| Some(&*template.template.as_ref()?.name.0)).collect();
    // One whose table is wrong has been reported.
    if world.templates.iter().any(|template| template.template.is_none()) && !names.contains(&&*value.0) {
        return;
    }
    known(root, "template", &names, &value.0, span, path);
    let template = world.templates.iter().filter_map(|parsed| parsed.template.as_ref()).find(|template| template.name == *value);
    if template.is_some_and(|template| template.port.is_none()) {
        let problem = Problem::new(span.clone(), path, format!("template {value} does not say on which port its machines serve"));
        root.report(problem.help(format!("add `port = 8080` under [template.{value}]")).needs_whole_file());
    }
}

/// Steps begin at the threshold of their alarm and reach to where the metric may go.
fn check_steps(root: &Table<'_>, world: &World<'_>, parsed: &ParsedPool, alarms: &[&str]) {
    for Placed { value, span, path } in &parsed.scaling.alarms {
        known(root, "alarm", alarms, &value.0, span, path);
        let Some(alarm) = world.alarms.iter().find(|alarm| alarm.name == *value).and_then(|parsed| parsed.alarm.as_ref()) else { continue };
        let Condition::Threshold(threshold) = &alarm.condition else {
            let problem = Problem::new(span.clone(), path, format!("alarm {value} has no threshold to be beyond of"));
            root.report(problem.help(format!("use `scale` under [alarm.{value}], or an alarm with a metric")).needs_whole_file());
            continue;
        };
        let steps = parsed.pool.scaling.iter().flat_map(|scaling| &scaling.steps).find(|step| step.alarm == *value);
        let Some(adjust) = steps.map(|steps| &steps.adjust).filter(|adjust| !adjust.is_empty()) else { continue };
        let (first, last) = (&adjust[0], &adjust[adjust.len() - 1]);
        let reaches = match threshold.comparison {
            Comparison::Above => last.to.is_none() && first.from.is_none_or(|from| from <= 0.0),
            Comparison::Below => first.from.is_none() && last.to.is_none_or(|to| to >= 0.0),
        };
        if !reaches {
            let (side, open) = match threshold.comparison {
                Comparison::Above => ("above", "let the first begin `from = 0.0` and the last have no `to`"),
                Comparison::Below => ("below", "let the last end `to = 0.0` and the first have no `from`"),
            };
            let message = format!("the steps leave out values {side} the threshold of alarm {value}");
            root.report(Problem::new(span.clone(), path, message).help(open).needs_whole_file());
        }
    }
}

/// An alarm that hangs on itself would have no state.
fn check_circles(root: &Table<'_>, alarms: &[ParsedAlarm]) {
    let by_name: BTreeMap<&AlarmName, &ParsedAlarm> = alarms.iter().map(|alarm| (&alarm.name, alarm)).collect();
    let mut done: BTreeSet<&AlarmName> = BTreeSet::new();
    for alarm in alarms {
        let mut seen: BTreeSet<&AlarmName> = BTreeSet::new();
        let mut next: Vec<&AlarmName> = alarm.alarms.iter().map(|mention| &mention.value).collect();
        while let Some(name) = next.pop() {
            if *name == alarm.name {
                let problem = Problem::new(alarm.span.clone(), &alarm.path, format!("alarm {name} hangs on itself"));
                root.report(problem.help("follow `when` and `suppressor`, and take it out of the circle").needs_whole_file());
                break;
            }
            if !done.contains(name) && seen.insert(name) {
                next.extend(by_name.get(name).into_iter().flat_map(|alarm| &alarm.alarms).map(|mention| &mention.value));
            }
        }
        done.insert(&alarm.name);
    }
}
