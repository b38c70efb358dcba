//! Origins that die and come back.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::load::{Load, Plan};
use crate::origin::{Nginx, Origin};
use crate::rig::{LONG, SOON, Site, Weir, health, heavy, http_site, wait_until};
use crate::wire;

#[test]
fn an_origin_killed_under_load_costs_no_request() {
    let _turn = heavy();
    let site = Site::new();
    let stays = Nginx::start(&site, "stays");
    let mut dies = Nginx::start(&site, "dies");
    let listen = site.address();
    // Ejected by traffic before the probes agree; the penalty is short so that the way back is through rise and slow start.
    let more = format!("slow_start = \"1s\"\n\n{}\n[pool.web.ejection]\ntime = \"500ms\"\ntime_max = \"1s\"\n", health("web"));
    let weir = Weir::start(&site, &http_site("web", listen, &[stays.address, dies.address], &more));
    for round in 0..3 {
        let load = Load::start(listen, Plan { clients: 32, ..Plan::default() });
        load.wait_for(1000);
        wait_until("a share before the kill", LONG, || load.good_from("dies") > 0);
        dies.kill();
        wait_until("the dead origin to be unhealthy", SOON, || weir.endpoint("web", dies.address)["health"] == "unhealthy");
        load.wait_for(1000);
        let before = load.good_from("dies");
        dies.run();
        wait_until("the origin to be back", LONG, || load.good_from("dies") > before);
        wait_until("the origin to be healthy", SOON, || weir.endpoint("web", dies.address)["health"] == "healthy");
        wait_until("slow start to end", SOON, || weir.endpoint("web", dies.address)["ramp_percent"] == 100);
        load.wait_for(1000);
        let report = load.finish();
        report.assert_clean();
        assert!(report.slowest < SOON, "round {round}: a request took {:?}", report.slowest);
    }
}

#[test]
fn without_health_checks_failures_eject() {
    let _turn = heavy();
    let site = Site::new();
    let stays = Nginx::start(&site, "stays");
    let mut dies = Nginx::start(&site, "dies");
    let listen = site.address();
    let ejection = "[pool.web.ejection]\nconsecutive_failures = 3\ntime = \"500ms\"\n";
    let weir = Weir::start(&site, &http_site("web", listen, &[stays.address, dies.address], ejection));
    let load = Load::start(listen, Plan { clients: 8, ..Plan::default() });
    load.wait_for(500);
    dies.kill();
    wait_until("the dead origin to be ejected", SOON, || weir.endpoint("web", dies.address)["available"] == false);
    load.wait_for(500);
    let before = load.good_from("dies");
    dies.run();
    wait_until("the origin to be back", LONG, || load.good_from("dies") > before);
    load.finish().assert_clean();
}

#[test]
fn with_all_origins_down_the_answer_is_503_in_time_and_service_returns() {
    let site = Site::new();
    let mut a = Nginx::start(&site, "a");
    let mut b = Nginx::start(&site, "b");
    let listen = site.address();
    for policy in ["fail-open", "fail-closed"] {
        let more = format!("below_min_healthy = \"{policy}\"\n\n{}\n[pool.web.limits]\nqueue_timeout = \"500ms\"\n", health("web"));
        let weir = Weir::start(&site, &http_site("web", listen, &[a.address, b.address], &more));
        wait_until("both to be healthy", SOON, || {
            [a.address, b.address].iter().all(|address| weir.endpoint("web", *address)["health"] == "healthy")
        });
        assert_eq!(wire::get(listen, "/").unwrap().status, 200);
        a.kill();
        b.kill();
        for _ in 0..5 {
            let began = Instant::now();
            let response = wire::get(listen, "/").unwrap();
            assert_eq!(response.status, 503, "{policy}: {}", response.text());
            assert!(response.head.field("retry-after").is_some(), "{policy}: {response:?}");
            assert!(began.elapsed() < SOON, "{policy}: after {:?}", began.elapsed());
        }
        wait_until("both to be unhealthy", SOON, || {
            [a.address, b.address].iter().all(|address| weir.endpoint("web", *address)["health"] == "unhealthy")
        });
        let began = Instant::now();
        assert_eq!(wire::get(listen, "/").unwrap().status, 503, "{policy}");
        assert!(began.elapsed() < SOON, "{policy}: after {:?}", began.elapsed());
        a.run();
        wait_until("service to return by itself", SOON, || wire::get(listen, "/").is_ok_and(|response| response.status == 200));
        b.run();
        wait_until("both to be healthy again", SOON, || {
            [a.address, b.address].iter().all(|address| weir.endpoint("web", *address)["health"] == "healthy")
        });
    }
}

