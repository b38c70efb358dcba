//! Who the client of a request is that came through proxies we trust.

use std::net::{IpAddr, SocketAddr};

use weir_config::Network;

use super::request::fields;

/// The client by `X-Forwarded-For` of a request that a trusted proxy sent: the last address that is not a trusted proxy itself, since whatever stands
/// before that was written by somebody who is not trusted. Where all are trusted, the first; where the last is no address, nobody is named.
pub fn client(head: &[u8], trusted: &[Network]) -> Option<IpAddr> {
    let values: Vec<&[u8]> = fields(head, "x-forwarded-for").collect();
    let mut found = None;
    for item in values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let Some(ip) = address(item.trim_ascii()) else { break };
        found = Some(ip);
        if !trusted.iter().any(|network| network.contains(ip)) {
            break;
        }
    }
    found
}

/// An address, in brackets or not, with a port or not: proxies write all four.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip: IpAddr = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_is_not_trusted_is_the_client() {
        let trusted = [Network::new("10.0.0.0".parse().unwrap(), 8).unwrap()];
        for (fields, expected) in [
            ("", None),
            ("X-Forwarded-For: 192.0.2.7\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: 10.0.0.3,10.0.0.1\r\n", Some("10.0.0.3")),
            ("X-Forwarded-For: 192.0.2.7, unknown, 10.0.0.1\r\n", Some("10.0.0.1")),
            ("X-Forwarded-For: 192.0.2.7, unknown\r\n", None),
            ("X-Forwarded-For: 192.0.2.7:4711\r\n", Some("192.0.2.7")),
            ("X-Forwarded-For: [2001:db8::7]:4711\r\n", Some("2001:db8::7")),
            ("X-Forwarded-For: [2001:db8::7]\r\n", Some("2001:db8::7")),
            ("X-Forwarded-For: ::ffff:192.0.2.7,\r\n", None),
            ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", Some("192.0.2.7")),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(client(head.as_bytes(), &trusted), expected.map(|ip| ip.parse().unwrap()), "{fields}");
        }
    }
}
