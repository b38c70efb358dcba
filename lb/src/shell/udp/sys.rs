//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`, with the local address where a socket has several, and runs of datagrams as
//! one message (`UDP_SEGMENT`, `UDP_GRO`) where the kernel can.

#![allow(unsafe_code, reason = "rustix has no recvmmsg")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::{mem, ptr};

use tokio::io::unix::AsyncFd;

use crate::udp::{Dropped, FlowId};

/// Messages in one call.
pub(super) const BATCH: usize = 32;
/// No message is larger, also when the kernel puts datagrams together.
const MESSAGE_BYTES_MAX: usize = 65_536;
/// Datagrams that go out in one message at most: Linux's `UDP_MAX_SEGMENTS` was 64 from the beginning.
const SEGMENTS_MAX: usize = 64;
/// Bytes that go out in one message at most: less than an IP packet holds, whatever its headers are.
const SEGMENTED_BYTES_MAX: usize = 65_000;
/// Room for one `in6_pktinfo` and one `int`, each with its header, aligned like one.
type Control = [u64; 8];

/// What one call is told: kept, so that no call has to clear it all.
struct Headers {
    names: [libc::sockaddr_storage; BATCH],
    messages: [libc::mmsghdr; BATCH],
    controls: [Control; BATCH],
}

impl Headers {
    fn new() -> Box<Headers> {
        // SAFETY: all of these are plain C structures for which zeroes are a valid value. Pointers in them are set anew before each call.
        Box::new(unsafe { mem::zeroed() })
    }
}

/// Where messages are received. Pages that no message reached cost no memory.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    headers: Box<Headers>,
    parts: [libc::iovec; BATCH],
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    length: usize,
    segment: usize,
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    flow: FlowId,
}

/// One received message: a datagram, or several of one size that the kernel put together (the last may be smaller).
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) bytes: &'a [u8],
    /// The size of each datagram; 0: it is one.
    pub(super) segment: usize,
    pub(super) peer: Option<SocketAddr>,
    /// The address it was sent to, if the socket tells.
    pub(super) local: Option<IpAddr>,
    /// Whose it is, if that was said.
    pub(super) flow: FlowId,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) bytes: &'a [u8],
    /// The size of each datagram; 0: it is one.
    pub(super) segment: usize,
    /// `None`: the socket is connected.
    pub(super) to: Option<SocketAddr>,
    /// The address it leaves from; `None`: the socket's.
    pub(super) from: Option<IpAddr>,
    pub(super) flow: FlowId,
}

/// How many datagrams a message is.
pub(super) fn datagrams(bytes: &[u8], segment: usize) -> u64 {
    if segment == 0 { 1 } else { bytes.len().div_ceil(segment) as u64 }
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        Inbox { bytes: vec![0; BATCH * MESSAGE_BYTES_MAX], headers: Headers::new(), parts, seen: Vec::with_capacity(BATCH) }
    }

    /// What was received since the last [`Inbox::clear`].
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let slots = self.bytes.chunks(MESSAGE_BYTES_MAX);
        self.seen.iter().zip(slots).map(|(seen, bytes)| Message {
            bytes: &bytes[..seen.length],
            segment: seen.segment,
            peer: seen.peer,
            local: seen.local,
            flow: seen.flow,
        })
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.seen.len() == BATCH
    }

    /// Takes what is there, as far as there is room, without waiting. How many messages.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let Inbox { bytes, headers, parts, seen } = self;
        let Headers { names, messages, controls } = &mut **headers;
        let first = seen.len();
        for (index, slot) in bytes.chunks_mut(MESSAGE_BYTES_MAX).enumerate().skip(first) {
            parts[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut messages[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
            header.msg_flags = 0;
        }
        let room = (BATCH - first) as libc::c_uint;
        // SAFETY: each of the `room` headers from `first` on points to a name, a control buffer and one part that live until the call
        // returns, with their true lengths.
        let count = unsafe {
            let start = messages.as_mut_ptr().add(first);
            libc::recvmmsg(socket.as_raw_fd(), start, room, libc::MSG_DONTWAIT as _, ptr::null_mut())
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (message, name) in messages.iter().zip(&*names).skip(first).take(count as usize) {
            let length = (message.msg_len as usize).min(MESSAGE_BYTES_MAX);
            let header = &message.msg_hdr;
            let peer = if header.msg_namelen == 0 { None } else { read_address(name) };
            let (local, segment) = read_control(header);
            let segment = if segment >= length { 0 } else { segment };
            seen.push(Seen { length, segment, peer, local, flow: FlowId { index: u32::MAX, generation: 0 } });
        }
        Ok(count as usize)
    }

    /// Says whose the last `count` messages are, and where they are to go.
    pub(super) fn address(&mut self, count: usize, flow: FlowId, peer: SocketAddr, local: Option<IpAddr>) {
        let first = self.seen.len().saturating_sub(count);
        for seen in &mut self.seen[first..] {
            (seen.flow, seen.peer, seen.local) = (flow, Some(peer), local);
        }
    }
}

/// What became of messages that were to be sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Datagrams sent.
    pub(super) datagrams: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Datagrams that could not be sent.
    pub(super) dropped: [u64; Dropped::COUNT],
}

