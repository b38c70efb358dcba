//! Alarms and metrics from elsewhere.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{HostName, PoolName, ScaleChange};
use crate::calendar::Calendar;
use crate::metric::{Metric, Statistic};
use crate::severity::Severity;

/// The name of an alarm, as written in `[alarm.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AlarmName(pub Arc<str>);

/// The name of a metric from elsewhere, as written in `[metric.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MetricName(pub Arc<str>);

impl fmt::Display for AlarmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for AlarmName {
    fn from(name: &str) -> Self {
        AlarmName(name.into())
    }
}

impl From<&str> for MetricName {
    fn from(name: &str) -> Self {
        MetricName(name.into())
    }
}

/// `[alarm.NAME]`
#[derive(Clone, PartialEq, Debug)]
pub struct Alarm {
    /// The table's name.
    pub name: AlarmName,
    /// `severity`. Default warning.
    pub severity: Severity,
    /// When it is in alarm.
    pub condition: Condition,
    /// `suppressor`: while it is in alarm, nothing is done about this one.
    pub suppressor: Option<Suppressor>,
    /// `[[alarm.NAME.mute]]`: times in which nothing is done about it.
    pub mutes: Vec<Mute>,
    /// `scale`, with the pool that is scaled.
    pub scale: Option<(PoolName, ScaleChange)>,
    /// `notify`: the channels that are told, by name; empty: the rules decide.
    pub notify: Vec<String>,
    /// `recover`: a program that repairs what is wrong.
    pub recover: Option<Recover>,
}

/// When an alarm is in alarm.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// A metric crosses a threshold.
    Threshold(Threshold),
    /// `when`: of other alarms.
    Composite(Expression),
}

/// A metric and its bounds.
#[derive(Clone, PartialEq, Debug)]
pub struct Threshold {
    /// `pool`, `host` or `machine`
    pub scope: AlarmScope,
    /// `metric`
    pub metric: Metric,
    /// `statistic`. Default average.
    pub statistic: Statistic,
    /// `period`. Default 10 s.
    pub period: Duration,
    /// `above` or `below`
    pub comparison: Comparison,
    /// Its value: a data point beyond it breaches.
    pub limit: f64,
    /// `clear`: in alarm, a data point breaches until it is on this side of it. Default: the limit.
    pub clear: f64,
    /// `periods`: the data points that are looked at, N. With `for`: as many as it takes. At least 1.
    pub periods: u32,
    /// `datapoints`: how many of them must breach, M. Default all. At least 1.
    pub datapoints: u32,
    /// `missing`. Default missing.
    pub missing: MissingData,
}

/// What is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlarmScope {
    /// `pool`
    Pool(PoolName),
    /// `host`
    Host(HostName),
    /// `machine`: by its name.
    Machine(String),
}

/// On which side of the limit it is bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `above`
    Above,
    /// `below`
    Below,
}

/// What a period without data point counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingData {
    /// Nothing; if all are missing, there is not enough data.
    Missing,
    /// As one that breaches.
    Breaching,
    /// As one that does not.
    NotBreaching,
    /// The state stays as it is.
    Ignore,
}

/// Other alarms, combined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expression {
    /// It is in alarm.
    Alarm(AlarmName),
    /// `not`
    Not(Box<Expression>),
    /// `and`
    And(Vec<Expression>),
    /// `or`
    Or(Vec<Expression>),
}

/// An alarm that keeps another one quiet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppressor {
    /// `suppressor`
    pub alarm: AlarmName,
    /// `suppress_wait`: how long the actions wait for the suppressor. Default none.
    pub wait: Duration,
    /// `suppress_extension`: how long they go on being suppressed after it. Default none.
    pub extension: Duration,
}

/// `[[alarm.NAME.mute]]`
#[derive(Clone, PartialEq, Debug)]
pub struct Mute {
    /// `cron`, `time_zone`: when it begins.
    pub begins: Calendar,
    /// `duration`
    pub duration: Duration,
}

/// `recover`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recover {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `recover_timeout`. Default 60 s.
    pub timeout: Duration,
}

/// `[metric.NAME]`: one number from elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct ExternalMetric {
    /// The table's name.
    pub name: MetricName,
    /// `prometheus` or `command`
    pub source: MetricSource,
    /// `interval`. Default 10 s.
    pub interval: Duration,
    /// `timeout`. Default 5 s.
    pub timeout: Duration,
}

/// Where a number comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetricSource {
    /// A query of the API of Prometheus, whose first sample counts.
    Prometheus {
        /// `prometheus`: `http://HOST:PORT`, or with https.
        url: String,
        /// `ca_file`: who may have signed its certificate; `None`: whom the system trusts.
        ca_file: Option<PathBuf>,
        /// `query`
        query: String,
        /// `token_file`: with a bearer token.
        token_file: Option<PathBuf>,
    },
    /// `command`: a program that prints the number.
    Command(Vec<String>),
}

impl Expression {
    /// Every alarm that it names.
    pub fn alarms(&self) -> Vec<&AlarmName> {
        match self {
            Expression::Alarm(name) => vec![name],
            Expression::Not(inner) => inner.alarms(),
            Expression::And(all) | Expression::Or(all) => all.iter().flat_map(Expression::alarms).collect(),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Expression], word: &str| {
            for (at, one) in all.iter().enumerate() {
                let nested = matches!(one, Expression::And(_) | Expression::Or(_));
                let (open, close) = if nested { ("(", ")") } else { ("", "") };
                let word = if at == 0 { "" } else { word };
                write!(f, "{word}{open}{one}{close}")?;
            }
            Ok(())
        };
        match self {
            Expression::Alarm(name) => write!(f, "{name}"),
            Expression::Not(inner) if matches!(**inner, Expression::And(_) | Expression::Or(_)) => write!(f, "not ({inner})"),
            Expression::Not(inner) => write!(f, "not {inner}"),
            Expression::And(all) => list(f, all, " and "),
            Expression::Or(all) => list(f, all, " or "),
        }
    }
}

impl fmt::Display for AlarmScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AlarmScope::Pool(name) => write!(f, "pool {name}"),
            AlarmScope::Host(name) => write!(f, "host {name}"),
            AlarmScope::Machine(name) => write!(f, "machine {name}"),
        }
    }
}

impl Comparison {
    /// `above` or `below`.
    pub fn word(self) -> &'static str {
        match self {
            Comparison::Above => "above",
            Comparison::Below => "below",
        }
    }

    /// Whether the value lies beyond the limit.
    pub fn is_beyond(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::Above => value > limit,
            Comparison::Below => value < limit,
        }
    }
}

impl MissingData {
    /// `missing`, `breaching`, `not-breaching` or `ignore`.
    pub fn word(self) -> &'static str {
        match self {
            MissingData::Missing => "missing",
            MissingData::Breaching => "breaching",
            MissingData::NotBreaching => "not-breaching",
            MissingData::Ignore => "ignore",
        }
    }
}
