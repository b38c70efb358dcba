//! Everything at once, as it is and as it changes: what the console and `weir top` show.
//!
//! ```text
//!   page ──► stream ─┐                           ┌─ director, hosts, virtual IPs, alarms, incidents
//!   page ──► stream ─┼─► hub: looks, if the last ├─ [`rates`]: counters of the last seconds
//!   GET ─────────────┘   look is not fresh ──────┴─► [`build`] + [`problems`] ──► document
//!                                                        [`patch`]: what changed since the last ──► stream
//! ```
//!
//! What takes processor time is done [`aside`](super::aside), so that clients of the listeners do not notice who looks.
//!
//! Nobody looks while nobody asks: there is no task of its own, whoever wants to see makes the hub look, and who comes at the same moment
//! gets the same document. A stream begins with the whole state, whatever its client had before, so that it is right after a sleep, a
//! reconnect and a restart; then come merge patches, each on the state before.

mod build;
mod patch;
mod problems;
mod rates;

use std::mem::take;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::aside::Aside;
use super::model::*;
use super::problem::Problem;
use super::view::unix_seconds;
use super::{Api, fleet, gzip, vip};

/// A look that is younger is good enough for whoever asks.
const FRESH: Duration = Duration::from_millis(400);

/// Between two documents of a stream, unless something happened.
const TICK: Duration = Duration::from_secs(1);

/// Streams at once. Each has a compressor; a wall of screens and a few people need a dozen.
const STREAMS_MAX: usize = 32;

/// Longest life of a stream: shorter than what a connection that is to close leaves its last answer. The client comes again by itself.
const STREAM_AGE_MAX: Duration = Duration::from_secs(170);

/// A client that does not read for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// What all who look share.
#[derive(Debug)]
pub(super) struct Hub {
    began: Instant,
    state: Arc<Mutex<Looks>>,
    aside: Aside,
    streams: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Looks {
    rates: rates::Rates,
    last: Option<Arc<Look>>,
}

/// One look.
#[derive(Debug)]
struct Look {
    number: u64,
    at: Instant,
    view: OverviewView,
    /// It as a document, but for pools and machines: there may be thousands, of which few change at a time.
    rest: Value,
    /// From the look before to this one.
    change: Option<String>,
    /// The document as text, plain and compressed, once somebody wants it.
    plain: OnceLock<Bytes>,
    compressed: OnceLock<Bytes>,
}

impl Look {
    fn plain(&self) -> Bytes {
        let write = || serde_json::to_vec(&self.view).expect("what is named by strings has a form in JSON").into();
        self.plain.get_or_init(write).clone()
    }

    fn compressed(&self) -> Bytes {
        self.compressed.get_or_init(|| gzip::compress(&self.plain()).into()).clone()
    }

