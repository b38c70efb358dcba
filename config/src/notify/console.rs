//! `[notify.NAME.console]`

use crate::reader::Table;
use crate::settings::Setting;
use crate::spec::{Key, Keys};

/// This machine's own screens.
#[derive(Clone, PartialEq, Debug)]
pub struct ConsoleChannel {
    /// `journal`: the system's log. Default true.
    pub journal: bool,
    /// `terminals`: every terminal that somebody is logged in at. Default false.
    pub terminals: bool,
}

pub(super) static CONSOLE: Keys = Keys {
    place: "[notify.NAME.console]",
    about: "This machine's own log and screens.",
    keys: &[
        Key::flag("journal", "true", "Into the system's log."),
        Key::flag("terminals", "false", "On every terminal that somebody is logged in at."),
    ],
};

pub(super) fn console(table: &Table<'_>) -> ConsoleChannel {
    let (journal, terminals) = (table.flag("journal").unwrap_or(true), table.flag("terminals").unwrap_or(false));
    if !journal && !terminals {
        table.report(table.problem("journal", "neither journal nor terminals: nobody would be told").help("set one of them to true"));
    }
    ConsoleChannel { journal, terminals }
}

pub(super) fn settings(console: &ConsoleChannel) -> Vec<Setting> {
    let ConsoleChannel { journal, terminals } = console;
    vec![("console.journal", journal.to_string()), ("console.terminals", terminals.to_string())]
}
