//! `weir history` and `weir audit`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use weir_history::audit::Head;
use weir_history::store::Store;

use super::output::Output;
use crate::api::audit_verdict;
use crate::api::model::{AuditPage, AuditVerdict, HistoryPage, SeriesName, SeriesView};
use crate::client::{Client, segment};
use crate::render;

/// Rows of one answer.
const PAGE: usize = 1000;

/// Points of one answer, each of ten seconds.
const SERIES_SPAN: Duration = Duration::from_secs(5000 * 10);

#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// What happened, the latest last: events, changes of alarms, plans and their steps
    Show {
        #[command(flatten)]
        span: Span,
        /// Only this kind of event, such as alarm_changed, scaling_planned, scaling_step
        #[arg(long, value_name = "EVENT")]
        kind: Option<String>,
        /// Only what happened to this alarm, pool, machine, virtual IP, ...
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
        /// The last so many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Write out everything that is kept, one line for each record
    ///
    /// events and audit: a JSON object on each line, the latest first. samples: a table with the columns time, scope, name, metric, mean, min,
    /// max, count.
    Export {
        /// What
        #[arg(value_enum)]
        what: What,
        #[command(flatten)]
        span: Span,
        /// Samples: only of this pool, host or machine
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Samples: a line for each so long
        #[arg(long, value_name = "TIME", default_value = "1m", value_parser = weir_config::parse_duration)]
        step: Duration,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum What {
    /// Events, changes of alarms, plans and their steps
    Events,
    /// Who or what changed which thing
    Audit,
    /// What was measured
    Samples,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Who or what changed which thing, and from where; the latest last
    List {
        #[command(flatten)]
        span: Span,
        /// Only by this one
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Only what was done to this pool, machine, alarm, ...
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
        /// The last so many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Look whether a record was changed, removed or put in between
    ///
    /// Prints the last record's number and hash. Note them elsewhere: whoever can write the file could write the whole chain anew, and only
    /// what was noted elsewhere shows it. Exit status 1 when the chain does not hold.
    Verify {
        /// What was noted: NUMBER:HASH
        #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
        noted: Option<Head>,
        /// A copy of history.db, such as one from a backup, instead of what the node has; no node is needed
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// From when to when.
#[derive(Debug, Args)]
pub(super) struct Span {
    /// How far back, such as 2h or 7d; or a time, such as 2026-03-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(super) from: Option<f64>,
    /// Until when, written in the same way
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(super) to: Option<f64>,
}

/// Seconds since 1970 of `2h` (ago) or of a time.
pub(super) fn when(text: &str) -> Result<f64, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if let Ok(ago) = weir_config::parse_duration(text) {
        return Ok((now - ago.as_secs_f64()).max(0.0));
    }
    if let Ok(seconds) = text.parse::<f64>()
        && (0.0..1e12).contains(&seconds)
    {
        return Ok(seconds);
    }
    weir_config::parse_time(text)
        .map_err(|why| format!("{why}; write how long ago, such as 2h or 7d, or a time such as 2026-03-01T12:00:00Z"))
}

impl Span {
    fn query(&self) -> String {
        let one = |name: &str, value: Option<f64>| value.map(|value| format!("&{name}={value:.3}")).unwrap_or_default();
        one("from", self.from) + &one("to", self.to)
    }
}

fn query(base: String, pairs: &[(&str, &Option<String>)]) -> String {
    pairs.iter().fold(base, |query, (name, value)| match value {
        Some(value) => format!("{query}&{name}={}", segment(value)),
        None => query,
    })
}

/// Page after page until there are enough, or no more. A page says what comes next.
fn pages<T>(last: usize, mut page: impl FnMut(usize, &str) -> anyhow::Result<(Vec<T>, Option<u64>)>) -> anyhow::Result<Vec<T>> {
    let mut all = Vec::new();
    let mut before = String::new();
    while all.len() < last {
        let (found, next) = page((last - all.len()).min(PAGE), &before)?;
        all.extend(found);
        let Some(next) = next else { break };
        before = format!("&before={next}");
    }
    Ok(all)
}

pub(super) fn history(client: &Client, command: &HistoryCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        HistoryCommand::Show { span, kind, subject, last } => {
            let query = query(span.query(), &[("kind", kind), ("subject", subject)]);
            let mut entries = pages(*last, |limit, before| {
                let page: HistoryPage = client.get(&format!("/v1/history?limit={limit}{query}{before}"))?;
                Ok((page.entries, page.next))
            })?;
            entries.reverse();
            output.either(&entries, || render::history(&entries))
        }
        HistoryCommand::Export { what: What::Events, span, .. } => {
            let query = span.query();
            lines(output, |before| {
                let page: HistoryPage = client.get(&format!("/v1/history?limit={PAGE}{query}{before}"))?;
                let lines = page.entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
                Ok((lines, page.next))
            })
        }
        HistoryCommand::Export { what: What::Audit, span, .. } => {
            let query = span.query();
            lines(output, |before| {
                let page: AuditPage = client.get(&format!("/v1/audit?limit={PAGE}{query}{before}"))?;
                let lines = page.records.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
                Ok((lines, page.next))
            })
        }
        HistoryCommand::Export { what: What::Samples, span, name, step } => samples(client, span, name.as_deref(), *step, output),
    }
}

fn lines(output: &Output, mut page: impl FnMut(&str) -> anyhow::Result<(Vec<String>, Option<u64>)>) -> anyhow::Result<()> {
    let mut before = String::new();
    loop {
        let (lines, next) = page(&before)?;
        if !lines.is_empty() {
            output.text(&(lines.join("\n") + "\n"))?;
        }
        let Some(next) = next else { return Ok(()) };
        before = format!("&before={next}");
    }
}

fn samples(client: &Client, span: &Span, name: Option<&str>, step: Duration, output: &Output) -> anyhow::Result<()> {
    let now = when("0s").map_err(anyhow::Error::msg)?;
    let (from, to) = (span.from.unwrap_or(now - 24.0 * 3600.0), span.to.unwrap_or(now));
    let step_s = step.as_secs_f64().max(10.0);
    let longest = (SERIES_SPAN.as_secs_f64() / 10.0 * step_s).floor();
    output.text("time,scope,name,metric,mean,min,max,count\n")?;
    let catalog: Vec<SeriesName> = client.get("/v1/history/catalog")?;
    for series in catalog.iter().filter(|series| name.is_none_or(|name| series.name == name)) {
        let mut begin = from;
        while begin < to {
            let end = (begin + longest).min(to);
            let view: SeriesView = client.get(&format!(
                "/v1/history/series?metric={}&{}={}&from={begin:.3}&to={end:.3}&step_s={step_s}",
                segment(&series.metric),
                series.scope,
                segment(&series.name)
            ))?;
            let line = |p: &crate::api::model::SeriesPoint| {
                format!("{},{},{},{},{},{},{},{}\n", p.at, view.scope, view.name, view.metric, p.mean, p.min, p.max, p.count)
            };
            output.text(&view.points.iter().map(line).collect::<String>())?;
            begin = end;
        }
    }
    Ok(())
}

/// Reads `NUMBER:HASH`.
fn noted(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(number, hash)| Some(Head { number: number.parse().ok()?, hash: hash.parse().ok()? }));
    parts.ok_or_else(|| format!("{text:?} is not NUMBER:HASH, as `weir audit verify` prints them"))
}

/// Looks at a copy of the file, on this machine.
pub(super) fn verify_file(path: &Path, noted: Option<Head>, output: &Output) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(path.is_file(), "there is no file {}", path.display());
    let store = Store::open(path).context("take a copy: the file that a node uses is its own while it runs")?;
    let verdict = audit_verdict(store.verify(noted)?, store.head(), None);
    say(&verdict, output)
}

fn say(verdict: &AuditVerdict, output: &Output) -> anyhow::Result<ExitCode> {
    output.either(verdict, || render::audit_verdict(verdict))?;
    Ok(if verdict.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn audit(client: &Client, command: &AuditCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List { span, who, subject, last } => {
            let query = query(span.query(), &[("who", who), ("subject", subject)]);
            let mut records = pages(*last, |limit, before| {
                let page: AuditPage = client.get(&format!("/v1/audit?limit={limit}{query}{before}"))?;
                Ok((page.records, page.next))
            })?;
            records.reverse();
            output.either(&records, || render::audit(&records, output.screen))?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Verify { noted, .. } => {
            let query = noted.map(|noted| format!("?number={}&hash={}", noted.number, noted.hash)).unwrap_or_default();
            let verdict: AuditVerdict = client.get(&format!("/v1/audit/verify{query}"))?;
            say(&verdict, output)
        }
    }
}
