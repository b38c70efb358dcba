//! One pool as the director keeps it, and how its part of a snapshot is baked (pure).
//!
//! Three facts decide who may be picked, and each has its own owner: *ready* (the operator), *healthy* (probes; or unchecked), *ejected* (real
//! traffic). The floor looks at ready and healthy alone: an ejection is a penalty, not an observation, and must neither open nor close a
//! pool.
//!
//! ```text
//!   healthy < min_healthy ── fail-open ───► all that are ready and resolved
//!                         └─ fail-closed ─► nobody
//!   otherwise ──► healthy and not ejected (all healthy if nobody would be left), of the lowest tier that has any
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use weir_config::{
    AdminState, Balance, BelowMinHealthy, Endpoint, EndpointAddress, EndpointTls, HealthCheck, Host, Pool, Probe, SessionMemory,
    UpstreamProtocol,
};

use crate::balance::{self, Candidate, Selector};
use crate::endpoint::EndpointState;
use crate::event::EventKind;
use crate::health::StableHash;
use crate::health::ejection::Ejections;
use crate::health::monitor::Monitor;
use crate::health::verdict::{Health, Verdict};
use crate::resilience::budget::RetryBudget;
use crate::resilience::gate::Gate;
use crate::resilience::outlier::Rate;
use crate::session::{EndpointId, Keys, Memory, Sessions, Sources};
use crate::snapshot::PoolSnapshot;
use crate::stats::PoolStats;
use crate::status::{EndpointStatus, PoolStatus};

/// Where an endpoint is in its slow start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ramp {
    /// There when the process started: if its first verdict is healthy it takes its share at once.
    Exempt,
    /// Its next healthy moment starts the clock.
    Due,
    /// Healthy since.
    Since(Instant),
    /// It has its full share.
    Done,
}

/// An endpoint of a pool.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) state: Arc<EndpointState>,
    pub(super) config: Endpoint,
    /// Where its host is, with its port.
    pub(super) resolved: Option<SocketAddr>,
    /// Why the last lookup of its name failed. With an address: the address of an earlier answer is still used.
    pub(super) lookup_error: Option<String>,
    pub(super) ramp: Ramp,
    pub(super) percent: u8,
    /// Healthy and not in maintenance when last baked.
    pub(super) up: bool,
    /// When `up` or the admin state last changed.
    pub(super) since: Instant,
    /// May be picked, when last baked.
    pub(super) available: bool,
    /// Requests and failures when it was last compared with the others.
    pub(super) compared: (u64, u64),
}

impl Member {
    pub(super) fn new(state: Arc<EndpointState>, config: Endpoint, ramp: Ramp, now: Instant) -> Member {
        let resolved = match config.address.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, config.address.port)),
            Host::Name(_) => None,
        };
        Member {
            state,
            config,
            resolved,
            lookup_error: None,
            ramp,
            percent: 100,
            up: false,
            since: now,
            available: false,
            compared: (0, 0),
        }
    }

    pub(super) fn slot(&self) -> u32 {
        self.state.slot
    }

    /// What it did since the last time.
    pub(super) fn rate(&mut self) -> Rate {
        let requests = self.state.requests_total.load(Ordering::Relaxed);
        let failed = self.state.errors_total.load(Ordering::Relaxed);
        let (requests_before, failed_before) = std::mem::replace(&mut self.compared, (requests, failed));
        let rate = |now: u64, before: u64| now.saturating_sub(before);
        Rate { key: self.slot(), requests: rate(requests, requests_before), failed: rate(failed, failed_before) }
    }

    /// Tells the workers to drop their idle connections.
    pub(super) fn purge(&self) {
        self.state.purge.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.config.state == AdminState::Ready
    }

    fn health(&self, check: Option<&HealthCheck>, monitor: &Monitor) -> Health {
        match (self.resolved, &self.lookup_error, check) {
            (None, Some(_), _) => Health::Unhealthy,
            (None, None, _) => Health::Unknown,
            (Some(_), _, None) => Health::Unchecked,
            (Some(_), _, Some(_)) => monitor.verdict(self.slot()).map_or(Health::Unknown, |verdict| verdict.health()),
        }
    }

    /// Moves the slow start on: it begins with each healthy moment that follows an unhealthy one, the endpoint's own.
    fn settle(&mut self, health: Health, now: Instant) {
        let up = health.is_up() && self.config.state != AdminState::Maintenance;
        match (up, self.ramp) {
            (true, Ramp::Due) => self.ramp = Ramp::Since(now),
            (true, Ramp::Exempt) => self.ramp = Ramp::Done,
            (false, _) if self.up || health != Health::Unknown || self.config.state == AdminState::Maintenance => self.ramp = Ramp::Due,
            _ => {}
        }
        if up != self.up {
            self.up = up;
            self.since = now;
        }
    }
}

