//! A lab leaves nothing behind, however it ends, and touches nothing that it did not make.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{GuestOptions, Lab, LabOptions, wait_for};

const SOON: Duration = Duration::from_secs(30);

/// One test at a time: each lab that begins cleans up what others were killed over.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lab held by the program, as a person would have it.
struct Program {
    child: Child,
    name: String,
}

impl Program {
    fn up(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["up", "--hosts", "1", "--name", &name]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).any(|line| line.contains("takes it down"));
        assert!(said, "lab up ended with {:?}", child.wait());
        Self { child, name }
    }

    fn signal(&mut self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = lab::down(&self.name);
    }
}

fn lab(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).output().unwrap();
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Namespaces, links and processes of a lab: all hold its token, for the command lines of its hosts hold its folder or its namespace.
fn traces(token: &str, name: &str) -> Vec<String> {
    let list = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut found: Vec<String> = list("ip netns list").lines().chain(list("ip -o link").lines()).map(str::to_owned).collect();
    found.extend(list("ps -e -o args=").lines().filter(|line| !line.contains("target/")).map(str::to_owned));
    found.retain(|line| line.contains(&format!("wl-{token}")) || line.contains(&format!("/run/weir-lab/{name}/")));
    found
}

/// The token of a lab, from its record.
fn token(name: &str) -> String {
    let record = std::fs::read_to_string(format!("/run/weir-lab/{name}/record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_dropped_lab_is_gone() {
    let _alone = alone();
    let lab = Lab::up(LabOptions::default()).unwrap();
    let (name, token) = (lab.name(), token(&lab.name()));
    let host = lab.host("kvm-a");
    host.start_guest(&GuestOptions::new("one")).unwrap();
    // A program that a test left running in a node is of the lab, too.
    let mut left = lab.node("lb-a").command("sleep").arg("1000").spawn().unwrap();
    let mut on_host = host.command("sleep").unwrap().arg("1000").spawn().unwrap();
    assert!(!traces(&token, &name).is_empty());
    drop(lab);
    assert_eq!(traces(&token, &name), Vec::<String>::new());
    assert!(!std::path::Path::new(&format!("/run/weir-lab/{name}")).exists());
    left.wait().unwrap();
    on_host.wait().unwrap();
}

#[test]
fn the_program_goes_by_signal_and_by_command() {
    let _alone = alone();
    for end in ["-INT", "-TERM", "-HUP"] {
        let mut program = Program::up("signal");
        let token = token(&program.name);
        program.signal(end);
        assert_eq!(traces(&token, &program.name), Vec::<String>::new(), "after {end}");
    }
    let mut program = Program::up("command");
    let token = token(&program.name);
    let (good, said) = lab(&["status"]);
    assert!(good && said.contains(&program.name) && said.contains("kvm-a") && said.contains("qemu+tcp://"), "{said}");
    let (good, said) = lab(&["shell", "--name", &program.name, "kvm-a", "virsh", "-q", "net-list"]);
    assert!(good && said.contains("lan"), "{said}");
    let (good, said) = lab(&["shell", "--name", &program.name, "lb-b", "ip", "-br", "address"]);
    assert!(good && said.contains("eth0"), "{said}");
    let (good, said) = lab(&["shell", "--name", &program.name, "nobody", "true"]);
    assert!(!good && said.contains("no host or node named nobody"), "{said}");
    let (good, said) = lab(&["down", &program.name]);
    assert!(good, "{said}");
    program.child.wait().unwrap();
    assert_eq!(traces(&token, &program.name), Vec::<String>::new());
    assert!(!lab(&["down", &program.name]).0, "there is no lab any more");
}

#[test]
fn after_kill_9_the_next_lab_cleans_up_and_foreign_things_stay() {
    let _alone = alone();
    // Things with names that look like a lab's, which no lab made.
    let foreign = format!("wl-zzzzzz-{}", std::process::id() % 10_000);
    let run = |line: String| {
        let mut words = line.split(' ');
        assert!(Command::new(words.next().unwrap()).args(words).status().unwrap().success(), "{line}");
    };
    run(format!("ip netns add {foreign}"));
    run(format!("ip netns exec {foreign} ip link add sw type bridge"));
    let mut process = Command::new("ip").args(["netns", "exec", &foreign, "sleep", "1000"]).spawn().unwrap();
    let mut namesake = Command::new("busybox").args(["sh", "-c", "sleep 1000", "anchor", "/run/weir-lab/x/kvm-a"]).spawn().unwrap();

    let mut program = Program::up("killed");
    let token = token(&program.name);
    let (_, said) = lab(&["shell", "--name", &program.name, "kvm-a", "busybox", "pidof", "libvirtd"]);
    assert!(said.split_whitespace().next().is_some_and(|pid| pid.parse::<u32>().is_ok()), "{said}");
    program.signal("-KILL");
    // Its processes end with it, at once; the names are left for the next one.
    let processes = || traces(&token, &program.name).into_iter().filter(|line| line.contains("/run/weir-lab/")).collect::<Vec<_>>();
    wait_for("the end of the host's processes", SOON, || processes().is_empty().then_some(())).unwrap();
    let (_, said) = lab(&["status"]);
    assert!(said.contains(&format!("{}: abandoned", program.name)), "{said}");

    let next = Lab::up(LabOptions { hosts: 0, nodes: vec![], ..LabOptions::default() }).unwrap();
    assert_eq!(traces(&token, &program.name), Vec::<String>::new());
    drop(next);

    assert!(process.try_wait().unwrap().is_none() && namesake.try_wait().unwrap().is_none(), "a foreign process was ended");
    run(format!("ip netns exec {foreign} ip link show sw"));
    for mut child in [process, namesake] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(format!("ip netns delete {foreign}"));
}

#[test]
fn an_end_in_the_middle_of_the_start_is_cleaned_up_too() {
    let _alone = alone();
    for delay_ms in [5, 30, 80, 150, 300, 600, 900] {
        let name = format!("middle-{}-{delay_ms}", std::process::id());
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_lab")).args(["up", "--hosts", "1", "--name", &name]).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for something to come true: the point is to end it wherever it is by then.
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let record = std::fs::read_to_string(format!("/run/weir-lab/{name}/record.json")).ok();
        let next = Lab::up(LabOptions { hosts: 0, nodes: vec![], ..LabOptions::default() }).unwrap();
        if let Some(record) = record {
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            let token = record["token"].as_str().unwrap().to_owned();
            wait_for("the last trace to go", SOON, || traces(&token, &name).is_empty().then_some(())).unwrap();
        }
        drop(next);
        assert!(!std::path::Path::new(&format!("/run/weir-lab/{name}")).exists(), "after {delay_ms} ms");
    }
}
