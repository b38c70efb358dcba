//! `[alarm.NAME]` and `[metric.NAME]`

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::calendar::Calendar;
use crate::error::Problem;
use crate::metric::{Metric, Statistic};
use crate::model::{
    Alarm, AlarmName, AlarmScope, Comparison, Condition, ExternalMetric, MetricName, MetricSource, MissingData, Mute, Recover, ScaleChange,
    Suppressor, Threshold,
};
use crate::parse::expression::expression;
use crate::parse::node::absolute_path;
use crate::reader::{Field, Named, Placed, Table};
use crate::severity::Severity;

/// What is watched, of which an alarm has one.
const SCOPES: [&str; 3] = ["pool", "host", "machine"];

/// What only an alarm with a metric has.
const OF_METRIC: [&str; 10] = ["metric", "statistic", "period", "above", "below", "clear", "for", "periods", "datapoints", "missing"];

/// The longest that the data points of one alarm may reach back.
const SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// An alarm with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedAlarm {
    /// The name of the table.
    pub(crate) name: AlarmName,
    /// `None`: a problem was reported.
    pub(crate) alarm: Option<Alarm>,
    /// Each alarm that it names, with its place.
    pub(crate) alarms: Vec<Placed<AlarmName>>,
    /// What it watches or scales, with its place.
    pub(crate) scope: Option<Placed<AlarmScope>>,
    /// The metric from elsewhere that it names, with its place.
    pub(crate) external: Option<Placed<MetricName>>,
    /// Where it wants to scale.
    pub(crate) scale: Option<Range<usize>>,
    /// Its header.
    pub(crate) span: Range<usize>,
    /// Its full name.
    pub(crate) path: String,
}

pub(super) fn alarm(named: &Named<'_>) -> ParsedAlarm {
    let table = &named.table;
    let scope = scope(table);
    let mut alarms = Vec::new();
    let (condition, external) = if table.has("when") {
        table.refuse(&OF_METRIC, "with `when`, which names other alarms");
        table.refuse(&["host", "machine"], "with `when`, which names other alarms");
        (composite(table, &mut alarms), None)
    } else {
        let metric = metric(table, "metric");
        let external = match &metric {
            Some(Metric::External(name)) => Some(table.placed("metric", MetricName(name.clone()))),
            _ => None,
        };
        (threshold(table, named.name, metric, scope.as_ref()).map(Condition::Threshold), external)
    };
    let suppressor = suppressor(table, &mut alarms);
    let scale = scale(table, scope.as_ref());
    let severity = table.choice("severity").and_then(Severity::from_word).unwrap_or(Severity::Warning);
    let (mutes, notify, recover) = (mutes(table), channels(table), recover(table));
    let alarm =
        condition.map(|condition| Alarm { name: named.name.into(), severity, condition, suppressor, mutes, scale, notify, recover });
    let scale = table.has("scale").then(|| table.span_of("scale"));
    ParsedAlarm { name: named.name.into(), alarm, alarms, scope, external, scale, span: table.span(), path: table.path().into() }
}

fn scope(table: &Table<'_>) -> Option<Placed<AlarmScope>> {
    let written: Vec<&str> = SCOPES.into_iter().filter(|name| table.has(name)).collect();
    match written[..] {
        [] => None,
        [name] => {
            let text = table.text(name)?;
            let scope = match name {
                "pool" => AlarmScope::Pool(text.into()),
                "host" => AlarmScope::Host(text.into()),
                _ => AlarmScope::Machine(text.to_owned()),
            };
            Some(table.placed(name, scope))
        }
        [first, second, ..] => {
            let problem = table.problem(second, format!("an alarm watches one thing, not a {first} and a {second}"));
            table.report(problem.note(table.span_of(first), format!("the {first} is named here")).help("make two alarms of it"));
            None
        }
    }
}

/// A metric of that word; one that is not built in is from elsewhere.
pub(super) fn metric(table: &Table<'_>, name: &str) -> Option<Metric> {
    let text = table.text(name)?;
    Some(Metric::built_in(text).unwrap_or_else(|| Metric::External(text.into())))
}

