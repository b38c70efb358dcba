//! Changes of what is in effect: of the file, and of endpoints over the API.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::OwnedMutexGuard;
use tracing::{error, warn};
use weir_config::{AdminState, Config, EndpointAddress, PoolName};
use weir_lb::event::EventKind;

use super::{
    ChangeError, EndpointChange, Node, Published, ReloadReport, Stage, Writer, chain, lock, read_config, start_access_log, versions,
};
use crate::access_log::AccessLog;
use crate::overlay::{Overlay, Refusal};
use crate::vip::Vips;

impl Node {
    /// Runs a change alone, on a thread that may block, to its end.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Node, &mut Writer) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let mut writer: OwnedMutexGuard<Writer> = self.inner.writer.clone().lock_owned().await;
        let node = self.clone();
        let work = move || match node.stage() {
            Stage::Serving => change(&node, &mut writer),
            Stage::Draining => Err(ChangeError::Conflict("this node is stopping".into())),
            Stage::HandedOver(pid) => Err(ChangeError::Conflict(format!("process {pid} has taken over: ask again"))),
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => {
                error!(%error, "a change failed unexpectedly");
                Err(ChangeError::Failed("the change failed unexpectedly; the log says more".into()))
            }
        }
    }

    pub(super) fn change_now(
        &self,
        writer: &mut Writer,
        pool: &PoolName,
        address: &EndpointAddress,
        change: &EndpointChange,
        based_on: Option<u64>,
    ) -> Result<u64, ChangeError> {
        writer.check_revision(based_on)?;
        let changed = writer.overlay.change(&writer.file, pool, address, change);
        let Some(overlay) = changed.map_err(|refusal| explain_refusal(refusal, &writer.effective, pool, address))? else {
            return Ok(writer.revision);
        };
        let applied = overlay.apply(&writer.file);
        self.apply(writer, applied.config)?;
        writer.overlay = applied.overlay;
        self.publish(writer, |_| {});
        self.persist_overlay(&writer.overlay);
        self.inner.events.record(EventKind::EndpointChanged {
            pool: pool.0.clone(),
            endpoint: address.to_string(),
            change: describe(change),
            revision: writer.revision,
        });
        Ok(writer.revision)
    }

    pub(super) fn reload_now(&self, writer: &mut Writer, dry_run: bool) -> Result<ReloadReport, ChangeError> {
        let mut digest = None;
        let result = self.reload_read(writer, dry_run, &mut digest);
        if dry_run {
            return result;
        }
        let outcome = result.as_ref().map(drop).map_err(ToString::to_string);
        if let Err(reason) = &outcome {
            self.inner.events.record(EventKind::ReloadRefused { reason: reason.clone() });
        }
        self.inner.publish(|published| {
            published.last_reload = Some((SystemTime::now(), outcome));
            if let Some(digest) = digest {
                published.last_read_sha256 = digest;
            }
        });
        result
    }

    fn reload_read(&self, writer: &mut Writer, dry_run: bool, digest: &mut Option<String>) -> Result<ReloadReport, ChangeError> {
        let path = &self.inner.config_path;
        let (text, sha256) = read_config(path).map_err(|error| ChangeError::Invalid(format!("cannot read {}: {error}", path.display())))?;
        *digest = Some(sha256.clone());
        if sha256 == writer.file_sha256 {
            if dry_run {
                return Ok(ReloadReport { revision: writer.revision, changes: Vec::new() });
            }
            self.renew_session_keys(&writer.effective)?;
            let changes = self.renew_api(&writer.effective)?;
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        let file = weir_config::parse(&text, &path.to_string_lossy()).map_err(|errors| ChangeError::Invalid(errors.render(false)))?;
        let applied = writer.overlay.apply(&file);
        let differences = weir_config::diff(&writer.effective, &applied.config);
        let mut changes: Vec<String> = differences.iter().map(ToString::to_string).collect();
        changes.extend(applied.notes.iter().map(ToString::to_string));
        if dry_run {
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        // Written otherwise it means the same, but is not the same text as another node's.
        let is_new = !differences.is_empty() || applied.config.shared_sum != writer.effective.shared_sum;
        if is_new {
            self.apply_settings(writer, applied.config)?;
        }
        for difference in differences.iter().filter(|difference| difference.needs_restart()) {
            warn!("takes effect with the next restart or upgrade only: {difference}");
        }
        let overlay_changed = writer.overlay != applied.overlay;
        (writer.file, writer.file_sha256, writer.overlay) = (file, sha256.clone(), applied.overlay);
        if differences.is_empty() {
            self.inner.publish(|published| (published.config_sha256, published.config) = (sha256, writer.effective.clone()));
        } else {
            self.publish(writer, |published| published.config_sha256 = sha256);
        }
        if overlay_changed {
            self.persist_overlay(&writer.overlay);
        }
        self.keep_version(&text, &writer.file_sha256);
        self.inner.events.record(EventKind::Reloaded { revision: writer.revision, changes: changes.clone() });
        Ok(ReloadReport { revision: writer.revision, changes })
    }

    pub(super) fn write_file_now(
        &self,
        writer: &mut Writer,
        text: &str,
        over: Option<&str>,
        dry_run: bool,
    ) -> Result<ReloadReport, ChangeError> {
        let path = &self.inner.config_path;
        let cannot = |what: &str, error: &dyn std::fmt::Display| ChangeError::Failed(format!("cannot {what} {}: {error}", path.display()));
        let (before, sha256) = read_config(path).map_err(|error| cannot("read", &error))?;
        if over.is_some_and(|over| !over.eq_ignore_ascii_case(&sha256)) {
            let why = format!("{} was changed meanwhile, its SHA-256 is {sha256} now: look again and repeat the change", path.display());
            return Err(ChangeError::Conflict(why));
        }
        let file = weir_config::parse(text, &path.to_string_lossy()).map_err(|errors| ChangeError::Invalid(errors.render(false)))?;
        let applied = writer.overlay.apply(&file);
        let changes = weir_config::diff(&writer.effective, &applied.config).iter().map(ToString::to_string).collect();
        if dry_run {
            return Ok(ReloadReport { revision: writer.revision, changes });
        }
        versions::replace(path, text).map_err(|error| {
            ChangeError::Failed(format!(
                "cannot write {}: {error}. The user of weir must be allowed to (under systemd also ReadWritePaths=); or write it by hand",
                path.display()
            ))
        })?;
        self.reload_now(writer, false).inspect_err(|_| {
            // What is not taken must not wait there for the next start.
            if let Err(error) = versions::replace(path, &before) {
                error!(%error, "the file was not taken, and the one before could not be put back");
            }
        })?;
        Ok(ReloadReport { revision: writer.revision, changes })
    }

    /// The same file, but perhaps another token in the file that it names.
    fn renew_api(&self, config: &Config) -> Result<Vec<String>, ChangeError> {
        let mut slot = lock(&self.inner.api);
        let Some(prepared) = slot.prepare(config.api.as_ref(), None).map_err(failed)? else { return Ok(Vec::new()) };
        slot.commit(prepared, self, &self.inner.runtime);
        Ok(vec!["api: another token or certificate".into()])
    }

    /// Nor need the files that hold the keys of sessions be the same.
    fn renew_session_keys(&self, config: &Config) -> Result<(), ChangeError> {
        match self.inner.with_plane(|plane| plane.renew_session_keys(config)) {
            Some(Err(error)) => Err(ChangeError::Failed(chain(&error))),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Lets a configuration take effect that differs in endpoints only. On an error nothing has changed.
    fn apply(&self, writer: &mut Writer, mut config: Config) -> Result<(), ChangeError> {
        weir_config::share_unchanged(&writer.effective, &mut config);
        let config = Arc::new(config);
        match self.inner.with_plane(|plane| plane.apply(config.clone())) {
            Some(Ok(_)) => {
                writer.effective = config;
                Ok(())
            }
            Some(Err(error)) => Err(ChangeError::Failed(chain(&error))),
            None => Err(ChangeError::Conflict("this node is stopping".into())),
        }
    }

    /// Like [`Node::apply`], with access log and API: what can fail about them is done before, the rest after.
    fn apply_settings(&self, writer: &mut Writer, config: Config) -> Result<(), ChangeError> {
        let log = if config.access_log == writer.effective.access_log {
            None
        } else {
            Some(start_access_log(&config, &self.inner.log_dropped).map_err(failed)?)
        };
        Vips::check(&config).map_err(ChangeError::Failed)?;
        let mut slot = lock(&self.inner.api);
        let prepared = slot.prepare(config.api.as_ref(), None).map_err(failed)?;
        self.apply(writer, config)?;
        self.inner.vips.apply(self, &writer.effective).map_err(ChangeError::Failed)?;
        {
            let _inside = self.inner.runtime.enter();
            self.inner.machines.apply(&writer.effective);
            self.inner.notifier.apply(self, &writer.effective);
            self.inner.historian.apply(&writer.effective);
        }
        self.inner.vips.choose_leader(self, &writer.effective);
        if let Some(log) = log {
            self.inner.with_plane(|plane| plane.set_log(log.as_ref().map(AccessLog::sink)));
            // The old one ends by itself when the last worker has let go of it.
            *lock(&self.inner.log) = log;
        }
        if let Some(prepared) = prepared {
            slot.commit(prepared, self, &self.inner.runtime);
        }
        Ok(())
    }

    /// The next revision, for everybody to see.
    fn publish(&self, writer: &mut Writer, change: impl FnOnce(&mut Published)) {
        writer.revision += 1;
        self.inner.publish(|published| {
            published.revision = writer.revision;
            published.config = writer.effective.clone();
            change(published);
        });
    }

    pub(super) fn persist_overlay(&self, overlay: &Overlay) {
        if let Err(error) = self.inner.state.save_overlay(overlay) {
            self.inner.events.record(EventKind::NotPersisted { reason: error.to_string() });
        }
    }
}

fn failed(error: io::Error) -> ChangeError {
    ChangeError::Failed(error.to_string())
}

/// What a change is, in words for the log.
fn describe(change: &EndpointChange) -> String {
    match change {
        EndpointChange::Add(endpoint) => format!("added with weight {}, tier {}", endpoint.weight.value(), endpoint.tier),
        EndpointChange::Remove => "removed".into(),
        EndpointChange::State(AdminState::Ready) => "ready".into(),
        EndpointChange::State(AdminState::Draining) => "draining".into(),
        EndpointChange::State(AdminState::Maintenance) => "maintenance".into(),
        EndpointChange::Weight(weight) => format!("weight {}", weight.value()),
    }
}

fn explain_refusal(refusal: Refusal, config: &Config, pool: &PoolName, address: &EndpointAddress) -> ChangeError {
    match refusal {
        Refusal::NoPool => {
            let nearest = nearest(&pool.0, config.pools.keys().map(|name| name.0.to_string()));
            ChangeError::NotFound(format!("there is no pool `{pool}`{nearest}"))
        }
        Refusal::NoEndpoint => {
            let endpoints = config.pools.get(pool).into_iter().flat_map(|pool| &pool.endpoints);
            let nearest = nearest(&address.to_string(), endpoints.map(|endpoint| endpoint.address.to_string()));
            ChangeError::NotFound(format!("pool `{pool}` has no endpoint `{address}`{nearest}"))
        }
        Refusal::Exists => ChangeError::Conflict(format!("pool `{pool}` has the endpoint `{address}` already")),
        Refusal::Full => ChangeError::Conflict(format!(
            "there are {} run-time changes already, which is the most: write some of them into the file",
            crate::overlay::ENTRIES_MAX
        )),
    }
}

/// A hint at what was meant, if anything is near.
fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> String {
    let near = names.map(|name| (strsim::damerau_levenshtein(wanted, &name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + wanted.len() / 4 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_named_when_it_is_near() {
        let names = || ["web", "api", "static-files"].into_iter().map(String::from);
        assert_eq!(nearest("wbe", names()), "; did you mean `web`?");
        assert_eq!(nearest("static-flies", names()), "; did you mean `static-files`?");
        assert_eq!(nearest("database", names()), "");
        assert_eq!(nearest("web", std::iter::empty()), "");
    }
}
