//! What is to be done for a virtual router when this process dies, as bytes in shared memory.
//!
//! ```text
//!   page 0    one word of 8 bytes per slot: which half counts (0: none), and its length
//!   then      per slot two halves; the one that does not count is written, then the word names it
//! ```
//!
//! Who writes may be killed between any two instructions. The kernel copies the word within one call and within one page, so the reader
//! finds the old will or the new one, and never a half. The reader reads only after the writer is dead.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};

/// Virtual routers that may be master at once: two families times all numbers, on one interface; more interfaces share them.
pub(crate) const SLOTS: usize = 512;

/// The longest will: a group message, or one message for each of the unicast peers, with 64 addresses of IPv6 each.
const HALF: usize = 60 * 1024;

/// What is to be done for one virtual router.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Will {
    /// Whole frames to be sent, each out of an interface.
    pub(crate) frames: Vec<(u32, Vec<u8>)>,
    /// Messages to be sent to single peers.
    pub(crate) messages: Vec<Message>,
    /// Addresses that the kernel would keep for a while, to be removed: interface, address, prefix length.
    pub(crate) addresses: Vec<(u32, IpAddr, u8)>,
    /// Links that nobody needs any more.
    pub(crate) links: Vec<u32>,
}

/// A message to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) ifindex: u32,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) payload: Vec<u8>,
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(part);
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put(bytes, &address.octets()),
        IpAddr::V6(address) => put(bytes, &address.octets()),
    }
}

/// Reads what `put` wrote.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*number))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn address(&mut self) -> Option<IpAddr> {
        let part = self.part()?;
        match part.len() {
            4 => <[u8; 4]>::try_from(part).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(part).ok().map(IpAddr::from),
        }
    }
}

