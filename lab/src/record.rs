//! What a lab made, written down before it is made, so that another process can take it away: `/run/weir-lab/NAME/record.json`.
//!
//! Everything that others could have too (namespaces, links) carries the lab's token in its name, six random letters that are in the record
//! before the first thing is made. Processes are recorded with their start time. So nothing is taken away that the lab did not make.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::process::Identity;
use crate::{Fault, LabError};

/// Where the records of all labs are. A tmpfs: a restart of the machine ends all labs and forgets them.
const HOME: &str = "/run/weir-lab";
/// Labs that a machine may hold at once: each has a /22 of 10.213.0.0/16.
const SLOTS: u8 = 64;

/// What a lab made and may take away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) token: String,
    /// Which of the address ranges it has.
    pub(crate) slot: u8,
    pub(crate) owner: Identity,
    pub(crate) hosts: Vec<HostRecord>,
    pub(crate) nodes: Vec<String>,
    pub(crate) faults: Vec<Fault>,
}

/// One virtual host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) name: String,
    /// Holds the mounts: the host's disk. Absent until it was started.
    pub(crate) anchor: Option<Identity>,
    /// The first process of the running host; absent while it is off.
    pub(crate) boot: Option<Identity>,
}

impl Record {
    pub(crate) fn folder(name: &str) -> PathBuf {
        Path::new(HOME).join(name)
    }

    fn path(name: &str) -> PathBuf {
        Self::folder(name).join("record.json")
    }

    /// The record of a lab; nothing if there is none, or none that was ever finished writing.
    pub(crate) fn load(name: &str) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(Self::path(name)).ok()?).ok()
    }

    /// Whole or not at all, for whoever reads it meanwhile.
    pub(crate) fn save(&self) -> Result<(), LabError> {
        let folder = Self::folder(&self.name);
        fs::create_dir_all(&folder).map_err(LabError::file(&folder))?;
        let text = serde_json::to_string_pretty(self).expect("a record is plain data");
        let draft = folder.join("record.draft");
        fs::write(&draft, text).map_err(LabError::file(&draft))?;
        fs::rename(&draft, Self::path(&self.name)).map_err(LabError::file(&draft))
    }

    /// Takes the record itself away: the last step of taking a lab down.
    pub(crate) fn forget(&self) -> Result<(), LabError> {
        let folder = Self::folder(&self.name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LabError::file(&folder)(error)),
            _ => Ok(()),
        }
    }

    /// The namespace of a host, a node or the switch.
    pub(crate) fn namespace(&self, member: &str) -> String {
        format!("wl-{}-{member}", self.token)
    }

    /// The end of the lab's link that is in the machine's own namespace.
    pub(crate) fn root_link(&self) -> String {
        format!("wl-{}", self.token)
    }
}

/// Held while labs come and go, so that two that start at once do not take the same range.
pub(crate) struct Registry {
    _lock: File,
}

impl Registry {
    pub(crate) fn lock() -> Result<Self, LabError> {
        fs::create_dir_all(HOME).map_err(LabError::file(HOME))?;
        let path = Path::new(HOME).join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(LabError::file(&path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| LabError::file(&path)(error.into()))?;
        Ok(Self { _lock: lock })
    }

    /// All labs with a record, by name.
    pub(crate) fn records(&self) -> Vec<Record> {
        all()
    }

    /// The first address range that no lab has.
    pub(crate) fn free_slot(&self) -> Result<u8, LabError> {
        let taken: Vec<u8> = self.records().iter().map(|record| record.slot).collect();
        (0..SLOTS)
            .find(|slot| !taken.contains(slot))
            .ok_or_else(|| LabError::Options(format!("there are {SLOTS} labs already: take some down")))
    }
}

/// All labs with a record, by name.
pub(crate) fn all() -> Vec<Record> {
    let entries = fs::read_dir(HOME).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.iter().filter_map(|name| Record::load(name)).collect()
}
