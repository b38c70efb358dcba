//! What a pool and a listener say to those in front of and behind them besides the traffic itself.

/// `proxy_protocol` of a pool: how endpoints are told who the client is, before the first byte of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyVersion {
    /// `v1`: a line.
    V1,
    /// `v2`: binary, with what a proxy in front told besides.
    V2,
}
