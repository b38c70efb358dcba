//! Hosts, machines and templates as they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use weir_hypervisor::{Hypervisor, MachineView};

use super::Api;
use super::extract::{Names, Params};
use super::model::*;
use super::problem::Problem;

/// Bytes of a console where nobody says.
const CONSOLE_BYTES: u64 = 16 * 1024;

pub(super) fn json(value: &impl serde::Serialize) -> Result<Json<Value>, Problem> {
    let value = serde_json::to_value(value);
    value.map(Json).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
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

/// Hosts, machines and templates at once, and whether this node acts on them.
#[utoipa::path(get, path = "/v1/fleet", tag = "machines", responses((status = 200, body = Object)))]
pub(crate) async fn fleet(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let machines = api.node.machines();
    let room = machines.hypervisor();
    json(&json!({
        "leads": machines.leads(),
        "leader": leader(&api),
        "hosts": room.hosts(),
        "machines": room.machines(),
        "templates": room.templates(),
    }))
}

/// Another node that acts on machines, as far as this one heard of it.
pub(super) fn leader(api: &Api) -> Option<String> {
    let config = api.node.config();
    let vip = &config.cluster.as_ref()?.leader_vip;
    let routers = api.node.vips().status();
    routers
        .iter()
        .filter(|router| *router.machine.config.name == *vip.0)
        .find_map(|router| Some(router.machine.master.as_ref()?.address.to_string()))
}

/// The one machine of this name or UUID.
pub(super) fn find(all: &[MachineView], name: &str) -> Result<MachineView, Problem> {
    let found: Vec<&MachineView> = all.iter().filter(|machine| machine.name == name || *machine.id.0 == *name).collect();
    match &found[..] {
        [machine] => Ok((*machine).clone()),
        [] => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no machine {name}; `weir vm list` shows those there are"))),
        several => {
            let places: Vec<_> = several.iter().map(|machine| format!("{} ({})", machine.host, machine.id)).collect();
            Err(Problem::new(StatusCode::CONFLICT, format!("{name} is on several hosts: {}; name it by its id", places.join(", "))))
        }
    }
}

/// One machine.
#[utoipa::path(
    get, path = "/v1/machines/{machine}", tag = "machines",
    params(("machine" = String, Path, description = "Name or UUID")),
    responses(
        (status = 200, body = Object),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such machine"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Several hosts have one of this name"),
    ),
)]
pub(crate) async fn machine(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<Value>, Problem> {
    json(&find(&api.node.machines().hypervisor().machines(), &name)?)
}

/// The last five minutes of a machine's load, oldest first.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/points", tag = "machines",
    params(("machine" = String, Path, description = "Name or UUID")),
    responses(
        (status = 200, body = [Object]),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such machine"),
    ),
)]
pub(crate) async fn points(State(api): State<Arc<Api>>, Names(name): Names<String>) -> Result<Json<Value>, Problem> {
    let room = api.node.machines().hypervisor();
    let machine = find(&room.machines(), &name)?;
    json(&room.points(&machine.id.0))
}

/// The last five minutes of a host's use, oldest first.
#[utoipa::path(
    get, path = "/v1/hosts/{host}/points", tag = "machines",
    params(("host" = String, Path, description = "`[host.NAME]`")),
    responses(
        (status = 200, body = [Object]),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such host"),
    ),
)]
pub(crate) async fn host_points(State(api): State<Arc<Api>>, Names(host): Names<String>) -> Result<Json<Value>, Problem> {
    let room = api.node.machines().hypervisor();
    check_host(room, &host)?;
    json(&room.host_points(&host))
}

/// Refuses a host that is not in the file.
pub(super) fn check_host(room: &dyn Hypervisor, name: &str) -> Result<(), Problem> {
    let hosts: Vec<String> = room.hosts().into_iter().map(|host| host.name).collect();
    if hosts.iter().any(|host| host == name) {
        return Ok(());
    }
    let names = if hosts.is_empty() { "none".into() } else { hosts.join(", ") };
    Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no host {name}; the hosts are: {names}")))
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
