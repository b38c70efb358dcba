//! What happened, in all rooms, for people and for the API.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use weir_hypervisor::RoomEvent;
use weir_lb::event::EventKind as DataPlaneKind;

/// One thing that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Event {
    /// Wall clock, for people.
    #[serde(skip)]
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened, by the room it happened in. Each kind carries a tag `event` of its own.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum EventKind {
    /// In the data plane, or to the node around it.
    Node(DataPlaneKind),
    /// With a virtual IP.
    Vip(VipEvent),
    /// With hosts and machines.
    Machines(RoomEvent),
    /// Something that was asked of machines has ended.
    Acted(MachineEvent),
    /// With an alarm, or the scaling of a pool.
    Scaling(ScalingEvent),
    /// With telling people.
    Notify(NotifyEvent),
    /// With healing.
    Recovery(RecoveryEvent),
    /// With certificates that are ordered.
    Acme(AcmeEvent),
    /// With what is kept of all this.
    History(HistoryEvent),
    /// Over the API.
    Api(ApiEvent),
}

/// What happens with healing.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the tag says of itself where it happened")]
pub enum RecoveryEvent {
    /// Something is tried.
    RecoveryBegun {
        /// `[recovery.NAME]`
        recovery: String,
        /// What is ill.
        thing: String,
        /// What is done.
        action: String,
        /// It may have been done before: the process was ended over it.
        resumed: bool,
        /// What is wrong.
        reason: String,
    },
    /// An attempt is over.
    RecoveryTried {
        /// `[recovery.NAME]`
        recovery: String,
        /// What is, or was, ill.
        thing: String,
        /// What was done.
        action: String,
        /// `healed`, `still_ill`, `failed` or `gone`.
        outcome: &'static str,
        /// The same in words.
        text: String,
    },
    /// No attempt is left.
    RecoveryGivenUp {
        /// `[recovery.NAME]`
        recovery: String,
        /// What is ill.
        thing: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing is tried until people do something: too many are ill at once, or an operator has stopped it.
    RecoveryHeld {
        /// `[recovery.NAME]`
        recovery: String,
        /// What is ill.
        thing: String,
        /// Why.
        reason: String,
    },
    /// Something else worth saying.
    RecoveryNotice {
        /// `[recovery.NAME]`
        recovery: String,
        /// What it is about.
        thing: String,
        /// In words.
        text: String,
    },
    /// What is done cannot be kept: a kill may let it be done again.
    RecoveryNotKept {
        /// Why.
        reason: String,
    },
}

impl From<RecoveryEvent> for EventKind {
    fn from(kind: RecoveryEvent) -> EventKind {
        EventKind::Recovery(kind)
    }
}

/// What happens with certificates that are ordered.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AcmeEvent {
    /// An authority has issued one; it is in use in a moment.
    CertificateIssued {
        /// `[acme.NAME]`
        authority: Arc<str>,
        /// What it is for.
        names: Vec<String>,
        /// When it is over, in seconds since 1970.
        not_after_s: i64,
    },
    /// An order failed; what was there before still is.
    CertificateNotIssued {
        /// `[acme.NAME]`
        authority: Arc<str>,
        /// What it would have been for.
        names: Vec<String>,
        /// Why, and what to do.
        reason: String,
        /// When it is tried again, in seconds; a changed file tries at once.
        again_s: u64,
        /// How long the one that is there still holds, in seconds; absent: there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        left_s: Option<i64>,
    },
    /// The key of an account that several nodes have cannot be used: this node answers no challenges for others.
    AcmeAccountUnusable {
        /// Why, and what to do.
        reason: String,
    },
}

impl From<AcmeEvent> for EventKind {
    fn from(kind: AcmeEvent) -> EventKind {
        EventKind::Acme(kind)
    }
}

/// Who asked for what over the API.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ApiEvent {
    /// A change was asked for.
    ApiChange {
        /// Who, and from where.
        by: String,
        /// Method and target.
        request: String,
        /// What was answered: 2xx was done, anything else was refused.
        status: u16,
    },
    /// A session began.
    SignedIn {
        /// The token.
        name: String,
        /// `read`, `operate` or `admin`.
        role: &'static str,
        /// An address.
        from: String,
    },
    /// A wrong token came, not for the first time.
    TokenRefused {
        /// An address.
        from: String,
        /// How often by now.
        tries: u32,
    },
}

/// What somebody asked of machines, and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum MachineEvent {
    /// It has ended.
    MachineActed {
        /// `clone`, `start`, `delete`, ...
        verb: String,
        /// The machine; absent: one that was not made, or several.
        machine: Option<String>,
        /// Its host.
        host: Option<String>,
        /// Who asked.
        by: String,
        /// It was done.
        done: bool,
        /// Why not.
        error: Option<String>,
        /// How long it took, from when it was asked.
        seconds: f64,
    },
}

