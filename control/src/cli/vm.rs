//! `weir vm`: hosts and machines.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::output::Output;
use crate::api::model::*;
use crate::client::{Client, segment};
use crate::render;

/// Between two looks at what is under way.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Looking for leftovers asks every host.
const GARBAGE_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(super) enum VmCommand {
    /// Show the machines on all hosts
    List,
    /// Show the hosts
    Hosts,
    /// Show the templates
    Templates,
    /// Make a machine from a template, or take a warm one
    Clone {
        /// Name of the template
        template: String,
        /// The pool it will serve
        #[arg(long)]
        pool: Option<String>,
        /// Its name; with a name the command can be repeated
        #[arg(long)]
        name: Option<String>,
        /// The host; default: where there is room
        #[arg(long)]
        host: Option<String>,
        /// A label it gets; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
        /// Do not take a warm clone
        #[arg(long)]
        cold: bool,
        /// Do not wait until it has booted
        #[arg(long)]
        no_wait: bool,
        /// Only say where it would go
        #[arg(long)]
        dry_run: bool,
        /// Although the node does not lead
        #[arg(long)]
        anyway: bool,
    },
    /// Power on, or go on from saved memory
    Start(Group),
    /// Go on after suspend
    Resume(Group),
    /// Freeze
    Suspend(Group),
    /// Ask the guest to shut down
    Shutdown {
        #[command(flatten)]
        group: Group,
        /// How long it may take, such as 30s or 5m
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = weir_config::parse_duration)]
        timeout: Duration,
        /// Pull the plug after that
        #[arg(long)]
        force: bool,
    },
    /// Pull the plug
    Stop(Group),
    /// Pull the reset line
    Reset(Group),
    /// Ask the guest to reboot
    Reboot(Group),
    /// Make linked clones stand alone, while they run
    Flatten(Group),
    /// Remove machines with everything that belongs to them
    Delete(Group),
    /// Move running machines to another host
    Migrate {
        #[command(flatten)]
        group: Group,
        /// The host they move to
        #[arg(long)]
        to: String,
    },
    /// Bring a template's base to every host where its clones may run, before the first needs it
    Prefetch {
        /// Name of the template
        template: String,
        /// Only say to which hosts
        #[arg(long)]
        dry_run: bool,
        /// Although the node does not lead
        #[arg(long)]
        anyway: bool,
    },
    /// Remove what was left behind by crashes, bases that nobody needs, and warm clones of templates that are gone
    Gc {
        /// Only list it
        #[arg(long)]
        dry_run: bool,
        /// Although the node does not lead
        #[arg(long)]
        anyway: bool,
    },
    /// Print the end of what a machine wrote to its console
    Console {
        /// Name or UUID
        machine: String,
        /// At most so many bytes
        #[arg(long, value_name = "N", default_value_t = 16384)]
        bytes: u64,
    },
    /// Save a picture of a machine's screen
    Screenshot {
        /// Name or UUID
        machine: String,
        /// The file to write
        file: std::path::PathBuf,
    },
}

/// Which machines: those named, and all of ours that have what is given.
#[derive(Debug, Args)]
pub(super) struct Group {
    /// Names or UUIDs
    machines: Vec<String>,
    /// All of this pool
    #[arg(long)]
    pool: Option<String>,
    /// All on this host
    #[arg(long)]
    host: Option<String>,
    /// All with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Option<(String, String)>,
    /// So many at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Only say which
    #[arg(long)]
    dry_run: bool,
    /// Although the node does not lead
    #[arg(long)]
    anyway: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "write KEY=VALUE".into())
}

