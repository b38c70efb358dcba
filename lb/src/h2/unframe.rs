//! A body as the data plane frames it for HTTP/1.1, taken out of its framing. The bytes are ours: whatever peer they came from, they were
//! read strictly and written again.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The most of trailers, as for a body's framing in HTTP/1.1.
const TRAILERS_MAX: usize = 8 * 1024;

/// Not what the data plane writes, or nothing that HTTP/2 can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message was framed in a way that has no form in HTTP/2")]
pub struct Unframed;

/// A body on its way.
#[derive(Debug)]
pub struct Unframe {
    state: State,
    /// Lines of trailers.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Length(u64),
    ChunkSize(u64),
    ChunkSizeLf(u64),
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    Trailers,
    Raw,
    Done,
}

impl Unframe {
    /// Of this length.
    pub fn length(length: u64) -> Unframe {
        Unframe { state: if length == 0 { State::Done } else { State::Length(length) }, trailers: Vec::new() }
    }

    /// In chunks.
    pub fn chunks() -> Unframe {
        Unframe { state: State::ChunkSize(0), trailers: Vec::new() }
    }

    /// The bytes of another protocol.
    pub fn raw() -> Unframe {
        Unframe { state: State::Raw, trailers: Vec::new() }
    }

    /// Whether nothing more can come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Nothing more comes, whatever was said: the end of another protocol's bytes.
    pub fn finish(&mut self) {
        self.state = State::Done;
    }

    /// So many of the next `len` bytes are the body's; 0: framing comes first.
    pub fn data(&self, len: usize) -> usize {
        match self.state {
            State::Length(left) | State::ChunkData(left) => len.min(usize::try_from(left).unwrap_or(usize::MAX)),
            State::Raw => len,
            _ => 0,
        }
    }

    /// That many bytes of the body were passed on. Whether it is over by that.
    pub fn passed(&mut self, count: usize) -> bool {
        self.state = match self.state {
            State::Length(left) if left <= count as u64 => State::Done,
            State::Length(left) => State::Length(left - count as u64),
            State::ChunkData(left) if left <= count as u64 => State::ChunkDataCr,
            State::ChunkData(left) => State::ChunkData(left - count as u64),
            other => other,
        };
        self.state == State::Done
    }

    /// Takes framing from the beginning of a piece, which is not empty: how much of it. If the body is done by that, its trailers are known.
    ///
    /// # Errors
    /// The bytes are not of a body.
    pub fn framing(&mut self, piece: &[u8]) -> Result<usize, Unframed> {
        if self.state == State::Trailers {
            return self.trailer_bytes(piece);
        }
        let mut taken = 0;
        for byte in piece {
            self.state = match (self.state, byte) {
                (State::ChunkSize(size), b'\r') => State::ChunkSizeLf(size),
                (State::ChunkSize(size), digit) => {
                    let digit = (*digit as char).to_digit(16).ok_or(Unframed)?;
                    State::ChunkSize(size.checked_mul(16).ok_or(Unframed)? + u64::from(digit))
                }
                (State::ChunkSizeLf(0), b'\n') => State::Trailers,
                (State::ChunkSizeLf(size), b'\n') => State::ChunkData(size),
                (State::ChunkDataCr, b'\r') => State::ChunkDataLf,
                (State::ChunkDataLf, b'\n') => State::ChunkSize(0),
                _ => return Err(Unframed),
            };
            taken += 1;
            if matches!(self.state, State::ChunkData(_) | State::Trailers) {
                break;
            }
        }
        Ok(taken)
    }

    /// The lines of the trailers, without CRLF.
    ///
    /// # Errors
    /// One of them has no colon.
    pub fn trailers(&self) -> impl Iterator<Item = Result<(&[u8], &[u8]), Unframed>> {
        let lines = self.trailers.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        lines.map(|line| {
            let colon = memchr::memchr(b':', line).ok_or(Unframed)?;
            Ok((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The same, for who needs names and values of their own.
    ///
    /// # Errors
    /// One of them is no field.
    pub fn trailer_map(&self) -> Result<HeaderMap, Unframed> {
        let mut map = HeaderMap::new();
        for line in self.trailers() {
            let (name, value) = line?;
            let name = HeaderName::from_bytes(name).map_err(|_| Unframed)?;
            map.append(name, HeaderValue::from_bytes(value).map_err(|_| Unframed)?);
        }
        Ok(map)
    }

    fn trailer_bytes(&mut self, piece: &[u8]) -> Result<usize, Unframed> {
        for (index, byte) in piece.iter().enumerate() {
            self.trailers.push(*byte);
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                self.state = State::Done;
                return Ok(index + 1);
            }
        }
        if self.trailers.len() > TRAILERS_MAX {
            return Err(Unframed);
        }
        Ok(piece.len())
    }
}
