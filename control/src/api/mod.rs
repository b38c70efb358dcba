//! The REST API: what the node shows and lets change.
//!
//! - [`model`]: what is said, shared with the client. [`view`]: how it is made from the node's state (pure).
//! - [`read`] and [`change`]: the requests; [`file`](mod@file): those of the configuration file; [`vip`]: those of virtual IPs; [`fleet`] and [`machines`]: those of hosts and machines;
//!   [`scaling`]: of alarms and scaling; [`notify`]: of telling people; [`recovery`]: of healing. [`extract`]: reading them. [`caller`]: who asks. [`problem`]: refusing them.
//! - [`history`]: what was. [`preview`]: what an alarm would have done. [`audit`]: what is asked for becomes a record.
//! - [`overview`]: everything at once, and as it changes. [`gzip`]: in fewer bytes. [`aside`]: without being in anybody's way.
//! - [`page`]: the console. [`session`]: who asks.
//! - [`guard`]: who may ask; [`access`]: tokens, roles and sessions; [`guesses`]: who guesses tokens. [`metrics`]: the Prometheus text. [`openapi`]: the description. [`browse`]: the same for people.
//! - [`tls`]: under TLS, where `[api.tls]` asks for it.
//!
//! What is deliberately not here: decisions. Every change is the node's.

mod access;
mod aside;
mod audit;
mod browse;
mod caller;
mod change;
mod extract;
mod file;
mod fleet;
mod guard;
mod guesses;
mod gzip;
mod history;
mod machines;
mod metrics;
pub(crate) mod model;
mod notify;
mod openapi;
mod overview;
mod page;
mod preview;
mod problem;
mod read;
mod recovery;
mod scaling;
mod session;
mod tls;
pub(crate) mod view;
mod vip;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use weir_config::EndpointAddress;

pub(crate) use access::{Access, SavedSessions, Sessions};
pub(crate) use caller::USER_HEADER;
pub(crate) use guard::read_token;
pub(crate) use history::audit_verdict;
use problem::Problem;
pub(crate) use session::{hex, random};
pub(crate) use tls::Tls;

use crate::event::ApiEvent;
use crate::node::Node;

/// Connections at once; more wait in the accept queue. People, scrapers and controllers need a handful.
const CONNECTIONS_MAX: usize = 256;

/// From the accept, or the end of the last response, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest life of a connection. A client that does not read its response cannot hold the memory of it for longer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);

/// Longest time for an answer. Only an upgrade takes longer: the new process has to start and serve.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30 + read::WAIT_S_MAX);
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(180);

/// What may still be answered after the end was called for.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which usually means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is kept of a request's target in an event.
const TARGET_CHARS_MAX: usize = 300;

/// Largest request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What every request can reach.
pub(crate) struct Api {
    node: Node,
    gate: guard::Gate,
    hub: overview::Hub,
    /// Becomes true when the server ends; long polls watch it.
    stop: watch::Receiver<bool>,
}

impl Api {
    /// The data plane's state. It is the director who answers, so a thread that may wait asks: a director that is busy, or hangs, must not
    /// hold up the main loop and with it the signals.
    async fn status(&self) -> Result<weir_lb::status::Status, Problem> {
        let node = self.node.clone();
        tokio::task::spawn_blocking(move || node.status()).await.map_err(|error| {
            tracing::error!(%error, "the state could not be read");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the state could not be read: look at the log of the node")
        })
    }
}

/// Where the API is, and whom it lets in.
pub(crate) struct Door {
    /// `[api] bind`
    pub(crate) bind: SocketAddr,
    /// The tokens.
    pub(crate) access: Access,
    /// Who is signed in.
    pub(crate) sessions: Arc<Sessions>,
}

/// Serves the API on `listener` until `shutdown` is done. Requests under way are then answered, within a short grace.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Node,
    door: Door,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stopper, stop) = watch::channel(false);
    let cookie = session::cookie_name(&node.info().name, door.bind);
    let gate = guard::Gate::new(door.access, door.sessions, cookie);
    let router = router(Arc::new(Api { node, gate, hub: overview::Hub::new(), stop: stop.clone() }));
    let acceptor = tls.map(|tls| TlsAcceptor::from(tls.config));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let router = router.clone().layer(Extension(caller::Peer(peer.ip())));
                let (acceptor, stop) = (acceptor.clone(), stop.clone());
                tokio::spawn(async move {
                    // Answers are small and written at once; without this the last part of one may wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    match acceptor {
                        None => connection(stream, router, stop).await,
                        Some(acceptor) => match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => connection(stream, router, stop).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "a client of the API was not let in"),
                            Err(_) => {}
                        },
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopper.send_replace(true);
    // All slots free: all connections closed. Whoever is not done within the grace is cut when the runtime ends.
    let _ = tokio::time::timeout(STOP_GRACE, slots.acquire_many(CONNECTIONS_MAX as u32)).await;
    Ok(())
}

