//! UDP flows (pure): which datagrams belong together, for how long, and how many there may be.
//!
//! ```text
//!   datagram of a client ─► Table::handle_client ─► Known | New | Full
//!   datagram of an endpoint ─► Table::handle_endpoint
//!   time ─► Table::handle_timeout ─► poll_output: (flow, why it ended)
//! ```
//!
//! A flow is all that one client sends to one address of ours, and what comes back. It lives until nothing was heard from either side for
//! a while. HTTP/3 would take its datagrams where `shell/udp` looks up their flow, before any endpoint is picked.
//!
//! What is deliberately not here: sockets, clocks, picking endpoints.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod counters;
mod table;

pub use counters::{Dropped, UdpShard};
pub use table::{Admit, Closed, FlowId, FlowKey, Settings, Table};
