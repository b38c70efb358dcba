//! The PROXY protocol (pure): who a client is, told by the proxy that it came through, before the first byte of the connection.
//!
//! ```text
//!   v1   PROXY TCP4 192.0.2.7 198.51.100.1 51034 443\r\n
//!   v2   signature (12) | version, command | family | length (16) | addresses | TLVs
//! ```
//!
//! "The PROXY protocol, versions 1 & 2" (Willy Tarreau, `doc/proxy-protocol.txt` of HAProxy) is the source; sections are named as there. Who may
//! announce is not decided here, and nothing is guessed: where a header is expected, whatever is not one is an error.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use v2::{Tlv, tlvs};
use weir_config::ProxyVersion;

/// The longest header that is read. Version 1 is at most 107 bytes, version 2 may be longer by its TLVs: certificates fit, streams do not.
pub const HEADER_BYTES_MAX: usize = 4096;

/// A header that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// The client and the address that it connected to; `None`: the proxy speaks for itself (`LOCAL`), or does not know (`UNKNOWN`), and the
    /// connection's own addresses count.
    pub addresses: Option<Addresses>,
    /// What else version 2 tells, as sent. Their lengths are right, and so is their checksum if there is one.
    pub tlvs: &'a [u8],
    /// Bytes of the whole header.
    pub length: usize,
}

/// Both ends of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// They begin as neither version does.
    #[error("the connection does not begin with a PROXY protocol header; does the sender announce clients (`send-proxy`)?")]
    Signature,
    /// A line that is not as version 1 has it.
    #[error("the PROXY line is malformed")]
    Line,
    /// A number or length of version 2 that means nothing.
    #[error("the PROXY header of version 2 is malformed")]
    Binary,
    /// More than [`HEADER_BYTES_MAX`].
    #[error("the PROXY header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
    /// The checksum (section 2.2.3) is another one.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads what a connection begins with. `None`: all of it belongs to a header that has not come whole.
///
/// # Errors
/// It is no header, whatever may follow.
pub fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    let begins = |signature: &[u8]| {
        let count = bytes.len().min(signature.len());
        bytes[..count] == signature[..count]
    };
    if begins(v2::SIGNATURE) {
        return v2::parse(bytes);
    }
    if begins(v1::SIGNATURE) {
        return v1::parse(bytes);
    }
    Err(ProxyError::Signature)
}

/// Appends a header. `addresses`: `None` for a connection of our own, such as a probe's. Version 1 has no room for TLVs.
pub fn encode(version: ProxyVersion, addresses: Option<Addresses>, tlvs: &[u8], out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => v1::encode(addresses, out),
        ProxyVersion::V2 => v2::encode(addresses, tlvs, out),
    }
}

impl Addresses {
    /// Both in one family, as a header has them: an IPv4 address inside an IPv6 one is the former, and becomes the latter beside one.
    fn of_one_family(self) -> (SocketAddr, SocketAddr) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let wide = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() == destination.is_ipv4() { (source, destination) } else { (wide(source), wide(destination)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// Every header that is written is read as what was written, in any pieces, and leaves what follows.
    #[test]
    fn what_is_written_is_read() {
        let four = addresses("192.0.2.7:51034", "198.51.100.1:443");
        let six = addresses("[2001:db8::7]:1", "[2001:db8::1]:65535");
        let tlvs = [&[0x02, 0, 3][..], b"a.b"].concat();
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for addresses in [Some(four), Some(six), None] {
                let mut bytes = Vec::new();
                encode(version, addresses, &tlvs, &mut bytes);
                let length = bytes.len();
                bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                for end in 0..length {
                    assert_eq!(parse(&bytes[..end]), Ok(None), "{version:?} up to {end}");
                }
                let kept: &[u8] = if version == ProxyVersion::V2 && addresses.is_some() { &tlvs } else { &[] };
                assert_eq!(parse(&bytes), Ok(Some(Header { addresses, tlvs: kept, length })), "{version:?}");
            }
        }
    }

    #[test]
    fn families_are_not_mixed() {
        let of = |source, destination| {
            let (source, destination) = addresses(source, destination).of_one_family();
            format!("{source} {destination}")
        };
        assert_eq!(of("[::ffff:192.0.2.7]:1", "192.0.2.1:2"), "192.0.2.7:1 192.0.2.1:2");
        assert_eq!(of("192.0.2.7:1", "[2001:db8::1]:2"), "[::ffff:192.0.2.7]:1 [2001:db8::1]:2");
    }

    #[test]
    fn nothing_is_guessed() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"proxy TCP4", b"PROXYTCP4", b"\r\n\r\n\0\r\nQUIX\n", b"\x16\x03\x01"] {
            assert_eq!(parse(bytes), Err(ProxyError::Signature), "{}", bytes.escape_ascii());
        }
        assert_eq!(parse(b""), Ok(None));
    }
}
