//! A request's head: what it means, and what the endpoint gets to see of it.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use super::body::Body;
use super::fields::{self, Connection, Dropped, Lengths, copy_fields, offset, push_field};
use super::lines::{HEADERS_CEILING, HeadError};
use weir_config::ForwardHeaders;

/// A place in the buffer that holds the head.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(buf: &[u8], part: &[u8]) -> Span {
        let start = offset(buf, part);
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes.
    pub fn of_buf(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    /// As a range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What the proxy must know about a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: its response has no body.
    Head,
    /// Another one that is idempotent (RFC 9110 section 9.2.2): `PUT`, `DELETE`, `OPTIONS`, `TRACE`.
    Idempotent,
    /// Any other.
    Other,
}

impl Method {
    fn read(text: &str) -> Method {
        match text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" | "DELETE" | "OPTIONS" | "TRACE" => Method::Idempotent,
            _ => Method::Other,
        }
    }

    /// Whether the request may be sent again when nobody knows whether it was processed.
    pub fn is_idempotent(self) -> bool {
        self != Method::Other
    }
}

/// A request's head, read and checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    /// Method, as far as it matters.
    pub method: Method,
    /// Method as sent.
    pub method_text: Span,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    /// Target as sent.
    pub target: Span,
    /// The path of the target, without the query; `/` where an absolute target has none; empty for `*`.
    pub path: Span,
    /// Host without port; empty where HTTP/1.0 sent none.
    pub host: Span,
    /// `User-Agent`; may be empty.
    pub user_agent: Span,
    /// The request id that was sent, when it was and is fit to be kept; may be empty.
    pub request_id: Span,
    /// How long the body is.
    pub body: Body,
    /// The client wants to go on after this request.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub expect_continue: bool,
    /// The client asks for another protocol, and may get it.
    pub upgrade: bool,
}

impl Request {
    /// Puts another path in place of the one in a head that [`parse`] wrote. Nothing happens to `*`, which is none.
    pub fn replace_path(&self, head: &mut Vec<u8>, path: &[u8]) {
        let start = self.method_text.range().len() + 1;
        let old = self.path.range().len();
        if old > 0 {
            head.splice(start..start + old, path.iter().copied());
        }
    }
}

/// What an endpoint is told about the client.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Which headers are added.
    pub headers: &'a ForwardHeaders,
    /// The client's address.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Our name in `Via`.
    pub node: &'a str,
    /// The id of a request that brings none.
    pub request_id: u128,
    /// The client is a proxy whose word on others is kept; a further field of the name says who it is itself (RFC 9110 section 5.3).
    pub trusted: bool,
}

/// The longest request id taken over from a client.
const REQUEST_ID_MAX: usize = 128;

