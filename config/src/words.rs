//! How the choices of the file are written. The same words serve the API, logs and command lines.

use std::fmt;

use crate::model::{
    AccessLogFormat, AdminState, AmbiguousPaths, Balance, BelowMinHealthy, CookieSecure, HashKey, Probe, Protocol, ProxyVersion, RetryOn,
    SameSite, SessionGone, SessionMemory, TrackSubject, UpstreamProtocol, VipChecksum, VipMode, VrrpVersion,
};

impl AdminState {
    /// All states.
    pub const ALL: [AdminState; 3] = [AdminState::Ready, AdminState::Draining, AdminState::Maintenance];

    /// `ready`, `draining` or `maintenance`.
    pub fn word(self) -> &'static str {
        match self {
            AdminState::Ready => "ready",
            AdminState::Draining => "draining",
            AdminState::Maintenance => "maintenance",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<AdminState> {
        AdminState::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl Balance {
    /// `least-request`, `round-robin`, `random`, `peak-ewma` or `maglev`.
    pub fn word(&self) -> &'static str {
        match self {
            Balance::LeastRequest => "least-request",
            Balance::RoundRobin => "round-robin",
            Balance::Random => "random",
            Balance::PeakEwma => "peak-ewma",
            Balance::Maglev(_) => "maglev",
        }
    }
}

impl BelowMinHealthy {
    /// `fail-open` or `fail-closed`.
    pub fn word(self) -> &'static str {
        match self {
            BelowMinHealthy::FailOpen => "fail-open",
            BelowMinHealthy::FailClosed => "fail-closed",
        }
    }
}

impl SessionMemory {
    /// `cookie` or `source`.
    pub fn word(&self) -> &'static str {
        match self {
            SessionMemory::Cookie(_) => "cookie",
            SessionMemory::Source { .. } => "source",
        }
    }
}

impl CookieSecure {
    /// `auto`, `always` or `never`.
    pub fn word(self) -> &'static str {
        match self {
            CookieSecure::Auto => "auto",
            CookieSecure::Always => "always",
            CookieSecure::Never => "never",
        }
    }
}

impl SameSite {
    /// `strict`, `lax` or `none`.
    pub fn word(self) -> &'static str {
        match self {
            SameSite::Strict => "strict",
            SameSite::Lax => "lax",
            SameSite::None => "none",
        }
    }
}

impl SessionGone {
    /// `rebalance` or `fail`.
    pub fn word(self) -> &'static str {
        match self {
            SessionGone::Rebalance => "rebalance",
            SessionGone::Fail => "fail",
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::ConnectFailed => f.write_str("connect-failed"),
            RetryOn::Closed => f.write_str("closed"),
            RetryOn::BadResponse => f.write_str("bad-response"),
            RetryOn::Timeout => f.write_str("timeout"),
            RetryOn::Status(status) => write!(f, "{status}"),
        }
    }
}

impl ProxyVersion {
    /// `v1` or `v2`.
    pub fn word(self) -> &'static str {
        match self {
            ProxyVersion::V1 => "v1",
            ProxyVersion::V2 => "v2",
        }
    }
}

impl AccessLogFormat {
    /// `json` or `text`.
    pub fn word(self) -> &'static str {
        match self {
            AccessLogFormat::Json => "json",
            AccessLogFormat::Text => "text",
        }
    }
}

impl AmbiguousPaths {
    /// `refuse` or `keep`.
    pub fn word(self) -> &'static str {
        match self {
            AmbiguousPaths::Refuse => "refuse",
            AmbiguousPaths::Keep => "keep",
        }
    }
}

impl UpstreamProtocol {
    /// `http1` or `h2`.
    pub fn word(self) -> &'static str {
        match self {
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2 => "h2",
        }
    }
}

impl Protocol {
    /// `http`, `tcp` or `udp`.
    pub fn word(&self) -> &'static str {
        match self {
            Protocol::Http(_) => "http",
            Protocol::Tcp(_) => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Probe {
    /// `http`, `https`, `tcp`, `tls`, `grpc`, `udp` or `exec`.
    pub fn word(&self) -> &'static str {
        match self {
            Probe::Http { tls: false, .. } => "http",
            Probe::Http { tls: true, .. } => "https",
            Probe::Tcp => "tcp",
            Probe::Tls { .. } => "tls",
            Probe::Exec { .. } => "exec",
            Probe::Grpc { .. } => "grpc",
            Probe::Udp { .. } => "udp",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for BelowMinHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKey::Source => f.write_str("source"),
            HashKey::Header(name) => write!(f, "header:{name}"),
            HashKey::Cookie(name) => write!(f, "cookie:{name}"),
            HashKey::Query(name) => write!(f, "query:{name}"),
            HashKey::Path => f.write_str("path"),
        }
    }
}

impl VrrpVersion {
    /// 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            VrrpVersion::V2 => 2,
            VrrpVersion::V3 => 3,
        }
    }
}

impl VipMode {
    /// `auto`, `tun`, `macvlan` or `interface`.
    pub fn word(self) -> &'static str {
        match self {
            VipMode::Auto => "auto",
            VipMode::Tun => "tun",
            VipMode::Macvlan => "macvlan",
            VipMode::Interface => "interface",
        }
    }
}

impl VipChecksum {
    /// `pseudo-header` or `rfc9568`.
    pub fn word(self) -> &'static str {
        match self {
            VipChecksum::PseudoHeader => "pseudo-header",
            VipChecksum::Rfc9568 => "rfc9568",
        }
    }
}

impl TrackSubject {
    /// `interface`, `listener`, `pool`, `file` or `command`.
    pub fn word(&self) -> &'static str {
        match self {
            TrackSubject::Interface(_) => "interface",
            TrackSubject::Listener(_) => "listener",
            TrackSubject::Pool(_) => "pool",
            TrackSubject::File(_) => "file",
            TrackSubject::Command { .. } => "command",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_states_read_what_they_write() {
        for state in AdminState::ALL {
            assert_eq!(AdminState::parse(state.word()), Some(state));
        }
        assert_eq!(AdminState::parse("Ready"), None);
    }
}
