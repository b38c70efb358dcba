//! HTTP/1.1 as the tests speak it: a small blocking peer that shares no code with the product.
//!
//! It is strict on purpose. A line that does not end in CRLF, a chunk size that is not hexadecimal or a transfer that ends early is an error
//! with words, so that a test that sees a wrong message fails on the message and not on its consequence.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read or write may block before the test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The longest line the peer accepts.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The first line and the fields of a request or response.
#[derive(Clone, Default, Debug)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) first: String,
    /// Names as sent, values trimmed.
    pub(crate) fields: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// When the connection closes.
    UntilClose,
}

/// A whole response.
#[derive(Clone, Default, Debug)]
pub(crate) struct Response {
    /// Status.
    pub(crate) status: u16,
    /// Head.
    pub(crate) head: Head,
    /// Body without its framing.
    pub(crate) body: Vec<u8>,
    /// Fields after a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Head {
    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Method and target of a request.
    pub(crate) fn request(&self) -> (&str, &str) {
        let mut parts = self.first.split(' ');
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
    }

    /// Status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// Whether the sender says that the connection ends after this message.
    pub(crate) fn closes(&self) -> bool {
        self.all("connection").iter().any(|value| value.to_ascii_lowercase().split(',').any(|word| word.trim() == "close"))
    }

    /// How the body ends, when there is no reason for another end.
    fn framing(&self, otherwise: Framing) -> io::Result<Framing> {
        let lengths = self.all("content-length");
        let codings = self.all("transfer-encoding");
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(otherwise),
            ([length], []) => length.parse().map(Framing::Length).map_err(|_| broken(format!("content-length {length:?}"))),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            _ => Err(broken(format!("ambiguous framing: lengths {lengths:?}, codings {codings:?}"))),
        }
    }

    /// How a request's body ends.
    pub(crate) fn request_framing(&self) -> io::Result<Framing> {
        self.framing(Framing::Length(0))
    }

    /// How the body of a response to `method` ends.
    pub(crate) fn response_framing(&self, method: &str) -> io::Result<Framing> {
        match self.status() {
            100..=199 | 204 | 304 => Ok(Framing::Length(0)),
            _ if method == "HEAD" => Ok(Framing::Length(0)),
            _ => self.framing(Framing::UntilClose),
        }
    }
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    reader: BufReader<TcpStream>,
}

impl Peer {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Peer> {
        Peer::from_stream(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Takes over an accepted or connected stream.
    pub(crate) fn from_stream(stream: TcpStream) -> io::Result<Peer> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Peer { reader: BufReader::with_capacity(16 * 1024, stream) })
    }

    /// The stream, to write to or to change.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Writes all of it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Sends no more, still reads.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        self.stream().shutdown(Shutdown::Write)
    }

    /// Makes the coming drop a reset instead of an orderly end.
    pub(crate) fn reset_on_drop(&self) -> io::Result<()> {
        socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO))
    }

    /// A line without its CRLF; `None` when the peer closed before its first byte.
    fn line(&mut self, what: &str) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(|e| Error::new(e.kind(), format!("{what}: {e}")))?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.ends_with(b"\r\n") {
            let kind = if line.ends_with(b"\n") { ErrorKind::InvalidData } else { ErrorKind::UnexpectedEof };
            return Err(Error::new(kind, format!("{what}: line without CRLF: {:?}", String::from_utf8_lossy(&line))));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map(Some).map_err(|e| broken(format!("{what}: {e}")))
    }

    /// Fields up to the empty line.
    fn fields(&mut self, what: &str) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(what)?.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, format!("{what}: closed inside the fields")))?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(format!("{what}: no colon in {line:?}")))?;
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(broken(format!("{what}: bad name in {line:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A head; `None` when the peer closed before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(first) = self.line("first line")? else { return Ok(None) };
        Ok(Some(Head { first, fields: self.fields("fields")? }))
    }

    /// A body into `sink`; returns its length and its trailers.
    pub(crate) fn body(&mut self, framing: Framing, sink: &mut impl Write) -> io::Result<(u64, Vec<(String, String)>)> {
        match framing {
            Framing::Length(length) => {
                let copied = io::copy(&mut (&mut self.reader).take(length), sink)?;
                if copied < length {
                    return Err(Error::new(ErrorKind::UnexpectedEof, format!("body: {copied} of {length} bytes")));
                }
                Ok((copied, Vec::new()))
            }
            Framing::UntilClose => Ok((io::copy(&mut self.reader, sink)?, Vec::new())),
            Framing::Chunked => {
                let mut total = 0;
                loop {
                    let line = self.line("chunk size")?.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "closed before a chunk"))?;
                    let digits = line.split(';').next().unwrap_or("");
                    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                        return Err(broken(format!("chunk size {line:?}")));
                    }
                    let size = u64::from_str_radix(digits, 16).map_err(|_| broken(format!("chunk size {line:?}")))?;
                    if size == 0 {
                        return Ok((total, self.fields("trailers")?));
                    }
                    total += self.body(Framing::Length(size), sink)?.0;
                    match self.line("end of chunk")? {
                        Some(end) if end.is_empty() => {}
                        Some(end) => return Err(broken(format!("{end:?} after a chunk"))),
                        None => return Err(Error::new(ErrorKind::UnexpectedEof, "closed after a chunk")),
                    }
                }
            }
        }
    }

    /// The next response to a request of this method, informational ones included.
    pub(crate) fn response_or_interim(&mut self, method: &str) -> io::Result<Response> {
        let head = self.head()?.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "closed before a response"))?;
        if !head.first.starts_with("HTTP/1.1 ") {
            return Err(broken(format!("status line {:?}", head.first)));
        }
        let mut body = Vec::new();
        let (_, trailers) = self.body(head.response_framing(method)?, &mut body)?;
        Ok(Response { status: head.status(), head, body, trailers })
    }

    /// The next final response to a request of this method.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let response = self.response_or_interim(method)?;
            if response.status >= 200 || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Everything up to the end of the connection; a reset counts as an end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => Err(Error::new(e.kind(), format!("after {} bytes: {e}", rest.len()))),
            _ => Ok(rest),
        }
    }

    /// Exactly so many bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// What has come, at least a byte; empty at the end.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.reader.fill_buf()?.to_vec();
        self.reader.consume(bytes.len());
        Ok(bytes)
    }
}

/// An error of the peer's making.
pub(crate) fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, what.into())
}

/// A `GET` on a fresh connection.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    send(address, "GET", &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
}

/// One raw request on a fresh connection.
pub(crate) fn send(address: SocketAddr, method: &str, raw: &str) -> io::Result<Response> {
    let mut peer = Peer::connect(address)?;
    peer.send(raw)?;
    peer.response(method)
}

/// A writer that keeps only the length and a 64-bit fingerprint (FNV-1a over words would do; bytes keep it obvious).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    /// Bytes seen.
    pub(crate) length: u64,
    hash: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint { length: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Write for Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reproducible stream of bytes that does not repeat within a test.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// The next number (xorshift64*).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}
