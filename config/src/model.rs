//! The checked configuration: what the file means.
//!
//! Every value here has passed its checks, so readers never validate again. Pools and listeners sit behind [`Arc`]s: cloning a
//! configuration is cheap, and two configurations that share an object share the pointer.

mod acme;
mod alarm;
mod api;
mod edge;
mod history;
mod limit;
mod machines;
mod recovery;
mod route;
mod scaling;
mod tls;
mod vip;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use acme::*;
pub use alarm::*;
pub use api::*;
pub use edge::*;
pub use history::*;
pub use limit::*;
pub use machines::*;
pub use recovery::*;
pub use route::*;
pub use scaling::*;
pub use tls::*;
pub use vip::*;

use crate::notify::Notification;

/// The name of a pool, as written in `[pool.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PoolName(pub Arc<str>);

/// The name of a listener, as written in `[listener.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerName(pub Arc<str>);

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PoolName {
    fn from(name: &str) -> Self {
        PoolName(name.into())
    }
}

impl From<&str> for ListenerName {
    fn from(name: &str) -> Self {
        ListenerName(name.into())
    }
}

/// The whole file, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[api]`; absent: no API, no metrics.
    pub api: Option<Api>,
    /// `[access_log]`; absent: requests are not logged.
    pub access_log: Option<AccessLog>,
    /// `[history]`
    pub history: History,
    /// `[cluster]`; absent: this node is its own leader.
    pub cluster: Option<Cluster>,
    /// `[vip.NAME]`
    pub vips: BTreeMap<VipName, Arc<Vip>>,
    /// `[acme.NAME]`
    pub authorities: BTreeMap<AuthorityName, Arc<Authority>>,
    /// `[listener.NAME]`
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// `[pool.NAME]`
    pub pools: BTreeMap<PoolName, Arc<Pool>>,
    /// `[host.NAME]`
    pub hosts: BTreeMap<HostName, Arc<VmHost>>,
    /// `[template.NAME]`
    pub templates: BTreeMap<TemplateName, Arc<Template>>,
    /// `[metric.NAME]`
    pub metrics: BTreeMap<MetricName, Arc<ExternalMetric>>,
    /// `[alarm.NAME]`
    pub alarms: BTreeMap<AlarmName, Arc<Alarm>>,
    /// `[recovery.NAME]`
    pub recoveries: BTreeMap<RecoveryName, Arc<Recovery>>,
    /// Telling people: `[notify.NAME]`, `[[notify_rule]]` and what belongs to them.
    pub notification: Notification,
    /// SHA-256 over what the nodes of a cluster should have alike: all but `[node]`, `[api]`, `[access_log]`, `[history]` and how a node takes part
    /// in a virtual IP.
    pub shared_sum: [u8; 32],
}

/// `[node]`: settings of the process. `workers` and `state_dir` need a restart or an upgrade to change.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The name of this node in logs, `Via` and the API. Default: the host name is not read here, `"weir"`.
    pub name: String,
    /// Data plane threads; `None` (written 0): one per core.
    pub workers: Option<NonZeroU32>,
    /// Where the node keeps what must outlive it. Default `/var/lib/weir`.
    pub state_dir: PathBuf,
    /// How long a stop or an upgrade lets what is in flight finish. Default 30 s.
    pub drain_timeout: Duration,
    /// Probes that may run at once. Default 256.
    pub probes_max: NonZeroU32,
}

/// `[access_log]`
#[derive(Clone, PartialEq, Debug)]
pub struct AccessLog {
    /// A file path, or `stdout`.
    pub target: AccessLogTarget,
    /// How a line is written.
    pub format: AccessLogFormat,
}

/// Where access log lines go.
#[derive(Clone, PartialEq, Debug)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// Appended to this file, which is opened again on SIGUSR1.
    File(PathBuf),
}

/// How an access log line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessLogFormat {
    /// One JSON object per line.
    Json,
    /// One line for people.
    Text,
}

