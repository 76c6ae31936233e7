//! Deletes bodies that no page names any more, after a grace period.
//!
//! What is handed in can never become current again: it was superseded by a swap that is known to be applied, or belonged
//! to a lease that can no longer commit. What is pending when the process ends is left to a sweep.

use super::bodies::Bodies;
use crate::time::Clock;
use leasehold_core::object::ObjectName;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Names in one delete at most.
const BATCH: usize = 100;
/// The pause after a delete that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Names that wait for their time.
pub(crate) struct Cleaner {
    grace: Duration,
    capacity: usize,
    clock: Arc<dyn Clock>,
    /// In the order of their time: the grace is the same for all.
    pending: Mutex<VecDeque<(Duration, ObjectName)>>,
    added: Notify,
}

impl Cleaner {
    pub(crate) fn new(grace: Duration, capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { grace, capacity, clock, pending: Mutex::default(), added: Notify::new() }
    }

    /// How many wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending.lock().len()
    }

    /// Hands names in.
    pub(crate) fn retire(&self, names: impl IntoIterator<Item = ObjectName>) {
        let due = self.clock.now().elapsed + self.grace;
        let mut pending = self.pending.lock();
        let mut left = 0_usize;
        for name in names {
            if pending.len() < self.capacity {
                pending.push_back((due, name));
            } else {
                left += 1;
            }
        }
        drop(pending);
        if left > 0 {
            tracing::warn!(
                objects = left,
                "too many superseded bodies wait for deletion; these are left to a sweep"
            );
        }
        self.added.notify_one();
    }

    /// Deletes what is due until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, bodies: Arc<Bodies>, shutdown: CancellationToken) {
        loop {
            let next_due = self.pending.lock().front().map(|(due, _)| *due);
            let wait = async {
                match next_due {
                    Some(due) => tokio::time::sleep(due.saturating_sub(self.clock.now().elapsed)).await,
                    None => self.added.notified().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = wait => {}
            }
            let now = self.clock.now().elapsed;
            let batch: Vec<_> = {
                let pending = self.pending.lock();
                let due = pending.iter().take_while(|(due, _)| *due <= now);
                due.take(BATCH).map(|(_, name)| name.clone()).collect()
            };
            if batch.is_empty() {
                continue;
            }
            match bodies.delete(&batch).await {
                Ok(()) => {
                    self.pending.lock().drain(..batch.len());
                    tracing::debug!(objects = batch.len(), "superseded bodies deleted");
                }
                Err(error) => {
                    tracing::warn!(%error, objects = batch.len(), "superseded bodies could not be deleted; trying again");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                    }
                }
            }
        }
    }
}
