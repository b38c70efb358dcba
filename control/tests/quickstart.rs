//! `scripts/quickstart`, as a person runs it: complete, twice in a row, interrupted at three moments, and killed. Nothing is left behind. And on
//! machines that lack something: each says what.

#[expect(dead_code, reason = "another test asks whether it is open")]
mod terminal;

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use terminal::Terminal;

/// A whole show, on a machine that emulates its guests and does other things beside.
const SHOW: Duration = Duration::from_secs(900);
/// Until everything that was begun is taken away.
const END: Duration = Duration::from_secs(120);

/// The lab's name: a show that somebody else has up is none of ours.
fn lab() -> String {
    format!("quickstart-{}", std::process::id())
}

/// Where the lab has its record.
fn record() -> PathBuf {
    Path::new("/run/weir-lab").join(lab())
}

/// One show at a time: they all have the same name.
static ALONE: Mutex<()> = Mutex::new(());

struct Show {
    child: Child,
    /// Reads what it says.
    hearing: JoinHandle<()>,
    said: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
    /// What the names of everything in its lab begin with; other labs may be up beside it.
    prefixes: BTreeSet<String>,
    _alone: MutexGuard<'static, ()>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the programs are, all three of them.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_weir")).parent().expect("a program is in a folder").to_owned();
    for program in ["weir-libvirt", "lab"] {
        assert!(
            folder.join(program).exists(),
            "{program} is missing in {}; run: cargo build -p weir-libvirt -p weir-lab",
            folder.display()
        );
    }
    folder
}

fn script(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/quickstart"));
    command
        .args(words)
        .env("WEIR_QUICKSTART_BIN", programs())
        .env("WEIR_QUICKSTART_NAME", lab())
        .env("TMPDIR", folder)
        .stdin(Stdio::null());
    command
}

