//! `[listener.NAME]`

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

use crate::address::parse_bind_address;
use crate::model::{
    AmbiguousPaths, AuthorityName, ForwardHeaders, HttpLimits, HttpListener, Listener, ListenerName, ListenerTimeouts, PoolName, Protocol,
};
use crate::parse::edge::announcers;
use crate::parse::limit::{access, networks, rate_limits};
use crate::parse::pool::is_token;
use crate::parse::route::{routes, tcp_routes};
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
    /// The authority of each certificate that is ordered, with its place.
    pub(crate) authorities: Vec<Placed<AuthorityName>>,
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
    let (mut pools, mut authorities) = (Vec::new(), Vec::new());
    let pool = table.field("pool").and_then(|field| {
        let pool = PoolName::from(field.text()?);
        pools.push(field.placed(pool.clone()));
        Some(pool)
    });
    let raw = table.choice("protocol").filter(|protocol| *protocol != "http");
    let protocol = if let Some(raw) = raw {
        let what = if raw == "tcp" { "bytes" } else { "datagrams" };
        let refused = ["ambiguous_paths", "rate_limit", "limits", "headers", "tls", "redirect_https", "http2"];
        table.refuse(&refused, &format!("on a {raw} listener, which passes {what} as they come"));
        if raw == "tcp" {
            Protocol::Tcp(tcp_routes(table, &mut pools))
        } else {
            table.refuse(&["route"], "on a udp listener, which passes datagrams as they come");
            Protocol::Udp
        }
    } else {
        let redirect_https = table.count("redirect_https").and_then(|port| u16::try_from(port).ok()).and_then(NonZeroU16::new);
        if table.has("redirect_https") {
            table.refuse(&["pool", "route", "tls"], "on a listener that sends every request elsewhere");
        }
        let http2 = table.flag("http2").unwrap_or(true);
        let routes = routes(table, &mut pools);
        Protocol::Http(HttpListener {
            rate_limits: rate_limits(table, &routes),
            routes,
            ambiguous_paths: match table.choice("ambiguous_paths") {
                Some("keep") => AmbiguousPaths::Keep,
                _ => AmbiguousPaths::Refuse,
            },
            limits: limits(&table.table_or_empty("limits")),
            headers: headers(&table.table_or_empty("headers")),
            tls: table.table("tls").map(|table| Box::new(listener_tls(&table, http2, &mut authorities))),
            redirect_https,
            http2,
        })
    };
    if !table.has("pool") && (raw == Some("udp") || !(table.has("route") || table.has("redirect_https"))) {
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
    if raw == Some("udp") {
        table.refuse(&["allow", "deny"], "on a udp listener, whose clients can claim any address");
        table.refuse(&["connections_per_source"], "on a udp listener, which has no connections");
        table.refuse(&["proxy_protocol"], "on a udp listener, whose datagrams have no beginning to announce a client in");
    }
    let access = access(table);
    let addresses: Vec<SocketAddr> = binds.iter().map(|bind| bind.value).collect();
    let listener = (!addresses.is_empty()).then(|| Listener {
        name: named.name.into(),
        binds: addresses,
        protocol,
        pool,
        connections_max,
        connections_per_source: table.count_non_zero("connections_per_source"),
        timeouts,
        access,
        announcers: announcers(table),
    });
    ParsedListener { name: named.name.into(), listener, raw, binds, pools, authorities }
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
        trusted: networks(table, "trusted"),
    }
}
