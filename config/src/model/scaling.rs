//! `[pool.NAME.scaling]`: how many machines a pool has.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{AlarmName, TemplateName};
use crate::calendar::Calendar;
use crate::metric::Metric;

/// `[pool.NAME.scaling]`
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// `template`: what machines are cloned from.
    pub template: TemplateName,
    /// `min`: never fewer. Default 1.
    pub min: u32,
    /// `max`: never more; at least `min`.
    pub max: u32,
    /// `desired`: how many there are at first. Default `min`.
    pub desired: Option<u32>,
    /// `mode`. Default auto.
    pub mode: ScalingMode,
    /// `cooldown_out`: from one scale-out to the next. Default 60 s.
    pub cooldown_out: Duration,
    /// `cooldown_in`: from any scaling to the next scale-in. Default 5 min.
    pub cooldown_in: Duration,
    /// `stabilise_out`: out to the least that was wished for so long. Default none.
    pub stabilise_out: Duration,
    /// `stabilise_in`: in to the most that was wished for so long. Default 5 min.
    pub stabilise_in: Duration,
    /// `warm_up`: how long a machine that is healthy does not count yet. Default 30 s.
    pub warm_up: Duration,
    /// `terminate`: which machine goes first. Default oldest base, most loaded host, newest.
    pub terminate: Vec<TerminationOrder>,
    /// `spread`: a label of hosts whose values machines are spread over. Default: each host.
    pub spread: Option<String>,
    /// `launches_max`: machines that are made at once. Default 4.
    pub launches_max: u32,
    /// `launch_failures_max`: after so many failures in a row it is said. Default 3.
    pub launch_failures_max: u32,
    /// `drain_timeout`: how long a machine that goes may finish its work. Default 60 s.
    pub drain_timeout: Duration,
    /// `shutdown_timeout`: how long its guest may take to shut down. Default 30 s.
    pub shutdown_timeout: Duration,
    /// `unhealthy_grace`: how long a machine may be unhealthy before it is replaced. Default 1 min.
    pub unhealthy_grace: Duration,
    /// `replace_max`: when more of the pool, in percent, is unhealthy, nothing is replaced. Default 50.
    pub replace_max_percent: u32,
    /// `[[pool.NAME.scaling.target]]`
    pub targets: Vec<TargetPolicy>,
    /// `[[pool.NAME.scaling.step]]`
    pub steps: Vec<StepPolicy>,
    /// `[[pool.NAME.scaling.schedule]]`
    pub schedules: Vec<Schedule>,
    /// `[pool.NAME.scaling.predict]`
    pub predict: Option<Predict>,
    /// `[pool.NAME.scaling.refresh]`
    pub refresh: Refresh,
    /// `[pool.NAME.scaling.launch_hook]`
    pub launch_hook: Option<Hook>,
    /// `[pool.NAME.scaling.terminate_hook]`
    pub terminate_hook: Option<Hook>,
}

/// Whether plans are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalingMode {
    /// They are.
    Auto,
    /// They are only shown.
    Recommend,
}

/// Which machine goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TerminationOrder {
    /// On the oldest base.
    OldestBase,
    /// On the host with the most machines of the pool, by `spread`.
    MostLoadedHost,
    /// Made last.
    Newest,
    /// Made first.
    Oldest,
    /// With the least in flight.
    LeastBusy,
}

/// A number of machines more, fewer, or in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScaleChange {
    /// `"+2"`, `"-1"`
    By(i32),
    /// `"+50%"`, `"-10%"`, of those that serve.
    Percent(i32),
    /// `"=4"`
    Exactly(u32),
}

/// `[[pool.NAME.scaling.target]]`: so many machines that each has about this much.
#[derive(Clone, PartialEq, Debug)]
pub struct TargetPolicy {
    /// `metric`
    pub metric: Metric,
    /// `value`, more than zero.
    pub value: f64,
    /// `period`. Default 10 s.
    pub period: Duration,
    /// `tolerance`, in percent: within it nothing is changed. Default 10.
    pub tolerance_percent: u32,
    /// `divide`: the metric is of the whole pool, and shared by its machines.
    pub divide: bool,
    /// `scale_in`: whether it may also make the pool smaller. Default true.
    pub scale_in: bool,
}

/// `[[pool.NAME.scaling.step]]`: the more, the further beyond the threshold of an alarm.
#[derive(Clone, PartialEq, Debug)]
pub struct StepPolicy {
    /// `alarm`, of a threshold.
    pub alarm: AlarmName,
    /// `min_change`: machines that a change in percent changes at least. Default 1.
    pub min_change: u32,
    /// `[[pool.NAME.scaling.step.adjust]]`, by their bounds, without gaps.
    pub adjust: Vec<StepAdjustment>,
}

/// One step. Its bounds are relative to the alarm's threshold; for a metric that is beyond it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepAdjustment {
    /// `from`; absent: no lower bound.
    pub from: Option<f64>,
    /// `to`; absent: no upper bound.
    pub to: Option<f64>,
    /// `change`
    pub change: ScaleChange,
}

/// `[[pool.NAME.scaling.schedule]]`: from this moment on, until the next one that says otherwise.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// `cron`, `time_zone`
    pub at: Calendar,
    /// `min`
    pub min: Option<u32>,
    /// `max`
    pub max: Option<u32>,
    /// `desired`: at this moment, once.
    pub desired: Option<u32>,
}

