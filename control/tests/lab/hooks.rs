//! What happens around a machine: hooks that are waited for, warm clones that are taken, and hosts that a pool is spread over.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lab::Load;
use serde_json::{Value, json};

use crate::fleet::{BOOTS, Node, Site, hosts, members, settled, until};

/// Warm clones: so many that each host has one, whichever machine came first.
const WARM: usize = 3;

/// How long the terminate hook, which never answers, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fails once where nothing says that it has; then writes down what it is told, and waits until it is let go.
const LAUNCHED: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
mkdir failed 2>/dev/null && { echo "no licence for $WEIR_MACHINE" >&2; exit 3; }
echo "$WEIR_HOOK $WEIR_POOL $WEIR_MACHINE $WEIR_ADDRESS $WEIR_HOST" >>launched
while [ -e hold ]; do sleep 0.05; done
"#;

/// Takes what a webhook sends, and leaves it without an answer. Gives the bodies.
fn silent_receiver() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, bodies) = channel();
    let serve = move |mut stream: TcpStream| {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.ends_with('}') {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => text += &String::from_utf8_lossy(&buffer[..count]),
                _ => return,
            }
        }
        let _ = sender.send(text.split_once("\r\n\r\n").unwrap_or_default().1.to_owned());
        // Until the other side has enough of it.
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    (address, bodies)
}

fn made(node: &Node, from_warm: bool) -> Vec<Value> {
    let is_it = |event: &Value| event["event"] == "machine_made" && event["role"] == "member" && event["from_warm"] == from_warm;
    node.events().into_iter().filter(is_it).collect()
}

/// Names of warm clones that wait.
fn warm(node: &Node) -> Result<BTreeSet<String>, String> {
    let machines = node.get("/v1/machines")?;
    let waits = |machine: &&Value| machine["metadata"]["role"] == "warm" && machine["state"] == "paused";
    let all = machines.as_array().into_iter().flatten();
    Ok(all.filter(waits).filter_map(|machine| machine["name"].as_str().map(str::to_owned)).collect())
}

