//! `[node]`, `[api]` and `[access_log]`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::parse_bind_address;
use crate::error::is_secret_name;
use crate::model::{AccessLog, AccessLogFormat, AccessLogTarget, Api, Node};
use crate::names::check_label;
use crate::reader::{Placed, Table};

pub(super) fn node(table: &Table<'_>) -> Node {
    let name = table.text("name");
    if let Some(name) = name
        && let Err(why) = check_label(name)
    {
        table.report(table.problem("name", format!("the name {name:?} {why}")));
    }
    Node {
        name: name.unwrap_or_default().into(),
        workers: table.count_non_zero("workers"),
        state_dir: absolute_path(table, "state_dir").unwrap_or_default(),
        drain_timeout: table.time("drain_timeout").unwrap_or(Duration::ZERO),
        probes_max: table.count_non_zero("probes_max").unwrap_or(NonZeroU32::MIN),
    }
}

/// `[api]` with its address as it was written.
#[derive(Debug)]
pub(crate) struct ParsedApi {
    /// `None` if something it cannot be without was wrong.
    pub(crate) api: Option<Api>,
    /// Its address with its place.
    pub(crate) bind: Option<Placed<SocketAddr>>,
}

pub(super) fn api(table: &Table<'_>) -> ParsedApi {
    let token_file = absolute_path(table, "token_file");
    let bind = bind(table);
    if let Some(bind) = bind
        && !bind.ip().is_loopback()
        && !table.has("token_file")
    {
        let problem = table.problem("bind", format!("the API on {bind} can be reached from other machines, so it needs a token"));
        table.report(problem.help("add `token_file = \"/etc/weir/token\"`, or bind to 127.0.0.1").needs_whole_file());
    }
    ParsedApi { api: bind.map(|bind| Api { bind, token_file }), bind: bind.map(|bind| table.placed("bind", bind)) }
}

fn bind(table: &Table<'_>) -> Option<SocketAddr> {
    match table.field("bind") {
        Some(field) => field.checked(parse_bind_address(field.text()?)),
        None => table.text("bind").and_then(|default| default.parse().ok()),
    }
}

pub(super) fn access_log(table: &Table<'_>) -> AccessLog {
    let target = match table.text("path") {
        Some("stdout") => AccessLogTarget::Stdout,
        _ => AccessLogTarget::File(absolute_path(table, "path").unwrap_or_default()),
    };
    let format = match table.choice("format") {
        Some("text") => AccessLogFormat::Text,
        _ => AccessLogFormat::Json,
    };
    AccessLog { target, format }
}

/// A relative path would depend on where the program was started.
pub(crate) fn absolute_path(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let text = table.text(name)?;
    if !text.starts_with('/') || text.contains('\0') {
        // It may be the secret itself, put into the wrong key.
        let found = if is_secret_name(name) { String::new() } else { format!(", found {text:?}") };
        let problem = table.problem(name, format!("`{name}` must be an absolute path{found}"));
        table.report(problem.help(format!("write `{name} = \"/...\"`")));
        return None;
    }
    Some(PathBuf::from(text))
}
