//! What the node keeps in `state_dir`: the overlay, the last verdicts, and the states of alarms.
//!
//! - `overlay.json`: run-time changes, written with each change.
//! - `scaling.json`: states of alarms, and what belongs to scaled pools, written when it changes.
//! - `verdicts.json`: health verdicts and counters, written at the end, so that a restart does not begin blind.
//!
//! A file is written aside, flushed and renamed, so a reader sees the old or the new one and never half of either. A file that cannot be
//! understood is moved aside (`*.bad`), not overwritten. A node that cannot write its state still serves.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_config::{AdminState, EndpointAddress, Host, PoolName, Weight};
use weir_lb::director::SavedVerdict;

use crate::overlay::{ENTRIES_MAX, Entry, Over, Overlay};
use crate::scaling::SavedScaling;

/// The version of both files' formats.
const FORMAT: u32 = 1;
/// The largest state file that is read: several times what [`ENTRIES_MAX`] entries need.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Verdicts older than this say nothing about now.
const VERDICTS_AGE_MAX: Duration = Duration::from_secs(300);

const OVERLAY: &str = "overlay.json";
const VERDICTS: &str = "verdicts.json";
const SCALING: &str = "scaling.json";

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The folder is not there and cannot be made.
    #[error("cannot create the state folder {path}: {source}")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder or a file in it cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there and cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there and makes no sense.
    #[error("{path} cannot be used: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What `verdicts.json` holds.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Saved {
    /// Verdicts, while they are fresh.
    pub(crate) verdicts: Vec<SavedVerdict>,
    /// The last revision.
    pub(crate) revision: u64,
    /// The number of the last event.
    pub(crate) last_event: u64,
}

impl StateDir {
    /// A folder that may not exist.
    pub(crate) fn new(path: &Path) -> StateDir {
        StateDir { path: path.to_owned() }
    }

    /// Makes the folder (for this user alone) where it is missing and tries whether it can be written.
    pub(crate) fn prepare(&self) -> Result<(), StateError> {
        let path = self.path.clone();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| StateError::Create { path, source })?;
        let probe = self.path.join(format!(".probe-{}", std::process::id()));
        create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|source| StateError::Write { path: self.path.clone(), source })
    }

    /// The overlay; empty when there is none.
    pub(crate) fn load_overlay(&self) -> Result<Overlay, StateError> {
        match self.load::<RawOverlay>(OVERLAY)? {
            None => Ok(Overlay::default()),
            Some(raw) => raw.try_into().map_err(|reason| self.set_aside(OVERLAY, reason)),
        }
    }

    /// Writes the overlay; when this returns it survives a crash of the machine.
    pub(crate) fn save_overlay(&self, overlay: &Overlay) -> Result<(), StateError> {
        self.save(OVERLAY, &RawOverlay::from(overlay))
    }

    /// Verdicts and counters; empty when there are none or they are too old.
    pub(crate) fn load_saved(&self, now: SystemTime) -> Result<Saved, StateError> {
        let Some(raw) = self.load::<RawSaved>(VERDICTS)? else { return Ok(Saved::default()) };
        let age = unix_seconds(now).abs_diff(raw.saved_at);
        let verdicts = if age <= VERDICTS_AGE_MAX.as_secs() { raw.verdicts } else { Vec::new() };
        Ok(Saved { verdicts, revision: raw.revision, last_event: raw.last_event })
    }

    /// Writes verdicts and counters.
    pub(crate) fn save_saved(&self, saved: &Saved, now: SystemTime) -> Result<(), StateError> {
        let Saved { verdicts, revision, last_event } = saved.clone();
        self.save(VERDICTS, &RawSaved { version: FORMAT, saved_at: unix_seconds(now), revision, last_event, verdicts })
    }

    /// What alarms and scaling know; nothing where there is none.
    pub(crate) fn load_scaling(&self) -> Result<SavedScaling, StateError> {
        Ok(self.load(SCALING)?.unwrap_or_default())
    }

    /// Writes what alarms and scaling know.
    pub(crate) fn save_scaling(&self, saved: &SavedScaling) -> Result<(), StateError> {
        self.save(SCALING, saved)
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(self.set_aside(name, format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        // The version first: a later format need not look like this one at all.
        match serde_json::from_slice::<Version>(&bytes) {
            Ok(Version { version: FORMAT }) => {}
            Ok(Version { version }) => {
                return Err(self.set_aside(name, format!("its format is version {version}, this program reads version {FORMAT}")));
            }
            Err(error) => return Err(self.set_aside(name, error.to_string())),
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.set_aside(name, error.to_string()))
    }

    /// Keeps what cannot be understood for a person to look at, out of the way of what is written next.
    fn set_aside(&self, name: &str, reason: String) -> StateError {
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.bad"));
        let reason = match fs::rename(&path, &aside) {
            Ok(()) => format!("{reason} (kept as {})", aside.display()),
            Err(_) => reason,
        };
        StateError::Content { path, reason }
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = create(&aside)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| StateError::Write { path: path.clone(), source })
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct RawSaved {
    version: u32,
    saved_at: u64,
    revision: u64,
    last_event: u64,
    verdicts: Vec<SavedVerdict>,
}

/// An overlay as it is written; also goes to the next process at an upgrade.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct RawOverlay {
    version: u32,
    pools: BTreeMap<String, Vec<RawEntry>>,
}

#[derive(Clone, Serialize, Deserialize, Debug)]
struct RawEntry {
    host: String,
    port: u16,
    #[serde(flatten)]
    what: RawWhat,
}

#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum RawWhat {
    Added { weight: u32, tier: u8, state: RawState },
    Removed,
    Changed { state: RawState, weight: Option<RawOver<u32>>, tier: Option<RawOver<u8>> },
}

