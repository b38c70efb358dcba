//! Connections that began at the master before this one: their packets are sent on to it.
//!
//! When a node of ours hands over, clients send to the new master from one packet to the next, also on connections that the old one has.
//! The new one's kernel knows nothing of these and would reset them. So for as long as the old master keeps the addresses
//! ([`crate::machine::Output::Quiet`]), packets of connections that did not begin here are given its hardware address and put back on the
//! link; it answers the clients itself.
//!
//! ```text
//!   client ── SYN ───────────────► new master: remembered, its own
//!   client ── anything else ─────► new master: not remembered ── same packet, TTL 1 ──► old master
//! ```
//!
//! That is a table of nftables' own family for devices, made and removed here over nfnetlink, with the flag by which the kernel removes it
//! when this process dies; no rule of anybody else is touched. A packet that was sent on once (TTL 1) is never sent on again. Where the
//! kernel has no nftables, such connections end with the handover, and nothing else is different.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::frame::Mac;

/// Longest wait for an answer of the kernel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections of before that are entered at most, and so many in one message: both have to fit into what the kernel takes at once.
const KNOWN_MAX: usize = 4_000;
const KNOWN_AT_ONCE: usize = 1_000;

/// Connections remembered as this node's own; more than that within a handover are sent on, and end.
const FRESH_MAX: u32 = 65_535;

/// How long one is remembered, in milliseconds. Longer than any handover.
const FRESH_MS: u64 = 30_000;

/// What is sent on, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Strays {
    /// The interface.
    pub(crate) ifindex: u32,
    /// Its name.
    pub(crate) device: String,
    /// Our hardware address.
    pub(crate) from: Mac,
    /// That of the master before.
    pub(crate) to: Mac,
    /// The virtual addresses, of one family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Clients of connections to these addresses that this node has already.
    pub(crate) known: Vec<SocketAddr>,
}

/// The kernel's side. Tables made through it are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Nftables {
    socket: OwnedFd,
    sequence: u32,
}

