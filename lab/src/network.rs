//! One switch, and everybody's cable into it.
//!
//! ```text
//!  machine ── wl-TOKEN ─┐                ┌─ eth0 ─ lan0 (libvirt's bridge) ── guests      namespace of a host
//!                       ├── sw (bridge) ─┤
//!      node ── eth0 ────┘                └─ eth0 ─ ...                                    the next host
//! ```
//!
//! The switch has a namespace of its own, so that its ports can be called `p-NAME` in every lab. All addresses are in the lab's /22.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::LabError;
use crate::command::{run, words};
use crate::record::Record;

/// The switch, as a member of the lab beside hosts and nodes.
pub(crate) const SWITCH: &str = "switch";
/// The machine's own port in the switch.
const ROOT: &str = "root";

/// The addresses of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    base: u32,
}

impl Addresses {
    /// Length of the prefix that all have.
    pub const PREFIX: u8 = 22;
    /// Addresses that each host gives out by DHCP.
    pub const LEASES: u8 = 63;
    /// Hosts that have room for their leases.
    pub(crate) const HOSTS: usize = 12;
    /// Nodes that have room between the hosts and what is free.
    pub(crate) const NODES: usize = 40;
    /// See [`Self::free`].
    pub const FREE: u8 = 80;

    pub(crate) fn of_slot(slot: u8) -> Self {
        Self { base: u32::from(Ipv4Addr::new(10, 213, slot * 4, 0)) }
    }

    fn at(self, offset: usize) -> Ipv4Addr {
        Ipv4Addr::from(self.base + u32::try_from(offset).expect("an offset inside a /22"))
    }

    pub(crate) fn host(self, index: usize) -> Ipv4Addr {
        self.at(1 + index)
    }

    /// An address that nobody has and DHCP does not give out, for a VIP or a guest with a static address; `index` is below [`Self::FREE`].
    pub fn free(self, index: u8) -> Ipv4Addr {
        assert!(index < Self::FREE, "there are {} free addresses", Self::FREE);
        self.at(20 + usize::from(index))
    }

    pub(crate) fn node(self, index: usize) -> Ipv4Addr {
        self.at(101 + index)
    }

    /// The machine's own address on the switch.
    pub fn root(self) -> Ipv4Addr {
        self.at(254)
    }

    /// First and last address that a host gives out by DHCP.
    pub(crate) fn leases(self, index: usize) -> (Ipv4Addr, Ipv4Addr) {
        let first = 256 + index * 64;
        (self.at(first), self.at(first + usize::from(Self::LEASES) - 1))
    }
}

/// Runs `ip` with many lines at once in a namespace.
pub(crate) fn ip(namespace: &str, lines: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-batch", "-"]);
    feed(command, lines)
}

fn feed(mut command: Command, input: &str) -> Result<(), LabError> {
    let line = crate::command::line(&command);
    let failed = |reason: String| LabError::Command { command: format!("{line} <<< {}", input.trim()), reason };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    // The inputs are shorter than a pipe holds, so this cannot wait for a reader.
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(failed(said)) }
}

/// Makes the switch, with the machine's own cable into it.
pub(crate) fn make_switch(record: &Record) -> Result<(), LabError> {
    let (switch, link) = (record.namespace(SWITCH), record.root_link());
    run(&mut words(&format!("ip netns add {switch}")))?;
    // No snooping: a querier that nobody answers would cut off the multicast of VRRP over IPv6.
    ip(&switch, "link set lo up\nlink add sw type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set sw up\n")?;
    run(&mut words(&format!("ip link add {link} type veth peer name p-{ROOT} netns {switch}")))?;
    ip(&switch, &format!("link set p-{ROOT} master sw up\n"))?;
    let address = Addresses::of_slot(record.slot).root();
    run(&mut words(&format!("ip address add {address}/{} dev {link}", Addresses::PREFIX)))?;
    run(&mut words(&format!("ip link set {link} up")))?;
    run(&mut words(&format!("ip {}", impatient(&link)))).map(drop)
}

/// Makes the namespace of a member, with a cable into the switch: `eth0`.
pub(crate) fn make_member(record: &Record, member: &str) -> Result<(), LabError> {
    let (switch, namespace) = (record.namespace(SWITCH), record.namespace(member));
    run(&mut words(&format!("ip netns add {namespace}")))?;
    ip(&switch, &format!("link add p-{member} type veth peer name eth0 netns {namespace}\nlink set p-{member} master sw up\n"))?;
    ip(&namespace, &format!("link set lo up\nlink set eth0 up\n{}\n", impatient("eth0")))
}

/// Who asks for a guest that still boots asks again soon, and not after a second: a test would measure that second.
fn impatient(link: &str) -> String {
    format!("ntable change name arp_cache dev {link} retrans 100")
}

/// Loads a complete ruleset for the lab's table in a namespace.
pub(crate) fn nft(namespace: &str, ruleset: &str) -> Result<(), LabError> {
    let mut command = inside(namespace, "nft");
    command.args(["-f", "-"]);
    feed(command, ruleset)
}

/// A program in a network namespace and nothing else changed.
pub(crate) fn inside(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

/// Whether a namespace of this name exists.
pub(crate) fn exists(namespace: &str) -> bool {
    std::path::Path::new("/run/netns").join(namespace).exists()
}

/// Takes a namespace away, with all who live in it.
pub(crate) fn remove(namespace: &str) -> Result<(), LabError> {
    if !exists(namespace) {
        return Ok(());
    }
    if let Some(found) = crate::process::Namespace::at(format!("/run/netns/{namespace}")) {
        found.clear("net");
    }
    run(&mut words(&format!("ip netns delete {namespace}"))).map(drop)
}

/// Takes the machine's own cable away.
pub(crate) fn remove_root_link(record: &Record) -> Result<(), LabError> {
    let link = record.root_link();
    if std::path::Path::new("/sys/class/net").join(&link).exists() {
        let removed = run(&mut words(&format!("ip link delete {link}")));
        // It goes by itself once the switch's end is gone, perhaps at this moment.
        if std::path::Path::new("/sys/class/net").join(&link).exists() {
            removed?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_ranges_do_not_meet() {
        let addresses = Addresses::of_slot(63);
        assert_eq!(addresses.root(), Ipv4Addr::new(10, 213, 252, 254));
        let mut all: Vec<Ipv4Addr> = (0..Addresses::HOSTS).map(|index| addresses.host(index)).collect();
        all.extend((0..Addresses::NODES).map(|index| addresses.node(index)));
        all.extend((0..Addresses::FREE).map(|index| addresses.free(index)));
        all.push(addresses.root());
        for index in 0..Addresses::HOSTS {
            let (first, last) = addresses.leases(index);
            all.extend((u32::from(first)..=u32::from(last)).map(Ipv4Addr::from));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|address| address.octets()[2] >= 252), "inside the /22");
        assert!(!all.contains(&Ipv4Addr::new(10, 213, 255, 255)), "not the broadcast address");
    }
}