#[test]
#[ignore = "minutes: scripts/test --lab runs it"]
fn hooks_are_waited_for_warm_clones_are_taken_and_a_pool_is_spread() {
    let site = Site::of(3, &[]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 18083));
    let (receiver, bodies) = silent_receiver();
    let script = site.path("launched.sh");
    fs::write(&script, LAUNCHED).expect("a folder");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let rack = |host: &str| format!("labels = [\"rack={}\"]\n", if host == "kvm-c" { "right" } else { "left" });
    let machines = site.machines_of(&site.lab.image().disk, rack);
    let machines = machines.replace("boot_timeout = \"3m\"\n", &format!("boot_timeout = \"3m\"\nwarm = {WARM}\n"));
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nmin_healthy = 1\n[pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 10\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 4\nspread = \"rack\"\nwarm_up = \"0s\"\ndrain_timeout = \"5s\"\nshutdown_timeout = \"5s\"\n\
         unhealthy_grace = \"60s\"\n\
         [pool.web.scaling.launch_hook]\ncommand = [{script:?}]\ntimeout = \"60s\"\n\
         [pool.web.scaling.terminate_hook]\nurl = \"http://{receiver}/gone\"\ntimeout = \"{}s\"\n{machines}",
        PATIENCE.as_secs()
    );
    fs::create_dir(site.path("failed")).expect("a folder");
    fs::write(site.path("hold"), "").expect("a folder");
    let node = Node::start(&site, "lb-a", Ipv4Addr::LOCALHOST, &body, |program| Command::new(program));

    let launched = || fs::read_to_string(site.path("launched")).unwrap_or_default();
    until("two machines at their hook", BOOTS, || {
        if launched().lines().count() == 2 { Ok(()) } else { Err(format!("{}, {:?}", launched(), node.scaling())) }
    });
    let scaling = node.scaling().expect("it answers");
    assert!(members(&scaling, "serving").is_empty(), "nothing serves before its hook has ended: {scaling}");
    let pools = node.get("/v1/pools/web").expect("it answers");
    assert_eq!(pools["endpoints"].as_array().map(Vec::len), Some(0), "nor is it an endpoint: {pools}");
    fs::remove_file(site.path("hold")).expect("it is there");
    let mut serving = BTreeSet::new();
    until("two machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
    let scaling = node.scaling().expect("it answers");
    for line in launched().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words.len(), words[0], words[1]), (5, "launch", "web"), "{line}");
        let of_it =
            scaling["members"].as_array().into_iter().flatten().find(|member| member["machine"] == words[2]).expect("it is a member");
        assert_eq!((&of_it["endpoint"], &of_it["host"]), (&words[3].into(), &words[4].into()), "{line}");
    }
    // One on each side, though there are two hosts on the left.
    let left = |hosts: &[String]| hosts.iter().filter(|host| *host != "kvm-c").count();
    assert_eq!(left(&hosts(&scaling)), 1, "{scaling}");

    // More: what waits is taken, and where one side has an empty host, that one.
    until("warm clones", BOOTS, || warm(&node).and_then(|warm| if warm.len() == WARM { Ok(()) } else { Err(format!("{warm:?}")) }));
    let waiting = warm(&node).expect("it answers");
    let load = Load::start(listen, 30);
    let began = Instant::now();
    node.act("PUT", "/v1/scaling/web/desired", &json!({ "desired": 4 }));
    until("four machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 4)).map(|found| serving = found));
    eprintln!("2 to 4 in {:?}", began.elapsed());
    let scaling = node.scaling().expect("it answers");
    assert_eq!(hosts(&scaling), ["kvm-a", "kvm-b", "kvm-c", "kvm-c"], "two on each side, and no host of a side twice before the other");
    let taken = made(&node, true);
    assert!(!taken.is_empty(), "none of {waiting:?} was taken: {:?}", made(&node, false));
    for event in &taken {
        let name = event["machine"].as_str().unwrap_or_default();
        assert!(waiting.contains(name) && serving.contains(name), "{name} of {waiting:?} serves: {serving:?}");
    }

    // Fewer, but not this one: it would be among the first to go, for it is the newest of its side.
    let newest = taken.last().and_then(|event| event["machine"].as_str()).expect("it was taken").to_owned();
    let told = node.cli(&["scaling", "protect", "web", &newest]);
    assert!(told.contains("is protected against scale-in"), "{told}");
    until("the protection", BOOTS, || {
        let scaling = node.scaling()?;
        let protected = scaling["members"].as_array().into_iter().flatten().any(|m| m["machine"] == *newest && m["protected"] == true);
        if protected { Ok(()) } else { Err(scaling.to_string()) }
    });

    // The hook never answers, is given up, and the machines go anyway.
    assert_eq!(bodies.try_iter().count(), 0, "nothing has gone yet that had served");
    let began = Instant::now();
    node.act("PUT", "/v1/scaling/web/desired", &json!({ "desired": 2 }));
    until("two machines again", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
    assert!(began.elapsed() >= PATIENCE, "the hook is waited for: {:?}", began.elapsed());
    let told: Vec<Value> = bodies.try_iter().map(|body| serde_json::from_str(&body).expect("JSON")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter().all(|one| one["hook"] == "terminate" && !serving.contains(one["machine"].as_str().unwrap_or_default())),
        "{told:?}"
    );
    assert!(serving.contains(&newest), "{newest} is protected: {serving:?}");
    let scaling = node.scaling().expect("it answers");
    assert_eq!(left(&hosts(&scaling)), 1, "still on both sides: {scaling}");

    // A launch whose hook fails is undone, and tried again elsewhere.
    fs::remove_dir(site.path("failed")).expect("it is there");
    node.act("PUT", "/v1/scaling/web/desired", &json!({ "desired": 3 }));
    until("three machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 3)).map(|found| serving = found));
    let failed: Vec<Value> =
        node.events().into_iter().filter(|event| event["error"].as_str().is_some_and(|error| error.contains("no licence"))).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let error = failed[0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("exits with 3") && error.contains("the machine goes"), "{error}");
    let undone = failed[0]["step"].as_str().and_then(|step| step.rsplit(' ').next()).expect("it names its machine").to_owned();
    let (before, after): (Vec<Value>, Vec<Value>) = node
        .events()
        .into_iter()
        .filter(|event| event["event"] == "machine_made" && event["role"] == "member")
        .partition(|event| event["number"].as_u64() < failed[0]["number"].as_u64());
    let first = before.iter().rfind(|event| event["machine"] == *undone).expect("it was made");
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(first["host"], after[0]["host"], "elsewhere");
    until("no leftovers", BOOTS, || {
        let all = serving.union(&warm(&node)?).cloned().collect();
        site.nothing_else_is_left(&all)
    });
    let failures = load.failures();
    let done = load.stop();
    assert_eq!(failures, Vec::<String>::new(), "of {done} requests");
    assert!(done > 100, "{done} requests prove nothing");
}
