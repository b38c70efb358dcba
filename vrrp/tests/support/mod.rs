//! What the tests with real networks share. As root, on Linux.
#![allow(dead_code, unsafe_code)]

pub mod frr;
pub mod hang;
pub mod keepalived;
pub mod net;
pub mod node;
pub mod packet;
pub mod sniff;

/// Binds a packet socket: no safe crate knows the address.
fn bind_packet(fd: std::os::fd::RawFd, address: &[u8; 20]) {
    // SAFETY: the pointer and the length are those of one address of the kernel's layout (sockaddr_ll) that lives across the call.
    let result = unsafe { libc::bind(fd, address.as_ptr().cast(), 20) };
    assert_eq!(result, 0, "bind: {}", std::io::Error::last_os_error());
}

/// How long ago the packet that was received last arrived, by the kernel's stamp: a reader that had to wait for a core does not count.
/// The first call makes the kernel stamp packets from then on.
fn age_of_last_packet(fd: std::os::fd::RawFd) -> Option<std::time::Duration> {
    let mut stamp = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives across the call.
    let result = unsafe {
        libc::ioctl(fd, 0x8907 /* SIOCGSTAMPNS */, &raw mut stamp)
    };
    let stamp = std::time::Duration::new(u64::try_from(stamp.tv_sec).ok()?, u32::try_from(stamp.tv_nsec).ok()?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    (result == 0).then(|| now.saturating_sub(stamp))
}
