//! Field blocks of ours (RFC 7541 section 6.2.2): names by their numbers in the static table where they have one, all else as it is.

use super::push_integer;

/// Appends `:status`.
pub fn push_status(status: u16, out: &mut Vec<u8>) {
    let number = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            // The number of the name, and three digits.
            out.extend_from_slice(&[8, 3]);
            out.extend([status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8));
            return;
        }
    };
    out.push(0x80 | number);
}

/// Appends a field; the name may have capitals.
pub fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    /// Longer names have no number.
    const NUMBERED_MAX: usize = 32;
    let mut lower = [0; NUMBERED_MAX];
    if let Some(lower) = lower.get_mut(..name.len()) {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match number(lower) {
            0 => {
                out.extend_from_slice(&[0, name.len() as u8]);
                out.extend_from_slice(lower);
            }
            number => push_integer(0, number, 4, out),
        }
    } else {
        out.push(0);
        push_integer(0, name.len(), 7, out);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }
    push_integer(0, value.len(), 7, out);
    out.extend_from_slice(value);
}

/// Appends what says that our table is as small as can be, which it always is (RFC 7541 section 4.2).
pub fn push_no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// The number of a name in the static table; 0: it has none. Those that answers have.
fn number(name: &[u8]) -> usize {
    match name {
        b"age" => 21,
        b"via" => 60,
        b"date" => 33,
        b"etag" => 34,
        b"link" => 45,
        b"vary" => 59,
        b"allow" => 22,
        b"server" => 54,
        b"expires" => 36,
        b"refresh" => 52,
        b"location" => 46,
        b"set-cookie" => 55,
        b"retry-after" => 53,
        b"content-type" => 31,
        b"accept-ranges" => 18,
        b"cache-control" => 24,
        b"content-range" => 30,
        b"last-modified" => 44,
        b"content-length" => 28,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-location" => 29,
        b"www-authenticate" => 61,
        b"proxy-authenticate" => 48,
        b"content-disposition" => 25,
        b"strict-transport-security" => 56,
        b"access-control-allow-origin" => 20,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::hpack::decode::Decoder;
    use crate::h2::hpack::table::Table;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        push_no_table(&mut out);
        for status in [100, 200, 204, 206, 302, 304, 400, 404, 500, 599] {
            push_status(status, &mut out);
        }
        let long = "x-".to_owned() + &"y".repeat(200);
        for (name, value) in [("Content-Type", "text/plain"), ("ETag", "\"a\""), ("X-Y", ""), (&long, &"z".repeat(300)), ("age", "1")] {
            push_field(name.as_bytes(), value.as_bytes(), &mut out);
        }
        let mut text = Vec::new();
        Decoder::default().decode(&out, |field| text.extend_from_slice(field.line)).expect("a block");
        let statuses: String = [100, 200, 204, 206, 302, 304, 400, 404, 500, 599].map(|status| format!(":status: {status}\r\n")).concat();
        let fields = format!("content-type: text/plain\r\netag: \"a\"\r\nx-y: \r\n{long}: {}\r\nage: 1\r\n", "z".repeat(300));
        assert_eq!(String::from_utf8(text).expect("ASCII"), statuses + &fields);
    }

    #[test]
    fn numbers_are_those_of_the_table() {
        let table = Table::default();
        let mut known = 0;
        for index in 1..=61 {
            let field = table.field(index).expect("a field of the static table");
            if number(field.name()) > 0 {
                assert_eq!(number(field.name()), index);
                known += 1;
            }
        }
        assert_eq!(known, 27);
    }
}
