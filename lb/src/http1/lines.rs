//! Finding the end of a head, line by line, without reading any byte twice.

use memchr::memchr;
use weir_config::HttpLimits;

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes in all.
    pub head_bytes_max: usize,
    /// Bytes of one line, without its CRLF.
    pub line_bytes_max: usize,
    /// Header fields.
    pub headers_max: usize,
}

/// The most header fields any setting allows; sizes the parser's array.
pub(super) const HEADERS_CEILING: usize = 1000;

impl Bounds {
    /// What an endpoint may send: its answers are trusted more than a client's requests, but not without bound.
    pub const RESPONSE: Bounds = Bounds { head_bytes_max: 64 * 1024, line_bytes_max: 32 * 1024, headers_max: 256 };
}

impl From<&HttpLimits> for Bounds {
    fn from(limits: &HttpLimits) -> Bounds {
        Bounds {
            head_bytes_max: limits.head_bytes_max,
            line_bytes_max: limits.line_bytes_max,
            headers_max: limits.headers_max.min(HEADERS_CEILING),
        }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// A bound was passed.
    #[error("the head is larger than allowed")]
    TooLarge,
    /// A line feed without its carriage return (RFC 9112 section 2.2).
    #[error("a line does not end in CRLF")]
    BareLf,
    /// A folded line (RFC 9112 section 5.2), or white space before the first field.
    #[error("a header line begins with white space")]
    Folded,
    /// The request or status line, a field name or a field value has a byte it must not have.
    #[error("the head has a character it must not have")]
    Syntax,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the protocol version is not supported")]
    Version,
    /// `Content-Length` is not one plain number, or is there twice (RFC 9112 section 6.3).
    #[error("the content length is not one plain number")]
    ContentLength,
    /// `Transfer-Encoding` is anything but one `chunked` in HTTP/1.1 (RFC 9112 section 6.1).
    #[error("the transfer encoding is not plain chunked")]
    TransferEncoding,
    /// Both a content length and a transfer encoding (RFC 9112 section 6.3, item 3).
    #[error("the message has a content length and a transfer encoding")]
    BothLengths,
    /// No `Host`, more than one, or one that is not a host (RFC 9112 section 3.2).
    #[error("the Host header is missing, repeated or malformed")]
    Host,
    /// The target is in a form that does not fit, or names another authority than `Host`.
    #[error("the request target is malformed or does not fit the Host header")]
    Target,
    /// `CONNECT` is not served.
    #[error("CONNECT is not served")]
    Connect,
    /// An answer 101 that nobody asked for, or another status outside 100 to 599.
    #[error("the status is not one that fits")]
    Status,
}

/// Finds the empty line that ends a head, over as many arrivals of bytes as it takes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scanner {
    line_start: usize,
    searched: usize,
    lines: usize,
}

impl Scanner {
    /// The length of the head with its empty line, `None` while it is incomplete. `buf` must begin with the bytes of the calls before.
    ///
    /// # Errors
    /// A bound is passed or a line ends wrongly; also before the head is complete.
    pub fn scan(&mut self, buf: &[u8], bounds: &Bounds) -> Result<Option<usize>, HeadError> {
        while let Some(found) = memchr(b'\n', &buf[self.searched..]) {
            let lf = self.searched + found;
            if lf == self.line_start || buf[lf - 1] != b'\r' {
                return Err(HeadError::BareLf);
            }
            let line = &buf[self.line_start..lf - 1];
            if line.len() > bounds.line_bytes_max || lf >= bounds.head_bytes_max {
                return Err(HeadError::TooLarge);
            }
            if line.is_empty() {
                if self.lines == 0 {
                    return Err(HeadError::Syntax);
                }
                return Ok(Some(lf + 1));
            }
            if self.lines > 0 && matches!(line[0], b' ' | b'\t') {
                return Err(HeadError::Folded);
            }
            self.lines += 1;
            if self.lines > bounds.headers_max + 1 {
                return Err(HeadError::TooLarge);
            }
            self.line_start = lf + 1;
            self.searched = lf + 1;
        }
        self.searched = buf.len();
        // One byte over the bound may be the carriage return.
        if buf.len() - self.line_start > bounds.line_bytes_max + 1 || buf.len() >= bounds.head_bytes_max {
            return Err(HeadError::TooLarge);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { head_bytes_max: 64, line_bytes_max: 20, headers_max: 2 };

    fn check(head: &[u8], expected: Result<Option<usize>, HeadError>) {
        assert_eq!(Scanner::default().scan(head, &BOUNDS), expected, "{}", head.escape_ascii());
        // Byte by byte it must come to the same, at the latest with the last byte.
        let mut scanner = Scanner::default();
        let mut last = Ok(None);
        for end in 1..=head.len() {
            last = scanner.scan(&head[..end], &BOUNDS);
            if last != Ok(None) {
                break;
            }
        }
        assert_eq!(last, expected, "byte by byte: {}", head.escape_ascii());
    }

    #[test]
    fn ends_and_errors() {
        check(b"GET / HTTP/1.1\r\n\r\n", Ok(Some(18)));
        check(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Ok(Some(24)));
        check(b"GET / HTTP/1.1\r\nA: b\r\n", Ok(None));
        check(b"GET / HTTP/1.1\n\r\n", Err(HeadError::BareLf));
        check(b"GET / HTTP/1.1\r\n\n", Err(HeadError::BareLf));
        check(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Err(HeadError::Folded));
        check(b"\r\nGET / HTTP/1.1\r\n\r\n", Err(HeadError::Syntax));
        check(b"GET /12345678901234567890", Err(HeadError::TooLarge));
        check(b"G / H\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", Err(HeadError::TooLarge));
        check(&[b"0123456789\r\n".as_slice(); 6].concat(), Err(HeadError::TooLarge));
    }
}
