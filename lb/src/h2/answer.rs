//! An answer that was framed for a client of HTTP/1.1, taken apart for one of HTTP/2 (RFC 9113 section 8.3.2).
//!
//! Its bytes are ours: the data plane read the endpoint's strictly and wrote these. A head comes in one piece.

use memchr::memchr;

use super::hpack::encode::{push_field, push_status};
use super::unframe::{Unframe, Unframed};
use crate::http1::decimal;

/// What a head begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// A response before the response.
    Interim,
    /// The response; its body follows.
    Body,
    /// The response, which has no body.
    Whole,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    /// To `HEAD`.
    headless: bool,
    /// To an extended CONNECT.
    tunnel: bool,
    /// `None`: the head comes first.
    body: Option<Unframe>,
}

impl Answer {
    /// To a request with this method.
    pub fn new(head_only: bool, tunnel: bool) -> Answer {
        Answer { headless: head_only, tunnel, body: None }
    }

    /// Whether nothing more can come.
    pub fn is_done(&self) -> bool {
        self.body.as_ref().is_some_and(Unframe::is_done)
    }

    /// Whether the head was seen.
    pub fn is_begun(&self) -> bool {
        self.body.is_some()
    }

    /// Nothing more comes, whatever was said: the end of another protocol's bytes.
    pub fn finish(&mut self) {
        self.body = Some(Unframe::length(0));
    }

    /// So many of the next `len` bytes are the body's; 0: framing comes first.
    pub fn data(&self, len: usize) -> usize {
        self.body.as_ref().map_or(0, |body| body.data(len))
    }

    /// That many bytes of the body were passed on. Whether it is over by that.
    pub fn passed(&mut self, count: usize) -> bool {
        self.body.as_mut().is_some_and(|body| body.passed(count))
    }

    /// Takes framing of the body from the beginning of a piece, which is not empty: how much of it.
    ///
    /// # Errors
    /// The bytes are not of a body.
    pub fn framing(&mut self, piece: &[u8]) -> Result<usize, Unframed> {
        self.body.as_mut().ok_or(Unframed)?.framing(piece)
    }

    /// Appends the trailers of a body that is done. Whether there are any.
    ///
    /// # Errors
    /// They are no fields.
    pub fn write_trailers(&self, block: &mut Vec<u8>) -> Result<bool, Unframed> {
        let mut any = false;
        for line in self.body.iter().flat_map(Unframe::trailers) {
            let (name, value) = line?;
            push_field(name, value, block);
            any = true;
        }
        Ok(any)
    }

