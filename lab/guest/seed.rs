//! Reads a NoCloud seed: `meta-data`, `user-data` and `network-config` (version 1 or 2) of one interface.
//!
//! Not a YAML parser: the files are read line by line, which is enough for what is written one key a line. Values become shell assignments, so
//! only letters, digits and a few marks are admitted.

use std::fs;
use std::path::Path;

/// What the start-up script is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seed {
    hostname: Option<String>,
    instance_id: Option<String>,
    address: Option<String>,
    gateway: Option<String>,
    /// A user-data file that is a script, to be run at the first boot.
    script: Option<String>,
}

impl Seed {
    /// One `name=value` a line; only what the seed says.
    pub(crate) fn assignments(&self) -> String {
        let network = self.address.as_ref().map(|_| "static".to_owned());
        [
            ("hostname", &self.hostname),
            ("instance_id", &self.instance_id),
            ("network", &network),
            ("address", &self.address),
            ("gateway", &self.gateway),
            ("script", &self.script),
        ]
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}\n", value.as_ref()?)))
        .collect()
    }
}

/// The seed in a folder; a file that is missing says nothing.
pub(crate) fn read(folder: &Path) -> Seed {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut seed = parse(&text("meta-data"), &text("user-data"), &text("network-config"));
    if text("user-data").starts_with("#!") {
        seed.script = plain(&folder.join("user-data").display().to_string());
    }
    seed
}

fn parse(meta: &str, user: &str, network: &str) -> Seed {
    let mut seed = Seed { instance_id: value(meta, "instance-id"), hostname: value(meta, "local-hostname"), ..Seed::default() };
    // As cloud-init has it, the user's word goes before the platform's.
    if user.starts_with("#cloud-config")
        && let Some(hostname) = value(user, "hostname")
    {
        seed.hostname = Some(hostname);
    }
    // Both versions of the file: `addresses: [A/N]`, `addresses:` with `- A/N` below it, and `address: A/N` or `address: A` with `netmask: M`.
    let found = value(network, "addresses").or_else(|| below(network, "addresses")).or_else(|| value(network, "address"));
    seed.address = found.and_then(|address| with_prefix(&address, value(network, "netmask").as_deref()));
    seed.gateway = value(network, "gateway4").or_else(|| value(network, "gateway")).or_else(|| value(network, "via"));
    seed
}

/// The scalar, or the first element of the flow list, that the first line with this key holds.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let found = line.trim_start().trim_start_matches("- ").trim_start().strip_prefix(key)?.trim_start().strip_prefix(':')?;
        let found = found.split(" #").next()?.trim().trim_start_matches('[').split([',', ']']).next()?;
        plain(found)
    })
}

/// The first list element under the line with this key.
fn below(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != format!("{key}:")).skip(1);
    plain(lines.next()?.trim_start().strip_prefix("- ")?)
}

/// The value without quotes, if it holds only what needs none.
fn plain(value: &str) -> Option<String> {
    let value = value.trim().trim_matches(['"', '\'']);
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    (!value.is_empty() && value.len() <= 255 && value.chars().all(harmless)).then(|| value.to_owned())
}

/// `A/N` from `A/N`, or from `A` and a netmask.
fn with_prefix(address: &str, netmask: Option<&str>) -> Option<String> {
    let (address, prefix) = match address.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse().ok()?),
        None => (address, u32::from(netmask?.parse::<std::net::Ipv4Addr>().ok()?).leading_ones()),
    };
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    (prefix <= 32).then(|| format!("{address}/{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(meta: &str, user: &str, network: &str, expected: &str) {
        assert_eq!(parse(meta, user, network).assignments(), expected, "{meta:?} {user:?} {network:?}");
    }

    #[test]
    fn seeds_become_assignments() {
        check("", "", "", "");
        check("instance-id: i-1\nlocal-hostname: web-1\n", "", "", "hostname=web-1\ninstance_id=i-1\n");
        check("local-hostname: \"web-1\" # name\n", "#cloud-config\nhostname: other\n", "", "hostname=other\n");
        check("local-hostname: a\n", "no config\nhostname: other\n", "", "hostname=a\n");
        let second = "version: 2\nethernets:\n  id0:\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    addresses: [10.0.0.5/24]\n    gateway4: 10.0.0.1\n";
        check("", "", second, "network=static\naddress=10.0.0.5/24\ngateway=10.0.0.1\n");
        let list = "version: 2\nethernets:\n  eth0:\n    addresses:\n      - 10.0.0.5/24\n    routes:\n      - to: default\n        via: 10.0.0.1\n";
        check("", "", list, "network=static\naddress=10.0.0.5/24\ngateway=10.0.0.1\n");
        let first = "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: static\n        address: 10.0.0.5\n        netmask: 255.255.255.0\n        gateway: 10.0.0.1\n";
        check("", "", first, "network=static\naddress=10.0.0.5/24\ngateway=10.0.0.1\n");
        check("", "", "version: 2\nethernets:\n  eth0:\n    dhcp4: true\n", "");
    }

    #[test]
    fn nothing_that_a_shell_would_run_gets_through() {
        for wrong in ["$(reboot)", "a;b", "`x`", "a b", "a'b", "é"] {
            check(&format!("local-hostname: {wrong}\n"), "", "", "");
        }
        check("", "", "address: 10.0.0.300/24\n", "");
        check("", "", "address: 10.0.0.3/33\n", "");
        check("", "", "address: 10.0.0.3\n", "");
    }
}
