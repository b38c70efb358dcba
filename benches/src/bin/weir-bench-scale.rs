//! How long a pool under rising load waits for a machine: from the data point that crosses the threshold to the plan, and from the plan to the first
//! request that the new machine answers, cold beside the same guest started by `virsh` alone, and warm. On a virtual host of the lab, with a real
//! libvirtd, QEMU, guests, a node of weir and clients. As root.
//!
//! `scripts/bench scale [--runs N] [--only cold,warm] [--weir PROGRAM] [--check]`

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Parser;
use lab::{GuestOptions, Image, Lab, LabOptions, Load, wait_http};
use serde_json::{Value, json};

/// Whatever is waited for here has happened by then, also where guests are emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Requests a second: one machine is enough, and is not; the threshold lies between.
const RATES: [u64; 2] = [20, 80];
const THRESHOLD: u64 = 50;

/// What the product promises.
const PERIOD_MS: f64 = 1000.0;
const COLD_OVER_BOOT_MS: f64 = 1500.0;
const WARM_MS: f64 = 1000.0;

/// Measures how long a pool waits for a machine.
#[derive(Parser)]
struct Cli {
    /// Runs of each case.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Cases, separated by commas: cold, warm; both when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The program that is measured, with `weir-libvirt` beside it; the one beside this program when absent.
    #[arg(long)]
    weir: Option<PathBuf>,
    /// Exit with 1 when a target is missed.
    #[arg(long)]
    check: bool,
}

