//! What the API lets change.
//!
//! A change runs in its own task: a client that goes away in the middle does not leave it half done.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use weir_config::{AdminState, Endpoint, EndpointAddress, Weight};

use super::extract::{BasedOn, Body, Names, Params};
use super::model::*;
use super::problem::Problem;
use super::{Api, address};
use crate::node::{ChangeError, EndpointChange};

/// The highest tier.
const TIER_MAX: u8 = 15;

/// Adds an endpoint to a pool.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/endpoints", tag = "endpoints",
    params(("pool" = String, Path, description = "Name of the pool"), ("If-Match" = Option<String>, Header, description = "Revision it is based on")),
    request_body = NewEndpoint,
    responses(
        (status = 201, body = Changed),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "The pool has it already"),
        (status = 412, body = ProblemView, content_type = "application/problem+json", description = "Something else was changed meanwhile"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
    ),
)]
pub(crate) async fn add_endpoint(
    State(api): State<Arc<Api>>,
    Names(pool): Names<String>,
    BasedOn(based_on): BasedOn,
    Body(new): Body<NewEndpoint>,
) -> Result<Response, Problem> {
    let address = address(&new.address)?;
    let weight = new.weight.map_or(Ok(Weight::ONE), weight)?;
    let tier = new.tier.unwrap_or(0);
    if tier > TIER_MAX {
        return Err(invalid(format!("`tier` is 0 to {TIER_MAX}, not {tier}")));
    }
    let endpoint = Endpoint { address: address.clone(), weight, tier, state: AdminState::Ready };
    let revision = change(&api, pool, address, EndpointChange::Add(endpoint), based_on).await?;
    Ok((StatusCode::CREATED, Json(Changed { revision })).into_response())
}

/// Removes an endpoint: at once for new work; what is in flight finishes.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}/endpoints/{endpoint}", tag = "endpoints",
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("endpoint" = String, Path, description = "`host:port`"),
        ("If-Match" = Option<String>, Header, description = "Revision it is based on"),
    ),
    responses(
        (status = 200, body = Changed),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool or endpoint"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It cannot be removed now"),
        (status = 412, body = ProblemView, content_type = "application/problem+json", description = "Something else was changed meanwhile"),
    ),
)]
pub(crate) async fn remove_endpoint(
    State(api): State<Arc<Api>>,
    Names((pool, endpoint)): Names<(String, String)>,
    BasedOn(based_on): BasedOn,
) -> Result<Json<Changed>, Problem> {
    let revision = change(&api, pool, address(&endpoint)?, EndpointChange::Remove, based_on).await?;
    Ok(Json(Changed { revision }))
}

/// Changes an endpoint's weight, its state, or both; the weight first, so that one that becomes ready does so with its new weight.
#[utoipa::path(
    patch, path = "/v1/pools/{pool}/endpoints/{endpoint}", tag = "endpoints",
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("endpoint" = String, Path, description = "`host:port`"),
        ("If-Match" = Option<String>, Header, description = "Revision it is based on"),
    ),
    request_body = EndpointPatch,
    responses(
        (status = 200, body = Changed),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No such pool or endpoint"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It cannot be changed now"),
        (status = 412, body = ProblemView, content_type = "application/problem+json", description = "Something else was changed meanwhile"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "A wrong value"),
    ),
)]
pub(crate) async fn patch_endpoint(
    State(api): State<Arc<Api>>,
    Names((pool, endpoint)): Names<(String, String)>,
    BasedOn(based_on): BasedOn,
    Body(patch): Body<EndpointPatch>,
) -> Result<Json<Changed>, Problem> {
    let address = address(&endpoint)?;
    let weight = patch.weight.map(weight).transpose()?;
    let state = patch.state.map(|state| match state {
        AdminStateView::Ready => AdminState::Ready,
        AdminStateView::Draining => AdminState::Draining,
        AdminStateView::Maintenance => AdminState::Maintenance,
    });
    // Both halves in one task, for a client that goes away between them.
    let revision = detached(async move { patch_both(&api, pool, address, weight, state, based_on).await }).await??;
    Ok(Json(Changed { revision }))
}

async fn patch_both(
    api: &Arc<Api>,
    pool: String,
    address: EndpointAddress,
    weight: Option<Weight>,
    state: Option<AdminState>,
    based_on: Option<u64>,
) -> Result<u64, Problem> {
    let mut revision = None;
    if let Some(weight) = weight {
        revision = Some(change(api, pool.clone(), address.clone(), EndpointChange::Weight(weight), based_on).await?);
    }
    if let Some(state) = state {
        // Who named a revision wants nobody between the two halves either.
        let based_on = based_on.and(revision.or(based_on));
        let changed = change(api, pool, address, EndpointChange::State(state), based_on).await;
        revision = Some(changed.map_err(|mut problem| {
            if let Some(revision) = revision {
                problem.detail = format!("the weight was changed (revision {revision}), the state was not: {}", problem.detail);
            }
            problem
        })?);
    }
    revision.ok_or_else(|| invalid("nothing to change: name `state`, `weight` or both"))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

fn weight(value: u32) -> Result<Weight, Problem> {
    Weight::new(value).ok_or_else(|| invalid(format!("`weight` is 1 to {}, not {value}; to send no work, drain the endpoint", Weight::MAX)))
}

async fn change(
    api: &Arc<Api>,
    pool: String,
    address: EndpointAddress,
    change: EndpointChange,
    based_on: Option<u64>,
) -> Result<u64, Problem> {
    let node = api.node.clone();
    based(api, based_on, async move { node.change(&pool, &address, change, based_on).await }).await
}

/// Carries out what may be based on a revision, and tells a stale one from other conflicts.
pub(super) async fn based<T: Send + 'static>(
    api: &Api,
    based_on: Option<u64>,
    work: impl Future<Output = Result<T, ChangeError>> + Send + 'static,
) -> Result<T, Problem> {
    stale(api, based_on)?;
    match detached(work).await? {
        Err(ChangeError::Conflict(why)) => {
            // Somebody may have been faster than us since we looked.
            stale(api, based_on)?;
            Err(ChangeError::Conflict(why).into())
        }
        result => Ok(result?),
    }
}

