//! Which route takes a request and why each earlier one does not, for people.

use std::fmt::Write as _;
use std::net::IpAddr;

use weir_config::{FieldPattern, FieldWant, ForwardHeaders, HostPattern, HttpListener, Route};

use super::condition::{self, Miss, host_fits};
use super::{Asked, RouteTable, label};
use crate::http1::request::{self, Forward};
use crate::http1::{Bounds, Scanner};

/// A request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The head, as a client of HTTP/1.1 would send it.
    pub head: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The client's address.
    pub source: IpAddr,
    /// The name in the client's TLS handshake.
    pub server_name: Option<&'a str>,
}

/// What becomes of a request, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The path as it is compared and passed on.
    pub path: String,
    /// Every route up to the one that takes the request.
    pub routes: Vec<Explained>,
    /// The number of the route that takes the request, from 0.
    pub taken: Option<usize>,
}

/// One route that was looked at.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// Its name, or its number from 1.
    pub label: String,
    /// The route in words.
    pub route: String,
    /// Why it does not take the request; `None`: it does.
    pub miss: Option<String>,
}

/// Explains what the data plane would do: the head is read by the same parser, and the route is found by the same table.
///
/// # Errors
/// The request would be refused: why.
pub fn explain(http: &HttpListener, question: &Question<'_>) -> Result<Explanation, String> {
    let mut scanner = Scanner::default();
    let found = scanner.scan(question.head, &Bounds::from(&http.limits)).map_err(|error| error.to_string())?;
    let head_len = found.ok_or("the head has no end")?;
    let headers = ForwardHeaders { request_id: None, ..http.headers.clone() };
    let forward = Forward { headers: &headers, client: question.source, scheme: question.scheme, node: "", request_id: 0, trusted: false };
    let request = request::parse(question.head, head_len, &forward, &mut Vec::new()).map_err(|error| error.to_string())?;
    let sent = request.path.of_buf(question.head);
    let Some(table) = RouteTable::new(&http.routes, http.ambiguous_paths, |_| 0, 1, None) else {
        return Ok(Explanation { path: text(sent), routes: Vec::new(), taken: None });
    };
    let path = table.path(sent).map_err(|error| error.to_string())?;
    let asked = Asked {
        method: request.method_text.of_buf(question.head),
        host: request.host.of_buf(question.head),
        path: &path,
        head: &question.head[..head_len],
        target: request.target.of_buf(question.head),
        source: question.source,
        server_name: question.server_name,
    };
    let taken = table.find(&http.routes, &asked);
    let looked_at = taken.map_or(http.routes.len(), |taken| taken + 1);
    let one = |(number, route): (usize, &Route)| {
        let miss = (taken != Some(number)).then(|| reason(route, &asked));
        Explained { label: label(number, route), route: route.to_string(), miss }
    };
    let routes = http.routes[..looked_at].iter().enumerate().map(one).collect();
    Ok(Explanation { path: text(&path), routes, taken })
}

fn reason(route: &Route, asked: &Asked<'_>) -> String {
    let host_fits = route.hosts.is_empty() || route.hosts.iter().any(|pattern| host_fits(pattern, asked.host));
    let miss = if host_fits { condition::miss(route, asked) } else { Some(Miss::Host) };
    let hosts = |patterns: &[HostPattern]| patterns.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(" or ");
    match miss {
        // The table and the conditions are two readings of one thing; a test holds them together.
        None => "another route was found first".into(),
        Some(Miss::Host) if asked.host.is_empty() => format!("the request names no host, and the route wants {}", hosts(&route.hosts)),
        Some(Miss::Host) => format!("the host is {}, not {}", text(asked.host), hosts(&route.hosts)),
        Some(Miss::Path(pattern)) => match pattern {
            weir_config::PathPattern::Prefix(prefix) => format!("the path {} does not begin with {prefix}", text(asked.path)),
            weir_config::PathPattern::Exact(exact) => format!("the path is {}, not {exact}", text(asked.path)),
            weir_config::PathPattern::Regex(pattern) => format!("the path {} is not matched by {}", text(asked.path), pattern.text()),
        },
        Some(Miss::Method) => format!("the method is {}, not {}", text(asked.method), route.methods.join(" or ")),
        Some(Miss::Source) => {
            let networks = route.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            format!("the client's address {} is not in {networks}", asked.source)
        }
        Some(Miss::ServerName) => match asked.server_name {
            Some(name) => format!("the name in the TLS handshake is {name}, not {}", hosts(&route.server_names)),
            None => format!("there is no name in a TLS handshake, and the route wants {}", hosts(&route.server_names)),
        },
        Some(Miss::Header(pattern)) => field("header", pattern),
        Some(Miss::Cookie(pattern)) => field("cookie", pattern),
        Some(Miss::Query(pattern)) => field("query parameter", pattern),
    }
}

fn field(what: &str, pattern: &FieldPattern) -> String {
    let mut words = String::new();
    let name = &pattern.name;
    let written = match &pattern.want {
        FieldWant::Present => write!(words, "there is no {what} {name}"),
        FieldWant::Absent => write!(words, "there is a {what} {name}"),
        FieldWant::Value(value) => write!(words, "no {what} {name} is {value:?}"),
        FieldWant::Regex(pattern) => write!(words, "no {what} {name} is matched by {}", pattern.text()),
    };
    written.expect("writing to memory cannot fail");
    words
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
