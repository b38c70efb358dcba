//! `weir`, or the process with libvirt in it, dies while machines are made and removed: after the next start there is each machine whole, or not at all.
//!
//! Dying is the end of the runtime with everything in it, which closes the pipe of `weir-libvirt`; in every second round that process is
//! killed first. The moments come from a seed, which is printed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::wait_for;
use weir_hypervisor::metadata::Phase;
use weir_hypervisor::{Fleet, Hypervisor, Progress, Verb};

use crate::support::{ours, spec, until};
use crate::{Site, domains, volumes};

const ROUNDS: u64 = 10;
/// A clone and its removal take less: the moments are spread over this.
const SPAN_MS: u64 = 700;

/// Children of this process with this program.
fn children(program: &Path) -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").expect("proc is there").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parent == Some(own) && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
    })
    .collect()
}

fn kill(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn death_at_any_moment_leaves_whole_machines_or_none() {
    let site = Site::new(1);
    site.make_foreign();
    let host = site.lab.host("kvm-a");
    let config = site.config("");
    let before = (domains(host), volumes(host));
    let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("WEIR_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let program = Path::new(env!("CARGO_BIN_EXE_weir-libvirt")).canonicalize().expect("it was built");
    for round in 0..ROUNDS {
        let moment = Duration::from_millis(chance.u64(..SPAN_MS));
        let removing = chance.bool();
        let name = format!("web-{round}");
        let first = runtime();
        first.block_on(async {
            let fleet = site.fleet(&config).await;
            let wish = spec(&name);
            let work = {
                let fleet: Fleet = fleet.clone();
                async move {
                    let made = fleet.clone_machine(wish, Progress::default()).await;
                    if removing && let Ok(machine) = made {
                        let _ = fleet.act(&machine.name, Verb::Delete, Progress::default()).await;
                    }
                }
            };
            let _ = tokio::time::timeout(moment, work).await;
            if round % 2 == 0 {
                children(&program).into_iter().for_each(kill);
            }
        });
        first.shutdown_background();
        wait_for("the end of the old processes", Duration::from_secs(20), || children(&program).is_empty().then_some(()))
            .expect("they end with their pipe");

        // The next start finds what was left, and what it says is ready is whole.
        let second = runtime();
        second.block_on(async {
            let fleet = site.fleet(&config).await;
            fleet.set_leader(true);
            until("no half machine", || {
                ours(&fleet).iter().all(|machine| machine.metadata.as_ref().is_some_and(|of| of.phase == Phase::Ready))
            })
            .await;
            fleet.collect_garbage(false).await.expect("the host answers");
            for machine in ours(&fleet) {
                assert!(domains(host).contains(&machine.name), "{} is shown and is not there", machine.name);
                fleet.act(&machine.name, Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            assert_eq!(fleet.collect_garbage(true).await.expect("the host answers"), [], "round {round}, {moment:?}");
        });
        drop(second);
        assert_eq!(domains(host), before.0, "round {round}, {moment:?}");
        let left: Vec<String> = volumes(host).difference(&before.1).filter(|name| !name.contains("base")).cloned().collect();
        assert!(left.is_empty(), "round {round}, {moment:?}: {left:?}");
        site.check_foreign();
    }
}
