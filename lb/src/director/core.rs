//! What the director decides (pure): configuration, outcomes, reports and answers go in with the time; effects and snapshots come out.
//!
//! Inputs only note what they touch; [`Core::build`] then makes one snapshot of everything that was touched since the last one, so that a
//! thousand flips at once cost one swap.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_config::{
    AcmeChallenge, AdminState, AmbiguousPaths, Config, EndpointAddress, Host, Listener, ListenerName, Pool, PoolName, Protocol,
};

use super::SavedVerdict;
use super::names::{Answer, Names};
use super::pool::{Member, PoolEntry, Ramp, fingerprint, probed_address};
use super::slots::Slots;
use crate::endpoint::EndpointState;
use crate::event::EventKind;
use crate::health::StableHash;
use crate::health::ejection::{Ejections, PoolView};
use crate::health::monitor::{Monitor, Output, Target};
use crate::health::verdict::{Health, Outcome, Verdict};
use crate::limit::Limiter;
use crate::resilience::gate::Gate;
use crate::resilience::outlier::{self, Rate};
use crate::route::RouteTable;
use crate::session::Keys;
use crate::snapshot::{ListenerSnapshot, Snapshot};
use crate::stats::{ListenerStats, PoolStats};
use crate::status::{ListenerStatus, Status};

/// How often the weights of endpoints in their slow start are baked anew.
pub(super) const RAMP_STEP: Duration = Duration::from_millis(250);
/// How long after the start a saved verdict may still be claimed, by an endpoint whose name takes time to resolve. Later it is too old.
const SAVED_MAX_AGE: Duration = Duration::from_secs(60);
/// Until a configuration says otherwise.
const PROBES_MAX_DEFAULT: usize = 256;

/// What the shell is to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Probe, and answer with [`Core::handle_probe`].
    Probe(Job),
    /// Look the name up, and answer with [`Core::handle_answer`].
    Resolve(Arc<str>),
    /// Tell whoever listens.
    Event(EventKind),
}

/// A probe to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) run: u64,
    /// Its health check is there.
    pub(super) pool: Arc<Pool>,
    pub(super) endpoint: EndpointAddress,
    pub(super) address: SocketAddr,
}

/// Where an endpoint lives.
#[derive(Clone, Copy, Debug)]
struct Home {
    pool: u32,
    index: u32,
}

/// All that the director knows.
#[derive(Debug)]
pub(super) struct Core {
    workers: usize,
    started: Instant,
    saved: HashMap<(String, String), SavedVerdict>,
    snapshot: Arc<Snapshot>,

    listener_slots: Slots<Arc<ListenerStats>>,
    listeners: BTreeMap<ListenerName, Arc<ListenerSnapshot>>,
    pool_slots: Slots<Arc<PoolStats>>,
    pool_by_name: BTreeMap<PoolName, u32>,
    pools: Vec<Option<PoolEntry>>,
    endpoint_slots: Slots<Arc<EndpointState>>,
    homes: Vec<Option<Home>>,
    /// By endpoint slot: where `purge` of its next owner starts, so that a worker that remembers the last one sees a difference.
    purges: Vec<u32>,

    monitor: Monitor,
    ejections: Ejections,
    names: Names,
    session_keys: BTreeMap<PoolName, Arc<Keys>>,

    /// Pools to bake.
    dirty: BTreeSet<u32>,
    /// A listener or pool came, went or changed.
    changed: bool,
    /// An [`EventKind::Applied`] is owed.
    applied: bool,
    ramping: BTreeSet<u32>,
    ramp_due: Option<Instant>,
    effects: VecDeque<Effect>,
}

