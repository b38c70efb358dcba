//! Retries, bounds on a pool, and how its endpoints are compared.

use super::U32_MAX;
use crate::spec::{Key, Keys};

pub(super) static RETRY: Keys = Keys {
    place: "[pool.NAME.retry]",
    about: "What is tried again. What an endpoint may have processed is repeated only for idempotent methods, and only while the body is still in memory.",
    keys: &[
        Key::list(
            "on",
            "[\"connect-failed\", \"closed\", \"503\"]",
            "connect-failed, closed (before it answered), bad-response, timeout (first_byte or per_try), and statuses: 408, 425, 429 and 500 to 599. Absent: connect-failed and closed.",
        ),
        Key::count(
            "budget",
            1,
            1000,
            "20",
            "Retries in percent of the pool's requests over ten seconds, of which a hundred are always allowed: a pool in trouble does not get its load twice.",
        )
        .zero("no bound")
        .default("20"),
        Key::time("per_try", "\"5s\"", "From the beginning of an attempt to its response head.").zero("no bound of its own").default("0s"),
    ],
};

pub(super) static BREAKER: Keys = Keys {
    place: "[pool.NAME.breaker]",
    about: "Bounds on the whole pool; beyond one the answer is 503 at once. What waits is bounded by limits.queue_max.",
    keys: &[
        Key::count("requests_max", 1, U32_MAX, "5000", "Requests and sessions at once, waiting ones included.")
            .zero("no bound")
            .default("0"),
        Key::count("connections_max", 1, U32_MAX, "2000", "Connections to endpoints, idle ones included.").zero("no bound").default("0"),
        Key::count("retries_max", 1, U32_MAX, "50", "Retries under way at once; beyond it nothing is tried again.")
            .zero("no bound")
            .default("0"),
    ],
};

pub(super) static ADAPTIVE: Keys = Keys {
    place: "[pool.NAME.adaptive]",
    about: "A bound on requests at once that falls when answers take longer than usual, and rises when they do not; beyond it the answer is 503 with Retry-After.",
    keys: &[
        Key::count("min", 1, U32_MAX, "4", "The lowest bound.").default("4"),
        Key::count("max", 1, U32_MAX, "1000", "The highest bound. At least min.").default("1000"),
        Key::count("tolerance", 1, 1000, "50", "How much longer than usual answers may take, in percent.").default("50"),
    ],
};

pub(super) static SUCCESS_RATE: Keys = Keys {
    place: "[pool.NAME.ejection.success_rate]",
    about: "Endpoints whose share of good answers lies too far below the pool's mean are left out, the worst first, within share_max.",
    keys: &[
        Key::number("deviations", "1.9", "How far, in standard deviations of the pool. Absent: 1.9."),
        Key::count("requests_min", 1, U32_MAX, "100", "Endpoints with fewer requests in an interval are not looked at.").default("100"),
        Key::count("endpoints_min", 2, 1000, "5", "With fewer endpoints to compare nobody is left out.").default("5"),
        Key::time("interval", "\"10s\"", "From one look to the next.").at_least_ms(100).default("10s"),
    ],
};
