//! What is wrong with a file, where, and what to write instead.

mod mask;

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::Serialize;

pub(crate) use mask::is_secret_name;

/// Errors kept for one file; the rest is only counted. Nobody reads more, and a broken file must not fill the memory.
pub const ERRORS_MAX: usize = 100;

/// The longest part of a source line that is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 140;

/// What of a long line is shown before the wrong part, in characters.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// Everything that is wrong with a file.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigErrors {
    file_name: String,
    items: Vec<ConfigError>,
    omitted: usize,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ConfigError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong and why, one sentence.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
    /// The key, such as `pool.web.endpoints[1]`; empty where the text is no TOML.
    pub path: String,
    /// Another place that plays a part, such as where a name was used first.
    pub note: Option<Note>,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// Another place that plays a part in an error.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Note {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is there.
    pub message: String,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// A source line, safe to print, and the part of it to underline.
#[derive(Clone, PartialEq, Debug)]
struct Excerpt {
    text: String,
    start: usize,
    width: usize,
}

/// An error before its span became a line and a column.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Problem {
    pub(crate) span: Range<usize>,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) note: Option<(Range<usize>, String)>,
    /// It may only be a consequence of a syntax error elsewhere, such as a key that is missing.
    pub(crate) needs_whole_file: bool,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { span, path: path.into(), message: message.into(), help: None, note: None, needs_whole_file: false }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }

    pub(crate) fn note(self, span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { note: Some((span, message.into())), ..self }
    }

    pub(crate) fn needs_whole_file(self) -> Problem {
        Problem { needs_whole_file: true, ..self }
    }
}

impl ConfigErrors {
    /// Places the problems in the text, in the order of the text. `dropped` are problems that were found, but not kept.
    pub(crate) fn new(text: &str, file_name: &str, mut problems: Vec<Problem>, dropped: usize) -> ConfigErrors {
        problems.sort_by(|a, b| (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message)));
        problems.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let omitted = problems.len().saturating_sub(ERRORS_MAX) + dropped;
        problems.truncate(ERRORS_MAX);
        let lines = Lines::new(text);
        let items = problems.into_iter().map(|problem| lines.place(problem)).collect();
        ConfigErrors { file_name: file_name.into(), items, omitted }
    }

    /// The errors, in the order of the file; at most [`ERRORS_MAX`].
    pub fn items(&self) -> &[ConfigError] {
        &self.items
    }

    /// Errors found beyond [`ERRORS_MAX`].
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// The errors for people: each with its place, the source line with the wrong part underlined, and help.
    pub fn render(&self, color: bool) -> String {
        let paint = if color { &COLORS } else { &PLAIN };
        let mut out = String::new();
        for item in &self.items {
            self.render_item(&mut out, item, paint);
        }
        let count = self.items.len() + self.omitted;
        let errors = if count == 1 { "1 error".into() } else { format!("{count} errors") };
        let shown = if self.omitted == 0 { String::new() } else { format!(", the first {} shown", self.items.len()) };
        out.push_str(&format!("{}{errors} in {}{shown}{}\n", paint.bold, self.file_name, paint.reset));
        out
    }

    fn render_item(&self, out: &mut String, item: &ConfigError, paint: &Paint) {
        let Paint { red, green, blue, bold, reset } = paint;
        let number_width = item.line.max(item.note.as_ref().map_or(0, |note| note.line)).to_string().len();
        let gutter = " ".repeat(number_width);
        let place = |out: &mut String, line: usize, column: usize, excerpt: &Excerpt, mark: &str, color: &str| {
            let marks = mark.repeat(excerpt.width);
            let before = " ".repeat(excerpt.start);
            let _ = writeln!(out, "{gutter}{blue}-->{reset} {}:{line}:{column}", self.file_name);
            let _ = writeln!(out, "{gutter} {blue}|{reset}");
            let _ = writeln!(out, "{blue}{line:>number_width$} |{reset} {}", excerpt.text);
            let _ = writeln!(out, "{gutter} {blue}|{reset} {before}{color}{marks}{reset}");
        };
        let _ = writeln!(out, "{red}error{reset}{bold}: {}{reset}", printable(&item.message));
        place(out, item.line, item.column, &item.excerpt, "^", red);
        if let Some(help) = &item.help {
            let _ = writeln!(out, "{gutter} {blue}={reset} {bold}help{reset}: {}", printable(help));
        }
        if let Some(note) = &item.note {
            let _ = writeln!(out, "{green}note{reset}: {}", printable(&note.message));
            place(out, note.line, note.column, &note.excerpt, "-", green);
        }
        out.push('\n');
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigError {
    /// One line: place and message, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, printable(&self.message))?;
        match &self.help {
            Some(help) => write!(f, " ({})", printable(help)),
            None => Ok(()),
        }
    }
}

