//! HTTP/2: CPU time for each request of clients over ten connections with 32 streams each, to endpoints of HTTP/1.1; and of gRPC, small
//! messages both ways to endpoints of HTTP/2. The load is nghttp2's: `h2load`, and `nghttpd` that echoes.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Bench, Origin};
use crate::cpu;
use crate::load::Outcome;
use crate::net::loopback;
use crate::origin::Role;
use crate::peers::{Mode, Peer, Proxy, on_path};
use crate::process::{self, Core, Spec};
use crate::report;

/// Connections, and streams at once on each.
const CONNECTIONS: usize = 10;
const STREAMS: usize = 32;
/// Requests that tell how many fit into the window.
const TRIAL: u64 = 4000;
/// A message of 100 bytes with its prefix, as gRPC frames it.
const MESSAGE: &[u8] = &[0; 105];

const PLAIN: &[Peer] = &[Peer::Weir, Peer::Nginx, Peer::Haproxy, Peer::Envoy];
const GRPC: &[Peer] = &[Peer::Weir, Peer::Haproxy, Peer::Envoy];

/// Runs all cases.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let (h2load, nghttpd) = (on_path("h2load"), on_path("nghttpd"));
    if !h2load.is_file() || !nghttpd.is_file() {
        bench.skip("h2: h2load and nghttpd are not installed (nghttp2-client, nghttp2-server)".into());
        return Ok(());
    }
    let origin = bench.start_origin(Role::Http)?;
    let proxies = bench.start_all(&bench.chosen(PLAIN), Mode::Http2, &origin, false)?;
    measure(bench, "10x32, 100 B", proxies, "/b/100", &[]);

    let message = bench.dir.join("message");
    std::fs::write(&message, MESSAGE)?;
    let origin = start_grpc(bench)?;
    let proxies = bench.start_all(&bench.chosen(GRPC), Mode::Grpc, &origin, false)?;
    let data = message.display().to_string();
    let more = ["-d", &data, "-H", "content-type: application/grpc", "-H", "te: trailers"];
    measure(bench, "gRPC unary, 100 B", proxies, "/bench.Echo/Unary", &more);
    Ok(())
}

fn measure(bench: &mut Bench, case: &str, proxies: Vec<Proxy>, path: &str, more: &[&str]) {
    bench.rounds(case, proxies, |bench, proxy| {
        let trial = load(bench, proxy, path, more, TRIAL)?;
        let per_second = trial.done as f64 / (trial.elapsed_ns as f64 / 1e9);
        let count = (per_second * bench.measure.as_secs_f64()) as u64;
        let seen = load(bench, proxy, path, more, count.max(TRIAL))?;
        bench.add_outcome("h2", case, "request", proxy.peer, &seen);
        Ok(())
    });
    report::print_case(&bench.results, "h2", case);
}

/// One run; the process's CPU time is read around it.
fn load(bench: &Bench, proxy: &Proxy, path: &str, more: &[&str], count: u64) -> Result<Outcome> {
    let mut args: Vec<String> = vec![format!("-n{count}"), format!("-c{CONNECTIONS}"), format!("-m{STREAMS}"), "-t1".into()];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    args.push(format!("http://{}{path}", proxy.address));
    let spec = Spec { name: "h2load", core: Core::Load, program: on_path("h2load"), args, death_signal: "KILL", dir: &bench.dir };
    let before = cpu::snapshot(proxy.process.pid());
    let text = process::spawn_read(spec)?.finish(Duration::from_secs(60))?;
    let cpu_ns = before.ns_until(&cpu::snapshot(proxy.process.pid()));
    read(&text, cpu_ns).with_context(|| format!("h2load said {text:?}"))
}

/// `finished in 1.02s, ...` and `requests: ... 4000 succeeded, ...`; only answers of 200 count.
fn read(text: &str, cpu_ns: u64) -> Result<Outcome> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let finished = line("finished in ").and_then(|rest| rest.split(',').next()).context("no time")?;
    let (number, unit) = finished.split_at(finished.find(|c: char| c.is_ascii_alphabetic()).context("no unit")?);
    let seconds = number.parse::<f64>()?
        * match unit {
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            other => bail!("a unit of time: {other}"),
        };
    let count = |words: &str, name: &str| -> Result<u64> {
        let mut parts = words.split(", ").filter_map(|part| part.trim().rsplit_once(' '));
        Ok(parts.find(|(_, word)| *word == name).context("no count")?.0.parse()?)
    };
    let total = count(line("requests: ").context("no requests")?, "total")?;
    let done = count(line("status codes: ").context("no statuses")?, "2xx")?;
    Ok(Outcome { done, errors: total.saturating_sub(done), elapsed_ns: (seconds * 1e9).round() as u64, cpu_ns, ..Outcome::default() })
}

/// Two servers that send back what they get, with a status behind it.
fn start_grpc(bench: &mut Bench) -> Result<Origin> {
    let root = bench.dir.join("grpc");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("healthz"), "ok")?;
    let addresses = [loopback(bench.ports.take()?), loopback(bench.ports.take()?)];
    let mut processes = Vec::new();
    for address in addresses {
        let args = ["-a", "127.0.0.1", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-d"].map(str::to_owned);
        let args = args.into_iter().chain([root.display().to_string(), address.port().to_string()]).collect();
        let spec = Spec { name: "nghttpd", core: Core::Load, program: on_path("nghttpd"), args, death_signal: "KILL", dir: &bench.dir };
        processes.push(process::spawn(spec)?);
    }
    Ok(Origin { processes, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_says_is_read() {
        let text = "finished in 512.50ms, 7804.88 req/s, 1.1MB/s\nrequests: 4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 \
                    errored, 0 timeout\nstatus codes: 3999 2xx, 0 3xx, 0 4xx, 1 5xx\n";
        let seen = read(text, 7).expect("it is complete");
        assert_eq!((seen.done, seen.errors, seen.elapsed_ns, seen.cpu_ns), (3999, 1, 512_500_000, 7));
        assert!(read("nothing", 0).is_err());
    }
}
