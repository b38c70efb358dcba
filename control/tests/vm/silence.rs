//! A libvirtd that hangs for a minute, and one that dies and comes back.

use std::time::{Duration, Instant};

use crate::rig::{Site, until};

/// How long it hangs.
const HANG: Duration = Duration::from_secs(60);

/// The host's timeout is 3 s, and some commands make two calls; the rest is for a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What is in memory waits for nobody.
const LOOK_MAX: Duration = Duration::from_secs(15);

#[test]
fn a_libvirtd_that_hangs_for_a_minute_holds_nobody_up() {
    let site = Site::new(1_000_000, "");
    site.write(&site.text().replace("timeout = \"30s\"", "timeout = \"3s\""));
    let weir = site.start(&[]);
    for name in ["web-1", "web-2"] {
        site.ok(&["vm", "clone", "web", "--name", name, "--no-wait"]);
    }
    site.daemon.signal("STOP");
    let began = Instant::now();
    let timed = |words: &[&str], max: Duration| {
        let at = Instant::now();
        let output = site.weir(words);
        assert!(at.elapsed() < max, "weir {words:?} took {:?}", at.elapsed());
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let mut rounds = 0;
    while began.elapsed() < HANG {
        let said = timed(&["vm", "console", "web-1"], ANSWER_MAX);
        assert!(said.contains("took longer than 3 s") || said.contains("not connected") || said.contains("weir-libvirt"), "{said}");
        let said = timed(&["vm", "stop", "--host", "a"], ANSWER_MAX);
        assert!(said.contains("web-1 on a: stop failed") && said.contains("web-2 on a: stop failed"), "{said}");
        let said = timed(&["vm", "clone", "web", "--no-wait"], ANSWER_MAX);
        assert!(said.contains("it does not answer"), "{said}");
        timed(&["vm", "gc", "--dry-run"], ANSWER_MAX);
        let shown = timed(&["status", "vm"], LOOK_MAX);
        assert!(shown.contains("unknown since") && shown.contains("was running"), "{shown}");
        rounds += 1;
        // Calls fail at once while there is no connection.
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(rounds > 1, "there was no second round");
    let fleet = site.fleet();
    let since = fleet["hosts"][0]["since"].as_f64().expect("it is unknown");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((50.0..200.0).contains(&(now - since)), "{fleet}");
    site.daemon.signal("CONT");
    until("it answers again", || site.fleet()["hosts"][0]["state"] == "up");
    site.ok(&["vm", "delete", "web-1", "web-2"]);
    let events = site.ok(&["events", "-n", "5000"]);
    assert!(events.contains("a does not answer: ") && events.contains("a answers again"), "{events}");
    drop(weir);
}

#[test]
fn a_libvirtd_that_ends_and_starts_again_is_found_again() {
    let site = Site::new(1_000_000, "");
    let weir = site.start(&[]);
    site.ok(&["vm", "clone", "web", "--name", "web-1", "--no-wait"]);
    let started = site.ours()[0]["since"].clone();
    site.daemon.stop();
    until("it is unknown", || site.fleet()["hosts"][0]["state"] == "unknown");
    let refused = site.refused(&["vm", "reset", "web-1"]);
    assert!(refused.contains("web-1 on a: reset failed"), "{refused}");
    site.daemon.go_on();
    until("it answers again", || site.fleet()["hosts"][0]["state"] == "up");
    let machine = &site.ours()[0];
    assert_eq!((&machine["state"], &machine["since"]), (&"running".into(), &started), "it went on meanwhile");
    site.ok(&["vm", "reset", "web-1"]);
    site.ok(&["vm", "delete", "web-1"]);
    drop(weir);
}
