//! Whether the workers are alive: what a node must know before it lets traffic come to it.
//!
//! Three ways, from the fastest to the surest; nothing costs anything unless somebody watches:
//! - a worker that ends tells so as its last act, and so does a listening socket that is served no more;
//! - a worker that works gives a sign with each piece of work (`beat`). While it matters, somebody looks for it every millisecond, and wakes
//!   one that waits for work; one that gave none, and was not kept from running, hangs (`suspicion`);
//! - each is asked now and then, by a command as all others, and its answer is a number: whoever is not stuck in one place, but does not come
//!   to what it should do, is found that way.

mod beat;
mod canary;
mod suspicion;
mod thread;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::worker::Command;
pub(super) use beat::{Beat, Long};
use canary::{Canary, Errands};
use suspicion::{CLOSE_TICK, LAST_TICK, Patience, Signs, Suspect, TICK};
use thread::Crowd;

/// How long a worker that hung has to be well before it is said: a node that comes and goes helps nobody.
const RECOVERY: Duration = Duration::from_secs(1);

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
    /// A listening socket of a worker is served no more, though nobody told it to.
    Deaf {
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

    fn publish(&self, note: Note) {
        for watcher in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A watch that has ended is told nothing.
            let _ = watcher.send(note);
        }
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
        self.all.publish(Note::Ended(self.worker));
    }
}

/// Tells when whoever serves a listening socket panics: the worker goes on without it.
#[derive(Debug)]
pub(super) struct Post {
    worker: usize,
    all: Arc<Obituaries>,
}

impl Obituary {
    /// For whoever serves a listening socket of this worker.
    pub(super) fn post(&self) -> Post {
        Post { worker: self.worker, all: Arc::clone(&self.all) }
    }
}

impl Post {
    /// Held while that runs.
    pub(super) async fn keep(self, serving: impl Future<Output = ()>) {
        serving.await;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.all.publish(Note::Deaf(self.worker));
        }
    }
}

/// What a watch hears.
#[derive(Clone, Copy, Debug)]
enum Note {
    Ended(usize),
    Deaf(usize),
    /// Whether to look for signs every millisecond.
    Hasten(bool),
    Stop,
}

