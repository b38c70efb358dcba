//! Requests that another pool gets too. Nobody waits for them, and nothing of theirs reaches a client: what does not keep up is lost and counted.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use weir_config::UpstreamProtocol;

use crate::http1::request::Method;
use crate::http1::response::{self, Asked};
use crate::http1::{Bounds, Scanner};
use crate::proxy_protocol;
use crate::stats;

use super::endpoint::Line;
use super::io;
use super::pick::{self, Place};
use super::timer::Timer;
use super::upstream;
use super::worker::Worker;

/// Mirrored requests under way at once, for each worker. Each holds a copy of its request.
const UNDER_WAY_MAX: u32 = 256;
/// The longest answer that is read so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Sends a copy of a request, whole with its body, to a pool.
pub(super) fn send(worker: &Rc<Worker>, slot: u32, method: Method, head: &[u8], body: &[u8]) {
    let snapshot = worker.snapshot();
    let Some(pool) = pick::pool(&snapshot, slot) else { return };
    let shard = pool.stats.shard(worker.id);
    stats::add(&shard.mirrored, 1);
    let place = if worker.mirrors.get() < UNDER_WAY_MAX { pick::spare(worker, slot) } else { None };
    // Only HTTP/1.1 is written here.
    let Some(place) = place.filter(|place| place.pool().config.upstream_protocol == UpstreamProtocol::Http1) else {
        stats::add(&shard.mirrors_lost, 1);
        return;
    };
    worker.mirrors.set(worker.mirrors.get() + 1);
    let (worker, bytes) = (Rc::clone(worker), [head, body].concat());
    tokio::task::spawn_local(async move {
        let answered = carry(&worker, &place, method, &bytes).await.is_some();
        if !answered {
            stats::add(&place.pool().stats.shard(worker.id).mirrors_lost, 1);
        }
        worker.mirrors.set(worker.mirrors.get() - 1);
    });
}

/// `None`: there was no whole answer.
async fn carry(worker: &Rc<Worker>, place: &Place, method: Method, bytes: &[u8]) -> Option<()> {
    let config = &place.pool().config;
    let timer = worker.timers.timer();
    place.state().requests_total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let kept = if config.proxy_protocol.is_none() { worker.upstreams.take(place.state(), worker.timers.recent_ms()) } else { None };
    let line = match kept {
        Some(line) => line,
        None => connect(worker, place, &timer).await?,
    };
    worker.timers.now_us();
    timer.set_after(config.timeouts.first_byte);
    io::write(&line, &timer, bytes, &[]).await.ok()?;
    if read(worker, &line, &timer, method, config.timeouts.idle).await? && config.proxy_protocol.is_none() {
        let now_ms = worker.timers.recent_ms();
        let most = config.limits.idle_connections_max;
        worker.upstreams.put(place.state(), line, place.purge(), now_ms, config.timeouts.keep_alive, most);
    }
    Some(())
}

async fn connect(worker: &Rc<Worker>, place: &Place, timer: &Timer) -> Option<Line> {
    let config = &place.pool().config;
    // The copy is ours: no client opened a connection for it.
    let preamble = config.proxy_protocol.map(|version| {
        let mut header = Vec::new();
        proxy_protocol::encode(version, None, &[], &mut header);
        header
    });
    place.state().connects_total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    worker.timers.now_us();
    timer.set_after(config.timeouts.connect);
    let mut reached = pin!(upstream::reach(worker, place.destination(preamble.as_deref())));
    poll_fn(|cx| match reached.as_mut().poll(cx) {
        Poll::Ready(line) => Poll::Ready(line.ok()),
        Poll::Pending => timer.poll_expired(cx).map(|()| None),
    })
    .await
}

/// Reads an answer to its end. Whether the connection can be used again.
async fn read(worker: &Rc<Worker>, line: &Line, timer: &Timer, method: Method, idle: Duration) -> Option<bool> {
    let mut buf = worker.buffers.small();
    let asked = Asked { method, minor: 1, upgrade: false };
    let mut response = loop {
        let mut scanner = Scanner::default();
        match scanner.scan(buf.filled(), &Bounds::RESPONSE).ok()? {
            Some(head_len) => {
                let forward = |_: &response::Response| response::Forward { close: false, via: None };
                let response = response::parse(buf.filled(), head_len, asked, forward, &mut Vec::new()).ok()?;
                buf.consume(head_len);
                if !response.is_interim() {
                    break response;
                }
            }
            None => {
                if buf.spare().is_empty() && !buf.make_room(Bounds::RESPONSE.head_bytes_max) {
                    return None;
                }
                if io::read(line, timer, &mut buf).await.ok()? == 0 {
                    return None;
                }
            }
        }
    };
    let mut total = 0;
    loop {
        let advance = response.body.advance(buf.filled_mut()).ok()?;
        if response.body.is_done() {
            return Some(response.reusable && advance.consumed == buf.len());
        }
        total += buf.len();
        if total > ANSWER_BYTES_MAX {
            return Some(false);
        }
        buf.clear();
        worker.timers.now_us();
        timer.set_after(idle);
        if io::read(line, timer, &mut buf).await.ok()? == 0 {
            return response.body.complete_at_close().then_some(false);
        }
    }
}
