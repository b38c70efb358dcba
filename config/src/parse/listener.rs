//! `[listener.NAME]`

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use crate::address::{parse_bind_address, parse_host_name};
use crate::error::Problem;
use crate::model::{ForwardHeaders, HttpLimits, HttpListener, Listener, ListenerName, ListenerTimeouts, PoolName, Protocol, Route};
use crate::parse::pool::is_token;
use crate::parse::tls::listener_tls;
use crate::reader::{Field, Named, Placed, Table};

/// A listener with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedListener {
    /// The name of the table.
    pub(crate) name: ListenerName,
    /// `None` if something it cannot be without was wrong.
    pub(crate) listener: Option<Listener>,
    /// `tcp` or `udp`, if not `http`.
    pub(crate) raw: Option<&'static str>,
    /// Each address with its place.
    pub(crate) binds: Vec<Placed<SocketAddr>>,
    /// Each mention of a pool with its place.
    pub(crate) pools: Vec<Placed<PoolName>>,
}

/// Headers that a request id cannot travel in, as they mean something to the message itself.
const RESERVED_HEADERS: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

pub(super) fn listener(named: &Named<'_>) -> ParsedListener {
    let table = &named.table;
    let binds = binds(table);
    let mut pools = Vec::new();
    let mut pool_of = |table: &Table<'_>| {
        let field = table.field("pool")?;
        let pool = PoolName::from(field.text()?);
        pools.push(field.placed(pool.clone()));
        Some(pool)
    };
    let pool = pool_of(table);
    let raw = table.choice("protocol").filter(|protocol| *protocol != "http");
    let protocol = if let Some(raw) = raw {
        let what = if raw == "tcp" { "bytes" } else { "datagrams" };
        let refused = ["route", "limits", "headers", "tls", "redirect_https", "http2"];
        table.refuse(&refused, &format!("on a {raw} listener, which passes {what} as they come"));
        if raw == "tcp" { Protocol::Tcp } else { Protocol::Udp }
    } else {
        let redirect_https = table.count("redirect_https").and_then(|port| u16::try_from(port).ok()).and_then(NonZeroU16::new);
        if table.has("redirect_https") {
            table.refuse(&["pool", "route", "tls"], "on a listener that sends every request elsewhere");
        }
        let http2 = table.flag("http2").unwrap_or(true);
        let routes = routes(table, &mut pool_of);
        Protocol::Http(HttpListener {
            routes,
            limits: limits(&table.table_or_empty("limits")),
            headers: headers(&table.table_or_empty("headers")),
            tls: table.table("tls").map(|table| Box::new(listener_tls(&table, http2))),
            redirect_https,
            http2,
        })
    };
    if !table.has("pool") && (raw.is_some() || !(table.has("route") || table.has("redirect_https"))) {
        let name = named.name;
        let (why, help) = match raw {
            Some(raw) => (format!("a {raw} listener needs a pool"), format!("add `pool = \"NAME\"` under [listener.{name}]")),
            None => (
                "this listener leads nowhere: it has no pool and no route".into(),
                format!("add `pool = \"NAME\"`, or [[listener.{name}.route]]"),
            ),
        };
        table.report(table.problem("pool", why).help(help).needs_whole_file());
    }
    let connections_max = table.count_non_zero("connections_max").unwrap_or(NonZeroU32::MIN);
    let timeouts = timeouts(&table.table_or_empty("timeouts"));
    let addresses: Vec<SocketAddr> = binds.iter().map(|bind| bind.value).collect();
    let listener =
        (!addresses.is_empty()).then(|| Listener { name: named.name.into(), binds: addresses, protocol, pool, connections_max, timeouts });
    ParsedListener { name: named.name.into(), listener, raw, binds, pools }
}

fn binds(table: &Table<'_>) -> Vec<Placed<SocketAddr>> {
    let Some(field) = table.field("bind") else { return Vec::new() };
    let items = field.one_or_many();
    if items.is_empty() {
        field.report(field.problem("`bind` is an empty list").help("a listener needs an address, such as \"10.0.0.100:80\""));
    }
    let read = |item: &Field<'_>| {
        let address = item.checked(parse_bind_address(item.text()?))?;
        Some(item.placed(address))
    };
    items.iter().filter_map(read).collect()
}

fn timeouts(table: &Table<'_>) -> ListenerTimeouts {
    let default = ListenerTimeouts::default();
    ListenerTimeouts {
        head: table.time("head").unwrap_or(default.head),
        idle: table.time("idle").unwrap_or(default.idle),
        keep_alive: table.time("keep_alive").unwrap_or(default.keep_alive),
        tunnel: table.time("tunnel").unwrap_or(default.tunnel),
        flow: table.time("flow").unwrap_or(default.flow),
        flow_drain: table.time("flow_drain").unwrap_or(default.flow_drain),
    }
}

fn limits(table: &Table<'_>) -> HttpLimits {
    let default = HttpLimits::default();
    let size = |name| table.size(name).and_then(|bytes| usize::try_from(bytes).ok());
    let head_bytes_max = size("head_bytes_max").unwrap_or(default.head_bytes_max);
    let line_bytes_max = size("line_bytes_max").unwrap_or(default.line_bytes_max);
    if table.has("line_bytes_max") && line_bytes_max > head_bytes_max {
        let problem =
            table.problem("line_bytes_max", format!("one line of {line_bytes_max} bytes cannot fit into a head of {head_bytes_max}"));
        table.report(problem.note(table.span_of("head_bytes_max"), "`head_bytes_max` bounds all lines together").needs_whole_file());
    }
    HttpLimits {
        head_bytes_max,
        headers_max: table.count("headers_max").and_then(|n| usize::try_from(n).ok()).unwrap_or(default.headers_max),
        line_bytes_max: line_bytes_max.min(head_bytes_max),
        body_bytes_max: table.size("body_bytes_max").filter(|bytes| *bytes > 0),
        retry_bytes_max: size("retry_bytes_max").unwrap_or(default.retry_bytes_max),
        requests_per_connection_max: table.count_non_zero("requests_per_connection_max"),
        streams_max: table.count_non_zero("streams_max").unwrap_or(default.streams_max),
    }
}

