//! The program as its operators meet it: what it says when it cannot start, and what it can do without.

mod port;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use port::free_port;

/// A running node, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weir(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a node and reads its log until it serves; then it must accept.
fn start(config: &Path, port: u16) -> (Running, BufReader<ChildStderr>, String) {
    let mut running = Running(weir(config).spawn().expect("it runs"));
    let mut lines = BufReader::new(running.0.stderr.take().expect("piped"));
    let mut log = String::new();
    while !log.contains("INFO serving") {
        assert_ne!(lines.read_line(&mut log).expect("text"), 0, "it ended: {log}");
    }
    TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    (running, lines, log)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().expect("kill runs");
    assert!(status.success());
}

/// Ends a node in order and returns its whole log.
fn stop((mut running, mut lines, mut log): (Running, BufReader<ChildStderr>, String)) -> String {
    signal(&running.0, "TERM");
    lines.read_to_string(&mut log).expect("text");
    let status = running.0.wait().expect("it ends");
    assert!(status.success(), "{status}: {log}");
    log
}

/// A configuration with one listener, and more lines for `[node]`.
fn config(folder: &Path, port: u16, node: &str) -> std::path::PathBuf {
    let path = folder.join("weir.toml");
    let text = format!(
        "[node]\n{node}\n[listener.web]\nbind = \"127.0.0.1:{port}\"\nprotocol = \"http\"\npool = \"web\"\n\
         [pool.web]\nendpoints = [\"127.0.0.1:{}\"]\n",
        free_port()
    );
    fs::write(&path, text).expect("written");
    path
}

/// Nothing is open when the signal comes, but clients wait in the queue already.
#[test]
fn who_came_just_before_the_end_is_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let node = start(&config(folder.path(), port, &format!("state_dir = {:?}", folder.path().join("state"))), port);
    let clients: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("queued");
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
            client
        })
        .collect();
    stop(node);
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("not reset");
        assert!(answer.starts_with("HTTP/1.1 50"), "{answer:?}");
    }
}

#[test]
fn a_wrong_file_is_explained_and_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weir.toml");
    fs::write(&path, "[node]\nname = \"a\"\n[listener.web\nbind = 7\n").expect("written");
    let output = weir(&path).output().expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("weir.toml") && log.contains("listener.web"), "file and line are shown: {log}");
    assert!(!log.contains('\x1b'), "no colours in a pipe: {log}");
}

#[test]
fn a_missing_file_is_named() {
    let output = weir(Path::new("/nonexistent/weir.toml")).output().expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("cannot read /nonexistent/weir.toml"), "{log}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_no_reason_not_to_serve() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").expect("written");
    let port = free_port();
    let config = config(folder.path(), port, &format!("state_dir = \"{}/state\"", in_the_way.display()));
    let log = stop(start(&config, port));
    assert!(log.contains("cannot create the state folder"), "{log}");
}

#[test]
fn state_that_makes_no_sense_is_set_aside() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("made");
    fs::write(state.join("overlay.json"), "{\"version\":1,\"po").expect("written");
    let port = free_port();
    let config = config(folder.path(), port, &format!("state_dir = \"{}\"", state.display()));
    let log = stop(start(&config, port));
    assert!(log.contains("overlay.json") && log.contains("starting without the run-time changes"), "{log}");
    assert_eq!(fs::read_to_string(state.join("overlay.json.bad")).expect("kept"), "{\"version\":1,\"po");
}

#[test]
fn an_address_in_use_ends_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = other.local_addr().expect("bound").port();
    let config = config(folder.path(), port, &format!("state_dir = \"{}\"", folder.path().display()));
    let output = weir(&config).output().expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
}
