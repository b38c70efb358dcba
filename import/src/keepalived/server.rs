//! `virtual_server`: a listener that passes bytes or datagrams, with its pool.

use std::time::Duration;

use super::tree::Node;
use super::{command, seconds};
use crate::draft::{Block, Draft};
use crate::note::{Notes, Place};
use crate::text::{text, time};

/// The checks of a real server.
const CHECKS: [&str; 8] = ["TCP_CHECK", "HTTP_GET", "SSL_GET", "MISC_CHECK", "SMTP_CHECK", "DNS_CHECK", "UDP_CHECK", "PING_CHECK"];

pub(super) fn convert(node: &Node, nodes: &[Node], draft: &mut Draft, notes: &mut Notes) {
    let place = notes.place(node.line);
    let binds = match node.word(1) {
        "fwmark" => return notes.not_converted(node.line, &node.shown(), "weir listens on addresses, not on marks"),
        "group" => group(node.word(2), nodes, notes),
        ip => vec![(address(ip, node.word(2)), place)],
    };
    if binds.is_empty() {
        return notes.not_converted(node.line, &node.shown(), "it has no address");
    }
    let kind = node.value("protocol").unwrap_or("TCP").to_ascii_lowercase();
    if !matches!(kind.as_str(), "tcp" | "udp") {
        return notes.not_converted(node.line, &node.shown(), format!("weir does not pass {kind:?}"));
    }
    // The characters of an address that names cannot have become hyphens.
    let name = if node.word(1) == "group" { node.word(2).to_owned() } else { format!("{}-{}-{kind}", node.word(1), node.word(2)) };
    let (listener, pool) = (draft.listener_names.fresh(&name), draft.pool_names.fresh(&name));
    let mut table = Block::table(&["listener", &listener], place);
    match &binds[..] {
        [(bind, place)] => table.set_vital("bind", text(bind), *place),
        all => table.set_list("bind", all.iter().map(|(bind, place)| (text(bind), *place)).collect(), place),
    }
    table.set("protocol", text(&kind), place);
    table.set("pool", text(&pool), place);
    draft.add(table);
    write_pool(&pool, node, draft, notes);
    for child in &node.children {
        let why = match child.word(0) {
            "lb_kind" | "lvs_method" => {
                notes.changed(
                    child.line,
                    &child.shown(),
                    "weir is a proxy: endpoints see its address, and their answers come back through it",
                );
                continue;
            }
            "persistence_granularity" => "clients are told apart by their whole address",
            "virtualhost" => "write it as `host` of the check",
            "ha_suspend" | "hysteresis" | "alpha" | "omega" | "ops" | "retry" | "delay_before_retry" | "connect_timeout" | "warmup" => {
                continue;
            }
            "quorum_up" | "quorum_down" | "notify_up" | "notify_down" => "changes of health are events; write [alarm.NAME] with notify",
            "sorry_server_inhibit" => "the last tier serves while no other endpoint is available",
            "delay_loop" | "lb_algo" | "lvs_sched" | "protocol" | "persistence_timeout" | "real_server" | "sorry_server" | "quorum" => {
                continue;
            }
            _ => "weir knows nothing like it",
        };
        notes.not_converted(child.line, &child.shown(), why);
    }
}

/// An address and a port as weir writes them.
fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The addresses of a `virtual_server_group`.
fn group(name: &str, nodes: &[Node], notes: &mut Notes) -> Vec<(String, Place)> {
    let Some(group) = nodes.iter().find(|node| node.word(0) == "virtual_server_group" && node.word(1) == name) else { return Vec::new() };
    let mut found = Vec::new();
    for (line, words) in group.children.iter().map(|child| (child.line, &child.words)) {
        match &words[..] {
            [ip, port] if ip != "fwmark" && !ip.contains('-') => found.push((address(ip, port), notes.place(line))),
            words => notes.not_converted(line, &words.join(" "), "write each address by itself"),
        }
    }
    found
}

