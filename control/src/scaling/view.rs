//! What the API and the metrics show of alarms and scaling.

use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::{AlarmChange, AlarmState, AlarmView};
use weir_autoscaler::scaling::{MemberState, Opinion};
use weir_config::{AlarmName, Condition};

use super::pool::Scaled;
use super::{Scaler, WishError, lock};
use crate::api::model::{AlarmChangeView, AlarmItem, AlarmPoint, AlarmSeen, MemberItem, RefreshItem, RoomItem, ScalingItem, WishItem};

fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1000.0
}

fn points(points: &[(UnixMs, Option<f64>)]) -> Vec<AlarmPoint> {
    points.iter().map(|(at, value)| AlarmPoint { at: seconds(*at), value: *value }).collect()
}

impl Scaler {
    /// One alarm as it is.
    pub(crate) fn alarm(&self, name: &AlarmName) -> Option<AlarmView> {
        lock(&self.room).book.view(name)
    }

    /// What a machine of a pool does, as it was last looked at.
    pub(crate) fn member_state(&self, pool: &str, machine: &str) -> Option<MemberState> {
        let room = lock(&self.room);
        let members = &room.pools.get(&pool.into())?.observation.members;
        members.iter().find(|member| member.name == machine).map(|member| member.state)
    }

    /// The alarms, in the order of their names.
    pub(crate) fn alarm_items(&self) -> Vec<AlarmItem> {
        lock(&self.room).book.views().map(|(alarm, view)| alarm_item(alarm, view)).collect()
    }

    /// The pools that are scaled, in the order of their names.
    pub(crate) fn scaling_items(&self, leads: bool) -> Vec<ScalingItem> {
        lock(&self.room).pools.values().map(|scaled| scaling_item(scaled, leads)).collect()
    }

    /// The last plan of a pool, as text.
    pub(crate) fn plan_text(&self, pool: &str) -> Result<String, WishError> {
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool)?;
        let plan = scaled.plan.as_ref().ok_or_else(|| WishError::Conflict("nothing was planned yet".into()))?;
        Ok(plan.to_string())
    }
}

/// A change for the API.
pub(crate) fn change_view(change: &AlarmChange) -> AlarmChangeView {
    AlarmChangeView {
        at: seconds(change.at),
        from: change.from.word().into(),
        to: change.to.word().into(),
        reason: change.reason.clone(),
        points: points(&change.points),
    }
}

fn alarm_item(alarm: &weir_config::Alarm, view: AlarmView) -> AlarmItem {
    let (watches, condition) = match &alarm.condition {
        Condition::Composite(expression) => ("alarms".to_owned(), expression.to_string()),
        Condition::Threshold(threshold) => {
            let unit = threshold.metric.unit();
            let condition = format!(
                "{} {} {}{unit} in {} of {} periods of {}",
                threshold.metric,
                threshold.comparison.word(),
                threshold.limit,
                threshold.datapoints,
                threshold.periods,
                weir_config::format_duration(threshold.period)
            );
            (threshold.scope.to_string(), condition)
        }
    };
    AlarmItem {
        name: alarm.name.to_string(),
        severity: alarm.severity.word().into(),
        watches,
        condition,
        state: view.state.word().into(),
        since: seconds(view.since),
        value: view.value(),
        engaged: view.engaged,
        quiet_because: view.quiet_because.clone(),
        notify: alarm.notify.clone(),
        acknowledged: view.acknowledged.as_ref().map(|seen| AlarmSeen {
            at: seconds(seen.at),
            by: seen.by.clone(),
            comment: seen.comment.clone(),
        }),
        points: points(&view.points),
        history: view.history.iter().map(change_view).collect(),
    }
}

fn scaling_item(scaled: &Scaled, leads: bool) -> ScalingItem {
    let Scaled { policy, plan, observation, memory, .. } = scaled;
    let decision = plan.as_ref().map(|plan| &plan.decision);
    let wish = |wish: &weir_autoscaler::scaling::Wish| WishItem {
        policy: wish.policy.clone(),
        machines: if let Opinion::Count(count) = wish.opinion { Some(count) } else { None },
        blind: wish.opinion == Opinion::Blind,
        why: wish.why.clone(),
    };
    let member = |member: &weir_autoscaler::scaling::Member| MemberItem {
        machine: member.name.clone(),
        slot: member.slot,
        host: member.host.clone(),
        base: member.base.clone(),
        state: member.state.word().into(),
        since: seconds(member.since),
        endpoint: scaled.seen.addresses.get(&member.name).map(ToString::to_string),
        registered: member.registered,
        protected: member.protected,
        in_flight: member.in_flight,
    };
    let refresh = |refresh: &weir_autoscaler::scaling::RefreshState| RefreshItem {
        to: refresh.to.clone(),
        from: refresh.from.clone(),
        began: seconds(refresh.began),
        replaced: refresh.replaced,
        rolled_back: refresh.rolled_back.clone(),
        ended: refresh.ended.map(seconds),
    };
    ScalingItem {
        pool: policy.pool.to_string(),
        template: policy.scaling.template.to_string(),
        mode: policy.scaling.mode.word().into(),
        leads,
        paused: scaled.paused,
        desired: decision.map_or(policy.scaling.min, |decision| if leads { decision.desired } else { decision.before }),
        min: decision.map_or(policy.scaling.min, |decision| decision.min),
        max: decision.map_or(policy.scaling.max, |decision| decision.max),
        serving: observation.count(|state| *state == MemberState::Serving),
        coming: observation.count(MemberState::is_coming),
        going: observation.count(MemberState::is_going),
        unhealthy: observation.count(|state| matches!(state, MemberState::Unhealthy { .. } | MemberState::Unknown { .. })),
        why: decision.map_or_else(|| "nothing was planned yet".into(), |decision| decision.why.clone()),
        generation: plan.as_ref().map_or(0, |plan| plan.generation),
        wishes: decision.map(|decision| decision.wishes.iter().map(wish).collect()).unwrap_or_default(),
        steps: plan.as_ref().map(|plan| plan.steps.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        under_way: scaled.jobs.keys().cloned().collect(),
        refusals: plan.as_ref().map(|plan| plan.refusals.clone()).unwrap_or_default(),
        notes: plan.as_ref().map(|plan| plan.notes.clone()).unwrap_or_default(),
        members: observation.members.iter().map(member).collect(),
        room: observation
            .hosts
            .iter()
            .map(|room| RoomItem { host: room.host.clone(), more: room.more, warm: room.warm, why: room.why.clone() })
            .collect(),
        refresh: memory.as_ref().and_then(|memory| memory.refresh.as_ref()).map(refresh),
        launch_failures: memory.as_ref().map_or(0, |memory| memory.launch_failures),
        launches_total: scaled.launches,
        launch_failures_total: scaled.launch_failures,
        removals_total: scaled.removals,
    }
}

/// A state as a number, for the metrics.
pub(crate) fn state_number(word: &str) -> u8 {
    match word {
        word if word == AlarmState::Ok.word() => 0,
        word if word == AlarmState::Alarm.word() => 1,
        _ => 2,
    }
}
