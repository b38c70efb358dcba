//! Reading and writing under a deadline.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffer::Buf;
use super::stream::Stream;
use super::timer::Timer;

/// Why reading or writing ended.
#[derive(Debug)]
pub(super) enum Broken {
    /// The deadline passed.
    Timeout,
    /// The peer reset the connection, or like.
    Failed,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Failed
    }
}

/// Waits until there is something to read, holding no buffer.
pub(super) async fn readable<S: Stream>(stream: &S, timer: &Timer) -> Result<(), Broken> {
    poll_fn(|cx| match stream.poll_read_ready(cx) {
        Poll::Ready(ready) => Poll::Ready(ready.map_err(Broken::from)),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
    })
    .await
}

/// Receives what is there; `WouldBlock` without a system call while the reactor knows of nothing.
///
/// Less than there was room for means that the socket is empty: asking again would cost a system call only to be told so. The reactor
/// forgets its readiness when it is told `WouldBlock`, so it is told that.
pub(super) fn receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let wanted = room.len();
    let mut received = None;
    let told = stream.try_io(Interest::READABLE, || {
        let (_, count) = rustix::net::recv(stream, &mut *room, RecvFlags::empty())?;
        received = Some(count);
        if 0 < count && count < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    received.map_or_else(|| told.map(|()| 0), Ok)
}

/// Sends what the socket takes now.
pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?))
}

/// Reads into the buffer's spare room, which must not be empty; 0: the peer closed.
pub(super) async fn read<S: Stream>(stream: &S, timer: &Timer, buf: &mut Buf) -> Result<usize, Broken> {
    poll_fn(|cx| {
        loop {
            match stream.receive(buf.spare()) {
                Ok(count) => {
                    buf.add(count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            match stream.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
            }
        }
    })
    .await
}

/// Writes both pieces, in one system call where the socket takes them.
pub(super) async fn write<S: Stream>(stream: &S, timer: &Timer, first: &[u8], second: &[u8]) -> Result<(), Broken> {
    write_counting(stream, timer, first, second, &mut 0).await
}

/// The same; `done` says how many bytes the socket took, also when it broke.
pub(super) async fn write_counting<S: Stream>(
    stream: &S,
    timer: &Timer,
    first: &[u8],
    second: &[u8],
    done: &mut usize,
) -> Result<(), Broken> {
    let total = first.len() + second.len();
    poll_fn(|cx| {
        while *done < total {
            let sent =
                if *done >= first.len() { stream.send(&[], &second[*done - first.len()..]) } else { stream.send(&first[*done..], second) };
            match sent {
                Ok(0) => return Poll::Ready(Err(Broken::Failed)),
                Ok(count) => *done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match stream.poll_write_ready(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => return timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        match stream.poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(Broken::from)),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
        }
    })
    .await
}

/// Asks the kernel whether the peer has closed, for a request that must not be sent in vain.
pub(super) fn is_open(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0u8; 1];
    matches!(rustix::net::recv(stream, &mut byte, flags), Err(rustix::io::Errno::WOULDBLOCK))
}

/// A reset is the only way to say that what came is not the whole.
pub(super) fn reset(stream: &TcpStream) {
    // Of a socket that is closed already nothing more is said.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
