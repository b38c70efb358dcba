//! What concerns several tables: names that lead nowhere, addresses taken twice, hash keys that a listener cannot provide.

mod acme;
mod machines;
mod recovery;
mod scaling;
mod vip;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::error::Problem;
use crate::model::{HashKey, PoolName};
use crate::names::nearest;
use crate::parse::{ParsedApi, ParsedListener, ParsedPool};
use crate::reader::{Placed, Table};

pub(crate) use acme::acme;
pub(crate) use machines::machines;
pub(crate) use recovery::recoveries;
pub(crate) use scaling::{World, scaling};
pub(crate) use vip::vips;

pub(crate) fn check(root: &Table<'_>, api: Option<&ParsedApi>, listeners: &[ParsedListener], pools: &[ParsedPool]) {
    let by_name: BTreeMap<&PoolName, &ParsedPool> = pools.iter().map(|parsed| (&parsed.pool.name, parsed)).collect();
    for listener in listeners {
        for pool in &listener.pools {
            match by_name.get(&pool.value) {
                None => root.report(dangling(pool, &by_name)),
                Some(parsed) => {
                    if let Some(raw) = listener.raw {
                        check_hash_key(root, raw, parsed, pool);
                        check_upstream_protocol(root, raw, parsed, pool);
                        check_udp(root, raw, parsed, pool);
                        check_session(root, raw, parsed, pool);
                    }
                }
            }
        }
    }
    check_binds(root, api, listeners);
}

fn dangling(mention: &Placed<PoolName>, pools: &BTreeMap<&PoolName, &ParsedPool>) -> Problem {
    let Placed { value: name, span, path } = mention;
    let names = || pools.keys().map(|name| &*name.0);
    let help = match nearest(&name.0, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if pools.is_empty() => format!("there is no pool yet: add [pool.{name}]"),
        None => {
            let some: Vec<&str> = names().take(10).collect();
            format!("the pools are: {}{}", some.join(", "), if pools.len() > some.len() { ", ..." } else { "" })
        }
    };
    Problem::new(span.clone(), path, format!("there is no pool {:?}", name.0)).help(help).needs_whole_file()
}

fn check_hash_key(root: &Table<'_>, raw: &str, pool: &ParsedPool, used: &Placed<PoolName>) {
    if let Some(Placed { value: key, span, path }) = pool.hash_key.as_ref().filter(|key| key.value != HashKey::Source) {
        let message = format!("{:?} cannot be hashed for a {raw} listener, which sees no requests", key.to_string());
        let problem = Problem::new(span.clone(), path, message).note(used.span.clone(), format!("a {raw} listener uses this pool"));
        root.report(problem.help("write `key = \"source\"`").needs_whole_file());
    }
}

fn check_upstream_protocol(root: &Table<'_>, raw: &str, pool: &ParsedPool, used: &Placed<PoolName>) {
    if let Some(Placed { value, span, path }) = &pool.upstream_protocol {
        let message = format!("{:?} cannot be spoken for a {raw} listener, which passes on what its clients say", value.word());
        let problem = Problem::new(span.clone(), path, message).note(used.span.clone(), format!("a {raw} listener uses this pool"));
        root.report(problem.help("remove it, or use another pool").needs_whole_file());
    }
}

/// What needs connections cannot be had with datagrams.
fn check_udp(root: &Table<'_>, raw: &str, pool: &ParsedPool, used: &Placed<PoolName>) {
    let Some(Placed { span, path, .. }) = pool.proxy_protocol.as_ref().filter(|_| raw == "udp") else { return };
    let problem = Problem::new(span.clone(), path, "a flow of datagrams has no beginning to announce a client in");
    let problem = problem.note(used.span.clone(), "a udp listener uses this pool");
    root.report(problem.help("give the udp listener a pool of its own without `proxy_protocol`").needs_whole_file());
}

/// A cookie needs requests; a flow of datagrams stays where it is by itself.
fn check_session(root: &Table<'_>, raw: &str, pool: &ParsedPool, used: &Placed<PoolName>) {
    let Some(Placed { value: word, span, path }) = &pool.session else { return };
    let (message, help) = match (raw, *word) {
        ("udp", _) => (
            "flows of datagrams have no sessions, they stay on their endpoint by themselves",
            "use balance = \"maglev\" for clients that come back",
        ),
        (_, "cookie") => ("a tcp listener sees no cookies", "write `type = \"source\"`"),
        _ => return,
    };
    let problem = Problem::new(span.clone(), path, message).note(used.span.clone(), format!("a {raw} listener uses this pool"));
    root.report(problem.help(help).needs_whole_file());
}

/// An address can be bound once for TCP and once for UDP, and a wildcard takes all addresses of its family.
fn check_binds(root: &Table<'_>, api: Option<&ParsedApi>, listeners: &[ParsedListener]) {
    let of_api = api.and_then(|parsed| parsed.bind.as_ref());
    // By port, so that many listeners do not cost the square of their number.
    let mut by_port: BTreeMap<(bool, u16), Vec<&Placed<SocketAddr>>> = BTreeMap::new();
    let of_listeners = listeners.iter().flat_map(|listener| listener.binds.iter().map(|bind| (listener.raw == Some("udp"), bind)));
    for (is_udp, bind) in of_api.into_iter().map(|bind| (false, bind)).chain(of_listeners) {
        by_port.entry((is_udp, bind.value.port())).or_default().push(bind);
    }
    for binds in by_port.values_mut() {
        binds.sort_by_key(|bind| bind.span.start);
        for (index, Placed { value: address, span, path }) in binds.iter().enumerate() {
            let Some(first) = binds[..index].iter().find(|first| overlap(first.value, *address)) else { continue };
            let (message, wildcard) = match first.value {
                same if same == *address => (format!("{address} is bound twice"), false),
                other => (format!("{address} overlaps with {other}"), other.ip().is_unspecified()),
            };
            let rule = if wildcard { "; a wildcard takes every address of its family" } else { "" };
            let note = format!("{} is bound by `{}`{rule}", first.value, first.path);
            root.report(Problem::new(span.clone(), path, message).note(first.span.clone(), note));
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a == b || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())))
}
