//! The sockets of one interface: what is heard there, and which addresses are answered for.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use super::frame::{Mac, solicited_node};
use super::sys::{ETH_ARP, ETH_IPV4, ETH_IPV6};
use super::{filter, sys};
use crate::packet::{Family, GROUP_V4, GROUP_V6};

/// What a readable socket holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Vrrp,
    Arp,
    Solicitation,
}

/// Room for a frame: what is longer is no VRRP packet of a reasonable size, and is cut, which the decoder notices.
pub(crate) const FRAME_MAX: usize = 2048;

/// The sockets of one interface.
#[derive(Debug)]
pub(crate) struct Ears {
    ifindex: u32,
    /// VRRP of either family, and the membership in its group.
    vrrp: BTreeMap<Family, (Socket, Socket)>,
    arp: Option<Socket>,
    solicitations: Option<(Socket, Socket)>,
    /// For whom is answered, and with which hardware address.
    answers: BTreeMap<IpAddr, Mac>,
    joined: Vec<Ipv6Addr>,
}

fn membership(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::DGRAM, None)
}

impl Ears {
    pub(crate) fn new(ifindex: u32) -> Ears {
        Ears { ifindex, vrrp: BTreeMap::new(), arp: None, solicitations: None, answers: BTreeMap::new(), joined: Vec::new() }
    }

    /// Hears the VRRP packets of a family: to us, and with `group` to the group, for which the network is told that we listen.
    pub(crate) fn hear(&mut self, family: Family, group: bool) -> io::Result<bool> {
        if self.vrrp.contains_key(&family) {
            return Ok(false);
        }
        let (receiver, member) = match family {
            Family::V4 => {
                let member = membership(Domain::IPV4)?;
                if group {
                    member.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(self.ifindex))?;
                }
                (sys::packet_receiver(self.ifindex, ETH_IPV4, &filter::vrrp_v4())?, member)
            }
            Family::V6 => {
                let member = membership(Domain::IPV6)?;
                if group {
                    member.join_multicast_v6(&GROUP_V6, self.ifindex)?;
                }
                (sys::packet_receiver(self.ifindex, ETH_IPV6, &filter::vrrp_v6())?, member)
            }
        };
        self.vrrp.insert(family, (receiver, member));
        Ok(true)
    }

    /// From now on these are answered for, each with its hardware address, and no others. True if a socket came or went.
    pub(crate) fn answer_for(&mut self, answers: BTreeMap<IpAddr, Mac>) -> io::Result<bool> {
        if self.answers == answers {
            return Ok(false);
        }
        let v4: Vec<Ipv4Addr> =
            answers.keys().filter_map(|address| if let IpAddr::V4(one) = address { Some(*one) } else { None }).collect();
        let v6: Vec<Ipv6Addr> =
            answers.keys().filter_map(|address| if let IpAddr::V6(one) = address { Some(*one) } else { None }).collect();
        self.answers = answers;
        let changed = self.arp.is_none() != v4.is_empty() || self.solicitations.is_none() != v6.is_empty();
        match &self.arp {
            _ if v4.is_empty() => self.arp = None,
            Some(socket) => sys::attach(socket, &filter::arp_requests(&v4))?,
            None => self.arp = Some(sys::packet_receiver(self.ifindex, ETH_ARP, &filter::arp_requests(&v4))?),
        }
        match &self.solicitations {
            _ if v6.is_empty() => self.solicitations = None,
            Some((socket, _)) => sys::attach(socket, &filter::solicitations(&v6))?,
            None => {
                let socket = sys::packet_receiver(self.ifindex, ETH_IPV6, &filter::solicitations(&v6))?;
                self.solicitations = Some((socket, membership(Domain::IPV6)?));
                self.joined.clear();
            }
        }
        self.join(&v6)?;
        Ok(changed)
    }

    /// Neighbours ask in groups made of an address's last bytes (RFC 4291 section 2.7.1): those of our addresses, and no others.
    fn join(&mut self, addresses: &[Ipv6Addr]) -> io::Result<()> {
        let Some((_, member)) = &self.solicitations else {
            self.joined.clear();
            return Ok(());
        };
        let mut wanted: Vec<Ipv6Addr> = addresses.iter().map(|address| solicited_node(*address)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for group in self.joined.iter().filter(|group| !wanted.contains(group)) {
            // Fails only where the interface has left it already.
            let _ = member.leave_multicast_v6(group, self.ifindex);
        }
        for group in wanted.iter().filter(|group| !self.joined.contains(group)) {
            member.join_multicast_v6(group, self.ifindex)?;
        }
        self.joined = wanted;
        Ok(())
    }

    /// The hardware address with which an address is answered for.
    pub(crate) fn answer(&self, address: IpAddr) -> Option<Mac> {
        self.answers.get(&address).copied()
    }

    /// All sockets that hear something, for the poll set.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (Kind, &Socket)> {
        let vrrp = self.vrrp.values().map(|(receiver, _)| (Kind::Vrrp, receiver));
        let arp = self.arp.iter().map(|socket| (Kind::Arp, socket));
        let solicitations = self.solicitations.iter().map(|(socket, _)| (Kind::Solicitation, socket));
        vrrp.chain(arp).chain(solicitations)
    }
}

/// The next frame that waits; never waits itself.
pub(crate) fn receive<'a>(socket: &Socket, buffer: &'a mut [MaybeUninit<u8>; FRAME_MAX]) -> Option<&'a [u8]> {
    match rustix::net::recv(socket, buffer.as_mut_slice(), rustix::net::RecvFlags::DONTWAIT) {
        Ok(((frame, _), _)) => Some(frame),
        // An error of the link (it went down) is told by netlink.
        Err(_) => None,
    }
}
