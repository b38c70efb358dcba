//! The last events, numbered, for whoever asks and for whoever waits; each also goes to the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};
use tracing::{debug, error, info, warn};
use weir_hypervisor::RoomEvent;
use weir_lb::event::EventKind as NodeKind;

use crate::event::{AcmeEvent, ApiEvent, Event, EventKind, HistoryEvent, MachineEvent, NotifyEvent, RecoveryEvent, ScalingEvent, VipEvent};
use crate::history::Historian;

/// Events kept. At a few hundred bytes each that is a few megabytes at most.
const KEPT: usize = 10_000;

/// A ring of events, which are also kept for later. The numbers go on over an upgrade and over an orderly restart.
#[derive(Debug)]
pub(crate) struct EventLog {
    ring: Mutex<VecDeque<(u64, Arc<Event>)>>,
    last: watch::Sender<u64>,
    historian: Historian,
}

impl EventLog {
    /// Empty; the first number is `last` + 1.
    pub(crate) fn new(last: u64, historian: Historian) -> EventLog {
        EventLog { ring: Mutex::default(), last: watch::Sender::new(last), historian }
    }

    /// Something of the node's own happened.
    pub(crate) fn record(&self, kind: impl Into<EventKind>) {
        self.push(Arc::new(Event { at: SystemTime::now(), kind: kind.into() }));
    }

    fn push(&self, event: Arc<Event>) {
        write_to_log(&event.kind);
        self.historian.event(&event);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        let number = *self.last.borrow() + 1;
        ring.push_back((number, event));
        // While the ring is locked, so that who is woken finds it there.
        self.last.send_replace(number);
    }

    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Those with greater numbers, oldest first.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<(u64, Arc<Event>)> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let after = self.in_this_life(after);
        // The numbers are consecutive, so the place is known.
        let first = ring.front().map_or(0, |(number, _)| *number);
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        ring.iter().skip(skip).take(limit).cloned().collect()
    }

    /// Resolves when there is one with a greater number.
    pub(crate) async fn wait(&self, after: u64) {
        let after = self.in_this_life(after);
        // An error: the log is gone, and with it everything else.
        let _ = self.last.subscribe().wait_for(|last| *last > after).await;
    }

    /// A number that we have not given out yet is from a process that crashed: everything is new to whoever names it.
    fn in_this_life(&self, after: u64) -> u64 {
        if after > self.last() { 0 } else { after }
    }
}

