//! Alarms of the whole program: numbers from elsewhere, and from the data plane.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::origin::{Origin, standard};
use crate::rig::{LONG, SOON, Site, Weir, health, http_site, wait_until};
use crate::wire::{self, Peer};

#[track_caller]
fn becomes(weir: &Weir<'_>, alarm: &str, state: &str) {
    let path = format!("/v1/alarms/{alarm}");
    wait_until(&format!("{alarm} to be {state}"), LONG, || weir.api_get(&path)["state"] == state);
}

fn alarm(name: &str, metric: &str, above: f64) -> String {
    format!("[alarm.{name}]\npool = \"web\"\nmetric = \"{metric}\"\nperiod = \"1s\"\nabove = {above}\n")
}

#[test]
fn a_number_that_a_program_prints_raises_and_ends_an_alarm() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let depth = site.write("depth", "2\n");
    let metric = format!("[metric.depth]\ncommand = [\"/bin/cat\", {depth:?}]\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    let tickets = site.path("tickets");
    let channel = format!("notify = [\"desk\"]\n[notify.desk.ticket_log]\npath = {tickets:?}\n");
    let text = http_site("web", address, &[origin.address], "") + &metric + &alarm("deep", "depth", 5.0) + &channel;
    let weir = Weir::start(&site, &text);
    becomes(&weir, "deep", "ok");
    site.write("depth", "9\n");
    becomes(&weir, "deep", "alarm");
    let events = weir.cli_ok(&["events"]);
    assert!(events.contains("deep"), "{events}");
    // The channel that the alarm names is told.
    let told = || std::fs::read_to_string(&tickets).unwrap_or_default();
    wait_until("the ticket", SOON, || told().contains("deep"));
    // Somebody has seen it: that is shown, and ends with the alarm.
    weir.cli_ok(&["alarm", "ack", "deep", "--by", "kim", "looking at the pump"]);
    let shown = weir.cli_ok(&["alarm", "show", "deep"]);
    assert!(shown.contains("kim") && shown.contains("looking at the pump"), "{shown}");
    // What is no number is no data, and is said.
    site.write("depth", "many\n");
    becomes(&weir, "deep", "insufficient-data");
    assert!(weir.log().contains("\"many\" is not a number"), "{}", weir.log());
    site.write("depth", "1\n");
    becomes(&weir, "deep", "ok");
    let refused = weir.cli(&["alarm", "ack", "deep", "--by", "kim"]);
    assert!(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("nothing to acknowledge"), "{refused:?}");
    assert_eq!(weir.api_get("/v1/alarms/deep")["acknowledged"], serde_json::Value::Null);
    // Gone from the file, it is asked for no more.
    weir.reload(&http_site("web", address, &[origin.address], ""));
    wait_until("the alarm to be gone", SOON, || wire::get(weir.api(), "/v1/alarms/deep").is_ok_and(|answer| answer.status == 404));
}

#[test]
fn a_number_of_prometheus_raises_an_alarm() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let server = TcpListener::bind((address.ip(), 0)).expect("a listener");
    let url = format!("http://{}", server.local_addr().expect("bound"));
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    thread::spawn(move || {
        for stream in server.incoming() {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(mut peer) = stream.and_then(Peer::from_stream) else { continue };
            let Ok(Some(head)) = peer.head() else { continue };
            let fits = head.first.starts_with("GET /api/v1/query?query=up%7Bjob%3D%22web%22%7D ");
            let value = if fits { "8" } else { "0" };
            let body = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"scalar\",\"result\":[0,\"{value}\"]}}}}");
            let _ = peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()));
            let _ = peer.finish_sending();
            let _ = peer.stream().read(&mut [0]);
        }
    });
    let metric = format!("[metric.jobs]\nprometheus = \"{url}\"\nquery = 'up{{job=\"web\"}}'\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    let text = http_site("web", address, &[origin.address], "") + &metric + &alarm("jobs-high", "jobs", 5.0);
    let weir = Weir::start(&site, &text);
    becomes(&weir, "jobs-high", "alarm");
    over.store(true, Ordering::SeqCst);
}

#[test]
fn requests_that_wait_for_an_endpoint_raise_an_alarm() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let limits = "[pool.web.limits]\nconnections_per_endpoint = 1\nqueue_timeout = \"30s\"\n";
    let text = http_site("web", address, &[origin.address], limits) + &alarm("waits", "queue-wait", 50.0);
    let weir = Weir::start(&site, &text);
    becomes(&weir, "waits", "ok");
    let mut first = Peer::connect(address).expect("a client");
    first.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let waiting = || weir.api_get(crate::rig::STATUS_PATH)["pools"][0]["waiting"].as_u64();
    wait_until("the first to be under way", SOON, || weir.endpoint("web", origin.address)["open"]["requests"] == 1);
    let mut second = Peer::connect(address).expect("a client");
    second.send("GET /who HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let since = std::time::Instant::now();
    wait_until("the second to wait, and longer than the alarm allows", SOON, || waiting() == Some(1) && since.elapsed().as_millis() > 100);
    origin.seen.release();
    assert_eq!(first.response("GET").expect("an answer").status, 200);
    assert_eq!(second.response("GET").expect("an answer").status, 200);
    // It may be over when it is looked for.
    let went_off =
        |alarm: &serde_json::Value| alarm["history"].as_array().is_some_and(|all| all.iter().any(|change| change["to"] == "alarm"));
    wait_until("the alarm to have gone off", LONG, || went_off(&weir.api_get("/v1/alarms/waits")));
}

/// No machine is made here, for its host cannot be reached; what an operator asks for is done, or refused with the reason.
#[test]
fn scaling_is_stopped_and_goes_on_as_an_operator_says() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let scaling = "[pool.web.scaling]\ntemplate = \"t\"\nmin = 1\nmax = 4\n[template.t]\nmaster = \"m\"\nport = 80\n\
                   [host.a]\nuri = \"qemu+tcp://127.0.0.1:1/system\"\n";
    let text = http_site("web", address, &[origin.address], "") + &health("web") + scaling;
    let weir = Weir::start(&site, &text);
    let paused = || weir.api_get("/v1/scaling/web")["paused"] == true;
    wait_until("the node to lead", SOON, || weir.api_get("/v1/scaling/web")["leads"] == true);
    assert!(weir.cli_ok(&["scaling", "show"]).contains("web"));
    assert!(weir.cli_ok(&["scaling", "pause", "web"]).contains("paused by an operator") && paused());
    assert!(weir.cli_ok(&["scaling", "show", "web"]).contains("paused"));
    weir.reload(&text.replace("max = 4", "max = 5"));
    assert!(paused(), "a reload forgets nothing");
    assert!(weir.cli_ok(&["scaling", "resume", "web"]).contains("goes on") && !paused());
    assert!(weir.cli_ok(&["scaling", "plan", "web"]).contains("pool web: "));
    for (words, why) in [
        (&["set", "web", "9"][..], "not within 1 and 5"),
        (&["set", "wbe", "2"], "`wbe` is not scaled; there are: web"),
        (&["refresh", "web"], "not yet: "),
        (&["protect", "web", "web-1"], "has no machine `web-1`"),
    ] {
        let refused = weir.cli(&[&["scaling"], words].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(why), "{words:?}: {said}");
    }
}
