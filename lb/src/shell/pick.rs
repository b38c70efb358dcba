//! Getting an endpoint for a request, and waiting for one where there is none.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::task::{Poll, Waker};

use weir_config::{Route, UpstreamProtocol};

use crate::balance::Candidate;
use crate::cause::Cause;
use crate::endpoint::EndpointState;
use crate::histogram::Histogram;
use crate::session::Known;
use crate::snapshot::{PoolSnapshot, Snapshot};
use crate::stats;

use super::timer::Timer;
use super::upstream::Destination;
use super::worker::{self, Seen, Worker};

/// Endpoints one request may try: the first, and as many again as `retries_max` can name.
pub(super) const ATTEMPTS_MAX: usize = 11;

/// Endpoints tried already, as indexes into one snapshot's selector.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tried {
    generation: u64,
    indexes: [u32; ATTEMPTS_MAX],
    len: usize,
}

impl Tried {
    pub(super) fn push(&mut self, generation: u64, index: u32) {
        if self.generation != generation {
            *self = Tried { generation, ..Tried::default() };
        }
        if let Some(place) = self.indexes.get_mut(self.len) {
            *place = index;
            self.len += 1;
        }
    }

    fn of(&self, generation: u64) -> &[u32] {
        if self.generation == generation { &self.indexes[..self.len] } else { &[] }
    }
}

/// What a request would like to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The hash of its key, for pools that hash.
    pub(super) key: Option<u64>,
    /// Where its client was, for pools with sessions.
    pub(super) known: Known,
    /// In the queue.
    pub(super) priority: u8,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish { key: None, known: Known::default(), priority: Route::PRIORITY }
    }
}

/// The requests of a worker that wait for an endpoint, by priority, and then first come first served.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pools: RefCell<HashMap<u32, VecDeque<Rc<RefCell<Waiting>>>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    priority: u8,
    /// Its place was taken by one of higher priority.
    displaced: bool,
    woken: bool,
    waker: Option<Waker>,
}

impl Waiters {
    fn enter(&self, pool: u32, priority: u8) -> Rc<RefCell<Waiting>> {
        let waiting = Rc::new(RefCell::new(Waiting { priority, ..Waiting::default() }));
        let mut pools = self.pools.borrow_mut();
        let queue = pools.entry(pool).or_default();
        // From behind: mostly all have the same.
        let before = queue.iter().rposition(|other| other.borrow().priority >= priority).map_or(0, |last| last + 1);
        queue.insert(before, Rc::clone(&waiting));
        waiting
    }

    /// Makes the last of a lower priority give up its place. Whether there was one.
    fn displace(&self, pool: u32, priority: u8) -> bool {
        let pools = self.pools.borrow();
        let last = pools.get(&pool).and_then(|queue| queue.iter().rev().find(|waiting| !waiting.borrow().displaced));
        let Some(last) = last.filter(|last| last.borrow().priority < priority) else { return false };
        last.borrow_mut().displaced = true;
        Self::wake(last);
        true
    }

    fn leave(&self, pool: u32, waiting: &Rc<RefCell<Waiting>>) {
        let mut pools = self.pools.borrow_mut();
        if let Some(queue) = pools.get_mut(&pool) {
            // Mostly the first.
            if let Some(index) = queue.iter().position(|other| Rc::ptr_eq(other, waiting)) {
                queue.remove(index);
            }
            if queue.is_empty() {
                pools.remove(&pool);
            }
        }
    }

