//! Two nodes and a virtual IP between them: the whole program, on a link of network namespaces.
//!
//! As root, with `ip`, `nft` and `setpriv`; `scripts/test` installs them.

mod link;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use link::hang::{Hang, hang, thread_named};
use link::net::{Lab, until};
use link::node::Program;
use link::sniff::Sniffer;
use rustix::process::Signal;
use serde_json::Value;

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const HOSTS: [&str; 3] = ["a", "b", "c"];
const VIP: &str = "10.9.0.100:80";

/// Two places for nodes, and one for an origin and clients.
struct Site {
    lab: Lab,
    folder: tempfile::TempDir,
    nodes: BTreeMap<&'static str, Program>,
}

impl Site {
    fn new() -> Site {
        let site = Site { lab: Lab::new(&HOSTS), folder: tempfile::tempdir().expect("a folder"), nodes: BTreeMap::new() };
        let listener = Lab::inside(&site.lab.space("c"), || TcpListener::bind("10.9.0.3:8080").expect("the origin"));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream));
            }
        });
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a node's file. `vip` goes into `[vip.public]` and what follows.
    fn write(&self, host: &str, priority: u8, vip: &str) {
        let text = format!(
            "[node]\nname = \"lb-{host}\"\nworkers = 1\nstate_dir = {:?}\ndrain_timeout = \"2s\"\n[api]\n\
             [listener.web]\nbind = \"{VIP}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"10.9.0.3:8080\"]\n\
             [listener.own]\nbind = \"0.0.0.0:81\"\npool = \"web\"\n\
             [vip.public]\ninterface = \"eth0\"\nrouter_id = 51\naddresses = [\"10.9.0.100/24\"]\npriority = {priority}\n{vip}\n",
            self.path(&format!("state-{host}")),
        );
        // In one step: the node looks at the file when it likes.
        let (file, aside) = (self.path(&format!("{host}.toml")), self.path(&format!("{host}.toml.new")));
        fs::write(&aside, text).expect("written");
        fs::rename(aside, file).expect("renamed");
    }

    /// Starts a node, with the program that starts it in front.
    fn start_by(&mut self, host: &'static str, before: &[&str]) {
        // Before the test's own processes: a worker that gets no processor for half a second is as good as dead, and the address moves.
        let mut words: Vec<String> = ["nice", "-n", "-19"].iter().chain(before).map(|word| (*word).to_owned()).collect();
        words.extend([env!("CARGO_BIN_EXE_weir").into(), "run".into(), "--config".into()]);
        words.push(self.path(&format!("{host}.toml")).display().to_string());
        let program = words.remove(0);
        self.nodes.insert(host, Program::start(&self.lab, host, program, &words));
    }

    /// Both nodes with the usual priorities, `a` being master.
    fn pair(vip: &str) -> Site {
        let mut site = Site::new();
        for (host, priority) in [("a", 250), ("b", 245)] {
            site.write(host, priority, vip);
            site.start_by(host, &[]);
        }
        site.wait_master("a");
        until("the API of b answers", PATIENCE, || site.weir("b", &["status"]).status.success());
        // Only who knows the other hands over to it.
        until("the nodes know each other", PATIENCE, || {
            ["a", "b"].iter().all(|host| !site.router(host)["peers"].as_array().is_none_or(Vec::is_empty))
        });
        site
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

    /// The virtual router as the node's API shows it; null while it shows none.
    fn router(&self, host: &str) -> Value {
        let output = self.weir(host, &["status", "vip", "public", "--json"]);
        let view: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        view["routers"][0].clone()
    }

    fn wait_master(&self, host: &str) {
        until(&format!("{host} is master"), PATIENCE, || self.router(host)["state"] == "master");
    }

    fn transitions(&self, host: &str) -> usize {
        self.router(host)["transitions"].as_array().map_or(0, Vec::len)
    }

    /// Runs `work` while clients connect to the address, and returns how they fared: requests answered, and what went wrong.
    fn under_load(&self, work: impl FnOnce()) -> (u64, Vec<String>) {
        let (stop, started, space) = (AtomicBool::new(false), AtomicU32::new(0), self.lab.space("c"));
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..2).map(|_| scope.spawn(|| Lab::inside(&space, || client(&started, &stop)))).collect();
            // Also when the work panics: the clients would be waited for, for ever.
            let ending = Ending(&stop);
            until("the clients are served", PATIENCE, || started.load(Ordering::Relaxed) == 2);
            work();
            drop(ending);
            let ended = clients.into_iter().map(|client| client.join().expect("a client"));
            ended.fold((0, Vec::new()), |(sum, mut all), (count, failed)| {
                all.extend(failed);
                (sum + count, all)
            })
        })
    }

    /// Nobody noticed anything, and there was somebody to notice.
    #[track_caller]
    fn unnoticed(&self, work: impl FnOnce()) {
        let (answered, failed) = self.under_load(work);
        assert!(failed.is_empty(), "{} of {answered} requests failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
        assert!(answered > 0, "nobody was there to notice");
    }
}

