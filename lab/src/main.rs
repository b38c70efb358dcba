//! `lab`: the lab for a person. See `README.md`.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lab::{Asked, Image, Lab, LabOptions, Load};

/// Between two looks at the rate, and two writes of the log.
const LOOK: Duration = Duration::from_millis(100);

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
    /// Build the guest image, if it is not there yet, and say where its parts are, as JSON.
    Image,
    /// Ask a server at a steady rate, and write down what came of each request.
    Load {
        /// Whom.
        target: SocketAddr,
        /// Requests a second.
        #[arg(long, default_value_t = 20)]
        rate: u64,
        /// A file with the rate, looked at again and again: write another number into it at any time.
        #[arg(long, value_name = "FILE")]
        rate_file: Option<PathBuf>,
        /// For so many seconds a request whose connection broke is sent again, as browsers do.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        patience: u64,
        /// Where a line goes for each request: when it ended, milliseconds, tries, ok or failed, the answer or the reason. Else standard output.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
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
        Verb::Image => image(),
        Verb::Load { target, rate, rate_file, patience, log } => load(target, rate, rate_file, Duration::from_secs(patience), log),
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

fn image() -> Result<()> {
    let Image { folder, kernel, initramfs, disk } = Image::get()?;
    let parts = serde_json::json!({ "folder": folder, "kernel": kernel, "initramfs": initramfs, "disk": disk, "command_line": Image::COMMAND_LINE });
    println!("{}", serde_json::to_string_pretty(&parts)?);
    Ok(())
}

/// Until a signal ends it.
fn load(target: SocketAddr, rate: u64, rate_file: Option<PathBuf>, patience: Duration, log: Option<PathBuf>) -> Result<()> {
    let mut output: Box<dyn Write> = match &log {
        Some(path) => Box::new(File::create(path).with_context(|| path.display().to_string())?),
        None => Box::new(std::io::stdout()),
    };
    let load = Load::patient(target, rate, patience);
    loop {
        if let Some(rate) = rate_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok()) {
            load.set_rate(rate);
        }
        let lines: String = load.take().iter().map(line).collect();
        output.write_all(lines.as_bytes())?;
        output.flush()?;
        std::thread::sleep(LOOK);
    }
}

fn line(asked: &Asked) -> String {
    let at = asked.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let (word, said) = match &asked.outcome {
        Ok(body) => ("ok", body),
        Err(why) => ("failed", why),
    };
    format!("{at:.3} {:.1} {} {word} {said}\n", asked.took.as_secs_f64() * 1e3, asked.tries)
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
