//! What was, as an operator meets it: every change is in the audit with who and from where, a kill loses none that was answered, a damaged
//! file is told and does not stop traffic, and an upgrade goes on where the process before ended.

mod port;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use port::free_port;
use serde_json::Value;
use weir_history::point::{Page, Point, Series};
use weir_history::store::Store;
use weir_history::{Record, UnixMs};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running node, killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Told to, so that everything is in the file.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(self.0.wait().expect("it ends").success());
    }
}

struct Site {
    folder: tempfile::TempDir,
    api: u16,
    listener: u16,
}

impl Site {
    fn new(more: &str) -> Site {
        let site = Site { folder: tempfile::tempdir().expect("a folder"), api: free_port(), listener: free_port() };
        let text = format!(
            "[node]\nstate_dir = \"{}\"\n[api]\nbind = \"127.0.0.1:{}\"\n[listener.web]\nbind = \"127.0.0.1:{}\"\npool = \"web\"\n\
             connections_max = 100\n[pool.web]\nendpoints = [\"127.0.0.1:1\"]\nmin_healthy = 0\n{more}",
            site.folder.path().join("state").display(),
            site.api,
            site.listener,
        );
        std::fs::write(site.config(), text).expect("written");
        site
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("weir.toml")
    }

    fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("state/history.db")
    }

    fn start(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--config").arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(command.spawn().expect("it runs"));
        self.wait_for("the node", |site| site.weir("status").status.success());
        running
    }

    fn weir(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(line.split_whitespace()).env("WEIR_API", format!("http://127.0.0.1:{}", self.api)).stdin(Stdio::null());
        command.env_remove("SUDO_USER").env("USER", "alice").output().expect("it runs")
    }

    fn json(&self, line: &str) -> Value {
        let output = self.weir(&format!("{line} --json"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"))
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&Site) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "{what}: never");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Records of the audit with this in their act.
    fn acts(&self, act: &str) -> Vec<Value> {
        let all = self.json("audit list -n 100000");
        all.as_array().expect("a list").iter().filter(|record| record["act"].as_str().is_some_and(|a| a.contains(act))).cloned().collect()
    }

    /// What a client gets.
    fn served(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listener)).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_change_is_in_the_audit_and_a_kill_loses_none() {
    let site = Site::new("");
    let mut running = site.start();
    assert!(site.weir("endpoint add web 127.0.0.1:2 --weight 3").status.success());
    assert!(!site.weir("endpoint add web 127.0.0.1:2").status.success(), "it is there already");
    assert!(site.weir("reload").status.success());
    for round in 0..4 {
        for weight in 1..=5 {
            assert!(site.weir(&format!("endpoint weight web 127.0.0.1:2 {}", round * 10 + weight)).status.success());
        }
        // Not a moment after the last answer.
        running.0.kill().expect("killed");
        running.0.wait().expect("ended");
        running = site.start();
        assert_eq!(site.acts("PATCH").len(), (round + 1) * 5, "round {round}");
        let verdict = site.json("audit verify");
        assert_eq!((&verdict["holds"], &verdict["fault"]), (&Value::Bool(true), &Value::Null), "{verdict}");
    }
    let added = site.acts("POST /v1/pools/web/endpoints");
    assert_eq!(added.len(), 2, "{added:?}");
    assert!(added[0]["who"].as_str().is_some_and(|who| who.starts_with("alice@")), "{added:?}");
    assert_eq!((&added[0]["origin"], &added[0]["subject"], &added[0]["outcome"]), (&"127.0.0.1".into(), &"web".into(), &"done".into()));
    assert!(added[0]["detail"].as_str().is_some_and(|detail| detail.contains("\"weight\":3")), "{added:?}");
    assert!(added[1]["outcome"].as_str().is_some_and(|outcome| outcome.starts_with("409: pool `web` has")), "{added:?}");
    assert_eq!(site.acts("start").len(), 5);
    assert_eq!(site.acts("change endpoint").len(), 21, "what came of it, said by the node");
    let shown = text(&site.weir("audit list --subject web -n 3").stdout);
    assert!(shown.contains("alice@") && shown.contains("PATCH /v1/pools/web/endpoints/127.0.0.1:2"), "{shown}");
    let history = text(&site.weir("history show --kind endpoint_changed -n 2").stdout);
    assert_eq!(history.matches("weight 3").count(), 2, "{history}");
    let noted = site.json("audit verify");
    let noted = format!("{}:{}", noted["number"], noted["hash"].as_str().expect("a hash"));
    drop(running);

    // Somebody with the rights to write the file takes a record back.
    let script = "DROP TRIGGER audit_is_append_only; UPDATE audit SET who = 'nobody' WHERE number = 3;";
    rusqlite::Connection::open(site.database()).expect("opened").execute_batch(script).expect("changed");
    let running = site.start();
    let verdict = site.weir("audit verify");
    assert_eq!(verdict.status.code(), Some(1));
    assert!(text(&verdict.stdout).contains("does NOT hold: record 3 was changed"), "{verdict:?}");
    let export = text(&site.weir("history export audit").stdout);
    assert!(export.lines().count() > 30 && export.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{export}");
    running.stop();
    // Or begins anew.
    std::fs::rename(site.database(), site.folder.path().join("tampered.db")).expect("moved");
    let copy = site.folder.path().join("copy.db");
    std::fs::copy(site.folder.path().join("tampered.db"), &copy).expect("copied");
    let offline = site.weir(&format!("audit verify --file {}", copy.display()));
    assert!(offline.status.code() == Some(1) && text(&offline.stdout).contains("does NOT hold: record 3"), "{offline:?}");
    let _running = site.start();
    assert!(site.weir("audit verify").status.success());
    let verdict = text(&site.weir(&format!("audit verify --noted {noted}")).stdout);
    assert!(verdict.contains("does NOT hold"), "{verdict}");
}

#[test]
fn a_damaged_file_is_told_and_stops_nothing() {
    let site = Site::new("");
    let running = site.start();
    site.wait_for("the file", |site| site.json("audit verify")["fault"].is_null());
    running.stop();
    let mut bytes = std::fs::read(site.database()).expect("there");
    bytes[..4096].fill(7);
    std::fs::write(site.database(), bytes).expect("written");
    let _running = site.start();
    assert!(site.served().starts_with("HTTP/1.1 50"), "no endpoint answers, but weir does");
    site.wait_for("the event", |site| text(&site.weir("events").stdout).contains("history_set_aside"));
    site.wait_for("a new file", |site| site.json("audit verify")["fault"].is_null());
    assert!(site.weir("reload").status.success());
    assert_eq!(site.acts("POST /v1/reload").len(), 1);
    assert_eq!(site.json("audit verify")["holds"], true);
}

/// The folder cannot be used for it, and everything else goes on.
#[test]
fn without_a_place_it_is_kept_in_memory_and_said() {
    let site = Site::new("");
    std::fs::create_dir_all(site.database()).expect("a folder where the file should be");
    let _running = site.start();
    site.wait_for("the event", |site| text(&site.weir("events").stdout).contains("history_failed"));
    assert!(site.weir("reload").status.success());
    assert_eq!(site.acts("POST /v1/reload").len(), 1, "shown all the same");
    assert!(text(&site.weir("status").stdout).contains("kept in memory alone: "));
    let metrics = ureq::get(format!("http://127.0.0.1:{}/metrics", site.api)).call().expect("an answer").body_mut().read_to_string();
    assert!(metrics.expect("text").contains("weir_history_failing 1"));
    std::fs::remove_dir(site.database()).expect("removed");
    site.wait_for("the event", |site| text(&site.weir("events").stdout).contains("history_recovered"));
    assert_eq!(site.acts("POST /v1/reload").len(), 1, "now in the file");
    assert!(site.database().is_file());
}

#[test]
fn an_upgrade_goes_on_where_the_process_before_ended() {
    let site = Site::new("[history]\nsize_max = \"64MiB\"\n");
    let mut running = site.start();
    assert!(site.weir("reload").status.success());
    let upgraded = site.json("upgrade");
    let _new = Kill(upgraded["pid"].as_u64().expect("a process id") as i32);
    running.0.wait().expect("the old one ends");
    site.wait_for("the file", |site| site.json("audit verify")["fault"].is_null());
    assert!(site.weir("reload").status.success());
    assert_eq!((site.acts("POST /v1/reload").len(), site.acts("start").len()), (2, 2));
    assert_eq!(site.json("audit verify")["holds"], true);
}

/// Three hours of load, as a process before has kept them: the second of them is busy.
fn three_hours(site: &Site) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("later than 1970").as_secs();
    let begin = now / 60 * 60 - 3 * 3600;
    std::fs::create_dir_all(site.database().parent().expect("a folder")).expect("made");
    let mut store = Store::open(&site.database()).expect("a store");
    let series = |metric: &str| Series { metric: metric.into(), scope: "pool".into(), name: "web".into() };
    for minute in 0..180 {
        let at = UnixMs((begin + minute * 60) * 1000);
        let requests = if (60..120).contains(&minute) { 450.0 } else { 90.0 };
        let page = |metric: &str, value: f64| {
            let points = (0..6).map(|n| Point { at: at.plus(n * 10_000), count: 10, mean: value, min: value, max: value + 1.0 }).collect();
            Page { series: series(metric), at, points }
        };
        store.write(&[Record::Pages(vec![page("requests", requests), page("machines", 2.0)])]).expect("written");
    }
    begin
}

