//! Configuration of others as ours: `haproxy.cfg` and `keepalived.conf` become one `weir.toml`, as far as it means the same.
//!
//! ```text
//!   text ──► statements ──► draft: tables, each line with its origin ──► settle ──► TOML that weir takes
//!            haproxy/,          site, condition                            │
//!            keepalived/                                                   └──► notes: file:line, what, why
//! ```
//!
//! What has no counterpart is never guessed: it becomes a [`Note`]. What means almost the same is converted and noted as changed. What this room
//! believes to be right is read by `weir-config` before it is handed out; a line that is refused there is taken out and noted too, together
//! with all that would mean something else without it, so that the result always passes `weir check`.
//!
//! - [`import`]: the whole way. [`recognise`]: whose file it is.
//! - `haproxy`, `keepalived`: each from text to draft. `condition`, `rules`: who takes a request, as routes.
//! - `draft`: tables being written. `note`: what a person must know. `text`: values as TOML.
//!
//! What is deliberately not here: files and the command line. Files that the text includes are not opened.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod condition;
mod draft;
mod haproxy;
mod keepalived;
mod note;
mod rules;
mod text;

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use draft::Draft;
use note::Notes;

pub use note::{Note, Outcome};

/// The most lines of one file that are read: more than any that people write, few enough to be read in moments.
pub const LINES_MAX: usize = 20_000;

/// Whose configuration it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `haproxy.cfg`.
    Haproxy,
    /// `keepalived.conf`.
    Keepalived,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Haproxy => "HAProxy",
            Format::Keepalived => "keepalived",
        })
    }
}

/// A file to convert.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, for notes and comments.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
    /// Whose it is.
    pub format: Format,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// A configuration of ours, with a comment at each table that says where it came from. `weir check` takes it.
    pub toml: String,
    /// What a person must know, in the order of the files.
    pub notes: Vec<Note>,
    /// Notes beyond the most that are kept.
    pub notes_omitted: usize,
}

/// Nothing could be made of it.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is larger than anything people write.
    #[error("{name} has more than {LINES_MAX} lines; convert it in parts")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// The draft holds mistakes that cannot be taken out one by one.
    #[error("what was made of it is not taken by weir: {reason}; please report this with the file")]
    Unsettled {
        /// The first mistake.
        reason: String,
    },
}

/// Whose file this is, by the words that only one of them has.
pub fn recognise(text: &str) -> Option<Format> {
    text.lines().take(LINES_MAX).find_map(|line| {
        let word = line.split_whitespace().next()?;
        match word.trim_end_matches('{') {
            "global" | "defaults" | "frontend" | "backend" | "listen" | "resolvers" => Some(Format::Haproxy),
            "global_defs" | "vrrp_instance" | "vrrp_sync_group" | "vrrp_script" | "virtual_server" | "virtual_server_group" => {
                Some(Format::Keepalived)
            }
            _ => None,
        }
    })
}

/// Converts the files into one configuration.
///
/// # Errors
/// A file is far too large, or the result could not be made right. What could not be converted is no error but a note.
pub fn import(sources: &[Source<'_>]) -> Result<Imported, ImportError> {
    let mut draft = Draft::default();
    let mut notes = Notes::new(sources.iter().map(|source| source.name.to_owned()).collect());
    for (file, source) in sources.iter().enumerate() {
        if source.text.lines().nth(LINES_MAX).is_some() {
            return Err(ImportError::TooLarge { name: source.name.to_owned() });
        }
        notes.turn_to(file);
        match source.format {
            Format::Haproxy => haproxy::convert(source.text, &mut draft, &mut notes),
            Format::Keepalived => keepalived::convert(source.text, &mut draft, &mut notes),
        }
    }
    let toml = draft.settle(&mut notes)?;
    let (notes, notes_omitted) = notes.finish();
    Ok(Imported { toml, notes, notes_omitted })
}
