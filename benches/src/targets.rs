//! What weir promises about speed and memory. Each target is a row; the verdict compares it with what was measured.

use serde::Serialize;

use crate::report::{Results, Spread};

/// What a value is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// A number in the unit of the metric; the median of weir's values must not exceed it.
    Limit,
    /// As `Limit`, for the largest of weir's values.
    LimitForAll,
    /// weir's value over the same peer's, paired by round. Of several peers the one with the smallest median counts.
    BestOf(&'static [&'static str]),
    /// The value of weir with a feature over that of weir without it, paired by round.
    Without(&'static str),
}

/// One promise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) suite: &'static str,
    pub(crate) case: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

/// A promise with what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) suite: &'static str,
    pub(crate) case: &'static str,
    pub(crate) metric: &'static str,
    /// The peer, or the unit of the limit.
    pub(crate) against: String,
    pub(crate) at_most: f64,
    /// `None`: could not be measured.
    pub(crate) measured: Option<Spread>,
    pub(crate) met: bool,
}

const fn ratio(suite: &'static str, case: &'static str, metric: &'static str, peers: &'static [&'static str], at_most: f64) -> Target {
    Target { suite, case, metric, against: Against::BestOf(peers), at_most }
}

const fn limit(suite: &'static str, case: &'static str, metric: &'static str, at_most: f64) -> Target {
    Target { suite, case, metric, against: Against::Limit, at_most }
}

/// With the feature at most three hundredths more than without it.
const fn feature(case: &'static str, with: &'static str) -> Target {
    Target { suite: "features", case, metric: "cpu/request", against: Against::Without(with), at_most: 1.03 }
}

const NGINX: &[&str] = &["nginx", "nginx-large-buffers"];
const HAPROXY: &[&str] = &["haproxy", "haproxy-splice"];
const ENVOY: &[&str] = &["envoy"];
const EITHER: &[&str] = &["nginx", "nginx-large-buffers", "haproxy"];

/// All promises.
pub(crate) const TARGETS: &[Target] = &[
    ratio("http", "100 B", "cpu/request", NGINX, 0.92),
    ratio("http", "100 B", "cpu/request", HAPROXY, 0.80),
    ratio("http", "100 B, JSON log", "cpu/request", NGINX, 1.0),
    ratio("http", "10 KiB", "cpu/request", EITHER, 1.0),
    ratio("http", "1 MiB", "cpu/request", EITHER, 1.0),
    feature("20 routes", "weir-routes"),
    feature("header edits", "weir-edits"),
    feature("session by cookie", "weir-cookie"),
    feature("session by source", "weir-source"),
    feature("hash of the path", "weir-maglev"),
    feature("rate per source", "weir-rate"),
    feature("rate per header", "weir-rate-per-header"),
    feature("rate per route", "weir-rate-per-route"),
    feature("at once per source", "weir-at-once"),
    feature("breaker", "weir-breaker"),
    feature("adaptive bound", "weir-adaptive"),
    ratio("tcp", "echo 100 B", "cpu/message", HAPROXY, 0.95),
    ratio("tcp", "echo 100 B", "cpu/message", NGINX, 1.0),
    ratio("tcp", "bulk down", "cpu/GiB", HAPROXY, 0.95),
    ratio("tcp", "bulk down", "cpu/GiB", NGINX, 1.0),
    ratio("tcp", "bulk up", "cpu/GiB", HAPROXY, 0.95),
    ratio("tcp", "bulk up", "cpu/GiB", NGINX, 1.0),
    limit("memory", "idle clients", "per connection", 1.3),
    limit("memory", "idle upstreams", "per connection", 1.3),
    limit("memory", "at rest", "resident", 12.0),
    ratio("latency", "half of saturation", "p50 added", &["haproxy"], 1.0),
    ratio("latency", "half of saturation", "p99 added", &["haproxy"], 1.0),
    ratio("tls", "100 B", "cpu/request", NGINX, 0.95),
    ratio("tls", "100 B", "cpu/request", HAPROXY, 0.85),
    // 1.1 times as many handshakes per second of CPU time.
    ratio("tls", "full handshakes", "cpu/handshake", NGINX, 0.91),
    ratio("tls", "resumed handshakes", "cpu/handshake", NGINX, 0.91),
    limit("tls", "idle clients", "per connection", 8.0),
    ratio("h2", "10x32, 100 B", "cpu/request", HAPROXY, 0.75),
    ratio("h2", "10x32, 100 B", "cpu/request", NGINX, 0.65),
    ratio("h2", "10x32, 100 B", "cpu/request", ENVOY, 0.5),
    ratio("h2", "gRPC unary, 100 B", "cpu/request", ENVOY, 0.6),
    // 1.5 times as many packets per second of CPU time.
    ratio("udp", "echo 64 B", "cpu/packet", NGINX, 0.667),
    Target { suite: "membership", case: "1,000 endpoints", metric: "add", against: Against::LimitForAll, at_most: 10.0 },
    Target { suite: "membership", case: "1,000 endpoints", metric: "remove", against: Against::LimitForAll, at_most: 10.0 },
    limit("membership", "1,000 pools of 10", "start", 1000.0),
    limit("watch", "5,000 alarms", "core in use", 10.0),
    limit("watch", "5,000 alarms", "resident", 200.0),
];

/// The verdicts on all targets of the suites that were run.
pub(crate) fn judge(results: &Results, suites: &[String]) -> Vec<Verdict> {
    TARGETS.iter().filter(|t| suites.iter().any(|s| s == t.suite)).map(|t| t.judge(results)).collect()
}

impl Target {
    fn judge(&self, results: &Results) -> Verdict {
        let series = results.find(self.suite, self.case, self.metric);
        let (against, measured) = match self.against {
            Against::Limit | Against::LimitForAll => {
                (series.map(|s| s.unit.clone()).unwrap_or_default(), series.and_then(|s| s.spread("weir")))
            }
            Against::BestOf(peers) => {
                let best = series.and_then(|s| {
                    let medians = peers.iter().filter_map(|p| Some((*p, s.spread(p)?.median)));
                    medians.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(peer, _)| peer)
                });
                let measured = series.zip(best).and_then(|(s, peer)| s.ratio("weir", peer));
                (best.unwrap_or(peers[0]).to_owned(), measured)
            }
            Against::Without(with) => ("weir".to_owned(), series.and_then(|s| s.ratio(with, "weir"))),
        };
        let met = measured.is_some_and(|m| match self.against {
            Against::LimitForAll => m.max <= self.at_most,
            _ => m.median <= self.at_most,
        });
        let Target { suite, case, metric, at_most, .. } = *self;
        Verdict { suite, case, metric, against, at_most, measured, met }
    }
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match (self.met, self.measured) {
            (true, _) => "met",
            (false, Some(_)) => "MISSED",
            (false, None) => "-",
        }
    }

    pub(crate) fn sentence(&self) -> String {
        let Verdict { suite, case, metric, against, at_most, .. } = self;
        let measured = match self.measured {
            Some(m) => format!("measured {:.3} ({:.3} to {:.3})", m.median, m.min, m.max),
            None => "not measured".to_owned(),
        };
        format!("{suite}, {case}: {metric} at most {at_most} ({against}), {measured}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_peer_counts() {
        let mut results = Results::default();
        results.add("http", "10 KiB", "cpu/request", "us", "weir", 10.0);
        results.add("http", "10 KiB", "cpu/request", "us", "nginx", 12.0);
        results.add("http", "10 KiB", "cpu/request", "us", "haproxy", 9.0);
        let verdicts = judge(&results, &["http".into()]);
        let v = verdicts.iter().find(|v| v.case == "10 KiB").expect("a target");
        assert_eq!((v.against.as_str(), v.met), ("haproxy", false));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(judge(&Results::default(), &["memory".into()]).iter().all(|v| !v.met && v.word() == "-"));
    }
}
