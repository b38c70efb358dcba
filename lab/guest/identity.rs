//! Who this machine is: what the start-up scripts left, and what the kernel says now.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The machine's name, as the kernel knows it.
pub(crate) fn hostname() -> String {
    line("/proc/sys/kernel/hostname")
}

/// Seconds since 1970 by the machine's clock, with a fraction.
pub(crate) fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The value that `/run/identity` gives to `key`.
fn fact(key: &str) -> String {
    let text = fs::read_to_string("/run/identity").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
}

/// Everything as one JSON object. None of the values holds a character that JSON would escape: the seed's reader admits none.
pub(crate) fn json() -> String {
    let memory = line("/proc/meminfo").lines().next().unwrap_or_default().split_ascii_whitespace().nth(1).unwrap_or("0").to_owned();
    let uptime = line("/proc/uptime").split(' ').next().unwrap_or("0").to_owned();
    let text = [
        ("hostname", hostname()),
        ("instance_id", fact("instance_id")),
        ("machine_id", line("/etc/machine-id")),
        ("uuid", fact("uuid")),
        ("mac", line("/sys/class/net/eth0/address")),
        ("network", fact("network")),
        ("mark", line("/var/lib/mark")),
    ]
    .map(|(key, value)| format!("\"{key}\":\"{value}\""))
    .join(",");
    let boots = line("/var/lib/boots");
    let boots = if boots.is_empty() { "0" } else { &boots };
    format!("{{{text},\"boots\":{boots},\"uptime_s\":{uptime},\"clock_s\":{:.3},\"memory_kib\":{memory}}}\n", clock())
}
