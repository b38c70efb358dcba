//! A response of HTTP/2 as one of HTTP/1.1, for the reader of all others (RFC 9113 section 8.3.2).

use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};

use super::request::push_field;
use crate::http1::chunked::write_chunk;

/// How the body is framed once it is written as HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framed {
    /// None, or as long as `Content-Length` says.
    Plain,
    /// In chunks: its length is not known yet, or trailers may follow.
    Chunks,
}

impl Framed {
    /// Appends a piece of the body.
    pub fn write(self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Framed::Plain => out.extend_from_slice(data),
            Framed::Chunks => write_chunk(data, out),
        }
    }

    /// Appends the end of the body.
    pub fn write_end(self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
        if self == Framed::Chunks {
            write_last_chunk(trailers, out);
        }
    }
}

/// Appends the last chunk with the trailers.
fn write_last_chunk(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        push_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The value of `Sec-WebSocket-Accept`.
pub type Accept = [u8; 28];

/// What a response depends on besides itself.
#[derive(Clone, Copy, Default, Debug)]
pub struct Asked {
    /// For a head alone.
    pub head_only: bool,
    /// Trailers are welcome.
    pub trailers: bool,
    /// It was asked for a WebSocket, and this says that there is one.
    pub websocket: Option<Accept>,
}

/// Appends an interim response.
pub fn write_interim(response: &Response<()>, out: &mut Vec<u8>) {
    write_start(response.status(), response.headers(), false, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head. `ended`: nothing follows it.
///
/// A body whose length is said has no place for trailers in HTTP/1.1. Where they are welcome the length is left out for them; else they are,
/// as RFC 9110 section 6.5.1 has it.
pub fn write_head(parts: &Parts, ended: bool, asked: Asked, out: &mut Vec<u8>) -> Framed {
    if let Some(accept) = asked.websocket.filter(|_| parts.status == StatusCode::OK && !ended) {
        // RFC 8441 section 5 the other way round.
        let mut fields = parts.headers.clone();
        // Of a key that the endpoint made up for somebody behind it.
        fields.remove(SEC_WEBSOCKET_ACCEPT);
        write_start(StatusCode::SWITCHING_PROTOCOLS, &fields, true, out);
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ");
        out.extend_from_slice(&accept);
        out.extend_from_slice(b"\r\n\r\n");
        return Framed::Plain;
    }
    let bodiless = asked.head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let chunks = !bodiless && !ended && (asked.trailers || !parts.headers.contains_key(CONTENT_LENGTH));
    write_start(parts.status, &parts.headers, chunks, out);
    if chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !bodiless && !parts.headers.contains_key(CONTENT_LENGTH) {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if chunks { Framed::Chunks } else { Framed::Plain }
}

fn write_start(status: StatusCode, fields: &HeaderMap, without_length: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        if !(without_length && name == CONTENT_LENGTH) {
            push_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(builder: http::response::Builder, ended: bool, head_only: bool) -> (String, Framed) {
        head_of(builder, ended, head_only, false)
    }

    fn head_of(builder: http::response::Builder, ended: bool, head_only: bool, trailers: bool) -> (String, Framed) {
        let parts = builder.body(()).expect("a response").into_parts().0;
        let mut out = Vec::new();
        let framed = write_head(&parts, ended, Asked { head_only, trailers, websocket: None }, &mut out);
        (String::from_utf8(out).expect("ASCII"), framed)
    }

    #[test]
    fn each_response_has_one_form() {
        let ok = || Response::builder().header("x", "y");
        assert_eq!(head(ok(), false, false), ("HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n".into(), Framed::Chunks));
        assert_eq!(head(ok(), true, false), ("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n".into(), Framed::Plain));
        assert_eq!(head(ok(), true, true).0, "HTTP/1.1 200 OK\r\nx: y\r\n\r\n");
        assert_eq!(head(ok().status(204), true, false).0, "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n");
        assert_eq!(head(ok().status(599), true, false).0, "HTTP/1.1 599 \r\nx: y\r\ncontent-length: 0\r\n\r\n");
        let (text, framed) = head(ok().header("content-length", "5"), false, false);
        assert_eq!((text.as_str(), framed), ("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\n", Framed::Plain));
        let (text, framed) = head_of(ok().header("content-length", "5"), false, false, true);
        assert_eq!((text.as_str(), framed), ("HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n", Framed::Chunks));
        let mut out = Vec::new();
        write_interim(&Response::builder().status(103).header("link", "a").body(()).expect("a response"), &mut out);
        assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n");
    }

    #[test]
    fn a_websocket_that_begins_is_a_switch() {
        let asked = Asked { websocket: Some(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ..Asked::default() };
        let told = |status: u16| {
            let builder = Response::builder().status(status).header("x", "y");
            let builder = if status == 200 { builder.header("sec-websocket-accept", "theirs") } else { builder };
            let parts = builder.body(()).expect("a response").into_parts().0;
            let mut out = Vec::new();
            let framed = write_head(&parts, false, asked, &mut out);
            (String::from_utf8(out).expect("ASCII"), framed)
        };
        let switched = "HTTP/1.1 101 Switching Protocols\r\nx: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(told(200), (switched.into(), Framed::Plain));
        assert_eq!(told(403), ("HTTP/1.1 403 Forbidden\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n".into(), Framed::Chunks));
    }

    #[test]
    fn bodies_and_trailers() {
        let mut out = Vec::new();
        Framed::Chunks.write(b"hello", &mut out);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        Framed::Chunks.write_end(Some(&trailers), &mut out);
        assert_eq!(out, b"5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n");
        out.clear();
        Framed::Plain.write(b"hello", &mut out);
        Framed::Plain.write_end(None, &mut out);
        assert_eq!(out, b"hello");
    }
}
