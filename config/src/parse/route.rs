//! `[[listener.NAME.route]]`

use std::net::{IpAddr, Ipv6Addr};

use crate::address::parse_host_name;
use crate::error::Problem;
use crate::keys::ANSWER_BYTES_MAX;
use crate::model::{
    FieldPattern, FieldWant, FixedAnswer, HostPattern, Mirror, Network, PathPattern, Pattern, PoolName, Redirect, Route, RouteAction,
    WeightedPool,
};
use crate::names::check_label;
use crate::parse::health::regex_reason;
use crate::parse::limit::changes;
use crate::parse::pool::is_token;
use crate::reader::{Field, Placed, Table};
use crate::url_path::normal_path;

/// A route whose conditions could be read, so that a wrong action does not hide what it covers.
struct Seen<'a> {
    route: Route,
    table: Table<'a>,
}

/// The routes of a listener; each mention of a pool is added to `pools`.
pub(super) fn routes(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut seen: Vec<Seen<'_>> = Vec::new();
    for table in table.field("route").map(|field| field.tables()).unwrap_or_default() {
        let action = action(&table, pools);
        // What was written but could not be read must not count as absent, which matches everything.
        if let Some(route) = conditions(&table) {
            check_name(&table, &route, &seen);
            check_covered(&table, &route, &seen);
            seen.push(Seen { route: route.clone(), table: table.clone() });
            let changes = changes(&table, route.path.as_ref());
            let mirror = table.table("mirror").and_then(|table| mirror(&table, pools));
            if mirror.is_some() {
                table.refuse(&["redirect", "answer"], "on a route whose requests are mirrored");
            }
            let priority = table.count_u32("priority").map_or(Route::PRIORITY, |priority| priority as u8);
            routes.extend(action.map(|action| Route { action, mirror, changes, priority, ..route }));
        }
    }
    let everything = seen.iter().find(|seen| covers(&seen.route, &blank()));
    if let Some(everything) = everything
        && table.has("pool")
    {
        let problem = table.problem("pool", "this pool can never be reached, as a route takes everything");
        let note = "this route has no condition, or none but a path of /";
        table.report(problem.note(everything.table.span(), note).help("remove the pool or the route"));
    }
    routes
}

/// Keys of a route that look at a request, or answer or change one.
const OF_REQUESTS: [&str; 16] = [
    "mirror",
    "host",
    "path",
    "path_exact",
    "path_regex",
    "method",
    "header",
    "cookie",
    "query",
    "redirect",
    "answer",
    "rewrite_prefix",
    "rewrite_regex",
    "rewrite_location",
    "request",
    "response",
];

/// The routes of a listener that sees no requests.
pub(super) fn tcp_routes(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Vec<Route> {
    for route in table.field("route").map(|field| field.tables()).unwrap_or_default() {
        route.refuse(&OF_REQUESTS, "on a tcp listener, which sees no requests: it can look at `sni` and `source`");
    }
    routes(table, pools)
}

/// A route without a condition.
fn blank() -> Route {
    Route {
        name: None,
        hosts: Vec::new(),
        path: None,
        methods: Vec::new(),
        headers: Vec::new(),
        cookies: Vec::new(),
        query: Vec::new(),
        sources: Vec::new(),
        server_names: Vec::new(),
        priority: Route::PRIORITY,
        action: RouteAction::Pool(PoolName::from("")),
        mirror: None,
        changes: None,
    }
}

fn mirror(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Option<Mirror> {
    let field = table.field("pool")?;
    let pool = PoolName::from(field.text()?);
    pools.push(field.placed(pool.clone()));
    Some(Mirror { pool, percent: table.count_u32("percent").unwrap_or(100) })
}

/// `None`: something was wrong, and was reported.
fn conditions(table: &Table<'_>) -> Option<Route> {
    let name = match table.text("name") {
        Some(name) => table.field("name").and_then(|field| {
            field.checked(check_label(name).map(|()| Some(name.to_owned())).map_err(|why| format!("the name {name:?} {why}")))
        })?,
        None => None,
    };
    let (hosts, path) = (list(table, "host", parse_host_pattern), path(table));
    let (methods, sources) = (list(table, "method", parse_method), list(table, "source", parse_network));
    let server_names = list(table, "sni", parse_host_pattern);
    let headers = fields(table, "header", |name| match is_token(name) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(format!("{name:?} is not a header name; for example \"x-beta\"")),
    });
    let cookies = fields(table, "cookie", |name| match is_token(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is not the name of a cookie; for example \"group\"")),
    });
    let query = fields(table, "query", |name| match name.is_empty() {
        true => Err("a query parameter has a name; for example \"debug\"".to_owned()),
        false => Ok(name.to_owned()),
    });
    Some(Route {
        name,
        hosts: hosts?,
        path: path?,
        methods: methods?,
        headers: headers?,
        cookies: cookies?,
        query: query?,
        sources: sources?,
        server_names: server_names?,
        ..blank()
    })
}