    fn wake(waiting: &RefCell<Waiting>) {
        let mut waiting = waiting.borrow_mut();
        waiting.woken = true;
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Wakes the first of a pool. Whether there was one.
    pub(super) fn wake_first(&self, pool: u32) -> bool {
        let pools = self.pools.borrow();
        let next = pools.get(&pool).and_then(|queue| queue.iter().find(|waiting| !waiting.borrow().woken));
        next.inspect(|waiting| Self::wake(waiting)).is_some()
    }

    /// Wakes the first of each pool: another worker freed a place.
    pub(super) fn wake_firsts(&self) {
        let pools: Vec<u32> = self.pools.borrow().keys().copied().collect();
        for pool in pools {
            self.wake_first(pool);
        }
    }

    /// Wakes all: the truth has changed.
    pub(super) fn wake_all(&self) {
        for waiting in self.pools.borrow().values().flatten() {
            Self::wake(waiting);
        }
    }

    fn is_empty(&self, pool: u32) -> bool {
        !self.pools.borrow().contains_key(&pool)
    }
}

/// An endpoint with a place on it, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    worker: Rc<Worker>,
    snapshot: Rc<Seen>,
    pool: u32,
    /// Index into the selector.
    pub(super) index: u32,
    pub(super) address: SocketAddr,
}

impl Place {
    pub(super) fn state(&self) -> &Arc<EndpointState> {
        &self.candidate().state
    }

    /// Where a connection for it goes.
    pub(super) fn destination<'a>(&'a self, preamble: Option<&'a [u8]>) -> Destination<'a> {
        Destination { pool: self.pool(), state: self.state(), address: self.address, preamble }
    }

    /// The pool, for what outlives the request.
    pub(super) fn shared_pool(&self) -> Arc<PoolSnapshot> {
        let pool = self.snapshot.pools.get(self.pool as usize).and_then(Option::as_ref);
        Arc::clone(pool.expect("a place is in a pool of its snapshot"))
    }

    fn candidate(&self) -> &Candidate {
        &self.pool().selector.candidates()[self.index as usize]
    }

    /// What `purge` must still be for a connection of this place to be kept. Of the snapshot, as the address is: an endpoint that moved or
    /// was drained meanwhile must not get the old connection back.
    pub(super) fn purge(&self) -> u32 {
        self.candidate().purge
    }

    pub(super) fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    pub(super) fn pool(&self) -> &PoolSnapshot {
        pool(&self.snapshot, self.pool).expect("the place was taken in this snapshot's pool")
    }

    /// Where the pool's latencies of this worker are counted.
    pub(super) fn latency_shard(&self) -> &Histogram {
        self.pool().stats.shard(self.worker.id).latency()
    }

    /// Nobody is at its address any more, and nobody is sent there: below its floor a pool may still try.
    pub(super) fn is_gone(&self) -> bool {
        self.state().gone.load(Ordering::Relaxed) && !self.may_be_picked()
    }

    #[cold]
    fn may_be_picked(&self) -> bool {
        let now = self.worker.snapshot();
        pool(&now, self.pool).is_some_and(|pool| pool.selector.candidates().iter().any(|other| Arc::ptr_eq(&other.state, self.state())))
    }