fn headers(table: &Table<'_>) -> ForwardHeaders {
    let default = ForwardHeaders::default();
    let request_id = table.text("request_id").unwrap_or_default().to_ascii_lowercase();
    if !request_id.is_empty() && !is_token(&request_id) {
        table.report(
            table
                .problem("request_id", format!("{request_id:?} is not a header name"))
                .help("for example \"x-request-id\", or \"\" for none"),
        );
    } else if RESERVED_HEADERS.contains(&request_id.as_str()) {
        let problem = table.problem("request_id", format!("{request_id:?} has a meaning of its own and cannot carry the request id"));
        table.report(problem.help("for example \"x-request-id\""));
    }
    ForwardHeaders {
        x_forwarded: table.flag("x_forwarded").unwrap_or(default.x_forwarded),
        forwarded: table.flag("forwarded").unwrap_or(default.forwarded),
        via: table.flag("via").unwrap_or(default.via),
        request_id: Some(request_id).filter(|name| !name.is_empty()),
    }
}

/// A route before its pool is known to be readable, so that a wrong pool does not hide what the route covers.
struct Match<'a> {
    host: Option<String>,
    path: Option<String>,
    table: Table<'a>,
}

fn routes<'a>(table: &Table<'a>, pool_of: &mut impl FnMut(&Table<'_>) -> Option<PoolName>) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut matches: Vec<Match<'a>> = Vec::new();
    for route in table.field("route").map(|field| field.tables()).unwrap_or_default() {
        let pool = pool_of(&route);
        let host = route.field("host").map(|field| field.text().and_then(|text| field.checked(parse_route_host(text))));
        let path = route.field("path").map(|field| field.text().and_then(|text| field.checked(parse_route_path(text))));
        // What was written but could not be read must not count as absent, which matches everything.
        let readable = !matches!(host, Some(None)) && !matches!(path, Some(None));
        let (host, path) = (host.flatten(), path.flatten());
        if readable {
            let found = Match { host: host.clone(), path: path.clone(), table: route.clone() };
            if let Some(index) = matches.iter().position(|earlier| covers(earlier, &found)) {
                let earlier = &matches[index];
                let problem =
                    Problem::new(route.span(), route.path(), "this route can never match, as an earlier one takes everything it would");
                let note = format!("this route takes {}; the first match wins", describe(earlier));
                table.report(problem.note(earlier.table.span(), note).help("put the narrower route first, or remove it"));
            }
            matches.push(found);
        }
        routes.extend(pool.map(|pool| Route { host, path, pool }));
    }
    let everything = matches.iter().find(|m| m.host.is_none() && m.path.as_deref().is_none_or(|path| path == "/"));
    if let Some(everything) = everything
        && table.has("pool")
    {
        let problem = table.problem("pool", "this pool can never be reached, as a route takes everything");
        table.report(
            problem.note(everything.table.span(), "this route has no host and no narrower path").help("remove the pool or the route"),
        );
    }
    routes
}

/// Whether the earlier route takes every request that the later one would. A path of `/` counts as every path: all that remains
/// is `OPTIONS *`, which nobody routes.
fn covers(earlier: &Match<'_>, later: &Match<'_>) -> bool {
    let host = earlier.host.is_none() || earlier.host == later.host;
    let path = match (earlier.path.as_deref(), later.path.as_deref()) {
        (None | Some("/"), _) => true,
        (Some(earlier), Some(later)) => later.starts_with(earlier),
        (Some(_), None) => false,
    };
    host && path
}

fn describe(route: &Match<'_>) -> String {
    match (&route.host, &route.path) {
        (None, None) => "every request".into(),
        (Some(host), None) => format!("every path of {host}"),
        (None, Some(path)) => format!("every host with a path beginning with {path}"),
        (Some(host), Some(path)) => format!("{host} with a path beginning with {path}"),
    }
}

/// A host as requests name it, lower case, without port; an IPv6 address in brackets.
fn parse_route_host(text: &str) -> Result<String, String> {
    if let Some(ip) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match ip.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(format!("[{ip}]")),
            Err(_) => Err(format!("{ip:?} is not an IPv6 address")),
        };
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => return Ok(ip.to_string()),
        Ok(IpAddr::V6(ip)) => return Err(format!("{text:?} lacks brackets; write \"[{ip}]\", as requests do")),
        Err(_) => {}
    }
    if text.contains('*') {
        return Err(format!("{text:?} is a pattern, but a host is matched exactly; write one route for each host"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("{text:?} has a port, but a host is matched without; write \"{host}\""));
    }
    parse_host_name(text)
}

fn parse_route_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("a path begins with a slash, found {text:?}; write \"/{text}\""));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        Some(c @ ('?' | '#')) => Err(format!("{text:?} has {c:?} in it, but only the path is matched; leave out what follows it")),
        Some(c) => Err(format!("{text:?} has {c:?} in it, which requests write percent-encoded; write it so here too")),
        None => Ok(text.into()),
    }
}
