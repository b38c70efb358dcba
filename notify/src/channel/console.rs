//! This machine's own log and screens.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::{error, info, warn};
use weir_config::{ConsoleChannel, Severity};

use super::{Channel, Delivery, Fault, Receipt};
use crate::message::Message;
use crate::transcript::Transcript;

/// Who is logged in where (utmp(5)).
const UTMP: &str = "/run/utmp";
const UTMP_BYTES_MAX: u64 = 1 << 20;
/// The layout of an entry on Linux with the GNU C library.
const ENTRY_BYTES: usize = 384;
const LINE_AT: std::ops::Range<usize> = 8..40;
const USER_PROCESS: u16 = 7;

/// Log and screens.
#[derive(Debug)]
pub struct Console {
    settings: ConsoleChannel,
    utmp: PathBuf,
    devices: PathBuf,
}

impl Console {
    /// Those of this machine.
    pub fn new(settings: ConsoleChannel) -> Console {
        Console { settings, utmp: UTMP.into(), devices: "/dev".into() }
    }

    async fn show(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let text = message.text("en").clone();
        transcript.hand_over();
        if self.settings.journal {
            log(message, &text.title);
            transcript.note("written to the log");
        }
        if !self.settings.terminals {
            return Ok(Receipt { reference: None, said: "logged".into() });
        }
        let shown = screen(message, &text.title, &text.text);
        let (utmp, devices) = (self.utmp.clone(), self.devices.clone());
        let told = tokio::task::spawn_blocking(move || tell_terminals(&utmp, &devices, &shown)).await;
        let told = told.map_err(|error| Fault::broken(transcript, error.to_string()))?;
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                let why = format!("nobody can say who is logged in: {}: {error}", self.utmp.display());
                transcript.note(&why);
                // Told all the same, in the log; and a file that this system does not have is not waited for.
                return if self.settings.journal {
                    Ok(Receipt { reference: None, said: format!("logged; {why}") })
                } else {
                    Err(Fault::permanent(why))
                };
            }
        };
        for (terminal, result) in &told {
            transcript.note(format!("{terminal}: {}", result.as_ref().err().map_or("written".into(), ToString::to_string)));
        }
        let reached = told.iter().filter(|(_, result)| result.is_ok()).count();
        Ok(Receipt { reference: None, said: format!("{reached} of {} terminals", told.len()) })
    }
}

impl Channel for Console {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.show(message, transcript))
    }
}

fn log(message: &Message, title: &str) {
    let title = plain(title);
    let (incident, kind, state) = (&message.incident, message.kind.word(), message.state.word());
    match message.severity {
        _ if state == "resolved" => info!(target: "weir::notify", incident, kind, state, "{title}"),
        Severity::Critical => error!(target: "weir::notify", incident, kind, state, "{title}"),
        Severity::Warning => warn!(target: "weir::notify", incident, kind, state, "{title}"),
        Severity::Info => info!(target: "weir::notify", incident, kind, state, "{title}"),
    }
}

/// What a terminal shows: nothing in it is a command to the terminal but line ends and one bell.
fn screen(message: &Message, title: &str, text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| *line != title).map(plain);
    let body: String = lines.map(|line| format!("  {line}\r\n")).collect();
    format!("\r\n\x07Message from weir on {}:\r\n{}\r\n{body}\r\n", plain(&message.node), plain(title)).into_bytes()
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || ('\u{80}'..'\u{a0}').contains(&c) { ' ' } else { c }).collect()
}

type Told = Vec<(String, std::io::Result<()>)>;

