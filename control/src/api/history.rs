//! What was, and who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use weir_config::Metric;
use weir_history::UnixMs;
use weir_history::audit::{Hash, Head, Sealed};
use weir_history::point::{Point, Series, by_steps};
use weir_history::service::{AskError, Reader};
use weir_history::store::{Asked, Kept, ROWS_MAX, SeriesAsked, StoreError, Verified};

use super::Api;
use super::extract::Params;
use super::model::*;
use super::problem::Problem;
use crate::history::{HistoryError, moment};

/// Rows of a page where nobody says.
const ROWS: u32 = 100;

/// How far back a series goes where nobody says, and how many points it then has.
const SERIES_MS: u64 = 3_600_000;
const STEPS: u64 = 360;

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Problem {
        let status = match &error {
            HistoryError::Off => StatusCode::NOT_FOUND,
            HistoryError::Ask(AskError::Busy) => StatusCode::SERVICE_UNAVAILABLE,
            HistoryError::Ask(AskError::Store(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    }
}

/// Asks on a thread that may wait.
pub(super) async fn ask<T: Send + 'static>(
    api: &Api,
    question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let node = api.node.clone();
    let asked = tokio::task::spawn_blocking(move || node.historian().ask(question)).await;
    Ok(asked
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the history could not be asked: look at the log of the node"))??)
}

/// Which entries. Times are seconds since 1970.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Only this kind of event, such as `alarm_changed`.
    kind: Option<String>,
    /// Only what happened to this alarm, pool, machine, ...
    subject: Option<String>,
    /// Not before.
    #[param(minimum = 0)]
    from: Option<f64>,
    /// Before.
    #[param(minimum = 0)]
    to: Option<f64>,
    /// Only smaller numbers: `next` of the page before.
    before: Option<u64>,
    /// At most so many, up to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Which records. Times are seconds since 1970.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// Only by this one.
    who: Option<String>,
    /// Only what was done to this pool, machine, ...
    subject: Option<String>,
    /// Not before.
    #[param(minimum = 0)]
    from: Option<f64>,
    /// Before.
    #[param(minimum = 0)]
    to: Option<f64>,
    /// Only smaller numbers: `next` of the page before.
    before: Option<u64>,
    /// At most so many, up to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What was, the latest first: events, changes of alarms with what caused them, plans and their steps.
#[utoipa::path(
    get, path = "/v1/history", tag = "history", params(HistoryParams),
    responses(
        (status = 200, body = HistoryPage),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn entries(State(api): State<Arc<Api>>, Params(params): Params<HistoryParams>) -> Result<Json<HistoryPage>, Problem> {
    let HistoryParams { kind, subject, from, to, before, limit } = params;
    let asked = asked(kind, subject, (from, to), before, limit)?;
    let limit = asked.limit;
    let found = ask(&api, move |reader| reader.entries(&asked)).await?;
    let next = found.last().filter(|_| found.len() >= limit as usize).map(|last| last.id);
    Ok(Json(HistoryPage { entries: found.into_iter().map(item).collect(), next }))
}

/// Who or what changed which thing, and from where, the latest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "history", params(AuditParams),
    responses(
        (status = 200, body = AuditPage),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn audit(State(api): State<Arc<Api>>, Params(params): Params<AuditParams>) -> Result<Json<AuditPage>, Problem> {
    let AuditParams { who, subject, from, to, before, limit } = params;
    let asked = asked(who, subject, (from, to), before, limit)?;
    let limit = asked.limit;
    let found = ask(&api, move |reader| reader.acts(&asked)).await?;
    let next = found.last().filter(|_| found.len() >= limit as usize).map(|last| last.number);
    Ok(Json(AuditPage { records: found.into_iter().map(audit_item).collect(), next }))
}

/// A record that was noted elsewhere.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerifyParams {
    /// Number of a record that was noted elsewhere.
    number: Option<u64>,
    /// Its hash.
    hash: Option<String>,
}

/// Looks at the whole audit: whether a record was changed, removed or put in between.
#[utoipa::path(
    get, path = "/v1/audit/verify", tag = "history", params(VerifyParams),
    responses(
        (status = 200, body = AuditVerdict),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn verify(State(api): State<Arc<Api>>, Params(params): Params<VerifyParams>) -> Result<Json<AuditVerdict>, Problem> {
    let noted = match (params.number, params.hash) {
        (None, None) => None,
        (Some(number), Some(hash)) => Some(Head { number, hash: hash.parse::<Hash>().map_err(invalid)? }),
        _ => return Err(invalid("name both `number` and `hash`, or neither".into())),
    };
    let verified = ask(&api, move |reader| reader.verify(noted)).await?;
    let Some(verified) = verified else { return Err(HistoryError::Ask(AskError::Busy).into()) };
    let stats = api.node.historian().stats().unwrap_or_default();
    Ok(Json(audit_verdict(verified, stats.head, stats.fault)))
}

/// What was found, for people and programs. `head`: the last record that there should be.
pub(crate) fn audit_verdict(verified: Verified, head: Head, fault: Option<String>) -> AuditVerdict {
    let Verified { checked, anchor, result } = verified;
    let head = result.as_ref().copied().unwrap_or(head);
    AuditVerdict {
        holds: result.is_ok(),
        broken: result.err().map(|broken| broken.to_string()),
        checked,
        first: anchor.number + 1,
        number: head.number,
        hash: head.hash.to_string(),
        fault,
    }
}

/// Which series. Times are seconds since 1970.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SeriesParams {
    /// The metric, as the file writes it: `cpu`, `requests`, `latency-p99`, ...
    metric: String,
    /// Of this pool; exactly one of `pool`, `host` and `machine`.
    pool: Option<String>,
    /// Of this host.
    host: Option<String>,
    /// Of this machine.
    machine: Option<String>,
    /// Not before. Default: an hour before `to`.
    #[param(minimum = 0)]
    from: Option<f64>,
    /// Before. Default: now.
    #[param(minimum = 0)]
    to: Option<f64>,
    /// A point for each so many seconds. Default: so many that there are 360 points. Never less than ten, and never more than 5000 points.
    #[param(minimum = 0)]
    step_s: Option<f64>,
}

/// The points of a series, for graphs.
#[utoipa::path(
    get, path = "/v1/history/series", tag = "history", params(SeriesParams),
    responses(
        (status = 200, body = SeriesView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn series(State(api): State<Arc<Api>>, Params(params): Params<SeriesParams>) -> Result<Json<SeriesView>, Problem> {
    let (scope, name) = match (&params.pool, &params.host, &params.machine) {
        (Some(name), None, None) => ("pool", name),
        (None, Some(name), None) => ("host", name),
        (None, None, Some(name)) => ("machine", name),
        _ => return Err(invalid("name exactly one of `pool`, `host` and `machine`".into())),
    };
    let to = time(params.to, "to")?.unwrap_or_else(|| moment(std::time::SystemTime::now()).plus(1));
    let from = time(params.from, "from")?.unwrap_or(to.minus(SERIES_MS));
    let step_ms = time(params.step_s, "step_s")?.map_or_else(|| to.0.saturating_sub(from.0) / STEPS, |step| step.0);
    let series = Series { metric: params.metric.as_str().into(), scope: scope.into(), name: name.as_str().into() };
    let asked = SeriesAsked { series: series.clone(), from, to, step_ms }.bounded();
    let step_ms = asked.step_ms;
    // What is not kept yet: taken before, so that nothing is missed in between; what is there twice is told by its time.
    let mut pending = api.node.meter().lock().pending(&series);
    let span = asked.from..asked.to;
    let mut points = ask(&api, move |reader| reader.series(&asked)).await?;
    let kept_to = points.last().map_or(span.start, |last| last.at);
    pending.retain(|point| span.contains(&point.at) && point.at > kept_to.max(span.start));
    points.extend(pending);
    let points = by_steps(points, step_ms);
    let SeriesName { metric, unit, scope, name } = series_name(&series);
    Ok(Json(SeriesView { metric, unit, scope, name, step_s: step_ms as f64 / 1000.0, points: points.into_iter().map(point).collect() }))
}

/// The series of which something is kept.
#[utoipa::path(
    get, path = "/v1/history/catalog", tag = "history",
    responses(
        (status = 200, body = [SeriesName]),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn catalog(State(api): State<Arc<Api>>) -> Result<Json<Vec<SeriesName>>, Problem> {
    Ok(Json(ask(&api, |reader| reader.catalog()).await?.iter().map(series_name).collect()))
}

fn asked(
    kind: Option<String>,
    subject: Option<String>,
    (from, to): (Option<f64>, Option<f64>),
    before: Option<u64>,
    limit: Option<u32>,
) -> Result<Asked, Problem> {
    let limit = limit.unwrap_or(ROWS);
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(invalid(format!("`limit` is 1 to {ROWS_MAX}, not {limit}")));
    }
    Ok(Asked { kind, subject, from: time(from, "from")?, to: time(to, "to")?, before, limit })
}

/// Seconds of the wire.
pub(super) fn time(seconds: Option<f64>, name: &str) -> Result<Option<UnixMs>, Problem> {
    /// Some thirty thousand years.
    const SECONDS_MAX: f64 = 1e12;
    let Some(seconds) = seconds else { return Ok(None) };
    if !(0.0..SECONDS_MAX).contains(&seconds) {
        return Err(invalid(format!("`{name}` is {seconds}; it is a number of seconds, not negative")));
    }
    Ok(Some(UnixMs((seconds * 1000.0) as u64)))
}

pub(super) fn invalid(why: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1000.0
}

fn item(Kept { id, entry }: Kept) -> HistoryItem {
    let details = serde_json::from_str(&entry.body).unwrap_or_default();
    HistoryItem { id, at: seconds(entry.at), kind: entry.kind, subject: entry.subject, details }
}

fn audit_item(sealed: Sealed) -> AuditItem {
    let Sealed { number, act, hash } = sealed;
    AuditItem {
        number,
        at: seconds(act.at),
        who: act.who,
        origin: act.origin,
        act: act.act,
        subject: act.subject,
        outcome: act.outcome,
        detail: act.detail,
        hash: hash.to_string(),
    }
}

fn point(point: Point) -> SeriesPoint {
    SeriesPoint { at: seconds(point.at), mean: point.mean, min: point.min, max: point.max, count: point.count }
}

fn series_name(series: &Series) -> SeriesName {
    let unit = Metric::built_in(&series.metric).map_or("", |metric| metric.unit());
    SeriesName { metric: series.metric.to_string(), unit: unit.into(), scope: series.scope.to_string(), name: series.name.to_string() }
}