/// A pool.
#[derive(Debug)]
pub(super) struct PoolEntry {
    pub(super) slot: u32,
    pub(super) config: Arc<Pool>,
    pub(super) members: Vec<Member>,
    pub(super) stats: Arc<PoolStats>,
    pub(super) waiting: Arc<AtomicU32>,
    pub(super) healthy: u32,
    /// Whether it is below its floor; `None` until the verdicts are in, so that a start is not reported as an outage.
    pub(super) below: Option<bool>,
    /// An endpoint is in its slow start.
    pub(super) ramping: bool,
    /// An endpoint was found gone since this was asked last.
    pub(super) lost: bool,
    /// How its clients are known again, if they are.
    pub(super) memory: Option<Memory>,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) budget: Arc<RetryBudget>,
    /// When its endpoints are compared, if they are.
    pub(super) look_due: Option<Instant>,
}

impl PoolEntry {
    /// Brings the memory into line with settings and keys. A table stays as long as its settings do. Whether something changed.
    pub(super) fn remember(&mut self, keys: Option<&Arc<Keys>>) -> bool {
        let wanted = match (self.config.session.as_ref().map(|session| &session.memory), &self.memory) {
            (None, _) => None,
            (Some(SessionMemory::Cookie(_)), _) => keys.map(|keys| Memory::Cookie(Arc::clone(keys))),
            (Some(SessionMemory::Source { expiry, clients_max }), Some(Memory::Source(table))) if table.has(*expiry, clients_max.get()) => {
                Some(Memory::Source(Arc::clone(table)))
            }
            (Some(SessionMemory::Source { expiry, clients_max }), _) => {
                Some(Memory::Source(Arc::new(Sources::new(*expiry, clients_max.get()))))
            }
        };
        let same = match (&self.memory, &wanted) {
            (None, None) => true,
            (Some(Memory::Cookie(old)), Some(Memory::Cookie(new))) => old == new,
            (Some(Memory::Source(old)), Some(Memory::Source(new))) => Arc::ptr_eq(old, new),
            _ => false,
        };
        self.memory = wanted;
        !same
    }

