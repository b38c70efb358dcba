//! Pools in trouble: what is tried again and how often, what is taken and what is shed, and who is left out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::origin::{Behaviour, Origin, standard};
use crate::rig::{SOON, Site, Weir, pool, wait_until, within_a_second};
use crate::wire::{self, Framing, Peer, Response};

fn site_text(listen: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    format!("[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n{}", pool("web", endpoints, more))
}

fn ask(address: SocketAddr, method: &str, fields: &str, body: &str) -> Response {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    wire::send(address, method, &format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}{fields}\r\n{body}")).expect("an answer")
}

/// Answers each request by this status.
fn always(status: &'static str) -> Behaviour {
    Arc::new(move |peer: &mut Peer, seen| {
        while let Some(head) = peer.head()? {
            peer.body(head.request_framing()?, &mut io::sink())?;
            seen.requests.fetch_add(1, Ordering::SeqCst);
            peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nbad"))?;
        }
        Ok(())
    })
}

#[track_caller]
fn metric(weir: &Weir<'_>, line: &str) -> u64 {
    let text = wire::get(weir.api(), "/metrics").expect("metrics").text();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in\n{text}"));
    found.trim().parse().expect("a whole number")
}

#[test]
fn statuses_are_exchanged_for_another_answer() {
    let site = Site::new();
    let (good, bad) = (Origin::start(&site, "good"), Origin::behaving(&site, "bad", always("503 Busy")));
    let listen = site.address();
    let more = |on: &str| format!("balance = \"round-robin\"\nejection = false\n[pool.web.retry]\non = [{on}]\n");
    let both = [bad.address, good.address];
    let weir = Weir::start(&site, &site_text(listen, &both, &more("\"connect-failed\", \"closed\", \"503\"")));
    for _ in 0..6 {
        assert_eq!(ask(listen, "GET", "", "").text(), "good");
        assert_eq!(ask(listen, "PUT", "", "with a body").text(), "good", "a body in memory is sent again");
    }
    assert!(bad.requests() >= 4 && metric(&weir, "weir_pool_retries_total{pool=\"web\"}") == bad.requests());
    // What may have been processed is not repeated, unless it is idempotent.
    let posts: Vec<u16> = (0..6).map(|_| ask(listen, "POST", "", "x").status).collect();
    assert!(posts.contains(&503) && posts.contains(&200), "{posts:?}");
    // The last answer is passed on, whatever it is.
    weir.reload(&site_text(listen, &[bad.address], &more("\"503\"")));
    let last = ask(listen, "GET", "", "");
    assert_eq!((last.status, last.text().as_str()), (503, "bad"));
    // Without the cause nothing is tried again.
    let nobody = site.address();
    weir.reload(&site_text(listen, &[nobody, good.address], &more("\"503\"")));
    let statuses: Vec<u16> = (0..6).map(|_| ask(listen, "GET", "", "").status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
}

#[test]
fn an_attempt_has_a_time_of_its_own() {
    let site = Site::new();
    let (good, slow) = (Origin::start(&site, "good"), Origin::behaving(&site, "slow", crate::origin::silent()));
    let listen = site.address();
    let more = "balance = \"round-robin\"\nejection = false\n[pool.web.retry]\non = [\"timeout\"]\nper_try = \"3s\"\n";
    let _weir = Weir::start(&site, &site_text(listen, &[slow.address, good.address], more));
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(ask(listen, "GET", "", "").text(), "good");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    let posts: Vec<u16> = (0..2).map(|_| ask(listen, "POST", "", "x").status).collect();
    assert!(posts.contains(&504), "{posts:?}");
}

/// A pool that fails altogether gets its load and a little more, not three times.
#[test]
fn retries_keep_to_their_budget() {
    let site = Site::new();
    let bad = [(); 2].map(|()| Origin::behaving(&site, "bad", always("503 Busy")));
    let listen = site.address();
    let more = "ejection = false\n[pool.web.retry]\non = [\"503\"]\nbudget = 20\n";
    let weir = Weir::start(&site, &site_text(listen, &[bad[0].address, bad[1].address], more));
    let mut peer = Peer::connect(listen).unwrap();
    let began = Instant::now();
    for _ in 0..800 {
        peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(peer.response("GET").unwrap().status, 503);
    }
    let retries = metric(&weir, "weir_pool_retries_total{pool=\"web\"}");
    // A fifth of the requests, and a hundred always in ten seconds.
    let most = 160 + 100 * (began.elapsed().as_secs() / 10 + 1) + 40;
    assert!((100..=most).contains(&retries), "{retries} retries of 800 requests in {:?}", began.elapsed());
    assert!(metric(&weir, "weir_pool_retries_refused_total{pool=\"web\"}") > 200);
    assert_eq!(bad[0].requests() + bad[1].requests(), 800 + retries);
}

#[test]
fn a_breaker_bounds_the_pool() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "one", standard());
    let listen = site.address();
    let weir = Weir::start(&site, &site_text(listen, &[origin.address], "[pool.web.breaker]\nrequests_max = 2\n"));
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..2).map(|_| scope.spawn(move || wire::get(listen, "/held").unwrap().status)).collect();
        wait_until("two requests to be held", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 2);
        let shut = ask(listen, "GET", "", "");
        assert_eq!((shut.status, shut.head.field("retry-after")), (503, Some("1")));
        origin.seen.release();
        for client in held {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    let open = || metric(&weir, "weir_listener_requests_total{listener=\"web\",cause=\"circuit-open\"}");
    wait_until("the refusal to be counted", SOON, || open() == 1);
    wait_until("the pool to take requests again", SOON, || ask(listen, "GET", "", "").status == 200);
}

