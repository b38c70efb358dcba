//! A response's head: what it means, and what the client gets to see of it.

use std::mem::MaybeUninit;

use super::body::Body;
use super::fields::{self, Connection, Dropped, Lengths, copy_fields, push_field};
use super::lines::{HEADERS_CEILING, HeadError};
use super::request::Method;

/// What a response depends on besides its own bytes.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The request's method: the response to `HEAD` has no body.
    pub method: Method,
    /// The client's version.
    pub minor: u8,
    /// The request asked for another protocol.
    pub upgrade: bool,
}

/// A response's head, read and checked.
#[derive(Clone, Debug)]
pub struct Response {
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    /// 100 to 599.
    pub status: u16,
    /// How long the body is, as the endpoint frames it.
    pub body: Body,
    /// How the body is framed for the client.
    pub framing: Framing,
    /// The endpoint's connection may be used again after this response.
    pub reusable: bool,
    /// For how many seconds the endpoint keeps an idle connection, where it says so (`Keep-Alive: timeout=N`).
    pub keep_alive_s: Option<u32>,
}

/// How a response's body goes to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// As it comes: no body, a length, or chunks for a client that knows them.
    AsIs,
    /// Its end is the endpoint's close; we put it into chunks so that the client's connection lives.
    Chunk,
    /// For HTTP/1.0: without chunk framing, ended by our close.
    Bare,
}

impl Response {
    /// An interim response (RFC 9110 section 15.2); another head follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether the client can only know the end of the body by our close.
    pub fn ends_by_close(&self) -> bool {
        self.framing == Framing::Bare
    }
}

/// What decides the head that the client gets.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// We close after this response.
    pub close: bool,
    /// Our name in `Via`; `None`: no `Via`.
    pub via: Option<&'a str>,
}

/// Reads a head that [`super::Scanner`] found to be `head_len` bytes long.
///
/// `forward` is asked for the head's options once the response is understood; then the client's head is appended to `out`. It is nothing
/// for an interim response to a client of HTTP/1.0.
///
/// # Errors
/// The head is not one that all parsers read alike. What was appended to `out` is then meaningless.
pub fn parse<'a>(
    buf: &[u8],
    head_len: usize,
    asked: Asked,
    forward: impl FnOnce(&Response) -> Forward<'a>,
    out: &mut Vec<u8>,
) -> Result<Response, HeadError> {
    let buf = &buf[..head_len];
    let mut storage = [const { MaybeUninit::uninit() }; HEADERS_CEILING];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, buf, &mut storage);
    match parsed.map_err(fields::map_error)? {
        httparse::Status::Complete(len) if len == head_len => {}
        _ => return Err(HeadError::Syntax),
    }
    let (Some(minor), Some(status), Some(reason)) = (head.version, head.code, head.reason) else {
        return Err(HeadError::Syntax);
    };
    if minor > 1 {
        return Err(HeadError::Version);
    }
    if !(100..600).contains(&status) || (status == 101 && !asked.upgrade) {
        return Err(HeadError::Status);
    }
    let headers = &*head.headers;

    let mut dropped = Dropped::default();
    let mut lengths = Lengths::default();
    let mut connection = Connection::default();
    let mut upgrade: Option<&[u8]> = None;
    let mut keep_alive_s = None;
    for (index, header) in headers.iter().enumerate() {
        let name = header.name.as_bytes();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            7 if is("upgrade") => {
                dropped.set(index);
                upgrade = Some(header.value);
            }
            10 if is("connection") => {
                dropped.set(index);
                connection.read(header.value);
            }
            10 if is("keep-alive") => {
                dropped.set(index);
                keep_alive_s = keep_alive_timeout(header.value);
            }
            14 if is("content-length") => lengths.content_length(header.value)?,
            16 if is("proxy-connection") => dropped.set(index),
            17 if is("transfer-encoding") => {
                dropped.set(index);
                lengths.transfer_encoding(header.value)?;
            }
            _ => {}
        }
    }
    lengths.check(minor)?;
    if connection.nominates {
        fields::drop_nominated(headers, &mut dropped)?;
    }

    // These must not bring a length; who sends one may send a body after it, which would be taken for the next response.
    let lengthless = matches!(status, 100..200 | 204);
    let stray_body = lengthless && (lengths.chunked || lengths.content_length.is_some_and(|length| length > 0));
    let bodiless = lengthless || status == 304 || asked.method == Method::Head;
    let body = match (bodiless, lengths.chunked, lengths.content_length) {
        (true, ..) => Body::Empty,
        (false, true, _) => Body::chunked(),
        (false, false, Some(length)) => Body::length(length),
        (false, false, None) => Body::UntilClose,
    };
    let framing = match (&body, asked.minor) {
        (Body::Chunked(_), 0) => Framing::Bare,
        (Body::UntilClose, 0) => Framing::Bare,
        (Body::UntilClose, _) => Framing::Chunk,
        _ => Framing::AsIs,
    };
    let body = if framing == Framing::Bare { body.unframed() } else { body };
    let response = Response {
        head_len,
        status,
        reusable: connection.persists(minor) && !matches!(body, Body::UntilClose) && status != 101 && !stray_body,
        body,
        framing,
        keep_alive_s,
    };

    let forward = forward(&response);
    if response.is_interim() && asked.minor == 0 {
        // RFC 9110 section 15.2: HTTP/1.0 has none.
        return Ok(response);
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    if lengthless && lengths.content_length.is_some() {
        // RFC 9110 section 8.6: no length in 1xx and 204.
        for (index, header) in headers.iter().enumerate() {
            if header.name.eq_ignore_ascii_case("content-length") {
                dropped.set(index);
            }
        }
    }
    copy_fields(buf, head_len, headers, &dropped, out);
    let chunked_to_client = framing == Framing::Chunk || (lengths.chunked && asked.minor == 1 && !lengthless && status != 304);
    if chunked_to_client {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        if let Some(protocol) = upgrade {
            push_field(out, "Upgrade", protocol);
        }
    } else if !response.is_interim() {
        if forward.close || response.ends_by_close() {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if asked.minor == 0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
    if let Some(node) = forward.via {
        fields::push_via(out, node);
    }
    out.extend_from_slice(b"\r\n");
    Ok(response)
}

/// `timeout=N` of a `Keep-Alive` field.
fn keep_alive_timeout(value: &[u8]) -> Option<u32> {
    fields::tokens(value).find_map(|token| {
        let (key, number) = token.split_at_checked(8)?;
        if !key.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        fields::decimal(number).map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
    })
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
