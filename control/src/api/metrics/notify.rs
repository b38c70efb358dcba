//! Metrics of telling people.

use weir_notify::service::ChannelStats;

use super::{Family, Kind, Prepared, Samples, label};

fn each(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&ChannelStats) -> f64) {
    for (channel, stats) in &prepared.source.notify.channels {
        samples.with(&label("channel", channel), value(stats));
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    samples: fn(&Prepared<'_>, &mut Samples<'_>),
) -> Family {
    Family { name, kind, unit, labels: "channel", help, samples }
}

pub(super) const FAMILIES: &[Family] = &[
    family("weir_notify_delivered_total", Kind::Counter, "messages", "Messages that the channel took.", |p, s| {
        each(p, s, |c| c.delivered as f64)
    }),
    family("weir_notify_faults_total", Kind::Counter, "attempts", "Attempts at delivery that failed.", |p, s| {
        each(p, s, |c| c.faults as f64)
    }),
    family("weir_notify_waiting", Kind::Gauge, "messages", "Messages that wait to be delivered.", |p, s| each(p, s, |c| c.waiting as f64)),
    family("weir_notify_dead", Kind::Gauge, "messages", "Messages that were given up and are kept.", |p, s| each(p, s, |c| c.dead as f64)),
    family("weir_notify_failing", Kind::Gauge, "0 or 1", "Whether the channel fails.", |p, s| {
        each(p, s, |c| f64::from(u8::from(c.failing)))
    }),
    family("weir_notify_delivery_seconds_total", Kind::Counter, "seconds", "Time that attempts at delivery took.", |p, s| {
        each(p, s, |c| c.delivery_ms as f64 / 1000.0);
    }),
    Family {
        name: "weir_notify_incidents",
        kind: Kind::Gauge,
        unit: "incidents",
        labels: "severity",
        help: "Incidents that are not over.",
        samples: |p, s| {
            for (severity, count) in &p.source.notify.incidents {
                s.with(&label("severity", severity), count);
            }
        },
    },
    Family {
        name: "weir_notify_dropped_total",
        kind: Kind::Counter,
        unit: "1",
        labels: "",
        help: "Alarms and messages left out because there were too many.",
        samples: |p, s| s.one(p.source.notify.dropped),
    },
];
