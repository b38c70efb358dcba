//! `[[listener.NAME.route]]`

use std::fmt;
use std::net::IpAddr;

use super::{Changes, PoolName};

/// A rule that says where a request goes. Conditions of different kinds must all hold; within a list one is enough. What is absent matches
/// everything.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// `name`: what metrics and explanations call it; without one it is its number, from 1.
    pub name: Option<String>,
    /// `host`: any of these, compared without port, case and trailing dot.
    pub hosts: Vec<HostPattern>,
    /// `path`, `path_exact` or `path_regex`, compared with the path in its normal form.
    pub path: Option<PathPattern>,
    /// `method`: any of these.
    pub methods: Vec<String>,
    /// `header`: all of these.
    pub headers: Vec<FieldPattern>,
    /// `cookie`: all of these.
    pub cookies: Vec<FieldPattern>,
    /// `query`: all of these.
    pub query: Vec<FieldPattern>,
    /// `source`: the client is in any of these.
    pub sources: Vec<Network>,
    /// `sni`: any of these is what the client named in its TLS handshake.
    pub server_names: Vec<HostPattern>,
    /// `priority`: of requests that wait for an endpoint, those of a higher one go first. Default 5, 0 to 9.
    pub priority: u8,
    /// `pool`, `split`, `redirect` or `answer`.
    pub action: RouteAction,
    /// `mirror`; `None`: requests go to one endpoint only.
    pub mirror: Option<Mirror>,
    /// `request`, `response` and `rewrite_*`; `None`: nothing is changed.
    pub changes: Option<Box<Changes>>,
}

/// A host name to compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostPattern {
    /// This one, lower case, without trailing dot.
    Exact(String),
    /// Written `*.example.com`: whatever ends in `.example.com`, however many labels come before. Held without `*.`.
    Below(String),
}

/// A path to compare with.
#[derive(Clone, PartialEq, Debug)]
pub enum PathPattern {
    /// `path`: what begins so.
    Prefix(String),
    /// `path_exact`: this one.
    Exact(String),
    /// `path_regex`: what this matches from its beginning to its end.
    Regex(Pattern),
}

/// A regular expression that must match the whole.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    compiled: regex::bytes::Regex,
}

/// Memory that one compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is none, or too large a one.
    pub fn new(text: &str) -> Result<Pattern, regex::Error> {
        // Alone first: parentheses that only close with ours are a mistake.
        regex::bytes::Regex::new(text)?;
        let compiled = regex::bytes::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(COMPILED_BYTES_MAX).build()?;
        Ok(Pattern { text: text.into(), compiled })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches all of this.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.compiled.is_match(bytes)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

/// A header, cookie or query parameter that is wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldPattern {
    /// `name`: of a header without regard to case (held in lower case), else as written.
    pub name: String,
    /// `value`, `regex` or `present`.
    pub want: FieldWant,
}

/// What is wanted of a field. Of several fields of one name, one is enough.
#[derive(Clone, PartialEq, Debug)]
pub enum FieldWant {
    /// It is there.
    Present,
    /// `present = false`: it is not there.
    Absent,
    /// `value`: it is this. A query parameter is compared decoded.
    Value(String),
    /// `regex`: it is matched by this. A query parameter is compared as sent.
    Regex(Pattern),
}

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// The range whose addresses agree with this one in the first `length` bits; `None` if the address has bits set beyond them, or fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Network> {
        let (bits, most) = bits(address);
        let host = bits & !mask(length, most.checked_sub(length).map(|_| most)?);
        (host == 0).then_some(Network { address, length })
    }

    /// Whether the address is in the range. An IPv4 address inside an IPv6 one counts as the former.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ((own, own_most), (bits, most)) = (bits(self.address), bits(ip.to_canonical()));
        own_most == most && (own ^ bits) & mask(self.length, most) == 0
    }

    /// Whether every address of the other is in this.
    pub fn covers(&self, other: &Network) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

/// The first `length` of `most` bits.
fn mask(length: u8, most: u8) -> u128 {
    let all = if most == 128 { u128::MAX } else { (1 << most) - 1 };
    all & u128::MAX.checked_shl(u32::from(most - length)).unwrap_or(0)
}

/// What a route does with a request.
#[derive(Clone, PartialEq, Debug)]
pub enum RouteAction {
    /// `pool`
    Pool(PoolName),
    /// `split`: a pool by chance, by weight.
    Split(Vec<WeightedPool>),
    /// `redirect`: the client is sent elsewhere.
    Redirect(Redirect),
    /// `answer`: we answer ourselves.
    Answer(FixedAnswer),
}

/// `mirror`: another pool gets the requests too, whose answers nobody hears.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirror {
    /// `pool`
    pub pool: PoolName,
    /// `percent` of the requests. Default 100.
    pub percent: u32,
}

