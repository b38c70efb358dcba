//! What a reload changes, as a list of lines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::{
    AlarmName, AuthorityName, Config, Endpoint, EndpointAddress, HostName, HttpListener, Listener, ListenerName, MetricName, Pool,
    PoolName, Protocol, RecoveryName, Route, TemplateName, Vip, VipName,
};
use crate::notify::NotificationPlace;
use crate::settings::{self, NONE, Setting};

/// Keys of `[node]` that are read once, when the process starts.
const NODE_KEYS_OF_START: [&str; 2] = ["workers", "state_dir"];

/// Keys of `[history]` that are read once, when the process starts.
const HISTORY_KEYS_OF_START: [&str; 1] = ["enabled"];

/// One difference between two configurations. Printed, it is one line.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A setting has another value, both in words; `none` stands for one that is absent.
    Setting {
        /// The table.
        place: Place,
        /// The key, relative to the table, such as `timeouts.connect`.
        key: &'static str,
        /// Before.
        old: String,
        /// After.
        new: String,
    },
    /// A table is new.
    Added(Place),
    /// A table is gone.
    Removed(Place),
    /// A listener listens on one more address.
    BindAdded(ListenerName, std::net::SocketAddr),
    /// A listener no longer listens on an address.
    BindRemoved(ListenerName, std::net::SocketAddr),
    /// A listener has one more route.
    RouteAdded(ListenerName, usize, Box<Route>),
    /// A listener has a route less; the number is that in the old configuration.
    RouteRemoved(ListenerName, usize, Box<Route>),
    /// A route is another one.
    RouteChanged {
        /// The listener.
        listener: ListenerName,
        /// Its number in the new configuration, from 1.
        number: usize,
        /// Before.
        old: Box<Route>,
        /// After.
        new: Box<Route>,
    },
    /// A pool has one more endpoint.
    EndpointAdded(PoolName, Endpoint),
    /// A pool has an endpoint less.
    EndpointRemoved(PoolName, EndpointAddress),
    /// A setting of an endpoint has another value.
    EndpointChanged {
        /// The pool.
        pool: PoolName,
        /// The endpoint.
        endpoint: EndpointAddress,
        /// `weight`, `tier` or `state`.
        key: &'static str,
        /// Before.
        old: String,
        /// After.
        new: String,
    },
    /// The same endpoints in another order.
    EndpointsReordered(PoolName),
}

/// A table of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// `[node]`
    Node,
    /// `[api]`
    Api,
    /// `[access_log]`
    AccessLog,
    /// `[history]`
    History,
    /// `[cluster]`
    Cluster,
    /// `[vip.NAME]`
    Vip(VipName),
    /// `[acme.NAME]`
    Authority(AuthorityName),
    /// `[listener.NAME]`
    Listener(ListenerName),
    /// `[pool.NAME]`
    Pool(PoolName),
    /// `[host.NAME]`
    Host(HostName),
    /// `[template.NAME]`
    Template(TemplateName),
    /// `[metric.NAME]`
    Metric(MetricName),
    /// `[alarm.NAME]`
    Alarm(AlarmName),
    /// `[recovery.NAME]`
    Recovery(RecoveryName),
    /// A table about telling people.
    Notification(NotificationPlace),
}

impl Change {
    /// Whether it takes effect only with a restart or an upgrade.
    pub fn needs_restart(&self) -> bool {
        match self {
            Change::Setting { place: Place::Node, key, .. } => NODE_KEYS_OF_START.contains(key),
            Change::Setting { place: Place::History, key, .. } => HISTORY_KEYS_OF_START.contains(key),
            _ => false,
        }
    }
}

