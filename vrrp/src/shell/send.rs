//! The sockets that packets leave by: whole frames to groups, messages to single peers.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::{Domain, Socket};

use super::sys;
use crate::packet::TTL;

/// Class selector 6 in the byte of the differentiated services, as on frames.
const TRAFFIC_CLASS: u32 = 0xc0;

/// Opens at most once what sending needs. Nothing is ever received on these sockets.
#[derive(Debug)]
pub(crate) struct Sender {
    frames: Socket,
    v4: Socket,
    /// Not there where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Sender {
    pub(crate) fn open() -> io::Result<Sender> {
        let v4 = sys::raw_sender(Domain::IPV4)?;
        v4.set_ttl_v4(u32::from(TTL))?;
        v4.set_tos_v4(TRAFFIC_CLASS)?;
        let v6 = match sys::raw_sender(Domain::IPV6) {
            Ok(v6) => {
                v6.set_unicast_hops_v6(u32::from(TTL))?;
                v6.set_tclass_v6(TRAFFIC_CLASS)?;
                Some(v6)
            }
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(error) => return Err(error),
        };
        Ok(Sender { frames: sys::packet_sender()?, v4, v6 })
    }

    /// A whole frame out of an interface.
    pub(crate) fn frame(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        sys::send_frame(self.frames.as_fd(), ifindex, frame)
    }

    /// A VRRP message to one peer, with a time to live of 255.
    pub(crate) fn message(&self, ifindex: u32, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let socket = match destination {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        sys::send_from(socket.as_fd(), ifindex, source, destination, payload)
    }
}
