//! What was measured: values by suite, case, metric and peer; the table and the JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::peers::{Peer, Programs};
use crate::targets::Verdict;

/// One metric of one case: a value for each peer and round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) suite: String,
    pub(crate) case: String,
    pub(crate) metric: String,
    pub(crate) unit: String,
    /// By peer, in the order of rounds.
    pub(crate) values: BTreeMap<String, Vec<f64>>,
}

/// Median with the smallest and largest value.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    /// What could not be measured, and why.
    pub(crate) skipped: Vec<String>,
}

impl Results {
    /// Adds the value of the next round.
    pub(crate) fn add(&mut self, suite: &str, case: &str, metric: &str, unit: &str, peer: &str, value: f64) {
        let at = self.series.iter().position(|s| s.suite == suite && s.case == case && s.metric == metric).unwrap_or_else(|| {
            self.series.push(Series {
                suite: suite.into(),
                case: case.into(),
                metric: metric.into(),
                unit: unit.into(),
                values: BTreeMap::new(),
            });
            self.series.len() - 1
        });
        self.series[at].values.entry(peer.to_owned()).or_default().push(value);
    }

    /// The values of one metric.
    pub(crate) fn find(&self, suite: &str, case: &str, metric: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.suite == suite && s.case == case && s.metric == metric)
    }
}

impl Series {
    /// `None` when the peer was not measured.
    pub(crate) fn spread(&self, peer: &str) -> Option<Spread> {
        Spread::of(self.values.get(peer)?)
    }

    /// `peer` over `base`, round by round: what both saw of the machine's mood cancels out.
    pub(crate) fn ratio(&self, peer: &str, base: &str) -> Option<Spread> {
        let pairs = self.values.get(peer)?.iter().zip(self.values.get(base)?);
        Spread::of(&pairs.filter(|(_, b)| **b > 0.0).map(|(p, b)| p / b).collect::<Vec<_>>())
    }
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Spread { median: f64::midpoint(lower, upper), min, max })
    }
}

/// Prints one case as soon as it is done.
pub(crate) fn print_case(results: &Results, suite: &str, case: &str) {
    println!("\n{suite}: {case}");
    println!("  {:<22} {:<20} {:>10}  {:<21} {:>12}", "metric", "peer", "median", "min to max", "weir / peer");
    for series in results.series.iter().filter(|s| s.suite == suite && s.case == case) {
        let mut rows: Vec<(&String, Spread)> = series.values.keys().filter_map(|p| Some((p, series.spread(p)?))).collect();
        rows.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
        for (peer, s) in rows {
            let ratio = match series.ratio("weir", peer) {
                Some(r) if peer != "weir" => format!("{:.3}", r.median),
                _ => String::new(),
            };
            let range = format!("{} to {}", number(s.min), number(s.max));
            let label = format!("{} ({})", series.metric, series.unit);
            println!("  {label:<22} {peer:<20} {:>10}  {range:<21} {ratio:>12}", number(s.median));
        }
    }
}

/// Prints the verdicts.
pub(crate) fn print_verdicts(verdicts: &[Verdict]) {
    println!("\nTargets");
    for v in verdicts {
        println!("  {:<6} {}", v.word(), v.sentence());
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    machine: BTreeMap<&'static str, String>,
    versions: BTreeMap<String, String>,
    options: &'a BTreeMap<&'static str, String>,
    results: Vec<Entry<'a>>,
    targets: &'a [Verdict],
    skipped: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    series: &'a Series,
    spreads: BTreeMap<&'a str, Spread>,
    /// weir over each peer, paired by round.
    weir_over: BTreeMap<&'a str, Spread>,
}

/// Writes everything to `path`.
pub(crate) fn write_json(
    path: &Path,
    results: &Results,
    verdicts: &[Verdict],
    peers: &[Peer],
    programs: &Programs,
    options: &BTreeMap<&'static str, String>,
) -> Result<()> {
    let entries = results.series.iter().map(|series| Entry {
        series,
        spreads: series.values.keys().filter_map(|p| Some((p.as_str(), series.spread(p)?))).collect(),
        weir_over: series.values.keys().filter(|p| *p != "weir").filter_map(|p| Some((p.as_str(), series.ratio("weir", p)?))).collect(),
    });
    let document = Document {
        machine: machine(),
        versions: peers.iter().filter_map(|p| Some((p.to_string(), p.version(programs)?))).collect(),
        options,
        results: entries.collect(),
        targets: verdicts,
        skipped: &results.skipped,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&document)? + "\n").with_context(|| format!("write {}", path.display()))
}

/// Where this was measured.
pub(crate) fn machine() -> BTreeMap<&'static str, String> {
    let first_line = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.lines().next().map(|l| l.trim().to_owned()));
    let after_colon = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"]).map(|commit| {
        let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| s.is_empty());
        if clean { commit } else { format!("{commit} with changes") }
    });
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs().to_string()).ok();
    [
        ("cpu", after_colon("/proc/cpuinfo", "model name")),
        (
            "cores",
            std::fs::read_to_string("/proc/cpuinfo").ok().map(|t| t.lines().filter(|l| l.starts_with("processor")).count().to_string()),
        ),
        ("memory", after_colon("/proc/meminfo", "MemTotal")),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("unix_time", seconds),
        ("commit", commit),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_paired_by_round() {
        let mut results = Results::default();
        for (weir, nginx) in [(9.0, 10.0), (18.0, 20.0), (8.0, 10.0)] {
            results.add("http", "a", "cpu", "us", "weir", weir);
            results.add("http", "a", "cpu", "us", "nginx", nginx);
        }
        let ratio = results.find("http", "a", "cpu").and_then(|s| s.ratio("weir", "nginx")).expect("measured");
        assert_eq!(ratio, Spread { median: 0.9, min: 0.8, max: 0.9 });
    }

    #[test]
    fn an_even_number_of_values_has_a_median_between() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of(&[]), None);
    }
}
