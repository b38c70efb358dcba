//! How long an address is nowhere: our virtual routers beside keepalived, on a link in network namespaces, with a TCP client as the clock.
//!
//! Three hosts on a bridge: two routers with a server behind the address, and a client that opens a connection every millisecond. A killed
//! router's server goes with it, as it does in `weir run`, where both are one process; what its kernel still answers is no success. As root.
//!
//! `scripts/bench vip [--runs N] [--only SUITE,...] [--check] [--soak-minutes N]`; suites: crash, process, dataplane, hang, release, reload,
//! crowd, soak.

#[allow(unreachable_pub, missing_docs)]
#[path = "../../../vrrp/tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use support::hang::{Hang, hang, thread_named};
use support::keepalived::Keepalived;
use support::net::{Lab, until};
use support::node::Program;
use support::sniff::Sniffer;

const VIP: &str = "10.9.0.100";
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer that takes longer has met a gap: the client's kernel asks again after a second.
const LATE: Duration = Duration::from_millis(500);

/// Measures virtual IPs side by side with keepalived.
#[derive(Parser)]
struct Cli {
    /// Runs of each case.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Suites, separated by commas; all but the soak when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Exit with 1 when a target is missed.
    #[arg(long)]
    check: bool,
    /// How long the soak lasts.
    #[arg(long, default_value_t = 60)]
    soak_minutes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Product {
    Weir,
    Keepalived,
}

impl Product {
    const BOTH: [Product; 2] = [Product::Weir, Product::Keepalived];

    fn name(self) -> &'static str {
        match self {
            Product::Weir => "weir",
            Product::Keepalived => "keepalived",
        }
    }

    fn start(self, lab: &Lab, host: &str, priority: u8, interval: Duration) -> Program {
        match self {
            Product::Weir => {
                let interval = interval.as_millis();
                Program::weir(lab, host, &[&format!("vrid=51,address={VIP}/24,priority={priority},interval={interval}")])
            }
            Product::Keepalived => {
                let addresses = vec![format!("{VIP}/24")];
                Keepalived { version: 3, v6: false, vrid: 51, priority, interval, preempt: true, addresses }.start(lab, host)
            }
        }
    }
}

