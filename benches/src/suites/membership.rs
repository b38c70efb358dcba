//! How soon a change of membership is in effect, and how soon a large file serves. weir alone: the others have no comparable call.
//!
//! In a large pool a new endpoint would have to wait for its turn, and the turn would be measured. So the others stand in tier 1 and the new
//! one in tier 0: the very next request after the change belongs to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Bench;
use crate::client::{self, Client};
use crate::net::loopback;
use crate::origin::Role;
use crate::peers::Peer;
use crate::process::{self, Core, Process, Spec};
use crate::report;
use crate::wire::Security;

const ENDPOINTS: usize = 1000;
const POOLS: usize = 1000;
const ENDPOINTS_PER_POOL: usize = 10;
/// After this long a change or a start counts as failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A weir that was just started, not waited for.
struct Started {
    at: Instant,
    process: Process,
    listen: SocketAddr,
    api: SocketAddr,
}

/// Runs both cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if bench.chosen(&[Peer::Weir]).is_empty() {
        bench.skip("membership: it is weir's alone, and weir is not among the peers".into());
        return Ok(());
    }
    if let Err(e) = changes(bench) {
        bench.skip(format!("membership, changes: {e:#}"));
    }
    report::print_case(&bench.results, "membership", "1,000 endpoints");
    for _ in 0..bench.runs {
        if let Err(e) = start(bench) {
            bench.skip(format!("membership, start: {e:#}"));
            break;
        }
    }
    report::print_case(&bench.results, "membership", "1,000 pools of 10");
    Ok(())
}

/// Adds and removes one endpoint again and again, under a client that asks without pause.
fn changes(bench: &mut Bench) -> Result<()> {
    let port = bench.ports.take()?;
    let endpoints: Vec<SocketAddr> = (0..ENDPOINTS).map(|n| numbered(n, port)).collect();
    let newcomer = SocketAddr::from(([127, 2, 0, 1], port));
    let all: Vec<SocketAddr> = endpoints.iter().copied().chain([newcomer]).collect();
    let _origin = bench.start_origin_at(Role::Http, &all)?;

    let mut weir = start_weir(bench, "changes", &large_pool(&endpoints))?;
    until_served(&mut weir, "bench.example")?;
    let mut client = Client::connect(weir.listen, Security::None)?;
    let path = "/v1/pools/p/endpoints";
    for _ in 0..if bench.quick { 5 } else { 20 } {
        let body = format!("{{\"address\":\"{newcomer}\",\"tier\":0}}");
        let add = effect_ms(&mut client, newcomer, true, || client::change(weir.api, "POST", path, &body))?;
        bench.results.add("membership", "1,000 endpoints", "add", "ms", "weir", add);
        let one = format!("{path}/{newcomer}");
        let remove = effect_ms(&mut client, newcomer, false, || client::change(weir.api, "DELETE", &one, ""))?;
        bench.results.add("membership", "1,000 endpoints", "remove", "ms", "weir", remove);
    }
    Ok(())
}

/// Milliseconds from sending the change until the first answer that comes from `newcomer` (`present`) or from another.
fn effect_ms(client: &mut Client, newcomer: SocketAddr, present: bool, change: impl FnOnce() -> Result<()> + Send) -> Result<f64> {
    let newcomer = newcomer.to_string();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let change = scope.spawn(change);
        let took = loop {
            let who = client.get("bench.example", "/who")?;
            if (who == newcomer.as_bytes()) == present {
                break began.elapsed();
            }
            if began.elapsed() > DEADLINE {
                bail!("the change had no effect in {} s", DEADLINE.as_secs());
            }
        };
        change.join().map_err(|_| anyhow::anyhow!("the change panicked"))??;
        Ok(took.as_secs_f64() * 1000.0)
    })
}

