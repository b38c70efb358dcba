//! HTTP/1.1 with kept connections: CPU time of the proxy for each request, by size of the response.

use anyhow::Result;

use super::Bench;
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;

struct Case {
    name: &'static str,
    path: &'static str,
    connections: usize,
    access_log: bool,
    peers: &'static [Peer],
}

const ALL: &[Peer] = &[Peer::Weir, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Relay];
/// Large responses do not fit nginx's default buffers: both ways of running it are measured, and the better one counts.
const LARGE: &[Peer] = &[Peer::Weir, Peer::Nginx, Peer::NginxLargeBuffers, Peer::Haproxy, Peer::Envoy, Peer::Relay];
/// HAProxy and Envoy leave the file to others; only nginx writes it itself.
const LOGGING: &[Peer] = &[Peer::Weir, Peer::Nginx];

const CASES: &[Case] = &[
    Case { name: "100 B", path: "/b/100", connections: 64, access_log: false, peers: ALL },
    Case { name: "100 B, JSON log", path: "/b/100", connections: 64, access_log: true, peers: LOGGING },
    Case { name: "10 KiB", path: "/b/10240", connections: 64, access_log: false, peers: LARGE },
    Case { name: "1 MiB", path: "/b/1048576", connections: 16, access_log: false, peers: LARGE },
];

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for case in CASES {
        let origin = bench.start_origin(Role::Http)?;
        let proxies = bench.start_all(&bench.chosen(case.peers), Mode::Http, &origin, case.access_log)?;
        bench.rounds(case.name, proxies, |bench, proxy| {
            let seen = bench.closed_loop(proxy, Kind::Http, case.path, case.connections)?;
            bench.add_outcome("http", case.name, "request", proxy.peer, &seen);
            Ok(())
        });
        report::print_case(&bench.results, "http", case.name);
    }
    Ok(())
}