/// Everything that is different in `new`. Equal configurations give an empty list, different ones never do.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    diff_settings(&mut changes, &Place::Node, settings::of_node(&old.node), settings::of_node(&new.node));
    diff_table(&mut changes, Place::Api, old.api.as_ref(), new.api.as_ref(), settings::of_api);
    diff_table(&mut changes, Place::AccessLog, old.access_log.as_ref(), new.access_log.as_ref(), settings::of_access_log);
    diff_settings(&mut changes, &Place::History, settings::of_history(&old.history), settings::of_history(&new.history));
    diff_table(&mut changes, Place::Cluster, old.cluster.as_ref(), new.cluster.as_ref(), settings::of_cluster);
    diff_named(&mut changes, &old.vips, &new.vips, Place::Vip, diff_vip);
    diff_named(&mut changes, &old.authorities, &new.authorities, Place::Authority, |changes, old, new| {
        diff_settings(changes, &Place::Authority(new.name.clone()), settings::of_authority(old), settings::of_authority(new));
    });
    diff_named(&mut changes, &old.listeners, &new.listeners, Place::Listener, diff_listener);
    diff_named(&mut changes, &old.pools, &new.pools, Place::Pool, diff_pool);
    diff_named(&mut changes, &old.hosts, &new.hosts, Place::Host, |changes, old, new| {
        diff_settings(changes, &Place::Host(new.name.clone()), settings::of_host(old), settings::of_host(new));
    });
    diff_named(&mut changes, &old.templates, &new.templates, Place::Template, |changes, old, new| {
        diff_settings(changes, &Place::Template(new.name.clone()), settings::of_template(old), settings::of_template(new));
    });
    diff_named(&mut changes, &old.metrics, &new.metrics, Place::Metric, |changes, old, new| {
        diff_settings(changes, &Place::Metric(new.name.clone()), settings::of_metric(old), settings::of_metric(new));
    });
    diff_named(&mut changes, &old.alarms, &new.alarms, Place::Alarm, |changes, old, new| {
        diff_settings(changes, &Place::Alarm(new.name.clone()), settings::of_alarm(old), settings::of_alarm(new));
    });
    diff_named(&mut changes, &old.recoveries, &new.recoveries, Place::Recovery, |changes, old, new| {
        diff_settings(changes, &Place::Recovery(new.name.clone()), settings::of_recovery(old), settings::of_recovery(new));
    });
    for (place, old, new) in crate::notify::diff(&old.notification, &new.notification) {
        let place = Place::Notification(place);
        match (old, new) {
            (Some(old), Some(new)) => diff_settings(&mut changes, &place, old, new),
            (Some(_), None) => changes.push(Change::Removed(place)),
            (None, _) => changes.push(Change::Added(place)),
        }
    }
    changes
}

/// Makes `new` share the virtual IPs, listeners and pools that are equal to those of `old`: then the same pointer means unchanged.
pub fn share_unchanged(old: &Config, new: &mut Config) {
    fn share<K: Ord, V: PartialEq>(old: &BTreeMap<K, Arc<V>>, new: &mut BTreeMap<K, Arc<V>>) {
        for (name, value) in new {
            if let Some(same) = old.get(name).filter(|old| *old == value) {
                *value = same.clone();
            }
        }
    }
    share(&old.vips, &mut new.vips);
    share(&old.authorities, &mut new.authorities);
    share(&old.listeners, &mut new.listeners);
    share(&old.pools, &mut new.pools);
    share(&old.hosts, &mut new.hosts);
    share(&old.templates, &mut new.templates);
    share(&old.metrics, &mut new.metrics);
    share(&old.alarms, &mut new.alarms);
    share(&old.recoveries, &mut new.recoveries);
}

fn diff_named<K: Ord + Clone, V: PartialEq>(
    changes: &mut Vec<Change>,
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
    place: impl Fn(K) -> Place,
    diff: impl Fn(&mut Vec<Change>, &V, &V),
) {
    changes.extend(old.keys().filter(|name| !new.contains_key(name)).map(|name| Change::Removed(place(name.clone()))));
    for (name, new) in new {
        match old.get(name) {
            None => changes.push(Change::Added(place(name.clone()))),
            Some(old) if Arc::ptr_eq(old, new) || old == new => {}
            Some(old) => diff(changes, old, new),
        }
    }
}

fn diff_table<T>(changes: &mut Vec<Change>, place: Place, old: Option<&T>, new: Option<&T>, settings: impl Fn(&T) -> Vec<Setting>) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => changes.push(Change::Added(place)),
        (Some(_), None) => changes.push(Change::Removed(place)),
        (Some(old), Some(new)) => diff_settings(changes, &place, settings(old), settings(new)),
    }
}

/// A key that one side lacks counts as `none` there.
fn diff_settings(changes: &mut Vec<Change>, place: &Place, old: Vec<Setting>, new: Vec<Setting>) {
    let mut setting = |key, old: String, new: String| {
        if old != new {
            changes.push(Change::Setting { place: place.clone(), key, old, new });
        }
    };
    let value = |settings: &[Setting], key: &str| settings.iter().find(|(k, _)| *k == key).map(|(_, value)| value.clone());
    for (key, before) in old.iter() {
        setting(key, before.clone(), value(&new, key).unwrap_or(NONE.into()));
    }
    for (key, after) in new.into_iter().filter(|(key, _)| value(&old, key).is_none()) {
        setting(key, NONE.into(), after);
    }
}