/// A server that says a byte to each client, on every address of a host.
struct Server {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(lab: &Lab, host: &str) -> Server {
        let listener = Lab::inside(&lab.space(host), || TcpListener::bind("0.0.0.0:8080").expect("a free port"));
        listener.set_nonblocking(true).expect("a plain flag");
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&timeout));
                while let Ok((mut client, _)) = listener.accept() {
                    let _ = client.write_all(b"x");
                }
            }
        });
        Server { end, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What became of one connection.
#[derive(Clone, Copy)]
struct Outcome {
    began: Instant,
    /// When the byte came; `None`: it failed, or never came.
    answered: Option<Instant>,
}

/// Opens a connection every millisecond.
struct Prober {
    end: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    fn start(lab: &Lab, host: &str) -> Prober {
        let end = Arc::new(AtomicBool::new(false));
        let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let (ended, results, space) = (end.clone(), outcomes.clone(), lab.space(host));
        let thread = std::thread::spawn(move || Lab::inside(&space, || probe(&ended, &results)));
        Prober { end, outcomes, thread: Some(thread) }
    }

    /// The longest time without an answer since `since`.
    fn gap(&self, since: Instant) -> Duration {
        let outcomes = self.outcomes.lock().expect("no panic while held");
        let mut answered: Vec<Instant> = outcomes.iter().filter_map(|one| one.answered).collect();
        answered.sort_unstable();
        let from = answered.partition_point(|at| *at < since).saturating_sub(1);
        answered[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
    }

    fn answered_since(&self, since: Instant) -> usize {
        let outcomes = self.outcomes.lock().expect("no panic while held");
        outcomes.iter().filter(|one| one.answered.is_some_and(|at| at >= since)).count()
    }

    /// Ends, and tells all connections and those that failed or were late.
    fn finish(mut self) -> (usize, usize) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let outcomes = self.outcomes.lock().expect("no panic while held");
        let bad = outcomes.iter().filter(|one| one.answered.is_none_or(|at| at - one.began > LATE)).count();
        (outcomes.len(), bad)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn probe(end: &AtomicBool, results: &Mutex<Vec<Outcome>>) {
    let target: SocketAddr = format!("{VIP}:8080").parse().expect("an address");
    let mut open: Vec<(Instant, Socket)> = Vec::new();
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        let ending = end.load(Ordering::Relaxed);
        if ending && open.is_empty() {
            return;
        }
        if now >= next && !ending {
            next = (next + Duration::from_millis(1)).max(now);
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            if let Ok(socket) = socket {
                let _ = socket.connect(&target.into());
                open.push((now, socket));
            }
        }
        let mut fds: Vec<PollFd<'_>> = open.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)).collect();
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 300_000 };
        let _ = poll(&mut fds, Some(&timeout));
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut index = 0;
        open.retain_mut(|(began, socket)| {
            let ready = ready[index];
            index += 1;
            let now = Instant::now();
            let answered = ready && socket.read(&mut [0u8; 1]).is_ok_and(|length| length == 1);
            let over = ready || now - *began > Duration::from_secs(2);
            if over {
                let outcome = Outcome { began: *began, answered: answered.then_some(now) };
                results.lock().expect("no panic while held").push(outcome);
            }
            !over
        });
    }
}

/// Two routers, one of them master, and the client served.
struct Scene {
    lab: Lab,
    ports: [Sniffer; 2],
    servers: [Option<Server>; 2],
    routers: [Option<Program>; 2],
    prober: Prober,
}

const HOSTS: [&str; 2] = ["a", "b"];

fn address(host: usize) -> IpAddr {
    format!("10.9.0.{}", host + 1).parse().expect("an address")
}

impl Scene {
    fn new(product: Product, interval: Duration) -> Scene {
        let lab = Lab::new(&["a", "b", "c"]);
        let ports = HOSTS.map(|host| Sniffer::new(&lab, host));
        let servers = HOSTS.map(|host| Some(Server::start(&lab, host)));
        let began = Instant::now();
        let first = product.start(&lab, HOSTS[0], 251, interval);
        let master = |advert: &support::sniff::Advert| advert.source == address(0) && advert.priority > 0;
        ports[0].wait_advert("a master", began, PATIENCE, master);
        let second = product.start(&lab, HOSTS[1], 250, interval);
        if product == Product::Weir {
            second.wait_line("initialize backup", 0, PATIENCE);
            first.wait_line("is a node of ours", 0, PATIENCE);
        } else {
            second.wait_line("Entering BACKUP STATE", 0, PATIENCE);
        }
        let prober = Prober::start(&lab, "c");
        let began = Instant::now();
        until("the client is served", PATIENCE, || prober.answered_since(began) > 100);
        Scene { lab, ports, servers, routers: [Some(first), Some(second)], prober }
    }

    fn taken(&self, since: Instant) -> Instant {
        self.ports[1].wait_advert("a takeover", since, PATIENCE, |advert| advert.source == address(1) && advert.priority > 0).at
    }

    fn served_again(&self, since: Instant) {
        until("the client is served again", PATIENCE, || self.prober.answered_since(since) > 50);
    }
}

/// A distribution, in milliseconds.
#[derive(Default)]
struct Values(Vec<f64>);

impl Values {
    fn add(&mut self, value: Duration) {
        self.0.push(value.as_secs_f64() * 1000.0);
        self.0.sort_by(f64::total_cmp);
    }

    fn at(&self, share: f64) -> f64 {
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len().max(1)) - 1;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    fn print(&self, case: &str, product: Product, what: &str) {
        let (least, middle, high, most) = (self.at(0.0), self.at(0.5), self.at(0.99), self.at(1.0));
        let (runs, name) = (self.0.len(), product.name());
        println!("{case:<12} {name:<11} {what:<44} n={runs:<3} min {least:8.2}  p50 {middle:8.2}  p99 {high:8.2}  max {most:8.2} ms");
    }
}

/// What was promised and not held.
#[derive(Default)]
struct Verdicts(Vec<String>);

impl Verdicts {
    fn most(&mut self, what: &str, value: f64, limit: f64) {
        let met = value <= limit;
        println!("             {} {what}: {value:.2}, at most {limit:.2}", if met { "met   " } else { "MISSED" });
        if !met {
            self.0.push(what.to_owned());
        }
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces need root");
    }
    let all = ["crash", "process", "dataplane", "hang", "release", "reload", "crowd"];
    let only: Vec<&str> = if cli.only.is_empty() { all.to_vec() } else { cli.only.iter().map(String::as_str).collect() };
    let mut verdicts = Verdicts::default();
    for suite in only {
        match suite {
            "crash" => crash(cli.runs, &mut verdicts),
            "process" => process(cli.runs, &mut verdicts),
            "dataplane" => data_plane(cli.runs, &mut verdicts),
            "hang" => hangs(cli.runs, &mut verdicts)?,
            "release" => release(cli.runs, &mut verdicts),
            "reload" => reload(&mut verdicts),
            "crowd" => crowd(&mut verdicts)?,
            "soak" => soak(Duration::from_secs(60 * cli.soak_minutes), &mut verdicts)?,
            other => bail!("no suite is called {other}"),
        }
    }
    Ok(if cli.check && !verdicts.0.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// kill -9 of everything at advertisements every 10 ms.
fn crash(runs: usize, verdicts: &mut Verdicts) {
    let mut gaps = Vec::new();
    for product in Product::BOTH {
        let (mut takeover, mut gap, mut gone) = (Values::default(), Values::default(), Values::default());
        for _ in 0..runs {
            let mut scene = Scene::new(product, Duration::from_millis(10));
            let mut router = scene.routers[0].take().expect("it runs");
            let space = scene.lab.space("a");
            // Looks before the kill already: what is awaited takes less time than a thread's start.
            let watcher = (product == Product::Weir).then(|| std::thread::spawn(move || Lab::inside(&space, gone_at)));
            std::thread::sleep(Duration::from_millis(5));
            let at = router.kill_all();
            scene.servers[0] = None;
            if let Some(watcher) = watcher {
                gone.add(watcher.join().expect("it only looks") - at);
            }
            let taken = scene.taken(at);
            let last = scene.ports[0].adverts(at - Duration::from_secs(1)).into_iter().rfind(|advert| advert.source == address(0));
            takeover.add(taken - last.expect("it has spoken").at);
            scene.served_again(taken);
            gap.add(scene.prober.gap(at));
        }
        takeover.print("crash", product, "last advertisement to the new master's first");
        gap.print("crash", product, "longest time without an answer, TCP client");
        if product == Product::Weir {
            gone.print("crash", product, "kill to the address gone");
            verdicts.most("new master's first advertisement, ms", takeover.at(1.0), 32.0);
            verdicts.most("client gap p99, ms", gap.at(0.99), 40.0);
            verdicts.most("address gone from the dead node, ms", gone.at(1.0), 5.0);
        }
        gaps.push(gap.at(0.99));
    }
    verdicts.most("client gap p99 as a share of keepalived's", gaps[0] / gaps[1], 1.0);
}

/// When the address is gone from this namespace.
fn gone_at() -> Instant {
    let deadline = Instant::now() + PATIENCE;
    while addresses_have(VIP) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    Instant::now()
}

/// Whether this namespace has an address, without starting a program.
fn addresses_have(address: &str) -> bool {
    std::fs::read_to_string("/proc/thread-self/net/fib_trie").is_ok_and(|text| {
        text.lines().zip(text.lines().skip(1)).any(|(line, next)| line.ends_with(&format!("-- {address}")) && next.contains("host LOCAL"))
    })
}

/// The process dies and the guardian (keepalived: its child) does not, at the slowest usual interval.
fn process(runs: usize, verdicts: &mut Verdicts) {
    for product in Product::BOTH {
        let (mut zero, mut takeover) = (Values::default(), Values::default());
        for _ in 0..runs.min(20) {
            let mut scene = Scene::new(product, Duration::from_millis(100));
            let router = scene.routers[0].take().expect("it runs");
            std::thread::sleep(Duration::from_millis(50));
            let at = Instant::now();
            router.signal(Signal::KILL);
            let said =
                scene.ports[0].wait_advert("priority 0", at, PATIENCE, |advert| advert.priority == 0 && advert.source == address(0)).at;
            zero.add(said - at);
            takeover.add(scene.taken(at) - at);
        }
        zero.print("process", product, "kill of the process to priority 0");
        takeover.print("process", product, "kill of the process to the new master");
        if product == Product::Weir {
            verdicts.most("takeover after the process died, 100 ms interval, ms", takeover.at(0.99), 5.0);
        }
    }
}

/// The node is told that its data plane is dead.
fn data_plane(runs: usize, verdicts: &mut Verdicts) {
    let (mut zero, mut takeover) = (Values::default(), Values::default());
    for interval in [10, 1000] {
        for _ in 0..runs.div_ceil(2) {
            let mut scene = Scene::new(Product::Weir, Duration::from_millis(interval));
            let at = Instant::now();
            scene.routers[0].as_mut().expect("it runs").say("eligible vip no");
            let taken = scene.taken(at);
            takeover.add(taken - at);
            let said = scene.ports[0].adverts(at).into_iter().find(|advert| advert.priority == 0);
            if let Some(said) = said {
                zero.add(said.at - at);
            }
        }
    }
    zero.print("dataplane", Product::Weir, "told to priority 0 (10 ms and 1 s intervals)");
    takeover.print("dataplane", Product::Weir, "told to the new master (both intervals)");
    verdicts.most("takeover after the data plane died, ms", takeover.at(0.99), 5.0);
}

/// The whole program on both hosts, with a worker for each core, as a proxy of bytes for a server beside the client.
fn whole(lab: &Lab, folder: &std::path::Path, interval: &str) -> Result<[Program; 2]> {
    let program = std::env::current_exe()?.with_file_name("weir");
    let mut nodes = Vec::new();
    for (host, priority) in HOSTS.into_iter().zip([251, 250]) {
        let text = format!(
            "[node]\nname = {host:?}\nworkers = 2\nstate_dir = {:?}\n[api]\n[listener.web]\nbind = \"{VIP}:8080\"\nprotocol = \"tcp\"\npool = \"web\"\n\
             [pool.web]\nendpoints = [\"10.9.0.3:8080\"]\n[vip.public]\ninterface = \"eth0\"\nrouter_id = 51\naddresses = [\"{VIP}/24\"]\n\
             priority = {priority}\nadvertisement_interval = \"{interval}\"\n",
            folder.join(format!("state-{host}"))
        );
        let file = folder.join(format!("{host}.toml"));
        std::fs::write(&file, text)?;
        nodes.push(Program::start(lab, host, &program, &["run".into(), "--config".into(), file.display().to_string()]));
    }
    nodes.try_into().map_err(|_| anyhow::anyhow!("two hosts"))
}

/// A worker of the whole program hangs in the middle of its work, and the process lives on.
fn hangs(runs: usize, verdicts: &mut Verdicts) -> Result<()> {
    for how in [Hang::Spinning, Hang::Stopped] {
        let mut takeover = Values::default();
        for run in 0..runs {
            let lab = Lab::new(&["a", "b", "c"]);
            let _server = Server::start(&lab, "c");
            let port = Sniffer::new(&lab, "b");
            let folder = std::env::temp_dir().join(lab.bridge());
            std::fs::create_dir_all(&folder)?;
            let nodes = whole(&lab, &folder, if run % 2 == 0 { "1s" } else { "100ms" })?;
            let since = Instant::now();
            port.wait_advert("a is master", since, PATIENCE, |advert| advert.source == address(0) && advert.priority > 0);
            nodes[0].wait_line("is a node of ours", 0, PATIENCE);
            let prober = Prober::start(&lab, "c");
            let since = Instant::now();
            until("the client is served", PATIENCE, || prober.answered_since(since) > 300);
            let worker = thread_named(nodes[0].pid(), &format!("weir-worker-{}", run % 2)).context("a worker")?;
            let hanging = hang(worker, how);
            let new = |advert: &support::sniff::Advert| advert.source == address(1) && advert.priority > 0;
            takeover.add(port.wait_advert("a takeover", hanging.since, PATIENCE, new).at - hanging.since);
            std::fs::remove_dir_all(&folder)?;
        }
        let name = format!("hang ({how:?}) to the new master, 100 ms and 1 s");
        takeover.print("hang", Product::Weir, &name);
        verdicts.most(&format!("takeover after a worker hung ({how:?}), ms"), takeover.at(1.0), 5.0);
    }
    Ok(())
}

/// A clean release under a thousand new connections a second, at the longest usual interval and at the shortest, in turns.
fn release(runs: usize, verdicts: &mut Verdicts) {
    for product in Product::BOTH {
        let (mut gap, mut failed, mut all) = (Values::default(), 0, 0);
        for run in 0..runs {
            let mut scene = Scene::new(product, Duration::from_millis(if run % 2 == 0 { 1000 } else { 10 }));
            let at = Instant::now();
            let router = scene.routers[0].as_mut().expect("it runs");
            match product {
                Product::Weir => router.say("release vip"),
                Product::Keepalived => {
                    router.stop();
                }
            }
            let taken = scene.taken(at);
            scene.served_again(taken);
            std::thread::sleep(Duration::from_millis(300));
            gap.add(scene.prober.gap(at));
            let (total, bad) = scene.prober.finish();
            (all, failed) = (all + total, failed + bad);
        }
        gap.print("release", product, "longest time without an answer, 1 s and 10 ms");
        println!("             {}: {failed} of {all} connections failed or took longer than {LATE:?}", product.name());
        if product == Product::Weir {
            verdicts.most("failed connections", failed as f64, 0.0);
        }
    }
}

/// A reload a second for a minute.
fn reload(verdicts: &mut Verdicts) {
    let mut scene = Scene::new(Product::Weir, Duration::from_millis(10));
    for round in 0..60 {
        for (router, base) in scene.routers.iter_mut().zip([251, 240]) {
            let priority = base + round % 3;
            router.as_mut().expect("it runs").say(&format!("apply vrid=51,address={VIP}/24,priority={priority},interval=10"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let transitions = |router: &Program| router.lines().iter().filter(|line| line.contains(" transition ")).count();
    let counts: Vec<usize> = scene.routers.iter().flatten().map(transitions).collect();
    println!("reload       60 reloads of both nodes in 60 s; transitions of either since its start: {counts:?}");
    verdicts.most("transitions by reloads", counts.iter().sum::<usize>() as f64 - 3.0, 0.0);
}

/// 200 virtual routers of one node at 100 ms.
fn crowd(verdicts: &mut Verdicts) -> Result<()> {
    let window = Duration::from_secs(20);
    let mut used = Vec::new();
    for product in Product::BOTH {
        let lab = Lab::new(&["a"]);
        let port = Sniffer::new(&lab, "a");
        let router = match product {
            Product::Weir => {
                let words: Vec<String> =
                    (1..=200).map(|vrid| format!("name=r{vrid},vrid={vrid},address=10.9.1.{vrid}/24,priority=250,interval=100")).collect();
                Program::weir(&lab, "a", &words.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Product::Keepalived => Keepalived::crowd(&lab, "a", 200),
        };
        let began = Instant::now();
        until("all are masters", PATIENCE, || {
            let seen: std::collections::BTreeSet<u8> = port.adverts(began).iter().map(|advert| advert.vrid).collect();
            seen.len() == 200
        });
        std::thread::sleep(Duration::from_secs(8));
        let pids: Vec<i32> = router.children().into_iter().chain([router.pid()]).map(|pid| pid.as_raw_nonzero().get()).collect();
        let cpu = || -> Result<Duration> { pids.iter().map(|pid| cpu_time(*pid)).sum() };
        let (at, before) = (Instant::now(), cpu()?);
        std::thread::sleep(window);
        let (sent, spent) = (port.adverts(at).len(), cpu()? - before);
        let share = spent.as_secs_f64() / window.as_secs_f64() * 100.0;
        println!(
            "crowd        {:<11} 200 virtual routers at 100 ms: {share:.2} % of a core, {sent} advertisements in {window:?}",
            product.name()
        );
        used.push(share);
    }
    verdicts.most("CPU of 200 virtual routers as a share of keepalived's", used[0] / used[1], 1.0);
    Ok(())
}

/// What all threads of a process have used.
fn cpu_time(pid: i32) -> Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("its threads")?.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

/// 10 ms advertisements while both cores are busy with traffic through the address, and with more work than they can do.
fn soak(length: Duration, verdicts: &mut Verdicts) -> Result<()> {
    let lab = Lab::new(&["a", "b", "c"]);
    let _server = Server::start(&lab, "c");
    let port = Sniffer::new(&lab, "a");
    let folder = std::env::temp_dir().join(lab.bridge());
    std::fs::create_dir_all(&folder)?;
    let nodes = whole(&lab, &folder, "10ms")?;
    port.wait_advert("a is master", Instant::now(), PATIENCE, |advert| advert.source == address(0) && advert.priority > 0);
    nodes[0].wait_line("is a node of ours", 0, PATIENCE);
    nodes[1].wait_line("initialize became backup", 0, PATIENCE);
    // It keeps every frame that it sees.
    drop(port);
    let moves = || -> usize { nodes.iter().map(|node| node.lines().iter().filter(|line| line.contains(" became ")).count()).sum() };
    let (end, before, since) = (Arc::new(AtomicBool::new(false)), moves(), Instant::now());
    let prober = Prober::start(&lab, "c");
    let mut busy: Vec<JoinHandle<usize>> = Vec::new();
    for _ in 0..4 {
        let (end, space) = (end.clone(), lab.space("c"));
        busy.push(std::thread::spawn(move || Lab::inside(&space, || connect_and_read(&end))));
    }
    for _ in 0..2 {
        let end = end.clone();
        busy.push(std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            0
        }));
    }
    std::thread::sleep(length);
    end.store(true, Ordering::Relaxed);
    let served: usize = busy.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    let transitions = moves() - before;
    let (probed, bad) = prober.finish();
    println!(
        "soak         {length:?} at 10 ms, both cores busy with {} connections a second and two endless loops: {transitions} transitions; \
         of the {probed} connections that were measured {bad} failed or took longer than {LATE:?}",
        (served + probed) as u64 / since.elapsed().as_secs().max(1)
    );
    for line in nodes.iter().flat_map(Program::lines).filter(|line| line.contains(" became ") || line.contains("sign of life")) {
        println!("             {line}");
    }
    std::fs::remove_dir_all(&folder)?;
    verdicts.most("spurious transitions", transitions as f64, 0.0);
    Ok(())
}

/// One connection after the other, as fast as they come. How many were answered.
fn connect_and_read(end: &AtomicBool) -> usize {
    let target: SocketAddr = format!("{VIP}:8080").parse().expect("an address");
    let mut answered = 0;
    while !end.load(Ordering::Relaxed) {
        let client = std::net::TcpStream::connect_timeout(&target, Duration::from_secs(2));
        answered += usize::from(client.and_then(|mut client| client.read(&mut [0u8; 1])).is_ok_and(|length| length == 1));
    }
    answered
}