#[test]
fn what_was_measured_is_shown_tried_and_replayed() {
    let scaling = "[pool.web.health]\ntype = \"tcp\"\n[pool.web.scaling]\ntemplate = \"web\"\nmin = 1\nmax = 8\nmode = \"recommend\"\n\
                   [[pool.web.scaling.target]]\nmetric = \"requests-per-endpoint\"\nvalue = 100\n[template.web]\nmaster = \"m\"\nport = 80\n\
                   [host.a]\nuri = \"qemu:///system\"\n";
    let site = Site::new("");
    let begin = three_hours(&site);
    let policy = site.folder.path().join("policy.toml");
    std::fs::write(&policy, std::fs::read_to_string(site.config()).expect("read") + scaling).expect("written");
    let _running = site.start();
    site.wait_for("the file", |site| site.json("audit verify")["fault"].is_null());

    let get = |path: &str| -> Value {
        let mut answer = ureq::get(format!("http://127.0.0.1:{}{path}", site.api)).call().expect("an answer");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    };
    let hour = begin + 3600;
    let path = format!("/v1/history/series?metric=requests&pool=web&from={begin}&to={}&step_s=3600", begin + 10_800);
    let view = get(&path);
    // Steps begin at full hours of the day, so there may be one more than hours.
    let points = view["points"].as_array().expect("points");
    assert!((3..=4).contains(&points.len()) && view["unit"] == "/s" && view["step_s"] == 3600.0, "{view}");
    assert_eq!(points.iter().map(|point| point["count"].as_u64().expect("a count")).sum::<u64>(), 10_800);
    let fine = get(&format!("/v1/history/series?metric=requests&pool=web&from={hour}&to={}&step_s=10", hour + 60));
    assert!(
        fine["points"].as_array().is_some_and(|points| points.len() == 6 && points.iter().all(|point| point["mean"] == 450.0)),
        "{fine}"
    );
    site.wait_for("fresh samples", |_| {
        let fresh = get("/v1/history/series?metric=in-flight&pool=web");
        fresh["points"].as_array().is_some_and(|points| !points.is_empty())
    });
    let export = text(&site.weir("history export samples --name web --from 4h --step 1m").stdout);
    assert!(
        export.starts_with("time,scope,name,metric,mean,min,max,count\n") && export.contains(",pool,web,requests,450,450,451,60"),
        "{export}"
    );

    let definition = site.folder.path().join("alarm");
    std::fs::write(&definition, "pool = \"web\"\nmetric = \"requests\"\nabove = 200\nfor = \"60s\"\n").expect("written");
    let trial = site.json(&format!("alarm preview {} --from 4h", definition.display()));
    assert_eq!((&trial["alarms"], &trial["engagements"]), (&1.into(), &1.into()), "{trial}");
    let in_alarm = trial["in_alarm_s"].as_f64().expect("a number");
    assert!((3400.0..3800.0).contains(&in_alarm), "{trial}");
    let shown = text(&site.weir(&format!("alarm preview {} --from 4h", definition.display())).stdout);
    assert!(shown.contains("1 times in alarm") && shown.contains("ok -> alarm: requests above 200/s"), "{shown}");
    // Of what is measured but not kept yet there is nothing but this minute.
    std::fs::write(&definition, "pool = \"web\"\nmetric = \"in-flight\"\nabove = 200\n").expect("written");
    let trial = site.json(&format!("alarm preview {} --from 1h", definition.display()));
    assert_eq!(trial["missing"], Value::Array(Vec::new()), "{trial}");
    std::fs::write(&definition, "pool = \"wbe\"\nmetric = \"requests\"\nabove = 200\n").expect("written");
    let refused = site.weir(&format!("alarm preview {}", definition.display()));
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("wbe"), "{refused:?}");
    assert!(site.acts("preview").is_empty(), "a trial changes nothing");

    let svg = site.folder.path().join("replay.svg");
    let line = format!("scaling replay --pool web --policy {} --from 4h --svg {}", policy.display(), svg.display());
    let report = site.json(&line);
    assert_eq!((&report["most"], &report["least"]), (&5.into(), &1.into()), "{report}");
    let shown = text(&site.weir(&line).stdout);
    assert!(shown.contains("MACHINE-HOURS") && shown.contains("####"), "{shown}");
    assert!(std::fs::read_to_string(&svg).expect("drawn").starts_with("<svg"));
    let nothing = site.weir(&format!("scaling replay --pool web --policy {} --from 30d --to 20d", policy.display()));
    assert!(nothing.status.code() == Some(1) && text(&nothing.stderr).contains("nothing is kept of pool web"), "{nothing:?}");
}

