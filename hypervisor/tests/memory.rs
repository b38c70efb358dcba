//! The contract, and what happens when `weir` dies between any two steps, on hosts in memory.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{config, contract, image, ours, spec, until};
use weir_config::Config;
use weir_hypervisor::driver::Driver;
use weir_hypervisor::memory::MemoryHost;
use weir_hypervisor::metadata::{Phase, Role};
use weir_hypervisor::{CloneSpec, Fleet, HostState, Hypervisor, HypervisorError, MachineState, Progress, Verb, WaitFor, WarmUse};

const FOREIGN: &str = "<domain type='kvm'><name>web-foreign</name><uuid>00000000-0000-4000-8000-000000000001</uuid>\
                       <memory unit='MiB'>64</memory><vcpu>1</vcpu></domain>";

struct World {
    folder: tempfile::TempDir,
    hosts: Vec<MemoryHost>,
    config: Config,
}

impl World {
    fn new(hosts: usize, template: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let image = image(folder.path(), "web.img", 100_000);
        let mut text = format!("[node]\nname = \"lb-a\"\nstate_dir = {:?}\n", folder.path());
        for number in 0..hosts {
            text += &format!("[host.h{number}]\nuri = \"memory://{number}/\"\ninterval = \"100ms\"\ndomain_type = \"qemu\"\n");
        }
        text += &format!("[template.web]\nimage = {image:?}\nmemory = \"512MiB\"\nnetwork = \"default\"\n{template}\n");
        let memory: Vec<MemoryHost> = (0..hosts).map(|_| MemoryHost::default()).collect();
        memory[0].define_foreign(FOREIGN);
        memory[0].put_volume("web-1.disk.img", b"not ours");
        std::fs::write(folder.path().join("contract.toml"), &text).expect("the folder is there");
        World { folder, hosts: memory, config: config(&text) }
    }

    /// A new `weir` over the same hosts, as after a crash.
    async fn fleet(&self) -> Fleet {
        let hosts = self.hosts.clone();
        let launch = move |host: &weir_config::VmHost| -> Arc<dyn Driver> {
            let number: usize = host.uri.trim_start_matches("memory://").trim_end_matches('/').parse().expect("a number");
            Arc::new(hosts[number].clone())
        };
        let fleet = Fleet::with_drivers(&self.config, Box::new(launch));
        assert!(fleet.settled(Duration::from_secs(10)).await);
        fleet
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work);
}

#[test]
fn the_contract_holds_in_memory() {
    run(async {
        for hosts in [1, 2] {
            let world = World::new(hosts, "");
            contract(&world.fleet().await).await;
            assert_eq!(world.hosts[0].volumes(), ["web-1.disk.img"]);
        }
    });
}

#[test]
fn a_crash_at_any_step_of_making_leaves_nothing_or_all() {
    run(async {
        let mut steps = 0;
        for cut in 0.. {
            let world = World::new(1, "");
            let fleet = world.fleet().await;
            let before = world.hosts[0].changes();
            world.hosts[0].set_changes_left(Some(cut));
            let outcome = fleet.clone_machine(spec("web-1"), Progress::default()).await;
            world.hosts[0].set_changes_left(None);
            drop(fleet);
            steps = world.hosts[0].changes() - before;
            let fleet = world.fleet().await;
            fleet.set_leader(true);
            match &outcome {
                // It was whole before the crash, or it is gone.
                Ok(_) => assert_eq!(ours(&fleet)[0].metadata.as_ref().map(|metadata| metadata.phase), Some(Phase::Ready)),
                Err(_) => {
                    until("the leftovers to be removed", || {
                        ours(&fleet).iter().all(|m| m.metadata.as_ref().is_some_and(|m| m.phase == Phase::Ready))
                    })
                    .await
                }
            }
            let survivors = ours(&fleet);
            let volumes: Vec<_> = world.hosts[0].volumes().into_iter().filter(|name| name.starts_with("weir-web-")).collect();
            assert_eq!(volumes.len(), 2 * survivors.len(), "cut after {cut}: {volumes:?}");
            // Whatever happened, the wish can be repeated, and the end is the same.
            let made =
                fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("cut after {cut}: {error}"));
            assert_eq!((made.name.as_str(), ours(&fleet).len()), ("web-1", 1), "cut after {cut}");
            assert!(world.hosts[0].domains().contains(&"web-foreign".to_owned()));
            assert_eq!(world.hosts[0].volume("web-1.disk.img").as_deref(), Some(&b"not ours"[..]));
            if outcome.is_ok() {
                break;
            }
        }
        assert!(steps >= 8, "only {steps} steps were tried");
    });
}

