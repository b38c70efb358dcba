//! Hosts, machines and templates.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use weir_hypervisor::{CloneSpec, HypervisorError, MachineView, Verb, WaitFor, WarmUse};

use super::Api;
use super::extract::{Body, Names, Params};
use super::model::*;
use super::problem::Problem;
use crate::machines::Act;

/// How long a shutdown may take where nobody says.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// Machines of a group that are worked on at once where nobody says, and at most.
const PARALLEL: u32 = 4;
const PARALLEL_MAX: u32 = 64;

/// Bytes of a console where nobody says.
const CONSOLE_BYTES: u64 = 16 * 1024;

fn json(value: &impl serde::Serialize) -> Result<Json<Value>, Problem> {
    let value = serde_json::to_value(value);
    value.map(Json).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

impl From<HypervisorError> for Problem {
    fn from(error: HypervisorError) -> Problem {
        let status = match &error {
            HypervisorError::NotFound(_) => StatusCode::NOT_FOUND,
            HypervisorError::Conflict(_) | HypervisorError::Busy(_) | HypervisorError::NoCapacity(_) => StatusCode::CONFLICT,
            HypervisorError::Template { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            HypervisorError::Host { .. } => StatusCode::BAD_GATEWAY,
            HypervisorError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            HypervisorError::Local(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.chain())
    }
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// The hosts, with what was last seen of them.
#[utoipa::path(get, path = "/v1/hosts", tag = "machines", responses((status = 200, body = [Object])))]
pub(crate) async fn hosts(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    json(&api.node.machines().hypervisor().hosts())
}

/// The machines on all hosts, also those that are not ours.
#[utoipa::path(get, path = "/v1/machines", tag = "machines", responses((status = 200, body = [Object])))]
pub(crate) async fn machines(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    json(&api.node.machines().hypervisor().machines())
}

/// The templates.
#[utoipa::path(get, path = "/v1/templates", tag = "machines", responses((status = 200, body = [Object])))]
pub(crate) async fn templates(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    json(&api.node.machines().hypervisor().templates())
}

/// The last five minutes of a machine's load, oldest first.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/points", tag = "machines",
    params(("machine" = String, Path, description = "Name or UUID")),
    responses((status = 200, body = [Object])),
)]
pub(crate) async fn points(State(api): State<Arc<Api>>, Names(machine): Names<String>) -> Result<Json<Value>, Problem> {
    json(&api.node.machines().hypervisor().points(&machine))
}

/// How much of a console.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsoleParams {
    /// At most so many bytes, from the end.
    bytes: Option<u64>,
}

/// The end of what a machine wrote to its console.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/console", tag = "machines",
    params(("machine" = String, Path, description = "Name or UUID"), ConsoleParams),
    responses(
        (status = 200, description = "As it was written", content_type = "text/plain"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such machine"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It is not ours"),
    ),
)]
pub(crate) async fn console(
    State(api): State<Arc<Api>>,
    Names(machine): Names<String>,
    Params(params): Params<ConsoleParams>,
) -> Result<Response, Problem> {
    let text = api.node.machines().hypervisor().console(&machine, params.bytes.unwrap_or(CONSOLE_BYTES)).await?;
    // A guest writes what it likes: no browser shall take it for anything else.
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text).into_response())
}

/// A picture of a machine's screen.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/screenshot", tag = "machines",
    params(("machine" = String, Path, description = "Name or UUID")),
    responses(
        (status = 200, description = "The picture", content_type = "image/png"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such machine"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It is not ours"),
    ),
)]
pub(crate) async fn screenshot(State(api): State<Arc<Api>>, Names(machine): Names<String>) -> Result<Response, Problem> {
    let (mime, picture) = api.node.machines().hypervisor().screenshot(&machine).await?;
    let mime = if mime.starts_with("image/") { mime } else { "application/octet-stream".into() };
    Ok(([(header::CONTENT_TYPE, mime)], picture).into_response())
}

/// Begins to make a machine; with `dry_run` only says where it would go.
#[utoipa::path(
    post, path = "/v1/machines", tag = "machines",
    request_body = NewMachine,
    responses(
        (status = 200, body = ClonePlan, description = "A dry run"),
        (status = 202, body = OperationView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such template or host"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "No host has room, and why"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
    ),
)]
pub(crate) async fn add(State(api): State<Arc<Api>>, Body(new): Body<NewMachine>) -> Result<Response, Problem> {
    let name = new.name.map(|name| name.parse().map_err(invalid)).transpose()?;
    let spec = CloneSpec {
        pool: new.pool,
        name,
        host: new.host.map(|host| host.as_str().into()),
        labels: new.labels,
        warm: if new.cold { WarmUse::Never } else { WarmUse::First },
        wait: if new.no_wait { WaitFor::Running } else { WaitFor::Ready },
        ..CloneSpec::new(new.template.as_str().into())
    };
    if let Some((key, value)) = spec.labels.iter().find(|(key, value)| format!("{key}{value}").contains([' ', '='])) {
        return Err(invalid(format!("the label {key:?} = {value:?} must not hold spaces or equal signs")));
    }
    let machines = api.node.machines();
    if new.dry_run {
        let host = machines.hypervisor().plan_clone(&spec)?.to_string();
        return Ok(Json(ClonePlan { host }).into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(machines.clone_machine(spec))).into_response())
}

