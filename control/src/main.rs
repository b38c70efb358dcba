//! The `weir` program: wires the data plane, the API, the command line and the logs. It decides nothing about traffic.
//!
//! - [`cli`]: the commands. Most are clients of the API.
//! - [`run`]: the life of the process: start, signals, drain, end. [`node`]: the one place where changes are made.
//! - [`overlay`]: run-time changes over the file (pure). [`state`]: what is kept on disk. [`watch`]: the file changed.
//! - [`upgrade`]: another program takes over the sockets. [`access_log`]: the thread that writes it.
//! - [`client`], [`render`]: what the commands ask and show. [`top`]: the same as a picture in a terminal.
//! - [`api`]: REST, metrics, health of the node itself. [`logging`], [`systemd`]: what others are told.
//! - [`vip`]: virtual IPs. [`command`]: programs of the operator's.
//! - [`notify`]: telling people. [`meter`]: what is measured. [`history`]: what was, and who changed what.
//! - [`event`]: what happened, in all rooms.
//! - [`sys`]: the allocator.

mod access_log;
mod acme;
mod api;
mod cli;
mod client;
mod command;
mod event;
mod history;
mod logging;
mod machines;
mod meter;
pub mod node;
mod notify;
mod overlay;
mod recovery;
mod render;
mod run;
mod scaling;
mod state;
mod sys;
mod systemd;
mod top;
mod upgrade;
mod vip;
mod watch;

fn main() -> std::process::ExitCode {
    if let Some(status) = weir_vrrp::shell::guardian() {
        return status;
    }
    cli::main()
}