/// A table that can be absent is named by one setting while it comes or goes.
fn diff_optional<T>(
    changes: &mut Vec<Change>,
    place: &Place,
    (key, present): (&'static str, fn(&T) -> String),
    old: Option<&T>,
    new: Option<&T>,
    settings: impl Fn(&T) -> Vec<Setting>,
) {
    match (old, new) {
        (Some(old), Some(new)) => diff_settings(changes, place, settings(old), settings(new)),
        _ => {
            let word = |table: Option<&T>| vec![(key, table.map_or(NONE.into(), present))];
            diff_settings(changes, place, word(old), word(new));
        }
    }
}

fn diff_vip(changes: &mut Vec<Change>, old: &Vip, new: &Vip) {
    let place = Place::Vip(new.name.clone());
    diff_settings(changes, &place, settings::of_vip(old), settings::of_vip(new));
}

fn diff_listener(changes: &mut Vec<Change>, old: &Listener, new: &Listener) {
    let name = &new.name;
    let place = Place::Listener(name.clone());
    let removed: Vec<_> = old.binds.iter().filter(|bind| !new.binds.contains(bind)).collect();
    let added: Vec<_> = new.binds.iter().filter(|bind| !old.binds.contains(bind)).collect();
    if removed.is_empty() && added.is_empty() {
        let list = |binds: &[std::net::SocketAddr]| binds.iter().map(|bind| bind.to_string()).collect::<Vec<_>>().join(", ");
        diff_settings(changes, &place, vec![("bind", list(&old.binds))], vec![("bind", list(&new.binds))]);
    }
    changes.extend(removed.into_iter().map(|bind| Change::BindRemoved(name.clone(), *bind)));
    changes.extend(added.into_iter().map(|bind| Change::BindAdded(name.clone(), *bind)));
    let word = |protocol: &Protocol| vec![("protocol", protocol.word().to_string())];
    diff_settings(changes, &place, word(&old.protocol), word(&new.protocol));
    diff_settings(changes, &place, settings::of_listener(old), settings::of_listener(new));
    if let (Protocol::Http(old), Protocol::Http(new)) = (&old.protocol, &new.protocol) {
        diff_settings(changes, &place, settings::of_http(&old.limits, &old.headers), settings::of_http(&new.limits, &new.headers));
        let own = |http: &HttpListener| {
            let port = http.redirect_https.map_or(NONE.into(), |port| port.to_string());
            vec![
                ("redirect_https", port),
                ("http2", http.http2.to_string()),
                ("ambiguous_paths", http.ambiguous_paths.word().into()),
                ("rate_limit", settings::list(&http.rate_limits)),
            ]
        };
        diff_settings(changes, &place, own(old), own(new));
        diff_optional(changes, &place, ("tls", |_| "on".into()), old.tls.as_deref(), new.tls.as_deref(), settings::of_listener_tls);
    }
    if old.protocol.word() == new.protocol.word() {
        diff_routes(changes, name, old.protocol.routes(), new.protocol.routes());
    }
}

/// What is equal at both ends is left out; the middle is compared in order.
fn diff_routes(changes: &mut Vec<Change>, listener: &ListenerName, old: &[Route], new: &[Route]) {
    let same_start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same_start..], &new[same_start..]);
    let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - same_end], &new[..new.len() - same_end]);
    for at in 0..old.len().max(new.len()) {
        let (listener, number) = (listener.clone(), same_start + at + 1);
        changes.extend(match (old.get(at).cloned().map(Box::new), new.get(at).cloned().map(Box::new)) {
            (Some(old), Some(new)) if old != new => Some(Change::RouteChanged { listener, number, old, new }),
            (Some(old), None) => Some(Change::RouteRemoved(listener, number, old)),
            (None, Some(new)) => Some(Change::RouteAdded(listener, number, new)),
            _ => None,
        });
    }
}

fn diff_pool(changes: &mut Vec<Change>, old: &Pool, new: &Pool) {
    let place = Place::Pool(new.name.clone());
    diff_endpoints(changes, &new.name, &old.endpoints, &new.endpoints);
    diff_settings(changes, &place, settings::of_pool(old), settings::of_pool(new));
    let health = ("health", |check: &crate::model::HealthCheck| check.probe.word().to_string());
    diff_optional(changes, &place, (health.0, health.1), old.health.as_ref(), new.health.as_ref(), settings::of_health);
    diff_optional(changes, &place, ("ejection", |_| "on".into()), old.ejection.as_ref(), new.ejection.as_ref(), settings::of_ejection);
    diff_optional(changes, &place, ("breaker", |_| "on".into()), old.breaker.as_ref(), new.breaker.as_ref(), settings::of_breaker);
    diff_optional(changes, &place, ("adaptive", |_| "on".into()), old.adaptive.as_ref(), new.adaptive.as_ref(), settings::of_adaptive);
    diff_optional(changes, &place, ("session", |_| "on".into()), old.session.as_deref(), new.session.as_deref(), settings::of_session);
    diff_optional(changes, &place, ("tls", |_| "on".into()), old.tls.as_deref(), new.tls.as_deref(), settings::of_endpoint_tls);
    diff_optional(changes, &place, ("scaling", |_| "on".into()), old.scaling.as_deref(), new.scaling.as_deref(), settings::of_scaling);
}