#[test]
fn a_backup_serves_only_while_no_other_does() {
    let site = Site::new();
    let mut first = Nginx::start(&site, "first");
    let backup = Nginx::start(&site, "backup");
    let listen = site.address();
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\nprotocol = \"http\"\npool = \"web\"\n\n[pool.web]\n\
         endpoints = [\"{}\", {{ address = \"{}\", tier = 1 }}]\n\n{}",
        first.address,
        backup.address,
        health("web")
    );
    let weir = Weir::start(&site, &body);
    wait_until("the first to be healthy", SOON, || weir.endpoint("web", first.address)["health"] == "healthy");
    for _ in 0..20 {
        assert_eq!(wire::get(listen, "/").unwrap().text(), "first");
    }
    first.kill();
    wait_until("the backup to serve", SOON, || wire::get(listen, "/").is_ok_and(|response| response.text() == "backup"));
    first.run();
    wait_until("the first to serve again", SOON, || wire::get(listen, "/").is_ok_and(|response| response.text() == "first"));
}

/// A machine that takes connections, says nothing, and is then as good as dead: connecting to it is not answered any more.
struct Dying {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
    listener: TcpListener,
    taken: Vec<TcpStream>,
}

impl Dying {
    fn start(site: &Site) -> Dying {
        let address = site.address();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&address.into()).expect("its address");
        // As few as possible wait to be accepted, so that they are soon too many.
        socket.listen(1).expect("it listens");
        let listener = TcpListener::from(socket);
        let (dead, accepting) = (Arc::new(AtomicBool::new(false)), listener.try_clone().expect("a second descriptor"));
        let told = Arc::clone(&dead);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((stream, _)) = accepting.accept() {
                held.push(stream);
                if told.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        });
        Dying { address, dead, listener, taken: Vec::new() }
    }

    fn die(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
        while let Ok(stream) = TcpStream::connect_timeout(&self.address, Duration::from_millis(200)) {
            self.taken.push(stream);
            assert!(self.taken.len() < 100, "{:?} goes on taking connections", self.listener);
        }
    }
}

#[test]
fn who_waits_for_an_answer_of_a_dead_machine_does_not_wait_longer() {
    let site = Site::new();
    let (mut dying, good, listen) = (Dying::start(&site), Origin::start(&site, "good"), site.address());
    let check = "[pool.web.health]\ntype = \"tcp\"\ninterval = \"2s\"\nfast_interval = \"100ms\"\ntimeout = \"2s\"\nrise = 1\nfall = 2\n";
    let text = http_site("web", listen, &[dying.address, good.address], &format!("balance = \"round-robin\"\nejection = false\n{check}"));
    let weir = Weir::start(&site, &text);
    for address in [dying.address, good.address] {
        wait_until("good verdicts", SOON, || weir.endpoint("web", address)["health"] == "healthy");
    }
    // Two of each method, so that one of each waits for the machine that says nothing.
    let asked: Vec<_> = ["GET", "GET", "POST", "POST"]
        .map(|method| {
            std::thread::spawn(move || {
                let began = Instant::now();
                let raw = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
                let response = wire::send(listen, method, &raw).expect("an answer");
                (method, response.status, response.text(), began.elapsed())
            })
        })
        .into();
    wait_until("requests that wait", SOON, || weir.endpoint("web", dying.address)["open"]["requests"].as_u64() == Some(2));
    dying.die();
    let mut lost = 0;
    for asked in asked {
        let (method, status, text, waited) = asked.join().expect("it was answered");
        // The default of first_byte is a minute.
        assert!(waited < SOON, "{method}: {waited:?}");
        match (method, status) {
            (_, 200) => assert_eq!(text, "good"),
            ("POST", 502) => lost += 1,
            _ => panic!("{method}: {status} {text}"),
        }
    }
    assert!(lost <= 2);
    let gone = format!("weir_listener_requests_total{{listener=\"web\",cause=\"endpoint-gone\"}} {lost}");
    wait_until(&gone, SOON, || wire::get(weir.api(), "/metrics").expect("metrics").text().lines().any(|line| line == gone));
    wait_until("none to be open", SOON, || weir.endpoint("web", dying.address)["open"]["requests"].as_u64() == Some(0));
}
