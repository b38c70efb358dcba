//! What the kernel knows of links and addresses: asked, changed and watched over rtnetlink.
//!
//! The messages are those of `netlink-packet-route`; the socket is our own, for the usual client of that crate wants an asynchronous
//! runtime, and this room's threads have none.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::frame::Mac;

/// Longest wait for an answer of the kernel. It answers within the call; only a lock that others hold makes it late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Room for one read: the kernel sends at most 32 KiB at once.
const BUFFER: usize = 64 * 1024;

/// Room in the kernel for news that were not read yet; virtual machines come and go with many of them.
const NEWS_BUFFER: usize = 1 << 20;

/// A link, as far as this room cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Up, with a carrier.
    pub(crate) running: bool,
    pub(crate) mac: Option<Mac>,
    pub(crate) alias: Option<String>,
    pub(crate) mtu: u32,
}

/// An address on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Address {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix_len: u8,
    /// An additional address of a network that has another one on this link.
    pub(crate) secondary: bool,
    /// Not to be used yet, or no more: duplicate address detection runs or has failed.
    pub(crate) unusable: bool,
}

/// Something changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone(Address),
    /// The kernel had to leave out news: ask for everything.
    Lost,
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(rustix::net::AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Asks and changes; each call waits for the kernel's answer.
#[derive(Debug)]
pub(crate) struct Requests {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(crate) fn open() -> io::Result<Requests> {
        let socket = open(0)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Requests { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::NOSIGNAL)?;
        loop {
            let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            for message in Messages(&self.buffer[..length]) {
                let message = message?;
                // An answer to a request that was given up on.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    _ => {}
                }
            }
        }
    }

    /// All links.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewLink(message) = message {
                links.extend(link(&message));
            }
        })?;
        Ok(links)
    }

    /// All addresses.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                addresses.extend(address(&message));
            }
        })?;
        Ok(addresses)
    }

    /// Adds an address, or gives it a new lifetime. No duplicate address detection, no route of its own. `lifetime` in seconds; `None`:
    /// for ever.
    /// The hardware address of a neighbour, where the kernel knows it.
    pub(crate) fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Mac>> {
        let mut found = None;
        self.request(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP, |message| {
            let RouteNetlinkMessage::NewNeighbour(message) = message else { return };
            let wanted = match address {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            };
            if message.header.ifindex != ifindex || !message.attributes.contains(&NeighbourAttribute::Destination(wanted)) {
                return;
            }
            found = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
                _ => None,
            });
        })?;
        Ok(found)
    }

    pub(crate) fn add_address(&mut self, ifindex: u32, address: IpAddr, prefix_len: u8, lifetime: Option<u32>) -> io::Result<()> {
        let mut message = address_message(ifindex, address, prefix_len);
        // A single address makes no route of a network; that flag on a TUN device's address would only hide it from tools.
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
        if let Some(lifetime) = lifetime {
            let mut cache = CacheInfo::default();
            cache.ifa_valid = lifetime;
            cache.ifa_preferred = lifetime;
            message.attributes.push(AddressAttribute::CacheInfo(cache));
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, |_| {})
    }

    /// Removes an address; it is no error if it is not there.
    pub(crate) fn remove_address(&mut self, ifindex: u32, address: IpAddr, prefix_len: u8) -> io::Result<()> {
        let message = address_message(ifindex, address, prefix_len);
        match self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK, |_| {}) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            other => other,
        }
    }

    /// Sets a link up or down.
    pub(crate) fn set_up(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    /// Has a link make no IPv6 address of its own accord.
    pub(crate) fn no_own_addresses(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(quiet_v6());
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    /// Gives a link an alias, by which an operator (and our next start) sees whose it is.
    pub(crate) fn set_alias(&mut self, ifindex: u32, alias: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::IfAlias(alias.into()));
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    /// Makes a macvlan of `parent` with the virtual router's hardware address; it stays down.
    pub(crate) fn add_macvlan(&mut self, parent: u32, name: &str, mac: Mac) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.push(LinkAttribute::Link(parent));
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        // Private: what the virtual router's address sends is not handed to its neighbours on this host behind the switch's back.
        let mode = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)]);
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(mode)]));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, |_| {})
    }

    /// Removes a link; it is no error if it is not there.
    pub(crate) fn remove_link(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        match self.request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK, |_| {}) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }
}

fn quiet_v6() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])])
}

