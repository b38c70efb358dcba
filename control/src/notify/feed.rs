//! Tells the service what happens: events as they come, and now and then how things are, so that nothing depends on an event alone.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir_notify::engine::Input;
use weir_notify::service::Handle;

use super::{alarms, keys};
use crate::event::{EventKind, VipEvent};
use crate::node::Node;

/// After the start, until what is not said to be wrong counts as over: probes and hosts have answered by then.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two looks at how things are.
const LOOK: Duration = Duration::from_secs(5);
/// How long a change of a virtual IP is an alarm.
const VIP_CALM: Duration = Duration::from_secs(300);
/// Events of one look.
const EVENTS_MAX: usize = 1000;

/// Runs until the service ends. `after`: the last event that is not told.
pub(super) async fn feed(node: Node, handle: Handle, mut after: u64) {
    let begun = Instant::now();
    let mut look_at = begun;
    let mut vips: BTreeMap<String, Instant> = BTreeMap::new();
    // The file was good enough to begin with.
    handle.learn(alarms::file_is_good()).await;
    while !handle.is_closed() {
        tokio::select! {
            () = node.events_wait(after) => {}
            () = sleep_until(look_at) => {}
        }
        for (number, event) in node.events_after(after, EVENTS_MAX) {
            after = number;
            if let EventKind::Vip(VipEvent::VipState { vip, family, .. }) = &event.kind {
                vips.insert(alarms::vip_key(vip, family), Instant::now() + VIP_CALM);
            }
            if let Some(input) = alarms::of_event(&event.kind) {
                learn(&node, &handle, input).await;
            }
        }
        if Instant::now() < look_at {
            continue;
        }
        look_at = Instant::now() + LOOK;
        vips.retain(|_, until| *until > Instant::now());
        // Also of those that were told before this process began: their time is known to nobody else.
        handle.learn(Input::Active { prefix: alarms::VIPS.to_owned(), keys: vips.keys().cloned().collect() }).await;
        look(&node, &handle, begun.elapsed() >= SETTLE).await;
    }
}

async fn look(node: &Node, handle: &Handle, settled: bool) {
    let asked = node.clone();
    // The director may take its time.
    let Ok(status) = tokio::task::spawn_blocking(move || asked.status()).await else { return };
    let hosts = node.machines().hypervisor().hosts();
    let items = node.scaler().alarm_items();
    if settled {
        for input in alarms::of_sources(&status, &hosts, &node.certificates(), &node.shown_certificates(), &items) {
            handle.learn(input).await;
        }
        handle.learn(alarms::of_file(&items)).await;
    }
    let history = node.historian().stats().and_then(|stats| stats.fault);
    let kinds = [
        (keys::DATA_PLANE, alarms::of_status(&status)),
        (alarms::HOSTS, alarms::of_hosts(&hosts)),
        (alarms::VIPS_OFF, node.vips().fault().map(alarms::vips_unavailable).into_iter().collect()),
        (alarms::HISTORY, history.map(alarms::history_failed).into_iter().collect()),
    ];
    for (prefix, raises) in kinds {
        let inputs = if settled { alarms::exactly(prefix, raises) } else { raises.into_iter().map(Input::Raise).collect() };
        for input in inputs {
            learn(node, handle, input).await;
        }
    }
}

/// People are not told yet of what may be healed.
async fn learn(node: &Node, handle: &Handle, input: Input) {
    let input = match input {
        Input::Raise(raise) => match node.recoverer().hold(node, &raise) {
            Some(hold) => Input::RaiseHeld(raise, hold),
            None => Input::Raise(raise),
        },
        other => other,
    };
    handle.learn(input).await;
}
