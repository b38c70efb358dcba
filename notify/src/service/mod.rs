//! The thread that tells: it gives alarms to the engine, keeps what comes out, and delivers it.
//!
//! ```text
//!   handle ──commands──► engine ──outputs──► store ──claim──► channel (one delivery at a time each) ──► store
//!                          ▲                                      │
//!                          └── alarm `channel-failed` ◄── faults ─┘
//! ```
//!
//! One process of a node at a time tells: a lock on the folder decides. What is raised meanwhile waits.

mod lane;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use weir_config::Notification;

use crate::engine::{AckRefusal, Incident, Input};
use crate::link::Refusal;
use crate::outbox::Row;
use crate::transcript::Line;

/// Commands that wait; whoever has more to say waits, too.
const COMMANDS_MAX: usize = 4096;

/// How to start.
pub struct Options {
    /// Where `notify.db` is; `None`: nothing outlives the process.
    pub state_dir: Option<PathBuf>,
    /// What the file says.
    pub notification: Arc<Notification>,
    /// The node's name.
    pub node: String,
    /// Is told what happens, on the service's thread.
    pub report: Box<dyn Fn(Report) + Send>,
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A channel has begun to fail.
    ChannelFailed {
        /// The channel.
        channel: String,
        /// Why, without secrets.
        reason: String,
    },
    /// A channel that failed delivers again.
    ChannelRecovered {
        /// The channel.
        channel: String,
    },
    /// A message was given up.
    Dead {
        /// The channel.
        channel: String,
        /// Its key.
        key: String,
        /// Why, without secrets.
        reason: String,
    },
    /// The store cannot be used: people are told all the same, but a kill would lose what waits.
    StoreFailed {
        /// Why.
        reason: String,
    },
}

/// Counts for metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// By channel.
    pub channels: BTreeMap<String, ChannelStats>,
    /// Incidents that are not over, by severity word.
    pub incidents: BTreeMap<&'static str, u64>,
    /// Alarms and messages that were left out because there were too many.
    pub dropped: u64,
}

/// Counts of one channel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChannelStats {
    /// Messages delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub faults: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// It fails now.
    pub failing: bool,
    /// Time that deliveries took, in milliseconds.
    pub delivery_ms: u64,
}

/// What came of a sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestOutcome {
    /// What the other end said, or the fault.
    pub result: Result<String, String>,
    /// The conversation.
    pub transcript: Vec<Line>,
}

/// An incident with its messages.
#[derive(Clone, PartialEq, Debug)]
pub struct Story {
    /// The incident.
    pub incident: Incident,
    /// Its messages, the latest first.
    pub messages: Vec<Row>,
}

pub(crate) enum Command {
    Learn(Input),
    Apply(Arc<Notification>),
    Acknowledge(u64, String, oneshot::Sender<Result<(), AckRefusal>>),
    AcknowledgeAlarm(String, String, oneshot::Sender<Result<u64, AckRefusal>>),
    FollowLink(String, bool, oneshot::Sender<Result<LinkState, Refusal>>),
    Incidents(oneshot::Sender<Vec<Incident>>),
    Story(u64, oneshot::Sender<Option<Story>>),
    Test(String, oneshot::Sender<Option<TestOutcome>>),
    Dead(oneshot::Sender<Vec<Row>>),
    Resend(Option<String>, oneshot::Sender<usize>),
    Stop(oneshot::Sender<()>),
}

/// What a good link leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum LinkState {
    /// The incident is open; whoever followed the link may acknowledge it.
    Open(Box<Incident>),
    /// It was acknowledged now.
    Done(Box<Incident>),
    /// Somebody was first.
    Already(String),
    /// It is over.
    Over,
}

/// A handle on the service. Cheap to clone. Where the service has ended, every question is answered with `None`.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    stats: Arc<Mutex<Stats>>,
    /// Also where the thread still waits for the process before and reads no commands.
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

/// Starts the thread.
///
/// # Errors
///
/// There can be no thread.
pub fn start(options: Options) -> std::io::Result<Handle> {
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let stats = Arc::<Mutex<Stats>>::default();
    let stopping = Arc::<AtomicBool>::default();
    let (shared, stop) = (stats.clone(), stopping.clone());
    std::thread::Builder::new().name("weir-notify".into()).spawn(move || run::run(options, receiver, &shared, &stop))?;
    Ok(Handle { commands, stats, stopping })
}

impl Handle {
    /// Tells it something.
    pub async fn learn(&self, input: Input) {
        // An error: it has ended.
        let _ = self.commands.send(Command::Learn(input)).await;
    }

    /// Makes another file take effect. Blocks for a moment where much waits.
    pub fn apply(&self, notification: Arc<Notification>) {
        let _ = self.commands.blocking_send(Command::Apply(notification));
    }

    /// Acknowledges an incident.
    pub async fn acknowledge(&self, id: u64, by: &str) -> Option<Result<(), AckRefusal>> {
        self.ask(|reply| Command::Acknowledge(id, by.to_owned(), reply)).await
    }

    /// Acknowledges the incident of an active alarm, by the alarm's key; returns its number.
    pub async fn acknowledge_alarm(&self, key: &str, by: &str) -> Option<Result<u64, AckRefusal>> {
        self.ask(|reply| Command::AcknowledgeAlarm(key.to_owned(), by.to_owned(), reply)).await
    }

    /// Looks at what a signed link leads to, and acknowledges it if asked to.
    pub async fn follow_link(&self, token: &str, acknowledge: bool) -> Option<Result<LinkState, Refusal>> {
        self.ask(|reply| Command::FollowLink(token.to_owned(), acknowledge, reply)).await
    }

    /// Incidents: those that are not over, then the latest others.
    pub async fn incidents(&self) -> Option<Vec<Incident>> {
        self.ask(Command::Incidents).await
    }

    /// One incident.
    pub async fn story(&self, id: u64) -> Option<Option<Story>> {
        self.ask(|reply| Command::Story(id, reply)).await
    }

    /// Sends a sample by this channel; the inner `None`: there is no such channel.
    pub async fn test(&self, channel: &str) -> Option<Option<TestOutcome>> {
        self.ask(|reply| Command::Test(channel.to_owned(), reply)).await
    }

    /// Dead letters.
    pub async fn dead(&self) -> Option<Vec<Row>> {
        self.ask(Command::Dead).await
    }

    /// Sends the dead letter of this key, or all, again.
    pub async fn resend(&self, key: Option<String>) -> Option<usize> {
        self.ask(|reply| Command::Resend(key, reply)).await
    }

    /// Ends it; what waits is sent by the next process. Blocks until the store is closed.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let (reply, done) = oneshot::channel();
        if self.commands.blocking_send(Command::Stop(reply)).is_ok() {
            let _ = done.blocking_recv();
        }
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