/// `[pool.NAME.scaling.predict]`: out ahead of what usually comes. Never in.
#[derive(Clone, PartialEq, Debug)]
pub struct Predict {
    /// `metric`: of the whole pool.
    pub metric: Metric,
    /// `value`: what one machine carries of it; more than zero.
    pub value: f64,
    /// `season`: after which it repeats. Default 24 h.
    pub season: Duration,
    /// `ahead`: how far it looks. Default 10 min.
    pub ahead: Duration,
    /// `mode`: whether it scales or only tells. Default forecast-only.
    pub scales: bool,
}

/// `[pool.NAME.scaling.refresh]`: how a new base rolls through the pool.
#[derive(Clone, PartialEq, Debug)]
pub struct Refresh {
    /// `automatic`: when the template has a new base; otherwise when an operator says so. Default false.
    pub automatic: bool,
    /// `batch`: machines at once. Default 1.
    pub batch: u32,
    /// `min_healthy`, in percent of what is wanted. Default 100.
    pub min_healthy_percent: u32,
    /// `pause`: between two batches. Default none.
    pub pause: Duration,
    /// `checkpoints`: shares, in percent, at which it waits; growing.
    pub checkpoints: Vec<u32>,
    /// `checkpoint_wait`: for so long. Default 5 min.
    pub checkpoint_wait: Duration,
    /// `rollback`: a new machine that does not become healthy ends it, and what was replaced is replaced again. Default true.
    pub rollback: bool,
}

/// `[pool.NAME.scaling.launch_hook]`, `[pool.NAME.scaling.terminate_hook]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// `command` or `url`
    pub action: HookAction,
    /// `timeout`. Default 60 s.
    pub timeout: Duration,
    /// `on_failure = "continue"`: it goes on as if it had worked; otherwise a launch is undone, and a termination goes on anyway.
    pub continues: bool,
}

/// What a hook does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HookAction {
    /// Runs a program.
    Command(Vec<String>),
    /// Sends a POST and waits for an answer from 200 to 299.
    Webhook {
        /// `url`: `http://HOST:PORT/PATH`, or with https.
        url: String,
        /// `ca_file`: who may have signed its certificate; `None`: whom the system trusts.
        ca_file: Option<PathBuf>,
    },
}

impl ScalingMode {
    /// `auto` or `recommend`.
    pub fn word(self) -> &'static str {
        match self {
            ScalingMode::Auto => "auto",
            ScalingMode::Recommend => "recommend",
        }
    }
}

impl TerminationOrder {
    /// All of them.
    pub const ALL: [TerminationOrder; 5] = [
        TerminationOrder::OldestBase,
        TerminationOrder::MostLoadedHost,
        TerminationOrder::Newest,
        TerminationOrder::Oldest,
        TerminationOrder::LeastBusy,
    ];

    /// `oldest-base`, `most-loaded-host`, `newest`, `oldest` or `least-busy`.
    pub fn word(self) -> &'static str {
        match self {
            TerminationOrder::OldestBase => "oldest-base",
            TerminationOrder::MostLoadedHost => "most-loaded-host",
            TerminationOrder::Newest => "newest",
            TerminationOrder::Oldest => "oldest",
            TerminationOrder::LeastBusy => "least-busy",
        }
    }
}

impl ScaleChange {
    /// The most machines that a change may name.
    pub const MAX: u32 = 100_000;

    /// Reads `"+1"`, `"-2"`, `"+50%"`, `"-10%"` or `"=4"`. The error says how it is written.
    pub fn parse(text: &str) -> Result<ScaleChange, String> {
        let wrong = || format!("{text:?} is not a change; write \"+1\", \"-1\", \"+50%\", \"-10%\" or \"=4\"");
        let number = |digits: &str| {
            let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|number| good && *number <= ScaleChange::MAX).ok_or_else(wrong)
        };
        if let Some(digits) = text.strip_prefix('=') {
            return number(digits).map(ScaleChange::Exactly);
        }
        let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(rest), _) => (1, rest),
            (None, Some(rest)) => (-1, rest),
            (None, None) => return Err(wrong()),
        };
        let (digits, is_percent) = rest.strip_suffix('%').map_or((rest, false), |digits| (digits, true));
        let amount = number(digits)?;
        let signed = sign * i32::try_from(amount).map_err(|_| wrong())?;
        if signed == 0 {
            return Err(format!("{text:?} changes nothing; write \"+1\", \"-1\", \"+50%\", \"-10%\" or \"=4\""));
        }
        Ok(if is_percent { ScaleChange::Percent(signed) } else { ScaleChange::By(signed) })
    }
}

impl fmt::Display for ScaleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScaleChange::By(number) => write!(f, "{number:+}"),
            ScaleChange::Percent(number) => write!(f, "{number:+}%"),
            ScaleChange::Exactly(number) => write!(f, "={number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_what_they_write() {
        for text in ["+1", "-2", "+50%", "-10%", "=4", "=0"] {
            assert_eq!(ScaleChange::parse(text).map(|change| change.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "1", "+", "+0", "-0%", "+1.5", "++1", "=+4", "=-4", "+50 %", "+999999999999", "%"] {
            assert!(ScaleChange::parse(text).is_err(), "{text}");
        }
    }
}
