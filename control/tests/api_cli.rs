//! The commands that need no node, and what the others say when there is none.

use std::path::Path;
use std::process::{Command, Output};

fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .env_remove("WEIR_API")
        .env_remove("WEIR_TOKEN")
        .env_remove("WEIR_TOKEN_FILE")
        .output()
        .expect("weir starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(content: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("weir.toml");
    std::fs::write(&file, content).expect("written");
    let mut all = vec!["check", Path::to_str(&file).expect("UTF-8")];
    all.extend(args);
    weir(&all)
}

const GOOD: &str = r#"
[listener.web]
bind = "127.0.0.1:8080"
protocol = "http"
pool = "web"

[pool.web]
endpoints = ["10.0.0.11:8080", { address = "10.0.0.12:8080", weight = 2 }]
"#;

#[test]
fn a_good_file() {
    let output = check(GOOD, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "ok: 1 listener, 1 pool, 2 endpoints\n");
    let json: serde_json::Value = serde_json::from_slice(&check(GOOD, &["--json"]).stdout).expect("JSON");
    assert_eq!(json["ok"], true);
}

#[test]
fn a_file_with_two_errors_shows_both() {
    let bad = GOOD.replace("protocol", "protocoll").replace("weight = 2", "weight = 0");
    let output = check(&bad, &[]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.contains("protocoll") && shown.contains("weight"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours in a pipe");
    let json: serde_json::Value = serde_json::from_slice(&check(&bad, &["--json"]).stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    assert!(json["errors"].as_array().is_some_and(|errors| errors.len() >= 2), "{json}");
}

#[test]
fn a_file_that_is_not_there() {
    let output = weir(&["check", "/nonexistent/weir.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot read /nonexistent/weir.toml"));
}

#[test]
fn the_schema_is_json() {
    let output = weir(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON");
}

#[test]
fn nobody_to_talk_to() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let output = weir(&["status", "--api", &free.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot reach the API") && said.contains("weir run"), "{said}");
}

#[test]
fn wrong_usage_is_2() {
    for args in [&["drain"][..], &["drain", "10.0.0.1"], &["nonsense"], &["endpoint", "weight", "web", "10.0.0.1:80", "0"], &[]] {
        assert_eq!(weir(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(weir(&["--help"]).status.code(), Some(0));
    // What is missing is named, each way.
    assert!(text(&weir(&["notify", "resend"]).stderr).contains("<KEY|--all>"));
}
