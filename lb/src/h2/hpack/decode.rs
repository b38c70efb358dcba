//! Field blocks of a client (RFC 7541 section 6).

use super::table::{Field, Kind, Table};
use super::{Unreadable, huffman, integer};

/// Reads the field blocks of a connection, one after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// A field that is in no table, as a line.
    line: Vec<u8>,
    /// Bytes of lines that a block may come to; `None`: any. A byte can stand for a field as long as the table.
    most: Option<usize>,
    /// Those of the block that was read last.
    spent: usize,
}

impl Decoder {
    /// One whose blocks may come to so many bytes.
    pub fn bounded(most: usize) -> Decoder {
        Decoder { most: Some(most), ..Decoder::default() }
    }

    /// Whether the last block was given up because it came to too many bytes.
    pub fn is_overdrawn(&self) -> bool {
        self.most.is_some_and(|most| self.spent > most)
    }

    /// Reads a whole block, field by field.
    ///
    /// # Errors
    /// It cannot be read, or came to too many bytes; then no later one can be read either.
    pub fn decode(&mut self, block: &[u8], mut take: impl FnMut(Field<'_>)) -> Result<(), Unreadable> {
        let mut rest = block;
        let mut is_first = true;
        self.spent = 0;
        while let Some(first) = rest.first() {
            if self.is_overdrawn() {
                return Err(Unreadable);
            }
            if first & 0x80 != 0 {
                let (number, len) = integer(rest, 7)?;
                rest = &rest[len..];
                let field = self.table.field(number).ok_or(Unreadable)?;
                self.spent += field.line.len();
                take(field);
            } else if first & 0xe0 == 0x20 {
                // Only in front (RFC 7541 section 4.2).
                let (most, len) = integer(rest, 5)?;
                rest = &rest[len..];
                if !is_first || !self.table.resize(most) {
                    return Err(Unreadable);
                }
                continue;
            } else {
                let is_kept = first & 0x40 != 0;
                rest = self.literal(rest, if is_kept { 6 } else { 4 }, &mut take, is_kept)?;
            }
            is_first = false;
        }
        Ok(())
    }

    /// A field whose value, and perhaps its name, is written out.
    fn literal<'a>(
        &mut self,
        rest: &'a [u8],
        prefix: u32,
        take: &mut impl FnMut(Field<'_>),
        is_kept: bool,
    ) -> Result<&'a [u8], Unreadable> {
        let (number, len) = integer(rest, prefix)?;
        let mut rest = &rest[len..];
        self.line.clear();
        if number == 0 {
            rest = string(rest, &mut self.line)?;
        } else {
            self.line.extend_from_slice(self.table.field(number).ok_or(Unreadable)?.name());
        }
        let name_len = self.line.len();
        self.line.extend_from_slice(b": ");
        rest = string(rest, &mut self.line)?;
        let kind = Kind::of(&self.line[..name_len], &self.line[name_len + 2..]);
        self.line.extend_from_slice(b"\r\n");
        self.spent += self.line.len();
        let field = Field { kind, line: &self.line, name_len };
        take(field);
        if is_kept {
            self.table.add(field);
        }
        Ok(rest)
    }

    /// Gives back what only a block that is being read needs.
    pub fn rest(&mut self) {
        self.line = Vec::new();
    }
}

/// Reads a string (RFC 7541 section 5.2); returns what follows it.
fn string<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unreadable> {
    let (len, from) = integer(bytes, 7)?;
    let (text, rest) = bytes[from..].split_at_checked(len).ok_or(Unreadable)?;
    if bytes[0] & 0x80 == 0 {
        out.extend_from_slice(text);
    } else {
        huffman::decode(text, out)?;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal")).collect()
    }

    fn read(decoder: &mut Decoder, block: &str) -> Result<String, Unreadable> {
        let mut text = Vec::new();
        decoder.decode(&bytes(block), |field| text.extend_from_slice(field.line))?;
        Ok(String::from_utf8(text).expect("ASCII").replace("\r\n", "\n"))
    }

    /// Blocks of one connection, what they say, and the size of the table then.
    fn check(most: usize, blocks: &[(&str, &str, usize)]) {
        let mut decoder = Decoder::default();
        assert!(decoder.table.resize(most));
        for (block, expected, size) in blocks {
            assert_eq!(read(&mut decoder, block).as_deref(), Ok(*expected), "{block}");
            assert_eq!(decoder.table.size(), *size, "{block}");
        }
    }

    #[test]
    fn a_block_that_comes_to_too_much_is_given_up() {
        let mut decoder = Decoder::bounded(10_000);
        let mut long = vec![0x40, 0x7f, 0xa1, 0x1e];
        long.resize(4 + 4000, b'a');
        long.push(0);
        let mut lines = 0;
        assert_eq!(decoder.decode(&long, |_| lines += 1), Ok(()));
        assert_eq!((lines, decoder.is_overdrawn()), (1, false));
        for again in [&[0xbe][..], &[0x0f, 0x2f, 0x00]] {
            let mut lines = 0;
            assert_eq!(decoder.decode(&again.repeat(2), |_| lines += 1), Ok(()), "{again:x?}");
            assert_eq!(decoder.decode(&again.repeat(5000), |_| lines += 1), Err(Unreadable), "{again:x?}");
            assert_eq!((lines, decoder.is_overdrawn()), (5, true), "{again:x?}");
        }
    }

    /// RFC 7541 appendix C.2.
    #[test]
    fn single_fields() {
        check(4096, &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header\n", 55)]);
        check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0)]);
        check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 0)]);
        check(4096, &[("82", ":method: GET\n", 0)]);
    }

    const FIRST: &str = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
    const SECOND: &str = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n";
    const THIRD: &str = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n";

    /// RFC 7541 appendix C.3 and C.4.
    #[test]
    fn requests() {
        check(
            4096,
            &[
                ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
                ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
                ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
            ],
        );
        check(
            4096,
            &[
                ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
                ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
                ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
            ],
        );
    }

    /// RFC 7541 appendix C.5 and C.6: entries go for new ones.
    #[test]
    fn responses() {
        let date =
            |second: u8| format!("cache-control: private\ndate: Mon, 21 Oct 2013 20:13:{second} GMT\nlocation: https://www.example.com\n");
        let first = format!(":status: 302\n{}", date(21));
        let second = format!(":status: 307\n{}", date(21));
        let third = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
                     content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
        check(
            256,
            &[
                (
                    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
                     1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                    &first,
                    222,
                ),
                ("4803 3330 37c1 c0bf", &second, 222),
                (
                    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
                     4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
                     7369 6f6e 3d31",
                    third,
                    215,
                ),
            ],
        );
        check(
            256,
            &[
                (
                    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b \
                     97c8 e9ae 82ae 43d3",
                    &first,
                    222,
                ),
                ("4883 640e ffc1 c0bf", &second, 222),
                (
                    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
                     cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                    third,
                    215,
                ),
            ],
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        // Number 0; beyond the tables; a size behind a field; one too large; cut in a length, in a string.
        for block in ["80", "be", "7e 01 78", "82 20", "3f e2 1f", "00 7f", "40", "00 05 61", "04", "00 01 78 05 61"] {
            assert_eq!(read(&mut Decoder::default(), block), Err(Unreadable), "{block}");
        }
        assert_eq!(read(&mut Decoder::default(), "20 3f e1 1f 82").as_deref(), Ok(":method: GET\n"));
    }
}
