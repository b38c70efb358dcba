//! Killed without warning at each step of sending, and at any moment: after the restart everything is told, in order, and a message that is
//! told twice has the same key.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::{NotifyName, Severity};
use weir_notify::channel::Receipt;
use weir_notify::engine::{Input, Output, Raise};
use weir_notify::message::{Message, sample};
use weir_notify::outbox::{Next, Store};
use weir_notify::service::{self, Handle, Options};

const STEPS: u32 = 6;
const FOLDER: &str = "WEIR_TEST_FOLDER";
const STEP: &str = "WEIR_TEST_STEP";

/// This program again, as a process that can be killed: only that test.
fn child(test: &str, folder: &Path, step: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder).env(STEP, step.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::thread::park();
}

/// One message on its way, killed after so many steps; what is "sent" is a line of a file.
fn send_one(folder: &Path, steps: u32) {
    let mut left = steps;
    let mut step = || {
        if left == 0 {
            die();
        }
        left -= 1;
    };
    step();
    let mut store = Store::open(&folder.join("notify.db")).unwrap();
    step();
    store.record(&[Output::Tell(NotifyName::from("a"), Box::new(sample("k-1", 0)))], 1).unwrap();
    step();
    while let Next::Send(claimed) = store.next("a", 2, 1).unwrap() {
        step();
        append(folder, &claimed[0].message);
        step();
        store.delivered("a", &claimed[0].message, &Receipt::default(), 3).unwrap();
        step();
    }
}

fn append(folder: &Path, message: &Message) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(folder.join("sent")).unwrap();
    writeln!(file, "{} {}", message.key, message.attempt).unwrap();
}

/// The child of the test below; without its folder it does nothing.
#[test]
fn child_that_sends_one() {
    if let (Some(folder), Some(step)) = (std::env::var_os(FOLDER), std::env::var(STEP).ok()) {
        send_one(Path::new(&folder), step.parse().unwrap());
    }
}

#[test]
fn at_each_step_of_sending() {
    for step in 0..STEPS {
        let folder = tempfile::tempdir().unwrap();
        let status = child("child_that_sends_one", folder.path(), step).status().unwrap();
        assert_eq!(status.signal(), Some(9), "step {step}");
        // The next process makes the same message again, as the engine would, and sends what waits.
        send_one(folder.path(), u32::MAX);
        let sent = std::fs::read_to_string(folder.path().join("sent")).unwrap();
        let wanted = if step == 4 {
            "k-1 1\nk-1 2\n"
        } else if step == 3 {
            "k-1 2\n"
        } else {
            "k-1 1\n"
        };
        assert_eq!(sent, wanted, "step {step}: only who was killed between sending and noting it sends twice, and says so");
    }
}

fn start(folder: &Path) -> Handle {
    let text = format!(
        "[notify.log]\nmessages_per_minute = 0\n[notify.log.ticket_log]\npath = \"{}/tickets.log\"\n[[notify_rule]]\nnotify = \"log\"\n",
        folder.display()
    );
    let notification = Arc::new(weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).notification);
    let options = Options { state_dir: Some(folder.to_owned()), notification, node: "n".into(), report: Box::new(|_| {}) };
    service::start(options).unwrap()
}

fn raise(key: u32) -> Input {
    let labels = [("number".to_owned(), key.to_string())].into();
    Input::Raise(Raise {
        key: key.to_string(),
        labels,
        severity: Severity::Warning,
        summary: format!("{key}"),
        values: Default::default(),
        series: None,
    })
}

/// Raises the same alarms whenever it is started, until it is killed.
#[test]
fn child_that_tells() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let handle = start(Path::new(&folder));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for key in 0..200 {
            handle.learn(raise(key)).await;
        }
    });
    std::thread::park();
}

#[test]
fn at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let mut child = child("child_that_tells", folder.path(), 0).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.u64(5..250)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let handle = start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for key in 0..200 {
            handle.learn(raise(key)).await;
        }
    });
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(folder.path().join("tickets.log")).unwrap_or_default();
        let tickets: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut numbers: Vec<u64> = tickets.iter().filter_map(|ticket| ticket["labels"]["number"].as_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        if numbers.len() >= 200 {
            assert_eq!(numbers, (0..200).collect::<Vec<u64>>(), "each alarm is one ticket");
            break;
        }
        assert!(Instant::now() < until, "only {} of 200 are told", numbers.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    handle.stop();
}
