//! Deadlines, and whose fault it is when one passes or a connection ends.

use std::time::Duration;

use crate::cause::{Cause, Fault};
use crate::shell::io::Broken;

use super::{Exchange, Failure};

impl Exchange<'_> {
    /// Moves the deadline, never past the exchange's total.
    pub(super) fn arm(&self, wait: Duration) {
        let deadline = self.worker.timers.recent_ms().saturating_add(wait.as_millis() as u64);
        self.timer.set(deadline.min(self.total_ms.get()));
    }

    /// The deadline passed: was it the exchange's total?
    pub(super) fn or_total(&self, cause: Cause) -> Cause {
        if self.total_passed() { Cause::TotalTimeout } else { cause }
    }

    pub(super) fn total_passed(&self) -> bool {
        self.worker.timers.now_us() / 1000 >= self.total_ms.get()
    }

    /// Whether the failure says something about the endpoint. A stale connection does not, nor a total that a slow client used up.
    pub(super) fn blames_endpoint(&self, cause: Cause) -> bool {
        match cause {
            Cause::ReusedClosed => false,
            Cause::TotalTimeout => self.uploaded.get() && !self.begun.get(),
            _ => cause.fault() == Fault::Endpoint,
        }
    }

    pub(super) fn client_cause(&self, broken: &Broken) -> Cause {
        match broken {
            Broken::Timeout => self.or_total(Cause::ClientIdle),
            Broken::Failed => Cause::ClientClosed,
        }
    }

    pub(super) fn endpoint_failure(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::Timeout => self.or_total(Cause::EndpointIdle).into(),
            Broken::Failed => Cause::EndpointClosed.into(),
        }
    }

    pub(super) fn head_failure(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::Timeout if !self.uploaded.get() => self.or_total(Cause::ClientIdle).into(),
            Broken::Timeout => self.or_total(Cause::FirstByteTimeout).into(),
            Broken::Failed => self.closed_cause().into(),
        }
    }

    /// The endpoint closed before it answered: what that means depends on whether the connection was kept from before.
    pub(super) fn closed_cause(&self) -> Cause {
        if self.trace.reused() { Cause::ReusedClosed } else { Cause::EndpointClosed }
    }
}
