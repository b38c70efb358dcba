//! What was changed at run time, as a layer over the file. Pure: no files, no clock.
//!
//! ```text
//!   file ──┐
//!          ├── apply ──► effective configuration + the overlay that still makes sense + notes
//!   overlay┘
//! ```
//!
//! The rules, which hold for a reload, a restart and an upgrade alike:
//!
//! - An endpoint that was **added** stays, until the file itself names its address. From then on it is the file's: the file's weight and
//!   tier hold, its state (draining, maintenance) stays.
//! - An endpoint that was **removed** stays removed as long as the file names it. When the file stops naming it the removal is forgotten, so
//!   that writing it into the file again brings it back.
//! - A **weight** (and the tier of an endpoint that was removed and added again) stays until the file changes that endpoint's own value;
//!   then the file wins. What the file said is remembered beside each change, so a file that changed while nobody ran is noticed too.
//! - A **state** stays until it is changed again: the file has no states.
//! - When the file drops an endpoint that it used to name, its weight and state go with it.
//! - When the file drops a pool, everything about that pool is forgotten.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use weir_config::{AdminState, Config, Endpoint, EndpointAddress, PoolName, Weight};

use crate::node::EndpointChange;

/// The most entries an overlay may have. It is rewritten whole with each change and handed over whole at an upgrade.
pub(crate) const ENTRIES_MAX: usize = 50_000;

/// All run-time changes. Only ever holds entries that say something.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Overlay {
    pools: BTreeMap<PoolName, BTreeMap<EndpointAddress, Entry>>,
}

/// What was changed about one endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// It is not in the file.
    Added {
        /// Weight.
        weight: Weight,
        /// Tier.
        tier: u8,
        /// State.
        state: AdminState,
    },
    /// It is in the file and must not serve.
    Removed,
    /// It is in the file, with other values.
    Changed {
        /// State; ready is what the file means.
        state: AdminState,
        /// Weight.
        weight: Option<Over<Weight>>,
        /// Tier.
        tier: Option<Over<u8>>,
    },
}

/// A value over the file's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Over<T> {
    /// What holds.
    pub(crate) value: T,
    /// What the file said when it was set.
    pub(crate) file: T,
}

/// An overlay laid over a file.
#[derive(Debug)]
pub(crate) struct Applied {
    /// What to run.
    pub(crate) config: Config,
    /// The overlay without what no longer applies.
    pub(crate) overlay: Overlay,
    /// What no longer applies, and why.
    pub(crate) notes: Vec<Note>,
}

/// A run-time change that ended because of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// The pool is not in the file.
    PoolGone(PoolName),
    /// An added endpoint is in the file now.
    InFile(PoolName, EndpointAddress),
    /// A changed or removed endpoint is no longer in the file.
    EndpointGone(PoolName, EndpointAddress),
    /// The file has another weight or tier than when it was changed.
    FileWins(PoolName, EndpointAddress),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::PoolGone(pool) => write!(f, "pool {pool} is not in the file: its run-time changes are forgotten"),
            Note::InFile(pool, endpoint) => {
                write!(f, "pool {pool}: {endpoint}, added at run time, is in the file now: the file's weight and tier hold")
            }
            Note::EndpointGone(pool, endpoint) => {
                write!(f, "pool {pool}: {endpoint} is no longer in the file: its run-time changes are forgotten")
            }
            Note::FileWins(pool, endpoint) => {
                write!(f, "pool {pool}: the file changed the weight or tier of {endpoint}: it replaces the one set at run time")
            }
        }
    }
}

/// Why a change cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The file has no such pool.
    NoPool,
    /// The pool has no such endpoint now.
    NoEndpoint,
    /// The pool has it already.
    Exists,
    /// [`ENTRIES_MAX`] is reached.
    Full,
}

