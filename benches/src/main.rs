//! Side-by-side measurements of weir against nginx, HAProxy, Envoy and a blind relay.
//!
//! The proxy has one core to itself; origin, load generators and this program share the other. What is compared is CPU time of the proxy for
//! each request, because throughput on a small machine mostly measures the client. Runs are paired: each round measures every peer once, and
//! ratios are taken round by round.
//!
//! - [`suites`]: what is measured; [`targets`]: what weir promises; [`report`]: table and JSON
//! - [`peers`]: how each product is started; [`process`]: children, pinned and never left behind; [`cpu`]: what they used
//! - [`origin`], [`relay`], [`load`]: our own ends of the wire, each a process of its own, all on [`poller`]; [`wire`]: plain or under TLS;
//!   [`udp`]: both ends for datagrams

mod client;
mod cpu;
mod load;
mod net;
mod origin;
mod peers;
mod poller;
mod process;
mod relay;
mod report;
mod suites;
mod targets;
mod udp;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::load::closed::Kind;
use crate::load::{Target, Window};
use crate::origin::Listen;
use crate::peers::{Peer, Programs};
use crate::process::Core;
use crate::suites::Bench;

/// Measures weir side by side with other products.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs suites, prints a table, writes a JSON file.
    Run(RunArgs),
    /// The origin: ROLE=ADDRESS for each listener; roles are http, echo, source and sink.
    Origin {
        /// What to listen on.
        #[arg(required = true)]
        listen: Vec<Listen>,
    },
    /// Sends datagrams back.
    UdpOrigin {
        /// What to bind.
        #[arg(required = true)]
        listen: Vec<SocketAddr>,
    },
    /// The blind relay.
    Relay {
        /// Where clients connect.
        #[arg(long)]
        listen: SocketAddr,
        /// Where it connects to, in turn.
        #[arg(required = true)]
        upstreams: Vec<SocketAddr>,
    },
    /// A load generator.
    #[command(subcommand)]
    Load(LoadCommand),
}

#[derive(Subcommand)]
enum LoadCommand {
    /// Each connection begins the next exchange when one ends.
    Closed {
        /// What an exchange is.
        #[arg(long, value_enum, default_value_t = Kind::Http)]
        kind: Kind,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        window: Window,
    },
    /// Requests at a fixed rate, latency from the moment each was due.
    Open {
        /// Requests a second.
        #[arg(long)]
        rate: f64,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        window: Window,
    },
    /// Packets of 64 bytes and their echoes; the connections are flows.
    Udp {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        window: Window,
    },
    /// One request on each connection, then all are held until standard input ends.
    Idle {
        /// Requests under way at once.
        #[arg(long, default_value_t = 64)]
        at_once: usize,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// Suites to run, separated by commas; all when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Suite>,
    /// Peers to measure, separated by commas; all that are installed when absent.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Rounds of each case [default: 5, with --quick 3].
    #[arg(long)]
    runs: Option<usize>,
    /// Short windows: good for a look, not for a verdict.
    #[arg(long)]
    quick: bool,
    /// The peers also add X-Forwarded-For and -Proto, as weir does; without this they do less than weir.
    #[arg(long)]
    forwarded: bool,
    /// Exit with 1 when a target of a suite that was run is missed or could not be measured.
    #[arg(long)]
    check: bool,
    /// The weir binary.
    #[arg(long, default_value = "target/release/weir")]
    weir: PathBuf,
    /// The Envoy binary.
    #[arg(long, default_value = "target/bench-tools/envoy/envoy/_bin/envoy")]
    envoy: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench/results.json")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Suite {
    Http,
    Features,
    Tcp,
    Connections,
    Memory,
    Latency,
    Membership,
    Tls,
    H2,
    Udp,
    Watch,
}

/// Above this load average something else competes for the two cores.
const LOAD_QUIET_MAX: f64 = 0.5;

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Origin { listen } => origin::run(&listen).map(|()| ExitCode::SUCCESS),
        Command::UdpOrigin { listen } => udp::serve(&listen).map(|()| ExitCode::SUCCESS),
        Command::Relay { listen, upstreams } => relay::run(listen, &upstreams).map(|()| ExitCode::SUCCESS),
        Command::Load(command) => run_load(command).map(|()| ExitCode::SUCCESS),
    }
}

