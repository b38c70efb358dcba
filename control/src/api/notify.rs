//! Incidents and channels; and the page behind the link in a message.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use weir_notify::engine::{self, AckRefusal, Incident};
use weir_notify::link::Refusal;
use weir_notify::outbox::Row;
use weir_notify::service::{Handle, LinkState};

use super::Api;
use super::extract::{Body, Names};
use super::model::*;
use super::problem::Problem;

fn service(api: &Api) -> Result<Handle, Problem> {
    let off = || Problem::new(StatusCode::CONFLICT, "nobody is told anything: the file has no [notify.NAME]");
    api.node.notifier().handle().ok_or_else(off)
}

fn ended() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this node is stopping")
}

/// Channels with what they did.
#[utoipa::path(get, path = "/v1/notify", tag = "notify", responses((status = 200, body = [Object])))]
pub(crate) async fn channels(State(api): State<Arc<Api>>) -> Json<Value> {
    let stats = api.node.notifier().handle().map(|handle| handle.stats()).unwrap_or_default();
    let config = api.node.config();
    let channels = config.notification.channels.values().map(|channel| {
        let known = stats.channels.get(&*channel.name.0).cloned().unwrap_or_default();
        json!({
            "name": channel.name.to_string(), "kind": channel.kind.word(), "language": channel.language.tag(),
            "fallback": channel.fallback.as_ref().map(ToString::to_string), "failing": known.failing, "delivered": known.delivered,
            "faults": known.faults, "waiting": known.waiting, "dead": known.dead,
        })
    });
    Json(channels.collect())
}

/// Sends a sample and shows the conversation.
#[utoipa::path(
    post, path = "/v1/notify/channels/{channel}/test", tag = "notify",
    params(("channel" = String, Path, description = "Name of the channel")),
    responses(
        (status = 200, body = Object, description = "Whether it was taken, and the conversation without secrets"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such channel"),
    ),
)]
pub(crate) async fn test(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<Value>, Problem> {
    let outcome = service(&api)?.test(&name).await.ok_or_else(ended)?.ok_or_else(|| {
        let config = api.node.config();
        let names: Vec<String> = config.notification.channels.keys().map(ToString::to_string).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("there is no channel `{name}`; there are: {}", names.join(", ")))
    })?;
    let (said, error) = (outcome.result.as_ref().ok(), outcome.result.as_ref().err());
    Ok(Json(
        json!({ "channel": name, "delivered": outcome.result.is_ok(), "said": said, "error": error, "conversation": outcome.transcript }),
    ))
}

/// Messages that were given up.
#[utoipa::path(get, path = "/v1/notify/dead", tag = "notify", responses((status = 200, body = [Object])))]
pub(crate) async fn dead(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let rows = service(&api)?.dead().await.ok_or_else(ended)?;
    Ok(Json(rows.iter().map(row).collect()))
}

/// Which dead letters.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resend {
    /// The one of this key; absent: all.
    pub(crate) key: Option<String>,
}

/// Sends dead letters again.
#[utoipa::path(
    post, path = "/v1/notify/dead/resend", tag = "notify", request_body = Resend,
    responses((status = 200, body = Object), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such dead letter")),
)]
pub(crate) async fn resend(State(api): State<Arc<Api>>, Body(resend): Body<Resend>) -> Result<Json<Value>, Problem> {
    let count = service(&api)?.resend(resend.key.clone()).await.ok_or_else(ended)?;
    match (count, resend.key) {
        (0, Some(key)) => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no dead letter `{key}`"))),
        (count, _) => Ok(Json(json!({ "resent": count }))),
    }
}

/// Incidents: those that are not over, then the latest others.
#[utoipa::path(get, path = "/v1/incidents", tag = "notify", responses((status = 200, body = [Object])))]
pub(crate) async fn incidents(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let Some(handle) = api.node.notifier().handle() else { return Ok(Json(json!([]))) };
    Ok(Json(handle.incidents().await.ok_or_else(ended)?.iter().map(incident).collect()))
}

/// One incident with its messages.
#[utoipa::path(
    get, path = "/v1/incidents/{incident}", tag = "notify",
    params(("incident" = u64, Path, description = "Number of the incident")),
    responses((status = 200, body = Object), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such incident")),
)]
pub(crate) async fn story(State(api): State<Arc<Api>>, Names(id): Names<u64>) -> Result<Json<Value>, Problem> {
    let story = service(&api)?.story(id).await.ok_or_else(ended)?;
    let story = story.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no incident {id}")))?;
    let mut value = incident(&story.incident);
    value["escalation"] = position(&api.node.config().notification, &story.incident);
    value["messages"] = story.messages.iter().map(row).collect();
    Ok(Json(value))
}

/// Who takes care.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    /// A name; absent: `api`.
    pub(crate) by: Option<String>,
}