/// Terminal colours; empty strings for none.
struct Paint {
    red: &'static str,
    green: &'static str,
    blue: &'static str,
    bold: &'static str,
    reset: &'static str,
}

const PLAIN: Paint = Paint { red: "", green: "", blue: "", bold: "", reset: "" };
const COLORS: Paint = Paint { red: "\x1b[1;31m", green: "\x1b[1;32m", blue: "\x1b[1;34m", bold: "\x1b[1m", reset: "\x1b[0m" };

/// Turns byte offsets into lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn place(&self, problem: Problem) -> ConfigError {
        let Problem { span, path, message, help, note, needs_whole_file: _ } = problem;
        let (line, column, excerpt) = self.locate(span);
        let note = note.map(|(span, message)| {
            let (line, column, excerpt) = self.locate(span);
            Note { line, column, message, excerpt }
        });
        ConfigError { line, column, message, help, path, note, excerpt }
    }

    fn locate(&self, span: Range<usize>) -> (usize, usize, Excerpt) {
        let start = self.floor_char(span.start);
        let end = self.floor_char(span.end).max(start);
        let index = self.starts.partition_point(|line_start| *line_start <= start).saturating_sub(1);
        let line_start = self.starts[index];
        let line = self.text[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let line_end = line_start + line.len();
        let before = self.text[line_start..start.min(line_end)].chars().count();
        let width = self.text[start.min(line_end)..end.min(line_end)].chars().count();
        if mask::is_inside_text(&self.text[..line_start]) {
            // A line of a long text, such as a template, may hold a secret under any name.
            return (index + 1, before + 1, excerpt(mask::MASK, 0, mask::MASK.len()));
        }
        let in_pool = mask::is_in_pool(&self.text[..line_start]);
        let (masked, shown_before, shown_width) = mask::mask(line, in_pool, before, width);
        (index + 1, before + 1, excerpt(&masked, shown_before, shown_width))
    }

    /// The offset, moved into the text and to the start of a character.
    fn floor_char(&self, at: usize) -> usize {
        (0..=at.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// The part of a line around the wrong characters.
fn excerpt(line: &str, before: usize, width: usize) -> Excerpt {
    let skipped = if before + width.min(EXCERPT_CHARS_BEFORE) <= EXCERPT_CHARS_MAX { 0 } else { before - EXCERPT_CHARS_BEFORE };
    let mut text = String::from(if skipped > 0 { "..." } else { "" });
    let lead = text.len();
    let mut rest = line.chars().skip(skipped);
    text.extend(rest.by_ref().take(EXCERPT_CHARS_MAX));
    let kept = text.chars().count() - lead;
    if rest.next().is_some() {
        text.push_str("...");
    }
    let start = before - skipped;
    let width = width.min(kept.saturating_sub(start)).max(1);
    Excerpt { text: printable(&text), start: start + lead, width }
}

/// Tabs become one space, so that columns stay columns; what a terminal would obey becomes a replacement character.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, span: Range<usize>) -> ConfigError {
        let errors = ConfigErrors::new(text, "weir.toml", vec![Problem::new(span, "a.b", "wrong")], 0);
        errors.items()[0].clone()
    }

    #[test]
    fn places_count_characters_from_one() {
        for (text, span, line, column) in [
            ("abc", 0..1, 1, 1),
            ("a\nbc", 3..4, 2, 2),
            ("é = x", 5..6, 1, 5),
            ("a\r\nb", 1..3, 1, 2),
            ("", 0..0, 1, 1),
            ("abc", 90..99, 1, 4),
            ("é", 1..1, 1, 1),
            ("a\n", 2..2, 2, 1),
        ] {
            let error = one(text, span);
            assert_eq!((error.line, error.column), (line, column), "{text:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_wrong_part() {
        let text = format!("{}bad{}", "x".repeat(5000), "y".repeat(5000));
        let excerpt = one(&text, 5000..5003).excerpt;
        assert!(excerpt.text.len() < 200);
        assert_eq!(&excerpt.text[excerpt.start..excerpt.start + excerpt.width], "bad");
    }

    #[test]
    fn a_terminal_is_not_steered_by_the_file() {
        let text = "a = \"\x1b[2J\u{202e}\"";
        let errors = ConfigErrors::new(text, "f", vec![Problem::new(0..1, "", "\x1b[2J")], 0);
        assert!(!errors.render(false).contains(['\x1b', '\u{202e}']));
    }

    #[test]
    fn errors_beyond_the_bound_are_counted() {
        let problems = (0..ERRORS_MAX + 7).map(|i| Problem::new(0..1, "", format!("{i}"))).collect();
        let errors = ConfigErrors::new("x", "f", problems, 3);
        assert_eq!((errors.items().len(), errors.omitted()), (ERRORS_MAX, 10));
        assert!(errors.render(false).contains("110 errors in f, the first 100 shown"));
    }
}