#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
struct RawOver<T> {
    value: T,
    file: T,
}

#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum RawState {
    Ready,
    Draining,
    Maintenance,
}

impl From<AdminState> for RawState {
    fn from(state: AdminState) -> RawState {
        match state {
            AdminState::Ready => RawState::Ready,
            AdminState::Draining => RawState::Draining,
            AdminState::Maintenance => RawState::Maintenance,
        }
    }
}

impl From<RawState> for AdminState {
    fn from(state: RawState) -> AdminState {
        match state {
            RawState::Ready => AdminState::Ready,
            RawState::Draining => AdminState::Draining,
            RawState::Maintenance => AdminState::Maintenance,
        }
    }
}

impl From<&Overlay> for RawOverlay {
    fn from(overlay: &Overlay) -> RawOverlay {
        let raw_entry = |address: &EndpointAddress, entry: &Entry| RawEntry {
            host: match &address.host {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name.to_string(),
            },
            port: address.port,
            what: match entry {
                Entry::Added { weight, tier, state } => {
                    RawWhat::Added { weight: weight.value().into(), tier: *tier, state: (*state).into() }
                }
                Entry::Removed => RawWhat::Removed,
                Entry::Changed { state, weight, tier } => RawWhat::Changed {
                    state: (*state).into(),
                    weight: weight.map(|over| RawOver { value: over.value.value().into(), file: over.file.value().into() }),
                    tier: tier.map(|over| RawOver { value: over.value, file: over.file }),
                },
            },
        };
        let pools = overlay.pools().map(|(pool, entries)| (pool.0.to_string(), entries.iter().map(|(a, e)| raw_entry(a, e)).collect()));
        RawOverlay { version: FORMAT, pools: pools.collect() }
    }
}

impl TryFrom<RawOverlay> for Overlay {
    type Error = String;

    fn try_from(raw: RawOverlay) -> Result<Overlay, String> {
        if raw.version != FORMAT {
            return Err(format!("its format is version {}, this program reads version {FORMAT}", raw.version));
        }
        if raw.pools.values().map(Vec::len).sum::<usize>() > ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} entries"));
        }
        let mut overlay = Overlay::default();
        for (pool, entries) in raw.pools {
            for raw in entries {
                overlay.insert(PoolName::from(pool.as_str()), raw.address()?, raw.what.try_into()?);
            }
        }
        Ok(overlay)
    }
}