    /// What changed since another look, as a merge patch.
    fn since(&self, before: &Look) -> Result<Option<String>, serde_json::Error> {
        let mut patch = patch::difference(&before.rest, &self.rest).unwrap_or_else(|| json!({}));
        for (part, change) in [
            ("pools", patch::difference_of_named(&before.view.pools, &self.view.pools)?),
            ("machines", patch::difference_of_named(&before.view.machines, &self.view.machines)?),
        ] {
            if let Some(change) = change {
                patch[part] = change;
            }
        }
        Ok((patch != json!({})).then(|| patch.to_string()))
    }
}

impl Hub {
    pub(super) fn new() -> Hub {
        Hub { began: Instant::now(), state: Arc::default(), aside: Aside::default(), streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    /// The last look, or another one if that is not fresh.
    async fn look(&self, api: &Api) -> Result<Arc<Look>, Problem> {
        let mut looks = self.state.clone().lock_owned().await;
        if let Some(last) = &looks.last
            && last.at.elapsed() < FRESH
        {
            return Ok(last.clone());
        }
        let status = api.status().await?;
        let at = Instant::now();
        let elapsed_s = at.duration_since(self.began).as_secs_f64();
        let incidents = match api.node.notifier().handle() {
            Some(handle) => handle.incidents().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let node = &api.node;
        let sources = build::Sources {
            at: unix_seconds(SystemTime::now()),
            info: node.info(),
            drain: node.drain_progress(),
            leads: node.machines().leads(),
            leader: fleet::leader(api),
            last_event: node.last_event(),
            config: node.config(),
            status,
            hosts: node.machines().hypervisor().hosts(),
            machines: node.machines().hypervisor().machines(),
            vips: vip::all(node),
            alarms: node.scaler().alarm_items(),
            scaling: node.scaler().scaling_items(node.machines().leads()),
            incidents,
            certificates: node.certificates().into_iter().map(certificate).collect(),
            notify: node.notifier().handle().map(|handle| handle.stats()).unwrap_or_default(),
        };
        // What was gathered is nobody else's, so that nobody waits for this.
        let look = self.aside.run(move || looks.next(&sources, at, elapsed_s)).await?;
        look.map_err(|error| {
            tracing::error!(%error, "the overview could not be written");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the overview could not be written: look at the log of the node")
        })
    }
}

impl Looks {
    fn next(&mut self, sources: &build::Sources, at: Instant, elapsed_s: f64) -> Result<Arc<Look>, serde_json::Error> {
        self.rates.sample(&sources.status, elapsed_s);
        let mut view = build::overview(sources, self.rates.window(), self.last.as_ref().map(|last| &last.view));
        let many = (take(&mut view.pools), take(&mut view.machines));
        let rest = serde_json::to_value(&view)?;
        (view.pools, view.machines) = many;
        let number = self.last.as_ref().map_or(1, |last| last.number + 1);
        let mut look = Look { number, at, view, rest, change: None, plain: OnceLock::new(), compressed: OnceLock::new() };
        if let Some(last) = &self.last {
            look.change = look.since(last)?;
        }
        Ok(self.last.insert(Arc::new(look)).clone())
    }
}

fn certificate(known: weir_lb::tls::CertificateStatus) -> problems::Certificate {
    problems::Certificate { listener: known.listener.to_string(), file: known.file.display().to_string(), not_after_s: known.not_after_s }
}

/// Everything around this node at once, with what is wrong and what to do about it. Rates are over the last five seconds, and `null` until it
/// was asked for twice within 15 seconds.
#[utoipa::path(get, path = "/v1/overview", tag = "status", responses((status = 200, body = OverviewView)))]
pub(crate) async fn overview(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let look = api.hub.look(&api).await?;
    let mut response = if gzip::is_accepted(&headers) {
        ([(header::CONTENT_ENCODING, "gzip")], api.hub.aside.run(move || look.compressed()).await?).into_response()
    } else {
        api.hub.aside.run(move || look.plain()).await?.into_response()
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// The same as it changes, as server-sent events: first `state` with the whole document, then `change` with what is different, as a merge
/// patch (RFC 7396) on the state before, about once a second. A stream ends after some minutes; whoever comes again gets the whole state.
#[utoipa::path(
    get, path = "/v1/overview/stream", tag = "status",
    responses(
        (status = 200, description = "Events `state` and `change`", content_type = "text/event-stream"),
        (status = 503, body = ProblemView, content_type = "application/problem+json", description = "Too many streams are open"),
    ),
)]
pub(crate) async fn stream(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let full = || {
        let why = format!("{STREAMS_MAX} streams are open, which is the most: close a page, or ask for /v1/overview");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    let place = api.hub.streams.clone().try_acquire_owned().map_err(|_| full())?;
    let first = api.hub.look(&api).await?;
    let (sender, body) = Channel::<Bytes>::new(1);
    let compressor = gzip::is_accepted(&headers).then(gzip::Stream::new);
    let mut response = Response::new(Body::new(body));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if compressor.is_some() {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    tokio::spawn(run(api, Outlet { sender, compressor, _place: place }, first));
    Ok(response)
}

/// Where a stream goes.
struct Outlet {
    sender: Sender<Bytes>,
    compressor: Option<gzip::Stream>,
    _place: OwnedSemaphorePermit,
}

impl Outlet {
    /// False when the client is gone. `data` makes what is sent.
    async fn send<D: AsRef<[u8]>>(&mut self, aside: &Aside, event: &str, number: u64, data: impl FnOnce() -> D + Send + 'static) -> bool {
        let mut text = format!("event: {event}\nid: {number}\ndata: ").into_bytes();
        let mut compressor = self.compressor.take();
        let work = move || {
            text.extend_from_slice(data().as_ref());
            text.extend_from_slice(b"\n\n");
            let bytes = match &mut compressor {
                Some(compressor) => compressor.write(&text),
                None => text,
            };
            (bytes, compressor)
        };
        let Ok((bytes, compressor)) = aside.run(work).await else { return false };
        self.compressor = compressor;
        matches!(tokio::time::timeout(SEND_TIMEOUT, self.sender.send_data(bytes.into())).await, Ok(Ok(())))
    }
}

/// One stream, to its end.
async fn run(api: Arc<Api>, mut outlet: Outlet, first: Arc<Look>) {
    let end = tokio::time::Instant::now() + STREAM_AGE_MAX;
    let mut stop = api.stop.clone();
    let mut sent = first;
    let state = sent.clone();
    if !outlet.send(&api.hub.aside, "state", sent.number, move || state.plain()).await {
        return;
    }
    loop {
        let until = tokio::time::Instant::from_std(sent.at + TICK);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep_until(end) => return,
            () = tokio::time::sleep_until(until) => {}
            () = happened(&api, &sent) => {}
        }
        let Ok(look) = api.hub.look(&api).await else { return };
        let change = match &look.change {
            _ if look.number == sent.number => None,
            // The common case: computed once for all.
            change if look.number == sent.number + 1 => change.clone(),
            _ => {
                let (before, after) = (sent.clone(), look.clone());
                let Ok(Ok(change)) = api.hub.aside.run(move || after.since(&before)).await else { return };
                change
            }
        };
        let before = std::mem::replace(&mut sent, look);
        if let Some(change) = change {
            // A whole document takes its time to end, too.
            let data = move || (drop(before), change).1;
            if !outlet.send(&api.hub.aside, "change", sent.number, data).await {
                return;
            }
        }
    }
}

/// Something happened after this look, and another one would show it.
async fn happened(api: &Api, sent: &Look) {
    tokio::time::sleep_until(tokio::time::Instant::from_std(sent.at + FRESH)).await;
    api.node.events_wait(sent.view.last_event).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::tests::{sample_endpoint, sample_info, sample_status};
    use std::collections::BTreeMap;
    use weir_hypervisor::HostState;
    use weir_lb::shell::DrainProgress;
    use weir_lb::status::Status;

    const FILE: &str = r#"
[vip.public]
interface = "eth0"
router_id = 51
addresses = ["10.0.0.100/24"]

[listener.web]
bind = "10.0.0.100:80"
protocol = "http"
pool = "web"

[[listener.web.route]]
path = "/api/"
pool = "api"

[pool.web]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]

[pool.api]
endpoints = ["10.0.0.3:80"]
"#;

    fn router() -> VirtualRouterView {
        VirtualRouterView {
            family: "ipv4".into(),
            state: "master".into(),
            since: 1000.4,
            why: "the highest priority".into(),
            eligible: true,
            ineligible_because: String::new(),
            priority: 250,
            priority_configured: 250,
            mode: "macvlan".into(),
            mode_because: String::new(),
            held: Vec::new(),
            primary_address: None,
            advertisement_interval_ms: 100.0,
            master_down_interval_ms: 300.0,
            skew_time_ms: 2.0,
            heard_master: None,
            shared_sum: None,
            peers: Vec::new(),
            transitions: Vec::new(),
            counters: BTreeMap::new(),
            discarded: BTreeMap::new(),
        }
    }

    fn host() -> weir_hypervisor::HostView {
        weir_hypervisor::HostView {
            name: "kvm-a".into(),
            uri: "qemu:///system".into(),
            labels: BTreeMap::new(),
            state: HostState::Up,
            answered_at: None,
            driver: None,
            domain_type: None,
            cpus: 8,
            cpu_share: Some(0.123_456),
            memory_bytes: 100,
            memory_free_bytes: Some(60),
            pressure: None,
            memory_promised_bytes: 0,
            vcpus_promised: 0,
            storage_pool: "default".into(),
            storage: None,
            storage_error: None,
            machines: 0,
        }
    }

    fn sources(at: f64, status: &Status) -> build::Sources {
        let config = weir_config::parse(FILE, "weir.toml").expect("the sample is right");
        let mut info = sample_info();
        info.last_reload = None;
        let vip = VipView {
            name: "public".into(),
            interface: "eth0".into(),
            router_id: 51,
            master: true,
            leader: false,
            addresses: vec!["10.0.0.100/24".into()],
            routers: vec![router()],
        };
        build::Sources {
            at,
            info,
            drain: DrainProgress { connections: 1, in_flight: 0 },
            leads: true,
            leader: None,
            last_event: 7,
            config: Arc::new(config),
            status: status.clone(),
            hosts: vec![host()],
            machines: Vec::new(),
            vips: vec![vip],
            alarms: Vec::new(),
            scaling: Vec::new(),
            incidents: Vec::new(),
            certificates: Vec::new(),
            notify: weir_notify::service::Stats::default(),
        }
    }

    fn looked_at(at: f64, status: &Status, before: Option<&OverviewView>) -> OverviewView {
        build::overview(&sources(at, status), None, before)
    }

    fn sound() -> Status {
        let mut status = sample_status(vec![sample_endpoint("10.0.0.1:80"), sample_endpoint("10.0.0.2:80")]);
        let pool = &mut status.pools[0];
        (pool.healthy, pool.min_healthy, pool.below_floor, pool.available, pool.waiting) = (2, 1, false, 2, 0);
        status
    }

    /// A node with which nothing is wrong.
    pub(super) fn sample() -> OverviewView {
        looked_at(2000.0, &sound(), None)
    }

    #[test]
    fn what_belongs_together_is_named() {
        let overview = sample();
        let listener = &overview.listeners["web"];
        assert_eq!((&listener.pools[..], &listener.vips[..]), (&["web".to_owned(), "api".to_owned()][..], &["public".to_owned()][..]));
        assert_eq!(listener.rates, None, "there was one look only");
        assert_eq!(overview.traffic, None);
        let pool = &overview.pools["web"];
        assert_eq!((pool.state.as_str(), pool.endpoints.len(), pool.in_flight), ("ok", 2, 14));
        assert_eq!(pool.endpoints["10.0.0.1:80"].since, 1940.0);
        assert_eq!(overview.hosts["kvm-a"].cpu_share, Some(0.123));
        assert_eq!(overview.vips["public"].routers["ipv4"].since, 1000.0);
    }

    #[test]
    fn states_of_a_pool() {
        let check = |change: &dyn Fn(&mut Status), expected: &str| {
            let mut status = sound();
            change(&mut status);
            assert_eq!(looked_at(2000.0, &status, None).pools["web"].state, expected);
        };
        check(&|_| {}, "ok");
        check(&|status| status.pools[0].endpoints[0].health = "unhealthy", "degraded");
        check(&|status| status.pools[0].endpoints[0].ejected_s = Some(3), "degraded");
        check(
            &|status| {
                let endpoint = &mut status.pools[0].endpoints[0];
                (endpoint.health, endpoint.state) = ("unhealthy", "maintenance");
            },
            "ok",
        );
        check(&|status| status.pools[0].below_floor = true, "below-floor");
        check(&|status| status.pools[0].available = 0, "down");
        check(&|status| status.pools[0].endpoints.clear(), "empty");
    }

    /// Ages are whole seconds, read at any moment: the moment they stand for must not wander.
    #[test]
    fn what_did_not_change_is_said_in_the_same_way() {
        let before = sample();
        let mut status = sound();
        status.pools[0].endpoints.iter_mut().for_each(|endpoint| endpoint.health_age_s = 60);
        let after = looked_at(2000.9, &status, Some(&before));
        let [before, after] = [before, after].map(|view| serde_json::to_value(view).expect("JSON"));
        assert_eq!(patch::difference(&before, &after), Some(serde_json::json!({"at": 2001.0})));
    }

    #[test]
    fn a_change_is_what_whole_documents_differ_by() {
        let mut looks = Looks::default();
        let mut states = vec![sound()];
        let mut change = |change: &dyn Fn(&mut Status)| {
            let mut next = states[states.len() - 1].clone();
            change(&mut next);
            states.push(next);
        };
        change(&|_| {});
        change(&|status| status.pools[0].endpoints[0].health = "unhealthy");
        change(&|status| drop(status.pools[0].endpoints.pop()));
        change(&|status| status.pools[0].name = "other".into());
        change(&|status| status.pools.clear());
        let mut before: Option<Arc<Look>> = None;
        for (number, status) in states.into_iter().enumerate() {
            let look = looks.next(&sources(2000.0 + number as f64, &status), Instant::now(), number as f64).expect("JSON");
            if let Some(before) = &before {
                let [old, new] = [before, &look].map(|look| serde_json::from_slice::<Value>(&look.plain()).expect("JSON"));
                let told = look.change.as_ref().map(|change| serde_json::from_str(change).expect("JSON"));
                assert_eq!(told, patch::difference(&old, &new), "look {number}");
            }
            before = Some(look);
        }
    }

    #[test]
    fn it_is_read_back() {
        let overview = sample();
        let text = serde_json::to_string(&overview).expect("JSON");
        assert_eq!(serde_json::from_str::<OverviewView>(&text).expect("the same"), overview);
    }
}
