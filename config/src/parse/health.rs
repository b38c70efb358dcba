//! `[pool.NAME.health]`

use std::num::NonZeroU32;
use std::time::Duration;

use crate::address::parse_host_name;
use crate::model::{HealthCheck, Probe};
use crate::parse::pool::is_token;
use crate::reader::{Field, Table};

/// The keys that belong to some types alone.
const KEYS_OF_TYPES: [(&[&str], &[&str]); 5] = [
    (&["http", "https"], &["method", "path", "host", "expect", "body"]),
    (&["tls"], &["server_name"]),
    (&["grpc"], &["service"]),
    (&["udp"], &["request", "answer"]),
    (&["exec"], &["command"]),
];

/// The longest name of a service, and the longest datagram of a probe: what fits into one without being cut on its way.
const SERVICE_BYTES_MAX: usize = 100;
const REQUEST_BYTES_MAX: usize = 1200;

/// The statuses of final answers, RFC 9110 section 15.
const STATUSES: std::ops::RangeInclusive<u64> = 200..=599;

pub(super) fn health(table: &Table<'_>, pool: &Table<'_>) -> Option<HealthCheck> {
    let interval = table.time("interval").unwrap_or(Duration::from_secs(2));
    let fast_interval = table.time("fast_interval").unwrap_or(interval);
    let down_interval = table.time("down_interval").unwrap_or(interval);
    let timeout = table.time("timeout").unwrap_or(Duration::from_secs(1).min(interval));
    let refuse_if = |wrong: bool, name: &str, why: &str| {
        if wrong && table.has(name) {
            let problem = table.problem(name, why).note(table.span_of("interval"), "the interval");
            let problem =
                if table.has("interval") { problem } else { table.problem(name, why).help("`interval` is 2s where it is not set") };
            table.report(problem.needs_whole_file());
        }
    };
    refuse_if(timeout > interval, "timeout", "`timeout` is longer than `interval`: a probe must end before the next one begins");
    refuse_if(fast_interval > interval, "fast_interval", "`fast_interval` is longer than `interval`, so it would be slower");
    refuse_if(down_interval < interval, "down_interval", "`down_interval` is shorter than `interval`, so it would be faster");
    let rise = table.count_non_zero("rise").unwrap_or(NonZeroU32::MIN);
    let fall = table.count_non_zero("fall").unwrap_or(NonZeroU32::MIN);
    let port = table.count("port").and_then(|port| u16::try_from(port).ok());
    let kind = table.choice("type")?;
    for (others, keys) in KEYS_OF_TYPES.iter().filter(|(others, _)| !others.contains(&kind)) {
        let others: Vec<String> = others.iter().map(|other| format!("{other:?}")).collect();
        table.refuse(keys, &format!("with type = {kind:?}, only with {}", others.join(" or ")));
    }
    check_tls(kind, table, pool);
    let probe = match kind {
        "http" | "https" => http(table, kind == "https"),
        "tls" => Probe::Tls { server_name: server_name(table) },
        "exec" => Probe::Exec { command: command(table)? },
        "grpc" => Probe::Grpc { service: service(table) },
        "udp" => Probe::Udp { request: request(table)?, answer: pattern(table, "answer") },
        _ => Probe::Tcp,
    };
    Some(HealthCheck { probe, interval, fast_interval, down_interval, timeout, rise, fall, port })
}

/// A probe that speaks as the endpoints do not would fail for ever, and look like an outage.
fn check_tls(kind: &str, table: &Table<'_>, pool: &Table<'_>) {
    let problem = match (kind, pool.has("tls")) {
        ("https", false) => table
            .problem("type", "type = \"https\" asks as traffic does, and the endpoints of this pool are spoken to without TLS")
            .help("add [pool.NAME.tls], or write `type = \"http\"`"),
        ("http", true) if !table.has("port") => table
            .problem("type", "type = \"http\" asks without TLS, which the endpoints of this pool speak")
            .note(pool.key_span("tls"), "they are spoken to under TLS")
            .help("write `type = \"https\"`, or the `port` on which they answer without TLS"),
        _ => return,
    };
    table.report(problem.needs_whole_file());
}

fn http(table: &Table<'_>, tls: bool) -> Probe {
    let read = |name: &str, parse: fn(&str) -> Result<String, String>| {
        let field = table.field(name)?;
        field.checked(parse(field.text()?))
    };
    let method = read("method", parse_method).unwrap_or("GET".into());
    let body = pattern(table, "body");
    if method == "HEAD" && table.has("body") {
        let problem = table.problem("body", "an answer to HEAD has no body to match");
        table.report(problem.note(table.span_of("method"), "the method").help("use GET"));
    }
    let expect: Vec<(u16, u16)> = match table.field("expect") {
        Some(field) => expect(&field),
        None => vec![(200, 399)],
    };
    Probe::Http { tls, method, path: read("path", parse_path).unwrap_or("/".into()), host: read("host", parse_host), expect, body }
}