    /// What the workers are to see, and the event if the pool crossed its floor.
    pub(super) fn bake(&mut self, monitor: &Monitor, ejections: &Ejections, now: Instant) -> (Arc<PoolSnapshot>, Option<EventKind>) {
        let config = Arc::clone(&self.config);
        let mut undecided = false;
        for member in &mut self.members {
            let health = member.health(config.health.as_ref(), monitor);
            undecided |= health == Health::Unknown && member.is_ready();
            member.settle(health, now);
            member.state.unhealthy.store(health == Health::Unhealthy, Ordering::Relaxed);
            let gone = health == Health::Unhealthy && monitor.verdict(member.slot()).is_some_and(Verdict::is_gone);
            let was_gone = member.state.gone.swap(gone, Ordering::Relaxed);
            self.lost |= gone && !was_gone;
        }
        let healthy = |member: &Member| member.is_ready() && member.up;
        self.healthy = self.members.iter().filter(|member| healthy(member)).count() as u32;
        let below = self.healthy < config.min_healthy;

        let in_service = |member: &Member| healthy(member) && !ejections.is_ejected(member.slot());
        let spared = self.members.iter().any(in_service);
        let eligible = |member: &Member| if spared { in_service(member) } else { healthy(member) };
        let tier = self.members.iter().filter(|member| eligible(member)).map(|member| member.config.tier).min();

        self.ramping = false;
        let mut candidates = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let healthy_for = match member.ramp {
                Ramp::Since(since) => now.saturating_duration_since(since),
                _ => config.slow_start.unwrap_or_default(),
            };
            let (weight, percent) = balance::ramp(member.config.weight, healthy_for, config.slow_start);
            member.percent = percent;
            if matches!(member.ramp, Ramp::Since(_)) && config.slow_start.is_none_or(|whole| healthy_for >= whole) {
                member.ramp = Ramp::Done;
            }
            self.ramping |= matches!(member.ramp, Ramp::Since(_));
            member.available = match (below, config.below_min_healthy) {
                (true, BelowMinHealthy::FailClosed) => false,
                (true, BelowMinHealthy::FailOpen) => member.is_ready() && member.resolved.is_some(),
                (false, _) => eligible(member) && Some(member.config.tier) == tier,
            };
            if let (true, Some(address)) = (member.available, member.resolved) {
                let purge = member.state.purge.load(Ordering::Relaxed);
                candidates.push(Candidate { state: Arc::clone(&member.state), address, weight, purge });
            }
        }
        let event = self.cross_floor(below, undecided);
        let sessions = config.session.as_ref().zip(self.memory.as_ref()).map(|(session, memory)| {
            let mut picked = 0..;
            let is_picked = |member: &Member| member.available && member.resolved.is_some();
            let seat = |member: &Member| (EndpointId::of(&member.config.address), if is_picked(member) { picked.next() } else { None });
            Box::new(Sessions::new(&config.name, session, memory, &self.members.iter().map(seat).collect::<Vec<_>>()))
        });
        let snapshot = PoolSnapshot {
            slot: self.slot,
            selector: Selector::new(&config.balance, candidates, config.limits.connections_per_endpoint),
            config,
            healthy: self.healthy,
            stats: Arc::clone(&self.stats),
            waiting: Arc::clone(&self.waiting),
            gate: self.gate.clone(),
            budget: Arc::clone(&self.budget),
            sessions,
        };
        (Arc::new(snapshot), event)
    }

    fn cross_floor(&mut self, below: bool, undecided: bool) -> Option<EventKind> {
        if self.below.is_none() && below && undecided {
            return None;
        }
        let before = self.below.replace(below).unwrap_or(false);
        (before != below).then(|| EventKind::Floor {
            pool: Arc::clone(&self.config.name.0),
            healthy: self.healthy,
            min_healthy: self.config.min_healthy,
            below,
        })
    }

    /// Its members by address, taken out.
    pub(super) fn take_members(&mut self) -> HashMap<EndpointAddress, Member> {
        self.members.drain(..).map(|member| (member.config.address.clone(), member)).collect()
    }

    pub(super) fn status(&self, monitor: &Monitor, ejections: &Ejections, now: Instant) -> PoolStatus {
        PoolStatus {
            name: self.config.name.to_string(),
            balance: balance_word(&self.config.balance),
            healthy: self.healthy,
            min_healthy: self.config.min_healthy,
            below_floor: self.healthy < self.config.min_healthy,
            available: self.members.iter().filter(|member| member.available).count() as u32,
            waiting: self.waiting.load(Ordering::Relaxed),
            adaptive_limit: self.gate.as_ref().and_then(|gate| gate.adaptive_limit()),
            stats: Arc::clone(&self.stats),
            tls: self.config.tls.is_some(),
            endpoints: self.members.iter().map(|member| self.endpoint_status(member, monitor, ejections, now)).collect(),
        }
    }

    fn endpoint_status(&self, member: &Member, monitor: &Monitor, ejections: &Ejections, now: Instant) -> EndpointStatus {
        let health = member.health(self.config.health.as_ref(), monitor);
        let verdict = monitor.verdict(member.slot()).filter(|_| member.resolved.is_some());
        let evidence = match (member.resolved, &member.lookup_error) {
            (None, Some(reason)) => format!("does not resolve: {reason}"),
            (None, None) => "not resolved yet".into(),
            (Some(_), _) => match verdict {
                Some(verdict) => verdict.evidence(),
                None if health == Health::Unchecked => "no health check".into(),
                None => "not probed in maintenance".into(),
            },
        };
        let since = verdict.map_or(member.since, |verdict| verdict.since());
        let state = &member.state;
        EndpointStatus {
            address: member.config.address.to_string(),
            resolved: member.resolved,
            state: match member.config.state {
                AdminState::Ready => "ready",
                AdminState::Draining => "draining",
                AdminState::Maintenance => "maintenance",
            },
            health: health.word(),
            evidence,
            health_age_s: now.saturating_duration_since(since).as_secs(),
            confirmed_ms: verdict
                .and_then(|verdict| verdict.confirmed())
                .map(|at| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX)),
            // Rounded up: an ejection that is still on is never shown as 0.
            ejected_s: ejections.until(member.slot()).map(|until| until.saturating_duration_since(now).as_millis().div_ceil(1000) as u64),
            available: member.available,
            weight: member.config.weight.value(),
            ramp_percent: member.percent,
            tier: member.config.tier,
            in_flight: state.in_flight.load(Ordering::Relaxed),
            tunnels: state.tunnels.load(Ordering::Relaxed),
            sessions: state.sessions.load(Ordering::Relaxed),
            idle: state.idle.load(Ordering::Relaxed),
            requests_total: state.requests_total.load(Ordering::Relaxed),
            failures_total: state.failures_total.load(Ordering::Relaxed),
            connects_total: state.connects_total.load(Ordering::Relaxed),
        }
    }
}

