//! Threads, sockets, bytes. STUB of the interface: [`DataPlane`].

mod plane;

pub use plane::{ApplyError, DataPlane, DrainProgress, ListeningSocket, LogSink, Options};
