//! Healing as an operator meets it: an endpoint dies, what the file says is tried in its order, the traffic avoids it meanwhile, and one message
//! tells the story; when nothing helps, people are told then. Killed at each step, the node goes on where it was.

mod port;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use port::free_port;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running node, killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An endpoint that dies, and lives again when somebody makes its file.
struct Endpoint {
    port: u16,
    alive: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Endpoint {
    fn start(heal: PathBuf) -> Endpoint {
        let endpoint = Endpoint { port: free_port(), alive: Arc::default(), end: Arc::default() };
        endpoint.alive.store(true, Ordering::Release);
        let (port, alive, end) = (endpoint.port, endpoint.alive.clone(), endpoint.end.clone());
        std::thread::spawn(move || {
            let mut listener = None;
            while !end.load(Ordering::Acquire) {
                if std::fs::remove_file(&heal).is_ok() {
                    alive.store(true, Ordering::Release);
                }
                if !alive.load(Ordering::Acquire) {
                    listener = None;
                } else if listener.is_none() {
                    listener = TcpListener::bind(("127.0.0.1", port)).inspect(|one| one.set_nonblocking(true).expect("a socket")).ok();
                }
                while let Some((mut stream, _)) = listener.as_ref().and_then(|one| one.accept().ok()) {
                    std::thread::spawn(move || {
                        let _ = stream.set_nonblocking(false);
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                        if stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        endpoint
    }

    fn die(&self) {
        self.alive.store(false, Ordering::Release);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
    }
}

struct Site {
    folder: tempfile::TempDir,
    api: u16,
    listener: u16,
    endpoints: Vec<Endpoint>,
}

impl Site {
    /// `attempts`: as many as there are scripts in them; each writes its line into `acts`.
    fn new(endpoints: usize, attempts: &str) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let endpoints = (0..endpoints).map(|number| Endpoint::start(folder.path().join(format!("heal-{number}")))).collect();
        let site = Site { folder, api: free_port(), listener: free_port(), endpoints };
        let (folder, addresses): (_, Vec<String>) =
            (site.folder.path().display(), site.endpoints.iter().map(|one| format!("\"127.0.0.1:{}\"", one.port)).collect());
        let text = format!(
            "[node]\nstate_dir = \"{folder}\"\nworkers = 1\ndrain_timeout = \"1s\"\n[api]\nbind = \"127.0.0.1:{}\"\n\
             [listener.web]\nbind = \"127.0.0.1:{}\"\npool = \"web\"\nconnections_max = 100\n\
             [pool.web]\nendpoints = [{}]\nmin_healthy = 0\n\
             [pool.web.health]\ntype = \"tcp\"\ninterval = \"100ms\"\nfall = 2\nrise = 1\n\
             [notify.tickets.ticket_log]\npath = \"{folder}/tickets.log\"\n[[notify_rule]]\nnotify = \"tickets\"\n\
             [recovery.web]\npool = \"web\"\nstable = \"10m\"\n{attempts}",
            site.api,
            site.listener,
            addresses.join(", ")
        );
        std::fs::write(site.folder.path().join("weir.toml"), text).expect("written");
        site
    }

    /// One attempt: a script that says that it was made, and does `more`.
    fn script(name: &str, wait: &str, more: &str) -> String {
        let line = format!("cd \"$(dirname \"$0\")\"; echo {name} $WEIR_KEY $WEIR_RESUMED >> acts; {more}");
        format!(
            "[[recovery.web.attempt]]\naction = \"script\"\nlimit = \"30s\"\nwait = \"{wait}\"\ncommand = [\"/bin/sh\", \"-c\", {line:?}, \"FOLDER/x\"]\n"
        )
    }

    fn start(&self) -> Running {
        let path = self.folder.path().join("weir.toml");
        let text = std::fs::read_to_string(&path).expect("written before");
        std::fs::write(&path, text.replace("FOLDER", &self.folder.path().display().to_string())).expect("written");
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--config").arg(&path).stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let running = Running(command.spawn().expect("it runs"));
        self.until("the API", || self.get("/v1/status").map(drop));
        running
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut so: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match so() {
                Ok(found) => return found,
                Err(last) if Instant::now() >= deadline => {
                    let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    panic!("waited in vain for {what}: {last}\n{log}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        let mut answer = agent.get(format!("http://127.0.0.1:{}{path}", self.api)).call().map_err(|error| error.to_string())?;
        answer.body_mut().read_json().map_err(|error| error.to_string())
    }

    fn weir(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(line.split(' ')).env("WEIR_API", format!("http://127.0.0.1:{}", self.api)).stdin(Stdio::null());
        command.output().expect("it runs")
    }

    /// Waits until the only case is in this stage, after so many attempts.
    fn stage(&self, stage: &str, attempts: usize) -> Value {
        self.until(&format!("{stage} after {attempts}"), || {
            let recovery = self.get("/v1/recovery/web")?;
            let case = &recovery["cases"][0];
            let made = case["story"].as_array().map_or(0, Vec::len);
            if case["stage"] == stage && made == attempts { Ok(case.clone()) } else { Err(recovery.to_string()) }
        })
    }

    /// What the scripts did: the name of each and whether it was begun again.
    fn acts(&self) -> Vec<(String, String, bool)> {
        let text = std::fs::read_to_string(self.folder.path().join("acts")).unwrap_or_default();
        let act = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].to_owned(), words[1].to_owned(), words.get(2).is_some_and(|word| *word == "1"))
        };
        text.lines().map(act).collect()
    }

    fn names(&self) -> Vec<String> {
        self.acts().into_iter().map(|(name, _, _)| name).collect()
    }

    fn tickets(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("tickets.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.tickets().iter().map(|ticket| ticket["kind"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn wait_for_tickets(&self, kinds: &[&str]) -> Vec<Value> {
        self.until(&format!("{kinds:?}"), || {
            let found = self.kinds();
            if found == kinds { Ok(self.tickets()) } else { Err(format!("{found:?}")) }
        })
    }

    fn request(&self) -> Result<(), String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listener)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_healed_is_told_once_with_its_story() {
    let attempts =
        Site::script("one", "1s", "exit 0") + &Site::script("two", "1s", "exit 3") + &Site::script("three", "20s", "touch heal-0");
    let site = Site::new(2, &attempts);
    let _running = site.start();
    site.until("traffic", || site.request());
    site.endpoints[0].die();
    site.stage("healed", 3);
    for _ in 0..20 {
        site.request().expect("the traffic avoids what is ill");
    }
    let tickets = site.wait_for_tickets(&["resolved"]);
    let told = tickets[0]["text"].as_str().expect("a text");
    for part in ["/bin/sh for endpoint 127.0.0.1", ": still ill after ", ": failed: /bin/sh exits with 3", ": healed after "] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(site.names(), ["one", "two", "three"]);
    let keys: Vec<String> = site.acts().into_iter().map(|(_, key, _)| key).collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "each act has a key of its own: {keys:?}");
    let metrics =
        text(&Command::new("curl").args(["-s", &format!("http://127.0.0.1:{}/metrics", site.api)]).output().expect("curl").stdout);
    assert!(metrics.contains("weir_recovery_attempts_total{recovery=\"web\",outcome=\"healed\"} 1"), "{metrics}");
    let shown = text(&site.weir("recovery show web").stdout);
    assert!(shown.contains("healed") && shown.contains("still ill after "), "{shown}");
    // Again before it was well for long enough: no attempt is left.
    site.endpoints[0].die();
    let tickets = site.wait_for_tickets(&["resolved", "opened"]);
    assert!(tickets[1]["ticket"] != tickets[0]["ticket"], "another incident");
    assert_eq!(site.names().len(), 3);
}

#[test]
fn what_nothing_heals_is_told_when_everything_was_tried() {
    let site = Site::new(2, &(Site::script("one", "1s", "true") + &Site::script("two", "6s", "true")));
    let _running = site.start();
    site.until("traffic", || site.request());
    site.endpoints[1].die();
    site.stage("checking", 2);
    assert_eq!(site.kinds(), [""; 0], "nobody is told while something may help");
    let tickets = site.wait_for_tickets(&["opened"]);
    let told = tickets[0]["text"].as_str().expect("a text");
    assert_eq!(told.matches(": still ill after").count(), 2, "{told}");
    site.stage("given up", 2);
    // An operator has mended something, and wants it tried again.
    let refused = site.weir("recovery run web nonsense");
    assert!(text(&refused.stderr).contains("nonsense is not ill"), "{refused:?}");
    let planned = text(&site.weir("recovery run web --dry-run").stdout);
    assert!(planned.contains("would be tried"), "{planned}");
    assert!(site.weir("recovery run web").status.success());
    site.until("two more attempts", || if site.names().len() == 4 { Ok(()) } else { Err(format!("{:?}", site.names())) });
    site.stage("given up", 4);
    site.endpoints[1].alive.store(true, Ordering::Release);
    site.wait_for_tickets(&["opened", "resolved"]);
}

#[test]
fn when_too_many_are_ill_or_an_operator_says_so_people_are_told_at_once() {
    let site = Site::new(4, &Site::script("one", "1s", "true"));
    let _running = site.start();
    site.until("traffic", || site.request());
    let heals = |recovery: Value| if recovery["here"] == true { Ok(()) } else { Err(recovery.to_string()) };
    site.until("it leads", || site.get("/v1/recovery/web").and_then(heals));
    assert!(site.weir("recovery stop web").status.success());
    site.endpoints[0].die();
    let tickets = site.wait_for_tickets(&["opened"]);
    assert!(tickets[0]["text"].as_str().is_some_and(|told| told.contains("nothing is tried on endpoint") && told.contains("stopped by")));
    for endpoint in &site.endpoints[1..3] {
        endpoint.die();
    }
    site.wait_for_tickets(&["opened", "opened", "opened"]);
    assert!(site.weir("recovery run web").status.success());
    site.until("the brake", || {
        let recovery = site.get("/v1/recovery/web")?;
        let texts = recovery["cases"].as_array().into_iter().flatten().filter_map(|case| case["text"].as_str());
        let braked = texts.filter(|text| text.contains("3 of 4 are ill at once")).count();
        if braked == 3 { Ok(()) } else { Err(recovery.to_string()) }
    });
    assert_eq!(site.names(), [""; 0]);
    // One is mended by hand: the brake is off.
    site.endpoints[2].alive.store(true, Ordering::Release);
    site.until("an attempt", || if site.names().is_empty() { Err("none".into()) } else { Ok(()) });
}

#[test]
fn whatever_step_it_is_killed_at_it_goes_on_from_there() {
    let attempts = Site::script("one", "10s", "i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done")
        + &Site::script("two", "20s", "touch heal-0");
    let site = Site::new(2, &attempts);
    let running = site.start();
    site.until("traffic", || site.request());
    site.endpoints[0].die();
    // While the script runs: nobody knows whether it did what it should, so it is begun again, and told so.
    site.until("the first script", || if site.names() == ["one"] { Ok(()) } else { Err("none".into()) });
    drop(running);
    let running = site.start();
    site.until("it is begun again", || if site.names() == ["one", "one"] { Ok(()) } else { Err(format!("{:?}", site.acts())) });
    let acts = site.acts();
    assert_eq!((acts[0].2, acts[1].2), (false, true));
    assert_eq!(acts[0].1, acts[1].1, "under the same key");
    std::fs::write(site.folder.path().join("go"), "").expect("a folder");
    // While it is looked whether it helped: it is finished, and not made again.
    site.stage("checking", 1);
    drop(running);
    let running = site.start();
    site.until("the next attempt", || if site.names() == ["one", "one", "two"] { Ok(()) } else { Err(format!("{:?}", site.acts())) });
    // Healed: nothing is to be done.
    site.stage("healed", 2);
    drop(running);
    let running = site.start();
    site.stage("healed", 2);
    let tickets = site.wait_for_tickets(&["resolved"]);
    let told = tickets[0]["text"].as_str().expect("a text");
    assert!(told.contains("still ill after") && told.contains("healed after"), "{told}");
    // Ill again, and given up: nothing is to be done either.
    site.endpoints[0].die();
    site.stage("given up", 2);
    site.wait_for_tickets(&["resolved", "opened"]);
    drop(running);
    let _running = site.start();
    site.stage("given up", 2);
    assert_eq!(site.names(), ["one", "one", "two"]);
    assert_eq!(site.kinds(), ["resolved", "opened"], "told once");
}