/// What was measured, and whether it is as good as it should be.
#[derive(Default)]
struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Prints a distribution; returns its median and the most.
    fn line(&self, what: &str, samples: &mut [f64]) -> (f64, f64) {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
        let (least, p50, p90, most) = (at(0.0), at(0.5), at(0.9), at(1.0));
        println!("  {what:<52} {p50:8.0} ms p50   {p90:8.0} p90   {least:8.0} to {most:.0}   ({} runs)", samples.len());
        (p50, most)
    }

    fn target(&mut self, what: &str, found: f64, most: f64) {
        let is_met = found <= most;
        println!("  {what:<52} {found:8.0} ms, at most {most} wanted: {}", if is_met { "met" } else { "MISSED" });
        if !is_met {
            self.missed.push(format!("{what}: {found:.0} ms, at most {most} wanted"));
        }
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(unknown) = cli.only.iter().find(|case| !["cold", "warm"].contains(&case.as_str())) {
        bail!("there is no case {unknown}; the cases are: cold, warm");
    }
    if cli.runs == 0 {
        bail!("--runs must be 1 or more");
    }
    let weir = match cli.weir {
        Some(weir) => weir,
        None => std::env::current_exe()?.with_file_name("weir"),
    };
    for program in [weir.clone(), weir.with_file_name("weir-libvirt")] {
        if !program.exists() {
            bail!(
                "{} is missing; run: cargo build --release -p weir-control -p weir-libvirt, or name another one with --weir",
                program.display()
            );
        }
    }
    let wanted = |case: &str| cli.only.is_empty() || cli.only.iter().any(|only| only == case);
    let mut report = Report::default();
    if wanted("cold") {
        cold(&mut report, &weir, cli.runs)?;
    }
    if wanted("warm") {
        warm(&mut report, &weir, cli.runs)?;
    }
    for missed in &report.missed {
        println!("missed: {missed}");
    }
    Ok(if cli.check && !report.missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Clones beside guests that `virsh` starts, in turns, so that both meet the same machine.
fn cold(report: &mut Report, weir: &Path, runs: usize) -> Result<()> {
    println!("cold: a clone is made and boots");
    let site = Site::new(weir, 0)?;
    let (mut plans, mut first, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=runs {
        let Measured { to_plan, to_answer, .. } = site.rise()?;
        let booted = site.boot_alone(run)?;
        // The first fills caches, and its base is copied.
        if run > 0 {
            plans.push(to_plan);
            first.push(to_answer);
            alone.push(booted);
        }
    }
    let (_, latest) = report.line("end of the period that crosses to the plan", &mut plans);
    let (first, _) = report.line("plan to the new machine's first request", &mut first);
    let (boot, _) = report.line("virsh: start to the guest's first answer", &mut alone);
    report.target("to the plan, longest", latest, PERIOD_MS);
    report.target("first request over the guest's own boot, p50", first - boot, COLD_OVER_BOOT_MS);
    site.end(report);
    Ok(())
}

/// Clones that wait, booted and frozen.
fn warm(report: &mut Report, weir: &Path, runs: usize) -> Result<()> {
    println!("warm: a clone is thawed");
    let site = Site::new(weir, 1)?;
    let (mut plans, mut first) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        site.until("a warm clone", |site| {
            let templates = site.get("/v1/templates")?;
            Ok(if templates[0]["warm"] == 1 { Some(()) } else { None })
        })?;
        let Measured { to_plan, to_answer, from_warm } = site.rise()?;
        if !from_warm {
            bail!("no warm clone was taken");
        }
        plans.push(to_plan);
        first.push(to_answer);
    }
    let (_, latest) = report.line("end of the period that crosses to the plan", &mut plans);
    let (first, _) = report.line("plan to the new machine's first request", &mut first);
    report.target("to the plan, longest", latest, PERIOD_MS);
    report.target("first request, p50", first, WARM_MS);
    site.end(report);
    Ok(())
}

/// One rise of the load.
struct Measured {
    to_plan: f64,
    to_answer: f64,
    from_warm: bool,
}

/// A lab with a node of weir in front of its one host, and clients.
struct Site {
    load: Load,
    node: Child,
    api: SocketAddr,
    lab: Lab,
    folder: tempfile::TempDir,
    /// Requests that failed before there was anybody to answer them.
    before: usize,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl Site {
    fn new(weir: &Path, warm: u32) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let lab = Lab::up(LabOptions { hosts: 1, nodes: vec![], ..LabOptions::default() })?;
        let (listen, api) = (free_address()?, free_address()?);
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text(&lab, folder.path(), listen, api, warm))?;
        let log = std::fs::File::create(folder.path().join("weir.log"))?;
        let mut command = Command::new(weir);
        command.args(["run", "--config"]).arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let node = command.spawn().with_context(|| format!("{} does not start", weir.display()))?;
        let load = Load::start(listen, RATES[0]);
        let mut site = Site { load, node, api, lab, folder, before: 0 };
        site.settled(1)?;
        site.before = site.load.failures().len();
        Ok(site)
    }

    fn end(&self, report: &mut Report) {
        let failures = self.load.failures();
        let failed = &failures[self.before..];
        println!("  requests that failed while machines came and went: {} {failed:?}", failed.len());
        if !failed.is_empty() {
            report.missed.push(format!("{} requests failed, none may", failed.len()));
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let mut stream = TcpStream::connect_timeout(&self.api, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}",
            self.api
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        if !head.starts_with("HTTP/1.1 20") {
            bail!("{method} {path}: {} {body}", head.lines().next().unwrap_or_default());
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Asks again until there is an answer; the node may not listen yet.
    fn until<T>(&self, what: &str, mut so: impl FnMut(&Site) -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = so(self);
            if let Ok(Some(found)) = found {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("weir.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                found.map(drop).context(what.to_owned())?;
                bail!("waited in vain for {what}; the node's last words, newest first:\n{}", last.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// So many machines serve, and nothing is under way. Gives their names.
    fn settled(&self, count: usize) -> Result<Vec<String>> {
        self.until(&format!("{count} machines"), |site| {
            let scaling = site.get("/v1/scaling/web")?;
            let members = scaling["members"].as_array().cloned().unwrap_or_default();
            let quiet = scaling["under_way"].as_array().is_some_and(Vec::is_empty);
            let serve = members.iter().all(|member| member["state"] == "serving");
            let names = members.iter().filter_map(|member| member["machine"].as_str().map(str::to_owned)).collect();
            Ok((members.len() == count && serve && quiet).then_some(names))
        })
    }

    /// The load rises until a second machine serves, and falls until it is gone.
    fn rise(&self) -> Result<Measured> {
        self.load.set_rate(RATES[0]);
        let known = self.settled(1)?;
        self.calm()?;
        let seen = self.newest()?;
        self.load.take();
        self.load.set_rate(RATES[1]);
        let answered = self.until("the first request of a new machine", |site| {
            let new = |name: &String| !known.contains(name);
            Ok(site.load.take().into_iter().find(|asked| asked.outcome.as_ref().is_ok_and(new)).map(|asked| asked.at))
        })?;
        let events = self.get(&format!("/v1/events?after={seen}&limit=1000"))?;
        let events = events["events"].as_array().cloned().unwrap_or_default();
        let first = |kind: &str, has: &dyn Fn(&Value) -> bool| {
            let found = events.iter().find(|event| event["event"] == kind && has(&event["details"]));
            found.cloned().with_context(|| format!("there is no event {kind}"))
        };
        let crossed = first("alarm_changed", &|details| details["to"] == "alarm")?;
        let points = crossed["details"]["points"].as_array().cloned().unwrap_or_default();
        // The end of the newest period: with one period, it is the one that crosses.
        let crossed_ms = points.last().and_then(|point| point[0].as_f64()).context("the alarm has no points")? * 1e3;
        let plan = first("scaling_planned", &|details| details["steps"].to_string().contains("slot"))?;
        let plan_ms = plan["at"].as_f64().context("an event has a time")? * 1e3;
        let made = first("machine_made", &|details| details["role"] == "member")?;
        let answered_ms = answered.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() * 1e3;
        self.load.set_rate(RATES[0]);
        self.settled(2)?;
        // Else it would make another one at once.
        self.calm()?;
        self.ask("PUT", "/v1/scaling/web/desired", &json!({ "desired": 1 }).to_string())?;
        self.settled(1)?;
        Ok(Measured { to_plan: plan_ms - crossed_ms, to_answer: answered_ms - plan_ms, from_warm: made["details"]["from_warm"] == true })
    }

    fn calm(&self) -> Result<()> {
        self.until("a calm alarm", |site| Ok((site.get("/v1/alarms/busy")?["state"] == "ok").then_some(())))
    }

    /// The number of the newest event.
    fn newest(&self) -> Result<u64> {
        let mut after = 0;
        loop {
            let events = self.get(&format!("/v1/events?after={after}&limit=1000"))?;
            let next = events["next"].as_u64().context("a number")?;
            if next == after {
                return Ok(after);
            }
            after = next;
        }
    }

    /// The same guest without weir, under as much load as does not make the alarm fire, whatever falls into one period.
    fn boot_alone(&self, run: usize) -> Result<f64> {
        self.load.set_rate(THRESHOLD * 4 / 5);
        // Another each time: who had spoken with the guest before would look for this one at the other's network card.
        let (host, address) = (self.lab.host("kvm-a"), self.lab.addresses().free(50 + (run % 40) as u8));
        let began = Instant::now();
        let guest = host.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new("alone") })?;
        wait_http(address, "/healthz", PATIENCE)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        host.remove_guest(&guest)?;
        Ok(took)
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn text(lab: &Lab, folder: &Path, listen: SocketAddr, api: SocketAddr, warm: u32) -> String {
    let Image { kernel, initramfs, disk, .. } = lab.image();
    let host = lab.host("kvm-a");
    // What is not written here is as it is by default: what is measured is what people get.
    format!(
        "[node]\nname = \"bench\"\nworkers = 1\nstate_dir = {:?}\n[api]\nbind = \"{api}\"\n\
         [listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 1\nmax = 2\nwarm_up = \"0s\"\ncooldown_out = \"0s\"\ndrain_timeout = \"5s\"\nshutdown_timeout = \"5s\"\n\
         [alarm.busy]\npool = \"web\"\nmetric = \"requests-per-endpoint\"\nabove = {THRESHOLD}\nperiod = \"1s\"\nperiods = 1\nscale = \"+1\"\n\
         [host.kvm-a]\nuri = {:?}\nstorage_pool = \"images\"\ndomain_type = \"qemu\"\n\
         [template.web]\nimage = {disk:?}\nmemory = \"96MiB\"\nnetwork = \"lan\"\nkernel = {kernel:?}\ninitrd = {initramfs:?}\nkernel_args = {:?}\n\
         port = 80\nready = \"http\"\nready_path = \"/healthz\"\nboot_timeout = \"3m\"\nwarm = {warm}\n\
         [template.web.static]\nfirst = \"{}\"\nlast = \"{}\"\nprefix = 22\n",
        folder.join("state"),
        host.uri(),
        Image::COMMAND_LINE,
        lab.addresses().free(0),
        lab.addresses().free(9),
    )
}
