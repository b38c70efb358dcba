//! The rows of each page, and everything about one of them. Pure.

use std::cmp::Ordering;

use crate::api::model::{AdminStateView, EndpointOverview, OverviewView, PoolOverview, VipOverview};
use crate::render;

use super::app::{App, Page};
use super::layout::Column;

/// How something is meant. Words say the same, so that nobody needs the colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Odd,
    Bad,
    Quiet,
}

/// A cell, and what it is ordered by where that is not its text.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    order: Option<f64>,
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name, which stays the same from one look to the next.
    pub(crate) key: String,
    pub(crate) cells: Vec<Cell>,
}

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
}

const POOLS: [Column; 9] = [
    Column::text("POOL", 0, 28),
    Column::text("STATE", 0, 11),
    Column::text("HEALTHY", 1, 9),
    Column::number("REQ/S", 1),
    Column::number("FAIL/S", 2),
    Column::number("IN FLIGHT", 3),
    Column::number("P99", 3),
    Column::number("WAITING", 5),
    Column::text("SCALING", 4, 200),
];

const ENDPOINTS: [Column; 10] = [
    Column::text("ENDPOINT", 0, 40),
    Column::text("POOL", 3, 20),
    Column::text("STATE", 0, 12),
    Column::text("HEALTH", 0, 10),
    Column::number("REQ/S", 1),
    Column::number("FAIL/S", 2),
    Column::number("IN FLIGHT", 1),
    Column::number("WEIGHT", 5),
    Column::number("SINCE", 4),
    Column::text("WHY", 6, 200),
];

const MACHINES: [Column; 9] = [
    Column::text("MACHINE", 0, 32),
    Column::text("HOST", 0, 20),
    Column::text("STATE", 0, 13),
    Column::text("IN POOL", 1, 12),
    Column::text("POOL", 2, 20),
    Column::number("CPU", 1),
    Column::number("MEMORY", 3),
    Column::number("BASE", 5),
    Column::text("ADDRESS", 4, 60),
];

const HOSTS: [Column; 7] = [
    Column::text("HOST", 0, 32),
    Column::text("STATE", 0, 10),
    Column::number("CPU", 0),
    Column::number("FREE MEMORY", 1),
    Column::number("FREE DISK", 2),
    Column::number("MACHINES", 1),
    Column::text("WHY", 3, 200),
];

const VIPS: [Column; 6] = [
    Column::text("VIP", 0, 24),
    Column::text("HERE", 0, 12),
    Column::text("MASTER", 1, 40),
    Column::number("PRIORITY", 3),
    Column::text("ADDRESSES", 2, 60),
    Column::text("WHY", 4, 200),
];

const ALARMS: [Column; 6] = [
    Column::text("ALARM", 0, 32),
    Column::text("STATE", 0, 17),
    Column::text("SEVERITY", 1, 9),
    Column::number("VALUE", 2),
    Column::number("SINCE", 2),
    Column::text("WATCHES", 3, 200),
];

const EVENTS: [Column; 1] = [Column::text("EVENT", 0, 1000)];

fn text(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), tone: Tone::Plain, order: None }
}

fn toned(text: impl Into<String>, tone: Tone) -> Cell {
    Cell { text: text.into(), tone, order: None }
}

/// A number, and how it is written; nothing where there is none.
fn number(value: Option<f64>, write: impl FnOnce(f64) -> String) -> Cell {
    Cell { text: value.map_or_else(|| "-".to_owned(), write), tone: Tone::Plain, order: Some(value.unwrap_or(f64::NEG_INFINITY)) }
}

/// A number that is bad unless it is zero.
fn fault(value: Option<f64>) -> Cell {
    let tone = if value.is_some_and(|value| value > 0.0) { Tone::Bad } else { Tone::Plain };
    Cell { tone, ..number(value, rate) }
}

fn count(value: u64) -> Cell {
    number(Some(value as f64), |_| value.to_string())
}

/// A rate: three digits are enough.
pub(crate) fn rate(value: f64) -> String {
    match value {
        value if value < 0.05 => "0".into(),
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 9_999.5 => format!("{value:.0}"),
        value => format!("{:.1}k", value / 1000.0),
    }
}

