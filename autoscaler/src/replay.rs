//! What a policy would have done with a load that was: the same core as in life, over a table of samples.
//!
//! ```text
//!   time,machines,requests,cpu          columns are metrics; `machines` is how many shared them then
//!   1700000000,2,812.5,71
//! ```
//!
//! What is of the whole pool stays what it was; what is of each machine is shared anew by as many machines as the policy would have had.
//! Latencies and the like stay as they were: how they depend on the number of machines nobody knows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use weir_config::{Alarm, AlarmName, Metric};

use crate::alarm::{AlarmBook, AlarmState};
use crate::readings::{Query, Readings, Scope};
use crate::scaling::plan::{Clock, Step, plan};
use crate::scaling::predict::forecast;
use crate::scaling::{AlarmSignal, HostRoom, Member, MemberState, Memory, Observation, Policy, Signals, TargetSignal};
use crate::time::UnixMs;

/// Rows of a table that are read.
pub const ROWS_MAX: usize = 1_000_000;

/// Between two looks.
const TICK: Duration = Duration::from_secs(10);

/// How far back values are kept for alarms.
const KEPT: Duration = Duration::from_secs(4 * 3600);

/// Means for forecasts.
const ROLLED: Duration = Duration::from_secs(300);

/// What was measured at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// When.
    pub at: UnixMs,
    /// Machines that shared it.
    pub machines: f64,
    /// Values by metric; what is missing is not there.
    pub values: BTreeMap<Metric, f64>,
}

/// What would have been done.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// Machines that serve and that are wanted, at each change: time, serving, desired.
    pub machines: Vec<(UnixMs, u32, u32)>,
    /// Minutes in which an alarm was in alarm, or a target was missed upwards.
    pub violation_minutes: f64,
    /// Machines times hours, from their launch to their removal.
    pub machine_hours: f64,
    /// Times that the pool became larger.
    pub outs: u32,
    /// Times that it became smaller.
    pub ins: u32,
    /// The most machines that served.
    pub most: u32,
    /// The fewest.
    pub least: u32,
    /// What was decided: time, before, after, why.
    pub decisions: Vec<(UnixMs, u32, u32, String)>,
    /// Policies that are left out, because the table does not have their metric: in life a policy without data takes nothing away.
    pub left_out: Vec<String>,
    /// Begin and end.
    pub span: (UnixMs, UnixMs),
}

/// Reads a table. The error names the line.
pub fn parse_csv(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let Some((_, header)) = lines.next() else {
        return Err("the table is empty; its first line names the columns: time,machines,requests".into());
    };
    let names: Vec<&str> = header.split(',').map(str::trim).collect();
    let Some(time) = names.iter().position(|name| *name == "time") else {
        return Err("line 1 names no column `time`: seconds since 1970".into());
    };
    let machines = names.iter().position(|name| *name == "machines");
    let metrics: Vec<Option<Metric>> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            (at != time && Some(at) != machines).then(|| Metric::built_in(name).unwrap_or_else(|| Metric::External((*name).into())))
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let place = |what: &str| format!("line {}: {what}", number + 1);
        if cells.len() != names.len() {
            return Err(place(&format!("{} columns, but the first line names {}", cells.len(), names.len())));
        }
        let value = |at: usize| match cells[at] {
            "" => Ok(None),
            text => text
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
                .map(Some)
                .ok_or_else(|| place(&format!("{text:?} is not a number"))),
        };
        let Some(seconds) = value(time)?.filter(|seconds| (0.0..1e12).contains(seconds)) else { return Err(place("there is no time")) };
        let at = UnixMs((seconds * 1000.0) as u64);
        if rows.last().is_some_and(|last| last.at >= at) {
            return Err(place("it is not later than the line before; sort the table by time"));
        }
        if rows.len() == ROWS_MAX {
            return Err(place(&format!("more than {ROWS_MAX} rows")));
        }
        let mut values = BTreeMap::new();
        for (cell, metric) in metrics.iter().enumerate() {
            if let Some(metric) = metric
                && let Some(value) = value(cell)?
            {
                values.insert(metric.clone(), value);
            }
        }
        let machines = machines.map(value).transpose()?.flatten().unwrap_or(1.0).max(0.0);
        rows.push(Row { at, machines, values });
    }
    if rows.len() < 2 {
        return Err("the table needs at least two lines of values".into());
    }
    Ok(rows)
}

