//! What happens with hosts and machines that somebody may want to know: told to whoever listens, kept by nobody here.

use serde::Serialize;
use tokio::sync::broadcast;

/// Events that wait for a slow listener; older ones are lost to it.
const WAITING_MAX: usize = 1024;

/// Something happened. What an operator asked for, and what came of it, is told by whoever was asked.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RoomEvent {
    /// A host answered for the first time since this process started.
    HostFound {
        /// The host.
        host: String,
    },
    /// A host does not answer, or not any more. What it runs goes on, as far as anybody knows.
    HostLost {
        /// The host.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// It answers again.
    HostRegained {
        /// The host.
        host: String,
        /// How long it had not answered, in seconds.
        after_s: f64,
    },
    /// It was found out whether KVM works on a host.
    KvmTried {
        /// The host.
        host: String,
        /// What its machines get: `kvm` or `qemu`.
        domain_type: &'static str,
    },
    /// A base was copied to a host, and reads back as what it is.
    BaseCopied {
        /// Of this template.
        template: String,
        /// The base.
        base: String,
        /// The host.
        host: String,
        /// Its length.
        bytes: u64,
        /// Of these, so many were there from a copy that had broken off.
        resumed_bytes: u64,
        /// How long it took.
        seconds: f64,
    },
    /// A base could not be copied. The next clone goes on where this broke off.
    BaseNotCopied {
        /// Of this template.
        template: String,
        /// The base.
        base: String,
        /// The host.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// A machine was made, or a warm one taken.
    MachineMade {
        /// Its name.
        machine: String,
        /// Its host.
        host: String,
        /// Its template.
        template: String,
        /// The pool it serves.
        pool: Option<String>,
        /// The base its content came from.
        base: String,
        /// `member` or `warm`.
        role: &'static str,
        /// A warm clone was taken for it.
        from_warm: bool,
        /// How long it took, all that was waited for included.
        seconds: f64,
    },
    /// A machine could not be made; nothing of it is left, or will be.
    MachineNotMade {
        /// Its name, if it was given one.
        machine: Option<String>,
        /// Its template.
        template: String,
        /// The pool it was to serve.
        pool: Option<String>,
        /// What went wrong.
        why: String,
    },
    /// A machine was removed with everything that belonged to it.
    MachineRemoved {
        /// Its name.
        machine: String,
        /// Its host.
        host: String,
    },
    /// Something that a crash left behind was removed.
    LeftoverRemoved {
        /// The host.
        host: String,
        /// `machine`, `volume` or `base`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why nobody needs it.
        why: String,
    },
}

/// Where events are told. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Events(broadcast::Sender<RoomEvent>);

impl Default for Events {
    fn default() -> Self {
        Events(broadcast::Sender::new(WAITING_MAX))
    }
}

impl Events {
    pub(crate) fn tell(&self, event: RoomEvent) {
        // An error: nobody listens.
        let _ = self.0.send(event);
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<RoomEvent> {
        self.0.subscribe()
    }
}
