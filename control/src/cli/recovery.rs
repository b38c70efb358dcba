//! `weir recovery`.

use clap::Subcommand;
use serde_json::{Value, json};
use ureq::http::Method;

use super::output::Output;
use crate::client::{Client, segment};
use crate::render;

#[derive(Debug, Subcommand)]
pub(super) enum RecoveryCommand {
    /// Show what is healed, and how many things are ill
    List,
    /// Show one recovery: what is ill, what was tried, what comes next
    Show {
        /// Name of the recovery
        name: String,
    },
    /// Let it go on after a stop, and begin again with what was given up
    Run {
        /// Name of the recovery
        name: String,
        /// Only this machine, endpoint or alarm
        thing: Option<String>,
        /// Only say what would be tried
        #[arg(long)]
        dry_run: bool,
    },
    /// Begin nothing more until it is run again; what is under way is finished
    Stop {
        /// Name of the recovery
        name: String,
    },
}

pub(super) fn recovery(client: &Client, command: &RecoveryCommand, output: &Output) -> anyhow::Result<()> {
    let path = |name: &str| format!("/v1/recovery/{}", segment(name));
    match command {
        RecoveryCommand::List => {
            let recoveries: Vec<Value> = client.get("/v1/recovery")?;
            output.either(&recoveries, || {
                render::rows(&["name", "heals", "things", "ill", "stopped_by", "attempts"], &recoveries, output.screen)
            })
        }
        RecoveryCommand::Show { name } => {
            let recovery: Value = client.get(&path(name))?;
            output.either(&recovery, || shown(&recovery, output.screen))
        }
        RecoveryCommand::Run { name, thing, dry_run } => {
            let body = json!({ "thing": thing, "dry_run": dry_run });
            let done: Value = client.change(Method::POST, &format!("{}/run", path(name)), Some(&body))?;
            output.either(&done, || planned(&done, *dry_run))
        }
        RecoveryCommand::Stop { name } => {
            let done: Value = client.change(Method::POST, &format!("{}/stop", path(name)), None::<&()>)?;
            output.either(&done, || format!("{name}: nothing more is tried until weir recovery run {name}\n"))
        }
    }
}

fn shown(recovery: &Value, screen: render::Screen) -> String {
    let mut text = render::rows(&["name", "heals", "things", "ill", "stopped_by", "attempts"], std::slice::from_ref(recovery), screen);
    let mut cases = recovery["cases"].as_array().cloned().unwrap_or_default();
    for case in &mut cases {
        case["since"] = case["since"].as_f64().map_or(Value::Null, |at| render::time(at).into());
    }
    if !cases.is_empty() {
        text.push_str(&format!("\n{}", render::rows(&["thing", "stage", "since", "reason", "next", "text"], &cases, screen)));
    }
    for case in &cases {
        let mut story = case["story"].as_array().cloned().unwrap_or_default();
        for tried in &mut story {
            tried["began"] = tried["began"].as_f64().map_or(Value::Null, |at| render::time(at).into());
        }
        if !story.is_empty() {
            text.push_str(&format!("\n{}", render::rows(&["began", "action", "text"], &story, screen)));
        }
    }
    text
}

fn planned(done: &Value, dry_run: bool) -> String {
    let plans = done["plans"].as_array().cloned().unwrap_or_default();
    if plans.is_empty() {
        return "nothing is ill\n".into();
    }
    let mut text = String::new();
    for plan in plans {
        let what = if dry_run { "would be tried" } else { "is tried" };
        text.push_str(&format!("{}: this {what}, in this order\n", render::console(plan["thing"].as_str().unwrap_or_default())));
        let lines = plan["attempts"].as_array().cloned().unwrap_or_default();
        for (number, line) in lines.iter().enumerate() {
            text.push_str(&format!("  {}. {}\n", number + 1, render::console(line.as_str().unwrap_or_default())));
        }
    }
    text
}
