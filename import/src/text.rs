//! Values as TOML, and names as ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_config::{Pattern, format_duration};

/// The longest name of a table.
const NAME_CHARS_MAX: usize = 64;

/// A hyphen and the number of a name that was asked for again.
const NUMBER_CHARS_MAX: usize = 6;

/// A string; one with backslashes is written literally where that is possible, as people write regular expressions.
pub(crate) fn text(value: &str) -> String {
    let literal = value.contains('\\') && !value.contains('\'') && !value.chars().any(char::is_control);
    if literal {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A duration.
pub(crate) fn time(value: Duration) -> String {
    text(&format_duration(value))
}

/// One string, or a list in one line.
pub(crate) fn one_or_list(values: &[String]) -> String {
    match values {
        [one] => text(one),
        values => format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", ")),
    }
}

/// A part of a table's header, quoted where it must be.
pub(crate) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { name.to_owned() } else { text(name) }
}

/// Names that are taken, each made so that a table of ours can have it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
    /// How often each was asked for.
    asked: BTreeMap<String, u32>,
}

impl Names {
    /// A name like this one that no other table has.
    pub(crate) fn fresh(&mut self, name: &str) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
        let mut base: String = name.chars().map(legal).take(NAME_CHARS_MAX - NUMBER_CHARS_MAX).collect();
        if base.is_empty() {
            base.push_str("unnamed");
        }
        let asked = self.asked.entry(base.clone()).or_default();
        loop {
            *asked += 1;
            let name = if *asked == 1 { base.clone() } else { format!("{base}-{asked}") };
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A literal text as a regular expression.
pub(crate) fn escaped(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    for c in literal.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A regular expression as weir takes it: where classes or cases of letters are asked for, those of ASCII, which every build of it has.
/// `None`: it takes none of it.
pub(crate) fn regex(text: &str) -> Option<String> {
    let has_class = text.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && b"dDwWsSbB".contains(&pair[1]));
    let written = match text.strip_prefix("(?i)") {
        Some(rest) => format!("(?i-u){rest}"),
        None if has_class => format!("(?-u){text}"),
        None => text.to_owned(),
    };
    Pattern::new(&written).is_ok().then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        for (value, written) in [
            ("a", r#""a""#),
            (r#"say "x""#, r#""say \"x\"""#),
            (r"a\.b", r"'a\.b'"),
            (r"it's \d", r#""it's \\d""#),
            ("a\tb\u{1}", r#""a\tb\u0001""#),
        ] {
            assert_eq!(text(value), written);
        }
        assert_eq!((key("web"), key("a.b")), ("web".into(), "\"a.b\"".into()));
    }

    #[test]
    fn names() {
        let mut names = Names::default();
        let fresh = ["web", "web", "a:b", "", "web-2"].map(|name| names.fresh(name));
        assert_eq!(fresh, ["web", "web-2", "a-b", "unnamed", "web-2-2"]);
    }

    #[test]
    fn regular_expressions() {
        for (text, taken) in [
            ("/a.*", Some("/a.*")),
            (r"/\d+", Some(r"(?-u)/\d+")),
            ("(?i)/a", Some("(?i-u)/a")),
            ("(?=a)", None),
            (r"(a)\1", None),
            ("a)", None),
        ] {
            assert_eq!(regex(text).as_deref(), taken, "{text}");
        }
    }

    #[test]
    fn a_literal_matches_itself() {
        for literal in ["a.b", "x+y", "/[a]{2}#&~-", r"\d", "^$|"] {
            let pattern = weir_config::Pattern::new(&escaped(literal)).expect("a literal");
            assert!(pattern.is_match(literal.as_bytes()), "{literal}");
        }
    }
}