#[test]
fn a_crash_at_any_step_of_removing_is_made_up_for() {
    run(async {
        for cut in 0.. {
            let world = World::new(1, "");
            let fleet = world.fleet().await;
            fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
            world.hosts[0].set_changes_left(Some(cut));
            let outcome = fleet.act("web-1", Verb::Delete, Progress::default()).await;
            world.hosts[0].set_changes_left(None);
            drop(fleet);
            let fleet = world.fleet().await;
            fleet.set_leader(true);
            if cut == 0 {
                assert_eq!(ours(&fleet).len(), 1, "nothing was done yet");
                continue;
            }
            until("it to be removed", || ours(&fleet).is_empty()).await;
            until("its volumes to be removed", || !world.hosts[0].volumes().iter().any(|name| name.starts_with("weir-web-"))).await;
            if outcome.is_ok() {
                assert!(cut >= 4);
                break;
            }
        }
    });
}

#[test]
fn a_node_leaves_alone_what_another_is_making() {
    run(async {
        let world = World::new(1, "");
        let fleet = world.fleet().await;
        world.hosts[0].set_changes_left(Some(6));
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("cut off");
        world.hosts[0].set_changes_left(None);
        drop(fleet);
        let mut other = World { folder: tempfile::tempdir().expect("a folder"), hosts: world.hosts.clone(), config: world.config.clone() };
        other.config.node.name = "lb-b".into();
        let fleet = other.fleet().await;
        assert_eq!(fleet.collect_garbage(true).await.expect("it answers"), []);
        assert_eq!(ours(&fleet).len(), 1);
        drop(fleet);
        let fleet = world.fleet().await;
        let found = fleet.collect_garbage(true).await.expect("it answers");
        assert_eq!(
            found.iter().map(|found| (found.kind, found.name.as_str(), found.removed)).collect::<Vec<_>>(),
            [("machine", "web-1", false)]
        );
        let found = fleet.collect_garbage(false).await.expect("it answers");
        assert!(found[0].removed, "{found:?}");
        assert_eq!(ours(&fleet).len(), 0);
    });
}

#[test]
fn orphans_are_found_and_strangers_are_not() {
    run(async {
        let world = World::new(2, "");
        world.hosts[1].put_volume("weir-web-9.disk.img", b"x");
        world.hosts[1].put_volume("weir-web-9.console.log.1", b"x");
        world.hosts[1].put_volume("weir-somebody", b"x");
        world.hosts[1].put_volume("weir-base-web-0001-0123456789ab.img", b"x");
        let fleet = world.fleet().await;
        world.hosts[0].set_down(Some("gone"));
        until("the host to be unknown", || fleet.hosts().iter().any(|host| matches!(host.state, HostState::Unknown { .. }))).await;
        assert_eq!(fleet.collect_garbage(false).await.expect("one answers"), [], "who is silent may own it");
        world.hosts[0].set_down(None);
        until("the host to answer", || fleet.hosts().iter().all(|host| host.state == HostState::Up)).await;
        let mut names: Vec<_> = fleet.collect_garbage(false).await.expect("all answer").into_iter().map(|found| found.name).collect();
        names.sort();
        assert_eq!(names, ["weir-base-web-0001-0123456789ab.img", "weir-web-9.console.log.1", "weir-web-9.disk.img"]);
        assert_eq!(world.hosts[1].volumes(), ["weir-somebody"]);
    });
}

