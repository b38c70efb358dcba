//! A request, and what its answer must be.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Failure, LINGER, Phase, Progress};

/// The head of an answer, interim ones included.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of an answer.
const HEADERS_MAX: usize = 128;
/// The part of a body that is looked at.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

/// What is asked, and what the answer must be.
pub(super) struct Question<'a> {
    /// The whole request.
    pub(super) request: &'a str,
    /// The answer has no body.
    pub(super) head_only: bool,
    /// Accepted statuses.
    pub(super) expect: &'a [(u16, u16)],
    /// What the body must match.
    pub(super) pattern: Option<&'a regex::bytes::Regex>,
}

/// Asks over a connection that was just opened.
pub(super) async fn http<S>(question: Question<'_>, mut stream: S, progress: &Progress) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Question { request, head_only, expect, pattern } = question;
    progress.enter(Phase::Sending);
    stream.write_all(request.as_bytes()).await.map_err(|error| Failure::io("send", &error))?;
    progress.enter(Phase::AwaitingHead);
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let head = loop {
        match parse_head(&buffer)? {
            // An interim answer: the real one follows.
            Some(head) if head.status < 200 && head.status != 101 => drop(buffer.drain(..head.length)),
            Some(head) => break head,
            None => read_line(&mut stream, &mut buffer).await?,
        }
    };
    judge_status(expect, head.status)?;
    buffer.drain(..head.length);
    let framing = if head_only || matches!(head.status, 101 | 204 | 304) { Framing::Length(0) } else { head.framing };
    if let Some(pattern) = pattern {
        progress.enter(Phase::ReadingBody);
        let mut body = Body::new(framing);
        loop {
            body.take(&mut buffer)?;
            if body.complete || body.bytes.len() >= BODY_BYTES_MAX {
                break;
            }
            if read(&mut stream, &mut buffer).await? == 0 {
                if framing == Framing::Close {
                    break;
                }
                return Failure::endpoint("closed inside the body");
            }
        }
        body.bytes.truncate(BODY_BYTES_MAX);
        if !pattern.is_match(&body.bytes) {
            return Failure::endpoint("body does not match");
        }
    }
    progress.enter(Phase::Closing);
    linger(&mut stream).await;
    Ok(())
}

/// Lets the other side close first, so that unread bytes do not turn our close into a reset.
async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let mut left = BODY_BYTES_MAX;
    let mut scratch = [0; READ_BYTES];
    let _ = timeout(LINGER, async {
        while let Ok(n) = stream.read(&mut scratch).await {
            if n == 0 || n >= left {
                break;
            }
            left -= n;
        }
    })
    .await;
}

/// Reads until something new ends a line: a head that comes byte by byte is not parsed byte by byte.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), Failure> {
    loop {
        let before = buffer.len();
        if before >= HEAD_BYTES_MAX {
            return Failure::endpoint(format!("answer head above {HEAD_BYTES_MAX} bytes"));
        }
        if read(stream, buffer).await? == 0 {
            return Failure::endpoint(if before == 0 { "closed without an answer" } else { "closed inside the answer head" });
        }
        if memchr::memchr(b'\n', &buffer[before..]).is_some() {
            return Ok(());
        }
    }
}

/// Reads once, a bounded amount.
async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<usize, Failure> {
    stream.take(READ_BYTES as u64).read_buf(buffer).await.map_err(|error| Failure::io("read", &error))
}

/// How the body of an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

struct Head {
    length: usize,
    status: u16,
    framing: Framing,
}

fn parse_head(buffer: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Failure::endpoint(format!("not an HTTP answer: {error}")),
    };
    let status = response.code.expect("a complete answer has a status");
    let mut framing = Framing::Close;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Failure::endpoint("unknown transfer encoding");
            }
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            let value = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            let Some(value) = value else { return Failure::endpoint("bad content length") };
            framing = Framing::Length(value);
        }
    }
    Ok(Some(Head { length, status, framing }))
}

/// The body of an answer, taken over from the received bytes as they come.
struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    complete: bool,
    /// Bytes to come before the body, or the chunk with its line break, ends.
    left: u64,
}