fn ms(value: f64) -> String {
    if value < 9.95 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if value < 9.95 && unit > 0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `3d4h`, `5m10s`, `12s`.
pub(crate) fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The page as it is looked at.
pub(crate) fn table(app: &App) -> Table {
    let Some(overview) = &app.overview else { return Table { columns: &EVENTS, rows: Vec::new() } };
    let (columns, mut rows): (&'static [Column], Vec<Row>) = match app.page {
        Page::Pools => (&POOLS, overview.pools.iter().map(|(name, pool)| pool_row(name, pool)).collect()),
        Page::Endpoints => (&ENDPOINTS, endpoints(overview, app.pool.as_deref())),
        Page::Machines => (&MACHINES, machines(overview)),
        Page::Hosts => (&HOSTS, hosts(overview)),
        Page::Vips => (&VIPS, overview.vips.iter().map(|(name, vip)| vip_row(name, vip)).collect()),
        Page::Alarms => (&ALARMS, alarms(overview)),
        Page::Events => (&EVENTS, events(app)),
    };
    if !app.filter.is_empty() {
        let wanted = app.filter.to_lowercase();
        rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
    }
    let look = app.look();
    if let Some(column) = look.sort {
        rows.sort_by(|a, b| compare(a.cells.get(column), b.cells.get(column), columns[column].is_number));
    }
    if look.is_reversed {
        rows.reverse();
    }
    Table { columns, rows }
}

/// Numbers from the largest, words from A.
fn compare(a: Option<&Cell>, b: Option<&Cell>, is_number: bool) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return Ordering::Equal };
    match (a.order, b.order) {
        (Some(a), Some(b)) if is_number => b.total_cmp(&a),
        _ => a.text.cmp(&b.text),
    }
}

fn pool_row(name: &str, pool: &PoolOverview) -> Row {
    let tone = match pool.state.as_str() {
        "ok" => Tone::Good,
        "degraded" | "empty" => Tone::Odd,
        _ => Tone::Bad,
    };
    let rates = pool.rates.as_ref();
    let scaling = pool.scaling.as_ref().map(|scaling| {
        let held = if scaling.paused { ", paused" } else { "" };
        format!("{} of {} (min {}, max {}{held})", scaling.serving, scaling.desired, scaling.min, scaling.max)
    });
    let cells = vec![
        text(name),
        toned(&*pool.state, tone),
        text(format!("{} of {}", pool.healthy, pool.endpoints.len())),
        number(rates.map(|rates| rates.requests_per_s), rate),
        fault(rates.map(|rates| rates.failures_per_s)),
        count(pool.in_flight),
        number(rates.and_then(|rates| rates.p99_ms), ms),
        count(u64::from(pool.waiting)),
        text(scaling.unwrap_or_else(|| "-".into())),
    ];
    Row { key: name.to_owned(), cells }
}

fn endpoints(overview: &OverviewView, only: Option<&str>) -> Vec<Row> {
    let pools = overview.pools.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let each = pools.flat_map(|(name, pool)| pool.endpoints.iter().map(move |(address, endpoint)| (name, address, endpoint)));
    each.map(|(pool, address, endpoint)| endpoint_row(pool, address, endpoint, overview.at)).collect()
}

fn endpoint_row(pool: &str, address: &str, endpoint: &EndpointOverview, now: f64) -> Row {
    let state = if endpoint.state == AdminStateView::Ready { Tone::Plain } else { Tone::Odd };
    let health = match endpoint.health.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Quiet,
    };
    let cells = vec![
        text(address),
        text(pool),
        toned(endpoint.state.word(), state),
        toned(&*endpoint.health, health),
        number(endpoint.requests_per_s, rate),
        fault(endpoint.failures_per_s.or(endpoint.requests_per_s.map(|_| 0.0))),
        count(u64::from(endpoint.in_flight)),
        count(u64::from(endpoint.weight)),
        number(Some(now - endpoint.since), age),
        text(endpoint.why.clone().or_else(|| endpoint.evidence.clone()).unwrap_or_default()),
    ];
    Row { key: format!("{pool} {address}"), cells }
}