#[test]
fn a_volume_of_the_same_name_is_replaced_or_left_to_its_machine() {
    run(async {
        let world = World::new(1, "");
        world.hosts[0].put_volume("weir-web-1.disk.img", b"left behind");
        world.hosts[0].put_volume("weir-web-2.disk.img", b"somebody's");
        let xml = FOREIGN.replace("web-foreign", "weir-web-2").replace("000001", "000002").replace(
            "</domain>",
            "<devices><disk type='file' device='disk'><source file='/memory/weir-web-2.disk.img'/><target dev='vda'/></disk></devices></domain>",
        );
        world.hosts[0].define_foreign(&xml);
        let fleet = world.fleet().await;
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("nobody has that volume");
        assert_ne!(world.hosts[0].volume("weir-web-1.disk.img").as_deref(), Some(&b"left behind"[..]));
        let refused = fleet.clone_machine(spec("web-2"), Progress::default()).await.expect_err("somebody has it");
        assert_eq!(refused.to_string(), "the volume weir-web-2.disk.img on h0 belongs to weir-web-2; choose another name for the clone");
        assert_eq!(world.hosts[0].volume("weir-web-2.disk.img").as_deref(), Some(&b"somebody's"[..]));
        assert_eq!(ours(&fleet).len(), 1);
    });
}

#[test]
fn refusals_name_host_and_constraint() {
    run(async {
        let world = World::new(2, "");
        world.hosts[0].set_memory(724 << 20);
        world.hosts[1].set_space(0);
        let fleet = world.fleet().await;
        let refused = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("there is no room");
        let said = "no host can take it: h0: 512 MiB wanted, 212 MiB free below the reserve; h1: 64 MiB of disk wanted, 0 B free below the reserve";
        assert_eq!(refused.to_string(), said);
        assert_eq!(fleet.plan_clone(&spec("web-1")).expect_err("the plan says the same").to_string(), said);
    });
}

#[test]
fn clones_at_once_share_no_room_and_no_address() {
    run(async {
        let world = World::new(2, "[template.web.static]\nfirst = \"10.0.0.1\"\nlast = \"10.0.0.3\"\nprefix = 24");
        for host in &world.hosts {
            host.set_memory((512 + 2 * 512) << 20);
        }
        let fleet = world.fleet().await;
        let names = ["web-1", "web-2", "web-3", "web-4", "web-5"];
        let clones: Vec<_> = names.iter().map(|name| tokio::spawn(fleet.clone_machine(spec(name), Progress::default()))).collect();
        let mut outcomes = Vec::new();
        for clone in clones {
            outcomes.push(clone.await.expect("no panic"));
        }
        let mut addresses: Vec<_> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()?.address).map(|address| address.to_string()).collect();
        addresses.sort();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(ToString::to_string).collect();
        assert!(refused.len() == 2 && refused.iter().all(|why| why.contains("are given out")), "{refused:?}");
        let mut macs: Vec<_> = ours(&fleet).into_iter().filter_map(|machine| machine.mac).collect();
        macs.sort();
        assert_eq!(macs, ["52:54:0a:00:00:01", "52:54:0a:00:00:02", "52:54:0a:00:00:03"], "each address keeps its own");
        let hosts: Vec<_> = ours(&fleet).into_iter().map(|machine| machine.host).collect();
        assert!(hosts.contains(&"h0".to_owned()) && hosts.contains(&"h1".to_owned()), "they are spread: {hosts:?}");
    });
}

#[test]
fn a_wrong_checksum_is_refused_before_anything_is_made() {
    run(async {
        let world = World::new(1, &format!("checksum = \"sha256:{}\"", "0".repeat(64)));
        let fleet = world.fleet().await;
        let before = world.hosts[0].changes();
        let refused = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect_err("it is another image");
        assert!(
            refused.to_string().contains("has the checksum sha256:") && refused.to_string().contains("correct `checksum`"),
            "{refused}"
        );
        assert_eq!(world.hosts[0].changes(), before);
    });
}

