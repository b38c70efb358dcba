//! What is asked of machines. Only the node that leads does it, so that two never pull at the same machine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use weir_hypervisor::{CloneSpec, Hypervisor, HypervisorError, MachineView, RoomView, Verb, WaitFor, WarmUse};

use super::Api;
use super::caller::Caller;
use super::extract::{Body, Names, Params};
use super::fleet::{check_host, find, json, leader};
use super::model::*;
use super::problem::Problem;
use crate::event::MachineEvent;
use crate::machines::Act;

/// How long a shutdown may take where nobody says.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// Machines of a group that are worked on at once where nobody says, and at most.
const PARALLEL: u32 = 4;
const PARALLEL_MAX: u32 = 64;

/// All of them.
const VERBS: [&str; 10] = ["start", "resume", "suspend", "shutdown", "stop", "reset", "reboot", "flatten", "delete", "migrate"];

/// The longest shutdown.
const SHUTDOWN_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

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

/// Refuses what would act on machines where this node does not lead.
fn leader_only(api: &Api, anyway: bool) -> Result<(), Problem> {
    if anyway || api.node.machines().leads() {
        return Ok(());
    }
    let who = match leader(api) {
        Some(address) => format!("{address} is master of `[cluster] leader_vip`: ask that node"),
        None => "no master of `[cluster] leader_vip` is known here; look at `weir status vip`".into(),
    };
    Err(Problem::new(StatusCode::CONFLICT, format!("this node does not act on machines now: {who}. To act all the same: --anyway")))
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
pub(crate) async fn add(State(api): State<Arc<Api>>, caller: Caller, Body(new): Body<NewMachine>) -> Result<Response, Problem> {
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
    leader_only(&api, new.anyway)?;
    Ok((StatusCode::ACCEPTED, Json(machines.clone_machine(&api.node, caller.0, spec))).into_response())
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
pub(crate) async fn act(State(api): State<Arc<Api>>, caller: Caller, Body(act): Body<MachineAct>) -> Result<Response, Problem> {
    let machines = api.node.machines();
    let room = machines.hypervisor();
    let what = verb(room, &act)?;
    let chosen = choose(&api, room.machines(), &act)?;
    let parallel = act.parallel.unwrap_or(PARALLEL);
    if !(1..=PARALLEL_MAX).contains(&parallel) {
        return Err(invalid(format!("`parallel` is {parallel}; it must be between 1 and {PARALLEL_MAX}")));
    }
    let operation = if act.dry_run {
        let items = chosen.iter().map(|machine| would(machine, &act.verb)).collect();
        OperationView { id: 0, what: act.verb.clone(), ended: true, items }
    } else {
        leader_only(&api, act.anyway)?;
        machines.act(&api.node, caller.0, &act.verb, &chosen, &what, parallel as usize)
    };
    Ok((StatusCode::ACCEPTED, Json(operation)).into_response())
}

/// A machine in a dry run.
fn would(machine: &MachineView, verb: &str) -> OperationItem {
    let foreign =
        machine.metadata.is_none().then(|| format!("{} on {} was not made by weir and is left alone", machine.name, machine.host));
    let silent = machine.unknown_since.map(|_| format!("{} does not answer", machine.host));
    OperationItem {
        machine: machine.name.clone(),
        host: Some(machine.host.clone()),
        step: format!("would {verb}"),
        done_bytes: None,
        end_bytes: None,
        ended: true,
        error: foreign.or(silent),
    }
}

fn verb(room: &dyn Hypervisor, act: &MachineAct) -> Result<Act, Problem> {
    let timeout = act.timeout_ms.map_or(SHUTDOWN_TIMEOUT, Duration::from_millis);
    if timeout > SHUTDOWN_TIMEOUT_MAX {
        return Err(invalid("`timeout_ms` is longer than a day"));
    }
    if act.verb != "shutdown" && (act.timeout_ms.is_some() || act.force) {
        return Err(invalid(format!("`timeout_ms` and `force` are for `shutdown`, not for `{}`", act.verb)));
    }
    if act.verb != "migrate" && act.to.is_some() {
        return Err(invalid(format!("`to` is for `migrate`, not for `{}`", act.verb)));
    }
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
            check_host(room, to)?;
            return Ok(Act::Migrate(to.into()));
        }
        other => return Err(invalid(format!("there is no verb {other:?}; there are: {}", VERBS.join(", ")))),
    }))
}

