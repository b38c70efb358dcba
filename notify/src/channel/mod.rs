//! Channels: how a message leaves the house.
//!
//! A channel moves one message to its server and says what came of it. It keeps nothing between two messages, decides nothing about retries,
//! and renders nothing but its own syntax. Time limit, retry, order and fallback belong to the outbox.

mod body;
mod build;
pub mod console;
pub mod email;
mod http;
mod progress;
pub mod script;
pub mod smpp;
pub mod sms;
pub mod snmp;
pub mod ticket;
pub mod ticket_log;
pub mod webhook;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use build::build;

use crate::message::Message;
use crate::transcript::Transcript;

/// One way to reach people.
pub trait Channel: Send + Sync + fmt::Debug {
    /// Delivers one message, once. The caller drops the future at the channel's time limit; whether the message may then have arrived is
    /// told by [`Transcript::hand_over`], which must be called before the bytes that make the other end act.
    ///
    /// # Errors
    ///
    /// A [`Fault`] that says whether another attempt makes sense.
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a>;
}

/// A delivery under way.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<Receipt, Fault>> + Send + 'a>>;

/// The other end took the message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// By what name the other end knows this incident from now on; given back in [`Message::reference`]. At most 500 characters are kept.
    pub reference: Option<String>,
    /// What the other end said, for the log. At most 500 characters are kept.
    pub said: String,
}

/// The message was not delivered, or nobody knows whether it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What to do about it.
    pub kind: FaultKind,
    /// What happened and, where known, what the operator should do; without secrets ([`Transcript::clean`]).
    pub text: String,
    /// The other end asked to wait this long.
    pub retry_after: Option<Duration>,
}

/// Whether another attempt makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Not delivered; a later attempt may succeed: refused connection, timeout before anything was handed over, 4xx of SMTP, 429 or 5xx of HTTP.
    Temporary,
    /// Not delivered, and the same message never will be: wrong credentials, unknown recipient, refused content, bad certificate.
    Permanent,
    /// Handed over, and the answer was lost. It is sent again, with the same key.
    Unknown,
}

impl FaultKind {
    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            FaultKind::Temporary => "temporary",
            FaultKind::Permanent => "permanent",
            FaultKind::Unknown => "unknown",
        }
    }
}

impl Fault {
    /// A later attempt may succeed.
    pub fn temporary(text: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Temporary, text: text.into(), retry_after: None }
    }

    /// No attempt will succeed until somebody changes something.
    pub fn permanent(text: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Permanent, text: text.into(), retry_after: None }
    }

    /// The conversation ended too early: unknown where the message was handed over already, temporary before that.
    pub fn broken(transcript: &Transcript, text: impl Into<String>) -> Fault {
        let kind = if transcript.handed_over() { FaultKind::Unknown } else { FaultKind::Temporary };
        Fault { kind, text: text.into(), retry_after: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// Base64 with padding (RFC 4648 section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([&0; 2]).take(3).fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = char::from(ALPHABET[(group >> (18 - 6 * place)) as usize & 63]);
            out.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_rfc_shows_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_broken_conversation_is_unknown_only_after_the_message_was_handed_over() {
        let mut transcript = Transcript::new();
        assert_eq!(Fault::broken(&transcript, "x").kind, FaultKind::Temporary);
        transcript.hand_over();
        assert_eq!(Fault::broken(&transcript, "x").kind, FaultKind::Unknown);
    }
}