fn machines(overview: &OverviewView) -> Vec<Row> {
    let mut rows: Vec<Row> = overview
        .machines
        .iter()
        .map(|(uuid, machine)| {
            let state = match machine.state.as_str() {
                "running" => Tone::Good,
                "crashed" => Tone::Bad,
                _ => Tone::Quiet,
            };
            let member = machine.member.clone().or_else(|| machine.role.clone()).or_else(|| machine.phase.clone());
            let tone = if member.as_deref() == Some("unhealthy") { Tone::Bad } else { Tone::Plain };
            let cells = vec![
                text(&*machine.name),
                text(&*machine.host),
                toned(&*machine.state, state),
                toned(member.unwrap_or_else(|| if machine.ours { "-" } else { "not ours" }.into()), tone),
                text(machine.pool.clone().unwrap_or_else(|| "-".into())),
                number(machine.cpu_share, percent),
                number(machine.memory_used_bytes.map(|used| used as f64), bytes),
                number(machine.base_generation.map(f64::from), |base| format!("{base:.0}")),
                text(machine.address.clone().unwrap_or_else(|| "-".into())),
            ];
            Row { key: uuid.clone(), cells }
        })
        .collect();
    rows.sort_by(|a, b| a.cells[0].text.cmp(&b.cells[0].text));
    rows
}

fn hosts(overview: &OverviewView) -> Vec<Row> {
    let rows = overview.hosts.iter().map(|(name, host)| {
        let tone = match host.state.as_str() {
            "up" => Tone::Good,
            "connecting" => Tone::Odd,
            _ => Tone::Bad,
        };
        let cells = vec![
            text(name),
            toned(&*host.state, tone),
            number(host.cpu_share, percent),
            number(host.memory_free_bytes.map(|free| free as f64), bytes),
            number(host.storage_free_bytes.map(|free| free as f64), bytes),
            count(u64::from(host.machines)),
            text(host.why.clone().unwrap_or_default()),
        ];
        Row { key: name.clone(), cells }
    });
    rows.collect()
}

fn vip_row(name: &str, vip: &VipOverview) -> Row {
    let router = vip.routers.values().next();
    let state = router.map_or("-", |router| router.state.as_str());
    let tone = match router {
        Some(router) if router.ineligible_because.is_some() => Tone::Bad,
        Some(_) if vip.master => Tone::Good,
        _ => Tone::Quiet,
    };
    let master = match (vip.master, router.and_then(|router| router.heard_master.as_deref())) {
        (true, _) => "this node",
        (false, Some(address)) => address,
        (false, None) => "none is heard",
    };
    let why = router.map(|router| router.ineligible_because.clone().unwrap_or_else(|| router.why.clone()));
    let cells = vec![
        text(name),
        toned(state, tone),
        text(master),
        number(router.map(|router| f64::from(router.priority)), |priority| format!("{priority:.0}")),
        text(vip.addresses.join(", ")),
        text(why.unwrap_or_default()),
    ];
    Row { key: name.to_owned(), cells }
}

