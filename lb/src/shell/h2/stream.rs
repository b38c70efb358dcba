//! A stream of HTTP/2 as a connection over HTTP/1.1 that has one request.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use tokio::net::TcpStream;

use crate::h2::answer::{Answer, Part};
use crate::h2::request::{self, Carried};
use crate::http1::chunked::write_chunk;
use crate::shell::exchange::Next;
use crate::shell::stream::Stream;

/// What a stream has from its connection.
#[derive(Debug)]
pub(super) struct Origin {
    /// It is under TLS.
    pub(super) secure: bool,
    /// What the client asked for in its TLS handshake.
    pub(super) server_name: Option<Rc<str>>,
    /// Our end of it.
    pub(super) local: Option<SocketAddr>,
}

/// A request is gathered up to so many bytes with what came of its body.
const GATHERED: usize = 2 * 1024;

#[derive(Debug)]
pub(super) struct VirtualStream {
    origin: Origin,
    request: RefCell<Incoming>,
    answer: RefCell<Outgoing>,
}

/// The request, written as HTTP/1.1 piece by piece.
#[derive(Debug)]
struct Incoming {
    body: RecvStream,
    carried: Carried,
    /// The head, later a piece of the body, as far as it was written and not received.
    ready: Vec<u8>,
    at: usize,
    /// Bytes of the piece that count against the client's window.
    owed: usize,
    /// Nothing follows the piece.
    ended: bool,
}

/// The answer, read as HTTP/1.1 piece by piece.
#[derive(Debug)]
struct Outgoing {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    answer: Answer,
}

impl Origin {
    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl VirtualStream {
    /// # Errors
    /// The request has no form in HTTP/1.1; what it would be answered with is given back.
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        origin: Origin,
        nonce: [u8; 16],
    ) -> Result<VirtualStream, SendResponse<Bytes>> {
        let (parts, body) = request.into_parts();
        let mut ready = Vec::with_capacity(512);
        let protocol = parts.extensions.get::<::h2::ext::Protocol>().map(::h2::ext::Protocol::as_str);
        let ended = body.is_end_stream();
        let Ok(carried) = request::write_head(&parts, origin.scheme(), ended, protocol, nonce, &mut ready) else { return Err(respond) };
        let answer = Answer::new(parts.method == Method::HEAD, carried == Carried::Tunnel);
        let mut incoming = Incoming { body, carried, ready, at: 0, owed: 0, ended };
        incoming.gather();
        Ok(VirtualStream { origin, request: RefCell::new(incoming), answer: RefCell::new(Outgoing { respond, body: None, answer }) })
    }

    /// The exchange is over: what was not said whole is taken back.
    pub(super) fn end(&self, next: &Next) {
        let mut out = self.answer.borrow_mut();
        if !out.answer.is_done() {
            let reason = if matches!(next, Next::Cut) || out.answer.is_begun() { Reason::INTERNAL_ERROR } else { Reason::CANCEL };
            out.reset(reason);
        }
    }
}

impl Incoming {
    fn fill(&mut self, data: &Bytes) {
        self.owed += data.len();
        match self.carried {
            Carried::Chunks => write_chunk(data, &mut self.ready),
            Carried::Plain | Carried::Tunnel => self.ready.extend_from_slice(data),
        }
    }