fn write_pool(pool: &str, node: &Node, draft: &mut Draft, notes: &mut Notes) {
    let place = notes.place(node.line);
    let mut table = Block::table(&["pool", pool], place);
    let mut endpoints = Vec::new();
    for server in node.children.iter().filter(|child| child.word(0) == "real_server") {
        let at = notes.place(server.line);
        let address = text(&address(server.word(1), server.word(2)));
        match server.value("weight").and_then(|weight| weight.parse::<u32>().ok()).unwrap_or(1) {
            0 => {
                notes.not_converted(server.line, &server.shown(), "weight 0 takes nothing new; add it when it is needed: weir endpoint add")
            }
            1 => endpoints.push((address, at)),
            weight => endpoints.push((format!("{{ address = {address}, weight = {weight} }}"), at)),
        }
        for child in &server.children {
            if !CHECKS.contains(&child.word(0)) && !matches!(child.word(0), "weight" | "inhibit_on_failure") {
                let why = match child.word(0) {
                    "notify_up" | "notify_down" => "changes of health are events; write [alarm.NAME] with notify",
                    "uthreshold" => "write connections_per_endpoint under [pool.NAME.limits]",
                    "lvs_method" | "lb_kind" => "weir is a proxy for every endpoint",
                    _ => "weir knows nothing like it",
                };
                notes.not_converted(child.line, &child.shown(), why);
            }
        }
    }
    if let Some(sorry) = node.child("sorry_server") {
        endpoints.push((format!("{{ address = {}, tier = 15 }}", text(&address(sorry.word(1), sorry.word(2)))), notes.place(sorry.line)));
        notes.changed(sorry.line, &sorry.shown(), "it is checked as the others are");
    }
    table.set_list("endpoints", endpoints, place);
    let hash = balance(node, &mut table, notes);
    if let Some(quorum) = node.child("quorum") {
        table.set("min_healthy", quorum.word(1).to_owned(), notes.place(quorum.line));
        table.set("below_min_healthy", text("fail-closed"), notes.place(quorum.line));
    }
    draft.add(table);
    if hash {
        let mut table = Block::table(&["pool", pool, "hash"], place);
        table.set_vital("key", text("source"), place);
        draft.add(table);
    }
    if let Some(health) = health(pool, node, notes) {
        draft.add(health);
    }
}

/// The algorithm; whether the source is hashed.
fn balance(node: &Node, table: &mut Block, notes: &mut Notes) -> bool {
    let child = node.child("lb_algo").or_else(|| node.child("lvs_sched"));
    let place = child.map_or(notes.place(node.line), |child| notes.place(child.line));
    let mut is_hashed = false;
    let word = match child.map_or("rr", |child| child.word(1)) {
        "rr" | "wrr" => "round-robin",
        "lc" | "wlc" | "sed" | "nq" | "lblc" | "lblcr" => "least-request",
        "sh" | "mh" | "dh" => {
            is_hashed = true;
            "maglev"
        }
        other => {
            notes.changed(place.line, other, "the least busy of two");
            "least-request"
        }
    };
    if let Some(child) = node.child("persistence_timeout") {
        notes.changed(child.line, &child.shown(), "a client stays where it is by the hash of its address, without a time");
        is_hashed = true;
    }
    table.set("balance", text(if is_hashed { "maglev" } else { word }), place);
    is_hashed
}

