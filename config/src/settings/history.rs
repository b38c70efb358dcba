//! `[history]` as settings.

use super::Setting;
use crate::model::History;
use crate::units::{format_duration, format_size};

pub(crate) fn of_history(history: &History) -> Vec<Setting> {
    let History { enabled, size_max, events, audit, samples_10s, samples_1m, samples_1h } = history;
    vec![
        ("enabled", enabled.to_string()),
        ("size_max", format_size(*size_max)),
        ("events", format_duration(*events)),
        ("audit", audit.map_or("for ever".into(), format_duration)),
        ("samples_10s", format_duration(*samples_10s)),
        ("samples_1m", format_duration(*samples_1m)),
        ("samples_1h", format_duration(*samples_1h)),
    ]
}