fn list<T>(table: &Table<'_>, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    let Some(field) = table.field(key) else { return Some(Vec::new()) };
    let items = field.one_or_many();
    if items.is_empty() {
        field.report(field.problem(format!("`{key}` is an empty list, which nothing matches")).help("leave it out to match everything"));
    }
    let read = |item: &Field<'_>| item.checked(parse(item.text()?));
    items.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn path(table: &Table<'_>) -> Option<Option<PathPattern>> {
    let mut found = Vec::new();
    for key in ["path", "path_exact", "path_regex"] {
        let Some(field) = table.field(key) else { continue };
        let text = field.text();
        found.push(text.and_then(|text| match key {
            "path" => field.checked(parse_route_path(text)).map(PathPattern::Prefix),
            "path_exact" => field.checked(parse_route_path(text)).map(PathPattern::Exact),
            _ => pattern(&field).map(PathPattern::Regex),
        }));
        if found.len() > 1 {
            field.report(field.problem("the path is told in two ways").help("keep one of path, path_exact and path_regex"));
        }
    }
    match found.pop() {
        None => Some(None),
        Some(None) => None,
        found => found,
    }
}

fn pattern(field: &Field<'_>) -> Option<Pattern> {
    let name = field.name();
    let compiled = Pattern::new(field.text()?);
    compiled.map_err(|error| field.report(field.problem(format!("`{name}` is not a regular expression")).help(regex_reason(&error)))).ok()
}

fn fields(table: &Table<'_>, key: &str, check: fn(&str) -> Result<String, String>) -> Option<Vec<FieldPattern>> {
    let Some(field) = table.field(key) else { return Some(Vec::new()) };
    let read = |table: &Table<'_>| {
        let name = table.field("name").and_then(|field| field.checked(check(field.text()?)));
        let value = table.text("value").map(|value| FieldWant::Value(value.to_owned()));
        let regex = table.field("regex").map(|field| pattern(&field).map(FieldWant::Regex));
        let absent = table.flag("present") == Some(false);
        if absent {
            table.refuse(&["value", "regex"], "where there must be none");
        } else if value.is_some() && regex.is_some() {
            table.report(table.problem("regex", "the value is told in two ways").help("keep one of value and regex"));
        }
        let want = match (absent, value, regex) {
            (true, ..) => Some(FieldWant::Absent),
            (_, Some(value), _) => Some(value),
            (_, None, Some(regex)) => regex,
            _ => Some(FieldWant::Present),
        };
        Some(FieldPattern { name: name?, want: want? })
    };
    field.tables().iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn action(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Option<RouteAction> {
    const KEYS: [&str; 4] = ["pool", "split", "redirect", "answer"];
    let mut set = KEYS.iter().filter(|key| table.has(key));
    let Some(first) = set.next() else {
        let problem = table.problem("pool", "this route leads nowhere").needs_whole_file();
        table.report(problem.help("add `pool = \"NAME\"`, or one of split, redirect and answer"));
        return None;
    };
    for other in set {
        let problem = table.problem(other, format!("a route with `{first}` cannot have `{other}` too"));
        table.report(problem.note(table.key_span(first), "one of them").help("keep one of them, and write a second route for the other"));
    }
    match *first {
        "pool" => pool(table, pools).map(RouteAction::Pool),
        "split" => split(table, pools),
        "redirect" => table.table("redirect").and_then(|table| redirect(&table)).map(RouteAction::Redirect),
        _ => table.table("answer").and_then(|table| answer(&table)).map(RouteAction::Answer),
    }
}

fn pool(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Option<PoolName> {
    let field = table.field("pool")?;
    let pool = PoolName::from(field.text()?);
    pools.push(field.placed(pool.clone()));
    Some(pool)
}

fn split(table: &Table<'_>, pools: &mut Vec<Placed<PoolName>>) -> Option<RouteAction> {
    let field = table.field("split")?;
    let read = |table: &Table<'_>| {
        let pool = pool(table, pools);
        Some(WeightedPool { pool: pool?, weight: table.count_u32("weight")? })
    };
    let weighted: Vec<WeightedPool> = field.tables().iter().map(read).collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
    if weighted.iter().all(|pool| pool.weight == 0) {
        field.report(field.problem("no pool of this split has a weight above 0").help("give one of them a share"));
        return None;
    }
    Some(RouteAction::Split(weighted))
}

fn redirect(table: &Table<'_>) -> Option<Redirect> {
    if !["scheme", "host", "port", "path"].iter().any(|key| table.has(key)) {
        let problem = Problem::new(table.span(), table.path(), "this redirect leads back to where the client is");
        table.report(problem.help("add one of scheme, host, port and path"));
    }
    let host = table.field("host").and_then(|field| field.checked(parse_route_host(field.text()?)));
    let path = table.field("path").and_then(|field| field.checked(parse_route_path(field.text()?)));
    Some(Redirect {
        status: table.choice("status").and_then(|status| status.parse().ok())?,
        scheme: table.choice("scheme"),
        host,
        port: table.count("port").and_then(|port| u16::try_from(port).ok()),
        path,
    })
}

fn answer(table: &Table<'_>) -> Option<FixedAnswer> {
    let status = table.count("status").and_then(|status| u16::try_from(status).ok())?;
    let (body, content_type) = (table.text("body").unwrap_or_default(), table.text("content_type")?);
    if body.len() > ANSWER_BYTES_MAX {
        table.report(table.problem("body", format!("the body has {} bytes; at most {ANSWER_BYTES_MAX} are possible", body.len())));
    }
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        table.report(table.problem("body", format!("a response with status {status} has no body")).help("remove the body"));
    }
    if content_type.is_empty() || !content_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        let problem = table.problem("content_type", format!("{content_type:?} is not a media type"));
        table.report(problem.help("for example \"text/html; charset=utf-8\""));
    }
    Some(FixedAnswer { status, body: body.to_owned(), content_type: content_type.to_owned() })
}

