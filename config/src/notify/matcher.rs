//! Which alarms are meant: by their labels.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;

use crate::reader::Table;

/// The longest regular expression.
const PATTERN_BYTES_MAX: usize = 1024;

/// One condition on a label. A label that an alarm does not have counts as empty.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// What its value must be.
    pub test: MatcherTest,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum MatcherTest {
    /// `label=value`
    Is(String),
    /// `label!=value`
    IsNot(String),
    /// `label=~pattern`; the whole value.
    Like(Regex),
    /// `label!~pattern`; the whole value.
    Unlike(Regex),
}

impl Matcher {
    /// Whether these labels fulfil it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        match &self.test {
            MatcherTest::Is(wanted) => value == wanted,
            MatcherTest::IsNot(unwanted) => value != unwanted,
            MatcherTest::Like(pattern) => pattern.is_match(value),
            MatcherTest::Unlike(pattern) => !pattern.is_match(value),
        }
    }

    fn parse(text: &str) -> Result<Matcher, String> {
        let how = "write `label=value`, `label!=value`, `label=~pattern` or `label!~pattern`";
        let end = text.find(['=', '!']).ok_or_else(|| format!("{text:?} is not a condition on a label; {how}"))?;
        let (label, rest) = text.split_at(end);
        let is_label =
            |label: &str| !label.is_empty() && label.len() <= 64 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_label(label) {
            return Err(format!("{label:?} is not the name of a label; {how}"));
        }
        let test = match (rest.get(..2), rest) {
            (Some("=~"), _) => MatcherTest::Like(pattern(&rest[2..])?),
            (Some("!~"), _) => MatcherTest::Unlike(pattern(&rest[2..])?),
            (Some("!="), _) => MatcherTest::IsNot(rest[2..].to_owned()),
            (_, rest) if rest.starts_with('=') => MatcherTest::Is(rest[1..].to_owned()),
            _ => return Err(format!("{text:?} is not a condition on a label; {how}")),
        };
        Ok(Matcher { label: label.to_owned(), test })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    Regex::new(&format!("^(?:{text})$")).map_err(|_| format!("{text:?} is not a regular expression"))
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |pattern: &Regex| pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$").to_owned();
        let (sign, value) = match &self.test {
            MatcherTest::Is(value) => ("=", value.clone()),
            MatcherTest::IsNot(value) => ("!=", value.clone()),
            MatcherTest::Like(pattern) => ("=~", inner(pattern)),
            MatcherTest::Unlike(pattern) => ("!~", inner(pattern)),
        };
        write!(f, "{}{sign}{value}", self.label)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.to_string() == other.to_string()
    }
}

/// All matchers under a key.
pub(super) fn matchers(table: &Table<'_>, name: &str) -> Vec<Matcher> {
    let fields = table.field(name).and_then(|field| field.items()).unwrap_or_default();
    fields.iter().filter_map(|field| field.checked(Matcher::parse(field.text()?))).collect()
}

/// Matchers in words.
pub(super) fn in_words(matchers: &[Matcher]) -> String {
    if matchers.is_empty() { "all".into() } else { matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_labels() {
        let labels = BTreeMap::from([("pool".to_owned(), "web-1".to_owned())]);
        for (text, matches) in [
            ("pool=web-1", true),
            ("pool=web", false),
            ("pool!=web", true),
            ("pool=~web", false),
            ("pool=~web-[0-9]", true),
            ("pool!~web.*", false),
            ("vm=", true),
            ("vm!=", false),
            ("vm!~.+", true),
        ] {
            let matcher = Matcher::parse(text).unwrap();
            assert_eq!(matcher.matches(&labels), matches, "{text}");
            assert_eq!(matcher.to_string(), text);
        }
        for text in ["", "pool", "=x", "po ol=x", "pool!x", "pool=~(", "pool ~x"] {
            assert!(Matcher::parse(text).is_err(), "{text}");
        }
    }
}
