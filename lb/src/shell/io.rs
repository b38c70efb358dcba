//! Reading and writing under a deadline.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::Buf;
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
pub(super) async fn readable(stream: &TcpStream, timer: &Timer) -> Result<(), Broken> {
    poll_fn(|cx| match stream.poll_read_ready(cx) {
        Poll::Ready(ready) => Poll::Ready(ready.map_err(Broken::from)),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
    })
    .await
}

/// Reads into the buffer's spare room, which must not be empty; 0: the peer closed.
pub(super) async fn read(half: &mut ReadHalf<'_>, timer: &Timer, buf: &mut Buf) -> Result<usize, Broken> {
    poll_fn(|cx| {
        let mut spare = ReadBuf::new(buf.spare());
        match Pin::new(&mut *half).poll_read(cx, &mut spare) {
            Poll::Ready(Ok(())) => {
                let count = spare.filled().len();
                buf.add(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
        }
    })
    .await
}

/// Writes both pieces, in one system call where the socket takes them.
pub(super) async fn write(half: &mut WriteHalf<'_>, timer: &Timer, first: &[u8], second: &[u8]) -> Result<(), Broken> {
    write_counting(half, timer, first, second, &mut 0).await
}

/// The same; `done` says how many bytes the socket took, also when it broke.
pub(super) async fn write_counting(
    half: &mut WriteHalf<'_>,
    timer: &Timer,
    first: &[u8],
    second: &[u8],
    done: &mut usize,
) -> Result<(), Broken> {
    let total = first.len() + second.len();
    poll_fn(|cx| {
        while *done < total {
            let polled = if *done >= first.len() {
                Pin::new(&mut *half).poll_write(cx, &second[*done - first.len()..])
            } else if second.is_empty() {
                Pin::new(&mut *half).poll_write(cx, &first[*done..])
            } else {
                Pin::new(&mut *half).poll_write_vectored(cx, &[IoSlice::new(&first[*done..]), IoSlice::new(second)])
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Failed)),
                Poll::Ready(Ok(count)) => *done += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return timer.poll_expired(cx).map(|()| Err(Broken::Timeout)),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Tells the peer that nothing more comes.
pub(super) fn shutdown_write(stream: &TcpStream) {
    // The peer may be gone already; then there is nobody to tell.
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
}
