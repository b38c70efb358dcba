//! Who may speak to the API: tokens, roles, sessions, and the defence against web pages.
//!
//! A browser on the same machine can reach a loopback address, so a page it shows could, too. These checks stop it:
//! - The `Host` header must be one that only somebody who means this node would use. A page that rebinds its own name to 127.0.0.1 still
//!   sends its own name. With a token this check is not needed, for the page does not have the token, and names from DNS may be used.
//! - A request that changes something must not come from another site (`Origin`, `Sec-Fetch-Site`).
//! - With a session, which a browser sends by itself, a change must also carry a header that a page of another site cannot send
//!   without asking first. The cookie itself is not sent by other sites either (`SameSite=Strict`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use weir_config::Role;

use super::access::{Access, Sessions, Who};
use super::guesses::Guesses;
use super::problem::Problem;
use super::session;

/// What a page sends with each change.
const PAGE_HEADER: &str = "weir-console";

/// Longest token file that is read.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The bearer token. Only its digest is kept, so it cannot be printed by mistake and comparing it leaks not even its length.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(super) digest: [u8; 32],
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

    /// The token of this digest.
    pub(super) fn of_digest(digest: [u8; 32]) -> Token {
        Token { digest }
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

/// What decides who may go on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) access: Access,
    pub(super) sessions: Arc<Sessions>,
    /// The name of the cookie that stands for a session.
    pub(super) cookie: String,
    guesses: Mutex<Guesses>,
}

/// Why somebody may not.
#[derive(Debug)]
pub(super) struct Refused {
    /// What is answered.
    pub problem: Problem,
    /// The token was wrong, so often by now from this address.
    pub tries: Option<u32>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        Refused { problem, tries: None }
    }
}

impl Gate {
    pub(super) fn new(access: Access, sessions: Arc<Sessions>, cookie: String) -> Gate {
        Gate { access, sessions, cookie, ..Gate::default() }
    }

    /// Whether this request may go on, and as whom. `node_name` is asked for only when it matters.
    pub(super) fn admit(&self, parts: &Parts, peer: IpAddr, now: Instant, node_name: impl FnOnce() -> String) -> Result<Who, Refused> {
        let host = host(parts)?;
        if self.access.is_open() && !self.access.asks_certificates() {
            check_host(host, node_name)?;
        }
        let changes = changes_something(&parts.method);
        if changes && is_cross_site(&parts.headers, host) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site may not change anything here").into());
        }
        // The page itself says nothing about the node, and signing in is how one becomes somebody.
        if is_public(&parts.method, parts.uri.path()) {
            return Ok(Who { role: Role::Read, ..Who::ANYBODY });
        }
        let who = if self.access.is_open() { Who::ANYBODY } else { self.identify(&parts.headers, peer, now)? };
        if who.session && changes && !parts.headers.contains_key(PAGE_HEADER) {
            let why = format!("a change by a session needs the header `{PAGE_HEADER}: 1`, which no page of another site can send");
            return Err(Problem::new(StatusCode::FORBIDDEN, why).into());
        }
        let needed = needed(&parts.method, parts.uri.path());
        if who.role < needed {
            let name = who.name.as_deref().unwrap_or_default();
            let why = format!("this needs the role `{needed}`, and the token `{name}` has `{}`", who.role);
            return Err(Problem::new(StatusCode::FORBIDDEN, why).into());
        }
        Ok(who)
    }

    fn identify(&self, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<Who, Refused> {
        if headers.contains_key(header::AUTHORIZATION) {
            return self.with_token(bearer(headers).unwrap_or_default(), peer, now);
        }
        let known = session::cookie(headers, &self.cookie).and_then(|secret| self.sessions.find(secret.as_bytes(), now));
        known.ok_or_else(|| unauthorized("this API needs a token").into())
    }

    /// Whose token this is, unless this address has to wait.
    pub(super) fn with_token(&self, token: &[u8], peer: IpAddr, now: Instant) -> Result<Who, Refused> {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = guesses.wait(peer, now) {
            let seconds = wait.as_secs() + 1;
            let why = format!("too many wrong tokens came from {}: try again in {seconds} s", peer.to_canonical());
            return Err(Problem { retry_after_s: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, why) }.into());
        }
        match self.access.find(token) {
            Some(who) => {
                guesses.right(peer);
                Ok(who)
            }
            None => {
                let tries = guesses.wrong(peer, now);
                Err(Refused { problem: unauthorized("this is not a token of this node"), tries: Some(tries) })
            }
        }
    }
}

