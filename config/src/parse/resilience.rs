//! Retries, bounds on a pool, and how its endpoints are compared.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::{Adaptive, Breaker, RetryOn, RetryPolicy, SuccessRate};
use crate::reader::{Field, Table};

pub(super) fn retry(table: &Table<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let on = match table.field("on") {
        None => default.on,
        Some(field) => field.one_or_many().iter().filter_map(|item: &Field<'_>| item.checked(parse_on(item.text()?))).collect(),
    };
    RetryPolicy { on, budget_percent: table.count_non_zero("budget"), per_try: table.time("per_try").filter(|time| !time.is_zero()) }
}

fn parse_on(text: &str) -> Result<RetryOn, String> {
    match text {
        "connect-failed" => Ok(RetryOn::ConnectFailed),
        "closed" => Ok(RetryOn::Closed),
        "bad-response" => Ok(RetryOn::BadResponse),
        "timeout" => Ok(RetryOn::Timeout),
        _ => match text.parse() {
            Ok(status @ (408 | 425 | 429 | 500..=599)) => Ok(RetryOn::Status(status)),
            Ok(_) => Err(format!("another endpoint would not answer {text} differently; statuses are 408, 425, 429 and 500 to 599")),
            Err(_) => Err(format!(
                "{text:?} is nothing to retry for; write connect-failed, closed, bad-response, timeout, or a status such as \"503\""
            )),
        },
    }
}

pub(super) fn breaker(table: &Table<'_>) -> Breaker {
    Breaker {
        requests_max: table.count_non_zero("requests_max"),
        connections_max: table.count_non_zero("connections_max"),
        retries_max: table.count_non_zero("retries_max"),
    }
}

pub(super) fn adaptive(table: &Table<'_>) -> Adaptive {
    let least = table.count_non_zero("min").unwrap_or(NonZeroU32::MIN);
    let most = table.count_non_zero("max").unwrap_or(least);
    if most < least {
        let problem = table.problem("max", "the highest bound is below the lowest");
        table.report(problem.note(table.span_of("min"), "`min` is the lowest").needs_whole_file());
    }
    Adaptive { least, most: most.max(least), tolerance_percent: table.count_u32("tolerance").unwrap_or(50) }
}

pub(super) fn success_rate(table: &Table<'_>) -> SuccessRate {
    let deviations = table.number("deviations").unwrap_or(1.9);
    if !(0.1..=10.0).contains(&deviations) {
        table.report(
            table
                .problem("deviations", "a standard deviation times this bounds nothing")
                .help("write a number from 0.1 to 10, such as 1.9"),
        );
    }
    SuccessRate {
        deviations,
        requests_min: table.count_non_zero("requests_min").unwrap_or(NonZeroU32::MIN),
        endpoints_min: table.count_non_zero("endpoints_min").unwrap_or(NonZeroU32::MIN),
        interval: table.time("interval").unwrap_or(Duration::from_secs(10)),
    }
}
