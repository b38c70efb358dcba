//! From what the node knows to what the API says. Pure.

use std::time::SystemTime;

use weir_config::Config;
use weir_lb::cause::Cause;
use weir_lb::shell::DrainProgress;
use weir_lb::status::{EndpointStatus, ListenerStatus, PoolStatus, Status};

use super::model::*;
use crate::event::Event;
use crate::node::NodeInfo;

/// The labels of the response classes, in the order of `ListenerShard::responses`.
pub(crate) const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Unix seconds, to the millisecond.
pub(crate) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0
}

/// Everything.
pub(crate) fn status(info: &NodeInfo, drain: DrainProgress, status: &Status) -> StatusView {
    StatusView {
        node: node(info, drain),
        listeners: status.listeners.iter().map(listener).collect(),
        pools: status.pools.iter().map(pool).collect(),
    }
}

/// The process.
pub(crate) fn node(info: &NodeInfo, drain: DrainProgress) -> NodeView {
    NodeView {
        name: info.name.clone(),
        version: info.version.to_owned(),
        pid: info.pid,
        started_at: unix_seconds(info.started_at),
        revision: info.revision,
        config_path: info.config_path.display().to_string(),
        config_sha256: info.config_sha256.clone(),
        ready: info.ready,
        draining: info.draining,
        last_reload: info
            .last_reload
            .as_ref()
            .map(|(at, result)| LastReload { at: unix_seconds(*at), error: result.as_ref().err().cloned() }),
        history_fault: info.history_fault.clone(),
        connections: drain.connections,
        in_flight: drain.in_flight,
    }
}

/// A listener with its counters added up.
pub(crate) fn listener(listener: &ListenerStatus) -> ListenerView {
    let stats = &listener.stats;
    let ended = Cause::ALL.map(|cause| (cause.word(), stats.sum(|shard| &shard.ended[cause as usize])));
    ListenerView {
        name: listener.name.clone(),
        protocol: listener.protocol.to_owned(),
        binds: listener.binds.iter().map(ToString::to_string).collect(),
        connections_open: stats.sum(|shard| &shard.open),
        connections_total: stats.sum(|shard| &shard.accepted),
        requests_total: ended.iter().fold(0, |sum, (_, n)| sum + n),
        causes: ended.iter().filter(|(_, n)| *n > 0).map(|(word, n)| ((*word).to_owned(), *n)).collect(),
        responses: CODE_CLASSES.iter().enumerate().map(|(i, class)| ((*class).to_owned(), stats.sum(|s| &s.responses[i]))).collect(),
        received_bytes: stats.sum(|shard| &shard.received_bytes),
        sent_bytes: stats.sum(|shard| &shard.sent_bytes),
    }
}

/// A pool with its counters added up.
pub(crate) fn pool(pool: &PoolStatus) -> PoolView {
    let latency = pool.stats.latency();
    let quantile_ms = |q| latency.quantile(q).map(|micros| micros as f64 / 1000.0);
    PoolView {
        name: pool.name.clone(),
        balance: pool.balance.to_owned(),
        healthy: pool.healthy,
        min_healthy: pool.min_healthy,
        below_floor: pool.below_floor,
        available: pool.available,
        waiting: pool.waiting,
        requests_total: pool.stats.sum(|shard| &shard.requests),
        failures_total: pool.stats.sum(|shard| &shard.failures),
        retries_total: pool.stats.sum(|shard| &shard.retries),
        queued_total: pool.stats.sum(|shard| &shard.queued),
        reused_total: pool.stats.sum(|shard| &shard.reused),
        latency: LatencyView {
            count: latency.count(),
            p50_ms: quantile_ms(0.5),
            p90_ms: quantile_ms(0.9),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
        },
        endpoints: pool.endpoints.iter().map(endpoint).collect(),
    }
}

/// An endpoint, with the sentence that explains it.
pub(crate) fn endpoint(endpoint: &EndpointStatus) -> EndpointView {
    EndpointView {
        address: endpoint.address.clone(),
        resolved: endpoint.resolved.map(|address| address.to_string()),
        state: match endpoint.state {
            "maintenance" => AdminStateView::Maintenance,
            "draining" => AdminStateView::Draining,
            _ => AdminStateView::Ready,
        },
        health: endpoint.health.to_owned(),
        evidence: endpoint.evidence.clone(),
        health_age_s: endpoint.health_age_s,
        ejected_s: endpoint.ejected_s,
        available: endpoint.available,
        why: why(endpoint),
        weight: endpoint.weight,
        ramp_percent: endpoint.ramp_percent,
        tier: endpoint.tier,
        open: OpenView {
            // The counters are read one after the other, so the parts may for a moment exceed the whole.
            requests: endpoint.in_flight.saturating_sub(endpoint.tunnels).saturating_sub(endpoint.sessions),
            tunnels: endpoint.tunnels,
            sessions: endpoint.sessions,
            idle: endpoint.idle,
        },
        requests_total: endpoint.requests_total,
        failures_total: endpoint.failures_total,
        connects_total: endpoint.connects_total,
    }
}

