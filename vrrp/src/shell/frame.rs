//! Whole frames: Ethernet and IP around a VRRP message, and the announcements of an address (RFC 826, RFC 4861). Bytes only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::sys::{ETH_ARP, ETH_IPV4, ETH_IPV6};
use crate::packet::PROTOCOL;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Class selector 6, "internetwork control", in the byte of the differentiated services.
const TRAFFIC_CLASS: u8 = 0xc0;

const BROADCAST: Mac = [0xff; 6];

/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What arrived: the ends, the time to live and the message behind an IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) payload: &'a [u8],
    /// The sender's hardware address.
    pub(crate) mac: Mac,
}

/// Where a group's packets go (RFC 1112 section 6.4, RFC 2464 section 7).
pub(crate) fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let low = group.octets();
            [0x33, 0x33, low[12], low[13], low[14], low[15]]
        }
    }
}

/// The group in which the neighbours ask for an address (RFC 4291 section 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(low[13]), u16::from_be_bytes([low[14], low[15]]))
}

fn ethernet(frame: &mut Vec<u8>, destination: Mac, source: Mac, ethertype: u16) {
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
}

/// Writes a VRRP message to a group as a whole frame into `frame`, whose memory is used again.
pub(crate) fn multicast(frame: &mut Vec<u8>, source_mac: Mac, source: IpAddr, group: IpAddr, ttl: u8, message: &[u8]) {
    frame.clear();
    match (source, group) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            ethernet(frame, group_mac(group), source_mac, ETH_IPV4);
            ipv4(frame, source, to, ttl, message);
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            ethernet(frame, group_mac(group), source_mac, ETH_IPV6);
            ipv6(frame, source, to, ttl, PROTOCOL, TRAFFIC_CLASS, message);
        }
        _ => debug_assert!(false, "both ends are of the router's family"),
    }
}

fn ipv4(frame: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, message: &[u8]) {
    let start = frame.len();
    let length = (20 + message.len()) as u16;
    frame.extend_from_slice(&[0x45, TRAFFIC_CLASS]);
    frame.extend_from_slice(&length.to_be_bytes());
    // No fragment, and never to be made one: then the identification means nothing (RFC 6864 section 4.1).
    frame.extend_from_slice(&[0, 0, 0x40, 0, ttl, PROTOCOL, 0, 0]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    let sum = checksum(&[&frame[start..]]);
    frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(message);
}

fn ipv6(frame: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, hops: u8, next: u8, class: u8, message: &[u8]) {
    frame.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0]);
    frame.extend_from_slice(&(message.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[next, hops]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(message);
}

/// RFC 1071, over the parts as if they were one; each but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Gratuitous ARP: a request in which the sender asks for its own address, to everybody (RFC 9568 section 6.4.1; RFC 5227 section 3).
pub(crate) fn gratuitous_arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    arp(BROADCAST, mac, 1, (mac, address), ([0; 6], address))
}

/// The answer to a request for `address`.
pub(crate) fn arp_reply(address: Ipv4Addr, mac: Mac, asker: (Mac, Ipv4Addr)) -> Vec<u8> {
    arp(asker.0, mac, 2, (mac, address), asker)
}

fn arp(to: Mac, from: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    ethernet(&mut frame, to, from, ETH_ARP);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&address.octets());
    }
    frame.resize(60, 0);
    frame
}

/// Unsolicited neighbour advertisement to all nodes: router and override set, solicited not, with the hardware address (RFC 9568 section
/// 6.4.1, RFC 4861 section 4.4).
pub(crate) fn unsolicited_advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    advertisement(address, mac, address, ALL_NODES, group_mac(ALL_NODES.into()), 0xa0)
}

/// The answer to a solicitation for `address`. Whoever asks without an address of its own is answered through all nodes (RFC 4861 section
/// 7.2.4).
pub(crate) fn solicited_advertisement(address: Ipv6Addr, mac: Mac, asker: (Mac, Ipv6Addr)) -> Vec<u8> {
    if asker.1.is_unspecified() {
        return unsolicited_advertisement(address, mac);
    }
    advertisement(address, mac, address, asker.1, asker.0, 0xe0)
}

fn advertisement(target: Ipv6Addr, mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, to: Mac, flags: u8) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&[136, 0, 0, 0, flags, 0, 0, 0]);
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
    let sum = checksum(&[&source.octets(), &destination.octets(), &pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(14 + 40 + message.len());
    ethernet(&mut frame, to, mac, ETH_IPV6);
    ipv6(&mut frame, source, destination, 255, 58, 0, &message);
    frame
}

/// Takes a frame of protocol 112 apart. `None` for what is no whole packet of it: fragments, lengths that lie. Padding behind the packet
/// is left out, options in front of the message are stepped over.
pub(crate) fn dissect(frame: &[u8]) -> Option<Received<'_>> {
    let mac = *frame.get(6..)?.first_chunk()?;
    let packet = frame.get(14..)?;
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ETH_IPV4 => {
            let header = packet.first_chunk::<20>()?;
            let words = usize::from(header[0] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
            if header[0] >> 4 != 4 || words < 20 || total < words || fragment != 0 || header[9] != PROTOCOL {
                return None;
            }
            // A packet socket sees it before the kernel does: what IP would refuse must be refused here.
            if checksum(&[packet.get(..words)?]) != 0 {
                return None;
            }
            let source = Ipv4Addr::from(*header[12..].first_chunk::<4>()?).into();
            let destination = Ipv4Addr::from(*header[16..].first_chunk::<4>()?).into();
            Some(Received { source, destination, ttl: header[8], payload: packet.get(words..total)?, mac })
        }
        ETH_IPV6 => {
            let header = packet.first_chunk::<40>()?;
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[0] >> 4 != 6 || header[6] != PROTOCOL {
                return None;
            }
            let source = Ipv6Addr::from(*header[8..].first_chunk::<16>()?).into();
            let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>()?).into();
            Some(Received { source, destination, ttl: header[7], payload: packet.get(40..40 + length)?, mac })
        }
        _ => None,
    }
}

/// Who asks for which address: an ARP request.
pub(crate) fn arp_request(frame: &[u8]) -> Option<((Mac, Ipv4Addr), Ipv4Addr)> {
    let body = frame.get(14..)?.first_chunk::<28>()?;
    if frame[12..14] != ETH_ARP.to_be_bytes() || body[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return None;
    }
    let asker = (*body[8..].first_chunk()?, Ipv4Addr::from(*body[14..].first_chunk::<4>()?));
    Some((asker, Ipv4Addr::from(*body[24..].first_chunk::<4>()?)))
}

/// Who asks for which address: a neighbour solicitation that passes the checks of RFC 4861 section 7.1.1.
pub(crate) fn solicitation(frame: &[u8]) -> Option<((Mac, Ipv6Addr), Ipv6Addr)> {
    let packet = frame.get(14..)?;
    let header = packet.first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = packet.get(40..40 + length)?;
    if frame[12..14] != ETH_IPV6.to_be_bytes() || header[6] != 58 || header[7] != 255 || length < 24 || message[..2] != [135, 0] {
        return None;
    }
    let pseudo = [0, 0, header[4], header[5], 0, 0, 0, 58];
    if checksum(&[&header[8..40], &pseudo, message]) != 0 {
        return None;
    }
    let asker = (*frame[6..].first_chunk()?, Ipv6Addr::from(*header[8..].first_chunk::<16>()?));
    Some((asker, Ipv6Addr::from(*message[8..].first_chunk::<16>()?)))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
