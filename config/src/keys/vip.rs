//! `[cluster]` and `[vip.NAME]`.

use crate::spec::{Key, Keys, Kind, word};

pub(super) static CLUSTER: Keys = Keys {
    place: "[cluster]",
    about: "Which of several nodes acts for all.",
    keys: &[Key::text("leader_vip", "\"public\"", "The node that is master of this virtual IP acts; the others serve.").required()],
};

pub(super) static VIP: Keys = Keys {
    place: "[vip.NAME]",
    about: "Addresses that one of several nodes holds (VRRP, RFC 9568).",
    keys: &[
        Key::text("interface", "\"eth0\"", "The interface on which the nodes hear each other and on which the addresses are used.").required(),
        Key::count("router_id", 1, 255, "51", "The VRID: the same on all nodes of this virtual IP, and nobody else's on the network.")
            .required(),
        Key {
            example: "[\"10.0.0.100/24\"]",
            ..Key::new(
                "addresses",
                Kind::Texts,
                "The addresses with their prefix lengths, the same on all nodes. IPv4 and IPv6 move together.",
            )
        }
        .required(),
        Key::count("priority", 1, 255, "250", "The node with the highest is master; 250 and 245 make a fast pair. 255: the addresses are this node's own.")
            .default("250"),
        Key::time(
            "advertisement_interval",
            "\"100ms\"",
            "How often the master is heard; it is taken for dead after three of them and a little. Whole hundredths of a second, or whole seconds in version 2.",
        )
        .at_least_ms(10)
        .at_most_ms(40_950)
        .default("100ms"),
        Key::count("version", 2, 3, "3", "VRRP version: 3, or 2 for neighbours that know no other (IPv4 only).").default("3"),
        Key::flag("preempt", "true", "Take over from a master of lower priority."),
        Key::time("preempt_delay", "\"30s\"", "How long such a master is left alone. It never delays a takeover from a dead one.")
            .zero("not at all")
            .default("0s"),
        Key::time(
            "startup_delay",
            "\"10s\"",
            "How much longer than usual a node listens after its start, before it may become master: for links that carry nothing at first.",
        )
        .zero("not at all")
        .default("0s"),
        Key::flag("accept", "true", "The master takes packets to the addresses; false: it only forwards."),
        Key::choice(
            "mode",
            &[
                word("auto", "the first of the others that works here"),
                word("tun", "on a device that the kernel removes with the process"),
                word("macvlan", "on such a device with the virtual MAC"),
                word("interface", "on the interface itself, with a short lifetime that is kept fresh"),
            ],
            "Where the addresses live.",
        )
        .default("auto"),
        Key::text("source", "\"10.0.0.2\"", "The address advertisements are sent from; absent: the interface's own."),
        Key {
            example: "[\"10.0.0.3\", { address = \"10.1.0.3\", ttl_min = 254 }]",
            ..Key::new(
                "peers",
                Kind::Endpoints(&PEER),
                "The other nodes, as addresses or tables, told one by one where multicast does not pass; absent: multicast.",
            )
        },
        Key::choice(
            "checksum",
            &[word("pseudo-header", "with a pseudo-header, as keepalived and FRR do"), word("rfc9568", "without, as the RFC says")],
            "How version 3 over IPv4 is summed when sent; both are understood.",
        )
        .default("pseudo-header"),
        Key::text("sync_group", "\"edge\"", "Virtual IPs of one group are master together or not at all."),
        Key {
            example: "[\"/etc/weir/vip-changed\"]",
            ..Key::new(
                "notify",
                Kind::Texts,
                "Program and arguments, no shell, run at each change of state. It finds WEIR_VIP, WEIR_STATE, WEIR_PREVIOUS_STATE and WEIR_REASON in its environment.",
            )
        },
        Key::new("auth", Kind::Table(&AUTH), "Signed advertisements. Without this table anybody on the network can be master."),
        Key::new("announce", Kind::Table(&ANNOUNCE), "How a master tells the network where the addresses are."),
        Key::new(
            "track",
            Kind::Tables(&TRACK),
            "What must be well for this node to be master, each written as [[vip.NAME.track]] with one of interface, listener, pool, file and command.",
        ),
    ],
};

static PEER: Keys = Keys {
    place: "a peer",
    about: "Another node of the virtual router.",
    keys: &[
        Key::text("address", "\"10.0.0.3\"", "Its address.").required(),
        Key::count("ttl_min", 1, 255, "254", "What it sends must arrive with at least this TTL; 255: it is on the same link.")
            .default("255"),
    ],
};

static AUTH: Keys = Keys {
    place: "[vip.NAME.auth]",
    about: "Advertisements are signed with HMAC-SHA256, and others are not believed.",
    keys: &[
        Key::text(
            "key_file",
            "\"/etc/weir/vrrp.keys\"",
            "Lines of an id, 0 to 255, and a key of 16 to 64 bytes in hexadecimal. The first signs, all verify, so that keys can be changed one node at a time.",
        )
        .required(),
        Key::time("replay_window", "\"2s\"", "How old a signed advertisement may be; the clocks of the nodes must agree to within half of it.")
            .at_least_ms(100)
            .default("2s"),
    ],
};

static ANNOUNCE: Keys = Keys {
    place: "[vip.NAME.announce]",
    about: "Gratuitous ARP and unsolicited neighbour advertisements of a master.",
    keys: &[
        Key::count("count", 1, 100, "5", "Announcements of each address in a burst.").default("5"),
        Key::time("interval", "\"20ms\"", "Between two of a burst.").default("20ms"),
        Key::time("repeat", "\"5s\"", "From the first burst to a second one.").zero("none").default("5s"),
        Key::time("refresh", "\"60s\"", "One announcement of each address so often, as switches and neighbours forget.")
            .zero("never")
            .default("60s"),
    ],
};

static TRACK: Keys = Keys {
    place: "[[vip.NAME.track]]",
    about: "Something that must be well for this node to be master.",
    keys: &[
        Key::text("interface", "\"eth1\"", "This interface is up."),
        Key::text("listener", "\"web\"", "The data plane answers on this listener."),
        Key::text(
            "pool",
            "\"web\"",
            "This pool has min_healthy healthy endpoints. Without `lower` the addresses move only to a node that counts more of them.",
        ),
        Key::text("file", "\"/run/weir/maintenance\"", "This file is absent, empty, or holds a 0."),
        Key { example: "[\"/usr/local/bin/check-uplink\"]", ..Key::new("command", Kind::Texts, "This program, no shell, exits with 0.") },
        Key::count("lower", 1, 254, "20", "The priority is lower by this while it is not well; absent: the node is not eligible."),
        Key::time("interval", "\"1s\"", "From one run of the command to the next. Only for command; absent: 1s.").at_least_ms(10),
        Key::time(
            "timeout",
            "\"1s\"",
            "How long a run may take, at most interval. Only for command; absent: 1s, or interval if that is less.",
        ),
        Key::count("rise", 1, 1000, "2", "Successes in a row until it is well. Only for command; absent: 2."),
        Key::count("fall", 1, 1000, "2", "Failures in a row until it is not. Only for command; absent: 2."),
    ],
};
