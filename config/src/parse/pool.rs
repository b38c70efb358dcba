//! `[pool.NAME]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use crate::address::parse_endpoint_address;
use crate::error::Problem;
use crate::model::{
    AdminState, Balance, BelowMinHealthy, Ejection, Endpoint, EndpointAddress, HashKey, HashPolicy, Pool, PoolLimits, PoolTimeouts,
    ProxyVersion, UpstreamProtocol, Weight,
};
use crate::parse::edge::{proxy_version, session};
use crate::parse::health;
use crate::parse::resilience::{adaptive, breaker, retry, success_rate};
use crate::parse::scaling::{ScalingMentions, scaling};
use crate::parse::tls::endpoint_tls;
use crate::reader::{Field, Named, Placed, Table};

/// A pool with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedPool {
    /// The pool.
    pub(crate) pool: Pool,
    /// The hash key with its place, if it could be read.
    pub(crate) hash_key: Option<Placed<HashKey>>,
    /// What its endpoints speak, with its place, where it is not the usual.
    pub(crate) upstream_protocol: Option<Placed<UpstreamProtocol>>,
    /// What its scaling names.
    pub(crate) scaling: ScalingMentions,
    /// How it announces clients, with its place.
    pub(crate) proxy_protocol: Option<Placed<ProxyVersion>>,
    /// By what it remembers clients, with its place.
    pub(crate) session: Option<Placed<&'static str>>,
}

pub(super) fn pool(named: &Named<'_>) -> ParsedPool {
    let table = &named.table;
    let (balance, hash_key) = balance(table, named.name);
    let mut mentions = ScalingMentions::default();
    let upstream_protocol = match table.choice("upstream_protocol") {
        Some("h2") => UpstreamProtocol::Http2,
        _ => UpstreamProtocol::Http1,
    };
    let pool = Pool {
        name: named.name.into(),
        endpoints: endpoints(table),
        balance,
        slow_start: table.time("slow_start"),
        min_healthy: table.count_u32("min_healthy").unwrap_or(1),
        below_min_healthy: match table.choice("below_min_healthy") {
            Some("fail-closed") => BelowMinHealthy::FailClosed,
            _ => BelowMinHealthy::FailOpen,
        },
        timeouts: timeouts(&table.table_or_empty("timeouts")),
        limits: limits(&table.table_or_empty("limits")),
        health: table.table("health").and_then(|health| health::health(&health, table)),
        ejection: ejection(table),
        scaling: table.table("scaling").and_then(|table| scaling(&table, &mut mentions)).map(Arc::new),
        upstream_protocol,
        tls: table.table("tls").map(|table| Box::new(endpoint_tls(&table))),
        proxy_protocol: proxy_version(table),
        retry: retry(&table.table_or_empty("retry")),
        breaker: table.table("breaker").map(|table| breaker(&table)),
        adaptive: table.table("adaptive").map(|table| adaptive(&table)),
        session: table.table("session").and_then(|table| session(&table)).map(Box::new),
    };
    let session = pool.session.as_ref().map(|session| table.placed("session", session.memory.word()));
    let unusual = (upstream_protocol != UpstreamProtocol::Http1).then(|| table.placed("upstream_protocol", upstream_protocol));
    let proxy_protocol = pool.proxy_protocol.map(|version| table.placed("proxy_protocol", version));
    check_announced(table, &pool);
    ParsedPool { pool, hash_key, upstream_protocol: unusual, scaling: mentions, proxy_protocol, session }
}

/// A connection over HTTP/2 carries many clients, and announces none.
fn check_announced(table: &Table<'_>, pool: &Pool) {
    if pool.proxy_protocol.is_some() && pool.upstream_protocol == UpstreamProtocol::Http2 {
        let problem = table.problem("proxy_protocol", "a connection over HTTP/2 carries many clients, and can announce none of them");
        let problem = problem.note(table.span_of("upstream_protocol"), "HTTP/2 is spoken");
        table.report(problem.help("remove one of them; `headers.x_forwarded` of the listener tells who the client is").needs_whole_file());
    }
}

fn endpoints(table: &Table<'_>) -> Vec<Endpoint> {
    let items = table.field("endpoints").and_then(|field| field.items()).unwrap_or_default();
    let mut seen: BTreeMap<EndpointAddress, Range<usize>> = BTreeMap::new();
    let mut endpoints = Vec::new();
    for item in items {
        let Some((endpoint, at)) = endpoint(&item) else { continue };
        if let Some(first) = seen.get(&endpoint.address) {
            let problem = at.problem(format!("endpoint {} is in this pool twice", endpoint.address));
            at.report(problem.note(first.clone(), "it is here first").help("give it a weight instead: { address = \"...\", weight = 2 }"));
            continue;
        }
        seen.insert(endpoint.address.clone(), at.span());
        endpoints.push(endpoint);
    }
    endpoints
}

/// An endpoint, and the field that holds its address.
fn endpoint<'a>(item: &Field<'a>) -> Option<(Endpoint, Field<'a>)> {
    if let Some(text) = item.as_text() {
        let address = item.checked(parse_endpoint_address(text))?;
        return Some((Endpoint { address, weight: Weight::ONE, tier: 0, state: AdminState::Ready }, item.clone()));
    }
    let Some(table) = item.as_table() else {
        return item.wrong_type("addresses as strings, or tables such as { address = \"10.0.0.11:8080\", weight = 2 }");
    };
    let weight = table.count_u32("weight").and_then(Weight::new);
    let tier = table.count_u32("tier").and_then(|tier| u8::try_from(tier).ok());
    let field = table.field("address")?;
    let address = field.checked(parse_endpoint_address(field.text()?))?;
    let endpoint = Endpoint { address, weight: weight.unwrap_or(Weight::ONE), tier: tier.unwrap_or(0), state: AdminState::Ready };
    Some((endpoint, field))
}

