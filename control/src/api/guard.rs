//! Who may speak to the API: the token, and the defence against web pages.
//!
//! A browser on the same machine can reach a loopback address, so a page it shows could, too. Two checks stop it:
//! - The `Host` header must be one that only somebody who means this node would use. A page that rebinds its own name to 127.0.0.1 still
//!   sends its own name. With a token this check is not needed, for the page does not have the token, and names from DNS may be used.
//! - A request that changes something must not come from another site (`Origin`, `Sec-Fetch-Site`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Longest token file that is read.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The bearer token. Only its digest is kept, so it cannot be printed by mistake and comparing it leaks not even its length.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    digest: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in this file.
    pub(crate) fn read(path: &Path) -> io::Result<Token> {
        Ok(Token::new(&read_token(path)?))
    }

    /// This token.
    pub(crate) fn new(token: &str) -> Token {
        Token { digest: Sha256::digest(token.as_bytes()).into() }
    }

    /// Whether the request carries it.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        let digest: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(digest.ct_eq(&self.digest))
    }
}

/// Reads a token file: one line of printable ASCII. The error names the file.
pub(crate) fn read_token(path: &Path) -> io::Result<String> {
    let file = path.display();
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the token file {file} {why}"));
    let read = || {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, TOKEN_BYTES_MAX + 1), &mut bytes)?;
        io::Result::Ok(bytes)
    };
    let bytes = read().map_err(|error| io::Error::new(error.kind(), format!("cannot read the token file {file}: {error}")))?;
    if bytes.len() as u64 > TOKEN_BYTES_MAX {
        return Err(wrong("is longer than a token can be (4 KiB)"));
    }
    match bytes.trim_ascii() {
        [] => Err(wrong("is empty: write one line of random characters into it")),
        token if token.iter().all(u8::is_ascii_graphic) => Ok(String::from_utf8_lossy(token).into_owned()),
        _ => Err(wrong("must hold one line of printable characters without spaces")),
    }
}

/// Whether this request may go on. `node_name` is asked for only when it matters.
pub(crate) fn admit(parts: &Parts, token: Option<&Token>, node_name: impl FnOnce() -> String) -> Result<(), Problem> {
    let host = host(parts)?;
    match token {
        Some(token) => {
            if !token.is_in(&parts.headers) {
                return Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "this API needs the token of `[api] token_file`: send `Authorization: Bearer TOKEN` (the `weir` program: --token-file)",
                ));
            }
        }
        None => {
            if let Some(host) = host
                && !is_literal_or_localhost(host)
                && !is_name(host, &node_name())
            {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "the Host header is neither an address, `localhost` nor this node's name; without a token no other name is served, \
                     because a web page could use it to reach this API",
                ));
            }
        }
    }
    if changes_something(&parts.method) && is_cross_site(&parts.headers, host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site may not change anything here"));
    }
    Ok(())
}

/// The authority this request is for; `None` for HTTP/1.0 without one, which no browser sends.
fn host(parts: &Parts) -> Result<Option<&str>, Problem> {
    let bad = |why| Problem::new(StatusCode::BAD_REQUEST, why);
    let mut values = parts.headers.get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    let field = first.map(|value| value.to_str().map_err(|_| bad("the Host header is not text"))).transpose()?;
    match (parts.uri.authority(), field) {
        (Some(authority), Some(field)) if !authority.as_str().eq_ignore_ascii_case(field) => {
            Err(bad("the request target and the Host header name different hosts"))
        }
        (Some(authority), _) => Ok(Some(authority.as_str())),
        (None, field) => Ok(field),
    }
}

/// The host of `host[:port]`, brackets removed from an IPv6 address; `None` when it is neither.
fn host_part(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(host),
        None if rest.is_empty() => Some(host),
        _ => None,
    }
}

