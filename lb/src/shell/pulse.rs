//! Whether the workers are alive: what a node must know before it lets traffic come to it.
//!
//! A worker that ends tells so as its last act. One that hangs cannot: so each is asked now and then, by a command as all others, and its
//! answer is a number. Nothing is asked, and nothing costs anything, unless somebody watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::worker::Command;

/// How the data plane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vitality {
    /// All workers answer.
    Alive,
    /// A worker ended though nobody told it to.
    Dead {
        /// Its number.
        worker: usize,
    },
    /// A worker does not answer.
    Hung {
        /// Its number.
        worker: usize,
    },
}

/// Who is told when a worker ends.
#[derive(Debug, Default)]
pub(super) struct Obituaries(Mutex<Vec<Sender<Note>>>);

impl Obituaries {
    fn subscribe(&self, to: Sender<Note>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(to);
    }

    /// Held by a worker as long as it lives.
    pub(super) fn of(self: &Arc<Self>, worker: usize) -> Obituary {
        Obituary { worker, all: Arc::clone(self) }
    }
}

/// Tells that a worker has ended when it is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Obituary {
    worker: usize,
    all: Arc<Obituaries>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        for watcher in self.all.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A watch that has ended is told nothing.
            let _ = watcher.send(Note::Ended(self.worker));
        }
    }
}

/// What a watch hears.
#[derive(Debug)]
enum Note {
    Ended(usize),
    Stop,
}

/// A running watch, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    notes: Sender<Note>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended, by a panic in what it tells to.
        let _ = self.notes.send(Note::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A worker as a watch knows it.
struct Patient {
    commands: UnboundedSender<Command>,
    /// The last question that was answered.
    answered: Arc<AtomicU64>,
    /// The oldest question that is open, and since when.
    open: Option<(u64, Instant)>,
    dead: bool,
}

/// Asks each worker every `interval`, takes it for hung when an answer takes longer than `limit`, and tells each change, the first state
/// included. A death is told at once.
pub(super) fn watch(
    workers: impl Iterator<Item = UnboundedSender<Command>>,
    obituaries: &Obituaries,
    interval: Duration,
    limit: Duration,
    mut tell: impl FnMut(Vitality) + Send + 'static,
) -> std::io::Result<Watch> {
    let (notes, heard) = channel();
    obituaries.subscribe(notes.clone());
    let mut patients: Vec<Patient> =
        workers.map(|commands| Patient { commands, answered: Arc::default(), open: None, dead: false }).collect();
    let thread = std::thread::Builder::new().name("weir-pulse".into()).spawn(move || {
        let mut told = None;
        let mut question = 0;
        loop {
            question += 1;
            for patient in &mut patients {
                patient.ask(question);
            }
            let vitality = judge(&patients, limit);
            if told != Some(vitality) {
                told = Some(vitality);
                tell(vitality);
            }
            if !listen(&heard, interval, &mut patients) {
                return;
            }
            for patient in &mut patients {
                patient.open = patient.open.filter(|(question, _)| patient.answered.load(Ordering::Relaxed) < *question);
            }
        }
    })?;
    Ok(Watch { notes, thread: Some(thread) })
}

/// Waits for so long, or until a worker ended. Whether the watch goes on.
fn listen(heard: &Receiver<Note>, interval: Duration, patients: &mut [Patient]) -> bool {
    match heard.recv_timeout(interval) {
        Ok(Note::Ended(worker)) => patients[worker].dead = true,
        Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Err(RecvTimeoutError::Timeout) => {}
    }
    true
}

fn judge(patients: &[Patient], limit: Duration) -> Vitality {
    if let Some(worker) = patients.iter().position(|patient| patient.dead) {
        return Vitality::Dead { worker };
    }
    let hangs = |patient: &Patient| patient.open.is_some_and(|(_, since)| since.elapsed() >= limit);
    patients.iter().position(hangs).map_or(Vitality::Alive, |worker| Vitality::Hung { worker })
}

impl Patient {
    fn ask(&mut self, question: u64) {
        self.open.get_or_insert_with(|| (question, Instant::now()));
        self.dead |= self.commands.send(Command::Answer { question, to: Arc::clone(&self.answered) }).is_err();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A worker that answers until it is told to hang, or its channel is taken away.
    fn answer(mut commands: UnboundedReceiver<Command>, hang: Receiver<()>) {
        while let Some(command) = commands.blocking_recv() {
            if hang.try_recv().is_ok() {
                // Until the test ends.
                let _ = hang.recv();
            }
            if let Command::Answer { question, to } = command {
                to.store(question, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn a_worker_that_hangs_is_told_of_and_one_that_ends_at_once() {
        let obituaries = Arc::<Obituaries>::default();
        let (first, commands) = unbounded_channel();
        let (second, silent) = unbounded_channel();
        let (hang, told_to) = channel();
        let worker = std::thread::spawn(move || answer(commands, told_to));
        let second_alive = std::thread::spawn(move || answer(silent, channel().1));
        let (tell, told) = channel();
        let limit = Duration::from_millis(300);
        let watch = watch([first.clone(), second].into_iter(), &obituaries, Duration::from_millis(5), limit, move |vitality| {
            let _ = tell.send(vitality);
        })
        .unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Alive));
        let since = Instant::now();
        hang.send(()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Hung { worker: 0 }));
        assert!(since.elapsed() >= limit);
        drop(hang);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Alive), "it answers again");
        drop(obituaries.of(1));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Dead { worker: 1 }));
        drop((watch, first));
        worker.join().unwrap();
        second_alive.join().unwrap();
    }
}