#[test]
fn a_new_image_is_a_new_base_and_old_clones_keep_theirs() {
    run(async {
        let world = World::new(1, "");
        let fleet = world.fleet().await;
        let first = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        std::fs::write(world.folder.path().join("web.img"), vec![9; 50_000]).expect("writable");
        let second = fleet.clone_machine(spec("web-2"), Progress::default()).await.expect("there is room");
        let base =
            |machine: &weir_hypervisor::MachineView| machine.metadata.as_ref().and_then(|metadata| metadata.base.clone()).expect("linked");
        assert!(base(&first).contains("-0001-") && base(&second).contains("-0002-"), "{} {}", base(&first), base(&second));
        let both = [base(&first), base(&second)].map(|base| format!("{base}.img"));
        assert!(both.iter().all(|base| world.hosts[0].volumes().contains(base)));
        assert_eq!(world.hosts[0].volume(&both[1]).map(|bytes| bytes.len()), Some(50_000));
        assert_eq!(fleet.collect_garbage(true).await.expect("it answers"), [], "the old base has a clone");
        fleet.act("web-1", Verb::Delete, Progress::default()).await.expect("ours");
        let kinds: Vec<_> = fleet.collect_garbage(false).await.expect("it answers").into_iter().map(|found| found.kind).collect();
        assert_eq!(kinds, ["base", "base"], "image and seal");
        // After a restart without what it remembered, the same content is the same base.
        std::fs::remove_file(world.folder.path().join("hypervisor.json")).expect("it remembered something");
        let third = world.fleet().await.clone_machine(spec("web-3"), Progress::default()).await.expect("there is room");
        assert_eq!(base(&third), base(&second));
    });
}

#[test]
fn a_master_is_copied_when_it_is_off_and_again_when_it_changed() {
    run(async {
        let mut world = World::new(2, "");
        let master = "<domain type='qemu'><name>golden</name><uuid>00000000-0000-4000-8000-00000000000a</uuid><memory unit='MiB'>256</memory>\
                      <vcpu>3</vcpu><os><type>hvm</type></os><devices><disk type='file' device='disk'><source file='/memory/golden.img'/>\
                      <target dev='vda' bus='virtio'/></disk><interface type='network'><mac address='52:54:00:00:00:01'/></interface></devices></domain>";
        world.hosts[1].put_volume("golden.img", &[7; 70_000]);
        world.hosts[1].define_foreign(master);
        let text = format!(
            "[node]\nname = \"lb-a\"\nstate_dir = {:?}\n[host.h0]\nuri = \"memory://0/\"\ninterval = \"100ms\"\ndomain_type = \"qemu\"\n\
             [host.h1]\nuri = \"memory://1/\"\ninterval = \"100ms\"\ndomain_type = \"qemu\"\n[template.web]\nmaster = \"golden\"\nhosts = [\"h0\"]\n",
            world.folder.path()
        );
        world.config = config(&text);
        let fleet = world.fleet().await;
        let first = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        assert_eq!((first.host.as_str(), first.memory_bytes, first.vcpus), ("h0", 256 << 20, 3), "as the master has");
        world.hosts[1].put_volume("golden.img", &[8; 70_000]);
        let second = fleet.clone_machine(spec("web-2"), Progress::default()).await.expect("there is room");
        let base = second.metadata.and_then(|metadata| metadata.base.clone()).expect("linked");
        assert!(base.contains("-0002-"), "{base}");
        assert_eq!(world.hosts[0].volume(&format!("{base}.img")), Some(vec![8; 70_000]));
        assert!(fleet.machines().iter().any(|machine| machine.name == "golden"), "the master is left alone");
    });
}

