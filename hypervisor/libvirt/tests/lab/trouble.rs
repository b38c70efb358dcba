//! Hosts that do not answer, and wishes that cannot be fulfilled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::{Host, wait_http};
use weir_hypervisor::{CloneSpec, HostState, Hypervisor, HypervisorError, MachineState, Progress, Verb, WaitFor};

use crate::support::{image, spec, until};
use crate::{BOOT, Site, clone, domains, run, v4, volumes};

/// The host's timeout where that is looked at is 8 s; the rest is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_libvirtd_that_hangs_stops_or_dies_is_unknown_and_comes_back() {
    run(async {
        let mut site = Site::new(1);
        site.timeout = "8s";
        let host = site.lab.host("kvm-a");
        let fleet = site.fleet(&site.config("")).await;
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        let up = || fleet.hosts()[0].state == HostState::Up;
        for what in ["hung", "stopped", "killed"] {
            match what {
                "hung" => host.hang_libvirtd(),
                "stopped" => host.stop_libvirtd(),
                _ => host.kill_libvirtd(),
            }
            .expect("it runs");
            let began = Instant::now();
            let refused = fleet.act("web-1", Verb::Reset, Progress::default()).await;
            assert!(refused.is_err(), "{what}: {refused:?}");
            assert!(began.elapsed() < DEADLINE, "{what}: the call took {:?}", began.elapsed());
            until("the host to be unknown", || matches!(fleet.hosts()[0].state, HostState::Unknown { .. })).await;
            let machine = fleet.machines().into_iter().find(|machine| machine.name == "web-1").expect("it is still shown");
            assert!(machine.unknown_since.is_some(), "{what}");
            if what == "hung" { host.resume_libvirtd() } else { host.start_libvirtd() }.expect("it can go on");
            until("the host to come back", up).await;
            fleet.act("web-1", Verb::Reset, Progress::default()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        assert!(fleet.machines().iter().any(|machine| machine.name == "web-1" && machine.state == MachineState::Running));
    });
}

#[test]
fn what_cannot_be_says_why_and_leaves_nothing() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        let content = image(site.folder.path(), "web.img", 100_000);
        let wrong = format!("checksum = \"sha256:{}\"", "0".repeat(64));
        let missing = site.folder.path().join("missing.img").display().to_string();
        for (image, more, expected) in [(content.as_str(), wrong.as_str(), "checksum"), (&missing, "", "missing.img")] {
            let fleet = site.fleet(&site.config_of(image, more)).await;
            let error = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("it cannot be made");
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!((domains(host), volumes(host)), before);
        }
    });
}

#[test]
fn a_full_disk_is_refused_and_leaves_nothing() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        host.fill_disk(1).expect("there was room");
        let fleet = site.fleet(&site.config("")).await;
        let error = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("there is no room");
        assert!(!matches!(error, HypervisorError::NotFound(_)), "{error}");
        println!("{error}");
        host.free_disk().expect("it was filled");
        fleet.collect_garbage(false).await.expect("the host answers");
        assert_eq!((domains(host), volumes(host)), before);
        // Its space is not asked for all the time.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = fleet.clone_machine(spec("web-1"), Progress::default()).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

/// Kills the QEMU of a machine; `false`: there is none.
fn kill_qemu(host: Host<'_>, machine: &str) -> bool {
    let mut pkill = host.command("pkill").expect("it is on");
    pkill.args(["-KILL", "-f", &format!("guest={machine},")]).status().expect("pkill is there (package procps)").success()
}

#[test]
fn a_machine_whose_qemu_dies_is_off_or_was_never_made() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let fleet = site.fleet(&site.config("")).await;
        let machine = clone(&fleet, "web-1").await;
        let before = (domains(host), volumes(host));
        // While it boots: nobody waits for what will never come, and nothing is left.
        let (refused, killed) = loop {
            let wish = CloneSpec { wait: WaitFor::Ready, ..spec("web-2") };
            let booting = tokio::spawn(fleet.clone_machine(wish, Progress::default()));
            until("its QEMU", || kill_qemu(host, "web-2")).await;
            let killed = Instant::now();
            match booting.await.expect("no panic") {
                Err(refused) => break (refused, killed),
                // It had booted before it was killed.
                Ok(_) => fleet.act("web-2", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain())),
            }
        };
        assert!(killed.elapsed() < DEADLINE, "it took {:?} to be noticed", killed.elapsed());
        println!("{}", refused.chain());
        assert_eq!((domains(host), volumes(host)), before);
        // While it serves: it is off, and starts again with what it had.
        assert!(kill_qemu(host, "web-1"));
        let state = || fleet.machines().into_iter().find(|machine| machine.name == "web-1").map(|machine| machine.state);
        until("it to be off", || matches!(state(), Some(MachineState::Off | MachineState::Crashed))).await;
        fleet.act("web-1", Verb::Start, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        wait_http(v4(&machine), "/", BOOT).expect("it serves again");
        assert!(kill_qemu(host, "web-1"));
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(fleet.collect_garbage(true).await.expect("it answers"), []);
        assert_eq!(domains(host).len(), before.0.len() - 1);
    });
}

/// A QEMU may die between a look at its domain and what is done then, and then there is less to do.
#[test]
fn a_machine_is_removed_while_its_qemu_dies() {
    run(async {
        let site = Site::new(1);
        let host = site.lab.host("kvm-a");
        let fleet = site.fleet(&site.config("")).await;
        let before = (domains(host), BTreeSet::new());
        for _ in 0..10 {
            fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
            assert!(kill_qemu(host, "web-1"));
            fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        }
        assert_eq!((domains(host), volumes(host).into_iter().filter(|volume| volume.contains("web-1")).collect()), before);
    });
}
