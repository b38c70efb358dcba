//! What a pool and a listener say to those in front of and behind them besides the traffic itself.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// `proxy_protocol` of a pool: how endpoints are told who the client is, before the first byte of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyVersion {
    /// `v1`: a line.
    V1,
    /// `v2`: binary, with what a proxy in front told besides.
    V2,
}

/// `[pool.NAME.session]`: a client stays on the endpoint that it had before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// `type`, with what belongs to it alone.
    pub memory: SessionMemory,
    /// `gone`: what happens when that endpoint cannot be had.
    pub gone: SessionGone,
}

/// Where it is remembered which endpoint a client had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionMemory {
    /// `type = "cookie"`: by the client, signed, so that every node with the same keys understands it. Only for HTTP.
    Cookie(SessionCookie),
    /// `type = "source"`: here, by the client's address, an IPv6 network of 64 bits being one client. Not for `udp`.
    Source {
        /// `expiry`: from the client's last request or session. Default 30 min.
        expiry: Duration,
        /// `clients_max`: beyond it those that were quiet the longest are forgotten. Default 65,536.
        clients_max: NonZeroU32,
    },
}

/// The cookie that is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionCookie {
    /// `name`. Default `weir-session`.
    pub name: String,
    /// `key_file`: lines of secrets. The first signs, all are accepted.
    pub key_file: PathBuf,
    /// `path`. Default `/`.
    pub path: String,
    /// `domain`; absent: the host that was asked.
    pub domain: Option<String>,
    /// `max_age`; `None` (written "0s"): until the browser ends. Default none.
    pub max_age: Option<Duration>,
    /// `secure`. Default auto.
    pub secure: CookieSecure,
    /// `same_site`. Default lax.
    pub same_site: SameSite,
}

/// `secure`: whether the client may send the cookie by HTTPS alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CookieSecure {
    /// `auto`: where it came by HTTPS itself.
    Auto,
    /// `always`: TLS ends in front of us.
    Always,
    /// `never`
    Never,
}

/// `same_site`: whether requests that other sites cause bring the cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SameSite {
    /// `strict`: none do.
    Strict,
    /// `lax`: links that are followed do.
    Lax,
    /// `none`: all do; browsers want it `Secure` then.
    None,
}

/// `gone`: the endpoint is down, draining, full or no longer in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionGone {
    /// `rebalance`: another one takes the client, and is its endpoint from then on.
    Rebalance,
    /// `fail`: 503, or the session is closed.
    Fail,
}

/// `[pool.NAME.retry]`: which attempts are made again, besides how many (`limits.retries_max`). What an endpoint may have processed is repeated
/// only for idempotent methods, whatever is told here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// `on`. Default `connect-failed` and `closed`.
    pub on: Vec<RetryOn>,
    /// `budget`: retries in percent of the pool's requests. Default 20; `None` (written 0): no bound.
    pub budget_percent: Option<NonZeroU32>,
    /// `per_try`: from the beginning of an attempt to its response head; `None` (written "0s"): no bound of its own. Default none.
    pub per_try: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { on: vec![RetryOn::ConnectFailed, RetryOn::Closed], budget_percent: NonZeroU32::new(20), per_try: None }
    }
}

/// What an attempt is made again for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryOn {
    /// `connect-failed`: no connection, or none in time.
    ConnectFailed,
    /// `closed`: the endpoint closed the connection before it answered.
    Closed,
    /// `bad-response`: it answered what is not HTTP.
    BadResponse,
    /// `timeout`: it did not answer in time (`first_byte` or `per_try`).
    Timeout,
    /// A status, such as `"503"`.
    Status(u16),
}

/// `[pool.NAME.breaker]`: bounds on a pool; beyond one the answer is 503 at once. What waits is bounded by `limits.queue_max`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breaker {
    /// `requests_max`: requests and sessions at once, waiting ones included; `None` (written 0): no bound.
    pub requests_max: Option<NonZeroU32>,
    /// `connections_max`: connections to endpoints, idle ones included; `None` (written 0): no bound.
    pub connections_max: Option<NonZeroU32>,
    /// `retries_max`: retries under way at once; `None` (written 0): no bound.
    pub retries_max: Option<NonZeroU32>,
}

/// `[pool.NAME.adaptive]`: a bound on requests at once that follows the pool's latency; beyond it 503.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adaptive {
    /// `min`. Default 4.
    pub least: NonZeroU32,
    /// `max`; never below `min`. Default 1000.
    pub most: NonZeroU32,
    /// `tolerance`: how much longer than usual answers may take, in percent. Default 50.
    pub tolerance_percent: u32,
}

/// `[pool.NAME.ejection.success_rate]`: endpoints that answer worse than the others of their pool are left out.
#[derive(Clone, PartialEq, Debug)]
pub struct SuccessRate {
    /// `deviations`: how far below the mean an endpoint's share of good answers may lie, in standard deviations. Default 1.9.
    pub deviations: f64,
    /// `requests_min`: endpoints with fewer in an interval are not looked at. Default 100.
    pub requests_min: NonZeroU32,
    /// `endpoints_min`: with fewer endpoints to compare nobody is left out. Default 5.
    pub endpoints_min: NonZeroU32,
    /// `interval`. Default 10 s.
    pub interval: Duration,
}
