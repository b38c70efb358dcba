//! Version 2: binary (section 2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, HEADER_BYTES_MAX, Header, ProxyError};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// `PP2_TYPE_CRC32C`
const CHECKSUM: u8 = 0x03;
/// `PP2_TYPE_NOOP`: padding.
const PADDING: u8 = 0x04;

/// One thing told about a connection (section 2.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// What it is, as `PP2_TYPE_AUTHORITY` (2), the name that the client asked for.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// Takes TLVs apart; ends at what is none.
pub fn tlvs(mut bytes: &[u8]) -> impl Iterator<Item = Tlv<'_>> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        bytes = rest;
        Some(Tlv { kind, value })
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    // What is wrong already is not waited for.
    if bytes.get(12).is_some_and(|command| !matches!(*command, LOCAL | PROXY)) {
        return Err(ProxyError::Binary);
    }
    if bytes.get(13).is_some_and(|family| family >> 4 > 3 || family & 15 > 2) {
        return Err(ProxyError::Binary);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let count = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED + count > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = rest.get(..count) else { return Ok(None) };
    let length = FIXED + count;
    let unknown = Header { addresses: None, tlvs: &[], length };
    let (addresses, told) = match (fixed[12], fixed[13]) {
        // Section 2.2: the receiver uses the connection's own addresses and discards what came with it.
        (LOCAL, _) => return Ok(Some(unknown)),
        (_, TCP4) => {
            let (block, told) = body.split_first_chunk::<12>().ok_or(ProxyError::Binary)?;
            let ip = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
            (pair(ip(0).into(), ip(4).into(), &block[8..]), told)
        }
        (_, TCP6) => {
            let (block, told) = body.split_first_chunk::<36>().ok_or(ProxyError::Binary)?;
            let ip = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&block[at..at + 16]).expect("16 bytes"));
            (pair(ip(0).into(), ip(16).into(), &block[32..]), told)
        }
        // Sockets of a machine, datagrams, or no family at all: nothing that a client on this connection could be.
        _ => return Ok(Some(unknown)),
    };
    check(&bytes[..length], length - told.len(), told)?;
    Ok(Some(Header { addresses: Some(addresses), tlvs: told, length }))
}

fn pair(source: std::net::IpAddr, destination: std::net::IpAddr, ports: &[u8]) -> Addresses {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Addresses { source: SocketAddr::new(source, port(0)), destination: SocketAddr::new(destination, port(2)) }
}

/// Whether the TLVs end where the header does, and what they sum up to is right.
fn check(header: &[u8], at: usize, told: &[u8]) -> Result<(), ProxyError> {
    let mut end = at;
    for Tlv { kind, value } in tlvs(told) {
        let begin = end + 3;
        end = begin + value.len();
        if kind == CHECKSUM {
            let sum = <[u8; 4]>::try_from(value).map_err(|_| ProxyError::Binary)?;
            // Over the whole header, in which it stands as zero (section 2.2.3).
            let computed = crc32c(&[&header[..begin], &[0; 4], &header[end..]]);
            if computed != u32::from_be_bytes(sum) {
                return Err(ProxyError::Checksum);
            }
        }
    }
    if end == header.len() { Ok(()) } else { Err(ProxyError::Binary) }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: few senders ask for it.
fn crc32c(pieces: &[&[u8]]) -> u32 {
    let step =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 });
    !pieces.iter().flat_map(|piece| piece.iter()).fold(!0, step)
}

pub(super) fn encode(addresses: Option<Addresses>, told: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(SIGNATURE);
    let Some(addresses) = addresses else {
        out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return;
    };
    let (source, destination) = addresses.of_one_family();
    out.extend_from_slice(&[PROXY, if source.is_ipv4() { TCP4 } else { TCP6 }, 0, 0]);
    for address in [source, destination] {
        match address.ip() {
            std::net::IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            std::net::IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for address in [source, destination] {
        out.extend_from_slice(&address.port().to_be_bytes());
    }
    // The header is another one now, so that its sum and what filled it up no longer mean anything.
    for Tlv { kind, value } in tlvs(told).filter(|tlv| !matches!(tlv.kind, CHECKSUM | PADDING)) {
        if out.len() - begin + 3 + value.len() > HEADER_BYTES_MAX {
            break;
        }
        out.push(kind);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
    let count = (out.len() - begin - FIXED) as u16;
    out[begin + 14..begin + 16].copy_from_slice(&count.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    const BLOCK: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0, 1, 0, 2];

    #[test]
    fn what_is_told_about_nobody_is_passed_over() {
        for (command, family) in [(LOCAL, TCP4), (LOCAL, 0), (PROXY, 0), (PROXY, 0x31), (PROXY, 0x12)] {
            let bytes = header(command, family, b"whatever");
            assert_eq!(parse(&bytes), Ok(Some(Header { addresses: None, tlvs: &[], length: bytes.len() })), "{command:x} {family:x}");
        }
    }

    #[test]
    fn numbers_and_lengths_are_checked() {
        let with = |told: &[u8]| header(PROXY, TCP4, &[&BLOCK, told].concat());
        assert!(parse(&with(&[1, 0, 2, b'h', b'2', 5, 0, 0])).unwrap().is_some());
        for bytes in [
            header(0x11, TCP4, &BLOCK),
            header(0x22, TCP4, &BLOCK),
            header(PROXY, 0x41, &BLOCK),
            header(PROXY, 0x13, &BLOCK),
            header(PROXY, TCP4, &BLOCK[..11]),
            header(PROXY, TCP6, &BLOCK),
            with(&[1]),
            with(&[1, 0, 2, b'h']),
            with(&[CHECKSUM, 0, 1, 0]),
        ] {
            assert_eq!(parse(&bytes), Err(ProxyError::Binary), "{}", bytes.escape_ascii());
        }
        assert_eq!(parse(&header(PROXY, TCP4, &[0; HEADER_BYTES_MAX - FIXED + 1])), Err(ProxyError::TooLong));
        // What is wrong is said before the rest is there.
        assert_eq!(parse(&header(0x31, TCP4, &[])[..13]), Err(ProxyError::Binary));
    }

    #[test]
    fn the_checksum_covers_all_of_it() {
        // RFC 3720 appendix B.4 has these.
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 16], &[0xff; 16]]), 0x62a8_ab43);
        let mut bytes = header(PROXY, TCP4, &[&BLOCK[..], &[CHECKSUM, 0, 4, 0, 0, 0, 0], &[2, 0, 1, b'a']].concat());
        let sum = crc32c(&[&bytes]);
        bytes[FIXED + 15..FIXED + 19].copy_from_slice(&sum.to_be_bytes());
        assert!(parse(&bytes).unwrap().is_some());
        for at in [FIXED, FIXED + 15, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(parse(&wrong), Err(ProxyError::Checksum), "byte {at}");
        }
        // It is not passed on, as it would be wrong.
        let told = parse(&bytes).unwrap().unwrap();
        let mut again = Vec::new();
        encode(told.addresses, told.tlvs, &mut again);
        assert_eq!(tlvs(parse(&again).unwrap().unwrap().tlvs).collect::<Vec<_>>(), [Tlv { kind: 2, value: b"a" }]);
    }
}
