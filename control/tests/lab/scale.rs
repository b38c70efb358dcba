//! Load rises and falls; machines come and go; no client notices anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::Load;

use crate::fleet::{BOOTS, Node, Site, settled, until};

#[test]
fn two_to_five_and_back_without_a_failed_request() {
    let site = Site::new(&[]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 18080));
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nmin_healthy = 2\n[pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 10\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 5\nwarm_up = \"1s\"\ncooldown_out = \"0s\"\ncooldown_in = \"3s\"\nstabilise_in = \"5s\"\n\
         unhealthy_grace = \"60s\"\n\
         [[pool.web.scaling.target]]\nmetric = \"requests-per-endpoint\"\nvalue = 20\nperiod = \"2s\"\n\
         [alarm.web-busy]\npool = \"web\"\nmetric = \"requests-per-endpoint\"\nabove = 30\nperiod = \"1s\"\n{}",
        site.machines()
    );
    let node = Node::start(&site, "lb-a", Ipv4Addr::LOCALHOST, &body, |program| Command::new(program));
    let mut serving = Default::default();
    until("two machines at first", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));

    let load = Load::start(listen, 30);
    let began = Instant::now();
    load.set_rate(95);
    until("five machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 5)).map(|found| serving = found));
    eprintln!("2 to 5 in {:?}", began.elapsed());
    site.nothing_else_is_left(&serving).expect("five and no more");
    let changes = node.get("/v1/alarms/web-busy").expect("it is there");
    assert!(
        changes["history"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["to"] == "alarm" && one["points"].as_array().is_some_and(|p| !p.is_empty()))),
        "the alarm went off, with its data points: {changes}"
    );

    let began = Instant::now();
    load.set_rate(15);
    until("two machines again", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
    eprintln!("5 to 2 in {:?}", began.elapsed());
    until("no leftovers", Duration::from_secs(30), || site.nothing_else_is_left(&serving));
    let failures = load.failures();
    let done = load.stop();
    eprintln!("{done} requests");
    assert_eq!(failures, Vec::<String>::new(), "of {done} requests");
    assert!(done > 500, "{done} requests prove nothing");
}
