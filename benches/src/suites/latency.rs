//! Latency that a proxy adds at half of saturation, open loop: what a request through it takes, less what it takes directly.

use anyhow::{Context, Result};

use super::Bench;
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;

const CASE: &str = "half of saturation";
const CONNECTIONS: usize = 64;
const PATH: &str = "/b/100";

/// Finds the rate that the slowest sustains, and runs all of them at half of it.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let origin = bench.start_origin(Role::Http)?;
    let proxies = bench.start_all(&bench.chosen(&[Peer::Weir, Peer::Nginx, Peer::Haproxy]), Mode::Http, &origin, false)?;
    let mut lowest = f64::INFINITY;
    for proxy in &proxies {
        let seen = bench.closed_loop(proxy, Kind::Http, PATH, CONNECTIONS).with_context(|| format!("saturate {}", proxy.peer))?;
        let rate = seen.done as f64 / (seen.elapsed_ns as f64 / 1e9);
        bench.results.add("latency", CASE, "saturation", "1/s", &proxy.peer.to_string(), rate);
        lowest = lowest.min(rate);
    }
    if proxies.is_empty() {
        return Ok(());
    }
    let rate = (lowest / 2.0).floor();
    bench.results.add("latency", CASE, "rate", "1/s", "all", rate);
    let direct = origin.addresses[0];
    bench.rounds(CASE, proxies, |bench, proxy| {
        // The direct run stands next to each proxied one, so that both see the same machine.
        let straight = bench.open_loop(direct, rate, PATH, CONNECTIONS)?.latency.context("no latency")?;
        let seen = bench.open_loop(proxy.address, rate, PATH, CONNECTIONS)?;
        if seen.errors > 0 {
            bench.skip(format!("{CASE}: {}: {} requests were not answered in time", proxy.peer, seen.errors));
        }
        let through = seen.latency.context("no latency")?;
        let peer = proxy.peer.to_string();
        let pairs = [
            ("p50", through.p50, straight.p50),
            ("p90", through.p90, straight.p90),
            ("p99", through.p99, straight.p99),
            ("p99.9", through.p999, straight.p999),
        ];
        for (name, through, straight) in pairs {
            bench.results.add("latency", CASE, &format!("{name} added"), "us", &peer, (through - straight).max(0.0));
        }
        bench.results.add("latency", CASE, "p50 direct", "us", &peer, straight.p50);
        bench.results.add("latency", CASE, "p99 direct", "us", &peer, straight.p99);
        Ok(())
    });
    report::print_case(&bench.results, "latency", CASE);
    Ok(())
}
