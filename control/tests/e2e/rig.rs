//! The rig: a folder and loopback address of its own for each test, and the real `weir` in it.
//!
//! Every test has its own address out of 127.0.0.0/8, so that neither tests beside it nor their clients' source ports can take its ports.
//! Nothing here sleeps for a guess: [`wait_until`] asks again and again until a deadline, and says what it waited for when it gives up.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::wire::{self, Response};

/// Where the API tells everything.
pub(crate) const STATUS_PATH: &str = "/v1/status";

/// How long something may take that should take a moment.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// How long something may take that carries load on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Asks until it is so; panics with `what` after `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs it until it took less than a second, in which a bucket that gains one token a second gains none.
#[track_caller]
pub(crate) fn within_a_second<T>(mut run: impl FnMut() -> T) -> T {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        let began = Instant::now();
        let seen = run();
        if began.elapsed() < Duration::from_secs(1) {
            return seen;
        }
        // Until a bucket of three is full again.
        std::thread::sleep(Duration::from_secs(4));
    }
    panic!("it never took less than a second")
}

/// Held by tests that load the machine, one at a time: two of them on two cores would measure each other.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment, to make a test longer than continuous integration has time for.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A folder and an address.
#[derive(Debug)]
pub(crate) struct Site {
    folder: tempfile::TempDir,
    ip: Ipv4Addr,
    port: AtomicU16,
}

impl Site {
    /// A fresh one.
    pub(crate) fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let ip = Ipv4Addr::new(127, 16 + (pid >> 8 & 0x7f) as u8, pid as u8, (number % 250 + 1) as u8);
        Site { folder: tempfile::tempdir().expect("a temporary folder"), ip, port: AtomicU16::new(8000) }
    }

    /// An address nobody listens on.
    ///
    /// Asked by connecting, not by binding: a process that another test starts at this moment holds a copy of all our descriptors
    /// until its exec, and a listener that lives on in there makes the address look taken to whom it was promised.
    pub(crate) fn address(&self) -> SocketAddr {
        loop {
            let address = SocketAddr::from((self.ip, self.port.fetch_add(1, Ordering::Relaxed)));
            if TcpStream::connect(address).is_err() {
                return address;
            }
        }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder in one step, as a careful editor does.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let aside = self.path(&format!(".{name}.new"));
        fs::write(&aside, text).expect("writing into the temporary folder");
        fs::rename(&aside, &path).expect("renaming in the temporary folder");
        path
    }
}

/// What a test varies about the process; the rest of the file is the test's own text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSettings {
    /// `workers`
    pub(crate) workers: u32,
    /// `drain_timeout`
    pub(crate) drain_timeout: &'static str,
}

impl Default for NodeSettings {
    fn default() -> Self {
        NodeSettings { workers: 2, drain_timeout: "60s" }
    }
}

/// A running `weir`, and all processes it is replaced by.
#[derive(Debug)]
pub(crate) struct Weir<'a> {
    site: &'a Site,
    api: SocketAddr,
    child: Mutex<Child>,
    group: Pid,
}

impl<'a> Weir<'a> {
    /// Starts it with this configuration and waits until it is ready.
    pub(crate) fn start(site: &'a Site, body: &str) -> Weir<'a> {
        Weir::start_with(site, NodeSettings::default(), body)
    }

    /// Starts it with these process settings and waits until it is ready.
    pub(crate) fn start_with(site: &'a Site, settings: NodeSettings, body: &str) -> Weir<'a> {
        let api = site.address();
        site.write("weir.toml", &config_text(site, api, settings, body));
        Weir::start_written(site, api)
    }

    /// Starts it with the file as it lies there.
    pub(crate) fn start_written(site: &'a Site, api: SocketAddr) -> Weir<'a> {
        // Where a token is asked for, asking for it is ready enough.
        Weir::start_until(site, api, |weir| weir.ready() || wire::get(api, "/readyz").is_ok_and(|response| response.status == 401))
    }

    /// The same, ready when this says so.
    pub(crate) fn start_until(site: &'a Site, api: SocketAddr, ready: impl Fn(&Weir<'_>) -> bool) -> Weir<'a> {
        let log = log_file(&site.path("weir.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(site.path("weir.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("starting weir");
        let group = Pid::from_child(&child);
        let weir = Weir { site, api, child: Mutex::new(child), group };
        wait_until("weir to be ready", SOON, || {
            if let Some(status) = weir.exited() {
                panic!("weir ended at once: {status}");
            }
            ready(&weir)
        });
        weir
    }

    /// Whether `/readyz` says so.
    pub(crate) fn ready(&self) -> bool {
        wire::get(self.api, "/readyz").is_ok_and(|response| response.status == 200)
    }

    /// Where the API listens.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// How the first process ended, when it has.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().expect("asking for the child")
    }

    /// The first process.
    pub(crate) fn first_pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Sends a signal to a process of ours.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        let pid = Pid::from_raw(pid as i32).expect("a process id is not zero");
        rustix::process::kill_process(pid, signal).expect("signalling weir");
    }

    /// Writes another configuration, not yet in effect.
    pub(crate) fn write_config(&self, settings: NodeSettings, body: &str) {
        self.site.write("weir.toml", &config_text(self.site, self.api, settings, body));
    }

    /// Writes another configuration and makes it take effect.
    #[track_caller]
    pub(crate) fn reload(&self, body: &str) {
        self.write_config(NodeSettings::default(), body);
        self.cli_ok(&["reload"]);
    }

    /// A command that talks to this node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(args).env("WEIR_API", self.api.to_string()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("starting the command")
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "weir {args:?}: {}\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
        printed
    }

