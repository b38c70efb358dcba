//! Metrics of listeners that carry datagrams. Their flows are in `weir_listener_connections_*` too, as far as they are like connections.

use std::sync::atomic::AtomicU64;

use weir_lb::status::ListenerStatus;
use weir_lb::udp::{Closed, Dropped, UdpShard};

use super::{Family, Kind, Prepared, Samples};

/// The listeners that carry datagrams, with their labels.
fn each(prepared: &Prepared<'_>, mut tell: impl FnMut(&str, &ListenerStatus)) {
    for (labels, listener) in prepared.listeners.iter().filter(|(_, listener)| listener.protocol == "udp") {
        tell(labels, listener);
    }
}

fn sum(listener: &ListenerStatus, counter: impl Fn(&UdpShard) -> &AtomicU64) -> u64 {
    listener.stats.sum(|shard| counter(&shard.udp))
}

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "weir_udp_flows_open",
        kind: Kind::Gauge,
        unit: "flows",
        labels: "listener",
        help: "Flows open now.",
        samples: |p, s: &mut Samples<'_>| each(p, |labels, listener| s.with(labels, listener.stats.sum(|shard| &shard.open))),
    },
    Family {
        name: "weir_udp_flows_total",
        kind: Kind::Counter,
        unit: "flows",
        labels: "listener",
        help: "Flows begun.",
        samples: |p, s: &mut Samples<'_>| each(p, |labels, listener| s.with(labels, sum(listener, |udp| &udp.flows))),
    },
    Family {
        name: "weir_udp_flows_ended_total",
        kind: Kind::Counter,
        unit: "flows",
        labels: "listener, cause",
        help: "Flows ended: idle, evicted (to make room), left (the endpoint or the listener is going), refused (by the endpoint) or cut (at the end of a drain).",
        samples: |p, s: &mut Samples<'_>| {
            each(p, |labels, listener| {
                for closed in Closed::ALL {
                    s.with_more(labels, "cause", closed.word(), sum(listener, |udp| &udp.ended[closed as usize]));
                }
            });
        },
    },
    Family {
        name: "weir_udp_datagrams_total",
        kind: Kind::Counter,
        unit: "datagrams",
        labels: "listener, way",
        help: "Datagrams received from clients and sent to endpoints, received from endpoints and sent to clients.",
        samples: |p, s: &mut Samples<'_>| {
            each(p, |labels, listener| {
                let ways: [(&str, Counter); 4] = [
                    ("from-client", |udp| &udp.from_clients),
                    ("to-endpoint", |udp| &udp.to_endpoints),
                    ("from-endpoint", |udp| &udp.from_endpoints),
                    ("to-client", |udp| &udp.to_clients),
                ];
                for (way, counter) in ways {
                    s.with_more(labels, "way", way, sum(listener, counter));
                }
            });
        },
    },
    Family {
        name: "weir_udp_datagrams_dropped_total",
        kind: Kind::Counter,
        unit: "datagrams",
        labels: "listener, cause",
        help: "Datagrams not passed on. receive-buffer: the kernel had no room for them, as read about once a second under traffic.",
        samples: |p, s: &mut Samples<'_>| {
            each(p, |labels, listener| {
                for dropped in Dropped::ALL {
                    s.with_more(labels, "cause", dropped.word(), sum(listener, |udp| &udp.dropped[dropped as usize]));
                }
            });
        },
    },
];

/// A counter of a worker's share.
type Counter = fn(&UdpShard) -> &AtomicU64;
