//! Routing a request, and answering those that no pool gets.

use std::borrow::Cow;
use std::time::Duration;

use weir_config::{FixedAnswer, LimitKey, PathPattern, RateLimit, Redirect, Rewrite, Route, RouteAction};

use crate::cause::Cause;
use crate::http1::edit::edit;
use crate::http1::reply::{self, Own};
use crate::http1::request::{self, Method, Request};
use crate::limit::{self, Bucket, Full, Limiter, Seat};
use crate::route::{Asked, RouteTable, Way};

use super::buffer::Buf;
use super::exchange::Exchange;
use super::io;
use super::stream::Stream;
use super::worker;

/// What becomes of a request.
pub(super) enum Routed<'a> {
    Pool(u32),
    /// A route answers it.
    Own(&'a RouteAction),
    /// No route, and no pool of the listener's own.
    Nowhere,
    /// It has no path that all servers read alike.
    Refused(String),
}

impl<'a> Exchange<'a> {
    /// Finds the route. Where the path was sent in another than its normal form, the head that the endpoint gets is changed to that.
    pub(super) fn route<S: Stream>(
        &self,
        table: &RouteTable,
        stream: &S,
        request: &Request,
        input: &Buf,
        head: &mut Vec<u8>,
    ) -> Routed<'a> {
        let buf = input.filled();
        let path = match table.path(request.path.of_buf(buf)) {
            Ok(path) => path,
            Err(error) => return Routed::Refused(error.to_string()),
        };
        let routes = &self.http.routes;
        let found = stream.with_server_name(|server_name| {
            let asked = Asked {
                method: request.method_text.of_buf(buf),
                host: request.host.of_buf(buf),
                path: &path,
                head: &buf[..request.head_len],
                target: request.target.of_buf(buf),
                source: self.client.get().ip(),
                server_name,
            };
            table.find(routes, &asked)
        });
        let route = found.map(|number| &routes[number]);
        self.route.set(route);
        let changes = route.and_then(|route| route.changes.as_deref());
        match changes.and_then(|changes| changes.rewrite.as_ref()).zip(route) {
            Some((rewrite, route)) => match table.path(&rewritten(rewrite, route, &path)) {
                Ok(path) => request.replace_path(head, &path),
                Err(error) => return Routed::Refused(format!("what the path is rewritten to cannot be passed on: {error}")),
            },
            None => {
                if let Cow::Owned(path) = &path {
                    request.replace_path(head, path);
                }
            }
        }
        if let Some(changes) = changes.filter(|changes| !changes.request.is_empty()) {
            edit(head, &changes.request);
        }
        if let Some(number) = found {
            self.mirror.set(table.mirror(number, &mut self.worker.random.borrow_mut()));
        }
        match found {
            Some(number) => match table.follow(routes, number, self.worker.id, &mut self.worker.random.borrow_mut()) {
                Way::Pool(slot) => Routed::Pool(slot),
                Way::Own(action) => Routed::Own(action),
            },
            None => self.listener.pool.map_or(Routed::Nowhere, Routed::Pool),
        }
    }

    /// Asks every limit that concerns the request, and counts it as under way where that is bounded. What was taken of one is given back when
    /// another refuses.
    ///
    /// # Errors
    /// One refuses: when it may be asked again.
    pub(super) fn admit(&self, limiters: &[Limiter], head: &[u8]) -> Result<Vec<Seat>, Duration> {
        let now_ns = worker::uptime().as_nanos() as u64;
        // An empty list allocates nothing.
        let mut seats = Vec::new();
        for (number, limiter, bucket) in self.buckets(limiters, head) {
            let refused = match limiter.admit(bucket, now_ns) {
                Err(wait) => Some(wait),
                Ok(()) => match limiter.enter(bucket) {
                    Ok(seat) => {
                        seats.extend(seat);
                        None
                    }
                    Err(Full) => {
                        limiter.refund(bucket);
                        Some(Duration::ZERO)
                    }
                },
            };
            if let Some(wait) = refused {
                for (_, limiter, bucket) in self.buckets(limiters, head).take_while(|(other, ..)| *other < number) {
                    limiter.refund(bucket);
                }
                return Err(wait);
            }
        }
        Ok(seats)
    }

    /// The limits that concern the request, by number, each with the bucket of the request's key.
    fn buckets<'l>(&self, limiters: &'l [Limiter], head: &[u8]) -> impl Iterator<Item = (usize, &'l Limiter, Bucket)> {
        let name = self.route.get().and_then(|route| route.name.as_deref());
        let concerned = move |limit: &RateLimit| limit.route.as_deref().is_none_or(|route| Some(route) == name);
        self.http.rate_limits.iter().zip(limiters).enumerate().filter(move |(_, (limit, _))| concerned(limit)).filter_map(
            move |(number, (limit, limiter))| {
                let bucket = match &limit.per {
                    LimitKey::All => limiter.bucket(&()),
                    LimitKey::Source => limiter.bucket(&limit::source(self.client.get().ip())),
                    LimitKey::Header(name) => limiter.bucket(request::field(head, name)?),
                };
                Some((number, limiter, bucket))
            },
        )
    }

    /// Sends what a route says.
    pub(super) async fn answer_own<S: Stream>(&self, to_client: &S, action: &RouteAction, request: &Request, input: &Buf, close: bool) {
        let buf = input.filled();
        let mut out = self.worker.buffers.head();
        let own = |status| Own { status, head_only: request.method == Method::Head, close, http10: request.minor == 0 };
        let status = match action {
            RouteAction::Answer(FixedAnswer { status, body, content_type }) => {
                reply::write_answer(&own(*status), content_type, body.as_bytes(), &mut out.bytes);
                *status
            }
            RouteAction::Redirect(redirect) => {
                reply::write_location(
                    &own(redirect.status),
                    |out| location(redirect, to_client.scheme(), request, buf, out),
                    &mut out.bytes,
                );
                redirect.status
            }
            RouteAction::Pool(_) | RouteAction::Split(_) => return,
        };
        self.send_own(to_client, &out.bytes, status, request, input).await;
    }

    /// Tells an authority what it asks for before it issues a certificate.
    pub(super) async fn answer_challenge<S: Stream>(&self, to_client: &S, text: &str, request: &Request, input: &Buf, close: bool) {
        let mut out = self.worker.buffers.head();
        let own = Own { status: 200, head_only: request.method == Method::Head, close, http10: request.minor == 0 };
        reply::write_answer(&own, "application/octet-stream", text.as_bytes(), &mut out.bytes);
        self.send_own(to_client, &out.bytes, 200, request, input).await;
    }

    async fn send_own<S: Stream>(&self, to_client: &S, answer: &[u8], status: u16, request: &Request, input: &Buf) {
        self.trace.add_sent_bytes(answer.len() as u64);
        self.trace.status(status);
        self.worker.timers.now_us();
        self.timer.set_after(self.listener.config.timeouts.head);
        // As with any last word: a client that is gone does not want it.
        let _ = io::write(to_client, self.timer, answer, &[]).await;
        self.finish(Cause::Ok, Some(request), input);
    }
}

