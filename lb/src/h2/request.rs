//! A request of HTTP/2 as one of HTTP/1.1 (RFC 9113 section 8.3.1), written field by field while its block is read.

use super::hpack::table::{Field, Kind};
use crate::http1::decimal;

/// How the request's body is framed once it is written as HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// None, or as long as `Content-Length` says.
    Plain,
    /// In chunks: its length is not known yet.
    Chunks,
    /// The bytes of another protocol (RFC 8441), once the endpoint agrees.
    Tunnel,
}

/// The request breaks RFC 9113 section 8, or has no form in HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the request is malformed")]
pub struct Malformed;

/// What is known of a request once its head is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// How the body follows.
    pub carried: Carried,
    /// It asks for a head alone.
    pub head_only: bool,
    /// What `Content-Length` says.
    pub length: Option<u64>,
}

/// Writes heads, one after the other.
///
/// What a field's bytes may be was found out when it was read. Which fields may be there together is left to the reader of the head; only
/// what has no form in HTTP/1.1 is refused here.
#[derive(Debug, Default)]
pub struct HeadWriter {
    seen: Seen,
    /// What the pseudo-fields say.
    pseudo: Vec<u8>,
    cookies: Vec<u8>,
}

/// A part of what the pseudo-fields say.
type Span = (usize, usize);

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    secure: bool,
    bytes_max: usize,
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    /// The request line is written: no pseudo-field may follow.
    begun: bool,
    tunnel: bool,
    head_only: bool,
    host: bool,
    length: Option<u64>,
    malformed: bool,
}

impl HeadWriter {
    /// Begins a head. `secure`: the connection is under TLS. Of fields that make it longer than `bytes_max` no more than the first is written,
    /// which lets its reader see that it is too long.
    pub fn begin(&mut self, secure: bool, bytes_max: usize) {
        self.seen = Seen { secure, bytes_max, ..Seen::default() };
        self.pseudo.clear();
        self.cookies.clear();
    }

    /// Takes the next field.
    pub fn field(&mut self, field: Field<'_>, out: &mut Vec<u8>) {
        let seen = &mut self.seen;
        let place = match field.kind {
            Kind::Method => &mut seen.method,
            Kind::Scheme => &mut seen.scheme,
            Kind::Authority => &mut seen.authority,
            Kind::Path => &mut seen.path,
            Kind::Protocol => &mut seen.protocol,
            Kind::Malformed => {
                seen.malformed = true;
                return;
            }
            _ => return self.ordinary(field, out),
        };
        let value = field.value();
        seen.malformed |= seen.begun || place.is_some() || self.pseudo.len() > seen.bytes_max;
        // What is kept of it must be there: a place is only ever one in what was kept.
        if !seen.malformed {
            *place = Some((self.pseudo.len(), self.pseudo.len() + value.len()));
            self.pseudo.extend_from_slice(value);
        }
    }

    fn ordinary(&mut self, field: Field<'_>, out: &mut Vec<u8>) {
        self.first_lines(out);
        if self.seen.malformed || out.len() + self.cookies.len() > self.seen.bytes_max {
            return;
        }
        let seen = &mut self.seen;
        match field.kind {
            Kind::Host => {
                let same = seen.authority.is_none_or(|(from, to)| self.pseudo[from..to].eq_ignore_ascii_case(field.value()));
                // It is written once, from the authority if there is one.
                seen.malformed |= seen.host || !same;
                seen.host = true;
                if seen.authority.is_none() {
                    out.extend_from_slice(field.line);
                }
            }
            // Split for the sake of compression; one field again (RFC 9113 section 8.2.3).
            Kind::Cookie => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(field.value());
            }
            Kind::ContentLength => {
                seen.malformed |= seen.length.is_some();
                seen.length = decimal(field.value());
                seen.malformed |= seen.length.is_none();
                out.extend_from_slice(field.line);
            }
            // A key means nothing in HTTP/2 (RFC 8441 section 5); the one that the endpoint gets is ours.
            Kind::WebsocketKey => {}
            _ => out.extend_from_slice(field.line),
        }
    }

    /// The request line and the host, once no pseudo-field can follow.
    fn first_lines(&mut self, out: &mut Vec<u8>) {
        let seen = &mut self.seen;
        if std::mem::replace(&mut seen.begun, true) || seen.malformed {
            return;
        }
        let (Some(method), Some(scheme), Some(path)) = (seen.method, seen.scheme, seen.path) else {
            seen.malformed = true;
            return;
        };
        let text = |(from, to): Span| &self.pseudo[from..to];
        let method = text(method);
        // A request over one kind of connection that claims the other would be believed by an endpoint that reads `X-Forwarded-Proto`.
        let named = if seen.secure { &b"https"[..] } else { b"http" };
        seen.malformed |= !text(scheme).eq_ignore_ascii_case(named) || seen.authority.is_some_and(|(from, to)| from == to);
        match (method == b"CONNECT", seen.protocol) {
            (false, None) => {}
            (true, Some(protocol)) if text(protocol) == b"websocket" => seen.tunnel = true,
            _ => seen.malformed = true,
        }
        seen.head_only = method == b"HEAD";
        out.extend_from_slice(if seen.tunnel { b"GET" } else { method });
        out.push(b' ');
        out.extend_from_slice(text(path));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = seen.authority {
            push_field(out, b"host", text(authority));
        }
    }

    /// Writes what is left of the head. `ended`: nothing follows it. Behind the head of a [`Carried::Tunnel`] comes what [`write_key`] writes.
    ///
    /// # Errors
    /// The request is malformed; what was written of it means nothing.
    pub fn finish(&mut self, ended: bool, out: &mut Vec<u8>) -> Result<Written, Malformed> {
        self.first_lines(out);
        let Seen { tunnel, head_only, length, malformed, .. } = self.seen;
        let wrong_length = length.is_some_and(|length| tunnel || (ended && length > 0));
        if malformed || wrong_length {
            return Err(Malformed);
        }
        if !self.cookies.is_empty() {
            push_field(out, b"cookie", &self.cookies);
        }
        let chunks = !ended && length.is_none();
        let carried = if tunnel {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
            return Ok(Written { carried: Carried::Tunnel, head_only, length });
        } else if chunks {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Carried::Chunks
        } else {
            Carried::Plain
        };
        out.extend_from_slice(b"\r\n");
        Ok(Written { carried, head_only, length })
    }

    /// Gives back what only a head that is being written needs.
    pub fn rest(&mut self) {
        *self = HeadWriter::default();
    }
}