fn composite(table: &Table<'_>, alarms: &mut Vec<Placed<AlarmName>>) -> Option<Condition> {
    let field = table.field("when")?;
    let read = field.checked(expression(field.text()?))?;
    alarms.extend(read.alarms().into_iter().map(|name| field.placed(name.clone())));
    Some(Condition::Composite(read))
}

fn threshold(table: &Table<'_>, name: &str, metric: Option<Metric>, scope: Option<&Placed<AlarmScope>>) -> Option<Threshold> {
    let statistic = match table.field("statistic") {
        None => Some(Statistic::Average),
        Some(field) => field.text().and_then(|text| {
            let wrong = || format!("{text:?} is not a statistic; write average, sum, minimum, maximum or p1 to p99");
            field.checked(Statistic::parse(text).ok_or_else(wrong))
        }),
    };
    let period = table.time("period").unwrap_or(Duration::from_secs(10));
    let (periods, datapoints) = periods(table, period);
    let limit = limit(table, name);
    let missing = match table.choice("missing") {
        Some("breaching") => MissingData::Breaching,
        Some("not-breaching") => MissingData::NotBreaching,
        Some("ignore") => MissingData::Ignore,
        _ => MissingData::Missing,
    };
    if !table.has("metric") {
        let problem = Problem::new(table.span(), table.path(), "an alarm needs a metric, or other alarms in `when`");
        table.report(problem.help("add `metric = \"cpu\"`").needs_whole_file());
    }
    if SCOPES.iter().all(|scope| !table.has(scope)) {
        let problem = Problem::new(table.span(), table.path(), "it is not said what the alarm watches");
        table.report(problem.help("add `pool = \"NAME\"`, `host = \"NAME\"` or `machine = \"NAME\"`").needs_whole_file());
    }
    let (metric, scope) = (metric?, &scope?.value);
    check_scope(table, &metric, scope);
    let (comparison, limit, clear) = limit?;
    Some(Threshold { scope: scope.clone(), metric, statistic: statistic?, period, comparison, limit, clear, periods, datapoints, missing })
}

fn check_scope(table: &Table<'_>, metric: &Metric, scope: &AlarmScope) {
    let scopes = metric.scopes();
    let (word, fits) = match scope {
        AlarmScope::Pool(_) => ("pool", scopes.pool),
        AlarmScope::Host(_) => ("host", scopes.host),
        AlarmScope::Machine(_) => ("machine", scopes.machine),
    };
    if !fits {
        let of: Vec<&str> = [("pool", scopes.pool), ("host", scopes.host), ("machine", scopes.machine)]
            .into_iter()
            .filter_map(|(word, fits)| fits.then_some(word))
            .collect();
        let problem = table.problem("metric", format!("{metric} is not measured of a {word}"));
        table.report(problem.help(format!("it is measured of a {}", of.join(" or a "))).needs_whole_file());
    }
}

/// N and M.
fn periods(table: &Table<'_>, period: Duration) -> (u32, u32) {
    if table.has("for") {
        table.refuse(&["periods", "datapoints"], "with `for`, which says how many");
        let span = table.time("for").unwrap_or(period);
        let count = u32::try_from(span.as_millis().div_ceil(period.as_millis().max(1))).unwrap_or(u32::MAX).max(1);
        check_span(table, "for", period, count);
        return (count, count);
    }
    let periods = table.count_u32("periods");
    let datapoints = table.count_u32("datapoints");
    if let (Some(datapoints), None) = (datapoints, periods) {
        let problem = table.problem("datapoints", format!("{datapoints} of how many?"));
        table.report(problem.help(format!("add `periods = {datapoints}`")).needs_whole_file());
    }
    let periods = periods.unwrap_or(1);
    let datapoints = datapoints.unwrap_or(periods);
    if table.has("periods") && datapoints > periods {
        let problem = table.problem("datapoints", format!("{datapoints} of {periods} data points can never breach"));
        table.report(problem.note(table.span_of("periods"), "so many are looked at").needs_whole_file());
    }
    check_span(table, "periods", period, periods);
    (periods, datapoints)
}