fn run_load(command: LoadCommand) -> Result<()> {
    let outcome = match command {
        LoadCommand::Closed { kind, target, window } => load::closed::run(kind, &target, &window)?,
        LoadCommand::Open { rate, target, window } => load::open::run(rate, &target, &window)?,
        LoadCommand::Udp { target, window } => udp::run(&target, &window)?,
        LoadCommand::Idle { at_once, target } => return load::idle::run(&target, at_once),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn run(args: &RunArgs) -> Result<ExitCode> {
    process::pin_self(Core::Load)?;
    let programs = Programs { weir: absolute(&args.weir)?, envoy: absolute(&args.envoy)? };
    let mut bench = set_up(args, programs)?;
    let suites: Vec<Suite> = if args.only.is_empty() { Suite::value_variants().to_vec() } else { args.only.clone() };
    for suite in &suites {
        match suite {
            Suite::Http => suites::http::run(&mut bench),
            Suite::Features => suites::features::run(&mut bench),
            Suite::Tcp => suites::tcp::run(&mut bench),
            Suite::Connections => suites::connections::run(&mut bench),
            Suite::Memory => suites::memory::run(&mut bench),
            Suite::Latency => suites::latency::run(&mut bench),
            Suite::Membership => suites::membership::run(&mut bench),
            Suite::Tls => suites::tls::run(&mut bench),
            Suite::H2 => suites::h2::run(&mut bench),
            Suite::Udp => suites::udp::run(&mut bench),
            Suite::Watch => suites::watch::run(&mut bench),
        }
        .with_context(|| format!("suite {suite:?}"))?;
    }
    let names: Vec<String> = suites.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
    let verdicts = targets::judge(&bench.results, &names);
    report::print_verdicts(&verdicts);
    let options = options(&bench, &names);
    report::write_json(&args.out, &bench.results, &verdicts, &bench.peers, &bench.programs, &options)?;
    println!("\nWritten to {}", args.out.display());
    let failed = args.check && verdicts.iter().any(|v| !v.met);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Children run in folders of their own, so their paths must not depend on ours.
fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn set_up(args: &RunArgs, programs: Programs) -> Result<Bench> {
    let asked = if args.peers.is_empty() { Peer::value_variants().to_vec() } else { args.peers.clone() };
    let (peers, missing): (Vec<Peer>, Vec<Peer>) = asked.into_iter().partition(|p| p.is_installed(&programs));
    if peers.is_empty() {
        bail!("none of the peers is installed");
    }
    let runs = args.runs.unwrap_or(if args.quick { 3 } else { 5 });
    if runs == 0 {
        bail!("--runs must be at least 1");
    }
    let dir = absolute(args.out.parent().unwrap_or(std::path::Path::new(".")))?.join("work");
    // What an earlier run left, of which the end may have been sudden.
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    let load_before = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if load_before.split(' ').next().and_then(|l| l.parse::<f64>().ok()).is_some_and(|l| l > LOAD_QUIET_MAX) {
        println!("This machine is busy (load {}): ratios will be rough.\n", load_before.trim());
    }
    let (warmup, measure) = if args.quick { (300, 1000) } else { (1000, 3000) };
    let mut bench = Bench {
        programs,
        peers,
        runs,
        warmup: Duration::from_millis(warmup),
        measure: Duration::from_millis(measure),
        forwarded: args.forwarded,
        field: None,
        quick: args.quick,
        load_before: load_before.trim().to_owned(),
        dir,
        ports: net::Ports::new(),
        results: report::Results::default(),
    };
    for peer in missing {
        bench.skip(format!("{peer}: not installed"));
    }
    for peer in &bench.peers {
        println!("{peer:<20} {}", peer.version(&bench.programs).unwrap_or_default());
    }
    Ok(bench)
}

fn options(bench: &Bench, suites: &[String]) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("suites", suites.join(",")),
        ("runs", bench.runs.to_string()),
        ("warmup_ms", bench.warmup.as_millis().to_string()),
        ("measure_ms", bench.measure.as_millis().to_string()),
        ("quick", bench.quick.to_string()),
        ("load_average_before", bench.load_before.clone()),
        ("peers_add_forwarding_headers", bench.forwarded.to_string()),
    ])
}
