//! HTTPS: CPU time for each request over kept connections, for each new connection with a full or a resumed handshake, and memory of idle ones.
//! The client offers TLS 1.3 with X25519; the certificate has a key of P-256.

use anyhow::Result;

use super::{Bench, memory};
use crate::load::closed::Kind;
use crate::origin::Role;
use crate::peers::{Mode, Peer};
use crate::report;
use crate::wire::Security;

struct Case {
    name: &'static str,
    kind: Kind,
    security: Security,
    path: &'static str,
    connections: usize,
    word: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "100 B", kind: Kind::Http, security: Security::Full, path: "/b/100", connections: 64, word: "request" },
    Case { name: "1 MiB", kind: Kind::Http, security: Security::Full, path: "/b/1048576", connections: 16, word: "request" },
    Case { name: "full handshakes", kind: Kind::Connect, security: Security::Full, path: "/b/100", connections: 32, word: "handshake" },
    Case {
        name: "resumed handshakes",
        kind: Kind::Connect,
        security: Security::Resumed,
        path: "/b/100",
        connections: 4,
        word: "handshake",
    },
];

const PEERS: &[Peer] = &[Peer::Weir, Peer::Nginx, Peer::Haproxy];

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for case in CASES {
        let origin = bench.start_origin(Role::Http)?;
        let proxies = bench.start_all(&bench.chosen(PEERS), Mode::Https, &origin, false)?;
        bench.rounds(case.name, proxies, |bench, proxy| {
            let seen = bench.secure_closed_loop(proxy, case.kind, case.security, case.path, case.connections)?;
            bench.add_outcome("tls", case.name, case.word, proxy.peer, &seen);
            let share = seen.resumed as f64 / seen.done as f64;
            // The first connection of each slot has nothing to resume.
            if case.kind == Kind::Connect && (share > 0.99) != (case.security == Security::Resumed) {
                bench.skip(format!("{}: {}: {:.1} % of the handshakes were resumed", case.name, proxy.peer, share * 100.0));
            }
            Ok(())
        });
        report::print_case(&bench.results, "tls", case.name);
    }
    let origin = bench.start_origin(Role::Http)?;
    for round in 1..=bench.runs {
        eprintln!("idle clients: round {round} of {}", bench.runs);
        for peer in bench.chosen(PEERS) {
            if let Err(e) = memory::measure_clients(bench, "tls", peer, Mode::Https, &origin) {
                bench.skip(format!("idle clients: {peer}: {e:#}"));
            }
        }
    }
    report::print_case(&bench.results, "tls", "idle clients");
    Ok(())
}