/// Runs the policy over the rows. `boot`: from a launch until the machine is healthy.
pub fn replay(policy: &Policy, alarms: &BTreeMap<AlarmName, std::sync::Arc<Alarm>>, rows: &[Row], boot: Duration) -> Report {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Report::default() };
    let (policy, left_out) = with_data(policy, alarms, rows);
    let gap = gap(rows);
    let mut world = World::new(&policy, alarms, boot, first.at);
    world.report.left_out = left_out;
    let mut now = first.at;
    let mut row = 0;
    while now <= last.at {
        while rows.get(row + 1).is_some_and(|next| next.at <= now) {
            row += 1;
        }
        world.tick(&rows[row], now.since(rows[row].at) <= gap, now);
        now = now.plus(TICK);
    }
    world.report.span = (first.at, last.at);
    world.report
}

/// After how long a row says nothing any more: three times the usual distance, and a minute at least.
fn gap(rows: &[Row]) -> Duration {
    let mut distances: Vec<Duration> = rows.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    distances.sort_unstable();
    let usual = distances.get(distances.len() / 2).copied().unwrap_or_default();
    usual.saturating_mul(3).max(Duration::from_secs(60))
}

/// The policy without what the table says nothing about.
fn with_data(policy: &Policy, alarms: &BTreeMap<AlarmName, std::sync::Arc<Alarm>>, rows: &[Row]) -> (Policy, Vec<String>) {
    let has = |metric: &Metric| {
        let of = match metric {
            Metric::RequestsPerEndpoint => Some(Metric::Requests),
            Metric::InFlightPerEndpoint => Some(Metric::InFlight),
            _ => None,
        };
        rows.iter().any(|row| row.values.contains_key(metric) || of.as_ref().is_some_and(|of| row.values.contains_key(of)))
    };
    let (mut policy, mut left_out) = (policy.clone(), Vec::new());
    policy.steps.retain(|steps| match alarms.get(&steps.alarm).map(|alarm| &alarm.condition) {
        Some(weir_config::Condition::Threshold(threshold)) if !has(&threshold.metric) => {
            left_out.push(format!("alarm {}: {}", steps.alarm, threshold.metric));
            false
        }
        _ => true,
    });
    std::sync::Arc::make_mut(&mut policy.scaling).targets.retain(|target| {
        let kept = has(&target.metric);
        if !kept {
            left_out.push(format!("target {}", target.metric));
        }
        kept
    });
    (policy, left_out)
}

struct World<'a> {
    policy: &'a Policy,
    book: AlarmBook,
    values: Values,
    memory: Option<Memory>,
    machines: Vec<(Member, UnixMs)>,
    boot: Duration,
    next: u32,
    report: Report,
}

/// What the machines would have measured.
#[derive(Default)]
struct Values {
    recent: BTreeMap<Metric, VecDeque<(UnixMs, f64)>>,
    rolled: Vec<(UnixMs, f64)>,
}

impl Readings for Values {
    fn points(&self, query: &Query<'_>, now: UnixMs) -> Vec<Option<f64>> {
        let (begin, _) = query.span(now);
        let of_pool = matches!(query.scope, Scope::Pool(_));
        let empty = VecDeque::new();
        let samples = self.recent.get(query.metric).filter(|_| of_pool).unwrap_or(&empty);
        let point = |number| {
            let from = begin.plus(query.period.saturating_mul(number));
            let first = samples.partition_point(|(at, _)| *at < from);
            let mut values: Vec<f64> =
                samples.iter().skip(first).take_while(|(at, _)| *at < from.plus(query.period)).map(|(_, value)| *value).collect();
            query.statistic.of(&mut values)
        };
        (0..query.periods).map(point).collect()
    }
}

