//! What was, and who changed what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AlarmChangeView;

/// A page of what was, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct HistoryPage {
    /// What happened.
    pub entries: Vec<HistoryItem>,
    /// To go on: ask with `before` = this number. Absent: there is no more.
    pub next: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// Its number; they grow.
    pub id: u64,
    /// When, in seconds since 1970.
    pub at: f64,
    /// Which event, such as `alarm_changed`, `scaling_planned`, `scaling_step`.
    pub kind: String,
    /// To whom: an alarm, a pool, a machine; empty: to the node.
    pub subject: String,
    /// Everything about it.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

/// A page of the audit, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditPage {
    /// Who or what changed which thing.
    pub records: Vec<AuditItem>,
    /// To go on: ask with `before` = this number. Absent: there is no more.
    pub next: Option<u64>,
}

/// A record of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditItem {
    /// Its number, one more than that of the record before.
    pub number: u64,
    /// When, in seconds since 1970.
    pub at: f64,
    /// Who or what.
    pub who: String,
    /// From where: an address, or `node`.
    pub origin: String,
    /// What was done.
    pub act: String,
    /// Which thing.
    pub subject: String,
    /// `done`, or why not.
    pub outcome: String,
    /// Details, such as what was asked for.
    pub detail: String,
    /// SHA-256 over the record and the hash before, hexadecimal.
    pub hash: String,
}

/// What a look at the whole audit found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditVerdict {
    /// Nothing was changed, removed or put in between.
    pub holds: bool,
    /// What is wrong.
    pub broken: Option<String>,
    /// Records that were looked at.
    pub checked: u64,
    /// The first of them; earlier ones were forgotten in order.
    pub first: u64,
    /// The last record: note it elsewhere, together with its hash, and later verify against both.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// The file cannot be written, and the last records are in memory alone.
    pub fault: Option<String>,
}

/// The points of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SeriesView {
    /// The metric.
    pub metric: String,
    /// Its unit; empty: a count.
    pub unit: String,
    /// `pool`, `host` or `machine`.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// The length of a point, which may be longer than was asked for.
    pub step_s: f64,
    /// In the order of time; where there was no sample there is no point.
    pub points: Vec<SeriesPoint>,
}

/// All samples of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SeriesPoint {
    /// Begin of the step, in seconds since 1970.
    pub at: f64,
    /// The mean of the samples.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many.
    pub count: u32,
}

/// An alarm that is to be tried on what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTrial {
    /// What stands under `[alarm.NAME]` in the file, without that line.
    pub definition: String,
    /// From when, in seconds since 1970. Default: a day before `to`.
    #[serde(default)]
    pub from: Option<f64>,
    /// Until when. Default: now.
    #[serde(default)]
    pub to: Option<f64>,
}

/// What the alarm would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrialView {
    /// From when.
    pub from: f64,
    /// Until when.
    pub to: f64,
    /// The length of the points that it was tried on.
    pub step_s: f64,
    /// How often it would have gone off.
    pub alarms: u32,
    /// How often something would have been done about it: neither muted nor suppressed.
    pub engagements: u32,
    /// How long it would have been in alarm.
    pub in_alarm_s: f64,
    /// How long there would not have been enough data.
    pub without_data_s: f64,
    /// Its last state.
    pub state: String,
    /// Its changes, oldest first, at most 1000, each with the data points that caused it.
    pub changes: Vec<AlarmChangeView>,
    /// Series that it goes by and of which nothing is kept.
    pub missing: Vec<String>,
}

/// A series of which something is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SeriesName {
    /// The metric.
    pub metric: String,
    /// Its unit; empty: a count.
    pub unit: String,
    /// `pool`, `host` or `machine`.
    pub scope: String,
    /// Its name.
    pub name: String,
}
