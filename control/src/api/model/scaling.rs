//! Alarms and scaling.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An alarm as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmItem {
    /// `[alarm.NAME]`
    pub name: String,
    /// `info`, `warning` or `critical`
    pub severity: String,
    /// What is watched, in words.
    pub watches: String,
    /// When it goes off, in words.
    pub condition: String,
    /// `ok`, `alarm` or `insufficient-data`
    pub state: String,
    /// Since when.
    pub since: f64,
    /// The newest value.
    pub value: Option<f64>,
    /// Whether something is done about it: it is in alarm, and neither muted nor suppressed.
    pub engaged: bool,
    /// Why nothing is done about it though it is in alarm.
    pub quiet_because: Option<String>,
    /// The channels that are told.
    pub notify: Vec<String>,
    /// Who has seen it.
    pub acknowledged: Option<AlarmSeen>,
    /// The data points that were last looked at, oldest first.
    pub points: Vec<AlarmPoint>,
    /// Its last changes, oldest first, each with the data points that caused it.
    pub history: Vec<AlarmChangeView>,
}

/// A data point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmPoint {
    /// End of its period.
    pub at: f64,
    /// `null`: missing.
    pub value: Option<f64>,
}

/// Somebody has seen it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmSeen {
    /// When.
    pub at: f64,
    /// Who.
    pub by: String,
    /// What they said.
    pub comment: String,
}

/// A change of an alarm's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmChangeView {
    /// When.
    pub at: f64,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
    /// Why, in words.
    pub reason: String,
    /// What caused it.
    pub points: Vec<AlarmPoint>,
}

/// Who has seen an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAcknowledgement {
    /// Who, as they are known to others.
    pub by: String,
    /// What is being done.
    #[serde(default)]
    pub comment: String,
}

/// How a pool is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ScalingItem {
    /// Pool.
    pub pool: String,
    /// `[template.NAME]`
    pub template: String,
    /// `auto` or `recommend`
    pub mode: String,
    /// This node leads: it is the one that acts.
    pub leads: bool,
    /// An operator has stopped it.
    pub paused: bool,
    /// Machines that are wanted.
    pub desired: u32,
    /// Never fewer, now.
    pub min: u32,
    /// Never more, now.
    pub max: u32,
    /// Machines that serve.
    pub serving: u32,
    /// Machines on their way.
    pub coming: u32,
    /// Machines on their way out.
    pub going: u32,
    /// Machines that are ill or not seen.
    pub unhealthy: u32,
    /// What was decided or is waited for, in words.
    pub why: String,
    /// Of the plan.
    pub generation: u64,
    /// What each policy wants.
    pub wishes: Vec<WishItem>,
    /// The steps of the last plan.
    pub steps: Vec<String>,
    /// Machines and slots that are worked on.
    pub under_way: Vec<String>,
    /// What is wanted and cannot be, and why.
    pub refusals: Vec<String>,
    /// What is waited for.
    pub notes: Vec<String>,
    /// Its machines.
    pub members: Vec<MemberItem>,
    /// Room on the hosts.
    pub room: Vec<RoomItem>,
    /// A refresh that is under way, or how the last one ended.
    pub refresh: Option<RefreshItem>,
    /// Launches that failed in a row.
    pub launch_failures: u32,
    /// Launches so far, of this process.
    pub launches_total: u64,
    /// Launches that failed so far.
    pub launch_failures_total: u64,
    /// Machines removed so far.
    pub removals_total: u64,
}

/// What one policy wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WishItem {
    /// Which.
    pub policy: String,
    /// How many machines; `null`: it does not mind, or cannot say.
    pub machines: Option<u32>,
    /// It cannot say, and therefore nothing is taken away.
    pub blind: bool,
    /// Why, in words.
    pub why: String,
}

/// A machine of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MemberItem {
    /// Name.
    pub machine: String,
    /// Its number in the pool.
    pub slot: Option<u32>,
    /// Host.
    pub host: String,
    /// The base its content came from.
    pub base: String,
    /// `launching`, `interrupted`, `booted`, `warming`, `serving`, `unhealthy`, `unknown`, `leaving` or `removing`
    pub state: String,
    /// When it was made.
    pub since: f64,
    /// Where its service listens.
    pub endpoint: Option<String>,
    /// It is an endpoint of the pool.
    pub registered: bool,
    /// Nobody takes it out to make the pool smaller.
    pub protected: bool,
    /// Requests and sessions under way.
    pub in_flight: u32,
}

/// Room on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RoomItem {
    /// Host.
    pub host: String,
    /// Machines that it still takes.
    pub more: u32,
    /// Warm clones that wait there.
    pub warm: u32,
    /// Why it takes no more than that.
    pub why: String,
}

/// A refresh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RefreshItem {
    /// The base that everything gets.
    pub to: String,
    /// The base that most had before.
    pub from: Option<String>,
    /// When it began.
    pub began: f64,
    /// Machines on the new base at the end of the last batch.
    pub replaced: u32,
    /// Why it goes back.
    pub rolled_back: Option<String>,
    /// When it ended.
    pub ended: Option<f64>,
}

/// How many machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDesired {
    /// Within min and max, which hold now.
    pub desired: u32,
}

/// A machine that is protected, or no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProtection {
    /// Its name.
    pub machine: String,
    /// Whether nobody takes it out to make the pool smaller.
    pub protected: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ScalingDone {
    /// Pool.
    pub pool: String,
    /// In words.
    pub text: String,
}
