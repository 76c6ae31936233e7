//! Deletes bodies that no page names any more, after a grace period.
//!
//! What is handed in can never become current again: it was superseded by a swap that is known to be applied, or belonged
//! to a lease that can no longer commit. What is pending when the process ends is found again as named by no entry: by the
//! embedded store's housekeeping, or by a sweep.

use super::bodies::Bodies;
use crate::time::Clock;
use leasehold_core::object::ObjectName;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
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
    /// In the order of their time: the grace is the same for all that have one, and those that have none go first.
    pending: Mutex<VecDeque<(Duration, ObjectName)>>,
    /// How many are being deleted.
    deleting: AtomicUsize,
    added: Notify,
}

impl Cleaner {
    pub(crate) fn new(grace: Duration, capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            grace,
            capacity,
            clock,
            pending: Mutex::default(),
            deleting: AtomicUsize::new(0),
            added: Notify::new(),
        }
    }

    /// How many are not deleted yet.
    pub(crate) fn pending(&self) -> usize {
        // Under the lock, as they are moved: none is missed on its way from one to the other.
        let pending = self.pending.lock();
        pending.len() + self.deleting.load(Ordering::Acquire)
    }

    /// Hands in what was superseded: readers of the page before may still ask for it.
    pub(crate) fn retire(&self, names: impl IntoIterator<Item = ObjectName>) {
        let due = self.clock.now().elapsed + self.grace;
        self.add(names, |pending, name| pending.push_back((due, name)));
    }

    /// Hands in what was purged: nobody is to see it any more.
    pub(crate) fn retire_purged(&self, names: impl IntoIterator<Item = ObjectName>) {
        let due = self.clock.now().elapsed;
        self.add(names, |pending, name| pending.push_front((due, name)));
    }

    fn add(
        &self,
        names: impl IntoIterator<Item = ObjectName>,
        add: impl Fn(&mut VecDeque<(Duration, ObjectName)>, ObjectName),
    ) {
        let mut pending = self.pending.lock();
        let mut left = 0_usize;
        for name in names {
            if pending.len() < self.capacity {
                add(&mut pending, name);
            } else {
                left += 1;
            }
        }
        drop(pending);
        if left > 0 {
            tracing::warn!(
                objects = left,
                "too many superseded bodies wait for deletion; these are left to those who look for what no entry names"
            );
        }
        self.added.notify_one();
    }

    fn put_back(&self, batch: Vec<ObjectName>, due: Duration) {
        let mut pending = self.pending.lock();
        self.deleting.store(0, Ordering::Release);
        batch.into_iter().for_each(|name| pending.push_front((due, name)));
    }

    /// Deletes what is due until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, bodies: Arc<Bodies>, shutdown: CancellationToken) {
        loop {
            let next_due = self.pending.lock().front().map(|(due, _)| *due);
            let is_due = async {
                match next_due {
                    Some(due) => tokio::time::sleep(due.saturating_sub(self.clock.now().elapsed)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // What was handed in may be due before all others.
                () = self.added.notified() => continue,
                () = is_due => {}
            }
            let now = self.clock.now().elapsed;
            let mut batch = Vec::new();
            {
                let mut pending = self.pending.lock();
                while batch.len() < BATCH
                    && let Some((_, name)) = pending.pop_front_if(|(due, _)| *due <= now)
                {
                    batch.push(name);
                }
                self.deleting.store(batch.len(), Ordering::Release);
            }
            if batch.is_empty() {
                continue;
            }
            match bodies.delete(&batch).await {
                Ok(()) => {
                    self.deleting.store(0, Ordering::Release);
                    tracing::debug!(objects = batch.len(), "superseded bodies deleted");
                }
                Err(error) => {
                    tracing::warn!(%error, objects = batch.len(), "superseded bodies could not be deleted; trying again");
                    self.put_back(batch, now);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                    }
                }
            }
        }
    }
}
