//! The link in a message that acknowledges its incident: signed, for one incident and one channel, and good until a time. Pure.
//!
//! It works once because an incident is acknowledged once; whoever follows it later is told who was first.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::message::UnixMs;

/// Bytes of the signature that are in the link: 128 bits.
const MAC_BYTES: usize = 16;
/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 256;

/// Signs links and checks them. Whoever has it can acknowledge everything.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

/// What a good link says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission {
    /// The incident's number.
    pub incident: u64,
    /// When the incident began: a number that is given out again is another incident.
    pub started_at: UnixMs,
    /// The channel that carried the link.
    pub channel: String,
}

/// Why a link is not good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was not made here, or was changed.
    Forged,
    /// Its time is over.
    Expired,
}

impl LinkKey {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> LinkKey {
        LinkKey(bytes)
    }

    /// The key itself, to keep it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A token: letters, digits, hyphen, underscore and dot.
    pub fn sign(&self, permission: &Permission, until: UnixMs) -> String {
        let Permission { incident, started_at, channel } = permission;
        // The channel last: its name may hold the separator.
        let said = format!("{incident}~{started_at}~{until}~{channel}");
        let mac: String = self.mac(&said).iter().take(MAC_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("{mac}~{said}")
    }

    /// What a token allows.
    ///
    /// # Errors
    ///
    /// It was not made with this key, or its time is over.
    pub fn check(&self, token: &str, now: UnixMs) -> Result<Permission, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Forged);
        }
        let (mac, said) = token.split_once('~').ok_or(Refusal::Forged)?;
        let given = unhex(mac).filter(|bytes| bytes.len() == MAC_BYTES).ok_or(Refusal::Forged)?;
        let mut hmac = self.hmac();
        hmac.update(said.as_bytes());
        // In constant time.
        hmac.verify_truncated_left(&given).map_err(|_| Refusal::Forged)?;
        let mut parts = said.splitn(4, '~');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(Refusal::Forged);
        let (incident, started_at, until) = (number()?, number()?, number()?);
        let channel = parts.next().unwrap_or_default().to_owned();
        if now >= until { Err(Refusal::Expired) } else { Ok(Permission { incident, started_at, channel }) }
    }

    fn hmac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length")
    }

    fn mac(&self, said: &str) -> Vec<u8> {
        let mut hmac = self.hmac();
        hmac.update(said.as_bytes());
        hmac.finalize().into_bytes().to_vec()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(u8::try_from(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?).unwrap_or(0))).collect()
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_what_it_was_made_for() {
        let key = LinkKey::new([7; 32]);
        let permission = Permission { incident: 3, started_at: 1000, channel: "ops.mail-1_a".into() };
        let token = key.sign(&permission, 5000);
        assert_eq!(key.check(&token, 4999), Ok(permission.clone()));
        assert_eq!(key.check(&token, 5000), Err(Refusal::Expired));
        assert_eq!(LinkKey::new([8; 32]).check(&token, 0), Err(Refusal::Forged));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(key.check(&changed, 0), Err(Refusal::Forged), "{changed}");
        }
        for token in ["", "~", "00~1~2~3~x", &"a".repeat(1000), &token[..token.len() - 1], "é~1", &token[2..]] {
            assert_eq!(key.check(token, 0), Err(Refusal::Forged), "{token}");
        }
        assert_eq!(format!("{key:?}"), "LinkKey");
    }
}
