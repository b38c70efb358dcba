//! What a person must know about a conversion.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// Notes that are kept. Whoever has more has to read the file anyway.
const NOTES_MAX: usize = 2000;

/// The most characters of a line that a note repeats.
const WORDS_CHARS_MAX: usize = 80;

/// A line of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    /// Which of the files.
    pub(crate) file: usize,
    /// The line, from 1.
    pub(crate) line: usize,
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has no counterpart, or none that could be found: look at it.
    NotConverted,
    /// It was converted, and means something slightly different.
    Changed,
    /// What it is for happens by itself, or does not exist here.
    NotNeeded,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::NotConverted => "not converted",
            Outcome::Changed => "changed",
            Outcome::NotNeeded => "not needed",
        })
    }
}

/// One thing that a person must know.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// What stands there, shortened.
    pub words: String,
    /// Why, and what to do instead where that is known.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { file, line, outcome, words, why } = self;
        write!(f, "{file}:{line}: {outcome}: {words}: {why}")
    }
}

/// Collects notes; the same one is kept once, as a part that becomes several tables is looked at several times.
#[derive(Debug)]
pub(crate) struct Notes {
    files: Vec<String>,
    file: usize,
    found: BTreeSet<(Place, Outcome, String, String)>,
    omitted: usize,
}

impl Notes {
    pub(crate) fn new(files: Vec<String>) -> Notes {
        Notes { files, file: 0, found: BTreeSet::new(), omitted: 0 }
    }

    /// What follows is about this file.
    pub(crate) fn turn_to(&mut self, file: usize) {
        self.file = file;
    }

    /// A line of the file that is being read.
    pub(crate) fn place(&self, line: usize) -> Place {
        Place { file: self.file, line }
    }

    /// `haproxy.cfg:12`.
    pub(crate) fn shown(&self, place: Place) -> String {
        format!("{}:{}", self.files.get(place.file).map_or("", String::as_str), place.line)
    }

    pub(crate) fn add(&mut self, place: Place, outcome: Outcome, words: &str, why: impl Into<String>) {
        let mut words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX + 1).collect();
        if words.chars().count() > WORDS_CHARS_MAX {
            words.pop();
            words.push_str("...");
        }
        let note = (place, outcome, words, why.into());
        if self.found.len() < NOTES_MAX {
            self.found.insert(note);
        } else if !self.found.contains(&note) {
            self.omitted += 1;
        }
    }

    pub(crate) fn not_converted(&mut self, line: usize, words: &str, why: impl Into<String>) {
        self.add(self.place(line), Outcome::NotConverted, words, why);
    }

    pub(crate) fn changed(&mut self, line: usize, words: &str, why: impl Into<String>) {
        self.add(self.place(line), Outcome::Changed, words, why);
    }

    pub(crate) fn not_needed(&mut self, line: usize, words: &str, why: impl Into<String>) {
        self.add(self.place(line), Outcome::NotNeeded, words, why);
    }

    /// The notes in the order of the files, and how many more there were.
    pub(crate) fn finish(self) -> (Vec<Note>, usize) {
        let file = |place: Place| self.files.get(place.file).cloned().unwrap_or_default();
        let notes = self.found.iter().map(|(place, outcome, words, why)| Note {
            file: file(*place),
            line: place.line,
            outcome: *outcome,
            words: words.clone(),
            why: why.clone(),
        });
        (notes.collect(), self.omitted)
    }
}
