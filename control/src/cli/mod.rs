//! The command line. One definition makes the parser and the help.
//!
//! `run`, `check`, `schema`, `import`, `man` and `completions` work on this machine; every other command is a client of the REST API.
//! Exit status: 0, 1 (refused or failed), 2 (wrong usage).

mod alarm;
mod change;
mod check;
mod drain;
mod events;
mod explain;
mod generate;
mod history;
mod import;
mod notify;
mod output;
mod recovery;
mod replay;
mod scaling;
mod status;
mod target;
mod token;
mod vip;
mod vm;

use std::path::PathBuf;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weir_config::EndpointAddress;

use crate::client::{Client, Trust};
use output::Output;

/// A load balancer for HTTP and TCP services on plain hosts.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true, propagate_version = false, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The REST API of the node to talk to
    #[arg(
        long,
        global = true,
        env = "WEIR_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:7117",
        help_heading = "Global options"
    )]
    api: String,
    /// A file with the API's token; the token itself may be given in WEIR_TOKEN
    #[arg(long, global = true, env = "WEIR_TOKEN_FILE", value_name = "FILE", help_heading = "Global options")]
    token_file: Option<PathBuf>,
    /// Who may have signed the certificate of an API under TLS, in PEM; the system's authorities if not named
    #[arg(long, global = true, env = "WEIR_API_CA_FILE", value_name = "FILE", help_heading = "Global options")]
    api_ca_file: Option<PathBuf>,
    /// A certificate in PEM to show to an API that asks for one
    #[arg(long, global = true, env = "WEIR_API_CERTIFICATE_FILE", value_name = "FILE", help_heading = "Global options")]
    api_certificate_file: Option<PathBuf>,
    /// Its private key in PEM, if not in the same file
    #[arg(long, global = true, env = "WEIR_API_KEY_FILE", value_name = "FILE", help_heading = "Global options")]
    api_key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the load balancer in the foreground
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file and show every error in it
    Check {
        /// The configuration file
        file: PathBuf,
        #[command(flatten)]
        explain: explain::Explain,
    },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Make a token for the API and the console, and print what to write into the file
    ///
    /// The token is printed once and kept nowhere: the file has only its digest.
    Token {
        /// Whose it is, as the events will say
        name: String,
        /// What it may: read, operate or admin
        #[arg(long, value_name = "ROLE", default_value = "operate", value_parser = ["read", "operate", "admin"])]
        role: String,
    },
    /// Convert the configuration of HAProxy and keepalived, and say what could not be converted
    Import(import::Import),
    /// Show the node, its listeners, pools and virtual IPs
    Status {
        /// Show it again every two seconds
        #[arg(long, global = true)]
        watch: bool,
        #[command(subcommand)]
        what: Option<StatusOf>,
    },
    /// Show the node in the terminal, live; drain endpoints by a key
    Top {
        /// How often to look
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = weir_config::parse_duration)]
        interval: Duration,
    },
    /// Read the configuration file again and make it take effect, whole or not at all
    Reload {
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Give an endpoint no new work, and wait until the old is finished
    ///
    /// The endpoint stays as it is when the wait is interrupted or times out. `weir undrain` gives it work again.
    Drain(Drain),
    /// Give an endpoint work again after a drain or maintenance
    Undrain {
        #[command(flatten)]
        target: Target,
    },
    /// Add, remove or weigh endpoints at run time
    ///
    /// Such changes lie over the configuration file and survive reloads and restarts.
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Let another node be master of a virtual IP
    #[command(subcommand)]
    Vip(VipCommand),
    /// Show and change hosts and machines
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Show alarms, and say that you have seen them
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    /// Show and change how pools are scaled
    #[command(subcommand)]
    Scaling(scaling::ScalingCommand),
    /// Show what is healed before people are told, stop it, and let it go on
    #[command(subcommand)]
    Recovery(recovery::RecoveryCommand),
    /// Show and try the channels that tell people
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Show incidents and take care of them
    #[command(subcommand)]
    Incident(notify::IncidentCommand),
    /// Show and export what was: events, alarms, plans, samples
    #[command(subcommand)]
    History(history::HistoryCommand),
    /// Show who or what changed which thing, and whether the record of it is whole
    #[command(subcommand)]
    Audit(history::AuditCommand),
    /// Show what happened
    Events {
        /// Go on with what happens from now on
        #[arg(long, short)]
        follow: bool,
        /// Begin with so many of the last events
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Write the manual pages of all commands into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Print the completions of all commands for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Start another binary, hand it the sockets, and let the old one finish its work
    Upgrade {
        /// The binary; default: the path the running one was started from
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum StatusOf {
    /// All pools, or one with its endpoints
    Pool {
        /// Name of the pool
        name: Option<String>,
    },
    /// The listeners
    Listener,
    /// Hosts, machines and templates, or everything about one machine
    Vm {
        /// Name or UUID of the machine
        name: Option<String>,
    },
    /// The virtual IPs: who is master of which and why, or everything about one
    Vip {
        /// Name of the virtual IP
        name: Option<String>,
    },
    /// The alarms, or everything about one
    Alarm {
        /// Name of the alarm
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum VipCommand {
    /// Hand a virtual IP over and wait until another node has it
    ///
    /// A weir node takes over first and no connection is refused; any other is told that this node leaves. This node stays a backup.
    Release {
        /// Name of the virtual IP
        name: String,
        /// How long to wait for another master
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = weir_config::parse_duration)]
        timeout: Duration,
    },
}

/// Which endpoint.
#[derive(Debug, Args)]
struct Target {
    /// host:port
    #[arg(value_parser = weir_config::parse_endpoint_address)]
    endpoint: EndpointAddress,
    /// The pool, when several have this endpoint
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// In every pool that has it
    #[arg(long, conflicts_with = "pool")]
    all_pools: bool,
}

#[derive(Debug, Args)]
struct Drain {
    #[command(flatten)]
    target: Target,
    /// How long to wait, such as 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = weir_config::parse_duration)]
    timeout: Duration,
    /// Take it out of service: it is not probed either
    #[arg(long)]
    maintenance: bool,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Add an endpoint to a pool
    Add {
        #[command(flatten)]
        place: Place,
        /// Share relative to the others, 1 to 1000
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: Option<u32>,
        /// A higher tier serves only while no lower one can, 0 to 15
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=15))]
        tier: Option<u8>,
    },
    /// Remove an endpoint: at once for new work; what is in flight finishes
    Remove {
        #[command(flatten)]
        place: Place,
    },
    /// Change the weight of an endpoint
    Weight {
        #[command(flatten)]
        place: Place,
        /// Share relative to the others, 1 to 1000
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: u32,
    },
}

