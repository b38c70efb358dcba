//! A base on its way to a host.

use serde_json::Value;

use crate::relay::{Moment, dying};
use crate::rig::{Site, until};

#[test]
fn a_copy_that_was_killed_goes_on_where_it_broke_off() {
    // Four pieces.
    let site = Site::new(110_000_000, "");
    // The volume is made, and two pieces are there.
    let mut weir = site.start(&dying(&site, Moment::After, 3));
    site.weir(&["vm", "prefetch", "web"]);
    until("it dies", || weir.has_ended());
    let files = site.daemon.files();
    assert!(files.len() == 1 && files[0].ends_with(".img"), "a volume without its seal: {files:?}");

    let weir = site.start(&[]);
    let dry = site.ok(&["vm", "prefetch", "web", "--dry-run"]);
    assert!(dry.contains("template web on a: would bring the base"), "{dry}");
    let operation: Value = serde_json::from_str(&site.ok(&["vm", "prefetch", "web", "--json"])).expect("JSON");
    let item = &operation["items"][0];
    assert_eq!((&item["done_bytes"], &item["end_bytes"]), (&Value::from(110_000_000), &Value::from(110_000_000)), "{operation}");
    let events = site.ok(&["events", "--json"]);
    let copied: Vec<Value> =
        events.lines().filter(|line| line.contains("base_copied")).filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(copied.len(), 1, "{events}");
    // 32 MiB each.
    assert_eq!(
        (&copied[0]["details"]["resumed_bytes"], &copied[0]["details"]["bytes"]),
        (&Value::from(64 << 20), &Value::from(110_000_000)),
        "{}",
        copied[0]
    );
    let base = site.daemon.files().into_iter().find(|file| file.ends_with(".img")).expect("it is there");
    let same = std::fs::read(site.daemon.pool().join(base)).expect("readable") == std::fs::read(site.path("web.img")).expect("readable");
    assert!(same, "the copy is another");
    drop(weir);
}
