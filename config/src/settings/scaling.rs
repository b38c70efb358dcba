//! `[alarm.NAME]`, `[metric.NAME]` and `[pool.NAME.scaling]` in words.

use super::{NONE, Setting};
use crate::model::{
    Alarm, Condition, ExternalMetric, Hook, HookAction, MetricSource, Mute, Predict, Recover, Refresh, Scaling, Schedule, StepAdjustment,
    StepPolicy, Suppressor, TargetPolicy, Threshold,
};
use crate::units::format_duration;

pub(crate) fn of_alarm(alarm: &Alarm) -> Vec<Setting> {
    let Alarm { name: _, severity, condition, suppressor, mutes, scale, notify, recover } = alarm;
    let mut settings = vec![("severity", severity.word().into())];
    match condition {
        Condition::Composite(expression) => settings.push(("when", expression.to_string())),
        Condition::Threshold(threshold) => {
            let Threshold { scope, metric, statistic, period, comparison, limit, clear, periods, datapoints, missing } = threshold;
            settings.extend([
                ("watches", scope.to_string()),
                ("metric", metric.to_string()),
                ("statistic", statistic.to_string()),
                ("period", format_duration(*period)),
                ("threshold", format!("{} {limit}", comparison.word())),
                ("clear", clear.to_string()),
                ("periods", periods.to_string()),
                ("datapoints", datapoints.to_string()),
                ("missing", missing.word().into()),
            ]);
        }
    }
    if let Some(Suppressor { alarm, wait, extension }) = suppressor {
        settings.push(("suppressor", alarm.to_string()));
        settings.push(("suppress_wait", format_duration(*wait)));
        settings.push(("suppress_extension", format_duration(*extension)));
    }
    let mute = |Mute { begins, duration }: &Mute| format!("{begins} for {}", format_duration(*duration));
    settings.push(("mute", list(mutes, mute)));
    settings.push(("scale", scale.as_ref().map_or(NONE.into(), |(pool, change)| format!("{pool} {change}"))));
    settings.push(("notify", list(notify, String::clone)));
    if let Some(Recover { command, timeout }) = recover {
        settings.push(("recover", format!("{command:?}")));
        settings.push(("recover_timeout", format_duration(*timeout)));
    }
    settings
}

pub(crate) fn of_metric(metric: &ExternalMetric) -> Vec<Setting> {
    let ExternalMetric { name: _, source, interval, timeout } = metric;
    let mut settings = vec![("interval", format_duration(*interval)), ("timeout", format_duration(*timeout))];
    match source {
        MetricSource::Command(command) => settings.push(("command", format!("{command:?}"))),
        MetricSource::Prometheus { url, ca_file, query, token_file } => {
            settings.push(("prometheus", url.clone()));
            settings.push(("ca_file", ca_file.as_ref().map_or(NONE.into(), |path| path.display().to_string())));
            settings.push(("query", query.clone()));
            settings.push(("token_file", token_file.as_ref().map_or(NONE.into(), |path| path.display().to_string())));
        }
    }
    settings
}

