//! `[incident]`: settings of all incidents.

use std::time::Duration;

use crate::reader::Table;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys};
use crate::units::format_duration;

/// Settings of all incidents.
#[derive(Clone, PartialEq, Debug)]
pub struct IncidentSettings {
    /// `url`: under which people reach the API of this node; without a slash at its end. Absent: messages have no links.
    pub url: Option<String>,
    /// `keep`: how long a resolved incident and a delivered message can be looked at. Default 30 days.
    pub keep: Duration,
    /// `resolve_after`: how long all alarms must be over before the incident is. Default 0.
    pub resolve_after: Duration,
    /// `acknowledge_link`: how long the link in a message works. Default 24 h.
    pub acknowledge_link: Duration,
}

impl Default for IncidentSettings {
    fn default() -> IncidentSettings {
        IncidentSettings {
            url: None,
            keep: Duration::from_secs(720 * 3600),
            resolve_after: Duration::ZERO,
            acknowledge_link: Duration::from_secs(24 * 3600),
        }
    }
}

pub(super) static INCIDENT: Keys = Keys {
    place: "[incident]",
    about: "Settings of all incidents.",
    keys: &[
        Key::text(
            "url",
            "\"https://lb.example.com\"",
            "Under which people reach the API of this node, for the links in messages; absent: no links.",
        ),
        Key::time("keep", "\"720h\"", "How long a resolved incident and a delivered message can be looked at.").default("720h"),
        Key::time(
            "resolve_after",
            "\"1m\"",
            "How long all its alarms must be over before an incident is: one that comes back meanwhile is the same.",
        )
        .zero("at once")
        .default("0s"),
        Key::time("acknowledge_link", "\"24h\"", "How long the link in a message, which works once, is good.").default("24h"),
    ],
};

pub(super) fn incident(table: &Table<'_>) -> IncidentSettings {
    let url = table.field("url").and_then(|field| {
        let text = field.text()?;
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or("");
        let good = !rest.is_empty() && rest.len() <= 1000 && rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}@?#".contains(&b));
        field.checked(if good {
            Ok(text.trim_end_matches('/').to_owned())
        } else {
            Err("this is not the URL of a server; write \"https://lb.example.com\"".to_owned())
        })
    });
    IncidentSettings {
        url,
        keep: table.time("keep").unwrap_or_default(),
        resolve_after: table.time("resolve_after").unwrap_or_default(),
        acknowledge_link: table.time("acknowledge_link").unwrap_or_default(),
    }
}

pub(super) fn settings(incident: &IncidentSettings) -> Vec<Setting> {
    let IncidentSettings { url, keep, resolve_after, acknowledge_link } = incident;
    vec![
        ("url", url.clone().unwrap_or(NONE.into())),
        ("keep", format_duration(*keep)),
        ("resolve_after", format_duration(*resolve_after)),
        ("acknowledge_link", format_duration(*acknowledge_link)),
    ]
}
