//! What the commands print for people: tables, event lines, sums. Pure: values in, text out.

mod history;
mod machines;
mod replay;
mod scaling;
mod vip;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::api::model::*;

pub(crate) use history::{audit, audit_verdict, history, trial};
pub(crate) use machines::{fleet, machine};
pub(crate) use replay::{replay, replay_svg};
pub(crate) use scaling::{alarm, alarms, scaled, scaling};
pub(crate) use vip::{vip, vips};

/// Where the text goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Wrap there; `None`: a pipe or a file, where a line stays a line.
    pub width: Option<u16>,
    /// With colours.
    pub color: bool,
}

/// Words that get a colour where they stand alone in a table, so that trouble is seen first.
const COLORS: [(&str, &str); 9] = [
    ("healthy", GREEN),
    ("ready", GREEN),
    ("unhealthy", RED),
    ("unknown", YELLOW),
    ("ejected", YELLOW),
    ("draining", YELLOW),
    ("maintenance", YELLOW),
    ("BELOW", RED),
    ("refused", RED),
];
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// The whole picture: the node, its listeners, its pools.
pub(crate) fn status(status: &StatusView, before: Option<(&StatusView, Duration)>, now: f64, screen: Screen) -> String {
    let pools_before = before.map(|(before, elapsed)| (before.pools.as_slice(), elapsed));
    format!("{}\n{}\n{}", node(&status.node, now, screen), listeners(&status.listeners, screen), pools(&status.pools, pools_before, screen))
}

/// The process in a few lines.
pub(crate) fn node(node: &NodeView, now: f64, screen: Screen) -> String {
    let state = if node.draining {
        "draining"
    } else if node.ready {
        "ready"
    } else {
        "starting"
    };
    let age = duration(Duration::from_secs_f64((now - node.started_at).clamp(0.0, 1e9)));
    let mut text = format!(
        "{}: {state}, weir {}, pid {}, up {age}, {}, {} under way\n{} revision {} ({})\n",
        node.name,
        node.version,
        node.pid,
        counted(node.connections, "connection", "connections"),
        node.in_flight,
        node.config_path,
        node.revision,
        node.config_sha256.get(..12).unwrap_or(&node.config_sha256),
    );
    if let Some(fault) = &node.history_fault {
        text.push_str(&format!("what happens is kept in memory alone: {}\n", single_line(fault)));
    }
    if let Some(LastReload { at, error: Some(error) }) = &node.last_reload {
        text.push_str(&format!("the file was refused at {}; the one before it is in effect:\n", time(*at)));
        text.extend(error.trim_end().lines().map(|line| format!("  {line}\n")));
    }
    paint(text, screen)
}

/// The listeners.
pub(crate) fn listeners(listeners: &[ListenerView], screen: Screen) -> String {
    if listeners.is_empty() {
        return "no listeners\n".into();
    }
    let mut table = table(&["LISTENER", "PROTOCOL", "BIND", ">OPEN", ">CONNECTIONS", ">REQUESTS", ">ERRORS", ">RECEIVED", ">SENT"], screen);
    for l in listeners {
        let errors = l.requests_total - l.causes.get("ok").copied().unwrap_or(0).min(l.requests_total);
        add(
            &mut table,
            [
                l.name.clone(),
                l.protocol.clone(),
                l.binds.join(" "),
                l.connections_open.to_string(),
                l.connections_total.to_string(),
                l.requests_total.to_string(),
                errors.to_string(),
                bytes(l.received_bytes),
                bytes(l.sent_bytes),
            ],
        );
    }
    finish(&table, screen)
}

