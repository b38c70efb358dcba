//! What is shown, and what a key does. Pure: overviews, events and keys go in, effects come out.

use std::collections::VecDeque;

use crate::api::model::{AdminStateView, EventView, OverviewView};

use super::keys::Key;
use super::table::{Table, table};
use super::verbs;

/// Events that are kept to scroll in.
pub(crate) const EVENTS_MAX: usize = 1000;

/// The longest filter.
const FILTER_CHARS_MAX: usize = 60;

/// A page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Pools,
    Endpoints,
    Machines,
    Hosts,
    Vips,
    Alarms,
    Events,
}

impl Page {
    pub(crate) const ALL: [Page; 7] = [Page::Pools, Page::Endpoints, Page::Machines, Page::Hosts, Page::Vips, Page::Alarms, Page::Events];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Page::Pools => "Pools",
            Page::Endpoints => "Endpoints",
            Page::Machines => "Machines",
            Page::Hosts => "Hosts",
            Page::Vips => "VIPs",
            Page::Alarms => "Alarms",
            Page::Events => "Events",
        }
    }

    fn index(self) -> usize {
        Page::ALL.iter().position(|page| *page == self).unwrap_or(0)
    }
}

/// How a page is looked at. Each page remembers its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// The column that orders the rows; `None`: as the page does by itself.
    pub(crate) sort: Option<usize>,
    pub(crate) is_reversed: bool,
    /// The key of the selected row, so that it stays selected when others come and go.
    pub(crate) selected: Option<String>,
}

/// A change that somebody wishes for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// Another state of an endpoint.
    State { pool: String, endpoint: String, state: AdminStateView },
    /// So many machines for a pool.
    Scale { pool: String, desired: u32 },
    /// Whether a pool is scaled by itself.
    Automatic { pool: String, on: bool },
    /// A verb for a machine: its id, and its name for people.
    Machine { id: String, name: String, verb: &'static str },
    /// Another node shall have an address.
    Release { vip: String },
}

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    Quit,
    Change(Wish),
}

/// A question that a key asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) wish: Wish,
}

/// The whole.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) overview: Option<OverviewView>,
    /// Why there is no newer overview.
    pub(crate) trouble: Option<String>,
    pub(crate) events: VecDeque<EventView>,
    pub(crate) page: Page,
    looks: [Look; Page::ALL.len()],
    /// Only what has this in it.
    pub(crate) filter: String,
    /// Keys go into the filter.
    pub(crate) is_typing: bool,
    /// Only endpoints of this pool.
    pub(crate) pool: Option<String>,
    /// Everything about one row: its key, and how far it was scrolled.
    pub(crate) detail: Option<(String, usize)>,
    pub(crate) question: Option<Question>,
    /// What came of the last change.
    pub(crate) said: Option<String>,
    pub(crate) shows_help: bool,
    pub(crate) is_paused: bool,
}

impl App {
    pub(crate) fn new() -> App {
        App {
            overview: None,
            trouble: None,
            events: VecDeque::new(),
            page: Page::Pools,
            looks: std::array::from_fn(|_| Look::default()),
            filter: String::new(),
            is_typing: false,
            pool: None,
            detail: None,
            question: None,
            said: None,
            shows_help: false,
            is_paused: false,
        }
    }

