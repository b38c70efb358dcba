//! One task for each machine that is worked on: what is asked of it is done one after the other, in the order it was asked.
//!
//! The task owns the machine's turn, and its jobs run to their end also when nobody waits for the answer any more. It goes when there is
//! nothing left to do.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::driver::Boxed;
use crate::error::HypervisorError;
use crate::names::MachineId;

/// Jobs that wait for one machine; more are refused.
const WAITING_MAX: usize = 8;

type Job = Boxed<'static, ()>;

/// The tasks by machine.
#[derive(Clone, Default, Debug)]
pub(crate) struct Lanes {
    lanes: Arc<Mutex<HashMap<MachineId, mpsc::Sender<Job>>>>,
}

impl Lanes {
    /// Does `work` when it is this machine's turn, and returns what came of it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        id: &MachineId,
        work: impl Future<Output = Result<T, HypervisorError>> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::pin(async move {
            let _ = done.send(work.await);
        });
        self.enqueue(id, job)?;
        outcome.await.unwrap_or_else(|_| Err(HypervisorError::Local(format!("the work on {id} broke off"))))
    }

    /// Whether something is done to this machine just now.
    pub(crate) fn is_busy(&self, id: &MachineId) -> bool {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    fn enqueue(&self, id: &MachineId, job: Job) -> Result<(), HypervisorError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // A lane whose job panicked is gone; its machine gets another.
        if lanes.get(id).is_none_or(mpsc::Sender::is_closed) {
            let (sender, jobs) = mpsc::channel(WAITING_MAX);
            tokio::spawn(self.clone().work(id.clone(), jobs));
            lanes.insert(id.clone(), sender);
        }
        let lane = &lanes[id];
        lane.try_send(job).map_err(|_| HypervisorError::Busy(id.to_string()))
    }

    async fn work(self, id: MachineId, mut jobs: mpsc::Receiver<Job>) {
        loop {
            while let Ok(job) = jobs.try_recv() {
                job.await;
            }
            // Under the lock nobody can add another: either one is there, or the lane goes.
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            if jobs.is_empty() {
                lanes.remove(&id);
                return;
            }
        }
    }

    /// Machines that are being worked on.
    pub(crate) fn len(&self) -> usize {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn jobs_of_one_machine_run_one_after_the_other() {
        runtime().block_on(async {
            let lanes = Lanes::default();
            let id = MachineId("a".into());
            let order = Arc::new(Mutex::new(Vec::new()));
            let job = |number: u32| {
                let order = order.clone();
                lanes.run(&id, async move {
                    for _ in 0..3 {
                        order.lock().expect("no panic").push(number);
                        tokio::task::yield_now().await;
                    }
                    Ok(number)
                })
            };
            let (a, b) = tokio::join!(job(1), job(2));
            assert_eq!((a.expect("done"), b.expect("done")), (1, 2));
            assert_eq!(*order.lock().expect("no panic"), [1, 1, 1, 2, 2, 2]);
            tokio::task::yield_now().await;
            assert_eq!(lanes.len(), 0);
        });
    }

    #[test]
    fn what_begun_ends_also_when_nobody_waits() {
        runtime().block_on(async {
            let lanes = Lanes::default();
            let id = MachineId("a".into());
            let (done, ended) = oneshot::channel();
            let mut abandoned = Box::pin(lanes.run(&id, async move {
                tokio::task::yield_now().await;
                let _ = done.send(());
                Ok(())
            }));
            // Polled once, then dropped.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, &mut abandoned).await;
            drop(abandoned);
            assert!(ended.await.is_ok());
        });
    }

    #[test]
    fn the_queue_is_bounded() {
        runtime().block_on(async {
            let lanes = Lanes::default();
            let id = MachineId("a".into());
            let job = || lanes.enqueue(&id, Box::pin(std::future::pending()));
            for _ in 0..WAITING_MAX {
                job().expect("room");
            }
            assert!(matches!(job(), Err(HypervisorError::Busy(_))));
        });
    }
}
