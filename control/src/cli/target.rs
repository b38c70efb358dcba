//! Which pools an endpoint on the command line means.

use anyhow::bail;

use super::Target;
use crate::api::model::PoolView;
use crate::client::Client;

/// The pools whose endpoint is meant; never empty.
pub(super) fn pools_of(client: &Client, target: &Target) -> anyhow::Result<Vec<String>> {
    match &target.pool {
        Some(pool) => Ok(vec![pool.clone()]),
        None => choose(&client.get::<Vec<PoolView>>("/v1/pools")?, target),
    }
}

fn choose(pools: &[PoolView], target: &Target) -> anyhow::Result<Vec<String>> {
    let address = target.endpoint.to_string();
    let found: Vec<String> =
        pools.iter().filter(|pool| pool.endpoints.iter().any(|e| e.address == address)).map(|pool| pool.name.clone()).collect();
    match found.as_slice() {
        [] => bail!("no pool has the endpoint {address}; `weir status pool NAME` shows the endpoints of a pool"),
        [_, _, ..] if !target.all_pools => {
            bail!("{address} is in several pools ({}): name one with --pool, or take all with --all-pools", found.join(", "))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, addresses: &[&str]) -> PoolView {
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|address| {
                serde_json::json!({
                    "address": address, "resolved": null, "state": "ready", "health": "healthy", "evidence": "", "health_age_s": 0,
                    "ejected_s": null, "available": true, "why": "", "weight": 1, "ramp_percent": 100, "tier": 0,
                    "open": {"requests": 0, "tunnels": 0, "sessions": 0, "idle": 0},
                    "requests_total": 0, "failures_total": 0, "connects_total": 0,
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": name, "balance": "random", "healthy": 0, "min_healthy": 0, "below_floor": false, "available": 0, "waiting": 0,
            "requests_total": 0, "failures_total": 0, "retries_total": 0, "queued_total": 0, "reused_total": 0,
            "latency": {"count": 0, "p50_ms": null, "p90_ms": null, "p99_ms": null, "p999_ms": null}, "endpoints": endpoints,
        }))
        .expect("a pool")
    }

    #[test]
    fn one_pool_or_a_clear_choice() {
        let pools = [pool("a", &["10.0.0.1:80", "10.0.0.2:80"]), pool("b", &["10.0.0.2:80"])];
        let check = |endpoint: &str, all_pools| {
            let endpoint = weir_config::parse_endpoint_address(endpoint).expect("an endpoint");
            choose(&pools, &Target { endpoint, pool: None, all_pools }).map_err(|error| error.to_string())
        };
        assert_eq!(check("10.0.0.1:80", false), Ok(vec!["a".to_owned()]));
        assert_eq!(check("10.0.0.2:80", true), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(check("10.0.0.2:80", false).is_err_and(|why| why.contains("(a, b)") && why.contains("--all-pools")));
        assert!(check("10.0.0.3:80", false).is_err_and(|why| why.contains("no pool has")));
    }
}
