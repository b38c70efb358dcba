//! Reads responses with a length, in whatever pieces they come.

/// A response head of the bench is far below this.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How far the current response is.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    /// A head that has not ended yet.
    head: Vec<u8>,
    /// Body bytes still to come; `None`: in the head.
    body: Option<u64>,
    ok: bool,
    close: bool,
    keep: Option<Vec<u8>>,
}

/// What some bytes amounted to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// More must come.
    Partial,
    /// One response has ended with these bytes.
    Done {
        /// It was a 200.
        ok: bool,
        /// The peer will close.
        close: bool,
    },
    /// Not a response that this bench expects: the connection is of no use any more.
    Garbage,
}

impl ResponseReader {
    pub(crate) fn new() -> ResponseReader {
        ResponseReader { head: Vec::new(), body: None, ok: false, close: false, keep: None }
    }

    /// Also keeps the body, for callers that want to read it.
    pub(crate) fn keeping_body() -> ResponseReader {
        ResponseReader { keep: Some(Vec::new()), ..ResponseReader::new() }
    }

    /// The body of the last response, when it was to be kept.
    pub(crate) fn take_body(&mut self) -> Vec<u8> {
        self.keep.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes bytes of at most one response.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Progress {
        if let Some(left) = self.body {
            return self.feed_body(left, bytes);
        }
        if self.head.is_empty() {
            return self.feed_head(bytes);
        }
        self.head.extend_from_slice(bytes);
        let head = std::mem::take(&mut self.head);
        self.feed_head(&head)
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Progress {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let head_len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => {
                self.head = bytes.to_vec();
                return Progress::Partial;
            }
            _ => return Progress::Garbage,
        };
        self.ok = response.code == Some(200);
        self.close = false;
        let mut length = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                length = std::str::from_utf8(header.value).ok().and_then(|v| v.trim().parse::<u64>().ok());
            } else if header.name.eq_ignore_ascii_case("connection") {
                self.close = header.value.eq_ignore_ascii_case(b"close");
            }
        }
        match length {
            Some(length) => self.feed_body(length, &bytes[head_len..]),
            None => Progress::Garbage,
        }
    }

    fn feed_body(&mut self, left: u64, bytes: &[u8]) -> Progress {
        let Some(left) = left.checked_sub(bytes.len() as u64) else { return Progress::Garbage };
        if let Some(body) = &mut self.keep {
            body.extend_from_slice(bytes);
        }
        if left > 0 {
            self.body = Some(left);
            return Progress::Partial;
        }
        self.body = None;
        Progress::Done { ok: self.ok, close: self.close }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_may_be_cut_anywhere() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        for cut in 1..bytes.len() {
            let mut reader = ResponseReader::keeping_body();
            assert_eq!(reader.feed(&bytes[..cut]), Progress::Partial, "cut at {cut}");
            assert_eq!(reader.feed(&bytes[cut..]), Progress::Done { ok: true, close: true }, "cut at {cut}");
            assert_eq!(reader.take_body(), b"hello");
        }
    }

    #[test]
    fn what_is_not_expected_is_garbage() {
        for bytes in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"] {
            assert_eq!(ResponseReader::new().feed(bytes), Progress::Garbage);
        }
    }
}
