//! What concerns several tables: names that lead nowhere, addresses taken twice, hash keys that a listener cannot provide.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use crate::error::Problem;
use crate::model::{Balance, HashKey, PoolName};
use crate::parse::{ParsedApi, ParsedListener, ParsedPool};
use crate::reader::{Table, nearest};

pub(crate) fn check(root: &Table<'_>, api: Option<&ParsedApi>, listeners: &[ParsedListener], pools: &[ParsedPool]) {
    let by_name: BTreeMap<&PoolName, &ParsedPool> = pools.iter().map(|parsed| (&parsed.pool.name, parsed)).collect();
    for listener in listeners {
        for (name, span, path) in &listener.pools {
            match by_name.get(name) {
                None => root.report(dangling(name, span.clone(), path, &by_name)),
                Some(pool) if listener.is_tcp => check_hash_key_of_tcp(root, pool, span.clone()),
                Some(_) => {}
            }
        }
    }
    check_binds(root, api, listeners);
}

fn dangling(name: &PoolName, span: Range<usize>, path: &str, pools: &BTreeMap<&PoolName, &ParsedPool>) -> Problem {
    let names = || pools.keys().map(|name| &*name.0);
    let help = match nearest(&name.0, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if pools.is_empty() => format!("there is no pool yet: add [pool.{name}]"),
        None => {
            let some: Vec<&str> = names().take(10).collect();
            format!("the pools are: {}{}", some.join(", "), if pools.len() > some.len() { ", ..." } else { "" })
        }
    };
    Problem::new(span, path, format!("there is no pool {:?}", name.0)).help(help).needs_whole_file()
}

fn check_hash_key_of_tcp(root: &Table<'_>, pool: &ParsedPool, used_at: Range<usize>) {
    let Balance::Maglev(policy) = &pool.pool.balance else { return };
    if let (HashKey::Header(_) | HashKey::Cookie(_), Some((span, path))) = (&policy.key, &pool.hash_key) {
        let problem = Problem::new(
            span.clone(),
            path,
            format!("{:?} cannot be hashed for a tcp listener, which sees no headers", policy.key.to_string()),
        );
        root.report(problem.note(used_at, "a tcp listener uses this pool").help("write `key = \"source\"`").needs_whole_file());
    }
}

/// An address can be bound once, and a wildcard takes all addresses of its family.
fn check_binds(root: &Table<'_>, api: Option<&ParsedApi>, listeners: &[ParsedListener]) {
    let of_api = api.and_then(|parsed| Some((parsed.api.as_ref()?.bind, parsed.bind_span.clone(), parsed.bind_path.clone())));
    let all = of_api.iter().chain(listeners.iter().flat_map(|listener| &listener.binds));
    // By port, so that many listeners do not cost the square of their number.
    let mut by_port: BTreeMap<u16, Vec<&(SocketAddr, Range<usize>, String)>> = BTreeMap::new();
    for bind in all {
        by_port.entry(bind.0.port()).or_default().push(bind);
    }
    for binds in by_port.values_mut() {
        binds.sort_by_key(|(_, span, _)| span.start);
        for (index, (address, span, path)) in binds.iter().enumerate() {
            let Some((first, first_span, first_path)) = binds[..index].iter().find(|(first, ..)| overlap(*first, *address)) else {
                continue;
            };
            let message = match first == address {
                true => format!("{address} is bound twice"),
                false => format!("{address} overlaps with {first}"),
            };
            let wildcard =
                if first.ip().is_unspecified() && first != address { "; a wildcard takes every address of its family" } else { "" };
            let note = format!("{first} is bound by `{first_path}`{wildcard}");
            root.report(Problem::new(span.clone(), path, message).note(first_span.clone(), note));
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a == b || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())))
}
