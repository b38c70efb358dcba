//! A lab with nodes of `weir` in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::{Host, Image, Lab, LabOptions};
use serde_json::Value;

/// One test at a time: guests in software emulation need the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Until something is so that takes the boots of several guests.
pub(crate) const BOOTS: Duration = Duration::from_secs(240);

pub(crate) struct Site {
    pub(crate) lab: Lab,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Waits until it is so, and says what was last seen if it never is.
#[track_caller]
pub(crate) fn until(what: &str, limit: Duration, mut so: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    loop {
        match so() {
            Ok(()) => return,
            Err(last) => assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}: {last}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Site {
    pub(crate) fn new(nodes: &[&str]) -> Site {
        Site::of(1, nodes)
    }

    pub(crate) fn of(hosts: usize, nodes: &[&str]) -> Site {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        let lab = Lab::up(LabOptions { hosts, nodes, ..LabOptions::default() }).expect("a lab can be made");
        Site { lab, folder: tempfile::tempdir().expect("a folder"), _alone: alone }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Hosts and the template `web` of the lab's guest.
    pub(crate) fn machines(&self) -> String {
        self.machines_of(&self.lab.image().disk, |_| String::new())
    }

    /// The same with another disk; `more`: further lines of a host.
    pub(crate) fn machines_of(&self, disk: &Path, more: impl Fn(&str) -> String) -> String {
        let Image { kernel, initramfs, .. } = self.lab.image();
        let mut text = String::new();
        for host in self.lab.hosts() {
            text += &format!(
                "[host.{}]\nuri = {:?}\nstorage_pool = \"images\"\ninterval = \"200ms\"\ntimeout = \"8s\"\ndomain_type = \"qemu\"\n{}",
                host.name(),
                host.uri(),
                more(host.name())
            );
        }
        text += &format!(
            "[template.web]\nimage = {disk:?}\nmemory = \"96MiB\"\nnetwork = \"lan\"\nkernel = {kernel:?}\ninitrd = {initramfs:?}\n\
             kernel_args = {:?}\nport = 80\nready = \"http\"\nready_path = \"/healthz\"\nboot_timeout = \"3m\"\n",
            Image::COMMAND_LINE
        );
        text
    }

    pub(crate) fn host(&self) -> Host<'_> {
        self.lab.host("kvm-a")
    }

    /// The domains of the hosts, as libvirt says.
    pub(crate) fn domains(&self) -> BTreeSet<String> {
        let on = |host: Host<'_>| host.virsh(&["list", "--all", "--name"]).expect("libvirtd answers");
        self.lab.hosts().into_iter().map(on).flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Volumes that belong to machines.
    pub(crate) fn volumes(&self) -> BTreeSet<String> {
        let on = |host: Host<'_>| fs::read_dir(host.path("/var/lib/libvirt/images")).expect("the pool has a folder");
        let entries = self.lab.hosts().into_iter().flat_map(on).flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("weir-") && !name.contains("base")).collect()
    }

    /// Nothing but these machines and what belongs to them.
    pub(crate) fn nothing_else_is_left(&self, machines: &BTreeSet<String>) -> Result<(), String> {
        let (domains, volumes) = (self.domains(), self.volumes());
        let strange = volumes.iter().find(|volume| !machines.iter().any(|name| volume.starts_with(&format!("weir-{name}."))));
        match strange {
            _ if domains != *machines => Err(format!("domains {domains:?}, members {machines:?}")),
            Some(volume) => Err(format!("{volume} belongs to nobody")),
            None => Ok(()),
        }
    }
}

/// A process of `weir`, in the network of a lab's node or in ours.
pub(crate) struct Node {
    pub(crate) api: SocketAddr,
    child: Child,
    file: PathBuf,
    log: PathBuf,
    token: PathBuf,
}

impl Node {
    /// `command`: makes the command that runs in the right network.
    pub(crate) fn start(site: &Site, name: &str, api: Ipv4Addr, body: &str, command: impl Fn(&Path) -> Command) -> Node {
        let program = Path::new(env!("CARGO_BIN_EXE_weir"));
        let beside = program.with_file_name("weir-libvirt");
        assert!(beside.exists(), "{} is missing; run: cargo build -p weir-libvirt", beside.display());
        let api = SocketAddr::from((api, 7117));
        let token = site.path("token");
        fs::write(&token, "letmein\n").expect("a folder");
        let text = format!(
            "[node]\nname = {name:?}\nworkers = 1\nstate_dir = {:?}\ndrain_timeout = \"5s\"\n[api]\nbind = \"{api}\"\ntoken_file = {token:?}\n{body}",
            site.path(&format!("state-{name}"))
        );
        let file = site.path(&format!("{name}.toml"));
        fs::write(&file, text).expect("a folder");
        let log = site.path(&format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a folder");
        let child = command(program)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .spawn()
            .expect("weir starts");
        let mut node = Node { api, child, file, log, token };
        until("the API", Duration::from_secs(30), || {
            assert!(node.child.try_wait().is_ok_and(|ended| ended.is_none()), "it refuses to start");
            node.get("/v1/status").map(drop)
        });
        node
    }

    /// Adds to the file, which the node sees by itself.
    pub(crate) fn append(&self, text: &str) {
        let whole = fs::read_to_string(&self.file).expect("it is ours") + text;
        let draft = self.file.with_extension("draft");
        fs::write(&draft, whole).expect("a folder");
        fs::rename(&draft, &self.file).expect("a folder");
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, "")
    }

    /// Changes something, and what it answers.
    #[track_caller]
    pub(crate) fn act(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &body).unwrap_or_else(|why| panic!("{method} {path} {body}: {why}"))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let length = if body.is_empty() && method == "GET" { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer letmein\r\ncontent-type: application/json\r\n{length}\
             connection: close\r\n\r\n{body}"
        );
        let words = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect_timeout(&self.api, Duration::from_secs(2)).map_err(words)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(words)?;
        stream.write_all(request.as_bytes()).map_err(words)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(words)?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
        if !head.starts_with("HTTP/1.1 20") {
            return Err(format!("{} {body}", head.lines().next().unwrap_or_default()));
        }
        serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))
    }

