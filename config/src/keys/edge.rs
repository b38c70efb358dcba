//! What is said to those in front of and behind this node besides the traffic.

use crate::spec::{Key, Keys, word};

pub(super) static SESSION: Keys = Keys {
    place: "[pool.NAME.session]",
    about: "Clients stay on the endpoint that they had before.",
    keys: &[
        Key::choice(
            "type",
            &[
                word("cookie", "by a signed cookie, which nodes with the same keys understand alike"),
                word("source", "by the client's address, in a table of each node"),
            ],
            "How a client is known again. A cookie is only for http.",
        )
        .required(),
        Key::choice(
            "gone",
            &[
                word("rebalance", "another endpoint takes the client, for good"),
                word("fail", "requests are answered 503, and sessions closed"),
            ],
            "What happens when the endpoint is down, draining, full or no longer in the pool.",
        )
        .default("rebalance"),
        Key::text("name", "\"weir-session\"", "The cookie's name. Only for cookie; absent: weir-session."),
        Key::text(
            "key_file",
            "\"/etc/weir/session.keys\"",
            "Lines of secrets of at least 32 characters, such as `openssl rand -hex 32` prints; the first signs, all are accepted. The same on all nodes; read at each reload. Only for cookie, and required there.",
        ),
        Key::text("path", "\"/\"", "The cookie's path. Only for cookie; absent: /."),
        Key::text("domain", "\"example.com\"", "The cookie's domain. Only for cookie; absent: the host that was asked."),
        Key::time("max_age", "\"24h\"", "How long the client keeps the cookie. Only for cookie; absent: until the browser ends.")
            .zero("until the browser ends"),
        Key::choice(
            "secure",
            &[
                word("auto", "if it came by HTTPS"),
                word("always", "TLS ends in front of this node"),
                word("never", "it is sent without TLS too"),
            ],
            "Whether the client sends the cookie by HTTPS alone. Only for cookie; absent: auto.",
        ),
        Key::choice(
            "same_site",
            &[
                word("strict", "no request that another site causes brings it"),
                word("lax", "of those, only links that are followed do"),
                word("none", "all do; browsers want it secure then"),
            ],
            "The cookie's SameSite. Only for cookie; absent: lax.",
        ),
        Key::time("expiry", "\"30m\"", "How long after its last request or session a client is remembered. Only for source; absent: 30m."),
        Key::count(
            "clients_max",
            16,
            10_000_000,
            "65536",
            "Clients remembered; beyond it the quietest are forgotten. Only for source; absent: 65536.",
        ),
    ],
};

pub(super) static ANNOUNCERS: Keys = Keys {
    place: "[listener.NAME.proxy_protocol]",
    about: "Proxies in front that announce each client. What they announce is the client's address for everything: allow and deny, routes, limits, hashing, headers and the log.",
    keys: &[Key::list(
        "trusted",
        "[\"10.0.0.5\"]",
        "Addresses or ranges of these proxies. Who connects from there must begin with a PROXY header; everybody else is a client, and begins as one.",
    )
    .required()],
};
