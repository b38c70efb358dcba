//! A `[vip.NAME]` of the file as the virtual routers that it means.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use weir_config::{Config, Vip, VipAddress, VipChecksum, VrrpVersion};
use weir_vrrp::machine::{self, Announcements, UnicastPeer, VirtualAddress};
use weir_vrrp::packet::{AdvertisementInterval, ChecksumForm, Family, Keys, Priority, SharedSum, Version, Vrid};
use weir_vrrp::shell::RouterSpec;

/// The largest key file that is read.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// All virtual routers of the file, in the order of its names, IPv4 before IPv6.
///
/// # Errors
/// A key file cannot be read; with its path and what to do.
pub(crate) fn specs(config: &Config) -> Result<Vec<RouterSpec>, String> {
    let mut specs: Vec<RouterSpec> = Vec::new();
    let mut groups: BTreeMap<Arc<str>, ()> = BTreeMap::new();
    for vip in config.vips.values() {
        let keys = vip.auth.as_ref().map(|auth| read_keys(&auth.key_file)).transpose()?.map(Arc::new);
        for family in [Family::V4, Family::V6] {
            let Some(addresses) = addresses(vip, family) else { continue };
            let group = group(vip);
            // The first of a group elects, the others do as it does.
            let follower = group.as_ref().is_some_and(|group| groups.insert(group.clone(), ()).is_some());
            let mut spec = RouterSpec { group, ..spec(vip, family, addresses, keys.clone(), follower) };
            spec.config.shared = Some(SharedSum::of(&config.shared_sum));
            specs.push(spec);
        }
    }
    Ok(specs)
}

/// Whom its routers are master together with: its sync group, else its other family.
fn group(vip: &Vip) -> Option<Arc<str>> {
    let has = |is_ipv4| vip.addresses.iter().any(|address| address.ip.is_ipv4() == is_ipv4);
    match &vip.sync_group {
        Some(group) => Some(format!("group {group}").into()),
        None if has(true) && has(false) => Some(format!("vip {}", vip.name).into()),
        None => None,
    }
}

/// The addresses of one family; `None`: there are none.
fn addresses(vip: &Vip, family: Family) -> Option<Vec<VirtualAddress>> {
    let of_family = vip.addresses.iter().filter(|address| Family::of(address.ip) == family);
    let mut addresses: Vec<VirtualAddress> =
        of_family.map(|VipAddress { ip, prefix }| VirtualAddress { address: *ip, prefix_len: *prefix }).collect();
    if addresses.is_empty() {
        return None;
    }
    if family == Family::V6 {
        // RFC 9568 section 5.2.9: the first one is the virtual router's link-local address.
        match addresses.iter().position(|known| is_link_local(known.address)) {
            Some(at) => addresses[..=at].rotate_right(1),
            None => addresses.insert(0, VirtualAddress { address: link_local(vip.router_id.get()), prefix_len: 64 }),
        }
    }
    Some(addresses)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The same on all nodes without being asked for. Not made of the virtual MAC (RFC 9568 section 7.4).
fn link_local(router_id: u8) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x7765, 0x6972, 0, u16::from(router_id)).into()
}

fn spec(vip: &Vip, family: Family, addresses: Vec<VirtualAddress>, keys: Option<Arc<Keys>>, follower: bool) -> RouterSpec {
    let version = match vip.version {
        VrrpVersion::V2 => Version::V2,
        VrrpVersion::V3 => Version::V3,
    };
    let peers = vip.peers.iter().filter(|peer| Family::of(peer.address) == family);
    RouterSpec {
        config: machine::Config {
            name: vip.name.0.clone(),
            interface: vip.interface.as_str().into(),
            vrid: Vrid::new(vip.router_id.get()).expect("it is not zero"),
            family,
            version,
            priority: Priority(vip.priority.get()),
            interval: AdvertisementInterval::from_duration(vip.advertisement_interval, version).expect("the file's check knows the limits"),
            addresses,
            preempt: vip.preempt,
            preempt_delay: vip.preempt_delay,
            startup_delay: vip.startup_delay,
            checksum: match vip.checksum {
                VipChecksum::PseudoHeader => ChecksumForm::PseudoHeader,
                VipChecksum::Rfc9568 => ChecksumForm::Rfc9568,
            },
            keys,
            peers: peers.map(|peer| UnicastPeer { address: peer.address, ttl: (peer.ttl_min, u8::MAX) }).collect(),
            replay_window: vip.auth.as_ref().map_or(std::time::Duration::ZERO, |auth| auth.replay_window),
            announce: Announcements {
                count: vip.announce.count.get(),
                interval: vip.announce.interval,
                repeat: vip.announce.repeat,
                refresh: vip.announce.refresh,
            },
            follower,
            shared: None,
        },
        mode: vip.mode,
        accept: vip.accept,
        source: vip.source,
        group: None,
    }
}

