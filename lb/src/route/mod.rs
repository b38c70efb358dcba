//! Where a request goes: the first route whose conditions all hold, else the listener's own pool (pure).
//!
//! The routes are compiled once for each snapshot: hosts by hash, paths in a sorted table in which every path knows the longest other one
//! that it begins with. Looking up allocates nothing; what is looked at one by one are only the routes whose host and path fit.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod condition;
mod explain;
mod index;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_config::{AmbiguousPaths, PathError, PoolName, Route, RouteAction, normal_path};

pub(crate) use condition::parameters;
pub use explain::{Explained, Explanation, Question, explain};

use condition::Looks;
use index::Index;

/// What routes look at. What there is none of, as of requests in a TCP session, is empty.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method as sent.
    pub method: &'a [u8],
    /// The host without port, as sent; empty where there is none.
    pub host: &'a [u8],
    /// The path in its normal form; empty for `*`.
    pub path: &'a [u8],
    /// The whole head, checked, with its request line.
    pub head: &'a [u8],
    /// The target as sent, with its query.
    pub target: &'a [u8],
    /// The client's address.
    pub source: IpAddr,
    /// The name in the client's TLS handshake.
    pub server_name: Option<&'a str>,
}

/// The routes of a listener, compiled.
#[derive(Debug)]
pub struct RouteTable {
    index: Index,
    looks: Box<[Looks]>,
    rules: Box<[Rule]>,
    /// A route looks at the path, so that it must have one spelling.
    reads_paths: bool,
    keep_ambiguous: bool,
    /// A route looks at the name in a TLS handshake.
    pub reads_names: bool,
}

#[derive(Debug)]
struct Rule {
    goal: Goal,
    /// A pool that gets requests too, and how many of a hundred.
    mirror: Option<(u32, u32)>,
    stats: Arc<RouteStats>,
}

/// What a route leads to, with slots for names.
#[derive(Debug)]
enum Goal {
    Pool(u32),
    /// Pools with the sum of the weights up to and with each.
    Split(Box<[(u32, u32)]>),
    /// A redirect or an answer, as in the configuration.
    Own,
}

/// Requests that a route took, one count for each worker.
#[derive(Debug)]
pub struct RouteStats {
    label: Box<str>,
    shards: Box<[Shard]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(AtomicU64);

impl RouteStats {
    /// The route's name, or its number from 1.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Requests taken so far.
    pub fn taken(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.0.load(Ordering::Relaxed)))
    }
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Way<'a> {
    /// To a pool, by its slot.
    Pool(u32),
    /// To nobody: the route says how it is answered.
    Own(&'a RouteAction),
}

impl RouteTable {
    /// Compiles a listener's routes; `None` if it has none. Counters of routes of the same label are taken over from `old`.
    pub fn new(
        routes: &[Route],
        ambiguous_paths: AmbiguousPaths,
        slot_of: impl Fn(&PoolName) -> u32,
        workers: usize,
        old: Option<&RouteTable>,
    ) -> Option<RouteTable> {
        if routes.is_empty() {
            return None;
        }
        let rule = |(number, route): (usize, &Route)| {
            let label = label(number, route);
            let known = old.and_then(|old| old.rules.iter().find(|rule| *rule.stats.label == *label));
            let fresh = || Arc::new(RouteStats { label: label.into(), shards: (0..workers).map(|_| Shard::default()).collect() });
            let mirror = route.mirror.as_ref().map(|mirror| (slot_of(&mirror.pool), mirror.percent));
            Rule { goal: goal(route, &slot_of), mirror, stats: known.map_or_else(fresh, |rule| Arc::clone(&rule.stats)) }
        };
        Some(RouteTable {
            index: Index::new(routes),
            looks: routes.iter().map(Looks::of).collect(),
            rules: routes.iter().enumerate().map(rule).collect(),
            reads_paths: routes
                .iter()
                .any(|route| route.path.is_some() || route.changes.as_ref().is_some_and(|changes| changes.rewrite.is_some())),
            keep_ambiguous: ambiguous_paths == AmbiguousPaths::Keep,
            reads_names: routes.iter().any(|route| !route.server_names.is_empty()),
        })
    }

    /// The slots of all pools that the routes lead to.
    pub fn pools(&self) -> impl Iterator<Item = u32> {
        self.rules.iter().flat_map(|rule| {
            let (one, many) = match &rule.goal {
                Goal::Pool(slot) => (Some(*slot), [].as_slice()),
                Goal::Split(pools) => (None, &**pools),
                Goal::Own => (None, [].as_slice()),
            };
            one.into_iter().chain(many.iter().map(|(_, slot)| *slot)).chain(rule.mirror.map(|(slot, _)| slot))
        })
    }

    /// The counters of all routes.
    pub fn stats(&self) -> impl Iterator<Item = &Arc<RouteStats>> {
        self.rules.iter().map(|rule| &rule.stats)
    }

    /// The one spelling of a path that is compared and passed on; as sent where no route looks at paths.
    ///
    /// # Errors
    /// Servers could read the path in different ways.
    #[inline]
    pub fn path<'a>(&self, path: &'a [u8]) -> Result<Cow<'a, [u8]>, PathError> {
        if self.reads_paths { normal_path(path, self.keep_ambiguous) } else { Ok(Cow::Borrowed(path)) }
    }

    /// The number of the first route that takes the request, from 0.
    #[inline]
    pub fn find(&self, routes: &[Route], asked: &Asked<'_>) -> Option<usize> {
        self.index.first(asked.host, asked.path, |number| self.looks[number as usize].hold(&routes[number as usize], asked))
    }

    /// The pool that gets this request of a route too, if one does.
    pub fn mirror(&self, number: usize, random: &mut fastrand::Rng) -> Option<u32> {
        self.rules[number].mirror.filter(|(_, percent)| *percent >= 100 || random.u32(..100) < *percent).map(|(slot, _)| slot)
    }

    /// Follows a route that [`RouteTable::find`] found, and counts it.
    pub fn follow<'a>(&self, routes: &'a [Route], number: usize, worker: usize, random: &mut fastrand::Rng) -> Way<'a> {
        let Rule { goal, stats, .. } = &self.rules[number];
        crate::stats::add(&stats.shards[worker].0, 1);
        match goal {
            Goal::Pool(slot) => Way::Pool(*slot),
            Goal::Split(pools) => {
                let drawn = random.u32(..pools[pools.len() - 1].0);
                Way::Pool(pools[pools.partition_point(|(sum, _)| *sum <= drawn)].1)
            }
            Goal::Own => Way::Own(&routes[number].action),
        }
    }
}

fn goal(route: &Route, slot_of: impl Fn(&PoolName) -> u32) -> Goal {
    match &route.action {
        RouteAction::Pool(pool) => Goal::Pool(slot_of(pool)),
        RouteAction::Split(pools) => {
            let mut sum = 0;
            let part = |weighted: &weir_config::WeightedPool| {
                sum += weighted.weight;
                (sum, slot_of(&weighted.pool))
            };
            Goal::Split(pools.iter().map(part).collect())
        }
        RouteAction::Redirect(_) | RouteAction::Answer(_) => Goal::Own,
    }
}

/// What a route is called: its name, else its number from 1.
pub(crate) fn label(number: usize, route: &Route) -> String {
    route.name.clone().unwrap_or_else(|| (number + 1).to_string())
}
