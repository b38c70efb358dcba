//! `backend` and the second half of `listen`: a pool of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Timing, check};
use super::section::Section;
use super::words::Statement;
use super::{duration, is_server};
use crate::draft::{Block, Draft};
use crate::note::{Notes, Place};
use crate::text::{text, time};

/// The highest tier of ours.
const TIER_MAX: usize = 15;

/// How a server is spoken to. A pool speaks one way to all of its endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Speech {
    pub(super) is_tls: bool,
    /// Its certificate is not looked at.
    is_believed: bool,
    ca_file: Option<String>,
    certificate: Option<String>,
    server_name: Option<String>,
    needs_tls13: bool,
    is_http2: bool,
    /// The version of the PROXY protocol.
    proxy: Option<&'static str>,
}

/// A server as far as we can say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    address: String,
    weight: u32,
    is_backup: bool,
    pub(super) is_checked: bool,
    pub(super) check_over_tls: bool,
    pub(super) check_in_clear: bool,
    pub(super) speech: Speech,
    pub(super) timing: Timing,
    slow_start: Option<Duration>,
    connections_max: Option<u64>,
    queue_max: Option<u64>,
    place: Place,
}

/// What one word of a server, or of `default-server`, came to.
enum Fate {
    Taken,
    /// The server cannot be used.
    Refused(&'static str),
}

/// Writes the pool.
pub(super) fn convert(pool: &str, section: &Section, all: &[Section], draft: &mut Draft, notes: &mut Notes) {
    let place = notes.place(section.line);
    let servers = alike(servers(section, notes), notes);
    let mut table = Block::table(&["pool", pool], place);
    table.set_list("endpoints", endpoints(&servers, section, notes), place);
    let hash = balance(&mut table, pool, section, is_raw(section, all), notes);
    let slow_start = servers.iter().find_map(|server| server.slow_start);
    if let Some(value) = slow_start.filter(|value| !value.is_zero()) {
        table.set("slow_start", time(value), place);
    }
    let tls = servers.first().and_then(|server| speech(&mut table, pool, server, is_raw(section, all), notes));
    draft.add(table);
    for below in hash.into_iter().chain(tls) {
        draft.add(below);
    }
    timeouts(pool, section, draft, notes);
    limits(pool, section, &servers, draft, notes);
    if let Some(health) = check(pool, section, &servers, notes) {
        draft.add(health);
    }
    leftovers(section, notes);
}

/// Those that are spoken to as the first one is.
fn alike(mut servers: Vec<Server>, notes: &mut Notes) -> Vec<Server> {
    let Some(first) = servers.first().map(|server| server.speech.clone()) else { return servers };
    servers.retain(|server| {
        let is_alike = server.speech == first;
        if !is_alike {
            notes.not_converted(
                server.place.line,
                &server.address,
                "a pool speaks one way to all of its endpoints; make a pool of this server",
            );
        }
        is_alike
    });
    servers
}

/// How the endpoints are spoken to; the table of their TLS, without which they are not spoken to at all.
fn speech(table: &mut Block, pool: &str, server: &Server, is_raw: bool, notes: &mut Notes) -> Option<Block> {
    let Server { speech, place, .. } = server;
    if let Some(version) = speech.proxy {
        table.set_vital("proxy_protocol", text(version), *place);
    }
    if speech.is_http2 && is_raw {
        notes.not_needed(place.line, "h2", "bytes are passed on as they come");
    } else if speech.is_http2 {
        table.set("upstream_protocol", text("h2"), *place);
    }
    if !speech.is_tls {
        return None;
    }
    let mut tls = Block::table(&["pool", pool, "tls"], *place).goes_with(2);
    if speech.is_believed {
        tls.set("verify", "false", *place);
    }
    for (name, value) in [("ca_file", &speech.ca_file), ("server_name", &speech.server_name), ("certificate_file", &speech.certificate)] {
        if let Some(value) = value {
            tls.set(name, text(value), *place);
        }
    }
    if speech.needs_tls13 {
        tls.set("version_min", text("1.3"), *place);
    }
    Some(tls)
}

/// A pool that a tcp listener uses sees no headers.
fn is_raw(section: &Section, all: &[Section]) -> bool {
    let is_tcp = |section: &Section| section.last(&["mode"]).is_none_or(|statement| statement.word(1) != "http");
    let users = all.iter().filter(|other| matches!(other.kind, "frontend" | "listen"));
    is_tcp(section) || users.filter(|user| user.last(&["default_backend"]).is_some_and(|s| s.word(1) == section.name)).any(is_tcp)
}

fn servers(section: &Section, notes: &mut Notes) -> Vec<Server> {
    let mut default = Server { weight: 1, ..Server::default() };
    let mut found = Vec::new();
    let defaults = section.defaults.iter().filter(|statement| statement.word(0) == "default-server");
    for statement in defaults.chain(section.statements.iter().filter(|s| is_server(s) || s.word(0) == "default-server")) {
        if statement.word(0) == "default-server" {
            // What makes a server unusable is said again at each server.
            options(&mut default, statement, statement.from(1), notes);
            continue;
        }
        let is_template = statement.word(0) == "server-template";
        let (address, rest) = if is_template { (statement.word(3), statement.from(4)) } else { (statement.word(2), statement.from(3)) };
        let address = address.strip_prefix("ipv4@").or_else(|| address.strip_prefix("ipv6@")).unwrap_or(address);
        let mut server = Server { place: notes.place(statement.line), ..default.clone() };
        if is_template {
            notes.changed(statement.line, &statement.shown(), "the name is one endpoint, whatever number of addresses it has");
        }
        match address_of(address, section) {
            Ok(address) => server.address = address,
            Err(why) => {
                notes.not_converted(statement.line, &statement.shown(), why);
                continue;
            }
        }
        match options(&mut server, statement, rest, notes) {
            Fate::Taken => found.push(server),
            Fate::Refused(why) => notes.not_converted(statement.line, &statement.shown(), why),
        }
    }
    found
}

/// An address with its port; without one it is the port that clients connect to, where that is one.
fn address_of(text: &str, section: &Section) -> Result<String, &'static str> {
    if text.contains('@') || text.starts_with('/') {
        return Err("an endpoint is an address and a port");
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => (host, Some(port)),
        Some((_, port)) if port.starts_with(['+', '-']) => return Err("a port relative to the client's is not possible"),
        _ => (text.trim_end_matches(':'), None),
    };
    let own = || {
        let mut ports = section.all("bind").filter_map(|bind| bind.word(1).rsplit_once(':')).map(|(_, port)| port);
        ports.next().filter(|_| ports.next().is_none())
    };
    let port = port.or_else(own).ok_or("it has no port; write the one it listens on")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn options(server: &mut Server, statement: &Statement, words: &[String], notes: &mut Notes) -> Fate {
    let line = statement.line;
    let mut fate = Fate::Taken;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "check" => server.is_checked = true,
            "no-check" => server.is_checked = false,
            "backup" => server.is_backup = true,
            "non-backup" | "no-backup" => server.is_backup = false,
            "weight" => server.weight = words.next().and_then(|value| value.parse().ok()).unwrap_or(1),
            "check-ssl" => server.check_over_tls = true,
            "no-check-ssl" => (server.check_over_tls, server.check_in_clear) = (false, true),
            "inter" => server.timing.interval = words.next().and_then(duration),
            "fastinter" => server.timing.fast = words.next().and_then(duration),
            "downinter" => server.timing.down = words.next().and_then(duration),
            "rise" => server.timing.rise = words.next().and_then(|value| value.parse().ok()),
            "fall" => server.timing.fall = words.next().and_then(|value| value.parse().ok()),
            "port" => server.timing.port = words.next().and_then(|value| value.parse().ok()),
            "slowstart" => server.slow_start = words.next().and_then(duration),
            "maxconn" => server.connections_max = words.next().and_then(|value| value.parse().ok()).filter(|n| *n > 0),
            "maxqueue" => server.queue_max = words.next().and_then(|value| value.parse().ok()).filter(|n| *n > 0),
            "ssl" => server.speech.is_tls = true,
            "no-ssl" => server.speech.is_tls = false,
            "verify" => server.speech.is_believed = words.next() == Some("none"),
            "ca-file" => server.speech.ca_file = words.next().map(str::to_owned).filter(|file| file != "@system-ca"),
            "crt" => server.speech.certificate = words.next().map(str::to_owned),
            "verifyhost" => server.speech.server_name = words.next().map(str::to_owned),
            "sni" => {
                let sample = words.next().unwrap_or_default();
                match sample.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')')) {
                    Some(name) => server.speech.server_name = Some(name.to_owned()),
                    None => notes.changed(
                        line,
                        &format!("sni {sample}"),
                        "the endpoint's own host is asked for; write server_name under [pool.NAME.tls]",
                    ),
                }
            }
            "alpn" => server.speech.is_http2 = words.next().unwrap_or_default().split(',').any(|protocol| protocol == "h2"),
            "proto" => server.speech.is_http2 = words.next() == Some("h2"),
            "ssl-min-ver" => server.speech.needs_tls13 = words.next() == Some("TLSv1.3"),
            "force-tlsv13" => server.speech.needs_tls13 = true,
            "send-proxy" => server.speech.proxy = Some("v1"),
            "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => server.speech.proxy = Some("v2"),
            "no-send-proxy" | "no-send-proxy-v2" => server.speech.proxy = None,
            "crl-file" => {
                let file = words.next().unwrap_or_default();
                notes.not_converted(line, &format!("crl-file {file}"), "lists of revoked certificates of endpoints are not read");
            }
            "disabled" => fate = Fate::Refused("it is disabled; add it when it is needed: weir endpoint add"),
            "enabled" => fate = Fate::Taken,
            "cookie" | "id" | "maxreuse" | "minconn" | "pool-low-conn" | "pool-max-conn" | "pool-purge-delay" | "init-addr"
            | "resolvers" | "resolve-prefer" | "resolve-opts" | "resolve-net" | "init-state" => {
                words.next();
            }
            "tfo" | "no-tfo" => {}
            "check-sni" | "check-alpn" | "ciphers" | "ciphersuites" | "ssl-max-ver" => {
                words.next();
            }
            "no-sslv3" | "no-tlsv10" | "no-tlsv11" | "no-tlsv12" | "no-tls-tickets" | "force-tlsv12" | "no-ssl-reuse" => {}
            "on-marked-down"
            | "on-marked-up"
            | "on-error"
            | "observe"
            | "error-limit"
            | "track"
            | "addr"
            | "source"
            | "agent-inter"
            | "agent-port"
            | "agent-addr"
            | "agent-send"
            | "check-proto"
            | "redir"
            | "namespace"
            | "log-proto"
            | "set-proxy-v2-tlv-fmt"
            | "ws"
            | "shard" => {
                let value = words.next().unwrap_or_default();
                let (outcome, why) = match word {
                    "observe" | "on-error" | "error-limit" => (true, "failing traffic ejects an endpoint, see [pool.NAME.ejection]"),
                    "on-marked-down" => (false, "what is open to an endpoint that fails ends by its own times"),
                    _ => (false, "weir has nothing like it"),
                };
                let words = format!("{word} {value}");
                if outcome { notes.not_needed(line, &words, why) } else { notes.not_converted(line, &words, why) }
            }
            "agent-check" => notes.not_converted(line, word, "weights are set over the API: weir endpoint weight"),
            other => notes.not_converted(line, other, format!("weir has nothing like it (in `{}`)", statement.shown())),
        }
    }
    fate
}

