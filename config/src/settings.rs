//! An object as a list of settings in words: what a diff compares and prints.
//!
//! The structures are taken apart field by field, so that a new field cannot be forgotten here.

mod acme;
mod edge;
mod history;
mod machines;
mod recovery;
mod scaling;
mod tls;
mod vip;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::{
    AccessLog, AccessLogTarget, Api, ApiToken, Balance, Ejection, ForwardHeaders, HashPolicy, HealthCheck, HttpLimits, Listener,
    ListenerTimeouts, Node, Pool, PoolLimits, PoolTimeouts, Probe, ProxyVersion,
};
use crate::units::{format_duration, format_size};

pub(crate) use acme::of_authority;
pub(crate) use edge::{of_adaptive, of_breaker, of_session};
pub(crate) use history::of_history;
pub(crate) use machines::{of_host, of_template};
pub(crate) use recovery::of_recovery;
pub(crate) use scaling::{of_alarm, of_metric, of_scaling};
pub(crate) use tls::{of_endpoint_tls, of_listener_tls};
pub(crate) use vip::{of_cluster, of_vip};

/// A key as written in the file, relative to its table, and its value in words.
pub(crate) type Setting = (&'static str, String);

/// What stands for a value that is absent.
pub(crate) const NONE: &str = "none";

pub(crate) fn of_node(node: &Node) -> Vec<Setting> {
    let Node { name, workers, state_dir, drain_timeout, probes_max } = node;
    vec![
        ("name", name.clone()),
        ("workers", workers.map_or("one per core".into(), |workers| workers.to_string())),
        ("state_dir", state_dir.display().to_string()),
        ("drain_timeout", format_duration(*drain_timeout)),
        ("probes_max", probes_max.to_string()),
    ]
}

pub(crate) fn of_api(api: &Api) -> Vec<Setting> {
    let Api { bind, token_file, tokens, tls } = api;
    let path = |path: Option<&std::path::PathBuf>| path.map_or(NONE.into(), |path| path.display().to_string());
    // Enough of the digest to see that it is another one.
    let token = |(name, token): (&std::sync::Arc<str>, &ApiToken)| {
        format!("{name} ({}, {:02x}{:02x})", token.role, token.digest[0], token.digest[1])
    };
    let tokens: Vec<String> = tokens.iter().map(token).collect();
    vec![
        ("bind", bind.to_string()),
        ("token_file", path(token_file.as_ref())),
        ("tls.certificate_file", path(tls.as_ref().map(|tls| &tls.certificate_file))),
        ("tls.key_file", path(tls.as_ref().map(|tls| &tls.key_file))),
        ("tls.client_ca_file", path(tls.as_ref().and_then(|tls| tls.client_ca_file.as_ref()))),
        ("token", if tokens.is_empty() { NONE.into() } else { tokens.join(", ") }),
    ]
}

pub(crate) fn of_access_log(log: &AccessLog) -> Vec<Setting> {
    let AccessLog { target, format } = log;
    let path = match target {
        AccessLogTarget::Stdout => "stdout".into(),
        AccessLogTarget::File(path) => path.display().to_string(),
    };
    vec![("path", path), ("format", format.word().into())]
}

/// Apart from addresses and protocol, with what belongs to it.
pub(crate) fn of_listener(listener: &Listener) -> Vec<Setting> {
    let Listener { name: _, binds: _, protocol: _, pool, connections_max, connections_per_source, timeouts, access, announcers } = listener;
    let ListenerTimeouts { head, idle, keep_alive, tunnel, flow, flow_drain } = timeouts;
    vec![
        ("pool", pool.as_ref().map_or(NONE.into(), |pool| pool.to_string())),
        ("connections_max", connections_max.to_string()),
        ("connections_per_source", or_none(*connections_per_source)),
        ("allow", list(&access.allow)),
        ("deny", list(&access.deny)),
        ("proxy_protocol.trusted", list(announcers)),
        ("timeouts.head", format_duration(*head)),
        ("timeouts.idle", format_duration(*idle)),
        ("timeouts.keep_alive", format_duration(*keep_alive)),
        ("timeouts.tunnel", format_duration(*tunnel)),
        ("timeouts.flow", format_duration(*flow)),
        ("timeouts.flow_drain", format_duration(*flow_drain)),
    ]
}

/// The elements in words, or that there are none.
pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { NONE.into() } else { items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") }
}

pub(crate) fn of_http(limits: &HttpLimits, headers: &ForwardHeaders) -> Vec<Setting> {
    let HttpLimits {
        head_bytes_max,
        headers_max,
        line_bytes_max,
        body_bytes_max,
        retry_bytes_max,
        requests_per_connection_max,
        streams_max,
    } = limits;
    let ForwardHeaders { x_forwarded, forwarded, via, request_id, trusted } = headers;
    vec![
        ("limits.head_bytes_max", format_size(*head_bytes_max as u64)),
        ("limits.headers_max", headers_max.to_string()),
        ("limits.line_bytes_max", format_size(*line_bytes_max as u64)),
        ("limits.body_bytes_max", body_bytes_max.map_or(NONE.into(), format_size)),
        ("limits.retry_bytes_max", format_size(*retry_bytes_max as u64)),
        ("limits.requests_per_connection_max", or_none(*requests_per_connection_max)),
        ("limits.streams_max", streams_max.to_string()),
        ("headers.x_forwarded", x_forwarded.to_string()),
        ("headers.forwarded", forwarded.to_string()),
        ("headers.via", via.to_string()),
        ("headers.request_id", request_id.clone().unwrap_or(NONE.into())),
        ("headers.trusted", list(trusted)),
    ]
}

/// Apart from endpoints, health, ejection, session, breaker, adaptive, scaling and TLS.
pub(crate) fn of_pool(pool: &Pool) -> Vec<Setting> {
    let Pool {
        name: _,
        endpoints: _,
        balance,
        slow_start,
        min_healthy,
        below_min_healthy,
        timeouts,
        limits,
        health: _,
        ejection: _,
        scaling: _,
        upstream_protocol,
        tls: _,
        proxy_protocol,
        session: _,
        retry,
        breaker: _,
        adaptive: _,
    } = pool;
    let PoolTimeouts { connect, first_byte, idle, keep_alive, total } = timeouts;
    let PoolLimits { connections_per_endpoint, queue_max, queue_timeout, retries_max, idle_connections_max } = limits;
    let mut settings = vec![
        ("balance", balance.word().into()),
        ("slow_start", or_none_time(*slow_start)),
        ("min_healthy", min_healthy.to_string()),
        ("below_min_healthy", below_min_healthy.word().into()),
        ("upstream_protocol", upstream_protocol.word().into()),
        ("proxy_protocol", proxy_protocol.map_or(NONE, ProxyVersion::word).into()),
        ("timeouts.connect", format_duration(*connect)),
        ("timeouts.first_byte", format_duration(*first_byte)),
        ("timeouts.idle", format_duration(*idle)),
        ("timeouts.keep_alive", format_duration(*keep_alive)),
        ("timeouts.total", or_none_time(*total)),
        ("limits.connections_per_endpoint", or_none(*connections_per_endpoint)),
        ("limits.queue_max", queue_max.to_string()),
        ("limits.queue_timeout", format_duration(*queue_timeout)),
        ("limits.retries_max", retries_max.to_string()),
        ("limits.idle_connections_max", idle_connections_max.to_string()),
    ];
    settings.extend(edge::of_retry(retry));
    if let Balance::Maglev(HashPolicy { key, load_bound_percent }) = balance {
        settings.push(("hash.key", key.to_string()));
        settings.push(("hash.load_bound", load_bound_percent.map_or(NONE.into(), |percent| format!("{percent} %"))));
    }
    settings
}

pub(crate) fn of_health(check: &HealthCheck) -> Vec<Setting> {
    let HealthCheck { probe, interval, fast_interval, down_interval, timeout, rise, fall, port } = check;
    let mut settings = vec![
        ("health.type", probe.word().into()),
        ("health.interval", format_duration(*interval)),
        ("health.fast_interval", format_duration(*fast_interval)),
        ("health.down_interval", format_duration(*down_interval)),
        ("health.timeout", format_duration(*timeout)),
        ("health.rise", rise.to_string()),
        ("health.fall", fall.to_string()),
        ("health.port", port.map_or("the endpoint's".into(), |port| port.to_string())),
    ];
    match probe {
        Probe::Http { tls: _, method, path, host, expect, body } => {
            let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
            settings.push(("health.method", method.clone()));
            settings.push(("health.path", path.clone()));
            settings.push(("health.host", host.clone().unwrap_or("the endpoint's".into())));
            settings.push(("health.expect", expect.iter().map(range).collect::<Vec<_>>().join(", ")));
            settings.push(("health.body", body.as_ref().map_or(NONE.into(), |body| body.as_str().into())));
        }
        Probe::Tls { server_name } => settings.push(("health.server_name", server_name.clone().unwrap_or("the endpoint's".into()))),
        Probe::Grpc { service } => {
            settings.push(("health.service", if service.is_empty() { "the whole server".into() } else { service.clone() }))
        }
        Probe::Udp { request, answer } => {
            settings.push(("health.request", request.escape_ascii().to_string()));
            settings.push(("health.answer", answer.as_ref().map_or(NONE.into(), |answer| answer.as_str().into())));
        }
        Probe::Exec { command } => settings.push(("health.command", format!("{command:?}"))),
        Probe::Tcp => {}
    }
    settings
}

pub(crate) fn of_ejection(ejection: &Ejection) -> Vec<Setting> {
    let Ejection { consecutive_failures, consecutive_errors, success_rate, time, time_max, share_max_percent } = ejection;
    let mut settings = vec![
        ("ejection.consecutive_failures", consecutive_failures.to_string()),
        ("ejection.time", format_duration(*time)),
        ("ejection.time_max", format_duration(*time_max)),
        ("ejection.share_max", format!("{share_max_percent} %")),
        ("ejection.consecutive_errors", or_none(*consecutive_errors)),
    ];
    settings.extend(edge::of_success_rate(success_rate.as_ref()));
    settings
}

pub(crate) fn or_none(number: Option<NonZeroU32>) -> String {
    number.map_or(NONE.into(), |number| number.to_string())
}

pub(crate) fn or_none_time(duration: Option<Duration>) -> String {
    duration.map_or(NONE.into(), format_duration)
}