/// An endpoint in its pool.
#[derive(Debug, Args)]
struct Place {
    /// Name of the pool
    pool: String,
    /// host:port
    #[arg(value_parser = weir_config::parse_endpoint_address)]
    address: EndpointAddress,
}

/// The program: reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.json);
    let result = match &cli.command {
        Command::Run { config } => return crate::run::run(config).report(),
        Command::Check { file, explain } => check::check(file, explain, &output),
        Command::Schema => output.json(&weir_config::json_schema()).map(|()| ExitCode::SUCCESS),
        Command::Man { folder } => generate::man(folder, &output).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => generate::completions(*shell, &output).map(|()| ExitCode::SUCCESS),
        Command::Import(options) => import::run(options, &output),
        Command::Token { name, role } => token::token(name, role, &output).map(|()| ExitCode::SUCCESS),
        Command::Scaling(scaling::ScalingCommand::Replay(options)) => {
            replay::run(options, || client(&cli.global), &output).map(|()| ExitCode::SUCCESS)
        }
        Command::Audit(history::AuditCommand::Verify { noted, file: Some(file) }) => history::verify_file(file, *noted, &output),
        command => client(&cli.global).and_then(|client| ask(client, command, &output)),
    };
    match result {
        Ok(code) => code,
        // Who reads our output has enough of it (`weir events | head`).
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The commands that are requests.
fn ask(client: Client, command: &Command, output: &Output) -> anyhow::Result<ExitCode> {
    if let Command::Top { interval } = command {
        return crate::top::run(client, *interval).map(|()| ExitCode::SUCCESS);
    }
    let client = &client;
    match command {
        Command::Run { .. }
        | Command::Check { .. }
        | Command::Schema
        | Command::Token { .. }
        | Command::Import(_)
        | Command::Man { .. }
        | Command::Completions { .. }
        | Command::Top { .. } => unreachable!("these were done before"),
        Command::Status { watch, what } => status::status(client, what.as_ref(), *watch, output)?,
        Command::Reload { dry_run } => change::reload(client, *dry_run, output)?,
        Command::Drain(drain) => return drain::drain(client, drain, output),
        Command::Undrain { target } => drain::undrain(client, target, output)?,
        Command::Endpoint(command) => change::endpoint(client, command, output)?,
        Command::Vip(VipCommand::Release { name, timeout }) => return vip::release(client, name, *timeout, output),
        Command::Events { follow, last } => events::events(client, *follow, *last, output)?,
        Command::History(command) => history::history(client, command, output)?,
        Command::Audit(command) => return history::audit(client, command, output),
        Command::Alarm(command) => alarm::alarm(client, command, output)?,
        Command::Scaling(command) => scaling::scaling(client, command, output)?,
        Command::Vm(command) => return vm::vm(client, command, output),
        Command::Recovery(command) => recovery::recovery(client, command, output)?,
        Command::Notify(command) => return notify::notify(client, command, output),
        Command::Incident(command) => return notify::incident(client, command, output),
        Command::Upgrade { binary } => change::upgrade(client, binary.as_deref(), output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A token named by file wins over one in the environment, as the more deliberate one.
fn client(global: &Global) -> anyhow::Result<Client> {
    let token = match &global.token_file {
        Some(file) => Some(crate::api::read_token(file)?),
        None => match std::env::var("WEIR_TOKEN") {
            Ok(token) if token.bytes().all(|b| b.is_ascii_graphic()) => Some(token).filter(|token| !token.is_empty()),
            Err(std::env::VarError::NotPresent) => None,
            _ => anyhow::bail!("WEIR_TOKEN must hold printable characters without spaces"),
        },
    };
    let trust = Trust {
        ca_file: global.api_ca_file.clone(),
        certificate_file: global.api_certificate_file.clone(),
        key_file: global.api_key_file.clone(),
    };
    Ok(Client::new(&global.api, token, &trust)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_understood_and_what_is_usage() {
        for (line, understood) in [
            ("run --config /etc/weir.toml", true),
            ("run", false),
            ("check weir.toml --json", true),
            ("schema", true),
            ("import haproxy.cfg keepalived.conf --output weir.toml", true),
            ("import a --format nginx", false),
            ("import", false),
            ("man /tmp/man", true),
            ("man", false),
            ("completions bash", true),
            ("completions cmd.exe", false),
            ("status", true),
            ("status pool", true),
            ("status pool web --json", true),
            ("status --watch pool web", true),
            ("status listener", true),
            ("status vip", true),
            ("status vip public --json", true),
            ("status vm", true),
            ("status vm web-1 --json", true),
            ("vip release public --timeout 5s", true),
            ("vip release", false),
            ("vip", false),
            ("status nonsense", false),
            ("top --interval 250ms --api http://127.0.0.1:1", true),
            ("top --interval soon", false),
            ("reload --dry-run", true),
            ("drain 10.0.0.1:80", true),
            ("drain 10.0.0.1:80 --pool web --timeout 5m --maintenance --no-wait", true),
            ("drain [::1]:80 --all-pools", true),
            ("drain 10.0.0.1:80 --all-pools --pool web", false),
            ("drain 10.0.0.1", false),
            ("drain 10.0.0.1:80 --timeout soon", false),
            ("undrain web.internal:80 --pool web", true),
            ("endpoint add web 10.0.0.1:80 --weight 5 --tier 1", true),
            ("endpoint add web 10.0.0.1:80 --weight 0", false),
            ("endpoint add web 10.0.0.1:80 --weight 1001", false),
            ("endpoint add web 10.0.0.1:80 --tier 16", false),
            ("endpoint remove web 10.0.0.1:80", true),
            ("endpoint weight web 10.0.0.1:80 3", true),
            ("endpoint weight web 10.0.0.1:80", false),
            ("events -f -n 5 --json", true),
            ("upgrade --binary ./weir --api http://127.0.0.1:1", true),
            ("vm list --json", true),
            ("vm clone web --pool web --name web-1 --dry-run", true),
            ("vm clone", false),
            ("vm shutdown web-1 web-2 --timeout 30s --force", true),
            ("vm stop --pool web --parallel 8", true),
            ("vm migrate web-1", false),
            ("vm stop web-1 --parallel 0", false),
            ("vm stop web-1 --parallel 65", false),
            ("vm clone web --label tier=front --label a=b", true),
            ("vm clone web --label tier", false),
            ("vm stop --label tier", false),
            ("vm prefetch web --dry-run", true),
            ("vm gc --anyway", true),
            ("vm gc --dry-run", true),
            ("status alarm", true),
            ("status alarm web-busy --json", true),
            ("alarm list", true),
            ("alarm ack web-busy --by ann looking", true),
            ("alarm ack", false),
            ("alarm preview busy.toml --from 7d", true),
            ("scaling show", true),
            ("scaling plan web", true),
            ("scaling set web 4", true),
            ("scaling set web", false),
            ("scaling set web many", false),
            ("scaling protect web web-1 --off", true),
            ("scaling refresh", false),
            ("scaling replay --pool web --policy weir.toml --csv load.csv --boot 1m --svg a.svg", true),
            ("scaling replay --pool web", false),
            ("recovery list", true),
            ("recovery show web --json", true),
            ("recovery run web web-1 --dry-run", true),
            ("recovery run", false),
            ("recovery stop web", true),
            ("scaling replay --pool web --policy weir.toml --from 7d --to 1d", true),
            ("scaling replay --pool web --policy weir.toml --from 7d --csv load.csv", false),
            ("history show --from 2h --kind alarm_changed --subject web-busy -n 5", true),
            ("history show --from yesterday", false),
            ("history export samples --from 2026-03-01T12:00:00Z --to 1h --step 10s", true),
            ("history export everything", false),
            ("audit list --who alice --json", true),
            ("audit verify --noted 3:ab", false),
            ("audit verify --file copy.db", true),
            ("notify list --json", true),
            ("notify test ops-mail", true),
            ("notify test", false),
            ("notify resend --all", true),
            ("notify resend", false),
            ("incident list", true),
            ("incident ack 7 --by kim", true),
            ("incident ack x", false),
            ("", false),
        ] {
            let words = std::iter::once("weir").chain(line.split_whitespace());
            match Cli::try_parse_from(words) {
                Ok(_) => assert!(understood, "{line}"),
                Err(error) => {
                    assert!(!understood, "{line}: {error}");
                    assert_eq!(error.exit_code(), 2, "{line}");
                }
            }
        }
    }
}
