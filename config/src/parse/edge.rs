//! What is said to those in front of and behind this node besides the traffic.

use crate::model::{Network, ProxyVersion};
use crate::parse::limit::networks;
use crate::reader::Table;

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