fn tell_terminals(utmp: &Path, devices: &Path, shown: &[u8]) -> std::io::Result<Told> {
    let mut bytes = Vec::new();
    File::open(utmp)?.take(UTMP_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(terminals(&bytes).into_iter().map(|name| (name.clone(), tell(&devices.join(&name), shown))).collect())
}

/// The terminals that somebody is logged in at, each once.
fn terminals(utmp: &[u8]) -> Vec<String> {
    let line = |entry: &[u8]| {
        if u16::from_ne_bytes([*entry.first()?, *entry.get(1)?]) != USER_PROCESS {
            return None;
        }
        let line = entry.get(LINE_AT)?.split(|byte| *byte == 0).next()?;
        // The file may be written by others: it must not lead out of the folder of devices.
        let good = !line.is_empty() && line.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'/') && !line.starts_with(b"/");
        good.then(|| String::from_utf8_lossy(line).into_owned())
    };
    let mut found: Vec<String> = utmp.chunks_exact(ENTRY_BYTES).filter_map(line).collect();
    found.sort();
    found.dedup();
    found
}

/// A terminal that is stopped does not hold anybody up.
fn tell(path: &Path, shown: &[u8]) -> std::io::Result<()> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NOFOLLOW;
    let mut terminal = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !rustix::termios::isatty(&terminal) {
        return Err(std::io::Error::other("it is not a terminal"));
    }
    terminal.write_all(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::FaultKind;
    use crate::message::sample;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    fn entry(kind: u16, line: &str) -> Vec<u8> {
        let mut entry = vec![0; ENTRY_BYTES];
        entry[..2].copy_from_slice(&kind.to_ne_bytes());
        entry[LINE_AT][..line.len()].copy_from_slice(line.as_bytes());
        entry
    }

    #[test]
    fn only_those_of_people_are_terminals() {
        let mut utmp = Vec::new();
        for (kind, line) in
            [(7, "tty1"), (7, "pts/3"), (8, "pts/4"), (7, "../etc/passwd"), (7, "/etc/passwd"), (7, ""), (7, "tty1"), (2, "~")]
        {
            utmp.extend(entry(kind, line));
        }
        utmp.extend([7; 100]);
        assert_eq!(terminals(&utmp), ["pts/3", "tty1"]);
    }

    /// Systems without that file there are; what is in the log already is not written again and again.
    #[tokio::test]
    async fn without_a_list_of_who_is_logged_in_the_log_is_enough() {
        for (journal, told) in [(true, true), (false, false)] {
            let settings = ConsoleChannel { journal, terminals: true };
            let console = Console { settings, utmp: "/nonexistent/utmp".into(), devices: "/dev".into() };
            let result = console.deliver(&sample("k", 0), &mut Transcript::new()).await;
            let said = result.as_ref().map_or_else(|fault| fault.text.clone(), |receipt| receipt.said.clone());
            assert_eq!(result.is_ok(), told, "{said}");
            assert!(said.contains("nobody can say who is logged in: /nonexistent/utmp: No such file"), "{said}");
            assert!(result.err().is_none_or(|fault| fault.kind == FaultKind::Permanent));
        }
    }

    #[tokio::test]
    async fn whoever_is_logged_in_sees_it() {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        // Open, so that what is written is not lost.
        let _terminal = File::options().read(true).write(true).open(&name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("utmp"), [entry(7, name.strip_prefix("/dev/").unwrap()), entry(7, "null")].concat()).unwrap();
        let settings = ConsoleChannel { journal: false, terminals: true };
        let console = Console { settings, utmp: folder.path().join("utmp"), devices: "/dev".into() };
        let mut message = sample("k", 0);
        message.texts.get_mut("en").unwrap().text = "first\nsecond \x1b[2J\u{9b}line".into();
        let receipt = console.deliver(&message, &mut Transcript::new()).await.unwrap();
        assert_eq!(receipt.said, "1 of 2 terminals", "a device that is no terminal is left alone");
        let mut shown = Vec::new();
        // The kernel may hand it over in pieces.
        while !shown.windows(4).any(|part| part == b"line") {
            let mut part = [0; 4096];
            let length = rustix::io::read(&controller, &mut part).unwrap();
            shown.extend_from_slice(&part[..length]);
        }
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(shown.contains("[test] pool web") && shown.contains("  second  [2J"), "{shown:?}");
        assert!(!shown.contains(['\x1b', '\u{9b}']));
    }
}
