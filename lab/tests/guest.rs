//! The guest image boots, is who it shall be, and does what its pages promise.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::{Guest, GuestOptions, Host, Lab, LabOptions, http_get, wait_for, wait_http};

const BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(60);

fn get(address: Ipv4Addr, path: &str) -> String {
    let (status, body) = http_get(address, path, SOON).unwrap_or_else(|error| panic!("{address}{path}: {error}"));
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// The value of a key in the identity page.
fn identity(address: Ipv4Addr, key: &str) -> String {
    let page: serde_json::Value = serde_json::from_str(&get(address, "/identity")).unwrap();
    match &page[key] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn start(host: Host<'_>, name: &str) -> (Guest, Ipv4Addr) {
    let guest = host.start_guest(&GuestOptions::new(name)).unwrap();
    let address = host.lease(&guest.mac, BOOT).unwrap_or_else(|error| {
        let leases = host.virsh(&["net-dhcp-leases", "lan"]);
        let interfaces = host.virsh(&["qemu-agent-command", name, "{\"execute\":\"guest-network-get-interfaces\"}"]);
        panic!("{error}; leases {leases:?}; in the guest {interfaces:?}; its console: {}", host.console(name))
    });
    wait_http(address, "/healthz", BOOT).unwrap_or_else(|error| panic!("{error}; its console: {}", host.console(name)));
    (guest, address)
}

/// Nanoseconds of processor time that a guest has used.
fn cpu_time(host: Host<'_>, name: &str) -> u64 {
    let stats = host.virsh(&["domstats", "--cpu-total", name]).unwrap();
    stats.lines().find_map(|line| line.trim().strip_prefix("cpu.time=")?.parse().ok()).expect("a processor time")
}

/// What the balloon tells of available memory, in the second report from now: the first may have been made before.
fn available_kib(host: Host<'_>, name: &str) -> i64 {
    let value = |key: &str| -> Option<i64> {
        let stats = host.virsh(&["dommemstat", name]).unwrap();
        stats.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    let mut last = value("last_update ").unwrap_or(0);
    for _ in 0..2 {
        last = wait_for("a report of the balloon", SOON, || value("last_update ").filter(|update| *update > last)).unwrap();
    }
    value("usable ").expect("a report tells it")
}

#[test]
fn clones_share_a_base_and_nothing_else() {
    let lab = Lab::up(LabOptions::default()).unwrap();
    let host = lab.host("kvm-a");
    let base = fs::read(&lab.image().disk).unwrap();
    // One by DHCP, and one with a seed.
    let (leased, first) = start(host, "one");
    let second = lab.addresses().free(0);
    let seeded = host.start_guest(&GuestOptions { address: Some(second), ..GuestOptions::new("two") }).unwrap();
    assert_eq!(wait_http(second, "/", BOOT).unwrap(), "two\n");

    assert_eq!(identity(first, "hostname"), "weir-guest");
    assert_eq!(identity(second, "instance_id"), "two");
    assert_eq!((identity(first, "network"), identity(second, "network")), ("dhcp".to_owned(), "static".to_owned()));
    assert_eq!(identity(first, "mac"), leased.mac);
    let ids = [identity(first, "machine_id"), identity(second, "machine_id")];
    assert!(ids.iter().all(|id| id.len() == 32) && ids[0] != ids[1], "{ids:?}");

    // What one writes, neither the base nor the other has.
    get(first, "/mark?value=7");
    assert_eq!((identity(first, "mark"), identity(second, "mark")), ("7".to_owned(), String::new()));
    assert!(fs::read(&lab.image().disk).unwrap() == base, "a clone wrote to its base");

    // It is still there after a reset, and the machine is the same one.
    host.virsh(&["reset", "one"]).unwrap();
    wait_for("the second boot", BOOT, || {
        let page = http_get(first, "/identity", Duration::from_millis(300)).ok()?.1;
        page.contains("\"boots\":2").then_some(())
    })
    .unwrap();
    assert_eq!((identity(first, "mark"), identity(first, "machine_id")), ("7".to_owned(), ids[0].clone()));

    // The agent tells the address, too, and sets the clock.
    wait_for("the agent", BOOT, || {
        host.virsh(&["domifaddr", "one", "--source", "agent"]).ok()?.contains(&format!("{first}/")).then_some(())
    })
    .unwrap();
    host.virsh(&["domtime", "one", "--time", "2000000000"]).unwrap();
    let clock: f64 = identity(first, "clock_s").parse().unwrap();
    assert!((2e9..2e9 + 30.0).contains(&clock), "{clock}");

    // The power button.
    host.virsh(&["shutdown", "two"]).unwrap();
    wait_for("the shutdown", BOOT, || host.virsh(&["domstate", "two"]).is_err().then_some(())).unwrap();
    host.remove_guest(&leased).unwrap();
    assert!(!host.path(&leased.disk).exists() && host.path(&seeded.disk).exists());
}

#[test]
fn load_and_faults_are_real() {
    let lab = Lab::up(LabOptions::default()).unwrap();
    let host = lab.host("kvm-a");
    let (guest, address) = start(host, "one");

    // A second of computing takes processor time, as far as there is some to be had.
    wait_for("processor time to be used", BOOT, || {
        let before = cpu_time(host, "one");
        let began = Instant::now();
        get(address, "/load?cpu=1&memory=8");
        assert!(began.elapsed() >= Duration::from_secs(1));
        (cpu_time(host, "one") - before > 300_000_000).then_some(())
    })
    .unwrap();

    // Memory is touched: what the guest's kernel has available shrinks by as much, and comes back.
    let idle = available_kib(host, "one");
    assert_eq!(get(address, "/fault/memory?mib=16"), "16 MiB held\n");
    let held = available_kib(host, "one");
    assert!(held < idle - 12 * 1024, "{idle} KiB available, {held} after 16 MiB were taken");
    get(address, "/fault/clear");
    let back = available_kib(host, "one");
    assert!(back > idle - 4 * 1024, "{idle} KiB available, {back} after all was given back");

    // Its own pages fail, the fault pages do not.
    get(address, "/fault/status?code=503");
    assert_eq!(http_get(address, "/healthz", SOON).unwrap().0, 503);
    get(address, "/fault/clear");
    get(address, "/healthz");

    // A full disk.
    get(address, "/fault/disk");
    assert_eq!(http_get(address, "/mark?value=1", SOON).unwrap().0, 507);
    get(address, "/fault/clear");
    get(address, "/mark?value=2");

    // Hanging: connected, and no answer.
    get(address, "/fault/hang");
    let error = http_get(address, "/", Duration::from_millis(500)).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
    get(address, "/fault/clear");
    get(address, "/");

    // Dead: the machine lives, and refuses.
    get(address, "/fault/exit");
    wait_for("a refusal", SOON, || {
        let error = http_get(address, "/", Duration::from_millis(500)).err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    })
    .unwrap();
    assert_eq!(host.virsh(&["domstate", "one"]).unwrap().trim(), "running");
    host.remove_guest(&guest).unwrap();
}

#[test]
fn a_kernel_that_panics_boots_again() {
    let lab = Lab::up(LabOptions::default()).unwrap();
    let (_, address) = start(lab.host("kvm-a"), "one");
    get(address, "/fault/panic");
    wait_for("the second boot", BOOT, || {
        let page = http_get(address, "/identity", Duration::from_millis(300)).ok()?.1;
        page.contains("\"boots\":2").then_some(())
    })
    .unwrap();
}