/// `[listener.NAME]`: bound addresses with their protocol and routes.
#[derive(Clone, PartialEq, Debug)]
pub struct Listener {
    /// The table's name.
    pub name: ListenerName,
    /// `bind`: one address or a list; never empty, no duplicates over all listeners.
    pub binds: Vec<SocketAddr>,
    /// `protocol`, with what belongs to it alone.
    pub protocol: Protocol,
    /// `pool`: where traffic goes that no route takes. Always present for `udp`, and for `tcp` without routes.
    pub pool: Option<PoolName>,
    /// `connections_max`: client connections open at once; more wait in the accept queue. Of `udp`: flows at once, shared out evenly over the
    /// workers; a full table gives up the flow that was quiet the longest, or drops the datagram. Default 100,000.
    pub connections_max: NonZeroU32,
    /// `connections_per_source`: of these, from one address, or one IPv6 network of 64 bits; more are closed at once. `None` (written 0): no bound.
    /// Default none. Not of `udp`.
    pub connections_per_source: Option<NonZeroU32>,
    /// `[listener.NAME.timeouts]`
    pub timeouts: ListenerTimeouts,
    /// `allow` and `deny`. Not of `udp`.
    pub access: Access,
    /// `[listener.NAME.proxy_protocol]`, `trusted`: who connects from these ranges is a proxy, and announces each client by the PROXY protocol.
    /// Default none. Not of `udp`.
    pub announcers: Vec<Network>,
}

/// What a listener speaks.
#[derive(Clone, PartialEq, Debug)]
pub enum Protocol {
    /// `protocol = "http"`
    Http(HttpListener),
    /// `protocol = "tcp"`, with its routes by source range and by the name in a TLS handshake that is passed on, first match wins.
    Tcp(Vec<Route>),
    /// `protocol = "udp"`
    Udp,
}

impl Protocol {
    /// The routes, first match wins; a UDP listener has none.
    pub fn routes(&self) -> &[Route] {
        match self {
            Protocol::Http(http) => &http.routes,
            Protocol::Tcp(routes) => routes,
            Protocol::Udp => &[],
        }
    }
}

/// What only an HTTP listener has.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpListener {
    /// `[[listener.NAME.route]]`, first match wins.
    pub routes: Vec<Route>,
    /// `[[listener.NAME.rate_limit]]`: all that concern a request must let it pass.
    pub rate_limits: Vec<RateLimit>,
    /// `ambiguous_paths`
    pub ambiguous_paths: AmbiguousPaths,
    /// `[listener.NAME.limits]`
    pub limits: HttpLimits,
    /// `[listener.NAME.headers]`
    pub headers: ForwardHeaders,
    /// `http2`: clients may speak HTTP/2, agreed on under TLS or with prior knowledge without. Default true.
    pub http2: bool,
    /// `[listener.NAME.tls]`; absent: HTTP without TLS.
    pub tls: Option<Box<ListenerTls>>,
    /// `redirect_https`: no pool and no route, but every request is sent to the same host on this port by HTTPS.
    pub redirect_https: Option<NonZeroU16>,
}

/// `ambiguous_paths`: what becomes of a path that has an encoded slash, a backslash or nothing between two slashes, where a route looks at paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AmbiguousPaths {
    /// 400. The default.
    Refuse,
    /// It is matched and passed on as it is.
    Keep,
}

/// `[listener.NAME.limits]`: bounds on what a client may send before it is refused.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpLimits {
    /// `head_bytes_max`: request line and header fields together, else 431. Default 16 KiB, 1 KiB to 256 KiB.
    pub head_bytes_max: usize,
    /// `headers_max`: header fields, else 431. Default 100, 1 to 1000.
    pub headers_max: usize,
    /// `line_bytes_max`: the request line, or one header field, else 431. Default 8 KiB, from 256 bytes; never above `head_bytes_max`.
    pub line_bytes_max: usize,
    /// `body_bytes_max`: request body, else 413; `None` (written 0): unbounded, it is streamed. Default none.
    pub body_bytes_max: Option<u64>,
    /// `retry_bytes_max`: the part of a request body kept so that it can be sent again. Default 16 KiB, 0 to 1 MiB.
    pub retry_bytes_max: usize,
    /// `requests_per_connection_max`: after so many the connection is closed in order; `None` (written 0): no bound. Default none.
    pub requests_per_connection_max: Option<NonZeroU32>,
    /// `streams_max`: requests at once on one connection over HTTP/2. Default 128, 1 to 10,000.
    pub streams_max: NonZeroU32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            line_bytes_max: 8 * 1024,
            body_bytes_max: None,
            retry_bytes_max: 16 * 1024,
            requests_per_connection_max: None,
            streams_max: NonZeroU32::new(128).expect("not 0"),
        }
    }
}

/// `[listener.NAME.headers]`: what we tell the endpoint about the client. What the client itself sent under these names is replaced, unless it is
/// trusted.
#[derive(Clone, PartialEq, Debug)]
pub struct ForwardHeaders {
    /// `x_forwarded`: `X-Forwarded-For`, `-Proto` and `-Host`. Default true.
    pub x_forwarded: bool,
    /// `forwarded`: `Forwarded` (RFC 7239). Default false.
    pub forwarded: bool,
    /// `via`: `Via` (RFC 9110 section 7.6.3), both ways. Default false.
    pub via: bool,
    /// `request_id`: the header that carries the request id, made where the client sent none; `None` (written ""): none. Default `x-request-id`.
    pub request_id: Option<String>,
    /// `trusted`: of clients in these ranges, what they sent under these names is kept and extended, and the client is who the last of them that
    /// is not in these ranges itself names in `X-Forwarded-For`. Default none.
    pub trusted: Vec<Network>,
}

