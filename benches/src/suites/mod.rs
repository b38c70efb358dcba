//! The suites: each starts an origin and the proxies, puts load on them in turn, and adds to the results.

pub(crate) mod connections;
pub(crate) mod features;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod latency;
pub(crate) mod membership;
pub(crate) mod memory;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::Outcome;
use crate::load::closed::Kind;
use crate::net::{Ports, loopback};
use crate::origin::Role;
use crate::peers::{Job, Mode, Peer, Programs, Proxy};
use crate::process::{self, Core, Process};
use crate::report::Results;
use crate::wire::Security;

/// How a bench is run, and what it has seen so far.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    /// Those to measure; all are installed.
    pub(crate) peers: Vec<Peer>,
    /// Rounds of each case.
    pub(crate) runs: usize,
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
    /// The peers add the forwarding headers too.
    pub(crate) forwarded: bool,
    /// What requests carry besides the usual.
    pub(crate) field: Option<String>,
    /// Fewer repetitions where a suite has its own number of them.
    pub(crate) quick: bool,
    /// `/proc/loadavg` before anything was started.
    pub(crate) load_before: String,
    /// Configurations, logs and standard error of the children.
    pub(crate) dir: PathBuf,
    pub(crate) ports: Ports,
    pub(crate) results: Results,
}

/// The origin's processes with their two endpoints.
pub(crate) struct Origin {
    #[allow(dead_code)] // Held: they end with it.
    pub(crate) processes: Vec<Process>,
    pub(crate) addresses: [SocketAddr; 2],
}

/// Time a child may take beyond its own plan.
const PATIENCE: Duration = Duration::from_secs(10);

impl Bench {
    /// An origin with two listeners of one role.
    pub(crate) fn start_origin(&mut self, role: Role) -> Result<Origin> {
        let addresses = [loopback(self.ports.take()?), loopback(self.ports.take()?)];
        let process = self.start_origin_at(role, &addresses)?;
        Ok(Origin { processes: vec![process], addresses })
    }

    /// An origin at the addresses given.
    pub(crate) fn start_origin_at(&self, role: Role, addresses: &[SocketAddr]) -> Result<Process> {
        let listen = addresses.iter().map(|a| format!("{role}={a}"));
        let args = ["origin".to_owned()].into_iter().chain(listen).collect();
        let mut process = process::spawn_self("origin", Core::Load, &self.dir, args)?;
        process.wait_ready(PATIENCE)?;
        Ok(process)
    }

    /// The chosen peers among `wanted`.
    pub(crate) fn chosen(&self, wanted: &[Peer]) -> Vec<Peer> {
        wanted.iter().copied().filter(|p| self.peers.contains(p)).collect()
    }

