//! A new base rolls through a pool, and back when it turns out to be ill; no client notices anything.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::Load;
use serde_json::Value;

use crate::fleet::{BOOTS, Node, Site, members, settled, until};

/// How long a batch is looked at before the next, and how long half of the pool is.
const PAUSE_S: f64 = 2.0;
const CHECKPOINT_S: f64 = 10.0;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The template's image with a mark in it, by which its machines are told from those of another.
fn write_image(site: &Site, image: &Path, mark: &str) {
    let (raw, note, script) = (site.path("disk.raw"), site.path("mark"), site.path("debugfs"));
    std::fs::write(&note, format!("{mark}\n")).expect("a folder");
    std::fs::write(&script, format!("cd /var/lib\nwrite {} mark\n", note.display())).expect("a folder");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(&site.lab.image().disk).arg(&raw));
    run(Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&raw));
    let draft = image.with_extension("draft");
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&draft));
    // In one moment, as whoever replaces an image should.
    std::fs::rename(draft, image).expect("a folder");
}

/// What is known of the refresh while it runs.
#[derive(Default)]
struct Watched {
    /// The fewest that served, and the most that were there.
    least: usize,
    most: usize,
}

impl Watched {
    fn look(&mut self, scaling: &Value) {
        self.least = self.least.min(members(scaling, "serving").len());
        let going = ["leaving", "removing"].map(|state| members(scaling, state).len()).into_iter().sum::<usize>();
        self.most = self.most.max(scaling["members"].as_array().map_or(0, Vec::len) - going);
    }
}

fn addresses(scaling: &Value) -> Vec<Ipv4Addr> {
    let all = scaling["members"].as_array().into_iter().flatten();
    all.filter_map(|member| member["endpoint"].as_str()?.split(':').next()?.parse().ok()).collect()
}

/// The marks that the machines themselves tell.
fn marks(scaling: &Value) -> Vec<String> {
    let mark = |address: Ipv4Addr| {
        let (_, text) = lab::http_get(address, "/identity", Duration::from_secs(10)).expect("it serves");
        serde_json::from_str::<Value>(&text).expect("JSON")["mark"].as_str().unwrap_or_default().to_owned()
    };
    addresses(scaling).into_iter().map(mark).collect()
}

/// Brings the base that the image is now to the host, and begins to roll it through the pool. Returns how many events there were.
fn begin(node: &Node, before: &str) -> usize {
    node.act("POST", "/v1/templates/web/prefetch", &Value::Null);
    until("the new base", BOOTS, || {
        let templates = node.get("/v1/templates")?;
        let base = templates[0]["base"].as_str().unwrap_or_default();
        if base.is_empty() || base == before { Err(templates.to_string()) } else { Ok(()) }
    });
    let seen = node.events().len();
    node.act("POST", "/v1/scaling/web/refresh", &Value::Null);
    seen
}

/// When steps that begin like this had ended, of the events from this one on.
fn steps(node: &Node, from: usize, step: &str) -> Vec<f64> {
    let of_step = |event: &&Value| event["event"] == "scaling_step" && event["step"].as_str().is_some_and(|text| text.starts_with(step));
    node.events()[from..].iter().filter(of_step).filter_map(|event| event["at"].as_f64()).collect()
}

