//! Watches what virtual IPs track and tells the standings. Files, interfaces and pools are looked at now and then; programs run by themselves.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use weir_config::TrackSubject;
use weir_lb::status::Status;

use super::standing::{Healthy, Known, Verdict, name, pool_is_well, read_file};
use super::standings::Standings;
use crate::command;
use crate::node::Node;

/// How often files and interfaces are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often pools are counted: every so many looks, as the director has to be asked.
const LOOKS_PER_COUNT: u32 = 5;

/// Bytes read of a tracked file.
const FILE_BYTES_MAX: u64 = 4096;

/// Runs as long as the node does. Costs nothing while nothing is tracked.
pub(crate) async fn watch(standings: Arc<Standings>, node: Node) {
    let mut programs: Vec<(TrackSubject, Program)> = Vec::new();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = 0u32;
    loop {
        ticks.tick().await;
        let subjects = standings.subjects();
        programs.retain(|(subject, _)| subjects.contains(subject));
        let mut simple = Vec::new();
        for subject in subjects {
            match &subject {
                TrackSubject::Command { .. } if programs.iter().any(|(known, _)| *known == subject) => {}
                TrackSubject::Command { .. } => programs.push((subject.clone(), Program::start(subject, standings.clone()))),
                _ => simple.push(subject),
            }
        }
        let counts = simple.iter().any(|subject| matches!(subject, TrackSubject::Pool(_) | TrackSubject::Listener(_)));
        let (told, asked) = (standings.clone(), (counts && look.is_multiple_of(LOOKS_PER_COUNT)).then(|| node.clone()));
        look = look.wrapping_add(1);
        if !simple.is_empty() {
            // The director and the disk may take their time. A panic in there is said by its thread; the next look is another try.
            let _ = tokio::task::spawn_blocking(move || look_at(&simple, &told, asked.map(|node| node.status()).as_ref())).await;
        }
    }
}

fn look_at(subjects: &[TrackSubject], standings: &Standings, status: Option<&Status>) {
    if let Some(status) = status {
        let counts: HashMap<&str, u32> = status.pools.iter().map(|pool| (pool.name.as_str(), pool.healthy)).collect();
        standings.set_healthy(|pool| counts.get(pool).copied().unwrap_or(0));
    }
    for subject in subjects {
        let known: Known = match subject {
            TrackSubject::File(path) => Some(read_file(&name(subject), file(path).as_deref())),
            TrackSubject::Interface(interface) => Some(interface_is_up(interface)),
            TrackSubject::Pool(_) | TrackSubject::Listener(_) => match status {
                Some(status) => count(subject, status),
                None => continue,
            },
            TrackSubject::Command { .. } => continue,
        };
        standings.set_track(subject, &known);
    }
}

/// `None`: there is none, or it cannot be read, which counts as absent: a file that nobody can read was not put there to be heeded.
fn file(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Up and with a carrier; devices that do not know carriers, such as tunnels, say `unknown`.
fn interface_is_up(interface: &str) -> Result<(), String> {
    match std::fs::read_to_string(format!("/sys/class/net/{interface}/operstate")) {
        Ok(state) if matches!(state.trim(), "up" | "unknown") => Ok(()),
        Ok(state) => Err(format!("interface {interface} is {}", state.trim())),
        Err(_) => Err(format!("there is no interface {interface}")),
    }
}

fn count(subject: &TrackSubject, status: &Status) -> Known {
    match subject {
        TrackSubject::Pool(pool) => {
            let pool = status.pools.iter().find(|known| known.name == *pool.0)?;
            Some(pool_is_well(&name(subject), Healthy { here: pool.healthy, floor: pool.min_healthy }))
        }
        TrackSubject::Listener(listener) if status.listeners.iter().any(|known| known.name == *listener.0) => Some(Ok(())),
        _ => Some(Err(format!("{} does not listen", name(subject)))),
    }
}

/// A program that is run again and again, until this is dropped.
struct Program(JoinHandle<()>);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Program {
    fn start(subject: TrackSubject, standings: Arc<Standings>) -> Program {
        Program(tokio::spawn(async move {
            let TrackSubject::Command { command, interval, timeout, rise, fall } = &subject else { return };
            let mut verdict = Verdict::default();
            let mut ticks = interval_at(Instant::now(), *interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let result = command::run(command, &[], *timeout).await;
                standings.set_track(&subject, &verdict.take(result, rise.get(), fall.get()));
            }
        }))
    }
}
