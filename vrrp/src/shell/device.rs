//! Where the addresses live.
//!
//! | mode | address on | who answers ARP and solicitations | after a kill -9 |
//! |---|---|---|---|
//! | tun | one TUN device of the process | the kernel for IPv4, with the interface's MAC; we for IPv6 and wherever `arp_ignore` keeps the kernel quiet | the kernel removes the device |
//! | macvlan | the same TUN device; a macvlan takes the frames to the virtual MAC | we, with the virtual MAC | the same; the macvlan stays behind, silent and without an address, and the guardian or the next start removes it |
//! | interface | the interface, with a lifetime of two seconds that is kept fresh | the kernel | the guardian removes it at once, else the kernel after two seconds |
//!
//! A macvlan that itself ends with the process would need a network namespace of its own, that is `CAP_SYS_ADMIN`; this way
//! `CAP_NET_ADMIN` is enough.
//!
//! A link-local address is only reachable on the link it belongs to, so it never lives on the TUN device, but in the way of `interface`:
//! on the interface, or on the macvlan.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::netlink::{Requests, is_link_local};
use super::sys;

/// Pattern of the TUN device's name; the kernel puts a number in.
const TUN_PATTERN: &str = "weir-vip%d";

/// How long an address on an interface lives, in seconds, unless kept fresh: the kernel looks once a second.
pub(crate) const LIFETIME_S: u32 = 2;

/// How often it is kept fresh.
pub(crate) const KEEP_FRESH: Duration = Duration::from_millis(500);

/// What the aliases of our links begin with.
pub(crate) const ALIAS: &str = "weir virtual router";

/// How a virtual router's addresses are held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// On a TUN device that the kernel removes with the process; the interface answers with its own MAC.
    Tun,
    /// The same, with the virtual MAC of RFC 9568 section 7.3.
    Macvlan,
    /// On the interface itself, with a short lifetime that is kept fresh.
    Interface,
    /// Nowhere: packets to the addresses are not accepted (RFC 9568 section 6.1, Accept_Mode is false). We answer for them.
    Nowhere,
}

impl Mode {
    /// The word used in the file and the API.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Tun => "tun",
            Mode::Macvlan => "macvlan",
            Mode::Interface => "interface",
            Mode::Nowhere => "nowhere",
        }
    }
}

/// The TUN device of this process.
#[derive(Debug)]
pub(crate) struct Tun {
    pub(crate) ifindex: u32,
    /// Its life. Packets that are routed into it are never read; the kernel drops them when its queue is full.
    _fd: OwnedFd,
}

impl Tun {
    /// Makes it and sets it up.
    pub(crate) fn make(requests: &mut Requests) -> std::io::Result<Tun> {
        let (fd, name) = sys::tun(TUN_PATTERN)?;
        let link = requests.links()?.into_iter().find(|link| link.name == name).ok_or(std::io::ErrorKind::NotFound)?;
        requests.no_own_addresses(link.index)?;
        requests.set_alias(link.index, "weir virtual IPs")?;
        requests.set_up(link.index, true)?;
        Ok(Tun { ifindex: link.index, _fd: fd })
    }
}

/// One address in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) ifindex: u32,
    pub(crate) prefix_len: u8,
    pub(crate) lifetime: Option<u32>,
}

/// Where an address of a router goes. `own` is the link that stands in for the interface: the macvlan, or the interface itself. `None`:
/// nowhere.
pub(crate) fn place(mode: Mode, address: IpAddr, prefix_len: u8, tun: Option<u32>, own: u32) -> Option<Place> {
    let host = if address.is_ipv4() { 32 } else { 128 };
    let link_local = matches!(address, IpAddr::V6(address) if is_link_local(address));
    match (mode, tun) {
        (Mode::Nowhere, _) => None,
        (Mode::Tun | Mode::Macvlan, Some(ifindex)) if !link_local => Some(Place { ifindex, prefix_len: host, lifetime: None }),
        (Mode::Tun | Mode::Macvlan, _) => Some(Place { ifindex: own, prefix_len: host, lifetime: Some(LIFETIME_S) }),
        (Mode::Interface, _) => Some(Place { ifindex: own, prefix_len, lifetime: Some(LIFETIME_S) }),
    }
}

/// Whether we answer ARP requests and solicitations for an address ourselves, or the kernel alone does.
pub(crate) fn answers(mode: Mode, address: IpAddr) -> bool {
    match (mode, address) {
        (Mode::Interface, _) => false,
        (Mode::Nowhere | Mode::Macvlan, IpAddr::V4(_)) => true,
        // The kernel does too, unless arp_ignore forbids it; both say the same.
        (Mode::Tun, IpAddr::V4(_)) => true,
        (Mode::Tun, IpAddr::V6(address)) => !is_link_local(address),
        (Mode::Macvlan, IpAddr::V6(address)) => !is_link_local(address),
        (Mode::Nowhere, IpAddr::V6(_)) => true,
    }
}

/// The name of a router's macvlan: family, number and parent make it unique, and it fits into 15 characters.
pub(crate) fn macvlan_name(v4: bool, vrid: u8, parent: u32) -> String {
    format!("vr{}-{vrid}-{}", if v4 { 4 } else { 6 }, radix36(parent))
}

fn radix36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).expect("below 36"));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_places() {
        let (v4, v6, local): (IpAddr, IpAddr, IpAddr) =
            ("10.0.0.100".parse().unwrap(), "fd00::100".parse().unwrap(), "fe80::100".parse().unwrap());
        let tun = Some(7);
        let at = |ifindex, prefix_len, lifetime| Some(Place { ifindex, prefix_len, lifetime });
        for (mode, address, expected, answered) in [
            (Mode::Tun, v4, at(7, 32, None), true),
            (Mode::Tun, v6, at(7, 128, None), true),
            (Mode::Tun, local, at(2, 128, Some(LIFETIME_S)), false),
            (Mode::Macvlan, v4, at(7, 32, None), true),
            (Mode::Macvlan, local, at(2, 128, Some(LIFETIME_S)), false),
            (Mode::Interface, v4, at(2, 24, Some(LIFETIME_S)), false),
            (Mode::Interface, v6, at(2, 24, Some(LIFETIME_S)), false),
            (Mode::Nowhere, v4, None, true),
            (Mode::Nowhere, local, None, true),
        ] {
            assert_eq!(place(mode, address, 24, tun, 2), expected, "{mode:?} {address}");
            assert_eq!(answers(mode, address), answered, "{mode:?} {address}");
        }
    }

    #[test]
    fn names_fit() {
        assert_eq!(macvlan_name(true, 51, 2), "vr4-51-2");
        assert!(macvlan_name(false, 255, u32::MAX >> 1).len() <= 15);
    }
}
