//! How long a short message is: the alphabet of GSM 03.38 with seven bits for each character, or UCS-2 with sixteen; what is longer than a part is
//! sent in parts, each a little shorter for the sake of its number. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

/// Characters of the default alphabet, in the order of their codes (GSM 03.38 section 6.2.1). The escape at 0x1b stands as `\u{1b}`.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Characters of its extension with their codes; each takes an escape, too.
const EXTENSION: &[(char, u8)] = &[
    ('\u{c}', 0x0a),
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];
/// The escape to the extension.
const ESCAPE: u8 = 0x1b;

/// How characters are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Alphabet {
    /// GSM 03.38: 160 in one part, 153 in each of several.
    Gsm,
    /// UCS-2, in fact UTF-16: 70 in one part, 67 in each of several.
    Ucs2,
}

impl Alphabet {
    /// The smaller one that can write the text.
    pub(in super::super) fn of(text: &str) -> Alphabet {
        if text.chars().all(|c| codes(c).is_some()) { Alphabet::Gsm } else { Alphabet::Ucs2 }
    }

    /// Units in a part, alone and among several.
    fn room(self) -> (usize, usize) {
        match self {
            Alphabet::Gsm => (160, 153),
            Alphabet::Ucs2 => (70, 67),
        }
    }

    /// Units that a character takes.
    fn width(self, c: char) -> usize {
        match self {
            Alphabet::Gsm => codes(c).map_or(1, |codes| codes.len()),
            Alphabet::Ucs2 => c.len_utf16(),
        }
    }

    fn length(self, text: &str) -> usize {
        text.chars().map(|c| self.width(c)).sum()
    }
}

/// The codes of a character in the default alphabet and its extension, one byte each.
pub(in super::super) fn codes(c: char) -> Option<Vec<u8>> {
    if let Some((_, code)) = EXTENSION.iter().find(|(other, _)| *other == c) {
        return Some(vec![ESCAPE, *code]);
    }
    BASIC.chars().position(|other| other == c && other != '\u{1b}').and_then(|at| u8::try_from(at).ok()).map(|code| vec![code])
}