/// What ends a chunk.
const CHUNK_END: &[u8] = b"\r\n";

impl Body {
    fn new(framing: Framing) -> Body {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Body { framing, bytes: Vec::new(), complete: false, left }
    }

    /// Takes what it can use; the rest stays.
    fn take(&mut self, received: &mut Vec<u8>) -> Result<(), Failure> {
        match self.framing {
            Framing::Close => self.bytes.append(received),
            Framing::Length(_) => {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(received.len());
                self.bytes.extend(received.drain(..n));
                self.left -= n as u64;
                self.complete = self.left == 0;
            }
            Framing::Chunked => {
                let used = self.take_chunks(received)?;
                received.drain(..used);
                if received.len() >= READ_BYTES {
                    return Failure::endpoint("bad chunk in the body");
                }
            }
        }
        Ok(())
    }

    /// Returns how much was used.
    fn take_chunks(&mut self, received: &[u8]) -> Result<usize, Failure> {
        let end = CHUNK_END.len() as u64;
        let mut used = 0;
        while !self.complete {
            let rest = &received[used..];
            if self.left > end {
                let n = usize::try_from(self.left - end).unwrap_or(usize::MAX).min(rest.len());
                self.bytes.extend_from_slice(&rest[..n]);
                self.left -= n as u64;
                used += n;
                if self.left > end {
                    break;
                }
            } else if self.left == end {
                if rest.len() < CHUNK_END.len() {
                    break;
                }
                if !rest.starts_with(CHUNK_END) {
                    return Failure::endpoint("bad chunk in the body");
                }
                used += CHUNK_END.len();
                self.left = 0;
            } else {
                match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((n, size))) => {
                        used += n;
                        self.complete = size == 0;
                        self.left = size.saturating_add(end);
                    }
                    Ok(httparse::Status::Partial) => break,
                    Err(_) => return Failure::endpoint("bad chunk in the body"),
                }
            }
        }
        Ok(used)
    }
}

/// The same of a whole answer that came another way.
pub(super) fn judge(question: &Question<'_>, status: u16, body: &[u8]) -> Result<(), Failure> {
    judge_status(question.expect, status)?;
    match question.pattern {
        Some(pattern) if !pattern.is_match(body) => Failure::endpoint("body does not match"),
        _ => Ok(()),
    }
}

fn judge_status(expect: &[(u16, u16)], status: u16) -> Result<(), Failure> {
    if expect.iter().any(|&(low, high)| (low..=high).contains(&status)) {
        return Ok(());
    }
    Failure::endpoint(format!("status {status}, wanted {}", ranges(expect)))
}

fn ranges(expect: &[(u16, u16)]) -> String {
    let words: Vec<String> =
        expect.iter().map(|&(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") }).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed whole and byte by byte, with the same result.
    fn check_body(framing: Framing, received: &[u8], expected: Option<(&[u8], bool)>) {
        for step in [received.len(), 1] {
            let mut body = Body::new(framing);
            let mut buffer = Vec::new();
            let result = received.chunks(step).try_for_each(|piece| {
                buffer.extend_from_slice(piece);
                body.take(&mut buffer)
            });
            let result = result.ok().map(|()| (body.bytes.as_slice(), body.complete));
            assert_eq!(result, expected, "{} by {step}", received.escape_ascii());
        }
    }

    #[test]
    fn bodies() {
        check_body(Framing::Close, b"abc", Some((b"abc", false)));
        check_body(Framing::Length(2), b"abc", Some((b"ab", true)));
        check_body(Framing::Length(u64::MAX), b"abc", Some((b"abc", false)));
        check_body(Framing::Chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Some((b"abcde", true)));
        check_body(Framing::Chunked, b"3\r\nab", Some((b"ab", false)));
        check_body(Framing::Chunked, b"3\r\nabc\r", Some((b"abc", false)));
        check_body(Framing::Chunked, b"3\r\nabcXY", None);
        check_body(Framing::Chunked, b"zz\r\n", None);
        check_body(Framing::Chunked, b"ffffffffffffffff\r\nabc", Some((b"abc", false)));
        check_body(Framing::Chunked, &[b'1'; 2 * READ_BYTES], None);
    }
}