fn check_span(table: &Table<'_>, name: &str, period: Duration, periods: u32) {
    if table.has(name) && (periods > 1000 || period.saturating_mul(periods) > SPAN_MAX) {
        let problem = table.problem(name, format!("{periods} periods are more than are remembered: 1000, and 7 days"));
        table.report(problem.help("make `period` longer or look at fewer").needs_whole_file());
    }
}

fn limit(table: &Table<'_>, name: &str) -> Option<(Comparison, f64, f64)> {
    let (comparison, key) = match (table.has("above"), table.has("below")) {
        (true, true) => {
            let problem = Problem::new(table.key_span("below"), table.path_of("below"), "an alarm is above or below a threshold, not both");
            table.report(problem.note(table.span_of("above"), "above is here").help("make two alarms, and one with `when` of both"));
            return None;
        }
        (true, false) => (Comparison::Above, "above"),
        (false, true) => (Comparison::Below, "below"),
        (false, false) => {
            let problem = Problem::new(table.span(), table.path(), "the alarm has no threshold");
            table.report(problem.help(format!("add `above = 70.0` or `below = 20.0` under [alarm.{name}]")).needs_whole_file());
            table.number("clear");
            return None;
        }
    };
    let (limit, clear) = (table.number(key), table.number("clear"));
    let limit = limit?;
    let clear = clear.unwrap_or(limit);
    if comparison.is_beyond(clear, limit) {
        let problem = table.problem("clear", format!("clear = {clear} lies {key} the threshold: it would be in alarm and clear at once"));
        table.report(problem.note(table.span_of(key), "the threshold is here").needs_whole_file());
    }
    Some((comparison, limit, clear))
}

fn suppressor(table: &Table<'_>, alarms: &mut Vec<Placed<AlarmName>>) -> Option<Suppressor> {
    if !table.has("suppressor") {
        table.refuse(&["suppress_wait", "suppress_extension"], "without `suppressor`");
        return None;
    }
    let name = AlarmName::from(table.text("suppressor")?);
    alarms.push(table.placed("suppressor", name.clone()));
    Some(Suppressor {
        alarm: name,
        wait: table.time("suppress_wait").unwrap_or_default(),
        extension: table.time("suppress_extension").unwrap_or_default(),
    })
}

fn scale(table: &Table<'_>, scope: Option<&Placed<AlarmScope>>) -> Option<(crate::model::PoolName, ScaleChange)> {
    let field = table.field("scale")?;
    let change = field.checked(ScaleChange::parse(field.text()?))?;
    match scope.map(|scope| &scope.value) {
        Some(AlarmScope::Pool(pool)) => Some((pool.clone(), change)),
        Some(_) => {
            field.report(
                field.problem("only an alarm of a pool can scale").help("watch the pool, or use this alarm in `when` of another one"),
            );
            None
        }
        None => {
            field.report(field.problem("which pool shall it scale?").help("add `pool = \"NAME\"`").needs_whole_file());
            None
        }
    }
}

fn mutes(table: &Table<'_>) -> Vec<Mute> {
    let tables = table.field("mute").map(|field| field.tables()).unwrap_or_default();
    let mute = |table: &Table<'_>| {
        let begins = calendar(table);
        let duration = table.time("duration");
        Some(Mute { begins: begins?, duration: duration? })
    };
    tables.iter().filter_map(mute).collect()
}

/// `cron` and `time_zone` of a table.
pub(super) fn calendar(table: &Table<'_>) -> Option<Calendar> {
    let zone = table.text("time_zone");
    let field = table.field("cron")?;
    let cron = field.text()?;
    let zone = zone?;
    match Calendar::parse(cron, zone) {
        // Which of the two is wrong?
        Err(_) if Calendar::parse("0 0 * * *", zone).is_err() => {
            let zone_field = table.field("time_zone")?;
            zone_field.checked(Calendar::parse("0 0 * * *", zone))
        }
        parsed => field.checked(parsed),
    }
}