impl Core {
    pub(super) fn new(workers: usize, saved: Vec<SavedVerdict>, now: Instant) -> Core {
        Core {
            workers,
            started: now,
            saved: saved.into_iter().map(|saved| ((saved.pool.clone(), saved.endpoint.clone()), saved)).collect(),
            snapshot: Arc::default(),
            listener_slots: Slots::default(),
            listeners: BTreeMap::new(),
            pool_slots: Slots::default(),
            pool_by_name: BTreeMap::new(),
            pools: Vec::new(),
            endpoint_slots: Slots::default(),
            homes: Vec::new(),
            purges: Vec::new(),
            monitor: Monitor::new(now, PROBES_MAX_DEFAULT),
            ejections: Ejections::default(),
            names: Names::default(),
            session_keys: BTreeMap::new(),
            dirty: BTreeSet::new(),
            changed: false,
            applied: false,
            ramping: BTreeSet::new(),
            ramp_due: None,
            effects: VecDeque::new(),
        }
    }

    /// What signs cookies from now on.
    pub(super) fn set_session_keys(&mut self, keys: BTreeMap<PoolName, Arc<Keys>>) {
        self.session_keys = keys;
        for (name, slot) in &self.pool_by_name {
            if let Some(entry) = self.pools[*slot as usize].as_mut()
                && entry.remember(self.session_keys.get(name))
            {
                self.dirty.insert(*slot);
            }
        }
    }

    /// A new configuration. What is equal to what there was is not touched.
    pub(super) fn apply(&mut self, config: &Config, now: Instant) {
        let first = self.snapshot.generation == 0 && !self.applied;
        self.sweep();
        self.monitor.set_probes_max(config.node.probes_max.get() as usize);
        let gone: Vec<PoolName> = self.pool_by_name.keys().filter(|name| !config.pools.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove_pool(&name);
        }
        for (name, pool) in &config.pools {
            let slot = self.pool_by_name.get(name).copied();
            let old = slot.and_then(|slot| self.pools[slot as usize].as_ref());
            if old.is_some_and(|old| Arc::ptr_eq(&old.config, pool) || old.config == *pool) {
                continue;
            }
            let slot = slot.unwrap_or_else(|| self.add_pool(pool));
            self.update_pool(slot, pool, first, now);
        }
        self.update_listeners(&config.listeners);
        self.applied |= first || self.changed;
        self.changed |= first;
    }

    fn sweep(&mut self) {
        self.listener_slots.sweep(|stats| Arc::strong_count(stats) > 1, |_, _| {});
        self.pool_slots.sweep(|stats| Arc::strong_count(stats) > 1, |_, _| {});
        let purges = &mut self.purges;
        self.endpoint_slots.sweep(
            |state| Arc::strong_count(state) > 1,
            |slot, state| purges[slot as usize] = state.purge.load(Ordering::Relaxed).wrapping_add(1),
        );
    }

    fn add_pool(&mut self, pool: &Arc<Pool>) -> u32 {
        let slot = self.pool_slots.take();
        let index = slot as usize;
        if self.pools.len() <= index {
            self.pools.resize_with(index + 1, || None);
        }
        self.pools[index] = Some(PoolEntry {
            slot,
            config: Arc::clone(pool),
            members: Vec::new(),
            stats: Arc::new(PoolStats::new(self.workers)),
            waiting: Arc::default(),
            healthy: 0,
            below: None,
            ramping: false,
            lost: false,
            memory: None,
            gate: None,
            budget: Arc::default(),
            look_due: None,
        });
        self.pool_by_name.insert(pool.name.clone(), slot);
        slot
    }

    fn remove_pool(&mut self, name: &PoolName) {
        let Some(slot) = self.pool_by_name.remove(name) else { return };
        let Some(entry) = self.pools[slot as usize].take() else { return };
        for member in entry.members {
            self.remove_member(member);
        }
        self.pool_slots.bury(slot, entry.stats);
        self.dirty.remove(&slot);
        self.ramping.remove(&slot);
        self.changed = true;
    }

    fn remove_member(&mut self, member: Member) {
        let slot = member.slot();
        member.purge();
        self.monitor.remove(slot);
        self.ejections.remove(slot);
        if let Host::Name(name) = &member.config.address.host {
            self.names.remove(name, slot);
        }
        self.homes[slot as usize] = None;
        self.endpoint_slots.bury(slot, member.state);
    }

