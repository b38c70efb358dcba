//! Who may come, how often, and what a route changes.

use crate::spec::{Key, Keys, Kind};

pub(super) static RATE_LIMIT: Keys = Keys {
    place: "[[listener.NAME.rate_limit]]",
    about: "A bound on requests; beyond it 429 with Retry-After. Kept for 65,536 keys at most: the least busy are forgotten first.",
    keys: &[
        Key::text(
            "per",
            "\"header:x-api-key\"",
            "What each has a bound of its own: source (IPv6 by its first 64 bits), header:NAME, or all together.",
        )
        .default("source"),
        Key::text("route", "\"api\"", "Only requests that the route of this name takes."),
        Key::count("requests_per_second", 1, 1_000_000, "100", "Requests a second. Either this, or requests_at_once, or both."),
        Key::count("burst", 1, 1_000_000, "200", "Requests that may come at once after a quiet time; as many as in a second if absent."),
        Key::count("requests_at_once", 1, 1_000_000, "20", "Requests under way, from the head to the end of the answer."),
    ],
};

pub(super) static EDITS: Keys = Keys {
    place: "[listener.NAME.route.request]",
    about: "Header fields that are removed, set and added, in this order. Those that frame a message cannot be.",
    keys: &[
        Key::list("remove", "[\"x-debug\"]", "Names of fields that are removed."),
        Key::new("set", Kind::Tables(&FIELD), "Fields that take the place of all of their name: { name = \"x-team\", value = \"a\" }."),
        Key::new("add", Kind::Tables(&FIELD), "Fields that come besides those that are there."),
    ],
};

static FIELD: Keys = Keys {
    place: "[[listener.NAME.route.request.set]]",
    about: "A header field.",
    keys: &[
        Key::text("name", "\"x-team\"", "The name.").required(),
        Key::text("value", "\"a\"", "The value, at most 4 KiB in one line.").required(),
    ],
};

pub(super) static REWRITE: Keys = Keys {
    place: "[listener.NAME.route.rewrite_regex]",
    about: "Changes the path.",
    keys: &[
        Key::text("match", "\"^/v[0-9]+/(.*)\"", "A regular expression, of which the first place found is replaced.").required(),
        Key::text("to", "\"/$1\"", "What comes there; $1 and ${name} stand for groups.").required(),
    ],
};
