//! What happens on this node, as alarms: what begins, and what ends it. Pure.

use std::collections::BTreeSet;

use weir_config::Severity;
use weir_hypervisor::{HostState, HostView};
use weir_lb::event::EventKind as NodeKind;
use weir_lb::status::Status;
use weir_lb::tls::{CertificateStatus, ShownCertificate};
use weir_notify::engine::{Input, Raise};

use super::keys;
use crate::api::model::AlarmItem;
use crate::event::{EventKind, HistoryEvent, ScalingEvent, VipEvent};

/// The file that was refused.
const RELOAD: &str = "reload";
/// How the keys of certificates begin.
const CERTIFICATES: &str = "certificate/";
/// How those of certificates that are shown to endpoints begin.
const SHOWN: &str = "shown-certificate/";
/// How the keys of changes of virtual IPs begin.
pub(super) const VIPS: &str = "vip/";
/// There are no virtual IPs though the file has some.
pub(super) const VIPS_OFF: &str = "vips";
/// The history is in memory alone.
pub(super) const HISTORY: &str = "history";
/// How the keys of hosts begin.
pub(super) const HOSTS: &str = "host/";

/// An alarm by its kind, with what it is about and what it says.
fn raise(key: String, alarm: &str, severity: Severity, labels: &[(&str, &str)], values: &[(&str, String)]) -> Raise {
    let mut labels: std::collections::BTreeMap<_, _> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.insert("alarm".into(), alarm.into());
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    // The words are those of the language files.
    Raise { key, labels, severity, summary: alarm.replace('-', " "), values, series: None }
}

fn floor(pool: &str, healthy: u32, min_healthy: u32) -> Raise {
    let values = [("healthy", healthy.to_string()), ("min_healthy", min_healthy.to_string())];
    raise(keys::floor(pool), "pool-below-floor", Severity::Critical, &[("pool", pool)], &values)
}

fn endpoint(pool: &str, endpoint: &str, evidence: &str) -> Raise {
    let labels = [("pool", pool), ("endpoint", endpoint)];
    raise(keys::endpoint(pool, endpoint), "endpoint-down", Severity::Warning, &labels, &[("evidence", evidence.to_owned())])
}

/// There are no virtual IPs.
pub(super) fn vips_unavailable(reason: String) -> Raise {
    raise(VIPS_OFF.into(), "vips-unavailable", Severity::Critical, &[], &[("reason", reason)])
}

/// What happens is kept in memory alone.
pub(super) fn history_failed(reason: String) -> Raise {
    raise(HISTORY.into(), "history-failed", Severity::Warning, &[], &[("reason", reason)])
}

fn certificate_key(listener: &str, file: &str) -> String {
    format!("{CERTIFICATES}{listener}/{file}")
}

fn shown_key(pool: &str, file: &str) -> String {
    format!("{SHOWN}{pool}/{file}")
}

/// What an event says. A change of a virtual IP ends by itself: see [`vip_key`].
pub(super) fn of_event(kind: &EventKind) -> Option<Input> {
    match kind {
        EventKind::Node(kind) => of_node(kind),
        EventKind::Vip(VipEvent::VipState { vip, family, from, to, reason }) => {
            // At the start every node becomes something.
            if *from == "initialize" && *to == "backup" {
                return None;
            }
            let values = [("from", (*from).to_owned()), ("to", (*to).to_owned()), ("reason", reason.clone())];
            Some(Input::Raise(raise(vip_key(vip, family), "vip-moved", Severity::Warning, &[("vip", vip), ("family", family)], &values)))
        }
        EventKind::Vip(VipEvent::VipsUnavailable { reason }) => Some(Input::Raise(vips_unavailable(reason.clone()))),
        EventKind::Scaling(ScalingEvent::AlarmChanged { alarm, severity, to, reason, quiet, series, .. }) => {
            of_alarm(alarm, severity, to, reason, *quiet).map(|input| with_series(input, series.as_deref()))
        }
        EventKind::History(HistoryEvent::Failed { reason }) => Some(Input::Raise(history_failed(reason.clone()))),
        EventKind::History(HistoryEvent::Recovered { .. }) => Some(Input::Clear(HISTORY.into())),
        EventKind::Vip(VipEvent::VipNotice { .. })
        | EventKind::Notify(_)
        | EventKind::Recovery(_)
        | EventKind::Acme(_)
        | EventKind::History(_)
        | EventKind::Api(_)
        | EventKind::Scaling(_)
        | EventKind::Machines(_)
        | EventKind::Acted(_) => None,
    }
}

