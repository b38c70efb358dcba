//! Events as they are kept, and which of them the audit has: what this node decided or carried out by itself, or for somebody.

use serde_json::Value;
use weir_history::Entry;
use weir_history::audit::Act;
use weir_lb::event::EventKind as NodeKind;

use super::moment;
use crate::event::{AcmeEvent, Event, EventKind, MachineEvent, RecoveryEvent, ScalingEvent, VipEvent};

/// What an event is about, the nearest thing first.
const SUBJECTS: [&str; 11] =
    ["alarm", "thing", "recovery", "pool", "vip", "machine", "template", "listener", "channel", "incident", "host"];

/// An event as an entry.
pub(super) fn entry(event: &Event) -> Entry {
    let mut details = match serde_json::to_value(event) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let kind = details.remove("event").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    let subject = SUBJECTS.iter().find_map(|key| details.get(*key)?.as_str()).unwrap_or_default().to_owned();
    Entry { at: moment(event.at), kind, subject, body: Value::Object(details).to_string() }
}

/// An event as a record of the audit; `None`: nobody has changed anything.
pub(super) fn act(event: &Event) -> Option<Act> {
    let act = |who: &str, act: &str, subject: &str, outcome: &str, detail: String| Act {
        at: moment(event.at),
        who: who.to_owned(),
        origin: "node".into(),
        act: act.to_owned(),
        subject: subject.to_owned(),
        outcome: outcome.to_owned(),
        detail,
    };
    let outcome = |error: &Option<String>| error.clone().unwrap_or_else(|| "done".into());
    Some(match &event.kind {
        EventKind::Scaling(ScalingEvent::ScalingDecided { pool, from, to, reason, recommended, .. }) => {
            let verb = if *recommended { "recommend" } else { "scale" };
            act("scaling", verb, pool, "done", format!("{from} -> {to} machines: {reason}"))
        }
        EventKind::Scaling(ScalingEvent::ScalingStep { pool, step, error, .. }) => {
            act("scaling", "carry out a step", pool, &outcome(error), step.clone())
        }
        EventKind::Scaling(ScalingEvent::AlarmRecovery { alarm, error }) => act("alarm", "repair", alarm, &outcome(error), String::new()),
        EventKind::Recovery(RecoveryEvent::RecoveryBegun { recovery, thing, action, reason, .. }) => {
            act("recovery", &format!("try {action}"), thing, "begun", format!("[recovery.{recovery}]: {reason}"))
        }
        EventKind::Recovery(RecoveryEvent::RecoveryTried { recovery, thing, action, outcome, text }) => {
            act("recovery", action, thing, outcome, format!("[recovery.{recovery}]: {text}"))
        }
        EventKind::Acme(AcmeEvent::CertificateIssued { authority, names, .. }) => {
            act("acme", "order a certificate", &names.join(" "), "done", format!("[acme.{authority}]"))
        }
        EventKind::Acme(AcmeEvent::CertificateNotIssued { authority, names, reason, .. }) => {
            act("acme", "order a certificate", &names.join(" "), reason, format!("[acme.{authority}]"))
        }
        EventKind::Acted(MachineEvent::MachineActed { verb, machine, host, by, error, .. }) => {
            let host = host.as_ref().map(|host| format!("on {host}")).unwrap_or_default();
            act(by, verb, machine.as_deref().unwrap_or_default(), &outcome(error), host)
        }
        EventKind::Vip(VipEvent::VipState { vip, family, from, to, reason }) => {
            act("vrrp", "change state", vip, "done", format!("{family}: {from} -> {to}: {reason}"))
        }
        EventKind::Node(NodeKind::Reloaded { revision, changes }) => {
            let changes = if changes.is_empty() { "nothing is different".into() } else { changes.join("; ") };
            act("weir", "reload", "", "done", format!("revision {revision}: {changes}"))
        }
        EventKind::Node(NodeKind::ReloadRefused { reason }) => act("weir", "reload", "", reason, String::new()),
        EventKind::Node(NodeKind::EndpointChanged { pool, endpoint, change, revision }) => {
            act("weir", "change endpoint", pool, "done", format!("{endpoint}: {change}, revision {revision}"))
        }
        EventKind::Node(NodeKind::UpgradeStarted { binary }) => act("weir", "begin upgrade", "", "done", binary.clone()),
        EventKind::Node(NodeKind::Upgraded { pid }) => act("weir", "upgrade", "", "done", format!("pid {pid} serves")),
        EventKind::Node(NodeKind::UpgradeFailed { reason }) => act("weir", "upgrade", "", reason, String::new()),
        EventKind::Node(NodeKind::Draining { timeout_s }) => act("weir", "stop", "", "done", format!("draining for {timeout_s} s at most")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn event(kind: impl Into<EventKind>) -> Event {
        Event { at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500), kind: kind.into() }
    }

    #[test]
    fn an_event_is_kept_whole() {
        let entry = entry(&event(NodeKind::Readmitted { pool: "web".into(), endpoint: "10.0.0.1:80".into() }));
        assert_eq!((entry.at.0, &*entry.kind, &*entry.subject), (1500, "readmitted", "web"));
        assert_eq!(entry.body, r#"{"endpoint":"10.0.0.1:80","pool":"web"}"#);
    }

    #[test]
    fn decisions_are_audited_and_what_only_happens_is_not() {
        let step = ScalingEvent::ScalingStep {
            pool: "web".into(),
            generation: 7,
            step: "remove web-3".into(),
            took_ms: 5,
            error: Some("the host does not answer".into()),
        };
        let act = act(&event(step)).expect("a change");
        assert_eq!((&*act.who, &*act.subject, &*act.outcome, &*act.detail), ("scaling", "web", "the host does not answer", "remove web-3"));
        let tried = RecoveryEvent::RecoveryTried {
            recovery: "web".into(),
            thing: "machine/web-1".into(),
            action: "restart".into(),
            outcome: "healed",
            text: "healed after 14 s".into(),
        };
        let act = super::act(&event(tried)).expect("a change");
        assert_eq!((&*act.who, &*act.act, &*act.subject, &*act.outcome), ("recovery", "restart", "machine/web-1", "healed"));
        let reloaded = NodeKind::Reloaded { revision: 3, changes: vec!["node: name a -> b".into()] };
        assert_eq!(super::act(&event(reloaded)).expect("a change").detail, "revision 3: node: name a -> b");
        assert!(super::act(&event(NodeKind::Readmitted { pool: "web".into(), endpoint: "a:1".into() })).is_none());
    }
}