/// The alarms, those that are in alarm first, and the incidents that are not over.
fn alarms(overview: &OverviewView) -> Vec<Row> {
    let mut rows: Vec<(bool, Row)> = overview
        .alarms
        .iter()
        .map(|(name, alarm)| {
            let is_on = alarm.state == "alarm";
            let tone = match alarm.state.as_str() {
                "ok" => Tone::Good,
                "alarm" => Tone::Bad,
                _ => Tone::Odd,
            };
            let cells = vec![
                text(name),
                toned(&*alarm.state, tone),
                text(&*alarm.severity),
                number(alarm.value, |value| format!("{value:.1}")),
                number(Some(overview.at - alarm.since), age),
                text(format!("{} {}", alarm.watches, alarm.condition)),
            ];
            (is_on, Row { key: name.clone(), cells })
        })
        .collect();
    let open = overview.incidents.iter().filter(|(_, incident)| incident.state != "resolved");
    rows.extend(open.map(|(number_of, incident)| {
        let tone = if incident.state == "open" { Tone::Bad } else { Tone::Odd };
        let cells = vec![
            text(format!("incident {number_of}")),
            toned(&*incident.state, tone),
            text(&*incident.severity),
            number(None, rate),
            number(Some(overview.at - incident.started_at), age),
            text(&*incident.summary),
        ];
        (true, Row { key: format!("incident {number_of}"), cells })
    }));
    rows.sort_by_key(|(is_on, _)| !is_on);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The newest first.
fn events(app: &App) -> Vec<Row> {
    let rows = app.events.iter().rev().map(|event| {
        let line = render::event(event);
        Row { key: event.number.to_string(), cells: vec![text(line.trim_end())] }
    });
    rows.collect()
}

/// Everything about one row, as names and values.
pub(crate) fn detail(app: &App, key: &str) -> Vec<(String, String)> {
    let value = match (&app.overview, app.page) {
        (Some(overview), page) => {
            let found = |value: Option<serde_json::Value>| value.unwrap_or(serde_json::Value::Null);
            match page {
                Page::Pools => found(overview.pools.get(key).and_then(|pool| serde_json::to_value(pool).ok())),
                Page::Endpoints => {
                    let endpoint = key.split_once(' ').and_then(|(pool, address)| overview.pools.get(pool)?.endpoints.get(address));
                    found(endpoint.and_then(|endpoint| serde_json::to_value(endpoint).ok()))
                }
                Page::Machines => found(overview.machines.get(key).and_then(|machine| serde_json::to_value(machine).ok())),
                Page::Hosts => found(overview.hosts.get(key).and_then(|host| serde_json::to_value(host).ok())),
                Page::Vips => found(overview.vips.get(key).and_then(|vip| serde_json::to_value(vip).ok())),
                Page::Alarms => match key.strip_prefix("incident ") {
                    Some(number) => found(overview.incidents.get(number).and_then(|incident| serde_json::to_value(incident).ok())),
                    None => found(overview.alarms.get(key).and_then(|alarm| serde_json::to_value(alarm).ok())),
                },
                Page::Events => {
                    let event = app.events.iter().find(|event| event.number.to_string() == key);
                    found(event.and_then(|event| serde_json::to_value(event).ok()))
                }
            }
        }
        (None, _) => serde_json::Value::Null,
    };
    let mut lines = Vec::new();
    flatten("", &value, app.overview.as_ref().map_or(0.0, |overview| overview.at), &mut lines);
    if lines.is_empty() {
        lines.push((String::new(), "it is gone".into()));
    }
    lines
}

/// Nested values under the names that lead to them; times as ages, sizes with units.
fn flatten(path: &str, value: &serde_json::Value, now: f64, lines: &mut Vec<(String, String)>) {
    use serde_json::Value;
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
    match value {
        Value::Null => {}
        Value::Object(entries) => entries.iter().for_each(|(name, value)| flatten(&below(&name.replace('_', " ")), value, now, lines)),
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) if items.iter().all(Value::is_string) => {
            lines.push((path.to_owned(), items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| flatten(&below(&(at + 1).to_string()), value, now, lines)),
        Value::String(string) => lines.push((path.to_owned(), string.clone())),
        Value::Bool(yes) => lines.push((path.to_owned(), if *yes { "yes" } else { "no" }.into())),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let is_time = path == "since" || path.ends_with(" since") || path.ends_with(" at") || path == "at";
            let written = if is_time {
                format!("{} ago", age(now - number))
            } else if let Some(name) = path.strip_suffix(" bytes") {
                return lines.push((name.to_owned(), bytes(number)));
            } else if let Some(name) = path.strip_suffix(" share") {
                return lines.push((name.to_owned(), percent(number)));
            } else if number.fract() == 0.0 {
                format!("{number:.0}")
            } else {
                format!("{number:.2}")
            };
            lines.push((path.to_owned(), written));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node with a bit of everything.
    pub(crate) fn overview() -> OverviewView {
        let endpoint = |health: &str, available: bool, in_flight: u32| {
            serde_json::json!({
                "state": "ready", "health": health, "available": available, "why": (!available).then_some("3 of 3: connect refused"),
                "evidence": null, "since": 900.0, "weight": 1, "ramp_percent": null, "tier": null, "in_flight": in_flight,
                "requests_per_s": 12.5, "failures_per_s": null, "machine": null,
            })
        };
        let pool = |state: &str, endpoints: serde_json::Value, available: u32| {
            serde_json::json!({
                "balance": "least-request", "state": state, "healthy": available, "min_healthy": 1, "available": available, "waiting": 0,
                "in_flight": 7, "endpoints": endpoints, "scaling": null,
                "rates": { "requests_per_s": 1234.0, "failures_per_s": 0.0, "retries_per_s": 0.0, "queued_per_s": 0.0, "p50_ms": 1.0, "p99_ms": 20.4 },
            })
        };
        serde_json::from_value(serde_json::json!({
            "at": 1000.0,
            "node": {
                "name": "lb-a", "version": "0.1.0", "pid": 7, "started_at": 100.0, "revision": 1, "config_path": "/etc/weir/weir.toml",
                "config_sha256": "", "ready": true, "draining": false, "last_reload": null, "connections": 512, "in_flight": 7,
            },
            "leads": true, "leader": null, "last_event": 0,
            "problems": [{
                "kind": "endpoints-down", "severity": "warning", "about": "pool", "name": "web", "text": "1 of 2 endpoints of pool web is down",
                "next": "look at 10.0.0.12:8080", "values": {},
            }],
            "traffic": {
                "connections_per_s": 10.0, "requests_per_s": 1234.0, "errors_per_s": 0.0, "received_bytes_per_s": 2048.0, "sent_bytes_per_s": 5e6,
            },
            "listeners": {},
            "pools": {
                "api": pool("ok", serde_json::json!({ "10.0.0.21:80": endpoint("healthy", true, 0) }), 1),
                "web": pool(
                    "degraded",
                    serde_json::json!({ "10.0.0.11:8080": endpoint("healthy", true, 7), "10.0.0.12:8080": endpoint("unhealthy", false, 0) }),
                    1,
                ),
            },
            "hosts": {
                "kvm-a": {
                    "state": "up", "why": null, "labels": {}, "cpus": 8, "cpu_share": 0.25, "memory_bytes": 64, "memory_free_bytes": 1073741824,
                    "memory_promised_bytes": 0, "storage_bytes": null, "storage_free_bytes": null, "machines": 1,
                },
            },
            "machines": {
                "uuid-1": {
                    "name": "web-1", "host": "kvm-a", "state": "running", "ours": true, "pool": "web", "template": "web", "role": "member",
                    "phase": "ready", "member": "serving", "protected": false, "since": 900.0, "base_generation": 3, "address": "10.0.0.11",
                    "labels": {}, "vcpus": 1, "memory_bytes": 536870912, "cpu_share": 0.5, "memory_used_bytes": 268435456,
                },
            },
            "vips": {
                "public": {
                    "interface": "eth0", "router_id": 51, "addresses": ["10.0.0.100/24"], "master": true, "leader": true,
                    "routers": { "ipv4": {
                        "state": "master", "since": 200.0, "why": "no other node of higher priority is heard", "ineligible_because": null,
                        "priority": 250, "heard_master": null, "peers": {},
                    } },
                },
            },
            "alarms": {}, "incidents": {}, "channels": {},
        }))
        .expect("an overview")
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0.0, 3.21, 123.4, 12_345.0].map(rate), ["0", "3.2", "123", "12.3k"]);
        assert_eq!([12.0, 2048.0, 5e6, 3e13].map(bytes), ["12 B", "2.0 KiB", "4.8 MiB", "27 TiB"]);
        assert_eq!([5.0, 65.0, 3700.0, 200_000.0].map(age), ["5s", "1m5s", "1h1m", "2d7h"]);
    }

    #[test]
    fn rows_are_ordered_by_what_they_mean() {
        let mut app = App::new();
        let mut view = overview();
        view.pools.get_mut("web").and_then(|pool| pool.rates.as_mut()).expect("rates").requests_per_s = 9.0;
        app.handle_overview(Ok(Box::new(view)));
        let first = |app: &App| app.table().rows[0].key.clone();
        for _ in 0..4 {
            app.handle_key(super::super::keys::Key::Char('s'));
        }
        assert_eq!(first(&app), "api", "1,234 a second before 9");
        app.handle_key(super::super::keys::Key::Char('r'));
        assert_eq!(first(&app), "web");
    }

    #[test]
    fn everything_about_one() {
        let mut app = App::new();
        app.handle_overview(Ok(Box::new(overview())));
        app.handle_key(super::super::keys::Key::Char('3'));
        let lines = detail(&app, "uuid-1");
        let of = |name: &str| lines.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(
            (of("memory used"), of("cpu"), of("since"), of("protected")),
            (Some("256 MiB"), Some("50 %"), Some("1m40s ago"), Some("no"))
        );
        assert_eq!(detail(&app, "nobody")[0].1, "it is gone");
    }
}
