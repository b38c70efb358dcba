//! The JSON of Prometheus' Alertmanager, version 4 of its webhooks, so that what reads that reads us. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::body::timestamp;
use crate::message::{Alarm, Message, State};
use crate::text;

/// When what is not over ends: so Go writes "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn body(message: &Message, channel: &str, language: &str) -> String {
    let words = message.text(language);
    let url = message.links.incident.clone().unwrap_or_default();
    let status = |is_over: bool| if is_over { "resolved" } else { "firing" };
    let alerts: Vec<Value> = message.alarms.iter().map(|alarm| alert(alarm, &url, status)).collect();
    json!({
        "version": "4",
        "groupKey": format!("{}/{}", message.node, message.incident),
        "truncatedAlerts": 0,
        "status": status(message.state == State::Resolved),
        "receiver": channel,
        "groupLabels": message.labels,
        "commonLabels": message.labels,
        "commonAnnotations": { "summary": words.title, "description": words.text },
        "externalURL": url,
        "alerts": alerts,
    })
    .to_string()
}

fn alert(alarm: &Alarm, url: &str, status: impl Fn(bool) -> &'static str) -> Value {
    let mut labels = alarm.labels.clone();
    // Alertmanager calls the name of an alarm so, and its receivers look for it.
    if let Some(name) = labels.remove("alarm") {
        labels.entry("alertname".into()).or_insert(name);
    }
    labels.entry("severity".into()).or_insert(alarm.severity.word().into());
    json!({
        "status": status(alarm.ended_at.is_some()),
        "fingerprint": fingerprint(&labels),
        "labels": labels,
        "annotations": { "summary": text::summary_in_english(alarm) },
        "startsAt": timestamp(alarm.started_at),
        "endsAt": alarm.ended_at.map_or(NEVER.into(), timestamp),
        "generatorURL": url,
    })
}

/// Equal for equal labels: FNV-1a of 64 bits, as Prometheus makes it.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let bytes = labels.iter().flat_map(|(name, value)| [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]].concat());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn an_alarm_that_is_over_has_an_end() {
        let mut message = sample("k", 1_767_571_200_000);
        message.alarms[0].labels.insert("alarm".into(), "pool-below-floor".into());
        let read = |message: &Message| serde_json::from_str::<Value>(&body(message, "hook", "en")).unwrap();
        let firing = read(&message);
        assert_eq!((&firing["status"], &firing["alerts"][0]["endsAt"]), (&json!("firing"), &json!(NEVER)));
        assert_eq!(firing["alerts"][0]["labels"], json!({ "alertname": "pool-below-floor", "pool": "web", "severity": "warning" }));
        message.state = State::Resolved;
        message.alarms[0].ended_at = Some(1_767_571_200_000);
        let resolved = read(&message);
        assert_eq!((&resolved["status"], &resolved["alerts"][0]["endsAt"]), (&json!("resolved"), &json!("2026-01-05T00:00:00Z")));
        assert_eq!(firing["alerts"][0]["fingerprint"], resolved["alerts"][0]["fingerprint"]);
    }
}