    /// The endpoint answered.
    pub(super) fn succeeded(&self) {
        for in_row in [&self.state().failures_in_row, &self.state().errors_in_row] {
            if in_row.load(Ordering::Relaxed) != 0 {
                in_row.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The endpoint answered by this 5xx; those of a gateway are failures.
    pub(super) fn answered_badly(&self, status: u16) {
        if matches!(status, 502..=504) {
            return self.failed();
        }
        self.state().failures_in_row.store(0, Ordering::Relaxed);
        self.erred();
    }

    fn erred(&self) {
        let state = self.state();
        state.errors_total.fetch_add(1, Ordering::Relaxed);
        let in_row = state.errors_in_row.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(ejection) = &self.pool().config.ejection
            && ejection.consecutive_errors.is_some_and(|most| in_row >= most.get())
        {
            self.worker.report_failing(state.slot);
        }
    }

    /// The endpoint failed; enough failures in a row are reported.
    pub(super) fn failed(&self) {
        self.erred();
        let state = self.state();
        state.failures_total.fetch_add(1, Ordering::Relaxed);
        let in_row = state.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(ejection) = &self.pool().config.ejection
            && in_row >= ejection.consecutive_failures.get()
        {
            self.worker.report_failing(state.slot);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        step_out(&self.worker, self.pool(), self.state());
    }
}

/// Gives back what [`step_in`] took, to whoever waits for it.
pub(super) fn step_out(worker: &Worker, pool: &PoolSnapshot, endpoint: &EndpointState) {
    // In one order with `wait`: either we see it waiting, or it sees the place free.
    endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
    if pool.waiting.load(Ordering::SeqCst) > 0 {
        pass_on(worker, pool.slot);
    }
}

/// There may be a place: wakes the next of this worker's queue, or if there is none those of the others.
fn pass_on(worker: &Worker, pool: u32) {
    if !worker.waiters.wake_first(pool) {
        worker.shared.freed.notify_waiters();
    }
}

/// A pool of a snapshot.
pub(super) fn pool(snapshot: &Snapshot, slot: u32) -> Option<&PoolSnapshot> {
    snapshot.pools.get(slot as usize)?.as_deref()
}

/// Whether the pool's budget allows one more attempt.
pub(super) fn budget_allows(pool: &PoolSnapshot) -> bool {
    let Some(percent) = pool.config.retry.budget_percent else { return true };
    let (requests, retries) = (pool.stats.sum(|shard| &shard.requests), pool.stats.sum(|shard| &shard.retries));
    pool.budget.admit(percent.get(), requests, retries, worker::uptime().as_millis() as u64)
}

/// Connections to the pool's endpoints. Over HTTP/1.1 the one that is about to be opened is included: every request under way has one.
pub(super) fn connections(pool: &PoolSnapshot) -> u64 {
    if pool.config.upstream_protocol == UpstreamProtocol::Http2 {
        return pool.selector.candidates().iter().map(|candidate| u64::from(candidate.state.links.load(Ordering::Relaxed))).sum();
    }
    let of = |candidate: &Candidate| u64::from(candidate.state.load()) + u64::from(candidate.state.idle.load(Ordering::Relaxed));
    pool.selector.candidates().iter().map(of).sum()
}

/// An endpoint for a request that nobody waits for; `None`: there is none now.
pub(super) fn spare(worker: &Rc<Worker>, slot: u32) -> Option<Place> {
    if !worker.waiters.is_empty(slot) {
        return None;
    }
    try_take(worker, &worker.snapshot(), slot, Wish::default(), &Tried::default())
}

fn try_take(worker: &Rc<Worker>, snapshot: &Rc<Seen>, slot: u32, wish: Wish, tried: &Tried) -> Option<Place> {
    let pool = pool(snapshot, slot)?;
    let limit = pool.config.limits.connections_per_endpoint.map_or(u32::MAX, std::num::NonZeroU32::get);
    let Wish { key, known, .. } = wish;
    if let Some(id) = known.id {
        let seat = pool.sessions.as_ref().and_then(|sessions| sessions.index_of(id));
        if let Some(index) = seat.filter(|index| !tried.of(snapshot.generation).contains(index)) {
            let Candidate { state, address, .. } = &pool.selector.candidates()[index as usize];
            if step_in(&state.in_flight, limit) {
                return Some(Place { worker: Rc::clone(worker), snapshot: Rc::clone(snapshot), pool: slot, index, address: *address });
            }
        }
        if known.strict {
            return None;
        }
    }
    let mut lost = *tried;
    for _ in 0..ATTEMPTS_MAX {
        let now_ns = worker.timers.recent_us() * 1000;
        let index = pool.selector.pick(key, now_ns, &mut worker.random.borrow_mut(), lost.of(snapshot.generation))?;
        let Candidate { state, address, .. } = &pool.selector.candidates()[index as usize];
        if step_in(&state.in_flight, limit) {
            return Some(Place { worker: Rc::clone(worker), snapshot: Rc::clone(snapshot), pool: slot, index, address: *address });
        }
        // Another worker took the last place between our look and our step.
        lost.push(snapshot.generation, index);
    }
    None
}

/// Counts a request in if there is room. The count never passes the limit, not even for a moment in which another could take it for full.
pub(super) fn step_in(in_flight: &AtomicU32, limit: u32) -> bool {
    if limit == u32::MAX {
        in_flight.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1)).is_ok()
}

/// An endpoint of the pool, waiting for one up to the pool's queue timeout.
///
/// `tried` are passed over, unless nothing else is left: a pool of one is tried again. Nobody waits past `until_ms` of the worker's clock.
pub(super) async fn take(worker: &Rc<Worker>, timer: &Timer, slot: u32, wish: Wish, tried: &Tried, until_ms: u64) -> Result<Place, Cause> {
    let snapshot = worker.snapshot();
    let Some(pool_now) = pool(&snapshot, slot) else { return Err(Cause::NoEndpoint) };
    // Who wants one endpoint and no other is not in the way of those that wait for any.
    if worker.waiters.is_empty(slot) || wish.known.strict {
        if let Some(place) = try_take(worker, &snapshot, slot, wish, tried) {
            return Ok(place);
        }
        if tried.len > 0
            && let Some(place) = try_take(worker, &snapshot, slot, wish, &Tried::default())
        {
            return Ok(place);
        }
        if wish.known.strict {
            return Err(Cause::SessionGone);
        }
    }
    Box::pin(wait(worker, timer, slot, wish, pool_now, until_ms)).await
}

async fn wait(worker: &Rc<Worker>, timer: &Timer, slot: u32, wish: Wish, pool_now: &PoolSnapshot, until_ms: u64) -> Result<Place, Cause> {
    let limits = &pool_now.config.limits;
    if pool_now.waiting.fetch_add(1, Ordering::Relaxed) >= limits.queue_max && !worker.waiters.displace(slot, wish.priority) {
        pool_now.waiting.fetch_sub(1, Ordering::Relaxed);
        return Err(Cause::QueueFull);
    }
    stats::add(&pool_now.stats.shard(worker.id).queued, 1);
    let began_us = worker.timers.now_us();
    timer.set((worker.timers.recent_ms() + limits.queue_timeout.as_millis() as u64).min(until_ms));
    // Who comes while others wait does not take what the first of them was woken for.
    let mut is_turn = worker.waiters.is_empty(slot);
    let entry = Entry { worker, slot, waiting: worker.waiters.enter(slot, wish.priority), pool: pool_now, began_us };
    fence(Ordering::SeqCst);
    loop {
        let snapshot = worker.snapshot();
        if is_turn && let Some(place) = try_take(worker, &snapshot, slot, wish, &Tried::default()) {
            return Ok(place);
        }
        let woken = poll_fn(|cx| {
            let mut waiting = entry.waiting.borrow_mut();
            if std::mem::take(&mut waiting.woken) {
                return Poll::Ready(true);
            }
            waiting.waker = Some(cx.waker().clone());
            timer.poll_expired(cx).map(|()| false)
        });
        let woken = woken.await;
        worker.timers.now_us();
        if entry.waiting.borrow().displaced {
            return Err(Cause::QueueFull);
        }
        is_turn = true;
        if !woken {
            return Err(Cause::NoEndpoint);
        }
    }
}

/// A request's place in the queue, left when it is dropped.
struct Entry<'a> {
    worker: &'a Rc<Worker>,
    slot: u32,
    waiting: Rc<RefCell<Waiting>>,
    pool: &'a PoolSnapshot,
    began_us: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let others = self.pool.waiting.fetch_sub(1, Ordering::SeqCst) > 1;
        let waited_us = self.worker.timers.now_us().saturating_sub(self.began_us);
        self.pool.stats.shard(self.worker.id).queue_wait().record(waited_us);
        self.worker.waiters.leave(self.slot, &self.waiting);
        // A wake-up may have come to us too late, or have stood for more places than the one we took: whoever is next looks too.
        if others {
            pass_on(self.worker, self.slot);
        }
    }
}
