//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`, with the local address where a socket has several.

#![allow(unsafe_code, reason = "rustix has no recvmmsg")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::{mem, ptr};

use tokio::io::unix::AsyncFd;

/// Datagrams in one call.
pub(super) const BATCH: usize = 32;
/// No datagram is larger.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Room for one `in6_pktinfo` with its header, aligned like one.
type Control = [u64; 8];

/// Where datagrams are received. Pages that no datagram reached cost no memory.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    length: usize,
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) peer: Option<SocketAddr>,
    /// The address it was sent to, if the socket tells.
    pub(super) local: Option<IpAddr>,
}

/// One datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) bytes: &'a [u8],
    /// `None`: the socket is connected.
    pub(super) to: Option<SocketAddr>,
    /// The address it leaves from; `None`: the socket's.
    pub(super) from: Option<IpAddr>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { bytes: vec![0; BATCH * DATAGRAM_BYTES_MAX], seen: Vec::with_capacity(BATCH) }
    }

    /// What the last [`Inbox::receive`] got.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self.bytes.chunks(DATAGRAM_BYTES_MAX);
        self.seen.iter().zip(slots).map(|(seen, bytes)| Datagram { bytes: &bytes[..seen.length], peer: seen.peer, local: seen.local })
    }

    /// Takes what is there, up to [`BATCH`] datagrams, without waiting. The number.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.seen.clear();
        // SAFETY: all of these are plain C structures for which zeroes are a valid value.
        let (mut names, mut headers) =
            unsafe { (mem::zeroed::<[libc::sockaddr_storage; BATCH]>(), mem::zeroed::<[libc::mmsghdr; BATCH]>()) };
        let mut controls = [Control::default(); BATCH];
        let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        for (index, slot) in self.bytes.chunks_mut(DATAGRAM_BYTES_MAX).enumerate() {
            parts[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
        }
        // SAFETY: each header points to a name, a control buffer and one part that live until the call returns, with their true lengths.
        let count =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as _, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (header, name) in headers.iter().zip(&names).take(count as usize) {
            let length = (header.msg_len as usize).min(DATAGRAM_BYTES_MAX);
            let peer = if header.msg_hdr.msg_namelen == 0 { None } else { read_address(name) };
            self.seen.push(Seen { length, peer, local: local_address(&header.msg_hdr) });
        }
        Ok(count as usize)
    }
}

/// Sends the first of these, up to [`BATCH`]. The number; an error concerns the first alone.
pub(super) fn send(socket: BorrowedFd<'_>, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
    // SAFETY: all of these are plain C structures for which zeroes are a valid value.
    let (mut names, mut headers) = unsafe { (mem::zeroed::<[libc::sockaddr_storage; BATCH]>(), mem::zeroed::<[libc::mmsghdr; BATCH]>()) };
    let mut controls = [Control::default(); BATCH];
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = datagrams.len().min(BATCH);
    for (index, datagram) in datagrams.iter().take(BATCH).enumerate() {
        parts[index] = libc::iovec { iov_base: datagram.bytes.as_ptr().cast_mut().cast(), iov_len: datagram.bytes.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        if let Some(to) = datagram.to {
            header.msg_namelen = write_address(&mut names[index], to);
            header.msg_name = (&raw mut names[index]).cast();
        }
        if let Some(from) = datagram.from {
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
            write_local_address(header, from);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: each of the `count` headers points to a part, and to a name and a control buffer or nothing, which live until the call
    // returns, with their true lengths. The kernel only reads the parts.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as _, flags as _) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Makes a socket tell to which address each datagram was sent.
pub(super) fn tell_local_address(socket: BorrowedFd<'_>, is_ipv4: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, name) = if is_ipv4 { (libc::IPPROTO_IP, libc::IP_PKTINFO) } else { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) };
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), mem::size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

fn local_address(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the control buffer and set its length; these walk within it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: `message` is not null, so it points to a whole header in the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        // SAFETY: the data follows the header; the kernel writes whole structures of the type that level and kind tell.
        unsafe {
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
                let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in_pktinfo>());
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
                let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>());
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// The header's control buffer must be a zeroed [`Control`]. The interface is left to the routes.
fn write_local_address(header: &mut libc::msghdr, from: IpAddr) {
    // SAFETY: the buffer is aligned for a header and has room for the larger of the two structures; it is written through the pointers
    // that the macros give, and its length is set to what was written.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        match from {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                let length = mem::size_of::<libc::in_pktinfo>() as libc::c_uint;
                (*message).cmsg_level = libc::IPPROTO_IP;
                (*message).cmsg_type = libc::IP_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(length) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                header.msg_controllen = libc::CMSG_SPACE(length) as _;
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                let length = mem::size_of::<libc::in6_pktinfo>() as libc::c_uint;
                (*message).cmsg_level = libc::IPPROTO_IPV6;
                (*message).cmsg_type = libc::IPV6_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(length) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                header.msg_controllen = libc::CMSG_SPACE(length) as _;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    /// A wildcard socket is asked at one of its addresses and answers from there.
    fn check(wildcard: &str, asked: IpAddr) {
        let server = UdpSocket::bind(wildcard).unwrap();
        tell_local_address(server.as_fd(), asked.is_ipv4()).unwrap();
        let client = UdpSocket::bind(SocketAddr::new(asked, 0)).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let port = server.local_addr().unwrap().port();
        for text in ["one", "", "three"] {
            client.send_to(text.as_bytes(), SocketAddr::new(asked, port)).unwrap();
        }
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(server.as_fd()).unwrap(), 3);
        let answers: Vec<Outgoing<'_>> =
            inbox.datagrams().map(|got| Outgoing { bytes: got.bytes, to: got.peer, from: got.local }).collect();
        assert!(answers.iter().all(|a| a.from == Some(asked) && a.to == client.local_addr().ok()));
        assert_eq!(send(server.as_fd(), &answers).unwrap(), 3);
        for text in ["one", "", "three"] {
            let mut buffer = [0; 16];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (text.as_bytes(), SocketAddr::new(asked, port)));
        }
        assert_eq!(inbox.receive(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        check("0.0.0.0:0", Ipv4Addr::new(127, 9, 8, 7).into());
        check("[::]:0", Ipv6Addr::LOCALHOST.into());
    }
}
