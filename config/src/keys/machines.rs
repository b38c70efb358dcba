//! The keys of `[host.NAME]` and `[template.NAME]`.

use crate::spec::{Key, Keys, Kind, word};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

pub(super) static HOST: Keys = Keys {
    place: "[host.NAME]",
    about: "A machine that runs virtual machines, reached through libvirt.",
    keys: &[
        Key::text("uri", "\"qemu+tls://kvm-a/system\"", "A libvirt URI. Each host has its own.").required(),
        Key::text(
            "migration_uri",
            "\"qemu+tcp://10.0.0.1/system\"",
            "How the other hosts reach this one when a machine moves here. Absent: uri.",
        ),
        Key { example: "[\"rack=a\"]", ..Key::new("labels", Kind::Texts, "Labels, each written as \"key=value\".") },
        Key::text("storage_pool", "\"default\"", "The libvirt storage pool, a folder, that holds bases and clones.").default("default"),
        Key::choice(
            "domain_type",
            &[
                word("auto", "kvm if a machine that is really started with it lives, which is tried once and remembered; else qemu"),
                word("kvm", "virtualised by the processor"),
                word("qemu", "emulated by software"),
            ],
            "How machines are virtualised here.",
        )
        .default("auto"),
        Key::size(
            "memory_max",
            MIB,
            1024 * TIB,
            "\"64GiB\"",
            "Memory that all machines together may be promised. Absent: what the host has.",
        ),
        Key::size("memory_reserve", 0, 1024 * TIB, "\"512MiB\"", "Memory that stays free for the host itself; 0 keeps none.")
            .default("512MiB"),
        Key::count("vcpus_max", 1, u32::MAX as u64, "64", "Virtual processors that all running machines together may have.")
            .zero("no bound")
            .default("0"),
        Key::count("machines_max", 1, u32::MAX as u64, "50", "Machines that may run at once, paused ones included.")
            .zero("no bound")
            .default("0"),
        Key::size("disk_reserve", 0, 1 << 60, "\"1GiB\"", "Space of the storage pool that stays free; 0 keeps none.").default("1GiB"),
        Key::time("interval", "\"1s\"", "From one look at its counters to the next.").at_least_ms(100).default("1s"),
        Key::time("timeout", "\"10s\"", "How long one call may take before the host counts as not answering.")
            .at_least_ms(100)
            .default("10s"),
    ],
};

pub(super) static TEMPLATE: Keys = Keys {
    place: "[template.NAME]",
    about: "What clones are made of: a master machine, or an image file.",
    keys: &[
        Key::text("master", "\"web-master\"", "A machine on one of the hosts, shut down when its disk is read. Either this or image."),
        Key::text(
            "image",
            "\"/var/lib/weir/images/web.qcow2\"",
            "An image file on this node, qcow2 or raw, an absolute path. Either this or master.",
        ),
        Key::text("checksum", "\"sha256:...\"", "What the image's content must be: sha256: and 64 hexadecimal digits. Only with image."),
        Key::size("memory", 16 * MIB, 64 * TIB, "\"2GiB\"", "Memory of a clone. Required with image; absent: the master's."),
        Key::count("vcpus", 1, 4096, "2", "Virtual processors of a clone. Absent: the master's, or 1."),
        Key::text("network", "\"default\"", "The libvirt network a clone is plugged into. Either this or bridge."),
        Key::text("bridge", "\"br0\"", "The host's bridge a clone is plugged into. Either this or network."),
        Key::size("disk", MIB, 1 << 60, "\"20GiB\"", "Size of a clone's disk, at least that of the base. Absent: that of the base."),
        Key::text("kernel", "\"/var/lib/weir/vmlinuz\"", "A kernel to start without boot loader, a path on the hosts. Only with image."),
        Key::text("initrd", "\"/var/lib/weir/initrd\"", "Its initial RAM disk, a path on the hosts. Only with kernel."),
        Key::text("kernel_args", "\"console=ttyS0 root=/dev/vda\"", "Its command line. Only with kernel."),
        Key::count("port", 1, 65535, "8080", "Where the machine's service listens."),
        Key::time("boot_timeout", "\"5m\"", "From the start until it must be ready; then it is removed again.").default("5m"),
        Key::choice(
            "ready",
            &[
                word("address", "its address is known"),
                word("tcp", "its port takes a connection"),
                word("http", "its port answers ready_path with 200 to 399"),
            ],
            "When a started clone counts as booted.",
        )
        .default("address"),
        Key::text("ready_path", "\"/healthz\"", "What is asked for with ready = \"http\", beginning with a slash.").default("/"),
        Key::text("user_data", "\"/etc/weir/web.user-data\"", "A file for cloud-init, handed on as it is. An absolute path."),
        Key::text(
            "network_config",
            "\"/etc/weir/web.network-config\"",
            "A file for cloud-init, instead of the one made here. An absolute path.",
        ),
        Key::choice(
            "address",
            &[
                word("lease", "the DHCP server of libvirt's network is asked"),
                word("agent", "the guest's agent is asked"),
                word("arp", "the host's ARP table is asked"),
                word("static", "given out from [template.NAME.static]"),
            ],
            "Where a clone's address comes from. Absent: static where that table is written, else lease.",
        ),
        Key::new("static", Kind::Table(&STATIC), "Addresses that are given out and written into the seed."),
        Key::choice(
            "clone",
            &[word("linked", "an overlay on the base, made in milliseconds"), word("full", "a copy of its own, independent of the base")],
            "How a clone's disk is made.",
        )
        .default("linked"),
        Key::count("warm", 0, 1000, "1", "Clones kept booted and paused, ready to serve at once; 0 for none.").default("0"),
        Key::choice(
            "warm_mode",
            &[
                word("paused", "in memory: resumed in milliseconds, and it counts against the host's memory"),
                word("saved", "with its memory on disk: resumed in seconds, and only its disk counts"),
            ],
            "How a warm clone waits.",
        )
        .default("paused"),
        Key::flag(
            "display",
            "false",
            "A screen: what a screenshot shows, and VNC on the host's loopback. Without it a clone starts faster. Only with image.",
        ),
        Key::flag("shared_storage", "false", "The storage pools of all hosts are the same place: bases are not copied, disks do not move."),
        Key { example: "[\"kvm-a\"]", ..Key::new("hosts", Kind::Texts, "The hosts where clones may run. Absent: all.") },
    ],
};

static STATIC: Keys = Keys {
    place: "[template.NAME.static]",
    about: "Addresses that are given out, each to one machine at a time.",
    keys: &[
        Key::text("first", "\"10.0.0.50\"", "The first address.").required(),
        Key::text("last", "\"10.0.0.99\"", "The last address, not before the first.").required(),
        Key::count("prefix", 1, 128, "24", "Length of the network's prefix.").required(),
        Key::text("gateway", "\"10.0.0.1\"", "The default gateway."),
        Key { example: "[\"10.0.0.1\"]", ..Key::new("dns", Kind::Texts, "Name servers.") },
    ],
};
