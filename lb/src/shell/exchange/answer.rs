//! Answers of our own, and tunnels, in which nobody answers.

use std::sync::atomic::Ordering;

use crate::cause::Cause;
use crate::http1::Body;
use crate::http1::reply::{self, Reply};
use crate::http1::request::{self, Method, Request};
use crate::shell::buffer::Buf;
use crate::shell::io;
use crate::shell::stream::Stream;
use crate::shell::tunnel::{self, Moved};

use super::read::DISCARDED_MAX;
use super::{Exchange, Next, Upgraded, Upload};

impl Exchange<'_> {
    /// Answers 429. The connection goes on where what is left of the request is little: a client that is told to wait should not need another.
    pub(super) async fn limited<S: Stream>(
        &self,
        stream: &S,
        request: &Request,
        mut input: Buf,
        upload: &mut Upload,
        behind: usize,
        close: bool,
    ) -> Next {
        let waits = request::field(&input.filled()[..request.head_len], "expect").is_some();
        let is_little = match &upload.body {
            Body::Length(left) => *left <= DISCARDED_MAX as u64,
            _ => true,
        };
        let goes_on = !close && (self.uploaded.get() || (is_little && !waits));
        self.answer(stream, Cause::RateLimited, "more requests than allowed", Some(request), &input, !goes_on).await;
        self.finish(Cause::RateLimited, Some(request), &input);
        if !goes_on || !self.discard(stream, upload).await {
            return Next::Linger;
        }
        input.consume(behind);
        Next::Request(upload.rest.take().or(Some(input)).filter(|buf| !buf.is_empty()))
    }

    /// Answers with an error of our own and ends the connection.
    pub(super) async fn refuse<S: Stream>(
        &self,
        to_client: &S,
        cause: Cause,
        detail: &str,
        request: Option<&Request>,
        input: &Buf,
    ) -> Next {
        if cause != Cause::ClientClosed {
            Box::pin(self.answer(to_client, cause, detail, request, input, true)).await;
        }
        self.finish(cause, request, input);
        Next::Linger
    }

    /// Sends the client to the same place by HTTPS and ends the connection.
    pub(super) async fn redirect<S: Stream>(&self, to_client: &S, port: u16, request: &Request, input: &Buf) -> Next {
        let (host, target) = (request.host.of_buf(input.filled()), request.target.of_buf(input.filled()));
        if host.is_empty() {
            let detail = "a request without a host cannot be sent to another place";
            return self.refuse(to_client, Cause::BadRequest, detail, Some(request), input).await;
        }
        let mut out = self.worker.buffers.head();
        reply::write_redirect(host, port, request.path.of_buf(input.filled()), target, &mut out.bytes);
        self.trace.add_sent_bytes(out.bytes.len() as u64);
        self.trace.status(308);
        self.worker.timers.now_us();
        self.timer.set_after(self.listener.config.timeouts.head);
        // As with any last word: a client that is gone does not want it.
        let _ = io::write(to_client, self.timer, &out.bytes, &[]).await;
        self.finish(Cause::Ok, Some(request), input);
        Next::Linger
    }

    pub(super) async fn answer<S: Stream>(
        &self,
        to_client: &S,
        cause: Cause,
        detail: &str,
        request: Option<&Request>,
        input: &Buf,
        close: bool,
    ) {
        let head = request.map(|request| &input.filled()[..request.head_len]);
        let mut out = self.worker.buffers.head();
        let mut digits = [0; 32];
        let id = self.trace.id_text(request, input.filled(), &mut digits);
        let reply = Reply {
            cause,
            detail,
            json: reply::wants_json(head.and_then(|head| request::field(head, "accept"))),
            head_only: request.is_some_and(|request| request.method == Method::Head),
            close,
            http10: request.is_some_and(|request| request.minor == 0),
            retry_after_s: self.retry_after_s.get(),
            request_id: id,
        };
        reply::write(&reply, &mut out.bytes);
        self.trace.add_sent_bytes(out.bytes.len() as u64);
        self.trace.status(cause.status());
        self.worker.timers.now_us();
        self.timer.set_after(self.listener.config.timeouts.head);
        // A client that is gone does not want the answer; the end is counted by its first cause.
        let _ = io::write(to_client, self.timer, &out.bytes, &[]).await;
    }

    /// Serves an upgraded connection to its end.
    pub(super) async fn tunnel<S: Stream>(&self, stream: &S, upgraded: Upgraded) -> Next {
        let Upgraded { place, endpoint, first } = upgraded;
        place.state().tunnels.fetch_add(1, Ordering::Relaxed);
        let moved = Moved::default();
        let end = tunnel::run(self.worker, stream, &endpoint, first, self.timer, self.listener.config.timeouts.tunnel, &moved).await;
        place.state().tunnels.fetch_sub(1, Ordering::Relaxed);
        self.trace.add_request_bytes(moved.up.get());
        self.trace.add_response_bytes(moved.down.get());
        self.trace.add_sent_bytes(moved.down.get());
        self.trace.finish_tunnel(self.worker, self.listener, self.client.get(), &end);
        Next::Close
    }
}

pub(super) fn explain(cause: Cause) -> &'static str {
    match cause {
        Cause::BadRequest => "the request body is framed wrongly, or the request cannot be said over HTTP/2",
        Cause::BodyTooLarge => "the request body is larger than allowed",
        Cause::ClientIdle => "the request body did not come in time",
        Cause::NoEndpoint => "no endpoint of the pool was available in time",
        Cause::QueueFull => "too many requests wait for the pool already",
        Cause::ConnectFailed => "no endpoint accepted the connection",
        Cause::ConnectTimeout => "no endpoint accepted the connection in time",
        Cause::TlsFailed => "no endpoint could be reached under TLS; the log of this node says why",
        Cause::EndpointClosed => "the endpoint closed the connection before its answer was complete",
        Cause::ReusedClosed => "the endpoint closed a kept connection while the request was sent, and the request may not be repeated",
        Cause::BadResponse => "the endpoint answered what is not HTTP",
        Cause::FirstByteTimeout => "the endpoint did not answer in time",
        Cause::EndpointGone => "the endpoint died before it answered",
        Cause::EndpointIdle => "the endpoint stopped in the middle",
        Cause::TotalTimeout => "the exchange took longer than allowed",
        Cause::CircuitOpen => "the pool has as many requests as it may have",
        Cause::Shed => "the pool answers slowly and takes no more requests for now",
        Cause::SessionGone => "the endpoint of this session is not available",
        Cause::Overload => "this node is out of a resource such as file descriptors",
        _ => "the request could not be served",
    }
}
