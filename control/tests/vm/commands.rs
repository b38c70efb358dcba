//! The commands as an operator types them, right and wrong.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::{Site, until};

#[test]
fn what_is_asked_of_machines_is_done_and_told() {
    let site = Site::new(3_000_000, "display = true\n");
    site.make_foreign("web-foreign");
    let weir = site.start(&[]);
    assert_eq!(site.ok(&["vm", "clone", "web", "--dry-run"]), "it would go to a\n");
    for (name, label) in [("web-1", "tier=front"), ("web-2", "tier=front"), ("web-3", "tier=back")] {
        let done = site.ok(&["vm", "clone", "web", "--name", name, "--pool", "web", "--label", label, "--no-wait"]);
        assert_eq!(done, format!("{name} on a: clone of template web done\n"));
    }
    let dry = site.ok(&["vm", "suspend", "--label", "tier=front", "--dry-run"]);
    assert_eq!(dry, "web-1 on a: would suspend\nweb-2 on a: would suspend\n");
    let state = |name: &str| {
        site.ours().into_iter().find(|machine| machine["name"] == name).map_or(Value::Null, |machine| machine["state"].clone())
    };
    assert_eq!(state("web-1"), "running", "a dry run does nothing");
    let done = site.ok(&["vm", "suspend", "--label", "tier=front", "--parallel", "2"]);
    assert_eq!(done, "web-1 on a: suspend done\nweb-2 on a: suspend done\n");
    assert_eq!((state("web-1"), state("web-3")), ("paused".into(), "running".into()));
    site.ok(&["vm", "resume", "--pool", "web"]);
    for verb in ["reset", "stop", "start"] {
        assert_eq!(site.ok(&["vm", verb, "web-1"]), format!("web-1 on a: {verb} done\n"));
    }
    // Firmware that finds nothing to boot does not listen to its power button.
    let late = site.refused(&["vm", "shutdown", "web-1", "--timeout", "1s"]);
    assert!(late.contains("web-1 on a: shutdown failed: it did not shut down within 1 s; stop it, or shut it down with force"), "{late}");
    assert_eq!(state("web-1"), "running");
    site.ok(&["vm", "shutdown", "web-1", "--timeout", "1s", "--force"]);
    assert_eq!(state("web-1"), "off");

    // Each machine of a group has its own result, and no more are worked on at once than was said.
    let mixed = site.refused(&["vm", "shutdown", "--label", "tier=front", "--timeout", "1s"]);
    assert!(
        mixed.contains("web-1 on a: shutdown done\n") && mixed.contains("web-2 on a: shutdown failed: it did not shut down"),
        "{mixed}"
    );
    let group = |parallel: &str| {
        let began = Instant::now();
        let done = site.ok(&["vm", "shutdown", "--pool", "web", "--timeout", "4s", "--force", "--parallel", parallel]);
        assert_eq!(done, ["web-1", "web-2", "web-3"].map(|name| format!("{name} on a: shutdown done\n")).concat());
        let took = began.elapsed();
        site.ok(&["vm", "start", "web-2", "web-3"]);
        took
    };
    let (one_by_one, at_once) = (group("1"), group("2"));
    assert!(one_by_one >= Duration::from_secs(8) && at_once + Duration::from_secs(1) < one_by_one, "{one_by_one:?}, {at_once:?}");

    let picture = site.path("screen");
    site.ok(&["vm", "screenshot", "web-2", &picture.display().to_string()]);
    assert!(std::fs::metadata(&picture).is_ok_and(|file| file.len() > 1000));
    site.ok(&["vm", "console", "web-2", "--bytes", "100"]);
    until("its load", || site.ok(&["status", "vm", "web-2"]).contains("CPU: "));
    let shown = site.ok(&["status", "vm"]);
    for expected in ["this node acts on machines", "web-foreign", "running foreign", "off foreign", "1: 3", "64.0MiB"] {
        let is_there = shown.contains(expected) || (expected.ends_with(" foreign") && shown.contains("off foreign"));
        assert!(is_there, "no {expected:?} in\n{shown}");
    }

    std::fs::write(site.daemon.pool().join("weir-web-9.disk.img"), "left").expect("written");
    let found = site.ok(&["vm", "gc", "--dry-run"]);
    assert!(found.contains("weir-web-9.disk.img") && found.contains("there is no machine web-9 on any host"), "{found}");
    assert!(site.daemon.files().contains(&"weir-web-9.disk.img".to_owned()));
    assert!(site.ok(&["vm", "gc"]).contains("true"));
    assert!(!site.daemon.files().contains(&"weir-web-9.disk.img".to_owned()));
    assert_eq!(site.ok(&["vm", "gc"]), "nothing was left behind\n");

    site.ok(&["vm", "delete", "--host", "a"]);
    assert_eq!(site.domains(), ["web-foreign"]);
    let events = site.ok(&["events", "-n", "500"]);
    for expected in [
        "alice@",
        "from 127.0.0.1 asked for suspend of web-2 on a: done",
        "asked for shutdown of web-1 on a: failed: it did not",
        "web-3 was removed from a",
    ] {
        assert!(events.contains(expected), "no {expected:?} in\n{events}");
    }
    drop(weir);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let site = Site::new(1_000_000, "");
    site.make_foreign("web-foreign");
    site.make_foreign("weir-web-7");
    let checksum = format!("checksum = \"sha256:{}\"", "0".repeat(64));
    site.write(&format!(
        "{}[host.b]\nuri = \"qemu+unix:///system?socket=/nowhere\"\ntimeout = \"1s\"\n[host.c]\nuri = \"nonsense:///x\"\n\
         [template.master]\nmaster = \"golden\"\n[template.wrong]\nimage = {:?}\nmemory = \"64MiB\"\nbridge = \"weirbr0\"\n{checksum}\n\
         [template.absent]\nimage = \"/nowhere/x.img\"\nmemory = \"64MiB\"\nbridge = \"weirbr0\"\n\
         [template.large]\nimage = {:?}\nmemory = \"900GiB\"\nbridge = \"weirbr0\"\n",
        site.text(),
        site.path("web.img"),
        site.path("web.img")
    ));
    let weir = site.start(&[]);
    for (words, expected) in [
        ("vm clone nope", "there is no template nope; the templates are: absent, large, master, web, wrong"),
        ("vm clone web --host nope", "there is no host nope; the hosts are: a, b, c"),
        ("vm clone web --host b", "b: it has not answered yet"),
        ("vm clone web --name Web_1", "is not a machine's name"),
        ("vm clone web --name web-foreign", "that is not ours"),
        ("vm clone web --host a --name web-7", "the volume weir-web-7.disk.img on a belongs to weir-web-7"),
        ("vm clone master", "there is no machine \"golden\" on any host"),
        ("vm clone wrong", "fetch the image again, or correct `checksum`"),
        ("vm clone absent", "/nowhere/x.img: No such file"),
        ("vm clone large", "900 GiB wanted"),
        ("vm stop nobody", "there is no machine nobody"),
        ("vm stop --pool nope", "there is no pool nope; the pools are: none"),
        ("vm stop --host nope", "there is no host nope"),
        ("vm stop", "name machines, or a pool, host or label"),
        ("vm stop web-foreign", "was not made by weir and is left alone"),
        ("vm stop web-foreign --dry-run", "was not made by weir and is left alone"),
        ("vm delete web-foreign", "was not made by weir and is left alone"),
        ("vm migrate web-foreign --to nope", "there is no host nope"),
        ("vm prefetch nope", "there is no template nope"),
        ("vm prefetch wrong", "correct `checksum`"),
        ("vm console nobody", "there is no machine nobody"),
        ("vm console web-foreign", "was not made by weir"),
        ("vm screenshot web-foreign /nowhere/x", "was not made by weir"),
        ("status vm nobody", "there is no machine nobody"),
    ] {
        let said = site.refused(&words.split(' ').collect::<Vec<_>>());
        assert!(said.contains(expected), "weir {words}: no {expected:?} in: {said}");
    }
    assert_eq!(site.domains(), ["web-foreign", "weir-web-7"]);
    ["web-foreign", "weir-web-7"].iter().for_each(|name| site.check_foreign(name));
    let files = site.daemon.files();
    assert!(
        files.iter().all(|file| file.ends_with("foreign.disk.img") || file == "weir-web-7.disk.img" || file.contains("base")),
        "{files:?}"
    );
    until("the reasons", || {
        let shown = site.ok(&["status", "vm"]);
        shown.contains("is the socket's path right?") && shown.contains("c     connecting")
    });
    let shown = site.ok(&["status", "vm"]);
    println!("{shown}");

    let twice = format!("{}[template.web]\nimage = \"/x\"\n", site.text());
    site.write(&twice);
    let refused = site.refused(&["reload"]);
    assert!(refused.contains("template") && refused.contains("web") && refused.contains("weir.toml:"), "{refused}");
    println!("{refused}");
    drop(weir);
}