/// One connection, from its accept to its close.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let grace = if *stop.borrow() { STOP_GRACE } else { UPGRADE_TIMEOUT };
    let _ = tokio::time::timeout(grace, connection).await;
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/console/{file}", get(page::asset))
        .route("/v1/session", get(session::session).post(session::sign_in).delete(session::sign_out))
        .route("/v1/status", get(read::status))
        .route("/v1/overview", get(overview::overview))
        .route("/v1/overview/stream", get(overview::stream))
        .route("/v1/listeners", get(read::listeners))
        .route("/v1/pools", get(read::pools))
        .route("/v1/pools/{pool}", get(read::pool))
        .route("/v1/pools/{pool}/endpoints", post(change::add_endpoint))
        .route("/v1/pools/{pool}/endpoints/{endpoint}", get(read::endpoint).delete(change::remove_endpoint).patch(change::patch_endpoint))
        .route("/v1/vips", get(vip::vips))
        .route("/v1/vips/{vip}", get(vip::vip))
        .route("/v1/vips/{vip}/release", post(vip::release))
        .route("/v1/config", get(read::config))
        .route("/v1/config/file", get(file::file).put(file::replace).layer(DefaultBodyLimit::max(file::BODY_BYTES_MAX)))
        .route("/v1/config/versions", get(file::versions))
        .route("/v1/config/versions/{sha256}", get(file::version))
        .route("/v1/reload", post(change::reload))
        .route("/v1/upgrade", post(change::upgrade))
        .route("/v1/events", get(read::events))
        .route("/v1/history", get(history::entries))
        .route("/v1/history/series", get(history::series))
        .route("/v1/history/catalog", get(history::catalog))
        .route("/v1/audit", get(history::audit))
        .route("/v1/audit/verify", get(history::verify))
        .route("/v1/fleet", get(fleet::fleet))
        .route("/v1/hosts", get(fleet::hosts))
        .route("/v1/hosts/{host}/points", get(fleet::host_points))
        .route("/v1/templates", get(fleet::templates))
        .route("/v1/templates/{template}/prefetch", post(machines::prefetch))
        .route("/v1/machines", get(fleet::machines).post(machines::add))
        .route("/v1/machines/actions", post(machines::act))
        .route("/v1/machines/garbage", post(machines::garbage))
        .route("/v1/machines/{machine}", get(fleet::machine))
        .route("/v1/machines/{machine}/points", get(fleet::points))
        .route("/v1/machines/{machine}/console", get(fleet::console))
        .route("/v1/machines/{machine}/screenshot", get(fleet::screenshot))
        .route("/v1/incidents", get(notify::incidents))
        .route("/v1/incidents/{incident}", get(notify::story))
        .route("/v1/incidents/{incident}/acknowledge", post(notify::acknowledge))
        .route("/v1/notify", get(notify::channels))
        .route("/v1/notify/channels/{channel}/test", post(notify::test))
        .route("/v1/notify/dead", get(notify::dead))
        .route("/v1/notify/dead/resend", post(notify::resend))
        .route("/ack/{token}", get(notify::show_link).post(notify::follow_link))
        .route("/v1/operations/{id}", get(machines::operation))
        .route("/v1/alarms", get(scaling::alarms))
        .route("/v1/alarms/preview", post(preview::preview))
        .route("/v1/alarms/{alarm}", get(scaling::alarm))
        .route("/v1/alarms/{alarm}/acknowledge", post(scaling::acknowledge))
        .route("/v1/recovery", get(recovery::recoveries))
        .route("/v1/recovery/{recovery}", get(recovery::recovery))
        .route("/v1/recovery/{recovery}/run", post(recovery::run))
        .route("/v1/recovery/{recovery}/stop", post(recovery::stop))
        .route("/v1/scaling", get(scaling::pools))
        .route("/v1/scaling/{pool}", get(scaling::pool))
        .route("/v1/scaling/{pool}/plan", get(scaling::plan))
        .route("/v1/scaling/{pool}/pause", post(scaling::pause))
        .route("/v1/scaling/{pool}/resume", post(scaling::resume))
        .route("/v1/scaling/{pool}/desired", put(scaling::set))
        .route("/v1/scaling/{pool}/refresh", post(scaling::refresh))
        .route("/v1/scaling/{pool}/protection", post(scaling::protect))
        .route("/v1/openapi.json", get(read::openapi))
        .route("/v1/docs", get(browse::page))
        .route("/v1/docs.css", get(browse::style))
        .route("/metrics", get(read::metrics))
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path; /v1/openapi.json describes what there is"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not know this method"))
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// What is the same for every request: who may ask, how long it may take, and the revision on the answer.
async fn around(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<caller::Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    // The link in a message is a permission of its own, for one incident.
    let is_link = parts.uri.path().starts_with("/ack/");
    if !is_link {
        match api.gate.admit(&parts, peer, Instant::now(), || api.node.info().name) {
            Ok(who) => drop(parts.extensions.insert(who)),
            Err(refused) => {
                session::tell_wrong(&api, peer, refused.tries);
                return refused.problem.into_response();
            }
        }
    }
    let change = audited(&parts, is_link);
    let versioned = parts.uri.path().starts_with("/v1/");
    let timeout = if parts.uri.path() == "/v1/upgrade" { UPGRADE_TIMEOUT } else { ANSWER_TIMEOUT };
    let act = audit::begin(&mut parts);
    let mut response = match tokio::time::timeout(timeout, next.run(Request::from_parts(parts, body))).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "no answer in time; a change may still take effect: look at /v1/status";
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
        }
    };
    if let Some(act) = act {
        api.node.historian().act(act.end(&response)).await;
    }
    if let Some((by, request)) = change {
        api.node.record(ApiEvent::ApiChange { by, request, status: response.status().as_u16() });
    }
    if versioned && let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", api.node.info().revision)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // Only the files of the console may be kept, and say so themselves.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Who asked for which change, for the events. Signing in and out says so itself.
fn audited(parts: &Parts, is_link: bool) -> Option<(String, String)> {
    let path = parts.uri.path();
    if !guard::changes_something(&parts.method) || path == "/v1/session" {
        return None;
    }
    // Its path is a secret that acknowledges.
    let target = if is_link { "/ack/..." } else { parts.uri.path_and_query().map_or(path, |target| target.as_str()) };
    let target: String = target.chars().take(TARGET_CHARS_MAX).collect();
    Some((caller::caller(parts), format!("{} {target}", parts.method)))
}

/// An endpoint's name from a request.
fn address(text: &str) -> Result<EndpointAddress, Problem> {
    weir_config::parse_endpoint_address(text).map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}