    fn update_pool(&mut self, slot: u32, pool: &Arc<Pool>, first: bool, now: Instant) {
        let entry = self.pools[slot as usize].as_mut().expect("callers pass a slot in use");
        let old_config = std::mem::replace(&mut entry.config, Arc::clone(pool));
        entry.remember(self.session_keys.get(&pool.name));
        entry.gate = Gate::new(pool.breaker.as_ref(), pool.adaptive.as_ref(), entry.gate.as_ref());
        let compares = pool.ejection.as_ref().and_then(|ejection| ejection.success_rate.as_ref());
        entry.look_due = compares.map(|settings| now + settings.interval);
        let mut old_members = entry.take_members();
        let mut members = Vec::with_capacity(pool.endpoints.len());
        for (index, endpoint) in pool.endpoints.iter().enumerate() {
            let member = match old_members.remove(&endpoint.address) {
                Some(mut member) => {
                    if member.config.state != endpoint.state {
                        member.since = now;
                        if endpoint.state != AdminState::Ready {
                            member.purge();
                        }
                    }
                    member.config = endpoint.clone();
                    member
                }
                None => {
                    let state = self.new_endpoint(&pool.name, &endpoint.address, now);
                    Member::new(state, endpoint.clone(), if first { Ramp::Exempt } else { Ramp::Due }, now)
                }
            };
            self.homes[member.slot() as usize] = Some(Home { pool: slot, index: index as u32 });
            members.push(member);
        }
        if old_config.tls != pool.tls || old_config.upstream_protocol != pool.upstream_protocol {
            // What is kept was agreed on otherwise.
            members.iter().for_each(Member::purge);
        }
        for (_, member) in old_members {
            self.remove_member(member);
        }
        if pool.ejection.is_none() {
            self.readmit_all(&members, now);
        }
        let was_unchecked = old_config.health.is_none();
        for mut member in members {
            self.refresh_address(&mut member);
            self.refresh_target(pool, &member, was_unchecked, now);
            let entry = self.pools[slot as usize].as_mut().expect("nothing above removes a pool");
            entry.members.push(member);
        }
        self.dirty.insert(slot);
        self.changed = true;
    }

    fn new_endpoint(&mut self, pool: &PoolName, address: &EndpointAddress, now: Instant) -> Arc<EndpointState> {
        let slot = self.endpoint_slots.take();
        let index = slot as usize;
        if self.homes.len() <= index {
            self.homes.resize(index + 1, None);
            self.purges.resize(index + 1, 0);
        }
        let state = EndpointState::new(slot, pool.clone(), address.clone());
        state.purge.store(self.purges[index], Ordering::Relaxed);
        if let Host::Name(name) = &address.host {
            self.names.add(name, slot, now);
        }
        Arc::new(state)
    }

    fn readmit_all(&mut self, members: &[Member], now: Instant) {
        for member in members {
            if self.ejections.readmit(member.slot(), now) {
                member.state.forgive();
                self.effects.push_back(Effect::Event(EventKind::Readmitted {
                    pool: Arc::clone(&member.state.pool.0),
                    endpoint: member.config.address.to_string(),
                }));
            }
        }
    }

