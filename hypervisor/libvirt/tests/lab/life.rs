//! The life of machines when nothing goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{Host, http_get, wait_for, wait_http};
use weir_hypervisor::{Hypervisor, MachineState, MachineView, Progress, Verb};

use crate::support::until;
use crate::{BOOT, Site, clone, domains, run, support, v4, volumes};

const SOON: Duration = Duration::from_secs(10);

/// Bytes of memory that a guest is made to use.
const TAKEN: u64 = 16 << 20;

#[test]
fn the_contract_holds_on_real_hosts() {
    run(async {
        let site = Site::new(1);
        site.make_foreign();
        let fleet = site.fleet(&site.config("")).await;
        support::contract(&fleet).await;
        site.check_foreign();
    });
}

#[test]
fn clones_leave_base_and_siblings_alone_and_nothing_behind() {
    run(async {
        let site = Site::new(1);
        site.make_foreign();
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        let fleet = site.fleet(&site.config("")).await;
        let (one, two) = tokio::join!(clone(&fleet, "web-1"), clone(&fleet, "web-2"));
        let base = volumes(host).difference(&before.1).find(|name| name.contains("base")).cloned().expect("a base");
        let base = host.path("/var/lib/libvirt/images").join(base);
        let content = std::fs::read(&base).expect("it can be read");
        for machine in [&one, &two] {
            let (_, identity) = http_get(v4(machine), "/identity", SOON).expect("it serves");
            for (key, value) in
                [("hostname", &machine.name), ("instance_id", &machine.id.to_string()), ("machine_id", &machine.id.machine_id())]
            {
                assert!(identity.contains(&format!("\"{key}\":\"{value}\"")), "{key} {value}: {identity}");
            }
            assert_eq!(http_get(v4(machine), "/", SOON).expect("it serves").1.trim(), machine.name);
        }
        http_get(v4(&one), "/mark?value=7", SOON).expect("it serves");
        assert!(http_get(v4(&one), "/identity", SOON).expect("it serves").1.contains("\"mark\":\"7\""));
        assert!(http_get(v4(&two), "/identity", SOON).expect("it serves").1.contains("\"mark\":\"\""), "a sibling changed");
        assert!(std::fs::read(&base).expect("it can be read") == content, "the base changed");

        let base = one.metadata.as_ref().and_then(|metadata| metadata.base.clone()).expect("it is linked");
        for name in ["web-1", "web-2"] {
            fleet.act(name, Verb::Delete, Progress::default()).await.expect("it is ours");
        }
        fleet.remove_base(&base).await.expect("nobody lies on it");
        assert_eq!((domains(host), volumes(host)), before);
        site.check_foreign();
    });
}

/// What a picture in the portable format says of its width and height.
fn size_of(picture: &[u8]) -> Option<(u32, u32)> {
    let head = String::from_utf8_lossy(&picture[..picture.len().min(40)]).into_owned();
    let mut words = head.strip_prefix("P6")?.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The file that a machine's disk lies on, as the disk itself says.
fn backing(host: Host<'_>, machine: &str) -> Option<String> {
    let disk = host.path(format!("/var/lib/libvirt/images/weir-{machine}.disk.img"));
    let mut info = std::process::Command::new("qemu-img");
    let output = info.args(["info", "--force-share", "--output=json"]).arg(disk).output().expect("qemu-img is there");
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(info["format"], "qcow2", "{info}");
    info["backing-filename"].as_str().map(str::to_owned)
}

/// Starts the guest anew from its disk, and returns what it says when it has booted.
async fn boot_again(fleet: &dyn Hypervisor, machine: &MachineView, boots: u32) -> String {
    fleet.act(&machine.name, Verb::Reset, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    let page = wait_for("another boot", BOOT, || {
        let page = http_get(v4(machine), "/identity", Duration::from_millis(300)).ok()?.1;
        page.contains(&format!("\"boots\":{boots}")).then_some(page)
    });
    page.unwrap_or_else(|error| panic!("{}: {error}", machine.name))
}

#[test]
fn a_guest_serves_while_its_disk_is_made_flat_and_boots_from_it_without_the_base() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        let fleet = site.fleet(&site.config("display = true")).await;
        let machine = clone(&fleet, "web-1").await;
        let base = machine.metadata.as_ref().and_then(|metadata| metadata.base.clone()).expect("it is linked");
        assert!(backing(host, "web-1").is_some_and(|file| file.ends_with(&format!("{base}.img"))));
        http_get(v4(&machine), "/mark?value=7", SOON).expect("it serves");

        let (mime, picture) = fleet.screenshot("web-1").await.unwrap_or_else(|error| panic!("{}", error.chain()));
        // What the firmware left on the screen, or the kernel's.
        let is_picture = mime == "image/png" || size_of(&picture).is_some_and(|(width, height)| width >= 640 && height >= 400);
        assert!(is_picture && picture.len() > 1000, "{mime}, {} bytes", picture.len());
        assert!(picture.iter().any(|byte| *byte != picture[picture.len() - 1]), "it shows something");

        let flatten_once = async || {
            let (address, flat) = (v4(&machine), Arc::new(AtomicBool::new(false)));
            let done = flat.clone();
            let asker = std::thread::spawn(move || {
                let (mut asked, began) = (0, Instant::now());
                while !done.load(Ordering::Relaxed) && began.elapsed() < BOOT {
                    http_get(address, "/healthz", SOON).map_err(|error| format!("request {asked}: {error}"))?;
                    asked += 1;
                }
                Ok::<_, String>(asked)
            });
            let flattened = fleet.act("web-1", Verb::Flatten, Progress::default()).await;
            flat.store(true, Ordering::Relaxed);
            let asked = asker.join().expect("no panic");
            flattened.map(|_| println!("{} requests meanwhile", asked.expect("it serves meanwhile")))
        };
        // QEMU 7.2 was seen to crash over this now and then (a segmentation fault in the kernel's log): then what libvirt says is told, and the
        // machine is as whole as before.
        let mut boots = 2;
        if let Err(error) = flatten_once().await {
            boots += 1;
            println!("again, if QEMU crashed: {}", error.chain());
            let state = || fleet.machines().into_iter().find(|machine| machine.name == "web-1").map(|machine| machine.state);
            until("it to be off", || matches!(state(), Some(MachineState::Off | MachineState::Crashed))).await;
            fleet.act("web-1", Verb::Start, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
            wait_http(v4(&machine), "/", BOOT).expect("it serves again");
            flatten_once().await.unwrap_or_else(|error| panic!("{}", error.chain()));
        }
        assert_eq!(backing(host, "web-1"), None);
        fleet.remove_base(&base).await.expect("nobody lies on it any more");
        let identity = boot_again(&fleet, &machine, boots).await;
        assert!(identity.contains("\"mark\":\"7\""), "{identity}");
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((domains(host), volumes(host)), before);
    });
}

