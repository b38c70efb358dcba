//! Alarms and scaling: shown and told.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::extract::{Body, Names};
use super::model::*;
use super::problem::Problem;
use crate::notify::keys;
use crate::scaling::{PROTECTED, Wish, WishError};

/// The longest name and comment of who has seen an alarm.
const TEXT_CHARS_MAX: usize = 1000;

impl From<WishError> for Problem {
    fn from(error: WishError) -> Problem {
        let status = match error {
            WishError::NotFound(_) => StatusCode::NOT_FOUND,
            WishError::Conflict(_) => StatusCode::CONFLICT,
        };
        Problem::new(status, error.to_string())
    }
}

/// The alarms.
#[utoipa::path(get, path = "/v1/alarms", tag = "alarms", responses((status = 200, body = [AlarmItem])))]
pub(crate) async fn alarms(State(api): State<Arc<Api>>) -> Json<Vec<AlarmItem>> {
    Json(api.node.scaler().alarm_items())
}

/// One alarm.
#[utoipa::path(
    get, path = "/v1/alarms/{alarm}", tag = "alarms",
    params(("alarm" = String, Path, description = "Name of the alarm")),
    responses((status = 200, body = AlarmItem), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such alarm")),
)]
pub(crate) async fn alarm(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<AlarmItem>, Problem> {
    let items = api.node.scaler().alarm_items();
    let names: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
    items.into_iter().find(|item| item.name == name).map(Json).ok_or_else(|| {
        let there_are = if names.is_empty() { "the file has no [alarm.NAME]".into() } else { format!("there are: {}", names.join(", ")) };
        Problem::new(StatusCode::NOT_FOUND, format!("there is no alarm `{name}`; {there_are}"))
    })
}

/// Says that somebody has seen an alarm and looks after it: its incident is acknowledged too. It holds until the alarm ends.
#[utoipa::path(
    post, path = "/v1/alarms/{alarm}/acknowledge", tag = "alarms",
    params(("alarm" = String, Path, description = "Name of the alarm")),
    request_body = NewAcknowledgement,
    responses(
        (status = 200, body = AlarmItem),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such alarm"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It is not in alarm"),
    ),
)]
pub(crate) async fn acknowledge(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    Body(seen): Body<NewAcknowledgement>,
) -> Result<Json<AlarmItem>, Problem> {
    let good = |text: &str| text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control);
    if seen.by.is_empty() || !good(&seen.by) || !good(&seen.comment) {
        let why = format!("`by` must say who, in one line; neither it nor `comment` may be longer than {TEXT_CHARS_MAX} characters");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    api.node.scaler().acknowledge(&api.node, &name, &seen.by, &seen.comment)?;
    if let Some(handle) = api.node.notifier().handle() {
        // Where there is no incident, nobody was told: nothing is to be acknowledged.
        let _ = handle.acknowledge_alarm(&keys::alarm(&name), &seen.by).await;
    }
    alarm(State(api), Names(name)).await
}

/// The pools that are scaled.
#[utoipa::path(get, path = "/v1/scaling", tag = "scaling", responses((status = 200, body = [ScalingItem])))]
pub(crate) async fn pools(State(api): State<Arc<Api>>) -> Json<Vec<ScalingItem>> {
    Json(api.node.scaler().scaling_items(api.node.machines().leads()))
}

/// One pool: what is wanted, what is there, and why.
#[utoipa::path(
    get, path = "/v1/scaling/{pool}", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = ScalingItem), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled")),
)]
pub(crate) async fn pool(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<ScalingItem>, Problem> {
    // It says what there is.
    api.node.scaler().generation(&name)?;
    let items = api.node.scaler().scaling_items(api.node.machines().leads());
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("pool `{name}` is not scaled"));
    items.into_iter().find(|item| item.pool == name).map(Json).ok_or_else(missing)
}

/// The last plan, as it is printed.
#[utoipa::path(
    get, path = "/v1/scaling/{pool}/plan", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses(
        (status = 200, description = "The plan", content_type = "text/plain"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled"),
    ),
)]
pub(crate) async fn plan(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Response, Problem> {
    Ok(api.node.scaler().plan_text(&name)?.into_response())
}

/// Makes and takes away no machine until it is resumed. What is under way is finished.
#[utoipa::path(
    post, path = "/v1/scaling/{pool}/pause", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses(
        (status = 200, body = ScalingDone),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Another node leads"),
    ),
)]
pub(crate) async fn pause(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<ScalingDone>, Problem> {
    wish(&api, name, &Wish::Pause)
}

/// Goes on after a pause.
#[utoipa::path(
    post, path = "/v1/scaling/{pool}/resume", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses(
        (status = 200, body = ScalingDone),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Another node leads"),
    ),
)]
pub(crate) async fn resume(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<ScalingDone>, Problem> {
    wish(&api, name, &Wish::Resume)
}

/// So many machines, at once and without regard to cooldowns. The policies go on from there.
#[utoipa::path(
    put, path = "/v1/scaling/{pool}/desired", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    request_body = NewDesired,
    responses(
        (status = 200, body = ScalingDone),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Not within min and max, or another node leads"),
    ),
)]
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    Body(new): Body<NewDesired>,
) -> Result<Json<ScalingDone>, Problem> {
    wish(&api, name, &Wish::Set(new.desired))
}

/// Brings every machine of the pool onto the template's current base, batch by batch.
#[utoipa::path(
    post, path = "/v1/scaling/{pool}/refresh", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses(
        (status = 202, body = ScalingDone),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool, or it is not scaled"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "There is nothing to refresh, one is under way, or another node leads"),
    ),
)]
pub(crate) async fn refresh(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<(StatusCode, Json<ScalingDone>), Problem> {
    wish(&api, name, &Wish::Refresh).map(|done| (StatusCode::ACCEPTED, done))
}

/// Protects a machine against being taken out when the pool becomes smaller, or no longer.
#[utoipa::path(
    post, path = "/v1/scaling/{pool}/protection", tag = "scaling",
    params(("pool" = String, Path, description = "Name of the pool")),
    request_body = NewProtection,
    responses(
        (status = 200, body = ScalingDone),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool or machine"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "The machine is not of this pool"),
        (status = 502, body = ProblemView, content_type = "application/problem+json", description = "The machine's host does not do it"),
    ),
)]
pub(crate) async fn protect(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    Body(new): Body<NewProtection>,
) -> Result<Json<ScalingDone>, Problem> {
    let generation = api.node.scaler().generation(&name)?;
    let hypervisor = api.node.machines().hypervisor();
    let found = hypervisor.machines().into_iter().find(|machine| machine.name == new.machine);
    let of_pool = found.as_ref().and_then(|machine| machine.metadata.as_ref()?.pool.clone());
    if of_pool.as_deref() != Some(&name) {
        let status = if found.is_none() { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
        return Err(Problem::new(status, format!("pool `{name}` has no machine `{}`; weir scaling show {name} names them", new.machine)));
    }
    let labels = BTreeMap::from([(PROTECTED.to_owned(), new.protected.then(|| "1".to_owned()))]);
    hypervisor.label(&new.machine, generation, labels).await?;
    let text = if new.protected { "is protected against scale-in" } else { "is no longer protected against scale-in" };
    Ok(Json(ScalingDone { pool: name, text: format!("{} {text}", new.machine) }))
}

fn wish(api: &Api, pool: String, wish: &Wish) -> Result<Json<ScalingDone>, Problem> {
    let text = api.node.scaler().wish(&api.node, &pool, wish)?;
    Ok(Json(ScalingDone { pool, text }))
}
