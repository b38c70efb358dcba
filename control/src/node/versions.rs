//! Files that were in effect: kept in the state folder, so that one of them can be again.
//!
//! One file each, `configs/MOMENT-SHA256.toml`, the moment in milliseconds since 1970. For the user of `weir` alone, as the file may hold what is
//! not for everybody. A node that cannot write them still serves.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folder within the state folder.
const FOLDER: &str = "configs";
/// How many are kept: some weeks of a site that changes every day.
const VERSIONS_MAX: usize = 30;
/// A larger file is not kept: thirty of it would fill a small disk.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    /// When it last began to be in effect.
    pub(crate) at: SystemTime,
    /// Its SHA-256, hexadecimal.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) bytes: u64,
}

/// The folder that holds them.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    folder: PathBuf,
}

impl Versions {
    /// In this state folder; nothing is touched yet.
    pub(crate) fn new(state_dir: &Path) -> Versions {
        Versions { folder: state_dir.join(FOLDER) }
    }

    /// Keeps what begins to be in effect. What was in effect before gets a new moment and no second copy.
    pub(crate) fn keep(&self, text: &str, sha256: &str, now: SystemTime) -> io::Result<()> {
        if text.len() > BYTES_MAX {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let moment = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let path = self.folder.join(format!("{moment}-{sha256}.toml"));
        let known = self.all();
        match known.iter().find(|(_, version)| version.sha256 == sha256) {
            Some((before, _)) => fs::rename(before, &path)?,
            None => {
                let aside = self.folder.join(format!("{sha256}.new"));
                let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                fs::rename(&aside, &path)?;
            }
        }
        let others = known.iter().filter(|(_, version)| version.sha256 != sha256);
        for (surplus, _) in others.skip(VERSIONS_MAX - 1) {
            fs::remove_file(surplus)?;
        }
        Ok(())
    }

    /// The newest first.
    pub(crate) fn list(&self) -> Vec<Version> {
        self.all().into_iter().map(|(_, version)| version).collect()
    }

    /// The text of one.
    pub(crate) fn text(&self, sha256: &str) -> Option<String> {
        let (path, _) = self.all().into_iter().find(|(_, version)| version.sha256 == sha256)?;
        fs::read_to_string(path).ok()
    }

    fn all(&self) -> Vec<(PathBuf, Version)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut all: Vec<(PathBuf, Version)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let (moment, sha256) = name.strip_suffix(".toml")?.split_once('-')?;
                let at = SystemTime::UNIX_EPOCH + Duration::from_millis(moment.parse().ok()?);
                Some((entry.path(), Version { at, sha256: sha256.to_owned(), bytes: entry.metadata().ok()?.len() }))
            })
            .collect();
        all.sort_by_key(|(_, version)| std::cmp::Reverse(version.at));
        all
    }
}

/// Puts a new text in the place of a file, whole or not at all, under the same owner and mode. Where it is a link, what it leads to is replaced.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let path = path.canonicalize()?;
    let before = fs::metadata(&path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        // Of another owner where we may; where not, ours is as good: we could write the folder.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&aside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_in_effect_can_be_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let versions = Versions::new(dir.path());
        assert!(versions.list().is_empty() && versions.text("aa").is_none());
        for (text, sha256, seconds) in [("one", "aa", 1), ("two", "bb", 2), ("one", "aa", 3)] {
            versions.keep(text, sha256, at(seconds)).expect("kept");
        }
        let list = versions.list();
        let shown: Vec<(&str, SystemTime, u64)> = list.iter().map(|version| (version.sha256.as_str(), version.at, version.bytes)).collect();
        assert_eq!(shown, [("aa", at(3), 3), ("bb", at(2), 3)]);
        assert_eq!(versions.text("bb").as_deref(), Some("two"));
        assert_eq!(versions.text("../bb"), None);
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().expect("a folder");
        let versions = Versions::new(dir.path());
        for number in 0..VERSIONS_MAX as u64 + 5 {
            versions.keep("text", &format!("{number:064x}"), at(number)).expect("kept");
        }
        let list = versions.list();
        assert_eq!((list.len(), list[0].at, list[VERSIONS_MAX - 1].at), (VERSIONS_MAX, at(VERSIONS_MAX as u64 + 4), at(5)));
        versions.keep(&"x".repeat(BYTES_MAX + 1), "cc", at(1000)).expect("left out");
        assert_eq!(versions.text("cc"), None);
    }

    #[test]
    fn a_file_is_replaced_whole_and_stays_what_it_was() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("real.toml"), dir.path().join("weir.toml"));
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("its mode");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        replace(&link, "new").expect("replaced");
        assert_eq!(fs::read_to_string(&file).expect("read"), "new");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "nothing is left beside it");
        assert!(replace(&dir.path().join("none"), "new").is_err());
    }
}
