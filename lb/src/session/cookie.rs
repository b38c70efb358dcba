//! What a session's cookie says: an endpoint, sealed, so that no client can choose one.
//!
//! ```text
//!   seal = base64url( identity (8) | HMAC-SHA-256(key, "weir session" | pool | identity), first 16 bytes )
//! ```

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use weir_config::{CookieSecure, PoolName, SameSite, SessionCookie};

use super::EndpointId;

/// Length of a seal as it is sent: 24 bytes make 32 characters, none of which a cookie must quote (RFC 6265 section 4.1.1).
pub const SEAL_BYTES: usize = 32;

/// A sealed endpoint, as it is sent.
pub type Seal = [u8; SEAL_BYTES];

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Bytes of the code that go into a seal: a guess succeeds once in 2^128.
const CODE_BYTES: usize = 16;
/// The shortest secret, in characters; as many of `openssl rand -hex` hold 128 bits.
const SECRET_CHARS_MIN: usize = 32;
/// Secrets accepted at once: one that signs, and those that were before it.
const SECRETS_MAX: usize = 8;

/// What signs cookies. The first signs, all are accepted.
pub struct Keys {
    keys: Vec<hmac::Key>,
    /// Of the text, to see that it is another one.
    print: digest::Digest,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.print.as_ref() == other.print.as_ref()
    }
}

/// Why a text holds no keys. The text is not shown: it is secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    /// It has no line that is not empty.
    #[error("it holds no secret; `openssl rand -hex 32` prints a line for it")]
    Empty,
    /// A line is too short to be one.
    #[error("line {line} has fewer than {SECRET_CHARS_MIN} characters; `openssl rand -hex 32` prints a line that has enough")]
    Short {
        /// From 1.
        line: usize,
    },
    /// There are too many.
    #[error("it holds more than {SECRETS_MAX} secrets; remove those at the end, with which no cookie is signed any more")]
    Many,
}

impl Keys {
    /// Reads a file of keys: a secret a line, blanks around it and empty lines left out.
    ///
    /// # Errors
    /// There is none, or one that is none.
    pub fn parse(text: &str) -> Result<Keys, KeysError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(number, line)| (number, line.trim())).filter(|(_, line)| !line.is_empty()) {
            if line.len() < SECRET_CHARS_MIN {
                return Err(KeysError::Short { line: number + 1 });
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, line.as_bytes()));
        }
        match keys.len() {
            0 => Err(KeysError::Empty),
            1..=SECRETS_MAX => Ok(Keys { keys, print: digest::digest(&digest::SHA256, text.as_bytes()) }),
            _ => Err(KeysError::Many),
        }
    }

    /// The seal that a client gets.
    pub fn seal(&self, pool: &PoolName, id: EndpointId) -> Seal {
        seal(&self.keys[0], pool, id)
    }

    /// All seals that lead to an endpoint, that of the key that signs first.
    pub fn seals(&self, pool: &PoolName, id: EndpointId) -> impl Iterator<Item = Seal> {
        self.keys.iter().map(move |key| seal(key, pool, id))
    }

    /// The endpoint of a seal that was made with one of the keys.
    pub fn open(&self, pool: &PoolName, seal: &Seal) -> Option<EndpointId> {
        let bytes = decode(seal)?;
        let id = EndpointId(u64::from_be_bytes(*bytes.first_chunk()?));
        // Not the first difference may show in the time that it takes.
        let same = |other: Seal| other.iter().zip(seal).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
        self.seals(pool, id).map(same).fold(false, |any, same| any | same).then_some(id)
    }
}

fn seal(key: &hmac::Key, pool: &PoolName, id: EndpointId) -> Seal {
    let mut context = hmac::Context::with_key(key);
    for part in [b"weir session\0", pool.0.as_bytes(), b"\0", &id.0.to_be_bytes()] {
        context.update(part);
    }
    let code = context.sign();
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&id.0.to_be_bytes());
    bytes[8..].copy_from_slice(&code.as_ref()[..CODE_BYTES]);
    let mut out = [0; SEAL_BYTES];
    for (four, three) in out.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for (place, letter) in four.iter_mut().enumerate() {
            *letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
        }
    }
    out
}

