//! What each feature costs a request: weir with it beside weir without it, on kept connections of HTTP/1.1.

use anyhow::{Context, Result};

use super::Bench;
use crate::client;
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;

const CONNECTIONS: usize = 64;

const CASES: &[(&str, Peer)] = &[
    ("20 routes", Peer::WeirRoutes),
    ("header edits", Peer::WeirEdits),
    ("session by cookie", Peer::WeirCookie),
    ("session by source", Peer::WeirSource),
    ("hash of the path", Peer::WeirMaglev),
    ("rate per source", Peer::WeirRate),
    ("rate per header", Peer::WeirRatePerHeader),
    ("rate per route", Peer::WeirRatePerRoute),
    ("at once per source", Peer::WeirAtOnce),
    ("breaker", Peer::WeirBreaker),
    ("adaptive bound", Peer::WeirAdaptive),
];

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for &(case, with) in CASES {
        let origin = bench.start_origin(Role::Http)?;
        let proxies = bench.start_all(&[Peer::Weir, with], Mode::Http, &origin, false)?;
        if with == Peer::WeirCookie
            && let Some(proxy) = proxies.iter().find(|proxy| proxy.peer == with)
        {
            // A client brings back what it was given; who asks without it pays nothing less.
            let cookie = client::cookie(proxy.address, "bench.example", "/b/100").context("no cookie was given")?;
            bench.field = Some(format!("Cookie: {cookie}"));
        }
        bench.rounds(case, proxies, |bench, proxy| {
            let seen = bench.closed_loop(proxy, Kind::Http, "/b/100", CONNECTIONS)?;
            bench.add_outcome("features", case, "request", proxy.peer, &seen);
            Ok(())
        });
        bench.field = None;
        report::print_case(&bench.results, "features", case);
    }
    Ok(())
}
