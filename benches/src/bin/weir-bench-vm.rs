//! How fast machines come: linked clones beside the same guest started by `virsh` alone, warm clones, ten at once on two hosts; and what it costs
//! to watch a hundred. On virtual hosts of the lab, with real libvirtd, QEMU and guests. As root.
//!
//! `scripts/bench vm [--runs N] [--only SUITE,...] [--check]`; suites: clone, warm, parallel, watch.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use lab::{GuestOptions, Image, Lab, LabOptions, http_get, wait_http};
use weir_config::Config;
use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, MachineName, MachineState, MachineView, Progress, Step, Verb, WaitFor, WarmUse};

/// Whatever is waited for here has happened by then, also where guests are emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Clones at once, on two hosts.
const PARALLEL: u8 = 10;
/// Machines that are watched.
const WATCHED: usize = 100;
/// For how long their watch is measured.
const WATCH: Duration = Duration::from_secs(20);

/// What the product promises.
const RUNNING_MS: f64 = 300.0;
const ANSWER_RATIO: f64 = 1.3;
const WARM_MS: f64 = 300.0;
const WATCH_SHARE: f64 = 0.01;

/// Measures how fast machines come, beside virsh.
#[derive(Parser)]
struct Cli {
    /// Runs of each case.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Suites, separated by commas: clone, warm, parallel, watch; all when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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
    /// Prints a distribution; returns its median.
    fn line(&self, what: &str, samples: &mut [f64]) -> f64 {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
        let (least, p50, p90, most) = (at(0.0), at(0.5), at(0.9), at(1.0));
        println!("  {what:<44} {p50:8.0} ms p50   {p90:8.0} p90   {least:8.0} to {most:.0}   ({} runs)", samples.len());
        p50
    }

    fn target(&mut self, what: &str, found: f64, most: f64, unit: &str) {
        let is_met = found <= most;
        println!("  {what:<44} {found:8.2} {unit}, at most {most} wanted: {}", if is_met { "met" } else { "MISSED" });
        if !is_met {
            self.missed.push(format!("{what}: {found:.2} {unit}, at most {most} wanted"));
        }
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    const SUITES: [&str; 4] = ["clone", "warm", "parallel", "watch"];
    if let Some(unknown) = cli.only.iter().find(|suite| !SUITES.contains(&suite.as_str())) {
        bail!("there is no suite {unknown}; the suites are: {}", SUITES.join(", "));
    }
    let wanted = |suite: &str| cli.only.is_empty() || cli.only.iter().any(|only| only == suite);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        if wanted("clone") {
            clone(&mut report, cli.runs).await?;
        }
        if wanted("warm") {
            warm(&mut report, cli.runs).await?;
        }
        if wanted("parallel") {
            parallel(&mut report).await?;
        }
        if wanted("watch") {
            watch(&mut report).await?;
        }
        anyhow::Ok(())
    })?;
    for missed in &report.missed {
        println!("missed: {missed}");
    }
    Ok(if cli.check && !report.missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A lab with weir's view of it.
struct Site {
    fleet: Fleet,
    lab: Lab,
    _folder: tempfile::TempDir,
}

/// Beside this program, as it is where both are installed.
fn libvirt_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("weir-libvirt");
    if !program.exists() {
        bail!("{} is missing; run: cargo build -p weir-libvirt", program.display());
    }
    Ok(program)
}

fn parse(text: &str) -> Result<Config> {
    weir_config::parse(text, "bench.toml").map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))
}

impl Site {
    async fn new(hosts: usize, template: &str) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let lab = Lab::up(LabOptions { hosts, nodes: vec![], ..LabOptions::default() })?;
        let mut text = format!("[node]\nname = \"bench\"\nstate_dir = {:?}\n", folder.path());
        for host in lab.hosts() {
            text += &format!("[host.{}]\nuri = {:?}\nstorage_pool = \"images\"\ndomain_type = \"qemu\"\n", host.name(), host.uri());
        }
        let Image { kernel, initramfs, disk, .. } = lab.image();
        let (first, last) = (lab.addresses().free(0), lab.addresses().free(39));
        text += &format!(
            "[template.web]\nimage = {disk:?}\nmemory = \"96MiB\"\nnetwork = \"lan\"\nkernel = {kernel:?}\ninitrd = {initramfs:?}\n\
             kernel_args = {:?}\nport = 80\nready = \"http\"\nready_path = \"/healthz\"\n{template}\n\
             [template.web.static]\nfirst = \"{first}\"\nlast = \"{last}\"\nprefix = 22\n",
            Image::COMMAND_LINE
        );
        let fleet = Fleet::start(&parse(&text)?, libvirt_program()?);
        if !fleet.settled(Duration::from_secs(30)).await {
            bail!("not all hosts answer: {:?}", fleet.hosts());
        }
        fleet.prefetch("web".into(), Progress::default()).await?;
        Ok(Site { fleet, lab, _folder: folder })
    }

    async fn delete(&self, machine: &MachineView) -> Result<()> {
        Ok(self.fleet.act(&machine.id.0, Verb::Delete, Progress::default()).await?)
    }
}

