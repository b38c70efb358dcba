//! Notices that the file changed.
//!
//! The folder is watched, not the file: editors and configuration managers put a new file in the old one's place, and Kubernetes swaps a link
//! to a whole folder. Where the file is a link, the folder it leads to is watched too. What decides is the content: a read whose digest is
//! new must be the same one settling time later, so a file that is being written is left alone until it holds still.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::node::{self, Node};

/// How long a changed file must hold still.
const SETTLE: Duration = Duration::from_millis(100);

/// When to read, and when what was read is worth a reload. Pure.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing moved.
    #[default]
    Quiet,
    /// Something moved; to be read `at`. `seen`: the digest of the read before.
    AwaitingRead { at: Instant, seen: Option<String> },
}

impl Settling {
    /// Something moved in the folder. More of it while settling changes nothing: a folder that is never quiet must not starve us.
    pub(crate) fn handle_event(&mut self, now: Instant) {
        if matches!(self.state, State::Quiet) {
            self.state = State::AwaitingRead { at: now + SETTLE, seen: None };
        }
    }

    /// When the file wants to be read.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Quiet => None,
            State::AwaitingRead { at, .. } => Some(*at),
        }
    }

    /// The file was read; `digest` is `None` when it is not there. `known` is what was last tried. Says whether to reload.
    pub(crate) fn handle_read(&mut self, digest: Option<String>, known: &str, now: Instant) -> bool {
        let seen = match std::mem::take(&mut self.state) {
            State::Quiet => None,
            State::AwaitingRead { seen, .. } => seen,
        };
        match digest {
            // Gone for a moment, or for good: when it comes back that is an event. Back to what we know: nothing to do.
            None => false,
            Some(digest) if digest == known => false,
            Some(digest) if seen.as_ref() == Some(&digest) => true,
            Some(digest) => {
                self.state = State::AwaitingRead { at: now + SETTLE, seen: Some(digest) };
                false
            }
        }
    }
}

/// Watches until it is dropped. When watching is impossible it says so once; signals and the API still reload.
pub(crate) async fn watch(node: Node) {
    let path = node.info().config_path;
    let (sender, mut moved) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let of_interest = event.as_ref().map_or(true, |event| !event.kind.is_access());
        if of_interest {
            // Full: one is waiting already, and one is enough.
            let _ = sender.try_send(());
        }
    });
    let mut folders = match watcher {
        Ok(watcher) => Folders { watcher, watched: BTreeSet::new() },
        Err(error) => {
            warn!(%error, "cannot watch the configuration file: reload with SIGHUP or `weir reload`");
            return;
        }
    };
    folders.follow(&path);
    let mut settling = Settling::default();
    // It may have changed between the start's read and the watch.
    settling.handle_event(Instant::now());
    loop {
        let event = match settling.poll_timeout() {
            None => moved.recv().await,
            Some(at) => {
                tokio::time::sleep_until(at.into()).await;
                None
            }
        };
        if event.is_some() {
            settling.handle_event(Instant::now());
            continue;
        }
        if settling.poll_timeout().is_none() {
            // The watcher is gone, which does not happen while we hold it.
            return;
        }
        // Links may lead elsewhere now; what moves there from here on is seen.
        folders.follow(&path);
        let read = path.clone();
        let digest = tokio::task::spawn_blocking(move || node::read_config(&read).ok().map(|(_, digest)| digest)).await.ok().flatten();
        if settling.handle_read(digest, &node.last_read_sha256(), Instant::now()) {
            debug!(path = %path.display(), "the configuration file changed");
            // The outcome, good or bad, is an event of its own.
            let _ = node.reload(false, None).await;
        }
    }
}

struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    /// Watches the folders that the path depends on now, and no others.
    fn follow(&mut self, path: &Path) {
        let wanted = folders_of(path);
        for folder in self.watched.difference(&wanted) {
            // An error: the folder is gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        for folder in wanted.difference(&self.watched) {
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                warn!(folder = %folder.display(), %error, "cannot watch a folder: changes there need SIGHUP or `weir reload`");
            }
        }
        self.watched = wanted;
    }
}

/// The folder that names the file, and the one where it lies.
fn folders_of(path: &Path) -> BTreeSet<PathBuf> {
    let target = path.canonicalize().ok();
    [Some(path), target.as_deref()].into_iter().flatten().filter_map(Path::parent).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of the file, one per settling time after one event; `-` is a missing file. `A` is known. At which read a reload happens, and
    /// whether it is quiet then.
    fn check(reads: &str, expected: Option<usize>) {
        let mut now = Instant::now();
        let mut settling = Settling::default();
        settling.handle_event(now);
        let mut reload = None;
        for (index, read) in reads.split_whitespace().enumerate() {
            let at = settling.poll_timeout().unwrap_or_else(|| panic!("{reads}: nothing to read at {index}"));
            assert_eq!(at - now, SETTLE);
            now = at;
            if settling.handle_read((read != "-").then(|| read.to_owned()), "A", now) {
                assert_eq!(reload.replace(index), None, "{reads}: one reload");
            }
        }
        assert_eq!(reload, expected, "{reads}");
        assert_eq!(settling.poll_timeout(), None, "{reads}: quiet at the end");
    }

    #[test]
    fn a_new_content_that_holds_still_is_reloaded_once() {
        check("B B", Some(1));
        check("B C C", Some(2));
        check("B C D E E", Some(4));
    }

    #[test]
    fn nothing_new_is_left_alone() {
        check("A", None);
        check("-", None);
        check("B A", None);
        check("B -", None);
    }

    #[test]
    fn a_folder_that_is_never_quiet_does_not_starve_the_file() {
        let start = Instant::now();
        let mut settling = Settling::default();
        for ms in 0..100 {
            settling.handle_event(start + Duration::from_millis(ms));
        }
        assert_eq!(settling.poll_timeout(), Some(start + SETTLE));
    }

    #[test]
    fn a_link_adds_the_folder_it_leads_to() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let root = root.path().canonicalize().expect("there");
        let (first, second) = (root.join("..1"), root.join("..2"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).expect("made");
            std::fs::write(folder.join("weir.toml"), "").expect("written");
        }
        // As Kubernetes lays a ConfigMap out.
        std::os::unix::fs::symlink("..1", root.join("..data")).expect("linked");
        std::os::unix::fs::symlink("..data/weir.toml", root.join("weir.toml")).expect("linked");
        let path = root.join("weir.toml");
        assert_eq!(folders_of(&path), BTreeSet::from([root.clone(), first]));
        std::os::unix::fs::symlink("..2", root.join("..data_tmp")).expect("linked");
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).expect("swapped");
        assert_eq!(folders_of(&path), BTreeSet::from([root.clone(), second]));
        assert_eq!(folders_of(&root.join("gone.toml")), BTreeSet::from([root]));
    }
}