    /// Takes a head from the beginning of a piece and appends its field block: how much of the piece, and what follows.
    ///
    /// # Errors
    /// The bytes are not of an answer.
    pub fn head(&mut self, piece: &[u8], block: &mut Vec<u8>) -> Result<(usize, Begun), Unframed> {
        let digits = piece.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or(Unframed)?;
        let status = decimal(digits).filter(|status| *status >= 100).ok_or(Unframed)? as u16;
        // RFC 8441 section 5: agreed by 200; what proves the handshake in HTTP/1.1 means nothing here.
        let agreed = status == 101 && self.tunnel;
        let said = match status {
            101 if agreed => 200,
            // An endpoint that succeeds in something else did not agree, and any success would say that it did.
            200..=299 if self.tunnel => 502,
            _ => status,
        };
        push_status(said, block);
        let (mut length, mut chunked) = (None, false);
        let mut at = memchr(b'\n', piece).ok_or(Unframed)? + 1;
        loop {
            let rest = &piece[at..];
            let line_len = memchr(b'\n', rest).ok_or(Unframed)?;
            at += line_len + 1;
            let line = rest[..line_len].strip_suffix(b"\r").ok_or(Unframed)?;
            if line.is_empty() {
                break;
            }
            let colon = memchr(b':', line).ok_or(Unframed)?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match name.len() {
                // Of the connection, which is another one now (RFC 9113 section 8.2.2).
                7 if is("upgrade") => continue,
                10 if is("connection") || is("keep-alive") => continue,
                14 if is("content-length") => length = decimal(value),
                16 if is("proxy-connection") => continue,
                17 if is("transfer-encoding") => {
                    chunked = true;
                    continue;
                }
                20 if agreed && is("sec-websocket-accept") => continue,
                _ => {}
            }
            push_field(name, value, block);
        }
        if agreed {
            self.body = Some(Unframe::raw());
            return Ok((at, Begun::Body));
        }
        if status < 200 {
            return Ok((at, Begun::Interim));
        }
        let bodiless = self.headless || matches!(status, 204 | 304);
        let body = match (bodiless, chunked, length) {
            (true, ..) => Unframe::length(0),
            (false, true, _) => Unframe::chunks(),
            (false, false, length) => Unframe::length(length.unwrap_or(0)),
        };
        let begun = if body.is_done() { Begun::Whole } else { Begun::Body };
        self.body = Some(body);
        Ok((at, begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::hpack::decode::Decoder;

    /// The fields of a block: the status, and the names of the others.
    fn fields(block: &[u8]) -> String {
        let mut names = Vec::new();
        let taken = Decoder::default().decode(block, |field| {
            let is_status = field.name() == b":status";
            names.push(String::from_utf8_lossy(if is_status { field.value() } else { field.name() }).into_owned());
        });
        taken.expect("a block");
        names.join(",")
    }

    /// What a client of HTTP/2 gets of these bytes, when they come in pieces of this size after the head.
    fn told(answer: &mut Answer, bytes: &[u8], size: usize) -> Result<String, Unframed> {
        let mut text = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if !answer.is_begun() {
                let mut block = Vec::new();
                let (taken, begun) = answer.head(rest, &mut block)?;
                rest = &rest[taken..];
                text += &format!("{}|{}", fields(&block), if begun == Begun::Whole { "end|" } else { "" });
                continue;
            }
            let piece = &rest[..rest.len().min(size)];
            let data = answer.data(piece.len());
            if data > 0 {
                text += &String::from_utf8_lossy(&piece[..data]);
                if answer.passed(data) {
                    text += "|end";
                }
                rest = &rest[data..];
            } else {
                rest = &rest[answer.framing(piece)?..];
                if answer.is_done() {
                    let mut block = Vec::new();
                    answer.write_trailers(&mut block)?;
                    text += &format!("|end {}", fields(&block));
                }
            }
            if answer.is_done() {
                break;
            }
        }
        assert!(rest.is_empty(), "{} bytes were left over", rest.len());
        Ok(text)
    }

    /// RFC 8441 section 5: any success says that the tunnel stands.
    #[test]
    fn only_who_agreed_to_a_tunnel_succeeds() {
        for (answer, expected) in [
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nx", "200|x"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "502,content-length|x|end"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "502|end|"),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "403,content-length|end|"),
        ] {
            assert_eq!(told(&mut Answer::new(false, true), answer.as_bytes(), 10).as_deref(), Ok(expected), "{answer:?}");
        }
    }

    #[test]
    fn answers_are_taken_apart_whatever_the_pieces() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "200,content-length|hello|end"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200,content-length|end|"),
            ("HTTP/1.1 204 No Content\r\nX:   y \r\n\r\n", "204,x|end|"),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "304,content-length|end|"),
            ("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 \r\n\r\n", "103,link|204|end|"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
                "200|hello!|end ",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n!\r\n0\r\nGrpc-Status: 0\r\ngrpc-message: x\r\n\r\n",
                "200|!|end grpc-status,grpc-message",
            ),
        ];
        for (bytes, expected) in table {
            for size in [1, 2, 3, 7, 1000] {
                let mut answer = Answer::new(false, false);
                assert_eq!(told(&mut answer, bytes.as_bytes(), size).as_deref(), Ok(expected), "{bytes:?} by {size}");
                assert!(answer.is_done());
            }
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(told(&mut Answer::new(true, false), bytes, 1).as_deref(), Ok("200,content-length|end|"));
    }

    #[test]
    fn a_taken_up_protocol_is_a_200_whose_body_never_ends() {
        let bytes = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nraw 5\r\n";
        let mut answer = Answer::new(false, true);
        assert_eq!(told(&mut answer, bytes, 3).as_deref(), Ok("200|raw 5\r\n"));
        assert!(!answer.is_done());
    }

    #[test]
    fn what_we_never_write_is_an_error() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for rest in ["x\r\n", "1\r\nab", "11111111111111111\r\n", "0\r\nno colon\r\n\r\n"] {
            assert_eq!(told(&mut Answer::new(false, false), (chunked.to_owned() + rest).as_bytes(), 1000), Err(Unframed), "{rest:?}");
        }
        for head in ["SSH-2.0\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\na: b\r\n"] {
            assert_eq!(told(&mut Answer::new(false, false), head.as_bytes(), 1000), Err(Unframed), "{head:?}");
        }
    }
}