impl Default for ForwardHeaders {
    fn default() -> Self {
        ForwardHeaders { x_forwarded: true, forwarded: false, via: false, request_id: Some("x-request-id".into()), trusted: Vec::new() }
    }
}

/// `[listener.NAME.timeouts]`: how long we wait for a client.
#[derive(Clone, PartialEq, Debug)]
pub struct ListenerTimeouts {
    /// `head`: from the first byte of a request (or the accept) to the end of its head, else 408. Default 10 s.
    pub head: Duration,
    /// `idle`: no byte moved while a request or response body is under way. Default 60 s.
    pub idle: Duration,
    /// `keep_alive`: between two requests. Default 60 s.
    pub keep_alive: Duration,
    /// `tunnel`: no byte moved either way in a TCP session or an upgraded connection. Default 1 h.
    pub tunnel: Duration,
    /// `flow`: no datagram either way in a UDP flow. Default 30 s.
    pub flow: Duration,
    /// `flow_drain`: how long a UDP flow may stay on an endpoint that takes nothing new any more. Default 30 s.
    pub flow_drain: Duration,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        ListenerTimeouts {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            flow: Duration::from_secs(30),
            flow_drain: Duration::from_secs(30),
        }
    }
}

/// `[pool.NAME]`: a named set of endpoints.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// The table's name.
    pub name: PoolName,
    /// `endpoints`, no address twice; may be empty (a pool that is filled at run time).
    pub endpoints: Vec<Endpoint>,
    /// `balance` and `[pool.NAME.hash]`
    pub balance: Balance,
    /// `slow_start`: how long an endpoint's share grows from its first healthy moment; `None` (absent): at once.
    pub slow_start: Option<Duration>,
    /// `min_healthy`: the floor of the pool. Default 1; 0: no floor.
    pub min_healthy: u32,
    /// `below_min_healthy`: what happens when fewer are healthy. Default fail-open.
    pub below_min_healthy: BelowMinHealthy,
    /// `[pool.NAME.timeouts]`
    pub timeouts: PoolTimeouts,
    /// `[pool.NAME.limits]`
    pub limits: PoolLimits,
    /// `[pool.NAME.health]`; absent: endpoints count as healthy until traffic ejects them.
    pub health: Option<HealthCheck>,
    /// `[pool.NAME.ejection]`; `None` (`ejection = false`): off. Default on.
    pub ejection: Option<Ejection>,
    /// `[pool.NAME.scaling]`; absent: its endpoints are those of the file and of the operators.
    pub scaling: Option<Arc<Scaling>>,
    /// `upstream_protocol`: what the endpoints of an `http` listener speak. Default HTTP/1.1.
    pub upstream_protocol: UpstreamProtocol,
    /// `[pool.NAME.tls]`; absent: endpoints are spoken to in the clear.
    pub tls: Option<Box<EndpointTls>>,
    /// `proxy_protocol`; absent: endpoints see our address.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `[pool.NAME.session]`; absent: each request and session is balanced by itself.
    pub session: Option<Box<Session>>,
    /// `[pool.NAME.retry]`
    pub retry: RetryPolicy,
    /// `[pool.NAME.breaker]`; absent: no bounds besides `limits`.
    pub breaker: Option<Breaker>,
    /// `[pool.NAME.adaptive]`; absent: off.
    pub adaptive: Option<Adaptive>,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: agreed on under TLS, else with prior knowledge (RFC 9113 section 3.3).
    Http2,
}

/// One address of a pool.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// `address`
    pub address: EndpointAddress,
    /// `weight`: share relative to the others. Default 1.
    pub weight: Weight,
    /// `tier`: 0 serves first; a higher tier serves only while no lower tier has an endpoint available. Default 0, up to 15.
    pub tier: u8,
    /// What the operator wishes; in the file always ready, changed at run time.
    pub state: AdminState,
}

/// Host and port of an endpoint. Within a pool it is the endpoint's identity and its name in the API.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointAddress {
    /// Address or name.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// An address, or a name to resolve.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name; one that does not resolve is a down endpoint.
    Name(Arc<str>),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        EndpointAddress { host: Host::Ip(address.ip()), port: address.port() }
    }
}

