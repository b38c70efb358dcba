//! What is seen of a pool: its machines, and the room on the hosts.

use serde::Serialize;

use crate::time::UnixMs;

/// What is seen of a pool at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observation {
    /// Every host has answered at least once, so that no machine can be missing; or which have not.
    pub complete: Option<String>,
    /// Its machines, in the order of their names.
    pub members: Vec<Member>,
    /// The hosts, in the order of their names.
    pub hosts: Vec<HostRoom>,
    /// The base that a new machine gets, as far as it is known.
    pub base: Option<String>,
}

/// A machine of the pool.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number in the pool.
    pub slot: Option<u32>,
    /// Of the plan that made or last changed it.
    pub generation: u64,
    /// Its host.
    pub host: String,
    /// What machines are spread over: the host, or the value of its label.
    pub group: String,
    /// The base its content came from.
    pub base: String,
    /// When it was made.
    pub since: UnixMs,
    /// What it does.
    pub state: MemberState,
    /// It is an endpoint of the pool.
    pub registered: bool,
    /// Its hook was carried out: at launch, or, when it leaves, at termination.
    pub hooked: bool,
    /// Nobody takes it out to make the pool smaller.
    pub protected: bool,
    /// Requests and sessions under way.
    pub in_flight: u32,
    /// What is noted on it of a refresh.
    pub refresh: Option<String>,
}

/// What a machine of a pool does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum MemberState {
    /// Being made, or on its way to an address.
    Launching,
    /// Whoever made it was interrupted: it is half made, frozen, or nobody knows its address yet.
    Interrupted,
    /// Booted. It gets its hook and becomes an endpoint.
    Booted,
    /// An endpoint that is not healthy yet, or not for as long as it takes.
    Warming,
    /// Serves.
    Serving,
    /// Was healthy and is not, or does not run any more.
    Unhealthy {
        /// Since when.
        since: UnixMs,
    },
    /// Its host does not answer.
    Unknown {
        /// Since when.
        since: UnixMs,
    },
    /// Marked to go.
    Leaving {
        /// Since when.
        since: UnixMs,
        /// It gets nothing new any more.
        draining: bool,
    },
    /// Being removed.
    Removing,
}

impl MemberState {
    /// A word.
    pub fn word(&self) -> &'static str {
        match self {
            MemberState::Launching => "launching",
            MemberState::Interrupted => "interrupted",
            MemberState::Booted => "booted",
            MemberState::Warming => "warming",
            MemberState::Serving => "serving",
            MemberState::Unhealthy { .. } => "unhealthy",
            MemberState::Unknown { .. } => "unknown",
            MemberState::Leaving { .. } => "leaving",
            MemberState::Removing => "removing",
        }
    }

    /// On its way to serve.
    pub fn is_coming(&self) -> bool {
        matches!(self, MemberState::Launching | MemberState::Interrupted | MemberState::Booted | MemberState::Warming)
    }

    /// On its way out.
    pub fn is_going(&self) -> bool {
        matches!(self, MemberState::Leaving { .. } | MemberState::Removing)
    }
}

/// Room on a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HostRoom {
    /// The host.
    pub host: String,
    /// What machines are spread over: the host, or the value of its label.
    pub group: String,
    /// Machines that it still takes.
    pub more: u32,
    /// Why it takes no more.
    pub why: String,
    /// Warm clones that wait on it.
    pub warm: u32,
}

impl Observation {
    /// Machines in a state.
    pub fn count(&self, is: impl Fn(&MemberState) -> bool) -> u32 {
        u32::try_from(self.members.iter().filter(|member| is(&member.state)).count()).unwrap_or(u32::MAX)
    }
}