/// While one waits that is of little weight, another of more goes first, and takes its place in a full queue.
#[test]
fn the_queue_goes_by_priority() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "one", standard());
    let listen = site.address();
    let routes = "[[listener.web.route]]\npath = \"/echo/low\"\npriority = 1\npool = \"web\"\n[[listener.web.route]]\npath = \"/echo/high\"\npriority = 9\npool = \"web\"\n";
    let limits = "[pool.web.limits]\nconnections_per_endpoint = 1\nqueue_max = 2\nqueue_timeout = \"15s\"\n";
    let text = site_text(listen, &[origin.address], limits).replace("[pool.web]", &format!("{routes}[pool.web]"));
    let settings = crate::rig::NodeSettings { workers: 1, ..Default::default() };
    let weir = Weir::start_with(&site, settings, &text);
    let waiting = || metric(&weir, "weir_pool_waiting{pool=\"web\"}");
    std::thread::scope(|scope| {
        let get = |path: &'static str| scope.spawn(move || wire::get(listen, path).unwrap().status);
        let held = get("/held");
        wait_until("the endpoint to be busy", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 1);
        let first = get("/echo/low/1");
        wait_until("one to wait", SOON, || waiting() == 1);
        let second = get("/echo/low/2");
        wait_until("two to wait", SOON, || waiting() == 2);
        assert_eq!(wire::get(listen, "/echo/low/3").unwrap().status, 503, "the queue is full");
        let high = get("/echo/high");
        assert_eq!(second.join().unwrap(), 503, "the last of the lower ones makes room");
        origin.seen.release();
        assert_eq!([held, high, first].map(|client| client.join().unwrap()), [200; 3]);
    });
    let order: Vec<String> = origin.seen.log().iter().map(|head| head.request().1.to_owned()).collect();
    assert_eq!(order, ["/held", "/echo/high", "/echo/low/1"]);
}

#[test]
fn who_answers_worse_than_the_others_is_left_out() {
    let site = Site::new();
    let good: Vec<Origin> = (0..4).map(|_| Origin::start(&site, "good")).collect();
    let bad = Origin::behaving(&site, "bad", always("500 Broken"));
    let listen = site.address();
    let endpoints: Vec<SocketAddr> = good.iter().chain([&bad]).map(|origin| origin.address).collect();
    let more = "balance = \"round-robin\"\n[pool.web.ejection]\ntime = \"60s\"\n[pool.web.ejection.success_rate]\nrequests_min = 5\nendpoints_min = 5\n\
                interval = \"500ms\"\n";
    let weir = Weir::start(&site, &site_text(listen, &endpoints, more));
    wait_until("the bad one to be ejected", SOON, || {
        for _ in 0..50 {
            ask(listen, "GET", "", "");
        }
        weir.endpoint("web", bad.address)["ejected_s"].is_u64()
    });
    assert!(good.iter().all(|origin| weir.endpoint("web", origin.address)["ejected_s"].is_null()));
    // A few of its answers in a row are enough where that is told.
    weir.reload(&site_text(listen, &endpoints[3..], "balance = \"round-robin\"\nejection = false\n"));
    weir.reload(&site_text(listen, &endpoints[3..], "balance = \"round-robin\"\n[pool.web.ejection]\nconsecutive_errors = 3\n"));
    wait_until("it to be ejected again", SOON, || {
        ask(listen, "GET", "", "");
        weir.endpoint("web", bad.address)["ejected_s"].is_u64()
    });
}

