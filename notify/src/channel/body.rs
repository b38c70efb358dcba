//! What stands in the fields of bodies that operators write. Pure.

use crate::message::{Message, UnixMs};

/// The value of a field as it is, for the body's syntax to make harmless.
pub(super) fn field(message: &Message, language: &str, name: &str) -> String {
    match name {
        "title" => message.text(language).title.clone(),
        "text" => message.text(language).text.clone(),
        "kind" => message.kind.word().into(),
        "severity" => message.severity.word().into(),
        "state" => message.state.word().into(),
        "count" => message.alarms.len().to_string(),
        "labels" => message.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", "),
        "node" => message.node.clone(),
        "incident" => message.incident.clone(),
        "key" => message.key.clone(),
        "at" => timestamp(message.at),
        "started_at" => timestamp(message.started_at),
        "resolved_at" => message.resolved_at.map_or(String::new(), timestamp),
        "link" => message.links.incident.clone().unwrap_or_default(),
        "acknowledge_link" => message.links.acknowledge.clone().unwrap_or_default(),
        _ => name.strip_prefix("labels.").and_then(|label| message.labels.get(label)).cloned().unwrap_or_default(),
    }
}

/// As RFC 3339 writes it.
pub(super) fn timestamp(at: UnixMs) -> String {
    i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn every_field_of_a_body_has_a_value() {
        let mut message = sample("k-1", 1_767_571_200_000);
        message.links.incident = Some("https://lb/i/1".into());
        message.links.acknowledge = Some("https://lb/ack/1".into());
        message.resolved_at = Some(1_767_571_260_000);
        for name in weir_config::BODY_FIELDS {
            let name = if *name == "labels.*" { "labels.pool" } else { name };
            assert!(!field(&message, "en", name).is_empty(), "{name}");
        }
        assert_eq!(field(&message, "en", "at"), "2026-01-05T00:00:00Z");
    }
}
