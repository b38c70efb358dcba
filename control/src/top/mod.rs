//! `weir top`: the picture of a node in a terminal, for those who look at it while something is wrong.
//!
//! ```text
//!   keyboard ──► keys ──┐                     ┌─► view ──► cells that changed ──► terminal
//!   API ──► feed ───────┴──► app (pure) ──────┤
//!                                             └─► effects: drain, scale, reboot, release ──► feed ──► API
//! ```
//!
//! - [`app`]: what is shown and what a key does. [`verbs`]: which change it means. [`table`]: rows of each page. [`view`]: both as cells. `layout`: columns that fit. All pure.
//! - [`keys`]: bytes of a keyboard. [`feed`]: the thread that asks the API. [`terminal`]: raw mode, and cells as escape sequences.
//!
//! What is shown comes whole from `/v1/overview` and `/v1/events`: nothing is computed here that the API does not say.

mod app;
mod feed;
mod keys;
mod layout;
mod table;
mod terminal;
mod verbs;
mod view;

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ratatui_core::terminal::Terminal;

use crate::client::Client;
use app::{App, Effect};
use feed::{Feed, News};
use terminal::{Screen, is_terminal, read_keyboard};

/// Frames a second, at most: what a person can follow, and what a slow line can carry.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait for news before the size of the terminal is looked at again.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);

/// News that wait to be shown. A feed that is faster than the terminal waits.
const NEWS_MAX: usize = 16;

/// Shows the node until the user has seen enough.
pub(crate) fn run(client: Client, interval: Duration) -> anyhow::Result<()> {
    ensure!(is_terminal(), "`weir top` draws on a terminal, and there is none; `weir status` and `weir events` print");
    let interval = interval.max(FRAME_INTERVAL);
    let (news, inbox) = sync_channel(NEWS_MAX);
    let feed = Feed::start(client, interval, news.clone());
    let mut terminal = Terminal::new(Screen::enter()?)?;
    read_keyboard(news);
    let mut app = App::new();
    let mut drawn: Option<Instant> = None;
    let mut is_dirty = true;
    loop {
        let wait = match drawn {
            Some(at) if is_dirty => FRAME_INTERVAL.saturating_sub(at.elapsed()),
            _ if is_dirty => Duration::ZERO,
            _ => IDLE_INTERVAL,
        };
        match inbox.recv_timeout(wait) {
            Ok(News::Key(key)) => {
                is_dirty = true;
                match app.handle_key(key) {
                    Some(Effect::Quit) => return Ok(()),
                    Some(Effect::Change(wish)) => feed.change(wish),
                    None => {}
                }
            }
            Ok(News::KeyboardGone) => return Ok(()),
            Ok(News::Overview(overview)) => {
                is_dirty = true;
                app.handle_overview(overview);
            }
            Ok(News::Events(events)) => {
                is_dirty = true;
                app.handle_events(events);
            }
            Ok(News::Changed(result)) => {
                is_dirty = true;
                app.handle_changed(result);
            }
            Err(RecvTimeoutError::Timeout) => is_dirty |= terminal.size()? != terminal.current_buffer_mut().area.as_size(),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if is_dirty && drawn.is_none_or(|at| at.elapsed() >= FRAME_INTERVAL) {
            terminal.draw(|frame| view::draw(&app, frame.area(), frame.buffer_mut()))?;
            drawn = Some(Instant::now());
            is_dirty = false;
        }
    }
}