fn health(pool: &str, node: &Node, notes: &mut Notes) -> Option<Block> {
    let servers = || node.children.iter().filter(|child| child.word(0) == "real_server");
    let check_of = |server: &'_ Node| server.children.iter().position(|child| CHECKS.contains(&child.word(0)));
    let check = servers().find_map(|server| server.children.get(check_of(server)?))?;
    if servers().any(|server| check_of(server).and_then(|at| server.children.get(at)).is_none_or(|other| !alike(other, check))) {
        notes.changed(check.line, &check.shown(), "all endpoints of a pool are checked alike, as the first that is checked");
    }
    let place = notes.place(check.line);
    let mut table = Block::table(&["pool", pool, "health"], place);
    let kind = match check.word(0) {
        "TCP_CHECK" => "tcp",
        "HTTP_GET" => "http",
        "SSL_GET" => {
            notes.changed(check.line, &check.shown(), "the check was over TLS; weir looks at the handshake alone");
            "tls"
        }
        "MISC_CHECK" => "exec",
        _ => {
            notes.changed(
                check.line,
                &check.shown(),
                "only whether a connection is accepted; a program can ask more, with type = \"exec\"",
            );
            "tcp"
        }
    };
    table.set("type", text(kind), place);
    let interval = node.value("delay_loop").and_then(seconds).unwrap_or(Duration::from_secs(60));
    table.set("interval", time(interval), node.child("delay_loop").map_or(place, |child| notes.place(child.line)));
    let timeout =
        check.value("connect_timeout").or_else(|| check.value("misc_timeout")).or_else(|| node.value("connect_timeout")).and_then(seconds);
    table.set("timeout", time(timeout.unwrap_or(Duration::from_secs(5)).min(interval)), place);
    let retries = ["retry", "nb_get_retry"]
        .iter()
        .find_map(|word| check.value(word).or_else(|| node.value(word)))
        .and_then(|n| n.parse::<u32>().ok());
    table.set("rise", "1", place);
    table.set("fall", retries.unwrap_or(0).saturating_add(1).to_string(), place);
    if let Some(port) = check.value("connect_port") {
        table.set("port", port.to_owned(), place);
    }
    match kind {
        "http" => http(&mut table, check, node, notes),
        "exec" => {
            notes.changed(
                check.line,
                &check.shown(),
                "it is run alike for each endpoint, whose address it finds in WEIR_HOST and WEIR_PORT",
            );
            let words = command(&check.child("misc_path").map(|child| child.words[1..].join(" ")).unwrap_or_default());
            table.set_vital("command", format!("[{}]", words.iter().map(|word| text(word)).collect::<Vec<_>>().join(", ")), place);
            if check.child("misc_dynamic").is_some() {
                notes.not_converted(check.line, "misc_dynamic", "weights are set over the API: weir endpoint weight");
            }
        }
        _ => {}
    }
    Some(table)
}

/// The same check but for the address that it may name.
fn alike(one: &Node, other: &Node) -> bool {
    let shape = |node: &Node| -> Vec<String> {
        let inner = node.children.iter().filter(|child| !matches!(child.word(0), "connect_ip" | "bindto"));
        inner.map(|child| format!("{} {}", child.shown(), child.children.iter().map(Node::shown).collect::<Vec<_>>().join(" "))).collect()
    };
    one.word(0) == other.word(0) && shape(one) == shape(other)
}

fn http(table: &mut Block, check: &Node, node: &Node, notes: &mut Notes) {
    let mut urls = check.children.iter().filter(|child| child.word(0) == "url");
    let Some(url) = urls.next() else { return };
    if let Some(second) = urls.next() {
        notes.not_converted(second.line, &second.shown(), "a probe asks one path");
    }
    let place = notes.place(url.line);
    if let Some(path) = url.value("path") {
        table.set("path", text(path), place);
    }
    if let Some(host) = url.value("virtualhost").or_else(|| check.value("virtualhost")).or_else(|| node.value("virtualhost")) {
        table.set("host", text(host), place);
    }
    match url.child("status_code").map(|child| child.words[1..].join(", ")) {
        Some(codes) if codes.split(", ").all(|code| code.parse::<u16>().is_ok()) => table.set("expect", format!("[{codes}]"), place),
        Some(codes) => table.set("expect", format!("[{}]", codes.split(", ").map(text).collect::<Vec<_>>().join(", ")), place),
        None => table.set("expect", text("200-299"), place),
    }
    if let Some(digest) = url.child("digest") {
        notes.not_converted(digest.line, &digest.shown(), "write a regular expression for the body as `body`");
    }
}
