//! Guests fall ill in every way that a recovery list knows; each is healed by the first attempt that can heal it, the traffic avoids it meanwhile,
//! and one message tells the story.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::Load;
use serde_json::Value;

use crate::fleet::{BOOTS, Node, Site, settled, until};

/// A way to fall ill, and the first attempt that can heal it.
struct Fault {
    name: &'static str,
    begin: fn(&Site, &str, Ipv4Addr),
    healed_by: &'static str,
}

fn page(address: Ipv4Addr, path: &str) {
    // What ends the server may end it before it has answered.
    let _ = lab::http_get(address, path, Duration::from_secs(30));
}

const FAULTS: [Fault; 5] = [
    Fault { name: "process dead", begin: |_, _, address| page(address, "/fault/exit"), healed_by: "reboot" },
    Fault { name: "server frozen", begin: |_, _, address| page(address, "/fault/hang"), healed_by: "reboot" },
    // The kernel does not listen any more.
    Fault { name: "kernel dead", begin: |_, _, address| page(address, "/fault/panic"), healed_by: "reset" },
    // The cable is back with the machine's definition, which a reset does not read again.
    Fault {
        name: "network cut",
        begin: |site, machine, _| {
            let cards = site.host().virsh(&["domiflist", machine]).expect("it runs");
            let mac = cards.split_whitespace().find(|word| word.matches(':').count() == 5).expect("it has a card").to_owned();
            site.host().virsh(&["domif-setlink", machine, &mac, "down"]).expect("libvirt can");
        },
        healed_by: "restart",
    },
    // What is on its disk survives everything but the disk.
    Fault { name: "disk full", begin: |_, _, address| page(address, "/fault/disk"), healed_by: "replace" },
];

#[test]
fn each_illness_is_healed_by_the_first_attempt_that_can() {
    let site = Site::new(&[]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 18081));
    let tickets = site.path("tickets.log");
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nmin_healthy = 1\nlimits.retries_max = 3\ntimeouts.first_byte = \"3s\"\ntimeouts.connect = \"1s\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/mark?value=1\"\nexpect = 200\ninterval = \"1s\"\ntimeout = \"1s\"\nrise = 1\nfall = 3\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 3\nwarm_up = \"0s\"\nunhealthy_grace = \"1s\"\nshutdown_timeout = \"5s\"\ndrain_timeout = \"1s\"\n\
         replace_max = 100\n\
         [recovery.web]\ntemplate = \"web\"\nafter = \"1s\"\nstable = \"1s\"\n\
         [[recovery.web.attempt]]\naction = \"reboot\"\nlimit = \"20s\"\nwait = \"45s\"\n\
         [[recovery.web.attempt]]\naction = \"reset\"\nlimit = \"20s\"\nwait = \"45s\"\n\
         [[recovery.web.attempt]]\naction = \"restart\"\nlimit = \"40s\"\nwait = \"45s\"\n\
         [[recovery.web.attempt]]\naction = \"replace\"\nlimit = \"3m\"\nwait = \"45s\"\n\
         [notify.tickets.ticket_log]\npath = {tickets:?}\n[[notify_rule]]\nnotify = \"tickets\"\n{}",
        // A kernel that has failed stays so.
        site.machines().replace("panic=-1", "panic=0")
    );
    let node = Node::start(&site, "lb-a", Ipv4Addr::LOCALHOST, &body, |program| Command::new(program));
    let told = || -> Vec<Value> {
        let text = std::fs::read_to_string(&tickets).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    until("two machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(drop));
    let load = Load::start(listen, 5);
    for fault in FAULTS {
        let mut serving = Default::default();
        until("two machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
        until("no case", BOOTS, || {
            let recovery = node.get("/v1/recovery/web")?;
            if recovery["cases"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(recovery.to_string()) }
        });
        let machine = serving.first().expect("two serve").clone();
        let machines = node.get("/v1/machines").expect("it answers");
        let view = machines.as_array().into_iter().flatten().find(|view| view["name"] == *machine).expect("it is there");
        let address: Ipv4Addr = view["address"].as_str().and_then(|text| text.parse().ok()).expect("it has an address");
        let before = told().len();
        let began = Instant::now();
        (fault.begin)(&site, &machine, address);
        let mut healed = Value::Null;
        until(&format!("{}: it is healed", fault.name), Duration::from_secs(400), || {
            let events = node.events();
            let tried = events.iter().filter(|event| event["event"] == "recovery_tried" && event["outcome"] == "healed");
            let of_it = tried.rev().find(|event| event["thing"] == format!("machine {machine}"));
            healed = of_it
                .filter(|_| told().len() > before)
                .cloned()
                .ok_or_else(|| node.get("/v1/recovery/web").unwrap_or_default().to_string())?;
            Ok(())
        });
        eprintln!("{}: {} in {:?}", fault.name, healed["action"], began.elapsed());
        assert_eq!(healed["action"], format!("{} of {machine}", fault.healed_by), "{}", fault.name);
        let messages = told();
        let message = &messages[before];
        assert_eq!((messages.len() - before, &message["kind"]), (1, &Value::from("resolved")), "{}: one message: {messages:?}", fault.name);
        let text = message["text"].as_str().expect("a text");
        assert!(text.contains(&format!("{} of {machine}: healed after", fault.healed_by)), "{}: {text}", fault.name);
        let steps = ["reboot", "reset", "restart", "replace"];
        let earlier = steps.iter().take_while(|step| **step != fault.healed_by);
        for step in earlier {
            assert!(text.contains(&format!("{step} of {machine}: ")), "{}: {step} came before: {text}", fault.name);
        }
    }
    let failures = load.failures();
    let done = load.stop();
    assert_eq!(failures, Vec::<String>::new(), "of {done} requests: the traffic avoids what is ill");
    assert!(done > 100, "{done} requests prove nothing");
}