/// The path that the endpoint gets.
fn rewritten(rewrite: &Rewrite, route: &Route, path: &[u8]) -> Vec<u8> {
    match rewrite {
        Rewrite::Prefix(new) => {
            let old = if let Some(PathPattern::Prefix(prefix)) = &route.path { prefix.len() } else { 0 };
            let mut rest = &path[old.min(path.len())..];
            if new.ends_with('/') && rest.starts_with(b"/") {
                rest = &rest[1..];
            }
            [new.as_bytes(), rest].concat()
        }
        Rewrite::Regex { pattern, to } => {
            let mut path = pattern.replace(path, to.as_bytes()).into_owned();
            if path.first() != Some(&b'/') {
                path.insert(0, b'/');
            }
            path
        }
    }
}

fn location(redirect: &Redirect, own_scheme: &str, request: &Request, buf: &[u8], out: &mut Vec<u8>) {
    let Redirect { scheme, host, port, path, .. } = redirect;
    let asked_host = request.host.of_buf(buf);
    let host = host.as_ref().map_or(asked_host, |host| host.as_bytes());
    // With the path alone, or with nobody to name, the place is relative to where the client is (RFC 9110 section 10.2.2).
    let absolute = !host.is_empty() && (scheme.is_some() || redirect.host.is_some() || port.is_some());
    if absolute {
        let scheme = scheme.unwrap_or(own_scheme);
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(host);
        let default = if scheme == "https" { 443 } else { 80 };
        if let Some(port) = port.filter(|port| *port != default) {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }
    let asked_path = request.path.of_buf(buf);
    match path {
        Some(path) => out.extend_from_slice(path.as_bytes()),
        None if asked_path.is_empty() => out.push(b'/'),
        None => {
            // Two slashes in front would name another host.
            if !absolute && asked_path.starts_with(b"//") {
                out.extend_from_slice(b"/.");
            }
            out.extend_from_slice(asked_path);
        }
    }
    let target = request.target.of_buf(buf);
    if let Some(query) = memchr::memchr(b'?', target) {
        out.extend_from_slice(&target[query..]);
    }
}