/// From the start of the process to the first answer, through the last of many pools.
fn start(bench: &mut Bench) -> Result<()> {
    let port = bench.ports.take()?;
    let endpoints: Vec<SocketAddr> = (0..POOLS * ENDPOINTS_PER_POOL).map(|n| numbered(n, port)).collect();
    let _origin = bench.start_origin_at(Role::Http, &endpoints)?;
    let mut weir = start_weir(bench, "start", &many_pools(&endpoints))?;
    let took = until_served(&mut weir, &format!("p{}.example", POOLS - 1))?;
    bench.results.add("membership", "1,000 pools of 10", "start", "ms", "weir", took.as_secs_f64() * 1000.0);
    Ok(())
}

/// The n-th of many loopback addresses.
fn numbered(n: usize, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + n as u32), port))
}

/// The tables of a listener and what they belong to.
struct Tables {
    listener: String,
    pools: String,
}

/// One pool, all of it in tier 1.
fn large_pool(endpoints: &[SocketAddr]) -> Tables {
    let mut pools = "[pool.p]\nendpoints = [\n".to_owned();
    endpoints.iter().for_each(|e| pools += &format!("  {{ address = \"{e}\", tier = 1 }},\n"));
    Tables { listener: "pool = \"p\"\n".to_owned(), pools: pools + "]\n" }
}

/// A pool with a route and health checks for each ten endpoints.
fn many_pools(endpoints: &[SocketAddr]) -> Tables {
    let mut tables = Tables { listener: "pool = \"p0\"\n".to_owned(), pools: String::new() };
    for (n, endpoints) in endpoints.chunks(ENDPOINTS_PER_POOL).enumerate() {
        let list: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
        tables.listener += &format!("[[listener.web.route]]\nhost = \"p{n}.example\"\npool = \"p{n}\"\n");
        let health = format!("[pool.p{n}.health]\ntype = \"http\"\npath = \"/healthz\"\n");
        tables.pools += &format!("[pool.p{n}]\nendpoints = [{}]\n{health}", list.join(", "));
    }
    tables
}

/// The whole file.
fn file(dir: &Path, listen: SocketAddr, api: SocketAddr, tables: &Tables) -> String {
    let Tables { listener, pools } = tables;
    let node = format!("[node]\nworkers = 1\nstate_dir = \"{}\"\n[api]\nbind = \"{api}\"\n", dir.display());
    format!("{node}[listener.web]\nbind = \"{listen}\"\nprotocol = \"http\"\n{listener}{pools}")
}

fn start_weir(bench: &mut Bench, name: &str, tables: &Tables) -> Result<Started> {
    let (listen, api) = (loopback(bench.ports.take()?), loopback(bench.ports.take()?));
    let dir: PathBuf = bench.dir.join(format!("membership-{name}-{}", listen.port()));
    std::fs::create_dir_all(&dir)?;
    let config = dir.join("weir.toml");
    std::fs::write(&config, file(&dir, listen, api, tables))?;
    let args = vec!["run".into(), "--config".into(), config.display().to_string()];
    let at = Instant::now();
    let program = bench.programs.weir.clone();
    let process = process::spawn(Spec { name: "weir", core: Core::Proxy, program, args, death_signal: "KILL", dir: &dir })?;
    Ok(Started { at, process, listen, api })
}

fn until_served(weir: &mut Started, host: &str) -> Result<Duration> {
    loop {
        let answer = client::fetch(weir.listen, host, "/b/100");
        let took = weir.at.elapsed();
        match answer {
            Ok(_) => return Ok(took),
            Err(e) if took > DEADLINE => return Err(e).context("it did not serve in time"),
            Err(_) => weir.process.check_alive()?,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_valid() {
        let endpoints: Vec<SocketAddr> = (0..1000).map(|n| numbered(n, 21_000)).collect();
        for (tables, pools) in [(large_pool(&endpoints), 1), (many_pools(&endpoints), 100)] {
            let text = file(Path::new("/tmp"), loopback(1), loopback(2), &tables);
            let config = weir_config::parse(&text, "weir.toml").unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!(config.pools.len(), pools);
        }
    }
}