impl Nftables {
    pub(crate) fn open() -> io::Result<Nftables> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Nftables { socket, sequence: 0 })
    }

    /// From now on strays are sent on, instead of what was said under this name before.
    pub(crate) fn send_on(&mut self, table: &str, strays: &Strays) -> io::Result<()> {
        // One that is not there cannot be removed; it is made first so that there is one.
        self.commit(|batch| {
            batch.new_table(table);
            batch.delete_table(table);
            batch.new_table(table);
            batch.new_set(table, strays.key_len());
            batch.new_elements(table, strays);
            batch.new_chain(table, &strays.device);
            for address in &strays.addresses {
                for rule in [Rule::Begins, Rule::IsKnown, Rule::Strays] {
                    batch.new_rule(table, &rule.expressions(*address, strays));
                }
            }
        })
    }

    /// No more.
    pub(crate) fn stop(&mut self, table: &str) -> io::Result<()> {
        self.commit(|batch| batch.delete_table(table))
    }

    fn commit(&mut self, fill: impl FnOnce(&mut Batch)) -> io::Result<()> {
        let mut batch = Batch { bytes: Vec::with_capacity(4096), sequence: self.sequence, last: 0 };
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, |_| {});
        fill(&mut batch);
        batch.acknowledge_last();
        let awaited = batch.sequence;
        batch.message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, |_| {});
        self.sequence = batch.sequence;
        send(&self.socket, &batch.bytes, SendFlags::NOSIGNAL)?;
        self.answer(awaited)
    }

    /// Reads until the last message is answered; the first error counts.
    fn answer(&mut self, awaited: u32) -> io::Result<()> {
        let mut buffer = [0u8; 16 * 1024];
        let mut failed = None;
        loop {
            let (length, _) = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(error) => return Err(failed.unwrap_or(error.into())),
            };
            let mut rest = &buffer[..length];
            while let Some((header, body)) = rest.split_first_chunk::<NLMSG_HDRLEN>() {
                let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
                let (length, kind, sequence) = (word(0) as usize, u16::from_ne_bytes([header[4], header[5]]), word(8));
                let Some(body) = length.checked_sub(NLMSG_HDRLEN).and_then(|length| body.get(..length)) else { break };
                if kind == NLMSG_ERROR
                    && let Some(code) = body.first_chunk::<4>()
                {
                    match i32::from_ne_bytes(*code) {
                        0 if sequence == awaited => return failed.map_or(Ok(()), Err),
                        0 => {}
                        code => failed = failed.or(Some(io::Error::from_raw_os_error(-code))),
                    }
                    // The answer to the last message may be its error.
                    if sequence == awaited
                        && let Some(error) = failed
                    {
                        return Err(error);
                    }
                }
                rest = rest.get(align(length)..).unwrap_or_default();
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
}

impl Strays {
    fn key_len(&self) -> u32 {
        if self.addresses.iter().any(IpAddr::is_ipv6) { 16 + 4 } else { 4 + 4 }
    }
}

/// Clients of connections to one of these addresses, out of the kernel's table (`/proc/net/tcp`, `/proc/net/tcp6`). What is only
/// remembered of one that ended does not count: its client may have begun another one elsewhere, from the same port.
pub(crate) fn clients(table: &str, addresses: &[IpAddr]) -> Vec<SocketAddr> {
    /// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_CLOSE_WAIT`, `TCP_LAST_ACK`, `TCP_CLOSING`.
    const ALIVE: [&str; 7] = ["01", "03", "04", "05", "08", "09", "0B"];
    let row = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        (ALIVE.contains(&state) && addresses.contains(&socket_address(local)?.ip())).then(|| socket_address(remote)).flatten()
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// `0100007F:0050` is 127.0.0.1:80: words of four bytes in the order of the machine, and a port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend_from_slice(&u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

// What follows is the language of the kernel: linux/netfilter/nfnetlink.h and nf_tables.h.

const NLMSG_HDRLEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const AF_UNSPEC: u8 = 0;
const NFPROTO_NETDEV: u8 = 5;

const NEW_TABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const DELETE_TABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 2;
const NEW_CHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NEW_SET: u16 = NFNL_SUBSYS_NFTABLES << 8 | 9;
const NEW_ELEMENTS: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;

const TABLE_OWNED: u32 = 2;
const SET_WITH_TIMEOUT_AND_UPDATES: u32 = 0x10 | 0x20;
const ACCEPT: u32 = 1;
/// Before everything else on the way in.
const HOOK_PRIORITY: i32 = -500;

const SET: &str = "fresh";
const CHAIN: &str = "in";

const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
/// The word after the first four bytes, and after the first sixteen, from `REGISTER_1` on.
const REGISTER_AFTER_V4: u32 = 9;
const REGISTER_AFTER_V6: u32 = 12;

/// From where a payload is counted.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

const TCP: u8 = 6;
const SYN_ACK: u8 = 0x12;
const SYN: u8 = 0x02;
/// What a packet carries that was sent on: too little to be sent on again, enough to be delivered.
const TTL_SENT_ON: u8 = 1;

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Messages that take effect together.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    /// Where the last message begins.
    last: usize,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = self.sequence.wrapping_add(1);
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        fill(&mut self.bytes);
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn acknowledge_last(&mut self) {
        let at = self.last + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | NLM_F_ACK;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    fn new_table(&mut self, table: &str) {
        self.message(NEW_TABLE, NLM_F_CREATE, NFPROTO_NETDEV, 0, |out| {
            text(out, 1, table);
            number(out, 2, TABLE_OWNED);
        });
    }

    fn delete_table(&mut self, table: &str) {
        self.message(DELETE_TABLE, 0, NFPROTO_NETDEV, 0, |out| text(out, 1, table));
    }

    fn new_chain(&mut self, table: &str, device: &str) {
        self.message(NEW_CHAIN, NLM_F_CREATE, NFPROTO_NETDEV, 0, |out| {
            text(out, 1, table);
            text(out, 3, CHAIN);
            nested(out, 4, |out| {
                number(out, 1, 0);
                number(out, 2, HOOK_PRIORITY as u32);
                text(out, 3, device);
            });
            number(out, 5, ACCEPT);
            text(out, 7, "filter");
        });
    }

    fn new_set(&mut self, table: &str, key_len: u32) {
        self.message(NEW_SET, NLM_F_CREATE, NFPROTO_NETDEV, 0, |out| {
            text(out, 1, table);
            text(out, 2, SET);
            number(out, 3, SET_WITH_TIMEOUT_AND_UPDATES);
            number(out, 4, 0);
            number(out, 5, key_len);
            nested(out, 9, |out| number(out, 1, FRESH_MAX));
            number(out, 10, 1);
            attribute(out, 11, &FRESH_MS.to_be_bytes());
        });
    }

    fn new_elements(&mut self, table: &str, strays: &Strays) {
        for clients in strays.known[..strays.known.len().min(KNOWN_MAX)].chunks(KNOWN_AT_ONCE) {
            self.message(NEW_ELEMENTS, NLM_F_CREATE, NFPROTO_NETDEV, 0, |out| {
                text(out, 1, table);
                text(out, 2, SET);
                nested(out, 3, |out| {
                    for client in clients {
                        let mut key = octets(client.ip());
                        key.extend_from_slice(&client.port().to_be_bytes());
                        key.extend_from_slice(&[0; 2]);
                        nested(out, 1, |out| nested(out, 1, |out| attribute(out, 1, &key)));
                    }
                });
            });
        }
    }

    fn new_rule(&mut self, table: &str, expressions: &[u8]) {
        self.message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, NFPROTO_NETDEV, 0, |out| {
            text(out, 1, table);
            text(out, 2, CHAIN);
            nested(out, 4, |out| out.extend_from_slice(expressions));
        });
    }
}

/// The three rules of one address, in this order.
#[derive(Clone, Copy)]
enum Rule {
    /// A connection begins here: it is remembered, and ours.
    Begins,
    /// A packet of one that did.
    IsKnown,
    /// Any other packet of TCP is sent on, unless it was already.
    Strays,
}

impl Rule {
    fn expressions(self, address: IpAddr, strays: &Strays) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let is_ipv4 = address.is_ipv4();
        let (protocol, source, destination, ttl, after) =
            if is_ipv4 { (0x0800u16, 12, 16, 8, REGISTER_AFTER_V4) } else { (0x86dd, 8, 24, 7, REGISTER_AFTER_V6) };
        let wanted = octets(address);
        load_meta(&mut out, META_PROTOCOL);
        compare(&mut out, EQUAL, &protocol.to_be_bytes());
        load(&mut out, NETWORK, destination, wanted.len() as u32, REGISTER_1);
        compare(&mut out, EQUAL, &wanted);
        load_meta(&mut out, META_L4_PROTOCOL);
        compare(&mut out, EQUAL, &[TCP]);
        match self {
            Rule::Begins => {
                load(&mut out, TRANSPORT, 13, 1, REGISTER_1);
                mask(&mut out, SYN_ACK);
                compare(&mut out, EQUAL, &[SYN]);
                load(&mut out, NETWORK, source, wanted.len() as u32, REGISTER_1);
                load(&mut out, TRANSPORT, 0, 2, after);
                remember(&mut out);
                accept(&mut out);
            }
            Rule::IsKnown => {
                load(&mut out, NETWORK, source, wanted.len() as u32, REGISTER_1);
                load(&mut out, TRANSPORT, 0, 2, after);
                look_up(&mut out);
                accept(&mut out);
            }
            Rule::Strays => {
                load(&mut out, NETWORK, ttl, 1, REGISTER_1);
                compare(&mut out, NOT_EQUAL, &[TTL_SENT_ON]);
                immediate(&mut out, &[TTL_SENT_ON]);
                store(&mut out, NETWORK, ttl, 1, is_ipv4.then_some(IPV4_CHECKSUM));
                immediate(&mut out, &strays.to);
                store(&mut out, LINK, 0, 6, None);
                immediate(&mut out, &strays.from);
                store(&mut out, LINK, 6, 6, None);
                immediate(&mut out, &strays.ifindex.to_ne_bytes());
                expression(&mut out, "fwd", |out| number(out, 1, REGISTER_1));
            }
        }
        out
    }
}

