//! The keys of `[history]`.

use crate::spec::{Key, Keys};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const HOUR_MS: u64 = 3_600_000;

/// Ten years.
const KEPT_MS_MAX: u64 = 3650 * 24 * HOUR_MS;

/// How long something is kept.
const fn kept(name: &'static str, example: &'static str, about: &'static str) -> Key {
    Key::time(name, example, about).at_least_ms(HOUR_MS).at_most_ms(KEPT_MS_MAX)
}

pub(super) static HISTORY: Keys = Keys {
    place: "[history]",
    about: "What was: events, plans, samples and the audit, kept in state_dir.",
    keys: &[
        Key::flag("enabled", "true", "Whether anything is kept. A change needs an upgrade or restart."),
        Key::size("size_max", 16 * MIB, TIB, "\"1GiB\"", "The most that the file may hold; then the oldest goes, fine samples first.")
            .default("1GiB"),
        kept("events", "\"90d\"", "Events, changes of alarms, plans and their steps.").default("90d"),
        kept("audit", "\"730d\"", "Who or what changed which thing.").zero("for ever").default("0s"),
        kept("samples_10s", "\"3d\"", "Samples, a point for each ten seconds.").default("3d"),
        kept("samples_1m", "\"35d\"", "Samples, a point for each minute. Forecasts go by them.").default("35d"),
        kept("samples_1h", "\"400d\"", "Samples, a point for each hour.").default("400d"),
    ],
};
