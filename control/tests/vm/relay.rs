//! Stands between `weir` and `weir-libvirt`, counts the changes, and kills `weir` at one of them.
//!
//! It is this very test program, started by a script in place of `weir-libvirt`: the script moves the pipes to descriptors 3 and 4, for the
//! harness writes to its standard output.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use weir_hypervisor::protocol::{HEADER_BYTES, Header, Request};

use crate::rig::{Site, libvirt_program};

/// Tells the relay what to do: `before 3`, `after 3`, or `during 3 20`: 20 ms after it was passed on.
const ORDER: &str = "WEIR_TEST_RELAY";

/// When `weir` dies, seen from one change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// The change does not happen.
    Before,
    /// It is under way for so many milliseconds.
    During(u64),
    /// It has happened, but nobody hears of it.
    After,
}

/// The environment of a `weir` that dies at the `number`-th change from now.
pub(crate) fn dying(site: &Site, moment: Moment, number: u32) -> Vec<(&'static str, String)> {
    let script = site.path("relay.sh");
    let this = std::env::current_exe().expect("this program has a path");
    let text = format!(
        "#!/bin/sh\nexec 3<&0 4>&1\nexec {} --exact relay::relay --nocapture --test-threads 1 </dev/null >/dev/null 2>&1\n",
        this.display()
    );
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("made executable");
    let order = match moment {
        Moment::Before => format!("before {number} 0"),
        Moment::During(ms) => format!("during {number} {ms}"),
        Moment::After => format!("after {number} 0"),
    };
    vec![("WEIR_LIBVIRT", script.display().to_string()), (ORDER, order)]
}

/// Not a test of its own; without an order it does nothing.
#[test]
fn relay() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    let (moment, number, ms) =
        (words[0].to_owned(), words[1].parse::<u32>().expect("a number"), words[2].parse::<u64>().expect("a number"));
    let weir = i32::try_from(std::os::unix::process::parent_id()).ok().and_then(Pid::from_raw).expect("weir started us");
    let kill = move || {
        let _ = kill_process(weir, Signal::KILL);
        std::process::exit(0);
    };
    let mut child = Command::new(libvirt_program()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let (mut to, mut from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut input = File::open("/proc/self/fd/3").expect("weir's requests");
    let mut output = File::options().write(true).open("/proc/self/fd/4").expect("weir's answers");
    let fatal = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(u64::MAX));
    let heard = fatal.clone();
    std::thread::spawn(move || {
        while let Some((header, frame)) = frame(&mut from) {
            if header.call == heard.load(std::sync::atomic::Ordering::Relaxed) {
                kill();
            }
            if output.write_all(&frame).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let mut seen = 0;
    while let Some((header, frame)) = frame(&mut input) {
        let json = &frame[HEADER_BYTES..HEADER_BYTES + header.json_bytes];
        let is_fatal = serde_json::from_slice(json).is_ok_and(|request| changes_something(&request)) && {
            seen += 1;
            seen == number
        };
        match moment.as_str() {
            "before" if is_fatal => kill(),
            "after" if is_fatal => fatal.store(header.call, std::sync::atomic::Ordering::Relaxed),
            _ => {}
        }
        if to.write_all(&frame).is_err() {
            break;
        }
        if is_fatal && moment == "during" {
            std::thread::sleep(Duration::from_millis(ms));
            kill();
        }
    }
    // Its pipe ends, and with it the child.
    std::process::exit(0);
}

fn changes_something(request: &Request) -> bool {
    matches!(
        request,
        Request::CreateVolume { .. }
            | Request::DeleteVolume { .. }
            | Request::Upload { .. }
            | Request::Write { .. }
            | Request::Define { .. }
            | Request::Undefine { .. }
            | Request::Power { .. }
            | Request::SetMetadata { .. }
    )
}

/// The next frame, whole; `None` at the end.
fn frame(from: &mut impl Read) -> Option<(Header, Vec<u8>)> {
    let mut frame = vec![0; HEADER_BYTES];
    from.read_exact(&mut frame).ok()?;
    let header = Header::parse(frame[..].try_into().ok()?).ok()?;
    frame.resize(HEADER_BYTES + header.json_bytes + header.payload_bytes, 0);
    from.read_exact(&mut frame[HEADER_BYTES..]).ok()?;
    Some((header, frame))
}
