//! The trailer that proves where a packet comes from: HMAC-SHA256 (RFC 2104) with a key shared by the nodes.
//!
//! ```text
//!  +---------------------------+  VRRP message, checksum as without a trailer
//!  | ...                       |
//!  +-------------+-------------+
//!  | "WVA1"      | 0 0 0 | id  |  4 + 4 bytes
//!  +-------------+-------------+
//!  | made at                   |  8 bytes: microseconds since 1970, never twice the same from one sender
//!  +---------------------------+
//!  | HMAC-SHA256               |  32 bytes, over source address, destination address (16 bytes each), message, key id, made at
//!  +---------------------------+
//! ```
//!
//! A router without the key discards the packet for its length. Keys rotate in three steps, each on one node after the other: add the new
//! key as second line of the file, move it to the first line, remove the old one. The first line signs, all lines are accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Discard;

/// Length of the trailer.
pub const TRAILER_LEN: usize = 48;

/// The most keys of one file: one signs, one comes, one goes, and one to spare.
pub const KEYS_MAX: usize = 4;

/// Senders remembered for the order of their packets. More than one link has routers.
const SENDERS_MAX: usize = 64;

const MAGIC: &[u8; 4] = b"WVA1";

/// A shared secret. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Names the key in the packet; the same on all nodes.
    pub id: u8,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, secret)", self.id)
    }
}

/// What is wrong with a key file. Never shows a secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// No line with a key.
    #[error("no key in it: write lines of a number and a secret, such as \"1 <64 hexadecimal digits>\" (openssl rand -hex 32)")]
    Empty,
    /// More than [`KEYS_MAX`].
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
    /// A line that is not a number and a secret.
    #[error("line {0}: expected a number from 0 to 255 and a secret of hexadecimal digits")]
    Line(usize),
    /// Less than 16 bytes of secret.
    #[error("line {0}: the secret needs at least 32 hexadecimal digits (openssl rand -hex 32)")]
    Short(usize),
    /// Twice the same number.
    #[error("line {0}: key {1} is there twice")]
    Twice(usize, u8),
}

/// The keys of a file: the first signs, all are accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads a key file: lines of `NUMBER SECRET`, the secret in hexadecimal digits; empty lines and lines that begin with `#` are left
    /// out.
    pub fn parse(text: &str) -> Result<Keys, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text.trim())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (id, secret) = text.split_once(char::is_whitespace).ok_or(KeyError::Line(line))?;
            let id = id.parse().map_err(|_| KeyError::Line(line))?;
            let secret = hexadecimal(secret.trim()).ok_or(KeyError::Line(line))?;
            if secret.len() < 16 {
                return Err(KeyError::Short(line));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyError::Twice(line, id));
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyError::TooMany);
            }
            keys.push(Key { id, secret });
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Keys(keys)) }
    }

    /// Appends the trailer to a message. `made_at` is the sender's clock since 1970; the caller sees to it that it always grows.
    pub(super) fn sign(&self, message: &mut Vec<u8>, source: IpAddr, destination: IpAddr, made_at: Duration) {
        let key = &self.0[0];
        let made_at = microseconds(made_at).to_be_bytes();
        let code = code(key, source, destination, message, made_at).finalize().into_bytes();
        message.extend_from_slice(MAGIC);
        message.extend_from_slice(&u32::from(key.id).to_be_bytes());
        message.extend_from_slice(&made_at);
        message.extend_from_slice(&code);
    }

    /// Takes the trailer off. Returns the message and when it was made, in microseconds.
    pub(super) fn verify<'a>(&self, packet: &'a [u8], source: IpAddr, destination: IpAddr) -> Result<(&'a [u8], u64), Discard> {
        let at = packet.len().checked_sub(TRAILER_LEN).ok_or(Discard::Unauthenticated)?;
        let (message, trailer) = packet.split_at(at);
        let trailer = trailer.strip_prefix(MAGIC).ok_or(Discard::Unauthenticated)?;
        let (id, trailer) = trailer.split_first_chunk::<4>().ok_or(Discard::Unauthenticated)?;
        let (made_at, sent) = trailer.split_first_chunk::<8>().ok_or(Discard::Unauthenticated)?;
        let id = u32::from_be_bytes(*id);
        let key = self.0.iter().find(|key| u32::from(key.id) == id).ok_or(Discard::UnknownKey(id))?;
        // Compares in constant time.
        code(key, source, destination, message, *made_at).verify_slice(sent).map_err(|_| Discard::Forged)?;
        Ok((message, u64::from_be_bytes(*made_at)))
    }
}

/// Whether an authenticated packet is new: made near our own time, and after all others of its sender.
#[derive(Clone, Default, Debug)]
pub struct Guard {
    newest: BTreeMap<IpAddr, u64>,
}

impl Guard {
    /// Accepts each packet once. `wall` is our clock since 1970, `window` how far the sender's may be from it.
    pub(super) fn admit(&mut self, source: IpAddr, made_at: u64, wall: Duration, window: Duration) -> Result<(), Discard> {
        let distance = made_at.abs_diff(microseconds(wall));
        if u128::from(distance) > window.as_micros() {
            return Err(Discard::Stale(distance / 1_000_000));
        }
        if self.newest.get(&source).is_some_and(|newest| made_at <= *newest) {
            return Err(Discard::Replayed);
        }
        if self.newest.len() >= SENDERS_MAX && !self.newest.contains_key(&source) {
            // The one silent for longest has nothing left that the window would admit, or soon will not.
            let oldest = self.newest.iter().min_by_key(|(_, newest)| **newest).map(|(source, _)| *source);
            oldest.and_then(|source| self.newest.remove(&source));
        }
        self.newest.insert(source, made_at);
        Ok(())
    }
}

fn code(key: &Key, source: IpAddr, destination: IpAddr, message: &[u8], made_at: [u8; 8]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of any length");
    code.update(&wide(source));
    code.update(&wide(destination));
    code.update(message);
    code.update(&u32::from(key.id).to_be_bytes());
    code.update(&made_at);
    code
}

fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let pair = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    if digits.len().is_multiple_of(2) { digits.chunks_exact(2).map(pair).collect() } else { None }
}
