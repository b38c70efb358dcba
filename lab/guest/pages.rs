//! What the machine answers.
//!
//! ```text
//! /                            the machine's name
//! /healthz                     ok
//! /identity                    JSON: names, ids, boots, clock
//! /load?cpu=SECONDS&memory=MIB burns both, then answers
//! /mark?value=N                writes a file to the disk, /identity tells it
//! /fault/hang  /fault/exit  /fault/panic  /fault/halt  /fault/status?code=N  /fault/memory[?mib=N]  /fault/disk[?mib=N]  /fault/clear
//! ```

use std::fs;

use crate::http::{Answer, Request};
use crate::{faults, identity, load};

const TEXT: &str = "text/plain";

/// A few bytes find a place on a full disk, too: beside the file's name, or in a block kept for root.
const MARK_BYTES: usize = 256 * 1024;

/// The answer to one request.
pub(crate) fn answer(request: &Request) -> Answer {
    if let Some(fault) = request.path.strip_prefix("/fault/") {
        return answer_fault(fault, request);
    }
    if faults::hangs() {
        return Answer::Never;
    }
    let (status, kind, body) = match request.path.as_str() {
        "/" => (200, TEXT, format!("{}\n", identity::hostname())),
        "/healthz" => (200, TEXT, "ok\n".to_owned()),
        "/identity" => (200, "application/json", identity::json()),
        "/load" => {
            load::burn(request.number("cpu"), request.number("memory"));
            (200, TEXT, format!("{}\n", identity::hostname()))
        }
        "/mark" => match write_synced("/var/lib", "mark", &format!("{}\n{}", request.number("value"), " ".repeat(MARK_BYTES))) {
            Ok(()) => (200, TEXT, "written\n".to_owned()),
            Err(error) => (507, TEXT, format!("{error}\n")),
        },
        _ => (404, TEXT, "no such page\n".to_owned()),
    };
    Answer::Page(faults::status().unwrap_or(status), kind, body)
}

fn answer_fault(fault: &str, request: &Request) -> Answer {
    let mut said = "done\n".to_owned();
    let mut status = 200;
    match fault {
        "hang" => faults::hang(),
        "exit" => faults::exit(),
        "panic" => faults::panic(),
        "halt" => faults::halt(),
        "status" => faults::fail(request.number("code")),
        // Without a number all of it: nothing gives that back but a new start.
        "memory" if request.number("mib") <= 0.0 => faults::memory_full(),
        "memory" => said = format!("{} MiB held\n", faults::memory(request.number("mib"))),
        "disk" => {
            if let Err(error) = faults::disk(request.number("mib")) {
                (status, said) = (507, format!("{error}\n"));
            }
        }
        "clear" => faults::clear(),
        _ => (status, said) = (404, "no such fault\n".to_owned()),
    }
    Answer::Page(status, TEXT, said)
}

/// On the disk, not only in memory, when it returns. It takes the place of what was there when it is whole: on a full disk it never is.
fn write_synced(folder: &str, name: &str, text: &str) -> std::io::Result<()> {
    let _alone = faults::alone_with_the_disk();
    let new = format!("{folder}/{name}.new");
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, format!("{folder}/{name}"))?;
    fs::File::open(folder)?.sync_all()
}
