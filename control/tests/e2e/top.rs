//! `weir top` in a real terminal, driven by a terminal multiplexer: a small one, and a large one.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::origin::Origin;
use crate::rig::{LONG, SOON, Site, Weir, health, http_site, wait_until};

/// A terminal of its own with one program in it.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn start(site: &Site, weir: &Weir<'_>, columns: u16, rows: u16) -> Terminal {
        let terminal = Terminal { socket: site.path(&format!("tmux-{columns}x{rows}")) };
        let program = format!("{} top --api {} --interval 250ms", env!("CARGO_BIN_EXE_weir"), weir.api());
        let size = [columns.to_string(), rows.to_string()];
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1], &program]);
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(args).env("TERM", "xterm-256color").env_remove("TMUX").stdin(Stdio::null());
        let output = command.output().expect("tmux is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + SOON;
        while std::time::Instant::now() < deadline {
            last = self.picture();
            if last.contains(text) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{text:?} did not appear in:\n{last}");
    }

    fn is_open(&self) -> bool {
        !self.tmux(&["list-sessions"]).is_empty()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_node_in_a_small_terminal() {
    let site = Site::new();
    let (good, bad) = (Origin::start(&site, "good"), site.address());
    let body = http_site("web", site.address(), &[good.address, bad], "") + &health("web");
    let weir = Weir::start(&site, &body);
    let (good, bad) = (good.address.to_string(), bad.to_string());
    let terminal = Terminal::start(&site, &weir, 80, 24);
    terminal.wait_for("weir test");
    terminal.wait_for("degraded");
    // The problem is on top, in words.
    terminal.wait_for("! ");

    terminal.press(&["Enter"]);
    terminal.wait_for("ENDPOINT");
    terminal.wait_for(&good);
    terminal.wait_for(&bad);
    terminal.press(&["/", "zebra", "Enter"]);
    terminal.wait_for("nothing has this in it");
    // Out of the filter, and into the one endpoint that serves.
    terminal.press(&["/", "Escape"]);
    terminal.wait_for(&bad);
    terminal.press(&["/"]);
    terminal.press(&["-l", &good]);
    terminal.press(&["Enter"]);
    terminal.wait_for(&format!("only \"{good}\""));

    let state = || weir.endpoint("web", good.parse().expect("an address"))["state"].clone();
    terminal.press(&["d"]);
    // The question is longer than a line.
    terminal.wait_for("is available!");
    terminal.press(&["n"]);
    terminal.wait_for("nothing was changed");
    assert_eq!(state(), "ready");
    terminal.press(&["d"]);
    terminal.wait_for("[y/N]");
    terminal.press(&["y"]);
    wait_until("the endpoint to drain", SOON, || state() == "draining");
    terminal.wait_for("takes no new work (draining)");
    // Only what is seen can be taken back.
    terminal.wait_for(" draining ");
    terminal.press(&["u"]);
    terminal.wait_for("[y/N]");
    terminal.press(&["y"]);
    wait_until("the endpoint to be ready", SOON, || state() == "ready");

    terminal.press(&["7"]);
    terminal.wait_for("EVENT");
    terminal.press(&["?"]);
    terminal.wait_for("choose a page");
    terminal.press(&["x", "q"]);
    wait_until("the program to leave", SOON, || !terminal.is_open());
}

#[test]
fn a_node_in_a_large_terminal_over_a_slow_line() {
    let site = Site::new();
    let bad = site.address();
    let body = http_site("web", site.address(), &[bad], "") + &health("web");
    let weir = Weir::start(&site, &body);
    let terminal = Terminal::start(&site, &weir, 200, 60);
    terminal.press(&["2"]);
    terminal.wait_for("connect refused");
    terminal.wait_for("WEIGHT");

    // Only cells that changed are sent: many looks at a node that is quiet cost less than one picture.
    let sent = site.path("sent");
    terminal.tmux(&["pipe-pane", "-O", &format!("cat > {}", sent.display())]);
    let began = std::time::Instant::now();
    wait_until("three seconds", LONG, || began.elapsed().as_secs() >= 3);
    let bytes = fs::metadata(&sent).map(|file| file.len()).unwrap_or(0);
    assert!(bytes > 0 && bytes < 200 * 60 / 2, "{bytes} bytes in three seconds");

    // A node that goes away leaves its last picture, and says so.
    weir.signal(weir.pid(), rustix::process::Signal::KILL);
    terminal.wait_for("OLD PICTURE");
    terminal.wait_for("connect refused");
    terminal.press(&["q"]);
    wait_until("the program to leave", SOON, || !terminal.is_open());
}