impl Overlay {
    /// All entries.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&PoolName, &BTreeMap<EndpointAddress, Entry>)> {
        self.pools.iter()
    }

    /// How many endpoints it speaks of.
    pub(crate) fn len(&self) -> usize {
        self.pools.values().map(BTreeMap::len).sum()
    }

    /// Puts an entry in, as read from elsewhere.
    pub(crate) fn insert(&mut self, pool: PoolName, endpoint: EndpointAddress, entry: Entry) {
        self.pools.entry(pool).or_default().insert(endpoint, entry);
    }

    /// Lays the overlay over a file. Pools it does not speak of are shared, not copied.
    pub(crate) fn apply(&self, file: &Config) -> Applied {
        let mut applied = Applied { config: file.clone(), overlay: Overlay::default(), notes: Vec::new() };
        for (name, entries) in &self.pools {
            let Some(pool) = applied.config.pools.get_mut(name) else {
                applied.notes.push(Note::PoolGone(name.clone()));
                continue;
            };
            let mut kept = BTreeMap::new();
            let endpoints = lay_over_pool(name, &pool.endpoints, entries, &mut kept, &mut applied.notes);
            if endpoints != pool.endpoints {
                Arc::make_mut(pool).endpoints = endpoints;
            }
            if !kept.is_empty() {
                applied.overlay.pools.insert(name.clone(), kept);
            }
        }
        applied
    }

    /// The overlay with one change more; `None`: it is so already. The overlay must have been applied to this very file before.
    pub(crate) fn change(
        &self,
        file: &Config,
        pool: &PoolName,
        address: &EndpointAddress,
        change: &EndpointChange,
    ) -> Result<Option<Overlay>, Refusal> {
        let in_file = file.pools.get(pool).ok_or(Refusal::NoPool)?.endpoints.iter().find(|e| e.address == *address);
        let old = self.pools.get(pool).and_then(|entries| entries.get(address));
        let new = change_entry(in_file, old, change)?;
        if new.as_ref() == old {
            return Ok(None);
        }
        let mut overlay = self.clone();
        match new {
            Some(entry) => {
                overlay.insert(pool.clone(), address.clone(), entry);
                if overlay.len() > ENTRIES_MAX {
                    return Err(Refusal::Full);
                }
            }
            None => {
                if let Some(entries) = overlay.pools.get_mut(pool) {
                    entries.remove(address);
                    if entries.is_empty() {
                        overlay.pools.remove(pool);
                    }
                }
            }
        }
        Ok(Some(overlay))
    }
}

/// The endpoints of one pool: the file's in the file's order, then the added ones in the order of their addresses.
fn lay_over_pool(
    pool: &PoolName,
    file: &[Endpoint],
    entries: &BTreeMap<EndpointAddress, Entry>,
    kept: &mut BTreeMap<EndpointAddress, Entry>,
    notes: &mut Vec<Note>,
) -> Vec<Endpoint> {
    let mut overrides: HashMap<&EndpointAddress, &Entry> = entries.iter().collect();
    let mut endpoints = Vec::with_capacity(file.len() + entries.len());
    for endpoint in file {
        let address = &endpoint.address;
        let entry = match overrides.remove(address) {
            None => {
                endpoints.push(endpoint.clone());
                continue;
            }
            Some(Entry::Removed) => {
                kept.insert(address.clone(), Entry::Removed);
                continue;
            }
            Some(Entry::Added { state, .. }) => {
                notes.push(Note::InFile(pool.clone(), address.clone()));
                Entry::Changed { state: *state, weight: None, tier: None }
            }
            Some(Entry::Changed { state, weight, tier }) => {
                let still_weight = weight.filter(|over| over.file == endpoint.weight);
                let still_tier = tier.filter(|over| over.file == endpoint.tier);
                if (still_weight, still_tier) != (*weight, *tier) {
                    notes.push(Note::FileWins(pool.clone(), address.clone()));
                }
                Entry::Changed { state: *state, weight: still_weight, tier: still_tier }
            }
        };
        endpoints.push(overridden(endpoint, &entry));
        if let Some(entry) = unless_empty(entry) {
            kept.insert(address.clone(), entry);
        }
    }
    let in_file: HashSet<&EndpointAddress> = file.iter().map(|e| &e.address).collect();
    for (address, entry) in entries.iter().filter(|(address, _)| !in_file.contains(address)) {
        match entry {
            Entry::Added { weight, tier, state } => {
                endpoints.push(Endpoint { address: address.clone(), weight: *weight, tier: *tier, state: *state });
                kept.insert(address.clone(), entry.clone());
            }
            Entry::Removed | Entry::Changed { .. } => notes.push(Note::EndpointGone(pool.clone(), address.clone())),
        }
    }
    endpoints
}

