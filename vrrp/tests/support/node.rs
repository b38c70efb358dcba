//! Programs under test in hosts: ours, and others.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::net::Lab;

/// A program that prints lines, and takes some.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
    name: String,
}

impl Program {
    /// Starts a program in a host.
    pub fn start(lab: &Lab, host: &str, program: impl Into<PathBuf>, arguments: &[String]) -> Program {
        let program = program.into();
        let mut command = lab.command(host, &program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let lines: Arc<(Mutex<Vec<String>>, Condvar)> = Arc::default();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for output in outputs {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.0.lock().expect("no panic while held").push(line);
                    lines.1.notify_all();
                }
            });
        }
        Program { input: child.stdin.take(), child, lines, name: program.display().to_string() }
    }

    /// One that goes before other processes, as our nodes do: else a busy machine makes it late, and a second master.
    pub fn in_real_time(lab: &Lab, host: &str, program: &str, arguments: &[String]) -> Program {
        let arguments: Vec<String> = ["-f", "20", program].map(str::to_owned).into_iter().chain(arguments.iter().cloned()).collect();
        Program::start(lab, host, "/usr/bin/chrt", &arguments)
    }

    /// One of our nodes: each argument a router, as in `examples/vip_node.rs`.
    pub fn weir(lab: &Lab, host: &str, arguments: &[&str]) -> Program {
        let own = std::env::current_exe().expect("a test has a file");
        let places = own.ancestors().skip(1).take(2).map(|folder| folder.join("examples/vip_node"));
        let path = places.into_iter().find(|path| path.exists());
        let path = path.expect("cargo builds examples/vip_node with all tests; for one alone run cargo build --examples first");
        Program::start(lab, host, path, &arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().expect("no panic while held").clone()
    }

    /// The first line that holds `text`, of those from number `from` on, with its number.
    pub fn wait_line(&self, text: &str, from: usize, patience: Duration) -> (usize, String) {
        let deadline = Instant::now() + patience;
        let mut lines = self.lines.0.lock().expect("no panic while held");
        loop {
            if let Some(found) = lines.iter().enumerate().skip(from).find(|(_, line)| line.contains(text)) {
                return (found.0, found.1.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} did not say {text:?} within {patience:?}; it said:\n{}", self.name, lines.join("\n"));
            lines = self.lines.1.wait_timeout(lines, left).expect("no panic while held").0;
        }
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("still open"), "{line}").expect("it reads");
    }

    /// Asks one of our nodes how it is.
    pub fn status(&mut self) -> String {
        let from = self.lines().len();
        self.say("status");
        let (end, _) = self.wait_line("- end", from, Duration::from_secs(5));
        self.lines()[from..=end].join("\n")
    }

    /// A process of it (`ip netns exec` becomes the program).
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32).expect("a child has a number")
    }

    /// Its children.
    pub fn children(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let mut found = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw));
        }
        found
    }

    /// A signal for it alone.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// kill -9 for it and its children, which are stopped before, so that they neither say something nor are replaced.
    pub fn kill_all(&mut self) -> Instant {
        let children = self.children();
        let all = |pids: &[Pid], signal| pids.iter().for_each(|pid| _ = kill_process(*pid, signal));
        let at = Instant::now();
        all(&children, Signal::STOP);
        all(&[self.pid()], Signal::KILL);
        all(&children, Signal::KILL);
        let _ = self.child.wait();
        at
    }

    /// SIGTERM or the end of its orders, and its end awaited.
    pub fn stop(&mut self) -> Instant {
        let at = Instant::now();
        match self.input.take() {
            Some(input) if self.name.ends_with("vip_node") => drop(input),
            _ => self.signal(Signal::TERM),
        }
        at
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_all();
    }
}
