//! A new connection for each request: CPU time for each connection.

use anyhow::Result;

use super::Bench;
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;

const CASE: &str = "one request each";
const CONNECTIONS: usize = 32;

/// Runs the only case.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let origin = bench.start_origin(Role::Http)?;
    let peers = bench.chosen(&[Peer::Weir, Peer::Nginx, Peer::Haproxy, Peer::Envoy]);
    let proxies = bench.start_all(&peers, Mode::Http, &origin, false)?;
    bench.rounds(CASE, proxies, |bench, proxy| {
        let seen = bench.closed_loop(proxy, Kind::Connect, "/b/100", CONNECTIONS)?;
        bench.add_outcome("connections", CASE, "connection", proxy.peer, &seen);
        Ok(())
    });
    report::print_case(&bench.results, "connections", CASE);
    Ok(())
}
