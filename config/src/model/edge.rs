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