fn overridden(endpoint: &Endpoint, entry: &Entry) -> Endpoint {
    let mut endpoint = endpoint.clone();
    if let Entry::Changed { state, weight, tier } = entry {
        endpoint.state = *state;
        endpoint.weight = weight.map_or(endpoint.weight, |over| over.value);
        endpoint.tier = tier.map_or(endpoint.tier, |over| over.value);
    }
    endpoint
}

/// `None` for a change that says the same as the file.
fn unless_empty(entry: Entry) -> Option<Entry> {
    match entry {
        Entry::Changed { state: AdminState::Ready, weight: None, tier: None } => None,
        entry => Some(entry),
    }
}

/// What the entry of one endpoint becomes.
fn change_entry(in_file: Option<&Endpoint>, old: Option<&Entry>, change: &EndpointChange) -> Result<Option<Entry>, Refusal> {
    let over = |file: Weight, value: Weight| (file != value).then_some(Over { value, file });
    match (change, old, in_file) {
        (EndpointChange::Add(new), Some(Entry::Removed), Some(file)) => Ok(unless_empty(Entry::Changed {
            state: new.state,
            weight: over(file.weight, new.weight),
            tier: (file.tier != new.tier).then_some(Over { value: new.tier, file: file.tier }),
        })),
        (EndpointChange::Add(new), None, None) => Ok(Some(Entry::Added { weight: new.weight, tier: new.tier, state: new.state })),
        (EndpointChange::Add(_), ..) => Err(Refusal::Exists),
        (_, Some(Entry::Removed), _) | (_, None, None) => Err(Refusal::NoEndpoint),
        (EndpointChange::Remove, _, Some(_)) => Ok(Some(Entry::Removed)),
        (EndpointChange::Remove, _, None) => Ok(None),
        (EndpointChange::State(new), Some(Entry::Added { weight, tier, .. }), _) => {
            Ok(Some(Entry::Added { weight: *weight, tier: *tier, state: *new }))
        }
        (EndpointChange::Weight(new), Some(Entry::Added { tier, state, .. }), _) => {
            Ok(Some(Entry::Added { weight: *new, tier: *tier, state: *state }))
        }
        (_, Some(Entry::Changed { .. }), None) => Err(Refusal::NoEndpoint),
        (EndpointChange::State(_) | EndpointChange::Weight(_), old, Some(file)) => {
            let (state, weight, tier) = match old {
                Some(Entry::Changed { state, weight, tier }) => (*state, *weight, *tier),
                _ => (AdminState::Ready, None, None),
            };
            Ok(unless_empty(match change {
                EndpointChange::State(new) => Entry::Changed { state: *new, weight, tier },
                EndpointChange::Weight(new) => Entry::Changed { state, weight: over(file.weight, *new), tier },
                EndpointChange::Add(_) | EndpointChange::Remove => return Err(Refusal::Exists),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use weir_config::{Balance, BelowMinHealthy, Node, Pool, PoolLimits, PoolTimeouts, UpstreamProtocol};

    use super::*;

    /// `"1 2x3 4@1"`: endpoints 10.0.0.N:80 with weight `x` and tier `@`; `!d` draining, `!m` maintenance.
    fn endpoints(text: &str) -> Vec<Endpoint> {
        text.split_whitespace().map(endpoint).collect()
    }

    fn endpoint(text: &str) -> Endpoint {
        let (text, state) = match text.split_once('!') {
            Some((text, "d")) => (text, AdminState::Draining),
            Some((text, _)) => (text, AdminState::Maintenance),
            None => (text, AdminState::Ready),
        };
        let (text, tier) = text.split_once('@').map_or((text, 0), |(text, tier)| (text, tier.parse().expect("tier")));
        let (number, weight) = text.split_once('x').map_or((text, 1), |(n, weight)| (n, weight.parse().expect("weight")));
        let weight = Weight::new(weight).expect("in range");
        Endpoint { address: address(number), weight, tier, state }
    }

    fn address(number: &str) -> EndpointAddress {
        format!("10.0.0.{number}:80").parse::<SocketAddr>().expect("address").into()
    }

    fn file(pools: &[(&str, &str)]) -> Config {
        let pool = |name: &str, text: &str| Pool {
            name: name.into(),
            endpoints: endpoints(text),
            balance: Balance::LeastRequest,
            slow_start: None,
            min_healthy: 1,
            below_min_healthy: BelowMinHealthy::FailOpen,
            timeouts: PoolTimeouts::default(),
            limits: PoolLimits::default(),
            health: None,
            ejection: None,
            scaling: None,
            upstream_protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            session: None,
            retry: weir_config::RetryPolicy::default(),
            breaker: None,
            adaptive: None,
        };
        Config {
            node: Node {
                name: "weir".into(),
                workers: None,
                state_dir: "/nowhere".into(),
                drain_timeout: Duration::from_secs(30),
                probes_max: std::num::NonZeroU32::MIN,
            },
            api: None,
            access_log: None,
            history: weir_config::History::default(),
            cluster: None,
            vips: BTreeMap::new(),
            authorities: BTreeMap::new(),
            hosts: BTreeMap::new(),
            templates: BTreeMap::new(),
            metrics: BTreeMap::new(),
            alarms: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pools: pools.iter().map(|(name, text)| (PoolName::from(*name), Arc::new(pool(name, text)))).collect(),
            notification: weir_config::Notification::default(),
            shared_sum: [0; 32],
        }
    }

    /// `"add 3x2"`, `"remove 1"`, `"drain 1"`, `"maintain 1"`, `"undrain 1"`, `"weight 1x3"`.
    fn change(text: &str) -> (EndpointAddress, EndpointChange) {
        let (verb, what) = text.split_once(' ').expect("verb and endpoint");
        let endpoint = endpoint(what);
        let change = match verb {
            "add" => EndpointChange::Add(endpoint.clone()),
            "remove" => EndpointChange::Remove,
            "drain" => EndpointChange::State(AdminState::Draining),
            "maintain" => EndpointChange::State(AdminState::Maintenance),
            "undrain" => EndpointChange::State(AdminState::Ready),
            "weight" => EndpointChange::Weight(endpoint.weight),
            other => panic!("no verb {other}"),
        };
        (endpoint.address, change)
    }

    fn changed(file: &Config, overlay: Overlay, changes: &[&str]) -> Overlay {
        let web = PoolName::from("web");
        changes.iter().fold(overlay, |overlay, text| {
            let (address, change) = change(text);
            overlay.change(file, &web, &address, &change).expect(text).expect("something changes")
        })
    }

    /// A file, changes at run time, another file: what runs then and how many notes are written.
    fn check(before: &str, changes: &[&str], after: &str, expected: &str, notes: usize) {
        let (before, after) = (file(&[("web", before)]), file(&[("web", after)]));
        let overlay = changed(&before, Overlay::default(), changes);
        let applied = overlay.apply(&after);
        assert_eq!(applied.config.pools[&PoolName::from("web")].endpoints, endpoints(expected), "{changes:?}");
        assert_eq!(applied.notes.len(), notes, "{changes:?}: {:?}", applied.notes);
        let again = applied.overlay.apply(&after);
        assert_eq!(again.config, applied.config, "applying twice is applying once");
        assert_eq!(again.overlay, applied.overlay);
        assert_eq!(again.notes, []);
    }

    #[test]
    fn run_time_changes_survive_a_reload_that_does_not_touch_them() {
        check("1 2", &[], "1 2", "1 2", 0);
        check("1 2", &["add 3x5"], "1 2", "1 2 3x5", 0);
        check("1 2", &["add 3@2", "drain 3"], "1 2", "1 2 3@2!d", 0);
        check("1 2", &["remove 1"], "1 2", "2", 0);
        check("1 2", &["weight 1x7"], "1 2 4", "1x7 2 4", 0);
        check("1 2", &["drain 1", "maintain 2"], "1 2", "1!d 2!m", 0);
        check("1 2", &["drain 1", "undrain 1"], "1 2", "1 2", 0);
        check("1 2", &["add 3", "remove 3"], "1 2", "1 2", 0);
        check("1 2", &["remove 1", "add 1x4@1"], "1 2", "1x4@1 2", 0);
        check("", &["add 9", "add 8"], "", "8 9", 0);
    }

    #[test]
    fn the_file_wins_where_it_speaks() {
        check("1 2", &["weight 1x7", "drain 1"], "1x2 2", "1x2!d 2", 1);
        check("1 2", &["weight 1x7"], "1x7 2", "1x7 2", 1);
        check("1 2", &["add 3x5", "maintain 3"], "1 2 3x2", "1 2 3x2!m", 1);
        check("1 2", &["add 3"], "1 2 3", "1 2 3", 1);
        check("1 2", &["remove 1", "add 1x4@1"], "1@2 2", "1x4@2 2", 1);
        check("1 2", &["drain 1"], "2", "2", 1);
        check("1 2", &["remove 1"], "2", "2", 1);
    }

    #[test]
    fn a_removal_is_forgotten_once_the_file_follows() {
        let (with, without) = (file(&[("web", "1 2")]), file(&[("web", "2")]));
        let overlay = changed(&with, Overlay::default(), &["remove 1"]);
        let overlay = overlay.apply(&without).overlay;
        assert_eq!(overlay, Overlay::default());
        assert_eq!(overlay.apply(&with).config, with);
    }

    #[test]
    fn a_pool_that_goes_takes_its_changes_along() {
        let before = file(&[("web", "1"), ("api", "1")]);
        let overlay = changed(&before, Overlay::default(), &["add 3"]);
        let applied = overlay.apply(&file(&[("api", "1")]));
        assert_eq!(applied.notes, [Note::PoolGone("web".into())]);
        assert_eq!(applied.overlay, Overlay::default());
    }

    #[test]
    fn pools_without_changes_are_shared() {
        let before = file(&[("web", "1"), ("api", "1")]);
        let applied = changed(&before, Overlay::default(), &["add 3"]).apply(&before);
        let api = PoolName::from("api");
        assert!(Arc::ptr_eq(&applied.config.pools[&api], &before.pools[&api]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let file = file(&[("web", "1 2")]);
        let overlay = changed(&file, Overlay::default(), &["remove 1", "add 3"]);
        for (text, expected) in [
            ("remove 1", Err(Refusal::NoEndpoint)),
            ("drain 1", Err(Refusal::NoEndpoint)),
            ("weight 9x2", Err(Refusal::NoEndpoint)),
            ("add 2", Err(Refusal::Exists)),
            ("add 3x2", Err(Refusal::Exists)),
            ("undrain 2", Ok(None)),
            ("weight 2x1", Ok(None)),
            ("weight 3x1", Ok(None)),
        ] {
            let (address, change) = change(text);
            assert_eq!(overlay.change(&file, &"web".into(), &address, &change), expected, "{text}");
            assert_eq!(overlay.change(&file, &"nope".into(), &address, &change), Err(Refusal::NoPool));
        }
    }
}
