//! A program in a real terminal of a given size, by a terminal multiplexer.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A terminal of its own with one program in it.
pub(crate) struct Terminal {
    socket: PathBuf,
    patience: Duration,
}

impl Terminal {
    /// `socket`: where the multiplexer is spoken to; `patience`: how long something may take to appear.
    pub(crate) fn start(socket: PathBuf, program: &str, (columns, rows): (u16, u16), patience: Duration) -> Terminal {
        let terminal = Terminal { socket, patience };
        let size = [columns.to_string(), rows.to_string()];
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1], program]);
        terminal
    }

    /// One command of the multiplexer.
    pub(crate) fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(args).env("TERM", "xterm-256color").env_remove("TMUX").stdin(Stdio::null());
        let output = command.output().expect("tmux is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by the names that the multiplexer has for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What is on it.
    pub(crate) fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until this is on it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let mut last = String::new();
        let deadline = Instant::now() + self.patience;
        while Instant::now() < deadline {
            last = self.picture();
            if last.contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{text:?} did not appear in:\n{last}");
    }

    /// Whether its program runs.
    pub(crate) fn is_open(&self) -> bool {
        !self.tmux(&["list-sessions"]).is_empty()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
        // The multiplexer leaves it.
        let _ = std::fs::remove_file(&self.socket);
    }
}
