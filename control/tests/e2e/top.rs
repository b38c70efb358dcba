//! `weir top` in a real terminal, driven by a terminal multiplexer: a small one, and a large one.

#[path = "../terminal/mod.rs"]
mod terminal;

use std::fs;

use crate::origin::Origin;
use crate::rig::{LONG, SOON, Site, Weir, health, http_site, wait_until};
use terminal::Terminal;

fn top(site: &Site, weir: &Weir<'_>, columns: u16, rows: u16) -> Terminal {
    let program = format!("{} top --api {} --interval 250ms", env!("CARGO_BIN_EXE_weir"), weir.api());
    Terminal::start(site.path(&format!("tmux-{columns}x{rows}")), &program, (columns, rows), SOON)
}

#[test]
fn a_node_in_a_small_terminal() {
    let site = Site::new();
    let (good, bad) = (Origin::start(&site, "good"), site.address());
    let body = http_site("web", site.address(), &[good.address, bad], "") + &health("web");
    let weir = Weir::start(&site, &body);
    let (good, bad) = (good.address.to_string(), bad.to_string());
    let terminal = top(&site, &weir, 80, 24);
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
    terminal.wait_for("takes new work again");

    // What this page or this node does not have is said, and nothing is asked.
    terminal.press(&["b"]);
    terminal.wait_for("choose a machine first: press 3");
    terminal.press(&["/", "Escape", "1", "+"]);
    terminal.wait_for("pool web is not scaled");
    terminal.press(&["5", "v"]);
    terminal.wait_for("there is no");

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
    let terminal = top(&site, &weir, 200, 60);
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