fn pattern(table: &Table<'_>, name: &str) -> Option<regex::bytes::Regex> {
    let field = table.field(name)?;
    let compiled = regex::bytes::Regex::new(field.text()?);
    compiled.map_err(|error| field.report(field.problem(format!("`{name}` is not a regular expression")).help(regex_reason(&error)))).ok()
}

fn service(table: &Table<'_>) -> String {
    let field = table.field("service");
    let text = field.as_ref().and_then(|field| field.text()).unwrap_or_default();
    if let Some(field) = &field
        && (text.is_empty() || text.len() > SERVICE_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let problem = field.problem(format!("{text:?} is not the name of a service"));
        field.report(problem.help("for example `service = \"shop.Orders\"`; without the key, the server as a whole is asked about"));
    }
    text.into()
}

fn request(table: &Table<'_>) -> Option<Vec<u8>> {
    let Some(field) = table.field("request") else {
        let problem = table.problem("type", "type = \"udp\" needs a request that is answered");
        table.report(problem.help("for example `request = '\\x12\\x34version'`").needs_whole_file());
        return None;
    };
    field.checked(parse_bytes(field.text()?))
}

/// Text with escapes for bytes.
fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} has a backslash that stands for nothing; write \\xNN, \\r, \\n, \\t, \\0 or \\\\, in single quotes");
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first().ok_or_else(wrong)?;
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = digit(digits[0]).zip(digit(digits[1])).ok_or_else(wrong)?;
                (high * 16 + low) as u8
            }
            _ => return Err(wrong()),
        });
    }
    match bytes.len() {
        0 => Err("an empty datagram is answered by nobody".into()),
        1..=REQUEST_BYTES_MAX => Ok(bytes),
        _ => Err(format!("a request of {} bytes is longer than {REQUEST_BYTES_MAX}", bytes.len())),
    }
}

fn expect(field: &Field<'_>) -> Vec<(u16, u16)> {
    let items = field.one_or_many();
    if items.is_empty() {
        field.report(field.problem("`expect` is an empty list, so every probe would fail").help("for example `expect = \"200-399\"`"));
    }
    items.iter().filter_map(status_range).collect()
}

fn status_range(item: &Field<'_>) -> Option<(u16, u16)> {
    let number = |text: &str| (text.len() == 3).then(|| text.parse::<u64>().ok()).flatten();
    let range = match (item.as_integer(), item.as_text()) {
        (Some(status), _) => Some((status, status)),
        (None, Some(text)) => match text.split_once('-') {
            Some((low, high)) => number(low.trim()).zip(number(high.trim())),
            None => number(text).map(|status| (status, status)),
        },
        (None, None) => return item.wrong_type("statuses: 200, \"200-399\", or a list of both"),
    };
    match range.filter(|(low, high)| STATUSES.contains(low) && STATUSES.contains(high) && low <= high) {
        Some((low, high)) => u16::try_from(low).ok().zip(u16::try_from(high).ok()),
        None => {
            let problem = item.problem("a status, or a range of them, lies between 200 and 599");
            item.report(problem.help("for example `expect = \"200-399\"`, or `expect = [200, 204, \"300-399\"]`"));
            None
        }
    }
}

fn command(table: &Table<'_>) -> Option<Vec<String>> {
    let Some(field) = table.field("command") else {
        let problem = table.problem("type", "type = \"exec\" needs a command");
        table.report(problem.help("for example `command = [\"/usr/local/bin/probe\", \"--quick\"]`").needs_whole_file());
        return None;
    };
    let items = field.items()?;
    let command: Vec<String> = items.iter().filter_map(|item| item.text()).map(String::from).collect();
    if items.is_empty() || command.first().is_some_and(|program| program.is_empty()) {
        field.report(field.problem("`command` names no program").help("for example `command = [\"/usr/local/bin/probe\", \"--quick\"]`"));
    }
    if let Some(item) = items.iter().find(|item| item.as_text().is_some_and(|text| text.contains('\0'))) {
        item.report(item.problem("an argument cannot contain a NUL character"));
    }
    Some(command)
}

fn server_name(table: &Table<'_>) -> Option<String> {
    let field = table.field("server_name")?;
    field.checked(parse_host_name(field.text()?))
}

fn parse_method(text: &str) -> Result<String, String> {
    match text {
        "CONNECT" => Err("a probe cannot use CONNECT; for example \"GET\"".into()),
        _ if is_token(text) => Ok(text.into()),
        _ => Err(format!("{text:?} is not a request method; for example \"GET\"")),
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("a path begins with a slash, found {text:?}; write \"/{text}\""));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        Some(c) => Err(format!("{text:?} has {c:?} in it, which cannot be part of a request; write it percent-encoded")),
        None => Ok(text.into()),
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    match !text.is_empty() && text.chars().all(host) {
        true => Ok(text.into()),
        false => Err(format!("{text:?} cannot be a Host header; for example \"web.example.com\"")),
    }
}

/// The last line of the message says what is wrong; those before draw the pattern, which our own excerpt already shows.
pub(super) fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_string()
}
