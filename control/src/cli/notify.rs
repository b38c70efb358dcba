//! `weir notify` and `weir incident`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};
use ureq::http::Method;

use super::output::Output;
use crate::client::{Client, segment};
use crate::render;

/// A channel has its own time limit; this one is only the last.
const TEST_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Show the channels and what they did
    List,
    /// Send a sample and show the conversation with the server
    Test {
        /// Name of the channel
        channel: String,
    },
    /// Show messages that were given up
    Dead,
    /// Send a message that was given up again, or all of them
    #[command(group(ArgGroup::new("which").required(true)))]
    Resend {
        /// Key of the message
        #[arg(group = "which")]
        key: Option<String>,
        /// All of them
        #[arg(long, group = "which")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum IncidentCommand {
    /// Show incidents, those that are not over first
    List,
    /// Show one incident, with its alarms and messages
    Show {
        /// Its number
        id: u64,
    },
    /// Take care of an incident: no more repeats and escalation
    Ack {
        /// Its number
        id: u64,
        /// Who takes care
        #[arg(long, value_name = "NAME", env = "USER", default_value = "weir incident ack")]
        by: String,
    },
}

pub(super) fn notify(client: &Client, command: &NotifyCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::List => {
            let channels: Vec<Value> = client.get("/v1/notify")?;
            let columns = ["name", "kind", "language", "failing", "delivered", "faults", "waiting", "dead", "fallback"];
            output.either(&channels, || render::rows(&columns, &channels, output.screen))?;
        }
        NotifyCommand::Test { channel } => return test(client, channel, output),
        NotifyCommand::Dead => {
            let dead: Vec<Value> = client.get("/v1/notify/dead")?;
            output.either(&dead, || render::rows(&["key", "channel", "attempts", "title", "said"], &dead, output.screen))?;
        }
        NotifyCommand::Resend { key, all: _ } => {
            let resent: Value = client.change(Method::POST, "/v1/notify/dead/resend", Some(&json!({ "key": key })))?;
            output.either(&resent, || format!("{} to be sent again\n", resent["resent"]))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn test(client: &Client, channel: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/notify/channels/{}/test", segment(channel));
    let outcome: Value = client.send(Method::POST, &path, None::<&()>, TEST_TIMEOUT)?;
    let delivered = outcome["delivered"] == true;
    output.either(&outcome, || {
        let mut text = String::new();
        for line in outcome["conversation"].as_array().into_iter().flatten() {
            let mark = match line["from"].as_str() {
                Some("us") => ">",
                Some("them") => "<",
                _ => "*",
            };
            text.push_str(&format!("{mark} {}\n", render::console(line["text"].as_str().unwrap_or_default())));
        }
        let said = outcome[if delivered { "said" } else { "error" }].as_str().unwrap_or_default();
        text.push_str(&format!("{channel}: {}: {}\n", if delivered { "delivered" } else { "not delivered" }, render::console(said)));
        text
    })?;
    Ok(if delivered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn incident(client: &Client, command: &IncidentCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        IncidentCommand::List => {
            let mut incidents: Vec<Value> = client.get("/v1/incidents")?;
            incidents.iter_mut().for_each(with_time);
            let columns = ["id", "state", "severity", "since", "acknowledged_by", "summary"];
            output.either(&incidents, || render::rows(&columns, &incidents, output.screen))?;
        }
        IncidentCommand::Show { id } => {
            let mut incident: Value = client.get(&format!("/v1/incidents/{id}"))?;
            with_time(&mut incident);
            output.either(&incident, || {
                let list = |name: &str| incident[name].as_array().cloned().unwrap_or_default();
                let columns = ["id", "state", "severity", "since", "acknowledged_by", "summary"];
                let mut text = render::rows(&columns, std::slice::from_ref(&incident), output.screen);
                for (name, columns) in [
                    ("alarms", &["severity", "summary", "key"][..]),
                    ("recovery", &["what", "outcome"]),
                    ("messages", &["channel", "kind", "state", "attempts", "said", "title"]),
                ] {
                    if !list(name).is_empty() {
                        text.push_str(&format!("\n{}", render::rows(columns, &list(name), output.screen)));
                    }
                }
                text
            })?;
        }
        IncidentCommand::Ack { id, by } => {
            let done: Value = client.change(Method::POST, &format!("/v1/incidents/{id}/acknowledge"), Some(&json!({ "by": by })))?;
            output.either(&done, || format!("incident {id} is acknowledged\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn with_time(incident: &mut Value) {
    if let Some(at) = incident["started_at"].as_f64() {
        incident["since"] = render::time(at).into();
    }
}
