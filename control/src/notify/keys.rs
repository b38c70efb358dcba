//! Names of alarms: equal names are the same alarm.

/// How the keys of pools and endpoints begin.
pub(crate) const DATA_PLANE: &str = "lb/";

/// A pool has fewer healthy endpoints than its floor.
pub(crate) fn floor(pool: &str) -> String {
    format!("{DATA_PLANE}floor/{pool}")
}

/// An endpoint is down.
pub(crate) fn endpoint(pool: &str, endpoint: &str) -> String {
    format!("{DATA_PLANE}endpoint/{pool}/{endpoint}")
}

/// An alarm of the file.
pub(crate) fn alarm(name: &str) -> String {
    format!("alarm/{name}")
}