/// Why it may or may not be picked: the wish first, then what is observed.
fn why(e: &EndpointStatus) -> String {
    let evidence = if e.evidence.is_empty() { String::new() } else { format!(": {}", e.evidence) };
    match e.state {
        "maintenance" => return "in maintenance, by an operator".into(),
        "draining" => return "draining, by an operator".into(),
        _ => {}
    }
    if e.resolved.is_none() {
        // The evidence mostly says so itself, with the reason.
        return if e.evidence.contains("resolve") { e.evidence.clone() } else { format!("does not resolve{evidence}") };
    }
    match (e.health, e.available) {
        ("unhealthy", false) => return format!("unhealthy{evidence}"),
        ("unhealthy", true) => return format!("unhealthy, but the pool fails open{evidence}"),
        ("unknown", false) => return "not probed yet".into(),
        ("unknown", true) => return "not probed yet, but the pool fails open".into(),
        _ => {}
    }
    match (e.ejected_s, e.available) {
        (Some(s), false) => return format!("ejected for another {s} s for failing requests"),
        (Some(s), true) => return format!("ejected for another {s} s, but the pool fails open"),
        _ => {}
    }
    if !e.available {
        return format!("stands by: tier {} serves only while no lower tier can", e.tier);
    }
    if e.ramp_percent < 100 { format!("slow start: at {} % of its weight", e.ramp_percent) } else { String::new() }
}

/// The configuration in effect, in short.
pub(crate) fn config(info: &NodeInfo, config: &Config) -> ConfigView {
    ConfigView {
        path: info.config_path.display().to_string(),
        sha256: info.config_sha256.clone(),
        revision: info.revision,
        drain_timeout_s: config.node.drain_timeout.as_secs_f64(),
        listeners: config.listeners.keys().map(ToString::to_string).collect(),
        pools: config.pools.iter().map(|(name, pool)| (name.to_string(), pool.endpoints.len() as u64)).collect(),
    }
}

/// An event; kinds added elsewhere need no change here.
pub(crate) fn event(number: u64, event: &Event) -> EventView {
    let mut details = match serde_json::to_value(event) {
        Ok(serde_json::Value::Object(fields)) => fields.into_iter().collect(),
        _ => std::collections::BTreeMap::new(),
    };
    let kind = details.remove("event").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    EventView { number, at: unix_seconds(event.at), event: kind, details }
}