/// The endpoints as TOML. One address twice becomes one with both shares.
fn endpoints(servers: &[Server], section: &Section, notes: &mut Notes) -> Vec<(String, Place)> {
    let all_backups = section.option("allbackups").is_some();
    let mut order: Vec<&Server> = Vec::new();
    let mut weights: BTreeMap<&str, u32> = BTreeMap::new();
    for server in servers {
        if server.weight == 0 {
            notes.not_converted(
                server.place.line,
                &server.address,
                "weight 0 takes nothing new; add it when it is needed: weir endpoint add",
            );
            continue;
        }
        match weights.get_mut(server.address.as_str()) {
            Some(weight) => {
                *weight = weight.saturating_add(server.weight);
                notes.changed(
                    server.place.line,
                    &server.address,
                    "it is in this backend twice, and becomes one endpoint with both weights",
                );
            }
            None => {
                weights.insert(&server.address, server.weight);
                order.push(server);
            }
        }
    }
    // Equal shares need no weight.
    let divisor_of = |is_backup: bool| {
        let alike = order.iter().filter(|server| server.is_backup == is_backup);
        alike.map(|server| weights[server.address.as_str()]).reduce(gcd).unwrap_or(1).max(1)
    };
    let divisors = [divisor_of(false), divisor_of(true)];
    let mut backups = 0;
    let written = order.iter().map(|server| {
        let weight = weights[server.address.as_str()] / divisors[usize::from(server.is_backup)];
        let mut extra = String::new();
        if weight > 1 {
            extra.push_str(&format!(", weight = {weight}"));
        }
        if server.is_backup {
            // Without allbackups the first that lives serves alone.
            backups = if all_backups { 1 } else { (backups + 1).min(TIER_MAX) };
            extra.push_str(&format!(", tier = {backups}"));
        }
        let address = text(&server.address);
        (if extra.is_empty() { address } else { format!("{{ address = {address}{extra} }}") }, server.place)
    });
    written.collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The algorithm, and its table where something is hashed.
fn balance(table: &mut Block, pool: &str, section: &Section, is_raw: bool, notes: &mut Notes) -> Option<Block> {
    let statement = section.last(&["balance"]);
    let place = statement.map_or(notes.place(section.line), |statement| notes.place(statement.line));
    let (line, shown) = statement.map_or((section.line, String::new()), |statement| (statement.line, statement.shown()));
    let algorithm = statement.map_or("roundrobin", |statement| statement.word(1));
    let argument = statement.map_or("", |statement| statement.word(2));
    let inside = |name: &str| {
        let inner = algorithm.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').next().unwrap_or_default().trim().to_owned())
    };
    let (mut word, mut key) = ("least-request", None);
    match algorithm {
        "roundrobin" | "static-rr" => word = "round-robin",
        "leastconn" => {}
        "random" | "random(2)" => {}
        "random(1)" => word = "random",
        "first" => notes.changed(line, &shown, "the least busy of two, as weir does not fill endpoints one after the other"),
        "source" => key = Some("source".to_owned()),
        "hash" if matches!(argument, "src" | "src,ipmask(32)") => key = Some("source".to_owned()),
        _ => match (inside("hdr"), inside("random"), inside("rdp-cookie")) {
            (Some(name), ..) => key = Some(format!("header:{name}")),
            (_, Some(_), _) => {}
            _ => notes.changed(line, &shown, "the least busy of two, as weir hashes the source, a header or a cookie alone"),
        },
    }
    if let Some(found) = section.last(&["cookie"]).filter(|cookie| !cookie.word(1).is_empty() && section.kind != "frontend") {
        key = Some(if is_raw { "source".into() } else { format!("cookie:{}", found.word(1)) });
        let sets = found.words.iter().any(|word| matches!(word.as_str(), "insert" | "prefix"));
        let why = if sets {
            "weir sets no cookie: a client stays where it is by a cookie of this name that the endpoints set"
        } else {
            "a client stays where it is by the hash of the cookie"
        };
        notes.changed(found.line, &found.shown(), why);
    } else if let Some(found) = section.all("stick").find(|stick| matches!(stick.word(1), "on" | "match")) {
        if found.word(2) == "src" {
            key = Some("source".to_owned());
            notes.changed(found.line, &found.shown(), "a client stays where it is by the hash of its address, without a table");
        } else {
            notes.not_converted(found.line, &found.shown(), "weir hashes the source, a header or a cookie alone");
        }
    }
    let key = key.map(|key| if is_raw { "source".to_owned() } else { key });
    table.set("balance", text(if key.is_some() { "maglev" } else { word }), place);
    let mut hash = Block::table(&["pool", pool, "hash"], place);
    hash.set_vital("key", text(&key?), place);
    Some(hash)
}

fn timeouts(pool: &str, section: &Section, draft: &mut Draft, notes: &mut Notes) {
    let mut table = Block::table(&["pool", pool, "timeouts"], notes.place(section.line));
    for (theirs, ours) in [("connect", &["connect"][..]), ("server", &["first_byte", "idle"])] {
        let Some(statement) = section.last(&["timeout", theirs]) else { continue };
        match duration(statement.word(2)) {
            Some(value) => ours.iter().for_each(|name| table.set(name, time(value), notes.place(statement.line))),
            None => notes.not_converted(statement.line, &statement.shown(), "it is not a duration"),
        }
    }
    draft.add_unless_empty(table);
}

fn limits(pool: &str, section: &Section, servers: &[Server], draft: &mut Draft, notes: &mut Notes) {
    let mut table = Block::table(&["pool", pool, "limits"], notes.place(section.line));
    let mut bounds: Vec<u64> = servers.iter().filter_map(|server| server.connections_max).collect();
    bounds.sort_unstable();
    if let (Some(least), Some(most)) = (bounds.first(), bounds.last()) {
        let place = servers.iter().find(|server| server.connections_max.is_some()).map_or(notes.place(section.line), |server| server.place);
        if least != most || bounds.len() != servers.len() {
            notes.changed(place.line, &format!("maxconn {least}"), "the least of all servers is the bound of each endpoint");
        }
        table.set("connections_per_endpoint", least.to_string(), place);
    }
    if let Some(most) = servers.iter().filter_map(|server| server.queue_max).max() {
        table.set("queue_max", most.to_string(), notes.place(section.line));
    }
    if let Some(statement) = section.last(&["timeout", "queue"])
        && let Some(value) = duration(statement.word(2))
    {
        table.set("queue_timeout", time(value), notes.place(statement.line));
    }
    if let Some(statement) = section.last(&["retries"])
        && let Ok(number) = statement.word(1).parse::<u64>()
    {
        table.set("retries_max", number.min(10).to_string(), notes.place(statement.line));
    }
    draft.add_unless_empty(table);
}

/// Lines of a backend that have a meaning only in it.
fn leftovers(section: &Section, notes: &mut Notes) {
    if section.kind != "backend" {
        return;
    }
    for statement in &section.statements {
        let why = match statement.word(0) {
            "stick-table" => "there are no tables; see [[listener.NAME.rate_limit]] and balance = \"maglev\"",
            "tcp-request" => "who may connect is said by the listener",
            "use_backend" | "default_backend" => "a pool leads nowhere else",
            "bind" => "a backend listens nowhere",
            "monitor-uri" => "write it into the frontend",
            _ => continue,
        };
        notes.not_converted(statement.line, &statement.shown(), why);
    }
}
