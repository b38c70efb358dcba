//! Threads, sockets, bytes. Moves, waits and counts; what to do is decided by the pure parts of this crate.
//!
//! ```text
//!   plane ──commands──► worker (one thread each) ──► accept ──► http ──► exchange ──► tunnel
//!                        │ timers, buffers, upstreams, waiters     │        └ pick, upstream, io, trace
//!                        └ log                                     └─────► tcp ──► tunnel
//!                        └ udp (one task per socket: flows)
//!   accept ──from a proxy that announces clients──► peer ──► as above
//! ```

mod buffer;
mod endpoint;
mod exchange;
mod h2;
mod http;
mod io;
mod log;
mod mirror;
mod peer;
mod pick;
mod plane;
mod pulse;
mod routing;
mod session_keys;
mod stream;
mod tcp;
mod timer;
mod tls;
mod trace;
mod tunnel;
mod udp;
mod upstream;
mod worker;

pub use plane::{ApplyError, DataPlane, DrainProgress, ListeningSocket, LogSink, Options};
pub use pulse::{Vitality, Watch};
pub use session_keys::KeyFileError;
