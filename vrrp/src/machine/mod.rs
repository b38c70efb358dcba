//! One virtual router of one family on one interface (RFC 9568 section 6). No sockets, no clock.
//!
//! ```text
//!                Start                          master silent for the master down interval,
//!   Initialize ────────► Backup ───────────────or a peer of ours asks────────► Master
//!       ▲                  │  ▲                                                  │  │
//!       └── cannot, Stop ──┘  └── heard a better one, handed over, stalled ──────┘  │
//!       └───────────────────────────── cannot, Stop ───────────────────────────────┘
//! ```
//!
//! The shell's loop: hand over every packet that waits ([`Instance::handle_packet`]) and everything that happened
//! ([`Instance::handle_input`]), then, if [`Instance::poll_timeout`] is not later than now, [`Instance::handle_timeout`]; after each of
//! them carry out [`Instance::poll_output`] until there is none. Waiting packets come before timeouts: after a pause they say who took over.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod events;
mod explain;
mod handover;
mod instance;
mod model;
mod receive;

pub use handover::LINGER;
pub use instance::Instance;
pub use model::{
    Announcements, Config, Counters, Destination, Event, EventKind, Input, MasterSeen, Output, Peer, StateKind, Status, Transition,
    UnicastPeer, VirtualAddress,
};

#[cfg(test)]
pub(crate) mod tests;
