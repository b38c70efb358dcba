//! Hosts that lack something when a machine is made: it is whole in the end, or not there.

use weir_hypervisor::{Hypervisor, Progress, Verb};

use crate::daemon::Daemon;
use crate::support::{ours, spec};
use crate::{fleet, real, run};

#[test]
fn a_base_that_somebody_removed_is_brought_again() {
    let daemon = Daemon::start();
    run(async {
        let fleet = fleet(&real(&daemon, ""));
        assert!(fleet.settled(std::time::Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        let made = fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let base = made.metadata.and_then(|metadata| metadata.base.clone()).expect("linked");
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        // Behind libvirt's back, which remembers it until it looks again.
        let file = daemon.pool().join(format!("{base}.img"));
        std::fs::remove_file(&file).expect("it was there");
        fleet.clone_machine(spec("web-2"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let content = std::fs::read(&file).expect("it is there again");
        assert!(content == std::fs::read(daemon.folder.path().join("web.img")).expect("the image is there"));
        // With nothing left to make it of, that is said, and nothing is left.
        std::fs::remove_file(&file).expect("it was there");
        std::fs::remove_file(daemon.folder.path().join("web.img")).expect("it was there");
        let refused = fleet.clone_machine(spec("web-3"), Progress::default()).await.expect_err("there is no content");
        assert!(refused.to_string().contains("web.img: No such file"), "{refused}");
        assert_eq!(ours(&fleet).iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(), ["web-2"]);
        assert!(!daemon.files().iter().any(|file| file.contains("web-3")), "{:?}", daemon.files());
    });
}

#[test]
fn a_host_without_memory_says_so_and_keeps_nothing() {
    let daemon = Daemon::start();
    // QEMU has it from libvirtd, and takes 1 GiB of it for what it translates: enough to say what it can do, not to be a machine of 2 GiB.
    daemon.limit_memory(5 << 29);
    run(async {
        let fleet = fleet(&real(&daemon, "").replace("64MiB", "2GiB"));
        assert!(fleet.settled(std::time::Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        let refused = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("there is no memory");
        let said = refused.chain();
        assert!(said.starts_with("a: the start: ") && said.contains("allocate memory"), "{said}");
        assert_eq!(ours(&fleet).len(), 0);
        assert!(!daemon.files().iter().any(|file| file.contains("web-1")), "{:?}", daemon.files());
        daemon.limit_memory(u64::MAX);
        fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    });
}