fn is_literal_or_localhost(authority: &str) -> bool {
    let Some(host) = host_part(authority) else { return false };
    if authority.starts_with('[') {
        return host.parse::<Ipv6Addr>().is_ok();
    }
    host.parse::<Ipv4Addr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn is_name(authority: &str, name: &str) -> bool {
    host_part(authority).is_some_and(|host| host.eq_ignore_ascii_case(name))
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let foreign_origin = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or("null");
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        !matches!((authority, host), (Some(a), Some(h)) if a.eq_ignore_ascii_case(h))
    });
    let foreign_fetch = headers.get_all("sec-fetch-site").iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    foreign_origin || foreign_fetch
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn check(method: &str, headers: &[(&str, &str)], token: Option<&str>) -> u16 {
        let mut request = Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        match admit(&parts, token.map(Token::new).as_ref(), || "lb-a".into()) {
            Ok(()) => 200,
            Err(problem) => problem.status.as_u16(),
        }
    }

    #[test]
    fn only_hosts_that_mean_this_node() {
        for (host, expected) in [
            ("127.0.0.1:7117", 200),
            ("10.0.0.1", 200),
            ("[::1]:7117", 200),
            ("[::1]", 200),
            ("localhost:7117", 200),
            ("LocalHost", 200),
            ("lb-a:7117", 200),
            ("LB-A", 200),
            ("evil.example:7117", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost.evil.example", 403),
            ("lb-a.evil.example", 403),
            ("127.0.0.1:7117@evil.example", 403),
            ("[evil.example]:7117", 403),
            ("[::1", 403),
            ("::1", 403),
            ("", 403),
        ] {
            assert_eq!(check("GET", &[("host", host)], None), expected, "{host:?}");
        }
        assert_eq!(check("GET", &[], None), 200, "HTTP/1.0 without a host");
        assert_eq!(check("GET", &[("host", "localhost"), ("host", "localhost")], None), 400);
    }

    #[test]
    fn the_token_is_needed_everywhere() {
        let host = ("host", "lb-a.example.com:7117");
        for (value, expected) in [
            ("Bearer s3cret", 200),
            ("bearer s3cret", 200),
            ("Bearer  s3cret ", 200),
            ("Bearer s3cre", 401),
            ("Bearer s3crets", 401),
            ("Bearer", 401),
            ("Bearer ", 401),
            ("Basic s3cret", 401),
            ("", 401),
        ] {
            assert_eq!(check("GET", &[host, ("authorization", value)], Some("s3cret")), expected, "{value:?}");
        }
        assert_eq!(check("GET", &[host], Some("s3cret")), 401);
        assert_eq!(check("GET", &[host, ("authorization", "Bearer s3cret"), ("authorization", "Bearer x")], Some("s3cret")), 401);
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Token(..)");
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "127.0.0.1:7117");
        for (method, headers, expected) in [
            ("POST", vec![host], 200),
            ("POST", vec![host, ("origin", "http://127.0.0.1:7117")], 200),
            ("POST", vec![host, ("origin", "http://127.0.0.1:8080")], 403),
            ("POST", vec![host, ("origin", "http://evil.example")], 403),
            ("POST", vec![host, ("origin", "null")], 403),
            ("DELETE", vec![host, ("sec-fetch-site", "cross-site")], 403),
            ("PATCH", vec![host, ("sec-fetch-site", "same-site")], 403),
            ("PATCH", vec![host, ("sec-fetch-site", "same-origin")], 200),
            ("GET", vec![host, ("origin", "http://evil.example")], 200),
            ("POST", vec![("origin", "http://evil.example")], 403),
        ] {
            assert_eq!(check(method, &headers, None), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn token_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        for (content, expected) in [("abc\n", Some("abc")), (" abc ", Some("abc")), ("", None), ("\n", None), ("a b", None), ("ä", None)] {
            std::fs::write(&path, content).expect("written");
            assert_eq!(read_token(&path).ok().as_deref(), expected, "{content:?}");
        }
        std::fs::write(&path, "x".repeat(5000)).expect("written");
        assert!(read_token(&path).is_err());
        assert!(read_token(&dir.path().join("none")).is_err());
    }
}
