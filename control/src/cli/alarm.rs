//! `weir alarm`.

use std::io::Read as _;

use anyhow::Context;
use clap::Subcommand;
use ureq::http::Method;

use super::output::Output;
use crate::api::model::{AlarmItem, NewAcknowledgement, NewTrial, TrialView};
use crate::client::{Client, segment};
use crate::render;

/// The longest definition that is read.
const DEFINITION_BYTES_MAX: u64 = 32 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum AlarmCommand {
    /// All alarms with their states
    List,
    /// One alarm: its data points, its history, and what caused each change
    Show {
        /// Name of the alarm
        name: String,
    },
    /// What an alarm would have done with what was measured
    ///
    /// The alarms of the file that it names are tried along with it.
    Preview {
        /// A file that holds what would stand under [alarm.NAME]; - for standard input
        definition: std::path::PathBuf,
        #[command(flatten)]
        span: super::history::Span,
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
        AlarmCommand::Preview { definition, span } => {
            let definition = if definition.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin().take(DEFINITION_BYTES_MAX))?
            } else {
                let file = std::fs::File::open(definition).with_context(|| format!("cannot read {}", definition.display()))?;
                std::io::read_to_string(file.take(DEFINITION_BYTES_MAX)).with_context(|| format!("cannot read {}", definition.display()))?
            };
            let trial = NewTrial { definition, from: span.from, to: span.to };
            let trial: TrialView = client.change(Method::POST, "/v1/alarms/preview", Some(&trial))?;
            output.either(&trial, || render::trial(&trial))
        }
        AlarmCommand::Ack { name, by, comment } => {
            let seen = NewAcknowledgement { by: by.clone(), comment: comment.clone() };
            let alarm: AlarmItem = client.change(Method::POST, &format!("/v1/alarms/{}/acknowledge", segment(name)), Some(&seen))?;
            output.either(&alarm, || format!("{name}: {by} looks after it\n"))
        }
    }
}