/// Ends the clients when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An origin that answers whatever comes.
fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// A new connection for each request, one after the other.
fn client(started: &AtomicU32, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match ask(VIP.parse().expect("an address")) {
            Ok(()) => answered += 1,
            Err(error) => failed.push(error),
        }
        if answered + failed.len() as u64 == 1 {
            started.fetch_add(1, Ordering::Relaxed);
        }
    }
    (answered, failed)
}

fn ask(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").map_err(|error| format!("write: {error}"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| format!("read: {error}"))?;
    if text.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(format!("answered {text:?}")) }
}

#[test]
fn a_release_is_not_noticed() {
    let site = Site::pair("");
    site.unnoticed(|| {
        for _ in 0..3 {
            assert_eq!(site.ok("a", &["vip", "release", "public"]), "public: released, 10.9.0.2 is master\n");
            assert_eq!(site.ok("b", &["vip", "release", "public"]), "public: released, 10.9.0.1 is master\n");
        }
    });
    let refused = site.weir("a", &["vip", "release", "publik"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no virtual IP `publik`; there are: public"));
    assert_eq!(site.ok("b", &["vip", "release", "public"]), "public: this node was not master, 10.9.0.1 is\n");
}

#[test]
fn a_stop_and_an_upgrade_are_not_noticed() {
    let mut site = Site::pair("");
    site.unnoticed(|| {
        site.ok("a", &["upgrade"]);
        // The old process had the address until its work was done; the new one takes it back.
        until("the new process is master", PATIENCE, || site.router("a")["state"] == "master" && site.transitions("a") == 2);
    });
    site.unnoticed(|| {
        site.nodes["b"].signal(Signal::TERM);
        site.wait_master("a");
    });
    until("b ends", PATIENCE, || site.nodes.get_mut("b").expect("it was started").has_ended());
}

#[test]
fn an_upgraded_node_stops_unnoticed() {
    let mut site = Site::pair("");
    site.ok("a", &["upgrade"]);
    until("the new process is master", PATIENCE, || site.router("a")["state"] == "master" && site.transitions("a") == 2);
    until("it knows the other node", PATIENCE, || site.router("a")["peers"].as_array().is_some_and(|peers| !peers.is_empty()));
    // The process that was started here is gone; its successor is found by where it lives.
    let stop = || {
        let pids = link::net::run(&format!("ip netns pids {}", site.lab.space("a")));
        let of_weir = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("run\0--config"));
        for pid in pids.split_whitespace().filter(of_weir).filter_map(|pid| pid.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
        }
        site.wait_master("b");
        until("a ends", PATIENCE, || !site.weir("a", &["status"]).status.success());
    };
    site.unnoticed(stop);
    site.nodes.remove("a");
}

#[test]
fn a_dead_master_takes_its_address_with_it() {
    let mut site = Site::pair("");
    until("a has the address", PATIENCE, || site.lab.has("a", "10.9.0.100"));
    site.nodes.get_mut("a").expect("it was started").kill_all();
    until("the address is gone from a", PATIENCE, || !site.lab.has("a", "10.9.0.100"));
    site.wait_master("b");
    let answered = Lab::inside(&site.lab.space("c"), || ask(VIP.parse().expect("an address")));
    assert_eq!(answered, Ok(()));
    assert!(site.router("b")["why"].as_str().is_some_and(|why| !why.is_empty()));
}

/// Half a second is what a question to a worker may take unanswered; what is stuck is found long before.
#[test]
fn a_worker_that_hangs_is_not_waited_for() {
    for how in [Hang::Stopped, Hang::Spinning] {
        let site = Site::pair("advertisement_interval = \"1s\"");
        let port = Sniffer::new(&site.lab, "b");
        let worker = thread_named(site.nodes["a"].pid(), "weir-worker-0").expect("it has one worker");
        let mut taken = Duration::MAX;
        let load = || {
            let hanging = hang(worker, how);
            let new = port.wait_advert("b takes over", hanging.since, PATIENCE, |advert| {
                advert.source == std::net::IpAddr::from([10, 9, 0, 2]) && advert.priority > 0
            });
            taken = new.at - hanging.since;
            if how == Hang::Stopped {
                site.wait_master("b");
                drop(hanging);
                // It is well again, and ranks above.
                site.wait_master("a");
            }
        };
        // Who was connected to it may fail.
        site.under_load(load);
        println!("{how:?}: the new master's first advertisement {taken:?} after the hang");
        assert!(taken < Duration::from_millis(450), "{how:?}: {taken:?}");
        until("it is an event", PATIENCE, || site.ok("a", &["events"]).contains("worker 0 of the data plane does not answer"));
    }
}

#[test]
fn reloads_move_nothing() {
    let site = Site::pair("");
    let before = (site.transitions("a"), site.transitions("b"));
    site.unnoticed(|| {
        for round in 0..10 {
            let refresh = 30 + round;
            for (host, priority) in [("a", 250 - round % 2), ("b", 245 - round % 2)] {
                site.write(host, priority, &format!("announce = {{ refresh = \"{refresh}s\" }}"));
                site.ok(host, &["reload"]);
            }
        }
    });
    assert_eq!((site.transitions("a"), site.transitions("b")), before);
    assert_eq!(site.router("a")["priority"], 249);
}

#[test]
fn what_is_tracked_moves_the_address_and_says_so() {
    let mut site = Site::new();
    let (flag, told) = (site.path("maintenance"), site.path("told"));
    let script = site.path("notify");
    fs::write(&script, format!("#!/bin/sh\necho $WEIR_VIP $WEIR_PREVIOUS_STATE $WEIR_STATE >> {}\n", told.display())).expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("made executable");
    site.write("a", 250, &format!("notify = [{script:?}]\n[[vip.public.track]]\nfile = {flag:?}\n[[vip.public.track]]\ncommand = [\"/bin/sh\", \"-c\", \"test ! -e {}2\"]\ninterval = \"5s\"\nlower = 20\n", flag.display()));
    site.write("b", 245, "");
    site.start_by("a", &[]);
    site.start_by("b", &[]);
    site.wait_master("a");
    fs::write(&flag, "disk is being replaced\n").expect("written");
    site.wait_master("b");
    let router = site.router("a");
    assert_eq!(router["eligible"], false);
    assert!(router["ineligible_because"].as_str().is_some_and(|why| why.contains("says \"disk is being replaced\"")), "{router}");
    fs::write(&flag, "0\n").expect("written");
    site.wait_master("a");
    fs::write(format!("{}2", flag.display()), "").expect("written");
    site.wait_master("b");
    until("the rank is lower", PATIENCE, || site.router("a")["priority"] == 230);
    assert_eq!(site.router("a")["eligible"], true);
    let expected = "public initialize backup\npublic backup master\npublic master initialize\n";
    until("the program was told", PATIENCE, || fs::read_to_string(&told).unwrap_or_default().starts_with(expected));
    until("it is an event", PATIENCE, || site.ok("a", &["events"]).contains("vip_state"));
}

#[test]
fn nodes_tell_each_other_whether_they_serve_by_the_same_file() {
    let site = Site::pair("");
    let (plain, more) = ("", "[pool.more]\nendpoints = [\"10.9.0.3:9\"]\nmin_healthy = 0\n");
    // Whether both say that the other has another file.
    let differ = |expected: bool| {
        until(&format!("they differ: {expected}"), PATIENCE, || {
            ["a", "b"].iter().all(|host| {
                let router = site.router(host);
                let peer = &router["peers"][0];
                let sums = (router["shared_sum"].as_str(), peer["shared_sum"].as_str());
                sums.0.is_some() && sums.1.is_some() && (sums.0 != sums.1) == expected && peer["differs_since"].is_f64() == expected
            })
        });
    };
    differ(false);
    site.write("a", 250, more);
    site.ok("a", &["reload"]);
    differ(true);
    assert!(site.ok("a", &["status", "vip", "public"]).contains("serves by another file"));
    let metrics = site.lab.command("b", "curl").args(["-s", "http://127.0.0.1:7117/metrics"]).output().expect("curl");
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    assert!(metrics.contains("weir_vip_peers_differing{vip=\"public\",family=\"ipv4\"} 1"), "{metrics}");
    site.write("b", 245, more);
    site.ok("b", &["reload"]);
    differ(false);
    assert!(site.ok("b", &["status", "vip", "public"]).contains("serves by the same file"));
    // Also when the master's file is the last one.
    site.write("b", 245, plain);
    site.ok("b", &["reload"]);
    differ(true);
    site.write("a", 250, plain);
    site.ok("a", &["reload"]);
    differ(false);
}

/// What this node cannot heal another one may not have: the last attempts of a recovery take the endpoint out, then let another node serve.
#[test]
fn a_recovery_drains_and_then_releases_the_address() {
    let site = Site::pair("");
    // Nobody listens there, as this node sees it.
    let sick = "[pool.sick]\nendpoints = [\"10.9.0.3:9\"]\nmin_healthy = 0\n\
                [pool.sick.health]\ntype = \"tcp\"\ninterval = \"100ms\"\nfall = 2\n[recovery.sick]\npool = \"sick\"\n\
                [[recovery.sick.attempt]]\naction = \"drain\"\nwait = \"500ms\"\n\
                [[recovery.sick.attempt]]\naction = \"release-vip\"\nvip = \"public\"\nwait = \"500ms\"\n";
    site.write("a", 250, sick);
    site.ok("a", &["reload"]);
    site.wait_master("b");
    until("everything was tried", PATIENCE, || site.ok("a", &["events"]).contains("recovery_given_up"));
    let events = site.ok("a", &["events"]);
    let order = ["drain of 10.9.0.3:9", "release of virtual IP public", "recovery_given_up"].map(|what| events.find(what));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?} in {events}");
}

