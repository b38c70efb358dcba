//! `[pool.NAME.scaling]`

use std::time::Duration;

use crate::error::Problem;
use crate::metric::Metric;
use crate::model::{
    AlarmName, Hook, HookAction, MetricName, Predict, Refresh, ScaleChange, Scaling, ScalingMode, Schedule, StepAdjustment, StepPolicy,
    TargetPolicy, TemplateName, TerminationOrder,
};
use crate::parse::alarm::{ca_file, calendar, command, http_url, metric};
use crate::reader::{Field, Placed, Table};

/// Checkpoints of one refresh.
const CHECKPOINTS_MAX: usize = 100;

/// What of it is checked against other tables.
#[derive(Debug, Default)]
pub(crate) struct ScalingMentions {
    /// The template with its place.
    pub(crate) template: Option<Placed<TemplateName>>,
    /// The alarms of steps with their places.
    pub(crate) alarms: Vec<Placed<AlarmName>>,
    /// Metrics from elsewhere with their places.
    pub(crate) externals: Vec<Placed<MetricName>>,
}

pub(super) fn scaling(table: &Table<'_>, mentions: &mut ScalingMentions) -> Option<Scaling> {
    let template = table.text("template").map(TemplateName::from);
    mentions.template = template.clone().map(|template| table.placed("template", template));
    let (min, max) = (table.count_u32("min").unwrap_or(1), table.count_u32("max"));
    let desired = table.count_u32("desired");
    check_bounds(table, min, max, desired);
    let time = |name: &str| table.time(name).unwrap_or_default();
    let count = |name: &str| table.count_u32(name).unwrap_or(1);
    let scaling = Scaling {
        template: template.clone().unwrap_or_else(|| "".into()),
        min,
        max: max.unwrap_or(min),
        desired,
        mode: if table.choice("mode") == Some("recommend") { ScalingMode::Recommend } else { ScalingMode::Auto },
        cooldown_out: time("cooldown_out"),
        cooldown_in: time("cooldown_in"),
        stabilise_out: time("stabilise_out"),
        stabilise_in: time("stabilise_in"),
        warm_up: time("warm_up"),
        terminate: terminate(table),
        spread: table.text("spread").map(str::to_owned),
        launches_max: count("launches_max"),
        launch_failures_max: count("launch_failures_max"),
        drain_timeout: time("drain_timeout"),
        shutdown_timeout: time("shutdown_timeout"),
        unhealthy_grace: time("unhealthy_grace"),
        replace_max_percent: count("replace_max"),
        targets: tables(table, "target").iter().filter_map(|table| target(table, mentions)).collect(),
        steps: tables(table, "step").iter().filter_map(|table| step(table, mentions)).collect(),
        schedules: tables(table, "schedule").iter().filter_map(schedule).collect(),
        predict: table.table("predict").and_then(|table| predict(&table, mentions)),
        refresh: refresh(&table.table_or_empty("refresh")),
        launch_hook: table.table("launch_hook").and_then(|table| hook(&table)),
        terminate_hook: table.table("terminate_hook").and_then(|table| hook(&table)),
    };
    (template.is_some() && max.is_some()).then_some(scaling)
}

fn tables<'a>(table: &Table<'a>, name: &str) -> Vec<Table<'a>> {
    table.field(name).map(|field| field.tables()).unwrap_or_default()
}

fn check_bounds(table: &Table<'_>, min: u32, max: Option<u32>, desired: Option<u32>) {
    let Some(max) = max else { return };
    if min > max {
        let problem = table.problem("max", format!("max = {max} is less than min = {min}"));
        table.report(problem.note(table.span_of("min"), "min is here").needs_whole_file());
    } else if let Some(desired) = desired.filter(|desired| !(min..=max).contains(desired)) {
        table.report(table.problem("desired", format!("desired = {desired} is not within {min} and {max}")).needs_whole_file());
    }
}

fn terminate(table: &Table<'_>) -> Vec<TerminationOrder> {
    let Some(field) = table.field("terminate") else {
        return vec![TerminationOrder::OldestBase, TerminationOrder::MostLoadedHost, TerminationOrder::Newest];
    };
    let order = |item: &Field<'_>| {
        let text = item.text()?;
        let words = TerminationOrder::ALL.map(TerminationOrder::word).join(", ");
        let found = TerminationOrder::ALL.into_iter().find(|order| order.word() == text);
        item.checked(found.ok_or_else(|| format!("{text:?} is not an order of termination; write some of: {words}")))
    };
    field.items().unwrap_or_default().iter().filter_map(order).collect()
}

/// A metric of a pool, and its mention if it is from elsewhere.
fn pool_metric(table: &Table<'_>, mentions: &mut ScalingMentions) -> Option<Metric> {
    let metric = metric(table, "metric")?;
    if let Metric::External(name) = &metric {
        mentions.externals.push(table.placed("metric", MetricName(name.clone())));
    }
    if !metric.scopes().pool {
        table.report(table.problem("metric", format!("{metric} is not measured of a pool")));
    }
    Some(metric)
}

fn positive(table: &Table<'_>, name: &str) -> Option<f64> {
    let number = table.number(name)?;
    if number <= 0.0 {
        table.report(table.problem(name, format!("`{name}` must be more than zero")));
        return None;
    }
    Some(number)
}

fn target(table: &Table<'_>, mentions: &mut ScalingMentions) -> Option<TargetPolicy> {
    let metric = pool_metric(table, mentions);
    let value = positive(table, "value");
    let period = table.time("period").unwrap_or(Duration::from_secs(10));
    let tolerance_percent = table.count_u32("tolerance").unwrap_or(10);
    let (divide, scale_in) = (table.flag("divide").unwrap_or(false), table.flag("scale_in").unwrap_or(true));
    let metric = metric?;
    let is_total = matches!(metric, Metric::Requests | Metric::InFlight | Metric::QueueLength | Metric::Queued);
    Some(TargetPolicy { metric, value: value?, period, tolerance_percent, divide: divide || is_total, scale_in })
}

