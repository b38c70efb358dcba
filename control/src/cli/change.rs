//! `weir reload`, `weir endpoint` and `weir upgrade`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ureq::http::Method;

use super::output::Output;
use super::{EndpointCommand, Place};
use crate::api::model::*;
use crate::client::{Client, endpoint_path, segment};

/// The new process has to start, bind and serve.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(200);

/// Makes the file take effect.
pub(super) fn reload(client: &Client, dry_run: bool, output: &Output) -> anyhow::Result<()> {
    let path = if dry_run { "/v1/reload?dry_run=true" } else { "/v1/reload" };
    let reloaded: Reloaded = client.change(Method::POST, path, None::<&()>)?;
    output.either(&reloaded, || {
        let mut text = match (reloaded.changes.is_empty(), dry_run) {
            (true, _) => "nothing changed".to_owned(),
            (false, true) => "would change".to_owned(),
            (false, false) => "changed".to_owned(),
        };
        text.push_str(&format!(" (revision {})\n", reloaded.revision));
        text.extend(reloaded.changes.iter().map(|change| format!("  {change}\n")));
        text
    })
}

/// Adds, removes or weighs.
pub(super) fn endpoint(client: &Client, command: &EndpointCommand, output: &Output) -> anyhow::Result<()> {
    let (changed, what) = match command {
        EndpointCommand::Add { place: Place { pool, address }, weight, tier } => {
            let new = NewEndpoint { address: address.to_string(), weight: *weight, tier: *tier };
            let path = format!("/v1/pools/{}/endpoints", segment(pool));
            (client.change::<Changed>(Method::POST, &path, Some(&new))?, format!("{address} is added to pool {pool}"))
        }
        EndpointCommand::Remove { place: Place { pool, address } } => {
            let path = endpoint_path(pool, &address.to_string());
            (client.change::<Changed>(Method::DELETE, &path, None::<&()>)?, format!("{address} is removed from pool {pool}"))
        }
        EndpointCommand::Weight { place: Place { pool, address }, weight } => {
            let patch = EndpointPatch { state: None, weight: Some(*weight) };
            let path = endpoint_path(pool, &address.to_string());
            (client.change::<Changed>(Method::PATCH, &path, Some(&patch))?, format!("{address} in pool {pool} has weight {weight}"))
        }
    };
    output.either(&changed, || format!("{what} (revision {})\n", changed.revision))
}

/// Starts the next process.
pub(super) fn upgrade(client: &Client, binary: Option<&Path>, output: &Output) -> anyhow::Result<()> {
    // The node has another working directory.
    let binary = binary.map(|path| path.canonicalize().with_context(|| format!("cannot find {}", path.display()))).transpose()?;
    let binary = binary
        .map(|path| path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("the path {path:?} is not UTF-8: rename it")))
        .transpose()?;
    let upgraded: Upgraded = client.send(Method::POST, "/v1/upgrade", Some(&Upgrade { binary }), UPGRADE_TIMEOUT)?;
    output.either(&upgraded, || format!("process {} serves; the old one finishes its work and ends\n", upgraded.pid))
}
