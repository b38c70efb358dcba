//! What this node remembers of hosts and templates, so that it need not be found out again: a small file in the state folder.
//!
//! Nothing in it is needed for correctness. Without the file, images are read once more and KVM is tried once more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// Larger files are not ours.
const BYTES_MAX: u64 = 16 << 20;

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct Memo {
    path: PathBuf,
    facts: Mutex<Facts>,
}

/// What is remembered.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    /// `kvm` or `qemu`, by URI.
    pub(crate) domain_types: BTreeMap<String, String>,
    /// Digests of files, by path.
    pub(crate) files: BTreeMap<String, FileFact>,
    /// The last base, by template.
    pub(crate) bases: BTreeMap<String, BaseFact>,
}

/// A file whose content was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FileFact {
    /// Size, time and number of the file: while these are the same, so is the content.
    pub(crate) stamp: String,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: String,
}

/// A template's last base.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct BaseFact {
    /// Counts up from 1.
    pub(crate) number: u32,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: String,
    /// Of a master: which state of its disk it was.
    pub(crate) revision: String,
}

impl Memo {
    /// What cannot be read is found out again.
    pub(crate) fn load(folder: &Path) -> Memo {
        let path = folder.join("hypervisor.json");
        let readable = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= BYTES_MAX);
        let facts = if readable { fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) } else { None };
        Memo { path, facts: Mutex::new(facts.unwrap_or_default()) }
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Facts) -> T) -> T {
        look(&self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it, and writes it down if that made a difference.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = facts.clone();
        change(&mut facts);
        if *facts == before {
            return;
        }
        if let Err(error) = self.write(&facts) {
            warn!("{}: {error}: it will be found out again after a restart", self.path.display());
        }
    }

    fn write(&self, facts: &Facts) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = self.path.with_extension("json.new");
        fs::write(&draft, serde_json::to_vec_pretty(facts)?)?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        Memo::load(folder.path()).change(|facts| _ = facts.domain_types.insert("qemu:///system".into(), "kvm".into()));
        let kind = Memo::load(folder.path()).read(|facts| facts.domain_types.get("qemu:///system").cloned());
        assert_eq!(kind.as_deref(), Some("kvm"));
        fs::write(folder.path().join("hypervisor.json"), "{ broken").expect("writable");
        assert_eq!(Memo::load(folder.path()).read(Facts::clone), Facts::default());
    }
}
