//! What the API shows.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Names, Params};
use super::model::*;
use super::problem::Problem;
use super::{Api, metrics as text, openapi as description, view};

/// Most events in one answer.
const EVENTS_MAX: usize = 1000;

/// Longest wait for an event.
pub(crate) const WAIT_S_MAX: u64 = 60;

/// Node, listeners and pools.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = StatusView)))]
pub(crate) async fn status(State(api): State<Arc<Api>>) -> Result<Json<StatusView>, Problem> {
    let status = api.status().await?;
    Ok(Json(view::status(&api.node.info(), api.node.drain_progress(), &status)))
}

/// The listeners with their counters.
#[utoipa::path(get, path = "/v1/listeners", tag = "status", responses((status = 200, body = [ListenerView])))]
pub(crate) async fn listeners(State(api): State<Arc<Api>>) -> Result<Json<Vec<ListenerView>>, Problem> {
    Ok(Json(api.status().await?.listeners.iter().map(view::listener).collect()))
}

/// The pools with their endpoints.
#[utoipa::path(get, path = "/v1/pools", tag = "status", responses((status = 200, body = [PoolView])))]
pub(crate) async fn pools(State(api): State<Arc<Api>>) -> Result<Json<Vec<PoolView>>, Problem> {
    Ok(Json(api.status().await?.pools.iter().map(view::pool).collect()))
}

/// One pool.
#[utoipa::path(
    get, path = "/v1/pools/{pool}", tag = "status",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = PoolView), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool")),
)]
pub(crate) async fn pool(State(api): State<Arc<Api>>, Names(pool): Names<String>) -> Result<Json<PoolView>, Problem> {
    let status = api.status().await?;
    status.pools.iter().find(|p| p.name == pool).map(|p| Json(view::pool(p))).ok_or_else(|| no_pool(&status, &pool))
}

/// One endpoint of a pool.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/endpoints/{endpoint}", tag = "status",
    params(("pool" = String, Path, description = "Name of the pool"), ("endpoint" = String, Path, description = "`host:port`")),
    responses(
        (status = 200, body = EndpointView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool or endpoint"),
    ),
)]
pub(crate) async fn endpoint(
    State(api): State<Arc<Api>>,
    Names((pool, endpoint)): Names<(String, String)>,
) -> Result<Json<EndpointView>, Problem> {
    let status = api.status().await?;
    let found = status.pools.iter().find(|p| p.name == pool).ok_or_else(|| no_pool(&status, &pool))?;
    let address = super::address(&endpoint)?.to_string();
    found
        .endpoints
        .iter()
        .find(|e| e.address == address)
        .map(|e| Json(view::endpoint(e)))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("pool `{pool}` has no endpoint `{address}`")))
}

fn no_pool(status: &weir_lb::status::Status, pool: &str) -> Problem {
    /// Names shown to somebody who mistyped one.
    const SHOWN_MAX: usize = 20;
    let names: Vec<&str> = status.pools.iter().map(|p| p.name.as_str()).take(SHOWN_MAX).collect();
    let more = if status.pools.len() > SHOWN_MAX { ", ..." } else { "" };
    Problem::new(StatusCode::NOT_FOUND, format!("no pool `{pool}`; there are: {}{more}", names.join(", ")))
}

/// The configuration in effect, in short.
#[utoipa::path(get, path = "/v1/config", tag = "configuration", responses((status = 200, body = ConfigView)))]
pub(crate) async fn config(State(api): State<Arc<Api>>) -> Json<ConfigView> {
    Json(view::config(&api.node.info(), &api.node.config()))
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsParams {
    /// Only events with a greater number. Default 0.
    #[serde(default)]
    after: u64,
    /// At most so many, up to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// When there are none yet, wait for one so many seconds, up to 60. Default 0.
    #[serde(default)]
    #[param(maximum = 60)]
    wait_s: u64,
    /// The process that `after` belongs to. Another one answers at once with its own process id and no events: ask it from 0.
    pid: Option<u32>,
}

/// Events, oldest first; the last 10,000 are kept.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventsParams), responses((status = 200, body = EventsView)))]
pub(crate) async fn events(State(api): State<Arc<Api>>, Params(params): Params<EventsParams>) -> Json<EventsView> {
    let after = params.after;
    let pid = std::process::id();
    if params.pid.is_some_and(|asked| asked != pid) {
        return Json(EventsView { pid, next: 0, events: Vec::new() });
    }
    let limit = params.limit.unwrap_or(100).clamp(1, EVENTS_MAX);
    let mut events = api.node.events_after(after, limit);
    if events.is_empty() && params.wait_s > 0 {
        let mut stop = api.stop.clone();
        tokio::select! {
            () = api.node.events_wait(after) => events = api.node.events_after(after, limit),
            () = tokio::time::sleep(Duration::from_secs(params.wait_s.min(WAIT_S_MAX))) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    let events: Vec<EventView> = events.iter().map(|(number, event)| view::event(*number, event)).collect();
    Json(EventsView { pid, next: events.last().map_or(after, |event| event.number), events })
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "about", responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(crate) async fn openapi() -> Response {
    static DOCUMENT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.get_or_init(description::document).as_str()).into_response()
}

/// Metrics in the Prometheus text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "status", responses((status = 200, description = "Prometheus text", content_type = "text/plain")))]
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let status = api.status().await?;
    let text = text::render(&text::Source {
        info: &api.node.info(),
        status: &status,
        drain: api.node.drain_progress(),
        vips: &api.node.vips().status(),
        certificates: &api.node.certificates(),
        shown_certificates: &api.node.shown_certificates(),
        machines: api.node.machines().hypervisor(),
        access_log_dropped: api.node.access_log_dropped(),
        alarms: &api.node.scaler().alarm_items(),
        scaling: &api.node.scaler().scaling_items(api.node.machines().leads()),
        recovery: &api.node.recoverer().stats(&api.node.config()),
        orders: &api.node.orders().stats(),
        history: api.node.historian().stats().as_ref(),
        notify: &api.node.notifier().handle().map(|handle| handle.stats()).unwrap_or_default(),
        process: text::ProcessUse::read(),
    });
    Ok(([(header::CONTENT_TYPE, text::CONTENT_TYPE)], text).into_response())
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, body = Alive)))]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { alive: true })
}

/// Whether traffic should be sent to this node.
#[utoipa::path(
    get, path = "/readyz", tag = "status",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "Not serving yet, or draining")),
)]
pub(crate) async fn readyz(State(api): State<Arc<Api>>) -> (StatusCode, Json<Readiness>) {
    let readiness = view::readiness(&api.node.info());
    (if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}