/// Where messages are made ready to be sent.
pub(super) struct Outbox {
    headers: Box<Headers>,
    parts: Vec<libc::iovec>,
    /// Of each message in the headers, how many of the outgoing ones it is made of.
    joined: Vec<usize>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { headers: Headers::new(), parts: Vec::with_capacity(BATCH), joined: Vec::with_capacity(BATCH) }
    }

    /// Sends all that can be sent; what cannot is passed over. `segments`: whether the kernel may be given several datagrams as one
    /// message; made false when it turns out that this way out does not do that.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, mut rest: &[Outgoing<'_>], segments: &mut bool) -> Sent {
        let mut result = Sent::default();
        while !rest.is_empty() {
            self.prepare(rest, *segments);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let count = self.joined.len() as libc::c_uint;
            // SAFETY: each of the `count` headers points to parts, and to a name and a control buffer or nothing, which live until the
            // call returns, with their true lengths. The kernel only reads them.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.messages.as_mut_ptr(), count, flags as _) };
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                let (done, left) = rest.split_at(self.joined.iter().take(sent).sum());
                for outgoing in done {
                    result.datagrams += datagrams(outgoing.bytes, outgoing.segment);
                    result.bytes += outgoing.bytes.len() as u64;
                }
                rest = left;
                continue;
            }
            // The error is the first message's alone.
            let error = io::Error::last_os_error();
            let (failed, left) = rest.split_at(self.joined.first().map_or(1, |joined| (*joined).min(rest.len())));
            rest = left;
            let was_segmented = failed.len() > 1 || failed[0].segment != 0;
            if was_segmented && may_be_for_segments(&error) {
                // This way out does not cut messages at all, or each datagram of this one is too large for it: the IP layer may still do.
                *segments &= error.raw_os_error() != Some(libc::EIO);
                let chunks = |outgoing: &Outgoing<'_>| if outgoing.segment == 0 { outgoing.bytes.len() } else { outgoing.segment };
                let cut = failed
                    .iter()
                    .flat_map(|outgoing| outgoing.bytes.chunks(chunks(outgoing)).map(|bytes| Outgoing { bytes, segment: 0, ..*outgoing }));
                let singles: Vec<Outgoing<'_>> = cut.collect();
                let again = self.send(socket, &singles, &mut false);
                result.datagrams += again.datagrams;
                result.bytes += again.bytes;
                for (sum, more) in result.dropped.iter_mut().zip(again.dropped) {
                    *sum += more;
                }
            } else {
                let count: u64 = failed.iter().map(|outgoing| datagrams(outgoing.bytes, outgoing.segment)).sum();
                result.dropped[why(&error) as usize] += count;
            }
        }
        result
    }

    /// Fills headers for the first of these.
    fn prepare(&mut self, outgoing: &[Outgoing<'_>], segments: bool) {
        let Headers { names, messages, controls } = &mut *self.headers;
        self.joined.clear();
        self.parts.clear();
        let part = |out: &Outgoing<'_>| libc::iovec { iov_base: out.bytes.as_ptr().cast_mut().cast(), iov_len: out.bytes.len() };
        // One call takes few enough parts that all have their place before any is pointed to.
        let taken = &outgoing[..outgoing.len().min(BATCH)];
        self.parts.extend(taken.iter().map(part));
        let mut start = 0;
        while let Some(first) = taken.get(start) {
            let joined = if segments { join(&taken[start..]) } else { 1 };
            let index = self.joined.len();
            let header = &mut messages[index].msg_hdr;
            header.msg_iov = &raw mut self.parts[start];
            header.msg_iovlen = joined as _;
            header.msg_flags = 0;
            (header.msg_name, header.msg_namelen) = match first.to {
                Some(to) => {
                    let length = write_address(&mut names[index], to);
                    ((&raw mut names[index]).cast(), length)
                }
                None => (ptr::null_mut(), 0),
            };
            let segment = if joined > 1 { first.bytes.len() } else { first.segment };
            if first.from.is_none() && segment == 0 {
                (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
            } else {
                controls[index] = Control::default();
                header.msg_control = (&raw mut controls[index]).cast();
                header.msg_controllen = mem::size_of::<Control>() as _;
                write_control(header, first.from, segment);
            }
            self.joined.push(joined);
            start += joined;
        }
    }
}

/// How many of the first of these can go as one message: same way, same size, and only the last may be smaller.
fn join(outgoing: &[Outgoing<'_>]) -> usize {
    let Some(first) = outgoing.first().filter(|first| first.segment == 0 && !first.bytes.is_empty()) else { return 1 };
    let size = first.bytes.len();
    let most = SEGMENTS_MAX.min(SEGMENTED_BYTES_MAX / size).max(1);
    let mut joined = 1;
    for next in outgoing[1..].iter().take(most - 1) {
        let fits =
            next.segment == 0 && !next.bytes.is_empty() && next.bytes.len() <= size && (next.to, next.from) == (first.to, first.from);
        if !fits {
            break;
        }
        joined += 1;
        if next.bytes.len() < size {
            break;
        }
    }
    joined
}

/// `EIO`: the device cannot. `EINVAL` and `EMSGSIZE`: a datagram and its headers are larger than the path takes, or the kernel is too old.
fn may_be_for_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

fn why(error: &io::Error) -> Dropped {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Dropped::Refused,
        Some(libc::EMSGSIZE) => Dropped::TooLarge,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EPERM | libc::EACCES) => {
            Dropped::Unreachable
        }
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Dropped::SendBuffer,
        _ => Dropped::Failed,
    }
}

