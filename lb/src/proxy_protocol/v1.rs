//! Version 1: a line (section 2.1).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, ProxyError};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line with its end, as the section counts it.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() == LINE_BYTES_MAX { Err(ProxyError::Line) } else { Ok(None) };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(ProxyError::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        // What follows says nothing.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(read(words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from))?),
        Some("TCP6") => Some(read(words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from))?),
        _ => return Err(ProxyError::Line),
    };
    Ok(Some(Header { addresses, tlvs: &[], length: end + 1 }))
}

/// Two addresses, then two ports, and nothing else.
fn read<'a>(mut words: impl Iterator<Item = &'a str>, ip: impl Fn(&str) -> Option<IpAddr>) -> Result<Addresses, ProxyError> {
    let mut next = || words.next().ok_or(ProxyError::Line);
    let (from, to) = (ip(next()?).ok_or(ProxyError::Line)?, ip(next()?).ok_or(ProxyError::Line)?);
    let (from_port, to_port) = (port(next()?)?, port(next()?)?);
    match words.next() {
        None => Ok(Addresses { source: SocketAddr::new(from, from_port), destination: SocketAddr::new(to, to_port) }),
        Some(_) => Err(ProxyError::Line),
    }
}

/// "In decimal", with no zero in front.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| ProxyError::Line) } else { Err(ProxyError::Line) }
}

pub(super) fn encode(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    let Some(addresses) = addresses else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (source, destination) = addresses.of_one_family();
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).expect("memory takes what is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_strictly() {
        let ok = |line: &str| parse(line.as_bytes()).map(|header| header.map(|header| header.addresses));
        let long = "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        assert_eq!(ok(longest), Ok(Some(None)));
        assert_eq!(ok("PROXY UNKNOWN\r\nrest"), Ok(Some(None)));
        let read = ok("PROXY TCP6 2001:db8::7 ::1 0 443\r\n").unwrap().unwrap().unwrap();
        assert_eq!((read.source.to_string(), read.destination.to_string()), ("[2001:db8::7]:0".into(), "[::1]:443".into()));
        for line in [
            long,
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
            "PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
            "PROXY \r\n",
            &format!("PROXY UNKNOWN{:100}\r\n", ""),
        ] {
            assert_eq!(ok(line), Err(ProxyError::Line), "{line}");
        }
    }
}