fn check_name(table: &Table<'_>, route: &Route, seen: &[Seen<'_>]) {
    let taken = seen.iter().find(|other| other.route.name.is_some() && other.route.name == route.name);
    if let (Some(name), Some(other)) = (&route.name, taken) {
        let problem = table.problem("name", format!("the listener has a route {name:?} already"));
        table.report(problem.note(other.table.span_of("name"), "it is named here").help("choose another name"));
    }
}

fn check_covered(table: &Table<'_>, route: &Route, seen: &[Seen<'_>]) {
    if let Some(earlier) = seen.iter().find(|earlier| covers(&earlier.route, route)) {
        let message = "this route can never match, as an earlier one takes everything it would";
        let note = format!("this route takes {}; the first match wins", describe(&earlier.route));
        let problem = Problem::new(table.span(), table.path(), message).note(earlier.table.span(), note);
        table.report(problem.help("put the narrower route first, or remove it"));
    }
}

/// Whether the earlier route takes every request that the later one would, as far as this can be told. A path of `/` counts as every path:
/// all that remains is `OPTIONS *`, which nobody routes.
fn covers(earlier: &Route, later: &Route) -> bool {
    fn any<T>(earlier: &[T], later: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
        let all = |later: &[T]| later.iter().all(|one| earlier.iter().any(|other| covers(other, one)));
        earlier.is_empty() || (!later.is_empty() && all(later))
    }
    let each = |earlier: &[FieldPattern], later: &[FieldPattern]| earlier.iter().all(|one| later.contains(one));
    let path = match (&earlier.path, &later.path) {
        (None, _) => true,
        (Some(PathPattern::Prefix(prefix)), _) if prefix == "/" => true,
        (Some(PathPattern::Prefix(prefix)), Some(PathPattern::Prefix(path) | PathPattern::Exact(path))) => path.starts_with(prefix),
        (Some(earlier), Some(later)) => earlier == later,
        (Some(_), None) => false,
    };
    path && any(&earlier.hosts, &later.hosts, HostPattern::covers)
        && any(&earlier.server_names, &later.server_names, HostPattern::covers)
        && any(&earlier.methods, &later.methods, String::eq)
        && any(&earlier.sources, &later.sources, Network::covers)
        && each(&earlier.headers, &later.headers)
        && each(&earlier.cookies, &later.cookies)
        && each(&earlier.query, &later.query)
}

