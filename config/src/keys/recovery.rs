//! The keys of `[recovery.NAME]`.

use crate::spec::{Key, Keys, Kind, word};

pub(super) static RECOVERY: Keys = Keys {
    place: "[recovery.NAME]",
    about: "What is tried, in this order, when something is ill, before people are told.",
    keys: &[
        Key::text("pool", "\"web\"", "Heals the endpoints of this pool, and the machines behind them. One of pool, template, machine and alarm."),
        Key::text("template", "\"web\"", "Heals the machines of this template."),
        Key::text("machine", "\"db-1\"", "Heals this machine, by its name."),
        Key::text("alarm", "\"web-busy\"", "Is gone through while this alarm is in alarm, unless it is muted or suppressed."),
        Key::time("after", "\"10s\"", "How long something must be ill before anything is tried.").zero("not at all").default("0s"),
        Key::time(
            "stable",
            "\"10m\"",
            "How long a success must last. What falls ill again before that goes on with the next attempt; after it everything may be tried again.",
        )
        .default("10m"),
        Key::count("at_once", 1, 100, "1", "Things that are worked on at a time.").default("1"),
        Key::count(
            "ill_max",
            1,
            100,
            "50",
            "The brake, in percent: when more than one thing and more of all of them than this is ill at once, nothing is tried and people are told.",
        )
        .default("50"),
        Key::flag("dry_run", "false", "Nothing is done; it is only said what would be."),
        Key::new("attempt", Kind::Tables(&ATTEMPT), "What is tried, in this order, each written as [[recovery.NAME.attempt]].").required(),
    ],
};

static ATTEMPT: Keys = Keys {
    place: "[[recovery.NAME.attempt]]",
    about: "Something that is tried. The next one follows if the fault is still there afterwards.",
    keys: &[
        Key::choice(
            "action",
            &[
                word("script", "a program is run on this node"),
                word("reboot", "the machine's guest is asked to reboot"),
                word("restart", "the machine is shut down, by force where its guest does not do it, and started"),
                word("reset", "the machine is reset, as by its button"),
                word("replace", "a fresh clone takes the machine's place in its scaled pool"),
                word("drain", "the endpoint gets no new work until it is well"),
                word("release-vip", "another node becomes master of a virtual IP"),
            ],
            "What is done.",
        )
        .required(),
        Key {
            example: "[\"/usr/local/bin/repair\"]",
            ..Key::new(
                "command",
                Kind::Texts,
                "Program and arguments, no shell. It gets what is ill as JSON on its standard input and finds WEIR_RECOVERY, WEIR_THING, WEIR_REASON, \
                 WEIR_KEY, WEIR_ATTEMPT, and where they are known WEIR_POOL, WEIR_ENDPOINT, WEIR_MACHINE, WEIR_HOST and WEIR_ALARM in its environment. \
                 Whatever it started is ended with it. Only for script, and required there.",
            )
        },
        Key::text("vip", "\"public\"", "The virtual IP. Only for release-vip, and required there."),
        Key::time("limit", "\"60s\"", "How long the action may take; then it has failed. Absent: 60s, or 10m for replace."),
        Key::time("wait", "\"30s\"", "How long after the action the fault may take to go; then the next attempt is made.").default("30s"),
        Key::count("times", 1, 100, "1", "How often it is made before the next attempt.").default("1"),
        Key {
            example: "[\"/usr/local/bin/is-well\"]",
            ..Key::new(
                "check",
                Kind::Texts,
                "A program that must exit with 0, too, before the fault counts as gone. It finds in its environment what command does.",
            )
        },
    ],
};
