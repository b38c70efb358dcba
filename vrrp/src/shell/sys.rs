//! The few system calls that no safe crate offers: packet sockets, the TUN device, real-time scheduling. Nothing is decided here.

#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::filter::Step;

/// EtherType of IPv4.
pub(crate) const ETH_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const ETH_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(crate) const ETH_IPV6: u16 = 0x86dd;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn link_address(ifindex: u32, ethertype: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex as libc::c_int;
    address
}

/// Puts a filter on a socket, in place of an earlier one.
pub(crate) fn attach(socket: &Socket, filter: &[Step]) -> io::Result<()> {
    let program: Vec<SockFilter> = filter.iter().map(|Step(code, yes, no, value)| SockFilter::new(*code, *yes, *no, *value)).collect();
    socket.attach_filter(&program)
}

/// A packet socket that sends whole frames on any interface and receives nothing.
pub(crate) fn packet_sender() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A packet socket that receives whole frames of one kind on one interface, and only those that `filter` lets through. It is bound after
/// the filter is in place, so that nothing else is ever queued.
pub(crate) fn packet_receiver(ifindex: u32, ethertype: u16, filter: &[Step]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    attach(&socket, filter)?;
    let address = link_address(ifindex, ethertype);
    // SAFETY: the pointer and the length are those of one sockaddr_ll that lives across the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t) })?;
    Ok(socket)
}

/// Sends one whole frame out of an interface.
pub(crate) fn send_frame(socket: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let address = link_address(ifindex, 0);
    // SAFETY: frame and address live across the call and have the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A TUN device that lives exactly as long as the returned descriptor, and its name.
///
/// The descriptor gets the highest number there is: when a process dies, the kernel closes its files from the highest number downwards, and
/// each packet socket among them costs milliseconds. The addresses must not wait for those.
pub(crate) fn tun(pattern: &str) -> io::Result<(OwnedFd, String)> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")?;
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(pattern.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives across the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect();
    Ok((highest(file.into())?, name))
}

/// Most descriptors that a table is grown for: half a megabyte of it.
const DESCRIPTORS_MAX: u64 = 65_536;

fn highest(fd: OwnedFd) -> io::Result<OwnedFd> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
    // Room for a few that shall be closed first.
    for least in [limit.saturating_sub(8), limit / 2, limit / 4] {
        if let Ok(high) = rustix::io::fcntl_dupfd_cloexec(&fd, least as libc::c_int) {
            return Ok(high);
        }
    }
    Ok(fd)
}

/// Both ends of a connection whose far side is told at once when this process dies: our end is the first that the kernel closes.
pub(crate) fn lifeline() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((highest(ours)?, theirs))
}

/// A raw socket of the protocol that sends from an address to single peers through the kernel's routes, and receives nothing. While it is
/// open the kernel answers no packet of the protocol with "protocol unreachable".
pub(crate) fn raw_sender(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(crate::packet::PROTOCOL))))?;
    attach(&socket, &[super::filter::NOTHING])?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends to a peer from a given source address out of a given interface (0: as routed).
pub(crate) fn send_from(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    payload: &[u8],
) -> io::Result<()> {
    let target = socket2::SockAddr::from(std::net::SocketAddr::new(destination, 0));
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = target.as_ptr().cast_mut().cast();
    message.msg_namelen = target.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: `control` is aligned and large enough for either header with its value (at most 16 + 20 bytes); the first header of a
    // message whose control length covers it is never null.
    unsafe {
        match source {
            std::net::IpAddr::V4(source) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_ifindex = ifindex as libc::c_int;
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(source.octets());
                write_control(&mut message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            std::net::IpAddr::V6(source) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_ifindex = ifindex as _;
                info.ipi6_addr.s6_addr = source.octets();
                write_control(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
        check(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) as libc::c_int)?;
    }
    Ok(())
}

/// SAFETY: `message.msg_control` must point to aligned memory with room for one header and `value`.
unsafe fn write_control<T>(message: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    // SAFETY: as the caller promises.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
}

/// Round-robin real-time scheduling for the calling thread; what it starts does not inherit it.
pub(crate) fn schedule_real_time(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter lives across the call; 0 means the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameter) })?;
    Ok(())
}

/// Gives the calling thread real-time priority and exact timers, where this process may: for whoever watches what an election depends on, and
/// must not be kept waiting by what it watches. Behind the thread that elects. Whether it was allowed.
pub fn be_urgent() -> bool {
    exact_timers();
    schedule_real_time(15).is_ok()
}

/// Lets timers of the calling thread fire when they are due, not up to 50 µs later.
pub(crate) fn exact_timers() {
    // SAFETY: takes two plain numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// A descriptor that becomes readable when the thread that calls this ends. Linux 6.9 and newer.
pub(crate) fn thread_end(thread: rustix::process::Pid) -> io::Result<OwnedFd> {
    const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
    // SAFETY: takes two plain numbers and returns a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, thread.as_raw_nonzero().get(), PIDFD_THREAD);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as libc::c_int)) }
    }
}

/// What ends a service does not end its guardian, which goes when the service is gone.
pub(crate) fn ignore_ending_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: no handler runs: the signal is ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
