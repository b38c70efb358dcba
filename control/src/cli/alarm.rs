//! `weir alarm`.

use clap::Subcommand;
use ureq::http::Method;

use super::output::Output;
use crate::api::model::{AlarmItem, NewAcknowledgement};
use crate::client::{Client, segment};
use crate::render;

#[derive(Debug, Subcommand)]
pub(super) enum AlarmCommand {
    /// All alarms with their states
    List,
    /// One alarm: its data points, its history, and what caused each change
    Show {
        /// Name of the alarm
        name: String,
    },
    /// Say that you have seen an alarm and look after it
    ///
    /// It holds until the alarm ends.
    Ack {
        /// Name of the alarm
        name: String,
        /// Who looks after it; default: who is logged in
        #[arg(long, value_name = "NAME", env = "USER")]
        by: String,
        /// What is being done
        #[arg(default_value = "")]
        comment: String,
    },
}

pub(super) fn alarm(client: &Client, command: &AlarmCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        AlarmCommand::List => {
            let alarms: Vec<AlarmItem> = client.get("/v1/alarms")?;
            output.either(&alarms, || render::alarms(&alarms, output.screen))
        }
        AlarmCommand::Show { name } => {
            let alarm: AlarmItem = client.get(&format!("/v1/alarms/{}", segment(name)))?;
            output.either(&alarm, || render::alarm(&alarm, output.screen))
        }
        AlarmCommand::Ack { name, by, comment } => {
            let seen = NewAcknowledgement { by: by.clone(), comment: comment.clone() };
            let alarm: AlarmItem = client.change(Method::POST, &format!("/v1/alarms/{}/acknowledge", segment(name)), Some(&seen))?;
            output.either(&alarm, || format!("{name}: {by} looks after it\n"))
        }
    }
}
