//! Servers that tests talk to, and how a message is delivered to them.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(unreachable_pub, reason = "public for the tests that take it in")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weir_config::NotifyChannel;
use weir_notify::channel::{Fault, Receipt, build};
use weir_notify::message::Message;
use weir_notify::transcript::Transcript;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A program of `tests/` in Python, ended with the test.
pub struct Script {
    child: Child,
    _stdin: Option<ChildStdin>,
    pub port: u16,
    pub folder: tempfile::TempDir,
}

impl Drop for Script {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Script {
    /// Starts it with its folder and these arguments; it prints the port at which it listens.
    pub fn start(name: &str, folder: tempfile::TempDir, arguments: &[&str]) -> Script {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(tests.join(name)).arg(folder.path()).args(arguments).env("PYTHONPATH", libraries());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Debian's python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{name} tells no port: is what it imports installed? See scripts/test"));
        Script { _stdin: child.stdin.take(), child, port, folder }
    }
}

/// Where `scripts/test` puts what Debian has no package for.
fn libraries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/test-tools/python")
}

/// An HTTP server that answers by a plan.
pub struct HttpServer {
    script: Script,
    scheme: &'static str,
}

impl HttpServer {
    pub fn start(plan: Value) -> HttpServer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
        HttpServer { script: Script::start("http_server.py", folder, &[]), scheme: "http" }
    }

    /// With a certificate for this name.
    pub fn start_tls(plan: Value, name: &str) -> HttpServer {
        HttpServer::start_tls_until(plan, name, 2050)
    }

    /// With one that is good until this year begins.
    pub fn start_tls_until(plan: Value, name: &str, year: i32) -> HttpServer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name).display().to_string());
        std::fs::write(&cert, parameters.self_signed(&signing_key).unwrap().pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        HttpServer { script: Script::start("http_server.py", folder, &[&cert, &key]), scheme: "https" }
    }

    pub fn url(&self, path: &str) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}{path}", self.scheme, self.script.port)
    }

    /// A file beside the plan; a secret or the certificate.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.script.folder.path().join(name);
        if !content.is_empty() {
            std::fs::write(&path, content).unwrap();
        }
        path.display().to_string()
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Value> {
        let read = |number: u32| std::fs::read_to_string(self.script.folder.path().join(format!("{number}.json"))).ok();
        (1..).map_while(read).map(|text| serde_json::from_str(&text).unwrap()).collect()
    }
}

/// The channel of a file that holds these lines below `[notify.a]`.
pub fn channel(lines: &str) -> NotifyChannel {
    let text = format!("[notify.a]\n{lines}\n");
    let config = weir_config::parse(&text, "test.toml").unwrap_or_else(|errors| panic!("{}\n{text}", errors.render(false)));
    NotifyChannel::clone(config.notification.channels.values().next().unwrap())
}

/// Delivers one message as the outbox would.
pub async fn deliver(lines: &str, message: &Message, limit: Duration) -> (Result<Receipt, Fault>, Transcript) {
    let built = build(&channel(lines));
    let mut transcript = Transcript::new();
    let ended = tokio::time::timeout(limit, built.deliver(message, &mut transcript)).await;
    let result = ended.unwrap_or_else(|_| Err(Fault::broken(&transcript, "too slow")));
    (result, transcript)
}

pub fn conversation(transcript: &Transcript) -> String {
    transcript.lines().iter().map(|line| format!("{}\n", line.text)).collect()
}

#[path = "../../../control/tests/port/mod.rs"]
mod port;

/// A port at which nobody listens.
pub fn free_port() -> u16 {
    port::free_port()
}

/// What somebody could write into a label: line ends, control bytes, fields, HTML, words of shells, JSON and mentions.
pub const EVIL: &str = "x\r\nBcc: evil@example.com\r\n\r\n\0\x1b[2J\u{202e}${node}\"},{\"a\":\"b\\</b><script>&amp;'$(reboot)`id`;rm -rf /|%0d%0a&to=+1@all <!channel>\u{2028}";
