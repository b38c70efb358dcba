//! The keys of `[pool.NAME.scaling]`.

use crate::keys::alarm::CA_FILE;
use crate::model::ScaleChange;
use crate::spec::{Key, Keys, Kind, word};

const COUNT_MAX: u64 = ScaleChange::MAX as u64;

const METRIC: &str = "What is measured, as in [alarm.NAME]; of a pool.";

pub(super) static SCALING: Keys = Keys {
    place: "[pool.NAME.scaling]",
    about: "Machines that are cloned into the pool as the load rises, and taken out as it falls.",
    keys: &[
        Key::text("template", "\"web\"", "What they are cloned from. It says the port.").required(),
        Key::count("min", 0, COUNT_MAX, "2", "Never fewer machines.").default("1"),
        Key::count("max", 0, COUNT_MAX, "10", "Never more machines. At least min.").required(),
        Key::count("desired", 0, COUNT_MAX, "3", "How many there are at first. Absent: min."),
        Key::choice(
            "mode",
            &[word("auto", "plans are carried out"), word("recommend", "plans are only shown, and an operator acts")],
            "Whether plans are carried out.",
        )
        .default("auto"),
        Key::time("cooldown_out", "\"60s\"", "From one scale-out to the next.").zero("none").default("60s"),
        Key::time("cooldown_in", "\"5m\"", "From any scaling to the next scale-in.").zero("none").default("5m"),
        Key::time("stabilise_out", "\"30s\"", "Out only to the least that was wished for so long.").zero("at once").default("0s"),
        Key::time("stabilise_in", "\"5m\"", "In only to the most that was wished for so long.").zero("at once").default("5m"),
        Key::time("warm_up", "\"30s\"", "How long a machine that became healthy does not count as one that serves.")
            .zero("not at all")
            .default("30s"),
        Key {
            example: "[\"oldest-base\", \"most-loaded-host\", \"newest\"]",
            ..Key::new(
                "terminate",
                Kind::Texts,
                "Which machine goes first; what the first leaves undecided the next decides: oldest-base, most-loaded-host, newest, oldest, \
                 least-busy. Absent: oldest-base, most-loaded-host, newest.",
            )
        },
        Key::text("spread", "\"rack\"", "A label of the hosts: machines are spread over its values. Absent: over the hosts."),
        Key::count("launches_max", 1, 1000, "4", "Machines that are made at once.").default("4"),
        Key::count("launch_failures_max", 1, 1000, "3", "After so many failed launches in a row an event says so.").default("3"),
        Key::time("drain_timeout", "\"60s\"", "How long a machine that goes may finish its work.").default("60s"),
        Key::time("shutdown_timeout", "\"30s\"", "How long its guest may take to shut down.").default("30s"),
        Key::time("unhealthy_grace", "\"60s\"", "How long a machine may be unhealthy before it is replaced.").default("60s"),
        Key::count("replace_max", 1, 100, "50", "When more of the pool is unhealthy, in percent, nothing is replaced.").default("50"),
        Key::new("target", Kind::Tables(&TARGET), "Values that are held, each written as [[pool.NAME.scaling.target]]."),
        Key::new(
            "step",
            Kind::Tables(&STEP),
            "Steps by how far an alarm is beyond its threshold, each written as [[pool.NAME.scaling.step]].",
        ),
        Key::new("schedule", Kind::Tables(&SCHEDULE), "Changes by the clock, each written as [[pool.NAME.scaling.schedule]]."),
        Key::new("predict", Kind::Table(&PREDICT), "Out ahead of what usually comes."),
        Key::new("refresh", Kind::Table(&REFRESH), "How a new base rolls through the pool."),
        Key::new("launch_hook", Kind::Table(&LAUNCH_HOOK), "What is done before a new machine gets traffic."),
        Key::new("terminate_hook", Kind::Table(&TERMINATE_HOOK), "What is done before a drained machine is shut down."),
    ],
};

static TARGET: Keys = Keys {
    place: "[[pool.NAME.scaling.target]]",
    about: "So many machines that each has about this much. Of several policies the largest wish wins, and all must agree to fewer.",
    keys: &[
        Key::text("metric", "\"cpu\"", METRIC).required(),
        Key::number("value", "60.0", "What each machine shall have of it; more than zero.").required(),
        Key::time("period", "\"10s\"", "Over what it is averaged.").at_least_ms(1000).at_most_ms(86_400_000).default("10s"),
        Key::count("tolerance", 0, 100, "10", "Within so many percent of the value nothing is changed.").default("10"),
        Key::flag("divide", "false", "The metric is of the whole pool and is shared by its machines; requests and in-flight always are."),
        Key::flag("scale_in", "true", "Whether it may make the pool smaller, too."),
    ],
};

