//! The normal form of a request's path: the one spelling that routes are written in, compared with, and that endpoints get.
//!
//! RFC 3986 section 6.2.2: percent-encoded unreserved characters are decoded, the digits of the others are upper case. What then could still be
//! read in two ways is not repaired: dot segments and broken percent-encoding are always refused; an encoded slash, a backslash in any
//! form, an encoded NUL and an empty segment are refused unless the listener keeps them, and are then matched and passed on as they are.

use std::borrow::Cow;
use std::fmt;

/// Why a path has no normal form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// `.` or `..` as a segment, encoded or with parameters behind it too: servers differ in where that leads.
    DotSegment,
    /// A percent sign without two hexadecimal digits.
    Percent,
    /// An encoded slash, a backslash, a NUL, or nothing between two slashes.
    Ambiguous,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::DotSegment => "the path has a dot segment",
            PathError::Percent => "the path has a percent sign that encodes nothing",
            PathError::Ambiguous => "the path has an encoded slash, a backslash or an empty segment, which servers read differently",
        })
    }
}

/// The path in normal form; borrowed where it is in it already. `keep`: what is [`PathError::Ambiguous`] stays as it is.
///
/// # Errors
/// Servers could read the path in different ways.
pub fn normal_path(path: &[u8], keep: bool) -> Result<Cow<'_, [u8]>, PathError> {
    let mut last = 0;
    let is_plain = |byte: &u8| {
        let pair = (std::mem::replace(&mut last, *byte), *byte);
        !matches!(pair, (_, b'%' | b'\\') | (b'/', b'/' | b'.'))
    };
    if path.iter().all(is_plain) {
        return Ok(Cow::Borrowed(path));
    }
    let path = decode_unreserved(path, keep)?;
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() && !keep {
            return Err(PathError::Ambiguous);
        }
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return Err(PathError::DotSegment);
        }
    }
    Ok(path)
}

fn decode_unreserved(path: &[u8], keep: bool) -> Result<Cow<'_, [u8]>, PathError> {
    if path.contains(&b'\\') && !keep {
        return Err(PathError::Ambiguous);
    }
    if !path.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = after.split_first_chunk::<2>().ok_or(PathError::Percent)?;
        rest = after;
        match decoded(*digits).ok_or(PathError::Percent)? {
            b'/' | b'\\' | 0 if !keep => return Err(PathError::Ambiguous),
            value if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => out.push(value),
            _ => out.extend_from_slice(&[b'%', digits[0].to_ascii_uppercase(), digits[1].to_ascii_uppercase()]),
        }
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// The byte that two hexadecimal digits stand for.
pub fn decoded(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(digits[0])? << 4 | digit(digits[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling_or_none() {
        use PathError::{Ambiguous, DotSegment, Percent};
        for (path, strict, kept) in [
            ("/", Ok("/"), Ok("/")),
            ("", Ok(""), Ok("")),
            ("/a/b.c/", Ok("/a/b.c/"), Ok("/a/b.c/")),
            ("/.well-known/x", Ok("/.well-known/x"), Ok("/.well-known/x")),
            ("/%61dmin", Ok("/admin"), Ok("/admin")),
            ("/%7euser", Ok("/~user"), Ok("/~user")),
            ("/a%20b%c3%bc", Ok("/a%20b%C3%BC"), Ok("/a%20b%C3%BC")),
            ("/%2525", Ok("/%2525"), Ok("/%2525")),
            ("/...", Ok("/..."), Ok("/...")),
            ("/a/../b", Err(DotSegment), Err(DotSegment)),
            ("/a/%2e%2E/b", Err(DotSegment), Err(DotSegment)),
            ("/a/..;x=1/b", Err(DotSegment), Err(DotSegment)),
            ("/.", Err(DotSegment), Err(DotSegment)),
            ("/a%", Err(Percent), Err(Percent)),
            ("/a%2", Err(Percent), Err(Percent)),
            ("/a%g0", Err(Percent), Err(Percent)),
            ("/a%+1", Err(Percent), Err(Percent)),
            ("/a%2fb", Err(Ambiguous), Ok("/a%2Fb")),
            ("/a%5cb", Err(Ambiguous), Ok("/a%5Cb")),
            ("/a\\b", Err(Ambiguous), Ok("/a\\b")),
            ("/a%00", Err(Ambiguous), Ok("/a%00")),
            ("//a", Err(Ambiguous), Ok("//a")),
            ("/a//", Err(Ambiguous), Ok("/a//")),
        ] {
            for (keep, expected) in [(false, strict), (true, kept)] {
                let found = normal_path(path.as_bytes(), keep).map(|path| String::from_utf8_lossy(&path).into_owned());
                assert_eq!(found, expected.map(str::to_owned), "{path} {keep}");
            }
        }
    }

    #[test]
    fn the_normal_form_is_its_own() {
        for path in ["/%7e%41/%c3", "/a%25b", "/x;y/z", "/%2e%2e%2e"] {
            let once = normal_path(path.as_bytes(), false).expect("it has one").into_owned();
            assert!(matches!(normal_path(&once, false), Ok(Cow::Borrowed(same)) if same == once), "{path}");
        }
    }
}
