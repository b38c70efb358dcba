//! What is said to those in front of and behind this node besides the traffic.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::address::parse_host_name;
use crate::model::{CookieSecure, Network, ProxyVersion, SameSite, Session, SessionCookie, SessionGone, SessionMemory};
use crate::parse::limit::networks;
use crate::parse::node::absolute_path;
use crate::parse::pool::is_token;
use crate::reader::Table;

const OF_COOKIES: [&str; 7] = ["name", "key_file", "path", "domain", "max_age", "secure", "same_site"];
const OF_SOURCES: [&str; 2] = ["expiry", "clients_max"];

pub(super) fn session(table: &Table<'_>) -> Option<Session> {
    let kind = table.choice("type");
    let gone = match table.choice("gone") {
        Some("fail") => SessionGone::Fail,
        _ => SessionGone::Rebalance,
    };
    let memory = match kind? {
        "cookie" => {
            table.refuse(&OF_SOURCES, "for a session by cookie, which is remembered by the client");
            SessionMemory::Cookie(cookie(table)?)
        }
        _ => {
            table.refuse(&OF_COOKIES, "for a session by source, which has no cookie");
            SessionMemory::Source {
                expiry: table.time("expiry").unwrap_or(Duration::from_secs(1800)),
                clients_max: table.count_non_zero("clients_max").unwrap_or(const { NonZeroU32::new(65_536).expect("not 0") }),
            }
        }
    };
    Some(Session { memory, gone })
}

fn cookie(table: &Table<'_>) -> Option<SessionCookie> {
    let name = table.field("name").map(|field| {
        let text = field.text()?;
        let checked = if is_token(text) {
            Ok(text.to_owned())
        } else {
            Err(format!("{text:?} is not the name of a cookie; for example \"weir-session\""))
        };
        field.checked(checked)
    });
    let path = table.field("path").map(|field| {
        let text = field.text()?;
        let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        field.checked(if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no path of a cookie; for example \"/shop\"")) })
    });
    let domain = table.field("domain").map(|field| field.checked(parse_host_name(field.text()?)));
    let secure = match table.choice("secure") {
        Some("always") => CookieSecure::Always,
        Some("never") => CookieSecure::Never,
        _ => CookieSecure::Auto,
    };
    let same_site = match table.choice("same_site") {
        Some("strict") => SameSite::Strict,
        Some("none") => SameSite::None,
        _ => SameSite::Lax,
    };
    if same_site == SameSite::None && secure == CookieSecure::Never {
        let problem = table.problem("same_site", "browsers refuse a cookie of SameSite=None that is not secure");
        table.report(
            problem.note(table.span_of("secure"), "it is never secure by this").help("write `secure = \"auto\"`, or another `same_site`"),
        );
    }
    if !table.has("key_file") {
        let problem =
            crate::error::Problem::new(table.span(), table.path(), "a session by cookie needs `key_file`, to sign the cookie with");
        table.report(
            problem.help("add `key_file = \"/etc/weir/session.keys\"`; `openssl rand -hex 32` prints a line for it").needs_whole_file(),
        );
    }
    let key_file = absolute_path(table, "key_file");
    Some(SessionCookie {
        name: name.unwrap_or(Some("weir-session".into()))?,
        key_file: key_file?,
        path: path.unwrap_or(Some("/".into()))?,
        domain: domain.map_or(Some(None), |domain| domain.map(Some))?,
        max_age: table.time("max_age").filter(|age| !age.is_zero()),
        secure,
        same_site,
    })
}

pub(super) fn announcers(table: &Table<'_>) -> Vec<Network> {
    let Some(table) = table.table("proxy_protocol") else { return Vec::new() };
    let found = networks(&table, "trusted");
    if found.is_empty()
        && let Some(field) = table.field("trusted")
    {
        field.report(field.problem("nobody is trusted to announce clients").help("name the proxies in front, or remove the table"));
    }
    found
}

pub(super) fn proxy_version(table: &Table<'_>) -> Option<ProxyVersion> {
    match table.choice("proxy_protocol")? {
        "v1" => Some(ProxyVersion::V1),
        _ => Some(ProxyVersion::V2),
    }
}