/// A running watch, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    notes: Sender<Note>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Whether a hang has to be found within milliseconds, which costs a look each millisecond, or whether the questions are enough. They
    /// are at first.
    pub fn hasten(&self, fast: bool) {
        // The thread may have ended, by a panic in what it tells to.
        let _ = self.notes.send(Note::Hasten(fast));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // As above.
        let _ = self.notes.send(Note::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A worker, as whoever watches reaches it.
pub(super) struct Ward {
    pub(super) commands: UnboundedSender<Command>,
    pub(super) beat: Arc<Beat>,
}

/// A worker as a watch knows it.
struct Patient {
    ward: Ward,
    /// The last question that was answered.
    answered: Arc<AtomicU64>,
    /// The oldest question that is open, and since when.
    open: Option<(u64, Instant)>,
    suspect: Suspect,
    errands: Errands,
    stuck: Duration,
    dead: bool,
    deaf: bool,
}

/// How a watch goes about it.
pub(super) struct Rhythm {
    /// From one question to the next.
    pub(super) interval: Duration,
    /// How long an answer may take.
    pub(super) limit: Duration,
}

/// Watches the workers from threads of its own, which call `prepare` first, and tells each change, the first state included. A death is told
/// at once.
pub(super) fn watch(
    wards: impl Iterator<Item = Ward>,
    obituaries: &Obituaries,
    rhythm: Rhythm,
    prepare: fn(),
    mut tell: impl FnMut(Vitality) + Send + 'static,
) -> std::io::Result<Watch> {
    let (notes, heard) = channel();
    obituaries.subscribe(notes.clone());
    let now = Instant::now();
    let mut round = Round {
        patients: wards.map(|ward| Patient::new(ward, now)).collect(),
        rhythm,
        patience: Patience::new(now),
        crowd: Crowd::default(),
        canary: Canary::start(prepare)?,
        fast: false,
        question: 0,
        ask_at: now,
        hung: None,
    };
    let thread = std::thread::Builder::new().name("weir-pulse".into()).spawn(move || {
        prepare();
        let mut told = None;
        loop {
            let vitality = round.look(Instant::now());
            if told != Some(vitality) {
                told = Some(vitality);
                if let Vitality::Hung { worker } = vitality {
                    round.explain(worker);
                }
                tell(vitality);
            }
            if !round.listen(&heard) {
                return;
            }
        }
    })?;
    Ok(Watch { notes, thread: Some(thread) })
}

/// What the thread of a watch knows.
struct Round {
    patients: Vec<Patient>,
    rhythm: Rhythm,
    patience: Patience,
    crowd: Crowd,
    canary: Canary,
    fast: bool,
    question: u64,
    ask_at: Instant,
    /// The last one that hung, and when it was seen so.
    hung: Option<(usize, Instant)>,
}

impl Round {
    fn look(&mut self, now: Instant) -> Vitality {
        for patient in &mut self.patients {
            patient.open = patient.open.filter(|(question, _)| patient.answered.load(Ordering::Relaxed) < *question);
        }
        if now >= self.ask_at {
            self.ask_at = now + self.rhythm.interval;
            self.question += 1;
            for patient in &mut self.patients {
                patient.ask(self.question, now);
            }
        }
        if self.fast {
            for patient in &mut self.patients {
                patient.look(now, &mut self.patience, &mut self.crowd, &self.canary);
                // It does nothing by itself that could be missed.
                if patient.open.is_none() && patient.ward.beat.is_parked() {
                    self.question += 1;
                    patient.ask(self.question, now);
                }
            }
            if !self.patients.iter().any(|patient| patient.suspect.is_suspected()) {
                self.crowd.forget();
            }
        }
        self.judge(now)
    }

    /// Waits for the next look, or until a worker ended. Whether the watch goes on.
    fn listen(&mut self, heard: &Receiver<Note>) -> bool {
        let wait = match self.fast {
            true if self.patients.iter().any(|patient| patient.suspect.may_be_stuck(self.patience.limit())) => LAST_TICK,
            true if self.patients.iter().any(|patient| patient.suspect.is_suspected()) => CLOSE_TICK,
            true => TICK,
            false => self.ask_at.saturating_duration_since(Instant::now()),
        };
        let due = Instant::now() + wait;
        match heard.recv_timeout(wait) {
            Ok(Note::Ended(worker)) => self.patients[worker].dead = true,
            Ok(Note::Deaf(worker)) => self.patients[worker].deaf = true,
            Ok(Note::Hasten(fast)) => {
                self.fast = fast;
                let now = Instant::now();
                for patient in &mut self.patients {
                    (patient.suspect, patient.stuck) = (Suspect::new(now), Duration::ZERO);
                }
            }
            Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                self.patience.looked_late(now.saturating_duration_since(due), now);
            }
        }
        true
    }

    /// Says what is known of a worker that hangs.
    fn explain(&self, worker: usize) {
        let (patient, limit_us) = (&self.patients[worker], self.patience.limit().as_micros());
        let (ran, waited) = patient.suspect.stuck();
        let open_ms = patient.open.map_or(0, |(_, since)| since.elapsed().as_millis());
        tracing::warn!(
            worker,
            ran_us = ran.as_micros(),
            waited_us = waited.as_micros(),
            limit_us,
            open_ms,
            "a worker gives no sign of life"
        );
    }

    fn judge(&mut self, now: Instant) -> Vitality {
        if let Some(worker) = self.patients.iter().position(|patient| patient.dead) {
            return Vitality::Dead { worker };
        }
        if let Some(worker) = self.patients.iter().position(|patient| patient.deaf) {
            return Vitality::Deaf { worker };
        }
        let (limit, patience) = (self.rhythm.limit, self.patience.limit());
        let hangs = |patient: &Patient| {
            patient.stuck >= patience || patient.open.is_some_and(|(_, since)| now.saturating_duration_since(since) >= limit)
        };
        if let Some(worker) = self.patients.iter().position(hangs) {
            self.hung = Some((worker, now));
        }
        self.hung = self.hung.filter(|(_, seen)| now < *seen + RECOVERY);
        self.hung.map_or(Vitality::Alive, |(worker, _)| Vitality::Hung { worker })
    }
}

impl Patient {
    fn new(ward: Ward, now: Instant) -> Patient {
        Patient {
            ward,
            answered: Arc::default(),
            open: None,
            suspect: Suspect::new(now),
            errands: Errands::default(),
            stuck: Duration::ZERO,
            dead: false,
            deaf: false,
        }
    }

    fn ask(&mut self, question: u64, now: Instant) {
        self.open.get_or_insert((question, now));
        self.dead |= self.ward.commands.send(Command::Answer { question, to: Arc::clone(&self.answered) }).is_err();
    }

    fn look(&mut self, now: Instant, patience: &mut Patience, crowd: &mut Crowd, canary: &Canary) {
        let Some(number) = self.ward.beat.thread() else { return };
        let beat = &self.ward.beat;
        let mark = beat.last();
        // What takes long is not stuck; should it never end, the question finds out.
        let used = thread::used(number).filter(|_| !beat.is_long());
        let asked = self.open.is_some_and(|(_, since)| since < now);
        let errands = &mut self.errands;
        let served = || errands.follow(canary, number);
        self.stuck = self.suspect.look(Signs { mark, asked, used }, now, patience, served, || crowd.why_still(number));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// How a worker hangs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Hang {
        /// It waits for what does not come.
        Blocked,
        /// It runs in circles.
        Spinning,
        /// It waits for work, but does not do it.
        Lost,
        /// It does what takes long.
        Long,
    }

    /// A worker that answers until it is told to hang, or its channel is taken away.
    fn answer(mut commands: UnboundedReceiver<Command>, beat: &Beat, hang: &Receiver<Hang>) {
        beat.begin();
        loop {
            beat.park();
            let command = commands.blocking_recv();
            beat.unpark();
            let Some(command) = command else { return };
            if let Ok(how) = hang.try_recv() {
                if how == Hang::Lost {
                    beat.park();
                }
                // Until it is told otherwise.
                let _long = (how == Hang::Long).then(|| beat.long());
                if matches!(how, Hang::Spinning | Hang::Long) {
                    while let Err(std::sync::mpsc::TryRecvError::Empty) = hang.try_recv() {
                        std::hint::spin_loop();
                    }
                } else {
                    let _ = hang.recv();
                }
            }
            if let Command::Answer { question, to } = command {
                to.store(question, Ordering::Relaxed);
            }
        }
    }

    struct Scene {
        obituaries: Arc<Obituaries>,
        wards: Vec<UnboundedSender<Command>>,
        hang: Vec<Sender<Hang>>,
        threads: Vec<JoinHandle<()>>,
        told: Receiver<Vitality>,
        watch: Watch,
    }

    /// For an answer. It counts from the last question that was answered: on a busy machine that may have been some time before whatever happens
    /// next, but not half of this, which is longer than anything else that makes a worker hung.
    const LIMIT: Duration = Duration::from_secs(2);

    fn scene(limit: Duration) -> Scene {
        let obituaries = Arc::<Obituaries>::default();
        let (mut all, mut hang, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (commands, receiver) = unbounded_channel();
            let (tell, told) = channel();
            let beat = Arc::<Beat>::default();
            all.push(Ward { commands, beat: beat.clone() });
            hang.push(tell);
            threads.push(std::thread::spawn(move || answer(receiver, &beat, &told)));
        }
        let wards = all.iter().map(|ward| ward.commands.clone()).collect();
        let (tell, told) = channel();
        let rhythm = Rhythm { interval: Duration::from_millis(5), limit };
        let watch = watch(
            all.into_iter(),
            &obituaries,
            rhythm,
            || {},
            move |vitality| {
                let _ = tell.send(vitality);
            },
        )
        .unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Alive));
        Scene { obituaries, wards, hang, threads, told, watch }
    }

    impl Scene {
        fn finish(self) {
            drop((self.watch, self.wards, self.hang));
            for thread in self.threads {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn a_worker_that_does_not_answer_is_told_of_and_one_that_ends_at_once() {
        let since = Instant::now();
        let scene = scene(LIMIT);
        scene.hang[0].send(Hang::Lost).unwrap();
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Hung { worker: 0 }));
        assert!(since.elapsed() >= LIMIT, "{:?}", since.elapsed());
        scene.hang[0].send(Hang::Lost).unwrap();
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Alive), "it answers again");
        drop(scene.obituaries.of(1));
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Dead { worker: 1 }));
        scene.finish();
    }

    #[test]
    fn a_worker_that_is_stuck_is_found_long_before_its_answer_is_late() {
        for how in [Hang::Blocked, Hang::Spinning, Hang::Lost] {
            let since = Instant::now();
            let scene = scene(PATIENCE);
            scene.watch.hasten(true);
            scene.hang[1].send(how).unwrap();
            assert_eq!(scene.told.recv_timeout(PATIENCE / 2), Ok(Vitality::Hung { worker: 1 }), "{how:?}");
            scene.hang[1].send(how).unwrap();
            assert_eq!(scene.told.recv_timeout(PATIENCE / 2), Ok(Vitality::Alive), "{how:?}: it goes on");
            assert!(since.elapsed() >= RECOVERY, "{:?}", since.elapsed());
            scene.finish();
        }
    }

    #[test]
    fn what_takes_long_has_as_long_as_an_answer() {
        let since = Instant::now();
        let scene = scene(LIMIT);
        scene.watch.hasten(true);
        scene.hang[1].send(Hang::Long).unwrap();
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Hung { worker: 1 }));
        assert!(since.elapsed() >= LIMIT, "{:?}", since.elapsed());
        scene.hang[1].send(Hang::Long).unwrap();
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Alive));
        scene.finish();
    }

    #[test]
    fn who_serves_a_socket_and_panics_is_missed() {
        let scene = scene(PATIENCE);
        let obituary = scene.obituaries.of(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build_local(tokio::runtime::LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let ended = tokio::task::spawn_local(obituary.post().keep(async {})).await;
            assert!(ended.is_ok());
            drop(tokio::task::spawn_local(obituary.post().keep(std::future::pending())));
            let panicked = tokio::task::spawn_local(obituary.post().keep(async { panic!("on purpose") })).await;
            assert!(panicked.is_err());
        });
        drop(runtime);
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok(Vitality::Deaf { worker: 1 }));
        std::mem::forget(obituary);
        scene.finish();
    }
}