pub(crate) fn of_scaling(scaling: &Scaling) -> Vec<Setting> {
    let Scaling {
        template,
        min,
        max,
        desired,
        mode,
        cooldown_out,
        cooldown_in,
        stabilise_out,
        stabilise_in,
        warm_up,
        terminate,
        spread,
        launches_max,
        launch_failures_max,
        drain_timeout,
        shutdown_timeout,
        unhealthy_grace,
        replace_max_percent,
        targets,
        steps,
        schedules,
        predict,
        refresh,
        launch_hook,
        terminate_hook,
    } = scaling;
    let mut settings = vec![
        ("scaling.template", template.to_string()),
        ("scaling.min", min.to_string()),
        ("scaling.max", max.to_string()),
        ("scaling.desired", or_none(*desired)),
        ("scaling.mode", mode.word().into()),
        ("scaling.cooldown_out", format_duration(*cooldown_out)),
        ("scaling.cooldown_in", format_duration(*cooldown_in)),
        ("scaling.stabilise_out", format_duration(*stabilise_out)),
        ("scaling.stabilise_in", format_duration(*stabilise_in)),
        ("scaling.warm_up", format_duration(*warm_up)),
        ("scaling.terminate", list(terminate, |order| order.word().into())),
        ("scaling.spread", spread.clone().unwrap_or("hosts".into())),
        ("scaling.launches_max", launches_max.to_string()),
        ("scaling.launch_failures_max", launch_failures_max.to_string()),
        ("scaling.drain_timeout", format_duration(*drain_timeout)),
        ("scaling.shutdown_timeout", format_duration(*shutdown_timeout)),
        ("scaling.unhealthy_grace", format_duration(*unhealthy_grace)),
        ("scaling.replace_max", format!("{replace_max_percent} %")),
        ("scaling.target", list(targets, of_target)),
        ("scaling.step", list(steps, of_step)),
        ("scaling.schedule", list(schedules, of_schedule)),
        ("scaling.predict", predict.as_ref().map_or(NONE.into(), of_predict)),
        ("scaling.launch_hook", launch_hook.as_ref().map_or(NONE.into(), of_hook)),
        ("scaling.terminate_hook", terminate_hook.as_ref().map_or(NONE.into(), of_hook)),
    ];
    let Refresh { automatic, batch, min_healthy_percent, pause, checkpoints, checkpoint_wait, rollback } = refresh;
    settings.extend([
        ("scaling.refresh.automatic", automatic.to_string()),
        ("scaling.refresh.batch", batch.to_string()),
        ("scaling.refresh.min_healthy", format!("{min_healthy_percent} %")),
        ("scaling.refresh.pause", format_duration(*pause)),
        ("scaling.refresh.checkpoints", list(checkpoints, |share| format!("{share} %"))),
        ("scaling.refresh.checkpoint_wait", format_duration(*checkpoint_wait)),
        ("scaling.refresh.rollback", rollback.to_string()),
    ]);
    settings
}

fn of_target(target: &TargetPolicy) -> String {
    let TargetPolicy { metric, value, period, tolerance_percent, divide, scale_in } = target;
    let divided = if *divide { " divided" } else { "" };
    let out_only = if *scale_in { "" } else { " out only" };
    format!("{metric} {value} over {}, tolerance {tolerance_percent} %{divided}{out_only}", format_duration(*period))
}

fn of_step(step: &StepPolicy) -> String {
    let StepPolicy { alarm, min_change, adjust } = step;
    let bound = |bound: &Option<f64>| bound.map_or(String::new(), |bound| bound.to_string());
    let adjustment = |StepAdjustment { from, to, change }: &StepAdjustment| format!("{}..{} {change}", bound(from), bound(to));
    format!("{alarm}: {}, at least {min_change}", list(adjust, adjustment))
}

fn of_schedule(schedule: &Schedule) -> String {
    let Schedule { at, min, max, desired } = schedule;
    format!("{at}: min {}, max {}, desired {}", or_none(*min), or_none(*max), or_none(*desired))
}

fn of_predict(predict: &Predict) -> String {
    let Predict { metric, value, season, ahead, scales } = predict;
    let mode = if *scales { "scale" } else { "forecast-only" };
    format!("{metric} {value}, season {}, ahead {}, {mode}", format_duration(*season), format_duration(*ahead))
}

fn of_hook(hook: &Hook) -> String {
    let Hook { action, timeout, continues } = hook;
    let action = match action {
        HookAction::Command(command) => format!("{command:?}"),
        HookAction::Webhook { url, ca_file: None } => url.clone(),
        HookAction::Webhook { url, ca_file: Some(path) } => format!("{url}, believed by {}", path.display()),
    };
    format!("{action} within {}, then {}", format_duration(*timeout), if *continues { "continue" } else { "abandon" })
}

fn or_none(number: Option<u32>) -> String {
    number.map_or(NONE.into(), |number| number.to_string())
}

fn list<T>(items: &[T], word: impl Fn(&T) -> String) -> String {
    if items.is_empty() { NONE.into() } else { items.iter().map(word).collect::<Vec<_>>().join(", ") }
}
