//! Addresses and names as the file writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::{EndpointAddress, Host};

/// The longest host name, RFC 1035 section 2.3.4.
const HOST_NAME_CHARS_MAX: usize = 253;
/// The longest label of a host name, RFC 1035 section 2.3.4.
const HOST_LABEL_CHARS_MAX: usize = 63;

/// Reads the address of an endpoint: `"10.0.0.11:8080"`, `"[2001:db8::1]:8080"` or `"web.internal:8080"`. The port is required.
/// Names become lower case, so that one endpoint has one spelling. The error says what is wrong and how to write it.
pub fn parse_endpoint_address(text: &str) -> Result<EndpointAddress, String> {
    let (host, port) = split_host_port(text)?;
    let host = match host {
        HostText::V6(ip) => Host::Ip(IpAddr::V6(ip)),
        HostText::Other(host) => match host.parse::<Ipv4Addr>() {
            Ok(ip) => Host::Ip(IpAddr::V4(ip)),
            Err(_) => Host::Name(parse_host_name(host)?.into()),
        },
    };
    match host {
        Host::Ip(ip) if ip.is_unspecified() => Err(format!("{text:?} is not an address to connect to; write the endpoint's own address")),
        Host::Ip(ip) if ip.is_multicast() => Err(format!("{text:?} is a multicast address; an endpoint is one machine")),
        host => Ok(EndpointAddress { host, port }),
    }
}

/// Reads an address to listen on: `"10.0.0.100:80"`, `"[2001:db8::1]:80"`, `"0.0.0.0:80"` or `"[::]:80"`.
/// The error says what is wrong and how to write it.
pub fn parse_bind_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(format!("{text:?} has port 0; clients need a fixed port, 1 to 65535")),
            _ => Ok(address),
        };
    }
    let every =
        |port: &str| format!("write \"0.0.0.0:{port}\" for every IPv4 address, \"[::]:{port}\" for every IPv6 address, or both as a list");
    if let Some(port) = text.strip_prefix(":").or_else(|| text.strip_prefix("*:")).filter(|port| !port.contains(":")) {
        let port = parse_port(text, port)?;
        return Err(format!("{text:?} does not say which addresses; {}", every(&port.to_string())));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let port = parse_port(text, text)?;
        return Err(format!("{text:?} is only a port; {}", every(&port.to_string())));
    }
    match split_host_port(text)? {
        (HostText::Other(host), port) if host.parse::<Ipv4Addr>().is_err() => {
            parse_host_name(host)?;
            Err(format!("{text:?} names a host; write an address of this machine, such as \"10.0.0.100:{port}\" or \"0.0.0.0:{port}\""))
        }
        _ => Err(format!("{text:?} is not an address and a port; write one such as \"10.0.0.100:80\" or \"[2001:db8::1]:80\"")),
    }
}

/// Reads a host name without port and makes it lower case.
pub(crate) fn parse_host_name(text: &str) -> Result<String, String> {
    let wrong = |why: String| Err(format!("{text:?} is not a host name: {why}"));
    if text.is_empty() {
        return Err("the host is empty".into());
    }
    if text.len() > HOST_NAME_CHARS_MAX {
        return wrong(format!("it is longer than {HOST_NAME_CHARS_MAX} characters"));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("{text:?} is not an IPv4 address; it has four numbers from 0 to 255"));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        return wrong(format!("{c:?} cannot be part of one"));
    }
    for label in text.strip_suffix('.').unwrap_or(text).split('.') {
        match label.len() {
            0 => return wrong("there is nothing between two dots".into()),
            1..=HOST_LABEL_CHARS_MAX if label.starts_with('-') || label.ends_with('-') => {
                return wrong(format!("{label:?} begins or ends with a hyphen"));
            }
            1..=HOST_LABEL_CHARS_MAX => {}
            _ => return wrong(format!("a part is longer than {HOST_LABEL_CHARS_MAX} characters")),
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// The host part before it is known whether it is an address.
enum HostText<'a> {
    V6(Ipv6Addr),
    Other(&'a str),
}

fn split_host_port(text: &str) -> Result<(HostText<'_>, u16), String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        let port = if scheme == "https" { 443 } else { 80 };
        let port = if rest.contains(':') { String::new() } else { format!(":{port}") };
        return Err(format!("{text:?} is a URL; write host and port alone, such as \"{rest}{port}\""));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, after)) = rest.split_once(']') else {
            return Err(format!("{text:?} has no \"]\"; write an IPv6 address as \"[2001:db8::1]:8080\""));
        };
        let ip = ip.parse::<Ipv6Addr>().map_err(|_| format!("{ip:?} is not an IPv6 address"))?;
        let Some(port) = after.strip_prefix(':') else {
            return Err(format!("{text:?} has no port; write \"[{ip}]:8080\""));
        };
        return Ok((HostText::V6(ip), parse_port(text, port)?));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Err(format!("{text:?} has no port, or no brackets; write \"[{ip}]:8080\""));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let host = if text.is_empty() { "10.0.0.11" } else { text };
        return Err(format!("{text:?} has no port; write \"{host}:8080\""));
    };
    if host.contains(':') {
        return Err(format!("{text:?} is not an address and a port; write an IPv6 address in brackets, such as \"[2001:db8::1]:8080\""));
    }
    Ok((HostText::Other(host), parse_port(text, port)?))
}

fn parse_port(text: &str, port: &str) -> Result<u16, String> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(format!("the port of {text:?} must be a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, shown) in [
            ("10.0.0.11:8080", "10.0.0.11:8080"),
            ("[2001:db8:0::1]:80", "[2001:db8::1]:80"),
            ("Web-1.internal:1", "web-1.internal:1"),
            ("db_a.:65535", "db_a.:65535"),
        ] {
            assert_eq!(parse_endpoint_address(text).map(|a| a.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for (text, reason) in [
            ("", "no port"),
            ("web", "\"web:8080\""),
            ("web:", "1 to 65535"),
            ("web:0", "1 to 65535"),
            ("web:+8", "1 to 65535"),
            ("web:65536", "1 to 65535"),
            (":80", "empty"),
            ("2001:db8::1", "\"[2001:db8::1]:8080\""),
            ("2001:db8::1::80:1", "in brackets"),
            ("[2001:db8::1]", "\"[2001:db8::1]:8080\""),
            ("[2001:db8::1", "no \"]\""),
            ("[10.0.0.1]:80", "not an IPv6 address"),
            ("http://web/", "\"web:80\""),
            ("10.0.0.256:80", "four numbers"),
            ("web..a:80", "two dots"),
            ("-web:80", "hyphen"),
            ("we b:80", "' '"),
            ("0.0.0.0:80", "connect to"),
            ("224.0.0.1:80", "multicast"),
        ] {
            let error = parse_endpoint_address(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn binds() {
        for text in ["10.0.0.1:80", "0.0.0.0:80", "[::]:80", "[2001:db8::1]:443"] {
            assert_eq!(parse_bind_address(text).map(|a| a.to_string()).as_deref(), Ok(text));
        }
        for (text, reason) in [
            (":80", "\"0.0.0.0:80\""),
            ("*:80", "\"[::]:80\""),
            ("80", "only a port"),
            ("99999", "1 to 65535"),
            ("10.0.0.1", "no port"),
            ("10.0.0.1:0", "port 0"),
            ("localhost:80", "names a host"),
            ("", "no port"),
            ("::1:80", "brackets"),
        ] {
            let error = parse_bind_address(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
