//! Two nodes with a virtual IP: only its master acts on machines.

use std::process::Output;

use serde_json::Value;

use crate::link::net::Lab;
use crate::link::node::Program;
use crate::rig::{Site, until};

struct Pair {
    site: Site,
    nodes: Vec<Program>,
    lab: Lab,
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair { site: Site::new(1_000_000, ""), nodes: Vec::new(), lab: Lab::new(&["a", "b", "c"]) };
        for (host, priority) in [("a", 250), ("b", 200)] {
            pair.write(host, priority, "[cluster]\nleader_vip = \"public\"\n");
            let words = ["run".into(), "--config".into(), pair.site.path(&format!("{host}.toml")).display().to_string()];
            pair.nodes.push(Program::start(&pair.lab, host, env!("CARGO_BIN_EXE_weir"), &words));
        }
        until("both see the host", || ["a", "b"].iter().all(|host| pair.fleet(host)["hosts"][0]["state"] == "up"));
        until("a leads", || pair.fleet("a")["leads"] == true);
        until("b knows", || pair.ok("b", &["status", "vm"]).contains("this node only watches: 10.9.0.1 acts on machines"));
        pair
    }

    fn write(&self, host: &str, priority: u8, cluster: &str) {
        let text = format!(
            "[node]\nname = \"lb-{host}\"\nworkers = 1\nstate_dir = {:?}\ndrain_timeout = \"1s\"\n[api]\n{cluster}\
             [vip.public]\ninterface = \"eth0\"\nrouter_id = 51\naddresses = [\"10.9.0.100/24\"]\npriority = {priority}\n{}",
            self.site.path(&format!("state-{host}")),
            self.site.machines()
        );
        self.site.write_to(&format!("{host}.toml"), &text);
    }

    fn weir(&self, host: &str, words: &[&str]) -> Output {
        self.lab.command(host, env!("CARGO_BIN_EXE_weir")).args(words).output().expect("it runs")
    }

    #[track_caller]
    fn ok(&self, host: &str, words: &[&str]) -> String {
        let output = self.weir(host, words);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "weir {words:?} on {host}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    #[track_caller]
    fn refused(&self, host: &str, words: &[&str]) -> String {
        let output = self.weir(host, words);
        assert_eq!(output.status.code(), Some(1), "weir {words:?} on {host}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn fleet(&self, host: &str) -> Value {
        serde_json::from_slice(&self.weir(host, &["status", "vm", "--json"]).stdout).unwrap_or_default()
    }
}

#[test]
fn only_the_master_of_the_leader_vip_acts() {
    let mut pair = Pair::new();
    let clone = |name: &'static str| ["vm", "clone", "web", "--name", name, "--no-wait"];
    let refused = pair.refused("b", &clone("web-1"));
    assert!(refused.contains("10.9.0.1 is master of `[cluster] leader_vip`: ask that node") && refused.contains("--anyway"), "{refused}");
    pair.ok("a", &clone("web-1"));
    until("b sees it too", || pair.ok("b", &["vm", "list"]).contains("web-1"));
    for words in [&["vm", "delete", "web-1"][..], &["vm", "gc"], &["vm", "prefetch", "web"], &["vm", "migrate", "web-1", "--to", "a"]] {
        assert!(pair.refused("b", words).contains("does not act on machines now"), "{words:?}");
    }
    // To look changes nothing.
    for words in [&["vm", "delete", "web-1", "--dry-run"][..], &["vm", "gc", "--dry-run"], &["vm", "console", "web-1"], &["status", "vm"]] {
        pair.ok("b", words);
    }
    assert!(pair.ok("b", &["status", "vm"]).contains("this node only watches: 10.9.0.1 acts on machines"));
    pair.ok("b", &["vm", "suspend", "web-1", "--anyway"]);

    pair.nodes[0].kill_all();
    until("b leads", || pair.fleet("b")["leads"] == true);
    pair.ok("b", &clone("web-2"));
    pair.ok("b", &["vm", "delete", "web-1", "web-2"]);
    assert_eq!(pair.site.domains(), Vec::<String>::new());

    // A node that is told to be alone, or not to be, needs no restart for it.
    pair.write("b", 200, "");
    pair.ok("b", &["reload"]);
    assert_eq!(pair.fleet("b")["leads"], true);
    let words = ["run".into(), "--config".into(), pair.site.path("a.toml").display().to_string()];
    pair.nodes[0] = Program::start(&pair.lab, "a", env!("CARGO_BIN_EXE_weir"), &words);
    until("a leads again", || pair.fleet("a")["leads"] == true);
    pair.write("b", 200, "[cluster]\nleader_vip = \"public\"\n");
    pair.ok("b", &["reload"]);
    until("b only watches", || pair.fleet("b")["leads"] == false);
}
