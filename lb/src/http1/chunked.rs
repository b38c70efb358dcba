//! The chunked transfer coding (RFC 9112 section 7.1), checked strictly while it passes through.
//!
//! ```text
//!   chunk   = 1*16HEX *( ";" ext ) CRLF  data CRLF
//!   last    = 1*16"0" *( ";" ext ) CRLF  *( trailer CRLF )  CRLF
//! ```
//!
//! Extensions mean nothing to anybody and are a known way to smuggle: they are checked, bounded and taken out.

use super::body::Advance;

/// Why a chunked body is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChunkError {
    /// Not a hexadecimal number of 1 to 16 digits that fits a signed integer.
    #[error("a chunk size is not a plain hexadecimal number, or is too large")]
    Size,
    /// A byte that cannot be in an extension, or too many of them.
    #[error("a chunk extension is malformed or too long")]
    Extension,
    /// A line or a chunk's data does not end in CRLF.
    #[error("a chunk does not end in CRLF")]
    LineEnd,
    /// A malformed or forbidden trailer field, or too many bytes of them.
    #[error("a trailer field is malformed, forbidden or too long")]
    Trailer,
}

/// Bytes of extensions in one chunk; no known use comes near.
const EXTENSION_MAX: u16 = 256;
/// Bytes of trailers in one message.
const TRAILERS_MAX: u16 = 8 * 1024;
/// The longest forbidden trailer name; longer ones need not be remembered.
const NAME_MAX: usize = 19;

/// Fields that frame, route, authenticate or describe a message, or say who sent it, and must not come after it: there are readers that
/// merge trailers into the head (RFC 9110 section 6.5.1). Spelled in lower case and with hyphens, as names are remembered.
const FORBIDDEN_TRAILERS: [&[u8]; 24] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
];

/// Appends a chunk; nothing for no data, which would be the last one.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    use std::io::Write as _;
    if !data.is_empty() {
        write!(out, "{:x}\r\n", data.len()).expect("writing to memory cannot fail");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// A chunked body on its way.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// Bytes left of the chunk; while the size is read, the number so far.
    left: u64,
    /// Digits of the size, or bytes of extension or trailers so far.
    counted: u16,
    name: [u8; NAME_MAX],
    name_len: u8,
    framed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size,
    Extension,
    Quoted,
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Chunked {
    /// `framed`: the chunk framing is passed on; else only the data is.
    pub fn new(framed: bool) -> Chunked {
        Chunked { state: State::Size, left: 0, counted: 0, name: [0; NAME_MAX], name_len: 0, framed }
    }

    /// Whether the last byte of the message was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece; what is to be passed on is moved to its beginning.
    ///
    /// # Errors
    /// The framing is wrong; the piece's content is then meaningless.
    pub fn advance(&mut self, piece: &mut [u8]) -> Result<Advance, ChunkError> {
        let mut at = 0;
        let mut kept = 0;
        while at < piece.len() && self.state != State::Done {
            if self.state == State::Data {
                let taken = (piece.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                if kept != at {
                    piece.copy_within(at..at + taken, kept);
                }
                at += taken;
                kept += taken;
                self.left -= taken as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = piece[at];
            at += 1;
            if self.step(byte)? && self.framed {
                piece[kept] = byte;
                kept += 1;
            }
        }
        Ok(Advance { consumed: at, kept })
    }

    /// One byte of framing; whether it is passed on.
    fn step(&mut self, byte: u8) -> Result<bool, ChunkError> {
        match self.state {
            State::Size => self.size(byte),
            State::Extension | State::Quoted | State::QuotedPair => self.extension(byte),
            State::SizeLf => {
                expect(byte, b'\n', ChunkError::LineEnd)?;
                self.counted = 0;
                self.state = if self.left == 0 { State::TrailerStart } else { State::Data };
                Ok(true)
            }
            State::DataCr => {
                expect(byte, b'\r', ChunkError::LineEnd)?;
                self.state = State::DataLf;
                Ok(true)
            }
            State::DataLf => {
                expect(byte, b'\n', ChunkError::LineEnd)?;
                self.state = State::Size;
                Ok(true)
            }
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf => self.trailer(byte),
            State::Data | State::Done => Ok(false),
        }
    }

    fn size(&mut self, byte: u8) -> Result<bool, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.counted > 0 => {
                self.state = State::SizeLf;
                return Ok(true);
            }
            b';' if self.counted > 0 => {
                self.counted = 0;
                self.state = State::Extension;
                return Ok(false);
            }
            _ => return Err(ChunkError::Size),
        };
        self.counted += 1;
        if self.counted > 16 {
            return Err(ChunkError::Size);
        }
        self.left = (self.left << 4) | u64::from(digit);
        // The next reader may use a signed integer.
        if self.left > i64::MAX as u64 { Err(ChunkError::Size) } else { Ok(true) }
    }

    fn extension(&mut self, byte: u8) -> Result<bool, ChunkError> {
        self.counted += 1;
        if self.counted > EXTENSION_MAX {
            return Err(ChunkError::Extension);
        }
        self.state = match (self.state, byte) {
            (State::Extension, b'\r') => {
                self.state = State::SizeLf;
                return Ok(true);
            }
            (State::Extension, b'"') => State::Quoted,
            (State::Extension, b';' | b'=' | b' ' | b'\t') => State::Extension,
            (State::Extension, _) if is_token(byte) => State::Extension,
            (State::Quoted, b'"') => State::Extension,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, _) if is_text(byte) => State::Quoted,
            _ => return Err(ChunkError::Extension),
        };
        Ok(false)
    }

    fn trailer(&mut self, byte: u8) -> Result<bool, ChunkError> {
        self.counted += 1;
        if self.counted > TRAILERS_MAX {
            return Err(ChunkError::Trailer);
        }
        self.state = match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                if self.state == State::TrailerStart {
                    self.name_len = 0;
                }
                if let Some(place) = self.name.get_mut(usize::from(self.name_len)) {
                    // To many readers `_` is `-`.
                    *place = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                }
                self.name_len = self.name_len.saturating_add(1);
                State::TrailerName
            }
            (State::TrailerName, b':') => {
                let name = self.name.get(..usize::from(self.name_len)).unwrap_or_default();
                if FORBIDDEN_TRAILERS.contains(&name) {
                    return Err(ChunkError::Trailer);
                }
                State::TrailerValue
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerLf | State::EndLf, _) => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Trailer),
        };
        Ok(true)
    }
}