fn stale(api: &Api, based_on: Option<u64>) -> Result<(), Problem> {
    let Some(based_on) = based_on else { return Ok(()) };
    let current = api.node.info().revision;
    if current == based_on {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PRECONDITION_FAILED,
        format!("the change is based on revision {based_on}, but {current} is in effect: look again and repeat it"),
    ))
}

/// Runs to its end even when the request is dropped.
async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|error| {
        tracing::error!(%error, "a change over the API failed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the change failed inside the node: look at its log")
    })
}

/// How to reload.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReloadParams {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// Reads the file again and makes it take effect, whole or not at all.
#[utoipa::path(
    post, path = "/v1/reload", tag = "configuration", params(ReloadParams, ("If-Match" = Option<String>, Header, description = "Revision it is based on")),
    responses(
        (status = 200, body = Reloaded),
        (status = 412, body = ProblemView, content_type = "application/problem+json", description = "Something else was changed meanwhile"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "The file is wrong; `detail` shows where"),
    ),
)]
pub(crate) async fn reload(
    State(api): State<Arc<Api>>,
    Params(params): Params<ReloadParams>,
    BasedOn(based_on): BasedOn,
) -> Result<Json<Reloaded>, Problem> {
    let node = api.node.clone();
    let dry_run = params.dry_run;
    let report = based(&api, based_on, async move { node.reload(dry_run, based_on).await }).await?;
    Ok(Json(Reloaded { revision: report.revision, dry_run, changes: report.changes }))
}

/// Starts another binary, hands it the listening sockets, and drains.
#[utoipa::path(
    post, path = "/v1/upgrade", tag = "configuration", request_body = Upgrade,
    responses(
        (status = 200, body = Upgraded, description = "The new process serves; this one drains"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "An upgrade or a stop is under way"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "Not a program that may be started"),
        (status = 500, body = ProblemView, content_type = "application/problem+json", description = "The new process did not serve; this one goes on"),
    ),
)]
pub(crate) async fn upgrade(State(api): State<Arc<Api>>, Body(upgrade): Body<Upgrade>) -> Result<Json<Upgraded>, Problem> {
    let binary = upgrade.binary.map(|path| trusted_program(Path::new(&path))).transpose().map_err(invalid)?;
    let node = api.node.clone();
    let pid = detached(async move { node.upgrade(binary).await }).await??;
    Ok(Json(Upgraded { pid }))
}

/// The program's real path, if nobody but root or our own user could have put it there or can change it.
///
/// On a loopback address every local user reaches the API. Without this check each of them could run anything as the user of `weir`.
fn trusted_program(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("`binary` must be an absolute path, not `{}`", path.display()));
    }
    let real = path.canonicalize().map_err(|error| format!("cannot find {}: {error}", path.display()))?;
    for (step, entry) in real.ancestors().enumerate() {
        let facts = std::fs::metadata(entry).map_err(|error| format!("cannot look at {}: {error}", entry.display()))?;
        if step == 0 && !(facts.is_file() && facts.mode() & 0o111 != 0) {
            return Err(format!("{} is not a program", entry.display()));
        }
        if facts.uid() != 0 && facts.uid() != rustix::process::geteuid().as_raw() {
            return Err(format!("{} belongs to another user, who could replace the program", entry.display()));
        }
        let ours = facts.gid() == rustix::process::getegid().as_raw();
        let writable_by_others = facts.mode() & 0o002 != 0 || (facts.mode() & 0o020 != 0 && !ours);
        // In a sticky folder (/tmp) nobody can replace what belongs to another; its entries are checked themselves.
        let sticky = facts.is_dir() && facts.mode() & 0o1000 != 0;
        if writable_by_others && !sticky {
            return Err(format!("{} can be written by others, who could replace the program", entry.display()));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_programs_nobody_else_could_have_put_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("weir");
        std::fs::write(&program, "#!/bin/sh\n").expect("written");
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        let check = |expected: Result<(), &str>| match (trusted_program(&program), expected) {
            (Ok(_), Ok(())) => {}
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (result, _) => panic!("{result:?} instead of {expected:?}"),
        };
        mode(&program, 0o644);
        check(Err("not a program"));
        mode(&program, 0o755);
        check(Ok(()));
        mode(&program, 0o757);
        check(Err("written by others"));
        mode(&program, 0o755);
        mode(dir.path(), 0o777);
        check(Err("written by others"));
        mode(dir.path(), 0o1777);
        check(Ok(()));
        assert!(trusted_program(Path::new("weir")).is_err_and(|why| why.contains("absolute")));
        assert!(trusted_program(Path::new("/nonexistent/weir")).is_err());
    }
}