fn recover(table: &Table<'_>) -> Option<Recover> {
    if !table.has("recover") {
        table.refuse(&["recover_timeout"], "without `recover`");
        return None;
    }
    let command = command(&table.field("recover")?);
    let timeout = table.time("recover_timeout").unwrap_or(Duration::from_secs(60));
    Some(Recover { command: command?, timeout })
}

/// Program and arguments.
pub(super) fn command(field: &Field<'_>) -> Option<Vec<String>> {
    let items = field.items()?;
    let words: Vec<String> = items.iter().filter_map(|item| item.text().map(str::to_owned)).collect();
    if words.len() != items.len() {
        return None;
    }
    if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        field.report(field.problem("there is no program to run").help("write [\"/path/to/program\", \"argument\"]"));
        return None;
    }
    Some(words)
}

/// Names of channels; whether there are such is looked at with all who name some.
fn channels(table: &Table<'_>) -> Vec<String> {
    let items = table.field("notify").and_then(|field| field.items()).unwrap_or_default();
    items.iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

/// `[metric.NAME]`
pub(super) fn external(named: &Named<'_>) -> Option<ExternalMetric> {
    let table = &named.table;
    let interval = table.time("interval").unwrap_or(Duration::from_secs(10));
    let timeout = table.time("timeout").unwrap_or(Duration::from_secs(5));
    if timeout > interval {
        let problem = table.problem("timeout", "an answer may take longer than the interval between two looks");
        table.report(problem.note(table.span_of("interval"), "the interval").needs_whole_file());
    }
    if Metric::built_in(named.name).is_some() {
        let problem = Problem::new(table.span(), table.path(), format!("{:?} is a metric that is built in", named.name));
        table.report(problem.help("give it another name"));
    }
    let source = source(table, named.name);
    Some(ExternalMetric { name: named.name.into(), source: source?, interval, timeout })
}

fn source(table: &Table<'_>, name: &str) -> Option<MetricSource> {
    match (table.has("prometheus"), table.has("command")) {
        (true, true) => {
            let problem = Problem::new(table.key_span("command"), table.path_of("command"), "a metric comes from one place, not from two");
            table.report(problem.note(table.span_of("prometheus"), "it comes from here").help("remove one of them"));
            None
        }
        (false, false) => {
            let problem = Problem::new(table.span(), table.path(), "it is not said where the metric comes from");
            let help = format!("add `prometheus = \"http://HOST:9090\"` and `query`, or `command = [...]` under [metric.{name}]");
            table.report(problem.help(help).needs_whole_file());
            None
        }
        (false, true) => {
            table.refuse(&["query", "token_file", "ca_file"], "without `prometheus`");
            command(&table.field("command")?).map(MetricSource::Command)
        }
        (true, false) => {
            let field = table.field("prometheus")?;
            let url = field.text().and_then(|text| field.checked(http_url(text)));
            let query = table.text("query").map(str::to_owned);
            if !table.has("query") {
                let problem = table.problem("prometheus", "it is not said what it is asked for");
                table.report(problem.help("add `query = \"sum(rate(jobs_total[1m]))\"`").needs_whole_file());
            }
            let token_file = if table.has("token_file") { absolute_path(table, "token_file") } else { None };
            let url = url?;
            Some(MetricSource::Prometheus { ca_file: ca_file(table, &url), url, query: query?, token_file })
        }
    }
}

/// Whom to believe at a URL.
pub(super) fn ca_file(table: &Table<'_>, url: &str) -> Option<PathBuf> {
    if url.starts_with("http://") {
        table.refuse(&["ca_file"], "with http://");
        return None;
    }
    table.has("ca_file").then(|| absolute_path(table, "ca_file")).flatten()
}

/// A URL without user or password.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a URL that can be asked; write http://HOST:PORT/PATH or https://HOST:PORT/PATH");
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(wrong)?;
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a password must not stand in the URL; use a token file".into());
    }
    let good = !authority.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
    if good { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}