/// Ends the head of a [`Carried::Tunnel`]. `nonce`: random bytes, for `Sec-WebSocket-Key`.
pub fn write_key(nonce: [u8; 16], out: &mut Vec<u8>) {
    push_base64(&nonce, out);
    out.extend_from_slice(b"\r\n\r\n");
}

pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 4648 section 4.
pub(super) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(if place <= group.len() { ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(secure: bool, ended: bool, fields: &[(&str, &str)]) -> Result<(String, Written), Malformed> {
        let (mut writer, mut out) = (HeadWriter::default(), Vec::new());
        writer.begin(secure, 1000);
        for (name, value) in fields {
            let line = format!("{name}: {value}\r\n");
            let kind = Kind::of(name.as_bytes(), value.as_bytes());
            writer.field(Field { kind, line: line.as_bytes(), name_len: name.len() }, &mut out);
        }
        let written = writer.finish(ended, &mut out)?;
        if written.carried == Carried::Tunnel {
            write_key(*b"the sample nonce", &mut out);
        }
        Ok((String::from_utf8(out).expect("ASCII"), written))
    }

    const HTTPS: (&str, &str) = (":scheme", "https");
    const HOST: (&str, &str) = (":authority", "example.com");
    const PATH: (&str, &str) = (":path", "/a?b=c");
    const GET: (&str, &str) = (":method", "GET");
    const POST: (&str, &str) = (":method", "POST");
    const CONNECT: (&str, &str) = (":method", "CONNECT");

    fn head(ended: bool, method: (&str, &str), more: &[(&str, &str)]) -> Result<(String, Written), Malformed> {
        head_of(true, ended, &[&[method, HTTPS, HOST, PATH], more].concat())
    }

    #[test]
    fn requests_have_one_form_in_http1() {
        let (text, written) = head(true, GET, &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).expect("a head");
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n");
        assert_eq!(written, Written { carried: Carried::Plain, head_only: false, length: None });
        let written = head(false, POST, &[("content-length", "5")]).expect("a head").1;
        assert_eq!((written.carried, written.length), (Carried::Plain, Some(5)));
        let (text, written) = head(false, POST, &[]).expect("a head");
        assert_eq!(text, "POST /a?b=c HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(written.carried, Carried::Chunks);
        assert!(head(true, (":method", "HEAD"), &[("host", "EXAMPLE.com")]).expect("a head").1.head_only);
        let (text, _) = head_of(false, true, &[GET, (":scheme", "http"), PATH, ("x", "y"), ("host", "a.test")]).expect("a head");
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nx: y\r\nhost: a.test\r\n\r\n");
    }

    #[test]
    fn a_websocket_is_asked_for_as_an_upgrade() {
        let websocket = (":protocol", "websocket");
        let (text, written) =
            head(false, CONNECT, &[websocket, ("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")]).expect("a head");
        assert_eq!(written.carried, Carried::Tunnel);
        // RFC 6455 section 1.3 has this key for these bytes.
        assert_eq!(
            text,
            "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        assert_eq!(head(false, CONNECT, &[]), Err(Malformed));
        assert_eq!(head(false, CONNECT, &[(":protocol", "connect-udp")]), Err(Malformed));
        assert_eq!(head(false, CONNECT, &[websocket, ("content-length", "1")]), Err(Malformed));
        assert_eq!(head(true, GET, &[websocket]), Err(Malformed));
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for more in [
            &[("host", "other.com")][..],
            &[("host", "example.com"), ("host", "example.com")],
            &[("x", "y"), (":path", "/")],
            &[(":path", "/")],
            &[("X", "y")],
            &[("connection", "close")],
            &[("content-length", "5")],
            &[("content-length", "0"), ("content-length", "0")],
            &[("content-length", "+0")],
        ] {
            assert_eq!(head(true, GET, more), Err(Malformed), "{more:?}");
        }
        for fields in [&[GET, HTTPS, HOST][..], &[GET, HOST, PATH], &[HTTPS, HOST, PATH], &[GET, HTTPS, (":authority", ""), PATH]] {
            assert_eq!(head_of(true, true, fields), Err(Malformed), "{fields:?}");
        }
        assert_eq!(head_of(false, true, &[GET, HTTPS, HOST, PATH]), Err(Malformed), "another scheme");
        // Longer than anybody keeps, in whatever order.
        let long = "/".repeat(2000);
        let (long, method, scheme) = ((":path", long.as_str()), (":method", "GET"), (":scheme", "http"));
        for fields in [&[long, method, scheme][..], &[long, long, method, scheme], &[PATH, long, long, method, scheme, ("a", "b")]] {
            assert_eq!(head_of(false, true, fields), Err(Malformed));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_off_where_its_reader_sees_it() {
        let long = "y".repeat(300);
        let many = [("cookie", &*long), ("x", &*long)].repeat(10);
        let (text, _) = head(true, GET, &many).expect("a head");
        assert!(text.len() > 1000 && text.len() < 1500, "{}", text.len());
    }
}
