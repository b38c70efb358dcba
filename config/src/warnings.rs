//! What is allowed, but likely not meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{AcmeCertificate, AcmeChallenge, BelowMinHealthy, Config, Listener, Pool, PoolName, Protocol, VipName};

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
    warn_about_acme(&mut found, config);
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

/// Behind an address that moves, a certificate of one's own account is had only after the address was here once.
fn warn_about_acme(found: &mut Vec<String>, config: &Config) {
    let moves = |listener: &Listener| {
        let mut held = config.vips.values().flat_map(|vip| &vip.addresses);
        held.any(|address| listener.binds.iter().any(|bind| bind.ip() == address.ip || bind.ip().is_unspecified()))
    };
    for listener in config.listeners.values().filter(|listener| moves(listener)) {
        let Protocol::Http(http) = &listener.protocol else { continue };
        for AcmeCertificate { authority, names, challenge, .. } in http.tls.iter().flat_map(|tls| &tls.acme) {
            let shared = config.authorities.get(authority).is_some_and(|authority| authority.account_key_file.is_some());
            let (name, what) =
                (&names[0], "is ordered only while this node has the virtual IP, so that the backup may take over without one");
            if *challenge == AcmeChallenge::TlsAlpn01 {
                found.push(format!("the certificate for {name} {what}: write challenge = \"http-01\" and a common account_key_file"));
            } else if !shared {
                found.push(format!(
                    "the certificate for {name} {what}: name the same account_key_file under [acme.{authority}] on both nodes"
                ));
            }
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
    fn a_backup_without_a_certificate_is_warned_of() {
        let text = |key: &str, challenge: &str| {
            format!(
                "[acme.ca]\ndirectory = \"https://ca.test/dir\"\nagree_terms = true\n{key}\n[vip.a]\ninterface = \"eth0\"\nrouter_id = 1\n\
                 addresses = [\"10.0.0.100/24\"]\n[listener.plain]\nbind = \"10.0.0.100:80\"\nredirect_https = 443\n[listener.web]\n\
                 bind = \"10.0.0.100:443\"\npool = \"web\"\n[[listener.web.tls.acme]]\nauthority = \"ca\"\nnames = [\"a.test\"]\n\
                 challenge = \"{challenge}\"\n[pool.web]\nendpoints = [\"10.0.0.1:80\"]\n[pool.web.health]\ntype = \"tcp\"\n"
            )
        };
        for (key, challenge, said) in [
            ("", "http-01", Some("name the same account_key_file under [acme.ca] on both nodes")),
            ("account_key_file = \"/k\"", "http-01", None),
            ("account_key_file = \"/k\"", "tls-alpn-01", Some("write challenge = \"http-01\" and a common account_key_file")),
        ] {
            let config = crate::parse(&text(key, challenge), "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
            let found = warnings(&config);
            match said {
                Some(said) => assert!(found.len() == 1 && found[0].ends_with(said), "{found:?}"),
                None => assert_eq!(found, [""; 0]),
            }
        }
    }

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