fn diff_endpoints(changes: &mut Vec<Change>, pool: &PoolName, old: &[Endpoint], new: &[Endpoint]) {
    let by_address = |endpoints: &'_ [Endpoint]| endpoints.iter().map(|e| (e.address.clone(), e.clone())).collect::<BTreeMap<_, _>>();
    let (old_by, new_by) = (by_address(old), by_address(new));
    for endpoint in old.iter().filter(|endpoint| !new_by.contains_key(&endpoint.address)) {
        changes.push(Change::EndpointRemoved(pool.clone(), endpoint.address.clone()));
    }
    for endpoint in new {
        let Some(before) = old_by.get(&endpoint.address) else {
            changes.push(Change::EndpointAdded(pool.clone(), endpoint.clone()));
            continue;
        };
        let Endpoint { address, weight, tier, state } = endpoint;
        for (key, old, new) in [
            ("weight", before.weight.value().to_string(), weight.value().to_string()),
            ("tier", before.tier.to_string(), tier.to_string()),
            ("state", before.state.word().into(), state.word().into()),
        ] {
            if old != new {
                changes.push(Change::EndpointChanged { pool: pool.clone(), endpoint: address.clone(), key, old, new });
            }
        }
    }
    let kept_old = old.iter().map(|e| &e.address).filter(|address| new_by.contains_key(address));
    let kept_new = new.iter().map(|e| &e.address).filter(|address| old_by.contains_key(address));
    if !kept_old.eq(kept_new) {
        changes.push(Change::EndpointsReordered(pool.clone()));
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node => f.write_str("node"),
            Place::Api => f.write_str("api"),
            Place::AccessLog => f.write_str("access_log"),
            Place::History => f.write_str("history"),
            Place::Cluster => f.write_str("cluster"),
            Place::Vip(name) => write!(f, "vip {name}"),
            Place::Authority(name) => write!(f, "acme {name}"),
            Place::Listener(name) => write!(f, "listener {name}"),
            Place::Pool(name) => write!(f, "pool {name}"),
            Place::Host(name) => write!(f, "host {name}"),
            Place::Template(name) => write!(f, "template {name}"),
            Place::Metric(name) => write!(f, "metric {name}"),
            Place::Alarm(name) => write!(f, "alarm {name}"),
            Place::Recovery(name) => write!(f, "recovery {name}"),
            Place::Notification(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Setting { place, key, old, new } => write!(f, "{place}: {key} {old} -> {new}")?,
            Change::Added(place) => write!(f, "{place}: added")?,
            Change::Removed(place) => write!(f, "{place}: removed")?,
            Change::BindAdded(listener, address) => write!(f, "listener {listener}: bind {address} added")?,
            Change::BindRemoved(listener, address) => write!(f, "listener {listener}: bind {address} removed")?,
            Change::RouteAdded(listener, number, route) => write!(f, "listener {listener}: route {number} added: {}", route)?,
            Change::RouteRemoved(listener, number, route) => write!(f, "listener {listener}: route {number} removed: {}", route)?,
            Change::RouteChanged { listener, number, old, new } => {
                write!(f, "listener {listener}: route {number} changed: {} -> {}", old, new)?;
            }
            Change::EndpointAdded(pool, endpoint) => {
                write!(f, "pool {pool}: endpoint {} added", endpoint.address)?;
                if endpoint.weight.value() != 1 {
                    write!(f, ", weight {}", endpoint.weight.value())?;
                }
                if endpoint.tier != 0 {
                    write!(f, ", tier {}", endpoint.tier)?;
                }
            }
            Change::EndpointRemoved(pool, address) => write!(f, "pool {pool}: endpoint {address} removed")?,
            Change::EndpointChanged { pool, endpoint, key, old, new } => {
                write!(f, "pool {pool}: endpoint {endpoint} {key} {old} -> {new}")?
            }
            Change::EndpointsReordered(pool) => write!(f, "pool {pool}: endpoints in another order")?,
        }
        if self.needs_restart() { f.write_str(" (needs an upgrade or restart)") } else { Ok(()) }
    }
}
