//! `/metrics`: the Prometheus text format, version 0.0.4.
//!
//! One table, [`FAMILIES`], says what there is: it renders the metrics and `docs/metrics.md`. Label values come from the file, or from
//! lists fixed here; a client can add no series.

mod acme;
mod history;
mod machines;
mod notify;
mod recovery;
mod scaling;
mod udp;
mod vip;

use std::fmt::{Display, Write};

use weir_hypervisor::{HostView, Hypervisor, MachineView, TemplateView};
use weir_lb::cause::Cause;
use weir_lb::h2::flood::Flood;
use weir_lb::histogram::Distribution;
use weir_lb::shell::DrainProgress;
use weir_lb::stats::Handshake;
use weir_lb::status::{EndpointStatus, ListenerStatus, PoolStatus, Status};
use weir_lb::tls::{CertificateStatus, ShownCertificate};

use super::model::{AlarmItem, ScalingItem};
use super::view::{CODE_CLASSES, unix_seconds};
use crate::node::NodeInfo;

/// What `/metrics` answers with.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the latency buckets in microseconds, with their labels in seconds.
const LATENCY_BUCKETS: [(u64, &str); 16] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

/// What the process uses. `None`: the kernel did not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUse {
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}

impl ProcessUse {
    /// Asks the kernel.
    pub(crate) fn read() -> ProcessUse {
        let resident_kib = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
            status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        // Since Linux 6.2 the folder's size is the count; before, it is 0 and the entries must be counted.
        let fds = std::fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|count| *count > 0);
        let open_fds = fds.or_else(|| std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64));
        ProcessUse { resident_bytes: resident_kib.map(|kib| kib * 1024), open_fds }
    }
}

/// What the metrics are made of.
pub(crate) struct Source<'a> {
    /// The process.
    pub info: &'a NodeInfo,
    /// The data plane.
    pub status: &'a Status,
    /// What is open.
    pub drain: DrainProgress,
    /// The virtual routers.
    pub vips: &'a [weir_vrrp::shell::RouterStatus],
    /// Hosts, machines and templates.
    pub machines: &'a dyn Hypervisor,
    /// Lines of the access log that were dropped.
    pub access_log_dropped: u64,
    /// Certificates that are shown to endpoints.
    pub shown_certificates: &'a [ShownCertificate],
    /// Certificates in use.
    pub certificates: &'a [CertificateStatus],
    /// The alarms.
    pub alarms: &'a [AlarmItem],
    /// The pools that are scaled.
    pub scaling: &'a [ScalingItem],
    /// Certificates that are ordered.
    pub orders: &'a crate::acme::OrderStats,
    /// What is kept; `None`: nothing.
    pub history: Option<&'a weir_history::service::Stats>,
    /// Telling people.
    pub notify: &'a weir_notify::service::Stats,
    /// Healing.
    pub recovery: &'a [crate::recovery::RecoveryStats],
    /// Memory and descriptors.
    pub process: ProcessUse,
}

/// All metrics as text.
pub(crate) fn render(source: &Source<'_>) -> String {
    let prepared = Prepared::new(source);
    // Ten families of some ninety bytes for each endpoint.
    let endpoints: usize = source.status.pools.iter().map(|pool| pool.endpoints.len()).sum();
    let mut out = String::with_capacity(16 * 1024 + endpoints * 1000 + source.status.pools.len() * 3000);
    for family in families() {
        let kind = family.kind.word();
        push(&mut out, format_args!("# HELP {} {}\n# TYPE {} {kind}\n", family.name, family.help, family.name));
        (family.samples)(&prepared, &mut Samples { name: family.name, out: &mut out });
    }
    out
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric with all its series.
struct Family {
    name: &'static str,
    kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "only the document shows it"))]
    unit: &'static str,
    /// For the document; `samples` writes them.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the document shows it"))]
    labels: &'static str,
    help: &'static str,
    samples: fn(&Prepared<'_>, &mut Samples<'_>),
}