impl RawEntry {
    fn address(&self) -> Result<EndpointAddress, String> {
        let RawEntry { host, port, .. } = self;
        if *port == 0 || host.is_empty() || host.len() > 253 || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{}:{port}` is not an endpoint", host.escape_debug()));
        }
        let host = host.parse::<IpAddr>().map_or_else(|_| Host::Name(host.as_str().into()), Host::Ip);
        Ok(EndpointAddress { host, port: *port })
    }
}

impl TryFrom<RawWhat> for Entry {
    type Error = String;

    fn try_from(raw: RawWhat) -> Result<Entry, String> {
        let weight = |value| Weight::new(value).ok_or_else(|| format!("{value} is not a weight"));
        let tier = |value| if value <= 15 { Ok(value) } else { Err(format!("{value} is not a tier")) };
        Ok(match raw {
            RawWhat::Added { weight: w, tier: t, state } => Entry::Added { weight: weight(w)?, tier: tier(t)?, state: state.into() },
            RawWhat::Removed => Entry::Removed,
            RawWhat::Changed { state, weight: w, tier: t } => Entry::Changed {
                state: state.into(),
                weight: w.map(|over| Ok::<_, String>(Over { value: weight(over.value)?, file: weight(over.file)? })).transpose()?,
                tier: t.map(|over| Ok::<_, String>(Over { value: tier(over.value)?, file: tier(over.file)? })).transpose()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(host: &str, port: u16) -> EndpointAddress {
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        EndpointAddress { host, port }
    }

    fn overlay() -> Overlay {
        let weight = |value| Weight::new(value).expect("in range");
        let mut overlay = Overlay::default();
        let added = Entry::Added { weight: weight(3), tier: 2, state: AdminState::Draining };
        overlay.insert("web".into(), address("10.0.0.1", 80), added);
        overlay.insert("web".into(), address("app.example.com", 8080), Entry::Removed);
        let changed = Entry::Changed {
            state: AdminState::Maintenance,
            weight: Some(Over { value: weight(5), file: weight(1) }),
            tier: Some(Over { value: 1, file: 0 }),
        };
        overlay.insert("api".into(), address("fd00::1", 443), changed);
        overlay
    }

    fn dir() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let dir = StateDir::new(&temp.path().join("a/b"));
        dir.prepare().expect("prepared");
        (temp, dir)
    }

    #[test]
    fn an_overlay_is_read_as_it_was_written() {
        let (_temp, dir) = dir();
        assert_eq!(dir.load_overlay().expect("none yet"), Overlay::default());
        dir.save_overlay(&overlay()).expect("saved");
        assert_eq!(dir.load_overlay().expect("read"), overlay());
        assert_eq!(fs::metadata(&dir.path).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_makes_no_sense_is_set_aside() {
        let (_temp, dir) = dir();
        dir.save_overlay(&overlay()).expect("saved");
        let path = dir.path.join(OVERLAY);
        let whole = fs::read(&path).expect("written");
        let cases: [(&[u8], &str); 8] = [
            (&whole[..whole.len() / 2], "EOF"),
            (b"", "EOF"),
            (b"\xff\xfe", "expected value"),
            (br#"{"version":7,"new":true}"#, "version 7"),
            (br#"{"pools":{}}"#, "missing field `version`"),
            (
                br#"{"version":1,"pools":{"web":[{"host":"a","port":1,"kind":"added","weight":0,"tier":0,"state":"ready"}]}}"#,
                "not a weight",
            ),
            (br#"{"version":1,"pools":{"web":[{"host":"a b","port":1,"kind":"removed"}]}}"#, "not an endpoint"),
            (br#"{"version":1,"pools":{"web":[{"host":"a","port":0,"kind":"removed"}]}}"#, "not an endpoint"),
        ];
        for (bytes, reason) in cases {
            fs::write(&path, bytes).expect("written");
            let error = dir.load_overlay().expect_err(reason).to_string();
            assert!(error.contains(reason) && error.contains("overlay.json.bad"), "{error}");
            assert_eq!(fs::read(dir.path.join("overlay.json.bad")).expect("kept"), bytes);
            assert_eq!(dir.load_overlay().expect("out of the way"), Overlay::default());
        }
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_file() {
        let (_temp, dir) = dir();
        dir.save_overlay(&overlay()).expect("saved");
        fs::write(dir.path.join("overlay.json.new"), b"{\"version\":1,\"po").expect("torn");
        assert_eq!(dir.load_overlay().expect("the old one"), overlay());
        dir.save_overlay(&Overlay::default()).expect("the torn one is no obstacle");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("file");
        fs::write(&file, b"").expect("written");
        // A file in the way, which stops even root.
        let error = StateDir::new(&file.join("state")).prepare().expect_err("a file is no folder").to_string();
        assert!(error.contains("cannot create the state folder"), "{error}");
        let gone = StateDir::new(&temp.path().join("gone"));
        let error = gone.save_overlay(&overlay()).expect_err("no folder").to_string();
        assert!(error.contains("cannot write") && error.contains("overlay.json"), "{error}");
    }

    #[test]
    fn verdicts_grow_old() {
        let (_temp, dir) = dir();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let verdicts = vec![SavedVerdict { pool: "web".into(), endpoint: "10.0.0.1:80".into(), check: u64::MAX, healthy: true }];
        let saved = Saved { verdicts, revision: 7, last_event: 99 };
        dir.save_saved(&saved, now).expect("saved");
        assert_eq!(dir.load_saved(now + Duration::from_secs(300)).expect("read"), saved);
        let old = Saved { verdicts: Vec::new(), ..saved };
        assert_eq!(dir.load_saved(now + Duration::from_secs(301)).expect("read"), old);
        assert_eq!(dir.load_saved(now - Duration::from_secs(301)).expect("a clock that went back"), old);
    }
}
