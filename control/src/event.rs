//! What happened, in all rooms, for people and for the API.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
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
    /// With telling people.
    Notify(NotifyEvent),
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

/// What happens with telling people.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NotifyEvent {
    /// A channel has begun to fail.
    ChannelFailed {
        /// The channel.
        channel: String,
        /// Why.
        reason: String,
    },
    /// A channel that failed delivers again.
    ChannelRecovered {
        /// The channel.
        channel: String,
    },
    /// A message was given up; it can be sent again.
    MessageDead {
        /// The channel.
        channel: String,
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// What is to be told cannot be kept: a kill would lose it.
    NotifyStoreFailed {
        /// Why.
        reason: String,
    },
}

impl From<NotifyEvent> for EventKind {
    fn from(kind: NotifyEvent) -> EventKind {
        EventKind::Notify(kind)
    }
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

impl From<&weir_lb::event::Event> for Event {
    fn from(event: &weir_lb::event::Event) -> Event {
        Event { at: event.at, kind: event.kind.clone().into() }
    }
}
