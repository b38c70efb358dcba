//! An answer that was framed for a client of HTTP/1.1, taken apart for one of HTTP/2 (RFC 9113 section 8.3.2).
//!
//! Its bytes are ours: the data plane read the endpoint's strictly and wrote these. A head comes in one piece.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode};

use super::unframe::{Unframe, Unframed};

/// Fields of one head; more are refused when an endpoint's answer is read.
const HEADERS_MAX: usize = 1024;

/// What comes next.
#[derive(Debug)]
pub enum Part {
    /// Nothing yet: a piece of framing.
    Framing,
    /// A response before the response.
    Interim(Response<()>),
    /// The response.
    Head {
        /// Status and fields.
        response: Response<()>,
        /// It has no body.
        ended: bool,
    },
    /// The body is over, with these trailers.
    End(HeaderMap),
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

    /// Takes framing from the beginning of a piece, which is not empty: how much of it, and what it says.
    ///
    /// # Errors
    /// The bytes are not of an answer.
    pub fn framing(&mut self, piece: &[u8]) -> Result<(usize, Part), Unframed> {
        let Some(body) = &mut self.body else { return self.head(piece) };
        let (taken, trailers) = body.framing(piece)?;
        Ok((taken, trailers.map_or(Part::Framing, Part::End)))
    }

    fn head(&mut self, piece: &[u8]) -> Result<(usize, Part), Unframed> {
        let mut storage = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, piece, &mut storage);
        let Ok(httparse::Status::Complete(len)) = parsed else { return Err(Unframed) };
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Unframed)?;
        let mut response = Response::new(());
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.reserve(head.headers.len());
        let (mut length, mut chunked) = (None, false);
        for header in &*head.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unframed)?;
            // Of the connection, which is another one now (RFC 9113 section 8.2.2).
            if name == CONNECTION || name == UPGRADE {
                continue;
            }
            if name == TRANSFER_ENCODING {
                chunked = true;
                continue;
            }
            if name == CONTENT_LENGTH {
                length = std::str::from_utf8(header.value).ok().and_then(|digits| digits.parse::<u64>().ok());
            }
            fields.append(name, HeaderValue::from_bytes(header.value).map_err(|_| Unframed)?);
        }
        if status == StatusCode::SWITCHING_PROTOCOLS && self.tunnel {
            // RFC 8441 section 5: agreed by 200; what proves the handshake in HTTP/1.1 means nothing here.
            response.headers_mut().remove("sec-websocket-accept");
            *response.status_mut() = StatusCode::OK;
            self.body = Some(Unframe::raw());
            return Ok((len, Part::Head { response, ended: false }));
        }
        if status.is_informational() {
            return Ok((len, Part::Interim(response)));
        }
        let bodiless = self.headless || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = match (bodiless, chunked, length) {
            (true, ..) => Unframe::length(0),
            (false, true, _) => Unframe::chunks(),
            (false, false, length) => Unframe::length(length.unwrap_or(0)),
        };
        let ended = body.is_done();
        self.body = Some(body);
        Ok((len, Part::Head { response, ended }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client of HTTP/2 gets of these bytes, when they come in pieces of this size after the head.
    fn told(answer: &mut Answer, bytes: &[u8], size: usize) -> Result<String, Unframed> {
        let mut text = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = if answer.is_begun() { &rest[..rest.len().min(size)] } else { rest };
            let data = answer.data(piece.len());
            if data > 0 {
                text += &String::from_utf8_lossy(&piece[..data]);
                if answer.passed(data) {
                    text += "|end";
                }
                rest = &rest[data..];
                continue;
            }
            let (taken, part) = answer.framing(piece)?;
            rest = &rest[taken..];
            match part {
                Part::Framing => {}
                Part::Interim(response) => text += &format!("{}|", response.status().as_u16()),
                Part::Head { response, ended } => {
                    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
                    text += &format!("{} {}{}|", response.status().as_u16(), names.join(","), if ended { "|end" } else { "" });
                }
                Part::End(trailers) => text += &format!("|end {}", trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(",")),
            }
            if answer.is_done() {
                break;
            }
        }
        assert!(rest.is_empty(), "{} bytes were left over", rest.len());
        Ok(text)
    }

    #[test]
    fn answers_are_taken_apart_whatever_the_pieces() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "200 content-length|hello|end"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200 content-length|end|"),
            ("HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", "204 x|end|"),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "304 content-length|end|"),
            ("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "103|204 |end|"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
                "200 |hello!|end ",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n!\r\n0\r\ngrpc-status: 0\r\ngrpc-message: x\r\n\r\n",
                "200 |!|end grpc-status,grpc-message",
            ),
        ];
        for (bytes, expected) in table {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(told(&mut Answer::new(false, false), bytes.as_bytes(), size).as_deref(), Ok(expected), "{bytes:?} by {size}");
            }
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(told(&mut Answer::new(true, false), bytes, 1).as_deref(), Ok("200 content-length|end|"));
    }

    #[test]
    fn a_taken_up_protocol_is_a_200_whose_body_never_ends() {
        let bytes = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nraw 5\r\n";
        let mut answer = Answer::new(false, true);
        assert_eq!(told(&mut answer, bytes, 3).as_deref(), Ok("200 |raw 5\r\n"));
        assert!(!answer.is_done());
    }

    #[test]
    fn what_we_never_write_is_an_error() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for rest in ["x\r\n", "1\r\nab", "11111111111111111\r\n", "0\r\nno colon\r\n\r\n"] {
            assert_eq!(told(&mut Answer::new(false, false), (chunked.to_owned() + rest).as_bytes(), 1000), Err(Unframed), "{rest:?}");
        }
        assert_eq!(told(&mut Answer::new(false, false), b"SSH-2.0\r\n\r\n", 1000), Err(Unframed));
    }
}
