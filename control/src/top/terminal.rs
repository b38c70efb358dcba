//! The terminal: raw mode while this lives, cells as escape sequences, bytes of the keyboard.
//!
//! Only the few sequences of ECMA-48 that every terminal knows are used, so that no database of terminals is needed; a frame is one write.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::mpsc::SyncSender;
use std::thread;

use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::feed::News;
use super::keys::decode;

/// The other screen, no cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";

/// Plain letters, a cursor, the screen that was there before.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// Both ends are a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The screen; when it is dropped the terminal is as it was.
pub(super) struct Screen {
    before: Termios,
    /// A frame until it is flushed.
    frame: Vec<u8>,
    has_colour: bool,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Screen> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let screen = Screen { before, frame: Vec::new(), has_colour };
        io::stdout().write_all(ENTER)?;
        io::stdout().flush()?;
        Ok(screen)
    }

    fn style(&mut self, cell: &Cell) {
        self.frame.extend_from_slice(b"\x1b[0");
        for (modifier, code) in
            [(Modifier::BOLD, &b";1"[..]), (Modifier::DIM, b";2"), (Modifier::UNDERLINED, b";4"), (Modifier::REVERSED, b";7")]
        {
            if cell.modifier.contains(modifier) {
                self.frame.extend_from_slice(code);
            }
        }
        let colour: &[u8] = match cell.fg {
            Color::Green => b";32",
            Color::Yellow => b";33",
            Color::Red => b";31",
            _ => b"",
        };
        if self.has_colour {
            self.frame.extend_from_slice(colour);
        }
        self.frame.push(b'm');
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell when this fails.
        let _ = io::stdout().write_all(LEAVE);
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

impl Backend for Screen {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut styled: Option<(Color, Modifier)> = None;
        let mut next: Option<(u16, u16)> = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                write!(self.frame, "\x1b[{};{}H", y + 1, x + 1)?;
            }
            if styled != Some((cell.fg, cell.modifier)) {
                self.style(cell);
                styled = Some((cell.fg, cell.modifier));
            }
            self.frame.extend_from_slice(cell.symbol().as_bytes());
            // A wide character moves further than one cell: then the place is said again.
            next = cell.symbol().is_ascii().then_some((x + 1, y));
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.frame.extend_from_slice(b"\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.frame.extend_from_slice(b"\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // Never asked: the cursor is hidden, and the picture takes the whole screen.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        write!(self.frame, "\x1b[{};{}H", y + 1, x + 1)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.frame.extend_from_slice(b"\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.frame.extend_from_slice(match region {
            ClearType::All => b"\x1b[0m\x1b[2J",
            ClearType::AfterCursor => b"\x1b[0m\x1b[0J",
            ClearType::BeforeCursor => b"\x1b[0m\x1b[1J",
            ClearType::CurrentLine => b"\x1b[0m\x1b[2K",
            ClearType::UntilNewLine => b"\x1b[0m\x1b[0K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let size = tcgetwinsize(io::stdout())?;
        // A terminal that does not know has the size of the first ones.
        Ok(if size.ws_col == 0 || size.ws_row == 0 { Size::new(80, 24) } else { Size::new(size.ws_col, size.ws_row) })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.frame)?;
        self.frame.clear();
        out.flush()
    }
}

/// Reads keys until there is no keyboard.
pub(super) fn read_keyboard(news: SyncSender<News>) {
    thread::spawn(move || {
        let mut pending = Vec::new();
        let mut bytes = [0; 256];
        loop {
            match io::stdin().lock().read(&mut bytes) {
                Ok(length) if length > 0 => pending.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => break,
            }
            while let Some((key, length)) = decode(&pending) {
                pending.drain(..length);
                if key.is_some_and(|key| news.send(News::Key(key)).is_err()) {
                    return;
                }
            }
        }
        let _ = news.send(News::KeyboardGone);
    });
}
