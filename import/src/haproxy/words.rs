//! The words of a line, quoted as HAProxy does (its manual, section 2.2).

/// A line that says something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    /// The line, from 1.
    pub(super) line: usize,
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    /// A word takes an environment variable, whose value is not known here.
    pub(super) has_variable: bool,
}

impl Statement {
    /// The word of that number, empty where there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The words from that number on.
    pub(super) fn from(&self, index: usize) -> &[String] {
        self.words.get(index..).unwrap_or_default()
    }

    /// It begins with these words.
    pub(super) fn begins(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(index, word)| self.word(index) == *word)
    }

    /// As one line.
    pub(super) fn shown(&self) -> String {
        self.words.join(" ")
    }
}

/// Reads one line; `None`: it says nothing.
pub(super) fn statement(text: &str, line: usize) -> Option<Statement> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut has_variable = false;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            (c, Some('\'')) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', _) => escape(&mut chars, quote.is_some(), word.get_or_insert_default()),
            ('$', Some('"')) => {
                has_variable |= chars.peek().is_some_and(|next| *next == '{' || next.is_ascii_alphabetic() || *next == '_');
                word.get_or_insert_default().push(c);
            }
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('#', None) => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(Statement { line, words, has_variable })
}

/// What follows a backslash. One that escapes nothing stays, as regular expressions are full of them.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, is_quoted: bool, word: &mut String) {
    let Some(next) = chars.peek().copied() else { return word.push('\\') };
    let special = match next {
        '\\' | '"' => Some(next),
        '$' if is_quoted => Some(next),
        ' ' | '#' | '\'' if !is_quoted => Some(next),
        'n' if !is_quoted => Some('\n'),
        'r' if !is_quoted => Some('\r'),
        't' if !is_quoted => Some('\t'),
        _ => None,
    };
    match special {
        Some(c) => {
            chars.next();
            word.push(c);
        }
        None => word.push('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, expected) in [
            ("", None),
            ("   # comment", None),
            ("mode http # the mode", Some(vec!["mode", "http"])),
            (r"option httpchk GET /a HTTP/1.1\r\nHost:\ b.c", Some(vec!["option", "httpchk", "GET", "/a", "HTTP/1.1\r\nHost: b.c"])),
            (r#"http-check expect rstring "a b\"c""#, Some(vec!["http-check", "expect", "rstring", "a b\"c"])),
            (r"acl a path_reg ^/x\.(a|b)$", Some(vec!["acl", "a", "path_reg", r"^/x\.(a|b)$"])),
            (r"errorfile '' 'it''s'", Some(vec!["errorfile", "", "its"])),
            ("a\\#b \"c#d\" e\\", Some(vec!["a#b", "c#d", "e\\"])),
        ] {
            let found = statement(text, 1).map(|statement| statement.words);
            assert_eq!(found, expected.map(|words| words.into_iter().map(str::to_owned).collect()), "{text}");
        }
        assert!(statement(r#"bind "${ADDR}:80""#, 1).is_some_and(|statement| statement.has_variable));
        assert!(statement(r#"bind "a$""#, 1).is_some_and(|statement| !statement.has_variable));
    }
}