/// The pools; with an earlier look at them, requests per second.
pub(crate) fn pools(pools: &[PoolView], before: Option<(&[PoolView], Duration)>, screen: Screen) -> String {
    if pools.is_empty() {
        return "no pools\n".into();
    }
    let requests = if before.is_some() { ">REQ/S" } else { ">REQUESTS" };
    let mut table = table(&["POOL", "BALANCE", "HEALTHY", ">AVAIL", ">WAIT", requests, ">FAILURES", ">p50", ">p99", "FLOOR"], screen);
    for p in pools {
        let requests = match before {
            Some((before, elapsed)) => {
                let earlier = before.iter().find(|b| b.name == p.name).map_or(0, |b| b.requests_total);
                format!("{:.0}", p.requests_total.saturating_sub(earlier) as f64 / elapsed.as_secs_f64().max(0.001))
            }
            None => p.requests_total.to_string(),
        };
        add(
            &mut table,
            [
                p.name.clone(),
                p.balance.clone(),
                format!("{}/{}", p.healthy, p.endpoints.len()),
                p.available.to_string(),
                p.waiting.to_string(),
                requests,
                p.failures_total.to_string(),
                milliseconds(p.latency.p50_ms),
                milliseconds(p.latency.p99_ms),
                if p.below_floor { format!("BELOW {}", p.min_healthy) } else { p.min_healthy.to_string() },
            ],
        );
    }
    finish(&table, screen)
}

/// One pool with its endpoints.
pub(crate) fn pool(pool: &PoolView, screen: Screen) -> String {
    let mut text = pools(std::slice::from_ref(pool), None, screen);
    text.push('\n');
    if pool.endpoints.is_empty() {
        text.push_str("no endpoints: add one with `weir endpoint add`\n");
        return text;
    }
    let mut table = table(&["ENDPOINT", "STATE", "HEALTH", ">WEIGHT", ">IN-FLIGHT", ">REQUESTS", ">FAILURES", "WHY"], screen);
    // The explanation takes what the others leave; a name that is cut in two cannot be copied.
    for column in table.column_iter_mut().take(7) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    for e in &pool.endpoints {
        add(
            &mut table,
            [
                e.address.clone(),
                e.state.word().to_owned(),
                if e.ejected_s.is_some() { "ejected".to_owned() } else { e.health.clone() },
                if e.tier == 0 { e.weight.to_string() } else { format!("{} tier {}", e.weight, e.tier) },
                e.open.busy().to_string(),
                e.requests_total.to_string(),
                e.failures_total.to_string(),
                e.why.clone(),
            ],
        );
    }
    text.push_str(&finish(&table, screen));
    text
}