    /// Takes over what is known of the member's name. An address is kept while the answers still contain it, and also while there is no answer at
    /// all: a name server that is down must not take down what is up, and whether the endpoint still serves is for its probes to say.
    /// Returns whether something changed.
    fn refresh_address(&mut self, member: &mut Member) -> bool {
        let Host::Name(name) = &member.config.address.host else { return false };
        let result = match self.names.answer(name) {
            Answer::Pending => return false,
            Answer::Addresses(addresses) => {
                let failed = member.lookup_error.take().is_some();
                let ip = member.resolved.map(|old| old.ip()).filter(|ip| addresses.contains(ip)).unwrap_or(addresses[0]);
                let resolved = Some(SocketAddr::new(ip, member.config.address.port));
                if member.resolved == resolved && !failed {
                    return false;
                }
                if member.resolved.is_some() && member.resolved != resolved {
                    member.purge();
                }
                member.resolved = resolved;
                ip.to_string()
            }
            Answer::Failed(reason) => {
                if member.lookup_error.replace(reason.clone()).is_some() {
                    return false;
                }
                match member.resolved {
                    Some(old) => format!("{reason}; {} is still used", old.ip()),
                    None => reason.clone(),
                }
            }
        };
        self.effects.push_back(Effect::Event(EventKind::Resolved {
            pool: Arc::clone(&member.state.pool.0),
            endpoint: member.config.address.to_string(),
            result,
        }));
        true
    }

    /// Tells the schedule whether and how the member is to be probed.
    fn refresh_target(&mut self, pool: &Pool, member: &Member, was_unchecked: bool, now: Instant) {
        let slot = member.slot();
        let (Some(check), Some(resolved), true) = (&pool.health, member.resolved, member.config.state != AdminState::Maintenance) else {
            self.monitor.remove(slot);
            return;
        };
        let endpoint = member.config.address.to_string();
        let print = fingerprint(pool, check, resolved);
        let phase = StableHash::default().field(pool.name.0.as_bytes()).field(&endpoint).field(print.to_le_bytes()).finish();
        let start = if self.monitor.verdict(slot).is_some() {
            None
        } else if was_unchecked && member.up {
            // A check that is new to a serving endpoint must find fault with it before it is taken away.
            Some(Verdict::kept(true, "unchecked so far", now))
        } else {
            let saved = if now.saturating_duration_since(self.started) < SAVED_MAX_AGE {
                self.saved.remove(&(pool.name.to_string(), endpoint))
            } else {
                None
            };
            saved.filter(|saved| saved.check == print).map(|saved| Verdict::kept(saved.healthy, "known from before the start", now))
        };
        self.monitor.set_target(slot, Target::new(check, print, phase), start, now);
    }