/// An endpoint's share relative to the others, 1 to [`Weight::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weight(u16);

impl Weight {
    /// The largest weight.
    pub const MAX: u16 = 1000;
    /// The default weight.
    pub const ONE: Weight = Weight(1);

    /// `None` unless 1 to [`Weight::MAX`].
    pub fn new(value: u32) -> Option<Weight> {
        u16::try_from(value).ok().filter(|v| (1..=Self::MAX).contains(v)).map(Weight)
    }

    /// The number.
    pub fn value(self) -> u16 {
        self.0
    }
}

/// What the operator wishes for an endpoint. Health, which is observed, is another fact.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AdminState {
    /// Takes new work.
    #[default]
    Ready,
    /// No new work, finishes the old; still probed.
    Draining,
    /// Out of service: no new work, not probed.
    Maintenance,
}

/// How an endpoint is picked.
#[derive(Clone, PartialEq, Debug)]
pub enum Balance {
    /// The better of two random ones by requests in flight over weight (the default).
    LeastRequest,
    /// Smooth weighted round-robin.
    RoundRobin,
    /// Random by weight.
    Random,
    /// The better of two random ones by peak-EWMA latency times requests in flight, over weight.
    PeakEwma,
    /// Consistent hashing with bounded load.
    Maglev(HashPolicy),
}

/// `[pool.NAME.hash]`
#[derive(Clone, PartialEq, Debug)]
pub struct HashPolicy {
    /// `key`
    pub key: HashKey,
    /// `load_bound`: the most an endpoint may carry, in percent of the pool's mean, before the key moves on. Default 150, at least 101;
    /// `None` (written 0): unbounded.
    pub load_bound_percent: Option<u32>,
}

/// What is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashKey {
    /// `key = "source"`: the client's address. The only one for `tcp` and `udp`.
    Source,
    /// `key = "header:NAME"`: that header's value; requests without it are picked at random.
    Header(String),
    /// `key = "cookie:NAME"`: that cookie's value; requests without it are picked at random.
    Cookie(String),
    /// `key = "query:NAME"`: that query parameter's value, as sent; requests without it are picked at random.
    Query(String),
    /// `key = "path"`: the path, without the query.
    Path,
}

/// What happens below `min_healthy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BelowMinHealthy {
    /// Traffic is spread over all enabled endpoints, healthy or not.
    FailOpen,
    /// Requests are answered 503.
    FailClosed,
}

/// `[pool.NAME.timeouts]`: how long we wait for an endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolTimeouts {
    /// `connect`: one attempt. Default 2 s.
    pub connect: Duration,
    /// `first_byte`: from the sent request to the response head. Default 60 s.
    pub first_byte: Duration,
    /// `idle`: no byte from the endpoint in the middle of a response. Default 60 s.
    pub idle: Duration,
    /// `keep_alive`: an idle pooled connection. Default 30 s; less where the endpoint says so.
    pub keep_alive: Duration,
    /// `total`: a whole exchange, queue included; `None` (written "0s"): no bound. Default none.
    pub total: Option<Duration>,
}

impl Default for PoolTimeouts {
    fn default() -> Self {
        PoolTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(30),
            total: None,
        }
    }
}

/// `[pool.NAME.limits]`
#[derive(Clone, PartialEq, Debug)]
pub struct PoolLimits {
    /// `connections_per_endpoint`: requests or sessions at once on one endpoint; `None` (written 0): no bound. Default none.
    pub connections_per_endpoint: Option<NonZeroU32>,
    /// `queue_max`: requests that wait for an endpoint; more are answered 503 at once. Default 1000.
    pub queue_max: u32,
    /// `queue_timeout`: how long one waits before 503. Default 1 s.
    pub queue_timeout: Duration,
    /// `retries_max`: further attempts of one request. Default 2.
    pub retries_max: u32,
    /// `idle_connections_max`: idle connections kept per endpoint over all threads. Default 512.
    pub idle_connections_max: u32,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits {
            connections_per_endpoint: None,
            queue_max: 1000,
            queue_timeout: Duration::from_secs(1),
            retries_max: 2,
            idle_connections_max: 512,
        }
    }
}

/// `[pool.NAME.health]`
#[derive(Clone, PartialEq, Debug)]
pub struct HealthCheck {
    /// `type`, with what belongs to it alone.
    pub probe: Probe,
    /// `interval`. Default 2 s, at least 10 ms.
    pub interval: Duration,
    /// `fast_interval`: while the verdict is changing (some of rise or fall counted). Default: `interval`, and at most that.
    pub fast_interval: Duration,
    /// `down_interval`: while down for longer than ten times `interval`. Default: `interval`, and at least that.
    pub down_interval: Duration,
    /// `timeout`. Default 1 s, or `interval` if that is less; never above `interval`.
    pub timeout: Duration,
    /// `rise`: successes in a row that make it healthy. Default 2.
    pub rise: NonZeroU32,
    /// `fall`: failures in a row that make it unhealthy. Default 3.
    pub fall: NonZeroU32,
    /// `port`: probe this port instead of the endpoint's.
    pub port: Option<u16>,
}

