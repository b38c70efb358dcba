//! `lab`: the lab for a person. See `README.md`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lab::{Lab, LabOptions};

/// Virtual hosts with a real libvirtd each, on one machine.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a lab and hold it until Ctrl-C or `lab down`.
    Up {
        /// Virtual hosts: kvm-a, kvm-b and so on.
        #[arg(long, default_value_t = 2)]
        hosts: usize,
        /// Network namespaces beside them; may be given several times.
        #[arg(long = "node", value_name = "NAME", default_values_t = ["lb-a".to_owned(), "lb-b".to_owned(), "client".to_owned()])]
        nodes: Vec<String>,
        /// The disk of each host, in MiB of memory.
        #[arg(long, value_name = "MIB", default_value_t = 4096)]
        disk: u32,
        /// Several labs may be up at once.
        #[arg(long, default_value = "lab")]
        name: String,
    },
    /// Show all labs.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Open a shell, or run a command, on a host or node.
    Shell {
        /// Its name.
        member: String,
        /// Of which lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// What to run instead of a shell.
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Take a lab down.
    Down {
        /// Which lab.
        #[arg(default_value = "lab")]
        name: String,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Verb::Up { hosts, nodes, disk, name } => up(LabOptions { name, hosts, nodes, disk_mib: disk }),
        Verb::Status { json } => status(json),
        Verb::Shell { member, name, command } => shell(&name, &member, &command),
        Verb::Down { name } => lab::down(&name).map_err(Into::into),
    }
}

fn up(options: LabOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        // Before the first thing is made, so that a signal at any time takes it down again.
        let mut ends = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        let lab = Lab::up(options).context("the lab could not be made")?;
        status(false)?;
        println!("\nguest image: {}", lab.image().folder.display());
        println!("Ctrl-C, or `lab down {}`, takes it down.", lab.name());
        let [interrupt, terminate, hangup] = &mut ends;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        drop(lab);
        Ok(())
    })
}

fn status(json: bool) -> Result<()> {
    let labs = lab::status();
    if json {
        println!("{}", serde_json::to_string_pretty(&labs)?);
        return Ok(());
    }
    if labs.is_empty() {
        println!("no lab is up");
    }
    for lab in labs {
        let owner = if lab.held { format!("held by process {}", lab.owner) } else { "abandoned: `lab down` takes it away".to_owned() };
        println!("{}: {owner}", lab.name);
        for (name, uri, state) in lab.hosts {
            println!("  host  {name:12} {state:14} {uri}");
        }
        for (name, address) in lab.nodes {
            println!("  node  {name:12} {address}");
        }
        for fault in lab.faults {
            println!("  fault {}", serde_json::to_string(&fault)?);
        }
    }
    Ok(())
}

fn shell(name: &str, member: &str, command: &[String]) -> Result<()> {
    let mut enter: Command = lab::enter(name, member)?;
    if command.is_empty() {
        enter.arg(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())).env("PS1", format!("{member}# "));
    } else {
        enter.args(command);
    }
    let error = enter.exec();
    bail!("nsenter: {error}");
}