fn step(table: &Table<'_>, mentions: &mut ScalingMentions) -> Option<StepPolicy> {
    let alarm = table.text("alarm").map(AlarmName::from);
    mentions.alarms.extend(alarm.clone().map(|alarm| table.placed("alarm", alarm)));
    let min_change = table.count_u32("min_change").unwrap_or(1);
    let tables = table.field("adjust").map(|field| field.tables()).unwrap_or_default();
    let mut adjust: Vec<StepAdjustment> = tables.iter().filter_map(adjustment).collect();
    adjust.sort_by(|a, b| a.from.unwrap_or(f64::NEG_INFINITY).total_cmp(&b.from.unwrap_or(f64::NEG_INFINITY)));
    if tables.is_empty() && table.has("adjust") {
        table.report(table.problem("adjust", "there is no step").needs_whole_file());
    }
    for pair in adjust.windows(2) {
        if pair[0].to.is_none() || pair[0].to != pair[1].from {
            let end = |bound: Option<f64>| bound.map_or("open".to_owned(), |bound| bound.to_string());
            let message = format!("the steps do not meet: one ends {}, the next begins {}", end(pair[0].to), end(pair[1].from));
            table.report(
                table
                    .problem("adjust", message)
                    .help("let each begin where the one before ends, without gap and overlap")
                    .needs_whole_file(),
            );
        }
    }
    Some(StepPolicy { alarm: alarm?, min_change, adjust })
}

fn adjustment(table: &Table<'_>) -> Option<StepAdjustment> {
    let (from, to) = (table.number("from"), table.number("to"));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        table.report(table.problem("to", format!("the step from {from} to {to} is empty")).needs_whole_file());
    }
    let field = table.field("change")?;
    let change = field.checked(ScaleChange::parse(field.text()?))?;
    Some(StepAdjustment { from, to, change })
}

fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let at = calendar(table);
    let (min, max, desired) = (table.count_u32("min"), table.count_u32("max"), table.count_u32("desired"));
    if !["min", "max", "desired"].iter().any(|name| table.has(name)) {
        let problem = Problem::new(table.span(), table.path(), "the schedule changes nothing");
        table.report(problem.help("add `min`, `max` or `desired`").needs_whole_file());
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        table.report(table.problem("max", format!("max = {max} is less than min = {min}")).needs_whole_file());
    }
    Some(Schedule { at: at?, min, max, desired })
}

fn predict(table: &Table<'_>, mentions: &mut ScalingMentions) -> Option<Predict> {
    let metric = pool_metric(table, mentions);
    let value = positive(table, "value");
    let season = table.time("season").unwrap_or(Duration::from_secs(24 * 3600));
    let ahead = table.time("ahead").unwrap_or(Duration::from_secs(600));
    if ahead >= season {
        table.report(table.problem("ahead", "it looks further than one season").needs_whole_file());
    }
    let scales = table.choice("mode") == Some("scale");
    Some(Predict { metric: metric?, value: value?, season, ahead, scales })
}

fn refresh(table: &Table<'_>) -> Refresh {
    Refresh {
        automatic: table.flag("automatic").unwrap_or(false),
        batch: table.count_u32("batch").unwrap_or(1),
        min_healthy_percent: table.count_u32("min_healthy").unwrap_or(100),
        pause: table.time("pause").unwrap_or_default(),
        checkpoints: checkpoints(table),
        checkpoint_wait: table.time("checkpoint_wait").unwrap_or(Duration::from_secs(300)),
        rollback: table.flag("rollback").unwrap_or(true),
    }
}

fn checkpoints(table: &Table<'_>) -> Vec<u32> {
    let items = table.field("checkpoints").and_then(|field| field.items()).unwrap_or_default();
    let mut shares: Vec<u32> = Vec::new();
    for item in items.iter().take(CHECKPOINTS_MAX) {
        let Some(text) = item.text() else { continue };
        let share = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).filter(|share| (1..=100).contains(share));
        let wrong = || format!("{text:?} is not a share; write \"20%\", up to \"100%\"");
        let Some(share) = item.checked(share.ok_or_else(wrong)) else { continue };
        if shares.last().is_some_and(|last| *last >= share) {
            item.report(item.problem("checkpoints must grow"));
        }
        shares.push(share);
    }
    shares
}

fn hook(table: &Table<'_>) -> Option<Hook> {
    let action = match (table.has("command"), table.has("url")) {
        (true, true) => {
            let problem = Problem::new(table.key_span("url"), table.path_of("url"), "a hook is a program or a URL, not both");
            table.report(problem.note(table.span_of("command"), "the program is named here").help("remove one of them"));
            None
        }
        (true, false) => table.field("command").and_then(|field| command(&field)).map(HookAction::Command),
        (false, true) => table
            .field("url")
            .and_then(|field| field.checked(http_url(field.text()?)))
            .map(|url| HookAction::Webhook { ca_file: ca_file(table, &url), url }),
        (false, false) => {
            let problem = Problem::new(table.span(), table.path(), "it is not said what the hook does");
            table.report(problem.help("add `command = [\"/path/to/program\"]` or `url = \"https://HOST:PORT/PATH\"`").needs_whole_file());
            None
        }
    };
    let timeout = table.time("timeout").unwrap_or(Duration::from_secs(60));
    let continues = table.choice("on_failure") == Some("continue");
    Some(Hook { action: action?, timeout, continues })
}
