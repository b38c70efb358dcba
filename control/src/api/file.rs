//! The configuration file: read, replaced, and what it was before.
//!
//! Nothing of its text goes into the events or the audit, as a secret may stand in it: they say what changed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::change::based;
use super::extract::{BasedOn, Body, Names, Params};
use super::model::*;
use super::problem::Problem;
use super::view::unix_seconds;

/// Largest body that brings a file: ten thousand pools.
pub(super) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The file as it is on the disk now, and whether that is what is in effect.
#[utoipa::path(get, path = "/v1/config/file", tag = "configuration", responses((status = 200, body = ConfigFileView)))]
pub(crate) async fn file(State(api): State<Arc<Api>>) -> Result<Json<ConfigFileView>, Problem> {
    let info = api.node.info();
    let path = info.config_path.clone();
    let (text, sha256, error) = match blocking(move || crate::node::read_config(&path)).await? {
        Ok((text, sha256)) => (Some(text), Some(sha256), None),
        Err(error) => (None, None, Some(format!("cannot read {}: {error}", info.config_path.display()))),
    };
    let in_effect = sha256.as_ref() == Some(&info.config_sha256);
    Ok(Json(ConfigFileView { path: info.config_path.display().to_string(), text, sha256, in_effect, error }))
}

/// How to replace it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReplaceParams {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// Puts another text in the place of the file and makes it take effect; a text that is refused leaves the file and what is in effect alone.
#[utoipa::path(
    put, path = "/v1/config/file", tag = "configuration",
    params(ReplaceParams, ("If-Match" = Option<String>, Header, description = "Revision it is based on")),
    request_body = NewConfigFile,
    responses(
        (status = 200, body = Reloaded),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "The file on the disk is not the one it is based on"),
        (status = 412, body = ProblemView, content_type = "application/problem+json", description = "Something else was changed meanwhile"),
        (status = 422, body = ProblemView, content_type = "application/problem+json", description = "The text is wrong; `detail` shows where"),
        (status = 500, body = ProblemView, content_type = "application/problem+json", description = "The file cannot be written"),
    ),
)]
pub(crate) async fn replace(
    State(api): State<Arc<Api>>,
    Params(params): Params<ReplaceParams>,
    BasedOn(based_on): BasedOn,
    Body(new): Body<NewConfigFile>,
) -> Result<Json<Reloaded>, Problem> {
    let node = api.node.clone();
    let dry_run = params.dry_run;
    let report = based(&api, based_on, async move { node.write_file(new.text, new.over, dry_run, based_on).await }).await?;
    Ok(Json(Reloaded { revision: report.revision, dry_run, changes: report.changes }))
}

/// The files that were in effect, the newest first; the last thirty are kept.
#[utoipa::path(get, path = "/v1/config/versions", tag = "configuration", responses((status = 200, body = [ConfigVersion])))]
pub(crate) async fn versions(State(api): State<Arc<Api>>) -> Result<Json<Vec<ConfigVersion>>, Problem> {
    let versions = api.node.versions();
    let current = api.node.info().config_sha256;
    let view = |version: crate::node::Version| ConfigVersion {
        at: unix_seconds(version.at),
        in_effect: version.sha256 == current,
        sha256: version.sha256,
        bytes: version.bytes,
    };
    Ok(Json(blocking(move || versions.list()).await?.into_iter().map(view).collect()))
}

/// One of them, with its text.
#[utoipa::path(
    get, path = "/v1/config/versions/{sha256}", tag = "configuration",
    params(("sha256" = String, Path, description = "Its SHA-256")),
    responses((status = 200, body = ConfigText), (status = 404, body = ProblemView, content_type = "application/problem+json", description = "None is kept of it")),
)]
pub(crate) async fn version(State(api): State<Arc<Api>>, Names(sha256): Names<String>) -> Result<Json<ConfigText>, Problem> {
    let versions = api.node.versions();
    let wanted = sha256.clone();
    match blocking(move || versions.text(&wanted)).await? {
        Some(text) => Ok(Json(ConfigText { sha256, text })),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("no file of SHA-256 {sha256} is kept; /v1/config/versions lists those that are"),
        )),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "the configuration file could not be looked at");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read: look at the log of the node")
    })
}