impl Will {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        for count in [self.frames.len(), self.messages.len(), self.addresses.len(), self.links.len()] {
            bytes.extend_from_slice(&(count as u32).to_ne_bytes());
        }
        for (ifindex, frame) in &self.frames {
            bytes.extend_from_slice(&ifindex.to_ne_bytes());
            put(bytes, frame);
        }
        for message in &self.messages {
            bytes.extend_from_slice(&message.ifindex.to_ne_bytes());
            put_address(bytes, message.source);
            put_address(bytes, message.destination);
            put(bytes, &message.payload);
        }
        for (ifindex, address, prefix_len) in &self.addresses {
            bytes.extend_from_slice(&ifindex.to_ne_bytes());
            put_address(bytes, *address);
            bytes.extend_from_slice(&u32::from(*prefix_len).to_ne_bytes());
        }
        for ifindex in &self.links {
            bytes.extend_from_slice(&ifindex.to_ne_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Will> {
        let mut reader = Reader(bytes);
        let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        let mut will = Will::default();
        for _ in 0..counts[0] {
            will.frames.push((reader.number()?, reader.part()?.to_vec()));
        }
        for _ in 0..counts[1] {
            will.messages.push(Message {
                ifindex: reader.number()?,
                source: reader.address()?,
                destination: reader.address()?,
                payload: reader.part()?.to_vec(),
            });
        }
        for _ in 0..counts[2] {
            will.addresses.push((reader.number()?, reader.address()?, u8::try_from(reader.number()?).ok()?));
        }
        for _ in 0..counts[3] {
            will.links.push(reader.number()?);
        }
        Some(will)
    }
}

/// The shared memory, on either side.
#[derive(Debug)]
pub(crate) struct Wills {
    memory: OwnedFd,
    /// Which half of each slot counts: what the words say.
    halves: Vec<u8>,
    buffer: Vec<u8>,
}

impl Wills {
    /// New and empty.
    pub(crate) fn create() -> io::Result<Wills> {
        let memory = memfd_create("weir-vrrp", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, (4096 + SLOTS * 2 * HALF) as u64)?;
        Ok(Wills { memory, halves: vec![0; SLOTS], buffer: Vec::new() })
    }

    /// Those that another process wrote.
    pub(crate) fn of(memory: OwnedFd) -> Wills {
        Wills { memory, halves: vec![0; SLOTS], buffer: Vec::new() }
    }

    /// Once more, for another process.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.memory.as_fd().try_clone_to_owned()
    }

    fn place(slot: usize, half: u8) -> u64 {
        (4096 + (slot * 2 + usize::from(half == 2)) * HALF) as u64
    }

    fn name(&mut self, slot: usize, half: u8, length: usize) -> io::Result<()> {
        let word = u64::from(half) << 32 | length as u64;
        pwrite(&self.memory, &word.to_ne_bytes(), (slot * 8) as u64)?;
        self.halves[slot] = half;
        Ok(())
    }

    /// From now on this is to be done. A will that does not fit is cut to none, with an error.
    pub(crate) fn write(&mut self, slot: usize, will: &Will) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        will.encode(&mut buffer);
        let half = if self.halves[slot] == 1 { 2 } else { 1 };
        let written = if buffer.len() > HALF {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, "too many peers for the guardian"))
        } else {
            pwrite(&self.memory, &buffer, Wills::place(slot, half)).map_err(io::Error::from)
        };
        let length = buffer.len();
        self.buffer = buffer;
        match written {
            Ok(_) => self.name(slot, half, length),
            Err(error) => {
                self.revoke(slot)?;
                Err(error)
            }
        }
    }

    /// From now on nothing is to be done.
    pub(crate) fn revoke(&mut self, slot: usize) -> io::Result<()> {
        if self.halves[slot] != 0 { self.name(slot, 0, 0) } else { Ok(()) }
    }

    /// All that is to be done, in the order of the slots.
    pub(crate) fn read(&self) -> io::Result<Vec<Will>> {
        let mut words = vec![0u8; SLOTS * 8];
        if pread(&self.memory, &mut words[..], 0)? != words.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut wills = Vec::new();
        for (slot, word) in words.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            let (half, length) = ((word >> 32) as u8, word as u32 as usize);
            if half == 0 || length > HALF {
                continue;
            }
            let mut bytes = vec![0u8; length];
            if pread(&self.memory, &mut bytes[..], Wills::place(slot, half))? == length {
                wills.extend(Will::decode(&bytes));
            }
        }
        Ok(wills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn will(byte: u8, length: usize) -> Will {
        Will {
            frames: vec![(3, vec![byte; length])],
            messages: vec![
                Message { ifindex: 0, source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap(), payload: vec![byte] },
                Message { ifindex: 7, source: "fe80::1".parse().unwrap(), destination: "fe80::2".parse().unwrap(), payload: vec![] },
            ],
            addresses: vec![(2, "fd00::1".parse().unwrap(), 128), (2, "10.0.0.9".parse().unwrap(), 24)],
            links: vec![9],
        }
    }

    #[test]
    fn the_other_side_reads_the_last_one_written() {
        let mut ours = Wills::create().unwrap();
        let theirs = Wills::of(ours.share().unwrap());
        assert_eq!(theirs.read().unwrap(), []);
        for byte in 1..=5 {
            ours.write(0, &will(byte, 60)).unwrap();
            ours.write(SLOTS - 1, &will(byte, 9000)).unwrap();
            assert_eq!(theirs.read().unwrap(), [will(byte, 60), will(byte, 9000)]);
        }
        ours.revoke(0).unwrap();
        assert_eq!(theirs.read().unwrap(), [will(5, 9000)]);
        ours.write(0, &will(6, 1)).unwrap();
        assert_eq!(theirs.read().unwrap().len(), 2);
    }

    #[test]
    fn a_half_written_will_does_not_count() {
        let mut ours = Wills::create().unwrap();
        ours.write(4, &will(1, 60)).unwrap();
        // Killed between the half and the word.
        pwrite(&ours.memory, &[0xff; 500], Wills::place(4, 2)).unwrap();
        assert_eq!(ours.read().unwrap(), [will(1, 60)]);
    }

    #[test]
    fn what_does_not_fit_is_said_and_the_old_one_is_gone() {
        let mut ours = Wills::create().unwrap();
        ours.write(1, &will(1, 60)).unwrap();
        assert!(ours.write(1, &will(1, HALF)).is_err());
        assert_eq!(ours.read().unwrap(), []);
    }

    #[test]
    fn bytes_that_are_no_will_are_none() {
        let mut bytes = Vec::new();
        will(1, 60).encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(Will::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Will::decode(&bytes), Some(will(1, 60)));
    }
}
