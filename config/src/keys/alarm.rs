//! The keys of `[alarm.NAME]` and `[metric.NAME]`.

use crate::spec::{Key, Keys, Kind, word};

pub(super) static ALARM: Keys = Keys {
    place: "[alarm.NAME]",
    about: "Something that is watched, and what is done when it goes wrong.",
    keys: &[
        Key::text("pool", "\"web\"", "The pool that is watched. One of pool, host and machine; with when: the pool that scale is about."),
        Key::text("host", "\"kvm-a\"", "The host that is watched."),
        Key::text("machine", "\"web-1\"", "The machine that is watched, by its name."),
        Key::text(
            "metric",
            "\"cpu\"",
            "What is measured: cpu, memory, disk-read, disk-written, disk-operations, disk-latency, net-received, net-sent of machines, the first \
             two of hosts too; cpu-pressure, memory-pressure, io-pressure, disk-space of hosts; requests, requests-per-endpoint, in-flight, \
             in-flight-per-endpoint, queue-length, queued, queue-wait, latency-p50, latency-p95, latency-p99, error-rate, healthy-share of \
             pools; or the name of a [metric.NAME]. Shares are percent, times milliseconds.",
        ),
        Key::text(
            "statistic",
            "\"average\"",
            "How the samples of a period become one data point: average, sum, minimum, maximum, p1 to p99.",
        )
        .default("average"),
        Key::time("period", "\"10s\"", "Length of a period.").at_least_ms(1000).at_most_ms(86_400_000).default("10s"),
        Key::number("above", "70.0", "A data point above this breaches. Either this or below, unless when is given."),
        Key::number("below", "20.0", "A data point below this breaches."),
        Key::number("clear", "60.0", "Once in alarm, a data point breaches until it is on this side. Absent: the threshold itself."),
        Key::time("for", "\"30s\"", "How long every data point must breach. Either this or periods and datapoints; absent: one period.")
            .at_least_ms(1000),
        Key::count("periods", 1, 1000, "5", "How many data points are looked at, the last ones."),
        Key::count("datapoints", 1, 1000, "3", "How many of them must breach. At most periods; absent: all."),
        Key::choice(
            "missing",
            &[
                word("missing", "counts as nothing; when all are missing, there is not enough data"),
                word("breaching", "counts as breaching"),
                word("not-breaching", "counts as good"),
                word("ignore", "the state stays as it is"),
            ],
            "What a period without data point counts as.",
        )
        .default("missing"),
        Key::choice(
            "severity",
            &[word("info", "worth knowing"), word("warning", "somebody should look"), word("critical", "somebody must act now")],
            "How bad it is.",
        )
        .default("warning"),
        Key::text(
            "when",
            "\"web-busy and not (deploy or backup)\"",
            "Instead of a metric: other alarms, with and, or, not and parentheses.",
        ),
        Key::text("suppressor", "\"maintenance\"", "Another alarm: while it is in alarm, nothing is done about this one."),
        Key::time("suppress_wait", "\"30s\"", "How long what is to be done waits for the suppressor. Only with suppressor.")
            .zero("not at all")
            .default("0s"),
        Key::time("suppress_extension", "\"1m\"", "How long nothing is done after the suppressor's end. Only with suppressor.")
            .zero("not at all")
            .default("0s"),
        Key::text("scale", "\"+1\"", "Scales the pool while in alarm: \"+1\", \"-1\", \"+50%\", \"-10%\" or \"=4\"."),
        Key {
            example: "[\"oncall\"]",
            ..Key::new("notify", Kind::Texts, "The channels that are told of it, before all rules. Absent: the rules decide.")
        },
        Key {
            example: "[\"/usr/local/bin/repair\"]",
            ..Key::new(
                "recover",
                Kind::Texts,
                "Program and arguments, no shell, run once when it goes into alarm. It finds WEIR_ALARM, WEIR_STATE and WEIR_REASON in its environment.",
            )
        },
        Key::time("recover_timeout", "\"60s\"", "How long that program may take. Only with recover.").default("60s"),
        Key::new("mute", Kind::Tables(&MUTE), "Times in which nothing is done about it, each written as [[alarm.NAME.mute]]."),
    ],
};

static MUTE: Keys = Keys {
    place: "[[alarm.NAME.mute]]",
    about: "A time that comes again, in which the state is watched, but nothing is done about it.",
    keys: &[
        Key::text("cron", "\"0 22 * * *\"", "When it begins: minute, hour, day of month, month, day of week.").required(),
        Key::text("time_zone", "\"Europe/Berlin\"", "In which time zone.").default("UTC"),
        Key::time("duration", "\"8h\"", "How long it lasts.").required(),
    ],
};

/// Beside a URL that may be one of https.
pub(super) const CA_FILE: Key = Key::text(
    "ca_file",
    "\"/etc/weir/ca.pem\"",
    "The authorities that the server's certificate is checked against, an absolute path; absent: the system's. Only with https.",
);

pub(super) static METRIC: Keys = Keys {
    place: "[metric.NAME]",
    about: "One number from elsewhere, for alarms and scaling.",
    keys: &[
        Key::text("prometheus", "\"http://10.0.0.5:9090\"", "A Prometheus, as http://HOST:PORT, or with https. Either this or command."),
        Key::text(
            "query",
            "\"sum(rate(jobs_total[1m]))\"",
            "What it is asked for; the first sample counts. Only with prometheus, and required there.",
        ),
        Key::text(
            "token_file",
            "\"/etc/weir/prometheus.token\"",
            "A file with a bearer token for it, an absolute path. Only with prometheus.",
        ),
        CA_FILE,
        Key {
            example: "[\"/usr/local/bin/queue-depth\"]",
            ..Key::new("command", Kind::Texts, "Program and arguments, no shell; it prints the number.")
        },
        Key::time("interval", "\"10s\"", "From one look to the next.").at_least_ms(1000).default("10s"),
        Key::time("timeout", "\"5s\"", "How long an answer may take; then there is no data point. At most interval.").default("5s"),
    ],
};
