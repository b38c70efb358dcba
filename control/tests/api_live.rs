//! A running node, asked over its API and by the commands.

mod port;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use port::free_port;
use serde_json::{Value, json};

/// How long anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `ready` says so.
fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An origin that answers `GET /` at once, and `GET /hold` when it is released.
struct Origin {
    address: SocketAddr,
    release: mpsc::Sender<()>,
}

fn origin() -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an origin");
    let address = listener.local_addr().expect("its address");
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let released = released.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                loop {
                    let mut head = String::new();
                    loop {
                        let before = head.len();
                        match reader.read_line(&mut head) {
                            Ok(0) | Err(_) => return,
                            Ok(_) if head[before..].trim().is_empty() => break,
                            Ok(_) => {}
                        }
                    }
                    if head.starts_with("GET /hold") {
                        let _ = released.lock().expect("the lock").recv_timeout(DEADLINE);
                    }
                    if (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                        return;
                    }
                }
            });
        }
    });
    Origin { address, release }
}

/// A running `weir`.
struct Node {
    dir: tempfile::TempDir,
    process: Child,
    api: String,
    web: SocketAddr,
    token: Option<&'static str>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    fn start(origin: SocketAddr, token: Option<&'static str>) -> Node {
        let dir = tempfile::tempdir().expect("a folder");
        let (api, web) = (free_port(), free_port());
        let token_line = match token {
            Some(token) => {
                std::fs::write(dir.path().join("token"), token).expect("written");
                format!("token_file = \"{}\"", dir.path().join("token").display())
            }
            None => String::new(),
        };
        let config = format!(
            r#"
[node]
name = "lb-test"
workers = 1
state_dir = "{}"

[api]
bind = "127.0.0.1:{api}"
{token_line}

[listener.web]
bind = "127.0.0.1:{web}"
protocol = "http"
pool = "web"

[pool.web]
endpoints = ["{origin}"]

[pool.spare]
endpoints = ["{origin}", "127.0.0.1:9"]
"#,
            dir.path().join("state").display()
        );
        std::fs::write(dir.path().join("weir.toml"), config).expect("written");
        let process = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(dir.path().join("weir.toml"))
            .stdout(Stdio::null())
            .spawn()
            .expect("weir starts");
        let node = Node { dir, process, api: format!("127.0.0.1:{api}"), web: SocketAddr::from(([127, 0, 0, 1], web)), token };
        until("the node is ready", || node.try_raw("GET", "/readyz", &[], "").is_some_and(|(status, ..)| status == 200));
        node
    }

    /// One exchange, byte for byte: status, head, body.
    fn try_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(&self.api).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let mut add = |name: &str, value: &str| request.push_str(&format!("{name}: {value}\r\n"));
        if !headers.iter().any(|(name, _)| *name == "host") {
            add("host", &self.api);
        }
        if let Some(token) = self.token
            && !headers.iter().any(|(name, _)| *name == "authorization")
        {
            add("authorization", &format!("Bearer {token}"));
        }
        if !body.is_empty() {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                add("content-type", "application/json");
            }
            add("content-length", &body.len().to_string());
        }
        // One without a value only stands in the way of the token.
        headers.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| add(name, value));
        request.push_str("\r\n");
        request.push_str(body);
        // Both what was answered early and what was not answered at all is seen below.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        // A refused body may be answered with a reset after the answer.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, head.to_ascii_lowercase(), body.to_owned()))
    }

    fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
        self.try_raw(method, path, headers, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    fn status(&self, method: &str, path: &str, body: &str) -> u16 {
        self.raw(method, path, &[], body).0
    }

    fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.raw("GET", path, &[], "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(args).env("WEIR_API", format!("http://{}", self.api)).env_remove("WEIR_TOKEN_FILE").env_remove("WEIR_TOKEN");
        if let Some(token) = self.token {
            command.env("WEIR_TOKEN", token);
        }
        command
    }

    fn weir(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("weir starts")
    }

    /// Runs a command, asserts its exit status and returns both outputs.
    fn run(&self, args: &[&str], expected: i32) -> String {
        let output = self.weir(args);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {text}");
        text
    }

    fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.web).expect("the listener accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).expect("sent");
        stream
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_drain_waits_for_what_is_open_and_names_it() {
    let origin = origin();
    let endpoint = origin.address.to_string();
    let node = Node::start(origin.address, None);
    assert!(answer(node.request("/")).starts_with("HTTP/1.1 200"));

    let held = node.request("/hold");
    let path = format!("/v1/pools/web/endpoints/{endpoint}");
    until("the request is under way", || node.get(&path)["open"]["requests"] == 1);

    let refused = node.run(&["drain", &endpoint], 1);
    assert!(refused.contains("spare, web") && refused.contains("--pool"), "{refused}");
    let left = node.run(&["drain", &endpoint, "--pool", "web", "--timeout", "300ms"], 1);
    assert!(left.contains("still open: 1 request"), "{left}");
    assert_eq!(node.get(&path)["state"], "draining");

    let mut waiting =
        node.command(&["drain", &endpoint, "--pool", "web", "--timeout", "20s"]).stdout(Stdio::null()).spawn().expect("weir starts");
    assert!(waiting.try_wait().expect("a state").is_none());
    origin.release.send(()).expect("the origin listens");
    assert!(answer(held).ends_with("ok"));
    assert_eq!(waiting.wait().expect("it ends").code(), Some(0));

    let text = node.run(&["undrain", &endpoint, "--pool", "web"], 0);
    assert!(text.contains("takes new work again"), "{text}");
    assert!(answer(node.request("/")).starts_with("HTTP/1.1 200"));

    let json: Value =
        serde_json::from_slice(&node.weir(&["drain", &endpoint, "--all-pools", "--maintenance", "--json"]).stdout).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_eq!((&json[0]["drained"], &json[0]["state"]), (&json!(true), &json!("maintenance")));
}

#[test]
fn endpoints_change_at_run_time() {
    let node = Node::start(origin().address, None);
    let text = node.run(&["endpoint", "add", "web", "127.0.0.1:10", "--weight", "5", "--tier", "1"], 0);
    assert!(text.contains("is added to pool web"), "{text}");
    let view = node.get("/v1/pools/web/endpoints/127.0.0.1:10");
    assert_eq!((&view["weight"], &view["tier"]), (&json!(5), &json!(1)));
    node.run(&["endpoint", "add", "web", "127.0.0.1:10"], 1);
    node.run(&["endpoint", "weight", "web", "127.0.0.1:10", "7"], 0);
    assert_eq!(node.get("/v1/pools/web/endpoints/127.0.0.1:10")["weight"], 7);
    assert!(node.run(&["status", "pool", "web"], 0).contains("127.0.0.1:10"));
    node.run(&["endpoint", "remove", "web", "127.0.0.1:10"], 0);
    assert_eq!(node.status("GET", "/v1/pools/web/endpoints/127.0.0.1:10", ""), 404);
    node.run(&["endpoint", "remove", "web", "127.0.0.1:10"], 1);
    let unknown = node.run(&["status", "pool", "wbe"], 1);
    assert!(unknown.contains("web"), "{unknown}");
}

#[test]
fn a_change_based_on_an_old_revision_is_refused() {
    let origin = origin();
    let node = Node::start(origin.address, None);
    let path = format!("/v1/pools/web/endpoints/{}", origin.address);
    let (_, head, _) = node.raw("GET", "/v1/config", &[], "");
    let revision = node.get("/v1/config")["revision"].as_u64().expect("a number");
    let tag = format!("\"{revision}\"");
    assert!(head.contains(&format!("etag: {tag}")), "{head}");
    let (status, head, body) = node.raw("PATCH", &path, &[("if-match", &tag)], r#"{"weight": 2, "state": "draining"}"#);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("etag: "), "{head}");
    let view = node.get(&path);
    assert_eq!((&view["weight"], &view["state"]), (&json!(2), &json!("draining")));
    let (status, head, body) = node.raw("PATCH", &path, &[("if-match", &tag)], r#"{"weight": 3}"#);
    assert_eq!(status, 412, "{body}");
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    assert_eq!(node.get(&path)["weight"], 2, "nothing was changed");
}

#[test]
fn wrong_requests_are_refused_by_kind() {
    let origin = origin();
    let node = Node::start(origin.address, None);
    let endpoint = format!("/v1/pools/web/endpoints/{}", origin.address);
    for (method, path, body, expected) in [
        ("PATCH", endpoint.as_str(), r#"{"wieght": 2}"#, 422),
        ("PATCH", &endpoint, r#"{"weight": 0}"#, 422),
        ("PATCH", &endpoint, r#"{"weight": 1001}"#, 422),
        ("PATCH", &endpoint, "{}", 422),
        ("PATCH", &endpoint, "{", 400),
        ("PATCH", "/v1/pools/web/endpoints/127.0.0.1:11", r#"{"weight": 2}"#, 404),
        ("POST", "/v1/pools/none/endpoints", r#"{"address": "127.0.0.1:11"}"#, 404),
        ("POST", "/v1/pools/web/endpoints", r#"{"address": "127.0.0.1"}"#, 422),
        ("POST", "/v1/pools/web/endpoints", r#"{"address": "127.0.0.1:11", "tier": 16}"#, 422),
        ("POST", "/v1/upgrade", r#"{"binary": "weir"}"#, 422),
        ("POST", "/v1/upgrade", r#"{"binary": "/nonexistent/weir"}"#, 422),
        ("POST", "/v1/reload?dryrun=true", "", 400),
        ("GET", "/v1/events?limit=x", "", 400),
        ("GET", "/v1/nothing", "", 404),
        ("DELETE", "/v1/status", "", 405),
    ] {
        assert_eq!(node.status(method, path, body), expected, "{method} {path} {body}");
    }
    let large = format!("{{\"address\": \"{}\"}}", "x".repeat(100 * 1024));
    assert_eq!(node.status("POST", "/v1/pools/web/endpoints", &large), 413);
    let (status, ..) = node.raw("PATCH", &endpoint, &[("content-type", "text/plain")], r#"{"weight": 2}"#);
    assert_eq!(status, 415);
}

#[test]
fn a_reload_takes_effect_whole_or_not_at_all() {
    let node = Node::start(origin().address, None);
    let file = node.dir.path().join("weir.toml");
    let good = std::fs::read_to_string(&file).expect("the file");
    assert!(node.run(&["reload"], 0).contains("nothing changed"));

    // Written aside and moved in place, so that a watching node never reads half of it.
    let write = |text: &str| {
        let aside = node.dir.path().join("new");
        std::fs::write(&aside, text).expect("written");
        std::fs::rename(&aside, &file).expect("moved");
    };
    write(&good.replace("protocol = \"http\"", "protocol = \"gopher\""));
    let refused = node.run(&["reload"], 1);
    assert!(refused.contains("gopher"), "{refused}");
    assert!(answer(node.request("/")).starts_with("HTTP/1.1 200"), "the old one is still in effect");

    write(&good.replace("[pool.spare]", "[pool.other]\nendpoints = []\n\n[pool.spare]"));
    node.run(&["reload", "--dry-run"], 0);
    node.run(&["reload"], 0);
    assert!(node.get("/v1/config")["pools"]["other"].is_u64());
}

#[test]
fn the_token_is_needed_on_every_path() {
    let node = Node::start(origin().address, Some("a-token-for-the-test"));
    for path in ["/v1/status", "/metrics", "/healthz", "/readyz", "/nothing"] {
        let (status, head, _) = node.raw("GET", path, &[("authorization", "Bearer wrong")], "");
        assert_eq!(status, 401, "{path}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
    assert_eq!(node.status("GET", "/v1/status", ""), 200);
    node.run(&["status"], 0);
    let output = node.command(&["status"]).env_remove("WEIR_TOKEN").output().expect("weir starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--token-file"));
    let token_file = node.dir.path().join("token");
    let output = node.command(&["status", "--token-file"]).arg(token_file).env_remove("WEIR_TOKEN").output().expect("weir starts");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn roles_sessions_and_who_did_what() {
    let origin = origin();
    let node = Node::start(origin.address, None);
    let made =
        |role: &str| -> Value { serde_json::from_slice(&node.weir(&["token", role, "--role", role, "--json"]).stdout).expect("JSON") };
    let tokens: Vec<Value> = ["read", "operate", "admin"].map(made).into();
    let tables: String = tokens
        .iter()
        .map(|made| {
            format!(
                "[api.token.{}]\nrole = {}\ntoken_sha256 = {}\n",
                made["name"].as_str().expect("text"),
                made["role"],
                made["token_sha256"]
            )
        })
        .collect();
    let file = node.dir.path().join("weir.toml");
    let config = std::fs::read_to_string(&file).expect("it is there") + &tables;
    let aside = node.dir.path().join("new");
    std::fs::write(&aside, config).expect("written");
    std::fs::rename(&aside, &file).expect("moved");
    // The node watches its file. Asked to reload, it might ask for a token in the middle of that.
    until("a token is asked for", || node.try_raw("GET", "/v1/status", &[], "").is_some_and(|(status, ..)| status == 401));

    let path = format!("/v1/pools/web/endpoints/{}", origin.address);
    let with = |index: usize| format!("Bearer {}", tokens[index]["token"].as_str().expect("text"));
    let (read, operate, admin) = (with(0), with(1), with(2));
    let status = |method: &str, path: &str, bearer: &str, body: &str| node.raw(method, path, &[("authorization", bearer)], body);
    assert_eq!(status("GET", "/v1/overview", &read, "").0, 200);
    let (code, _, body) = status("PATCH", &path, &read, r#"{"weight": 3}"#);
    assert!(code == 403 && body.contains("`operate`") && body.contains("`read`"), "{body}");
    assert_eq!(status("PATCH", &path, &operate, r#"{"weight": 3}"#).0, 200);
    assert_eq!(status("POST", "/v1/reload", &operate, "").0, 403);
    assert_eq!(status("POST", "/v1/reload", &admin, "").0, 200);

    // The page is for everybody, what it shows is not; a session stands for the token.
    assert_eq!(node.status("GET", "/", ""), 200);
    let token = tokens[1]["token"].as_str().expect("text");
    let (code, head, body) =
        node.raw("POST", "/v1/session", &[("origin", &format!("http://{}", node.api))], &json!({ "token": token }).to_string());
    assert_eq!(code, 200, "{body}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie").to_owned();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict") && !cookie.contains("secure"), "{cookie}");
    let cookie = cookie.split(';').next().expect("the pair").to_owned();
    assert!(!cookie.contains(&token.to_ascii_lowercase()));
    let by_session = |method: &str, path: &str, more: &[(&str, &str)], body: &str| {
        let headers: Vec<(&str, &str)> = [("cookie", cookie.as_str())].into_iter().chain(more.iter().copied()).collect();
        node.raw(method, path, &headers, body)
    };
    let (code, _, body) = by_session("GET", "/v1/session", &[], "");
    assert!(code == 200 && body.contains(r#""name":"operate""#) && body.contains(r#""session":true"#), "{body}");
    assert_eq!(by_session("PATCH", &path, &[], r#"{"weight": 4}"#).0, 403, "without the header of the page");
    assert_eq!(by_session("PATCH", &path, &[("weir-console", "1")], r#"{"weight": 4}"#).0, 200);
    let secure = node.raw(
        "POST",
        "/v1/session",
        &[("host", "lb.example"), ("origin", "https://lb.example")],
        &json!({ "token": token }).to_string(),
    );
    assert!(secure.0 == 200 && secure.1.contains("; secure"), "{}", secure.1);

    // Who did it is in the events, and no secret.
    let (_, _, events) = status("GET", "/v1/events?limit=1000", &read, "");
    let events: Value = serde_json::from_str(&events).expect("JSON");
    let of = |kind: &str| -> Vec<&Value> {
        events["events"].as_array().expect("a list").iter().filter(|event| event["event"] == kind).map(|event| &event["details"]).collect()
    };
    let changes = of("api_change");
    assert!(
        changes.iter().any(|change| change["by"] == "operate from 127.0.0.1"
            && change["status"] == 200
            && change["request"].as_str().is_some_and(|request| request.starts_with("PATCH /v1/pools/web"))),
        "{changes:?}"
    );
    assert_eq!((&of("signed_in")[0]["name"], &of("signed_in")[0]["role"]), (&json!("operate"), &json!("operate")));
    assert!(!events.to_string().contains(token));

    assert_eq!(by_session("DELETE", "/v1/session", &[], "").0, 200);
    assert_eq!(by_session("GET", "/v1/session", &[], "").0, 401);
    // Guessing is made to wait, over signing in as over the header.
    let mut tries = 0;
    while node.raw("POST", "/v1/session", &[], r#"{"token": "guess"}"#).0 == 401 {
        tries += 1;
        assert!(tries < 100, "guessed for ever");
    }
    let (code, head, _) = status("GET", "/v1/overview", &read, "");
    assert!(code == 429 && head.contains("retry-after: "), "{head}");
}

/// Every operation that is documented, with names in the place of its parameters.
fn operations() -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).expect("JSON");
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut named = String::new();
        for part in path.split('/').skip(1) {
            named.push('/');
            named.push_str(if part.starts_with('{') { "1" } else { part });
        }
        for (method, operation) in item.as_object().expect("methods") {
            found.push((method.to_uppercase(), named.clone(), operation.get("requestBody").is_some()));
        }
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[test]
fn no_operation_is_for_everybody() {
    let node = Node::start(origin().address, Some("a-token-for-the-test"));
    let evil = ("origin", "http://evil.example");
    for (method, path, takes_body) in operations() {
        let signs_in = path == "/v1/session" && method != "GET";
        let changes = method != "GET";
        if !signs_in {
            let (status, head, body) = node.raw(&method, &path, &[("authorization", "")], "");
            assert!(status == 401 && head.contains("application/problem+json"), "{method} {path} without a token: {status} {body}");
        }
        if changes {
            let (status, _, body) = node.raw(&method, &path, &[evil], "");
            assert_eq!(status, 403, "{method} {path} from another site: {body}");
        }
        if takes_body {
            // More than any request takes but the one that brings a file.
            let large = format!("{{\"text\": \"{}\"}}", "x".repeat(100 * 1024));
            if path != "/v1/config/file" {
                let (status, head, body) = node.raw(&method, &path, &[], &large);
                assert!(status == 413 && head.contains("application/problem+json"), "{method} {path} with 100 KiB: {status} {body}");
            }
            let status = node.status(&method, &path, "[[[");
            assert!((400..500).contains(&status), "{method} {path} with what is no JSON: {status}");
        }
    }
    assert_eq!(node.status("GET", "/v1/status", ""), 200, "it serves as before");
}

#[test]
fn of_changes_at_once_that_are_based_on_the_same_revision_one_is_made() {
    let origin = origin();
    let node = Node::start(origin.address, None);
    let path = format!("/v1/pools/web/endpoints/{}", origin.address);
    for round in 0..5 {
        let revision = format!("\"{}\"", node.get("/v1/config")["revision"]);
        let made: Vec<u16> = std::thread::scope(|scope| {
            let ask = |number: u16| {
                let (node, path, revision) = (&node, &path, &revision);
                scope.spawn(move || {
                    node.raw("PATCH", path, &[("if-match", revision)], &json!({ "weight": 100 + round * 20 + number }).to_string()).0
                })
            };
            let asked: Vec<_> = (0..16).map(ask).collect();
            asked.into_iter().map(|asked| asked.join().expect("it asks")).collect()
        });
        let count = |status: u16| made.iter().filter(|made| **made == status).count();
        assert_eq!((count(200), count(412)), (1, 15), "{made:?}");
    }
}

#[test]
fn the_file_is_replaced_whole_or_not_at_all_and_can_be_again_what_it_was() {
    let node = Node::start(origin().address, None);
    let file = node.dir.path().join("weir.toml");
    let first = std::fs::read_to_string(&file).expect("the file");
    let sha256 = |node: &Node| node.get("/v1/config/file")["sha256"].as_str().expect("a digest").to_owned();
    let has_alarm = |node: &Node| node.get("/v1/alarms").to_string().contains("fresh");
    let before = sha256(&node);
    let second = format!("{first}\n[alarm.fresh]\npool = \"web\"\nmetric = \"requests\"\nabove = 5\n");
    let put = |query: &str, text: &str, over: &str, headers: &[(&str, &str)]| {
        let (status, _, body) =
            node.raw("PUT", &format!("/v1/config/file{query}"), headers, &json!({ "text": text, "over": over }).to_string());
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let (status, dry) = put("?dry_run=true", &second, &before, &[]);
    assert!(status == 200 && dry["changes"].to_string().contains("fresh"), "{dry}");
    assert_eq!((sha256(&node), has_alarm(&node)), (before.clone(), false), "nothing was done");

    for (text, over, headers, expected) in [
        (second.replace("web\"\nmetric", "wbe\"\nmetric"), before.as_str(), vec![], 422),
        (second.clone(), "0000", vec![], 409),
        (second.clone(), &before, vec![("if-match", "\"999\"")], 412),
        // It is right, and cannot take effect: somebody else listens there.
        (second.replace(&node.api, &taken.local_addr().expect("its address").to_string()), &before, vec![], 500),
    ] {
        let (status, body) = put("", &text, over, &headers);
        assert_eq!(status, expected, "{body}");
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), first, "{expected}: it is as it was");
    }

    let (status, done) = put("", &second, &before, &[]);
    assert!(status == 200 && done["changes"].to_string().contains("fresh"), "{done}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), second);
    until("the alarm is watched", || has_alarm(&node));
    let versions = node.get("/v1/config/versions");
    assert_eq!((&versions[0]["in_effect"], &versions[1]["sha256"]), (&json!(true), &json!(before)), "{versions}");
    let kept = node.get(&format!("/v1/config/versions/{before}"));
    assert_eq!(kept["text"], first);
    assert_eq!(node.status("GET", "/v1/config/versions/abc", ""), 404);
    assert_eq!(put("", kept["text"].as_str().expect("text"), &sha256(&node), &[]).0, 200);
    assert_eq!(sha256(&node), before);
    until("the alarm is gone", || !has_alarm(&node));
    // Nothing of the text is in the audit, which says who did it.
    until("the audit has it", || node.get("/v1/audit?limit=1000").to_string().contains("PUT /v1/config/file"));
    assert!(!node.get("/v1/audit?limit=1000").to_string().contains("state_dir"));
}

#[test]
fn web_pages_cannot_reach_it() {
    let node = Node::start(origin().address, None);
    let status = |method, headers: &[(&str, &str)]| node.raw(method, "/v1/reload", headers, "").0;
    assert_eq!(node.raw("GET", "/v1/status", &[("host", "evil.example:7117")], "").0, 403);
    assert_eq!(node.raw("GET", "/v1/status", &[("host", "lb-test:7117")], "").0, 200);
    assert_eq!(status("POST", &[("origin", "http://evil.example")]), 403);
    assert_eq!(status("POST", &[("origin", "null")]), 403);
    assert_eq!(status("POST", &[("origin", &format!("http://{}", node.api))]), 200);
}

#[test]
fn what_is_documented_is_there() {
    let node = Node::start(origin().address, None);
    let document = node.get("/v1/openapi.json");
    let checked_in: Value = serde_json::from_str(include_str!("../openapi.json")).expect("JSON");
    assert_eq!(document, checked_in);
    for (path, item) in document["paths"].as_object().expect("paths") {
        // The stream goes on for minutes; it has a test of its own.
        if item["get"].is_object() && path != "/v1/overview/stream" {
            let path =
                path.replace("/v1/scaling/{pool}", "/v1/scaling/{scaled}").replace("{pool}", "spare").replace("{endpoint}", "127.0.0.1:9");
            // This node has neither virtual IPs, machines, alarms nor scaled pools, so nothing of that name is there; but the path is.
            let nothing = ["{vip}", "{machine}", "{alarm}", "{recovery}", "{scaled}", "{host}", "{sha256}"]
                .iter()
                .fold(path.replace("{id}", "0").replace("{incident}", "0"), |path, name| path.replace(name, "nothing"));
            let (status, head, _) = node.raw("GET", &nothing, &[], "");
            let is_refusal = status == 404 && nothing != path && head.contains("application/problem+json");
            // Nor does it tell anybody anything, and says so.
            let tells_nobody = status == 409 && (nothing.starts_with("/v1/incidents") || nothing.starts_with("/v1/notify"));
            // Which series has to be said.
            let asks_back = status == 400 && nothing == "/v1/history/series";
            assert!(status == 200 || is_refusal || tells_nobody || asks_back, "{nothing}: {status}");
        }
    }
}

/// The events of a stream with their data, line by line as they come.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(node: &Node) -> Stream {
        let mut stream = TcpStream::connect(&node.api).expect("the API accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(format!("GET /v1/overview/stream HTTP/1.1\r\nhost: {}\r\n\r\n", node.api).as_bytes()).expect("sent");
        Stream(BufReader::new(stream))
    }

    fn next(&mut self) -> (String, Value) {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("it goes on") > 0, "the stream ended");
            if let Some(kind) = line.strip_prefix("event: ") {
                event = kind.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (event, serde_json::from_str(data).expect("JSON"));
            }
        }
    }
}

#[test]
fn everything_is_in_one_document_and_streamed_as_it_changes() {
    let origin = origin();
    let endpoint = origin.address.to_string();
    let node = Node::start(origin.address, None);
    let overview = node.get("/v1/overview");
    assert_eq!((&overview["node"]["name"], &overview["listeners"]["web"]["pools"]), (&json!("lb-test"), &json!(["web"])));
    assert_eq!(overview["pools"]["web"]["endpoints"][&endpoint]["state"], "ready");
    let (_, head, _) = node.raw("GET", "/v1/overview", &[("accept-encoding", "gzip")], "");
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");

    let mut stream = Stream::open(&node);
    let (event, state) = stream.next();
    assert_eq!((event.as_str(), &state["pools"]["web"]["state"]), ("state", &json!("ok")));
    node.run(&["drain", &endpoint, "--pool", "web", "--no-wait"], 0);
    let change = loop {
        let (event, change) = stream.next();
        assert_eq!(event, "change");
        if change["pools"]["web"]["endpoints"][&endpoint]["state"] == "draining" {
            break change;
        }
    };
    assert_eq!(change["pools"]["web"]["state"], "down");
    assert_eq!((&change["problems"][0]["kind"], &change["problems"][0]["severity"]), (&json!("pool-down"), &json!("critical")));
    assert!(change["pools"].get("spare").is_none_or(|spare| spare.get("balance").is_none()), "only what changed: {change}");
    let (event, state) = Stream::open(&node).next();
    assert_eq!((event.as_str(), &state["pools"]["web"]["state"]), ("state", &json!("down")), "whoever comes again gets it whole");
}

#[test]
fn the_console_is_served_and_kept_to_itself() {
    let node = Node::start(origin().address, None);
    let (status, head, page) = node.raw("GET", "/", &[], "");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-security-policy: default-src 'none'; script-src 'self'") && head.contains("cache-control: no-cache"),
        "{head}"
    );
    for name in ["app.js", "style.css"] {
        let at = page.find(&format!("console/{name}?v=")).expect("the page names it");
        let path = format!("/{}", page[at..].split('"').next().unwrap_or_default());
        let (status, head, body) = node.raw("GET", &path, &[], "");
        assert!(status == 200 && head.contains("immutable") && head.contains("nosniff") && !body.is_empty(), "{path}: {head}");
    }
    assert_eq!(node.status("GET", "/console/nothing.js", ""), 404);
    assert_eq!(node.raw("GET", "/", &[("host", "evil.example")], "").0, 403, "a page of another name may not frame or read it");
    let file = node.get("/v1/config/file");
    assert!(file["in_effect"] == true && file["text"].as_str().is_some_and(|text| text.contains("[pool.spare]")), "{file}");
    std::fs::write(node.dir.path().join("weir.toml"), "[node]\nnme = 1\n").expect("written");
    until("the file is not what is in effect", || node.get("/v1/config/file")["in_effect"] == false);
}

#[test]
fn streams_are_bounded() {
    let node = Node::start(origin().address, None);
    let open: Vec<Stream> = (0..32).map(|_| Stream::open(&node)).map(|mut stream| (stream.next(), stream).1).collect();
    let (status, _, body) = node.raw("GET", "/v1/overview/stream", &[], "");
    assert_eq!(status, 503, "{body}");
    assert_eq!(node.status("GET", "/v1/overview", ""), 200);
    drop(open);
    until("the places are free again", || {
        let mut stream = TcpStream::connect(&node.api).expect("the API accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(format!("HEAD /v1/overview/stream HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", node.api).as_bytes()).is_ok()
            && answer(stream).starts_with("HTTP/1.1 200")
    });
}

#[test]
fn metrics_and_status_count_the_same() {
    let node = Node::start(origin().address, None);
    for _ in 0..5 {
        assert!(answer(node.request("/")).starts_with("HTTP/1.1 200"));
    }
    until("the requests are counted", || {
        let (_, head, metrics) = node.raw("GET", "/metrics", &[], "");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        metrics.contains("weir_listener_requests_total{listener=\"web\",cause=\"ok\"} 5\n")
            && metrics.contains("weir_pool_requests_total{pool=\"web\"} 5\n")
    });
    let status: Value = serde_json::from_slice(&node.weir(&["status", "--json"]).stdout).expect("JSON");
    assert_eq!(status["node"]["name"], "lb-test");
    assert_eq!(status["listeners"][0]["causes"]["ok"], 5);
    assert_eq!(status["listeners"][0]["responses"]["2xx"], 5);
    let text = node.run(&["status"], 0);
    assert!(text.contains("lb-test: ready") && text.contains("least-request"), "{text}");
}

#[test]
fn events_can_be_waited_for() {
    let origin = origin();
    let node = Node::start(origin.address, None);
    let seen = node.get("/v1/events?limit=1000")["next"].as_u64().expect("a number");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.get(&format!("/v1/events?after={seen}&wait_s=15")));
        node.run(&["endpoint", "weight", "web", &origin.address.to_string(), "9"], 0);
        let page = waiting.join().expect("an answer");
        assert!(page["events"].as_array().is_some_and(|events| !events.is_empty()), "{page}");
        assert!(page["next"].as_u64().is_some_and(|next| next > seen));
    });
    let lines = node.run(&["events", "--json", "--last", "3"], 0);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["number"].is_u64())), "{lines}");
    let started = Instant::now();
    assert_eq!(node.get("/v1/events?after=9999999&wait_s=30&pid=1")["events"], json!([]));
    assert!(started.elapsed() < Duration::from_secs(10), "another process's numbers are not waited for");
}