    /// A document of the API.
    pub(crate) fn api_get(&self, path: &str) -> serde_json::Value {
        let response: Response = wire::get(self.api, path).expect("asking the API");
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", response.text()))
    }

    /// The status of one endpoint; null where the pool does not name it.
    #[track_caller]
    pub(crate) fn endpoint(&self, pool: &str, address: SocketAddr) -> serde_json::Value {
        let status = self.api_get(STATUS_PATH);
        let pools = status["pools"].as_array().unwrap_or_else(|| panic!("no pools in {status}"));
        let pool = pools.iter().find(|p| p["name"] == pool).unwrap_or_else(|| panic!("no pool {pool} in {status}"));
        let address = address.to_string();
        let mut endpoints = pool["endpoints"].as_array().into_iter().flatten();
        endpoints.find(|e| e["address"] == address.as_str()).cloned().unwrap_or(serde_json::Value::Null)
    }

    /// The process that serves now.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        let node = &self.api_get(STATUS_PATH)["node"];
        node["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_else(|| panic!("no pid in {node}"))
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.site.path("weir.log")).unwrap_or_default()
    }
}

impl Drop for Weir<'_> {
    fn drop(&mut self) {
        // The group holds the processes of binary upgrades as well, which are not our children.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let mut shown = String::from("--- the end of weir's log\n");
            for line in tail.iter().rev() {
                let _ = writeln!(shown, "{line}");
            }
            eprintln!("{shown}---");
        }
    }
}

/// The whole file: process settings, API and the test's own text.
fn config_text(site: &Site, api: SocketAddr, settings: NodeSettings, body: &str) -> String {
    let NodeSettings { workers, drain_timeout } = settings;
    let state = site.path("state");
    format!(
        "[node]\nname = \"test\"\nworkers = {workers}\nstate_dir = {state:?}\ndrain_timeout = \"{drain_timeout}\"\n\n\
         [api]\nbind = \"{api}\"\n\n{body}\n"
    )
}

fn log_file(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("opening the log")
}

/// Whether a process still runs; one that ended and was not yet collected does not.
pub(crate) fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name in parentheses may hold anything; the state is the first word after the last parenthesis.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z'))
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel says VmRSS");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("VmRSS is a number")
}

/// A listener and a pool of these endpoints, both called `name`; `more` goes into the pool's table.
pub(crate) fn http_site(name: &str, listen: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    format!("[listener.{name}]\nbind = \"{listen}\"\nprotocol = \"http\"\npool = \"{name}\"\n\n{}", pool(name, endpoints, more))
}

/// A pool of these endpoints; `more` goes into its table.
pub(crate) fn pool(name: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[pool.{name}]\nendpoints = [{}]\n{more}\n", list.join(", "))
}

/// A quick health check for the pool `name`, which is patient with an origin that only waits for a processor.
pub(crate) fn health(name: &str) -> String {
    format!(
        "[pool.{name}.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"2s\"\nfast_interval = \"100ms\"\ntimeout = \"2s\"\nrise = 2\nfall = 3\n"
    )
}