fn read_keys(path: &Path) -> Result<Keys, String> {
    let text = read_text(path).map_err(|error| format!("cannot read the key file {}: {error}", path.display()))?;
    Keys::parse(&text).map_err(|error| format!("key file {}: {error}", path.display()))
}

fn read_text(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs_of(text: &str) -> Vec<RouterSpec> {
        specs(&weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)))).unwrap()
    }

    const HEAD: &str = "interface = \"eth0\"\nrouter_id = 51\n";

    #[test]
    fn a_family_is_a_router_and_both_go_together() {
        let found = specs_of(&format!("[vip.a]\n{HEAD}addresses = [\"2001:db8::100/64\", \"10.0.0.100/24\"]\n"));
        let shown: Vec<_> = found.iter().map(|spec| (spec.config.family, spec.config.follower, spec.group.as_deref())).collect();
        assert_eq!(shown, [(Family::V4, false, Some("vip a")), (Family::V6, true, Some("vip a"))]);
        let six: Vec<String> = found[1].config.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(six, ["fe80::7765:6972:0:33/64", "2001:db8::100/64"]);
        assert_eq!(specs_of(&format!("[vip.a]\n{HEAD}addresses = [\"10.0.0.100/24\"]\n"))[0].group, None);
    }

    #[test]
    fn a_link_local_address_of_the_file_comes_first() {
        let found = specs_of(&format!("[vip.a]\n{HEAD}addresses = [\"2001:db8::100/64\", \"2001:db8::101/64\", \"fe80::5/64\"]\n"));
        let six: Vec<String> = found[0].config.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(six, ["fe80::5/64", "2001:db8::100/64", "2001:db8::101/64"]);
    }

    #[test]
    fn peers_and_groups() {
        let a = format!(
            "[vip.a]\n{HEAD}addresses = [\"10.0.0.100/24\"]\nsync_group = \"edge\"\npeers = [{{ address = \"10.0.0.3\", ttl_min = 254 }}]\n"
        );
        let b = "[vip.b]\ninterface = \"eth1\"\nrouter_id = 51\naddresses = [\"10.1.0.100/24\"]\nsync_group = \"edge\"\n";
        let found = specs_of(&format!("{b}{a}"));
        let shown: Vec<_> = found.iter().map(|spec| (&*spec.config.name, spec.config.follower, spec.group.as_deref())).collect();
        assert_eq!(shown, [("a", false, Some("group edge")), ("b", true, Some("group edge"))]);
        assert_eq!(found[0].config.peers, [UnicastPeer { address: "10.0.0.3".parse().unwrap(), ttl: (254, 255) }]);
    }

    #[test]
    fn delays_are_passed_on() {
        let found =
            specs_of(&format!("[vip.a]\n{HEAD}addresses = [\"10.0.0.100/24\"]\nstartup_delay = \"20s\"\npreempt_delay = \"30s\"\n"));
        let config = &found[0].config;
        assert_eq!((config.startup_delay.as_secs(), config.preempt_delay.as_secs()), (20, 30));
    }

    #[test]
    fn a_key_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let text = format!("[vip.a]\n{HEAD}addresses = [\"10.0.0.100/24\"]\nauth = {{ key_file = {path:?} }}\n");
        let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        assert!(specs(&config).unwrap_err().starts_with("cannot read the key file /"));
        std::fs::write(&path, "1 abc").unwrap();
        let error = specs(&config).unwrap_err();
        assert!(error.contains("line 1") && !error.contains("abc"), "{error}");
        std::fs::write(&path, format!("1 {}", "0f".repeat(32))).unwrap();
        assert!(specs(&config).unwrap()[0].config.keys.is_some());
    }
}