    fn update_listeners(&mut self, wanted: &BTreeMap<ListenerName, Arc<Listener>>) {
        let gone: Vec<ListenerName> = self.listeners.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(old) = self.listeners.remove(&name) {
                self.listener_slots.bury(old.slot, Arc::clone(&old.stats));
                self.changed = true;
            }
        }
        let is_ordered = wanted.values().any(|listener| orders_over_http(listener));
        for (name, config) in wanted {
            let answers_challenges = is_ordered && matches!(&config.protocol, Protocol::Http(http) if http.tls.is_none());
            let pool_slot = |pool: &PoolName| *self.pool_by_name.get(pool).expect("a checked configuration names only pools that it has");
            let pool = config.pool.as_ref().map(pool_slot);
            let old = self.listeners.get(name);
            let old_routes = old.and_then(|old| old.routes.as_ref());
            let ambiguous_paths = match &config.protocol {
                Protocol::Http(http) => http.ambiguous_paths,
                Protocol::Tcp(_) | Protocol::Udp => AmbiguousPaths::Keep,
            };
            let routes = RouteTable::new(config.protocol.routes(), ambiguous_paths, pool_slot, self.workers, old_routes);
            let pools = |routes: Option<&RouteTable>| routes.map(|routes| routes.pools().collect::<Vec<u32>>());
            if old.is_some_and(|old| {
                old.pool == pool
                    && old.answers_challenges == answers_challenges
                    && pools(old.routes.as_ref()) == pools(routes.as_ref())
                    && (Arc::ptr_eq(&old.config, config) || old.config == *config)
            }) {
                continue;
            }
            let limiters = limiters(config, old.map(|old| &**old));
            let crowd = config.connections_per_source.map(|_| old.and_then(|old| old.crowd.clone()).unwrap_or_default());
            let (slot, stats) = match old {
                Some(old) => (old.slot, Arc::clone(&old.stats)),
                None => (self.listener_slots.take(), Arc::new(ListenerStats::new(self.workers))),
            };
            let pools_held = pools(routes.as_ref()).into_iter().flatten().chain(pool).filter_map(|slot| self.pools[slot as usize].as_ref());
            let pools_held = pools_held.map(|pool| Arc::clone(&pool.stats)).collect();
            let config = Arc::clone(config);
            let new = ListenerSnapshot { slot, config, routes, limiters, crowd, answers_challenges, pool, stats, pools_held };
            self.listeners.insert(name.clone(), Arc::new(new));
            self.changed = true;
        }
    }

    /// A probe ended.
    pub(super) fn handle_probe(&mut self, run: u64, outcome: &Outcome, now: Instant) {
        self.monitor.handle_outcome(run, outcome, now);
        self.drain_monitor(now);
    }

    /// A worker saw as many failures in a row as the pool allows.
    pub(super) fn handle_failing(&mut self, slot: u32, now: Instant) {
        let Some(Some(home)) = self.homes.get(slot as usize).copied() else { return };
        let Some(entry) = &self.pools[home.pool as usize] else { return };
        let Some(settings) = &entry.config.ejection else { return };
        let member = &entry.members[home.index as usize];
        if !member.up {
            // It only serves because the pool is below its floor. Its probes say when it is back, and nothing else shall hold it up then.
            return;
        }
        let failures = member.state.failures_in_row.load(Ordering::Relaxed);
        let errors = member.state.errors_in_row.load(Ordering::Relaxed);
        // A report can be older than a success, or meant for an earlier owner of the slot.
        let evidence = if failures >= settings.consecutive_failures.get() {
            format!("{failures} failures in a row")
        } else if settings.consecutive_errors.is_some_and(|most| errors >= most.get()) {
            format!("{errors} failures or 5xx answers in a row")
        } else {
            return;
        };
        self.eject(slot, evidence, now);
    }

    /// Leaves an endpoint out, as far as its pool can spare it.
    fn eject(&mut self, slot: u32, evidence: String, now: Instant) {
        let Some(Some(home)) = self.homes.get(slot as usize).copied() else { return };
        let Some(entry) = &self.pools[home.pool as usize] else { return };
        let Some(settings) = &entry.config.ejection else { return };
        let member = &entry.members[home.index as usize];
        let ready = entry.members.iter().filter(|member| member.is_ready());
        let pool = PoolView {
            ready: ready.clone().count(),
            ejected: ready.clone().filter(|member| self.ejections.is_ejected(member.slot())).count(),
            others_available: ready.filter(|m| m.slot() != slot && m.up && !self.ejections.is_ejected(m.slot())).count(),
        };
        let Ok(lasts) = self.ejections.handle_failing(slot, settings, pool, now) else { return };
        self.effects.push_back(Effect::Event(EventKind::Ejected {
            pool: Arc::clone(&entry.config.name.0),
            endpoint: member.config.address.to_string(),
            for_s: lasts.as_millis().div_ceil(1000) as u64,
            evidence,
        }));
        self.dirty.insert(home.pool);
    }

    /// Compares the endpoints of every pool whose time it is.
    fn compare(&mut self, now: Instant) {
        let mut found = Vec::new();
        for entry in self.pools.iter_mut().flatten().filter(|entry| entry.look_due.is_some_and(|due| due <= now)) {
            let Some(settings) = entry.config.ejection.as_ref().and_then(|ejection| ejection.success_rate.as_ref()) else { continue };
            entry.look_due = Some(now + settings.interval);
            let ejections = &self.ejections;
            let rates: Vec<Rate> = entry
                .members
                .iter_mut()
                .map(|member| (member.up && !ejections.is_ejected(member.slot()), member.rate()))
                .filter_map(|(serves, rate)| serves.then_some(rate))
                .collect();
            found.extend(outlier::find(&rates, settings));
        }
        for (slot, evidence) in found {
            self.eject(slot, evidence, now);
        }
    }

    /// A lookup ended.
    pub(super) fn handle_answer(&mut self, name: &Arc<str>, result: Result<Vec<IpAddr>, String>, now: Instant) {
        for slot in self.names.handle_answer(name, result, now) {
            let Some(Some(home)) = self.homes.get(slot as usize).copied() else { continue };
            // Taken out for the moment, so that the rest of the core can be asked meanwhile.
            let Some(mut entry) = self.pools[home.pool as usize].take() else { continue };
            let member = &mut entry.members[home.index as usize];
            if self.refresh_address(member) {
                self.refresh_target(&entry.config, member, false, now);
                self.dirty.insert(home.pool);
            }
            self.pools[home.pool as usize] = Some(entry);
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.monitor.handle_timeout(now);
        self.drain_monitor(now);
        for slot in self.ejections.handle_timeout(now) {
            let Some((home, member)) = self.member(slot) else { continue };
            // It gets a fresh chance: the failures from before would eject it again at the first one.
            member.state.forgive();
            let event = EventKind::Readmitted { pool: Arc::clone(&member.state.pool.0), endpoint: member.config.address.to_string() };
            self.effects.push_back(Effect::Event(event));
            self.dirty.insert(home.pool);
        }
        for name in self.names.handle_timeout(now) {
            self.effects.push_back(Effect::Resolve(name));
        }
        self.compare(now);
        if self.ramp_due.is_some_and(|due| due <= now) {
            self.ramp_due = None;
            self.dirty.extend(&self.ramping);
        }
    }

    fn member(&self, slot: u32) -> Option<(Home, &Member)> {
        let home = self.homes.get(slot as usize).copied()??;
        let entry = self.pools[home.pool as usize].as_ref()?;
        Some((home, &entry.members[home.index as usize]))
    }

    fn drain_monitor(&mut self, now: Instant) {
        while let Some(output) = self.monitor.poll_output() {
            match output {
                Output::Probe { key, run } => {
                    let job = self.member(key).and_then(|(home, member)| {
                        let pool = Arc::clone(&self.pools[home.pool as usize].as_ref()?.config);
                        let address = probed_address(pool.health.as_ref()?, member.resolved?);
                        Some(Job { run, pool, endpoint: member.config.address.clone(), address })
                    });
                    let job = job.expect("a target is removed together with what makes it one");
                    self.effects.push_back(Effect::Probe(job));
                }
                Output::Flip { key, flip } => {
                    let Some((home, member)) = self.member(key) else { continue };
                    let event = EventKind::Health {
                        pool: Arc::clone(&member.state.pool.0),
                        endpoint: member.config.address.to_string(),
                        healthy: flip.healthy,
                        evidence: flip.evidence,
                    };
                    self.effects.push_back(Effect::Event(event));
                    self.dirty.insert(home.pool);
                    if !flip.healthy && self.ejections.readmit(key, now) {
                        // From here on the probes speak for it; when they say that it is back, rise and slow start are its way in.
                        if let Some((_, member)) = self.member(key) {
                            member.state.forgive();
                        }
                    }
                }
            }
        }
    }

    /// The snapshot of everything up to now; `None` when nothing has changed since the last one.
    pub(super) fn build(&mut self, now: Instant) -> Option<Arc<Snapshot>> {
        if self.dirty.is_empty() && !self.changed {
            return None;
        }
        let generation = self.snapshot.generation + 1;
        let mut pools = self.snapshot.pools.clone();
        pools.resize(self.pools.len(), None);
        for (baked, entry) in pools.iter_mut().zip(&self.pools) {
            if entry.is_none() {
                *baked = None;
            }
        }
        let mut losses = self.snapshot.losses;
        for slot in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.pools[slot as usize].as_mut() else { continue };
            let (baked, event) = entry.bake(&self.monitor, &self.ejections, now);
            losses += u64::from(std::mem::take(&mut entry.lost));
            pools[slot as usize] = Some(baked);
            if entry.ramping {
                self.ramping.insert(slot);
            } else {
                self.ramping.remove(&slot);
            }
            self.effects.extend(event.map(Effect::Event));
        }
        let listeners = if std::mem::take(&mut self.changed) {
            let len = self.listeners.values().map(|listener| listener.slot as usize + 1).max().unwrap_or(0);
            let mut listeners = vec![None; len];
            for listener in self.listeners.values() {
                listeners[listener.slot as usize] = Some(Arc::clone(listener));
            }
            listeners
        } else {
            self.snapshot.listeners.clone()
        };
        if !self.ramping.is_empty() && self.ramp_due.is_none() {
            self.ramp_due = Some(now + RAMP_STEP);
        }
        if std::mem::take(&mut self.applied) {
            self.effects.push_back(Effect::Event(EventKind::Applied { generation }));
        }
        self.snapshot = Arc::new(Snapshot { generation, losses, listeners, pools });
        Some(Arc::clone(&self.snapshot))
    }

    /// What is to be done; ask until there is no more.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Core::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let ramp = self.ramp_due.filter(|_| !self.ramping.is_empty());
        let look = self.pools.iter().flatten().filter_map(|entry| entry.look_due).min();
        [self.monitor.poll_timeout(), self.ejections.poll_timeout(), self.names.poll_timeout(), ramp, look].into_iter().flatten().min()
    }

    /// The generation of the last snapshot.
    pub(super) fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// A consistent picture.
    pub(super) fn status(&self, now: Instant) -> Status {
        let pools = self.pool_by_name.values().filter_map(|slot| self.pools[*slot as usize].as_ref());
        Status {
            generation: self.snapshot.generation,
            listeners: self.listeners.values().map(|listener| listener_status(listener)).collect(),
            pools: pools.map(|pool| pool.status(&self.monitor, &self.ejections, now)).collect(),
        }
    }

    /// The verdicts there are.
    pub(super) fn saved_verdicts(&self) -> Vec<SavedVerdict> {
        let members = self.pool_by_name.values().filter_map(|slot| self.pools[*slot as usize].as_ref()).flat_map(|pool| &pool.members);
        members
            .filter_map(|member| {
                let healthy = match self.monitor.verdict(member.slot())?.health() {
                    Health::Healthy => true,
                    Health::Unhealthy => false,
                    Health::Unknown | Health::Unchecked => return None,
                };
                let check = self.monitor.check(member.slot())?;
                Some(SavedVerdict { pool: member.state.pool.to_string(), endpoint: member.config.address.to_string(), check, healthy })
            })
            .collect()
    }
}