/// The source with what several families need, made once.
struct Prepared<'a> {
    source: &'a Source<'a>,
    /// Each listener with its labels.
    listeners: Vec<(String, &'a ListenerStatus)>,
    /// Each pool with its labels and latencies.
    pools: Vec<(String, &'a PoolStatus, Distribution)>,
    /// Each endpoint with its labels.
    endpoints: Vec<(String, &'a EndpointStatus)>,
    /// Each host with its label.
    hosts: Vec<(String, HostView)>,
    /// Each machine of ours with its labels.
    machines: Vec<(String, MachineView)>,
    /// Each template with its label.
    templates: Vec<(String, TemplateView)>,
}

impl<'a> Prepared<'a> {
    fn new(source: &'a Source<'a>) -> Prepared<'a> {
        let status = source.status;
        let pools: Vec<_> = status.pools.iter().map(|pool| (label("pool", &pool.name), pool, pool.stats.latency())).collect();
        let endpoints = pools
            .iter()
            .flat_map(|(labels, pool, _)| pool.endpoints.iter().map(move |e| (format!("{labels},{}", label("endpoint", &e.address)), e)))
            .collect();
        Prepared {
            source,
            listeners: status.listeners.iter().map(|l| (label("listener", &l.name), l)).collect(),
            pools,
            endpoints,
            hosts: source.machines.hosts().into_iter().map(|host| (label("host", &host.name), host)).collect(),
            machines: source.machines.machines().into_iter().filter_map(machines::labelled).collect(),
            templates: source.machines.templates().into_iter().map(|template| (label("template", &template.name), template)).collect(),
        }
    }
}

/// Writes the samples of one family.
struct Samples<'a> {
    name: &'static str,
    out: &'a mut String,
}

