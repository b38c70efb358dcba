//! What outlives the process: states of alarms, what is paused, and which endpoints were made of machines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_autoscaler::alarm::SavedAlarm;

use super::Room;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SavedScaling {
    pub(crate) version: u32,
    pub(super) alarms: Vec<SavedAlarm>,
    pub(super) pools: BTreeMap<String, SavedPool>,
}

/// One pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedPool {
    pub(super) paused: bool,
    /// Endpoints by machine.
    pub(super) registered: BTreeMap<String, String>,
}

impl Default for SavedScaling {
    fn default() -> SavedScaling {
        SavedScaling { version: FORMAT, alarms: Vec::new(), pools: BTreeMap::new() }
    }
}

impl Room {
    pub(super) fn saved(&self) -> SavedScaling {
        let pool = |(name, scaled): (&weir_config::PoolName, &super::pool::Scaled)| {
            (name.to_string(), SavedPool { paused: scaled.paused, registered: scaled.seen.registered.clone() })
        };
        SavedScaling { version: FORMAT, alarms: self.book.saved(), pools: self.pools.iter().map(pool).collect() }
    }
}
