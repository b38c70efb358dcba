//! Telling people: the service of `weir-notify`, fed with what happens on this node.
//!
//! ```text
//!   events, status, hosts ──feed──► alarms (pure) ──► weir-notify ──► channels
//!                                                        └─► events: a channel fails, a message is given up
//! ```
//!
//! It is started with the first channel of the file. One process of a node tells at a time: at an upgrade the old one ends when it has handed
//! over, and the new one goes on with what waits.

mod alarms;
mod feed;
pub(crate) mod keys;

use std::sync::{Arc, Mutex, PoisonError};

use weir_config::Config;
use weir_notify::service::{self, Handle, Options, Report};

use crate::event::NotifyEvent;
use crate::node::Node;

/// What tells people.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
enum Room {
    /// The file has had no channel yet.
    #[default]
    Off,
    /// It runs.
    On(Handle),
    /// This node stops.
    Stopped,
}

impl Notifier {
    /// Makes what the file says take effect. To be called where tasks can be started.
    pub(crate) fn apply(&self, node: &Node, config: &Config) {
        let notification = Arc::new(config.notification.clone());
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match &*room {
            Room::Off if config.notification.channels.is_empty() => {}
            Room::Off => {
                let (told, before) = (node.clone(), node.last_event());
                let options = Options {
                    state_dir: Some(config.node.state_dir.clone()),
                    notification,
                    node: config.node.name.clone(),
                    report: Box::new(move |report| told.record(event(report))),
                };
                match service::start(options) {
                    Ok(handle) => {
                        tokio::spawn(feed::feed(node.clone(), handle.clone(), before));
                        *room = Room::On(handle);
                    }
                    Err(error) => node.record(NotifyEvent::NotifyStoreFailed { reason: format!("nobody can be told: {error}") }),
                }
            }
            Room::On(handle) => handle.apply(notification),
            Room::Stopped => {}
        }
    }

    /// The service, if it runs.
    pub(crate) fn handle(&self) -> Option<Handle> {
        match &*self.room.lock().unwrap_or_else(PoisonError::into_inner) {
            Room::On(handle) => Some(handle.clone()),
            _ => None,
        }
    }

    /// Ends it; what waits is sent by the next process. Blocks for a moment.
    pub(crate) fn stop(&self) {
        let room = std::mem::replace(&mut *self.room.lock().unwrap_or_else(PoisonError::into_inner), Room::Stopped);
        if let Room::On(handle) = room {
            handle.stop();
        }
    }
}

fn event(report: Report) -> NotifyEvent {
    match report {
        Report::ChannelFailed { channel, reason } => NotifyEvent::ChannelFailed { channel, reason },
        Report::ChannelRecovered { channel } => NotifyEvent::ChannelRecovered { channel },
        Report::Dead { channel, key, reason } => NotifyEvent::MessageDead { channel, key, reason },
        Report::StoreFailed { reason } => NotifyEvent::NotifyStoreFailed { reason },
    }
}
