//! A closed-loop client: each of its connections sends the next request when the last was answered, and every failure is kept verbatim.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::rig::{LONG, wait_until};
use crate::wire::{Peer, Response};

/// How many failures are kept in words.
const KEPT_MAX: usize = 20;

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections at once.
    pub(crate) clients: usize,
    /// Requests on a connection before it is closed in order; 0: no bound.
    pub(crate) requests_per_connection: u64,
    /// Pause between two requests of a client.
    pub(crate) pause: Duration,
    /// The path.
    pub(crate) path: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { clients: 16, requests_per_connection: 0, pause: Duration::ZERO, path: "/" }
    }
}

#[derive(Default)]
struct Counted {
    stop: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
    connects: AtomicU64,
    slowest_us: AtomicU64,
    kept: Mutex<Vec<String>>,
    /// Good answers by body, which is the origin's name.
    bodies: Mutex<BTreeMap<String, u64>>,
}

/// Clients at work.
pub(crate) struct Load {
    counted: Arc<Counted>,
    threads: Vec<JoinHandle<()>>,
}

/// What they saw.
#[derive(Debug)]
pub(crate) struct Report {
    /// Requests answered with 200.
    pub(crate) good: u64,
    /// All others, failed connects included.
    pub(crate) failed: u64,
    /// Connections made.
    pub(crate) connects: u64,
    /// The longest a good one took.
    pub(crate) slowest: Duration,
    /// The first failures in words.
    pub(crate) kept: Vec<String>,
}

impl Load {
    /// Starts the clients.
    pub(crate) fn start(address: SocketAddr, plan: Plan) -> Load {
        let counted = Arc::new(Counted::default());
        let began = Instant::now();
        let threads = (0..plan.clients)
            .map(|client| {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || work(client, address, plan, began, &counted))
            })
            .collect();
        Load { counted, threads }
    }

    /// Good answers so far.
    pub(crate) fn good(&self) -> u64 {
        self.counted.good.load(Ordering::Relaxed)
    }

    /// Failures so far.
    pub(crate) fn failed(&self) -> u64 {
        self.counted.failed.load(Ordering::Relaxed)
    }

    /// Good answers so far from the origin of this name.
    pub(crate) fn good_from(&self, name: &str) -> u64 {
        self.counted.bodies.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }

    /// Waits for so many more good answers.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let enough = self.good() + more;
        wait_until("the load to go on", LONG, || self.good() >= enough);
    }

    /// Stops the clients between two requests.
    pub(crate) fn finish(mut self) -> Report {
        self.counted.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
        let counted = &self.counted;
        Report {
            good: counted.good.load(Ordering::Relaxed),
            failed: counted.failed.load(Ordering::Relaxed),
            connects: counted.connects.load(Ordering::Relaxed),
            slowest: Duration::from_micros(counted.slowest_us.load(Ordering::Relaxed)),
            kept: counted.kept.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that fails must not leave its clients running into the next one.
        self.counted.stop.store(true, Ordering::Relaxed);
    }
}

impl Report {
    /// No request failed, and there were some.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert!(self.failed == 0, "{} of {} requests failed; the first:\n{}", self.failed, self.failed + self.good, self.kept.join("\n"));
        assert!(self.good > 0, "no request was made");
    }
}

/// One client's life.
fn work(client: usize, address: SocketAddr, plan: Plan, began: Instant, counted: &Counted) {
    let request = format!("GET {} HTTP/1.1\r\nHost: test\r\nUser-Agent: load/{client}\r\n\r\n", plan.path);
    let mut connection: Option<(Peer, u64)> = None;
    while !counted.stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let (mut peer, sent) = match connection.take() {
            Some(open) => open,
            None => {
                counted.connects.fetch_add(1, Ordering::Relaxed);
                match Peer::connect(address) {
                    Ok(peer) => (peer, 0),
                    Err(e) => {
                        failure(counted, || format!("{:?} client {client}: connecting: {e}", began.elapsed()));
                        // A refused connect costs nothing; without a breath this would be a busy loop.
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    }
                }
            }
        };
        let answer = peer.send(&request).and_then(|()| peer.response("GET"));
        match answer {
            Ok(response) if response.status == 200 => {
                good(counted, &response, at);
                let bound = plan.requests_per_connection;
                if !response.head.closes() && (bound == 0 || sent + 1 < bound) {
                    connection = Some((peer, sent + 1));
                }
            }
            Ok(response) => {
                failure(counted, || {
                    format!("{:?} client {client}, request {sent}: {} {:?}", began.elapsed(), response.head.first, response.text())
                });
                if !response.head.closes() {
                    connection = Some((peer, sent + 1));
                }
            }
            Err(e) => {
                failure(counted, || format!("{:?} client {client}, request {sent} of its connection: {:?}: {e}", began.elapsed(), e.kind()))
            }
        }
        if !plan.pause.is_zero() {
            std::thread::sleep(plan.pause);
        }
    }
}

fn good(counted: &Counted, response: &Response, at: Instant) {
    counted.good.fetch_add(1, Ordering::Relaxed);
    counted.slowest_us.fetch_max(at.elapsed().as_micros() as u64, Ordering::Relaxed);
    *counted.bodies.lock().unwrap_or_else(PoisonError::into_inner).entry(response.text()).or_default() += 1;
}

fn failure(counted: &Counted, words: impl FnOnce() -> String) {
    counted.failed.fetch_add(1, Ordering::Relaxed);
    let mut kept = counted.kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT_MAX {
        kept.push(words());
    }
}

#[test]
fn the_clients_notice_every_kind_of_failure() {
    use crate::origin::{self, End, Origin, ok, raw};
    let site = crate::rig::Site::new();
    let origin = Origin::start(&site, "one");
    let run = || {
        let load = Load::start(origin.address, Plan { clients: 2, ..Plan::default() });
        wait_until("some requests", LONG, || load.good() + load.failed() >= 20);
        load.finish()
    };
    run().assert_clean();
    for (what, bytes, end) in [
        ("a close before the response", Vec::new(), End::Close),
        ("a reset before the response", Vec::new(), End::Reset),
        ("half a response", ok(b"one")[..40].to_vec(), End::Close),
        ("a close nobody announced", ok(b"one"), End::Close),
        ("an error", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec(), End::Close),
    ] {
        origin.behave(raw(bytes, end));
        let report = run();
        assert!(report.failed > 0 && !report.kept.is_empty(), "{what}: {report:?}");
    }
    origin.behave(origin::standard());
    run().assert_clean();
}
