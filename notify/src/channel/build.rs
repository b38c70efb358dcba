//! From the file to a channel.

use std::sync::Arc;

use weir_config::{ChannelKind, NotifyChannel};

use super::Channel;
use super::console::Console;
use super::email::Email;
use super::script::Script;
use super::smpp::Smpp;
use super::sms::Sms;
use super::snmp::Snmp;
use super::ticket::Ticket;
use super::ticket_log::TicketLog;
use super::webhook::Webhook;

/// The channel that a table of the file describes. Nothing is opened yet.
pub fn build(settings: &NotifyChannel) -> Arc<dyn Channel> {
    match &settings.kind {
        ChannelKind::Email(email) => Arc::new(Email::new(email.clone(), settings.language)),
        ChannelKind::Webhook(webhook) => Arc::new(Webhook::new(*webhook.clone(), &settings.name.0, settings.language)),
        ChannelKind::Sms(sms) => Arc::new(Sms::new(*sms.clone(), settings.language)),
        ChannelKind::Snmp(snmp) => Arc::new(Snmp::new(*snmp.clone(), settings.language)),
        ChannelKind::Smpp(smpp) => Arc::new(Smpp::new(*smpp.clone(), settings.language)),
        ChannelKind::Ticket(ticket) => Arc::new(Ticket::new(*ticket.clone(), settings.language)),
        ChannelKind::Script(script) => Arc::new(Script::new(script.clone())),
        ChannelKind::Console(console) => Arc::new(Console::new(console.clone())),
        ChannelKind::TicketLog(log) => Arc::new(TicketLog::new(log.clone())),
    }
}
