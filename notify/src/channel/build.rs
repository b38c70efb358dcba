//! From the file to a channel.

use std::sync::Arc;

use weir_config::{ChannelKind, NotifyChannel};

use super::Channel;
use super::console::Console;
use super::email::Email;
use super::script::Script;
use super::ticket_log::TicketLog;

/// The channel that a table of the file describes. Nothing is opened yet.
pub fn build(settings: &NotifyChannel) -> Arc<dyn Channel> {
    match &settings.kind {
        ChannelKind::Email(email) => Arc::new(Email::new(email.clone(), settings.language)),
        ChannelKind::Script(script) => Arc::new(Script::new(script.clone())),
        ChannelKind::Console(console) => Arc::new(Console::new(console.clone())),
        ChannelKind::TicketLog(log) => Arc::new(TicketLog::new(log.clone())),
    }
}
