//! Metrics of what is kept.

use weir_history::service::Stats;

use super::{Family, Kind, Prepared, Samples};

fn one(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&Stats) -> u64) {
    if let Some(stats) = prepared.source.history {
        samples.one(value(stats));
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    samples: fn(&Prepared<'_>, &mut Samples<'_>),
) -> Family {
    Family { name, kind, unit, labels: "", help, samples }
}

pub(super) const FAMILIES: &[Family] = &[
    family(
        "weir_history_failing",
        Kind::Gauge,
        "0 or 1",
        "Whether what happens is kept in memory alone: the file cannot be used.",
        |p, s| {
            one(p, s, |stats| u64::from(stats.fault.is_some()));
        },
    ),
    family("weir_history_used_bytes", Kind::Gauge, "bytes", "What the file holds, of at most [history] size_max.", |p, s| {
        one(p, s, |stats| stats.used_bytes);
    }),
    family("weir_history_written_total", Kind::Counter, "records", "Records that were written.", |p, s| one(p, s, |stats| stats.written)),
    family("weir_history_waiting", Kind::Gauge, "records", "Records in memory that wait until the file can be used.", |p, s| {
        one(p, s, |stats| stats.waiting);
    }),
    family("weir_history_lost_total", Kind::Counter, "records", "Records that found no place.", |p, s| one(p, s, |stats| stats.lost)),
    family("weir_audit_records", Kind::Gauge, "records", "Number of the last record of the audit.", |p, s| {
        one(p, s, |stats| stats.head.number)
    }),
];
