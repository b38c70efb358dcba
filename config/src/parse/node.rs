//! `[node]`, `[api]` and `[access_log]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::address::parse_bind_address;
use crate::error::is_secret_name;
use crate::model::{AccessLog, AccessLogFormat, AccessLogTarget, Api, ApiTls, ApiToken, Node, Role};
use crate::names::check_label;
use crate::reader::{Named, Placed, Table};

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
    let tokens = tokens(table);
    let tls = table.table("tls").and_then(|table| tls(&table));
    let asks_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if let Some(bind) = bind
        && !bind.ip().is_loopback()
        && !table.has("token_file")
        && !table.has("token")
        && !asks_certificates
    {
        let problem = table.problem("bind", format!("the API on {bind} can be reached from other machines, so it needs a token"));
        let help = "add an `[api.token.NAME]`, which `weir token` makes, or `token_file = \"/etc/weir/token\"`, or bind to 127.0.0.1";
        table.report(problem.help(help).needs_whole_file());
    }
    ParsedApi { api: bind.map(|bind| Api { bind, token_file, tokens, tls }), bind: bind.map(|bind| table.placed("bind", bind)) }
}

fn tls(table: &Table<'_>) -> Option<ApiTls> {
    let (key, client_ca_file) = (absolute_path(table, "key_file"), absolute_path(table, "client_ca_file"));
    let certificate_file = absolute_path(table, "certificate_file")?;
    Some(ApiTls { key_file: key.unwrap_or_else(|| certificate_file.clone()), certificate_file, client_ca_file })
}

fn tokens(table: &Table<'_>) -> BTreeMap<Arc<str>, ApiToken> {
    let mut known: BTreeMap<[u8; 32], &str> = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for Named { name, table } in &table.named("token") {
        let role = table.choice("role").and_then(Role::from_word);
        let Some(digest) = table.field("token_sha256").and_then(|field| field.checked(digest(field.text()?))) else { continue };
        if let Some(other) = known.insert(digest, name) {
            let problem = table.problem("token_sha256", format!("this is the token of `{other}`, too: nobody could tell who asks"));
            table.report(problem.help("make another one with `weir token`"));
        }
        if let Some(role) = role {
            tokens.insert((*name).into(), ApiToken { role, digest });
        }
    }
    tokens
}

/// 64 hexadecimal digits. What was found is not said: it may be the token itself.
fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    let wrong = || "`token_sha256` must be 64 hexadecimal digits, as `weir token` prints them".to_owned();
    if text.len() != 2 * digest.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(digest)
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
