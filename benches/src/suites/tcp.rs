//! TCP mode: CPU time for each small message, and for each GiB in bulk, in both directions.

use anyhow::Result;

use super::Bench;
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;

struct Case {
    name: &'static str,
    role: Role,
    kind: Kind,
    connections: usize,
}

/// HAProxy with and without splicing: the better one counts.
const PEERS: &[Peer] = &[Peer::Weir, Peer::Nginx, Peer::Haproxy, Peer::HaproxySplice, Peer::Envoy, Peer::Relay];

const CASES: &[Case] = &[
    Case { name: "echo 100 B", role: Role::Echo, kind: Kind::Echo, connections: 64 },
    Case { name: "bulk down", role: Role::Source, kind: Kind::Source, connections: 4 },
    Case { name: "bulk up", role: Role::Sink, kind: Kind::Sink, connections: 4 },
];

const GIB: f64 = (1u64 << 30) as f64;

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for case in CASES {
        let origin = bench.start_origin(case.role)?;
        let proxies = bench.start_all(&bench.chosen(PEERS), Mode::Tcp, &origin, false)?;
        bench.rounds(case.name, proxies, |bench, proxy| {
            let seen = bench.closed_loop(proxy, case.kind, "/", case.connections)?;
            if case.kind == Kind::Echo {
                bench.add_outcome("tcp", case.name, "message", proxy.peer, &seen);
                return Ok(());
            }
            let peer = proxy.peer.to_string();
            let gib = seen.bytes as f64 / GIB;
            bench.results.add("tcp", case.name, "cpu/GiB", "ms", &peer, seen.cpu_ns as f64 / 1e6 / gib);
            bench.results.add("tcp", case.name, "throughput", "GiB/s", &peer, gib / (seen.elapsed_ns as f64 / 1e9));
            Ok(())
        });
        report::print_case(&bench.results, "tcp", case.name);
    }
    Ok(())
}