#[test]
#[ignore = "minutes: scripts/test --lab runs it"]
fn a_new_base_rolls_through_and_one_that_is_ill_goes_back() {
    let site = Site::new(&[]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 18082));
    let image = site.path("web.qcow2");
    write_image(&site, &image, "one");
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nmin_healthy = 1\nlimits.retries_max = 3\ntimeouts.connect = \"1s\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 6\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 3\nwarm_up = \"0s\"\ndrain_timeout = \"5s\"\nshutdown_timeout = \"5s\"\n\
         unhealthy_grace = \"3s\"\n\
         [pool.web.scaling.refresh]\nbatch = 1\nmin_healthy = 100\npause = \"{PAUSE_S}s\"\ncheckpoints = [\"50%\"]\ncheckpoint_wait = \"{CHECKPOINT_S}s\"\n{}",
        site.machines_of(&image, |_| String::new())
    );
    let node = Node::start(&site, "lb-a", Ipv4Addr::LOCALHOST, &body, |program| Command::new(program));
    let mut serving = BTreeSet::new();
    until("two machines at first", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
    let scaling = node.scaling().expect("it answers");
    assert_eq!(marks(&scaling), ["one", "one"]);
    let first = scaling["members"][0]["base"].as_str().expect("a base").to_owned();
    let load = Load::start(listen, 10);

    write_image(&site, &image, "two");
    let began = Instant::now();
    let seen = begin(&node, &first);
    let mut watched = Watched { least: 2, most: 2 };
    let mut second = String::new();
    until("all on the second base", BOOTS, || {
        let scaling = node.scaling()?;
        watched.look(&scaling);
        second = scaling["refresh"]["to"].as_str().unwrap_or_default().to_owned();
        let is_over = scaling["refresh"]["ended"].is_number() && scaling["refresh"]["rolled_back"].is_null();
        let all = settled(&scaling, 2)?;
        if is_over && all.is_disjoint(&serving) {
            serving = all;
            Ok(())
        } else {
            Err(scaling.to_string())
        }
    });
    eprintln!("refreshed in {:?}", began.elapsed());
    assert_eq!((watched.least, watched.most), (2, 3), "min_healthy = 100 and one at a time");
    assert_eq!(marks(&node.scaling().expect("it answers")), ["two", "two"], "by their own word");
    let (launched, retired) = (steps(&node, seen, "launch for"), steps(&node, seen, "retire"));
    assert_eq!((launched.len(), retired.len()), (2, 2), "one for each: {:?}", node.events());
    // With the first, half of the pool is new: a checkpoint, which takes longer than the pause after the second.
    assert!(retired[0] - launched[0] >= CHECKPOINT_S, "it waited at the checkpoint: {launched:?} {retired:?}");
    assert!(retired[1] - launched[1] >= PAUSE_S, "it was looked at for a while: {launched:?} {retired:?}");

    write_image(&site, &image, "three");
    let began = Instant::now();
    let seen = begin(&node, &second);
    until("one on the third base, and the checkpoint", BOOTS, || {
        let scaling = node.scaling()?;
        let all = members(&scaling, "serving");
        let new: Vec<&String> = all.difference(&serving).collect();
        let waits =
            scaling["notes"].as_array().into_iter().flatten().any(|note| note.as_str().is_some_and(|note| note.contains("it waits")));
        let machine = new.first().filter(|_| waits).ok_or_else(|| scaling.to_string())?;
        let of_it = scaling["members"].as_array().into_iter().flatten().find(|member| member["machine"] == ***machine);
        let address = of_it.and_then(|member| member["endpoint"].as_str()?.split(':').next()?.parse().ok()).ok_or("no address")?;
        // Its server is gone; whoever asks it is asked elsewhere.
        let _ = lab::http_get(address, "/fault/exit", Duration::from_secs(5));
        Ok(())
    });
    until("all on the second base again", BOOTS, || {
        let scaling = node.scaling()?;
        let is_back = scaling["refresh"]["ended"].is_number() && scaling["refresh"]["rolled_back"].is_string();
        let all = settled(&scaling, 2)?;
        if is_back {
            serving = all;
            Ok(())
        } else {
            Err(scaling.to_string())
        }
    });
    eprintln!("refused and taken back in {:?}", began.elapsed());
    let scaling = node.scaling().expect("it answers");
    assert_eq!(marks(&scaling), ["two", "two"], "{scaling}");
    let told: Vec<String> = node.events()[seen..].iter().filter_map(|event| event["text"].as_str().map(str::to_owned)).collect();
    assert!(told.iter().any(|text| text.contains("goes back") && text.contains("unhealthy")), "why it goes back: {told:?}");
    assert!(told.iter().any(|text| text.contains("was taken back")), "{told:?}");

    // What was refused is not made again because more are wanted.
    node.act("PUT", "/v1/scaling/web/desired", &serde_json::json!({ "desired": 3 }));
    until("three machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 3)).map(|found| serving = found));
    assert_eq!(marks(&node.scaling().expect("it answers")), ["two", "two", "two"]);
    until("no leftovers", Duration::from_secs(30), || site.nothing_else_is_left(&serving));
    let failures = load.failures();
    let done = load.stop();
    assert_eq!(failures, Vec::<String>::new(), "of {done} requests");
    assert!(done > 200, "{done} requests prove nothing");
}
