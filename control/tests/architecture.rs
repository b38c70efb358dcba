//! Which crate may know which: read from the manifests, so that a new dependency in the wrong direction fails a test and not a review.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate of ours and those of ours it may depend on. `control` wires the rooms; `config` knows nobody; `benches` measures from outside
/// and nobody looks at it.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("weir-config", &[]),
    ("weir-acme", &["weir-config"]),
    ("weir-lb", &["weir-config"]),
    ("weir-vrrp", &["weir-config"]),
    ("weir-hypervisor", &["weir-config"]),
    ("weir-libvirt", &["weir-hypervisor", "weir-config"]),
    ("weir-autoscaler", &["weir-config"]),
    ("weir-notify", &["weir-config"]),
    ("weir-recovery", &["weir-config"]),
    ("weir-history", &["weir-config"]),
    ("weir-import", &["weir-config"]),
    // Some of its tests are made of a lab.
    (
        "weir-control",
        &[
            "weir-acme",
            "weir-autoscaler",
            "weir-history",
            "weir-hypervisor",
            "weir-import",
            "weir-lb",
            "weir-notify",
            "weir-recovery",
            "weir-vrrp",
            "weir-config",
            "weir-lab",
        ],
    ),
    ("weir-benches", &["weir-control", "weir-lb", "weir-hypervisor", "weir-lab", "weir-config"]),
    ("weir-hypervisor", &["weir-config"]),
    ("weir-lab", &[]),
    // Its tests are made of a lab.
    ("weir-libvirt", &["weir-hypervisor", "weir-config", "weir-lab"]),
];

/// Crates that a pure room must not need.
const KEPT_OUT: &[(&str, &[&str])] = &[
    // The file as a value: no sockets, no clock, no runtime.
    ("weir-config", &["tokio", "socket2", "rustix", "tracing", "axum", "ureq"]),
    // Whoever builds `weir` needs no libvirt.
    ("weir-hypervisor", &["virt", "virt-sys", "axum", "clap", "ureq", "weir-lb"]),
    ("weir-control", &["virt", "virt-sys", "weir-libvirt"]),
    // The data plane serves traffic; the API and the command line are the program's.
    ("weir-lb", &["axum", "clap", "ureq", "utoipa", "miette", "anyhow"]),
    // Ordering certificates knows nobody who serves them.
    ("weir-acme", &["axum", "clap", "ureq", "utoipa", "anyhow", "weir-lb", "tracing"]),
    // Alarms and plans: no runtime, no sockets.
    ("weir-autoscaler", &["tokio", "rustix", "axum", "clap", "ureq", "tracing"]),
    // Healing decides; whoever acts on machines is somewhere else.
    ("weir-recovery", &["tokio", "axum", "clap", "ureq", "tracing", "weir-lb", "weir-hypervisor"]),
    // What was knows no event and no API: it keeps what it is given.
    ("weir-history", &["tokio", "axum", "clap", "ureq", "utoipa", "anyhow", "serde_json"]),
    // Telling people knows no API and no command line.
    ("weir-notify", &["axum", "clap", "ureq", "utoipa", "anyhow", "weir-lb"]),
    // Other people's files as ours: text alone.
    ("weir-import", &["tokio", "rustix", "axum", "clap", "ureq", "tracing", "anyhow"]),
    // The virtual router has a thread of its own; nothing that could hold it up.
    ("weir-vrrp", &["tokio", "axum", "clap", "ureq", "utoipa", "miette", "anyhow"]),
];

