//! A request over a stream of HTTP/2 to an endpoint, as a connection over HTTP/1.1 that has one request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::h2::client::{ResponseFuture, SendRequest};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use tokio::net::TcpStream;

use super::links::Link;
use crate::h2::ask;
use crate::h2::told::{self, Asked, Framed};
use crate::h2::unframe::Unframe;
use crate::shell::stream::Stream;

/// A response is gathered up to so many bytes before they are read on: a small one is then read at once, with its head and its trailers.
const GATHERED: usize = 4 * 1024;

/// What a broken call says about its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shell) enum CallFault {
    /// The endpoint did not look at it, and says so (RFC 9113 sections 6.8 and 8.7).
    Unprocessed,
    /// It has no form in HTTP/2.
    Unspeakable,
    /// The endpoint's answer broke the rules.
    Malformed,
}

/// A request and its response.
#[derive(Debug)]
pub(in crate::shell) struct Call {
    link: Rc<Link>,
    secure: bool,
    fault: Cell<Option<CallFault>>,
    request: RefCell<Outgoing>,
    response: RefCell<Incoming>,
}

/// The request, read as HTTP/1.1 piece by piece.
#[derive(Debug)]
enum Outgoing {
    /// The head comes first, in one piece.
    Head(SendRequest<Bytes>),
    Body(SendStream<Bytes>, Unframe),
}

/// The response, written as HTTP/1.1 piece by piece.
#[derive(Debug)]
struct Incoming {
    stage: Stage,
    asked: Asked,
    /// As far as it was written and not received.
    ready: Vec<u8>,
    at: usize,
    /// Bytes of it that count against the endpoint's window.
    owed: usize,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was asked yet.
    Nothing,
    Head(ResponseFuture),
    Body(RecvStream, Framed),
    End,
}

impl Call {
    /// On a connection that has room for it; `sender` is its, and ready.
    pub(super) fn new(link: Rc<Link>, sender: SendRequest<Bytes>, secure: bool) -> Call {
        link.enter();
        let response = Incoming { stage: Stage::Nothing, asked: Asked::default(), ready: Vec::new(), at: 0, owed: 0 };
        Call { link, secure, fault: Cell::new(None), request: RefCell::new(Outgoing::Head(sender)), response: RefCell::new(response) }
    }

    /// What there is to say about the request once something failed.
    pub(in crate::shell) fn fault(&self) -> Option<CallFault> {
        self.fault.get()
    }