/// An alarm of the file.
fn of_alarm(alarm: &str, severity: &str, to: &str, reason: &str, quiet: bool) -> Option<Input> {
    let key = keys::alarm(alarm);
    match to {
        "ok" => Some(Input::Clear(key)),
        "alarm" if !quiet => {
            let severity = Severity::from_word(severity).unwrap_or_default();
            let mut raise = raise(key, alarm, severity, &[], &[("reason", reason.to_owned())]);
            raise.summary = reason.to_owned();
            Some(Input::Raise(raise))
        }
        _ => None,
    }
}

fn of_node(kind: &NodeKind) -> Option<Input> {
    Some(match kind {
        NodeKind::Floor { pool, healthy, min_healthy, below: true } => Input::Raise(floor(pool, *healthy, *min_healthy)),
        NodeKind::Floor { pool, below: false, .. } => Input::Clear(keys::floor(pool)),
        NodeKind::Health { pool, endpoint: name, healthy: false, evidence } => Input::Raise(endpoint(pool, name, evidence)),
        NodeKind::Health { pool, endpoint, healthy: true, .. } => Input::Clear(keys::endpoint(pool, endpoint)),
        NodeKind::CertificateExpires { listener, file, left_s, expired } => {
            let labels = [("listener", &**listener), ("file", file.as_str())];
            expires(certificate_key(listener, file), &labels, *left_s, *expired)
        }
        NodeKind::EndpointCertificateExpires { pool, file, left_s, expired } => {
            expires(shown_key(pool, file), &[("pool", &**pool), ("file", file.as_str())], *left_s, *expired)
        }
        NodeKind::EndpointTlsLoaded { pool } => Input::Active { prefix: shown_key(pool, ""), keys: BTreeSet::new() },
        NodeKind::CertificatesLoaded { listener, .. } => Input::Active { prefix: certificate_key(listener, ""), keys: BTreeSet::new() },
        NodeKind::ReloadRefused { .. } => Input::Raise(raise(RELOAD.into(), "reload-refused", Severity::Warning, &[], &[])),
        NodeKind::Reloaded { .. } => file_is_good(),
        _ => return None,
    })
}

/// With the picture of its metric, where something begins.
fn with_series(input: Input, series: Option<&weir_notify::message::Series>) -> Input {
    match input {
        Input::Raise(raise) => Input::Raise(Raise { series: series.cloned(), ..raise }),
        other => other,
    }
}

/// The alarm of a change of this virtual IP. Nothing ends it but time.
pub(super) fn vip_key(vip: &str, family: &str) -> String {
    format!("{VIPS}{vip}/{family}")
}

/// What a process may say that has begun with the file.
pub(super) fn file_is_good() -> Input {
    Input::Clear(RELOAD.into())
}

/// What is wrong with pools and endpoints now.
pub(super) fn of_status(status: &Status) -> Vec<Raise> {
    let mut found = Vec::new();
    for pool in &status.pools {
        if pool.below_floor {
            found.push(floor(&pool.name, pool.healthy, pool.min_healthy));
        }
        let down = pool.endpoints.iter().filter(|endpoint| endpoint.health == "unhealthy");
        found.extend(down.map(|down| endpoint(&pool.name, &down.address, &down.evidence)));
    }
    found
}

/// What is wrong with hosts now. One that never answered may be new; one that does not answer any more is lost.
pub(super) fn of_hosts(hosts: &[HostView]) -> Vec<Raise> {
    let lost = |host: &HostView| match &host.state {
        HostState::Unknown { why, .. } => {
            let key = format!("{HOSTS}{}", host.name);
            Some(raise(key, "host-lost", Severity::Critical, &[("host", &host.name)], &[("reason", why.clone())]))
        }
        HostState::Up | HostState::Connecting { .. } => None,
    };
    hosts.iter().filter_map(lost).collect()
}

/// What there is that something may be wrong with: whatever is gone tells nothing more.
pub(super) fn of_sources(
    status: &Status,
    hosts: &[HostView],
    certificates: &[CertificateStatus],
    shown: &[ShownCertificate],
    alarms: &[AlarmItem],
) -> [Input; 5] {
    let pools = status.pools.iter().flat_map(|pool| {
        let endpoints = pool.endpoints.iter().map(move |endpoint| keys::endpoint(&pool.name, &endpoint.address));
        endpoints.chain([keys::floor(&pool.name)])
    });
    let hosts = hosts.iter().map(|host| format!("{HOSTS}{}", host.name));
    let certificates = certificates.iter().map(|one| certificate_key(&one.listener.0, &one.file.display().to_string()));
    let shown = shown.iter().map(|(pool, file, _)| shown_key(&pool.0, &file.display().to_string()));
    let alarms = alarms.iter().map(|alarm| keys::alarm(&alarm.name));
    [
        Input::Sources { prefix: keys::DATA_PLANE.to_owned(), keys: pools.collect() },
        Input::Sources { prefix: HOSTS.to_owned(), keys: hosts.collect() },
        Input::Sources { prefix: CERTIFICATES.to_owned(), keys: certificates.collect() },
        Input::Sources { prefix: SHOWN.to_owned(), keys: shown.collect() },
        Input::Sources { prefix: keys::alarm(""), keys: alarms.collect() },
    ]
}