/// Begins to do something to machines; with `dry_run` only says to which.
#[utoipa::path(
    post, path = "/v1/machines/actions", tag = "machines",
    request_body = MachineAct,
    responses(
        (status = 202, body = OperationView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such machine"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
    ),
)]
pub(crate) async fn act(State(api): State<Arc<Api>>, Body(act): Body<MachineAct>) -> Result<Response, Problem> {
    let what = verb(&act)?;
    let machines = api.node.machines();
    let chosen = choose(machines.hypervisor().machines(), &act)?;
    let parallel = act.parallel.unwrap_or(PARALLEL).clamp(1, PARALLEL_MAX) as usize;
    let operation = if act.dry_run {
        let item = |machine: &MachineView| OperationItem {
            machine: machine.name.clone(),
            host: Some(machine.host.clone()),
            step: format!("would {}", act.verb),
            done_bytes: None,
            end_bytes: None,
            ended: true,
            error: None,
        };
        OperationView { id: 0, what: act.verb.clone(), ended: true, items: chosen.iter().map(item).collect() }
    } else {
        machines.act(&act.verb, &chosen, &what, parallel)
    };
    Ok((StatusCode::ACCEPTED, Json(operation)).into_response())
}

fn verb(act: &MachineAct) -> Result<Act, Problem> {
    let timeout = act.timeout_ms.map_or(SHUTDOWN_TIMEOUT, Duration::from_millis);
    Ok(Act::Verb(match act.verb.as_str() {
        "start" => Verb::Start,
        "resume" => Verb::Resume,
        "suspend" => Verb::Suspend,
        "shutdown" => Verb::Shutdown { timeout, force: act.force },
        "stop" => Verb::Stop,
        "reset" => Verb::Reset,
        "reboot" => Verb::Reboot,
        "flatten" => Verb::Flatten,
        "delete" => Verb::Delete,
        "migrate" => {
            let to = act.to.as_deref().ok_or_else(|| invalid("`to` is missing: the host it moves to"))?;
            return Ok(Act::Migrate(to.into()));
        }
        other => return Err(invalid(format!("there is no verb {other:?}"))),
    }))
}

/// A group has only machines of ours; one that is named is taken at its word, and refused later if it is not ours.
fn choose(all: Vec<MachineView>, act: &MachineAct) -> Result<Vec<MachineView>, Problem> {
    let is_group = act.pool.is_some() || act.host.is_some() || act.label.is_some();
    if act.machines.is_empty() && !is_group {
        return Err(invalid("name machines, or a pool, host or label"));
    }
    if let Some(unknown) = act.machines.iter().find(|name| !all.iter().any(|machine| machine.name == **name || *machine.id.0 == ***name)) {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no machine {unknown}")));
    }
    let in_group = |machine: &MachineView| {
        let Some(metadata) = machine.metadata.as_ref().filter(|_| is_group) else { return false };
        let label = |label: &String| label.split_once('=').is_some_and(|(key, value)| metadata.labels.get(key).is_some_and(|v| v == value));
        act.pool.as_ref().is_none_or(|pool| metadata.pool.as_ref() == Some(pool))
            && act.host.as_ref().is_none_or(|host| machine.host == *host)
            && act.label.as_ref().is_none_or(label)
    };
    let named = |machine: &MachineView| act.machines.iter().any(|name| machine.name == *name || *machine.id.0 == **name);
    Ok(all.into_iter().filter(|machine| named(machine) || in_group(machine)).collect())
}

/// How far something is.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "machines",
    params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, body = OperationView), (status = 404, body = ProblemView, content_type = "application/problem+json")),
)]
pub(crate) async fn operation(State(api): State<Arc<Api>>, Names(id): Names<u64>) -> Result<Json<OperationView>, Problem> {
    let found = api.node.machines().operation(id);
    found.map(Json).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no operation {id}; only the last ones are kept")))
}

/// Whether anything is removed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct GarbageParams {
    /// Only list.
    #[serde(default)]
    dry_run: bool,
}

/// Finds what was left behind, and removes it unless `dry_run`.
#[utoipa::path(post, path = "/v1/machines/garbage", tag = "machines", params(GarbageParams), responses((status = 200, body = [Object])))]
pub(crate) async fn garbage(State(api): State<Arc<Api>>, Params(params): Params<GarbageParams>) -> Result<Json<Value>, Problem> {
    json(&api.node.machines().hypervisor().collect_garbage(params.dry_run).await?)
}