/// How an endpoint is probed.
#[derive(Clone, Debug)]
pub enum Probe {
    /// `type = "http"` and `type = "https"`: a request and what its answer must be.
    Http {
        /// Under TLS, by the pool's settings (`https`).
        tls: bool,
        /// `method`. Default `GET`.
        method: String,
        /// `path`. Default `/`.
        path: String,
        /// `host`: the `Host` header. Default: the endpoint's address.
        host: Option<String>,
        /// `expect`: accepted statuses, as ranges (`"200-399"`, `200`, or a list of both). Default 200-399.
        expect: Vec<(u16, u16)>,
        /// `body`: a regular expression that the first 64 KiB of the body must match.
        body: Option<regex::bytes::Regex>,
    },
    /// `type = "tcp"`: a connection is accepted.
    Tcp,
    /// `type = "tls"`: a TLS handshake is completed. With `[pool.NAME.tls]` as traffic does it, else whatever the certificate says.
    Tls {
        /// `server_name`: SNI. Default: that of the pool's TLS, else the endpoint's host.
        server_name: Option<String>,
    },
    /// `type = "grpc"`: `grpc.health.v1.Health/Check` says SERVING. With `[pool.NAME.tls]` under that.
    Grpc {
        /// `service`: the name that is asked for. Default: none, which stands for the server as a whole.
        service: String,
    },
    /// `type = "udp"`: a datagram is answered.
    Udp {
        /// `request`: what is sent.
        request: Vec<u8>,
        /// `answer`: a regular expression that the answer must match. Default: any answer.
        answer: Option<regex::bytes::Regex>,
    },
    /// `type = "exec"`: a program exits with 0. It finds `WEIR_POOL`, `WEIR_ENDPOINT`, `WEIR_HOST` and `WEIR_PORT` in its environment.
    Exec {
        /// `command`: program and arguments, no shell.
        command: Vec<String>,
    },
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Probe::Http { tls, method, path, host, expect, body },
                Probe::Http { tls: t, method: m, path: p, host: h, expect: e, body: b },
            ) => {
                tls == t
                    && method == m
                    && path == p
                    && host == h
                    && expect == e
                    && body.as_ref().map(|r| r.as_str()) == b.as_ref().map(|r| r.as_str())
            }
            (Probe::Tcp, Probe::Tcp) => true,
            (Probe::Tls { server_name }, Probe::Tls { server_name: s }) => server_name == s,
            (Probe::Exec { command }, Probe::Exec { command: c }) => command == c,
            (Probe::Grpc { service }, Probe::Grpc { service: s }) => service == s,
            (Probe::Udp { request, answer }, Probe::Udp { request: r, answer: a }) => {
                request == r && answer.as_ref().map(|regex| regex.as_str()) == a.as_ref().map(|regex| regex.as_str())
            }
            _ => false,
        }
    }
}

/// `[pool.NAME.ejection]`: an endpoint that keeps failing real traffic is left out for a while.
#[derive(Clone, PartialEq, Debug)]
pub struct Ejection {
    /// `consecutive_failures`: connect failures, resets, garbage, timeouts and 5xx gateway answers (502, 503, 504) in a row. Default 5.
    pub consecutive_failures: NonZeroU32,
    /// `consecutive_errors`: such failures, or any 5xx answers, in a row; `None` (written 0): other 5xx do not count. Default none.
    pub consecutive_errors: Option<NonZeroU32>,
    /// `[pool.NAME.ejection.success_rate]`; absent: endpoints are not compared.
    pub success_rate: Option<SuccessRate>,
    /// `time`: the first ejection; the n-th in a row lasts n times as long. Default 10 s.
    pub time: Duration,
    /// `time_max`. Default 300 s, or `time` if that is more; never below `time`.
    pub time_max: Duration,
    /// `share_max`: the most of a pool that may be ejected at once, in percent. Default 50; one endpoint of a pool of one never is.
    pub share_max_percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            consecutive_failures: NonZeroU32::new(5).expect("5 is not zero"),
            consecutive_errors: None,
            success_rate: None,
            time: Duration::from_secs(10),
            time_max: Duration::from_secs(300),
            share_max_percent: 50,
        }
    }
}
