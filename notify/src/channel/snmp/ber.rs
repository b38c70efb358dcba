//! The part of ASN.1's basic encoding (X.690) that SNMP uses (RFC 3417 section 8): definite lengths, low tags, numbers of up to 32 bits. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

/// Tags.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const TIME_TICKS: u8 = 0x43;
const GAUGE: u8 = 0x42;

/// A tag, a length and what they hold.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    parts.iter().for_each(|part| out.extend(*part));
    out
}

pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTETS, &[bytes])
}

pub(super) fn integer(value: i32) -> Vec<u8> {
    number(INTEGER, i64::from(value))
}

pub(super) fn gauge(value: u32) -> Vec<u8> {
    number(GAUGE, i64::from(value))
}

pub(super) fn time_ticks(value: u32) -> Vec<u8> {
    number(TIME_TICKS, i64::from(value))
}

/// The fewest bytes that keep the sign.
fn number(tag: u8, value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let is_spare = |at: usize| (bytes[at] == 0 && bytes[at + 1] < 0x80) || (bytes[at] == 0xff && bytes[at + 1] >= 0x80);
    let from = (0..7).take_while(|at| is_spare(*at)).count();
    tlv(tag, &[&bytes[from..]])
}

/// An object identifier; its first two arcs share a byte.
pub(super) fn oid(arcs: &[u32]) -> Vec<u8> {
    let [first, second, rest @ ..] = arcs else { return tlv(OID, &[&[0]]) };
    let mut content = Vec::new();
    for arc in [first * 40 + second].iter().chain(rest) {
        let groups = (32 - arc.leading_zeros()).div_ceil(7).max(1);
        content.extend((0..groups).rev().map(|group| (arc >> (7 * group) & 0x7f) as u8 | if group > 0 { 0x80 } else { 0 }));
    }
    tlv(OID, &[&content])
}

/// Reads what [`tlv`] writes. Anything else ends the reading with `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value, with its tag.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            // Without an end, or longer than any datagram.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The next value, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// What is inside the next value, which has this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(Reader)
    }

    /// A number of up to 32 bits with a sign, or 31 without.
    pub(super) fn integer(&mut self) -> Option<i32> {
        let bytes = self.take(INTEGER).filter(|bytes| (1..=4).contains(&bytes.len()))?;
        let sign = if bytes[0] >= 0x80 { -1 } else { 0 };
        Some(bytes.iter().fold(sign, |value, byte| value << 8 | i32::from(*byte)))
    }

    /// An object identifier, of at most 128 arcs (RFC 3416).
    pub(super) fn oid(&mut self) -> Option<Vec<u32>> {
        let content = self.take(OID)?;
        let mut arcs = Vec::new();
        let mut arc = 0_u32;
        for byte in content {
            if arc >> 25 != 0 || arcs.len() >= 128 {
                return None;
            }
            arc = arc << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                if arcs.is_empty() {
                    let first = (arc / 40).min(2);
                    arcs.extend([first, arc - first * 40]);
                } else {
                    arcs.push(arc);
                }
                arc = 0;
            }
        }
        Some(arcs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_fewest_bytes() {
        for (value, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 255]),
            (-129, &[2, 2, 255, 127]),
            (i32::MAX, &[2, 4, 127, 255, 255, 255]),
        ] {
            assert_eq!(integer(value), bytes);
            assert_eq!(Reader(bytes).integer(), Some(value));
        }
        assert_eq!(gauge(u32::MAX), [0x42, 5, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn names_and_lengths() {
        assert_eq!(oid(&[1, 3, 6, 1, 4, 1, 32473, 1]), [6, 9, 0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1]);
        assert_eq!(Reader(&oid(&[1, 3, 6, 1, 4, 1, 32473, 0])).oid(), Some(vec![1, 3, 6, 1, 4, 1, 32473, 0]));
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let bytes = octets(&vec![7; length]);
            assert_eq!(Reader(&bytes).take(OCTETS).map(<[u8]>::len), Some(length));
            assert!(Reader(&bytes[..bytes.len() - 1]).any().is_none());
        }
        for wrong in
            [&[2, 5, 0, 0, 0, 0, 1][..], &[2, 0], &[4, 0x80, 1], &[4, 0x85, 0, 0, 0, 0, 1, 1], &[6, 6, 0x2b, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert!(Reader(wrong).integer().is_none() && Reader(wrong).oid().is_none(), "{wrong:?}");
        }
    }
}