    /// Takes what of the body came with the head, so that a small one is read with it, and can be sent again as a whole.
    fn gather(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.carried != Carried::Tunnel && !self.ended && self.ready.len() < GATHERED {
            match self.body.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(data))) => self.fill(&data),
                Poll::Ready(None) => match self.body.poll_trailers(&mut cx) {
                    Poll::Ready(Ok(trailers)) => self.finish(trailers.as_ref()),
                    _ => return,
                },
                // Whoever reads on hears of it.
                Poll::Ready(Some(Err(_))) | Poll::Pending => return,
            }
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        if self.carried == Carried::Chunks {
            request::write_last_chunk(trailers, &mut self.ready);
        }
        self.ended = true;
    }

    /// Waits for the next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at == self.ready.len() && !self.ended {
            self.ready.clear();
            self.at = 0;
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => self.fill(&data),
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(|error| broken(&error))?;
                    self.finish(trailers.as_ref());
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = &self.ready[self.at..];
        if left.is_empty() {
            return if self.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = left.len().min(room.len());
        room[..count].copy_from_slice(&left[..count]);
        self.at += count;
        if self.at == self.ready.len() && self.owed > 0 {
            // A stream that was reset in the meantime has no window.
            let _ = self.body.flow_control().release_capacity(std::mem::take(&mut self.owed));
        }
        Ok(count)
    }
}

impl Outgoing {
    /// Takes as much of a piece as can be passed on.
    fn take(&mut self, piece: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < piece.len() && !self.answer.is_done() {
            let rest = &piece[taken..];
            let data = self.answer.data(rest.len());
            if data == 0 {
                let (count, part) = self.answer.framing(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                self.tell(part)?;
                taken += count;
                continue;
            }
            let Some(body) = &mut self.body else { return Err(io::ErrorKind::BrokenPipe.into()) };
            if body.capacity() < data {
                body.reserve_capacity(data);
            }
            let count = data.min(body.capacity());
            if count == 0 {
                break;
            }
            let ended = self.answer.passed(count);
            body.send_data(Bytes::copy_from_slice(&rest[..count]), ended).map_err(|error| broken(&error))?;
            taken += count;
        }
        Ok(taken)
    }

    fn tell(&mut self, part: Part) -> io::Result<()> {
        let told = match part {
            Part::Framing => Ok(()),
            Part::Interim(response) => self.respond.send_informational(response),
            Part::Head { response, ended } => self.respond.send_response(response, ended).map(|body| self.body = Some(body)),
            Part::End(trailers) => match &mut self.body {
                Some(body) if trailers.is_empty() => body.send_data(Bytes::new(), true),
                Some(body) => body.send_trailers(trailers),
                None => Ok(()),
            },
        };
        told.map_err(|error| broken(&error))
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Ready once the client has reset the stream.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.answer.is_done() {
            return Poll::Pending;
        }
        match &mut self.body {
            Some(body) => body.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }
}

impl Stream for VirtualStream {
    const HTTP2: bool = true;

    fn scheme(&self) -> &'static str {
        self.origin.scheme()
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        self.request.borrow_mut().take(room)
    }

    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut out = self.answer.borrow_mut();
        let mut count = out.take(first)?;
        if count == first.len() {
            count += out.take(second)?;
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.request.borrow_mut().poll_piece(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.answer.borrow_mut();
        let Some(body) = &mut out.body else { return Poll::Ready(Ok(())) };
        while body.capacity() == 0 {
            match ready!(body.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was taken is on its way; how much that may be is bounded by the window.
    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.answer.borrow_mut().poll_reset(cx)
    }

    /// Nobody knows without asking for more.
    fn is_readable(&self) -> bool {
        true
    }

    fn shutdown_write(&self) {
        let mut out = self.answer.borrow_mut();
        let Outgoing { body: Some(body), answer, .. } = &mut *out else { return };
        answer.finish();
        // One that was reset has no end to tell.
        let _ = body.send_data(Bytes::new(), true);
    }

    fn farewell(&self) {}

    fn abort(&self) {
        self.answer.borrow_mut().reset(Reason::INTERNAL_ERROR);
    }

    fn is_open(&self) -> bool {
        true
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn local(&self) -> Option<SocketAddr> {
        self.origin.local
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(self.origin.server_name.as_deref())
    }
}

fn broken(error: &::h2::Error) -> io::Error {
    tracing::trace!(%error, "a stream ended");
    io::ErrorKind::ConnectionReset.into()
}