/// Whether certificates of it are ordered by answers over HTTP.
fn orders_over_http(listener: &Listener) -> bool {
    let Protocol::Http(http) = &listener.protocol else { return false };
    http.tls.iter().flat_map(|tls| &tls.acme).any(|certificate| certificate.challenge == AcmeChallenge::Http01)
}

/// Limits that did not change keep what they have counted.
fn limiters(config: &Listener, old: Option<&ListenerSnapshot>) -> Option<Arc<[Limiter]>> {
    let limits = |config: &Listener| match &config.protocol {
        Protocol::Http(http) => http.rate_limits.clone(),
        Protocol::Tcp(_) | Protocol::Udp => Vec::new(),
    };
    let wanted = limits(config);
    if let Some(old) = old.filter(|old| limits(&old.config) == wanted) {
        return old.limiters.clone();
    }
    (!wanted.is_empty()).then(|| wanted.iter().map(|limit| Limiter::new(limit, std::hash::RandomState::new())).collect())
}

fn listener_status(listener: &ListenerSnapshot) -> ListenerStatus {
    ListenerStatus {
        name: listener.config.name.to_string(),
        protocol: listener.config.protocol.word(),
        binds: listener.config.binds.clone(),
        stats: Arc::clone(&listener.stats),
        routes: listener.routes.iter().flat_map(RouteTable::stats).map(Arc::clone).collect(),
    }
}