    /// Starts `peer`; one that does not start is noted and left out.
    pub(crate) fn start(&mut self, peer: Peer, mode: Mode, origin: &Origin, access_log: bool) -> Result<Option<Proxy>> {
        let job = Job {
            mode,
            listen_port: self.ports.take()?,
            api_port: self.ports.take()?,
            origins: origin.addresses,
            access_log,
            forwarded: self.forwarded,
        };
        match peer.start(&self.programs, &job, &self.dir) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(e) => {
                self.skip(format!("{peer}: {e:#}"));
                Ok(None)
            }
        }
    }

    /// Starts all of `peers` that can be started.
    pub(crate) fn start_all(&mut self, peers: &[Peer], mode: Mode, origin: &Origin, access_log: bool) -> Result<Vec<Proxy>> {
        let mut proxies = Vec::new();
        for peer in peers {
            proxies.extend(self.start(*peer, mode, origin, access_log)?);
        }
        Ok(proxies)
    }

    /// Notes what could not be measured.
    pub(crate) fn skip(&mut self, why: String) {
        eprintln!("skipped: {why}");
        self.results.skipped.push(why);
    }

    /// One closed-loop run against a proxy.
    pub(crate) fn closed_loop(&self, proxy: &Proxy, kind: Kind, path: &str, connections: usize) -> Result<Outcome> {
        let mut args: Vec<String> = vec!["load".into(), "closed".into(), "--kind".into(), kind_word(kind).into()];
        args.extend(self.load_args(proxy.address, path, connections, Some(proxy.process.pid())));
        self.load(args)
    }

    /// The same over TLS.
    pub(crate) fn secure_closed_loop(
        &self,
        proxy: &Proxy,
        kind: Kind,
        security: Security,
        path: &str,
        connections: usize,
    ) -> Result<Outcome> {
        let mut args: Vec<String> = vec!["load".into(), "closed".into(), "--kind".into(), kind_word(kind).into()];
        args.extend(self.load_args(proxy.address, path, connections, Some(proxy.process.pid())));
        args.push(format!("--security={}", security_word(security)));
        self.load(args)
    }

    /// Packets on so many flows.
    pub(crate) fn packets(&self, proxy: &Proxy, flows: usize) -> Result<Outcome> {
        let mut args: Vec<String> = vec!["load".into(), "udp".into()];
        args.extend(self.load_args(proxy.address, "/", flows, Some(proxy.process.pid())));
        self.load(args)
    }

    /// One open-loop run against an address.
    pub(crate) fn open_loop(&self, target: SocketAddr, rate: f64, path: &str, connections: usize) -> Result<Outcome> {
        let mut args: Vec<String> = vec!["load".into(), "open".into(), "--rate".into(), rate.to_string()];
        args.extend(self.load_args(target, path, connections, None));
        self.load(args)
    }

    fn load_args(&self, target: SocketAddr, path: &str, connections: usize, cpu_of: Option<u32>) -> Vec<String> {
        let mut args = vec![
            format!("--target={target}"),
            format!("--path={path}"),
            format!("--connections={connections}"),
            format!("--warmup-ms={}", self.warmup.as_millis()),
            format!("--measure-ms={}", self.measure.as_millis()),
        ];
        args.extend(cpu_of.map(|pid| format!("--cpu-of={pid}")));
        args.extend(self.field.iter().map(|field| format!("--field={field}")));
        args
    }

    fn load(&self, args: Vec<String>) -> Result<Outcome> {
        let child = process::spawn_self("load", Core::Load, &self.dir, args)?;
        let text = child.finish(self.warmup + self.measure + PATIENCE)?;
        let outcome: Outcome = serde_json::from_str(text.trim()).with_context(|| format!("the load generator said {text:?}"))?;
        if outcome.done == 0 && outcome.bytes == 0 {
            bail!("nothing was served ({} errors)", outcome.errors);
        }
        Ok(outcome)
    }

    /// Runs `measure` for each proxy in turn, round after round: whatever disturbs the machine disturbs neighbours alike. A proxy that fails is
    /// noted and left out of the rest of the case.
    pub(crate) fn rounds(&mut self, case: &str, mut proxies: Vec<Proxy>, mut measure: impl FnMut(&mut Bench, &Proxy) -> Result<()>) {
        for round in 1..=self.runs {
            eprintln!("{case}: round {round} of {}", self.runs);
            proxies.retain(|proxy| match measure(self, proxy) {
                Ok(()) => true,
                Err(e) => {
                    self.skip(format!("{case}: {}: {e:#}", proxy.peer));
                    false
                }
            });
        }
    }

    /// Adds the usual values of a closed-loop run: CPU for each unit of work, and the rate.
    pub(crate) fn add_outcome(&mut self, suite: &str, case: &str, word: &str, peer: Peer, seen: &Outcome) {
        let peer = peer.to_string();
        let seconds = seen.elapsed_ns as f64 / 1e9;
        self.results.add(suite, case, &format!("cpu/{word}"), "us", &peer, seen.cpu_ns as f64 / 1e3 / seen.done as f64);
        self.results.add(suite, case, &format!("{word}s"), "1/s", &peer, seen.done as f64 / seconds);
        self.results.add(suite, case, "core in use", "%", &peer, seen.cpu_ns as f64 / seen.elapsed_ns as f64 * 100.0);
        if seen.errors + seen.reconnects > 0 {
            self.skip(format!("{case}: {peer}: {} errors and {} reconnections among {} {word}s", seen.errors, seen.reconnects, seen.done));
        }
    }
}

pub(crate) fn security_word(security: Security) -> &'static str {
    match security {
        Security::None => "none",
        Security::Full => "full",
        Security::Resumed => "resumed",
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Http => "http",
        Kind::Connect => "connect",
        Kind::Echo => "echo",
        Kind::Source => "source",
        Kind::Sink => "sink",
    }
}
