//! The `weir` program.

mod api;
mod cli;
mod client;
mod node;
mod render;

/// Stands in for the running node until it is there.
mod run {
    pub(crate) fn run(_: &std::path::Path) -> anyhow::Result<()> {
        anyhow::bail!("not in this build")
    }
}

fn main() -> std::process::ExitCode {
    cli::main()
}
