//! The first thing that a TLS client says (pure), as far as it tells where the connection goes: TLS that does not end here is passed on unread.
//!
//! ```text
//!   record (type, version, length) ──► handshake (type, length) ──► ClientHello ──► extensions ──► server_name
//! ```
//!
//! Nothing is judged here: what is no TLS, is malformed, or hides its name (Encrypted Client Hello, RFC 9849, shows a public one) simply names
//! nobody, and the endpoint finds out for itself.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::borrow::Cow;

/// The most that is looked at. A hello with post-quantum key shares has about 2 KiB; RFC 8446 section 5.1 allows 16 KiB in one record.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

const RECORD_HEADER: usize = 5;
/// RFC 8446 section 5.1.
const FRAGMENT_BYTES_MAX: usize = 1 << 14;
const CONTENT_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 6066 section 3.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// RFC 1035 section 2.3.4.
const NAME_BYTES_MAX: usize = 255;

/// What a connection begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hello<'a> {
    /// It may be a hello, of which more is to come.
    Partial,
    /// Whatever comes, no name will be known.
    Nameless,
    /// A hello that asks for this name, as sent.
    Named(Cow<'a, str>),
}

/// Reads what a connection begins with. A verdict stays what it is, whatever follows.
pub fn read(bytes: &[u8]) -> Hello<'_> {
    let bytes = &bytes[..bytes.len().min(HELLO_BYTES_MAX)];
    match handshake(bytes) {
        Some(Some(Cow::Borrowed(message))) => name_of(message).map_or(Hello::Nameless, |name| Hello::Named(Cow::Borrowed(name))),
        Some(Some(Cow::Owned(message))) => name_of(&message).map_or(Hello::Nameless, |name| Hello::Named(Cow::Owned(name.to_owned()))),
        Some(None) => Hello::Nameless,
        None if bytes.len() >= HELLO_BYTES_MAX => Hello::Nameless,
        None => Hello::Partial,
    }
}

/// The body of the ClientHello, put together from its records. `None`: it has not come whole; `Some(None)`: it is none.
fn handshake(bytes: &[u8]) -> Option<Option<Cow<'_, [u8]>>> {
    let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let begins = [CONTENT_HANDSHAKE, 3];
        let seen = rest.len().min(begins.len());
        if rest[..seen] != begins[..seen] {
            return Some(None);
        }
        let (header, body) = rest.split_first_chunk::<RECORD_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > FRAGMENT_BYTES_MAX {
            return Some(None);
        }
        let fragment = &body[..length.min(body.len())];
        if whole.is_empty() {
            whole = Cow::Borrowed(fragment);
        } else {
            whole.to_mut().extend_from_slice(fragment);
        }
        if whole.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Some(None);
        }
        if let Some(&[_, high, middle, low]) = whole.first_chunk::<4>() {
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if length > HELLO_BYTES_MAX {
                return Some(None);
            }
            if whole.len() >= 4 + length {
                return Some(Some(match whole {
                    Cow::Borrowed(all) => Cow::Borrowed(&all[4..4 + length]),
                    Cow::Owned(all) => Cow::Owned(all[4..4 + length].to_vec()),
                }));
            }
        }
        rest = body.get(length..)?;
    }
}

/// RFC 8446 section 4.1.2, and the same in RFC 5246.
fn name_of(hello: &[u8]) -> Option<&str> {
    // Version and random.
    let rest = hello.get(2 + 32..)?;
    let (_session, rest) = short(rest)?;
    let (_suites, rest) = long(rest)?;
    let (_compression, rest) = short(rest)?;
    let (mut extensions, _) = long(rest)?;
    while let Some((&[high, low], rest)) = extensions.split_first_chunk::<2>() {
        let (extension, rest) = long(rest)?;
        extensions = rest;
        if u16::from_be_bytes([high, low]) != SERVER_NAME {
            continue;
        }
        let (mut names, _) = long(extension)?;
        while let Some((&kind, rest)) = names.split_first() {
            let (name, rest) = long(rest)?;
            names = rest;
            if kind == HOST_NAME {
                let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
                return is_name.then(|| std::str::from_utf8(name).ok()).flatten();
            }
        }
        return None;
    }
    None
}

/// A vector whose length is one byte, and what follows it.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A vector whose length is two bytes, and what follows it.
fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;

    use super::*;

    /// What rustls says first, to this name.
    fn hello(name: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same hello in records of at most `size` bytes.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&bytes[..3], &(part.len() as u16).to_be_bytes(), part].concat();
        bytes[RECORD_HEADER..].chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_in_any_pieces() {
        let whole = hello("api.example.com");
        for bytes in [whole.clone(), in_records(&whole, 1), in_records(&whole, 100)] {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Partial, "{end} of {}", bytes.len());
            }
            assert_eq!(read(&bytes), Hello::Named("api.example.com".into()));
            let followed = [&bytes[..], b"and more"].concat();
            assert_eq!(read(&followed), Hello::Named("api.example.com".into()));
        }
    }

    #[test]
    fn what_names_nobody_is_known_early() {
        assert_eq!(read(&hello("192.0.2.7")), Hello::Nameless, "an address is no name (RFC 6066 section 3)");
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x40\x01",
            b"\x16\x03\x01\0\x04\x02\0\0\x10",
            b"\x16\x03\x01\0\x04\x01\x10\0\0",
            b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
        ] {
            assert_eq!(read(bytes), Hello::Nameless, "{}", bytes.escape_ascii());
        }
        assert_eq!(read(b""), Hello::Partial);
        // Records of one byte each that never come to an end.
        let endless = [&b"\x16\x03\x01\0\x04\x01\0\x40\0"[..], &b"\x16\x03\x01\0\x01a".repeat(HELLO_BYTES_MAX / 6)].concat();
        assert_eq!(read(&endless), Hello::Nameless);
    }
}