#[test]
fn warm_clones_wait_and_are_refilled() {
    run(async {
        let world = World::new(1, "warm = 2");
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        let waiting = |fleet: &Fleet| {
            let is_warm = |machine: &&weir_hypervisor::MachineView| {
                machine.state == MachineState::Paused
                    && machine.metadata.as_ref().is_some_and(|m| m.role == Role::Warm && m.phase == Phase::Ready)
            };
            ours(fleet).iter().filter(is_warm).map(|machine| machine.name.clone()).collect::<Vec<_>>()
        };
        until("two warm clones", || waiting(&fleet).len() == 2).await;
        let warm = waiting(&fleet);
        let wish = || CloneSpec { warm: WarmUse::First, wait: WaitFor::Ready, ..spec("slot-1") };
        let taken = fleet.clone_machine(wish(), Progress::default()).await.expect("one waits");
        assert!(warm.contains(&taken.name), "{} {warm:?}", taken.name);
        let metadata = taken.metadata.clone().expect("ours");
        assert_eq!((metadata.role, metadata.pool.as_deref(), metadata.claim.as_deref()), (Role::Member, Some("web"), Some("slot-1")));
        assert_eq!(taken.state, MachineState::Running);
        let again = fleet.clone_machine(wish(), Progress::default()).await.expect("it was taken");
        assert_eq!(again.id, taken.id, "the same wish has the same machine");
        until("it to be refilled", || waiting(&fleet).len() == 2).await;
        assert_eq!(fleet.templates()[0].warm, 2);
    });
}

#[test]
fn warm_clones_follow_what_their_template_says() {
    run(async {
        let world = World::new(2, "warm = 1\nhosts = [\"h0\"]");
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        let changed = |from: &str, to: &str| {
            let text = std::fs::read_to_string(world.folder.path().join("contract.toml")).expect("it was kept");
            assert!(text.contains(from), "{text}");
            config(&text.replace(from, to))
        };
        let waits_on = |host: &str, memory: u64| {
            let found = ours(&fleet);
            let ready = found.iter().filter(|machine| machine.metadata.as_ref().is_some_and(|metadata| metadata.phase == Phase::Ready));
            found.len() == 1 && ready.map(|machine| (machine.host.as_str(), machine.memory_bytes)).eq([(host, memory)])
        };
        until("one on the first host", || waits_on("h0", 512 << 20)).await;
        // Nobody gets one that is where the template does not want it, also while it has not gone yet.
        fleet.set_leader(false);
        fleet.apply(&changed("[\"h0\"]", "[\"h1\"]"));
        let wish = || CloneSpec { warm: WarmUse::Only, ..spec("slot-1") };
        assert!(matches!(fleet.clone_machine(wish(), Progress::default()).await, Err(HypervisorError::NotFound(_))));
        fleet.set_leader(true);
        until("one on the other host instead", || waits_on("h1", 512 << 20)).await;
        fleet.apply(&changed("512MiB", "640MiB"));
        until("one with the new memory on the first", || waits_on("h0", 640 << 20)).await;
        let earlier = CloneSpec { base: Some("web-0009-0123456789ab".into()), ..wish() };
        assert!(matches!(fleet.clone_machine(earlier, Progress::default()).await, Err(HypervisorError::NotFound(_))), "of another base");
        fleet.clone_machine(wish(), Progress::default()).await.expect("it is as a new one would be");
    });
}

#[test]
fn warm_clones_of_a_template_that_is_gone_are_left_until_somebody_asks() {
    run(async {
        let world = World::new(1, "warm = 1");
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        until("one that waits", || fleet.templates()[0].warm == 1).await;
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        let warm = ours(&fleet).into_iter().find(|machine| machine.state == MachineState::Paused).expect("it waits");
        let text = std::fs::read_to_string(world.folder.path().join("contract.toml")).expect("it was kept");
        fleet.apply(&config(text.split("[template.web]").next().expect("there is something before it")));
        let found = fleet.collect_garbage(true).await.expect("it answers");
        let said: Vec<_> = found.iter().map(|found| (found.kind, &*found.name, &*found.why, found.removed)).collect();
        assert_eq!(said, [("machine", &*warm.name, "it waits for template web, which is not in the file", false)]);
        assert!(fleet.collect_garbage(false).await.expect("it answers")[0].removed);
        assert_eq!(ours(&fleet).iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(), ["web-1"], "who serves is left alone");
    });
}