/// A group has only machines of ours; one that is named is taken at its word, and refused later if it is not ours.
fn choose(api: &Api, all: Vec<MachineView>, act: &MachineAct) -> Result<Vec<MachineView>, Problem> {
    let is_group = act.pool.is_some() || act.host.is_some() || act.label.is_some();
    if act.machines.is_empty() && !is_group {
        return Err(invalid("name machines, or a pool, host or label"));
    }
    let named = act.machines.iter().map(|name| Ok(find(&all, name)?.id)).collect::<Result<Vec<_>, Problem>>()?;
    let is_label = |label: &String| label.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty());
    if let Some(wrong) = act.label.as_ref().filter(|label| !is_label(label)) {
        return Err(invalid(format!("{wrong:?} is not a label; write KEY=VALUE")));
    }
    if let Some(host) = &act.host {
        check_host(api.node.machines().hypervisor(), host)?;
    }
    if let Some(pool) = &act.pool {
        check_pool(api, &all, pool)?;
    }
    let in_group = |machine: &MachineView| {
        let Some(metadata) = machine.metadata.as_ref().filter(|_| is_group) else { return false };
        let label = |label: &String| label.split_once('=').is_some_and(|(key, value)| metadata.labels.get(key).is_some_and(|v| v == value));
        act.pool.as_ref().is_none_or(|pool| metadata.pool.as_ref() == Some(pool))
            && act.host.as_ref().is_none_or(|host| machine.host == *host)
            && act.label.as_ref().is_none_or(label)
    };
    let mut chosen: Vec<MachineView> = all.into_iter().filter(|machine| named.contains(&machine.id) || in_group(machine)).collect();
    chosen.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
    Ok(chosen)
}

/// A pool of the file may have no machines yet; one that is neither there nor has machines is a slip of the pen.
fn check_pool(api: &Api, all: &[MachineView], name: &str) -> Result<(), Problem> {
    let of_machines = all.iter().filter_map(|machine| machine.metadata.as_ref()?.pool.clone());
    let of_file = api.node.config().pools.keys().map(ToString::to_string).collect::<Vec<_>>();
    let pools: BTreeSet<String> = of_machines.chain(of_file).collect();
    if pools.contains(name) {
        return Ok(());
    }
    let names = if pools.is_empty() { "none".into() } else { pools.into_iter().collect::<Vec<_>>().join(", ") };
    Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no pool {name}; the pools are: {names}")))
}

/// Begins to bring a template's base to every host where its clones may run; with `dry_run` only says to which.
#[utoipa::path(
    post, path = "/v1/templates/{template}/prefetch", tag = "machines",
    params(("template" = String, Path, description = "`[template.NAME]`"), GarbageParams),
    responses(
        (status = 202, body = OperationView),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such template"),
    ),
)]
pub(crate) async fn prefetch(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Names(template): Names<String>,
    Params(params): Params<GarbageParams>,
) -> Result<Response, Problem> {
    let machines = api.node.machines();
    let template = template.as_str().into();
    let rooms = machines.hypervisor().room(&template)?;
    if !params.dry_run {
        leader_only(&api, params.anyway)?;
        return Ok((StatusCode::ACCEPTED, Json(machines.prefetch(&api.node, caller.0, template))).into_response());
    }
    let item = |room: RoomView| OperationItem {
        machine: format!("template {template}"),
        host: Some(room.host),
        step: "would bring the base, unless it is there".into(),
        done_bytes: None,
        end_bytes: None,
        ended: true,
        error: None,
    };
    let items = rooms.into_iter().map(item).collect();
    Ok((StatusCode::ACCEPTED, Json(OperationView { id: 0, what: "prefetch".into(), ended: true, items })).into_response())
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
    /// Although this node does not lead.
    #[serde(default)]
    anyway: bool,
}

/// Finds what was left behind, and removes it unless `dry_run`.
#[utoipa::path(post, path = "/v1/machines/garbage", tag = "machines", params(GarbageParams), responses((status = 200, body = [Object])))]
pub(crate) async fn garbage(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params(params): Params<GarbageParams>,
) -> Result<Json<Value>, Problem> {
    let room = api.node.machines().hypervisor();
    if params.dry_run {
        return json(&room.collect_garbage(true).await?);
    }
    leader_only(&api, params.anyway)?;
    let began = Instant::now();
    let outcome = room.collect_garbage(false).await;
    let failed =
        outcome.as_ref().map_or_else(|error| Some(error.chain()), |found| found.iter().find_map(|leftover| leftover.error.clone()));
    api.node.record(MachineEvent::MachineActed {
        verb: "gc".into(),
        machine: None,
        host: None,
        by: caller.0,
        done: failed.is_none(),
        error: failed,
        seconds: began.elapsed().as_secs_f64(),
    });
    json(&outcome?)
}