impl<'a> World<'a> {
    fn new(policy: &'a Policy, alarms: &BTreeMap<AlarmName, std::sync::Arc<Alarm>>, boot: Duration, now: UnixMs) -> World<'a> {
        let mut book = AlarmBook::default();
        book.apply(alarms, now);
        let report = Report { least: u32::MAX, ..Report::default() };
        World { policy, book, values: Values::default(), memory: None, machines: Vec::new(), boot, next: 1, report }
    }

    /// `known`: the row still says something about this moment.
    fn tick(&mut self, row: &Row, known: bool, now: UnixMs) {
        let observation = self.observe(now);
        let serving = observation.count(|state| *state == MemberState::Serving);
        if known {
            self.measure(row, serving, now);
        }
        self.book.evaluate(&self.values, now);
        let signals = self.signals(now);
        let mut memory = self.memory.take().unwrap_or_else(|| Memory::adopt(self.policy, &observation, now));
        let plan = plan(self.policy, &observation, &signals, &mut memory, Clock { now, bounds: None });
        self.memory = Some(memory);
        let (before, after) = (plan.decision.before, plan.decision.desired);
        if before != after {
            self.report.decisions.push((now, before, after, plan.decision.why.clone()));
            if after > before { self.report.outs += 1 } else { self.report.ins += 1 }
        }
        self.count(&signals, serving, after, now);
        for step in &plan.steps {
            self.carry_out(step, now);
        }
    }

    fn observe(&self, now: UnixMs) -> Observation {
        let member = |(member, healthy_from): &(Member, UnixMs)| {
            let mut member = member.clone();
            if !member.state.is_going() {
                member.state = match () {
                    () if now < *healthy_from => MemberState::Launching,
                    () if !member.registered => MemberState::Booted,
                    () if now < healthy_from.plus(self.policy.scaling.warm_up) => MemberState::Warming,
                    () => MemberState::Serving,
                };
            }
            member.hooked = true;
            member
        };
        let room = HostRoom { host: "host".into(), group: "host".into(), more: u32::MAX, why: String::new(), warm: 0 };
        Observation { complete: None, members: self.machines.iter().map(member).collect(), hosts: vec![room], base: None }
    }

    fn measure(&mut self, row: &Row, serving: u32, now: UnixMs) {
        for (metric, value) in &row.values {
            let shared = metric.is_of_machines() || matches!(metric, Metric::RequestsPerEndpoint | Metric::InFlightPerEndpoint);
            let value = if shared { value * row.machines / f64::from(serving.max(1)) } else { *value };
            self.push(metric.clone(), value, now);
        }
        for (total, each) in [(Metric::Requests, Metric::RequestsPerEndpoint), (Metric::InFlight, Metric::InFlightPerEndpoint)] {
            if let Some(value) = row.values.get(&total).filter(|_| !row.values.contains_key(&each)) {
                self.push(each, value / f64::from(serving.max(1)), now);
            }
        }
        let Some(predict) = &self.policy.scaling.predict else { return };
        if let Some(value) = row.values.get(&predict.metric)
            && self.values.rolled.last().is_none_or(|(at, _)| now.since(*at) >= ROLLED)
        {
            self.values.rolled.push((now, *value));
        }
    }

    fn push(&mut self, metric: Metric, value: f64, now: UnixMs) {
        let samples = self.values.recent.entry(metric).or_default();
        samples.push_back((now, value));
        while samples.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
            samples.pop_front();
        }
    }