/// Reads a head that [`super::Scanner`] found to be `head_len` bytes long, and appends what the endpoint gets to `out`.
///
/// # Errors
/// The head is not one that all parsers read alike. What was appended to `out` is then meaningless.
pub fn parse(buf: &[u8], head_len: usize, forward: &Forward<'_>, out: &mut Vec<u8>) -> Result<Request, HeadError> {
    let buf = &buf[..head_len];
    let mut storage = [const { MaybeUninit::uninit() }; HEADERS_CEILING];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(buf, &mut storage).map_err(fields::map_error)? {
        httparse::Status::Complete(len) if len == head_len => {}
        _ => return Err(HeadError::Syntax),
    }
    let (Some(method_text), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(HeadError::Syntax);
    };
    if minor > 1 {
        return Err(HeadError::Version);
    }
    let headers = &*head.headers;

    let mut dropped = Dropped::default();
    let mut lengths = Lengths::default();
    let mut connection = Connection::default();
    let mut authority: Option<&[u8]> = None;
    let mut upgrade: Option<&[u8]> = None;
    let mut trailers_welcome = false;
    let mut expect: Option<usize> = None;
    let mut user_agent: &[u8] = &[];
    let mut request_id: &[u8] = &[];
    let mut request_id_index = 0;
    let replaced = forward.headers;
    let mut told = Told::default();

    for (index, header) in headers.iter().enumerate() {
        let name = header.name.as_bytes();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let alike = |known: &str| fields::alike(name, known);
        match name.len() {
            2 if is("te") => {
                dropped.set(index);
                trailers_welcome |= fields::tokens(header.value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
            }
            4 if is("host") => once(&mut authority, header.value, HeadError::Host)?,
            6 if is("expect") && header.value.eq_ignore_ascii_case(b"100-continue") => once(&mut expect, index, HeadError::Syntax)?,
            // There is no other expectation; what looks like one is meant for one parser only.
            6 if is("expect") => return Err(HeadError::Syntax),
            7 if is("upgrade") => {
                dropped.set(index);
                // Two of them are no request for one protocol.
                upgrade = if upgrade.is_none() { Some(header.value) } else { Some(&[]) };
            }
            9 if replaced.forwarded && is("forwarded") && !forward.trusted => dropped.set(index),
            10 if is("connection") => {
                dropped.set(index);
                connection.read(header.value);
            }
            10 if is("keep-alive") => dropped.set(index),
            10 if is("user-agent") => user_agent = header.value,
            14 if is("content-length") => lengths.content_length(header.value)?,
            15 if replaced.x_forwarded && alike("x-forwarded-for") && !(forward.trusted && is("x-forwarded-for")) => dropped.set(index),
            16 if replaced.x_forwarded && alike("x-forwarded-host") => {
                if forward.trusted && is("x-forwarded-host") {
                    told.host = true;
                } else {
                    dropped.set(index);
                }
            }
            16 if is("proxy-connection") => dropped.set(index),
            17 if is("transfer-encoding") => {
                dropped.set(index);
                lengths.transfer_encoding(header.value)?;
            }
            14 if alike("content-length") => return Err(HeadError::Syntax),
            17 if alike("transfer-encoding") => return Err(HeadError::Syntax),
            17 if replaced.x_forwarded && alike("x-forwarded-proto") => {
                if forward.trusted && is("x-forwarded-proto") {
                    told.scheme = true;
                } else {
                    dropped.set(index);
                }
            }
            _ => {}
        }
        if let Some(id_name) = &replaced.request_id
            && name.len() == id_name.len()
            && alike(id_name)
        {
            let fit = header.value.len() <= REQUEST_ID_MAX && !header.value.is_empty() && header.value.iter().all(u8::is_ascii_graphic);
            if fit && request_id.is_empty() && is(id_name) {
                request_id = header.value;
                request_id_index = index;
            } else {
                dropped.set(index);
            }
        }
    }
    lengths.check(minor)?;
    if connection.nominates {
        fields::drop_nominated(headers, &mut dropped)?;
        if dropped.contains(request_id_index) {
            request_id = &[];
        }
    }

    let form = Target::read(method_text, target, forward.scheme)?;
    let host = match (authority, minor) {
        (Some(value), _) => host_without_port(value)?,
        (None, 0) => &[],
        (None, _) => return Err(HeadError::Host),
    };
    if let Some(named) = form.authority
        && !authority.is_some_and(|value| value.eq_ignore_ascii_case(named))
    {
        return Err(HeadError::Target);
    }

    let body = match (lengths.chunked, lengths.content_length) {
        (true, _) => Body::chunked(),
        (false, Some(length)) => Body::length(length),
        (false, None) => Body::Empty,
    };
    // RFC 9110 section 10.1.1: nothing to wait for without a body, and HTTP/1.0 does not know it.
    let expect_continue = expect.is_some() && minor == 1 && !body.is_done();
    if let Some(index) = expect
        && !expect_continue
    {
        dropped.set(index);
    }
    let upgrade = upgrade.filter(|protocol| {
        connection.upgrade && minor == 1 && method_text == "GET" && body.is_done() && !protocol.is_empty() && !names_http(protocol)
    });

    out.extend_from_slice(method_text.as_bytes());
    out.push(b' ');
    form.push(out);
    // HTTP/1.1 needs a host and there is none to name; an empty one is refused by common servers.
    out.extend_from_slice(if authority.is_some() { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
    copy_fields(buf, head_len, headers, &dropped, out);
    if lengths.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match upgrade {
        Some(protocol) => {
            out.extend_from_slice(b"Connection: upgrade\r\n");
            push_field(out, "Upgrade", protocol);
        }
        None if trailers_welcome => out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n"),
        None => {}
    }
    push_client(forward, authority, request_id.is_empty(), told, out);
    out.extend_from_slice(b"\r\n");

    Ok(Request {
        head_len,
        method: Method::read(method_text),
        method_text: Span::of(buf, method_text.as_bytes()),
        minor,
        target: Span::of(buf, target.as_bytes()),
        path: Span::of(buf, form.path),
        host: if host.is_empty() { Span::default() } else { Span::of(buf, host) },
        user_agent: if user_agent.is_empty() { Span::default() } else { Span::of(buf, user_agent) },
        request_id: if request_id.is_empty() { Span::default() } else { Span::of(buf, request_id) },
        body,
        keep_alive: connection.persists(minor),
        expect_continue,
        upgrade: upgrade.is_some(),
    })
}

/// Fills a place that must not be filled twice.
fn once<T>(place: &mut Option<T>, value: T, error: HeadError) -> Result<(), HeadError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(error),
    }
}

/// `Upgrade: h2c` and like would let a client speak HTTP past us (RFC 9113 section 3.1 removed it).
fn names_http(protocol: &[u8]) -> bool {
    fields::tokens(protocol).any(|token| {
        let name = token.split(|byte| *byte == b'/').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"http") || name.eq_ignore_ascii_case(b"h2")
    })
}