#[test]
fn a_machine_that_ends_while_it_boots_is_not_waited_for() {
    run(async {
        let world = World::new(1, "boot_timeout = \"1h\"");
        world.hosts[0].set_booted(false);
        let fleet = world.fleet().await;
        let wish = CloneSpec { wait: WaitFor::Ready, ..spec("web-1") };
        let clone = tokio::spawn(fleet.clone_machine(wish, Progress::default()));
        until("it boots", || ours(&fleet).iter().any(|machine| machine.state == MachineState::Running)).await;
        world.hosts[0].end_machine("web-1");
        let refused = clone.await.expect("no panic").expect_err("it ended");
        assert!(
            refused.chain().starts_with("h0: the boot: web-1 is off again; the end of /var/log/libvirt/qemu/web-1.log"),
            "{}",
            refused.chain()
        );
        assert_eq!((ours(&fleet).len(), fleet.collect_garbage(true).await.expect("it answers").len()), (0, 0));
    });
}

#[test]
fn a_base_that_somebody_removed_is_brought_again() {
    run(async {
        let world = World::new(1, "");
        let fleet = world.fleet().await;
        let made = fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        let base = made.metadata.and_then(|metadata| metadata.base.clone()).expect("linked");
        for lost in [format!("{base}.img"), format!("{base}.seal")] {
            let volumes = world.hosts[0].volumes();
            let lost = volumes.iter().find(|name| **name == lost).unwrap_or_else(|| panic!("no {lost} in {volumes:?}"));
            world.hosts[0].take_volume(lost);
            fleet.clone_machine(spec("web-2"), Progress::default()).await.unwrap_or_else(|error| panic!("{lost}: {}", error.chain()));
            fleet.act("web-2", Verb::Delete, Progress::default()).await.expect("it is ours");
        }
        // Where its source is gone too, that is said, and nothing is left.
        world.hosts[0].take_volume(&format!("{base}.img"));
        std::fs::remove_file(world.folder.path().join("web.img")).expect("it was there");
        let refused = fleet.clone_machine(spec("web-2"), Progress::default()).await.expect_err("there is nothing to make it of");
        assert!(refused.to_string().contains("web.img: No such file"), "{refused}");
        assert_eq!(ours(&fleet).len(), 1);
    });
}

#[test]
fn a_warm_clone_that_still_boots_is_no_leftover() {
    run(async {
        let world = World::new(1, "warm = 1\nboot_timeout = \"1h\"");
        world.hosts[0].set_booted(false);
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        let running = || ours(&fleet).into_iter().find(|machine| machine.state == MachineState::Running);
        until("one that boots", || running().is_some()).await;
        let booting = running().expect("it was seen");
        assert_eq!(booting.metadata.as_ref().map(|metadata| (metadata.role, metadata.phase)), Some((Role::Warm, Phase::Creating)));
        assert_eq!(fleet.collect_garbage(false).await.expect("it answers"), [], "it is being made");
        world.hosts[0].set_booted(true);
        until("it to wait", || fleet.templates()[0].warm == 1).await;
        assert_eq!(ours(&fleet)[0].id, booting.id, "it is the same one");
        // One that nobody makes any more is one.
        drop(fleet);
        let world = World::new(1, "warm = 1\nboot_timeout = \"1h\"");
        world.hosts[0].set_booted(false);
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        until("one that boots", || ours(&fleet).iter().any(|machine| machine.state == MachineState::Running)).await;
        drop(fleet);
        let fleet = world.fleet().await;
        assert_eq!(fleet.collect_garbage(true).await.expect("it answers").len(), 1);
    });
}