fn expect(byte: u8, wanted: u8, error: ChunkError) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(error) }
}

/// `tchar` (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `field-vchar`, space or tab (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], framed: bool, step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut chunked = Chunked::new(framed);
        let (mut out, mut consumed) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut piece = piece.to_vec();
            let advance = chunked.advance(&mut piece)?;
            out.extend_from_slice(&piece[..advance.kept]);
            consumed += advance.consumed;
            if chunked.is_done() {
                break;
            }
        }
        Ok((out, consumed, chunked.is_done()))
    }

    fn check(input: &[u8], framed: &[u8], data: &[u8]) {
        for step in 1..=input.len() {
            let (out, consumed, done) = run(input, true, step).expect("valid");
            assert!(done, "{}", input.escape_ascii());
            assert_eq!((out.as_slice(), consumed), (framed, input.len()), "step {step}");
            assert_eq!(run(input, false, step).expect("valid").0, data, "step {step}");
        }
    }

    fn check_refused(input: &[u8], expected: ChunkError) {
        for step in 1..=input.len() {
            assert_eq!(run(input, true, step), Err(expected), "{} in steps of {step}", input.escape_ascii());
        }
    }

    #[test]
    fn valid_bodies_pass_unchanged() {
        check(b"0\r\n\r\n", b"0\r\n\r\n", b"");
        check(b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello");
        check(
            b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
            b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
            b"01234567890123456789",
        );
        let close_to_forbidden = b"0\r\nHosts: x\r\nX-Host: x\r\nProxy-Authorizations: x\r\n\r\n";
        check(close_to_forbidden, close_to_forbidden, b"");
        check(b"1\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"1\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"x");
    }

    #[test]
    fn extensions_are_taken_out() {
        check(b"1;a=b; c=\"d;\\\"e\"\r\nx\r\n0;e\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"x");
    }

    #[test]
    fn wrong_framing_is_refused() {
        for input in [
            &b"\r\n"[..],
            b" 5\r\n",
            b"5 \r\n",
            b"0x5\r\n",
            b"-1\r\n",
            b"g\r\n",
            b"5\n",
            b"+5\r\n",
            b"00000000000000001\r\n",
            b"8000000000000000\r\n",
        ] {
            check_refused(input, ChunkError::Size);
        }
        check_refused(b"5\rx", ChunkError::LineEnd);
        check_refused(b"1\r\nxy", ChunkError::LineEnd);
        check_refused(b"1\r\nx\n", ChunkError::LineEnd);
        check_refused(b"1\r\nx\r\r", ChunkError::LineEnd);
        check_refused(b"5;a\nb", ChunkError::Extension);
        check_refused(b"5;a=\"\x01\"", ChunkError::Extension);
        check_refused(&[b"5;", [b'a'; 300].as_slice()].concat(), ChunkError::Extension);
        for input in [
            &b"0\r\nContent-Length: 5\r\n\r\n"[..],
            b"0\r\nHOST: x\r\n\r\n",
            b"0\r\nX-Sum: 1\r\nTransfer_Encoding: x\r\n\r\n",
            b"0\r\nX-Forwarded-For: x\r\n\r\n",
            b"0\r\nProxy-Authorization: x\r\n\r\n",
            b"0\r\n: x\r\n",
            b"0\r\na b: c\r\n",
            b"0\r\na: \x00\r\n",
            b"0\r\n b: c\r\n",
        ] {
            check_refused(input, ChunkError::Trailer);
        }
        check_refused(b"0\r\na: b\rc", ChunkError::LineEnd);
        check_refused(b"0\r\n\rx", ChunkError::LineEnd);
    }

    #[test]
    fn largest_chunk() {
        let mut chunked = Chunked::new(true);
        chunked.advance(&mut b"7fffffffffffffff\r\nab".to_vec()).expect("valid");
        assert_eq!(chunked.left, i64::MAX as u64 - 2);
    }

    #[test]
    fn stops_at_the_end_of_the_message() {
        let mut piece = b"0\r\n\r\nGET / HTTP/1.1\r\n".to_vec();
        let mut chunked = Chunked::new(true);
        assert_eq!(chunked.advance(&mut piece), Ok(Advance { consumed: 5, kept: 5 }));
        assert!(chunked.is_done());
    }
}
