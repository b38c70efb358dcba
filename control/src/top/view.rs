//! The app as cells of a terminal. Pure.
//!
//! From above: who this is and what comes in, what is wrong, the pages, the rows, and at the bottom a question, an answer, or the keys.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::app::{App, Page};
use super::layout::{cut, fit, width, wrap};
use super::table::{Table, Tone, age, bytes, detail, rate};

/// Problems shown at once on a small terminal, and on a large one.
const PROBLEMS: (u16, u16) = (2, 6);

/// A terminal below this has no room for a picture.
const SMALLEST: (u16, u16) = (40, 10);

const KEYS: [(&str, &str); 18] = [
    ("1 to 7, Tab", "choose a page"),
    ("up, down, j, k", "choose a row"),
    ("PgUp, PgDn, g, G", "further"),
    ("Enter", "the endpoints of a pool; everything about anything else"),
    ("Esc", "back"),
    ("/", "only rows that have a text in them"),
    ("s", "order by the next column"),
    ("r", "the other way round"),
    ("d", "drain an endpoint: no new work, what is open may finish"),
    ("m", "maintenance: no probes either"),
    ("u", "give an endpoint work again"),
    ("+, -", "a machine more or less for a pool"),
    ("a", "hold a pool at what it has, or scale it by itself again"),
    ("t, o, b, x", "start, shut down (off), reboot, reset a machine"),
    ("v", "release a virtual IP: another node takes it over"),
    ("p", "hold the picture still"),
    ("?", "this"),
    ("q", "leave"),
];

/// Draws everything.
pub(crate) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        put(buffer, area, 0, "the terminal is too small", Style::new());
        return;
    }
    let mut y = header(app, area, buffer);
    y = problems(app, area, y, buffer);
    tabs(app, area, y, buffer);
    let body = Rect { y: area.y + y + 1, height: area.height - y - 2, ..area };
    if app.shows_help {
        help(body, buffer);
    } else if let Some((key, scrolled)) = &app.detail {
        draw_detail(app, key, *scrolled, body, buffer);
    } else {
        rows(app, &app.table(), body, buffer);
    }
    footer(app, area, buffer);
}

/// Writes one line, cut to the area.
fn put(buffer: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) {
    if y < area.height {
        let text = cut(text, area.width);
        buffer.set_stringn(area.x, area.y + y, text, usize::from(area.width), style);
    }
}