static STEP: Keys = Keys {
    place: "[[pool.NAME.scaling.step]]",
    about: "The further an alarm's metric is beyond its threshold, the more is changed.",
    keys: &[
        Key::text("alarm", "\"web-busy\"", "An alarm with a threshold.").required(),
        Key::count("min_change", 1, COUNT_MAX, "1", "A change in percent changes at least so many machines.").default("1"),
        Key::new("adjust", Kind::Tables(&ADJUST), "The steps, each written as [[pool.NAME.scaling.step.adjust]], without gaps.").required(),
    ],
};

static ADJUST: Keys = Keys {
    place: "[[pool.NAME.scaling.step.adjust]]",
    about: "One step. Its bounds are relative to the threshold: 10 is ten above it, -10 ten below.",
    keys: &[
        Key::number("from", "0.0", "Where it begins. Absent: no lower bound."),
        Key::number("to", "10.0", "Where the next begins. Absent: no upper bound."),
        Key::text("change", "\"+10%\"", "\"+1\", \"-1\", \"+50%\", \"-10%\" or \"=4\".").required(),
    ],
};

static SCHEDULE: Keys = Keys {
    place: "[[pool.NAME.scaling.schedule]]",
    about: "From this moment on, until another one says otherwise.",
    keys: &[
        Key::text("cron", "\"0 8 * * MON-FRI\"", "When: minute, hour, day of month, month, day of week.").required(),
        Key::text("time_zone", "\"Europe/Berlin\"", "In which time zone.").default("UTC"),
        Key::count("min", 0, COUNT_MAX, "4", "Never fewer machines."),
        Key::count("max", 0, COUNT_MAX, "10", "Never more machines."),
        Key::count("desired", 0, COUNT_MAX, "6", "So many at this moment."),
    ],
};

static PREDICT: Keys = Keys {
    place: "[pool.NAME.scaling.predict]",
    about: "A forecast from what was at the same time of earlier seasons. It makes a pool larger ahead of time, never smaller.",
    keys: &[
        Key::text("metric", "\"requests\"", "What is measured, of the whole pool, as in [alarm.NAME].").required(),
        Key::number("value", "200.0", "What one machine carries of it; more than zero.").required(),
        Key::time("season", "\"24h\"", "After how long it repeats.").at_least_ms(60_000).default("24h"),
        Key::time("ahead", "\"10m\"", "How far it looks: about what a machine needs to be ready.").default("10m"),
        Key::choice(
            "mode",
            &[word("forecast-only", "it is only shown"), word("scale", "machines are made for it")],
            "What is done with the forecast.",
        )
        .default("forecast-only"),
    ],
};

static REFRESH: Keys = Keys {
    place: "[pool.NAME.scaling.refresh]",
    about: "How a new base rolls through the pool.",
    keys: &[
        Key::flag("automatic", "false", "By itself when the template has a new base; otherwise `weir scaling refresh` begins it."),
        Key::count("batch", 1, 1000, "1", "Machines that are replaced at once.").default("1"),
        Key::count("min_healthy", 0, 100, "100", "The least that serves meanwhile, in percent of what is wanted.").default("100"),
        Key::time("pause", "\"1m\"", "Between two batches.").zero("none").default("0s"),
        Key {
            example: "[\"20%\", \"50%\"]",
            ..Key::new("checkpoints", Kind::Texts, "Shares of the pool, growing, after which it waits for checkpoint_wait.")
        },
        Key::time("checkpoint_wait", "\"5m\"", "How long it waits there.").default("5m"),
        Key::flag("rollback", "true", "A new machine that fails ends it, and what was replaced is replaced by the base before."),
    ],
};

static LAUNCH_HOOK: Keys =
    Keys { place: "[pool.NAME.scaling.launch_hook]", about: "What is done with a new machine before it gets traffic.", keys: HOOK };

static TERMINATE_HOOK: Keys =
    Keys { place: "[pool.NAME.scaling.terminate_hook]", about: "What is done with a drained machine before it is shut down.", keys: HOOK };

const HOOK: &[Key] = &[
    Key {
        example: "[\"/usr/local/bin/hook\"]",
        ..Key::new(
            "command",
            Kind::Texts,
            "Program and arguments, no shell. It finds WEIR_HOOK, WEIR_POOL, WEIR_MACHINE, WEIR_ADDRESS and WEIR_HOST in its environment. \
             Either this or url.",
        )
    },
    Key::text(
        "url",
        "\"https://10.0.0.5:9000/launched\"",
        "Where the same is sent to as JSON, as https://HOST:PORT/PATH or with http; 200 to 299 is success.",
    ),
    CA_FILE,
    Key::time("timeout", "\"60s\"", "How long it may take; then it has failed.").default("60s"),
    Key::choice(
        "on_failure",
        &[word("abandon", "the launch is undone; a termination goes on"), word("continue", "it goes on as if it had worked")],
        "What a failure means.",
    )
    .default("abandon"),
];
