//! Warm clones with real guests: what stood still is right when they go on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::http_get;
use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, MachineState, MachineView, Progress, Verb, WaitFor, WarmUse};

use crate::support::{ours, spec};
use crate::{BOOT, Site, run, v4};

const SOON: Duration = Duration::from_secs(10);

/// What a clock may be off: the way to the guest and back on a busy machine.
const CLOCK_S: f64 = 1.5;

/// As long as a guest is frozen here; a clock that was not set is behind by as much.
const FROZEN_S: u64 = 6;

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

async fn waiting(fleet: &Fleet) -> MachineView {
    let deadline = Instant::now() + BOOT;
    loop {
        if fleet.templates()[0].warm == 1 {
            return ours(fleet).remove(0);
        }
        assert!(Instant::now() < deadline, "no warm clone: {:?}, {:?}", fleet.templates(), ours(fleet));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn number(identity: &str, key: &str) -> f64 {
    let page: serde_json::Value = serde_json::from_str(identity).expect("JSON");
    page[key].as_f64().unwrap_or_else(|| panic!("no {key} in {identity}"))
}

#[test]
fn a_thawed_clone_has_the_right_time_and_address() {
    run(async {
        for mode in ["paused", "saved"] {
            let site = Site::new(1);
            let fleet = site.fleet(&site.config(&format!("warm = 1\nwarm_mode = {mode:?}"))).await;
            fleet.set_leader(true);
            let warm = waiting(&fleet).await;
            fleet.set_leader(false);
            let expected = if mode == "paused" { MachineState::Paused } else { MachineState::Off };
            assert_eq!(warm.state, expected, "{mode}");
            let since = warm.since.expect("it says so");
            while now_s() < (since + FROZEN_S) as f64 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }

            let began = Instant::now();
            let wish = CloneSpec { warm: WarmUse::Only, wait: WaitFor::Ready, ..spec("slot-1") };
            let taken = fleet.clone_machine(wish, Progress::default()).await.unwrap_or_else(|error| panic!("{mode}: {}", error.chain()));
            println!("{mode}: ready after {:?}", began.elapsed());
            assert_eq!((&taken.id, taken.address), (&warm.id, warm.address), "{mode}");
            let identity = http_get(v4(&taken), "/identity", SOON).expect("it serves").1;
            let off = number(&identity, "clock_s") - now_s();
            assert!(off.abs() < CLOCK_S, "{mode}: its clock is off by {off} s: {identity}");
            assert_eq!(number(&identity, "boots"), 1.0, "{mode}: it went on: {identity}");
            assert!(identity.contains(&format!("\"hostname\":\"{}\"", warm.name)), "{mode}: {identity}");
            fleet.act(&taken.name, Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(fleet.collect_garbage(true).await.expect("it answers"), [], "{mode}");
        }
    });
}
