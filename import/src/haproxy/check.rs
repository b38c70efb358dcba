//! Health checks: a pool of ours has one, so that what its servers say alike is taken.

use std::time::Duration;

use super::backend::Server;
use super::duration;
use super::section::Section;
use super::words::Statement;
use crate::draft::Block;
use crate::note::Notes;
use crate::text::{self, escaped, text, time};

/// When servers are probed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timing {
    pub(super) interval: Option<Duration>,
    pub(super) fast: Option<Duration>,
    pub(super) down: Option<Duration>,
    pub(super) rise: Option<u32>,
    pub(super) fall: Option<u32>,
    pub(super) port: Option<u16>,
}

/// `[pool.NAME.health]`; `None`: nothing is checked.
pub(super) fn check(pool: &str, section: &Section, servers: &[Server], notes: &mut Notes) -> Option<Block> {
    let first = servers.iter().find(|server| server.is_checked)?;
    let line = section.line;
    if servers.iter().any(|server| !server.is_checked) {
        notes.changed(line, &section.name, "all endpoints of a pool are checked, or none; here some were not");
    }
    if servers.iter().any(|server| server.is_checked && server.timing != first.timing) {
        notes.changed(line, &section.name, "all endpoints of a pool are checked alike, as the first that is checked");
    }
    let place = notes.place(line);
    let mut table = Block::table(&["pool", pool, "health"], place);
    kind(&mut table, section, first, notes);
    let timing = &first.timing;
    let interval = timing.interval.unwrap_or(Duration::from_secs(2));
    for (name, value) in [("interval", timing.interval), ("fast_interval", timing.fast), ("down_interval", timing.down)] {
        if let Some(value) = value {
            table.set(name, time(value), place);
        }
    }
    if let Some(statement) = section.last(&["timeout", "check"])
        && let Some(value) = duration(statement.word(2))
    {
        if value > interval {
            notes.changed(statement.line, &statement.shown(), "a probe ends before the next one begins");
        }
        table.set("timeout", time(value.min(interval)), notes.place(statement.line));
    }
    for (name, value) in [("rise", timing.rise), ("fall", timing.fall), ("port", timing.port.map(u32::from))] {
        if let Some(value) = value {
            table.set(name, value.to_string(), place);
        }
    }
    Some(table)
}

fn kind(table: &mut Block, section: &Section, first: &Server, notes: &mut Notes) {
    let place = notes.place(section.line);
    let over_tls = first.check_over_tls || (first.speech.is_tls && !first.check_in_clear);
    if let Some(statement) = section.option("httpchk") {
        match (over_tls, first.speech.is_tls) {
            (false, true) => notes.changed(statement.line, &statement.shown(), "the check was in clear, and is over TLS as the traffic"),
            (true, false) => {
                notes.changed(
                    statement.line,
                    &statement.shown(),
                    "the check was over TLS, and the traffic is not; weir looks at the handshake alone",
                );
                return table.set("type", text("tls"), place);
            }
            _ => {}
        }
        table.set("type", text(if first.speech.is_tls { "https" } else { "http" }), notes.place(statement.line));
        return http(table, section, statement, notes);
    }
    let is_tls = over_tls || section.option("ssl-hello-chk").is_some();
    if let Some(statement) = section.option("external-check") {
        match section.last(&["external-check", "command"]) {
            Some(command) => {
                table.set("type", text("exec"), place);
                table.set_vital("command", format!("[{}]", text(command.word(2))), notes.place(command.line));
                notes.changed(command.line, &command.shown(), "the program gets no arguments, but WEIR_POOL, WEIR_HOST and WEIR_PORT");
            }
            None => {
                notes.not_converted(statement.line, &statement.shown(), "it names no program; only connections are checked");
                table.set("type", text("tcp"), place);
            }
        }
        return;
    }
    for name in ["mysql-check", "pgsql-check", "redis-check", "smtpchk", "ldap-check", "spop-check"] {
        if let Some(statement) = section.option(name) {
            notes.changed(
                statement.line,
                &statement.shown(),
                "only whether a connection is accepted; a program can ask more, with type = \"exec\"",
            );
        }
    }
    for statement in section.all("tcp-check").filter(|statement| !matches!(statement.word(1), "connect" | "comment")) {
        notes.changed(
            statement.line,
            &statement.shown(),
            "only whether a connection is accepted; a program can ask more, with type = \"exec\"",
        );
    }
    table.set("type", text(if is_tls { "tls" } else { "tcp" }), place);
}