fn decode(seal: &Seal) -> Option<[u8; 24]> {
    let mut bytes = [0; 24];
    for (four, three) in seal.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let mut bits = 0u32;
        for letter in four {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == letter)? as u32;
        }
        three.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(bytes)
}

/// The whole field that tells a client.
pub(super) fn line(cookie: &SessionCookie, seal: &Seal, is_https: bool) -> String {
    let SessionCookie { name, key_file: _, path, domain, max_age, secure, same_site } = cookie;
    let value: String = seal.iter().map(|letter| char::from(*letter)).collect();
    let mut line = format!("Set-Cookie: {name}={value}; Path={path}");
    if let Some(domain) = domain {
        line.push_str("; Domain=");
        line.push_str(domain);
    }
    if let Some(age) = max_age.as_ref().map(Duration::as_secs) {
        line.push_str(&format!("; Max-Age={}", age.max(1)));
    }
    line.push_str(match same_site {
        SameSite::Strict => "; HttpOnly; SameSite=Strict",
        SameSite::Lax => "; HttpOnly; SameSite=Lax",
        SameSite::None => "; HttpOnly; SameSite=None",
    });
    let secure = match secure {
        CookieSecure::Auto => is_https,
        CookieSecure::Always => true,
        CookieSecure::Never => false,
    };
    line.push_str(if secure { "; Secure\r\n" } else { "\r\n" });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_not_shown() {
        let secret = "0123456789abcdef".repeat(2);
        let keys = Keys::parse(&format!("\n  {secret} \r\n{secret}x\n")).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys { count: 2, .. }");
        assert_ne!(keys, Keys::parse(&secret).unwrap());
        for (text, error) in [
            (" \n".to_owned(), KeysError::Empty),
            (format!("{secret}\n\nshort\n"), KeysError::Short { line: 3 }),
            (format!("{secret}\n").repeat(9), KeysError::Many),
        ] {
            assert_eq!(Keys::parse(&text).unwrap_err(), error);
        }
    }

    #[test]
    fn a_seal_is_opened_by_its_keys_alone() {
        let keys = |text: &str| Keys::parse(&text.repeat(32)).unwrap();
        let pool = PoolName::from("p");
        let seal = keys("a").seal(&pool, EndpointId(0x0102_0304_0506_0708));
        assert!(seal.starts_with(b"AQIDBAUGBw"), "{}", seal.escape_ascii());
        assert_eq!(keys("a").open(&pool, &seal), Some(EndpointId(0x0102_0304_0506_0708)));
        assert_eq!(keys("b").open(&pool, &seal), None);
        assert_eq!(keys("a").open(&PoolName::from("q"), &seal), None);
        for at in 0..SEAL_BYTES {
            for other in *b"AZaz09-_=; " {
                let mut forged = seal;
                forged[at] = other;
                assert!(forged == seal || keys("a").open(&pool, &forged).is_none(), "{}", forged.escape_ascii());
            }
        }
    }

    #[test]
    fn the_field_says_what_the_file_says() {
        let mut cookie = SessionCookie {
            name: "s".into(),
            key_file: "/k".into(),
            path: "/shop".into(),
            domain: Some("example.com".into()),
            max_age: Some(Duration::from_secs(90)),
            secure: CookieSecure::Auto,
            same_site: SameSite::Strict,
        };
        let said = |cookie: &SessionCookie, https| line(cookie, &[b'x'; SEAL_BYTES], https).replace(&"x".repeat(SEAL_BYTES), "X");
        let all = "Set-Cookie: s=X; Path=/shop; Domain=example.com; Max-Age=90; HttpOnly; SameSite=Strict";
        assert_eq!(said(&cookie, false), format!("{all}\r\n"));
        assert_eq!(said(&cookie, true), format!("{all}; Secure\r\n"));
        (cookie.domain, cookie.max_age, cookie.same_site, cookie.secure) = (None, None, SameSite::None, CookieSecure::Always);
        assert_eq!(said(&cookie, false), "Set-Cookie: s=X; Path=/shop; HttpOnly; SameSite=None; Secure\r\n");
        cookie.secure = CookieSecure::Never;
        assert!(!said(&cookie, true).contains("Secure"));
    }
}
