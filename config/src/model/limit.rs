//! Who may come, how often, and what is changed on the way.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::Network;

/// `allow` and `deny` of a listener.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Access {
    /// `allow`: who is in none of these is turned away; empty: nobody is.
    pub allow: Vec<Network>,
    /// `deny`: who is in one of these is turned away, allowed or not.
    pub deny: Vec<Network>,
}

impl Access {
    /// Whether a client of this address may connect.
    #[inline]
    pub fn admits(&self, ip: IpAddr) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|network| network.contains(ip)))
            && !self.deny.iter().any(|network| network.contains(ip))
    }
}

/// `[[listener.NAME.rate_limit]]`: a bound on requests, beyond which the answer is 429.
#[derive(Clone, PartialEq, Debug)]
pub struct RateLimit {
    /// `per`
    pub per: LimitKey,
    /// `route`: only requests that the route of this name takes.
    pub route: Option<String>,
    /// `requests_per_second`; `None` (absent): they are not counted by time.
    pub requests_per_second: Option<NonZeroU32>,
    /// `burst`: requests that may come at once after a quiet time. Default: as many as in a second.
    pub burst: NonZeroU32,
    /// `requests_at_once`: requests under way; `None` (absent): no bound.
    pub requests_at_once: Option<NonZeroU32>,
}

/// What each has a bound of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LimitKey {
    /// `all`: none has; all requests count together.
    All,
    /// `source`: an IPv4 address, or the first 64 bits of an IPv6 one.
    Source,
    /// `header:NAME`: a value of this header; requests without it are not limited.
    Header(String),
}

/// `request` or `response` of a route: what is changed on header fields, in this order: removed, set, added.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderEdits {
    /// `remove`, in lower case.
    pub remove: Vec<String>,
    /// `set`: takes the place of all fields of the name.
    pub set: Vec<(String, String)>,
    /// `add`: comes besides those that are there.
    pub add: Vec<(String, String)>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// What a route changes on a request and its response.
#[derive(Clone, PartialEq, Debug)]
pub struct Changes {
    /// `request`
    pub request: HeaderEdits,
    /// `response`
    pub response: HeaderEdits,
    /// `rewrite_prefix` or `rewrite_regex`
    pub rewrite: Option<Rewrite>,
    /// `rewrite_location`: where the endpoint sends a client is named as it is outside.
    pub rewrite_location: bool,
}

/// What becomes of the path.
#[derive(Clone, Debug)]
pub enum Rewrite {
    /// `rewrite_prefix`: comes in place of the route's `path`.
    Prefix(String),
    /// `rewrite_regex`: what `pattern` finds first becomes `to`, in which `$1` and `${name}` stand for groups.
    Regex {
        /// `match`
        pattern: regex::bytes::Regex,
        /// `to`
        to: String,
    },
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Rewrite) -> bool {
        match (self, other) {
            (Rewrite::Prefix(a), Rewrite::Prefix(b)) => a == b,
            (Rewrite::Regex { pattern: a, to: to_a }, Rewrite::Regex { pattern: b, to: to_b }) => a.as_str() == b.as_str() && to_a == to_b,
            _ => false,
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitKey::All => f.write_str("all"),
            LimitKey::Source => f.write_str("source"),
            LimitKey::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimit { per, route, requests_per_second, burst, requests_at_once } = self;
        if let Some(requests_per_second) = requests_per_second {
            write!(f, "{requests_per_second}/s for {per}, burst {burst}")?;
        }
        if let Some(requests_at_once) = requests_at_once {
            let between = if requests_per_second.is_some() { ", " } else { "" };
            write!(f, "{between}{requests_at_once} at once for {per}")?;
        }
        route.as_ref().map_or(Ok(()), |route| write!(f, ", route {route}"))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rewrite {
            Some(Rewrite::Prefix(prefix)) => write!(f, ", path to {prefix}")?,
            Some(Rewrite::Regex { pattern, to }) => write!(f, ", path /{}/ to {to}", pattern.as_str())?,
            None => {}
        }
        if self.rewrite_location {
            f.write_str(", Location rewritten")?;
        }
        for (what, HeaderEdits { remove, set, add }) in [("request", &self.request), ("response", &self.response)] {
            for name in remove {
                write!(f, ", {what} without {name}")?;
            }
            for (verb, fields) in [("set", set), ("add", add)] {
                for (name, value) in fields {
                    write!(f, ", {what} {verb} {name}: {value}")?;
                }
            }
        }
        Ok(())
    }
}