const META_PROTOCOL: u32 = 1;
const META_L4_PROTOCOL: u32 = 16;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// Where the checksum of an IPv4 header is.
const IPV4_CHECKSUM: u32 = 10;

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(align(out.len()), 0);
}

fn number(out: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(out, kind, &value.to_be_bytes());
}

fn text(out: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(out, kind, &bytes);
}

fn nested(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    attribute(out, kind | NLA_F_NESTED, &inner);
}

/// A value of an expression: `NFTA_DATA_VALUE`.
fn value(out: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    nested(out, kind, |out| attribute(out, 1, bytes));
}

fn expression(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    nested(out, 1, |out| {
        text(out, 1, name);
        nested(out, 2, fill);
    });
}

fn load_meta(out: &mut Vec<u8>, key: u32) {
    expression(out, "meta", |out| {
        number(out, 1, REGISTER_1);
        number(out, 2, key);
    });
}

fn load(out: &mut Vec<u8>, base: u32, offset: u32, length: u32, register: u32) {
    expression(out, "payload", |out| {
        number(out, 1, register);
        number(out, 2, base);
        number(out, 3, offset);
        number(out, 4, length);
    });
}

fn store(out: &mut Vec<u8>, base: u32, offset: u32, length: u32, checksum: Option<u32>) {
    expression(out, "payload", |out| {
        number(out, 5, REGISTER_1);
        number(out, 2, base);
        number(out, 3, offset);
        number(out, 4, length);
        number(out, 6, u32::from(checksum.is_some()));
        number(out, 7, checksum.unwrap_or(0));
    });
}