fn http(table: &mut Block, section: &Section, option: &Statement, notes: &mut Notes) {
    let place = notes.place(option.line);
    let (mut method, mut path, mut host) = ("OPTIONS", "/", None);
    match option.from(2) {
        [] => {}
        [uri] => path = uri,
        [verb, uri, rest @ ..] => {
            (method, path) = (verb, uri);
            // The old way to send a field: behind the version, in the same word.
            let fields = rest.iter().flat_map(|word| word.split(['\r', '\n'])).map(str::trim);
            host = fields
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("host"))
                .map(|(_, value)| value.trim());
        }
    }
    let checks = section.defaults.iter().chain(&section.statements).filter(|statement| statement.word(0) == "http-check");
    let checks: Vec<&Statement> = checks.collect();
    for statement in checks.iter().filter(|statement| statement.word(1) == "send") {
        let mut words = statement.from(2).iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "meth" => method = words.next().unwrap_or(method),
                "uri" => path = words.next().unwrap_or(path),
                "ver" => drop(words.next()),
                "hdr" => match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
                    (name, value) if name.eq_ignore_ascii_case("host") => host = Some(value),
                    (name, _) => notes.not_converted(statement.line, &format!("hdr {name}"), "a probe has no field but Host"),
                },
                other => {
                    notes.not_converted(statement.line, other, "a probe has no body");
                    words.next();
                }
            }
        }
    }
    if method != "GET" {
        table.set("method", text(method), place);
    }
    table.set("path", text(path), place);
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        table.set("host", text(host), place);
    }
    for statement in checks {
        match statement.word(1) {
            "send" | "connect" | "comment" => {}
            "expect" => expect(table, statement, notes),
            "disable-on-404" => notes.not_converted(statement.line, &statement.shown(), "drain an endpoint with `weir drain`"),
            _ => notes.not_converted(statement.line, &statement.shown(), "a probe sends one request and looks at the answer"),
        }
    }
}

fn expect(table: &mut Block, statement: &Statement, notes: &mut Notes) {
    let place = notes.place(statement.line);
    match statement.from(2) {
        [kind, value] if kind == "status" => {
            let list: Vec<String> = value.split(',').map(|part| text(part.trim())).collect();
            table.set("expect", format!("[{}]", list.join(", ")), place);
        }
        [kind, value] if kind == "rstatus" => match statuses(value) {
            Some(range) => table.set("expect", text(&range), place),
            None => notes.not_converted(statement.line, &statement.shown(), "write expect as a list of statuses and ranges"),
        },
        [kind, value] if kind == "string" => table.set("body", text(&escaped(value)), place),
        [kind, value] if kind == "rstring" => match text::regex(value) {
            Some(regex) => table.set("body", text(&regex), place),
            None => {
                notes.not_converted(statement.line, &statement.shown(), "weir's regular expressions have no look-around and no references")
            }
        },
        _ => notes.not_converted(statement.line, &statement.shown(), "an answer is judged by its status and its body"),
    }
}

/// The regular expressions for statuses that people write: `^2..`, `(2|3)[0-9][0-9]`, `^[23]`.
fn statuses(regex: &str) -> Option<String> {
    let inner = regex.trim_start_matches('^').trim_end_matches('$');
    let tail = ["[0-9][0-9]", "\\d\\d", "..", "[0-9]{2}", "\\d{2}"];
    let head = tail.iter().find_map(|tail| inner.strip_suffix(tail)).unwrap_or(inner);
    let digits: Vec<u32> = head.chars().filter(char::is_ascii_digit).filter_map(|c| c.to_digit(10)).collect();
    let is_plain = head.chars().all(|c| c.is_ascii_digit() || "([|])-".contains(c));
    let (first, last) = (*digits.first()?, *digits.last()?);
    let in_row = digits.windows(2).all(|pair| pair[1] == pair[0] + 1);
    (is_plain && in_row && (2..=5).contains(&first) && (2..=5).contains(&last)).then(|| format!("{first}00-{last}99"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_by_regex() {
        for (regex, expected) in [
            ("^2..", Some("200-299")),
            ("^2", Some("200-299")),
            ("(2|3)[0-9][0-9]", Some("200-399")),
            ("^[23]..$", Some("200-399")),
            ("[2-3][0-9][0-9]", Some("200-399")),
            ("^(2..|404)$", None),
            ("200", None),
        ] {
            assert_eq!(statuses(regex).as_deref(), expected, "{regex}");
        }
    }
}
