//! What happened, in all rooms, for people and for the API.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use weir_hypervisor::RoomEvent;
use weir_lb::event::EventKind as DataPlaneKind;

/// One thing that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Event {
    /// Wall clock, for people.
    #[serde(skip)]
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened, by the room it happened in. Each kind carries a tag `event` of its own.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum EventKind {
    /// In the data plane, or to the node around it.
    Node(DataPlaneKind),
    /// With a virtual IP.
    Vip(VipEvent),
    /// With hosts and machines.
    Machines(RoomEvent),
    /// Something that was asked of machines has ended.
    Acted(MachineEvent),
}

/// What somebody asked of machines, and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum MachineEvent {
    /// It has ended.
    MachineActed {
        /// `clone`, `start`, `delete`, ...
        verb: String,
        /// The machine; absent: one that was not made, or several.
        machine: Option<String>,
        /// Its host.
        host: Option<String>,
        /// Who asked.
        by: String,
        /// It was done.
        done: bool,
        /// Why not.
        error: Option<String>,
        /// How long it took, from when it was asked.
        seconds: f64,
    },
}

/// What happens with a virtual IP.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum VipEvent {
    /// This node became something else.
    VipState {
        /// Virtual IP.
        vip: Arc<str>,
        /// `ipv4` or `ipv6`: each family is a virtual router of its own.
        family: &'static str,
        /// `initialize`, `backup` or `master`.
        from: &'static str,
        /// The same.
        to: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// Something else worth saying.
    VipNotice {
        /// Virtual IP.
        vip: Arc<str>,
        /// `ipv4` or `ipv6`.
        family: &'static str,
        /// What kind of thing, a word.
        kind: &'static str,
        /// In words.
        text: String,
        /// Whether an operator should look at it.
        warning: bool,
    },
    /// The virtual IPs cannot work as configured on this machine; everything else goes on.
    VipsUnavailable {
        /// Why, and what to do.
        reason: String,
    },
}

impl From<DataPlaneKind> for EventKind {
    fn from(kind: DataPlaneKind) -> EventKind {
        EventKind::Node(kind)
    }
}

impl From<VipEvent> for EventKind {
    fn from(kind: VipEvent) -> EventKind {
        EventKind::Vip(kind)
    }
}

impl From<RoomEvent> for EventKind {
    fn from(kind: RoomEvent) -> EventKind {
        EventKind::Machines(kind)
    }
}

impl From<MachineEvent> for EventKind {
    fn from(kind: MachineEvent) -> EventKind {
        EventKind::Acted(kind)
    }
}

impl From<&weir_lb::event::Event> for Event {
    fn from(event: &weir_lb::event::Event) -> Event {
        Event { at: event.at, kind: event.kind.clone().into() }
    }
}
