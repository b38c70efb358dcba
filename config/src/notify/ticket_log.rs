//! `[notify.NAME.ticket_log]`

use std::path::PathBuf;

use crate::parse::absolute_path;
use crate::reader::Table;
use crate::settings::Setting;
use crate::spec::{Key, Keys};

/// A file that is only ever appended to.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketLogChannel {
    /// `path`
    pub path: PathBuf,
}

pub(super) static TICKET_LOG: Keys = Keys {
    place: "[notify.NAME.ticket_log]",
    about: "A ticket log: one line of JSON for each message, only ever appended.",
    keys: &[Key::text("path", "\"/var/log/weir/tickets.log\"", "The file, an absolute path. Its folder must be there.").required()],
};

pub(super) fn ticket_log(table: &Table<'_>) -> Option<TicketLogChannel> {
    absolute_path(table, "path").map(|path| TicketLogChannel { path })
}

pub(super) fn settings(log: &TicketLogChannel) -> Vec<Setting> {
    let TicketLogChannel { path } = log;
    vec![("ticket_log.path", path.display().to_string())]
}
