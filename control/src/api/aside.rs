//! Work that takes processor time and may wait: it gives way to everything else of this machine, first of all to those who serve clients.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::{io, thread};

use axum::http::StatusCode;
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

use super::problem::Problem;

/// How nice its thread is (setpriority(2)): beside a busy thread of the usual niceness it gets a hundredth of a processor or two, and never
/// displaces one when it wakes up.
const NICENESS: i32 = 19;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one thing after the other. It begins with the first, and ends with this.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<Option<Sender<Job>>>);

impl Aside {
    /// What `work` returns, once it was its turn. It must not hold what others wait for.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have left.
        let job: Job = Box::new(move || drop(answer.send(work())));
        let sent = self.jobs().map(|jobs| jobs.send(job).is_ok());
        match (sent, answered.await) {
            (Ok(_), Ok(result)) => Ok(result),
            (sent, _) => {
                // The next one gets a new thread.
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tracing::error!(error = ?sent.err(), "what is shown could not be computed");
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "what is shown could not be computed: look at the log of the node"))
            }
        }
    }

    fn jobs(&self) -> io::Result<Sender<Job>> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (sender, receiver) = channel();
        thread::Builder::new().name("weir-aside".into()).spawn(move || work_off(&receiver))?;
        Ok(jobs.insert(sender).clone())
    }
}

fn work_off(jobs: &Receiver<Job>) {
    // Of this thread alone, whatever the name says; to be nicer needs no privilege.
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "what is shown is computed with the same priority as everything else");
    }
    for job in jobs {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[tokio::test]
    async fn it_gives_way_alone_and_survives_what_fails() {
        let aside = Aside::default();
        let own = getpriority_process(None).expect("a priority");
        assert_eq!(aside.run(|| getpriority_process(None)).await.expect("an answer"), Ok(NICENESS));
        assert_eq!(getpriority_process(None), Ok(own), "nobody else does");
        assert!(aside.run(|| panic!("it fails")).await.is_err());
        assert_eq!(aside.run(|| 7).await.expect("a new thread"), 7);
    }
}