#[test]
fn a_warm_clone_is_told_the_time_when_it_is_thawed() {
    run(async {
        for mode in ["paused", "saved"] {
            let world = World::new(1, &format!("warm = 1\nwarm_mode = {mode:?}"));
            world.hosts[0].set_agents(true);
            let fleet = world.fleet().await;
            fleet.set_leader(true);
            until("one that waits", || fleet.templates()[0].warm == 1).await;
            let waiting = ours(&fleet).remove(0);
            let expected = if mode == "paused" { MachineState::Paused } else { MachineState::Off };
            assert_eq!(waiting.state, expected, "{mode}");
            // What it was told before it was frozen does not count.
            world.hosts[0].set_agents(true);
            let wish = CloneSpec { warm: WarmUse::Only, wait: WaitFor::Ready, ..spec("slot-1") };
            let taken = fleet.clone_machine(wish, Progress::default()).await.expect("one waits");
            assert_eq!((&taken.id, taken.state), (&waiting.id, MachineState::Running), "{mode}");
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
            let told = world.hosts[0].told_time(&taken.id.0).expect("it was told");
            assert!((now - told).abs() <= 30, "{mode}: told {told}, it is {now}");
        }
    });
}

#[test]
fn a_saved_clone_is_thawed_where_there_is_room_for_it() {
    run(async {
        let world = World::new(1, "warm = 1\nwarm_mode = \"saved\"");
        // Room for one: the template's 512 MiB, and what is reserved for the host.
        world.hosts[0].set_memory((512 + 512) << 20);
        let fleet = world.fleet().await;
        fleet.set_leader(true);
        until("one that waits", || fleet.templates()[0].warm == 1).await;
        fleet.set_leader(false);
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("a saved one takes no memory");
        let wish = || CloneSpec { warm: WarmUse::Only, ..spec("slot-1") };
        assert!(matches!(fleet.clone_machine(wish(), Progress::default()).await, Err(HypervisorError::NotFound(_))));
        fleet.act("web-1", Verb::Delete, Progress::default()).await.expect("it is ours");
        let taken = fleet.clone_machine(wish(), Progress::default()).await.expect("now there is room");
        assert_eq!(taken.state, MachineState::Running);
    });
}

#[test]
fn the_interval_is_kept_however_long_a_look_takes() {
    run(async {
        let world = World::new(1, "");
        let fleet = world.fleet().await;
        // Looked at every 100 ms; each look takes 80.
        world.hosts[0].set_takes(Duration::from_millis(80));
        let mut tries = Vec::new();
        // One who waits after each look needs 180 ms for every one of them; a machine that is busy may need longer now and then.
        while tries.last().is_none_or(|took| *took >= Duration::from_millis(10 * 160)) {
            assert!(tries.len() < 10, "ten looks in {tries:?}");
            let before = world.hosts[0].samples();
            let began = std::time::Instant::now();
            until("ten looks", || world.hosts[0].samples() >= before + 10).await;
            tries.push(began.elapsed());
        }
        drop(fleet);
    });
}

#[test]
fn a_host_that_falls_silent_is_unknown_and_comes_back() {
    run(async {
        let world = World::new(1, "");
        let fleet = world.fleet().await;
        fleet.clone_machine(spec("web-1"), Progress::default()).await.expect("there is room");
        world.hosts[0].set_down(Some("its power is out"));
        until("it to be unknown", || matches!(&fleet.hosts()[0].state, HostState::Unknown { why, .. } if why == "its power is out")).await;
        let machine = &ours(&fleet)[0];
        assert!(machine.unknown_since.is_some() && machine.state == MachineState::Running, "what was last known is shown, with its age");
        let refused = fleet.clone_machine(spec("web-2"), Progress::default()).await.expect_err("nobody answers");
        assert_eq!(refused.to_string(), "no host can take it: h0: it does not answer: its power is out");
        assert!(matches!(fleet.act("web-1", Verb::Stop, Progress::default()).await, Err(HypervisorError::Host { .. })));
        world.hosts[0].set_down(None);
        until("it to answer", || fleet.hosts()[0].state == HostState::Up).await;
        assert_eq!(ours(&fleet)[0].unknown_since, None);
    });
}