fn compare(out: &mut Vec<u8>, operator: u32, bytes: &[u8]) {
    expression(out, "cmp", |out| {
        number(out, 1, REGISTER_1);
        number(out, 2, operator);
        value(out, 3, bytes);
    });
}

fn mask(out: &mut Vec<u8>, bits: u8) {
    expression(out, "bitwise", |out| {
        number(out, 1, REGISTER_1);
        number(out, 2, REGISTER_1);
        number(out, 3, 1);
        value(out, 4, &[bits]);
        value(out, 5, &[0]);
    });
}

fn immediate(out: &mut Vec<u8>, bytes: &[u8]) {
    expression(out, "immediate", |out| {
        number(out, 1, REGISTER_1);
        value(out, 2, bytes);
    });
}

fn accept(out: &mut Vec<u8>) {
    expression(out, "immediate", |out| {
        number(out, 1, REGISTER_VERDICT);
        nested(out, 2, |out| nested(out, 2, |out| number(out, 1, ACCEPT)));
    });
}

fn remember(out: &mut Vec<u8>) {
    const UPDATE: u32 = 1;
    expression(out, "dynset", |out| {
        text(out, 1, SET);
        number(out, 3, UPDATE);
        number(out, 4, REGISTER_1);
    });
}

fn look_up(out: &mut Vec<u8>) {
    expression(out, "lookup", |out| {
        text(out, 1, SET);
        number(out, 2, REGISTER_1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_the_addresses_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     \x20  0: 6400090A:0050 00000000:0000 0A 0\n\
                     \x20  1: 6400090A:0050 0300090A:C001 01 0\n\
                     \x20  2: 0100090A:0050 0300090A:C002 01 0\n\
                     \x20  3: 6400090A:0050 nonsense 01 0\n\x20 x\n\
                     \x20  4: 6400090A:0050 0300090A:C003 06 0\n";
        assert_eq!(clients(table, &["10.9.0.100".parse().unwrap()]), ["10.9.0.3:49153".parse().unwrap()]);
        let six = "head\n 0: 000009FD000000000000000000010000:0050 000009FD000000000000000003000000:C001 01\n";
        let address = socket_address("000009FD000000000000000000010000:0050").unwrap().ip();
        assert_eq!(clients(six, &[address]).len(), 1);
    }

    #[test]
    fn attributes_are_aligned_and_nested() {
        let mut out = Vec::new();
        nested(&mut out, 4, |out| text(out, 1, "eth0"));
        assert_eq!(out, [16, 0, 4, 0x80, 9, 0, 1, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
    }

    /// As root: the kernel takes it, and takes it away with us.
    #[test]
    fn the_kernel_understands() {
        assert!(rustix::process::geteuid().is_root(), "this test makes a table of nftables, as root");
        let strays = |address: &str, known: &str| Strays {
            ifindex: 1,
            device: "lo".into(),
            from: [2, 0, 0, 0, 0, 1],
            to: [2, 0, 0, 0, 0, 2],
            // Nobody's (RFC 5737 and RFC 3849).
            addresses: vec![address.parse().unwrap()],
            known: (0..2 * KNOWN_MAX as u16).map(|port| SocketAddr::new(known.parse().unwrap(), port)).collect(),
        };
        let name = format!("weir-test-{}", std::process::id());
        let mut nftables = Nftables::open().unwrap();
        for strays in [strays("192.0.2.1", "192.0.2.7"), strays("2001:db8::1", "2001:db8::7")] {
            nftables.send_on(&name, &strays).unwrap();
            nftables.send_on(&name, &strays).expect("again");
        }
        let mut other = Nftables::open().unwrap();
        assert!(other.stop(&name).is_err(), "it belongs to who made it");
        nftables.stop(&name).unwrap();
        assert!(nftables.stop(&name).is_err(), "it is gone");
        nftables.send_on(&name, &strays("192.0.2.1", "192.0.2.7")).unwrap();
        drop(nftables);
        other.send_on(&name, &strays("192.0.2.1", "192.0.2.7")).expect("the name is free again");
    }
}