fn wish(name: String, wait: WaitFor, warm: WarmUse) -> Result<CloneSpec> {
    let name = Some(name.parse::<MachineName>().map_err(|error| anyhow::anyhow!("{error}"))?);
    Ok(CloneSpec { name, wait, warm, ..CloneSpec::new("web".into()) })
}

fn v4(machine: &MachineView) -> Result<Ipv4Addr> {
    match machine.address {
        Some(IpAddr::V4(address)) => Ok(address),
        other => bail!("{} has no IPv4 address: {other:?}", machine.name),
    }
}

/// Waits for the first answer of a guest, while the hosts go on being watched.
async fn answers(address: Ipv4Addr) -> Result<()> {
    tokio::task::spawn_blocking(move || wait_http(address, "/healthz", PATIENCE)).await??;
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The steps of a clone by their first words, numbered, and how many milliseconds each took. Ends with the clone.
async fn record(mut steps: tokio::sync::watch::Receiver<Step>) -> Vec<(String, f64)> {
    let (mut found, mut since, mut last) = (Vec::new(), Instant::now(), String::new());
    loop {
        let goes_on = steps.changed().await.is_ok();
        let word = steps.borrow_and_update().name.split(' ').next().unwrap_or_default().to_owned();
        if !goes_on || word != last {
            if !last.is_empty() {
                found.push((format!("{} {last}", found.len() + 1), ms(since)));
            }
            (since, last) = (Instant::now(), word);
        }
        if !goes_on {
            return found;
        }
    }
}

/// A clone beside a guest that `virsh` started, in turns, so that both meet the same machine.
async fn clone(report: &mut Report, runs: usize) -> Result<()> {
    println!("clone: call to running, and to the first HTTP answer");
    let site = Site::new(1, "").await?;
    let host = site.lab.host("kvm-a");
    let (mut running, mut answer, mut virsh_running, mut virsh_answer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut spent = BTreeMap::new();
    for run in 0..=runs {
        let progress = Progress::default();
        let steps = tokio::spawn(record(progress.subscribe()));
        let began = Instant::now();
        let machine = site.fleet.clone_machine(wish(format!("web-{run}"), WaitFor::Running, WarmUse::Never)?, progress).await?;
        let is_running = ms(began);
        let steps = steps.await?;
        answers(v4(&machine)?).await?;
        let took = (is_running, ms(began));
        site.delete(&machine).await?;
        // Another each time: who had spoken with the guest before would look for this one at the other's network card.
        let address = site.lab.addresses().free(40 + (run % 40) as u8);
        let began = Instant::now();
        let guest = host.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new("alone") })?;
        let is_running = ms(began);
        answers(address).await?;
        let alone = (is_running, ms(began));
        host.remove_guest(&guest)?;
        // The first of each fills caches.
        if run > 0 {
            for (step, took) in steps {
                spent.entry(step).or_insert_with(Vec::new).push(took);
            }
            running.push(took.0);
            answer.push(took.1);
            virsh_running.push(alone.0);
            virsh_answer.push(alone.1);
        }
    }
    let ours = report.line("weir: running", &mut running);
    for (step, samples) in &mut spent {
        report.line(&format!("  {step}"), samples);
    }
    report.line("virsh: running", &mut virsh_running);
    let (answer, virsh) = (report.line("weir: first answer", &mut answer), report.line("virsh: first answer", &mut virsh_answer));
    report.target("clone to running, p50", ours, RUNNING_MS, "ms");
    report.target("first answer, p50, beside virsh", answer / virsh, ANSWER_RATIO, "times");
    Ok(())
}

/// From the wish for a warm clone to its first answer.
async fn warm(report: &mut Report, runs: usize) -> Result<()> {
    println!("warm: call to the first HTTP answer, and to a machine whose clock is right");
    let site = Site::new(1, "warm = 1").await?;
    site.fleet.set_leader(true);
    let (mut answer, mut ready) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let address = waiting(&site.fleet).await?;
        let began = Instant::now();
        let first = std::thread::spawn(move || {
            while http_get(address, "/healthz", Duration::from_millis(50)).is_err() {
                if began.elapsed() > PATIENCE {
                    bail!("{address} never answered");
                }
            }
            Ok(ms(began))
        });
        let machine = site.fleet.clone_machine(wish(format!("slot-{run}"), WaitFor::Ready, WarmUse::Only)?, Progress::default()).await?;
        ready.push(ms(began));
        answer.push(first.join().expect("it does not panic")?);
        site.delete(&machine).await?;
    }
    let answer = report.line("warm clone: first answer", &mut answer);
    report.line("warm clone: ready, its clock set", &mut ready);
    report.target("warm clone to first answer, p50", answer, WARM_MS, "ms");
    Ok(())
}

