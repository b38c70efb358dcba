//! Alarms and scaling for people.

use super::{Screen, add, finish, paint, single_line, table, time};
use crate::api::model::{AlarmItem, AlarmPoint, ScalingItem};

/// All alarms, a line each.
pub(crate) fn alarms(alarms: &[AlarmItem], screen: Screen) -> String {
    if alarms.is_empty() {
        return "no alarms\n".into();
    }
    let mut table = table(&["ALARM", "SEVERITY", "STATE", ">VALUE", "SINCE", "WATCHES", "CONDITION", "NOTE"], screen);
    for alarm in alarms {
        let note = match (&alarm.acknowledged, &alarm.quiet_because) {
            (Some(seen), _) => format!("{} looks after it", seen.by),
            (None, Some(why)) => why.clone(),
            (None, None) => String::new(),
        };
        add(
            &mut table,
            [
                alarm.name.clone(),
                alarm.severity.clone(),
                alarm.state.clone(),
                alarm.value.map_or("-".into(), |value| format!("{value:.1}")),
                time(alarm.since),
                alarm.watches.clone(),
                single_line(&alarm.condition),
                single_line(&note),
            ],
        );
    }
    finish(&table, screen)
}

/// One, with its history and the data points that caused each change.
pub(crate) fn alarm(alarm: &AlarmItem, screen: Screen) -> String {
    let mut text = format!("{} ({}): {} since {}\n", alarm.name, alarm.severity, alarm.state, time(alarm.since));
    text.push_str(&format!("  {}: {}\n", alarm.watches, single_line(&alarm.condition)));
    if !alarm.points.is_empty() {
        text.push_str(&format!("  data points: {}\n", points(&alarm.points)));
    }
    if let Some(why) = &alarm.quiet_because {
        text.push_str(&format!("  nothing is done about it: {}\n", single_line(why)));
    }
    if !alarm.notify.is_empty() {
        text.push_str(&format!("  tells: {}\n", alarm.notify.join(", ")));
    }
    if let Some(seen) = &alarm.acknowledged {
        text.push_str(&format!("  {} looks after it since {}: {}\n", single_line(&seen.by), time(seen.at), single_line(&seen.comment)));
    }
    for change in &alarm.history {
        text.push_str(&format!("  {} {} -> {}: {}\n", time(change.at), change.from, change.to, single_line(&change.reason)));
        if !change.points.is_empty() {
            text.push_str(&format!("      {}\n", points(&change.points)));
        }
    }
    paint(text, screen)
}

fn points(points: &[AlarmPoint]) -> String {
    let shown = points.iter().skip(points.len().saturating_sub(12));
    shown.map(|point| point.value.map_or("-".into(), |value| format!("{value:.1}"))).collect::<Vec<_>>().join(" ")
}

/// All pools that are scaled, a line each.
pub(crate) fn scaled(pools: &[ScalingItem], screen: Screen) -> String {
    if pools.is_empty() {
        return "no pool is scaled\n".into();
    }
    let mut table = table(&["POOL", "MODE", ">DESIRED", ">MIN", ">MAX", ">SERVING", ">COMING", ">GOING", ">ILL", "WHY"], screen);
    for pool in pools {
        add(
            &mut table,
            [
                pool.pool.clone(),
                mode(pool),
                pool.desired.to_string(),
                pool.min.to_string(),
                pool.max.to_string(),
                pool.serving.to_string(),
                pool.coming.to_string(),
                pool.going.to_string(),
                pool.unhealthy.to_string(),
                single_line(pool.refusals.first().unwrap_or(&pool.why)),
            ],
        );
    }
    finish(&table, screen)
}

fn mode(pool: &ScalingItem) -> String {
    match (pool.leads, pool.paused) {
        (false, _) => "another leads".into(),
        (true, true) => "paused".into(),
        (true, false) => pool.mode.clone(),
    }
}

