//! `weir-libvirt` for real: against libvirt's test driver, and against a libvirtd of its own with QEMU.

mod addresses;
mod broken;
mod daemon;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod watched;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use daemon::Daemon;
use support::{config, contract, image, ours, spec, until};
use weir_hypervisor::{Fleet, HostState, Hypervisor, MachineState, MachineView, Progress, Verb};

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_weir-libvirt").into()
}

/// On the test's own thread, while another one drives all that was spawned: what the test waits for, such as `virsh` or a guest's page, must not
/// hold up the calls whose time is counted.
fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || runtime.block_on(ended));
        // Dropped also when the test fails, and then the other thread ends.
        let _end = end;
        handle.block_on(work);
    });
}

fn fleet(text: &str) -> Fleet {
    Fleet::start(&config(text), program())
}

#[test]
fn libvirts_test_driver_is_watched() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("[node]\nstate_dir = {:?}\n[host.a]\nuri = \"test:///default\"\ninterval = \"100ms\"\n", folder.path());
        let fleet = fleet(&text);
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        until("two looks", || fleet.machines().first().is_some_and(|machine| machine.load.is_some())).await;
        let host = &fleet.hosts()[0];
        assert_eq!((host.driver.as_deref(), host.state.clone(), host.machines), (Some("TEST"), HostState::Up, 1));
        assert!(host.memory_bytes > 0 && host.cpus > 0);
        let machine = &fleet.machines()[0];
        assert_eq!((machine.name.as_str(), machine.state), ("test", MachineState::Running));
        let refused = fleet.act("test", Verb::Stop, Progress::default()).await.expect_err("it is not ours");
        assert_eq!(refused.to_string(), "test on a was not made by weir and is left alone");
    });
}

#[test]
fn what_cannot_be_reached_is_said() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[node]\nstate_dir = {:?}\n[host.a]\nuri = \"nonsense:///x\"\ninterval = \"100ms\"\n[host.b]\nuri = \"qemu+unix:///system?socket=/nowhere\"\n",
            folder.path()
        );
        let fleet = fleet(&text);
        let said = |number: usize, word: &str| matches!(&fleet.hosts()[number].state, HostState::Connecting { why } if why.contains(word));
        until("the reasons", || said(0, "No such file") && said(1, "nowhere")).await;
        let other = Fleet::start(&config(&text), "/no/such/weir-libvirt".into());
        let missing =
            |host: &weir_hypervisor::HostView| matches!(&host.state, HostState::Connecting { why } if why.contains("install weir-libvirt"));
        until("the reason", || other.hosts().iter().any(missing)).await;
    });
}

fn real(daemon: &Daemon, extra: &str) -> String {
    let image = image(daemon.folder.path(), "web.img", 3_000_000);
    format!(
        "[node]\nstate_dir = {:?}\n[host.a]\nuri = {:?}\ninterval = \"200ms\"\ntimeout = \"10s\"\ndomain_type = \"qemu\"\n\
         [template.web]\nimage = {image:?}\nmemory = \"64MiB\"\nbridge = \"weirbr0\"\n{extra}\n",
        daemon.folder.path().join("state"),
        daemon.uri()
    )
}

#[test]
fn the_contract_holds_with_qemu() {
    let daemon = Daemon::start();
    let foreign = daemon.folder.path().join("foreign.xml");
    let xml = "<domain type='qemu'><name>web-foreign</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>";
    std::fs::write(&foreign, xml).expect("writable");
    assert!(daemon.virsh(&["define", &foreign.display().to_string()]));
    run(async {
        let fleet = fleet(&real(&daemon, ""));
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        contract(&fleet).await;
    });
    assert_eq!(daemon.files(), Vec::<String>::new(), "nothing is left");
}