fn unauthorized(what: &str) -> Problem {
    let how = "send `Authorization: Bearer TOKEN` (the `weir` program: --token-file), or sign in at / with a browser";
    Problem::new(StatusCode::UNAUTHORIZED, format!("{what}: {how}"))
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn is_public(method: &Method, path: &str) -> bool {
    path == "/" || path.starts_with("/console/") || (path == "/v1/session" && matches!(*method, Method::POST | Method::DELETE))
}

/// What a request needs. Whatever is added later and not named here is for operators.
fn needed(method: &Method, path: &str) -> Role {
    if changes_something(method) {
        return match path {
            "/v1/reload" | "/v1/config/file" | "/v1/upgrade" | "/v1/machines/garbage" => Role::Admin,
            _ => Role::Operate,
        };
    }
    // What a machine writes or shows may hold what is not for every screen.
    let of_machine = path.starts_with("/v1/machines/") && (path.ends_with("/console") || path.ends_with("/screenshot"));
    let of_file = path == "/v1/config/file" || path.starts_with("/v1/config/versions");
    if of_machine || of_file { Role::Operate } else { Role::Read }
}

/// Where nobody is asked for a token.
fn check_host(host: Option<&str>, node_name: impl FnOnce() -> String) -> Result<(), Problem> {
    match host {
        Some(host) if !is_literal_or_localhost(host) && !is_name(host, &node_name()) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the Host header is neither an address, `localhost` nor this node's name; without a token no other name is served, because a web \
             page could use it to reach this API",
        )),
        _ => Ok(()),
    }
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