    /// A new look at the node, or why there is none.
    pub(crate) fn handle_overview(&mut self, overview: Result<Box<OverviewView>, String>) {
        match overview {
            Ok(_) if self.is_paused => self.trouble = None,
            Ok(overview) => {
                self.overview = Some(*overview);
                self.trouble = None;
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// Events that came, oldest first.
    pub(crate) fn handle_events(&mut self, events: Vec<EventView>) {
        self.events.extend(events);
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..surplus);
    }

    /// What came of a change.
    pub(crate) fn handle_changed(&mut self, result: Result<Wish, String>) {
        self.said = Some(match result {
            Ok(wish) => done(&wish),
            Err(why) => why,
        });
    }

    pub(crate) fn look(&self) -> &Look {
        &self.looks[self.page.index()]
    }

    fn look_mut(&mut self) -> &mut Look {
        &mut self.looks[self.page.index()]
    }

    /// The page's rows, filtered and in order.
    pub(crate) fn table(&self) -> Table {
        table(self)
    }

    /// The number of the selected row; the first, where the one that was selected is gone.
    pub(crate) fn selected(&self, table: &Table) -> usize {
        let key = self.look().selected.as_ref();
        key.and_then(|key| table.rows.iter().position(|row| row.key == *key)).unwrap_or(0)
    }

    /// What a key does.
    pub(crate) fn handle_key(&mut self, key: Key) -> Option<Effect> {
        if key == Key::Quit {
            return Some(Effect::Quit);
        }
        if let Some(question) = self.question.take() {
            return match key {
                Key::Char('y' | 'Y') => Some(Effect::Change(question.wish)),
                _ => {
                    self.said = Some("nothing was changed".into());
                    None
                }
            };
        }
        self.said = None;
        if self.shows_help {
            self.shows_help = false;
            return None;
        }
        if self.is_typing {
            self.type_filter(key);
            return None;
        }
        match key {
            Key::Char('q') => return Some(Effect::Quit),
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char(digit @ '1'..='7') => self.turn_to(usize::from(digit as u8 - b'1')),
            Key::Tab | Key::Right => self.turn_to(self.page.index() + 1),
            Key::BackTab | Key::Left => self.turn_to(self.page.index() + Page::ALL.len() - 1),
            Key::Char('/') => (self.is_typing, self.detail) = (true, None),
            Key::Char('p') => self.is_paused = !self.is_paused,
            Key::Char('s') => self.sort_next(),
            Key::Char('S' | 'r') => self.look_mut().is_reversed ^= true,
            Key::Enter => self.enter(),
            Key::Escape | Key::Backspace => self.leave(),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-10),
            Key::PageDown | Key::Char(' ') => self.step(10),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Char(verb) if verbs::KEYS.contains(&verb) => match verbs::ask(self, verb) {
                Ok(question) => self.question = Some(question),
                Err(why) => self.said = Some(why),
            },
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(c),
            _ => {}
        }
    }

    fn turn_to(&mut self, index: usize) {
        self.page = Page::ALL[index % Page::ALL.len()];
        (self.detail, self.pool) = (None, None);
    }

    fn sort_next(&mut self) {
        let columns = self.table().columns.len();
        let look = self.look_mut();
        look.sort = match look.sort {
            None => Some(0),
            Some(index) if index + 1 < columns => Some(index + 1),
            Some(_) => None,
        };
    }

    fn step(&mut self, by: isize) {
        if let Some((_, scrolled)) = &mut self.detail {
            *scrolled = scrolled.saturating_add_signed(by);
            return;
        }
        let table = self.table();
        let last = table.rows.len().saturating_sub(1);
        let next = self.selected(&table).saturating_add_signed(by).min(last);
        self.look_mut().selected = table.rows.get(next).map(|row| row.key.clone());
    }

    /// From a pool to its endpoints, from anything else to everything about it.
    fn enter(&mut self) {
        let table = self.table();
        let Some(row) = table.rows.get(self.selected(&table)) else { return };
        let key = row.key.clone();
        if self.page == Page::Pools && self.detail.is_none() {
            self.page = Page::Endpoints;
            (self.pool, self.filter) = (Some(key), String::new());
        } else if self.detail.is_none() {
            self.detail = Some((key, 0));
        }
    }

    fn leave(&mut self) {
        if self.detail.take().is_some() {
            return;
        }
        if let Some(pool) = self.pool.take() {
            self.page = Page::Pools;
            self.look_mut().selected = Some(pool);
        } else {
            self.filter.clear();
        }
    }

    /// The key of the row that is chosen, or that everything is shown about.
    pub(crate) fn chosen(&self) -> Option<String> {
        if let Some((key, _)) = &self.detail {
            return Some(key.clone());
        }
        let table = self.table();
        table.rows.get(self.selected(&table)).map(|row| row.key.clone())
    }
}

/// What is said when the node has taken a wish.
fn done(wish: &Wish) -> String {
    match wish {
        Wish::State { pool, endpoint, state: AdminStateView::Ready } => format!("{endpoint} in pool {pool} takes new work again"),
        Wish::State { pool, endpoint, state } => format!("{endpoint} in pool {pool} takes no new work ({})", state.word()),
        Wish::Scale { pool, desired } => format!("{desired} machines are wanted for pool {pool}"),
        Wish::Automatic { pool, on: true } => format!("pool {pool} is scaled by itself again"),
        Wish::Automatic { pool, on: false } => format!("pool {pool} is not scaled by itself any more"),
        Wish::Machine { name, verb, .. } => format!("{verb} of {name} has begun; what comes of it is an event (7)"),
        Wish::Release { vip } => format!("{vip} is being released"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::overview;
    use super::*;

    fn app() -> App {
        let mut app = App::new();
        app.handle_overview(Ok(Box::new(overview())));
        app
    }

    /// Presses the keys of a text; `>` is Enter, `<` is Escape, `^` up and `v` down.
    fn press(app: &mut App, keys: &str) -> Option<Effect> {
        let mut last = None;
        for c in keys.chars() {
            let key = match c {
                '>' => Key::Enter,
                '<' => Key::Escape,
                '^' => Key::Up,
                'v' => Key::Down,
                c => Key::Char(c),
            };
            last = app.handle_key(key);
        }
        last
    }

    #[test]
    fn pages_and_rows() {
        for (keys, page, selected) in [
            ("", Page::Pools, "api"),
            ("v", Page::Pools, "web"),
            ("vvvv^", Page::Pools, "api"),
            ("G", Page::Pools, "web"),
            ("2v", Page::Endpoints, "web 10.0.0.11:8080"),
            ("v>v", Page::Endpoints, "web 10.0.0.12:8080"),
            ("v><", Page::Pools, "web"),
            ("7", Page::Events, ""),
            ("3", Page::Machines, "uuid-1"),
            ("5", Page::Vips, "public"),
            ("/web>", Page::Pools, "web"),
            ("/zebra><", Page::Pools, "api"),
        ] {
            let mut app = app();
            assert_eq!(press(&mut app, keys), None, "{keys}");
            let table = app.table();
            let row = table.rows.get(app.selected(&table)).map_or("", |row| row.key.as_str());
            assert_eq!((app.page, row), (page, selected), "{keys}");
        }
    }

    #[test]
    fn a_selection_stays_with_its_row() {
        let mut app = app();
        press(&mut app, "v");
        let mut next = overview();
        next.pools.insert("aaa".into(), next.pools["api"].clone());
        app.handle_overview(Ok(Box::new(next)));
        let table = app.table();
        assert_eq!(table.rows[app.selected(&table)].key, "web");
    }

    #[test]
    fn an_endpoint_is_changed_after_a_yes_alone() {
        let wish = |state| Effect::Change(Wish::State { pool: "web".into(), endpoint: "10.0.0.11:8080".into(), state });
        let mut app = app();
        assert_eq!(press(&mut app, "v>d"), None);
        let question = app.question.clone().expect("it asks");
        assert!(
            question.text.starts_with("Drain 10.0.0.11:8080 in pool web? No new work; 7 in flight may finish. No other endpoint"),
            "{question:?}"
        );
        assert_eq!(press(&mut app, "n"), None);
        assert_eq!(app.said.as_deref(), Some("nothing was changed"));
        assert_eq!(press(&mut app, "dy"), Some(wish(AdminStateView::Draining)));
        assert_eq!(press(&mut app, "my"), Some(wish(AdminStateView::Maintenance)));
        assert_eq!(press(&mut app, "u"), None);
        assert!(app.said.as_ref().is_some_and(|said| said.contains("ready already")));
        // Nothing is asked where nothing is chosen.
        assert_eq!(press(&mut app, "<d"), None);
        assert!(app.question.is_none() && app.said.is_some());
    }

    #[test]
    fn a_node_that_is_gone_leaves_the_last_picture() {
        let mut app = app();
        app.handle_overview(Err("nobody answers".into()));
        assert!(app.overview.is_some() && app.trouble.as_deref() == Some("nobody answers"));
        press(&mut app, "p");
        assert!(app.is_paused);
        let mut next = overview();
        next.pools.clear();
        app.handle_overview(Ok(Box::new(next)));
        assert_eq!(app.overview.as_ref().map(|overview| overview.pools.len()), Some(2), "paused");
    }

    #[test]
    fn keys_of_a_filter_are_letters() {
        let mut app = app();
        press(&mut app, "/q?");
        assert_eq!((app.filter.as_str(), app.is_typing, app.shows_help), ("q?", true, false));
        app.handle_key(Key::Backspace);
        assert_eq!(app.filter, "q");
        assert_eq!(app.handle_key(Key::Quit), Some(Effect::Quit));
    }
}