/// The algorithm, and the hash key with its place.
fn balance(table: &Table<'_>, name: &str) -> (Balance, Option<Placed<HashKey>>) {
    let word = table.choice("balance");
    let hash = table.table("hash");
    let policy = hash.as_ref().and_then(hash_policy);
    let hash_key = hash.as_ref().zip(policy.as_ref()).map(|(hash, policy)| hash.placed("key", policy.key.clone()));
    // A word that could not be read was reported; whether `hash` fits it is not known.
    let balance = match word {
        Some("maglev") => {
            if !table.has("hash") {
                let problem = table.problem("balance", "maglev needs to know what to hash");
                table.report(problem.help(format!("add `key = \"source\"` under [pool.{name}.hash]")).needs_whole_file());
            }
            policy.map(Balance::Maglev)
        }
        Some(other) => {
            if table.has("hash") {
                let problem =
                    Problem::new(table.key_span("hash"), table.path_of("hash"), format!("nothing is hashed with balance = {other:?}"));
                let problem =
                    if table.has("balance") { problem.note(table.span_of("balance"), "the algorithm is chosen here") } else { problem };
                table.report(
                    problem.help(format!("set `balance = \"maglev\"` under [pool.{name}], or remove the table")).needs_whole_file(),
                );
            }
            Some(match other {
                "round-robin" => Balance::RoundRobin,
                "random" => Balance::Random,
                "peak-ewma" => Balance::PeakEwma,
                _ => Balance::LeastRequest,
            })
        }
        None => None,
    };
    (balance.unwrap_or(Balance::LeastRequest), hash_key)
}

fn hash_policy(table: &Table<'_>) -> Option<HashPolicy> {
    let load_bound_percent = table.count_u32("load_bound").filter(|percent| *percent > 0);
    let field = table.field("key")?;
    let key = field.checked(parse_hash_key(field.text()?))?;
    Some(HashPolicy { key, load_bound_percent })
}

fn parse_hash_key(text: &str) -> Result<HashKey, String> {
    let named = |kind: &str, name: &str| match is_token(name) {
        true => Ok(name.to_string()),
        false => Err(format!("{name:?} is not a {kind} name; for example \"{kind}:session\"")),
    };
    match text.split_once(':') {
        None if text == "source" => Ok(HashKey::Source),
        // Header names are compared without case (RFC 9110 section 5.1), cookie names are not.
        Some(("header", name)) => named("header", name).map(|name| HashKey::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) => named("cookie", name).map(HashKey::Cookie),
        Some(("query", "")) => Err("a query parameter has a name; for example \"query:user\"".into()),
        Some(("query", name)) => Ok(HashKey::Query(name.to_owned())),
        None if text == "path" => Ok(HashKey::Path),
        _ => Err(format!("{text:?} cannot be hashed; write \"source\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\" or \"path\"")),
    }
}

/// A token of RFC 9110 section 5.6.2: what header, cookie and method names are made of.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn timeouts(table: &Table<'_>) -> PoolTimeouts {
    let default = PoolTimeouts::default();
    PoolTimeouts {
        connect: table.time("connect").unwrap_or(default.connect),
        first_byte: table.time("first_byte").unwrap_or(default.first_byte),
        idle: table.time("idle").unwrap_or(default.idle),
        keep_alive: table.time("keep_alive").unwrap_or(default.keep_alive),
        total: table.time("total").filter(|total| !total.is_zero()),
    }
}

fn limits(table: &Table<'_>) -> PoolLimits {
    let default = PoolLimits::default();
    PoolLimits {
        connections_per_endpoint: table.count_non_zero("connections_per_endpoint"),
        queue_max: table.count_u32("queue_max").unwrap_or(default.queue_max),
        queue_timeout: table.time("queue_timeout").unwrap_or(default.queue_timeout),
        retries_max: table.count_u32("retries_max").unwrap_or(default.retries_max),
        idle_connections_max: table.count_u32("idle_connections_max").unwrap_or(default.idle_connections_max),
    }
}

fn ejection(table: &Table<'_>) -> Option<Ejection> {
    let default = Ejection::default();
    let Some(field) = table.field("ejection") else { return Some(default) };
    let table = match field.table_or_flag() {
        Ok(table) => table?,
        Err(flag) => return flag.then_some(default),
    };
    let time = table.time("time").unwrap_or(default.time);
    let time_max = table.time("time_max").unwrap_or(default.time_max.max(time));
    if time_max < time {
        let problem = table.problem("time_max", "the longest ejection is shorter than the first");
        table.report(problem.note(table.span_of("time"), "`time` is the first").needs_whole_file());
    }
    Some(Ejection {
        consecutive_failures: table.count_non_zero("consecutive_failures").unwrap_or(NonZeroU32::MIN),
        consecutive_errors: table.count_non_zero("consecutive_errors"),
        success_rate: table.table("success_rate").map(|table| success_rate(&table)),
        time,
        time_max,
        share_max_percent: table.count_u32("share_max").unwrap_or(default.share_max_percent),
    })
}
