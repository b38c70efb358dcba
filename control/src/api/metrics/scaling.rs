//! Metrics of alarms and scaling.

use std::fmt::Display;

use super::{Family, Kind, Prepared, Samples, label};
use crate::api::model::{AlarmItem, ScalingItem};
use crate::scaling::state_number;

fn each_alarm<T: Display>(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&AlarmItem) -> T) {
    for alarm in prepared.source.alarms {
        samples.with(&format!("{},{}", label("alarm", &alarm.name), label("severity", &alarm.severity)), value(alarm));
    }
}

fn each_pool<T: Display>(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&ScalingItem) -> T) {
    for pool in prepared.source.scaling {
        samples.with(&label("pool", &pool.pool), value(pool));
    }
}

const fn alarm(name: &'static str, unit: &'static str, help: &'static str, samples: fn(&Prepared<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: "alarm, severity", help, samples }
}

const fn pool(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    samples: fn(&Prepared<'_>, &mut Samples<'_>),
) -> Family {
    Family { name, kind, unit, labels: "pool", help, samples }
}

pub(super) const FAMILIES: &[Family] = &[
    alarm("weir_alarm_state", "0, 1 or 2", "What the alarm is: 0 ok, 1 alarm, 2 insufficient data.", |p, s| {
        each_alarm(p, s, |alarm| state_number(&alarm.state));
    }),
    alarm("weir_alarm_engaged", "0 or 1", "Whether something is done about it: in alarm, and neither muted nor suppressed.", |p, s| {
        each_alarm(p, s, |alarm| u8::from(alarm.engaged));
    }),
    alarm("weir_alarm_acknowledged", "0 or 1", "Whether somebody has said that they look after it.", |p, s| {
        each_alarm(p, s, |alarm| u8::from(alarm.acknowledged.is_some()));
    }),
    alarm("weir_alarm_since_timestamp_seconds", "seconds", "Since when it is in its state, since the Unix epoch.", |p, s| {
        each_alarm(p, s, |alarm| alarm.since);
    }),
    pool("weir_scaling_leader", Kind::Gauge, "0 or 1", "Whether this node is the one that acts.", |p, s| {
        each_pool(p, s, |pool| u8::from(pool.leads));
    }),
    pool("weir_scaling_paused", Kind::Gauge, "0 or 1", "Whether an operator has stopped it.", |p, s| {
        each_pool(p, s, |pool| u8::from(pool.paused));
    }),
    pool("weir_scaling_desired_machines", Kind::Gauge, "machines", "Machines that are wanted.", |p, s| {
        each_pool(p, s, |pool| pool.desired)
    }),
    pool("weir_scaling_min_machines", Kind::Gauge, "machines", "Never fewer, now.", |p, s| each_pool(p, s, |pool| pool.min)),
    pool("weir_scaling_max_machines", Kind::Gauge, "machines", "Never more, now.", |p, s| each_pool(p, s, |pool| pool.max)),
    pool("weir_scaling_serving_machines", Kind::Gauge, "machines", "Machines that serve.", |p, s| each_pool(p, s, |pool| pool.serving)),
    pool("weir_scaling_coming_machines", Kind::Gauge, "machines", "Machines on their way.", |p, s| each_pool(p, s, |pool| pool.coming)),
    pool("weir_scaling_going_machines", Kind::Gauge, "machines", "Machines on their way out.", |p, s| each_pool(p, s, |pool| pool.going)),
    pool("weir_scaling_unhealthy_machines", Kind::Gauge, "machines", "Machines that are ill or whose host does not answer.", |p, s| {
        each_pool(p, s, |pool| pool.unhealthy);
    }),
    pool("weir_scaling_refusals", Kind::Gauge, "1", "Things that are wanted and cannot be, as weir scaling show says.", |p, s| {
        each_pool(p, s, |pool| pool.refusals.len());
    }),
    pool("weir_scaling_launches_total", Kind::Counter, "machines", "Machines that were made or thawed.", |p, s| {
        each_pool(p, s, |pool| pool.launches_total);
    }),
    pool("weir_scaling_launch_failures_total", Kind::Counter, "launches", "Launches that failed.", |p, s| {
        each_pool(p, s, |pool| pool.launch_failures_total);
    }),
    pool("weir_scaling_removals_total", Kind::Counter, "machines", "Machines that were removed.", |p, s| {
        each_pool(p, s, |pool| pool.removals_total);
    }),
];
