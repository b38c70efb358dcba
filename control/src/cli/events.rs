//! `weir events`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::output::Output;
use crate::api::model::{EventView, EventsView};
use crate::client::{Client, ClientError};
use crate::render;

/// Events in one answer.
const PAGE: usize = 1000;

/// How long one request waits for the next event.
const WAIT: Duration = Duration::from_secs(30);

/// How long to look for a node that no longer answers: an upgrade or a restart takes moments.
const GONE_MAX: Duration = Duration::from_secs(60);

/// Between two tries to reach it.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Shows the last events and, with `follow`, those that come.
pub(super) fn events(client: &Client, follow: bool, last: usize, output: &Output) -> anyhow::Result<()> {
    let mut tail = VecDeque::new();
    let mut position = Position { pid: 0, after: 0 };
    loop {
        let page: EventsView = client.get(&position.path(Duration::ZERO))?;
        let full = page.events.len() >= PAGE;
        tail.extend(position.advance(page));
        tail.drain(..tail.len().saturating_sub(last));
        if !full {
            break;
        }
    }
    show(tail.make_contiguous(), output)?;
    if !follow {
        return Ok(());
    }
    loop {
        let page = follow_page(client, &position, output)?;
        show(&position.advance(page), output)?;
    }
}

/// Waits for the next events, also across the change from one process to the next.
fn follow_page(client: &Client, position: &Position, output: &Output) -> Result<EventsView, ClientError> {
    let mut gone_since = None;
    loop {
        match client.get_within(&position.path(WAIT), WAIT) {
            Err(error) if error.is_unreachable() => {
                let since = *gone_since.get_or_insert_with(|| {
                    output.note("weir: the node does not answer; looking for it again");
                    Instant::now()
                });
                if since.elapsed() > GONE_MAX {
                    return Err(error);
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Which events were seen.
struct Position {
    pid: u32,
    after: u64,
}

impl Position {
    fn path(&self, wait: Duration) -> String {
        let pid = if self.pid == 0 { String::new() } else { format!("&pid={}", self.pid) };
        format!("/v1/events?after={}&limit={PAGE}&wait_s={}{pid}", self.after, wait.as_secs())
    }

    /// Goes on behind this page and returns its events; none when another process sent it, whose numbers begin again.
    fn advance(&mut self, page: EventsView) -> Vec<EventView> {
        if self.pid != 0 && page.pid != self.pid {
            *self = Position { pid: page.pid, after: 0 };
            return Vec::new();
        }
        *self = Position { pid: page.pid, after: page.next };
        page.events
    }
}

/// One line each; JSON, too, for whoever reads line by line.
fn show(events: &[EventView], output: &Output) -> anyhow::Result<()> {
    let mut text = String::new();
    for event in events {
        if output.json {
            text.push_str(&serde_json::to_string(event)?);
            text.push('\n');
        } else {
            text.push_str(&render::event(event));
        }
    }
    if text.is_empty() { Ok(()) } else { output.text(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_begins_again() {
        let event = |number| EventView { number, at: 0.0, event: "applied".into(), details: Default::default() };
        let page = |pid, numbers: &[u64]| EventsView {
            pid,
            next: numbers.last().copied().unwrap_or(0),
            events: numbers.iter().map(|n| event(*n)).collect(),
        };
        let mut position = Position { pid: 0, after: 0 };
        assert_eq!(position.advance(page(7, &[1, 2, 3])).len(), 3);
        assert_eq!(position.path(WAIT), "/v1/events?after=3&limit=1000&wait_s=30&pid=7");
        assert_eq!(position.advance(page(8, &[4])).len(), 0, "the numbers of process 8 are others; ask it from the beginning");
        assert_eq!(position.path(Duration::ZERO), "/v1/events?after=0&limit=1000&wait_s=0&pid=8");
        assert_eq!(position.advance(page(8, &[1, 2])).len(), 2);
    }
}