    /// Runs a command as an operator does, and gives what it prints.
    #[track_caller]
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(words).args(["--api", &self.api.to_string(), "--token-file"]).arg(&self.token).stdin(Stdio::null());
        let output = command.output().expect("it runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "weir {words:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    pub(crate) fn scaling(&self) -> Result<Value, String> {
        self.get("/v1/scaling/web")
    }

    /// What happened, oldest first, each with its details beside its kind.
    pub(crate) fn events(&self) -> Vec<Value> {
        let events = self.get("/v1/events?limit=1000").unwrap_or_default();
        let flat = |mut event: Value| {
            if let Value::Object(details) = event["details"].take() {
                event.as_object_mut().into_iter().for_each(|event| event.extend(details.clone()));
            }
            event
        };
        events["events"].as_array().cloned().unwrap_or_default().into_iter().map(flat).collect()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of {}\n{}\n---", self.log.display(), lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// Machines in a state, by name.
pub(crate) fn members(scaling: &Value, state: &str) -> BTreeSet<String> {
    let all = scaling["members"].as_array().into_iter().flatten();
    all.filter(|member| member["state"] == state).filter_map(|member| member["machine"].as_str().map(str::to_owned)).collect()
}

/// The hosts of the machines, one for each machine, in order.
pub(crate) fn hosts(scaling: &Value) -> Vec<String> {
    let all = scaling["members"].as_array().into_iter().flatten();
    let mut hosts: Vec<String> = all.filter_map(|member| member["host"].as_str().map(str::to_owned)).collect();
    hosts.sort();
    hosts
}

/// So many serve, and nothing else is there or under way.
pub(crate) fn settled(scaling: &Value, count: usize) -> Result<BTreeSet<String>, String> {
    let serving = members(scaling, "serving");
    let all = scaling["members"].as_array().map_or(0, Vec::len);
    let quiet = scaling["under_way"].as_array().is_some_and(Vec::is_empty);
    let slots: Vec<&Value> = scaling["members"].as_array().into_iter().flatten().map(|member| &member["slot"]).collect();
    assert!((1..slots.len()).all(|at| !slots[..at].contains(&slots[at])) || all != serving.len(), "two machines for one slot: {scaling}");
    if serving.len() == count && all == count && quiet { Ok(serving) } else { Err(scaling.to_string()) }
}
