//! `haproxy.cfg`: frontends become listeners, backends pools, rules routes.
//!
//! - `words`, `section`: the text. `acl`, `expression`: who is meant. `bind`: where is listened.
//! - `frontend`: listeners with what they ask before a pool is picked (`actions`). `backend`, `check`: pools and their probes.
//! - `known`: words that need no counterpart, and words that have none.

mod acl;
mod actions;
mod backend;
mod bind;
mod check;
mod expression;
mod frontend;
mod known;
mod section;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::draft::Draft;
use crate::note::Notes;
use crate::text::{text, time};
use section::Section;
use words::Statement;

/// What frontends must know of the rest of the file.
struct World<'a> {
    /// Backends by their name there: our name, and what is written.
    backends: BTreeMap<&'a str, (String, &'a Section)>,
    /// Where relative names of certificates begin.
    certificates: Option<&'a str>,
    /// Where those of authorities begin.
    authorities: Option<&'a str>,
}

/// Adds what the file says to the draft.
pub(crate) fn convert(text: &str, draft: &mut Draft, notes: &mut Notes) {
    let sections = section::sections(text, notes);
    let mut backends = BTreeMap::new();
    for section in sections.iter().filter(|section| has_servers(section)) {
        if backends.contains_key(section.name.as_str()) {
            notes.not_converted(section.line, &format!("{} {}", section.kind, section.name), "there is one of that name above");
            continue;
        }
        backends.insert(section.name.as_str(), (draft.pool_names.fresh(&section.name), section));
    }
    let world = World { certificates: of_global(&sections, "crt-base"), authorities: of_global(&sections, "ca-base"), backends };
    for section in &sections {
        match section.kind {
            "global" => process(section, draft, notes),
            "defaults" => known::look(section, notes),
            "frontend" | "listen" => {
                known::look(section, notes);
                frontend::convert(section, &world, draft, notes);
            }
            "backend" => known::look(section, notes),
            kind => {
                let why = match kind {
                    "resolvers" => "names are resolved by the system's resolver, again and again",
                    "peers" => "there are no tables to share",
                    "mailers" => "write [notify.NAME.email]",
                    "userlist" => "weir asks nobody for a password",
                    "cache" => "weir does not cache",
                    _ => "weir has no such section",
                };
                notes.not_converted(section.line, &format!("{kind} {}", section.name), why);
            }
        }
    }
    for (pool, section) in world.backends.values() {
        backend::convert(pool, section, &sections, draft, notes);
    }
}

/// The value of a word of `global`.
fn of_global<'a>(sections: &'a [Section], word: &str) -> Option<&'a str> {
    let mut statements = sections.iter().filter(|section| section.kind == "global").flat_map(|section| &section.statements);
    statements.rfind(|statement| statement.word(0) == word).map(|statement| statement.word(1)).filter(|path| !path.is_empty())
}

/// A backend becomes a pool even when it is empty: frontends name it.
fn has_servers(section: &Section) -> bool {
    section.kind == "backend" || (section.kind == "listen" && section.statements.iter().any(is_server))
}

fn is_server(statement: &Statement) -> bool {
    matches!(statement.word(0), "server" | "server-template")
}

/// `global`: what of it is ours to say.
fn process(section: &Section, draft: &mut Draft, notes: &mut Notes) {
    for statement in &section.statements {
        let place = notes.place(statement.line);
        let value = statement.word(1);
        match statement.word(0) {
            "nbthread" => match value.parse::<u32>() {
                Ok(threads) => draft.once("node", place).set("workers", threads.to_string(), place),
                Err(_) => notes.not_converted(statement.line, &statement.shown(), "it is not a number"),
            },
            "node" => draft.once("node", place).set("name", text(value), place),
            "hard-stop-after" => match duration(value) {
                Some(after) => draft.once("node", place).set("drain_timeout", time(after), place),
                None => notes.not_converted(statement.line, &statement.shown(), "it is not a duration"),
            },
            _ => known::global(statement, notes),
        }
    }
}

/// A duration: milliseconds unless a unit says otherwise (HAProxy's manual, section 2.5). Microseconds are rounded up.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "us" => number.div_ceil(1000),
        "" | "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("5000", Some(5000)),
            ("5s", Some(5000)),
            ("1500ms", Some(1500)),
            ("10us", Some(1)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("5 s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }
}
