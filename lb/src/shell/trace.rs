//! What is remembered of an exchange for its log line and its counters.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use weir_config::Balance;

use crate::access_log::{Record, Version};
use crate::cause::Cause;
use crate::http1::request::{Request, hex};
use crate::snapshot::ListenerSnapshot;
use crate::stats;

use super::pick::{self, Place};
use super::timer::Timers;
use super::tunnel::End;
use super::worker::Worker;

/// Not reached yet.
const NONE: u32 = u32::MAX;

/// A head and its bytes.
type Kept = (Request, Vec<u8>);

/// The phases of an exchange, on the worker's clock in microseconds.
#[derive(Debug)]
pub(super) struct Trace {
    http2: bool,
    began_us: Cell<u64>,
    wall_us: Cell<u64>,
    head_us: Cell<u64>,
    mark_us: Cell<u64>,
    queue_us: Cell<u32>,
    connect_us: Cell<u32>,
    first_byte_us: Cell<u32>,
    attempts: Cell<u32>,
    pool: Cell<u32>,
    endpoint: Cell<Option<SocketAddr>>,
    reused: Cell<bool>,
    status: Cell<u16>,
    request_bytes: Cell<u64>,
    response_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    request_id: Cell<u128>,
    /// The head, for a log line that is written when the buffer is long gone.
    kept: RefCell<Option<Box<Kept>>>,
}

impl Trace {
    pub(super) fn new(http2: bool) -> Trace {
        Trace {
            http2,
            began_us: Cell::new(0),
            wall_us: Cell::new(0),
            head_us: Cell::new(0),
            mark_us: Cell::new(0),
            queue_us: Cell::new(NONE),
            connect_us: Cell::new(NONE),
            first_byte_us: Cell::new(NONE),
            attempts: Cell::new(0),
            pool: Cell::new(NONE),
            endpoint: Cell::new(None),
            reused: Cell::new(false),
            status: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            request_id: Cell::new(0),
            kept: RefCell::new(None),
        }
    }

    /// The first bytes of a request are there. Over HTTP/2 whoever received them, together with those of others, has read the clock.
    pub(super) fn begin(&self, worker: &Worker) {
        self.began_us.set(if self.http2 { worker.timers.same_us() } else { worker.timers.now_us() });
        if worker.log.borrow().is_on() {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.wall_us.set(wall.as_micros() as u64);
        }
    }

    /// The head is complete; the clock was read when its last bytes came.
    pub(super) fn head_complete(&self, timers: &Timers) {
        self.head_us.set(timers.recent_us());
        self.mark_us.set(timers.recent_us());
    }

    pub(super) fn request_id(&self, id: u128) {
        self.request_id.set(id);
    }

    pub(super) fn pool(&self, slot: u32) {
        self.pool.set(slot);
    }

    /// True once.
    pub(super) fn first_attempt(&self) -> bool {
        self.attempts.get() == 0
    }

    /// An endpoint was picked.
    pub(super) fn place(&self, place: &Place, timers: &Timers) {
        self.attempts.set(self.attempts.get() + 1);
        self.endpoint.set(Some(place.address));
        let now_ms = timers.recent_ms();
        if self.queue_us.get() == NONE {
            // The clock was read again only if the request had to wait.
            let waited_ms = now_ms.saturating_sub(self.mark_us.get() / 1000);
            self.queue_us.set(if waited_ms == 0 { 0 } else { narrow(waited_ms * 1000) });
        }
    }

    /// A new connection is opened.
    pub(super) fn connecting(&self, timers: &Timers) {
        self.mark_us.set(timers.now_us());
    }

    /// A connection is there, or could not be had.
    pub(super) fn connected(&self, reused: bool, timers: &Timers) {
        self.reused.set(reused);
        if reused {
            self.connect_us.set(0);
        } else {
            self.connect_us.set(narrow(timers.now_us().saturating_sub(self.mark_us.get())));
        }
        self.mark_us.set(timers.recent_us());
    }

    pub(super) fn connect_us(&self) -> u64 {
        u64::from(self.connect_us.get())
    }

    /// From the sent request to the response head of the last attempt.
    pub(super) fn first_byte_us(&self) -> u64 {
        u64::from(self.first_byte_us.get())
    }

    pub(super) fn reused(&self) -> bool {
        self.reused.get()
    }

    pub(super) fn status(&self, status: u16) {
        self.status.set(status);
    }

    pub(super) fn add_request_bytes(&self, count: u64) {
        self.request_bytes.set(self.request_bytes.get() + count);
    }

    pub(super) fn request_bytes(&self) -> u64 {
        self.request_bytes.get()
    }

    pub(super) fn add_response_bytes(&self, count: u64) {
        self.response_bytes.set(self.response_bytes.get() + count);
    }

