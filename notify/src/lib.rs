//! Telling people what happened, once, by the channels they chose.
//!
//! - [`message`]: one message to one channel, as it is kept and sent.
//! - [`channel`]: the seam to the world, one module for each kind of channel.
//! - [`transcript`]: the conversation with a server, without its secrets. [`secret`]: what must not be shown.
//! - [`tls`]: how channels trust servers.

pub mod channel;
pub mod message;
pub mod secret;
pub mod tls;
pub mod transcript;