fn tone(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Odd => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Who this is and what comes in; the number of lines.
fn header(app: &App, area: Rect, buffer: &mut Buffer) -> u16 {
    let Some(overview) = &app.overview else {
        put(buffer, area, 0, app.trouble.as_deref().unwrap_or("asking the node ..."), BOLD);
        return 2;
    };
    let node = &overview.node;
    let mut first = format!("weir {}  {}  up {}", node.name, node.version, age(overview.at - node.started_at));
    if !overview.vips.is_empty() || !overview.hosts.is_empty() {
        match (&overview.leader, overview.leads) {
            (_, true) => first.push_str("  leads"),
            (Some(leader), _) => first.push_str(&format!("  led by {leader}")),
            (None, _) => first.push_str("  does not lead"),
        }
    }
    if node.draining {
        first.push_str("  DRAINING");
    } else if !node.ready {
        first.push_str("  NOT READY");
    }
    if app.is_paused {
        first.push_str("  HELD STILL (p)");
    }
    put(buffer, area, 0, &first, BOLD);
    match (&app.trouble, &overview.traffic) {
        (Some(why), _) => put(buffer, area, 1, &format!("OLD PICTURE: {}", why.lines().next().unwrap_or_default()), tone(Tone::Bad)),
        (None, None) => put(buffer, area, 1, &format!("{} connections, {} in flight", node.connections, node.in_flight), Style::new()),
        (None, Some(traffic)) => {
            let text = format!(
                "{} req/s  {} errors/s  {} in flight  {} clients  in {}/s  out {}/s",
                rate(traffic.requests_per_s),
                rate(traffic.errors_per_s),
                node.in_flight,
                node.connections,
                bytes(traffic.received_bytes_per_s),
                bytes(traffic.sent_bytes_per_s)
            );
            put(buffer, area, 1, &text, Style::new());
        }
    }
    2
}

/// What is wrong, the worst first.
fn problems(app: &App, area: Rect, mut y: u16, buffer: &mut Buffer) -> u16 {
    let problems = app.overview.as_ref().map_or(&[][..], |overview| &overview.problems);
    let room = if area.height >= 40 { PROBLEMS.1 } else { PROBLEMS.0 };
    for (number, problem) in problems.iter().enumerate() {
        let more = problems.len() - number;
        let is_last = number + 1 == usize::from(room);
        let style = match problem.severity.as_str() {
            "critical" => tone(Tone::Bad),
            "warning" => tone(Tone::Odd),
            _ => Style::new(),
        };
        if is_last && more > 1 {
            put(buffer, area, y, &format!("! and {more} more: {}", problem.text), style);
            return y + 1;
        }
        put(buffer, area, y, &format!("! {}: {}", problem.text, problem.next), style);
        y += 1;
    }
    y
}

fn tabs(app: &App, area: Rect, y: u16, buffer: &mut Buffer) {
    let mut x = 0;
    put(buffer, area, y, &" ".repeat(usize::from(area.width)), BAR);
    for (number, page) in Page::ALL.iter().enumerate() {
        let text = format!(" {} {} ", number + 1, page.title());
        if x + width(&text) > area.width {
            break;
        }
        let style = if *page == app.page { BOLD } else { BAR };
        buffer.set_string(area.x + x, area.y + y, &text, style);
        x += width(&text);
    }
}

fn rows(app: &App, table: &Table, area: Rect, buffer: &mut Buffer) {
    let contents: Vec<u16> = (0..table.columns.len())
        .map(|column| table.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| width(&cell.text)).max().unwrap_or(0))
        .collect();
    let shown = fit(table.columns, &contents, area.width);
    let look = app.look();
    let mut x = area.x;
    for (index, cells) in &shown {
        let column = &table.columns[*index];
        let mark = if look.sort == Some(*index) { if look.is_reversed { "^" } else { "v" } } else { "" };
        let title = format!("{}{mark}", column.title);
        let title = cut(&title, *cells);
        let offset = if column.is_number { cells.saturating_sub(width(&title)) } else { 0 };
        buffer.set_stringn(x + offset, area.y, title, usize::from(*cells), Style::new().add_modifier(Modifier::UNDERLINED));
        x += cells + 1;
    }
    let height = usize::from(area.height.saturating_sub(1));
    let selected = app.selected(table);
    // The selected row is in the middle where that is possible, so that it moves and not the picture at both ends.
    let first = selected.saturating_sub(height / 2).min(table.rows.len().saturating_sub(height));
    for (number, row) in table.rows.iter().enumerate().skip(first).take(height) {
        let y = area.y + 1 + u16::try_from(number - first).unwrap_or(u16::MAX);
        let chosen = if number == selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        buffer.set_string(area.x, y, " ".repeat(usize::from(area.width)), chosen);
        let mut x = area.x;
        for (index, cells) in &shown {
            let Some(cell) = row.cells.get(*index) else { continue };
            let text = cut(&cell.text, *cells);
            let offset = if table.columns[*index].is_number { cells.saturating_sub(width(&text)) } else { 0 };
            buffer.set_stringn(x + offset, y, text, usize::from(*cells), chosen.patch(tone(cell.tone)));
            x += cells + 1;
        }
    }
    if table.rows.is_empty() {
        let text = if app.overview.is_none() {
            ""
        } else if app.filter.is_empty() {
            "there are none"
        } else {
            "nothing has this in it"
        };
        put(buffer, area, 1, text, tone(Tone::Quiet));
    }
}

fn draw_detail(app: &App, key: &str, scrolled: usize, area: Rect, buffer: &mut Buffer) {
    let lines = detail(app, key);
    let names = lines.iter().map(|(name, _)| width(name)).max().unwrap_or(0).min(area.width / 2);
    let mut written: Vec<(String, String)> = Vec::new();
    for (name, value) in &lines {
        for (number, part) in wrap(value, area.width.saturating_sub(names + 2)).into_iter().enumerate() {
            written.push((if number == 0 { cut(name, names) } else { String::new() }, part));
        }
    }
    let first = scrolled.min(written.len().saturating_sub(usize::from(area.height)));
    for (y, (name, value)) in (0..area.height).zip(written.iter().skip(first)) {
        buffer.set_string(area.x, area.y + y, name, tone(Tone::Quiet));
        buffer.set_stringn(area.x + names + 2, area.y + y, value, usize::from(area.width - names - 2), Style::new());
    }
}

fn help(area: Rect, buffer: &mut Buffer) {
    for (y, (key, what)) in (0..area.height).zip(KEYS) {
        buffer.set_stringn(area.x, area.y + y, format!("{key:>18}"), usize::from(area.width), BOLD);
        if area.width > 20 {
            buffer.set_stringn(area.x + 20, area.y + y, cut(what, area.width - 20), usize::from(area.width - 20), Style::new());
        }
    }
}

