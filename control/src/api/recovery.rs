//! Healing: shown, stopped and let go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use weir_recovery::healer::Refusal;

use super::Api;
use super::caller::Caller;
use super::extract::{Body, Names};
use super::model::*;
use super::problem::Problem;
use crate::recovery::Refused;

fn refused(api: &Api, name: &str, thing: Option<&str>, refused: &Refused) -> Problem {
    let thing = thing.unwrap_or("nothing");
    match refused {
        Refused::NotHere if api.node.config().recoveries.is_empty() => no_recovery(api, name),
        Refused::NotHere => {
            Problem::new(StatusCode::CONFLICT, "this node does not lead: ask the one that does (weir status vip shows the master)")
        }
        Refused::Refusal(Refusal::NoRecovery) => no_recovery(api, name),
        Refused::Refusal(Refusal::NotIll) => {
            Problem::new(StatusCode::CONFLICT, format!("{thing} is not ill, as far as recovery `{name}` sees"))
        }
        Refused::Refusal(Refusal::UnderWay) => {
            Problem::new(StatusCode::CONFLICT, format!("{thing} is worked on: weir recovery show {name}"))
        }
    }
}

fn no_recovery(api: &Api, name: &str) -> Problem {
    let names: Vec<String> = api.node.config().recoveries.keys().map(ToString::to_string).collect();
    let there_are = if names.is_empty() { "the file has no [recovery.NAME]".into() } else { format!("there are: {}", names.join(", ")) };
    Problem::new(StatusCode::NOT_FOUND, format!("there is no recovery `{name}`; {there_are}"))
}

/// The recoveries, with what they work on.
#[utoipa::path(get, path = "/v1/recovery", tag = "recovery", responses((status = 200, body = [Object])))]
pub(crate) async fn recoveries(State(api): State<Arc<Api>>) -> Json<Vec<Value>> {
    Json(api.node.recoverer().items(&api.node.config()))
}

/// One recovery: what is ill, what was tried and what comes next.
#[utoipa::path(
    get, path = "/v1/recovery/{recovery}", tag = "recovery",
    params(("recovery" = String, Path, description = "Name of the recovery")),
    responses((status = 200, body = Object), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such recovery")),
)]
pub(crate) async fn recovery(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<Value>, Problem> {
    let items = api.node.recoverer().items(&api.node.config());
    items.into_iter().find(|item| item["name"] == *name).map(Json).ok_or_else(|| no_recovery(&api, &name))
}

/// What is to go on.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunRecovery {
    /// Only this thing: a machine, an endpoint or an alarm; absent: everything.
    pub(crate) thing: Option<String>,
    /// Only say what would be tried.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// Goes on after a stop, and begins again with what was given up.
#[utoipa::path(
    post, path = "/v1/recovery/{recovery}/run", tag = "recovery", request_body = RunRecovery,
    params(("recovery" = String, Path, description = "Name of the recovery")),
    responses(
        (status = 200, body = Object, description = "What is, or would be, tried"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such recovery"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "The thing is not ill or worked on, or another node leads"),
    ),
)]
pub(crate) async fn run(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    Body(run): Body<RunRecovery>,
) -> Result<Json<Value>, Problem> {
    let recoverer = api.node.recoverer();
    let (thing, problem) = (run.thing.as_deref(), |why: Refused| refused(&api, &name, run.thing.as_deref(), &why));
    if !run.dry_run {
        recoverer.go_on(&name, thing).map_err(problem)?;
    }
    let plans = recoverer.plan(&name, thing).map_err(problem)?;
    Ok(Json(json!({ "recovery": name, "dry_run": run.dry_run, "plans": plans })))
}

/// Begins nothing more until it is run again. What is under way is finished; people are told of what is ill.
#[utoipa::path(
    post, path = "/v1/recovery/{recovery}/stop", tag = "recovery",
    params(("recovery" = String, Path, description = "Name of the recovery")),
    responses(
        (status = 200, body = Object),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such recovery"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Another node leads"),
    ),
)]
pub(crate) async fn stop(State(api): State<Arc<Api>>, Caller(by): Caller, Names(name): Names<String>) -> Result<Json<Value>, Problem> {
    api.node.recoverer().stop(&name, &by).map_err(|why| refused(&api, &name, None, &why))?;
    Ok(Json(json!({ "recovery": name, "stopped_by": by })))
}
