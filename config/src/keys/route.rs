//! `[[listener.NAME.route]]`.

use super::KIB;
use super::limit::{EDITS, REWRITE};
use crate::spec::{Key, Keys, Kind, word};

pub(super) static ROUTE: Keys = Keys {
    place: "[[listener.NAME.route]]",
    about: "A rule that says where a request goes. Conditions of different kinds must all hold; within a list one is enough. A condition that is absent matches everything.",
    keys: &[
        Key::text("name", "\"api\"", "What metrics and explanations call this route; without it, its number from 1."),
        Key::list("host", "\"api.example.com\"", "The host, without port, or a list; \"*.example.com\" for all below it, however deep."),
        Key::text("path", "\"/v1/\"", "A prefix of the path, beginning with a slash."),
        Key::text("path_exact", "\"/login\"", "The path, exactly."),
        Key::text("path_regex", "\"/users/[0-9]+\"", "A regular expression for the path from its beginning to its end."),
        Key::list("method", "[\"GET\", \"HEAD\"]", "The method, or a list."),
        Key::new("header", Kind::Tables(&HEADER), "Header fields, all of which must be as told: { name = \"x-beta\", value = \"1\" }."),
        Key::new("cookie", Kind::Tables(&COOKIE), "Cookies, all of which must be as told: { name = \"group\", value = \"b\" }."),
        Key::new("query", Kind::Tables(&QUERY), "Query parameters, all of which must be as told: { name = \"debug\" }."),
        Key::list("source", "[\"10.0.0.0/8\"]", "The client's address or range of addresses, or a list."),
        Key::list(
            "sni",
            "\"api.example.com\"",
            "The name that the client asked for in its TLS handshake, or a list; \"*.\" as for host. One that hides its name (ECH) asks for a public one.",
        ),
        Key::text("pool", "\"api\"", "The pool that serves what matches. Either this, or split, redirect or answer."),
        Key::new("split", Kind::Tables(&SPLIT), "Pools of which chance picks one by weight: [{ pool = \"a\", weight = 95 }, ...]."),
        Key::new("redirect", Kind::Table(&REDIRECT), "The client is sent elsewhere."),
        Key::new("answer", Kind::Table(&ANSWER), "The client is answered by us."),
        Key::new("mirror", Kind::Table(&MIRROR), "Another pool gets the requests too; nobody hears its answers."),
        Key::count("priority", 0, 9, "8", "Of requests that wait for an endpoint, those of a higher priority go first; in a full queue they take the place of lower ones.")
            .default("5"),
        Key::text("rewrite_prefix", "\"/\"", "The endpoint gets this in place of the route's path."),
        Key::new("rewrite_regex", Kind::Table(&REWRITE), "The endpoint gets another path."),
        Key::flag(
            "rewrite_location",
            "false",
            "Where the endpoint sends a client (Location) is named as it is outside: the scheme and host that were asked for, and the path before rewrite_prefix.",
        ),
        Key::new("request", Kind::Table(&EDITS), "What is changed on the request's header fields."),
        Key::new("response", Kind::Table(&EDITS), "What is changed on the response's header fields."),
    ],
};

const fn value(about: &'static str) -> Key {
    Key::text("value", "\"1\"", about)
}

const REGEX: Key = Key::text("regex", "\"v[0-9]+\"", "A regular expression for the value from its beginning to its end.");
const PRESENT: Key = Key::flag("present", "true", "False: there must be none of this name.");

static HEADER: Keys = Keys {
    place: "[[listener.NAME.route.header]]",
    about: "A header field. With neither value nor regex it must only be there.",
    keys: &[Key::text("name", "\"x-beta\"", "The name, in any case.").required(), value("The value."), REGEX, PRESENT],
};

static COOKIE: Keys = Keys {
    place: "[[listener.NAME.route.cookie]]",
    about: "A cookie. With neither value nor regex it must only be there.",
    keys: &[Key::text("name", "\"group\"", "The name.").required(), value("The value."), REGEX, PRESENT],
};

static QUERY: Keys = Keys {
    place: "[[listener.NAME.route.query]]",
    about: "A query parameter. With neither value nor regex it must only be there.",
    keys: &[Key::text("name", "\"debug\"", "The name.").required(), value("The value, compared after percent-decoding."), REGEX, PRESENT],
};

static SPLIT: Keys = Keys {
    place: "[[listener.NAME.route.split]]",
    about: "One of the pools.",
    keys: &[
        Key::text("pool", "\"web\"", "The pool.").required(),
        Key::count("weight", 0, 1_000_000, "95", "Its share of the requests, relative to the others.").required(),
    ],
};

static MIRROR: Keys = Keys {
    place: "[listener.NAME.route.mirror]",
    about: "Another pool gets the requests too, over HTTP/1.1, as long as it keeps up. Requests whose body does not come with their head, or that ask for an upgrade, are left out.",
    keys: &[
        Key::text("pool", "\"shadow\"", "The pool.").required(),
        Key::count("percent", 1, 100, "10", "Of the requests.").default("100"),
    ],
};

static REDIRECT: Keys = Keys {
    place: "[listener.NAME.route.redirect]",
    about: "Where the client is sent. What is absent is as the client asked for; its query is kept.",
    keys: &[
        Key::choice(
            "status",
            &[
                word("301", "for good; many clients then GET"),
                word("302", "for now; many clients then GET"),
                word("303", "for now, by GET"),
                word("307", "for now, by the same method"),
                word("308", "for good, by the same method"),
            ],
            "The status.",
        )
        .default("308"),
        Key::choice("scheme", &[word("http", "without TLS"), word("https", "with TLS")], "The scheme."),
        Key::text("host", "\"www.example.com\"", "The host, without port."),
        Key::count("port", 1, 65535, "8443", "The port; that of the scheme if absent."),
        Key::text("path", "\"/new\"", "The path, in place of the whole old one."),
    ],
};

/// The longest body of an answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * KIB as usize;

static ANSWER: Keys = Keys {
    place: "[listener.NAME.route.answer]",
    about: "A response of our own.",
    keys: &[
        Key::count("status", 200, 599, "404", "The status.").required(),
        Key::text("body", "\"closed for today\"", "The body, at most 64 KiB."),
        Key::text("content_type", "\"text/html\"", "The body's type.").default("text/plain; charset=utf-8"),
    ],
};