pub(super) fn vm(client: &Client, command: &VmCommand, output: &Output) -> anyhow::Result<ExitCode> {
    let act = |verb: &str, group: &Group| act(client, output, MachineAct { verb: verb.into(), ..group.request() });
    match command {
        VmCommand::List => {
            list(client, output, "/v1/machines", &["name", "host", "state", "metadata.template", "metadata.pool", "address"])
        }
        VmCommand::Hosts => list(client, output, "/v1/hosts", &["name", "state", "domain_type", "machines", "uri", "why"]),
        VmCommand::Templates => list(client, output, "/v1/templates", &["name", "source", "base", "machines", "warm", "error"]),
        VmCommand::Clone { template, pool, name, host, label, cold, no_wait, dry_run, anyway } => {
            let new = NewMachine {
                template: template.clone(),
                pool: pool.clone(),
                name: name.clone(),
                host: host.clone(),
                cold: *cold,
                no_wait: *no_wait,
                dry_run: *dry_run,
                labels: label.iter().cloned().collect(),
                anyway: *anyway,
            };
            if *dry_run {
                let plan: ClonePlan = client.change(Method::POST, "/v1/machines", Some(&new))?;
                output.either(&plan, || format!("it would go to {}\n", plan.host))?;
                return Ok(ExitCode::SUCCESS);
            }
            follow(client, output, client.change(Method::POST, "/v1/machines", Some(&new))?)
        }
        VmCommand::Start(group) => act("start", group),
        VmCommand::Resume(group) => act("resume", group),
        VmCommand::Suspend(group) => act("suspend", group),
        VmCommand::Stop(group) => act("stop", group),
        VmCommand::Reset(group) => act("reset", group),
        VmCommand::Reboot(group) => act("reboot", group),
        VmCommand::Flatten(group) => act("flatten", group),
        VmCommand::Delete(group) => act("delete", group),
        VmCommand::Shutdown { group, timeout, force } => {
            let timeout_ms = Some(u64::try_from(timeout.as_millis())?);
            self::act(client, output, MachineAct { verb: "shutdown".into(), timeout_ms, force: *force, ..group.request() })
        }
        VmCommand::Migrate { group, to } => {
            self::act(client, output, MachineAct { verb: "migrate".into(), to: Some(to.clone()), ..group.request() })
        }
        VmCommand::Prefetch { template, dry_run, anyway } => {
            let path = format!("/v1/templates/{}/prefetch?dry_run={dry_run}&anyway={anyway}", segment(template));
            follow(client, output, client.change(Method::POST, &path, None::<&()>)?)
        }
        VmCommand::Gc { dry_run, anyway } => gc(client, output, *dry_run, *anyway),
        VmCommand::Console { machine, bytes } => {
            let text = client.get_bytes(&format!("/v1/machines/{}/console?bytes={bytes}", segment(machine)))?;
            output.text(&render::console(&String::from_utf8_lossy(&text)))?;
            Ok(ExitCode::SUCCESS)
        }
        VmCommand::Screenshot { machine, file } => {
            std::fs::write(file, client.get_bytes(&format!("/v1/machines/{}/screenshot", segment(machine)))?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Group {
    fn request(&self) -> MachineAct {
        MachineAct {
            machines: self.machines.clone(),
            pool: self.pool.clone(),
            host: self.host.clone(),
            label: self.label.as_ref().map(|(key, value)| format!("{key}={value}")),
            parallel: Some(self.parallel),
            dry_run: self.dry_run,
            anyway: self.anyway,
            ..MachineAct::default()
        }
    }
}

fn list(client: &Client, output: &Output, path: &str, columns: &[&str]) -> anyhow::Result<ExitCode> {
    let rows: Vec<Value> = client.get(path)?;
    output.either(&rows, || render::rows(columns, &rows, output.screen))?;
    Ok(ExitCode::SUCCESS)
}

fn act(client: &Client, output: &Output, act: MachineAct) -> anyhow::Result<ExitCode> {
    follow(client, output, client.change(Method::POST, "/v1/machines/actions", Some(&act))?)
}

/// Looks at an operation until it has ended, and says what came of each machine.
fn follow(client: &Client, output: &Output, mut operation: OperationView) -> anyhow::Result<ExitCode> {
    let mut said = (Instant::now(), String::new());
    while !operation.ended {
        std::thread::sleep(LOOK_INTERVAL);
        operation = client.get(&format!("/v1/operations/{}", operation.id))?;
        let open: Vec<String> = operation.items.iter().filter(|item| !item.ended).map(step).collect();
        let line = open.join("; ");
        if !output.json && line != said.1 && said.0.elapsed() >= Duration::from_secs(1) {
            output.note(&line);
            said = (Instant::now(), line);
        }
    }
    let line = |item: &OperationItem| {
        let place = item.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        match &item.error {
            None if operation.id == 0 => format!("{}{place}: {}\n", item.machine, item.step),
            Some(error) if operation.id == 0 => format!("{}{place}: cannot {}: {error}\n", item.machine, operation.what),
            None => format!("{}{place}: {} done\n", item.machine, operation.what),
            Some(error) if item.machine.is_empty() => format!("{} failed: {error}\n", operation.what),
            Some(error) => format!("{}{place}: {} failed: {error}\n", item.machine, operation.what),
        }
    };
    output.either(&operation, || match operation.items.is_empty() {
        true => "no machine is meant\n".into(),
        false => operation.items.iter().map(line).collect(),
    })?;
    Ok(if operation.items.iter().any(|item| item.error.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn step(item: &OperationItem) -> String {
    match (item.done_bytes, item.end_bytes) {
        (Some(done), Some(end)) if end > 0 => format!("{} ({} %)", item.step, done.saturating_mul(100) / end),
        _ => item.step.clone(),
    }
}

fn gc(client: &Client, output: &Output, dry_run: bool, anyway: bool) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/machines/garbage?dry_run={dry_run}&anyway={anyway}");
    let found: Vec<Value> = client.send(Method::POST, &path, None::<&()>, GARBAGE_TIMEOUT)?;
    output.either(&found, || match found.is_empty() {
        true => "nothing was left behind\n".into(),
        false => render::rows(&["host", "kind", "name", "removed", "why", "error"], &found, output.screen),
    })?;
    Ok(if found.iter().any(|row| row["error"].is_string()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