/// The parts in which a text is sent: one where it fits, several that end after a word where it does not. Together they are the text.
pub(in super::super) fn parts_in(text: &str, alphabet: Alphabet) -> Vec<String> {
    let (alone, each) = alphabet.room();
    if alphabet.length(text) <= alone {
        return vec![text.to_owned()];
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while alphabet.length(rest) > each {
        let end = end_of_part(alphabet, rest, each);
        parts.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    parts.push(rest.to_owned());
    parts
}

/// Where a part of so many units ends: behind the last space, or in the middle of a word that is longer than a part.
fn end_of_part(alphabet: Alphabet, text: &str, room: usize) -> usize {
    let (mut length, mut end, mut space) = (0, 0, None);
    for (at, c) in text.char_indices() {
        length += alphabet.width(c);
        if length > room {
            break;
        }
        end = at + c.len_utf8();
        if c == ' ' || c == '\n' {
            space = Some(end);
        }
    }
    space.unwrap_or(end).max(text.chars().next().map_or(0, char::len_utf8))
}

/// The text, in at most so many parts: as it is, or as many whole words as fit, with three dots.
pub(in super::super) fn fitted(text: &str, parts_max: usize, always_ucs2: bool) -> String {
    let text = simple(text.trim());
    let count = |text: &str| parts_in(text, if always_ucs2 { Alphabet::Ucs2 } else { Alphabet::of(text) }).len();
    if count(&text) <= parts_max {
        return text;
    }
    const DOTS: &str = "...";
    let fits = |end: usize| count(&format!("{}{DOTS}", text[..end].trim_end())) <= parts_max;
    // The end of each word, then the end of each character: the last that fits.
    let words = text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at);
    let end = words.take_while(|end| fits(*end)).last().filter(|end| *end > text.len() / 4);
    let end = end.or_else(|| text.char_indices().map(|(at, _)| at).take_while(|end| fits(*end)).last()).unwrap_or(0);
    format!("{}{DOTS}", text[..end].trim_end())
}

/// With plain signs for typographic ones where that is all that keeps it from the small alphabet: one curled quote would halve the room. What a
/// phone would obey becomes a space.
fn simple(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    if Alphabet::of(&text) == Alphabet::Gsm {
        return text;
    }
    let simple = |c: char| match c {
        '‘' | '’' | '‚' | '‹' | '›' | '´' | '`' => "'".to_owned(),
        '“' | '”' | '„' | '«' | '»' => "\"".to_owned(),
        '–' | '—' | '−' | '‐' | '‑' | '•' => "-".to_owned(),
        '…' => "...".to_owned(),
        '→' => "->".to_owned(),
        '≤' => "<=".to_owned(),
        '≥' => ">=".to_owned(),
        '×' => "x".to_owned(),
        '\u{a0}' | '\u{2009}' | '\u{202f}' => " ".to_owned(),
        c => c.to_string(),
    };
    let plain: String = text.chars().map(simple).collect();
    if Alphabet::of(&plain) == Alphabet::Gsm { plain } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        parts_in(text, Alphabet::of(text))
    }

    #[test]
    fn codes_as_the_table_has_them() {
        for (c, want) in
            [('@', &[0][..]), ('A', &[0x41]), ('ü', &[0x7e]), ('à', &[0x7f]), ('_', &[0x11]), ('Ξ', &[0x1a]), ('Æ', &[0x1c]), ('$', &[2])]
        {
            assert_eq!(codes(c).as_deref(), Some(want), "{c}");
        }
        assert_eq!(codes('€'), Some(vec![0x1b, 0x65]));
        assert_eq!(BASIC.chars().count(), 128);
        assert!(codes('\u{1b}').is_none() && codes('풀').is_none() && codes('`').is_none());
    }

    #[test]
    fn one_part_where_it_fits() {
        for (text, count) in [
            ("x".repeat(160), 1),
            ("x".repeat(161), 2),
            (format!("{}€", "x".repeat(158)), 1),
            (format!("{}€", "x".repeat(159)), 2),
            ("풀".repeat(70), 1),
            ("풀".repeat(71), 2),
            ("😀".repeat(35), 1),
            ("😀".repeat(36), 2),
            ("x".repeat(153 * 3), 3),
            ("풀".repeat(67 * 2 + 1), 3),
            (String::new(), 1),
        ] {
            let parts = parts(&text);
            assert_eq!((parts.len(), parts.concat()), (count, text));
        }
    }

    #[test]
    fn parts_end_after_a_word() {
        let text = "endpoint 10.0.0.1 is down, ".repeat(12);
        let parts = parts(&text);
        assert_eq!(parts.concat(), text);
        assert!(parts.len() == 3 && parts.iter().all(|part| part.ends_with(' ') && part.chars().count() <= 153), "{parts:?}");
    }

    #[test]
    fn what_is_too_long_is_cut_after_a_word() {
        let long = "pool web: only two of the wanted three endpoints are healthy ".repeat(9);
        for parts_max in 1..4 {
            let text = fitted(&long, parts_max, false);
            assert!(parts(&text).len() <= parts_max && text.ends_with("..."));
            let kept = text.trim_end_matches("...");
            assert!(long.starts_with(kept) && long[kept.len()..].starts_with(' '), "{text}");
        }
        assert_eq!(fitted(&"x".repeat(200), 1, false).len(), 160);
        assert_eq!(fitted(&"x".repeat(200), 1, true).len(), 70);
        assert_eq!(fitted(&"풀".repeat(200), 1, false).chars().count(), 70);
        assert_eq!(fitted("pool “web” … – 90 %", 1, false), "pool \"web\" ... - 90 %");
        assert_eq!(fitted("풀 “web”", 1, false), "풀 “web”");
        assert_eq!(fitted("a\r\0\x1bb", 1, false), "a   b");
    }
}
