//! The thread that asks the API, and does what was asked for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::api::model::{EndpointPatch, EventView, EventsView, OverviewView};
use crate::client::{Client, endpoint_path, segment};

use super::app::{EVENTS_MAX, Wish};
use super::keys::Key;

/// Changes that wait to be sent. A person presses no more keys while they wait.
const WISHES_MAX: usize = 8;

/// Something to show.
pub(super) enum News {
    Key(Key),
    /// Nobody can press a key any more.
    KeyboardGone,
    Overview(Result<Box<OverviewView>, String>),
    Events(Vec<EventView>),
    Changed(Result<Wish, String>),
}

/// The way to the thread.
pub(super) struct Feed {
    wishes: SyncSender<Wish>,
}

impl Feed {
    /// Asks every `interval`, or later where the answer takes longer.
    pub(super) fn start(client: Client, interval: Duration, news: SyncSender<News>) -> Feed {
        let (wishes, inbox) = sync_channel(WISHES_MAX);
        let client = Arc::new(client);
        thread::spawn(move || serve(&client, interval, &inbox, &news));
        Feed { wishes }
    }

    /// Asks for a change; it is answered by [`News::Changed`].
    pub(super) fn change(&self, wish: Wish) {
        // Full: the node does not answer, which the picture says.
        let _ = self.wishes.try_send(wish);
    }
}

/// Ends when nobody takes the news any more.
fn serve(client: &Client, interval: Duration, wishes: &Receiver<Wish>, news: &SyncSender<News>) {
    let mut position: Option<(u32, u64)> = None;
    loop {
        let began = Instant::now();
        let overview = client.get::<OverviewView>("/v1/overview").map_err(|error| error.to_string());
        let latest = overview.as_ref().ok().map(|overview| (overview.node.pid, overview.last_event));
        if news.send(News::Overview(overview.map(Box::new))).is_err() {
            return;
        }
        if let Some(latest) = latest.filter(|latest| position != Some(*latest))
            && !events(client, &mut position, latest, news)
        {
            return;
        }
        match wishes.recv_timeout(interval.saturating_sub(began.elapsed())) {
            // What came of it is to be seen at once.
            Ok(wish) => {
                if news.send(News::Changed(change(client, wish))).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks for what came since the last time; of another process, for its last events. False: nobody takes the news.
fn events(client: &Client, position: &mut Option<(u32, u64)>, (pid, last): (u32, u64), news: &SyncSender<News>) -> bool {
    let after = match *position {
        Some((known, after)) if known == pid => after,
        _ => last.saturating_sub(EVENTS_MAX as u64),
    };
    let Ok(page) = client.get::<EventsView>(&format!("/v1/events?after={after}&limit={EVENTS_MAX}&pid={pid}")) else { return true };
    if page.pid == pid {
        *position = Some((pid, page.next.max(last)));
    }
    page.events.is_empty() || news.send(News::Events(page.events)).is_ok()
}

/// What is asked of the node.
fn request(wish: &Wish) -> (Method, String, Value) {
    let pool_path = |pool: &str, what: &str| format!("/v1/scaling/{}/{what}", segment(pool));
    match wish {
        Wish::State { pool, endpoint, state } => {
            let patch = EndpointPatch { state: Some(*state), weight: None };
            (Method::PATCH, endpoint_path(pool, endpoint), json!(patch))
        }
        Wish::Scale { pool, desired } => (Method::PUT, pool_path(pool, "desired"), json!({ "desired": desired })),
        Wish::Automatic { pool, on } => (Method::POST, pool_path(pool, if *on { "resume" } else { "pause" }), json!({})),
        Wish::Machine { id, verb, .. } => (Method::POST, "/v1/machines/actions".into(), json!({ "verb": verb, "machines": [id] })),
        Wish::Release { vip } => (Method::POST, format!("/v1/vips/{}/release", segment(vip)), json!({})),
    }
}

fn change(client: &Client, wish: Wish) -> Result<Wish, String> {
    let (method, path, body) = request(&wish);
    client.change::<Value>(method, &path, Some(&body)).map(|_| wish).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::AdminStateView;

    #[test]
    fn what_is_asked_of_the_node() {
        let pool = || "web".to_owned();
        for (wish, method, path, body) in [
            (
                Wish::State { pool: pool(), endpoint: "10.0.0.1:80".into(), state: AdminStateView::Draining },
                Method::PATCH,
                endpoint_path("web", "10.0.0.1:80"),
                json!({ "state": "draining", "weight": null }),
            ),
            (Wish::Scale { pool: pool(), desired: 3 }, Method::PUT, "/v1/scaling/web/desired".into(), json!({ "desired": 3 })),
            (Wish::Automatic { pool: pool(), on: true }, Method::POST, "/v1/scaling/web/resume".into(), json!({})),
            (Wish::Automatic { pool: pool(), on: false }, Method::POST, "/v1/scaling/web/pause".into(), json!({})),
            (
                Wish::Machine { id: "uuid".into(), name: "web-1".into(), verb: "reboot" },
                Method::POST,
                "/v1/machines/actions".into(),
                json!({ "verb": "reboot", "machines": ["uuid"] }),
            ),
            (Wish::Release { vip: "public".into() }, Method::POST, "/v1/vips/public/release".into(), json!({})),
        ] {
            assert_eq!(request(&wish), (method, path, body), "{wish:?}");
        }
    }
}