    fn broken(&self, error: &::h2::Error) -> io::Error {
        tracing::debug!(endpoint = %self.link.authority(), %error, "a stream to an endpoint broke");
        let refused = error.is_remote() && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)));
        if refused {
            self.fault.set(Some(CallFault::Unprocessed));
        } else if error.is_library() && error.reason().is_some_and(|reason| reason != Reason::NO_ERROR) {
            self.fault.set(Some(CallFault::Malformed));
        }
        io::ErrorKind::ConnectionReset.into()
    }

    /// Takes the head, which comes in one piece.
    fn ask(&self, piece: &[u8], out: &mut Outgoing) -> io::Result<usize> {
        let Outgoing::Head(sender) = out else { return Ok(0) };
        let extended = sender.is_extended_connect_protocol_enabled();
        let (len, asked) = ask::read_head(piece, self.secure, self.link.authority(), extended).map_err(|error| {
            self.fault.set(Some(CallFault::Unspeakable));
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        let (response, body) = sender.send_request(asked.request, asked.body.is_done()).map_err(|error| {
            let broken = self.broken(&error);
            // It did not even leave. What is neither said of the connection nor by the peer is said of the request.
            let unspeakable = !error.is_io() && error.reason().is_none();
            self.fault.set(Some(if unspeakable { CallFault::Unspeakable } else { CallFault::Unprocessed }));
            broken
        })?;
        let mut incoming = self.response.borrow_mut();
        incoming.stage = Stage::Head(response);
        incoming.asked = Asked { head_only: asked.head_only, trailers: asked.trailers, websocket: asked.websocket };
        *out = Outgoing::Body(body, asked.body);
        Ok(len)
    }

    /// Takes as much of a piece as can be passed on.
    fn take(&self, piece: &[u8], out: &mut Outgoing) -> io::Result<usize> {
        let mut taken = if matches!(out, Outgoing::Head(_)) && !piece.is_empty() { self.ask(piece, out)? } else { 0 };
        let Outgoing::Body(body, framing) = out else { return Ok(0) };
        while taken < piece.len() && !framing.is_done() {
            let rest = &piece[taken..];
            let data = framing.data(rest.len());
            if data == 0 {
                let unframed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                taken += framing.framing(rest).map_err(unframed)?;
                if framing.is_done() {
                    let trailers = framing.trailer_map().map_err(unframed)?;
                    let ended = if trailers.is_empty() { body.send_data(Bytes::new(), true) } else { body.send_trailers(trailers) };
                    ended.map_err(|error| self.broken(&error))?;
                }
                continue;
            }
            if body.capacity() < data {
                body.reserve_capacity(data);
            }
            let count = data.min(body.capacity());
            if count == 0 {
                break;
            }
            let ended = framing.passed(count);
            body.send_data(Bytes::copy_from_slice(&rest[..count]), ended).map_err(|error| self.broken(&error))?;
            taken += count;
        }
        Ok(taken)
    }

    /// Waits for the next pieces of the response.
    fn poll_pieces(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut incoming = self.response.borrow_mut();
        if incoming.at < incoming.ready.len() {
            return Poll::Ready(Ok(()));
        }
        incoming.ready.clear();
        incoming.at = 0;
        while incoming.ready.len() < GATHERED {
            match incoming.poll_piece(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                // What came before it is good.
                Poll::Ready(Err(_)) | Poll::Pending if !incoming.ready.is_empty() => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broken(&error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Incoming {
    /// Writes the next piece; `false`: there is none any more.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ::h2::Error>> {
        let Incoming { stage, asked, ready, owed, .. } = self;
        match stage {
            Stage::Nothing => return Poll::Pending,
            Stage::End => return Poll::Ready(Ok(false)),
            Stage::Head(response) => {
                if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                    told::write_interim(&interim?, ready);
                    return Poll::Ready(Ok(true));
                }
                let (parts, body) = ready!(Pin::new(response).poll(cx))?.into_parts();
                let ended = body.is_end_stream();
                let framed = told::write_head(&parts, ended, *asked, ready);
                *stage = if ended { Stage::End } else { Stage::Body(body, framed) };
            }
            Stage::Body(body, framed) => match ready!(body.poll_data(cx)) {
                Some(data) => {
                    let data = data?;
                    *owed += data.len();
                    framed.write(&data, ready);
                }
                None => {
                    let trailers = ready!(body.poll_trailers(cx))?;
                    framed.write_end(trailers.as_ref(), ready);
                    self.release();
                    self.stage = Stage::End;
                }
            },
        }
        Poll::Ready(Ok(true))
    }

    /// Lets the endpoint send as much again.
    fn release(&mut self) {
        if let Stage::Body(body, _) = &mut self.stage
            && self.owed > 0
        {
            // A stream that was reset in the meantime has no window.
            let _ = body.flow_control().release_capacity(std::mem::take(&mut self.owed));
        }
    }

    fn take(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = &self.ready[self.at..];
        if left.is_empty() {
            return if matches!(self.stage, Stage::End) { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = left.len().min(room.len());
        room[..count].copy_from_slice(&left[..count]);
        self.at += count;
        if self.at == self.ready.len() {
            self.release();
        }
        Ok(count)
    }
}

impl Drop for Call {
    /// What was not said whole is taken back by the library, which resets a stream that nobody holds.
    fn drop(&mut self) {
        self.link.leave();
    }
}

impl Stream for Call {
    const HTTP2: bool = true;

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        self.response.borrow_mut().take(room)
    }

    fn send(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut out = self.request.borrow_mut();
        let mut count = self.take(first, &mut out)?;
        if count == first.len() {
            count += self.take(second, &mut out)?;
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pieces(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.request.borrow_mut();
        let Outgoing::Body(body, _) = &mut *out else { return Poll::Ready(Ok(())) };
        while body.capacity() == 0 {
            match ready!(body.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.broken(&error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was taken is on its way; how much that may be is bounded by the window.
    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nobody knows without asking for more.
    fn is_readable(&self) -> bool {
        true
    }

    fn shutdown_write(&self) {
        if let Outgoing::Body(body, framing) = &mut *self.request.borrow_mut()
            && !framing.is_done()
        {
            framing.finish();
            // One that was reset has no end to tell.
            let _ = body.send_data(Bytes::new(), true);
        }
    }

    fn farewell(&self) {}

    fn abort(&self) {
        if let Outgoing::Body(body, _) = &mut *self.request.borrow_mut() {
            body.send_reset(Reason::CANCEL);
        }
    }

    fn is_open(&self) -> bool {
        true
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn local(&self) -> Option<SocketAddr> {
        None
    }

    fn with_server_name<R>(&self, show: impl FnOnce(Option<&str>) -> R) -> R {
        show(None)
    }
}
