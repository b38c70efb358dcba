//! Metrics of healing.

use super::{Family, Kind, Prepared, Samples, label};
use crate::recovery::RecoveryStats;

fn each(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&RecoveryStats) -> usize) {
    for stats in prepared.source.recovery {
        samples.with(&label("recovery", &stats.name), value(stats));
    }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, samples: fn(&Prepared<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: "recovery", help, samples }
}

pub(super) const FAMILIES: &[Family] = &[
    gauge("weir_recovery_things", "1", "Endpoints, machines or alarms that the recovery heals.", |p, s| each(p, s, |r| r.things)),
    gauge("weir_recovery_ill", "1", "Of these, ill now.", |p, s| each(p, s, |r| r.ill)),
    gauge("weir_recovery_stopped", "0 or 1", "Whether an operator has stopped it.", |p, s| each(p, s, |r| usize::from(r.stopped))),
    Family {
        name: "weir_recovery_cases",
        kind: Kind::Gauge,
        unit: "1",
        labels: "recovery, stage",
        help: "Things that are ill or were a moment ago, by what is done about them.",
        samples: |p, s| {
            for stats in p.source.recovery {
                for (stage, count) in &stats.cases {
                    s.with(&format!("{},{}", label("recovery", &stats.name), label("stage", stage)), count);
                }
            }
        },
    },
    Family {
        name: "weir_recovery_attempts_total",
        kind: Kind::Counter,
        unit: "attempts",
        labels: "recovery, outcome",
        help: "Attempts that are over, by what came of them.",
        samples: |p, s| {
            for stats in p.source.recovery {
                for (outcome, count) in &stats.attempts {
                    s.with(&format!("{},{}", label("recovery", &stats.name), label("outcome", outcome)), count);
                }
            }
        },
    },
];
