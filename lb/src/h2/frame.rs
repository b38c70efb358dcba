//! Frames (RFC 9113 sections 4 and 6): their heads, and those that we write.

/// Bytes of a frame's head.
pub const HEAD: usize = 9;
/// The longest payload that is taken, and sent: what every peer takes (RFC 9113 section 4.2).
pub const PAYLOAD_MAX: usize = 16 * 1024;
/// The largest window (RFC 9113 section 6.9.1).
pub const WINDOW_MAX: i64 = 0x7fff_ffff;
/// The largest number of a stream.
pub const STREAM_MAX: u32 = 0x7fff_ffff;

/// Types.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 9113 section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags.
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of RFC 9113 section 6")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub mod setting {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// A frame's head.
///
/// ```text
///   length (24) | type (8) | flags (8) | reserved (1) stream (31)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Bytes of the payload.
    pub len: usize,
    /// One of [`kind`], or one to be ignored.
    pub kind: u8,
    /// What they mean depends on the kind.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Head {
    /// Of a frame that begins so.
    pub fn read(bytes: &[u8; HEAD]) -> Head {
        Head {
            len: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize,
            kind: bytes[3],
            flags: bytes[4],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & STREAM_MAX,
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

fn head(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let ([_, a, b, c], [d, e, f, g]) = ((len as u32).to_be_bytes(), stream.to_be_bytes());
    [a, b, c, kind, flags, d, e, f, g]
}

/// Appends a frame's head.
pub fn push_head(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&head(len, kind, flags, stream));
}

/// Appends a whole frame.
pub fn push(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    push_head(payload.len(), kind, flags, stream, out);
    out.extend_from_slice(payload);
}

/// Appends the frames of a field block, which lies behind room for one head at `at`.
pub fn finish_block(at: usize, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let len = out.len() - at - HEAD;
    if len <= PAYLOAD_MAX {
        out[at..at + HEAD].copy_from_slice(&head(len, kind::HEADERS, flags | flag::END_HEADERS, stream));
        return;
    }
    // Rare: an answer with more fields than a frame takes.
    let block = out.split_off(at + HEAD);
    out.truncate(at);
    let count = block.len().div_ceil(PAYLOAD_MAX);
    for (index, piece) in block.chunks(PAYLOAD_MAX).enumerate() {
        let (kind, first) = if index == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
        let last = if index + 1 == count { flag::END_HEADERS } else { 0 };
        push(kind, first | last, stream, piece, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_written_as_they_are_read() {
        let head = Head { len: 0x12345, kind: kind::PING, flags: 0x81, stream: 0x7654_3210 };
        let mut out = Vec::new();
        push_head(head.len, head.kind, head.flags, head.stream, &mut out);
        assert_eq!(out, [1, 0x23, 0x45, 6, 0x81, 0x76, 0x54, 0x32, 0x10]);
        out[5] |= 0x80;
        assert_eq!(Head::read(out[..].try_into().expect("nine")), head, "the reserved bit is nobody's");
    }

    #[test]
    fn a_long_block_goes_in_several_frames() {
        let mut out = vec![7];
        out.resize(1 + HEAD + 2 * PAYLOAD_MAX + 5, b'x');
        finish_block(1, flag::END_STREAM, 3, &mut out);
        let mut rest = &out[1..];
        let mut seen = Vec::new();
        while let Some((head, more)) = rest.split_first_chunk() {
            let head = Head::read(head);
            seen.push((head.len, head.kind, head.flags, head.stream));
            rest = &more[head.len..];
        }
        assert_eq!(seen, [(PAYLOAD_MAX, 1, 1, 3), (PAYLOAD_MAX, 9, 0, 3), (5, 9, 4, 3)]);
    }
}
