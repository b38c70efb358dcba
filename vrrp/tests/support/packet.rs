//! Packets made by hand, right and wrong.

use std::net::Ipv4Addr;

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// An IPv4 packet of protocol 112 in a frame, each part of which may be spoilt before it is sent.
#[derive(Clone)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
    pub options: Vec<u8>,
    pub message: Vec<u8>,
    /// Bytes behind the IP packet, in the frame.
    pub padding: usize,
    pub destination_mac: [u8; 6],
}

impl Packet {
    /// An advertisement of version 3 with the checksum over the pseudo-header.
    pub fn advertisement(source: Ipv4Addr, vrid: u8, priority: u8, centiseconds: u16, addresses: &[Ipv4Addr]) -> Packet {
        let interval = centiseconds.to_be_bytes();
        let mut message = vec![0x31, vrid, priority, addresses.len() as u8, interval[0], interval[1], 0, 0];
        for address in addresses {
            message.extend_from_slice(&address.octets());
        }
        let mut packet = Packet {
            source,
            destination: Ipv4Addr::new(224, 0, 0, 18),
            ttl: 255,
            options: Vec::new(),
            message,
            padding: 0,
            destination_mac: [1, 0, 0x5e, 0, 0, 0x12],
        };
        packet.sum(true);
        packet
    }

    /// Writes the message's checksum anew.
    pub fn sum(&mut self, pseudo_header: bool) {
        self.message[6..8].fill(0);
        let mut bytes = Vec::new();
        if pseudo_header {
            bytes.extend_from_slice(&self.source.octets());
            bytes.extend_from_slice(&self.destination.octets());
            bytes.extend_from_slice(&[0, 112]);
            bytes.extend_from_slice(&(self.message.len() as u16).to_be_bytes());
        }
        bytes.extend_from_slice(&self.message);
        let sum = checksum(&bytes);
        self.message[6..8].copy_from_slice(&sum.to_be_bytes());
    }

    /// The same with something changed in the message, and a right checksum again.
    pub fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Packet {
        let mut packet = self.clone();
        change(&mut packet.message);
        packet.sum(true);
        packet
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.destination_mac.to_vec();
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 9, 8, 0]);
        let words = 5 + self.options.len() / 4;
        let length = (words * 4 + self.message.len()) as u16;
        let mut header = vec![0x40 | words as u8, 0xc0];
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&[0, 0, 0, 0, self.ttl, 112, 0, 0]);
        header.extend_from_slice(&self.source.octets());
        header.extend_from_slice(&self.destination.octets());
        header.extend_from_slice(&self.options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&self.message);
        frame.resize(frame.len() + self.padding, 0xaa);
        frame
    }
}