#[test]
fn without_the_capabilities_everything_else_runs() {
    let mut site = Site::new();
    let told = "[notify.log.ticket_log]\npath = \"TOLD\"\n[[notify_rule]]\nnotify = \"log\"\n";
    site.write("a", 250, &told.replace("TOLD", &site.path("told").display().to_string()));
    let without = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"];
    site.start_by("a", &without);
    until("it says what is missing", PATIENCE, || {
        String::from_utf8_lossy(&site.weir("a", &["events"]).stdout).contains("virtual IPs are off: virtual IPs need CAP_NET_ADMIN")
    });
    assert!(site.ok("a", &["status", "vip"]).contains("off"));
    until("somebody is told", PATIENCE, || {
        fs::read_to_string(site.path("told")).is_ok_and(|told| {
            told.contains("\"alarm\":\"vips-unavailable\"")
                && told.contains("the virtual IPs cannot work on this node: virtual IPs need CAP_NET_ADMIN")
        })
    });
    let answered = Lab::inside(&site.lab.space("c"), || ask("10.9.0.1:81".parse().expect("an address")));
    assert_eq!(answered, Ok(()));
    let refused = site.weir("a", &["vip", "release", "public"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("CAP_NET_RAW"), "{refused:?}");
    site.nodes["a"].signal(Signal::TERM);
    until("it ends", PATIENCE, || site.nodes.get_mut("a").expect("it was started").has_ended());
}