/// What a drain still waits for: `3 requests, 1 tunnel (2 idle connections)`.
pub(crate) fn open(open: &OpenView) -> String {
    let kinds = [
        (open.requests, "request", "requests"),
        (open.tunnels, "tunnel", "tunnels"),
        (open.sessions, "session", "sessions"),
        (open.idle, "idle connection", "idle connections"),
    ];
    let parts: Vec<String> = kinds.iter().filter(|(n, ..)| *n > 0).map(|(n, one, more)| counted(u64::from(*n), one, more)).collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

/// `1 request`, `2 requests`.
pub(crate) fn counted(n: u64, one: &str, more: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {more}") }
}

/// One event as one line.
pub(crate) fn event(event: &EventView) -> String {
    let word = |key: &str| match event.details.get(key) {
        Some(Value::String(text)) => single_line(text),
        Some(Value::Null) => "-".into(),
        Some(value) => value.to_string(),
        None => "?".into(),
    };
    let words = |key: &str| match event.details.get(key) {
        Some(Value::Array(items)) => single_line(&items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")),
        _ => "-".into(),
    };
    let evidence = match event.details.get("evidence") {
        Some(Value::String(text)) if !text.is_empty() => format!(": {}", single_line(text)),
        _ => String::new(),
    };
    let at = |what: String| format!("{} {} {what}", word("pool"), word("endpoint"));
    let is = |key: &str| event.details.get(key) == Some(&Value::Bool(true));
    let text = match event.event.as_str() {
        "health" => at(format!("is {}{evidence}", if is("healthy") { "healthy" } else { "unhealthy" })),
        "ejected" => at(format!("is ejected for {} s{evidence}", word("for_s"))),
        "readmitted" => at("is no longer ejected".into()),
        "resolved" => {
            let result = word("result");
            let address = result.parse::<SocketAddr>().is_ok() || result.parse::<IpAddr>().is_ok();
            at(if address { format!("resolves to {result}") } else { format!("does not resolve: {result}") })
        }
        "floor" => {
            let side = if is("below") { "below" } else { "back at" };
            format!("{} is {side} its floor: {} healthy of at least {}", word("pool"), word("healthy"), word("min_healthy"))
        }
        "applied" => format!("configuration in effect, generation {}", word("generation")),
        "vip_state" => format!("{} ({}) {} -> {}: {}", word("vip"), word("family"), word("from"), word("to"), word("reason")),
        "vip_notice" => format!("{} ({}): {}", word("vip"), word("family"), word("text")),
        "machine_acted" => {
            let place =
                if event.details.get("host").is_some_and(Value::is_string) { format!(" on {}", word("host")) } else { String::new() };
            let outcome = if is("done") { "done".into() } else { format!("failed: {}", word("error")) };
            format!("{} asked for {} of {}{place}: {outcome}", word("by"), word("verb"), word("machine"))
        }
        "host_found" => format!("{} answers", word("host")),
        "host_lost" => format!("{} does not answer: {}", word("host"), word("why")),
        "host_regained" => format!("{} answers again", word("host")),
        "machine_made" => format!("{} was made on {} from {}", word("machine"), word("host"), word("base")),
        "machine_not_made" => format!("{} of template {} was not made: {}", word("machine"), word("template"), word("why")),
        "machine_removed" => format!("{} was removed from {}", word("machine"), word("host")),
        "base_copied" => format!("{} was copied to {}", word("base"), word("host")),
        "base_not_copied" => format!("{} was not copied to {}: {}", word("base"), word("host"), word("why")),
        "leftover_removed" => format!("{} {} was removed from {}: {}", word("kind"), word("name"), word("host"), word("why")),
        "kvm_tried" => format!("machines of {} get {}", word("host"), word("domain_type")),
        "history_failed" => format!("the history goes on in memory: {}", word("reason")),
        "history_recovered" => format!("the history is written again: {} records, {} lost", word("written"), word("lost")),
        "history_set_aside" => format!("the history begins anew, the old one is {}: {}", word("path"), word("reason")),
        "scaling_planned" => format!(
            "{}: plan {} for {} machines, {} serve: {}",
            word("pool"),
            word("generation"),
            word("desired"),
            word("serving"),
            words("steps")
        ),
        "api_change" => format!("{} asked for {}: {}", word("by"), word("request"), word("status")),
        "signed_in" => format!("{} ({}) signed in from {}", word("name"), word("role"), word("from")),
        "token_refused" => format!("a wrong token from {}, {} by now", word("from"), word("tries")),
        "channel_failed" => format!("channel {} fails: {}", word("channel"), word("reason")),
        "channel_recovered" => format!("channel {} delivers again", word("channel")),
        "message_dead" => format!("channel {} gave up {}: {}", word("channel"), word("key"), word("reason")),
        "notify_store_failed" => format!("what is to be told cannot be kept: {}", word("reason")),
        "vips_unavailable" => format!("virtual IPs are off: {}", word("reason")),
        // A kind that a newer node knows and we do not.
        _ => event.details.keys().map(|key| format!("{key}={}", word(key))).collect::<Vec<_>>().join(" "),
    };
    format!("{} {:<10} {text}\n", time(event.at), single_line(&event.event))
}

/// Text from elsewhere without anything that could move the cursor.
fn single_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Unix seconds as `2026-11-21T12:38:33.123Z` (RFC 3339).
pub(crate) fn time(unix_seconds: f64) -> String {
    let millis = (unix_seconds.clamp(0.0, 2.5e11) * 1000.0).round() as u64;
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    // Days since 0000-03-01 in eras of 400 years: with March as the first month the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", rest / 1000 % 60, rest % 1000)
}

/// The two largest units: `3d 4h`, `5m 6s`.
fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// Three digits are enough: `0.42ms`, `12ms`, `1.5s`.
fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}ms"),
        Some(ms) if ms < 1000.0 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}

/// `512B`, `1.5MiB`.
fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") }
}

