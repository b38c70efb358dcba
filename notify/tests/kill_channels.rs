//! Killed without warning when a server has a message and has not answered yet: after the restart it is told once more, under the same key, and
//! where the other end can tell that it has it already, it is not done twice.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{HttpServer, PATIENCE, Script};
use weir_config::Severity;
use weir_notify::engine::{Input, Raise};
use weir_notify::outbox::Store;
use weir_notify::service::{self, Handle, Options};

/// Where the child finds its file and keeps its store.
const FOLDER: &str = "WEIR_TEST_FOLDER";
/// How the key of a message about the first incident begins.
const KEY: &str = "n.1.";

fn start(folder: &Path) -> Handle {
    let text = std::fs::read_to_string(folder.join("weir.toml")).unwrap();
    let config = weir_config::parse(&text, "weir.toml").unwrap_or_else(|errors| panic!("{}\n{text}", errors.render(false)));
    let notification = Arc::new(config.notification);
    let options = Options { state_dir: Some(folder.to_owned()), notification, node: "n".into(), report: Box::new(|_| {}) };
    service::start(options).unwrap()
}

/// What is wrong, and stays so over the restart.
fn raise(handle: &Handle) {
    let raise = Raise {
        key: "a".into(),
        labels: [("pool".to_owned(), "web".to_owned())].into(),
        severity: Severity::Warning,
        summary: "pool web".into(),
        values: Default::default(),
        series: None,
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(handle.learn(Input::Raise(raise)));
}

/// The child of the tests below; without its folder it does nothing.
#[test]
fn child_that_tells() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let handle = start(Path::new(&folder));
    raise(&handle);
    loop {
        std::thread::park();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells through the channel of these lines, is killed when the other end `has_it`, and tells again. Attempts that the delivered message took.
fn killed_and_told_again(lines: &str, has_it: impl FnMut() -> bool) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), format!("[notify.a]\n{lines}\n[[notify_rule]]\nnotify = \"a\"\n")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_tells", "--nocapture"]).env(FOLDER, folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the other end has it", has_it);
    child.kill().unwrap();
    child.wait().unwrap();

    let handle = start(folder.path());
    raise(&handle);
    let store = || Store::open(&folder.path().join("notify.db")).unwrap();
    wait_until("it is delivered", || handle.stats().channels.values().any(|channel| channel.delivered > 0));
    handle.stop();
    let rows = store().of_incident("1").unwrap();
    let states: Vec<(&str, u32)> = rows.iter().map(|row| (row.state.as_str(), row.attempts)).collect();
    assert!(matches!(states[..], [("delivered", _)]), "one message, delivered: {states:?}");
    states[0].1
}

fn answers(held: &str, then: Value) -> HttpServer {
    let mut plan = vec![json!({ "when": held, "do": "slow", "times": 1 })];
    plan.extend(then.as_array().cloned().unwrap_or_default());
    HttpServer::start(Value::Array(plan))
}

#[test]
fn a_webhook_is_told_again_with_the_same_id() {
    let server = answers("", json!([{}]));
    let lines = format!("[notify.a.webhook]\nurl = \"{}\"", server.url("/"));
    assert_eq!(killed_and_told_again(&lines, || !server.requests().is_empty()), 2);
    let requests = server.requests();
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    let id = |request: &Value| request["headers"]["webhook-id"].as_str().map(str::to_owned);
    assert!(id(first).is_some_and(|id| id.starts_with(KEY)), "{first}");
    assert_eq!(id(first), id(second));
}

#[test]
fn a_gateway_is_asked_again_for_the_same_short_message() {
    let server = answers("", json!([{ "status": 201, "body": { "sid": "SM42" } }]));
    let lines = format!(
        "[notify.a.sms]\ngateway = \"twilio\"\nurl = \"{}\"\nuser = \"AC1\"\npassword_file = \"{}\"\nfrom = \"+15550100\"\nto = \"+15550123\"",
        server.url(""),
        server.file("password", "hunter2hunter2")
    );
    assert_eq!(killed_and_told_again(&lines, || !server.requests().is_empty()), 2);
    let requests = server.requests();
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((&first["path"], &first["body"]), (&second["path"], &second["body"]));
}

#[test]
fn a_centre_gets_the_same_short_message_again() {
    let centre = Script::start("smpp_server.py", tempfile::tempdir().unwrap(), &["held"]);
    let folder = centre.folder.path();
    std::fs::write(folder.join("password"), "secret08").unwrap();
    let lines = format!(
        "[notify.a.smpp]\nserver = \"smpp://127.0.0.1:{}\"\nuser = \"weir\"\npassword_file = {:?}\nfrom = \"weir\"\nto = \"+15550123\"",
        centre.port,
        folder.join("password")
    );
    let read = |number: u32| std::fs::read_to_string(folder.join(format!("{number}.json"))).ok();
    assert_eq!(killed_and_told_again(&lines, || read(1).is_some()), 2);
    assert_eq!((read(1), read(3)), (read(2), None));
}

/// The desk can be asked what it has: no second ticket.
#[test]
fn a_ticket_is_opened_once() {
    let server =
        answers("POST /rest/api/2/issue", json!([{ "when": "GET /rest/api/2/search", "body": { "issues": [{ "key": "OPS-7" }] } }]));
    let token = server.file("token", "hunter2hunter2");
    let lines = format!("[notify.a.ticket]\nstyle = \"jira\"\nurl = \"{}\"\nproject = \"OPS\"\ntoken_file = \"{token}\"", server.url(""));
    assert_eq!(killed_and_told_again(&lines, || !server.requests().is_empty()), 2);
    let opened = server.requests().iter().filter(|request| request["method"] == "POST").count();
    assert_eq!(opened, 1);
}

/// A receiver of informs that answers none of the first process.
#[test]
fn an_inform_is_sent_again_with_the_same_key() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines = format!("[notify.a.snmp]\nto = \"127.0.0.1:{}\"", socket.local_addr().unwrap().port());
    let mut first = Vec::new();
    let mut answering = None;
    let attempts = killed_and_told_again(&lines, || {
        let mut buffer = [0; 4096];
        let (length, of_first) = socket.recv_from(&mut buffer).unwrap();
        first = buffer[..length].to_vec();
        let receiver = socket.try_clone().unwrap();
        answering = Some(std::thread::spawn(move || confirm(&receiver, of_first)));
        true
    });
    assert_eq!(attempts, 2);
    let second = answering.unwrap().join().unwrap();
    assert_eq!(key_in(&first), key_in(&second));
}

fn key_in(datagram: &[u8]) -> String {
    let text = String::from_utf8_lossy(datagram).into_owned();
    let at = text.find(KEY).unwrap_or_else(|| panic!("no key in {text:?}"));
    text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect()
}

/// Confirms one inform that is not from there: the response is the same with another tag (RFC 3416 section 4.2.7). What it confirmed.
fn confirm(socket: &UdpSocket, not_from: SocketAddr) -> Vec<u8> {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if from == not_from {
            continue;
        }
        let asked = buffer[..length].to_vec();
        let community = b"public";
        let tag = asked.windows(community.len()).position(|window| window == community).unwrap() + community.len();
        assert_eq!(asked[tag], 0xa6, "an inform");
        let mut answer = asked.clone();
        answer[tag] = 0xa2;
        socket.send_to(&answer, from).unwrap();
        return asked;
    }
}
