//! What is said to those in front of and behind this node besides the traffic.

use crate::spec::{Key, Keys};

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
