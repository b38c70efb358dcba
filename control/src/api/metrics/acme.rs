//! Metrics of certificates that are ordered.

use super::{Family, Kind, label};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "weir_acme_orders_total",
        kind: Kind::Counter,
        unit: "orders",
        labels: "authority, result",
        help: "Orders of certificates that are over: issued, or failed.",
        samples: |p, s| {
            for (authority, counts) in &p.source.orders.counts {
                for (result, count) in ["issued", "failed"].iter().zip(counts) {
                    s.with(&format!("{},{}", label("authority", &authority.0), label("result", result)), count);
                }
            }
        },
    },
    Family {
        name: "weir_acme_certificate_due_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: "authority, name",
        help: "When the certificate with this first name is renewed; 0 while there is none.",
        samples: |p, s| {
            for (authority, name, due_s, _) in &p.source.orders.certificates {
                s.with(&format!("{},{}", label("authority", &authority.0), label("name", name)), due_s);
            }
        },
    },
    Family {
        name: "weir_acme_certificate_failures",
        kind: Kind::Gauge,
        unit: "orders",
        labels: "authority, name",
        help: "Orders of the certificate with this first name that failed since the last one that did not.",
        samples: |p, s| {
            for (authority, name, _, failures) in &p.source.orders.certificates {
                s.with(&format!("{},{}", label("authority", &authority.0), label("name", name)), failures);
            }
        },
    },
    Family {
        name: "weir_acme_challenges_answered_total",
        kind: Kind::Counter,
        unit: "challenges",
        labels: "challenge",
        help: "Challenges of authorities that were answered, also for other nodes with the same account.",
        samples: |p, s| {
            for (challenge, count) in ["http-01", "tls-alpn-01"].iter().zip(p.source.orders.answered) {
                s.with(&label("challenge", challenge), count);
            }
        },
    },
];
