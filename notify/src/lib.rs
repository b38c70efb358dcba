//! Telling people what happened, once, by the channels they chose.
//!
//! ```text
//!   alarms ──► engine (pure) ──► messages ──► outbox (kept) ──► channels ──► people
//!                 ▲ acknowledgements              │ faults: retry, fallback, dead letter
//! ```
//!
//! - [`engine`]: incidents, who is told what and when. [`schedule`]: times of day and on-call. [`text`]: the words.
//! - [`link`]: the signed link that acknowledges.
//! - [`message`]: one message to one channel, as it is kept and sent.
//! - [`service`]: the thread that runs it all. [`outbox`]: what must outlive the process.
//! - [`channel`]: the seam to the world, one module for each kind of channel.
//! - [`transcript`]: the conversation with a server, without its secrets. [`secret`]: what must not be shown.
//! - [`tls`]: how channels trust servers.

pub mod channel;
pub mod engine;
pub mod link;
pub mod message;
pub mod outbox;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod text;
pub mod tls;
pub mod transcript;
