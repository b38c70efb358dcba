//! The data plane of `weir`: listeners, HTTP/1.1 and TCP, pools, balancing, health checks, drain, statistics.
//!
//! ```text
//!   config ──► director ──► Snapshot ──► workers (one per core) ──► endpoints
//!                 ▲  builds, swaps       read it, once a request
//!                 └── probes, ejections, run-time changes: one writer
//! ```
//!
//! - [`balance`]: picking an endpoint (pure).
//! - [`health`]: verdicts, ejection, probe schedule (pure) and the prober (shell).
//! - [`http1`]: HTTP/1.1 framing (pure): heads, bodies, forwarding.
//! - [`snapshot`]: what the workers read. [`endpoint`]: what outlives a snapshot.
//! - [`h2`]: HTTP/2 in terms of HTTP/1.1 (pure).
//! - [`resilience`]: retries, bounds on pools, outliers (pure).
//! - [`route`]: where a request goes (pure). [`session`]: clients that come back (pure). [`udp`]: flows of datagrams (pure).
//! - [`limit`]: rate limits (pure). [`proxy_protocol`]: who a client is, told by the proxy in front (pure).
//! - [`director`]: the one writer. [`shell`]: threads, sockets, bytes.
//! - [`tls`]: certificates, tickets.
//! - [`cause`]: why a request ended. [`stats`], [`histogram`]: counting. [`access_log`]: one line per request.
//!
//! What is deliberately not here: virtual IPs, virtual machines, alarms, the API.

pub mod access_log;
pub mod balance;
pub mod cause;
pub mod director;
pub mod endpoint;
pub mod event;
pub mod h2;
pub mod health;
pub mod histogram;
pub mod http1;
pub mod limit;
pub mod proxy_protocol;
pub mod resilience;
pub mod route;
pub mod session;
pub mod shell;
pub mod snapshot;
pub mod stats;
pub mod status;
pub mod tls;
pub mod udp;