    fn signals(&self, now: UnixMs) -> Signals {
        let newest = |metric: &Metric| {
            let (at, value) = self.values.recent.get(metric)?.back()?;
            (now.since(*at) <= TICK).then_some(*value)
        };
        let alarm = |name: &AlarmName| {
            let (state, engaged, value) = self.book.signal(name)?;
            Some((name.clone(), AlarmSignal { state, engaged, value }))
        };
        let scaling = &self.policy.scaling;
        Signals {
            alarms: self.policy.steps.iter().filter_map(|steps| alarm(&steps.alarm)).collect(),
            targets: scaling.targets.iter().map(|target| TargetSignal::Pool(newest(&target.metric))).collect(),
            forecast: scaling.predict.as_ref().and_then(|predict| forecast(&self.values.rolled, predict.season, predict.ahead, now)),
        }
    }

    fn count(&mut self, signals: &Signals, serving: u32, desired: u32, now: UnixMs) {
        let missed = self.policy.scaling.targets.iter().zip(&signals.targets).any(|(target, signal)| {
            let TargetSignal::Pool(Some(value)) = signal else { return false };
            let each = if target.divide { value / f64::from(serving.max(1)) } else { *value };
            each > target.value * (1.0 + f64::from(target.tolerance_percent) / 100.0)
        });
        let in_alarm = self.book.views().any(|(_, view)| view.state == AlarmState::Alarm);
        if missed || in_alarm {
            self.report.violation_minutes += TICK.as_secs_f64() / 60.0;
        }
        self.report.machine_hours += self.machines.len() as f64 * TICK.as_secs_f64() / 3600.0;
        self.report.most = self.report.most.max(serving);
        // The first boots are not the policy's doing.
        if serving >= desired || self.report.least != u32::MAX {
            self.report.least = self.report.least.min(serving);
        }
        if self.report.machines.last().is_none_or(|(_, s, d)| (*s, *d) != (serving, desired)) {
            self.report.machines.push((now, serving, desired));
        }
    }

    fn carry_out(&mut self, step: &Step, now: UnixMs) {
        let mut with = |name: &str, change: &dyn Fn(&mut Member)| {
            self.machines.iter_mut().filter(|(member, _)| member.name == name).for_each(|(member, _)| change(member));
        };
        match step {
            Step::Launch { slot, host, .. } => {
                let member = Member {
                    name: format!("machine-{}", self.next),
                    slot: Some(*slot),
                    generation: 1,
                    host: host.clone(),
                    group: host.clone(),
                    base: String::new(),
                    since: now,
                    state: MemberState::Launching,
                    registered: false,
                    hooked: true,
                    protected: false,
                    in_flight: 0,
                    refresh: None,
                };
                self.next += 1;
                // The pool that there was at first had booted long ago.
                let boot = if now <= self.report.machines.first().map_or(now, |(at, ..)| *at) { Duration::ZERO } else { self.boot };
                self.machines.push((member, now.plus(boot)));
            }
            Step::Register { machine } => with(machine, &|member| member.registered = true),
            Step::Retire { machine, .. } => with(machine, &|member| member.state = MemberState::Leaving { since: now, draining: true }),
            Step::Deregister { machine } => with(machine, &|member| member.registered = false),
            Step::Remove { machine } => self.machines.retain(|(member, _)| member.name != *machine),
            Step::Drain { .. } | Step::Resume { .. } | Step::RunHook { .. } | Step::Note { .. } => {}
        }
    }
}