/// Makes a socket take several datagrams of one size as one message, where the kernel can. Whether it can also send them so.
pub(super) fn offload(socket: BorrowedFd<'_>) -> bool {
    // Without it each datagram comes alone: slower, not wrong.
    let _ = set_int(socket, libc::IPPROTO_UDP, libc::UDP_GRO, 1);
    set_int(socket, libc::IPPROTO_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// How many datagrams the kernel could not put into the socket's receive buffer since it was made.
pub(super) fn receive_drops(socket: BorrowedFd<'_>) -> Option<u32> {
    // `SK_MEMINFO_DROPS` of linux/sock_diag.h, the last of the nine values of `SO_MEMINFO`.
    const DROPS: usize = 8;
    let mut values = [0u32; DROPS + 1];
    let mut length = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: the buffer lives until the call returns and its length is given.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut length) };
    (result == 0 && length as usize >= mem::size_of_val(&values)).then(|| values[DROPS])
}

fn set_int(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), mem::size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a socket tell to which address each datagram was sent.
pub(super) fn tell_local_address(socket: BorrowedFd<'_>, is_ipv4: bool) -> io::Result<()> {
    let (level, name) = if is_ipv4 { (libc::IPPROTO_IP, libc::IP_PKTINFO) } else { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) };
    set_int(socket, level, name, 1)
}

/// Makes the runtime watch a descriptor.
pub(super) fn watch(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the result, which always names the same one, and is closed only after the runtime let go of it.
    Ok(unsafe { AsyncFd::register(epoll) }?)
}

fn read_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let start: *const libc::sockaddr_storage = name;
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned for any address, and the family says that it holds this one.
            let v4 = unsafe { &*start.cast::<libc::sockaddr_in>() };
            Some(SocketAddr::from((Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*start.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(std::net::SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let start: *mut libc::sockaddr_storage = name;
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is large enough and aligned for any address, and zeroes are a valid one.
            let v4 = unsafe { &mut *start.cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *start.cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_scope_id = address.scope_id();
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// The address a message was sent to, and the size of each of its datagrams; 0: it is one.
fn read_control(header: &libc::msghdr) -> (Option<IpAddr>, usize) {
    let (mut local, mut segment) = (None, 0);
    // SAFETY: the kernel has filled the control buffer and set its length; these walk within it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: `message` is not null, so it points to a whole header in the buffer, and the data follows it; the kernel writes whole
        // structures of the type that level and kind tell.
        unsafe {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in_pktinfo>());
                    local = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>());
                    local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                (libc::IPPROTO_UDP, libc::UDP_GRO) => {
                    let size = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::c_int>());
                    segment = usize::try_from(size).unwrap_or(0);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (local, segment)
}

/// The header's control buffer must be a zeroed [`Control`]. The interface is left to the routes.
fn write_control(header: &mut libc::msghdr, from: Option<IpAddr>, segment: usize) {
    let mut used = 0;
    // SAFETY: the buffer is aligned for a header and has room for the larger address structure and an int with their headers; it is written
    // through the pointers that the macros give, which are within its full length, and that is set to what was written at the end.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        let mut put = |level: libc::c_int, kind: libc::c_int, data: *const u8, length: usize| {
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = libc::CMSG_LEN(length as libc::c_uint) as _;
            ptr::copy_nonoverlapping(data, libc::CMSG_DATA(message), length);
            used += libc::CMSG_SPACE(length as libc::c_uint);
            message = libc::CMSG_NXTHDR(header, message);
        };
        match from {
            Some(IpAddr::V4(ip)) => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                put(libc::IPPROTO_IP, libc::IP_PKTINFO, (&raw const info).cast(), mem::size_of_val(&info));
            }
            Some(IpAddr::V6(ip)) => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, (&raw const info).cast(), mem::size_of_val(&info));
            }
            None => {}
        }
        if segment != 0 {
            let size = segment as u16;
            put(libc::IPPROTO_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), mem::size_of_val(&size));
        }
    }
    header.msg_controllen = used as _;
}

#[cfg(test)]
mod tests;
