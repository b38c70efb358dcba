//! A datagram, and the one that answers it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::{Failure, Phase, Progress};

/// The longest answer that is looked at: one that is longer is cut by the kernel.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends the request from a port of its own. The kernel passes on that nobody listens.
pub(super) async fn udp(
    request: &[u8],
    pattern: Option<&regex::bytes::Regex>,
    address: SocketAddr,
    progress: &Progress,
) -> Result<(), Failure> {
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|error| Failure::Local(format!("no socket: {error}")))?;
    socket.connect(address).await.map_err(|error| Failure::io("connect", &error))?;
    progress.enter(Phase::Sending);
    socket.send(request).await.map_err(|error| Failure::io("send", &error))?;
    progress.enter(Phase::AwaitingHead);
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let count = socket.recv(&mut answer).await.map_err(|error| Failure::io("receive", &error))?;
    match pattern {
        Some(pattern) if !pattern.is_match(&answer[..count]) => Failure::endpoint(format!("an answer of {count} bytes does not match")),
        _ => Ok(()),
    }
}
