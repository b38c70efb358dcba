//! Load generators. Each runs as a process of its own, so that the CPU time of the proxy and that of the load are apart, and reports one line
//! of JSON. They read the proxy's CPU time themselves, at the very beginning and end of the measured window.

pub(crate) mod closed;
pub(crate) mod histogram;
pub(crate) mod idle;
pub(crate) mod open;
pub(crate) mod response;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::Security;

/// What all generators need to know.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// Where to connect.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// The path of the requests.
    #[arg(long, default_value = "/b/100")]
    pub(crate) path: String,
    /// The `Host` of the requests.
    #[arg(long, default_value = "bench.example")]
    pub(crate) host: String,
    /// One more header field of the requests, as `name: value`.
    #[arg(long)]
    pub(crate) field: Option<String>,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Whether the connections are under TLS, and how each begins.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) security: Security,
}

/// When to measure, and whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Window {
    /// Load before the measured window, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub(crate) warmup_ms: u64,
    /// The measured window, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    pub(crate) measure_ms: u64,
    /// The process whose CPU time (with its descendants') is read at both ends of the window.
    #[arg(long)]
    pub(crate) cpu_of: Option<u32>,
}

impl Window {
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_millis(self.warmup_ms)
    }

    pub(crate) fn measure(&self) -> Duration {
        Duration::from_millis(self.measure_ms)
    }
}

impl Target {
    /// The request that is sent over and over, in the shape a plain client gives it.
    pub(crate) fn request(&self, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "" } else { "Connection: close\r\n" };
        let field = self.field.iter().map(|field| format!("{field}\r\n")).collect::<String>();
        let Target { path, host, .. } = self;
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-benches\r\nAccept: */*\r\n{field}{connection}\r\n").into_bytes()
    }
}

/// What a generator saw in its window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Exchanges completed: answers, echoes, connections.
    pub(crate) done: u64,
    /// Payload bytes received, or sent to a sink.
    pub(crate) bytes: u64,
    /// Answers that were not a complete 200, and connections that could not be made.
    pub(crate) errors: u64,
    /// Connections that had to be made again.
    pub(crate) reconnects: u64,
    /// Connections that began with a resumed TLS session, of those with one exchange each.
    pub(crate) resumed: u64,
    /// Length of the window.
    pub(crate) elapsed_ns: u64,
    /// CPU time of the measured process tree.
    pub(crate) cpu_ns: u64,
    /// Latency quantiles in microseconds; open loop only.
    pub(crate) latency: Option<Latency>,
}

/// Latency in microseconds, from the moment a request should have been sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}
