//! What a reload prints.

use weir_config::{AdminState, Config, diff, parse};

const BASE: &str = r#"
[listener.web]
bind = "10.0.0.1:80"
pool = "web"
[[listener.web.route]]
host = "a.example.com"
pool = "api"
[[listener.web.route]]
path = "/v1/"
pool = "api"
[pool.web]
endpoints = ["10.0.0.10:80", "10.0.0.11:80"]
[pool.web.health]
type = "http"
[pool.api]
endpoints = ["10.0.0.20:80"]
"#;

fn parsed(text: &str) -> Config {
    parse(text, "diff.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// Replaces `from` in the base and compares the lines of the difference.
fn check(from: &str, to: &str, expected: &[&str]) {
    let text = BASE.replacen(from, to, 1);
    assert!(from.is_empty() || text != BASE, "{from} is not in the base");
    let lines: Vec<String> = diff(&parsed(BASE), &parsed(&text)).iter().map(|change| change.to_string()).collect();
    assert_eq!(lines, expected, "{from} -> {to}");
}

#[test]
fn one_line_for_each_change() {
    check("", "", &[]);
    check("", "# a comment\n", &[]);
    check("", "[node]\nworkers = 4\n", &["node: workers one per core -> 4 (needs an upgrade or restart)"]);
    check("", "[node]\ndrain_timeout = \"1m\"\n", &["node: drain_timeout 30s -> 1m"]);
    check("", "[api]\n", &["api: added"]);
    check("", "[access_log]\n", &["access_log: added"]);
    check("\"10.0.0.1:80\"", "[\"10.0.0.1:80\", \"10.0.0.1:81\"]", &["listener web: bind 10.0.0.1:81 added"]);
    check("10.0.0.1:80", "10.0.0.1:81", &["listener web: bind 10.0.0.1:80 removed", "listener web: bind 10.0.0.1:81 added"]);
    check("pool = \"web\"", "pool = \"api\"", &["listener web: pool web -> api"]);
    check("pool = \"web\"\n", "pool = \"web\"\ntimeouts.head = \"3s\"\n", &["listener web: timeouts.head 10s -> 3s"]);
    check("pool = \"web\"\n", "pool = \"web\"\nlimits.body_bytes_max = \"1MiB\"\n", &["listener web: limits.body_bytes_max none -> 1MiB"]);
    check("/v1/", "/v2/", &["listener web: route 2 changed: */v1/ to api -> */v2/ to api"]);
    check(
        "[[listener.web.route]]\nhost",
        "[[listener.web.route]]\npath = \"/x\"\npool = \"web\"\n[[listener.web.route]]\nhost",
        &["listener web: route 1 added: */x to web"],
    );
    check("[[listener.web.route]]\npath = \"/v1/\"\npool = \"api\"\n", "", &["listener web: route 2 removed: */v1/ to api"]);
    check("\"10.0.0.11:80\"", "\"10.0.0.11:80\", \"b:1\"", &["pool web: endpoint b:1 added"]);
    check("\"10.0.0.10:80\", ", "", &["pool web: endpoint 10.0.0.10:80 removed"]);
    check(
        "\"10.0.0.11:80\"",
        "{ address = \"10.0.0.11:80\", weight = 3, tier = 1 }",
        &["pool web: endpoint 10.0.0.11:80 weight 1 -> 3", "pool web: endpoint 10.0.0.11:80 tier 0 -> 1"],
    );
    check("\"10.0.0.10:80\", \"10.0.0.11:80\"", "\"10.0.0.11:80\", \"10.0.0.10:80\"", &["pool web: endpoints in another order"]);
    check(
        "[pool.web]",
        "[pool.web.hash]\nkey = \"source\"\n[pool.web]\nbalance = \"maglev\"",
        &["pool web: balance least-request -> maglev", "pool web: hash.key none -> source", "pool web: hash.load_bound none -> 150 %"],
    );
    check("[pool.web.health]\ntype = \"http\"\n", "", &["pool web: health http -> none"]);
    check(
        "type = \"http\"",
        "type = \"http\"\npath = \"/up\"\nrise = 5",
        &["pool web: health.rise 2 -> 5", "pool web: health.path / -> /up"],
    );
    check("[pool.web]", "[pool.web]\nejection = false", &["pool web: ejection on -> none"]);
    check("[pool.api]", "[pool.new]\n[pool.api]", &["pool new: added"]);
}

#[test]
fn removing_and_changing_protocol() {
    let tcp = "[listener.web]\nbind = \"10.0.0.1:80\"\nprotocol = \"tcp\"\npool = \"web\"\n[pool.web]\n";
    let lines = |old: &str, new: &str| diff(&parsed(old), &parsed(new)).iter().map(|change| change.to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&tcp.replace("tcp", "http"), tcp), ["listener web: protocol http -> tcp"]);
    assert_eq!(lines(tcp, "[pool.web]\n"), ["listener web: removed"]);
}

#[test]
fn run_time_states_are_differences() {
    let old = parsed(BASE);
    let mut new = old.clone();
    let pool = std::sync::Arc::make_mut(new.pools.get_mut(&"api".into()).unwrap());
    pool.endpoints[0].state = AdminState::Draining;
    let changes = diff(&old, &new);
    assert_eq!(changes.iter().map(|c| c.to_string()).collect::<Vec<_>>(), ["pool api: endpoint 10.0.0.20:80 state ready -> draining"]);
    assert!(!changes[0].needs_restart());
}
