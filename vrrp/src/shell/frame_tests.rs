//! Frames against the layouts of their RFCs, and what other hosts may send.

use super::*;

const MAC: Mac = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x33];

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn built(source: &str, group: &str, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 2, 3];
    multicast(&mut frame, MAC, source.parse().unwrap(), group.parse().unwrap(), 255, message);
    frame
}

#[test]
fn groups_have_their_hardware_addresses() {
    assert_eq!(group_mac("224.0.0.18".parse().unwrap()), [0x01, 0x00, 0x5e, 0, 0, 0x12]);
    assert_eq!(group_mac("239.129.1.2".parse().unwrap()), [0x01, 0x00, 0x5e, 1, 1, 2]);
    assert_eq!(group_mac("ff02::12".parse().unwrap()), [0x33, 0x33, 0, 0, 0, 0x12]);
    assert_eq!(solicited_node(v6("fd00::12:3456")), v6("ff02::1:ff12:3456"));
}

#[test]
fn what_is_sent_is_understood() {
    for (source, group) in [("10.0.0.1", "224.0.0.18"), ("fe80::1", "ff02::12")] {
        for length in [0usize, 1, 12, 1032] {
            let message = vec![7u8; length];
            let frame = built(source, group, &message);
            let received = dissect(&frame).expect("our own frame");
            assert_eq!((received.source, received.destination), (source.parse().unwrap(), group.parse().unwrap()));
            assert_eq!((received.ttl, received.payload, received.mac), (255, &message[..], MAC));
        }
    }
}

#[test]
fn padding_is_no_part_of_the_message() {
    let mut frame = built("10.0.0.1", "224.0.0.18", &[7; 12]);
    frame.resize(60, 0xaa);
    assert_eq!(dissect(&frame).unwrap().payload, [7; 12]);
}

#[test]
fn options_are_stepped_over() {
    let frame = built("10.0.0.1", "224.0.0.18", &[7; 12]);
    let mut longer = frame[..34].to_vec();
    longer.extend_from_slice(&[1, 1, 1, 0]);
    longer.extend_from_slice(&frame[34..]);
    longer[14] = 0x46;
    longer[17] += 4;
    longer[24..26].fill(0);
    let sum = checksum(&[&longer[14..38]]);
    longer[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(dissect(&longer).unwrap().payload, [7; 12]);
}

#[test]
fn lies_about_lengths_are_refused() {
    let frame = built("10.0.0.1", "224.0.0.18", &[7; 12]);
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        frame[24..26].fill(0);
        let sum = checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        dissect(&frame).is_some()
    };
    assert!(with(14, 0x45));
    assert!(!with(14, 0x44), "header shorter than a header");
    assert!(!with(14, 0x4f), "header longer than the packet");
    assert!(!with(14, 0x65), "another version");
    assert!(!with(17, 200), "total longer than the frame");
    assert!(!with(17, 10), "total shorter than the header");
    assert!(!with(20, 0x20), "first fragment");
    assert!(!with(21, 1), "later fragment");
    let mut broken = frame.clone();
    broken[26] ^= 1;
    assert!(dissect(&broken).is_none(), "header checksum");
    let six = built("fe80::1", "ff02::12", &[7; 12]);
    for length in 0..six.len() {
        assert!(dissect(&six[..length]).is_none());
    }
    for length in 0..frame.len() {
        assert!(dissect(&frame[..length]).is_none());
    }
}

/// RFC 9568 section 6.4.2 and its erratum 7949.
#[test]
fn gratuitous_arp_asks_everybody_for_itself() {
    let frame = gratuitous_arp(v4("10.0.0.100"), MAC);
    assert_eq!(frame[..6], [0xff; 6]);
    assert_eq!(frame[6..12], MAC);
    let (asker, target) = arp_request(&frame).expect("a request");
    assert_eq!((asker, target), ((MAC, v4("10.0.0.100")), v4("10.0.0.100")));
    assert!(frame.len() >= 60, "shortest frame");
}

#[test]
fn arp_is_answered_to_the_asker() {
    let asker = ([2, 0, 0, 0, 0, 9], v4("10.0.0.9"));
    let frame = arp_reply(v4("10.0.0.100"), MAC, asker);
    assert_eq!(frame[..6], asker.0);
    assert_eq!(frame[20..22], [0, 2]);
    assert_eq!(frame[22..28], MAC);
    assert_eq!(frame[28..32], [10, 0, 0, 100]);
    assert_eq!(frame[38..42], [10, 0, 0, 9]);
    assert!(arp_request(&frame).is_none(), "a reply is no request");
}

/// RFC 9568 section 6.4.2: router and override flags set, solicited flag clear, the virtual router's hardware address.
#[test]
fn neighbour_advertisement_has_flags_and_hardware_address() {
    let address = v6("fd00::100");
    let frame = unsolicited_advertisement(address, MAC);
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[14 + 7], 255, "hop limit");
    assert_eq!(frame[14 + 24..14 + 40], v6("ff02::1").octets());
    let message = &frame[54..];
    assert_eq!((message[0], message[4]), (136, 0xa0), "router and override, not solicited");
    assert_eq!(message[8..24], address.octets());
    assert_eq!(message[24..26], [2, 1]);
    assert_eq!(message[26..32], MAC);
    let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
    assert_eq!(checksum(&[&frame[22..54], &pseudo, message]), 0);
}

/// RFC 9568 section 6.4.3: answered with the router flag.
#[test]
fn solicitations_are_checked_and_answered() {
    let asker = ([2, 0, 0, 0, 0, 9], v6("fd00::9"));
    let target = v6("fd00::100");
    let solicit = |hops: u8, source: Ipv6Addr| {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&target.octets());
        message.extend_from_slice(&[1, 1]);
        message.extend_from_slice(&asker.0);
        let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, 58];
        let sum = checksum(&[&source.octets(), &solicited_node(target).octets(), &pseudo, &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Vec::new();
        ethernet(&mut frame, group_mac(solicited_node(target).into()), asker.0, ETH_IPV6);
        ipv6(&mut frame, source, solicited_node(target), hops, 58, 0, &message);
        frame
    };
    assert_eq!(solicitation(&solicit(255, asker.1)), Some((asker, target)));
    assert_eq!(solicitation(&solicit(64, asker.1)), None, "from beyond the link");
    let mut broken = solicit(255, asker.1);
    broken[70] ^= 1;
    assert_eq!(solicitation(&broken), None, "checksum");

    let answer = solicited_advertisement(target, MAC, asker);
    assert_eq!(answer[..6], asker.0);
    assert_eq!(answer[14 + 24..14 + 40], asker.1.octets());
    assert_eq!(answer[54 + 4], 0xe0, "router, solicited, override");
    let probe = solicited_advertisement(target, MAC, (asker.0, Ipv6Addr::UNSPECIFIED));
    assert_eq!(probe, unsolicited_advertisement(target, MAC), "duplicate address detection is answered through all nodes");
}
