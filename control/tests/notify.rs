//! Telling people, as an operator meets it: an endpoint that fails becomes a ticket and is resolved; a kill loses and doubles nothing; the link
//! in a mail acknowledges once; what a server refused is listed and sent again; a channel that cannot be reached is shown with its conversation.

mod port;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use port::free_port;
use serde_json::{Value, json};

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

    /// Writes something else in a place of the file.
    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {text}");
        self.rewrite(&text.replace(from, to));
    }

    /// In one step: the node looks at the file when it likes.
    fn rewrite(&self, text: &str) {
        let aside = self.folder.path().join("weir.toml.new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.config()).unwrap();
    }

    fn start(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a folder");
        command
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        Running(command.spawn().expect("it runs"))
    }

    fn weir(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(line.split(' ')).env("WEIR_API", format!("http://127.0.0.1:{}", self.api)).stdin(Stdio::null());
        command.output().expect("it runs")
    }

    fn tickets(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("tickets.log")).unwrap_or_default();
        // The last line may still be being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
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

/// A server of `notify/tests`, in Python and of libraries that are not ours, ended with the test.
struct Server {
    process: Running,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(program: &str, before: &[&str], folder: tempfile::TempDir) -> Server {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(root.join("notify/tests").join(program)).args(before).arg(folder.path());
        command.env("PYTHONPATH", root.join("target/test-tools/python")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running(command.spawn().expect("Debian's python3 runs"));
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().expect("it is piped")).read_line(&mut line).expect("its port");
        let port =
            line.trim().parse().unwrap_or_else(|_| panic!("{program} tells no port: is what it imports installed? See scripts/test"));
        Server { process, port, folder }
    }

    fn mail() -> Server {
        Server::start("mail_server.py", &["plain"], tempfile::tempdir().unwrap())
    }

    /// What came to it so far.
    fn files(&self, ending: &str) -> Vec<String> {
        assert!(self.process.0.id() > 0);
        (1..).map_while(|number: u32| std::fs::read_to_string(self.folder.path().join(format!("{number}.{ending}"))).ok()).collect()
    }

    fn wait_for_files(&self, ending: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let files = self.files(ending);
            if files.len() >= count {
                assert_eq!(files.len(), count, "{files:?}");
                return files;
            }
            assert!(Instant::now() < until, "{} instead of {count}: {files:?}", files.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The subject and the plain text of a mail, as Python's library reads them.
fn read_mail(mail: &str) -> String {
    let program = "import email, email.policy, sys\n\
                   mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)\n\
                   print(mail['subject'])\nprint(mail.get_body(('plain',)).get_content())";
    let mut command = Command::new("/usr/bin/python3");
    let spawned = command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.expect("Debian's python3 runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), mail.as_bytes()).expect("it reads");
    text(&child.wait_with_output().expect("it ends").stdout)
}

/// Status and page.
fn follow(method: &str, link: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut answer = if method == "GET" { agent.get(link).call() } else { agent.post(link).send_empty() }.expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

fn link_in(text: &str) -> &str {
    text.split_whitespace().find(|word| word.contains("/ack/")).unwrap_or_else(|| panic!("no link in {text}"))
}

/// Takes every connection, for as long as the tests run: whose queue is full looks as if it were down.
fn serve(endpoint: TcpListener) {
    std::thread::spawn(move || endpoint.incoming().for_each(drop));
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
    serve(other);
    let text = text.replace("pool = \"web\"", "pool = \"other\"").replace("[pool.web", "[pool.other");
    site.rewrite(&text.replace(&format!("127.0.0.1:{}", site.endpoint), &endpoint));
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

    let link = link_in(tickets[0]["text"].as_str().expect("a text"));
    assert_eq!(follow("GET", link).0, 200);
    assert_eq!(follow("GET", link).0, 200, "looking changes nothing");
    assert_eq!(follow("POST", link).0, 200);
    let (status, page) = follow("POST", link);
    assert_eq!((status, page.contains("acknowledged already, by link sent by tickets")), (409, true), "{page}");
    site.wait_for_tickets(&["opened", "acknowledged"]);
    assert!(!site.weir("incident ack 1 --by kim").status.success());

    serve(TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap());
    let tickets = site.wait_for_tickets(&["opened", "acknowledged", "resolved"]);
    assert!(tickets.iter().all(|ticket| ticket["ticket"] == tickets[0]["ticket"]), "one incident is one ticket");
    assert!(text(&site.weir("incident show 1").stdout).contains("resolved"));
    drop(running);
}

/// Whoever has the mail needs no token; whoever has another link, an old one or one that was used, gets nothing but a reason.
#[test]
fn the_link_in_a_mail_acknowledges_once() {
    let mail = Server::mail();
    let post = |name: &str| {
        let port = mail.port;
        format!(
            "[notify.{name}.email]\nsmtp = \"smtp://127.0.0.1:{port}\"\nstarttls = \"none\"\nfrom = \"weir@example.com\"\nto = [\"ops@example.com\"]\n"
        )
    };
    // The digest of "test".
    let site = Site::with(&format!(
        "acknowledge_link = \"1h\"\n{}[api.token.kim]\nrole = \"read\"\n\
         token_sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n",
        post("post")
    ));
    site.edit("notify = \"tickets\"", "notify = [\"tickets\", \"post\"]");
    let running = site.start();
    let first = read_mail(&mail.wait_for_files("eml", 1)[0]);
    assert!(first.starts_with("[warning] endpoint "), "{first}");
    let link = link_in(&first);
    let incidents = format!("http://127.0.0.1:{}/v1/incidents", site.api);
    assert_eq!(follow("GET", &incidents).0, 401, "all else needs a token");
    assert_eq!(follow("POST", &format!("{incidents}/1/acknowledge")).0, 401);

    // A link that was changed: another signature, another incident, a longer time, another channel; with more or less of it.
    let (base, token) = link.split_at(link.find("/ack/").expect("it was found by it") + "/ack/".len());
    let parts: Vec<&str> = token.split('~').collect();
    let [mac, incident, started, until, channel] = parts[..] else { panic!("{token}") };
    let other_mac = format!("{}{}", &mac[..mac.len() - 1], if mac.ends_with('0') { '1' } else { '0' });
    let later = (until.parse::<u64>().expect("a time") + 1).to_string();
    for changed in [
        [&other_mac, incident, started, until, channel].join("~"),
        [mac, "2", started, until, channel].join("~"),
        [mac, incident, started, &later, channel].join("~"),
        [mac, incident, started, until, "tickets"].join("~"),
        token[..token.len() - 1].to_owned(),
        format!("{token}x"),
        "x".repeat(5000),
    ] {
        for method in ["GET", "POST"] {
            let (status, page) = follow(method, &format!("{base}{changed}"));
            assert_eq!((status, page.contains("This link is not one of ours.")), (404, true), "{changed}: {page}");
        }
    }

    // Programs that look at mails follow links: looking changes nothing.
    let (status, page) = follow("GET", link);
    assert_eq!((status, page.contains("take care of it?") && page.contains("<form method=\"post\">")), (200, true), "{page}");
    let (status, page) = follow("POST", link);
    assert_eq!((status, page.contains("Incident 1 is acknowledged.")), (200, true), "{page}");
    for method in ["GET", "POST"] {
        let (status, page) = follow(method, link);
        let said = "This incident was acknowledged already, by link sent by post.";
        assert_eq!((status, page.contains(said), page.contains("<form")), (409, true, false), "{page}");
    }
    let second = read_mail(&mail.wait_for_files("eml", 2)[1]);
    assert!(second.starts_with("[acknowledged]"), "{second}");

    // Over: the link says so, also after another start.
    serve(TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap());
    site.wait_for_tickets(&["opened", "acknowledged", "resolved"]);
    drop(running);
    let _running = site.start();
    let until = Instant::now() + PATIENCE;
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    while agent.get(link).call().map_or(0, |answer| answer.status().as_u16()) != 410 {
        assert!(Instant::now() < until, "the link of an incident that is over is good");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, page) = follow("POST", link);
    assert_eq!((status, page.contains("This incident is over.")), (410, true), "{page}");
}

#[test]
fn a_link_that_is_too_old_acknowledges_nothing() {
    let site = Site::with("acknowledge_link = \"1ms\"\n");
    let _running = site.start();
    let tickets = site.wait_for_tickets(&["opened"]);
    let link = link_in(tickets[0]["text"].as_str().expect("a text"));
    for method in ["GET", "POST"] {
        let (status, page) = follow(method, link);
        assert_eq!((status, page.contains("This link is too old. Use `weir incident ack`.")), (410, true), "{page}");
    }
    let acknowledged = site.weir("incident ack 1 --by kim");
    assert!(acknowledged.status.success(), "{acknowledged:?}");
    site.wait_for_tickets(&["opened", "acknowledged"]);
}

/// A server that refuses for good: the message is not lost, and is told once when the server is mended and somebody says so.
#[test]
fn a_dead_letter_is_listed_and_sent_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |answer: Value| std::fs::write(folder.path().join("plan.json"), json!([answer]).to_string()).unwrap();
    plan(json!({ "status": 404, "body": "no such hook" }));
    let path = folder.path().to_owned();
    let server = Server::start("http_server.py", &[], folder);
    let plan = |answer: Value| {
        std::fs::write(path.join("new"), json!([answer]).to_string()).unwrap();
        std::fs::rename(path.join("new"), path.join("plan.json")).unwrap();
    };
    let site =
        Site::with(&format!("[notify.hook]\nfallback = \"tickets\"\n[notify.hook.webhook]\nurl = \"http://127.0.0.1:{}/\"\n", server.port));
    // The channel's own failure is told elsewhere.
    site.edit("[[notify_rule]]\n", "[[notify_rule]]\nmatch = [\"alarm=endpoint-down\"]\nnotify = \"hook\"\n[[notify_rule]]\n");
    let running = site.start();
    let dead = |site: &Site| -> Vec<Value> { serde_json::from_slice(&site.weir("notify dead --json").stdout).unwrap_or_default() };
    // What is claimed when the process is killed is sent once more, so no kill comes before the answer was noted.
    let wait_for_dead = |attempts: u32| -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let letters = dead(&site);
            if letters.first().is_some_and(|letter| letter["attempts"] == attempts) {
                return letters;
            }
            assert!(Instant::now() < until, "{letters:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let letters = wait_for_dead(1);
    assert_eq!((letters.len(), &letters[0]["channel"], &letters[0]["attempts"]), (1, &json!("hook"), &json!(1)), "{letters:?}");
    let key = letters[0]["key"].as_str().expect("a key").to_owned();
    let shown = text(&site.weir("notify dead").stdout);
    assert!(shown.contains(&key) && shown.contains("404 Not Found"), "{shown}");
    // The fallback has it meanwhile, and that the channel fails.
    let until = Instant::now() + PATIENCE;
    while site.tickets().len() < 2 {
        assert!(Instant::now() < until, "{:?}", site.tickets());
        std::thread::sleep(Duration::from_millis(20));
    }
    let alarms: Vec<Value> = site.tickets().iter().map(|ticket| ticket["labels"]["alarm"].clone()).collect();
    assert!(alarms.contains(&json!("endpoint-down")) && alarms.contains(&json!("channel-failed")), "{alarms:?}");

    let unknown = site.weir("notify resend nonsense");
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("there is no dead letter `nonsense`"), "{unknown:?}");
    // Still refused: it is a dead letter again, also after a kill.
    assert!(text(&site.weir(&format!("notify resend {key}")).stdout).contains("1 to be sent again"));
    wait_for_dead(2);
    server.wait_for_files("json", 2);
    drop(running);
    let _running = site.start();
    wait_for_dead(2);

    plan(json!({ "status": 200, "body": "thanks" }));
    assert!(text(&site.weir("notify resend --all").stdout).contains("1 to be sent again"));
    let mut requests = server.wait_for_files("json", 3);
    assert!(text(&site.weir("notify resend --all").stdout).contains("0 to be sent again"));
    // What comes afterwards is the next message: the one before arrived once.
    serve(TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap());
    requests.extend(server.wait_for_files("json", 4).pop());
    let keys: Vec<Value> =
        requests.iter().map(|request| serde_json::from_str::<Value>(request).unwrap()["headers"]["webhook-id"].clone()).collect();
    assert_eq!(keys[..3], [json!(key), json!(key), json!(key)]);
    assert_ne!(keys[3], json!(key));
    assert!(dead(&site).is_empty());
    // Counts are a second old at most.
    let until = Instant::now() + PATIENCE;
    loop {
        let channels: Vec<Value> = serde_json::from_slice(&site.weir("notify list --json").stdout).unwrap();
        let hook = channels.iter().find(|channel| channel["name"] == "hook").expect("it is there");
        if (&hook["dead"], &hook["failing"], &hook["delivered"]) == (&json!(0), &json!(false), &json!(2)) {
            break;
        }
        assert!(Instant::now() < until, "{hook}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Virtual IPs that cannot be had on this node are told, until a file is in effect with which nothing is missing.
#[test]
fn virtual_ips_that_cannot_work_are_an_incident() {
    let site = Site::with(
        "[vip.a]\ninterface = \"lo\"\nrouter_id = 51\naddresses = [\"10.9.0.100/24\"]\nauth = { key_file = \"/nonexistent/vip.keys\" }\n",
    );
    serve(TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap());
    let running = site.start();
    let tickets = site.wait_for_tickets(&["opened"]);
    assert_eq!((&tickets[0]["labels"]["alarm"], &tickets[0]["severity"]), (&json!("vips-unavailable"), &json!("critical")));
    let title = tickets[0]["title"].as_str().expect("a title");
    assert!(title.contains("the virtual IPs cannot work on this node: cannot read the key file /nonexistent/vip.keys"), "{title}");
    assert!(text(&site.weir("events").stdout).contains("virtual IPs are off: cannot read the key file"));

    // Killed and started again: nothing new is said, and what is still so is still said.
    drop(running);
    let _running = site.start();
    let until = Instant::now() + PATIENCE;
    while !text(&site.weir("incident list").stdout).contains("open") {
        assert!(Instant::now() < until, "the incident is lost");
        std::thread::sleep(Duration::from_millis(50));
    }
    let file = std::fs::read_to_string(site.config()).unwrap();
    site.rewrite(file.split("[vip.a]").next().unwrap());
    let reloaded = site.weir("reload");
    assert!(reloaded.status.success(), "{reloaded:?}");
    let tickets = site.wait_for_tickets(&["opened", "resolved"]);
    assert_eq!(tickets[0]["ticket"], tickets[1]["ticket"]);
}

/// A template with a field that is not there is found before anybody waits for its message.
#[test]
fn a_template_with_an_unknown_field_is_an_error_with_the_nearest_name() {
    let site = Site::with(
        "[notify.own]\ntitle = \"${severty}: ${summary}\"\ntext = \"${recovry}\"\n[notify.own.webhook]\nurl = \"http://127.0.0.1:1/\"\nbody = '{ \"t\": \"${titel}\" }'\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let checked = command.arg("check").arg(site.config()).stdin(Stdio::null()).output().expect("it runs");
    let said = text(&checked.stderr) + &text(&checked.stdout);
    assert!(!checked.status.success(), "{said}");
    for (wrong, near) in [("severty", "severity"), ("recovry", "recovery"), ("titel", "title")] {
        assert!(
            said.contains(&format!("there is no field `${{{wrong}}}`")) && said.contains(&format!("did you mean `${{{near}}}`?")),
            "{said}"
        );
    }
}

/// What was wrong with the node itself is over when a process begins with which it is not, though no event says so.
#[test]
fn what_was_wrong_with_the_node_itself_ends_with_a_good_start() {
    let site = Site::new();
    serve(TcpListener::bind(("127.0.0.1", site.endpoint)).unwrap());
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
    // Alarms, too, are told by all of them, in vain.
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
    let names: Vec<String> = kinds.iter().map(|(kind, ..)| format!(", \"a-{kind}\"")).collect();
    site.edit("notify = \"tickets\"", &format!("match = [\"alarm=endpoint-down\"]\nnotify = [\"tickets\"{}]", names.concat()));
    let _running = site.start();
    site.wait_for_tickets(&["opened"]);
    for (kind, _, fault) in &kinds {
        let failed = site.weir(&format!("notify test a-{kind}"));
        let said = text(&failed.stdout);
        assert_eq!(failed.status.code(), Some(1), "{kind}: {said}");
        assert!(said.contains(&format!(" 127.0.0.1:{port}")) && said.starts_with("* "), "{kind}: {said}");
        assert!(said.contains(&format!("a-{kind}: not delivered: {fault}")) && !said.contains("hunter2"), "{kind}: {said}");
    }
    // Nor does it stand anywhere else.
    let log = || std::fs::read_to_string(site.folder.path().join("log")).unwrap();
    let until = Instant::now() + PATIENCE;
    while !log().contains("a-webhook") {
        assert!(Instant::now() < until, "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = log();
    let mut shown = vec![("log".to_owned(), log)];
    for path in [
        "/v1/events",
        "/v1/config",
        "/v1/config/file",
        "/v1/notify",
        "/v1/notify/dead",
        "/v1/incidents",
        "/v1/overview",
        "/v1/audit",
        "/metrics",
    ] {
        let (status, body) = follow("GET", &format!("http://127.0.0.1:{}{path}", site.api));
        assert_eq!(status, 200, "{path}: {body}");
        shown.push((path.to_owned(), body));
    }
    for (place, text) in shown {
        assert!(!text.contains("hunter2"), "{place}: {text}");
    }
}