fn describe(route: &Route) -> String {
    let hosts = route.hosts.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(" and ");
    let what = match (hosts.is_empty(), &route.path) {
        (true, None) => "every request".into(),
        (false, None) => format!("every path of {hosts}"),
        (true, Some(PathPattern::Prefix(path))) => format!("every host with a path beginning with {path}"),
        (false, Some(PathPattern::Prefix(path))) => format!("{hosts} with a path beginning with {path}"),
        (true, Some(path)) => format!("every host with the path {path}"),
        (false, Some(path)) => format!("{hosts} with the path {path}"),
    };
    let has_more = !(route.methods.is_empty()
        && route.headers.is_empty()
        && route.cookies.is_empty()
        && route.query.is_empty()
        && route.sources.is_empty()
        && route.server_names.is_empty());
    if has_more { format!("{what} that meets its other conditions") } else { what }
}

fn parse_method(text: &str) -> Result<String, String> {
    if !is_token(text) {
        return Err(format!("{text:?} is not a method; for example \"GET\""));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) && text.to_ascii_uppercase() != text {
        return Err(format!(
            "methods are compared with regard to case, and none is written {text:?}; write {:?}",
            text.to_ascii_uppercase()
        ));
    }
    Ok(text.into())
}

pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let wrong = || format!("{text:?} is not a range of addresses; write one such as \"10.0.0.0/8\" or \"2001:db8::/32\"");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().filter(|n| *n <= most).ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    if address.to_canonical() != address {
        return Err(format!("{text:?} is an IPv4 address inside an IPv6 one; write \"{}\"", address.to_canonical()));
    }
    Network::new(address, length).ok_or_else(|| {
        let first = match address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into()),
        };
        format!(
            "{text:?} has bits beyond the first {length}; write \"{first}/{length}\" for the range, or \"{address}\" for the one address"
        )
    })
}

/// A host as requests name it, or `*.` and the name that it ends in.
fn parse_host_pattern(text: &str) -> Result<HostPattern, String> {
    match text.strip_prefix("*.") {
        Some(base) if base.parse::<IpAddr>().is_ok() || base.starts_with('[') => {
            Err(format!("nothing is below the address {base:?}; write \"{base}\""))
        }
        Some(base) => Ok(HostPattern::Below(parse_route_host(base)?)),
        None => Ok(HostPattern::Exact(parse_route_host(text)?)),
    }
}

/// A host, lower case, without port and trailing dot; an IPv6 address in brackets.
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
        return Err(format!("{text:?} has an asterisk that is not in front; write \"*.example.com\" for every host below example.com"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("{text:?} has a port, but a host is matched without; write \"{host}\""));
    }
    let name = parse_host_name(text)?;
    Ok(name.strip_suffix('.').map(str::to_owned).unwrap_or(name))
}

pub(super) fn parse_route_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("a path begins with a slash, found {text:?}; write \"/{text}\""));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        Some(c @ ('?' | '#')) => return Err(format!("{text:?} has {c:?} in it, but only the path is matched; leave out what follows it")),
        Some(c) => return Err(format!("{text:?} has {c:?} in it, which requests write percent-encoded; write it so here too")),
        None => {}
    }
    let normal = normal_path(text.as_bytes(), true).map_err(|error| format!("no request can have this path: {error}"))?;
    match String::from_utf8_lossy(&normal) {
        normal if normal == text => Ok(text.into()),
        normal => Err(format!("paths are compared in their normal form, and {text:?} is not in it; write {normal:?}")),
    }
}
