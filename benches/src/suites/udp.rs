//! UDP: CPU time for each packet of 64 bytes, of 64 flows with some packets under way each. A packet and its echo are two packets.

use anyhow::Result;

use super::{Bench, Origin};
use crate::net::loopback;
use crate::peers::{Mode, Peer};
use crate::process::{self, Core};
use crate::report;

/// Flows.
const FLOWS: usize = 64;
const CASE: &str = "echo 64 B";

/// Runs the case.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let addresses = [loopback(bench.ports.take()?), loopback(bench.ports.take()?)];
    let args = ["udp-origin".to_owned()].into_iter().chain(addresses.map(|address| address.to_string())).collect();
    let mut process = process::spawn_self("udp-origin", Core::Load, &bench.dir, args)?;
    process.wait_ready(super::PATIENCE)?;
    let origin = Origin { processes: vec![process], addresses };
    let proxies = bench.start_all(&bench.chosen(&[Peer::Weir, Peer::Nginx]), Mode::Udp, &origin, false)?;
    bench.rounds(CASE, proxies, |bench, proxy| {
        let seen = bench.packets(proxy, FLOWS)?;
        bench.add_outcome("udp", CASE, "packet", proxy.peer, &seen);
        Ok(())
    });
    report::print_case(&bench.results, "udp", CASE);
    Ok(())
}
