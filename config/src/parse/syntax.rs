//! Text that is no TOML.
//!
//! One slip must not hide the rest of the file, nor fill the screen with its consequences: a list that is never closed swallows
//! everything up to the end. So a broken text is looked at section by section, from one table header to the next. What is broken
//! is reported once and blanked, byte for byte, so that what remains can be read and keeps its place.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use crate::error::Problem;

/// The readable part of a text, and what is wrong with its syntax.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// As long as the original; what could not be read is blank.
    pub(super) text: String,
    /// In no order.
    pub(super) problems: Vec<Problem>,
}

/// The tree of a text without syntax errors.
pub(super) fn read(text: &str) -> Option<Spanned<DeTable<'_>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    errors.is_empty().then_some(tree)
}

/// How the first consequence of a bracket that is not closed begins.
const CASCADE: [&str; 3] = ["unclosed", "missing comma", "unexpected"];

/// Finds the syntax errors of a text that has some, and blanks them.
pub(super) fn salvage(text: &str) -> Salvaged {
    let mut salvaged = Salvaged::default();
    for section in sections(text) {
        salvage_section(&text[section.clone()], section.start, &mut salvaged);
    }
    // What is left concerns several sections, such as a table that is there twice.
    let (_, errors) = DeTable::parse_recoverable(&salvaged.text);
    salvaged.problems.extend(errors.iter().map(|error| problem(text, 0, error)));
    salvaged
}

fn salvage_section(section: &str, start: usize, salvaged: &mut Salvaged) {
    let (_, errors) = DeTable::parse_recoverable(section);
    let lines = lines(section);
    let line_of = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        lines.partition_point(|line| line.start <= at).saturating_sub(1)
    };
    let unclosed = errors.iter().find(|error| error.message().starts_with("unclosed"));
    // Where a bracket is not closed, everything after the place where it was wanted is a consequence.
    let cascade = unclosed.and_then(|_| errors.iter().position(|error| CASCADE.iter().any(|start| error.message().starts_with(start))));
    // Apart from that, the first error of a line explains the others.
    let mut broken: BTreeSet<usize> = BTreeSet::new();
    for error in &errors[..cascade.unwrap_or(errors.len())] {
        let line = line_of(error);
        if broken.insert(line) {
            salvaged.problems.push(problem(section, start, error));
        }
    }
    if let (Some(unclosed), Some(cascade)) = (unclosed, cascade) {
        let message = problem(section, start, unclosed).message;
        salvaged.problems.push(Problem { message, help: None, ..problem(section, start, &errors[cascade]) });
        let body = usize::from(section.starts_with('[') && line_of(&errors[cascade]) > 0);
        broken.extend(body..lines.len());
    }
    let header_is_broken = section.starts_with('[') && broken.contains(&0);
    for (index, line) in lines.into_iter().enumerate() {
        if header_is_broken || broken.contains(&index) {
            salvaged.text.extend(section[line].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        } else {
            salvaged.text.push_str(&section[line]);
        }
    }
}

/// From one line that looks like a table header, closed or not, to the next.
fn sections(text: &str) -> Vec<Range<usize>> {
    let is_header = |line: &str| line.starts_with('[') && !line.contains(',');
    let mut starts: Vec<usize> = lines(text).into_iter().filter(|line| is_header(&text[line.clone()])).map(|line| line.start).collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The lines with their line ends.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .map(|line| {
            start += line.len();
            start - line.len()..start
        })
        .collect()
}

fn problem(text: &str, start: usize, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let written = text.get(span.clone()).unwrap_or_default().trim();
    let span = span.start + start..span.end + start;
    let message = error.message().trim().trim_end_matches(", expected nothing").trim_end_matches(", expected literal string");
    if message.starts_with("duplicate key") {
        let problem = Problem::new(span, "", format!("`{written}` is set a second time"));
        return problem.help("a key can be set once in a table, and a table can have one header");
    }
    let problem = Problem::new(span, "", format!("this is not TOML: {message}"));
    let unquoted =
        ["invalid float", "invalid integer", "invalid datetime", "invalid boolean", "string values must be quoted", "invalid value"];
    if unquoted.iter().any(|start| message.starts_with(start)) {
        problem.help("a string is written in quotes, such as \"web\"")
    } else {
        problem
    }
}
