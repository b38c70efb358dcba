//! What watching costs: 1,000 pools with 10,000 endpoints, everything sampled and kept, and 5,000 alarms with periods of a second, so that each is
//! evaluated each second. weir alone: the others have nothing of the kind.
//!
//! Nothing else is done: no traffic, no probes. The window is longer than a minute, because what was collected of a minute is written at its end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Bench;
use crate::client;
use crate::cpu;
use crate::net::loopback;
use crate::peers::Peer;
use crate::process::{self, Core, Process, Spec};
use crate::report;

const POOLS: usize = 1000;
const ENDPOINTS_PER_POOL: usize = 10;
/// An alarm of each pool for each of them.
const METRICS: [&str; 5] = ["in-flight", "error-rate", "requests-per-endpoint", "latency-p99", "queue-length"];

/// Until it serves.
const DEADLINE: Duration = Duration::from_secs(60);
/// Until every alarm has looked at its whole window once.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(70);
const WINDOW_QUICK: Duration = Duration::from_secs(20);

/// Runs both cases, one after the other in each round.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if bench.chosen(&[Peer::Weir]).is_empty() {
        bench.skip("watch: it is weir's alone, and weir is not among the peers".into());
        return Ok(());
    }
    for round in 1..=bench.runs {
        eprintln!("watch: round {round} of {}", bench.runs);
        for (name, watched) in [("weir", true), ("weir-unwatched", false)] {
            if let Err(e) = measure(bench, name, watched) {
                bench.skip(format!("watch: {name}: {e:#}"));
            }
        }
    }
    report::print_case(&bench.results, "watch", "5,000 alarms");
    Ok(())
}

fn measure(bench: &mut Bench, name: &str, watched: bool) -> Result<()> {
    let (listen, api) = (loopback(bench.ports.take()?), loopback(bench.ports.take()?));
    let dir = bench.dir.join(format!("watch-{}", listen.port()));
    std::fs::create_dir_all(&dir)?;
    let config = dir.join("weir.toml");
    std::fs::write(&config, file(&dir, listen, api, watched))?;
    let args = vec!["run".into(), "--config".into(), config.display().to_string()];
    let program = bench.programs.weir.clone();
    let mut process = process::spawn(Spec { name: "weir", core: Core::Proxy, program, args, death_signal: "KILL", dir: &dir })?;
    until_ready(&mut process, api)?;
    std::thread::sleep(SETTLE);
    let (before, began) = (cpu::snapshot(process.pid()), Instant::now());
    std::thread::sleep(if bench.quick { WINDOW_QUICK } else { WINDOW });
    let used = before.ns_until(&cpu::snapshot(process.pid()));
    let share = used as f64 / began.elapsed().as_nanos() as f64 * 100.0;
    bench.results.add("watch", "5,000 alarms", "core in use", "%", name, share);
    bench.results.add("watch", "5,000 alarms", "resident", "MiB", name, cpu::rss_kib(process.pid()) as f64 / 1024.0);
    process.check_alive()
}

fn until_ready(process: &mut Process, api: SocketAddr) -> Result<()> {
    let began = Instant::now();
    loop {
        match client::fetch(api, "127.0.0.1", "/readyz") {
            Ok(_) => return Ok(()),
            Err(e) if began.elapsed() > DEADLINE => return Err(e).context("it did not serve in time"),
            Err(_) => process.check_alive()?,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn file(dir: &Path, listen: SocketAddr, api: SocketAddr, watched: bool) -> String {
    let mut text =
        format!("[node]\nworkers = 1\nstate_dir = \"{}\"\n[api]\nbind = \"{api}\"\n[history]\nenabled = {watched}\n", dir.display());
    let _ = write!(text, "[listener.web]\nbind = \"{listen}\"\npool = \"p0\"\n");
    for pool in 0..POOLS {
        let endpoint = |n: usize| format!("\"127.1.{}.{}:9\"", pool % 250, 1 + (pool / 250 * ENDPOINTS_PER_POOL + n));
        let endpoints: Vec<String> = (0..ENDPOINTS_PER_POOL).map(endpoint).collect();
        let _ = write!(text, "[pool.p{pool}]\nendpoints = [{}]\n", endpoints.join(", "));
        for metric in METRICS.iter().filter(|_| watched) {
            let _ = write!(
                text,
                "[alarm.p{pool}-{metric}]\npool = \"p{pool}\"\nmetric = \"{metric}\"\nabove = 1000.0\nperiod = \"1s\"\nfor = \"5s\"\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_valid() {
        let text = file(Path::new("/tmp"), loopback(1), loopback(2), true);
        let config = weir_config::parse(&text, "weir.toml").unwrap_or_else(|e| panic!("{e:?}"));
        let endpoints: usize = config.pools.values().map(|pool| pool.endpoints.len()).sum();
        assert_eq!((config.pools.len(), endpoints, config.alarms.len()), (1000, 10_000, 5000));
    }
}
