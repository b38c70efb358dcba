//! Resident memory: at rest, for each idle client connection, and for each idle upstream connection. Every value comes from a fresh process.
//!
//! Idle upstream connections can only come from as many requests at once, so what such a burst leaves behind in the heap is charged to them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Bench, Origin, PATIENCE, security_word};
use crate::client;
use crate::cpu;
use crate::origin::Role;
use crate::peers::{Mode, Peer, Proxy};
use crate::process::{self, Core, Process};
use crate::report;
use crate::wire::Security;

/// Far enough above the noise of a heap, and below the limit of 20,000 file descriptors that some machines have.
const CLIENTS: usize = 4000;
/// Requests held at the origin at once; as many upstream connections are idle afterwards. weir keeps 512 for each of the two endpoints.
const UPSTREAMS: usize = 1000;
/// Requests under way at once while the idle clients are made.
const AT_ONCE: usize = 64;
/// A proxy may give memory back a little later; it is read when it has not changed for this long. Longer waits would meet HAProxy, which closes
/// idle upstream connections that were not needed for five seconds.
const SETTLED: Duration = Duration::from_millis(2500);

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let peers = bench.chosen(&[Peer::Weir, Peer::Nginx, Peer::Haproxy, Peer::Envoy]);
    let origin = bench.start_origin(Role::Http)?;
    for round in 1..=bench.runs {
        eprintln!("memory: round {round} of {}", bench.runs);
        for peer in &peers {
            if let Err(e) = measure(bench, *peer, &origin) {
                bench.skip(format!("memory: {peer}: {e:#}"));
            }
        }
    }
    for case in ["at rest", "idle clients", "idle upstreams"] {
        report::print_case(&bench.results, "memory", case);
    }
    Ok(())
}

fn measure(bench: &mut Bench, peer: Peer, origin: &Origin) -> Result<()> {
    let name = peer.to_string();
    measure_clients(bench, "memory", peer, Mode::Http, origin)?;
    let Some(proxy) = bench.start(peer, Mode::Http, origin, false)? else { return Ok(()) };
    drop(hold(bench, &proxy, "/b/100", AT_ONCE, AT_ONCE)?);
    let before = settled_rss(&proxy);
    let open_before = open_upstreams(origin)?;
    drop(hold(bench, &proxy, &format!("/barrier/{UPSTREAMS}"), UPSTREAMS, UPSTREAMS)?);
    let after = settled_rss(&proxy);
    let open = open_upstreams(origin)?.saturating_sub(open_before);
    if open < UPSTREAMS / 4 {
        bail!("only {open} upstream connections stayed open");
    }
    bench.results.add("memory", "idle upstreams", "kept open", "1", &name, open as f64);
    bench.results.add("memory", "idle upstreams", "per connection", "KiB", &name, (after as f64 - before as f64) / open as f64);
    Ok(())
}

/// What a proxy takes at rest, and for each idle client.
pub(crate) fn measure_clients(bench: &mut Bench, suite: &str, peer: Peer, mode: Mode, origin: &Origin) -> Result<()> {
    let name = peer.to_string();
    let Some(proxy) = bench.start(peer, mode, origin, false)? else { return Ok(()) };
    let rest = settled_rss(&proxy);
    bench.results.add(suite, "at rest", "resident", "MiB", &name, rest as f64 / 1024.0);
    // What the first requests of a process build once is not charged to the connections.
    drop(hold(bench, &proxy, "/b/100", AT_ONCE, AT_ONCE)?);
    let before = settled_rss(&proxy);
    let clients = hold(bench, &proxy, "/b/100", CLIENTS, AT_ONCE)?;
    let after = settled_rss(&proxy);
    let each = (after as f64 - before as f64) / CLIENTS as f64;
    bench.results.add(suite, "idle clients", "per connection", "KiB", &name, each);
    drop(clients);
    Ok(())
}

/// Connections that have made one request each, and are held until the value is dropped.
fn hold(bench: &Bench, proxy: &Proxy, path: &str, connections: usize, at_once: usize) -> Result<Process> {
    let args = vec![
        "load".into(),
        "idle".into(),
        format!("--target={}", proxy.address),
        format!("--path={path}"),
        format!("--connections={connections}"),
        format!("--at-once={at_once}"),
        format!("--security={}", security_word(if proxy.mode == Mode::Https { Security::Full } else { Security::None })),
    ];
    let mut process = process::spawn_self("idle", Core::Load, &bench.dir, args)?;
    process.wait_ready(PATIENCE * 4)?;
    Ok(process)
}

/// Resident KiB once it has stopped moving.
fn settled_rss(proxy: &Proxy) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut last = (cpu::rss_kib(proxy.process.pid()), Instant::now());
    while last.1.elapsed() < SETTLED && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        let now = cpu::rss_kib(proxy.process.pid());
        // Health checks go on: a few pages are not a change.
        if now.abs_diff(last.0) > 16 {
            last = (now, Instant::now());
        }
    }
    cpu::rss_kib(proxy.process.pid())
}

/// HTTP connections open at the origin, without the one that asks.
fn open_upstreams(origin: &Origin) -> Result<usize> {
    let body = client::fetch(origin.addresses[0], "origin", "/open")?;
    let open: usize = String::from_utf8_lossy(&body).trim().parse()?;
    Ok(open.saturating_sub(1))
}
