//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), for reading: what we write needs none.
//!
//! The code is canonical: codes of one length follow each other in the order of their bytes, and go before all longer ones. So the lengths are
//! all there is to know. Short codes, which ordinary text is made of, are found by the next eight bits; the others by their length.

use super::Unreadable;

/// Bits of each byte's code, and of the code that means the end of a string, which must not be in one.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10,
    10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6,
    7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23,
    21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27,
    26, 30,
];
const EOS: u16 = 256;
const LENGTH_MAX: usize = 30;
/// Codes of up to so many bits are found in one step.
const SHORT: u32 = 8;

struct Code {
    /// By the next eight bits: the byte, and the bits of its code; 0: it is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first code, how many there are, and where the first is in `sorted`.
    first: [u32; LENGTH_MAX + 1],
    count: [u16; LENGTH_MAX + 1],
    place: [u16; LENGTH_MAX + 1],
    /// By their codes.
    sorted: [u16; 257],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            short: [(0, 0); 1 << SHORT],
            first: [0; LENGTH_MAX + 1],
            count: [0; LENGTH_MAX + 1],
            place: [0; LENGTH_MAX + 1],
            sorted: [0; 257],
        };
        let (mut next, mut length, mut found) = (0u32, 1, 0);
        while length <= LENGTH_MAX {
            next <<= 1;
            code.first[length] = next;
            code.place[length] = found as u16;
            let mut byte = 0;
            while byte < LENGTHS.len() {
                if LENGTHS[byte] as usize == length {
                    code.sorted[found] = byte as u16;
                    code.count[length] += 1;
                    found += 1;
                    if length <= SHORT as usize {
                        let free = SHORT as usize - length;
                        let mut tail = 0;
                        while tail < 1 << free {
                            code.short[((next as usize) << free) + tail] = (byte as u8, length as u8);
                            tail += 1;
                        }
                    }
                    next += 1;
                }
                byte += 1;
            }
            length += 1;
        }
        code
    }

    /// The byte of a long code at the top of these bits, and its length.
    fn long(&self, bits: u64) -> (u16, u32) {
        for length in SHORT as usize + 1..=LENGTH_MAX {
            let past = ((bits >> (64 - length)) as u32).wrapping_sub(self.first[length]);
            if past < u32::from(self.count[length]) {
                return (self.sorted[usize::from(self.place[length]) + past as usize], length as u32);
            }
        }
        // The code is complete: 30 bits are always one.
        (EOS, LENGTH_MAX as u32)
    }
}

/// Appends what the text says.
///
/// # Errors
/// It ends within a code, with padding that is not the beginning of the end's code, or holds that one (RFC 7541 section 5.2).
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    // The next bits, from the top.
    let mut bits = 0u64;
    let mut have = 0;
    let mut rest = text.iter();
    loop {
        while have <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let (byte, length) = match CODE.short[(bits >> 56) as usize] {
            (_, 0) => CODE.long(bits),
            (byte, length) => (u16::from(byte), u32::from(length)),
        };
        if length > have {
            // All bits that are left, and they are fewer than a byte, must be ones.
            return if have < 8 && bits.leading_ones() >= have { Ok(()) } else { Err(Unreadable) };
        }
        if byte == EOS {
            return Err(Unreadable);
        }
        out.push(byte as u8);
        bits <<= length;
        have -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<String, Unreadable> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| String::from_utf8_lossy(&out).into_owned())
    }

    /// The code of each byte by the tables, bit by bit.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let place = CODE.sorted.iter().position(|sorted| *sorted == u16::from(*byte)).expect("each byte has a code");
            let code = CODE.first[length] + place as u32 - u32::from(CODE.place[length]);
            bits += &format!("{code:0length$b}");
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).expect("digits"), 2).expect("bits")).collect()
    }

    #[test]
    fn the_code_is_that_of_the_appendix() {
        // A sum of 1: there is no bit sequence without a meaning.
        assert_eq!(LENGTHS.iter().map(|length| 1u64 << (32 - length)).sum::<u64>(), 1 << 32);
        for (byte, code, length) in
            [(0, 0x1ff8, 13), (b':', 0x5c, 7), (b'a', 3, 5), (127, 0x0fff_fffc, 28), (208, 0x7fff2, 19), (255, 0x03ff_ffee, 26)]
        {
            let length_of = usize::from(LENGTHS[usize::from(byte)]);
            let place = CODE.sorted.iter().position(|sorted| *sorted == u16::from(byte)).expect("each byte has a code");
            assert_eq!((CODE.first[length_of] + place as u32 - u32::from(CODE.place[length_of]), length_of), (code, length), "{byte}");
        }
    }

    #[test]
    fn strings_are_read() {
        // RFC 7541 appendix C.4 and C.6.
        for (text, expected) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(decoded(text).as_deref(), Ok(expected));
        }
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut out = Vec::new();
        assert_eq!(decode(&encode(&all), &mut out), Ok(()));
        assert_eq!(out, all);
    }

    #[test]
    fn wrong_ends_are_refused() {
        // Eight bits of padding, padding with a zero, the end's code, half a long code.
        for text in [&[0x1f, 0xff][..], &[0x18], &[0xff, 0xff, 0xff, 0xff], &[0xff, 0xc0], &[0xff]] {
            assert_eq!(decoded(text), Err(Unreadable), "{text:x?}");
        }
    }
}
