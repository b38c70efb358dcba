//! One line per request or session: written into memory by the thread that served it, without allocating beyond the line.

use std::io::Write;
use std::net::SocketAddr;

use crate::cause::Cause;

/// What is known about an exchange when it ends. Times in microseconds from `started`; `None`: that phase was not reached.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Wall clock at the first byte of the request, microseconds since the epoch.
    pub started_us: u64,
    /// Listener.
    pub listener: &'a str,
    /// Client.
    pub client: SocketAddr,
    /// Pool; empty when none was chosen.
    pub pool: &'a str,
    /// Endpoint; `None` when none was chosen.
    pub endpoint: Option<SocketAddr>,
    /// Method; empty for TCP.
    pub method: &'a [u8],
    /// Host; may be empty.
    pub host: &'a [u8],
    /// Target as sent, bytes from outside.
    pub target: &'a [u8],
    /// What the client spoke.
    pub version: Version,
    /// Status sent to the client; 0 when none was.
    pub status: u16,
    /// Request id; may be empty.
    pub request_id: &'a [u8],
    /// `User-Agent`; may be empty.
    pub user_agent: &'a [u8],
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// Waiting for an endpoint.
    pub queue_us: Option<u32>,
    /// Connecting; 0 when a pooled connection was used.
    pub connect_us: Option<u32>,
    /// From the sent request to the response head.
    pub first_byte_us: Option<u32>,
    /// Everything.
    pub total_us: u32,
    /// Attempts made.
    pub attempts: u32,
    /// Whether the last attempt used a pooled connection.
    pub reused: bool,
    /// Why it ended.
    pub cause: Cause,
}

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// The most of a request target that is logged, in bytes.
const TARGET_BYTES_MAX: usize = 4096;
/// The most of any other text, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Appends the record as one JSON object and a line break.
///
/// Text from outside is escaped so that it can neither end the line nor the string: control characters (C1 and DEL too) as `\u00XX`, and
/// each byte that is not part of valid UTF-8 as the Latin-1 character of the same number, `\u00XX`, which keeps it readable. What is longer
/// than its bound is cut and ends with `…`. Phases that were not reached are `null`.
pub fn write_json(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    write_time(record.started_us, out);
    out.extend_from_slice(b"\",\"listener\":");
    write_string(record.listener.as_bytes(), TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"client\":\"");
    write_address(record.client, out);
    out.extend_from_slice(b"\",\"pool\":");
    write_string(record.pool.as_bytes(), TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"endpoint\":");
    match record.endpoint {
        Some(endpoint) => {
            out.push(b'"');
            write_address(endpoint, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"method\":");
    write_string(record.method, TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"host\":");
    write_string(record.host, TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"path\":");
    write_string(record.target, TARGET_BYTES_MAX, out);
    out.extend_from_slice(b",\"http\":");
    out.extend_from_slice(match (record.method.is_empty(), record.version) {
        (true, _) => &b"null"[..],
        (false, Version::Http10) => b"\"1.0\"",
        (false, Version::Http11) => b"\"1.1\"",
        (false, Version::Http2) => b"\"2\"",
    });
    out.extend_from_slice(b",\"status\":");
    write_number(record.status, out);
    out.extend_from_slice(b",\"request_id\":");
    write_string(record.request_id, TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"user_agent\":");
    write_string(record.user_agent, TEXT_BYTES_MAX, out);
    out.extend_from_slice(b",\"request_bytes\":");
    write_number(record.request_bytes, out);
    out.extend_from_slice(b",\"response_bytes\":");
    write_number(record.response_bytes, out);
    for (key, us) in [
        (&b",\"queue_ms\":"[..], record.queue_us),
        (b",\"connect_ms\":", record.connect_us),
        (b",\"first_byte_ms\":", record.first_byte_us),
        (b",\"total_ms\":", Some(record.total_us)),
    ] {
        out.extend_from_slice(key);
        match us {
            Some(us) => write_ms(us, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b",\"attempts\":");
    write_number(record.attempts, out);
    out.extend_from_slice(if record.reused { b",\"reused\":true,\"cause\":\"" } else { b",\"reused\":false,\"cause\":\"" });
    out.extend_from_slice(record.cause.word().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Appends the record as one line for people; what is not known is `-`:
///
/// ```text
/// TIME LISTENER CLIENT "METHOD HOST TARGET HTTP/1.1" STATUS REQUEST_BYTES RESPONSE_BYTES POOL ENDPOINT
///      queue=MS connect=MS first_byte=MS total=MS attempts=N reused=yes|no CAUSE "USER AGENT" "REQUEST ID"
/// ```
///
/// Text from outside is escaped and bounded as in [`write_json`], so that it cannot end the line or its quotes.
pub fn write_text(record: &Record<'_>, out: &mut Vec<u8>) {
    write_time(record.started_us, out);
    out.push(b' ');
    write_escaped(record.listener.as_bytes(), TEXT_BYTES_MAX, out);
    out.push(b' ');
    write_address(record.client, out);
    out.extend_from_slice(b" \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        write_escaped(record.method, TEXT_BYTES_MAX, out);
        out.push(b' ');
        write_or_dash(record.host, out);
        out.push(b' ');
        write_escaped(record.target, TARGET_BYTES_MAX, out);
        out.extend_from_slice(match record.version {
            Version::Http10 => b" HTTP/1.0",
            Version::Http11 => b" HTTP/1.1",
            Version::Http2 => b" HTTP/2",
        });
    }
    out.extend_from_slice(b"\" ");
    write_number(record.status, out);
    out.push(b' ');
    write_number(record.request_bytes, out);
    out.push(b' ');
    write_number(record.response_bytes, out);
    out.push(b' ');
    write_or_dash(record.pool.as_bytes(), out);
    out.push(b' ');
    match record.endpoint {
        Some(endpoint) => write_address(endpoint, out),
        None => out.push(b'-'),
    }
    for (key, us) in [
        (&b" queue="[..], record.queue_us),
        (b" connect=", record.connect_us),
        (b" first_byte=", record.first_byte_us),
        (b" total=", Some(record.total_us)),
    ] {
        out.extend_from_slice(key);
        match us {
            Some(us) => write_ms(us, out),
            None => out.push(b'-'),
        }
    }
    out.extend_from_slice(b" attempts=");
    write_number(record.attempts, out);
    out.extend_from_slice(if record.reused { b" reused=yes " } else { b" reused=no " });
    out.extend_from_slice(record.cause.word().as_bytes());
    out.extend_from_slice(b" \"");
    write_or_dash(record.user_agent, out);
    out.extend_from_slice(b"\" \"");
    write_or_dash(record.request_id, out);
    out.extend_from_slice(b"\"\n");
}

fn write_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Microseconds as milliseconds with three decimals.
fn write_ms(us: u32, out: &mut Vec<u8>) {
    write_number(us / 1000, out);
    out.push(b'.');
    write_digits(us % 1000, 3, out);
}

/// Exactly `count` digits, with leading zeros.
fn write_digits(number: u32, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    let mut rest = number;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// RFC 3339, UTC, milliseconds.
fn write_time(us: u64, out: &mut Vec<u8>) {
    let seconds = us / 1_000_000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = (seconds % 86_400) as u32;
    write_digits(year, 4, out);
    out.push(b'-');
    write_digits(month, 2, out);
    out.push(b'-');
    write_digits(day, 2, out);
    out.push(b'T');
    write_digits(of_day / 3600, 2, out);
    out.push(b':');
    write_digits(of_day / 60 % 60, 2, out);
    out.push(b':');
    write_digits(of_day % 60, 2, out);
    out.push(b'.');
    write_digits((us % 1_000_000 / 1000) as u32, 3, out);
    out.push(b'Z');
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is the last
/// of its year, in eras of 400 years, which all have the same number of days.
fn civil_from_days(days: u64) -> (u32, u32, u32) {
    const DAYS_PER_ERA: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(v4) => {
            for (index, octet) in v4.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                write_number(octet, out);
            }
            out.push(b':');
            write_number(v4.port(), out);
        }
        // Rarer, and its shortest form is not worth doing twice.
        SocketAddr::V6(v6) => write!(out, "{v6}").expect("writing to memory does not fail"),
    }
}

fn write_or_dash(text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() { out.push(b'-') } else { write_escaped(text, TEXT_BYTES_MAX, out) }
}

fn write_string(text: &[u8], max: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped(text, max, out);
    out.push(b'"');
}

/// Bytes that stand for themselves in a JSON string: printable ASCII without quote and backslash.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

fn write_escaped(text: &[u8], max: usize, out: &mut Vec<u8>) {
    let bounded = cut(text, max);
    let mut rest = bounded;
    loop {
        let plain = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some(&first) = rest.first() else { break };
        let used = match first {
            b'"' | b'\\' => {
                out.extend_from_slice(&[b'\\', first]);
                1
            }
            0x80.. => match character(rest) {
                // C1 controls move cursors on some terminals.
                Some((character, length)) if character >= '\u{a0}' => {
                    out.extend_from_slice(&rest[..length]);
                    length
                }
                Some((character, length)) => {
                    write_unicode_escape(character as u8, out);
                    length
                }
                None => {
                    write_unicode_escape(first, out);
                    1
                }
            },
            _ => {
                write_unicode_escape(first, out);
                1
            }
        };
        rest = &rest[used..];
    }
    if bounded.len() < text.len() {
        out.extend_from_slice("…".as_bytes());
    }
}

fn write_unicode_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// The valid UTF-8 character that the text begins with, and its length.
fn character(text: &[u8]) -> Option<(char, usize)> {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let character = std::str::from_utf8(text.get(..length)?).ok()?.chars().next()?;
    Some((character, length))
}

/// At most `max` bytes, and not in the middle of a character.
fn cut(text: &[u8], max: usize) -> &[u8] {
    if text.len() <= max {
        return text;
    }
    let continuation = |byte: u8| byte & 0xc0 == 0x80;
    // A character has at most three continuation bytes; what has more is not UTF-8, and may be cut anywhere.
    let end = (max - 3..=max).rev().find(|&end| !continuation(text[end])).unwrap_or(max);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn record() -> Record<'static> {
        Record {
            started_us: 1_795_264_482_123_456,
            listener: "web",
            client: "10.1.2.3:40000".parse().unwrap(),
            pool: "api",
            endpoint: Some("[fd00::1]:8080".parse().unwrap()),
            method: b"GET",
            host: b"example.com",
            target: b"/a?b=c",
            version: Version::Http11,
            status: 200,
            request_id: b"id-1",
            user_agent: b"curl/8",
            request_bytes: 0,
            response_bytes: 1234,
            queue_us: None,
            connect_us: Some(0),
            first_byte_us: Some(1_234),
            total_us: 4_000_017,
            attempts: 1,
            reused: true,
            cause: Cause::Ok,
        }
    }

    #[test]
    fn json_line() {
        let mut out = Vec::new();
        write_json(&record(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"time\":\"2026-11-21T12:34:42.123Z\",\"listener\":\"web\",\"client\":\"10.1.2.3:40000\",\"pool\":\"api\",\
             \"endpoint\":\"[fd00::1]:8080\",\"method\":\"GET\",\"host\":\"example.com\",\"path\":\"/a?b=c\",\"http\":\"1.1\",\"status\":200,\
             \"request_id\":\"id-1\",\"user_agent\":\"curl/8\",\"request_bytes\":0,\"response_bytes\":1234,\"queue_ms\":null,\
             \"connect_ms\":0.000,\"first_byte_ms\":1.234,\"total_ms\":4000.017,\"attempts\":1,\"reused\":true,\"cause\":\"ok\"}\n"
        );
    }

    #[test]
    fn text_lines() {
        let mut out = Vec::new();
        write_text(&record(), &mut out);
        let tcp = Record { method: b"", host: b"", target: b"", user_agent: b"", request_id: b"", endpoint: None, pool: "", ..record() };
        write_text(&tcp, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-21T12:34:42.123Z web 10.1.2.3:40000 \"GET example.com /a?b=c HTTP/1.1\" 200 0 1234 api [fd00::1]:8080 queue=- \
             connect=0.000 first_byte=1.234 total=4000.017 attempts=1 reused=yes ok \"curl/8\" \"id-1\"\n\
             2026-11-21T12:34:42.123Z web 10.1.2.3:40000 \"-\" 200 0 1234 - - queue=- \
             connect=0.000 first_byte=1.234 total=4000.017 attempts=1 reused=yes ok \"-\" \"-\"\n"
        );
    }

    fn check_time(seconds: u64, expected: &str) {
        let mut out = Vec::new();
        write_time(seconds * 1_000_000, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn times() {
        check_time(0, "1970-01-01T00:00:00.000Z");
        check_time(951_782_399, "2000-02-28T23:59:59.000Z");
        check_time(951_782_400, "2000-02-29T00:00:00.000Z");
        check_time(951_868_800, "2000-03-01T00:00:00.000Z");
        check_time(1_709_164_800, "2024-02-29T00:00:00.000Z");
        check_time(4_107_542_400, "2100-03-01T00:00:00.000Z");
        check_time(253_402_300_799, "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn each_day_of_eight_centuries_follows_the_one_before() {
        let mut previous = civil_from_days(0);
        assert_eq!(previous, (1970, 1, 1));
        for days in 1..2 * 146_097 {
            let (year, month, day) = civil_from_days(days);
            let leap = previous.0.is_multiple_of(4) && (!previous.0.is_multiple_of(100) || previous.0.is_multiple_of(400));
            let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][previous.1 as usize - 1];
            let expected = match previous {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, day) if day == length => (year, month + 1, 1),
                (year, month, day) => (year, month, day + 1),
            };
            assert_eq!((year, month, day), expected);
            previous = expected;
        }
    }

    fn check_escape(text: &[u8], max: usize, expected: &str) {
        let mut out = Vec::new();
        write_escaped(text, max, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{}", text.escape_ascii());
    }

    #[test]
    fn escapes() {
        check_escape(b"a\"b\\c\r\n\0\x7f", 99, r#"a\"b\\c\u000d\u000a\u0000\u007f"#);
        check_escape("é漢😀".as_bytes(), 99, "é漢😀");
        check_escape(b"\xff\xc3(\xe9", 99, r"\u00ff\u00c3(\u00e9");
        check_escape("\u{9b}".as_bytes(), 99, r"\u009b");
        check_escape(b"abcdef", 4, "abcd…");
        check_escape("abc😀".as_bytes(), 4, "abc…");
        check_escape("abcd".as_bytes(), 4, "abcd");
        check_escape(&[0x80; 9], 4, r"\u0080\u0080\u0080\u0080…");
    }

    proptest! {
        #[test]
        fn every_line_is_one_json_object(
            target in prop::collection::vec(any::<u8>(), 0..6000), host in prop::collection::vec(any::<u8>(), 0..700),
            agent in any::<String>(), method in prop::collection::vec(any::<u8>(), 0..20), us in any::<u64>(), phase in any::<Option<u32>>(),
            cause in 0..Cause::COUNT,
        ) {
            let cause = Cause::ALL[cause];
            let record = Record {
                target: &target, host: &host, user_agent: agent.as_bytes(), method: &method, started_us: us, queue_us: phase, cause, ..record()
            };
            let mut out = Vec::new();
            write_json(&record, &mut out);
            prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
            let value: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(value.as_object().unwrap().len(), 21);
            prop_assert_eq!(&value["cause"], cause.word());
            let expected = phase.map(|us| f64::from(us) / 1000.0);
            prop_assert_eq!(value["queue_ms"].as_f64(), expected);
            if agent.len() <= TEXT_BYTES_MAX {
                prop_assert_eq!(&value["user_agent"], agent.as_str());
            }
            if target.is_ascii() && target.len() <= TARGET_BYTES_MAX {
                prop_assert_eq!(value["path"].as_str().unwrap().as_bytes(), target.as_slice());
            }

            out.clear();
            write_text(&record, &mut out);
            prop_assert_eq!(out.iter().position(|byte| byte.is_ascii_control()), Some(out.len() - 1));
            prop_assert!(out.len() < 6 * (TARGET_BYTES_MAX + 5 * TEXT_BYTES_MAX) + 400);
        }
    }
}