impl Samples<'_> {
    /// A series without labels.
    fn one(&mut self, value: impl Display) {
        push(self.out, format_args!("{} {value}\n", self.name));
    }

    fn with(&mut self, labels: &str, value: impl Display) {
        push(self.out, format_args!("{}{{{labels}}} {value}\n", self.name));
    }

    fn with_more(&mut self, labels: &str, key: &str, word: &str, value: impl Display) {
        push(self.out, format_args!("{}{{{labels},{key}=\"{word}\"}} {value}\n", self.name));
    }

    fn histogram(&mut self, labels: &str, latency: &Distribution) {
        let name = self.name;
        let count = latency.count();
        for (micros, le) in LATENCY_BUCKETS {
            // A bucket can never hold more than all of them.
            let below = latency.count_below(micros).min(count);
            push(self.out, format_args!("{name}_bucket{{{labels},le=\"{le}\"}} {below}\n"));
        }
        push(self.out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
        push(self.out, format_args!("{name}_sum{{{labels}}} {}\n", latency.sum() as f64 / 1e6));
        push(self.out, format_args!("{name}_count{{{labels}}} {count}\n"));
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

/// `key="value"`, the value escaped.
fn label(key: &str, value: &str) -> String {
    let mut out = String::with_capacity(key.len() + value.len() + 4);
    out.push_str(key);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A family with one series per listener.
macro_rules! per_listener {
    ($value:expr) => {
        |p, s| {
            let value: fn(&ListenerStatus) -> u64 = $value;
            for (labels, listener) in &p.listeners {
                s.with(labels, value(listener));
            }
        }
    };
}

/// A family with one series per pool.
macro_rules! per_pool {
    ($value:expr) => {
        |p, s| {
            let value: fn(&PoolStatus) -> u64 = $value;
            for (labels, pool, _) in &p.pools {
                s.with(labels, value(pool));
            }
        }
    };
}

/// A family with one series per endpoint.
macro_rules! per_endpoint {
    ($value:expr) => {
        |p, s| {
            let value: fn(&EndpointStatus) -> u64 = $value;
            for (labels, endpoint) in &p.endpoints {
                s.with(labels, value(endpoint));
            }
        }
    };
}

/// Everything there is, in the order in which it is written.
fn families() -> impl Iterator<Item = &'static Family> {
    let machines =
        machines::FAMILIES.iter().chain(scaling::FAMILIES).chain(history::FAMILIES).chain(notify::FAMILIES).chain(recovery::FAMILIES);
    FAMILIES.iter().chain(udp::FAMILIES).chain(vip::FAMILIES).chain(acme::FAMILIES).chain(machines)
}

/// Node and data plane.
const FAMILIES: &[Family] = &[
    Family {
        name: "weir_build_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: "version",
        help: "The version of the program.",
        samples: |p, s| s.with(&label("version", p.source.info.version), 1),
    },
    Family {
        name: "weir_start_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: "",
        help: "When the process started, since the Unix epoch.",
        samples: |p, s| s.one(unix_seconds(p.source.info.started_at)),
    },
    Family {
        name: "weir_ready",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "",
        help: "Whether the node serves and does not drain.",
        samples: |p, s| s.one(u8::from(p.source.info.ready && !p.source.info.draining)),
    },
    Family {
        name: "weir_draining",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "",
        help: "Whether a stop or an upgrade is under way.",
        samples: |p, s| s.one(u8::from(p.source.info.draining)),
    },
    Family {
        name: "weir_connections_open",
        kind: Kind::Gauge,
        unit: "connections",
        labels: "",
        help: "Client connections open, idle ones included.",
        samples: |p, s| s.one(p.source.drain.connections),
    },
    Family {
        name: "weir_in_flight",
        kind: Kind::Gauge,
        unit: "requests",
        labels: "",
        help: "Requests and sessions under way.",
        samples: |p, s| s.one(p.source.drain.in_flight),
    },
    Family {
        name: "weir_config_revision",
        kind: Kind::Gauge,
        unit: "1",
        labels: "",
        help: "Grows with each change of the configuration in effect.",
        samples: |p, s| s.one(p.source.info.revision),
    },
    Family {
        name: "weir_config_last_reload_success",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "",
        help: "Whether the last reload took effect; 0 means that the old configuration is still running.",
        samples: |p, s| s.one(u8::from(!matches!(p.source.info.last_reload, Some((_, Err(_)))))),
    },
    Family {
        name: "weir_config_last_reload_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: "",
        help: "When the file last took effect or was refused, since the Unix epoch.",
        samples: |p, s| {
            if let Some((at, _)) = &p.source.info.last_reload {
                s.one(unix_seconds(*at));
            }
        },
    },
    Family {
        name: "weir_process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: "",
        help: "Resident memory of the process.",
        samples: |p, s| {
            if let Some(bytes) = p.source.process.resident_bytes {
                s.one(bytes);
            }
        },
    },
    Family {
        name: "weir_process_open_fds",
        kind: Kind::Gauge,
        unit: "descriptors",
        labels: "",
        help: "File descriptors the process has open.",
        samples: |p, s| {
            if let Some(count) = p.source.process.open_fds {
                s.one(count);
            }
        },
    },
    Family {
        name: "weir_access_log_dropped_total",
        kind: Kind::Counter,
        unit: "lines",
        labels: "",
        help: "Lines of the access log that were dropped because they could not be written fast enough.",
        samples: |p, s| s.one(p.source.access_log_dropped),
    },
    Family {
        name: "weir_listener_connections_open",
        kind: Kind::Gauge,
        unit: "connections",
        labels: "listener",
        help: "Client connections open now.",
        samples: per_listener!(|l| l.stats.sum(|shard| &shard.open)),
    },
    Family {
        name: "weir_listener_connections_total",
        kind: Kind::Counter,
        unit: "connections",
        labels: "listener",
        help: "Client connections accepted.",
        samples: per_listener!(|l| l.stats.sum(|shard| &shard.accepted)),
    },
    Family {
        name: "weir_listener_requests_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "listener, cause",
        help: "Requests and sessions ended, by why they ended.",
        samples: |p, s| {
            for (labels, listener) in &p.listeners {
                for cause in Cause::ALL {
                    s.with_more(labels, "cause", cause.word(), listener.stats.sum(|shard| &shard.ended[cause as usize]));
                }
            }
        },
    },
    Family {
        name: "weir_route_requests_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "listener, route",
        help: "Requests that a route took; without a name it goes by its number from 1.",
        samples: |p, s| {
            for (labels, listener) in &p.listeners {
                for route in &listener.routes {
                    s.with(&format!("{labels},{}", label("route", route.label())), route.taken());
                }
            }
        },
    },
    Family {
        name: "weir_listener_responses_total",
        kind: Kind::Counter,
        unit: "responses",
        labels: "listener, code",
        help: "Responses sent to clients, by the class of their status.",
        samples: |p, s| {
            for (labels, listener) in &p.listeners {
                for (i, class) in CODE_CLASSES.iter().enumerate() {
                    s.with_more(labels, "code", class, listener.stats.sum(|shard| &shard.responses[i]));
                }
            }
        },
    },
    Family {
        name: "weir_listener_tls_handshakes_total",
        kind: Kind::Counter,
        unit: "handshakes",
        labels: "listener, result",
        help: "TLS handshakes ended: full, resumed, failed, timed-out, or refused because too many were under way.",
        samples: |p, s| {
            for (labels, listener) in &p.listeners {
                for how in Handshake::ALL {
                    s.with_more(labels, "result", how.word(), listener.stats.sum(|shard| &shard.handshakes[how as usize]));
                }
            }
        },
    },
    Family {
        name: "weir_listener_http2_given_up_total",
        kind: Kind::Counter,
        unit: "connections",
        labels: "listener, reason",
        help: "Connections over HTTP/2 that were ended for what the client did: floods of resets, continuations, settings, pings, priorities \
               or empty-data, frames against the protocol, or nothing taken for too long (stalled).",
        samples: |p, s| {
            for (labels, listener) in &p.listeners {
                for flood in Flood::ALL {
                    s.with_more(labels, "reason", flood.word(), listener.stats.sum(|shard| &shard.http2_given_up[flood as usize]));
                }
            }
        },
    },
    Family {
        name: "weir_tls_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: "listener, file",
        help: "When a certificate in use is over.",
        samples: |p, s| {
            for certificate in p.source.certificates {
                let file = label("file", &certificate.file.to_string_lossy());
                s.with(&format!("{},{file}", label("listener", &certificate.listener.0)), certificate.not_after_s);
            }
        },
    },
    Family {
        name: "weir_pool_tls_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: "pool, file",
        help: "When a certificate that is shown to endpoints is over.",
        samples: |p, s| {
            for (pool, file, not_after_s) in p.source.shown_certificates {
                s.with(&format!("{},{}", label("pool", &pool.0), label("file", &file.to_string_lossy())), not_after_s);
            }
        },
    },
    Family {
        name: "weir_listener_received_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: "listener",
        help: "Bytes read from clients.",
        samples: per_listener!(|l| l.stats.sum(|shard| &shard.received_bytes)),
    },
    Family {
        name: "weir_listener_sent_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: "listener",
        help: "Bytes written to clients.",
        samples: per_listener!(|l| l.stats.sum(|shard| &shard.sent_bytes)),
    },
    Family {
        name: "weir_pool_requests_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool",
        help: "Requests and sessions given to the pool.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.requests)),
    },
    Family {
        name: "weir_pool_failures_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool",
        help: "Of these, ended for the fault of an endpoint.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.failures)),
    },
    Family {
        name: "weir_pool_retries_total",
        kind: Kind::Counter,
        unit: "attempts",
        labels: "pool",
        help: "Further attempts after the first.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.retries)),
    },
    Family {
        name: "weir_pool_retries_refused_total",
        kind: Kind::Counter,
        unit: "attempts",
        labels: "pool",
        help: "Further attempts that were not made, as the retry budget or the breaker did not allow them.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.retries_refused)),
    },
    Family {
        name: "weir_pool_mirrored_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool",
        help: "Requests of other pools that this one got too.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.mirrored)),
    },
    Family {
        name: "weir_pool_mirrors_lost_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool",
        help: "Of these, not answered, or not sent as the pool did not keep up.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.mirrors_lost)),
    },
    Family {
        name: "weir_pool_queued_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool",
        help: "Requests that had to wait for an endpoint.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.queued)),
    },
    Family {
        name: "weir_pool_reused_total",
        kind: Kind::Counter,
        unit: "connections",
        labels: "pool",
        help: "Pooled connections used again.",
        samples: per_pool!(|p| p.stats.sum(|shard| &shard.reused)),
    },
    Family {
        name: "weir_pool_tls_handshakes_total",
        kind: Kind::Counter,
        unit: "handshakes",
        labels: "pool, result",
        help: "TLS handshakes with endpoints ended: full, resumed or failed. A pool without TLS has none.",
        samples: |p, s| {
            for (labels, pool, _) in p.pools.iter().filter(|(_, pool, _)| pool.tls) {
                for how in [Handshake::Full, Handshake::Resumed, Handshake::Failed] {
                    s.with_more(labels, "result", how.word(), pool.stats.sum(|shard| &shard.tls_handshakes[how as usize]));
                }
            }
        },
    },
    Family {
        name: "weir_pool_waiting",
        kind: Kind::Gauge,
        unit: "requests",
        labels: "pool",
        help: "Requests that wait for an endpoint now.",
        samples: per_pool!(|p| p.waiting.into()),
    },
    Family {
        name: "weir_pool_adaptive_limit",
        kind: Kind::Gauge,
        unit: "requests",
        labels: "pool",
        help: "Requests that the pool takes at once now, where that follows its latency.",
        samples: |p, s| {
            for pool in &p.source.status.pools {
                if let Some(limit) = pool.adaptive_limit {
                    s.with(&label("pool", &pool.name), limit);
                }
            }
        },
    },
    Family {
        name: "weir_pool_endpoints",
        kind: Kind::Gauge,
        unit: "endpoints",
        labels: "pool",
        help: "Endpoints of the pool.",
        samples: per_pool!(|p| p.endpoints.len() as u64),
    },
    Family {
        name: "weir_pool_healthy",
        kind: Kind::Gauge,
        unit: "endpoints",
        labels: "pool",
        help: "Healthy endpoints.",
        samples: per_pool!(|p| p.healthy.into()),
    },
    Family {
        name: "weir_pool_min_healthy",
        kind: Kind::Gauge,
        unit: "endpoints",
        labels: "pool",
        help: "The floor of healthy endpoints.",
        samples: per_pool!(|p| p.min_healthy.into()),
    },
    Family {
        name: "weir_pool_available",
        kind: Kind::Gauge,
        unit: "endpoints",
        labels: "pool",
        help: "Endpoints that may be picked now.",
        samples: per_pool!(|p| p.available.into()),
    },
    Family {
        name: "weir_pool_response_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: "pool, le",
        help: "From a request's head to the end of its response head.",
        samples: |p, s| {
            for (labels, _, latency) in &p.pools {
                s.histogram(labels, latency);
            }
        },
    },
    Family {
        name: "weir_endpoint_up",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "pool, endpoint",
        help: "Whether the endpoint is healthy; one without a health check counts as healthy.",
        samples: per_endpoint!(|e| u64::from(matches!(e.health, "healthy" | "unchecked"))),
    },
    Family {
        name: "weir_endpoint_enabled",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "pool, endpoint",
        help: "Whether the operator wants it to take work: 0 while draining or in maintenance.",
        samples: per_endpoint!(|e| u64::from(e.state == "ready")),
    },
    Family {
        name: "weir_endpoint_available",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "pool, endpoint",
        help: "Whether it may be picked now.",
        samples: per_endpoint!(|e| e.available.into()),
    },
    Family {
        name: "weir_endpoint_ejected",
        kind: Kind::Gauge,
        unit: "0 or 1",
        labels: "pool, endpoint",
        help: "Whether it is left out for failing requests.",
        samples: per_endpoint!(|e| e.ejected_s.is_some().into()),
    },
    Family {
        name: "weir_endpoint_weight",
        kind: Kind::Gauge,
        unit: "1",
        labels: "pool, endpoint",
        help: "Its share relative to the others.",
        samples: per_endpoint!(|e| e.weight.into()),
    },
    Family {
        name: "weir_endpoint_in_flight",
        kind: Kind::Gauge,
        unit: "requests",
        labels: "pool, endpoint",
        help: "Requests and sessions under way.",
        samples: per_endpoint!(|e| e.in_flight.into()),
    },
    Family {
        name: "weir_endpoint_idle_connections",
        kind: Kind::Gauge,
        unit: "connections",
        labels: "pool, endpoint",
        help: "Idle pooled connections.",
        samples: per_endpoint!(|e| e.idle.into()),
    },
    Family {
        name: "weir_endpoint_requests_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool, endpoint",
        help: "Requests and sessions sent to it.",
        samples: per_endpoint!(|e| e.requests_total),
    },
    Family {
        name: "weir_endpoint_failures_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: "pool, endpoint",
        help: "Of these, failed for its fault.",
        samples: per_endpoint!(|e| e.failures_total),
    },
    Family {
        name: "weir_endpoint_connects_total",
        kind: Kind::Counter,
        unit: "connections",
        labels: "pool, endpoint",
        help: "Connections opened to it.",
        samples: per_endpoint!(|e| e.connects_total),
    },
];

#[cfg(test)]
pub(super) mod tests {
    use super::super::view::tests::{sample_endpoint, sample_info, sample_status};
    use super::*;
    use std::collections::HashSet;

    fn text(status: &Status) -> String {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async { text_with(status, &no_machines()) })
    }

    /// Without hosts, and without a process.
    fn no_machines() -> weir_hypervisor::Fleet {
        let config = weir_config::parse("", "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        weir_hypervisor::Fleet::with_drivers(&config, Box::new(|_| unreachable!("there are no hosts")))
    }

    pub(in super::super) fn text_with(status: &Status, machines: &dyn Hypervisor) -> String {
        let info = sample_info();
        let process = ProcessUse { resident_bytes: Some(1024), open_fds: Some(9) };
        render(&Source {
            info: &info,
            status,
            drain: DrainProgress::default(),
            vips: &[],
            machines,
            access_log_dropped: 2,
            certificates: &[],
            shown_certificates: &[],
            alarms: &[],
            scaling: &[],
            orders: &crate::acme::OrderStats::default(),
            history: Some(&weir_history::service::Stats::default()),
            notify: &weir_notify::service::Stats::default(),
            recovery: &[],
            process,
        })
    }

    #[test]
    fn the_lines_of_a_small_node() {
        let text = text(&sample_status(vec![sample_endpoint("10.0.0.1:80")]));
        for line in [
            "weir_build_info{version=\"0.1.0\"} 1",
            "weir_start_time_seconds 1700000000.5",
            "weir_config_last_reload_success 0",
            "weir_process_resident_memory_bytes 1024",
            "weir_access_log_dropped_total 2",
            "weir_listener_connections_total{listener=\"web\"} 11",
            "weir_listener_requests_total{listener=\"web\",cause=\"queue-full\"} 1",
            "weir_listener_responses_total{listener=\"web\",code=\"2xx\"} 9",
            "weir_pool_min_healthy{pool=\"web\"} 2",
            "weir_pool_response_seconds_bucket{pool=\"web\",le=\"0.0005\"} 0",
            "weir_pool_response_seconds_bucket{pool=\"web\",le=\"+Inf\"} 0",
            "weir_pool_response_seconds_count{pool=\"web\"} 0",
            "weir_endpoint_up{pool=\"web\",endpoint=\"10.0.0.1:80\"} 1",
            "weir_endpoint_in_flight{pool=\"web\",endpoint=\"10.0.0.1:80\"} 7",
            "# TYPE weir_endpoint_requests_total counter",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn every_line_is_well_formed_and_no_series_comes_twice() {
        let text = text(&sample_status(vec![sample_endpoint("10.0.0.1:80"), sample_endpoint("[::1]:80")]));
        let mut series = HashSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().expect("a name");
                continue;
            }
            if line.starts_with("# TYPE ") {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(name.starts_with(family), "{name} belongs to {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} comes twice");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(label("pool", "a\"b\\c\nd"), r#"pool="a\"b\\c\nd""#);
    }

    #[test]
    fn names_follow_the_rules() {
        let mut names = HashSet::new();
        for family in families() {
            assert!(names.insert(family.name), "{} comes twice", family.name);
            assert!(
                family.name.starts_with("weir_") && family.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert_eq!(matches!(family.kind, Kind::Counter), family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }

    #[test]
    fn ten_thousand_endpoints() {
        let endpoints = (0..10_000).map(|i| sample_endpoint(&format!("10.1.{}.{}:8080", i / 250, i % 250))).collect();
        let text = text(&sample_status(endpoints));
        assert_eq!(text.lines().filter(|line| line.starts_with("weir_endpoint_up{")).count(), 10_000);
    }

    #[test]
    fn the_process_can_be_asked() {
        let process = ProcessUse::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.open_fds.is_some_and(|count| count >= 3));
    }

    /// `docs/metrics.md` is this table. `WEIR_BLESS=1` writes it.
    #[test]
    fn the_document_is_up_to_date() {
        let mut document = String::from(
            "# Metrics\n\n`GET /metrics` on `[api] bind` answers in the Prometheus text format. Units are base units; label values come from the \
             configuration file or from the lists below, never from a client. Counters begin at 0 with each process.\n\n\
             | metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n",
        );
        for f in families() {
            push(&mut document, format_args!("| `{}` | {} | {} | {} | {} |\n", f.name, f.kind.word(), f.unit, f.labels, f.help));
        }
        let causes: Vec<String> = Cause::ALL.iter().map(|cause| format!("`{}`", cause.word())).collect();
        push(&mut document, format_args!("\n`cause` is one of {}.\n\n", causes.join(", ")));
        push(&mut document, format_args!("`code` is one of `{}`; `1xx` counts 101 only.\n", CODE_CLASSES.join("`, `")));
        crate::api::openapi::tests::check_file("../docs/metrics.md", &document);
    }
}