/// What happens with alarms and scaling.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ScalingEvent {
    /// An alarm is in another state.
    AlarmChanged {
        /// Alarm.
        alarm: Arc<str>,
        /// `info`, `warning` or `critical`.
        severity: &'static str,
        /// `ok`, `alarm` or `insufficient-data`.
        from: &'static str,
        /// The same.
        to: &'static str,
        /// Why, in words.
        reason: String,
        /// The data points that caused it, oldest first: seconds since 1970, and the value; null where it is missing.
        points: Vec<(f64, Option<f64>)>,
        /// The metric over a longer time, for the picture in a mail; only where a metric began to be an alarm.
        #[serde(skip)]
        series: Option<Box<weir_notify::message::Series>>,
        /// Channels that are to be told.
        notify: Vec<String>,
        /// It is muted or suppressed: nobody is called.
        quiet: bool,
    },
    /// Somebody has seen an alarm.
    AlarmAcknowledged {
        /// Alarm.
        alarm: Arc<str>,
        /// Who.
        by: String,
        /// What they said.
        comment: String,
    },
    /// The program of an alarm that repairs was run.
    AlarmRecovery {
        /// Alarm.
        alarm: Arc<str>,
        /// Why it failed; absent: it worked.
        error: Option<String>,
    },
    /// A pool wants another number of machines.
    ScalingDecided {
        /// Pool.
        pool: Arc<str>,
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Why, in words.
        reason: String,
        /// What each policy wanted.
        wishes: Vec<String>,
        /// It is only shown: `mode = "recommend"`.
        recommended: bool,
    },
    /// What is to be done next with the machines of a pool; said when it is something else than before.
    ScalingPlanned {
        /// Pool.
        pool: Arc<str>,
        /// Each plan has its own; its steps carry it.
        generation: u64,
        /// Machines that are wanted.
        desired: u32,
        /// Machines that serve.
        serving: u32,
        /// The steps, in words.
        steps: Vec<String>,
    },
    /// A step was carried out, or failed.
    ScalingStep {
        /// Pool.
        pool: Arc<str>,
        /// That of the plan it belongs to.
        generation: u64,
        /// The step, in words.
        step: String,
        /// How long it took.
        took_ms: u64,
        /// Why it failed; absent: it worked.
        error: Option<String>,
    },
    /// Launches fail again and again.
    ScalingLaunchesFail {
        /// Pool.
        pool: Arc<str>,
        /// In a row.
        failures: u32,
        /// What the last one said.
        reason: String,
    },
    /// Something is wanted and cannot be.
    ScalingRefused {
        /// Pool.
        pool: Arc<str>,
        /// Why, with each constraint.
        reason: String,
    },
    /// Something else worth saying: an operator's wish, a refresh.
    ScalingNotice {
        /// Pool.
        pool: Arc<str>,
        /// In words.
        text: String,
    },
}

/// What happens with a virtual IP.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum VipEvent {
    /// This node became something else.
    VipState {
        /// Virtual IP.
        vip: Arc<str>,
        /// `ipv4` or `ipv6`: each family is a virtual router of its own.
        family: &'static str,
        /// `initialize`, `backup` or `master`.
        from: &'static str,
        /// The same.
        to: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// Something else worth saying.
    VipNotice {
        /// Virtual IP.
        vip: Arc<str>,
        /// `ipv4` or `ipv6`.
        family: &'static str,
        /// What kind of thing, a word.
        kind: &'static str,
        /// In words.
        text: String,
        /// Whether an operator should look at it.
        warning: bool,
    },
    /// The virtual IPs cannot work as configured on this machine; everything else goes on.
    VipsUnavailable {
        /// Why, and what to do.
        reason: String,
    },
}

/// What happens with telling people.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NotifyEvent {
    /// A channel has begun to fail.
    ChannelFailed {
        /// The channel.
        channel: String,
        /// Why.
        reason: String,
    },
    /// A channel that failed delivers again.
    ChannelRecovered {
        /// The channel.
        channel: String,
    },
    /// A message was given up; it can be sent again.
    MessageDead {
        /// The channel.
        channel: String,
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// What is to be told cannot be kept: a kill would lose it.
    NotifyStoreFailed {
        /// Why.
        reason: String,
    },
}

/// What happens with what is kept.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event")]
pub enum HistoryEvent {
    /// The history cannot be written: it goes on in memory.
    #[serde(rename = "history_failed")]
    Failed {
        /// Why.
        reason: String,
    },
    /// It can be written again.
    #[serde(rename = "history_recovered")]
    Recovered {
        /// Records that were in memory and are written now.
        written: u64,
        /// Records that found no place.
        lost: u64,
    },
    /// A damaged file was set aside, and a new one begun.
    #[serde(rename = "history_set_aside")]
    SetAside {
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        path: String,
    },
}

impl From<HistoryEvent> for EventKind {
    fn from(kind: HistoryEvent) -> EventKind {
        EventKind::History(kind)
    }
}

impl From<ApiEvent> for EventKind {
    fn from(kind: ApiEvent) -> EventKind {
        EventKind::Api(kind)
    }
}

impl From<NotifyEvent> for EventKind {
    fn from(kind: NotifyEvent) -> EventKind {
        EventKind::Notify(kind)
    }
}

impl From<DataPlaneKind> for EventKind {
    fn from(kind: DataPlaneKind) -> EventKind {
        EventKind::Node(kind)
    }
}

impl From<VipEvent> for EventKind {
    fn from(kind: VipEvent) -> EventKind {
        EventKind::Vip(kind)
    }
}

impl From<RoomEvent> for EventKind {
    fn from(kind: RoomEvent) -> EventKind {
        EventKind::Machines(kind)
    }
}

impl From<MachineEvent> for EventKind {
    fn from(kind: MachineEvent) -> EventKind {
        EventKind::Acted(kind)
    }
}

impl From<ScalingEvent> for EventKind {
    fn from(kind: ScalingEvent) -> EventKind {
        EventKind::Scaling(kind)
    }
}

impl From<&weir_lb::event::Event> for Event {
    fn from(event: &weir_lb::event::Event) -> Event {
        Event { at: event.at, kind: event.kind.clone().into() }
    }
}