/// What a trusted client has told already.
#[derive(Clone, Copy, Default)]
struct Told {
    host: bool,
    scheme: bool,
}

fn push_client(forward: &Forward<'_>, authority: Option<&[u8]>, needs_id: bool, told: Told, out: &mut Vec<u8>) {
    if forward.headers.x_forwarded {
        out.extend_from_slice(b"X-Forwarded-For: ");
        push_ip(out, forward.client);
        out.extend_from_slice(b"\r\n");
        if !told.scheme {
            push_field(out, "X-Forwarded-Proto", forward.scheme.as_bytes());
        }
        if let Some(authority) = authority.filter(|_| !told.host) {
            push_field(out, "X-Forwarded-Host", authority);
        }
    }
    if forward.headers.forwarded {
        push_forwarded(forward, authority, out);
    }
    if forward.headers.via {
        fields::push_via(out, forward.node);
    }
    if let Some(name) = &forward.headers.request_id
        && needs_id
    {
        push_field(out, name, &hex(forward.request_id));
    }
}

/// RFC 7239 section 4: an IPv6 address and a host with a port must be quoted.
fn push_forwarded(forward: &Forward<'_>, authority: Option<&[u8]>, out: &mut Vec<u8>) {
    match forward.client.to_canonical() {
        IpAddr::V4(_) => {
            out.extend_from_slice(b"Forwarded: for=");
            push_ip(out, forward.client);
        }
        IpAddr::V6(_) => {
            out.extend_from_slice(b"Forwarded: for=\"[");
            push_ip(out, forward.client);
            out.extend_from_slice(b"]\"");
        }
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(forward.scheme.as_bytes());
    if let Some(authority) = authority {
        // A host that passed its check has no quotation mark and no backslash.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(authority);
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(ip) => {
            use std::io::Write;
            write!(out, "{ip}").expect("writing to memory cannot fail");
        }
    }
}

/// 32 lower-case hexadecimal digits.
pub fn hex(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// The value of the first field of this name in a head that was parsed before; for keys that few pools need.
pub fn field<'a>(head: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
    values(head, name).next()
}

/// The values of all fields of this name in a head that was parsed before.
pub fn fields<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    values(head, name)
}