/// Somebody takes care: no more repeats and escalation.
#[utoipa::path(
    post, path = "/v1/incidents/{incident}/acknowledge", tag = "notify", request_body = Acknowledge,
    params(("incident" = u64, Path, description = "Number of the incident")),
    responses(
        (status = 200, body = Object),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such incident, or it is over"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Somebody does already"),
    ),
)]
pub(crate) async fn acknowledge(
    State(api): State<Arc<Api>>,
    Names(id): Names<u64>,
    Body(body): Body<Acknowledge>,
) -> Result<Json<Value>, Problem> {
    let by = body.by.as_deref().unwrap_or("api");
    match service(&api)?.acknowledge(id, by).await.ok_or_else(ended)? {
        Ok(()) => Ok(Json(json!({ "incident": id, "acknowledged_by": by }))),
        Err(AckRefusal::NotOpen) => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no incident {id} that is not over"))),
        Err(AckRefusal::Already(first)) => Err(Problem::new(StatusCode::CONFLICT, format!("{first} acknowledged incident {id} already"))),
    }
}

/// What the link in a message shows. It changes nothing: programs that look at mails follow links.
pub(crate) async fn show_link(State(api): State<Arc<Api>>, Names(token): Names<String>) -> Response {
    follow(&api, &token, false).await
}

/// Acknowledges.
pub(crate) async fn follow_link(State(api): State<Arc<Api>>, Names(token): Names<String>) -> Response {
    follow(&api, &token, true).await
}

async fn follow(api: &Api, token: &str, acknowledge: bool) -> Response {
    let answer = match api.node.notifier().handle() {
        Some(handle) => handle.follow_link(token, acknowledge).await,
        None => None,
    };
    let (status, text, form) = match answer {
        None => (StatusCode::SERVICE_UNAVAILABLE, "This node cannot answer now. Try again in a minute.".to_owned(), false),
        Some(Err(Refusal::Forged)) => (StatusCode::NOT_FOUND, "This link is not one of ours.".into(), false),
        Some(Err(Refusal::Expired)) => (StatusCode::GONE, "This link is too old. Use `weir incident ack`.".into(), false),
        Some(Ok(LinkState::Over)) => (StatusCode::GONE, "This incident is over.".into(), false),
        Some(Ok(LinkState::Already(by))) => (StatusCode::CONFLICT, format!("This incident was acknowledged already, by {by}."), false),
        Some(Ok(LinkState::Done(incident))) => (StatusCode::OK, format!("Incident {} is acknowledged.", incident.id), false),
        Some(Ok(LinkState::Open(incident))) => (StatusCode::OK, format!("Incident {}: take care of it?", incident.id), true),
    };
    let form = if form { "<form method=\"post\"><button>Acknowledge</button></form>" } else { "" };
    let page = format!("<!DOCTYPE html><meta charset=\"utf-8\"><title>weir</title><p>{}</p>{form}", escape(&text));
    let mut response = (status, Html(page)).into_response();
    let headers = response.headers_mut();
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn row(row: &Row) -> Value {
    json!({
        "key": row.key, "channel": row.channel, "state": row.state, "attempts": row.attempts, "kind": row.message.kind,
        "incident": row.message.incident, "title": row.message.text("en").title, "created_at": seconds(row.created_at),
        "ended_at": row.ended_at.map(seconds), "said": row.said,
    })
}

/// How far its escalation is.
fn position(notification: &weir_config::Notification, incident: &Incident) -> Value {
    let Some(position) = engine::position(notification, incident) else { return Value::Null };
    json!({
        "name": position.name, "taken": position.taken, "steps": position.steps, "next_at": position.next_at.map(seconds), "next": position.next,
        "stopped": position.stopped,
    })
}

fn incident(incident: &Incident) -> Value {
    let alarms = incident.alarms.iter().map(|(key, alarm)| {
        json!({
            "key": key, "labels": alarm.labels, "severity": alarm.severity.word(), "summary": weir_notify::text::summary_in_english(alarm),
            "started_at": seconds(alarm.started_at), "ended_at": alarm.ended_at.map(seconds),
        })
    });
    let alarms: Vec<Value> = alarms.collect();
    let summary = alarms.first().map(|alarm| alarm["summary"].clone());
    json!({
        "id": incident.id, "state": incident.state, "severity": incident.severity.word(), "summary": summary, "labels": incident.labels,
        "started_at": seconds(incident.started_at), "resolved_at": incident.resolved_at.map(seconds),
        "acknowledged_by": incident.acknowledged.as_ref().map(|(by, _)| by),
        "acknowledged_at": incident.acknowledged.as_ref().map(|(_, at)| seconds(*at)),
        "recovery": incident.recovery, "alarms": alarms,
    })
}
