//! What the service manager is told. Without one, all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// This process serves, and is the main one.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id()), NotifyState::Status(status)]);
}

/// Another process serves and is the main one now; this one only finishes.
pub(crate) fn handed_over(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// The file is being read again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The end begins; `status` says what is awaited.
pub(crate) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// The end goes on: the manager shall wait this much longer from now.
pub(crate) fn still_stopping(status: &str, patience: Duration) {
    let patience = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(patience), NotifyState::Status(status)]);
}

/// A sign of life.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often signs of life are due, if they are: twice in the time the manager waits.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(Duration::from_millis(1)))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot tell the service manager");
    }
}