impl Show {
    fn start(words: &[&str]) -> Show {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = script(folder.path(), words);
        // A group of its own: a terminal would send Ctrl-C to it alone.
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer).process_group(0);
        let child = command.spawn().expect("the script is there");
        drop(command);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let hearing = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Show { child, hearing, said, folder, prefixes: BTreeSet::new(), _alone: alone }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers how its lab calls things, for when the lab's record is gone.
    fn look_at_lab(&mut self) {
        let record = std::fs::read_to_string(record().join("record.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
        self.prefixes.extend(record["token"].as_str().map(|token| format!("wl-{token}")));
    }

    fn until_said(&mut self, words: &str) {
        let deadline = Instant::now() + SHOW;
        while !self.said().contains(words) {
            self.look_at_lab();
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none() && Instant::now() < deadline, "it never said {words:?}, {ended:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// To its whole group, as a terminal does it.
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                // Its last words are on their way; what it leaves behind when it is killed may hold the pipe open.
                let heard = Instant::now() + if status.code().is_some() { Duration::from_secs(30) } else { Duration::ZERO };
                while !self.hearing.is_finished() && Instant::now() < heard {
                    std::thread::sleep(Duration::from_millis(10));
                }
                return status;
            }
            self.look_at_lab();
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Folders, the lab's record, processes, namespaces and cables of it.
    fn left(&self) -> Vec<String> {
        let folder = self.folder.path();
        let mut found: Vec<String> = names(folder).into_iter().map(|name| format!("folder {name}")).collect();
        if record().exists() {
            found.push("the lab's record".into());
        }
        let folder = folder.display().to_string();
        let name = format!("--name {} ", lab());
        let is_its = |text: &str| self.prefixes.iter().any(|prefix| text.contains(prefix.as_str()));
        for process in names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default().replace('\0', " ");
            if line.contains(&folder) || line.contains(&name) || is_its(&line) {
                found.push(format!("process {process}: {line}"));
            }
        }
        found.extend(names("/run/netns").into_iter().chain(names("/sys/class/net")).filter(|name| is_its(name)));
        found
    }

    /// Each act with its figure, and no failed request.
    fn has_shown_all(&self) {
        let said = self.said();
        println!("{said}");
        for figure in [
            "the alarm web-busy went off after",
            "time to scale",
            "takeover time",
            "replaced after",
            "All acts together: requests failed: 0",
        ] {
            assert!(said.contains(figure), "no {figure:?} in\n{said}");
        }
    }

    /// Nothing of it is there any more, soon.
    fn left_nothing(&self, moment: &str) {
        let deadline = Instant::now() + END;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            // What was killed takes a moment to go.
            assert!(Instant::now() < deadline, "{moment}: left behind: {left:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            let _ = self.child.wait();
        }
    }
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_whole_chain_is_shown_twice_without_a_failed_request_and_can_then_be_worked_with() {
    let mut first = Show::start(&["--no-wait"]);
    let status = first.ended(SHOW);
    assert!(status.success(), "{status}\n{}", first.said());
    first.has_shown_all();
    first.left_nothing("the first");
    drop(first);

    let mut second = Show::start(&[]);
    second.until_said("Everything goes on");
    second.has_shown_all();
    let node = Up::of(&second.said());
    work_in_a_terminal(&second, &node);
    work_in_a_browser(&node);
    let output = script(second.folder.path(), &["--down"]).output().expect("the script is there");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(second.ended(END).code(), Some(143), "{}", second.said());
    second.left_nothing("the second");
}

/// What a show says about the nodes that it leaves running.
struct Up {
    /// The API of the node that leads, then of the other.
    apis: [String; 2],
    token_file: String,
}

impl Up {
    fn of(said: &str) -> Up {
        let line =
            |begin: &str| said.lines().find_map(|line| line.trim().strip_prefix(begin)).unwrap_or_else(|| panic!("no {begin:?} in {said}"));
        let leader = line("the console ").split_whitespace().next().expect("an address").trim_end_matches('/').to_owned();
        let mut all = line("the API ").split_whitespace().map(|url| url.trim_end_matches("/v1/status").to_owned());
        let other = all.find(|url| *url != leader).expect("another node");
        let token_file = said.split("its token: cat ").nth(1).and_then(|rest| rest.split(')').next()).expect("the token").to_owned();
        Up { apis: [leader, other], token_file }
    }

    /// A command of `weir` for this node.
    fn weir(&self, node: usize, words: &str) -> String {
        format!("{} {words} --api {} --token-file {}", env!("CARGO_BIN_EXE_weir"), self.apis[node], self.token_file)
    }

    fn says(&self, node: usize, words: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + END;
        loop {
            let output = Command::new("sh").args(["-c", &self.weir(node, words)]).output().expect("a shell");
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if wanted(&said) {
                return;
            }
            assert!(Instant::now() < deadline, "{words}: {}", String::from_utf8_lossy(&output.stdout));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Scales the pool, reboots a machine and hands the address over and back, from the keyboard, in a small and in a large terminal.
fn work_in_a_terminal(show: &Show, node: &Up) {
    let top = |number: usize, size: (u16, u16)| {
        let program = node.weir(number, "top --interval 500ms");
        Terminal::start(show.folder.path().join(format!("tmux-{}", size.0)), &program, size, END)
    };
    let small = top(0, (80, 24));
    small.wait_for("leads");
    yes(&small, &["+"], "3 machines instead of 2 for pool web", "3 machines are wanted");
    yes(&small, &["a"], "Hold pool web at what it has?", "not scaled by itself any more");
    yes(&small, &["a"], "be scaled by itself again?", "web is scaled by itself again");
    small.press(&["3", "/", "serving", "Enter"]);
    yes(&small, &["b"], "to reboot?", "reboot of web-");
    small.press(&["q"]);
    drop(small);

    let large = top(0, (200, 60));
    yes(&large, &["5", "v"], "takes it over first, then this node lets go", "public is being released");
    node.says(1, "status vip --json", |vips| vips[0]["master"] == true);
    drop(large);
    // Only who has it can give it; back from there.
    let there = top(1, (200, 60));
    yes(&there, &["5", "v"], "takes it over first", "public is being released");
    node.says(0, "status vip --json", |vips| vips[0]["master"] == true);
    // Nobody asks for a third machine: the policies take it away again.
    node.says(0, "scaling show web --json", |pool| {
        pool["leads"] == true && pool["members"].as_array().is_some_and(|members| members.len() == 2)
    });
}

/// Presses keys until this is asked, as the picture may be a moment old; says yes, and waits until it is done.
#[track_caller]
fn yes(terminal: &Terminal, keys: &[&str], question: &str, done: &str) {
    let deadline = Instant::now() + END;
    loop {
        terminal.press(keys);
        let soon = Instant::now() + Duration::from_secs(10);
        let mut picture = terminal.picture();
        while !picture.contains("[y/N]") && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(50));
            picture = terminal.picture();
        }
        if picture.contains(question) {
            break;
        }
        assert!(Instant::now() < deadline, "{question:?} was never asked:\n{picture}");
        if picture.contains("[y/N]") {
            terminal.press(&["n"]);
        }
    }
    terminal.press(&["y"]);
    terminal.wait_for(done);
}

/// The same in chromium: console/test/chain.test.mjs.
fn work_in_a_browser(node: &Up) {
    let console = root().join("console");
    assert!(console.join("node_modules").exists(), "the console's packages are missing; run: cd console && npm ci --ignore-scripts");
    let token = std::fs::read_to_string(&node.token_file).expect("the token");
    let mut command = Command::new("npm");
    command.args(["run", "--silent", "chain"]).current_dir(console).stdin(Stdio::null());
    command.env("WEIR_CONSOLE", format!("{}/,{}/", node.apis[0], node.apis[1])).env("WEIR_TOKEN", token.trim());
    let output = command.output().expect("npm is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Who was master when, and why.
    let events = |number| Command::new("sh").args(["-c", &node.weir(number, "events")]).output().expect("a shell").stdout;
    let told = || [0, 1].map(|number| String::from_utf8_lossy(&events(number)).into_owned()).join("\n");
    assert!(output.status.success(), "{said}\n{}", told());
    print!("{said}");
}

#[test]
fn a_show_that_is_interrupted_leaves_nothing() {
    for moment in ["[3/10]", "[4/10]", "[6/10]"] {
        let mut show = Show::start(&["--no-wait"]);
        show.until_said(moment);
        show.signal("INT");
        let status = show.ended(END);
        assert_eq!(status.code(), Some(130), "{moment}: {}", show.said());
        assert!(show.said().ends_with("Everything is stopped and removed.\n"), "{moment}: {}", show.said());
        show.left_nothing(moment);
    }
}

#[test]
fn what_a_killed_show_leaves_is_taken_down_by_one_command() {
    let mut show = Show::start(&["--no-wait"]);
    show.until_said("[5/10]");
    show.signal("KILL");
    show.ended(END);
    assert!(!show.left().is_empty(), "it had begun something");
    let output = script(show.folder.path(), &["--down"]).output().expect("the script is there");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Nothing is up.\n"), "{output:?}");
    show.left_nothing("killed");
}

/// Runs the script from a copy of its own, where it finds nothing; in a shell, after `before`.
fn refused(before: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = "cp -r \"$1/scripts\" . && chmod -R a+rX . && mkdir target && { eval \"$2\"; }";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", copy, "sh"]).arg(root().canonicalize().expect("it is there")).arg(before);
    let output =
        command.current_dir(folder.path()).env("TMPDIR", folder.path()).env_remove("CARGO_TARGET_DIR").output().expect("util-linux");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{before}: {said}");
    said
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    for (before, words) in [
        ("exec setpriv --reuid=65534 --regid=65534 --clear-groups scripts/quickstart", "root: it makes network namespaces"),
        ("mount -t tmpfs -o size=16m none target && scripts/quickstart", "disk: 16 MiB are free in target"),
        ("echo 'MemAvailable: 102400 kB' >few && mount --bind few /proc/meminfo && scripts/quickstart", "memory: 100 MiB are free"),
        ("WEIR_QUICKSTART_BIN=/nonexistent scripts/quickstart --quick", "/nonexistent/weir is missing"),
    ] {
        let said = refused(before);
        assert!(said.contains(words), "{before}: {said}");
        assert!(words.contains("missing") || said.contains("scripts/quickstart --quick"), "it says what needs less: {said}");
    }
}

#[test]
fn the_balancer_alone_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = script(folder.path(), &["--quick", "--no-wait"]).output().expect("the script is there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("requests failed: 0") && said.contains("the console "), "{said}");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}
