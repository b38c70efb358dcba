//! `[history]`

use crate::model::History;
use crate::reader::Table;

pub(super) fn history(table: &Table<'_>) -> History {
    let default = History::default();
    History {
        enabled: table.flag("enabled").unwrap_or(default.enabled),
        size_max: table.size("size_max").unwrap_or(default.size_max),
        events: table.time("events").unwrap_or(default.events),
        audit: table.time("audit").filter(|time| !time.is_zero()),
        samples_10s: table.time("samples_10s").unwrap_or(default.samples_10s),
        samples_1m: table.time("samples_1m").unwrap_or(default.samples_1m),
        samples_1h: table.time("samples_1h").unwrap_or(default.samples_1h),
    }
}
