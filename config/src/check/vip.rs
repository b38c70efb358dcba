//! Virtual IPs against each other and against what they name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::dangling;
use crate::error::Problem;
use crate::model::{Cluster, ListenerName, PoolName};
use crate::names::nearest;
use crate::parse::{ParsedListener, ParsedPool, ParsedVip};
use crate::reader::{Placed, Table};

pub(crate) fn vips(
    root: &Table<'_>,
    cluster: Option<&Placed<Cluster>>,
    vips: &[ParsedVip],
    listeners: &[ParsedListener],
    pools: &[ParsedPool],
) {
    if let Some(Placed { value, span, path }) = cluster
        && !vips.iter().any(|vip| vip.name == value.leader_vip)
    {
        let name = &value.leader_vip.0;
        let problem = Problem::new(span.clone(), path, format!("there is no virtual IP {name:?}"));
        let names: Vec<&str> = vips.iter().map(|vip| &*vip.name.0).collect();
        root.report(problem.help(help("vip", "virtual IPs", name, &names)).needs_whole_file());
    }
    let pool_names: BTreeMap<&PoolName, &ParsedPool> = pools.iter().map(|parsed| (&parsed.pool.name, parsed)).collect();
    let listener_names: Vec<&ListenerName> = listeners.iter().map(|parsed| &parsed.name).collect();
    for vip in vips {
        for pool in vip.pools.iter().filter(|pool| !pool_names.contains_key(&pool.value)) {
            root.report(dangling(pool, &pool_names));
        }
        for Placed { value, span, path } in vip.listeners.iter().filter(|listener| !listener_names.contains(&&listener.value)) {
            let names: Vec<&str> = listener_names.iter().map(|name| &*name.0).collect();
            let problem = Problem::new(span.clone(), path, format!("there is no listener {:?}", value.0));
            root.report(problem.help(help("listener", "listeners", &value.0, &names)).needs_whole_file());
        }
    }
    check_addresses(root, vips);
    check_router_ids(root, vips);
}

fn help(table: &str, plural: &str, name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if names.is_empty() => format!("there is none yet: add [{table}.{name}]"),
        None => format!("the {plural} are: {}", names.join(", ")),
    }
}

/// An address can be held by one virtual router.
fn check_addresses(root: &Table<'_>, vips: &[ParsedVip]) {
    let mut seen: BTreeMap<IpAddr, &Placed<_>> = BTreeMap::new();
    for address in vips.iter().flat_map(|vip| &vip.addresses) {
        let ip = address.value.ip;
        if let Some(first) = seen.get(&ip) {
            let problem = Problem::new(address.span.clone(), &address.path, format!("{ip} is a virtual IP twice"));
            root.report(problem.note(first.span.clone(), format!("it is in `{}` already", first.path)));
            continue;
        }
        seen.insert(ip, address);
    }
}

/// Two virtual routers of one VRID on one interface would take each other's advertisements for their own.
fn check_router_ids(root: &Table<'_>, vips: &[ParsedVip]) {
    let mut seen: BTreeMap<(&str, u8, bool), (&str, &Placed<_>)> = BTreeMap::new();
    for parsed in vips {
        let (Some(vip), Some(id)) = (&parsed.vip, &parsed.router_id) else { continue };
        for is_ipv4 in [true, false] {
            if !vip.addresses.iter().any(|address| address.ip.is_ipv4() == is_ipv4) {
                continue;
            }
            let key = (vip.interface.as_str(), id.value.get(), is_ipv4);
            if let Some((first, place)) = seen.get(&key) {
                let family = if is_ipv4 { "IPv4" } else { "IPv6" };
                let message = format!("router_id {} is taken on {} for {family}", id.value, vip.interface);
                let problem = Problem::new(id.span.clone(), &id.path, message).note(place.span.clone(), format!("[vip.{first}] has it"));
                root.report(problem.help("give each virtual IP of an interface a number of its own").needs_whole_file());
                break;
            }
            seen.insert(key, (&vip.name.0, id));
        }
    }
}