fn footer(app: &App, area: Rect, buffer: &mut Buffer) {
    let y = area.height - 1;
    if let Some(question) = &app.question {
        // The question may be longer than a line, and the answer must be seen.
        let lines = wrap(&format!("{} [y/N]", question.text), area.width);
        let first = area.height.saturating_sub(u16::try_from(lines.len()).unwrap_or(1));
        for (number, line) in lines.iter().enumerate() {
            let y = first + u16::try_from(number).unwrap_or(0);
            let padded = format!("{line}{}", " ".repeat(usize::from(area.width.saturating_sub(width(line)))));
            put(buffer, area, y, &padded, BAR.fg(Color::Yellow));
        }
        return;
    }
    if app.is_typing {
        return put(buffer, area, y, &format!("/{}_", app.filter), BOLD);
    }
    if let Some(said) = &app.said {
        return put(buffer, area, y, said.lines().next().unwrap_or_default(), BOLD);
    }
    let verbs = match app.page {
        Page::Pools => "+ - machines  a hold",
        Page::Endpoints => "d drain  u undrain",
        Page::Machines => "t start  o off  b reboot  x reset",
        Page::Vips => "v release",
        Page::Hosts | Page::Alarms | Page::Events => "",
    };
    let mut text = format!("? keys  / filter  s order  Enter more  {verbs}  q leave");
    if let Some(pool) = &app.pool {
        text = format!("pool {pool} (Esc: all)  {text}");
    }
    if !app.filter.is_empty() {
        text = format!("only \"{}\" (Esc: all)  {text}", app.filter);
    }
    put(buffer, area, y, &text, tone(Tone::Quiet));
}

#[cfg(test)]
mod tests {
    use ratatui_core::backend::TestBackend;
    use ratatui_core::terminal::Terminal;

    use super::super::keys::Key;
    use super::super::table::tests::overview;
    use super::*;

    fn app(keys: &str) -> App {
        let mut app = App::new();
        app.handle_overview(Ok(Box::new(overview())));
        for c in keys.chars() {
            app.handle_key(if c == '>' { Key::Enter } else { Key::Char(c) });
        }
        app
    }

    fn picture(app: &App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(app, frame.area(), frame.buffer_mut())).expect("it draws");
        terminal.backend().to_string()
    }

    #[test]
    fn a_small_terminal_has_what_matters() {
        let shown = picture(&app(""), 80, 24);
        for part in [
            "weir lb-a  0.1.0  up 15m0s  leads",
            "1234 req/s  0 errors/s  7 in flight  512 clients  in 2.0 KiB/s  out 4.8 MiB/s",
            "! 1 of 2 endpoints of pool web is down: look at 10.0.0.12:8080",
            " 1 Pools  2 Endpoints  3 Machines  4 Hosts  5 VIPs  6 Alarms  7 Events ",
            "web",
            "degraded",
            "1 of 2",
            "? keys",
        ] {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
    }

    #[test]
    fn every_page_on_every_size() {
        for keys in ["", "2", "3", "4", "5", "6", "7", "v>", "2>", "3>", "5>", "?", "2d", "/web", "/zebra", "7>", "sss", "p"] {
            for (width, height) in [(80, 24), (200, 60), (40, 10), (39, 9), (1, 1), (300, 10), (40, 100)] {
                let shown = picture(&app(keys), width, height);
                assert_eq!(shown.lines().count(), usize::from(height), "{keys} at {width}x{height}");
            }
        }
    }

    #[test]
    fn a_wide_terminal_says_why() {
        assert!(!picture(&app("2"), 80, 24).contains("connect refused"), "there is no room for it");
        assert!(picture(&app("2"), 200, 60).contains("3 of 3: connect refused"));
        assert!(picture(&app("5>"), 80, 24).contains("no other node of higher priority is heard"));
    }

    #[test]
    fn a_question_is_seen_whole() {
        let shown = picture(&app("2d"), 80, 24).replace(['"', '\n'], "");
        assert!(shown.contains("Drain 10.0.0.21:80 in pool api?") && shown.contains("[y/N]"), "{shown}");
    }

    #[test]
    fn an_old_picture_is_called_old() {
        let mut old = app("");
        old.handle_overview(Err("cannot reach the API".into()));
        let shown = picture(&old, 80, 24);
        assert!(shown.contains("OLD PICTURE: cannot reach the API") && shown.contains("degraded"), "{shown}");
    }
}
