//! How far a message's body reaches.

use super::chunked::{ChunkError, Chunked};

/// What is left of a body.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// So many bytes; never 0.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes until the peer closes.
    UntilClose,
}

/// How much of a piece of input belongs to the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advance {
    /// Bytes of the input that belong to this message.
    pub consumed: usize,
    /// Bytes at the beginning of the piece, after the call, that are to be passed on. Less than `consumed` where framing was taken out.
    pub kept: usize,
}

impl Body {
    /// A body of this length.
    pub fn length(length: u64) -> Body {
        if length == 0 { Body::Empty } else { Body::Length(length) }
    }

    /// A chunked body that stays chunked.
    pub fn chunked() -> Body {
        Body::Chunked(Chunked::new(true))
    }

    /// The same body, without its chunk framing.
    pub(super) fn unframed(self) -> Body {
        match self {
            Body::Chunked(_) => Body::Chunked(Chunked::new(false)),
            other => other,
        }
    }

    /// Whether the message is complete.
    pub fn is_done(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Chunked(chunked) => chunked.is_done(),
            Body::Length(_) | Body::UntilClose => false,
        }
    }

    /// Takes the next piece of input. Chunk extensions are taken out in place.
    ///
    /// # Errors
    /// The chunk framing is wrong.
    pub fn advance(&mut self, piece: &mut [u8]) -> Result<Advance, ChunkError> {
        match self {
            Body::Empty => Ok(Advance { consumed: 0, kept: 0 }),
            Body::UntilClose => Ok(Advance { consumed: piece.len(), kept: piece.len() }),
            Body::Chunked(chunked) => chunked.advance(piece),
            Body::Length(left) => {
                let taken = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Body::Empty;
                }
                Ok(Advance { consumed: taken, kept: taken })
            }
        }
    }

    /// The peer closed. Whether the message is complete by that.
    pub fn complete_at_close(&self) -> bool {
        self.is_done() || matches!(self, Body::UntilClose)
    }
}
