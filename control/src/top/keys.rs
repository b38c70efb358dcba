//! The bytes of a keyboard as keys. Pure.

/// A key, as far as this program knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C and Ctrl-D.
    Quit,
}

/// Takes the first key off the bytes, and says how many bytes it was. `None`: it is not whole yet. An unknown sequence is no key.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let first = *bytes.first()?;
    let key = match first {
        0x1b => return escape(bytes),
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x03 | 0x04 => Key::Quit,
        0..0x20 => return Some((None, 1)),
        0x20..0x7f => Key::Char(char::from(first)),
        _ => return utf8(bytes),
    };
    Some((Some(key), 1))
}

/// Escape alone, `ESC [ ... final` and `ESC O final`.
fn escape(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match bytes.get(1) {
        // A terminal sends a sequence in one piece, so that an escape at the end of what was read is the key.
        None => Some((Some(Key::Escape), 1)),
        Some(b'O') => Some((bytes.get(2).and_then(|last| final_byte(*last)), bytes.len().min(3))),
        Some(b'[') => {
            let length = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)).map(|at| at + 3);
            let Some(length) = length else { return Some((None, bytes.len())) };
            let parameters = &bytes[2..length - 1];
            let key = match (bytes[length - 1], parameters) {
                (b'~', [b'1', ..] | [b'7', ..]) => Some(Key::Home),
                (b'~', [b'4', ..] | [b'8', ..]) => Some(Key::End),
                (b'~', [b'5', ..]) => Some(Key::PageUp),
                (b'~', [b'6', ..]) => Some(Key::PageDown),
                (b'~', _) => None,
                (last, _) => final_byte(last),
            };
            Some((key, length))
        }
        // Alt with a key: the key.
        Some(_) => Some((Some(Key::Escape), 1)),
    }
}

fn final_byte(byte: u8) -> Option<Key> {
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'Z' => Key::BackTab,
        _ => return None,
    })
}

fn utf8(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((None, 1)),
    };
    let whole = bytes.get(..length)?;
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => Some((Some(Key::Char(c)), length)),
        None => Some((None, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        while let Some((key, length)) = decode(bytes) {
            keys.extend(key);
            assert!(length > 0);
            bytes = &bytes[length..];
        }
        keys
    }

    #[test]
    fn keys_of_a_keyboard() {
        for (bytes, keys) in [
            (&b"q"[..], vec![Key::Char('q')]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1b[A\x1b[B\x1bOC\x1b[D", vec![Key::Up, Key::Down, Key::Right, Key::Left]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", vec![Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\x1b[1;5A", vec![Key::Up]),
            (b"\x1b[Z\t\r\x7f", vec![Key::BackTab, Key::Tab, Key::Enter, Key::Backspace]),
            (b"\x03", vec![Key::Quit]),
            ("한".as_bytes(), vec![Key::Char('한')]),
            (b"\xff\xc2\x20x", vec![Key::Char(' '), Key::Char('x')]),
            (b"\x1b[200", vec![]),
            (b"\x1b[2004h\x00a", vec![Key::Char('a')]),
        ] {
            assert_eq!(all(bytes), keys, "{}", bytes.escape_ascii());
        }
        assert_eq!(decode("한".as_bytes().split_at(2).0), None, "the rest is still on its way");
    }
}
