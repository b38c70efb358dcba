//! What the nodes of a cluster should have alike: a sum over it, by which they see that they do.

use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// Sections that are each node's own.
const OWN: [&str; 4] = ["node", "api", "access_log", "history"];

/// What a virtual IP is on all nodes; the rest of `[vip.NAME]` is how one node takes part.
const OF_VIP: [&str; 6] = ["addresses", "router_id", "version", "advertisement_interval", "checksum", "sync_group"];

/// The sum over a file that was read before. Comments, spaces and the order of keys do not count; how a value is written does.
pub(crate) fn sum(text: &str) -> [u8; 32] {
    let mut file: Table = toml::from_str(text).unwrap_or_default();
    file.retain(|section, _| !OWN.contains(&section));
    if let Some(Value::Table(vips)) = file.get_mut("vip") {
        for vip in vips.iter_mut().filter_map(|(_, vip)| vip.as_table_mut()) {
            vip.retain(|key, _| OF_VIP.contains(&key));
        }
    }
    // Its tables are sorted, and nothing in them cannot be written.
    Sha256::digest(serde_json::to_vec(&file).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[node]\nname = \"a\"\n[pool.web]\nendpoints = [\"10.0.0.1:80\"]\nbalance = \"least_connections\"\n\
                        [vip.public]\ninterface = \"eth0\"\nrouter_id = 51\naddresses = [\"10.0.0.9/24\"]\npriority = 250\n";

    #[test]
    fn what_each_node_has_of_its_own_does_not_count_and_the_rest_does() {
        let sum_with = |from: &str, to: &str| {
            assert!(FILE.contains(from), "{from}");
            sum(&FILE.replace(from, to))
        };
        for (from, to) in [
            ("name = \"a\"", "name = \"b\"\nworkers = 3"),
            ("[node]", "# words\n[history]\nsamples = \"9d\"\n[node]"),
            ("interface = \"eth0\"", "interface = \"ens3\""),
            ("priority = 250", "priority = 245\npreempt = false"),
            (
                "endpoints = [\"10.0.0.1:80\"]\nbalance = \"least_connections\"",
                "balance  =  'least_connections'\nendpoints = [ \"10.0.0.1:80\", ]",
            ),
        ] {
            assert_eq!(sum_with(from, to), sum(FILE), "{to}");
        }
        for (from, to) in [
            ("10.0.0.1:80", "10.0.0.2:80"),
            ("10.0.0.9/24", "10.0.0.10/24"),
            ("router_id = 51", "router_id = 52"),
            ("[pool.web]", "[pool.api]\n[pool.web]"),
        ] {
            assert_ne!(sum_with(from, to), sum(FILE), "{to}");
        }
    }
}