/// One pool of a `split`.
#[derive(Clone, PartialEq, Debug)]
pub struct WeightedPool {
    /// `pool`
    pub pool: PoolName,
    /// `weight`: its share relative to the others; 0: none. Up to 1,000,000.
    pub weight: u32,
}

/// `redirect`: where the client is sent. What is absent is as the client asked for; its query is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Redirect {
    /// `status`: 301, 302, 303, 307 or 308. Default 308.
    pub status: u16,
    /// `scheme`: http or https.
    pub scheme: Option<&'static str>,
    /// `host`
    pub host: Option<String>,
    /// `port`; absent: that of the scheme.
    pub port: Option<u16>,
    /// `path`
    pub path: Option<String>,
}

/// `answer`: a response of our own.
#[derive(Clone, PartialEq, Debug)]
pub struct FixedAnswer {
    /// `status`: 200 to 599.
    pub status: u16,
    /// `body`; default empty. Up to 64 KiB.
    pub body: String,
    /// `content_type`. Default `text/plain; charset=utf-8`.
    pub content_type: String,
}

impl Route {
    /// The priority of a request that no route gives another.
    pub const PRIORITY: u8 = 5;

    /// The pools that it may lead to.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        let (one, many) = match &self.action {
            RouteAction::Pool(pool) => (Some(pool), [].as_slice()),
            RouteAction::Split(pools) => (None, pools.as_slice()),
            RouteAction::Redirect(_) | RouteAction::Answer(_) => (None, [].as_slice()),
        };
        one.into_iter().chain(many.iter().map(|weighted| &weighted.pool)).chain(self.mirror.as_ref().map(|mirror| &mirror.pool))
    }
}

impl HostPattern {
    /// Whether every host that the other takes is taken by this.
    pub fn covers(&self, other: &HostPattern) -> bool {
        let below = |name: &str, base: &str| name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'));
        match (self, other) {
            (HostPattern::Exact(own), HostPattern::Exact(name)) => own == name,
            (HostPattern::Exact(_), HostPattern::Below(_)) => false,
            (HostPattern::Below(base), HostPattern::Exact(name)) => below(name, base),
            (HostPattern::Below(base), HostPattern::Below(name)) => base == name || below(name, base),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(base) => write!(f, "*.{base}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Prefix(path) => f.write_str(path),
            PathPattern::Exact(path) => write!(f, "{path} exactly"),
            PathPattern::Regex(pattern) => write!(f, "/{}/", pattern.text()),
        }
    }
}

impl fmt::Display for FieldPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.want {
            FieldWant::Present => f.write_str(name),
            FieldWant::Absent => write!(f, "no {name}"),
            FieldWant::Value(value) => write!(f, "{name}={value}"),
            FieldWant::Regex(pattern) => write!(f, "{name}=/{}/", pattern.text()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Display for RouteAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteAction::Pool(pool) => write!(f, "{pool}"),
            RouteAction::Split(pools) => {
                f.write_str(&pools.iter().map(|w| format!("{} {}", w.weight, w.pool)).collect::<Vec<_>>().join(" : "))
            }
            RouteAction::Redirect(Redirect { status, scheme, host, port, path }) => {
                write!(f, "{status} {}://{}", scheme.unwrap_or("*"), host.as_deref().unwrap_or("*"))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                f.write_str(path.as_deref().unwrap_or("/*"))
            }
            RouteAction::Answer(FixedAnswer { status, body, content_type }) => {
                write!(f, "answer {status}, {content_type}, {body:?}")
            }
        }
    }
}

/// As `host/path, more conditions to pool`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { name, hosts, path, methods, headers, cookies, query, sources, server_names, priority, action, mirror, changes } = self;
        fn list<T: fmt::Display>(items: &[T], between: &str) -> String {
            items.iter().map(T::to_string).collect::<Vec<_>>().join(between)
        }
        if let Some(name) = name {
            write!(f, "{name}: ")?;
        }
        f.write_str(&if hosts.is_empty() { "*".into() } else { list(hosts, "|") })?;
        match path {
            None => f.write_str("/")?,
            Some(path @ PathPattern::Regex(_)) => write!(f, " {path}")?,
            Some(path) => write!(f, "{path}")?,
        }
        let parts = [
            ("method", list(methods, "|")),
            ("header", list(headers, " and ")),
            ("cookie", list(cookies, " and ")),
            ("query", list(query, " and ")),
            ("source", list(sources, "|")),
            ("sni", list(server_names, "|")),
        ];
        for (what, words) in parts.iter().filter(|(_, words)| !words.is_empty()) {
            write!(f, ", {what} {words}")?;
        }
        write!(f, " to {action}")?;
        if let Some(Mirror { pool, percent }) = mirror {
            write!(f, ", {percent} % to {pool} too")?;
        }
        if *priority != Route::PRIORITY {
            write!(f, ", priority {priority}")?;
        }
        changes.as_ref().map_or(Ok(()), |changes| write!(f, "{changes}"))
    }
}
