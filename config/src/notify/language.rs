//! Languages: what is said, by file. A new language is a new file in `languages/`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use super::template::{ALARM_FIELDS, TEXT_FIELDS, TextTemplate};

include!(concat!(env!("OUT_DIR"), "/languages.rs"));

/// One language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Language {
    tag: &'static str,
}

/// The texts of a language.
#[derive(Debug)]
struct Texts {
    titles: BTreeMap<String, TextTemplate>,
    texts: BTreeMap<String, TextTemplate>,
    words: BTreeMap<String, TextTemplate>,
    alarms: BTreeMap<String, TextTemplate>,
    recoveries: BTreeMap<String, TextTemplate>,
}

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "name")]
    _name: String,
    title: BTreeMap<String, String>,
    text: BTreeMap<String, String>,
    word: BTreeMap<String, String>,
    alarm: BTreeMap<String, String>,
    recovery: BTreeMap<String, String>,
}

/// The languages are part of the program and tested with it.
static TEXTS: LazyLock<BTreeMap<&'static str, Texts>> =
    LazyLock::new(|| FILES.iter().map(|(tag, text)| (*tag, read(text).unwrap_or_else(|error| panic!("{tag}: {error}")))).collect());

impl Language {
    /// English: what holds where nothing is chosen.
    pub const ENGLISH: Language = Language { tag: "en" };

    /// The language of this tag.
    pub fn find(tag: &str) -> Option<Language> {
        FILES.iter().find(|(known, _)| *known == tag).map(|(tag, _)| Language { tag })
    }

    /// All languages.
    pub fn all() -> impl Iterator<Item = Language> {
        FILES.iter().map(|(tag, _)| Language { tag })
    }

    /// Its tag, such as `en` (RFC 5646).
    pub fn tag(self) -> &'static str {
        self.tag
    }

    /// The title of messages of this kind.
    pub fn title(self, kind: &str) -> Option<&'static TextTemplate> {
        TEXTS.get(self.tag).and_then(|texts| texts.titles.get(kind))
    }

    /// The text of this name: `incident`, `digest` or `test`.
    pub fn text(self, name: &str) -> Option<&'static TextTemplate> {
        TEXTS.get(self.tag).and_then(|texts| texts.texts.get(name))
    }

    /// A word that may hold `${count}` and `${summary}`.
    pub fn word(self, name: &str) -> Option<&'static TextTemplate> {
        TEXTS.get(self.tag).and_then(|texts| texts.words.get(name))
    }

    /// What an alarm of this name says, where it is one of our own.
    pub fn alarm(self, name: &str) -> Option<&'static TextTemplate> {
        TEXTS.get(self.tag).and_then(|texts| texts.alarms.get(name))
    }

    /// What recovery tried, or what came of it, by name.
    pub fn recovery(self, name: &str) -> Option<&'static TextTemplate> {
        TEXTS.get(self.tag).and_then(|texts| texts.recoveries.get(name))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag)
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag)
    }
}

fn read(text: &str) -> Result<Texts, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let templates = |texts: BTreeMap<String, String>, fields: &[&str]| {
        let template = |(name, text): (String, String)| {
            let template = TextTemplate::parse(&text, fields).map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>((name, template))
        };
        texts.into_iter().map(template).collect::<Result<BTreeMap<_, _>, _>>()
    };
    Ok(Texts {
        titles: templates(file.title, TEXT_FIELDS)?,
        texts: templates(file.text, TEXT_FIELDS)?,
        words: templates(file.word, &["count", "summary"])?,
        alarms: templates(file.alarm, ALARM_FIELDS)?,
        recoveries: templates(file.recovery, ALARM_FIELDS)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one language says every language says, with the same fields.
    #[test]
    fn every_language_says_everything() {
        let fields = |templates: &BTreeMap<String, TextTemplate>| -> Vec<(String, Vec<String>)> {
            let fields = |template: &TextTemplate| {
                let pieces = template.lines().iter().flatten();
                let mut found: Vec<String> = pieces
                    .filter_map(|piece| match piece {
                        super::super::template::Piece::Field(name) => Some(name.clone()),
                        super::super::template::Piece::Literal(_) => None,
                    })
                    .collect();
                found.sort();
                found
            };
            templates.iter().map(|(name, template)| (name.clone(), fields(template))).collect()
        };
        let english = &TEXTS["en"];
        for (tag, texts) in TEXTS.iter() {
            for (part, found, wanted) in [
                ("title", &texts.titles, &english.titles),
                ("text", &texts.texts, &english.texts),
                ("word", &texts.words, &english.words),
                ("alarm", &texts.alarms, &english.alarms),
                ("recovery", &texts.recoveries, &english.recoveries),
            ] {
                assert_eq!(fields(found), fields(wanted), "{tag}: {part}");
            }
        }
        assert!(TEXTS.len() >= 2);
        assert_eq!(Language::find("ko").map(Language::tag), Some("ko"));
        assert_eq!(Language::find("xx"), None);
    }
}