fn balance_word(balance: &Balance) -> &'static str {
    match balance {
        Balance::LeastRequest => "least-request",
        Balance::RoundRobin => "round-robin",
        Balance::Random => "random",
        Balance::PeakEwma => "peak-ewma",
        Balance::Maglev(_) => "maglev",
    }
}

/// Where a probe of this check goes.
pub(super) fn probed_address(check: &HealthCheck, resolved: SocketAddr) -> SocketAddr {
    SocketAddr::new(resolved.ip(), check.port.unwrap_or(resolved.port()))
}

/// What a verdict belongs to: the question, how the endpoint must prove who it is, and the address. How often, how patiently and how many
/// times in a row is not part of it.
pub(super) fn fingerprint(pool: &Pool, check: &HealthCheck, resolved: SocketAddr) -> u64 {
    let mut hash = StableHash::default().field(probed_address(check, resolved).to_string());
    match &check.probe {
        Probe::Http { tls: _, method, path, host, expect, body } => {
            hash = hash.field(check.probe.word()).field(method).field(path).field(host.as_deref().unwrap_or(""));
            for (low, high) in expect {
                hash = hash.field(low.to_le_bytes()).field(high.to_le_bytes());
            }
            hash = hash.field(body.as_ref().map_or("", |body| body.as_str()));
        }
        Probe::Tcp => hash = hash.field("tcp"),
        Probe::Tls { server_name } => hash = hash.field("tls").field(server_name.as_deref().unwrap_or("")),
        Probe::Grpc { service } => hash = hash.field("grpc").field(service),
        Probe::Udp { request, answer } => {
            hash = hash.field("udp").field(request).field(answer.as_ref().map_or("", |answer| answer.as_str()));
        }
        Probe::Exec { command } => {
            hash = hash.field("exec");
            for word in command {
                hash = hash.field(word);
            }
        }
    }
    if pool.upstream_protocol == UpstreamProtocol::Http2 {
        hash = hash.field("h2");
    }
    if let (Probe::Http { tls: true, .. } | Probe::Tls { .. } | Probe::Grpc { .. }, Some(tls)) = (&check.probe, &pool.tls) {
        let EndpointTls { verify, ca_file, server_name, certificate, version_min } = &**tls;
        hash = hash.field([u8::from(*verify)]).field(version_min.word()).field(server_name.as_deref().unwrap_or(""));
        let files = ca_file.iter().chain(certificate.iter().map(|files| &files.file));
        hash = files.fold(hash, |hash, path| hash.field(path.as_os_str().as_encoded_bytes()));
    }
    hash.finish()
}
