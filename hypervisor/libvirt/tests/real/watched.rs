//! What is seen of a host and its machines, and what is told of them.

use std::time::{Duration, Instant};

use weir_hypervisor::{Hypervisor, Progress, RoomEvent, Verb};

use crate::daemon::Daemon;
use crate::support::{ours, spec, until};
use crate::{fleet, real, run};

/// The next event that is meant; others are passed over.
async fn next<T>(events: &mut tokio::sync::broadcast::Receiver<RoomEvent>, what: &str, meant: impl Fn(&RoomEvent) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, events.recv()).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
        if let Some(found) = meant(&event.expect("the fleet is there")) {
            return found;
        }
    }
}

#[test]
fn loads_pressure_and_space_are_kept_and_changes_are_told() {
    let daemon = Daemon::start();
    run(async {
        let fleet = fleet(&real(&daemon, ""));
        let mut events = fleet.events();
        next(&mut events, "the host", |event| (*event == RoomEvent::HostFound { host: "a".into() }).then_some(())).await;
        assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
        fleet.clone_machine(spec("web-1"), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let copied = next(&mut events, "the base", |event| match event {
            RoomEvent::BaseCopied { host, bytes, resumed_bytes, .. } => Some((host.clone(), *bytes, *resumed_bytes)),
            _ => None,
        });
        assert_eq!(copied.await, ("a".into(), 3_000_000, 0));
        let made = next(&mut events, "the machine", |event| match event {
            RoomEvent::MachineMade { machine, pool, role, .. } => Some((machine.clone(), pool.clone(), *role)),
            _ => None,
        });
        assert_eq!(made.await, ("web-1".into(), Some("web".into()), "member"));

        // Its firmware works and looks for something to boot.
        until("its load", || fleet.points("web-1").iter().any(|point| point.cpu_share > 0.0)).await;
        let machine = ours(&fleet).remove(0);
        let (load, totals) = (machine.load.expect("it runs"), machine.totals.expect("its host answers"));
        assert!(load.memory_resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{load:?}");
        assert!(totals.cpu_s > 0.0, "{totals:?}");
        assert_eq!(machine.base_generation, Some(1));
        until("the disk to be read", || {
            ours(&fleet)[0].totals.is_some_and(|totals| totals.disk_reads > 0 && totals.disk_allocated_bytes > 0)
        })
        .await;
        // All of it may have been read before the first look; now it is read between two.
        fleet.act("web-1", Verb::Reset, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let latency = || fleet.points("web-1").iter().filter_map(|point| point.disk_latency_s).fold(0.0, f64::max);
        until("the latency of its disk", || latency() > 0.0).await;
        let latency = latency();
        assert!(latency > 0.0 && latency < 10.0, "{latency}");
        until("points of the host", || fleet.host_points("a").len() > 2).await;
        let point = fleet.host_points("a").pop().expect("there are some");
        assert!(point.storage_available_bytes.is_some() && (0.0..=1.0).contains(&point.cpu_share), "{point:?}");
        // The kernel of this machine has it, or the host says nothing of it.
        let has = std::path::Path::new("/proc/pressure/cpu").exists();
        assert_eq!(point.pressure.is_some(), has, "{point:?}");
        assert_eq!(fleet.templates()[0].generations[0].machines, 1);

        let failed = weir_hypervisor::CloneSpec { generation: 0, ..spec("web-1") };
        fleet.clone_machine(failed, Progress::default()).await.expect_err("that is of a later generation");
        next(&mut events, "the refusal", |event| {
            matches!(event, RoomEvent::MachineNotMade { machine: Some(name), why, .. } if name == "web-1" && why.contains("generation"))
                .then_some(())
        })
        .await;
        let counts = fleet.templates()[0].clones;
        assert_eq!((counts.made, counts.warm_taken, counts.failed), (1, 0, 1));

        daemon.signal("STOP");
        next(&mut events, "the loss", |event| matches!(event, RoomEvent::HostLost { host, .. } if host == "a").then_some(())).await;
        assert!(ours(&fleet)[0].load.is_none() && ours(&fleet)[0].totals.is_none(), "what is not known is not said");
        daemon.signal("CONT");
        let after = next(&mut events, "the return", |event| match event {
            RoomEvent::HostRegained { after_s, .. } => Some(*after_s),
            _ => None,
        });
        assert!(after.await > 1.0);
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let removed = |event: &RoomEvent| matches!(event, RoomEvent::MachineRemoved { machine, .. } if machine == "web-1").then_some(());
        next(&mut events, "the removal", removed).await;
    });
}