/// JSON objects as a table; a column is a path of names.
pub(crate) fn rows(columns: &[&str], rows: &[serde_json::Value], screen: Screen) -> String {
    let heads: Vec<String> = columns.iter().map(|path| path.rsplit('.').next().unwrap_or(path).to_uppercase()).collect();
    let mut table = table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), screen);
    for row in rows {
        let cell = |path: &&str| match path.split('.').fold(row, |value, name| &value[name]) {
            serde_json::Value::Null => "-".to_owned(),
            serde_json::Value::String(text) => single_line(text),
            other => other.to_string(),
        };
        table.add_row(columns.iter().map(cell));
    }
    finish(&table, screen)
}

/// What a guest wrote, without what would steer the terminal.
pub(crate) fn console(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A table without lines; a header that begins with `>` is a column of numbers.
fn table(header: &[&str], screen: Screen) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    match screen.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(header.iter().map(|name| Cell::new(name.trim_start_matches('>'))));
    for (i, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(i) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

fn add<const N: usize>(table: &mut Table, cells: [String; N]) {
    table.add_row(cells.map(|cell| single_line(&cell)));
}

fn finish(table: &Table, screen: Screen) -> String {
    let mut text = table.trim_fmt();
    text.push('\n');
    if screen.color
        && let Some((header, rows)) = text.split_once('\n')
    {
        text = format!("{BOLD}{header}{RESET}\n{rows}");
    }
    paint(text, screen)
}

/// Colours words that stand alone. Done after the layout, which would count the escapes as letters.
fn paint(text: String, screen: Screen) -> String {
    if !screen.color {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for part in text.split_inclusive([' ', '\n', ',']) {
        let word = part.trim_end_matches([' ', '\n', ',']);
        match COLORS.iter().find(|(known, _)| *known == word) {
            Some((_, color)) => out.push_str(&format!("{color}{word}{RESET}{}", &part[word.len()..])),
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Screen = Screen { width: None, color: false };

    fn endpoint(address: &str, health: &str, why: &str) -> EndpointView {
        EndpointView {
            address: address.into(),
            resolved: Some(address.into()),
            state: AdminStateView::Ready,
            health: health.into(),
            evidence: String::new(),
            health_age_s: 1,
            ejected_s: None,
            available: why.is_empty(),
            why: why.into(),
            weight: 1,
            ramp_percent: 100,
            tier: 0,
            open: OpenView { requests: 3, tunnels: 1, sessions: 0, idle: 2 },
            requests_total: 123_456,
            failures_total: 7,
            connects_total: 8,
        }
    }

    fn sample_pool() -> PoolView {
        PoolView {
            name: "web".into(),
            balance: "least-request".into(),
            healthy: 1,
            min_healthy: 2,
            below_floor: true,
            available: 1,
            waiting: 0,
            requests_total: 1500,
            failures_total: 7,
            retries_total: 0,
            queued_total: 0,
            reused_total: 0,
            latency: LatencyView { count: 1, p50_ms: Some(0.42), p90_ms: None, p99_ms: Some(1500.0), p999_ms: None },
            endpoints: vec![
                endpoint("10.0.0.11:8080", "healthy", ""),
                endpoint("10.0.0.12:8080", "unhealthy", "unhealthy: 3 of 3: connect refused"),
            ],
        }
    }

    #[test]
    fn a_pool_for_a_pipe() {
        let expected = "\
POOL  BALANCE        HEALTHY  AVAIL  WAIT  REQUESTS  FAILURES     p50   p99  FLOOR
web   least-request  1/2          1     0      1500         7  0.42ms  1.5s  BELOW 2

ENDPOINT        STATE  HEALTH     WEIGHT  IN-FLIGHT  REQUESTS  FAILURES  WHY
10.0.0.11:8080  ready  healthy         1          4    123456         7
10.0.0.12:8080  ready  unhealthy       1          4    123456         7  unhealthy: 3 of 3: connect refused
";
        assert_eq!(pool(&sample_pool(), PIPE), expected);
    }

    #[test]
    fn a_terminal_of_100_columns() {
        let screen = Screen { width: Some(100), color: false };
        let text = pool(&sample_pool(), screen);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(text.contains("\n10.0.0.12:8080  ready  unhealthy "), "{text}");
        let colored = pool(&sample_pool(), Screen { width: Some(100), color: true });
        assert!(colored.contains("\x1b[32mhealthy\x1b[0m") && colored.contains("\x1b[31munhealthy\x1b[0m"), "{colored}");
    }

    #[test]
    fn requests_per_second() {
        let (mut before, now) = (sample_pool(), sample_pool());
        before.requests_total = 500;
        let text = pools(&[now], Some((&[before], Duration::from_secs(2))), PIPE);
        assert!(text.contains("REQ/S") && text.contains(" 500 "), "{text}");
    }

    #[test]
    fn what_is_open() {
        let check = |requests, tunnels, sessions, idle| open(&OpenView { requests, tunnels, sessions, idle });
        assert_eq!(check(3, 1, 0, 0), "3 requests, 1 tunnel");
        assert_eq!(check(0, 0, 2, 1), "2 sessions, 1 idle connection");
        assert_eq!(check(0, 0, 0, 0), "nothing");
    }

    #[test]
    fn times() {
        for (at, expected) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199.999, "2024-02-29T23:59:59.999Z"),
            (1_798_761_599.5, "2026-12-31T23:59:59.500Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
            (-1.0, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(at), expected);
        }
        assert_eq!(duration(Duration::from_secs(59)), "59s");
        assert_eq!(duration(Duration::from_secs(3 * 86_400 + 4 * 3600 + 1)), "3d 4h");
        assert_eq!((bytes(512), bytes(1536), bytes(3 << 20)), ("512B".into(), "1.5KiB".into(), "3.0MiB".into()));
    }

    #[test]
    fn events() {
        let make = |kind: &str, details: Value| EventView {
            number: 1,
            at: 0.0,
            event: kind.into(),
            details: serde_json::from_value(details).expect("an object"),
        };
        for (kind, details, expected) in [
            (
                "health",
                serde_json::json!({"pool": "web", "endpoint": "10.0.0.1:80", "healthy": false, "evidence": "3 of 3: connect refused"}),
                "health     web 10.0.0.1:80 is unhealthy: 3 of 3: connect refused",
            ),
            (
                "floor",
                serde_json::json!({"pool": "web", "healthy": 0, "min_healthy": 1, "below": true}),
                "floor      web is below its floor: 0 healthy of at least 1",
            ),
            (
                "resolved",
                serde_json::json!({"pool": "web", "endpoint": "a:80", "result": "10.0.0.1:80"}),
                "resolved   web a:80 resolves to 10.0.0.1:80",
            ),
            (
                "resolved",
                serde_json::json!({"pool": "web", "endpoint": "a:80", "result": "no such name"}),
                "resolved   web a:80 does not resolve: no such name",
            ),
            ("applied", serde_json::json!({"generation": 4}), "applied    configuration in effect, generation 4"),
            ("new", serde_json::json!({"a": "x\u{1b}[31m\ny", "b": 2}), "new        a=x [31m y b=2"),
            ("health", serde_json::json!({}), "health     ? ? is unhealthy"),
        ] {
            assert_eq!(event(&make(kind, details)), format!("1970-01-01T00:00:00.000Z {expected}\n"));
        }
    }

    #[test]
    fn a_refused_file_is_shown() {
        let view = NodeView {
            name: "lb-a".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: 0.0,
            revision: 3,
            config_path: "/etc/weir.toml".into(),
            config_sha256: "ab".into(),
            ready: true,
            draining: false,
            history_fault: None,
            last_reload: Some(LastReload { at: 0.0, error: Some("error: no such pool\n  --> 3:4".into()) }),
            connections: 1,
            in_flight: 0,
        };
        let text = node(&view, 90.0, PIPE);
        assert!(text.starts_with("lb-a: ready, weir 0.1.0, pid 1, up 1m 30s, 1 connection, 0 under way\n"), "{text}");
        assert!(text.contains("was refused") && text.contains("  error: no such pool\n"), "{text}");
    }
}