/// Whether traffic should be sent here, and why not.
pub(crate) fn readiness(info: &NodeInfo) -> Readiness {
    let mut reasons = Vec::new();
    if info.draining {
        reasons.push("draining: a stop or an upgrade is under way".to_owned());
    } else if !info.ready {
        reasons.push("not serving yet".to_owned());
    }
    Readiness { ready: reasons.is_empty(), reasons }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use weir_lb::event::EventKind;
    use weir_lb::stats::{ListenerStats, PoolStats, add};

    /// A healthy endpoint.
    pub(crate) fn sample_endpoint(address: &str) -> EndpointStatus {
        EndpointStatus {
            address: address.into(),
            resolved: address.parse().ok(),
            state: "ready",
            health: "healthy",
            evidence: String::new(),
            health_age_s: 60,
            confirmed_ms: None,
            ejected_s: None,
            available: true,
            weight: 2,
            ramp_percent: 100,
            tier: 0,
            in_flight: 7,
            tunnels: 2,
            sessions: 1,
            idle: 3,
            requests_total: 100,
            failures_total: 4,
            connects_total: 10,
        }
    }

    /// A pool and a listener with something in each counter.
    pub(crate) fn sample_status(endpoints: Vec<EndpointStatus>) -> Status {
        let listener = ListenerStats::new(2);
        add(&listener.shard(0).accepted, 5);
        add(&listener.shard(1).accepted, 6);
        add(&listener.shard(1).open, 3);
        add(&listener.shard(0).ended[Cause::Ok as usize], 9);
        add(&listener.shard(0).ended[Cause::QueueFull as usize], 1);
        add(&listener.shard(0).responses[1], 9);
        add(&listener.shard(0).received_bytes, 1000);
        add(&listener.shard(1).sent_bytes, 2000);
        let pool = PoolStats::new(2);
        add(&pool.shard(0).requests, 9);
        add(&pool.shard(1).failures, 1);
        Status {
            generation: 3,
            listeners: vec![ListenerStatus {
                name: "web".into(),
                protocol: "http",
                binds: vec!["10.0.0.100:80".parse().expect("an address")],
                stats: Arc::new(listener),
                routes: Vec::new(),
            }],
            pools: vec![PoolStatus {
                name: "web".into(),
                balance: "least-request",
                healthy: 1,
                min_healthy: 2,
                below_floor: true,
                available: 1,
                waiting: 4,
                adaptive_limit: None,
                tls: false,
                stats: Arc::new(pool),
                endpoints,
            }],
        }
    }

    /// A node that serves.
    pub(crate) fn sample_info() -> NodeInfo {
        NodeInfo {
            name: "lb-a".into(),
            version: "0.1.0",
            pid: 42,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
            revision: 7,
            config_path: "/etc/weir.toml".into(),
            config_sha256: "ab".repeat(32),
            ready: true,
            draining: false,
            last_reload: Some((SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_100), Err("line 3".into()))),
            history_fault: None,
        }
    }

    #[test]
    fn explanations() {
        let healthy = sample_endpoint("10.0.0.1:80");
        for (change, expected) in [
            (Box::new(|_: &mut EndpointStatus| {}) as Box<dyn Fn(&mut EndpointStatus)>, ""),
            (Box::new(|e| e.state = "draining"), "draining, by an operator"),
            (Box::new(|e| e.state = "maintenance"), "in maintenance, by an operator"),
            (Box::new(|e| e.resolved = None), "does not resolve"),
            (
                Box::new(|e| (e.health, e.available, e.evidence) = ("unhealthy", false, "3 of 3: connect refused".into())),
                "unhealthy: 3 of 3: connect refused",
            ),
            (Box::new(|e| e.health = "unhealthy"), "unhealthy, but the pool fails open"),
            (Box::new(|e| (e.health, e.available) = ("unknown", false)), "not probed yet"),
            (Box::new(|e| (e.ejected_s, e.available) = (Some(12), false)), "ejected for another 12 s for failing requests"),
            (Box::new(|e| (e.tier, e.available) = (1, false)), "stands by: tier 1 serves only while no lower tier can"),
            (Box::new(|e| e.ramp_percent = 40), "slow start: at 40 % of its weight"),
        ] {
            let mut endpoint = healthy.clone();
            change(&mut endpoint);
            assert_eq!(why(&endpoint), expected);
        }
    }

    #[test]
    fn a_whole_status() {
        let drain = DrainProgress { connections: 3, in_flight: 2 };
        let view = status(&sample_info(), drain, &sample_status(vec![sample_endpoint("10.0.0.1:80")]));
        assert_eq!(view.node.started_at, 1_700_000_000.5);
        assert_eq!(view.node.last_reload.as_ref().and_then(|last| last.error.as_deref()), Some("line 3"));
        let listener = &view.listeners[0];
        assert_eq!((listener.connections_open, listener.connections_total, listener.requests_total), (3, 11, 10));
        assert_eq!(listener.causes.get("queue-full"), Some(&1));
        assert_eq!(listener.causes.get("no-route"), None);
        assert_eq!(listener.responses.get("2xx"), Some(&9));
        let open = view.pools[0].endpoints[0].open;
        assert_eq!(open, OpenView { requests: 4, tunnels: 2, sessions: 1, idle: 3 });
        assert_eq!(open.busy(), 7);
        let text = serde_json::to_string(&view).expect("JSON");
        assert_eq!(serde_json::from_str::<StatusView>(&text).expect("the same"), view);
    }

    #[test]
    fn an_event() {
        let kind = EventKind::Readmitted { pool: "web".into(), endpoint: "10.0.0.1:80".into() };
        let view = event(8, &Event { at: SystemTime::UNIX_EPOCH + Duration::from_secs(5), kind: kind.into() });
        assert_eq!((view.number, view.at, view.event.as_str()), (8, 5.0, "readmitted"));
        assert_eq!(view.details.len(), 2);
        assert_eq!(view.details.get("pool"), Some(&serde_json::Value::from("web")));
    }

    #[test]
    fn ready_or_why_not() {
        let mut info = sample_info();
        assert!(readiness(&info).ready);
        info.ready = false;
        assert_eq!(readiness(&info).reasons, ["not serving yet"]);
        info.draining = true;
        assert!(readiness(&info).reasons[0].starts_with("draining"));
    }
}