/// The address of the warm clone, when there is one.
async fn waiting(fleet: &Fleet) -> Result<Ipv4Addr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let paused = fleet.machines().into_iter().find(|machine| machine.state == MachineState::Paused);
        if let Some(machine) = paused.filter(|_| fleet.templates()[0].warm == 1) {
            return v4(&machine);
        }
        if Instant::now() > deadline {
            bail!("there is no warm clone: {:?}", fleet.templates());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ten at once on two hosts, beside ten that `virsh` starts there at once.
async fn parallel(report: &mut Report) -> Result<()> {
    println!("parallel: {PARALLEL} at once on two hosts, until all answer");
    let site = Site::new(2, "").await?;
    let began = Instant::now();
    let mut clones = tokio::task::JoinSet::new();
    for number in 0..PARALLEL {
        let work = site.fleet.clone_machine(wish(format!("web-{number}"), WaitFor::Ready, WarmUse::Never)?, Progress::default());
        clones.spawn(async move { (work.await, ms(began)) });
    }
    let (mut each, mut machines) = (Vec::new(), Vec::new());
    while let Some(joined) = clones.join_next().await {
        let (machine, took) = joined?;
        each.push(took);
        machines.push(machine?);
    }
    let ours = ms(began);
    for machine in &machines {
        site.delete(machine).await?;
    }
    let addresses = site.lab.addresses();
    let began = Instant::now();
    let alone: Vec<Result<f64>> = std::thread::scope(|scope| {
        let one = |number: u8| -> Result<f64> {
            let host = site.lab.hosts()[usize::from(number % 2)];
            let address = addresses.free(50 + number);
            host.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new(&format!("alone-{number}")) })?;
            wait_http(address, "/healthz", PATIENCE)?;
            Ok(ms(began))
        };
        let threads: Vec<_> = (0..PARALLEL).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let mut alone = alone.into_iter().collect::<Result<Vec<f64>>>()?;
    let virsh = ms(began);
    report.line("weir: each answers after", &mut each);
    report.line("virsh: each answers after", &mut alone);
    println!("  all {PARALLEL}: weir {ours:.0} ms, virsh {virsh:.0} ms");
    report.target("all of them, beside virsh", ours / virsh, ANSWER_RATIO, "times");
    Ok(())
}

/// A hundred machines of libvirt's test driver, which runs inside `weir-libvirt`: all that a look costs is in the two processes.
async fn watch(report: &mut Report) -> Result<()> {
    println!("watch: {WATCHED} machines at an interval of 1 s, for {} s", WATCH.as_secs());
    let folder = tempfile::tempdir()?;
    let mut xml = String::from("<node>");
    for number in 0..WATCHED {
        xml += &format!(
            "<domain type='test'><name>vm-{number}</name><uuid>00000000-0000-4000-8000-{number:012}</uuid><memory>65536</memory>\
             <vcpu>1</vcpu><os><type>hvm</type></os></domain>"
        );
    }
    xml += "</node>";
    let file = folder.path().join("node.xml");
    std::fs::write(&file, xml)?;
    let mut costs = Vec::new();
    for machines in ["one host without machines", "with them"] {
        let uri = if costs.is_empty() { empty_node(folder.path())? } else { file.display().to_string() };
        let text = format!(
            "[node]\nname = \"bench\"\nstate_dir = {:?}\n[host.a]\nuri = \"test://{uri}\"\ninterval = \"1s\"\n",
            folder.path().join("state")
        );
        let fleet = Fleet::start(&parse(&text)?, libvirt_program()?);
        if !fleet.settled(Duration::from_secs(30)).await {
            bail!("the test driver does not answer: {:?}", fleet.hosts());
        }
        let before = cpu_ticks()?;
        tokio::time::sleep(WATCH).await;
        let spent = (cpu_ticks()? - before) as f64 / 100.0;
        println!("  {machines:<44} {:8.2} % of a core", spent / WATCH.as_secs_f64() * 100.0);
        costs.push(spent / WATCH.as_secs_f64());
        // Its process ends with it, and is collected.
        drop(fleet);
    }
    let each_us = (costs[1] - costs[0]).max(0.0) / WATCHED as f64 * 1e6;
    println!("  each machine and look                        {each_us:8.0} µs");
    report.target("share of a core", costs[1], WATCH_SHARE, "of a core");
    Ok(())
}

fn empty_node(folder: &Path) -> Result<String> {
    let file = folder.join("empty.xml");
    std::fs::write(&file, "<node></node>")?;
    Ok(file.display().to_string())
}

/// Hundredths of a second that this process and its children that live have worked.
fn cpu_ticks() -> Result<u64> {
    let own = std::process::id();
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("proc has another form");
        // State is the first field here, the parent the second; user and system time are fields 14 and 15 of the whole line.
        if pid == own || number(1)? == u64::from(own) {
            sum += number(11)? + number(12)?;
        }
    }
    Ok(sum)
}
