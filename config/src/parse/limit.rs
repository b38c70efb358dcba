//! Who may come, how often, and what a route changes.

use std::num::NonZeroU32;

use crate::error::Problem;
use crate::model::{Access, Changes, HeaderEdits, LimitKey, Network, PathPattern, RateLimit, Rewrite, Route};
use crate::parse::health::regex_reason;
use crate::parse::pool::is_token;
use crate::parse::route::{parse_network, parse_route_path};
use crate::reader::{Field, Table};

/// Fields that frame a message or belong to one connection (RFC 9110 section 7.6.1): only the parser may write them.
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The longest value of a field that is set or added.
const VALUE_BYTES_MAX: usize = 4096;

pub(super) fn access(table: &Table<'_>) -> Access {
    Access { allow: networks(table, "allow"), deny: networks(table, "deny") }
}

pub(super) fn networks(table: &Table<'_>, key: &str) -> Vec<Network> {
    let items = table.field(key).map(|field| field.one_or_many()).unwrap_or_default();
    items.iter().filter_map(|item| item.checked(parse_network(item.text()?))).collect()
}

pub(super) fn rate_limits(table: &Table<'_>, routes: &[Route]) -> Vec<RateLimit> {
    let read = |table: &Table<'_>| {
        let per = table.field("per").map(|field| field.checked(parse_key(field.text()?))).unwrap_or(Some(LimitKey::Source));
        let route = table.text("route").map(str::to_owned);
        if let Some(name) = &route
            && !routes.iter().any(|known| known.name.as_ref() == Some(name))
        {
            let problem = table.problem("route", format!("this listener has no route named {name:?}"));
            table.report(problem.help("give the route that name").needs_whole_file());
        }
        let requests_per_second = table.count_non_zero("requests_per_second");
        let burst = table.count_non_zero("burst").or(requests_per_second);
        if !table.has("requests_per_second") {
            table.refuse(&["burst"], "without `requests_per_second`");
            if !table.has("requests_at_once") {
                let problem = Problem::new(table.span(), table.path(), "this limit bounds nothing");
                table.report(problem.help("add `requests_per_second = 100`, or `requests_at_once = 20`").needs_whole_file());
            }
        }
        Some(RateLimit {
            per: per?,
            route,
            requests_per_second,
            burst: burst.unwrap_or(NonZeroU32::MIN),
            requests_at_once: table.count_non_zero("requests_at_once"),
        })
    };
    table.field("rate_limit").map(|field| field.tables()).unwrap_or_default().iter().filter_map(read).collect()
}

fn parse_key(text: &str) -> Result<LimitKey, String> {
    match text.split_once(':') {
        None if text == "source" => Ok(LimitKey::Source),
        None if text == "all" => Ok(LimitKey::All),
        Some(("header", name)) if is_token(name) => Ok(LimitKey::Header(name.to_ascii_lowercase())),
        _ => Err(format!("{text:?} is nothing that a limit can be kept for; write \"source\", \"header:NAME\" or \"all\"")),
    }
}

/// What the route of these conditions changes; `None`: nothing.
pub(super) fn changes(table: &Table<'_>, path: Option<&PathPattern>) -> Option<Box<Changes>> {
    let edits = |key| table.table(key).map(|table| edits(&table)).unwrap_or_default();
    let rewrite_location = table.flag("rewrite_location").unwrap_or(false);
    let changes = Changes { request: edits("request"), response: edits("response"), rewrite: rewrite(table, path), rewrite_location };
    let has_any = !(changes.request.is_empty() && changes.response.is_empty() && changes.rewrite.is_none()) || rewrite_location;
    if has_any && (table.has("redirect") || table.has("answer")) {
        let problem = Problem::new(table.span(), table.path(), "a route that no pool serves has no request or response to change");
        table.report(problem.help("remove request, response and rewrite"));
    }
    has_any.then(|| Box::new(changes))
}

fn rewrite(table: &Table<'_>, path: Option<&PathPattern>) -> Option<Rewrite> {
    if let Some(field) = table.field("rewrite_prefix") {
        if table.has("rewrite_regex") {
            table.report(table.problem("rewrite_regex", "the path is rewritten in two ways").help("keep one of them"));
        }
        if !matches!(path, Some(PathPattern::Prefix(_))) {
            field.report(field.problem("there is no `path` whose place this could take").help("add `path`, or write `rewrite_regex`"));
        }
        return field.checked(parse_route_path(field.text()?)).map(Rewrite::Prefix);
    }
    let table = table.table("rewrite_regex")?;
    let found = table.field("match");
    let pattern = found.and_then(|field| {
        let compiled = regex::bytes::Regex::new(field.text()?);
        compiled.map_err(|error| field.report(field.problem("`match` is not a regular expression").help(regex_reason(&error)))).ok()
    });
    let to = table.text("to").map(str::to_owned);
    if to.as_ref().is_some_and(|to| !to.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))) {
        table.report(table.problem("to", "a path has no blank, question mark or number sign").help("write it percent-encoded"));
    }
    Some(Rewrite::Regex { pattern: pattern?, to: to? })
}

fn edits(table: &Table<'_>) -> HeaderEdits {
    let pairs = |key| {
        let tables = table.field(key).map(|field| field.tables()).unwrap_or_default();
        tables.iter().filter_map(pair).collect()
    };
    let removed = table.field("remove").map(|field| field.one_or_many()).unwrap_or_default();
    let removed = removed.iter().filter_map(|item: &Field<'_>| item.checked(parse_name(item.text()?)));
    HeaderEdits { remove: removed.map(|name| name.to_ascii_lowercase()).collect(), set: pairs("set"), add: pairs("add") }
}

fn pair(table: &Table<'_>) -> Option<(String, String)> {
    let name = table.field("name").and_then(|field| field.checked(parse_name(field.text()?)));
    let value = table.field("value").and_then(|field| field.checked(parse_value(field.text()?)));
    Some((name?, value?))
}

fn parse_name(name: &str) -> Result<String, String> {
    if !is_token(name) {
        return Err(format!("{name:?} is not a header name; for example \"x-team\""));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().replace('_', "-").as_str()) {
        return Err(format!("{name:?} frames the message or belongs to one connection, and cannot be changed; choose another field"));
    }
    Ok(name.to_owned())
}

fn parse_value(value: &str) -> Result<String, String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("a value of {} bytes is too long; at most {VALUE_BYTES_MAX} are possible", value.len()));
    }
    match value.chars().find(|c| c.is_ascii_control() && *c != '\t') {
        Some(c) => Err(format!("a field is one line, and this value has {c:?} in it; remove it")),
        None if value.trim() != value => Err(format!("blanks around a value are lost on the way; write {:?}", value.trim())),
        None => Ok(value.to_owned()),
    }
}
