//! The leader dies at each step of a launch and of a termination; the other node finishes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::Load;
use serde_json::Value;

use crate::fleet::{BOOTS, Node, Site, settled, until};

/// Low and high load: two machines, and three.
const RATES: [u64; 2] = [20, 58];

/// In turns, so that little has to be done in between: the first of each pair on the way to three machines, the second on the way back. Those that
/// leave something half done: a machine that boots, and one that is being removed.
const HALF_DONE: [&str; 2] = ["launch for", "remove"];
const OTHERS: [&str; 6] = ["run the launch hook", "retire", "register", "drain", "run the terminate hook", "deregister"];

#[test]
fn a_leader_that_dies_over_a_launch_and_over_a_removal_is_succeeded() {
    die_at(&HALF_DONE);
}

#[test]
#[ignore = "minutes: scripts/test --lab runs it"]
fn whatever_other_step_the_leader_dies_at_the_other_finishes() {
    die_at(&OTHERS);
}

fn die_at(steps: &[&str]) {
    let site = Site::new(&["lb-a", "lb-b"]);
    let vip = site.lab.addresses().free(5);
    let listen = SocketAddr::from((vip, 8080));
    let start = |name: &str, priority: u32| {
        let lab_node = site.lab.node(name);
        let body = format!(
            "[cluster]\nleader_vip = \"public\"\n[vip.public]\ninterface = \"eth0\"\nrouter_id = 77\naddresses = [\"{vip}/22\"]\npriority = {priority}\npreempt = false\n\
             [listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
             [pool.web]\n[pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 10\n\
             [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 3\nwarm_up = \"0s\"\ncooldown_out = \"0s\"\ncooldown_in = \"0s\"\nstabilise_in = \"2s\"\n\
             drain_timeout = \"5s\"\nshutdown_timeout = \"5s\"\n\
             launch_hook = {{ command = [\"/bin/sleep\", \"0.3\"] }}\nterminate_hook = {{ command = [\"/bin/sleep\", \"0.3\"] }}\n\
             [[pool.web.scaling.target]]\nmetric = \"requests-per-endpoint\"\nvalue = 20\nperiod = \"2s\"\n{}",
            site.machines()
        );
        Node::start(&site, name, lab_node.address(), &body, |program: &Path| site.lab.node(name).command(program))
    };
    let mut nodes = [Some(start("lb-a", 200)), Some(start("lb-b", 100))];
    let names = ["lb-a", "lb-b"];
    let leads = |node: &Option<Node>| node.as_ref().and_then(|node| node.scaling().ok()).is_some_and(|scaling| scaling["leads"] == true);
    let leader = |nodes: &[Option<Node>; 2]| -> usize {
        let mut found = None;
        until("one leader", Duration::from_secs(60), || {
            found = nodes.iter().position(leads);
            found.map(drop).ok_or_else(|| "nobody leads".into())
        });
        found.expect("it was found")
    };
    let first = leader(&nodes);
    until("two machines", BOOTS, || nodes[first].as_ref().expect("it runs").scaling().and_then(|scaling| settled(&scaling, 2)).map(drop));
    let load = Load::start(listen, RATES[0]);
    let mut wanted = 2;
    for &step in steps {
        let is_out = ["launch for", "run the launch hook", "register"].contains(&step);
        let target = if is_out { 3 } else { 2 };
        if wanted == target {
            // The other way first, with nobody dying.
            wanted = if is_out { 2 } else { 3 };
            load.set_rate(RATES[wanted - 2]);
            let now = leader(&nodes);
            until("the other way", BOOTS, || {
                nodes[now].as_ref().expect("it runs").scaling().and_then(|scaling| settled(&scaling, wanted)).map(drop)
            });
        }
        wanted = target;
        let seen = nodes.each_ref().map(|node| node.as_ref().map_or(0, |node| node.events().len()));
        load.set_rate(RATES[wanted - 2]);
        let of_step = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(step));
        let mut now = 0;
        // Whoever leads then: a node that was kept from running for long hands its lead over.
        until(step, BOOTS, || {
            now = leader(&nodes);
            let node = nodes[now].as_ref().expect("it runs");
            let scaling = node.scaling()?;
            let planned = scaling["steps"].as_array().into_iter().flatten().any(of_step);
            let done = || node.events().iter().skip(seen[now]).any(|event| of_step(&event["step"]));
            if planned || done() { Ok(()) } else { Err(scaling.to_string()) }
        });
        nodes[now].as_mut().expect("it runs").kill();
        let began = Instant::now();
        nodes[now] = None;
        let other = 1 - now;
        let mut serving = Default::default();
        until(&format!("{wanted} machines after a death at {step}"), BOOTS, || {
            let there = site.domains();
            assert!(there.len() >= 2, "below the minimum after a death at {step}: {there:?}");
            let node = nodes[other].as_ref().expect("it runs");
            node.scaling().and_then(|scaling| settled(&scaling, wanted)).map(|found| serving = found)
        });
        until("no leftovers", Duration::from_secs(60), || site.nothing_else_is_left(&serving));
        eprintln!("{step}: done by {} within {:?}", names[other], began.elapsed());
        nodes[now] = Some(start(names[now], [200, 100][now]));
    }
    load.stop();
}