#[test]
fn a_full_clone_boots_and_needs_no_base() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        let fleet = site.fleet(&site.config("clone = \"full\"")).await;
        let machine = clone(&fleet, "web-1").await;
        let metadata = machine.metadata.clone().expect("it is ours");
        assert_eq!((metadata.base.as_deref(), backing(host, "web-1")), (None, None));
        fleet.remove_base(&metadata.origin).await.expect("nobody lies on it");
        http_get(v4(&machine), "/mark?value=8", SOON).expect("it serves");
        let identity = boot_again(&fleet, &machine, 2).await;
        assert!(identity.contains("\"mark\":\"8\"") && identity.contains("\"hostname\":\"web-1\""), "{identity}");
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((domains(host), volumes(host)), before);
    });
}

#[test]
fn what_a_guest_uses_is_seen() {
    run(async {
        let site = Site::new(1);
        let fleet = site.fleet(&site.config("")).await;
        let machine = clone(&fleet, "web-1").await;
        let last = || fleet.points("web-1").pop().unwrap_or_default();
        until("the balloon to tell", || last().memory_used_bytes.is_some()).await;
        let idle = last();
        let address = v4(&machine);
        let burning = std::thread::spawn(move || http_get(address, &format!("/load?cpu=12&memory={}", TAKEN >> 20), BOOT));
        // The balloon tells once a second; the guest computes all the time.
        let used = |of: &weir_hypervisor::Load| of.memory_used_bytes.unwrap_or(0);
        let is_busy = |point: &weir_hypervisor::Load| used(point) > used(&idle) + TAKEN * 3 / 4 && point.cpu_share > 0.3;
        let mut busy = None;
        until("its memory and its processor", || {
            busy = fleet.points("web-1").into_iter().find(is_busy);
            busy.is_some()
        })
        .await;
        let (busy, total) = (busy.expect("it was seen"), machine.memory_bytes);
        assert!(busy.memory_available_bytes.is_some_and(|available| available < idle.memory_available_bytes.unwrap_or(0)), "{busy:?}");
        assert!(used(&busy) + busy.memory_available_bytes.unwrap_or(0) <= total, "{busy:?} of {total}");
        burning.join().expect("no panic").expect("it answers");
        until("it to be given back", || used(&last()) < used(&idle) + TAKEN / 4).await;
        let began = Instant::now();
        http_get(address, "/mark?value=1", SOON).expect("it serves");
        let seen = |what: fn(&weir_hypervisor::Load) -> f64| fleet.points("web-1").iter().any(|point| what(point) > 0.0);
        until("disk and network", || {
            seen(|point| point.disk_written_bytes_per_s)
                && seen(|point| point.net_sent_bytes_per_s)
                && seen(|point| point.net_received_bytes_per_s)
        })
        .await;
        println!("seen after {:?}", began.elapsed());
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    });
}