/// Takes over what the director says, until it ends.
pub(crate) async fn pump(log: impl AsRef<EventLog>, mut events: broadcast::Receiver<Arc<weir_lb::event::Event>>) {
    loop {
        match events.recv().await {
            Ok(event) => log.as_ref().push(Arc::new(Event::from(&*event))),
            Err(broadcast::error::RecvError::Lagged(lost)) => warn!(lost, "events came faster than they could be kept"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Takes over what happens with hosts and machines, until they end.
pub(crate) async fn pump_machines(log: impl AsRef<EventLog>, mut events: broadcast::Receiver<RoomEvent>) {
    loop {
        match events.recv().await {
            Ok(event) => log.as_ref().record(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => warn!(lost, "events of machines came faster than they could be kept"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn write_to_log(kind: &EventKind) {
    match kind {
        EventKind::Node(kind) => write_node(kind),
        EventKind::Scaling(kind) => write_scaling(kind),
        EventKind::Recovery(kind) => write_recovery(kind),
        EventKind::Acme(AcmeEvent::CertificateIssued { authority, names, .. }) => {
            info!(%authority, "a certificate for {} was issued", names.join(", "))
        }
        EventKind::Acme(AcmeEvent::CertificateNotIssued { authority, names, reason, again_s, .. }) => {
            error!(%authority, again_s, "no certificate for {}: {reason}", names.join(", "));
        }
        EventKind::Acme(AcmeEvent::AcmeAccountUnusable { reason }) => error!("challenges of other nodes are not answered: {reason}"),
        EventKind::Vip(VipEvent::VipState { vip, family, from, to, reason }) => {
            info!(%vip, family, "{from} became {to}: {reason}");
        }
        EventKind::Vip(VipEvent::VipNotice { vip, family, kind, text, warning: true }) => warn!(%vip, family, kind, "{text}"),
        EventKind::Vip(VipEvent::VipNotice { vip, family, kind, text, warning: false }) => info!(%vip, family, kind, "{text}"),
        EventKind::Vip(VipEvent::VipsUnavailable { reason }) => warn!("virtual IPs are off: {reason}"),
        EventKind::Machines(event) => write_machines(event),
        EventKind::Acted(MachineEvent::MachineActed { verb, machine, host, by, error, .. }) => {
            let (machine, host) = (machine.as_deref().unwrap_or("-"), host.as_deref().unwrap_or("-"));
            match error {
                None => info!(machine, host, by, "{verb}: done"),
                Some(error) => warn!(machine, host, by, "{verb}: failed: {error}"),
            }
        }
        EventKind::Api(ApiEvent::ApiChange { by, request, status }) => info!(by, status, "{request}"),
        EventKind::Api(ApiEvent::SignedIn { name, role, from }) => info!(name, role, from, "signed in"),
        EventKind::Api(ApiEvent::TokenRefused { from, tries }) => warn!(from, tries, "a wrong token"),
        EventKind::Notify(NotifyEvent::ChannelFailed { channel, reason }) => error!(channel, "a channel fails: {reason}"),
        EventKind::Notify(NotifyEvent::ChannelRecovered { channel }) => info!(channel, "the channel delivers again"),
        EventKind::Notify(NotifyEvent::MessageDead { channel, key, reason }) => error!(channel, key, "a message was given up: {reason}"),
        EventKind::History(HistoryEvent::Failed { reason }) => error!("the history goes on in memory: {reason}"),
        EventKind::History(HistoryEvent::Recovered { written, lost }) => info!(written, lost, "the history is written again"),
        EventKind::History(HistoryEvent::SetAside { reason, path }) => error!(path, "the history begins anew: {reason}"),
        EventKind::Notify(NotifyEvent::NotifyStoreFailed { reason }) => error!("what is to be told cannot be kept: {reason}"),
    }
}

/// What the room itself writes to the log is not said twice.
fn write_machines(event: &RoomEvent) {
    match event {
        RoomEvent::HostFound { host } => info!(host, "the host answers"),
        RoomEvent::HostLost { host, why } => warn!(host, "the host does not answer: {why}"),
        RoomEvent::HostRegained { host, after_s } => info!(host, after_s, "the host answers again"),
        RoomEvent::BaseCopied { base, host, bytes, resumed_bytes, seconds, .. } => {
            info!(host, base, bytes, resumed_bytes, seconds, "a base was copied");
        }
        RoomEvent::BaseNotCopied { base, host, why, .. } => warn!(host, base, "a base was not copied: {why}"),
        RoomEvent::MachineNotMade { machine, template, why, .. } => {
            warn!(machine = machine.as_deref().unwrap_or("-"), template, "a machine was not made: {why}");
        }
        RoomEvent::LeftoverRemoved { host, kind, name, why } => info!(host, kind, name, "removed what was left behind: {why}"),
        RoomEvent::KvmTried { .. } | RoomEvent::MachineMade { .. } | RoomEvent::MachineRemoved { .. } => {}
    }
}

fn write_recovery(kind: &RecoveryEvent) {
    match kind {
        RecoveryEvent::RecoveryBegun { recovery, thing, action, resumed, reason } => {
            let again = if *resumed { ", begun again" } else { "" };
            warn!(recovery, "{thing} is ill ({reason}): {action}{again}");
        }
        RecoveryEvent::RecoveryTried { recovery, thing, action, outcome: "healed", text } => info!(recovery, "{thing}: {action}: {text}"),
        RecoveryEvent::RecoveryTried { recovery, thing, action, text, .. } => warn!(recovery, "{thing}: {action}: {text}"),
        RecoveryEvent::RecoveryGivenUp { recovery, thing, reason } => error!(recovery, "{thing} is given up: {reason}"),
        RecoveryEvent::RecoveryHeld { recovery, thing, reason } => warn!(recovery, "nothing is tried on {thing}: {reason}"),
        RecoveryEvent::RecoveryNotice { recovery, thing, text } => info!(recovery, "{thing}: {text}"),
        RecoveryEvent::RecoveryNotKept { reason } => error!("what is tried is not kept, a kill may repeat it: {reason}"),
    }
}

fn write_scaling(kind: &ScalingEvent) {
    match kind {
        ScalingEvent::AlarmChanged { alarm, severity, from, to: "alarm", reason, quiet: false, .. } => {
            warn!(%alarm, severity, "{from} became alarm: {reason}");
        }
        ScalingEvent::AlarmChanged { alarm, from, to, reason, .. } => info!(%alarm, "{from} became {to}: {reason}"),
        ScalingEvent::AlarmAcknowledged { alarm, by, comment } => info!(%alarm, by, "acknowledged: {comment}"),
        ScalingEvent::AlarmRecovery { alarm, error: None } => info!(%alarm, "the repair was carried out"),
        ScalingEvent::AlarmRecovery { alarm, error: Some(error) } => warn!(%alarm, "the repair failed: {error}"),
        ScalingEvent::ScalingDecided { pool, from, to, reason, recommended, .. } => {
            info!(%pool, recommended, "{from} -> {to} machines: {reason}");
        }
        ScalingEvent::ScalingPlanned { pool, generation, desired, serving, steps } => {
            debug!(%pool, generation, desired, serving, "planned: {}", steps.join("; "));
        }
        ScalingEvent::ScalingStep { pool, step, took_ms, error: None, .. } => info!(%pool, took_ms, "{step}"),
        ScalingEvent::ScalingStep { pool, step, took_ms, error: Some(error), .. } => warn!(%pool, took_ms, "{step}: {error}"),
        ScalingEvent::ScalingLaunchesFail { pool, failures, reason } => warn!(%pool, failures, "launches fail: {reason}"),
        ScalingEvent::ScalingRefused { pool, reason } => warn!(%pool, "{reason}"),
        ScalingEvent::ScalingNotice { pool, text } => info!(%pool, "{text}"),
    }
}

fn write_node(kind: &NodeKind) {
    match kind {
        NodeKind::Health { pool, endpoint, healthy: true, evidence } => info!(%pool, %endpoint, evidence, "endpoint is healthy"),
        NodeKind::Health { pool, endpoint, healthy: false, evidence } => warn!(%pool, %endpoint, evidence, "endpoint is unhealthy"),
        NodeKind::Ejected { pool, endpoint, for_s, evidence } => warn!(%pool, %endpoint, for_s, evidence, "endpoint is ejected"),
        NodeKind::Readmitted { pool, endpoint } => info!(%pool, %endpoint, "endpoint is readmitted"),
        NodeKind::Floor { pool, healthy, min_healthy, below: true } => warn!(%pool, healthy, min_healthy, "pool is below its floor"),
        NodeKind::Floor { pool, healthy, min_healthy, below: false } => info!(%pool, healthy, min_healthy, "pool is back at its floor"),
        NodeKind::Resolved { pool, endpoint, result } => info!(%pool, %endpoint, result, "endpoint was resolved"),
        NodeKind::CertificatesLoaded { listener, certificates, changed } => {
            info!(%listener, certificates, changed, "changed certificates are in use");
        }
        NodeKind::CertificatesRefused { listener: _, reason } => {
            warn!("changed certificates are refused, the old ones stay in use: {reason}")
        }
        NodeKind::CertificateExpires { listener, file, expired: true, .. } => error!(%listener, file, "a certificate is over"),
        NodeKind::CertificateExpires { listener, file, left_s, .. } => {
            warn!(%listener, file, days_left = left_s / 86_400, "a certificate ends soon");
        }
        NodeKind::EndpointCertificateExpires { pool, file, expired: true, .. } => {
            error!(%pool, file, "a certificate that endpoints are shown is over")
        }
        NodeKind::EndpointCertificateExpires { pool, file, left_s, .. } => {
            warn!(%pool, file, days_left = left_s / 86_400, "a certificate that endpoints are shown ends soon");
        }
        NodeKind::EndpointTlsLoaded { pool } => info!(%pool, "changed files for TLS to endpoints are in use"),
        NodeKind::EndpointTlsRefused { pool: _, reason } => {
            warn!("changed files for TLS to endpoints are refused, the old ones stay in use: {reason}");
        }
        NodeKind::Applied { generation } => debug!(generation, "a configuration took effect"),
        NodeKind::Reloaded { revision, changes } => {
            for change in changes {
                info!(revision, "reloaded: {change}");
            }
            if changes.is_empty() {
                info!(revision, "reloaded: the file says the same as before");
            }
        }
        NodeKind::ReloadRefused { reason } => warn!("reload refused, the old configuration stays in effect: {reason}"),
        NodeKind::EndpointChanged { pool, endpoint, change, revision } => info!(%pool, %endpoint, revision, "endpoint changed: {change}"),
        NodeKind::NotPersisted { reason } => warn!(reason, "a run-time change is in effect, but would be lost by a restart"),
        NodeKind::UpgradeStarted { binary } => info!(binary, "upgrade: starting the new program"),
        NodeKind::Upgraded { pid } => info!(pid, "upgrade: the new program serves"),
        NodeKind::UpgradeFailed { reason } => warn!("upgrade failed, this program goes on: {reason}"),
        NodeKind::Draining { timeout_s } => info!(timeout_s, "draining"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log_of(last: u64, count: u64) -> EventLog {
        let log = EventLog::new(last, Historian::default());
        (0..count).for_each(|generation| log.record(NodeKind::Applied { generation }));
        log
    }

    /// Numbers of the events after `after`, at most 3.
    fn check(log: &EventLog, after: u64, expected: &[u64]) {
        let numbers: Vec<u64> = log.after(after, 3).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, expected, "after {after}");
    }

    #[test]
    fn events_are_numbered_and_found() {
        check(&log_of(0, 0), 0, &[]);
        let log = log_of(0, 5);
        check(&log, 0, &[1, 2, 3]);
        check(&log, 3, &[4, 5]);
        check(&log, 5, &[]);
    }

    #[test]
    fn numbers_go_on_after_an_upgrade() {
        let log = log_of(100, 2);
        check(&log, 0, &[101, 102]);
        check(&log, 101, &[102]);
        check(&log, 102, &[]);
    }

    #[test]
    fn a_number_of_a_lost_life_asks_for_everything() {
        check(&log_of(0, 2), 5000, &[1, 2]);
        check(&log_of(0, 2), u64::MAX, &[1, 2]);
    }

    #[test]
    fn the_ring_is_bounded() {
        let log = log_of(0, KEPT as u64 + 10);
        assert_eq!(log.ring.lock().expect("not poisoned").len(), KEPT);
        check(&log, 0, &[11, 12, 13]);
        check(&log, KEPT as u64 + 9, &[KEPT as u64 + 10]);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let log = Arc::new(log_of(0, 1));
        tokio::time::timeout(Duration::from_secs(10), log.wait(0)).await.expect("it is there");
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        log.record(NodeKind::Applied { generation: 9 });
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("woken").expect("no panic");
    }
}
