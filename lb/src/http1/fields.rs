//! What requests and responses share: reading the fields that frame a message, and copying the others in runs.

use super::lines::{HEADERS_CEILING, HeadError};

/// Which fields of a head are not passed on.
#[derive(Default)]
pub(super) struct Dropped([u64; HEADERS_CEILING.div_ceil(64)]);

impl Dropped {
    pub(super) fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }
}

/// Where `part` lies in `whole`, of which it is a slice.
pub(super) fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Appends the fields that are not dropped, as they came: neighbours are copied in one piece. The head's lines were checked already.
pub(super) fn copy_fields(buf: &[u8], head_len: usize, headers: &[httparse::Header<'_>], dropped: &Dropped, out: &mut Vec<u8>) {
    let mut run: Option<usize> = None;
    for (index, header) in headers.iter().enumerate() {
        let start = offset(buf, header.name.as_bytes());
        if dropped.contains(index) {
            if let Some(from) = run.take() {
                out.extend_from_slice(&buf[from..start]);
            }
        } else {
            run.get_or_insert(start);
        }
    }
    if let Some(from) = run {
        out.extend_from_slice(&buf[from..head_len - 2]);
    }
}

/// The fields that say how long a message is.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lengths {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
}

impl Lengths {
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.content_length.is_some() {
            return Err(HeadError::ContentLength);
        }
        self.content_length = Some(decimal(value).ok_or(HeadError::ContentLength)?);
        Ok(())
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// Checks what only both together can show.
    pub(super) fn check(self, minor: u8) -> Result<(), HeadError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::BothLengths),
            (true, None) if minor == 0 => Err(HeadError::TransferEncoding),
            _ => Ok(()),
        }
    }
}

/// Digits only, no sign, no space, and a number that fits a signed integer too: the next reader may use one.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let number = text.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))?;
    (number <= i64::MAX as u64).then_some(number)
}

/// What `Connection` says.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// It names fields besides the well-known ones, which must not be passed on either.
    pub(super) nominates: bool,
}

impl Connection {
    pub(super) fn read(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
    }

    /// Whether the connection stays open after the message.
    pub(super) fn persists(self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.keep_alive)
    }
}

/// Elements of all `Connection` fields together where they name others. Each costs a walk over the head; no known use comes near.
const OPTIONS_MAX: usize = 32;

/// Fields that frame, route or pace a message. Who names one of them wants one parser to see it and the next not to.
const NOT_HOP_BY_HOP: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"expect"];

/// Drops the fields that `Connection` names (RFC 9110 section 7.6.1).
pub(super) fn drop_nominated(headers: &[httparse::Header<'_>], dropped: &mut Dropped) -> Result<(), HeadError> {
    let connections = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    for (count, token) in connections.flat_map(|header| tokens(header.value)).enumerate() {
        if count >= OPTIONS_MAX {
            return Err(HeadError::TooLarge);
        }
        if NOT_HOP_BY_HOP.iter().any(|name| token.eq_ignore_ascii_case(name)) {
            return Err(HeadError::Syntax);
        }
        for (index, header) in headers.iter().enumerate() {
            if header.name.as_bytes().eq_ignore_ascii_case(token) {
                dropped.set(index);
            }
        }
    }
    Ok(())
}

/// Whether an endpoint may take one name for the other: many turn both `-` and `_` into `_` (RFC 3875 section 4.1.18).
pub(super) fn alike(name: &[u8], known: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.iter().zip(known.as_bytes()).all(|(a, b)| fold(*a) == fold(*b))
}

/// The elements of a comma-separated list, trimmed, empty ones left out.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

pub(super) fn map_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::Version => HeadError::Version,
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        _ => HeadError::Syntax,
    }
}

/// Appends `name: value` and a line end.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Via` (RFC 9110 section 7.6.3).
pub(super) fn push_via(out: &mut Vec<u8>, node: &str) {
    out.extend_from_slice(b"Via: 1.1 ");
    out.extend_from_slice(node.as_bytes());
    out.extend_from_slice(b"\r\n");
}
