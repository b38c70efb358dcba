//! Whether a request meets a route's conditions, and if not, which one it misses first.

use weir_config::{FieldPattern, FieldWant, HostPattern, PathPattern, Route, decoded};

use super::Asked;
use crate::http1::request;

/// The condition that a request misses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Miss<'a> {
    Host,
    Path(&'a PathPattern),
    Method,
    Source,
    ServerName,
    Header(&'a FieldPattern),
    Cookie(&'a FieldPattern),
    Query(&'a FieldPattern),
}

/// Which conditions a route has besides what the index looks up, in one byte: most of a route's memory need not be touched for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Looks(u8);

impl Looks {
    const PATH: u8 = 1;
    const METHOD: u8 = 2;
    const MORE: u8 = 4;

    pub(super) fn of(route: &Route) -> Looks {
        // The index finds all routes whose prefix fits, and no others.
        let path = matches!(route.path, Some(PathPattern::Exact(_) | PathPattern::Regex(_)));
        let Route { sources, server_names, headers, cookies, query, .. } = route;
        let more = !(sources.is_empty() && server_names.is_empty() && headers.is_empty() && cookies.is_empty() && query.is_empty());
        let bit = |has: bool, bit: u8| if has { bit } else { 0 };
        Looks(bit(path, Looks::PATH) | bit(!route.methods.is_empty(), Looks::METHOD) | bit(more, Looks::MORE))
    }

    /// Whether a route that the index found takes the request.
    #[inline]
    pub(super) fn hold(self, route: &Route, asked: &Asked<'_>) -> bool {
        let has = |bit| self.0 & bit != 0;
        (!has(Looks::PATH) || route.path.as_ref().is_none_or(|path| path_fits(path, asked.path)))
            && (!has(Looks::METHOD) || method_fits(route, asked))
            && (!has(Looks::MORE) || miss(route, asked).is_none())
    }
}

/// The first condition that is missed, the host aside; `None`: all hold. What is cheap to compare comes first.
pub(super) fn miss<'a>(route: &'a Route, asked: &Asked<'_>) -> Option<Miss<'a>> {
    if let Some(path) = &route.path
        && !path_fits(path, asked.path)
    {
        return Some(Miss::Path(path));
    }
    if !route.methods.is_empty() && !method_fits(route, asked) {
        return Some(Miss::Method);
    }
    if !route.sources.is_empty() && !route.sources.iter().any(|network| network.contains(asked.source)) {
        return Some(Miss::Source);
    }
    if !route.server_names.is_empty() {
        let name = asked.server_name.unwrap_or_default().as_bytes();
        if !route.server_names.iter().any(|pattern| host_fits(pattern, name)) {
            return Some(Miss::ServerName);
        }
    }
    let header = |pattern: &&FieldPattern| !is_met(pattern, request::fields(asked.head, &pattern.name), |value, want| value == want);
    if let Some(pattern) = route.headers.iter().find(header) {
        return Some(Miss::Header(pattern));
    }
    let cookie = |pattern: &&FieldPattern| !is_met(pattern, request::cookies(asked.head, &pattern.name), |value, want| value == want);
    if let Some(pattern) = route.cookies.iter().find(cookie) {
        return Some(Miss::Cookie(pattern));
    }
    let query = |pattern: &&FieldPattern| !is_met(pattern, parameters(asked.target, pattern.name.as_bytes()), decodes_to);
    route.query.iter().find(query).map(Miss::Query)
}

fn method_fits(route: &Route, asked: &Asked<'_>) -> bool {
    route.methods.iter().any(|method| method.as_bytes() == asked.method)
}

fn path_fits(pattern: &PathPattern, path: &[u8]) -> bool {
    match pattern {
        PathPattern::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
        PathPattern::Exact(exact) => path == exact.as_bytes(),
        PathPattern::Regex(pattern) => pattern.is_match(path),
    }
}

/// Whether a host, as sent, is what the pattern names.
pub(super) fn host_fits(pattern: &HostPattern, host: &[u8]) -> bool {
    let host = without_dot(host);
    match pattern {
        HostPattern::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
        HostPattern::Below(base) => host
            .len()
            .checked_sub(base.len() + 1)
            .filter(|above| *above > 0)
            .is_some_and(|above| host[above] == b'.' && host[above + 1..].eq_ignore_ascii_case(base.as_bytes())),
    }
}

/// `example.com.` is `example.com` (RFC 3986 section 3.2.2).
pub(super) fn without_dot(host: &[u8]) -> &[u8] {
    host.strip_suffix(b".").unwrap_or(host)
}

fn is_met<'a>(pattern: &FieldPattern, mut values: impl Iterator<Item = &'a [u8]>, equals: fn(&[u8], &[u8]) -> bool) -> bool {
    match &pattern.want {
        FieldWant::Present => values.next().is_some(),
        FieldWant::Absent => values.next().is_none(),
        FieldWant::Value(want) => values.any(|value| equals(value, want.as_bytes())),
        FieldWant::Regex(pattern) => values.any(|value| pattern.is_match(value)),
    }
}

/// The values of a query parameter, as sent; that of one without `=` is empty.
pub(crate) fn parameters<'a>(target: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let query = memchr::memchr(b'?', target).map_or(&[][..], |at| &target[at + 1..]);
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).filter_map(move |pair| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        decodes_to(&pair[..end], name).then(|| pair.get(end + 1..).unwrap_or_default())
    })
}

/// Whether percent-decoding this gives `want`. A percent sign that encodes nothing stands for itself.
fn decodes_to(mut encoded: &[u8], mut want: &[u8]) -> bool {
    while let Some((byte, rest)) = encoded.split_first() {
        let found = match (byte, rest.first_chunk::<2>().and_then(|digits| decoded(*digits))) {
            (b'%', Some(value)) => {
                encoded = &rest[2..];
                value
            }
            _ => {
                encoded = rest;
                *byte
            }
        };
        match want.split_first() {
            Some((wanted, more)) if *wanted == found => want = more,
            _ => return false,
        }
    }
    want.is_empty()
}