/// One pool with everything about it.
pub(crate) fn scaling(pool: &ScalingItem, screen: Screen) -> String {
    let mut text =
        format!("{}: {} of {} to {} machines of template {}, {}\n", pool.pool, pool.desired, pool.min, pool.max, pool.template, mode(pool));
    text.push_str(&format!("  {}\n", single_line(&pool.why)));
    for wish in &pool.wishes {
        let count = match (wish.machines, wish.blind) {
            (Some(count), _) => count.to_string(),
            (None, true) => "?".into(),
            (None, false) => "-".into(),
        };
        text.push_str(&format!("  wish {count:>4}  {}: {}\n", wish.policy, single_line(&wish.why)));
    }
    for refusal in &pool.refusals {
        text.push_str(&format!("  refused: {}\n", single_line(refusal)));
    }
    for note in &pool.notes {
        text.push_str(&format!("  {}\n", single_line(note)));
    }
    if let Some(refresh) = pool.refresh.as_ref().filter(|refresh| refresh.ended.is_none() || refresh.rolled_back.is_some()) {
        let how = refresh
            .rolled_back
            .as_ref()
            .map_or(format!("{} are done", refresh.replaced), |why| format!("taken back: {}", single_line(why)));
        text.push_str(&format!("  refresh to {} since {}: {how}\n", refresh.to, time(refresh.began)));
    }
    if !pool.steps.is_empty() {
        text.push_str(&format!("  steps: {}\n", pool.steps.join("; ")));
    }
    if pool.launch_failures > 0 {
        text.push_str(&format!("  {} launches failed in a row\n", pool.launch_failures));
    }
    text.push('\n');
    let mut members = table(&["MACHINE", "HOST", "STATE", "ENDPOINT", ">IN FLIGHT", "SINCE", "BASE", "NOTE"], screen);
    for member in &pool.members {
        let note = if member.protected { "protected" } else { "" };
        add(
            &mut members,
            [
                member.machine.clone(),
                member.host.clone(),
                member.state.clone(),
                member.endpoint.clone().unwrap_or("-".into()),
                member.in_flight.to_string(),
                time(member.since),
                member.base.clone(),
                note.into(),
            ],
        );
    }
    let mut room = table(&["HOST", ">TAKES MORE", ">WARM", "THEN"], screen);
    for host in &pool.room {
        add(&mut room, [host.host.clone(), host.more.to_string(), host.warm.to_string(), single_line(&host.why)]);
    }
    format!("{}{}\n{}", paint(text, screen), finish(&members, screen), finish(&room, screen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{AlarmChangeView, AlarmSeen, MemberItem, RefreshItem, RoomItem, WishItem};

    const SCREEN: Screen = Screen { width: None, color: false };

    fn sample_alarm() -> AlarmItem {
        let points = vec![AlarmPoint { at: 1_700_000_000.0, value: Some(80.25) }, AlarmPoint { at: 1_700_000_010.0, value: None }];
        AlarmItem {
            name: "web-busy".into(),
            severity: "warning".into(),
            watches: "pool web".into(),
            condition: "cpu above 70% in 1 of 1 periods of 10s".into(),
            state: "alarm".into(),
            since: 1_700_000_000.0,
            value: Some(80.25),
            engaged: false,
            quiet_because: Some("it is muted".into()),
            notify: vec!["oncall".into()],
            acknowledged: Some(AlarmSeen { at: 1_700_000_000.0, by: "ann".into(), comment: "on it".into() }),
            points: points.clone(),
            history: vec![AlarmChangeView {
                at: 1_700_000_000.0,
                from: "ok".into(),
                to: "alarm".into(),
                reason: "cpu above 70%".into(),
                points,
            }],
        }
    }

    fn sample_pool() -> ScalingItem {
        ScalingItem {
            pool: "web".into(),
            template: "web".into(),
            mode: "auto".into(),
            leads: true,
            paused: false,
            desired: 3,
            min: 2,
            max: 10,
            serving: 2,
            coming: 1,
            going: 0,
            unhealthy: 0,
            why: "3 are wished".into(),
            generation: 7,
            wishes: vec![WishItem { policy: "target cpu 60%".into(), machines: Some(3), blind: false, why: "80.0% on 2 machines".into() }],
            steps: vec!["launch for slot 3 on kvm-a".into()],
            under_way: vec!["slot 3".into()],
            refusals: vec!["no host takes one more: kvm-b: it is full".into()],
            notes: vec![],
            members: vec![MemberItem {
                machine: "web-1".into(),
                slot: Some(1),
                host: "kvm-a".into(),
                base: "weir-base-web-0001".into(),
                state: "serving".into(),
                since: 1_700_000_000.0,
                endpoint: Some("10.0.0.50:80".into()),
                registered: true,
                protected: true,
                in_flight: 4,
            }],
            room: vec![RoomItem { host: "kvm-b".into(), more: 0, warm: 0, why: "it is full".into() }],
            refresh: Some(RefreshItem {
                to: "weir-base-web-0002".into(),
                from: None,
                began: 1_700_000_000.0,
                replaced: 1,
                rolled_back: Some("web-4 is unhealthy".into()),
                ended: None,
            }),
            launch_failures: 1,
            launches_total: 3,
            launch_failures_total: 1,
            removals_total: 0,
        }
    }

    #[test]
    fn alarms_and_pools_are_told() {
        let line = alarms(&[sample_alarm()], SCREEN);
        assert!(line.contains("80.2") && line.contains("ann looks after it"), "{line}");
        let whole = alarm(&sample_alarm(), SCREEN);
        for part in [
            "web-busy (warning): alarm since",
            "data points: 80.2 -",
            "nothing is done about it: it is muted",
            "ok -> alarm: cpu above",
            "tells: oncall",
        ] {
            assert!(whole.contains(part), "{part} is not in:\n{whole}");
        }
        let line = scaled(&[sample_pool()], SCREEN);
        assert!(line.contains("no host takes one more"), "{line}");
        let whole = scaling(&sample_pool(), SCREEN);
        for part in [
            "web: 3 of 2 to 10 machines",
            "wish    3  target cpu 60%",
            "refused: no host",
            "taken back: web-4 is unhealthy",
            "protected",
            "1 launches failed",
        ] {
            assert!(whole.contains(part), "{part} is not in:\n{whole}");
        }
        assert_eq!((alarms(&[], SCREEN), scaled(&[], SCREEN)), ("no alarms\n".into(), "no pool is scaled\n".into()));
    }
}
