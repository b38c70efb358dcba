//! Virtual IPs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A virtual IP: one virtual router, or one for each family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VipView {
    /// `[vip.NAME]`
    pub name: String,
    /// The interface.
    pub interface: String,
    /// The VRID.
    pub router_id: u8,
    /// This node is master of all of it.
    pub master: bool,
    /// The node that is master of it acts for all (`[cluster] leader_vip`).
    pub leader: bool,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// Its virtual routers.
    pub routers: Vec<VirtualRouterView>,
}

/// A virtual router: a VIP's addresses of one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VirtualRouterView {
    /// `ipv4` or `ipv6`
    pub family: String,
    /// `initialize`, `backup` or `master`
    pub state: String,
    /// Since when.
    pub since: f64,
    /// Why this node is or is not master, in words.
    pub why: String,
    /// Whether it may be master.
    pub eligible: bool,
    /// Why not; empty if it may.
    pub ineligible_because: String,
    /// The priority with what tracking changed.
    pub priority: u8,
    /// The priority of the file.
    pub priority_configured: u8,
    /// Where its addresses live: `tun`, `macvlan` or `interface`.
    pub mode: String,
    /// Why there, in words.
    pub mode_because: String,
    /// Addresses this node has now.
    pub held: Vec<String>,
    /// The address it advertises from.
    pub primary_address: Option<String>,
    /// How often it advertises as master.
    pub advertisement_interval_ms: f64,
    /// How long it waits for a silent master (RFC 9568 section 6.1).
    pub master_down_interval_ms: f64,
    /// Its part that depends on the priority (RFC 9568 section 6.1).
    pub skew_time_ms: f64,
    /// The node that is master as heard; `null`: this one, or none.
    pub heard_master: Option<MasterView>,
    /// The beginning of a SHA-256 over what all nodes' files should have alike, hexadecimal.
    pub shared_sum: Option<String>,
    /// Other nodes of ours.
    pub peers: Vec<VipPeerView>,
    /// The last changes of state, oldest first.
    pub transitions: Vec<TransitionView>,
    /// What was counted since the start, under the names of RFC 8347 where it has one.
    pub counters: BTreeMap<String, u64>,
    /// Packets that were discarded, by reason.
    pub discarded: BTreeMap<String, u64>,
}

/// A master as heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MasterView {
    /// Its address.
    pub address: String,
    /// Its priority.
    pub priority: u8,
    /// Its interval.
    pub advertisement_interval_ms: f64,
    /// How long ago it was heard.
    pub heard_ms: f64,
    /// Since when it is master, as far as this node heard.
    pub since: f64,
    /// It is a weir node too.
    pub is_weir: bool,
}

/// Another node of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VipPeerView {
    /// Its address.
    pub address: String,
    /// Its priority.
    pub priority: u8,
    /// It could be master.
    pub eligible: bool,
    /// Healthy endpoints in the pools it tracks.
    pub healthy_endpoints: Option<u16>,
    /// How long ago it was heard.
    pub heard_ms: f64,
    /// The beginning of its sum over what all nodes' files should have alike; `null`: it did not tell.
    pub shared_sum: Option<String>,
    /// Since when that is another one than this node's; `null`: it is not.
    pub differs_since: Option<f64>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TransitionView {
    /// When.
    pub at: f64,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
    /// Why, in words.
    pub why: String,
}

/// A release that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReleasedView {
    /// The virtual IP.
    pub vip: String,
    /// This node was master when it was asked.
    pub was_master: bool,
}
