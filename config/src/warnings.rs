//! What is allowed, but likely not meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{BelowMinHealthy, Config, Pool, PoolName, VipName};

/// One sentence for each thing that is allowed, but likely not meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.listeners.is_empty() {
        found.push("there is no listener: the node carries no traffic".into());
    }
    let used = pools_in_use(config);
    for (name, pool) in &config.pools {
        if !used.contains(name) {
            found.push(format!("pool {name} is not used by any listener"));
        }
        warn_about_pool(&mut found, pool);
    }
    warn_about_vips(&mut found, config);
    crate::notify::warnings(&mut found, &config.notification);
    found
}

fn warn_about_vips(found: &mut Vec<String>, config: &Config) {
    let mut groups: BTreeMap<&str, (&VipName, usize)> = BTreeMap::new();
    for (name, vip) in &config.vips {
        if let Some(group) = &vip.sync_group {
            groups.entry(group).or_insert((name, 0)).1 += 1;
        }
        if vip.auth.is_none() && !vip.peers.is_empty() {
            found.push(format!("vip {name} trusts whoever sends from the address of a peer: [vip.{name}.auth] would sign advertisements"));
        }
    }
    for (group, (only, count)) in groups {
        if count == 1 {
            found.push(format!("vip {only} is alone in its sync group {group}"));
        }
    }
}

/// The pools that a listener or a route names.
fn pools_in_use(config: &Config) -> BTreeSet<&PoolName> {
    let mut used = BTreeSet::new();
    for listener in config.listeners.values() {
        used.extend(&listener.pool);
        used.extend(listener.protocol.routes().iter().flat_map(|route| route.pools()));
    }
    used
}

fn warn_about_pool(found: &mut Vec<String>, pool: &Pool) {
    let Pool { name, endpoints, min_healthy, health, ejection, below_min_healthy, scaling, tls, .. } = pool;
    let count = endpoints.len();
    if let Some(scaling) = scaling {
        if scaling.min < *min_healthy {
            found.push(format!("pool {name} may have fewer machines (min = {}) than min_healthy = {min_healthy}", scaling.min));
        }
        if health.is_none() {
            found.push(format!("pool {name} is scaled without health checks: a machine gets traffic before it can serve"));
        }
    } else if count == 0 {
        found.push(format!("pool {name} has no endpoints until some are added at run time"));
    } else if u64::from(*min_healthy) > count as u64 {
        let what = match below_min_healthy {
            BelowMinHealthy::FailOpen => "its health checks have no effect",
            BelowMinHealthy::FailClosed => "every request is answered 503",
        };
        found.push(format!("pool {name} can never have {min_healthy} healthy endpoints, it has {count} in all: {what}"));
    }
    if health.is_none() && ejection.is_none() {
        found.push(format!("pool {name} has neither health checks nor ejection: an endpoint that fails keeps its traffic"));
    }
    if tls.as_ref().is_some_and(|tls| !tls.verify) {
        found.push(format!(
            "pool {name} believes whoever answers at the addresses of its endpoints: tls.verify = false, name their authority in tls.ca_file"
        ));
    }
    if count > 0 && endpoints.iter().all(|endpoint| endpoint.tier > 0) {
        found.push(format!("pool {name} has no endpoint of tier 0: the lowest tier it has serves"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_likely_not_meant_is_said() {
        let text = r#"
            [vip.a]
            interface = "eth0"
            router_id = 1
            addresses = ["10.0.0.100/24"]
            sync_group = "edge"
            peers = ["10.0.0.3"]
            [pool.idle]
            endpoints = ["10.0.0.1:80"]
            [pool.empty]
            [pool.floor]
            min_healthy = 2
            below_min_healthy = "fail-closed"
            endpoints = [{ address = "10.0.0.1:80", tier = 1 }]
            ejection = false
            [pool.floor.tls]
            verify = false
        "#;
        let config = crate::parse(text, "f").expect("it is allowed");
        let expected = [
            "there is no listener: the node carries no traffic",
            "pool empty is not used by any listener",
            "pool empty has no endpoints until some are added at run time",
            "pool floor is not used by any listener",
            "pool floor can never have 2 healthy endpoints, it has 1 in all: every request is answered 503",
            "pool floor has neither health checks nor ejection: an endpoint that fails keeps its traffic",
            "pool floor believes whoever answers at the addresses of its endpoints: tls.verify = false, name their authority in tls.ca_file",
            "pool floor has no endpoint of tier 0: the lowest tier it has serves",
            "pool idle is not used by any listener",
            "vip a trusts whoever sends from the address of a peer: [vip.a.auth] would sign advertisements",
            "vip a is alone in its sync group edge",
        ];
        assert_eq!(warnings(&config), expected);
    }
}
