//! HPACK (RFC 7541): field blocks of HTTP/2.
//!
//! Fields are kept and handed over as lines of HTTP/1.1 (`name: value`, CRLF), with what they mean found out once: a field that the client
//! sends again by its number costs one copy.
//!
//! - [`decode`]: a client's blocks. [`table`]: what their numbers stand for. `huffman`: their strings.
//! - [`encode`]: ours, without a table of our own and without Huffman: cheapest to write, and to read.

pub mod decode;
pub mod encode;
mod huffman;
pub mod table;

/// A field block that cannot be read: what both sides have in their tables is no longer known to be the same (RFC 9113 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a field block cannot be read")]
pub struct Unreadable;

/// Reads an integer whose first byte has `prefix` bits of it (RFC 7541 section 5.1). Returns it and how many bytes it takes.
///
/// # Errors
/// It is cut off, or larger than anything that is sent for a reason.
pub fn integer(bytes: &[u8], prefix: u32) -> Result<(usize, usize), Unreadable> {
    /// Four further bytes are 28 bits; nothing that fits a frame needs more.
    const MORE_MAX: usize = 4;
    let all = (1usize << prefix) - 1;
    let mut number = usize::from(*bytes.first().ok_or(Unreadable)?) & all;
    if number < all {
        return Ok((number, 1));
    }
    for (index, byte) in bytes[1..].iter().take(MORE_MAX).enumerate() {
        number += usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((number, index + 2));
        }
    }
    Err(Unreadable)
}

/// Appends an integer; `first` has the bits in front of the prefix.
pub fn push_integer(first: u8, number: usize, prefix: u32, out: &mut Vec<u8>) {
    let all = (1usize << prefix) - 1;
    if number < all {
        out.push(first | number as u8);
        return;
    }
    out.push(first | all as u8);
    let mut rest = number - all;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendix C.1.
    #[test]
    fn integers() {
        for (bytes, prefix, number) in [(&[0b1010][..], 5, 10), (&[0b11111, 0b1001_1010, 0b1010], 5, 1337), (&[42], 8, 42)] {
            assert_eq!(integer(bytes, prefix), Ok((number, bytes.len())));
            let mut out = Vec::new();
            push_integer(0, number, prefix, &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(integer(&[0xff, 0x80, 0x80, 0x80, 0x00], 7), Ok((127, 5)));
        for bytes in [&[][..], &[0x7f], &[0x7f, 0x80], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01]] {
            assert_eq!(integer(bytes, 7), Err(Unreadable), "{bytes:x?}");
        }
    }
}
