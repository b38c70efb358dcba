//! `weir scaling replay`: over what a node has kept, or over a table, without a node.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use weir_autoscaler::UnixMs;
use weir_autoscaler::replay::{ROWS_MAX, Report, Row, parse_csv, replay};
use weir_autoscaler::scaling::Policy;
use weir_config::{Metric, PoolName};

use super::history::{Span, when};
use super::output::Output;
use crate::api::model::{SeriesName, SeriesView};
use crate::client::{Client, segment};
use crate::meter::MACHINES;
use crate::render;

/// The largest table that is read.
const BYTES_MAX: u64 = 256 << 20;

/// How far back where nobody says.
const DAY_S: f64 = 86_400.0;

/// What one answer holds of points of ten seconds.
const SPAN_S: f64 = 50_000.0;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Name of the pool
    #[arg(long)]
    pool: String,
    /// A configuration file with the policy to try
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    span: Span,
    /// Instead of what the node has kept: a table with the columns time (seconds since 1970), machines (how many shared it; default 1), and
    /// metrics by name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    csv: Option<PathBuf>,
    /// From a launch until the machine is healthy
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = weir_config::parse_duration)]
    boot: Duration,
    /// Also draw the machines over time into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(super) fn run(options: &Replay, client: impl FnOnce() -> anyhow::Result<Client>, output: &Output) -> anyhow::Result<()> {
    let text = read(&options.policy)?;
    let config =
        weir_config::parse(&text, &options.policy.to_string_lossy()).map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))?;
    let pool = PoolName::from(options.pool.as_str());
    let Some(policy) = Policy::of(&config, &pool) else {
        bail!("{} has no [pool.{pool}.scaling]", options.policy.display());
    };
    let rows = match &options.csv {
        Some(csv) => parse_csv(&read(csv)?).map_err(|why| anyhow::anyhow!("{}: {why}", csv.display()))?,
        None => stored(&client()?, &options.pool, options.span.from, options.span.to)?,
    };
    let report: Report = replay(&policy, &config.alarms, &rows, options.boot);
    if let Some(path) = &options.svg {
        fs::write(path, render::replay_svg(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output.either(&report, || render::replay(&report, output.screen))
}

/// What the node has kept of the pool.
fn stored(client: &Client, pool: &str, from: Option<f64>, to: Option<f64>) -> anyhow::Result<Vec<Row>> {
    let now = when("0s").map_err(anyhow::Error::msg)?;
    let (from, to) = (from.unwrap_or(now - DAY_S), to.unwrap_or(now));
    let catalog: Vec<SeriesName> = client.get("/v1/history/catalog")?;
    let of_pool = catalog.into_iter().filter(|series| series.scope == "pool" && series.name == pool);
    let mut columns = BTreeMap::new();
    for series in of_pool {
        let mut points = Vec::new();
        let mut begin = from;
        while begin < to {
            let end = (begin + SPAN_S).min(to);
            let query = format!("metric={}&pool={}&from={begin:.3}&to={end:.3}&step_s=10", segment(&series.metric), segment(pool));
            let view: SeriesView = client.get(&format!("/v1/history/series?{query}"))?;
            points.extend(view.points.iter().map(|point| (UnixMs((point.at * 1000.0) as u64), point.mean)));
            begin = end;
        }
        columns.insert(series.metric, points);
    }
    let rows = rows(&columns);
    if rows.len() < 2 {
        bail!(
            "nothing is kept of pool {pool} from {} to {}; weir history export samples --name {pool} shows what is",
            render::time(from),
            render::time(to)
        );
    }
    Ok(rows)
}

/// A row for each moment of which something is known.
fn rows(columns: &BTreeMap<String, Vec<(UnixMs, f64)>>) -> Vec<Row> {
    let mut rows: BTreeMap<UnixMs, Row> = BTreeMap::new();
    for (name, points) in columns {
        let metric = (name != MACHINES).then(|| Metric::built_in(name).unwrap_or_else(|| Metric::External(name.as_str().into())));
        for (at, value) in points {
            let row = rows.entry(*at).or_insert_with(|| Row { at: *at, machines: 0.0, values: BTreeMap::new() });
            match &metric {
                Some(metric) => _ = row.values.insert(metric.clone(), *value),
                None => row.machines = *value,
            }
        }
    }
    let mut machines = 1.0;
    for row in rows.values_mut() {
        // A pool that was not scaled then: as many as its endpoints shared the load.
        let share = |total: Metric, each: Metric| {
            let (total, each) = (row.values.get(&total)?, row.values.get(&each)?);
            (*each > 0.0).then(|| (total / each).round())
        };
        let shared =
            || share(Metric::Requests, Metric::RequestsPerEndpoint).or_else(|| share(Metric::InFlight, Metric::InFlightPerEndpoint));
        if row.machines <= 0.0 {
            row.machines = shared().unwrap_or(machines);
        }
        machines = row.machines;
    }
    rows.into_values().take(ROWS_MAX).collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(BYTES_MAX).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_made_of_series() {
        let at = |seconds: u64| UnixMs(seconds * 1000);
        let columns = BTreeMap::from([
            ("requests".to_owned(), vec![(at(10), 90.0), (at(20), 0.0), (at(40), 60.0)]),
            ("requests-per-endpoint".to_owned(), vec![(at(10), 30.0), (at(20), 0.0), (at(40), 30.0)]),
            ("jobs".to_owned(), vec![(at(30), 7.0)]),
        ]);
        let found: Vec<(u64, f64, usize)> = rows(&columns).iter().map(|row| (row.at.0 / 1000, row.machines, row.values.len())).collect();
        assert_eq!(found, [(10, 3.0, 2), (20, 3.0, 2), (30, 3.0, 1), (40, 2.0, 2)]);
        let with_machines = BTreeMap::from([("machines".to_owned(), vec![(at(10), 4.0)]), ("cpu".to_owned(), vec![(at(10), 50.0)])]);
        assert_eq!(rows(&with_machines)[0], Row { at: at(10), machines: 4.0, values: BTreeMap::from([(Metric::Cpu, 50.0)]) });
    }
}