/// Rooms that take time, bytes and chance as arguments. Each turns on the ban list of `clippy.toml`, for itself and the rooms inside it.
const PURE: &[&str] = &[
    "acme/src/plan.rs",
    "autoscaler/src/lib.rs",
    "config/src/lib.rs",
    "import/src/lib.rs",
    "hypervisor/src/capacity.rs",
    "hypervisor/src/domain.rs",
    "hypervisor/src/metadata.rs",
    "hypervisor/src/seed.rs",
    "hypervisor/src/xml.rs",
    "history/src/audit.rs",
    "history/src/point.rs",
    "history/src/roll.rs",
    "lb/src/http1/mod.rs",
    "lb/src/h2/mod.rs",
    "notify/src/channel/smpp/pdu.rs",
    "notify/src/channel/sms/length.rs",
    "notify/src/channel/snmp/ber.rs",
    "notify/src/channel/snmp/event.rs",
    "notify/src/channel/snmp/pdu.rs",
    "notify/src/channel/ticket/jira.rs",
    "notify/src/channel/ticket/redmine.rs",
    "notify/src/channel/webhook/alertmanager.rs",
    "notify/src/channel/webhook/chat.rs",
    "notify/src/channel/webhook/sign.rs",
    "notify/src/engine/mod.rs",
    "notify/src/link.rs",
    "notify/src/schedule.rs",
    "notify/src/text.rs",
    "recovery/src/healer.rs",
    "lb/src/balance/mod.rs",
    "lb/src/route/mod.rs",
    "lb/src/limit.rs",
    "lb/src/health/verdict.rs",
    "lb/src/health/monitor.rs",
    "lb/src/health/ejection.rs",
    "lb/src/director/core.rs",
    "lb/src/director/pool.rs",
    "lb/src/director/slots.rs",
    "lb/src/director/names.rs",
    "vrrp/src/packet/mod.rs",
    "vrrp/src/machine/mod.rs",
    "vrrp/src/group.rs",
];

/// What turns it on. Tests may read the clock.
const BAN: &str = "#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace holds this crate").to_path_buf()
}

fn manifest(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The workspace's manifests by crate name.
fn members() -> BTreeMap<String, (PathBuf, toml::Table)> {
    let workspace = manifest(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("a list of members");
    members
        .iter()
        .map(|member| {
            let folder = root().join(member.as_str().expect("a member is a path"));
            let table = manifest(&folder.join("Cargo.toml"));
            (table["package"]["name"].as_str().expect("a crate has a name").to_owned(), (folder, table))
        })
        .collect()
}

/// Everything a crate depends on, for whatever purpose and platform.
fn dependencies(table: &toml::Table) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("dependencies" | "dev-dependencies" | "build-dependencies", toml::Value::Table(list)) => {
                for (name, what) in list {
                    found.insert(what.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned());
                }
            }
            ("target", toml::Value::Table(targets)) => {
                for target in targets.values().filter_map(toml::Value::as_table) {
                    found.append(&mut dependencies(target));
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn crates_depend_in_one_direction() {
    let members = members();
    let known: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    for (name, (_, table)) in &members {
        let allowed = known.get(name.as_str()).unwrap_or_else(|| panic!("{name} is new: say here what it may depend on"));
        for dependency in dependencies(table).iter().filter(|dependency| members.contains_key(*dependency)) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
    assert_eq!(known.len(), members.len(), "a crate listed here is no longer a member");
}

#[test]
fn rooms_stay_free_of_what_they_must_not_know() {
    let members = members();
    for (name, kept_out) in KEPT_OUT {
        let found = dependencies(&members[*name].1);
        for dependency in *kept_out {
            assert!(!found.contains(*dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn versions_are_named_in_one_place() {
    for (name, (_, table)) in members() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, what) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let inherited = what.get("workspace").and_then(toml::Value::as_bool).unwrap_or(false);
                assert!(inherited, "{name}: {dependency} names its own version; it belongs into the workspace's manifest");
            }
        }
    }
}

#[test]
fn every_crate_obeys_the_workspace() {
    for (name, (_, table)) in members() {
        let inherits = |section: &toml::Table, key: &str| section.get(key).and_then(|value| value.get("workspace")).is_some();
        assert_eq!(table.get("lints").and_then(|lints| lints.get("workspace")), Some(&toml::Value::Boolean(true)), "{name}: lints");
        let package = table["package"].as_table().expect("a crate has a package table");
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(inherits(package, key) || package[key].get("workspace").is_some(), "{name}: {key} is not the workspace's");
        }
        assert!(package.contains_key("description"), "{name} does not say what it is for");
    }
}

#[test]
fn pure_rooms_are_held_to_it() {
    for room in PURE {
        let text = fs::read_to_string(root().join(room)).unwrap_or_else(|e| panic!("{room}: {e}"));
        assert!(text.contains(BAN), "{room} must begin with {BAN}");
    }
}

/// Files that may lift the ban on `unsafe_code`: the corners where the kernel is spoken to directly.
#[test]
fn unsafe_code_stays_in_the_shell() {
    for (name, (folder, _)) in members() {
        for file in rust_files(&folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let lifted = text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code");
            let allowed = file.components().any(|part| ["shell", "sys", "sys.rs"].iter().any(|corner| part.as_os_str() == *corner));
            assert!(!lifted || allowed || name == "weir-benches", "{}: unsafe code outside a shell", file.display());
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.append(&mut rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