    /// Bytes went to the client, heads included.
    pub(super) fn add_sent_bytes(&self, count: u64) {
        self.sent_bytes.set(self.sent_bytes.get() + count);
    }

    /// The request is sent whole: from here on the endpoint is waited for, not the client.
    pub(super) fn uploaded(&self, timers: &Timers) {
        self.mark_us.set(timers.now_us());
    }

    /// The response's head is there: its time is the latency of the endpoint.
    pub(super) fn responded(&self, status: u16, place: &Place, timers: &Timers) {
        self.status.set(status);
        let now_us = timers.now_us();
        self.first_byte_us.set(narrow(now_us.saturating_sub(self.mark_us.get())));
        place.latency_shard().record(now_us.saturating_sub(self.head_us.get()));
        if matches!(place.pool().config.balance, Balance::PeakEwma) {
            place.state().latency.observe(u64::from(self.first_byte_us.get()) * 1000, now_us * 1000);
        }
        if status >= 500 { place.answered_badly(status) } else { place.succeeded() }
    }

    /// The request's id: what the client sent, else what we made.
    pub(super) fn id_text<'a>(&self, request: Option<&Request>, head: &'a [u8], digits: &'a mut [u8; 32]) -> &'a [u8] {
        match request.map(|request| request.request_id.of_buf(head)) {
            Some(id) if !id.is_empty() => id,
            _ if self.request_id.get() != 0 => {
                *digits = hex(self.request_id.get());
                digits
            }
            _ => &[],
        }
    }

    /// Keeps the head for the end of a tunnel.
    pub(super) fn keep(&self, worker: &Worker, request: &Request, head: &[u8]) {
        if worker.log.borrow().is_on() {
            *self.kept.borrow_mut() = Some(Box::new((request.clone(), head[..request.head_len].to_vec())));
        }
    }

    pub(super) fn finish_tunnel(&self, worker: &Rc<Worker>, listener: &ListenerSnapshot, peer: SocketAddr, end: &End) {
        let cause = match end {
            End::Closed => Cause::Ok,
            End::Idle => Cause::TunnelIdle,
            End::ClientFailed => Cause::ClientClosed,
            End::EndpointFailed => Cause::EndpointClosed,
        };
        match self.kept.take() {
            Some(kept) => self.finish(worker, listener, peer, cause, Some(&kept.0), &kept.1),
            None => self.finish(worker, listener, peer, cause, None, &[]),
        }
    }

    /// Counts the exchange and writes its line.
    pub(super) fn finish(
        &self,
        worker: &Rc<Worker>,
        listener: &ListenerSnapshot,
        peer: SocketAddr,
        cause: Cause,
        request: Option<&Request>,
        head: &[u8],
    ) {
        let shard = listener.stats.shard(worker.id);
        stats::add(&shard.ended[cause as usize], 1);
        let class = usize::from(self.status.get() / 100);
        if let Some(responses) = class.checked_sub(1).and_then(|class| shard.responses.get(class)) {
            stats::add(responses, 1);
        }
        stats::add(&shard.received_bytes, self.request_bytes.get() + request.map_or(0, |request| request.head_len as u64));
        stats::add(&shard.sent_bytes, self.sent_bytes.get());
        if !worker.log.borrow().is_on() {
            return;
        }
        let snapshot = worker.snapshot();
        let pool = pick::pool(&snapshot, self.pool.get());
        let mut digits = [0; 32];
        let id = self.id_text(request, head, &mut digits);
        let text = |span: Option<crate::http1::request::Span>| span.map_or(&[][..], |span| span.of_buf(head));
        let reached = |phase: &Cell<u32>| Some(phase.get()).filter(|us| *us != NONE);
        let record = Record {
            started_us: self.wall_us.get(),
            listener: &listener.config.name.0,
            client: peer,
            pool: pool.map_or("", |pool| &pool.config.name.0),
            endpoint: self.endpoint.get(),
            method: text(request.map(|request| request.method_text)),
            host: text(request.map(|request| request.host)),
            target: text(request.map(|request| request.target)),
            version: match request {
                _ if self.http2 => Version::Http2,
                Some(request) if request.minor == 0 => Version::Http10,
                _ => Version::Http11,
            },
            status: self.status.get(),
            request_id: id,
            user_agent: text(request.map(|request| request.user_agent)),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            queue_us: reached(&self.queue_us),
            connect_us: reached(&self.connect_us),
            first_byte_us: reached(&self.first_byte_us),
            total_us: narrow(worker.timers.now_us().saturating_sub(self.began_us.get())),
            attempts: self.attempts.get(),
            reused: self.reused.get(),
            cause,
        };
        worker.log.borrow_mut().write(&record);
    }
}

fn narrow(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(NONE - 1)
}
