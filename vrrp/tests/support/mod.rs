//! What the tests with real networks share. As root, on Linux.
#![allow(dead_code, unsafe_code)]

pub mod frr;
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
