//! Telling people, as an operator meets it: an endpoint that fails becomes a ticket and is resolved; a kill loses and doubles nothing; a link
//! acknowledges once; a channel that cannot be reached is shown with its conversation.

mod port;

use std::net::TcpListener;

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use port::free_port;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running node, killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Site {
    folder: tempfile::TempDir,
    api: u16,
    endpoint: u16,
}

impl Site {
    fn new() -> Site {
        Site::with("")
    }

    /// With more channels.
    fn with(more: &str) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap(), api: free_port(), endpoint: free_port() };
        let (folder, listener) = (site.folder.path().display(), free_port());
        let text = format!(
            "[node]\nstate_dir = \"{folder}\"\n[api]\nbind = \"127.0.0.1:{}\"\n[listener.web]\nbind = \"127.0.0.1:{listener}\"\npool = \"web\"\n\
             connections_max = 100\n[pool.web]\nendpoints = [\"127.0.0.1:{}\"]\nmin_healthy = 0\n\
             [pool.web.health]\ntype = \"tcp\"\ninterval = \"100ms\"\n\
             [notify.tickets.ticket_log]\npath = \"{folder}/tickets.log\"\n\
             [notify.mail.email]\nsmtp = \"smtp://127.0.0.1:{}\"\nstarttls = \"none\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n\
             [[notify_rule]]\nnotify = \"tickets\"\n[incident]\nurl = \"http://127.0.0.1:{}\"\n{more}",
            site.api,
            site.endpoint,
            free_port(),
            site.api,
        );
        std::fs::write(site.config(), text).unwrap();
        site
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("weir.toml")
    }

    fn start(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--config").arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().expect("it runs"))
    }

    fn weir(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(line.split(' ')).env("WEIR_API", format!("http://127.0.0.1:{}", self.api)).stdin(Stdio::null());
        command.output().expect("it runs")
    }

    fn tickets(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("tickets.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn wait_for_tickets(&self, kinds: &[&str]) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let tickets = self.tickets();
            let found: Vec<&str> = tickets.iter().filter_map(|ticket| ticket["kind"].as_str()).collect();
            if found == kinds {
                return tickets;
            }
            assert!(found.len() <= kinds.len() && Instant::now() < until, "{found:?} instead of {kinds:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_incident_about_a_pool_that_is_removed_is_resolved_and_says_why() {
    let site = Site::new();
    let running = site.start();
    site.wait_for_tickets(&["opened"]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let endpoint = other.local_addr().unwrap().to_string();
    let text = text.replace("pool = \"web\"", "pool = \"other\"").replace("[pool.web", "[pool.other");
    std::fs::write(site.config(), text.replace(&format!("127.0.0.1:{}", site.endpoint), &endpoint)).unwrap();
    let reloaded = site.weir("reload");
    assert!(reloaded.status.success(), "{reloaded:?}");
    let tickets = site.wait_for_tickets(&["opened", "resolved"]);
    let title = tickets[1]["title"].as_str().expect("a title");
    assert!(title.starts_with("[resolved] endpoint ") && title.ends_with("(no longer there)"), "{title}");
    drop(running);
}

#[test]
fn an_endpoint_that_fails_is_a_ticket_until_it_is_back() {
    let site = Site::new();
    let running = site.start();
    let tickets = site.wait_for_tickets(&["opened"]);
    assert_eq!(tickets[0]["labels"]["alarm"], "endpoint-down");

    // Killed and started again: the same incident, told once.
    drop(running);
    let running = site.start();
    let until = Instant::now() + PATIENCE;
    while !text(&site.weir("incident list").stdout).contains("open") {
        assert!(Instant::now() < until, "the incident is lost");
        std::thread::sleep(Duration::from_millis(50));
    }
    site.wait_for_tickets(&["opened"]);

    let link = tickets[0]["text"].as_str().and_then(|text| text.split_whitespace().find(|word| word.contains("/ack/"))).expect("a link");
    let follow = |method: &str| {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = if method == "GET" { agent.get(link).call() } else { agent.post(link).send_empty() }.expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    };
    assert_eq!(follow("GET").0, 200);
    assert_eq!(follow("GET").0, 200, "looking changes nothing");
    assert_eq!(follow("POST").0, 200);
    let (status, page) = follow("POST");
    assert_eq!((status, page.contains("acknowledged already, by link sent by tickets")), (409, true), "{page}");
    site.wait_for_tickets(&["opened", "acknowledged"]);
    assert!(!site.weir("incident ack 1 --by kim").status.success());

    let _endpoint = TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap();
    let tickets = site.wait_for_tickets(&["opened", "acknowledged", "resolved"]);
    assert!(tickets.iter().all(|ticket| ticket["ticket"] == tickets[0]["ticket"]), "one incident is one ticket");
    assert!(text(&site.weir("incident show 1").stdout).contains("resolved"));
    drop(running);
}

/// What was wrong with the node itself is over when a process begins with which it is not, though no event says so.
#[test]
fn what_was_wrong_with_the_node_itself_ends_with_a_good_start() {
    let site = Site::new();
    let _endpoint = TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap();
    let history = site.folder.path().join("history.db");
    // No file can be opened there.
    std::fs::create_dir(&history).unwrap();
    let running = site.start();
    let tickets = site.wait_for_tickets(&["opened"]);
    assert_eq!(tickets[0]["labels"]["alarm"], "history-failed");
    drop(running);
    std::fs::remove_dir(&history).unwrap();
    let _running = site.start();
    let tickets = site.wait_for_tickets(&["opened", "resolved"]);
    assert_eq!(tickets[0]["ticket"], tickets[1]["ticket"]);
}

#[test]
fn a_test_shows_the_conversation() {
    let site = Site::new();
    let _running = site.start();
    site.wait_for_tickets(&["opened"]);
    let failed = site.weir("notify test mail");
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stdout);
    assert!(said.contains("* connecting to 127.0.0.1:") && said.contains("mail: not delivered: cannot connect"), "{said}");
    let delivered = site.weir("notify test tickets");
    assert!(delivered.status.success() && text(&delivered.stdout).contains("tickets: delivered: written"));
    let unknown = site.weir("notify test mial");
    assert!(text(&unknown.stderr).contains("there are: mail, tickets"));
    assert!(text(&site.weir("notify list --json").stdout).contains("\"kind\": \"ticket_log\""));
}

/// Whatever the channel: up to the fault, and without what it logs in with.
#[test]
fn each_kind_of_channel_shows_its_conversation() {
    let port = free_port();
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, "hunter2!").unwrap();
    let login = format!("user = \"weir\"\npassword_file = {secret:?}");
    let phone = "from = \"+15550100\"\nto = \"+15550123\"";
    let kinds = [
        ("webhook", format!("url = \"http://127.0.0.1:{port}/\"\n{login}"), "cannot connect"),
        ("sms", format!("gateway = \"twilio\"\nurl = \"http://127.0.0.1:{port}\"\n{login}\n{phone}"), "cannot connect"),
        ("smpp", format!("server = \"smpp://127.0.0.1:{port}\"\n{login}\n{phone}"), "cannot connect"),
        ("snmp", format!("to = \"127.0.0.1:{port}\"\ncommunity_file = {secret:?}"), "nobody takes it at"),
        (
            "ticket",
            format!("style = \"redmine\"\nurl = \"http://127.0.0.1:{port}\"\nproject = \"ops\"\ntoken_file = {secret:?}"),
            "cannot connect",
        ),
    ];
    let more: String = kinds.iter().map(|(kind, lines, _)| format!("[notify.a-{kind}.{kind}]\n{lines}\n")).collect();
    let site = Site::with(&more);
    let _running = site.start();
    site.wait_for_tickets(&["opened"]);
    for (kind, _, fault) in &kinds {
        let failed = site.weir(&format!("notify test a-{kind}"));
        let said = text(&failed.stdout);
        assert_eq!(failed.status.code(), Some(1), "{kind}: {said}");
        assert!(said.contains(&format!(" 127.0.0.1:{port}")) && said.starts_with("* "), "{kind}: {said}");
        assert!(said.contains(&format!("a-{kind}: not delivered: {fault}")) && !said.contains("hunter2"), "{kind}: {said}");
    }
}