/// The value of a cookie in a head that was parsed before: the first of this name, in whichever `Cookie` field it is.
pub fn cookie<'a>(head: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
    cookies(head, name).next()
}

/// The values of all cookies of this name in a head that was parsed before.
pub fn cookies<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    values(head, "cookie").flat_map(|value| value.split(|byte| *byte == b';')).filter_map(move |pair| {
        let (key, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (key == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    })
}

fn values<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    // A name has no colon in it: where one stands behind as many bytes as it has, these are the name.
    memchr::memchr_iter(b'\n', head).filter_map(move |end| {
        let (found, rest) = head[end + 1..].split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(value[..memchr::memchr(b'\n', value).unwrap_or(value.len())].trim_ascii())
    })
}

/// A request target, taken apart (RFC 9112 section 3.2).
struct Target<'a> {
    authority: Option<&'a [u8]>,
    path: &'a [u8],
    /// From the path to the end, as sent.
    rest: &'a [u8],
}

impl<'a> Target<'a> {
    fn read(method: &str, target: &'a str, scheme: &str) -> Result<Target<'a>, HeadError> {
        let target = target.as_bytes();
        if method == "CONNECT" {
            return Err(HeadError::Connect);
        }
        if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
            return Err(HeadError::Target);
        }
        if target == b"*" {
            if method != "OPTIONS" {
                return Err(HeadError::Target);
            }
            return Ok(Target { authority: None, path: &target[..0], rest: target });
        }
        if target.first() == Some(&b'/') {
            return Ok(Target { authority: None, path: before_query(target), rest: target });
        }
        // Absolute form: passed on in origin form, which says the same because scheme and authority are the ones of this connection.
        let (named, after) = target.split_at_checked(scheme.len() + 3).ok_or(HeadError::Target)?;
        if !named[..scheme.len()].eq_ignore_ascii_case(scheme.as_bytes()) || !named.ends_with(b"://") {
            return Err(HeadError::Target);
        }
        let end = after.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let path = match before_query(rest) {
            // RFC 9112 section 3.2.4: the server as a whole is meant.
            [] if rest.is_empty() && method == "OPTIONS" => rest,
            // No path is the path `/`; there is one at hand, the last byte of `://`.
            [] => &named[named.len() - 1..],
            path => path,
        };
        Ok(Target { authority: Some(authority), path, rest })
    }

    /// Appends the target in the form that an origin server gets.
    fn push(&self, out: &mut Vec<u8>) {
        match self.rest.first() {
            None if self.path.is_empty() => out.push(b'*'),
            None | Some(b'?') => out.push(b'/'),
            Some(_) => {}
        }
        out.extend_from_slice(self.rest);
    }
}

fn before_query(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

/// `host [":" port]` (RFC 9110 section 7.2), the host of it. An empty host is allowed by the grammar, but names nothing here.
fn host_without_port(value: &[u8]) -> Result<&[u8], HeadError> {
    let (host, port) = if value.first() == Some(&b'[') {
        let end = memchr::memchr(b']', value).ok_or(HeadError::Host)?;
        let address = std::str::from_utf8(&value[1..end]).map_err(|_| HeadError::Host)?;
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(HeadError::Host);
        }
        (&value[..=end], &value[end + 1..])
    } else {
        let end = memchr::memchr(b':', value).unwrap_or(value.len());
        let host = &value[..end];
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
        if host.is_empty() || !host.iter().all(fits) {
            return Err(HeadError::Host);
        }
        (host, &value[end..])
    };
    match port {
        [] => Ok(host),
        [b':'] => Ok(host),
        [b':', digits @ ..] if digits.len() <= 5 && fields::decimal(digits).is_some_and(|port| port <= 65535) => Ok(host),
        _ => Err(HeadError::Host),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
