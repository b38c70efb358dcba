//! `weir` is killed at each step of making and removing a machine: before it, in its midst, and when it is done but nobody has heard of it.
//! Whatever was the step, after the next start there is each machine whole, or not at all, and nothing that is not ours was touched.

use crate::relay::{Moment, dying};
use crate::rig::{PATIENCE, Site, until};

/// Names like ours, and disks named like them among ours.
const FOREIGN: [&str; 3] = ["weir-web-1-old", "web-1-old", "weir-web-11"];

/// Steps at most, so that a loop that never ends fails.
const STEPS_MAX: u32 = 40;

fn seed() -> u64 {
    let seed =
        std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()) << 16 | 7);
    println!("WEIR_SEED={seed}");
    seed
}

/// A small generator (xorshift64); only the moments come from it.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

fn site() -> Site {
    let site = Site::new(1_000_000, "");
    FOREIGN.iter().for_each(|name| site.make_foreign(name));
    let weir = site.start(&[]);
    site.ok(&["vm", "prefetch", "web"]);
    drop(weir);
    site
}

/// The next start: everything that is ours is whole, and the same machine can be wished for, or removed, as if nothing had been.
fn recovered(site: &Site, what: &str) -> Vec<String> {
    let weir = site.start(&[]);
    until(&format!("{what}: nothing half-made"), || site.ours().iter().all(|machine| machine["metadata"]["phase"] == "ready"));
    let found = site.ok(&["vm", "gc", "--dry-run", "--json"]);
    assert_eq!(found.trim(), "[]", "{what}");
    let names: Vec<String> = site.ours().iter().map(|machine| machine["name"].as_str().unwrap_or_default().to_owned()).collect();
    for machine in site.ours() {
        assert_eq!(machine["state"], "running", "{what}: {machine}");
    }
    // What is there can be used, and what is not there can be made.
    site.ok(&["vm", "clone", "web", "--name", "web-1", "--no-wait"]);
    site.ok(&["vm", "delete", "web-1"]);
    drop(weir);
    let mut expected: Vec<String> = FOREIGN.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(site.domains(), expected, "{what}");
    FOREIGN.iter().for_each(|name| site.check_foreign(name));
    let ours: Vec<String> =
        site.daemon.files().into_iter().filter(|file| file.starts_with("weir-web-1.") || file.contains("try")).collect();
    assert_eq!(ours, Vec::<String>::new(), "{what}");
    names
}

/// Runs `command` in a `weir` that dies at the `step`-th change; `false`: it was done before that.
fn dies(site: &Site, command: &[&str], moment: Moment, step: u32) -> bool {
    let mut weir = site.start(&dying(site, moment, step));
    let output = site.weir(command);
    if output.status.success() {
        return false;
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while !weir.has_ended() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(std::time::Instant::now() < deadline, "{moment:?} {step}: it did not die: {said}\n{}", site.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    true
}

#[test]
fn death_at_each_step_of_making_leaves_a_whole_machine_or_none() {
    let site = site();
    let mut state = seed();
    for step in 1..STEPS_MAX {
        for moment in [Moment::Before, Moment::During(below(&mut state, 30)), Moment::After] {
            let what = format!("{moment:?} step {step} of making");
            if !dies(&site, &["vm", "clone", "web", "--name", "web-1", "--no-wait"], moment, step) {
                assert!(step > 5, "{what}: there are more steps than that");
                assert!(moment == Moment::Before || step > 1);
                recovered(&site, &what);
                return;
            }
            recovered(&site, &what);
        }
    }
    panic!("there are not so many steps");
}

#[test]
fn death_at_each_step_of_removing_is_made_up_for() {
    let site = site();
    let mut state = seed().rotate_left(17) | 1;
    for step in 1..STEPS_MAX {
        for moment in [Moment::Before, Moment::During(below(&mut state, 30)), Moment::After] {
            let what = format!("{moment:?} step {step} of removing");
            let weir = site.start(&[]);
            site.ok(&["vm", "clone", "web", "--name", "web-1", "--no-wait"]);
            drop(weir);
            let died = dies(&site, &["vm", "delete", "web-1"], moment, step);
            let left = recovered(&site, &what);
            match (died, step, moment) {
                (false, ..) => {
                    assert!(step > 5, "{what}: there are more steps than that");
                    return;
                }
                // Nothing was done yet, so nothing is lost.
                (true, 1, Moment::Before) => assert_eq!(left, ["web-1"], "{what}"),
                (true, 1, Moment::During(_)) => {}
                (true, ..) => assert_eq!(left, Vec::<String>::new(), "{what}"),
            }
        }
    }
    panic!("there are not so many steps");
}
