//! The thread that asks the API, and does what was asked for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Method;

use crate::api::model::{Changed, EndpointPatch, EventView, EventsView, OverviewView};
use crate::client::{Client, endpoint_path};

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

fn change(client: &Client, wish: Wish) -> Result<Wish, String> {
    let patch = EndpointPatch { state: Some(wish.state), weight: None };
    let path = endpoint_path(&wish.pool, &wish.endpoint);
    client.change::<Changed>(Method::PATCH, &path, Some(&patch)).map(|_| wish).map_err(|error| error.to_string())
}
