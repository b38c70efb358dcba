//! Where commands print.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::render::Screen;

/// Columns of a terminal that does not tell.
const WIDTH_DEFAULT: u16 = 100;

/// Below this a table is unreadable whatever is done.
const WIDTH_MIN: u16 = 60;

/// Standard output and how to write on it.
pub(super) struct Output {
    /// JSON was asked for.
    pub json: bool,
    /// For people.
    pub screen: Screen,
    /// Standard output is a terminal.
    pub is_terminal: bool,
}

impl Output {
    /// Looks at standard output.
    pub(super) fn new(json: bool) -> Output {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        let columns = rustix::termios::tcgetwinsize(&stdout).map(|size| size.ws_col).ok().filter(|columns| *columns > 0);
        let width = is_terminal.then(|| columns.unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN));
        Output { json, screen: Screen { width, color: is_terminal && color_wanted() }, is_terminal }
    }

    /// Prints text.
    pub(super) fn text(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Prints a value as JSON.
    pub(super) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.text(&format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Prints a value as JSON, or the text.
    pub(super) fn either(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { self.json(value) } else { self.text(&text()) }
    }

    /// Says on standard error what went wrong, whole: with every cause.
    pub(super) fn error(&self, error: &anyhow::Error) {
        self.note(&format!("weir: {error:#}"));
    }

    /// Says something on standard error, where it does not disturb who reads the output.
    pub(super) fn note(&self, text: &str) {
        // Nobody is left to tell when this fails.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Standard error for coloured errors.
pub(super) fn stderr_color() -> bool {
    std::io::stderr().is_terminal() && color_wanted()
}

/// <https://no-color.org>; and a terminal that cannot.
fn color_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
