//! A link with hosts on it: a bridge in a network namespace of its own, and a namespace per host.
//!
//! Names carry the number of the process that made them. What an earlier run left because it was killed is removed by the next one; what
//! this run makes is removed when the value is dropped, with every process that still lives in there.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const PREFIX: &str = "wv";

/// Runs a command and fails loudly.
pub fn run(words: &str) -> String {
    let mut parts = words.split_whitespace();
    let program = parts.next().expect("a command");
    let output = Command::new(program).args(parts).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (scripts/test installs what the tests need; they run as root)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until something holds, up to a deadline.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    loop {
        // Looked at once more after the deadline, for this thread may have had to wait itself.
        let is_late = Instant::now() >= deadline;
        if holds() {
            return;
        }
        assert!(!is_late, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The link.
#[derive(Debug)]
pub struct Lab {
    id: String,
    hosts: Vec<String>,
}

impl Lab {
    /// A bridge with as many hosts as there are names; host N has 10.9.0.N/24 and fd09::N/64, on `eth0`.
    pub fn new(hosts: &[&str]) -> Lab {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "tests with network namespaces run as root");
        SWEEP.call_once(sweep);
        let id = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { id, hosts: hosts.iter().map(|host| (*host).to_owned()).collect() };
        let bridge = lab.bridge();
        run(&format!("ip netns add {bridge}"));
        run(&format!("ip -n {bridge} link add br0 type bridge mcast_snooping 0"));
        run(&format!("ip -n {bridge} link set br0 up"));
        for (number, host) in lab.hosts.iter().enumerate().map(|(index, host)| (index + 1, host)) {
            let space = lab.space(host);
            run(&format!("ip netns add {space}"));
            run(&format!("ip -n {bridge} link add name {host} type veth peer name eth0 netns {space}"));
            run(&format!("ip -n {bridge} link set dev {host} master br0 up"));
            run(&format!("ip -n {space} link set lo up"));
            // A link-local address at once, and the greater one for the host with the greater number.
            run(&format!("ip -n {space} link set eth0 addrgenmode none up"));
            run(&format!("ip -n {space} addr add fe80::{number}/64 dev eth0 nodad"));
            run(&format!("ip -n {space} addr add 10.9.0.{number}/24 dev eth0"));
            run(&format!("ip -n {space} addr add fd09::{number}/64 dev eth0 nodad"));
        }
        lab
    }

    /// The bridge's namespace; its ports are named like the hosts.
    pub fn bridge(&self) -> String {
        format!("{}-br", self.id)
    }

    /// A host's namespace.
    pub fn space(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    /// A command in a host.
    pub fn command(&self, host: &str, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(host)]).arg(program.into());
        command
    }

    /// Takes a host's carrier away, or gives it back.
    pub fn carrier(&self, host: &str, on: bool) {
        run(&format!("ip -n {} link set dev {host} {}", self.bridge(), if on { "up" } else { "down" }));
    }

    /// Nothing goes to or from a host any more, which it cannot see.
    pub fn partition(&self, host: &str) {
        let rules = format!(
            "table bridge cut {{
 chain forward {{
 type filter hook forward priority 0
 iifname \"{host}\" drop
 oifname \"{host}\" drop
 }}
}}
"
        );
        let mut nft =
            Command::new("ip").args(["netns", "exec", &self.bridge(), "nft", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        std::io::Write::write_all(&mut nft.stdin.take().expect("piped"), rules.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft").success());
    }

    /// Takes the partition away.
    pub fn heal(&self) {
        run(&format!("ip netns exec {} nft delete table bridge cut", self.bridge()));
    }

    /// Whether a host has an address now.
    pub fn has(&self, host: &str, address: &str) -> bool {
        run(&format!("ip -n {} -o addr show", self.space(host))).contains(&format!(" {address}/"))
    }

    /// Runs something in a host's namespace, on a thread of its own: sockets made there stay there.
    pub fn inside<T: Send>(space: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{space}")).expect("the namespace is there");
        std::thread::scope(|scope| {
            let inner = scope.spawn(move || {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).expect("setns, as root");
                work()
            });
            inner.join().expect("the work inside a namespace")
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&self.space(host));
        }
        remove(&self.bridge());
    }
}

/// Kills what lives in a namespace and removes it.
fn remove(space: &str) {
    let output = Command::new("ip").args(["netns", "pids", space]).output();
    for pid in output.iter().flat_map(|output| String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()) {
        if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", space]).stderr(Stdio::null()).status();
    // What peers of ours were configured with.
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(space));
}

/// Removes what runs left that are no more.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        if pid.parse::<u32>().is_ok_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}