#[test]
fn clones_share_a_base_and_no_byte_of_it_changes() {
    let daemon = Daemon::start();
    run(async {
        let fleet = fleet(&real(&daemon, "display = true"));
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        let began = Instant::now();
        fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let first = began.elapsed();
        let began = Instant::now();
        let made = fleet.clone_machine(spec("web-2"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        println!("first clone {first:?}, second {:?}", began.elapsed());
        let base = made.metadata.and_then(|metadata| metadata.base.clone()).expect("linked");
        let base = std::fs::read(daemon.pool().join(format!("{base}.img"))).expect("the base is there");
        assert_eq!(base, std::fs::read(daemon.folder.path().join("web.img")).expect("the image is there"));
        // What the firmware says on the console, and its screen.
        let (mime, picture) = fleet.screenshot("web-1").await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert!(mime.starts_with("image/") && picture.len() > 1000, "{mime} {}", picture.len());
        let console = fleet.console("web-1", 1000).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert!(console.len() <= 1000);
        let log = || std::fs::read_to_string(daemon.folder.path().join("log/qemu/web-1.log")).unwrap_or_default();
        let mut flattened = fleet.act("web-1", Verb::Flatten, Progress::default()).await;
        // QEMU 7.2 was seen to crash over this now and then.
        if let Err(error) = &flattened {
            println!("again, if QEMU crashed: {}\n{}", error.chain(), log());
            let is_off = |machine: &MachineView| matches!(machine.state, MachineState::Off | MachineState::Crashed);
            until("it to be off", || ours(&fleet).iter().any(|machine| machine.name == "web-1" && is_off(machine))).await;
            fleet.act("web-1", Verb::Start, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
            flattened = fleet.act("web-1", Verb::Flatten, Progress::default()).await;
        }
        flattened.unwrap_or_else(|error| panic!("{}\n{}", error.chain(), log()));
        let flat = ours(&fleet).into_iter().find(|machine| machine.name == "web-1").and_then(|machine| machine.metadata).expect("ours");
        assert_eq!(flat.base, None);
        for name in ["web-1", "web-2"] {
            fleet.act(name, Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        }
        assert_eq!(daemon.files().len(), 2, "image and seal of the base are kept: {:?}", daemon.files());
    });
}

#[test]
fn a_full_clone_needs_no_base() {
    let daemon = Daemon::start();
    run(async {
        let fleet = fleet(&real(&daemon, "clone = \"full\""));
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        let made = fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let metadata = made.metadata.expect("ours");
        assert_eq!(metadata.base, None);
        let refused = fleet.screenshot("web-1").await.expect_err("it has none");
        assert!(refused.to_string().contains("write display = true in [template.web]"), "{refused}");
        fleet.remove_base(&metadata.origin).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        fleet.act("web-1", Verb::Reset, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(daemon.files(), Vec::<String>::new());
    });
}

#[test]
fn a_libvirtd_that_hangs_holds_nobody_up() {
    let daemon = Daemon::start();
    run(async {
        let fleet = fleet(&real(&daemon, ""));
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        daemon.signal("STOP");
        let began = Instant::now();
        let outcome = fleet.console("web-1", 10).await;
        assert!(outcome.is_err() && began.elapsed() < Duration::from_secs(25), "{outcome:?} after {:?}", began.elapsed());
        until("it to be unknown", || matches!(fleet.hosts()[0].state, HostState::Unknown { .. })).await;
        assert!(ours(&fleet)[0].unknown_since.is_some());
        daemon.signal("CONT");
        until("it to answer again", || fleet.hosts()[0].state == HostState::Up).await;
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    });
}

#[test]
fn whether_kvm_works_is_tried_and_remembered() {
    let daemon = Daemon::start();
    run(async {
        let text = real(&daemon, "").replace("domain_type = \"qemu\"", "domain_type = \"auto\"");
        let fleet = fleet(&text);
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        let made = fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(made.state, MachineState::Running);
        let found = fleet.hosts()[0].domain_type.expect("it was tried");
        let remembered = std::fs::read_to_string(daemon.folder.path().join("state/hypervisor.json")).expect("it is written down");
        assert!(remembered.contains(&format!("\"{found}\"")), "{remembered}");
        assert!(!daemon.files().iter().any(|name| name.contains("kvm-try")), "{:?}", daemon.files());
        // After a restart it is not tried again.
        drop(fleet);
        let fleet = self::fleet(&text);
        assert_eq!(fleet.hosts()[0].domain_type, Some(found));
        let mut events = fleet.events();
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        fleet.clone_machine(spec("web-2"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, weir_hypervisor::RoomEvent::KvmTried { .. }), "{event:?}");
        }
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    });
}