/// What may still be wrong of alarms of the file, which only tell when something changes.
pub(super) fn of_file(alarms: &[AlarmItem]) -> Input {
    let alarms = alarms.iter().filter(|alarm| alarm.state != "ok").map(|alarm| keys::alarm(&alarm.name));
    Input::Active { prefix: keys::alarm(""), keys: alarms.collect() }
}

fn expires(key: String, labels: &[(&str, &str)], left_s: i64, expired: bool) -> Input {
    let severity = if expired { Severity::Critical } else { Severity::Warning };
    Input::Raise(raise(key, "certificate-expires", severity, labels, &[("left", format!("{} d", left_s / 86_400))]))
}

/// These and no others, of all whose keys begin so.
pub(super) fn exactly(prefix: &str, raises: Vec<Raise>) -> Vec<Input> {
    let keys = raises.iter().map(|raise| raise.key.clone()).collect();
    let active = Input::Active { prefix: prefix.to_owned(), keys };
    std::iter::once(active).chain(raises.into_iter().map(Input::Raise)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::keys::DATA_PLANE;

    #[test]
    fn what_begins_ends_under_the_same_key() {
        let down = |healthy| NodeKind::Health { pool: "web".into(), endpoint: "a:1".into(), healthy, evidence: "refused".into() };
        let floor = |below| NodeKind::Floor { pool: "web".into(), healthy: 0, min_healthy: 1, below };
        for (begins, ends) in [(down(false), down(true)), (floor(true), floor(false))] {
            let Some(Input::Raise(raise)) = of_event(&begins.into()) else { panic!("nothing begins") };
            assert_eq!(of_event(&ends.into()), Some(Input::Clear(raise.key.clone())));
            assert!(raise.key.starts_with(DATA_PLANE) && raise.labels["pool"] == "web");
        }
        let loaded = NodeKind::CertificatesLoaded { listener: "web".into(), certificates: 1, changed: 1 };
        assert!(matches!(of_event(&loaded.into()), Some(Input::Active { prefix, .. }) if prefix == "certificate/web/"));
    }

    #[test]
    fn an_alarm_of_the_file_is_told_unless_it_is_quiet() {
        assert!(matches!(of_alarm("busy", "critical", "alarm", "cpu 90", false),
            Some(Input::Raise(raise)) if raise.key == "alarm/busy" && raise.severity == Severity::Critical && raise.summary == "cpu 90"
                && raise.labels["alarm"] == "busy"));
        assert_eq!(of_alarm("busy", "critical", "alarm", "cpu 90", true), None);
        assert_eq!(of_alarm("busy", "critical", "insufficient-data", "", false), None);
        assert_eq!(of_alarm("busy", "critical", "ok", "", false), Some(Input::Clear("alarm/busy".into())));
    }

    #[test]
    fn an_alarm_brings_its_metric() {
        let series = weir_notify::message::Series { name: "cpu".into(), ..Default::default() };
        let Some(input) = of_alarm("busy", "critical", "alarm", "cpu 90", false) else { panic!("nothing begins") };
        assert!(matches!(with_series(input, Some(&series)), Input::Raise(raise) if raise.series == Some(series.clone())));
        assert_eq!(with_series(Input::Clear("x".into()), Some(&series)), Input::Clear("x".into()));
    }

    /// Each alarm has its words in every language.
    #[test]
    fn every_alarm_has_words() {
        let vip = |from, to| VipEvent::VipState { vip: "v".into(), family: "ipv4", from, to, reason: String::new() };
        assert_eq!(of_event(&vip("initialize", "backup").into()), None);
        let expires = NodeKind::CertificateExpires { listener: "l".into(), file: "f".into(), left_s: 1, expired: false };
        let shown = NodeKind::EndpointCertificateExpires { pool: "p".into(), file: "f".into(), left_s: -1, expired: true };
        let events: [EventKind; 6] = [
            shown.into(),
            HistoryEvent::Failed { reason: String::new() }.into(),
            vip("backup", "master").into(),
            VipEvent::VipsUnavailable { reason: String::new() }.into(),
            expires.into(),
            NodeKind::ReloadRefused { reason: String::new() }.into(),
        ];
        for event in events {
            let Some(Input::Raise(raise)) = of_event(&event) else { panic!("{event:?} begins nothing") };
            assert!(weir_config::Language::all().all(|language| language.alarm(&raise.labels["alarm"]).is_some()), "{event:?}");
        }
    }
}
