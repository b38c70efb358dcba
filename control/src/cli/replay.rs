//! `weir scaling replay`: on this machine, without a node.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use weir_autoscaler::replay::{Report, parse_csv, replay};
use weir_autoscaler::scaling::Policy;
use weir_config::PoolName;

use super::output::Output;
use crate::render;

/// The largest table that is read.
const BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Name of the pool
    #[arg(long)]
    pool: String,
    /// A configuration file with the policy to try
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// What was measured: a table with the columns time (seconds since 1970), machines (how many shared it; default 1), and metrics by name
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// From a launch until the machine is healthy
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = weir_config::parse_duration)]
    boot: Duration,
    /// Also draw the machines over time into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(super) fn run(options: &Replay, output: &Output) -> anyhow::Result<()> {
    let text = read(&options.policy)?;
    let config =
        weir_config::parse(&text, &options.policy.to_string_lossy()).map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))?;
    let pool = PoolName::from(options.pool.as_str());
    let Some(policy) = Policy::of(&config, &pool) else {
        bail!("{} has no [pool.{pool}.scaling]", options.policy.display());
    };
    let rows = parse_csv(&read(&options.csv)?).map_err(|why| anyhow::anyhow!("{}: {why}", options.csv.display()))?;
    let report: Report = replay(&policy, &config.alarms, &rows, options.boot);
    if let Some(path) = &options.svg {
        fs::write(path, render::replay_svg(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output.either(&report, || render::replay(&report, output.screen))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(BYTES_MAX).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