impl Report {
    /// Serving machines at a moment.
    pub fn serving_at(&self, at: UnixMs) -> u32 {
        let after = self.machines.partition_point(|(begin, ..)| *begin <= at);
        after.checked_sub(1).and_then(|index| self.machines.get(index)).map_or(0, |(_, serving, _)| *serving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[pool.web]\nmin_healthy = 1\n[pool.web.health]\ntype = \"tcp\"\n[pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 8\n\
        [[pool.web.scaling.target]]\nmetric = \"requests-per-endpoint\"\nvalue = 100\n\
        [template.web]\nmaster = \"m\"\nport = 80\n[host.a]\nuri = \"qemu:///system\"\n";

    fn day(load: impl Fn(u64) -> u64) -> Vec<Row> {
        let lines: Vec<String> = (0..1440).map(|minute| format!("{},{}", 1_700_000_000 + minute * 60, load(minute))).collect();
        parse_csv(&format!("time,requests\n{}\n", lines.join("\n"))).expect("a table")
    }

    #[test]
    fn a_day_is_replayed() {
        let config = weir_config::parse(FILE, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let policy = Policy::of(&config, &"web".into()).expect("it is scaled");
        let rows = day(|minute| if (480..960).contains(&minute) { 600 } else { 150 });
        let report = replay(&policy, &config.alarms, &rows, Duration::from_secs(60));
        assert_eq!((report.most, report.least), (6, 2), "{report:?}");
        assert!((1..=3).contains(&report.outs) && (1..=4).contains(&report.ins), "{:?}", report.decisions);
        // Sixteen hours with two machines and eight with six, and what it takes to get there.
        assert!((80.0..84.0).contains(&report.machine_hours), "{}", report.machine_hours);
        assert!((1.0..6.0).contains(&report.violation_minutes), "{}", report.violation_minutes);
        assert_eq!(report.serving_at(UnixMs(1_700_000_000_000 + 700 * 60_000)), 6);
        let again = replay(&policy, &config.alarms, &rows, Duration::from_secs(60));
        assert_eq!(report, again, "the same in, the same out");
        let slow = replay(&policy, &config.alarms, &rows, Duration::from_secs(1200));
        assert!(slow.violation_minutes > report.violation_minutes + 15.0, "{}", slow.violation_minutes);
    }

    /// What happened while nothing was measured nobody knows: the last value does not go on for hours.
    #[test]
    fn gaps_are_no_data() {
        let config = weir_config::parse(FILE, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let policy = Policy::of(&config, &"web".into()).expect("it is scaled");
        let line = |minute: u64, load: u64| format!("{},{load}", 1_700_000_000 + minute * 60);
        let before = (0..60).map(|minute| line(minute, 600));
        let after = (600..660).map(|minute| line(minute, 600));
        let text = format!("time,requests\n{}\n", before.chain(after).collect::<Vec<_>>().join("\n"));
        let rows = parse_csv(&text).expect("a table");
        assert_eq!(gap(&rows), Duration::from_secs(180));
        let report = replay(&policy, &config.alarms, &rows, Duration::from_secs(60));
        assert_eq!(report.ins, 0, "nothing is taken away while nothing is known: {:?}", report.decisions);
        assert_eq!(report.serving_at(UnixMs(1_700_000_000_000 + 300 * 60_000)), 6);
    }

    #[test]
    fn what_the_table_does_not_have_is_left_out() {
        let alarm = "[alarm.busy]\npool = \"web\"\nmetric = \"cpu\"\nabove = 70\nscale = \"+1\"\n";
        let config = weir_config::parse(&format!("{FILE}{alarm}"), "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let policy = Policy::of(&config, &"web".into()).expect("it is scaled");
        let report = replay(&policy, &config.alarms, &day(|minute| if minute < 60 { 600 } else { 150 }), Duration::from_secs(60));
        assert_eq!(report.left_out, ["alarm busy: cpu"]);
        assert_eq!(report.serving_at(report.span.1), 2, "nothing blind holds it up");
    }

    #[test]
    fn tables_say_what_is_wrong() {
        for (text, why) in [
            ("", "empty"),
            ("requests\n1\n", "time"),
            ("time,requests\n1,2\n", "two lines"),
            ("time,requests\n1,2\n1,3\n", "line 3"),
            ("time,requests\n1,2\n2,x\n", "\"x\""),
            ("time,requests\n1\n2,3\n", "columns"),
            ("time,requests\n,2\n2,3\n", "no time"),
        ] {
            let error = parse_csv(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let rows = parse_csv("# a comment\ntime,machines,cpu,jobs\n1,2,50,\n2,,60,7\n").expect("good");
        assert_eq!((rows[0].machines, rows[0].values.len(), rows[1].machines), (2.0, 1, 1.0));
        assert_eq!(rows[1].values[&Metric::External("jobs".into())], 7.0);
    }
}
