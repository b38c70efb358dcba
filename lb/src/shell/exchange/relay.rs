//! A request on its way to an endpoint, and the answer on its way back.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use weir_config::{Changes, PathPattern, Pool, Rewrite};

use crate::cause::Cause;
use crate::http1::chunked::write_chunk;
use crate::http1::edit::edit;
use crate::http1::relocate::{Outside, relocate};
use crate::http1::request::Request;
use crate::http1::response::{self, Asked, Framing, Response};
use crate::http1::{Body, Bounds, Scanner};
use crate::shell::buffer::{Buf, Head, LARGE, SMALL};
use crate::shell::endpoint::EndpointStream;
use crate::shell::io::{self, Broken};
use crate::shell::pick::Place;
use crate::shell::stream::Stream;

use super::{Exchange, Failure, Responded, Sent, Upload};

/// A body that begins in the same read as the head and is at most this long goes out in the same write without a second slice.
const INLINE_BODY: usize = 4 * 1024;
/// Reads of one long body before the other connections of the worker get their turn.
const READS_PER_TURN: u32 = 8;
/// Interim responses of one exchange.
const INTERIM_MAX: u32 = 16;

impl Exchange<'_> {
    /// Sends the request on this connection and relays the response.
    #[allow(clippy::too_many_arguments)] // One caller; each is a different part of the exchange.
    pub(super) async fn exchange<S: Stream>(
        &self,
        place: &Place,
        endpoint: &EndpointStream,
        request: &Request,
        input: &Buf,
        sent: &Sent,
        upload: &mut Upload,
        from_client: &S,
        to_client: &S,
    ) -> Result<Responded, Failure> {
        let (from_endpoint, to_endpoint) = (endpoint, endpoint);
        let pool = &place.pool().config;
        self.arm(self.within_try(pool.timeouts.first_byte));
        let prefix = &input.filled()[sent.prefix.clone()];
        let mut written = 0;
        if let Err(broken) = io::write_counting(to_endpoint, self.timer, &sent.head.bytes, prefix, &mut written).await {
            let cause = match broken {
                Broken::Timeout => self.or_total(Cause::EndpointIdle),
                // An answer may be there already, but a request that was not taken whole is safer sent again.
                Broken::Failed => self.closed_cause(),
            };
            return Err(Failure { cause, unprocessed: written == 0, granted: false });
        }
        if !upload.kept.is_empty() {
            self.write(to_endpoint, &upload.kept, &[], pool.timeouts.idle).await.map_err(|broken| match broken {
                Broken::Timeout => self.or_total(Cause::EndpointIdle),
                Broken::Failed => self.closed_cause(),
            })?;
            self.arm(self.within_try(pool.timeouts.first_byte));
        }
        if self.uploaded.get() {
            return self.respond(place, request, input.filled(), sent.close, from_endpoint, to_client).await;
        }
        // Boxed, here and below, is what few requests come to: it would be carried by all of them.
        let mut respond = Box::pin(self.respond(place, request, input.filled(), sent.close, from_endpoint, to_client));
        let mut sending = Box::pin(self.upload(upload, pool, from_client, to_endpoint));
        let mut is_sending = true;
        poll_fn(|cx| {
            if is_sending && let Poll::Ready(end) = sending.as_mut().poll(cx) {
                is_sending = false;
                match end {
                    Ok(()) | Err(None) => {}
                    Err(Some(cause)) => return Poll::Ready(Err(cause.into())),
                }
            }
            respond.as_mut().poll(cx)
        })
        .await
    }

    /// Passes on the rest of the request's body. `Err(None)`: the endpoint takes no more; its answer tells why.
    async fn upload<S: Stream>(
        &self,
        upload: &mut Upload,
        pool: &Pool,
        from_client: &S,
        to_endpoint: &EndpointStream,
    ) -> Result<(), Option<Cause>> {
        while !upload.body.is_done() {
            self.arm(self.listener.config.timeouts.idle);
            io::readable(from_client, self.timer).await.map_err(|broken| Some(self.client_cause(&broken)))?;
            let large = matches!(upload.body, Body::Length(left) if left > SMALL as u64);
            let mut buf = if large { self.worker.buffers.bulk() } else { self.worker.buffers.small() };
            let count = io::read(from_client, self.timer, &mut buf).await.map_err(|broken| Some(self.client_cause(&broken)))?;
            if count == 0 {
                return Err(Some(Cause::ClientClosed));
            }
            let advance = upload.body.advance(buf.filled_mut()).map_err(|_| Some(Cause::BadRequest))?;
            self.trace.add_request_bytes(advance.kept as u64);
            if self.http.limits.body_bytes_max.is_some_and(|most| self.trace.request_bytes() > most) {
                return Err(Some(Cause::BodyTooLarge));
            }
            // Before anything can fail or be dropped in the middle: the client will not send these bytes again.
            if advance.consumed < buf.len() {
                let mut rest = self.worker.buffers.fitting(buf.len() - advance.consumed);
                rest.push(&buf.filled()[advance.consumed..]);
                upload.rest = Some(rest);
            }
            let piece = &buf.filled()[..advance.kept];
            if upload.replayable && upload.kept.len() + piece.len() <= upload.keep_max {
                upload.kept.extend_from_slice(piece);
            } else {
                upload.replayable = false;
                self.repeatable.set(false);
                upload.kept = Vec::new();
            }
            self.worker.timers.now_us();
            match self.write(to_endpoint, piece, &[], pool.timeouts.idle).await {
                Ok(()) => {}
                Err(Broken::Timeout) => return Err(Some(self.or_total(Cause::EndpointIdle))),
                Err(Broken::Failed) => return Err(None),
            }
        }
        self.uploaded.set(true);
        self.trace.uploaded(&self.worker.timers);
        self.arm(self.within_try(pool.timeouts.first_byte));
        Ok(())
    }

    /// Reads the response and relays it. `asked_of`: what the client sent, from its first byte.
    async fn respond<S: Stream>(
        &self,
        place: &Place,
        request: &Request,
        asked_of: &[u8],
        close: bool,
        from_endpoint: &EndpointStream,
        to_client: &S,
    ) -> Result<Responded, Failure> {
        let asked = Asked { method: request.method, minor: request.minor, upgrade: request.upgrade };
        let via = self.http.headers.via.then_some(&*self.worker.node);
        let mut out = self.worker.buffers.head();
        let mut input: Option<Buf> = None;
        let mut close = close;
        let mut interims = 0;
        let mut response = loop {
            let head_len = self.read_response_head(place, from_endpoint, &mut input).await?;
            let buf = input.as_mut().expect("a head was read into it");
            let forward = |response: &Response| {
                // An answer before the whole request was read leaves the connection in no state to go on; an interim one is none yet.
                if !response.is_interim() {
                    close |= response.ends_by_close() || !self.uploaded.get() || self.worker.draining.get();
                }
                response::Forward { close, via }
            };
            let response = response::parse(buf.filled(), head_len, asked, forward, &mut out.bytes).map_err(|error| {
                tracing::debug!(endpoint = %place.address, %error, "refused a response");
                Failure::from(Cause::BadResponse)
            })?;
            if !response.is_interim() {
                if response.status >= 400 && self.is_retried(response.status, place) {
                    if response.status >= 500 {
                        place.answered_badly(response.status);
                    }
                    return Err(Failure { cause: Cause::BadResponse, unprocessed: false, granted: true });
                }
                break response;
            }
            interims += 1;
            if interims > INTERIM_MAX {
                return Err(Cause::BadResponse.into());
            }
            buf.consume(head_len);
            if request.minor == 1 {
                self.send(to_client, &out.bytes, &[]).await?;
                // Whole, and not the answer: that may still be another endpoint's, or our own.
                self.begun.set(false);
                if self.uploaded.get() {
                    self.arm(self.within_try(place.pool().config.timeouts.first_byte));
                }
            }
            out.bytes.clear();
        };
        let mut buf = input.expect("a head was read into it");
        if let Some(changes) = self.route.get().and_then(|route| route.changes.as_deref()) {
            self.change(changes, request, asked_of, to_client, &mut out.bytes);
        }
        if let Some(sessions) = &place.pool().sessions {
            self.settle(sessions, place, to_client, &mut out.bytes);
        }
        self.trace.responded(response.status, place, &self.worker.timers);
        buf.consume(response.head_len);
        if response.status == 101 {
            self.send(to_client, &out.bytes, &[]).await?;
            return Ok(Responded::Switched(Some(buf)));
        }

        let advance = response.body.advance(buf.filled_mut()).map_err(|_| Failure::from(Cause::BadResponse))?;
        let mut clean = advance.consumed == buf.len();
        let piece = &buf.filled()[..advance.kept];
        self.trace.add_response_bytes(piece.len() as u64);
        if response.framing == Framing::Chunk {
            write_chunk(piece, &mut out.bytes);
            self.send(to_client, &out.bytes, &[]).await?;
        } else if piece.len() <= INLINE_BODY {
            out.bytes.extend_from_slice(piece);
            self.send(to_client, &out.bytes, &[]).await?;
        } else {
            self.send(to_client, &out.bytes, piece).await?;
        }
        drop(buf);
        if !response.body.is_done() {
            clean &= Box::pin(self.relay(place, &mut response, &mut out, from_endpoint, to_client)).await?;
        }
        if response.framing == Framing::Chunk {
            self.send(to_client, b"0\r\n\r\n", &[]).await?;
        }
        Ok(Responded::Complete { reusable: response.reusable && clean, keep_alive_s: response.keep_alive_s, close })
    }

    /// What the route changes on an answer's head.
    fn change<S: Stream>(&self, changes: &Changes, request: &Request, asked_of: &[u8], to_client: &S, head: &mut Vec<u8>) {
        if changes.rewrite_location {
            let path = self.route.get().and_then(|route| route.path.as_ref());
            let prefix = match (path, &changes.rewrite) {
                (Some(PathPattern::Prefix(there)), Some(Rewrite::Prefix(here))) => Some((&**there, &**here)),
                _ => None,
            };
            relocate(head, &Outside { scheme: to_client.scheme(), host: request.host.of_buf(asked_of), prefix });
        }
        if !changes.response.is_empty() {
            edit(head, &changes.response);
        }
    }

    /// Relays what is left of the response's body. Whether nothing came behind it.
    async fn relay<S: Stream>(
        &self,
        place: &Place,
        response: &mut Response,
        out: &mut Head,
        from_endpoint: &EndpointStream,
        to_client: &S,
    ) -> Result<bool, Failure> {
        let pool = &place.pool().config;
        let mut reads = 0u32;
        while !response.body.is_done() {
            reads += 1;
            if reads.is_multiple_of(READS_PER_TURN) {
                tokio::task::yield_now().await;
            }
            self.worker.timers.now_us();
            self.arm(pool.timeouts.idle);
            io::readable(from_endpoint, self.timer).await.map_err(|broken| self.endpoint_failure(&broken))?;
            let large = match &response.body {
                Body::Length(left) => *left > SMALL as u64,
                _ => true,
            };
            let mut buf = if large { self.worker.buffers.bulk() } else { self.worker.buffers.small() };
            let count = io::read(from_endpoint, self.timer, &mut buf).await.map_err(|broken| self.endpoint_failure(&broken))?;
            if count == 0 {
                return if response.body.complete_at_close() { Ok(false) } else { Err(Cause::EndpointClosed.into()) };
            }
            let advance = response.body.advance(buf.filled_mut()).map_err(|_| Failure::from(Cause::BadResponse))?;
            let piece = &buf.filled()[..advance.kept];
            self.trace.add_response_bytes(piece.len() as u64);
            if response.framing == Framing::Chunk {
                out.bytes.clear();
                write_chunk(piece, &mut out.bytes);
                self.send(to_client, &out.bytes, &[]).await?;
            } else {
                self.send(to_client, piece, &[]).await?;
            }
            if advance.consumed < count {
                return Ok(false);
            }
            debug_assert!(count <= LARGE);
        }
        Ok(true)
    }

    /// Waits for the first byte of an answer. Of an endpoint that is found gone meanwhile none comes.
    async fn answer_begins(&self, place: &Place, from_endpoint: &EndpointStream) -> Result<(), Failure> {
        poll_fn(|cx| match from_endpoint.poll_read_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.map_err(|error| self.head_failure(&error.into()))),
            Poll::Pending if place.is_gone() => Poll::Ready(Err(Cause::EndpointGone.into())),
            Poll::Pending => self.timer.poll_expired(cx).map(|()| Err(self.head_failure(&Broken::Timeout))),
        })
        .await
    }

    async fn read_response_head(&self, place: &Place, from_endpoint: &EndpointStream, input: &mut Option<Buf>) -> Result<usize, Failure> {
        let mut scanner = Scanner::default();
        loop {
            if let Some(buf) = input.as_ref().filter(|buf| !buf.is_empty()) {
                match scanner.scan(buf.filled(), &Bounds::RESPONSE) {
                    Ok(Some(head_len)) => return Ok(head_len),
                    Ok(None) => {}
                    Err(_) => return Err(Cause::BadResponse.into()),
                }
            }
            if input.is_none() {
                // Without a buffer while the endpoint works.
                self.answer_begins(place, from_endpoint).await?;
                *input = Some(self.worker.buffers.small());
            }
            let buf = input.as_mut().expect("it was just put there");
            if buf.spare().is_empty() && !buf.make_room(Bounds::RESPONSE.head_bytes_max) {
                return Err(Cause::BadResponse.into());
            }
            match io::read(from_endpoint, self.timer, buf).await {
                Ok(0) if buf.is_empty() => return Err(self.closed_cause().into()),
                Ok(0) => return Err(Cause::EndpointClosed.into()),
                Ok(_) => {}
                Err(broken) => return Err(self.head_failure(&broken)),
            }
        }
    }

    /// Sends to the client. From here on no other attempt is made.
    async fn send<S: Stream>(&self, to_client: &S, first: &[u8], second: &[u8]) -> Result<(), Failure> {
        self.begun.set(true);
        self.trace.add_sent_bytes((first.len() + second.len()) as u64);
        let idle = self.listener.config.timeouts.idle;
        self.write(to_client, first, second, idle).await.map_err(|broken| self.client_cause(&broken).into())
    }

    /// Writes both pieces. `wait` is for each step forward, not for the whole: a slow reader of a large piece is not an idle one.
    async fn write<S: Stream>(&self, to: &S, first: &[u8], second: &[u8], wait: Duration) -> Result<(), Broken> {
        let mut done = 0;
        self.arm(wait);
        loop {
            let before = done;
            match io::write_counting(to, self.timer, first, second, &mut done).await {
                Err(Broken::Timeout) if done > before && !self.total_passed() => self.arm(wait),
                end => return end,
            }
        }
    }
}