/// A pool that serves four at once and gets many: those beyond are told at once, and the others wait little.
#[test]
fn an_adaptive_bound_sheds_what_would_only_wait() {
    let site = Site::new();
    let turn = Arc::new(std::sync::Mutex::new(()));
    let slow: Behaviour = Arc::new(move |peer: &mut Peer, seen| {
        while let Some(head) = peer.head()? {
            peer.body(Framing::Length(0), &mut io::sink())?;
            drop(head);
            seen.requests.fetch_add(1, Ordering::SeqCst);
            {
                let _one = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // What the work takes; it is the subject, not a wait for something.
                std::thread::sleep(Duration::from_millis(3));
            }
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let origin = Origin::behaving(&site, "one", slow);
    let listen = site.address();
    let weir = Weir::start(&site, &site_text(listen, &[origin.address], "[pool.web.adaptive]\nmin = 2\nmax = 40\n"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut peer = Peer::connect(listen).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    let answer = peer.response("GET").unwrap();
                    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
                    if answer.head.closes() {
                        peer = Peer::connect(listen).unwrap();
                    }
                    if answer.status == 503 {
                        assert_eq!(answer.head.field("retry-after"), Some("1"));
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        }
        let shed = || metric(&weir, "weir_listener_requests_total{listener=\"web\",cause=\"shed\"}");
        wait_until("requests to be shed, and others to be served", SOON, || shed() > 200 && origin.requests() > 50);
        stop.store(true, Ordering::Relaxed);
    });
}

/// Connections and requests by source: more are told, and everybody else is served.
#[test]
fn what_is_under_way_is_bounded_by_source() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "one", standard());
    let listen = site.address();
    let limit = "connections_per_source = 4\n[[listener.web.rate_limit]]\nrequests_at_once = 2\n";
    let weir = Weir::start(&site, &site_text(listen, &[origin.address], "").replace("[pool.web]", &format!("{limit}[pool.web]")));
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..2).map(|_| scope.spawn(move || wire::get(listen, "/held").unwrap().status)).collect();
        wait_until("two requests to be held", SOON, || origin.seen.holding.load(Ordering::SeqCst) == 2);
        let mut third = Peer::connect(listen).unwrap();
        for _ in 0..3 {
            third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let refused = third.response("GET").unwrap();
            assert_eq!((refused.status, refused.head.field("retry-after"), refused.head.closes()), (429, Some("1"), false));
        }
        let mut fourth = Peer::connect(listen).unwrap();
        fourth.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(fourth.response("GET").unwrap().status, 429);
        assert_eq!(Peer::connect(listen).unwrap().rest().unwrap_or_default(), b"", "a fifth connection is closed");
        let url = format!("http://{listen}/");
        let other = std::process::Command::new("curl").args(["-sS", "--max-time", "10", "--interface", "127.9.8.7", &url]).output();
        let other = other.expect("curl is installed");
        assert_eq!(String::from_utf8_lossy(&other.stdout), "one", "another source is not concerned");
        origin.seen.release();
        for client in held {
            assert_eq!(client.join().unwrap(), 200);
        }
        wait_until("the connection to be served again", SOON, || {
            third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            third.response("GET").unwrap().status == 200
        });
    });
    wait_until("there to be room again", SOON, || wire::get(listen, "/").is_ok_and(|response| response.status == 200));
    assert!(metric(&weir, "weir_listener_requests_total{listener=\"web\",cause=\"rate-limited\"}") >= 5);
}

/// A client that is told to wait keeps its connection, also behind a small body; a request that one limit refuses costs no other anything.
#[test]
fn a_429_costs_nobody_a_connection() {
    let site = Site::new();
    let origin = Origin::behaving(&site, "one", standard());
    let listen = site.address();
    let limits = "[[listener.web.rate_limit]]\nper = \"all\"\nrequests_per_second = 1\nburst = 3\n\
                  [[listener.web.rate_limit]]\nper = \"header:x-key\"\nrequests_per_second = 1\nburst = 1\n";
    let _weir = Weir::start(&site, &site_text(listen, &[origin.address], "").replace("[pool.web]", &format!("{limits}[pool.web]")));
    let mut peer = Peer::connect(listen).unwrap();
    let mut ask = |key: &str, length: usize| {
        let body = "x".repeat(length);
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\nContent-Length: {}\r\n\r\n", body.len())).unwrap();
        for piece in body.as_bytes().chunks(7000) {
            peer.send(piece).unwrap();
        }
        peer.response("POST").unwrap().status
    };
    // Refused by the second limit, `a` is not counted by the first: for others there are two left.
    let asked = [("a", 1), ("a", 0), ("a", 1), ("a", 30_000), ("b", 1), ("c", 0), ("d", 0)];
    let (statuses, refused) = within_a_second(|| {
        let statuses = asked.map(|(key, length)| ask(key, length));
        // What does not fit, or waits to be asked for, ends the connection.
        let mut peer = Peer::connect(listen).unwrap();
        peer.send("POST / HTTP/1.1\r\nHost: a\r\nX-Key: e\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap();
        (statuses, peer.response("POST").unwrap())
    });
    assert_eq!(statuses, [200, 429, 429, 429, 200, 200, 429]);
    assert!(refused.status == 429 && refused.head.closes());
}