/// Whether a request of this method changes something.
pub(super) fn changes_something(method: &Method) -> bool {
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

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn parts(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn gate(tokens: &[(&str, Role)]) -> Gate {
        let tokens = tokens.iter().map(|(token, role)| {
            (std::sync::Arc::from(*token), weir_config::ApiToken { role: *role, digest: Sha256::digest(token.as_bytes()).into() })
        });
        let bind = "127.0.0.1:7117".parse().expect("an address");
        let access =
            Access::read(&weir_config::Api { bind, token_file: None, tokens: tokens.collect(), tls: None }).expect("no file is read");
        Gate::new(access, Arc::default(), "weir_session".into())
    }

    fn ask(gate: &Gate, parts: &Parts) -> Result<Who, u16> {
        gate.admit(parts, PEER, Instant::now(), || "lb-a".into()).map_err(|refused| refused.problem.status.as_u16())
    }

    fn check(method: &str, headers: &[(&str, &str)], token: Option<&str>) -> u16 {
        let tokens: Vec<(&str, Role)> = token.into_iter().map(|token| (token, Role::Admin)).collect();
        ask(&gate(&tokens), &parts(method, "/v1/status", headers)).err().unwrap_or(200)
    }

    #[test]
    fn each_role_may_what_it_may() {
        let gate = gate(&[("read", Role::Read), ("operate", Role::Operate), ("admin", Role::Admin)]);
        for (method, path, least) in [
            ("GET", "/v1/overview", Role::Read),
            ("GET", "/metrics", Role::Read),
            ("GET", "/v1/session", Role::Read),
            ("GET", "/v1/machines/a/points", Role::Read),
            ("GET", "/v1/machines/a/console", Role::Operate),
            ("GET", "/v1/config/file", Role::Operate),
            ("PUT", "/v1/config/file", Role::Admin),
            ("GET", "/v1/config/versions", Role::Operate),
            ("GET", "/v1/config/versions/abc", Role::Operate),
            ("PATCH", "/v1/pools/web/endpoints/a:1", Role::Operate),
            ("POST", "/v1/machines/actions", Role::Operate),
            ("POST", "/v1/something/new", Role::Operate),
            ("POST", "/v1/reload", Role::Admin),
            ("POST", "/v1/reload?dry_run=true", Role::Admin),
            ("POST", "/v1/upgrade", Role::Admin),
            ("POST", "/v1/machines/garbage", Role::Admin),
        ] {
            for role in Role::ALL {
                let bearer = format!("Bearer {role}");
                let result = ask(&gate, &parts(method, path, &[("host", "lb-a"), ("authorization", &bearer)]));
                let expected = if role >= least { Ok(role) } else { Err(403) };
                assert_eq!(result.map(|who| who.role), expected, "{role}: {method} {path}");
            }
        }
    }

    #[test]
    fn a_session_needs_the_header_of_the_page_for_a_change() {
        let gate = gate(&[("kim", Role::Operate)]);
        let who = gate.access.find(b"kim").expect("it is there");
        gate.sessions.begin(b"s3cret", &who, Instant::now());
        let cookie = ("cookie", "weir_session=s3cret");
        let status =
            |method: &str, headers: &[(&str, &str)]| ask(&gate, &parts(method, "/v1/vips/a/release", headers)).err().unwrap_or(200);
        assert_eq!(status("GET", &[cookie]), 200);
        assert_eq!(status("POST", &[cookie]), 403);
        assert_eq!(status("POST", &[cookie, ("weir-console", "1")]), 200);
        assert_eq!(status("POST", &[cookie, ("weir-console", "1"), ("origin", "http://evil.example"), ("host", "lb-a")]), 403);
        assert_eq!(status("GET", &[("cookie", "weir_session=other")]), 401);
        assert_eq!(status("GET", &[cookie, ("authorization", "Bearer wrong")]), 401, "who names a token means it");
    }

    #[test]
    fn the_page_and_signing_in_need_nobody() {
        let gate = gate(&[("kim", Role::Operate)]);
        for (method, path, expected) in [
            ("GET", "/", 200),
            ("GET", "/console/app.js", 200),
            ("POST", "/v1/session", 200),
            ("DELETE", "/v1/session", 200),
            ("GET", "/v1/session", 401),
            ("GET", "/consoles", 401),
            ("GET", "/v1/status", 401),
        ] {
            assert_eq!(ask(&gate, &parts(method, path, &[])).err().unwrap_or(200), expected, "{method} {path}");
        }
        assert_eq!(ask(&gate, &parts("POST", "/v1/session", &[("host", "lb-a"), ("origin", "http://evil.example")])), Err(403));
    }

    #[test]
    fn who_guesses_waits_and_the_right_token_waits_with_them() {
        let gate = gate(&[("kim", Role::Operate)]);
        let status = |token: &str| {
            let bearer = format!("Bearer {token}");
            gate.admit(&parts("GET", "/v1/status", &[("authorization", &bearer)]), PEER, Instant::now(), String::new)
        };
        let mut tries = 0;
        let problem = loop {
            tries += 1;
            let refused = status("wrong").expect_err("it is wrong");
            if refused.problem.status != StatusCode::UNAUTHORIZED {
                break refused.problem;
            }
            assert_eq!(refused.tries, Some(tries));
        };
        assert_eq!((problem.status, tries), (StatusCode::TOO_MANY_REQUESTS, 12));
        assert!(problem.retry_after_s.is_some_and(|seconds| seconds <= 11));
        assert_eq!(status("kim").expect_err("not now").problem.status, StatusCode::TOO_MANY_REQUESTS);
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));
        assert!(
            gate.admit(&parts("GET", "/v1/status", &[("authorization", "Bearer kim")]), elsewhere, Instant::now(), String::new).is_ok()
        );
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