/// A table of a load that was, without a node; in words, as JSON and as a picture.
#[test]
fn a_table_of_a_load_is_replayed_without_a_node() {
    let site = Site::new(
        "[pool.web.health]\ntype = \"tcp\"\n[pool.web.scaling]\ntemplate = \"web\"\nmin = 1\nmax = 8\nwarm_up = \"10s\"\n\
         [[pool.web.scaling.target]]\nmetric = \"requests-per-endpoint\"\nvalue = 100\n[template.web]\nmaster = \"m\"\nport = 80\n\
         [host.a]\nuri = \"qemu:///system\"\n",
    );
    let (csv, svg) = (site.folder.path().join("load.csv"), site.folder.path().join("load.svg"));
    // An hour at 90 for one machine, then at 450, then at 90 again.
    let row = |minute: u64| {
        let each = if (60..120).contains(&minute) { 450 } else { 90 };
        format!("{},1,{each}\n", 1_767_571_200 + minute * 60)
    };
    let table = format!("# by hand\ntime,machines,requests-per-endpoint\n{}", (0..180).map(row).collect::<String>());
    std::fs::write(&csv, &table).expect("written");
    let line = format!("scaling replay --pool web --policy {} --csv {}", site.config().display(), csv.display());
    let report = site.json(&format!("{line} --svg {}", svg.display()));
    assert_eq!((&report["most"], &report["least"]), (&5.into(), &1.into()), "{report}");
    assert!(std::fs::read_to_string(&svg).expect("drawn").starts_with("<svg"));
    // What takes longer to boot leaves more time above the threshold.
    let above = |more: &str| site.json(&format!("{line} {more}"))["violation_minutes"].as_f64();
    assert!(above("--boot 20m") > above("--boot 5s"), "{report}");
    let shown = text(&site.weir(&line).stdout);
    assert!(shown.contains("MACHINE-HOURS") && shown.contains("####"), "{shown}");

    let refused = |file: &str, words: &str| {
        std::fs::write(&csv, file).expect("written");
        let output = site.weir(&line);
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains(words), "{output:?}");
    };
    refused("machines,requests\n1,2\n", "line 1 names no column `time`");
    refused(&format!("{table}7,1,90\n"), "line 183: it is not later than the line before");
    refused(&table.replace(",450", ",many"), "line 63: \"many\" is not a number");
    std::fs::remove_file(&csv).expect("it is ours");
    let missing = site.weir(&line);
    assert!(missing.status.code() == Some(1) && text(&missing.stderr).contains("cannot read"), "{missing:?}");
    let both = site.weir(&format!("{line} --from 4h"));
    assert_eq!(both.status.code(), Some(2), "either what the node has kept, or a table: {both:?}");
    let other = site.weir(&line.replace("--pool web", "--pool shop"));
    assert!(other.status.code() == Some(1) && text(&other.stderr).contains("has no [pool.shop.scaling]"), "{other:?}");
}

/// A process that is not our child.
struct Kill(i32);

impl Drop for Kill {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn nothing_is_kept_where_the_file_says_so() {
    let site = Site::new("[history]\nenabled = false\n");
    let _running = site.start();
    assert!(site.weir("reload").status.success());
    let refused = site.weir("audit list");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("`[history] enabled` is false"), "{refused:?}");
    assert!(!site.database().exists());
}
