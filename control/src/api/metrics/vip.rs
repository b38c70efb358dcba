//! Metrics of virtual IPs: one series per virtual router.

use std::fmt::Display;

use weir_vrrp::machine::{StateKind, Status};

use super::{Family, Kind, Prepared, Samples, label};

/// The labels of a virtual router.
fn labels(router: &Status) -> String {
    format!("{},{}", label("vip", &router.config.name), label("family", router.config.family.word()))
}

fn each<T: Display>(prepared: &Prepared<'_>, samples: &mut Samples<'_>, value: impl Fn(&Status) -> T) {
    for router in prepared.source.vips.iter().map(|router| &router.machine) {
        samples.with(&labels(router), value(router));
    }
}

const LABELS: &str = "vip, family";

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, samples: fn(&Prepared<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: LABELS, help, samples }
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str, samples: fn(&Prepared<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Counter, unit, labels: LABELS, help, samples }
}

pub(super) const FAMILIES: &[Family] = &[
    gauge("weir_vip_master", "0 or 1", "Whether this node is master.", |p, s| {
        each(p, s, |router| u8::from(router.state == StateKind::Master));
    }),
    gauge("weir_vip_eligible", "0 or 1", "Whether this node may be master.", |p, s| {
        each(p, s, |router| u8::from(router.eligible.is_ok()));
    }),
    gauge("weir_vip_priority", "1", "The priority of this node with what tracking changed.", |p, s| {
        each(p, s, |router| router.priority.0);
    }),
    gauge("weir_vip_peers", "nodes", "Other weir nodes that were heard of.", |p, s| each(p, s, |router| router.peers.len())),
    gauge("weir_vip_peers_differing", "nodes", "Of these, how many serve by another file than this node.", |p, s| {
        each(p, s, |router| router.peers.iter().filter(|peer| peer.differs_since.is_some()).count());
    }),
    counter("weir_vip_master_transitions_total", "1", "Times this node became master.", |p, s| {
        each(p, s, |router| router.counters.master_transitions);
    }),
    counter("weir_vip_advertisements_sent_total", "advertisements", "Advertisements sent.", |p, s| {
        each(p, s, |router| router.counters.advertisement_sent);
    }),
    counter("weir_vip_advertisements_received_total", "advertisements", "Advertisements of others that were valid.", |p, s| {
        each(p, s, |router| router.counters.advertisement_rcvd);
    }),
    Family {
        name: "weir_vip_packets_discarded_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: "vip, family, reason",
        help: "Packets that were received and discarded.",
        samples: |p, s| {
            for router in p.source.vips.iter().map(|router| &router.machine) {
                for (reason, count) in &router.counters.discarded {
                    s.with_more(&labels(router), "reason", reason, count);
                }
            }
        },
    },
    counter("weir_vip_conflicts_won_total", "1", "Other masters that were heard and must give way.", |p, s| {
        each(p, s, |router| router.counters.conflicts_won);
    }),
    counter("weir_vip_interval_mismatches_total", "advertisements", "Advertisements received with another interval than ours.", |p, s| {
        each(p, s, |router| router.counters.interval_errors);
    }),
    counter("weir_vip_address_mismatches_total", "advertisements", "Advertisements received with other addresses than ours.", |p, s| {
        each(p, s, |router| router.counters.address_list_errors);
    }),
    counter("weir_vip_stalls_total", "1", "Times this process did not run for longer than the backups wait.", |p, s| {
        each(p, s, |router| router.counters.stalls);
    }),
    counter("weir_vip_advertisements_late_total", "advertisements", "Advertisements that left more than half an interval late.", |p, s| {
        each(p, s, |router| router.counters.late);
    }),
    counter("weir_vip_handovers_total", "1", "Handovers to another weir node that succeeded.", |p, s| {
        each(p, s, |router| router.counters.handovers);
    }),
];