fn address_message(ifindex: u32, address: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.index = ifindex;
    message.header.prefix_len = prefix_len;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        running: message.header.flags.contains(LinkFlags::Up) && message.header.flags.contains(LinkFlags::LowerUp),
        mac: None,
        alias: None,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    // Bridges send news of their ports in a family of their own, without a name.
    (!link.name.is_empty() && message.header.interface_family != AddressFamily::Bridge).then_some(link)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut found = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            // With a point-to-point link, `Address` is the far end.
            AddressAttribute::Local(address) => found.0 = Some(*address),
            AddressAttribute::Address(address) => found.1 = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Address {
        ifindex: message.header.index,
        address: found.0.or(found.1)?,
        prefix_len: message.header.prefix_len,
        secondary: flags.contains(AddressFlags::Secondary),
        unusable: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}

/// The messages of one read.
struct Messages<'a>(&'a [u8]);

impl Iterator for Messages<'_> {
    type Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
            if length < 16 || length > self.0.len() {
                self.0 = &[];
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's message has an impossible length")));
            }
            let (one, rest) = self.0.split_at(length);
            self.0 = rest.get(length.next_multiple_of(4) - length..).unwrap_or(&[]);
            match NetlinkMessage::deserialize(one) {
                Ok(message) => return Some(Ok(message)),
                // A kind of attribute or message that the crate does not know, or knows otherwise: not what we look for.
                Err(_) if u16::from_ne_bytes([one[4], one[5]]) >= 16 => {}
                Err(error) => return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))),
            }
        }
    }
}

/// Hears of every change of links and addresses.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Watch {
    pub(crate) fn open() -> io::Result<Watch> {
        let socket = open((libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32)?;
        set_socket_recv_buffer_size(&socket, NEWS_BUFFER)?;
        Ok(Watch { socket, buffer: vec![0; BUFFER] })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What came since; never waits. Empty: nothing more.
    pub(crate) fn read(&mut self) -> Vec<News> {
        let length = match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::NOBUFS) => return vec![News::Lost],
            Err(_) => return Vec::new(),
        };
        let news = Messages(&self.buffer[..length]).filter_map(|message| match message.ok()?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => link(&message).map(News::Link),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => link(&message).map(|link| News::LinkGone(link.index)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => address(&message).map(News::Address),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => address(&message).map(News::AddressGone),
            _ => None,
        });
        news.collect()
    }
}

/// The address that a link's packets come from: the primary IPv4 address, or the link-local IPv6 address, and never a virtual one
/// (RFC 9568 sections 5.1.1.1 and 5.1.2.1). Of several the kernel's first.
pub(crate) fn primary(addresses: &[Address], ifindex: u32, v4: bool, virtual_ones: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    addresses
        .iter()
        .filter(|address| address.ifindex == ifindex && !address.unusable && !virtual_ones.contains(&address.address))
        .filter(|address| match address.address {
            IpAddr::V4(_) => v4 && !address.secondary,
            IpAddr::V6(one) => !v4 && is_link_local(one),
        })
        .map(|address| address.address)
        .next()
}

/// fe80::/10 (RFC 4291 section 2.5.6).
pub(crate) fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ifindex: u32, address: &str, secondary: bool, unusable: bool) -> Address {
        Address { ifindex, address: address.parse().unwrap(), prefix_len: 24, secondary, unusable }
    }

    /// RFC 9568 sections 5.1.1.1, 5.1.2.1 and 7.2: never sent from a virtual address.
    #[test]
    fn primary_is_the_first_that_is_no_virtual_one() {
        let all = [
            at(1, "127.0.0.1", false, false),
            at(2, "10.0.0.100", false, false),
            at(2, "10.0.0.7", true, false),
            at(2, "10.0.0.5", false, false),
            at(2, "fd00::5", false, false),
            at(2, "fe80::4", false, true),
            at(2, "fe80::5", false, false),
        ];
        let virtual_ones = BTreeSet::from(["10.0.0.100".parse().unwrap()]);
        assert_eq!(primary(&all, 2, true, &virtual_ones), Some("10.0.0.5".parse().unwrap()));
        assert_eq!(primary(&all, 2, false, &virtual_ones), Some("fe80::5".parse().unwrap()));
        assert_eq!(primary(&all, 1, false, &virtual_ones), None);
    }

    #[test]
    fn the_kernel_tells_of_the_loopback() {
        let mut requests = Requests::open().unwrap();
        let links = requests.links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").expect("every namespace has one");
        let addresses = requests.addresses().unwrap();
        assert!(addresses.iter().all(|address| address.ifindex > 0));
        assert_eq!(loopback.index, 1);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        assert!(Messages(&[1, 0, 0, 0]).next().unwrap().is_err());
        assert!(Messages(&[255, 255, 255, 255, 0, 0]).next().unwrap().is_err());
        assert!(Messages(&[]).next().is_none());
        assert!(Messages(&[1, 2]).next().is_none());
    }
}
