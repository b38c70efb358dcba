//! What an alarm would have done with what was measured: for whoever writes one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use weir_autoscaler::recorded::{Recorded, Span, closure, try_alarm};
use weir_autoscaler::{Scope, UnixMs};
use weir_config::{Alarm, AlarmName, Condition, Metric};
use weir_history::point::{Point, Series, by_steps};
use weir_history::store::{STEPS_MAX, SeriesAsked};

use super::Api;
use super::extract::Body;
use super::history::{ask, invalid, time};
use super::model::*;
use super::problem::Problem;
use crate::history::moment;
use crate::meter::{named, scope_of};
use crate::node::read_config;
use crate::scaling::change_view;

/// How far back where nobody says, and at most.
const DAY_MS: u64 = 24 * 3_600_000;
const SPAN_MS_MAX: u64 = 400 * DAY_MS;

/// How much is looked at before the beginning, so that the first periods are not empty.
const BEFORE_MS: u64 = 3_600_000;

/// The finest points there are, and the most of them in one trial.
const STEP_MS: u64 = 10_000;
const POINTS_MAX: u64 = 20_000;

/// Tries an alarm on what was measured, together with the alarms of the file that it names. Nothing is changed.
///
/// The points that are kept are coarser than the samples that alarms see in life: average, sum, minimum and maximum are exact, a percentile is
/// one of means of ten seconds.
#[utoipa::path(
    post, path = "/v1/alarms/preview", tag = "alarms", request_body = NewTrial,
    responses(
        (status = 200, body = TrialView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is kept"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "The definition is wrong; `detail` shows where"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "It does not answer now"),
    ),
)]
pub(crate) async fn preview(State(api): State<Arc<Api>>, Body(new): Body<NewTrial>) -> Result<Json<TrialView>, Problem> {
    let to = time(new.to, "to")?.unwrap_or_else(|| moment(SystemTime::now()));
    let from = time(new.from, "from")?.unwrap_or(to.minus(DAY_MS));
    let span_ms = to.0.saturating_sub(from.0);
    if span_ms == 0 || span_ms > SPAN_MS_MAX {
        return Err(invalid(format!("`from` must be before `to`, and at most {} days before it", SPAN_MS_MAX / DAY_MS)));
    }
    let path = api.node.info().config_path;
    let read = tokio::task::spawn_blocking(move || read_config(&path)).await;
    let text = match read {
        Ok(Ok((text, _))) => text,
        _ => return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the configuration file cannot be read now")),
    };
    let (name, alarms) = define(&text, &new.definition).map_err(invalid)?;
    let alarms = closure(&name, &alarms);
    let step_ms = STEP_MS.max((span_ms + BEFORE_MS).div_ceil(POINTS_MAX)).div_ceil(STEP_MS) * STEP_MS;
    let mut recorded = Recorded::new(std::time::Duration::from_millis(step_ms));
    let mut missing = Vec::new();
    for (metric, scope) in watched(&alarms) {
        let (word, of) = named(&scope);
        let series = Series { metric: metric.word().into(), scope: word.into(), name: of.into() };
        let asked = (series.clone(), from.minus(BEFORE_MS), to);
        // What was measured since the last full minute is not in the store yet.
        let mut pending = api.node.meter().lock().pending(&series);
        let mut points = ask(&api, move |reader| {
            let (series, mut from, to) = asked;
            let mut points = Vec::new();
            while from < to {
                let end = from.floor(step_ms).plus(step_ms * STEPS_MAX).min(to);
                points.extend(reader.series(&SeriesAsked { series: series.clone(), from, to: end, step_ms })?);
                from = end;
            }
            Ok(points)
        })
        .await?;
        let kept_to = points.last().map(|last: &Point| last.at);
        pending.retain(|point| point.at < to && kept_to.is_none_or(|kept_to| point.at > kept_to));
        points.extend(pending);
        let points = by_steps(points, step_ms);
        if points.is_empty() {
            missing.push(format!("{} of {} {}", series.metric, series.scope, series.name));
        }
        let span = |point: &Point| {
            let Point { at, count, mean, min, max } = *point;
            Span { at: UnixMs(at.0), count, mean, min, max }
        };
        recorded.put(metric, scope, points.iter().map(span).collect());
    }
    let (begin, end) = (UnixMs(from.0), UnixMs(to.0));
    let trial = tokio::task::spawn_blocking(move || try_alarm(&name, &alarms, &recorded, begin, end)).await;
    let trial = trial.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the trial failed: look at the log of the node"))?;
    Ok(Json(TrialView {
        from: from.0 as f64 / 1000.0,
        to: to.0 as f64 / 1000.0,
        step_s: step_ms as f64 / 1000.0,
        alarms: trial.alarms,
        engagements: trial.engagements,
        in_alarm_s: trial.in_alarm.as_secs_f64(),
        without_data_s: trial.without_data.as_secs_f64(),
        state: trial.state.map_or("", |state| state.word()).into(),
        changes: trial.changes.iter().map(change_view).collect(),
        missing,
    }))
}

/// The alarm among those of the file, under a name that none of them has.
fn define(file: &str, definition: &str) -> Result<(AlarmName, BTreeMap<AlarmName, Arc<Alarm>>), String> {
    let mut name = "preview".to_owned();
    while file.contains(&name) {
        name.push('-');
    }
    let text = format!("{file}\n[alarm.{name}]\n{definition}\n");
    let config = weir_config::parse(&text, "the definition under the file").map_err(|errors| errors.render(false))?;
    let name = AlarmName::from(name.as_str());
    if !config.alarms.contains_key(&name) {
        return Err("the definition holds no alarm".into());
    }
    Ok((name, config.alarms))
}

/// What they go by.
fn watched(alarms: &BTreeMap<AlarmName, Arc<Alarm>>) -> std::collections::BTreeSet<(Metric, Scope)> {
    let threshold = |alarm: &Arc<Alarm>| match &alarm.condition {
        Condition::Threshold(threshold) => Some((threshold.metric.clone(), scope_of(&threshold.scope))),
        Condition::Composite(_) => None,
    };
    alarms.values().filter_map(threshold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[pool.web]\nendpoints = []\n[alarm.preview]\npool = \"web\"\nmetric = \"requests\"\nabove = 5\n";

    #[test]
    fn a_definition_is_read_beside_the_file() {
        let (name, alarms) = define(FILE, "pool = \"web\"\nmetric = \"error-rate\"\nabove = 5\nsuppressor = \"preview\"").expect("good");
        assert_eq!((name.to_string(), alarms.len()), ("preview-".into(), 2));
        let watched: Vec<String> = watched(&closure(&name, &alarms)).iter().map(|(metric, _)| metric.to_string()).collect();
        assert_eq!(watched.len(), 2, "{watched:?}");
        let wrong = define(FILE, "pool = \"wbe\"\nmetric = \"error-rate\"\nabove = 5").expect_err("no such pool");
        assert!(wrong.contains("wbe"), "{wrong}");
        assert!(define(FILE, "[node]\nname = \"a\"").is_err());
    }
}
