//! One line per request or session.

use std::net::SocketAddr;

use crate::cause::Cause;

/// What is known about an exchange when it ends. Times in microseconds from `started`; `None`: that phase was not reached.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Wall clock at the first byte of the request, microseconds since the epoch.
    pub started_us: u64,
    /// Listener.
    pub listener: &'a str,
    /// Client.
    pub client: SocketAddr,
    /// Pool; empty when none was chosen.
    pub pool: &'a str,
    /// Endpoint; `None` when none was chosen.
    pub endpoint: Option<SocketAddr>,
    /// Method; empty for TCP.
    pub method: &'a [u8],
    /// Host; may be empty.
    pub host: &'a [u8],
    /// Target as sent, bytes from outside.
    pub target: &'a [u8],
    /// 0 or 1: the minor version of HTTP/1.
    pub http_minor: u8,
    /// Status sent to the client; 0 when none was.
    pub status: u16,
    /// Request id; may be empty.
    pub request_id: &'a [u8],
    /// `User-Agent`; may be empty.
    pub user_agent: &'a [u8],
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// Waiting for an endpoint.
    pub queue_us: Option<u32>,
    /// Connecting; 0 when a pooled connection was used.
    pub connect_us: Option<u32>,
    /// From the sent request to the response head.
    pub first_byte_us: Option<u32>,
    /// Everything.
    pub total_us: u32,
    /// Attempts made.
    pub attempts: u32,
    /// Whether the last attempt used a pooled connection.
    pub reused: bool,
    /// Why it ended.
    pub cause: Cause,
}

/// STUB: appends the record as one JSON object and a line break.
pub fn write_json(_record: &Record<'_>, _out: &mut Vec<u8>) {}

/// STUB: appends the record as one line for people.
pub fn write_text(_record: &Record<'_>, _out: &mut Vec<u8>) {}
